//! criu itself: found on PATH, started as `criu swrk FD`, spoken to over a SOCK_SEQPACKET pair.
//!
//! Each message is one packet. criu asks back with notifications, and goes on when they are answered; it has gone
//! when the socket ends.

use std::ffi::CString;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{anyhow, bail};
use nix::errno::Errno;
use prost::Message;

use super::rpc::{self, Notify, Request, Response, kind};
use crate::error::{Result, Why, errno_text};
use crate::plan::walk::Child;
use crate::plan::{Outside, Runtime};
use crate::sys::process::{self, Exit};
use crate::sys::{channel, fd, mount, ns};

/// The oldest criu that has all that is used here: lazy-page notifications, external pid namespaces, the freezer
/// of cgroup v2, and LSM profiles that can be changed. It is of 2021.
const NEEDED: (i32, i32) = (3, 16);

/// A message is at most what criu's own side reads, a few pages.
const MESSAGE: usize = 64 << 10;

/// Where the program is.
fn find() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&path).map(|dir| dir.join("criu"));
    let found = places.find(|file| nix::unistd::access(file, nix::unistd::AccessFlags::X_OK).is_ok() && file.is_file());
    found.ok_or_else(|| anyhow!("criu is not installed: there is no program \"criu\" on PATH"))
}

/// The root file system where a restoring criu wants it.
#[derive(Debug, Clone)]
pub(super) struct Root {
    /// The root file system.
    pub source: CString,
    /// An empty directory, on which it is mounted for criu alone.
    pub target: CString,
}

/// Which descriptors and mounts criu is started with.
#[derive(Debug, Default)]
pub(super) struct Manner<'a> {
    /// Whether it has this process's standard descriptors, for the restored processes; else they are /dev/null.
    pub stdio: bool,
    /// Further descriptors, under the numbers that they have here.
    pub descriptors: Vec<BorrowedFd<'a>>,
    /// Its root, in a mount namespace of its own.
    pub root: Option<Root>,
}

/// Starts criu; gives the process and the socket.
pub(super) fn start(manner: &Manner<'_>) -> Result<(Child, OwnedFd)> {
    let program = find()?;
    let (ours, theirs) = channel::pair().why(|| "making the channel to criu")?;
    let mut command = Command::new(&program);
    command.arg("swrk").arg(fd::number(theirs.as_fd()).to_string());
    if !manner.stdio {
        // A terminal's interrupt is for this process to handle: criu would leave the container frozen.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    }
    let mut kept: Vec<i32> = manner.descriptors.iter().map(|each| fd::number(*each)).collect();
    kept.push(fd::number(theirs.as_fd()));
    let root = manner.root.clone();
    process::before_exec(&mut command, move || {
        for number in &kept {
            fd::keep(*number)?;
        }
        root.as_ref().map_or(Ok(()), enter_root)
    });
    // Not waited for through this handle: whoever has the pidfd does it.
    let child = command.spawn().why(|| format!("starting {}", program.display()))?;
    let pid = child.id() as i32;
    let pidfd = process::pidfd_open(pid).why(|| "pidfd_open")?;
    Ok((Child { pid, pidfd, started: None }, ours))
}

/// criu wants the root file system as a mount of its own, on a path that nothing covers. In a mount namespace of
/// criu's own it is gone with criu, however that ends.
fn enter_root(root: &Root) -> crate::sys::Result<()> {
    ns::unshare(libc::CLONE_NEWNS)?;
    mount::mount(None, c"/", None, libc::MS_SLAVE | libc::MS_REC, None)?;
    mount::mount(Some(&root.source), &root.target, None, libc::MS_BIND | libc::MS_REC, None)
}

/// Sends one request and answers notifications with `on`; gives criu's answer, `None` when it has gone without one.
///
/// An error of `on` is told to criu, which gives up then, and is returned once criu has.
pub(super) fn converse(
    socket: BorrowedFd<'_>,
    criu: &Child,
    request: &Request,
    mut on: impl FnMut(&Notify, Option<OwnedFd>) -> Result<()>,
) -> Result<Option<Response>> {
    let mut failed = None;
    match channel::send(socket, &request.encode_to_vec()) {
        Ok(()) | Err(Errno::EPIPE) => {}
        Err(errno) => return Err(errno).why(|| "asking criu"),
    }
    let mut buffer = vec![0; MESSAGE];
    loop {
        let (got, descriptor) = match waits(socket, criu)? {
            false => (0, None),
            true => match channel::recv_with_fd(socket, &mut buffer) {
                // Told once, when criu has ended without reading everything; what it has said is read after that.
                Err(Errno::ECONNRESET) => continue,
                other => other.why(|| "hearing from criu")?,
            },
        };
        let answer = match got {
            0 => None,
            _ => Some(
                Response::decode(buffer.get(..got).unwrap_or_default())
                    .map_err(|e| anyhow!("criu sent a message that is none: {e}"))?,
            ),
        };
        match answer {
            Some(Response { kind: kind::NOTIFY, success: true, notify: Some(notify), .. }) => {
                if failed.is_none() {
                    failed = on(&notify, descriptor).err();
                }
                let success = Some(failed.is_none());
                let reply = Request { kind: kind::NOTIFY, notify_success: success, ..Request::default() };
                match channel::send(socket, &reply.encode_to_vec()) {
                    Ok(()) | Err(Errno::EPIPE) => {}
                    Err(errno) => return Err(errno).why(|| "answering criu"),
                }
            }
            other => return failed.map_or(Ok(other), Err),
        }
    }
}

/// Waits until criu has said something, true, or has ended: processes that it was about to restore may still hold
/// its end of the socket open, and wait for it for ever.
fn waits(socket: BorrowedFd<'_>, criu: &Child) -> Result<bool> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut polled = [PollFd::new(socket, PollFlags::POLLIN), PollFd::new(criu.pidfd.as_fd(), PollFlags::POLLIN)];
    loop {
        match poll(&mut polled, PollTimeout::NONE) {
            Err(Errno::EINTR) => {}
            // What it has said last is still to be read.
            Ok(_) => return Ok(channel::is_ready(socket)),
            Err(errno) => return Err(errno).why(|| "waiting for criu"),
        }
    }
}

/// Starts a criu for one question.
fn ask(request: &Request) -> Result<Response> {
    let (child, socket) = start(&Manner::default())?;
    let answer = converse(socket.as_fd(), &child, request, |_, _| Ok(()));
    drop(socket);
    let exit = process::wait(child.pidfd.as_fd(), 0).why(|| "waiting for criu")?;
    answer?.ok_or_else(|| anyhow!("{}", ended(exit)))
}

/// How a criu ended that has not answered.
pub(super) fn ended(exit: Option<Exit>) -> String {
    match exit {
        Some(Exit::Signal(signal)) => format!("criu was killed by signal {signal}"),
        Some(Exit::Status(status)) => format!("criu has ended without an answer (status {status})"),
        None => "criu has gone".into(),
    }
}

/// Why criu says that it has not done something.
pub(super) fn reason(answer: &Response) -> String {
    match (&answer.cr_errmsg, answer.cr_errno) {
        (Some(words), _) if !words.trim().is_empty() => words.trim().to_owned(),
        (_, Some(errno)) if errno != 0 => errno_text(Errno::from_raw(errno)),
        _ => "it does not say why".into(),
    }
}

/// Makes sure that criu is there, and new enough.
pub struct CheckVersion;

impl fmt::Display for CheckVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("asking criu for its version")
    }
}

