//! Our own convention: the same five variables on U-Boot and on GRUB.
//!
//! ```text
//! BOOT_ORDER    groups, first to last, filled with spaces to three characters: "A B", "B  ", "   "
//! BOOT_A_LEFT   tries left: one decimal digit
//! BOOT_A_GOOD   1: boot it, and count nothing; 0: each boot costs a try
//! BOOT_B_LEFT, BOOT_B_GOOD
//! ```
//! A good group is booted without a write of the environment: flash does not wear, and a power cut in the field
//! finds nothing half written.
//!
//! The order is three characters wide for two reasons. An empty value would be a missing variable to U-Boot, and
//! with it a fresh board, whose script calls A good: "nothing may be booted" would turn into "boot A". And in a
//! GRUB block no change of ours may move what stands behind it (see [`grub`](crate::grub)).
//!
//! # Missing and garbled variables
//! All five missing: the board is fresh (or has lost its environment), and [`Mainstay::state`] answers NotFound;
//! the script sets [`Mainstay::fresh`] at the next boot. Some missing, or a value that cannot be: the agent gets
//! Corrupt with the variable's name and touches nothing; the script goes on the safe side, where a garbled group is
//! not good and has no tries, and a missing order is "A B".

use super::{Convention, Op, Step, Why, check_present, check_tries, digit, order::Order};
use crate::Result;
use crate::vars::{Change, Vars};
use mainstay_core::boot::{BootState, Group, GroupState};
use mainstay_core::fault;
use mainstay_core::limits::TRIES_MAX;

/// The convention `mainstay`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mainstay;

impl Convention for Mainstay {
    fn name(&self) -> &'static str {
        "mainstay"
    }

    fn names(&self) -> &'static [&'static str] {
        &["BOOT_ORDER", "BOOT_A_LEFT", "BOOT_A_GOOD", "BOOT_B_LEFT", "BOOT_B_GOOD"]
    }

    fn fresh(&self) -> Vec<Change> {
        vec![
            set_order(&Order::read_leniently("A B")),
            set_left(Group::A, 0),
            set_good(Group::A, true),
            set_left(Group::B, 0),
            set_good(Group::B, false),
        ]
    }

    fn tries_max(&self) -> u8 {
        TRIES_MAX
    }

    fn state(&self, vars: &Vars) -> Result<BootState> {
        check_present(vars, self.names())?;
        let order = order(vars)?;
        let group = |group| -> Result<GroupState> {
            Ok(GroupState {
                priority: order.priority(group),
                tries_left: digit(vars, left(group), TRIES_MAX)?,
                good: Some(digit(vars, good(group), 1)? == 1),
            })
        };
        Ok(BootState { a: group(Group::A)?, b: group(Group::B)? })
    }

    fn change(&self, vars: &Vars, op: Op) -> Result<Vec<Change>> {
        self.state(vars)?; // garbled variables are not built upon
        let order = order(vars)?;
        Ok(match op {
            Op::Withdraw(g) | Op::MarkBad(g) => {
                vec![set_order(&order.without(g)), set_left(g, 0), set_good(g, false)]
            }
            Op::ArmTrial(g, tries) => {
                check_tries(tries)?;
                vec![set_order(&order.with_first(g)), set_left(g, tries), set_good(g, false)]
            }
            Op::MarkGood(g) => vec![set_order(&order.with_first(g)), set_left(g, 0), set_good(g, true)],
        })
    }

    /// ```text
    /// 1  all variables missing: set the fresh ones
    /// 2  each group of the order: good → boot it; tries left → take one, save, boot it; a failed load goes on here
    /// 3  nothing came up: wait; put the order's first group last, save, boot it; if that fails boot the other
    /// 4  reset
    /// ```
    /// Step 3 boots no group that is not in the order: what was withdrawn may be half written. Each time through it
    /// the other group has its turn, so one that hangs does not keep the other from its chance, and the wait keeps it
    /// to one write and one attempt per few minutes.
    fn script(&self, vars: &Vars) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut vars = vars.clone();
        if check_present(&vars, self.names()).is_err() {
            vars = vars.with(&self.fresh());
            steps.push(Step { save: self.fresh(), load: None });
        }
        let order = Order::read_leniently(&vars.text("BOOT_ORDER").unwrap_or_else(|| "A B".into()));
        for group in order.groups().iter().copied() {
            if digit(&vars, good(group), 1) == Ok(1) {
                steps.push(Step { save: Vec::new(), load: Some((group, Why::Good)) });
            } else if let Ok(tries @ 1..) = digit(&vars, left(group), TRIES_MAX) {
                steps.push(Step { save: vec![set_left(group, tries - 1)], load: Some((group, Why::Trial)) });
            }
        }
        steps.extend(last_resort(&order));
        steps
    }
}

fn last_resort(order: &Order) -> Vec<Step> {
    let load = |group| Some((group, Why::LastResort));
    match *order.groups() {
        [first, second] => vec![
            Step { save: vec![set_order(&order.clone().with_first(second))], load: load(first) },
            Step { save: Vec::new(), load: load(second) },
        ],
        [only] => vec![Step { save: Vec::new(), load: load(only) }],
        _ => Vec::new(),
    }
}

fn order(vars: &Vars) -> Result<Order> {
    let Some(text) = vars.text("BOOT_ORDER") else {
        return Err(fault!(
            Corrupt,
            "boot variable BOOT_ORDER: expected \"A B\" or its like, found no such variable"
        ));
    };
    Order::read("BOOT_ORDER", &text, false)
}

