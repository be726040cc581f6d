//! The Linux section, without its resources: config-linux.md (runtime-spec v1.3.0).

use std::collections::HashMap;

use oci_spec::runtime::{
    Linux, LinuxDevice, LinuxDeviceType, LinuxIntelRdt, LinuxMemoryPolicy, LinuxNamespace, LinuxNamespaceType,
    LinuxNetDevice, LinuxPersonality, LinuxTimeOffset, MemoryPolicyFlagType, MemoryPolicyModeType, Spec,
};

use super::at::At;
use super::check::check_mappings;
use super::list::IdSet;
use crate::error::Result;

/// The kinds of namespaces by name, in alphabetical order.
pub const NAMESPACES: [(&str, LinuxNamespaceType); 8] = [
    ("cgroup", LinuxNamespaceType::Cgroup),
    ("ipc", LinuxNamespaceType::Ipc),
    ("mount", LinuxNamespaceType::Mount),
    ("network", LinuxNamespaceType::Network),
    ("pid", LinuxNamespaceType::Pid),
    ("time", LinuxNamespaceType::Time),
    ("user", LinuxNamespaceType::User),
    ("uts", LinuxNamespaceType::Uts),
];

/// Modes of set_mempolicy(2) by name, with their numbers.
pub const MEMORY_POLICY_MODES: [(&str, i32); 7] = [
    ("MPOL_BIND", libc::MPOL_BIND),
    ("MPOL_DEFAULT", libc::MPOL_DEFAULT),
    ("MPOL_INTERLEAVE", libc::MPOL_INTERLEAVE),
    ("MPOL_LOCAL", libc::MPOL_LOCAL),
    ("MPOL_PREFERRED", libc::MPOL_PREFERRED),
    ("MPOL_PREFERRED_MANY", 5),
    ("MPOL_WEIGHTED_INTERLEAVE", 6),
];

/// Flags of set_mempolicy(2) by name, with their bits.
pub const MEMORY_POLICY_FLAGS: [(&str, i32); 3] = [
    ("MPOL_F_NUMA_BALANCING", 1 << 13),
    ("MPOL_F_RELATIVE_NODES", libc::MPOL_F_RELATIVE_NODES),
    ("MPOL_F_STATIC_NODES", libc::MPOL_F_STATIC_NODES),
];

/// Flags of personality(2) by name. The specification leaves the field to runtimes and names none.
const PERSONALITY_FLAGS: [(&str, libc::c_int); 11] = [
    ("ADDR_COMPAT_LAYOUT", libc::ADDR_COMPAT_LAYOUT),
    ("ADDR_LIMIT_32BIT", libc::ADDR_LIMIT_32BIT),
    ("ADDR_LIMIT_3GB", libc::ADDR_LIMIT_3GB),
    ("ADDR_NO_RANDOMIZE", libc::ADDR_NO_RANDOMIZE),
    ("FDPIC_FUNCPTRS", 0x0008_0000),
    ("MMAP_PAGE_ZERO", libc::MMAP_PAGE_ZERO),
    ("READ_IMPLIES_EXEC", libc::READ_IMPLIES_EXEC),
    ("SHORT_INODE", libc::SHORT_INODE),
    ("STICKY_TIMEOUTS", libc::STICKY_TIMEOUTS),
    ("UNAME26", 0x0002_0000),
    ("WHOLE_SECONDS", libc::WHOLE_SECONDS),
];

/// The name of a kind of namespace as the specification spells it; `Display` of oci-spec prints `mnt` and `net`.
pub fn namespace_name(kind: LinuxNamespaceType) -> &'static str {
    NAMESPACES.iter().find(|(_, known)| *known == kind).map_or("", |&(name, _)| name)
}

/// The number of a mode for set_mempolicy(2).
pub fn memory_policy_mode(mode: MemoryPolicyModeType) -> i32 {
    number(&MEMORY_POLICY_MODES, &mode.to_string()).unwrap_or_default()
}

/// The bit of a flag for set_mempolicy(2).
pub fn memory_policy_flag(flag: MemoryPolicyFlagType) -> i32 {
    number(&MEMORY_POLICY_FLAGS, &flag.to_string()).unwrap_or_default()
}

