//! Hooks: config.md#posix-platform-hooks (runtime-spec v1.3.0).
//!
//! prestart, createRuntime, poststart and poststop are run by the runtime; createContainer and
//! startContainer by init, as they belong in the container's namespaces. Each gets the
//! container's state as JSON on its standard input.

use std::cell::RefCell;
use std::ffi::{CStr, CString};
use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{anyhow, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use oci_spec::runtime::{Hook, Hooks};

use crate::error::{Result, Why, errno_text};
use crate::plan::{Fault, Init, Inside, Outside, Plan, Runtime, Slot};
use crate::sys::clone::{Cloned, fork};
use crate::sys::fd;
use crate::sys::process::{self, Exit, Strings};

/// The state that hooks are given, as JSON, for a pid that is known only when they run.
pub type State = Rc<dyn Fn(&'static str, i32) -> String>;

/// What a hook is called in messages: runc's words, which callers match.
pub fn name(kind: &str, index: usize) -> String {
    format!("{kind} hook #{index}")
}

/// The environment of the container's process, which startContainer hooks without one of their own are given.
pub struct Inherited {
    /// All of it, but for a HOME that is looked up in the image.
    pub env: Rc<Strings>,
    /// Whether that HOME is to be added.
    pub needs_home: bool,
}

/// What the hooks of init read and write.
#[derive(Clone)]
pub struct Memory {
    state: Slot,
    output: Slot,
    said: Said,
}

/// The memory that a hook of init writes to, as the runtime holds it.
type Said = Rc<RefCell<Option<File>>>;

/// Whether some run when all is mounted and the root has not been changed yet.
pub fn look_at_mounts(hooks: &Hooks) -> bool {
    #[allow(deprecated)]
    let lists = [hooks.prestart(), hooks.create_runtime(), hooks.create_container()];
    lists.into_iter().flatten().any(|list| !list.is_empty())
}

/// Adds the hooks of one kind, run by the runtime with that status.
pub fn plan_outside(kind: &'static str, hooks: &[Hook], status: &'static str, state: &State, plan: &mut Plan) {
    for (index, hook) in hooks.iter().enumerate() {
        plan.outside(RunOutside { name: name(kind, index), hook: hook.clone(), status, state: state.clone() });
    }
}

/// Adds the writing of the state into memory that init will read from; for the first outside turn.
pub fn plan_state(status: &'static str, state: &State, plan: &mut Plan) -> Memory {
    let memory = Memory { state: plan.slot(), output: plan.slot(), said: Rc::default() };
    plan.before(MakeMemory(memory.clone()));
    plan.outside(WriteState { status, state: state.clone(), slot: memory.state });
    memory
}

/// Adds the hooks of one kind, run by init.
///
/// # Errors
/// NUL bytes.
pub fn plan_inside(
    kind: &'static str,
    hooks: &[Hook],
    memory: &Memory,
    inherited: Option<&Inherited>,
    plan: &mut Plan,
) -> Result<()> {
    for (index, hook) in hooks.iter().enumerate() {
        let nul = |_| anyhow!("config.json: hooks.{kind}[{index}] contains a NUL byte");
        let c = |text: &str| CString::new(text).map_err(nul);
        let path = c(&hook.path().to_string_lossy())?;
        let args = match hook.args() {
            Some(args) if !args.is_empty() => args.iter().map(|arg| c(arg)).collect::<Result<Vec<_>>>()?,
            _ => vec![path.clone()],
        };
        let own = hook.env().iter().flatten().map(|pair| c(pair)).collect::<Result<Vec<_>>>()?;
        let (env, needs_home) = match inherited {
            Some(inherited) if own.is_empty() => (inherited.env.clone(), inherited.needs_home),
            _ => (Rc::new(Strings::new(own)), false),
        };
        let timeout = hook.timeout().filter(|seconds| *seconds > 0).map(|seconds| seconds.saturating_mul(1000));
        let (name, argv, memory) = (name(kind, index), Strings::new(args), memory.clone());
        plan.inside(RunInside { name, path, argv, env, needs_home, timeout, memory });
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
    let mut output = File::from(fd::memfd(c"hook output").why(|| "memfd_create")?);
    let shared = |file: &File| file.try_clone().why(|| "dup");
    // Not a pipe: a hook need not read its input, and a long one would block.
    let mut input = File::from(fd::memfd(c"state").why(|| "memfd_create")?);
    input.write_all(state.as_bytes()).and_then(|()| input.rewind()).why(|| "writing the state")?;
    command.stdin(input).stdout(shared(&output)?).stderr(shared(&output)?);
    let mut child = command.spawn().why(|| "executing it")?;
    if let Some(seconds) = hook.timeout().filter(|seconds| *seconds > 0) {
        let handle = process::handle(child.id() as i32).why(|| "pidfd_open")?;
        let end = Duration::from_secs(seconds as u64);
        if !process::await_end(handle.as_fd(), end).why(|| "poll")? {
            let _ = child.kill();
            let _ = child.wait();
            bail!("ran past the timeout of {:.1}s", end.as_secs_f64());
        }
    }
    let status = child.wait().why(|| "waiting for it")?;
    if status.success() {
        return Ok(());
    }
    bail!("{status}{}", quoted(&mut output))
}

/// What a hook has written, cut to a size that a message can hold.
fn quoted(output: &mut File) -> String {
    let mut said = Vec::new();
    let _ = output.rewind();
    let _ = output.take(4096).read_to_end(&mut said);
    let said = String::from_utf8_lossy(&said);
    let said = said.trim();
    if said.is_empty() { String::new() } else { format!(", output: {said}") }
}

struct RunOutside {
    name: String,
    hook: Hook,
    status: &'static str,
    state: State,
}

impl fmt::Display for RunOutside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "running {}: {:?}", self.name, self.hook.path())
    }
}

