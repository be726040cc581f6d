//! The life of a container: runtime.md of runtime-spec 1.3, as runc's commands do it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Also in the functions that the tests share.

mod common;

use common::actions::{eventually, is_alive};
use common::{Bundle, cgroups_of, processes_with};
use serde_json::json;

#[test]
fn create_start_kill_delete_lead_from_created_to_gone() {
    need_root!();
    let bundle = Bundle::sleeping();
    let id = bundle.created();
    assert_eq!(bundle.state(&id)["status"], "created");
    bundle.orlop(&["start", &id]).ok();
    assert_eq!(bundle.state(&id)["status"], "running");
    bundle.orlop(&["kill", &id, "KILL"]).ok();
    bundle.wait_for(&id, "stopped");
    bundle.orlop(&["delete", &id]).ok();
    assert!(bundle.orlop(&["state", &id]).fails().contains("container does not exist"));
    bundle.assert_nothing_of(&id);
}

#[test]
fn the_program_does_not_run_before_start() {
    need_root!();
    let bundle = Bundle::writable("echo ran >/ran; sleep 60");
    let id = bundle.created();
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert!(!bundle.rootfs().join("ran").exists());
    bundle.orlop(&["start", &id]).ok();
    eventually("the program runs", || bundle.rootfs().join("ran").exists().then_some(()));
}

#[test]
fn the_state_has_the_keys_of_the_specification_and_of_runc() {
    need_root!();
    let mut bundle = Bundle::sleeping();
    bundle.config["annotations"] = json!({ "org.example.key": "value" });
    let id = bundle.created();
    let state = bundle.state(&id);
    let keys: Vec<_> = state.as_object().unwrap().keys().map(String::as_str).collect();
    for key in ["ociVersion", "id", "pid", "status", "bundle", "rootfs", "created", "annotations", "owner"] {
        assert!(keys.contains(&key), "{key} in {keys:?}");
    }
    assert_eq!((&state["ociVersion"], &state["id"]), (&json!("1.3.0"), &json!(id)));
    assert_eq!(state["bundle"], json!(bundle.path()));
    assert_eq!(state["rootfs"], json!(bundle.rootfs()));
    assert_eq!(state["annotations"], json!({ "org.example.key": "value" }));
    assert_eq!(state["owner"], "root");
    assert!(is_alive(state["pid"].as_i64().unwrap()));
}

#[test]
fn a_stopped_container_has_no_pid() {
    need_root!();
    let bundle = Bundle::sleeping();
    let id = bundle.running();
    let pid = bundle.pid(&id);
    bundle.orlop(&["kill", &id, "KILL"]).ok();
    bundle.wait_for(&id, "stopped");
    assert_eq!(bundle.pid(&id), 0);
    assert!(!is_alive(pid));
}

#[test]
fn ids_that_are_no_file_name_are_refused() {
    need_root!();
    let bundle = Bundle::new("true");
    for id in ["..", "a/b", "../x", "a b", "ä", "a:b"] {
        assert!(bundle.orlop(&["create", id]).fails().contains("invalid container ID format"), "{id:?}");
        assert!(bundle.orlop(&["state", id]).fails().contains("invalid container ID format"), "{id:?}");
        assert!(bundle.orlop(&["delete", "--force", id]).fails().contains("invalid container ID format"), "{id:?}");
    }
    assert!(bundle.orlop(&["create", ""]).fails().contains("container id cannot be empty"));
    assert!(!bundle.root().exists());
}

#[test]
fn an_id_may_have_every_character_of_runcs_alphabet() {
    need_root!();
    let bundle = Bundle::new("echo here");
    let id = format!("{}_A+b.c-9", bundle.id());
    assert_eq!(bundle.orlop(&["run", &id]).ok(), "here\n");
}

#[test]
fn a_duplicate_id_is_refused_and_the_first_container_unharmed() {
    need_root!();
    let bundle = Bundle::sleeping();
    let id = bundle.created();
    let before = bundle.state(&id);
    for command in ["create", "run"] {
        assert!(bundle.orlop(&[command, &id]).fails().contains("container with given ID already exists"));
    }
    assert_eq!(bundle.state(&id), before);
    bundle.orlop(&["start", &id]).ok();
}

