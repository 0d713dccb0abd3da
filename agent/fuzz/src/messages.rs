//! Messages from the broker, and bundles from a technician, to the agent as it ships: real configuration, board file,
//! state folder, environment block and slots, in a folder in memory.
//!
//! Claims: no message, signed or not, makes the agent panic, write outside of its folder's files, change the running
//! slot, or make the other group bootable unasked; numbers that are on record never fall; memory is bounded.

use crate::allocations::bounded;
use crate::throwaway::{OPERATOR, ROOT, TRUST, sealed};
use arbitrary::{Arbitrary, Unstructured};
use mainstay::agent::{Agent, Command, Request, Shared, Watcher, Wish};
use mainstay::file_source::FileSource;
use mainstay::run::Base;
use mainstay::transport::Event;
use mainstay_bootloader_glue::convention::{Convention, Mainstay};
use mainstay_bootloader_glue::{Format, Vars};
use mainstay_core::boot::Group;
use mainstay_core::digest::Digest;
use mainstay_core::policy::{DesiredAction, DesiredState, MaintenanceWindow};
use mainstay_core::topic::{Leaf, device, group_desired, manifest, trust};
use mainstay_core::trust::{MessageKind, Role, TrustRoot};
use mainstay_core::update::{PhaseName, Record};
use mainstay_core::wire::encode_body;
use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use tempfile::TempDir;

/// Some news, one after the other.
pub fn run(data: &[u8]) {
    let mut u = Unstructured::new(data);
    let mut news = Vec::new();
    while news.len() < NEWS_MAX && !u.is_empty() {
        match News::arbitrary(&mut u) {
            Ok(one) => news.push(one),
            Err(_) => break,
        }
    }
    live(&news);
}

/// Is what an operator means obeyed, and a bundle brought by hand written and proven? See `signed::check`.
pub fn check() {
    let desired = |seq| Desired {
        for_device: true,
        seq,
        manifest: 1,
        action: 0,
        rollout_bp: 10_000,
        window: None,
        expires: None,
        signed_at: 1_790_000_000,
        salt: 0,
        body: None,
    };
    let record =
        live(&[News::Desired(desired(7)), News::Trust { rises_by: 1, release: 0b11_1000, body: None }]);
    assert_eq!((record.desired_seq, record.time_floor), ([0, 7], 1_790_000_000));
    let record = live(&[News::Bundle { plan: crate::signed::sound(), retry: false }, News::Turn]);
    assert_eq!(record.phase.name(), PhaseName::Installed, "{record:?}");
}

/// What comes to the agent.
#[derive(Arbitrary, Debug)]
enum News<'a> {
    Raw {
        topic: u8,
        other: &'a str,
        payload: &'a [u8],
    },
    Desired(Desired<'a>),
    /// The body of a trust root, signed by enough of those who may.
    Trust {
        rises_by: u8,
        release: u16,
        body: Option<&'a [u8]>,
    },
    Bundle {
        plan: crate::signed::Plan,
        retry: bool,
    },
    BundleFile {
        file: &'a [u8],
        resign: bool,
    },
    Cancel,
    Connected,
    Disconnected,
    Ticket(u64),
    Turn,
}

/// A desired state, mostly one that could be meant.
#[derive(Arbitrary, Debug)]
struct Desired<'a> {
    for_device: bool,
    seq: u64,
    manifest: u8,
    action: u8,
    rollout_bp: u16,
    window: Option<(u64, u32)>,
    expires: Option<u64>,
    signed_at: u64,
    salt: u32,
    body: Option<&'a [u8]>,
}

const GROUP: &str = "line-2";
const NEWS_MAX: usize = 6;

