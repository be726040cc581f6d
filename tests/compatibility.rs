//! What programs that were written for runc rely on beyond the specification: words, their order, and ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Also in the functions that the tests share.

mod common;

use std::os::unix::fs::PermissionsExt;

use common::Bundle;
use common::actions::{eventually, is_alive};
use serde_json::json;

#[test]
fn without_a_terminal_of_its_own_run_prints_newlines_as_they_were_written() {
    need_root!();
    let mut bundle = Bundle::new("echo one; echo two");
    bundle.config["process"]["terminal"] = json!(true);
    assert_eq!(bundle.run().ok(), "one\ntwo\n");
}

#[test]
fn signal_zero_asks_whether_a_container_runs() {
    need_root!();
    let bundle = Bundle::sleeping();
    let id = bundle.running();
    bundle.orlop(&["kill", &id, "0"]).ok();
    bundle.orlop(&["kill", &id, "KILL"]).ok();
    bundle.wait_for(&id, "stopped");
    assert!(bundle.orlop(&["kill", &id, "0"]).fails().contains("container not running"));
}

#[test]
fn kill_reaches_what_has_outlived_the_first_process_of_a_shared_pid_namespace() {
    need_root!();
    let mut bundle = Bundle::new("sleep 300 & sleep 300 & wait");
    bundle.without_namespace("pid");
    let id = bundle.running();
    let pids = eventually("three processes", || {
        let pids: Vec<i64> = serde_json::from_str(&bundle.orlop(&["ps", "-f", "json", &id]).ok()).unwrap();
        (pids.len() == 3).then_some(pids)
    });
    let init = bundle.pid(&id);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(init as i32), nix::sys::signal::Signal::SIGKILL).unwrap();
    bundle.wait_for(&id, "stopped");
    assert!(pids.iter().any(|pid| is_alive(*pid)), "{pids:?}");
    bundle.orlop(&["kill", &id, "KILL"]).ok();
    eventually("all are dead", || pids.iter().all(|pid| !is_alive(*pid)).then_some(()));
}

#[test]
fn a_created_container_can_be_ended_with_sigterm() {
    need_root!();
    let bundle = Bundle::sleeping();
    let id = bundle.created();
    bundle.orlop(&["kill", &id, "TERM"]).ok();
    bundle.wait_for(&id, "stopped");
}

#[test]
fn a_program_that_cannot_be_executed_is_told_in_one_bare_line() {
    need_root!();
    let mut bundle = Bundle::new("");
    std::fs::write(bundle.rootfs().join("script"), "#!/no/such/interpreter\n").unwrap();
    std::fs::set_permissions(bundle.rootfs().join("script"), std::fs::Permissions::from_mode(0o755)).unwrap();
    bundle.args(&["/script"]);
    assert_eq!(bundle.run().fails(), "exec /script: no such file or directory\n");
}

#[test]
fn events_are_lines_that_begin_with_type_and_id() {
    need_root!();
    let bundle = Bundle::sleeping();
    let id = bundle.running();
    let line = bundle.orlop(&["events", "--stats", &id]).ok();
    assert!(line.starts_with(&format!("{{\"type\":\"stats\",\"id\":\"{id}\",\"data\":{{")), "{line}");
}

#[test]
fn a_process_file_may_be_a_descriptor_of_the_caller() {
    need_root!();
    let bundle = Bundle::sleeping();
    let id = bundle.running();
    let file = bundle.temp().join("process.json");
    std::fs::write(&file, json!({ "args": ["echo", "from there"], "cwd": "/" }).to_string()).unwrap();
    let done = bundle.redirected(&format!("5<{}", file.display()), &["exec", "--process", "/dev/fd/5", &id]);
    assert_eq!(done.ok(), "from there\n");
}

#[test]
fn a_root_that_is_named_and_missing_cannot_be_listed() {
    let done = std::process::Command::new(env!("CARGO_BIN_EXE_orlop"))
        .args(["--root", "/no/such/root", "list"])
        .output()
        .unwrap();
    assert!(!done.status.success());
    assert!(String::from_utf8_lossy(&done.stderr).contains("/no/such/root: no such file or directory"), "{done:?}");
}