impl Outside for CheckVersion {
    fn run(&self, _: &mut Runtime) -> Result<()> {
        let (major, minor) = NEEDED;
        let answer = ask(&Request { kind: kind::VERSION, ..Request::default() })?;
        let Some(version) = answer.version.filter(|_| answer.success) else {
            // Versions before 3.0 do not know the question.
            bail!("criu {major}.{minor} or newer is needed, this one does not tell its version: {}", reason(&answer));
        };
        let rpc::Version { major_number, minor_number, sublevel } = version;
        if (major_number, minor_number) < NEEDED {
            let sublevel = sublevel.map(|number| format!(".{number}")).unwrap_or_default();
            bail!("criu {major}.{minor} or newer is needed, found {major_number}.{minor_number}{sublevel}");
        }
        Ok(())
    }
}

/// What not every kernel can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feature {
    /// For `--pre-dump`.
    MemTrack,
    /// For `--lazy-pages`.
    LazyPages,
}

/// Makes sure that kernel and criu can do it.
pub struct CheckFeature(pub Feature);

impl fmt::Display for CheckFeature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Feature::MemTrack => f.write_str("asking criu whether changes of memory can be tracked"),
            Feature::LazyPages => f.write_str("asking criu whether memory can follow later"),
        }
    }
}

impl Outside for CheckFeature {
    fn run(&self, _: &mut Runtime) -> Result<()> {
        let features = rpc::Features { mem_track: Some(true), lazy_pages: Some(true) };
        let answer = ask(&Request { kind: kind::FEATURE_CHECK, features: Some(features), ..Request::default() })?;
        if !answer.success {
            bail!("criu has not answered: {}", reason(&answer));
        }
        let found = answer.features.unwrap_or_default();
        match self.0 {
            Feature::MemTrack if found.mem_track != Some(true) => {
                bail!("--pre-dump: this kernel does not track changes of memory (CONFIG_MEM_SOFT_DIRTY)")
            }
            Feature::LazyPages if found.lazy_pages != Some(true) => {
                bail!("--lazy-pages: this kernel or criu has no userfaultfd for it")
            }
            _ => Ok(()),
        }
    }
}

/// The last errors that criu has logged, in one line; empty when there are none.
pub(super) fn quote(log: &Path) -> String {
    const MOST: usize = 4;
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let errors: Vec<&str> = text.lines().filter(|line| line.contains("Error")).map(without_time).collect();
    let last = errors.get(errors.len().saturating_sub(MOST)..).unwrap_or_default();
    last.join("; ")
}

/// A line of the log without `(00.012345)` in front of it.
fn without_time(line: &str) -> &str {
    let Some((time, rest)) = line.strip_prefix('(').and_then(|line| line.split_once(')')) else { return line };
    if time.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') { rest.trim_start() } else { line }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_errors_of_the_log_are_quoted_without_their_times() {
        let log = std::env::temp_dir().join(format!("orlop-criu-log-{}", std::process::id()));
        let lines: Vec<String> =
            (1..=6).map(|n| format!("(00.00{n}) Error (criu/x.c:{n}): no {n}\n(00.1) fine\n")).collect();
        std::fs::write(&log, lines.concat()).unwrap();
        let quoted = quote(&log);
        std::fs::remove_file(&log).unwrap();
        assert!(quoted.starts_with("Error (criu/x.c:3): no 3; Error"), "{quoted}");
        assert!(quoted.ends_with("Error (criu/x.c:6): no 6"), "{quoted}");
        assert_eq!(quote(&log), "");
    }
}
