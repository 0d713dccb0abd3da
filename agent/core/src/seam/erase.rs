//! What a gateway gives up: its data with a factory reset, its key as well when it goes out of service.

use super::Result;

/// Erases. Each is idempotent, and when it returns what it erased does not come back after a power cut; after a cut in
/// the middle it is begun again.
pub trait Erase {
    /// Erases the data that the integrator named. Never the agent's own state, nor a slot.
    fn erase(&mut self) -> Result<()>;
    /// Destroys the client key and its certificate. Where the operator can still be told, that is done before: it is the
    /// last thing that this gateway can say of itself.
    fn destroy_key(&mut self) -> Result<()>;
}
