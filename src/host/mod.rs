//! What is there: the machine and the user that plans are made for. A plain struct that a test can write by hand.

pub mod cgroup;
pub mod resctrl;

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::error::Result;
use crate::sys::bpf;

/// The host as the planner sees it.
#[derive(Debug, Clone)]
pub struct Host {
    /// Effective user id of the runtime.
    pub uid: u32,
    /// Effective group id of the runtime.
    pub gid: u32,
    /// Whether the runtime is in another user namespace than the machine's first, as in rootless Podman: it may
    /// then be root and yet have no rights over the namespaces that it came from.
    pub user_namespace: bool,
    /// Whether that user namespace lets nobody change supplementary groups (setgroups in user_namespaces(7)).
    pub setgroups_denied: bool,
    /// Which cgroup hierarchies there are.
    pub cgroup: cgroup::Setup,
    /// Whether a cgroup that may not be made is done without (`--rootless`).
    pub tolerant: bool,
    /// The systemd that makes cgroups (`--systemd-cgroup`); without one the runtime makes them itself.
    pub systemd: Option<Systemd>,
    /// Whether AppArmor confines processes here; where it is not said, it is looked for when a container wants it.
    pub apparmor: Option<bool>,
    /// The same of SELinux.
    pub selinux: Option<bool>,
    /// Where cache and memory bandwidth are controlled.
    pub resctrl: resctrl::Resctrl,
}

/// A systemd that is asked for cgroups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Systemd {
    /// Whether it is the user's own.
    pub user: bool,
    /// The cgroup that a user's systemd is in and makes others below; asked for when needed.
    pub own: Option<String>,
}

impl Systemd {
    /// Whether the machine was booted by systemd (sd_booted(3)).
    pub fn is_running() -> bool {
        Path::new("/run/systemd/system").is_dir()
    }
}

fn in_user_namespace() -> bool {
    // The usual answer, in a tenth of the time that a look at /proc takes.
    if bpf::may_list_programs() {
        return false;
    }
    /// The kernel gives the first one this inode (PROC_USER_INIT_INO).
    const INITIAL: u64 = 0xEFFF_FFFD;
    std::fs::metadata("/proc/self/ns/user").is_ok_and(|found| found.ino() != INITIAL)
}

impl Host {
    /// Asks the kernel.
    ///
    /// # Errors
    /// When the cgroup setup cannot be read.
    pub fn probe() -> Result<Host> {
        let uid = nix::unistd::geteuid().as_raw();
        let user_namespace = in_user_namespace();
        Ok(Host {
            uid,
            gid: nix::unistd::getegid().as_raw(),
            cgroup: cgroup::Setup::probe()?,
            user_namespace,
            setgroups_denied: user_namespace
                && std::fs::read("/proc/self/setgroups").is_ok_and(|text| text.starts_with(b"deny")),
            tolerant: uid != 0 || user_namespace,
            systemd: None,
            apparmor: None,
            selinux: None,
            resctrl: resctrl::Resctrl::Unread,
        })
    }

    /// Whether AppArmor confines processes here.
    pub fn has_apparmor(&self) -> bool {
        let enabled =
            || std::fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with(b"Y"));
        self.apparmor.unwrap_or_else(enabled)
    }

    /// Whether SELinux confines processes here.
    pub fn has_selinux(&self) -> bool {
        self.selinux.unwrap_or_else(|| Path::new("/sys/fs/selinux/enforce").exists())
    }

    /// Whether the runtime runs as a normal user.
    pub fn is_rootless(&self) -> bool {
        self.uid != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quick_answer_is_that_of_proc() {
        let own = std::fs::metadata("/proc/self/ns/user").unwrap().ino();
        assert_eq!(in_user_namespace(), own != 0xEFFF_FFFD);
    }
}
