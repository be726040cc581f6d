//! Checkpoint and restore through CRIU (<https://criu.org>), as runc does them: no section of runtime-spec.
//!
//! criu is a program of its own and does the work; here is what it is told. What belongs to the container's
//! life (record, cgroup, hooks, console) is steps of the same plan, or of the moments that criu notifies of.

use std::cell::RefCell;
use std::fmt;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{anyhow, bail};

use crate::error::{Result, Why};
use crate::plan::{Outside, Plan, Runtime, Slot};
use crate::sys::fd;

mod criu;
mod dump;
mod mounts;
mod restore;
pub mod rpc;
mod transact;

pub use criu::{CheckFeature, CheckVersion, Feature};
pub use dump::{Dump, plan_dump};
pub use mounts::{Kind, Mount};
pub use restore::{Restore, plan_restore};
pub use transact::Moment;

/// Where a dump keeps what the standard descriptors were, beside criu's images.
const DESCRIPTORS: &str = "descriptors.json";

/// What criu does about cgroups: `--manage-cgroups-mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CgroupMode {
    /// As `soft`, or what criu's own configuration says.
    #[default]
    Default,
    /// Properties of cgroups that restore makes itself.
    Soft,
    /// Properties of all.
    Full,
    /// All, and none may be there before.
    Strict,
    /// Nothing: the processes stay where criu is.
    Ignore,
}

impl CgroupMode {
    /// `criu_cg_mode`
    fn number(self) -> i32 {
        match self {
            CgroupMode::Ignore => 0,
            CgroupMode::Soft => 3,
            CgroupMode::Full => 4,
            CgroupMode::Strict => 5,
            CgroupMode::Default => 6,
        }
    }
}

/// What `checkpoint` and `restore` are asked for alike: runc's flags.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// `--image-path`, absolute.
    pub images: PathBuf,
    /// `--work-path`, absolute.
    pub work: Option<PathBuf>,
    /// `--tcp-established`
    pub tcp_established: bool,
    /// `--tcp-close`
    pub tcp_close: bool,
    /// `--ext-unix-sk`
    pub ext_unix_sk: bool,
    /// `--shell-job`
    pub shell_job: bool,
    /// `--file-locks`
    pub file_locks: bool,
    /// `--auto-dedup`
    pub auto_dedup: bool,
    /// `--lazy-pages`
    pub lazy_pages: bool,
    /// `--manage-cgroups-mode`
    pub cgroups: CgroupMode,
    /// A file with options for criu, of the annotation `org.criu.config`.
    pub config_file: Option<String>,
}

impl Options {
    /// The log that criu writes.
    pub fn log(&self, name: &str) -> PathBuf {
        self.work.as_ref().unwrap_or(&self.images).join(name)
    }

    fn opts(&self, log: &str) -> rpc::Opts {
        rpc::Opts {
            images_dir_fd: -1,
            log_level: Some(4),
            log_file: Some(log.to_owned()),
            notify_scripts: Some(true),
            manage_cgroups: Some(true),
            manage_cgroups_mode: Some(self.cgroups.number()),
            tcp_established: Some(self.tcp_established),
            tcp_close: self.tcp_close.then_some(true),
            ext_unix_sk: Some(self.ext_unix_sk),
            shell_job: Some(self.shell_job),
            file_locks: Some(self.file_locks),
            auto_dedup: Some(self.auto_dedup),
            lazy_pages: Some(self.lazy_pages),
            // The devices of a network and their addresses are the business of whoever has made them: hooks, or
            // the owner of a namespace that is joined.
            empty_ns: Some(libc::CLONE_NEWNET as u32),
            orphan_pts_master: Some(true),
            config_file: self.config_file.clone(),
            ..rpc::Opts::default()
        }
    }
}

/// What criu will be told, completed step by step.
type Shared = Rc<RefCell<rpc::Opts>>;

