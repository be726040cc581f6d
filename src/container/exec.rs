//! `exec`: another process in a running container, by the same steps as its first one.
//!
//! It joins the namespaces through a pidfd of init, born in the container's cgroup, and is hidden
//! (not dumpable) from the container's processes until it has become one of them (CVE-2016-9962).

use std::cell::RefCell;
use std::ffi::CString;
use std::fmt;
use std::mem::ManuallyDrop;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::rc::Rc;

use anyhow::{anyhow, bail};

use super::create::seccomp_filter;
use super::id::ContainerId;
use super::process::{self, Asked, Proc};
use super::record::Record;
use super::status::{self, Status};
use super::steps::{SendPidfd, WritePidFile};
use super::warn;
use super::{Context, state};
use crate::error::{Result, Why};
use crate::host::Host;
use crate::namespaces::{JoinAll, user};
use crate::plan::walk::{Child, Ending};
use crate::plan::{Fault, Init, Inside, Outside, Plan, Runtime, Slot};
use crate::process::console::Target;
use crate::process::program::Missing;
use crate::spec::{Config, Part, ProcessConfig};
use crate::sys::fd;
use crate::{cgroup, rdt};

/// What `exec` is asked for.
pub struct Request {
    /// The container.
    pub id: ContainerId,
    /// The process.
    pub process: ProcessConfig,
    /// Where the terminal goes.
    pub terminal: Option<Target>,
    /// Where the pid is written.
    pub pid_file: Option<PathBuf>,
    /// A socket that a pidfd is sent to.
    pub pidfd_socket: Option<PathBuf>,
    /// Descriptors beside the standard ones that the program gets.
    pub preserve_fds: u32,
    /// Cgroups below the container's, each `[controllers:]path`.
    pub cgroups: Vec<String>,
    /// Whether a paused container is an error.
    pub paused: Paused,
    /// A pidfd of init, where [`open`] has given one.
    pub init: RefCell<Option<OwnedFd>>,
}

/// What to do about a paused container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paused {
    /// An error, as the process would hang.
    Refused,
    /// It will go on when the container is resumed (`--ignore-paused`).
    Ignored,
}

/// A process made, with what the walk left in the runtime.
pub struct Executed {
    /// The process.
    pub child: Child,
    /// Where the master of its terminal arrives.
    pub terminal: Option<OwnedFd>,
}

/// What there is of a container that can be entered.
pub struct Opened {
    /// Its record.
    pub record: Record,
    /// What its configuration has for the processes that enter it.
    pub config: Config,
    /// A pidfd of init, where the kernel has them.
    pub init: Option<OwnedFd>,
}

/// Opens a container that can be entered.
///
/// # Errors
/// When it does not run.
pub fn open(context: &Context, id: &ContainerId, paused: Paused) -> Result<Opened> {
    let dir = context.store.dir(id);
    let record = context.store.record(id)?;
    // Before its status is asked for, so that what is found alive then is what this is of.
    let init = crate::sys::process::pidfd_open(record.pid).ok();
    match Status::started_or_not(&record, &dir) {
        Status::Running | Status::Created => {}
        Status::Paused if paused == Paused::Ignored => {}
        Status::Paused => bail!("cannot exec in a paused container (use --ignore-paused to override)"),
        Status::Stopped => bail!("cannot exec in a stopped container"),
        Status::Creating => bail!("cannot exec in a container that is being created"),
    }
    let config = super::store::kept_config(&dir, Part::Process)?;
    Ok(Opened { record, config, init })
}

/// Executes a process in the container.
///
/// # Errors
/// Whatever fails; no process is left then.
pub fn exec(context: &mut Context, record: &Record, config: &Config, request: &Request) -> Result<Executed> {
    let Context { host, log, trace, binary, .. } = context;
    // Not taken apart, as in `create`.
    let plan = ManuallyDrop::new(trace.span("planning", || plan_exec(record, config, request, host))?);
    warn(log, request.process.warnings.iter().chain(&plan.warnings));
    log.debug_lines(|| plan.to_string());
    plan.remarks.iter().for_each(|remark| log.debug(|| remark.clone()));
    let mut runtime = Runtime::default();
    runtime.binary = binary.take();
    plan.execute(&mut runtime, Ending::Executed, trace)?;
    let child = runtime.take_child().ok_or_else(|| anyhow!("the process has not been made"))?;
    Ok(Executed { child, terminal: runtime.terminal.take() })
}

