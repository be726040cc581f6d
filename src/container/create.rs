//! `create`, and the plan of a container's birth: runtime.md#lifecycle (runtime-spec v1.3.0).

use std::cell::RefCell;
use std::ffi::CString;
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::SystemTime;

use anyhow::{anyhow, bail};
use oci_spec::runtime::{Hooks, LinuxPersonalityDomain, Spec};

use super::id::ContainerId;
use super::notify::{self, Notify};
use super::process::{self, Asked, Proc};
use super::record::Record;
use super::steps::{ConnectPidfdSocket, MakeFifo, RecordCreated, RecordPid, SendPidfd, WritePidFile, WriteRecord};
use super::{Context, death, delete, state, warn};
use crate::cgroup::{self, Placement};
use crate::error::{Result, Why};
use crate::host::Host;
use crate::host::cgroup::Setup;
use crate::log::timestamp;
use crate::namespaces::{self, Kind, Namespaces, time, user, uts};
use crate::network::devices::{self as net_devices, Device, Target};
use crate::plan::walk::Ending;
use crate::plan::{Plan, Runtime, Slot};
use crate::process::{console, fds, program};
use crate::rootfs::{Input, Rootfs, Setting, Sources, cgroup as cgroup_mounts, devices, pivot, shared};
use crate::spec::{self, Config};
use crate::sys::fd;
use crate::sys::process::CpuMask;
use crate::{hooks, network, rdt, rootfs, seccomp, sysctl};

/// How the new container is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// By `start`, later.
    Later,
    /// At once, by `run`.
    Now,
}

/// What `create` and `run` are asked for.
#[derive(Debug, Clone)]
pub struct Request {
    /// The container's id.
    pub id: ContainerId,
    /// The bundle.
    pub bundle: PathBuf,
    /// Where the terminal goes.
    pub terminal: Option<console::Target>,
    /// Where init's pid is written.
    pub pid_file: Option<PathBuf>,
    /// A socket that a pidfd of init is sent to.
    pub pidfd_socket: Option<PathBuf>,
    /// Descriptors beside the standard ones that the program gets.
    pub preserve_fds: u32,
    /// Whether the root is moved instead of pivoted.
    pub no_pivot: bool,
    /// Whether the container keeps the caller's session keyring.
    pub no_new_keyring: bool,
    /// Environment beside config.json's, such as LISTEN_FDS.
    pub extra_env: Vec<String>,
    /// When the program is executed.
    pub start: Start,
}

impl Request {
    /// A `create` without any flag.
    pub fn new(id: ContainerId, bundle: PathBuf) -> Request {
        Request {
            id,
            bundle,
            terminal: None,
            pid_file: None,
            pidfd_socket: None,
            preserve_fds: 0,
            no_pivot: false,
            no_new_keyring: false,
            extra_env: Vec::new(),
            start: Start::Later,
        }
    }
}

/// A container made.
pub struct Created {
    /// Its record.
    pub record: Record,
    /// Its configuration.
    pub config: Config,
    /// What the walk left in the runtime: the process, and the slots.
    pub runtime: Runtime,
    /// The socket on which a container started at once says that it is ready.
    pub notify: Option<Notify>,
}

/// Makes a container.
///
/// # Errors
/// Whatever fails; nothing is left behind then.
pub fn create(context: &mut Context, request: &Request) -> Result<Created> {
    let Context { host, store, log, trace, binary } = context;
    store.check_free(&request.id)?;
    let mut config = trace.span("reading config.json", || Config::open(&request.bundle))?;
    add_env(&mut config, &request.extra_env);
    let notifies = Notify::host().is_some();
    if notifies {
        notify::configure(&mut config, &store.dir(&request.id));
    }
    let record = Rc::new(RefCell::new(new_record(&config, request, host)?));
    let dir = store.dir(&request.id);
    let plan = match trace.span("planning", || plan_create(&config, &record, &dir, request, host)) {
        // Not taken apart, as the process ends soon: that would write to memory shared with init, which is then copied.
        Ok(plan) => ManuallyDrop::new(plan),
        Err(error) => {
            // Another command that has made the container meanwhile is the better reason.
            store.check_free(&request.id)?;
            return Err(error);
        }
    };
    warn(log, config.warnings.iter().chain(&plan.warnings));
    log.debug_lines(|| plan.to_string());
    plan.remarks.iter().for_each(|remark| log.debug(|| remark.clone()));
    let seat = store.reserve(&request.id)?;
    let notify = match prepare_notify(notifies, request.start, seat.dir()) {
        Ok(notify) => notify,
        Err(error) => {
            seat.remove()?;
            return Err(error);
        }
    };
    let mut runtime = Runtime::default();
    runtime.lock = Some(seat.lock());
    runtime.binary = binary.take();
    let ending = if request.start == Start::Now { Ending::Executed } else { Ending::Waiting };
    let result = plan.execute(&mut runtime, ending, trace);
    runtime.lock = None;
    let record = record.borrow().clone();
    if let Err(error) = result {
        let error = death::explain(error, &record.cgroup, death::memory_limit(&config.spec));
        match delete::destroy(&record, seat) {
            Ok(()) => delete::poststop(context, &record, &config),
            Err(left) => log.warn(&format!("cleaning up after the failure: {}", crate::error::one_line(&left))),
        }
        return Err(error);
    }
    Ok(Created { record, config, runtime, notify })
}

