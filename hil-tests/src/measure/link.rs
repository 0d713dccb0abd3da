//! How much of a link a download fills: the static agent behind a slow, far, losing line to a real Mosquitto with TLS, and
//! its memory meanwhile. The line is [`narrow`](crate::broker::narrow), whose story says what it emulates and what not.
//!
//! ```text
//!                word is given                                       last byte
//! bytes down ____/‾‾ desired state, manifest, bulk connection, pages, ‾‾ pieces ‾‾|____ written, read back, told
//!                                                          |  10 %  ....  90 %  |
//! in flow      a route's bytes between a tenth and nine tenths of all that came down, by the time that it took: what a
//!              route of any length gets
//! whole        all of a route's bytes, from the first byte after the word to the last: with every handshake in it; the
//!              limits are held here
//! ```
//! A share is of the link's rate, which counts the headers of IP and TCP: at best 96.5 % of it is content, 94.6 % where 2 %
//! are lost and sent again.

use super::stage::Stage;
use super::table::{Cell, Column, Table};
use super::{Measured, Words};
use crate::broker::Kind;
use crate::broker::line::Line;
use crate::disk::MIB;
use crate::image::{Behaviour, Header, Random};
use crate::programs::Programs;
use crate::{Doing, Result, Trouble};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Whole agent, with a delta over MQTT and TLS.
const PEAK_BYTES_MAX: u64 = 5 * MIB + MIB / 2;
/// How often the line's counter is looked at.
const SAMPLED: Duration = Duration::from_millis(20);
/// Of sixteen bytes of an image that is sent as a delta, those that stay as they are: the route is about a sixteenth of it.
const KEPT_OF_SIXTEEN: usize = 15;

/// What is sent by which line.
#[derive(Clone, Copy, Debug)]
struct Case {
    rtt_ms: u64,
    bits_per_second: u64,
    loss: f64,
    route: Route,
    /// Bytes of the route, roughly; nothing of them compresses. A full route is tens of MB and more: a shorter one weighs the
    /// handshakes more, a longer one takes longer to measure.
    bytes: u64,
    /// Of the link, to be filled by the whole of it.
    share_min: Option<f64>,
}

/// Which one is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    Full,
    Delta,
}

const KBIT: u64 = 1000;
const MBIT: u64 = 1000 * KBIT;

#[rustfmt::skip]
const CASES: [Case; 7] = [
    // RTT            rate                       loss                route                bytes          share of it, at least
    Case { rtt_ms: 50,  bits_per_second: 50 * MBIT,  loss: 0.0,  route: Route::Full,  bytes: 64 * MIB, share_min: Some(0.90) },
    Case { rtt_ms: 50,  bits_per_second: 50 * MBIT,  loss: 0.02, route: Route::Full,  bytes: 64 * MIB, share_min: None },
    Case { rtt_ms: 600, bits_per_second: MBIT,       loss: 0.02, route: Route::Full,  bytes: 8 * MIB,  share_min: Some(0.80) },
    Case { rtt_ms: 600, bits_per_second: 256 * KBIT, loss: 0.02, route: Route::Full,  bytes: MIB / 2,  share_min: None },
    Case { rtt_ms: 50,  bits_per_second: 50 * MBIT,  loss: 0.0,  route: Route::Delta, bytes: 4 * MIB,  share_min: None },
    Case { rtt_ms: 600, bits_per_second: MBIT,       loss: 0.02, route: Route::Delta, bytes: 2 * MIB,  share_min: None },
    Case { rtt_ms: 600, bits_per_second: 256 * KBIT, loss: 0.02, route: Route::Delta, bytes: MIB / 2,  share_min: None },
];

/// What came of one.
#[derive(Clone, Copy, Debug)]
struct Went {
    /// Bytes of the route that was taken.
    route: u64,
    flow: Flow,
    peak: u64,
    lost: u64,
    connections: u64,
}

