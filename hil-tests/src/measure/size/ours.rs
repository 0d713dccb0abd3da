//! What our own bundles cost on the wire, to make and to apply. The operator's tool is asked for the figures; a device's apply
//! path is played alone by `apply`, a program of the device's own parts without broker and daemon.
//!
//! ```text
//! a device takes             bytes                                  objects
//!   manifest                 its envelope                           1
//!   full route               segment table and pages,
//!                            route table and pages, pieces          2 + 2 · runs + pieces
//!   delta route              route table and pages, pieces          1 + runs + pieces
//! and for each object, over MQTT 5:
//!   PUBLISH   1 + 3 (length) + 2 + topic (19 + 64, fleet `plant`) + 2 (id) + 1 (no properties)   = 92
//!   SUBACK, UNSUBACK         1 + 1 + 2 + 1 + 1 each                                              = 12
//! ```
//! What has to go the other way (SUBSCRIBE, PUBACK, UNSUBSCRIBE), TLS' records and TCP's headers are not counted; of no peer
//! are its requests.

use super::super::cost::Cost;
use super::desk::{Desk, Weighed};
use crate::{Doing, Result, Trouble};
use serde_json::Value;
use std::path::PathBuf;

/// One of our three rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// All segments, compressed.
    Full,
    /// From the old image, byte by byte alone.
    Plain,
    /// From the old image, with everything that there is.
    Delta,
}

/// In the table's order.
pub const WAYS: [Way; 3] = [Way::Full, Way::Plain, Way::Delta];

/// The programs that are weighed.
#[derive(Clone, Debug)]
pub struct Ours {
    /// `mainstayctl`, optimized.
    pub ctl: PathBuf,
    /// The apply path alone, static, where this build has it.
    pub apply: Option<PathBuf>,
}

const OVERHEAD_BYTES: u64 = 92 + 12;
const SEGMENT_BYTES: u64 = 256 * 1024;
const RUN_SEGMENTS: u64 = 512;

impl Way {
    /// What it is called in the table.
    pub fn name(self) -> &'static str {
        match self {
            Way::Full => "Mainstay, full",
            Way::Plain => "Mainstay, delta without transforms",
            Way::Delta => "Mainstay, delta",
        }
    }

    fn words(self) -> &'static [&'static str] {
        match self {
            Way::Full => &[],
            Way::Plain => &["--base", "old", "--no-transforms"],
            Way::Delta => &["--base", "old"],
        }
    }

    fn route(self) -> &'static str {
        match self {
            Way::Full => "full",
            Way::Plain | Way::Delta => "delta",
        }
    }
}

impl Ours {
    /// Weighs one way. A delta route is packed beside the full one; `full` is what that cost alone, and is taken off.
    pub fn weigh(&self, desk: &Desk, way: Way, full: Option<Cost>) -> Result<Weighed> {
        desk.link("mainstayctl", &self.ctl)?;
        let help = desk.ask("./mainstayctl pack --help")?;
        if let Some(lacking) =
            way.words().iter().find(|word| word.starts_with("--") && !help.contains(**word))
        {
            return Err(Trouble::new(format!("not available in this build: mainstayctl pack {lacking}")));
        }
        desk.ask("./mainstayctl key generate release --no-passphrase --out .")?;
        let words = [PACK, way.words()].concat().join(" ");
        let cost = desk.run(&words)?;
        let pack = match full {
            Some(full) if way != Way::Full => Cost { cpu: (cost.cpu - full.cpu).max(0.0), ..cost },
            _ => cost,
        };
        let said = desk.ask("./mainstayctl inspect wire.bundle --json")?;
        let inspected: Value = serde_json::from_str(&said).doing(|| "mainstayctl inspect --json")?;
        let manifest = manifest_bytes(&desk.read("wire.bundle")?)?;
        let route = taken(&inspected, way);
        let (bytes, index) = wire(&inspected, route, manifest)?;
        let (apply, note) = match self.apply(desk, route) {
            Ok(cost) if route != way.route() => {
                (Some(cost), format!("{}: none kept, the full route is smaller", way.name()))
            }
            Ok(cost) => (Some(cost), String::new()),
            Err(why) => (None, format!("{}, apply: {why}", way.name())),
        };
        Ok(Weighed { wire: bytes, index, pack: Some(pack), apply, note })
    }

    /// The device's way of it, proven like every other's. CPU is what the program says of itself, without the read-back.
    fn apply(&self, desk: &Desk, route: &str) -> Result<Cost> {
        let apply = self.apply.as_ref().doing(|| "not available in this build")?;
        desk.link("apply", apply)?;
        let target = std::fs::File::create(desk.at("out")).doing(|| "out")?;
        target.set_len(desk.new_bytes()).doing(|| "out")?;
        let words = "./apply --bundle wire.bundle --base old --target out --class rootfs --route";
        let cost = desk.run_into(&format!("{words} {route}"), "said")?;
        let said = String::from_utf8_lossy(&desk.read("said")?).into_owned();
        desk.prove()?;
        Ok(Cost { cpu: own_cpu(&said)?, ..cost })
    }
}