/// Makes the folder of the container's notify socket, and the socket when the container starts at once.
pub(super) fn prepare_notify(wanted: bool, start: Start, dir: &Path) -> Result<Option<Notify>> {
    if !wanted {
        return Ok(None);
    }
    notify::make_folder(dir)?;
    if start == Start::Now { Notify::bind(dir) } else { Ok(None) }
}

/// Adds to the environment of the process.
pub fn add_env(config: &mut Config, extra: &[String]) {
    if extra.is_empty() {
        return;
    }
    if let Some(process) = config.spec.process_mut() {
        let mut env = process.env().clone().unwrap_or_default();
        env.extend(extra.iter().cloned());
        process.set_env(Some(env));
    }
}

/// The record of a container that does not exist yet.
///
/// # Errors
/// A rootfs that is missing, namespaces that are none.
pub fn new_record(config: &Config, request: &Request, host: &Host) -> Result<Record> {
    let spec = &config.spec;
    let bundle = std::path::absolute(&request.bundle).why(|| "--bundle")?;
    let root =
        spec.root().as_ref().map(|root| root.path().clone()).ok_or_else(|| anyhow!("config.json: root is missing"))?;
    let rootfs = bundle.join(&root);
    let (rootfs, mode) = fd::real_path(&rootfs).why(|| format!("config.json: root.path {root:?}"))?;
    if !fd::is_dir(mode) {
        bail!("config.json: root.path {root:?}: not a directory");
    }
    let namespaces = Namespaces::of(spec)?;
    let flags = Kind::ALL.iter().filter(|kind| namespaces.is_private(**kind)).fold(0, |sum, kind| sum | kind.flag());
    Ok(Record {
        oci_version: spec.version().clone(),
        id: request.id.to_string(),
        bundle,
        created: timestamp(SystemTime::now()),
        owner: host.uid,
        pid: 0,
        start_time: 0,
        namespaces: flags,
        own_pid_namespace: namespaces.is_new(Kind::Pid),
        keyring: !request.no_new_keyring,
        descriptors: fds::links(spec),
        annotations: spec.annotations().iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect(),
        cgroup: cgroup::Record::default(),
        rdt: None,
        shared_mounts: shares_mounts(spec, &namespaces).then(|| shared::Record::of(&rootfs)).transpose()?,
        rootfs,
    })
}

