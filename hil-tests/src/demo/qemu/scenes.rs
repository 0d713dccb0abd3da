//! The five scenes that take a real machine: all that a bootloader, a kernel and a watchdog have a part in.

use crate::Result;
use crate::bench::{Nature, Need, What};
use crate::proof::Proof;
use crate::scenario::update::{Ended, Update, Wanted};
use crate::scenario::world::World;
use mainstay_core::limits::TRIES_DEFAULT;
use mainstay_core::update::OutcomeKind;

/// A scene.
pub struct Scene {
    /// From 1.
    pub number: u8,
    /// What it shows.
    pub title: &'static str,
    /// Plays it.
    pub play: fn(&mut World<'_>, &mut Proof) -> Result<()>,
}

/// All, in order.
pub const ALL: [Scene; 5] = [
    Scene { number: 1, title: "an update is taken, tried and committed", play: committed },
    Scene { number: 2, title: "an image whose health check fails is rolled back", play: rolled_back },
    Scene { number: 3, title: "an image whose user space hangs falls back", play: hangs },
    Scene { number: 4, title: "an image that never comes up falls back", play: never_up },
    Scene { number: 5, title: "the power goes in mid-download", play: power_cut },
];

/// Two show that they are counted.
const TRIES: u8 = 2;
/// While the download is to be cut the broker's door lets so many bytes through in a second.
const NARROW: u64 = 64 * 1024;

fn committed(world: &mut World<'_>, proof: &mut Proof) -> Result<()> {
    let update = Update::ready(world, Wanted::new(Nature::Healthy, TRIES_DEFAULT))?;
    let ended = update.play(world, 0)?;
    update.is_committed(world, proof, &ended)
}

fn rolled_back(world: &mut World<'_>, proof: &mut Proof) -> Result<()> {
    let update = Update::ready(world, Wanted::new(Nature::CheckFails, TRIES_DEFAULT))?;
    let ended = update.play(world, 0)?;
    update.is_back(world, proof, &ended, &[OutcomeKind::RolledBack])
}

fn hangs(world: &mut World<'_>, proof: &mut Proof) -> Result<()> {
    let ended = falls_back(world, proof, Nature::UserspaceHangs)?;
    let bites = ended.seen.count(&What::WatchdogFires);
    proof.equal("times that the watchdog fired", bites, TRIES.into());
    let bite = ended.seen.events.iter().rev().find(|event| event.what == What::WatchdogFires);
    if let Some((bite, heard)) = bite.zip(ended.seen.heard.last()) {
        let took = heard.at.saturating_duration_since(bite.at).as_secs_f64();
        proof.hold("from the last bite to the last report", true, format!("{took:.1} s"));
    }
    Ok(())
}

/// There is no init in it: each try ends in the kernel's panic. (A kernel that hangs is bitten by the watchdog that GRUB armed;
/// that takes minutes, and `cargo hil --scenario 4` plays it.)
fn never_up(world: &mut World<'_>, proof: &mut Proof) -> Result<()> {
    let ended = falls_back(world, proof, Nature::InitMissing)?;
    proof.hold(
        "the kernel panicked each time",
        ended.seen.count(&What::Panic) >= TRIES.into(),
        ended.seen.count(&What::Panic),
    );
    Ok(())
}

fn falls_back(world: &mut World<'_>, proof: &mut Proof, nature: Nature) -> Result<Ended> {
    let update = Update::ready(world, Wanted::new(nature, TRIES))?;
    let ended = update.play(world, TRIES.into())?;
    let boots = ended.seen.count(&update.boots());
    proof.equal("boots into the trial, one for each try", boots, TRIES.into());
    update.is_back(world, proof, &ended, &[OutcomeKind::FellBack])?;
    Ok(ended)
}

fn power_cut(world: &mut World<'_>, proof: &mut Proof) -> Result<()> {
    let update = Update::ready(world, Wanted::new(Nature::Healthy, TRIES_DEFAULT))?;
    world.door.limit(Some(NARROW));
    let mark = update.publish(world)?;
    let patience = world.patience(1, 1, 0);
    let line = format!("phase downloading: {}", update.bundle.version);
    world.until(mark, "the download to begin", patience, |seen| seen.says(&[&line]).then_some(()))?;
    world.power(false)?;
    world.door.limit(None);
    let before = world.seen(mark)?;
    if world.has(Need::Environment) {
        let armed = world.bench.environment()?.group(update.target()).bootable();
        let figure = if armed { "bootable" } else { "not bootable" };
        proof.hold("half written, its group cannot be booted", !armed, figure);
    }
    let tried = before.count(&update.boots());
    world.power(true)?;
    let ended = update.follow(world, mark, 0)?;
    let boots = ended.seen.count(&update.boots());
    proof.hold(
        "it was tried only when it was whole",
        (tried, boots) == (0, 1),
        format!("{boots} boot into the trial"),
    );
    update.is_committed(world, proof, &ended)
}
