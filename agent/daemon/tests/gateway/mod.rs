//! A gateway in a folder for tests of the real binary: two slots and a GRUB environment block in files, a trust root,
//! and a workshop that makes bundles, good ones and ones that lie.

#![allow(dead_code)] // each test binary uses its part

use ed25519_dalek::SigningKey;
use mainstay_bootloader_glue::convention::{Convention, Mainstay};
use mainstay_bootloader_glue::{Format, vars::Vars};
use mainstay_core::boot::BootState;
use mainstay_core::bundle::author::{RunBuilder, table};
use mainstay_core::bundle::patch::{self, Base, Op, PatchState, Transform};
use mainstay_core::bundle::*;
use mainstay_core::digest::Digest;
use mainstay_core::fault::Fault;
use mainstay_core::limits::SEGMENT_BYTES;
use mainstay_core::trust::{MessageKind, RoleMembers, TrustRoot, seal};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

pub const SLOT_BYTES: u64 = 4 << 20;
pub const COMPATIBLE: &str = "test-gw";

/// Throw-away keys, the same in every run.
pub fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

pub const ROOT: u8 = 1;
pub const RELEASE: u8 = 2;
pub const RELEASE_TWO: u8 = 3;
pub const OPERATOR: u8 = 4;
pub const STRANGER: u8 = 9;

/// Fleet `plant`; releases need `release_threshold` of two keys.
pub fn trust_root(release_threshold: u8) -> Vec<u8> {
    let keys = [ROOT, RELEASE, RELEASE_TWO, OPERATOR].map(|seed| key(seed).verifying_key().to_bytes());
    let role = |threshold, members| RoleMembers { threshold, members };
    let root = TrustRoot {
        fleet: "plant".try_into().unwrap(),
        version: 1,
        keys: keys.into_iter().collect(),
        roles: [role(1, 0b0001), role(release_threshold, 0b0110), role(1, 0b1000), role(0, 0)],
    };
    seal(MessageKind::TrustRoot, &root.encode().unwrap(), &[&key(ROOT)]).unwrap()
}

/// A gateway in a folder of its own.
pub struct Gateway {
    folder: tempfile::TempDir,
}

impl Gateway {
    pub fn new() -> Gateway {
        Gateway::with("", 1)
    }

    /// `config`: more lines of the agent's configuration.
    pub fn with(config: &str, release_threshold: u8) -> Gateway {
        let gateway = Gateway { folder: tempfile::tempdir().unwrap() };
        let vars = Vars::new().with(&Mainstay.fresh());
        let [environment] =
            <[Vec<u8>; 1]>::try_from(Format::Grub.blank(&vars, Mainstay.names()).unwrap()).unwrap();
        gateway.put("grubenv", &environment);
        gateway.put("slot-a", &vec![0xaa; SLOT_BYTES as usize]);
        gateway.put("slot-b", &vec![0xbb; SLOT_BYTES as usize]);
        gateway.put("running", b"A");
        gateway.put("trust.root", &trust_root(release_threshold));
        gateway.put("board.toml", board_file().as_bytes());
        gateway.put("mainstay.toml", config_file(config).as_bytes());
        gateway
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn put(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    pub fn get(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    /// A command of the real binary.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mainstay"));
        // By a relative path, which nothing may be lost by.
        command.current_dir(self.folder.path()).args(["--config", "mainstay.toml"]).args(words);
        command
    }

    pub fn run(&self, words: &[&str]) -> Said {
        self.command(words).output().unwrap().into()
    }

    /// `mainstay WORDS -`, with `bytes` on standard input.
    pub fn feed(&self, words: &[&str], bytes: &[u8]) -> Said {
        let mut command = self.command(words);
        command.arg("-").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let _ = input.write_all(bytes); // who has heard enough closes the pipe
            });
            child.wait_with_output().unwrap().into()
        })
    }

    /// Everything that must not change when a bundle is refused before it is taken.
    pub fn medium(&self) -> BTreeMap<&'static str, Digest> {
        ["slot-a", "slot-b", "grubenv", "trust.root"].map(|name| (name, Digest::of(&self.get(name)))).into()
    }

    pub fn boot_state(&self) -> BootState {
        let env = Format::Grub.parse(&[self.get("grubenv")]).unwrap();
        Mainstay.state(env.vars()).unwrap()
    }

    pub fn status(&self) -> String {
        let said = self.run(&["status", "--json"]);
        assert!(said.ok, "{said:?}");
        said.text
    }
}

