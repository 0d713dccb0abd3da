//! Scenarios over a serial port and by commands only: the bench for real boards, in front of an emulated machine that is
//! handled as a real board is (`benches/qemu-pty`). It takes minutes, and QEMU, so it is played only when it is asked for:
//!
//!     cargo test -p mainstay-hil --test real_board -- --ignored --nocapture

use mainstay_hil::bench::Bench;
use mainstay_hil::bench::real_board::RealBoard;
use mainstay_hil::broker::Kind;
use mainstay_hil::programs::Programs;
use mainstay_hil::scenario::world::{Wait, World};
use mainstay_hil::scenario::{Verdict, find, play};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// A good update, one that fails its check, and kernels that fail; of these, what a serial console can tell.
const SCENARIOS: [u8; 3] = [1, 2, 4];

#[test]
#[ignore = "minutes, and QEMU: the nightly set plays it"]
fn scenarios_are_played_over_a_serial_port_and_by_commands_only() {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/qemu-pty/bench.toml");
    let folder = tempfile::tempdir().unwrap();
    let programs = Programs::build().unwrap();
    let mut bench = RealBoard::open(&config).unwrap();
    assert_eq!(bench.name(), "board/qemu-pty");
    let stop = Arc::new(AtomicBool::new(false));
    let show = Box::new(|_: &Wait<'_>| {});
    let mut world =
        World::around(&mut bench, Kind::Embedded, &programs.ctl, folder.path(), stop, show).unwrap();
    let mut played = Vec::new();
    for number in SCENARIOS {
        play(&mut world, find(number).unwrap(), &mut |case| {
            println!(
                "{} {} {}: {:?}, {:.0} s\n{}",
                case.number,
                case.title,
                case.case,
                case.verdict,
                case.took.as_secs_f64(),
                case.table
            );
            if let (Verdict::Failed(_), Some((_, after))) = (&case.verdict, &case.evidence) {
                println!("{}\n{}", after.console, after.environment.join("\n"));
            }
            played.push(case);
        });
    }
    let failed: Vec<&str> = played
        .iter()
        .filter(|case| matches!(case.verdict, Verdict::Failed(_)))
        .map(|case| case.title)
        .collect();
    assert!(failed.is_empty(), "{failed:?}");
    let not_run: Vec<&str> = played
        .iter()
        .filter(|case| matches!(case.verdict, Verdict::NotRun(_)))
        .map(|case| case.case)
        .collect();
    assert_eq!(not_run, ["it never reaches user space"], "that the watchdog did it, a console cannot tell");
}
