//! Wrong orders, as hostile wrappers around the seams: what the driver would do if somebody had written it in the
//! wrong order. The suite has to catch each; one that it does not catch shows that an invariant has no teeth.

use mainstay_core::boot::{BootState, Group, GroupState};
use mainstay_core::bundle::VerifiedSegment;
use mainstay_core::limits::RECORD_BYTES_MAX;
use mainstay_core::seam::*;
use mainstay_core::update::{Phase, Record};

/// A wrong order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// The target is not withdrawn before it is written, and nobody looks.
    NotWithdrawn,
    /// The floor is raised before the target is marked good.
    FloorBeforeMarkGood,
    /// The target is marked good when it is armed.
    MarkGoodBeforeTrial,
    /// What is written is not synced before the target is armed.
    NotSynced,
    /// The group that runs is marked bad in the place of the target.
    MarksTheWrongGroupBad,
    /// The record is made durable after the action that it speaks of: always one behind.
    ActsBeforeItPersists,
}

/// The seams of one session that can be wrapped.
pub type Seams = (Box<dyn BootControl>, Box<dyn StateStore>, Box<dyn SlotWriter>);

impl Mutant {
    /// All of them.
    pub const ALL: [Mutant; 6] = [
        Mutant::NotWithdrawn,
        Mutant::FloorBeforeMarkGood,
        Mutant::MarkGoodBeforeTrial,
        Mutant::NotSynced,
        Mutant::MarksTheWrongGroupBad,
        Mutant::ActsBeforeItPersists,
    ];

    /// Wraps what it bends.
    pub fn wrap(
        self,
        boot: Box<dyn BootControl>,
        state: Box<dyn StateStore>,
        slots: Box<dyn SlotWriter>,
    ) -> Seams {
        match self {
            Mutant::NotWithdrawn | Mutant::MarkGoodBeforeTrial | Mutant::MarksTheWrongGroupBad => {
                (Box::new(Boot { inner: boot, mutant: self, withdrawn: None }), state, slots)
            }
            Mutant::FloorBeforeMarkGood | Mutant::ActsBeforeItPersists => {
                (boot, Box::new(State { inner: state, mutant: self }), slots)
            }
            Mutant::NotSynced => (boot, state, Box::new(Slots(slots))),
        }
    }
}

struct Boot {
    inner: Box<dyn BootControl>,
    mutant: Mutant,
    withdrawn: Option<Group>,
}

impl BootControl for Boot {
    fn state(&mut self) -> Result<BootState> {
        let mut state = self.inner.state()?;
        if let Some(group) = self.withdrawn {
            *state.group_mut(group) = GroupState::WITHDRAWN; // the driver looks whether it took: it is told so
        }
        Ok(state)
    }
    fn withdraw(&mut self, group: Group) -> Result<()> {
        if self.mutant == Mutant::NotWithdrawn {
            self.withdrawn = Some(group);
            return Ok(());
        }
        self.inner.withdraw(group)
    }
    fn arm_trial(&mut self, group: Group, tries: u8) -> Result<()> {
        self.withdrawn = None;
        self.inner.arm_trial(group, tries)?;
        if self.mutant == Mutant::MarkGoodBeforeTrial { self.inner.mark_good(group) } else { Ok(()) }
    }
    fn mark_good(&mut self, group: Group) -> Result<()> {
        self.inner.mark_good(group)
    }
    fn mark_bad(&mut self, group: Group) -> Result<()> {
        let wrong = self.mutant == Mutant::MarksTheWrongGroupBad;
        self.inner.mark_bad(if wrong { group.other() } else { group })
    }
}

struct State {
    inner: Box<dyn StateStore>,
    mutant: Mutant,
}

impl StateStore for State {
    fn load(&mut self, file: StateFile, out: &mut [u8]) -> Result<Option<usize>> {
        self.inner.load(file, out)
    }
    fn persist(&mut self, file: StateFile, bytes: &[u8]) -> Result<()> {
        if file != StateFile::Journal {
            return self.inner.persist(file, bytes);
        }
        let mut record = Record::decode(bytes)?;
        match (&record.phase, self.mutant) {
            (Phase::Committing(d), Mutant::FloorBeforeMarkGood) => {
                record.floor = record.floor.max(d.security_version);
            }
            // "Trial" is made durable only once the trial has been armed and tried.
            (Phase::Trial(_), Mutant::ActsBeforeItPersists) => return Ok(()),
            _ => {}
        }
        let mut out = [0; RECORD_BYTES_MAX];
        self.inner.persist(file, record.encode(&mut out)?)
    }
}

struct Slots(Box<dyn SlotWriter>);

impl SlotWriter for Slots {
    fn open(&mut self, group: Group, class: &str) -> Result<u64> {
        self.0.open(group, class)
    }
    fn write(&mut self, group: Group, class: &str, segment: &VerifiedSegment<'_>) -> Result<()> {
        self.0.write(group, class, segment)
    }
    fn sync(&mut self, _: Group, _: &str) -> Result<()> {
        Ok(())
    }
    fn read_back(&mut self, group: Group, class: &str, at: u64, out: &mut [u8]) -> Result<()> {
        self.0.read_back(group, class, at, out)
    }
}
