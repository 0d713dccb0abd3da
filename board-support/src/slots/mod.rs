//! The slots of a board, as the seam [`SlotWriter`] wants them: block devices, image files, or GPT partitions and
//! ranges of either.
//!
//! It refuses what must never happen, whoever asks: to write the running group, a mounted or held device, a place
//! where another slot or the bootloader's environment lies, beyond the slot's end, or off a segment's boundary.
//! It keeps one segment's worth of memory, whatever the size of the image. What has reached the medium when, and
//! where `read_back` reads from, is said at [`Access`].

mod ahead;
mod gpt;
mod in_use;
#[expect(clippy::indexing_slicing, reason = "lengths of its own buffers, and none from outside")]
mod medium;
mod place;

use std::fs::File;
use std::ops::Range;
use std::path::PathBuf;

use heapless::String as Text;
use mainstay_core::boot::Group;
use mainstay_core::bundle::VerifiedSegment;
use mainstay_core::fault;
use mainstay_core::fault::Fault;
use mainstay_core::limits::{CLASS_BYTES_MAX, SEGMENT_BYTES};
use mainstay_core::seam::{Result, SlotWriter};

use crate::board::{Board, EnvironmentSpec, SlotSpec};
pub use gpt::{Gpt, Partition};
pub use medium::Access;
use medium::{Bounce, Medium};
use place::Extent;

/// The slots of a board.
pub struct BoardSlots {
    specs: Vec<SlotSpec>,
    environment: Vec<EnvironmentSpec>,
    running: Option<Group>,
    open: Vec<Open>,
    media: Vec<Medium>,
    bounce: Bounce,
    notes: Vec<String>,
}

/// A slot that has been opened: a range of one of the media.
struct Open {
    group: Group,
    class: Text<CLASS_BYTES_MAX>,
    medium: usize,
    offset: u64,
    size: u64,
}

/// What is opened to write the slots of `group`: its devices as the board file names them, and as the kernel does.
pub fn devices(board: &Board, group: Group) -> Vec<PathBuf> {
    let slots = board.slots.iter().filter(|slot| slot.group == group);
    slots
        .flat_map(|slot| {
            // A partition that has a device of its own is opened by that; the disk it lies on need not be writable.
            let found = place::find(slot).map(|place| place.path);
            [found.unwrap_or_else(|_| slot.device.clone())]
        })
        .collect()
}

#[expect(clippy::indexing_slicing, reason = "places in its own lists, from the line before")]
impl BoardSlots {
    /// The slots of `board`, of which `running` is never written. Opens nothing yet.
    pub fn new(board: &Board, running: Group) -> BoardSlots {
        BoardSlots { running: Some(running), ..BoardSlots::for_idle_disk(board) }
    }

    /// The same for a disk that nothing runs from: the factory's, or a recovery system in memory. Both groups are
    /// written; what is mounted is refused all the same.
    pub fn for_idle_disk(board: &Board) -> BoardSlots {
        BoardSlots {
            specs: board.slots.clone(),
            environment: board.boot.bootloader.environment().to_vec(),
            running: None,
            open: Vec::new(),
            media: Vec::new(),
            bounce: Bounce::default(),
            notes: Vec::new(),
        }
    }

    /// What was odd so far and did not stop the work: a damaged copy of the partition table.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// How a slot is reached. Opens it if it is not open.
    pub fn access(&mut self, group: Group, class: &str) -> Result<Access> {
        let slot = self.opened(group, class)?;
        Ok(self.media[self.open[slot].medium].access(self.open[slot].offset))
    }

    /// The size of a slot in bytes. Opens nothing for writing: for `doctor` and `status`.
    pub fn size(&self, group: Group, class: &str) -> Result<u64> {
        let spec = self.spec(group, class)?;
        self.within(spec, place::find(spec)).map(|place| place.size)
    }

    /// Closes every slot and lets go of the locks.
    pub fn close(&mut self) {
        self.open.clear();
        self.media.clear();
        self.bounce = Bounce::default();
    }

    /// Gives the memory back that writing took, and keeps what is open, and its locks.
    pub fn rest(&mut self) {
        self.bounce = Bounce::default();
    }

    fn spec(&self, group: Group, class: &str) -> Result<&SlotSpec> {
        self.specs.iter().find(|s| s.group == group && s.class == class).ok_or_else(|| {
            let known: Vec<_> = self.specs.iter().map(|s| format!("{} {}", s.group, s.class)).collect();
            fault!(NotFound, "expected a slot {group} {class} on this board, found {}", known.join(", "))
        })
    }

    /// The place in `open` of a slot, opened if need be: for writing if it is not of the running group.
    fn opened(&mut self, group: Group, class: &str) -> Result<usize> {
        if let Some(known) = self.open.iter().position(|o| o.group == group && o.class == class) {
            return Ok(known);
        }
        let spec = self.spec(group, class)?;
        let writable = self.running != Some(group);
        let place = self.within(spec, place::find(spec))?;
        if writable {
            self.within(spec, self.refuse_overlap(spec, &place.extent))?;
            self.within(spec, in_use::refuse_in_use(&place))?;
        }
        let known = self.media.iter().position(|m| m.identity == place.identity && m.writable == writable);
        let (new, medium) = match known {
            Some(known) => (None, known),
            None => {
                let medium = Medium::open(&place.path, writable, place.whole_device);
                let medium = self.within(spec, medium)?;
                if medium.identity != place.identity {
                    let path = place.path.display();
                    return Err(fault!(
                        Busy,
                        "{path}: expected the device that was looked at, found another"
                    ));
                }
                (Some(medium), self.media.len())
            }
        };
        let class = spec.class.clone();
        self.media.extend(new);
        if let Some(note) = place.note.filter(|note| !self.notes.contains(note)) {
            log::warn!("{note}");
            self.notes.push(note);
        }
        self.open.push(Open { group, class, medium, offset: place.offset, size: place.size });
        Ok(self.open.len() - 1)
    }

