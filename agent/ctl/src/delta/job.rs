//! One piece of matching work: a content of the new image and what it is probably like, both in memory while it lasts.

use super::moves::{self, Moves};
use super::plan::{Guess, Span};
use super::ranges::{Joined, common};
use super::scan::{Match, matches};
use super::suffix::TEXT_BYTES_MAX;
use super::{Source, ranges};
use crate::Result;
use crate::layout::{Extent, ReadAt};
use mainstay_core::bundle::patch::Map;

/// What to match with what.
pub struct Job {
    /// What it is matched as.
    pub source: Source,
    /// The new content.
    pub new: Joined,
    /// The old one.
    pub old: Joined,
    /// If only a part of the new content is asked for: which.
    pub only: Option<Vec<Extent>>,
}

/// What came of it. Guesses have no map's number yet.
#[derive(Default)]
pub struct Done {
    /// Not in order.
    pub spans: Vec<Span>,
    /// Where guesses point to.
    pub map: Option<Box<Map>>,
}

impl Job {
    /// What of the new image is made by it.
    pub fn claims(&self) -> &[Extent] {
        self.only.as_deref().unwrap_or(self.new.extents())
    }

    /// Whether it takes so much memory that no other should run beside it.
    pub fn is_large(&self) -> bool {
        self.old.bytes().max(self.new.bytes()) > (TEXT_BYTES_MAX / 3) as u64
    }

    /// Does it.
    pub fn run(&self, base: &dyn ReadAt, new: &dyn ReadAt, transforms: bool) -> Result<Done> {
        let (old, content) = (self.old.read(base)?, self.new.read(new)?);
        let found = matches(&old, &content);
        let moves = match transforms && self.source == Source::File {
            true => Moves::of(&old, &content, &found),
            false => None,
        };
        let Some(moves) = moves else {
            let spans = found.iter().flat_map(|found| self.spans(found, None)).collect();
            return Ok(Done { spans, map: None });
        };
        let chunks = moves::choose(&moves, &old, &content, &found);
        let spans = chunks.iter().flat_map(|(found, guess)| self.spans(found, *guess)).collect();
        Ok(Done { spans, map: Some(moves.map) })
    }

    /// A match as it stands in the images: cut where an extent ends on either side.
    fn spans(&self, found: &Match, guess: Option<Guess>) -> Vec<Span> {
        let whole = Span { new: found.new as u64, base: found.old as u64, bytes: found.bytes as u64, guess };
        let out = placed(&whole, &self.new, &self.old);
        match &self.only {
            None => out,
            Some(only) => out.iter().flat_map(|span| asked_for(span, only)).collect(),
        }
    }
}

/// A span of joined contents as it stands in the images.
pub fn placed(whole: &Span, new: &Joined, old: &Joined) -> Vec<Span> {
    let (mut out, mut at) = (Vec::new(), whole.new);
    while let Some(rest) = whole.within(at, whole.end()) {
        let ((new, room), (base, base_room)) = (new.place(rest.new), old.place(rest.base));
        let bytes = room.min(base_room).min(rest.bytes);
        if bytes == 0 {
            break; // nothing stands there: beyond the end
        }
        out.push(Span { new, base, bytes, guess: rest.guess });
        at += bytes;
    }
    out
}

fn asked_for(span: &Span, only: &[Extent]) -> Vec<Span> {
    let first = only.partition_point(|extent| ranges::end(extent) <= span.new);
    let last = only.partition_point(|extent| extent.at < span.end()).max(first);
    let parts = common(&[Extent { at: span.new, bytes: span.bytes }], &only[first..last]);
    parts.iter().filter_map(|part| span.within(part.at, ranges::end(part))).collect()
}