const PACK: &[&str] = &[
    "./mainstayctl",
    "pack",
    "--quiet",
    "--artifact",
    "rootfs=new",
    "--out",
    "wire.bundle",
    "--compatible",
    "bench-gateway",
    "--version",
    "2",
    "--sign-with",
    "release.key",
];

/// Seconds of user and system that `apply` says it took.
fn own_cpu(said: &str) -> Result<f64> {
    let json: Option<Value> = said.lines().rev().find_map(|line| serde_json::from_str(line).ok());
    let seconds = json.and_then(|json| Some(json["cpu_user"].as_f64()? + json["cpu_sys"].as_f64()?));
    seconds.doing(|| format!("apply: expected cpu_user and cpu_sys, found {said:?}"))
}

/// Length of the manifest's envelope: that of a bundle file's first object (SPEC-bundle, section 6).
fn manifest_bytes(bundle: &[u8]) -> Result<u64> {
    let length = bundle.get(20..24).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
    length.map(u64::from).doing(|| "expected a bundle, whose manifest comes first")
}

/// The route that a device takes: the full one where the packer has kept no other, because none was smaller.
fn taken(inspected: &Value, way: Way) -> &'static str {
    let routes = inspected["artifacts"][0]["routes"].as_array().map(Vec::as_slice).unwrap_or_default();
    if routes.iter().any(|route| route["kind"] == way.route()) { way.route() } else { Way::Full.route() }
}

/// Bytes on the wire for a route, and those of them that are not its pieces.
fn wire(inspected: &Value, kind: &str, manifest: u64) -> Result<(u64, u64)> {
    let artifact = &inspected["artifacts"][0];
    let routes = artifact["routes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let route = routes.iter().find(|route| route["kind"] == kind);
    let route = route.doing(|| format!("mainstayctl inspect: expected a {kind} route, found {routes:?}"))?;
    let number = |value: &Value, what: &str| {
        value[what].as_u64().doing(|| format!("mainstayctl inspect: expected {what}, found {value}"))
    };
    let (bytes, pieces) = (number(route, "bytes")?, number(route, "pieces")?);
    let runs = number(artifact, "size")?.div_ceil(SEGMENT_BYTES * RUN_SEGMENTS);
    let objects = match kind {
        "full" => 3 + 2 * runs + pieces,
        _ => 2 + runs + pieces,
    };
    let index = manifest + number(route, "index_bytes")? + objects * OVERHEAD_BYTES;
    Ok((bytes + index, index))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_route_s_bytes_on_the_wire_are_counted_as_its_formula_says() {
        let inspected = json!({"artifacts": [{"size": 384 << 20, "routes": [
            {"kind": "full", "bytes": 98_304_000, "pieces": 1100, "index_bytes": 92_000},
            {"kind": "delta", "base": "ab", "bytes": 700_000, "pieces": 8, "index_bytes": 5000},
            {"kind": "other"}]}]});
        // 1536 segments in 3 runs. Delta: 8 pieces; 1 manifest, 1 table, 3 pages, 8 pieces: 13 objects of 104 bytes.
        assert_eq!(wire(&inspected, "delta", 300).unwrap(), (700_000 + 300 + 5000 + 1352, 300 + 5000 + 1352));
        // Full: 1 manifest, 2 tables, 6 pages, 1100 pieces.
        let index = 300 + 92_000 + 1109 * 104;
        assert_eq!(wire(&inspected, "full", 300).unwrap(), (98_304_000 + index, index));
        assert_eq!(WAYS.map(|way| taken(&inspected, way)), ["full", "delta", "delta"]);
        let full_alone = json!({"artifacts": [{"routes": [{"kind": "full"}]}]});
        assert_eq!(taken(&full_alone, Way::Delta), "full", "no delta route is kept where full is smaller");
        let why = wire(&json!({}), "delta", 300).unwrap_err().to_string();
        assert!(why.contains("expected a delta route"), "{why}");
    }

    #[test]
    fn a_manifest_s_length_stands_in_the_first_object_of_its_bundle() {
        let mut bundle = b"MAINSTAY-BUNDLE1\x01\0\0\0\x2c\x01\0\0".to_vec();
        assert_eq!(manifest_bytes(&bundle).unwrap(), 300);
        bundle.truncate(23);
        assert!(manifest_bytes(&bundle).is_err());
    }

    #[test]
    fn the_cpu_of_the_apply_path_is_its_own_word_in_its_last_line() {
        let said = "opened\n{\"wall\":9.0,\"cpu_user\":0.5,\"cpu_sys\":0.25,\"max_rss\":1}\n";
        assert_eq!(own_cpu(said).unwrap(), 0.75);
        assert!(own_cpu("nothing").is_err() && own_cpu("{\"cpu_user\":1}").is_err());
    }
}
