//! What this runtime can do: features.md and features-linux.md (runtime-spec v1.3.0).
//!
//! The lists are those that the reader and the planner use; what other layers know is passed in,
//! so that no list stands twice.

use serde_json::{Value, json};

use super::{HOOKS, MEMORY_POLICY_FLAGS, MEMORY_POLICY_MODES, NAMESPACES, VERSION_MAX, VERSION_MIN, capability_names};

/// What the other layers know about themselves.
#[derive(Debug, Clone, Copy, Default)]
pub struct Facts<'a> {
    /// Mount options with a meaning of their own; all else goes to the filesystem.
    pub mount_options: &'a [&'a str],
    /// What the control groups can do.
    pub cgroup: Cgroup,
    /// What the seccomp compiler knows, where there is one.
    pub seccomp: Option<Seccomp<'a>>,
    /// Whether `process.apparmorProfile` is applied.
    pub apparmor: bool,
    /// Whether `process.selinuxLabel` is applied.
    pub selinux: bool,
    /// Whether `linux.intelRdt` is applied, with schemata and monitoring.
    pub intel_rdt: bool,
    /// Whether mounts can be id-mapped.
    pub idmap: bool,
    /// Whether `linux.netDevices` are moved.
    pub net_devices: bool,
    /// Annotations of config.json that change what happens on the host; a name ending with a dot is a prefix.
    pub unsafe_annotations: &'a [&'a str],
    /// Annotations of the runtime itself, such as `org.opencontainers.runc.checkpoint.enabled`.
    pub annotations: &'a [(&'a str, &'a str)],
}

/// Kinds of control groups.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cgroup {
    /// Hierarchies of version 1.
    pub v1: bool,
    /// The hierarchy of version 2.
    pub v2: bool,
    /// Scopes made by systemd.
    pub systemd: bool,
    /// Scopes made by a user's systemd.
    pub systemd_user: bool,
    /// The rdma controller.
    pub rdma: bool,
}

/// The tables of the seccomp compiler.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seccomp<'a> {
    /// SCMP_ACT_*.
    pub actions: &'a [&'a str],
    /// SCMP_CMP_*.
    pub operators: &'a [&'a str],
    /// SCMP_ARCH_*.
    pub archs: &'a [&'a str],
    /// SECCOMP_FILTER_FLAG_* that are recognised.
    pub known_flags: &'a [&'a str],
    /// Those that are also applied.
    pub supported_flags: &'a [&'a str],
}

/// The features document.
pub fn features(facts: &Facts<'_>) -> Value {
    let Cgroup { v1, v2, systemd, systemd_user, rdma } = facts.cgroup;
    let mut document = json!({
        "ociVersionMin": VERSION_MIN,
        "ociVersionMax": VERSION_MAX,
        "hooks": HOOKS,
        "mountOptions": sorted(facts.mount_options),
        "linux": {
            "namespaces": NAMESPACES.map(|(name, _)| name),
            "capabilities": capability_names(),
            "cgroup": { "v1": v1, "v2": v2, "systemd": systemd, "systemdUser": systemd_user, "rdma": rdma },
            "seccomp": { "enabled": facts.seccomp.is_some() },
            "apparmor": { "enabled": facts.apparmor },
            "selinux": { "enabled": facts.selinux },
            "intelRdt": { "enabled": facts.intel_rdt, "schemata": facts.intel_rdt, "monitoring": facts.intel_rdt },
            "memoryPolicy": {
                "modes": MEMORY_POLICY_MODES.map(|(name, _)| name),
                "flags": MEMORY_POLICY_FLAGS.map(|(name, _)| name),
            },
            "mountExtensions": { "idmap": { "enabled": facts.idmap } },
            "netDevices": { "enabled": facts.net_devices },
        },
        "annotations": facts.annotations.iter().map(|&(k, v)| (k.to_owned(), Value::from(v))).collect::<Value>(),
        "potentiallyUnsafeConfigAnnotations": facts.unsafe_annotations,
    });
    if let Some(seccomp) = &facts.seccomp {
        document["linux"]["seccomp"] = json!({
            "enabled": true,
            "actions": sorted(seccomp.actions),
            "operators": sorted(seccomp.operators),
            "archs": sorted(seccomp.archs),
            "knownFlags": sorted(seccomp.known_flags),
            "supportedFlags": sorted(seccomp.supported_flags),
        });
    }
    document
}

fn sorted<'a>(names: &[&'a str]) -> Vec<&'a str> {
    let mut names = names.to_vec();
    names.sort_unstable();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_one_that_the_specification_describes() {
        let document = features(&Facts {
            mount_options: &["rw", "bind", "ro"],
            cgroup: Cgroup { v1: true, v2: true, ..Cgroup::default() },
            seccomp: Some(Seccomp { actions: &["SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW"], ..Seccomp::default() }),
            annotations: &[("org.opencontainers.runc.checkpoint.enabled", "true")],
            unsafe_annotations: &["org.systemd.property."],
            ..Facts::default()
        });
        let typed: oci_spec::runtime::Features = serde_json::from_value(document.clone()).unwrap();
        assert_eq!((typed.oci_version_min().as_str(), typed.oci_version_max().as_str()), ("1.0.0", "1.3.0"));
        assert_eq!(document["mountOptions"], json!(["bind", "ro", "rw"]));
        assert_eq!(document["linux"]["namespaces"].as_array().map(Vec::len), Some(8));
        assert_eq!(document["linux"]["capabilities"][0], "CAP_CHOWN");
        assert_eq!(document["linux"]["cgroup"]["systemd"], false);
        assert_eq!(document["linux"]["seccomp"]["actions"], json!(["SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"]));
        assert_eq!(document["hooks"][0], "prestart");
    }

    #[test]
    fn without_a_compiler_seccomp_is_not_enabled() {
        assert_eq!(features(&Facts::default())["linux"]["seccomp"], json!({ "enabled": false }));
    }
}
