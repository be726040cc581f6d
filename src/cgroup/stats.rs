//! Statistics in the form of runc's `events --stats`: its names, its units, zeroes left out where it leaves them out.
//!
//! A file that a kernel does not have leaves its numbers out and never fails the rest. Beyond runc's
//! names there are `memory.events`, `memory.peak` (as `max`), bursts, io cost, `rdma` and `misc`.

use libcgroups::stats::{BlkioDeviceStat, CpuThrottling, CpuUsage, HugeTlbStats, MemoryData, PidStats};
use serde_json::{Map, Value, json};

use super::dir::Dir;
use super::{Record, stats_v1, stats_v2};
use crate::error::{Result, Why};

impl Record {
    /// The `data` of a `stats` event, without the parts that are not cgroups' (`intel_rdt`, `network_interfaces` are empty).
    ///
    /// # Errors
    /// When the container's cgroup is not there.
    pub fn stats(&self) -> Result<Value> {
        let mut data = Map::new();
        for key in ["cpu", "cpuset", "memory", "pids", "blkio", "hugetlb", "intel_rdt"] {
            data.insert(key.into(), json!({}));
        }
        data.insert("cpuset".into(), cpuset(&Cpuset::default()));
        data.insert("network_interfaces".into(), Value::Null);
        if self.is_unified() {
            let path = self.path("").unwrap_or_default();
            let dir = Dir::open(path).why(|| format!("open {path}"))?;
            stats_v2::collect(&dir, &mut data);
        } else if !self.is_none() {
            stats_v1::collect(self, &mut data);
        }
        Ok(Value::Object(data))
    }
}

/// An object whose empty and zero members are left out, as Go's `omitempty` does.
#[derive(Default)]
pub(super) struct Object(pub Map<String, Value>);

impl Object {
    pub fn put(&mut self, key: &str, value: impl Into<Value>) -> &mut Object {
        let value = value.into();
        let empty = match &value {
            Value::Null => true,
            Value::Number(number) => number.as_f64() == Some(0.0),
            Value::String(text) => text.is_empty(),
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => map.is_empty(),
            Value::Bool(_) => false,
        };
        if !empty {
            self.0.insert(key.into(), value);
        }
        self
    }

    /// A member that is there even when it is zero.
    pub fn keep(&mut self, key: &str, value: impl Into<Value>) -> &mut Object {
        self.0.insert(key.into(), value.into());
        self
    }

    pub fn take(&mut self) -> Value {
        Value::Object(std::mem::take(&mut self.0))
    }
}

/// The lines `key number` of a file.
pub(super) fn flat(dir: &Dir, file: &str) -> Map<String, Value> {
    let text = dir.read(file).unwrap_or_default();
    let pairs = text.lines().filter_map(|line| line.split_once(' '));
    pairs.filter_map(|(key, value)| Some((key.to_owned(), value.trim().parse::<u64>().ok()?.into()))).collect()
}

/// One number of such a file.
pub(super) fn of(map: &Map<String, Value>, key: &str) -> u64 {
    map.get(key).and_then(Value::as_u64).unwrap_or_default()
}

/// How long tasks waited for a resource. Here by hand, as the usual parser leaves `total` out.
pub(super) fn pressure(dir: &Dir, file: &str) -> Value {
    // No such file before Linux 4.20 or without PSI; EOPNOTSUPP where it is switched off.
    let Ok(text) = dir.read(file) else { return Value::Null };
    let mut psi = Object::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some(name @ ("some" | "full")) = words.next() else { continue };
        let mut data = Object::default();
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            match key {
                "total" => data.keep(key, value.parse::<u64>().unwrap_or_default()),
                _ => data.keep(key, value.parse::<f64>().unwrap_or_default()),
            };
        }
        // An all-zero part is left out, as Go's `omitzero` does.
        if data.0.values().any(|value| value.as_f64() != Some(0.0)) {
            psi.put(name, data.take());
        }
    }
    psi.take()
}

/// The `cpu` member.
pub(super) fn cpu(usage: &CpuUsage, throttling: &CpuThrottling, psi: Value, bursts: (u64, u64)) -> Value {
    let mut cpu = Object::default();
    let mut times = Object::default();
    times.put("total", usage.usage_total);
    times.put("percpu", usage.per_core_usage_total.clone());
    times.put("percpu_kernel", usage.per_core_usage_kernel.clone());
    times.put("percpu_user", usage.per_core_usage_user.clone());
    times.keep("kernel", usage.usage_kernel).keep("user", usage.usage_user);
    if *usage != CpuUsage::default() {
        cpu.put("usage", times.take());
    }
    let mut throttled = Object::default();
    throttled.put("periods", throttling.periods);
    throttled.put("throttledPeriods", throttling.throttled_periods);
    throttled.put("throttledTime", throttling.throttled_time);
    cpu.put("throttling", throttled.take());
    let mut burst = Object::default();
    burst.put("burstsPeriods", bursts.0).put("burstTime", bursts.1);
    cpu.put("burst", burst.take());
    if !psi.is_null() {
        cpu.keep("psi", psi);
    }
    cpu.take()
}

/// One entry of the `memory` member.
pub(super) fn memory(data: &MemoryData) -> Value {
    if *data == MemoryData::default() {
        return Value::Null;
    }
    let mut entry = Object::default();
    entry.keep("limit", data.limit).put("usage", data.usage).put("max", data.max_usage);
    entry.keep("failcnt", data.fail_count).take()
}

/// One list of the `blkio` member.
pub(super) fn blkio(list: &[BlkioDeviceStat]) -> Value {
    let entry = |stat: &BlkioDeviceStat| {
        let mut entry = Object::default();
        entry.put("major", stat.major).put("minor", stat.minor);
        entry.put("op", stat.op_type.clone().unwrap_or_default()).put("value", stat.value).take()
    };
    Value::Array(list.iter().map(entry).collect())
}

