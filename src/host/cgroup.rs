//! Which cgroup hierarchies the host has, and where they are mounted (cgroups(7)).
//!
//! On a v2 host one statfs of `/sys/fs/cgroup` answers everything; on a v1 or hybrid host
//! `/proc/self/mountinfo` is read once for all controllers. The runtime's own place in the
//! hierarchies matters for relative cgroup paths only, so it is read when one is asked for.

use std::ffi::CStr;

use anyhow::anyhow;
use libcgroups::common::{CgroupSetup, DEFAULT_CGROUP_ROOT, get_cgroup_setup};

use crate::error::{Result, Why};
use crate::sys::fd;

/// The cgroup hierarchies of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Setup {
    /// One v2 hierarchy with all controllers.
    Unified {
        /// Where it is mounted.
        mount: String,
        /// The runtime's own cgroup.
        own: Own,
    },
    /// Controllers in v1 hierarchies, with or without a v2 hierarchy beside them (`hybrid`).
    Legacy {
        /// All hierarchies that a container joins; the v2 one has the controller "".
        hierarchies: Vec<Hierarchy>,
        /// The runtime's own cgroups.
        own: Own,
    },
    /// No cgroup file system is mounted.
    Absent,
}

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// `cpu`, `memory`, …, `name=systemd`, or "" for the v2 hierarchy of a hybrid host.
    pub controllers: Vec<String>,
    /// Where it is mounted.
    pub mount: String,
    /// The cgroup that the mount shows; `/` unless the runtime is in a container without a cgroup namespace.
    pub root: String,
}

/// The cgroups that the runtime itself is in, as /proc/self/cgroup lists them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Own {
    /// Read when needed.
    Unread,
    /// By controller; v2 is "".
    Known(Vec<(String, String)>),
}

impl Setup {
    /// Looks at the host.
    ///
    /// # Errors
    /// When /proc/self/mountinfo has to be read and cannot.
    pub fn probe() -> Result<Setup> {
        // An error means a root of another kind than the usual ones; then the mounts decide.
        if let Ok(CgroupSetup::Unified) = get_cgroup_setup() {
            return Ok(Setup::Unified { mount: DEFAULT_CGROUP_ROOT.into(), own: Own::Unread });
        }
        Ok(from_mountinfo(&read(c"/proc/self/mountinfo", 16384)?))
    }

    /// Whether v2 alone is in use.
    pub fn is_unified(&self) -> bool {
        matches!(self, Setup::Unified { .. })
    }
}

impl Own {
    /// The runtime's cgroup in the hierarchy of this controller ("" for v2).
    ///
    /// # Errors
    /// When /proc/self/cgroup cannot be read or does not list the controller.
    pub fn path(&self, controller: &str) -> Result<String> {
        let found = match self {
            Own::Known(list) => list.iter().find(|(name, _)| name == controller).map(|(_, path)| path.clone()),
            Own::Unread => own_path(&read(c"/proc/self/cgroup", 1024)?, controller),
        };
        found.ok_or_else(|| anyhow!("/proc/self/cgroup does not list {controller:?}"))
    }

    /// Reads the list now, where it will be asked for several times.
    ///
    /// # Errors
    /// When /proc/self/cgroup cannot be read.
    pub fn known(&self) -> Result<Own> {
        Ok(match self {
            Own::Known(_) => self.clone(),
            Own::Unread => Own::Known(parse_own(&read(c"/proc/self/cgroup", 1024)?)),
        })
    }
}

/// A file's text, which is expected to have less than `room` bytes; the error names the file.
fn read(path: &CStr, room: usize) -> Result<String> {
    let what = || format!("read {}", path.to_string_lossy());
    String::from_utf8(fd::read_whole(path, room).why(what)?).map_err(|_| anyhow!("{}: no text", what()))
}

/// The cgroups of a process, from the text of /proc/PID/cgroup: (controller, path), v2 is "".
fn own_paths(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let hierarchies = text.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    hierarchies.flat_map(|(controllers, path)| controllers.split(',').map(move |name| (name, path)))
}

/// The same, kept.
pub fn parse_own(text: &str) -> Vec<(String, String)> {
    own_paths(text).map(|(name, path)| (name.to_owned(), path.to_owned())).collect()
}

/// The one of a controller.
fn own_path(text: &str, controller: &str) -> Option<String> {
    own_paths(text).find(|(name, _)| *name == controller).map(|(_, path)| path.to_owned())
}

/// The controllers of a v1 hierarchy that containers join; other words of the mount options are no controllers.
const CONTROLLERS: [&str; 14] = [
    "blkio",
    "cpu",
    "cpuacct",
    "cpuset",
    "devices",
    "freezer",
    "hugetlb",
    "memory",
    "misc",
    "net_cls",
    "net_prio",
    "perf_event",
    "pids",
    "rdma",
];

