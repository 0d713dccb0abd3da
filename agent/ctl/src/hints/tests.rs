//! Images in memory: files one behind the other, each changed in its last byte between base and new.

use super::*;
use crate::layout::{Extent, FileExtents, Kind};

/// An image of files, and their layout.
fn image(kind: Kind, files: &[(&str, Vec<u8>)]) -> (Vec<u8>, Layout) {
    let mut bytes = vec![0x77; 4096];
    let mut layout = Layout { kind, ..Layout::default() };
    for (path, content) in files {
        let extent = Extent { at: bytes.len() as u64, bytes: content.len() as u64 };
        bytes.extend(content);
        // Behind the first, one of two extents: what is read goes on over their seam.
        let seam = Extent { bytes: extent.bytes / 2, ..extent };
        let rest = Extent { at: seam.end(), bytes: extent.bytes - seam.bytes };
        layout.files.push(FileExtents {
            path: (*path).into(),
            bytes: extent.bytes,
            extents: vec![seam, rest],
            holes: Vec::new(),
        });
        bytes.resize(bytes.len().next_multiple_of(4096), 0x77);
    }
    layout.files.sort_by(|a, b| a.path.cmp(&b.path));
    (bytes, layout)
}

/// `bytes`, and `put` at their places.
fn with(bytes: usize, put: &[(usize, &[u8])]) -> Vec<u8> {
    let mut all = vec![0x11; bytes];
    put.iter().for_each(|(at, part)| all[*at..][..part.len()].copy_from_slice(part));
    all
}

/// A cpio archive (newc) of one file.
fn cpio(name: &str, content: &[u8]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (name, content) in [(name, content), ("TRAILER!!!", &[][..])] {
        let mut fields = [0_usize; 13];
        (fields[6], fields[11]) = (content.len(), name.len() + 1);
        archive.extend(b"070701");
        fields.iter().for_each(|field| archive.extend(format!("{field:08x}").bytes()));
        for part in [name.as_bytes(), b"\0", &[0; 4][..(4 - (110 + name.len() + 1) % 4) % 4], content] {
            archive.extend(part);
        }
        archive.resize(archive.len().next_multiple_of(4), 0);
    }
    archive
}

#[rustfmt::skip]
fn files() -> Vec<(&'static str, Vec<u8>, u64, &'static str)> {
    let x86: &[(usize, &[u8])] = &[(0x202, b"HdrS"), (0x1f1, &[3]), (0x248, &0x100_u32.to_le_bytes())];
    let payload = 4 * 512 + 0x100;
    let early = [cpio("kernel/x86/microcode/GenuineIntel.bin", &[7; 1001]), vec![0; 300], with(900, &[(0, b"\x28\xb5\x2f\xfd")])].concat();
    let zboot: &[(usize, &[u8])] = &[(0, b"MZ\0\0zimg"), (8, &0x400_u32.to_le_bytes()), (0x400, b"\x1f\x8b\x08\0")];
    vec![
        // path, content, what it costs, what must be said of it
        ("/boot/Image.gz",          with(900, &[(0, b"\x1f\x8b\x08\0")]),                                     9_001, "/boot/Image.gz: a packed Image with gzip"),
        ("/boot/initrd.img-6",      early,                                                                    9_002, "initial RAM disk with zstd behind an early one"),
        ("/boot/initramfs",         with(900, &[(0, b"\xfd7zXZ\0")]),                                         9_003, "/boot/initramfs: initial RAM disk with xz"),
        ("/boot/plain-initrd",      cpio("init", b"#!/bin/sh"),                                               9_004, ""),
        ("/boot/uImage",            with(900, &[(0, &[0x27, 5, 0x19, 0x56]), (64, b"\x5d\0\0\0\x04")]),       9_005, "uImage with lzma"),
        ("/boot/uki.efi",           with(9000, &[(0, b"MZ"), (0x300, b".linux\0\0")]),                        9_006, "/boot/uki.efi: unified kernel image"),
        ("/boot/vmlinuz",           with(9000, &[x86, &[(payload, b"\x02\x21\x4c\x18")]].concat()),           9_007, "/boot/vmlinuz: bzImage with lz4 has changed"),
        ("/boot/vmlinuz-plain",     with(9000, x86),                                                          9_008, ""),
        ("/boot/vmlinuz.efi",       with(9000, zboot),                                                        9_009, "EFI zboot with gzip"),
        ("/boot/zImage",            with(30_000, &[(0x24, &0x016f_2818_u32.to_le_bytes()), (20_001, b"\x1f\x8b\x08\0")]), 9_010, "zImage with gzip"),
        ("/lib/modules/a.ko.xz",    with(900, &[(0, b"\xfd7zXZ\0")]),                                         101,   "2 packed kernel modules have changed; in bytes: /lib/modules/b.ko.zst 201, /lib/modules/a.ko.xz 101"),
        ("/lib/modules/b.ko.zst",   with(900, &[(0, b"\x28\xb5\x2f\xfd")]),                                   201,   ""),
        ("/lib/modules/c.ko",       with(900, &[(0, b"\x7fELF")]),                                            301,   ""),
        ("/usr/lib/x.pyc",          with(900, &[(0, b"\xa7\x0d\r\n")]),                                       40,    "1 files of compiled Python have changed; in bytes: /usr/lib/x.pyc 40"),
        ("/usr/share/doc/notes.gz", with(900, &[(0, b"\x1f\x8b\x08\0")]),                                     33,    "1 packed files (documents, archives) have changed"),
        ("/usr/share/text",         with(900, &[]),                                                           50,    ""),
    ]
}

