//! What of the new image is like what of the base: spans in order, for all that changed.

use super::blocks::{self, BLOCK_BYTES};
use super::closed::Blocks;
use super::job::{Done, Job};
use super::parallel::in_parallel;
use super::ranges::{Joined, common, end, sorted, total, without};
use super::suffix::TEXT_BYTES_MAX;
use super::{How, Source, content, pairs, repeats};
use crate::Result;
use crate::layout::{self, Extent, Kind, Layout, ReadAt};
use mainstay_core::bundle::patch::{Map, Transform};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of the new image that are like bytes of the base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Where they stand in the new image.
    pub new: u64,
    /// Where they stood in the base.
    pub base: u64,
    /// How many.
    pub bytes: u64,
    /// How they are predicted to have changed.
    pub guess: Option<Guess>,
}

/// A prediction for a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guess {
    /// How.
    pub transform: Transform,
    /// The address of the span's first byte.
    pub address: u32,
    /// See [`Transform::Anchored`].
    pub anchor: u32,
    /// Which of the plan's maps.
    pub map: usize,
}

impl Span {
    /// Where the span ends in the new image.
    pub fn end(&self) -> u64 {
        self.new + self.bytes
    }

    /// The part of it that lies within `from..to` of the new image.
    pub fn within(&self, from: u64, to: u64) -> Option<Span> {
        let (begin, end) = (self.new.max(from), self.end().min(to));
        let skipped = begin.checked_sub(self.new)?;
        let guess = |guess: Guess| Guess { address: guess.address.wrapping_add(skipped as u32), ..guess };
        (begin < end).then(|| Span {
            new: begin,
            base: self.base + skipped,
            bytes: end - begin,
            guess: self.guess.map(guess),
        })
    }
}

/// What a part of the new image belongs to.
pub struct Owner {
    /// Where.
    pub extent: Extent,
    /// What it was matched as.
    pub source: Source,
    /// Whose it is.
    pub path: Option<Arc<str>>,
}

/// All spans, and what stands behind them.
#[derive(Default)]
pub struct Plan {
    /// In order of the new image; they do not overlap. What no span covers is new.
    pub spans: Vec<Span>,
    /// The maps of executables.
    pub maps: Vec<Box<Map>>,
    /// In order; what no owner has is a copy.
    pub owners: Vec<Owner>,
    /// Blocks of zstd in the base and in the new image.
    pub blocks: [Blocks; 2],
}

/// Plans the whole image.
pub fn plan(base: &dyn ReadAt, new: &dyn ReadAt, how: How, progress: &(dyn Fn(u64) + Sync)) -> Result<Plan> {
    let copies = blocks::copies(base, new, how.threads)?;
    let changed = without(&[Extent { at: 0, bytes: new.bytes() }], &places(&copies));
    let (before, after) = (known(base)?, known(new)?);
    let work = Work::of(base, new, [&before, &after], &changed, how)?;

    let busy = total(&work.claimed) + total(&work.rest);
    progress(new.bytes() - busy);
    let told = Told { left: AtomicU64::new(busy), progress };
    let done = run(&work.jobs, base, new, how, &|bytes| told.tell(bytes))?;
    told.tell(u64::MAX);

    let mut plan = Plan { owners: owners(&after, &work.claimed, &work.rest), ..Plan::default() };
    plan.add(outside(&copies, &work.claimed), done);
    // What a file's older version does not explain may come from another file.
    let mut left = without(&work.claimed, &places(&plan.spans));
    left.retain(|extent| extent.bytes >= LEFT_BYTES_LEAST);
    let others = content::jobs(base, new, &left, how.threads)?;
    plan.add(Vec::new(), run(&others, base, new, how, &|_| {})?);
    let own = repeats::spans(base, new, &changed, &plan.spans, how.threads)?;
    let others = outside(&plan.spans, &places(&own));
    plan.spans = in_order([others, own].concat());
    let after = Blocks::places(new, &changed)?;
    if !after.is_empty() {
        plan.blocks = [Blocks::opened(base, how.threads)?, after];
    }
    Ok(plan)
}

