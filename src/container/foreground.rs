//! A container or process in the foreground: signals go to it, its terminal is copied, its exit status is ours.

use std::io::{ErrorKind, IsTerminal, Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{self, OutputFlags, SetArg, Termios};

use super::notify::Notify;
use crate::error::{Result, Why};
use crate::plan::walk::Child;
use crate::sys::process::{pidfd_send_signal, wait_any};
use crate::sys::{channel, fd, tty};

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
        // The container's terminal leaves newlines as they are written: the carriage return comes from this one.
        raw.output_flags.insert(OutputFlags::OPOST);
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
        let ready = poll_once(signals, console.as_ref(), notify.as_ref())?;
        if let Some(console) = &mut console {
            console.copy(ready);
        }
        if let Some(waiting) = &mut notify {
            // A service manager that has gone has nobody to be told of it.
            let _ = waiting.pass_on(child.pid);
            if !waiting.is_waiting() {
                notify = None;
            }
        }
        if ready.signal
            && let Some(code) = take_signals(child, signals, console.as_ref())?
        {
            if let Some(console) = &mut console {
                console.drain();
            }
            return Ok(code);
        }
    }
}

/// Which ends of the two terminals can be read from or written to now, and whether there is a signal.
#[derive(Debug, Clone, Copy, Default)]
struct Ready {
    signal: bool,
    master_in: bool,
    master_out: bool,
    stdin: bool,
    stdout: bool,
}

/// Waits until something happens. An end is watched only while it is of use, so that no copy ever blocks.
fn poll_once(signals: &Signals, console: Option<&Console>, notify: Option<&Notify>) -> Result<Ready> {
    let [stdin, stdout, _] = fd::stdio();
    let signal = PollFd::new(signals.0.as_fd(), PollFlags::POLLIN);
    // Those of the signals, the terminals, and the notifications; what is not there is no reason to wake.
    let none = || PollFd::new(signals.0.as_fd(), PollFlags::empty());
    let mut polled = [signal, none(), none(), none(), none()];
    let [_, ends @ .., last] = &mut polled;
    if let Some(notify) = notify {
        *last = PollFd::new(notify.as_fd(), PollFlags::POLLIN);
    }
    if let Some(console) = console {
        let Console { hung_up, input_ended, output, input, .. } = console;
        let mut master = PollFlags::empty();
        master.set(PollFlags::POLLIN, !hung_up && output.is_empty());
        master.set(PollFlags::POLLOUT, !hung_up && !input.is_empty());
        let when = |wanted: bool, flag: PollFlags| if wanted { flag } else { PollFlags::empty() };
        let wanted = [
            (console.master.as_fd(), master),
            (stdin, when(!input_ended && input.is_empty(), PollFlags::POLLIN)),
            (stdout, when(!output.is_empty(), PollFlags::POLLOUT)),
        ];
        // Even with no flag, a hang-up would be reported again and again: such an end is not polled.
        for (end, (fd, flags)) in ends.iter_mut().zip(wanted).filter(|(_, (_, flags))| !flags.is_empty()) {
            *end = PollFd::new(fd, flags);
        }
    }
    match poll(&mut polled, PollTimeout::NONE) {
        Err(Errno::EINTR) => return Ok(Ready::default()),
        other => other.why(|| "poll")?,
    };
    let [signal, master, stdin, stdout, _] = polled.map(|fd| fd.revents().unwrap_or(PollFlags::empty()));
    let end = PollFlags::POLLHUP | PollFlags::POLLERR;
    Ok(Ready {
        signal: signal.intersects(PollFlags::POLLIN | end),
        master_in: master.intersects(PollFlags::POLLIN | end),
        master_out: master.intersects(PollFlags::POLLOUT | end),
        stdin: stdin.intersects(PollFlags::POLLIN | end),
        stdout: stdout.intersects(PollFlags::POLLOUT | end),
    })
}

/// Handles the signals that have come; gives the exit status once the process has ended.
fn take_signals(child: &Child, signals: &Signals, console: Option<&Console>) -> Result<Option<i32>> {
    while let Some(info) = signals.0.read_signal().why(|| "reading signals")? {
        let signal = info.ssi_signo as i32;
        if signal == libc::SIGWINCH
            && let Some(console) = console
        {
            console.resize();
        } else if signal == libc::SIGCHLD {
            // What has come besides has nobody to go to any more.
            if let Some(code) = reap(child)? {
                return Ok(Some(code));
            }
        } else {
            match pidfd_send_signal(child.pidfd.as_fd(), signal) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(errno) => return Err(errno).why(|| "forwarding a signal"),
            }
        }
    }
    Ok(None)
}

