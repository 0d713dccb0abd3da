//! A medium that stops taking writes under a running gateway, with the real binary and a real Mosquitto.
//!
//! Goal: what runs goes on, nothing is armed, what was heard or said is neither lost nor said again and again, the cause
//! is said once and with its path, `doctor` knows it, and everything goes on by itself when the medium takes writes again.
//!
//! Method: the kernel refuses each write of the daemon to a file (RLIMIT_FSIZE, set from outside with prlimit(1): EFBIG,
//! as on a file system without room), or a real tmpfs is full, or a real bind mount is read-only.

mod gateway;
mod life;
mod support;

use gateway::*;
use life::*;
use mainstay_bootloader_glue::convention::{Convention, Mainstay};
use mainstay_bootloader_glue::uboot::Scheme;
use mainstay_bootloader_glue::{Format, vars::Vars};
use mainstay_core::topic::Leaf;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn ran(program: &str, args: &[&str]) -> bool {
    Command::new(program).args(args).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Starts the daemon so that a write beyond its limit is an error and not its end; its log goes through a pipe, which has
/// no limit. `false`: there is no prlimit here, which has been said.
fn start_with_limits(machine: &mut Machine) -> bool {
    if !ran("prlimit", &["--version"]) {
        println!("not run: prlimit is not installed");
        return false;
    }
    let run = format!(
        "trap '' XFSZ; exec {} --config {} run --verbose",
        env!("CARGO_BIN_EXE_mainstay"),
        machine.gateway.path("mainstay.toml").display()
    );
    let mut daemon = Command::new("sh").args(["-c", &run]).stderr(Stdio::piped()).spawn().unwrap();
    let (mut said, log) = (daemon.stderr.take().unwrap(), machine.gateway.path("log"));
    std::thread::spawn(move || {
        let mut log = std::fs::File::options().create(true).append(true).open(log).unwrap();
        let _ = std::io::copy(&mut said, &mut log);
    });
    machine.daemon = Some(daemon);
    machine.until(&["\"daemon\":true"]);
    true
}

fn takes_writes(machine: &Machine, takes: bool) {
    let limit = if takes { "--fsize=unlimited:unlimited" } else { "--fsize=0:unlimited" };
    assert!(ran("prlimit", &["--pid", &machine.pid().to_string(), limit]));
}

/// What the broker holds it gives once for each connection. A desired state that could not be put on record was gone until
/// the next one, and the agent went on as if nobody had desired anything.
#[test]
fn a_desired_state_that_comes_while_nothing_can_be_recorded_is_taken_when_it_can() {
    let Some(mut site) = Site::new("", "") else { return };
    if !start_with_limits(&mut site.machine) {
        return;
    }
    site.machine.until(&["\"state\":\"connected\""]);
    takes_writes(&site.machine, false);
    let bundle = Workshop::new("2.0", 1);
    let name = site.publish(&bundle);
    site.desire(name, 7);
    site.machine.until(&["write 4128 bytes to", "journal.", "File too large"]);
    std::thread::sleep(std::time::Duration::from_millis(3500)); // it is tried three times more
    let log = site.machine.log();
    assert_eq!(log.matches("desired: write").count(), 1, "said once:\n{log}");
    let status = site.machine.text();
    assert!(status.contains("\"phase\":\"idle\"") && status.contains("\"running\":\"A\""), "{status}");
    assert!(!holds(&site.machine.gateway.path("slot-b"), &bundle.content));
    takes_writes(&site.machine, true);
    site.machine.until_it_goes_down();
    assert!(holds(&site.machine.gateway.path("slot-b"), &bundle.content));
    let log = std::fs::read_to_string(site.machine.gateway.path("state/audit.log")).unwrap();
    assert!(log.contains("desired-taken"), "{log}");
}

/// That the operator has an outcome could not be put on record. So it was sent again, taken again, and so on as fast as
/// the broker answered.
#[test]
fn an_outcome_whose_delivery_cannot_be_recorded_is_not_sent_again_and_again() {
    let Some(mut site) = Site::new("reboot = \"approve\"\n", "") else { return };
    let outcomes = site.watch(Leaf::Report);
    if !start_with_limits(&mut site.machine) {
        return;
    }
    site.machine.until(&["\"state\":\"connected\""]);
    let said = site.machine.install(&Workshop::new("2.0", 1), &[]);
    assert!(said.ok, "{said:?}");
    // The outcome stands in the record and is on its way when the medium fails, and the broker has not answered yet.
    site.broker.holds_its_breath(true);
    let said = site.machine.gateway.run(&["cancel"]);
    assert!(said.ok, "{said:?}");
    site.machine.until(&["\"unreported\":1"]);
    takes_writes(&site.machine, false);
    site.broker.holds_its_breath(false);
    assert_eq!(outcomes.outcome().version, "2.0");
    site.machine.until_log("could not be noted");
    std::thread::sleep(std::time::Duration::from_millis(2500)); // it is noted anew twice
    assert!(outcomes.is_quiet(), "once");
    assert_eq!(site.machine.log().matches("could not be noted").count(), 1, "said once");
    takes_writes(&site.machine, true);
    site.machine.until(&["\"unreported\":0"]);
    assert!(outcomes.is_quiet(), "once, and that is all");
}

/// A mount that ends with the test.
struct Mount(PathBuf);

impl Mount {
    fn new(args: &[&str], at: &Path) -> Option<Mount> {
        let at_text = at.display().to_string();
        let mounted = ran("mount", &[args, &[&at_text]].concat());
        if !mounted {
            println!("not run: needs root to mount");
        }
        mounted.then(|| Mount(at.into()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

fn read_only(path: &Path) -> Option<Mount> {
    let text = path.display().to_string();
    let mount = Mount::new(&["--bind", &text], path)?;
    assert!(ran("mount", &["-o", "remount,bind,ro", &text]));
    Some(mount)
}

#[test]
fn an_environment_that_has_gone_read_only_arms_nothing_and_an_install_goes_on_when_it_is_writable() {
    let mut machine = Machine::new("[update]\nretry_s = 1\n");
    machine.start();
    let Some(mount) = read_only(&machine.gateway.path("grubenv")) else { return };
    let bundle = Workshop::new("2.0", 1);
    let before = machine.gateway.medium();
    let said = machine.install(&bundle, &["--reboot"]);
    assert!(!said.ok && said.text.contains("Read-only file system"), "{said:?}");
    assert_eq!(machine.gateway.medium(), before, "not a byte, for the target could not be withdrawn");
    assert!(!machine.goes_down());
    machine.until(&["\"running\":\"A\"", "\"kind\":\"failed\"", "Read-only file system"]);
    let doctor = machine.gateway.run(&["doctor"]);
    assert!(!doctor.ok && doctor.text.contains("WRONG environment"), "{doctor:?}");
    assert!(doctor.text.contains("grubenv is on a file system that is read-only"), "{doctor:?}");
    let recorded = std::fs::read_to_string(machine.gateway.path("state/audit.log")).unwrap();
    assert_eq!(recorded.matches("Read-only").count(), 2, "the cause, and the outcome:\n{recorded}");
    drop(mount);
    let said = machine.install(&bundle, &["--reboot"]);
    assert!(said.ok, "{said:?}");
    machine.until_it_goes_down();
}

#[test]
fn doctor_knows_a_state_folder_without_room_and_one_that_is_read_only() {
    let machine = Machine::new("");
    let state = machine.gateway.path("state");
    std::fs::create_dir(&state).unwrap();
    let Some(_mount) = Mount::new(&["-t", "tmpfs", "-o", "size=1m", "none"], &state) else { return };
    let doctor = || machine.gateway.run(&["doctor"]);
    let line = |said: &Said| said.text.lines().find(|l| l.contains("state medium")).unwrap_or("").to_string();
    assert!(line(&doctor()).starts_with("ok "), "{:?}", doctor());
    let mut fill = std::fs::File::create(state.join("fill")).unwrap();
    fill.write_all(&vec![0; 600 << 10]).unwrap();
    let said = doctor();
    assert!(said.ok && line(&said).starts_with("note") && line(&said).contains("the audit log"), "{said:?}");
    while fill.write_all(&[0; 4096]).is_ok() {}
    drop(fill);
    let said = doctor();
    assert!(!said.ok && line(&said).starts_with("WRONG"), "{said:?}");
    assert!(line(&said).contains(": 0 bytes free, the next update needs"), "{said:?}");
    assert!(ran("mount", &["-o", "remount,ro", &state.display().to_string()]));
    let said = doctor();
    assert!(!said.ok && line(&said).contains("on a file system that is read-only"), "{said:?}");
}

/// A board with U-Boot's environment in a file, of which the board file says `says`.
fn uboot_gateway(format: Format, says: &str) -> Gateway {
    let gateway = Gateway::new();
    let board = String::from_utf8(gateway.get("board.toml")).unwrap();
    let grub = "bootloader = \"grub\"\nconvention = \"mainstay\"\nenvironment = { path = \"grubenv\" }\n";
    assert!(board.contains(grub));
    let uboot = format!("bootloader = \"uboot\"\nenvironment = [{says}]\n");
    gateway.put("board.toml", board.replace(grub, &uboot).as_bytes());
    let copies = format.blank(&Vars::new().with(&Mainstay.fresh()), Mainstay.names()).unwrap();
    gateway.put("env", &[copies.concat(), vec![0xff; 64 << 10]].concat());
    gateway
}

#[test]
fn doctor_names_the_damaged_copy_of_an_environment_and_the_size_that_u_boot_has() {
    let pair = Format::UbootRedundant { bytes: 8192, scheme: Scheme::Incremental };
    let single = Format::UbootSingle { bytes: 16384 };
    let two = "{ path = \"env\", offset = 0, size = 8192 }, { path = \"env\", offset = 8192, size = 8192 }";
    let small = "{ path = \"env\", offset = 0, size = 4096 }, { path = \"env\", offset = 8192, size = 4096 }";
    let damage = |gateway: &Gateway, copies: &[usize]| {
        let mut bytes = gateway.get("env");
        copies.iter().for_each(|copy| bytes[copy * 8192 + 99] ^= 1);
        gateway.put("env", &bytes);
    };
    #[rustfmt::skip]
    let cases: [(Format, &str, &[usize], bool, &str); 6] = [
        // U-Boot's    the board file   damaged    well     what doctor says
        (pair,         two,             &[],       true,    "A boots next, as now"),
        (pair,         two,             &[0],      true,    "is damaged; the other one counts"),
        (pair,         two,             &[1],      true,    "copy 1 ("),
        (pair,         two,             &[0, 1],   false,   "boot state       both copies, the first: U-Boot environment of 8192 bytes: expected CRC"),
        (pair,         small,           &[],       false,   "U-Boot's copy has 8192 bytes, with a flags byte (CONFIG_ENV_REDUNDANT); the board file says 4096 bytes"),
        (single,       two,             &[],       false,   "U-Boot's copy has 16384 bytes, without a flags byte; the board file says 8192 bytes, with a flags byte"),
    ];
    for (format, board, damaged, well, says) in cases {
        let gateway = uboot_gateway(format, board);
        damage(&gateway, damaged);
        let before = gateway.get("env");
        let said = gateway.run(&["doctor"]);
        assert_eq!(said.ok, well, "{says}: {said:?}");
        assert!(said.text.contains(says), "expected {says:?} in {said:?}");
        let hint = said.text.contains("U-Boot's copy has");
        assert_eq!(hint, says.contains("U-Boot's copy"), "{said:?}");
        assert_eq!(gateway.get("env"), before, "doctor changes nothing");
        if well {
            assert!(gateway.run(&["mark", "bad", "B"]).ok, "any write heals the copy that is not in force");
            assert!(gateway.run(&["mark", "active", "A"]).ok);
        }
    }
}

/// Counts what an update costs the state folder, and that a gateway at rest writes nothing: asked, looked at, and told
/// what it knows already.
#[test]
fn an_update_costs_the_state_folder_a_handful_of_writes_and_a_gateway_at_rest_none() {
    use mainstay_core::copies::{Copy, copy_bytes};
    use mainstay_core::seam::StateFile;
    let mut machine = Machine::new("");
    machine.bring_to(&Workshop::new("2.0", 1));
    let writes = |file, name: &str| {
        let seqs = [0, 1].map(|copy| {
            let bytes =
                std::fs::read(machine.gateway.path(&format!("state/{name}.{copy}"))).unwrap_or_default();
            match Copy::read(file, &bytes) {
                Copy::Whole { seq, .. } => seq,
                _ => 0,
            }
        });
        seqs[0].max(seqs[1])
    };
    let (records, manifests) =
        (writes(StateFile::Journal, "journal"), writes(StateFile::Manifest, "manifest"));
    let log = std::fs::read_to_string(machine.gateway.path("state/audit.log")).unwrap();
    let bytes = records * copy_bytes(StateFile::Journal) as u64 + log.len() as u64;
    println!(
        "an update and two starts: {records} records of {} bytes, {manifests} manifest of {} bytes, {} lines of audit log \
         ({} bytes); {bytes} bytes without the manifest",
        copy_bytes(StateFile::Journal),
        copy_bytes(StateFile::Manifest),
        log.lines().count(),
        log.len(),
    );
    assert!(records <= 12 && manifests == 1, "{records} records, {manifests} manifests");
    assert!(log.lines().count() <= 16, "{log}");

    let medium = || {
        let names = [
            "state/journal.0",
            "state/journal.1",
            "state/manifest.0",
            "state/audit.log",
            "grubenv",
            "slot-a",
        ];
        names.map(|name| std::fs::metadata(machine.gateway.path(name)).unwrap().modified().unwrap())
    };
    let before = medium();
    for _ in 0..20 {
        // Each makes the agent turn, as it does by itself once a minute: 1440 times a day.
        assert!(!machine.gateway.run(&["cancel"]).ok, "there is nothing to cancel");
        machine.gateway.run(&["status"]);
        machine.gateway.run(&["doctor"]);
    }
    assert_eq!(medium(), before, "not one write");
}

/// An eMMC goes read-only in the middle of a trial. The verdict cannot be put on record, so nothing is marked good; when
/// the medium takes writes again before the deadline, the commit follows by itself.
#[test]
fn a_medium_that_stops_in_the_middle_of_a_trial_commits_nothing_until_it_goes_on() {
    let mut machine = Machine::new(&format!("[update]\nretry_s = 1\n{HEALTHY_FILE}"));
    machine.start();
    let mut bundle = Workshop::new("2.0", 1);
    bundle.manifest.trial.deadline_s = 60;
    let said = machine.install(&bundle, &["--reboot"]);
    assert!(said.ok, "{said:?}");
    machine.until_it_goes_down();
    machine.boot_without_daemon();
    if !start_with_limits(&mut machine) {
        return;
    }
    machine.until_log("plant");
    takes_writes(&machine, false);
    let environment = machine.gateway.get("grubenv");
    machine.gateway.put("healthy", b"");
    machine.until(&["\"fault\":\"state: write 4128 bytes to", "\"phase\":\"trial\""]);
    std::thread::sleep(std::time::Duration::from_millis(2500)); // it is tried again twice
    assert_eq!(machine.gateway.get("grubenv"), environment, "not marked good, not marked bad");
    assert_eq!(machine.log().matches("error: state: write").count(), 1, "said once:\n{}", machine.log());
    takes_writes(&machine, true);
    machine.until(&["\"phase\":\"settled\"", "\"kind\":\"committed\""]);
}
