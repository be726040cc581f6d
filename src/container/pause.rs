//! `pause` and `resume`: the freezer of the container's cgroup.

use anyhow::bail;

use super::Context;
use super::id::ContainerId;
use super::status::Status;
use crate::error::Result;

/// Freezes all processes.
///
/// # Errors
/// When the container is neither running nor created.
#[inline(never)]
pub fn pause(context: &Context, id: &ContainerId) -> Result<()> {
    let seat = context.store.open(id)?;
    let record = seat.record()?;
    match Status::of(&record, seat.dir()) {
        Status::Running | Status::Created => record.cgroup.freeze(),
        Status::Paused => Ok(()),
        status => bail!("container not running or created: {}", status.word()),
    }
}

/// Thaws all processes.
///
/// # Errors
/// When the container is not paused.
#[inline(never)]
pub fn resume(context: &Context, id: &ContainerId) -> Result<()> {
    let seat = context.store.open(id)?;
    let record = seat.record()?;
    match Status::of(&record, seat.dir()) {
        Status::Paused => record.cgroup.thaw(),
        status => bail!("container not paused: {}", status.word()),
    }
}
