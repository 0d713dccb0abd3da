//! Cuts an image into segments and encodes them on all cores.
//!
//! ```text
//!            free buffers ◄───────────────────────────────────────┐
//!                 │                                               │
//! image ─► reader (hashes the whole) ─► workers (hash, zstd) ─► in order again ─► runs
//! ```
//! The result does not depend on how many workers there are: each segment is encoded by itself, with the one before it at hand,
//! and they are put back in order. Memory is bounded by the buffers, which go round, and by one run's encodings (at most 128 MiB).

use crate::fail;
use crate::fail::{Failure, Result};
use crate::zstd::Zstd;
use mainstay_core::bundle::author::{Run, RunBuilder};
use mainstay_core::bundle::{Encoding, Proof};
use mainstay_core::digest::{Digest, Hasher};
use mainstay_core::limits::{ARTIFACT_BYTES_MAX, RUN_SEGMENTS_MAX, SEGMENT_BYTES};
use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

/// How to encode.
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// zstd level, 1..=22.
    pub level: i32,
    /// Workers, 1 or more.
    pub threads: usize,
}

/// What was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content {
    /// Bytes.
    pub size: u64,
    /// SHA-256.
    pub digest: Digest,
}

/// Encodes `image`; gives each run to `take` in order, with the content bytes it holds.
pub fn encode(
    image: &mut (dyn Read + Send),
    how: How,
    take: &mut dyn FnMut(Run, u64) -> Result<()>,
) -> Result<Content> {
    let (free_in, free_out) = channel();
    let (job_in, job_out) = channel();
    let (done_in, done_out) = channel();
    for _ in 0..how.threads * BUFFERS_PER_THREAD {
        let _ = free_in.send(Segment::default()); // its other end stands above
    }
    let job_out = Mutex::new(job_out);
    let job_out = &job_out;
    thread::scope(|scope| {
        let reader = scope.spawn(move || read(image, &free_out, &job_in));
        for _ in 0..how.threads {
            let done_in = done_in.clone();
            scope.spawn(move || work(job_out, &done_in, how.level));
        }
        drop(done_in); // so that the row ends when the workers have ended
        // On failure the channels fall here, and all threads end at their next step.
        let gathered = gather(done_out, free_in, take);
        let read = reader.join().unwrap_or_else(|_| Err(fail!("the reading thread failed")));
        gathered.and(read)
    })
}

/// A segment's content, and that of the segment before it (empty for the first).
#[derive(Default)]
struct Segment {
    content: Vec<u8>,
    prior: Vec<u8>,
}

/// Reads segments until the image ends, or nobody gives buffers back any more.
fn read(
    image: &mut (dyn Read + Send),
    free: &Receiver<Segment>,
    jobs: &Sender<(u32, Segment)>,
) -> Result<Content> {
    let (mut hasher, mut before) = (Hasher::new(), Vec::new());
    let mut size = 0u64;
    for index in 0u32.. {
        let Ok(mut segment) = free.recv() else { break };
        segment.prior.clone_from(&before);
        let buffer = &mut segment.content;
        buffer.resize(SEGMENT_BYTES, 0);
        let filled = fill(image, buffer)?;
        buffer.truncate(filled);
        size += filled as u64;
        if filled == 0 {
            break;
        }
        if size > ARTIFACT_BYTES_MAX {
            return Err(fail!("image: expected at most {ARTIFACT_BYTES_MAX} bytes, found more"));
        }
        hasher.update(buffer);
        before.clone_from(buffer);
        if jobs.send((index, segment)).is_err() || filled < SEGMENT_BYTES {
            break;
        }
    }
    Ok(Content { size, digest: hasher.finish() })
}

fn fill(image: &mut (dyn Read + Send), buffer: &mut [u8]) -> Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match image.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Failure::from(e)),
        }
    }
    Ok(filled)
}

/// A segment, encoded.
struct Encoded {
    digest: Digest,
    encoding: Encoding,
    /// Goes back to the reader.
    segment: Segment,
    frame: Vec<u8>,
}

impl Encoded {
    fn bytes(&self) -> &[u8] {
        match self.encoding {
            Encoding::Zero | Encoding::Copy | Encoding::Patch | Encoding::Recoded => &[], // the latter two: of delta routes alone
            Encoding::Raw => &self.segment.content,
            Encoding::Zstd | Encoding::Prefixed => &self.frame,
        }
    }
}

fn work(jobs: &Mutex<Receiver<(u32, Segment)>>, done: &Sender<(u32, Result<Encoded>)>, level: i32) {
    let mut zstd = Zstd::default();
    loop {
        let job = jobs.lock().map(|jobs| jobs.recv());
        let Ok(Ok((index, segment))) = job else { return };
        if done.send((index, encode_segment(&mut zstd, segment, level))).is_err() {
            return;
        }
    }
}

fn encode_segment(zstd: &mut Zstd, segment: Segment, level: i32) -> Result<Encoded> {
    let digest = Digest::of(&segment.content);
    let (encoding, frame) = match Proof::Zeros.holds(&segment.content) {
        true => (Encoding::Zero, Vec::new()),
        false => {
            let packed = zstd.pack(&segment.content, &segment.prior, level)?;
            packed.unwrap_or((Encoding::Raw, Vec::new()))
        }
    };
    Ok(Encoded { digest, encoding, segment, frame })
}

/// Puts segments in order again, and runs together.
fn gather(
    done: Receiver<(u32, Result<Encoded>)>,
    free: Sender<Segment>,
    take: &mut dyn FnMut(Run, u64) -> Result<()>,
) -> Result<()> {
    let mut early = BTreeMap::new();
    let mut next = 0u32;
    let mut run = RunBuilder::new();
    let mut content_bytes = 0;
    for (index, encoded) in done {
        early.insert(index, encoded?);
        while let Some(encoded) = early.remove(&next) {
            run.push(encoded.digest, encoded.encoding, encoded.bytes())?;
            content_bytes += encoded.segment.content.len() as u64;
            next += 1;
            let _ = free.send(encoded.segment); // the reader may have ended
            if run.len() == RUN_SEGMENTS_MAX {
                take(std::mem::take(&mut run).finish(next - RUN_SEGMENTS_MAX as u32), content_bytes)?;
                content_bytes = 0;
            }
        }
    }
    if !run.is_empty() {
        let first = next - run.len() as u32;
        take(run.finish(first), content_bytes)?;
    }
    Ok(())
}

/// One in the reader, one with the worker, and two waiting: 2 MiB for each thread.
const BUFFERS_PER_THREAD: usize = 4;
