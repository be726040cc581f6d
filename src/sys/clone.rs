//! clone3(2): one call that makes the process and its namespaces, in its cgroup, with a pidfd.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::{Errno, Result, check};

/// Not libc's constant, which overflows its type.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Which side of the clone this is.
#[derive(Debug)]
pub enum Cloned {
    /// The new process.
    Child,
    /// The caller, with the child's pid and a pidfd of it.
    Parent(i32, OwnedFd),
}

/// Forks with `flags` (CLONE_NEW*, CLONE_PARENT), into the v2 cgroup whose directory `cgroup` is.
///
/// The memory is copied, not shared. Falls back to clone(2) where clone3 is filtered away
/// (ENOSYS: container engines before 2021 hide it from nested runtimes) and no cgroup is asked for.
///
/// # Errors
/// Those of clone3(2); ENOSYS with a cgroup means that the caller must join by cgroup.procs.
pub fn clone3(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> Result<Cloned> {
    let mut pidfd: libc::c_int = -1;
    // SAFETY: clone_args is plain data, for which all zeroes is a valid value.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags | libc::CLONE_PIDFD as u64;
    args.pidfd = (&raw mut pidfd) as u64;
    // With CLONE_PARENT the kernel takes the exit signal of the caller and wants 0 here.
    args.exit_signal = if flags & libc::CLONE_PARENT as u64 == 0 { libc::SIGCHLD as u64 } else { 0 };
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: the process has one thread (an invariant of the runtime) and no CLONE_VM is
    // passed, so the child runs on a private copy of the whole address space.
    let ret = check(unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) });
    let pid = match ret {
        Err(Errno::ENOSYS) if cgroup.is_none() => clone(flags, &mut pidfd)?,
        other => other?,
    };
    if pid == 0 {
        return Ok(Cloned::Child);
    }
    // SAFETY: the kernel has stored a new descriptor there that nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Cloned::Parent(pid as i32, pidfd))
}

fn clone(flags: u64, pidfd: &mut libc::c_int) -> Result<libc::c_long> {
    let exit = if flags & libc::CLONE_PARENT as u64 == 0 { libc::SIGCHLD as u64 } else { 0 };
    let flags = flags | libc::CLONE_PIDFD as u64 | exit;
    // SAFETY: as for clone3; a null stack means a copy of the caller's, and the pidfd is stored
    // where clone(2) stores the parent's thread id.
    check(unsafe { libc::syscall(libc::SYS_clone, flags, 0usize, &raw mut *pidfd, 0usize, 0usize) })
}

/// A plain fork with a pidfd, for hooks and go-betweens.
pub fn fork() -> Result<Cloned> {
    clone3(0, None)
}
