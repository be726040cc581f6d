//! The configuration that `orlop spec` writes: a starting point for people, as runc's.

use oci_spec::runtime::{LinuxCapabilities, LinuxNamespaceType, Process, Spec};
use serde::Serialize;
use serde_json::{Value, json};

use super::{VERSION_MAX, namespace_name};
use crate::error::Result;

/// For whom a configuration is written.
struct Caller {
    uid: u32,
    gid: u32,
    /// Whether all controllers are in one cgroup v2 hierarchy.
    unified: bool,
}

/// The configuration of a shell in `rootfs`; with `rootless`, one that the calling user may start without privileges.
///
/// # Errors
/// None in practice: the document is a constant.
pub fn spec(rootless: bool) -> Result<Spec> {
    let unified = nix::sys::statfs::statfs("/sys/fs/cgroup")
        .is_ok_and(|fs| fs.filesystem_type() == nix::sys::statfs::CGROUP2_SUPER_MAGIC);
    let caller = Caller { uid: nix::unistd::geteuid().as_raw(), gid: nix::unistd::getegid().as_raw(), unified };
    let document = if rootless { for_user(&caller) } else { for_root(&caller) };
    Ok(serde_json::from_value(document)?)
}

/// The text of the file: indented with tabs, members in the order in which people read them.
///
/// # Errors
/// The configuration cannot be serialised.
pub fn text(spec: &Spec) -> Result<String> {
    let mut text = Vec::new();
    let tabs = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    Document::of(spec).serialize(&mut serde_json::Serializer::with_formatter(&mut text, tabs))?;
    Ok(String::from_utf8(text)?)
}

fn for_root(caller: &Caller) -> Value {
    let mut document = common(caller);
    document["mounts"] = mounts(SYSFS, &["gid=5"]);
    document["linux"]["resources"] = json!({ "devices": [{ "allow": false, "access": "rwm" }] });
    document
}

/// No user may limit a cgroup, make a network namespace that is of use, mount a new sysfs in the host's
/// network namespace, or chown to a group that is not mapped.
fn for_user(caller: &Caller) -> Value {
    let mut document = common(caller);
    document["mounts"] = mounts(SYSFS_OF_THE_HOST, &[]);
    let linux = &mut document["linux"];
    linux["uidMappings"] = json!([{ "containerID": 0, "hostID": caller.uid, "size": 1 }]);
    linux["gidMappings"] = json!([{ "containerID": 0, "hostID": caller.gid, "size": 1 }]);
    if let Some(namespaces) = linux["namespaces"].as_array_mut() {
        namespaces.retain(|namespace| namespace["type"] != namespace_name(LinuxNamespaceType::Network));
        namespaces.push(json!({ "type": namespace_name(LinuxNamespaceType::User) }));
    }
    document
}

