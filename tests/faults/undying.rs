//! Processes that do not do what they are told, and cgroups that go away.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::case::Case;
use crate::common::cgroups_of;
use crate::{need_root, skip};

fn pid_of(case: &Case) -> Pid {
    Pid::from_raw(case.bundle.state(&case.id)["pid"].as_i64().unwrap() as i32)
}

#[test]
fn a_container_whose_processes_are_stopped_is_killed_and_deleted() {
    need_root!();
    let case = Case::new("sleep 100 & sleep 100");
    for command in [&["delete", "--force", &case.id][..], &["kill", &case.id, "KILL"]] {
        case.orlop(&case.words(&["run", "--detach"])).ok();
        kill(pid_of(&case), Signal::SIGSTOP).unwrap();
        case.orlop(command).ok();
        case.orlop(&["delete", "--force", &case.id]).ok();
        case.assert_nothing_left(&format!("{command:?} of a stopped process"));
    }
}

#[test]
fn a_paused_container_is_deleted_by_force() {
    need_root!();
    let case = Case::new("sleep 100");
    case.orlop(&case.words(&["run", "--detach"])).ok();
    case.orlop(&["pause", &case.id]).ok();
    case.orlop(&["delete", "--force", &case.id]).ok();
    case.assert_nothing_left("delete of a paused container");
}

/// Thaws a v1 freezer cgroup when the test ends, however it ends.
struct Frozen(PathBuf);

impl Frozen {
    fn new(cgroup: &Path) -> Frozen {
        std::fs::write(cgroup.join("freezer.state"), "FROZEN").unwrap();
        Frozen(cgroup.to_owned())
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = std::fs::write(self.0.join("freezer.state"), "THAWED");
    }
}

#[test]
fn a_delete_of_what_cannot_die_ends_in_time_and_says_what_is_left() {
    need_root!();
    let freezer = Path::new("/sys/fs/cgroup/freezer");
    if !freezer.join("cgroup.procs").exists() {
        skip!("no v1 freezer, under whose frozen cgroups nothing dies");
    }
    let case = Case::new("sleep 100");
    case.orlop(&case.words(&["run", "--detach"])).ok();
    let pid = pid_of(&case);
    // An ancestor that is frozen keeps SIGKILL from being acted upon, as an unanswered disk or file server does.
    let frozen = Frozen::new(&freezer.join(format!("{}parent", case.mark)));
    let begin = Instant::now();
    let error = case.orlop(&["delete", "--force", &case.id]).fails();
    assert!(begin.elapsed() < Duration::from_secs(29), "{:?}", begin.elapsed());
    assert!(error.contains(&format!("pid {pid}")) && error.contains("frozen"), "{error}");
    assert!(error.contains("sleep") || error.contains(&format!("{pid} (")), "the processes left are named: {error}");
    // It is still there to be tried again.
    assert_eq!(case.orlop(&["list", "--quiet"]).ok().trim(), case.id);
    drop(frozen);
    case.orlop(&["delete", "--force", &case.id]).ok();
    case.assert_nothing_left("a second delete");
}

/// Takes all processes out of the container's cgroups, and removes those.
fn remove_cgroups(case: &Case, pid: Pid) {
    for dir in cgroups_of(&case.id) {
        let parent = dir.parent().unwrap().parent().unwrap();
        std::fs::write(parent.join("cgroup.procs"), pid.to_string()).unwrap();
        std::fs::remove_dir(dir).unwrap();
    }
}

#[test]
fn a_container_whose_cgroups_have_vanished_is_killed_and_deleted() {
    need_root!();
    if !Path::new("/sys/fs/cgroup/freezer").exists() {
        skip!("on v2 a process cannot be put back into a cgroup that has others below");
    }
    let case = Case::new("sleep 100");
    case.orlop(&case.words(&["run", "--detach"])).ok();
    let pid = pid_of(&case);
    remove_cgroups(&case, pid);
    assert_eq!(case.bundle.state(&case.id)["status"], "running");
    for command in [&["update", "--pids-limit", "5", &case.id][..], &["pause", &case.id]] {
        let error = case.orlop(command).fails();
        assert!(error.contains("no such file or directory") || error.contains("cgroup"), "{command:?}: {error}");
    }
    let done = case.orlop(&["exec", &case.id, "true"]);
    assert!(done.code == 255 && done.stderr.contains("cgroup"), "{done:?}");
    case.orlop(&["delete", "--force", &case.id]).ok();
    case.assert_nothing_left("delete without cgroups");
}

#[test]
fn cgroups_that_vanish_under_a_command_are_an_error_or_made_again() {
    need_root!();
    let case = Case::new("sleep 100");
    for _ in 0..10 {
        let mut command = case.bundle.command(&case.words(&["run", "--detach"]));
        let files = case.bundle.temp().join("vanish");
        command.stdout(std::process::Stdio::null()).stderr(std::fs::File::create(&files).unwrap());
        let mut run = command.spawn().unwrap();
        let status = loop {
            for dir in cgroups_of(&case.id) {
                // Only those that nobody is in yet.
                let _ = std::fs::remove_dir(dir);
            }
            if let Some(status) = run.try_wait().unwrap() {
                break status;
            }
        };
        let said = std::fs::read_to_string(&files).unwrap();
        assert!(status.success() || said.contains("cgroup") && said.lines().count() == 1, "{status}: {said}");
        if !status.success() {
            // What was made is undone by the command itself; of the parent nothing is left either.
            case.assert_nothing_left("a failed run");
        }
        case.orlop(&["delete", "--force", &case.id]).ok();
        case.assert_nothing_left("delete");
    }
}
