//! Slots on image files: bounds, refusals, tails, partition tables whole and damaged, and what another writer sees.
//! What needs a block device stands in `loop_devices.rs`.

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use mainstay_board_support::slots::{Access, Gpt};
use mainstay_board_support::{Board, BoardSlots};
use mainstay_core::boot::Group;
use mainstay_core::bundle::VerifiedSegment;
use mainstay_core::digest::Digest;
use mainstay_core::fault::FaultKind;
use mainstay_core::limits::SEGMENT_BYTES;
use mainstay_core::seam::{Result, SlotWriter};
use tempfile::TempDir;

const MIB: u64 = 1 << 20;

/// A folder with an image file and a board on it.
struct Bench {
    folder: TempDir,
}

impl Bench {
    /// An image of `bytes` bytes, all of them 0xEE: what stands there before an update.
    fn new(bytes: u64) -> Bench {
        // Under target/, which is on a disk more often than /tmp is.
        let bench = Bench { folder: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap() };
        std::fs::write(bench.image(), vec![0xEE; bytes as usize]).unwrap();
        bench
    }

    fn image(&self) -> PathBuf {
        self.folder.path().join("disk.img")
    }

    /// The board whose slots are these parts of the image.
    fn board(&self, a: &str, b: &str) -> Board {
        let text = format!(
            "compatible = \"bench\"\n\
             [boot]\nbootloader = \"grub\"\nenvironment = {{ path = \"grubenv\" }}\n\
             [[slot]]\ngroup = \"A\"\nclass = \"rootfs\"\ndevice = \"disk.img\"\n{a}\n\
             [[slot]]\ngroup = \"B\"\nclass = \"rootfs\"\ndevice = \"disk.img\"\n{b}\n\
             [watchdog]\nkind = \"none\"\n"
        );
        let name = self.folder.path().join("board.toml");
        Board::parse(&text, name.to_str().unwrap()).unwrap()
    }

    fn slots(&self, a: &str, b: &str) -> BoardSlots {
        BoardSlots::new(&self.board(a, b), Group::A)
    }

    fn byte(&self, at: u64) -> u8 {
        let mut byte = [0];
        File::open(self.image()).unwrap().read_exact_at(&mut byte, at).unwrap();
        byte[0]
    }
}

/// A: 1 MiB at 1 MiB; B: 1 MiB at 2 MiB.
const A_RANGE: &str = "offset = \"1 MiB\"\nsize = \"1 MiB\"";
const B_RANGE: &str = "offset = \"2 MiB\"\nsize = \"1 MiB\"";

/// Bytes that differ from segment to segment.
fn content(segment: usize, length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 31 + i / 251 + segment * 7) as u8).collect()
}

fn put(slots: &mut BoardSlots, group: Group, at: u64, bytes: &[u8]) -> Result<()> {
    slots.write(group, "rootfs", &VerifiedSegment::prove(at, bytes, &Digest::of(bytes)).unwrap())
}

/// A place for `length` bytes in `memory` that begins at a multiple of 4096, or `beside` bytes behind one.
fn placed(memory: &mut Vec<u8>, length: usize, beside: usize) -> &mut [u8] {
    memory.resize(length + beside + 4096, 0);
    let skip = memory.as_ptr().align_offset(4096) + beside;
    &mut memory[skip..skip + length]
}

#[test]
fn what_is_written_is_read_back_and_its_neighbours_stay() {
    let bench = Bench::new(4 * MIB);
    let mut slots = bench.slots(A_RANGE, B_RANGE);
    assert_eq!(slots.open(Group::B, "rootfs"), Ok(MIB));
    let mut memory = vec![];
    for segment in 0..4 {
        let bytes = placed(&mut memory, SEGMENT_BYTES, 8 * (segment % 2));
        bytes.copy_from_slice(&content(segment, SEGMENT_BYTES));
        put(&mut slots, Group::B, (segment * SEGMENT_BYTES) as u64, bytes).unwrap();
    }
    slots.sync(Group::B, "rootfs").unwrap();
    for segment in 0..4 {
        let read = placed(&mut memory, SEGMENT_BYTES, 8 * (segment / 2));
        slots.read_back(Group::B, "rootfs", (segment * SEGMENT_BYTES) as u64, read).unwrap();
        assert!(read == content(segment, SEGMENT_BYTES), "segment {segment}");
    }
    assert_eq!((bench.byte(2 * MIB - 1), bench.byte(3 * MIB)), (0xEE, 0xEE));
}

