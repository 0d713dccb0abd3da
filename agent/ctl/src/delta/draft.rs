//! A segment before its frame is written: its content, the operations that make it, and what each of them weighs.
//!
//! Drafts are made side by side on all cores; frames are written one after the other, for each learns from those before.

use super::closed;
use super::part::{Closed, ops_between};
use super::plan::{Guess, Owner, Plan, Span};
use super::prove::Before;
use crate::Result;
use crate::layout::ReadAt;
use crate::zstd::Zstd;
use mainstay_core::bundle::patch::{From, Op, PatchState, Transform, patch};
use mainstay_core::bundle::{Encoding, Proof};
use mainstay_core::limits::SEGMENT_BYTES;

/// A segment's operations, and what else is known of it.
pub struct Draft {
    /// Where the segment stands.
    pub at: u64,
    /// What it is.
    pub content: Vec<u8>,
    /// Whether nothing has to travel.
    pub free: Free,
    /// What makes it.
    pub ops: Vec<Op>,
    /// The index of the first operation that needs a map, and which map: wherever another one is needed than before.
    pub maps: Vec<(usize, usize)>,
    /// What parts of it cost, roughly: an index into the plan's owners (or beyond, for copies), and a weight.
    pub weights: Vec<(usize, u64)>,
    /// Bytes that differ from the base without transforms, and with them.
    pub wrong: (u64, u64),
    /// Bytes that no span covers.
    pub extra: u64,
    /// Operations without short copies, where a patch's statistics seem to make less of such content than zstd does.
    pub modelled: Option<Vec<Op>>,
    /// Parts that are blocks of zstd, made opened.
    pub closed: Vec<Closed>,
    /// The smaller zstd frame, where that may well be the smallest of all ways.
    pub zstd: Option<Packed>,
}

/// A zstd frame with or without a prefix; `None`: neither is smaller than the content.
pub type Packed = Option<(Encoding, Vec<u8>)>;

/// Segments that cost nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Free {
    /// All zero.
    Zero,
    /// As in the base.
    Copy,
    /// It costs something.
    No,
}

/// Drafts segment `index`.
pub fn draft(before: &Before<'_>, new: &dyn ReadAt, plan: &Plan, index: usize, level: i32) -> Result<Draft> {
    let at = index as u64 * SEGMENT_BYTES as u64;
    let mut content = vec![0; (new.bytes() - at).min(SEGMENT_BYTES as u64) as usize];
    new.read_at(at, &mut content)?;
    let free = free(before.base(), at, &content)?;
    let mut draft = Draft {
        at,
        content,
        free,
        ops: Vec::new(),
        maps: Vec::new(),
        weights: Vec::new(),
        wrong: (0, 0),
        extra: 0,
        modelled: None,
        closed: Vec::new(),
        zstd: None,
    };
    if free == Free::No {
        draft.fill(before, plan)?;
        draft.modelled = draft.modelled(before, level)?;
        if draft.maps.is_empty() {
            let ops = &draft.ops;
            let copied = |from: usize, bytes: usize| {
                let within = ops_between(ops, from, from + bytes);
                matches!(within[..], [Op::Copy { .. }])
            };
            let [before, after] = &plan.blocks;
            draft.closed = closed::parts(before, after, at, &draft.content, &copied)?;
        }
        if (draft.extra + draft.wrong.1) * LIKELY > draft.content.len() as u64 {
            draft.zstd = Some(draft.zstd(before, level)?);
        }
    }
    Ok(draft)
}

fn free(base: &dyn ReadAt, at: u64, content: &[u8]) -> Result<Free> {
    if Proof::Zeros.holds(content) {
        return Ok(Free::Zero);
    }
    if base.bytes() < at + content.len() as u64 {
        return Ok(Free::No);
    }
    let mut before = vec![0; content.len()];
    base.read_at(at, &mut before)?;
    Ok(if before == content { Free::Copy } else { Free::No })
}

impl Draft {
    /// Is so much of it new that a patch has next to nothing to begin from?
    pub fn is_nearly_new(&self) -> bool {
        self.extra * NEW_OF > self.content.len() as u64 * NEW
    }

    /// Operations without short copies: repeats of some bytes are no news to statistics, and each of them costs a read. Only where
    /// a sample says that statistics make less of such content than zstd: mostly they do not.
    fn modelled(&self, before: &Before<'_>, level: i32) -> Result<Option<Vec<Op>>> {
        let longer = longer(&self.ops);
        let new = longer.iter().filter(|op| matches!(op, Op::Extra { .. })).map(|op| u64::from(op.length()));
        if !self.maps.is_empty() || new.sum::<u64>() * LIKELY < self.content.len() as u64 {
            return Ok(None);
        }
        let parts = self.content.chunks(SAMPLE_PART_BYTES);
        let sample: Vec<u8> = parts.step_by(SAMPLED_OF).flatten().copied().collect();
        let ops = [Op::Extra { length: sample.len() as u32 }];
        let mut state = Box::<PatchState>::default();
        let frame = patch(&ops, None, 0, &mut state, &mut before.segment(self.at), &sample)?;
        let zstd = Zstd::default().pack(&sample, &[], level)?;
        Ok(zstd.is_some_and(|(_, packed)| frame.len() < packed.len()).then_some(longer))
    }

