//! `mounts` of type `cgroup` and `cgroup2`: config-linux.md#cgroup-mount-types, cgroup_namespaces(7).
//!
//! On a v2 host both mean the one hierarchy: a new mount in a cgroup namespace; without, the host's, as the options of
//! a new one (`nsdelegate`, `memory_recursiveprot`) would become those of the host. On a v1 host a `cgroup` mount is a tmpfs with one mount
//! for each hierarchy: new ones in a cgroup namespace, binds of the container's own cgroups without.

use std::ffi::CString;
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};

use anyhow::anyhow;
use nix::errno::Errno;

use super::dest::Dest;
use super::mount::{After, Entry, Setting, set_read_only};
use crate::error::Result;
use crate::plan::{Either, Fault, Init, Inside, Plan, Slot};
use crate::sys::fd;
use crate::sys::mount::{MountAttr, clone_tree, detached, mount, mount_setattr, move_mount};

/// Where the container's cgroups are on the host.
#[derive(Debug, Clone, Default)]
pub struct Hierarchies {
    /// Where the host has v2 alone.
    pub unified: Option<Unified>,
    /// One for each v1 hierarchy.
    pub v1: Vec<V1>,
}

/// The v2 hierarchy.
#[derive(Debug, Clone)]
pub struct Unified {
    /// Where the host has it mounted.
    pub mount: CString,
    /// The directory of the container's cgroup.
    pub path: CString,
}

/// One v1 hierarchy.
#[derive(Debug, Clone)]
pub struct V1 {
    /// The name of its directory, such as `cpu,cpuacct` or `systemd`.
    pub name: String,
    /// What a mount of it is given as data, such as `cpu,cpuacct` or `none,name=systemd`.
    pub data: String,
    /// The directory of the container's cgroup on the host.
    pub path: String,
}

/// Adds the opening of what [`plan`] binds without a cgroup namespace, for a mount that is made when the host's can no
/// longer be seen.
pub fn plan_open(unified: &Unified, slot: Slot, plan: &mut Plan) {
    plan.inside(OpenCgroup { path: unified.mount.clone(), slot });
}

/// Adds the steps for one cgroup mount; `opened` is what [`plan_open`] has opened.
///
/// # Errors
/// Names with NUL bytes.
pub fn plan(
    entry: &Entry<'_>,
    hierarchies: &Hierarchies,
    own_namespace: bool,
    opened: Option<Slot>,
    setting: &Setting,
    plan: &mut Plan,
) -> Result<()> {
    let rootfs = setting.rootfs;
    let dest = entry.dest.clone();
    let flags = entry.options.flags;
    let c =
        |text: &str| CString::new(text).map_err(|_| anyhow!("a cgroup mount has a NUL byte in its options or name"));
    if let Some(unified) = &hierarchies.unified {
        let bind = |path: &CString| BindCgroup {
            path: path.clone(),
            opened,
            below: Below { shown: dest.clone(), dest: dest.clone(), dir: rootfs },
            attributes: entry.options.attributes(),
            after: After::of(&entry.options),
        };
        if own_namespace || setting.user_namespace {
            let data = (!entry.options.data.is_empty()).then(|| c(&entry.options.data)).transpose()?;
            let first = MountUnified { dest: dest.clone(), flags, data, after: After::of(&entry.options), rootfs };
            // A user namespace may mount cgroup2 only together with a cgroup namespace of its own.
            plan.inside(Either { first, second: bind(&unified.path), on: &[Errno::EPERM, Errno::EBUSY] });
        } else {
            plan.inside(bind(&unified.mount));
        }
        return Ok(());
    }
    let attributes = entry.options.attributes().set & !libc::MOUNT_ATTR_RDONLY;
    let dir = plan.slot();
    plan.inside(MountDirectory { dest: dest.clone(), attributes, flags: flags & !libc::MS_RDONLY, dir, rootfs });
    for v1 in &hierarchies.v1 {
        let shown = Dest::new("mounts", &format!("{}/{}", dest.as_str(), v1.name))?;
        let below = Below { dest: Dest::new("mounts", &v1.name)?, shown, dir };
        if own_namespace {
            plan.inside(MountHierarchy { data: c(&v1.data)?, below, flags });
        } else {
            let attributes = entry.options.attributes();
            let path = c(&v1.path)?;
            plan.inside(BindCgroup { path, opened: None, below, attributes, after: After::default() });
        }
        // Programs look for each controller by its own name.
        let names: Vec<_> = v1.name.split(',').collect();
        if names.len() > 1 {
            let links = names.iter().map(|name| c(name)).collect::<Result<Vec<_>>>()?;
            plan.inside(LinkControllers { target: c(&v1.name)?, links, dir });
        }
    }
    let after = After::of(&entry.options);
    if !after.is_nothing() {
        plan.inside(SetAttributes { dest: dest.clone(), after, dir });
    }
    if entry.options.is_read_only() {
        plan.inside(ReadOnlyDirectory { dest, dir });
    }
    Ok(())
}

struct MountUnified {
    dest: Dest,
    flags: u64,
    data: Option<CString>,
    after: After,
    rootfs: Slot,
}

impl fmt::Display for MountUnified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mounting \"cgroup\" to rootfs at {}", self.dest)
    }
}

impl Inside for MountUnified {
    fn run(&self, init: &mut Init<'_>) -> std::result::Result<(), Fault> {
        let rootfs = init.slots.get(self.rootfs)?;
        let dest = self.dest.make_dir(rootfs, 0o755)?;
        fd::fchdir(dest.as_fd())?;
        mount(Some(c"cgroup"), c".", Some(c"cgroup2"), self.flags, self.data.as_deref())?;
        if self.after.is_nothing() {
            return Ok(());
        }
        self.after.apply(self.dest.open_mounted(dest.as_fd(), rootfs)?.as_fd())
    }
}

