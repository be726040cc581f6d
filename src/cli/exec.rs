//! `exec`.

use std::cell::RefCell;
use std::mem::ManuallyDrop;
use std::path::PathBuf;

use anyhow::{Context as _, anyhow, bail};
use oci_spec::runtime::{Process, User};

use super::create::check_preserved;
use super::quick::Words;
use crate::container::Context;
use crate::container::exec::{Opened, Paused, Request, exec, open};
use crate::container::foreground::{self, Signals};
use crate::container::id::ContainerId;
use crate::error::{Result, Why};
use crate::process::console::Target;
use crate::spec::{self, Capabilities, Config, ProcessConfig};

#[derive(Debug, Default, clap::Args)]
pub struct Args {
    /// A Unix socket that the master of the terminal is sent to
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// A Unix socket that a pidfd of the process is sent to
    #[arg(long, value_name = "SOCKET")]
    pidfd_socket: Option<PathBuf>,
    /// The working directory in the container
    #[arg(long, value_name = "DIR")]
    cwd: Option<PathBuf>,
    /// Set an environment variable (can be given several times)
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Give the process a terminal
    #[arg(short, long)]
    tty: bool,
    /// Run as this user: UID or UID:GID
    #[arg(short, long, value_name = "UID[:GID]")]
    user: Option<String>,
    /// Additional group ids (can be given several times)
    #[arg(short = 'g', long, value_name = "GID")]
    additional_gids: Vec<u32>,
    /// Read the process from this file: the `process` of a config.json
    #[arg(short, long, value_name = "FILE")]
    process: Option<PathBuf>,
    /// What `--process` holds.
    #[arg(skip)]
    process_text: Option<Vec<u8>>,
    /// Return once the program runs
    #[arg(short, long)]
    detach: bool,
    /// Write the pid of the process to this file
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// The SELinux label of the process
    #[arg(long, value_name = "LABEL")]
    process_label: Option<String>,
    /// The AppArmor profile of the process
    #[arg(long, value_name = "PROFILE")]
    apparmor: Option<String>,
    /// Set no_new_privs
    #[arg(long)]
    no_new_privs: bool,
    /// Add a capability (can be given several times)
    #[arg(short, long, value_name = "CAP_NAME")]
    cap: Vec<String>,
    /// Pass N descriptors beside the standard ones (3, 4, …) to the process
    #[arg(long, value_name = "N", default_value_t = 0)]
    preserve_fds: u32,
    /// A cgroup below the container's to run in: [CONTROLLER,…:]PATH
    #[arg(long, value_name = "CGROUP")]
    cgroup: Vec<String>,
    /// Exec in a paused container; the process waits until it is resumed
    #[arg(long)]
    ignore_paused: bool,
    /// Accepted for older callers
    #[arg(long, hide = true)]
    no_subreaper: bool,
    /// The container's id, then the program and its arguments
    #[arg(
        value_name = "CONTAINER-ID COMMAND [ARG...]",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    words: Vec<String>,
}

impl Args {
    /// Reads a plain command line.
    pub fn plain(words: &mut Words<'_>) -> Option<Args> {
        let mut args = Args::default();
        while let Some(flag) = words.flag() {
            match flag {
                "--console-socket" => args.console_socket = Some(words.value()?.into()),
                "--pidfd-socket" => args.pidfd_socket = Some(words.value()?.into()),
                "--cwd" => args.cwd = Some(words.value()?.into()),
                "--env" | "-e" => args.env.push(words.value()?.to_owned()),
                "--tty" | "-t" => args.tty = true,
                "--user" | "-u" => args.user = Some(words.value()?.to_owned()),
                "--additional-gids" | "-g" => args.additional_gids.push(words.value()?.parse().ok()?),
                "--process" | "-p" => args.process = Some(words.value()?.into()),
                "--detach" | "-d" => args.detach = true,
                "--pid-file" => args.pid_file = Some(words.value()?.into()),
                "--process-label" => args.process_label = Some(words.value()?.to_owned()),
                "--apparmor" => args.apparmor = Some(words.value()?.to_owned()),
                "--no-new-privs" => args.no_new_privs = true,
                "--cap" | "-c" => args.cap.push(words.value()?.to_owned()),
                "--preserve-fds" => args.preserve_fds = words.value()?.parse().ok()?,
                "--cgroup" => args.cgroup.push(words.value()?.to_owned()),
                "--ignore-paused" => args.ignore_paused = true,
                "--no-subreaper" => args.no_subreaper = true,
                _ => return None,
            }
        }
        args.words = words.command_line()?;
        Some(args)
    }

    pub fn preserved_fds(&self) -> u32 {
        self.preserve_fds.min(1 << 20)
    }

