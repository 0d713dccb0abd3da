//! What of the new image stands in the base as it is, in blocks of 4 KiB: most of it, and cheap to find.
//!
//! ```text
//! base ─► a hash per block, sorted ─┐
//! new  ─► a hash per block ─────────┴─► a block of the base for each, if there is one ─► compared byte by byte ─► spans
//! ```
//! Twenty-four bytes of memory for each block. The hash finds and never decides.

use super::parallel::in_parallel;
use super::plan::Span;
use crate::Result;
use crate::layout::ReadAt;

/// What file systems allocate in.
pub const BLOCK_BYTES: u64 = 4096;

/// Spans that are equal, in order. A block goes on with the copy before it if it can, else it stays where it is, else it is found
/// anywhere.
pub fn copies(base: &dyn ReadAt, new: &dyn ReadAt, threads: usize) -> Result<Vec<Span>> {
    let (before, after) = (hashes(base, threads)?, hashes(new, threads)?);
    let found = choose(&before, &after);
    let proven = in_parallel(threads, found.len().div_ceil(BATCH), &|batch| {
        let first = batch * BATCH;
        equal(base, new, first, &found[first..found.len().min(first + BATCH)])
    })?;
    Ok(spans(&proven.concat()))
}

fn hashes(image: &dyn ReadAt, threads: usize) -> Result<Vec<u64>> {
    let count = (image.bytes() / BLOCK_BYTES) as usize; // what is left at the end is no block
    let batches = in_parallel(threads, count.div_ceil(BATCH), &|batch| {
        let first = batch * BATCH;
        let mut bytes = vec![0; BATCH.min(count - first) * BLOCK_BYTES as usize];
        image.read_at(first as u64 * BLOCK_BYTES, &mut bytes)?;
        Ok(bytes.chunks_exact(BLOCK_BYTES as usize).map(hash).collect::<Vec<_>>())
    })?;
    Ok(batches.concat())
}

/// Sixteen bytes at a time into two numbers, folded. Not cryptographic.
pub fn hash(block: &[u8]) -> u64 {
    let (mut a, mut b) = (SEED, !SEED);
    for pair in block.as_chunks::<16>().0 {
        let [low, high] = [&pair[..8], &pair[8..]].map(|half| {
            u64::from_le_bytes([half[0], half[1], half[2], half[3], half[4], half[5], half[6], half[7]])
        });
        let product = u128::from(low ^ a) * u128::from(high ^ b);
        a = (product as u64).wrapping_add(b).rotate_left(23);
        b = ((product >> 64) as u64).wrapping_add(high).wrapping_mul(ODD) ^ low;
    }
    (a ^ b.rotate_left(31)).wrapping_mul(ODD)
}

/// For each new block the base's block of the same hash.
fn choose(before: &[u64], after: &[u64]) -> Vec<Option<u32>> {
    let mut index: Vec<u32> = (0..before.len() as u32).collect();
    index.sort_unstable_by_key(|block| (before[*block as usize], *block));
    let zero = hash(&[0; BLOCK_BYTES as usize]);
    let zeros = longest_run(before, zero);
    let is = |block: usize, hash: u64| before.get(block) == Some(&hash);
    let mut found: Vec<Option<u32>> = Vec::with_capacity(after.len());
    for (at, hash) in after.iter().enumerate() {
        let next = found.last().copied().flatten().map(|last| last as usize + 1);
        let block = match next {
            Some(next) if is(next, *hash) => Some(next as u32),
            _ if is(at, *hash) => Some(at as u32),
            _ if *hash == zero => zeros,
            _ => anywhere(before, &index, &after[at..]),
        };
        found.push(block);
    }
    found
}

/// Of the blocks with this hash the one after which most of what follows is equal too, the first of these.
fn anywhere(before: &[u64], index: &[u32], wanted: &[u64]) -> Option<u32> {
    let first = index.partition_point(|block| before[*block as usize] < wanted[0]);
    let candidates = index[first..].iter().take_while(|block| before[**block as usize] == wanted[0]);
    let follows = |block: u32| {
        before[block as usize..].iter().zip(wanted).take(LOOK_AHEAD).take_while(|(a, b)| a == b).count()
    };
    candidates.take(CANDIDATES).copied().max_by_key(|block| (follows(*block), std::cmp::Reverse(*block)))
}

/// Where the longest row of zero blocks begins: zeros are copied from there where nothing is nearer.
fn longest_run(before: &[u64], zero: u64) -> Option<u32> {
    let (mut best, mut at) = (None, 0);
    for run in before.chunk_by(|a, b| (*a == zero) == (*b == zero)) {
        if run[0] == zero && best.is_none_or(|(_, length)| run.len() > length) {
            best = Some((at, run.len()));
        }
        at += run.len();
    }
    best.map(|(at, _)| at as u32)
}

