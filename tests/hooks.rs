//! Hooks: config.md#posix-platform-hooks and the life cycle of runtime.md (runtime-spec 1.3).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Also in the functions that the tests share.

mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use common::Bundle;
use common::actions::{eventually, link};
use serde_json::{Value, json};

const KINDS: [&str; 6] = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// A bundle whose hooks keep the state that they get, one file each. Of the six only startContainer sees the
/// container's root.
fn keeping_states() -> Bundle {
    let mut bundle = Bundle::sleeping();
    let rootfs = bundle.rootfs();
    for kind in KINDS {
        let dir = if kind == "startContainer" { Path::new("/") } else { &rootfs }.display();
        bundle.hook(kind, &format!("cat >{dir}/{kind}.json; echo {kind} >>{dir}/order"));
    }
    bundle
}

fn kept(bundle: &Bundle, kind: &str) -> Value {
    serde_json::from_slice(&std::fs::read(bundle.rootfs().join(format!("{kind}.json"))).unwrap()).unwrap()
}

fn order(bundle: &Bundle) -> Vec<String> {
    let text = std::fs::read_to_string(bundle.rootfs().join("order")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn hooks_run_in_the_order_of_the_life_cycle() {
    need_root!();
    let bundle = keeping_states();
    let id = bundle.created();
    assert_eq!(order(&bundle), KINDS[..3]);
    bundle.orlop(&["start", &id]).ok();
    assert_eq!(order(&bundle), KINDS[..5]);
    bundle.orlop(&["kill", &id, "KILL"]).ok();
    bundle.wait_for(&id, "stopped");
    assert_eq!(order(&bundle), KINDS[..5]);
    bundle.orlop(&["delete", &id]).ok();
    assert_eq!(order(&bundle), KINDS);
}

#[test]
fn run_runs_all_hooks_too() {
    need_root!();
    let mut bundle = keeping_states();
    bundle.args(&["true"]);
    bundle.run().ok();
    assert_eq!(order(&bundle), KINDS);
}

#[test]
fn several_hooks_of_one_kind_run_in_their_order() {
    need_root!();
    let mut bundle = Bundle::new("true");
    let log = bundle.temp().join("log");
    for kind in ["createRuntime", "poststop"] {
        for number in 1..4 {
            bundle.hook(kind, &format!("echo {kind} {number} >>{}", log.display()));
        }
    }
    bundle.run().ok();
    let lines: Vec<_> =
        ["createRuntime", "poststop"].iter().flat_map(|kind| (1..4).map(move |n| format!("{kind} {n}\n"))).collect();
    assert_eq!(std::fs::read_to_string(log).unwrap(), lines.concat());
}

#[test]
fn each_hook_reads_the_state_of_its_moment() {
    need_root!();
    let mut bundle = keeping_states();
    bundle.config["annotations"] = json!({ "a": "b" });
    let id = bundle.created();
    let pid = bundle.pid(&id);
    bundle.orlop(&["start", &id]).ok();
    bundle.end(&id);
    let statuses = ["creating", "creating", "creating", "created", "running", "stopped"];
    for (kind, status) in KINDS.into_iter().zip(statuses) {
        let state = kept(&bundle, kind);
        assert_eq!(state["status"], status, "{kind}");
        assert_eq!((&state["id"], &state["ociVersion"]), (&json!(id), &json!("1.3.0")), "{kind}");
        assert_eq!((&state["bundle"], &state["annotations"]), (&json!(bundle.path()), &json!({ "a": "b" })), "{kind}");
        if kind != "poststop" {
            assert_eq!(state["pid"], json!(pid), "{kind}");
        }
    }
}

#[test]
fn hooks_run_in_the_namespaces_that_the_specification_names() {
    need_root!();
    let mut bundle = Bundle::sleeping();
    let rootfs = bundle.rootfs();
    for kind in KINDS {
        let dir = if kind == "startContainer" { Path::new("/") } else { &rootfs }.display();
        bundle.hook(kind, &format!("(readlink /proc/self/ns/uts; readlink /proc/self/ns/mnt) >{dir}/{kind}"));
    }
    let id = bundle.running();
    let of = |pid: &str| ["uts", "mnt"].map(|kind| link(format!("/proc/{pid}/ns/{kind}")) + "\n").concat();
    let (host, container) = (of("self"), of(&bundle.pid(&id).to_string()));
    bundle.end(&id);
    for kind in KINDS {
        let inside = matches!(kind, "createContainer" | "startContainer");
        let found = std::fs::read_to_string(rootfs.join(kind)).unwrap();
        assert_eq!(found, if inside { &*container } else { &*host }, "{kind}");
    }
}

#[test]
fn create_container_hooks_see_the_mounts_and_not_yet_the_new_root() {
    need_root!();
    let mut bundle = Bundle::new("true");
    let (rootfs, log) = (bundle.rootfs(), bundle.temp().join("log"));
    bundle.hook("createContainer", &format!("stat -f -c %T {0}/dev {0}/proc >{1}", rootfs.display(), log.display()));
    bundle.run().ok();
    assert_eq!(std::fs::read_to_string(log).unwrap(), "tmpfs\nproc\n");
}

#[test]
fn a_hook_gets_its_own_arguments_and_environment_alone() {
    need_root!();
    for kind in ["createRuntime", "createContainer", "poststop"] {
        let mut bundle = Bundle::new("true");
        let log = bundle.temp().join("log");
        let script = format!("echo \"$0 $1\" >{0}; env | grep -v -e ^PWD= -e ^SHLVL= -e ^_= >>{0}", log.display());
        let env = ["PATH=/usr/bin:/bin", "A=b c"];
        bundle.config["hooks"][kind] =
            json!([{ "path": "/bin/sh", "args": ["x", "-c", script, "zero", "one"], "env": env }]);
        bundle.run().ok();
        let text = std::fs::read_to_string(log).unwrap();
        let (first, rest) = text.split_once('\n').unwrap();
        let mut rest: Vec<_> = rest.lines().collect();
        rest.sort_unstable();
        assert_eq!((first, rest), ("zero one", vec!["A=b c", "PATH=/usr/bin:/bin"]), "{kind}");
    }
}

#[test]
fn a_failing_hook_of_create_ends_create_and_the_ones_after_do_not_run() {
    need_root!();
    for (index, kind) in KINDS[..3].iter().enumerate() {
        let mut bundle = keeping_states();
        bundle.hook(kind, "echo because >&2; exit 3");
        let id = bundle.id();
        let said = bundle.orlop(&["create", &id]).fails();
        assert!(said.contains(&format!("{kind} hook #1")), "{said}");
        assert!(said.contains("exit status") && said.contains('3'), "{said}");
        assert!(kind == &"createContainer" || said.contains("because"), "{said}");
        assert_eq!(order(&bundle)[..=index], KINDS[..=index]);
        assert!(!order(&bundle).iter().any(|kind| kind == "startContainer" || kind == "poststart"));
        bundle.assert_nothing_of(&id);
    }
}

#[test]
fn after_a_failing_hook_of_create_the_poststop_hooks_run() {
    need_root!();
    for kind in &KINDS[..3] {
        let mut bundle = keeping_states();
        bundle.hook(kind, "exit 1");
        bundle.orlop(&["create", &bundle.id()]).fails();
        assert_eq!(order(&bundle).last().unwrap(), "poststop", "{kind}");
        assert_eq!(kept(&bundle, "poststop")["status"], "stopped", "{kind}");
    }
}

#[test]
fn a_failing_start_container_hook_ends_start_and_stops_the_container() {
    need_root!();
    let mut bundle = keeping_states();
    bundle.hook("startContainer", "exit 4");
    let id = bundle.created();
    let said = bundle.orlop(&["start", &id]).fails();
    assert!(said.contains("startContainer") && said.contains("exit status 4"), "{said}");
    bundle.wait_for(&id, "stopped");
    assert_eq!(order(&bundle), KINDS[..4]);
    bundle.orlop(&["delete", &id]).ok();
    assert_eq!(order(&bundle).last().unwrap(), "poststop");
}

#[test]
fn a_failing_start_container_hook_ends_run_and_leaves_nothing() {
    need_root!();
    let mut bundle = keeping_states();
    bundle.hook("startContainer", "exit 4");
    let id = bundle.id();
    let said = bundle.orlop(&["run", &id]).fails();
    assert!(said.contains("startContainer hook #1") && said.contains("exit status 4"), "{said}");
    bundle.assert_nothing_of(&id);
}

#[test]
fn a_failing_poststart_hook_ends_start_and_stops_the_container() {
    need_root!();
    let mut bundle = keeping_states();
    bundle.hook("poststart", "exit 5");
    let id = bundle.created();
    let said = bundle.orlop(&["start", &id]).fails();
    assert!(said.contains("poststart hook #1"), "{said}");
    bundle.wait_for(&id, "stopped");
}

#[test]
fn a_failing_poststart_hook_ends_run_and_leaves_nothing() {
    need_root!();
    for flags in [&["run"][..], &["run", "--detach"]] {
        let mut bundle = keeping_states();
        bundle.hook("poststart", "exit 5");
        let id = bundle.id();
        let said = bundle.orlop(&[flags, &[id.as_str()]].concat()).fails();
        assert!(said.contains("poststart hook #1"), "{said}");
        bundle.assert_nothing_of(&id);
        assert_eq!(order(&bundle).last().unwrap(), "poststop");
    }
}

#[test]
fn a_failing_poststop_hook_is_a_warning_and_the_next_one_runs() {
    need_root!();
    let mut bundle = Bundle::sleeping();
    let log = bundle.temp().join("log");
    bundle.hook("poststop", "exit 6");
    bundle.hook("poststop", &format!("echo next >{}", log.display()));
    let id = bundle.created();
    let done = bundle.orlop(&["delete", &id]);
    assert!(done.stderr.contains("level=warning") && done.stderr.contains("poststop hook #0"), "{done:?}");
    done.ok();
    assert_eq!(std::fs::read_to_string(log).unwrap(), "next\n");
    bundle.assert_nothing_of(&id);
}

#[test]
fn a_hook_that_outlives_its_timeout_is_killed() {
    need_root!();
    for kind in ["createRuntime", "createContainer", "startContainer", "poststart"] {
        let mut bundle = Bundle::sleeping();
        bundle.config["hooks"][kind] =
            json!([{ "path": "/bin/sh", "args": ["sh", "-c", "exec sleep 33.25"], "timeout": 1 }]);
        let (id, began) = (bundle.id(), Instant::now());
        let said = bundle.orlop(&["run", "--detach", &id]).fails();
        assert!(said.contains(&format!("{kind} hook #0")) && said.contains("timeout"), "{said}");
        assert!((Duration::from_millis(900)..Duration::from_secs(5)).contains(&began.elapsed()), "{kind}");
        bundle.assert_nothing_of(&id);
    }
}

#[test]
fn a_hook_within_its_timeout_is_not_disturbed() {
    need_root!();
    let mut bundle = Bundle::new("echo ran");
    for kind in ["createRuntime", "createContainer", "startContainer"] {
        bundle.config["hooks"][kind] =
            json!([{ "path": "/bin/sh", "args": ["sh", "-c", "sleep 0.05"], "timeout": 10 }]);
    }
    assert_eq!(bundle.run().ok(), "ran\n");
}

#[test]
fn a_hook_that_does_not_exist_is_named() {
    need_root!();
    for kind in &KINDS[..5] {
        let mut bundle = Bundle::new("true");
        bundle.config["hooks"][*kind] = json!([{ "path": "/no/such/hook" }]);
        let said = bundle.run().fails();
        assert!(said.contains(&format!("{kind} hook #0")) && said.contains("/no/such/hook"), "{said}");
    }
}

#[test]
fn a_hook_whose_path_is_relative_is_refused() {
    need_root!();
    let mut bundle = Bundle::new("true");
    bundle.config["hooks"]["poststop"] = json!([{ "path": "bin/hook" }]);
    let said = bundle.run().fails();
    assert!(said.contains("hooks.poststop[0].path"), "{said}");
}

#[test]
fn a_hook_need_not_read_the_state() {
    need_root!();
    let mut bundle = Bundle::sleeping();
    bundle.config["annotations"] = json!({ "large": "x".repeat(200_000) });
    for kind in KINDS {
        bundle.config["hooks"][kind] = json!([{ "path": "/bin/true" }]);
    }
    let id = bundle.created();
    bundle.orlop(&["start", &id]).ok();
    assert_eq!(bundle.state(&id)["status"], "running");
    bundle.end(&id);
}

#[test]
fn a_large_state_reaches_every_hook_whole() {
    need_root!();
    let mut bundle = keeping_states();
    bundle.config["annotations"] = json!({ "large": "x".repeat(200_000) });
    let id = bundle.created();
    bundle.orlop(&["start", &id]).ok();
    bundle.end(&id);
    for kind in KINDS {
        assert_eq!(kept(&bundle, kind)["annotations"]["large"].as_str().unwrap().len(), 200_000, "{kind}");
    }
}

#[test]
fn poststart_hooks_run_after_the_program_has_been_executed() {
    need_root!();
    let mut bundle = Bundle::sleeping();
    let log = bundle.temp().join("log");
    let script =
        format!("pid=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/'); tr '\\0' ' ' </proc/$pid/cmdline >{}", log.display());
    bundle.hook("poststart", &script);
    let id = bundle.created();
    bundle.orlop(&["start", &id]).ok();
    let command = eventually("cmdline", || std::fs::read_to_string(&log).ok());
    assert!(command.starts_with("sh -c trap "), "{command}");
}
