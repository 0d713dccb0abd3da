//! Blocks of zstd, opened and closed by core, against frames that zstd itself makes.

use mainstay_core::bundle::Encoding;
use mainstay_core::bundle::patch::{Base, PatchState, unpatch};
use mainstay_core::bundle::recode::{Room, Tables, Unopened, unpatch_parts};
use mainstay_core::limits::{PART_MADE_BYTES_MAX, PART_SOURCES_BYTES_MAX, SEGMENT_BYTES};
use mainstayctl::delta::{How, Made, make, prove};
use mainstayctl::zstd::header_bytes;

/// The same numbers each time.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }
}

fn frame(content: &[u8], level: i32) -> Vec<u8> {
    let mut frame = vec![0; zstd_safe::compress_bound(content.len())];
    let length = zstd_safe::compress(frame.as_mut_slice(), content, level).unwrap();
    frame.truncate(length);
    frame
}

/// Contents of many kinds: words, numbers, code-like, noise, all the same, and what is short.
fn contents() -> Vec<Vec<u8>> {
    let mut dice = Dice(1);
    let words: Vec<u8> = (0..60_000).flat_map(|_| format!("w{} ", dice.next() % 300).into_bytes()).collect();
    let numbers: Vec<u8> = (0..90_000u32).flat_map(|n| (n.wrapping_mul(n) / 7).to_le_bytes()).collect();
    let rare: Vec<u8> =
        (0..300_000).map(|_| if dice.next().is_multiple_of(9) { dice.next() as u8 } else { 0 }).collect();
    let noise: Vec<u8> = (0..200_000).map(|_| dice.next() as u8).collect();
    let few: Vec<u8> = (0..150_000).map(|_| b'a' + (dice.next() % 5) as u8).collect();
    let mixed = [&words[..40_000], &noise[..20_000], &numbers[..70_000], &few[..50_000]].concat();
    let long = [noise[..5000].repeat(60), words.clone()].concat();
    vec![
        words,
        numbers,
        rare,
        noise,
        few,
        mixed,
        long,
        vec![7; 400_000],
        b"short".to_vec(),
        b"a b a b a b a c".repeat(3),
    ]
}

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
            for bytes in [&mut block, &mut items] {
                for _ in 0..dice.next() % 3 + 1 {
                    // Mostly where descriptions stand.
                    let room = if !dice.next().is_multiple_of(3) { bytes.len().min(80) } else { bytes.len() };
                    bytes[dice.next() as usize % room] ^= 1 << (dice.next() % 8);
                }
                if dice.next().is_multiple_of(5) {
                    bytes.truncate(dice.next() as usize % bytes.len());
                }
            }
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

/// Files that are packed, one behind the other; `version` 1 has some bytes changed and some put in here and there.
fn image(version: u8) -> Vec<u8> {
    let mut dice = Dice(3);
    let mut image = Vec::new();
    for file in 0..70 {
        let mut content: Vec<u8> = (0..9000)
            .flat_map(|_| {
                let word = dice.next() % 4000;
                format!("{:x}{} ", word * word, if word.is_multiple_of(3) { "pump" } else { "" }).into_bytes()
            })
            .collect();
        if version == 1 {
            for at in [1000, 20_000, 41_000] {
                content.splice(at..at + 2, format!("<{file}>").into_bytes());
            }
        }
        content.chunks(128 << 10).for_each(|part| image.extend(frame(part, 19)));
    }
    image
}

/// What a patch reads.
struct Held<'a>(&'a [u8], u64);

impl Base for Held<'_> {
    fn bytes(&self) -> u64 {
        self.1
    }
    fn read(&mut self, at: u64, out: &mut [u8]) -> mainstay_core::seam::Result<()> {
        out.fill(0);
        let from = self.0.get(at as usize..).unwrap_or_default();
        out.iter_mut().zip(from).for_each(|(to, byte)| *to = *byte);
        Ok(())
    }
}

/// Makes all segments as a gateway does, of a base that may not be what it was.
fn made_again(base: &[u8], new: &[u8], all: &[(u32, Made)]) -> Vec<bool> {
    let (mut state, mut tables) = (Box::<PatchState>::default(), Box::<Tables>::default());
    let (mut opened, mut made) = (vec![0; PART_SOURCES_BYTES_MAX], vec![0; PART_MADE_BYTES_MAX]);
    let segments = all.iter().zip(new.chunks(SEGMENT_BYTES)).map(|((index, part), content)| {
        let at = u64::from(*index) * SEGMENT_BYTES as u64;
        if part.begins_piece {
            state.reset();
        }
        let before = [base, &new[..at as usize]].concat();
        let mut out = vec![0; content.len()];
        let mut held = Held(&before, before.len() as u64);
        match part.encoding {
            Encoding::Recoded => {
                let mut room = Room { tables: &mut tables, opened: &mut opened, made: &mut made };
                unpatch_parts(&part.bytes, at, &mut state, &mut held, &mut room, &mut out).unwrap();
            }
            Encoding::Patch => unpatch(&part.bytes, at, &mut state, &mut held, &mut out).unwrap(),
            Encoding::Copy => held.read(at, &mut out).unwrap(),
            _ => return true,
        }
        out == content
    });
    segments.collect()
}

/// Goal: packed files that have changed a little cost a little; and where the base has drifted, that costs its own segments alone. Method:
/// make, prove, and weigh beside the packed bytes; then flip bytes of the base, in a block's head, its tables and its streams.
#[test]
fn packed_files_that_changed_a_little_cost_a_little_and_drift_costs_its_own_segments() {
    let (base, new) = (image(0), image(1));
    let how = How { level: 3, threads: 2, transforms: true };
    let mut all = Vec::new();
    let summary = make(&&base[..], &&new[..], how, &|_| {}, &mut |index, made| {
        all.push((index, made));
        Ok(())
    });
    let bytes = summary.unwrap().bytes();
    prove(&&base[..], &&new[..], all.clone()).unwrap();
    let recoded = all.iter().filter(|(_, made)| made.encoding == Encoding::Recoded).count();
    assert!(
        recoded * 2 > all.len() && bytes * 3 < new.len() as u64,
        "{recoded} of {}; {bytes} of {}",
        all.len(),
        new.len()
    );
    assert!(made_again(&base, &new, &all).into_iter().all(|right| right));

    let mut drifted = base.clone();
    let middle = base.len() / 2;
    let places = [0, 3, 9, 30, 200, 3000].map(|at| middle + at);
    places.iter().for_each(|at| drifted[*at] ^= 0x10);
    let right = made_again(&drifted, &new, &all);
    let wrong = right.iter().filter(|right| !**right).count();
    assert!((1..=2).contains(&wrong) && right.len() > 6, "{right:?}");
}
