//! `linux.resources` in the words of cgroup v2: config-linux.md#control-groups (runtime-spec v1.3.0).
//!
//! The spec's numbers are those of v1. Shares and block-IO weights have other ranges on v2, and swap
//! is a limit of its own there, no longer memory and swap together.

use std::collections::BTreeMap;

use anyhow::{anyhow, bail};
use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources, LinuxThrottleDevice};

use super::dir::Dir;
use super::setting::{Or, Setting};
use crate::error::Result;

/// The settings of a config, and what there is to warn of.
#[derive(Debug, Default)]
pub(super) struct Limits {
    pub settings: Vec<Setting>,
    pub warnings: Vec<String>,
}

impl Limits {
    pub fn set(&mut self, setting: Setting) {
        self.settings.push(setting);
    }

    /// A number where 0 means "not asked for", as callers leave it in their structures.
    pub fn nonzero<T: PartialEq + Default + ToString>(
        &mut self,
        json: &str,
        controller: &'static str,
        file: &str,
        value: Option<T>,
    ) {
        if let Some(value) = value.filter(|value| *value != T::default()) {
            self.set(Setting::new(json, controller, file, value));
        }
    }
}

/// Translates the resources. `running` is the cgroup of a container that is being updated, whose other values stay.
///
/// # Errors
/// Values that cannot be: the message names the place in the config.
pub(super) fn translate(resources: &LinuxResources, pids: Option<i64>, running: Option<&Dir>) -> Result<Limits> {
    let mut limits = Limits::default();
    if let Some(pids) = pids {
        limits.set(Setting::new("pids.limit", "pids", "pids.max", pids_max(pids)));
    }
    if let Some(memory) = resources.memory() {
        self::memory(memory, running, &mut limits)?;
    }
    if let Some(io) = resources.block_io() {
        self::io(io, &mut limits)?;
    }
    if let Some(cpu) = resources.cpu() {
        self::cpu(cpu, running, &mut limits)?;
    }
    for (index, limit) in resources.hugepage_limits().iter().flatten().enumerate() {
        let json = format!("hugepageLimits[{index}]");
        let (size, bytes) = (page_size(limit.page_size(), &json)?, page_limit(limit.limit(), &json)?);
        limits.set(Setting::new(format!("{json}.limit"), "hugetlb", format!("hugetlb.{size}.max"), bytes));
        let reserved = format!("hugetlb.{size}.rsvd.max");
        // Reservations are accounted since Linux 5.7.
        limits.set(Setting::new(format!("{json}.limit"), "hugetlb", reserved, bytes).or(Or::SkipMissing));
    }
    if let Some(network) = resources.network()
        && (network.class_id().is_some_and(|id| id != 0)
            || network.priorities().as_ref().is_some_and(|p| !p.is_empty()))
    {
        limits.warnings.push("linux.resources.network: cgroup v2 has neither class ids nor priorities; ignored".into());
    }
    rdma(resources, &mut limits)?;
    unified(resources, &mut limits)?;
    Ok(limits)
}

/// What pids.max gets: 0 cannot be set through systemd, so it means 1 everywhere.
pub(super) fn pids_max(limit: i64) -> String {
    match limit {
        0 => "1".into(),
        limit if limit < 0 => "max".into(),
        limit => limit.to_string(),
    }
}

/// A memory size as v2 writes it: -1 is `max`.
fn bytes(value: i64, json: &str) -> Result<String> {
    match value {
        -1 => Ok("max".into()),
        value if value < 0 => Err(anyhow!("linux.resources.{json}: invalid memory value: {value}")),
        value => Ok(value.to_string()),
    }
}