/// The bit of a flag for personality(2).
pub fn personality_flag(name: &str) -> Option<libc::c_int> {
    number(&PERSONALITY_FLAGS, name)
}

fn number(table: &[(&str, i32)], name: &str) -> Option<i32> {
    table.iter().find(|(known, _)| *known == name).map(|&(_, number)| number)
}

/// The namespace of a kind that a configuration asks for, new or joined.
pub(super) fn find(spec: &Spec, kind: LinuxNamespaceType) -> Option<&LinuxNamespace> {
    let namespaces = spec.linux().as_ref()?.namespaces().as_deref()?;
    namespaces.iter().find(|namespace| namespace.typ() == kind)
}

/// Checks the section.
pub(super) fn check(spec: &Spec, warnings: &mut Vec<String>) -> Result<()> {
    let at = At::Root.key("linux");
    let Some(linux) = spec.linux() else { return Ok(()) };
    check_namespaces(linux, &at)?;
    check_user_namespace(spec, linux, &at)?;
    if let Some(offsets) = linux.time_offsets().as_ref().filter(|offsets| !offsets.is_empty()) {
        check_time_offsets(spec, offsets, &at.key("timeOffsets"))?;
    }
    for (i, device) in linux.devices().iter().flatten().enumerate() {
        check_device(device, &at.key("devices").index(i))?;
    }
    for (field, paths) in [("maskedPaths", linux.masked_paths()), ("readonlyPaths", linux.readonly_paths())] {
        check_paths(spec, paths.as_deref().unwrap_or_default(), &at.key(field))?;
    }
    if let Some(mode) = linux.rootfs_propagation() {
        let plain = mode.strip_prefix('r').unwrap_or(mode);
        if !matches!(plain, "shared" | "slave" | "private" | "unbindable") {
            let at = at.key("rootfsPropagation");
            return Err(at.fault(format_args!("rootfsPropagation={mode} is not supported")));
        }
    }
    if let Some(devices) = linux.net_devices().as_ref().filter(|devices| !devices.is_empty()) {
        check_net_devices(spec, devices, &at.key("netDevices"))?;
    }
    if let Some(rdt) = linux.intel_rdt() {
        check_intel_rdt(rdt, &at.key("intelRdt"), warnings)?;
    }
    if let Some(policy) = linux.memory_policy() {
        check_memory_policy(policy, &at.key("memoryPolicy"))?;
    }
    if let Some(personality) = linux.personality() {
        check_personality(personality, &at.key("personality"))?;
    }
    Ok(())
}

fn check_namespaces(linux: &Linux, at: &At<'_>) -> Result<()> {
    let at = at.key("namespaces");
    let namespaces = linux.namespaces().as_deref().unwrap_or_default();
    for (i, namespace) in namespaces.iter().enumerate() {
        let at = at.index(i);
        let name = namespace_name(namespace.typ());
        if namespaces[..i].iter().any(|earlier| earlier.typ() == namespace.typ()) {
            return Err(at.key("type").fault(format_args!("malformed spec file: duplicated ns {name:?}")));
        }
        if let Some(path) = namespace.path().as_deref().filter(|path| path.is_relative()) {
            return Err(at.key("path").fault(format_args!("{path:?} is not an absolute path")));
        }
    }
    Ok(())
}

/// Mappings and user namespaces need each other. A joined namespace has mappings of its own, but containerd
/// and CRI-O repeat them, so they are let through; whether they match is seen when the namespace is opened.
fn check_user_namespace(spec: &Spec, linux: &Linux, at: &At<'_>) -> Result<()> {
    let lists = [("uidMappings", linux.uid_mappings()), ("gidMappings", linux.gid_mappings())];
    for (field, list) in lists {
        let at = at.key(field);
        let list = list.as_deref().unwrap_or_default();
        check_mappings(list, &at)?;
        match find(spec, LinuxNamespaceType::User) {
            None if !list.is_empty() => {
                return Err(
                    at.fault("user namespace mappings specified, but user namespace isn't enabled in the config")
                );
            }
            Some(new) if new.path().is_none() && list.is_empty() => {
                return Err(at.fault("required: user namespaces enabled, but no mappings found"));
            }
            _ => {}
        }
    }
    Ok(())
}

