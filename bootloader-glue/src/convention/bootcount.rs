//! U-Boot's own bootcount: for boards and people that know `upgrade_available`, `bootcount` and `altbootcmd`.
//!
//! ```text
//! upgrade_available  1: a trial is on; U-Boot counts its boots and saves the count      0: nothing is counted
//! bootcount          boots of this trial so far; U-Boot adds one before bootcmd, in a saveenv of its own
//! bootlimit          boots that the trial has: once bootcount is larger, U-Boot runs altbootcmd and not bootcmd
//! mainstay_group     A or B: the group that bootcmd boots
//! mainstay_other     the group beside it, when no trial is on:   good   may be booted if mainstay_group cannot be loaded
//!                                                                tried  was on trial, and has fallen back
//!                                                                none   withdrawn, marked bad, never written
//! ```
//! The first three are U-Boot's (drivers/bootcount/bootcount_env.c, include/bootcount.h: decimal; CONFIG_BOOTCOUNT_LIMIT,
//! CONFIG_BOOTCOUNT_ENV), and mean what they mean to SWUpdate and Mender. The two others are ours, and have our
//! name so that they meet nobody else's: a partition number would do for `mainstay_group` as in Mender's
//! `mender_boot_part`, but which partitions a group has is the board's business, and the kernel is told `A` or `B`.
//!
//! # The word about the other group
//! U-Boot's three variables cannot tell a group that was tried and fell back from one that was never armed: in both
//! cases upgrade_available is 0 and the old group runs. So **the arming itself** writes `mainstay_other=tried`: while
//! the trial is on nobody reads it (the other group is then the good one, the way back), and the moment that altbootcmd
//! swaps the groups it is true. An `altbootcmd` that a board already has needs to do no more than swap and clear.
//!
//! # What cannot be said
//! | asked                                                     | answer                                           |
//! |-----------------------------------------------------------|--------------------------------------------------|
//! | a trial without a way back (withdraw the other group)     | refused: altbootcmd would boot it                |
//! | arm the one group that is good, or two trials at once     | refused, for the same reason                     |
//! | mark the other group good while one is on trial           | done; the trial is over, and its group `tried`   |
//! | take away the only group that may be booted               | refused: bootcmd boots mainstay_group            |
//!
//! Tries left are `bootlimit - bootcount`; a good group's boots are not counted and not saved. (U-Boot sets
//! `bootcount` to 1 in its memory then; a `saveenv` from the console brings that to the medium, so the count means nothing
//! while upgrade_available is 0.)
//!
//! # A count that is kept elsewhere
//! In a register or in RAM (the other CONFIG_BOOTCOUNT_ drivers) U-Boot counts every boot, not only a trial's, and nobody in
//! Linux clears it. The script can: `mainstay_uncount=bootcount reset`, run whenever no trial is on. Its save in the trial
//! brings the count to the environment, where the agent reads it; so the agent needs to know nothing of the register. A count
//! that was not cleared costs no more than an altbootcmd that finds no trial and boots what bootcmd would have.
//!
//! # What a power cut leaves
//! | in this write                     | the old variables                  | the new ones                   |
//! |-----------------------------------|------------------------------------|--------------------------------|
//! | arming (all five, one write)      | not armed: armed again             | the next boot is the trial     |
//! | U-Boot's count                    | that boot did not happen           | one try fewer                  |
//! | the script's save behind it       | the same variables                 | the same                       |
//! | altbootcmd's swap                 | altbootcmd once more               | back, and nothing is counted   |
//! | mark good (all, one write)        | on trial: the checks run again     | committed                      |

use super::{Convention, Op, Step, Why, check_tries};
use crate::Result;
use crate::vars::{Change, Vars};
use mainstay_core::boot::{BootState, Group, GroupState};
use mainstay_core::fault;
use mainstay_core::limits::TRIES_MAX;

/// The convention `bootcount`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bootcount;

/// What is known of the group beside `mainstay_group`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Other {
    Good,
    Tried,
    None,
}

/// The variables, read.
#[derive(Clone, Copy, Debug)]
struct Found {
    group: Group,
    other: Other,
    /// Boots that the trial has left, where one is on.
    trial: Option<u8>,
}

