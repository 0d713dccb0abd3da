//! The stories that the sweeps live, and how each may end.

use crate::bundle::Deltas;
use crate::image::{Behaviour, Image};
use crate::life::{Life, Story};
use crate::outside::Twist;
use crate::power::Upset;
use crate::world::{Board, Home};
use mainstay_bootloader_glue::Format;
use mainstay_bootloader_glue::uboot::Scheme;
use mainstay_core::policy::LateFallback;
use mainstay_core::update::OutcomeKind::{self, *};
use mainstay_core::update::PhaseName;
use std::collections::BTreeSet;

/// A bootloader and its convention, by name.
pub const BOARDS: [(&str, Board); 8] = [
    ("U-Boot, mainstay", Board { format: UBOOT, convention: "mainstay", home: Home::Raw }),
    ("GRUB, mainstay", Board { format: Format::Grub, convention: "mainstay", home: Home::Ext4 }),
    ("U-Boot, rauc", Board { format: UBOOT, convention: "rauc", home: Home::Raw }),
    ("GRUB, rauc", Board { format: Format::Grub, convention: "rauc", home: Home::Ext4 }),
    ("U-Boot, bootcount", Board { format: UBOOT, convention: "bootcount", home: Home::Raw }),
    ("U-Boot, mainstay, files on FAT", Board { format: UBOOT, convention: "mainstay", home: Home::Fat }),
    ("GRUB, mainstay, file on FAT", Board { format: Format::Grub, convention: "mainstay", home: Home::Fat }),
    ("U-Boot, mainstay, NOR flags", Board { format: UBOOT_NOR, convention: "mainstay", home: Home::Raw }),
];

/// A board with a known weakness: U-Boot's environment in one copy, which no writer can replace without a moment in
/// which there is none. What is expected of it stands in `tests/boards.rs`.
pub const SINGLE_COPY: Board =
    Board { format: Format::UbootSingle { bytes: 1024 }, convention: "mainstay", home: Home::Raw };

/// Another: the environment of GRUB on a file system that journals data.
pub const DATA_JOURNAL: Board =
    Board { format: Format::Grub, convention: "mainstay", home: Home::Ext4Journal };

const UBOOT: Format = Format::UbootRedundant { bytes: 1024, scheme: Scheme::Incremental };
const UBOOT_NOR: Format = Format::UbootRedundant { bytes: 1024, scheme: Scheme::Boolean };

/// The board of this name.
pub fn board(name: &str) -> Result<(&'static str, Board), String> {
    let known = BOARDS.into_iter().find(|(known, _)| *known == name);
    known.ok_or_else(|| format!("expected one of {:?}, found board \"{name}\"", BOARDS.map(|(name, _)| name)))
}

/// Counts every boot, and knows one try.
pub fn is_raucs_grub(board: Board) -> bool {
    board.convention == "rauc" && board.format == Format::Grub
}

/// A story, and how it ends undisturbed.
pub struct Case {
    /// What happens.
    pub story: Story,
    /// How each release ends: version, outcome.
    pub ends: &'static [(u32, OutcomeKind)],
    /// The version that runs then.
    pub runs: u32,
    /// What else may come of it, once a release before it has fallen back.
    pub instead: &'static [(u32, OutcomeKind)],
    /// What one of its outcomes may be under any cut: where two things follow each other that only a person knows to
    /// belong together, a cut between them tells another story.
    pub or: Option<(OutcomeKind, OutcomeKind)>,
    /// The agent at the end does not know the record, says so, and leaves it alone.
    pub mute: bool,
}

impl Case {
    /// Is this how it ends undisturbed?
    pub fn as_told(&self, life: &Life) -> bool {
        let ends = self.ends.iter().map(|(version, kind)| (version.to_string(), *kind));
        life.runs == self.runs && life.mute == self.mute && life.outcomes.iter().cloned().eq(ends)
    }

    /// May it end so after a power cut? With tries to spare as told; but that a trial that is cut costs a try, so
    /// the last one ends as a fallback; and a deployment whose target comes up by itself is given up and offered anew.
    pub fn after_cuts(&self, life: &Life, tries: u8, cuts: u8) -> bool {
        if tries > cuts {
            return self.as_told(life) || self.as_told_otherwise(life);
        }
        self.is_given_up(life)
    }

