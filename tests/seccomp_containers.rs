//! Containers under seccomp: what the program sees of each action, and a real agent that answers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Also in the functions that the tests share.
#![allow(unsafe_code, reason = "a test is a tracer, and there is no safe ptrace without another feature of nix")]

mod common;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use common::Bundle;
use serde_json::{Value, json};

/// A bundle in which `mkdir` has the action, and everything else is allowed.
fn under(action: &str, extra: &Value, script: &str) -> Bundle {
    let mut bundle = Bundle::writable(script);
    let mut rule = json!({"names": ["mkdir", "mkdirat"], "action": action});
    rule.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    bundle.config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]});
    bundle
}

#[test]
fn an_errno_is_what_the_program_gets() {
    need_root!();
    for no_new_privileges in [true, false] {
        let mut bundle = under("SCMP_ACT_ERRNO", &json!({"errnoRet": 28}), "mkdir /x; grep Seccomp: /proc/self/status");
        bundle.config["process"]["noNewPrivileges"] = json!(no_new_privileges);
        let done = bundle.run();
        assert!(done.stderr.contains("No space left on device"), "{done:?}");
        assert_eq!(done.stdout, "Seccomp:\t2\n");
    }
}

#[test]
fn killing_and_trapping_end_the_process_with_sigsys() {
    need_root!();
    for action in ["SCMP_ACT_KILL", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP"] {
        let bundle = under(action, &json!({}), "(mkdir /x); echo $?");
        assert_eq!(bundle.run().stdout, "159\n", "{action}");
    }
}

#[test]
fn logged_calls_are_made_and_traced_ones_without_a_tracer_are_not_there() {
    need_root!();
    let logged = under("SCMP_ACT_LOG", &json!({}), "mkdir /x && ls -d /x");
    assert_eq!(logged.run().ok(), "/x\n");
    let traced = under("SCMP_ACT_TRACE", &json!({}), "mkdir /x");
    assert!(traced.run().stderr.contains("Function not implemented"));
}

/// ptrace(2) on a process, with numbers only.
fn ptrace(request: libc::c_uint, pid: libc::pid_t, data: libc::c_long) -> libc::c_long {
    // SAFETY: the requests made here take numbers, but GETEVENTMSG, for which `data` is the address of a long.
    let result = unsafe { libc::ptrace(request, pid, 0, data) };
    assert!(result >= 0, "ptrace({request:#x}): {}", std::io::Error::last_os_error());
    result
}

/// The datum that the kernel tells a tracer at the first stop by seccomp.
fn datum_of_the_first_stop(pid: libc::pid_t, resume: impl FnOnce()) -> libc::c_long {
    ptrace(libc::PTRACE_SEIZE, pid, libc::PTRACE_O_TRACESECCOMP.into());
    resume();
    loop {
        let mut status = 0;
        // SAFETY: `status` is an int of ours.
        assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL) }, pid);
        assert!(libc::WIFSTOPPED(status), "{status:#x}");
        if status >> 16 == libc::PTRACE_EVENT_SECCOMP {
            let mut datum: libc::c_long = 0;
            ptrace(libc::PTRACE_GETEVENTMSG, pid, &raw mut datum as libc::c_long);
            ptrace(libc::PTRACE_DETACH, pid, 0);
            return datum;
        }
        let signal = if status >> 16 == 0 { libc::WSTOPSIG(status) } else { 0 };
        ptrace(libc::PTRACE_CONT, pid, signal.into());
    }
}

#[test]
fn a_tracer_is_told_of_traced_calls_with_the_datum_of_the_rule() {
    need_root!();
    let bundle = under("SCMP_ACT_TRACE", &json!({"errnoRet": 77}), "exec mkdir /x");
    let id = bundle.id();
    bundle.orlop(&["create", &id]).ok();
    let state: Value = serde_json::from_str(&bundle.orlop(&["state", &id]).ok()).unwrap();
    let datum = datum_of_the_first_stop(state["pid"].as_i64().unwrap().try_into().unwrap(), || {
        bundle.orlop(&["start", &id]).ok();
    });
    assert_eq!(datum, 77);
}

