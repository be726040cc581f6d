//! `linux.resources` in the words of cgroup v1: config-linux.md#control-groups (runtime-spec v1.3.0).
//!
//! Pairs of files constrain each other here (memory and memory+swap, period and quota): the first of a
//! pair is tried again after the second, so that both raising and lowering find an order that works.

use anyhow::bail;
use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources};

use super::limits_v2::{Limits, cpuset, device, page_limit, page_size, pids_max, rdma, swappiness, throttles, weight};
use super::setting::{Or, Setting};
use crate::error::Result;

/// Translates the resources; `update` when the container runs already.
///
/// # Errors
/// Values that cannot be: the message names the place in the config.
pub(super) fn translate(resources: &LinuxResources, pids: Option<i64>, update: bool) -> Result<Limits> {
    if resources.unified().as_ref().is_some_and(|unified| !unified.is_empty()) {
        bail!("linux.resources.unified: invalid configuration: cannot use unified on cgroup v1");
    }
    let mut limits = Limits::default();
    if let Some(pids) = pids {
        limits.set(Setting::new("pids.limit", "pids", "pids.max", pids_max(pids)));
    }
    if let Some(memory) = resources.memory() {
        self::memory(memory, update, &mut limits)?;
    }
    if let Some(cpu) = resources.cpu() {
        self::cpu(cpu, &mut limits)?;
    }
    if let Some(io) = resources.block_io() {
        self::io(io, &mut limits)?;
    }
    for (index, limit) in resources.hugepage_limits().iter().flatten().enumerate() {
        let json = format!("hugepageLimits[{index}]");
        let (size, bytes) = (page_size(limit.page_size(), &json)?, page_limit(limit.limit(), &json)?);
        let json = format!("{json}.limit");
        limits.set(Setting::new(&json, "hugetlb", format!("hugetlb.{size}.limit_in_bytes"), bytes));
        let reserved = format!("hugetlb.{size}.rsvd.limit_in_bytes");
        // Reservations are accounted since Linux 5.7.
        limits.set(Setting::new(&json, "hugetlb", reserved, bytes).or(Or::SkipMissing));
    }
    if let Some(network) = resources.network() {
        limits.nonzero("network.classID", "net_cls", "net_cls.classid", network.class_id());
        for (index, each) in network.priorities().iter().flatten().enumerate() {
            let json = format!("network.priorities[{index}]");
            if each.name().is_empty() || each.name().contains(char::is_whitespace) {
                bail!("linux.resources.{json}.name: {:?} is no interface name", each.name());
            }
            let value = format!("{} {}", each.name(), each.priority());
            limits.set(Setting::new(json, "net_prio", "net_prio.ifpriomap", value));
        }
    }
    rdma(resources, &mut limits)?;
    Ok(limits)
}

fn memory(memory: &LinuxMemory, update: bool, limits: &mut Limits) -> Result<()> {
    let limit = memory.limit().filter(|limit| *limit != 0);
    let total = memory.swap().filter(|swap| *swap != 0);
    for (name, value) in [("limit", limit), ("swap", total), ("reservation", memory.reservation())] {
        if let Some(value) = value.filter(|value| *value < -1) {
            bail!("linux.resources.memory.{name}: invalid memory value: {value}");
        }
    }
    if let (Some(limit), Some(total)) = (limit, total)
        && total != -1
        && (limit == -1 || total < limit)
    {
        bail!("linux.resources.memory.swap: memory+swap limit should be >= memory limit");
    }
    if memory.kernel().is_some() || memory.kernel_tcp().is_some() {
        limits.warnings.push("Kernel memory settings are ignored and will be removed".into());
    }
    // Before Linux 5.11 a cgroup could be told not to count its children.
    if memory.use_hierarchy() == Some(true) && !update {
        limits.set(Setting::new("memory.useHierarchy", "memory", "memory.use_hierarchy", 1).or(Or::SkipMissing));
    }
    if let Some(limit) = limit {
        limits.set(Setting::new("memory.limit", "memory", "memory.limit_in_bytes", limit).or(Or::Later));
    }
    let swap = "memory.memsw.limit_in_bytes";
    match (limit, total) {
        // Unlimited memory alone lifts the limit of both; without swap accounting there is none.
        (Some(-1), None) => limits.set(Setting::new("memory.limit", "memory", swap, -1).or(Or::SkipMissing)),
        (_, Some(total)) => limits.set(Setting::new("memory.swap", "memory", swap, total)),
        _ => {}
    }
    limits.nonzero("memory.reservation", "memory", "memory.soft_limit_in_bytes", memory.reservation());
    match memory.disable_oom_killer() {
        Some(true) => limits.set(Setting::new("memory.disableOOMKiller", "memory", "memory.oom_control", 1)),
        Some(false) if update => {
            limits.set(Setting::new("memory.disableOOMKiller", "memory", "memory.oom_control", 0));
        }
        _ => {}
    }
    if let Some(value) = swappiness(memory)? {
        limits.set(Setting::new("memory.swappiness", "memory", "memory.swappiness", value));
    }
    Ok(())
}

