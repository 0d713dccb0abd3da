//! The readers of `layout` against the file systems' own tools: each file's bytes, taken through its extents, are the file's.
//!
//! Images are made by mkfs.ext4 (e2fsprogs), mkfs.erofs (erofs-utils) and mksquashfs (squashfs-tools). Where one of them is
//! missing, its cases are not run and say so; in CI they must run.

#[path = "common/images.rs"]
mod images;

use images::{KIB, make_erofs, make_ext4, make_squashfs, noise, tool};
use mainstayctl::layout::{Compressed, ImageFile, Kind, Layout, ReadAt, read, stored_compressed};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};

#[test]
fn every_file_of_an_ext4_is_found_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    let tree = sample(folder.path());
    let plain = "none,ext_attr,filetype,sparse_super";
    let modern = "none,ext_attr,filetype,sparse_super,extent,64bit,flex_bg,metadata_csum,dir_index,has_journal,huge_file,extra_isize";
    let spread = "none,ext_attr,filetype,sparse_super,extent,64bit,meta_bg,dir_index,uninit_bg";
    let copies = "none,ext_attr,filetype,sparse_super2,extent,dir_index";
    let resize = "none,ext_attr,filetype,sparse_super,extent,resize_inode,dir_index";
    #[rustfmt::skip]
    let cases: [(&str, &[&str]); 9] = [
        // name             arguments
        ("as it comes",     &["-b", "4096"]),
        ("as ext2 comes",   &["-t", "ext2"]),
        ("as ext3 comes",   &["-t", "ext3"]),
        ("block maps",      &["-b", "1024", "-O", plain]),
        ("old inodes",      &["-b", "1024", "-O", plain, "-I", "128"]),
        ("all of today",    &["-b", "4096", "-O", modern]),
        ("small groups",    &["-b", "1024", "-g", "1024", "-O", spread]),
        ("two copies",      &["-b", "1024", "-g", "2048", "-O", copies]),
        ("room to grow",    &["-b", "1024", "-g", "2048", "-O", resize]),
    ];
    for (name, arguments) in cases {
        let image = folder.path().join("image");
        let Some(()) = make_ext4(&image, &tree, arguments) else { return };
        let layout = compared(name, &image, &tree, Kind::Ext4);
        held_against_dumpe2fs(name, &image, &layout);
        std::fs::remove_file(image).unwrap();
    }
}

/// 70 MiB into a file of blocks of 1 KiB the third level of the map begins.
#[test]
fn a_file_is_followed_through_all_levels_of_an_old_block_map() {
    let folder = tempfile::tempdir().unwrap();
    let (tree, image) = (folder.path().join("tree"), folder.path().join("image"));
    std::fs::create_dir(&tree).unwrap();
    let far = std::fs::File::create(tree.join("far")).unwrap();
    for mib in [0, 1, 40, 70] {
        far.write_all_at(&noise(3 * KIB, mib), mib << 20).unwrap();
    }
    let Some(()) = make_ext4(&image, &tree, &["-b", "1024", "-t", "ext2"]) else { return };
    let layout = compared("far", &image, &tree, Kind::Ext4);
    held_against_dumpe2fs("far", &image, &layout);
    assert_eq!(layout.files[0].extents.iter().map(|extent| extent.bytes).sum::<u64>(), 12 * KIB as u64);
}

/// Blocks that are allocated and were never written read as zeros: what stands in them is nobody's content.
#[test]
fn blocks_that_were_never_written_are_holes() {
    let folder = tempfile::tempdir().unwrap();
    let (tree, image) = (sample(folder.path()), folder.path().join("image"));
    let Some(()) = make_ext4(&image, &tree, &["-b", "1024"]) else { return };
    let script = folder.path().join("script");
    std::fs::write(&script, "fallocate /usr/one 1 9\nsif /usr/one size 10240\n").unwrap();
    assert!(tool("debugfs").arg("-w").arg("-f").arg(script).arg(&image).output().unwrap().status.success());
    let layout = read(&ImageFile::open(&image).unwrap()).unwrap();
    let file = layout.files.iter().find(|file| file.path == "/also-one").unwrap();
    assert_eq!((file.bytes, file.extents.len(), file.extents[0].bytes), (10_240, 1, 1024));
    let said = tool("debugfs").args(["-R", "blocks /usr/one"]).arg(&image).output().unwrap();
    let blocks = String::from_utf8_lossy(&said.stdout).split_whitespace().count();
    assert_eq!(blocks, 10, "debugfs has allocated the others");
}

