//! All media of the gateway behind one write cache: the slots of both groups, the copies of the agent's state, and the
//! copies of the bootloader's environment.
//!
//! ```text
//! durable    what a power cut leaves for certain
//! pending    writes since the last sync of their place, in order, of all places: when the power goes, each is kept,
//!            lost or torn, and as no sync stands between two of them, a later one may be kept and an earlier one lost
//! ghosts     pages of a sync that failed: reads through the page cache still see them, the medium never will
//! ```
//! Content is shared between clones until it is written: a sweep clones the whole gateway at every effect.

use crate::image::Image;
use crate::power::{Draw, Keeps, SECTOR_BYTES, sectors};
use mainstay_core::boot::Group;
use mainstay_core::copies;
use mainstay_core::digest::{Digest, Hasher};
use mainstay_core::seam::StateFile;
use std::cell::Cell;
use std::rc::Rc;

/// The slots of a group: class, and size in bytes. Small, so that a sweep of thousands of lives takes seconds; what
/// happens between the segments of one slot is tested with the installer, in core.
pub const SLOTS: [(&str, usize); 3] = [("kernel", 8 * 1024), ("rootfs", 32 * 1024), ("appfs", 4 * 1024)];

/// A stretch of a medium that is written and synced by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A slot of a group, by its number in [`SLOTS`].
    Slot(Group, usize),
    /// A copy of one of the agent's state files.
    State(StateFile, usize),
    /// A copy of the bootloader's environment.
    Env(usize),
    /// The directory entry of a file that holds a copy of the environment: its size, and a time.
    Entry(usize),
    /// What the gateway can give up: one of [`DATA`], one of [`KEYS`].
    Own(usize),
}

/// What the integrator named, to be erased.
pub const DATA: std::ops::Range<usize> = 0..2;
/// Client key and certificate.
pub const KEYS: std::ops::Range<usize> = 2..4;
/// Two sectors each, so that a cut can leave half of it.
pub const OWN_BYTES: usize = 2 * SECTOR_BYTES;

/// How much of what the gateway owns stands on the medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Own {
    /// All of it.
    Whole,
    /// Some of it.
    Part,
    /// Nothing, whatever the power does.
    Gone,
}

/// Which bytes a read sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// What the page cache holds.
    Cached,
    /// What the medium gives (O_DIRECT, or after the pages were dropped).
    Direct,
}

/// A write that is not durable yet.
#[derive(Clone, Debug)]
pub struct Pending {
    /// Where.
    pub place: Place,
    /// From which byte on.
    pub at: usize,
    /// What.
    pub bytes: Vec<u8>,
}

/// The media of one gateway.
#[derive(Clone, Debug)]
pub struct Disk {
    places: Vec<Content>,
    pending: Vec<Pending>,
    ghosts: Vec<Pending>,
}

#[derive(Clone, Debug)]
struct Content {
    durable: Rc<Vec<u8>>,
    /// Changes whenever the place is written, synced, or may have changed.
    version: u32,
    digest: Cell<Option<Digest>>,
}

impl Disk {
    /// Zeros, and these copies of the environment.
    pub fn new(env: Vec<Vec<u8>>) -> Self {
        let slots = Group::BOTH.iter().flat_map(|_| SLOTS.map(|(_, bytes)| vec![0; bytes]));
        let state = FILES
            .iter()
            .flat_map(|file| [vec![0; copies::copy_bytes(*file)], vec![0; copies::copy_bytes(*file)]]);
        let entries = [ENTRY_BYTES; 2].map(|bytes| vec![0; bytes]);
        let padded = env
            .iter()
            .cloned()
            .chain(std::iter::repeat_n(Vec::new(), ENV_COPIES_MAX.saturating_sub(env.len())));
        let own = (DATA.start..KEYS.end).map(|_| vec![OWN_BYTE; OWN_BYTES]);
        let places = slots.chain(state).chain(padded).chain(entries).chain(own).map(Content::new).collect();
        let mut disk = Disk { places, pending: Vec::new(), ghosts: Vec::new() };
        for (copy, bytes) in env.iter().enumerate() {
            disk.put(Place::Entry(copy), 0, &(bytes.len() as u32).to_le_bytes());
        }
        disk
    }