fn cpu(cpu: &LinuxCpu, limits: &mut Limits) -> Result<()> {
    // The kernel would silently take the nearest value of its range.
    match cpu.shares() {
        Some(1) => bail!("linux.resources.cpu.shares: the minimum allowed cpu-shares is 2"),
        Some(262_145..) => bail!("linux.resources.cpu.shares: the maximum allowed cpu-shares is 262144"),
        shares => limits.nonzero("cpu.shares", "cpu", "cpu.shares", shares),
    }
    if let Some(period) = cpu.period().filter(|period| *period != 0) {
        limits.set(Setting::new("cpu.period", "cpu", "cpu.cfs_period_us", period).or(Or::Later));
    }
    // Linux 5.14 has bursts; 0 asks for what older kernels do anyway.
    if let Some(burst) = cpu.burst() {
        let or = if burst == 0 { Or::SkipMissing } else { Or::Later };
        limits.set(Setting::new("cpu.burst", "cpu", "cpu.cfs_burst_us", burst).or(or));
    }
    limits.nonzero("cpu.quota", "cpu", "cpu.cfs_quota_us", cpu.quota());
    if let Some(idle) = cpu.idle() {
        limits.set(Setting::new("cpu.idle", "cpu", "cpu.idle", idle));
    }
    if let Some(period) = cpu.realtime_period().filter(|period| *period != 0) {
        limits.set(Setting::new("cpu.realtimePeriod", "cpu", "cpu.rt_period_us", period).or(Or::Later));
    }
    limits.nonzero("cpu.realtimeRuntime", "cpu", "cpu.rt_runtime_us", cpu.realtime_runtime());
    cpuset(cpu, limits);
    Ok(())
}

