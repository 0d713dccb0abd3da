//! The hints on real file systems: each fault that can be made with their tools is named, and a well made image gets none.

#[path = "common/images.rs"]
mod images;

use images::{KIB, make_erofs, make_ext4, make_squashfs, noise, run, tool};
use mainstayctl::hints::{Hint, hints};
use mainstayctl::layout::{ImageFile, ReadAt, read};
use std::path::{Path, PathBuf};

const UUID: &str = "6d61696e-7374-4179-8000-000000000001";
const OTHER_UUID: &str = "6d61696e-7374-4179-8000-000000000002";

#[test]
fn a_well_made_image_gets_no_hint() {
    let folder = tempfile::tempdir().unwrap();
    let Some((first, second)) = pair(folder.path(), &Build::default(), &Build::default()) else { return };
    assert!(first == second, "the same build twice");
    assert_eq!(compared(&first, &second), []);
}

#[test]
fn times_that_differ_from_build_to_build_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let later = Build { time: 1_700_000_777, ..Build::default() };
    let Some((base, new)) = pair(folder.path(), &Build::default(), &later) else { return };
    let found = compared(&base, &new);
    let hint = only(&found, "nothing but times");
    // Four files, three folders, lost+found and the inode of the room to grow: four times of two bytes, and a checksum of four.
    assert!((9 * 8..=9 * 12).contains(&hint.bytes), "{hint:?}");
    assert!(hint.title.starts_with("9 inodes") && hint.advice.contains("SOURCE_DATE_EPOCH"), "{hint:?}");
}

#[test]
fn another_uuid_costs_its_copies_and_with_checksums_every_one_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let mut costs = Vec::new();
    for (features, expected) in [("^metadata_csum", "UUID differs"), ("metadata_csum", "every checksum")] {
        let build = |uuid| Build { uuid, features, ..Build::default() };
        let Some((base, new)) = pair(folder.path(), &build(UUID), &build(OTHER_UUID)) else { return };
        let found = compared(&base, &new);
        let hint = only(&found, expected);
        assert!(hint.advice.contains("-U UUID"), "{hint:?}");
        costs.push(hint.bytes);
    }
    assert_eq!(costs[0], 2 * 16, "two superblocks in 12 MiB");
    assert!(costs[1] > 4 * costs[0], "{costs:?}");
    let seed = Build { seed: OTHER_UUID, features: "^metadata_csum", ..Build::default() };
    let Some((base, new)) =
        pair(folder.path(), &Build { features: "^metadata_csum", ..Build::default() }, &seed)
    else {
        return;
    };
    only(&compared(&base, &new), "hash seed differs");
}

#[test]
fn old_bytes_in_free_blocks_and_in_the_journal_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let build = Build { features: "has_journal", ..Build::default() };
    let Some((clean, mut stale)) = pair(folder.path(), &build, &build) else { return };
    assert_eq!(hints_of(&clean), []);
    let image = folder.path().join("asked");
    std::fs::write(&image, &clean).unwrap();
    // debugfs, not the code under test, says which blocks are free and which are the journal's.
    let free = numbers(&image, "ffb 3 5000");
    let journal = numbers(&image, "blocks <8>");
    for block in free.iter().chain([&journal[5], &journal[900]]) {
        stale[*block as usize * KIB + 17] = 1;
    }
    let found = hints_of(&stale);
    assert_eq!((free.len(), found.len()), (3, 2), "{found:?}");
    assert_eq!(only(&found, "free blocks").bytes, 3 * KIB as u64);
    assert_eq!(only(&found, "journal").bytes, 2 * KIB as u64);
}

#[test]
fn a_file_system_that_compresses_is_named_with_what_it_holds() {
    let folder = tempfile::tempdir().unwrap();
    let tree = sample(folder.path());
    std::fs::write(tree.join("words"), "the same words again and again\n".repeat(20_000)).unwrap();
    let image = folder.path().join("image");
    let seen = |made: Option<()>, expected: &str| {
        if made.is_none() {
            return;
        }
        let bytes = std::fs::read(&image).unwrap();
        let found = hints_of(&bytes);
        match expected {
            "" => assert_eq!(found, []),
            _ => {
                let hint = only(&found, expected);
                assert!(hint.bytes > 0 && hint.bytes < bytes.len() as u64, "{hint:?}");
                assert!(hint.advice.contains("uncompressed"), "{hint:?}");
            }
        }
        std::fs::remove_file(&image).unwrap();
    };
    seen(make_squashfs(&image, &tree, &["-comp", "zstd"]), "squashfs stores");
    seen(make_squashfs(&image, &tree, &["-comp", "gzip"]), "squashfs stores its content compressed");
    seen(make_squashfs(&image, &tree, &["-noI", "-noD", "-noF", "-noX"]), "");
    seen(make_squashfs(&image, &tree, &["-comp", "gzip", "-noD", "-noF"]), "");
    seen(make_erofs(&image, &tree, &["-zlz4"]), "erofs stores");
    seen(make_erofs(&image, &tree, &[]), "");
}

