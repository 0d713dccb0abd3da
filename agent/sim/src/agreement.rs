//! What record, bootloader and slots must say of each other, and what the record may not unsay. The same kind of checks
//! as in `invariant.rs`, which calls them: those look at one medium at a time, these hold one against another.

use crate::invariant::record;
use crate::power::{Figure, Violation};
use crate::state;
use crate::world::World;
use mainstay_core::boot::Group;
use mainstay_core::digest::Digest;
use mainstay_core::policy::LateFallback;
use mainstay_core::seam::StateFile;
use mainstay_core::update::{Deployment, OutcomeKind, Phase, Record};
use std::collections::BTreeSet;

/// What they remember.
#[derive(Clone, Debug, Default)]
pub struct Agreement {
    /// The policy of the gateway.
    pub late_fallback: LateFallback,
    /// The attempt that the gate has given leave to reboot for.
    pub leave: Option<u32>,
    failed: BTreeSet<Digest>,
    attempts: u32,
    time_floor: u64,
    seen: Option<[u32; 5]>,
    /// What was asked last and may not be.
    pub asked: Option<Violation>,
}

impl Agreement {
    /// What of it decides how a life goes on.
    pub fn state(&self) -> impl std::fmt::Debug + '_ {
        (self.leave, &self.failed, self.attempts, self.time_floor)
    }
}

/// All of them. `on_record`: what stands on the medium for certain.
pub fn all(world: &mut World, on_record: &Record) -> Result<(), Violation> {
    let [env, a, b] = world.boot_version();
    let versions = [StateFile::Journal, StateFile::Manifest].map(|file| world.disk.state_version(file));
    let seen = Some([env, a, b, versions[0], versions[1]]);
    if world.watch.agreement.seen == seen || world.watch.rotten {
        return Ok(());
    }
    world.watch.agreement.seen = seen;
    invariant_the_record_never_goes_back(world, on_record)?;
    invariant_a_commit_raises_the_floor(on_record)?;
    invariant_an_outcome_is_on_record_when_it_is_settled(world, on_record)?;
    invariant_the_manifest_that_the_record_speaks_of_is_there(world, on_record)?;
    invariant_the_record_says_of_a_group_only_what_it_holds(world, on_record)?;
    invariant_what_was_given_up_is_not_bootable(world, on_record)?;
    invariant_no_late_fallback_where_it_is_prevented(world, on_record)
}

/// Somebody asks that a group is armed, so many tries: may it be? What is asked on a medium that takes no write any more
/// changes nothing, so who breaks this is called to account when the environment changes by it.
pub fn may_be_armed(world: &World, group: Group, tries: u8) -> Result<(), Violation> {
    if world.watch.rotten {
        return Ok(());
    }
    let refused = |figure, what: String| Err(Violation::new(figure, what));
    let on_record = record(world).ok().flatten();
    // A rollback that stands on the medium though its write was said to have failed is a trial to the agent still.
    let Some(Record { phase: Phase::Trial(d) | Phase::RollingBack(d, _), .. }) = &on_record else {
        let phase = on_record.map(|record| record.phase.name());
        return refused(
            Figure::WrongGroup,
            format!("only what is on record is armed: {group}, and it is {phase:?}"),
        );
    };
    if d.target != group || tries > d.tries {
        let what = format!(
            "only what is on record is armed: {group} {tries} times, expected {} {} times",
            d.target, d.tries
        );
        return refused(Figure::WrongGroup, what);
    }
    if world.watch.agreement.leave != Some(d.attempt) {
        let what = "nothing is armed without leave: the gate has not given any".into();
        return refused(Figure::WrongGroup, what);
    }
    if world.watch.agreement.failed.contains(&d.manifest) {
        let what = format!("a bundle whose trial failed is not tried again: {}", d.version);
        return refused(Figure::Stuck, what);
    }
    Ok(())
}

/// What a write that succeeded has put there stays. (One that is said to have failed may be undone: its step has not been
/// taken.)
fn invariant_the_record_never_goes_back(world: &mut World, on_record: &Record) -> Result<(), Violation> {
    let Agreement { attempts, time_floor, failed, .. } = &mut world.watch.agreement;
    if on_record.attempts < *attempts || on_record.time_floor < *time_floor {
        let what = format!(
            "the record never goes back: from attempt {attempts} at {time_floor} to {} at {}",
            on_record.attempts, on_record.time_floor
        );
        return Err(Violation::new(Figure::LostOutcome, what));
    }
    match &on_record.phase {
        Phase::Settled(d, outcome)
            if matches!(outcome.kind, OutcomeKind::RolledBack | OutcomeKind::FellBack) =>
        {
            failed.insert(d.manifest);
        }
        Phase::Settled(d, outcome) if outcome.kind == OutcomeKind::Committed => {
            failed.remove(&d.manifest);
        }
        _ => {}
    }
    Ok(())
}

