//! Each transform on bytes made by hand. The encodings are those of the Intel SDM, volume 2, and of the Arm ARM (DDI 0487),
//! section C6.2; what stands behind each is what an assembler's listing shows.

use crate::common::map;
use mainstay_core::bundle::patch::{Map, Transform};

/// Code at 0x1000 has moved by 16, what it points to at 0x8000 by 0x1234 * 16 = 0x12340; from 0x20000 on nothing is known.
fn moves() -> Box<Map> {
    map(0x40_0000, &[(0x1000, 16), (0x8000, 0x12340), (0x2_0000, 0)])
}

fn applied(transform: Transform, bytes: &[u8], address: u32, anchor: u32) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    transform.apply(&mut bytes, address, anchor, &moves());
    bytes
}

fn x86(transform: Transform, opcode: &[u8], distance: i32) -> Vec<u8> {
    let made =
        applied(transform, &[&[0x90], opcode, &distance.to_le_bytes()[..], &[0x90; 6]].concat(), 0x1000, 0);
    assert_eq!(made[..1 + opcode.len()], [&[0x90], opcode].concat(), "what is not a distance stays");
    made[1 + opcode.len()..].to_vec()
}

#[test]
fn x86_distances_follow_their_targets() {
    let rows: [(Transform, &[u8]); 9] = [
        (Transform::Calls, &[0xe8]),           // call rel32
        (Transform::Calls, &[0xe9]),           // jmp rel32
        (Transform::Calls, &[0x0f, 0x84]),     // je rel32
        (Transform::Calls, &[0x0f, 0x8f]),     // jg rel32
        (Transform::X86, &[0xe8]),             // call rel32
        (Transform::X86, &[0x0f, 0x80]),       // jo rel32
        (Transform::X86, &[0x48, 0x8d, 0x05]), // lea rax, [rip + disp32]
        (Transform::X86, &[0x48, 0x8b, 0x3d]), // mov rdi, [rip + disp32]
        (Transform::X86, &[0xff, 0x25]),       // jmp [rip + disp32]
    ];
    for (transform, opcode) in rows {
        let far = x86(transform, opcode, 0x7100);
        assert_eq!(far[..4], (0x7100 + 0x12340 - 16i32).to_le_bytes(), "{opcode:x?}");
        let near = x86(transform, opcode, 0x100);
        assert_eq!(near[..4], 0x100i32.to_le_bytes(), "{opcode:x?}: both ends have moved alike");
        let outside = x86(transform, opcode, 0x7fff_0000);
        assert_eq!(outside[..4], 0x7fff_0000i32.to_le_bytes(), "{opcode:x?}: not in the executable");
    }
    let lea = x86(Transform::Calls, &[0x48, 0x8d, 0x05], 0x7100);
    assert_eq!(lea[..4], 0x7100i32.to_le_bytes(), "calls alone");
}

#[test]
fn addresses_follow_what_they_point_to() {
    let words = |words: [u64; 4]| words.map(u64::to_le_bytes).concat();
    let old = words([0x40_9000, 0x40_1100, 0x40_0020, 7]);
    let new = words([0x40_9000 + 0x12340, 0x40_1110, 0x40_0020, 7]);
    assert_eq!(applied(Transform::Address, &old, 0x1000, 0), new);
    let shifted = [&[1, 2, 3], &old[..]].concat();
    assert_eq!(
        applied(Transform::Address, &shifted, 0x1005, 0),
        [&[1, 2, 3], &new[..]].concat(),
        "at multiples of 8"
    );
}

#[test]
fn distances_follow_both_of_their_ends() {
    let words = |words: [i32; 3]| words.map(i32::to_le_bytes).concat();
    let old = words([0x7100, 60, 0x7100]);
    let new = words([0x7100 + 0x12340 - 16, 60, 0x7100 + 0x12340 - 16]);
    assert_eq!(applied(Transform::Distance, &old, 0x1000, 0), new, "what is small is a length");
    assert_eq!(
        applied(Transform::Distance, &[&[9], &old[..]].concat(), 0x1003, 0),
        [&[9], &new[..]].concat()
    );
    let (old, new) =
        (words([0x100, -0x7000, 0x7fff_ffff]), words([0x100, 16 - 0x7000 - 0x12340, 0x7fff_ffff]));
    assert_eq!(applied(Transform::Anchored, &old, 0x1000, 0x8000), new);
}