/// Waits for what has ended: as a subreaper this process gets the container's orphans too.
fn reap(child: &Child) -> Result<Option<i32>> {
    loop {
        match wait_any(libc::WNOHANG) {
            Ok(Some((pid, exit))) if pid == child.pid => return Ok(Some(exit.code())),
            Ok(Some(_)) => {}
            Ok(None) => return Ok(None),
            Err(errno) => return Err(errno).why(|| "waiting for the container"),
        }
    }
}

/// The container's terminal, copied to and from ours through what has been read and not yet been written.
struct Console {
    master: std::fs::File,
    _raw: Raw,
    hung_up: bool,
    input_ended: bool,
    output: Vec<u8>,
    input: Vec<u8>,
}

impl Console {
    fn receive(socket: OwnedFd) -> Result<Console> {
        let mut name = [0; 64];
        let master = channel::recv_fd(socket.as_fd(), &mut name).why(|| "receiving the terminal")?;
        let master = master.ok_or(Errno::EBADF).why(|| "receiving the terminal")?;
        // A full terminal must not keep signals from being forwarded.
        fcntl(&master, FcntlArg::F_SETFL(OFlag::O_RDWR | OFlag::O_NONBLOCK)).why(|| "O_NONBLOCK")?;
        let console = Console {
            master: master.into(),
            _raw: Raw::enter()?,
            hung_up: false,
            input_ended: false,
            output: Vec::new(),
            input: Vec::new(),
        };
        console.resize();
        Ok(console)
    }

    /// Gives the container's terminal the size of ours, if ours is one.
    fn resize(&self) {
        let [stdin, ..] = fd::stdio();
        if let Ok(size) = tty::size(stdin) {
            let _ = tty::set_size(self.master.as_fd(), size);
        }
    }

    fn copy(&mut self, ready: Ready) {
        if ready.master_in && self.output.is_empty() {
            self.read_output();
        }
        if ready.stdin && self.input.is_empty() {
            self.read_input();
        }
        if ready.stdout {
            self.write_output();
        }
        if ready.master_out {
            self.write_input();
        }
    }

    fn read_output(&mut self) {
        let mut buffer = [0; 4096];
        match self.master.read(&mut buffer) {
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            // EIO: nobody has the other end open any more.
            Ok(0) | Err(_) => self.hung_up = true,
            Ok(got) => self.output.extend_from_slice(buffer.get(..got).unwrap_or_default()),
        }
    }

    fn read_input(&mut self) {
        let [stdin, ..] = fd::stdio();
        let mut buffer = [0; 4096];
        // Not through std's buffered handle, which would hold back bytes that poll then does not see.
        match nix::unistd::read(stdin, &mut buffer) {
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Ok(0) | Err(_) => self.input_ended = true,
            Ok(got) => self.input.extend_from_slice(buffer.get(..got).unwrap_or_default()),
        }
    }

    /// One write of what a ready pipe takes without blocking: PIPE_BUF bytes.
    fn write_output(&mut self) {
        let [_, stdout, _] = fd::stdio();
        match nix::unistd::write(stdout, &self.output) {
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Ok(written) => drop(self.output.drain(..written)),
            // Nobody reads it any more; the container is not to hang for that.
            Err(_) => self.output.clear(),
        }
    }

    fn write_input(&mut self) {
        match self.master.write(&self.input) {
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Ok(written) => drop(self.input.drain(..written)),
            Err(_) => self.input.clear(),
        }
    }

    /// What the process has written before it ended.
    fn drain(&mut self) {
        loop {
            while !self.output.is_empty() {
                let [_, stdout, _] = fd::stdio();
                let _ = poll(&mut [PollFd::new(stdout, PollFlags::POLLOUT)], PollTimeout::NONE);
                self.write_output();
            }
            let mut polled = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
            if self.hung_up || !poll(&mut polled, PollTimeout::ZERO).is_ok_and(|count| count > 0) {
                return;
            }
            self.read_output();
        }
    }
}