fn check_time_offsets(spec: &Spec, offsets: &HashMap<String, LinuxTimeOffset>, at: &At<'_>) -> Result<()> {
    match find(spec, LinuxNamespaceType::Time) {
        None => {
            let why = "time namespace offsets specified, but time namespace isn't enabled in the config";
            return Err(at.fault(why));
        }
        Some(joined) if joined.path().is_some() => {
            return Err(at.fault("the joined time namespace has its own offsets, which cannot be changed"));
        }
        Some(_) => {}
    }
    for (clock, offset) in offsets {
        let at = at.key(clock);
        if !matches!(clock.as_str(), "monotonic" | "boottime") {
            return Err(at.fault("unknown clock: monotonic and boottime have offsets"));
        }
        if let Some(nanosecs) = offset.nanosecs().filter(|&nanosecs| nanosecs >= 1_000_000_000) {
            return Err(at.key("nanosecs").fault(format_args!("{nanosecs} is a second or more")));
        }
    }
    Ok(())
}

fn check_device(device: &LinuxDevice, at: &At<'_>) -> Result<()> {
    if device.path().is_relative() {
        return Err(at.key("path").fault(format_args!("{:?} is not an absolute path", device.path())));
    }
    if device.typ() == LinuxDeviceType::A {
        return Err(at.key("type").fault("invalid device type \"a\": b, c, u and p can be made"));
    }
    if device.typ() != LinuxDeviceType::P {
        // The kernel's dev_t has 12 and 20 bits for them.
        for (field, number, max) in [("major", device.major(), 0xfff), ("minor", device.minor(), 0xf_ffff)] {
            if !(0..=max).contains(&number) {
                return Err(at.key(field).fault(format_args!("{number} is not in 0 to {max}")));
            }
        }
    }
    for (field, id) in [("uid", device.uid()), ("gid", device.gid())] {
        // (uid_t) -1 means "leave as it is" to chown(2).
        if id == Some(u32::MAX) {
            return Err(at.key(field).fault(format_args!("{} is not an id", u32::MAX)));
        }
    }
    Ok(())
}

fn check_paths(spec: &Spec, paths: &[String], at: &At<'_>) -> Result<()> {
    if !paths.is_empty() && find(spec, LinuxNamespaceType::Mount).is_none() {
        return Err(at.fault("unable to restrict sys entries without a private MNT namespace"));
    }
    match paths.iter().position(String::is_empty) {
        Some(i) => Err(at.index(i).fault("is empty")),
        None => Ok(()),
    }
}

fn check_net_devices(spec: &Spec, devices: &HashMap<String, LinuxNetDevice>, at: &At<'_>) -> Result<()> {
    if find(spec, LinuxNamespaceType::Network).is_none() {
        return Err(at.fault("unable to move network devices without a NET namespace"));
    }
    let mut sorted: Vec<_> = devices.iter().collect();
    sorted.sort_by_key(|(name, _)| name.as_str());
    let mut inside: Vec<&str> = Vec::with_capacity(sorted.len());
    for (name, device) in sorted {
        let at = at.key(name);
        if !is_interface_name(name) {
            return Err(at.fault(format_args!("invalid network device name {name:?}")));
        }
        let wanted = device.name().as_deref().unwrap_or(name);
        if !is_interface_name(wanted) {
            return Err(at.key("name").fault(format_args!("invalid network device name {wanted:?}")));
        }
        // A name with %d in it is a template that the kernel fills in.
        if !wanted.contains("%d") && inside.contains(&wanted) {
            return Err(at.key("name").fault(format_args!("two network devices are to be {wanted:?}")));
        }
        inside.push(wanted);
    }
    Ok(())
}

/// The kernel's dev_valid_name(): at most 15 bytes, no `/`, `:` or white space, not `.` or `..`.
fn is_interface_name(name: &str) -> bool {
    let forbidden = |b: u8| matches!(b, b'/' | b':' | 0x0b) || b.is_ascii_whitespace();
    !matches!(name, "" | "." | "..") && name.len() < libc::IFNAMSIZ && !name.bytes().any(forbidden)
}