#[test]
fn what_stands_in_a_slot_after_a_cut_can_be_read_anywhere_and_of_any_length() {
    let bench = Bench::new(4 * MIB);
    let whole: Vec<u8> = (0..4).flat_map(|segment| content(segment, SEGMENT_BYTES)).collect();
    OpenOptions::new().write(true).open(bench.image()).unwrap().write_all_at(&whole, 2 * MIB).unwrap();
    let mut slots = bench.slots(A_RANGE, B_RANGE);
    #[rustfmt::skip]
    let cases = [
        // at                       length
        (0,                         1),
        (1,                         4095),
        (4095,                      2),
        (SEGMENT_BYTES - 1,         SEGMENT_BYTES + 2),
        (12_345,                    3 * SEGMENT_BYTES),
        (8192,                      3 * SEGMENT_BYTES + 77),
        (4 * SEGMENT_BYTES - 7,     7),
    ];
    for (at, length) in cases {
        for beside in [0, 8] {
            let mut memory = vec![];
            let read = placed(&mut memory, length, beside);
            slots.read_back(Group::B, "rootfs", at as u64, read).unwrap();
            assert!(
                read == &whole[at..at + length],
                "{length} bytes at {at}, into memory {beside} beside a block"
            );
        }
    }
}

#[test]
fn the_tail_of_an_artifact_changes_no_byte_beyond_it() {
    for tail in [1, 511, 4095, 4096, 4097, 100_000, SEGMENT_BYTES - 1] {
        let bench = Bench::new(4 * MIB);
        let mut slots = bench.slots(A_RANGE, B_RANGE);
        put(&mut slots, Group::B, 0, &content(0, SEGMENT_BYTES)).unwrap();
        put(&mut slots, Group::B, SEGMENT_BYTES as u64, &content(1, tail)).unwrap();
        slots.sync(Group::B, "rootfs").unwrap();
        let mut read = vec![0; tail + 1];
        slots.read_back(Group::B, "rootfs", SEGMENT_BYTES as u64, &mut read).unwrap();
        assert!(read[..tail] == content(1, tail), "tail of {tail}");
        assert_eq!(read[tail], 0xEE, "the byte beyond a tail of {tail}");
        assert_eq!(std::fs::metadata(bench.image()).unwrap().len(), 4 * MIB);
    }
}

#[test]
fn an_image_file_that_ends_within_a_block_is_filled_to_its_last_byte() {
    let bench = Bench::new(SEGMENT_BYTES as u64 + 777);
    let mut board = bench.board(A_RANGE, B_RANGE);
    board.slots[0].device = "/nowhere".into();
    board.slots[1].part = mainstay_board_support::board::Part::Whole;
    let mut slots = BoardSlots::new(&board, Group::A);
    let tail = content(1, 777);
    put(&mut slots, Group::B, SEGMENT_BYTES as u64, &tail).unwrap();
    slots.sync(Group::B, "rootfs").unwrap();
    let mut read = vec![0; 777];
    slots.read_back(Group::B, "rootfs", SEGMENT_BYTES as u64, &mut read).unwrap();
    assert!(read == tail);
    assert_eq!(std::fs::metadata(bench.image()).unwrap().len(), SEGMENT_BYTES as u64 + 777);
}

