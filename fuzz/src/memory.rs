//! An allocator that counts: how much memory an input makes a reader hold at once.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// What the address sanitizer's runtime asks for, where `fuzz/run` has compiled it in; `ASAN_OPTIONS` goes before it.
///
/// A report ends the process by a signal, which is how a process of a target dies of an input. What is still held when a process ends is
/// no find: much is kept on purpose, and what an input holds is counted below. Memory that cannot be had is refused, as the system
/// does. Places of a stack stay on the stack, whose size is tried here. Freed memory is watched until as much again is freed, which
/// the count does not see, and of the calls that asked for it the last few are told.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn __asan_default_options() -> *const std::ffi::c_char {
    c"abort_on_error=1:detect_leaks=0:allocator_may_return_null=1:detect_stack_use_after_return=0:quarantine_size_mb=64:malloc_context_size=4"
        .as_ptr()
}

/// What the process may hold. Beyond it an allocation fails, which ends the process.
const MOST: usize = 4 << 30;

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, counted.
pub(crate) struct Counting;

impl Counting {
    fn take(size: usize) -> bool {
        let held = HELD.fetch_add(size, Relaxed) + size;
        PEAK.fetch_max(held, Relaxed);
        if held > MOST {
            HELD.fetch_sub(size, Relaxed);
        }
        held <= MOST
    }
}

// SAFETY: the system's allocator does the work; what is counted beside it changes no pointer, and none is given out
// where the count refuses.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match Self::take(layout.size()) {
            // SAFETY: the caller's promise is the same.
            true => unsafe { System.alloc(layout) },
            false => std::ptr::null_mut(),
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match Self::take(layout.size()) {
            // SAFETY: the caller's promise is the same.
            true => unsafe { System.alloc_zeroed(layout) },
            false => std::ptr::null_mut(),
        }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promise is the same.
        unsafe { System.dealloc(pointer, layout) };
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !Self::take(size) {
            return std::ptr::null_mut();
        }
        HELD.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promise is the same.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Starts to look for the peak; gives what is held now.
pub(crate) fn start() -> usize {
    let held = HELD.load(Relaxed);
    PEAK.store(held, Relaxed);
    held
}

/// The most that was held since the start.
pub(crate) fn peak() -> usize {
    PEAK.load(Relaxed)
}
