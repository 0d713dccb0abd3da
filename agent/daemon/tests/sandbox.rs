//! Goal: what the daemon gives up at its start, nobody has any more: neither the daemon nor what it starts; and an update
//! goes through all the same.
//!
//! Method: the real daemon, on this kernel, takes an image through its trial. The trial's health checks are the probes: each
//! is a program that tries one thing and passes if the kernel answered as it should, so a commit says that all did.

mod gateway;
mod life;
mod support;

use gateway::*;
use life::*;

fn check(name: &str, script: &str) -> String {
    format!("[[check]]\nname = \"{name}\"\nretries = 0\ncommand = [\"sh\", \"-c\", '{script}']\n")
}

/// A line of `/proc/PID/status`.
fn status_of(pid: u32, key: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
    line.trim_start_matches(':').trim().to_string()
}

fn landlock_is_here() -> bool {
    let here =
        mainstay::sandbox::possible().iter().any(|fence| fence.name == "landlock" && fence.stands.is_ok());
    if !here {
        println!("not run: this kernel has no Landlock");
    }
    here
}

#[test]
fn checks_write_where_the_configuration_says_and_nowhere_else() {
    if !landlock_is_here() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (closed, open) = (folder.path().join("closed"), folder.path().join("open"));
    for folder in [&closed, &open] {
        std::fs::create_dir(folder).unwrap();
    }
    std::fs::write(closed.join("there"), "as it was").unwrap();
    let (closed_path, open_path) = (closed.display(), open.display());
    let config = [
        check("new-file", &format!("! touch {closed_path}/new")),
        check("old-file", &format!("! sh -c \"echo x > {closed_path}/there\"")),
        check("remove", &format!("! rm {closed_path}/there")),
        check("reads", &format!("grep -q as.it.was {closed_path}/there")),
        check("allowed", &format!("echo x > {open_path}/new")),
        // The machine's reset line is a file beside the configuration.
        format!("[sandbox]\nwrite = [\"{open_path}\", \"reboots\"]\n"),
    ];
    let mut machine = Machine::new(&config.concat());
    machine.bring_to(&Workshop::new("2.0", 1));
    assert_eq!(std::fs::read_to_string(closed.join("there")).unwrap(), "as it was");
    assert!(!closed.join("new").exists() && open.join("new").exists());
    machine.until_log("landlock (version");
}

#[test]
fn what_runs_under_the_daemon_mounts_traces_and_unshares_nothing() {
    let config = [
        check("mount", "! mount -t tmpfs none /mnt"),
        check("unshare", "! unshare --mount true"),
        check("user-namespace", "! unshare --user true"),
        check("privileges", "grep -q \"^NoNewPrivs:.1$\" /proc/self/status"),
        check("filter", "grep -q \"^Seccomp:.2$\" /proc/self/status"),
        check("threads", "sh -c \"sleep 0 & wait\""),
    ];
    let mut machine = Machine::new(&config.concat());
    machine.bring_to(&Workshop::new("2.0", 1));
    let pid = machine.pid();
    assert_eq!((status_of(pid, "NoNewPrivs"), status_of(pid, "Seccomp")), ("1".into(), "2".into()));
    // Not all that are kept may have been there: a container's root has fewer. More there may not be.
    for set in ["CapEff", "CapPrm", "CapBnd"] {
        let has = u64::from_str_radix(&status_of(pid, set), 16).unwrap();
        let bounds_apply = set != "CapBnd" || nix::unistd::geteuid().is_root();
        assert!(!bounds_apply || has & !mainstay::sandbox::KEPT == 0, "{set}: {has:#x}");
    }
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
}

/// The second guard and no other: a check is started by the same daemon.
#[test]
fn the_second_guard_is_spared_by_the_oom_killer_and_checks_are_not() {
    let has = u64::from_str_radix(&status_of(std::process::id(), "CapEff"), 16).unwrap();
    if has >> 24 & 1 == 0 {
        return println!("not run: needs CAP_SYS_RESOURCE");
    }
    let siblings =
        "for p in /proc/[0-9]*; do grep -q \"^PPid:.$PPID$\" $p/status && cat $p/oom_score_adj; done";
    let config = [
        check("guard", &format!("({siblings}) | grep -qx -e -1000")),
        check("itself", "! grep -qx -e -1000 /proc/self/oom_score_adj"),
    ];
    let mut machine = Machine::new(&config.concat());
    machine.bring_to(&Workshop::new("2.0", 1));
}

/// Who needs it off finds it off, and is told so at every start and by `doctor`.
#[test]
fn a_sandbox_that_is_off_is_said() {
    let mut machine = Machine::new("[sandbox]\nenabled = false\nwrite = []\n");
    machine.bring_to(&Workshop::new("2.0", 1));
    machine.until_log("sandbox: off, as the configuration says");
    let doctor = machine.gateway.run(&["doctor"]);
    assert!(doctor.text.contains("sandbox          off, as the configuration says"), "{doctor:?}");
}
