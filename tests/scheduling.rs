//! Where, when and under what personality a process runs: config.md#linux-process, config-linux.md#memory-policy and
//! #personality (runtime-spec 1.3), for the first process and for exec.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Also in the functions that the tests share.

mod common;

use common::Bundle;
use serde_json::{Value, json};

/// Priority for realtime, nice value and policy of a process, as proc(5) numbers them.
fn scheduling_of(pid: i64) -> (i32, i32, u32) {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<_> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let field = |number: usize| fields[number - 3].parse::<i32>().unwrap();
    (field(40), field(19), field(41) as u32)
}

/// A v1 cgroup has no realtime time of its own unless it is given some.
fn with_realtime(bundle: &mut Bundle) {
    bundle.config["linux"]["resources"]["cpu"] = json!({"realtimeRuntime": 10_000, "realtimePeriod": 1_000_000});
}

fn set(bundle: &mut Bundle, section: &str, field: &str, value: &Value) {
    bundle.config[section][field] = value.clone();
}

#[test]
fn every_policy_that_the_kernel_takes_is_set() {
    need_root!();
    let nice = scheduling_of(std::process::id().into()).1;
    for (scheduler, expected) in [
        (json!({"policy": "SCHED_OTHER", "nice": -5}), (0, -5, 0)),
        (json!({"policy": "SCHED_OTHER", "nice": 7, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}), (0, 7, 0)),
        (json!({"policy": "SCHED_BATCH", "nice": 3}), (0, 3, 3)),
        (json!({"policy": "SCHED_IDLE"}), (0, nice, 5)),
        (json!({"policy": "SCHED_OTHER", "flags": ["SCHED_FLAG_KEEP_POLICY", "SCHED_FLAG_KEEP_PARAMS"]}), (0, nice, 0)),
    ] {
        let mut bundle = Bundle::sleeping();
        set(&mut bundle, "process", "scheduler", &scheduler);
        let id = bundle.running();
        assert_eq!(scheduling_of(bundle.pid(&id)), expected, "{scheduler}");
        bundle.end(&id);
    }
}

#[test]
fn realtime_policies_are_set_where_the_cgroup_has_time_for_them() {
    need_root!();
    let nice = scheduling_of(std::process::id().into()).1;
    let mut bundle = Bundle::sleeping();
    let scheduler = |policy: &str| json!({"policy": policy, "priority": 10, "flags": ["SCHED_FLAG_RESET_ON_FORK"]});
    set(&mut bundle, "process", "scheduler", &scheduler("SCHED_FIFO"));
    let id = bundle.id();
    let without = bundle.orlop(&["run", "--detach", &id]);
    if without.code != 0 {
        let said = without.fails();
        assert!(
            said.contains("operation not permitted (a v1 cgroup without linux.resources.cpu.realtimeRuntime"),
            "{said}"
        );
        bundle.assert_nothing_of(&id);
    }
    with_realtime(&mut bundle);
    for (policy, number) in [("SCHED_FIFO", 1), ("SCHED_RR", 2)] {
        set(&mut bundle, "process", "scheduler", &scheduler(policy));
        let id = bundle.id();
        let done = bundle.orlop(&["run", "--detach", &id]);
        if done.stderr.contains("cpu.rt_") || done.stderr.contains("realtime") {
            skip!("the cgroup cannot have realtime time here: {}", done.stderr.trim());
        }
        done.ok();
        assert_eq!(scheduling_of(bundle.pid(&id)), (10, nice, number), "{policy}");
        bundle.end(&id);
    }
}

#[test]
fn a_deadline_is_set_with_its_times() {
    need_root!();
    let mut bundle = Bundle::new("");
    // A process with a deadline cannot fork, so it is one that need not.
    bundle.args(&["sleep", "1000"]);
    let deadline = json!({"policy": "SCHED_DEADLINE", "runtime": 1_000_000, "deadline": 10_000_000, "period": 20_000_000,
        "flags": ["SCHED_FLAG_RECLAIM", "SCHED_FLAG_DL_OVERRUN"]});
    set(&mut bundle, "process", "scheduler", &deadline);
    let id = bundle.id();
    let done = bundle.orlop(&["run", "--detach", &id]);
    if done.stderr.contains("device or resource busy") {
        skip!("this machine has no time left for deadlines");
    }
    done.ok();
    assert_eq!(scheduling_of(bundle.pid(&id)).2, 6);
}