    /// Reads the file of `--process`: it may be a descriptor of the caller's (/dev/fd/63), which is closed next.
    #[inline(never)]
    pub fn read_process_file(&mut self) -> Result<()> {
        if let Some(file) = &self.process {
            self.process_text = Some(std::fs::read(file).why(|| format!("--process {file:?}"))?);
        }
        Ok(())
    }

    #[inline(never)]
    pub fn exec(&self, context: &mut Context) -> Result<i32> {
        let Some((id, command)) = self.words.split_first() else { bail!("container id cannot be empty") };
        let id = ContainerId::new(id)?;
        let paused = if self.ignore_paused { Paused::Ignored } else { Paused::Refused };
        check_preserved(self.preserved_fds())?;
        let Opened { record, config, init } = open(context, &id, paused)?;
        // Not taken apart, as the process ends when this does.
        let config = ManuallyDrop::new(config);
        let process = self.process(&config, command)?;
        let terminal = match (&self.console_socket, self.detach) {
            (Some(path), _) => Some(Target::Socket(path.clone())),
            (None, false) => Some(Target::Foreground),
            (None, true) => None,
        };
        let request = ManuallyDrop::new(Request {
            id,
            process,
            terminal,
            pid_file: self.pid_file.clone(),
            pidfd_socket: self.pidfd_socket.clone(),
            preserve_fds: self.preserved_fds(),
            cgroups: self.cgroup.clone(),
            paused,
            init: RefCell::new(init),
        });
        if self.detach {
            return exec(context, &record, &config, &request).map(|_| 0);
        }
        let signals = Signals::block()?;
        let executed = exec(context, &record, &config, &request)?;
        let result = foreground::wait(&executed.child, &signals, executed.terminal, None);
        if result.is_err() {
            executed.child.end();
        }
        std::mem::forget((record, executed.child, signals));
        result
    }

    /// The process of `--process`, or the container's own with what the flags change.
    fn process(&self, config: &Config, command: &[String]) -> Result<ProcessConfig> {
        if let (Some(file), Some(text)) = (&self.process, &self.process_text) {
            return spec::read_process(text).with_context(|| format!("--process {file:?}"));
        }
        if command.is_empty() {
            bail!("exec needs a command, or --process");
        }
        let mut process = config.spec.process().clone().ok_or_else(|| anyhow!("config.json: process is missing"))?;
        let mut capabilities = config.capabilities;
        process.set_args(Some(command.to_vec()));
        process.set_terminal(Some(self.tty));
        if let Some(cwd) = &self.cwd {
            process.set_cwd(cwd.clone());
        }
        let mut env = process.env().clone().unwrap_or_default();
        env.extend(self.env.iter().cloned());
        process.set_env(Some(env));
        self.set_security(&mut process, &mut capabilities)?;
        if let Some(user) = &self.user {
            set_user(&mut process, user)?;
        }
        if !self.additional_gids.is_empty() {
            let mut user = process.user().clone();
            user.set_additional_gids(Some(self.additional_gids.clone()));
            process.set_user(user);
        }
        Ok(ProcessConfig {
            process,
            warnings: Vec::new(),
            capabilities,
            scheduler_flags: config.scheduler_flags,
            cpu_affinity: config.cpu_affinity.clone(),
        })
    }

    fn set_security(&self, process: &mut Process, capabilities: &mut Option<Capabilities>) -> Result<()> {
        if let Some(label) = &self.process_label {
            process.set_selinux_label(Some(label.clone()));
        }
        if let Some(profile) = &self.apparmor {
            process.set_apparmor_profile(Some(profile.clone()));
        }
        if self.no_new_privs {
            process.set_no_new_privileges(Some(true));
        }
        for name in &self.cap {
            let number = spec::capability_number(name).ok_or_else(|| anyhow!("--cap {name:?}: unknown capability"))?;
            let bit = 1u64 << number;
            let sets = capabilities.get_or_insert_default();
            sets.bounding |= bit;
            sets.effective |= bit;
            sets.permitted |= bit;
            // As in runc: the ambient set follows only what the container itself may inherit.
            if sets.inheritable != 0 {
                sets.inheritable |= bit;
                sets.ambient |= bit;
            }
        }
        Ok(())
    }
}

fn set_user(process: &mut Process, text: &str) -> Result<()> {
    let (uid, gid) = match text.split_once(':') {
        Some((uid, gid)) => (uid, Some(gid)),
        None => (text, None),
    };
    let number = |part: &str| {
        part.parse::<u32>()
            .ok()
            .filter(|id| *id != u32::MAX)
            .ok_or_else(|| anyhow!("--user {text:?}: {part:?} is not a numeric id"))
    };
    let mut user: User = process.user().clone();
    user.set_uid(number(uid)?);
    if let Some(gid) = gid {
        user.set_gid(number(gid)?);
    }
    process.set_user(user);
    Ok(())
}
