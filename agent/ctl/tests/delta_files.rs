//! Deltas of file systems: a changed file is held against the file that it was, executables by what has moved in them.
//!
//! Images are made by mkfs.ext4 (e2fsprogs) and mkfs.erofs (erofs-utils). Where one of them is missing, its cases are not run and say
//! so; in CI they must run.

#[path = "common/images.rs"]
#[allow(dead_code)] // squashfs is looked at as any bytes are
mod images;

use images::{KIB, make_erofs, make_ext4, noise};
use mainstayctl::delta::{How, Source, Summary, make, prove};
use mainstayctl::layout::{ImageFile, read};
use std::fs;
use std::path::{Path, PathBuf};

const HOW: How = How { level: 3, threads: 2, transforms: true };

fn delta(base: &Path, new: &Path, how: How) -> Summary {
    let (base, new) = (ImageFile::open(base).unwrap(), ImageFile::open(new).unwrap());
    let mut all = Vec::new();
    let take = &mut |index, made| {
        all.push((index, made));
        Ok(())
    };
    let summary = make(&base, &new, how, &|_| {}, take).unwrap();
    prove(&base, &new, all).unwrap();
    summary
}

type Maker = fn(&Path, &Path) -> Option<()>;
const MAKERS: [(&str, Maker); 2] = [
    ("ext4", |image, tree| {
        let seed = "hash_seed=01234567-89ab-cdef-0123-456789abcdef";
        make_ext4(image, tree, &["-b", "4096", "-U", "01234567-89ab-cdef-0123-456789abcdef", "-E", seed])
    }),
    ("erofs", |image, tree| make_erofs(image, tree, &["-U", "01234567-89ab-cdef-0123-456789abcdef"])),
];

/// Two trees, and their images by each maker.
fn both(before: &dyn Fn(&Path), after: &dyn Fn(&Path), look: &dyn Fn(&str, &Path, &Path)) {
    let folder = tempfile::tempdir().unwrap();
    let tree = |name: &str, fill: &dyn Fn(&Path)| -> PathBuf {
        let tree = folder.path().join(name);
        fs::create_dir_all(tree.join("lib")).unwrap();
        fill(&tree);
        tree
    };
    let (old, new) = (tree("old", before), tree("new", after));
    for (name, maker) in MAKERS {
        let [base, image] = ["base", "new"].map(|part| folder.path().join(format!("{part}.{name}")));
        let Some(()) = maker(&base, &old).and_then(|()| maker(&image, &new)) else { continue };
        look(name, &base, &image);
    }
}

/// No 32 bytes of it are left as they were, so nothing but its name tells what it was.
fn changed_everywhere(content: &[u8]) -> Vec<u8> {
    let mut content = content.to_vec();
    content.iter_mut().step_by(28).for_each(|byte| *byte = byte.wrapping_add(8));
    content
}

#[test]
fn a_changed_file_is_made_from_what_it_was_under_another_version_number() {
    let library = noise(160 * KIB, 1);
    let before = |tree: &Path| {
        fs::write(tree.join("lib/libx.so.1.2.9"), &library).unwrap();
        fs::write(tree.join("lib/other"), noise(100 * KIB, 2)).unwrap();
    };
    let after = |tree: &Path| {
        fs::write(tree.join("lib/first"), noise(3 * KIB, 3)).unwrap();
        fs::write(tree.join("lib/libx.so.1.2.10"), changed_everywhere(&library)).unwrap();
        fs::write(tree.join("lib/other"), noise(100 * KIB, 2)).unwrap();
    };
    both(&before, &after, &|name, base, new| {
        let summary = delta(base, new, HOW);
        let changes = 160 * KIB as u64 / 28;
        let file = summary.sources[Source::File as usize];
        assert!(file > 0 && file < changes, "{name}: {file} bytes for {changes} alike changes");
        assert!(summary.bytes() < changes + 8 * KIB as u64, "{name}: {} bytes", summary.bytes());
        assert_eq!(summary.files[0].0, "/lib/libx.so.1.2.10", "{name}: what costs most");
    });
}

