//! Namespaces: config-linux.md#namespaces (runtime-spec v1.3.0).
//!
//! New ones are made by the one clone3. A user namespace comes first in the kernel, so that it owns
//! the others. Three kinds are special: a pid namespace is entered by children only; a cgroup
//! namespace takes the cgroup of the moment as its root, so it is unshared after the cgroup is
//! joined; a time namespace takes its offsets before any process is in it.

use std::ffi::CString;
use std::fmt;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{anyhow, bail};
use oci_spec::runtime::{LinuxNamespaceType, Spec};

use crate::error::{Result, Why};
use crate::plan::{Fault, Init, Inside, Outside, Plan, Runtime, Slot};
use crate::sys::{fd, ns};

pub mod time;
pub mod user;
pub mod uts;

/// The kinds, in the order in which they are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// CLONE_NEWUSER
    User,
    /// CLONE_NEWPID
    Pid,
    /// CLONE_NEWNET
    Network,
    /// CLONE_NEWUTS
    Uts,
    /// CLONE_NEWIPC
    Ipc,
    /// CLONE_NEWCGROUP
    Cgroup,
    /// CLONE_NEWTIME
    Time,
    /// CLONE_NEWNS; joined last, as it changes what paths mean.
    Mount,
}

impl Kind {
    /// All kinds, in joining order.
    pub const ALL: [Kind; 8] =
        [Kind::User, Kind::Pid, Kind::Network, Kind::Uts, Kind::Ipc, Kind::Cgroup, Kind::Time, Kind::Mount];

    /// The CLONE_NEW* flag.
    pub fn flag(self) -> i32 {
        match self {
            Kind::User => libc::CLONE_NEWUSER,
            Kind::Pid => libc::CLONE_NEWPID,
            Kind::Network => libc::CLONE_NEWNET,
            Kind::Uts => libc::CLONE_NEWUTS,
            Kind::Ipc => libc::CLONE_NEWIPC,
            Kind::Cgroup => libc::CLONE_NEWCGROUP,
            Kind::Time => libc::CLONE_NEWTIME,
            Kind::Mount => libc::CLONE_NEWNS,
        }
    }

    /// The name in config.json.
    pub fn name(self) -> &'static str {
        match self {
            Kind::User => "user",
            Kind::Pid => "pid",
            Kind::Network => "network",
            Kind::Uts => "uts",
            Kind::Ipc => "ipc",
            Kind::Cgroup => "cgroup",
            Kind::Time => "time",
            Kind::Mount => "mount",
        }
    }

    /// The name below /proc/PID/ns.
    pub fn proc_name(self) -> &'static str {
        match self {
            Kind::Network => "net",
            Kind::Mount => "mnt",
            other => other.name(),
        }
    }

    /// The kind that owns a kernel parameter, of those that config.json may set.
    pub fn of_parameter(name: &str) -> Kind {
        match name.split(['.', '/']).next() {
            Some("net") => Kind::Network,
            Some("user") => Kind::User,
            _ if name.ends_with("domainname") => Kind::Uts,
            _ => Kind::Ipc,
        }
    }

    fn of(kind: LinuxNamespaceType) -> Kind {
        match kind {
            LinuxNamespaceType::User => Kind::User,
            LinuxNamespaceType::Pid => Kind::Pid,
            LinuxNamespaceType::Network => Kind::Network,
            LinuxNamespaceType::Uts => Kind::Uts,
            LinuxNamespaceType::Ipc => Kind::Ipc,
            LinuxNamespaceType::Cgroup => Kind::Cgroup,
            LinuxNamespaceType::Time => Kind::Time,
            LinuxNamespaceType::Mount => Kind::Mount,
        }
    }
}

/// Whether `path` is the runtime's own namespace of that kind.
fn is_own(path: &Path, kind: Kind) -> bool {
    let own = std::fs::metadata(format!("/proc/self/ns/{}", kind.proc_name()));
    let same = |one: &Metadata, other: &Metadata| (one.dev(), one.ino()) == (other.dev(), other.ino());
    matches!((std::fs::metadata(path), own), (Ok(found), Ok(own)) if same(&found, &own))
}

