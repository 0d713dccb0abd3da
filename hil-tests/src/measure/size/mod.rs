//! Bytes on the wire, and what they cost to make and to apply: every method on every pair of images that stands in a folder.
//!
//! ```text
//! FOLDER/v1.ext4, v2.ext4              a pair, `v`; likewise erofs, squashfs, img
//! FOLDER/NAME-v1.ext4, NAME-v2.ext4    another, NAME
//! ```
//! * [`peers`] tools of Debian, really run; what they make is applied and compared with the new image
//! * [`emulated`] what cannot be run on a desk, counted as its documents say, and marked so
//! * [`ours`] our bundles
//!
//! A tool that is not installed is a row that says so. CPU is user and system; memory the highest that one of a method's programs
//! had resident.

pub mod desk;
pub mod emulated;
mod judge;
pub mod ours;
pub mod peers;

use super::cost::Cost;
use super::table::{Cell, Column, Table};
use super::{Measured, Words};
use crate::disk::MIB;
use crate::programs::optimized;
use crate::{Doing, Result, Trouble};
use desk::{Desk, Weighed};
use ours::{Ours, WAYS};
use peers::PEERS;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Two images, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// `security update, ext4`, `one-byte, ext4`
    pub name: String,
    /// What the device holds.
    pub old: PathBuf,
    /// What it shall hold.
    pub new: PathBuf,
}

/// A method on a pair, and what came of it.
#[derive(Debug)]
pub struct Row {
    /// The pair's name.
    pub pair: String,
    /// The method's.
    pub method: &'static str,
    /// Figures, or why there are none.
    pub weighed: Result<Weighed>,
}

/// Measures everything that is wanted, and prints a table for each pair.
pub fn measure(words: &Words) -> Result<Measured> {
    let folder = words.pairs();
    let pairs = Pair::all_in(&folder)?;
    if pairs.is_empty() {
        let what = "expected v1.ext4 and v2.ext4, or another pair; cargo xtask bench pair makes them";
        return Err(Trouble::new(format!("{}: {what}", folder.display())));
    }
    let ours = Ours { ctl: optimized("mainstayctl")?, apply: words.apply.clone() };
    let whole = optimized(peers::WHOLE)?;
    let workshop = words.workshop()?;
    let mut rows = Vec::new();
    for pair in &pairs {
        let of_pair = weigh_pair(words, &ours, &whole, workshop.path(), pair)?;
        if !of_pair.is_empty() {
            println!("### {}\n\n{}", pair.name, table(&of_pair).markdown());
            notes(&of_pair).for_each(|note| println!("* {note}"));
            println!();
        }
        rows.extend(of_pair);
    }
    println!("{FOOTNOTE}");
    let judge::Judged { broken, excepted } = judge::judge(&rows);
    excepted.iter().for_each(|what| println!("EXCEPTED: {what}"));
    broken.iter().for_each(|what| println!("NOT HELD: {what}"));
    Ok(Measured { within: broken.is_empty(), json: json(&rows) })
}

const FOOTNOTE: &str = "\
(emulated): counted, not run. RAUC adaptive: 32 bytes of index for each 4 KiB, and each 64 KiB block of the bundle's squashfs
(zstd -19) in which a 4 KiB block lies that is not in the old image; fixed blocks: SHA-256 of each 4 KiB through zstd -19, and missing
blocks in frames of 64 KiB (zstd -19); bsdiff with xz: qbsdiff's streams, put through xz -9 instead of bzip2.
Ours: manifest, tables, pages, pieces, and 104 bytes of MQTT for each of them; the packing of a delta is what it costs beside
the full route. CPU is in seconds of user and system, memory the highest that was resident.
";

