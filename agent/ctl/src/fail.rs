//! What an operator reads when something does not work: what was expected, what was found, and what to do.

use mainstay_core::fault::Fault;
use std::fmt;

/// What every function here answers.
pub type Result<T> = std::result::Result<T, Failure>;

/// Why it did not work, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What was expected and what was found.
    pub what: String,
    /// What to do, where there is something to do.
    pub todo: Option<String>,
}

impl Failure {
    /// Prefer [`fail!`](crate::fail!).
    pub fn new(what: String) -> Self {
        Failure { what, todo: None }
    }

    /// The same, with what to do about it.
    pub fn todo(self, todo: impl fmt::Display) -> Self {
        Failure { todo: Some(todo.to_string()), ..self }
    }

    /// The same, said from further out: `outer: inner`.
    pub fn within(self, outer: impl fmt::Display) -> Self {
        Failure { what: format!("{outer}: {}", self.what), ..self }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        match &self.todo {
            Some(todo) => write!(f, "\n  to do: {todo}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Failure::new(fault.what.as_str().to_owned())
    }
}

/// `fail!("{path}: expected …, found …")`
#[macro_export]
macro_rules! fail {
    ($($text:tt)*) => {
        $crate::fail::Failure::new(format!($($text)*))
    };
}

/// Says what was being done when something else failed.
pub trait Within<T> {
    /// `what: cause`
    fn within<D: fmt::Display>(self, what: impl FnOnce() -> D) -> Result<T>;
}

impl<T, E: Into<Failure>> Within<T> for std::result::Result<T, E> {
    fn within<D: fmt::Display>(self, what: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|e| e.into().within(what()))
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::NotFound => Failure::new("no such file or folder".into()),
            _ => Failure::new(error.to_string()),
        }
    }
}