/// Everything that happens when a container is born, in order.
///
/// # Errors
/// What cannot be done, by JSON path, before anything is done.
pub fn plan_create(
    config: &Config,
    record: &Rc<RefCell<Record>>,
    dir: &Path,
    request: &Request,
    host: &Host,
) -> Result<Plan> {
    let plan = &mut Plan::new();
    let spec = &config.spec;
    let namespaces = Namespaces::of(spec)?;
    check_mount_namespace(spec, &namespaces)?;
    let label = mount_label(spec, host)?;
    let state = hook_state(record);
    let sources = sources(&namespaces, host);
    let asked = asked(config, &namespaces, request, &state, sources, plan)?;
    let hooks = spec.hooks().clone().unwrap_or_default();
    let linux = spec.linux().as_ref();

    // before: nothing exists until the record names it.
    let path = linux.and_then(|linux| linux.cgroups_path().as_ref()).map(|path| path.to_string_lossy().into_owned());
    let placement = Placement::new(path.as_deref(), request.id.as_str(), host)?;
    record.borrow_mut().cgroup = placement.record();
    let rdt = rdt::read(spec, request.id.as_str(), host)?;
    record.borrow_mut().rdt = rdt.as_ref().map(|wanted| wanted.record().clone());
    plan.before(WriteRecord { record: record.clone(), dir: dir.to_owned(), config: config.text.clone() });
    let fifo = (request.start == Start::Later).then(|| plan_fifo(dir, plan)).transpose()?;
    let root = plan.slot();
    let mounts = namespaces.is_private(Kind::Mount) || shares_mounts(spec, &namespaces);
    let dev_console = mounts.then_some(root);
    let terminal = process::plan_before(&asked, request.terminal.clone(), dev_console, plan)?;
    let pidfd_socket = request.pidfd_socket.as_deref().map(|path| plan_pidfd_socket(path, plan));
    let resources = linux.and_then(|linux| linux.resources().as_ref());
    let devices = cgroup::plan_make(&placement, resources, config.pids_limit, spec.annotations().as_ref(), plan)?;
    rdt.iter().for_each(|wanted| rdt::plan_make(wanted, plan));
    let net_devices = plan_net_devices(spec, &namespaces, plan)?;
    let joins = namespaces::plan_spawn(&namespaces, plan)?;
    // The runtime can make it only if it can come back from it.
    let user_namespace = namespaces.is_private(Kind::User) || host.user_namespace;
    let alone = namespaces.is_new(Kind::Mount) && !user_namespace && !hooks::look_at_mounts(&hooks);
    let has_time = alone && namespaces.is_new(Kind::Network);
    let mut rootfs = Rootfs::read(spec, Input { alone, ..input(record, request, &namespaces, host, root, label) })?;

    // outside: what init cannot do to itself.
    cgroup::plan_enter(&placement, plan);
    rdt.iter().for_each(|wanted| rdt::plan_enter(wanted.record(), plan));
    let mapper = match host.uid {
        0 => user::Mapper::Root,
        uid => user::Mapper::User { uid, gid: host.gid },
    };
    let creating = inside_state(&hooks, &state, plan);
    process::plan_outside(&asked, plan)?;
    user::plan(spec, &namespaces, mapper, plan)?;

    // inside: namespaces first (and beside them what takes long), then the root and all that is mounted there.
    let mut proc = Proc::default();
    let origin = plan_network(&namespaces, user_namespace, &net_devices, &joins, plan);
    let enter_network = |plan: &mut Plan| {
        if has_time {
            process::plan_bounding(&asked, plan);
        }
        origin.into_iter().for_each(|origin| network::plan_enter(origin, plan));
    };
    devices.into_iter().for_each(|attach| plan.alongside(attach));
    plan.alongside(RecordPid { record: record.clone(), dir: dir.to_owned() });
    namespaces::plan_join(&namespaces, joins, plan);
    process::plan_session(&asked, host, &mut proc, plan)?;
    time::plan(spec, &namespaces, |plan| proc.slot(plan), plan)?;
    if mounts {
        // The private procfs is made while the host's /proc is still there to fall back to.
        if needs_proc(spec) {
            proc.slot(plan);
        }
        rootfs.plan_mounts(has_time, enter_network, plan)?;
    } else {
        enter_network(plan);
        rootfs.plan_root(plan)?;
    }

    // outside, then inside: hooks that want the mounts done and the root not yet changed.
    #[allow(deprecated)]
    hooks::plan_outside("prestart", hooks.prestart().as_deref().unwrap_or_default(), "creating", &state, plan);
    hooks::plan_outside(
        "createRuntime",
        hooks.create_runtime().as_deref().unwrap_or_default(),
        "creating",
        &state,
        plan,
    );
    if let Some(memory) = creating {
        let list = hooks.create_container().as_deref().unwrap_or_default();
        hooks::plan_inside("createContainer", list, &memory, None, plan)?;
    }
    rootfs.plan_change(plan);
    if terminal.is_none() && mounts {
        fds::plan_null(plan);
    }
    process::plan_terminal(&asked, terminal.as_ref(), program::Missing::Made, plan)?;
    rootfs.plan_finish(plan)?;
    uts::plan(spec, &namespaces, plan)?;
    let parameters = linux.and_then(|linux| linux.sysctl().clone()).unwrap_or_default();
    for name in parameters.keys() {
        namespaces.require_private(Kind::of_parameter(name), &format!("linux.sysctl[{name:?}]"))?;
    }
    sysctl::plan(&parameters.into_iter().collect(), |plan| proc.slot(plan), plan)?;
    if namespaces.is_private(Kind::Mount) {
        rootfs.plan_masks(plan)?;
    }
    let program = process::plan_privileges(&asked, host, has_time, &mut proc, plan)?;

    // outside: the caller may know of it now.
    if let Some(socket) = pidfd_socket {
        plan.outside(SendPidfd(socket));
    }
    let started = plan_started(&hooks, &state, plan);
    if let Some(path) = &request.pid_file {
        plan.outside(WritePidFile(path.clone()));
    }

    // inside: the wait, and the end.
    match fifo {
        Some(fifo) => {
            plan.outside(RecordCreated(dir.to_owned()));
            program::plan_wait(fifo, plan);
        }
        None => plan.meet(),
    }
    if let Some(memory) = started {
        let list = hooks.start_container().as_deref().unwrap_or_default();
        let inherited = hooks::Inherited { env: program.env.clone(), needs_home: program.needs_home };
        hooks::plan_inside("startContainer", list, &memory, Some(&inherited), plan)?;
    }
    process::plan_execute(program, plan);
    if request.start == Start::Now {
        // By now init need not wait for it.
        plan.outside(RecordCreated(dir.to_owned()));
    }
    Ok(std::mem::take(plan))
}

