//! `restore`: the container of images that `checkpoint` has written. Record, cgroups, hooks and console are made
//! as `create` makes them, the processes by criu.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{anyhow, bail};

use super::checkpoint::{config_file, hierarchy_mounts, mounts};
use super::create::{Request, Start, hook_state, new_record, prepare_notify};
use super::foreground::{self, Signals};
use super::notify::{self, Notify};
use super::record::Record;
use super::run::{Manner, remove};
use super::steps::{RecordCreated, RecordPid, WritePidFile, WriteRecord};
use super::warn;
use super::{Context, delete};
use crate::cgroup::{self, Placement};
use crate::checkpoint::{CheckVersion, Kind, Moment, Options, Restore, plan_restore};
use crate::error::{Result, Why, one_line};
use crate::host::Host;
use crate::namespaces::{self, Choice, Namespaces};
use crate::plan::{Outside, Plan, Runtime, Slot};
use crate::process::console::{self, Target};
use crate::rootfs::devices;
use crate::spec::Config;
use crate::sys::{channel, process};
use crate::{hooks, network, rdt};

/// Restores a container; gives its exit status, 0 when detached. `asked` lacks what the configuration tells.
///
/// # Errors
/// Whatever fails; nothing is left behind then.
pub fn restore(context: &mut Context, request: &Request, asked: Restore, manner: Manner) -> Result<i32> {
    if manner.detach {
        return make(context, request, asked).map(|_| 0);
    }
    let signals = Signals::block()?;
    if manner.subreaper {
        process::set_child_subreaper().why(|| "becoming a subreaper")?;
    }
    let mut request = request.clone();
    request.terminal.get_or_insert(Target::Foreground);
    let (record, config, mut runtime) = make(context, &request, asked)?;
    let child = runtime.take_child().ok_or_else(|| anyhow!("the container has no process"))?;
    let result = context
        .trace
        .span("waiting for the container", || foreground::wait(&child, &signals, runtime.terminal.take(), None));
    if result.is_err() {
        child.end();
    }
    remove(context, &record, &config)?;
    result
}

/// Makes the container, as `create` does.
fn make(context: &mut Context, request: &Request, asked: Restore) -> Result<(Record, Config, Runtime)> {
    let Context { host, store, log, trace, .. } = context;
    store.check_free(&request.id)?;
    let mut config = trace.span("reading config.json", || Config::open(&request.bundle))?;
    let dir = store.dir(&request.id);
    let notifies = Notify::host().is_some();
    if notifies {
        notify::configure(&mut config, &dir);
    }
    let record = Rc::new(RefCell::new(new_record(&config, request, host)?));
    let plan = trace.span("planning", || plan(&config, &record, &dir, request, asked, host))?;
    warn(log, config.warnings.iter().chain(&plan.warnings));
    log.debug_lines(|| plan.to_string());
    let seat = store.reserve(&request.id)?;
    if let Err(error) = prepare_notify(notifies, Start::Later, seat.dir()) {
        seat.remove()?;
        return Err(error);
    }
    let mut runtime = Runtime::default();
    runtime.lock = Some(seat.lock());
    let result = plan.carry_out(&mut runtime, trace);
    runtime.lock = None;
    let record = record.borrow().clone();
    if let Err(error) = result {
        match delete::destroy(&record, seat) {
            Ok(()) => delete::poststop(context, &record, &config),
            Err(left) => log.warn(&format!("cleaning up after the failure: {}", one_line(&left))),
        }
        return Err(error);
    }
    Ok((record, config, runtime))
}