#[test]
fn policies_and_clamps_that_the_kernel_does_not_have_are_errors() {
    need_root!();
    let mut bundle = Bundle::new("true");
    set(&mut bundle, "process", "scheduler", &json!({"policy": "SCHED_ISO"}));
    let id = bundle.id();
    let said = bundle.orlop(&["run", &id]).fails();
    assert!(said.contains("error setting the scheduler (policy 4") && said.contains("invalid argument"), "{said}");
    bundle.assert_nothing_of(&id);
    for flag in ["SCHED_FLAG_UTIL_CLAMP_MIN", "SCHED_FLAG_UTIL_CLAMP_MAX"] {
        set(&mut bundle, "process", "scheduler", &json!({"policy": "SCHED_OTHER", "flags": [flag]}));
        let done = bundle.run();
        // A kernel without CONFIG_UCLAMP_TASK says that, and not that the request is malformed.
        assert!(done.code == 0 || done.stderr.contains("operation not supported"), "{flag}: {done:?}");
    }
}

#[test]
fn every_class_of_io_priority_is_set() {
    need_root!();
    for (class, expected) in [
        (json!({"class": "IOPRIO_CLASS_RT", "priority": 2}), "realtime: prio 2\n"),
        (json!({"class": "IOPRIO_CLASS_BE", "priority": 7}), "best-effort: prio 7\n"),
        (json!({"class": "IOPRIO_CLASS_IDLE"}), "idle\n"),
    ] {
        let mut bundle = Bundle::new("ionice -p 1");
        set(&mut bundle, "process", "ioPriority", &class);
        assert_eq!(bundle.run().ok(), expected);
    }
}

#[test]
fn every_memory_policy_is_set_for_the_program_and_for_exec() {
    need_root!();
    if !std::path::Path::new("/proc/self/numa_maps").exists() {
        skip!("this kernel has no NUMA");
    }
    for (policy, expected) in [
        (json!({"mode": "MPOL_DEFAULT"}), "default"),
        (json!({"mode": "MPOL_LOCAL"}), "local"),
        (json!({"mode": "MPOL_PREFERRED"}), "local"),
        (json!({"mode": "MPOL_PREFERRED", "nodes": "0"}), "prefer:0"),
        (json!({"mode": "MPOL_PREFERRED_MANY", "nodes": "0"}), "prefer (many):0"),
        (json!({"mode": "MPOL_BIND", "nodes": "0"}), "bind:0"),
        (json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_NUMA_BALANCING"]}), "bind=balancing:0"),
        (json!({"mode": "MPOL_INTERLEAVE", "nodes": "0-0", "flags": ["MPOL_F_STATIC_NODES"]}), "interleave=static:0"),
        (json!({"mode": "MPOL_INTERLEAVE", "nodes": "0", "flags": ["MPOL_F_RELATIVE_NODES"]}), "interleave=relative:0"),
        (json!({"mode": "MPOL_WEIGHTED_INTERLEAVE", "nodes": "0"}), "weighted interleave:0"),
    ] {
        let mut bundle = Bundle::sleeping();
        set(&mut bundle, "linux", "memoryPolicy", &policy);
        let id = bundle.running();
        for pid in ["1", "self"] {
            let said = bundle.exec(&id, &format!("head -n 1 /proc/{pid}/numa_maps"));
            assert!(said.contains(&format!(" {expected} ")), "{policy}: {said}");
        }
        bundle.end(&id);
    }
    let mut bundle = Bundle::new("true");
    set(&mut bundle, "linux", "memoryPolicy", &json!({"mode": "MPOL_BIND", "nodes": "1000"}));
    let id = bundle.id();
    let said = bundle.orlop(&["run", &id]).fails();
    assert!(said.contains("error setting the memory policy") && said.contains("invalid argument"), "{said}");
    bundle.assert_nothing_of(&id);
}

#[test]
fn flags_of_the_personality_are_set_for_the_program_and_for_exec() {
    need_root!();
    let mut bundle = Bundle::sleeping();
    let flags = ["ADDR_NO_RANDOMIZE", "UNAME26", "WHOLE_SECONDS"];
    set(&mut bundle, "linux", "personality", &json!({"domain": "LINUX", "flags": flags}));
    let id = bundle.running();
    assert_eq!(bundle.exec(&id, "cat /proc/1/personality /proc/self/personality"), "02060000\n02060000\n");
}

#[test]
fn exec_begins_on_some_processors_and_ends_on_others() {
    need_root!();
    let online = std::thread::available_parallelism().unwrap().get();
    if online < 2 {
        skip!("this machine has one processor");
    }
    let mut bundle = Bundle::sleeping();
    bundle.config["process"]["execCPUAffinity"] = json!({"initial": "0", "final": "1"});
    let id = bundle.running();
    let said = bundle.exec(&id, "grep Cpus_allowed_list /proc/self/status /proc/1/status");
    assert!(said.starts_with("/proc/self/status:Cpus_allowed_list:\t1\n"), "{said}");
    assert!(!said.ends_with(":\t1\n") && !said.ends_with(":\t0\n"), "the first process is not meant: {said}");
    bundle.config["process"]["execCPUAffinity"] = json!({"initial": "1"});
    let id = bundle.running();
    assert!(bundle.exec(&id, "grep Cpus_allowed_list /proc/self/status").ends_with(":\t1\n"));
}

#[test]
fn exec_takes_all_of_it_from_its_own_process_file() {
    need_root!();
    let bundle = Bundle::sleeping();
    let id = bundle.running();
    let mut process = bundle.config["process"].clone();
    let fields = json!({
        "args": ["sh", "-c", "awk '{ print $19, $41 }' /proc/self/stat; ionice -p $$; cat /proc/self/oom_score_adj; ulimit -n; umask; id -G"],
        "scheduler": {"policy": "SCHED_BATCH", "nice": 9},
        "ioPriority": {"class": "IOPRIO_CLASS_IDLE", "priority": 0},
        "oomScoreAdj": 600,
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 88}],
        "user": {"uid": 7, "gid": 8, "additionalGids": [9], "umask": 0o27},
    });
    process.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let file = bundle.temp().join("process.json");
    std::fs::write(&file, process.to_string()).unwrap();
    let said = bundle.orlop(&["exec", "--process", file.to_str().unwrap(), &id]).ok();
    assert_eq!(said, "9 3\nidle\n600\n77\n0027\n8 9\n");
}

