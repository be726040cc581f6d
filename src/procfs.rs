//! A private procfs: mounted nowhere, of the container's own pid namespace, so that nobody can put
//! something else in the place of its files (CVE-2019-16884, CVE-2025-52881).
//!
//! It is opened only for plans that need it. Where the kernel refuses one (a user namespace whose
//! visible /proc is itself masked), the host's /proc is used, opened before the root changes and
//! verified to be procfs.

use std::fmt;
use std::os::fd::AsFd;

use nix::errno::Errno;

use crate::plan::{Fault, Init, Inside, Plan, Slot};
use crate::sys::{fd, mount};

/// Adds the opening; the slot is for those who write there.
pub fn plan(plan: &mut Plan) -> Slot {
    let slot = plan.slot();
    plan.inside(OpenProc(slot));
    slot
}

struct OpenProc(Slot);

impl fmt::Display for OpenProc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("opening a private procfs")
    }
}

impl Inside for OpenProc {
    fn run(&self, init: &mut Init<'_>) -> std::result::Result<(), Fault> {
        let attributes = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;
        let proc = match mount::detached(c"proc", &[], attributes) {
            Err(Errno::EPERM | Errno::ENOSYS) => fd::open(c"/proc", libc::O_PATH | libc::O_DIRECTORY, 0)?,
            other => other?,
        };
        if fd::fs_magic(proc.as_fd())? != fd::PROC_SUPER_MAGIC {
            return Err(Errno::ENODEV.into());
        }
        init.slots.put(self.0, proc);
        Ok(())
    }
}