    /// Puts an image into its place, as a factory does.
    pub fn flash(&mut self, group: Group, image: &Image) {
        for (class, (name, _)) in SLOTS.iter().enumerate() {
            self.put(Place::Slot(group, class), 0, image.content(name));
        }
    }

    /// The number of the slot of this class.
    pub fn class(class: &str) -> Option<usize> {
        SLOTS.iter().position(|(name, _)| *name == class)
    }

    /// Writes, and does not sync.
    pub fn write(&mut self, place: Place, at: usize, bytes: &[u8]) {
        self.content(place).version += 1;
        self.pending.push(Pending { place, at, bytes: bytes.to_vec() });
    }

    /// Makes every write of a place durable.
    pub fn sync(&mut self, place: Place) {
        let (ours, others) = std::mem::take(&mut self.pending).into_iter().partition(|p| p.place == place);
        self.pending = others;
        let ours: Vec<Pending> = ours;
        for Pending { at, bytes, .. } in ours {
            self.put(place, at, &bytes);
        }
        self.content(place).version += 1;
    }

    /// A sync that fails: the kernel takes the pages for clean and keeps them, the medium never gets them.
    pub fn fail_sync(&mut self, place: Place) {
        let (ours, others): (Vec<_>, _) =
            std::mem::take(&mut self.pending).into_iter().partition(|p| p.place == place);
        self.pending = others;
        self.ghosts.extend(ours);
        self.content(place).version += 1;
    }

    /// Overwrites, durably, at once: as a bootloader and a factory do.
    pub fn put(&mut self, place: Place, at: usize, bytes: &[u8]) {
        let content = self.content(place);
        content.version += 1;
        content.digest.set(None);
        if let Some(room) = Rc::make_mut(&mut content.durable).get_mut(at..at + bytes.len()) {
            room.copy_from_slice(bytes);
        }
    }

    /// Reads.
    pub fn read(&self, place: Place, at: usize, out: &mut [u8], view: View) {
        if let Some(durable) = self.durable(place).get(at..at + out.len()) {
            out.copy_from_slice(durable);
        }
        let ghosts = self.ghosts.iter().filter(|_| view == View::Cached);
        for seen in ghosts.chain(&self.pending).filter(|p| p.place == place) {
            let from = seen.at.max(at);
            let to = (seen.at + seen.bytes.len()).min(at + out.len());
            if from < to {
                out[from - at..to - at].copy_from_slice(&seen.bytes[from - seen.at..to - seen.at]);
            }
        }
    }

    /// All of a place.
    pub fn read_all(&self, place: Place, view: View) -> Vec<u8> {
        let mut out = vec![0; self.durable(place).len()];
        self.read(place, 0, &mut out, view);
        out
    }

    /// What stands there whatever the power does.
    pub fn durable(&self, place: Place) -> &[u8] {
        &self.places[index(place)].durable
    }

    /// The power goes: what was not synced is decided, and the write that it goes in, if it goes in one.
    pub fn lose_power(&mut self, keeps: Keeps, own: Option<Pending>) {
        self.ghosts.clear();
        let earlier = std::mem::take(&mut self.pending);
        earlier.iter().chain(&own).for_each(|write| self.content(write.place).version += 1);
        let mut draw = Draw::new(keeps.seed());
        for write in earlier {
            match keeps {
                Keeps::Nothing => {}
                Keeps::Everything | Keeps::Prefix(_) => self.put(write.place, write.at, &write.bytes),
                Keeps::Torn(_) => self.tear(&write, Draw::new(draw.number())),
                Keeps::Reordered(_) if draw.below(2) == 1 => self.put(write.place, write.at, &write.bytes),
                Keeps::Reordered(_) => {}
            }
        }
        let Some(own) = own else { return };
        match keeps {
            Keeps::Nothing | Keeps::Everything => {}
            Keeps::Prefix(through) => self.put_sectors(&own, |n, _| n < usize::from(through)),
            Keeps::Torn(_) => self.tear(&own, Draw::new(draw.number())),
            Keeps::Reordered(_) if draw.below(2) == 1 => self.put(own.place, own.at, &own.bytes),
            Keeps::Reordered(_) => {}
        }
    }