impl Plan {
    /// Takes spans as they are, and what jobs have found with the maps behind it.
    fn add(&mut self, mut spans: Vec<Span>, done: Vec<Done>) {
        spans.append(&mut self.spans);
        for Done { spans: found, map } in done {
            let number = self.maps.len();
            self.maps.extend(map);
            let numbered = |guess: Guess| Guess { map: number, ..guess };
            spans.extend(found.into_iter().map(|span| Span { guess: span.guess.map(numbered), ..span }));
        }
        self.spans = in_order(spans);
    }
}

/// What is to be matched.
struct Work {
    jobs: Vec<Job>,
    /// What files make, changed or not: copies that were found in them do not count.
    claimed: Vec<Extent>,
    /// What has changed and is no such file's.
    rest: Vec<Extent>,
}

impl Work {
    fn of(
        base: &dyn ReadAt,
        new: &dyn ReadAt,
        [before, after]: [&Layout; 2],
        changed: &[Extent],
        how: How,
    ) -> Result<Work> {
        let mut jobs = pairs::jobs(before, after, changed);
        let claimed = sorted(jobs.iter().flat_map(|job| job.claims().to_vec()).collect());
        let rest = without(changed, &claimed);
        let metadata = common(&rest, &after.metadata);
        let unknown = match metadata_job(base, new, before, after, &metadata)? {
            None => rest.clone(),
            Some(job) => {
                jobs.push(job);
                without(&rest, &metadata)
            }
        };
        jobs.extend(content::jobs(base, new, &unknown, how.threads)?);
        Ok(Work { jobs, claimed, rest })
    }
}

/// Progress that never tells of more than there is: two files may claim the same bytes.
struct Told<'a> {
    left: AtomicU64,
    progress: &'a (dyn Fn(u64) + Sync),
}

impl Told<'_> {
    fn tell(&self, bytes: u64) {
        let take = |left: u64| Some(left - left.min(bytes));
        let before = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).unwrap_or(0);
        (self.progress)(before.min(bytes));
    }
}

/// Large jobs one after the other, for each needs much memory; then the others side by side, the longest first. The results stand
/// in the jobs' order.
fn run(
    jobs: &[Job],
    base: &dyn ReadAt,
    new: &dyn ReadAt,
    how: How,
    tell: &(dyn Fn(u64) + Sync),
) -> Result<Vec<Done>> {
    let (large, mut small): (Vec<usize>, Vec<usize>) = (0..jobs.len()).partition(|at| jobs[*at].is_large());
    small.sort_by_key(|at| std::cmp::Reverse(jobs[*at].old.bytes() + jobs[*at].new.bytes()));
    let mut results = Vec::new();
    for (threads, order) in [(1, large), (how.threads, small)] {
        results.extend(in_parallel(threads, order.len(), &|turn| {
            let job = &jobs[order[turn]];
            let done = job.run(base, new, how.transforms)?;
            tell(total(job.claims()));
            Ok((order[turn], done))
        })?);
    }
    results.sort_by_key(|(index, _)| *index);
    Ok(results.into_iter().map(|(_, done)| done).collect())
}

/// A layout of which nothing lies outside of its image.
fn known(image: &dyn ReadAt) -> Result<Layout> {
    let (mut layout, bytes) = (layout::read(image)?, image.bytes());
    let inside = |extent: &Extent| extent.at.checked_add(extent.bytes).is_some_and(|end| end <= bytes);
    layout.files.retain(|file| file.extents.iter().all(inside) && total(&file.extents) <= bytes);
    layout.metadata.retain(inside);
    if layout.kind == Kind::Erofs {
        layout.metadata.iter_mut().for_each(|extent| *extent = blocks_of(extent, bytes));
    }
    layout.metadata = sorted(layout.metadata);
    Ok(layout)
}