/// Measures, and prints the table; within where each limit holds.
pub fn measure(words: &Words) -> Result<Measured> {
    Kind::Mosquitto.available()?;
    let programs = Programs::with_agent_and_optimized_tool(words.agent()?)?;
    let mut table = Table::new(&COLUMNS);
    let mut broken = Vec::new();
    for (number, case) in (1..).zip(CASES).filter(|(_, case)| words.wants(&case.name())) {
        eprintln!("link: {} of {}: {}", number, CASES.len(), case.name());
        let folder = words.workshop()?;
        match play(folder.path(), &programs, &case) {
            Ok(went) => {
                let [flow, whole] = went.shares(&case).map(|share| share * 100.0);
                eprintln!("link: {flow:.1} % in flow, {whole:.1} % whole, {} KiB", went.peak / 1024);
                broken.extend(case.broken(&went));
                table.row(case.row(&went));
            }
            Err(why) => {
                eprintln!("link: {}: {why}", case.name());
                broken.push(format!("{}: not measured", case.name()));
                table.row(case.failed());
            }
        }
    }
    println!("{}\n{NOTE}", table.markdown());
    for what in &broken {
        println!("NOT HELD: {what}");
    }
    Ok(Measured { within: broken.is_empty(), json: table.json() })
}

const NOTE: &str = "\
The line is emulated by a proxy, because kernels without netem have no other way: rate and delay as they are, loss as a user of
TCP sees it (what is behind a lost segment waits for one round trip, or for a timeout at the end). No congestion window is emulated:
a sender that slows down at each loss (Reno, CUBIC) gets at most about 1.22 * 1448 bytes / (RTT * sqrt(loss)), that is 0.17 Mbit/s
at 600 ms and 2 %, by any protocol; the broker's host has to use one that does not (BBR).
";

const COLUMNS: [Column; 10] = [
    Column { heading: "round trip", key: "rtt_ms" },
    Column { heading: "link", key: "kbit_per_second" },
    Column { heading: "loss", key: "loss_percent" },
    Column { heading: "route", key: "route" },
    Column { heading: "its bytes", key: "route_bytes" },
    Column { heading: "in flow, of the link", key: "flow_percent" },
    Column { heading: "whole, of the link", key: "whole_percent" },
    Column { heading: "took", key: "seconds" },
    Column { heading: "peak RSS", key: "peak_kib" },
    Column { heading: "segments lost, connections", key: "lost" },
];

impl Case {
    fn name(&self) -> String {
        let Case { rtt_ms, bits_per_second, loss, .. } = self;
        let route = self.route.word();
        format!("{route}-{rtt_ms}ms-{}kbit-{}%", bits_per_second / KBIT, loss * 100.0)
    }

    fn line(&self) -> Line {
        let Case { rtt_ms, bits_per_second, loss, .. } = *self;
        Line { rtt: Duration::from_millis(rtt_ms), bits_per_second, loss, seed: 1 }
    }

    fn head(&self) -> Vec<Cell> {
        let Case { rtt_ms, bits_per_second, loss, route, .. } = self;
        vec![
            Cell::Number(*rtt_ms as f64, 0, " ms"),
            Cell::Number((bits_per_second / KBIT) as f64, 0, " kbit/s"),
            Cell::Number(loss * 100.0, 0, " %"),
            Cell::text(route.word()),
        ]
    }

    fn row(&self, went: &Went) -> Vec<Cell> {
        let share = |share: f64| Cell::Number(share * 100.0, 1, " %");
        let [flow, whole] = went.shares(self);
        let mut row = self.head();
        row.extend([
            Cell::whole(went.route),
            share(flow),
            share(whole),
            Cell::Number(went.flow.whole.as_secs_f64(), 1, " s"),
            Cell::Number((went.peak / 1024) as f64, 0, " KiB"),
            Cell::text(format!("{}, {}", went.lost, went.connections)),
        ]);
        row
    }

    fn failed(&self) -> Vec<Cell> {
        let mut row = self.head();
        row.extend(std::iter::repeat_n(Cell::Missing("not measured"), COLUMNS.len() - row.len()));
        row
    }

    /// Limits that do not hold.
    fn broken(&self, went: &Went) -> Vec<String> {
        let [_, whole] = went.shares(self);
        let mut broken = Vec::new();
        if let Some(least) = self.share_min.filter(|least| whole < *least) {
            let (whole, least) = (whole * 100.0, least * 100.0);
            broken.push(format!("{}: {whole:.1} % of the link, of at least {least:.0} %", self.name()));
        }
        if went.peak > PEAK_BYTES_MAX {
            let kib = [went.peak, PEAK_BYTES_MAX].map(|bytes| bytes / 1024);
            broken.push(format!("{}: peak RSS of {} KiB, of at most {}", self.name(), kib[0], kib[1]));
        }
        broken
    }
}

impl Route {
    fn word(self) -> &'static str {
        match self {
            Route::Full => "full",
            Route::Delta => "delta",
        }
    }
}

