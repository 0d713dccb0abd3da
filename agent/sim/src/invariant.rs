//! What must hold after every effect, whatever the schedule. One function each; the first that does not hold ends
//! the life with its name.
//!
//! They look at the media, as the next boot would find them, and never at the agent's memory. What they remember of
//! the past stands in [`Watch`].

use crate::agreement::{self, Agreement};
use crate::disk::{DATA, KEYS, Own};
use crate::image::{Behaviour, Image};
use crate::power::{Down, Figure, Violation, down, violated};
use crate::seams::OLDEST_FORMAT;
use crate::state;
use crate::world::World;
use mainstay_core::boot::Group;
use mainstay_core::copies::Unreadable;
use mainstay_core::digest::Hasher;
use mainstay_core::seam::StateFile;
use mainstay_core::trust::TrustRoot;
use mainstay_core::update::{Outcome, OutcomeKind, Phase, PhaseName, Record, Service};

/// What is being asked of the bootloader: the change that the next write of the environment makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Bootable no more.
    Off(Group),
    /// Tried that many times.
    Trial(Group, u8),
    /// Good.
    Good(Group),
}

/// What the invariants remember.
#[derive(Clone, Debug)]
pub struct Watch {
    /// What has been asked of the bootloader last: whose the next change of the environment is. Not only while it is
    /// asked: a write that is said to have failed can reach the medium later.
    asked: Option<Asked>,
    /// Is this group's content marked good, after its checks passed (or by the factory)?
    pub approved: [bool; 2],
    /// The group whose checks have all passed in this boot.
    pub passed_in_this_boot: Option<Group>,
    /// A medium has failed for good: what it held is no way up any more.
    pub rotten: bool,
    /// A medium has said that it erased something, and has not.
    pub deceived: bool,
    /// A committed group has been given up for the older one, and that is on record. On a board that counts every boot
    /// (RAUC's conventions) power cuts alone can do that: the price of keeping the older one.
    pub late_fallback: bool,
    record: Option<(u32, Option<Record>)>,
    comes_up: Option<([u32; 3], [bool; 2], u32)>,
    trust: (u32, u32),
    seq: u64,
    out: bool,
    floor: u32,
    trial: [Trial; 2],
    settled: Option<(u32, OutcomeKind)>,
    /// What the record and the others must say of each other.
    pub agreement: Agreement,
}

#[derive(Clone, Copy, Debug, Default)]
struct Trial {
    /// Of which deployment: arming it again gives it no more boots.
    attempt: u32,
    tries: u32,
    boots: u32,
}

impl Watch {
    /// Of a gateway from the factory.
    pub fn new(floor: u32, second: bool) -> Self {
        Watch {
            asked: None,
            approved: [true, second],
            passed_in_this_boot: None,
            rotten: false,
            deceived: false,
            late_fallback: false,
            record: None,
            comes_up: None,
            trust: (0, 0),
            seq: 0,
            out: false,
            floor,
            trial: [Trial::default(); 2],
            settled: None,
            agreement: Agreement::default(),
        }
    }

    /// Nothing runs any more.
    pub fn session_ends(&mut self) {
        self.asked = None;
        self.passed_in_this_boot = None;
    }

    /// What of it decides how a life goes on.
    pub fn fingerprint(&self, into: &mut Hasher) {
        let Watch {
            approved,
            rotten,
            deceived,
            late_fallback,
            floor,
            trial,
            settled,
            trust,
            seq,
            out,
            agreement,
            ..
        } = self;
        into.update(
            format!(
                "{:?}",
                (
                    approved,
                    rotten,
                    deceived,
                    late_fallback,
                    floor,
                    trial,
                    settled,
                    trust.1,
                    seq,
                    out,
                    agreement.state()
                )
            )
            .as_bytes(),
        );
    }
}

/// All of them.
pub fn all(world: &mut World) {
    let holds = invariant_the_environment_is_always_readable(world)
        .and_then(|()| invariant_the_record_is_always_readable_and_the_floor_never_falls(world))
        .and_then(|()| invariant_the_trust_root_is_always_readable_and_never_falls(world))
        .and_then(|()| invariant_what_was_given_up_is_gone_and_nothing_leads_back(world))
        .and_then(|()| invariant_nothing_unverified_is_bootable(world))
        .and_then(|()| invariant_a_committed_group_at_or_above_the_floor_always_comes_up(world))
        .and_then(|()| invariant_committed_implies_that_the_checks_passed(world))
        .and_then(|()| match world.watch.record.clone() {
            Some((_, Some(record))) => agreement::all(world, &record),
            _ => Ok(()),
        });
    if let Err(broken) = holds {
        down(Down::Violation(broken));
    }
}

/// Somebody asks the bootloader for a change.
pub fn asked(world: &mut World, asked: Asked) {
    world.watch.agreement.asked = match asked {
        Asked::Trial(group, tries) => agreement::may_be_armed(world, group, tries).err(),
        _ => None,
    };
    world.watch.asked = Some(asked);
}

