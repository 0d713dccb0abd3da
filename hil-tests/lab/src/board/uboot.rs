//! What the boards with U-Boot share: its default environment as a text, where its copies stand, its boot script in the
//! form that it loads, and its console.

use crate::disk::{Disk, EPOCH_S};
use crate::machine::{Log, Machine};
use crate::run::{output, tool};
use crate::{Doing, Result, Trouble};
use mainstay_bootloader_glue::{Format, Vars};
use std::path::Path;
use std::time::Duration;

/// Our boot script, unchanged.
const SCRIPT: &str = include_str!("../../../../bootloader-glue/scripts/mainstay-boot.cmd");
/// U-Boot answers a line within 0.1 s of CPU, and gets through a `saveenv` and a reset to its first line in 0.3 s.
const PATIENCE: Duration = Duration::from_secs(30);
/// What the boot script tells people to type when nothing is left to boot; a group that is not in the order stays out of it.
pub const REPAIR: &str = "setenv BOOT_A_LEFT 3; setenv BOOT_B_LEFT 3; saveenv; reset";
/// How a line ends at whose end U-Boot waits for a command.
const PROMPT: &str = "=> ";

/// Where the copies of an environment stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvironmentPlace {
    /// How they are stored.
    pub format: Format,
    /// The partition that they stand in.
    pub partition: &'static str,
    /// Where in it each of them begins, in bytes.
    pub offsets: Vec<u64>,
}

impl EnvironmentPlace {
    /// The copies, as the disk's file holds them now.
    pub fn copies(&self, disk: &Disk) -> Result<Vec<Vec<u8>>> {
        let read = |offset: &u64| {
            let mut copy = vec![0; self.format.copy_bytes()];
            disk.read(self.partition, *offset, &mut copy).map(|()| copy)
        };
        self.offsets.iter().map(read).collect()
    }

    /// The variables.
    pub fn read(&self, disk: &Disk) -> Result<Vars> {
        let copies = self.copies(disk)?;
        Ok(self.format.parse(&copies).doing(|| "U-Boot's environment")?.vars().clone())
    }

    /// Writes all copies, as a factory does.
    pub fn write(&self, disk: &Disk, vars: &Vars) -> Result<()> {
        let copies = self.format.blank(vars, &[]).doing(|| "U-Boot's environment")?;
        self.offsets
            .iter()
            .zip(copies)
            .try_for_each(|(offset, copy)| disk.write(self.partition, *offset, &copy))
    }
}

/// Reads a default environment as people write it: lines of `name=value`, of which a later one replaces an earlier one; a
/// line that ends with `\` goes on with the next one, whose first spaces are left out; `#` begins a comment. `@NAME@` is
/// filled in.
pub fn variables(text: &str, filled: &[(&str, &str)], vars: &mut Vars) -> Result<()> {
    let mut text = text.to_owned();
    for (name, value) in filled {
        text = text.replace(&format!("@{name}@"), value);
    }
    let mut whole = String::new();
    for line in text.lines() {
        let piece = if whole.is_empty() { line } else { line.trim_start() };
        if whole.is_empty() && (piece.starts_with('#') || piece.trim().is_empty()) {
            continue;
        }
        match piece.strip_suffix('\\') {
            Some(begun) => whole += begun,
            None => {
                whole += piece;
                let (name, value) =
                    whole.split_once('=').doing(|| format!("expected name=value, found {whole:?}"))?;
                vars.set(name, value);
                whole.clear();
            }
        }
    }
    match whole.is_empty() {
        true => Ok(()),
        false => Err(Trouble::new(format!("expected a line after {whole:?}"))),
    }
}

/// The variables as `env import -t` reads them: a line each.
pub fn as_text(vars: &Vars) -> Vec<u8> {
    let mut text = Vec::new();
    for entry in vars.entries() {
        if let Some(value) = &entry.value {
            text.extend([&entry.name[..], b"=", value, b"\n"].concat());
        }
    }
    text
}

/// `boot.scr`: our boot script with the head that `source` wants.
pub fn boot_script(architecture: &str, folder: &Path) -> Result<Vec<u8>> {
    let (text, script) = (folder.join("boot.cmd"), folder.join("boot.scr"));
    std::fs::write(&text, SCRIPT).doing(|| text.display().to_string())?;
    let mut mkimage = tool("mkimage");
    mkimage.env("SOURCE_DATE_EPOCH", EPOCH_S.to_string());
    mkimage.args(["-A", architecture, "-T", "script", "-C", "none", "-n", "mainstay", "-d"]);
    output(mkimage.arg(&text).arg(&script))?;
    std::fs::read(&script).doing(|| script.display().to_string())
}

/// Ends the wait of a boot script that has nothing left to boot, which the console has to show already, and types a line. It
/// has to end with `reset`.
pub fn type_after_pause(machine: &mut Machine, log: &Log, line: &str) -> Result<()> {
    let mark = log.mark();
    machine.type_in("\u{3}")?;
    machine.wait(mark, PATIENCE, "U-Boot's prompt", |view| view.partial.ends_with(PROMPT).then_some(()))?;
    let mark = log.mark();
    machine.type_in(&format!("{line}\r"))?;
    machine.wait_line(mark, PATIENCE, "U-Boot 20").map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_environment_is_read_as_people_write_it() {
        let mut vars = Vars::new();
        vars.set("bootcmd", "the board's");
        let text = "# words\nbootdelay=0\n\nlong=\\\n  one; \\\n  two @N@\nbootcmd=run a=b\nlong2=x\n";
        variables(text, &[("N", "17")], &mut vars).unwrap();
        let cases = [("bootdelay", "0"), ("long", "one; two 17"), ("bootcmd", "run a=b"), ("long2", "x")];
        for (name, value) in cases {
            assert_eq!(vars.text(name).as_deref(), Some(value), "{name}");
        }
        assert_eq!(as_text(&vars), b"bootcmd=run a=b\nbootdelay=0\nlong=one; two 17\nlong2=x\n");
        assert!(variables("no variable\n", &[], &mut vars).is_err());
        assert!(variables("open=\\\n", &[], &mut vars).is_err());
    }

    #[test]
    fn the_bootcount_convention_s_own_file_can_be_read_so() {
        let mut vars = Vars::new();
        variables(include_str!("../../../../bootloader-glue/scripts/mainstay-bootcount.env"), &[], &mut vars)
            .unwrap();
        assert_eq!(vars.text("altbootcmd").as_deref(), Some("run mainstay_back"));
        assert!(vars.text("mainstay_last").unwrap().ends_with("fi"));
    }
}
