//! The kernel's words: thin safe wrappers of the system calls that nix lacks, and the only unsafe code of the crate.
//!
//! Functions keep the kernel's names, return [`Errno`], allocate nothing (so that the
//! container's init may call them) and take borrowed descriptors.
#![allow(unsafe_code)]

pub mod alloc;
pub mod bpf;
pub mod channel;
pub mod clone;
pub mod copy;
pub mod cred;
pub mod exe;
pub mod fd;
pub mod hidden;
pub mod keyring;
pub mod mem;
pub mod missing;
pub mod mount;
pub mod net;
pub mod netlink;
pub mod ns;
pub mod process;
pub mod root;
pub mod seccomp;
pub mod start;
pub mod tty;
pub mod uts;

pub use nix::errno::Errno;

/// The result of a system call.
pub type Result<T> = std::result::Result<T, Errno>;

/// Turns the -1 of a raw system call into its errno.
pub(crate) fn check(ret: libc::c_long) -> Result<libc::c_long> {
    if ret == -1 { Err(Errno::last()) } else { Ok(ret) }
}
