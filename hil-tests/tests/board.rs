//! The virtual board, with a stand-in for the agent that only sleeps: what the demo and the scenarios rest on.

use mainstay_board_support::board::{Board as BoardFile, RebootSpec};
use mainstay_bootloader_glue::convention::{Convention, Mainstay, Op, Why};
use mainstay_core::boot::Group;
use mainstay_core::seam::BootControl;
use mainstay_hil::board::{Board, Bootloader, Happening, Plan};
use mainstay_hil::disk::Layout;
use mainstay_hil::image::{Behaviour, Header, Spec};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);

/// A board with a healthy image in A and another in B, and an agent that sleeps.
fn board(folder: &Path, bootloader: Bootloader, b: Behaviour) -> Board {
    let agent = folder.join("agent");
    std::fs::write(&agent, "#!/bin/sh\necho \"$@\"\nexec sleep 1000\n").unwrap();
    std::fs::set_permissions(&agent, std::fs::Permissions::from_mode(0o755)).unwrap();
    let plan = Plan {
        folder: folder.join("board"),
        agent,
        compatible: "bench".into(),
        layout: Layout { env_mib: 1, rootfs_mib: 1, data_mib: 1 },
        bootloader,
        watchdog_s: 1,
        boot_time: Duration::from_millis(20),
        pause: Duration::from_millis(200),
    };
    let board = Board::build(plan).unwrap();
    board.flash(Group::A, &image(folder, "1", Behaviour::Healthy)).unwrap();
    board.flash(Group::B, &image(folder, "2", b)).unwrap();
    board
}

fn image(folder: &Path, version: &str, behaviour: Behaviour) -> PathBuf {
    let path = folder.join(format!("{version}.img"));
    let header = Header::new(version, behaviour);
    Spec { header, bytes: 512 * 1024, seed: 1, changed_percent: 20 }.write(&path).unwrap();
    path
}

/// Changes the environment as the agent would: through the board file.
fn control(board: &Board) -> impl BootControl {
    BoardFile::load(&board.files().board).unwrap().open_boot_control().unwrap()
}

fn boots(happening: &Happening) -> bool {
    matches!(happening, Happening::Boots(..))
}

#[test]
fn an_image_that_never_comes_up_is_bitten_until_its_tries_are_gone_and_the_old_group_is_back() {
    for bootloader in [Bootloader::UBoot, Bootloader::Grub] {
        let folder = tempfile::tempdir().unwrap();
        let board = board(folder.path(), bootloader, Behaviour::NeverUp);
        control(&board).arm_trial(Group::B, 3).unwrap();
        board.power_on();
        let back = |what: &Happening| *what == Happening::Boots(Group::A, Why::Good);
        board.wait_for(0, PATIENCE, back).unwrap();
        let bites = board.since(0).iter().filter(|what| **what == Happening::WatchdogBites).count();
        let tries =
            board.since(0).iter().filter(|what| **what == Happening::Boots(Group::B, Why::Trial)).count();
        assert_eq!((tries, bites), (3, 3), "{bootloader:?} {:?}", board.since(0));
        board.wait_for(0, PATIENCE, |what| *what == Happening::AgentStarted).unwrap();
        assert_eq!(std::fs::read_to_string(&board.files().running).unwrap(), "A\n");
        assert_eq!(
            board.vars().unwrap().text("bootdelay"),
            Some("2".to_owned()),
            "the bootloader's own variable is still there"
        );
    }
}

#[test]
fn a_frozen_machine_is_bitten_and_one_that_feeds_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let board = board(folder.path(), Bootloader::UBoot, Behaviour::Freezes);
    control(&board).arm_trial(Group::B, 1).unwrap();
    board.power_on();
    board.wait_for(0, PATIENCE, |what| *what == Happening::AgentStarted).unwrap();
    let mut watchdog = BoardFile::load(&board.files().board).unwrap().watchdog().unwrap();
    watchdog.arm(1).unwrap();
    for _ in 0..15 {
        std::thread::sleep(Duration::from_millis(100));
        watchdog.feed().unwrap();
    }
    assert!(board.since(0).contains(&Happening::Froze), "it freezes after 0.3 s");
    assert!(!board.since(0).contains(&Happening::WatchdogBites), "fed for 1.5 s, and yet bitten");
    board.wait_for(0, PATIENCE, |what| *what == Happening::WatchdogBites).unwrap();
    board.wait_for(0, PATIENCE, |what| *what == Happening::Boots(Group::A, Why::Good)).unwrap();
}

