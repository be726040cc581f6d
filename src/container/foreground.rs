//! A container or process in the foreground: signals go to it, its terminal is copied, its exit status is ours.

use std::io::{IsTerminal, Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{self, SetArg, Termios};

use super::notify::Notify;
use crate::error::{Result, Why};
use crate::plan::walk::Child;
use crate::sys::process::{pidfd_send_signal, wait_any};
use crate::sys::{channel, tty};

/// Signals held back since before the clone, so that none is lost.
pub struct Signals(SignalFd);

impl Signals {
    /// Blocks every signal that can be forwarded, and SIGCHLD.
    ///
    /// # Errors
    /// When the kernel refuses a signalfd.
    pub fn block() -> Result<Signals> {
        let mut set = SigSet::all();
        // These tell of mistakes of this process itself.
        for own in [Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGILL, Signal::SIGFPE, Signal::SIGABRT, Signal::SIGTRAP] {
            set.remove(own);
        }
        set.remove(Signal::SIGPIPE);
        set.thread_block().why(|| "blocking signals")?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).why(|| "signalfd")?;
        Ok(Signals(fd))
    }
}

/// The runtime's terminal in raw mode, until dropped.
struct Raw(Option<Termios>);

impl Raw {
    fn enter() -> Result<Raw> {
        let stdin = std::io::stdin();
        if !stdin.is_terminal() {
            return Ok(Raw(None));
        }
        let saved = termios::tcgetattr(&stdin).why(|| "reading the terminal's mode")?;
        let mut raw = saved.clone();
        termios::cfmakeraw(&mut raw);
        termios::tcsetattr(&stdin, SetArg::TCSANOW, &raw).why(|| "setting the terminal to raw mode")?;
        Ok(Raw(Some(saved)))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(saved) = &self.0 {
            let _ = termios::tcsetattr(std::io::stdin(), SetArg::TCSADRAIN, saved);
        }
    }
}

/// Waits for the process and forwards everything meanwhile; gives its exit status by the shell's convention.
///
/// # Errors
/// When the terminal cannot be set up or polled.
pub fn wait(child: &Child, signals: &Signals, terminal: Option<OwnedFd>, notify: Option<Notify>) -> Result<i32> {
    let mut console = terminal.map(Console::receive).transpose()?;
    let mut notify = notify;
    loop {
        if let Some(code) = take_signals(child, signals, console.as_ref())? {
            if let Some(console) = &mut console {
                console.drain();
            }
            return Ok(code);
        }
        let (output, input) = poll_once(signals, console.as_ref(), notify.as_ref())?;
        if let Some(waiting) = &mut notify {
            waiting.pass_on(child.pid)?;
            if !waiting.is_waiting() {
                notify = None;
            }
        }
        if let Some(console) = &mut console {
            if output {
                console.copy_output();
            }
            if input {
                console.copy_input();
            }
        }
    }
}

/// Waits until something happens; says whether the terminal has output, and whether there is input for it.
fn poll_once(signals: &Signals, console: Option<&Console>, notify: Option<&Notify>) -> Result<(bool, bool)> {
    let stdin = std::io::stdin();
    let mut polled = vec![PollFd::new(signals.0.as_fd(), PollFlags::POLLIN)];
    let mut watch = |fd, wanted: bool| {
        wanted.then(|| {
            polled.push(PollFd::new(fd, PollFlags::POLLIN));
            polled.len() - 1
        })
    };
    let output = console.and_then(|console| watch(console.master.as_fd(), !console.hung_up));
    let input = console.and_then(|console| watch(stdin.as_fd(), !console.input_ended));
    if let Some(notify) = notify {
        polled.push(PollFd::new(notify.as_fd(), PollFlags::POLLIN));
    }
    match poll(&mut polled, PollTimeout::NONE) {
        Err(Errno::EINTR) => return Ok((false, false)),
        other => other.why(|| "poll")?,
    };
    let ready = |at: Option<usize>| {
        let events = at.and_then(|at| polled.get(at)).and_then(PollFd::revents);
        events.is_some_and(|events| !events.is_empty())
    };
    Ok((ready(output), ready(input)))
}

/// Handles all signals that have come; gives the exit status once the process has ended.
fn take_signals(child: &Child, signals: &Signals, console: Option<&Console>) -> Result<Option<i32>> {
    while let Some(info) = signals.0.read_signal().why(|| "reading signals")? {
        let signal = info.ssi_signo as i32;
        if signal == libc::SIGWINCH
            && let Some(console) = console
        {
            console.resize();
        } else if signal != libc::SIGCHLD {
            match pidfd_send_signal(child.pidfd.as_fd(), signal) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(errno) => return Err(errno).why(|| "forwarding a signal"),
            }
        }
    }
    // As a subreaper this process gets the container's orphans too.
    loop {
        match wait_any(libc::WNOHANG) {
            Ok(Some((pid, exit))) if pid == child.pid => return Ok(Some(exit.code())),
            Ok(Some(_)) => {}
            Ok(None) | Err(Errno::ECHILD) => return Ok(None),
            Err(errno) => return Err(errno).why(|| "waiting for the container"),
        }
    }
}

/// The container's terminal, copied to and from ours.
struct Console {
    master: std::fs::File,
    _raw: Raw,
    hung_up: bool,
    input_ended: bool,
}

impl Console {
    fn receive(socket: OwnedFd) -> Result<Console> {
        let mut name = [0; 64];
        let master = channel::recv_fd(socket.as_fd(), &mut name).why(|| "receiving the terminal")?;
        let master = master.ok_or(Errno::EBADF).why(|| "receiving the terminal")?;
        let console = Console { master: master.into(), _raw: Raw::enter()?, hung_up: false, input_ended: false };
        console.resize();
        Ok(console)
    }

    /// Gives the container's terminal the size of ours, if ours is one.
    fn resize(&self) {
        if let Ok(size) = tty::size(std::io::stdin().as_fd()) {
            let _ = tty::set_size(self.master.as_fd(), size);
        }
    }

    fn copy_output(&mut self) {
        let mut buffer = [0; 32 * 1024];
        match self.master.read(&mut buffer) {
            // EIO: nobody has the other end open any more.
            Ok(0) | Err(_) => self.hung_up = true,
            Ok(got) => write_all(buffer.get(..got).unwrap_or_default()),
        }
    }

    fn copy_input(&mut self) {
        let mut buffer = [0; 4096];
        // Not through std's buffered handle, which would hold back bytes that poll then does not see.
        match nix::unistd::read(std::io::stdin().as_fd(), &mut buffer) {
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Ok(0) | Err(_) => self.input_ended = true,
            Ok(got) => {
                if self.master.write_all(buffer.get(..got).unwrap_or_default()).is_err() {
                    self.input_ended = true;
                }
            }
        }
    }

    /// What the process has written before it ended.
    fn drain(&mut self) {
        while !self.hung_up {
            let mut polled = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
            if !poll(&mut polled, PollTimeout::ZERO).is_ok_and(|count| count > 0) {
                break;
            }
            self.copy_output();
        }
    }
}

fn write_all(bytes: &[u8]) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(bytes).and_then(|()| stdout.flush());
}
