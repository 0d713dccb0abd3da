//! People who stand at the gateway, or hold its disk: what they can do with the real binary, and what not.
//!
//! Goal: who is not root asks and commands nothing; who can write the state folder gets no lower than the image's floor;
//! who holds the recovery button gets no further than `mainstay rollback` would. Method: the real binary as another
//! user of this machine, a state folder that is damaged or emptied between two starts, and an agent that is told of the
//! button by hand, because a GPIO line is the one part that a test has not.

mod gateway;
mod life;
mod support;

use gateway::*;
use life::*;
use mainstay::agent::Shared;
use mainstay::run::{Base, go_back_for_the_button};
use mainstay_core::boot::Group;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;

const NOBODY: u32 = 65_534;

/// Another user of the gateway runs a command of the agent's binary.
fn as_nobody(machine: &Machine, words: &[&str]) -> Said {
    machine.gateway.command(words).uid(NOBODY).gid(NOBODY).output().unwrap().into()
}

fn mode(machine: &Machine, name: &str) -> u32 {
    std::fs::metadata(machine.gateway.path(name)).unwrap().permissions().mode() & 0o777
}

fn set_mode(machine: &Machine, name: &str, mode: u32) {
    std::fs::set_permissions(machine.gateway.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn another_user_of_the_gateway_can_neither_ask_nor_command_the_daemon() {
    let mut machine = Machine::new("");
    machine.start();
    assert_eq!((mode(&machine, "run"), mode(&machine, "run/control.sock")), (0o700, 0o600));
    if !nix::unistd::geteuid().is_root() {
        return println!("the modes alone: it needs root to become somebody else");
    }
    let environment = machine.gateway.get("grubenv");
    let commands: [&[&str]; 4] = [&["approve"], &["mark", "bad", "other"], &["rollback"], &["cancel"]];
    let all_refused = |words: &str| {
        for command in commands {
            let said = as_nobody(&machine, command);
            assert!(!said.ok && said.text.contains(words), "{command:?}: {said:?}");
        }
    };
    // The way to the socket is open, as in a folder that other software shares: its mode holds.
    set_mode(&machine, "", 0o755);
    set_mode(&machine, "run", 0o755);
    all_refused("only the agent's own user (root) may ask it");
    // And without its mode (a lax umask at the wrong moment, a file system that knows none), the kernel's word.
    set_mode(&machine, "run/control.sock", 0o666);
    all_refused("or root may ask it, not user 65534");
    assert_eq!(machine.gateway.get("grubenv"), environment);
    assert!(machine.text().contains("\"daemon\":true"), "and its owner is still answered");
}

/// A service that is started by hand, or by an init that sets none, has the umask of whoever wrote it.
#[test]
fn what_the_agent_makes_is_its_owners_alone_whatever_the_umask() {
    let mut machine = Machine::new("[update]\nreboot = \"approve\"");
    let log = std::fs::File::create(machine.gateway.path("log")).unwrap();
    let daemon = std::process::Command::new("sh")
        .args(["-c", "umask 0; exec \"$0\" --config \"$1\" run"])
        .args([env!("CARGO_BIN_EXE_mainstay").as_ref(), machine.gateway.path("mainstay.toml").as_path()])
        .stderr(log)
        .spawn();
    machine.daemon = Some(daemon.unwrap());
    machine.until(&["\"daemon\":true"]);
    assert!(machine.install(&Workshop::new("2.0", 1), &[]).ok);
    let mut seen = Vec::new();
    for folder in ["state", "run"] {
        assert_eq!(mode(&machine, folder), 0o700, "{folder}");
        for entry in std::fs::read_dir(machine.gateway.path(folder)).unwrap() {
            let name = format!("{folder}/{}", entry.unwrap().file_name().display());
            assert_eq!(mode(&machine, &name), 0o600, "{name}");
            seen.push(name);
        }
    }
    for name in ["state/journal.0", "state/manifest.0", "state/lock", "state/audit.log", "run/control.sock"] {
        assert!(seen.iter().any(|n| n == name), "{name} in {seen:?}");
    }
}

#[test]
fn a_request_without_an_end_is_refused_at_its_bound() {
    let mut machine = Machine::new("");
    machine.start();
    for (sent, answered) in [(255, false), (256, true)] {
        let mut stream =
            std::os::unix::net::UnixStream::connect(machine.gateway.path("run/control.sock")).unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_millis(500))).unwrap();
        stream.write_all(&vec![b'x'; sent]).unwrap();
        let mut said = String::new();
        let _ = stream.read_to_string(&mut said); // it waits on, below the bound
        assert_eq!(said.contains("a request of more than 256 bytes"), answered, "{sent}: {said}");
    }
}

