//! Containers under seccomp: what the program sees of each action, and a real agent that answers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Also in the functions that the tests share.

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
    assert!(said.contains("linux.seccomp.listenerPath \"/nonexistent/agent.sock\": no such file"), "{said}");
    assert!(bundle.orlop(&["state", &id]).fails().contains("does not exist"));
}
