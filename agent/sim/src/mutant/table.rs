//! All mutants: what each does, the story that is enough to see it, and the check that has to.

use super::Mutant::{self, *};
use crate::outside::Twist;
use Under::{Cut, CutWithin, LinkLies, MediumLies};

/// One of them.
pub struct Row {
    /// Which.
    pub mutant: Mutant,
    /// The seam that it bends.
    pub seam: &'static str,
    /// What it does.
    pub does: &'static str,
    /// On which of the [`BOARDS`](crate::stories::BOARDS).
    pub board: usize,
    /// In which story.
    pub tale: Tale,
    /// What has to go wrong beside it.
    pub under: Under,
    /// How the check that sees it begins.
    pub by: &'static str,
}

/// A story.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tale {
    /// As it is told: how it ends is a check, too.
    Told(&'static str),
    /// With something happening beside it: the invariants alone decide.
    Twisted(&'static str, Twist),
}

/// What goes wrong, one at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Under {
    /// Nothing.
    Undisturbed,
    /// A cut, at each effect in turn.
    Cut,
    /// A cut after each of the first sectors of each write.
    CutWithin,
    /// An effect that fails.
    Failure,
    /// A segment that the medium acknowledges and does not keep.
    MediumLies,
    /// A link that gives something else.
    LinkLies,
}

impl Under {
    /// For people.
    pub const fn name(self) -> &'static str {
        match self {
            Under::Undisturbed => "undisturbed",
            Under::Cut => "one cut",
            Under::CutWithin => "one cut within a write",
            Under::Failure => "one failure",
            Under::MediumLies => "a medium that lies once",
            Under::LinkLies => "a link that lies once",
        }
    }
}

const GOOD: Tale = Tale::Told("a good update");
const OLDER: Tale = Tale::Told("a good update over an older release");
const UNHEALTHY: Tale = Tale::Told("an unhealthy image");
const NEVER_BOOTS: Tale = Tale::Told("an image that never boots");
const HISTORY: Tale = Tale::Told("a good update after a long history");
const SECOND: Tale = Tale::Told("a second update after the first");

const UBOOT: usize = 0;
const UBOOT_RAUC: usize = 2;
const GRUB_RAUC: usize = 3;

const TORN: &str = "nothing unverified becomes bootable";
const COMES_UP: &str = "a committed group at or above the floor";
const PASSED: &str = "committed implies passed";
const TRUE: &str = "an outcome is reported truthfully";
const REPORTED: &str = "an outcome is reported at least once";
const ENDS: &str = "it ends as it may";
const TRIES: &str = "tries are bounded";
const SETTLES: &str = "it settles";
const FLOOR: &str = "the floor never falls";
const ON_RECORD: &str = "only what is on record is armed";
const LEAVE: &str = "nothing is armed without leave";
const HOLDS: &str = "the record says of a group only what it holds";
const BACK: &str = "the record never goes back";
const SEQ: &str = "sequence numbers never fall";
const MANIFEST: &str = "the manifest that the record speaks of is there";
const RAISES: &str = "a commit raises the floor";
const SETTLED: &str = "an outcome is on record when it is settled";
const GIVEN_UP: &str = "what was given up is not bootable";
const PREVENTED: &str = "no late fallback where it is prevented";
const AGAIN: &str = "a bundle whose trial failed is not tried again";

