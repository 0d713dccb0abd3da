//! How long `mainstay install` takes for a local bundle, from the command to "written and proven": slots withdrawn, written,
//! synced, read back from the medium and compared. Beside it, in turns, on the same disk: `dd conv=fsync` of the same image
//! and one SHA-256 pass over what was written.
//!
//! ```text
//! each round   1  the slot is filled with what is in no image, synced       not timed
//!              2  bundle, or image, is read once: both begin in the cache   not timed
//!              3  mainstay install BUNDLE                                   timed, and its CPU
//!              1, 2 again
//!              3  dd if=IMAGE of=SLOT conv=fsync,notrunc bs=1M              timed, and its CPU
//!              4  the slot's pages are dropped; SHA-256 of it               timed
//!              1  again, then each part of an install alone                 timed: see `parts`
//! ```
//! SHA-256 is the same code as the agent's, at opt-level 2. The agent does more than `dd`: it proves each piece and each
//! segment, unpacks, and looks whether the target holds it already (a page of each is read).

use super::parts::Parts;
use super::stage::packing;
use super::{Measured, Words, image, mib};
use crate::board::{Bootloader, rootfs};
use crate::disk::{Disk, MIB};
use crate::gateway::{Gateway, Plan};
use crate::operator::Operator;
use crate::pki::Pki;
use crate::programs::Programs;
use crate::{Doing, Result, Trouble};
use mainstay_core::boot::Group;
use mainstay_core::digest::Hasher;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use serde_json::{Value, json};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const FLEET: &str = "plant";

/// Wall clock and CPU of one run, and what it made the device do: a pass that was answered from the page cache, or a copy that
/// was not written out, shows there.
#[derive(Clone, Copy, Debug)]
struct Took {
    wall: f64,
    cpu: f64,
    /// Bytes.
    read: f64,
    /// Bytes.
    written: f64,
}

/// One round: ours, theirs in its two parts, and what an install is made of.
struct Round {
    install: Took,
    dd: Took,
    hash: Took,
    parts: Parts,
}

/// Measures, and prints the table.
pub fn measure(words: &Words) -> Result<Measured> {
    let bytes = words.sizes.first().copied().unwrap_or(1024 * MIB);
    let programs = Programs::with_agent(words.agent()?)?;
    let folder = words.workshop()?;
    let at = |name: &str| folder.path().join(name);
    let operator = Operator::new(&programs.ctl, &at("operator"), FLEET)?;
    let (old, new) = (at("1.img"), at("2.img"));
    image(&old, "1.0.0", bytes)?;
    image(&new, "2.0.0", bytes)?;
    let bundle = operator.pack(&packing(&new))?;
    let plan = Plan {
        folder: at("gw-0001"),
        agent: programs.agent,
        name: "gw-0001".into(),
        group: "line-1".into(),
        bootloader: Bootloader::UBoot,
        slot_bytes: bytes,
        image_floor: 1,
        watchdog_s: 30,
        approve: true,
        broker: None,
        broker_required: false,
    };
    let gateway = Gateway::build(plan, &Pki::create(&at("pki"))?, &operator.trust())?;
    gateway.board().flash(Group::A, &old)?;
    let running = &gateway.board().files().running;
    std::fs::write(running, "A\n").doing(|| running.display().to_string())?;
    let wire = std::fs::metadata(&bundle.path).doing(|| bundle.path.display().to_string())?.len();
    println!("image {:.0} MiB, bundle {:.1} MiB, in {}\n", mib(bytes), mib(wire), folder.path().display());

    let disk = gateway.board().disk();
    let mut rounds = Vec::new();
    for number in 1..=words.rounds {
        eprintln!("round {number} of {}", words.rounds);
        prepare(disk, &bundle.path)?;
        let state = &gateway.board().files().state;
        let _ = std::fs::remove_dir_all(state); // as if nothing had been installed before
        std::fs::create_dir_all(state).doing(|| state.display().to_string())?;
        let install = timed(|| run(gateway.command(&["install"]).arg(&bundle.path)))?;
        let holds = gateway.board().holds(Group::B, &new)?;
        holds.then_some(()).doing(|| "the slot does not hold the image after the install")?;

        prepare(disk, &new)?;
        let dd = timed(|| run(&mut dd(disk, &new)?))?;
        drop_pages(disk.path())?;
        let hash = timed(|| hash(disk, bytes))?;

        prepare(disk, &new)?;
        let parts = Parts::measure(&new, disk, rootfs(Group::B))?;
        rounds.push(Round { install, dd, hash, parts });
    }
    report(&rounds, bytes);
    Ok(Measured { within: true, json: rounds.iter().map(|round| round.json(bytes)).collect() })
}

