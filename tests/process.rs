//! What the program is given: config.md#process and #posix-process, config-linux.md#linux-process (runtime-spec 1.3).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Also in the functions that the tests share.

mod common;

use common::Bundle;
use serde_json::json;

/// Fields of /proc/self/status as one program of the container sees them.
const STATUS: &str = "grep -E '^(Cap|NoNewPrivs|Groups|Seccomp:)' /proc/self/status";

fn set(mask: u64) -> String {
    format!("{mask:016x}")
}

#[test]
fn arguments_and_environment_arrive_as_they_are_written() {
    need_root!();
    let mut bundle = Bundle::new("");
    bundle.args(&["sh", "-c", "printf '<%s>' \"$@\"; env | sort", "zero", "", "two words", "ünï", "*", "$HOME"]);
    bundle.config["process"]["env"] = json!(["PATH=/bin", "A=1", "EMPTY=", "EQUALS=a=b", "A=2", "HOME=/h"]);
    let said = bundle.run().ok();
    let env = said.strip_prefix("<><two words><ünï><*><$HOME>").expect(&said);
    let env: Vec<_> = env.lines().filter(|line| !line.starts_with("PWD=") && !line.starts_with("SHLVL=")).collect();
    assert_eq!(env, ["A=2", "EMPTY=", "EQUALS=a=b", "HOME=/h", "PATH=/bin"]);
}

#[test]
fn the_program_is_looked_for_along_the_path_of_its_own_environment() {
    need_root!();
    use std::os::unix::fs::PermissionsExt;
    let mut bundle = Bundle::new("");
    for (dir, mode) in [("first", 0o644), ("second", 0o755), ("third", 0o755)] {
        let tool = bundle.rootfs().join(dir).join("tool");
        std::fs::create_dir(bundle.rootfs().join(dir)).unwrap();
        std::fs::write(&tool, format!("#!/bin/sh\necho {dir}\n")).unwrap();
        std::fs::set_permissions(&tool, PermissionsExt::from_mode(mode)).unwrap();
    }
    bundle.args(&["tool"]);
    bundle.config["process"]["env"] = json!(["PATH=/missing:/first:/second:/third"]);
    assert_eq!(bundle.run().ok(), "second\n");
    bundle.config["process"]["env"] = json!(["PATH=/first"]);
    assert!(bundle.run().fails().contains("exec: \"tool\": permission denied"));
    bundle.config["process"]["env"] = json!([]);
    bundle.args(&["sh", "-c", "echo found without PATH"]);
    assert_eq!(bundle.run().ok(), "found without PATH\n");
}

#[test]
fn a_program_with_a_slash_is_found_from_the_working_directory() {
    need_root!();
    let mut bundle = Bundle::new("");
    bundle.config["process"]["cwd"] = json!("/bin");
    bundle.args(&["./echo", "here"]);
    assert_eq!(bundle.run().ok(), "here\n");
}

#[test]
fn home_is_the_users_in_the_image_unless_it_is_set() {
    need_root!();
    let mut bundle = Bundle::new("echo $HOME");
    assert_eq!(bundle.run().ok(), "/\n");
    std::fs::create_dir(bundle.rootfs().join("etc")).unwrap();
    std::fs::write(bundle.rootfs().join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nann:x:1000:5::/home/ann:\n")
        .unwrap();
    assert_eq!(bundle.run().ok(), "/root\n");
    bundle.config["process"]["user"] = json!({ "uid": 1000, "gid": 5 });
    assert_eq!(bundle.run().ok(), "/home/ann\n");
    bundle.env("HOME=/elsewhere");
    assert_eq!(bundle.run().ok(), "/elsewhere\n");
}

#[test]
fn user_group_and_supplementary_groups_are_set() {
    need_root!();
    let mut bundle = Bundle::new("id -u; id -g; id -G");
    assert_eq!(bundle.run().ok(), "0\n0\n0\n");
    bundle.config["process"]["user"] = json!({ "uid": 1000, "gid": 1001, "additionalGids": [7, 1002] });
    assert_eq!(bundle.run().ok(), "1000\n1001\n1001 7 1002\n");
}

#[test]
fn the_umask_is_0022_unless_it_is_set() {
    need_root!();
    let mut bundle = Bundle::writable("umask; touch /dev/shm/file; stat -c %a /dev/shm/file");
    assert_eq!(bundle.run().ok(), "0022\n644\n");
    bundle.config["process"]["user"]["umask"] = json!(0o077);
    assert_eq!(bundle.run().ok(), "0077\n600\n");
}

#[test]
fn capabilities_are_those_of_the_configuration() {
    need_root!();
    let mut bundle = Bundle::new(STATUS);
    bundle.config["process"]["capabilities"] = json!({
        "bounding": ["CAP_KILL", "CAP_CHOWN", "CAP_SETUID"], "permitted": ["CAP_KILL", "CAP_CHOWN"],
        "effective": ["CAP_KILL", "CAP_CHOWN"], "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"],
    });
    let said = bundle.run().ok();
    // grep runs as root: the kernel gives it what is bounding.
    for (name, mask) in [("CapBnd", 1 << 5 | 1 | 1 << 7), ("CapInh", 1 << 5)] {
        assert!(said.contains(&format!("{name}:\t{}\n", set(mask))), "{name}: {said}");
    }
    bundle.config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    let said = bundle.run().ok();
    for (name, mask) in [
        ("CapBnd", 1 << 5 | 1 | 1 << 7),
        ("CapInh", 1 << 5),
        ("CapAmb", 1 << 5),
        ("CapEff", 1 << 5),
        ("CapPrm", 1 << 5),
    ] {
        assert!(said.contains(&format!("{name}:\t{}\n", set(mask))), "{name}: {said}");
    }
}

