//! The two programs under test, built by the cargo that started us, in the profile that is quickest to build.

use crate::{Doing, Result, Trouble};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

/// Where they are.
#[derive(Clone, Debug)]
pub struct Programs {
    /// `mainstay`: the device binary.
    pub agent: PathBuf,
    /// `mainstayctl`: the operator's tool.
    pub ctl: PathBuf,
}

impl Programs {
    /// Builds both; cargo says on standard error how far it is.
    pub fn build() -> Result<Programs> {
        let messages = build(&["mainstay", "mainstayctl"])?;
        Ok(Programs { agent: executable(&messages, "mainstay")?, ctl: executable(&messages, "mainstayctl")? })
    }

    /// The device binary of another build ([`OTHER_BUILD`](crate::bench::OTHER_BUILD)), kept apart from cargo's own, which is
    /// built again as it was. Both take seconds: only the package itself is compiled.
    pub fn other_agent() -> Result<PathBuf> {
        // Two at once would take each other's build for theirs.
        static BUILT: Mutex<Option<PathBuf>> = Mutex::new(None);
        let mut there = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(other) = &*there {
            return Ok(other.clone());
        }
        let built = executable(&build_with(&["mainstay"], Some(crate::bench::OTHER_BUILD))?, "mainstay")?;
        let other = built.with_file_name("mainstay-other");
        std::fs::copy(&built, &other).doing(|| other.display().to_string())?;
        build(&["mainstay"])?;
        *there = Some(other.clone());
        Ok(other)
    }

    /// With a device binary that is there already.
    pub fn with_agent(agent: &Path) -> Result<Programs> {
        let agent = there_already(agent)?;
        let messages = build(&["mainstayctl"])?;
        Ok(Programs { agent, ctl: executable(&messages, "mainstayctl")? })
    }

    /// The same with an operator's tool that packs delta routes as quickly as it can.
    pub fn with_agent_and_optimized_tool(agent: &Path) -> Result<Programs> {
        Ok(Programs { agent: there_already(agent)?, ctl: optimized("mainstayctl")? })
    }
}

/// A program of somebody else's, where it is installed: on the path, or where Debian puts what only root needs.
pub fn installed(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(USUAL_PLACES.map(PathBuf::from));
    folders.map(|folder| folder.join(program)).find(|program| program.is_file())
}

const USUAL_PLACES: [&str; 2] = ["/usr/sbin", "/usr/local/sbin"];

fn there_already(agent: &Path) -> Result<PathBuf> {
    match agent.is_file() {
        true => Ok(agent.to_owned()),
        false => Err(Trouble::new(format!("{}: expected the device binary", agent.display()))),
    }
}

/// The static device binary for a target, built by `cargo xtask dist`: what goes into machines; `suffix`: to its version. One
/// that is there already is named by MAINSTAY_LAB_AGENT.
pub fn static_agent(triple: &str, suffix: Option<&str>) -> Result<PathBuf> {
    if let (Some(there), None) = (std::env::var_os("MAINSTAY_LAB_AGENT"), suffix) {
        return Ok(PathBuf::from(there));
    }
    let mut cargo = cargo();
    match suffix {
        Some(suffix) => cargo.env("MAINSTAY_BUILD", suffix),
        None => cargo.env_remove("MAINSTAY_BUILD"),
    };
    cargo.args(["xtask", "dist", "--target", triple]).stdin(Stdio::null()).stdout(Stdio::null());
    let status = cargo.status().doing(|| "starting cargo, which has to be on the path")?;
    if !status.success() {
        return Err(Trouble::new(format!("the device binary: cargo xtask dist --target {triple}: {status}")));
    }
    Ok(target().join("dist").join(triple).join("mainstay"))
}

/// A program of the workspace as its users have it, optimized: for what its own time and memory are measured of. Package and
/// program have one name.
pub fn optimized(name: &str) -> Result<PathBuf> {
    let mut cargo = cargo();
    cargo.args(["build", "--profile", "tool", "--package", name, "--bin", name]);
    cargo.args(["--message-format", "json-render-diagnostics"]);
    let output = cargo.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.doing(|| "starting cargo, which has to be on the path")?;
    match output.status.success() {
        true => executable(&String::from_utf8_lossy(&output.stdout), name),
        false => Err(Trouble::new(format!("cargo build of {name}: {}", output.status))),
    }
}

/// cargo's target folder.
pub fn target() -> PathBuf {
    let told = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    told.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("target"))
}

/// Builds programs; cargo's messages. The packages that are selected are those that this one depends on, and it: so
/// all dependencies have the features that they were built with for this program, and are not built anew.
fn build(programs: &[&str]) -> Result<String> {
    build_with(programs, None)
}

/// As [`build`], with a suffix to the agent's version.
fn build_with(programs: &[&str], suffix: Option<&str>) -> Result<String> {
    let mut cargo = cargo();
    match suffix {
        Some(suffix) => cargo.env("MAINSTAY_BUILD", suffix),
        None => cargo.env_remove("MAINSTAY_BUILD"),
    };
    cargo.args(["build", "--package", "mainstay-hil", "--package", "mainstay", "--package", "mainstayctl"]);
    cargo.args(programs.iter().flat_map(|program| ["--bin", program]));
    cargo.args(["--message-format", "json-render-diagnostics"]);
    let output = cargo.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.doing(|| "starting cargo, which has to be on the path")?;
    if !output.status.success() {
        return Err(Trouble::new(format!("cargo build of {}: {}", programs.join(" and "), output.status)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The cargo that started us, in the workspace's folder. What it told us of this package must not reach it again: build
/// scripts that look at those variables (ring's does) would run anew each time.
pub fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    forget_this_package(&mut cargo);
    cargo
}

/// Keeps from a command what cargo told us of this package: see [`cargo`].
pub fn forget_this_package(command: &mut Command) {
    let ours = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"];
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| ours.iter().any(|ours| name.starts_with(ours))) {
            command.env_remove(name);
        }
    }
}

/// The path of an executable in cargo's messages (The Cargo Book, "External tools": one JSON object a line).
fn executable(messages: &str, name: &str) -> Result<PathBuf> {
    let found = messages.lines().filter_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let ours = message["reason"] == "compiler-artifact" && message["target"]["name"] == name;
        message["executable"].as_str().filter(|_| ours).map(PathBuf::from)
    });
    found.reduce(|_, last| last).doing(|| format!("cargo built no {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_executable_is_found_in_cargo_s_messages_and_a_library_of_its_name_is_not() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"mainstay"},"executable":null}
{"reason":"compiler-artifact","target":{"name":"mainstay"},"executable":"/t/debug/mainstay"}
{"reason":"build-finished","success":true}"#;
        assert_eq!(executable(messages, "mainstay").unwrap(), Path::new("/t/debug/mainstay"));
        assert!(executable(messages, "mainstayctl").is_err());
    }
}
