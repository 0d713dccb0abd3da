//! The operator's side of Mainstay: keys, trust roots, bundles, and what is said to a fleet over its broker.
//!
//! The decisions (what a valid bundle is, who may sign what, what a desired state means) are `mainstay-core`'s; this
//! crate brings files, a terminal and an MQTT connection to them. The binary `mainstayctl` is [`cli`] and nothing
//! more; tests and the demo call the modules below it directly.
//!
//! | module | does |
//! |---|---|
//! | [`keys`] | ed25519 key files: made, protected by a passphrase, read back |
//! | [`trust`] | trust roots: made, rotated, signed by several people one after the other |
//! | [`delta`] | the smallest way to make each segment of an image, given an older one |
//! | [`bundle`] | bundle files: packed on all cores, signed, verified to the last byte, looked into |
//! | [`zstd`] | a segment as a zstd frame, with the one before as its prefix or without |
//! | [`hints`] | what an image costs its integrator, in bytes, and what to do about it |
//! | [`layout`] | which bytes of an image belong to which file, for a delta that holds files against their old selves |
//! | [`broker`] | one MQTT 5 connection that waits for what it said to be taken |
//! | [`publish`] | a bundle and a desired state onto a broker, in an order that no gateway can trip over |
//! | [`export`] | a bundle as a folder of static files, for a web server |
//! | [`serve`] | objects for gateways whose broker does not hold them |
//! | [`rollout`] | the desired state on a broker: read, held against the trust root, replaced |
//! | [`watch`] | what the gateways of a fleet say of themselves |

pub mod broker;
pub mod bundle;
pub mod cli;
pub mod delta;
pub mod export;
pub mod fail;
pub mod files;
pub mod hints;
pub mod keys;
pub mod layout;
pub mod meter;
pub mod publish;
pub mod rollout;
pub mod serve;
pub mod trust;
pub mod values;
pub mod watch;
pub mod zstd;

pub use fail::{Failure, Result};
