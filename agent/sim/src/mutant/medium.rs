//! What stands under the stores: which copy of the record is written, and which syncs are left out.

use super::Mutant;
use crate::agreement;
use crate::disk::{Place, View};
use crate::state;
use crate::world::{Op, Shared};
use mainstay_core::copies::{self, COPY_BYTES_MAX, Copy};
use mainstay_core::seam::{Result, StateFile};

/// A wrong choice of the copy that is written.
pub(super) enum Copies {
    /// As if there was one.
    OnlyTheFirst,
    /// The one in force, once there are two.
    TheNewer,
}

/// As [`SimState`](crate::seams::SimState) does it, but for the choice.
pub(super) fn persist(shared: &Shared, agent: u8, record: &[u8], which: Copies) -> Result<()> {
    const FILE: StateFile = StateFile::Journal;
    let mut payload = record.to_vec();
    payload.first_mut().into_iter().for_each(|format| *format = agent);
    let [zero, one] = shared.with(|world| state::read(&world.disk, FILE, View::Direct));
    let (zero, one) = (Copy::read(FILE, &zero), Copy::read(FILE, &one));
    let pair = copies::choose(zero, one);
    let both = matches!((zero, one), (Copy::Whole { .. }, Copy::Whole { .. }));
    let copy = match which {
        Copies::OnlyTheFirst => 0,
        Copies::TheNewer if both => 1 - pair.next_copy,
        Copies::TheNewer => pair.next_copy,
    };
    let mut bytes = [0; COPY_BYTES_MAX];
    let bytes = &mut bytes[..copies::copy_bytes(FILE)];
    copies::write(FILE, pair.next_seq, &payload, bytes)?;
    let place = Place::State(FILE, copy);
    shared.effect("the record is written", Op::Write(place, 0, bytes))?;
    shared.effect("the record is synced", Op::Sync(place))?;
    shared.with(agreement::confirmed);
    Ok(())
}

impl Mutant {
    /// The effects that it leaves out, by name.
    pub const fn leaves_out(self) -> Option<&'static str> {
        match self {
            Mutant::RecordNotSynced => Some("the record is synced"),
            Mutant::ManifestNotSynced => Some("the manifest is synced"),
            Mutant::FolderNotSynced => Some("the state folder is synced"),
            Mutant::EnvironmentNotSynced => Some("the agent syncs the environment"),
            _ => None,
        }
    }
}