/// In erofs the ends of files stand between the inodes: what stands in a block with metadata is looked at with it, for there the
/// order is the same as before.
fn blocks_of(extent: &Extent, bytes: u64) -> Extent {
    let at = extent.at - extent.at % BLOCK_BYTES;
    Extent { at, bytes: end(extent).next_multiple_of(BLOCK_BYTES).min(bytes) - at }
}

/// The file system's own blocks against all that it had before. All of them are looked at, so that what stays where it was keeps
/// the others in step; none, if they are more than what suffixes are made of.
fn metadata_job(
    base: &dyn ReadAt,
    new: &dyn ReadAt,
    before: &Layout,
    after: &Layout,
    changed: &[Extent],
) -> Result<Option<Job>> {
    if changed.is_empty() || total(&before.metadata).max(total(&after.metadata)) > METADATA_BYTES_MAX {
        return Ok(None);
    }
    let (old, all) = (not_zero(base, &before.metadata)?, not_zero(new, &after.metadata)?);
    if total(&old) as usize > TEXT_BYTES_MAX {
        return Ok(None);
    }
    let (old, new) = (Joined::new(old), Joined::new(all));
    Ok(Some(Job { old, new, only: Some(changed.to_vec()), holes: None }))
}

/// What of it is not zero, in blocks.
fn not_zero(image: &dyn ReadAt, extents: &[Extent]) -> Result<Vec<Extent>> {
    let (mut out, mut block) = (Vec::new(), [0; BLOCK_BYTES as usize]);
    for extent in extents {
        let mut at = extent.at;
        while at < end(extent) {
            let bytes = (BLOCK_BYTES - at % BLOCK_BYTES).min(end(extent) - at);
            let place = &mut block[..bytes as usize];
            image.read_at(at, place)?;
            if place.iter().any(|byte| *byte != 0) {
                out.push(Extent { at, bytes });
            }
            at += bytes;
        }
    }
    Ok(sorted(out))
}

/// Where spans stand in the new image.
pub fn places(spans: &[Span]) -> Vec<Extent> {
    sorted(spans.iter().map(|span| Extent { at: span.new, bytes: span.bytes }).collect())
}

/// The parts of spans that nobody has claimed.
fn outside(spans: &[Span], claimed: &[Extent]) -> Vec<Span> {
    let parts =
        |span: &Span| without(&[Extent { at: span.new, bytes: span.bytes }], overlapping(claimed, span));
    let part = |span: &Span, part: Extent| span.within(part.at, end(&part));
    spans.iter().flat_map(|span| parts(span).into_iter().filter_map(|extent| part(span, extent))).collect()
}

/// Those of sorted extents that may have something in common with a span.
fn overlapping<'a>(extents: &'a [Extent], span: &Span) -> &'a [Extent] {
    let first = extents.partition_point(|extent| end(extent) <= span.new);
    let last = extents.partition_point(|extent| extent.at < span.end());
    &extents[first..last.max(first)]
}

/// Spans in order; where two overlap (an image may claim that two files share bytes), the first one has it. Neighbours that are
/// one in both images become one.
fn in_order(mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort_by_key(|span| (span.new, span.base, span.bytes));
    let mut out: Vec<Span> = Vec::with_capacity(spans.len());
    for span in spans {
        let from = out.last().map_or(0, Span::end);
        let Some(span) = span.within(span.new.max(from), span.end()) else { continue };
        match out.last_mut() {
            Some(last)
                if last.end() == span.new && last.base + last.bytes == span.base && plain(last, &span) =>
            {
                last.bytes += span.bytes;
            }
            _ => out.push(span),
        }
    }
    out
}

fn plain(a: &Span, b: &Span) -> bool {
    a.guess.is_none() && b.guess.is_none()
}

