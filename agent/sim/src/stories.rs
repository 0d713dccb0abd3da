//! The stories that the sweeps live, and how each may end.

use crate::image::{Behaviour, Image};
use crate::life::{Life, Story};
use crate::outside::Twist;
use crate::world::{Board, Home};
use mainstay_bootloader_glue::Format;
use mainstay_bootloader_glue::uboot::Scheme;
use mainstay_core::policy::LateFallback;
use mainstay_core::update::OutcomeKind::{self, *};

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

const UBOOT: Format = Format::UbootRedundant { bytes: 1024, scheme: Scheme::Incremental };
const UBOOT_NOR: Format = Format::UbootRedundant { bytes: 1024, scheme: Scheme::Boolean };

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
}

impl Case {
    /// Is this how it ends undisturbed?
    pub fn as_told(&self, life: &Life) -> bool {
        let ends = self.ends.iter().map(|(version, kind)| (version.to_string(), *kind));
        life.runs == self.runs && life.outcomes.iter().cloned().eq(ends)
    }

    /// May it end so after a power cut? With tries to spare as told; but that a trial that is cut costs a try, so
    /// the last one ends as a fallback; and a deployment whose target comes up by itself is given up and offered anew.
    pub fn after_cuts(&self, life: &Life, tries: u8, cuts: u8) -> bool {
        if tries > cuts {
            return self.as_told(life);
        }
        let fits = |(version, kind): &(String, OutcomeKind)| {
            let told = self
                .ends
                .iter()
                .any(|(v, k)| v.to_string() == *version && (k == kind || matches!(kind, FellBack | Failed)));
            told || self.instead.iter().any(|(v, k)| v.to_string() == *version && k == kind)
        };
        life.outcomes.iter().all(fits) && life.outcomes.len() + life.refused.len() >= self.ends.len()
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
            twist,
        },
        ends,
        runs,
        instead: &[],
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
    let two = || vec![image(2, Healthy), image(3, Healthy)];
    cases.extend([
        tell(
            "a factory reset between two updates",
            two(),
            Twist::FactoryReset,
            &[(2, Committed), (3, Committed)],
            3,
        ),
        tell("a decommission after an update", two(), Twist::Decommission, &[(2, Committed)], 2),
    ]);
    let mut older = tell("a good update over an older release", good(), Twist::None, &[(2, Committed)], 2);
    older.story.factory = Image::new(1, 1, Healthy);
    older.story.older = Some(Image::new(0, 1, Healthy));
    for case in cases.iter_mut().filter(|case| case.story.name == "a downgrade after an update") {
        case.instead = &[(9, Committed), (9, FellBack)]; // no downgrade, if the update has fallen back
    }
    let mut prevent = tell("a good update, and no late fallback", good(), Twist::None, &[(2, Committed)], 2);
    prevent.story.late_fallback = LateFallback::Prevent;
    cases.extend([older, prevent]);
    cases
}
