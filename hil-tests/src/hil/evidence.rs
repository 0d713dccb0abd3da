//! What is kept of a failure, where somebody may look at it:
//!
//! ```text
//! FOLDER/failures/qemu-x86-bios/3/serial.log            the console from the factory to the failure
//!                                 environment-before    NAME=VALUE, before the case
//!                                 environment-after     and after it
//!                                 claims                what was claimed, and what was found
//! ```

use crate::bench::Evidence;
use crate::scenario::Played;
use crate::{Doing, Result};
use std::path::{Path, PathBuf};

/// Where in the folder.
const FAILURES: &str = "failures";
/// How much of the console a failure shows at once.
const LINES: usize = 30;

/// Takes away what an earlier run has kept, so that what is there is of this one.
pub fn forget(folder: &Path) -> Result<()> {
    let failures = folder.join(FAILURES);
    match std::fs::remove_dir_all(&failures) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
    .doing(|| failures.display().to_string())
}

/// Writes it; where it is.
pub fn keep(folder: &Path, board: &str, played: &Played) -> Result<Option<PathBuf>> {
    let Some((before, after)) = &played.evidence else { return Ok(None) };
    let plain = |text: &str| text.replace(['/', ' '], "-");
    let case = match played.case {
        "" => played.number.to_string(),
        case => format!("{}-{}", played.number, plain(case)),
    };
    let folder = folder.join(FAILURES).join(plain(board)).join(case);
    std::fs::create_dir_all(&folder).doing(|| folder.display().to_string())?;
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).doing(|| path.display().to_string())
    };
    write("serial.log", &after.console)?;
    write("environment-before", &(before.environment.join("\n") + "\n"))?;
    write("environment-after", &(after.environment.join("\n") + "\n"))?;
    write("claims", &(played.table.clone() + "\n"))?;
    Ok(Some(folder))
}

/// The last lines of the console, and the variables that differ.
pub fn in_short(before: &Evidence, after: &Evidence) -> String {
    let lines: Vec<&str> = after.console.lines().collect();
    let tail = lines.get(lines.len().saturating_sub(LINES)..).unwrap_or_default();
    let mut out: Vec<String> = tail.iter().map(|line| format!("      | {}", line.trim_end())).collect();
    let differs = |one: &Evidence, other: &Evidence, mark: &str| {
        let gone = one.environment.iter().filter(|line| !other.environment.contains(line));
        gone.map(|line| format!("      {mark} {line}")).collect::<Vec<_>>()
    };
    let changes = [differs(before, after, "-"), differs(after, before, "+")].concat();
    let said = if changes.is_empty() { "is as it was before" } else { "before (-) and after (+):" };
    out.push(format!("      the environment {said}"));
    out.extend(changes);
    out.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence(console: &str, environment: &[&str]) -> Evidence {
        let environment = environment.iter().map(|line| (*line).to_owned()).collect();
        Evidence { console: console.into(), environment }
    }

    #[test]
    fn the_end_of_the_console_is_shown_and_the_variables_that_changed() {
        let console: String = (0..100).map(|line| format!("line {line}\r\n")).collect();
        let before = evidence("", &["BOOT_ORDER=A B", "BOOT_B_LEFT=0"]);
        let after = evidence(&console, &["BOOT_ORDER=B A", "BOOT_B_LEFT=0"]);
        let text = in_short(&before, &after);
        assert!(!text.contains("line 69\n") && text.starts_with("      | line 70\n"), "{text}");
        assert!(text.ends_with("      - BOOT_ORDER=A B\n      + BOOT_ORDER=B A"), "{text}");
        assert!(!text.contains("BOOT_B_LEFT"), "{text}");
        assert!(in_short(&before, &before).ends_with("is as it was before"));
    }
}
