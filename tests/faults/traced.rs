//! Commands that carry out no plan, killed before each system call that changes anything.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde_json::json;

use crate::case::Case;
use crate::{need_root, skip};

/// System calls between which nothing changes for anybody else; a kill between two of them is like one before the second.
const CHANGING: [i64; 19] = [
    libc::SYS_write,
    libc::SYS_pwrite64,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_unlinkat,
    libc::SYS_mkdirat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_symlinkat,
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_kill,
    libc::SYS_pidfd_send_signal,
    libc::SYS_fsync,
    libc::SYS_flock,
    libc::SYS_bpf,
    libc::SYS_exit_group,
    libc::SYS_ppoll,
    libc::SYS_fchmodat,
];

#[cfg(target_arch = "x86_64")]
const OLD_CALLS: [i64; 7] = [
    libc::SYS_unlink,
    libc::SYS_rmdir,
    libc::SYS_mkdir,
    libc::SYS_rename,
    libc::SYS_chmod,
    libc::SYS_poll,
    libc::SYS_mknod,
];

/// The system call that a stopped process is about to make; `None` when it comes back from one.
#[cfg(target_arch = "x86_64")]
fn entered(pid: Pid) -> Option<i64> {
    let registers = ptrace::getregs(pid).unwrap();
    let number = registers.orig_rax as i64;
    // As long as the call has not been made, the kernel keeps ENOSYS as its result.
    (registers.rax as i64 == -i64::from(libc::ENOSYS)).then_some(number)
}

#[cfg(target_arch = "x86_64")]
fn changes(number: i64) -> bool {
    CHANGING.contains(&number) || OLD_CALLS.contains(&number)
}

/// How a traced command went.
#[derive(Debug, PartialEq, Eq)]
enum Traced {
    /// Killed before this system call.
    Killed(i64),
    /// It ended before it came so far.
    Ended(i32),
}