#[test]
fn more_mounts_than_the_usual_limit_of_descriptors_work_in_a_user_namespace() {
    need_root!();
    let mut bundle = Bundle::new("ulimit -Sn; ulimit -Hn; grep -c ' /dev/m[0-9]' /proc/self/mountinfo");
    bundle.user_namespace(100_000);
    let source = bundle.temp().join("source");
    std::fs::write(&source, "").unwrap();
    for number in 0..1100 {
        bundle.mount(&format!("/dev/m{number}"), "bind", source.to_str().unwrap(), &["bind"]);
    }
    let run = |bundle: &Bundle, limits: &str| {
        let script = format!("{limits}; exec \"$0\" \"$@\"");
        let orlop = bundle.command(&["run", &bundle.id()]);
        let mut shell = std::process::Command::new("/bin/sh");
        shell.arg("-c").arg(script).arg(orlop.get_program()).args(orlop.get_args()).current_dir(bundle.path());
        bundle.finish(shell)
    };
    // What is configured is what the program gets; else it has the caller's limits.
    bundle.config["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]);
    assert_eq!(run(&bundle, "ulimit -Sn 1024; ulimit -Hn 5000").ok(), "100\n200\n1100\n");
    bundle.config["process"].as_object_mut().unwrap().remove("rlimits");
    assert_eq!(run(&bundle, "ulimit -Sn 1024; ulimit -Hn 5000").ok(), "1024\n5000\n1100\n");
    let done = run(&bundle, "ulimit -Sn 1024; ulimit -Hn 1024");
    let wanted = "the mounts of config.json need RLIMIT_NOFILE";
    assert!(done.code == 0 || done.stderr.contains(wanted), "{done:?}");
}

#[test]
fn a_small_limit_of_descriptors_or_file_size_is_the_programs_and_not_that_of_the_mounting() {
    need_root!();
    let mut bundle = Bundle::writable(
        "ulimit -Sn; ulimit -Hn; ulimit -f; grep -c ' /dev/m[0-9]' /proc/self/mountinfo; wc -c </full/file",
    );
    std::fs::create_dir(bundle.rootfs().join("full")).unwrap();
    std::fs::write(bundle.rootfs().join("full/file"), [7; 4096]).unwrap();
    bundle.user_namespace(100_000);
    let source = bundle.temp().join("source");
    std::fs::write(&source, "").unwrap();
    for number in 0..30 {
        bundle.mount(&format!("/dev/m{number}"), "bind", source.to_str().unwrap(), &["bind"]);
    }
    bundle.mount("/full", "tmpfs", "tmpfs", &["tmpcopyup"]);
    bundle.config["process"]["rlimits"] = json!([
        {"type": "RLIMIT_NOFILE", "soft": 20, "hard": 20},
        {"type": "RLIMIT_FSIZE", "soft": 512, "hard": 512},
    ]);
    assert_eq!(bundle.run().ok(), "20\n20\n1\n30\n4096\n");
}