fn memory(memory: &LinuxMemory, running: Option<&Dir>, limits: &mut Limits) -> Result<()> {
    let limit = memory.limit().filter(|limit| *limit != 0);
    let total = memory.swap().filter(|swap| *swap != 0);
    if let (true, Some(dir)) = (memory.check_before_update() == Some(true), running) {
        check_usage(limit, total, dir)?;
    }
    if memory.kernel().is_some() || memory.kernel_tcp().is_some() {
        limits.warnings.push("Kernel memory settings are ignored and will be removed".into());
    }
    if let Some(swap) = swap_max(limit, total, running)? {
        let setting = Setting::new("memory.swap", "memory", "memory.swap.max", &swap);
        // Without swap accounting there is no swap to limit.
        limits.set(if swap == "max" || swap == "0" { setting.or(Or::SkipMissing) } else { setting });
    }
    if let Some(limit) = limit {
        limits.set(Setting::new("memory.limit", "memory", "memory.max", bytes(limit, "memory.limit")?));
    }
    if let Some(low) = memory.reservation().filter(|low| *low != 0) {
        limits.set(Setting::new("memory.reservation", "memory", "memory.low", bytes(low, "memory.reservation")?));
    }
    swappiness(memory)?;
    if memory.swappiness().is_some() {
        limits.warnings.push("linux.resources.memory.swappiness: cgroup v2 has no such setting; ignored".into());
    }
    if memory.disable_oom_killer() == Some(true) {
        limits.warnings.push("linux.resources.memory.disableOOMKiller: cgroup v2 has no such setting; ignored".into());
    }
    Ok(())
}

/// The swappiness to be written; -1, which callers pass as an unsigned number, means none.
pub(super) fn swappiness(memory: &LinuxMemory) -> Result<Option<u64>> {
    match memory.swappiness() {
        None | Some(u64::MAX) => Ok(None),
        Some(value) if value <= 100 => Ok(Some(value)),
        Some(value) => {
            bail!("linux.resources.memory.swappiness: invalid memory swappiness value: {value} (valid range is 0-100)")
        }
    }
}

/// memory.swap.max from the spec's "memory and swap together".
fn swap_max(limit: Option<i64>, total: Option<i64>, running: Option<&Dir>) -> Result<Option<String>> {
    let now = |file| running.and_then(|dir| dir.number(file));
    match (limit, total) {
        (None, None) => Ok(None),
        // v1 lifts both when only memory is lifted.
        (Some(-1), None) | (_, Some(-1)) => Ok(Some("max".into())),
        // The total that was set before stays what it was when only its memory part changes.
        (Some(limit), None) => match (now("memory.max"), now("memory.swap.max")) {
            (Some(_), Some(u64::MAX)) | (None, _) | (_, None) => Ok(None),
            (Some(memory), Some(swap)) => {
                let total = if memory == u64::MAX { swap } else { memory.saturating_add(swap) };
                part(total as i64, limit).map(|swap| Some(swap.to_string()))
            }
        },
        (Some(-1), Some(total)) => Ok(Some(bytes(total, "memory.swap")?)),
        (Some(limit), Some(total)) => part(total, limit).map(|swap| Some(swap.to_string())),
        (None, Some(total)) => match now("memory.max") {
            None => bail!("linux.resources.memory.swap: unable to set swap limit without memory limit"),
            Some(u64::MAX) => Ok(Some(bytes(total, "memory.swap")?)),
            Some(memory) => part(total, memory as i64).map(|swap| Some(swap.to_string())),
        },
    }
}

fn part(total: i64, memory: i64) -> Result<i64> {
    if memory < 0 {
        bail!("linux.resources.memory.limit: invalid memory value: {memory}");
    }
    if total < memory {
        bail!("linux.resources.memory.swap: memory+swap limit should be >= memory limit");
    }
    Ok(total - memory)
}

fn check_usage(limit: Option<i64>, total: Option<i64>, dir: &Dir) -> Result<()> {
    let Some(usage) = dir.number("memory.current") else { return Ok(()) };
    let refused = |value: Option<i64>| value.filter(|value| *value > 0 && *value as u64 <= usage);
    if let Some(total) = refused(total) {
        bail!("linux.resources.memory.swap: rejecting memory+swap limit {total} <= usage {usage}");
    }
    if let Some(limit) = refused(limit) {
        bail!("linux.resources.memory.limit: rejecting memory limit {limit} <= usage {usage}");
    }
    Ok(())
}

/// cpu.weight from v1's shares: a quadratic curve in the exponent through both ends and both defaults (2:1, 1024:100, 262144:10000).
pub(super) fn weight_from_shares(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            10_f64.powf(exponent).ceil() as u64
        }
    }
}