#[test]
fn every_file_of_an_erofs_is_found_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    let tree = sample(folder.path());
    #[rustfmt::skip]
    let cases: [(&str, &[&str]); 5] = [
        // name             arguments
        ("as it comes",     &[]),
        ("large inodes",    &["-Eforce-inode-extended"]),
        ("no tails",        &["-Enoinline_data"]),
        ("chunks",          &["--chunksize=4096", "-Eforce-chunk-indexes"]),
        ("large chunks",    &["--chunksize=65536", "-Eforce-inode-blockmap"]),
    ];
    for (name, arguments) in cases {
        let image = folder.path().join("image");
        let Some(()) = make_erofs(&image, &tree, arguments) else { return };
        compared(name, &image, &tree, Kind::Erofs);
        assert_eq!(
            stored_compressed(&ImageFile::open(&image).unwrap()).unwrap(),
            Compressed::default(),
            "{name}"
        );
        std::fs::remove_file(image).unwrap();
    }
}

#[test]
fn every_file_of_a_squashfs_with_uncompressed_blocks_is_found_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    let tree = sample(folder.path());
    #[rustfmt::skip]
    let cases: [(&str, &[&str]); 5] = [
        // name             arguments
        ("as it is",        &["-noI", "-noD", "-noF", "-noX"]),
        ("tables in zstd",  &["-comp", "zstd", "-Xcompression-level", "3", "-noD", "-noF"]),
        ("small blocks",    &["-comp", "zstd", "-b", "4096", "-noD", "-noF"]),
        ("no fragments",    &["-comp", "zstd", "-b", "8192", "-noD", "-no-fragments"]),
        ("tails of all",    &["-comp", "zstd", "-noD", "-noF", "-always-use-fragments"]),
    ];
    for (name, arguments) in cases {
        let image = folder.path().join("image");
        let Some(()) = make_squashfs(&image, &tree, arguments) else { return };
        compared(name, &image, &tree, Kind::Squashfs);
        assert_eq!(
            stored_compressed(&ImageFile::open(&image).unwrap()).unwrap(),
            Compressed::default(),
            "{name}"
        );
        std::fs::remove_file(image).unwrap();
    }
}

#[test]
fn what_is_stored_compressed_does_not_appear_and_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("tree");
    std::fs::create_dir_all(&tree).unwrap();
    std::fs::write(tree.join("noise"), noise(300 * KIB, 7)).unwrap();
    std::fs::write(tree.join("words"), "the same words again and again\n".repeat(20_000)).unwrap();
    let words_bytes = std::fs::metadata(tree.join("words")).unwrap().len();
    let image = folder.path().join("image");
    let seen = |kind| {
        let image = ImageFile::open(&image).unwrap();
        let layout = read(&image).unwrap();
        let compressed = stored_compressed(&image).unwrap();
        let paths: Vec<_> = layout.files.into_iter().map(|file| file.path).collect();
        assert_eq!((layout.kind, layout.trouble, paths), (kind, None, vec!["/noise".to_owned()]));
        assert!((1..=words_bytes / 4).contains(&compressed.stored_bytes), "{compressed:?}");
        assert_eq!((compressed.files, compressed.content_bytes), (1, words_bytes));
    };
    if make_squashfs(&image, &tree, &["-comp", "zstd", "-no-fragments"]).is_some() {
        seen(Kind::Squashfs);
        std::fs::remove_file(&image).unwrap();
    }
    if make_erofs(&image, &tree, &["-zlz4"]).is_some() {
        seen(Kind::Erofs);
    }
}

#[test]
fn a_squashfs_with_tables_that_cannot_be_read_is_one_all_the_same_and_says_what_is_in_the_way() {
    let folder = tempfile::tempdir().unwrap();
    let tree = sample(folder.path());
    let image = folder.path().join("image");
    let Some(()) = make_squashfs(&image, &tree, &["-comp", "gzip", "-noD", "-noF"]) else { return };
    let layout = read(&ImageFile::open(&image).unwrap()).unwrap();
    assert_eq!((layout.kind, layout.files.len()), (Kind::Squashfs, 0));
    assert!(layout.trouble.as_deref().is_some_and(|why| why.contains("gzip")), "{:?}", layout.trouble);
}

