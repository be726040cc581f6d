//! Removing a container's cgroups. Usually nothing is in them and one rmdir each is all; otherwise what is
//! there is killed and waited for, for a bounded time, and an error names what is left.

use std::time::{Duration, Instant};

use anyhow::anyhow;
use nix::errno::Errno;

use super::Record;
use super::dir::{self, Dir, is_forbidden, is_gone};
use super::freezer::await_event;
use super::systemd::Manager;
use super::{path, processes};
use crate::error::{Result, errno_text, one_line};

/// How long all removals together may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The first sleep between two tries, doubled each time up to the last.
const FIRST_SLEEP: Duration = Duration::from_micros(100);
const LAST_SLEEP: Duration = Duration::from_millis(20);

impl Record {
    /// Removes the cgroups with everything below them, killing what is in there. Those that are gone are fine.
    ///
    /// # Errors
    /// All that could not be removed, with the processes that are still there.
    pub fn remove(&self) -> Result<()> {
        let mut failed = Vec::new();
        // By the reason, which is often the same in all hierarchies.
        let mut busy: Vec<(String, Vec<&str>)> = Vec::new();
        if let Some(unit) = &self.unit {
            failed.extend(self.stop(unit).err().map(|error| format!("stopping unit {unit:?}: {}", one_line(&error))));
        }
        let deadline = Instant::now() + PATIENCE;
        for path in self.dirs() {
            match dir::remove(path) {
                Ok(()) => {}
                Err(errno) if is_gone(errno) => {}
                // A read-only or forbidden mount answers so for directories that are not there, too.
                Err(errno) if is_forbidden(errno) && !path::exists(path) => {}
                Err(_) => {
                    if let Err(why) = self.remove_tree(path, deadline) {
                        match busy.iter_mut().find(|(reason, _)| *reason == why) {
                            Some((_, paths)) => paths.push(path),
                            None => busy.push((why, vec![path])),
                        }
                    }
                }
            }
        }
        failed.extend(busy.into_iter().map(|(why, paths)| format!("{}: {why}", paths.join(", "))));
        for path in &self.ancestors {
            // Somebody else may be there by now; or an earlier delete was interrupted and it is gone.
            let _ = dir::remove(path);
        }
        if failed.is_empty() { Ok(()) } else { Err(anyhow!("unable to remove cgroups: {}", failed.join("; "))) }
    }

    /// Lets systemd end the scope and forget it.
    fn stop(&self, unit: &str) -> Result<()> {
        let Some(dir) = self.main() else { return Ok(()) };
        if path::exists(dir) {
            // systemd would ask the processes to end, and give them its own time to do so.
            let _ = self.kill();
        }
        match Manager::connect(self.user) {
            Ok(mut manager) => manager.stop(unit, dir),
            // A systemd that cannot be reached sees by itself that the scope's cgroup is gone.
            Err(_) => Ok(()),
        }
    }

    fn remove_tree(&self, path: &str, deadline: Instant) -> std::result::Result<(), String> {
        let mut sleep = FIRST_SLEEP;
        loop {
            let dir = match Dir::open(path) {
                Ok(dir) => dir,
                Err(errno) if is_gone(errno) => return Ok(()),
                Err(errno) => return Err(errno_text(errno)),
            };
            empty(&dir);
            let refused = match dir::remove(path) {
                Ok(()) => return Ok(()),
                Err(errno) if is_gone(errno) => return Ok(()),
                Err(errno) => errno,
            };
            if refused != Errno::EBUSY || Instant::now() >= deadline {
                return Err(format!("{}{}", errno_text(refused), left(&dir)));
            }
            if !processes::below(&dir).is_empty() {
                // The container may fork faster than one kill reaches it; what it has frozen itself must thaw to die.
                let _ = self.kill();
            }
            let wake = deadline.min(Instant::now() + sleep);
            // v1 has no such event; and an empty cgroup that is still busy has nothing more to tell.
            if !matches!(await_event(&dir, "populated 0", wake), Ok(false)) {
                std::thread::sleep(sleep);
            }
            sleep = LAST_SLEEP.min(sleep * 2);
        }
    }
}

/// Removes the cgroups below one, deepest first, as far as that works.
fn empty(dir: &Dir) {
    for name in dir.children() {
        if dir.remove(&name).is_err()
            && let Ok(child) = dir.child(&name)
        {
            empty(&child);
            let _ = dir.remove(&name);
        }
    }
}

fn left(dir: &Dir) -> String {
    let name = |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned();
    let list: Vec<String> =
        processes::below(dir).into_iter().take(10).map(|pid| format!("{pid} ({})", name(pid))).collect();
    let below = dir.children().len();
    match (list.is_empty(), below) {
        (false, _) => format!(", still with the processes {}", list.join(", ")),
        (true, 0) => String::new(),
        (true, below) => format!(", still with {below} cgroups below"),
    }
}
