//! What every command needs: cargo, the workspace's folder, and whether a tool is there.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The folder of the workspace.
pub fn workspace() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// Where cargo builds into.
pub fn target_dir() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => workspace().join(folder),
        None => workspace().join("target"),
    }
}

/// The cargo that started us, without what it told us of this package: build scripts that look at those variables (ring's
/// does) would run anew each time.
pub fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace()).stdin(Stdio::null());
    let ours = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"];
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| ours.iter().any(|ours| name.starts_with(ours))) {
            cargo.env_remove(name);
        }
    }
    cargo
}

/// Is `program` on the path?
pub fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// What a program prints, trimmed; its own words where it fails.
pub fn output(command: &mut Command) -> Result<String, String> {
    let said = |name: &OsStr, what: &dyn std::fmt::Display| format!("{}: {what}", name.to_string_lossy());
    let name = command.get_program().to_owned();
    let output = command.output().map_err(|e| said(&name, &e))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        false => Err(said(&name, &String::from_utf8_lossy(&output.stderr).trim())),
    }
}
