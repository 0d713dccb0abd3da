//! Lives every story on every bootloader under every schedule of one or two cuts, and prints what it saw.
//!
//! ```text
//! cargo run --profile tool -p mainstay-sim --example sweep -- CUTS TRIES [BOARD [STORY]]
//! ```
//! Two cuts, each with the extremes of what a medium keeps and one draw between, take about ten minutes of one core
//! for each board.

use mainstay_sim::stories::{BOARDS, all};
use mainstay_sim::sweep::{CUTS, Sweep};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let mut number = |default: u8| args.next().and_then(|arg| arg.parse().ok()).unwrap_or(default);
    let (cuts, tries) = (number(1), number(3));
    let (on, story) = (args.next().unwrap_or_default(), args.next().unwrap_or_default());
    let (mut schedules, mut effects, mut broken) = (0, 0, 0);
    for (name, board) in BOARDS.into_iter().filter(|(name, _)| name.contains(&on)) {
        for case in all(tries).iter().filter(|case| case.story.name.contains(&story)) {
            let fits = |life: &_| case.after_cuts(life, board.convention().tries_max().min(tries), cuts);
            let mut sweep = Sweep::new(&case.story, board, None);
            let swept = match cuts {
                0 | 1 => sweep.one(&CUTS, &fits),
                _ => sweep.two(&CUTS[..3], &fits),
            };
            println!(
                "{name:18} {:38} {:6} schedules {:8} effects {:?}",
                case.story.name, sweep.tally.schedules, sweep.tally.effects, sweep.tally.histories
            );
            schedules += sweep.tally.schedules;
            effects += sweep.tally.effects;
            if let Err(found) = swept {
                broken += 1;
                println!("{found}");
            }
        }
    }
    println!("in all {schedules} schedules, {effects} effects, {broken} stories broken");
    ExitCode::from(u8::from(broken > 0))
}
