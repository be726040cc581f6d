//! Mounts of a container that shares the runtime's mount namespace: config-linux.md#namespaces (runtime-spec v1.3.0).
//!
//! They are the host's, so they must be found and undone: all stand below one private bind of the root on itself,
//! which the container's end unmounts with everything below. The bind is private before anything is mounted on it,
//! so that nothing of that reaches other mount namespaces; the propagation of the host's own mounts is left as it is.

use std::ffi::CString;
use std::fmt;
use std::os::fd::AsFd;
use std::path::Path;

use anyhow::bail;
use nix::errno::Errno;
use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};

use super::pivot;
use crate::error::{Result, Why};
use crate::host::cgroup::unescape;
use crate::plan::{Fault, Init, Inside, Plan, Slot};
use crate::sys::fd;
use crate::sys::mount::{MountAttr, change, clone_tree, mount_setattr, move_mount, umount2};

const MOUNTINFO: &str = "/proc/self/mountinfo";

/// What is written down of the mounts before they are there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The id of the mount that the root is on, which the bind will be attached to.
    pub parent: u32,
}

/// Whether config.json asks for mounts at all.
pub fn has_mounts(spec: &Spec) -> bool {
    spec.mounts().as_ref().is_some_and(|mounts| !mounts.is_empty())
}

/// Adds the bind of the root on itself.
pub fn plan(rootfs: CString, slot: Slot, plan: &mut Plan) {
    plan.inside(BindPrivately { rootfs, slot });
}

struct BindPrivately {
    rootfs: CString,
    slot: Slot,
}

impl fmt::Display for BindPrivately {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mounting rootfs {:?} privately (no mount namespace)", self.rootfs)
    }
}

impl Inside for BindPrivately {
    fn run(&self, init: &mut Init<'_>) -> std::result::Result<(), Fault> {
        let place = fd::open(&self.rootfs, libc::O_PATH | libc::O_DIRECTORY, 0)?;
        let tree = clone_tree(place.as_fd(), c"", true)?;
        move_mount(tree.as_fd(), place.as_fd())?;
        // Not earlier: what is attached to a shared mount becomes shared.
        let private = MountAttr { propagation: libc::MS_PRIVATE, ..MountAttr::default() };
        match mount_setattr(tree.as_fd(), private, libc::AT_RECURSIVE, None) {
            // Linux before 5.12.
            Err(Errno::ENOSYS) => change(tree.as_fd(), libc::MS_PRIVATE | libc::MS_REC)?,
            other => other?,
        }
        init.slots.put(self.slot, tree);
        Ok(())
    }
}

impl Record {
    /// Looks at what the root is on.
    ///
    /// # Errors
    /// When /proc does not tell.
    pub fn of(rootfs: &Path) -> Result<Record> {
        Ok(Record { parent: mount_id(rootfs)? })
    }

    /// Unmounts the bind with all below it, if it is there.
    ///
    /// # Errors
    /// When somebody has mounted something over it.
    pub fn remove(&self, rootfs: &Path) -> Result<()> {
        let mountinfo = std::fs::read_to_string(MOUNTINFO).why(|| format!("reading {MOUNTINFO}"))?;
        let Some(bind) = find(&mountinfo, self.parent, rootfs) else { return Ok(()) };
        if mount_id(rootfs)? != bind {
            bail!("unmounting {}: something else has been mounted over the container's root", rootfs.display());
        }
        umount2(&pivot::path(rootfs)?, libc::MNT_DETACH | libc::UMOUNT_NOFOLLOW)
            .why(|| format!("unmounting {}", rootfs.display()))
    }
}

/// The id of the mount that stands at `rootfs` on the mount `parent`.
fn find(mountinfo: &str, parent: u32, rootfs: &Path) -> Option<u32> {
    let bind = |line: &str| {
        let mut fields = line.split(' ');
        let id = fields.next()?.parse().ok()?;
        let on: u32 = fields.next()?.parse().ok()?;
        (on == parent && Path::new(&unescape(fields.nth(2)?)) == rootfs).then_some(id)
    };
    mountinfo.lines().find_map(bind)
}

/// The id of the mount that a path leads to.
fn mount_id(path: &Path) -> Result<u32> {
    let place = fd::open(&pivot::path(path)?, libc::O_PATH, 0).why(|| path.display().to_string())?;
    fd::mount_id(place.as_fd()).why(|| format!("the mount of {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bind_is_known_by_its_place_and_by_the_mount_it_stands_on() {
        let text = "22 1 8:1 / / rw - ext4 /dev/vda rw\n\
            30 22 0:40 / /bundle/root\\040fs rw shared:1 - overlay overlay rw\n\
            31 30 0:40 / /bundle/root\\040fs rw - overlay overlay rw\n\
            32 31 0:5 / /bundle/root\\040fs/proc rw - proc proc rw\n";
        let rootfs = Path::new("/bundle/root fs");
        assert_eq!(find(text, 30, rootfs), Some(31));
        assert_eq!(find(text, 22, rootfs), Some(30));
        assert_eq!(find(text, 22, Path::new("/bundle")), None);
        assert_eq!(find(text, 31, rootfs), None);
    }
}