    fn is_given_up(&self, life: &Life) -> bool {
        let fits = |(version, kind): &(String, OutcomeKind)| {
            let told = self
                .ends
                .iter()
                .any(|(v, k)| v.to_string() == *version && (k == kind || matches!(kind, FellBack | Failed)));
            told || self.instead.iter().any(|(v, k)| v.to_string() == *version && k == kind)
        };
        // A later agent that was tried and has fallen back leaves an older one that cannot say so.
        let mute = life.mute && self.story.releases.iter().any(|image| image.agent > 1);
        let releases: BTreeSet<u32> = self.ends.iter().map(|(version, _)| *version).collect();
        life.outcomes.iter().all(fits) && (mute || life.outcomes.len() + life.refused.len() >= releases.len())
    }

    fn as_told_otherwise(&self, life: &Life) -> bool {
        let Some((told, or)) = self.or else { return false };
        let ends = self.ends.iter().map(|(version, kind)| (version.to_string(), *kind));
        let same = |((v, k), (version, kind)): ((String, OutcomeKind), &(String, OutcomeKind))| {
            v == *version && (k == *kind || (k, *kind) == (told, or))
        };
        life.runs == self.runs && ends.len() == life.outcomes.len() && ends.zip(&life.outcomes).all(same)
    }

    /// Can the story be told of this board? Where every boot is counted and there is one try (RAUC's variables on GRUB), a
    /// power cut after a person has gone back brings up again what was left: the report that is on its way says that it
    /// was left, and no agent can know better before it is booted.
    pub fn is_told_on(&self, board: Board) -> bool {
        !(self.story.twist == Twist::PersonGoesBackAfterCommit && is_raucs_grub(board))
    }

    /// May it end so under these upsets?
    pub fn fits(&self, life: &Life, row: &[(u32, Upset)], board: Board) -> bool {
        let cuts = row.iter().filter(|(_, upset)| matches!(upset, Upset::Cut(_))).count();
        if cuts == row.len() {
            let tries = board.convention().tries_max().min(self.story.tries);
            return if cuts == 0 { self.as_told(life) } else { self.after_cuts(life, tries, cuts as u8) };
        }
        self.after_failures(life, row.iter().any(|(_, upset)| upset.is_for_ever()))
    }

    /// May it end so after something failed while the power stayed? As told, or a deployment was given up on the way,
    /// and said so; what never passes may leave it under way for ever.
    pub fn after_failures(&self, life: &Life, for_ever: bool) -> bool {
        // A record that says "trial" though its write failed is still "installed" to the agent, and can be dropped.
        let revoked = matches!(self.story.twist, Twist::TrustRotates { revokes: true, .. });
        let given_up = |(_, kind): &(String, OutcomeKind)| {
            matches!(kind, Failed | RolledBack | FellBack) || (revoked && *kind == Halted)
        };
        let known = |(version, _): &(String, OutcomeKind)| {
            self.story.releases.iter().any(|image| image.version.to_string() == *version)
        };
        self.as_told(life)
            || life.outcomes.iter().all(known)
                && (for_ever || life.outcomes.iter().any(given_up) || !life.refused.is_empty())
    }
}