#[test]
fn what_must_not_be_written_is_refused_and_leaves_every_byte() {
    let bench = Bench::new(4 * MIB);
    let segment = content(0, SEGMENT_BYTES);
    #[rustfmt::skip]
    let cases = [
        // group,   at,                        bytes,          kind,               words
        (Group::A, 0,                          &segment[..],   FaultKind::Refused, "expected a slot of the other group, found rootfs of running group A"),
        (Group::B, 4096,                       &segment[..],   FaultKind::Refused, "expected a multiple of 262144, found offset 4096"),
        (Group::B, MIB,                        &segment[..1],  FaultKind::Full,    "expected at most 1048576 bytes, found 1 bytes at 1048576"),
        (Group::B, u64::MAX - 262_143,         &segment[..],   FaultKind::Full,    "expected at most 1048576 bytes"),
    ];
    for (group, at, bytes, kind, words) in cases {
        let mut slots = bench.slots(A_RANGE, B_RANGE);
        let fault = put(&mut slots, group, at, bytes).unwrap_err();
        assert_eq!(fault.kind, kind, "{fault}");
        assert!(fault.what.contains(words), "{fault}");
    }
    let mut slots = bench.slots(A_RANGE, B_RANGE);
    let mut beyond = [0; 2];
    assert_eq!(slots.read_back(Group::B, "rootfs", MIB - 1, &mut beyond).unwrap_err().kind, FaultKind::Full);
    assert_eq!(slots.sync(Group::A, "rootfs").unwrap_err().kind, FaultKind::Refused);
    let unknown = slots.open(Group::B, "kernel").unwrap_err();
    assert_eq!(unknown.kind, FaultKind::NotFound);
    assert!(
        unknown.what.contains("expected a slot B kernel on this board, found A rootfs, B rootfs"),
        "{unknown}"
    );
    assert!(std::fs::read(bench.image()).unwrap().iter().all(|b| *b == 0xEE));
}

#[test]
fn the_running_group_can_be_read_while_the_other_is_written() {
    let bench = Bench::new(4 * MIB);
    let mut slots = bench.slots(A_RANGE, B_RANGE);
    assert_eq!(slots.open(Group::A, "rootfs"), Ok(MIB));
    put(&mut slots, Group::B, 0, &content(0, SEGMENT_BYTES)).unwrap();
    let mut read = vec![0; SEGMENT_BYTES];
    slots.read_back(Group::A, "rootfs", 0, &mut read).unwrap();
    assert!(read.iter().all(|b| *b == 0xEE));
}

#[test]
fn on_an_idle_disk_both_groups_are_written() {
    let bench = Bench::new(4 * MIB);
    let mut slots = BoardSlots::for_idle_disk(&bench.board(A_RANGE, B_RANGE));
    for group in Group::BOTH {
        put(&mut slots, group, 0, &content(0, SEGMENT_BYTES)).unwrap();
        slots.sync(group, "rootfs").unwrap();
    }
    assert_eq!((bench.byte(MIB + 1), bench.byte(2 * MIB + 1)), (31, 31));
}

#[test]
fn a_slot_is_written_by_one_agent_at_a_time() {
    let bench = Bench::new(4 * MIB);
    let (mut first, mut second) = (bench.slots(A_RANGE, B_RANGE), bench.slots(A_RANGE, B_RANGE));
    first.open(Group::B, "rootfs").unwrap();
    let fault = second.open(Group::B, "rootfs").unwrap_err();
    assert_eq!(fault.kind, FaultKind::Busy, "{fault}");
    assert!(fault.what.contains("expected no other writer, found it locked"), "{fault}");
    assert_eq!(second.open(Group::A, "rootfs"), Ok(MIB), "reading needs no lock");
    first.close();
    assert_eq!(second.open(Group::B, "rootfs"), Ok(MIB));
}

