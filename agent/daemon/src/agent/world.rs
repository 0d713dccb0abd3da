//! The world as this gateway has it: every seam of the driver, made of the board, the state folder and the broker.

use super::{AgentGate, AgentObserver, AgentSource, Interlock, Shared};
use crate::erase::Belongings;
use crate::health::{Feeder, HealthTrial, Heartbeat};
use crate::inflate::Zstd;
use crate::store::FolderStore;
use crate::transport::Broker;
use mainstay_board_support::{BoardPower, BoardSlots};
use mainstay_core::boot::Group;
use mainstay_core::bundle::VerifiedSegment;
use mainstay_core::bundle::patch::PatchState;
use mainstay_core::bundle::recode::Tables;
use mainstay_core::limits::INDEX_SEGMENTS_MAX;
use mainstay_core::seam::*;
use mainstay_core::trust::TrustRoot;
use mainstay_core::update::*;
use std::sync::Arc;
use zerocopy::FromZeros;

/// The world, as this gateway has it.
pub struct World {
    pub(super) boot: Box<dyn BootControl + Send>,
    pub(super) slots: Living,
    pub(super) store: FolderStore,
    /// When.
    pub gate: AgentGate,
    pub(super) trial: Resting,
    pub(super) power: Farewell,
    /// Who wants to know.
    pub observer: AgentObserver,
    /// Where objects come from.
    pub source: AgentSource,
    pub(super) erase: Parting,
    pub(super) inflate: Zstd,
    pub(super) workspace: Box<[u8; WORKSPACE_BYTES]>,
    pub(super) memory: Lent,
    pub(super) trust: TrustRoot,
}

/// What the world has that is made before the agent.
pub struct Outside {
    pub(super) trial: HealthTrial,
    pub(super) feeder: Feeder,
    pub(super) interlock: Option<Interlock>,
    pub(super) broker: Option<Broker>,
}

impl World {
    /// What is made before the agent.
    pub fn outside(
        trial: HealthTrial,
        feeder: Feeder,
        interlock: Option<Interlock>,
        broker: Option<Broker>,
    ) -> Outside {
        Outside { trial, feeder, interlock, broker }
    }

    pub(super) fn parts(&mut self) -> Parts<'_> {
        Parts {
            boot: &mut *self.boot,
            slots: &mut self.slots,
            state: &mut self.store,
            gate: &mut self.gate,
            trial: &mut self.trial,
            power: &mut self.power,
            observer: &mut self.observer,
            source: &mut self.source,
            erase: &mut self.erase,
            inflate: &mut self.inflate,
            trust: &self.trust,
            workspace: &mut self.workspace,
            memory: &mut self.memory,
        }
    }

    /// What an update held that has come to its end, or to its trial, is let go: connections, files, and the pages that
    /// were touched. `over`: the slots as well, with their locks.
    pub(super) fn let_go(&mut self, over: bool) {
        self.source.close();
        match over {
            true => self.slots.slots.close(),
            false => self.slots.slots.rest(),
        }
        self.workspace = workspace();
        self.memory = Lent::default();
    }
}

/// Zeroed pages that cost no memory until they are touched.
#[expect(
    clippy::unreachable,
    reason = "the length is the same constant on both sides, and there is no other way round the stack"
)]
pub(super) fn workspace() -> Box<[u8; WORKSPACE_BYTES]> {
    match vec![0; WORKSPACE_BYTES].into_boxed_slice().try_into() {
        Ok(workspace) => workspace,
        Err(_) => unreachable!("a slice of WORKSPACE_BYTES is an array of WORKSPACE_BYTES"),
    }
}

/// Memory that a route needs, from when it first asks for it until the update is over.
#[derive(Default)]
pub struct Lent {
    patch: Option<Box<PatchState>>,
    tables: Option<Box<Tables>>,
    index: Vec<Entry>,
}

