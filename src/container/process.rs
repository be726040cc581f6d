//! The part of a plan that makes a process what config.json says it is: the same for `create` and `exec`.

use std::os::fd::AsFd;
use std::rc::Rc;

use anyhow::bail;
use oci_spec::runtime::{IOPriorityClass, LinuxSchedulerPolicy, Process};

use crate::error::Result;
use crate::host::Host;
use crate::plan::{Plan, Slot};
use crate::process::console::{self, Console, Target};
use crate::process::program::{self, Program};
use crate::process::rlimits::Limit;
use crate::process::{caps, fds, labels, rlimits, sched, user};
use crate::seccomp;
use crate::spec::{self, Capabilities, CpuAffinity};
use crate::sys::cred::CapSets;
use crate::sys::process::{CpuMask, SchedAttr};
use crate::sys::tty::{self, Size};
use crate::{hooks, procfs};

/// Init runs wherever its cgroup lets it.
pub const NO_AFFINITY: CpuAffinity = CpuAffinity { initial: None, last: None };

/// A process as it is asked for.
pub struct Asked<'a> {
    /// The typed part.
    pub process: &'a Process,
    /// Its capability sets; absent means none.
    pub capabilities: Option<Capabilities>,
    /// SCHED_FLAG_*.
    pub scheduler_flags: u64,
    /// Where it may run.
    pub cpu_affinity: &'a CpuAffinity,
    /// `linux.personality`.
    pub persona: Option<u64>,
    /// `linux.memoryPolicy`: mode with flags, and nodes.
    pub memory_policy: Option<(u32, CpuMask)>,
    /// The seccomp filter, compiled.
    pub seccomp: Option<Rc<seccomp::Filter>>,
    /// What a seccomp agent is told of the container.
    pub state: hooks::State,
    /// `creating`, or `running` for `exec`.
    pub status: &'static str,
    /// Whether the container has a user namespace.
    pub user_namespace: bool,
    /// Descriptors beside the standard ones that it gets.
    pub preserved_fds: u32,
    /// The session keyring to join.
    pub keyring: Option<String>,
    /// How many descriptors there will be at once, where these are many: their limit is lowered when they are closed.
    pub descriptors: Option<u64>,
}

/// The terminal's way out, planned.
pub struct Terminal {
    console: Console,
    socket: Slot,
}

/// A procfs that is opened at the first need.
#[derive(Default)]
pub struct Proc(Option<Slot>);

impl Proc {
    /// The slot; the opening step is added by the first caller.
    pub fn slot(&mut self, plan: &mut Plan) -> Slot {
        *self.0.get_or_insert_with(|| procfs::plan(plan))
    }
}

/// Adds what must be before the clone: the terminal's socket.
pub fn plan_before(
    asked: &Asked<'_>,
    target: Option<Target>,
    dev_console: Option<Slot>,
    plan: &mut Plan,
) -> Result<Option<Terminal>> {
    if let Some(room) = asked.descriptors {
        rlimits::plan_room(room, plan);
    }
    let wanted = asked.process.terminal().unwrap_or(false);
    let Some(target) = target else {
        if wanted {
            bail!("cannot allocate tty if orlop will detach without setting console socket");
        }
        return Ok(None);
    };
    if !wanted {
        if matches!(target, Target::Socket(_)) {
            bail!("cannot use console socket if orlop will not detach or allocate tty");
        }
        return Ok(None);
    }
    let size =
        asked.process.console_size().map(|size| Size { rows: size.height() as u16, columns: size.width() as u16 });
    // Set before the program runs: its first look at the size shall not race with this process.
    let size = size.or_else(|| match target {
        Target::Foreground => tty::size(std::io::stdin().as_fd()).ok(),
        Target::Socket(_) => None,
    });
    let socket = console::plan_socket(&target, plan);
    let console = Console { target, size, uid: asked.process.user().uid(), dev_console };
    Ok(Some(Terminal { console, socket }))
}