impl Went {
    /// In flow and whole, of the link.
    fn shares(&self, case: &Case) -> [f64; 2] {
        let rate = case.bits_per_second as f64 / 8.0;
        let share = |bytes: f64, time: Duration| bytes / time.as_secs_f64().max(1e-9) / rate;
        [share(self.route as f64 * FLOW_SHARE, self.flow.middle), share(self.route as f64, self.flow.whole)]
    }
}

/// One gateway, one line, one route.
fn play(folder: &Path, programs: &Programs, case: &Case) -> Result<Went> {
    let (old, new) = (folder.join("1.img"), folder.join("2.img"));
    let image_bytes = match case.route {
        Route::Full => case.bytes,
        Route::Delta => case.bytes * 16,
    };
    noise(&old, "1.0.0", image_bytes, 16)?;
    let kept = if case.route == Route::Delta { KEPT_OF_SIXTEEN } else { 0 };
    noise(&new, "2.0.0", image_bytes, kept)?;
    let stage = Stage::build(folder, programs, &old, image_bytes, Some(case.line()))?;
    let base = old.to_str().doing(|| "a path in UTF-8")?;
    let further = match case.route {
        Route::Full => vec![],
        Route::Delta => vec!["--base", base],
    };
    let bundle = stage.pack(&new, &further)?;
    let route = route_bytes(&stage.inspect(&bundle)?, case.route)?;
    stage.power_on()?;
    let narrow = stage.narrow().doing(|| "a line")?;
    let done = AtomicBool::new(false);
    let samples = std::thread::scope(|scope| {
        let sampling = scope.spawn(|| sample(&done, || narrow.bytes_down()));
        let installed = stage.publish(&bundle).and_then(|()| stage.wait_installed());
        done.store(true, Ordering::Relaxed);
        let samples = sampling.join().map_err(|_| Trouble::new("the sampling thread has panicked"))?;
        installed.map(|()| samples)
    })?;
    let flow = Flow::of(&samples).doing(|| format!("{}: nothing came down the line", case.name()))?;
    let peak = stage.memory()?.peak;
    Ok(Went { route, flow, peak, lost: narrow.lost(), connections: narrow.connections() })
}

/// The bytes of the route that the gateway has to take, from `mainstayctl inspect --json`.
fn route_bytes(inspected: &serde_json::Value, kind: Route) -> Result<u64> {
    let routes = inspected["artifacts"][0]["routes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let route = routes.iter().find(|route| route["kind"] == kind.word());
    let bytes = route.and_then(|route| route["bytes"].as_u64());
    bytes.doing(|| format!("mainstayctl inspect: expected a {} route, found {routes:?}", kind.word()))
}

/// An image that the board boots, of which nothing compresses. Of each 64 KiB the first `kept` sixteenths are those of every
/// other image, the rest is this version's own: as an update looks in which some blocks of each file are new.
fn noise(path: &Path, version: &str, bytes: u64, kept: usize) -> Result<()> {
    let what = || path.display().to_string();
    let seed = version.bytes().fold(1, |sum: u64, byte| sum.wrapping_mul(31) + u64::from(byte));
    let (mut shared, mut own) = (Random(1), Random(seed << 32));
    let mut out = BufWriter::new(std::fs::File::create(path).doing(what)?);
    let header = Header::new(version, Behaviour::Healthy).encode()?;
    out.write_all(&header).doing(what)?;
    let mut left = bytes as usize - header.len();
    let mut block = [0; 4096];
    for number in 0.. {
        for word in block.chunks_exact_mut(8) {
            let (shared, own) = (shared.next(), own.next());
            let random = if number % 16 < kept { shared } else { own };
            word.copy_from_slice(&random.to_le_bytes());
        }
        let n = left.min(block.len());
        out.write_all(block.get(..n).unwrap_or_default()).doing(what)?;
        left -= n;
        if left == 0 {
            break;
        }
    }
    out.flush().doing(what)
}

/// A counter and when it was read, until `done`.
fn sample(done: &AtomicBool, bytes: impl Fn() -> u64) -> Vec<(Duration, u64)> {
    let (began, mut samples) = (Instant::now(), Vec::new());
    while !done.load(Ordering::Relaxed) {
        samples.push((began.elapsed(), bytes()));
        std::thread::sleep(SAMPLED);
    }
    samples.push((began.elapsed(), bytes()));
    samples
}

/// When bytes came down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Flow {
    /// From the first to the last.
    whole: Duration,
    /// From a tenth to nine tenths of them.
    middle: Duration,
}

