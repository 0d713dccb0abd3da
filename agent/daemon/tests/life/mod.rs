//! A whole machine around a gateway in a folder: a bootloader that boots by the environment block, a power switch, a
//! reset line that leaves a mark, the daemon as a process, and an operator on a real Mosquitto.
//!
//! Nothing here waits for a fixed time: everything waits until something is so.

#![allow(dead_code)] // each test binary uses its part

use crate::gateway::*;
use crate::support::eventually;
use crate::support::mosquitto::{MosquittoFixture, Options};
use crate::support::peer::Peer;
use mainstay_bootloader_glue::convention::Mainstay;
use mainstay_bootloader_glue::{Format, model};
use mainstay_core::boot::Group;
use mainstay_core::bundle::Object;
use mainstay_core::digest::Digest;
use mainstay_core::policy::{DesiredAction, DesiredState};
use mainstay_core::report::{Outcome, Presence, Progress};
use mainstay_core::topic::{self, Leaf};
use mainstay_core::trust::{MessageKind, seal};
use mainstay_core::wire::decode_body;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Machine {
    pub gateway: Gateway,
    pub daemon: Option<Child>,
    /// Can the kernel of A, and of B, be loaded?
    pub loads: [bool; 2],
    /// Reboots that were asked for before the last boot.
    reboots: usize,
}

impl Machine {
    /// `config`: more lines of the agent's configuration.
    pub fn new(config: &str) -> Machine {
        let gateway = Gateway::with(config, 1);
        let board = String::from_utf8(gateway.get("board.toml")).unwrap();
        let script = format!("echo down >> {}", gateway.path("reboots").display());
        let command = format!("command = [\"sh\", \"-c\", \"{script}\"]");
        assert!(board.contains("command = [\"true\"]"));
        gateway.put("board.toml", board.replace("command = [\"true\"]", &command).as_bytes());
        gateway.put("reboots", b"");
        Machine { gateway, daemon: None, loads: [true; 2], reboots: 0 }
    }

    /// From the next start on, the reboot command says so, whatever the machine does.
    pub fn reboot_command_ends_with(&self, code: u8) {
        let board = String::from_utf8(self.gateway.get("board.toml")).unwrap();
        let file = self.gateway.path("reboots").display().to_string();
        let board = board.replace(&format!("{file}\"]"), &format!("{file}; exit {code}\"]"));
        self.gateway.put("board.toml", board.as_bytes());
    }

    /// Other lines of configuration, from the next start on.
    pub fn reconfigure(&self, from: &str, to: &str) {
        let config = String::from_utf8(self.gateway.get("mainstay.toml")).unwrap();
        assert!(config.contains(from), "{from} in {config}");
        self.gateway.put("mainstay.toml", config.replace(from, to).as_bytes());
    }

