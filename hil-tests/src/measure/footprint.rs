//! Resident memory of `mainstay run`: idle and connected, and its peak while it takes an image over MQTT with TLS 1.3 and a
//! client certificate from a real Mosquitto, up to the point at which all is written, read back and proven.
//!
//! The figures are the kernel's (proc_pid_status(5)): VmRSS, and VmHWM, the highest VmRSS since the process began. The agent is
//! not asked anything while it is measured: that it is done, its operator hears over MQTT. It goes past the gate,
//! straight to Mosquitto, and waits for a person's leave before it would reboot.

use super::memory::Memory;
use super::stage::Stage;
use super::{Measured, Words, image, mib};
use crate::broker::Kind;
use crate::disk::MIB;
use crate::programs::Programs;
use crate::{Doing, Result};
use std::path::Path;
use std::time::{Duration, Instant};

/// What an agent of this size may have resident, idle and connected.
const IDLE_BYTES_MAX: u64 = 3 * MIB + MIB / 2;
/// Its peak, whatever the image's size.
const PEAK_BYTES_MAX: u64 = 5 * MIB + MIB / 2;
/// How much higher the peak of the last image may be than that of the first: 0.3 MiB. What the line does in a moment makes a queue
/// fuller by as much in one run of ten; memory that grows with the image does so each time. So the last one is taken twice, and
/// of one size the lowest peak counts here, and the highest against the budget above.
const GROWTH_BYTES_MAX: u64 = 3 * MIB / 10;
/// How long an idle agent is left alone before it is looked at.
const IDLE_FOR: Duration = Duration::from_secs(5);

/// What was measured with one image.
struct Taken {
    bytes: u64,
    wire: u64,
    idle: u64,
    peak: Memory,
    took: Duration,
}

/// Measures; `true`: all within budget.
pub fn measure(words: &Words) -> Result<Measured> {
    Kind::Mosquitto.available()?;
    let sizes =
        if words.sizes.is_empty() { vec![64 * MIB, 1024 * MIB, 1024 * MIB] } else { words.sizes.clone() };
    let programs = Programs::with_agent(words.agent()?)?;
    let mut measured = Vec::new();
    for bytes in sizes {
        eprintln!("taking {:.0} MiB", mib(bytes));
        let folder = words.workshop()?;
        measured.push(one(folder.path(), &programs, bytes)?);
    }
    Ok(Measured { within: report(&measured), json: serde_json::Value::Null })
}

/// One gateway, one broker, one image.
fn one(folder: &Path, programs: &Programs, bytes: u64) -> Result<Taken> {
    let (old, new) = (folder.join("1.img"), folder.join("2.img"));
    image(&old, "1.0.0", bytes)?;
    image(&new, "2.0.0", bytes)?;
    let stage = Stage::build(folder, programs, &old, bytes, None)?;
    let bundle = stage.pack(&new, &[])?;
    let wire = std::fs::metadata(&bundle.path).doing(|| bundle.path.display().to_string())?.len();
    let _ = std::fs::remove_file(&new); // the disk may be small; it may stay, too

    stage.power_on()?;
    std::thread::sleep(IDLE_FOR);
    let idle = stage.memory()?.now;
    stage.publish(&bundle)?;
    let began = Instant::now();
    stage.wait_installed()?;
    let took = began.elapsed();
    Ok(Taken { bytes, wire, idle, peak: stage.memory()?, took })
}

fn report(measured: &[Taken]) -> bool {
    println!(
        "| image | bundle | idle, connected | budget | peak (VmHWM) | budget | then: own + file pages | taken in |"
    );
    println!("|--:|--:|--:|--:|--:|--:|--:|--:|");
    for Taken { bytes, wire, idle, peak, took } in measured {
        println!(
            "| {:.0} MiB | {:.1} MiB | {} KiB | {} | {} KiB | {} | {} + {} KiB | {:.1} s |",
            mib(*bytes),
            mib(*wire),
            idle / 1024,
            IDLE_BYTES_MAX / 1024,
            peak.peak / 1024,
            PEAK_BYTES_MAX / 1024,
            peak.anon / 1024,
            peak.file / 1024,
            took.as_secs_f64()
        );
    }
    let peaks = measured.iter().map(|one| one.peak.peak);
    let (least, most) = (peaks.clone().min().unwrap_or(0), peaks.max().unwrap_or(0));
    let lowest = |of: &Taken| {
        let peaks = measured.iter().filter(|one| one.bytes == of.bytes).map(|one| one.peak.peak);
        peaks.min().unwrap_or(0) as i64
    };
    let growth =
        measured.first().zip(measured.last()).map_or(0, |(first, last)| lowest(last) - lowest(first));
    println!(
        "\nfrom the first image to the last the peak grows by {} KiB (budget {})",
        growth / 1024,
        GROWTH_BYTES_MAX / 1024
    );
    let within = [
        ("idle", measured.iter().all(|one| one.idle <= IDLE_BYTES_MAX)),
        ("peak", most <= PEAK_BYTES_MAX && least > 0),
        ("growth of the peak", growth <= GROWTH_BYTES_MAX as i64),
    ];
    for (what, _) in within.iter().filter(|(_, within)| !within) {
        println!("ABOVE BUDGET: {what}");
    }
    within.iter().all(|(_, within)| *within)
}
