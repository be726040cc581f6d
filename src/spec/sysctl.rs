//! Kernel parameters: config-linux.md#sysctl (runtime-spec v1.3.0).
//!
//! /proc/sys is namespaced in parts only. What is not would change the host, so a name is let
//! through only where a namespace of the container owns it.

use oci_spec::runtime::{LinuxNamespaceType, Spec};

use super::at::At;
use super::linux::find;
use crate::error::Result;

/// The parameters of System V IPC. POSIX message queues have `fs.mqueue.`, too.
const IPC: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shm_rmid_forced",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
];

/// The path of a parameter below /proc/sys: `net.ipv4.conf.eno2/100.rp_filter`, and
/// `net/ipv4/conf/eno2.100/rp_filter` as well, is `net/ipv4/conf/eno2.100/rp_filter`.
///
/// As in sysctl(8), the separator that comes first decides what the other one means.
pub fn path(name: &str) -> String {
    match name.find(['.', '/']) {
        Some(first) if name.as_bytes()[first] == b'.' => swap(name),
        _ => name.to_owned(),
    }
}

fn swap(name: &str) -> String {
    let swapped = name.chars().map(|c| match c {
        '.' => '/',
        '/' => '.',
        other => other,
    });
    swapped.collect()
}

/// Checks that each parameter belongs to a namespace of the container. Whether a joined network namespace
/// is the host's is seen when it is opened.
pub(super) fn check(spec: &Spec) -> Result<()> {
    let Some(sysctl) = spec.linux().as_ref().and_then(|linux| linux.sysctl().as_ref()) else { return Ok(()) };
    let at = At::Root.key("linux");
    let at = at.key("sysctl");
    let mut names: Vec<&String> = sysctl.keys().collect();
    names.sort();
    for name in names {
        let at = at.key(name);
        let path = path(name);
        // `net/../kernel/core_pattern` begins with `net`, too.
        if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(at.fault(format_args!("sysctl {name:?} is not the name of a parameter")));
        }
        let dotted = swap(&path);
        let has = |kind| find(spec, kind).is_some();
        if IPC.contains(&dotted.as_str()) || dotted.starts_with("fs.mqueue.") {
            if !has(LinuxNamespaceType::Ipc) {
                return Err(at.fault(format_args!("sysctl {dotted:?} is not allowed in the hosts ipc namespace")));
            }
        } else if dotted.starts_with("net.") {
            if !has(LinuxNamespaceType::Network) {
                return Err(at.fault(format_args!("sysctl {dotted:?} not allowed in host network namespace")));
            }
        } else if dotted == "kernel.hostname" && has(LinuxNamespaceType::Uts) {
            return Err(at.fault(format_args!(
                "sysctl {dotted:?} is not allowed as it conflicts with the OCI \"hostname\" field"
            )));
        } else if dotted.starts_with("user.") {
            // The limits on namespaces of whole users: without a user namespace, those of the host.
            if !has(LinuxNamespaceType::User) {
                return Err(at.fault(format_args!("setting ucounts without a user namespace not allowed: {dotted}")));
            }
        } else if !(dotted == "kernel.domainname" && has(LinuxNamespaceType::Uts)) {
            return Err(at.fault(format_args!("sysctl {dotted:?} is not in a separate kernel namespace")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_separator_decides() {
        for (name, expected) in [
            ("net.ipv4.ip_forward", "net/ipv4/ip_forward"),
            ("net/ipv4/ip_forward", "net/ipv4/ip_forward"),
            ("net.ipv4.conf.eno2/100.rp_filter", "net/ipv4/conf/eno2.100/rp_filter"),
            ("net/ipv4/conf/eno2.100/rp_filter", "net/ipv4/conf/eno2.100/rp_filter"),
            ("plain", "plain"),
        ] {
            assert_eq!(path(name), expected);
        }
    }
}
