//! Applies one artifact of a bundle file to a slot, as the agent would, and says what that took: the installer of core, the slots
//! of board-support (past the page cache), zstd as the daemon has it, and nothing else of the agent. So its peak of memory is
//! that of the apply path alone.
//!
//! ```text
//! apply --bundle FILE --base FILE --target FILE --class CLASS [--route delta|full] [--reuse] [--recognise]
//! ```
//! The bundle file stands for a source that gives any object by its name: its objects are found by hashing them once, which is
//! counted apart, as is the read-back. `--recognise`: as on a gateway whose record does not say what it runs; else the base of
//! the first delta route is taken for what runs. `--reuse`: look for segments in both slots by their digests (full route).
//! The manifest's signatures are not looked at: whom to believe is another question than what it costs.
//!
//! Prints one JSON object: bytes, seconds, KiB.

use mainstay::agent::Lent;
use mainstay::inflate::Zstd;
use mainstay_board_support::{Board, BoardSlots};
use mainstay_core::boot::Group;
use mainstay_core::bundle::{Artifact, BUNDLE_MAGIC, Manifest, OBJECT_HEADER_BYTES, Object, RouteKind};
use mainstay_core::digest::Digest;
use mainstay_core::fault;
use mainstay_core::limits::OBJECT_BYTES_MAX;
use mainstay_core::seam::{Note, Observer, PieceSource, Result};
use mainstay_core::trust::Envelope;
use mainstay_core::update::{Installer, Reuse, Tools, WORKSPACE_BYTES, read_back};
use nix::sys::resource::{UsageWho, getrusage};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Instant;

fn main() {
    if let Err(why) = run() {
        eprintln!("apply: {why}");
        std::process::exit(1);
    }
}

fn run() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let asked = Asked::read()?;
    let indexed = Meter::start();
    let mut bundle = Bundle::open(&asked.bundle, asked.full)?;
    let indexed = indexed.stop();
    let manifest = bundle.manifest()?;
    let artifact = manifest.artifacts.iter().find(|artifact| artifact.class == asked.class.as_str());
    let artifact = artifact.ok_or("no artifact of that class in the bundle")?;
    let mut slots = asked.slots(artifact)?;
    let mut workspace: Box<[u8; WORKSPACE_BYTES]> =
        vec![0; WORKSPACE_BYTES].into_boxed_slice().try_into().map_err(|_| "workspace")?;
    let (mut inflate, mut seen, mut memory) = (Zstd::default(), Seen::default(), Lent::default());
    let mut holds = artifact.routes.iter().find_map(|route| match route.kind {
        RouteKind::Delta { base, .. } if !asked.recognise => Some(base),
        _ => None,
    });
    let tools = Tools {
        slots: &mut slots,
        source: &mut bundle,
        inflate: &mut inflate,
        observer: &mut seen,
        memory: &mut memory,
    };
    let reuse = Reuse { target: !asked.full || asked.reuse, running: asked.reuse };
    let applied = Meter::start();
    Installer::new(Group::B, reuse, artifact.size, tools).install(artifact, &mut holds, &mut workspace)?;
    let applied = applied.stop();
    let peak = peak_kib()?;
    let proven = Meter::start();
    read_back(Group::B, artifact, &mut slots, &mut workspace)?;
    let proven = proven.stop();
    let [_, total, fetched, copied, kept] = seen.progress;
    let Bundle { reads, bytes_read, .. } = bundle;
    println!(
        "{{\"route\": \"{}\", \"content\": {total}, \"fetched\": {fetched}, \"objects\": {reads}, \"objects_bytes\": \
         {bytes_read}, \"copied\": {copied}, \"kept\": {kept}, \"drifted\": {}, {applied}, \"peak_rss_kib\": {peak}, \
         \"index\": {{{indexed}}}, \"read_back\": {{{proven}}}}}",
        seen.route, seen.drifted
    );
    Ok(())
}