fn weigh_pair(words: &Words, ours: &Ours, whole: &Path, workshop: &Path, pair: &Pair) -> Result<Vec<Row>> {
    let wants = |method: &str| words.wants(&format!("{}: {method}", pair.name));
    let mut rows = Vec::new();
    for peer in PEERS.iter().filter(|peer| peer.names.iter().any(|name| wants(name))) {
        eprintln!("size: {}: {}", pair.name, peer.names.join(" and "));
        let desk = Desk::lay(workshop, &pair.old, &pair.new)?;
        desk.link(peers::WHOLE, whole)?;
        let weighed = match not_here(peer.needs) {
            None => (peer.weigh)(&desk),
            Some(lacking) => Err(Trouble::new(lacking)),
        };
        let mut weighed = weighed.map(Vec::into_iter);
        for method in peer.names {
            let weighed = match &mut weighed {
                Ok(all) => all.next().doing(|| "no figures"),
                Err(why) => Err(Trouble::new(why.to_string())),
            };
            rows.push(Row { pair: pair.name.clone(), method, weighed });
        }
    }
    let mut full = None;
    for way in WAYS.into_iter().filter(|way| wants(way.name())) {
        eprintln!("size: {}: {}", pair.name, way.name());
        let desk = Desk::lay(workshop, &pair.old, &pair.new)?;
        let weighed = ours.weigh(&desk, way, full);
        if let (ours::Way::Full, Ok(weighed)) = (way, &weighed) {
            full = weighed.pack;
        }
        rows.push(Row { pair: pair.name.clone(), method: way.name(), weighed });
    }
    Ok(rows)
}

/// The first of these programs that is not installed, in words.
fn not_here(needs: &[(&str, &str)]) -> Option<String> {
    let lacking = needs.iter().find(|(program, _)| !installed(program));
    lacking.map(|(program, package)| format!("not here: {program} (Debian: apt install {package})"))
}

/// Is a program on the path?
fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

impl Pair {
    /// All that stand in a folder, in the order of their names.
    pub fn all_in(folder: &Path) -> Result<Vec<Pair>> {
        let what = || folder.display().to_string();
        let mut pairs = Vec::new();
        for entry in std::fs::read_dir(folder).doing(what)? {
            let old = entry.doing(what)?.path();
            pairs.extend(Pair::of(&old).filter(|pair| pair.new.is_file()));
        }
        pairs.sort_by_key(|pair| (!pair.name.starts_with(SECURITY), pair.name.clone()));
        Ok(pairs)
    }

    /// The pair whose old image this is, by its name.
    fn of(old: &Path) -> Option<Pair> {
        let (stem, format) = (old.file_stem()?.to_str()?, old.extension()?.to_str()?);
        if !FORMATS.contains(&format) {
            return None;
        }
        let name = match stem.strip_suffix("v1")? {
            "" => SECURITY,
            name => name.strip_suffix('-')?,
        };
        let new = format!("{}v2.{format}", stem.strip_suffix("v1")?);
        Some(Pair { name: format!("{name}, {format}"), old: old.to_owned(), new: old.with_file_name(new) })
    }
}

/// What the pair without a name is.
const SECURITY: &str = "security update";
/// What images are called.
const FORMATS: [&str; 4] = ["ext4", "erofs", "squashfs", "img"];

const COLUMNS: [Column; 8] = [
    Column { heading: "method", key: "method" },
    Column { heading: "bytes on the wire", key: "wire" },
    Column { heading: "of the smallest peer", key: "of_smallest_percent" },
    Column { heading: "of them index", key: "index" },
    Column { heading: "pack, CPU", key: "pack_cpu" },
    Column { heading: "pack, memory", key: "pack_mib" },
    Column { heading: "apply, CPU", key: "apply_cpu" },
    Column { heading: "apply, memory", key: "apply_mib" },
];