/// The name under which a dump leaves out a namespace that the container had joined, and a restore finds it again.
fn namespace_key(kind: &str) -> String {
    let mut letters = kind.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    format!("extRoot{}{}NS", first.map(String::from).unwrap_or_default(), letters.as_str())
}

/// The folders of images, and of logs and other work.
#[derive(Debug, Clone)]
struct Folders {
    images: PathBuf,
    work: Option<PathBuf>,
}

impl Folders {
    fn of(options: &Options) -> Folders {
        Folders { images: options.images.clone(), work: options.work.clone() }
    }
}

/// Makes a dump's folders, and a restore's folder for work.
struct MakeFolders {
    folders: Folders,
    makes_images: bool,
}

impl fmt::Display for MakeFolders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.makes_images { "making" } else { "looking for" };
        write!(f, "{what} the folder of images {:?}", self.folders.images)
    }
}

impl Outside for MakeFolders {
    fn run(&self, _: &mut Runtime) -> Result<()> {
        use std::os::unix::fs::DirBuilderExt;
        let make = |path: &Path| std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
        let Folders { images, work } = &self.folders;
        if self.makes_images {
            make(images).why(|| format!("--image-path: mkdir {images:?}"))?;
        }
        if !std::fs::metadata(images).why(|| format!("--image-path {images:?}"))?.is_dir() {
            bail!("--image-path {images:?}: not a directory");
        }
        work.as_ref().map_or(Ok(()), |work| make(work).why(|| format!("--work-path: mkdir {work:?}")))
    }
}

/// Opens the folders as criu sees them, since it opens them through this process's descriptors: a mount
/// namespace cannot mount on what belongs to another one.
struct OpenFolders {
    folders: Folders,
    opts: Shared,
    slots: [Slot; 2],
}

impl OpenFolders {
    fn new(options: &Options, opts: &Shared, plan: &mut Plan) -> OpenFolders {
        let slots = [plan.outside_slot(), plan.outside_slot()];
        OpenFolders { folders: Folders::of(options), opts: opts.clone(), slots }
    }
}

impl fmt::Display for OpenFolders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "opening the folder of images {:?}", self.folders.images)?;
        self.folders.work.as_ref().map_or(Ok(()), |work| write!(f, " and the one for work {work:?}"))
    }
}

impl Outside for OpenFolders {
    fn run(&self, runtime: &mut Runtime) -> Result<()> {
        let root = format!("/proc/{}/root", runtime.child()?.pid);
        let mut open = |path: &Path, slot: Slot| -> Result<i32> {
            // Without links, which would lead back into this process's own namespace (containerd's work folder is one).
            let path = path.canonicalize().why(|| format!("{path:?}"))?;
            let seen = Path::new(&root).join(path.strip_prefix("/").unwrap_or(&path));
            let dir = std::fs::File::open(&seen).why(|| format!("opening {path:?}"))?;
            let number = fd::number(dir.as_fd());
            runtime.slots.put(slot, dir.into());
            Ok(number)
        };
        let [images, work] = self.slots;
        let images = open(&self.folders.images, images)?;
        let work = self.folders.work.as_ref().map(|path| open(path, work)).transpose()?;
        let mut opts = self.opts.borrow_mut();
        (opts.images_dir_fd, opts.work_dir_fd) = (images, work);
        Ok(())
    }
}

/// A path as criu takes it.
fn text(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).ok_or_else(|| anyhow!("{path:?} is not UTF-8, which criu's RPC needs"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_have_the_keys_that_runc_gives_them() {
        assert_eq!(namespace_key("net"), "extRootNetNS");
        assert_eq!(namespace_key("pid"), "extRootPidNS");
    }

    #[test]
    fn the_log_is_in_the_work_folder_if_there_is_one() {
        let mut options = Options { images: "/images".into(), ..Options::default() };
        assert_eq!(options.log("dump.log"), Path::new("/images/dump.log"));
        options.work = Some("/logs".into());
        assert_eq!(options.log("dump.log"), Path::new("/logs/dump.log"));
    }
}