/// 400 functions of 60 bytes that call each other, as a compiler leaves them (x86-64). The later version has something new behind
/// every twentieth, of another length each time.
fn program(later: bool, seed: u64) -> Vec<u8> {
    let inserted = |function: usize| {
        if later && function % 20 == 19 { 4 + (function / 20 * 5 + seed as usize) % 12 * 4 } else { 0 }
    };
    let place = |function: usize| 0x1000 + function * 60 + (0..function).map(inserted).sum::<usize>();
    let mut file = vec![0; 0x1000];
    file[..6].copy_from_slice(b"\x7fELF\x02\x01");
    (file[18], file[32], file[54], file[56]) = (62, 64, 56, 1);
    (file[64], file[68]) = (1, 5); // PT_LOAD, readable and executable
    for at in [64 + 32, 64 + 40] {
        file[at..at + 8].copy_from_slice(&(place(400) as u64).to_le_bytes());
    }
    for function in 0..400 {
        let mut code: Vec<u8> =
            noise(60, seed + function as u64).iter().map(|byte| byte & 0x7f | 0x40).collect();
        for (call, at) in [5usize, 20, 35, 50].into_iter().enumerate() {
            let target = place((function * 7 + call * 131) % 400) as i64;
            let from = (place(function) + at + 5) as i64;
            code[at] = 0xe8;
            code[at + 1..at + 5].copy_from_slice(&((target - from) as i32).to_le_bytes());
        }
        file.extend(code);
        file.extend(noise(inserted(function), seed + 500 + function as u64));
    }
    file
}

/// Both programs stand in one segment, whose patch holds a map of each.
#[test]
fn calls_that_cross_insertions_are_predicted() {
    let programs = |tree: &Path, later| {
        for (name, seed) in [("one", 1000), ("other", 2001)] {
            fs::write(tree.join("lib").join(name), program(later, seed)).unwrap();
        }
    };
    both(&|tree| programs(tree, false), &|tree| programs(tree, true), &|name, base, new| {
        let with = delta(base, new, HOW);
        let without = delta(base, new, How { transforms: false, ..HOW });
        let file = |summary: &Summary| summary.sources[Source::File as usize];
        assert!(file(&with) * 5 < file(&without) * 2, "{name}: {} of {}", file(&with), file(&without));
        assert!(with.transforms_saved > 0 && without.transforms_saved == 0, "{name}");
    });
}

#[test]
fn files_that_moved_cost_nothing_but_their_places() {
    let files = |tree: &Path| {
        for file in 0..40 {
            fs::write(tree.join(format!("lib/f{file:02}")), noise(20 * KIB, file)).unwrap();
        }
    };
    let more = |tree: &Path| {
        files(tree);
        fs::write(tree.join("lib/a"), noise(5 * KIB, 77)).unwrap();
    };
    both(&files, &more, &|name, base, new| {
        let summary = delta(base, new, HOW);
        let bytes = summary.bytes();
        assert!(bytes > 5 * KIB as u64 && bytes < 8 * KIB as u64, "{name}: {bytes} bytes for 5 new KiB");
    });
}

/// A link that now points to another version, a file that was merged into another one: the path alone does not say where it is from.
#[test]
fn a_file_that_holds_what_another_one_held_is_made_from_that() {
    let write =
        |tree: &Path, name: &str, content: &[u8]| fs::write(tree.join("lib").join(name), content).unwrap();
    let before = |tree: &Path| {
        write(tree, "a", &noise(60 * KIB, 1));
        write(tree, "b", &noise(60 * KIB, 2));
    };
    let after = |tree: &Path| write(tree, "a", &[&b"new"[..], &noise(60 * KIB, 2)].concat());
    both(&before, &after, &|name, base, new| {
        let bytes = delta(base, new, HOW).bytes();
        assert!(bytes < KIB as u64, "{name}: {bytes} bytes");
    });
}

/// Where an executable's tables stand can only be said if it is known what of the file has no place in the image.
#[test]
fn holes_of_files_are_known_by_their_offsets() {
    let folder = tempfile::tempdir().unwrap();
    let (tree, image) = (folder.path().join("tree"), folder.path().join("image"));
    fs::create_dir_all(tree.join("lib")).unwrap();
    let content = [noise(4 * KIB, 1), vec![0; 8 * KIB], noise(5 * KIB, 2), vec![0; 7 * KIB + 5]].concat();
    fs::write(tree.join("lib/holes"), &content).unwrap();
    fs::write(tree.join("lib/whole"), noise(9 * KIB, 3)).unwrap();
    let Some(()) = make_ext4(&image, &tree, &["-b", "4096"]) else { return };
    let layout = read(&ImageFile::open(&image).unwrap()).unwrap();
    let holes =
        |at: usize| layout.files[at].holes.iter().map(|hole| (hole.at, hole.bytes)).collect::<Vec<_>>();
    let kib = KIB as u64;
    assert_eq!(holes(0), [(4 * kib, 8 * kib), (20 * kib, 4 * kib + 5)]);
    assert_eq!(holes(1), []);
}
