//! The runtime's own binary, out of the container's reach (CVE-2019-5736).
//!
//! A process of the container can open /proc/PID/exe of a runtime process that it sees, or make
//! itself one with `#!/proc/self/exe`, and later write to the file. So the runtime executes
//! itself again from a detached, read-only clone of the mount that the binary is on; where that
//! is not possible (no privilege, a kernel before 5.12), from a sealed copy in memory.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::statvfs::{FsFlags, fstatvfs};

use super::Result;
use super::mount::{MountAttr, mount_setattr, open_tree};
use super::process::Strings;
use crate::error::{self, Why};

const SELF: &std::ffi::CStr = c"/proc/self/exe";

/// Executes this program again from a read-only place, unless it already runs from one.
///
/// # Errors
/// When neither a read-only clone of the mount nor a sealed copy can be made.
pub fn protect() -> error::Result<()> {
    let exe = super::fd::open(SELF, libc::O_RDONLY, 0).why(|| "opening /proc/self/exe")?;
    if is_protected(exe.as_fd()) {
        return Ok(());
    }
    let copy = match read_only_clone() {
        Ok(fd) => fd,
        Err(_) => sealed_copy(exe).why(|| "making a sealed copy of the runtime's binary")?,
    };
    let argv = std::env::args_os().filter_map(|arg| CString::new(arg.into_vec()).ok()).collect();
    let env = std::env::vars_os()
        .filter_map(|(key, value)| {
            let mut pair = key.into_vec();
            pair.push(b'=');
            pair.extend(value.into_vec());
            CString::new(pair).ok()
        })
        .collect();
    Err(Strings::new(env).execveat(copy.as_fd(), &Strings::new(argv))).why(|| "executing the protected runtime binary")
}

/// A read-only mount, or a memfd that is sealed against writing.
fn is_protected(exe: BorrowedFd<'_>) -> bool {
    if fstatvfs(exe).is_ok_and(|stat| stat.flags().contains(FsFlags::ST_RDONLY)) {
        return true;
    }
    fcntl(exe, FcntlArg::F_GET_SEALS)
        .is_ok_and(|seals| SealFlag::from_bits_truncate(seals).contains(SealFlag::F_SEAL_WRITE))
}

fn read_only_clone() -> Result<OwnedFd> {
    let tree = open_tree(super::fd::cwd(), SELF, libc::OPEN_TREE_CLONE)?;
    let read_only = MountAttr { set: libc::MOUNT_ATTR_RDONLY, ..MountAttr::default() };
    mount_setattr(tree.as_fd(), read_only, 0, None)?;
    Ok(tree)
}

fn sealed_copy(exe: OwnedFd) -> std::io::Result<OwnedFd> {
    let name = c"orlop";
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // SAFETY: the name is a constant C string.
    let raw = unsafe { libc::syscall(libc::SYS_memfd_create, name.as_ptr(), flags) };
    let raw = super::check(raw).map_err(std::io::Error::from)?;
    // SAFETY: a descriptor just made, owned by nobody else.
    let mut copy = unsafe { <File as std::os::fd::FromRawFd>::from_raw_fd(raw as i32) };
    std::io::copy(&mut File::from(exe), &mut copy)?;
    let seals = SealFlag::F_SEAL_SEAL | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE;
    fcntl(&copy, FcntlArg::F_ADD_SEALS(seals)).map_err(std::io::Error::from)?;
    Ok(copy.into())
}