/// Everything that happens when a process enters a container, in order.
///
/// # Errors
/// What cannot be done, before anything is done.
pub fn plan_exec(record: &Record, config: &Config, request: &Request, host: &Host) -> Result<Plan> {
    let plan = &mut Plan::new();
    let state: crate::hooks::State = {
        let record = record.clone();
        Rc::new(move |status, _| state::for_hooks(&record, status, record.pid))
    };
    let asked = Asked {
        process: &request.process.process,
        capabilities: request.process.capabilities,
        scheduler_flags: request.process.scheduler_flags,
        cpu_affinity: &request.process.cpu_affinity,
        persona: super::create::personality(&config.spec)?,
        memory_policy: super::create::memory_policy(&config.spec)?,
        seccomp: seccomp_filter(&config.spec, plan)?,
        state,
        status: "running",
        user_namespace: record.namespaces & libc::CLONE_NEWUSER != 0,
        preserved_fds: request.preserve_fds,
        keyring: record.keyring.then(|| format!("_ses.{}", record.id)),
        descriptors: None,
    };

    // before
    let init = plan.slot();
    plan.before(OpenInit { record: record.clone(), slot: init, opened: RefCell::new(request.init.take()) });
    let terminal = process::plan_before(&asked, request.terminal.clone(), None, plan)?;
    let pidfd_socket = request.pidfd_socket.as_deref().map(|path| super::create::plan_pidfd_socket(path, plan));
    cgroup::plan_join(&record.cgroup, &request.cgroups, Some(record.pid), plan)?;
    let flags = plan_namespaces(record, host, init, plan);
    let root = (record.namespaces & libc::CLONE_NEWNS == 0).then(|| plan_root(record, plan));

    // outside
    record.rdt.iter().for_each(|group| rdt::plan_enter(group, plan));
    process::plan_outside(&asked, plan)?;

    // inside
    if flags != 0 {
        plan.inside(JoinAll { pidfd: init, flags });
    }
    if let Some(root) = root {
        plan.inside(EnterRoot(root));
    }
    if asked.user_namespace {
        user::plan_entered(plan);
    }
    let mut proc = Proc::default();
    process::plan_session(&asked, host, &mut proc, plan)?;
    process::plan_terminal(&asked, terminal.as_ref(), Missing::Refused, plan)?;
    let program = process::plan_privileges(&asked, host, false, &mut proc, plan)?;

    // outside
    if let Some(socket) = pidfd_socket {
        plan.outside(SendPidfd(socket));
    }
    if let Some(path) = &request.pid_file {
        plan.outside(WritePidFile(path.clone()));
    }

    // inside
    process::plan_execute(program, plan);
    Ok(std::mem::take(plan))
}

/// The pid namespace is entered before the clone; gives back what is entered after it.
fn plan_namespaces(record: &Record, host: &Host, init: Slot, plan: &mut Plan) -> i32 {
    let mut flags = record.namespaces;
    if flags & libc::CLONE_NEWUSER != 0 && host.is_rootless() {
        // A normal user has rights over the other namespaces only inside the user namespace.
        plan.spawn.through_user = Some(init);
        flags &= !libc::CLONE_NEWUSER;
    }
    if flags & libc::CLONE_NEWPID != 0 {
        plan.spawn.for_children.push((init, libc::CLONE_NEWPID));
        plan.spawn.stays = true;
        plan.spawn.hidden = true;
        flags &= !libc::CLONE_NEWPID;
    }
    flags
}

fn plan_root(record: &Record, plan: &mut Plan) -> Slot {
    let slot = plan.slot();
    plan.before(OpenRoot { path: format!("/proc/{}/root", record.pid), slot });
    slot
}

struct OpenInit {
    record: Record,
    slot: Slot,
    opened: RefCell<Option<OwnedFd>>,
}

impl fmt::Display for OpenInit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("opening a pidfd of the container's init")
    }
}

impl Outside for OpenInit {
    fn run(&self, runtime: &mut Runtime) -> Result<()> {
        let init = self.opened.take().map_or_else(|| status::init_pidfd(&self.record), Ok)?;
        runtime.slots.put(self.slot, init);
        Ok(())
    }
}

struct OpenRoot {
    path: String,
    slot: Slot,
}

impl fmt::Display for OpenRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "opening the root of the container's init")
    }
}

impl Outside for OpenRoot {
    fn run(&self, runtime: &mut Runtime) -> Result<()> {
        let path = CString::new(self.path.as_str())?;
        let root = fd::open(&path, libc::O_PATH | libc::O_DIRECTORY, 0).why(|| &self.path)?;
        runtime.slots.put(self.slot, root);
        Ok(())
    }
}

struct EnterRoot(Slot);

impl fmt::Display for EnterRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("changing the root (no mount namespace)")
    }
}

impl Inside for EnterRoot {
    fn run(&self, init: &mut Init<'_>) -> std::result::Result<(), Fault> {
        fd::fchdir(init.slots.get(self.0)?)?;
        fd::chroot(c".")?;
        Ok(fd::chdir(c"/")?)
    }
}
