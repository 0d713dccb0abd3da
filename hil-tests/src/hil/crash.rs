//! `cargo hil --crash …`: the crash points, which are a program of their own: `mainstay-crash` stands on this crate, so this crate
//! cannot call it. Its words follow; `cargo hil --crash --help` says which there are.

use crate::programs::cargo;
use crate::{Doing, Result};
use std::ffi::OsString;

/// What follows `--crash`, if that is what was asked for.
pub fn words(args: impl IntoIterator<Item = OsString>) -> Option<Vec<OsString>> {
    // The program's name, and the `--` that a person types behind the alias' own.
    let mut words = args.into_iter().skip(1).skip_while(|word| word == "--");
    (words.next()? == "--crash").then(|| words.collect())
}

/// Runs them; `true`: all is as it has to be.
pub fn crash(words: &[OsString]) -> Result<bool> {
    let mut cargo = cargo();
    cargo.args(["run", "--quiet", "--package", "mainstay-crash", "--bin", "crash-points", "--"]).args(words);
    Ok(cargo.status().doing(|| "starting cargo")?.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_word_asks_for_crash_points_and_all_others_are_theirs() {
        let asked = |line: &str| words(line.split(' ').map(OsString::from));
        assert_eq!(asked("hil --crash --points 9"), Some(vec!["--points".into(), "9".into()]));
        assert_eq!(asked("hil -- --crash"), Some(vec![]));
        assert_eq!(asked("hil --list --crash"), None);
        assert_eq!(asked("hil"), None);
    }
}
