//! The terminal: config.md#process (`terminal`, `consoleSize`). The pty is made in the container's devpts,
//! its master goes to `--console-socket` (or to the foreground `run`), its other end becomes
//! /dev/console and the standard descriptors.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::sys::termios::{self, OutputFlags, SetArg};

use crate::error::{Result, Why, errno_text};
use crate::plan::{Fault, Init, Inside, Outside, Plan, Runtime, Slot};
use crate::sys::tty::{self, Size};
use crate::sys::{channel, fd, mount, root};

/// Where the master goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The socket of `--console-socket`.
    Socket(PathBuf),
    /// The runtime itself, which copies between it and its own terminal.
    Foreground,
}

/// A terminal asked for.
#[derive(Debug, Clone)]
pub struct Console {
    /// Where the master goes.
    pub target: Target,
    /// `consoleSize`.
    pub size: Option<Size>,
    /// Who owns the terminal in the container.
    pub uid: u32,
    /// Where it is covered with the terminal, for init.
    pub dev_console: Option<crate::plan::Slot>,
}

/// Adds the socket before the clone; the slot is for [`plan`].
pub fn plan_socket(target: &Target, plan: &mut Plan) -> Slot {
    let socket = plan.slot();
    plan.before(OpenSocket { target: target.clone(), socket });
    socket
}

/// Adds the making of the terminal, after the change of root.
pub fn plan(console: &Console, socket: Slot, plan: &mut Plan) {
    plan.inside(MakeTerminal {
        size: console.size,
        uid: console.uid,
        dev_console: console.dev_console,
        in_foreground: console.target == Target::Foreground,
        socket,
    });
}

/// Adds a session of the process's own, which a controlling terminal needs.
pub fn plan_session(plan: &mut Plan) {
    plan.inside(NewSession);
}

struct OpenSocket {
    target: Target,
    socket: Slot,
}

impl fmt::Display for OpenSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.target {
            Target::Socket(path) => write!(f, "connecting to the console socket {path:?}"),
            Target::Foreground => f.write_str("making a socket for the terminal"),
        }
    }
}

impl Outside for OpenSocket {
    fn run(&self, runtime: &mut Runtime) -> Result<()> {
        match &self.target {
            Target::Socket(path) => {
                runtime.slots.put(self.socket, channel::connect(path).why(|| format!("--console-socket {path:?}"))?);
            }
            Target::Foreground => {
                let (ours, theirs) = channel::pair().why(|| "socketpair")?;
                runtime.terminal = Some(ours);
                runtime.slots.put(self.socket, theirs);
            }
        }
        Ok(())
    }
}

const PART_OPEN: u64 = 1;
const PART_SEND: u64 = 2;
const PART_CONSOLE: u64 = 3;

struct MakeTerminal {
    size: Option<Size>,
    uid: u32,
    dev_console: Option<Slot>,
    in_foreground: bool,
    socket: Slot,
}

impl fmt::Display for MakeTerminal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("making the terminal")
    }
}

impl Inside for MakeTerminal {
    fn run(&self, init: &mut Init<'_>) -> std::result::Result<(), Fault> {
        const DEVPTS_SUPER_MAGIC: i64 = 0x1cd1;
        let open = |path| root::openat2(fd::cwd(), path, libc::O_RDWR | libc::O_NOCTTY, 0, libc::RESOLVE_NO_MAGICLINKS);
        let master = open(c"/dev/pts/ptmx").map_err(Fault::at(PART_OPEN))?;
        // Swapped for something else while it was resolved (CVE-2025-52565).
        if fd::fs_magic(master.as_fd())? != DEVPTS_SUPER_MAGIC {
            return Err(Fault { errno: Errno::ENODEV, detail: PART_OPEN });
        }
        tty::unlock(master.as_fd())?;
        let slave = tty::peer(master.as_fd())?;
        if let Some(size) = self.size {
            tty::set_size(master.as_fd(), size)?;
        }
        if self.in_foreground {
            newlines_as_written(slave.as_fd())?;
        }
        match fd::fchown(slave.as_fd(), self.uid, fd::stat(slave.as_fd())?.st_gid) {
            Ok(()) | Err(Errno::EINVAL | Errno::EPERM) => {}
            Err(errno) => return Err(errno.into()),
        }
        if let Some(rootfs) = self.dev_console {
            cover_console(init.slots.get(rootfs)?, slave.as_fd()).map_err(Fault::at(PART_CONSOLE))?;
        }
        let socket = init.slots.get(self.socket)?;
        channel::send_fd(socket, b"/dev/ptmx", master.as_fd()).map_err(Fault::at(PART_SEND))?;
        for number in 0..3 {
            fd::dup_to(slave.as_fd(), number)?;
        }
        Ok(tty::set_controlling(slave.as_fd())?)
    }

    fn explain(&self, fault: Fault) -> String {
        let what = match fault.detail {
            PART_OPEN => "opening /dev/pts/ptmx (is there a devpts mount?): ",
            PART_SEND => "sending the terminal to the console socket: ",
            PART_CONSOLE => "mounting /dev/console: ",
            _ => "",
        };
        format!("{what}{}", errno_text(fault.errno))
    }
}

/// The terminal of `run` or `exec` puts the carriage return before a newline, if it is one; else none is wanted.
fn newlines_as_written(terminal: BorrowedFd<'_>) -> crate::sys::Result<()> {
    let mut mode = termios::tcgetattr(terminal)?;
    mode.output_flags.remove(OutputFlags::ONLCR);
    termios::tcsetattr(terminal, SetArg::TCSANOW, &mode)
}

fn cover_console(rootfs: BorrowedFd<'_>, slave: BorrowedFd<'_>) -> crate::sys::Result<()> {
    let open = || root::openat2(rootfs, c"dev/console", libc::O_PATH | libc::O_NOFOLLOW, 0, root::IN_ROOT);
    let place = match open() {
        Err(Errno::ENOENT) => {
            let flags = libc::O_CREAT | libc::O_EXCL | libc::O_WRONLY;
            root::openat2(rootfs, c"dev/console", flags, 0o666, root::IN_ROOT)?;
            open()?
        }
        other => other?,
    };
    let tree = mount::open_tree(slave, c"", libc::OPEN_TREE_CLONE | libc::AT_EMPTY_PATH as u32)?;
    mount::move_mount(tree.as_fd(), place.as_fd())
}

struct NewSession;

impl fmt::Display for NewSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("making a session")
    }
}

impl Inside for NewSession {
    fn run(&self, _: &mut Init<'_>) -> std::result::Result<(), Fault> {
        match nix::unistd::setsid() {
            // The process leads its group already.
            Ok(_) | Err(Errno::EPERM) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}
