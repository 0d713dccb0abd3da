//! What methods would send that cannot be played on a desk, counted as their documents say. What is counted:
//!
//! ```text
//! RAUC, adaptive        index     32 bytes for each 4 KiB of the image (block-hash-index: SHA-256 of each)
//!                       content   each squashfs block of the bundle (64 KiB, as its documents advise) in which a 4 KiB
//!                                 block lies that neither is zero nor stands anywhere in the old image, compressed
//! fixed 4 KiB           index     SHA-256 of each 4 KiB block, all together through zstd -19
//!                       content   4 KiB blocks that stand nowhere in the old image, each once, in frames of 64 KiB
//! bsdiff, xz -9         index     32 bytes of header
//!                       content   the three streams of a bsdiff (qbsdiff), taken out of bzip2 and put through xz -9
//! ```
//! Blocks are compressed with zstd -19 each, and sent as they are where that is not shorter: at least as good as what their
//! tools do. Requests and their headers are not counted.

use super::desk::{Desk, Weighed};
use crate::{Doing, Result, Trouble};
use mainstay_core::digest::Digest;
use std::collections::HashSet;

const BLOCK_BYTES: usize = 4096;
const FRAME_BYTES: usize = 64 * 1024;
const DIGEST_BYTES: usize = 32;
const LEVEL: i32 = 19;

/// RAUC's adaptive update with a block-hash-index.
pub fn rauc_adaptive(desk: &Desk) -> Result<Weighed> {
    let (old, new) = (desk.read("old")?, desk.read("new")?);
    let missing = missing(&old, &new);
    let mut content = 0;
    for (at, frame) in new.chunks(FRAME_BYTES).enumerate() {
        let blocks = FRAME_BYTES / BLOCK_BYTES;
        if (at * blocks..(at + 1) * blocks).any(|block| missing.get(block) == Some(&true)) {
            content += compressed(frame)?;
        }
    }
    let index = (missing.len() * DIGEST_BYTES) as u64;
    Ok(Weighed { wire: index + content, index, ..Weighed::default() })
}

/// A store of 4 KiB blocks.
pub fn fixed_blocks(desk: &Desk) -> Result<Weighed> {
    let (old, new) = (desk.read("old")?, desk.read("new")?);
    let missing = missing(&old, &new);
    let blocks = || new.chunks(BLOCK_BYTES);
    let mut seen = HashSet::new();
    let wanted = blocks().zip(missing).filter(|(block, missing)| *missing && seen.insert(Digest::of(block)));
    let wanted: Vec<u8> = wanted.flat_map(|(block, _)| block.iter().copied()).collect();
    let mut content = 0;
    for frame in wanted.chunks(FRAME_BYTES) {
        content += compressed(frame)?;
    }
    let names: Vec<u8> = blocks().flat_map(|block| Digest::of(block).0).collect();
    let index = compressed(&names)?;
    Ok(Weighed { wire: index + content, index, ..Weighed::default() })
}

/// Of each block of `new`: neither zero, nor anywhere in `old` at a multiple of its size.
fn missing(old: &[u8], new: &[u8]) -> Vec<bool> {
    let there: HashSet<Digest> = old.chunks(BLOCK_BYTES).map(Digest::of).collect();
    let zero = |block: &[u8]| block.iter().all(|byte| *byte == 0);
    new.chunks(BLOCK_BYTES).map(|block| !zero(block) && !there.contains(&Digest::of(block))).collect()
}

/// Bytes after zstd, or before where that is not shorter.
fn compressed(bytes: &[u8]) -> Result<u64> {
    let mut out = vec![0; zstd_safe::compress_bound(bytes.len())];
    let length = zstd_safe::compress(out.as_mut_slice(), bytes, LEVEL);
    let length = length.map_err(|code| Trouble::new(format!("zstd: {}", zstd_safe::get_error_name(code))))?;
    Ok(length.min(bytes.len()) as u64)
}

/// A bsdiff of the whole image, with xz in the place of bzip2: made of the patch of this name.
pub fn bsdiff_xz(desk: &Desk, patch: &str) -> Result<Weighed> {
    let patch = desk.read(patch)?;
    let [control, diff, extra] = streams(&patch)?;
    let mut content = 0;
    for (name, stream) in [("control", control), ("diff", diff), ("extra", extra)] {
        let packed = format!("{name}.bz2");
        desk.write(&packed, stream)?;
        desk.run_into(&format!("bzip2 -dc {packed}"), name)?;
        desk.run_into(&format!("xz -9 -T1 -c {name}"), "xz")?;
        content += desk.weigh("xz")?;
    }
    let index = HEADER_BYTES as u64;
    Ok(Weighed { wire: index + content, index, ..Weighed::default() })
}

const HEADER_BYTES: usize = 32;

