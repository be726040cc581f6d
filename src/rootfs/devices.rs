//! Device nodes: config-linux.md#devices and #default-devices (runtime-spec v1.3.0).
//!
//! A user namespace may not mknod(2), so there the host's nodes are bound in place.

use std::ffi::CString;
use std::fmt;
use std::os::fd::AsFd;

use anyhow::{anyhow, bail};
use nix::errno::Errno;
use oci_spec::runtime::{LinuxDevice, LinuxDeviceType, Spec};

use super::dest::Dest;
use crate::error::Result;
use crate::plan::{Fault, Init, Inside, Plan, Slot};
use crate::sys::fd;
use crate::sys::mount::{clone_tree, move_mount};

/// The devices that every container has: name, major, minor.
const DEFAULTS: [(&str, u64, u64); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// The links that every container has below /dev.
const LINKS: [(&str, &str); 4] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
];

/// Whether nodes are made or bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// mknod(2).
    Make,
    /// A bind of the host's node of the same path.
    Bind,
}

/// One node.
struct Node {
    shown: String,
    dest: Dest,
    dir: Dest,
    name: CString,
    host: CString,
    mode: libc::mode_t,
    device: u64,
    uid: u32,
    gid: u32,
}

/// Adds the nodes and links; of the default ones, those that a mount has `covered` are the user's choice.
///
/// # Errors
/// Types, paths or numbers that make no device.
pub fn plan(devices: &[LinuxDevice], covered: &[&str], method: Method, rootfs: Slot, plan: &mut Plan) -> Result<()> {
    let mut nodes = Vec::new();
    for (name, major, minor) in DEFAULTS {
        let path = format!("/dev/{name}");
        let configured = devices.iter().any(|device| device.path().as_os_str() == path.as_str());
        if configured || covered.contains(&path.as_str()) {
            continue;
        }
        let mode = libc::S_IFCHR | 0o666;
        nodes.push(node("dev", &path, mode, libc::makedev(major as u32, minor as u32), (0, 0))?);
    }
    for (index, device) in devices.iter().enumerate() {
        nodes.push(configured(index, device)?);
    }
    if !nodes.is_empty() {
        plan.inside(MakeNodes { nodes, method, rootfs });
    }
    let mut links = Vec::new();
    for (target, name) in LINKS {
        links.push((CString::new(target)?, CString::new(name)?));
    }
    if std::path::Path::new("/proc/kcore").exists() {
        links.push((c"/proc/kcore".to_owned(), c"core".to_owned()));
    }
    plan.inside(MakeLinks { dev: Dest::new("dev", "/dev")?, links, rootfs });
    Ok(())
}

/// Where a container's nodes are, the default ones included.
pub fn paths(spec: &Spec) -> Vec<String> {
    let mut all: Vec<String> = DEFAULTS.iter().map(|(name, ..)| format!("/dev/{name}")).collect();
    let configured = spec.linux().as_ref().and_then(|linux| linux.devices().as_ref());
    all.extend(configured.into_iter().flatten().map(|device| device.path().to_string_lossy().into_owned()));
    all
}

fn configured(index: usize, device: &LinuxDevice) -> Result<Node> {
    let json = format!("linux.devices[{index}]");
    let path = device.path().to_str().ok_or_else(|| anyhow!("config.json: {json}.path is not UTF-8"))?;
    let kind = match device.typ() {
        LinuxDeviceType::C | LinuxDeviceType::U => libc::S_IFCHR,
        LinuxDeviceType::B => libc::S_IFBLK,
        LinuxDeviceType::P => libc::S_IFIFO,
        LinuxDeviceType::A => bail!("config.json: {json}.type \"a\" stands for all devices and cannot be made"),
    };
    let number = |field: &str, value: i64| {
        u32::try_from(value).map_err(|_| anyhow!("config.json: {json}.{field} {value} is not a device number"))
    };
    let rdev = if kind == libc::S_IFIFO {
        0
    } else {
        libc::makedev(number("major", device.major())?, number("minor", device.minor())?)
    };
    let mode = device.file_mode().unwrap_or(0o666) & 0o7777;
    node(&format!("{json}.path"), path, kind | mode, rdev, (device.uid().unwrap_or(0), device.gid().unwrap_or(0)))
}