/// What the command line says.
#[derive(Default)]
struct Asked {
    bundle: String,
    base: String,
    target: String,
    class: String,
    full: bool,
    reuse: bool,
    recognise: bool,
}

impl Asked {
    fn read() -> std::result::Result<Asked, Box<dyn std::error::Error>> {
        use lexopt::prelude::*;
        let (mut asked, mut parser) = (Asked::default(), lexopt::Parser::from_env());
        while let Some(arg) = parser.next()? {
            match arg {
                Long("bundle") => asked.bundle = parser.value()?.string()?,
                Long("base") => asked.base = parser.value()?.string()?,
                Long("target") => asked.target = parser.value()?.string()?,
                Long("class") => asked.class = parser.value()?.string()?,
                Long("reuse") => asked.reuse = true,
                Long("recognise") => asked.recognise = true,
                Long("route") => match &*parser.value()?.string()? {
                    "delta" => asked.full = false,
                    "full" => asked.full = true,
                    other => return Err(format!("expected --route delta or full, found {other}").into()),
                },
                _ => return Err(arg.unexpected().into()),
            }
        }
        if [&asked.bundle, &asked.base, &asked.target, &asked.class].iter().any(|text| text.is_empty()) {
            return Err("expected --bundle FILE --base FILE --target FILE --class CLASS".into());
        }
        Ok(asked)
    }

    /// The base is the running group's slot, the target is made as large as it has to be.
    fn slots(&self, artifact: &Artifact) -> std::result::Result<BoardSlots, Box<dyn std::error::Error>> {
        let target = File::options().create(true).truncate(false).write(true).open(&self.target)?;
        if target.metadata()?.len() < artifact.size {
            target.set_len(artifact.size.next_multiple_of(4096))?;
        }
        let slot = |group: &str, file: &str| {
            let path = std::fs::canonicalize(file)?;
            let (class, path) = (&self.class, path.display());
            let line = format!("[[slot]]\ngroup = \"{group}\"\nclass = \"{class}\"\ndevice = \"{path}\"\n");
            std::io::Result::Ok(line)
        };
        let text = format!(
            "compatible = \"apply\"\n[boot]\nbootloader = \"grub\"\nconvention = \"mainstay\"\nenvironment = {{ path = \
             \"none\" }}\nlock_file = \"none\"\nrunning_file = \"none\"\n{}{}[watchdog]\nkind = \"none\"\n[reboot]\n\
             command = [\"true\"]\n",
            slot("A", &self.base)?,
            slot("B", &self.target)?
        );
        Ok(BoardSlots::new(&Board::parse(&text, "apply.toml")?, Group::A))
    }
}

/// A bundle file whose objects are found by their names.
struct Bundle {
    file: File,
    /// The beginning of each object's name, and its place and length: an agent has no such list, so it shall be small.
    objects: Vec<(u64, u64)>,
    manifest: Vec<u8>,
    object: Vec<u8>,
    only_forward: bool,
    reads: u64,
    bytes_read: u64,
}

impl Bundle {
    fn open(path: &str, only_forward: bool) -> std::result::Result<Bundle, Box<dyn std::error::Error>> {
        let file = File::open(path)?;
        let mut magic = [0; BUNDLE_MAGIC.len()];
        file.read_exact_at(&mut magic, 0)?;
        if magic != BUNDLE_MAGIC {
            return Err(format!("{path} is no bundle").into());
        }
        let (mut at, mut objects, mut manifest) = (magic.len() as u64, Vec::new(), Vec::new());
        let mut room = vec![0; OBJECT_BYTES_MAX];
        loop {
            let mut header = [0; OBJECT_HEADER_BYTES];
            file.read_exact_at(&mut header, at)?;
            let (kind, length) = Object::parse_header(&header)?;
            at += header.len() as u64;
            let bytes = room.get_mut(..length).ok_or("an object beyond its bound")?;
            file.read_exact_at(bytes, at)?;
            match kind {
                Object::End => break,
                Object::Manifest => manifest = bytes.to_vec(),
                _ => objects.push((begins(&Digest::of(bytes)), at << LENGTH_BITS | length as u64)),
            }
            at += length as u64;
        }
        objects.sort_unstable();
        let object = room;
        Ok(Bundle { file, objects, manifest, object, only_forward, reads: 0, bytes_read: 0 })
    }

