//! What the reader of bundles and trust promises, claim by claim, through its public interface alone.
//!
//! | file | holds |
//! |---|---|
//! | `envelope` | the grammar, every cut, every flipped bit; what a signature is worth |
//! | `rotation` | trust roots: what a device may go by, thresholds, the chain of versions |

mod common;
mod envelope;
mod rotation;
