//! RAUC's convention on U-Boot: for a fleet whose bootloader stays as it is.
//!
//! ```text
//! BOOT_ORDER    bootnames, first to last; other words (a rescue slot) are kept behind the groups
//! BOOT_A_LEFT   attempts left; every boot costs one, mark good gives them back
//! BOOT_B_LEFT
//! ```
//! RAUC writes and reads the attempts in hexadecimal (src/bootloaders/uboot.c), U-Boot's own bootmeth_rauc in
//! decimal; up to nine the two are the same digit, and more is refused. RAUC's two writes for one change (order,
//! then attempts) are one here.
//!
//! Missing BOOT_ORDER: all groups, as RAUC and its script have it; missing attempts: 3, as its script has it. An order
//! without any group is read as a missing one by U-Boot, so a change that would leave none is refused.

use super::{Convention, Op, Step, Why, check_tries, digit, order::Order};
use crate::Result;
use crate::vars::{Change, Vars};
use mainstay_core::boot::{BootState, Group, GroupState};
use mainstay_core::fault;
use mainstay_core::limits::TRIES_MAX;

/// The convention `rauc` on U-Boot.
#[derive(Clone, Copy, Debug)]
pub struct RaucUboot {
    attempts: u8,
}

impl Default for RaucUboot {
    /// With RAUC's own three attempts.
    fn default() -> Self {
        RaucUboot { attempts: SCRIPT_ATTEMPTS }
    }
}

impl RaucUboot {
    /// `attempts`: what mark good gives a group, RAUC's `boot-attempts`. 1 to 9.
    pub fn new(attempts: u8) -> Result<Self> {
        check_tries(attempts)?;
        Ok(RaucUboot { attempts })
    }
}

impl Convention for RaucUboot {
    fn name(&self) -> &'static str {
        "rauc"
    }

    fn names(&self) -> &'static [&'static str] {
        &["BOOT_ORDER", "BOOT_A_LEFT", "BOOT_B_LEFT"]
    }

    fn fresh(&self) -> Vec<Change> {
        vec![Change::set("BOOT_ORDER", "A"), set_left(Group::A, self.attempts), set_left(Group::B, 0)]
    }

    fn tries_max(&self) -> u8 {
        TRIES_MAX
    }

    fn state(&self, vars: &Vars) -> Result<BootState> {
        let order = order(vars)?;
        let group = |group| -> Result<GroupState> {
            Ok(GroupState { priority: order.priority(group), tries_left: attempts(vars, group)?, good: None })
        };
        Ok(BootState { a: group(Group::A)?, b: group(Group::B)? })
    }

    fn change(&self, vars: &Vars, op: Op) -> Result<Vec<Change>> {
        self.state(vars)?;
        let order = order(vars)?;
        let (group, order, tries) = match op {
            Op::Withdraw(g) | Op::MarkBad(g) => (g, order.without(g), 0),
            Op::ArmTrial(g, tries) => {
                check_tries(tries)?;
                (g, order.with_first(g), tries)
            }
            Op::MarkGood(g) => (g, order.with_first(g), self.attempts),
        };
        if order.groups().is_empty() {
            return Err(fault!(
                Refused,
                "boot variable BOOT_ORDER: expected a group to be left, found none without {group}: RAUC's script \
                 would take an empty order for all groups"
            ));
        }
        Ok(vec![Change::set("BOOT_ORDER", order.text()), set_left(group, tries)])
    }

    /// contrib/uboot.sh: the first group of the order with attempts left; none left: three for each, and reset. A
    /// load that fails goes nowhere else before the next reset.
    fn script(&self, vars: &Vars) -> Vec<Step> {
        let order = Order::read_leniently(&order_text(vars));
        for group in order.groups().iter().copied() {
            if let Ok(left @ 1..) = attempts(vars, group) {
                return vec![Step { save: vec![set_left(group, left - 1)], load: Some((group, Why::Trial)) }];
            }
        }
        let all = vec![set_left(Group::A, SCRIPT_ATTEMPTS), set_left(Group::B, SCRIPT_ATTEMPTS)];
        vec![Step { save: all, load: None }]
    }
}

