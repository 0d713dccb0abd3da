//! Reading ahead: one thread waits for the medium while another looks at what came before. Whatever is done with it, a slot is
//! read at the speed of the slower of both, and not of one after the other.

use mainstay_core::fault;
use mainstay_core::seam::{Result, in_parts};
use std::ops::Range;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, scope};

/// It calls `read` and has no more on its stack than that.
const STACK_BYTES: usize = 64 << 10;

/// Reads a range in order, by `read` from a place into a buffer, and shows each part to `each`. What cannot be read ends it. The
/// buffers have the same length.
pub fn scan(
    range: Range<u64>,
    read: &mut (dyn FnMut(u64, &mut [u8]) -> Result<()> + Send),
    [one, other]: [&mut [u8]; 2],
    each: &mut dyn FnMut(&[u8]),
) -> Result<()> {
    let part = one.len().min(other.len());
    let desk =
        Desk { on: Mutex::new(OnDesk { free: Some(one), ..OnDesk::default() }), changed: Condvar::new() };
    scope(|threads| {
        let reader = Builder::new().name("reads".into()).stack_size(STACK_BYTES);
        let (desk, looks) = (&desk, Leaves(&desk));
        let reader = reader.spawn_scoped(threads, move || {
            let _leaves = Leaves(desk);
            let done = in_parts(range, part, |at, bytes| {
                let gone = || fault!(Cancelled, "nobody looks any more");
                let buffer = desk.take(|on| on.free.take()).ok_or_else(gone)?;
                read(at, buffer.get_mut(..bytes).unwrap_or_default())?;
                desk.put(|on| on.filled = Some((buffer, bytes)));
                Ok(())
            });
            desk.put(|on| on.fault = done.err());
        });
        reader.map_err(|e| fault!(Io, "expected a thread to read with: {e}"))?;
        let mut idle = Some(other);
        while let Some((buffer, bytes)) = desk.take(|on| on.filled.take()) {
            desk.put(|on| on.free = idle.take());
            each(buffer.get(..bytes).unwrap_or_default());
            idle = Some(buffer);
        }
        drop(looks);
        desk.lock().fault.take().map_or(Ok(()), Err)
    })
}

/// Over which one thread hands the other what it has filled, and gets back what has been looked at. A channel would do, and
/// weigh five times as much in the binary.
struct Desk<'b> {
    on: Mutex<OnDesk<'b>>,
    changed: Condvar,
}

#[derive(Default)]
struct OnDesk<'b> {
    free: Option<&'b mut [u8]>,
    filled: Option<(&'b mut [u8], usize)>,
    fault: Option<fault::Fault>,
    /// One of both has left.
    left: bool,
}

impl<'b> Desk<'b> {
    fn lock(&self) -> MutexGuard<'_, OnDesk<'b>> {
        self.on.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, what: impl FnOnce(&mut OnDesk<'b>)) {
        what(&mut self.lock());
        self.changed.notify_all();
    }

    /// Waits for something; `None`: it does not lie there, and the other has left.
    fn take<T>(&self, what: impl Fn(&mut OnDesk<'b>) -> Option<T>) -> Option<T> {
        let mut on = self.lock();
        loop {
            let taken = what(&mut on);
            if taken.is_some() || on.left {
                return taken;
            }
            on = self.changed.wait(on).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Whoever goes says so, by a panic as well: nobody waits in vain.
struct Leaves<'d, 'b>(&'d Desk<'b>);

impl Drop for Leaves<'_, '_> {
    fn drop(&mut self) {
        self.0.put(|on| on.left = true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_core::limits::SEGMENT_BYTES;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn buffers() -> [Vec<u8>; 2] {
        [0; 2].map(|_| vec![0; SEGMENT_BYTES])
    }

    #[test]
    fn all_of_a_range_is_shown_in_order_and_nothing_else() {
        let of = |at: u64| (at % 251) as u8;
        let segment = SEGMENT_BYTES as u64;
        for range in [0..0, 0..1, 5..segment + 5, segment..2 * segment, 7..5 * segment + 100] {
            let [mut one, mut other] = buffers();
            let (mut seen, mut parts) = (range.start, 0);
            let mut read = |at: u64, out: &mut [u8]| {
                (at..).zip(out).for_each(|(at, byte)| *byte = of(at));
                Ok(())
            };
            scan(range.clone(), &mut read, [&mut one, &mut other], &mut |part| {
                assert!(part.iter().zip(seen..).all(|(byte, at)| *byte == of(at)), "{range:?} at {seen}");
                seen += part.len() as u64;
                parts += 1;
            })
            .unwrap();
            assert_eq!(seen, range.end, "{range:?}");
            assert_eq!(parts, (range.end - range.start).div_ceil(segment), "{range:?}");
        }
    }

    #[test]
    fn what_cannot_be_read_ends_it_with_what_the_medium_said_and_all_before_it_shown() {
        let segment = SEGMENT_BYTES as u64;
        for bad in 0..4 {
            let [mut one, mut other] = buffers();
            let (reads, mut seen) = (AtomicUsize::new(0), 0);
            let mut read = |at: u64, _: &mut [u8]| {
                reads.fetch_add(1, Ordering::Relaxed);
                match at / segment == bad {
                    true => Err(fault!(Io, "a bad block at {at}")),
                    false => Ok(()),
                }
            };
            let found = scan(0..4 * segment, &mut read, [&mut one, &mut other], &mut |_| seen += 1);
            let found = found.unwrap_err().to_string();
            assert!(found.contains(&format!("a bad block at {}", bad * segment)), "{found}");
            assert_eq!((seen, reads.into_inner() as u64), (bad, bad + 1));
        }
    }

    /// Each waits for the other here: one after the other it would not end.
    #[test]
    fn the_next_part_is_read_while_one_is_looked_at() {
        let [mut one, mut other] = buffers();
        let (read_to, reads) = std::sync::mpsc::channel();
        let mut read = |at: u64, _: &mut [u8]| {
            read_to.send(at).unwrap();
            Ok(())
        };
        let mut expected = 0;
        scan(0..3 * SEGMENT_BYTES as u64, &mut read, [&mut one, &mut other], &mut |_| {
            let patience = std::time::Duration::from_secs(60);
            for _ in 0..if expected == 0 { 2 } else { 1 }.min(3 - expected) {
                assert_eq!(reads.recv_timeout(patience).unwrap(), expected * SEGMENT_BYTES as u64);
                expected += 1;
            }
        })
        .unwrap();
        assert_eq!(expected, 3);
    }
}
