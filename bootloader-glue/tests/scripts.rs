//! The boot scripts against the parsers of the real tools, where these are installed, and against the names that the
//! convention uses. What the scripts do on real bootloaders is the laboratory's business; the README says what was run.

use mainstay_bootloader_glue::Convention;
use mainstay_bootloader_glue::convention::{Mainstay, Why};
use std::path::{Path, PathBuf};
use std::process::Command;

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(name)
}

/// Runs the tool; `None`, and a line that says so, where it is not installed.
fn run(tool: &str, args: &[&str]) -> Option<std::process::Output> {
    match Command::new(tool).args(args).output() {
        Ok(output) => Some(output),
        Err(error) => {
            println!("not run: {tool}: {error}");
            None
        }
    }
}

#[test]
fn grubs_own_parser_accepts_the_script() {
    let cfg = script("mainstay-grub.cfg");
    if let Some(output) = run("grub-script-check", &[cfg.to_str().unwrap()]) {
        assert!(output.status.success(), "{output:?}");
    }
}

#[test]
fn mkimage_makes_a_boot_scr_of_the_script() {
    let dir = tempfile::tempdir().unwrap();
    let (cmd, scr) = (script("mainstay-boot.cmd"), dir.path().join("boot.scr"));
    let args = ["-A", "arm64", "-T", "script", "-C", "none", "-n", "mainstay", "-d"];
    let args = [&args[..], &[cmd.to_str().unwrap(), scr.to_str().unwrap()]].concat();
    if let Some(output) = run("mkimage", &args) {
        assert!(output.status.success(), "{output:?}");
        let made = std::fs::read(scr).unwrap();
        // Legacy image: 64 bytes of header, two words (the length of the one script, and 0), the script.
        assert_eq!(made[72..], std::fs::read(cmd).unwrap());
    }
}

#[test]
fn the_scripts_use_the_names_of_the_convention_and_say_why_they_boot() {
    for name in ["mainstay-boot.cmd", "mainstay-grub.cfg"] {
        let text = std::fs::read_to_string(script(name)).unwrap();
        for variable in Mainstay.names() {
            assert!(
                text.contains(&format!("${variable}")) || text.contains(&format!("${{{variable}}}")),
                "{variable}"
            );
        }
        for why in [Why::Good, Why::Trial, Why::LastResort] {
            let (assigned, given) = (format!("why={}", why.name()), format!(" {}", why.name()));
            assert!(text.contains(&assigned) || text.contains(&given), "{name}: {}", why.name());
        }
        for change in Mainstay.fresh() {
            let (name_of, value) = (change.name, change.value.unwrap());
            let ways = [
                format!("{name_of}={value}"),
                format!("{name_of} {value}"),
                format!("{name_of}=\"{value}\""),
            ];
            let quoted = format!("{name_of} \"{value}\"");
            assert!(
                ways.iter().any(|way| text.contains(way)) || text.contains(&quoted),
                "{name}: {name_of}={value}"
            );
        }
    }
}
