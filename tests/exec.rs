//! `exec`: another process in a running container, with every flag.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Also in the functions that the tests share.

mod common;

use std::io::Write;
use std::os::fd::AsFd;
use std::process::Stdio;

use common::actions::{eventually, is_alive, link};
use common::sockets::Receiver;
use common::{Bundle, cgroups_of};
use serde_json::json;

/// Every namespace of a process that a container can have.
const KINDS: [&str; 7] = ["pid", "mnt", "net", "uts", "ipc", "cgroup", "user"];

/// The pid that a container's process wrote into `/pid`, seen from the host: its only child in that cgroup.
fn other_pid(bundle: &Bundle, id: &str) -> i64 {
    let init = bundle.pid(id);
    eventually("another process", || {
        let pids: Vec<i64> = serde_json::from_str(&bundle.orlop(&["ps", "-f", "json", id]).ok()).unwrap();
        let sleeps =
            |pid: &&i64| std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default().starts_with(b"sleep\x0077");
        pids.iter().filter(|pid| **pid != init).find(sleeps).copied()
    })
}

#[test]
fn a_process_is_in_the_containers_namespaces_cgroup_and_root() {
    need_root!();
    let bundle = Bundle::sleeping();
    let id = bundle.running();
    bundle.orlop(&["exec", "--detach", &id, "sleep", "77"]).ok();
    let (init, other) = (bundle.pid(&id), other_pid(&bundle, &id));
    for kind in KINDS {
        assert_eq!(link(format!("/proc/{other}/ns/{kind}")), link(format!("/proc/{init}/ns/{kind}")), "{kind}");
    }
    let cgroup = |pid| std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert_eq!(cgroup(other), cgroup(init));
    assert_eq!(bundle.exec(&id, "hostname; ls -d /bin"), "orlop\n/bin\n");
}

#[test]
fn exec_gives_the_programs_exit_status() {
    need_root!();
    let bundle = Bundle::sleeping();
    let id = bundle.running();
    for code in [0, 7, 254] {
        assert_eq!(bundle.orlop(&["exec", &id, "sh", "-c", &format!("exit {code}")]).code, code);
    }
    assert_eq!(bundle.orlop(&["exec", &id, "sh", "-c", "kill -9 $$"]).code, 128 + 9);
}

#[test]
fn exec_fails_with_255_when_the_program_cannot_be_executed() {
    need_root!();
    let bundle = Bundle::sleeping();
    let id = bundle.running();
    let done = bundle.orlop(&["exec", &id, "missing"]);
    assert_eq!(done.code, 255);
    let said = "orlop: exec failed: unable to start container process: ";
    assert!(done.stderr.starts_with(said), "{done:?}");
    assert!(done.stderr.contains("exec: \"missing\": executable file not found in $PATH"), "{done:?}");
    let pids = bundle.orlop(&["ps", "-f", "json", &id]).ok();
    assert!(!pids.contains(',') || bundle.state(&id)["status"] == "running", "{pids}");
}

