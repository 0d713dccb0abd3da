//! What a patch promises, claim by claim, through its public interface alone.
//!
//! | file | holds |
//! |---|---|
//! | `common` | a base in memory that counts what is read of it; a writer that cuts operations out of random numbers |
//! | `round_trip` | whatever operations make, their frames make again; state over segments; one frame byte for byte |
//! | `hostile` | frames that lie, that are cut, flipped or random: refused by name, within bounds, or harmless |
//! | `parts` | a segment with a part of each kind, byte for byte; sources that have drifted |
//! | `second_reader`, `read.py` | a reader that was written from SPEC-patch alone agrees; `read_parts.py` reads segments in parts, also for the packer's tests |
//! | `transforms` | instructions and addresses by hand, each as its manual encodes it |

mod common;
mod hostile;
mod parts;
mod round_trip;
mod second_reader;
mod transforms;
