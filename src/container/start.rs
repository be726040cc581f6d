//! `start`: runtime.md#start (runtime-spec v1.3.0).
//!
//! Init holds `exec.fifo` open and close-on-exec. One byte tells it to go on; when no reader is left
//! (POLLERR), execve has happened or init has died. What the fifo then holds tells which: nothing,
//! a fault frame, or the byte itself, never read.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;

use anyhow::{anyhow, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::id::ContainerId;
use super::notify::Notify;
use super::record::Record;
use super::status::{self, Status};
use super::store::Seat;
use super::{Context, kill, state};
use crate::error::{Result, Why, errno_text, one_line};
use crate::hooks;
use crate::plan::frame::{Frame, SIZE};
use crate::spec::{Config, Part};

/// Executes the program of a created container.
///
/// # Errors
/// When it is not in the state `created`, or the program cannot be executed.
#[inline(never)]
pub fn start(context: &mut Context, id: &ContainerId) -> Result<()> {
    let seat = context.store.open(id)?;
    let record = seat.record()?;
    match Status::of(&record, seat.dir()) {
        Status::Created => {}
        Status::Stopped => bail!("cannot start a container that has stopped"),
        Status::Running | Status::Paused => bail!("cannot start an already running container"),
        Status::Creating => bail!("cannot start a container that is being created"),
    }
    let config = seat.config(Part::Hooks)?;
    let mut notify = Notify::bind(seat.dir())?;
    let init = status::init(&record)?;
    context.trace.span("waiting for execve", || go(&seat))?;
    poststart(context, &record, &config)?;
    drop(seat);
    if let Some(notify) = &mut notify {
        notify.wait(init.as_fd(), record.pid)?;
    }
    Ok(())
}

fn go(seat: &Seat) -> Result<()> {
    let path = seat.fifo();
    let mut fifo = match std::fs::File::options().write(true).custom_flags(libc::O_NONBLOCK).open(&path) {
        Err(e) if e.raw_os_error() == Some(libc::ENXIO) => bail!("the container's init has died"),
        other => other.why(|| format!("opening {path:?}"))?,
    };
    fifo.write_all(&[0]).why(|| "telling the container's init to start")?;
    // POLLERR is always reported; nothing else is asked for.
    poll(&mut [PollFd::new(fifo.as_fd(), PollFlags::empty())], PollTimeout::NONE).why(|| "waiting for execve")?;
    // This process still holds the fifo open, so what was written last is still in it.
    let mut reader =
        std::fs::File::options().read(true).custom_flags(libc::O_NONBLOCK).open(&path).why(|| "exec.fifo")?;
    let mut bytes = [0; SIZE + 1];
    let got = match reader.read(&mut bytes) {
        Err(e) if e.kind() == ErrorKind::WouldBlock => 0,
        other => other.why(|| "exec.fifo")?,
    };
    drop(std::fs::remove_file(&path));
    match bytes.get(..got).unwrap_or_default() {
        [] => Ok(()),
        frame if frame.len() == SIZE => Err(fault(frame, &seat.config(Part::Whole)?)),
        _ => bail!("the container's init died before it could be started"),
    }
}

/// The step is not at hand here, but only two kinds of steps come after the wait, and the configuration names them.
fn fault(frame: &[u8], config: &Config) -> anyhow::Error {
    let Some(Frame::Fault(after, fault)) = Frame::decode(frame) else { return anyhow!("the container's init failed") };
    // Counted from the wait: first the hooks, then the program.
    let hooks = config.spec.hooks().as_ref().and_then(|hooks| hooks.start_container().as_ref());
    let index = (after as usize).wrapping_sub(1);
    if let Some(hook) = hooks.and_then(|hooks| hooks.get(index)) {
        let why = hooks::explain_status(fault);
        return anyhow!("error running {}: {:?}: {why}", hooks::name("startContainer", index), hook.path());
    }
    let args = config.spec.process().as_ref().and_then(|process| process.args().as_ref());
    let program = args.and_then(|args| args.first()).map_or("", String::as_str);
    anyhow!("unable to start container process: exec {program}: {}", errno_text(fault.errno))
}

/// Runs the poststart hooks; a failing one stops the container.
pub fn poststart(context: &Context, record: &Record, config: &Config) -> Result<()> {
    let hooks = config.spec.hooks().as_ref().and_then(|hooks| hooks.poststart().as_ref());
    for (index, hook) in hooks.into_iter().flatten().enumerate() {
        let state = state::for_hooks(record, "running", record.pid);
        if let Err(error) = hooks::run(hook, &state) {
            if let Err(left) = kill::kill_all(record) {
                context.log.warn(&format!("stopping the container: {}", one_line(&left)));
            }
            return Err(error.context(format!("error running {}: {:?}", hooks::name("poststart", index), hook.path())));
        }
    }
    Ok(())
}
