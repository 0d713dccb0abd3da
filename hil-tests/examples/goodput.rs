//! What the transport alone makes of a line: objects of 96 KiB pulled from a Mosquitto over TLS 1.3, through a proxy that is
//! slow, far and losing, as a share of the line's rate. The clock runs from the first word to the last object: dialling,
//! handshake and opening of the window are in it; beside it the share from the first object on.
//!
//!     cargo run --release -p mainstay-hil --example goodput [-- RTT_MS KBIT_S LOSS_PERCENT OBJECTS]

use mainstay::transport::{Broker as Remote, BrokerConfig, BulkSource};
use mainstay_core::digest::Digest;
use mainstay_core::seam::PieceSource;
use mainstay_core::topic;
use mainstay_hil::broker::line::Line;
use mainstay_hil::broker::narrow::Narrow;
use mainstay_hil::broker::{Broker, Kind};
use mainstay_hil::listener::Listener;
use mainstay_hil::pki::Pki;
use mainstay_hil::{Doing, Result};
use std::time::{Duration, Instant};

const FLEET: &str = "plant";
const OBJECT_BYTES: usize = 96 * 1024;
/// Round trip, kbit/s, loss in percent, objects.
const LINES: [(u64, u64, f64, usize); 5] = [
    (50, 50_000, 0.0, 320),
    (600, 1_000, 2.0, 64),
    (600, 1_000, 0.0, 64),
    (50, 256, 0.0, 16),
    (600, 256, 2.0, 16),
];

fn main() -> Result<()> {
    let words: Vec<f64> = std::env::args().skip(1).filter_map(|word| word.parse().ok()).collect();
    let lines = match words[..] {
        [rtt, rate, loss, objects] => vec![(rtt as u64, rate as u64, loss, objects as usize)],
        _ => LINES.to_vec(),
    };
    let folder = tempfile::tempdir().doing(|| "a folder")?;
    let pki = Pki::create(&folder.path().join("pki"))?;
    let broker = Broker::start(Kind::Mosquitto, &pki, &folder.path().join("broker"))?;
    let objects = make(lines.iter().map(|line| line.3).max().unwrap_or(0));
    let listener = Listener::start(&broker, &pki, "operator", FLEET)?;
    for (name, object) in &objects {
        listener.retain(topic::object(FLEET, name).as_str(), object)?;
    }
    drop(listener);
    println!(
        "| round trip | rate | loss | bytes | seconds | share of the line | first object after s | share from then on | asked twice | `need` | reconnects |"
    );
    println!("|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|");
    for (rtt, rate, loss, count) in lines {
        one(&pki, &broker, &objects[..count], (rtt, rate, loss))?;
    }
    Ok(())
}

fn one(
    pki: &Pki,
    broker: &Broker,
    objects: &[(Digest, Vec<u8>)],
    (rtt, rate, loss): (u64, u64, f64),
) -> Result<()> {
    let line =
        Line { rtt: Duration::from_millis(rtt), bits_per_second: rate * 1000, loss: loss / 100.0, seed: 1 };
    let narrow = Narrow::start(broker.mosquitto().doing(|| "a Mosquitto")?.address(), line)?;
    let identity = pki.client("gw-1")?;
    let config = BrokerConfig {
        url: format!("mqtts://{}", narrow.address()),
        device: "gw-1".into(),
        fleet: FLEET.into(),
        ca: pki.ca(),
        cert: identity.certificate,
        key: identity.key,
        ..BrokerConfig::default()
    };
    let remote = Remote::new(config).doing(|| "the configuration")?;
    let mut source = BulkSource::new(&remote, Default::default(), |status| log(&status));
    let began = Instant::now();
    let first = pull(&mut source, objects).doing(|| "pulling")?.duration_since(began).as_secs_f64();
    let took = began.elapsed().as_secs_f64();
    let bytes: usize = objects.iter().map(|(_, object)| object.len()).sum();
    let share = bytes as f64 * 8.0 / took / (rate as f64 * 1000.0) * 100.0;
    let steady = share * (1.0 - OBJECT_BYTES as f64 / bytes as f64) * took / (took - first);
    let stats = source.stats();
    println!(
        "| {rtt} ms | {rate} kbit/s | {loss} % | {bytes} | {took:.1} | {share:.1} % | {first:.1} | {steady:.1} % | {} | {} | {} |",
        stats.refetches, stats.needs, stats.reconnects
    );
    Ok(())
}

fn log(status: &mainstay::transport::BulkStatus) {
    if *status != mainstay::transport::BulkStatus::Pulling {
        eprintln!("{status:?}");
    }
}

/// As the installer does it: ahead as far as the window lets it, each proven and released in order.
/// Gives the moment at which the first had come.
fn pull(source: &mut BulkSource, objects: &[(Digest, Vec<u8>)]) -> mainstay_core::seam::Result<Instant> {
    let (mut ahead, mut first) = (0, None);
    for (name, object) in objects {
        while let Some((name, object)) = objects.get(ahead)
            && source.prefetch(name, object.len() as u32)
        {
            ahead += 1;
        }
        while Digest::of(source.fetch(name, object.len() as u32)?) != *name {
            source.refute(name)?;
        }
        source.release(name);
        first.get_or_insert_with(Instant::now);
    }
    Ok(first.unwrap_or_else(Instant::now))
}

/// Bytes that do not compress and do not repeat.
fn make(count: usize) -> Vec<(Digest, Vec<u8>)> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..count)
        .map(|_| {
            let object: Vec<u8> = (0..OBJECT_BYTES / 8).flat_map(|_| next().to_le_bytes()).collect();
            (Digest::of(&object), object)
        })
        .collect()
}