/// Whose the changed parts are: pairs of files, then metadata, then files without an older one, then nobody.
fn owners(layout: &Layout, claimed: &[Extent], rest: &[Extent]) -> Vec<Owner> {
    let mut owners = Vec::new();
    let mut left = rest.to_vec();
    let mut add = |extents: Vec<Extent>, source, path: Option<Arc<str>>| {
        owners.extend(extents.into_iter().map(|extent| Owner { extent, source, path: path.clone() }));
    };
    add(common(&left, &layout.metadata), Source::Metadata, None);
    left = without(&left, &layout.metadata);
    let mut named = Vec::new();
    for file in &layout.files {
        let extents = sorted(pairs::whole_blocks(layout.kind, file));
        let path: Arc<str> = file.path.as_str().into();
        for (from, source) in [(claimed, Source::File), (left.as_slice(), Source::Content)] {
            for extent in &extents {
                let parts = common(&[*extent], overlapping_extent(from, extent));
                named.extend(parts.iter().copied());
                add(parts, source, Some(path.clone()));
            }
        }
    }
    add(without(&left, &sorted(named)), Source::Content, None);
    owners.sort_by_key(|owner| owner.extent.at);
    owners
}

fn overlapping_extent<'a>(extents: &'a [Extent], extent: &Extent) -> &'a [Extent] {
    overlapping(extents, &Span { new: extent.at, base: 0, bytes: extent.bytes, guess: None })
}

/// A gigabyte of metadata is looked through for what is not zero, and no more.
const METADATA_BYTES_MAX: u64 = 1 << 30;
/// Shorter parts are hardly found, and hardly worth it.
const LEFT_BYTES_LEAST: u64 = 48;

#[cfg(test)]
mod tests {
    use super::*;

    fn span(new: u64, base: u64, bytes: u64) -> Span {
        Span { new, base, bytes, guess: None }
    }

    /// A damaged image may say that two files share bytes: each byte is made once all the same.
    #[test]
    fn spans_that_overlap_or_touch_become_one_row() {
        let guess = Guess { transform: Transform::X86, address: 1000, anchor: 7, map: 0 };
        let guessed = Span { guess: Some(guess), ..span(40, 400, 20) };
        let cases = [
            (vec![span(10, 110, 5), span(0, 100, 10)], vec![span(0, 100, 15)]), // one in both images
            (vec![span(0, 100, 10), span(10, 200, 5)], vec![span(0, 100, 10), span(10, 200, 5)]),
            (vec![span(0, 100, 10), span(4, 50, 3), span(8, 20, 6)], vec![span(0, 100, 10), span(10, 22, 4)]),
            (
                vec![span(30, 0, 15), guessed],
                vec![
                    span(30, 0, 15),
                    Span { guess: Some(Guess { address: 1005, ..guess }), ..span(45, 405, 15) },
                ],
            ),
        ];
        for (spans, expected) in cases {
            assert_eq!(in_order(spans), expected);
        }
    }

    #[test]
    fn copies_leave_room_for_what_is_claimed() {
        let claimed = [Extent { at: 5, bytes: 10 }, Extent { at: 20, bytes: 2 }];
        let parts = outside(&[span(0, 100, 8), span(8, 300, 20)], &claimed);
        assert_eq!(parts, [span(0, 100, 5), span(15, 307, 5), span(22, 314, 6)]);
    }

    /// Jobs that claim the same bytes tell of them twice.
    #[test]
    fn progress_ends_where_the_image_ends() {
        let sum = AtomicU64::new(0);
        let progress = |bytes: u64| {
            sum.fetch_add(bytes, Ordering::Relaxed);
        };
        let told = Told { left: AtomicU64::new(100), progress: &progress };
        [30, 60, 50, u64::MAX, 1].into_iter().for_each(|bytes| told.tell(bytes));
        assert_eq!(sum.load(Ordering::Relaxed), 100);
    }
}
