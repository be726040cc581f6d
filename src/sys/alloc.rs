//! The allocator: dlmalloc in release builds, whose few large mappings cost less than musl's many small ones
//! (each is a system call and fresh pages), and a guard in debug builds.
//!
//! The guard aborts when the container's init allocates after the clone. Inside steps work on data prepared before the clone (an invariant of the design); every
//! test of a debug build proves it by running them.

use std::sync::atomic::{AtomicBool, Ordering};

static INSIDE: AtomicBool = AtomicBool::new(false);

/// Declares that this process is the container's init from now on: it may not allocate again.
pub fn forbid() {
    INSIDE.store(true, Ordering::Relaxed);
}

#[cfg(not(debug_assertions))]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

#[cfg(debug_assertions)]
mod guard {
    use super::{INSIDE, Ordering};
    use std::alloc::{GlobalAlloc, Layout, System};

    struct Guard;

    fn check() {
        if INSIDE.load(Ordering::Relaxed) {
            const MESSAGE: &[u8] = b"orlop: bug: an inside step allocated memory\n";
            // SAFETY: the buffer is a constant of that length, and fd 2 need not be open.
            unsafe { libc::write(2, MESSAGE.as_ptr().cast(), MESSAGE.len()) };
            // SAFETY: abort has no preconditions.
            unsafe { libc::abort() };
        }
    }

    // SAFETY: every call is handed to the system allocator unchanged.
    unsafe impl GlobalAlloc for Guard {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            check();
            // SAFETY: the caller keeps GlobalAlloc's contract, which is System's.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
            // SAFETY: the caller keeps GlobalAlloc's contract, which is System's.
            unsafe { System.dealloc(ptr, layout) }
        }

        unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
            check();
            // SAFETY: the caller keeps GlobalAlloc's contract, which is System's.
            unsafe { System.realloc(ptr, layout, new_size) }
        }
    }

    #[global_allocator]
    static GUARD: Guard = Guard;
}