/// By hand, e.g. on a whole distribution: `LAYOUT_IMAGE=… LAYOUT_FOLDER=… cargo test … -- --ignored --nocapture`, where the
/// folder is what went into the image, or the image mounted.
#[test]
#[ignore = "needs an image of yours"]
fn every_file_of_an_image_of_yours_is_found_byte_for_byte() {
    let path = |name| PathBuf::from(std::env::var_os(name).unwrap_or_else(|| panic!("{name} is not set")));
    let (image, folder) = (path("LAYOUT_IMAGE"), path("LAYOUT_FOLDER"));
    let started = std::time::Instant::now();
    let layout = read(&ImageFile::open(&image).unwrap()).unwrap();
    println!("read in {:?}", started.elapsed());
    let layout = compared("yours", &image, &folder, layout.kind);
    let sum =
        |extents: &[mainstayctl::layout::Extent]| extents.iter().map(|extent| extent.bytes).sum::<u64>();
    let content: u64 = layout.files.iter().map(|file| sum(&file.extents)).sum();
    println!(
        "{:?}: {} files, {content} bytes of content, {} bytes of metadata in {} extents",
        layout.kind,
        layout.files.len(),
        sum(&layout.metadata),
        layout.metadata.len()
    );
}

/// Every file of the folder is in the image's layout, with its length and its bytes; nothing else is; no content is called
/// metadata.
fn compared(name: &str, image: &Path, folder: &Path, kind: Kind) -> Layout {
    let image = ImageFile::open(image).unwrap();
    let layout = read(&image).unwrap();
    assert_eq!((layout.kind, layout.trouble.as_deref()), (kind, None), "{name}");
    let expected = regular_files(folder);
    let found: Vec<_> = layout.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(found, expected.keys().map(String::as_str).collect::<Vec<_>>(), "{name}");
    for file in &layout.files {
        let original = std::fs::read(&expected[&file.path]).unwrap();
        assert_eq!(file.bytes, original.len() as u64, "{name}: {}", file.path);
        let mut stored = Vec::new();
        for extent in &file.extents {
            let at = stored.len();
            stored.resize(at + extent.bytes as usize, 0);
            image.read_at(extent.at, &mut stored[at..]).unwrap();
            assert!(
                layout.metadata.iter().all(|m| m.end() <= extent.at || extent.end() <= m.at),
                "{name}: {}",
                file.path
            );
        }
        assert!(same_but_for_holes(&original, &stored), "{name}: {}", file.path);
    }
    assert!(layout.metadata.is_sorted(), "{name}");
    layout
}

/// Are these the same, when pieces of zeros may be left out of the second?
fn same_but_for_holes(original: &[u8], stored: &[u8]) -> bool {
    if original.len() == stored.len() {
        return original == stored;
    }
    let mut stored = stored;
    let taken = original.chunks(KIB).all(|piece| match stored.strip_prefix(piece) {
        Some(rest) => {
            stored = rest;
            true
        }
        None => piece.iter().all(|&byte| byte == 0),
    });
    taken && stored.is_empty()
}