/// All of them.
pub fn all(tries: u8) -> Vec<Case> {
    use Behaviour::*;
    let image = |version, behaviour| Image::new(version, version, behaviour);
    let tell = |name: &str, releases: Vec<Image>, twist, ends, runs| Case {
        story: Story {
            name: name.into(),
            factory: image(1, Healthy),
            older: None,
            releases,
            tries,
            late_fallback: LateFallback::Keep,
            deltas: Deltas::None,
            twist,
        },
        ends,
        runs,
        instead: &[],
        or: None,
        mute: false,
    };
    let good = || vec![image(2, Healthy)];
    let mut cases = vec![
        tell("a good update", good(), Twist::None, &[(2, Committed)], 2),
        tell("an unhealthy image", vec![image(2, Unhealthy)], Twist::None, &[(2, RolledBack)], 1),
        tell("an image that never boots", vec![image(2, NeverBoots)], Twist::None, &[(2, FellBack)], 1),
        tell("an image that cannot be loaded", vec![image(2, FailsToLoad)], Twist::None, &[(2, FellBack)], 1),
        tell(
            "an image that hangs in its trial",
            vec![image(2, HangsInTrial)],
            Twist::None,
            &[(2, FellBack)],
            1,
        ),
        tell(
            "an image that crashes the agent",
            vec![image(2, CrashesAgent)],
            Twist::None,
            &[(2, FellBack)],
            1,
        ),
        tell("a person rolls back", good(), Twist::PersonRollsBack, &[(2, RolledBack)], 1),
        tell("a halt during the download", good(), Twist::HaltDuringDownload, &[(2, Halted)], 1),
        tell("the link is down in between", good(), Twist::OfflineDuringDownload(4), &[(2, Committed)], 2),
        tell(
            "a second update after the first",
            vec![image(2, Healthy), image(3, Healthy)],
            Twist::None,
            &[(2, Committed), (3, Committed)],
            3,
        ),
        tell(
            "a downgrade after an update",
            vec![image(2, Healthy), Image::new(9, 1, Healthy)],
            Twist::None,
            &[(2, Committed)],
            2,
        ),
        tell(
            "a good update after a bad one",
            vec![image(2, NeverBoots), image(3, Healthy)],
            Twist::None,
            &[(2, FellBack), (3, Committed)],
            3,
        ),
    ];
    let mut older = tell("a good update over an older release", good(), Twist::None, &[(2, Committed)], 2);
    older.story.factory = Image::new(1, 1, Healthy);
    older.story.older = Some(Image::new(0, 1, Healthy));
    for case in cases.iter_mut().filter(|case| case.story.name == "a downgrade after an update") {
        case.instead = &[(9, Committed), (9, FellBack)]; // no downgrade, if the update has fallen back
    }
    let mut prevent = tell("a good update, and no late fallback", good(), Twist::None, &[(2, Committed)], 2);
    prevent.story.late_fallback = LateFallback::Prevent;
    cases.extend([older, prevent]);
    cases.extend(by_hand_and_by_time(&tell, &image));
    cases.extend(partings(&tell, &image));
    cases.extend(trust(&tell, &image));
    cases.extend(generations(&tell, &image));
    cases.extend(crate::odd_stories::odd(tries));
    cases.extend(deltas(&tell, &image));
    cases
}