/// A place below a directory that is open, and its name for messages.
struct Below {
    dest: Dest,
    shown: Dest,
    dir: Slot,
}

impl Below {
    fn make(&self, init: &Init<'_>) -> std::result::Result<OwnedFd, Fault> {
        Ok(self.dest.make_dir(init.slots.get(self.dir)?, 0o755)?)
    }
}

struct MountDirectory {
    dest: Dest,
    attributes: u64,
    /// The same for mount(2).
    flags: u64,
    /// For what is mounted and made in it, which so cannot get anywhere else.
    dir: Slot,
    rootfs: Slot,
}

impl fmt::Display for MountDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mounting a directory of cgroup hierarchies to rootfs at {}", self.dest)
    }
}

impl Inside for MountDirectory {
    fn run(&self, init: &mut Init<'_>) -> std::result::Result<(), Fault> {
        let rootfs = init.slots.get(self.rootfs)?;
        let dest = self.dest.make_dir(rootfs, 0o755)?;
        let mounted = match detached(c"tmpfs", &[(c"source", c"tmpfs"), (c"mode", c"755")], self.attributes) {
            // For filters of an outer container that are older than fsopen(2).
            Err(Errno::ENOSYS) => {
                fd::fchdir(dest.as_fd())?;
                mount(Some(c"tmpfs"), c".", Some(c"tmpfs"), self.flags, Some(c"mode=755"))?;
                self.dest.open_mounted(dest.as_fd(), rootfs)?
            }
            other => {
                let mounted = other?;
                move_mount(mounted.as_fd(), dest.as_fd())?;
                mounted
            }
        };
        init.slots.put(self.dir, mounted);
        Ok(())
    }
}

struct MountHierarchy {
    data: CString,
    below: Below,
    flags: u64,
}

impl fmt::Display for MountHierarchy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mounting \"cgroup\" ({}) to rootfs at {}", self.data.to_string_lossy(), self.below.shown)
    }
}

impl Inside for MountHierarchy {
    fn run(&self, init: &mut Init<'_>) -> std::result::Result<(), Fault> {
        let dest = self.below.make(init)?;
        fd::fchdir(dest.as_fd())?;
        Ok(mount(Some(c"cgroup"), c".", Some(c"cgroup"), self.flags, Some(&self.data))?)
    }
}

struct OpenCgroup {
    path: CString,
    slot: Slot,
}

impl fmt::Display for OpenCgroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "opening {:?}", self.path)
    }
}

impl Inside for OpenCgroup {
    fn run(&self, init: &mut Init<'_>) -> std::result::Result<(), Fault> {
        init.slots.put(self.slot, clone_tree(fd::cwd(), &self.path, true)?);
        Ok(())
    }
}

struct BindCgroup {
    path: CString,
    /// The same, if it has been opened before.
    opened: Option<Slot>,
    below: Below,
    attributes: MountAttr,
    after: After,
}

impl fmt::Display for BindCgroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mounting {:?} to rootfs at {}", self.path, self.below.shown)
    }
}

impl Inside for BindCgroup {
    fn run(&self, init: &mut Init<'_>) -> std::result::Result<(), Fault> {
        let tree = match self.opened {
            Some(slot) => init.slots.take(slot).ok_or(Errno::EBADF)?,
            None => clone_tree(fd::cwd(), &self.path, true)?,
        };
        let dest = self.below.make(init)?;
        let old = match mount_setattr(tree.as_fd(), self.attributes, libc::AT_RECURSIVE, None) {
            Err(Errno::ENOSYS) => true,
            other => other.map(|()| false)?,
        };
        move_mount(tree.as_fd(), dest.as_fd())?;
        if old && self.attributes.set & libc::MOUNT_ATTR_RDONLY != 0 {
            set_read_only(tree.as_fd())?;
        }
        self.after.apply(tree.as_fd())
    }
}

struct LinkControllers {
    target: CString,
    links: Vec<CString>,
    dir: Slot,
}

impl fmt::Display for LinkControllers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "linking cgroup controllers to {:?}", self.target)
    }
}

impl Inside for LinkControllers {
    fn run(&self, init: &mut Init<'_>) -> std::result::Result<(), Fault> {
        let dir = init.slots.get(self.dir)?;
        for link in &self.links {
            match fd::symlinkat(&self.target, dir, link) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }
}

struct SetAttributes {
    dest: Dest,
    after: After,
    dir: Slot,
}

impl fmt::Display for SetAttributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "setting propagation and attributes of {}", self.dest)
    }
}

impl Inside for SetAttributes {
    fn run(&self, init: &mut Init<'_>) -> std::result::Result<(), Fault> {
        self.after.apply(init.slots.get(self.dir)?)
    }
}

struct ReadOnlyDirectory {
    dest: Dest,
    dir: Slot,
}

impl fmt::Display for ReadOnlyDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "making {} read-only", self.dest)
    }
}

impl Inside for ReadOnlyDirectory {
    fn run(&self, init: &mut Init<'_>) -> std::result::Result<(), Fault> {
        // The last that is done there: a working directory through /proc/self/fd shall not find it.
        let mounted = init.slots.take(self.dir).ok_or(Errno::EBADF)?;
        Ok(set_read_only(mounted.as_fd())?)
    }
}
