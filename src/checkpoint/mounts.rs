//! Mounts whose source is outside the container: criu is told their names at a dump, and what they are at a restore.
//!
//! criu knows mount points as the kernel lists them, so links on the way are resolved, by the kernel, below the root.

use std::ffi::CString;
use std::fmt;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use nix::errno::Errno;

use super::{Shared, rpc, text};
use crate::error::{Result, Why, one_line};
use crate::plan::{Outside, Runtime};
use crate::sys::clone::{Cloned, fork};
use crate::sys::missing::{self, Last};
use crate::sys::mount::{mount, move_mount, open_tree};
use crate::sys::{fd, ns, process, root};

/// What a mount is to criu.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A bind of something outside, absolute.
    Bind(PathBuf),
    /// A tmpfs: criu keeps what is in it, mount points too.
    Tmpfs,
    /// The cgroup file system, whose mount point is in another file system.
    Cgroup,
    /// Any other file system.
    Other,
}

/// A mount of config.json.
#[derive(Debug, Clone)]
pub struct Mount {
    /// `mounts[n]`
    pub json: String,
    /// Where it is in the container, absolute and without dots.
    pub dest: String,
    /// What it is.
    pub kind: Kind,
}

/// `dest` from a descriptor of the root.
fn relative(dest: &str) -> crate::sys::Result<CString> {
    let path = dest.trim_start_matches('/');
    CString::new(if path.is_empty() { "." } else { path }).map_err(|_| Errno::EINVAL)
}

fn open(root: BorrowedFd<'_>, dest: &str) -> crate::sys::Result<OwnedFd> {
    root::openat2(root, &relative(dest)?, libc::O_PATH, 0, root::IN_ROOT)
}

/// The path of what `fd` is open on, below `below`.
fn path_below(fd: BorrowedFd<'_>, below: &Path) -> Option<String> {
    let path = std::fs::read_link(format!("/proc/self/fd/{}", fd::number(fd))).ok()?;
    let rest = path.strip_prefix(below).ok()?;
    Some(format!("/{}", rest.to_str()?))
}

/// Names a dump's mounts: those that are binds, and files that are covered by /dev/null.
pub(super) struct NameMounts {
    /// The container's first process.
    pub pid: i32,
    /// Where binds are.
    pub binds: Vec<String>,
    /// Where masks are.
    pub masked: Vec<String>,
    pub opts: Shared,
}

impl fmt::Display for NameMounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "naming the mounts from outside {}", self.binds.join(", "))
    }
}

impl Outside for NameMounts {
    fn run(&self, _: &mut Runtime) -> Result<()> {
        let path = CString::new(format!("/proc/{}/root", self.pid))?;
        let root = fd::open(&path, libc::O_PATH | libc::O_DIRECTORY, 0).why(|| "opening the container's root")?;
        let mut opts = self.opts.borrow_mut();
        for dest in &self.binds {
            let found = open(root.as_fd(), dest).ok();
            let key = found.and_then(|found| path_below(found.as_fd(), Path::new("/"))).unwrap_or_else(|| dest.clone());
            opts.ext_mnt.push(rpc::ExtMount { key: key.clone(), val: key });
        }
        for dest in &self.masked {
            let place = match open(root.as_fd(), dest) {
                Err(Errno::ENOENT | Errno::ENOTDIR) => continue,
                other => other.why(|| dest)?,
            };
            // Folders are covered by a tmpfs, which criu can keep.
            if !fd::is_dir(fd::stat(place.as_fd()).why(|| dest)?.st_mode) {
                let key = path_below(place.as_fd(), Path::new("/")).unwrap_or_else(|| dest.clone());
                opts.ext_mnt.push(rpc::ExtMount { key, val: "/dev/null".into() });
            }
        }
        Ok(())
    }
}

/// Makes the mount points that are missing in the root file system, and tells criu what belongs there.
///
/// In a mount namespace of its own, of a process of its own: the points of mounts below binds are in the binds'
/// sources, so those have to be mounted for a moment.
pub(super) struct MakeMountPoints {
    pub rootfs: PathBuf,
    pub mounts: Vec<Mount>,
    pub opts: Shared,
}