    /// No other slot and no copy of the environment may lie where `extent` lies. What cannot be found now (a slot
    /// on a medium that is not there) is passed over: it is looked at when it is opened itself.
    fn refuse_overlap(&self, spec: &SlotSpec, extent: &Extent) -> Result<()> {
        for other in self.specs.iter().filter(|s| *s != spec) {
            if let Ok(found) = place::find(other)
                && found.extent.overlaps(extent)
            {
                return Err(fault!(
                    Refused,
                    "expected a place of its own, found that it overlaps {} of group {}",
                    other.class,
                    other.group
                ));
            }
        }
        for copy in &self.environment {
            let Ok(file) = File::open(&copy.path) else { continue };
            let Ok(identity) = medium::identity(&file, &copy.path) else { continue }; // MTD: no place for slots
            let Some(begin) = medium::length(&file, &copy.path).ok().and_then(|bytes| copy.begin(bytes))
            else {
                continue; // it does not lie there at all: boot control says so
            };
            if Extent::of(identity, begin, copy.size).overlaps(extent) {
                return Err(fault!(
                    Refused,
                    "expected a place of its own, found the bootloader's environment in it ({})",
                    copy.path.display()
                ));
            }
        }
        Ok(())
    }

    fn within<T>(&self, spec: &SlotSpec, result: Result<T>) -> Result<T> {
        result.map_err(|fault| fault.within(format_args!("slot {} {}", spec.group, spec.class)))
    }

    /// The slot, after the checks that every write and sync has to pass.
    fn writable(&mut self, group: Group, class: &str) -> Result<usize> {
        if self.running == Some(group) {
            return Err(fault!(
                Refused,
                "expected a slot of the other group, found {class} of running group {group}"
            ));
        }
        self.opened(group, class)
    }
}

#[expect(clippy::indexing_slicing, reason = "places in its own lists, from the line before")]
impl SlotWriter for BoardSlots {
    fn open(&mut self, group: Group, class: &str) -> Result<u64> {
        let slot = self.opened(group, class)?;
        Ok(self.open[slot].size)
    }

    fn write(&mut self, group: Group, class: &str, segment: &VerifiedSegment<'_>) -> Result<()> {
        let slot = self.writable(group, class)?;
        let (at, bytes) = (segment.at(), segment.bytes());
        if !at.is_multiple_of(SEGMENT_BYTES as u64) {
            return Err(fault!(
                Refused,
                "slot {group} {class}: expected a multiple of {SEGMENT_BYTES}, found offset {at}"
            ));
        }
        let at = self.open[slot].range(at, bytes.len())?;
        let medium = &mut self.media[self.open[slot].medium];
        medium.write(&mut self.bounce, at, bytes).map_err(|f| in_slot(f, group, class))
    }

    fn sync(&mut self, group: Group, class: &str) -> Result<()> {
        let slot = self.writable(group, class)?;
        self.media[self.open[slot].medium].sync().map_err(|f| in_slot(f, group, class))
    }

    fn read_back(&mut self, group: Group, class: &str, at: u64, out: &mut [u8]) -> Result<()> {
        let slot = self.opened(group, class)?;
        let at = self.open[slot].range(at, out.len())?;
        let medium = &mut self.media[self.open[slot].medium];
        medium.read(&mut self.bounce, at, out).map_err(|f| in_slot(f, group, class))
    }

    fn scan(
        &mut self,
        group: Group,
        class: &str,
        range: Range<u64>,
        buffers: [&mut [u8]; 2],
        each: &mut dyn FnMut(&[u8]),
    ) -> Result<()> {
        let slot = self.opened(group, class)?;
        let open = &self.open[slot];
        let read = |at: u64, out: &mut [u8]| {
            let at = open.range(at, out.len())?;
            self.media[open.medium].read(&mut self.bounce, at, out)
        };
        ahead::scan(range, &mut { read }, buffers, each).map_err(|f| in_slot(f, group, class))
    }
}

fn in_slot(fault: Fault, group: Group, class: &str) -> Fault {
    fault.within(format_args!("slot {group} {class}"))
}

impl Open {
    /// Where `length` bytes at `at` of the slot are on its medium; [`Full`](fault::FaultKind::Full) if they are not
    /// all in the slot.
    fn range(&self, at: u64, length: usize) -> Result<u64> {
        match at.checked_add(length as u64) {
            Some(end) if end <= self.size => Ok(self.offset + at),
            _ => Err(fault!(
                Full,
                "slot {} {}: expected at most {} bytes, found {length} bytes at {at}",
                self.group,
                self.class,
                self.size
            )),
        }
    }
}
