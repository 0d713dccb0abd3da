//! Our codecs against the real tools, both ways, where these are installed: fw_printenv, fw_setenv (libubootenv),
//! mkenvimage (U-Boot), grub-editenv (GRUB). Where one is missing its tests print "not run: …".
//!
//! The boolean flags scheme is not among the cases: the tools choose it by the type of an MTD device, and with plain
//! files they are always incremental. Its table stands in src/uboot/pair.rs, after U-Boot's source.

use mainstay_bootloader_glue::convention::{Bootcount, Mainstay, Op};
use mainstay_bootloader_glue::store::{Lock, Place, Places};
use mainstay_bootloader_glue::uboot::{self, Scheme};
use mainstay_bootloader_glue::{Convention, EnvBootControl, Format, Vars, grub};
use mainstay_core::boot::Group;
use mainstay_core::seam::BootControl;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const BYTES: usize = 4096;
const PAIR: Format = Format::UbootRedundant { bytes: BYTES, scheme: Scheme::Incremental };

/// Are all of these tools there? Says so where not.
fn installed(tools: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = |tool: &&str| std::env::split_paths(&path).any(|dir| dir.join(tool).is_file());
    let missing: Vec<_> = tools.iter().filter(|tool| !is_there(tool)).collect();
    missing.iter().for_each(|tool| println!("not run: {tool} is not installed"));
    missing.is_empty()
}

fn run(tool: &str, args: &[&str]) -> Output {
    Command::new(tool).args(args).output().unwrap()
}

