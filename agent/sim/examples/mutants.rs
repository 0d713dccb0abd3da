//! Plays the seam mutants, and prints a line for each; `cargo xtask mutants` makes its table of them.
//!
//! ```text
//! cargo run --profile tool -p mainstay-sim --example mutants -- [TEXT]
//! mutant: NAME | WHAT IT DOES | WHAT CATCHES IT, or nobody | UNDER WHAT | SECONDS
//! ```
//! With TEXT only those whose name, seam or description contains it. Caught by another check than the one that is there
//! for it counts as not caught, and says so.

use mainstay_sim::mutant::{TABLE, Tale, hunt};
use mainstay_sim::stories::BOARDS;
use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    let only = std::env::args().nth(1).unwrap_or_default();
    let (mut caught, mut all) = (0, 0);
    for row in TABLE {
        let name = format!("{:?}", row.mutant);
        if ![name.as_str(), row.seam, row.does].iter().any(|text| text.contains(&only)) {
            continue;
        }
        let started = Instant::now();
        let found = hunt(row);
        let (Tale::Told(story) | Tale::Twisted(story, _)) = row.tale;
        let (by, under) = match found {
            Some(found) if found.by.starts_with(row.by) => {
                caught += 1;
                (row.by.to_string(), found.under.name())
            }
            Some(found) => {
                eprintln!("{name}: expected {:?}, found {:?} under {}", row.by, found.by, found.schedule);
                ("nobody".into(), found.under.name())
            }
            None => ("nobody".into(), row.under.name()),
        };
        all += 1;
        println!(
            "mutant: {name} | {}: {} | {by} | {story}, {}, {under} | {:.2}",
            row.seam,
            row.does,
            BOARDS[row.board].0,
            started.elapsed().as_secs_f32()
        );
    }
    println!("mutants: caught {caught} of {all}");
    ExitCode::from(u8::from(caught < all))
}
