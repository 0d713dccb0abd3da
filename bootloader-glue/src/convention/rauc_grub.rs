//! RAUC's convention on GRUB: for a fleet whose bootloader stays as it is.
//!
//! ```text
//! ORDER    bootnames, first to last; a group is never taken out of it
//! A_OK     1: may be booted
//! A_TRY    1: has been booted since it was last marked
//! B_OK, B_TRY
//! ```
//! One try only: contrib/grub.conf sets `x_TRY=1` before every boot, of a good group too, and mark good takes it back.
//! A trial that is armed with more tries gets that one (RAUC itself refuses `boot-attempts` here).
//!
//! Missing variables: what contrib/grub.conf sets before `load_env`: ORDER "A B", all else 0. Missing altogether is
//! NotFound: with these defaults nothing is bootable, so somebody has to mark a group good first.

use super::{Convention, Op, Step, Why, check_present, check_tries, digit, order::Order};
use crate::Result;
use crate::vars::{Change, Vars};
use mainstay_core::boot::{BootState, Group, GroupState};

/// The convention `rauc` on GRUB.
#[derive(Clone, Copy, Debug, Default)]
pub struct RaucGrub;

impl Convention for RaucGrub {
    fn name(&self) -> &'static str {
        "rauc"
    }

    fn names(&self) -> &'static [&'static str] {
        &["ORDER", "A_OK", "A_TRY", "B_OK", "B_TRY"]
    }

    fn fresh(&self) -> Vec<Change> {
        let mut changes = vec![Change::set("ORDER", "A B")];
        changes.extend(set(Group::A, true, false));
        changes.extend(set(Group::B, false, false));
        changes
    }

    fn tries_max(&self) -> u8 {
        1
    }

    fn state(&self, vars: &Vars) -> Result<BootState> {
        check_present(vars, self.names())?;
        let order = order(vars)?;
        let group = |group| -> Result<GroupState> {
            let (ok, tried) = (flag(vars, names(group).0)?, flag(vars, names(group).1)?);
            let priority = if ok { order.priority(group) } else { 0 };
            Ok(GroupState { priority, tries_left: u8::from(ok && !tried), good: None })
        };
        Ok(BootState { a: group(Group::A)?, b: group(Group::B)? })
    }

    fn change(&self, vars: &Vars, op: Op) -> Result<Vec<Change>> {
        self.state(vars)?;
        if let Op::ArmTrial(_, tries) = op {
            check_tries(tries)?;
        }
        Ok(match op {
            Op::Withdraw(g) | Op::MarkBad(g) => set(g, false, false).to_vec(),
            Op::ArmTrial(g, _) | Op::MarkGood(g) => {
                let mut changes = vec![Change::set("ORDER", order(vars)?.with_first(g).text())];
                changes.extend(set(g, true, false));
                changes
            }
        })
    }

    /// contrib/grub.conf: the first group of the order with OK=1 and TRY=0 gets TRY=1 (as does what was passed
    /// over before it); none: TRY=0 for the groups that are OK, and its rescue entry, which is none of the groups.
    fn script(&self, vars: &Vars) -> Vec<Step> {
        let flag = |name| digit(vars, name, 1) == Ok(1);
        let order = Order::read_leniently(&order_text(vars));
        let mut save = Vec::new();
        for group in order.groups().iter().copied() {
            let (ok, tried) = names(group);
            save.push(Change::set(tried, "1"));
            if flag(ok) && !flag(tried) {
                return vec![Step { save, load: Some((group, Why::Trial)) }];
            }
        }
        let save = Group::BOTH.map(|g| Change::set(names(g).1, if flag(names(g).0) { "0" } else { "1" }));
        vec![Step { save: save.to_vec(), load: None }]
    }
}

fn order_text(vars: &Vars) -> String {
    vars.text("ORDER").unwrap_or_else(|| "A B".into())
}

fn order(vars: &Vars) -> Result<Order> {
    Order::read("ORDER", &order_text(vars), true)
}

fn flag(vars: &Vars, name: &str) -> Result<bool> {
    if vars.get(name).is_none() { Ok(false) } else { Ok(digit(vars, name, 1)? == 1) }
}

fn set(group: Group, ok: bool, tried: bool) -> [Change; 2] {
    let digit = |is| if is { "1" } else { "0" };
    [Change::set(names(group).0, digit(ok)), Change::set(names(group).1, digit(tried))]
}

/// OK and TRY.
const fn names(group: Group) -> (&'static str, &'static str) {
    match group {
        Group::A => ("A_OK", "A_TRY"),
        Group::B => ("B_OK", "B_TRY"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_core::fault::FaultKind;

    fn vars(values: [&str; 5]) -> Vars {
        RaucGrub.names().iter().zip(values).collect()
    }

    #[test]
    fn each_op_makes_the_change_that_the_table_says_and_a_second_time_none() {
        use Group::*;
        use Op::*;
        #[rustfmt::skip]
        let cases = [
            // order A ok, try  B ok, try    op               after
            (["A B", "1", "0",  "1", "0"],   Withdraw(B),     ["A B", "1", "0", "0", "0"]),
            (["A B", "1", "1",  "0", "0"],   ArmTrial(B, 3),  ["B A", "1", "1", "1", "0"]),
            (["B A", "1", "0",  "1", "1"],   MarkGood(B),     ["B A", "1", "0", "1", "0"]),
            (["B A", "1", "0",  "1", "1"],   MarkBad(B),      ["B A", "1", "0", "0", "0"]),
            (["B A", "1", "1",  "1", "1"],   MarkGood(A),     ["A B", "1", "0", "1", "1"]),
        ];
        for (before, op, after) in cases {
            let before = vars(before);
            let changed = before.with(&RaucGrub.change(&before, op).unwrap());
            assert_eq!(changed, vars(after), "{op:?}");
            assert_eq!(
                changed.with(&RaucGrub.change(&changed, op).unwrap()),
                changed,
                "{op:?} is idempotent"
            );
        }
    }

    #[test]
    fn tried_and_fell_back_is_not_the_same_as_withdrawn() {
        let state = |b_ok, b_try| RaucGrub.state(&vars(["B A", "1", "0", b_ok, b_try])).unwrap();
        assert_eq!(state("1", "1").b, GroupState { priority: 2, tries_left: 0, good: None });
        assert_eq!(state("0", "0").b.priority, 0);
        assert_eq!(state("1", "1").select(), Some(Group::A));
    }

    #[test]
    fn a_flag_that_is_neither_0_nor_1_is_corrupt_and_no_variables_at_all_is_not_found() {
        let fault = RaucGrub.state(&vars(["A B", "2", "0", "0", "0"])).unwrap_err();
        assert_eq!((fault.kind, fault.what.contains("A_OK")), (FaultKind::Corrupt, true));
        assert_eq!(RaucGrub.state(&Vars::new()).unwrap_err().kind, FaultKind::NotFound);
    }
}