/// The last byte of each, another.
fn older(files: &[(&'static str, Vec<u8>)]) -> Vec<(&'static str, Vec<u8>)> {
    let change = |(path, content): &(&'static str, Vec<u8>)| {
        let mut content = content.clone();
        *content.last_mut().unwrap() ^= 1;
        (*path, content)
    };
    files.iter().map(change).collect()
}

#[test]
fn each_packed_file_that_has_changed_is_named_with_what_it_costs() {
    let files = files();
    let content: Vec<_> = files.iter().map(|(path, content, ..)| (*path, content.clone())).collect();
    let (new, layout) = image(Kind::Squashfs, &content);
    let (base, base_layout) = image(Kind::Squashfs, &older(&content));
    let costs: Vec<_> = files.iter().map(|(path, _, cost, _)| ((*path).to_owned(), *cost)).collect();
    let found = changed::hints((&new, &layout), (&base, &base_layout), &costs);
    let names = |hint: &Hint, path: &str| {
        hint.title.contains(&format!("{path}:")) || hint.title.contains(&format!("{path} "))
    };
    let said = |path: &str| found.iter().filter(|hint| names(hint, path)).collect::<Vec<_>>();
    for (path, _, cost, expected) in &files {
        let all = said(path);
        match expected {
            &"" => assert!(all.iter().all(|hint| hint.title.contains("modules have")), "{path}: {all:?}"),
            expected => {
                assert_eq!(all.len(), 1, "{path}: {found:#?}");
                assert!(all[0].title.contains(expected), "{path}: {all:?}");
                let together = if path.contains("a.ko.xz") { 302 } else { *cost };
                assert_eq!(all[0].bytes, together, "{path}");
                assert!(!all[0].advice.is_empty());
            }
        }
    }
    assert_eq!(found.len(), 11, "{found:#?}");
}

#[test]
fn what_is_packed_but_has_not_changed_or_costs_nothing_is_not_named() {
    let kernel = with(900, &[(0, b"\x1f\x8b\x08\0")]);
    let content =
        [("/boot/Image.gz", kernel.clone()), ("/boot/initrd", kernel.clone()), ("/boot/vmlinuz", kernel)];
    let (new, layout) = image(Kind::Squashfs, &content);
    let older = older(&content);
    // The first is the same in the base, the second costs nothing, the third nobody encoded.
    let (base, base_layout) =
        image(Kind::Squashfs, &[content[0].clone(), older[1].clone(), older[2].clone()]);
    let costs =
        [("/boot/Image.gz".to_owned(), 10), ("/boot/initrd".to_owned(), 0), ("/no/such".to_owned(), 9)];
    assert_eq!(changed::hints((&new, &layout), (&base, &base_layout), &costs), []);
    // Without its base's it has changed, whatever it was.
    let (empty, nothing) = image(Kind::Squashfs, &[]);
    assert_eq!(changed::hints((&new, &layout), (&empty, &nothing), &costs).len(), 1);
}

#[test]
fn an_image_that_is_packed_as_a_whole_is_named_by_its_packing() {
    #[rustfmt::skip]
    let cases: [(&[u8], &str); 8] = [
        (b"\x1f\x8b\x08",       "as a whole, with gzip"),
        (b"\xfd7zXZ\0",         "as a whole, with xz"),
        (b"\x28\xb5\x2f\xfd",   "as a whole, with zstd"),
        (b"\x04\x22\x4d\x18",   "as a whole, with lz4"),
        (b"\x02\x21\x4c\x18",   "as a whole, with lz4"),
        (b"BZh9",               "as a whole, with bzip2"),
        (b"MZ\0\0zimg\x20\0\0", "a kernel: EFI zboot with zstd"),
        (b"anything",           ""),
    ];
    for (magic, expected) in cases {
        let whole = with(5_000, &[(0x20, b"\x28\xb5\x2f\xfd"), (0, &[0; 16]), (0, magic)]);
        let found = hints(&whole, &crate::layout::read(&whole).unwrap(), None, &[]);
        match expected {
            "" => assert_eq!(found, []),
            _ => {
                assert!(found.len() == 1 && found[0].title.contains(expected), "{expected}: {found:?}");
                assert_eq!(found[0].bytes, 5_000);
            }
        }
    }
}

#[test]
fn the_dearest_hint_stands_first() {
    let content = [
        ("/boot/Image.gz", with(900, &[(0, b"\x1f\x8b\x08\0")])),
        ("/doc.gz", with(90, &[(0, b"\x1f\x8b\x08\0")])),
    ];
    let (new, layout) = image(Kind::Squashfs, &content);
    let (base, base_layout) = image(Kind::Squashfs, &older(&content));
    let costs = [("/boot/Image.gz".to_owned(), 10), ("/doc.gz".to_owned(), 70), ("/doc.gz".to_owned(), 7)];
    let found = hints(&new, &layout, Some((&base, &base_layout)), &costs);
    let bytes: Vec<_> = found.iter().map(|hint| hint.bytes).collect();
    assert_eq!(bytes, [77, 10], "{found:?}");
}

/// A layout that does not fit its image, as a caller could mix them up, gives no hint and no panic.
#[test]
fn a_file_that_cannot_be_read_gives_no_hint() {
    let content = [("/boot/Image.gz", with(900, &[(0, b"\x1f\x8b\x08\0")]))];
    let (mut new, layout) = image(Kind::Squashfs, &content);
    new.truncate(100);
    let costs = [("/boot/Image.gz".to_owned(), 10)];
    assert_eq!(hints(&new, &layout, Some((&new, &layout)), &costs), []);
}
