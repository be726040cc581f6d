//! Hooks: config.md#posix-platform-hooks (runtime-spec v1.3.0).
//!
//! prestart, createRuntime, poststart and poststop are run by the runtime; createContainer and
//! startContainer by init, as they belong in the container's namespaces. Each gets the
//! container's state as JSON on its standard input.

use std::ffi::CString;
use std::fmt;
use std::io::{Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{anyhow, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use oci_spec::runtime::Hook;

use crate::error::{Result, Why, errno_text};
use crate::plan::{Fault, Init, Inside, Outside, Plan, Runtime, Slot};
use crate::sys::clone::{Cloned, fork};
use crate::sys::fd;
use crate::sys::process::{self, Exit, Strings};

/// The state that hooks are given, as JSON, for a pid that is known only when they run.
pub type State = Rc<dyn Fn(&'static str, i32) -> String>;

/// Adds the hooks of one kind, run by the runtime with that status.
pub fn plan_outside(kind: &'static str, hooks: &[Hook], status: &'static str, state: &State, plan: &mut Plan) {
    for (index, hook) in hooks.iter().enumerate() {
        let json = format!("hooks.{kind}[{index}]");
        plan.outside(RunOutside { json, hook: hook.clone(), status, state: state.clone() });
    }
}

/// Adds the writing of the state into memory that init will read from; for the first outside turn.
pub fn plan_state(status: &'static str, state: &State, plan: &mut Plan) -> Slot {
    let slot = plan.slot();
    plan.before(MakeMemory(slot));
    plan.outside(WriteState { status, state: state.clone(), slot });
    slot
}

/// Adds the hooks of one kind, run by init.
///
/// # Errors
/// NUL bytes.
pub fn plan_inside(kind: &'static str, hooks: &[Hook], state: Slot, plan: &mut Plan) -> Result<()> {
    for (index, hook) in hooks.iter().enumerate() {
        let json = format!("hooks.{kind}[{index}]");
        let nul = |_| anyhow!("config.json: {json} contains a NUL byte");
        let c = |text: &str| CString::new(text).map_err(nul);
        let path = c(&hook.path().to_string_lossy())?;
        let args = match hook.args() {
            Some(args) if !args.is_empty() => args.iter().map(|arg| c(arg)).collect::<Result<Vec<_>>>()?,
            _ => vec![path.clone()],
        };
        let env = hook.env().iter().flatten().map(|pair| c(pair)).collect::<Result<Vec<_>>>()?;
        let timeout = hook.timeout().filter(|seconds| *seconds > 0).map(|seconds| seconds.saturating_mul(1000));
        let (argv, env) = (Strings::new(args), Strings::new(env));
        plan.inside(RunInside { json, path, argv, env, timeout, state });
    }
    Ok(())
}

/// Runs one hook now, in the runtime's namespaces.
///
/// # Errors
/// When it cannot be run, does not end in time, or fails; its standard error is quoted.
pub fn run(hook: &Hook, state: &str) -> Result<()> {
    let path = hook.path();
    let mut command = Command::new(path);
    if let Some((first, rest)) = hook.args().as_deref().and_then(<[String]>::split_first) {
        command.arg0(first).args(rest);
    }
    command.env_clear();
    command.envs(hook.env().iter().flatten().filter_map(|pair| pair.split_once('=')));
    let mut output = std::fs::File::from(fd::memfd(c"hook output").why(|| "memfd_create")?);
    let shared = |file: &std::fs::File| file.try_clone().why(|| "dup");
    // Not a pipe: a hook need not read its input, and a long one would block.
    let mut input = std::fs::File::from(fd::memfd(c"state").why(|| "memfd_create")?);
    input.write_all(state.as_bytes()).and_then(|()| input.rewind()).why(|| "writing the state")?;
    command.stdin(input).stdout(shared(&output)?).stderr(shared(&output)?);
    let mut child = command.spawn().why(|| format!("running hook {path:?}"))?;
    if let Some(seconds) = hook.timeout().filter(|seconds| *seconds > 0) {
        let pidfd = process::pidfd_open(child.id() as i32).why(|| "pidfd_open")?;
        let end = Duration::from_secs(seconds as u64);
        let timeout = PollTimeout::try_from(end).unwrap_or(PollTimeout::MAX);
        if poll(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], timeout).why(|| "poll")? == 0 {
            let _ = child.kill();
            let _ = child.wait();
            bail!("hook {path:?} ran past the timeout of {:.1}s", end.as_secs_f64());
        }
    }
    let status = child.wait().why(|| format!("waiting for hook {path:?}"))?;
    if status.success() {
        return Ok(());
    }
    let mut said = String::new();
    let _ = output.rewind();
    let _ = std::io::Read::read_to_string(&mut std::io::Read::take(&mut output, 4096), &mut said);
    bail!("hook {path:?} failed ({status}): {}", said.trim())
}

struct RunOutside {
    json: String,
    hook: Hook,
    status: &'static str,
    state: State,
}

impl fmt::Display for RunOutside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "running {} {:?}", self.json, self.hook.path())
    }
}

