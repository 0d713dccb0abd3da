//! The real GRUB, beside the model that the agent is proven against: for each state of the five variables GRUB 2 with
//! `mainstay-grub.cfg`, on an emulated machine, has to choose the group that `mainstay_bootloader_glue::model` chooses, for the same
//! reason, and to leave the same variables behind. No kernel runs: each case ends at the jump.
//!
//! Needs the laboratory's parts (`cargo hil` gets them); without them it says `not run` and passes.

use mainstay_bootloader_glue::convention::{Convention, Mainstay};
use mainstay_bootloader_glue::{Format, Vars, model};
use mainstay_core::boot::Group::{self, A, B};
use mainstay_lab::board::Board;
use mainstay_lab::board::x86::{EnvironmentOn, X86, X86Parts};
use mainstay_lab::disk::Tree;
use mainstay_lab::guest::{Nature, Spec, spoil};
use mainstay_lab::machine::{Log, Machine, View};
use mainstay_lab::provision::{Provision, Want};
use std::path::Path;
use std::time::Duration;

/// GRUB is at the jump after 1 s of CPU; the computer that this runs on may be busy.
const PATIENCE: Duration = Duration::from_secs(120);
/// What the model answers where the script waits before it goes on with the last resort.
const WAITS: &str = "mainstay: NOTHING LEFT TO BOOT";
const JUMPS: &str = "; jumping";

/// A board in `folder`, if there are parts for it.
fn board(folder: &Path, environment: EnvironmentOn) -> Option<X86> {
    let cache = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/lab");
    let parts = Provision::new(cache).offline(true).no_install(true).quiet(true).provide(&[Want::X86Bios]);
    let parts = parts.unwrap();
    if let Some(why) = parts.why_not(Want::X86Bios) {
        println!("not run: {why}");
        return None;
    }
    // No agent runs here either.
    let agent = folder.join("agent");
    std::fs::write(&agent, b"none").unwrap();
    let parts = X86Parts::of(&parts, &agent, false, environment).unwrap();
    Some(X86::create(parts, &folder.join("board")).unwrap())
}

/// Puts an image into both groups, and these variables into the environment block. `dead`: groups that cannot be loaded.
fn prepare(board: &mut X86, image: &Path, vars: &Vars, dead: &[Group]) {
    board.factory(image, &Tree::new()).unwrap();
    board.disk().flash("rootfs-b", image).unwrap();
    for group in dead {
        let (file, offset) = board.slot(*group).unwrap();
        spoil(&file, offset, "dead").unwrap();
    }
    let (partition, at) = board.environment_at().unwrap();
    let block = Format::Grub.blank(vars, Mainstay.names()).unwrap();
    board.disk().write(partition, at, &block[0]).unwrap();
}

/// Lets GRUB run up to the jump or the wait: the last choice that it told.
fn run(board: &X86) -> (Option<String>, bool) {
    let log = Log::new();
    let machine = Machine::start(&board.setup(), &log).unwrap();
    let over = |view: &View| view.line_with(JUMPS).or_else(|| view.line_with(WAITS));
    let last = machine.wait(0, PATIENCE, "GRUB's jump", over).unwrap();
    machine.cut().unwrap();
    let lines = log.since(0).into_iter().filter_map(|entry| entry.seen.line().map(str::to_owned));
    let mut chosen = lines.filter_map(|line| {
        let (choice, _) = line.strip_prefix("mainstay: group ")?.split_once(", partition")?;
        Some(choice.to_owned())
    });
    (chosen.next_back(), last.contains(WAITS))
}

fn vars(values: &[&str]) -> Vars {
    Mainstay.names().iter().zip(values).collect()
}