/// Adds the first outside turn's part: what needs the runtime's privileges.
pub fn plan_outside(asked: &Asked<'_>, plan: &mut Plan) -> Result<()> {
    if let Some(score) = asked.process.oom_score_adj() {
        sched::plan_oom_score(score, plan);
    }
    if asked.user_namespace {
        rlimits::plan_raise(&limits(asked.process)?, asked.descriptors.unwrap_or(0), plan)?;
    }
    Ok(())
}

/// Adds the beginning inside: session and keyring.
pub fn plan_session(asked: &Asked<'_>, host: &Host, proc: &mut Proc, plan: &mut Plan) -> Result<()> {
    if let Some(cpus) = &asked.cpu_affinity.initial {
        sched::plan_affinity(mask(cpus), plan);
    } else if asked.cpu_affinity.last.is_none() {
        sched::plan_affinity_reset(plan);
    }
    console::plan_session(plan);
    if let Some(name) = &asked.keyring {
        let label = asked.process.selinux_label().as_deref();
        if let Some(label) = label.filter(|label| !label.is_empty() && host.has_selinux()) {
            let proc = proc.slot(plan);
            labels::plan_key_label(label, proc, plan)?;
        }
        sched::plan_keyring(name, plan)?;
    }
    Ok(())
}

/// Adds the working directory, as root of the container, and the terminal.
pub fn plan_terminal(
    asked: &Asked<'_>,
    terminal: Option<&Terminal>,
    cwd: program::Missing,
    plan: &mut Plan,
) -> Result<()> {
    program::plan_cwd(asked.process.cwd(), program::As::Root(cwd), plan)?;
    if let Some(terminal) = terminal {
        console::plan(&terminal.console, terminal.socket, plan);
    }
    Ok(())
}

/// Adds the limit of capabilities. Hooks that init executes are not meant to have it.
pub fn plan_bounding(asked: &Asked<'_>, plan: &mut Plan) {
    caps::plan_bounding(asked.capabilities.unwrap_or_default().bounding, plan);
}

/// Adds the rest up to the wait for `start`, in the order that privileges demand; the limit of capabilities if it is
/// not in the plan yet.
pub fn plan_privileges(
    asked: &Asked<'_>,
    host: &Host,
    bounded: bool,
    proc: &mut Proc,
    plan: &mut Plan,
) -> Result<Rc<Program>> {
    let process = asked.process;
    let no_new_privs = process.no_new_privileges().unwrap_or(false);
    if no_new_privs {
        labels::plan_no_new_privs(plan);
    }
    if let Some(profile) = process.apparmor_profile().as_deref().filter(|name| !name.is_empty()) {
        let proc = proc.slot(plan);
        labels::plan_apparmor(profile, host.has_apparmor(), proc, plan)?;
    }
    if let Some(label) = process.selinux_label().as_deref().filter(|name| !name.is_empty()) {
        let proc = proc.slot(plan);
        labels::plan_selinux(label, host.has_selinux(), proc, plan)?;
    }
    plan_scheduling(asked, plan);
    rlimits::plan(limits_of_init(asked)?, plan);
    // Before the filter, which may know nothing of close_range(2). What is opened later closes itself.
    fds::plan(asked.preserved_fds, plan);
    // Without no_new_privs the filter needs CAP_SYS_ADMIN, which is about to go.
    if let Some(filter) = asked.seccomp.as_ref().filter(|_| !no_new_privs) {
        seccomp::load::plan(filter, asked.status, &asked.state, plan);
    }
    if !bounded {
        plan_bounding(asked, plan);
    }
    let masks = masks(asked.capabilities.unwrap_or_default(), plan);
    user::plan_stdio(process.user().uid(), plan);
    user::plan(user_of(process, asked, host), plan);
    caps::plan_sets(masks, plan);
    program::plan_cwd(process.cwd(), program::As::User, plan)?;
    let args = process.args().as_deref().unwrap_or_default();
    let program = Rc::new(Program::new(args, process.env().as_deref().unwrap_or_default())?);
    if program.needs_home {
        user::plan_home(process.user().uid(), plan);
    }
    program::plan_find(&program, plan);
    if let Some(filter) = asked.seccomp.as_ref().filter(|_| no_new_privs) {
        seccomp::load::plan(filter, asked.status, &asked.state, plan);
    }
    Ok(program)
}