#[test]
fn logged_calls_are_in_the_log_of_the_kernel() {
    need_root!();
    let unheard = |log: &str| log.matches("type=1326").count();
    let read = || {
        let output = Command::new("dmesg").output();
        output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
    };
    let logs = std::fs::read_to_string("/proc/sys/kernel/seccomp/actions_logged").unwrap_or_default();
    if !logs.split(' ').any(|action| action.trim() == "log") {
        skip!("this kernel does not log seccomp actions (kernel.seccomp.actions_logged: {:?})", logs.trim());
    }
    let before = unheard(&read());
    let bundle = under("SCMP_ACT_LOG", &json!({}), "mkdir /x");
    bundle.run().ok();
    let log = read();
    if unheard(&log) == before && !log.contains("audit: ") {
        skip!("this kernel has no audit, or a daemon takes its records");
    }
    assert!(unheard(&log) > before, "{log}");
}

#[test]
#[cfg(target_arch = "x86_64")]
fn calls_newer_than_the_profile_are_not_there_and_older_ones_are_denied() {
    need_root!();
    let mut bundle = Bundle::writable("unshare -n true; mkdir /x");
    // What a shell needs; `openat` has the largest number of them, `mkdir` a smaller one and `unshare` a larger one.
    let names = "access arch_prctl brk clone close dup2 execve exit_group fcntl fork fstat futex getcwd getegid geteuid getgid \
        getpid getppid getuid ioctl lseek lstat mmap mprotect munmap open openat prctl read readlink rt_sigaction rt_sigprocmask \
        rt_sigreturn set_tid_address stat uname vfork wait4 write";
    bundle.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 28,
        "syscalls": [{"names": names.split_whitespace().collect::<Vec<_>>(), "action": "SCMP_ACT_ALLOW"}],
    });
    let done = bundle.run();
    assert!(done.stderr.contains("unshare(0x40000000): Function not implemented"), "{done:?}");
    assert!(done.stderr.contains("'/x': No space left on device"), "{done:?}");
}

#[test]
fn exec_is_under_the_filter_too() {
    need_root!();
    let bundle = under("SCMP_ACT_ERRNO", &json!({"errnoRet": 28}), "sleep 100");
    let id = bundle.id();
    bundle.orlop(&["run", "-d", &id]).ok();
    assert!(bundle.orlop(&["exec", &id, "mkdir", "/x"]).stderr.contains("No space left on device"));
}

struct Agent {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
    path: std::path::PathBuf,
}

impl Agent {
    fn start(bundle: &Bundle) -> Agent {
        let path = bundle.temp().join("agent.sock");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/seccomp/agent.py");
        let mut command = Command::new("/usr/bin/python3");
        let mut child = command.arg(script).arg(&path).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "listening");
        Agent { child, lines, path }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn an_agent_gets_the_listener_and_answers() {
    need_root!();
    if !std::path::Path::new("/usr/bin/python3").exists() {
        skip!("needs /usr/bin/python3");
    }
    for no_new_privileges in [true, false] {
        let mut bundle = under("SCMP_ACT_NOTIFY", &json!({}), "mkdir /x && echo made; ls -d /x");
        let mut agent = Agent::start(&bundle);
        bundle.config["process"]["noNewPrivileges"] = json!(no_new_privileges);
        bundle.config["linux"]["seccomp"]["listenerPath"] = json!(agent.path);
        bundle.config["linux"]["seccomp"]["listenerMetadata"] = json!("hello");
        let id = bundle.id();
        let done = bundle.orlop(&["run", &id]);
        // The agent said that it had been done, and it was not.
        assert_eq!(done.stdout, "made\n", "{done:?}");
        assert!(done.stderr.contains("/x: No such file"), "{done:?}");
        let state: Value = serde_json::from_str(&agent.lines.next().unwrap().unwrap()).unwrap();
        let expected = json!({
            "fds": ["seccompFd"], "metadata": "hello", "status": "creating", "id": id, "pid": true, "count": 1
        });
        assert_eq!(state, expected);
    }
}

#[test]
fn an_agent_that_is_not_there_fails_the_create() {
    need_root!();
    let mut bundle = under("SCMP_ACT_NOTIFY", &json!({}), "true");
    bundle.config["linux"]["seccomp"]["listenerPath"] = json!("/nonexistent/agent.sock");
    let id = bundle.id();
    let said = bundle.orlop(&["create", &id]).fails();
    assert!(said.contains("to \"/nonexistent/agent.sock\": linux.seccomp.listenerPath: failed to connect with seccomp agent: no such file"), "{said}");
    assert!(bundle.orlop(&["state", &id]).fails().contains("does not exist"));
}