/// Leaves out what only seemed to be equal.
fn equal(
    base: &dyn ReadAt,
    new: &dyn ReadAt,
    first: usize,
    found: &[Option<u32>],
) -> Result<Vec<(u32, Option<u32>)>> {
    let mut content = vec![0; found.len() * BLOCK_BYTES as usize];
    new.read_at(first as u64 * BLOCK_BYTES, &mut content)?;
    let (mut out, mut before, mut at) = (Vec::with_capacity(found.len()), Vec::new(), 0);
    for run in found.chunk_by(|a, b| a.is_some() && a.map(|block| block + 1) == *b) {
        let bytes = run.len() * BLOCK_BYTES as usize;
        let blocks = content[at * BLOCK_BYTES as usize..][..bytes].chunks_exact(BLOCK_BYTES as usize);
        if let Some(block) = run[0] {
            before.resize(bytes, 0);
            base.read_at(u64::from(block) * BLOCK_BYTES, &mut before)?;
        }
        for ((index, block), content) in run.iter().enumerate().zip(blocks) {
            let same = || before[index * BLOCK_BYTES as usize..].starts_with(content);
            out.push(((first + at + index) as u32, block.filter(|_| same())));
        }
        at += run.len();
    }
    Ok(out)
}

fn spans(found: &[(u32, Option<u32>)]) -> Vec<Span> {
    let mut out: Vec<Span> = Vec::new();
    for (at, block) in found {
        let Some(block) = block else { continue };
        let (new, base) = (u64::from(*at) * BLOCK_BYTES, u64::from(*block) * BLOCK_BYTES);
        match out.last_mut() {
            Some(last) if last.end() == new && last.base + last.bytes == base => last.bytes += BLOCK_BYTES,
            _ => out.push(Span { new, base, bytes: BLOCK_BYTES, guess: None }),
        }
    }
    out
}

/// Blocks that a thread takes at once: 1 MiB.
const BATCH: usize = 256;
/// Blocks of the same content that are looked at, and how far.
const CANDIDATES: usize = 16;
const LOOK_AHEAD: usize = 16;
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
const ODD: u64 = 0xd6e8_feb8_6659_fd93;

#[cfg(test)]
mod tests {
    use super::*;

    fn image(blocks: &[u8]) -> Vec<u8> {
        blocks.iter().flat_map(|byte| [*byte; BLOCK_BYTES as usize]).collect()
    }

    fn blocks(base: &[u8], new: &[u8]) -> Vec<(u64, u64, u64)> {
        let spans = copies(&image(base), &image(new), 2).unwrap();
        let block = |bytes: u64| bytes / BLOCK_BYTES;
        spans.iter().map(|span| (block(span.new), block(span.base), block(span.bytes))).collect()
    }

    #[test]
    fn a_block_is_found_wherever_it_stands() {
        type Spans<'a> = &'a [(u64, u64, u64)];
        let cases: [(&[u8], &[u8], Spans<'_>); 6] = [
            (&[1, 2, 3], &[1, 2, 3], &[(0, 0, 3)]),                  // nothing moved
            (&[1, 2, 3], &[9, 1, 2, 3], &[(1, 0, 3)]),               // all moved
            (&[1, 2, 7, 2, 3], &[5, 2, 3], &[(1, 1, 1), (2, 4, 1)]), // it stays where it is rather than move
            (&[7, 2, 1, 2, 3], &[5, 5, 5, 5, 5, 2, 3], &[(5, 3, 2)]), // of two, the one that goes on
            (&[1, 0, 0, 5], &[7, 7, 7, 0, 0, 0], &[(3, 1, 2), (5, 1, 1)]), // zeros from where most of them are
            (&[1], &[2], &[]),
        ];
        for (base, new, expected) in cases {
            assert_eq!(blocks(base, new), expected, "{base:?} to {new:?}");
        }
    }

    #[test]
    fn a_hash_that_lies_makes_no_copy() {
        let (base, new) = (image(&[1, 2, 3]), image(&[1, 9, 3]));
        let proven = equal(&base, &new, 0, &[Some(0), Some(1), Some(2)]).unwrap();
        assert_eq!(proven, [(0, Some(0)), (1, None), (2, Some(2))]);
    }

    #[test]
    fn each_byte_of_a_block_counts_for_its_hash() {
        let mut block = [0u8; BLOCK_BYTES as usize];
        let mut seen = std::collections::BTreeSet::from([hash(&block)]);
        for at in 0..block.len() {
            block[at] = 1;
            assert!(seen.insert(hash(&block)), "byte {at}");
            block[at] = 0;
        }
    }
}
