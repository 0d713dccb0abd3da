//! The variables of an environment, in the order in which they stand there.
//!
//! Most of them belong to somebody else (`bootcmd`, `saved_entry`, …). They are bytes, not text, and a change of
//! ours leaves each of them at its place. Which names and values can be written is the codecs' business.

use core::fmt;

/// One line of an environment.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name; or, where `value` is `None`, the whole line.
    pub name: Vec<u8>,
    /// The value, unescaped. `None`: a line that is no variable (a comment; text without `=`), kept as it is.
    pub value: Option<Vec<u8>>,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", String::from_utf8_lossy(&self.name))?;
        self.value.as_ref().map_or(Ok(()), |value| write!(f, "={}", String::from_utf8_lossy(value)))
    }
}

/// A variable's new value, or `None` to remove it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which variable.
    pub name: String,
    /// What it shall be.
    pub value: Option<String>,
}

impl Change {
    /// `name=value`
    pub fn set(name: impl Into<String>, value: impl Into<String>) -> Change {
        Change { name: name.into(), value: Some(value.into()) }
    }
}

/// All lines of an environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vars {
    entries: Vec<Entry>,
}

impl Vars {
    /// No variables.
    pub fn new() -> Vars {
        Vars::default()
    }

    /// The value of `name`. Where a name stands twice the later one counts, as in U-Boot's import and GRUB's
    /// `load_env`.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.entries.iter().rev().find(|e| e.is(name)).and_then(|e| e.value.as_deref())
    }

    /// The value of `name` for reading by people and conventions: what is not UTF-8 is shown as U+FFFD, which no
    /// convention accepts.
    pub fn text(&self, name: &str) -> Option<String> {
        self.get(name).map(|value| String::from_utf8_lossy(value).into_owned())
    }

    /// Gives `name` a value: at its place if it stands there already (once, if it stood there twice), else at the end.
    pub fn set(&mut self, name: &str, value: impl AsRef<[u8]>) {
        let value = Some(value.as_ref().to_vec());
        let Some(last) = self.entries.iter().rposition(|e| e.is(name)) else {
            self.entries.push(Entry { name: name.as_bytes().to_vec(), value });
            return;
        };
        let mut at = 0;
        self.entries.retain(|e| {
            at += 1;
            at - 1 == last || !e.is(name)
        });
        if let Some(entry) = self.entries.iter_mut().find(|e| e.is(name)) {
            entry.value = value;
        }
    }

    /// Removes `name`; says whether it was there.
    pub fn unset(&mut self, name: &str) -> bool {
        let before = self.entries.len();
        self.entries.retain(|e| !e.is(name));
        before != self.entries.len()
    }

    /// A copy with all of `changes` made.
    pub fn with(&self, changes: &[Change]) -> Vars {
        let mut vars = self.clone();
        for change in changes {
            match &change.value {
                Some(value) => vars.set(&change.name, value),
                None => _ = vars.unset(&change.name),
            }
        }
        vars
    }

    /// Moves the variables `names` to the front, in that order, behind leading lines that are no variables.
    pub(crate) fn move_to_front(&mut self, names: &[&str]) {
        let head = self.entries.iter().take_while(|e| e.value.is_none()).count();
        let rest = self.entries.split_off(head);
        let (mut front, back): (Vec<_>, Vec<_>) =
            rest.into_iter().partition(|e| names.iter().any(|n| e.is(n)));
        front.sort_by_key(|e| names.iter().position(|n| e.is(n)));
        self.entries.extend(front);
        self.entries.extend(back);
    }

    /// Every line, in order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(crate) fn push(&mut self, entry: Entry) {
        self.entries.push(entry);
    }
}

impl Entry {
    fn is(&self, name: &str) -> bool {
        self.value.is_some() && self.name == name.as_bytes()
    }
}

impl<N: AsRef<str>, V: AsRef<[u8]>> FromIterator<(N, V)> for Vars {
    fn from_iter<T: IntoIterator<Item = (N, V)>>(pairs: T) -> Vars {
        let mut vars = Vars::new();
        for (name, value) in pairs {
            vars.set(name.as_ref(), value);
        }
        vars
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_leaves_every_other_variable_at_its_place() {
        let vars: Vars = [("a", "1"), ("b", "2"), ("c", "3")].into_iter().collect();
        let changed = vars.with(&[
            Change::set("b", "9"),
            Change::set("d", "4"),
            Change { name: "a".into(), value: None },
        ]);
        assert_eq!(format!("{:?}", changed.entries()), "[b=9, c=3, d=4]");
    }

    #[test]
    fn of_two_entries_of_one_name_the_later_counts_and_one_is_left_after_a_change() {
        let mut vars = Vars::new();
        for (name, value) in [("a", "1"), ("b", "2"), ("a", "3")] {
            vars.push(Entry { name: name.into(), value: Some(value.into()) });
        }
        assert_eq!(vars.get("a"), Some(&b"3"[..]));
        vars.set("a", "4");
        assert_eq!(format!("{:?}", vars.entries()), "[b=2, a=4]");
        vars.set("a", "5");
        assert_eq!(vars.get("a"), Some(&b"5"[..]));
    }

    #[test]
    fn variables_moved_to_the_front_stand_behind_the_leading_comments() {
        let mut vars = Vars::new();
        vars.push(Entry { name: b"# head".to_vec(), value: None });
        for name in ["x", "b", "a"] {
            vars.set(name, "1");
        }
        vars.move_to_front(&["a", "b"]);
        assert_eq!(format!("{:?}", vars.entries()), "[# head, a=1, b=1, x=1]");
    }
}