impl Convention for Bootcount {
    fn name(&self) -> &'static str {
        "bootcount"
    }

    fn names(&self) -> &'static [&'static str] {
        &[GROUP, OTHER, TRIAL, COUNT, LIMIT]
    }

    /// Without our own two: U-Boot's three stand in the default environment of many a board, and a count gets into
    /// every environment that was ever saved.
    fn is_fresh(&self, vars: &Vars) -> bool {
        vars.get(GROUP).is_none() && vars.get(OTHER).is_none()
    }

    fn fresh(&self) -> Vec<Change> {
        let mut changes = committed(Group::A, Other::None);
        changes.push(Change::set(LIMIT, SCRIPT_LIMIT.to_string()));
        changes
    }

    fn tries_max(&self) -> u8 {
        TRIES_MAX
    }

    fn state(&self, vars: &Vars) -> Result<BootState> {
        let Found { group, other, trial } = self.read(vars)?;
        let good = |priority| GroupState { priority, tries_left: 0, good: Some(true) };
        let (ours, beside) = match (trial, other) {
            (Some(tries_left), _) => (GroupState { priority: 2, tries_left, good: Some(false) }, good(1)),
            (None, Other::Good) => (good(2), good(1)),
            (None, Other::Tried) => (good(2), GroupState { priority: 1, tries_left: 0, good: Some(false) }),
            (None, Other::None) => (good(2), GroupState::WITHDRAWN),
        };
        Ok(match group {
            Group::A => BootState { a: ours, b: beside },
            Group::B => BootState { a: beside, b: ours },
        })
    }

    fn change(&self, vars: &Vars, op: Op) -> Result<Vec<Change>> {
        let Found { group, other, trial } = self.read(vars)?;
        let way_back = trial.is_some() || other == Other::Good;
        match op {
            Op::Withdraw(g) | Op::MarkBad(g) if g == group && way_back => {
                Ok(committed(group.other(), Other::None))
            }
            Op::Withdraw(g) | Op::MarkBad(g) if g == group => Err(fault!(
                Refused,
                "boot variable {GROUP}: expected a group to be left, found none without {g}: bootcmd boots {GROUP}"
            )),
            Op::Withdraw(g) | Op::MarkBad(g) => match trial {
                None => Ok(vec![set_other(Other::None)]),
                Some(_) => Err(fault!(
                    Refused,
                    "boot variable {TRIAL}: expected no trial when {g} is taken away, found {group} on trial: \
                     altbootcmd goes back to {g}"
                )),
            },
            Op::ArmTrial(g, tries) => {
                check_tries(tries)?;
                // The group that is not armed is where altbootcmd goes back to.
                let back_is_good = if g == group { way_back } else { trial.is_none() };
                match back_is_good {
                    true => Ok(armed(g, tries)),
                    false => Err(fault!(
                        Refused,
                        "arm a trial of {g}: expected {} to be good, for altbootcmd goes back to it, found {GROUP} {group}, \
                         {OTHER} {}, {TRIAL} {}",
                        g.other(),
                        other.name(),
                        u8::from(trial.is_some())
                    )),
                }
            }
            Op::MarkGood(g) => Ok(match (g == group, trial) {
                (true, None) => Vec::new(),
                (true, Some(_)) | (false, None) => committed(g, Other::Good),
                (false, Some(_)) => committed(g, Other::Tried),
            }),
        }
    }

    /// U-Boot itself, then `scripts/mainstay-bootcount.env`:
    ///
    /// ```text
    /// 1  U-Boot: upgrade_available: bootcount + 1, save; larger than bootlimit: altbootcmd (4), else bootcmd (2)
    /// 2  mainstay_group is neither A nor B: set the fresh ones
    /// 3  a trial: save (U-Boot does not look whether its own save worked), boot it; cannot be loaded: 4
    ///    none:    boot mainstay_group; cannot be loaded: the other group if it is good; then 5
    /// 4  back: mainstay_group = the other, upgrade_available 0, bootcount 0, save, boot it; then 5
    /// 5  nothing came up: wait; mainstay_group, then the other if it is good or was tried; reset
    /// ```
    /// Step 5 needs no turns and no save: only a group that cannot be *loaded* comes by here, so the first never keeps
    /// the second from its chance. What is `none` may be half written and is never booted.
    fn script(&self, vars: &Vars) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut vars = vars.clone();
        let mut save = |vars: &mut Vars, changes: Vec<Change>| {
            *vars = vars.with(&changes);
            steps.push(Step { save: changes, load: None });
        };
        let mut exceeded = false;
        if number(&vars, TRIAL) != 0 {
            let count = number(&vars, COUNT).saturating_add(1);
            save(&mut vars, vec![Change::set(COUNT, count.to_string())]);
            let limit = number(&vars, LIMIT);
            exceeded = limit != 0 && count > limit;
        }
        if group(&vars).is_none() {
            save(&mut vars, self.fresh());
        }
        let mut first = group(&vars).unwrap_or(Group::A);
        let load = |group, why| Step { save: Vec::new(), load: Some((group, why)) };
        if number(&vars, TRIAL) != 0 {
            if !exceeded {
                let again = vec![Change::set(COUNT, vars.text(COUNT).unwrap_or_default())];
                steps.push(Step { save: again, load: Some((first, Why::Trial)) });
            }
            first = first.other();
            let back = committed(first, Other::Tried);
            vars = vars.with(&back);
            steps.push(Step { save: back, load: Some((first, Why::Good)) });
        } else {
            steps.push(load(first, Why::Good));
            if vars.get(OTHER) == Some(b"good") {
                steps.push(load(first.other(), Why::Good));
            }
        }
        steps.push(load(first, Why::LastResort));
        if matches!(vars.get(OTHER), Some(b"good" | b"tried")) {
            steps.push(load(first.other(), Why::LastResort));
        }
        steps
    }
}

