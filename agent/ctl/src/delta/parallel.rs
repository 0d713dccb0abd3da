//! Independent work on some threads, its results in order: how many threads there are cannot be seen in them.

use crate::Result;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// `work(0)`, `work(1)` … `work(count - 1)` on at most `threads` threads; the first failure in this order is the answer.
pub fn in_parallel<T: Send>(
    threads: usize,
    count: usize,
    work: &(dyn Fn(usize) -> Result<T> + Sync),
) -> Result<Vec<T>> {
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, Result<T>)>> = Mutex::new(Vec::new());
    let worker = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                return;
            }
            let result = work(index);
            done.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((index, result));
        }
    };
    match threads.min(count) {
        0 | 1 => worker(),
        threads => thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(worker)))),
    }
    let mut done = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fail;

    #[test]
    fn results_stand_in_order_whatever_the_threads() {
        for threads in [1, 2, 7] {
            let squares = in_parallel(threads, 100, &|index| Ok(index * index)).unwrap();
            assert_eq!(squares, (0..100).map(|index| index * index).collect::<Vec<_>>());
        }
        assert_eq!(in_parallel(4, 0, &Ok).unwrap(), []);
    }

    #[test]
    fn the_first_failure_in_order_is_the_answer() {
        let work = |index| if index % 10 == 3 { Err(fail!("at {index}")) } else { Ok(index) };
        for threads in [1, 4] {
            assert_eq!(in_parallel(threads, 50, &work).unwrap_err().what, "at 3");
        }
    }
}
