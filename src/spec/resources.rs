//! Limits: config-linux.md#control-groups (runtime-spec v1.3.0), as far as they can be judged without a cgroup.

use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxDeviceCgroup, LinuxDeviceType, LinuxHugepageLimit, LinuxMemory, LinuxResources, Spec,
};

use super::at::At;
use crate::error::Result;

/// Checks the limits of a configuration.
pub(super) fn check(spec: &Spec) -> Result<()> {
    let at = At::Root.key("linux");
    match spec.linux().as_ref().and_then(|linux| linux.resources().as_ref()) {
        Some(resources) => check_resources(resources, &at.key("resources")),
        None => Ok(()),
    }
}

fn check_resources(resources: &LinuxResources, at: &At<'_>) -> Result<()> {
    for (i, rule) in resources.devices().iter().flatten().enumerate() {
        check_device_rule(rule, &at.key("devices").index(i))?;
    }
    if let Some(memory) = resources.memory() {
        check_memory(memory, &at.key("memory"))?;
    }
    if let Some(cpu) = resources.cpu() {
        check_cpu(cpu, &at.key("cpu"))?;
    }
    if let Some(io) = resources.block_io() {
        check_block_io(io, &at.key("blockIO"))?;
    }
    check_hugepages(resources.hugepage_limits().as_deref().unwrap_or_default(), &at.key("hugepageLimits"))?;
    for (name, limits) in resources.rdma().iter().flatten() {
        if limits.hca_handles().is_none() && limits.hca_objects().is_none() {
            return Err(at.key("rdma").key(name).fault("hcaHandles or hcaObjects is required"));
        }
    }
    for (i, priority) in resources.network().iter().flat_map(|network| network.priorities()).flatten().enumerate() {
        // The pair becomes one line, `name priority`, of net_prio.ifpriomap.
        if priority.name().is_empty() || priority.name().contains(char::is_whitespace) {
            let at = at.key("network");
            let at = at.key("priorities");
            let why = format_args!("invalid interface name {:?}", priority.name());
            return Err(at.index(i).key("name").fault(why));
        }
    }
    for file in resources.unified().iter().flat_map(|unified| unified.keys()) {
        // A slash would leave the container's cgroup.
        if file.contains('/') || !file.contains('.') || file.starts_with('.') {
            let at = at.key("unified");
            return Err(at.key(file).fault(format_args!("{file:?} is not the name of a file of a cgroup")));
        }
    }
    Ok(())
}

fn check_device_rule(rule: &LinuxDeviceCgroup, at: &At<'_>) -> Result<()> {
    if let Some(kind) = rule.typ().filter(|kind| matches!(kind, LinuxDeviceType::U | LinuxDeviceType::P)) {
        return Err(at.key("type").fault(format_args!("invalid cgroup device type {:?}", kind.as_str())));
    }
    for (field, number) in [("major", rule.major()), ("minor", rule.minor())] {
        // -1 is any number, as in runc.
        if let Some(number) = number.filter(|number| !(-1..=i64::from(u32::MAX)).contains(number)) {
            return Err(at.key(field).fault(format_args!("{number} is not a device number")));
        }
    }
    match rule.access().as_deref() {
        // runc takes `a`, the kernel's word for all types, without a meaning.
        Some(access) if !access.bytes().all(|b| b"rwma".contains(&b)) => {
            Err(at.key("access").fault(format_args!("{access:?} is not composed of r, w and m")))
        }
        _ => Ok(()),
    }
}

fn check_memory(memory: &LinuxMemory, at: &At<'_>) -> Result<()> {
    let limits = [
        ("limit", memory.limit()),
        ("reservation", memory.reservation()),
        ("swap", memory.swap()),
        ("kernelTCP", memory.kernel_tcp()),
    ];
    for (field, bytes) in limits {
        if let Some(bytes) = bytes.filter(|&bytes| bytes < -1) {
            return Err(at.key(field).fault(format_args!("{bytes} is neither a number of bytes nor -1 (unlimited)")));
        }
    }
    // `swap` is memory and swap together.
    if let (Some(limit @ 1..), Some(swap @ 1..)) = (memory.limit(), memory.swap())
        && swap < limit
    {
        return Err(at.key("swap").fault(format_args!("memory and swap, {swap}, is below limit, {limit}")));
    }
    match memory.swappiness() {
        Some(value) if value > 100 => Err(at.key("swappiness").fault(format_args!("{value} is not in 0 to 100"))),
        _ => Ok(()),
    }
}

fn check_cpu(cpu: &LinuxCpu, at: &At<'_>) -> Result<()> {
    if let (Some(quota @ 1..), Some(burst)) = (cpu.quota(), cpu.burst())
        && burst > quota.unsigned_abs()
    {
        return Err(at.key("burst").fault(format_args!("{burst} is above quota, {quota}")));
    }
    match cpu.idle() {
        Some(value) if !(0..=1).contains(&value) => {
            Err(at.key("idle").fault(format_args!("{value} is neither 0 nor 1")))
        }
        _ => Ok(()),
    }
}

fn check_block_io(io: &LinuxBlockIo, at: &At<'_>) -> Result<()> {
    for (i, device) in io.weight_device().iter().flatten().enumerate() {
        let at = at.key("weightDevice");
        let at = at.index(i);
        check_device_number(device.major(), device.minor(), &at)?;
        if device.weight().is_none() && device.leaf_weight().is_none() {
            return Err(at.fault("weight or leafWeight is required"));
        }
    }
    for (field, list) in [
        ("throttleReadBpsDevice", io.throttle_read_bps_device()),
        ("throttleWriteBpsDevice", io.throttle_write_bps_device()),
        ("throttleReadIOPSDevice", io.throttle_read_iops_device()),
        ("throttleWriteIOPSDevice", io.throttle_write_iops_device()),
    ] {
        for (i, device) in list.iter().flatten().enumerate() {
            check_device_number(device.major(), device.minor(), &at.key(field).index(i))?;
        }
    }
    Ok(())
}

fn check_device_number(major: i64, minor: i64, at: &At<'_>) -> Result<()> {
    for (field, number) in [("major", major), ("minor", minor)] {
        if !(0..=i64::from(u32::MAX)).contains(&number) {
            return Err(at.key(field).fault(format_args!("{number} is not a device number")));
        }
    }
    Ok(())
}

fn check_hugepages(limits: &[LinuxHugepageLimit], at: &At<'_>) -> Result<()> {
    for (i, limit) in limits.iter().enumerate() {
        let at = at.index(i);
        // The size becomes part of a file name.
        if !is_page_size(limit.page_size()) {
            return Err(at
                .key("pageSize")
                .fault(format_args!("{:?} is not a page size, as 2MB is", limit.page_size())));
        }
    }
    Ok(())
}

fn is_page_size(text: &str) -> bool {
    let number = text.strip_suffix('B').and_then(|text| text.strip_suffix(['K', 'M', 'G']));
    number.is_some_and(|n| !n.is_empty() && !n.starts_with('0') && n.bytes().all(|b| b.is_ascii_digit()))
}