impl Bootcount {
    fn read(&self, vars: &Vars) -> Result<Found> {
        if self.is_fresh(vars) {
            return Err(fault!(
                NotFound,
                "boot variables: expected {GROUP} and {OTHER}, found neither: the board is fresh, or has lost its \
                 environment; its boot script sets them at the next boot"
            ));
        }
        let group = group(vars).ok_or_else(|| wrong(vars, GROUP, "A or B"))?;
        let other = Other::ALL.into_iter().find(|other| vars.get(OTHER) == Some(other.name().as_bytes()));
        let other = other.ok_or_else(|| wrong(vars, OTHER, "good, tried or none"))?;
        let trial = match vars.get(TRIAL) {
            None | Some(b"" | b"0") => None,
            Some(b"1") => Some(tries_left(vars)?),
            Some(_) => return Err(wrong(vars, TRIAL, "0 or 1")),
        };
        Ok(Found { group, other, trial })
    }
}

/// A limit that U-Boot would take for "none" makes a trial that never ends, so it is an error and not nine tries.
fn tries_left(vars: &Vars) -> Result<u8> {
    let decimal = |name, least: u32| {
        let text = vars.text(name).unwrap_or_else(|| "0".into());
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let found = text.parse::<u32>().ok().filter(|found| digits && *found >= least);
        found.ok_or_else(|| {
            wrong(vars, name, if least > 0 { "a decimal number over 0" } else { "a decimal number" })
        })
    };
    let left = decimal(LIMIT, 1)?.saturating_sub(decimal(COUNT, 0)?);
    Ok(u8::try_from(left).unwrap_or(u8::MAX))
}

fn group(vars: &Vars) -> Option<Group> {
    Group::from_name(&vars.text(GROUP)?)
}