#[test]
fn an_id_can_be_used_again_after_delete() {
    need_root!();
    let bundle = Bundle::new("echo once");
    let id = bundle.id();
    for _ in 0..3 {
        assert_eq!(bundle.orlop(&["run", &id]).ok(), "once\n");
    }
}

#[test]
fn operations_in_a_wrong_state_fail_and_change_nothing() {
    need_root!();
    let bundle = Bundle::sleeping();
    let id = bundle.created();
    let fails = |args: &[&str], why: &str| {
        let before = bundle.state(&id);
        let said = bundle.orlop(args).fails();
        assert!(said.contains(why), "{args:?}: {said}");
        assert_eq!(bundle.state(&id), before, "{args:?}");
    };
    fails(&["resume", &id], "not paused");
    bundle.orlop(&["start", &id]).ok();
    fails(&["start", &id], "cannot start an already running container");
    fails(&["delete", &id], "that is not stopped: running");
    fails(&["resume", &id], "not paused");
    bundle.orlop(&["kill", &id, "KILL"]).ok();
    bundle.wait_for(&id, "stopped");
    fails(&["start", &id], "cannot start a container that has stopped");
    fails(&["kill", &id], "container not running");
    fails(&["pause", &id], "not running");
    fails(&["resume", &id], "not paused");
    let exec = bundle.orlop(&["exec", &id, "true"]);
    assert!(exec.code != 0 && exec.stderr.contains("cannot exec in a stopped container"), "{exec:?}");
}

#[test]
fn operations_on_a_missing_container_say_so() {
    need_root!();
    let bundle = Bundle::new("true");
    let id = bundle.id();
    for args in [&["state"][..], &["start"], &["kill"], &["delete"], &["ps"], &["pause"], &["resume"]] {
        let said = bundle.orlop(&[args, &[id.as_str()]].concat()).fails();
        assert!(said.contains("container does not exist"), "{args:?}: {said}");
    }
    assert!(bundle.orlop(&["exec", &id, "true"]).stderr.contains("container does not exist"));
    assert!(bundle.orlop(&["delete", "--force", &id]).ok().is_empty());
}

#[test]
fn a_container_that_is_about_to_end_can_be_deleted() {
    need_root!();
    let bundle = Bundle::writable("trap 'sleep 0.05; exit' TERM; echo >/ready; sleep 60 & wait");
    // On a busy machine the end may come too late, but hardly each time.
    let is_deleted_at_once = || {
        let id = bundle.running();
        eventually("the trap is set", || std::fs::remove_file(bundle.rootfs().join("ready")).ok());
        bundle.orlop(&["kill", &id, "TERM"]).ok();
        let done = bundle.orlop(&["delete", &id]);
        bundle.end(&id);
        bundle.assert_nothing_of(&id);
        done.code == 0
    };
    assert!((0..20).any(|_| is_deleted_at_once()));
}

#[test]
fn a_created_container_can_be_deleted() {
    need_root!();
    let bundle = Bundle::sleeping();
    let id = bundle.created();
    let pid = bundle.pid(&id);
    bundle.orlop(&["delete", &id]).ok();
    assert!(!is_alive(pid));
    bundle.assert_nothing_of(&id);
}

#[test]
fn delete_with_force_ends_a_running_container_with_all_its_processes() {
    need_root!();
    let mut bundle = Bundle::writable("sleep 60 & sleep 60 & setsid sleep 60 & touch /ready; wait");
    let id = bundle.id();
    bundle.env(&format!("MARK={id}"));
    bundle.orlop(&["run", "-d", &id]).ok();
    eventually("all processes", || (bundle.rootfs().join("ready").exists()).then_some(()));
    let mark = format!("MARK={id}");
    eventually("four processes", || (processes_with(&mark).len() >= 4).then_some(()));
    bundle.orlop(&["delete", "--force", &id]).ok();
    assert_eq!(processes_with(&mark), [0; 0]);
    bundle.assert_nothing_of(&id);
}

#[test]
fn delete_with_force_ends_all_processes_also_without_a_pid_namespace() {
    need_root!();
    let mut bundle = Bundle::writable("(setsid sleep 60 &); (setsid sleep 60 &); touch /ready; sleep 60");
    bundle.without_namespace("pid");
    let id = bundle.id();
    let mark = format!("MARK={id}");
    bundle.env(&mark);
    bundle.orlop(&["run", "-d", &id]).ok();
    eventually("all processes", || (processes_with(&mark).len() >= 3).then_some(()));
    bundle.orlop(&["delete", "--force", &id]).ok();
    assert_eq!(processes_with(&mark), [0; 0]);
    bundle.assert_nothing_of(&id);
}

