//! The command line: runc's words (`runc(8)`), so that callers need not know which runtime they have.

mod checkpoint;
mod create;
mod events;
mod exec;
mod features;
mod generate;
mod kill;
mod list;
mod plan;
mod ps;
mod quick;
mod restore;
mod spec;
mod state;
mod update;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;

use anyhow::anyhow;
use clap::error::{ContextKind, ErrorKind};
use clap::{ArgAction, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use crate::container::Context;
use crate::container::delete::{Force, delete};
use crate::container::id::ContainerId;
use crate::container::store::Store;
use crate::container::{pause, start};
use crate::error::{Detail, Detailed, EXEC_FAILED, Result, Why, errno_of, one_line};
use crate::host::{Host, Systemd};
use crate::log::{Format, Log};
use crate::plan::trace::Trace;
use crate::sys::exe::Binary;
use crate::sys::{hidden, start as program};

/// The version of runtime-spec that orlop implements.
pub const SPEC_VERSION: &str = "1.3.0";

/// A fast OCI runtime.
#[derive(Debug, Parser)]
#[command(name = "orlop", version, disable_version_flag = true, about, long_about = None)]
// Of a flag that is given twice the last counts, as in Go; Podman repeats some.
#[command(args_override_self = true)]
#[command(
    after_help = "A container is a bundle: a folder with config.json (`orlop spec` writes one) and a root file system."
)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Default, clap::Args)]
struct Global {
    /// Folder for the state of containers [default: /run/orlop, or $XDG_RUNTIME_DIR/orlop for a normal user]
    #[arg(long, global = true, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Write warnings and the error to this file too
    #[arg(long, global = true, value_name = "FILE")]
    log: Option<PathBuf>,
    /// How the log is written
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
    /// Log what is done
    #[arg(long, global = true)]
    debug: bool,
    /// Ask systemd for the cgroup: cgroupsPath is then slice:prefix:name
    #[arg(long, global = true)]
    systemd_cgroup: bool,
    /// Whether cgroup permission errors are tolerated as for a normal user
    #[arg(long = "rootless", id = "rootless-mode", value_name = "WHEN", default_value = "auto")]
    rootless: Rootless,
    /// Write how long each step took, in the Chrome trace format [env: ORLOP_TRACE]
    #[arg(long, global = true, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Accepted for older callers; criu is found on PATH
    #[arg(long, global = true, hide = true, value_name = "PATH")]
    criu: Option<PathBuf>,
    /// Print the version
    #[arg(short = 'v', long, action = ArgAction::SetTrue)]
    version: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    #[default]
    Text,
    Json,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Rootless {
    #[default]
    Auto,
    True,
    False,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create a container, to be started later
    Create(create::Args),
    /// Execute the program of a created container
    Start(IdArg),
    /// Create and start a container
    Run(create::RunArgs),
    /// Execute another process in a running container
    Exec(Box<exec::Args>),
    /// Send a signal (TERM by default) to a container
    Kill(kill::Args),
    /// Remove a container and all that it held
    Delete(DeleteArgs),
    /// Print the state of a container as JSON
    State(IdArg),
    /// List containers
    List(list::Args),
    /// List the processes of a container
    Ps(ps::Args),
    /// Freeze all processes of a container
    Pause(IdArg),
    /// Thaw a paused container
    Resume(IdArg),
    /// Write a running container to images, with criu
    Checkpoint(Box<checkpoint::Args>),
    /// Make a container from such images, with criu
    Restore(Box<restore::Args>),
    /// Change the limits of a container
    Update(Box<update::Args>),
    /// Print statistics at an interval, and OOM kills
    Events(events::Args),
    /// Write an example config.json
    Spec(spec::Args),
    /// Print what this runtime can do, as JSON
    Features,
    /// Print what create or run would do, and do nothing
    Plan(plan::Args),
    /// Print completions for a shell
    Completion(generate::CompletionArgs),
    /// Print the manual page
    #[command(hide = true)]
    Man,
}

#[derive(Debug, clap::Args)]
struct IdArg {
    /// The container's id
    #[arg(value_name = "CONTAINER-ID")]
    id: String,
}

#[derive(Debug, clap::Args)]
struct DeleteArgs {
    /// Kill it first if it runs; no error if there is none
    #[arg(short, long)]
    force: bool,
    /// The container's id
    #[arg(value_name = "CONTAINER-ID")]
    id: String,
}

impl Command {
    /// How the command is named in front of its error, for those whose failure runc names.
    fn prefix(&self) -> Option<&'static str> {
        match self {
            Command::Create(_) => Some("create failed"),
            Command::Run(_) => Some("run failed"),
            Command::Exec(_) => Some("exec failed"),
            Command::Checkpoint(_) => Some("checkpoint failed"),
            Command::Restore(_) => Some("restore failed"),
            _ => None,
        }
    }