/// Zeroed where it stands: made on the stack and moved, it would be resident twice.
fn zeroed<T: FromZeros>() -> Box<T> {
    T::new_box_zeroed().unwrap_or_else(|_| std::alloc::handle_alloc_error(std::alloc::Layout::new::<T>()))
}

fn state() -> Box<PatchState> {
    let mut state: Box<PatchState> = zeroed();
    state.reset();
    state
}

impl Memory for Lent {
    fn patch(&mut self) -> &mut PatchState {
        self.patch.get_or_insert_with(state)
    }
    fn recode(&mut self) -> (&mut PatchState, &mut Tables) {
        let Lent { patch, tables, .. } = self;
        (patch.get_or_insert_with(state), tables.get_or_insert_with(zeroed))
    }
    fn index(&mut self) -> &mut [Entry] {
        if self.index.is_empty() {
            self.index = vec![Entry::default(); 2 * INDEX_SEGMENTS_MAX];
        }
        &mut self.index
    }
}

/// A trial may take a day, and has a heart of its own: the agent's rests meanwhile.
pub(super) struct Resting {
    pub trial: HealthTrial,
    pub heart: Arc<Heartbeat>,
    pub shared: Arc<Shared>,
}

impl TrialRunner for Resting {
    fn run(&mut self, deployment: &Deployment) -> Result<Verdict> {
        self.heart.rest();
        self.shared.trial_is_on(true);
        let verdict = self.trial.run(deployment);
        self.shared.trial_is_on(false);
        self.heart.beat();
        verdict
    }
}

/// Tells the broker before the machine goes down, so that nobody takes a reboot for a gateway that died.
pub(super) struct Farewell {
    pub power: BoardPower,
    pub shared: Arc<Shared>,
}

impl Power for Farewell {
    fn reboot(&mut self, why: &str) -> Result<()> {
        self.shared.goes_down();
        self.power.reboot(why).inspect_err(|_| self.shared.stays_up())
    }
}

/// Erases what the gateway gives up, which may take as long as it likes; and has the operator told before the key goes
/// with which it could be told.
pub(super) struct Parting {
    pub belongings: Belongings,
    pub heart: Arc<Heartbeat>,
    pub shared: Arc<Shared>,
}

impl Erase for Parting {
    fn erase(&mut self) -> Result<()> {
        self.heart.rest();
        let erased = self.belongings.erase();
        self.heart.beat();
        erased
    }
    fn destroy_key(&mut self) -> Result<()> {
        self.shared.leaves_for_good();
        self.belongings.destroy_key()
    }
}

/// The slots, with a sign of life at each access: reading 16 GiB back from a slow card takes longer than a thread that
/// does one thing is believed to be alive.
pub(super) struct Living {
    pub slots: BoardSlots,
    pub heart: Arc<Heartbeat>,
}

impl SlotWriter for Living {
    fn open(&mut self, group: Group, class: &str) -> Result<u64> {
        self.heart.beat();
        self.slots.open(group, class)
    }
    fn write(&mut self, group: Group, class: &str, segment: &VerifiedSegment<'_>) -> Result<()> {
        self.heart.beat();
        self.slots.write(group, class, segment)
    }
    fn sync(&mut self, group: Group, class: &str) -> Result<()> {
        self.heart.beat();
        self.slots.sync(group, class)
    }
    fn read_back(&mut self, group: Group, class: &str, at: u64, out: &mut [u8]) -> Result<()> {
        self.heart.beat();
        self.slots.read_back(group, class, at, out)
    }
    fn scan(
        &mut self,
        group: Group,
        class: &str,
        range: std::ops::Range<u64>,
        buffers: [&mut [u8]; 2],
        each: &mut dyn FnMut(&[u8]),
    ) -> Result<()> {
        let heart = self.heart.clone();
        self.slots.scan(group, class, range, buffers, &mut |part| {
            heart.beat();
            each(part);
        })
    }
}
