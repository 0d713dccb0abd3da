//! Blocks of zstd and deflate, opened and closed by core, against what zstd and a library for deflate really make.

mod deflate;
mod zstd;

use mainstay_core::bundle::Encoding;
use mainstay_core::bundle::patch::{Base, PatchState, unpatch};
use mainstay_core::bundle::recode::{Room, Tables, unpatch_parts};
use mainstay_core::limits::{PART_MADE_BYTES_MAX, PART_SOURCES_BYTES_MAX, SEGMENT_BYTES};
use mainstayctl::delta::{How, Made, make, prove};

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

/// Flips some bits, mostly where descriptions stand, and cuts it short now and then.
fn spoil(bytes: &mut Vec<u8>, dice: &mut Dice) {
    for _ in 0..dice.next() % 3 + 1 {
        let room = if !dice.next().is_multiple_of(3) { bytes.len().min(80) } else { bytes.len() };
        bytes[dice.next() as usize % room] ^= 1 << (dice.next() % 8);
    }
    if dice.next().is_multiple_of(5) {
        bytes.truncate(dice.next() as usize % bytes.len());
    }
}

/// How a part of a file is packed.
type Packs = fn(&[u8]) -> Vec<u8>;

/// Files that are packed, one behind the other; `version` 1 has some bytes changed and some put in here and there.
fn image(version: u8, packs: Packs) -> Vec<u8> {
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
        content.chunks(128 << 10).for_each(|part| image.extend(packs(part)));
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
    let packers: [Packs; 3] =
        [|part| frame(part, 19), |part| deflate::zlib(part, 9), |part| deflate::gzip(part, 6)];
    packers.into_iter().enumerate().for_each(|(n, packs)| changed_a_little(packs, n == 0));
}

/// Goal: SPEC-patch, sections 11 to 13, are enough to read parts by. Method: a reader that was written from them, and from the RFCs of both
/// formats, makes the segment too; and, to see that it compares, refuses `another` one.
fn second_reader_agrees(base: &[u8], new: &[u8], at: usize, parts: &[u8], another: bool) {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        std::fs::write(folder.path().join(name), bytes).unwrap();
        folder.path().join(name)
    };
    let before = [base, &new[..at]].concat();
    let mut content = new[at..new.len().min(at + SEGMENT_BYTES)].to_vec();
    for right in [true, false].into_iter().take(1 + usize::from(another)) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../core/tests/patch/read_parts.py");
        let mut python = std::process::Command::new("python3");
        python.arg("-I").arg(script).arg(file("base", &before)).arg(file("content", &content));
        let Ok(done) = python.arg(at.to_string()).arg(file("parts", parts)).output() else {
            return println!("not run: the second reader needs python3");
        };
        assert_eq!(done.status.success(), right, "{}", String::from_utf8_lossy(&done.stderr));
        *content.last_mut().unwrap() ^= 1;
    }
}

fn changed_a_little(packs: Packs, another: bool) {
    let (base, new) = (image(0, packs), image(1, packs));
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
        recoded * 2 > all.len() && bytes * 6 < new.len() as u64,
        "{recoded} of {}; {bytes} of {}",
        all.len(),
        new.len()
    );
    assert!(made_again(&base, &new, &all).into_iter().all(|right| right));
    let begins = |(_, made): &&(u32, Made)| made.encoding == Encoding::Recoded && made.begins_piece;
    let (index, made) = all.iter().find(begins).unwrap();
    second_reader_agrees(&base, &new, *index as usize * SEGMENT_BYTES, &made.bytes, another);

    let mut drifted = base.clone();
    let middle = base.len() / 2;
    let places = [0, 3, 9, 30, 200, 3000].map(|at| middle + at);
    places.iter().for_each(|at| drifted[*at] ^= 0x10);
    let right = made_again(&drifted, &new, &all);
    let wrong = right.iter().filter(|right| !**right).count();
    assert!((1..=2).contains(&wrong) && right.len() > 6, "{right:?}");
}
