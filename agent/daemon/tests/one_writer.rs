//! One agent at a time: two of them over one state folder, or over two state folders and the same slots.
//!
//! Goal: who comes second writes no byte of a slot and of the environment, and is told who was first. Method: real
//! processes of the real binary. A lock is the kernel's and goes with the process that held it, however that ended, so
//! nothing has to be cleaned up after a power cut or a kill.

mod gateway;
mod life;
mod support;

use gateway::*;
use life::*;
use mainstay_core::boot::Group;

/// A second agent on the machine: its own state and run folders, the same board.
fn intruder(machine: &Machine) -> impl Fn(&[&str]) -> Said + use<> {
    let config = String::from_utf8(machine.gateway.get("mainstay.toml")).unwrap();
    let config = config.replace("\"state\"", "\"state-2\"").replace("\"run\"", "\"run-2\"");
    machine.gateway.put("second.toml", config.as_bytes());
    let path = machine.gateway.path("second.toml");
    move |words: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_mainstay"));
        command.arg("--config").arg(&path).args(words).output().unwrap().into()
    }
}

#[test]
fn a_second_daemon_over_one_state_folder_ends_and_names_the_first() {
    let mut machine = Machine::new("");
    machine.start();
    let said = machine.gateway.run(&["run"]);
    let words = format!("another mainstay holds it (process {})", machine.pid());
    assert!(!said.ok && said.text.contains(&words), "{said:?}");
    assert!(machine.text().contains("\"daemon\":true"), "the first still answers");
}

/// The socket is gone (somebody has emptied the run folder): a command would do it by itself, beside the daemon.
#[test]
fn a_command_that_finds_no_socket_does_nothing_beside_a_daemon() {
    let mut machine = Machine::new("");
    machine.start();
    std::fs::remove_file(machine.gateway.path("run/control.sock")).unwrap();
    let before = machine.gateway.medium();
    let pid = machine.pid();
    let said = machine.install(&Workshop::new("2.0", 1), &[]);
    assert!(!said.ok && said.text.contains(&format!("holds it (process {pid})")), "{said:?}");
    assert_eq!(machine.gateway.medium(), before);
    // A kill leaves the file and not the lock.
    machine.kill();
    let said = machine.install(&Workshop::new("2.0", 1), &[]);
    assert!(said.ok, "{said:?}");
}

/// It used to find the lock only after it had taken the group out of the boot order: the first agent's trial was gone.
#[test]
fn an_agent_of_another_state_folder_touches_neither_a_slot_that_is_installed_nor_the_environment() {
    let mut machine = Machine::new("[update]\nreboot = \"approve\"");
    machine.start();
    let second = intruder(&machine);
    let said = machine.install(&Workshop::new("2.0", 1), &[]);
    assert!(said.ok, "{said:?}");
    let (before, other) = (machine.gateway.medium(), machine.bundle_file(&Workshop::new("3.0", 1)));
    let said = second(&["install", other.to_str().unwrap()]);
    assert!(!said.ok && said.text.contains("expected no other writer, found it locked"), "{said:?}");
    assert_eq!(machine.gateway.medium(), before, "after the installation");
    // A kill takes the lock along; who is started again takes it before it waits on.
    machine.kill();
    machine.start();
    machine.until(&["\"phase\":\"installed\"", "\"waiting\":\""]);
    std::fs::remove_dir_all(machine.gateway.path("state-2")).unwrap();
    let said = second(&["install", other.to_str().unwrap()]);
    assert!(!said.ok && said.text.contains("expected no other writer, found it locked"), "{said:?}");
    assert_eq!(machine.gateway.medium(), before, "after a restart");
    // And once it is armed, and the machine about to go down.
    assert!(machine.gateway.run(&["approve"]).ok);
    machine.until_it_goes_down();
    let before = machine.gateway.medium();
    assert!(machine.gateway.boot_state().group(Group::B).bootable(), "armed");
    std::fs::remove_dir_all(machine.gateway.path("state-2")).unwrap();
    let said = second(&["install", other.to_str().unwrap()]);
    assert!(!said.ok && said.text.contains("expected no other writer, found it locked"), "{said:?}");
    assert_eq!(machine.gateway.medium(), before, "after the arming");
    assert_eq!(machine.boot(), Group::B);
    machine.until(&["\"phase\":\"settled\"", "\"kind\":\"committed\""]);
}

/// A loop device over a file of the gateway, for as long as this lives.
struct Loop(String);

impl Loop {
    fn over(path: &std::path::Path) -> Option<Loop> {
        let made =
            std::process::Command::new("losetup").args(["--find", "--show"]).arg(path).output().ok()?;
        let name = String::from_utf8(made.stdout).ok()?.trim().to_string();
        made.status.success().then_some(Loop(name))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = std::process::Command::new("losetup").args(["--detach", &self.0]).status();
    }
}

/// On a block device it is the kernel's exclusive opening that is held.
#[test]
fn the_same_holds_for_a_slot_that_is_a_block_device() {
    let mut machine = Machine::new("[update]\nreboot = \"approve\"\n[sandbox]\nenabled = false");
    let Some(device) = Loop::over(&machine.gateway.path("slot-b")) else {
        return println!("not run: needs root and a free loop device");
    };
    let board = String::from_utf8(machine.gateway.get("board.toml")).unwrap();
    machine.gateway.put("board.toml", board.replace("\"slot-b\"", &format!("{:?}", device.0)).as_bytes());
    machine.start();
    let second = intruder(&machine);
    let said = machine.install(&Workshop::new("2.0", 1), &["--reboot"]);
    assert!(said.ok, "{said:?}");
    machine.until_it_goes_down();
    let (before, other) = (machine.gateway.medium(), machine.bundle_file(&Workshop::new("3.0", 1)));
    let said = second(&["install", other.to_str().unwrap()]);
    assert!(!said.ok && said.text.contains("found it mounted, or held by another program"), "{said:?}");
    assert_eq!(machine.gateway.medium(), before);
    machine.kill();
}
