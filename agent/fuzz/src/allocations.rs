//! Counts what is allocated, so that a target can assert a bound on memory.
//!
//! It promises the most bytes that were alive at once on this thread beyond those that were alive when the measuring
//! began. It knows nothing of stacks, of memory maps, or of what C code takes by itself.

use std::cell::Cell;

/// Runs `work` and asserts that it never held more than `most` bytes on the heap at once.
pub fn bounded<T>(most: usize, work: impl FnOnce() -> T) -> T {
    let before = ALIVE.get();
    PEAK.set(before);
    let done = work();
    let took = PEAK.get() - before;
    assert!(took <= most as isize, "expected at most {most} bytes of heap, found {took}");
    done
}

thread_local! {
    static ALIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn changed(by: isize) {
    // A thread that ends frees after its cells are gone.
    let _ = ALIVE.try_with(|alive| {
        alive.set(alive.get() + by);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(alive.get())));
    });
}

/// The system's allocator, counted. `unsafe`, for the trait is: each call is handed on as it came, and counting
/// neither allocates (const cells without a destructor) nor panics, so the system's promises hold unchanged.
#[allow(unsafe_code)]
mod counted {
    use std::alloc::{GlobalAlloc, Layout, System};

    struct Counted;

    #[global_allocator]
    static COUNTED: Counted = Counted;

    // SAFETY: every method passes its arguments to `System`, whose contract is the trait's own.
    unsafe impl GlobalAlloc for Counted {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            super::changed(layout.size() as isize);
            // SAFETY: as received.
            unsafe { System.alloc(layout) }
        }
        unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
            super::changed(layout.size() as isize);
            // SAFETY: as received.
            unsafe { System.alloc_zeroed(layout) }
        }
        unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
            super::changed(-(layout.size() as isize));
            // SAFETY: as received.
            unsafe { System.dealloc(place, layout) }
        }
        unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
            super::changed(size as isize - layout.size() as isize);
            // SAFETY: as received.
            unsafe { System.realloc(place, layout, size) }
        }
    }
}