fn report(rounds: &[Round], bytes: u64) {
    println!("| round | what | wall | CPU | device read | device written |");
    println!("|--:|---|--:|--:|--:|--:|");
    for (number, Round { install, dd, hash, parts }) in (1..).zip(rounds) {
        for (what, took) in [("install", install), ("dd conv=fsync", dd), ("SHA-256 of the slot", hash)] {
            let Took { wall, cpu, read, written } = took;
            let [read, written] = [read, written].map(|bytes| bytes / MIB as f64);
            println!("| {number} | {what} | {wall:.2} s | {cpu:.2} s | {read:.0} MiB | {written:.0} MiB |");
        }
        for (what, part) in parts.each() {
            println!("| {number} | alone: {what} | {:.2} s | {:.2} s | | |", part.wall, part.cpu);
        }
    }
    println!("\n| install | median of the rounds | lowest | highest |\n|---|--:|--:|--:|");
    for (index, what) in RATIOS.into_iter().enumerate() {
        let each: Vec<f64> =
            rounds.iter().filter_map(|round| round.ratios(bytes).get(index).copied()).collect();
        let (low, high) =
            (each.iter().copied().fold(f64::NAN, f64::min), each.iter().copied().fold(f64::NAN, f64::max));
        println!("| {what} | {:.2} | {low:.2} | {high:.2} |", median(each));
    }
}

/// What a round is told by.
const RATIOS: [&str; 6] = [
    "wall clock, in units of dd + SHA-256",
    "CPU, in units of dd + SHA-256",
    "wall clock, in units of its parts alone",
    "CPU, in units of its parts alone",
    "throughput, of what its parts alone give one after another",
    "MiB of image a second",
];

impl Round {
    /// As [`RATIOS`] names them.
    fn ratios(&self, bytes: u64) -> [f64; 6] {
        let Round { install, dd, hash, parts } = self;
        let sum = parts.sum();
        let by_parts = install.wall / sum.wall;
        [
            install.wall / (dd.wall + hash.wall),
            install.cpu / (dd.cpu + hash.cpu),
            by_parts,
            install.cpu / sum.cpu,
            1.0 / by_parts,
            mib(bytes) / install.wall,
        ]
    }

    fn json(&self, bytes: u64) -> Value {
        let took = |took: &Took| json!({"wall_s": took.wall, "cpu_s": took.cpu, "read": took.read, "written": took.written});
        let parts: Vec<Value> = self
            .parts
            .each()
            .into_iter()
            .map(|(what, part)| json!({"part": what, "wall_s": part.wall, "cpu_s": part.cpu}))
            .collect();
        let ratios =
            RATIOS.iter().zip(self.ratios(bytes)).map(|(what, ratio)| ((*what).to_owned(), json!(ratio)));
        json!({
            "image_bytes": bytes, "install": took(&self.install), "dd": took(&self.dd), "sha256": took(&self.hash),
            "parts": parts, "ratios": ratios.collect::<serde_json::Map<_, _>>(),
        })
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match (values.get(middle.wrapping_sub(1)), values.get(middle)) {
        (Some(low), Some(high)) if values.len().is_multiple_of(2) => (low + high) / 2.0,
        (_, Some(middle)) => *middle,
        _ => f64::NAN,
    }
}

/// The slot holds nothing of any image and is out of the cache; the source is in it.
fn prepare(disk: &Disk, source: &Path) -> Result<()> {
    let slot = disk.partition(rootfs(Group::B))?;
    let (filling, mut at) = (vec![0xa5; MIB as usize], 0);
    let file = std::fs::OpenOptions::new().write(true).open(disk.path());
    let file = file.doing(|| disk.path().display().to_string())?;
    while at < slot.bytes {
        std::os::unix::fs::FileExt::write_all_at(&file, &filling, slot.start + at)
            .doing(|| "filling the slot")?;
        at += filling.len() as u64;
    }
    file.sync_all().doing(|| "filling the slot")?;
    drop_pages(disk.path())?;
    let mut source = File::open(source).doing(|| source.display().to_string())?;
    std::io::copy(&mut source, &mut std::io::sink()).doing(|| "reading the source")?;
    Ok(())
}

/// Takes a file out of the page cache: what is read then comes from the medium (or its own cache).
pub(super) fn drop_pages(path: &Path) -> Result<()> {
    let file = File::open(path).doing(|| path.display().to_string())?;
    file.sync_all().doing(|| path.display().to_string())?;
    posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).doing(|| "dropping pages")
}

