//! Masked and read-only paths: config-linux.md#masked-paths and #readonly-paths (runtime-spec v1.3.0).
//!
//! A masked file is covered by /dev/null, verified to be that device (CVE-2025-31133); all masked
//! directories are covered by clones of one empty read-only tmpfs.

use std::ffi::{CStr, CString};
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;

use super::dest::Dest;
use super::mount::set_read_only;
use crate::error::{Result, errno_text};
use crate::plan::{Fault, Init, Inside, Plan, Slot};
use crate::sys::fd;
use crate::sys::mount::{clone_tree, detached, move_mount};

/// Which paths are covered now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// All of them.
    All,
    /// Those of procfs that are the same in every network namespace.
    Early,
    /// The others.
    Late,
}

/// Entries of procfs that are no links (as /proc/device-tree is, into sysfs), and that do not depend on the network
/// namespace of who looks (as what is in /proc/sys/net does): a cover stays where it is.
fn is_same_everywhere(path: &str) -> bool {
    matches!(
        path,
        "/proc/acpi"
            | "/proc/asound"
            | "/proc/bus"
            | "/proc/fs"
            | "/proc/interrupts"
            | "/proc/irq"
            | "/proc/kallsyms"
            | "/proc/kcore"
            | "/proc/keys"
            | "/proc/latency_stats"
            | "/proc/sched_debug"
            | "/proc/scsi"
            | "/proc/sys"
            | "/proc/sysrq-trigger"
            | "/proc/timer_list"
            | "/proc/timer_stats"
    )
}

impl Which {
    /// A path, cleaned, if it is among them. What is clean already need not be cleaned to see that it is not.
    fn take(self, json: impl fmt::Display, path: &str) -> Result<Option<Dest>> {
        if fd::is_plain(path.as_bytes()) && !self.has(path) {
            return Ok(None);
        }
        let dest = Dest::new(json, path)?;
        Ok(Some(dest).filter(|dest| self.has(dest.as_str())))
    }

    fn has(self, clean: &str) -> bool {
        match self {
            Which::All => true,
            Which::Early => is_same_everywhere(clean),
            Which::Late => !is_same_everywhere(clean),
        }
    }
}

/// Adds the masking, and the making read-only, of those paths whose turn it is.
///
/// # Errors
/// Paths that are none.
pub fn plan(
    (masked, read_only): (&[String], &[String]),
    which: Which,
    label: Option<&CString>,
    rootfs: Slot,
    plan: &mut Plan,
) -> Result<()> {
    let dests = |field: &str, paths: &[String], which: Which| {
        let mut dests = Vec::with_capacity(paths.len());
        for (index, path) in paths.iter().enumerate() {
            let dest = which.take(format_args!("linux.{field}[{index}]"), path)?;
            // Twice the same path would be covered twice.
            dests.extend(dest.filter(|dest| !dests.contains(dest)));
        }
        Ok::<_, anyhow::Error>(dests)
    };
    let read_only = dests("readonlyPaths", read_only, which)?;
    if !read_only.is_empty() {
        plan.inside(MakeReadOnly { paths: read_only, rootfs });
    }
    let paths = dests("maskedPaths", masked, which)?;
    if !paths.is_empty() {
        let null = Dest::new("dev", "/dev/null")?;
        let earlier = if which == Which::Late { dests("maskedPaths", masked, Which::Early)? } else { Vec::new() };
        plan.inside(Mask { paths, earlier, null, label: label.cloned(), rootfs });
    }
    Ok(())
}

fn list(paths: &[Dest]) -> String {
    paths.iter().map(Dest::as_str).collect::<Vec<_>>().join(", ")
}

fn explain(paths: &[Dest], fault: Fault) -> String {
    let path = paths.get(fault.detail as usize).map_or("", Dest::as_str);
    format!("{path}: {}", errno_text(fault.errno))
}

struct MakeReadOnly {
    paths: Vec<Dest>,
    rootfs: Slot,
}

impl fmt::Display for MakeReadOnly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "making paths read-only: {}", list(&self.paths))
    }
}

impl Inside for MakeReadOnly {
    fn run(&self, init: &mut Init<'_>) -> std::result::Result<(), Fault> {
        let rootfs = init.slots.get(self.rootfs)?;
        for (index, path) in self.paths.iter().enumerate() {
            let fault = Fault::at(index as u64);
            let place = match path.open(rootfs) {
                Err(Errno::ENOENT | Errno::ENOTDIR) => continue,
                other => other.map_err(&fault)?,
            };
            let tree = clone_tree(place.as_fd(), c"", true).map_err(&fault)?;
            set_read_only_and_attach(&tree, &place).map_err(&fault)?;
        }
        Ok(())
    }

