//! The user namespace's id maps: config-linux.md#user-namespace-mappings (runtime-spec v1.3.0), user_namespaces(7).
//!
//! Root writes /proc/PID/{uid,gid}_map itself. A normal user may map only its own id; more need
//! the set-user-id helpers newuidmap and newgidmap, which check /etc/subuid and /etc/subgid.

use std::fmt;
use std::process::Command;

use anyhow::bail;
use nix::errno::Errno;
use oci_spec::runtime::{LinuxIdMapping, Spec};

use super::{Choice, Kind, Namespaces};
use crate::error::{Result, Why};
use crate::plan::{Fault, Init, Inside, Outside, Plan, Runtime};
use crate::sys::{cred, process};

/// One kind of id map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ids {
    Uid,
    Gid,
}

impl Ids {
    fn file(self) -> &'static str {
        if self == Ids::Uid { "uid_map" } else { "gid_map" }
    }

    fn program(self) -> &'static str {
        if self == Ids::Uid { "newuidmap" } else { "newgidmap" }
    }
}

/// Who maps the ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mapper {
    /// The runtime is root in its user namespace.
    Root,
    /// The runtime runs as this normal user and group.
    User {
        /// Effective user id.
        uid: u32,
        /// Effective group id.
        gid: u32,
    },
}

/// Adds the writing of the maps, and becoming root of the namespace.
///
/// # Errors
/// A new user namespace without mappings.
pub fn plan(spec: &Spec, namespaces: &Namespaces, mapper: Mapper, plan: &mut Plan) -> Result<()> {
    let linux = spec.linux().as_ref();
    let uids = linux.and_then(|l| l.uid_mappings().as_deref()).unwrap_or_default();
    let gids = linux.and_then(|l| l.gid_mappings().as_deref()).unwrap_or_default();
    if namespaces.is_new(Kind::User) {
        if uids.is_empty() || gids.is_empty() {
            bail!("config.json: linux.uidMappings and linux.gidMappings are needed for a new user namespace");
        }
        let single_user = mapper != Mapper::Root;
        plan.outside(WriteMap { ids: Ids::Uid, text: text(uids), helper: needs_helper(uids, mapper, Ids::Uid) });
        let helper = needs_helper(gids, mapper, Ids::Gid);
        if single_user && !helper {
            plan.outside(DenySetgroups);
        }
        plan.outside(WriteMap { ids: Ids::Gid, text: text(gids), helper });
    } else if !(namespaces.is_private(Kind::User) || uids.is_empty() && gids.is_empty()) {
        bail!("config.json: linux.uidMappings and linux.gidMappings need a user namespace");
    }
    if namespaces.is_private(Kind::User) {
        // A neighbour in a joined pid namespace must not see into this process while it is the runtime's (CVE-2016-9962).
        let seen = matches!(namespaces.get(Kind::Pid), Choice::Join { .. }) || !namespaces.is_new(Kind::User);
        plan.inside(BecomeRoot { dumpable: u64::from(!seen) });
    }
    Ok(())
}

/// Adds becoming root of a user namespace that `exec` has entered; the process stays hidden from the container.
pub fn plan_entered(plan: &mut Plan) {
    plan.inside(BecomeRoot { dumpable: 0 });
}

fn needs_helper(maps: &[LinuxIdMapping], mapper: Mapper, ids: Ids) -> bool {
    let Mapper::User { uid, gid } = mapper else { return false };
    let own = if ids == Ids::Uid { uid } else { gid };
    !matches!(maps, [only] if only.host_id() == own && only.size() == 1)
}

fn text(maps: &[LinuxIdMapping]) -> String {
    maps.iter().map(|map| format!("{} {} {}\n", map.container_id(), map.host_id(), map.size())).collect()
}

struct WriteMap {
    ids: Ids,
    text: String,
    helper: bool,
}

impl fmt::Display for WriteMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.helper { self.ids.program() } else { self.ids.file() };
        write!(f, "mapping ids with {how} ({})", self.text.trim_end().replace('\n', ", "))
    }
}

impl Outside for WriteMap {
    fn run(&self, runtime: &mut Runtime) -> Result<()> {
        let pid = runtime.child()?.pid;
        if !self.helper {
            let file = format!("/proc/{pid}/{}", self.ids.file());
            return std::fs::write(&file, &self.text).why(|| format!("writing {file}"));
        }
        let mut command = Command::new(self.ids.program());
        command.arg(pid.to_string()).args(self.text.split_whitespace());
        let output = command.output().why(|| format!("running {} (package uidmap)", self.ids.program()))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("{} failed ({}): {}", self.ids.program(), output.status, said.trim());
        }
        Ok(())
    }
}

/// Without privilege the kernel wants setgroups(2) given up before a gid map (CVE-2014-8989).
struct DenySetgroups;

impl fmt::Display for DenySetgroups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("denying setgroups")
    }
}

impl Outside for DenySetgroups {
    fn run(&self, runtime: &mut Runtime) -> Result<()> {
        let file = format!("/proc/{}/setgroups", runtime.child()?.pid);
        std::fs::write(&file, "deny").why(|| format!("writing {file}"))
    }
}

struct BecomeRoot {
    dumpable: u64,
}

impl fmt::Display for BecomeRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("becoming root of the user namespace")
    }
}

impl Inside for BecomeRoot {
    fn run(&self, _: &mut Init<'_>) -> std::result::Result<(), Fault> {
        match cred::setgroups(&[]) {
            // Denied in a namespace that a normal user made: the groups stay as they are.
            Err(Errno::EPERM) => {}
            other => other?,
        }
        cred::setgid(0)?;
        cred::setuid(0)?;
        // Changing ids made /proc/self belong to the host's root, out of this namespace's reach.
        Ok(process::set_dumpable(self.dumpable)?)
    }
}
