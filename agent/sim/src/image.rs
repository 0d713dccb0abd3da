//! Images, and what becomes of a machine that boots them.
//!
//! An image says of itself what it is, in the first bytes of its kernel: so a gateway behaves by what stands in its
//! slots, and not by what somebody believes to have written there.

use crate::disk::SLOTS;
use crate::power::Draw;
use std::rc::Rc;

/// What becomes of a machine that boots an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// All its checks pass.
    Healthy,
    /// A required check fails.
    Unhealthy,
    /// A wanted check fails, which decides nothing.
    WantedCheckFails,
    /// The bootloader jumps into it, and nothing is ever heard of it again until the watchdog bites.
    NeverBoots,
    /// The bootloader cannot load it: it goes on to the next group, or resets.
    FailsToLoad,
    /// The agent starts, and hangs in its trial: the watchdog bites.
    HangsInTrial,
    /// The agent crashes whenever its trial begins; the second guard resets the machine.
    CrashesAgent,
}

/// A release.
#[derive(Clone, Debug)]
pub struct Image {
    /// Its version: `1`, `2` …
    pub version: u32,
    /// Its security version.
    pub security_version: u32,
    /// What it does.
    pub behaviour: Behaviour,
    /// The generation of the agent in it: a later one writes records of a later format, and reads both.
    pub agent: u8,
    content: Rc<[Vec<u8>; SLOTS.len()]>,
}

impl Image {
    /// Makes one: a kernel of text, a root file system that does not compress, and an appfs that all versions have in
    /// common.
    pub fn new(version: u32, security_version: u32, behaviour: Behaviour) -> Self {
        let mut kernel = format!("{HEAD}{version} {behaviour:?}\n").into_bytes();
        while kernel.len() < 5000 {
            kernel.extend_from_slice(b"a kernel is mostly text to the one who has to compress it\n");
        }
        let noise = |seed: u32, bytes: usize| {
            let mut draw = Draw::new(seed.into());
            (0..bytes / 8).flat_map(|_| draw.number().to_le_bytes()).collect()
        };
        let (rootfs, appfs) = (noise(version, 24 * 1024), noise(u32::MAX, 2 * 1024));
        Image { version, security_version, behaviour, agent: 1, content: Rc::new([kernel, rootfs, appfs]) }
    }

    /// The same with an agent of another generation.
    pub fn with_agent(self, agent: u8) -> Self {
        Image { agent, ..self }
    }

    /// What goes into the slot of this class.
    pub fn content(&self, class: &str) -> &[u8] {
        let index = SLOTS.iter().position(|(name, _)| *name == class);
        index.and_then(|i| self.content.get(i)).map(Vec::as_slice).unwrap_or_default()
    }
}

/// How the kernel begins.
const HEAD: &str = "mainstay-sim image, version ";