/// All of them.
#[rustfmt::skip]
pub const TABLE: &[Row] = &[
    // BootControl
    row(NotWithdrawn,             BOOT,  "does not withdraw the target, and answers that it has", UBOOT, OLDER, TORN),
    row(WithdrawsTheWrongGroup,   BOOT,  "withdraws the group that runs", UBOOT, GOOD, COMES_UP),
    row(MarkGoodBeforeTrial,      BOOT,  "marks the target good when it is armed", UBOOT, NEVER_BOOTS, PASSED),
    row(ArmsTheRunningGroup,      BOOT,  "arms the group that runs", UBOOT, GOOD, ON_RECORD),
    row(ArmsWithMoreTries,        BOOT,  "arms with nine tries, whatever the bundle asks", UBOOT, GOOD, ON_RECORD),
    row(MarkGoodForgotten,        BOOT,  "does not mark good, and answers that it has", UBOOT, GOOD, COMES_UP),
    row(MarksTheWrongGroupGood,   BOOT,  "marks the other group good", UBOOT, GOOD, COMES_UP),
    row(CommitsBehindTheOther,    BOOT,  "commits, and puts the other group first", UBOOT, GOOD, COMES_UP),
    under(Cut, BootsNotConfirmed,        BOOT,  "does not confirm a boot where every boot is counted", GRUB_RAUC, OLDER, TRUE),
    row(MarksTheWrongGroupBad,    BOOT,  "marks the group that runs bad in the place of the target", UBOOT, UNHEALTHY, COMES_UP),
    row(MarkBadForgotten,         BOOT,  "does not mark bad what is given up", UBOOT, UNHEALTHY, GIVEN_UP),
    row(LateFallbackNotPrevented, BOOT,  "leaves the other group in the order against the policy", UBOOT, Tale::Told("a good update, and no late fallback"), PREVENTED),
    row(AnswersFromMemory,        BOOT,  "answers with the boot state from before it armed", UBOOT, NEVER_BOOTS, TRIES),
    row(NoLookForAWayUp,          BOOT,  "gives a group up without looking whether the other one comes up", UBOOT, Tale::Told("the old group is given up during the trial"), COMES_UP),
    // StateStore
    row(FloorBeforeMarkGood,      STATE, "raises the floor before the target is marked good", UBOOT, GOOD, COMES_UP),
    row(FloorAtInstall,           STATE, "raises the floor when the target is written", UBOOT, GOOD, COMES_UP),
    row(FloorForgotten,           STATE, "does not raise the floor", UBOOT, GOOD, RAISES),
    row(FloorLowered,             STATE, "lowers the floor for an offer", UBOOT, GOOD, FLOOR),
    row(ActsBeforeItPersists,     STATE, "acts before the record says so", UBOOT, GOOD, ON_RECORD),
    row(ArmsBeforeTheRecord,      STATE, "writes the environment before the record", UBOOT, GOOD, ON_RECORD),
    row(CommittedBeforeMarkGood,  STATE, "records the commit before the target is marked good", UBOOT, GOOD, PASSED),
    under(MediumLies, InstalledBeforeReadBack,  STATE, "records the install before it is read back", UBOOT, GOOD, HOLDS),
    row(OutcomeForgotten,         STATE, "does not keep outcomes over a restart", UBOOT, GOOD, SETTLED),
    row(OutcomeBeforeItIsSettled, STATE, "queues \"committed\" when the trial begins", UBOOT, GOOD, SETTLED),
    under(Cut, FailedForgotten,          STATE, "forgets bundles whose trial failed", UBOOT, Tale::Told("an unhealthy image, offered again"), AGAIN),
    row(RebootsNotCounted,        STATE, "does not count the reboots into a trial", UBOOT, Tale::Told("a bootloader that reads another environment"), SETTLES),
    row(TimeForgotten,            STATE, "forgets the time that has passed", UBOOT, GOOD, BACK),
    row(AttemptsForgotten,        STATE, "counts deployments from zero again", UBOOT, GOOD, BACK),
    row(TargetNotForgotten,       STATE, "still knows what the target held while it is written", UBOOT, Tale::Told("a good update after a bad one"), HOLDS),
    under(CutWithin, OneCopyOnly,              STATE, "keeps the record in one copy", UBOOT, HISTORY, "the record is always readable"),
    under(CutWithin, NewerCopyOverwritten,     STATE, "writes over the newer copy of the record", UBOOT, Tale::Told("an unhealthy image after a long history"), SEQ),
    row(ManifestNotWritten,       STATE, "does not keep the manifest", UBOOT, GOOD, MANIFEST),
    row(LostRecordTakenForNone,   STATE, "takes a record that is lost for one that never was", UBOOT_RAUC, Tale::Twisted("a good update", Twist::RecordIsLostInTrial), PASSED),
    // what stands under the stores
    row(RecordNotSynced,          SYNC,  "does not sync the record", UBOOT, GOOD, ON_RECORD),
    under(Cut, ManifestNotSynced,        SYNC,  "does not sync the manifest", UBOOT, SECOND, MANIFEST),
    row(FolderNotSynced,          SYNC,  "does not sync the folder of a new file", UBOOT, GOOD, MANIFEST),
    row(EnvironmentNotSynced,     SYNC,  "does not sync the environment", UBOOT, OLDER, TORN),
    // SlotWriter
    row(NotSynced,                SLOTS, "does not sync the slots", UBOOT, GOOD, HOLDS),
    row(OneSlotNotSynced,         SLOTS, "does not sync the last slot", UBOOT, GOOD, HOLDS),
    row(SyncedAfterTheRecord,     SLOTS, "syncs the slots when they are armed, after \"installed\" is on record", UBOOT, GOOD, HOLDS),
    row(WritesTheRunningGroup,    SLOTS, "writes the group that runs", UBOOT, GOOD, "the running group is never written"),
    under(MediumLies, ReadBackFromMemory,     SLOTS, "answers a read back with what was written", UBOOT, GOOD, HOLDS),
    // TrialRunner
    row(TrialSkipped,             TRIAL, "is healthy at once", UBOOT, GOOD, PASSED),
    under(Cut, VerdictOfAnEarlierBoot,   TRIAL, "carries a verdict over to the next boot", UBOOT, GOOD, PASSED),
    row(RequiredCountsAsWanted,   TRIAL, "is healthy although a required check fails", UBOOT, UNHEALTHY, PASSED),
    row(WantedCountsAsRequired,   TRIAL, "is unhealthy because a wanted check fails", UBOOT, Tale::Told("an image whose wanted check fails"), ENDS),
    row(FaultCountsAsHealthy,     TRIAL, "is healthy when the trial could not be run", UBOOT, Tale::Told("a person rolls back"), PASSED),
    // Gate, Power, Observer
    row(HaltUnheard,              GATE,  "goes on when the operator has halted", UBOOT, Tale::Told("a halt before the reboot"), LEAVE),
    row(LeaveNotWaitedFor,        GATE,  "reboots without waiting for leave", UBOOT, Tale::Told("leave to reboot comes late"), LEAVE),
    row(NeverReboots,             "Power", "does not reboot", UBOOT, GOOD, SETTLES),
    row(ReportsAtTrialStart,      "Observer", "reports \"committed\" when the trial begins", UBOOT, GOOD, TRUE),
    row(ReportsAtVerdict,         "Observer", "reports \"committed\" at the verdict, before the commit", UBOOT, GOOD, TRUE),
    // PieceSource, Inflate
    row(LinkDownIsNotFound,       "PieceSource", "takes a link that is down for an object that is not there", UBOOT, Tale::Told("the link is down in between"), ENDS),
    under(LinkLies, NeverAsksAgain,           "PieceSource", "gives up at the first object that is not what its name says", UBOOT, GOOD, ENDS),
    row(InflatesShort,            "Inflate", "unpacks all but the last byte", UBOOT, GOOD, ENDS),
    // the agent's loop
    row(AcknowledgesEarly,        LOOP,  "strikes an outcome off before the operator has it", UBOOT, GOOD, SETTLED),
    row(NotReported,              LOOP,  "reports nothing", UBOOT, GOOD, REPORTED),
    row(FailedIsTriedAgain,       LOOP,  "takes a bundle again whose trial failed", UBOOT, Tale::Told("an unhealthy image, offered again"), AGAIN),
    row(FloorNotAskedFor,         LOOP,  "takes a bundle below the floor", UBOOT, Tale::Told("a downgrade after an update"), COMES_UP),
];

const BOOT: &str = "BootControl";
const STATE: &str = "StateStore";
const SYNC: &str = "fsync";
const SLOTS: &str = "SlotWriter";
const TRIAL: &str = "TrialRunner";
const GATE: &str = "Gate";
const LOOP: &str = "the agent's loop";

const fn under(
    under: Under,
    mutant: Mutant,
    seam: &'static str,
    does: &'static str,
    board: usize,
    tale: Tale,
    by: &'static str,
) -> Row {
    Row { under, ..row(mutant, seam, does, board, tale, by) }
}

const fn row(
    mutant: Mutant,
    seam: &'static str,
    does: &'static str,
    board: usize,
    tale: Tale,
    by: &'static str,
) -> Row {
    Row { mutant, seam, does, board, tale, under: Under::Undisturbed, by }
}
