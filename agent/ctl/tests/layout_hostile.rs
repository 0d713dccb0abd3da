//! Damaged and forged images: the readers of `layout` end in time, without a panic, and claim nothing outside the image.
//!
//! Real images are changed at places where they hold structures, by the same changes at each run.

#[path = "common/images.rs"]
mod images;

use images::{KIB, make_erofs, make_ext4, make_squashfs, noise, run, tool};
use mainstayctl::layout::source::{PATH_BYTES_MAX, SHARING_MAX, TAKE_BYTES_MAX};
use mainstayctl::layout::{Extent, Kind, Layout, read};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const FLIPS: usize = 8_000;
/// Of a build that is not optimized, on a machine that does other things too. What goes in circles takes for ever.
const READ_MAX: Duration = Duration::from_secs(10);

#[test]
fn any_changed_byte_of_an_ext4_ends_in_a_layout_or_in_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let tree = small(folder.path());
    for arguments in [&["-b", "1024", "-O", "^metadata_csum"][..], &["-b", "1024", "-t", "ext2"]] {
        let image = folder.path().join("image");
        std::fs::File::create(&image).unwrap().set_len(512 << 10).unwrap();
        let Some(()) = make_ext4(&image, &tree, &[&["-N", "64"], arguments].concat()) else { return };
        changed_at_random(std::fs::read(image).unwrap(), Kind::Ext4);
    }
}

#[test]
fn any_changed_byte_of_an_erofs_ends_in_a_layout_or_in_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let tree = small(folder.path());
    for arguments in [&[][..], &["--chunksize=4096"]] {
        let image = folder.path().join("image");
        let Some(()) = make_erofs(&image, &tree, arguments) else { return };
        changed_at_random(std::fs::read(&image).unwrap(), Kind::Erofs);
        std::fs::remove_file(image).unwrap();
    }
}

#[test]
fn any_changed_byte_of_a_squashfs_ends_in_a_layout_or_in_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let tree = small(folder.path());
    for arguments in [&["-noI", "-noD", "-noF"][..], &["-comp", "zstd", "-noD", "-noF"]] {
        let image = folder.path().join("image");
        let Some(()) = make_squashfs(&image, &tree, arguments) else { return };
        changed_at_random(std::fs::read(&image).unwrap(), Kind::Squashfs);
        std::fs::remove_file(image).unwrap();
    }
}

/// At each change one to three bytes of structures become others; then the image is cut off at each KiB.
fn changed_at_random(image: Vec<u8>, kind: Kind) {
    let whole = read_in_time(&image);
    assert_eq!((whole.kind, whole.trouble.as_deref()), (kind, None));
    // Most of what is metadata is empty; what is not tells something.
    let places = whole.metadata.iter().flat_map(|m| m.at..m.end()).filter(|&at| image[at as usize] != 0);
    let places: Vec<_> = places.collect();
    let dice = noise(FLIPS * 32, 99);
    let mut dice = dice.chunks_exact(2).map(|two| usize::from(two[0]) << 8 | usize::from(two[1]));
    let mut roll = move |sides: usize| dice.next().unwrap() % sides;
    let (mut refused, mut read) = (0, 0);
    for _ in 0..FLIPS {
        let mut changed = image.clone();
        for _ in 0..=roll(3) {
            let at = (places[roll(places.len())] as usize + roll(2)).min(image.len() - 1);
            changed[at] = [0, 0xff, 0x80, changed[at] ^ 1 << roll(8), changed[at].wrapping_add(1)][roll(5)];
        }
        match read_in_time(&changed).trouble {
            Some(_) => refused += 1,
            None => read += 1,
        }
    }
    assert!(refused > FLIPS / 50 && read > FLIPS / 50, "{kind:?}: {refused} refused, {read} read");
    for cut in (0..image.len()).step_by(KIB) {
        let layout = read_in_time(&image[..cut].to_vec());
        assert!(
            layout.trouble.is_some() || layout.kind == Kind::Raw || cut + 4 * KIB > image.len(),
            "{kind:?}: {cut}"
        );
    }
}

/// Reads, and holds what is promised of every layout.
fn read_in_time(image: &Vec<u8>) -> Layout {
    let started = Instant::now();
    let layout = read(image).unwrap();
    assert!(started.elapsed() < READ_MAX, "took {:?}", started.elapsed());
    let contents = layout.files.iter().flat_map(|file| &file.extents);
    let inside = |extent: &Extent| extent.bytes > 0 && extent.at + extent.bytes <= image.len() as u64;
    assert!(contents.clone().chain(&layout.metadata).all(inside));
    let sum: u64 = contents.map(|extent| extent.bytes).sum();
    assert!(sum <= image.len() as u64 * SHARING_MAX + TAKE_BYTES_MAX);
    assert!(layout.files.is_sorted_by_key(|file| &file.path));
    assert!(layout.metadata.is_sorted_by(|a, b| a.end() < b.at));
    if layout.kind == Kind::Raw {
        assert!(layout.files.is_empty() && layout.metadata.is_empty());
    }
    layout
}