impl Outside for RunOutside {
    fn run(&self, runtime: &mut Runtime) -> Result<()> {
        let pid = runtime.child()?.pid;
        run(&self.hook, &(self.state)(self.status, pid))
    }
}

struct MakeMemory(Slot);

impl fmt::Display for MakeMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("making memory for the state that hooks read")
    }
}

impl Outside for MakeMemory {
    fn run(&self, runtime: &mut Runtime) -> Result<()> {
        runtime.slots.put(self.0, fd::memfd(c"state").why(|| "memfd_create")?);
        Ok(())
    }
}

struct WriteState {
    status: &'static str,
    state: State,
    slot: Slot,
}

impl fmt::Display for WriteState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "writing the state ({}) for hooks", self.status)
    }
}

impl Outside for WriteState {
    fn run(&self, runtime: &mut Runtime) -> Result<()> {
        let text = (self.state)(self.status, runtime.child()?.pid);
        let memory = runtime.slots.get(self.slot).why(|| "state memory")?;
        fd::write_once(memory, text.as_bytes()).why(|| "writing the state")
    }
}

struct RunInside {
    json: String,
    path: CString,
    argv: Strings,
    env: Strings,
    timeout: Option<i64>,
    state: Slot,
}

/// How a hook of init failed; the fault's detail beside EXFULL, which no system call here gives.
const SIGNALLED: u64 = 1 << 32;
const TIMED_OUT: u64 = 1 << 33;

impl fmt::Display for RunInside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "running {} {:?}", self.json, self.path)
    }
}

impl Inside for RunInside {
    fn run(&self, init: &mut Init<'_>) -> std::result::Result<(), Fault> {
        let state = init.slots.get(self.state)?;
        match fork()? {
            Cloned::Child => {
                nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
                let prepared = fd::rewind(state).and_then(|()| fd::dup_to(state, 0));
                if prepared.and_then(|()| process::default_signals()).is_ok() {
                    self.env.execve(&self.path, &self.argv);
                }
                process::exit(127)
            }
            Cloned::Parent(_, pidfd) => {
                if let Some(milliseconds) = self.timeout {
                    let timeout = PollTimeout::try_from(milliseconds).unwrap_or(PollTimeout::MAX);
                    if poll(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], timeout)? == 0 {
                        process::pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL)?;
                        process::wait(pidfd.as_fd(), 0)?;
                        return Err(Fault { errno: Errno::EXFULL, detail: TIMED_OUT });
                    }
                }
                match process::wait(pidfd.as_fd(), 0)? {
                    Some(Exit::Status(0)) => Ok(()),
                    Some(Exit::Status(status)) => Err(Fault { errno: Errno::EXFULL, detail: status as u64 }),
                    Some(Exit::Signal(signal)) => {
                        Err(Fault { errno: Errno::EXFULL, detail: SIGNALLED | signal as u64 })
                    }
                    None => Err(Errno::ECHILD.into()),
                }
            }
        }
    }

    fn explain(&self, fault: Fault) -> String {
        match (fault.errno, fault.detail) {
            (Errno::EXFULL, TIMED_OUT) => {
                format!("ran past the timeout of {}s", self.timeout.unwrap_or_default() / 1000)
            }
            _ => explain_status(fault),
        }
    }
}

/// How a hook of init ended, in words.
pub fn explain_status(fault: Fault) -> String {
    match (fault.errno, fault.detail) {
        (Errno::EXFULL, TIMED_OUT) => "ran past its timeout".into(),
        (Errno::EXFULL, 127) => "exit status 127 (or it could not be executed)".into(),
        (Errno::EXFULL, detail) if detail & SIGNALLED != 0 => format!("killed by signal {}", detail & 0xff),
        (Errno::EXFULL, status) => format!("exit status {status}"),
        (errno, _) => errno_text(errno),
    }
}
