//! `delete`, and the one undoing: runtime.md#delete (runtime-spec v1.3.0).
//!
//! [`destroy`] is what a failed `create` and every `delete` do. It is idempotent, bounded in time,
//! and reports everything that failed.

use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::{anyhow, bail};

use super::id::ContainerId;
use super::record::Record;
use super::status::{self, Status};
use super::store::{self, NotFound, Seat};
use super::{Context, kill, state};
use crate::cgroup;
use crate::error::{Result, Why, one_line};
use crate::hooks;
use crate::spec::{Config, Part};
use crate::sys::process;

/// Whether a running container is killed first, and a missing one is no error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Force {
    /// As runtime.md has it.
    No,
    /// `--force`.
    Yes,
}

/// Removes a stopped container, or any with force.
///
/// # Errors
/// When it runs, does not exist, or something could not be removed.
#[inline(never)]
pub fn delete(context: &Context, id: &ContainerId, force: Force) -> Result<()> {
    let seat = match context.store.open(id) {
        Err(error) if force == Force::Yes && error.is::<NotFound>() => return Ok(()),
        other => other?,
    };
    let record = match seat.record() {
        Err(_) if force == Force::Yes => return remove_unrecorded(context, id, seat),
        other => other?,
    };
    let mut status = Status::of(&record, seat.dir());
    if force == Force::No && status == Status::Running && is_ending(&record)? {
        status = Status::of(&record, seat.dir());
    }
    if force == Force::No && !matches!(status, Status::Stopped | Status::Created) {
        bail!("cannot delete container {id} that is not stopped: {}", status.word());
    }
    let config = seat.config(Part::Hooks).ok();
    destroy(&record, seat)?;
    if let Some(config) = config {
        poststop(context, &record, &config);
    }
    Ok(())
}

/// Waits a moment for a first process that may be about to end: its last output comes before its end, and whoever
/// has waited for the one deletes the container before the other.
fn is_ending(record: &Record) -> Result<bool> {
    const MOMENT: Duration = Duration::from_millis(200);
    let Some(init) = status::init_or_zombie(record) else { return Ok(true) };
    process::await_end(init.as_fd(), MOMENT).why(|| "waiting for the container's init")
}

/// Removes a container whose record is damaged or missing: its cgroups, which the kept configuration tells, and
/// with them its processes. A create that was killed before it wrote anything down has made nothing else.
fn remove_unrecorded(context: &Context, id: &ContainerId, seat: Seat) -> Result<()> {
    let config = seat.config(Part::Whole);
    if config.is_err() && !store::is_just_begun(seat.dir()) {
        context.log.warn(&format!(
            "the record and the configuration of container {id} are lost: its processes and cgroups, if it has any, are left"
        ));
    }
    if let Ok(config) = config {
        let path = config
            .spec
            .linux()
            .as_ref()
            .and_then(|linux| linux.cgroups_path().as_ref())
            .map(|path| path.to_string_lossy());
        cgroup::Record::presumed(path.as_deref(), id.as_str(), &context.host)?.remove()?;
    }
    seat.remove()
}

/// Runs the poststop hooks; a failing one is a warning.
pub fn poststop(context: &Context, record: &Record, config: &Config) {
    let hooks = config.spec.hooks().as_ref().and_then(|hooks| hooks.poststop().as_ref());
    for (index, hook) in hooks.into_iter().flatten().enumerate() {
        if let Err(error) = hooks::run(hook, &state::for_hooks(record, "stopped", 0)) {
            context.log.warn(&format!(
                "error running {}: {:?}: {}",
                hooks::name("poststop", index),
                hook.path(),
                one_line(&error)
            ));
        }
    }
}

/// Ends the container's processes and removes everything that its record names.
///
/// # Errors
/// All that failed, in one message; the directory then stays, so that it can be tried again.
pub fn destroy(record: &Record, seat: Seat) -> Result<()> {
    let mut failed = Vec::new();
    if record.pid != 0 {
        failed.extend(end_init(record).err());
    }
    failed.extend(record.cgroup.remove().err());
    failed.extend(record.rdt.as_ref().and_then(|group| group.remove().err()));
    failed.extend(record.shared_mounts.as_ref().and_then(|mounts| mounts.remove(&record.rootfs).err()));
    if failed.is_empty() {
        failed.extend(seat.remove().err());
    }
    if failed.is_empty() {
        return Ok(());
    }
    Err(anyhow!("{}", failed.iter().map(one_line).collect::<Vec<_>>().join("; ")))
}

/// Kills init and waits until it has gone, as its death is what empties the pid namespace.
fn end_init(record: &Record) -> Result<()> {
    const PATIENCE: Duration = Duration::from_secs(10);
    let Some(init) = status::init_or_zombie(record) else { return Ok(()) };
    if !status::is_alive(record) {
        return Ok(());
    }
    kill::kill_all(record)?;
    let waiting = || format!("waiting for the container's init (pid {}) to die", record.pid);
    if process::await_end(init.as_fd(), PATIENCE).why(waiting)? {
        return Ok(());
    }
    bail!("{}: it has not in {} s{}", waiting(), PATIENCE.as_secs(), why_alive(record))
}

/// What keeps a killed process from dying, as far as the kernel tells.
fn why_alive(record: &Record) -> String {
    match status::stat(record.pid) {
        Some(_) if record.cgroup.is_frozen_above() => ": a cgroup above its own is frozen".into(),
        Some((b'D', _)) => {
            ": it is in an uninterruptible sleep, as where a device or a file server does not answer".into()
        }
        Some((state, _)) => format!(": its state is {}", char::from(state)),
        None => String::new(),
    }
}