#[test]
fn a_slot_that_does_not_lie_on_its_medium_is_refused() {
    let bench = Bench::new(2 * MIB);
    let fault = bench.slots(A_RANGE, B_RANGE).open(Group::B, "rootfs").unwrap_err();
    assert_eq!(fault.kind, FaultKind::Refused);
    assert!(fault.what.contains("expected 1048576 bytes at 2097152, found the end at 2097152"), "{fault}");
    std::fs::remove_file(bench.image()).unwrap();
    let fault = bench.slots(A_RANGE, B_RANGE).open(Group::B, "rootfs").unwrap_err();
    assert_eq!(fault.kind, FaultKind::NotFound, "{fault}");
    std::fs::create_dir(bench.image()).unwrap();
    let fault = bench.slots(A_RANGE, B_RANGE).open(Group::B, "rootfs").unwrap_err();
    assert!(fault.what.contains("expected a block device or a file, found neither"), "{fault}");
}

#[test]
fn two_names_of_one_place_are_found_when_the_slot_is_opened() {
    let bench = Bench::new(4 * MIB);
    let mut board = bench.board(A_RANGE, B_RANGE);
    let other_name = bench.folder.path().join("other-name.img");
    std::os::unix::fs::symlink(bench.image(), &other_name).unwrap();

    board.slots[1].device = other_name.clone();
    assert_eq!(BoardSlots::new(&board, Group::A).open(Group::B, "rootfs"), Ok(MIB), "side by side is right");
    board.slots[1].part = board.slots[0].part.clone();
    let fault = BoardSlots::new(&board, Group::A).open(Group::B, "rootfs").unwrap_err();
    assert!(fault.what.contains("found that it overlaps rootfs of group A"), "{fault}");

    let mut board = bench.board(A_RANGE, B_RANGE);
    std::os::unix::fs::symlink(bench.image(), bench.folder.path().join("grubenv")).unwrap();
    assert_eq!(BoardSlots::new(&board, Group::A).open(Group::B, "rootfs"), Ok(MIB), "the block is at 0");
    let mainstay_board_support::board::Bootloader::Grub(block) = &mut board.boot.bootloader else { panic!() };
    block.offset = 3 * MIB as i64 - 1024;
    let fault = BoardSlots::new(&board, Group::A).open(Group::B, "rootfs").unwrap_err();
    assert!(fault.what.contains("found the bootloader's environment in it"), "{fault}");
}

#[test]
fn a_range_off_the_block_grid_is_written_through_the_page_cache_and_comes_out_the_same() {
    let bench = Bench::new(4 * MIB);
    partition(&bench.image(), &[("root-a", 1, 34, 1057), ("root-b", 2, 1061, 5156)]);
    let mut slots = bench.slots("partition = \"root-a\"", "partition = \"root-b\"");
    assert_eq!(slots.open(Group::B, "rootfs"), Ok(2 * MIB));
    assert_eq!(slots.access(Group::B, "rootfs"), Ok(Access::Buffered));
    for segment in 0..8 {
        put(&mut slots, Group::B, (segment * SEGMENT_BYTES) as u64, &content(segment, SEGMENT_BYTES))
            .unwrap();
    }
    slots.sync(Group::B, "rootfs").unwrap();
    let mut read = vec![0; SEGMENT_BYTES];
    for segment in 0..8 {
        slots.read_back(Group::B, "rootfs", (segment * SEGMENT_BYTES) as u64, &mut read).unwrap();
        assert!(read == content(segment, SEGMENT_BYTES), "segment {segment}");
    }
    assert_eq!((bench.byte(1061 * 512 - 1), bench.byte(5157 * 512)), (0xEE, 0xEE));
}