/// What the container does about one kind of namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Choice {
    /// Stays in the runtime's.
    #[default]
    Host,
    /// Gets its own.
    New,
    /// Joins the one at `path`, which config.json names at `json`.
    Join {
        /// The namespace file.
        path: CString,
        /// Where config.json names it.
        json: String,
    },
}

/// The choice for every kind.
#[derive(Debug, Clone, Default)]
pub struct Namespaces([Choice; 8]);

impl Namespaces {
    /// Reads `linux.namespaces`.
    ///
    /// # Errors
    /// A kind that stands twice, or a path with a NUL byte.
    pub fn of(spec: &Spec) -> Result<Namespaces> {
        let mut all = Namespaces::default();
        let list = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
        for (index, namespace) in list.into_iter().flatten().enumerate() {
            let json = || format!("linux.namespaces[{index}]");
            let kind = Kind::of(namespace.typ());
            let choice = match namespace.path() {
                // The runtime's own, by its path: there is nothing to join, and it is not the container's to change.
                Some(path) if is_own(path, kind) => Choice::Host,
                Some(path) if !path.as_os_str().is_empty() => {
                    let bytes = path.as_os_str().as_encoded_bytes();
                    let path =
                        CString::new(bytes).map_err(|_| anyhow!("config.json: {}.path contains a NUL byte", json()))?;
                    Choice::Join { path, json: json() }
                }
                _ => Choice::New,
            };
            let place = all.place(kind);
            if *place != Choice::Host {
                bail!("config.json: {}: duplicate {} namespace", json(), kind.name());
            }
            *place = choice;
        }
        Ok(all)
    }

    fn place(&mut self, kind: Kind) -> &mut Choice {
        // The array has one place for each of the eight kinds.
        #[allow(clippy::indexing_slicing)]
        &mut self.0[kind as usize]
    }

    /// What is chosen for a kind.
    pub fn get(&self, kind: Kind) -> &Choice {
        #[allow(clippy::indexing_slicing)]
        &self.0[kind as usize]
    }

    /// Whether the container gets a namespace of its own, newly made.
    pub fn is_new(&self, kind: Kind) -> bool {
        *self.get(kind) == Choice::New
    }

    /// Whether the container is not in the runtime's namespace.
    pub fn is_private(&self, kind: Kind) -> bool {
        *self.get(kind) != Choice::Host
    }

    /// Refuses a field that would otherwise change the host.
    ///
    /// # Errors
    /// When the container shares the runtime's namespace of that kind.
    pub fn require_private(&self, kind: Kind, field: &str) -> Result<()> {
        if !self.is_private(kind) {
            bail!("config.json: {field} needs a {} namespace of the container's own", kind.name());
        }
        Ok(())
    }
}

/// Adds what happens before the clone: its flags, and the opening of namespaces to join.
///
/// # Errors
/// Combinations that the kernel cannot make.
pub fn plan_spawn(namespaces: &Namespaces, plan: &mut Plan) -> Result<Vec<Join>> {
    let mut joins = Vec::new();
    for kind in Kind::ALL {
        match namespaces.get(kind) {
            Choice::Host => {}
            Choice::New if matches!(kind, Kind::Cgroup | Kind::Time) => {}
            Choice::New if kind == Kind::Ipc && namespaces.is_private(Kind::User) => {}
            Choice::New => plan.spawn.flags |= kind.flag() as u64,
            Choice::Join { path, json } => {
                let slot = plan.slot();
                plan.before(OpenNamespace { path: path.clone(), json: json.clone(), kind, slot });
                // Before a new user namespace is made, the runtime's privileges still count.
                let early = kind == Kind::Pid || (namespaces.is_new(Kind::User) && kind != Kind::Mount);
                if kind == Kind::User {
                    plan.spawn.through_user = Some(slot);
                } else if early {
                    plan.spawn.for_children.push((slot, kind.flag()));
                } else {
                    joins.push(Join { path: path.clone(), kind, slot });
                }
                plan.spawn.hidden |= kind == Kind::Pid;
            }
        }
    }
    Ok(joins)
}