fn io(io: &LinuxBlockIo, limits: &mut Limits) -> Result<()> {
    // blkio.weight went with the CFQ scheduler (Linux 5.0); BFQ has its own file.
    if let Some(weight) = weight(io.weight(), "blockIO.weight")? {
        let or = Or::Instead { file: "blkio.bfq.weight", value: weight.to_string() };
        limits.set(Setting::new("blockIO.weight", "blkio", "blkio.weight", weight).or(or));
    }
    if let Some(weight) = weight(io.leaf_weight(), "blockIO.leafWeight")? {
        limits.set(Setting::new("blockIO.leafWeight", "blkio", "blkio.leaf_weight", weight));
    }
    for (index, each) in io.weight_device().iter().flatten().enumerate() {
        let json = format!("blockIO.weightDevice[{index}]");
        let device = device(each.major(), each.minor(), &json)?;
        if let Some(weight) = weight(each.weight(), &format!("{json}.weight"))? {
            let value = format!("{device} {weight}");
            let or = Or::Instead { file: "blkio.bfq.weight_device", value: value.clone() };
            limits.set(Setting::new(format!("{json}.weight"), "blkio", "blkio.weight_device", value).or(or));
        }
        if let Some(weight) = weight(each.leaf_weight(), &format!("{json}.leafWeight"))? {
            let value = format!("{device} {weight}");
            limits.set(Setting::new(format!("{json}.leafWeight"), "blkio", "blkio.leaf_weight_device", value));
        }
    }
    let files = ["read_bps_device", "write_bps_device", "read_iops_device", "write_iops_device"];
    for ((name, _, list), file) in throttles(io).into_iter().zip(files) {
        for (index, each) in list.iter().flatten().enumerate() {
            let json = format!("blockIO.{name}[{index}]");
            let device = device(each.major(), each.minor(), &json)?;
            let value = format!("{device} {}", each.rate());
            limits.set(Setting::new(json, "blkio", format!("blkio.throttle.{file}"), value));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(json: &str) -> Vec<String> {
        let limits = translate(&serde_json::from_str(json).unwrap(), None, false).unwrap();
        limits.settings.iter().map(|s| format!("{}={}", s.file, s.value)).collect()
    }

    fn refused(json: &str) -> String {
        translate(&serde_json::from_str(json).unwrap(), None, false).unwrap_err().to_string()
    }

    #[test]
    fn memory_values() {
        assert_eq!(
            written(r#"{"memory":{"limit":100,"swap":200,"reservation":50,"swappiness":10,"disableOOMKiller":true}}"#),
            [
                "memory.limit_in_bytes=100",
                "memory.memsw.limit_in_bytes=200",
                "memory.soft_limit_in_bytes=50",
                "memory.oom_control=1",
                "memory.swappiness=10",
            ]
        );
        assert_eq!(
            written(r#"{"memory":{"limit":-1}}"#),
            ["memory.limit_in_bytes=-1", "memory.memsw.limit_in_bytes=-1"]
        );
        assert_eq!(written(r#"{"memory":{"limit":0,"swap":0,"disableOOMKiller":false}}"#), [""; 0]);
        assert!(refused(r#"{"memory":{"limit":9,"swap":5}}"#).starts_with("linux.resources.memory.swap"));
    }

    #[test]
    fn kernel_memory_is_ignored_with_a_warning() {
        let resources = serde_json::from_str(r#"{"memory":{"kernel":5,"kernelTCP":6}}"#).unwrap();
        let limits = translate(&resources, None, false).unwrap();
        assert!(limits.settings.is_empty());
        assert_eq!(limits.warnings.len(), 1);
    }

    #[test]
    fn cpu_values() {
        assert_eq!(
            written(
                r#"{"cpu":{"shares":512,"quota":5000,"period":10000,"realtimeRuntime":7,"realtimePeriod":9,"cpus":"0","mems":"0"}}"#
            ),
            [
                "cpu.shares=512",
                "cpu.cfs_period_us=10000",
                "cpu.cfs_quota_us=5000",
                "cpu.rt_period_us=9",
                "cpu.rt_runtime_us=7",
                "cpuset.cpus=0",
                "cpuset.mems=0"
            ]
        );
        assert!(refused(r#"{"cpu":{"shares":1}}"#).ends_with("the minimum allowed cpu-shares is 2"));
        assert!(refused(r#"{"cpu":{"shares":262145}}"#).ends_with("the maximum allowed cpu-shares is 262144"));
    }

    #[test]
    fn the_rest() {
        assert_eq!(
            written(
                r#"{"network":{"classID":5,"priorities":[{"name":"lo","priority":3}]},"rdma":{"mlx":{"hcaHandles":2}},"hugepageLimits":[{"pageSize":"1GB","limit":0}]}"#
            ),
            [
                "hugetlb.1GB.limit_in_bytes=0",
                "hugetlb.1GB.rsvd.limit_in_bytes=0",
                "net_cls.classid=5",
                "net_prio.ifpriomap=lo 3",
                "rdma.max=mlx hca_handle=2"
            ]
        );
        assert_eq!(
            written(
                r#"{"blockIO":{"weight":100,"leafWeight":200,"throttleWriteBpsDevice":[{"major":8,"minor":0,"rate":0}]}}"#
            ),
            ["blkio.weight=100", "blkio.leaf_weight=200", "blkio.throttle.write_bps_device=8:0 0"]
        );
        assert!(refused(r#"{"unified":{"memory.high":"1"}}"#).contains("cannot use unified on cgroup v1"));
    }
}