fn cpu(cpu: &LinuxCpu, running: Option<&Dir>, limits: &mut Limits) -> Result<()> {
    if let Some(idle) = cpu.idle() {
        limits.set(Setting::new("cpu.idle", "cpu", "cpu.idle", idle));
    }
    // An idle cgroup has the kernel's lowest weight and refuses any other.
    if let Some(shares) = cpu.shares().filter(|shares| *shares != 0 && cpu.idle() != Some(1)) {
        limits.set(Setting::new("cpu.shares", "cpu", "cpu.weight", weight_from_shares(shares)));
    }
    if let Some(burst) = cpu.burst() {
        limits.set(Setting::new("cpu.burst", "cpu", "cpu.max.burst", burst).or(Or::Later));
    }
    let quota = cpu.quota().filter(|quota| *quota != 0);
    let period = cpu.period().filter(|period| *period != 0);
    let json = if quota.is_some() { "cpu.quota" } else { "cpu.period" };
    let max = match (quota, period) {
        (None, None) => None,
        // The kernel keeps the period when only a quota is written.
        (Some(quota), None) => Some(quota_text(quota)),
        (Some(quota), Some(period)) => Some(format!("{} {period}", quota_text(quota))),
        (None, Some(period)) => {
            let now = running.and_then(|dir| dir.read("cpu.max").ok());
            let quota = now.as_deref().and_then(|text| text.split_whitespace().next()).unwrap_or("max");
            Some(format!("{quota} {period}"))
        }
    };
    if let Some(max) = max {
        limits.set(Setting::new(json, "cpu", "cpu.max", max));
    }
    if cpu.realtime_runtime().is_some_and(|us| us != 0) || cpu.realtime_period().is_some_and(|us| us != 0) {
        limits.warnings.push("linux.resources.cpu.realtimeRuntime: cgroup v2 has no realtime limits; ignored".into());
    }
    cpuset(cpu, limits);
    Ok(())
}

/// Processors and memory nodes are spelled alike on v1 and v2.
pub(super) fn cpuset(cpu: &LinuxCpu, limits: &mut Limits) {
    for (json, file, list) in [("cpu.cpus", "cpuset.cpus", cpu.cpus()), ("cpu.mems", "cpuset.mems", cpu.mems())] {
        if let Some(list) = list.as_ref().filter(|list| !list.is_empty()) {
            limits.set(Setting::new(json, "cpuset", file, list));
        }
    }
}

fn quota_text(quota: i64) -> String {
    if quota < 0 { "max".into() } else { quota.to_string() }
}

/// A weight of the spec's range; 0 is "not asked for".
pub(super) fn weight(value: Option<u16>, json: &str) -> Result<Option<u16>> {
    match value {
        None | Some(0) => Ok(None),
        Some(weight @ 10..=1000) => Ok(Some(weight)),
        Some(weight) => bail!("linux.resources.{json}: invalid weight {weight} (valid range is 10-1000)"),
    }
}

/// io.weight (1 to 10000) from v1's weight (10 to 1000), linearly.
pub(super) fn io_weight(weight: u16) -> u64 {
    1 + (u64::from(weight) - 10) * 9999 / 990
}

/// `major:minor`.
pub(super) fn device(major: i64, minor: i64, json: &str) -> Result<String> {
    match (u32::try_from(major), u32::try_from(minor)) {
        (Ok(major), Ok(minor)) => Ok(format!("{major}:{minor}")),
        _ => bail!("linux.resources.{json}: invalid device number {major}:{minor}"),
    }
}

/// The four throttles of the spec, by their names there and on v2.
pub(super) fn throttles(io: &LinuxBlockIo) -> [(&'static str, &'static str, &Option<Vec<LinuxThrottleDevice>>); 4] {
    [
        ("throttleReadBpsDevice", "rbps", io.throttle_read_bps_device()),
        ("throttleWriteBpsDevice", "wbps", io.throttle_write_bps_device()),
        ("throttleReadIOPSDevice", "riops", io.throttle_read_iops_device()),
        ("throttleWriteIOPSDevice", "wiops", io.throttle_write_iops_device()),
    ]
}

