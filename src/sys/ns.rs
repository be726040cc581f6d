//! Namespaces: setns(2), unshare(2) and the type of a namespace file.

use std::os::fd::{AsRawFd, BorrowedFd};

use super::{Errno, Result, check};

/// setns(2): `fd` is a namespace file, or a pidfd with several CLONE_NEW* flags.
pub fn setns(fd: BorrowedFd<'_>, flags: i32) -> Result<()> {
    // SAFETY: takes a live descriptor and a number.
    check(unsafe { libc::syscall(libc::SYS_setns, fd.as_raw_fd(), flags) }).map(drop)
}

/// unshare(2).
pub fn unshare(flags: i32) -> Result<()> {
    // SAFETY: takes a number.
    check(unsafe { libc::syscall(libc::SYS_unshare, flags) }).map(drop)
}

const NS_GET_NSTYPE: libc::c_ulong = 0xb703;

/// The CLONE_NEW* flag of a namespace file; ENOTTY or EINVAL when it is none.
pub fn kind(fd: BorrowedFd<'_>) -> Result<i32> {
    // SAFETY: this request takes no argument; files that do not know it refuse it.
    Errno::result(unsafe { libc::ioctl(fd.as_raw_fd(), NS_GET_NSTYPE as _) })
}
