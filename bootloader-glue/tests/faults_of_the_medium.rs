//! What users meet on the side of the environment, with real file systems where root may mount them: no room, read-only,
//! a write that is cut short, variables of others, an environment that is full, and a foreign writer at the same time.
//!
//! The file systems are tmpfs of a few pages, unmounted by `Drop`. Where they cannot be mounted, or a tool is not
//! installed, the test prints `not run`.

use mainstay_bootloader_glue::convention::{self, Mainstay};
use mainstay_bootloader_glue::store::{DEFAULT_LOCK, Lock, Memory, Place, Places};
use mainstay_bootloader_glue::uboot::{self, Scheme};
use mainstay_bootloader_glue::{Convention, EnvBootControl, Format, Vars, grub};
use mainstay_core::boot::Group;
use mainstay_core::fault::{Fault, FaultKind};
use mainstay_core::seam::BootControl;
use std::io::Write as _;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const BYTES: usize = 64 * 1024;
const SINGLE: Format = Format::UbootSingle { bytes: BYTES };
const PAIR: Format = Format::UbootRedundant { bytes: BYTES, scheme: Scheme::Incremental };

/// A file system of its own, of `kib` KiB.
struct Tmpfs {
    folder: tempfile::TempDir,
}

impl Tmpfs {
    fn new(kib: usize) -> Option<Tmpfs> {
        let folder = tempfile::tempdir().unwrap();
        let size = format!("size={kib}k");
        if !ran(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "none"]).arg(folder.path())) {
            println!("not run: needs root to mount a tmpfs");
            return None;
        }
        Some(Tmpfs { folder })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn remount(&self, how: &str) {
        assert!(ran(Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(self.folder.path())));
    }

    /// Leaves no page free.
    fn fill(&self) {
        let mut file = std::fs::File::create(self.path("fill")).unwrap();
        while file.write_all(&[0xff; 4096]).is_ok() {}
    }

    /// An environment file with holes, as `truncate -s` and a first `fw_setenv` leave it: only its first page is there.
    fn environment(&self, format: &Format) -> EnvBootControl<Places> {
        let copies = format.blank(&Vars::new().with(&Mainstay.fresh()), Mainstay.names()).unwrap();
        let file = std::fs::File::create(self.path("env")).unwrap();
        file.set_len((copies.len() * BYTES) as u64).unwrap();
        for (n, copy) in copies.iter().enumerate() {
            file.write_all_at(&copy[..4096], (n * BYTES) as u64).unwrap();
        }
        open(&self.path("env"), format, Box::new(Mainstay), &self.path("lock"))
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = ran(Command::new("umount").arg(self.folder.path()));
    }
}

fn ran(command: &mut Command) -> bool {
    command.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

fn installed(tool: &str) -> bool {
    let there = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .any(|folder| folder.join(tool).is_file());
    if !there {
        println!("not run: {tool} is not installed");
    }
    there
}

fn open(
    path: &Path,
    format: &Format,
    convention: Box<dyn Convention + Send>,
    lock: &Path,
) -> EnvBootControl<Places> {
    let place = |n: usize| Place::new(path, (n * format.copy_bytes()) as i64, format.copy_bytes());
    let places = Places::new(format, (0..format.copies()).map(place).collect(), Lock::new(lock)).unwrap();
    EnvBootControl::new(places, *format, convention)
}

/// pwrite(2) took the one page of sixteen that was there. So the beginning of the new copy stood before the end of the
/// old one: a single copy may be lost by that, and of a pair the copy whose writing was said to have failed was in force,
/// with a group armed that nobody held for armed. Now the beginning is put back.
#[test]
fn on_a_full_file_system_the_environment_says_what_it_said_and_takes_the_change_when_there_is_room() {
    for format in [SINGLE, PAIR] {
        let Some(tmpfs) = Tmpfs::new(160) else { return };
        let mut control = tmpfs.environment(&format);
        let before = control.state().unwrap();
        tmpfs.fill();
        let fault = control.arm_trial(Group::B, 3).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Full, "{fault}");
        let path = tmpfs.path("env").display().to_string();
        assert!(fault.what.contains(&path) && fault.what.contains("write 65536 bytes"), "{fault}");
        assert!(fault.what.contains("No space left on device"), "{fault}");
        assert_eq!(control.state().unwrap(), before, "{format:?}: what stood there stands");

        std::fs::remove_file(tmpfs.path("fill")).unwrap();
        control.arm_trial(Group::B, 3).unwrap();
        assert_eq!(control.state().unwrap().select(), Some(Group::B), "{format:?}");
    }
}