fn io(io: &LinuxBlockIo, limits: &mut Limits) -> Result<()> {
    // BFQ takes v1's numbers in a file of its own, where that scheduler is built in.
    if let Some(weight) = weight(io.weight(), "blockIO.weight")? {
        let or = Or::Instead { file: "io.weight", value: io_weight(weight).to_string() };
        limits.set(Setting::new("blockIO.weight", "io", "io.bfq.weight", weight).or(or));
    }
    for (index, each) in io.weight_device().iter().flatten().enumerate() {
        let json = format!("blockIO.weightDevice[{index}]");
        let device = device(each.major(), each.minor(), &json)?;
        if let Some(weight) = weight(each.weight(), &format!("{json}.weight"))? {
            let or = Or::Instead { file: "io.weight", value: format!("{device} {}", io_weight(weight)) };
            limits.set(Setting::new(json, "io", "io.bfq.weight", format!("{device} {weight}")).or(or));
        }
    }
    for (name, key, list) in throttles(io) {
        for (index, each) in list.iter().flatten().enumerate() {
            let json = format!("blockIO.{name}[{index}]");
            let device = device(each.major(), each.minor(), &json)?;
            // v1 lifts a throttle with 0, which v2 refuses.
            let rate = if each.rate() == 0 { "max".to_owned() } else { each.rate().to_string() };
            limits.set(Setting::new(json, "io", "io.max", format!("{device} {key}={rate}")));
        }
    }
    Ok(())
}

/// A huge page size becomes part of a file name, so it is digits and a unit and nothing else.
pub(super) fn page_size<'a>(size: &'a str, json: &str) -> Result<&'a str> {
    let digits = ["KB", "MB", "GB"].iter().find_map(|unit| size.strip_suffix(unit)).unwrap_or_default();
    if digits.is_empty() || digits.starts_with('0') || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        bail!("linux.resources.{json}.pageSize: {size:?} is no page size such as \"64KB\", \"2MB\" or \"1GB\"");
    }
    Ok(size)
}

pub(super) fn page_limit(limit: i64, json: &str) -> Result<u64> {
    u64::try_from(limit).map_err(|_| anyhow!("linux.resources.{json}.limit: invalid limit {limit}"))
}

pub(super) fn rdma(resources: &LinuxResources, limits: &mut Limits) -> Result<()> {
    // Sorted, as a hash map is not: the same config.json gives the same plan.
    for (device, limit) in resources.rdma().iter().flatten().collect::<BTreeMap<_, _>>() {
        let json = format!("rdma.{device}");
        if device.is_empty() || device.contains(|c: char| c.is_whitespace() || c.is_control()) {
            bail!("linux.resources.{json}: {device:?} is no device name");
        }
        let mut value = device.clone();
        for (key, count) in [("hca_handle", limit.hca_handles()), ("hca_object", limit.hca_objects())] {
            if let Some(count) = count {
                value += &format!(" {key}={count}");
            }
        }
        if value.len() > device.len() {
            limits.set(Setting::new(json, "rdma", "rdma.max", value));
        }
    }
    Ok(())
}

/// The controllers whose files `unified` may name.
const CONTROLLERS: [&str; 10] =
    ["cpu", "cpuset", "io", "memory", "hugetlb", "pids", "rdma", "misc", "dmem", "perf_event"];