fn board_file() -> String {
    let slot = |group: &str, file: &str| {
        format!("[[slot]]\ngroup = \"{group}\"\nclass = \"rootfs\"\ndevice = \"{file}\"\n")
    };
    format!(
        "compatible = \"{COMPATIBLE}\"\n[boot]\nbootloader = \"grub\"\nconvention = \"mainstay\"\n\
         environment = {{ path = \"grubenv\" }}\nlock_file = \"grubenv.lock\"\nrunning_file = \"running\"\n{}{}\
         [watchdog]\nkind = \"none\"\n[reboot]\ncommand = [\"true\"]\n",
        slot("A", "slot-a"),
        slot("B", "slot-b")
    )
}

fn config_file(more: &str) -> String {
    format!(
        "device = \"gw-1\"\nboard = \"board.toml\"\ntrust = \"trust.root\"\nstate = \"state\"\nrun = \"run\"\n{more}\n"
    )
}

/// What a command said.
#[derive(Debug)]
pub struct Said {
    pub ok: bool,
    pub text: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Said {
        let text = [output.stdout, output.stderr].concat();
        Said { ok: output.status.success(), text: String::from_utf8_lossy(&text).into_owned() }
    }
}

/// A bundle in the making, every part of it open to lies.
pub struct Workshop {
    pub content: Vec<u8>,
    pub manifest: Manifest,
    pub signers: Vec<u8>,
    /// After the objects are made and before the manifest is: each object with its kind.
    pub spoil: fn(&mut Vec<(Object, Vec<u8>)>),
    /// The encoding of each segment.
    pub encode: fn(&[u8]) -> (Encoding, Vec<u8>),
    /// What the index says of each segment.
    pub claim: fn(&[u8]) -> Digest,
    /// The body that is signed instead of the manifest's.
    pub body: Option<Vec<u8>>,
    /// What gateways may hold, from which delta routes begin.
    pub bases: Vec<Vec<u8>>,
}

impl Workshop {
    /// A good bundle: 900 KiB of content, with a segment of zeros and an odd tail.
    pub fn new(version: &str, security_version: u32) -> Workshop {
        // Noise, zeros, and text: raw, zero and zstd segments, and more than one piece.
        let mut noise = 0x9e37_79b9_7f4a_7c15u64;
        let mut content: Vec<u8> = std::iter::repeat_with(|| {
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            noise as u8
        })
        .take(900 * 1024)
        .collect();
        content[SEGMENT_BYTES..2 * SEGMENT_BYTES].fill(0);
        for (i, byte) in content[2 * SEGMENT_BYTES..3 * SEGMENT_BYTES].iter_mut().enumerate() {
            *byte = b"a gateway in a plant "[i % 21];
        }
        content[..version.len()].copy_from_slice(version.as_bytes());
        content.extend_from_slice(b"tail");
        let manifest = Manifest {
            compatible: COMPATIBLE.try_into().unwrap(),
            version: version.try_into().unwrap(),
            security_version,
            artifacts: heapless::Vec::new(),
            trial: TrialPolicy { tries: 3, deadline_s: 5, required: heapless::Vec::new() },
            not_before: None,
            expires: None,
            provenance: Provenance::default(),
            meta: heapless::Vec::new(),
        };
        Workshop {
            content,
            manifest,
            signers: vec![RELEASE],
            spoil: |_| {},
            encode,
            claim: Digest::of,
            body: None,
            bases: Vec::new(),
        }
    }

    /// The objects and the envelope of the manifest.
    pub fn objects(&self) -> (Vec<u8>, Vec<(Object, Vec<u8>)>) {
        let mut run = RunBuilder::new();
        for segment in self.content.chunks(SEGMENT_BYTES) {
            let (encoding, encoded) = (self.encode)(segment);
            run.push((self.claim)(segment), encoding, &encoded).unwrap();
        }
        let run = run.finish(0);
        let mut objects = vec![(Object::SegmentPage, run.segment_page), (Object::RoutePage, run.route_page)];
        objects.extend(run.pieces.into_iter().map(|piece| (Object::Piece, piece)));
        (self.spoil)(&mut objects);
        let tables = [0, 1].map(|page: usize| (Object::Table, table(&[Digest::of(&objects[page].1)])));
        let [segments, route] = [0, 1].map(|page: usize| Digest::of(&tables[page].1));
        objects.splice(0..0, tables);
        let bytes =
            objects.iter().filter(|(kind, _)| *kind == Object::Piece).map(|(_, b)| b.len() as u64).sum();
        let mut manifest = self.manifest.clone();
        let mut routes: heapless::Vec<_, _> =
            [Route { kind: RouteKind::Full, table: route, bytes }].into_iter().collect();
        for base in &self.bases {
            let (route, more) = delta(base, &self.content);
            routes.push(route).unwrap();
            objects.extend(more);
        }
        if manifest.artifacts.is_empty() {
            let artifact = Artifact {
                class: "rootfs".try_into().unwrap(),
                size: self.content.len() as u64,
                digest: Digest::of(&self.content),
                segments,
                routes,
            };
            manifest.artifacts.push(artifact).unwrap();
        }
        let signers: Vec<SigningKey> = self.signers.iter().map(|seed| key(*seed)).collect();
        let body = self.body.clone().unwrap_or_else(|| manifest.encode().unwrap());
        let envelope = seal(MessageKind::Manifest, &body, &signers.iter().collect::<Vec<_>>()).unwrap();
        (envelope, objects)
    }

