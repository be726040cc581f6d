//! `update`: other limits for a container that runs.

use anyhow::bail;
use oci_spec::runtime::LinuxResources;

use super::Context;
use super::id::ContainerId;
use super::status::Status;
use crate::error::Result;

/// Other schemata for the container's resctrl group.
#[derive(Debug, Clone, Copy, Default)]
pub struct Schemata<'a> {
    /// `--l3-cache-schema`.
    pub l3_cache: Option<&'a str>,
    /// `--mem-bw-schema`.
    pub mem_bw: Option<&'a str>,
}

/// Changes the limits that are named, and no others.
///
/// # Errors
/// When the container has stopped, or the kernel refuses a value; what was changed before is then put back.
pub fn update(
    context: &Context,
    id: &ContainerId,
    resources: &LinuxResources,
    pids: Option<i64>,
    schemata: Schemata<'_>,
) -> Result<()> {
    let seat = context.store.open(id)?;
    let record = seat.record()?;
    if Status::of(&record, seat.dir()) == Status::Stopped {
        bail!("cannot update a container that has stopped");
    }
    if schemata.l3_cache.is_some() || schemata.mem_bw.is_some() {
        let Some(group) = &record.rdt else {
            bail!("updating a non-existent Intel RDT configuration is not supported");
        };
        group.update(schemata.l3_cache, schemata.mem_bw)?;
    }
    for warning in record.cgroup.update(resources, pids)? {
        context.log.warn(&warning);
    }
    Ok(())
}
