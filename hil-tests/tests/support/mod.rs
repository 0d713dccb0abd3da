//! A world on a virtual board.

use mainstay_hil::bench::Bench;
use mainstay_hil::bench::virtual_board::VirtualBench;
use mainstay_hil::board::Bootloader;
use mainstay_hil::broker::Kind;
use mainstay_hil::programs::Programs;
use mainstay_hil::scenario::world::{Wait, World};
use mainstay_hil::scenario::{Played, Scenario, play};
use std::sync::{Arc, OnceLock};

/// Both programs, built once.
fn programs() -> Programs {
    static BUILT: OnceLock<Programs> = OnceLock::new();
    BUILT.get_or_init(|| Programs::build().unwrap()).clone()
}

/// Plays a scenario on what `dress` makes of a virtual board.
pub fn play_on(
    scenario: &'static Scenario,
    dress: impl FnOnce(VirtualBench) -> Box<dyn Bench>,
) -> Vec<Played> {
    let folder = tempfile::tempdir().unwrap();
    let programs = programs();
    let bench = VirtualBench::new(&folder.path().join("bench"), &programs.agent, Bootloader::UBoot).unwrap();
    let mut bench = dress(bench);
    let show = Box::new(|_: &Wait<'_>| {});
    let stop = Arc::default();
    let mut world =
        World::around(bench.as_mut(), Kind::Embedded, &programs.ctl, folder.path(), stop, show).unwrap();
    let mut all = Vec::new();
    play(&mut world, scenario, &mut |played| all.push(played));
    all
}