    /// The smaller zstd frame.
    pub fn zstd(&self, before: &Before<'_>, level: i32) -> Result<Packed> {
        Zstd::default().pack(&self.content, &before.prior(self.at)?, level)
    }

    /// Where the segment ends.
    fn end(&self) -> u64 {
        self.at + self.content.len() as u64
    }

    fn fill(&mut self, base: &dyn ReadAt, plan: &Plan) -> Result<()> {
        let (mut at, end) = (self.at, self.end());
        let first = plan.spans.partition_point(|span| span.end() <= at);
        let spans = plan.spans.iter().skip(first).map_while(|span| span.within(self.at, end));
        for span in spans.collect::<Vec<_>>() {
            self.extra(plan, at, span.new);
            self.span(base, plan, &span)?;
            at = span.end();
        }
        self.extra(plan, at, end);
        Ok(())
    }

    fn extra(&mut self, plan: &Plan, from: u64, to: u64) {
        if from < to {
            let length = to - from;
            self.ops.push(Op::Extra { length: length as u32 });
            self.extra += length;
            self.weigh(plan, from, OPERATION + length / 3);
        }
    }

    /// A copy where nothing has changed, else what differs is added.
    fn span(&mut self, base: &dyn ReadAt, plan: &Plan, span: &Span) -> Result<()> {
        let mut predicted = vec![0; span.bytes as usize];
        base.read_at(span.base, &mut predicted)?;
        let begin = (span.new - self.at) as usize;
        let content = &self.content[begin..begin + predicted.len()];
        let before = differing(&predicted, content);
        let length = span.bytes as u32;
        if before == 0 {
            self.copy(span.base, length);
            self.weigh(plan, span.new, OPERATION);
            return Ok(());
        }
        let guess = span.guess.filter(|guess| guess.transform != Transform::None);
        let mut after = before;
        if let Some(guess) = guess {
            guess.transform.apply(&mut predicted, guess.address, guess.anchor, &plan.maps[guess.map]);
            after = differing(&predicted, content);
        }
        let guess = guess.filter(|_| after < before);
        let wrong = before.min(after);
        self.add(span.base, length, guess);
        self.wrong = (self.wrong.0 + before, self.wrong.1 + wrong);
        self.weigh(plan, span.new, OPERATION + wrong);
        Ok(())
    }

    /// Goes on with the copy before it where that ends here.
    fn copy(&mut self, at: u64, length: u32) {
        match self.ops.last_mut() {
            Some(Op::Copy { length: before, at: from }) if *from + u64::from(*before) == at => {
                *before += length
            }
            _ => self.ops.push(Op::Copy { length, at }),
        }
    }

    fn add(&mut self, at: u64, length: u32, guess: Option<Guess>) {
        let none = From { at, transform: Transform::None, address: 0, anchor: 0 };
        let Some(Guess { transform, address, anchor, map }) = guess else {
            return self.ops.push(Op::Add { length, from: none });
        };
        if self.maps.last().is_none_or(|(_, last)| *last != map) {
            self.maps.push((self.ops.len(), map));
        }
        self.ops.push(Op::Add { length, from: From { at, transform, address, anchor } });
    }

    fn weigh(&mut self, plan: &Plan, at: u64, weight: u64) {
        let owner = owner(&plan.owners, at).unwrap_or(plan.owners.len());
        match self.weights.last_mut() {
            Some((last, sum)) if *last == owner => *sum += weight,
            _ => self.weights.push((owner, weight)),
        }
    }
}

/// The same without short copies: new bytes instead.
fn longer(ops: &[Op]) -> Vec<Op> {
    let mut longer: Vec<Op> = Vec::new();
    for op in ops {
        let new = match op {
            Op::Add { .. } => false,
            op => op.length() < SHORT || matches!(op, Op::Extra { .. }),
        };
        match longer.last_mut() {
            Some(Op::Extra { length }) if new => *length += op.length(),
            _ if new => longer.push(Op::Extra { length: op.length() }),
            _ => longer.push(op.clone()),
        }
    }
    longer
}

fn owner(owners: &[Owner], at: u64) -> Option<usize> {
    let index = owners.partition_point(|owner| owner.extent.at <= at).checked_sub(1)?;
    let Owner { extent, .. } = &owners[index];
    (at < extent.at + extent.bytes).then_some(index)
}

/// At how many places they differ.
pub fn differing(a: &[u8], b: &[u8]) -> u64 {
    a.iter().zip(b).map(|(a, b)| u64::from(a != b)).sum()
}

/// What an operation costs, about: its kind, its length, its jump.
const OPERATION: u64 = 4;
/// Such a part of it has to be new for that.
const NEW: u64 = 63;
const NEW_OF: u64 = 64;
/// A copy of fewer bytes is short.
const SHORT: u32 = 64;
/// An eighth is tried before the whole is, from all over the segment.
const SAMPLE_PART_BYTES: usize = 4096;
const SAMPLED_OF: usize = 8;
/// From an eighth of new or wrong bytes on, zstd may well be smaller than a patch.
const LIKELY: u64 = 8;
