//! Which file of the base a changed file was before: that of the same path, else that of the same path but for its version numbers.
//!
//! ```text
//! usr/lib/libssl.so.3.0.11            usr/lib/libssl.so.#
//! usr/lib/libssl.so.3.0.17            usr/lib/libssl.so.#
//! lib/modules/6.1.0-44-amd64/x.ko     lib/modules/#-#-amd64/x.ko
//! ```
//! A file is matched whole if it has changed in many places, and only around its changes if they are few; very large ones in
//! windows. Files that share their blocks with others (tails that erofs packs beside inodes) are left to those who look at the rest.

use super::blocks::BLOCK_BYTES;
use super::elf::Holes;
use super::job::Job;
use super::ranges::{Joined, common, end, sorted, total};
use crate::layout::{Extent, FileExtents, Kind, Layout};
use std::collections::BTreeMap;

/// The work for all files that have changed and were there before.
pub fn jobs(before: &Layout, after: &Layout, changed: &[Extent]) -> Vec<Job> {
    let names = Names::of(before, after);
    let mut jobs = Vec::new();
    for file in &after.files {
        let own = own_blocks(&whole_blocks(after.kind, file));
        let touched: u64 = own.iter().map(|extent| overlap(changed, extent)).sum();
        if touched == 0 {
            continue;
        }
        if let Some(old) = names.older(before, file) {
            let new = whole_blocks(after.kind, file);
            let mut work = pair(whole_blocks(before.kind, old), new.clone(), changed, touched);
            if let [job] = work.as_mut_slice()
                && job.new.extents() == new
            {
                job.holes = Some([old, file].map(|file| Holes::of(&file.holes)));
            }
            jobs.extend(work.into_iter().map(|job| {
                let only = common(&own, &sorted(job.new.extents().to_vec()));
                Job { only: Some(only), ..job }
            }));
        }
    }
    jobs
}

/// What is a file's alone, in order: ends that stand in a block with others are looked at for what they tell (an executable's tables
/// stand there) and made by whoever makes these blocks.
fn own_blocks(whole: &[Extent]) -> Vec<Extent> {
    sorted(whole.iter().copied().filter(|extent| extent.at.is_multiple_of(SECTOR_BYTES)).collect())
}

/// A file's extents up to the ends of its blocks: what follows a file there is part of no other.
pub fn whole_blocks(kind: Kind, file: &FileExtents) -> Vec<Extent> {
    let mut extents = file.extents.clone();
    if let (Kind::Ext4, Some(last)) = (kind, extents.last_mut())
        && last.at.is_multiple_of(BLOCK_BYTES)
    {
        last.bytes = last.bytes.next_multiple_of(BLOCK_BYTES);
    }
    extents
}

fn pair(old: Vec<Extent>, new: Vec<Extent>, changed: &[Extent], touched: u64) -> Vec<Job> {
    let (old_bytes, new_bytes) = (total(&old), total(&new));
    let job = |old, new| Job { old: Joined::new(old), new: Joined::new(new), only: None, holes: None };
    if old_bytes.max(new_bytes) <= WHOLE_BYTES_MAX {
        let few = new_bytes > SMALL_BYTES && touched < new_bytes / FEW_OF;
        return vec![job(old, if few { around(&new, changed) } else { new })];
    }
    let (mut jobs, mut at) = (Vec::new(), 0);
    while at < new_bytes {
        let bytes = WINDOW_BYTES.min(new_bytes - at);
        let part = around(&cut(&new, at, bytes), changed);
        if !part.is_empty() {
            let middle = ((at + bytes / 2) as u128 * u128::from(old_bytes) / u128::from(new_bytes)) as u64;
            jobs.push(job(cut(&old, middle.saturating_sub(WINDOW_BYTES), 2 * WINDOW_BYTES), part));
        }
        at += bytes;
    }
    jobs
}

/// The parts of a file that have changed, with a little of what stands around them.
fn around(extents: &[Extent], changed: &[Extent]) -> Vec<Extent> {
    let mut out: Vec<Extent> = Vec::new();
    for extent in extents {
        let first = changed.partition_point(|change| end(change) <= extent.at);
        for change in changed[first..].iter().take_while(|change| change.at < end(extent)) {
            let from = change.at.saturating_sub(MARGIN_BYTES).max(extent.at);
            let to = (end(change) + MARGIN_BYTES).min(end(extent));
            match out.last_mut() {
                Some(last) if last.at >= extent.at && end(last) >= from && last.at <= from => {
                    last.bytes = to.max(end(last)) - last.at;
                }
                _ => out.push(Extent { at: from, bytes: to - from }),
            }
        }
    }
    out
}

/// `bytes` of a file from `from` on, or as many as there are.
fn cut(extents: &[Extent], from: u64, bytes: u64) -> Vec<Extent> {
    let (mut out, mut at) = (Vec::new(), 0);
    for extent in extents {
        let (begin, stop) = (from.max(at), (from + bytes).min(at + extent.bytes));
        if begin < stop {
            out.push(Extent { at: extent.at + (begin - at), bytes: stop - begin });
        }
        at += extent.bytes;
    }
    out
}

/// How many bytes of an extent are among sorted ones.
fn overlap(sorted: &[Extent], extent: &Extent) -> u64 {
    let first = sorted.partition_point(|other| end(other) <= extent.at);
    let others = sorted[first..].iter().take_while(|other| other.at < end(extent));
    others.map(|other| end(other).min(end(extent)) - other.at.max(extent.at)).sum()
}

