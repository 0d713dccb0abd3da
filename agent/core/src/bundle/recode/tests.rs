//! A block by hand, and what it opens to by the specification; real ones are in the packer's tests, which have zstd.

use super::*;
use alloc::boxed::Box;
use alloc::vec;

/// 50 literals `C` (RLE), and one sequence: no literals, 650 bytes, offset value 4; its three codes are RLE.
const BLOCK: [u8; 13] =
    [10 << 3 | 2 << 1 | 1, 0, 0, 1 | 1 << 2 | 0x20, 50 >> 4, b'C', 1, 0b0101_0100, 0, 2, 45, 0x87, 0x08];
const OPENED: [u8; 19] = [
    10 << 3 | 2 << 1 | 1,
    0,
    0,
    0x25,
    3,
    b'C',
    1,
    0b0101_0100,
    0,
    2,
    45, // as they are
    0,
    255,
    0x87,
    2,
    0,
    0,
    0,
    4, // 0 literals, 3 + 647 bytes, offset value 4
];

#[test]
fn a_block_by_hand_opens_as_the_specification_says_and_closes_again() {
    let (mut out, mut tables) = (vec![0; 100], Box::<Tables>::default());
    assert_eq!(tables.open(&[&BLOCK[..], b"more"].concat(), &mut out), Ok((13, 19)));
    assert_eq!(out[..19], OPENED);
    assert_eq!(tables.close(&[&OPENED[..], b"more"].concat(), &mut out), Ok((19, 13)));
    assert_eq!(out[..13], BLOCK);
}

#[test]
fn what_does_not_fit_its_header_or_its_room_is_not_closed() {
    let (mut out, mut tables) = (vec![0; 100], Box::<Tables>::default());
    for (at, byte) in
        [(0, 9 << 3 | 2 << 1 | 1), (6, 2), (7, 0b1111_0100), (10, 60), (15, 3), (16, 3), (13, 0x88)]
    {
        let mut opened = OPENED;
        opened[at] = byte;
        // Another match length takes as many bits: it closes to another block.
        let closes = tables.close(&opened, &mut out).is_ok();
        assert_eq!(closes, at == 13, "{at}");
        tables.forget();
    }
    assert_eq!(tables.close(&OPENED, &mut out[..12]), Err(Unopened));
    assert_eq!(tables.open(&BLOCK, &mut out[..18]), Err(Unopened));
    assert!((0..13).all(|length| tables.open(&BLOCK[..length], &mut out).is_err()));
}

/// Nine times `a`: one literal, and eight at a distance of 1, in words of the fixed code.
const NINE: [u8; 4] = [0x4b, 0x84, 0x01, 0x00];
#[rustfmt::skip]
const NINE_OPENED: [u8; 12] = [
    0b011, // the last block, of fixed codes
    0, 0, 1, 0, 0, 1, // a literal, a match
    b'a',
    1, 8 - 3, 0, 0, // behind one literal, eight bytes, at a distance of 1
];

#[test]
fn a_block_of_deflate_by_hand_opens_as_the_specification_says_and_closes_again_at_any_bit() {
    let (mut out, mut tables) = (vec![0; 100], Box::<Tables>::default());
    let word = u32::from_le_bytes(NINE);
    let bits = 3 + 8 + 7 + 5 + 7;
    for bit in 0..8 {
        let moved = ((u64::from(word) << bit) | ((1 << bit) - 1)).to_le_bytes();
        assert_eq!(tables.open_deflate(&moved, bit, &mut out), Ok((bits, 12)), "bit {bit}");
        assert_eq!(out[..12], NINE_OPENED);
        out.fill(0xff);
        let closed = tables.close_deflate(&[&NINE_OPENED[..], b"more"].concat(), bit as u32, &mut out);
        assert_eq!(closed, Ok((12, bit + bits)), "bit {bit}");
        assert_eq!(out[..(bit + bits).div_ceil(8)], moved[..(bit + bits).div_ceil(8)], "bit {bit}");
    }
    assert_eq!(tables.open_deflate(&NINE, 0, &mut out[..11]), Err(Unopened));
    assert_eq!(tables.close_deflate(&NINE_OPENED, 0, &mut out[..3]), Err(Unopened));
    assert!((0..4).all(|length| tables.open_deflate(&NINE[..length], 0, &mut out).is_err()));
    assert!((0..12).all(|length| tables.close_deflate(&NINE_OPENED[..length], 0, &mut out).is_err()));
    for (at, byte) in [(0, 0b001), (0, 0b111), (3, 2), (6, 2), (8, 2)] {
        let mut opened = NINE_OPENED;
        opened[at] = byte;
        assert_eq!(tables.close_deflate(&opened, 0, &mut out), Err(Unopened), "{at}");
    }
}
