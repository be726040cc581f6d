//! What a restore tells criu.

use std::cell::RefCell;
use std::ffi::CString;
use std::fmt;
use std::path::PathBuf;
use std::rc::Rc;

use anyhow::{anyhow, bail};

use super::criu;
use super::mounts::{MakeMountPoints, Mount};
use super::transact::{Moment, Transact};
use super::{DESCRIPTORS, Folders, MakeFolders, OpenFolders, Options, Shared, namespace_key, rpc, text};
use crate::error::{Result, Why};
use crate::plan::{Outside, Plan, Runtime, Slot};
use crate::sys::fd;

/// A restore that is asked for, and where the container goes.
#[derive(Debug, Default)]
pub struct Restore {
    /// What it has in common with a dump.
    pub options: Options,
    /// `--lsm-profile`
    pub lsm_profile: Option<String>,
    /// `--lsm-mount-context`
    pub lsm_mount_context: Option<String>,
    /// The root file system.
    pub rootfs: PathBuf,
    /// A folder that is made for criu, to mount it on.
    pub target: PathBuf,
    /// `mounts`
    pub mounts: Vec<Mount>,
    /// What else a dump has named: the name, and what it is now.
    pub named: Vec<(String, String)>,
    /// Namespaces to join: kind as below /proc/PID/ns, path, and `linux.namespaces[n]`.
    pub joined: Vec<(&'static str, PathBuf, String)>,
}

/// The steps of a restore, up to where criu runs, and criu's own step.
pub struct Planned {
    transact: Transact,
    opts: Shared,
}

impl Planned {
    /// Adds criu's work, with what is done when it notifies; criu is by now in the container's cgroups.
    pub fn plan(self, moments: Vec<Moment>, plan: &mut Plan) {
        plan.outside(NameCgroups(self.opts));
        plan.outside(Transact { moments, ..self.transact });
    }
}

/// Adds the steps up to a running criu. A terminal's master will be in the slot `master`.
///
/// # Errors
/// Namespaces that criu cannot enter, paths that it cannot be told.
pub fn plan_restore(restore: Restore, master: Slot, plan: &mut Plan) -> Result<Planned> {
    let log = restore.options.log("restore.log");
    let mut opts = restore.options.opts("restore.log");
    opts.root = Some(text(&restore.target)?);
    opts.evasive_devices = Some(true);
    opts.rst_sibling = Some(true);
    opts.lsm_profile = restore.lsm_profile;
    opts.lsm_mount_context = restore.lsm_mount_context;
    opts.ext_mnt = restore.named.into_iter().map(|(key, val)| rpc::ExtMount { key, val }).collect();
    let mut inherited = Vec::new();
    for (kind, path, json) in restore.joined {
        match kind {
            "net" | "pid" => {
                let slot = plan.outside_slot();
                plan.before(OpenNamespace { path, json, slot });
                inherited.push((namespace_key(kind), slot));
            }
            "cgroup" | "time" => {
                bail!("config.json: {json}.path: criu cannot restore into an existing {kind} namespace")
            }
            _ => opts.join_ns.push(rpc::JoinNamespace { ns: kind.to_owned(), ns_file: text(&path)? }),
        }
    }
    let opts = Rc::new(RefCell::new(opts));
    plan.before(MakeFolders { folders: Folders::of(&restore.options), makes_images: false });
    plan.before(ReadDescriptors { file: restore.options.images.join(DESCRIPTORS), opts: opts.clone() });
    plan.before(MakeMountPoints { rootfs: restore.rootfs.clone(), mounts: restore.mounts, opts: opts.clone() });
    let socket = plan.outside_slot();
    let c = |path: &PathBuf| {
        CString::new(path.as_os_str().as_encoded_bytes()).map_err(|_| anyhow!("a path has a NUL byte"))
    };
    let root = criu::Root { source: c(&restore.rootfs)?, target: c(&restore.target)? };
    plan.before(StartCriu { root, target: restore.target, inherited, opts: opts.clone(), socket });
    let folders = OpenFolders::new(&restore.options, &opts, plan);
    plan.before(folders);
    let kind = rpc::kind::RESTORE;
    let transact = Transact { kind, opts: opts.clone(), socket, descriptor: master, log, moments: Vec::new() };
    Ok(Planned { transact, opts })
}

/// Opens a namespace that the container was in, for criu to give it back.
struct OpenNamespace {
    path: PathBuf,
    json: String,
    slot: Slot,
}

impl fmt::Display for OpenNamespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "opening the namespace {:?}", self.path)
    }
}

impl Outside for OpenNamespace {
    fn run(&self, runtime: &mut Runtime) -> Result<()> {
        let file =
            std::fs::File::open(&self.path).why(|| format!("config.json: {}.path {:?}", self.json, self.path))?;
        runtime.slots.put(self.slot, file.into());
        Ok(())
    }
}

/// Reads what the standard descriptors were; pipes among them are now this process's own.
struct ReadDescriptors {
    file: PathBuf,
    opts: Shared,
}

impl fmt::Display for ReadDescriptors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "reading {:?}", self.file)
    }
}

impl Outside for ReadDescriptors {
    fn run(&self, _: &mut Runtime) -> Result<()> {
        let json = std::fs::read(&self.file).why(|| format!("--image-path holds no checkpoint: {:?}", self.file))?;
        // runc writes null for a container without any.
        let list: Option<Vec<String>> =
            serde_json::from_slice(&json).map_err(|e| anyhow!("--image-path: {:?} is damaged: {e}", self.file))?;
        let pipes = list.unwrap_or_default().into_iter().take(3).zip(0..).filter(|(key, _)| key.contains("pipe:"));
        self.opts.borrow_mut().inherit_fd.extend(pipes.map(|(key, fd)| rpc::InheritFd { key, fd }));
        Ok(())
    }
}

struct StartCriu {
    root: criu::Root,
    target: PathBuf,
    inherited: Vec<(String, Slot)>,
    opts: Shared,
    socket: Slot,
}

impl fmt::Display for StartCriu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "starting criu with the root file system at {:?}", self.target)
    }
}

impl Outside for StartCriu {
    fn run(&self, runtime: &mut Runtime) -> Result<()> {
        std::fs::create_dir(&self.target).why(|| format!("mkdir {:?}", self.target))?;
        let mut descriptors = Vec::new();
        for (key, slot) in &self.inherited {
            let file = runtime.slots.get(*slot).why(|| "a namespace")?;
            let fd = fd::number(file);
            self.opts.borrow_mut().inherit_fd.push(rpc::InheritFd { key: key.clone(), fd });
            descriptors.push(file);
        }
        let manner = criu::Manner { stdio: true, descriptors, root: Some(self.root.clone()) };
        let (child, socket) = criu::start(&manner)?;
        runtime.set_child(child);
        runtime.slots.put(self.socket, socket);
        Ok(())
    }
}

/// Tells criu where it is itself: there the restored processes' cgroups begin.
struct NameCgroups(Shared);

impl fmt::Display for NameCgroups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("reading the cgroups that criu is in")
    }
}

impl Outside for NameCgroups {
    fn run(&self, runtime: &mut Runtime) -> Result<()> {
        let path = format!("/proc/{}/cgroup", runtime.child()?.pid);
        let own = std::fs::read_to_string(&path).why(|| path)?;
        let roots = crate::host::cgroup::parse_own(&own).into_iter();
        self.0.borrow_mut().cg_root = roots.map(|(ctrl, path)| rpc::CgroupRoot { ctrl: Some(ctrl), path }).collect();
        Ok(())
    }
}
