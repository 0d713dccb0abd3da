//! The store of a device: one or two places, and a lock.

use super::{EnvStore, Lock, Place};
use crate::{Format, Result};
use mainstay_core::fault;

/// One place per copy.
#[derive(Debug)]
pub struct Places {
    places: Vec<Place>,
    lock: Lock,
}

impl Places {
    /// Refused: not as many places as the format has copies, a place of another size, or two that overlap.
    pub fn new(format: &Format, places: Vec<Place>, lock: Lock) -> Result<Places> {
        if places.len() != format.copies() {
            return Err(fault!(
                Refused,
                "environment: expected {} places, found {}",
                format.copies(),
                places.len()
            ));
        }
        if let Some(odd) = places.iter().find(|p| p.bytes() != format.copy_bytes()) {
            let (path, expected, found) = (odd.path().display(), format.copy_bytes(), odd.bytes());
            return Err(fault!(Refused, "{path}: expected a place of {expected} bytes, found {found}"));
        }
        if let [first, second] = places.as_slice()
            && first.overlaps(second)
        {
            return Err(fault!(
                Refused,
                "{}: expected two copies side by side, found them overlap",
                first.path().display()
            ));
        }
        Ok(Places { places, lock })
    }

    /// For `doctor`.
    pub fn lock_file(&self) -> &Lock {
        &self.lock
    }

    fn place(&self, copy: usize) -> Result<&Place> {
        self.places.get(copy).ok_or_else(|| fault!(NotFound, "environment: no copy {copy}"))
    }
}

impl EnvStore for Places {
    fn lock(&mut self) -> Result<()> {
        self.lock.take()
    }
    fn unlock(&mut self) {
        self.lock.give();
    }
    fn settle(&mut self) {
        self.places.iter().for_each(Place::settle);
    }
    fn read(&mut self, copy: usize) -> Result<Vec<u8>> {
        self.place(copy)?.read()
    }
    fn read_back(&mut self, copy: usize) -> Result<Vec<u8>> {
        self.place(copy)?.read_back()
    }
    fn write(&mut self, copy: usize, at: usize, bytes: &[u8]) -> Result<()> {
        self.place(copy)?.write(at, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uboot::Scheme;

    #[test]
    fn places_that_do_not_fit_the_format_are_refused() {
        let format = Format::UbootRedundant { bytes: 1024, scheme: Scheme::Incremental };
        let at = |offset, bytes| Place::new("/dev/x", offset, bytes);
        for places in
            [vec![], vec![at(0, 1024)], vec![at(0, 1024), at(1024, 512)], vec![at(0, 1024), at(512, 1024)]]
        {
            let fault = Places::new(&format, places, Lock::new("/nowhere/lock")).unwrap_err();
            assert_eq!(fault.kind, mainstay_core::fault::FaultKind::Refused);
        }
    }
}
