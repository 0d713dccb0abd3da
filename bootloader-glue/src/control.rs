//! Store, codec and convention put together: the seam that the driver changes the boot state through.
//!
//! ```text
//! lock → read → decide ─ nothing changes ─────────────────────────────────────────────→ unlock
//!                └─ changes → read again, compare → write → read back, compare → unlock
//!                                                    └─ for each copy, before the other one is touched
//! ```
//! Decide first, touch later: everything that can be refused is refused before the write. The second read finds a
//! writer that does not take the lock. All reads come from the medium: after an fdatasync that failed, the page cache
//! says what was to be written, and the medium never got it. And after a write that failed, "nothing changes" is no
//! reason not to write: what can be read may still be lost with the power. For the same reason what an agent that was
//! killed in a write has left in the cache is settled before the first look.

use crate::convention::{Convention, Op};
use crate::format::Write;
use crate::{Env, EnvStore, Format, Result, Vars};
use mainstay_core::boot::{BootState, Group};
use mainstay_core::fault;
use mainstay_core::fault::FaultKind;
use mainstay_core::seam::BootControl;

/// Boot control by an environment.
pub struct EnvBootControl<S> {
    store: S,
    format: Format,
    convention: Box<dyn Convention + Send>,
    /// A write failed, and none has succeeded since.
    unsure: bool,
    /// What was left in a cache by somebody else is on the medium.
    settled: bool,
}

impl<S: EnvStore> EnvBootControl<S> {
    /// Nothing is read yet.
    pub fn new(store: S, format: Format, convention: Box<dyn Convention + Send>) -> Self {
        EnvBootControl { store, format, convention, unsure: false, settled: false }
    }

    /// How the environment is stored.
    pub fn format(&self) -> &Format {
        &self.format
    }

    /// What its variables mean.
    pub fn convention(&self) -> &dyn Convention {
        &*self.convention
    }

    /// The store, to look at.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// The store, to reach into (the simulator cuts its power there).
    pub fn store_mut(&mut self) -> &mut S {
        &mut self.store
    }

    /// The environment as it is: all variables, which copy says so, which is damaged. For `doctor` and `status`.
    pub fn env(&mut self) -> Result<Env> {
        self.locked(|this| {
            let copies = this.read()?;
            this.format.parse(&copies)
        })
    }

    /// Sets the convention's variables as on a fresh board, A good, if none of them is there; says whether it did.
    /// For the factory and for `doctor`; a boot script of ours does the same at the first boot. It needs an
    /// environment that can be read: one made from nothing would have lost U-Boot's own variables.
    pub fn initialise(&mut self) -> Result<bool> {
        self.locked(|this| {
            let copies = this.read()?;
            let env = this.format.parse(&copies)?;
            if !this.convention.is_fresh(env.vars()) {
                return Ok(false);
            }
            let vars = env.vars().with(&this.convention.fresh());
            this.replace(copies, &env, &vars)
        })
    }

    fn change(&mut self, op: Op) -> Result<()> {
        self.locked(|this| {
            let copies = this.read()?;
            let env = this.format.parse(&copies)?;
            let vars = env.vars().with(&this.convention.change(env.vars(), op)?);
            this.replace(copies, &env, &vars)
        })
        .map(|_| ())
        .map_err(|f| f.within(format_args!("{op:?}")))
    }

    /// Makes the environment say `vars`, if it does not; says whether it wrote.
    fn replace(&mut self, mut copies: Vec<Vec<u8>>, env: &Env, vars: &Vars) -> Result<bool> {
        if vars == env.vars() && !self.unsure {
            return Ok(false);
        }
        let writes =
            env.writes(vars, self.convention.names()).map_err(|fault| match changed(env.vars(), vars) {
                names if fault.kind == FaultKind::Full => {
                    fault.within(format_args!("no room to set {names}"))
                }
                _ => fault,
            })?;
        if self.read()? != copies {
            return Err(fault!(
                Busy,
                "environment: expected it as it was a moment ago, found it changed: somebody writes it without the lock"
            ));
        }
        self.unsure = true;
        for (n, write) in writes.iter().enumerate() {
            if let Err(fault) = self.store.write(write.copy, write.at, &write.bytes) {
                self.undo(write, &copies);
                return Err(fault);
            }
            write.apply(&mut copies);
            // What follows takes the other copy out of force: not before this one is known to stand.
            if n + 1 < writes.len() {
                self.compare(write.copy, &copies)?;
            }
        }
        (0..copies.len()).try_for_each(|copy| self.compare(copy, &copies))?;
        self.unsure = false;
        Ok(true)
    }