/// Variables before, and the groups that cannot be loaded.
type Case = ([&'static str; 5], &'static [Group]);

#[rustfmt::skip]
const CASES: &[Case] = &[
    // order  A left good  B left good      dead
    (["A B", "0", "1",    "0", "1"],        &[]),
    (["B A", "0", "1",    "3", "0"],        &[]),
    (["B A", "0", "1",    "1", "0"],        &[]),
    (["B A", "0", "1",    "0", "0"],        &[]),
    (["A  ", "0", "1",    "9", "0"],        &[]),
    (["A B", "0", "1",    "0", "1"],        &[A]),
    (["B A", "0", "1",    "3", "0"],        &[B]),
    (["A B", "9", "0",    "0", "0"],        &[]),
    (["A B", "x", "0",    "3", "0"],        &[]),
    (["A B", "0", "0",    "0", "0"],        &[]),  // waits
    (["A B", "0", "1",    "0", "0"],        &[A, B]),  // waits
    (["   ", "0", "1",    "3", "0"],        &[]),  // waits
];

#[test]
fn the_real_grub_chooses_what_the_model_chooses_and_leaves_the_same_variables() {
    for (environment, cases) in [(EnvironmentOn::Fat, CASES), (EnvironmentOn::Ext4, &CASES[1..2])] {
        let folder = tempfile::tempdir().unwrap();
        let Some(mut board) = board(folder.path(), environment) else { return };
        let image = folder.path().join("image");
        let spec = Spec { version: "1", nature: Nature::Healthy, agent: None };
        board.images().make(&image, &spec).unwrap();
        for (values, dead) in cases {
            prepare(&mut board, &image, &vars(values), dead);
            let mut copies = Format::Grub.blank(&vars(values), Mainstay.names()).unwrap();
            let modelled =
                model::boot(&Format::Grub, &Mainstay, &copies, |group| !dead.contains(&group)).unwrap();
            let (chosen, waited) = run(&board);
            if waited {
                // The rest of the script comes after the pause: nothing was saved yet that the model saves before it.
                let last_resort = modelled.group.is_none_or(|(_, why)| why.name() == "last-resort");
                assert!(last_resort, "{values:?} {dead:?}: GRUB waits, the model boots {:?}", modelled.group);
            } else {
                let wanted = modelled.group.map(|(group, why)| format!("{group} ({})", why.name()));
                assert_eq!(chosen, wanted, "{values:?} {dead:?}");
                modelled.writes.iter().for_each(|write| write.apply(&mut copies));
                let wanted = Format::Grub.parse(&copies).unwrap();
                assert_eq!(&board.variables().unwrap(), wanted.vars(), "{values:?} {dead:?}");
            }
            println!(
                "{} {values:?} {dead:?}: {chosen:?}{}",
                board.name(),
                if waited { ", waits" } else { "" }
            );
        }
    }
}

#[test]
fn a_fresh_board_calls_a_good() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mut board) = board(folder.path(), EnvironmentOn::Fat) else { return };
    let image = folder.path().join("image");
    let spec = Spec { version: "1", nature: Nature::Healthy, agent: None };
    board.images().make(&image, &spec).unwrap();
    board.factory(&image, &Tree::new()).unwrap();
    assert_eq!(run(&board), (Some("A (good)".into()), false));
    assert_eq!(board.variables().unwrap(), Vars::new().with(&Mainstay.fresh()));
}

#[test]
fn from_the_menu_a_person_gives_the_groups_their_tries_again() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mut board) = board(folder.path(), EnvironmentOn::Fat) else { return };
    let image = folder.path().join("image");
    let spec = Spec { version: "1", nature: Nature::Healthy, agent: None };
    board.images().make(&image, &spec).unwrap();
    prepare(&mut board, &image, &vars(&["B A", "0", "0", "0", "0"]), &[]);
    let log = Log::new();
    let mut machine = Machine::start(&board.setup(), &log).unwrap();
    machine.wait_line(0, PATIENCE, "Esc:").unwrap();
    let mark = log.mark();
    board.repair(&mut machine, &log).unwrap();
    machine.wait_line(mark, PATIENCE, JUMPS).unwrap();
    let told = log.since(mark).into_iter().filter_map(|entry| entry.seen.line().map(str::to_owned));
    assert!(
        told.clone().any(|line| line.starts_with("mainstay: group B (trial)")),
        "{:?}",
        told.collect::<Vec<_>>()
    );
    assert_eq!(board.variables().unwrap(), vars(&["B A", "3", "0", "2", "0"]));
}
