//! Runs the host's tools (mkfs, mtools, debugfs, grub-mkimage …) and says what they said when they fail.

use crate::{Doing, Result, Trouble};
use std::ffi::OsStr;
use std::io::Write;
use std::process::{Command, Output, Stdio};

/// Where Debian keeps the tools that only root has on the path.
const SYSTEM_FOLDERS: &str = "/usr/sbin:/sbin:/usr/bin:/bin";

/// A tool of the host, found also where only root looks, speaking English, with nothing to read.
pub fn tool(name: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(name);
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:{SYSTEM_FOLDERS}")).env("LC_ALL", "C").env("TZ", "UTC0");
    command.stdin(Stdio::null());
    command
}

/// Runs it to its end; what it printed. A failure says what it said.
pub fn output(command: &mut Command) -> Result<Vec<u8>> {
    let output = command.output().doing(|| described(command))?;
    judged(command, output).map(|output| output.stdout)
}

/// The same, with something to read; what it printed, also on standard error.
pub fn output_of_input(command: &mut Command, input: &[u8]) -> Result<Output> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().doing(|| described(command))?;
    let mut pipe = child.stdin.take().doing(|| described(command))?;
    let input = input.to_vec();
    // On a thread of its own: a tool that prints while it reads would else wait for us, and we for it.
    let writer = std::thread::spawn(move || pipe.write_all(&input));
    let output = child.wait_with_output().doing(|| described(command))?;
    let written = writer.join().map_err(|_| Trouble::new("a writing thread panicked"))?;
    let output = judged(command, output)?;
    written.doing(|| described(command))?;
    Ok(output)
}

fn judged(command: &Command, output: Output) -> Result<Output> {
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Trouble::new(format!("{}: {}: {}", described(command), output.status, said.trim())))
}

fn described(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}