/// Everything that happens when a container comes back, in order.
fn plan(
    config: &Config,
    record: &Rc<RefCell<Record>>,
    dir: &Path,
    request: &Request,
    asked: Restore,
    host: &Host,
) -> Result<Plan> {
    let plan = &mut Plan::new();
    let spec = &config.spec;
    let linux = spec.linux().as_ref();
    let path = linux.and_then(|linux| linux.cgroups_path().as_ref()).map(|path| path.to_string_lossy().into_owned());
    let placement = Placement::new(path.as_deref(), request.id.as_str(), host)?;
    record.borrow_mut().cgroup = placement.record();
    let rdt = rdt::read(spec, request.id.as_str(), host)?;
    record.borrow_mut().rdt = rdt.as_ref().map(|wanted| wanted.record().clone());

    // before criu: nothing exists until the record names it, and nothing is made without a criu.
    plan.before(WriteRecord { record: record.clone(), dir: dir.to_owned(), config: config.text.clone() });
    plan.before(CheckVersion);
    let console = plan_console(config, request.terminal.as_ref(), plan)?;
    let resources = linux.and_then(|linux| linux.resources().as_ref());
    cgroup::plan_make(&placement, resources, config.pids_limit, spec.annotations().as_ref(), plan)?
        .into_iter()
        .for_each(|attach| plan.alongside(attach));
    rdt.iter().for_each(|wanted| rdt::plan_make(wanted, plan));
    let master = plan.outside_slot();
    let planned = plan_restore(describe(asked, &record.borrow(), config, dir, host)?, master, plan)?;

    // criu itself joins the cgroups, so that the processes are born there.
    plan.spawn.cgroup = None;
    cgroup::plan_enter(&placement, plan);
    rdt.iter().for_each(|wanted| rdt::plan_enter(wanted.record(), plan));
    let state = hook_state(record);
    let recorded = || RecordPid { record: record.clone(), dir: dir.to_owned() };
    let hooks = spec.hooks().clone().unwrap_or_default();
    let private = Namespaces::of(spec)?;
    let namespaces = Moment::new("setup-namespaces", |plan| {
        plan.outside(recorded());
        if private.is_new(namespaces::Kind::Network) {
            network::plan_raise_restored(plan);
        }
        #[allow(deprecated)]
        hooks::plan_outside("prestart", hooks.prestart().as_deref().unwrap_or_default(), "creating", &state, plan);
        let create = hooks.create_runtime().as_deref().unwrap_or_default();
        hooks::plan_outside("createRuntime", create, "creating", &state, plan);
    });
    let terminal =
        Moment::new("orphan-pts-master", |plan| plan.outside(SendMaster { console, master, sent: Cell::default() }));
    let restored = Moment::new("post-restore", |plan| {
        plan.outside(RecordTimeNamespace(record.clone()));
        plan.outside(recorded());
    });
    planned.plan(vec![namespaces, terminal, restored], plan);

    // after it: the caller may know of it now.
    if let Some(path) = &request.pid_file {
        plan.outside(WritePidFile(path.clone()));
    }
    plan.outside(RecordCreated(dir.to_owned()));
    Ok(std::mem::take(plan))
}

/// Adds the way out for a terminal; criu makes the terminal itself.
fn plan_console(config: &Config, target: Option<&Target>, plan: &mut Plan) -> Result<Option<Slot>> {
    let wanted = config.spec.process().as_ref().and_then(oci_spec::runtime::Process::terminal).unwrap_or(false);
    match (target, wanted) {
        (None, true) => bail!("cannot allocate tty if orlop will detach without setting console socket"),
        (Some(Target::Socket(_)), false) => bail!("cannot use console socket if orlop will not detach or allocate tty"),
        (Some(target), true) => Ok(Some(console::plan_socket(target, plan))),
        (_, false) => Ok(None),
    }
}

/// Completes what is asked with what the configuration tells.
fn describe(asked: Restore, record: &Record, config: &Config, dir: &Path, host: &Host) -> Result<Restore> {
    let spec = &config.spec;
    let mounts = mounts(spec, &record.bundle)?;
    let mut named = Vec::new();
    for mount in mounts.iter().filter(|mount| mount.kind == Kind::Cgroup) {
        named.extend(hierarchy_mounts(&mount.dest, spec, record, host)?);
    }
    if spec.linux().as_ref().and_then(|linux| linux.masked_paths().as_ref()).is_some_and(|list| !list.is_empty()) {
        named.push(("/dev/null".to_owned(), "/dev/null".to_owned()));
    }
    named.extend(devices::paths(spec).into_iter().map(|path| (path.clone(), path)));
    let namespaces = Namespaces::of(spec)?;
    let mut joined = Vec::new();
    for kind in namespaces::Kind::ALL {
        if let Choice::Join { path, json } = namespaces.get(kind) {
            joined.push((kind.proc_name(), PathBuf::from(path.to_string_lossy().into_owned()), json.clone()));
        }
    }
    Ok(Restore {
        options: Options { config_file: config_file(spec), ..asked.options },
        rootfs: record.rootfs.clone(),
        target: dir.join("criu-root"),
        mounts,
        named,
        joined,
        ..asked
    })
}

/// Sends the terminal that criu has made to the console socket.
struct SendMaster {
    console: Option<Slot>,
    master: Slot,
    sent: Cell<bool>,
}

impl fmt::Display for SendMaster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sending the terminal")
    }
}

impl Outside for SendMaster {
    fn run(&self, runtime: &mut Runtime) -> Result<()> {
        let master = runtime.slots.take(self.master).ok_or_else(|| anyhow!("criu has sent none"))?;
        // There are more when `exec` had given terminals to other processes; nobody is left at those.
        if let Some(console) = self.console.filter(|_| !self.sent.replace(true)) {
            let console = runtime.slots.get(console).why(|| "the console socket")?;
            channel::send_fd(console, b"/dev/ptmx", master.as_fd()).why(|| "the console socket")?;
        }
        Ok(())
    }
}

/// criu puts the processes into a time namespace, for their clocks to go on; `exec` has to join it.
struct RecordTimeNamespace(Rc<RefCell<Record>>);

impl fmt::Display for RecordTimeNamespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("looking for a time namespace")
    }
}

impl Outside for RecordTimeNamespace {
    fn run(&self, runtime: &mut Runtime) -> Result<()> {
        let pid = runtime.child()?.pid;
        let of = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/time")).ok();
        if of(&pid.to_string()) != of("self") {
            self.0.borrow_mut().namespaces |= libc::CLONE_NEWTIME;
        }
        Ok(())
    }
}