impl fmt::Display for MakeMountPoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list: Vec<_> = self.mounts.iter().map(|mount| mount.dest.as_str()).collect();
        write!(f, "making the mount points {}", list.join(", "))
    }
}

impl Outside for MakeMountPoints {
    fn run(&self, _: &mut Runtime) -> Result<()> {
        let (mut from, to) = std::io::pipe().why(|| "pipe")?;
        match fork().why(|| "fork")? {
            Cloned::Child => {
                drop(from);
                let answer = self.make_all().map_err(|e| one_line(&e));
                let text = serde_json::to_vec(&answer).unwrap_or_default();
                let written = { to }.write_all(&text);
                process::exit(i32::from(written.is_err()))
            }
            Cloned::Parent(_, pidfd) => {
                drop(to);
                let mut answer = Vec::new();
                from.read_to_end(&mut answer).why(|| "reading from the process that makes them")?;
                process::wait(pidfd.as_fd(), 0).why(|| "waiting for the process that makes them")?;
                let answer: std::result::Result<Vec<String>, String> =
                    serde_json::from_slice(&answer).map_err(|_| anyhow!("the process that makes them has died"))?;
                let dests = answer.map_err(anyhow::Error::msg)?;
                let mut opts = self.opts.borrow_mut();
                for (mount, key) in self.mounts.iter().zip(dests) {
                    if let Kind::Bind(source) = &mount.kind {
                        opts.ext_mnt.push(rpc::ExtMount { key, val: text(source)? });
                    }
                }
                Ok(())
            }
        }
    }
}

impl MakeMountPoints {
    /// Makes them; gives each one's place, with links resolved.
    fn make_all(&self) -> Result<Vec<String>> {
        ns::unshare(libc::CLONE_NEWNS).why(|| "making a mount namespace")?;
        mount(None, c"/", None, libc::MS_SLAVE | libc::MS_REC, None).why(|| "setting propagation")?;
        let root = fd::open(&CString::new(text(&self.rootfs)?)?, libc::O_PATH | libc::O_DIRECTORY, 0)
            .why(|| format!("{:?}", self.rootfs))?;
        let mut places = Vec::new();
        for mount in &self.mounts {
            let place =
                self.make(mount, root.as_fd()).why(|| format!("config.json: {}: {:?}", mount.json, mount.dest))?;
            places.push(place.unwrap_or_else(|| mount.dest.clone()));
        }
        Ok(places)
    }

    fn make(&self, mount: &Mount, root: BorrowedFd<'_>) -> crate::sys::Result<Option<String>> {
        // What is in a tmpfs comes back with it, and cgroup mounts are in a tmpfs or in sysfs.
        let in_tmpfs = |other: &Mount| {
            other.kind == Kind::Tmpfs && mount.dest.strip_prefix(&other.dest).is_some_and(|rest| rest.starts_with('/'))
        };
        if mount.kind == Kind::Cgroup || self.mounts.iter().any(in_tmpfs) {
            return Ok(None);
        }
        let Kind::Bind(source) = &mount.kind else {
            make_point(root, &mount.dest, true)?;
            return Ok(None);
        };
        let source = CString::new(source.as_os_str().as_encoded_bytes()).map_err(|_| Errno::EINVAL)?;
        let flags = libc::OPEN_TREE_CLONE | libc::AT_RECURSIVE as u32;
        let tree = open_tree(fd::cwd(), &source, flags)?;
        let place = make_point(root, &mount.dest, fd::is_dir(fd::stat(tree.as_fd())?.st_mode))?;
        let resolved = path_below(place.as_fd(), &self.rootfs);
        move_mount(tree.as_fd(), place.as_fd())?;
        Ok(resolved)
    }
}

fn make_point(root: BorrowedFd<'_>, dest: &str, is_dir: bool) -> crate::sys::Result<OwnedFd> {
    match open(root, dest) {
        Err(Errno::ENOENT) => {
            let last = if is_dir { Last::Directory(0o755) } else { Last::File };
            missing::make(root, &relative(dest)?, last)?;
            open(root, dest)
        }
        other => other,
    }
}
