//! `create` and `run`.

use std::path::PathBuf;

use anyhow::bail;

use super::quick::Words;
use crate::container::Context;
use crate::container::create::{self, Request, Start};
use crate::container::id::ContainerId;
use crate::container::run::{self, Manner};
use crate::error::Result;
use crate::process::console::Target;

/// Flags of `create` and `run` alike.
#[derive(Debug, Default, clap::Args)]
pub struct Common {
    /// The bundle: a folder with config.json and the root file system
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub bundle: PathBuf,
    /// A Unix socket that the master of the terminal is sent to
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,
    /// Write the pid of the container's first process to this file
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// A Unix socket that a pidfd of the first process is sent to
    #[arg(long, value_name = "SOCKET")]
    pub pidfd_socket: Option<PathBuf>,
    /// Pass N descriptors beside the standard ones (3, 4, …) to the container
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub preserve_fds: u32,
    /// Move the root instead of pivoting it: for hosts on a ramfs
    #[arg(long)]
    pub no_pivot: bool,
    /// Keep the session keyring of the caller
    #[arg(long)]
    pub no_new_keyring: bool,
}

/// The descriptors that socket activation passes on (sd_listen_fds(3)).
pub fn listen_fds() -> Option<u32> {
    // Meant for another process, they are not this one's to pass on.
    let pid: u32 = std::env::var("LISTEN_PID").ok()?.parse().ok()?;
    if pid != std::process::id() {
        return None;
    }
    std::env::var("LISTEN_FDS").ok()?.parse().ok()
}

/// The environment that tells the program of them; it is pid 1 of its namespace.
pub fn listen_env() -> Vec<String> {
    let Some(count) = listen_fds() else { return Vec::new() };
    let mut env = vec![format!("LISTEN_FDS={count}"), "LISTEN_PID=1".to_owned()];
    if let Ok(names) = std::env::var("LISTEN_FDNAMES") {
        env.push(format!("LISTEN_FDNAMES={names}"));
    }
    env
}

impl Common {
    fn bare() -> Common {
        Common { bundle: ".".into(), ..Common::default() }
    }

    fn flag(&mut self, flag: &str, words: &mut Words<'_>) -> Option<()> {
        match flag {
            "--bundle" | "-b" => self.bundle = words.value()?.into(),
            "--console-socket" => self.console_socket = Some(words.value()?.into()),
            "--pid-file" => self.pid_file = Some(words.value()?.into()),
            "--pidfd-socket" => self.pidfd_socket = Some(words.value()?.into()),
            "--preserve-fds" => self.preserve_fds = words.value()?.parse().ok()?,
            "--no-pivot" => self.no_pivot = true,
            "--no-new-keyring" => self.no_new_keyring = true,
            _ => return None,
        }
        Some(())
    }

    pub fn preserved_fds(&self) -> u32 {
        self.preserve_fds.saturating_add(listen_fds().unwrap_or(0)).min(1 << 20)
    }

    fn request(&self, id: &str, start: Start) -> Result<Request> {
        let preserve_fds = self.preserved_fds();
        check_preserved(preserve_fds)?;
        Ok(Request {
            id: ContainerId::new(id)?,
            bundle: self.bundle.clone(),
            terminal: self.console_socket.clone().map(Target::Socket),
            pid_file: self.pid_file.clone(),
            pidfd_socket: self.pidfd_socket.clone(),
            preserve_fds,
            no_pivot: self.no_pivot,
            no_new_keyring: self.no_new_keyring,
            extra_env: listen_env(),
            start,
        })
    }
}

/// A descriptor that is asked for must be there.
pub fn check_preserved(count: u32) -> Result<()> {
    for number in 3..3 + count {
        if !crate::sys::fd::is_open(number as i32) {
            bail!("--preserve-fds {count}: file descriptor {number} is not open");
        }
    }
    Ok(())
}

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub common: Common,
    /// The new container's id
    #[arg(value_name = "CONTAINER-ID")]
    id: String,
}

impl Args {
    /// Reads a plain command line.
    pub fn plain(words: &mut Words<'_>) -> Option<Args> {
        let mut common = Common::bare();
        while let Some(flag) = words.flag() {
            common.flag(flag, words)?;
        }
        words.operand().map(|id| Args { common, id })
    }

    #[inline(never)]
    pub fn create(&self, context: &mut Context) -> Result<()> {
        create::create(context, &self.common.request(&self.id, Start::Later)?).map(std::mem::forget)
    }
}

#[derive(Debug, clap::Args)]
pub struct RunArgs {
    #[command(flatten)]
    pub common: Common,
    /// Return once the program runs
    #[arg(short, long)]
    detach: bool,
    /// Keep the container when it has ended
    #[arg(long)]
    keep: bool,
    /// Do not become the reaper of the container's orphans
    #[arg(long)]
    no_subreaper: bool,
    /// The new container's id
    #[arg(value_name = "CONTAINER-ID")]
    id: String,
}

impl RunArgs {
    /// Reads a plain command line.
    pub fn plain(words: &mut Words<'_>) -> Option<RunArgs> {
        let mut common = Common::bare();
        let (mut detach, mut keep, mut no_subreaper) = (false, false, false);
        while let Some(flag) = words.flag() {
            match flag {
                "--detach" | "-d" => detach = true,
                "--keep" => keep = true,
                "--no-subreaper" => no_subreaper = true,
                _ => common.flag(flag, words)?,
            }
        }
        words.operand().map(|id| RunArgs { common, detach, keep, no_subreaper, id })
    }

    #[inline(never)]
    pub fn run(&self, context: &mut Context) -> Result<i32> {
        let manner = Manner { detach: self.detach, keep: self.keep, subreaper: !self.no_subreaper };
        run::run(context, &self.common.request(&self.id, Start::Now)?, manner)
    }
}
