//! What a dump tells criu.

use std::cell::RefCell;
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;

use super::criu::{self, CheckFeature, CheckVersion, Feature};
use super::mounts::NameMounts;
use super::transact::{Moment, Transact};
use super::{DESCRIPTORS, Folders, MakeFolders, OpenFolders, Options, namespace_key, rpc, text};
use crate::error::{Result, Why};
use crate::plan::{Outside, Plan, Runtime, Slot};
use crate::sys::fd;

/// A dump that is asked for, and the container as it is.
#[derive(Debug, Default)]
pub struct Dump {
    /// What it has in common with a restore.
    pub options: Options,
    /// `--parent-path`, relative to the images' folder.
    pub parent: Option<String>,
    /// `--leave-running`
    pub leave_running: bool,
    /// `--pre-dump`
    pub memory_only: bool,
    /// `--tcp-skip-in-flight`
    pub tcp_skip_in_flight: bool,
    /// `--link-remap`
    pub link_remap: bool,
    /// `--page-server`: address and port.
    pub page_server: Option<(String, u16)>,
    /// `--status-fd`: told when the memory that follows later can be asked for.
    pub status: Option<OwnedFd>,
    /// The container's first process.
    pub pid: i32,
    /// Its root file system.
    pub rootfs: PathBuf,
    /// The cgroup whose freezer stops its processes.
    pub freezer: Option<String>,
    /// Where binds are, and nodes that may be binds.
    pub binds: Vec<String>,
    /// `linux.maskedPaths`
    pub masked: Vec<String>,
    /// Namespaces that the container has joined and criu leaves alone: kinds as below /proc/PID/ns, and inodes.
    pub joined: Vec<(&'static str, u64)>,
    /// What the standard descriptors were when the container was made.
    pub descriptors: Vec<String>,
}

/// Adds the steps of a dump.
///
/// # Errors
/// Paths that criu cannot be told.
pub fn plan_dump(dump: Dump, plan: &mut Plan) -> Result<()> {
    let log = dump.options.log("dump.log");
    let mut opts = dump.options.opts("dump.log");
    opts.root = Some(text(&dump.rootfs)?);
    opts.pid = Some(dump.pid);
    opts.leave_running = Some(dump.leave_running);
    opts.tcp_skip_in_flight = Some(dump.tcp_skip_in_flight);
    opts.link_remap = Some(dump.link_remap);
    opts.freeze_cgroup = dump.freezer;
    opts.external =
        dump.joined.iter().map(|(kind, inode)| format!("{kind}[{inode}]:{}", namespace_key(kind))).collect();
    opts.ps =
        dump.page_server.map(|(address, port)| rpc::PageServer { address: Some(address), port: Some(port.into()) });
    if dump.parent.is_some() {
        opts.parent_img = dump.parent;
        opts.track_mem = Some(true);
    }
    let opts = Rc::new(RefCell::new(opts));

    plan.before(CheckVersion);
    if dump.memory_only {
        plan.before(CheckFeature(Feature::MemTrack));
    }
    if dump.options.lazy_pages {
        plan.before(CheckFeature(Feature::LazyPages));
    }
    plan.before(MakeFolders { folders: Folders::of(&dump.options), makes_images: true });
    if !dump.memory_only {
        plan.before(NameMounts { pid: dump.pid, binds: dump.binds, masked: dump.masked, opts: opts.clone() });
        let file = dump.options.images.join(DESCRIPTORS);
        plan.before(KeepDescriptors { file, descriptors: dump.descriptors });
    }
    let (socket, descriptor) = (plan.outside_slot(), plan.outside_slot());
    plan.before(StartCriu { socket });
    let folders = OpenFolders::new(&dump.options, &opts, plan);
    plan.before(folders);
    let kind = if dump.memory_only { rpc::kind::PRE_DUMP } else { rpc::kind::DUMP };
    let told = dump.status.map(|status| TellReady(RefCell::new(Some(status))));
    let moments = told.map(|told| Moment::new("status-ready", |plan| plan.outside(told))).into_iter().collect();
    plan.outside(Transact { kind, opts, socket, descriptor, log, moments });
    Ok(())
}

/// Writes down what the standard descriptors were, as a restore gives pipes among them back.
struct KeepDescriptors {
    file: PathBuf,
    descriptors: Vec<String>,
}

impl fmt::Display for KeepDescriptors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "writing {:?}", self.file)
    }
}

impl Outside for KeepDescriptors {
    fn run(&self, _: &mut Runtime) -> Result<()> {
        use std::io::Write;
        use std::os::unix::fs::OpenOptionsExt;
        let text = serde_json::to_vec(&self.descriptors)?;
        let mut options = std::fs::File::options();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(&self.file);
        file.and_then(|mut file| file.write_all(&text)).why(|| format!("{:?}", self.file))
    }
}

struct StartCriu {
    socket: Slot,
}

impl fmt::Display for StartCriu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("starting criu")
    }
}

impl Outside for StartCriu {
    fn run(&self, runtime: &mut Runtime) -> Result<()> {
        let (child, socket) = criu::start(&criu::Manner::default())?;
        runtime.set_child(child);
        runtime.slots.put(self.socket, socket);
        Ok(())
    }
}

/// Writes a zero byte to `--status-fd`.
struct TellReady(RefCell<Option<OwnedFd>>);

impl fmt::Display for TellReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("telling --status-fd that pages are ready")
    }
}

impl Outside for TellReady {
    fn run(&self, _: &mut Runtime) -> Result<()> {
        let Some(status) = self.0.borrow_mut().take() else { return Ok(()) };
        fd::write_once(status.as_fd(), &[0]).why(|| "--status-fd")
    }
}