/// Of all bytes, those that come in [`Flow::middle`].
const FLOW_SHARE: f64 = 0.8;
/// What comes after a pause in less than this is no piece: an acknowledgement, a ping.
const SMALL_BYTES: u64 = 256;

impl Flow {
    /// From a counter's samples, in their order. `None`: nothing came.
    fn of(samples: &[(Duration, u64)]) -> Option<Flow> {
        let mut steps = samples.windows(2).filter_map(|pair| match pair {
            [from, to] if to.1 - from.1 >= SMALL_BYTES => Some((*from, *to)),
            _ => None,
        });
        let first = steps.next()?;
        let ((began, base), (ended, total)) = (first.0, steps.next_back().unwrap_or(first).1);
        let reached = |share: f64| {
            let wanted = base + ((total - base) as f64 * share) as u64;
            samples.iter().find(|(_, bytes)| *bytes >= wanted).map(|(at, _)| *at)
        };
        let (tenth, nine) = (reached(0.1)?, reached(0.9)?);
        Some(Flow { whole: ended - began, middle: nine - tenth })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn a_flow_begins_and_ends_with_its_bytes_and_leaves_out_what_is_small() {
        // 100 bytes of a ping, a pause, 10,000 bytes at 1,000 each 20 ms, a pause, an acknowledgement of 40.
        let mut samples = vec![(MS(0), 500), (MS(20), 600), (MS(1000), 600)];
        samples.extend((1..=10).map(|n| (MS(1000 + 20 * n), 600 + 1000 * n)));
        samples.extend([(MS(3000), 10_600), (MS(3020), 10_640)]);
        assert_eq!(Flow::of(&samples), Some(Flow { whole: MS(200), middle: MS(160) }));
        assert_eq!(Flow::of(&samples[..3]), None);
        assert_eq!(Flow::of(&[]), None);
    }

    #[test]
    fn a_share_is_of_the_link_and_a_limit_that_is_missed_is_named() {
        // 50 Mbit/s are 6.25 MB/s; 62.5 MB whole in 10.96 s are 91.2 %; 50 MB of them in 8 s are 100 %.
        let [case, ..] = CASES;
        let flow = Flow { whole: MS(10_960), middle: MS(8_000) };
        let went = Went { route: 62_500_000, flow, peak: 5 * MIB, lost: 0, connections: 2 };
        assert_eq!(went.shares(&case).map(|share| (share * 1000.0) as u32), [1000, 912]);
        assert_eq!(case.broken(&went), Vec::<String>::new());
        let slow = Went { flow: Flow { whole: MS(11_250), ..flow }, ..went };
        assert!(case.broken(&slow)[0].contains("88.9 % of the link, of at least 90 %"));
        assert!(case.broken(&Went { peak: 6 * MIB, ..went })[0].contains("6144 KiB, of at most 5632"));
    }

    #[test]
    fn of_a_noisy_image_fifteen_sixteenths_stay_and_the_rest_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let make = |version, kept| {
            let path = folder.path().join("image");
            noise(&path, version, 256 * 1024, kept).unwrap();
            std::fs::read(path).unwrap()
        };
        let old = make("1.0.0", 16);
        let same = |new: &[u8]| old.iter().zip(new).filter(|(a, b)| a == b).count() * 1000 / old.len();
        assert_eq!(old.len(), 256 * 1024);
        // A header of 512 or 4096 bytes and chance (1 in 256) stand above what was kept.
        assert!((937..957).contains(&same(&make("2.0.0", KEPT_OF_SIXTEEN))), "{}", same(&make("2.0.0", 15)));
        assert!(same(&make("2.0.0", 0)) < 20, "{}", same(&make("2.0.0", 0)));
    }

    #[test]
    fn the_route_that_was_asked_for_is_weighed_and_its_absence_is_said() {
        let json = serde_json::json!({"artifacts": [{"routes": [
            {"kind": "full", "bytes": 9}, {"kind": "delta", "base": "ab", "bytes": 4}]}]});
        assert_eq!(route_bytes(&json, Route::Full).unwrap(), 9);
        assert_eq!(route_bytes(&json, Route::Delta).unwrap(), 4);
        let none = route_bytes(&serde_json::json!({}), Route::Delta).unwrap_err().to_string();
        assert!(none.contains("expected a delta route"), "{none}");
    }
}