fn node(json: &str, path: &str, mode: libc::mode_t, device: u64, owner: (u32, u32)) -> Result<Node> {
    let dest = Dest::new(json, path)?;
    let (dir, name) = dest.split().ok_or_else(|| anyhow!("config.json: {json} {path:?} names no file"))?;
    let host = CString::new(path).map_err(|_| anyhow!("config.json: {json} contains a NUL byte"))?;
    Ok(Node { shown: dest.as_str().to_owned(), dest, dir, name, host, mode, device, uid: owner.0, gid: owner.1 })
}

struct MakeNodes {
    nodes: Vec<Node>,
    method: Method,
    rootfs: Slot,
}

impl fmt::Display for MakeNodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.method == Method::Make { "creating" } else { "binding" };
        let names: Vec<_> = self.nodes.iter().map(|node| node.shown.as_str()).collect();
        write!(f, "{how} device nodes {}", names.join(", "))
    }
}

impl Inside for MakeNodes {
    fn run(&self, init: &mut Init<'_>) -> std::result::Result<(), Fault> {
        let rootfs = init.slots.get(self.rootfs)?;
        let mut open: Option<(&Dest, std::os::fd::OwnedFd)> = None;
        for (index, node) in self.nodes.iter().enumerate() {
            let fault = Fault::at(index as u64);
            if self.method == Method::Bind {
                node.bind(rootfs).map_err(&fault)?;
                continue;
            }
            if open.as_ref().is_none_or(|(dest, _)| **dest != node.dir) {
                open = Some((&node.dir, node.dir.make_dir(rootfs, 0o755).map_err(&fault)?));
            }
            if let Some((_, dir)) = &open {
                match node.make(dir.as_fd()) {
                    // A runtime without CAP_MKNOD, or a file system that refuses nodes.
                    Err(Errno::EPERM) => node.bind(rootfs).map_err(&fault)?,
                    other => other.map_err(&fault)?,
                }
            }
        }
        Ok(())
    }

    fn explain(&self, fault: Fault) -> String {
        let node = self.nodes.get(fault.detail as usize).map_or("", |node| node.shown.as_str());
        format!("{node}: {}", crate::error::errno_text(fault.errno))
    }
}

impl Node {
    fn make(&self, dir: std::os::fd::BorrowedFd<'_>) -> crate::sys::Result<()> {
        match fd::mknodat(dir, &self.name, self.mode, self.device) {
            Ok(()) => {}
            // The rootfs brings its own: accepted when it is the same device.
            Err(Errno::EEXIST) => {
                let found = fd::stat_at(dir, &self.name)?;
                let same = found.st_mode & libc::S_IFMT == self.mode & libc::S_IFMT && found.st_rdev == self.device;
                return if same { Ok(()) } else { Err(Errno::EEXIST) };
            }
            Err(errno) => return Err(errno),
        }
        if (self.uid, self.gid) != (0, 0) {
            fd::chown_at(dir, &self.name, self.uid, self.gid)?;
        }
        Ok(())
    }

    fn bind(&self, rootfs: std::os::fd::BorrowedFd<'_>) -> crate::sys::Result<()> {
        let tree = clone_tree(fd::cwd(), &self.host, false)?;
        let dest = self.dest.make_file(rootfs)?;
        move_mount(tree.as_fd(), dest.as_fd())
    }
}

struct MakeLinks {
    dev: Dest,
    links: Vec<(CString, CString)>,
    rootfs: Slot,
}

impl fmt::Display for MakeLinks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("linking /dev/fd, /dev/stdin, /dev/stdout, /dev/stderr and /dev/ptmx")
    }
}

impl Inside for MakeLinks {
    fn run(&self, init: &mut Init<'_>) -> std::result::Result<(), Fault> {
        let dev = self.dev.make_dir(init.slots.get(self.rootfs)?, 0o755)?;
        for (target, name) in &self.links {
            match fd::symlinkat(target, dev.as_fd(), name) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        // The spec wants /dev/ptmx to be the container's own, whatever the image has there.
        match fd::symlinkat(c"pts/ptmx", dev.as_fd(), c"ptmx") {
            Err(Errno::EEXIST) => {
                match fd::unlinkat(dev.as_fd(), c"ptmx") {
                    // A mount point or a directory was put there on purpose.
                    Err(Errno::EBUSY | Errno::EISDIR | Errno::EROFS) => return Ok(()),
                    other => other?,
                }
                Ok(fd::symlinkat(c"pts/ptmx", dev.as_fd(), c"ptmx")?)
            }
            other => Ok(other?),
        }
    }
}
