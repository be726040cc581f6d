//! Commands killed at any moment, damaged records, and two commands at once.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::case::Case;
use crate::need_root;

/// Delays between nothing and `most`, by a linear congruential generator: the same in every run of the test.
struct Delays {
    seed: u64,
    most: Duration,
}

impl Delays {
    /// Somewhat more than the command takes, so that some of the kills come too late.
    fn like(duration: Duration) -> Delays {
        Delays { seed: 1, most: duration * 5 / 4 }
    }

    fn next(&mut self) -> Duration {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.most.mul_f64((self.seed >> 11) as f64 / (1u64 << 53) as f64)
    }
}

/// Starts a command and kills it after the delay; says whether it was killed.
fn kill_after(case: &Case, words: &[&str], delay: Duration) -> bool {
    use std::os::unix::process::ExitStatusExt;
    let mut child = quiet(case, words);
    std::thread::sleep(delay);
    child.kill().unwrap();
    child.wait().unwrap().signal().is_some()
}

fn quiet(case: &Case, words: &[&str]) -> Child {
    let mut command = case.bundle.command(words);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Kills the command fifty times, at moments spread over its whole time.
fn kill_at_any_moment(case: &Case, command: &[&str]) {
    let words = case.words(command);
    let begin = Instant::now();
    case.orlop(&words).ok();
    let mut delays = Delays::like(begin.elapsed());
    case.orlop(&["delete", "--force", &case.id]).ok();
    let mut killed = 0;
    for _ in 0..50 {
        let delay = delays.next();
        killed += usize::from(kill_after(case, &words, delay));
        let deleted = case.orlop(&["delete", "--force", &case.id]);
        assert_eq!((deleted.code, deleted.stderr.as_str()), (0, ""), "{command:?} killed after {delay:?}");
        case.assert_nothing_left(&format!("{command:?} killed after {delay:?}"));
    }
    assert_ne!(killed, 0);
}

#[test]
fn a_create_killed_at_any_moment_can_be_deleted() {
    need_root!();
    kill_at_any_moment(&Case::with_everything("true"), &["create"]);
}

#[test]
fn a_run_killed_at_any_moment_can_be_deleted() {
    need_root!();
    kill_at_any_moment(&Case::with_everything("sleep 20"), &["run", "--detach"]);
}

#[test]
fn a_delete_killed_at_any_moment_can_be_repeated() {
    need_root!();
    let case = Case::with_everything("sleep 100");
    let run = case.words(&["run", "--detach"]);
    case.orlop(&run).ok();
    let begin = Instant::now();
    case.orlop(&["delete", "--force", &case.id]).ok();
    let mut delays = Delays::like(begin.elapsed());
    let mut killed = 0;
    for _ in 0..50 {
        let delay = delays.next();
        case.orlop(&run).ok();
        killed += usize::from(kill_after(&case, &["delete", "--force", &case.id], delay));
        let deleted = case.orlop(&["delete", "--force", &case.id]);
        assert_eq!((deleted.code, deleted.stderr.as_str()), (0, ""), "delete killed after {delay:?}");
        case.assert_nothing_left(&format!("delete killed after {delay:?}"));
    }
    assert_ne!(killed, 0);
}

#[test]
fn a_damaged_record_is_an_error_and_delete_force_removes_the_container() {
    need_root!();
    let case = Case::new("sleep 100").without_parent_cgroup();
    let file = case.bundle.root().join(&case.id).join("state.json");
    for what in ["empty", "truncated", "of another kind", "no JSON"] {
        case.orlop(&case.words(&["run", "--detach"])).ok();
        let whole = std::fs::read(&file).unwrap();
        let damaged = match what {
            "empty" => &[],
            "truncated" => &whole[..whole.len() / 2],
            "of another kind" => b"{}",
            _ => &[0; 4][..],
        };
        std::fs::write(&file, damaged).unwrap();
        for command in [&["state", &case.id][..], &["start", &case.id], &["kill", &case.id], &["delete", &case.id]] {
            let error = case.orlop(command).fails();
            assert!(error.contains("is damaged") && error.contains("delete --force"), "{what}, {command:?}: {error}");
        }
        // One damaged container does not hide the others.
        assert_eq!(case.orlop(&["list", "--format", "json"]).code, 0);
        case.orlop(&["delete", "--force", &case.id]).ok();
        case.assert_nothing_left(&format!("record {what}"));
    }
}

#[test]
fn a_missing_record_is_an_error_and_delete_force_removes_the_container() {
    need_root!();
    let case = Case::new("sleep 100").without_parent_cgroup();
    for command in [&["run", "--detach"][..], &["create"]] {
        case.orlop(&case.words(command)).ok();
        std::fs::remove_file(case.bundle.root().join(&case.id).join("state.json")).unwrap();
        let error = case.orlop(&["state", &case.id]).fails();
        assert!(error.contains("is missing"), "{error}");
        case.orlop(&["delete", "--force", &case.id]).ok();
        case.assert_nothing_left("missing record");
    }
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
