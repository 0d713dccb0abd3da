//! A disk that forgets: the slots of both groups, and the writes that are not synced yet.
//!
//! ```text
//! durable    what a power cut leaves for certain
//! pending    writes since the last sync, in order: each is kept, lost or torn when the power goes
//! ```
//! A read sees the pending writes, as it does on a real machine.

use crate::image::Image;
use crate::power::{Draw, Keeps, Tear};
use mainstay_core::boot::Group;

/// The slots of a group: class, and size in bytes. Small, so that a sweep of thousands of lives takes seconds; what
/// happens between the segments of one slot is tested with the installer, in core.
pub const SLOTS: [(&str, usize); 3] = [("kernel", 8 * 1024), ("rootfs", 32 * 1024), ("appfs", 4 * 1024)];

/// All slots of one gateway.
#[derive(Clone, Debug)]
pub struct Disk {
    slots: [[Slot; SLOTS.len()]; 2],
    versions: [u32; 2],
}

#[derive(Clone, Debug)]
struct Slot {
    durable: Vec<u8>,
    pending: Vec<(usize, Vec<u8>)>,
}

impl Disk {
    /// Zeros.
    pub fn blank() -> Self {
        let slots = SLOTS.map(|(_, bytes)| Slot { durable: vec![0; bytes], pending: Vec::new() });
        Disk { slots: [slots.clone(), slots], versions: [0; 2] }
    }

    /// Puts an image into its place, as a factory does.
    pub fn flash(&mut self, group: Group, image: &Image) {
        self.versions[group as usize] += 1;
        for (slot, (class, _)) in self.slots[group as usize].iter_mut().zip(SLOTS) {
            let content = image.content(class);
            slot.durable[..content.len()].copy_from_slice(content);
        }
    }

    /// The size of a slot.
    pub fn size(&self, class: &str) -> Option<usize> {
        SLOTS.iter().find(|(name, _)| *name == class).map(|(_, bytes)| *bytes)
    }

    /// Writes, and does not sync.
    pub fn write(&mut self, group: Group, class: &str, at: usize, bytes: &[u8]) {
        self.slot(group, class).pending.push((at, bytes.to_vec()));
    }

    /// Makes every write of a slot durable.
    pub fn sync(&mut self, group: Group, class: &str) {
        let slot = self.slot(group, class);
        for (at, bytes) in std::mem::take(&mut slot.pending) {
            Tear::Whole.write(&mut slot.durable, at, &bytes);
        }
    }

    /// Reads, through the writes that are not synced.
    pub fn read(&self, group: Group, class: &str, at: usize, out: &mut [u8]) {
        let index = class_index(class);
        let slot = &self.slots[group as usize][index];
        out.copy_from_slice(&slot.durable[at..at + out.len()]);
        for (start, bytes) in &slot.pending {
            for (offset, byte) in bytes.iter().enumerate() {
                if let Some(place) = (start + offset).checked_sub(at).and_then(|i| out.get_mut(i)) {
                    *place = *byte;
                }
            }
        }
    }

    /// The power goes: the writes that were not synced are decided.
    pub fn lose_power(&mut self, keeps: Keeps) {
        self.versions.iter_mut().for_each(|version| *version += 1);
        for (n, slot) in self.slots.iter_mut().flatten().enumerate() {
            let mut draw = match keeps {
                Keeps::Torn(seed) => Draw::new(seed ^ (n as u64 + 1) << 32),
                _ => Draw::new(0),
            };
            for (at, bytes) in std::mem::take(&mut slot.pending) {
                match keeps {
                    Keeps::Nothing => {}
                    Keeps::Everything => Tear::Whole.write(&mut slot.durable, at, &bytes),
                    Keeps::Torn(_) => {
                        Tear::Sectors(Draw::new(draw.number())).write(&mut slot.durable, at, &bytes)
                    }
                }
            }
        }
    }

    /// Does a group hold exactly this image, whatever the power does now?
    pub fn holds(&self, group: Group, image: &Image) -> bool {
        self.slots[group as usize].iter().zip(SLOTS).all(|(slot, (class, _))| {
            let content = image.content(class);
            slot.pending.is_empty() && slot.durable[..content.len()] == content[..]
        })
    }

    /// Changes whenever what the group holds may have changed.
    pub fn version(&self, group: Group) -> u32 {
        self.versions[group as usize]
    }

    fn slot(&mut self, group: Group, class: &str) -> &mut Slot {
        self.versions[group as usize] += 1;
        &mut self.slots[group as usize][class_index(class)]
    }
}

fn class_index(class: &str) -> usize {
    SLOTS.iter().position(|(name, _)| *name == class).expect("a class that the disk has")
}
