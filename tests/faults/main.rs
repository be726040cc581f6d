//! Nothing is left behind: every step of every plan fails once, the runtime is killed once before each step,
//! and at random moments; records are damaged, and commands race each other.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Helpers of tests fail by panicking, as tests do.

#[path = "../common/mod.rs"]
mod common;

mod case;
mod exec;
mod limits;
mod moments;
mod races;
mod record;
mod traced;
mod undying;

use case::{Case, INJECTED, assert_names, is_of_the_program, steps};
use nix::sys::signal::Signal::SIGKILL;
use orlop::container::create::Start;
use serde_json::json;

/// Whether the step is init's after `create` has returned, where `start` hears of failures.
fn is_after_create(all: &[String], step: usize) -> bool {
    all.iter().position(|words| words == "waiting for start").is_some_and(|wait| step >= wait)
}

fn fail_every_step_of_create(case: &Case) {
    let all = steps(&case.plan(Start::Later));
    for (number, step) in all.iter().enumerate() {
        let done = case.fault("fail", number, &case.words(&["create"]));
        if is_after_create(&all, number) {
            done.ok();
            let error = case.orlop(&["start", &case.id]).fails();
            // Before it waits nobody hears of its failure: `create` has told it to go on, and returned. Until it is dead it
            // looks like one that runs.
            let died =
                ["has died", "died before", "has stopped", "already running"].iter().any(|words| error.contains(words));
            let hook =
                step.strip_prefix("running ").is_some_and(|hook| error.contains(&format!("error running {hook}: ")));
            let named = hook || step.starts_with("executing") && error.contains("exec ");
            assert!(named && error.contains(INJECTED) || step == "waiting for start" && died, "{step}: {error}");
            assert_eq!(case.bundle.state(&case.id)["status"], "stopped");
            case.orlop(&["delete", &case.id]).ok();
        } else {
            assert_eq!(done.code, 1, "{step}: {done:?}");
            assert!(
                done.stderr.starts_with("orlop: create failed: unable to start container process: "),
                "{}",
                done.stderr
            );
            assert_names(step, &done);
        }
        case.assert_nothing_left(&format!("fail:{number} of create ({step})"));
    }
    case.orlop(&case.words(&["create"])).ok();
    case.orlop(&["delete", "--force", &case.id]).ok();
    case.assert_nothing_left("create and delete");
    case.assert_never_allocated();
}

fn fail_every_step_of_run(case: &Case, command: &[&str]) {
    for (number, step) in steps(&case.plan(Start::Now)).iter().enumerate() {
        let done = case.fault("fail", number, &case.words(command));
        assert_eq!(done.code, 1, "{step}: {done:?}");
        let start = "orlop: run failed: unable to start container process: ";
        assert!(is_of_the_program(step, &done) || done.stderr.starts_with(start), "{}", done.stderr);
        assert_names(step, &done);
        case.assert_nothing_left(&format!("fail:{number} of {command:?} ({step})"));
    }
    case.assert_never_allocated();
}

fn kill_before_every_step(case: &Case, command: &[&str], start: Start) {
    let all = steps(&case.plan(start));
    for number in 0..=all.len() {
        let step = all.get(number).map_or("after the last step", String::as_str);
        let after = format!("kill:{number} of {command:?} ({step})");
        let done = case.fault("kill", number, &case.words(command));
        assert_eq!(done.code, -(SIGKILL as i32), "{after}: {done:?}");
        let listed = case.orlop(&["list", "--format", "json"]);
        assert_eq!(listed.code, 0, "{after}: {listed:?}");
        let deleted = case.orlop(&["delete", "--force", &case.id]);
        assert_eq!((deleted.code, deleted.stderr.as_str()), (0, ""), "{after}");
        case.assert_nothing_left(&after);
    }
    case.assert_never_allocated();
}

#[test]
fn the_printed_plan_is_the_one_that_is_carried_out() {
    need_root!();
    let case = Case::with_everything("true");
    let printed = case.orlop(&["plan", "--bundle", case.bundle.path().to_str().unwrap(), &case.id]).ok();
    assert_eq!(printed, case.plan(Start::Later).to_string());
}

#[test]
fn a_failing_step_of_create_leaves_nothing() {
    need_root!();
    fail_every_step_of_create(&Case::with_everything("true").with_pid_file());
}

#[test]
fn a_failing_step_of_create_with_a_terminal_leaves_nothing() {
    need_root!();
    fail_every_step_of_create(&Case::with_terminal("true"));
}

#[test]
fn a_failing_step_of_create_with_a_user_namespace_leaves_nothing() {
    need_root!();
    fail_every_step_of_create(&Case::with_user_namespace("true"));
}

#[test]
fn a_failing_step_of_run_leaves_nothing() {
    need_root!();
    fail_every_step_of_run(&Case::with_everything("sleep 20"), &["run"]);
}

#[test]
fn a_failing_step_of_a_detached_run_leaves_nothing() {
    need_root!();
    fail_every_step_of_run(&Case::with_everything("sleep 20").with_pid_file(), &["run", "--detach"]);
}

#[test]
fn a_killed_create_can_be_deleted() {
    need_root!();
    kill_before_every_step(&Case::with_everything("true").with_pid_file(), &["create"], Start::Later);
}

#[test]
fn a_killed_create_with_a_terminal_can_be_deleted() {
    need_root!();
    kill_before_every_step(&Case::with_terminal("true"), &["create"], Start::Later);
}

#[test]
fn a_killed_create_with_a_user_namespace_can_be_deleted() {
    need_root!();
    kill_before_every_step(&Case::with_user_namespace("true"), &["create"], Start::Later);
}

#[test]
fn a_killed_run_can_be_deleted() {
    need_root!();
    kill_before_every_step(&Case::with_everything("sleep 20"), &["run"], Start::Now);
}

#[test]
fn a_killed_detached_run_can_be_deleted() {
    need_root!();
    kill_before_every_step(&Case::with_everything("sleep 20"), &["run", "--detach"], Start::Now);
}

/// A container in the namespaces of another one, its user namespace among them, is made by a go-between.
#[test]
fn faults_of_a_container_in_joined_namespaces_leave_nothing() {
    need_root!();
    let other = Case::with_user_namespace("sleep 100");
    other.orlop(&other.words(&["run", "--detach"])).ok();
    let pid = other.bundle.state(&other.id)["pid"].clone();
    let mut case = Case::with_user_namespace("true");
    let linux = &mut case.bundle.config["linux"];
    for namespace in linux["namespaces"].as_array_mut().unwrap() {
        let kind = namespace["type"].as_str().unwrap();
        let name = if kind == "network" { "net" } else { kind };
        if kind != "mount" {
            namespace["path"] = json!(format!("/proc/{pid}/ns/{name}"));
        }
    }
    linux.as_object_mut().unwrap().remove("uidMappings");
    linux.as_object_mut().unwrap().remove("gidMappings");
    case.bundle.config.as_object_mut().unwrap().remove("hostname");
    fail_every_step_of_create(&case);
    kill_before_every_step(&case, &["create"], Start::Later);
    assert_eq!(other.bundle.state(&other.id)["status"], "running");
    other.orlop(&["delete", "--force", &other.id]).ok();
    other.assert_nothing_left("delete");
}
