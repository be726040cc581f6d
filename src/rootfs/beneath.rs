//! The root moved over the old one (`--no-pivot`), for a host whose root is a ramfs, which pivot_root(2) refuses.
//!
//! The old root stays beneath. A procfs or sysfs that is left there lets a user namespace of the container mount
//! another of its kind, without the masks: the kernel asks only whether one is visible somewhere in the mount
//! namespace (mount_too_revealing in fs/namespace.c). So all of them are unmounted first.

use std::cell::OnceCell;
use std::ffi::{CStr, CString};
use std::fmt;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use nix::errno::Errno;

use crate::error::{Result, Why, errno_text};
use crate::host::cgroup::unescape;
use crate::plan::{Fault, Init, Inside, Outside, Plan, Runtime, Slot};
use crate::sys::mount::{mount, umount2};
use crate::sys::{self, fd};

/// Adds the move of the root; what must not stay beneath it is looked up before the clone copies the mounts.
pub fn plan(rootfs: &Path, slot: Slot, plan: &mut Plan) {
    let revealing = Rc::new(OnceCell::new());
    plan.before(FindRevealing { rootfs: rootfs.to_owned(), revealing: revealing.clone() });
    plan.inside(MoveRoot { revealing, slot });
}

struct FindRevealing {
    rootfs: PathBuf,
    revealing: Rc<OnceCell<Vec<CString>>>,
}

impl fmt::Display for FindRevealing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("looking for the proc and sysfs mounts of the host")
    }
}

impl Outside for FindRevealing {
    fn run(&self, _: &mut Runtime) -> Result<()> {
        let text = std::fs::read_to_string("/proc/self/mountinfo").why(|| "reading /proc/self/mountinfo")?;
        let _ = self.revealing.set(revealing(&text, &self.rootfs));
        Ok(())
    }
}

/// The places of procfs and sysfs, the deepest last mounted first. What is below the rootfs is the container's.
fn revealing(mountinfo: &str, rootfs: &Path) -> Vec<CString> {
    let place = |line: &str| {
        let (left, right) = line.split_once(" - ")?;
        let place = unescape(left.split(' ').nth(4)?);
        let is_revealing = matches!(right.split(' ').next()?, "proc" | "sysfs");
        (is_revealing && !Path::new(&place).starts_with(rootfs)).then(|| CString::new(place).ok())?
    };
    mountinfo.lines().rev().filter_map(place).collect()
}

struct MoveRoot {
    revealing: Rc<OnceCell<Vec<CString>>>,
    slot: Slot,
}

impl fmt::Display for MoveRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("moving the root (no pivot_root)")
    }
}

impl Inside for MoveRoot {
    fn run(&self, init: &mut Init<'_>) -> std::result::Result<(), Fault> {
        for (index, place) in self.revealing.get().into_iter().flatten().enumerate() {
            uncover(place).map_err(Fault::at(index as u64 + 1))?;
        }
        fd::fchdir(init.slots.get(self.slot)?)?;
        mount(Some(c"."), c"/", None, libc::MS_MOVE, None)?;
        fd::chroot(c".")?;
        Ok(fd::chdir(c"/")?)
    }

    fn explain(&self, fault: Fault) -> String {
        let why = errno_text(fault.errno);
        let place = self.revealing.get().and_then(|places| places.get(fault.detail.checked_sub(1)? as usize));
        place.map_or(why.clone(), |place| format!("unmounting {place:?} of the old root: {why}"))
    }
}

/// Unmounts all that is mounted in one place; what a user namespace may not unmount is covered.
fn uncover(place: &CStr) -> sys::Result<()> {
    while umount2(place, libc::MNT_DETACH).is_ok() {}
    let left = match fd::open(place, libc::O_PATH, 0) {
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::EACCES) => return Ok(()),
        other => other?,
    };
    const SYSFS_MAGIC: i64 = 0x6265_6572;
    if matches!(fd::fs_magic(left.as_fd())?, fd::PROC_SUPER_MAGIC | SYSFS_MAGIC) {
        mount(Some(c"none"), place, Some(c"tmpfs"), libc::MS_RDONLY, Some(c"nr_inodes=1"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_and_sysfs_are_found_wherever_they_are_but_below_the_rootfs() {
        let text = "22 1 8:1 / / rw - ext4 /dev/vda rw\n\
            23 22 0:5 / /proc rw - proc proc rw\n\
            24 22 0:6 / /sys rw shared:1 - sysfs sysfs rw\n\
            25 22 0:5 / /a\\040b/proc rw - proc proc rw\n\
            26 22 0:5 / /bundle/rootfs/proc rw - proc proc rw\n";
        let found = revealing(text, Path::new("/bundle/rootfs"));
        assert_eq!(found, [c"/a b/proc".to_owned(), c"/sys".to_owned(), c"/proc".to_owned()]);
    }
}