fn live(news: &[News<'_>]) -> Record {
    let place = Place::fresh();
    let (slot, environment) = (place.read("slot-a"), place.read("grubenv"));
    // The agent's workspace, its buffers, one bundle and its status: what a gateway has for it.
    let record = bounded(4 * 1024 * 1024, || {
        let base = Base::open(&place.path("mainstay.toml")).expect("a gateway that is in order");
        let shared = Shared::new(base.status(true), base.opened.trust.clone());
        let mut agent = base.agent(None, shared.clone()).expect("starts");
        let _ = agent.turn(); // the first one looks at the boot state; nothing is offered before
        let mut before = shared.status();
        for news in news {
            hear(&mut agent, &shared, news);
            let after = shared.status();
            let risen = |i: usize| after.record.desired_seq[i] >= before.record.desired_seq[i];
            assert!(risen(0) && risen(1), "numbers never fall");
            assert!(
                after.record.floor >= before.record.floor
                    && after.record.time_floor >= before.record.time_floor
            );
            assert!(after.trust.1 >= before.trust.1, "the trust root's version never falls");
            before = after;
        }
        before.record
    });
    assert!(place.read("slot-a") == slot, "the running slot is never written");
    let env = Format::Grub.parse(&[place.read("grubenv")]).expect("is always whole");
    let state = Mainstay.state(env.vars()).expect("and means something");
    assert!(state.group(Group::A).bootable(), "the running group stays bootable");
    assert!(place.read("grubenv") == environment || !state.group(Group::B).bootable(), "nobody said: reboot");
    record
}

fn hear(agent: &mut Agent, shared: &Shared, news: &News<'_>) {
    let fleet = TRUST.fleet.as_str();
    let message = |topic: &str, payload: Vec<u8>| {
        Some(Command::Link(Event::Message { topic: topic.into(), payload, retained: true }))
    };
    let desired_topic = |for_device: bool| match for_device {
        true => device(fleet, "gw-1", Leaf::Desired),
        false => group_desired(fleet, GROUP),
    };
    let next = shared.trust().version.saturating_add(1);
    let command = match news {
        News::Raw { topic, other, payload } => {
            let topic = match topic % 8 {
                0 => (*other).to_string(),
                1 => trust(fleet, next).to_string(),
                2 => manifest(fleet, &Digest::of(payload)).to_string(),
                3 => device(fleet, "gw-1", Leaf::Data).to_string(),
                n => desired_topic(n % 2 == 0).to_string(),
            };
            message(&topic, payload.to_vec())
        }
        News::Desired(desired) => {
            let body = desired.body.map_or_else(|| desired.body(fleet), <[u8]>::to_vec);
            let envelope = sealed(MessageKind::DesiredState, &body, &OPERATOR);
            envelope.and_then(|envelope| message(&desired_topic(desired.for_device), envelope))
        }
        News::Trust { rises_by, release, body } => {
            let mut root = shared.trust();
            root.version = root.version.wrapping_add((rises_by % 3).into());
            root.roles[Role::Release as usize].members = release & 0b111_1111;
            let body = body.map_or_else(|| encode(&root), <[u8]>::to_vec);
            let envelope = sealed(MessageKind::TrustRoot, &body, &ROOT);
            envelope.and_then(|envelope| message(&trust(fleet, next), envelope))
        }
        News::Bundle { plan, retry } => crate::signed::file(plan).and_then(|file| install(file, *retry)),
        News::BundleFile { file, resign } => {
            let file = if *resign { crate::bundle::resigned(file) } else { Some(file.to_vec()) };
            file.and_then(|file| install(file, false))
        }
        News::Cancel => {
            let reply = Watcher::Elsewhere(channel().0);
            Some(Command::Technician(Request { what: Wish::Cancel, reply }))
        }
        News::Connected => Some(Command::Link(Event::Connected { session_present: false })),
        News::Disconnected => Some(Command::Link(Event::Disconnected { cause: "fuzzed".into() })),
        News::Ticket(ticket) => Some(Command::Link(Event::Acknowledged { ticket: *ticket })),
        News::Turn => None,
    };
    if let Some(command) = command {
        agent.take(command);
    }
    let _ = agent.turn();
}

fn encode(root: &TrustRoot) -> Vec<u8> {
    encode_body(root).expect("a root fits a body")
}

fn install(file: Vec<u8>, retry: bool) -> Option<Command> {
    let bundle = FileSource::open(Box::new(Cursor::new(file))).ok()?;
    let reply = Watcher::Elsewhere(channel().0);
    let what = Wish::Install { bundle: Box::new(bundle), retry, approve: false };
    Some(Command::Technician(Request { what, reply }))
}

impl Desired<'_> {
    fn body(&self, fleet: &str) -> Vec<u8> {
        let state = DesiredState {
            fleet: fleet.try_into().expect("short"),
            group: if self.for_device { "d/gw-1" } else { GROUP }.try_into().expect("short"),
            seq: self.seq,
            version: "2.0.0".try_into().expect("short"),
            manifest: Digest([self.manifest % 4; 32]),
            action: [DesiredAction::Run, DesiredAction::Pause, DesiredAction::Halt]
                [usize::from(self.action % 3)],
            rollout_bp: self.rollout_bp,
            window: self.window.map(|(not_before, spread_s)| MaintenanceWindow { not_before, spread_s }),
            expires: self.expires,
            signed_at: self.signed_at,
            salt: self.salt,
        };
        encode_body(&state).expect("a desired state fits a body")
    }
}

/// The gateway's folder; made once for each process, and as from the factory for each run.
struct Place(PathBuf);

impl Place {
    fn fresh() -> Place {
        thread_local! {
            static FOLDER: TempDir = tempfile::tempdir_in(crate::memory_folder()).expect("a folder in memory");
        }
        let place = Place(FOLDER.with(|folder| folder.path().into()));
        for folder in ["state", "run"] {
            let _ = fs::remove_dir_all(place.path(folder));
        }
        let vars = Vars::new().with(&Mainstay.fresh());
        let environment = Format::Grub.blank(&vars, Mainstay.names()).expect("it fits");
        place.write("grubenv", &environment[0]);
        place.write("slot-a", &[0xa1; SLOT_BYTES]);
        place.write("slot-b", &[0xb2; SLOT_BYTES]);
        if !place.path("running").exists() {
            place.write("running", b"A");
            place.write("board.toml", BOARD.as_bytes());
            place.write("mainstay.toml", CONFIG.as_bytes());
            let envelope = sealed(MessageKind::TrustRoot, &encode(&TRUST), &ROOT).expect("fits");
            place.write("trust.root", &envelope);
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::new(&self.0).join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).expect("a file in memory can be written");
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).expect("it is there")
    }
}

const SLOT_BYTES: usize = 16 * 1024;

const BOARD: &str = r#"
compatible = "fuzzed"
[boot]
bootloader = "grub"
convention = "mainstay"
environment = { path = "grubenv" }
lock_file = "grubenv.lock"
running_file = "running"
[[slot]]
group = "A"
class = "rootfs"
device = "slot-a"
[[slot]]
group = "B"
class = "rootfs"
device = "slot-b"
[watchdog]
kind = "none"
[reboot]
command = ["true"]
"#;

/// Nobody says that the machine may go down, so it never does.
const CONFIG: &str = r#"
device = "gw-1"
board = "board.toml"
trust = "trust.root"
state = "state"
run = "run"
[broker]
url = "mqtt://localhost"
allow_plain = true
group = "line-2"
[update]
reboot = "approve"
"#;
