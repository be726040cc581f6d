//! `features`: what this runtime can do, from the tables that it works with.

use crate::error::Result;
use crate::rootfs::options;
use crate::seccomp;
use crate::spec::features::{Cgroup, Facts, Seccomp, features};

#[inline(never)]
pub fn print() -> Result<()> {
    let mount_options = options::names();
    let known = seccomp::features();
    let seccomp = Seccomp {
        actions: &known.actions,
        operators: &known.operators,
        archs: &known.archs,
        known_flags: &known.known_flags,
        supported_flags: &known.supported_flags,
    };
    let facts = Facts {
        mount_options: &mount_options,
        cgroup: Cgroup { v1: true, v2: true, systemd: true, systemd_user: true, rdma: true },
        seccomp: Some(seccomp),
        apparmor: true,
        selinux: true,
        intel_rdt: true,
        idmap: true,
        net_devices: true,
        unsafe_annotations: &["org.criu.config", "org.systemd.property."],
        annotations: &[("org.opencontainers.runc.checkpoint.enabled", "true")],
    };
    super::say(serde_json::to_string_pretty(&features(&facts))? + "\n")
}