/// As U-Boot's env_get_ulong reads it: the digits that it begins with; without any, 0.
fn number(vars: &Vars, name: &str) -> u32 {
    let text = vars.text(name).unwrap_or_default();
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    text.get(..end).and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

fn armed(group: Group, tries: u8) -> Vec<Change> {
    vec![
        Change::set(GROUP, group.name()),
        set_other(Other::Tried),
        Change::set(TRIAL, "1"),
        Change::set(COUNT, "0"),
        Change::set(LIMIT, tries.to_string()),
    ]
}

fn committed(group: Group, other: Other) -> Vec<Change> {
    vec![Change::set(GROUP, group.name()), set_other(other), Change::set(TRIAL, "0"), Change::set(COUNT, "0")]
}

fn set_other(other: Other) -> Change {
    Change::set(OTHER, other.name())
}

fn wrong(vars: &Vars, name: &str, expected: &str) -> fault::Fault {
    match vars.text(name) {
        Some(found) => fault!(Corrupt, "boot variable {name}: expected {expected}, found \"{found}\""),
        None => fault!(Corrupt, "boot variable {name}: expected {expected}, found no such variable"),
    }
}

impl Other {
    const ALL: [Other; 3] = [Other::Good, Other::Tried, Other::None];

    const fn name(self) -> &'static str {
        match self {
            Other::Good => "good",
            Other::Tried => "tried",
            Other::None => "none",
        }
    }
}

const GROUP: &str = "mainstay_group";
const OTHER: &str = "mainstay_other";
const TRIAL: &str = "upgrade_available";
const COUNT: &str = "bootcount";
const LIMIT: &str = "bootlimit";