/// The table of one pair, the largest first, and at the end what was not measured.
fn table(rows: &[Row]) -> Table {
    let wire = |row: &Row| row.weighed.as_ref().map_or(0, |weighed| weighed.wire);
    let mut sorted: Vec<&Row> = rows.iter().collect();
    sorted.sort_by_key(|row| std::cmp::Reverse(wire(row)));
    let smallest = judge::smallest_peer(rows).map(|(_, wire)| wire as f64);
    let mut table = Table::new(&COLUMNS);
    for row in sorted {
        let mut cells = vec![Cell::text(row.method)];
        match &row.weighed {
            Ok(weighed) => {
                cells.push(Cell::whole(weighed.wire));
                cells.push(smallest.map_or(NOTHING, |smallest| {
                    Cell::Number(weighed.wire as f64 * 100.0 / smallest, 1, " %")
                }));
                cells.push(if weighed.index > 0 { Cell::whole(weighed.index) } else { NOTHING });
                cells.extend(cost_cells(weighed.pack));
                cells.extend(cost_cells(weighed.apply));
            }
            Err(why) => {
                let why = why.to_string();
                let words = ["not here", "not finished"];
                let word = words.into_iter().find(|word| why.starts_with(word)).unwrap_or("not measured");
                cells.extend(std::iter::repeat_n(Cell::Missing(word), COLUMNS.len() - 1));
            }
        }
        table.row(cells);
    }
    table
}

const NOTHING: Cell = Cell::Missing("");

fn cost_cells(cost: Option<Cost>) -> [Cell; 2] {
    let peak = cost.and_then(|cost| cost.peak);
    [
        cost.map_or(NOTHING, |cost| Cell::Number(cost.cpu, 2, " s")),
        peak.map_or(NOTHING, |peak| Cell::Number(peak as f64 / MIB as f64, 1, " MiB")),
    ]
}

/// What has to be said below the table.
fn notes(rows: &[Row]) -> impl Iterator<Item = String> {
    rows.iter().filter_map(|row| match &row.weighed {
        Ok(weighed) => (!weighed.note.is_empty()).then(|| weighed.note.clone()),
        Err(why) => Some(format!("{}: {why}", row.method)),
    })
}

fn json(rows: &[Row]) -> Value {
    let cost = |cost: Option<Cost>| cost.map(|Cost { cpu, peak }| json!({"cpu_s": cpu, "peak_bytes": peak}));
    let object = |row: &Row| match &row.weighed {
        Ok(Weighed { wire, index, pack, apply, note }) => json!({
            "pair": row.pair, "method": row.method, "wire_bytes": wire, "index_bytes": index,
            "pack": cost(*pack), "apply": cost(*apply), "note": note,
        }),
        Err(why) => json!({"pair": row.pair, "method": row.method, "not_measured": why.to_string()}),
    };
    Value::Array(rows.iter().map(object).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_found_by_their_names_and_half_a_pair_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let files = [
            "v1.ext4",
            "v2.ext4",
            "v1.erofs",
            "v2.erofs",
            "a-v1.ext4",
            "a-v2.ext4",
            "v1.pkgs",
            "v2.pkgs",
            "lone-v1.ext4",
            "xv1.ext4",
            "xv2.ext4",
            "v1.squashfs",
        ];
        files.iter().for_each(|name| std::fs::write(folder.path().join(name), name).unwrap());
        let pairs = Pair::all_in(folder.path()).unwrap();
        let names: Vec<_> = pairs.iter().map(|pair| pair.name.as_str()).collect();
        assert_eq!(names, ["security update, erofs", "security update, ext4", "a, ext4"]);
        assert_eq!(std::fs::read(&pairs[2].new).unwrap(), b"a-v2.ext4");
    }

    #[test]
    fn a_tool_that_is_not_installed_is_a_row_that_says_so() {
        let lacking = not_here(&[("sh", "dash"), ("no-such-tool", "no-such-package")]).unwrap();
        assert_eq!(lacking, "not here: no-such-tool (Debian: apt install no-such-package)");
        assert_eq!(not_here(&[("sh", "dash")]), None);
        let row = |method, weighed| Row { pair: "p".into(), method, weighed };
        let weighed = Weighed { wire: 2000, index: 10, ..Weighed::default() };
        let rows = [row("zeta", Err(Trouble::new(lacking.clone()))), row("eta", Ok(weighed))];
        let markdown = table(&rows).markdown();
        assert!(markdown.contains("| zeta | not here | not here |"), "{markdown}");
        assert!(markdown.contains("| eta | 2,000 | 100.0 % | 10 |"), "{markdown}");
        assert_eq!(notes(&rows).collect::<Vec<_>>(), [format!("zeta: {lacking}")]);
        assert_eq!(json(&rows)[0]["not_measured"], lacking);
    }
}
