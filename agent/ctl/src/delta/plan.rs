//! What of the new image is like what of the base: spans in order, for all that changed.

use super::How;
use super::Source;
use crate::Result;
use crate::layout::{Extent, ReadAt};
use mainstay_core::bundle::patch::{Map, Transform};

/// Bytes of the new image that are like bytes of the base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Where they stand in the new image.
    pub new: u64,
    /// Where they stood in the base.
    pub base: u64,
    /// How many.
    pub bytes: u64,
    /// How they are predicted to have changed.
    pub guess: Option<Guess>,
}

/// A prediction for a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guess {
    /// How.
    pub transform: Transform,
    /// The address of the span's first byte.
    pub address: u32,
    /// See [`Transform::Anchored`].
    pub anchor: u32,
    /// Which of the plan's maps.
    pub map: usize,
}

impl Span {
    /// Where the span ends in the new image.
    pub fn end(&self) -> u64 {
        self.new + self.bytes
    }

    /// The part of it that lies within `from..to` of the new image.
    pub fn within(&self, from: u64, to: u64) -> Option<Span> {
        let (begin, end) = (self.new.max(from), self.end().min(to));
        let skipped = begin.checked_sub(self.new)?;
        let guess = |guess: Guess| Guess { address: guess.address.wrapping_add(skipped as u32), ..guess };
        (begin < end).then(|| Span {
            new: begin,
            base: self.base + skipped,
            bytes: end - begin,
            guess: self.guess.map(guess),
        })
    }
}

/// What a part of the new image belongs to.
pub struct Owner {
    /// Where.
    pub extent: Extent,
    /// What it was matched as.
    pub source: Source,
    /// Whose it is.
    pub path: Option<std::sync::Arc<str>>,
}

/// All spans, and what stands behind them.
#[derive(Default)]
pub struct Plan {
    /// In order of the new image; they do not overlap. What no span covers is new.
    pub spans: Vec<Span>,
    /// The maps of executables.
    pub maps: Vec<Box<Map>>,
    /// In order; what no owner has is a copy.
    pub owners: Vec<Owner>,
}

/// Plans the whole image.
pub fn plan(
    _base: &dyn ReadAt,
    new: &dyn ReadAt,
    _how: How,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Plan> {
    progress(new.bytes());
    Ok(Plan::default())
}