#[test]
fn without_capabilities_there_are_none() {
    need_root!();
    let mut bundle = Bundle::new(STATUS);
    bundle.config["process"].as_object_mut().unwrap().remove("capabilities");
    let said = bundle.run().ok();
    for name in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert!(said.contains(&format!("{name}:\t{}\n", set(0))), "{said}");
    }
}

#[test]
fn an_unknown_capability_is_a_warning() {
    need_root!();
    let mut bundle = Bundle::new("echo ran");
    bundle.capabilities(&["CAP_KILL", "CAP_OF_TOMORROW"]);
    let done = bundle.run();
    assert!(done.stderr.contains("level=warning") && done.stderr.contains("CAP_OF_TOMORROW"), "{done:?}");
    assert_eq!(done.ok(), "ran\n");
}

#[test]
fn an_unknown_field_is_told_in_a_log_file_by_debug_and_by_plan_and_not_to_a_program_that_reads_stderr() {
    need_root!();
    let mut bundle = Bundle::new("echo ran");
    bundle.config["process"]["tomorrow"] = json!(1);
    let done = bundle.run();
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("ran\n", ""));
    let words = "config.json: process.tomorrow: unknown field, ignored";
    assert!(bundle.orlop(&["--debug", "run", &bundle.id()]).stderr.contains(words));
    let log = bundle.temp().join("log");
    let done = bundle.orlop(&["--log", log.to_str().unwrap(), "run", &bundle.id()]);
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("ran\n", ""));
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(text.contains(&format!("level=warning msg={words:?}")), "{text}");
    assert!(bundle.orlop(&["plan"]).ok().contains(&format!("warning  {words}")));
}

#[test]
fn no_new_privs_is_as_the_configuration_says() {
    need_root!();
    let mut bundle = Bundle::new(STATUS);
    assert!(bundle.run().ok().contains("NoNewPrivs:\t1\n"));
    bundle.config["process"]["noNewPrivileges"] = json!(false);
    assert!(bundle.run().ok().contains("NoNewPrivs:\t0\n"));
}

#[test]
fn rlimits_are_set() {
    need_root!();
    let mut bundle = Bundle::new("ulimit -Sn; ulimit -Hn; ulimit -Sc; ulimit -Hs");
    bundle.config["process"]["rlimits"] = json!([
        { "type": "RLIMIT_NOFILE", "soft": 256, "hard": 512 },
        { "type": "RLIMIT_CORE", "soft": 0, "hard": 0 },
        { "type": "RLIMIT_STACK", "soft": 4_194_304, "hard": 8_388_608 },
    ]);
    assert_eq!(bundle.run().ok(), "256\n512\n0\n8192\n");
}

#[test]
fn rlimits_that_cannot_be_are_named() {
    need_root!();
    for (limits, place) in [
        (json!([{ "type": "RLIMIT_NOSUCH", "soft": 1, "hard": 1 }]), "process.rlimits[0].type"),
        (json!([{ "type": "RLIMIT_CORE", "soft": 2, "hard": 1 }]), "process.rlimits[0]"),
        (
            json!([{ "type": "RLIMIT_CORE", "soft": 1, "hard": 1 }, { "type": "RLIMIT_CORE", "soft": 1, "hard": 1 }]),
            "process.rlimits[1]",
        ),
    ] {
        let mut bundle = Bundle::new("true");
        bundle.config["process"]["rlimits"] = limits;
        let said = bundle.run().fails();
        assert!(said.contains(place), "{said}");
    }
}

