//! Goal: `scripts/mainstay-bootcount.env` does what `Bootcount::script` says, in every state of the variables.
//!
//! Method: the script is the part of hush that a POSIX shell knows too, so `sh` runs it, with U-Boot's commands as
//! functions, and what U-Boot does before it (count, choose bootcmd or altbootcmd) as in include/bootcount.h. What is
//! saved, in which order, and what is jumped into must be what the model says. That U-Boot's own shell reads the
//! same is shown where it runs: the README says what was.

use mainstay_bootloader_glue::convention::{Bootcount, Step};
use mainstay_bootloader_glue::{Convention, Vars};
use mainstay_core::boot::Group;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

const FILE: &str = include_str!("../scripts/mainstay-bootcount.env");

/// U-Boot's commands. A save prints the variables, a jump ends the run; a load of a dead group fails.
const COMMANDS: &str = r#"
setenv() { if test $# -eq 1; then unset "$1"; else n=$1; shift; eval "$n=\$*"; fi; }
run() { eval "eval \"\$$1\""; }
saveenv() { echo "SAVE $mainstay_group|$mainstay_other|$upgrade_available|$bootcount|$bootlimit"; test "$medium" = sound; }
load() { case " $dead " in *" $mainstay_g "*) return 1;; esac; }
part() { test "$2/$3" = "mmc/0:$mainstay_part" && setenv "$4" "uuid-$mainstay_g"; }
booti() { echo "JUMP $mainstay_g $mainstay_why $bootargs"; exit; }
sleep() { echo "SLEEP $1"; }
reset() { echo RESET; exit; }
"#;

/// Before bootcmd: bootcount_inc and bootcount_error, with CONFIG_BOOTCOUNT_ENV.
const COUNTS: &str = r#"
limit=${bootlimit:-0}
if test "${upgrade_available:-0}" -ne 0; then
  bootcount=$((${bootcount:-0} + 1)); saveenv
  if test "$limit" -ne 0 && test "$bootcount" -gt "$limit"; then run altbootcmd; exit; fi
else
  bootcount=1
fi
run bootcmd
"#;

/// `name=value` lines, as mkenvimage reads them.
fn lines() -> Vec<(String, String)> {
    let text: String = FILE.lines().filter(|l| !l.starts_with('#')).map(|l| format!("{l}\n")).collect();
    let text = text.replace("\\\n", "\u{1}");
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.replace('\u{1}', "\n"))).collect()
}