fn run_ok(tool: &str, args: &[&str]) -> String {
    let output = run(tool, args);
    assert!(output.status.success(), "{tool} {args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// An environment file beside its fw_env.config.
struct Files {
    dir: tempfile::TempDir,
}

impl Files {
    fn new(copies: &[Vec<u8>]) -> Files {
        let files = Files { dir: tempfile::tempdir().unwrap() };
        std::fs::write(files.env(), copies.concat()).unwrap();
        let lines =
            (0..copies.len()).map(|n| format!("{} {:#x} {BYTES:#x}\n", files.env().display(), n * BYTES));
        std::fs::write(files.config(), lines.collect::<String>()).unwrap();
        files
    }

    fn env(&self) -> PathBuf {
        self.dir.path().join("env")
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("fw_env.config")
    }

    /// `fw_printenv`, without a default environment: `None` where it says that there is no good copy.
    fn printed(&self, name: &str) -> Option<String> {
        let output = run("fw_printenv", &["-c", text(&self.config()), "-f", "/nowhere", "-n", name]);
        output
            .status
            .success()
            .then(|| String::from_utf8(output.stdout).unwrap().trim_end_matches('\n').to_owned())
    }

    fn set(&self, name: &str, value: &str) {
        run_ok("fw_setenv", &["-c", text(&self.config()), "-f", "/nowhere", name, value]);
    }

    fn copies(&self) -> Vec<Vec<u8>> {
        std::fs::read(self.env()).unwrap().chunks(BYTES).map(<[u8]>::to_vec).collect()
    }

    fn control(&self, format: Format) -> EnvBootControl<Places> {
        self.control_by(format, Box::new(Mainstay))
    }

    fn control_by(&self, format: Format, convention: Box<dyn Convention + Send>) -> EnvBootControl<Places> {
        let place = |n: usize| Place::new(self.env(), (n * BYTES) as i64, format.copy_bytes());
        let places = (0..format.copies()).map(place).collect();
        let lock = Lock::new(self.dir.path().join("lock"));
        EnvBootControl::new(Places::new(&format, places, lock).unwrap(), format, convention)
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn copy(who: &str, flags: Option<u8>, good: bool) -> Vec<u8> {
    let vars = [("who", who), ("bootcmd", "run distro_bootcmd")].into_iter().collect::<Vars>();
    let mut bytes = uboot::encode(&vars.with(&Mainstay.fresh()), flags, BYTES).unwrap();
    if !good {
        bytes[BYTES - 1] ^= 1;
    }
    bytes
}

#[test]
fn both_read_the_same_copy_for_every_class_of_flags_and_damage_and_read_what_the_other_writes() {
    if !installed(&["fw_printenv", "fw_setenv"]) {
        return;
    }
    #[rustfmt::skip]
    let cases = [
        // flags 0, 1     copy 0 good, copy 1 good     in force
        ((5,   5),        (true,       true),          Some("0")), // equal
        ((0,   0),        (true,       true),          Some("0")),
        ((5,   6),        (true,       true),          Some("1")), // larger
        ((6,   5),        (true,       true),          Some("0")),
        ((254, 255),      (true,       true),          Some("1")),
        ((1,   255),      (true,       true),          Some("1")),
        ((255, 0),        (true,       true),          Some("1")), // wrapped
        ((0,   255),      (true,       true),          Some("0")),
        ((6,   5),        (false,      true),          Some("1")), // copy 0 bad
        ((255, 0),        (false,      true),          Some("1")),
        ((5,   6),        (true,       false),         Some("0")), // copy 1 bad
        ((255, 0),        (true,       false),         Some("0")),
        ((5,   6),        (false,      false),         None),      // both bad
    ];
    for ((f0, f1), (good0, good1), in_force) in cases {
        let copies = [copy("0", Some(f0), good0), copy("1", Some(f1), good1)];
        let case = format!("flags {f0} {f1}, good {good0} {good1}");
        let ours = PAIR.parse(&copies).ok().and_then(|env| env.vars().text("who"));
        let files = Files::new(&copies);
        assert_eq!(ours.as_deref(), in_force, "ours, {case}");
        assert_eq!(files.printed("who").as_deref(), in_force, "theirs, {case}");
        let Some(who) = in_force else {
            assert!(files.control(PAIR).mark_good(Group::B).is_err(), "{case}");
            assert_eq!(files.copies(), copies, "nothing is written over an environment that cannot be read");
            continue;
        };

        // Ours is written, theirs reads it …
        files.control(PAIR).arm_trial(Group::B, 3).unwrap();
        assert_eq!(files.printed("BOOT_ORDER").unwrap(), "B A", "{case}");
        assert_eq!(files.printed("BOOT_B_LEFT").unwrap(), "3", "{case}");
        assert_eq!(files.printed("who").unwrap(), who, "{case}");
        // … and theirs is written, ours reads it.
        files.set("BOOT_B_LEFT", "2");
        let env = files.control(PAIR).env().unwrap();
        assert_eq!(Mainstay.state(env.vars()).unwrap().b.tries_left, 2, "{case}");
        assert_eq!(env.damaged(), None, "two writes have healed both, {case}");
    }
}

#[test]
fn flags_stay_in_step_over_more_than_a_full_turn_of_writes_in_turns() {
    if !installed(&["fw_printenv", "fw_setenv"]) {
        return;
    }
    let files = Files::new(&[copy("0", Some(250), true), copy("1", Some(251), true)]);
    for n in 0..6u8 {
        files.control(PAIR).arm_trial(Group::B, 1 + n % 9).unwrap();
        assert_eq!(files.printed("BOOT_B_LEFT").unwrap(), (1 + n % 9).to_string());
        files.set("theirs", &n.to_string());
        assert_eq!(files.control(PAIR).env().unwrap().vars().text("theirs").unwrap(), n.to_string());
    }
}

#[test]
fn a_single_environment_goes_both_ways_and_a_damaged_one_is_refused_by_both() {
    if !installed(&["fw_printenv", "fw_setenv"]) {
        return;
    }
    let format = Format::UbootSingle { bytes: BYTES };
    let files = Files::new(&[copy("0", None, true)]);
    files.control(format).arm_trial(Group::B, 9).unwrap();
    assert_eq!(files.printed("BOOT_B_LEFT").unwrap(), "9");
    files.set("BOOT_B_LEFT", "8");
    assert_eq!(files.control(format).state().unwrap().b.tries_left, 8);

    let damaged = Files::new(&[copy("0", None, false)]);
    assert_eq!(damaged.printed("who"), None);
    assert!(damaged.control(format).state().is_err());
}

#[test]
fn an_order_without_groups_is_a_value_and_not_a_missing_variable_to_fw_printenv() {
    if !installed(&["fw_printenv"]) {
        return;
    }
    let files = Files::new(&[copy("0", Some(0), true), copy("1", Some(1), true)]);
    for group in Group::BOTH {
        files.control(PAIR).mark_bad(group).unwrap();
    }
    assert_eq!(files.printed("BOOT_ORDER").unwrap(), "   ");
}

#[test]
fn images_of_mkenvimage_are_read_with_and_without_flags() {
    if !installed(&["mkenvimage"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (dir.path().join("text"), dir.path().join("image"));
    std::fs::write(&input, "b=2\na=x=y\nc=\n").unwrap();
    for (redundant, pad) in [(false, "0"), (false, "0xff"), (true, "0"), (true, "0xff")] {
        let mut args = vec!["-s", "512", "-p", pad, "-o", text(&output), text(&input)];
        if redundant {
            args.insert(0, "-r");
        }
        run_ok("mkenvimage", &args);
        let image = std::fs::read(&output).unwrap();
        let copy = uboot::decode(&image, redundant).unwrap();
        assert_eq!(format!("{:?}", copy.vars.entries()), "[b=2, a=x=y, c=]", "{args:?}");
        if pad == "0" {
            assert_eq!(
                uboot::encode(&copy.vars, copy.flags, 512).unwrap(),
                image,
                "the same bytes, {args:?}"
            );
        }
    }
}

#[test]
fn a_grub_block_goes_both_ways_and_keeps_its_size_and_its_inode() {
    if !installed(&["grub-editenv"]) {
        return;
    }
    let files = Files::new(&[]);
    run_ok("grub-editenv", &[text(&files.env()), "create"]);
    run_ok("grub-editenv", &[text(&files.env()), "set", "saved_entry=0", "path=C:\\boot"]);
    let mut control = files.control(Format::Grub);
    let inode = || std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(files.env()).unwrap());
    let before = inode();
    assert_eq!(control.initialise(), Ok(true));
    control.arm_trial(Group::B, 3).unwrap();
    assert_eq!((inode(), std::fs::metadata(files.env()).unwrap().len()), (before, 1024));
    let listed = run_ok("grub-editenv", &[text(&files.env()), "list"]);
    assert_eq!(
        listed,
        "BOOT_ORDER=B A\nBOOT_A_LEFT=0\nBOOT_A_GOOD=1\nBOOT_B_LEFT=3\nBOOT_B_GOOD=0\nsaved_entry=0\npath=C:\\boot\n"
    );

    run_ok("grub-editenv", &[text(&files.env()), "set", "BOOT_B_LEFT=2"]);
    assert_eq!(control.state().unwrap().b.tries_left, 2);
    run_ok("grub-editenv", &[text(&files.env()), "unset", "saved_entry"]);
    assert_eq!(control.env().unwrap().vars().get("saved_entry"), None);
}

/// What keeps our variables in the first sector: see src/grub/mod.rs.
#[test]
fn grub_replaces_a_value_of_the_same_width_where_it_stands() {
    if !installed(&["grub-editenv"]) {
        return;
    }
    let long = "x".repeat(600);
    let vars = [("saved_entry", long.as_str())].into_iter().collect::<Vars>().with(&Mainstay.fresh());
    let block = grub::encode(&vars, Mainstay.names()).unwrap();
    let files = Files::new(&[]);
    std::fs::write(files.env(), &block).unwrap();
    run_ok("grub-editenv", &[text(&files.env()), "set", "BOOT_ORDER=B A", "BOOT_B_LEFT=3"]);
    let theirs = std::fs::read(files.env()).unwrap();
    let ours = vars.with(&Mainstay.change(&vars, Op::ArmTrial(Group::B, 3)).unwrap());
    assert_eq!(theirs, grub::encode(&ours, Mainstay.names()).unwrap());
    assert_eq!(theirs[512..], block[512..], "the second sector is untouched");
}

/// A board that had bootcount before: its own altbootcmd swaps and clears (here fw_setenv does), and its people look
/// at upgrade_available.
#[test]
fn an_altbootcmd_that_only_swaps_and_clears_is_read_as_a_fallback() {
    if !installed(&["fw_printenv", "fw_setenv"]) {
        return;
    }
    let vars: Vars =
        [("bootcmd", "run theirs"), ("upgrade_available", "0"), ("bootlimit", "5")].into_iter().collect();
    let files = Files::new(&PAIR.blank(&vars, &[]).unwrap());
    let mut control = files.control_by(PAIR, Box::new(Bootcount));
    assert_eq!(control.initialise(), Ok(true));
    control.arm_trial(Group::B, 2).unwrap();
    for (name, value) in
        [("upgrade_available", "1"), ("bootcount", "0"), ("bootlimit", "2"), ("mainstay_group", "B")]
    {
        assert_eq!(files.printed(name).as_deref(), Some(value), "{name}");
    }
    for (name, value) in
        [("bootcount", "3"), ("mainstay_group", "A"), ("upgrade_available", "0"), ("bootcount", "0")]
    {
        files.set(name, value);
    }
    let state = control.state().unwrap();
    assert_eq!((state.select(), state.b.priority, state.b.tries_left), (Some(Group::A), 1, 0));
    control.mark_bad(Group::B).unwrap();
    assert_eq!(files.printed("mainstay_other").as_deref(), Some("none"));
    assert_eq!(files.printed("bootcmd").as_deref(), Some("run theirs"));
}
