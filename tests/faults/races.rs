//! Two commands at once on one container: one after the other, whichever comes first, and no torn record.

use std::process::{Child, Stdio};

use serde_json::json;

use crate::case::Case;
use crate::need_root;

fn quiet(case: &Case, words: &[&str]) -> Child {
    let mut command = case.bundle.command(words);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Runs the same command twice at once; gives the statuses in order.
fn twice(case: &Case, words: &[&str]) -> [i32; 2] {
    let mut both = [quiet(case, words), quiet(case, words)];
    let mut codes = [0, 1].map(|at| both[at].wait().unwrap().code().unwrap());
    codes.sort_unstable();
    codes
}

#[test]
fn of_two_creates_of_one_id_one_succeeds() {
    need_root!();
    let case = Case::new("sleep 100");
    for _ in 0..15 {
        assert_eq!(twice(&case, &case.words(&["create"])), [0, 1]);
        assert_eq!(case.bundle.state(&case.id)["status"], "created");
        case.orlop(&["start", &case.id]).ok();
        assert_eq!(case.bundle.state(&case.id)["status"], "running");
        case.orlop(&["delete", "--force", &case.id]).ok();
        case.assert_nothing_left("two creates and a delete");
    }
}

#[test]
fn of_two_starts_one_succeeds() {
    need_root!();
    let case = Case::new("sleep 100");
    for _ in 0..15 {
        case.orlop(&case.words(&["create"])).ok();
        assert_eq!(twice(&case, &["start", &case.id]), [0, 1]);
        assert_eq!(case.bundle.state(&case.id)["status"], "running");
        case.orlop(&["delete", "--force", &case.id]).ok();
    }
    case.assert_nothing_left("two starts and a delete");
}

#[test]
fn two_deletes_at_once_delete_once() {
    need_root!();
    let case = Case::new("sleep 100");
    for force in [true, false].into_iter().cycle().take(20) {
        case.orlop(&case.words(&["run", "--detach"])).ok();
        if force {
            assert_eq!(twice(&case, &["delete", "--force", &case.id]), [0, 0]);
        } else {
            case.orlop(&["kill", &case.id, "KILL"]).ok();
            case.bundle.wait_for(&case.id, "stopped");
            assert_eq!(twice(&case, &["delete", &case.id]), [0, 1]);
        }
        case.assert_nothing_left("two deletes");
    }
}

/// Runs a command while another deletes the container by force, ten times, after `prepare`. What the command says must be
/// one of `sayings`, where it says anything.
fn against_delete(case: &Case, prepare: &[&str], command: &[&str], sayings: &[&str]) {
    let words =
        |command: &[&str]| command.iter().map(|word| (*word).to_owned()).chain([case.id.clone()]).collect::<Vec<_>>();
    let mut command = words(command);
    if command.first().is_some_and(|word| word == "exec") {
        command.push("true".into());
    }
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    for round in 0..10 {
        case.orlop(&case.words(prepare)).ok();
        let delete = quiet(case, &["delete", "--force", &case.id]);
        // The one that begins first is not always the first to get the lock.
        std::thread::sleep(std::time::Duration::from_millis(round / 2));
        let done = case.orlop(&command);
        let deleted = delete.wait_with_output().unwrap().status;
        assert_eq!(deleted.code(), Some(0), "round {round}: delete beside {command:?}, which said {done:?}");
        let said = done.stderr.trim();
        let sensible = said.is_empty() || sayings.iter().any(|saying| said.contains(saying));
        assert!(sensible && said.lines().count() <= 1, "round {round}: {command:?} beside delete: {done:?}");
        case.assert_nothing_left(&format!("{command:?} beside delete"));
    }
}

/// What a command says of a container that is about to go, or has gone.
const GONE: [&str; 5] =
    ["container does not exist", "has stopped", "not running", "has died", "is missing (delete --force"];

#[test]
fn a_start_beside_a_delete_comes_first_or_finds_nothing() {
    need_root!();
    against_delete(&Case::new("sleep 100"), &["create"], &["start"], &GONE);
}

#[test]
fn a_kill_beside_a_delete_comes_first_or_finds_nothing() {
    need_root!();
    let case = Case::new("sleep 100");
    against_delete(&case, &["run", "--detach"], &["kill"], &GONE);
}

#[test]
fn an_exec_beside_a_delete_ends_and_leaves_nothing() {
    need_root!();
    // Its process may be killed with the container at any step.
    let sayings = [&GONE[..], &["container's init was killed by signal 9", "exec failed: "]].concat();
    against_delete(&Case::new("sleep 100"), &["run", "--detach"], &["exec"], &sayings);
}

#[test]
fn a_pause_beside_a_delete_does_not_stop_it() {
    need_root!();
    against_delete(&Case::new("sleep 100"), &["run", "--detach"], &["pause"], &GONE);
}

#[test]
fn an_update_beside_a_delete_ends_and_leaves_nothing() {
    need_root!();
    let mut case = Case::new("sleep 100");
    case.bundle.config["linux"]["resources"]["pids"] = json!({"limit": 64});
    against_delete(&case, &["run", "--detach"], &["update", "--pids-limit", "32"], &GONE);
}

#[test]
fn a_record_read_while_it_is_written_is_whole() {
    need_root!();
    let case = Case::new("sleep 100");
    // `list` has nothing to look into before the first container.
    std::fs::create_dir_all(case.bundle.root()).unwrap();
    for _ in 0..10 {
        let words = case.words(&["create"]);
        let mut create = quiet(&case, &words);
        while create.try_wait().unwrap().is_none() {
            let state = case.orlop(&["state", &case.id]);
            let known = state.code == 0 || state.stderr.contains("container does not exist");
            assert!(known, "{state:?}");
            case.orlop(&["list", "--format", "json"]).ok();
        }
        case.orlop(&["delete", "--force", &case.id]).ok();
        case.assert_nothing_left("create and delete");
    }
}