    fn explain(&self, fault: Fault) -> String {
        explain(&self.paths, fault)
    }
}

fn set_read_only_and_attach(tree: &OwnedFd, place: &OwnedFd) -> crate::sys::Result<()> {
    use crate::sys::mount::{MountAttr, mount_setattr};
    let read_only = MountAttr { set: libc::MOUNT_ATTR_RDONLY, ..MountAttr::default() };
    match mount_setattr(tree.as_fd(), read_only, 0, None) {
        // Linux before 5.12 can only remount what is attached.
        Err(Errno::ENOSYS) => {
            move_mount(tree.as_fd(), place.as_fd())?;
            set_read_only(tree.as_fd())
        }
        Ok(()) => move_mount(tree.as_fd(), place.as_fd()),
        Err(errno) => Err(errno),
    }
}

struct Mask {
    paths: Vec<Dest>,
    /// What the other step of this kind has covered before.
    earlier: Vec<Dest>,
    null: Dest,
    /// What SELinux is to call the directory that covers directories.
    label: Option<CString>,
    rootfs: Slot,
}

impl fmt::Display for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "masking paths: {}", list(&self.paths))?;
        self.label.as_ref().map_or(Ok(()), |label| write!(f, " labelled {label:?}"))
    }
}

impl Inside for Mask {
    fn run(&self, init: &mut Init<'_>) -> std::result::Result<(), Fault> {
        let rootfs = init.slots.get(self.rootfs)?;
        let mut null: Option<OwnedFd> = None;
        let mut empty: Option<OwnedFd> = None;
        for (index, path) in self.paths.iter().enumerate() {
            let fault = Fault::at(index as u64);
            let place = match path.open(rootfs) {
                Err(Errno::ENOENT | Errno::ENOTDIR) => continue,
                other => other.map_err(&fault)?,
            };
            let is_dir = fd::is_dir(fd::stat(place.as_fd()).map_err(&fault)?.st_mode);
            let kept = if is_dir { &mut empty } else { &mut null };
            let cover = match kept {
                // The first of a kind is attached itself; the next ones are clones of what is attached.
                Some(first) => clone_tree(first.as_fd(), c"", false),
                None if is_dir => match init.covered.and_then(|covered| self.earlier.get(covered)) {
                    Some(covered) => covered.open(rootfs).and_then(|dir| clone_tree(dir.as_fd(), c"", false)),
                    None => empty_directory(self.label.as_deref()),
                },
                None => self.dev_null(rootfs),
            }
            .map_err(&fault)?;
            move_mount(cover.as_fd(), place.as_fd()).map_err(&fault)?;
            if is_dir {
                init.covered.get_or_insert(index);
            }
            kept.get_or_insert(cover);
        }
        Ok(())
    }

    fn explain(&self, fault: Fault) -> String {
        explain(&self.paths, fault)
    }
}

impl Mask {
    fn dev_null(&self, rootfs: std::os::fd::BorrowedFd<'_>) -> crate::sys::Result<OwnedFd> {
        let null = self.null.open(rootfs)?;
        if !fd::is_null_device(&fd::stat(null.as_fd())?) {
            return Err(Errno::ENODEV);
        }
        clone_tree(null.as_fd(), c"", false)
    }
}

fn empty_directory(label: Option<&CStr>) -> crate::sys::Result<OwnedFd> {
    let attributes =
        libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;
    let small = [(c"nr_blocks", c"1"), (c"nr_inodes", c"1")];
    match label {
        // The inode of a labelled file system takes one for its attribute too.
        Some(label) => detached(c"tmpfs", &[small[0], (c"nr_inodes", c"2"), (c"context", label)], attributes),
        None => detached(c"tmpfs", &small, attributes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_passed_over_is_not_among_them() {
        for path in [
            "/proc/keys",
            "/proc//keys",
            "/proc/keys/",
            "proc/keys",
            "/proc/net",
            "/sys/firmware",
            "/proc/../proc/bus",
            "/",
        ] {
            let dest = Dest::new("x", path).unwrap();
            let has = [Which::All, Which::Early, Which::Late].map(|which| which.take("x", path).unwrap().is_some());
            let cleaned = is_same_everywhere(dest.as_str());
            assert_eq!(has, [true, cleaned, !cleaned], "{path}");
        }
    }
}