#[test]
fn help_begins_with_the_name_of_the_command() {
    for (args, name) in
        [(&["--help"][..], "orlop - "), (&["run", "-h"], "orlop run - "), (&["kill", "--help"], "orlop kill - ")]
    {
        let done = std::process::Command::new(env!("CARGO_BIN_EXE_orlop")).args(args).output().unwrap();
        let text = String::from_utf8(done.stdout).unwrap();
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("NAME:"), "{text}");
        assert!(lines.next().unwrap().trim_start().starts_with(name), "{text}");
    }
    let done = std::process::Command::new(env!("CARGO_BIN_EXE_orlop")).args(["nonsense", "-h"]).output().unwrap();
    assert!(!done.status.success());
    assert!(String::from_utf8_lossy(&done.stderr).contains("No help topic for 'nonsense'"), "{done:?}");
}

#[test]
fn a_start_container_hook_without_an_environment_has_that_of_the_process() {
    need_root!();
    let mut bundle = Bundle::writable("true");
    bundle.config["process"]["env"] = json!(["PATH=/bin", "ONE=two"]);
    bundle.config["hooks"]["startContainer"] =
        json!([{ "path": "/bin/sh", "args": ["sh", "-c", "echo $ONE $HOME >/said"] }]);
    bundle.run().ok();
    assert_eq!(std::fs::read_to_string(bundle.rootfs().join("said")).unwrap(), "two /\n");
}

#[test]
fn what_a_failing_hook_has_written_is_quoted() {
    need_root!();
    for kind in ["createRuntime", "createContainer", "startContainer", "poststart"] {
        let mut bundle = Bundle::new("sleep 60");
        bundle.config["hooks"][kind] = json!([
            { "path": "/bin/sh", "args": ["sh", "-c", "echo of the first"] },
            { "path": "/bin/sh", "args": ["sh", "-c", "echo out; echo err >&2; exit 1"] },
        ]);
        let said = bundle.run().fails();
        assert!(said.contains(&format!("error running {kind} hook #1: ")), "{said}");
        assert!(said.contains("output: out\nerr") && !said.contains("of the first"), "{said}");
    }
}

#[test]
fn a_path_that_is_masked_twice_is_covered_once() {
    need_root!();
    let mut bundle = Bundle::new("grep -c ' /dev/shm ' /proc/self/mounts");
    bundle.config["linux"]["maskedPaths"] = json!(["/dev/shm", "/dev//shm/", "/dev/shm"]);
    // The mount itself, and its cover.
    assert_eq!(bundle.run().ok(), "2\n");
}

#[test]
fn a_destination_that_begins_with_the_path_of_the_root_is_taken_from_there() {
    need_root!();
    let mut bundle = Bundle::writable("awk '$2 == \"/place\" { print $3 }' /proc/self/mounts");
    let place = bundle.rootfs().join("place");
    bundle.mount(place.to_str().unwrap(), "tmpfs", "tmpfs", &[]);
    assert_eq!(bundle.run().ok(), "tmpfs\n");
}

#[test]
fn a_source_below_the_root_shows_what_earlier_mounts_have_put_there() {
    need_root!();
    for user_namespace in [false, true] {
        let mut bundle = Bundle::writable("cat /final/file");
        let source = bundle.temp().join("source");
        std::fs::create_dir_all(&source).unwrap();
        std::fs::write(source.join("file"), "mounted earlier\n").unwrap();
        std::fs::create_dir_all(bundle.rootfs().join("first")).unwrap();
        if user_namespace {
            bundle.user_namespace(100_000);
        }
        bundle.mount("/first", "bind", source.to_str().unwrap(), &["bind"]);
        let first = bundle.rootfs().join("first");
        bundle.mount("/final", "bind", first.to_str().unwrap(), &["rbind"]);
        assert_eq!(bundle.run().ok(), "mounted earlier\n", "user namespace: {user_namespace}");
    }
}

