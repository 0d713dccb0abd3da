//! `cargo demo`: seven scenes from the life of a gateway, with the real `mainstay` and `mainstayctl`, a real broker and a
//! board around them whose power, bootloader and watchdog are the bench's.
//!
//! * [`words`] the command line
//! * [`stage`] what a scene plays on: broker, operator, gateway, images
//! * [`follow`] watching the gateway until something has come about, and drawing it
//! * [`scenes`] the seven
//! * [`qemu`] the story on an emulated machine with GRUB, Linux and a watchdog: `--qemu`
//!
//! Every scene can be played alone: it begins with whatever the gateway runs, and leaves it running something good. A scene
//! waits for what it wants to see, never for a time; the times that are there say when to give up.

pub mod follow;
pub mod qemu;
pub mod scenes;
pub mod stage;
pub mod words;

use crate::Result;
use crate::programs::Programs;
use crate::proof::Proof;
use crate::screen::Screen;
use stage::Stage;
use std::time::Instant;
use words::Words;

/// Plays what was asked for. `true`: all that was claimed has been proven.
pub fn play(words: &Words) -> Result<bool> {
    if words.qemu {
        return qemu::play(words);
    }
    words.broker.available()?;
    let mut screen = Screen::new();
    screen.say("building mainstay and mainstayctl");
    let programs = Programs::build()?;
    let began = Instant::now();
    let mut stage = Stage::set(words, programs, screen)?;
    let mut proof = Proof::default();
    for scene in scenes::ALL.iter().filter(|scene| words.plays(scene.number)) {
        let scene_began = Instant::now();
        stage.screen.say(&format!("\n── {} of {}: {}", scene.number, scenes::ALL.len(), scene.title));
        proof.scene(scene.number, scene.title);
        let played = stage.rest().and_then(|()| (scene.play)(&mut stage, &mut proof));
        if let Err(trouble) = &played {
            proof.broken(trouble);
        }
        stage.screen.leave();
        let stands = proof.stands();
        stage.screen.say(&format!(
            "   {:.1} s{}",
            scene_began.elapsed().as_secs_f64(),
            if stands { "" } else { "  FELL SHORT" }
        ));
        if stage.interrupted() {
            break;
        }
        if played.is_err() {
            stage.new_gateway()?; // what comes next is not to suffer for it
        }
    }
    stage.screen.say(&format!("\n── what was proven, with {}\n", stage.setting()));
    stage.screen.say(&proof.table());
    let holds = proof.holds();
    let verdict = if holds { "all of it held" } else { "NOT ALL OF IT HELD" };
    stage.screen.say(&format!("\n{verdict}, {:.0} s", began.elapsed().as_secs_f64()));
    let explains = !holds && !stage.interrupted();
    stage.strike(explains);
    Ok(holds)
}
