//! AArch64 code when all that it points to has moved (Arm ARM, DDI 0487, sections C3.1, C4.1 and C6.2): B and BL, ADR, and ADRP
//! with the ADD, load or store that completes the address.
//!
//! An ADRP gives the page of its target, the instruction that completes it the place within: only both together say
//! where it points, so a register's ADRP is remembered until the next into the same register, and both are made anew at each completion
//! (one ADRP may serve several, all within its page).

use super::predict::Map;

/// An ADRP that waits for its completion: where it stands, and the page that it makes.
type Pages = [Option<(usize, u32)>; 32];

/// Predicts code that begins at `address` and has moved by `moved`.
pub fn code(bytes: &mut [u8], address: u32, moved: i32, map: &Map) {
    let first = (address.wrapping_neg() % 4) as usize;
    let Some(aligned) = bytes.get_mut(first..) else { return };
    let words = aligned.as_chunks_mut::<4>().0;
    let (base, mut pages) = (address.wrapping_add(first as u32), [None; 32]);
    for at in 0..words.len() {
        let here = base.wrapping_add((at as u32).wrapping_mul(4));
        let word = words.get(at).map_or(0, |word| u32::from_le_bytes(*word));
        let new = match word {
            word if word & 0x7c00_0000 == 0x1400_0000 => branch(word, here, moved, map),
            word if word & 0x9f00_0000 == 0x1000_0000 => adr(word, here, moved, map),
            word if word & 0x9f00_0000 == 0x9000_0000 => {
                let page = (here & !0xfff).wrapping_add_signed(immediate21(word) << 12);
                if let Some(slot) = pages.get_mut((word & 31) as usize) {
                    *slot = Some((at, page));
                }
                None
            }
            word => complete(word, words, &mut pages, base, moved, map),
        };
        if let (Some(new), Some(place)) = (new, words.get_mut(at)) {
            *place = new.to_le_bytes();
        }
    }
}

fn branch(word: u32, here: u32, moved: i32, map: &Map) -> Option<u32> {
    let distance = ((word << 6) as i32) >> 4;
    let shift = map.shift(here.wrapping_add_signed(distance))?;
    let new = distance.wrapping_add(shift).wrapping_sub(moved);
    Some(word & 0xfc00_0000 | (new >> 2) as u32 & 0x03ff_ffff)
}

fn adr(word: u32, here: u32, moved: i32, map: &Map) -> Option<u32> {
    let distance = immediate21(word);
    let shift = map.shift(here.wrapping_add_signed(distance))?;
    Some(with_immediate21(word, distance.wrapping_add(shift).wrapping_sub(moved)))
}

/// ADD (immediate, no shift) and loads and stores with an unsigned offset.
fn complete(
    word: u32,
    words: &mut [[u8; 4]],
    pages: &mut Pages,
    base: u32,
    moved: i32,
    map: &Map,
) -> Option<u32> {
    let scale = match word {
        word if word & 0xffc0_0000 == 0x9100_0000 => 0,
        word if word & 0x3b00_0000 == 0x3900_0000 => {
            let vector = word >> 26 & 1 == 1 && word >> 23 & 1 == 1 && word >> 30 == 0;
            if vector { 4 } else { word >> 30 }
        }
        _ => return None,
    };
    let slot = pages.get_mut((word >> 5 & 31) as usize)?;
    let (at, page) = (*slot)?;
    let old = page.wrapping_add((word >> 10 & 0xfff) << scale);
    let new = old.wrapping_add_signed(map.shift(old)?);
    let here = base.wrapping_add((at as u32).wrapping_mul(4)).wrapping_add_signed(moved);
    let place = words.get_mut(at)?;
    let distance = (new & !0xfff).wrapping_sub(here & !0xfff) as i32 >> 12;
    *place = with_immediate21(u32::from_le_bytes(*place), distance).to_le_bytes();
    Some(word & !(0xfff << 10) | ((new & 0xfff) >> scale) << 10)
}

fn immediate21(word: u32) -> i32 {
    let value = (word >> 5 & 0x7_ffff) << 2 | word >> 29 & 3;
    ((value << 11) as i32) >> 11
}

fn with_immediate21(word: u32, value: i32) -> u32 {
    let value = value as u32;
    word & 0x9f00_001f | (value & 3) << 29 | (value >> 2 & 0x7_ffff) << 5
}
