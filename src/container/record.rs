//! What is written down of a container (`state.json`): every resource, before it exists.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::rootfs::shared;
use crate::{cgroup, rdt};

/// The record of one container.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The version of runtime-spec that the bundle was written for.
    pub oci_version: String,
    /// The id.
    pub id: String,
    /// The bundle, absolute.
    pub bundle: PathBuf,
    /// The root file system, absolute.
    pub rootfs: PathBuf,
    /// RFC 3339.
    pub created: String,
    /// User id that the runtime ran as.
    pub owner: u32,
    /// The first process, 0 while there is none.
    pub pid: i32,
    /// When it started, in clock ticks since boot: together with the pid it names one process for ever.
    pub start_time: u64,
    /// CLONE_NEW* of the namespaces that are not the runtime's.
    pub namespaces: i32,
    /// Whether the pid namespace is the container's own, so that its first process takes all others along.
    #[serde(default)]
    pub own_pid_namespace: bool,
    /// Whether the container has a session keyring of its own.
    pub keyring: bool,
    /// What the standard descriptors were when the first process was made; empty with a terminal.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub descriptors: Vec<String>,
    /// `annotations`.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// The cgroups.
    pub cgroup: cgroup::Record,
    /// The group of `linux.intelRdt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rdt: Option<rdt::Record>,
    /// The mounts, where they are in the runtime's mount namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared_mounts: Option<shared::Record>,
}