#[test]
fn delete_with_force_ends_a_paused_container() {
    need_root!();
    let bundle = Bundle::sleeping();
    let id = bundle.running();
    bundle.orlop(&["pause", &id]).ok();
    bundle.orlop(&["delete", "--force", &id]).ok();
    bundle.assert_nothing_of(&id);
}

#[test]
fn a_paused_container_stands_still_until_it_is_resumed() {
    need_root!();
    let bundle = Bundle::writable("while :; do echo x >>/ticks; sleep 0.01; done");
    let id = bundle.running();
    let ticks = || std::fs::metadata(bundle.rootfs().join("ticks")).map_or(0, |meta| meta.len());
    eventually("ticks", || (ticks() > 0).then_some(()));
    bundle.orlop(&["pause", &id]).ok();
    assert_eq!(bundle.state(&id)["status"], "paused");
    let before = ticks();
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert_eq!(ticks(), before);
    let exec = bundle.orlop(&["exec", &id, "true"]);
    assert!(exec.code != 0 && exec.stderr.contains("paused"), "{exec:?}");
    bundle.orlop(&["resume", &id]).ok();
    assert_eq!(bundle.state(&id)["status"], "running");
    eventually("more ticks", || (ticks() > before).then_some(()));
}

#[test]
fn sigkill_ends_a_paused_container() {
    need_root!();
    let bundle = Bundle::sleeping();
    let id = bundle.running();
    bundle.orlop(&["pause", &id]).ok();
    bundle.orlop(&["kill", &id, "KILL"]).ok();
    bundle.wait_for(&id, "stopped");
    bundle.orlop(&["delete", &id]).ok();
}

#[test]
fn a_created_container_whose_init_died_is_stopped() {
    need_root!();
    let bundle = Bundle::sleeping();
    let id = bundle.created();
    bundle.orlop(&["kill", &id, "KILL"]).ok();
    bundle.wait_for(&id, "stopped");
    assert!(bundle.orlop(&["start", &id]).fails().contains("has stopped"));
    bundle.orlop(&["delete", &id]).ok();
    bundle.assert_nothing_of(&id);
}

#[test]
fn changes_of_config_json_after_create_have_no_effect() {
    need_root!();
    let mut bundle = Bundle::writable("echo old >/said; sleep 60");
    let id = bundle.created();
    bundle.args(&["sh", "-c", "echo new >/said; sleep 60"]);
    bundle.orlop(&["start", &id]).ok();
    let said = || std::fs::read_to_string(bundle.rootfs().join("said")).ok().filter(|text| !text.is_empty());
    assert_eq!(eventually("said", said), "old\n");
}

#[test]
fn a_failed_create_leaves_everything_as_before() {
    need_root!();
    type Break = fn(&mut Bundle);
    let broken: [(&str, Break); 7] = [
        ("root.path", |bundle| bundle.config["root"]["path"] = json!("nowhere")),
        ("no-such-program", |bundle| bundle.args(&["no-such-program"])),
        ("error mounting \"none\" to rootfs at \"/x\": no such device", |bundle| {
            bundle.mount("/x", "nosuchfs", "none", &[])
        }),
        ("/no/such/source", |bundle| bundle.mount("/x", "bind", "/no/such/source", &["bind"])),
        ("createRuntime hook #0", |bundle| bundle.hook("createRuntime", "exit 1")),
        ("createContainer hook #0", |bundle| bundle.hook("createContainer", "exit 1")),
        ("ociVersion", |bundle| bundle.config["ociVersion"] = json!("2.0.0")),
    ];
    for (words, breaks) in broken {
        for command in ["create", "run"] {
            let mut bundle = Bundle::new("true");
            breaks(&mut bundle);
            let id = bundle.id();
            let said = bundle.orlop(&[command, &id]).fails();
            assert!(said.starts_with(&format!("orlop: {command} failed: ")) && said.contains(words), "{words}: {said}");
            assert_eq!(said.lines().count(), 1, "{said}");
            bundle.assert_nothing_of(&id);
        }
    }
}

