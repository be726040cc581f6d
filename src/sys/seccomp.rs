//! seccomp(2): nothing wraps it, so it is called by number.

use nix::errno::Errno;
use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr;

/// Loads a filter into the calling thread and returns the listener, when `SECCOMP_FILTER_FLAG_NEW_LISTENER` asks for one.
///
/// Neither allocates nor locks, so that a container's first process may call it. The kernel makes the listener
/// close-on-exec. Without `CAP_SYS_ADMIN` in its user namespace the caller must have set no_new_privs.
pub fn load(program: &[libc::sock_filter], flags: u32) -> Result<Option<OwnedFd>, Errno> {
    let length = u16::try_from(program.len()).map_err(|_| Errno::EINVAL)?;
    // The kernel only reads the program, though its structure, shared with socket filters, has a pointer to mut.
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    // SAFETY: `program` points to as many instructions as it says; they outlive the call, in which the kernel copies them.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    let result = Errno::result(result)?;
    if libc::c_ulong::from(flags) & libc::SECCOMP_FILTER_FLAG_NEW_LISTENER == 0 {
        // With TSYNC alone a positive number is a thread that could not be given the filter.
        return if result == 0 { Ok(None) } else { Err(Errno::ESRCH) };
    }
    let fd = i32::try_from(result).map_err(|_| Errno::EBADF)?;
    // SAFETY: with NEW_LISTENER a result that is not negative is a descriptor which the kernel just opened for this caller.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// Whether the kernel knows the action, one of `SECCOMP_RET_*`.
pub fn action_available(action: u32) -> bool {
    // SAFETY: the kernel reads one u32 behind the pointer, which lives until the call returns.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, &raw const action) };
    result == 0
}

/// Whether the kernel takes these flags together: it judges them before it reads the filter, which is missing here.
pub fn flags_available(flags: u32) -> bool {
    let none = ptr::null::<libc::sock_fprog>();
    // SAFETY: a null program is never read or loaded; the kernel answers EFAULT to flags it takes and EINVAL to others.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, none) };
    Errno::result(result) == Err(Errno::EFAULT)
}