fn check_intel_rdt(rdt: &LinuxIntelRdt, at: &At<'_>, warnings: &mut Vec<String>) -> Result<()> {
    if let Some(id) = rdt.clos_id()
        && (matches!(id.as_str(), "." | "..") || id.len() > 1 && id.contains('/'))
    {
        return Err(at.key("closID").fault(format_args!("invalid intelRdt.ClosID {id:?}")));
    }
    if let Some(schema) = rdt.mem_bw_schema().as_deref().filter(|schema| !schema.starts_with("MB:")) {
        return Err(at.key("memBwSchema").fault(format_args!("{schema:?} does not start with \"MB:\"")));
    }
    if let Some(schema) = rdt.l3_cache_schema().as_deref().filter(|schema| !schema.starts_with("L3:")) {
        warnings.push(format!("{}: {schema:?} does not start with \"L3:\"", at.key("l3CacheSchema")));
    }
    // A newline would begin another line in the schemata file: a second setting.
    for (field, schema) in [("l3CacheSchema", rdt.l3_cache_schema()), ("memBwSchema", rdt.mem_bw_schema())] {
        if schema.as_ref().is_some_and(|schema| schema.contains('\n')) {
            return Err(at.key(field).fault("contains a newline"));
        }
    }
    match rdt.schemata().iter().flatten().position(|line| line.contains('\n')) {
        Some(i) => Err(at.key("schemata").index(i).fault("contains a newline")),
        None => Ok(()),
    }
}

fn check_memory_policy(policy: &LinuxMemoryPolicy, at: &At<'_>) -> Result<()> {
    use MemoryPolicyModeType::{MpolDefault, MpolLocal, MpolPreferred};
    let parse = |nodes: &String| {
        IdSet::parse(nodes).map_err(|why| at.key("nodes").fault(format_args!("invalid memory policy nodes: {why}")))
    };
    let nodes = policy.nodes().as_ref().map(parse).transpose()?;
    match (policy.mode(), nodes) {
        (MpolDefault | MpolLocal, Some(nodes)) => {
            let (mode, count) = (policy.mode(), nodes.count());
            return Err(at.key("nodes").fault(format_args!("{mode}: mode requires 0 nodes but got {count}")));
        }
        (MpolDefault | MpolLocal | MpolPreferred, _) | (_, Some(_)) => {}
        (mode, None) => return Err(at.key("nodes").fault(format_args!("required: {mode} needs at least one node"))),
    }
    let flags = policy.flags().as_deref().unwrap_or_default();
    let exclusive = [MemoryPolicyFlagType::MpolFStaticNodes, MemoryPolicyFlagType::MpolFRelativeNodes];
    if exclusive.iter().all(|flag| flags.contains(flag)) {
        return Err(at.key("flags").fault("MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES exclude each other"));
    }
    Ok(())
}

fn check_personality(personality: &LinuxPersonality, at: &At<'_>) -> Result<()> {
    let flags = personality.flags().as_deref().unwrap_or_default();
    match flags.iter().position(|flag| personality_flag(flag).is_none()) {
        Some(i) => Err(at.key("flags").index(i).fault(format_args!("unknown personality flag {:?}", flags[i]))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_know_every_value_of_the_types() {
        for (name, kind) in NAMESPACES {
            assert_eq!(LinuxNamespaceType::try_from(name).unwrap(), kind);
            assert_eq!(namespace_name(kind), name);
        }
        for (name, number) in MEMORY_POLICY_MODES {
            assert_eq!(memory_policy_mode(name.parse().unwrap()), number);
        }
        for (name, bit) in MEMORY_POLICY_FLAGS {
            assert_eq!(memory_policy_flag(name.parse().unwrap()), bit);
        }
        assert_eq!(personality_flag("ADDR_NO_RANDOMIZE"), Some(0x0004_0000));
    }

    #[test]
    fn interface_names_are_those_of_the_kernel() {
        for name in ["eth0", "container_eth0", "a-b.100", "eth%d", "fifteen-letters"] {
            assert!(is_interface_name(name), "{name:?}");
        }
        for name in ["", ".", "..", "a/b", "a:b", "a b", "a\tb", "sixteen--letters"] {
            assert!(!is_interface_name(name), "{name:?}");
        }
    }
}
