//! `restore`.

use std::ffi::OsString;
use std::path::PathBuf;

use super::checkpoint::Common;
use crate::checkpoint::Restore;
use crate::container::create::{Request, Start};
use crate::container::id::ContainerId;
use crate::container::run::Manner;
use crate::container::{Context, restore};
use crate::error::Result;
use crate::process::console::Target;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// The bundle: a folder with config.json and the root file system
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,
    /// Return once the container runs
    #[arg(short, long)]
    detach: bool,
    /// Write the pid of the container's first process to this file
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// A Unix socket that the master of the terminal is sent to
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// Do not become the reaper of the container's orphans
    #[arg(long)]
    no_subreaper: bool,
    /// Accepted for older callers: criu changes the root its own way
    #[arg(long)]
    no_pivot: bool,
    /// Put the processes under this LSM profile
    #[arg(long, value_name = "TYPE:NAME")]
    lsm_profile: Option<String>,
    /// Give mounts this LSM context
    #[arg(long, value_name = "CONTEXT")]
    lsm_mount_context: Option<String>,
    /// The new container's id
    #[arg(value_name = "CONTAINER-ID")]
    id: String,
}

/// containerd writes `-no-subreaper`, as Go's flags may also be written.
pub fn spelled_out(mut args: Vec<OsString>) -> Vec<OsString> {
    if let Some(at) = args.iter().skip(1).position(|word| word == "restore") {
        for word in args.iter_mut().skip(at + 1).filter(|word| *word == "-no-subreaper") {
            *word = "--no-subreaper".into();
        }
    }
    args
}

impl Args {
    #[inline(never)]
    pub fn restore(&self, context: &mut Context) -> Result<i32> {
        let request = Request {
            terminal: self.console_socket.clone().map(Target::Socket),
            pid_file: self.pid_file.clone(),
            no_pivot: self.no_pivot,
            start: Start::Now,
            ..Request::new(ContainerId::new(&self.id)?, self.bundle.clone())
        };
        let asked = Restore {
            options: self.common.options()?,
            lsm_profile: self.lsm_profile.clone(),
            lsm_mount_context: self.lsm_mount_context.clone(),
            ..Restore::default()
        };
        let manner = Manner { detach: self.detach, keep: false, subreaper: !self.no_subreaper };
        restore::restore(context, &request, asked, manner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_dash_is_enough_for_containerd() {
        let words = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
        let given = words("orlop --root /r restore -d -no-subreaper c1");
        assert_eq!(spelled_out(given), words("orlop --root /r restore -d --no-subreaper c1"));
        let exec = words("orlop exec c1 restore -x");
        assert_eq!(spelled_out(exec.clone()), exec);
    }
}
