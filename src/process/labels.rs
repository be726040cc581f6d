//! Security labels and no_new_privs: config.md#linux-process (`apparmorProfile`, `selinuxLabel`, `noNewPrivileges`).
//!
//! Labels are written through a private procfs, whose files are verified to be procfs by construction
//! (CVE-2019-16884, CVE-2025-52881): the container's own /proc is never used.

use std::ffi::CString;
use std::fmt;
use std::os::fd::AsFd;

use anyhow::{anyhow, bail};
use nix::errno::Errno;

use crate::error::{Result, errno_text};
use crate::plan::{Fault, Init, Inside, Plan, Slot};
use crate::sys::{fd, process, root};

/// Adds PR_SET_NO_NEW_PRIVS.
pub fn plan_no_new_privs(plan: &mut Plan) {
    plan.inside(NoNewPrivs);
}

/// Adds the AppArmor profile that the next execve takes on.
///
/// # Errors
/// When this host has no AppArmor.
pub fn plan_apparmor(profile: &str, enabled: bool, proc: Slot, plan: &mut Plan) -> Result<()> {
    if !enabled {
        bail!("config.json: process.apparmorProfile {profile:?}: AppArmor is not enabled on this host");
    }
    let text = format!("exec {profile}");
    let text = CString::new(text).map_err(|_| anyhow!("config.json: process.apparmorProfile contains a NUL byte"))?;
    let paths = [c"thread-self/attr/apparmor/exec", c"thread-self/attr/exec"];
    plan.inside(WriteLabel { what: "AppArmor profile", label: profile.to_owned(), text, paths, proc });
    Ok(())
}

/// Adds the SELinux label that the next execve takes on.
///
/// # Errors
/// When this host has no SELinux.
pub fn plan_selinux(label: &str, enabled: bool, proc: Slot, plan: &mut Plan) -> Result<()> {
    if !enabled {
        bail!("config.json: process.selinuxLabel {label:?}: SELinux is not enabled on this host");
    }
    let text = CString::new(label).map_err(|_| anyhow!("config.json: process.selinuxLabel contains a NUL byte"))?;
    let paths = [c"thread-self/attr/exec", c"thread-self/attr/exec"];
    plan.inside(WriteLabel { what: "SELinux label", label: label.to_owned(), text, paths, proc });
    Ok(())
}

/// Adds the label that keyrings made from here on take; else the container could not use its own. execve ends it.
///
/// # Errors
/// A NUL byte.
pub fn plan_key_label(label: &str, proc: Slot, plan: &mut Plan) -> Result<()> {
    let text = CString::new(label).map_err(|_| anyhow!("config.json: process.selinuxLabel contains a NUL byte"))?;
    let paths = [c"thread-self/attr/keycreate", c"thread-self/attr/keycreate"];
    plan.inside(WriteLabel { what: "SELinux label of keyrings", label: label.to_owned(), text, paths, proc });
    Ok(())
}

struct NoNewPrivs;

impl fmt::Display for NoNewPrivs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("setting no_new_privs")
    }
}

impl Inside for NoNewPrivs {
    fn run(&self, _: &mut Init<'_>) -> std::result::Result<(), Fault> {
        Ok(process::set_no_new_privs()?)
    }
}

struct WriteLabel {
    what: &'static str,
    label: String,
    text: CString,
    paths: [&'static std::ffi::CStr; 2],
    proc: Slot,
}

impl fmt::Display for WriteLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "setting {} {:?}", self.what, self.label)
    }
}

impl Inside for WriteLabel {
    fn run(&self, init: &mut Init<'_>) -> std::result::Result<(), Fault> {
        let proc = init.slots.get(self.proc)?;
        let open = |path| root::openat2(proc, path, libc::O_WRONLY, 0, root::IN_ROOT);
        let [own, shared] = self.paths;
        // attr/apparmor is Linux 5.8 built with stacking; the older file serves every module.
        let file = open(own).or_else(|errno| if errno == Errno::ENOENT { open(shared) } else { Err(errno) })?;
        Ok(fd::write_once(file.as_fd(), self.text.to_bytes())?)
    }

    fn explain(&self, fault: Fault) -> String {
        match fault.errno {
            Errno::ENOENT => format!("no such {}", self.what),
            errno => errno_text(errno),
        }
    }
}
