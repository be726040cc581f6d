//! `features`: what this runtime can do, from the tables that it works with.

use crate::error::Result;
use crate::rootfs::options;
use crate::seccomp;
use crate::spec::features::{Cgroup, Facts, Seccomp, features};

pub fn print() -> Result<()> {
    let mount_options = options::names();
    let architectures = seccomp::architectures();
    let seccomp = Seccomp {
        actions: &seccomp::ACTIONS,
        operators: &seccomp::OPERATORS,
        archs: &architectures.iter().map(String::as_str).collect::<Vec<_>>(),
        known_flags: &seccomp::FLAGS,
        supported_flags: &seccomp::FLAGS,
    };
    let facts = Facts {
        mount_options: &mount_options,
        cgroup: Cgroup { v1: true, v2: true, systemd: false, systemd_user: false, rdma: true },
        seccomp: Some(seccomp),
        apparmor: true,
        selinux: true,
        intel_rdt: false,
        idmap: false,
        net_devices: false,
        unsafe_annotations: &[],
        annotations: &[],
    };
    println!("{}", serde_json::to_string_pretty(&features(&facts))?);
    Ok(())
}
