//! Where v2 keeps the numbers of `events --stats`.

use libcgroups::stats::{
    BlkioDeviceStat, CpuThrottling, CpuUsage, HugeTlbStats, MemoryData, PidStats, pid_stats, supported_page_sizes,
};
use serde_json::{Map, Value};

use super::dir::Dir;
use super::stats::{Object, blkio, cpu, flat, hugetlb, memory, of, pids, pressure, rdma};

pub(super) fn collect(dir: &Dir, data: &mut Map<String, Value>) {
    data.insert("cpu".into(), cpu_member(dir));
    data.insert("memory".into(), memory_member(dir));
    // Without the controller the processes themselves are counted.
    let counted = pid_stats(std::path::Path::new(&dir.path)).unwrap_or_else(|_| {
        let list = dir.read("cgroup.procs").or_else(|_| dir.read("cgroup.threads")).unwrap_or_default();
        PidStats { current: list.lines().count() as u64, limit: 0 }
    });
    data.insert("pids".into(), pids(&counted));
    data.insert("blkio".into(), io_member(dir));
    data.insert("hugetlb".into(), hugetlb_member(dir));
    let mut rest = Object::default();
    rest.put("rdma", rdma(dir)).put("misc", misc_member(dir));
    data.append(&mut rest.0);
}

fn cpu_member(dir: &Dir) -> Value {
    let stat = flat(dir, "cpu.stat");
    let nanos = |key: &str| of(&stat, key).saturating_mul(1000);
    let usage = CpuUsage {
        usage_total: nanos("usage_usec"),
        usage_user: nanos("user_usec"),
        usage_kernel: nanos("system_usec"),
        ..CpuUsage::default()
    };
    let throttling = CpuThrottling {
        periods: of(&stat, "nr_periods"),
        throttled_periods: of(&stat, "nr_throttled"),
        throttled_time: nanos("throttled_usec"),
    };
    cpu(&usage, &throttling, pressure(dir, "cpu.pressure"), (of(&stat, "nr_bursts"), nanos("burst_usec")))
}

fn memory_member(dir: &Dir) -> Value {
    let mut member = Object::default();
    let stat = flat(dir, "memory.stat");
    if stat.is_empty() {
        return member.take();
    }
    let read = |prefix: &str| {
        let number = |file: &str| dir.number(&format!("{prefix}.{file}"));
        number("current").map(|usage| MemoryData {
            usage,
            max_usage: number("peak").unwrap_or_default(),
            limit: number("max").unwrap_or_default(),
            fail_count: 0,
        })
    };
    let usage = read("memory").unwrap_or_default();
    // v1 reports memory and swap together, and that is what readers expect; their common peak is unknown.
    let mut swap = read("memory.swap").unwrap_or_default();
    swap.usage = swap.usage.saturating_add(usage.usage);
    swap.limit = swap.limit.saturating_add(if swap.limit == u64::MAX { 0 } else { usage.limit });
    swap.max_usage = 0;
    member.put("cache", of(&stat, "file")).put("usage", memory(&usage)).put("swap", memory(&swap));
    // Who looks for `oom` in the lines of `events` means that it has happened.
    let mut events = flat(dir, "memory.events");
    events.retain(|_, count| count.as_u64() != Some(0));
    member.put("raw", stat).put("events", events);
    let psi = pressure(dir, "memory.pressure");
    if !psi.is_null() {
        member.keep("psi", psi);
    }
    member.take()
}

/// io.stat's keys, the list that each belongs to and its name there.
const IO: [(&str, &str, &str); 8] = [
    ("rbytes", "ioServiceBytesRecursive", "Read"),
    ("wbytes", "ioServiceBytesRecursive", "Write"),
    ("rios", "ioServicedRecursive", "Read"),
    ("wios", "ioServicedRecursive", "Write"),
    ("cost.usage", "ioCostUsage", "Count"),
    ("cost.wait", "ioCostWait", "Count"),
    ("cost.indebt", "ioCostIndebt", "Count"),
    ("cost.indelay", "ioCostIndelay", "Count"),
];

fn io_member(dir: &Dir) -> Value {
    let text = dir.read("io.stat").unwrap_or_default();
    let mut lists: Vec<(&str, Vec<BlkioDeviceStat>)> = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some((major, minor)) = words.next().and_then(|device| device.split_once(':')) else { continue };
        let (Ok(major), Ok(minor)) = (major.parse(), minor.parse()) else { continue };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let Some((_, name, op)) = IO.iter().find(|(known, ..)| *known == key) else { continue };
            let Ok(value) = value.parse() else { continue };
            let stat = BlkioDeviceStat { major, minor, op_type: Some((*op).to_owned()), value };
            match lists.iter_mut().find(|(found, _)| found == name) {
                Some((_, list)) => list.push(stat),
                None => lists.push((name, vec![stat])),
            }
        }
    }
    let mut member = Object::default();
    for (name, list) in &lists {
        member.put(name, blkio(list));
    }
    let psi = pressure(dir, "io.pressure");
    if !psi.is_null() {
        member.keep("psi", psi);
    }
    member.take()
}

fn hugetlb_member(dir: &Dir) -> Value {
    let mut member = Object::default();
    for size in supported_page_sizes().unwrap_or_default() {
        let file = |name: &str| format!("hugetlb.{size}.{name}");
        let usage = dir.number(&file("rsvd.current")).or_else(|| dir.number(&file("current")));
        let Some(usage) = usage else { continue };
        let fail_count = dir.keyed(&file("events"), "max").unwrap_or_default();
        member.put(&size, hugetlb(&HugeTlbStats { usage, max_usage: 0, fail_count }));
    }
    member.take()
}

fn misc_member(dir: &Dir) -> Value {
    let mut member = Object::default();
    let (current, events) = (flat(dir, "misc.current"), flat(dir, "misc.events"));
    for (key, usage) in current {
        let count = of(&events, &format!("{key}.max"));
        member.put(&key, Object::default().put("usage", usage).put("events", count).take());
    }
    member.take()
}
