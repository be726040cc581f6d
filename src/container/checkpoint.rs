//! `checkpoint`: what is running is written to images by criu, and ends, unless it is to go on.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::bail;
use oci_spec::runtime::Spec;

use super::create::hierarchies;
use super::id::ContainerId;
use super::record::Record;
use super::status::{self, Status};
use super::store::Seat;
use super::{Context, delete, notify};
use crate::checkpoint::{Dump, Kind, Mount, Options, plan_dump};
use crate::error::{Result, Why, one_line};
use crate::host::Host;
use crate::namespaces::{self, Choice, Namespaces};
use crate::plan::{Plan, Runtime};
use crate::rootfs::{devices, mount::Entry};
use crate::spec::{Config, Part};

/// Where criu reads more options from, where no annotation names another file. runc's users have it.
const CONFIG_FILE: &str = "/etc/criu/runc.conf";

/// Dumps a running or paused container; `asked` lacks what the container's record and configuration tell.
///
/// # Errors
/// Whatever fails; the container then runs on, or is paused as it was.
pub fn checkpoint(context: &mut Context, id: &ContainerId, asked: Dump) -> Result<()> {
    let seat = context.store.open(id)?;
    let record = seat.record()?;
    let before = Status::of(&record, seat.dir());
    if !matches!(before, Status::Running | Status::Paused) {
        bail!("container cannot be checkpointed in {} state", before.word());
    }
    let mut config = seat.config(Part::Whole)?;
    if notify::has_folder(seat.dir()) {
        notify::configure(&mut config, seat.dir());
    }
    let ends = !asked.leave_running && !asked.memory_only;
    let mut plan = Plan::new();
    plan_dump(describe(asked, &record, &config, &context.host)?, &mut plan)?;
    context.log.debug_lines(|| plan.to_string());
    let mut runtime = Runtime::default();
    let dumped = plan.carry_out(&mut runtime, &mut context.trace);
    if let Err(error) = dumped {
        if let Err(left) = go_on(&record, before) {
            context.log.warn(&format!("letting the container go on: {}", one_line(&left)));
        }
        return Err(error);
    }
    if ends { end(context, &record, &config, seat) } else { Ok(()) }
}

/// criu has ended the processes: what is left is removed, as runc does. The images are whole, so no error.
fn end(context: &mut Context, record: &Record, config: &Config, seat: Seat) -> Result<()> {
    match context.trace.span("removing the container", || delete::destroy(record, seat)) {
        Ok(()) => delete::poststop(context, record, config),
        Err(left) => context.log.warn(&format!("removing the container: {}", one_line(&left))),
    }
    Ok(())
}

/// After a dump that failed, also of a criu that was killed while it had the container's processes stopped.
fn go_on(record: &Record, before: Status) -> Result<()> {
    if !status::is_alive(record) {
        return Ok(());
    }
    match (before, record.cgroup.is_frozen()?) {
        (Status::Paused, false) => record.cgroup.freeze(),
        (Status::Running, true) => record.cgroup.thaw(),
        _ => Ok(()),
    }
}

/// Completes what is asked with what is known of the container.
fn describe(asked: Dump, record: &Record, config: &Config, host: &Host) -> Result<Dump> {
    let spec = &config.spec;
    let mut binds: Vec<String> = Vec::new();
    for mount in mounts(spec, &record.bundle)? {
        match mount.kind {
            Kind::Bind(_) => binds.push(mount.dest),
            Kind::Cgroup => {
                binds.extend(hierarchy_mounts(&mount.dest, spec, record, host)?.into_iter().map(|(dest, _)| dest))
            }
            Kind::Tmpfs | Kind::Other => {}
        }
    }
    binds.extend(devices::paths(spec));
    let linux = spec.linux().as_ref();
    let path = |kind: namespaces::Kind| format!("/proc/{}/ns/{}", record.pid, kind.proc_name());
    let namespaces = Namespaces::of(spec)?;
    let mut joined = Vec::new();
    for kind in [namespaces::Kind::Network, namespaces::Kind::Pid] {
        if matches!(namespaces.get(kind), Choice::Join { .. }) {
            let inode = std::fs::metadata(path(kind)).why(|| path(kind))?.ino();
            joined.push((kind.proc_name(), inode));
        }
    }
    Ok(Dump {
        options: Options { config_file: config_file(spec), ..asked.options },
        pid: record.pid,
        rootfs: record.rootfs.clone(),
        freezer: record.cgroup.path("freezer").or_else(|| record.cgroup.path("")).map(str::to_owned),
        binds,
        masked: linux.and_then(|linux| linux.masked_paths().clone()).unwrap_or_default(),
        joined,
        descriptors: record.descriptors.clone(),
        ..asked
    })
}

/// The mounts of config.json as criu has to know them.
///
/// # Errors
/// As for `create`.
pub(super) fn mounts(spec: &Spec, bundle: &Path) -> Result<Vec<Mount>> {
    let mut all = Vec::new();
    let root = bundle.join(spec.root().as_ref().map(|root| root.path().clone()).unwrap_or_default());
    for (index, mount) in spec.mounts().iter().flatten().enumerate() {
        let entry = Entry::read(index, mount, spec, &root)?;
        let kind = match entry.fstype.as_str() {
            _ if entry.is_bind() => Kind::Bind(bundle.join(mount.source().clone().unwrap_or_default())),
            "cgroup" | "cgroup2" => Kind::Cgroup,
            "tmpfs" => Kind::Tmpfs,
            _ => Kind::Other,
        };
        all.push(Mount { json: entry.json.clone(), dest: entry.dest.as_str().to_owned(), kind });
    }
    Ok(all)
}

/// What a cgroup mount at `dest` consists of on a v1 host: binds of the container's cgroups, each with its source.
/// In a cgroup namespace, and on v2, it is a mount that criu knows.
pub(super) fn hierarchy_mounts(dest: &str, spec: &Spec, record: &Record, host: &Host) -> Result<Vec<(String, String)>> {
    if Namespaces::of(spec)?.is_private(namespaces::Kind::Cgroup) {
        return Ok(Vec::new());
    }
    let all = hierarchies(&host.cgroup, &record.cgroup).v1.into_iter();
    Ok(all.map(|v1| (format!("{dest}/{}", v1.name), v1.path)).collect())
}

/// A container may have a file of its own with options for criu; with an empty name it has none.
pub(super) fn config_file(spec: &Spec) -> Option<String> {
    let named = spec.annotations().as_ref().and_then(|all| all.get("org.criu.config"));
    let file = named.cloned().unwrap_or_else(|| CONFIG_FILE.to_owned());
    (!file.is_empty()).then_some(file)
}
