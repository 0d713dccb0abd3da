//! Judges a rebuilt disk by what would happen next: the bootloader reads its environment and chooses, Linux mounts what it
//! finds, the agent recovers. Nothing of the judgement is the bench's own opinion: the choice is made by bootloader-glue's
//! model of our boot scripts, the state is read by the agent's store, the next step is the core's `recover`.
//!
//! | question | asked of | wrong if |
//! |---|---|---|
//! | can the environment be read? | its bytes as the bootloader reads them, no journal replayed | no: lost environment |
//! | what does it boot? | `model::boot` | nothing, or a last resort: unbootable |
//! | was that chosen? | the environment before and after the writes in question | neither chooses it: wrong group |
//! | what is in it, and in whatever else is bootable? | the slots' bytes | neither image, or on trial not the new one: unverified |
//! | does the agent know what it knew? | state folder, after Linux has replayed the journal | unreadable, or behind what was safe or told: lost records |
//! | do the two agree? | the record and the choice | the record says committed and the old group comes up, …: wrong group |
//! | how does it go on? | `recover` | the update would not end in its commit: lost records (one power cut never costs an update) |

pub mod records;
pub mod verdict;

use crate::layout::{Layout, Map};
use crate::mark::Mark;
use crate::medium::{Medium, Rebuilt};
use crate::record::Recording;
use crate::record::desk::FLOORS;
use crate::replay::{Loss, Point, Replay};
use crate::settle::Settler;
use mainstay_bootloader_glue::convention::{Convention, Mainstay, Why};
use mainstay_bootloader_glue::model::{self, Boot};
use mainstay_core::audit::Head;
use mainstay_core::boot::{BootState, Group};
use mainstay_core::update::{Facts, OutcomeKind, Phase, PhaseName, recover};
use mainstay_hil::board::rootfs;
use mainstay_hil::{Doing, Result};
use records::Records;
use verdict::{Class, Verdict};

/// The judge of one recording. Points are shown to it in ascending order.
pub struct Judge<'a> {
    recording: &'a Recording,
    map: Map,
    replay: Replay<'a>,
    settler: Settler,
    marks: Vec<(usize, Mark)>,
    promised: Promised,
    /// The flush whose safe state has been looked at.
    looked: Option<usize>,
}

/// The floor that the image before the update brings.
const IMAGE_FLOOR: u32 = FLOORS[0];

/// What may not be lost any more: it was safe on the medium, or somebody has been told.
#[derive(Clone, Debug, Default)]
struct Promised {
    rank: usize,
    floor: u32,
    audit: Option<Head>,
    told: bool,
}

/// What a group holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    Old,
    New,
    Neither,
}

