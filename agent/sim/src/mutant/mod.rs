//! Wrong orders, lies and left-out steps, as wrappers around the driver's seams and in the agent's loop: what the agent
//! would do if somebody had written it wrongly. The suite has to catch each; one that it does not catch shows that an
//! invariant or a story is missing.
//!
//! One file for each seam that is bent; `table.rs` says of each what it does, in which story that shows, and which check
//! has to see it. A mutant may remember what a wrong agent would: [`Session`] is its memory, [`Memory`] what it keeps
//! over a boot.

mod agent;
mod boot;
mod hunt;
mod medium;
mod observer;
mod slots;
mod source;
mod state;
mod table;
mod trial;

pub use hunt::{Caught, hunt, without};
pub use table::{Row, TABLE, Tale, Under};

use crate::world::Shared;
use mainstay_core::boot::{BootState, Group};
use mainstay_core::seam::*;
use std::cell::{RefCell, RefMut};
use std::rc::Rc;

/// A wrong order, a lie, or a step that is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // each is told in the table
pub enum Mutant {
    // BootControl
    NotWithdrawn,
    WithdrawsTheWrongGroup,
    MarkGoodBeforeTrial,
    ArmsTheRunningGroup,
    ArmsWithMoreTries,
    MarkGoodForgotten,
    MarksTheWrongGroupGood,
    CommitsBehindTheOther,
    BootsNotConfirmed,
    MarksTheWrongGroupBad,
    MarkBadForgotten,
    LateFallbackNotPrevented,
    AnswersFromMemory,
    NoLookForAWayUp,
    // StateStore
    FloorBeforeMarkGood,
    FloorAtInstall,
    FloorForgotten,
    FloorLowered,
    ActsBeforeItPersists,
    ArmsBeforeTheRecord,
    CommittedBeforeMarkGood,
    InstalledBeforeReadBack,
    OutcomeForgotten,
    OutcomeBeforeItIsSettled,
    FailedForgotten,
    RebootsNotCounted,
    TimeForgotten,
    AttemptsForgotten,
    TargetNotForgotten,
    OneCopyOnly,
    NewerCopyOverwritten,
    ManifestNotWritten,
    LostRecordTakenForNone,
    // what stands under the stores
    RecordNotSynced,
    ManifestNotSynced,
    FolderNotSynced,
    EnvironmentNotSynced,
    // SlotWriter
    NotSynced,
    OneSlotNotSynced,
    SyncedAfterTheRecord,
    WritesTheRunningGroup,
    ReadBackFromMemory,
    // TrialRunner
    TrialSkipped,
    VerdictOfAnEarlierBoot,
    RequiredCountsAsWanted,
    WantedCountsAsRequired,
    FaultCountsAsHealthy,
    // Gate, Power, Observer
    HaltUnheard,
    LeaveNotWaitedFor,
    NeverReboots,
    ReportsAtTrialStart,
    ReportsAtVerdict,
    // PieceSource, Inflate
    LinkDownIsNotFound,
    NeverAsksAgain,
    InflatesShort,
    // the agent's loop
    AcknowledgesEarly,
    NotReported,
    FailedIsTriedAgain,
    FloorNotAskedFor,
}

/// The seams of one session, for the time of one call.
pub struct Seams<'a> {
    /// The bootloader's variables.
    pub boot: Box<dyn BootControl + 'a>,
    /// The durable state.
    pub state: Box<dyn StateStore + 'a>,
    /// The slots.
    pub slots: Box<dyn SlotWriter + 'a>,
    /// When.
    pub gate: Box<dyn Gate + 'a>,
    /// The health checks.
    pub trial: Box<dyn TrialRunner + 'a>,
    /// The reset line.
    pub power: Box<dyn Power + 'a>,
    /// Who wants to know.
    pub observer: Box<dyn Observer + 'a>,
    /// Where pieces come from.
    pub source: Box<dyn PieceSource + 'a>,
    /// Decompression.
    pub inflate: Box<dyn Inflate + 'a>,
}

/// A mutant at work in one life. Clones share what it remembers.
#[derive(Clone)]
pub struct Bent {
    mutant: Mutant,
    memory: Rc<RefCell<Memory>>,
}

/// What it remembers over a boot.
#[derive(Default)]
struct Memory {
    session: Session,
    before_arming: Option<BootState>,
    passed: Option<u32>,
}

/// What it remembers as long as its process lives.
#[derive(Default)]
struct Session {
    withdrawn: Option<Group>,
    unsynced: Vec<(Group, String)>,
    written: Vec<(Group, String, u64, Vec<u8>)>,
}

impl Bent {
    /// At work.
    pub fn new(mutant: Mutant) -> Self {
        Bent { mutant, memory: Rc::default() }
    }

    /// A new process: what stood in memory is gone.
    pub fn session_begins(&self) {
        self.memory().session = Session::default();
    }

    /// Is it this one?
    pub fn is(&self, mutant: Mutant) -> bool {
        self.mutant == mutant
    }

    /// Wraps every seam; those that it does not bend pass everything through.
    pub fn wrap<'a>(&self, seams: Seams<'a>, shared: &Shared, agent: u8) -> Seams<'a> {
        let Seams { boot, state, slots, gate, trial, power, observer, source, inflate } = seams;
        let (bent, shared) = (|| self.clone(), || shared.clone());
        Seams {
            boot: Box::new(boot::Boot { inner: boot, bent: bent(), shared: shared() }),
            state: Box::new(state::State { inner: state, bent: bent(), shared: shared(), agent }),
            slots: Box::new(slots::Slots { inner: slots, bent: bent() }),
            gate: Box::new(agent::Leave { inner: gate, bent: bent() }),
            trial: Box::new(trial::Trial { inner: trial, bent: bent(), shared: shared() }),
            power: Box::new(agent::Reset { inner: power, bent: bent() }),
            observer: Box::new(observer::Ear { inner: observer, bent: bent(), shared: shared() }),
            source: Box::new(source::Source { inner: source, bent: bent() }),
            inflate: Box::new(source::Frames { inner: inflate, bent: bent() }),
        }
    }

    fn memory(&self) -> RefMut<'_, Memory> {
        self.memory.borrow_mut()
    }
}
