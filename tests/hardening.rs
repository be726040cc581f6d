//! What a careless or hostile caller, image or configuration must not be able to do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Also in the functions that the tests share.

mod common;

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::Bundle;
use serde_json::json;

/// Runs a shell script with `$0` as orlop and `$1` as the state root, in the bundle; gives up after ten seconds.
fn shell(bundle: &Bundle, script: &str) -> common::Done {
    let orlop = bundle.command(&[]);
    let mut command = Command::new("timeout");
    command.args(["-s", "KILL", "10", "sh", "-c", script]).arg(orlop.get_program()).arg(bundle.root());
    command.current_dir(bundle.path()).stdin(Stdio::null());
    bundle.finish(command)
}

#[test]
fn a_private_root_does_not_unmount_what_the_host_has_mounted() {
    need_root!();
    for word in ["private", "slave", "rprivate", "shared", "unbindable"] {
        let mut bundle = Bundle::new("true");
        bundle.config["linux"]["rootfsPropagation"] = json!(word);
        let script = format!(
            "unshare -m --propagation private sh -c '
                mount -t tmpfs m {0} && mount --make-shared {0} && mkdir {0}/sub && mount -t tmpfs s {0}/sub
                \"$0\" --root \"$1\" run {1} && mountpoint -q {0}/sub && echo kept' \"$0\" \"$1\"",
            bundle.temp().join(".").display(),
            bundle.id()
        );
        // The folder for the output is the one that is mounted over, so another one is used.
        let script = script.replace(&bundle.temp().join(".").display().to_string(), "/mnt");
        assert_eq!(shell(&bundle, &script).ok(), "kept\n", "{word}");
    }
}

#[test]
fn a_default_device_that_the_user_binds_is_the_users() {
    need_root!();
    let mut bundle = Bundle::new("stat -c %t:%T /dev/random");
    let mount = json!({"destination": "/dev/random", "source": "/dev/urandom", "type": "bind", "options": ["bind"]});
    bundle.config["mounts"].as_array_mut().unwrap().push(mount);
    assert_eq!(bundle.run().ok(), "1:9\n");
}

#[test]
fn an_ignored_sigchld_of_the_caller_changes_nothing() {
    need_root!();
    let mut bundle = Bundle::new("grep SigIgn /proc/self/status; exit 3");
    let hook = json!({"path": "/bin/true", "timeout": 5});
    bundle.config["hooks"] = json!({"createRuntime": [hook]});
    let script = format!("trap '' CHLD PIPE USR1; \"$0\" --root \"$1\" run {}", bundle.id());
    let done = shell(&bundle, &script);
    assert_eq!((done.code, done.stdout.as_str()), (3, "SigIgn:\t0000000000000000\n"), "{done:?}");
}

#[test]
fn input_that_nobody_reads_does_not_stop_the_container() {
    need_root!();
    let mut bundle = Bundle::new("sleep 1; echo done");
    bundle.config["process"]["terminal"] = json!(true);
    let script = format!("yes | \"$0\" --root \"$1\" run {} | tail -n 1", bundle.id());
    let begin = Instant::now();
    assert!(shell(&bundle, &script).stdout.contains("done"));
    assert!(begin.elapsed() < Duration::from_secs(9));
}

#[test]
fn output_that_nobody_reads_does_not_stop_signals() {
    need_root!();
    let mut bundle = Bundle::new("trap 'exit 7' TERM; yes");
    bundle.config["process"]["terminal"] = json!(true);
    bundle.config["process"]["args"] = json!(["sh", "-c", "yes & trap 'exit 7' TERM; wait"]);
    let script = format!(
        "mkfifo ../temp/stuck; sleep 5 <>../temp/stuck & exec 4<>../temp/stuck
         \"$0\" --root \"$1\" run {0} >../temp/stuck & run=$!
         until \"$0\" --root \"$1\" state {0} 2>/dev/null | grep -q running; do sleep 0.1; done
         sleep 0.5; kill -TERM $run; until \"$0\" --root \"$1\" ps -f json {0} | grep -q '\\[\\]'; do sleep 0.1; done; echo ended
         cat <&4 >/dev/null & wait $run; kill %1 %3",
        bundle.id()
    );
    bundle.temp();
    assert!(shell(&bundle, &script).stdout.contains("ended"));
}

