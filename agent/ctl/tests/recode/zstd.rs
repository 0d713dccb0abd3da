//! Blocks of zstd.

use super::{Dice, contents, frame, spoil};
use mainstay_core::bundle::recode::{Tables, Unopened};
use mainstayctl::zstd::header_bytes;

/// Goal: what zstd has packed is made again to the byte, at every level, block by block, tables taken over included. Method: open
/// each block of real frames, close what came out with tables of its own, compare.
#[test]
fn every_block_of_real_frames_is_made_again() {
    let (mut blocks, mut taken_over, mut unopened) = (0, 0, 0);
    for content in contents() {
        for level in [-5, 1, 2, 3, 4, 5, 6, 7, 9, 12, 15, 17, 19, 22] {
            let frame = frame(&content, level);
            let (mut opening, mut closing) = (Box::<Tables>::default(), Box::<Tables>::default());
            let (mut at, mut opened, mut closed) = (header_bytes(&frame), vec![0; 1 << 20], vec![0; 1 << 18]);
            loop {
                let (used, made) = match opening.open(&frame[at..], &mut opened) {
                    Ok(done) => done,
                    // A length of more than 65535 has no room in a record.
                    Err(Unopened) => {
                        unopened += 1;
                        break;
                    }
                };
                let (read, written) = closing.close(&opened[..made], &mut closed).unwrap();
                assert_eq!(
                    (read, &closed[..written]),
                    (made, &frame[at..at + used]),
                    "level {level}, byte {at}"
                );
                taken_over += u32::from(Box::<Tables>::default().open(&frame[at..], &mut opened).is_err());
                blocks += 1;
                if frame[at] & 1 == 1 {
                    break;
                }
                at += used;
            }
        }
    }
    assert!(unopened < 30, "{unopened} frames of 140 with a block that cannot be opened");
    assert!(blocks > 300 && taken_over > 5, "{blocks} blocks, {taken_over} with tables of the one before");
}

/// Goal: hostile blocks and hostile records cost an error or other bytes, never a panic or more than there is room for. Method: flip
/// bits of real ones, cut them short, and give little room.
#[test]
fn blocks_and_what_they_open_to_may_say_anything() {
    let mut dice = Dice(2);
    let (mut refused, mut made_other) = (0, 0);
    for content in contents() {
        let frame = frame(&content, 5);
        let from = header_bytes(&frame);
        let (mut opened, mut closed) = (vec![0; 1 << 20], vec![0; 1 << 18]);
        let Ok((used, made)) = Box::<Tables>::default().open(&frame[from..], &mut opened) else { continue };
        let (block, items) = (frame[from..from + used].to_vec(), opened[..made].to_vec());
        for _ in 0..400 {
            let (mut block, mut items) = (block.clone(), items.clone());
            [&mut block, &mut items].into_iter().for_each(|bytes| spoil(bytes, &mut dice));
            let room = if dice.next().is_multiple_of(7) { dice.next() as usize % made } else { opened.len() };
            match Box::<Tables>::default().open(&block, &mut opened[..room]) {
                Ok((used, made)) => {
                    assert!(used <= block.len() && made <= room);
                    made_other += 1;
                }
                Err(_) => refused += 1,
            }
            match Box::<Tables>::default().close(&items, &mut closed) {
                Ok((used, made)) => {
                    assert!(used <= items.len() && made <= closed.len());
                    made_other += 1;
                }
                Err(_) => refused += 1,
            }
        }
    }
    assert!(refused > 1000 && made_other > 100, "{refused} refused, {made_other} made something else");
}