    /// The bundle as one file, and where each object begins.
    pub fn file(&self) -> (Vec<u8>, Vec<usize>) {
        let (envelope, objects) = self.objects();
        let mut out = BUNDLE_MAGIC.to_vec();
        let mut places = Vec::new();
        let end = (Object::End, Vec::new());
        for (kind, bytes) in [(Object::Manifest, envelope)].iter().chain(&objects).chain([&end]) {
            places.push(out.len());
            out.extend_from_slice(&kind.header(bytes.len()));
            out.extend_from_slice(bytes);
        }
        (out, places)
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.file().0
    }
}

/// A delta route: what is as in the base is copied, and what is not differs here and there.
fn delta(base: &[u8], content: &[u8]) -> (Route, Vec<(Object, Vec<u8>)>) {
    struct Held<'a>(&'a [u8]);
    impl Base for Held<'_> {
        fn bytes(&self) -> u64 {
            self.0.len() as u64
        }
        fn read(&mut self, at: u64, out: &mut [u8]) -> Result<(), Fault> {
            out.copy_from_slice(&self.0[at as usize..][..out.len()]);
            Ok(())
        }
    }
    let (mut run, mut state, mut begins) = (RunBuilder::new(), Box::<PatchState>::default(), true);
    for (i, segment) in content.chunks(SEGMENT_BYTES).enumerate() {
        let at = i * SEGMENT_BYTES;
        let digest = Digest::of(segment);
        if segment.iter().all(|b| *b == 0) {
            run.push_delta(digest, Encoding::Zero, &[], false).unwrap();
        } else if base.get(at..at + segment.len()) == Some(segment) {
            run.push_delta(digest, Encoding::Copy, &[], false).unwrap();
        } else {
            let from = patch::From { at: at as u64, transform: Transform::None, address: 0, anchor: 0 };
            let ops = [Op::Add { length: segment.len() as u32, from }];
            let frame = patch::patch(&ops, None, at as u64, &mut state, &mut Held(base), segment).unwrap();
            run.push_delta(digest, Encoding::Patch, &frame, begins).unwrap();
            begins = false;
        }
    }
    let run = run.finish_delta(0);
    let table = table(&[Digest::of(&run.route_page)]);
    let bytes = run.pieces.iter().map(|piece| piece.len() as u64).sum();
    let kind = RouteKind::Delta { base: Digest::of(base), base_bytes: base.len() as u64 };
    let route = Route { kind, table: Digest::of(&table), bytes };
    let mut objects = vec![(Object::Table, table), (Object::DeltaPage, run.route_page)];
    objects.extend(run.pieces.into_iter().map(|piece| (Object::Piece, piece)));
    (route, objects)
}

fn encode(segment: &[u8]) -> (Encoding, Vec<u8>) {
    if segment.iter().all(|b| *b == 0) {
        return (Encoding::Zero, Vec::new());
    }
    let frame = zstd(segment);
    if frame.len() < segment.len() { (Encoding::Zstd, frame) } else { (Encoding::Raw, segment.to_vec()) }
}

/// One zstd frame.
pub fn zstd(content: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; zstd_safe::compress_bound(content.len())];
    let used = zstd_safe::compress(&mut frame[..], content, 3).unwrap();
    frame.truncate(used);
    frame
}

/// Is `what` there, and does it begin with `content`?
pub fn holds(path: &Path, content: &[u8]) -> bool {
    std::fs::read(path).is_ok_and(|bytes| bytes.starts_with(content))
}