type Tell<'a> = &'a dyn Fn(&str, Vec<Image>, Twist, &'static [(u32, OutcomeKind)], u32) -> Case;
type Make<'a> = &'a dyn Fn(u32, Behaviour) -> Image;

fn by_hand_and_by_time(tell: Tell<'_>, image: Make<'_>) -> Vec<Case> {
    let good = || vec![image(2, Behaviour::Healthy)];
    let two = || vec![image(2, Behaviour::Healthy), image(3, Behaviour::Healthy)];
    let mut back = tell(
        "a person goes back after the commit",
        vec![Image::new(2, 1, Behaviour::Healthy)],
        Twist::PersonGoesBackAfterCommit,
        &[(2, Committed), (2, RolledBack)],
        1,
    );
    // The bootloader is told first, then the record: cut between the two, it looks like a late fallback.
    back.or = Some((RolledBack, FellBack));
    vec![
        back,
        tell(
            "a second update during the first",
            two(),
            Twist::SupersededDuringDownload,
            &[(2, Halted), (3, Committed)],
            3,
        ),
        tell(
            "a clock without a battery",
            two(),
            Twist::ClockHasNoBattery,
            &[(2, Committed), (3, Committed)],
            3,
        ),
        tell(
            "a bundle that expires between install and reboot",
            good(),
            Twist::ExpiresBeforeReboot,
            &[(2, Committed)],
            2,
        ),
        tell(
            "a bundle that expires before its download",
            good(),
            Twist::ExpiresBeforeDownload,
            &[(2, Expired)],
            1,
        ),
    ]
}

/// What a person begins with the gateway as a whole, between two releases: after a commit, after a fallback, and in a
/// group that has been left. A decommissioned gateway refuses the second.
fn partings(tell: Tell<'_>, image: Make<'_>) -> Vec<Case> {
    let then = |first, behaviour| vec![image(first, behaviour), image(3, Behaviour::Healthy)];
    use Behaviour::{Healthy, NeverBoots};
    use Twist::{Decommission, FactoryReset};
    let both: &[_] = &[(2, Committed), (3, Committed)];
    let fell: &[_] = &[(2, FellBack), (3, Committed)];
    #[rustfmt::skip]
    let cases = [
        // name                                      releases             twist         ends                     runs
        ("a factory reset between two updates",      then(2, Healthy),    FactoryReset, both,                    3),
        ("a factory reset after a fallback",         then(2, NeverBoots), FactoryReset, fell,                    3),
        ("a decommission after an update",           then(2, Healthy),    Decommission, &[(2, Committed)],       2),
        ("a decommission after a fallback",          then(2, NeverBoots), Decommission, &[(2, FellBack)],        1),
    ];
    cases
        .into_iter()
        .map(|(name, releases, twist, ends, runs)| tell(name, releases, twist, ends, runs))
        .collect()
}

/// A new root arrives in each phase in which the agent hears of it. The second release is signed with the key that only
/// the new root knows.
fn trust(tell: Tell<'_>, image: Make<'_>) -> Vec<Case> {
    let two = || vec![image(2, Behaviour::Healthy), image(3, Behaviour::Healthy)];
    let rotates = |at, revokes| Twist::TrustRotates { at, revokes };
    let both: &[_] = &[(2, Committed), (3, Committed)];
    let dropped: &[_] = &[(2, Halted), (3, Committed)];
    use PhaseName::*;
    #[rustfmt::skip]
    let cases = [
        // name                                                      at           revokes  ends
        ("a new trust root while it waits",                          Waiting,     false,   both),
        ("a new trust root during the download",                     Downloading, false,   both),
        ("a new trust root before the reboot",                       Installed,   false,   both),
        ("a new trust root during the trial",                        Trial,       false,   both),
        ("a new trust root after the commit",                        Settled,     false,   both),
        ("the signer loses the right while it waits",                Waiting,     true,    dropped),
        ("the signer loses the right during the download",           Downloading, true,    dropped),
        ("the signer loses the right before the reboot",             Installed,   true,    dropped),
        ("the signer loses the right during the trial",              Trial,       true,    both),
    ];
    cases
        .into_iter()
        .map(|(name, at, revokes, ends)| tell(name, two(), rotates(at, revokes), ends, 3))
        .collect()
}

/// What the gateway holds does not travel: first as the factory wrote it, then as the first update left it. A running group that
/// has drifted takes the update all the same.
fn deltas(tell: Tell<'_>, image: Make<'_>) -> Vec<Case> {
    let good = |version| image(version, Behaviour::Healthy);
    let mut twice =
        tell("two delta updates", vec![good(2), good(3)], Twist::None, &[(2, Committed), (3, Committed)], 3);
    twice.story.deltas = Deltas::From;
    let mut drifted =
        tell("a delta update from a drifted group", vec![good(2)], Twist::None, &[(2, Committed)], 2);
    drifted.story.deltas = Deltas::Drifted;
    vec![twice, drifted]
}

/// Agents of two generations on one record.
fn generations(tell: Tell<'_>, image: Make<'_>) -> Vec<Case> {
    let newer = |version, behaviour| image(version, behaviour).with_agent(2);
    let mut fallback =
        tell("an older agent after a fallback", vec![newer(2, Behaviour::Unhealthy)], Twist::None, &[], 1);
    fallback.mute = true;
    fallback.instead = &[(2, FellBack)]; // before the newer one has written anything
    let never = tell(
        "a newer agent that never gets to write",
        vec![newer(2, Behaviour::NeverBoots)],
        Twist::None,
        &[(2, FellBack)],
        1,
    );
    let onward = tell(
        "a newer agent and then a newer one",
        vec![newer(2, Behaviour::Healthy), image(3, Behaviour::Healthy).with_agent(3)],
        Twist::None,
        &[(2, Committed), (3, Committed)],
        3,
    );
    vec![
        tell("a newer agent", vec![newer(2, Behaviour::Healthy)], Twist::None, &[(2, Committed)], 2),
        onward,
        never,
        fallback,
    ]
}
