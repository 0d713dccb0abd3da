//! What a delta between two images costs: `cargo run --profile tool -p mainstayctl --example delta -- BASE NEW`.
//!
//! Prints the figures of [`Summary`](mainstayctl::delta::Summary), and what it took to make it. `--no-transforms` leaves executables
//! to themselves, `--threads N` uses N threads, `--level N` is zstd's, `--prove` makes the new image again from what was made.

use mainstay_core::bundle::Encoding;
use mainstayctl::delta::{How, make, prove};
use mainstayctl::layout::ImageFile;
use std::error::Error;
use std::fs::read_to_string;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let mut images = Vec::new();
    let mut how = How { level: 19, threads: std::thread::available_parallelism()?.get(), transforms: true };
    let (mut again, mut args) = (false, std::env::args().skip(1));
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--no-transforms" => how.transforms = false,
            "--prove" => again = true,
            "--threads" => how.threads = args.next().ok_or("--threads: how many?")?.parse()?,
            "--level" => how.level = args.next().ok_or("--level: which?")?.parse()?,
            _ => images.push(ImageFile::open(Path::new(&arg))?),
        }
    }
    let [base, new] = images.as_slice() else { return Err("expected a base and a new image".into()) };
    let mut all = Vec::new();
    let summary = make(base, new, how, &|_| {}, &mut |index, made| {
        if again {
            all.push((index, made));
        }
        Ok(())
    })?;
    for way in [
        Encoding::Zero,
        Encoding::Copy,
        Encoding::Patch,
        Encoding::Zstd,
        Encoding::Prefixed,
        Encoding::Recoded,
        Encoding::Raw,
    ] {
        let tally = summary.encodings[way as usize];
        println!("{:>10} bytes in {:>6} segments: {way:?}", tally.bytes, tally.segments);
    }
    println!("{:>10} bytes in {:>6} pieces", summary.bytes(), summary.pieces);
    let [file, metadata, content, copies] = summary.sources;
    println!("files {file}, metadata {metadata}, content {content}, copies {copies}");
    println!("transforms saved about {}", summary.transforms_saved);
    for (path, bytes) in summary.files.iter().take(20) {
        println!("{bytes:>10} {path}");
    }
    let (seconds, kibibytes) = cost()?;
    println!("{seconds:.1} CPU-seconds, {kibibytes} KiB at most");
    if again {
        prove(base, new, all)?;
        println!("proven");
    }
    Ok(())
}

/// CPU seconds and peak resident memory of this process, as the kernel counts them (proc(5); a tick is 10 ms everywhere that matters).
fn cost() -> Result<(f64, u64), Box<dyn Error>> {
    let stat = read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    let status = read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    Ok(((ticks(11) + ticks(12)) / 100.0, peak.trim().trim_end_matches(" kB").parse().unwrap_or(0)))
}