/// The hierarchies that the text of /proc/self/mountinfo lists.
pub fn from_mountinfo(text: &str) -> Setup {
    let mut hierarchies: Vec<Hierarchy> = Vec::new();
    for line in text.lines() {
        // `36 35 98:0 /root /mount options… - type source super-options`
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let mut right = right.split(' ');
        let kind = right.next().unwrap_or_default();
        let mut left = left.split(' ').skip(3);
        let (Some(root), Some(mount)) = (left.next(), left.next()) else { continue };
        let controllers: Vec<String> = match kind {
            "cgroup2" => vec![String::new()],
            "cgroup" => right
                .nth(1)
                .unwrap_or_default()
                .split(',')
                .filter(|word| CONTROLLERS.contains(word) || *word == "name=systemd")
                .map(str::to_owned)
                .collect(),
            _ => continue,
        };
        // The first mount of a hierarchy is the one to use: later ones are bind mounts or another view.
        if controllers.is_empty() || hierarchies.iter().any(|seen| seen.controllers == controllers) {
            continue;
        }
        hierarchies.push(Hierarchy { controllers, mount: unescape(mount), root: unescape(root) });
    }
    match hierarchies.as_slice() {
        [] => Setup::Absent,
        [only] if only.controllers == [""] => Setup::Unified { mount: only.mount.clone(), own: Own::Unread },
        _ => Setup::Legacy { hierarchies, own: Own::Unread },
    }
}

/// mountinfo writes space, tab, newline and backslash as three octal digits.
pub fn unescape(field: &str) -> String {
    let mut text = String::with_capacity(field.len());
    let mut rest = field;
    while let Some((before, after)) = rest.split_once('\\') {
        text.push_str(before);
        let code = after.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(byte) if byte.is_ascii() => {
                text.push(char::from(byte));
                rest = after.get(3..).unwrap_or_default();
            }
            _ => {
                text.push('\\');
                rest = after;
            }
        }
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hybrid_host_has_v1_hierarchies_and_the_unified_one() {
        let setup = from_mountinfo(
            "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
             32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
             33 31 0:29 / /mnt/again rw - cgroup cgroup rw,cpu,cpuacct\n\
             40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,release_agent=/x,name=systemd\n\
             41 31 0:38 / /sys/fs/cgroup/with\\040space rw - cgroup2 cgroup2 rw\n",
        );
        let Setup::Legacy { hierarchies, .. } = setup else { panic!("{setup:?}") };
        let names: Vec<_> = hierarchies.iter().map(|h| (h.controllers.join(","), h.mount.as_str())).collect();
        assert_eq!(
            names,
            [
                ("cpu,cpuacct".to_owned(), "/sys/fs/cgroup/cpu,cpuacct"),
                ("name=systemd".to_owned(), "/sys/fs/cgroup/systemd"),
                (String::new(), "/sys/fs/cgroup/with space"),
            ]
        );
    }

    #[test]
    fn a_lone_cgroup2_mount_elsewhere_is_a_unified_host() {
        let setup = from_mountinfo("41 31 0:38 / /cg rw - cgroup2 cgroup2 rw\n");
        assert_eq!(setup, Setup::Unified { mount: "/cg".into(), own: Own::Unread });
        assert_eq!(from_mountinfo("1 2 0:3 / / rw - ext4 /dev/vda rw\n"), Setup::Absent);
    }

    #[test]
    fn own_cgroups_are_found_by_controller() {
        let own = Own::Known(parse_own("12:cpu,cpuacct:/a:b\n1:name=systemd:/s\n0::/user.slice/x.scope\n"));
        assert_eq!(own.path("cpuacct").unwrap(), "/a:b");
        assert_eq!(own.path("name=systemd").unwrap(), "/s");
        assert_eq!(own.path("").unwrap(), "/user.slice/x.scope");
        assert!(own.path("memory").is_err());
        let text = "12:cpu,cpuacct:/a:b\n1:name=systemd:/s\n0::/user.slice/x.scope\n";
        for (controller, path) in parse_own(text) {
            assert_eq!(own_path(text, &controller), Some(path));
        }
        assert_eq!(own_path(text, "memory"), None);
    }

    #[test]
    fn this_host_has_some_setup() {
        let setup = Setup::probe().unwrap();
        let magic = nix::sys::statfs::statfs("/sys/fs/cgroup").map(|s| s.filesystem_type());
        assert_eq!(setup.is_unified(), magic == Ok(nix::sys::statfs::CGROUP2_SUPER_MAGIC), "{setup:?}");
    }
}