/// The network devices that are to move; adds a look for them.
fn plan_net_devices(spec: &Spec, namespaces: &Namespaces, plan: &mut Plan) -> Result<Vec<Device>> {
    let list = net_devices::read(spec);
    if !list.is_empty() {
        namespaces.require_private(Kind::Network, "linux.netDevices")?;
    }
    net_devices::plan_find(&list, plan);
    Ok(list)
}

/// Adds the making of a new network namespace, and the moving of devices into whichever it is.
fn plan_network(
    namespaces: &Namespaces,
    user_namespace: bool,
    list: &[Device],
    joins: &[namespaces::Join],
    plan: &mut Plan,
) -> Option<network::Origin> {
    let kept = (!list.is_empty()).then(|| plan.outside_slot());
    let origin = namespaces.is_new(Kind::Network).then(|| network::plan_make(user_namespace, kept, plan));
    let target = match (origin, kept) {
        (Some(network::Origin::Runtime(_)), Some(kept)) => Target::Slot(kept),
        _ => namespaces::joined(joins, Kind::Network, plan).map_or(Target::Process, Target::Slot),
    };
    net_devices::plan_move(list, target, plan);
    origin
}

/// Whether there are mounts that the runtime's mount namespace gets.
fn shares_mounts(spec: &Spec, namespaces: &Namespaces) -> bool {
    !namespaces.is_private(Kind::Mount) && shared::has_mounts(spec)
}

/// Without a mount namespace the mounts are the host's: only those below the container's root can be undone, and
/// only who is root over the host's mount namespace can make them.
fn check_mount_namespace(spec: &Spec, namespaces: &Namespaces) -> Result<()> {
    if namespaces.is_private(Kind::Mount) {
        return Ok(());
    }
    let linux = spec.linux().as_ref();
    let mounts = shares_mounts(spec, namespaces);
    if mounts && namespaces.is_private(Kind::User) {
        namespaces.require_private(Kind::Mount, "mounts")?;
    }
    if linux.and_then(|l| l.masked_paths().as_ref()).is_some_and(|paths| !paths.is_empty()) {
        namespaces.require_private(Kind::Mount, "linux.maskedPaths")?;
    }
    if linux.and_then(|l| l.readonly_paths().as_ref()).is_some_and(|paths| !paths.is_empty()) {
        namespaces.require_private(Kind::Mount, "linux.readonlyPaths")?;
    }
    if !mounts && spec.root().as_ref().is_some_and(|root| root.readonly().unwrap_or(false)) {
        namespaces.require_private(Kind::Mount, "root.readonly")?;
    }
    Ok(())
}

fn needs_proc(spec: &Spec) -> bool {
    let label = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
    let process = spec.process().as_ref();
    let sysctl = spec.linux().as_ref().and_then(|linux| linux.sysctl().as_ref());
    sysctl.is_some_and(|values| !values.is_empty())
        || process.is_some_and(|process| label(process.apparmor_profile()) || label(process.selinux_label()))
}