    /// Writes what gets through of a write, sector by sector.
    pub fn put_sectors(&mut self, write: &Pending, mut through: impl FnMut(usize, usize) -> bool) {
        for (n, (from, to)) in sectors(write.at, write.bytes.len()).enumerate() {
            if through(n, from) {
                self.put(write.place, write.at + from, &write.bytes[from..to]);
            }
        }
    }

    /// A third of the time none or all, else each sector by itself: real media do all three.
    fn tear(&mut self, write: &Pending, mut draw: Draw) {
        let pattern = draw.below(6);
        self.put_sectors(write, |_, _| match pattern {
            0 => false,
            1 => true,
            _ => draw.below(2) == 1,
        });
    }

    /// Does a group hold exactly this image, whatever the power does now?
    pub fn holds(&self, group: Group, image: &Image) -> bool {
        SLOTS.iter().enumerate().all(|(class, (name, _))| {
            let (place, content) = (Place::Slot(group, class), image.content(name));
            self.is_clean(place) && self.durable(place).starts_with(content)
        })
    }

    /// How much of these stands on the medium for certain.
    pub fn owns(&self, mut these: std::ops::Range<usize>) -> Own {
        let all = |byte: u8| move |n| self.durable(Place::Own(n)).iter().all(|found| *found == byte);
        match (these.clone().all(all(OWN_BYTE)), these.all(all(0))) {
            (true, _) => Own::Whole,
            (_, true) => Own::Gone,
            _ => Own::Part,
        }
    }

    /// Changes whenever what the group holds may have changed.
    pub fn group_version(&self, group: Group) -> u32 {
        (0..SLOTS.len()).map(|class| self.version(Place::Slot(group, class))).sum()
    }

    /// Changes whenever a state file may have changed.
    pub fn state_version(&self, file: StateFile) -> u32 {
        self.version(Place::State(file, 0)) + self.version(Place::State(file, 1))
    }

    /// Changes whenever the environment may have changed.
    pub fn env_version(&self) -> u32 {
        (0..ENV_COPIES_MAX)
            .map(|copy| self.version(Place::Env(copy)) + self.version(Place::Entry(copy)))
            .sum()
    }

    /// What stands on all media for certain. Only for a gateway without power: what is pending is not in it.
    pub fn fingerprint(&self, into: &mut Hasher) {
        for content in &self.places {
            let digest = content.digest.get().unwrap_or_else(|| Digest::of(&content.durable));
            content.digest.set(Some(digest));
            into.update(&digest.0);
        }
    }

    /// Is nothing of it waiting in the cache?
    pub fn is_clean(&self, place: Place) -> bool {
        !self.pending.iter().any(|p| p.place == place)
    }

    fn version(&self, place: Place) -> u32 {
        self.places[index(place)].version
    }

    fn content(&mut self, place: Place) -> &mut Content {
        &mut self.places[index(place)]
    }
}

impl Content {
    fn new(bytes: Vec<u8>) -> Self {
        Content { durable: Rc::new(bytes), version: 0, digest: Cell::new(None) }
    }
}

const fn index(place: Place) -> usize {
    const STATE: usize = 2 * SLOTS.len();
    const ENV: usize = STATE + 2 * FILES.len();
    match place {
        Place::Slot(group, class) => group as usize * SLOTS.len() + class,
        Place::State(file, copy) => STATE + file as usize * 2 + copy,
        Place::Env(copy) => ENV + copy,
        Place::Entry(copy) => ENV + ENV_COPIES_MAX + copy,
        Place::Own(n) => ENV + 2 * ENV_COPIES_MAX + n,
    }
}

