//! A fake board behind a pseudo terminal: a thread that plays a bootloader's and a shell's lines, switched by commands
//! that leave and remove a file. The bench in front of it is the real one.

use super::*;
use crate::bench::Nature;
use nix::pty::openpty;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

const PATIENCE: Duration = Duration::from_secs(60);

struct FakeBoard {
    folder: TempDir,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What the fake bootloader and system print after power on.
const BOOT: &str = "\r\nU-Boot 2023.01 (fake)\r\nmainstay: order A B, A good 1 left 0, B good 0 left 0\r\n\
    mainstay: group A (good), partition 2\r\nStarting kernel ...\r\n[    1.0] Run /sbin/init as init process\r\n\
    mainstay: info: phase idle\r\n/ # ";

const STATUS: &str = concat!(
    r#"{"device":"fake","groups":[{"group":"A","version":"1.0.0","priority":2,"tries_left":0,"good":true},"#,
    r#"{"group":"B","version":null,"priority":0,"tries_left":0,"good":false}],"boot_fault":null}"#
);

impl FakeBoard {
    fn start() -> FakeBoard {
        let folder = TempDir::new().unwrap();
        let pty = openpty(None, None).unwrap();
        let slave = nix::unistd::ttyname(pty.slave.as_fd()).unwrap();
        std::os::unix::fs::symlink(slave, folder.path().join("tty")).unwrap();
        let (power, runs) = (folder.path().join("power"), folder.path().join("runs"));
        let over = Arc::new(AtomicBool::new(false));
        let its = over.clone();
        let thread = std::thread::spawn(move || {
            let _slave = pty.slave; // held open: the port of a real adapter does not go with the board's power
            let mut master = File::from(pty.master);
            let mut reading = master.try_clone().unwrap();
            let (keys, typed) = std::sync::mpsc::channel();
            std::thread::spawn(move || {
                let mut byte = [0];
                while reading.read_exact(&mut byte).is_ok() && keys.send(byte[0]).is_ok() {}
            });
            let (mut on, mut line) = (false, String::new());
            while !its.load(Ordering::SeqCst) {
                let switched = power.exists();
                if !switched && on {
                    std::fs::remove_file(&runs).unwrap(); // a cut is over when the board is off
                }
                if switched && !on {
                    std::fs::write(&runs, "").unwrap();
                    master.write_all(BOOT.as_bytes()).unwrap();
                }
                on = switched;
                while let Ok(key) = typed.try_recv() {
                    if !on {
                        continue;
                    }
                    master.write_all(&[key]).unwrap(); // the echo
                    line.push(key as char);
                    if key == b'\n' {
                        master.write_all(answer(line.trim()).as_bytes()).unwrap();
                        line.clear();
                    }
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        FakeBoard { folder, over, thread: Some(thread) }
    }

    fn bench(&self) -> RealBoard {
        let text = "
            name = 'fake'\ncompatible = 'fake'\nbootloader = 'uboot'
            serial = { path = 'tty', baud = 115200 }
            power = { on = ['touch', 'power'], off = ['sh', '-c', 'rm -f power; while test -e runs; do sleep 0.01; done'] }
            network = { broker = '127.0.0.1' }
            image = { make = ['sh', '-c', 'echo $MAINSTAY_HIL_VERSION $MAINSTAY_HIL_NATURE >$MAINSTAY_HIL_OUT'], natures = ['healthy'] }
            factory = { flash = ['sh', '-c', 'cp $MAINSTAY_HIL_IMAGE flashed; echo $MAINSTAY_HIL_BROKER >>flashed'] }
            console = { prompt = '# ' }
            pace = { boot_s = 1, watchdog_s = 1, install_s = 1, pause_s = 1 }
        ";
        RealBoard::with(Config::parse(text, "bench.toml", self.folder.path()).unwrap()).unwrap()
    }
}

impl Drop for FakeBoard {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// The fake shell: it knows our three commands in a line and one program.
fn answer(line: &str) -> String {
    let Some((begin, rest)) = line.split_once("; ") else { return "/ # ".to_owned() };
    let (command, end) = rest.rsplit_once("; ").unwrap();
    let echo = |words: &str| words.replacen("echo ", "", 1).replace('\'', "");
    let (printed, code) = match command {
        "mainstay status --json" => (STATUS, "0"),
        _ => ("sh: what?", "127"),
    };
    format!("{}\r\n{printed}\r\n{}\r\n/ # ", echo(begin), echo(end).replace("$?", code))
}

fn identity(folder: &Path) -> Identity {
    let at = |name: &str| folder.join(name);
    Identity {
        device: "gw".into(),
        group: "all".into(),
        trust: at("trust"),
        broker: "127.0.0.1:8883".parse().unwrap(),
        ca: at("ca"),
        certificate: crate::pki::Identity { name: "gw".into(), certificate: at("pem"), key: at("key") },
        image_floor: 1,
        broker_required: false,
    }
}

/// Looks until an event is there.
fn until(bench: &mut RealBoard, what: &What) -> Vec<What> {
    let began = Instant::now();
    loop {
        let seen: Vec<What> = bench.events().unwrap().into_iter().map(|event| event.what).collect();
        if seen.contains(what) {
            return seen;
        }
        assert!(began.elapsed() < PATIENCE, "{what:?} does not come: {seen:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_fake_board_is_flashed_switched_on_read_and_asked() {
    let board = FakeBoard::start();
    let mut bench = board.bench();
    let spec = ImageSpec { version: "1.0.0".into(), nature: Nature::Healthy, agent: None };
    let image = bench.image(&spec).unwrap();
    assert_eq!(bench.image(&spec).unwrap(), image, "made once");
    bench.factory(&image, &identity(board.folder.path())).unwrap();
    let flashed = std::fs::read_to_string(board.folder.path().join("flashed")).unwrap();
    assert_eq!(flashed, "1.0.0 healthy\n127.0.0.1:8883\n");
    assert_eq!(bench.events().unwrap(), []);

    bench.power(true).unwrap();
    let seen = until(&mut bench, &What::AgentStarts);
    let told: Vec<&What> = seen.iter().filter(|what| !matches!(what, What::Line(_))).collect();
    let why = mainstay_bootloader_glue::convention::Why::Good;
    let boots = What::Boots(Group::A, why);
    assert_eq!(
        told,
        [&What::PowerOn, &What::Bootloader, &boots, &What::Jumps, &What::UserSpace, &What::AgentStarts]
    );

    assert!(bench.environment().unwrap().a.bootable());
    assert_eq!(bench.version_in(Group::A).unwrap().as_deref(), Some("1.0.0"));
    assert_eq!(bench.version_in(Group::B).unwrap(), None);
    let error = bench.agent(&["frobnicate"]).unwrap_err().to_string();
    assert_eq!(error, "mainstay frobnicate: exit code 127: sh: what?");
    assert!(bench.evidence().unwrap().console.contains("U-Boot 2023.01 (fake)"));

    bench.power(false).unwrap();
    bench.power(true).unwrap();
    let began = Instant::now();
    let starts = |seen: &[Event]| seen.iter().filter(|event| event.what == What::AgentStarts).count();
    while starts(&bench.events().unwrap()) < 2 {
        assert!(began.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(10));
    }
    let seen = bench.events().unwrap();
    assert!(!seen.iter().any(|event| event.what == What::Reset), "a cut by hand is no reset: {seen:?}");
}

#[test]
fn a_fake_board_lacks_what_its_file_does_not_give_it() {
    let board = FakeBoard::start();
    let bench = board.bench();
    #[rustfmt::skip]
    let cases = [
        (Need::Nature(Nature::Healthy),      None),
        (Need::Nature(Nature::KernelPanics), Some("bench.toml: image.natures has no \"kernel-panics\"")),
        (Need::WatchdogEvents,               Some("a serial console shows only the reset that follows; markers.watchdog: a line with its cause")),
        (Need::Link,                         Some("bench.toml: expected network.up and down, or network.listen")),
        (Need::OtherAgent,                   Some("bench.toml: no image.other_agent")),
        (Need::Ruin,                         Some("bench.toml: no factory.ruin")),
        (Need::Environment,                  None),
    ];
    for (need, lacks) in cases {
        assert_eq!(bench.lacks(need).as_deref(), lacks, "{need:?}");
    }
}

#[test]
fn a_port_that_is_not_there_is_named_with_the_reason() {
    let folder = TempDir::new().unwrap();
    let port = serial::Port { path: folder.path().join("ttyUSB9"), baud: 115_200, gap: Duration::ZERO };
    let mut serial = Serial::open(&port, &Log::new()).unwrap();
    let error = serial.ready(Duration::from_millis(50)).unwrap_err().to_string();
    assert!(error.contains("ttyUSB9") && error.contains("No such file"), "{error}");
    assert!(serial.type_in("x").is_err());
}