#[test]
fn a_reset_that_is_asked_for_boots_again_and_a_power_cut_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let board = board(folder.path(), Bootloader::UBoot, Behaviour::Healthy);
    board.power_on();
    board.wait_for(0, PATIENCE, |what| *what == Happening::AgentStarted).unwrap();
    assert!(board.files().app.exists(), "a healthy image's application is up");
    let first = board.status().agent.unwrap();

    let mark = board.mark();
    let command = match BoardFile::load(&board.files().board).unwrap().reboot {
        RebootSpec::Command(words) => words,
        other => panic!("{other:?}"),
    };
    assert!(std::process::Command::new(&command[0]).args(&command[1..]).status().unwrap().success());
    board.wait_for(mark, PATIENCE, |what| *what == Happening::AgentStarted).unwrap();
    let second = board.status().agent.unwrap();
    assert_ne!(first, second);
    assert!(!Path::new(&format!("/proc/{first}")).exists(), "the agent of the boot before is gone");

    let mark = board.mark();
    board.power_cut();
    board.wait_for(mark, PATIENCE, |what| *what == Happening::PowerCut).unwrap();
    assert!(!Path::new(&format!("/proc/{second}")).exists());
    std::thread::sleep(Duration::from_millis(200));
    assert!(!board.since(mark).iter().any(boots), "it stays off");
    board.power_on();
    board.wait_for(mark, PATIENCE, |what| *what == Happening::Boots(Group::A, Why::Good)).unwrap();
}

#[test]
fn an_unhealthy_image_comes_up_without_its_application() {
    let folder = tempfile::tempdir().unwrap();
    let board = board(folder.path(), Bootloader::Grub, Behaviour::Unhealthy);
    control(&board).arm_trial(Group::B, 2).unwrap();
    board.power_on();
    board.wait_for(0, PATIENCE, |what| *what == Happening::AgentStarted).unwrap();
    assert!(!board.files().app.exists());
    assert_eq!(board.status().running, Some((Group::B, Why::Trial)));
    assert_eq!(board.status().image.unwrap().behaviour, Behaviour::Unhealthy);
    assert_eq!(board.boot_state().unwrap().b.tries_left, 1, "one of the two tries is taken");
    let log = std::fs::read_to_string(&board.files().log).unwrap();
    assert!(log.starts_with("-- boots B, trial\n"), "{log}");
}

#[test]
fn what_a_slot_holds_is_compared_to_its_last_byte() {
    let folder = tempfile::tempdir().unwrap();
    let board = board(folder.path(), Bootloader::UBoot, Behaviour::Healthy);
    let image = folder.path().join("2.img");
    assert!(board.holds(Group::B, &image).unwrap());
    assert!(!board.holds(Group::A, &image).unwrap());
    let end = std::fs::metadata(&image).unwrap().len();
    board.disk().write("rootfs-b", end, &[1]).unwrap();
    assert!(board.holds(Group::B, &image).unwrap(), "what stands behind the image is not the image");
    let mut last = [0];
    board.disk().read("rootfs-b", end - 1, &mut last).unwrap();
    board.disk().write("rootfs-b", end - 1, &[!last[0]]).unwrap();
    assert!(!board.holds(Group::B, &image).unwrap());
}

#[test]
fn a_blank_slot_is_passed_over_whatever_the_variables_say() {
    let folder = tempfile::tempdir().unwrap();
    let board = board(folder.path(), Bootloader::UBoot, Behaviour::Healthy);
    board.disk().write("rootfs-b", 0, &[0; 512]).unwrap();
    let vars = board.vars().unwrap();
    assert!(Mainstay.change(&vars, Op::ArmTrial(Group::B, 3)).is_ok());
    control(&board).arm_trial(Group::B, 3).unwrap();
    board.power_on();
    assert_eq!(board.wait_for(0, PATIENCE, boots).unwrap(), Happening::Boots(Group::A, Why::Good));
}