    /// The exit status of a failure: that of `exec` must differ from what programs exit with.
    fn failure(&self) -> u8 {
        if matches!(self, Command::Exec(_)) { 255 } else { FAILURE }
    }

    /// Whether a container can get hold of this process, so that its binary must be out of reach.
    fn enters_container(&self) -> bool {
        matches!(self, Command::Create(_) | Command::Run(_) | Command::Exec(_))
    }

    fn preserved_fds(&self) -> u32 {
        match self {
            Command::Create(args) => args.common.preserved_fds(),
            Command::Run(args) => args.common.preserved_fds(),
            Command::Exec(args) => args.preserved_fds(),
            _ => 0,
        }
    }
}

const SUCCESS: u8 = 0;
const FAILURE: u8 = 1;

/// Runs the command line and gives the exit status.
pub fn main() -> u8 {
    crate::sys::process::default_sigchld();
    let args = restore::spelled_out(program::args());
    let binary = match quick::protect(&args) {
        Ok(binary) => binary,
        Err(error) => {
            return failed(&error);
        }
    };
    let parsed = match quick::parse(&args) {
        Some(cli) => Ok(cli),
        None => whole(&args),
    };
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => return not_a_command(&error),
    };
    if cli.global.version {
        return match say(format_args!("orlop version {}\nspec: {SPEC_VERSION}\n", env!("CARGO_PKG_VERSION"))) {
            Ok(()) => SUCCESS,
            Err(error) => failed(&error),
        };
    }
    let Some(command) = cli.command else {
        let _ = described().print_help();
        flush();
        return SUCCESS;
    };
    let (prefix, failure) = (command.prefix(), command.failure());
    let format = if cli.global.log_format == LogFormat::Json { Format::Json } else { Format::Text };
    let log = Log::new(cli.global.log.as_deref(), format, cli.global.debug);
    match run(cli.global, command, log, binary) {
        // At once: to take apart what memory holds is to touch it again.
        Ok(code) => crate::sys::process::exit(code),
        Err((error, log)) => {
            report(&error, prefix, &log);
            failure
        }
    }
}

/// Prints what clap has to say: that the usage is wrong, or help that was asked for.
#[inline(never)]
fn not_a_command(error: &clap::Error) -> u8 {
    if let (ErrorKind::InvalidSubcommand, Some(word)) = (error.kind(), error.get(ContextKind::InvalidSubcommand)) {
        complain(&format!("No help topic for '{word}'"));
    }
    let _ = error.print();
    flush();
    // runc answers wrong usage with 1, and help with 0.
    if error.use_stderr() { FAILURE } else { SUCCESS }
}

/// Tells of a failure before there is a log.
fn failed(error: &anyhow::Error) -> u8 {
    complain(&format!("orlop: error: {}", one_line(error)));
    FAILURE
}

/// Writes what a command was asked for to standard output.
///
/// # Errors
/// When nobody reads it, or the disk is full.
fn say(text: impl std::fmt::Display) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    write!(stdout, "{text}").and_then(|()| stdout.flush()).why(|| "writing to standard output")
}

/// Writes out what is left of what clap has printed. Who reads it is gone, or the disk is full: there is nobody to be told.
fn flush() {
    let _ = std::io::stdout().flush();
}

