//! Checkpoint and restore through CRIU (<https://criu.org>), as runc does them: no section of runtime-spec.
//!
//! criu is a program of its own and does the work; here is what it is told. What belongs to the container's
//! life (record, cgroup, hooks, console) is steps of the same plan, or of the moments that criu notifies of.

use std::cell::RefCell;
use std::fmt;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::anyhow;

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
    /// CLONE_NEW* of `--empty-ns`.
    pub empty_namespaces: u32,
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
            empty_ns: Some(self.empty_namespaces),
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

/// The folders of images, and of logs and other work: criu opens them through this process's descriptors.
struct OpenFolders {
    images: PathBuf,
    work: Option<PathBuf>,
    /// Whether the images' folder is made.
    makes: bool,
    opts: Shared,
    slots: [Slot; 2],
}

impl OpenFolders {
    fn plan(options: &Options, makes: bool, opts: &Shared, plan: &mut Plan) {
        let slots = [plan.outside_slot(), plan.outside_slot()];
        let (images, work) = (options.images.clone(), options.work.clone());
        plan.before(OpenFolders { images, work, makes, opts: opts.clone(), slots });
    }

    fn open(path: &Path, slot: Slot, runtime: &mut Runtime) -> Result<i32> {
        let dir = std::fs::File::open(path).and_then(|dir| match dir.metadata()?.is_dir() {
            true => Ok(dir),
            false => Err(std::io::Error::from(nix::errno::Errno::ENOTDIR)),
        });
        let dir = dir.why(|| format!("{path:?}"))?;
        let number = fd::number(dir.as_fd());
        runtime.slots.put(slot, dir.into());
        Ok(number)
    }
}

impl fmt::Display for OpenFolders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.makes { "making" } else { "opening" };
        write!(f, "{what} the folder of images {:?}", self.images)?;
        self.work.as_ref().map_or(Ok(()), |work| write!(f, " and the one for work {work:?}"))
    }
}

impl Outside for OpenFolders {
    fn run(&self, runtime: &mut Runtime) -> Result<()> {
        use std::os::unix::fs::DirBuilderExt;
        let make = |path: &Path| std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
        let [images, work] = self.slots;
        if self.makes {
            make(&self.images).why(|| format!("--image-path: mkdir {:?}", self.images))?;
        }
        let number = Self::open(&self.images, images, runtime).map_err(|e| e.context("--image-path"))?;
        self.opts.borrow_mut().images_dir_fd = number;
        if let Some(path) = &self.work {
            make(path).why(|| format!("--work-path: mkdir {path:?}"))?;
            let number = Self::open(path, work, runtime).map_err(|e| e.context("--work-path"))?;
            self.opts.borrow_mut().work_dir_fd = Some(number);
        }
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
        options.work = Some("/work".into());
        assert_eq!(options.log("dump.log"), Path::new("/work/dump.log"));
    }
}