fn asked<'a>(
    config: &'a Config,
    namespaces: &Namespaces,
    request: &Request,
    state: &hooks::State,
    sources: Sources,
    plan: &mut Plan,
) -> Result<Asked<'a>> {
    let process = config.spec.process().as_ref().ok_or_else(|| anyhow!("config.json: process is missing"))?;
    Ok(Asked {
        process,
        capabilities: config.capabilities,
        scheduler_flags: config.scheduler_flags,
        cpu_affinity: &process::NO_AFFINITY,
        persona: personality(&config.spec)?,
        memory_policy: memory_policy(&config.spec)?,
        seccomp: seccomp_filter(&config.spec, plan)?,
        state: state.clone(),
        status: "creating",
        user_namespace: namespaces.is_private(Kind::User),
        preserved_fds: request.preserve_fds,
        keyring: (!request.no_new_keyring).then(|| format!("_ses.{}", request.id)),
        descriptors: rootfs::descriptors_at_once(&config.spec, sources),
    })
}

/// `linux.personality` as personality(2) takes it.
///
/// # Errors
/// An unknown flag.
pub fn personality(spec: &Spec) -> Result<Option<u64>> {
    let Some(asked) = spec.linux().as_ref().and_then(|linux| linux.personality().as_ref()) else { return Ok(None) };
    let mut persona = match asked.domain() {
        LinuxPersonalityDomain::PerLinux => 0,
        LinuxPersonalityDomain::PerLinux32 => 0x0008,
    };
    for (index, flag) in asked.flags().iter().flatten().enumerate() {
        let json = format!("linux.personality.flags[{index}]");
        let number = spec::personality_flag(flag).ok_or_else(|| anyhow!("config.json: {json} {flag:?} is unknown"))?;
        persona |= number as u64;
    }
    Ok(Some(persona))
}

/// `linux.memoryPolicy` as set_mempolicy(2) takes it: mode with flags, and nodes.
///
/// # Errors
/// Nodes that are no list.
pub fn memory_policy(spec: &Spec) -> Result<Option<(u32, CpuMask)>> {
    let Some(asked) = spec.linux().as_ref().and_then(|linux| linux.memory_policy().as_ref()) else { return Ok(None) };
    let mut mode = spec::memory_policy_mode(asked.mode()) as u32;
    for flag in asked.flags().iter().flatten() {
        mode |= spec::memory_policy_flag(*flag) as u32;
    }
    // MPOL_DEFAULT and MPOL_LOCAL take none.
    let Some(nodes) = asked.nodes().as_deref() else { return Ok(Some((mode, [0; 128]))) };
    let nodes = spec::IdSet::parse(nodes).map_err(|e| anyhow!("config.json: linux.memoryPolicy.nodes: {e}"))?;
    Ok(Some((mode, process::mask(&nodes))))
}

/// `linux.mountLabel`, on a host where SELinux reads it; elsewhere a file system would refuse it, and nobody need know.
fn mount_label(spec: &Spec, host: &Host) -> Result<Option<CString>> {
    let label = spec.linux().as_ref().and_then(|linux| linux.mount_label().as_deref());
    match label.filter(|label| !label.is_empty() && host.has_selinux()) {
        // It becomes part of mount options, in quotes.
        Some(label) if label.contains(['"', '\0']) => {
            bail!("config.json: linux.mountLabel {label:?} is not an SELinux label")
        }
        Some(label) => Ok(Some(CString::new(label)?)),
        None => Ok(None),
    }
}

/// The filter, compiled; what is odd about it becomes a warning of the plan.
///
/// # Errors
/// A profile that cannot be compiled.
pub fn seccomp_filter(spec: &Spec, plan: &mut Plan) -> Result<Option<Rc<seccomp::Filter>>> {
    let Some(profile) = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref()) else { return Ok(None) };
    let filter = seccomp::compile(profile)?;
    for warning in filter.iter().flat_map(|filter| &filter.warnings) {
        plan.warn(warning.clone());
    }
    Ok(filter.map(Rc::new))
}

