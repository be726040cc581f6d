//! Clock offsets: config-linux.md#time-offsets (runtime-spec v1.3.0), time_namespaces(7), Linux 5.6.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fmt;

use anyhow::{anyhow, bail};
use oci_spec::runtime::Spec;

use super::{Kind, Namespaces};
use crate::error::Result;
use crate::plan::{Fault, Init, Inside, Plan, Slot};
use crate::sys::{fd, ns, root};

/// Adds the making of a new time namespace with its offsets, and the entering of it.
///
/// `proc` is a procfs of the container's own pid namespace.
///
/// # Errors
/// Offsets without a new time namespace, or for a clock that has none.
pub fn plan(spec: &Spec, namespaces: &Namespaces, proc: impl FnOnce(&mut Plan) -> Slot, plan: &mut Plan) -> Result<()> {
    let offsets = spec.linux().as_ref().and_then(|linux| linux.time_offsets().as_ref());
    let mut lines = String::new();
    // A plan is the same for the same config.json: sorted, as a hash map is not.
    for (clock, offset) in offsets.into_iter().flatten().collect::<BTreeMap<_, _>>() {
        if !matches!(clock.as_str(), "monotonic" | "boottime") {
            bail!("config.json: linux.timeOffsets.{clock}: unknown clock (monotonic and boottime have offsets)");
        }
        let nanoseconds = offset.nanosecs().unwrap_or(0);
        if nanoseconds > 999_999_999 {
            bail!("config.json: linux.timeOffsets.{clock}.nanosecs {nanoseconds} is not below 1000000000");
        }
        lines += &format!("{clock} {} {nanoseconds}\n", offset.secs().unwrap_or(0));
    }
    if !lines.is_empty() && !namespaces.is_new(Kind::Time) {
        bail!("config.json: linux.timeOffsets needs a new time namespace");
    }
    if namespaces.is_new(Kind::Time) {
        let offsets = CString::new(lines).map_err(|_| anyhow!("config.json: linux.timeOffsets contains a NUL byte"))?;
        let proc = proc(plan);
        plan.inside(MakeTime { offsets, proc });
    }
    Ok(())
}

struct MakeTime {
    offsets: CString,
    proc: Slot,
}

impl fmt::Display for MakeTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "making the time namespace with offsets {:?}", self.offsets)
    }
}

impl Inside for MakeTime {
    fn run(&self, init: &mut Init<'_>) -> std::result::Result<(), Fault> {
        ns::unshare(libc::CLONE_NEWTIME)?;
        let proc = init.slots.get(self.proc)?;
        if !self.offsets.is_empty() {
            let file = root::openat2(proc, c"self/timens_offsets", libc::O_WRONLY, 0, root::IN_ROOT)?;
            fd::write_once(std::os::fd::AsFd::as_fd(&file), self.offsets.to_bytes())?;
        }
        // unshare(2) moved only future children; the offsets are fixed once a process enters.
        let namespace = fd::openat(proc, c"self/ns/time_for_children", libc::O_RDONLY, 0)?;
        Ok(ns::setns(std::os::fd::AsFd::as_fd(&namespace), libc::CLONE_NEWTIME)?)
    }
}