fn dd(disk: &Disk, image: &Path) -> Result<Command> {
    let slot = disk.partition(rootfs(Group::B))?;
    let mut dd = Command::new("dd");
    dd.arg(format!("if={}", image.display())).arg(format!("of={}", disk.path().display()));
    dd.args(["bs=1M", "conv=fsync,notrunc"]).arg(format!("seek={}", slot.start / MIB));
    Ok(dd)
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.doing(|| command.get_program().to_string_lossy().into_owned())?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let said = [output.stdout, output.stderr].concat();
            Err(Trouble::new(format!("{command:?}: {}", String::from_utf8_lossy(&said).trim())))
        }
    }
}

fn hash(disk: &Disk, bytes: u64) -> Result<()> {
    let slot = disk.partition(rootfs(Group::B))?;
    let mut file = File::open(disk.path()).doing(|| disk.path().display().to_string())?;
    std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(slot.start)).doing(|| "the slot")?;
    let (mut left, mut buffer, mut hasher) = (bytes, vec![0; MIB as usize], Hasher::new());
    while left > 0 {
        buffer.truncate(left.min(MIB) as usize);
        file.read_exact(&mut buffer).doing(|| "reading the slot")?;
        hasher.update(&buffer);
        left -= buffer.len() as u64;
    }
    std::hint::black_box(hasher.finish());
    Ok(())
}

/// Of this process and of those that it waited for.
fn timed(what: impl FnOnce() -> Result<()>) -> Result<Took> {
    let (began, cpu_before, [read_before, written_before]) = (Instant::now(), cpu()?, device()?);
    what()?;
    let (wall, [read, written]) = (began.elapsed().as_secs_f64(), device()?);
    let cpu = (cpu()? - cpu_before).as_secs_f64();
    Ok(Took { wall, cpu, read: (read - read_before) as f64, written: (written - written_before) as f64 })
}

fn cpu() -> Result<Duration> {
    let of = |who| getrusage(who).doing(|| "getrusage");
    let all = |usage: Usage| usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    let micros = all(of(UsageWho::RUSAGE_SELF)?) + all(of(UsageWho::RUSAGE_CHILDREN)?);
    Ok(Duration::from_micros(micros.try_into().unwrap_or(0)))
}

/// Bytes that were really fetched from, and sent to, the storage layer (proc_pid_io(5)); children count once they have been
/// waited for. What is written is counted when a page becomes dirty, so it says nothing of when it reached the device.
fn device() -> Result<[u64; 2]> {
    let text = std::fs::read_to_string("/proc/self/io").doing(|| "/proc/self/io")?;
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.trim().parse().ok()).doing(|| format!("/proc/self/io: expected {name}"))
    };
    Ok([field("read_bytes:")?, field("write_bytes:")?])
}

#[cfg(test)]
mod tests {
    use super::super::parts::Part;
    use super::*;

    #[test]
    fn a_round_is_told_in_units_of_what_was_measured_beside_it() {
        let took = |wall, cpu| Took { wall, cpu, read: 0.0, written: 0.0 };
        let part = |wall, cpu| Part { wall, cpu };
        let parts = Parts {
            decode: part(1.0, 1.0),
            hash: part(0.5, 0.5),
            write: part(2.0, 0.25),
            read_back: part(0.5, 0.25),
            direct: true,
        };
        let round = Round { install: took(8.0, 3.0), dd: took(3.0, 1.0), hash: took(1.0, 0.5), parts };
        assert_eq!(round.ratios(64 * MIB), [2.0, 2.0, 2.0, 1.5, 0.5, 8.0]);
        let json = round.json(64 * MIB);
        assert_eq!(json["parts"][2]["part"], "write, O_DIRECT");
        assert_eq!(json["ratios"]["MiB of image a second"], 8.0);
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(vec![7.0]), 7.0);
        assert!(median(vec![]).is_nan());
    }
}