/// A gateway has little memory, and the running system needs what it has: an update may not fill the page cache.
#[test]
fn writing_and_reading_a_slot_leaves_next_to_nothing_in_the_page_cache() {
    const SLOT: u64 = 32 * MIB;
    #[rustfmt::skip]
    let cases = [
        // root-b begins at sector   access              resident at most, in bytes
        (67_584,                     Access::Direct,     64 * 1024),
        (67_585,                     Access::Buffered,   64 * 1024),
    ];
    for (first, access, resident_max) in cases {
        let bench = Bench::new(0);
        let on = nix::sys::statfs::statfs(bench.folder.path()).unwrap().filesystem_type();
        if on == nix::sys::statfs::TMPFS_MAGIC {
            println!("not run: {} has no medium, it is a tmpfs", bench.folder.path().display());
            return;
        }
        OpenOptions::new().write(true).open(bench.image()).unwrap().set_len(2 * SLOT + 4 * MIB).unwrap();
        partition(
            &bench.image(),
            &[("root-a", 1, 2048, 67_583), ("root-b", 2, first, first + SLOT / 512 - 1)],
        );
        let mut slots = bench.slots("partition = 1", "partition = 2");
        assert_eq!(slots.open(Group::B, "rootfs"), Ok(SLOT));
        assert_eq!(slots.access(Group::B, "rootfs"), Ok(access));
        let segment = content(0, SEGMENT_BYTES);
        let mut most = 0;
        for at in (0..SLOT).step_by(SEGMENT_BYTES) {
            put(&mut slots, Group::B, at, &segment).unwrap();
            let Some(resident) = resident(&bench.image()) else { return };
            most = most.max(resident);
        }
        assert!(most <= 5 * MIB, "{access:?}: {most} bytes in the page cache while writing");
        slots.sync(Group::B, "rootfs").unwrap();
        let mut read = vec![0; SEGMENT_BYTES];
        for at in (0..SLOT).step_by(SEGMENT_BYTES) {
            slots.read_back(Group::B, "rootfs", at, &mut read).unwrap();
            assert!(read == segment);
        }
        let left = resident(&bench.image()).unwrap();
        println!("{access:?}: {most} bytes in the page cache at most, {left} at the end");
        assert!(left <= resident_max, "{access:?}: {left} bytes left in the page cache");
    }
}

/// How many bytes of a file the page cache holds, by util-linux's fincore.
fn resident(path: &Path) -> Option<u64> {
    let fincore =
        Command::new("fincore").args(["--bytes", "--noheadings", "--output", "RES"]).arg(path).output();
    match fincore {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).trim().parse().ok(),
        _ => {
            println!("not run: fincore is missing");
            None
        }
    }
}

/// Writes a partition table with gptman, an implementation that is not ours: label, number, first and last sector.
fn partition(image: &Path, partitions: &[(&str, u32, u64, u64)]) {
    let mut file = OpenOptions::new().read(true).write(true).open(image).unwrap();
    let mut gpt = gptman::GPT::new_from(&mut file, 512, [7; 16]).unwrap();
    for (label, number, first, last) in partitions {
        gpt[*number] = gptman::GPTPartitionEntry {
            partition_type_guid: [0xAF; 16],
            unique_partition_guid: std::array::from_fn(|i| *number as u8 * 16 + i as u8),
            starting_lba: *first,
            ending_lba: *last,
            attribute_bits: 0,
            partition_name: (*label).into(),
        };
    }
    gpt.write_into(&mut file).unwrap();
}

const PARTITIONS: [(&str, u32, u64, u64); 3] =
    [("root-a", 1, 2048, 4095), ("root-b", 2, 4096, 6143), ("Daten ä", 5, 6144, 6151)];