#[test]
fn a_process_has_the_configurations_environment_directory_and_limits() {
    need_root!();
    let mut bundle = Bundle::sleeping();
    bundle.env("FROM=config");
    bundle.config["process"]["cwd"] = json!("/bin");
    bundle.config["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 100, "hard": 200 }]);
    let id = bundle.running();
    let said =
        bundle.exec(&id, "echo $FROM; pwd; ulimit -Sn; ulimit -Hn; echo $HOME; grep NoNewPrivs /proc/self/status");
    assert_eq!(said, "config\n/bin\n100\n200\n/\nNoNewPrivs:\t1\n");
}

#[test]
fn env_adds_variables_and_overrides_those_of_the_configuration() {
    need_root!();
    let mut bundle = Bundle::sleeping();
    bundle.env("FROM=config");
    let id = bundle.running();
    let args = [
        "exec",
        "--env",
        "FROM=flag",
        "-e",
        "OTHER=a=b c",
        "-e",
        "HOME=/tmp",
        &id,
        "sh",
        "-c",
        "echo $FROM; echo $OTHER; echo $HOME",
    ];
    assert_eq!(bundle.orlop(&args).ok(), "flag\na=b c\n/tmp\n");
}

#[test]
fn cwd_is_where_the_program_runs() {
    need_root!();
    let bundle = Bundle::sleeping();
    let id = bundle.running();
    assert_eq!(bundle.orlop(&["exec", "--cwd", "/bin", &id, "pwd"]).ok(), "/bin\n");
    let done = bundle.orlop(&["exec", "--cwd", "/bin/sh", &id, "pwd"]);
    assert!(done.code == 255 && done.stderr.contains("not a directory"), "{done:?}");
}

#[test]
fn user_takes_a_uid_and_a_gid() {
    need_root!();
    let bundle = Bundle::sleeping();
    let id = bundle.running();
    let ids = "id -u; id -g; id -G";
    assert_eq!(bundle.orlop(&["exec", "--user", "1000", &id, "sh", "-c", ids]).ok(), "1000\n0\n0\n");
    assert_eq!(bundle.orlop(&["exec", "-u", "1000:1001", &id, "sh", "-c", ids]).ok(), "1000\n1001\n1001\n");
    for wrong in ["root", "1000:", "-1", "4294967295", "1:2:3"] {
        let done = bundle.orlop(&["exec", &format!("--user={wrong}"), &id, "id"]);
        assert!(done.code != 0 && done.stdout.is_empty() && done.stderr.contains(wrong), "{done:?}");
    }
}

#[test]
fn a_users_home_is_looked_up_in_the_image() {
    need_root!();
    let bundle = Bundle::sleeping();
    std::fs::create_dir(bundle.rootfs().join("etc")).unwrap();
    std::fs::write(
        bundle.rootfs().join("etc/passwd"),
        "root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n",
    )
    .unwrap();
    let id = bundle.running();
    for (user, home) in [("0", "/root\n"), ("1000", "/home/ann\n"), ("1001", "/\n")] {
        assert_eq!(bundle.orlop(&["exec", "--user", user, &id, "sh", "-c", "echo $HOME"]).ok(), home);
    }
}

#[test]
fn additional_gids_become_the_supplementary_groups() {
    need_root!();
    let mut bundle = Bundle::sleeping();
    bundle.config["process"]["user"]["additionalGids"] = json!([40]);
    let id = bundle.running();
    assert_eq!(bundle.orlop(&["exec", &id, "id", "-G"]).ok(), "0 40\n");
    assert_eq!(bundle.orlop(&["exec", "--additional-gids", "50", "-g", "60", &id, "id", "-G"]).ok(), "0 50 60\n");
}

#[test]
fn process_is_read_from_a_file() {
    need_root!();
    let bundle = Bundle::sleeping();
    let id = bundle.running();
    let file = bundle.temp().join("process.json");
    let process = json!({
        "user": { "uid": 5, "gid": 6 }, "cwd": "/bin", "env": ["PATH=/bin", "A=1"],
        "args": ["sh", "-c", "id -u; id -g; pwd; echo $A"],
    });
    std::fs::write(&file, process.to_string()).unwrap();
    let file = file.to_str().unwrap();
    assert_eq!(bundle.orlop(&["exec", "--process", file, &id]).ok(), "5\n6\n/bin\n1\n");
    assert_eq!(bundle.orlop(&["exec", "-p", file, &id]).ok(), "5\n6\n/bin\n1\n");
}

#[test]
fn a_process_file_with_a_mistake_is_named_with_its_place() {
    need_root!();
    let bundle = Bundle::sleeping();
    let id = bundle.running();
    let file = bundle.temp().join("process.json");
    std::fs::write(&file, r#"{ "cwd": "bin", "args": ["true"], "user": { "uid": 0, "gid": 0 } }"#).unwrap();
    let done = bundle.orlop(&["exec", "--process", file.to_str().unwrap(), &id]);
    assert!(
        done.code == 255 && done.stderr.contains("process.json") && done.stderr.contains("process.cwd"),
        "{done:?}"
    );
    let done = bundle.orlop(&["exec", "--process", "/no/such/file", &id]);
    assert!(done.code == 255 && done.stderr.contains("/no/such/file"), "{done:?}");
}

#[test]
fn exec_without_a_command_is_an_error() {
    need_root!();
    let bundle = Bundle::sleeping();
    let id = bundle.running();
    assert_ne!(bundle.orlop(&["exec", &id]).code, 0);
    assert_ne!(bundle.orlop(&["exec"]).code, 0);
}

#[test]
fn options_after_the_id_belong_to_the_program() {
    need_root!();
    let bundle = Bundle::sleeping();
    let id = bundle.running();
    assert_eq!(bundle.orlop(&["exec", &id, "echo", "-n", "--cwd", "--", "-e"]).ok(), "--cwd -- -e");
    assert_eq!(bundle.orlop(&["exec", &id, "echo", "--help"]).ok(), "--help\n");
}

#[test]
fn standard_input_reaches_the_program() {
    need_root!();
    let bundle = Bundle::sleeping();
    let id = bundle.running();
    let mut command = bundle.command(&["exec", &id, "sed", "s/^/got /"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"one\ntwo\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.stdout, b"got one\ngot two\n");
}

#[test]
fn signals_to_exec_go_to_its_process() {
    need_root!();
    let bundle = Bundle::sleeping();
    let id = bundle.running();
    let script = "trap 'exit 15' TERM; touch /ready; while :; do sleep 0.02; done";
    let mut child = bundle.spawn(&["exec", &id, "sh", "-c", script], "output");
    eventually("ready", || bundle.rootfs().join("ready").exists().then_some(()));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id() as i32), nix::sys::signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(15));
    assert_eq!(bundle.state(&id)["status"], "running");
}

#[test]
fn detach_returns_at_once_and_pid_file_names_the_process() {
    need_root!();
    let bundle = Bundle::sleeping();
    let id = bundle.running();
    let file = bundle.temp().join("pid");
    bundle.orlop(&["exec", "-d", "--pid-file", file.to_str().unwrap(), &id, "sleep", "77"]).ok();
    let pid: i64 = std::fs::read_to_string(&file).unwrap().parse().unwrap();
    assert!(is_alive(pid));
    assert_eq!(pid, other_pid(&bundle, &id));
    bundle.end(&id);
    assert!(!is_alive(pid));
}

#[test]
fn a_detached_exec_also_fails_when_the_program_cannot_be_executed() {
    need_root!();
    let bundle = Bundle::sleeping();
    let id = bundle.running();
    let done = bundle.orlop(&["exec", "--detach", &id, "missing"]);
    assert!(done.code == 255 && done.stderr.contains("executable file not found in $PATH"), "{done:?}");
}

#[test]
fn pidfd_socket_gets_a_pidfd_of_the_process() {
    need_root!();
    let bundle = Bundle::sleeping();
    let id = bundle.running();
    let receiver = Receiver::new(&bundle);
    bundle.orlop(&["exec", "-d", "--pidfd-socket", receiver.arg(), &id, "sleep", "77"]).ok();
    let (pidfd, _) = receiver.receive();
    assert_eq!(i64::from(orlop::sys::process::pid_of(pidfd.as_fd()).unwrap()), other_pid(&bundle, &id));
}

#[test]
fn no_new_privs_is_set_where_asked_for() {
    need_root!();
    let mut bundle = Bundle::sleeping();
    bundle.config["process"]["noNewPrivileges"] = json!(false);
    let id = bundle.running();
    let bits = ["grep", "NoNewPrivs", "/proc/self/status"];
    assert_eq!(bundle.orlop(&[&["exec", &id], &bits[..]].concat()).ok(), "NoNewPrivs:\t0\n");
    assert_eq!(bundle.orlop(&[&["exec", "--no-new-privs", &id], &bits[..]].concat()).ok(), "NoNewPrivs:\t1\n");
}

#[test]
fn cap_adds_capabilities() {
    need_root!();
    let mut bundle = Bundle::sleeping();
    bundle.capabilities(&["CAP_KILL"]);
    let id = bundle.running();
    let sets = ["grep", "-E", "Cap(Prm|Eff|Bnd|Amb)", "/proc/self/status"];
    let of = |flags: &[&str]| bundle.orlop(&[&["exec"], flags, &[id.as_str()], &sets[..]].concat()).ok();
    let expect =
        |mask: u32| format!("CapPrm:\t{mask:016x}\nCapEff:\t{mask:016x}\nCapBnd:\t{mask:016x}\nCapAmb:\t{:016x}\n", 0);
    assert_eq!(of(&[]), expect(1 << 5));
    assert_eq!(of(&["--cap", "CAP_NET_RAW", "-c", "CAP_CHOWN"]), expect(1 << 5 | 1 << 13 | 1));
    let done = bundle.orlop(&["exec", "--cap", "CAP_NOTHING", &id, "true"]);
    assert!(done.code == 255 && done.stderr.contains("CAP_NOTHING"), "{done:?}");
}

#[test]
fn a_processs_capabilities_go_when_its_user_is_not_root() {
    need_root!();
    let mut bundle = Bundle::sleeping();
    bundle.capabilities(&["CAP_KILL"]);
    let id = bundle.running();
    let said = bundle.orlop(&["exec", "--user", "1000", &id, "grep", "-E", "Cap(Eff|Bnd)", "/proc/self/status"]).ok();
    assert_eq!(said, format!("CapEff:\t{:016x}\nCapBnd:\t{:016x}\n", 0, 1 << 5));
}

#[test]
fn preserve_fds_passes_descriptors_and_no_others() {
    need_root!();
    let bundle = Bundle::sleeping();
    let id = bundle.running();
    let file = bundle.temp().join("three");
    std::fs::write(&file, "three\n").unwrap();
    let open = format!("3<{0} 4<{0} 5<{0}", file.display());
    let said = bundle
        .redirected(&open, &["exec", "--preserve-fds", "1", &id, "sh", "-c", "cat <&3; ls /proc/$$/fd; true"])
        .ok();
    assert_eq!(said.split_whitespace().collect::<Vec<_>>(), ["three", "0", "1", "2", "3"]);
    let said = bundle.redirected(&open, &["exec", &id, "sh", "-c", "ls /proc/$$/fd; true"]).ok();
    assert_eq!(said.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2"]);
    let done = bundle.orlop(&["exec", "--preserve-fds", "1", &id, "true"]);
    assert!(done.code == 255 && done.stderr.contains("file descriptor 3 is not open"), "{done:?}");
}

#[test]
fn ignore_paused_starts_a_process_that_goes_on_at_resume() {
    need_root!();
    let bundle = Bundle::sleeping();
    let id = bundle.running();
    bundle.orlop(&["pause", &id]).ok();
    let done = bundle.orlop(&["exec", &id, "true"]);
    assert!(done.code == 255 && done.stderr.contains("cannot exec in a paused container"), "{done:?}");
    let mut child = bundle.spawn(&["exec", "--ignore-paused", &id, "echo", "thawed"], "output");
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert!(child.try_wait().unwrap().is_none());
    bundle.orlop(&["resume", &id]).ok();
    assert!(child.wait().unwrap().success());
    assert_eq!(std::fs::read_to_string(bundle.temp().join("output")).unwrap(), "thawed\n");
}

#[test]
fn cgroup_puts_the_process_into_a_cgroup_below_the_containers() {
    need_root!();
    let bundle = Bundle::sleeping();
    let id = bundle.running();
    let dirs = cgroups_of(&id);
    for dir in &dirs {
        let below = dir.join("below");
        std::fs::create_dir(&below).unwrap();
        // A cpuset of v1 begins empty.
        for file in ["cpuset.cpus", "cpuset.mems"].map(|name| dir.join(name)).iter().filter(|file| file.exists()) {
            std::fs::write(below.join(file.file_name().unwrap()), std::fs::read(file).unwrap()).unwrap();
        }
    }
    let said = bundle.orlop(&["exec", "--cgroup", "/below", &id, "cat", "/proc/self/cgroup"]).ok();
    let below = said.lines().filter(|line| line.ends_with("/below")).count();
    assert!(below > 0 && below >= dirs.len(), "{said}");
    let done = bundle.orlop(&["exec", "--cgroup", "/missing", &id, "true"]);
    assert!(done.code == 255 && done.stderr.contains("missing"), "{done:?}");
    bundle.end(&id);
    bundle.assert_nothing_of(&id);
}

#[test]
fn a_sub_cgroup_cannot_lead_out_of_the_containers() {
    need_root!();
    let bundle = Bundle::sleeping();
    let id = bundle.running();
    let done = bundle.orlop(&["exec", "--cgroup", "../..", &id, "true"]);
    assert!(done.code == 255 && done.stderr.contains("../.."), "{done:?}");
}

#[test]
fn labels_of_an_absent_security_module_are_an_error() {
    need_root!();
    let bundle = Bundle::sleeping();
    let id = bundle.running();
    let is_on = |file: &str| std::path::Path::new(file).exists();
    if is_on("/sys/module/apparmor/parameters/enabled") || is_on("/sys/fs/selinux/enforce") {
        skip!("this host has AppArmor or SELinux");
    }
    for (flag, value) in [("--apparmor", "some-profile"), ("--process-label", "system_u:system_r:container_t:s0")] {
        let done = bundle.orlop(&["exec", flag, value, &id, "true"]);
        assert!(done.code == 255 && done.stderr.contains(value), "{done:?}");
    }
}

#[test]
fn flags_that_older_callers_pass_are_accepted() {
    need_root!();
    let bundle = Bundle::sleeping();
    let id = bundle.running();
    assert_eq!(bundle.orlop(&["exec", "--no-subreaper", &id, "echo", "x"]).ok(), "x\n");
}

#[test]
fn a_created_container_can_be_entered() {
    need_root!();
    let bundle = Bundle::sleeping();
    let id = bundle.created();
    assert_eq!(bundle.exec(&id, "echo early"), "early\n");
    assert_eq!(bundle.state(&id)["status"], "created");
}

#[test]
fn a_process_of_a_container_with_a_user_namespace_is_mapped() {
    need_root!();
    let mut bundle = Bundle::sleeping();
    bundle.user_namespace(100_000);
    let id = bundle.running();
    assert_eq!(
        bundle.exec(&id, "id -u; cat /proc/self/uid_map").split_whitespace().collect::<Vec<_>>(),
        ["0", "0", "100000", "65536"]
    );
    bundle.orlop(&["exec", "-d", "--user", "5:6", &id, "sleep", "77"]).ok();
    let status = std::fs::read_to_string(format!("/proc/{}/status", other_pid(&bundle, &id))).unwrap();
    assert!(status.contains("Uid:\t100005\t") && status.contains("Gid:\t100006\t"), "{status}");
}

#[test]
fn many_processes_enter_at_once() {
    need_root!();
    let bundle = Bundle::sleeping();
    let id = bundle.running();
    let mut children: Vec<_> =
        (0..8).map(|n| bundle.spawn(&["exec", &id, "echo", &n.to_string()], &format!("output-{n}"))).collect();
    for (n, child) in children.iter_mut().enumerate() {
        assert!(child.wait().unwrap().success());
        assert_eq!(std::fs::read_to_string(bundle.temp().join(format!("output-{n}"))).unwrap(), format!("{n}\n"));
    }
}
