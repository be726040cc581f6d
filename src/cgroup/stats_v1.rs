//! Where v1 keeps the numbers of `events --stats`.

use libcgroups::stats::{
    BlkioDeviceStat, CpuThrottling, CpuUsage, HugeTlbStats, MemoryData, pid_stats, supported_page_sizes,
};
use serde_json::{Map, Value};

use super::Record;
use super::dir::Dir;
use super::stats::{CPUSET_FLAGS, Cpuset, Object, blkio, cpu, cpuset, flat, hugetlb, memory, of, pids, pressure, rdma};

/// Nanoseconds in a tick of USER_HZ, which is 100 on every architecture that Linux still builds for.
const TICK: u64 = 10_000_000;

pub(super) fn collect(record: &Record, data: &mut Map<String, Value>) {
    let open = |controller: &str| record.path(controller).and_then(|path| Dir::open(path).ok());
    data.insert("cpu".into(), cpu_member(open("cpu").as_ref(), open("cpuacct").as_ref()));
    if let Some(dir) = open("cpuset") {
        data.insert("cpuset".into(), cpuset_member(&dir));
    }
    if let Some(dir) = open("memory") {
        data.insert("memory".into(), memory_member(&dir));
    }
    if let Some(dir) = open("pids")
        && let Ok(counted) = pid_stats(std::path::Path::new(&dir.path))
    {
        data.insert("pids".into(), pids(&counted));
    }
    if let Some(dir) = open("blkio") {
        data.insert("blkio".into(), blkio_member(&dir));
    }
    if let Some(dir) = open("hugetlb") {
        data.insert("hugetlb".into(), hugetlb_member(&dir));
    }
    if let Some(dir) = open("rdma") {
        let mut rest = Object::default();
        rest.put("rdma", rdma(&dir));
        data.append(&mut rest.0);
    }
}

fn cpu_member(cpu_dir: Option<&Dir>, acct: Option<&Dir>) -> Value {
    let stat = cpu_dir.map(|dir| flat(dir, "cpu.stat")).unwrap_or_default();
    let throttling = CpuThrottling {
        periods: of(&stat, "nr_periods"),
        throttled_periods: of(&stat, "nr_throttled"),
        throttled_time: of(&stat, "throttled_time"),
    };
    let mut usage = CpuUsage::default();
    if let Some(dir) = acct {
        let ticks = flat(dir, "cpuacct.stat");
        usage.usage_total = dir.number("cpuacct.usage").unwrap_or_default();
        usage.usage_user = of(&ticks, "user").saturating_mul(TICK);
        usage.usage_kernel = of(&ticks, "system").saturating_mul(TICK);
        let percpu = dir.read("cpuacct.usage_percpu").unwrap_or_default();
        usage.per_core_usage_total = percpu.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        // `cpu user system`, with a line of headings.
        for line in dir.read("cpuacct.usage_all").unwrap_or_default().lines().skip(1) {
            let mut words = line.split_whitespace().skip(1).map(|word| word.parse::<u64>().unwrap_or_default());
            usage.per_core_usage_user.extend(words.next());
            usage.per_core_usage_kernel.extend(words.next());
        }
    }
    let psi = cpu_dir.map_or(Value::Null, |dir| pressure(dir, "cpu.pressure"));
    cpu(&usage, &throttling, psi, (of(&stat, "nr_bursts"), of(&stat, "burst_time")))
}

/// `0-2,5` as a list.
fn list(text: &str) -> Vec<u16> {
    let mut numbers = Vec::new();
    for part in text.trim().split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(from), Ok(to)) = (from.parse::<u16>(), to.parse()) {
            numbers.extend(from..=to);
        }
    }
    numbers
}

fn cpuset_member(dir: &Dir) -> Value {
    let text = |file: &str| dir.read(&format!("cpuset.{file}")).unwrap_or_default();
    let mut set = Cpuset { cpus: list(&text("cpus")), mems: list(&text("mems")), ..Cpuset::default() };
    for (name, value) in CPUSET_FLAGS.iter().zip(&mut set.flags) {
        *value = text(name).trim().parse().unwrap_or_default();
    }
    set.relax = text("sched_relax_domain_level").trim().parse().unwrap_or_default();
    cpuset(&set)
}

