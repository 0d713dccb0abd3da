//! Parts of an image: added, taken away, and joined so that a file in pieces can be looked at as one.

use crate::Result;
use crate::layout::{Extent, ReadAt};

/// Where an extent ends.
pub const fn end(extent: &Extent) -> u64 {
    extent.at + extent.bytes
}

/// How many bytes they are.
pub fn total(extents: &[Extent]) -> u64 {
    extents.iter().map(|extent| extent.bytes).sum()
}

/// In order, without overlaps, neighbours joined.
pub fn sorted(mut extents: Vec<Extent>) -> Vec<Extent> {
    extents.retain(|extent| extent.bytes > 0);
    extents.sort_by_key(|extent| extent.at);
    let mut out: Vec<Extent> = Vec::with_capacity(extents.len());
    for extent in extents {
        match out.last_mut() {
            Some(last) if end(last) >= extent.at => last.bytes = end(last).max(end(&extent)) - last.at,
            _ => out.push(extent),
        }
    }
    out
}

/// What of `from` is not in `less`; both sorted.
pub fn without(from: &[Extent], less: &[Extent]) -> Vec<Extent> {
    let (mut out, mut next) = (Vec::new(), 0);
    for extent in from {
        let mut at = extent.at;
        while next < less.len() && end(&less[next]) <= at {
            next += 1;
        }
        let mut index = next;
        while index < less.len() && less[index].at < end(extent) {
            if less[index].at > at {
                out.push(Extent { at, bytes: less[index].at - at });
            }
            at = at.max(end(&less[index]));
            index += 1;
        }
        if at < end(extent) {
            out.push(Extent { at, bytes: end(extent) - at });
        }
    }
    out
}

/// What is in both; both sorted.
pub fn common(a: &[Extent], b: &[Extent]) -> Vec<Extent> {
    without(a, &without(a, b))
}

/// Extents as one content: the file that they are.
#[derive(Clone, Debug, Default)]
pub struct Joined {
    extents: Vec<Extent>,
    /// Where each extent begins in the whole.
    starts: Vec<u64>,
    bytes: u64,
}

impl Joined {
    /// In the order in which they stand.
    pub fn new(extents: Vec<Extent>) -> Self {
        let (mut bytes, mut starts) = (0, Vec::with_capacity(extents.len()));
        for extent in &extents {
            starts.push(bytes);
            bytes += extent.bytes;
        }
        Joined { extents, starts, bytes }
    }

    /// How long the whole is.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Its parts.
    pub fn extents(&self) -> &[Extent] {
        &self.extents
    }

    /// All of it.
    pub fn read(&self, image: &dyn ReadAt) -> Result<Vec<u8>> {
        let mut out = vec![0; self.bytes as usize];
        for (extent, start) in self.extents.iter().zip(&self.starts) {
            let (start, end) = (*start as usize, (start + extent.bytes) as usize);
            image.read_at(extent.at, &mut out[start..end])?;
        }
        Ok(out)
    }

    /// Where the byte at `offset` of the whole stands in the image, and how many follow it there.
    pub fn place(&self, offset: u64) -> (u64, u64) {
        let index = self.starts.partition_point(|start| *start <= offset).saturating_sub(1);
        match (self.extents.get(index), self.starts.get(index)) {
            (Some(extent), Some(start)) => {
                let within = offset - start;
                (extent.at + within, extent.bytes.saturating_sub(within))
            }
            _ => (0, 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(list: &[(u64, u64)]) -> Vec<Extent> {
        list.iter().map(|(at, bytes)| Extent { at: *at, bytes: *bytes }).collect()
    }

    #[test]
    fn ranges_are_what_a_set_of_bytes_is() {
        let set = |list: &[Extent]| -> std::collections::BTreeSet<u64> {
            list.iter().flat_map(|extent| extent.at..end(extent)).collect()
        };
        let cases = [
            (of(&[(0, 10), (20, 5)]), of(&[(3, 2), (8, 14)])),
            (of(&[(5, 5)]), of(&[(0, 20)])),
            (of(&[(0, 4), (4, 4), (30, 1)]), of(&[])),
            (of(&[(0, 4), (8, 4), (16, 4)]), of(&[(2, 16)])),
        ];
        for (a, b) in cases {
            let (left, right) = (set(&a), set(&b));
            assert_eq!(set(&without(&a, &b)), &left - &right);
            assert_eq!(set(&common(&a, &b)), &left & &right);
            let both = sorted([b.clone(), a.clone()].concat());
            assert_eq!(set(&both), &left | &right);
            assert!(both.windows(2).all(|pair| end(&pair[0]) < pair[1].at), "{both:?}");
        }
    }

    #[test]
    fn joined_extents_are_one_content_with_its_places() {
        let image: Vec<u8> = (0..100).collect();
        let joined = Joined::new(of(&[(50, 3), (10, 2), (99, 1)]));
        assert_eq!(joined.read(&image).unwrap(), [50, 51, 52, 10, 11, 99]);
        let places: Vec<_> = (0..6).map(|offset| joined.place(offset)).collect();
        assert_eq!(places, [(50, 3), (51, 2), (52, 1), (10, 2), (11, 1), (99, 1)]);
    }
}
