//! What no single line of a board file can say: that both groups have the same slots, and that nothing lies on
//! top of something else.
//!
//! Decides by names and numbers alone. Two names for one device (a symbolic link, a partition and a range of the
//! whole disk) are found when the slots are opened: [`BoardSlots`](crate::slots::BoardSlots) compares the real
//! extents then.

use std::path::{Component, Path};

use mainstay_core::boot::Group;

use super::{Board, EnvironmentSpec, Part, SlotSpec};
use crate::toml_file::{Result, Table, TomlError};

pub(super) fn board(board: &Board, top: &Table<'_>) -> Result<()> {
    each_slot_once(board)?;
    same_classes(board, top)?;
    no_two_slots_overlap(board)?;
    environment_apart(board)
}

fn each_slot_once(board: &Board) -> Result<()> {
    for (i, slot) in board.slots.iter().enumerate() {
        let twin = board.slots.iter().take(i).find(|s| s.group == slot.group && s.class == slot.class);
        if let Some(twin) = twin {
            let what = format!(
                "expected one slot of group {} for class {}, found another in line {}",
                slot.group, slot.class, twin.line
            );
            return Err(at_slot(board, i, "class", what));
        }
    }
    Ok(())
}

fn same_classes(board: &Board, top: &Table<'_>) -> Result<()> {
    for (i, slot) in board.slots.iter().enumerate() {
        if board.slot(slot.group.other(), &slot.class).is_none() {
            let what = format!(
                "expected a slot for class {} in group {} too, found it only in group {}",
                slot.class,
                slot.group.other(),
                slot.group
            );
            return Err(at_slot(board, i, "class", what));
        }
    }
    for group in Group::BOTH {
        if !board.slots.iter().any(|s| s.group == group) {
            return Err(
                top.error("slot", format!("expected slots of both groups, found none of group {group}"))
            );
        }
    }
    Ok(())
}

fn no_two_slots_overlap(board: &Board) -> Result<()> {
    for (i, slot) in board.slots.iter().enumerate() {
        for other in board.slots.iter().take(i) {
            if same_path(&slot.device, &other.device) && parts_overlap(&slot.part, &other.part) {
                let what = format!(
                    "expected a place of its own, found that it overlaps {} of group {} in line {}",
                    other.class, other.group, other.line
                );
                return Err(at_slot(board, i, "device", what));
            }
        }
    }
    Ok(())
}

fn environment_apart(board: &Board) -> Result<()> {
    let copies = board.boot.bootloader.environment();
    for (i, slot) in board.slots.iter().enumerate() {
        for copy in copies {
            // One that is counted from the end is compared when the slot is opened, unless the slot is everything.
            let range = u64::try_from(copy.offset).map(|offset| Part::Range { offset, size: copy.size });
            let inside = range.map_or(slot.part == Part::Whole, |range| parts_overlap(&slot.part, &range));
            if inside && same_path(&slot.device, &copy.path) {
                let what = format!(
                    "expected a place apart from the bootloader's environment, found it inside \
                     (offset {}, {} bytes)",
                    copy.offset, copy.size
                );
                return Err(at_slot(board, i, "device", what));
            }
        }
    }
    Ok(())
}

pub(super) fn copies_overlap(first: &EnvironmentSpec, second: &EnvironmentSpec) -> bool {
    let end = |copy: &EnvironmentSpec| copy.offset.saturating_add_unsigned(copy.size);
    let same_side = (first.offset < 0) == (second.offset < 0);
    same_side
        && same_path(&first.path, &second.path)
        && first.offset < end(second)
        && second.offset < end(first)
}

/// Do two parts of one device share a byte, as far as the file alone can say? A partition beside a range, or two
/// selectors that may name the same partition (a number and a label), are left to the opening.
fn parts_overlap(a: &Part, b: &Part) -> bool {
    match (a, b) {
        (Part::Whole, _) | (_, Part::Whole) => true,
        (Part::Partition(a), Part::Partition(b)) => a.eq_ignore_ascii_case(b),
        (Part::Range { offset: a, size: a_size }, Part::Range { offset: b, size: b_size }) => {
            ranges_overlap((*a, *a_size), (*b, *b_size))
        }
        (Part::Partition(_), Part::Range { .. }) | (Part::Range { .. }, Part::Partition(_)) => false,
    }
}

fn ranges_overlap((a, a_size): (u64, u64), (b, b_size): (u64, u64)) -> bool {
    a < b.saturating_add(b_size) && b < a.saturating_add(a_size)
}

/// Equal but for `.` components.
fn same_path(a: &Path, b: &Path) -> bool {
    let plain = |p| Path::components(p).filter(|c| *c != Component::CurDir);
    plain(a).eq(plain(b))
}

fn at_slot(board: &Board, index: usize, key: &str, what: String) -> TomlError {
    let line = board.slots.get(index).map_or(0, |slot: &SlotSpec| slot.line);
    TomlError::new(&board.file, line, format!("slot[{index}].{key}"), what)
}
