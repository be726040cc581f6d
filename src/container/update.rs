//! `update`: other limits for a container that runs.

use anyhow::bail;
use oci_spec::runtime::LinuxResources;

use super::Context;
use super::id::ContainerId;
use super::status::Status;
use crate::error::Result;

/// Changes the limits that are named, and no others.
///
/// # Errors
/// When the container has stopped, or the kernel refuses a value; what was changed before is then put back.
pub fn update(context: &Context, id: &ContainerId, resources: &LinuxResources, pids: Option<i64>) -> Result<()> {
    let seat = context.store.open(id)?;
    let record = seat.record()?;
    if Status::of(&record, seat.dir()) == Status::Stopped {
        bail!("cannot update a container that has stopped");
    }
    for warning in record.cgroup.update(resources, pids)? {
        context.log.warn(&warning);
    }
    Ok(())
}
