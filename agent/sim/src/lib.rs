//! A gateway in a box: a disk that forgets, power that fails, a bootloader that counts, and around it an operator, a
//! broker and a person at the console. In it runs the product's own driver.
//!
//! ```text
//! outside   operator, broker, person                 (outside.rs, bundle.rs)
//! agent     Driver, machines, installer              mainstay-core, as it ships
//! seams     boot control, slots, state, trial …      (seams.rs; mutant/ bends them)
//! world     media behind a write cache, bootloader   (world.rs, disk.rs, state.rs; codecs and model of bootloader-glue)
//! power     counts effects, and cuts                 (power.rs)
//! ```
//! A life is a story (what is published, what images do) under a schedule (what goes wrong at which effect;
//! schedule.rs). After every effect the invariants are checked against the media (invariant.rs, agreement.rs). A sweep lives a story
//! under every schedule of a class (sweep.rs, explore.rs).

pub mod agreement;
pub mod bundle;
pub mod disk;
pub mod explore;
pub mod image;
pub mod invariant;
pub mod life;
mod machine;
pub mod made;
pub mod mutant;
pub mod odd_stories;
pub mod outside;
pub mod power;
pub mod schedule;
pub mod seams;
pub mod state;
pub mod stories;
pub mod swarm;
pub mod sweep;
pub mod world;
