//! `cargo demo -- --qemu`: the demo's story on a real machine, emulated: GRUB, Debian's kernel, QEMU's i6300ESB watchdog, the
//! static device binary. Its serial console is shown below both groups.
//!
//! * `watched` the bench, as whoever plays on it and whoever watches it have it
//! * `scenes` the five
//!
//! What a scene plays on, and what it claims of an update, is the laboratory's ([`scenario`](crate::scenario)).

mod scenes;
mod watched;

use super::words::Words;
use crate::bench::Bench;
use crate::bench::qemu::QemuBench;
use crate::programs::{Programs, static_agent, target};
use crate::proof::Proof;
use crate::scenario::world::{Wait, World};
use crate::screen::Screen;
use crate::{Doing, Result, Trouble, interrupt};
use mainstay_lab::board::BoardKind;
use mainstay_lab::provision::Provision;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Instant;
use watched::{Watched, Watcher};

/// The machine.
const BOARD: BoardKind = BoardKind::X86Bios;

/// Plays the story. `true`: all that was claimed has been proven.
pub fn play(words: &Words) -> Result<bool> {
    words.broker.available()?;
    if let Some(scene) = words.scenes.iter().find(|scene| usize::from(**scene) > scenes::ALL.len()) {
        return Err(Trouble::new(format!(
            "--scene: expected 1 to {} with --qemu, found {scene}",
            scenes::ALL.len()
        )));
    }
    let mut screen = Screen::new();
    screen.say(
        "looking for what an emulated machine is made of (the first time it is fetched, which takes minutes)",
    );
    let parts = Provision::new(target().join("lab")).quiet(true).provide(&[BOARD.want()])?;
    if let Some(why) = parts.why_not(BOARD.want()) {
        return Err(Trouble::new(format!("--qemu cannot be played here: {why}")));
    }
    screen.say("building mainstayctl, and mainstay as it goes into gateways");
    let (programs, agent) = (Programs::build()?, static_agent(TRIPLE, None)?);
    let folder =
        tempfile::Builder::new().prefix("mainstay-demo-").tempdir().doing(|| "a temporary folder")?;
    let began = Instant::now();
    let board = BOARD.create(&parts, &agent, &folder.path().join("machine"))?;
    let bench = QemuBench::new(board, folder.path(), None)?;
    let watcher = Rc::new(RefCell::new(Watcher::new(screen)));
    let mut bench = Watched::new(bench, watcher.clone());
    let name = bench.name().to_owned();
    let stop = interrupt::flag()?;
    let nobody = Box::new(|_: &Wait<'_>| {}); // what is waited for is seen on the screen
    let mut world =
        World::around(&mut bench, words.broker, &programs.ctl, folder.path(), stop.clone(), nobody)?;
    let mut proof = Proof::default();
    let say = |line: &str| watcher.borrow_mut().screen.say(line);
    for scene in scenes::ALL.iter().filter(|scene| words.plays(scene.number)) {
        let scene_began = Instant::now();
        say(&format!("\n── {} of {}: {}", scene.number, scenes::ALL.len(), scene.title));
        proof.scene(scene.number, scene.title);
        let ready = world.open_the_door().and_then(|()| world.ready(false));
        let played = ready.and_then(|()| (scene.play)(&mut world, &mut proof));
        if let Err(trouble) = &played {
            proof.broken(trouble);
            world.give_up(); // what comes next is not to suffer for it
        }
        watcher.borrow_mut().screen.leave();
        let short = if proof.stands() { "" } else { "  FELL SHORT" };
        say(&format!("   {:.0} s{short}", scene_began.elapsed().as_secs_f64()));
        if stop.load(Ordering::Relaxed) {
            break;
        }
    }
    say(&format!("\n── what was proven, with {name}: GRUB, Linux and a watchdog, emulated by QEMU\n"));
    say(&proof.table());
    let holds = proof.holds();
    let verdict = if holds { "all of it held" } else { "NOT ALL OF IT HELD" };
    say(&format!("\n{verdict}, {:.0} s", began.elapsed().as_secs_f64()));
    if words.keep || (!holds && !stop.load(Ordering::Relaxed)) {
        let kept = folder.path().join("console.txt");
        let console = world.bench.evidence()?.console;
        std::fs::write(&kept, console).doing(|| kept.display().to_string())?;
        say(&format!("the console of the last gateway: {}", kept.display()));
        drop(world);
        let _ = folder.keep();
    }
    Ok(holds)
}

/// What the machine runs.
const TRIPLE: &str = "x86_64-unknown-linux-musl";
