//! The way to the broker: MQTT 5 over TLS 1.3, two connections, nothing that grows without a bound.
//!
//! ```text
//!   daemon (smol) ──► control ──► link ──► rumqttc, a thread of its own ──┐ unix   ┌────────┐  TLS 1.3
//!   driver (blocks) ─► bulk ──► link ──► rumqttc, a thread of its own ────┴─────►  │ tunnel │ ─────────► broker
//!                       └► pull (decides; no I/O, no clock)                        └────────┘
//! ```
//! The broker is not trusted: it can delay or drop, never alter. What arrives here is bytes with a claimed name;
//! who asked for them compares them with their digest or their signature.
//!
//! * [`config`] what has to be known to connect, checked whole
//! * [`topics`] this gateway's topics; the formats of `need` and `data`
//! * [`tunnel`] TLS with a client certificate, and the reason when it fails
//! * [`control`] desired state, commands, reports: the connection that stays
//! * [`bulk`] objects by name: the connection that lives as long as a download
//! * [`https`] the same objects from a web server
//! * [`sources`] both as one, by a policy
//! * `teller` what it waits for, said in the same words by both
//! * [`meter`] what a download may cost: a rate, and bytes in a month

pub mod backoff;
pub mod bulk;
pub mod config;
pub mod control;
pub mod https;
mod link;
pub mod meter;
mod places;
mod pull;
pub mod sources;
mod teller;
pub mod topics;
pub mod tunnel;

pub use bulk::{BulkSource, Stats};
pub use config::BrokerConfig;
pub use control::{ControlLink, Event, Events};
pub use https::source::HttpsSource;
pub use https::{Depot, HttpsConfig};
pub use link::Broker;
pub use meter::Meter;
pub use sources::{Policy, Sources};
pub use teller::BulkStatus;
