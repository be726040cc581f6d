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
    nanoseconds(libc::CLOCK_MONOTONIC)
}

/// The time since boot in the ticks of /proc/PID/stat (field 22 of proc_pid_stat(5)): of the same clock, and of the
/// caller's time namespace, as there.
pub fn boot_ticks() -> u64 {
    // SAFETY: getauxval reads what the kernel has given this process at its start.
    let per_second = unsafe { libc::getauxval(libc::AT_CLKTCK) };
    nanoseconds(libc::CLOCK_BOOTTIME) / (1_000_000_000 / per_second.max(1))
}

fn nanoseconds(clock: libc::clockid_t) -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel fills the structure, which is of the right type.
    unsafe { libc::clock_gettime(clock, &raw mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_those_of_proc() {
        for _ in 0..20 {
            let before = boot_ticks();
            let mut child = std::process::Command::new("true").spawn().unwrap();
            let after = boot_ticks();
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
            child.wait().unwrap();
            let started = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().nth(19).unwrap();
            let started: u64 = started.parse().unwrap();
            assert!((before..=after).contains(&started), "{before} {started} {after}");
        }
    }
}