/// An unwind table as `readelf --debug-dump=frames` shows it: a header of 20 bytes, then two entries, which say where their header and
/// their function are. The table has moved by 16, functions from 0x8000 on by 0x12340; the header stands where it stood.
#[test]
fn unwind_entries_follow_their_functions_and_their_header() {
    let table = |moved: i32, shift: i32| {
        let entry = |at: i32, function: i32| {
            let (header, begins) = (at + 4 - 0x1000 + moved, function + shift - (at + 8 + moved));
            [20, header, begins, 0x40, 0x0e10_4100, 0x0008_0e47_u32 as i32].map(i32::to_le_bytes).concat()
        };
        let header = [16, 0, 0x0052_7a01, 0x0110_7801, 0x0807_0c1b].map(i32::to_le_bytes).concat();
        [header, entry(0x1014, 0x8100), entry(0x102c, 0x8200)].concat()
    };
    let moves = map(0x40_0000, &[(0, 0), (0x1014, 16), (0x8000, 0x12340), (0x2_0000, 0)]);
    let mut entries = table(0, 0).split_off(20);
    Transform::Frames.apply(&mut entries, 0x1014, 0, &moves);
    assert_eq!(entries, table(16, 0x12340).split_off(20));
    let mut shifted = [&[7; 3][..], &table(0, 0)[20..]].concat();
    Transform::Frames.apply(&mut shifted, 0x1011, 0, &moves);
    assert_eq!(shifted[..3], [7; 3], "at multiples of 4");
    let other = [24, 3, 0x7100, 0, 0, 0, 0].map(i32::to_le_bytes).concat();
    let mut same = other.clone();
    Transform::Frames.apply(&mut same, 0x1014, 0, &moves);
    assert_eq!(same, other, "no header stands at an odd distance");
}

const NOP: u32 = 0xd503_201f;

fn arm64(words: &[u32]) -> Vec<u32> {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let made = applied(Transform::Arm64, &bytes, 0x1000, 0);
    made.chunks(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect()
}

/// B: 000101 imm26; BL: 100101 imm26, in words (C6.2.26, C6.2.34).
#[test]
fn arm64_branches_follow_their_targets() {
    for opcode in [0x1400_0000, 0x9400_0000] {
        assert_eq!(arm64(&[opcode | 0x7100 >> 2])[0], opcode | (0x7100 + 0x12340 - 16) >> 2);
        assert_eq!(arm64(&[opcode | 2])[0], opcode | 2, "both ends have moved alike");
        assert_eq!(arm64(&[opcode | 0x03ff_ffff])[0], opcode | 0x03ff_ffff, "outside of the executable");
    }
}

/// ADR: immlo at 29, immhi at 5 (C6.2.12). `adr x3, .+0x7103` and where it points now.
#[test]
fn arm64_adr_follows_its_target() {
    let adr = |distance: u32| 0x1000_0003 | (distance & 3) << 29 | (distance >> 2) << 5;
    assert_eq!(arm64(&[adr(0x7103)])[0], adr(0x7103 + 0x12340 - 16));
}

/// ADRP x1, and what completes it to 0x8120. Then 0x8120 + 0x12340 = 0x1a460: from the page of 0x1010 on, 0x19 pages.
#[test]
fn arm64_adrp_and_what_completes_it_follow_together() {
    let adrp = |pages: u32| 0x9000_0001 | (pages & 3) << 29 | (pages >> 2) << 5;
    assert_eq!((adrp(1), adrp(4)), (0xb000_0001, 0x9000_0021), "as an assembler makes them");
    let rows = [
        (0x9100_0022, 0), // add x2, x1, #imm
        (0x3940_0022, 0), // ldrb w2, [x1, #imm]
        (0x7940_0022, 1), // ldrh w2, [x1, #imm]
        (0xb940_0022, 2), // ldr w2, [x1, #imm]
        (0xf940_0022, 3), // ldr x2, [x1, #imm]
        (0xf900_0022, 3), // str x2, [x1, #imm]
        (0xb980_0022, 2), // ldrsw x2, [x1, #imm]
        (0x3d40_0022, 0), // ldr b2, [x1, #imm]
        (0x7d40_0022, 1), // ldr h2, [x1, #imm]
        (0xbd40_0022, 2), // ldr s2, [x1, #imm]
        (0xfd40_0022, 3), // ldr d2, [x1, #imm]
        (0x3dc0_0022, 4), // ldr q2, [x1, #imm]
        (0x3d80_0022, 4), // str q2, [x1, #imm]
    ];
    for (opcode, scale) in rows {
        let made = arm64(&[adrp(7), NOP, opcode | (0x120 >> scale) << 10]);
        assert_eq!(made, [adrp(0x19), NOP, opcode | (0x460 >> scale) << 10], "{opcode:08x}");
    }
    let other = arm64(&[adrp(7), 0x9100_0062 | 0x120 << 10]);
    assert_eq!(other, [adrp(7), 0x9100_0062 | 0x120 << 10], "add x2, x3: another register");
    let lsl = arm64(&[adrp(7), 0x9140_0022 | 0x120 << 10]);
    assert_eq!(lsl, [adrp(7), 0x9140_0022 | 0x120 << 10], "add with lsl #12 completes nothing");
}

#[test]
fn code_outside_of_the_map_is_left_alone() {
    let bytes = vec![0xe8; 64];
    for transform in Transform::ALL {
        assert_eq!(applied(transform, &bytes, 0x10, 0), bytes);
        assert_eq!(applied(transform, &bytes, 0x2_0000, 0), bytes);
    }
}
