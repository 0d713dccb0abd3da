//! Blocks of deflate.

use super::{Dice, contents, spoil};
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use mainstay_core::bundle::recode::Tables;
use std::io::Write;

pub fn zlib(content: &[u8], level: u32) -> Vec<u8> {
    let mut packs = ZlibEncoder::new(Vec::new(), Compression::new(level));
    packs.write_all(content).unwrap();
    packs.finish().unwrap()
}

pub fn gzip(content: &[u8], level: u32) -> Vec<u8> {
    let mut packs = GzEncoder::new(Vec::new(), Compression::new(level));
    packs.write_all(content).unwrap();
    packs.finish().unwrap()
}

/// Walks through a stream of zlib's: `each` gets the bit at which a block begins, and says where it ends, if it can.
fn blocks(stream: &[u8], each: &mut dyn FnMut(usize) -> Option<usize>) {
    let mut at = 16;
    loop {
        let bit = |n: usize| stream[(at + n) / 8] >> ((at + n) % 8) & 1;
        let (last, stored) = (bit(0) == 1, bit(1) == 0 && bit(2) == 0);
        at = match stored {
            true => {
                let begins = (at + 3).div_ceil(8);
                8 * (begins + 4 + usize::from(u16::from_le_bytes([stream[begins], stream[begins + 1]])))
            }
            false => match each(at) {
                Some(end) => end,
                None => return,
            },
        };
        if last {
            assert_eq!(at.div_ceil(8) + 4, stream.len());
            return;
        }
    }
}

/// Goal: what deflate has packed is made again to the bit, at every level, wherever in a byte a block begins. Method: open each block of
/// real streams, close what came out behind the bits that stand before it, compare.
#[test]
fn every_block_of_real_streams_is_made_again() {
    let (mut count, mut begins) = (0, [0; 8]);
    let (mut opened, mut closed) = (vec![0; 1 << 20], vec![0; 1 << 19]);
    let (mut opening, mut closing) = (Box::<Tables>::default(), Box::<Tables>::default());
    for content in contents() {
        for level in 1..=9 {
            let stream = zlib(&content, level);
            blocks(&stream, &mut |at| {
                let (from, bit) = (at / 8, at % 8);
                let (bits, made) = opening.open_deflate(&stream[from..], bit, &mut opened).unwrap();
                closed.fill(0xff);
                closed[0] = stream[from];
                let (used, end) = closing.close_deflate(&opened[..made], bit as u32, &mut closed).unwrap();
                assert_eq!((used, end), (made, bit + bits), "level {level}, bit {at}");
                let whole = end / 8;
                assert_eq!(closed[..whole], stream[from..from + whole], "level {level}, bit {at}");
                let mask = (1u8 << (end % 8)) - 1;
                assert!(end.is_multiple_of(8) || closed[whole] == stream[from + whole] & mask);
                assert!(closed[end.div_ceil(8)..].iter().all(|byte| *byte == 0xff), "and nothing beyond");
                (count, begins[bit]) = (count + 1, begins[bit] + 1);
                Some(at + bits)
            });
        }
    }
    assert!(count > 200 && begins.iter().all(|count| *count > 0), "{count} blocks, {begins:?}");
}

/// Goal: hostile blocks and hostile records cost an error or other bytes, never a panic or more than there is room for. Method: flip
/// bits of real ones, cut them short, and give little room.
#[test]
fn blocks_and_what_they_open_to_may_say_anything() {
    let mut dice = Dice(5);
    let (mut refused, mut made_other) = (0, 0);
    let (mut opened, mut closed) = (vec![0; 1 << 20], vec![0; 1 << 19]);
    let mut tables = Box::<Tables>::default();
    for content in contents() {
        let stream = zlib(&content, 6);
        let Ok((_, made)) = tables.open_deflate(&stream, 16, &mut opened) else { continue };
        let items = opened[..made].to_vec();
        for _ in 0..400 {
            let (mut stream, mut items) = (stream.clone(), items.clone());
            [&mut stream, &mut items].into_iter().for_each(|bytes| spoil(bytes, &mut dice));
            let room = if dice.next().is_multiple_of(7) { dice.next() as usize % made } else { opened.len() };
            match tables.open_deflate(&stream, 16, &mut opened[..room]) {
                Ok((bits, made)) => {
                    assert!(16 + bits <= 8 * stream.len() && made <= room);
                    made_other += 1;
                }
                Err(_) => refused += 1,
            }
            let room = if dice.next().is_multiple_of(7) { dice.next() as usize % 100 } else { closed.len() };
            match tables.close_deflate(&items, 3, &mut closed[..room]) {
                Ok((used, end)) => {
                    assert!(used <= items.len() && end <= 8 * room);
                    made_other += 1;
                }
                Err(_) => refused += 1,
            }
        }
    }
    assert!(refused > 1000 && made_other > 100, "{refused} refused, {made_other} made something else");
}