/// Writes a line to standard error. That nobody reads it, or that the disk is full, changes no exit status.
fn complain(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// The way through the whole description of the command line.
#[inline(never)]
fn whole(args: &[OsString]) -> std::result::Result<Cli, clap::Error> {
    let matches = described().try_get_matches_from(args)?;
    Cli::from_arg_matches(&matches)
}

/// All commands, with help in the shape of runc's.
#[inline(never)]
fn described() -> clap::Command {
    const REST: &str = " - {about}\n\nUSAGE:\n   {usage}\n\n{all-args}{after-help}";
    let help = |name: &str| format!("NAME:\n   {name}{REST}");
    Cli::command().help_template(help("orlop")).mut_subcommands(|command| {
        let name = format!("orlop {}", command.get_name());
        command.help_template(help(&name))
    })
}

/// The one place where an error is printed.
#[inline(never)]
fn report(error: &anyhow::Error, prefix: Option<&str>, log: &Log) {
    let detailed = error.chain().find_map(|cause| cause.downcast_ref::<Detailed>());
    let errno = detailed.and_then(|detailed| detailed.errno).or_else(|| errno_of(error));
    let mut line = one_line(error);
    if let Some(hidden) = errno.and_then(hidden::explain) {
        line = format!("{line} ({hidden})");
    }
    let message = prefix.map_or_else(|| line.clone(), |prefix| format!("orlop {prefix}: {line}"));
    let detail: Option<&Detail> = detailed.map(|detailed| &detailed.detail);
    if log.wants_line() {
        log.error(&message, detail, errno);
    }
    if log.wants_plain() && detail.is_some_and(|detail| detail.code == EXEC_FAILED) {
        complain(&line);
    } else if log.wants_plain() {
        complain(&format!("orlop: {}: {line}", prefix.unwrap_or("error")));
    }
}

type Failure = (anyhow::Error, Log);

#[inline(never)]
fn run(global: Global, mut command: Command, log: Log, binary: Option<Binary>) -> std::result::Result<i32, Failure> {
    if let Command::Exec(args) = &mut command
        && let Err(error) = args.read_process_file()
    {
        return Err((error, log));
    }
    if command.enters_container() || matches!(command, Command::Restore(_)) {
        // Descriptors that the caller leaked into this process (CVE-2024-21626); nothing is open yet that would be missed.
        let kept = binary.as_ref().map(Binary::descriptor);
        crate::sys::fd::close_from(3 + command.preserved_fds(), kept.as_slice());
    }
    if let Err(error) = log.check() {
        return Err((error, Log::new(None, Format::Text, false)));
    }
    if let (Command::List(_), Some(root)) = (&command, &global.root)
        && let Err(error) = std::fs::read_dir(root).why(|| format!("open {}", root.display()))
    {
        return Err((error, log));
    }
    let mut context = context(&global, log)?;
    context.binary = binary;
    let result = dispatch(&mut context, command);
    let result = match (result, context.trace.write()) {
        (Err(error), _) | (Ok(_), Err(error)) => Err(error),
        (Ok(code), Ok(())) => Ok(code),
    };
    result.map_err(|error| (error, context.log))
}

#[inline(never)]
fn context(global: &Global, log: Log) -> std::result::Result<Context, Failure> {
    let trace = global.trace.clone().or_else(|| std::env::var_os("ORLOP_TRACE").map(PathBuf::from));
    let mut trace = Trace::new(trace);
    let host = trace.span("looking at the host", Host::probe);
    let mut host = match host {
        Ok(host) => host,
        Err(error) => return Err((error, log)),
    };
    match global.rootless {
        Rootless::Auto => {}
        Rootless::True => host.tolerant = true,
        Rootless::False => host.tolerant = false,
    }
    if global.systemd_cgroup {
        if !Systemd::is_running() {
            return Err((anyhow!("systemd not running on this host, cannot use systemd cgroups manager"), log));
        }
        host.systemd = Some(Systemd { user: host.tolerant, own: None });
    }
    let root = match root(global, &host) {
        Ok(root) => root,
        Err(error) => return Err((error, log)),
    };
    Ok(Context { host, store: Store::new(root), log, trace, binary: None })
}

fn root(global: &Global, host: &Host) -> Result<PathBuf> {
    let own = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty() && wants_own_folder(host));
    let root = match (&global.root, own) {
        (Some(root), _) => root.clone(),
        (None, Some(dir)) => PathBuf::from(dir).join("orlop"),
        (None, None) => PathBuf::from("/run/orlop"),
    };
    Ok(std::path::absolute(root)?)
}

/// As runc decides it: a normal user, also one who is root in a user namespace (rootless Podman).
fn wants_own_folder(host: &Host) -> bool {
    if host.is_rootless() {
        return true;
    }
    host.user_namespace && std::env::var_os("USER").is_none_or(|user| user != "root")
}

// Neither this nor what it calls is inlined, so that only the frame of the one command is on the stack (docs/performance.md).
#[inline(never)]
fn dispatch(context: &mut Context, command: Command) -> Result<i32> {
    match command {
        Command::Create(args) => args.create(context)?,
        Command::Run(args) => return args.run(context),
        Command::Exec(args) => return args.exec(context),
        Command::Start(arg) => start::start(context, &ContainerId::new(&arg.id)?)?,
        Command::Kill(args) => args.kill(context)?,
        Command::Delete(args) => {
            let force = if args.force { Force::Yes } else { Force::No };
            delete(context, &ContainerId::new(&args.id)?, force)?;
        }
        Command::State(arg) => state::print(context, &ContainerId::new(&arg.id)?)?,
        Command::List(args) => args.list(context)?,
        Command::Ps(args) => args.ps(context)?,
        Command::Pause(arg) => pause::pause(context, &ContainerId::new(&arg.id)?)?,
        Command::Resume(arg) => pause::resume(context, &ContainerId::new(&arg.id)?)?,
        Command::Checkpoint(args) => args.checkpoint(context)?,
        Command::Restore(args) => return args.restore(context),
        Command::Update(args) => args.update(context)?,
        Command::Events(args) => args.events(context)?,
        Command::Spec(args) => args.write()?,
        Command::Features => features::print()?,
        Command::Plan(args) => args.print(context)?,
        Command::Completion(args) => args.print()?,
        Command::Man => generate::man()?,
    }
    Ok(0)
}