/// What dumpe2fs says is used by structures in each group is metadata.
fn held_against_dumpe2fs(name: &str, image: &Path, layout: &Layout) {
    let said = tool("dumpe2fs").arg(image).output().unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let block: u64 =
        said.lines().find_map(|l| l.strip_prefix("Block size:")).unwrap().trim().parse().unwrap();
    let places =
        ["Backup superblock at ", "roup descriptors at ", "roup descriptor at ", "Reserved GDT blocks at "];
    let places = [&places[..], &["lock bitmap at ", "node bitmap at ", "node table at "][..]].concat();
    let mut checked = 0;
    for line in said.lines() {
        for rest in places.iter().filter_map(|place| line.split_once(place)).map(|(_, rest)| rest) {
            let number = |text: &str| {
                text.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse::<u64>().unwrap()
            };
            let from = number(rest);
            let to = match rest.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix('-') {
                Some(to) => number(to),
                None => from,
            };
            let (at, end) = (from * block, (to + 1) * block);
            assert!(layout.metadata.iter().any(|m| m.at <= at && end <= m.end()), "{name}: {line}");
            checked += 1;
        }
    }
    assert!(checked >= 4, "{name}: {said}");

    // Every block in use is a structure or a file's, and no free block is.
    let number = |text: &str| text.trim().parse::<u64>().unwrap();
    let field = |name: &str| number(said.lines().find_map(|line| line.strip_prefix(name)).unwrap());
    let mut free = BTreeSet::new();
    for ranges in
        said.lines().filter_map(|line| line.strip_prefix("  Free blocks: ")).filter(|line| !line.is_empty())
    {
        for range in ranges.split(", ") {
            let (from, to) = range.split_once('-').unwrap_or((range, range));
            free.extend(number(from)..=number(to));
        }
    }
    let content = layout.files.iter().flat_map(|file| &file.extents);
    let claimed: BTreeSet<_> = content
        .chain(&layout.metadata)
        .flat_map(|extent| extent.at / block..extent.end().div_ceil(block))
        .collect();
    for block in field("First block:")..field("Block count:") {
        assert_eq!(
            claimed.contains(&block),
            !free.contains(&block),
            "{name}: block {block}, claimed or free"
        );
    }
}

fn regular_files(folder: &Path) -> BTreeMap<String, PathBuf> {
    let mut files = BTreeMap::new();
    let mut inodes = std::collections::BTreeMap::new();
    let mut ahead = vec![folder.to_path_buf()];
    while let Some(next) = ahead.pop() {
        for entry in std::fs::read_dir(&next).unwrap() {
            let (path, kind) = entry.map(|e| (e.path(), e.file_type().unwrap())).unwrap();
            if kind.is_dir() {
                ahead.push(path);
            } else if kind.is_file() {
                files.insert(format!("/{}", path.strip_prefix(folder).unwrap().to_str().unwrap()), path);
            }
        }
    }
    // Of hard links the first.
    files.retain(|_, path| {
        use std::os::unix::fs::MetadataExt;
        inodes.insert(path.metadata().unwrap().ino(), ()).is_none()
    });
    files
}

/// A small tree of everything that is stored in a way of its own.
fn sample(folder: &Path) -> PathBuf {
    let root = folder.join("tree");
    std::fs::create_dir_all(root.join("usr/lib/deep/deeper")).unwrap();
    std::fs::create_dir_all(root.join("many")).unwrap();
    let write = |path: &str, bytes: &[u8]| std::fs::write(root.join(path), bytes).unwrap();
    write("empty", b"");
    write("usr/one", b"1");
    write("usr/lib/block", &noise(4 * KIB, 1));
    write("usr/lib/blocks-and-a-tail", &noise(5 * 4 * KIB + 123, 2));
    write("usr/lib/large", &noise(700 * KIB + 1, 3));
    write("usr/lib/deep/deeper/größe", &noise(3 * KIB, 4));
    write("usr/lib/twin", &noise(9 * KIB, 5));
    write("usr/lib/twin-of-it", &noise(9 * KIB, 5));
    for number in 0..400 {
        write(
            &format!("many/a-name-that-is-long-enough-to-fill-blocks-{number}"),
            format!("{number}").as_bytes(),
        );
    }
    let sparse = std::fs::File::create(root.join("sparse")).unwrap();
    for (at, bytes) in [(0, 3), (64 * KIB, 5 * KIB), (1000 * KIB, 4 * KIB)] {
        sparse.write_all_at(&noise(bytes, at as u64), at as u64).unwrap();
    }
    sparse.set_len(1200 * KIB as u64).unwrap();
    // More extents than an inode of ext4 has room for.
    let comb = std::fs::File::create(root.join("comb")).unwrap();
    (0..40).for_each(|tooth| comb.write_all_at(&noise(4 * KIB, tooth), tooth * 12 * KIB as u64).unwrap());
    std::fs::hard_link(root.join("usr/one"), root.join("also-one")).unwrap();
    symlink("usr/one", root.join("short")).unwrap();
    symlink(format!("/{}", "far/".repeat(30)), root.join("long")).unwrap();
    root
}