#[test]
fn a_partition_is_found_by_number_label_and_partuuid() {
    let bench = Bench::new(4 * MIB);
    partition(&bench.image(), &PARTITIONS);
    let file = File::open(bench.image()).unwrap();
    let gpt = Gpt::read(&file, 4 * MIB).unwrap();
    assert_eq!(gpt.note, None);
    let places: Vec<_> =
        gpt.partitions.iter().map(|p| (p.label.as_str(), p.number, p.offset, p.size)).collect();
    assert_eq!(
        places,
        [("root-a", 1, MIB, MIB), ("root-b", 2, 2 * MIB, MIB), ("Daten ä", 5, 3 * MIB, 4096)],
        "as gptman wrote them"
    );
    for selector in
        ["2", "root-b", "23222120-2524-2726-2829-2a2b2c2d2e2f", "23222120-2524-2726-2829-2A2B2C2D2E2F"]
    {
        assert_eq!(gpt.find(selector).unwrap().number, 2, "{selector}");
    }
    let fault = gpt.find("root-c").unwrap_err();
    assert!(fault.what.contains("found 1 \"root-a\", 2 \"root-b\", 5 \"Daten ä\""), "{fault}");
    let mut slots = bench.slots("partition = 1", "partition = \"root-b\"");
    put(&mut slots, Group::B, 0, &content(0, SEGMENT_BYTES)).unwrap();
    slots.sync(Group::B, "rootfs").unwrap();
    assert_eq!((bench.byte(2 * MIB + 1), bench.byte(2 * MIB - 1)), (content(0, 2)[1], 0xEE));
}

#[test]
fn a_label_that_two_partitions_have_names_neither() {
    let bench = Bench::new(4 * MIB);
    partition(&bench.image(), &[("root", 1, 2048, 4095), ("root", 2, 4096, 6143)]);
    let fault = bench.slots("partition = 1", "partition = \"root\"").open(Group::B, "rootfs").unwrap_err();
    assert!(fault.what.contains("expected one partition \"root\", found numbers 1 and 2"), "{fault}");
}

#[test]
fn a_number_and_a_label_of_one_partition_are_one_place() {
    let bench = Bench::new(4 * MIB);
    partition(&bench.image(), &PARTITIONS);
    let fault = bench.slots("partition = 2", "partition = \"root-b\"").open(Group::B, "rootfs").unwrap_err();
    assert!(fault.what.contains("found that it overlaps rootfs of group A"), "{fault}");
}

#[test]
fn a_damaged_partition_table_is_read_from_its_other_copy_or_not_at_all() {
    const END: u64 = 4 * MIB;
    #[rustfmt::skip]
    let cases: &[(&[u64], Option<&str>, &str)] = &[
        // bytes changed                    note                                      fault
        (&[],                               None,                                     ""),
        (&[512],                            Some("primary partition table is damaged, its backup was used: no \"EFI PART\""), ""),
        (&[512 + 60],                       Some("its backup was used: CRC of header: expected"), ""),
        (&[1024 + 33],                      Some("its backup was used: CRC of entries: expected"), ""),
        (&[512 + 12],                       Some("its backup was used: header size is"), ""),
        (&[END - 512],                      Some("backup partition table is damaged: no \"EFI PART\""), ""),
        (&[END - 512 - 16_384 + 33],        Some("backup partition table is damaged: CRC of entries"), ""),
        (&[512, END - 512],                 None,                                     "expected a GPT, found: primary: no \"EFI PART\"; backup: no \"EFI PART\""),
        (&[512 + 60, END - 512 + 60],       None,                                     "primary: CRC of header"),
    ];
    for (changed, note, words) in cases {
        let bench = Bench::new(END);
        partition(&bench.image(), &PARTITIONS);
        let file = OpenOptions::new().read(true).write(true).open(bench.image()).unwrap();
        for at in *changed {
            let mut byte = [0];
            file.read_exact_at(&mut byte, *at).unwrap();
            file.write_all_at(&[byte[0] ^ 0x5A], *at).unwrap();
        }
        let mut slots = bench.slots("partition = 1", "partition = \"root-b\"");
        match slots.open(Group::B, "rootfs") {
            Ok(size) => {
                assert_eq!((size, *words), (MIB, ""), "{changed:?}");
                let notes = slots.notes().join("; ");
                assert!(note.map_or(notes.is_empty(), |words| notes.contains(words)), "{changed:?}: {notes}");
            }
            Err(fault) => {
                assert_eq!(fault.kind, FaultKind::Corrupt, "{changed:?}: {fault}");
                assert!(!words.is_empty() && fault.what.contains(words), "{changed:?}: {fault}");
            }
        }
    }
}