/// All state files, in their order.
pub const FILES: [StateFile; 3] = [StateFile::Journal, StateFile::Manifest, StateFile::Trust];
/// A redundant environment.
const ENV_COPIES_MAX: usize = 2;
/// What a thing that is there consists of; erased, it is zeros.
const OWN_BYTE: u8 = 0x77;
/// As on FAT.
const ENTRY_BYTES: usize = 32;
const _: () = assert!(ENTRY_BYTES < SECTOR_BYTES);

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const KERNEL: Place = Place::Slot(Group::B, 0);
    const JOURNAL: Place = Place::State(StateFile::Journal, 0);
    const ENV: Place = Place::Env(1);

    fn disk() -> Disk {
        Disk::new(vec![vec![0; 1024], vec![0; 1024]])
    }

    #[test]
    fn a_torn_write_keeps_or_loses_each_sector_whole_and_the_seeds_show_every_way() {
        let mut seen = BTreeSet::new();
        for seed in 0..400 {
            let mut disk = disk();
            // From the midst of sector 0 to the midst of sector 2.
            disk.write(KERNEL, 100, &[1; 2 * SECTOR_BYTES]);
            disk.lose_power(Keeps::Torn(seed), None);
            let medium = disk.durable(KERNEL);
            let parts =
                [100..SECTOR_BYTES, SECTOR_BYTES..2 * SECTOR_BYTES, 2 * SECTOR_BYTES..2 * SECTOR_BYTES + 100];
            let through = parts.map(|part| {
                let written = medium[part.clone()].iter().filter(|byte| **byte == 1).count();
                assert!(written == 0 || written == part.len(), "seed {seed}: {written} of {}", part.len());
                written > 0
            });
            assert!(medium[..100].iter().chain(&medium[2 * SECTOR_BYTES + 100..]).all(|byte| *byte == 0));
            seen.insert(through);
        }
        assert_eq!(seen.len(), 8, "{seen:?}");
    }

    #[test]
    fn what_no_sync_stands_between_is_kept_in_any_order_across_slots_state_and_environment() {
        let mut seen = BTreeSet::new();
        for seed in 0..200 {
            let mut disk = disk();
            [KERNEL, JOURNAL, ENV].into_iter().for_each(|place| disk.write(place, 0, &[1; 600]));
            disk.lose_power(Keeps::Reordered(seed), None);
            seen.insert([KERNEL, JOURNAL, ENV].map(|place| disk.durable(place)[599]));
        }
        assert_eq!(seen.len(), 8, "{seen:?}");
    }

    #[test]
    fn a_sync_holds_for_its_place_alone() {
        let mut disk = disk();
        [KERNEL, JOURNAL].into_iter().for_each(|place| disk.write(place, 0, &[1; 4]));
        disk.sync(KERNEL);
        disk.lose_power(Keeps::Nothing, None);
        assert_eq!((disk.durable(KERNEL)[0], disk.durable(JOURNAL)[0]), (1, 0));
    }

    #[test]
    fn a_sync_that_fails_leaves_pages_that_only_the_cache_believes_in() {
        let mut disk = disk();
        disk.write(ENV, 0, &[1; 4]);
        disk.fail_sync(ENV);
        disk.sync(ENV);
        assert_eq!((disk.read_all(ENV, View::Cached)[0], disk.read_all(ENV, View::Direct)[0]), (1, 0));
        disk.lose_power(Keeps::Everything, None);
        assert_eq!(disk.read_all(ENV, View::Cached)[0], 0);
    }

    #[test]
    fn a_prefix_keeps_what_came_before_and_the_first_sectors_of_its_own() {
        let mut disk = disk();
        disk.write(KERNEL, 0, &[1; 600]);
        let own = Pending { place: JOURNAL, at: 0, bytes: vec![1; 1600] };
        disk.lose_power(Keeps::Prefix(2), Some(own));
        let journal = disk.durable(JOURNAL);
        assert_eq!((disk.durable(KERNEL)[599], journal[1023], journal[1024]), (1, 1, 0));
    }
}
