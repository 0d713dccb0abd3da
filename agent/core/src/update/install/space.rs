//! The installer's memory, cut to pieces once, and the small things that stand in it.

use super::beyond;
use crate::bundle::{
    Encoding, Piece, ROUTE_PAGE_BYTES_MAX, RoutePage, SEGMENT_PAGE_BYTES_MAX, TABLE_BYTES_MAX,
};
use crate::fault;
use crate::limits::*;
use crate::seam::Result;

/// What [`Installer`](super::Installer) needs in memory, given to it once:
/// 2 tables + segment page + route page + piece + encoding + 2 segments, and a block to begin at = 853 KiB.
/// A delta route needs no segment page and one table: what these leave free is its window on the base.
pub const WORKSPACE_BYTES: usize = BLOCK_BYTES
    + TABLE_BYTES_MAX
    + SPARE_BYTES
    + ROUTE_PAGE_BYTES_MAX
    + OBJECT_BYTES_MAX
    + PREFIXED_BYTES_MAX
    + 2 * SEGMENT_BYTES;

/// Table of segment pages and a segment page; or the window on the base of a delta route, 32 KiB.
const SPARE_BYTES: usize = TABLE_BYTES_MAX + SEGMENT_PAGE_BYTES_MAX;

/// The workspace, cut.
pub(super) struct Space<'w> {
    /// The table of the route's pages.
    pub table: &'w mut [u8],
    /// See [`SPARE_BYTES`].
    pub spare: &'w mut [u8],
    /// The route's page.
    pub page: &'w mut [u8],
    /// What a run works in.
    pub work: Buffers<'w>,
}

impl<'w> Space<'w> {
    pub fn of(workspace: &'w mut [u8; WORKSPACE_BYTES]) -> Result<Self> {
        let mut rest = aligned(workspace);
        let mut take = |bytes: usize| -> Result<&'w mut [u8]> {
            let (taken, left) = core::mem::take(&mut rest)
                .split_at_mut_checked(bytes)
                .ok_or_else(|| fault!(Full, "installer: workspace too small"))?;
            rest = left;
            Ok(taken)
        };
        // What goes to the medium and comes from it first: these are whole blocks, so each of them begins at one.
        let work = Buffers {
            segment: take(SEGMENT_BYTES)?,
            prior: take(SEGMENT_BYTES)?,
            prior_at: None,
            encoded: take(PREFIXED_BYTES_MAX)?,
            piece: take(OBJECT_BYTES_MAX)?,
            held: None,
        };
        let (spare, table) = (take(SPARE_BYTES)?, take(TABLE_BYTES_MAX)?);
        Ok(Space { table, spare, page: take(ROUTE_PAGE_BYTES_MAX)?, work })
    }

    /// The spare part as a table and a segment page.
    pub fn split(spare: &mut [u8]) -> Result<(&mut [u8], &mut [u8])> {
        spare.split_at_mut_checked(TABLE_BYTES_MAX).ok_or_else(beyond)
    }
}

/// The workspace from its first block on: memory that begins at a multiple of [`BLOCK_BYTES`] goes to a medium, and comes from
/// it, without a copy between.
pub(super) fn aligned(workspace: &mut [u8; WORKSPACE_BYTES]) -> &mut [u8] {
    let skip = workspace.as_ptr().align_offset(BLOCK_BYTES);
    // No machine that we know fails to say where its memory lies (`usize::MAX`): then it is copied.
    workspace.get_mut(if skip < BLOCK_BYTES { skip } else { 0 }..).unwrap_or_default()
}

/// The buffers that a run works in.
pub(super) struct Buffers<'w> {
    /// The piece fetched last.
    pub piece: &'w mut [u8],
    /// Its name and length, once they are proven.
    pub held: Option<Piece>,
    /// An encoding that lies in more than one piece and needs the segment before it.
    pub encoded: &'w mut [u8],
    /// A segment's content.
    pub segment: &'w mut [u8],
    /// The segment that was made before; or another encoding in pieces, or what the target holds, to compare with.
    pub prior: &'w mut [u8],
    /// Where the segment in `prior` stands, if there is one.
    pub prior_at: Option<u64>,
}