/// By hand: `HINTS_IMAGE=… HINTS_BASE=… cargo test … -- --ignored --nocapture`. Every file costs its whole length here.
#[test]
#[ignore = "needs images of yours"]
fn what_an_image_of_yours_costs() {
    let open = |name| std::env::var_os(name).map(|path| ImageFile::open(Path::new(&path)).unwrap());
    let new = open("HINTS_IMAGE").expect("HINTS_IMAGE is set");
    let base = open("HINTS_BASE");
    let layout = read(&new).unwrap();
    let base = base.as_ref().map(|base| (base as &dyn ReadAt, read(base).unwrap()));
    let costs: Vec<_> = layout.files.iter().map(|file| (file.path.clone(), file.bytes)).collect();
    for hint in hints(&new, &layout, base.as_ref().map(|(base, layout)| (*base, layout)), &costs) {
        println!("{:>12}  {}\n{:14}{}", hint.bytes, hint.title, "", hint.advice);
    }
}

/// How an image is built.
struct Build {
    time: u64,
    uuid: &'static str,
    seed: &'static str,
    features: &'static str,
}

impl Default for Build {
    fn default() -> Self {
        Build { time: 1_700_000_000, uuid: UUID, seed: UUID, features: "^has_journal" }
    }
}

/// The same files built twice.
fn pair(folder: &Path, first: &Build, second: &Build) -> Option<(Vec<u8>, Vec<u8>)> {
    let tree = sample(folder);
    Some((built(folder, &tree, first)?, built(folder, &tree, second)?))
}

fn built(folder: &Path, tree: &Path, build: &Build) -> Option<Vec<u8>> {
    let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(build.time);
    for path in ["a", "b", "usr/c", "usr/lib/d", "usr/lib", "usr", ""] {
        std::fs::File::open(tree.join(path)).unwrap().set_modified(time).unwrap();
    }
    let image = folder.join("built");
    let _ = std::fs::remove_file(&image);
    let extended = format!("hash_seed={},root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0", build.seed);
    // What differs by itself (times of change and of access, of making) is held by the tool's own variable.
    let journal = if build.features == "has_journal" { "has_journal" } else { "^has_journal" };
    let features = format!("{},{journal}", build.features);
    make_ext4(&image, tree, &["-b", "1024", "-U", build.uuid, "-E", &extended, "-O", &features])?;
    settle(&image, build.time)?;
    Some(std::fs::read(image).unwrap())
}

/// Sets every time in the file system: what mkfs takes from the clock and from the host's files would differ by itself.
fn settle(image: &Path, time: u64) -> Option<()> {
    let mut script = String::new();
    for path in ["a", "b", "usr/c", "usr/lib/d", "usr/lib", "usr", "", "<7>", "<8>", "lost+found"] {
        let path = if path.starts_with('<') { path.to_owned() } else { format!("/{path}") };
        for field in ["atime", "ctime", "mtime", "crtime"] {
            script += &format!("sif {path} {field} @{time}\n");
        }
        for field in ["atime_extra", "ctime_extra", "mtime_extra", "crtime_extra"] {
            script += &format!("sif {path} {field} 0\n");
        }
    }
    for field in ["mkfs_time", "wtime", "lastcheck"] {
        script += &format!("ssv {field} 20260101000000\n");
    }
    let commands = image.with_extension("script");
    std::fs::write(&commands, script).unwrap();
    run(
        "e2fsprogs",
        tool("debugfs").env("E2FSPROGS_FAKE_TIME", "1700000000").arg("-w").arg("-f").arg(commands).arg(image),
    )
}

fn hints_of(image: &Vec<u8>) -> Vec<Hint> {
    let layout = read(image).unwrap();
    hints(image, &layout, None, &[])
}

fn compared(base: &Vec<u8>, new: &Vec<u8>) -> Vec<Hint> {
    let (layout, base_layout) = (read(new).unwrap(), read(base).unwrap());
    hints(new, &layout, Some((base, &base_layout)), &[])
}

fn only<'h>(found: &'h [Hint], title: &str) -> &'h Hint {
    let mut matching = found.iter().filter(|hint| hint.title.contains(title));
    let first = matching.next().unwrap_or_else(|| panic!("expected {title:?}, found {found:#?}"));
    assert!(matching.next().is_none(), "{found:#?}");
    first
}

fn numbers(image: &Path, request: &str) -> Vec<u64> {
    let said = tool("debugfs").arg("-R").arg(request).arg(image).output().unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    said.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

fn sample(folder: &Path) -> PathBuf {
    let root = folder.join("tree");
    std::fs::create_dir_all(root.join("usr/lib")).unwrap();
    for (name, bytes) in [("a", 10), ("b", 3 * KIB), ("usr/c", 9 * KIB), ("usr/lib/d", 80 * KIB)] {
        std::fs::write(root.join(name), noise(bytes, bytes as u64)).unwrap();
    }
    root
}
