//! The allocator: dlmalloc in the release build of the program, whose few large mappings cost less than musl's many
//! small ones (each is a system call and fresh pages), and a guard in debug builds.
//!
//! The guard aborts when the container's init allocates after the clone. Inside steps work on data prepared before the clone (an invariant of the design); every
//! test of a debug build proves it by running them.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, Ordering};

use dlmalloc::Dlmalloc;

static INSIDE: AtomicBool = AtomicBool::new(false);

/// Declares that this process is the container's init from now on: it may not allocate again.
pub fn forbid() {
    INSIDE.store(true, Ordering::Relaxed);
}

/// dlmalloc without a lock, for a program without threads: the runtime is one (a rule that a test watches). To lock and
/// unlock took a fifth of a command's own time.
#[derive(Debug)]
pub struct OneThread(UnsafeCell<Dlmalloc>);

impl OneThread {
    /// With nothing allocated.
    pub const fn new() -> OneThread {
        OneThread(UnsafeCell::new(Dlmalloc::new()))
    }
}

impl Default for OneThread {
    fn default() -> OneThread {
        OneThread::new()
    }
}

// SAFETY: only a program of one thread makes it its allocator.
unsafe impl Sync for OneThread {}

// SAFETY: dlmalloc keeps GlobalAlloc's contract. None of its functions calls another of them through here.
unsafe impl GlobalAlloc for OneThread {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: there is one thread, and it is not in another of these functions.
        let dlmalloc = unsafe { &mut *self.0.get() };
        // SAFETY: the layout is the caller's, who keeps the contract.
        unsafe { dlmalloc.malloc(layout.size(), layout.align()) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as in `alloc`.
        let dlmalloc = unsafe { &mut *self.0.get() };
        // SAFETY: as in `alloc`.
        unsafe { dlmalloc.calloc(layout.size(), layout.align()) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as in `alloc`.
        let dlmalloc = unsafe { &mut *self.0.get() };
        // SAFETY: the pointer came from here, with this layout.
        unsafe { dlmalloc.free(ptr, layout.size(), layout.align()) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: as in `alloc`.
        let dlmalloc = unsafe { &mut *self.0.get() };
        // SAFETY: the pointer came from here, with this layout.
        unsafe { dlmalloc.realloc(ptr, layout.size(), layout.align(), new_size) }
    }
}

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