/// One size of the `hugetlb` member.
pub(super) fn hugetlb(stats: &HugeTlbStats) -> Value {
    let mut entry = Object::default();
    entry.put("usage", stats.usage).put("max", stats.max_usage);
    entry.keep("failcnt", stats.fail_count).take()
}

/// The `pids` member.
pub(super) fn pids(stats: &PidStats) -> Value {
    Object::default().put("current", stats.current).put("limit", stats.limit).take()
}

/// The `cpuset` member, which v2 leaves at zeroes.
#[derive(Debug, Default)]
pub(super) struct Cpuset {
    pub cpus: Vec<u16>,
    pub mems: Vec<u16>,
    /// The flags in the order of [`CPUSET_FLAGS`].
    pub flags: [u64; 8],
    pub relax: i64,
}

/// The names of the cpuset's one-number files, which are also those of the members.
pub(super) const CPUSET_FLAGS: [&str; 8] = [
    "cpu_exclusive",
    "mem_hardwall",
    "mem_exclusive",
    "memory_migrate",
    "memory_spread_page",
    "memory_spread_slab",
    "memory_pressure",
    "sched_load_balance",
];

pub(super) fn cpuset(set: &Cpuset) -> Value {
    let mut entry = Object::default();
    entry.put("cpus", set.cpus.clone()).put("mems", set.mems.clone());
    for (name, value) in CPUSET_FLAGS.iter().zip(set.flags) {
        entry.keep(name, value);
    }
    entry.keep("sched_relax_domain_level", set.relax).take()
}

/// What the rdma controller counts and limits, by device.
pub(super) fn rdma(dir: &Dir) -> Value {
    let mut all = Object::default();
    for (member, file) in [("current", "rdma.current"), ("limit", "rdma.max")] {
        let text = dir.read(file).unwrap_or_default();
        let line = |line: &str| {
            let mut words = line.split_whitespace();
            let mut entry = Object::default();
            entry.keep("device", words.next()?);
            for (key, value) in words.filter_map(|word| word.split_once('=')) {
                let value = if value == "max" { u32::MAX } else { value.parse().ok()? };
                entry.put(if key == "hca_handle" { "hca_handles" } else { "hca_objects" }, value);
            }
            Some(entry.take())
        };
        all.put(member, text.lines().filter_map(line).collect::<Vec<Value>>());
    }
    all.take()
}

#[cfg(test)]
mod tests {
    use super::super::setting::tests::Fake;
    use super::*;
    use std::collections::BTreeMap;

    const PSI: &str =
        "some avg10=1.50 avg60=0.00 avg300=0.00 total=77\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n";

    #[test]
    fn v2_statistics_have_runcs_shape() {
        let fake = Fake::new(
            "stats",
            &[
                (
                    "cpu.stat",
                    "usage_usec 3000\nuser_usec 2000\nsystem_usec 1000\nnr_periods 4\nnr_throttled 2\nthrottled_usec 9\n",
                ),
                ("cpu.pressure", PSI),
                ("memory.stat", "anon 4096\nfile 8192\n"),
                ("memory.current", "12288\n"),
                ("memory.max", "max\n"),
                ("memory.peak", "20480\n"),
                ("memory.swap.current", "100\n"),
                ("memory.swap.max", "1000\n"),
                ("memory.events", "low 0\noom 0\noom_kill 2\n"),
                ("pids.current", "3\n"),
                ("pids.max", "max\n"),
                ("io.stat", "8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0 cost.usage=5\n7:0 \n"),
            ],
        );
        let paths = BTreeMap::from([(String::new(), fake.0.to_str().unwrap().to_owned())]);
        let data = Record { paths, ..Record::default() }.stats().unwrap();
        assert_eq!(data["cpu"]["usage"], json!({"total": 3_000_000, "kernel": 1_000_000, "user": 2_000_000}));
        assert_eq!(data["cpu"]["throttling"], json!({"periods": 4, "throttledPeriods": 2, "throttledTime": 9000}));
        assert_eq!(data["cpu"]["psi"]["some"], json!({"avg10": 1.5, "avg60": 0.0, "avg300": 0.0, "total": 77}));
        assert_eq!(data["memory"]["usage"], json!({"limit": u64::MAX, "usage": 12288, "max": 20480, "failcnt": 0}));
        assert_eq!(data["memory"]["swap"]["usage"], json!(12388));
        assert_eq!(data["memory"]["cache"], json!(8192));
        assert_eq!(data["memory"]["raw"]["anon"], json!(4096));
        assert_eq!(data["memory"]["events"], json!({"oom_kill": 2}));
        assert_eq!(data["pids"], json!({"current": 3}));
        assert_eq!(
            data["blkio"]["ioServiceBytesRecursive"],
            json!([{"major": 8, "op": "Read", "value": 10}, {"major": 8, "op": "Write", "value": 20}])
        );
        assert_eq!(data["blkio"]["ioCostUsage"], json!([{"major": 8, "op": "Count", "value": 5}]));
        assert_eq!(data["network_interfaces"], Value::Null);
    }

    #[test]
    fn missing_files_leave_their_numbers_out() {
        let fake = Fake::new("nostats", &[("cgroup.procs", "5\n6\n")]);
        let paths = BTreeMap::from([(String::new(), fake.0.to_str().unwrap().to_owned())]);
        let data = Record { paths, ..Record::default() }.stats().unwrap();
        assert_eq!(data["pids"], json!({"current": 2}));
        assert_eq!(data["memory"], json!({}));
        assert_eq!(data["cpuset"]["sched_load_balance"], json!(0));
    }
}