    /// Reads a copy back from the medium, and compares it with what it should be.
    fn compare(&mut self, copy: usize, copies: &[Vec<u8>]) -> Result<()> {
        let (expected, found) =
            (copies.get(copy).map_or(&[][..], Vec::as_slice), self.store.read_back(copy)?);
        match expected.iter().zip(&found).enumerate().find(|(_, (expected, found))| expected != found) {
            None => Ok(()),
            Some((at, (e, f))) => Err(fault!(
                Io,
                "environment, copy {copy}: expected to read back {e:#04x} at byte {at}, found {f:#04x}: the medium or \
                 another writer changed it"
            )),
        }
    }

    /// A write that broke off in the middle (a file with holes on a file system without room) has put the beginning of
    /// the new copy in front of the end of the old one: a single copy is lost by that, and of two the one that was said
    /// to have failed may be whole all the same, and in force. So what stood there is put back, as far as that goes: what
    /// could be written a moment ago can be written again.
    fn undo(&mut self, write: &Write, copies: &[Vec<u8>]) {
        let old = copies.get(write.copy).and_then(|copy| copy.get(write.at..write.at + write.bytes.len()));
        if let Some(old) = old {
            let _ = self.store.write(write.copy, write.at, old); // the fault of the write itself is what counts
        }
    }

    fn read(&mut self) -> Result<Vec<Vec<u8>>> {
        if !std::mem::replace(&mut self.settled, true) {
            self.store.settle();
        }
        (0..self.format.copies()).map(|n| self.store.read_back(n)).collect()
    }

    fn locked<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.store.lock()?;
        let done = work(self);
        self.store.unlock();
        done
    }
}

/// The names whose values differ, as people read them.
fn changed(old: &Vars, new: &Vars) -> String {
    let differ = new.entries().iter().filter(|entry| !old.entries().contains(entry));
    let names: Vec<_> = differ.map(|entry| String::from_utf8_lossy(&entry.name)).collect();
    names.join(", ")
}

impl<S: EnvStore> BootControl for EnvBootControl<S> {
    fn state(&mut self) -> Result<BootState> {
        let env = self.env()?;
        self.convention.state(env.vars())
    }

    fn withdraw(&mut self, group: Group) -> Result<()> {
        self.change(Op::Withdraw(group))
    }

    fn arm_trial(&mut self, group: Group, tries: u8) -> Result<()> {
        self.change(Op::ArmTrial(group, tries))
    }

    fn mark_good(&mut self, group: Group) -> Result<()> {
        self.change(Op::MarkGood(group))
    }