    fn manifest(&self) -> Result<Manifest> {
        let envelope = Envelope::parse(&self.manifest)?;
        // Behind the header and the signatures; how long it is, the envelope has said and been held to.
        let signatures = envelope.signatures().count() * 72;
        Manifest::decode(self.manifest.get(12 + signatures..).unwrap_or_default())
    }
}

/// What the installer proves in full is found by its first 8 bytes.
fn begins(name: &Digest) -> u64 {
    name.0.first_chunk().map_or(0, |begins| u64::from_be_bytes(*begins))
}

/// An object has at most 128 KiB.
const LENGTH_BITS: u32 = 18;
const _: () = assert!(OBJECT_BYTES_MAX < 1 << LENGTH_BITS);

impl PieceSource for Bundle {
    fn only_forward(&self) -> bool {
        self.only_forward
    }
    fn prefetch(&mut self, _name: &Digest, _bytes: u32) -> bool {
        false
    }
    fn fetch(&mut self, name: &Digest, _bytes: u32) -> Result<&[u8]> {
        let missing = || fault!(NotFound, "no object {name:?}");
        let found = self.objects.binary_search_by_key(&begins(name), |(name, _)| *name);
        let (_, place) = found.ok().and_then(|found| self.objects.get(found)).ok_or_else(missing)?;
        let (at, length) = (place >> LENGTH_BITS, place & ((1 << LENGTH_BITS) - 1));
        let bytes = self.object.get_mut(..length as usize).ok_or_else(missing)?;
        self.file.read_exact_at(bytes, at).map_err(|e| fault!(Io, "bundle: read at {at}: {e}"))?;
        self.reads += 1;
        self.bytes_read += length;
        Ok(bytes)
    }
    fn release(&mut self, _name: &Digest) {}
    fn refute(&mut self, name: &Digest) -> Result<()> {
        Err(fault!(Corrupt, "object {name:?} changed in the file"))
    }
}

/// What was said.
#[derive(Default)]
struct Seen {
    progress: [u64; 5],
    drifted: u32,
    route: &'static str,
}

impl Observer for Seen {
    fn note(&mut self, note: Note<'_>) {
        match note {
            Note::Progress { done, total, fetched, copied, kept } => {
                self.progress = [done, total, fetched, copied, kept];
            }
            Note::Route { base, .. } => self.route = if base.is_some() { "delta" } else { "full" },
            Note::Drift { segments, .. } => self.drifted += segments,
            Note::Fault { doing, fault } => eprintln!("{doing}: {fault}"),
            _ => {}
        }
    }
}

/// Time and CPU of a part.
struct Meter {
    since: Instant,
    cpu: [f64; 2],
}

impl Meter {
    fn start() -> Meter {
        Meter { since: Instant::now(), cpu: cpu() }
    }

    fn stop(self) -> String {
        let ([user, sys], [user_before, sys_before]) = (cpu(), self.cpu);
        let (wall, user, sys) = (self.since.elapsed().as_secs_f64(), user - user_before, sys - sys_before);
        format!("\"wall\": {wall:.3}, \"cpu_user\": {user:.3}, \"cpu_sys\": {sys:.3}")
    }
}

/// VmHWM (proc_pid_status(5)), and not `ru_maxrss` (getrusage(2)), which begins at what the shell had that started this.
fn peak_kib() -> std::result::Result<u64, Box<dyn std::error::Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

#[expect(clippy::expect_used, reason = "a bench: the kernel knows its own process")]
fn usage() -> nix::sys::resource::Usage {
    getrusage(UsageWho::RUSAGE_SELF).expect("the process's own usage")
}

fn cpu() -> [f64; 2] {
    let usage = usage();
    [usage.user_time(), usage.system_time()].map(|time| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6)
}