#[test]
fn a_read_only_environment_is_read_refused_and_written_when_it_is_writable_again() {
    let Some(tmpfs) = Tmpfs::new(512) else { return };
    let mut control = tmpfs.environment(&PAIR);
    let before = std::fs::read(tmpfs.path("env")).unwrap();
    tmpfs.remount("ro");
    for _ in 0..2 {
        let fault = control.mark_bad(Group::A).unwrap_err();
        assert_eq!(fault.kind, FaultKind::ReadOnly, "{fault}");
        assert!(fault.what.contains(&tmpfs.path("env").display().to_string()), "{fault}");
    }
    assert_eq!(control.state().unwrap().select(), Some(Group::A), "what runs can be looked at");
    // It reads as good already, but a write has failed: what can be read may be the cache's alone, so it is made again.
    assert_eq!(control.mark_good(Group::A).unwrap_err().kind, FaultKind::ReadOnly);
    assert_eq!(std::fs::read(tmpfs.path("env")).unwrap(), before);
    tmpfs.remount("rw");
    control.arm_trial(Group::B, 3).unwrap();
    assert_eq!(control.state().unwrap().select(), Some(Group::B));
}

#[test]
fn variables_of_others_stay_byte_for_byte_over_every_operation_of_every_convention() {
    let others = |format: &Format| {
        let mut vars = Vars::new();
        vars.set("bootcmd", "run distro_bootcmd; echo \"a=b\"");
        vars.set("empty", "");
        vars.set("binary", [1u8, 0xfe, b'=', b'#', b'\\', 0x7f]);
        vars.set("ethaddr", "00:11:22:33:44:55");
        if *format == Format::Grub {
            vars.set("saved_entry", "gnulinux-advanced>two\nlines");
            vars.set("long", "#".repeat(500));
        } else {
            vars.set("long", "y".repeat(BYTES / 2));
            vars.set("last", "#");
        }
        vars
    };
    #[rustfmt::skip]
    let cases = [
        (SINGLE,       "mainstay"),
        (PAIR,         "mainstay"),
        (Format::Grub, "mainstay"),
        (SINGLE,       "bootcount"),
        (PAIR,         "bootcount"),
        (PAIR,         "rauc"),
        (Format::Grub, "rauc"),
    ];
    for (format, name) in cases {
        let convention = || convention::by_name(name, &format).unwrap();
        let names: Vec<Vec<u8>> = convention().names().iter().map(|name| name.as_bytes().to_vec()).collect();
        let vars = others(&format).with(&convention().fresh());
        let memory = Memory::new(format.blank(&vars, convention().names()).unwrap());
        let mut control = EnvBootControl::new(memory, format, convention());
        let foreign = |control: &mut EnvBootControl<Memory>| {
            let vars = control.env().unwrap().vars().clone();
            let entries = vars.entries().iter();
            entries.filter(|entry| !names.contains(&entry.name)).cloned().collect::<Vec<_>>()
        };
        let before = foreign(&mut control);
        assert_eq!(before.len(), 6, "{format:?}");
        let mut written = 0;
        for round in 0..3 {
            let target = [Group::B, Group::A][round % 2];
            control.withdraw(target).unwrap();
            control.arm_trial(target, 1).unwrap();
            control.mark_good(target).unwrap();
            control.mark_bad(target.other()).unwrap();
            assert_eq!(foreign(&mut control), before, "{format:?} {name}, round {round}");
            assert!(control.store().writes > written, "it was written at all");
            written = control.store().writes;
        }
    }
}

#[test]
fn a_full_environment_is_refused_by_name_and_bytes_before_anything_is_written() {
    let small = |bytes| Format::UbootRedundant { bytes, scheme: Scheme::Incremental };
    for format in [Format::UbootSingle { bytes: 1024 }, small(1024), Format::Grub] {
        // Full to the last byte by somebody else's variable, and none of ours there yet.
        let room = match format {
            Format::UbootSingle { .. } => 1024 - 4 - "big=\0\0".len(),
            Format::UbootRedundant { .. } => 1024 - 5 - "big=\0\0".len(),
            Format::Grub => grub::BLOCK_BYTES - grub::SIGNATURE.len() - "big=\n".len(),
        };
        let vars: Vars = [("big", "x".repeat(room))].into_iter().collect();
        let copies = format.blank(&vars, &[]).unwrap();
        let mut control = EnvBootControl::new(Memory::new(copies.clone()), format, Box::new(Mainstay));
        let fault = control.initialise().unwrap_err();
        assert_eq!(fault.kind, FaultKind::Full);
        for says in ["BOOT_ORDER", "BOOT_B_LEFT", "at most 1024 bytes", "variables need 1"] {
            assert!(fault.what.contains(says), "{format:?}: expected {says:?} in {fault}");
        }
        assert_eq!(control.store().copies, copies, "{format:?}");
        assert_eq!(control.store().writes, 0);
    }
    // Ours in it, and full behind them: a change keeps its width and fits always.
    let mut vars = Vars::new().with(&Mainstay.fresh());
    let used = uboot::encode(&vars, Some(0), 1024).unwrap().iter().rposition(|b| *b != 0).unwrap() + 2;
    vars.set("big", "x".repeat(1024 - used - "big=\0".len() - 1));
    let mut control = EnvBootControl::new(
        Memory::new(small(1024).blank(&vars, &[]).unwrap()),
        small(1024),
        Box::new(Mainstay),
    );
    vars.set("big", "x".repeat(1024 - used - "big=\0".len() + 1));
    assert!(small(1024).blank(&vars, &[]).is_err(), "it is full: no more than a byte is left");
    for group in Group::BOTH {
        control.withdraw(group.other()).unwrap();
        control.arm_trial(group.other(), 9).unwrap();
        control.mark_good(group.other()).unwrap();
    }
}