impl Buffers<'_> {
    /// The segment at `at` has been made, and is kept: the next one needs it.
    pub fn keep(&mut self, at: u64) {
        core::mem::swap(&mut self.segment, &mut self.prior);
        self.prior_at = Some(at);
    }

    /// Two that a slot is read into, a segment at a time, where none is being made.
    pub const fn both(&mut self) -> [&mut [u8]; 2] {
        self.prior_at = None;
        [self.segment, self.prior]
    }

    /// Two halves of one: for who need not see whole segments.
    pub fn halves(&mut self) -> [&mut [u8]; 2] {
        self.segment.split_at_mut(SEGMENT_BYTES / 2).into()
    }
}

/// Where the bytes that make a segment have been put.
#[derive(Clone, Copy)]
pub(super) enum Gathered {
    /// Within the piece that is held.
    InPiece { start: usize, length: usize },
    /// Put together, in this buffer.
    Assembled { room: Room, length: usize },
}

/// Where an encoding is put together.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    /// [`Buffers::encoded`]: it needs the segment before it.
    Encoded,
    /// [`Buffers::prior`]: it does not, and may be larger.
    Prior,
    /// [`Buffers::segment`]: it is the content.
    Segment,
    /// The second half of [`Buffers::prior`]: parts, which need the first.
    Half,
}

impl Room {
    pub fn of(encoding: Encoding) -> Room {
        match encoding {
            Encoding::Raw => Room::Segment,
            Encoding::Prefixed => Room::Encoded,
            Encoding::Recoded => Room::Half,
            _ => Room::Prior,
        }
    }
}

/// A place in the row of a run's pieces.
#[derive(Clone, Copy, Default)]
pub(super) struct Cursor {
    pub piece: usize,
    pub offset: usize,
}

impl Cursor {
    /// Goes on by `bytes` within the piece, which has `piece_bytes`.
    pub fn advance(&mut self, piece_bytes: usize, bytes: usize) {
        self.offset += bytes;
        if self.offset >= piece_bytes {
            *self = Cursor { piece: self.piece + 1, offset: 0 };
        }
    }

    /// Goes on by `bytes`, over as many pieces as it takes.
    pub fn skip(&mut self, route: &RoutePage<'_>, mut bytes: usize) -> Result<()> {
        while bytes > 0 {
            let piece_bytes = route.piece(self.piece)?.length as usize;
            let here = (piece_bytes - self.offset).min(bytes);
            self.advance(piece_bytes, here);
            bytes -= here;
        }
        Ok(())
    }

    /// The first piece of which nothing has been passed.
    pub const fn next_piece(&self) -> usize {
        self.piece + (self.offset > 0) as usize
    }
}

/// A bit for each segment of a run.
#[derive(Clone, Copy, Default)]
pub(super) struct Set([u32; RUN_SEGMENTS_MAX / 32]);

impl Set {
    pub fn insert(&mut self, segment: usize) {
        if let Some(word) = self.0.get_mut(segment / 32) {
            *word |= 1 << (segment % 32);
        }
    }

    pub fn has(&self, segment: usize) -> bool {
        self.0.get(segment / 32).is_some_and(|word| word >> (segment % 32) & 1 == 1)
    }

    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    #[test]
    fn wherever_the_workspace_lies_what_media_are_read_into_begins_at_a_block() {
        let mut memory = vec![0; WORKSPACE_BYTES + BLOCK_BYTES];
        for shift in [0, 1, 16, BLOCK_BYTES - 1] {
            let begin = memory.as_ptr().align_offset(BLOCK_BYTES) % BLOCK_BYTES;
            let at = (begin + shift) % BLOCK_BYTES;
            let workspace = memory[at..].first_chunk_mut().unwrap();
            let Space { spare, work, .. } = Space::of(workspace).unwrap();
            for part in [spare, work.segment, work.prior] {
                assert_eq!(part.as_ptr().addr() % BLOCK_BYTES, 0, "shifted by {shift}");
            }
        }
    }
}
