//! Sources of bind mounts that the runtime opens for init: the container's root may not be able to reach them,
//! only who is root over a file system can map the ids of a mount of it, and init's copies of the host's mounts
//! follow these alone, where mounts of the container are to reach the host.
//!
//! Most are opened before the clone. One that lies below the container's root is another matter: what is found
//! there depends on the mounts before it, so it is opened in their turn and in init's mount namespace.

use std::ffi::CString;
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};

use anyhow::anyhow;
use nix::errno::Errno;

use super::idmap::{self, Mapping};
use crate::error::{Result, Why};
use crate::plan::{Fault, Init, Inside, Outside, Plan, Runtime, Slot};
use crate::sys::mount::{MountAttr, clone_tree, mount_setattr};
use crate::sys::{channel, fd, ns};

/// What is opened, and what becomes of its ids.
pub struct Source {
    /// The path, absolute.
    pub path: CString,
    /// `mounts[n]`.
    pub json: String,
    /// With all mounts below it.
    pub recursive: bool,
    /// How its ids are mapped.
    pub mapping: Option<Mapping>,
    /// Whether the container's mounts below it reach the host, too.
    pub shared: bool,
}

/// Adds the opening before the clone.
pub fn plan(source: Source, plan: &mut Plan) -> Slot {
    let slot = plan.slot();
    plan.before(OpenSource { source, slot });
    slot
}

/// Adds the opening in init's mount namespace, at this point of the list.
pub fn plan_there(source: Source, plan: &mut Plan) -> Slot {
    let (outside, inside) = (plan.outside_slot(), plan.slot());
    plan.before(MakePair { outside, inside });
    plan.outside(OpenThere { source, socket: outside });
    plan.inside(ReceiveSource(inside));
    inside
}

impl Source {
    fn open(&self, runtime: &Runtime) -> Result<OwnedFd> {
        let tree = clone_tree(fd::cwd(), &self.path, self.recursive)
            .why(|| format!("config.json: {}.source {:?}", self.json, self.path))?;
        if let Some(mapping) = self.mapping {
            let mapped = mapping.apply(tree.as_fd(), &runtime.slots);
            mapped.map_err(|errno| anyhow!("config.json: {}: {}", self.json, idmap::explain(errno)))?;
        }
        if self.shared {
            return Ok(tree);
        }
        // The runtime's mounts may be shared with the host; the container's clone only follows them.
        let slave = MountAttr { propagation: libc::MS_SLAVE, ..MountAttr::default() };
        match mount_setattr(tree.as_fd(), slave, libc::AT_RECURSIVE, None) {
            // Linux before 5.12: once it is attached, by init.
            Err(Errno::ENOSYS) => {}
            other => other.why(|| "setting propagation")?,
        }
        Ok(tree)
    }
}

struct OpenSource {
    source: Source,
    slot: Slot,
}

impl fmt::Display for OpenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shared = if self.source.shared { "shared " } else { "" };
        write!(f, "opening {shared}mount source {:?}", self.source.path)
    }
}

impl Outside for OpenSource {
    fn run(&self, runtime: &mut Runtime) -> Result<()> {
        let tree = self.source.open(runtime)?;
        runtime.slots.put(self.slot, tree);
        Ok(())
    }
}

struct MakePair {
    outside: Slot,
    inside: Slot,
}

impl fmt::Display for MakePair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("making a socket for a mount source")
    }
}

impl Outside for MakePair {
    fn run(&self, runtime: &mut Runtime) -> Result<()> {
        let (ours, theirs) = channel::pair().why(|| "socketpair")?;
        runtime.slots.put(self.outside, ours);
        runtime.slots.put(self.inside, theirs);
        Ok(())
    }
}

struct OpenThere {
    source: Source,
    socket: Slot,
}

impl fmt::Display for OpenThere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "opening mount source {:?} in the container's mount namespace", self.source.path)
    }
}

impl Outside for OpenThere {
    fn run(&self, runtime: &mut Runtime) -> Result<()> {
        let open = |path| fd::open(path, libc::O_PATH | libc::O_DIRECTORY, 0).why(|| "opening the runtime's own place");
        let own = fd::open(c"/proc/self/ns/mnt", libc::O_RDONLY, 0).why(|| "opening /proc/self/ns/mnt")?;
        let (root, cwd) = (open(c"/")?, open(c".")?);
        let there = runtime.child()?.pidfd.as_fd();
        ns::setns(there, libc::CLONE_NEWNS).why(|| "entering the container's mount namespace")?;
        let tree = self.source.open(runtime);
        // The kernel sets root and working directory to those of the namespace; this process had its own.
        let back = || {
            ns::setns(own.as_fd(), libc::CLONE_NEWNS)?;
            fd::fchdir(root.as_fd())?;
            fd::chroot(c".")?;
            fd::fchdir(cwd.as_fd())
        };
        back().why(|| "returning to the runtime's own mount namespace")?;
        let socket = runtime.slots.get(self.socket).why(|| "mount source")?;
        channel::send_fds(socket, b"source", &[tree?.as_fd()]).why(|| "handing over the mount source")
    }
}

struct ReceiveSource(Slot);

impl fmt::Display for ReceiveSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("receiving the mount source")
    }
}

impl Inside for ReceiveSource {
    fn run(&self, init: &mut Init<'_>) -> std::result::Result<(), Fault> {
        let tree = channel::receive_fd(init.slots.get(self.0)?)?.ok_or(Errno::ECONNRESET)?;
        init.slots.put(self.0, tree);
        Ok(())
    }
}