fn set_order(order: &Order) -> Change {
    Change::set("BOOT_ORDER", format!("{:3}", order.text()))
}

fn set_left(group: Group, tries: u8) -> Change {
    Change::set(left(group), tries.to_string())
}

fn set_good(group: Group, is: bool) -> Change {
    Change::set(good(group), if is { "1" } else { "0" })
}

const fn left(group: Group) -> &'static str {
    match group {
        Group::A => "BOOT_A_LEFT",
        Group::B => "BOOT_B_LEFT",
    }
}

const fn good(group: Group) -> &'static str {
    match group {
        Group::A => "BOOT_A_GOOD",
        Group::B => "BOOT_B_GOOD",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_core::fault::FaultKind;

    fn vars(order: &str, [al, ag, bl, bg]: [&str; 4]) -> Vars {
        Mainstay.names().iter().zip([order, al, ag, bl, bg]).collect()
    }

    fn show(vars: &Vars) -> String {
        Mainstay.names().iter().map(|n| vars.text(n).unwrap_or("-".into())).collect::<Vec<_>>().join("|")
    }

    #[test]
    fn each_op_makes_the_change_that_the_table_says_and_a_second_time_none() {
        use Group::*;
        use Op::*;
        #[rustfmt::skip]
        let cases = [
            // order  A left, good  B left, good   op               after
            ("A B", ["0", "1",      "0", "1"],     Withdraw(B),     "A  |0|1|0|0"),
            ("A  ", ["0", "1",      "0", "0"],     ArmTrial(B, 3),  "B A|0|1|3|0"),
            ("B A", ["0", "1",      "2", "0"],     MarkGood(B),     "B A|0|1|0|1"),
            ("B A", ["0", "1",      "2", "0"],     MarkBad(B),      "A  |0|1|0|0"),
            ("B A", ["0", "1",      "0", "0"],     MarkGood(A),     "A B|0|1|0|0"),
            ("B",   ["0", "0",      "2", "0"],     MarkGood(B),     "B  |0|0|0|1"),
            ("B",   ["0", "0",      "0", "1"],     Withdraw(B),     "   |0|0|0|0"),
            ("   ", ["0", "0",      "0", "0"],     ArmTrial(A, 9),  "A  |9|0|0|0"),
        ];
        for (order, digits, op, after) in cases {
            let before = vars(order, digits);
            let changed = before.with(&Mainstay.change(&before, op).unwrap());
            assert_eq!(show(&changed), after, "{op:?} of {}", show(&before));
            assert_eq!(
                changed.with(&Mainstay.change(&changed, op).unwrap()),
                changed,
                "{op:?} is idempotent"
            );
        }
    }

    #[test]
    fn tried_and_fell_back_is_not_the_same_as_withdrawn() {
        let fell_back = Mainstay.state(&vars("B A", ["0", "1", "0", "0"])).unwrap();
        assert_eq!(fell_back.b, GroupState { priority: 2, tries_left: 0, good: Some(false) });
        let withdrawn = Mainstay.state(&vars("A  ", ["0", "1", "0", "0"])).unwrap();
        assert_eq!(withdrawn.b, GroupState::WITHDRAWN);
        assert_eq!((fell_back.select(), withdrawn.select()), (Some(Group::A), Some(Group::A)));
    }

    #[test]
    fn garbled_variables_are_named_with_what_was_found_and_nothing_is_built_upon_them() {
        #[rustfmt::skip]
        let cases = [
            // order    A left, good  B left, good   says
            ("A A",     ["0", "1",    "0", "1"],     "BOOT_ORDER: expected A and B, each at most once, found \"A A\""),
            ("A C",     ["0", "1",    "0", "1"],     "found \"A C\""),
            ("A B",     ["a", "1",    "0", "1"],     "BOOT_A_LEFT: expected 0 to 9, found \"a\""),
            ("A B",     ["10", "1",   "0", "1"],     "found \"10\""),
            ("A B",     ["0", "1",    "", "1"],      "BOOT_B_LEFT: expected 0 to 9, found \"\""),
            ("A B",     ["0", "1",    "0", "2"],     "BOOT_B_GOOD: expected 0 to 1, found \"2\""),
        ];
        for (order, digits, says) in cases {
            let vars = vars(order, digits);
            for fault in [
                Mainstay.state(&vars).unwrap_err(),
                Mainstay.change(&vars, Op::MarkGood(Group::A)).unwrap_err(),
            ] {
                assert_eq!(fault.kind, FaultKind::Corrupt);
                assert!(fault.what.contains(says), "{}", fault.what);
            }
        }
        let mut partly = vars("A B", ["0", "1", "0", "0"]);
        partly.unset("BOOT_ORDER");
        assert!(Mainstay.state(&partly).unwrap_err().what.contains("BOOT_ORDER"));
        assert_eq!(Mainstay.state(&Vars::new()).unwrap_err().kind, FaultKind::NotFound);
    }

    #[test]
    fn tries_outside_of_one_digit_are_refused() {
        let vars = vars("A B", ["0", "1", "0", "0"]);
        for tries in [0, 10, 255] {
            let fault = Mainstay.change(&vars, Op::ArmTrial(Group::B, tries)).unwrap_err();
            assert_eq!(fault.kind, FaultKind::Refused, "{tries}");
        }
    }
}
