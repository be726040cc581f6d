//! The change of root on a host with many threads, without pivot_root(2), which looks at each of them.
//!
//! pivot_root(2) moves the root and the working directory of whoever has the old root as his own, and to find them the
//! kernel walks over all threads there are (chroot_fs_refs in fs/fs_struct.c), at half a microsecond for each. In a mount
//! namespace that nobody else is in there is only init to be found. So here the root is unmounted from where it is, and
//! a copy of the container's tree is mounted there: init finds that place, which has no name, by entering its own mount
//! namespace again, as setns(2) leads to the root of the namespace. What is mounted where is in the end what
//! pivot_root(2) and the unmounting of the old root leave. To copy the mounts takes as long as the walk over some two
//! hundred threads.
//!
//! What it is not for: descriptors of mounts below the root would be of those that were copied from; what is mounted
//! shared would take the copy along when the old tree is unmounted; and in a user namespace no root may be unmounted.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::plan::Fault;
use crate::sys::mount::{clone_tree, move_mount, root_may_go, umount2};
use crate::sys::{self, fd, ns, process};

/// From how many threads on it is worth it.
const MANY: u16 = 256;

/// Makes the mount that `root` is open on, with all below it, the root of this process's mount namespace and of the
/// process, and returns a descriptor in its place; `None`, with nothing changed, where that has to be pivot_root(2)'s.
///
/// # Errors
/// Those of setns(2), move_mount(2) and chroot(2) after the old root has gone, or on the way back to it.
pub fn switch(root: BorrowedFd<'_>) -> Result<Option<OwnedFd>, Fault> {
    // Where it is not told, few.
    if process::threads().unwrap_or(0) < MANY {
        return Ok(None);
    }
    let Ok((old, mount)) = own_root() else { return Ok(None) };
    let Ok(own) = process::pidfd_open(nix::unistd::getpid().as_raw()) else { return Ok(None) };
    // There is no way back later, so it is tried now: Linux before 5.8 takes no pidfd, and CAP_SYS_CHROOT may be missing.
    if ns::setns(own.as_fd(), libc::CLONE_NEWNS).is_err() {
        return Ok(None);
    }
    let Some(tree) = leave(root, mount) else {
        fd::fchdir(old.as_fd())?;
        fd::chroot(c".")?;
        return Ok(None);
    };
    ns::setns(own.as_fd(), libc::CLONE_NEWNS)?;
    move_mount(tree.as_fd(), fd::cwd())?;
    fd::fchdir(tree.as_fd())?;
    fd::chroot(c".")?;
    Ok(Some(tree))
}

/// The root of the process, and the id of its mount (Linux 5.8).
fn own_root() -> sys::Result<(OwnedFd, u32)> {
    let root = fd::open(c"/", libc::O_PATH | libc::O_DIRECTORY, 0)?;
    let id = fd::mount_id(root.as_fd())?;
    Ok((root, id))
}

/// Copies the tree and unmounts the root, which has been entered again.
///
/// Not where the process had another root than its mount namespace: only what is mounted below that one has been cut off
/// from the host's mounts. Nor where the root is on a mount that passes on what is unmounted there, or on none.
fn leave(root: BorrowedFd<'_>, mount: u32) -> Option<OwnedFd> {
    if own_root().ok()?.1 != mount || !root_may_go() {
        return None;
    }
    let tree = clone_tree(root, c"", true).ok()?;
    umount2(c"/", libc::MNT_DETACH).ok()?;
    Some(tree)
}