/// Who reads the client key is the gateway, to the broker. It is said, and nothing is refused: a gateway that does not
/// come back over a mode would have to be visited.
#[test]
fn a_client_key_that_others_can_read_is_said_once_at_the_start_and_by_doctor() {
    let pki = support::pki::Pki::new("localhost");
    let config = format!(
        "[broker]\nurl = \"mqtts://localhost:1\"\ngroup = \"line-1\"\nca = {:?}\ncert = {:?}\nkey = \"key.pem\"",
        pki.ca, pki.client.cert
    );
    for (bits, words) in [(0o644, Some("mode 0644")), (0o640, Some("mode 0640")), (0o600, None)] {
        let mut machine = Machine::new(&config);
        machine.gateway.put("key.pem", &std::fs::read(&pki.client.key).unwrap());
        set_mode(&machine, "key.pem", bits);
        machine.start();
        let said = machine.log().matches("not its owner's alone").count();
        assert_eq!(said, words.iter().count(), "{bits:o}: {}", machine.log());
        let doctor = machine.gateway.run(&["doctor"]).text;
        let line = doctor.lines().find(|line| line.contains("client key")).unwrap_or(&doctor);
        assert_eq!(line.starts_with("note"), words.is_some(), "{bits:o}: {line}");
        assert!(words.is_none_or(|words| line.contains(words)), "{line}");
    }
}

/// With a copy of the state folder from before, or with none, a thief or a technician can make the gateway forget what
/// it has committed. What he cannot do is to make it forget the floor that its own image brings.
#[test]
fn after_the_record_is_lost_the_images_floor_holds() {
    #[rustfmt::skip]
    let cases: [(&str, Option<&[u8]>); 2] = [
        ("damaged in both copies", Some(b"not a record")),
        ("gone",                   None),
    ];
    for (what, left) in cases {
        let mut machine = Machine::new("image_floor = 3");
        machine.bring_to(&Workshop::new("2.0", 5));
        machine.until(&["\"floor\":5"]);
        machine.kill();
        for copy in ["state/journal.0", "state/journal.1"] {
            match left {
                Some(bytes) => machine.gateway.put(copy, bytes),
                None => std::fs::remove_file(machine.gateway.path(copy)).unwrap(),
            }
        }
        machine.start();
        machine.until(&["\"floor\":3"]);
        let said = machine.install(&Workshop::new("1.0", 2), &[]);
        let words = "downgrade: the floor is security version 3, the bundle has 2";
        assert!(!said.ok && said.text.contains(words), "{what}: {said:?}");
        // What is not protected, so that nobody believes that it is: between the image's floor and the lost one.
        let said = machine.install(&Workshop::new("1.5", 4), &[]);
        assert!(said.ok, "{what}: {said:?}");
    }
}

/// The agent of `machine`, in this process, told that the button was held when it started.
fn start_with_the_button_held(machine: &Machine) {
    let base = Base::open(&machine.gateway.path("mainstay.toml")).unwrap();
    let shared = Shared::new(base.status(true), base.opened.trust.clone());
    let mut agent = base.agent(None, shared).unwrap();
    go_back_for_the_button(&mut agent);
}

#[test]
fn a_recovery_button_goes_back_to_the_other_group_and_not_under_the_floor() {
    let mut machine = Machine::new("");
    machine.bring_to(&Workshop::new("2.0", 1));
    machine.kill();
    start_with_the_button_held(&machine);
    assert!(machine.goes_down());
    assert_eq!(machine.boot(), Group::A);
    machine.until(&["\"running\":\"A\"", "\"kind\":\"rolled-back\""]);
    // Now A is updated past what B holds: there is nothing to go back to any more that is allowed.
    machine.bring_to(&Workshop::new("2.1", 1));
    machine.bring_to(&Workshop::new("2.2", 5));
    machine.kill();
    let environment = machine.gateway.get("grubenv");
    start_with_the_button_held(&machine);
    assert!(!machine.goes_down());
    assert_eq!(machine.gateway.get("grubenv"), environment);
}