fn common(caller: &Caller) -> Value {
    use LinuxNamespaceType::{Cgroup, Ipc, Mount, Network, Pid, Uts};
    let capabilities = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];
    let mut namespaces = vec![Pid, Network, Ipc, Uts, Mount];
    namespaces.extend(caller.unified.then_some(Cgroup));
    let namespaces: Vec<Value> = namespaces.into_iter().map(|kind| json!({ "type": namespace_name(kind) })).collect();
    json!({
        "ociVersion": VERSION_MAX,
        "process": {
            "terminal": true,
            "user": { "uid": 0, "gid": 0 },
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": { "bounding": capabilities, "effective": capabilities, "permitted": capabilities },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024 }],
            "noNewPrivileges": true,
        },
        "root": { "path": "rootfs", "readonly": true },
        "hostname": "orlop",
        "linux": {
            "namespaces": namespaces,
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
                "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi",
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}

/// Type, source and options of the mount at /sys.
type Sys = (&'static str, &'static str, &'static [&'static str]);

const SYSFS: Sys = ("sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]);
const SYSFS_OF_THE_HOST: Sys = ("none", "/sys", &["rbind", "nosuid", "noexec", "nodev", "ro"]);

fn mounts(sys: Sys, devpts: &[&str]) -> Value {
    let (sys_type, sys_source, sys_options) = sys;
    let devpts = [&["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"], devpts].concat();
    let mount = |destination: &str, kind: &str, source: &str, options: &[&str]| json!({ "destination": destination, "type": kind, "source": source, "options": options });
    json!([
        { "destination": "/proc", "type": "proc", "source": "proc" },
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount("/dev/pts", "devpts", "devpts", &devpts),
        mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/sys", sys_type, sys_source, sys_options),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
    ])
}

/// The members that the default configuration has, in the order of the specification's own examples.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    oci_version: &'a str,
    process: Option<DocumentProcess<'a>>,
    root: &'a Option<oci_spec::runtime::Root>,
    hostname: &'a Option<String>,
    mounts: &'a Option<Vec<oci_spec::runtime::Mount>>,
    linux: &'a Option<oci_spec::runtime::Linux>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DocumentProcess<'a> {
    terminal: Option<bool>,
    user: &'a oci_spec::runtime::User,
    args: &'a Option<Vec<String>>,
    env: &'a Option<Vec<String>>,
    cwd: &'a std::path::Path,
    capabilities: Value,
    rlimits: &'a Option<Vec<oci_spec::runtime::PosixRlimit>>,
    no_new_privileges: Option<bool>,
}

impl<'a> Document<'a> {
    fn of(spec: &'a Spec) -> Document<'a> {
        Document {
            oci_version: spec.version(),
            process: spec.process().as_ref().map(DocumentProcess::of),
            root: spec.root(),
            hostname: spec.hostname(),
            mounts: spec.mounts(),
            linux: spec.linux(),
        }
    }
}

impl<'a> DocumentProcess<'a> {
    fn of(process: &'a Process) -> DocumentProcess<'a> {
        DocumentProcess {
            terminal: process.terminal(),
            user: process.user(),
            args: process.args(),
            env: process.env(),
            cwd: process.cwd(),
            capabilities: process.capabilities().as_ref().map(sorted).unwrap_or_default(),
            rlimits: process.rlimits(),
            no_new_privileges: process.no_new_privileges(),
        }
    }
}

/// oci-spec keeps the sets in hash tables, which print in another order each time.
fn sorted(capabilities: &LinuxCapabilities) -> Value {
    let mut sets = json!(capabilities);
    for set in sets.as_object_mut().into_iter().flat_map(|sets| sets.values_mut()).filter_map(Value::as_array_mut) {
        set.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
    }
    sets
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Config;

    const ALICE: Caller = Caller { uid: 1000, gid: 1001, unified: true };

    fn typed(document: Value) -> Spec {
        serde_json::from_value(document).unwrap()
    }

    #[test]
    fn both_forms_pass_the_checks() {
        for document in [for_root(&ALICE), for_user(&ALICE)] {
            let config = Config::read(text(&typed(document)).unwrap().into_bytes()).unwrap();
            assert_eq!(config.warnings, [""; 0]);
            assert_eq!(config.capabilities.map(|sets| sets.bounding), Some(1 << 29 | 1 << 5 | 1 << 10));
        }
    }

    #[test]
    fn a_users_form_maps_the_user_and_has_nothing_that_needs_root() {
        let spec = typed(for_user(&ALICE));
        let linux = spec.linux().as_ref().unwrap();
        assert!(linux.resources().is_none());
        let mapping = linux.gid_mappings().as_ref().unwrap()[0];
        assert_eq!((mapping.container_id(), mapping.host_id(), mapping.size()), (0, 1001, 1));
        let kinds: Vec<_> = linux.namespaces().iter().flatten().map(|namespace| namespace.typ()).collect();
        assert!(kinds.contains(&LinuxNamespaceType::User) && !kinds.contains(&LinuxNamespaceType::Network));
        let options = spec.mounts().iter().flatten().filter_map(|mount| mount.options().as_ref()).flatten();
        assert!(options.into_iter().all(|option| !option.starts_with("gid=")));
    }

    #[test]
    fn the_text_is_the_same_each_time_and_indented_with_tabs() {
        let spec = typed(for_root(&ALICE));
        let text = text(&spec).unwrap();
        assert!(text.starts_with("{\n\t\"ociVersion\": \"1.3.0\",\n\t\"process\": {\n\t\t\"terminal\": true,"));
        assert_eq!(text, super::text(&typed(for_root(&ALICE))).unwrap());
        assert_eq!(typed(serde_json::from_str(&text).unwrap()), spec);
    }
}