/// Runs a command and kills it before its `nth` changing system call, counted from 0.
#[cfg(target_arch = "x86_64")]
#[allow(clippy::zombie_processes, reason = "it is waited for as a tracer waits, by its pid")]
fn kill_before(command: &Command, nth: usize) -> Traced {
    let mut stopped = Command::new("sh");
    stopped.args(["-c", "kill -STOP $$; exec \"$@\"", "sh"]).arg(command.get_program()).args(command.get_args());
    stopped.current_dir(command.get_current_dir().unwrap()).stdin(Stdio::null());
    let child = stopped.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let pid = Pid::from_raw(child.id() as i32);
    waitpid(pid, Some(WaitPidFlag::WUNTRACED)).unwrap();
    let options = Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACEEXEC | Options::PTRACE_O_EXITKILL;
    ptrace::seize(pid, options).unwrap();
    kill(pid, Signal::SIGCONT).unwrap();
    let (mut executed, mut seen) = (false, 0);
    loop {
        let status = waitpid(pid, Some(WaitPidFlag::__WALL)).unwrap();
        let mut pass_on = None;
        match status {
            WaitStatus::Exited(_, code) => return Traced::Ended(code),
            WaitStatus::Signaled(_, signal, _) => panic!("{command:?} died of {signal}"),
            WaitStatus::PtraceEvent(_, _, event) if event == libc::PTRACE_EVENT_EXEC => executed = true,
            WaitStatus::PtraceSyscall(_) => {
                if let Some(number) = entered(pid).filter(|number| executed && changes(*number)) {
                    if seen == nth {
                        kill(pid, Signal::SIGKILL).unwrap();
                        waitpid(pid, Some(WaitPidFlag::__WALL)).unwrap();
                        return Traced::Killed(number);
                    }
                    seen += 1;
                }
            }
            WaitStatus::Stopped(_, signal)
                if !matches!(signal, Signal::SIGTRAP | Signal::SIGCONT | Signal::SIGSTOP) =>
            {
                pass_on = Some(signal);
            }
            _ => {}
        }
        // It may have been killed meanwhile, as init's death is.
        let _ = ptrace::syscall(pid, pass_on);
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn kill_before(_: &Command, _: usize) -> Traced {
    Traced::Ended(0)
}

/// Kills a command before each of its changing system calls in turn; `prepare` comes before each kill, `check` after it.
fn kill_before_every_call(case: &Case, command: &[&str], prepare: impl Fn(), check: impl Fn(&str)) {
    let mut hit = BTreeSet::new();
    for nth in 0.. {
        prepare();
        let after = format!("{command:?} killed before its changing system call {nth}");
        let traced = kill_before(&case.bundle.command(command), nth);
        check(&after);
        match traced {
            Traced::Killed(number) => drop(hit.insert(number)),
            Traced::Ended(code) => {
                assert_eq!(code, 0, "{command:?}");
                break;
            }
        }
        assert!(nth < 1000, "{command:?} never ends");
    }
    assert!(hit.len() > 1, "only {hit:?} were hit");
}

macro_rules! need_tracing {
    () => {
        if !cfg!(target_arch = "x86_64") {
            skip!("the tests read system calls' numbers from the registers of x86_64 only");
        }
    };
}

fn delete_again(case: &Case, after: &str) {
    let deleted = case.orlop(&["delete", "--force", &case.id]);
    assert_eq!((deleted.code, deleted.stderr.as_str()), (0, ""), "{after}");
    case.assert_nothing_left(after);
}

fn with_limits() -> Case {
    let mut case = Case::new("sleep 200");
    case.bundle.config["linux"]["resources"] =
        json!({"memory": {"limit": 256 << 20}, "pids": {"limit": 64}, "cpu": {"shares": 512}});
    case
}

#[test]
fn a_forced_delete_killed_before_any_change_can_be_repeated() {
    need_root!();
    need_tracing!();
    let case = with_limits();
    let run = || drop(case.orlop(&case.words(&["run", "--detach"])).ok());
    kill_before_every_call(&case, &["delete", "--force", &case.id], run, |after| {
        let listed = case.orlop(&["list", "--format", "json"]);
        assert_eq!(listed.code, 0, "{after}: {listed:?}");
        delete_again(&case, after);
    });
}

#[test]
fn a_delete_of_a_created_container_killed_before_any_change_can_be_repeated() {
    need_root!();
    need_tracing!();
    let case = Case::new("true");
    let prepare = || {
        case.orlop(&case.words(&["create"])).ok();
    };
    kill_before_every_call(&case, &["delete", &case.id], prepare, |after| {
        // Without force, too, unless the kill came while the container was frozen for its end, or its record had gone.
        let deleted = case.orlop(&["delete", &case.id]);
        let expected = ["does not exist", "not stopped: paused", "is missing (delete --force removes what is left)"]
            .iter()
            .any(|said| deleted.stderr.contains(said));
        assert!(deleted.code == 0 || expected, "{after}: {deleted:?}");
        delete_again(&case, after);
    });
}

#[test]
fn an_update_killed_before_any_change_can_be_repeated() {
    need_root!();
    need_tracing!();
    let case = with_limits();
    case.orlop(&case.words(&["run", "--detach"])).ok();
    let update = ["update", "--memory", "128m", "--pids-limit", "32", "--cpu-share", "1024", &case.id];
    kill_before_every_call(
        &case,
        &update,
        || (),
        |after| {
            assert_eq!(case.bundle.state(&case.id)["status"], "running", "{after}");
            case.orlop(&["update", "--memory", "192m", "--pids-limit", "48", "--cpu-share", "256", &case.id]).ok();
        },
    );
    delete_again(&case, "delete");
}

#[test]
fn a_start_killed_before_any_change_leaves_a_container_that_can_be_deleted() {
    need_root!();
    need_tracing!();
    let case = Case::new("sleep 200");
    let create = || drop(case.orlop(&case.words(&["create"])).ok());
    kill_before_every_call(&case, &["start", &case.id], create, |after| {
        let status = case.bundle.state(&case.id)["status"].clone();
        assert!(["created", "running", "stopped"].contains(&status.as_str().unwrap()), "{after}: {status}");
        delete_again(&case, after);
    });
}

#[test]
fn a_pause_killed_before_any_change_leaves_a_container_that_can_be_deleted() {
    need_root!();
    need_tracing!();
    let case = Case::new("sleep 200");
    let run = || drop(case.orlop(&case.words(&["run", "--detach"])).ok());
    kill_before_every_call(&case, &["pause", &case.id], run, |after| delete_again(&case, after));
}