    pub fn start(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(self.gateway.path("log")).unwrap();
        let mut command = self.gateway.command(&["run", "--verbose"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.daemon = Some(command.spawn().unwrap());
        eventually(PATIENCE, "the daemon's socket", || {
            self.gateway.path("run/control.sock").exists() || self.ended().is_some()
        });
    }

    /// Has the daemon ended by itself?
    fn ended(&mut self) -> Option<ExitStatus> {
        self.daemon.as_mut().and_then(|daemon| daemon.try_wait().unwrap())
    }

    pub fn pid(&self) -> u32 {
        self.daemon.as_ref().unwrap().id()
    }

    /// SIGTERM; how it ended and how long that took.
    pub fn terminate(&mut self) -> (ExitStatus, Duration) {
        let mut daemon = self.daemon.take().unwrap();
        let begun = Instant::now();
        kill(Pid::from_raw(daemon.id() as i32), Signal::SIGTERM).unwrap();
        let mut status = None;
        eventually(PATIENCE, &format!("the daemon ends; log:\n{}", self.log()), || {
            status = daemon.try_wait().unwrap();
            status.is_some()
        });
        (status.unwrap(), begun.elapsed())
    }

    /// SIGKILL of the daemon alone.
    pub fn kill(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        let _ = std::fs::remove_file(self.gateway.path("run/control.sock"));
    }

    /// Everything that runs on the machine ends, and what does not outlive a boot is gone.
    pub fn power_off(&mut self) {
        self.kill();
        if let Some(guard) = mainstay::guard::standing(&self.gateway.path("run")) {
            let _ = kill(Pid::from_raw(guard), Signal::SIGKILL);
        }
        let _ = std::fs::remove_dir_all(self.gateway.path("run"));
    }

    /// Power off and on: the bootloader chooses as the boot script would, and the daemon is started.
    pub fn boot(&mut self) -> Group {
        let group = self.boot_without_daemon();
        self.start();
        group
    }

    pub fn boot_without_daemon(&mut self) -> Group {
        self.power_off();
        let mut copies = vec![self.gateway.get("grubenv")];
        let loads = |group| self.loads[Group::BOTH.iter().position(|g| *g == group).unwrap()];
        let boot = model::boot(&Format::Grub, &Mainstay, &copies, loads).unwrap();
        boot.writes.iter().for_each(|write| write.apply(&mut copies));
        self.gateway.put("grubenv", &copies[0]);
        let (group, _) = boot.group.expect("something to boot");
        self.gateway.put("running", group.name().as_bytes());
        self.reboots = self.asked_reboots();
        group
    }

    pub fn asked_reboots(&self) -> usize {
        self.gateway.get("reboots").iter().filter(|b| **b == b'\n').count()
    }

    /// Has a reboot been asked for since the last boot?
    pub fn goes_down(&self) -> bool {
        self.asked_reboots() > self.reboots
    }

    pub fn until_it_goes_down(&self) {
        eventually(PATIENCE, &format!("a reboot; status {}, log:\n{}", self.text(), self.log()), || {
            self.goes_down()
        });
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.gateway.path("log")).unwrap_or_default()
    }

    pub fn until_log(&self, words: &str) {
        self.until_logged(words, 1);
    }

    pub fn until_logged(&self, words: &str, times: usize) {
        let begun = Instant::now();
        while self.log().matches(words).count() < times {
            assert!(begun.elapsed() < PATIENCE, "expected {times} × {words:?} in the log:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// `mainstay status --json`.
    pub fn text(&self) -> String {
        self.gateway.run(&["status", "--json"]).text
    }

    /// Waits until the status holds all of `words`.
    pub fn until(&self, words: &[&str]) {
        let (begun, mut text) = (Instant::now(), String::new());
        while !words.iter().all(|word| text.contains(word)) {
            assert!(
                begun.elapsed() < PATIENCE,
                "expected {words:?} in the status:\n{text}\nlog:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(10));
            text = self.text();
        }
    }

    pub fn bundle_file(&self, bundle: &Workshop) -> PathBuf {
        let path = self.gateway.path(&format!("{}.bundle", bundle.manifest.version));
        std::fs::write(&path, bundle.bytes()).unwrap();
        path
    }

    pub fn install(&self, bundle: &Workshop, flags: &[&str]) -> Said {
        let mut command = self.gateway.command(&["install"]);
        command.arg(self.bundle_file(bundle)).args(flags).output().unwrap().into()
    }

    /// Installs by hand, reboots into the trial, and waits for the commit.
    pub fn bring_to(&mut self, bundle: &Workshop) {
        if self.daemon.is_none() {
            self.start();
        }
        let said = self.install(bundle, &["--reboot"]);
        assert!(said.ok, "{said:?}");
        self.until_it_goes_down();
        self.boot();
        self.until(&["\"phase\":\"settled\"", "\"kind\":\"committed\""]);
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.power_off();
        if std::thread::panicking() {
            eprintln!("the daemon's log:\n{}", self.log());
        }
    }
}

/// A machine and its broker, with an operator and somebody who watches.
pub struct Site {
    pub machine: Machine,
    pub broker: MosquittoFixture,
}

impl Site {
    /// `None`: no Mosquitto is installed, which has been said.
    pub fn new(update: &str, more: &str) -> Option<Site> {
        Site::on(Options { persistent: true, ..Options::default() }, update, more)
    }

    pub fn on(options: Options, update: &str, more: &str) -> Option<Site> {
        let broker = MosquittoFixture::start(options)?;
        let config = format!(
            "[broker]\nurl = \"mqtt://127.0.0.1:{}\"\nallow_plain = true\ngroup = \"line-1\"\n\
             [update]\nretry_s = 1\n{update}\n{more}",
            broker.port
        );
        Some(Site { machine: Machine::new(&config), broker })
    }

    /// Publishes manifest and objects, retained; the bundle's name.
    pub fn publish(&self, bundle: &Workshop) -> Digest {
        let (envelope, objects) = bundle.objects();
        let mut peer = Peer::connect(self.broker.port, "release");
        for (kind, object) in &objects {
            assert_ne!(*kind, Object::Manifest);
            peer.publish(&topic::object("plant", &Digest::of(object)), object, true);
        }
        let name = Digest::of(&envelope);
        peer.publish(&topic::manifest("plant", &name), &envelope, true);
        peer.flush();
        name
    }

    /// The manifest alone, so that a download waits for ever.
    pub fn publish_without_objects(&self, bundle: &Workshop) -> Digest {
        let (envelope, _) = bundle.objects();
        let name = Digest::of(&envelope);
        self.put(&topic::manifest("plant", &name), &envelope);
        name
    }

    pub fn put(&self, topic: &str, payload: &[u8]) {
        let mut peer = Peer::connect(self.broker.port, "operator");
        peer.publish(topic, payload, true);
        peer.flush();
        let _ = peer.client.disconnect();
    }

    pub fn desire(&self, manifest: Digest, seq: u64) {
        self.desire_as(manifest, seq, |_| {});
    }

    pub fn desire_as(&self, manifest: Digest, seq: u64, change: impl FnOnce(&mut DesiredState)) {
        let state = desired("line-1", manifest, seq, change);
        self.put(&topic::group_desired("plant", "line-1"), &state);
    }

    pub fn desire_for_device(&self, manifest: Digest, seq: u64, change: impl FnOnce(&mut DesiredState)) {
        let state = desired("d/gw-1", manifest, seq, change);
        self.put(&topic::device("plant", "gw-1", Leaf::Desired), &state);
    }

    /// Sees what the gateway publishes under `leaf`.
    pub fn watch(&self, leaf: Leaf) -> Watcher {
        self.watch_as(&format!("watcher-{leaf:?}"), leaf)
    }

    pub fn watch_as(&self, name: &str, leaf: Leaf) -> Watcher {
        let mut peer = Peer::connect(self.broker.port, name);
        peer.subscribe(&topic::device("plant", "gw-1", leaf));
        Watcher(peer)
    }
}

pub struct Watcher(Peer);

impl Watcher {
    /// The next presence that `wanted` takes.
    pub fn presence(&self, wanted: impl Fn(&Presence) -> bool) -> Presence {
        let mut seen = Vec::new();
        loop {
            let (_, payload, _) = self.0.next();
            let presence: Presence = decode_body("presence", &payload).unwrap();
            if wanted(&presence) {
                return presence;
            }
            seen.push((presence.availability, presence.phase));
            assert!(seen.len() < 200, "{seen:?}");
        }
    }

    /// The last progress that has come; what would come has been caused already.
    pub fn last_progress(&self) -> Progress {
        let all = std::iter::from_fn(|| self.0.next_within(Duration::from_millis(300)));
        decode_body("progress", &all.last().expect("some progress")).unwrap()
    }

    pub fn outcome(&self) -> Outcome {
        decode_body("outcome", &self.0.next().1).unwrap()
    }

    /// All that has come and nobody has looked at; what would come has been caused already.
    pub fn what_is_left(&self) -> Vec<Outcome> {
        let more = std::iter::from_fn(|| self.0.next_within(Duration::from_millis(300)));
        more.map(|payload| decode_body("outcome", &payload).unwrap()).collect()
    }

    /// Whether no more comes; what would come has been caused already, so a moment is enough.
    pub fn is_quiet(&self) -> bool {
        self.0.hears_nothing_for(Duration::from_millis(300))
    }
}

pub fn desired(group: &str, manifest: Digest, seq: u64, change: impl FnOnce(&mut DesiredState)) -> Vec<u8> {
    let mut desired = DesiredState {
        fleet: "plant".try_into().unwrap(),
        group: group.try_into().unwrap(),
        seq,
        version: "any".try_into().unwrap(),
        manifest,
        action: DesiredAction::Run,
        rollout_bp: 10_000,
        window: None,
        expires: None,
        signed_at: 1_770_000_000,
        salt: 0,
    };
    change(&mut desired);
    seal(MessageKind::DesiredState, &desired.encode().unwrap(), &[&key(OPERATOR)]).unwrap()
}

/// A check that passes when the file `healthy` of the gateway's folder is there, and is patient.
pub const HEALTHY_FILE: &str =
    "[[check]]\nname = \"plant\"\nfile = \"healthy\"\nretries = 100\ninterval_s = 1\n";

/// How long a hung test waits for a socket that should have answered.
pub fn quickly(what: &str, begun: Instant) {
    assert!(begun.elapsed() < Duration::from_secs(20), "{what} took {:?}", begun.elapsed());
}