    fn mark_bad(&mut self, group: Group) -> Result<()> {
        self.change(Op::MarkBad(group))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convention::Mainstay;
    use crate::store::Memory;
    use crate::uboot::Scheme;

    const PAIR: Format = Format::UbootRedundant { bytes: 1024, scheme: Scheme::Incremental };

    fn control(format: Format) -> EnvBootControl<Memory> {
        let vars = Vars::new().with(&Mainstay.fresh());
        let copies = format.blank(&vars, Mainstay.names()).unwrap();
        EnvBootControl::new(Memory::new(copies), format, Box::new(Mainstay))
    }

    #[test]
    fn a_trial_is_armed_in_one_write_to_the_copy_not_in_use_and_again_in_none() {
        let mut control = control(PAIR);
        let before = control.store().copies.clone();
        control.arm_trial(Group::B, 3).unwrap();
        assert_eq!(control.store().writes, 1);
        assert_eq!(control.store().copies[0], before[0], "the copy in force is untouched");
        assert_eq!(control.state().unwrap().select(), Some(Group::B));
        control.arm_trial(Group::B, 3).unwrap();
        assert_eq!(control.store().writes, 1, "nothing changes, nothing is written");
    }

    #[test]
    fn a_write_heals_the_damaged_copy() {
        let mut control = control(PAIR);
        control.store_mut().copies[0][100] ^= 1;
        assert_eq!(control.env().unwrap().damaged(), Some(0));
        control.mark_good(Group::B).unwrap();
        assert_eq!(control.env().unwrap().damaged(), None);
        assert_eq!(control.env().unwrap().in_force(), 0);
    }

    #[test]
    fn two_damaged_copies_are_corrupt_and_nothing_is_written() {
        let mut control = control(PAIR);
        control.store_mut().copies[0][100] ^= 1;
        control.store_mut().copies[1][100] ^= 1;
        assert_eq!(control.mark_good(Group::A).unwrap_err().kind, FaultKind::Corrupt);
        assert_eq!(control.store().writes, 0);
    }

    /// Changes the environment between the first look and the second, as a writer without the lock does.
    struct Meddled {
        memory: Memory,
        reads: usize,
        lies: bool,
    }

    impl EnvStore for Meddled {
        fn read(&mut self, copy: usize) -> Result<Vec<u8>> {
            self.memory.read(copy)
        }
        fn read_back(&mut self, copy: usize) -> Result<Vec<u8>> {
            self.reads += 1;
            let mut bytes = self.memory.read(copy)?;
            bytes[200] ^= u8::from(if self.lies { self.memory.writes > 0 } else { self.reads > 2 });
            Ok(bytes)
        }
        fn write(&mut self, copy: usize, at: usize, bytes: &[u8]) -> Result<()> {
            self.memory.write(copy, at, bytes)
        }
    }

    #[test]
    fn a_writer_without_the_lock_and_a_medium_that_lies_are_noticed() {
        #[rustfmt::skip]
        let cases = [
            // the medium lies   kind              writes
            (false,              FaultKind::Busy,  0),
            (true,               FaultKind::Io,    1),
        ];
        for (lies, kind, writes) in cases {
            let memory = control(PAIR).store().clone();
            let store = Meddled { memory, reads: 0, lies };
            let mut control = EnvBootControl::new(store, PAIR, Box::new(Mainstay));
            assert_eq!(control.mark_good(Group::A), Ok(()), "nothing changes");
            control.store_mut().reads = 0;
            assert_eq!(control.arm_trial(Group::B, 3).unwrap_err().kind, kind);
            assert_eq!(control.store().memory.writes, writes);
        }
    }

    /// The first write reaches the page cache and its sync fails: readers of the cache see it, the medium has not got it.
    #[derive(Default)]
    struct FailsOnce {
        medium: Memory,
        cached: Option<Memory>,
        failed: bool,
    }

    impl EnvStore for FailsOnce {
        fn read(&mut self, copy: usize) -> Result<Vec<u8>> {
            self.cached.as_mut().unwrap_or(&mut self.medium).read(copy)
        }
        fn read_back(&mut self, copy: usize) -> Result<Vec<u8>> {
            self.medium.read(copy)
        }
        fn write(&mut self, copy: usize, at: usize, bytes: &[u8]) -> Result<()> {
            if !std::mem::replace(&mut self.failed, true) {
                let mut cached = self.medium.clone();
                cached.write(copy, at, bytes)?;
                self.cached = Some(cached);
                return Err(fault!(Io, "fdatasync: input/output error"));
            }
            self.medium.write(copy, at, bytes)
        }
    }

    /// An fdatasync failed on the withdrawal of a group. The cache said "withdrawn", the second attempt found nothing to
    /// change, and the group was written while the medium still called it good: a power cut booted it half written.
    #[test]
    fn what_a_failed_sync_left_in_the_page_cache_is_not_taken_for_what_the_medium_holds() {
        let medium = control(PAIR).store().clone();
        let store = FailsOnce { medium, ..FailsOnce::default() };
        let mut control = EnvBootControl::new(store, PAIR, Box::new(Mainstay));
        assert_eq!(control.withdraw(Group::A).unwrap_err().kind, FaultKind::Io);
        assert!(control.state().unwrap().group(Group::A).bootable(), "the medium says so");
        control.withdraw(Group::A).unwrap();
        let env = PAIR.parse(&control.store().medium.copies).unwrap();
        assert!(!Mainstay.state(env.vars()).unwrap().group(Group::A).bootable());
    }

    /// Says that the first write failed; it can be read all the same, and is not durable yet.
    #[test]
    fn a_write_that_failed_is_made_again_even_where_it_can_be_read() {
        struct Loud(Memory);
        impl EnvStore for Loud {
            fn read(&mut self, copy: usize) -> Result<Vec<u8>> {
                self.0.read(copy)
            }
            fn write(&mut self, copy: usize, at: usize, bytes: &[u8]) -> Result<()> {
                self.0.write(copy, at, bytes)?;
                if self.0.writes == 1 { Err(fault!(Io, "fdatasync: interrupted")) } else { Ok(()) }
            }
        }
        let store = Loud(control(PAIR).store().clone());
        let mut control = EnvBootControl::new(store, PAIR, Box::new(Mainstay));
        assert!(control.withdraw(Group::A).is_err());
        control.withdraw(Group::A).unwrap();
        assert_eq!(
            control.store().0.writes,
            3,
            "it failed, what stood there was put back, it was made again"
        );
        control.withdraw(Group::A).unwrap();
        assert_eq!(control.store().0.writes, 3, "and then believed");
    }

    /// On NOR flash one byte takes the old copy out of force once the new one is written. An agent was killed between the
    /// two, so both counted; then the medium lost the next copy, and acknowledged it: what came into force was the copy
    /// from before, and a good group was on trial again.
    #[test]
    fn the_old_copy_stays_in_force_where_the_new_one_was_acknowledged_and_lost() {
        /// Loses the write of this number.
        struct Loses(Memory, usize);
        impl EnvStore for Loses {
            fn read(&mut self, copy: usize) -> Result<Vec<u8>> {
                self.0.read(copy)
            }
            fn write(&mut self, copy: usize, at: usize, bytes: &[u8]) -> Result<()> {
                self.1 = self.1.wrapping_sub(1);
                if self.1 == 0 { Ok(()) } else { self.0.write(copy, at, bytes) }
            }
        }
        let nor = Format::UbootRedundant { bytes: 1024, scheme: Scheme::Boolean };
        let over = |medium: Memory, lost| EnvBootControl::new(Loses(medium, lost), nor, Box::new(Mainstay));
        let mut armed = over(control(nor).store().clone(), 0);
        armed.arm_trial(Group::B, 3).unwrap();
        let mut killed = over(armed.store().0.clone(), 2);
        killed.mark_good(Group::B).unwrap_err();
        let mut control = over(killed.store().0.clone(), 1);
        assert_eq!(control.withdraw(Group::A).unwrap_err().kind, FaultKind::Io);
        let state = control.state().unwrap();
        assert_eq!((state.group(Group::B).good, state.group(Group::A).bootable()), (Some(true), true));
        control.withdraw(Group::A).unwrap();
        assert!(!control.state().unwrap().group(Group::A).bootable());
    }

    /// An agent was killed between the write that marks good and its sync. The next one read "good" from the cache, raised
    /// the floor, and a power cut took "good" back.
    #[test]
    fn what_an_agent_that_was_killed_has_left_in_the_cache_is_settled_before_the_first_look() {
        struct Left(Memory, Vec<&'static str>);
        impl EnvStore for Left {
            fn read(&mut self, copy: usize) -> Result<Vec<u8>> {
                self.1.push("read");
                self.0.read(copy)
            }
            fn settle(&mut self) {
                self.1.push("settle");
            }
            fn write(&mut self, copy: usize, at: usize, bytes: &[u8]) -> Result<()> {
                self.0.write(copy, at, bytes)
            }
        }
        let store = Left(control(PAIR).store().clone(), Vec::new());
        let mut control = EnvBootControl::new(store, PAIR, Box::new(Mainstay));
        control.state().unwrap();
        control.state().unwrap();
        assert_eq!(control.store().1, ["settle", "read", "read", "read", "read"]);
    }

    #[test]
    fn a_fresh_environment_is_initialised_once_and_keeps_what_it_held() {
        let mut control = control(PAIR);
        let others: Vars = [("bootcmd", "run distro_bootcmd")].into_iter().collect();
        control.store_mut().copies = PAIR.blank(&others, &[]).unwrap();
        assert_eq!(control.state().unwrap_err().kind, FaultKind::NotFound);
        assert_eq!(control.initialise(), Ok(true));
        assert_eq!(control.initialise(), Ok(false));
        assert_eq!(control.state().unwrap().select(), Some(Group::A));
        assert_eq!(control.env().unwrap().vars().text("bootcmd").unwrap(), "run distro_bootcmd");
    }
}