fn memory_member(dir: &Dir) -> Value {
    let read = |prefix: &str| {
        let number = |file: &str| dir.number(&format!("{prefix}.{file}")).unwrap_or_default();
        MemoryData {
            usage: number("usage_in_bytes"),
            max_usage: number("max_usage_in_bytes"),
            fail_count: number("failcnt"),
            limit: number("limit_in_bytes"),
        }
    };
    let stat = flat(dir, "memory.stat");
    let mut member = Object::default();
    member.put("cache", of(&stat, "cache"));
    for (name, prefix) in
        [("usage", "memory"), ("swap", "memory.memsw"), ("kernel", "memory.kmem"), ("kernelTCP", "memory.kmem.tcp")]
    {
        member.put(name, memory(&read(prefix)));
    }
    member.put("raw", stat).take()
}

/// The lists, and the files of each in the order of preference: BFQ, the old CFQ, the throttler.
const BLKIO: [(&str, &str); 8] = [
    ("ioServiceBytesRecursive", "io_service_bytes_recursive"),
    ("ioServicedRecursive", "io_serviced_recursive"),
    ("ioQueueRecursive", "io_queued_recursive"),
    ("ioServiceTimeRecursive", "io_service_time_recursive"),
    ("ioWaitTimeRecursive", "io_wait_time_recursive"),
    ("ioMergedRecursive", "io_merged_recursive"),
    ("ioTimeRecursive", "time_recursive"),
    ("sectorsRecursive", "sectors_recursive"),
];

fn blkio_member(dir: &Dir) -> Value {
    // Where BFQ or CFQ serve no device their files are there and empty; the throttler counts everything.
    let family = ["blkio.bfq.", "blkio.", "blkio.throttle."].into_iter().find(|family| {
        dir.read(&format!("{family}io_service_bytes_recursive")).is_ok_and(|text| !entries(&text).is_empty())
    });
    let family = family.unwrap_or("blkio.throttle.");
    let mut member = Object::default();
    for (name, file) in BLKIO {
        let text = dir.read(&format!("{family}{file}")).unwrap_or_default();
        member.put(name, blkio(&entries(&text)));
    }
    member.take()
}

/// `major:minor [operation] value`, and a total that nobody needs.
fn entries(text: &str) -> Vec<BlkioDeviceStat> {
    let entry = |line: &str| {
        let mut words = line.split_whitespace();
        let (major, minor) = words.next()?.split_once(':')?;
        let (first, second) = (words.next()?, words.next());
        let (op_type, value) = second.map_or((None, first), |value| (Some(first.to_owned()), value));
        Some(BlkioDeviceStat {
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
            op_type,
            value: value.parse().ok()?,
        })
    };
    text.lines().filter_map(entry).collect()
}

fn hugetlb_member(dir: &Dir) -> Value {
    let mut member = Object::default();
    for size in supported_page_sizes().unwrap_or_default() {
        let prefix = ["rsvd.", ""]
            .into_iter()
            .find(|rsvd| dir.number(&format!("hugetlb.{size}.{rsvd}usage_in_bytes")).is_some());
        let Some(prefix) = prefix else { continue };
        let number = |file: &str| dir.number(&format!("hugetlb.{size}.{prefix}{file}")).unwrap_or_default();
        let stats = HugeTlbStats {
            usage: number("usage_in_bytes"),
            max_usage: number("max_usage_in_bytes"),
            fail_count: number("failcnt"),
        };
        member.put(&size, hugetlb(&stats));
    }
    member.take()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_numbers_are_spelled_out() {
        assert_eq!(list("0-2,5\n"), [0, 1, 2, 5]);
        assert_eq!(list("\n"), [0_u16; 0]);
    }

    #[test]
    fn block_statistics_are_read_with_and_without_operations() {
        let found = entries("8:0 Read 12\n8:16 7\nTotal 19\n");
        let stat =
            |minor, op: Option<&str>, value| BlkioDeviceStat { major: 8, minor, op_type: op.map(str::to_owned), value };
        assert_eq!(found, [stat(0, Some("Read"), 12), stat(16, None, 7)]);
    }
}