/// What a fresh board gets; each arming sets its own.
const SCRIPT_LIMIT: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_core::fault::FaultKind;

    fn vars(values: [&str; 5]) -> Vars {
        Bootcount.names().iter().zip(values).collect()
    }

    #[test]
    fn each_op_makes_the_change_that_the_table_says_and_a_second_time_none() {
        use Group::*;
        use Op::*;
        #[rustfmt::skip]
        let cases = [
            // group other    trial count limit    op               after
            (["A", "good",    "0", "0", "3"],      Withdraw(B),     ["A", "none",  "0", "0", "3"]),
            (["A", "tried",   "0", "0", "3"],      MarkBad(B),      ["A", "none",  "0", "0", "3"]),
            (["A", "none",    "0", "1", "3"],      ArmTrial(B, 2),  ["B", "tried", "1", "0", "2"]),
            (["B", "tried",   "1", "1", "3"],      ArmTrial(B, 3),  ["B", "tried", "1", "0", "3"]),
            (["B", "tried",   "1", "2", "3"],      MarkGood(B),     ["B", "good",  "0", "0", "3"]),
            (["B", "tried",   "1", "2", "3"],      MarkBad(B),      ["A", "none",  "0", "0", "3"]),
            (["B", "tried",   "1", "9", "3"],      Withdraw(B),     ["A", "none",  "0", "0", "3"]),
            (["B", "tried",   "1", "2", "3"],      MarkGood(A),     ["A", "tried", "0", "0", "3"]),
            (["B", "good",    "0", "0", "3"],      MarkGood(A),     ["A", "good",  "0", "0", "3"]),
            (["B", "good",    "0", "0", "3"],      MarkBad(B),      ["A", "none",  "0", "0", "3"]),
            (["B", "good",    "0", "0", "3"],      ArmTrial(B, 1),  ["B", "tried", "1", "0", "1"]),
            (["A", "tried",   "0", "1", "3"],      MarkGood(A),     ["A", "tried", "0", "1", "3"]),
        ];
        for (before, op, after) in cases {
            let changed = vars(before).with(&Bootcount.change(&vars(before), op).unwrap());
            assert_eq!(changed, vars(after), "{op:?} of {before:?}");
            let again = changed.with(&Bootcount.change(&changed, op).unwrap());
            assert_eq!(again, changed, "{op:?} is idempotent");
        }
    }

    #[test]
    fn what_the_variables_cannot_say_is_refused() {
        use Group::*;
        use Op::*;
        #[rustfmt::skip]
        let cases = [
            // group other    trial count limit    op
            (["A", "none",    "0", "0", "3"],      Withdraw(A)),    // the only one
            (["A", "tried",   "0", "0", "3"],      MarkBad(A)),
            (["B", "tried",   "1", "0", "3"],      Withdraw(A)),    // the way back of a trial
            (["B", "tried",   "1", "0", "3"],      MarkBad(A)),
            (["B", "tried",   "1", "0", "3"],      ArmTrial(A, 3)), // two trials
            (["A", "none",    "0", "0", "3"],      ArmTrial(A, 3)), // a trial without a way back
            (["A", "none",    "0", "0", "3"],      ArmTrial(B, 0)),
            (["A", "none",    "0", "0", "3"],      ArmTrial(B, 10)),
        ];
        for (values, op) in cases {
            let fault = Bootcount.change(&vars(values), op).unwrap_err();
            assert_eq!(fault.kind, FaultKind::Refused, "{op:?} of {values:?}: {fault}");
        }
    }

    #[test]
    fn the_state_tells_committed_on_trial_fallen_back_and_withdrawn_apart() {
        let good = |priority| GroupState { priority, tries_left: 0, good: Some(true) };
        let not = |priority, tries_left| GroupState { priority, tries_left, good: Some(false) };
        #[rustfmt::skip]
        let cases = [
            // group other    trial count limit    A         B           next
            (["A", "none",    "0", "0", "3"],      good(2),  not(0, 0),  Group::A), // withdrawn, or never written
            (["A", "good",    "0", "1", "3"],      good(2),  good(1),    Group::A),
            (["B", "good",    "0", "0", "3"],      good(1),  good(2),    Group::B),
            (["B", "tried",   "1", "0", "3"],      good(1),  not(2, 3),  Group::B), // armed
            (["B", "tried",   "1", "3", "3"],      good(1),  not(2, 0),  Group::A), // altbootcmd comes next
            (["B", "tried",   "1", "4", "3"],      good(1),  not(2, 0),  Group::A), // cut in altbootcmd
            (["A", "tried",   "0", "0", "3"],      good(2),  not(1, 0),  Group::A), // gone back
            (["A", "tried",   "0", "4", "3"],      good(2),  not(1, 0),  Group::A), // by an altbootcmd of another's
            (["B", "tried",   "1", "0", "900"],    good(1),  not(2, 255), Group::B),
        ];
        for (values, a, b, next) in cases {
            let state = Bootcount.state(&vars(values)).unwrap();
            assert_eq!((state.a, state.b, state.select()), (a, b, Some(next)), "{values:?}");
        }
    }

    #[test]
    fn garbled_variables_are_named_with_what_was_found_and_nothing_is_built_upon_them() {
        #[rustfmt::skip]
        let cases = [
            // group other    trial count limit    says
            (["C", "none",    "0", "0", "3"],      "mainstay_group: expected A or B, found \"C\""),
            (["A", "fine",    "0", "0", "3"],      "mainstay_other: expected good, tried or none, found \"fine\""),
            (["A", "none",    "2", "0", "3"],      "upgrade_available: expected 0 or 1, found \"2\""),
            (["B", "tried",   "1", "x", "3"],      "bootcount: expected a decimal number, found \"x\""),
            (["B", "tried",   "1", "+1", "3"],     "bootcount: expected a decimal number, found \"+1\""),
            (["B", "tried",   "1", "0", "0"],      "bootlimit: expected a decimal number over 0, found \"0\""),
            (["B", "tried",   "1", "0", "0x3"],    "bootlimit: expected a decimal number over 0, found \"0x3\""),
        ];
        for (values, says) in cases {
            for fault in [
                Bootcount.state(&vars(values)).unwrap_err(),
                Bootcount.change(&vars(values), Op::MarkGood(Group::A)).unwrap_err(),
            ] {
                assert_eq!((fault.kind, fault.what.contains(says)), (FaultKind::Corrupt, true), "{fault}");
            }
        }
    }

    #[test]
    fn a_board_that_has_only_u_boots_own_variables_is_fresh() {
        let uboots: Vars = [(TRIAL, "0"), (COUNT, "1"), (LIMIT, "5")].into_iter().collect();
        assert_eq!(Bootcount.state(&uboots).unwrap_err().kind, FaultKind::NotFound);
        let fresh = uboots.with(&Bootcount.fresh());
        assert_eq!(Bootcount.state(&fresh).unwrap().select(), Some(Group::A));
    }
}