/// The three bzip2 streams of a patch. Its header: `BSDIFF40`, then lengths of control, diff and new file, 8 bytes each, little
/// endian, with a sign in the top bit that no length has.
fn streams(patch: &[u8]) -> Result<[&[u8]; 3]> {
    let parts = || {
        let (head, rest) = patch.split_at_checked(HEADER_BYTES)?;
        let length = |at: usize| Some(u64::from_le_bytes(head.get(at..at + 8)?.try_into().ok()?));
        let head_is_right = head.starts_with(b"BSDIFF40");
        let (control, rest) = rest.split_at_checked(length(8)?.try_into().ok()?)?;
        let (diff, extra) = rest.split_at_checked(length(16)?.try_into().ok()?)?;
        head_is_right.then_some([control, diff, extra])
    };
    parts()
        .doing(|| format!("bsdiff: expected a BSDIFF40 patch of three streams, found {} bytes", patch.len()))
}

#[cfg(test)]
mod tests {
    use super::super::desk::tests::desk;
    use super::*;

    /// Blocks of 4 KiB, each of one letter; `0` is zeros.
    fn image(letters: &str) -> Vec<u8> {
        letters.bytes().flat_map(|byte| [if byte == b'0' { 0 } else { byte }; BLOCK_BYTES]).collect()
    }

    #[test]
    fn a_block_is_missing_where_it_is_neither_zero_nor_anywhere_in_the_old_image() {
        #[rustfmt::skip]
        let cases = [
            // old     new       missing
            ("abc",    "cab",    vec![false, false, false]),
            ("abc",    "abd",    vec![false, false, true]),
            ("abc",    "0b0",    vec![false, false, false]),
            ("",       "aa",     vec![true, true]),
        ];
        for (old, new, expected) in cases {
            assert_eq!(missing(&image(old), &image(new)), expected, "{old} {new}");
        }
        // Shifted by a byte, nothing is there: blocks lie at multiples of their size.
        let shifted: Vec<u8> =
            std::iter::once(b'x').chain((0..2 * BLOCK_BYTES).map(|n| (n % 251) as u8)).collect();
        assert_eq!(missing(shifted.get(1..).unwrap(), &shifted), [true, true, true]);
    }

    #[test]
    fn rauc_fetches_whole_squashfs_blocks_and_32_bytes_of_index_for_each_4_kib() {
        // 40 blocks are 2.5 squashfs blocks; the 18th differs: the second squashfs block is fetched, of bytes that
        // compress to next to nothing, but for its one block of noise.
        let mut random = crate::image::Random(1);
        let noise: Vec<u8> = (0..BLOCK_BYTES / 8).flat_map(|_| random.next().to_le_bytes()).collect();
        let old = image(&"a".repeat(40));
        let mut new = old.clone();
        new[17 * BLOCK_BYTES..18 * BLOCK_BYTES].copy_from_slice(&noise);
        let (_folder, one) = desk(&old, &new);
        let weighed = rauc_adaptive(&one).unwrap();
        assert_eq!(weighed.index, 40 * 32);
        let content = weighed.wire - weighed.index;
        assert!((4096..4096 + 200).contains(&content), "{content}");
        let (_folder, same) = desk(&old, &old);
        assert_eq!(
            rauc_adaptive(&same).unwrap().wire,
            40 * 32,
            "where nothing changed, the index is fetched"
        );
    }

    #[test]
    fn a_store_of_blocks_gives_each_missing_block_once() {
        let mut random = crate::image::Random(1);
        let mut noise = |blocks: usize| -> Vec<u8> {
            (0..blocks * BLOCK_BYTES / 8).flat_map(|_| random.next().to_le_bytes()).collect()
        };
        let (old, one) = (noise(20), noise(1));
        // The same new block three times, behind all of the old ones.
        let new = [&old[..], &one, &one, &one].concat();
        let (_folder, desk) = desk(&old, &new);
        let weighed = fixed_blocks(&desk).unwrap();
        assert_eq!(weighed.wire - weighed.index, 4096, "noise goes as it is, once");
        // 23 digests, the last three the same: 21 of 32 bytes do not compress.
        assert!((21 * 32..23 * 32).contains(&(weighed.index as usize)), "{}", weighed.index);
    }

    #[test]
    fn a_patch_is_taken_apart_at_its_lengths_and_refused_where_they_lie() {
        let patch = |magic: &[u8], control: u64, diff: u64, body: &[u8]| {
            [magic, &control.to_le_bytes(), &diff.to_le_bytes(), &9u64.to_le_bytes(), body].concat()
        };
        let good = patch(b"BSDIFF40", 2, 3, b"ccdddee");
        assert_eq!(streams(&good).unwrap(), [&b"cc"[..], b"ddd", b"ee"]);
        for bad in [
            patch(b"BSDIFF41", 2, 3, b"ccdddee"),
            patch(b"BSDIFF40", 9, 3, b"ccdddee"),
            patch(b"BSDIFF40", 2, u64::MAX, b"ccdddee"),
            b"BSDIFF40".to_vec(),
        ] {
            assert!(streams(&bad).is_err(), "{bad:?}");
        }
    }
}
