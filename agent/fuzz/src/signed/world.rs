//! All that outlives a boot, and the driver's seams on it: slots, environment, state and source in memory, which check each write.

use super::plan::Objects;
use mainstay_bootloader_glue::EnvBootControl;
use mainstay_bootloader_glue::store::Memory;
use mainstay_core::boot::{BootState, Group};
use mainstay_core::bundle::*;
use mainstay_core::digest::{Digest, Hasher};
use mainstay_core::fault;
use mainstay_core::limits::*;
use mainstay_core::seam::*;
use mainstay_core::update::*;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// The first is as large as the largest plan, the second is not.
pub const SLOTS: [(&str, usize); 2] = [("rootfs", SEGMENT_BYTES + 8192), ("config", 2048)];
pub const RUNNING_AT_FIRST: Group = Group::A;
pub const FLOOR: u32 = 3;

/// All that outlives a boot.
pub struct World {
    pub slots: BTreeMap<(usize, &'static str), Vec<u8>>,
    pub running: Group,
    /// What the verified manifest says of each class.
    pub promised: Vec<(String, u64, Digest)>,
    pub state: BTreeMap<u8, Vec<u8>>,
    pub fetches: usize,
    pub asked_for: BTreeSet<Digest>,
    pub reboots: usize,
}

impl World {
    /// Is all that the manifest promises in `group`, byte for byte?
    pub fn proven(&self, group: Group) -> bool {
        self.promised.iter().all(|(class, size, digest)| {
            let slot = self.slots.iter().find(|((g, c), _)| *g == group as usize && c == class);
            slot.and_then(|(_, bytes)| bytes.get(..*size as usize)).is_some_and(|bytes| {
                let mut hasher = Hasher::new();
                hasher.update(bytes);
                hasher.finish() == *digest
            })
        })
    }
}

#[derive(Clone)]
pub struct Shared(pub Rc<RefCell<World>>);

pub struct Boot {
    pub control: EnvBootControl<Memory>,
    pub world: Shared,
}

impl Boot {
    fn after(&mut self, done: Result<()>) -> Result<()> {
        let state = self.control.state()?;
        let world = self.world.0.borrow();
        for group in Group::BOTH {
            let bootable = state.group(group).bootable();
            assert!(
                !bootable || group == RUNNING_AT_FIRST || world.proven(group),
                "{group} is made bootable unproven"
            );
        }
        assert!(state.leaves_a_way_up(Group::A) || state.leaves_a_way_up(Group::B), "a way up is left");
        done
    }
}

impl BootControl for Boot {
    fn state(&mut self) -> Result<BootState> {
        self.control.state()
    }
    fn withdraw(&mut self, group: Group) -> Result<()> {
        let done = self.control.withdraw(group);
        self.after(done)
    }
    fn arm_trial(&mut self, group: Group, tries: u8) -> Result<()> {
        let done = self.control.arm_trial(group, tries);
        self.after(done)
    }
    fn mark_good(&mut self, group: Group) -> Result<()> {
        let done = self.control.mark_good(group);
        self.after(done)
    }
    fn mark_bad(&mut self, group: Group) -> Result<()> {
        let done = self.control.mark_bad(group);
        self.after(done)
    }
}

pub struct Slots(pub Shared);

impl SlotWriter for Slots {
    fn open(&mut self, _: Group, class: &str) -> Result<u64> {
        let size = SLOTS.iter().find(|(c, _)| *c == class).map(|(_, bytes)| *bytes as u64);
        size.ok_or_else(|| fault!(NotFound, "no slot of class {class}"))
    }
    fn write(&mut self, group: Group, class: &str, segment: &VerifiedSegment<'_>) -> Result<()> {
        let mut world = self.0.0.borrow_mut();
        assert_ne!(group, world.running, "the running group is never written");
        let slot = world.slots.iter_mut().find(|((g, c), _)| *g == group as usize && *c == class);
        let (_, slot) = slot.expect("only a slot that there is is written");
        let (at, bytes) = (segment.at() as usize, segment.bytes());
        assert!(at.is_multiple_of(SEGMENT_BYTES) && !bytes.is_empty() && bytes.len() <= SEGMENT_BYTES);
        slot.get_mut(at..at + bytes.len()).expect("no write outside of the slot").copy_from_slice(bytes);
        Ok(())
    }
    fn sync(&mut self, _: Group, _: &str) -> Result<()> {
        Ok(())
    }
    fn read_back(&mut self, group: Group, class: &str, at: u64, out: &mut [u8]) -> Result<()> {
        let world = self.0.0.borrow();
        let slot = world.slots.iter().find(|((g, c), _)| *g == group as usize && *c == class);
        let found = slot.and_then(|(_, slot)| slot.get(at as usize..at as usize + out.len()));
        out.copy_from_slice(found.ok_or_else(|| fault!(Io, "beyond the end"))?);
        Ok(())
    }
}

pub struct State(pub Shared);

impl StateStore for State {
    fn load(&mut self, file: StateFile, out: &mut [u8]) -> Result<Option<usize>> {
        let world = self.0.0.borrow();
        let Some(bytes) = world.state.get(&(file as u8)) else { return Ok(None) };
        out[..bytes.len()].copy_from_slice(bytes);
        Ok(Some(bytes.len()))
    }
    fn persist(&mut self, file: StateFile, bytes: &[u8]) -> Result<()> {
        self.0.0.borrow_mut().state.insert(file as u8, bytes.to_vec());
        Ok(())
    }
}

pub struct Open;

impl Gate for Open {
    fn may_download(&mut self, _: &Deployment) -> Permission {
        Permission::Go
    }
    fn may_reboot(&mut self, _: &Deployment) -> Permission {
        Permission::Go
    }
}

pub struct Checks(pub bool);

impl TrialRunner for Checks {
    fn run(&mut self, _: &Deployment) -> Result<Verdict> {
        Ok(if self.0 { Verdict::Healthy } else { Verdict::Unhealthy(fault::clip("fuzzed")) })
    }
}

pub struct Reset(pub Shared);

impl Power for Reset {
    fn reboot(&mut self, _: &str) -> Result<()> {
        self.0.0.borrow_mut().reboots += 1;
        Ok(())
    }
}

pub struct Nothing;

impl Erase for Nothing {
    fn erase(&mut self) -> Result<()> {
        panic!("nobody asked for it")
    }
    fn destroy_key(&mut self) -> Result<()> {
        panic!("nobody asked for it")
    }
}

pub struct Nobody;

impl Observer for Nobody {
    fn note(&mut self, note: Note<'_>) {
        if let Note::Progress { done, total, .. } = note {
            assert!(done <= total, "no more is done than there is");
        }
    }
}

/// Gives what there is, and at some answers something else.
pub struct Source<'a> {
    pub objects: &'a Objects,
    pub lies: &'a [Option<(u8, u8)>; 2],
    pub world: Shared,
    pub lied: Vec<u8>,
}