fn order_text(vars: &Vars) -> String {
    vars.text("BOOT_ORDER").filter(|text| !text.is_empty()).unwrap_or_else(|| "A B".into())
}

fn order(vars: &Vars) -> Result<Order> {
    Order::read("BOOT_ORDER", &order_text(vars), true)
}

fn attempts(vars: &Vars, group: Group) -> Result<u8> {
    match vars.get(left(group)) {
        None | Some(b"") => Ok(SCRIPT_ATTEMPTS),
        Some(_) => digit(vars, left(group), TRIES_MAX),
    }
}

fn set_left(group: Group, tries: u8) -> Change {
    Change::set(left(group), tries.to_string())
}

const fn left(group: Group) -> &'static str {
    match group {
        Group::A => "BOOT_A_LEFT",
        Group::B => "BOOT_B_LEFT",
    }
}

/// What contrib/uboot.sh gives a group that has no variable, and RAUC's default for boot-attempts.
const SCRIPT_ATTEMPTS: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_core::fault::FaultKind;

    fn vars(pairs: &[(&str, &str)]) -> Vars {
        pairs.iter().copied().collect()
    }

    #[test]
    fn each_op_makes_the_change_that_the_table_says_and_a_second_time_none() {
        use Group::*;
        use Op::*;
        #[rustfmt::skip]
        let cases = [
            // order   A    B     op               order    A    B
            ("A B",   "3", "3",   Withdraw(B),     "A",     "3", "0"),
            ("A",     "3", "0",   ArmTrial(B, 2),  "B A",   "3", "2"),
            ("B A",   "3", "1",   MarkGood(B),     "B A",   "3", "3"),
            ("B A",   "3", "1",   MarkBad(B),      "A",     "3", "0"),
            ("B A R", "1", "0",   MarkGood(A),     "A B R", "3", "0"),
            ("A R B", "3", "3",   Withdraw(B),     "A R",   "3", "0"),
        ];
        for (order, a, b, op, order_after, a_after, b_after) in cases {
            let before = vars(&[("BOOT_ORDER", order), ("BOOT_A_LEFT", a), ("BOOT_B_LEFT", b)]);
            let convention = RaucUboot::default();
            let changed = before.with(&convention.change(&before, op).unwrap());
            let after =
                vars(&[("BOOT_ORDER", order_after), ("BOOT_A_LEFT", a_after), ("BOOT_B_LEFT", b_after)]);
            assert_eq!(changed, after, "{op:?}");
            assert_eq!(
                changed.with(&convention.change(&changed, op).unwrap()),
                changed,
                "{op:?} is idempotent"
            );
        }
    }

    #[test]
    fn without_variables_every_group_is_there_with_three_attempts() {
        let state = RaucUboot::default().state(&Vars::new()).unwrap();
        assert_eq!(state.a, GroupState { priority: 2, tries_left: 3, good: None });
        assert_eq!(state.b, GroupState { priority: 1, tries_left: 3, good: None });
    }

    #[test]
    fn attempts_that_rauc_and_bootmeth_rauc_would_read_differently_are_refused() {
        let fault = RaucUboot::default().state(&vars(&[("BOOT_A_LEFT", "a")])).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Corrupt);
        assert!(RaucUboot::new(10).is_err() && RaucUboot::new(0).is_err() && RaucUboot::new(9).is_ok());
    }

    #[test]
    fn the_last_group_is_not_taken_out_of_the_order() {
        let vars = vars(&[("BOOT_ORDER", "A")]);
        let fault = RaucUboot::default().change(&vars, Op::Withdraw(Group::A)).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Refused);
    }
}