impl<'a> Judge<'a> {
    /// Before the first entry. `torn_superblocks`: the two sectors of an ext4 superblock may be torn from each other, too.
    pub fn new(recording: &'a Recording, torn_superblocks: bool) -> Result<Judge<'a>> {
        let map = Map::of(recording.layout);
        let joined = if torn_superblocks { Vec::new() } else { map.superblocks() };
        Ok(Judge {
            recording,
            map,
            replay: Replay::new(&recording.log, recording.base.clone(), joined),
            settler: Settler::new()?,
            marks: recording.marks().collect(),
            promised: Promised::default(),
            looked: None,
        })
    }

    /// How often a journal was replayed.
    pub const fn replayed(&self) -> u64 {
        self.settler.replayed
    }

    /// What a power cut at this point leaves. An error is the bench's own; what is wrong with the disk is in the verdict.
    pub fn judge(&mut self, point: Point) -> Result<Verdict> {
        self.replay.advance(point.at);
        self.look_at_what_is_safe()?;
        self.remember_what_was_told(point.at);
        let mut verdict = Verdict::default();
        let records = self.records(point.loss)?;
        let records = records.inspect_err(|why| verdict.fault(Class::LostRecords, why)).ok();
        if let Some(records) = &records {
            self.judge_records(records, &mut verdict);
        }
        let disk = self.replay.rebuilt(point.loss);
        let boot = self.boot(&disk, &mut verdict);
        let Some(booted) = boot.group.filter(|(_, why)| *why != Why::LastResort) else {
            let what = format!("expected a group that is good or on trial, found {:?}", boot.group);
            verdict.fault(Class::Unbootable, what);
            return Ok(verdict);
        };
        self.judge_choice(booted, &mut verdict);
        self.judge_content(&disk, booted, &mut verdict);
        if let Some(records) = &records {
            self.judge_agreement(records, booted, &mut verdict);
            if !verdict.has(Class::LostEnvironment) {
                self.judge_recovery(records, point.loss, &boot, booted.0, &mut verdict)?;
            }
        }
        Ok(verdict)
    }

    /// The disk at a point, whole.
    pub fn disk(&mut self, point: Point) -> Vec<u8> {
        self.replay.advance(point.at);
        let disk = self.replay.rebuilt(point.loss);
        disk.bytes(0, disk.size() as usize)
    }

    const fn target(&self) -> Group {
        self.recording.layout.target()
    }

    /// What had been flushed is safe: nothing that comes later, kept or lost, may stand behind it.
    fn look_at_what_is_safe(&mut self) -> Result<()> {
        if self.looked.replace(self.replay.flushed()) == Some(self.replay.flushed()) {
            return Ok(());
        }
        // Where it cannot be read, that is the fault of the point that loses all: it is found there.
        if let Ok(safe) = self.records(Loss::All)? {
            let rank = safe.rank(self.target());
            let promised = &mut self.promised;
            promised.rank = promised.rank.max(rank);
            promised.floor = promised.floor.max(safe.record.floor);
            promised.audit = later(promised.audit, safe.head().copied());
        }
        Ok(())
    }

    fn remember_what_was_told(&mut self, at: usize) {
        let until = self.marks.partition_point(|(before, _)| *before < at);
        for (_, mark) in self.marks.drain(..until) {
            match mark {
                Mark::Heard { phase, floor, audit } => {
                    let promised = &mut self.promised;
                    promised.rank = promised.rank.max(phase as usize);
                    promised.floor = promised.floor.max(floor);
                    promised.audit = later(promised.audit, Some(audit));
                }
                Mark::Ended(kind) => self.promised.told |= kind == OutcomeKind::Committed,
                Mark::Boots(..) => {}
            }
        }
    }

    fn boot(&self, disk: &Rebuilt<'_>, verdict: &mut Verdict) -> Boot {
        let format = self.recording.layout.format();
        let copies = self.map.copies(disk).unwrap_or_else(|why| {
            verdict.fault(Class::LostEnvironment, why);
            vec![vec![0; format.copy_bytes()]; format.copies()]
        });
        if !verdict.has(Class::LostEnvironment)
            && let Err(why) = format.parse(&copies).and_then(|env| Mainstay.state(env.vars()))
        {
            verdict.fault(Class::LostEnvironment, why);
        }
        // Whether a kernel can be loaded out of a half-written slot is luck; the judge takes it that it can.
        let boot = model::boot(&format, &Mainstay, &copies, |_| true);
        boot.unwrap_or(Boot { group: None, writes: Vec::new() })
    }

    fn records(&mut self, loss: Loss) -> Result<Result<Records>> {
        let disk = self.replay.rebuilt(loss);
        let data = self.map.part(&disk, "data");
        let folder = self.settler.fresh_folder()?;
        let settled = self.settler.settle(&self.replay, &disk, &data, &[]);
        let device = self.recording.device();
        Ok(settled.and_then(|bytes| Records::read(&bytes, &folder, &device)))
    }

    fn judge_records(&self, records: &Records, verdict: &mut Verdict) {
        let Promised { rank, floor, audit, told } = &self.promised;
        let (found, phase) = (records.rank(self.target()), records.record.phase.name());
        if found < *rank {
            verdict.fault(
                Class::LostRecords,
                format!("expected phase {rank} or a later one, found {found} ({phase:?})"),
            );
        }
        // A gateway that has no record yet has its image's floor.
        let found = records.record.floor.max(IMAGE_FLOOR);
        if found < *floor {
            verdict.fault(
                Class::LostRecords,
                format!("expected the floor {floor} or a higher one, found {found}"),
            );
        }
        if let Some(audit) = audit.filter(|audit| audit.seq > 0)
            && !records.heads.contains(&audit)
        {
            let found = records.head().map_or(0, |head| head.seq);
            let what =
                format!("expected an audit log that comes past record {}, found one of {found}", audit.seq);
            verdict.fault(Class::LostRecords, what);
        }
        if *told && !records.committed(self.target()) {
            let what = format!("expected to know the commit that the operator was told of, found {phase:?}");
            verdict.fault(Class::LostRecords, what);
        }
    }

    /// The environment's writes are the only thing that may choose: what neither the one from before nor the one after all of
    /// them would boot, nobody has chosen.
    fn judge_choice(&self, found: (Group, Why), verdict: &mut Verdict) {
        let choice = |loss| self.boot(&self.replay.rebuilt(loss), &mut Verdict::default()).group;
        let (before, after) = (choice(Loss::All), choice(Loss::InOrder));
        if ![before, after].contains(&Some(found)) {
            verdict.fault(
                Class::WrongGroup,
                format!("expected what was chosen before ({before:?}) or after ({after:?}), found {found:?}"),
            );
        }
    }

    fn judge_content(&self, disk: &Rebuilt<'_>, (booted, why): (Group, Why), verdict: &mut Verdict) {
        let format = self.recording.layout.format();
        let state = self.map.copies(disk).and_then(|copies| state_of(&format, &copies));
        for group in Group::BOTH {
            let bootable = state.as_ref().is_ok_and(|state| state.group(group).bootable());
            if !bootable && group != booted {
                continue;
            }
            let content = self.content(disk, group);
            let expected = if group == self.target() { Content::New } else { Content::Old };
            if content != expected {
                let how = if group == booted { why.name() } else { "bootable" };
                let what =
                    format!("group {group} ({how}): expected the {expected:?} image, found {content:?}");
                verdict.fault(Class::Unverified, what);
            }
        }
    }

    fn content(&self, disk: &Rebuilt<'_>, group: Group) -> Content {
        let [old, new] = &self.recording.images;
        let found = self.map.part(disk, rootfs(group)).bytes(0, old.len().max(new.len()));
        match () {
            () if found.starts_with(new) => Content::New,
            () if found.starts_with(old) => Content::Old,
            () => Content::Neither,
        }
    }

    fn judge_agreement(&self, records: &Records, (group, why): (Group, Why), verdict: &mut Verdict) {
        use PhaseName::*;
        let (phase, on_target) = (records.record.phase.name(), group == self.target());
        let agree = match phase {
            _ if records.committed(self.target()) => on_target && why == Why::Good,
            Idle | Waiting | Downloading | Verifying | Installed => !on_target && why == Why::Good,
            // Armed after the record, so either; marked good only after the verdict is on record.
            Trial => on_target == (why == Why::Trial),
            Committing => on_target,
            RollingBack | Settled => false,
        };
        if !agree {
            verdict.fault(
                Class::WrongGroup,
                format!("the record says {phase:?}, but {group} is booted ({})", why.name()),
            );
        }
    }

    /// The boot script saves, the kernel starts and mounts, the agent looks.
    fn judge_recovery(
        &mut self,
        records: &Records,
        loss: Loss,
        boot: &Boot,
        running: Group,
        verdict: &mut Verdict,
    ) -> Result<()> {
        let layout = self.recording.layout;
        let disk = self.replay.rebuilt(loss);
        let mut saved = Vec::new();
        for write in &boot.writes {
            saved.extend(self.map.sectors_of(&disk, write)?);
        }
        let env = self.settler.settle(&self.replay, &disk, &self.map.part(&disk, "env"), &saved);
        let format = layout.format();
        let state =
            env.and_then(|env| self.map.copies_in(&*env)).and_then(|copies| state_of(&format, &copies));
        let state = match state {
            Ok(state) => state,
            Err(why) => {
                verdict.fault(Class::LostEnvironment, format!("after Linux has mounted it: {why}"));
                return Ok(());
            }
        };
        let facts = Facts { running, boot: Some(state), first: true, lost: false };
        let step = recover(&records.record, facts);
        let phase = step.record.as_ref().map_or(&records.record.phase, |record| &record.phase);
        let given_up = match phase {
            Phase::RollingBack(_, outcome) => Some(outcome),
            Phase::Settled(_, outcome) if outcome.kind != OutcomeKind::Committed => Some(outcome),
            _ => None,
        };
        if let Some(outcome) = given_up {
            let what = format!("the update would end: {:?}, {}", outcome.kind, outcome.detail);
            verdict.fault(Class::LostRecords, what);
        }
        Ok(())
    }
}

impl Recording {
    /// The gateway's name, which its audit log begins with.
    pub fn device(&self) -> String {
        format!("gw-{}", self.layout.name())
    }
}

fn state_of(format: &mainstay_bootloader_glue::Format, copies: &[Vec<u8>]) -> Result<BootState> {
    let state = format.parse(copies).and_then(|env| Mainstay.state(env.vars()));
    state.doing(|| "the environment")
}

fn later(one: Option<Head>, other: Option<Head>) -> Option<Head> {
    match (one, other) {
        (Some(one), Some(other)) => Some(if other.seq > one.seq { other } else { one }),
        (one, other) => one.or(other),
    }
}

/// Which layouts lose their environment when a write of it is torn, and may: there is one copy, and it is longer than a
/// sector. What follows from that is shown, and is no failure of the run.
pub const fn may_lose_its_environment(layout: Layout) -> bool {
    !layout.format().survives_a_power_cut()
}
