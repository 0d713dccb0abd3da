//! What went wrong on the bench or on a machine, in words: a person reads it, nothing decides by it.

use std::fmt::{self, Display};

/// What was being done, and what came of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Trouble(String);

/// What the bench's functions answer.
pub type Result<T> = std::result::Result<T, Trouble>;

impl Trouble {
    /// From a sentence.
    pub fn new(what: impl Display) -> Self {
        Trouble(what.to_string())
    }
}

impl Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Trouble {
    /// As a sentence too: `main` and `unwrap` print this one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Trouble {}

/// Says what was being done when something else's error arrives.
pub trait Doing<T> {
    /// `what: error`
    fn doing<W: Display>(self, what: impl FnOnce() -> W) -> Result<T>;
}

impl<T, E: Display> Doing<T> for std::result::Result<T, E> {
    fn doing<W: Display>(self, what: impl FnOnce() -> W) -> Result<T> {
        self.map_err(|error| Trouble(format!("{}: {error}", what())))
    }
}

impl<T> Doing<T> for Option<T> {
    fn doing<W: Display>(self, what: impl FnOnce() -> W) -> Result<T> {
        self.ok_or_else(|| Trouble(what().to_string()))
    }
}
