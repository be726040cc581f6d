//! `kill`: runtime.md#kill (runtime-spec v1.3.0).

use std::os::fd::AsFd;

use anyhow::{anyhow, bail};
use nix::errno::Errno;

use super::Context;
use super::id::ContainerId;
use super::record::Record;
use super::status::{self, Status};
use crate::error::{Result, Why};
use crate::sys::process::pidfd_send_signal;

/// Whom a signal is sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whom {
    /// The first process.
    Init,
    /// Every process of the container's cgroup.
    All,
}

/// Sends a signal.
///
/// # Errors
/// When the container does not run.
pub fn kill(context: &Context, id: &ContainerId, signal: i32, whom: Whom) -> Result<()> {
    let record = context.store.record(id)?;
    let dir = context.store.dir(id);
    if whom == Whom::All {
        return record.cgroup.signal_all(signal);
    }
    // The first process of a shared pid namespace does not take the others along; they may outlive it.
    if signal == libc::SIGKILL && !record.own_pid_namespace && (status::is_alive(&record) || record.cgroup.exists()) {
        return kill_all(&record);
    }
    if Status::of(&record, &dir) == Status::Stopped {
        bail!("container not running");
    }
    let init = status::init(&record)?;
    match pidfd_send_signal(init.as_fd(), signal) {
        Err(Errno::ESRCH) => bail!("container not running"),
        other => other.why(|| "unable to signal init")?,
    }
    // A frozen process dies only when it is thawed; on v2 the kernel sees to that.
    if signal == libc::SIGKILL && !record.cgroup.is_unified() && record.cgroup.is_frozen().unwrap_or(false) {
        record.cgroup.thaw()?;
    }
    Ok(())
}

/// Ends every process of the container with SIGKILL.
///
/// # Errors
/// When the kernel refuses it.
pub fn kill_all(record: &Record) -> Result<()> {
    let init = status::init_or_zombie(record);
    if let Some(init) = &init {
        match pidfd_send_signal(init.as_fd(), libc::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(errno) => return Err(errno).why(|| "killing the container's init"),
        }
    }
    record.cgroup.kill()
}

/// The number of a signal: `TERM`, `SIGTERM`, `term`, `15`, `RTMIN+3`; 0 asks whether the process is there.
///
/// # Errors
/// When it is none.
pub fn signal_number(text: &str) -> Result<i32> {
    let unknown = || anyhow!("unknown signal {text:?}");
    if let Ok(number) = text.parse::<i32>() {
        return if (0..=64).contains(&number) { Ok(number) } else { Err(unknown()) };
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    // What the kernel calls 34 to 64; the C library keeps 32 and 33 for itself.
    let relative = |text: &str| if text.is_empty() { Some(0) } else { text.parse::<i32>().ok() };
    if let Some(more) = name.strip_prefix("RTMIN") {
        return relative(more).map(|n| 34 + n).filter(|n| (34..=64).contains(n)).ok_or_else(unknown);
    }
    if let Some(less) = name.strip_prefix("RTMAX") {
        return relative(less).map(|n| 64 + n).filter(|n| (34..=64).contains(n)).ok_or_else(unknown);
    }
    let alias = match name {
        "IOT" => "ABRT",
        "POLL" => "IO",
        "CLD" => "CHLD",
        "UNUSED" => "SYS",
        other => other,
    };
    format!("SIG{alias}").parse::<nix::sys::signal::Signal>().map(|signal| signal as i32).map_err(|_| unknown())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        for (text, number) in [
            ("TERM", 15),
            ("SIGKILL", 9),
            ("hup", 1),
            ("9", 9),
            ("0", 0),
            ("RTMIN+3", 37),
            ("SIGRTMAX", 64),
            ("RTMAX-1", 63),
            ("IOT", 6),
        ] {
            assert_eq!(signal_number(text).unwrap(), number, "{text}");
        }
        for text in ["", "65", "NOPE", "SIG", "RTMIN+31", "-1"] {
            assert!(signal_number(text).is_err(), "{text}");
        }
    }
}