/// The root of a user namespace may not reach what the runtime's root does; and what is opened from the host's own
/// mounts must only follow them.
fn sources(namespaces: &Namespaces, host: &Host) -> Sources {
    let hosts = !namespaces.is_private(Kind::Mount);
    if (namespaces.is_private(Kind::User) || hosts) && !host.is_rootless() { Sources::Outside } else { Sources::Inside }
}

fn input(
    record: &Rc<RefCell<Record>>,
    request: &Request,
    namespaces: &Namespaces,
    host: &Host,
    root: Slot,
    label: Option<CString>,
) -> Input {
    let user_namespace = namespaces.is_private(Kind::User);
    let record = record.borrow();
    let change = match (namespaces.is_private(Kind::Mount), request.no_pivot) {
        (false, _) if record.shared_mounts.is_some() => pivot::Change::ChrootBind,
        (false, _) => pivot::Change::Chroot,
        (true, true) => pivot::Change::Move,
        (true, false) => pivot::Change::Pivot,
    };
    Input {
        setting: Setting {
            rootfs: root,
            sources: sources(namespaces, host),
            user_namespace,
            // The kernel shares no mounts with a user namespace, and a mount namespace that is joined has its own.
            shares: namespaces.is_new(Kind::Mount) && !user_namespace,
            bundle: record.bundle.clone(),
            label,
        },
        path: record.rootfs.clone(),
        change,
        alone: false,
        devices: if user_namespace { devices::Method::Bind } else { devices::Method::Make },
        hierarchies: hierarchies(&host.cgroup, &record.cgroup),
        cgroup_namespace: namespaces.is_private(Kind::Cgroup),
    }
}

/// Where the container's cgroups can be bound from.
pub(super) fn hierarchies(setup: &Setup, record: &cgroup::Record) -> cgroup_mounts::Hierarchies {
    let mut found = cgroup_mounts::Hierarchies::default();
    match setup {
        Setup::Unified { mount, .. } => {
            let path = CString::new(record.paths.get("").unwrap_or(mount).as_str());
            let both = CString::new(mount.as_str()).ok().zip(path.ok());
            found.unified = both.map(|(mount, path)| cgroup_mounts::Unified { mount, path });
        }
        Setup::Legacy { hierarchies, .. } => {
            for hierarchy in hierarchies {
                let Some(first) = hierarchy.controllers.first().filter(|name| !name.is_empty()) else { continue };
                let Some(name) = Path::new(&hierarchy.mount).file_name() else { continue };
                let data = match first.strip_prefix("name=") {
                    Some(_) => format!("none,{first}"),
                    None => hierarchy.controllers.join(","),
                };
                let path = record.paths.get(first).unwrap_or(&hierarchy.mount).clone();
                found.v1.push(cgroup_mounts::V1 { name: name.to_string_lossy().into_owned(), data, path });
            }
        }
        Setup::Absent => {}
    }
    found
}

pub(super) fn hook_state(record: &Rc<RefCell<Record>>) -> hooks::State {
    let record = record.clone();
    Rc::new(move |status, pid| state::for_hooks(&record.borrow(), status, pid))
}

/// Memory with the state for hooks that init runs while the container is being created.
fn inside_state(hooks: &Hooks, state: &hooks::State, plan: &mut Plan) -> Option<hooks::Memory> {
    let wanted = hooks.create_container().as_ref().is_some_and(|list| !list.is_empty());
    wanted.then(|| hooks::plan_state("creating", state, plan))
}

/// The same for hooks that init runs when it has been started.
fn plan_started(hooks: &Hooks, state: &hooks::State, plan: &mut Plan) -> Option<hooks::Memory> {
    let wanted = hooks.start_container().as_ref().is_some_and(|list| !list.is_empty());
    wanted.then(|| hooks::plan_state("created", state, plan))
}

fn plan_fifo(dir: &Path, plan: &mut Plan) -> Result<Slot> {
    let slot = plan.slot();
    let path = dir.join("exec.fifo");
    let path = CString::new(path.as_os_str().as_encoded_bytes()).map_err(|_| anyhow!("--root contains a NUL byte"))?;
    plan.before(MakeFifo { path, slot });
    Ok(slot)
}

/// Adds the connection over which the pidfd will go.
pub fn plan_pidfd_socket(path: &Path, plan: &mut Plan) -> Slot {
    let slot = plan.slot();
    plan.before(ConnectPidfdSocket { path: path.to_owned(), slot });
    slot
}