fn unified(resources: &LinuxResources, limits: &mut Limits) -> Result<()> {
    let mut pairs: Vec<_> = resources.unified().iter().flatten().collect();
    pairs.sort();
    for (key, value) in pairs {
        let json = format!("unified.{key}");
        if key.contains('/') {
            bail!("linux.resources.unified: unified resource {key:?} must be a file name (no slashes)");
        }
        let controller = match key.split_once('.') {
            Some((controller, parameter)) if !controller.is_empty() && !parameter.is_empty() => controller,
            _ => bail!("linux.resources.unified: unified resource {key:?} must be in the form CONTROLLER.PARAMETER"),
        };
        let controller = CONTROLLERS.iter().find(|name| **name == controller).copied().unwrap_or_default();
        // Files such as io.max take one line a write.
        for line in value.lines().filter(|line| !line.is_empty()) {
            limits.set(Setting::new(&json, controller, key, line));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::setting::tests::Fake;
    use super::*;

    fn resources(json: &str) -> LinuxResources {
        serde_json::from_str(json).unwrap()
    }

    fn written(json: &str) -> Vec<String> {
        let limits = translate(&resources(json), None, None).unwrap();
        limits.settings.iter().map(|s| format!("{}={}", s.file, s.value)).collect()
    }

    fn refused(json: &str) -> String {
        translate(&resources(json), None, None).unwrap_err().to_string()
    }

    #[test]
    fn shares_become_weights_on_the_curve_through_both_defaults() {
        for (shares, weight) in [(1, 1), (2, 1), (1024, 100), (262_144, 10_000), (u64::MAX, 10_000)] {
            assert_eq!(weight_from_shares(shares), weight, "{shares}");
        }
        let weights: Vec<u64> = (2..=262_144).step_by(97).map(weight_from_shares).collect();
        assert!(weights.is_sorted());
    }

    #[test]
    fn cpu_values() {
        assert_eq!(
            written(r#"{"cpu":{"shares":1024,"quota":50000,"period":100000}}"#),
            ["cpu.weight=100", "cpu.max=50000 100000"]
        );
        assert_eq!(written(r#"{"cpu":{"quota":-1}}"#), ["cpu.max=max"]);
        assert_eq!(written(r#"{"cpu":{"period":1000}}"#), ["cpu.max=max 1000"]);
        assert_eq!(written(r#"{"cpu":{"idle":1,"shares":2}}"#), ["cpu.idle=1"]);
        assert_eq!(
            written(r#"{"cpu":{"burst":7,"cpus":"0-1","mems":"0"}}"#),
            ["cpu.max.burst=7", "cpuset.cpus=0-1", "cpuset.mems=0"]
        );
        assert_eq!(written(r#"{"cpu":{"shares":0,"quota":0,"period":0,"cpus":"","mems":""}}"#), [""; 0]);
    }

    #[test]
    fn swap_is_what_is_left_of_the_total() {
        assert_eq!(written(r#"{"memory":{"limit":100,"swap":150}}"#), ["memory.swap.max=50", "memory.max=100"]);
        assert_eq!(written(r#"{"memory":{"limit":100,"swap":100}}"#), ["memory.swap.max=0", "memory.max=100"]);
        assert_eq!(written(r#"{"memory":{"limit":-1}}"#), ["memory.swap.max=max", "memory.max=max"]);
        assert_eq!(written(r#"{"memory":{"limit":-1,"swap":70}}"#), ["memory.swap.max=70", "memory.max=max"]);
        assert_eq!(written(r#"{"memory":{"limit":100,"swap":-1}}"#), ["memory.swap.max=max", "memory.max=100"]);
        assert_eq!(written(r#"{"memory":{"limit":100,"reservation":60}}"#), ["memory.max=100", "memory.low=60"]);
        assert_eq!(written(r#"{"memory":{"limit":0,"swap":0,"reservation":0}}"#), [""; 0]);
    }

    #[test]
    fn impossible_memory_values_are_refused_with_their_place() {
        assert_eq!(
            refused(r#"{"memory":{"swap":5}}"#),
            "linux.resources.memory.swap: unable to set swap limit without memory limit"
        );
        assert_eq!(
            refused(r#"{"memory":{"limit":9,"swap":5}}"#),
            "linux.resources.memory.swap: memory+swap limit should be >= memory limit"
        );
        assert_eq!(refused(r#"{"memory":{"limit":-2}}"#), "linux.resources.memory.limit: invalid memory value: -2");
        assert!(
            refused(r#"{"memory":{"swappiness":101}}"#)
                .contains("memory.swappiness: invalid memory swappiness value: 101")
        );
    }

    #[test]
    fn an_update_computes_with_the_values_in_force() {
        let fake = Fake::new(
            "v2now",
            &[
                ("memory.max", "100\n"),
                ("memory.swap.max", "50\n"),
                ("cpu.max", "2000 100000\n"),
                ("memory.current", "80\n"),
            ],
        );
        let update = |json: &str| {
            let limits = translate(&resources(json), None, Some(&fake.dir()))?;
            Ok::<_, anyhow::Error>(
                limits.settings.iter().map(|s| format!("{}={}", s.file, s.value)).collect::<Vec<_>>(),
            )
        };
        assert_eq!(update(r#"{"memory":{"limit":120}}"#).unwrap(), ["memory.swap.max=30", "memory.max=120"]);
        assert_eq!(update(r#"{"memory":{"swap":300}}"#).unwrap(), ["memory.swap.max=200"]);
        assert_eq!(update(r#"{"cpu":{"period":50000}}"#).unwrap(), ["cpu.max=2000 50000"]);
        assert_eq!(update(r#"{"cpu":{"quota":3000}}"#).unwrap(), ["cpu.max=3000"]);
        assert!(update(r#"{"memory":{"limit":200}}"#).is_err());
        let error = update(r#"{"memory":{"limit":70,"checkBeforeUpdate":true}}"#).unwrap_err().to_string();
        assert!(error.ends_with("rejecting memory limit 70 <= usage 80"), "{error}");
    }

    #[test]
    fn block_io_uses_bfq_or_the_converted_weight() {
        let limits = translate(
            &resources(r#"{"blockIO":{"weight":500,"weightDevice":[{"major":8,"minor":0,"weight":10}]}}"#),
            None,
            None,
        )
        .unwrap();
        assert_eq!(limits.settings[0].or, Or::Instead { file: "io.weight", value: "4950".into() });
        assert_eq!(limits.settings[1].or, Or::Instead { file: "io.weight", value: "8:0 1".into() });
        assert_eq!(io_weight(1000), 10_000);
        assert_eq!(
            written(
                r#"{"blockIO":{"throttleReadBpsDevice":[{"major":8,"minor":16,"rate":9}],"throttleWriteIOPSDevice":[{"major":8,"minor":0,"rate":0}]}}"#
            ),
            ["io.max=8:16 rbps=9", "io.max=8:0 wiops=max"]
        );
        assert!(refused(r#"{"blockIO":{"weight":9}}"#).starts_with("linux.resources.blockIO.weight"));
        assert!(
            refused(r#"{"blockIO":{"throttleReadBpsDevice":[{"major":-1,"minor":0,"rate":9}]}}"#)
                .contains("throttleReadBpsDevice[0]")
        );
    }

    #[test]
    fn names_that_become_files_are_checked() {
        assert_eq!(
            written(r#"{"hugepageLimits":[{"pageSize":"2MB","limit":4}]}"#),
            ["hugetlb.2MB.max=4", "hugetlb.2MB.rsvd.max=4"]
        );
        for size in ["", "MB", "2", "2mb", "02MB", "2MB/../x", "../2MB", "1/2MB"] {
            assert!(
                refused(&format!(r#"{{"hugepageLimits":[{{"pageSize":"{size}","limit":4}}]}}"#))
                    .contains("hugepageLimits[0].pageSize"),
                "{size}"
            );
        }
        assert!(refused(r#"{"unified":{"../x.y":"1"}}"#).contains("must be a file name (no slashes)"));
        assert!(refused(r#"{"unified":{"memory":"1"}}"#).contains("must be in the form CONTROLLER.PARAMETER"));
        assert!(refused(r#"{"unified":{"..":"1"}}"#).contains("must be in the form CONTROLLER.PARAMETER"));
        assert_eq!(
            written(r#"{"unified":{"io.max":"8:0 rbps=1\n8:1 rbps=2\n","memory.high":"5"}}"#),
            ["io.max=8:0 rbps=1", "io.max=8:1 rbps=2", "memory.high=5"]
        );
    }

    #[test]
    fn pids_zero_is_one_and_negative_is_max() {
        assert_eq!([pids_max(0), pids_max(-1), pids_max(7)], ["1", "max", "7"]);
        let limits = translate(&LinuxResources::default(), Some(12), None).unwrap();
        assert_eq!(limits.settings, [Setting::new("pids.limit", "pids", "pids.max", 12)]);
        // The builder's default resources must not limit anything by themselves.
        assert!(translate(&resources("{}"), None, None).unwrap().settings.is_empty());
    }
}
