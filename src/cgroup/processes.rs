//! The processes in a container's cgroups: listing, signalling and killing them.

use std::collections::BTreeSet;
use std::os::fd::AsFd;

use nix::errno::Errno;

use super::Record;
use super::dir::{Dir, is_gone};
use crate::error::{Result, Why};
use crate::sys::process::{handle, pidfd_send_signal};

/// How often a list of processes is gone through, where nothing keeps them from forking meanwhile.
const ROUNDS: usize = 100;

/// Whether sub-cgroups are meant too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// The container's cgroup alone.
    Own,
    /// All below it too.
    All,
}

impl Record {
    /// The container's processes, in ascending order.
    ///
    /// # Errors
    /// When the list cannot be read; a cgroup that is gone has none.
    pub fn pids(&self, depth: Depth) -> Result<Vec<i32>> {
        let Some(path) = self.main() else { return Ok(Vec::new()) };
        let dir = match Dir::open(path) {
            Err(errno) if is_gone(errno) => return Ok(Vec::new()),
            other => other.why(|| format!("open {path}"))?,
        };
        let mut pids = BTreeSet::new();
        list(&dir, depth, &mut pids).why(|| format!("read {path}/cgroup.procs"))?;
        Ok(pids.into_iter().collect())
    }

    /// Whether any of the container's cgroups is there.
    pub fn exists(&self) -> bool {
        self.main().is_some_and(super::path::exists)
    }

    /// Kills every process in the container's cgroups and below, stopped ones too. They may still be dying on return.
    ///
    /// # Errors
    /// When processes are left that refuse to be killed.
    pub fn kill(&self) -> Result<()> {
        // Linux 5.14 kills a v2 tree in one go, forks included.
        if let Some(dir) = self.path("").and_then(|path| Dir::open(path).ok()) {
            match dir.write("cgroup.kill", "1") {
                Ok(()) if self.is_unified() => return Ok(()),
                Ok(()) => {}
                Err(errno) if is_gone(errno) => {}
                // A threaded cgroup cannot be killed as a whole (EOPNOTSUPP).
                Err(Errno::EOPNOTSUPP) => {}
                Err(errno) => return Err(errno).why(|| format!("failed to write \"1\" to {}/cgroup.kill", dir.path)),
            }
        }
        self.signal_frozen(libc::SIGKILL)?;
        // What is frozen on v1, by us or by the container itself further down, dies when it is thawed.
        if let Some(dir) = self.path("freezer").and_then(|path| Dir::open(path).ok()) {
            thaw_v1(&dir);
        } else {
            let _ = self.thaw();
        }
        Ok(())
    }

    /// Sends a signal to every process in the container's cgroups and below; a paused container stays so,
    /// unless the signal is SIGKILL.
    ///
    /// # Errors
    /// When the processes cannot be listed or signalled.
    pub fn signal_all(&self, signal: i32) -> Result<()> {
        if signal == libc::SIGKILL {
            return self.kill();
        }
        let paused = self.is_frozen().unwrap_or(false);
        let sent = self.signal_frozen(signal);
        if !paused {
            let _ = self.thaw();
        }
        sent
    }

    /// Signals all processes while they cannot fork; without a freezer, until no new ones are found.
    fn signal_frozen(&self, signal: i32) -> Result<()> {
        if self.pids(Depth::All)?.is_empty() {
            return Ok(());
        }
        let frozen = self.freeze().is_ok();
        let mut done = BTreeSet::new();
        for _ in 0..if frozen { 1 } else { ROUNDS } {
            let mut fresh = false;
            for pid in self.pids(Depth::All)? {
                fresh |= done.insert(pid);
                send(pid, signal).why(|| format!("kill {pid}"))?;
            }
            if !fresh {
                break;
            }
        }
        Ok(())
    }
}

fn thaw_v1(dir: &Dir) {
    let _ = dir.write("freezer.state", "THAWED");
    for child in dir.children() {
        if let Ok(child) = dir.child(&child) {
            thaw_v1(&child);
        }
    }
}

/// A process that has ended meanwhile is no error. 0 is one of another pid namespace.
fn send(pid: i32, signal: i32) -> crate::sys::Result<()> {
    if pid <= 0 {
        return Ok(());
    }
    match handle(pid).and_then(|pidfd| pidfd_send_signal(pidfd.as_fd(), signal)) {
        // EINVAL: the number is a thread's, in a threaded cgroup; its process is signalled through its leader.
        Err(Errno::ESRCH | Errno::EINVAL) => Ok(()),
        other => other,
    }
}

/// All processes of a cgroup and below it; what cannot be read has none.
pub(super) fn below(dir: &Dir) -> Vec<i32> {
    let mut pids = BTreeSet::new();
    let _ = list(dir, Depth::All, &mut pids);
    pids.into_iter().collect()
}

fn list(dir: &Dir, depth: Depth, pids: &mut BTreeSet<i32>) -> crate::sys::Result<()> {
    let text = match dir.read("cgroup.procs") {
        // Threaded cgroups list threads only.
        Err(Errno::EOPNOTSUPP) => dir.read("cgroup.threads"),
        other => other,
    };
    match text {
        Ok(text) => pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok())),
        Err(errno) if is_gone(errno) => return Ok(()),
        Err(errno) => return Err(errno),
    }
    if depth == Depth::All {
        for name in dir.children() {
            match dir.child(&name) {
                Ok(child) => list(&child, depth, pids)?,
                Err(errno) if is_gone(errno) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
    Ok(())
}
