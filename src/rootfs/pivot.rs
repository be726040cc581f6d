//! The root itself: propagation, the bind of the rootfs, pivot_root(2) and chroot(2) in its place.
//!
//! config.md#root, config-linux.md#rootfs-mount-propagation (runtime-spec v1.3.0).

use std::ffi::CString;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use anyhow::{anyhow, bail};
use nix::errno::Errno;

use super::mount::set_read_only;
use super::{beneath, shared, switch};
use crate::error::Result;
use crate::plan::{Fault, Init, Inside, Plan, Slot};
use crate::sys::mount::{MountAttr, change, clone_tree, mount, mount_setattr, move_mount, pivot_root, umount2};
use crate::sys::{self, fd, root};

/// How the container's root becomes `/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// pivot_root(2).
    Pivot,
    /// MS_MOVE and chroot(2), for a host whose root is a ramfs (`--no-pivot`).
    Move,
    /// chroot(2) alone, without a mount namespace.
    Chroot,
    /// chroot(2) into a bind of the root, for mounts without a mount namespace.
    ChrootBind,
}

/// `linux.rootfsPropagation`.
#[derive(Debug, Clone, Copy)]
pub struct Propagation {
    flags: u64,
    /// Whether what the host mounts below the rootfs appears in the container. It was asked for, or it does not.
    root_follows: bool,
}

impl Propagation {
    /// Reads it.
    ///
    /// # Errors
    /// An unknown word.
    pub fn read(word: Option<&str>) -> Result<Propagation> {
        let word = word.unwrap_or_default();
        let flags = match word {
            "" | "rslave" => libc::MS_SLAVE | libc::MS_REC,
            "slave" => libc::MS_SLAVE,
            "private" => libc::MS_PRIVATE,
            "rprivate" => libc::MS_PRIVATE | libc::MS_REC,
            "shared" => libc::MS_SHARED,
            "rshared" => libc::MS_SHARED | libc::MS_REC,
            "unbindable" => libc::MS_UNBINDABLE,
            "runbindable" => libc::MS_UNBINDABLE | libc::MS_REC,
            other => bail!("config.json: linux.rootfsPropagation {other:?} is not a propagation mode"),
        };
        Ok(Propagation { flags, root_follows: matches!(word, "slave" | "rslave") })
    }

    /// Whether the mounts of the container may reach others.
    pub fn is_shared(self) -> bool {
        self.flags & libc::MS_SHARED != 0
    }

    /// Whether nothing is to be set after the root has changed.
    pub fn is_early(self) -> bool {
        self.flags == self.early()
    }

    /// What all mounts of the copied tree become until the root has changed: what is mounted for the container, and
    /// the unmounting of the old root, must reach none of the host's mounts. What was asked for is set afterwards.
    fn early(self) -> u64 {
        const PRIVATE: u64 = libc::MS_PRIVATE | libc::MS_REC;
        if self.flags == PRIVATE { PRIVATE } else { libc::MS_SLAVE | libc::MS_REC }
    }
}

/// Adds what comes before the mounts: propagation of the copied mounts, and the root as a mount of its own.
pub fn plan_root(rootfs: CString, propagation: Propagation, change: Change, slot: Slot, plan: &mut Plan) {
    match change {
        Change::Chroot => plan.inside(OpenRoot { rootfs, slot }),
        Change::ChrootBind => shared::plan(rootfs, slot, plan),
        Change::Pivot | Change::Move => {
            plan.inside(SetPropagation(propagation.early()));
            plan.inside(BindRoot { rootfs, follows: propagation.root_follows, slot });
        }
    }
}

/// Adds the change of root.
///
/// `alone`: nobody else is or was in the mount namespace, nothing in it is asked to be shared, and no other slot has a mount
/// below the root.
pub fn plan_change(propagation: Propagation, change: Change, alone: bool, rootfs: &Path, slot: Slot, plan: &mut Plan) {
    match change {
        Change::Pivot => plan.inside(PivotRoot { slot, alone }),
        Change::Move => beneath::plan(rootfs, slot, plan),
        Change::Chroot | Change::ChrootBind => plan.inside(Chroot(slot)),
    }
    // Without a mount namespace they would be the host's mounts.
    if matches!(change, Change::Pivot | Change::Move) && !propagation.is_early() {
        plan.inside(SetPropagation(propagation.flags));
    }
}

/// Adds the read-only root.
pub fn plan_read_only(slot: Slot, plan: &mut Plan) {
    plan.inside(ReadOnlyRoot(slot));
}

