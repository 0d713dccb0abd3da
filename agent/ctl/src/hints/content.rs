//! What a file holds, by its first bytes: compressed streams, kernels, initial RAM disks, archives.

use crate::layout::{Extent, FileExtents, ReadAt};

/// A file's bytes, through its extents. Holes are not there, so places behind one are too early: enough to know a kind.
pub(super) struct Content<'i> {
    image: &'i dyn ReadAt,
    extents: &'i [Extent],
}

impl<'i> Content<'i> {
    pub(super) fn of(image: &'i dyn ReadAt, file: &'i FileExtents) -> Self {
        Content { image, extents: &file.extents }
    }

    /// From there on, at most so many bytes; fewer at the end, none where they cannot be read.
    pub(super) fn read(&self, at: u64, bytes: usize) -> Vec<u8> {
        let mut out = Vec::new();
        let mut skip = at;
        for extent in self.extents {
            if skip >= extent.bytes {
                skip -= extent.bytes;
                continue;
            }
            let part = (extent.bytes - skip).min((bytes - out.len()) as u64) as usize;
            let from = out.len();
            out.resize(from + part, 0);
            if self.image.read_at(extent.at + skip, &mut out[from..]).is_err() {
                return Vec::new();
            }
            skip = 0;
            if out.len() == bytes {
                break;
            }
        }
        out
    }

    /// Are they the same?
    pub(super) fn equals(&self, other: &Content) -> bool {
        let mut at = 0;
        loop {
            let (own, others) = (self.read(at, PART_BYTES), other.read(at, PART_BYTES));
            if own != others {
                return false;
            }
            if own.is_empty() {
                return true;
            }
            at += own.len() as u64;
        }
    }
}

/// What a delta cannot see into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Opaque {
    /// A kernel and what its payload is packed with.
    Kernel { form: &'static str, packing: &'static str },
    /// An initial RAM disk, with or without an early part that is not packed.
    Initrd { packing: &'static str, early: bool },
    /// A kernel module.
    Module,
    /// Python's compiled code; not packed, but it holds the time of its source unless it was told not to.
    Pyc,
    /// Something else that is packed.
    Packed,
}

/// What a file is, if a delta cannot see into it.
pub(super) fn opaque(path: &str, content: &Content) -> Option<Opaque> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let head = content.read(0, HEAD_BYTES);
    if let Some((form, packing)) = kernel(&head, content) {
        return Some(Opaque::Kernel { form, packing });
    }
    if let Some(packing) = after_early_cpio(&head, content) {
        return Some(Opaque::Initrd { packing, early: true });
    }
    if name.ends_with(".pyc") && head.get(2..4) == Some(b"\r\n") {
        return Some(Opaque::Pyc);
    }
    let packing = packing(&head)?;
    if ["initrd", "initramfs"].iter().any(|word| name.contains(word)) {
        return Some(Opaque::Initrd { packing, early: false });
    }
    if ["vmlinuz", "Image", "uImage", "zImage"].iter().any(|word| name.starts_with(word)) {
        return Some(Opaque::Kernel { form: "a packed Image", packing });
    }
    match name.contains(".ko.") {
        true => Some(Opaque::Module),
        false => Some(Opaque::Packed),
    }
}

/// What a stream is packed with.
pub(super) fn packing(stream: &[u8]) -> Option<&'static str> {
    let known: [(&[u8], &str); 10] = [
        (b"\x1f\x8b", "gzip"),
        (b"\xfd7zXZ\0", "xz"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (b"\x02\x21\x4c\x18", "lz4"),
        (b"\x04\x22\x4d\x18", "lz4"),
        (b"\x89LZO\0\r\n", "lzo"),
        (b"BZh", "bzip2"),
        (b"PK\x03\x04", "zip"),
        (b"LZIP", "lzip"),
        // The dictionary's length follows: a power of two of at least 64 KiB, so its lowest bytes are zero.
        (b"\x5d\0\0", "lzma"),
    ];
    known.iter().find(|(magic, _)| stream.starts_with(magic)).map(|(_, name)| *name)
}

/// The form of a kernel and what its payload is packed with.
fn kernel(head: &[u8], content: &Content) -> Option<(&'static str, &'static str)> {
    let word = |at: usize| Some(u32::from_le_bytes(*head.get(at..)?.first_chunk()?));
    if head.get(0x202..0x206) == Some(b"HdrS") {
        // The x86 boot protocol: the payload's place is counted from behind the sectors of real-mode code.
        let sectors = match *head.get(0x1f1)? {
            0 => 4,
            sectors => u64::from(sectors),
        };
        let at = (sectors + 1) * 512 + u64::from(word(0x248)?);
        return packing(&content.read(at, 16)).map(|packing| ("bzImage", packing));
    }
    if head.get(4..8) == Some(b"zimg") && head.starts_with(b"MZ") {
        return packing(&content.read(word(8)?.into(), 16)).map(|packing| ("EFI zboot", packing));
    }
    if word(0x24) == Some(0x016f_2818) {
        return searched(content).map(|packing| ("zImage", packing));
    }
    if head.starts_with(b"MZ") && (0..head.len()).any(|at| head[at..].starts_with(b".linux\0\0")) {
        return Some(("unified kernel image", "what its kernel and initrd are packed with"));
    }
    if head.starts_with(&[0x27, 0x05, 0x19, 0x56]) {
        return packing(&content.read(64, 16)).map(|packing| ("uImage", packing));
    }
    None
}

/// A zImage does not say where its payload is: the first place behind the code that begins like one.
fn searched(content: &Content) -> Option<&'static str> {
    let code = content.read(0, SEARCH_BYTES);
    let long: [&[u8]; 6] = [
        b"\x1f\x8b\x08\0",
        b"\xfd7zXZ\0",
        b"\x28\xb5\x2f\xfd",
        b"\x02\x21\x4c\x18",
        b"\x89LZO\0\r\n",
        b"\x5d\0\0\0\x04\xff",
    ];
    (0..code.len())
        .find(|&at| long.iter().any(|magic| code[at..].starts_with(magic)))
        .and_then(|at| packing(&code[at..]))
}

/// What stands packed behind a cpio archive that is not, as microcode stands before an initial RAM disk.
fn after_early_cpio(head: &[u8], content: &Content) -> Option<&'static str> {
    if !head.starts_with(b"070701") && !head.starts_with(b"070702") {
        return None;
    }
    let mut at = 0_u64;
    for _ in 0..ENTRIES_MAX {
        let entry = content.read(at, 110);
        if entry.first() != Some(&b'0') {
            // Behind the trailer zeros fill up to a multiple of 512 bytes or so.
            let rest = content.read(at, GAP_BYTES_MAX);
            let zeros = rest.iter().take_while(|&&byte| byte == 0).count();
            return packing(&rest[zeros..]);
        }
        let hex = |field: usize| {
            let digits = std::str::from_utf8(entry.get(6 + field * 8..14 + field * 8)?).ok()?;
            u64::from_str_radix(digits, 16).ok()
        };
        let (bytes, name_bytes) = (hex(6)?, hex(11)?);
        at = (at + (110 + name_bytes).next_multiple_of(4) + bytes).next_multiple_of(4);
    }
    None
}

const HEAD_BYTES: usize = 4 << 10;
const PART_BYTES: usize = 1 << 20;
/// The code before a zImage's payload is some tens of KiB.
const SEARCH_BYTES: usize = 256 << 10;
/// Entries of an early archive: microcode, firmware, tables.
const ENTRIES_MAX: usize = 10_000;
const GAP_BYTES_MAX: usize = 8 << 10;