/// What the script prints, where it runs over a default environment with `vars` set in it.
fn played(vars: &Vars, dead: &[Group], before: &str) -> Vec<String> {
    let mut script = format!(
        "{COMMANDS}\nmedium=sound\ndead=\"{}\"\n",
        dead.iter().map(|g| g.name()).collect::<Vec<_>>().join(" ")
    );
    for (name, value) in lines() {
        assert!(!value.contains('\''), "{name}");
        writeln!(script, "{name}='{value}'").unwrap();
    }
    for name in Bootcount.names() {
        match vars.text(name) {
            Some(value) => writeln!(script, "{name}='{value}'").unwrap(),
            None => writeln!(script, "unset {name}").unwrap(),
        }
    }
    script += before;
    let mut sh = Command::new("sh")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    sh.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let output = sh.wait_with_output().unwrap();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// The same of the model: its saves and its jump.
fn modelled(vars: &Vars, dead: &[Group]) -> Vec<String> {
    let mut vars = vars.clone();
    let mut does = Vec::new();
    for Step { save, load } in Bootcount.script(&vars) {
        if !save.is_empty() {
            vars = vars.with(&save);
            let values: Vec<_> = Bootcount.names().iter().map(|n| vars.text(n).unwrap_or_default()).collect();
            does.push(format!("SAVE {}", values.join("|")));
        }
        if let Some((group, why)) = load.filter(|(group, _)| !dead.contains(group)) {
            does.push(format!("JUMP {group} {}", why.name()));
            return does;
        }
    }
    does.push("RESET".into());
    does
}

fn plays(lines: &[String]) -> Vec<String> {
    let acts = lines.iter().filter(|line| ["SAVE", "JUMP", "RESET"].iter().any(|w| line.starts_with(w)));
    acts.map(|line| {
        line.split(' ').take(if line.starts_with("JUMP") { 3 } else { 2 }).collect::<Vec<_>>().join(" ")
    })
    .collect()
}

#[test]
fn the_script_saves_and_boots_what_the_model_says_in_every_state() {
    use Group::*;
    let mut played_states = 0;
    for group in ["A", "B", "", "C"] {
        for other in ["good", "tried", "none", ""] {
            for trial in ["0", "1", ""] {
                for (count, limit) in
                    [("0", "3"), ("1", "3"), ("2", "3"), ("3", "3"), ("4", "3"), ("0", "1"), ("", "3")]
                {
                    let values = [group, other, trial, count, limit];
                    let pairs = Bootcount.names().iter().zip(values).filter(|(_, value)| !value.is_empty());
                    let vars: Vars = pairs.collect();
                    for dead in [&[][..], &[A], &[B], &[A, B]] {
                        let found = plays(&played(&vars, dead, COUNTS));
                        let expected = modelled(&vars, dead);
                        // With upgrade_available 0 U-Boot sets bootcount in its memory alone; what we save has it at 0.
                        assert_eq!(found, expected, "{vars:?}, dead {dead:?}");
                        played_states += 1;
                    }
                }
            }
        }
    }
    println!("{played_states} states, each as the model has it");
}

#[test]
fn both_groups_dead_wait_say_so_and_reset_and_never_end_at_a_prompt() {
    let vars = Vars::new().with(&Bootcount.fresh());
    let lines = played(&vars, &Group::BOTH, COUNTS);
    let said = lines.iter().any(|line| line.contains("NOTHING LEFT TO BOOT"));
    assert!(said && lines.contains(&"SLEEP 300".into()), "{lines:#?}");
    assert_eq!(lines.last().map(String::as_str), Some("RESET"));
}

#[test]
fn a_trial_is_not_begun_where_nothing_counts_it_or_the_count_cannot_be_saved() {
    let armed: Vars = Bootcount.names().iter().zip(["B", "tried", "1", "0", "3"]).collect();
    #[rustfmt::skip]
    let cases = [
        // U-Boot                                                says
        ("run bootcmd",                                          "this U-Boot does not count"),
        ("bootcount=1; medium=read-only; run bootcmd",           "the count cannot be saved"),
    ];
    for (before, says) in cases {
        let lines = played(&armed, &[], before);
        assert!(lines.iter().any(|line| line.contains(says)), "{lines:#?}");
        assert_eq!(plays(&lines).last().map(String::as_str), Some("JUMP A good"), "{lines:#?}");
    }
}

#[test]
fn the_kernel_is_told_its_root_its_group_and_why() {
    let armed: Vars = Bootcount.names().iter().zip(["B", "tried", "1", "0", "3"]).collect();
    let lines = played(&armed, &[], COUNTS);
    let line = " root=PARTUUID=uuid-B mainstay.group=B mainstay.boot=trial";
    assert!(lines.iter().any(|l| l.starts_with("JUMP") && l.ends_with(line)), "{lines:#?}");
}

/// A count in a register goes on while no trial is on; `mainstay_uncount` clears it at each boot of a good group, after
/// altbootcmd too.
#[test]
fn a_count_that_is_kept_elsewhere_is_cleared_when_no_trial_is_on() {
    let good: Vars = Bootcount.names().iter().zip(["A", "none", "0", "7", "3"]).collect();
    for command in ["bootcmd", "altbootcmd"] {
        let lines = played(&good, &[], &format!("mainstay_uncount='echo cleared'; run {command}"));
        assert!(lines.contains(&"cleared".into()), "{lines:#?}");
        assert_eq!(plays(&lines), ["JUMP A good"]);
    }
}

/// Read by mkenvimage, where it is installed, and found whole by our own codec; and by CONFIG_DEFAULT_ENV_FILE, which
/// joins the lines.
#[test]
fn the_file_is_a_default_environment_both_ways() {
    let joined: String = FILE.lines().filter(|l| !l.starts_with('#')).map(|l| format!("{l}\n")).collect();
    let joined: Vec<&str> = joined.split("\\\n").collect();
    let joined = joined
        .iter()
        .enumerate()
        .map(|(n, s)| if n == 0 { s } else { s.trim_start_matches(' ') })
        .collect::<String>();
    for line in joined.lines() {
        for wrong in ["thenecho", "thenrun", "thenset", "elsee", ";;"] {
            assert!(!line.contains(wrong), "{wrong}: {line}");
        }
    }
    assert_eq!(joined.lines().count(), lines().len());

    let dir = tempfile::tempdir().unwrap();
    let (text, image) = (dir.path().join("text"), dir.path().join("image"));
    std::fs::write(&text, FILE).unwrap();
    let args = ["-r", "-s", "0x4000", "-o", image.to_str().unwrap(), text.to_str().unwrap()];
    match Command::new("mkenvimage").args(args).output() {
        Err(error) => println!("not run: mkenvimage: {error}"),
        Ok(output) => {
            assert!(output.status.success(), "{output:?}");
            let copy = mainstay_bootloader_glue::uboot::decode(&std::fs::read(image).unwrap(), true).unwrap();
            for (name, value) in lines() {
                assert_eq!(copy.vars.text(&name), Some(value), "{name}");
            }
        }
    }
}
