//! openat2(2): paths inside the container are resolved by the kernel, once, below the rootfs descriptor.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use super::{Errno, Result, check};

/// Symbolic links resolve as if `dir` were `/`; magic links (/proc/self/fd/…) are refused.
pub const IN_ROOT: u64 = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;
/// No symbolic link, no `..` above `dir`, no mount crossed: for files of procfs.
pub const BENEATH: u64 =
    libc::RESOLVE_BENEATH | libc::RESOLVE_NO_MAGICLINKS | libc::RESOLVE_NO_XDEV | libc::RESOLVE_NO_SYMLINKS;

/// openat2(2) with O_CLOEXEC added. EAGAIN (a rename raced) is tried again.
pub fn openat2(dir: BorrowedFd<'_>, path: &CStr, flags: i32, mode: u32, resolve: u64) -> Result<OwnedFd> {
    // SAFETY: open_how is plain data, for which all zeroes is a valid value.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (flags | libc::O_CLOEXEC) as u64;
    how.mode = u64::from(mode);
    how.resolve = resolve;
    let mut tries = 0;
    loop {
        // SAFETY: the path is a C string and `how` is of the size passed.
        let ret = check(unsafe {
            libc::syscall(
                libc::SYS_openat2,
                dir.as_raw_fd(),
                path.as_ptr(),
                &raw const how,
                size_of::<libc::open_how>(),
            )
        });
        match ret {
            // The kernel gives up when any rename or mount happened meanwhile; an attacker may keep
            // renaming for ever, so the patience is bounded.
            Err(Errno::EAGAIN) if tries < 128 => tries += 1,
            // SAFETY: a descriptor just made, owned by nobody else.
            other => return other.map(|fd| unsafe { OwnedFd::from_raw_fd(fd as RawFd) }),
        }
    }
}
