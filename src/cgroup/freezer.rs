//! Stopping and continuing all processes of a container: cgroup.freeze on v2, freezer.state on v1.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::Record;
use super::dir::{self, Dir, is_gone, read_all};
use crate::error::{Result, Why};
use crate::sys;

/// How long processes may take to stop: one that waits for a dead NFS server never does.
const PATIENCE: Duration = Duration::from_secs(10);

impl Record {
    /// Stops all processes and waits until they are; on failure they run on.
    ///
    /// # Errors
    /// No freezer, or a process that does not stop in time.
    pub fn freeze(&self) -> Result<()> {
        let (dir, v1) = self.freezer()?;
        let frozen = if v1 { freeze_v1(&dir) } else { freeze_v2(&dir) };
        if frozen.is_err() {
            // A cgroup that is half frozen would be worse than one that runs.
            let _ = self.thaw();
        }
        frozen
    }

    /// Lets the processes run again.
    ///
    /// # Errors
    /// No freezer, or one that refuses.
    pub fn thaw(&self) -> Result<()> {
        let (dir, v1) = self.freezer()?;
        let (file, value) = if v1 { ("freezer.state", "THAWED") } else { ("cgroup.freeze", "0") };
        dir.write(file, value).why(|| format!("failed to write {value:?} to {}/{file}", dir.path))
    }

    /// Whether the container itself is stopped (and not just something below or above it). One without cgroups never is.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn is_frozen(&self) -> Result<bool> {
        let Some(path) = self.path("freezer").or_else(|| self.path("")) else { return Ok(false) };
        if self.is_unified()
            && let Ok(text) = dir::read(&format!("{path}/cgroup.freeze"))
        {
            return Ok(text.trim() == "1");
        }
        match Dir::open(path).and_then(|dir| is_frozen(&dir)) {
            Err(errno) if is_gone(errno) => Ok(false),
            other => other.why(|| format!("reading the freezer state of {path}")),
        }
    }

    /// Whether a v1 cgroup above is frozen, so that the container's processes do not even die.
    pub fn is_frozen_above(&self) -> bool {
        let above = self.path("freezer").and_then(|path| Dir::open(path).ok()?.number("freezer.parent_freezing"));
        above.is_some_and(|frozen| frozen != 0)
    }

    /// The directory that freezes, and whether that is v1's.
    fn freezer(&self) -> Result<(Dir, bool)> {
        let v1 = self.path("freezer");
        let Some(path) = v1.or_else(|| self.path("")) else {
            bail!("cannot toggle freezer: cgroups not configured for container");
        };
        Ok((dir::open(path)?, v1.is_some()))
    }
}

/// The state of one cgroup, by what was asked of it.
pub(super) fn is_frozen(dir: &Dir) -> sys::Result<bool> {
    match dir.read("cgroup.freeze") {
        Ok(text) => return Ok(text.trim() == "1"),
        Err(Errno::ENOENT) => {}
        Err(errno) => return Err(errno),
    }
    match dir.read("freezer.state") {
        // FREEZING is on its way; an ancestor's freezing is not this cgroup's.
        Ok(state) if state.trim() != "THAWED" => {
            Ok(dir.read("freezer.self_freezing").is_ok_and(|own| own.trim() == "1"))
        }
        Ok(_) | Err(Errno::ENOENT) => Ok(false),
        Err(errno) => Err(errno),
    }
}

fn freeze_v2(dir: &Dir) -> Result<()> {
    dir.write("cgroup.freeze", "1").why(|| format!("freezer not supported: write {}/cgroup.freeze", dir.path))?;
    let frozen = await_event(dir, "frozen 1", Instant::now() + PATIENCE)?;
    if frozen { Ok(()) } else { Err(anyhow!("timeout of {PATIENCE:?} reached waiting for the cgroup to freeze")) }
}

/// Waits for a line of cgroup.events, which tells its readers when it changes; false when time runs out.
pub(super) fn await_event(dir: &Dir, line: &str, deadline: Instant) -> Result<bool> {
    let what = || format!("read {}/cgroup.events", dir.path);
    let file = dir.file("cgroup.events", libc::O_RDONLY).why(what)?;
    loop {
        if read_all(file.as_fd()).why(what)?.lines().any(|found| found == line) {
            return Ok(true);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let timeout = PollTimeout::try_from(left.as_millis().clamp(1, 1000) as i32).unwrap_or(PollTimeout::MAX);
        let _ = poll(&mut [PollFd::new(file.as_fd(), PollFlags::POLLPRI)], timeout);
    }
}

/// v1's freezer loses against processes that keep appearing (fork, a parallel `exec`); asking again and
/// again, with a short thaw now and then, is what its users do.
fn freeze_v1(dir: &Dir) -> Result<()> {
    let what = || format!("failed to write \"FROZEN\" to {}/freezer.state", dir.path);
    let deadline = Instant::now() + PATIENCE;
    let mut tries = 0_u32;
    while Instant::now() < deadline {
        tries += 1;
        if tries.is_multiple_of(50) {
            let _ = dir.write("freezer.state", "THAWED");
            std::thread::sleep(Duration::from_millis(10));
        }
        dir.write("freezer.state", "FROZEN").why(what)?;
        if tries > 1 {
            std::thread::sleep(Duration::from_micros(100));
        }
        let state = dir.read("freezer.state").why(|| format!("read {}/freezer.state", dir.path))?;
        match state.trim() {
            "FROZEN" => return Ok(()),
            "FREEZING" => {}
            other => bail!("unexpected state {other} while freezing"),
        }
    }
    Err(anyhow!("unable to freeze"))
}
