//! Memory that the runtime and the container's init share: the trace's clock readings.

use std::sync::atomic::AtomicU64;

use super::{Errno, Result};

/// A zeroed array of numbers that stays shared across a clone.
#[derive(Debug)]
pub struct Shared {
    start: *mut AtomicU64,
    len: usize,
}

impl Shared {
    /// Maps room for `len` numbers.
    pub fn new(len: usize) -> Result<Shared> {
        let bytes = (len * size_of::<AtomicU64>()).max(1);
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches no other memory.
        let start =
            unsafe { libc::mmap(std::ptr::null_mut(), bytes, prot, libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        Ok(Shared { start: start.cast(), len })
    }

    /// The numbers.
    pub fn values(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is page aligned, zeroed, `len` numbers long and lives as long as the process.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }
}

/// CLOCK_MONOTONIC in nanoseconds: one clock for both processes.
///
/// In a time namespace it is shifted for the process inside from the moment it enters.
pub fn monotonic_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel fills the structure, which is of the right type.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
