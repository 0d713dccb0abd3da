//! Where pieces lie in their routes, from when the installer says it until they are fetched.

use mainstay_core::digest::Digest;
use mainstay_core::seam::Place;
use std::collections::VecDeque;

/// Places by name, at most so many: the oldest makes room. A name keeps the place that was said first.
#[derive(Default)]
pub struct Places<const MOST: usize>(VecDeque<(Digest, Place)>);

impl<const MOST: usize> Places<MOST> {
    /// A piece lies there.
    pub fn note(&mut self, name: &Digest, place: Place) {
        if self.get(name).is_some() {
            return;
        }
        if self.0.len() >= MOST {
            self.0.pop_front();
        }
        self.0.push_back((*name, place));
    }

    /// Where it lies.
    pub fn get(&self, name: &Digest) -> Option<Place> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, place)| *place)
    }

    /// Where it lies, once.
    pub fn take(&mut self, name: &Digest) -> Option<Place> {
        let place = self.get(name);
        self.0.retain(|(known, _)| known != name);
        place
    }
}