impl PieceSource for Source<'_> {
    fn prefetch(&mut self, _: &Digest, bytes: u32) -> bool {
        assert!(bytes as usize <= OBJECT_BYTES_MAX);
        !bytes.is_multiple_of(3)
    }
    fn fetch(&mut self, name: &Digest, bytes: u32) -> Result<&[u8]> {
        let mut world = self.world.0.borrow_mut();
        (world.fetches, _) = (world.fetches + 1, world.asked_for.insert(*name));
        // Two tables, two pages and as many pieces as a page can list, for two artifacts, each asked for eight times.
        assert!(world.fetches <= 2 * 8 * (4 + RUN_PIECES_MAX), "fetches are bounded");
        assert!(bytes as usize <= OBJECT_BYTES_MAX);
        let answer = world.fetches as u8;
        match self.lies.iter().flatten().find(|(at, _)| *at == answer) {
            Some((_, kind)) if kind % 4 == 0 => Err(fault!(Disconnected, "the link is down")),
            Some((_, kind)) if kind % 4 == 1 => Err(fault!(NotFound, "it is not there")),
            Some((_, kind)) => {
                self.lied = vec![*kind; OBJECT_BYTES_MAX + 1];
                Ok(&self.lied)
            }
            None => self
                .objects
                .get(name)
                .map(Vec::as_slice)
                .ok_or_else(|| fault!(NotFound, "no object {name:?}")),
        }
    }
    fn release(&mut self, _: &Digest) {}
    fn refute(&mut self, _: &Digest) -> Result<()> {
        Ok(())
    }
}