#[test]
fn a_missing_config_json_is_named() {
    need_root!();
    let bundle = Bundle::new("true");
    let empty = bundle.temp();
    let said = bundle.orlop(&["run", "--bundle", empty.to_str().unwrap(), &bundle.id()]).fails();
    assert!(said.contains("JSON specification file config.json not found"), "{said}");
}

#[test]
fn run_gives_the_programs_exit_status() {
    need_root!();
    for code in [0, 3, 255] {
        let bundle = Bundle::new(&format!("exit {code}"));
        assert_eq!(bundle.run().code, code);
        assert_eq!(std::fs::read_dir(bundle.root()).unwrap().count(), 0);
    }
}

#[test]
fn run_gives_128_and_the_signal_that_ended_the_program() {
    need_root!();
    let bundle = Bundle::sleeping();
    let id = bundle.id();
    let mut child = bundle.spawn(&["run", &id], "output");
    eventually("running", || (bundle.orlop(&["state", &id]).stdout.contains("\"running\"")).then_some(()));
    bundle.orlop(&["kill", &id, "KILL"]).ok();
    assert_eq!(child.wait().unwrap().code(), Some(128 + 9));
    bundle.assert_nothing_of(&id);
}

#[test]
fn run_fails_with_1_when_the_program_cannot_be_executed() {
    need_root!();
    let mut bundle = Bundle::writable("true");
    std::fs::write(bundle.rootfs().join("bin/broken"), "no program").unwrap();
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(bundle.rootfs().join("bin/broken"), PermissionsExt::from_mode(0o755)).unwrap();
    for (program, why) in [
        ("missing", "exec: \"missing\": executable file not found in $PATH"),
        ("/bin/missing", "no such file or directory"),
        ("/etc", "no such file or directory"),
        ("/bin", "is a directory"),
        ("/bin/broken", "exec format error"),
    ] {
        bundle.args(&[program]);
        let said = bundle.run().fails();
        assert!(said.contains(why), "{program}: {said}");
    }
}

#[test]
fn run_forwards_signals_to_the_program() {
    need_root!();
    let bundle = Bundle::sleeping();
    for (signal, code) in [(nix::sys::signal::SIGTERM, 15), (nix::sys::signal::SIGUSR1, 10)] {
        let id = bundle.id();
        let mut child = bundle.spawn(&["run", &id], "output");
        eventually("running", || (bundle.orlop(&["state", &id]).stdout.contains("\"running\"")).then_some(()));
        // The shell needs a moment to set its traps.
        std::thread::sleep(std::time::Duration::from_millis(100));
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id() as i32), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(code));
    }
}

#[test]
fn a_container_that_another_process_deletes_is_no_error_for_run() {
    need_root!();
    let bundle = Bundle::sleeping();
    let id = bundle.id();
    let mut child = bundle.spawn(&["run", &id], "output");
    eventually("running", || (bundle.orlop(&["state", &id]).stdout.contains("\"running\"")).then_some(()));
    bundle.end(&id);
    assert_eq!(child.wait().unwrap().code(), Some(128 + 9));
    assert_eq!(std::fs::read_to_string(bundle.temp().join("output")).unwrap(), "");
}

#[test]
fn containers_of_one_bundle_live_side_by_side() {
    need_root!();
    let bundle = Bundle::sleeping();
    let ids: Vec<_> = (0..5).map(|_| bundle.running()).collect();
    let mut pids: Vec<_> = ids.iter().map(|id| bundle.pid(id)).collect();
    pids.dedup();
    assert_eq!(pids.len(), 5);
    let (first, rest) = ids.split_first().unwrap();
    bundle.end(first);
    assert!(cgroups_of(first).is_empty());
    for id in rest {
        assert_eq!(bundle.state(id)["status"], "running");
    }
}

#[test]
fn one_id_created_by_many_at_once_is_given_to_one() {
    need_root!();
    let bundle = Bundle::sleeping();
    let id = bundle.id();
    let mut children: Vec<_> = (0..6).map(|n| bundle.spawn(&["create", &id], &format!("output-{n}"))).collect();
    let won = children.iter_mut().filter_map(|child| child.wait().unwrap().success().then_some(())).count();
    assert_eq!(won, 1);
    assert_eq!(bundle.state(&id)["status"], "created");
    for n in 0..6 {
        let said = std::fs::read_to_string(bundle.temp().join(format!("output-{n}"))).unwrap();
        assert!(said.is_empty() || said.contains("container with given ID already exists"), "{said}");
    }
}
