//! Who may say what: keys, roles and thresholds; and the envelope in which everything signed travels.

mod envelope;
mod root;

pub use envelope::{Envelope, KeyId, MessageKind};
pub use root::{Proven, Role, RoleMembers, TrustRoot};

#[cfg(any(test, feature = "author"))]
pub use envelope::{assemble, seal};