/// Where the runtime holds a namespace of that kind that is to be joined.
pub fn joined(joins: &[Join], kind: Kind, plan: &Plan) -> Option<Slot> {
    let early = plan.spawn.for_children.iter().find(|(_, flag)| *flag == kind.flag()).map(|(slot, _)| *slot);
    early.or_else(|| joins.iter().find(|join| join.kind == kind).map(|join| join.slot))
}

/// Adds the entering of existing namespaces, and of those that the clone does not make: the cgroup namespace, whose root is
/// where init is when it makes it, and in a user namespace that of IPC, whose message queues belong to who makes it.
pub fn plan_join(namespaces: &Namespaces, joins: Vec<Join>, plan: &mut Plan) {
    for join in joins {
        plan.inside(join);
    }
    if namespaces.is_new(Kind::Ipc) && namespaces.is_private(Kind::User) {
        plan.inside(Unshare(Kind::Ipc));
    }
    if namespaces.is_new(Kind::Cgroup) {
        plan.inside(Unshare(Kind::Cgroup));
    }
}

struct OpenNamespace {
    path: CString,
    json: String,
    kind: Kind,
    slot: Slot,
}

impl fmt::Display for OpenNamespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "opening {} namespace {:?}", self.kind.name(), self.path)
    }
}

impl Outside for OpenNamespace {
    fn run(&self, runtime: &mut Runtime) -> Result<()> {
        let words = || format!("config.json: {}.path {:?}", self.json, self.path);
        let file = fd::open(&self.path, libc::O_RDONLY, 0).why(words)?;
        let found = ns::kind(std::os::fd::AsFd::as_fd(&file)).map_err(|_| anyhow!("{}: not a namespace", words()))?;
        if found != self.kind.flag() {
            let other = Kind::ALL.iter().find(|kind| kind.flag() == found).map_or("other", |kind| kind.name());
            bail!("{}: is a {other} namespace, not a {} namespace", words(), self.kind.name());
        }
        runtime.slots.put(self.slot, file);
        Ok(())
    }
}

/// The entering of one existing namespace, after the clone.
pub struct Join {
    path: CString,
    kind: Kind,
    slot: Slot,
}

impl fmt::Display for Join {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "joining {} namespace {:?}", self.kind.name(), self.path)
    }
}

impl Inside for Join {
    fn run(&self, init: &mut Init<'_>) -> std::result::Result<(), Fault> {
        Ok(ns::setns(init.slots.get(self.slot)?, self.kind.flag())?)
    }
}

struct Unshare(Kind);

impl fmt::Display for Unshare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "making the {} namespace", self.0.name())
    }
}

impl Inside for Unshare {
    fn run(&self, _: &mut Init<'_>) -> std::result::Result<(), Fault> {
        Ok(ns::unshare(self.0.flag())?)
    }
}

/// Joins all namespaces of a running container at once, through a pidfd of its init (Linux 5.8).
pub struct JoinAll {
    /// A pidfd of the container's init.
    pub pidfd: Slot,
    /// CLONE_NEW* of the namespaces that differ from the runtime's.
    pub flags: i32,
}

impl fmt::Display for JoinAll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> =
            Kind::ALL.iter().filter(|kind| self.flags & kind.flag() != 0).map(|kind| kind.name()).collect();
        write!(f, "joining the container's namespaces ({})", names.join(", "))
    }
}

impl Inside for JoinAll {
    fn run(&self, init: &mut Init<'_>) -> std::result::Result<(), Fault> {
        Ok(ns::setns(init.slots.get(self.pidfd)?, self.flags)?)
    }
}