#[test]
fn oom_score_adj_is_set_or_the_runtimes_own() {
    need_root!();
    let mut bundle = Bundle::new("cat /proc/self/oom_score_adj");
    assert_eq!(bundle.run().ok(), std::fs::read_to_string("/proc/self/oom_score_adj").unwrap());
    bundle.config["process"]["oomScoreAdj"] = json!(543);
    assert_eq!(bundle.run().ok(), "543\n");
    bundle.config["process"]["oomScoreAdj"] = json!(1001);
    assert!(bundle.run().fails().contains("process.oomScoreAdj"));
}

#[test]
fn scheduling_is_as_the_configuration_says() {
    need_root!();
    let mut bundle = Bundle::new("awk '{ print $19, $41 }' /proc/self/stat; ionice");
    bundle.config["process"]["scheduler"] = json!({ "policy": "SCHED_BATCH", "nice": 5 });
    bundle.config["process"]["ioPriority"] = json!({ "class": "IOPRIO_CLASS_BE", "priority": 6 });
    assert_eq!(bundle.run().ok(), "5 3\nbest-effort: prio 6\n");
}

#[test]
fn the_personality_is_that_of_the_configuration() {
    need_root!();
    let mut bundle = Bundle::new("uname -m");
    bundle.config["linux"]["personality"] = json!({ "domain": "LINUX32" });
    assert_eq!(bundle.run().ok(), "i686\n");
}

#[test]
fn no_signal_is_blocked_or_ignored() {
    need_root!();
    let program = ["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"];
    let mut bundle = Bundle::new("");
    bundle.args(&program);
    let sleeping = Bundle::sleeping();
    let id = sleeping.running();
    let exec = [&["exec", &id], &program[..]].concat();
    // What nohup(1) has this test ignore reaches the container.
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    let own = own.lines().find_map(|line| line.strip_prefix("SigIgn:\t")).unwrap();
    let nohup = u64::from_str_radix(own, 16).unwrap() & 0b11;
    for said in [bundle.run().ok(), sleeping.orlop(&exec).ok()] {
        for line in said.lines() {
            // The C library's posix_spawn leaves its own two signals, 32 and 33, ignored in the runtime.
            let mask = u64::from_str_radix(line.split('\t').nth(1).unwrap(), 16).unwrap() & !(0b11 << 31) & !nohup;
            assert_eq!(mask, 0, "{line}");
        }
    }
}

#[test]
fn the_program_leads_a_session_of_its_own() {
    need_root!();
    let mut bundle = Bundle::new("");
    bundle.args(&["awk", "{ print $1, $5, $6 }", "/proc/self/stat"]);
    assert_eq!(bundle.run().ok(), "1 1 1\n");
}

#[test]
fn standard_input_and_output_reach_the_program() {
    need_root!();
    use std::io::Write;
    use std::process::Stdio;
    let bundle = Bundle::new("sed 's/^/got /'; echo to stderr >&2");
    let mut command = bundle.command(&["run", &bundle.id()]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"one\ntwo\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((&*output.stdout, &*output.stderr), (&b"got one\ngot two\n"[..], &b"to stderr\n"[..]));
}

#[test]
fn a_user_can_open_its_standard_output_again() {
    need_root!();
    let mut bundle = Bundle::new("echo through dev >/dev/stdout; echo through fd >/proc/self/fd/1");
    bundle.config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    let said = bundle.run();
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stdout.contains("through"), "{said:?}");
}

#[test]
fn the_program_cannot_reach_the_runtimes_binary() {
    need_root!();
    // /proc/1/exe is the program's own, never orlop's; the runtime itself is not in the pid namespace.
    let bundle = Bundle::new("readlink /proc/1/exe; ls /proc | grep -cE '^[0-9]+$'");
    let said = bundle.run().ok();
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines[0], "/bin/busybox");
    assert!(lines[1].parse::<u32>().unwrap() <= 4, "{said}");
}

#[test]
fn a_seccomp_filter_is_in_force_for_the_program_and_for_exec() {
    need_root!();
    let mut bundle = Bundle::sleeping();
    bundle.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95 }],
    });
    for no_new_privs in [true, false] {
        bundle.config["process"]["noNewPrivileges"] = json!(no_new_privs);
        let id = bundle.running();
        let said = bundle.exec(&id, "mkdir /new 2>&1; grep Seccomp: /proc/self/status /proc/1/status");
        assert!(said.contains("Not supported") || said.contains("not supported"), "{said}");
        assert_eq!(said.matches("Seccomp:\t2").count(), 2, "{said}");
    }
}