/// A folder that holds its own parent under another name.
#[test]
fn folders_that_go_in_circles_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let Some(image) = forged(folder.path(), &["-t", "ext2"], &["link /usr /usr/lib/up"]) else { return };
    let layout = read_in_time(&image);
    let why = layout.trouble.unwrap();
    assert!(why.contains("/usr") && why.contains("has a path already"), "{why}");
}

/// The last pointer of an old block map names a block that is full of pointers to itself: 256³ blocks of content.
#[test]
fn a_block_map_that_points_at_itself_runs_out_of_budget() {
    let folder = tempfile::tempdir().unwrap();
    let block: u32 = 400;
    let script = [&format!("sif /usr/lib/large block[TIND] {block}"), "sif /usr/lib/large size 16000000000"];
    let Some(mut image) = forged(folder.path(), &["-t", "ext2"], &script) else { return };
    let itself = block.to_le_bytes().repeat(KIB / 4);
    image[block as usize * KIB..][..KIB].copy_from_slice(&itself);
    let why = read_in_time(&image).trouble.unwrap();
    assert!(why.contains("expected at most"), "{why}");
}

/// An extent tree whose inner node names itself: each level must be one lower than the one above.
#[test]
fn an_extent_tree_that_points_at_itself_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let block: u32 = 400;
    // The root in the inode: magic, one entry, room for four, depth 1, generation; logical 0, block, upper half, unused.
    let root = [0x0001_f30a, 0x0001_0004, 0, 0, block, 0];
    let script =
        root.iter().enumerate().map(|(at, word)| format!("sif /usr/lib/large block[{at}] {word:#x}"));
    let script: Vec<_> = script.collect();
    let script: Vec<_> = script.iter().map(String::as_str).collect();
    let Some(mut image) = forged(folder.path(), &["-t", "ext4", "-O", "^metadata_csum"], &script) else {
        return;
    };
    for word in 0..root.len() {
        image[block as usize * KIB + word * 4..][..4].copy_from_slice(&root[word].to_le_bytes());
    }
    let why = read_in_time(&image).trouble.unwrap();
    assert!(why.contains("extent tree: expected depth"), "{why}");
}

/// 70 folders in each other with names of 60 bytes: what a device cannot open is not asked for.
#[test]
fn paths_that_no_system_can_open_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let name = "n".repeat(60);
    let script: Vec<_> = (0..70).flat_map(|_| [format!("mkdir {name}"), format!("cd {name}")]).collect();
    let script: Vec<_> = script.iter().map(String::as_str).collect();
    let Some(image) = forged(folder.path(), &["-t", "ext2", "-N", "128"], &script) else { return };
    let why = read_in_time(&image).trouble.unwrap();
    assert!(why.contains(&format!("at most {PATH_BYTES_MAX} bytes")), "{why}");
}

/// Many files may share their content, but what a reader of all of them would read is bounded by the image's length.
#[test]
fn content_that_is_shared_beyond_measure_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let tree = small(folder.path());
    let content = noise(100 * KIB, 1);
    for (copies, refused) in [(5, false), (30, true)] {
        (0..copies).for_each(|n| std::fs::write(tree.join(format!("copy-{n}")), &content).unwrap());
        let image = folder.path().join("image");
        let Some(()) = make_squashfs(&image, &tree, &["-noI", "-noD", "-noF", "-noX"]) else { return };
        let bytes = std::fs::read(&image).unwrap();
        assert!(bytes.len() < 300 * KIB, "mksquashfs keeps equal content once");
        let trouble = read_in_time(&bytes).trouble;
        assert_eq!(trouble.is_some_and(|why| why.contains("bytes of files")), refused, "{copies}");
        std::fs::remove_file(image).unwrap();
    }
}

/// An ext4 with blocks of 1 KiB, changed by debugfs.
fn forged(folder: &Path, arguments: &[&str], script: &[&str]) -> Option<Vec<u8>> {
    let (image, commands) = (folder.join("image"), folder.join("script"));
    std::fs::File::create(&image).unwrap().set_len(768 << 10).unwrap();
    make_ext4(&image, &small(folder), &[&["-N", "64", "-b", "1024"], arguments].concat())?;
    std::fs::write(&commands, script.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    run("e2fsprogs", tool("debugfs").arg("-w").arg("-f").arg(commands).arg(&image))?;
    Some(std::fs::read(image).unwrap())
}

/// A few files in all ways of being stored, in little room.
fn small(folder: &Path) -> PathBuf {
    let root = folder.join("tree");
    std::fs::create_dir_all(root.join("usr/lib")).unwrap();
    for (name, bytes) in
        [("empty", 0), ("short", 20), ("usr/blocks", 2 * KIB), ("usr/lib/large", 60 * KIB + 7)]
    {
        std::fs::write(root.join(name), noise(bytes, bytes as u64)).unwrap();
    }
    let _ = std::fs::hard_link(root.join("short"), root.join("usr/again"));
    let _ = symlink("l".repeat(100), root.join("link"));
    root
}