#[test]
fn a_bit_flipped_anywhere_in_the_table_never_changes_what_is_read() {
    const END: u64 = 4 * MIB;
    let bench = Bench::new(END);
    partition(&bench.image(), &PARTITIONS);
    let file = OpenOptions::new().read(true).write(true).open(bench.image()).unwrap();
    let good = Gpt::read(&file, END).unwrap().partitions;
    let header = (0..92).map(|i| (512 + i, END - 512 + i));
    let entries = (0..640).map(|i| (1024 + i, END - 512 - 16_384 + i));
    for (primary, backup) in header.chain(entries) {
        let flip = |at: u64| {
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ 1 << (at % 8)], at).unwrap();
        };
        flip(primary);
        let read = Gpt::read(&file, END).unwrap();
        assert_eq!(read.partitions, good, "primary, byte {primary}");
        assert!(read.note.is_some_and(|note| note.contains("its backup was used")), "byte {primary}");
        flip(backup);
        assert_eq!(Gpt::read(&file, END).unwrap_err().kind, FaultKind::Corrupt, "both, byte {primary}");
        flip(primary);
        let read = Gpt::read(&file, END).unwrap();
        assert_eq!(read.partitions, good, "backup, byte {backup}");
        assert!(read.note.is_some_and(|note| note.contains("backup partition table is damaged")));
        flip(backup);
    }
}

/// Headers with a right checksum and impossible numbers, as a hostile image would have: each is refused, none makes
/// the reader allocate, loop or read beyond bounds.
#[test]
fn a_table_that_lies_with_a_right_checksum_is_refused() {
    #[rustfmt::skip]
    let lies: &[(u64, &[u8], &str)] = &[
        // field, bytes                    words
        (24, &[9, 0, 0, 0],                "own LBA is 9"),
        (72, &[0xFF; 8],                   "entries' LBA is 18446744073709551615"),
        (80, &[0xFF; 4],                   "number of entries is 4294967295"),
        (80, &[0; 4],                      "number of entries is 0"),
        (84, &[129, 0, 0, 0],              "size of an entry is 129"),
        (84, &[0, 0, 0, 0x80],             "size of an entry is 2147483648"),
        (48, &[0xFF, 0, 0, 0, 0, 0, 0, 0], "the partition outside the usable blocks is 5"),
    ];
    for (field, bytes, words) in lies {
        let bench = Bench::new(4 * MIB);
        partition(&bench.image(), &PARTITIONS);
        let file = OpenOptions::new().read(true).write(true).open(bench.image()).unwrap();
        for header in [512, 4 * MIB - 512] {
            file.write_all_at(bytes, header + field).unwrap();
            let mut text = [0; 92];
            file.read_exact_at(&mut text, header).unwrap();
            text[16..20].fill(0);
            let sum = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC).checksum(&text);
            file.write_all_at(&sum.to_le_bytes(), header + 16).unwrap();
        }
        let fault = Gpt::read(&file, 4 * MIB).unwrap_err();
        assert!(fault.what.contains(words), "{fault}");
    }
}

#[test]
fn a_table_of_4096_byte_blocks_is_read_too() {
    let mut image = tempfile::tempfile().unwrap();
    image.set_len(4 * MIB).unwrap();
    let mut gpt = gptman::GPT::new_from(&mut image, 4096, [7; 16]).unwrap();
    gpt[1] = gptman::GPTPartitionEntry {
        partition_type_guid: [1; 16],
        unique_partition_guid: [2; 16],
        starting_lba: 256,
        ending_lba: 511,
        attribute_bits: 0,
        partition_name: "root-a".into(),
    };
    gpt.write_into(&mut image).unwrap();
    image.seek(SeekFrom::Start(0)).unwrap();
    image.write_all(&[0; 512]).unwrap();
    let read = Gpt::read(&image, 4 * MIB).unwrap();
    assert_eq!((read.partitions[0].offset, read.partitions[0].size, read.note), (MIB, MIB, None));
}
