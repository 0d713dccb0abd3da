//! Goal: `agent/docs/SPEC-patch.md` is enough to read patches by. Method: `read.py` was written from it alone; it reads frames with every
//! operation and every transform on bytes in which each of them finds what it looks for, and refuses one that was changed.

use crate::common::*;
use mainstay_core::bundle::patch::{From, Map, Op, Transform, patch};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Reads a frame.
const FRAME: &str = "read.py";
/// Reads a segment in parts.
pub const PARTS: &str = "read_parts.py";

/// What `script` says; `None` where there is no Python.
pub fn agrees(script: &str, name: &str, base: &[u8], content: &[u8], at: u64, frame: &[u8]) -> Option<bool> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("second-reader-{name}"));
    fs::create_dir_all(&folder).unwrap();
    let file = |name: &str, bytes: &[u8]| {
        fs::write(folder.join(name), bytes).unwrap();
        folder.join(name)
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/patch").join(script);
    let mut python = Command::new("python3");
    python.arg("-I").arg(script).arg(file("base", base)).arg(file("content", content));
    match python.arg(at.to_string()).arg(file("frame", frame)).output() {
        Ok(done) => {
            println!("{name}: {}", String::from_utf8_lossy(&done.stderr));
            Some(done.status.success())
        }
        Err(e) => {
            println!("not run: the second reader needs python3 ({e})");
            None
        }
    }
}

/// 64 words, of which each transform takes some for its own: calls, addresses, entries of unwind tables, ADRP and what completes it.
fn likely(seed: u32) -> Vec<u8> {
    let mut bytes = noise(seed, 256);
    for (at, word) in bytes.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        let random = u32::from_le_bytes(*word);
        let likely = match (at / 8, at % 8) {
            (0, 1 | 5) => 0x9000_0000 | random & 0x60ff_ffe1, // adrp x0 or x1
            (0, 2 | 6) => 0x9100_0000 | random & 0x003f_fc3f, // add
            (0, 7) => 0x3dc0_0000 | random & 0x003f_fc3f,     // ldr q
            (1, 0 | 4) => 0x9400_0000 | random & 0x00ff_ffff, // bl
            (1, 2) => 0x1000_0000 | random & 0x60ff_ffff,     // adr
            (2, n) if n % 2 == 1 => 0,                        // upper halves of addresses
            (3, 0) => 24,
            (3, 1) => random & 0xffc | 4,
            (4, _) => 0xe8 | random & 0x00ff_ff00, // call
            (5, n) if n % 2 == 0 => 0x058d_4800,   // lea rax, [rip + …]
            _ => random,
        };
        *word = likely.to_le_bytes();
    }
    bytes
}

#[test]
fn reader_written_from_the_specification_alone_agrees() {
    let base: Vec<u8> = (0..32).flat_map(likely).collect();
    let changed = |at: usize, length: usize, map: &Map, transform: Transform, anchor: u32| {
        let mut bytes = base[at..at + length].to_vec();
        transform.apply(&mut bytes, at as u32 + 16, anchor, map);
        assert!(
            transform == Transform::None || bytes != base[at..at + length],
            "{transform:?} finds nothing"
        );
        bytes.iter_mut().skip(at % 7).step_by(29).for_each(|byte| *byte = byte.wrapping_add(40));
        bytes
    };
    let map = map(16, &[(0, 0x1230), (3000, 0x2340), (1 << 20, -64), (1 << 31, 0x7_0008), (u32::MAX, 0)]);
    let (mut ops, mut content) = (vec![], vec![]);
    for (n, transform) in Transform::ALL.into_iter().cycle().take(20).enumerate() {
        let (at, length) = (n * 330 + n % 5, 900 + n);
        let (address, anchor) = (at as u32 + 16, 4 * n as u32);
        ops.push(Op::Add { length: length as u32, from: From { at: at as u64, transform, address, anchor } });
        content.extend(changed(at, length, &map, transform, anchor));
        ops.extend([extra(9), copy(n as u64 * 100, 50)]);
        content.extend(noise(n as u32, 9).iter().map(|byte| byte & 3));
        content.extend(&base[n * 100..][..50]);
    }
    ops.push(extra(200)); // noise: stored
    content.extend(noise(99, 200));
    let at = 1 << 33;
    let frame = patch(&ops, Some(&map), at, &mut state(), &mut Memory::of(&base), &content).unwrap();
    let Some(read) = agrees(FRAME, "whole", &base, &content, at, &frame) else { return };
    assert!(read);
    let mut changed = frame.clone();
    changed[frame.len() / 2] ^= 1;
    assert_eq!(agrees(FRAME, "changed", &base, &content, at, &changed), Some(false), "it compares");
}