/// The options of /place in the container, a bind of a tmpfs with those flags on the host, or the error.
fn flags_of_bind(host: &str, options: &[&str], user_namespace: bool) -> Result<String, String> {
    let mut bundle = Bundle::writable("awk '$2 == \"/place\" { print $4 }' /proc/self/mounts");
    let source = bundle.temp().join("source");
    std::fs::create_dir_all(&source).unwrap();
    if user_namespace {
        bundle.user_namespace(100_000);
    }
    bundle.mount("/place", "bind", source.to_str().unwrap(), options);
    let id = bundle.id();
    let run = bundle.command(&["run", &id]);
    let script = format!(
        "mount -t tmpfs -o strictatime tmpfs {0} && mount -o remount,bind,{host} {0} && exec \"$0\" \"$@\"",
        source.display()
    );
    let mut unshare = std::process::Command::new("unshare");
    unshare.args(["--mount", "sh", "-c", &script]).arg(run.get_program()).args(run.get_args());
    unshare.current_dir(bundle.path()).stdin(std::process::Stdio::null());
    let done = bundle.finish(unshare);
    if done.code == 0 { Ok(done.stdout.trim().to_owned()) } else { Err(done.stderr) }
}

#[test]
fn a_bind_has_the_flags_of_its_source_or_exactly_those_of_its_options() {
    need_root!();
    let has = |flags: &str, flag: &str| flags.split(',').any(|one| one == flag);
    let kept = flags_of_bind("ro,nosuid,noexec", &["bind"], false).unwrap();
    assert!(["ro", "nosuid", "noexec"].iter().all(|flag| has(&kept, flag)), "{kept}");
    let exact = flags_of_bind("ro,nosuid,noatime", &["bind", "nodev"], false).unwrap();
    assert!(has(&exact, "rw") && has(&exact, "nodev") && !has(&exact, "nosuid"), "{exact}");
    assert!(has(&exact, "noatime"), "access times are kept: {exact}");
    let other = flags_of_bind("noatime", &["bind", "relatime"], false).unwrap();
    assert!(has(&other, "relatime") && !has(&other, "noatime"), "{other}");
}

#[test]
fn in_a_user_namespace_a_bind_cannot_take_away_what_its_source_has() {
    need_root!();
    let has = |flags: &str, flag: &str| flags.split(',').any(|one| one == flag);
    let more = flags_of_bind("nosuid,nodev", &["bind", "ro"], true).unwrap();
    assert!(["ro", "nosuid", "nodev"].iter().all(|flag| has(&more, flag)), "{more}");
    for (host, options) in [("ro", ["bind", "rw"]), ("nosuid", ["bind", "suid"]), ("noatime", ["bind", "strictatime"])]
    {
        let said = flags_of_bind(host, &options, true).unwrap_err();
        assert!(said.contains("error mounting") && said.contains("operation not permitted"), "{host}: {said}");
    }
}

#[test]
fn the_affinity_of_the_caller_does_not_reach_the_container() {
    need_root!();
    let count = std::thread::available_parallelism().unwrap().get();
    if count < 2 {
        skip!("needs two processors");
    }
    let bundle = Bundle::sleeping();
    let id = bundle.running();
    let restricted = |args: &[&str]| {
        let orlop = bundle.command(args);
        let mut taskset = std::process::Command::new(common::BUSYBOX);
        taskset.args(["taskset", "1"]).arg(orlop.get_program()).args(orlop.get_args());
        taskset.current_dir(bundle.path()).stdin(std::process::Stdio::null());
        bundle.finish(taskset)
    };
    let said = restricted(&["exec", &id, "nproc"]).ok();
    assert_ne!(said, "1\n");
}

#[test]
fn ambient_capabilities_that_cannot_be_raised_are_named() {
    need_root!();
    let mut bundle = Bundle::new("true");
    bundle.config["process"]["capabilities"]["inheritable"] = json!(["CAP_KILL"]);
    bundle.config["process"]["capabilities"]["ambient"] = json!(["CAP_KILL", "CAP_CHOWN"]);
    let done = bundle.run();
    assert!(done.stderr.contains("can't raise ambient capability CAP_CHOWN: "), "{done:?}");
    assert!(!done.stderr.contains("capability CAP_KILL"), "{done:?}");
    done.ok();
}

#[test]
fn debug_tells_the_flags_of_the_seccomp_filter() {
    need_root!();
    let mut bundle = Bundle::new("true");
    bundle.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "flags": ["SECCOMP_FILTER_FLAG_LOG"],
        "syscalls": [{ "names": ["swapon"], "action": "SCMP_ACT_ERRNO" }],
    });
    let done = bundle.orlop(&["--debug", "run", &bundle.id()]);
    assert!(done.stderr.contains("msg=\"seccomp filter flags: 2\""), "{done:?}");
    done.ok();
}