impl Outside for RunOutside {
    fn run(&self, runtime: &mut Runtime) -> Result<()> {
        let pid = runtime.child()?.pid;
        run(&self.hook, &(self.state)(self.status, pid))
    }
}

struct MakeMemory(Memory);

impl fmt::Display for MakeMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("making memory for the state that hooks read and for what they write")
    }
}

impl Outside for MakeMemory {
    fn run(&self, runtime: &mut Runtime) -> Result<()> {
        let Memory { state, output, said } = &self.0;
        runtime.slots.put(*state, fd::memfd(c"state").why(|| "memfd_create")?);
        let memory = fd::memfd(c"hook output").why(|| "memfd_create")?;
        said.replace(Some(memory.try_clone().why(|| "dup")?.into()));
        runtime.slots.put(*output, memory);
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
    name: String,
    path: CString,
    argv: Strings,
    env: Rc<Strings>,
    needs_home: bool,
    timeout: Option<i64>,
    memory: Memory,
}

/// How a hook of init failed; the fault's detail beside EXFULL, which no system call here gives.
const SIGNALLED: u64 = 1 << 32;
const TIMED_OUT: u64 = 1 << 33;

impl fmt::Display for RunInside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "running {}: {:?}", self.name, self.path)
    }
}

impl Inside for RunInside {
    fn run(&self, init: &mut Init<'_>) -> std::result::Result<(), Fault> {
        let state = init.slots.get(self.memory.state)?;
        let output = init.slots.get(self.memory.output)?;
        match fork()? {
            Cloned::Child => {
                nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
                let prepared = fd::rewind(state)
                    .and_then(|()| fd::dup_to(state, 0))
                    // What an earlier hook has written is not this one's.
                    .and_then(|()| nix::unistd::ftruncate(output, 0))
                    .and_then(|()| fd::rewind(output))
                    .and_then(|()| fd::dup_to(output, 1))
                    .and_then(|()| fd::dup_to(output, 2))
                    .and_then(|()| process::default_signals());
                if prepared.is_ok() {
                    if self.needs_home {
                        let home = CStr::from_bytes_until_nul(&init.home).unwrap_or(c"HOME=/");
                        self.env.execve_with(home, &self.path, &self.argv);
                    } else {
                        self.env.execve(&self.path, &self.argv);
                    }
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
            _ => {
                let mut said = self.memory.said.borrow_mut();
                let said = said.as_mut().map(quoted).unwrap_or_default();
                format!("{}{said}", explain_status(fault))
            }
        }
    }
}

/// How a hook of init ended, in words.
pub fn explain_status(fault: Fault) -> String {
    match (fault.errno, fault.detail) {
        (Errno::EXFULL, TIMED_OUT) => "ran past its timeout".into(),
        (Errno::EXFULL, 127) => "exit status 127 (or it could not be executed)".into(),
        (Errno::EXFULL, detail) if detail & SIGNALLED != 0 => {
            let signal = (detail & 0xff) as i32;
            format!("killed by signal {signal} ({})", process::signal_text(signal))
        }
        (Errno::EXFULL, status) => format!("exit status {status}"),
        (errno, _) => errno_text(errno),
    }
}