/// A write of the record has succeeded: what stands on the medium now may not be undone.
pub fn confirmed(world: &mut World) {
    if let Ok(Some(on_record)) = record(world) {
        let Agreement { attempts, time_floor, .. } = &mut world.watch.agreement;
        *attempts = on_record.attempts.max(*attempts);
        *time_floor = on_record.time_floor.max(*time_floor);
    }
}

fn invariant_a_commit_raises_the_floor(on_record: &Record) -> Result<(), Violation> {
    match &on_record.phase {
        Phase::Settled(d, outcome)
            if outcome.kind == OutcomeKind::Committed && on_record.floor < d.security_version =>
        {
            let what =
                format!("a commit raises the floor: to {}, found {}", d.security_version, on_record.floor);
            Err(Violation::new(Figure::FloorFell, what))
        }
        _ => Ok(()),
    }
}

/// Not before, and from then on until the operator has it.
fn invariant_an_outcome_is_on_record_when_it_is_settled(
    world: &World,
    on_record: &Record,
) -> Result<(), Violation> {
    let Some(d) = on_record.phase.deployment() else { return Ok(()) };
    let queued = on_record.unreported.iter().any(|report| report.attempt == d.attempt);
    let received = world.outside.reports.iter().any(|report| report.attempt == d.attempt);
    let settled = matches!(on_record.phase, Phase::Settled(..));
    if if settled { queued || received } else { !queued } {
        return Ok(());
    }
    let what = format!(
        "an outcome is on record when it is settled: attempt {} is {:?}, queued: {queued}, received: {received}",
        d.attempt,
        on_record.phase.name()
    );
    Err(Violation::new(Figure::LostOutcome, what))
}

fn invariant_the_manifest_that_the_record_speaks_of_is_there(
    world: &World,
    on_record: &Record,
) -> Result<(), Violation> {
    let (Phase::Waiting(d) | Phase::Downloading(d) | Phase::Verifying(d)) = &on_record.phase else {
        return Ok(());
    };
    let there = state::load(&world.disk, StateFile::Manifest).ok().flatten().map(Digest::of);
    if there == Some(d.manifest) {
        return Ok(());
    }
    let what = format!(
        "the manifest that the record speaks of is there: expected {:?}, found {there:?}",
        d.manifest
    );
    Err(Violation::new(Figure::LostOutcome, what))
}

/// Whole and durable: from the record that it is installed until the record that it is written anew.
fn invariant_the_record_says_of_a_group_only_what_it_holds(
    world: &World,
    on_record: &Record,
) -> Result<(), Violation> {
    for group in Group::BOTH {
        let Some(release) = on_record.release(group) else { continue };
        let holds = world.image(group).map(|image| image.version.to_string());
        if holds.as_deref() != Some(release.version.as_str()) {
            let what = format!(
                "the record says of a group only what it holds: of {group} it says {}, found {holds:?}",
                release.version
            );
            return Err(Violation::new(Figure::UnverifiedBooted, what));
        }
    }
    Ok(())
}

/// Not bootable, and after a trial not in the order, where a script could give it new tries. What was good before may
/// stay so: a deployment that ends before it touches the group changes nothing.
fn invariant_what_was_given_up_is_not_bootable(world: &World, on_record: &Record) -> Result<(), Violation> {
    let Phase::Settled(d, outcome) = &on_record.phase else { return Ok(()) };
    let Ok(boot) = world.boot_state() else { return Ok(()) };
    let target = boot.group(d.target);
    let approved = world.watch.approved[d.target as usize];
    let only_way_up = !world.watch.approved[d.target.other() as usize];
    let still = match outcome.kind {
        OutcomeKind::Committed => false,
        OutcomeKind::RolledBack | OutcomeKind::FellBack => target.priority > 0,
        _ => target.bootable(),
    };
    if !still || approved || only_way_up {
        return Ok(());
    }
    let what =
        format!("what was given up is not bootable: {:?}, and {} is {target:?}", outcome.kind, d.target);
    Err(Violation::new(Figure::WrongGroup, what))
}

fn invariant_no_late_fallback_where_it_is_prevented(
    world: &World,
    on_record: &Record,
) -> Result<(), Violation> {
    let prevented = world.watch.agreement.late_fallback == LateFallback::Prevent;
    let committed = |d: &Deployment, kind| kind == OutcomeKind::Committed && world.running == Some(d.target);
    match (&on_record.phase, world.boot_state()) {
        (Phase::Settled(d, outcome), Ok(boot))
            if prevented && committed(d, outcome.kind) && boot.group(d.target.other()).bootable() =>
        {
            let what = format!("no late fallback where it is prevented: {} is bootable", d.target.other());
            Err(Violation::new(Figure::WrongGroup, what))
        }
        _ => Ok(()),
    }
}
