//! What a life on an emulated board costs, in seconds of QEMU's CPU and on the wall: boot, install, trial, commit, and a
//! fallback by the watchdog. The tables in hil-tests/lab/README.md come from here.
//!
//!     cargo run -p mainstay-hil --example figures -- x86-bios AGENT [NATURE]
//!
//! AGENT: the static device binary (`cargo xtask size` builds it). The laboratory's parts are kept in `target/lab`. NATURE:
//! how the second image fares (`healthy` unless it is said), by its name in `/etc/lab/nature`.

use mainstay_core::boot::Group;
use mainstay_hil::bench::qemu::QemuBench;
use mainstay_hil::bench::{Bench, Identity, ImageSpec, Nature, What};
use mainstay_hil::broker::{Broker, Kind};
use mainstay_hil::listener::{Listener, Said};
use mainstay_hil::operator::{Access, Operator, Packing};
use mainstay_hil::pki::Pki;
use mainstay_hil::programs::Programs;
use mainstay_hil::{Doing, Result, Trouble};
use mainstay_lab::board::{Board, BoardKind};
use mainstay_lab::provision::Provision;
use std::path::Path;
use std::time::{Duration, Instant};

const FLEET: &str = "laboratory";
/// The longest life: a fallback by the watchdog that GRUB armed, three times, on a busy computer.
const PATIENCE: Duration = Duration::from_secs(900);

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [board, agent, ..] = &words[..] else {
        return Err(Trouble::new("expected a board (x86-bios …) and the device binary"));
    };
    let nature = match words.get(2) {
        Some(name) => Nature::from_name(name).doing(|| format!("{name}: no such nature"))?,
        None => Nature::Healthy,
    };
    let target = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../target"));
    let folder = tempfile::tempdir().doing(|| "a folder")?;
    let board = make(board, &target.join("hil"), Path::new(agent), folder.path())?;
    let mut bench = QemuBench::new(board, folder.path(), None)?;
    let pki = Pki::create(&folder.path().join("pki"))?;
    let broker = Broker::start(Kind::Embedded, &pki, folder.path())?;
    let ctl = Programs::build()?.ctl;
    let operator = Operator::new(&ctl, &folder.path().join("operator"), FLEET)?;
    let listener = Listener::start(&broker, &pki, "control-room", FLEET)?;
    let identity = Identity {
        device: "gw-1".into(),
        group: "line-1".into(),
        trust: operator.trust(),
        broker: broker.address(),
        ca: pki.ca(),
        certificate: pki.client("gw-1")?,
        image_floor: 1,
        broker_required: false,
    };
    let image = |bench: &mut QemuBench, version: &str, nature| {
        bench.image(&ImageSpec { version: version.into(), nature, agent: None })
    };
    let first = image(&mut bench, "1.0.0", Nature::Healthy)?;
    bench.factory(&first, &identity)?;
    let mut clock = Clock::default();
    println!("| step | wall s | CPU s |\n|---|--:|--:|");
    bench.power(true)?;
    clock.lap(&mut bench, "");
    clock.wait(&mut bench, "power to the jump into the kernel", |what| matches!(what, What::Jumps))?;
    clock.wait(&mut bench, "to user space", |what| matches!(what, What::UserSpace))?;
    hear(&listener, |said| matches!(said, Said::Presence(_)))?;
    clock.lap(&mut bench, "to the first presence on the broker");
    print!("{}", bench.agent(&["doctor"]).unwrap_or_else(|trouble| trouble.to_string()));
    clock.lap(&mut bench, "`mainstay doctor` over the console");
    let second = image(&mut bench, "2.0.0", nature)?;
    let bundle = operator.pack(&Packing {
        image: &second,
        compatible: bench.compatible(),
        version: "2.0.0",
        security_version: 2,
        tries: 2,
        deadline_s: 120,
        level: 1,
    })?;
    let access = Access::new(&broker, &pki, "operator")?;
    clock.lap(&mut bench, "image and bundle");
    let seen = bench.events()?.len();
    operator.publish(&bundle, &access, "line-1")?;
    clock.seen = seen;
    clock.wait(&mut bench, "publishing to the reset into the trial", |what| matches!(what, What::Reset))?;
    clock.wait(&mut bench, "to the jump into the trial's kernel", |what| matches!(what, What::Jumps))?;
    if nature != Nature::Healthy {
        clock.wait(&mut bench, "to the next reset", |what| matches!(what, What::Reset))?;
    }
    let outcome = hear(&listener, |said| matches!(said, Said::Outcome(_)));
    if outcome.is_err() {
        println!("{}", bench.evidence()?.console);
    }
    println!("{:?}", outcome?);
    clock.lap(&mut bench, "to the outcome on the broker");
    for event in bench.events()? {
        match event.what {
            What::Line(_) => {}
            what => {
                println!("{:8.2} {what:?}", event.at.saturating_duration_since(clock.began()).as_secs_f64())
            }
        }
    }
    println!("{:?}", bench.environment()?);
    println!("A {:?}, B {:?}", bench.version_in(Group::A)?, bench.version_in(Group::B)?);
    print!("{}", bench.agent(&["status"])?);
    Ok(())
}

/// The first that was heard and is wanted.
fn hear(listener: &Listener, wanted: impl Fn(&Said) -> bool) -> Result<Said> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(heard) = listener.since(0).into_iter().find(|heard| wanted(&heard.what)) {
            return Ok(heard.what);
        }
        if Instant::now() > deadline {
            return Err(Trouble::new("the gateway says nothing"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn make(name: &str, cache: &Path, agent: &Path, folder: &Path) -> Result<Box<dyn Board>> {
    let kinds = BoardKind::ALL.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(", ");
    let kind = BoardKind::from_name(name).doing(|| format!("{name}: expected one of {kinds}"))?;
    let parts = Provision::new(cache).provide(&[kind.want()])?;
    match parts.why_not(kind.want()) {
        Some(why) => Err(Trouble::new(why)),
        None => kind.create(&parts, agent, &folder.join("board")),
    }
}

/// Laps on the wall and in QEMU's CPU.
#[derive(Default)]
struct Clock {
    began: Option<Instant>,
    wall: Option<Instant>,
    cpu: f64,
    seen: usize,
}

impl Clock {
    fn began(&self) -> Instant {
        self.began.unwrap_or_else(Instant::now)
    }

    /// Ends a lap, and prints it if it has a name.
    fn lap(&mut self, bench: &mut QemuBench, name: &str) {
        let now = Instant::now();
        self.began.get_or_insert(now);
        let cpu = bench.machine().and_then(|machine| machine.cpu_seconds().ok()).unwrap_or_default();
        let wall = self.wall.replace(now).map_or(0.0, |before| (now - before).as_secs_f64());
        if !name.is_empty() {
            println!("| {name} | {wall:.1} | {:.1} |", cpu - self.cpu);
        }
        self.cpu = cpu;
    }

    /// Waits for an event, and ends the lap.
    fn wait(&mut self, bench: &mut QemuBench, name: &str, wanted: impl Fn(&What) -> bool) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let events = bench.events()?;
            if let Some(at) = events.iter().skip(self.seen).position(|event| wanted(&event.what)) {
                self.seen += at + 1;
                self.lap(bench, name);
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Trouble::new(format!("{name}: waited in vain\n{}", bench.evidence()?.console)));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