#[test]
fn the_environment_of_a_process_is_not_for_other_users() {
    need_root!();
    let bundle = Bundle::new("sleep 100");
    let id = bundle.id();
    bundle.orlop(&["create", &id]).ok();
    let mode =
        |name: &str| std::fs::metadata(bundle.root().join(&id).join(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!([mode("config.json"), mode("state.json"), mode("exec.fifo")], [0o600; 3]);
    assert_eq!(std::fs::metadata(bundle.root()).unwrap().permissions().mode() & 0o7777, 0o700);
}

#[test]
fn a_long_state_does_not_hang_a_hook_that_reads_none() {
    need_root!();
    let mut bundle = Bundle::new("true");
    bundle.config["annotations"] = json!({"long": "x".repeat(200_000)});
    bundle.config["hooks"] = json!({"createRuntime": [{"path": "/bin/sleep", "args": ["sleep", "60"], "timeout": 1}]});
    let begin = Instant::now();
    assert!(bundle.run().fails().contains("timeout"));
    assert!(begin.elapsed() < Duration::from_secs(8));
}

#[test]
fn exec_makes_no_directories() {
    need_root!();
    let bundle = Bundle::new("sleep 100");
    let id = bundle.id();
    bundle.orlop(&["run", "-d", &id]).ok();
    let done = bundle.orlop(&["exec", "--cwd", "/dev/shm/none/x", &id, "true"]);
    assert!(done.stderr.contains("chdir to cwd (\"/dev/shm/none/x\") set in config.json failed"), "{done:?}");
    assert_ne!(bundle.orlop(&["exec", &id, "ls", "/dev/shm/none"]).code, 0);
}

#[test]
fn a_moved_root_leaves_no_procfs_of_the_host_beneath() {
    need_root!();
    // The kernel lets a user namespace mount a procfs if another is visible somewhere, unmasked.
    let bundle = Bundle::writable("mkdir /new; unshare -Urmpf mount -t proc none /new 2>/dev/null || echo refused");
    bundle.temp();
    let script = format!(
        "unshare -m --propagation private sh -c '
            mkdir ../temp/proc && mount -t proc p ../temp/proc && \"$0\" --root \"$1\" run --no-pivot {}' \"$0\" \"$1\"",
        bundle.id()
    );
    assert_eq!(shell(&bundle, &script).ok(), "refused\n");
}

/// Everything of files that a process runs from can be read alone: its executable, and each file that it has mapped.
fn assert_runs_from_a_read_only_place(pid: i64) {
    assert_out_of_reach(pid);
    let proc = std::path::PathBuf::from(format!("/proc/{pid}"));
    assert_eq!(std::fs::read_to_string(proc.join("comm")).unwrap(), "orlop\n");
    assert!(std::fs::read(proc.join("cmdline")).unwrap().windows(6).any(|word| word == b"orlop\0"));
}

fn assert_out_of_reach(pid: i64) {
    use nix::sys::statvfs::{FsFlags, statvfs};
    let proc = std::path::PathBuf::from(format!("/proc/{pid}"));
    let maps = std::fs::read_to_string(proc.join("maps")).unwrap();
    let mapped = std::fs::read_dir(proc.join("map_files")).unwrap().map(|entry| entry.unwrap().path());
    let files: Vec<_> = mapped.chain([proc.join("exe")]).collect();
    assert!(files.len() > 1, "{maps}");
    for file in files {
        assert!(statvfs(&file).unwrap().flags().contains(FsFlags::ST_RDONLY), "{file:?}\n{maps}");
        // To open it for writing fails with ETXTBSY already; without the mount that would end with the process.
    }
}

#[test]
fn what_enters_the_container_runs_from_a_read_only_place_and_keeps_its_name() {
    need_root!();
    let bundle = Bundle::sleeping();
    assert_runs_from_a_read_only_place(bundle.pid(&bundle.created()));
    let mut bundle = Bundle::sleeping();
    bundle.user_namespace(100_000);
    assert_runs_from_a_read_only_place(bundle.pid(&bundle.created()));
}

/// `create` where prctl(2) with `PR_SET_MM` and one of these options is refused.
#[allow(unsafe_code, reason = "the filter is loaded in the command's own process, before it is executed")]
fn create_without(bundle: &Bundle, id: &str, options: &[i32]) -> common::Done {
    use seccompiler::{BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter};
    use std::os::unix::process::CommandExt;
    let condition = |index, value: i32| {
        SeccompCondition::new(index, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, value as u64).unwrap()
    };
    let rule = |option: &i32| {
        seccompiler::SeccompRule::new(vec![condition(0, libc::PR_SET_MM), condition(1, *option)]).unwrap()
    };
    let rules = [(libc::SYS_prctl, options.iter().map(rule).collect())].into_iter().collect();
    let refused = SeccompAction::Errno(libc::EPERM as u32);
    let arch = std::env::consts::ARCH.try_into().unwrap();
    let filter: BpfProgram =
        SeccompFilter::new(rules, SeccompAction::Allow, refused, arch).unwrap().try_into().unwrap();
    let mut command = bundle.command(&["create", id]);
    // SAFETY: the filter has been made; to load it takes two system calls.
    unsafe {
        command.pre_exec(move || seccompiler::apply_filter(&filter).map_err(|_| std::io::Error::last_os_error()))
    };
    bundle.finish(command)
}

#[test]
fn where_a_process_cannot_name_its_executable_the_runtime_runs_from_a_read_only_place() {
    need_root!();
    let bundle = Bundle::sleeping();
    let id = bundle.id();
    create_without(&bundle, &id, &[libc::PR_SET_MM_EXE_FILE, libc::PR_SET_MM_MAP]).ok();
    assert_runs_from_a_read_only_place(bundle.pid(&id));
}

#[test]
fn a_mount_on_the_binary_itself_is_not_overlooked() {
    need_root!();
    let bundle = Bundle::sleeping();
    let (program, id) = (env!("CARGO_BIN_EXE_orlop"), bundle.id());
    let place = bundle.temp().join("place");
    std::fs::create_dir(&place).unwrap();
    drop(bundle.command(&[]));
    // The same program twice: in a read-only place, and on top of that one that can be written to.
    let line = "set -e; mount -t tmpfs none \"$2\"; cp \"$1\" \"$2\"; mount -o remount,ro \"$2\"; cp \"$1\" \"$3\"
        mount --bind \"$3\" \"$2/orlop\"; \"$2/orlop\" --root \"$4\" create -b \"$5\" \"$6\"";
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", line, "sh", program]).arg(&place).arg(bundle.temp().join("on-top"));
    command.arg(bundle.root()).arg(bundle.path()).arg(&id).stdin(Stdio::null());
    bundle.finish(command).ok();
    assert_out_of_reach(bundle.pid(&id));
}

#[test]
fn by_whatever_path_it_is_executed_the_runtime_runs_from_a_read_only_place() {
    need_root!();
    let bundle = Bundle::sleeping();
    let program = env!("CARGO_BIN_EXE_orlop");
    let link = bundle.temp().join("link");
    std::os::unix::fs::symlink(program, &link).unwrap();
    let here = bundle.temp().join("orlop");
    common::copy_program(program, &here);
    let here = here.to_str().unwrap();
    // Writes config.json.
    drop(bundle.command(&[]));
    for (path, prepare) in [
        (program, String::new()),
        (link.to_str().unwrap(), String::new()),
        ("/proc/self/fd/9", format!("exec 9<{program}")),
        ("./orlop", format!("cd {}", bundle.temp().display())),
        ("orlop", format!("PATH={}", bundle.temp().display())),
        (here, String::new()),
    ] {
        let id = bundle.id();
        let root = bundle.root();
        let line = format!("{prepare}\n{path} --root {} create -b {} {id}", root.display(), bundle.path().display());
        let mut command = Command::new("sh");
        command.args(["-c", &line]).stdin(Stdio::null());
        bundle.finish(command).ok();
        assert_out_of_reach(bundle.pid(&id));
        bundle.orlop(&["delete", "--force", &id]).ok();
    }
}

#[test]
fn a_binary_that_only_its_owner_may_execute_makes_user_namespaces() {
    need_root!();
    let mut bundle = Bundle::new("echo fine");
    bundle.user_namespace(100_000);
    let program = bundle.temp().join("orlop");
    common::copy_program(env!("CARGO_BIN_EXE_orlop"), &program);
    std::os::unix::fs::chown(&program, Some(1234), Some(1234)).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
    let plain = bundle.command(&["run", &bundle.id()]);
    let mut command = Command::new(&program);
    command.args(plain.get_args()).current_dir(bundle.path()).stdin(Stdio::null());
    assert_eq!(bundle.finish(command).ok(), "fine\n");
}

#[test]
fn a_limit_of_descriptors_just_above_the_runtimes_own_is_enough() {
    need_root!();
    let bundle = Bundle::new("echo fine");
    for most in [511, 512, 513, 514, 515] {
        let done = shell(&bundle, &format!("ulimit -S -n {most}; \"$0\" --root \"$1\" run {}-{most}", bundle.id()));
        assert_eq!(done.ok(), "fine\n", "{most}");
    }
}
