//! Stories that need somebody else's hand: an operator who halts late, a plant that gives no leave yet, a person at the
//! bootloader, a bootloader that was told to look elsewhere. Each is there because a mutant got away without it.

use crate::bundle::Deltas;
use crate::disk::{Disk, Place};
use crate::image::{Behaviour, Image};
use crate::invariant;
use crate::life::Story;
use crate::outside::Twist;
use crate::seams::SimBoot;
use crate::stories::Case;
use crate::world::{Shared, World};
use mainstay_core::boot::Group;
use mainstay_core::copies;
use mainstay_core::digest::Digest;
use mainstay_core::fault::clip;
use mainstay_core::limits::{FAILED_MAX, RECORD_BYTES_MAX};
use mainstay_core::policy::LateFallback;
use mainstay_core::seam::{BootControl, Permission, StateFile};
use mainstay_core::update::OutcomeKind::{self, *};
use mainstay_core::update::{GroupRelease, Outcome, PhaseName, Record, Report};

/// Those that end as told whatever is cut.
pub fn odd(tries: u8) -> Vec<Case> {
    use Behaviour::*;
    let image = |behaviour| Image::new(2, 2, behaviour);
    let tell =
        |name: &str, releases: Vec<Image>, twist, ends, runs| told(tries, name, releases, twist, ends, runs);
    let good = || vec![image(Healthy)];
    vec![
        tell(
            "an unhealthy image, offered again",
            vec![image(Unhealthy); 2],
            Twist::None,
            &[(2, RolledBack)],
            1,
        ),
        tell(
            "an image whose wanted check fails",
            vec![image(WantedCheckFails)],
            Twist::None,
            &[(2, Committed)],
            2,
        ),
        tell("a halt before the reboot", good(), Twist::HaltBeforeReboot, &[(2, Halted)], 1),
        tell(
            "a good update after a long history",
            good(),
            Twist::LongHistory,
            &[(2, Failed), (2, Failed), (2, Failed), (2, Committed)],
            2,
        ),
        tell(
            "an unhealthy image after a long history",
            vec![image(Unhealthy)],
            Twist::LongHistory,
            &[(2, Failed), (2, Failed), (2, Failed), (2, RolledBack)],
            1,
        ),
        tell("leave to reboot comes late", good(), Twist::LeaveComesLate(3), &[(2, Committed)], 2),
    ]
}

/// Those in which something is broken, or somebody has meddled: what a cut beside it comes to is not told.
pub fn meddled(tries: u8) -> Vec<Case> {
    let tell = |name: &str, twist, ends, runs| {
        told(tries, name, vec![Image::new(2, 2, Behaviour::Healthy)], twist, ends, runs)
    };
    let mut given_up = tell(
        "the old group is given up during the trial",
        Twist::OldGroupIsGivenUpInTrial,
        &[(2, Failed)],
        2,
    );
    given_up.story.releases = vec![Image::new(2, 2, Behaviour::Unhealthy)];
    vec![
        given_up,
        tell(
            "a bootloader that reads another environment",
            Twist::EnvironmentIsElsewhere,
            &[(2, FellBack)],
            1,
        ),
    ]
}

fn told(
    tries: u8,
    name: &str,
    releases: Vec<Image>,
    twist: Twist,
    ends: &'static [(u32, OutcomeKind)],
    runs: u32,
) -> Case {
    let factory = Image::new(1, 1, Behaviour::Healthy);
    let (name, older, late_fallback) = (name.into(), None, LateFallback::Keep);
    Case {
        story: Story { name, factory, older, releases, tries, late_fallback, deltas: Deltas::None, twist },
        ends,
        runs,
        instead: &[],
        or: None,
        mute: false,
    }
}

/// What the operator and the plant say before a reboot.
pub fn leave(world: &mut World) -> Permission {
    match world.outside.twist {
        Twist::HaltBeforeReboot => {
            world.outside.halted = true;
            Permission::Stop(Halted, "halted by the operator".try_into().unwrap_or_default())
        }
        Twist::LeaveComesLate(times) if world.outside.asked < times => {
            world.outside.asked += 1;
            Permission::Wait("the interlock".try_into().unwrap_or_default())
        }
        _ => Permission::Go,
    }
}

/// Before the agent's first start: the bootloader is told to look elsewhere, at a copy of what it knows now; or the
/// record is one of many years.
pub fn strikes(world: &mut World) {
    match world.outside.twist {
        Twist::EnvironmentIsElsewhere => world.elsewhere = Some(world.env()),
        Twist::LongHistory => remember_much(&mut world.disk),
        _ => return,
    }
    world.outside.twisted = true;
}

/// A record of a few hundred bytes lies in one sector, and no cut can tear it: this one lies in more.
fn remember_much(disk: &mut Disk) {
    const FILE: StateFile = StateFile::Journal;
    let mut record = Record::factory(1);
    (0..FAILED_MAX).for_each(|n| record.remember_failed(Digest([n as u8; 32])));
    let (manifest, version) = (Digest([1; 32]), clip("1"));
    *record.release_mut(Group::A) = Some(GroupRelease {
        manifest,
        version,
        security_version: 1,
        committed: true,
        artifacts: Default::default(),
    });
    record.attempts = 3;
    for attempt in 1..=record.attempts {
        let outcome = Outcome { kind: Failed, detail: clip("a link that is down, ".repeat(7)) };
        let (manifest, version) = (Digest([0; 32]), clip("2"));
        record.report(Report { manifest, version, attempt, outcome });
    }
    let (mut bytes, mut copy) = ([0; RECORD_BYTES_MAX], vec![0; copies::copy_bytes(FILE)]);
    let bytes = record.encode(&mut bytes).expect("a record that fits");
    copies::write(FILE, 1, bytes, &mut copy).expect("a copy that fits");
    disk.put(Place::State(FILE, 0), 0, &copy);
}

/// A person gives the old group up, while the other one is on trial.
pub fn meddles(shared: &Shared) {
    let due = shared.with(|world| {
        let trial = world.running == Some(Group::B) && invariant::phase(world) == Some(PhaseName::Trial);
        let due = world.outside.twist == Twist::OldGroupIsGivenUpInTrial && !world.outside.twisted && trial;
        world.outside.twisted |= due;
        world.watch.rotten |= due;
        due
    });
    if due {
        let board = shared.with(|world| world.board);
        let _ = SimBoot::new(shared, board).mark_bad(Group::A); // a cut in it leaves the old group as it was
    }
}
