//! Commands killed at any moment.

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
