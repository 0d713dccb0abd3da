//! Goal: what a gateway reads of a segment in parts today, it reads in ten years. Method: a segment with a part of each kind, its blocks written
//! by hand (RFC 8878, RFC 1951), is golden, and is read by core and by `read_parts.py`. What packers make is in the packer's tests.

use crate::common::*;
use crate::second_reader::{PARTS, agrees};
use mainstay_core::bundle::recode::{Codec, Part, Room, Tables, patch_parts, unpatch_parts};
use mainstay_core::limits::{PART_MADE_BYTES_MAX, PART_SOURCES_BYTES_MAX};
use mainstay_core::seam::Result;

/// 50 literals `C`, and a match; all four codes are RLE.
const ZSTD: [u8; 13] = [0x55, 0, 0, 0x25, 3, b'C', 1, 0x54, 0, 2, 45, 0x87, 0x08];
const ZSTD_OPENED: [u8; 19] = [0x55, 0, 0, 0x25, 3, b'C', 1, 0x54, 0, 2, 45, 0, 255, 0x87, 2, 0, 0, 0, 4];
const DEFLATE_BITS: u32 = 30;
const DEFLATE_OPENED: [u8; 12] = [0b011, 0, 0, 1, 0, 0, 1, b'a', 1, 5, 0, 0];

/// A letter, and eight more at a distance of 1, in words of the fixed codes: the lowest [`DEFLATE_BITS`].
fn deflate(letter: u8) -> u64 {
    0x0001_8003 | u64::from((0x30 + letter).reverse_bits()) << 3
}

/// Noise, but for a block at 300, and one at bit 5 of 400.
fn base() -> Vec<u8> {
    let mut base = noise(5, 500);
    base[300..313].copy_from_slice(&ZSTD);
    base[400..405].copy_from_slice(&(deflate(b'a') << 5 | 0b10110).to_le_bytes()[..5]);
    base
}

/// 200 bytes like the base's; the block with a match of one byte more; `new`; at bit 3 of the byte behind it the other block with another
/// letter, and what fills its last byte.
fn content() -> Vec<u8> {
    let mut content = base()[..200].to_vec();
    content.iter_mut().step_by(50).for_each(|byte| *byte ^= 1);
    content.extend(ZSTD.map(|byte| if byte == 0x87 { 0x88 } else { byte }));
    content.extend(b"new");
    let bits = 0b1100110 << (3 + DEFLATE_BITS) | deflate(b'c') << 3 | 0b101;
    content.extend(&bits.to_le_bytes()[..5]);
    content
}

fn parts(base: &[u8], content: &[u8]) -> Vec<u8> {
    let zstd_items = [&[2][..], &ZSTD_OPENED.map(|byte| if byte == 0x87 { 0x88 } else { byte })].concat();
    let letter = DEFLATE_OPENED.map(|byte| if byte == b'a' { b'c' } else { byte });
    let deflate_items = [&[1][..], &letter, &[2, 7, 0b1100110]].concat();
    let parts = [
        Part::Plain { length: 200, ops: vec![add(0, 200)] },
        Part::Closed {
            codec: Codec::Zstd,
            length: 13,
            sources: &[(300, 1, 19)],
            opened: &ZSTD_OPENED,
            items: &zstd_items,
            ops: &[extra(1), add(0, 19)],
        },
        Part::Plain { length: 4, ops: vec![extra(4)] },
        Part::Closed {
            codec: Codec::Deflate { bit: 3 },
            length: 4,
            sources: &[(8 * 400 + 5, DEFLATE_BITS, 12)],
            opened: &DEFLATE_OPENED,
            items: &deflate_items,
            ops: &[extra(1), add(0, 12), extra(3)],
        },
    ];
    patch_parts(&parts, 0, &mut state(), &mut Memory::of(base), content).expect("parts that make the content")
}

fn read(parts: &[u8], base: &[u8], length: usize) -> Result<Vec<u8>> {
    let (mut opened, mut made) = (vec![0; PART_SOURCES_BYTES_MAX], vec![0; PART_MADE_BYTES_MAX]);
    let mut room = Room { tables: &mut Box::<Tables>::default(), opened: &mut opened, made: &mut made };
    let mut out = vec![0xa5; length];
    unpatch_parts(parts, 0, &mut state(), &mut Memory::of(base), &mut room, &mut out)?;
    Ok(out)
}

#[test]
fn parts_of_today_are_the_parts_of_tomorrow_and_both_readers_make_the_same_of_them() {
    let (base, content) = (base(), content());
    let parts = parts(&base, &content);
    let hex: String = parts.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, GOLDEN);
    assert_eq!(read(&parts, &base, content.len()), Ok(content.clone()));
    let Some(agreed) = agrees(PARTS, "parts", &base, &content, 0, &parts) else { return };
    assert!(agreed);
    let changed = content.iter().map(|byte| byte ^ u8::from(*byte == b'n')).collect::<Vec<_>>();
    assert_eq!(agrees(PARTS, "parts-changed", &base, &changed, 0, &parts), Some(false), "it compares");
}

/// That part's bytes are zeros then; the byte in which it begins is its own as well.
#[test]
fn a_source_that_has_drifted_spoils_the_part_that_opens_it_and_no_other() {
    let (base, content) = (base(), content());
    let parts = parts(&base, &content);
    for (at, spoiled) in [(250, 0..0), (301, 200..213), (311, 200..213), (403, 216..221)] {
        let mut drifted = base.clone();
        drifted[at] ^= 0xff;
        let made = read(&parts, &drifted, content.len()).expect("parts are read whatever the base holds");
        for (n, (made, right)) in made.iter().zip(&content).enumerate() {
            assert!(made == right || spoiled.contains(&n), "{at}: byte {n}");
        }
        assert_eq!(made == content, spoiled.is_empty(), "{at}");
    }
}

const GOLDEN: &str = concat!(
    "00c800000b000080706800c4849d801ae25c010d0000070000140000012c0100",
    "00000113000061587d3dd3c0c700040000050000508bb9225102040000090000",
    "0310000001850c0000001e00000c000050952bde4031da3420"
);