/// The copies change: keeps count of what is good, and of what is tried. Called with the variables as they were.
pub fn environment_changed(world: &mut World) {
    let Some(asked) = world.watch.asked else { return };
    if let Some(broken) = world.watch.agreement.asked.take() {
        down(Down::Violation(broken));
    }
    match asked {
        Asked::Off(group) => world.watch.approved[group as usize] = false,
        Asked::Trial(group, tries) => {
            world.watch.approved[group as usize] = false;
            let tries = u32::from(tries.min(world.convention().tries_max()));
            let attempt = record(world).ok().flatten().map_or(0, |record| record.attempts);
            let trial = world.watch.trial[group as usize];
            let again = trial.attempt == attempt && !world.watch.rotten; // a lost record counts from 1 again
            let boots = if again { trial.boots } else { 0 };
            world.watch.trial[group as usize] = Trial { attempt, tries, boots };
        }
        Asked::Good(group) => {
            invariant_only_what_passed_in_this_boot_is_marked_good(world, group);
            world.watch.approved[group as usize] = true;
        }
    }
}

/// A group is booted.
pub fn booted(world: &mut World, group: Group) {
    if world.image(group).is_none() && !world.watch.rotten {
        violated(
            Figure::UnverifiedBooted,
            format_args!("nothing unverified becomes bootable: {group} is booted, and is torn"),
        );
    }
    if !world.watch.approved[group as usize] {
        let trial = &mut world.watch.trial[group as usize];
        trial.boots += 1;
        invariant_tries_are_bounded(world, group);
    }
}

fn invariant_only_what_passed_in_this_boot_is_marked_good(world: &World, group: Group) {
    let watch = &world.watch;
    if !watch.approved[group as usize] && watch.passed_in_this_boot != Some(group) {
        violated(
            Figure::UnverifiedBooted,
            format_args!("committed implies passed: {group} is marked good without a verdict in this boot"),
        );
    }
}

/// RAUC's own scripts give every group new attempts once all are used up, which takes a power cut for each of the
/// running group's attempts: on GRUB, one. So there each cut can cost as many boots again.
fn invariant_tries_are_bounded(world: &World, group: Group) {
    let Trial { tries, boots, .. } = world.watch.trial[group as usize];
    let slack = if world.convention().name() == "rauc" { tries * world.cuts } else { 0 };
    if boots > tries + slack {
        violated(
            Figure::Stuck,
            format_args!("tries are bounded: {group} is booted {boots} times with {tries} tries"),
        );
    }
}

fn invariant_the_environment_is_always_readable(world: &World) -> Result<(), Violation> {
    if world.watch.rotten {
        return Ok(());
    }
    world.boot_state().map(|_| ()).map_err(|fault| {
        Violation::new(Figure::Unbootable, format_args!("the environment is always readable: {fault}"))
    })
}

fn invariant_the_record_is_always_readable_and_the_floor_never_falls(
    world: &mut World,
) -> Result<(), Violation> {
    let version = world.disk.state_version(StateFile::Journal);
    if world.watch.record.as_ref().is_none_or(|(seen, _)| *seen != version) {
        world.watch.record = Some((version, record(world)?));
    }
    let Some((_, Some(record))) = &world.watch.record else { return Ok(()) };
    if record.floor < world.watch.floor {
        let what = format!("the floor never falls: from {} to {}", world.watch.floor, record.floor);
        return Err(Violation::new(Figure::FloorFell, what));
    }
    world.watch.floor = record.floor;
    let [seq, _] = record.desired_seq;
    if seq < world.watch.seq && !world.watch.rotten {
        let what = format!("sequence numbers never fall: from {} to {seq}", world.watch.seq);
        return Err(Violation::new(Figure::FloorFell, what));
    }
    world.watch.seq = seq;
    Ok(())
}

/// The record can be believed: what says that it is in service has its key and no half of its data, what says that it is
/// out of service has nothing any more, and never says otherwise again.
fn invariant_what_was_given_up_is_gone_and_nothing_leads_back(world: &mut World) -> Result<(), Violation> {
    let Some((_, Some(record))) = &world.watch.record else { return Ok(()) };
    let (service, data, keys) = (record.service, world.disk.owns(DATA), world.disk.owns(KEYS));
    let holds = match service {
        Service::In => data != Own::Part && keys == Own::Whole && !world.watch.out,
        Service::Resetting => keys == Own::Whole && !world.watch.out,
        Service::Decommissioning(_) => !world.watch.out,
        Service::Decommissioned(_) => data == Own::Gone && keys == Own::Gone,
    };
    world.watch.out |= matches!(service, Service::Decommissioned(_));
    match holds || world.watch.rotten || world.watch.deceived {
        true => Ok(()),
        false => Err(Violation::new(
            Figure::WrongGroup,
            format_args!("what was given up is gone: {service:?}, but data {data:?}, keys {keys:?}"),
        )),
    }
}

