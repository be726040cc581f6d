//! What cgroups' files say, on v1 and v2: statistics, process lists, the freezer, memory and the mounts of cgroups.

#![no_main]

use libfuzzer_sys::fuzz_target;
use orlop::cgroup::{Depth, Record};
use orlop::host::cgroup::{from_mountinfo, parse_own};
use orlop_fuzz::folder;

/// The files that are read; each is a section of the input, and sections end with a NUL byte.
const FILES: [&str; 36] = [
    "cgroup.procs",
    "cgroup.events",
    "cgroup.freeze",
    "freezer.state",
    "cpu.stat",
    "cpu.pressure",
    "memory.stat",
    "memory.current",
    "memory.max",
    "memory.peak",
    "memory.events",
    "memory.swap.current",
    "memory.swap.max",
    "memory.usage_in_bytes",
    "memory.max_usage_in_bytes",
    "memory.limit_in_bytes",
    "memory.failcnt",
    "memory.oom_control",
    "memory.use_hierarchy",
    "pids.current",
    "pids.max",
    "io.stat",
    "io.pressure",
    "blkio.throttle.io_service_bytes_recursive",
    "blkio.sectors_recursive",
    "hugetlb.2MB.usage_in_bytes",
    "hugetlb.2MB.current",
    "hugetlb.2MB.events",
    "cpuacct.usage",
    "cpuacct.stat",
    "cpuacct.usage_percpu",
    "cpuacct.usage_all",
    "cpuset.cpus",
    "cpuset.sched_relax_domain_level",
    "rdma.current",
    "misc.current",
];

const CONTROLLERS: [&str; 9] = ["cpu", "cpuacct", "cpuset", "memory", "pids", "blkio", "hugetlb", "rdma", "freezer"];

/// Gives each file its section; `first` is the one that the first section is for.
fn write(bytes: &[u8]) -> Option<()> {
    let (first, sections) = bytes.split_first()?;
    let dir = folder().join("cgroup");
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir(&dir).ok()?;
    for (index, section) in sections.split(|byte| *byte == 0).take(FILES.len()).enumerate() {
        if !section.is_empty() {
            std::fs::write(dir.join(FILES[(usize::from(*first) + index) % FILES.len()]), section).ok()?;
        }
    }
    Some(())
}

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    for (controller, _) in parse_own(&text) {
        assert!(!controller.contains(','));
    }
    from_mountinfo(&text);
    if write(bytes).is_none() {
        return;
    }
    let dir = folder().join("cgroup").to_string_lossy().into_owned();
    let unified = Record { paths: [(String::new(), dir.clone())].into(), ..Record::default() };
    let paths = CONTROLLERS.map(|name| (name.to_owned(), dir.clone())).into();
    for record in [unified, Record { paths, ..Record::default() }] {
        // As `events` prints them.
        if let Ok(stats) = record.stats() {
            assert!(!stats.to_string().is_empty());
        }
        let pids = record.pids(Depth::All).unwrap_or_default();
        assert!(pids.windows(2).all(|pair| pair[0] < pair[1]));
        let _ = (record.is_frozen(), record.memory(), record.oom_kills());
    }
});
