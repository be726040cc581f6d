//! What state.json keeps of a container's cgroups, in the form of runc's `cgroup_paths`.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::dir::Dir;

/// The cgroups of a container that has been, or was about to be, made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The absolute directory by controller; v2 is "".
    pub paths: BTreeMap<String, String>,
    /// Ancestors that were not there before this container, deepest first: removed with it when nobody else is there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ancestors: Vec<String>,
    /// The v2 mount.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mount: String,
    /// The scope that systemd has made, or was about to make, for the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Whether the scope is the user's systemd's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub user: bool,
}

/// How much memory the container's cgroup uses and may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryUse {
    /// Bytes now.
    pub usage: u64,
    /// The highest usage so far, where the kernel knows it.
    pub peak: Option<u64>,
    /// The limit; `None` is unlimited.
    pub limit: Option<u64>,
}

/// v1 reports "unlimited" as the largest multiple of the page size.
const V1_UNLIMITED: u64 = i64::MAX as u64 / 65536 * 65536;

impl Record {
    /// The path in the hierarchy of this controller.
    pub fn path(&self, controller: &str) -> Option<&str> {
        self.paths.get(controller).map(String::as_str)
    }

    /// Whether v2 alone is in use.
    pub fn is_unified(&self) -> bool {
        self.paths.len() == 1 && self.paths.contains_key("")
    }

    /// Whether the container has no cgroup.
    pub fn is_none(&self) -> bool {
        self.paths.is_empty()
    }

    /// Each directory once.
    pub(super) fn dirs(&self) -> BTreeSet<&str> {
        self.paths.values().map(String::as_str).collect()
    }

    /// The hierarchy whose process list is asked: all hold the same processes, unless the container moved some.
    pub(super) fn main(&self) -> Option<&str> {
        let v1 = ["devices", "pids", "name=systemd", "memory"].iter().find_map(|name| self.path(name));
        v1.or_else(|| self.path("")).or_else(|| self.paths.values().next().map(String::as_str))
    }

    fn memory_dir(&self) -> Option<(Dir, bool)> {
        let unified = self.is_unified();
        let path = self.path(if unified { "" } else { "memory" })?;
        Some((Dir::open(path).ok()?, unified))
    }

    /// How often the kernel killed a process of the container for want of memory. `None` when nobody counts.
    pub fn oom_kills(&self) -> Option<u64> {
        let (dir, unified) = self.memory_dir()?;
        dir.keyed(if unified { "memory.events" } else { "memory.oom_control" }, "oom_kill")
    }

    /// Memory in use, and its limit. `None` when nobody counts.
    pub fn memory(&self) -> Option<MemoryUse> {
        let (dir, unified) = self.memory_dir()?;
        let (usage, peak, limit) = if unified {
            ("memory.current", "memory.peak", "memory.max")
        } else {
            ("memory.usage_in_bytes", "memory.max_usage_in_bytes", "memory.limit_in_bytes")
        };
        let limit = dir.number(limit).filter(|limit| *limit < V1_UNLIMITED);
        Some(MemoryUse { usage: dir.number(usage)?, peak: dir.number(peak), limit })
    }
}