/// Whoever could bring an older root back would bring back the keys that it believes.
fn invariant_the_trust_root_is_always_readable_and_never_falls(world: &mut World) -> Result<(), Violation> {
    let version = world.disk.state_version(StateFile::Trust);
    let (seen, highest) = world.watch.trust;
    if seen == version {
        return Ok(());
    }
    let fell = |what| Violation::new(Figure::FloorFell, format!("the trust root never falls: {what}"));
    let found = match state::load(&world.disk, StateFile::Trust) {
        Ok(None) => 0,
        Ok(Some(bytes)) => TrustRoot::anchor(bytes).map_err(|fault| fell(fault.to_string()))?.version,
        Err(why) => return Err(fell(format!("{why:?}"))),
    };
    if found < highest {
        return Err(fell(format!("from version {highest} to {found}")));
    }
    world.watch.trust = (version, found);
    Ok(())
}

/// A bootable group holds, whole and durable, an image that somebody signed.
fn invariant_nothing_unverified_is_bootable(world: &World) -> Result<(), Violation> {
    let Ok(boot) = world.boot_state() else { return Ok(()) };
    for group in Group::BOTH {
        if boot.group(group).bootable() && world.image(group).is_none() && !world.watch.rotten {
            let what =
                format!("nothing unverified becomes bootable: {group} is {:?}, and torn", boot.group(group));
            return Err(Violation::new(Figure::UnverifiedBooted, what));
        }
    }
    Ok(())
}

/// If every image that is on trial dies on the way up, how many boots does it take until a group comes up that is
/// committed and at or above the floor? Played with the bootloader itself, on a copy of its environment.
fn invariant_a_committed_group_at_or_above_the_floor_always_comes_up(
    world: &mut World,
) -> Result<(), Violation> {
    let as_before = Some((world.boot_version(), world.watch.approved, world.watch.floor));
    if world.watch.comes_up == as_before {
        return Ok(());
    }
    let unbootable = |what: String| Violation::new(Figure::Unbootable, what);
    let mut env = world.env();
    let mut last = None;
    for _ in 0..BOOTS_TO_COME_UP {
        let boot =
            world.boot(&env).map_err(|fault| unbootable(format!("the bootloader cannot go on: {fault}")))?;
        boot.writes.iter().for_each(|write| write.apply(&mut env));
        last = boot.group;
        let Some((group, _)) = boot.group else { continue };
        let stranded = world.watch.rotten && world.watch.approved == [false, false];
        let well =
            |i: &Image| stranded || matches!(i.behaviour, Behaviour::Healthy | Behaviour::WantedCheckFails);
        let fit = |floor| world.image(group).is_some_and(|i| i.security_version >= floor && well(i));
        let floor = if world.watch.rotten || world.watch.late_fallback { 0 } else { world.watch.floor };
        if (stranded || world.watch.approved[group as usize]) && fit(floor) {
            world.watch.comes_up = as_before;
            return Ok(());
        }
    }
    Err(unbootable(format!(
        "a committed group at or above the floor ({}) is always bootable: none comes up in {BOOTS_TO_COME_UP} boots, \
         the last is {last:?}, {:?}",
        world.watch.floor,
        world.boot_state()
    )))
}

fn invariant_committed_implies_that_the_checks_passed(world: &mut World) -> Result<(), Violation> {
    let Some((_, Some(record))) = &world.watch.record else { return Ok(()) };
    let Phase::Settled(d, Outcome { kind, .. }) = &record.phase else { return Ok(()) };
    let settled = Some((d.attempt, *kind));
    let newly = world.watch.settled != settled;
    if newly && *kind == OutcomeKind::Committed && !world.watch.approved[d.target as usize] {
        let what = format!("committed implies passed: {} is committed and not marked good", d.target);
        return Err(Violation::new(Figure::UnverifiedBooted, what));
    }
    let given_up = matches!(kind, OutcomeKind::FellBack | OutcomeKind::Failed);
    let late = newly && given_up && world.watch.approved[d.target as usize];
    world.watch.late_fallback |= late && world.convention().name() == "rauc";
    world.watch.settled = settled;
    Ok(())
}

/// The record, as it stands on the medium for certain, whichever agent wrote it.
pub fn record(world: &World) -> Result<Option<Record>, Violation> {
    let lost =
        |what: String| Violation::new(Figure::LostOutcome, format!("the record is always readable: {what}"));
    match state::load(&world.disk, StateFile::Journal) {
        Ok(None) => Ok(None),
        Ok(Some(bytes)) => {
            let mut bytes = bytes.to_vec();
            bytes.first_mut().into_iter().for_each(|format| *format = OLDEST_FORMAT);
            Record::decode(&bytes).map(Some).map_err(|fault| lost(fault.to_string()))
        }
        Err(Unreadable::Damaged) if world.watch.rotten => Ok(None),
        Err(why) => Err(lost(format!("{why:?}"))),
    }
}

/// The phase that is on record.
pub fn phase(world: &World) -> Option<PhaseName> {
    record(world).ok().flatten().map(|record| record.phase.name())
}

/// Nine tries of a dead trial, nine of a group that RAUC's script has given new attempts, and some.
const BOOTS_TO_COME_UP: usize = 24;