/// The rootfs path as a C string.
///
/// # Errors
/// A NUL byte.
pub fn path(rootfs: &std::path::Path) -> Result<CString> {
    CString::new(rootfs.as_os_str().as_encoded_bytes())
        .map_err(|_| anyhow!("config.json: root.path contains a NUL byte"))
}

struct SetPropagation(u64);

impl fmt::Display for SetPropagation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.0 & !libc::MS_REC {
            libc::MS_SHARED => "shared",
            libc::MS_PRIVATE => "private",
            libc::MS_UNBINDABLE => "unbindable",
            _ => "slave",
        };
        let all = if self.0 & libc::MS_REC != 0 { "all mounts" } else { "the root mount" };
        write!(f, "making {all} {word}")
    }
}

impl Inside for SetPropagation {
    fn run(&self, _: &mut Init<'_>) -> std::result::Result<(), Fault> {
        Ok(mount(None, c"/", None, self.0, None)?)
    }
}

struct BindRoot {
    rootfs: CString,
    follows: bool,
    slot: Slot,
}

impl fmt::Display for BindRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mounting rootfs {:?}", self.rootfs)
    }
}

impl Inside for BindRoot {
    fn run(&self, init: &mut Init<'_>) -> std::result::Result<(), Fault> {
        let place = fd::open(&self.rootfs, libc::O_PATH | libc::O_DIRECTORY, 0)?;
        let tree = clone_tree(place.as_fd(), c"", true)?;
        move_mount(tree.as_fd(), place.as_fd())?;
        if !self.follows {
            make_private(tree.as_fd())?;
        }
        init.slots.put(self.slot, tree);
        Ok(())
    }
}

struct OpenRoot {
    rootfs: CString,
    slot: Slot,
}

impl fmt::Display for OpenRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "opening rootfs {:?}", self.rootfs)
    }
}

impl Inside for OpenRoot {
    fn run(&self, init: &mut Init<'_>) -> std::result::Result<(), Fault> {
        init.slots.put(self.slot, fd::open(&self.rootfs, libc::O_PATH | libc::O_DIRECTORY, 0)?);
        Ok(())
    }
}

struct PivotRoot {
    slot: Slot,
    alone: bool,
}

impl fmt::Display for PivotRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("pivoting the root")
    }
}

impl Inside for PivotRoot {
    fn run(&self, init: &mut Init<'_>) -> std::result::Result<(), Fault> {
        let root = init.slots.get(self.slot)?;
        if self.alone
            && let Some(tree) = switch::switch(root)?
        {
            init.slots.put(self.slot, tree);
            return Ok(());
        }
        fd::fchdir(root)?;
        // The old root is stacked on the new one (pivot_root(2), NOTES) and is what "." then leads to.
        match pivot_root(c".", c".") {
            // The parent of the rootfs is shared when the mounts are only slaves of themselves: make it private.
            Err(Errno::EINVAL) => {
                make_parent_private()?;
                pivot_root(c".", c".")?;
            }
            other => other?,
        }
        umount2(c".", libc::MNT_DETACH)?;
        Ok(fd::chdir(c"/")?)
    }
}

/// pivot_root refuses while the mount that the new root is attached to is shared.
fn make_parent_private() -> std::result::Result<(), Fault> {
    let parent = root::openat2(fd::cwd(), c"..", libc::O_PATH | libc::O_DIRECTORY, 0, 0)?;
    match make_private(parent.as_fd()) {
        // The directory above is no mount point of its own: make everything private.
        Err(Errno::EINVAL) => Ok(mount(None, c"/", None, libc::MS_PRIVATE | libc::MS_REC, None)?),
        other => Ok(other?),
    }
}

fn make_private(mounted: BorrowedFd<'_>) -> sys::Result<()> {
    let private = MountAttr { propagation: libc::MS_PRIVATE, ..MountAttr::default() };
    match mount_setattr(mounted, private, 0, None) {
        // Linux before 5.12.
        Err(Errno::ENOSYS) => change(mounted, libc::MS_PRIVATE),
        other => other,
    }
}

struct Chroot(Slot);

impl fmt::Display for Chroot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("changing the root (no mount namespace)")
    }
}

impl Inside for Chroot {
    fn run(&self, init: &mut Init<'_>) -> std::result::Result<(), Fault> {
        fd::fchdir(init.slots.get(self.0)?)?;
        fd::chroot(c".")?;
        Ok(fd::chdir(c"/")?)
    }
}

struct ReadOnlyRoot(Slot);

impl fmt::Display for ReadOnlyRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("making the root read-only")
    }
}

impl Inside for ReadOnlyRoot {
    fn run(&self, init: &mut Init<'_>) -> std::result::Result<(), Fault> {
        Ok(set_read_only(init.slots.get(self.0)?)?)
    }
}