/// The base's files by their names.
struct Names<'a> {
    paths: BTreeMap<&'a str, usize>,
    /// Those whose path the new image does not have, by the path without its numbers.
    gone: BTreeMap<String, Vec<usize>>,
}

impl<'a> Names<'a> {
    fn of(before: &'a Layout, after: &'a Layout) -> Self {
        let still: std::collections::BTreeSet<&str> = after.files.iter().map(|file| &*file.path).collect();
        let (mut paths, mut gone) = (BTreeMap::new(), BTreeMap::<String, Vec<usize>>::new());
        for (index, file) in before.files.iter().enumerate() {
            paths.insert(&*file.path, index);
            if !still.contains(&*file.path) {
                gone.entry(without_numbers(&file.path)).or_default().push(index);
            }
        }
        Names { paths, gone }
    }

    /// Of several that only their numbers tell apart, that of the nearest length.
    fn older(&self, before: &'a Layout, file: &FileExtents) -> Option<&'a FileExtents> {
        let same = self.paths.get(&*file.path).map(|index| &before.files[*index]);
        let others = || self.gone.get(&without_numbers(&file.path)).into_iter().flatten();
        let nearest =
            || others().map(|index| &before.files[*index]).min_by_key(|old| old.bytes.abs_diff(file.bytes));
        same.or_else(nearest).filter(|old| !old.extents.is_empty())
    }
}

/// Each number, with the dots that join it to the next one, as one sign.
fn without_numbers(path: &str) -> String {
    let (mut out, mut number) = (String::with_capacity(path.len()), false);
    for letter in path.chars() {
        match letter {
            '0'..='9' if number => {}
            '.' if number => {}
            '0'..='9' => {
                out.push('#');
                number = true;
            }
            letter => {
                out.push(letter);
                number = false;
            }
        }
    }
    out
}

/// Larger files are looked at in windows.
const WHOLE_BYTES_MAX: u64 = 48 << 20;
const WINDOW_BYTES: u64 = 12 << 20;
/// A file up to here is looked at whole, whatever has changed.
const SMALL_BYTES: u64 = 1 << 20;
/// A file of which less than this part has changed is looked at around the changes.
const FEW_OF: u64 = 16;
const MARGIN_BYTES: u64 = 16 << 10;
/// No file's own block begins elsewhere.
const SECTOR_BYTES: u64 = 512;

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(files: &[(&str, u64, u64)]) -> Layout {
        let file = |(path, at, bytes): &(&str, u64, u64)| FileExtents {
            path: (*path).to_owned(),
            bytes: *bytes,
            extents: vec![Extent { at: *at, bytes: *bytes }],
            holes: Vec::new(),
        };
        Layout {
            kind: Kind::Ext4,
            files: files.iter().map(file).collect(),
            metadata: Vec::new(),
            trouble: None,
        }
    }

    #[test]
    fn a_file_is_found_again_under_its_path_or_under_another_version_number() {
        let before = layout(&[
            ("lib/modules/6.1.0-43-amd64/x.ko", 0, 5000),
            ("lib/libssl.so.3.0.11", 8192, 5000),
            ("lib/libssl.so.1.1", 16384, 900),
            ("lib/same7", 20480, 100),
            ("lib/same8", 24576, 100),
        ]);
        let after = layout(&[
            ("lib/modules/6.1.0-44-amd64/x.ko", 0, 5000),
            ("lib/libssl.so.3.0.17", 0, 5100),
            ("lib/same8", 0, 100),
            ("lib/same9", 0, 100),
            ("lib/new", 0, 100),
        ]);
        let names = Names::of(&before, &after);
        let older = |at: usize| names.older(&before, &after.files[at]).map(|file| file.path.as_str());
        assert_eq!(older(0), Some("lib/modules/6.1.0-43-amd64/x.ko"));
        assert_eq!(older(1), Some("lib/libssl.so.3.0.11")); // the nearer in length
        assert_eq!(older(2), Some("lib/same8"));
        assert_eq!(older(3), Some("lib/same7")); // not same8, which is still there
        assert_eq!(older(4), None);
    }

    #[test]
    fn only_files_with_changes_are_worked_on_and_large_ones_around_them() {
        let before = layout(&[("a", 0, 4096), ("b", 4096, 8 << 20), ("c", 20 << 20, 60 << 20)]);
        let at = |place: u64| Extent { at: place, bytes: 4096 };
        let list = jobs(&before, &before, &sorted(vec![at(4 << 20), at(30 << 20), at(78 << 20)]));
        let sizes: Vec<_> = list.iter().map(|job| (job.new.bytes(), job.old.bytes())).collect();
        let around = 4096 + 2 * MARGIN_BYTES;
        assert_eq!(sizes, [(around, 8 << 20), (around, 24 << 20), (around, 18 << 20)]);
        assert!(jobs(&before, &before, &[]).is_empty());
    }

    #[test]
    fn a_file_in_ext4_has_its_last_block_to_itself() {
        let layout = layout(&[("a", 8192, 5000)]);
        assert_eq!(total(&whole_blocks(Kind::Ext4, &layout.files[0])), 8192);
        assert_eq!(total(&whole_blocks(Kind::Erofs, &layout.files[0])), 5000);
    }
}
