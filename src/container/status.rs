//! The container's status, asked of the kernel: runtime.md#state (runtime-spec v1.3.0), with runc's `paused`.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::bail;
use nix::errno::Errno;

use super::record::Record;
use super::store;
use crate::error::{Result, Why};
use crate::sys::{self, fd, process};

/// The states of runtime.md, and `paused`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// `create` is at work.
    Creating,
    /// Init waits for `start`.
    Created,
    /// The program runs.
    Running,
    /// Its processes are frozen.
    Paused,
    /// Its first process has ended.
    Stopped,
}

impl Status {
    /// The word in `state` and `list`.
    pub fn word(self) -> &'static str {
        match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        }
    }

    /// Asks the kernel about the container of `record`, kept in `dir`.
    pub fn of(record: &Record, dir: &Path) -> Status {
        match Status::started_or_not(record, dir) {
            Status::Running if waits_for_start(dir) => Status::Created,
            other => other,
        }
    }

    /// The same for those to whom a container that waits for `start` runs like any other.
    pub fn started_or_not(record: &Record, dir: &Path) -> Status {
        let alive = is_alive(record);
        // A `create` that was broken off has let go of the lock, and its init has died with it; a `run` that
        // was broken off right after execve leaves a container that runs.
        if store::is_unfinished(dir) && store::is_locked(dir) {
            return Status::Creating;
        }
        if !alive {
            return Status::Stopped;
        }
        if record.cgroup.is_frozen().unwrap_or(false) {
            return Status::Paused;
        }
        Status::Running
    }
}

/// Init holds the fifo open until it executes the program.
fn waits_for_start(dir: &Path) -> bool {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::File::options().write(true).custom_flags(libc::O_NONBLOCK).open(dir.join("exec.fifo")).is_ok()
}

/// State letter and start time of /proc/PID/stat.
pub fn stat(pid: i32) -> Option<(u8, u64)> {
    let path = CString::new(format!("/proc/{pid}/stat")).ok()?;
    let text = fd::read_whole(&path, 1024).ok()?;
    // The name in parentheses may hold anything, also parentheses and spaces.
    let after = text.iter().rposition(|byte| *byte == b')')? + 2;
    let mut fields = text.get(after..)?.split(|byte| *byte == b' ');
    let state = *fields.next()?.first()?;
    let start = std::str::from_utf8(fields.nth(18)?).ok()?.parse().ok()?;
    Some((state, start))
}

/// Whether the first process still runs; a zombie does not.
pub fn is_alive(record: &Record) -> bool {
    record.pid != 0
        && stat(record.pid).is_some_and(|(state, start)| start == record.start_time && !matches!(state, b'Z' | b'X'))
}

/// A handle of the first process, for certain of that one.
///
/// # Errors
/// When it has ended.
pub fn init(record: &Record) -> Result<OwnedFd> {
    open(record, process::handle)
}

/// A pidfd of the first process, for those who join its namespaces.
///
/// # Errors
/// When it has ended.
pub fn init_pidfd(record: &Record) -> Result<OwnedFd> {
    open(record, process::pidfd_open)
}

fn open(record: &Record, open: impl FnOnce(i32) -> sys::Result<OwnedFd>) -> Result<OwnedFd> {
    if record.pid != 0 {
        match open(record.pid) {
            Ok(handle) if is_alive(record) => return Ok(handle),
            Ok(_) | Err(Errno::ESRCH | Errno::EINVAL) => {}
            Err(errno) => return Err(errno).why(|| format!("opening the container's init (pid {})", record.pid)),
        }
    }
    bail!("container not running")
}

/// As [`init`], for a process that may be a zombie.
pub fn init_or_zombie(record: &Record) -> Option<OwnedFd> {
    let handle = process::handle(record.pid).ok()?;
    let (_, start) = stat(record.pid)?;
    (start == record.start_time).then_some(handle)
}