/// Adds the end.
pub fn plan_execute(program: Rc<Program>, plan: &mut Plan) {
    program::plan_execute(program, plan);
}

fn plan_scheduling(asked: &Asked<'_>, plan: &mut Plan) {
    if let Some(scheduler) = asked.process.scheduler() {
        let policy: LinuxSchedulerPolicy = *scheduler.policy();
        sched::plan_scheduler(
            SchedAttr {
                policy: spec::scheduler_policy(policy),
                flags: asked.scheduler_flags,
                nice: scheduler.nice().unwrap_or(0),
                priority: scheduler.priority().unwrap_or(0).unsigned_abs(),
                runtime: scheduler.runtime().unwrap_or(0),
                deadline: scheduler.deadline().unwrap_or(0),
                period: scheduler.period().unwrap_or(0),
                ..SchedAttr::default()
            },
            plan,
        );
    }
    if let Some(priority) = asked.process.io_priority() {
        let class = match priority.class() {
            IOPriorityClass::IoprioClassRt => 1,
            IOPriorityClass::IoprioClassBe => 2,
            IOPriorityClass::IoprioClassIdle => 3,
        };
        sched::plan_io_priority(class, priority.priority() as u32, plan);
    }
    if let Some(persona) = asked.persona {
        sched::plan_personality(persona, plan);
    }
    if let Some((mode, nodes)) = asked.memory_policy {
        sched::plan_memory_policy(mode, nodes, plan);
    }
    if let Some(cpus) = &asked.cpu_affinity.last {
        sched::plan_affinity(mask(cpus), plan);
    }
}

/// A set of ids as the kernel's mask.
pub fn mask(ids: &spec::IdSet) -> CpuMask {
    let mut mask = [0; 128];
    for (to, from) in mask.iter_mut().zip(ids.words()) {
        *to = *from;
    }
    mask
}

fn masks(sets: Capabilities, plan: &mut Plan) -> caps::Masks {
    let Capabilities { effective, permitted, inheritable, ambient, .. } = sets;
    let possible = ambient & permitted & inheritable;
    if possible != ambient {
        // The kernel refuses these; runc warns of each and goes on, and buildah relies on it.
        for name in spec::capability_names_of(ambient & !possible) {
            plan.warn(format!("can't raise ambient capability {name}: it is not both permitted and inheritable"));
        }
    }
    caps::Masks { sets: CapSets { effective, permitted, inheritable }, ambient: possible }
}

fn user_of(process: &Process, asked: &Asked<'_>, host: &Host) -> user::User {
    let user = process.user();
    user::User {
        uid: user.uid(),
        gid: user.gid(),
        groups: user.additional_gids().clone().unwrap_or_default(),
        umask: user.umask().unwrap_or(0o022),
        setgroups_denied: asked.user_namespace && host.is_rootless() || host.setgroups_denied,
    }
}

/// What the process sets for itself, with the limit that had to make room for the mounts.
fn limits_of_init(asked: &Asked<'_>) -> Result<Vec<Limit>> {
    let mut all = limits(asked.process)?;
    if asked.descriptors.is_some() && !all.iter().any(Limit::is_of_descriptors) {
        all.push(Limit::of_runtime()?);
    }
    Ok(all)
}

fn limits(process: &Process) -> Result<Vec<Limit>> {
    let mut limits: Vec<Limit> = Vec::new();
    for (index, limit) in process.rlimits().iter().flatten().enumerate() {
        let json = format!("process.rlimits[{index}]");
        let name = limit.typ().to_string();
        let Some(resource) = spec::rlimit_number(&name) else { bail!("config.json: {json}.type {name:?} is unknown") };
        limits.push(Limit { json, name, resource, soft: limit.soft(), hard: limit.hard() });
    }
    Ok(limits)
}
