//! The boot state as every variable convention can say it, and the rule by which a bootloader chooses.
//!
//! ```text
//! group   priority   tries left   good       the bootloader …
//! A       2          –            Some(true)   boots it, if nothing bootable stands before it
//! B       1          3            Some(false)  tries it, and takes one try before it jumps
//! B       1          0            Some(false)  passes over it: tried and fell back
//! B       0          0            –            passes over it: withdrawn, or marked bad
//! A       2          3            None         boots it and takes one try: the convention (RAUC on U-Boot) knows
//!                                              no "good", every boot is counted and reset by mark good
//! ```

/// A boot group: the slots that are booted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Group {
    /// The first.
    A,
    /// The second.
    B,
}

impl Group {
    /// Both, in order.
    pub const BOTH: [Group; 2] = [Group::A, Group::B];

    /// The other one.
    pub const fn other(self) -> Group {
        match self {
            Group::A => Group::B,
            Group::B => Group::A,
        }
    }

    /// `"A"` or `"B"`: as it stands in bootloader variables and on the kernel's command line.
    pub const fn name(self) -> &'static str {
        match self {
            Group::A => "A",
            Group::B => "B",
        }
    }

    /// Reads [`Group::name`].
    pub fn from_name(name: &str) -> Option<Group> {
        Group::BOTH.into_iter().find(|g| g.name() == name)
    }
}

impl core::fmt::Display for Group {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

/// What the bootloader knows of one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupState {
    /// Larger is tried earlier; 0: not in the boot order at all (withdrawn or marked bad).
    pub priority: u8,
    /// How many more times the bootloader tries it; means nothing where `good` is `Some(true)`.
    pub tries_left: u8,
    /// `Some(true)`: marked good. `Some(false)`: on trial, or given up. `None`: the convention does not say.
    pub good: Option<bool>,
}

impl GroupState {
    /// Neither good nor to be tried.
    pub const WITHDRAWN: GroupState = GroupState { priority: 0, tries_left: 0, good: Some(false) };

    /// May the bootloader boot it?
    pub const fn bootable(&self) -> bool {
        self.priority > 0 && (matches!(self.good, Some(true)) || self.tries_left > 0)
    }
}

/// What the bootloader knows of both groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootState {
    /// Group A.
    pub a: GroupState,
    /// Group B.
    pub b: GroupState,
}

impl BootState {
    /// The state of one group.
    pub const fn group(&self, group: Group) -> &GroupState {
        match group {
            Group::A => &self.a,
            Group::B => &self.b,
        }
    }

    /// The state of one group, to change.
    pub fn group_mut(&mut self, group: Group) -> &mut GroupState {
        match group {
            Group::A => &mut self.a,
            Group::B => &mut self.b,
        }
    }

    /// If nothing else can be booted, does this group come up? Where every boot is counted (`good` is not said), a
    /// bootloader gives a group in its order new tries once all are used up.
    pub const fn leaves_a_way_up(&self, group: Group) -> bool {
        let state = self.group(group);
        state.bootable() || (state.priority > 0 && state.good.is_none())
    }

    /// Which group the bootloader boots next: the bootable one of highest priority, A where they are equal.
    pub fn select(&self) -> Option<Group> {
        match (self.a.bootable(), self.b.bootable()) {
            (true, true) if self.b.priority > self.a.priority => Some(Group::B),
            (true, _) => Some(Group::A),
            (false, true) => Some(Group::B),
            (false, false) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn state(priority: u8, tries_left: u8, good: Option<bool>) -> GroupState {
        GroupState { priority, tries_left, good }
    }

    #[test]
    fn the_bootloader_takes_the_bootable_group_of_highest_priority() {
        let good = Some(true);
        let trial = Some(false);
        #[rustfmt::skip]
        let cases = [
            // A                     B                      next
            (state(2, 0, good),      state(1, 0, good),     Some(Group::A)),
            (state(1, 0, good),      state(2, 3, trial),    Some(Group::B)),
            (state(1, 0, good),      state(2, 0, trial),    Some(Group::A)),
            (state(1, 0, good),      state(0, 3, trial),    Some(Group::A)),
            (state(1, 1, None),      state(2, 1, None),     Some(Group::B)),
            (state(1, 1, None),      state(2, 0, None),     Some(Group::A)),
            (state(1, 0, trial),     state(2, 0, trial),    None),
            (state(0, 0, good),      state(0, 0, good),     None),
        ];
        for (a, b, next) in cases {
            assert_eq!(BootState { a, b }.select(), next, "{a:?} {b:?}");
        }
    }
}