/// fw_setenv takes the lock that we take, so neither loses a change of the other, however they fall together.
#[test]
fn fw_setenv_in_a_loop_beside_ours_loses_nothing_and_neither_do_we() {
    if !installed("fw_setenv") || !Path::new(DEFAULT_LOCK).parent().is_some_and(Path::exists) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (env, config) = (folder.path().join("env"), folder.path().join("fw_env.config"));
    let copies = PAIR.blank(&Vars::new().with(&Mainstay.fresh()), &[]).unwrap();
    std::fs::write(&env, copies.concat()).unwrap();
    let line = |n: usize| format!("{} {:#x} {BYTES:#x}\n", env.display(), n * BYTES);
    std::fs::write(&config, line(0) + &line(1)).unwrap();
    let theirs = std::thread::spawn(move || {
        for n in 0..ROUNDS {
            let mut set = Command::new("fw_setenv");
            set.arg("-c").arg(&config).args(["-f", "/nowhere", &format!("theirs_{n}"), &n.to_string()]);
            assert!(ran(&mut set), "fw_setenv, round {n}");
        }
    });
    let mut control = open(&env, &PAIR, Box::new(Mainstay), Path::new(DEFAULT_LOCK));
    let mut ours = 0;
    while ours < ROUNDS || !theirs.is_finished() {
        control.arm_trial(Group::B, 1 + (ours % 9) as u8).unwrap();
        assert_eq!(control.state().unwrap().b.tries_left, 1 + (ours % 9) as u8, "nobody wrote over it");
        ours += 1;
    }
    theirs.join().unwrap();
    let env = control.env().unwrap();
    for n in 0..ROUNDS {
        assert_eq!(env.vars().text(&format!("theirs_{n}")), Some(n.to_string()));
    }
    assert_eq!(env.damaged(), None);
}

/// grub-editenv takes no lock, truncates the block and writes it anew, so a change that falls into the same moment as
/// its own can be lost, theirs or ours. What holds: each of our calls ends well or says what it found, never an
/// untrue "done" that the block contradicts when it is looked at alone; the block is whole in the end; and what the
/// driver does next, the same call again, stands.
#[test]
fn grub_editenv_in_a_loop_beside_ours_leaves_a_whole_block_and_the_next_call_makes_it_right() {
    if !installed("grub-editenv") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("grubenv");
    let block = Format::Grub.blank(&Vars::new().with(&Mainstay.fresh()), Mainstay.names()).unwrap();
    std::fs::write(&path, &block[0]).unwrap();
    let env = path.clone();
    let theirs = std::thread::spawn(move || {
        (0..ROUNDS).for_each(|n| {
            ran(Command::new("grub-editenv").arg(&env).arg("set").arg(format!("theirs={n}")));
        });
    });
    let mut control = open(&path, &Format::Grub, Box::new(Mainstay), &folder.path().join("lock"));
    let (mut calls, mut said) = (0, Vec::<Fault>::new());
    while calls < ROUNDS || !theirs.is_finished() {
        let tries = 1 + (calls % 9) as u8;
        if let Err(fault) = control.arm_trial(Group::B, tries) {
            assert!(matches!(fault.kind, FaultKind::Busy | FaultKind::Io | FaultKind::Corrupt), "{fault}");
            said.push(fault);
        }
        calls += 1;
        std::thread::sleep(std::time::Duration::from_micros(200)); // else it holds the block for most of the time
    }
    theirs.join().unwrap();
    println!("{calls} calls beside {ROUNDS} of grub-editenv: {} said that somebody else writes", said.len());
    assert_eq!(std::fs::metadata(&path).unwrap().len(), grub::BLOCK_BYTES as u64);
    assert!(ran(Command::new("grub-editenv").arg(&path).args(["set", "after=1"])));
    control.arm_trial(Group::B, 7).unwrap();
    let env = control.env().unwrap();
    assert_eq!(Mainstay.state(env.vars()).unwrap().b.tries_left, 7);
    assert_eq!(env.vars().text("after").as_deref(), Some("1"));
    assert!(env.vars().get("theirs").is_some());
}

const ROUNDS: usize = 40;
