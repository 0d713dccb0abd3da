//! What can be wrong with a disk that a power cut has left.

use std::fmt;

/// Classes of faults: the columns of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// The bootloader finds nothing to boot, or only its last resort.
    Unbootable,
    /// It boots a group that the update had not chosen, or no longer.
    WrongGroup,
    /// It boots, or could boot, what is neither the image from before nor the new one, whole.
    Unverified,
    /// What the agent had made durable, or had told its operator, is gone: the state cannot be read, the outcome is
    /// forgotten, the floor fell, the audit log's chain is broken.
    LostRecords,
    /// The bootloader's variables cannot be read. What it does then shows in the other columns.
    LostEnvironment,
}

impl Class {
    /// All, in the order of the table.
    pub const ALL: [Class; 5] =
        [Class::Unbootable, Class::WrongGroup, Class::Unverified, Class::LostRecords, Class::LostEnvironment];

    /// As the table's head calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Class::Unbootable => "unbootable",
            Class::WrongGroup => "wrong group",
            Class::Unverified => "unverified",
            Class::LostRecords => "lost records",
            Class::LostEnvironment => "lost environment",
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Of which class.
    pub class: Class,
    /// What was expected, and what was found.
    pub what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.class.name(), self.what)
    }
}

/// All that is wrong at one point. Empty: nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// In the order in which it was found.
    pub faults: Vec<Fault>,
}

impl Verdict {
    /// Is anything of this class wrong?
    pub fn has(&self, class: Class) -> bool {
        self.faults.iter().any(|fault| fault.class == class)
    }

    /// Is nothing wrong?
    pub const fn sound(&self) -> bool {
        self.faults.is_empty()
    }

    pub(super) fn fault(&mut self, class: Class, what: impl fmt::Display) {
        self.faults.push(Fault { class, what: what.to_string() });
    }
}
