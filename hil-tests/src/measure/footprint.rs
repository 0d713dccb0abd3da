//! Resident memory of `mainstay run`: idle and connected, and its peak while it takes an image over MQTT with TLS 1.3 and a
//! client certificate from a real Mosquitto, up to the point at which all is written, read back and proven.
//!
//! The figures are the kernel's (proc_pid_status(5)): VmRSS, and VmHWM, the highest VmRSS since the process began. The agent is
//! not asked anything while it is measured: that it is done, its operator hears over MQTT. It goes past the gate,
//! straight to Mosquitto, and waits for a person's leave before it would reboot.

use super::{Words, image, mib};
use crate::board::{Bootloader, Happening};
use crate::broker::{Broker, Kind};
use crate::disk::MIB;
use crate::gateway::{COMPATIBLE, Gateway, Plan};
use crate::listener::{Listener, Said};
use crate::operator::{Access, Operator, Packing};
use crate::pki::Pki;
use crate::programs::Programs;
use crate::{Doing, Result, Trouble};
use mainstay_core::boot::Group;
use mainstay_core::update::PhaseName;
use std::path::Path;
use std::time::{Duration, Instant};

const FLEET: &str = "plant";
/// What an agent of this size may have resident, idle and connected.
const IDLE_BYTES_MAX: u64 = 3 * MIB + MIB / 2;
/// Its peak, whatever the image's size.
const PEAK_BYTES_MAX: u64 = 5 * MIB + MIB / 2;
/// How much higher the peak of the largest image may be than that of the smallest: 0.3 MiB.
const GROWTH_BYTES_MAX: u64 = 3 * MIB / 10;
/// How long an idle agent is left alone before it is looked at.
const IDLE_FOR: Duration = Duration::from_secs(5);
/// When to give up.
const PATIENCE: Duration = Duration::from_secs(1800);

/// What was measured with one image.
struct Measured {
    bytes: u64,
    wire: u64,
    idle: u64,
    peak: Memory,
    took: Duration,
}

/// Of a process, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Memory {
    peak: u64,
    now: u64,
    /// Of `now`, what is its own, and what are pages of files.
    anon: u64,
    file: u64,
}

/// Measures; `true`: all within budget.
pub fn measure(words: &Words) -> Result<bool> {
    Kind::Mosquitto.available()?;
    let sizes = if words.sizes.is_empty() { vec![64 * MIB, 1024 * MIB] } else { words.sizes.clone() };
    let programs = Programs::with_agent(&words.agent)?;
    let mut measured = Vec::new();
    for bytes in sizes {
        eprintln!("taking {:.0} MiB", mib(bytes));
        let folder = words.workshop()?;
        measured.push(one(folder.path(), &programs, bytes)?);
    }
    Ok(report(&measured))
}

/// One gateway, one broker, one image.
fn one(folder: &Path, programs: &Programs, bytes: u64) -> Result<Measured> {
    let at = |name: &str| folder.join(name);
    let pki = Pki::create(&at("pki"))?;
    let broker = Broker::start(Kind::Mosquitto, &pki, &at("broker"))?;
    let address = broker.mosquitto().doing(|| "a Mosquitto")?.address();
    let operator = Operator::new(&programs.ctl, &at("operator"), FLEET)?;
    let access = Access { url: format!("mqtts://{address}"), ..Access::new(&broker, &pki, "operator")? };
    let listener = Listener::start(&broker, &pki, "control-room", FLEET)?;

    let (old, new) = (at("1.img"), at("2.img"));
    image(&old, "1.0.0", bytes)?;
    image(&new, "2.0.0", bytes)?;
    let plan = Plan {
        folder: at("gw-0001"),
        agent: programs.agent.clone(),
        name: "gw-0001".into(),
        group: "line-1".into(),
        bootloader: Bootloader::UBoot,
        slot_bytes: bytes,
        image_floor: 1,
        watchdog_s: 30,
        approve: true,
        broker: Some(address),
        broker_required: false,
    };
    let gateway = Gateway::build(plan, &pki, &operator.trust())?;
    gateway.board().flash(Group::A, &old)?;
    let packing = Packing {
        image: &new,
        compatible: COMPATIBLE,
        version: "2.0.0",
        security_version: 2,
        tries: 3,
        deadline_s: 60,
        level: 3,
    };
    let bundle = operator.pack(&packing)?;
    let wire = std::fs::metadata(&bundle.path).doing(|| bundle.path.display().to_string())?.len();
    let _ = std::fs::remove_file(&new); // the disk may be small; it may stay, too

    gateway.board().power_on();
    gateway.board().wait_for(0, PATIENCE, |event| *event == Happening::AgentStarted)?;
    let process = gateway.board().status().agent.doing(|| "no agent runs")?;
    wait(&listener, |what| matches!(what, Said::Presence(_)).then_some(()))?;
    std::thread::sleep(IDLE_FOR);
    let idle = Memory::of(process)?.now;

    operator.publish(&bundle, &access, gateway.group())?;
    let began = Instant::now();
    wait(&listener, |what| match what {
        Said::Presence(presence) if presence.phase == PhaseName::Installed => Some(Ok(())),
        Said::Outcome(outcome) => {
            Some(Err(Trouble::new(format!("expected it to be installed, found {outcome:?}"))))
        }
        _ => None,
    })??;
    let took = began.elapsed();
    let peak = Memory::of(process)?;
    Ok(Measured { bytes, wire, idle, peak, took })
}

/// Waits for the operator to hear something.
fn wait<T>(listener: &Listener, found: impl Fn(&Said) -> Option<T>) -> Result<T> {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        if let Some(found) = listener.since(0).iter().find_map(|heard| found(&heard.what)) {
            return Ok(found);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Err(Trouble::new(format!("nothing was heard for {} s", PATIENCE.as_secs())))
}

fn report(measured: &[Measured]) -> bool {
    println!(
        "| image | bundle | idle, connected | budget | peak (VmHWM) | budget | then: own + file pages | taken in |"
    );
    println!("|--:|--:|--:|--:|--:|--:|--:|--:|");
    for Measured { bytes, wire, idle, peak, took } in measured {
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
    let growth = measured
        .first()
        .zip(measured.last())
        .map_or(0, |(first, last)| last.peak.peak as i64 - first.peak.peak as i64);
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

impl Memory {
    fn of(process: u32) -> Result<Memory> {
        let path = format!("/proc/{process}/status");
        let text = std::fs::read_to_string(&path).doing(|| &path)?;
        Memory::read(&text).doing(|| format!("{path}: expected VmHWM, VmRSS, RssAnon and RssFile"))
    }

    fn read(text: &str) -> Option<Memory> {
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib * 1024)
        };
        Some(Memory {
            peak: field("VmHWM")?,
            now: field("VmRSS")?,
            anon: field("RssAnon")?,
            file: field("RssFile")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_the_kernel_s_words_and_a_process_that_has_ended_has_none() {
        let text = "Name:\tmainstay\nVmHWM:\t    5120 kB\nVmRSS:\t    4096 kB\nRssAnon:\t     100 kB\nRssFile:\t    3996 kB\n";
        let expected = Memory { peak: 5120 * 1024, now: 4096 * 1024, anon: 100 * 1024, file: 3996 * 1024 };
        assert_eq!(Memory::read(text), Some(expected));
        assert_eq!(Memory::read("Name:\tmainstay\nState:\tZ (zombie)\n"), None);
        assert!(Memory::of(std::process::id()).unwrap().now > 0);
    }
}
