//! Processes: named by pidfd, waited for, executed, scheduled.

use std::cell::Cell;
use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{Errno, Result, check};

/// prctl(2), for the options that take numbers only.
pub fn prctl(option: i32, a: u64, b: u64, c: u64, d: u64) -> Result<i32> {
    // SAFETY: the callers in this crate pass options whose arguments are numbers.
    Errno::result(unsafe { libc::prctl(option, a, b, c, d) })
}

/// pidfd_open(2).
pub fn pidfd_open(pid: i32) -> Result<OwnedFd> {
    // SAFETY: takes numbers.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: a descriptor just made, owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// How many threads the machine has, of all processes and of the kernel, modulo 65,536 (sysinfo(2)).
pub fn threads() -> Result<u16> {
    let mut info = MaybeUninit::<libc::sysinfo>::uninit();
    // SAFETY: the kernel writes one structure.
    Errno::result(unsafe { libc::sysinfo(info.as_mut_ptr()) })?;
    // SAFETY: the call has succeeded, so it is written.
    Ok(unsafe { info.assume_init() }.procs)
}

/// A handle of a process by its pid, for signals and [`await_end`]: a pidfd, or where a seccomp filter hides
/// pidfd_open(2) the process's directory in procfs, which stands for the same process as long as it is open.
///
/// # Errors
/// ESRCH when there is no such process, EINVAL when the number is a thread's. Allocates: outside only.
pub fn handle(pid: i32) -> Result<OwnedFd> {
    match pidfd_open(pid) {
        Err(Errno::ENOSYS | Errno::EPERM) => {
            let path = CString::new(format!("/proc/{pid}")).map_err(|_| Errno::EINVAL)?;
            super::fd::open(&path, libc::O_RDONLY | libc::O_DIRECTORY, 0)
                .map_err(|errno| if errno == Errno::ENOENT { Errno::ESRCH } else { errno })
        }
        other => other,
    }
}

/// Waits until the process of a handle has ended, a zombie counting as that; false when it has not in time.
///
/// # Errors
/// Those of poll(2). Allocates: outside only.
pub fn await_end(handle: BorrowedFd<'_>, patience: Duration) -> Result<bool> {
    const LOOK: Duration = Duration::from_millis(5);
    let end = Instant::now() + patience;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(handle, PollFlags::POLLIN)], timeout) {
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
            Ok(0) if left.is_zero() => return Ok(false),
            Ok(0) => {}
            Ok(_) if has_ended(handle)? => return Ok(true),
            Ok(_) if left.is_zero() => return Ok(false),
            // Only a pidfd can be waited for.
            Ok(_) => std::thread::sleep(left.min(LOOK)),
        }
    }
}

/// Whether the process of a handle that poll(2) calls ready has ended.
///
/// # Errors
/// Those of fstatfs(2).
pub fn has_ended(handle: BorrowedFd<'_>) -> Result<bool> {
    if super::fd::fs_magic(handle)? != super::fd::PROC_SUPER_MAGIC {
        return Ok(true);
    }
    let Ok(file) = super::fd::openat(handle, c"stat", libc::O_RDONLY, 0) else { return Ok(true) };
    let mut text = [0; 512];
    let got = nix::unistd::read(&file, &mut text).unwrap_or(0);
    let text = text.get(..got).unwrap_or_default();
    let state = text.iter().rposition(|byte| *byte == b')').and_then(|at| text.get(at + 2));
    Ok(matches!(state, None | Some(b'Z' | b'X')))
}

/// pidfd_send_signal(2), to a pidfd or a process's directory in procfs; signal 0 asks whether the process is there.
pub fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<()> {
    let none = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: takes a live descriptor, numbers and a null siginfo.
    check(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, none, 0) }).map(drop)
}

/// pidfd_getfd(2): a copy of another process's descriptor (Linux 5.6).
pub fn pidfd_getfd(pidfd: BorrowedFd<'_>, number: i32) -> Result<OwnedFd> {
    // SAFETY: takes a live descriptor and numbers.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), number, 0) })?;
    // SAFETY: a descriptor just made, owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// The pid of the process behind a pidfd, as this process sees it; -1 once it has been reaped. Allocates: outside only.
pub fn pid_of(pidfd: BorrowedFd<'_>) -> std::io::Result<i32> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd()))?;
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok());
    pid.ok_or_else(|| Errno::EINVAL.into())
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// With this status.
    Status(i32),
    /// By this signal.
    Signal(i32),
}

impl Exit {
    /// The shell's convention: the status, or 128 + the signal.
    pub fn code(self) -> i32 {
        match self {
            Exit::Status(status) => status,
            Exit::Signal(signal) => 128 + signal,
        }
    }
}

fn exit_of(info: &libc::siginfo_t) -> Exit {
    // SAFETY: waitid filled the structure, and for SIGCHLD si_status is the member in use.
    let status = unsafe { info.si_status() };
    if info.si_code == libc::CLD_EXITED { Exit::Status(status) } else { Exit::Signal(status) }
}

/// waitid(2) for the child behind a pidfd: reaps it. `None` with WNOHANG when it still runs.
pub fn wait(pidfd: BorrowedFd<'_>, options: i32) -> Result<Option<Exit>> {
    wait_id(libc::P_PIDFD, pidfd.as_raw_fd() as u32, options).map(|found| found.map(|(_, exit)| exit))
}

/// waitid(2) for any child: its pid and how it ended.
pub fn wait_any(options: i32) -> Result<Option<(i32, Exit)>> {
    wait_id(libc::P_ALL, 0, options)
}

fn wait_id(kind: libc::idtype_t, id: u32, options: i32) -> Result<Option<(i32, Exit)>> {
    loop {
        // SAFETY: siginfo_t is plain data, for which all zeroes is a valid value.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: the structure outlives the call.
        let ret = unsafe { libc::waitid(kind, id, &raw mut info, libc::WEXITED | options) };
        match Errno::result(ret) {
            Err(Errno::EINTR) => continue,
            other => other?,
        };
        // SAFETY: waitid filled the structure (with zeroes when WNOHANG found nothing).
        let pid = unsafe { info.si_pid() };
        return Ok((pid != 0).then(|| (pid, exit_of(&info))));
    }
}

/// Ends this process without running any cleanup of the library.
pub fn exit(status: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(status) }
}

/// Makes this process the reaper of its orphaned descendants.
pub fn set_child_subreaper() -> Result<()> {
    prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0).map(drop)
}

/// PR_SET_DUMPABLE: 0 hides /proc/PID/{exe,fd,mem…} from processes without CAP_SYS_PTRACE over it.
pub fn set_dumpable(dumpable: u64) -> Result<()> {
    prctl(libc::PR_SET_DUMPABLE, dumpable, 0, 0, 0).map(drop)
}

/// PR_SET_NO_NEW_PRIVS.
pub fn set_no_new_privs() -> Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0).map(drop)
}

/// A null-terminated array of C strings, made before the clone.
#[derive(Debug)]
pub struct Strings {
    strings: Vec<CString>,
    pointers: Vec<Cell<*const libc::c_char>>,
}

impl Strings {
    /// Takes the strings over; their heap buffers do not move when the vector does.
    pub fn new(strings: Vec<CString>) -> Strings {
        let mut pointers: Vec<_> = strings.iter().map(|s| Cell::new(s.as_ptr())).collect();
        pointers.push(Cell::new(std::ptr::null()));
        Strings { strings, pointers }
    }

    /// As [`Strings::new`] with one empty place at the end, to be filled by [`Strings::execve_with`].
    pub fn with_room(strings: Vec<CString>) -> Strings {
        let mut made = Strings::new(strings);
        made.pointers.push(Cell::new(std::ptr::null()));
        made
    }

    /// As [`Strings::execve`], with `extra` in the place that `with_room` kept.
    pub fn execve_with(&self, extra: &CStr, path: &CStr, argv: &Strings) -> Errno {
        let len = self.pointers.len();
        if len == self.strings.len() + 2
            && let Some(place) = self.pointers.get(len - 2)
        {
            place.set(extra.as_ptr());
        }
        self.execve(path, argv)
    }

    /// What execve(2) takes. A `Cell` has the layout of what it holds.
    fn array(&self) -> *const *const libc::c_char {
        self.pointers.as_ptr().cast()
    }

    /// The strings.
    pub fn as_slice(&self) -> &[CString] {
        &self.strings
    }

    /// execve(2) with these strings as the environment: returns only when it failed.
    pub fn execve(&self, path: &CStr, argv: &Strings) -> Errno {
        // SAFETY: both arrays are null-terminated and point at C strings owned by `self` and `argv`.
        unsafe { libc::execve(path.as_ptr(), argv.array(), self.array()) };
        Errno::last()
    }

    /// execveat(2) of the file that `fd` is open on.
    pub fn execveat(&self, fd: BorrowedFd<'_>, argv: &Strings) -> Errno {
        let (argv, envp) = (argv.array(), self.array());
        // SAFETY: both arrays are null-terminated and point at C strings owned by `self` and `argv`.
        unsafe { libc::syscall(libc::SYS_execveat, fd.as_raw_fd(), c"".as_ptr(), argv, envp, libc::AT_EMPTY_PATH) };
        Errno::last()
    }
}

/// Has `setup` run in the new process, right before it executes the program.
pub fn before_exec(command: &mut std::process::Command, mut setup: impl FnMut() -> Result<()> + Send + Sync + 'static) {
    use std::os::unix::process::CommandExt;
    let setup = move || setup().map_err(std::io::Error::from);
    // SAFETY: the runtime has one thread, so the copy of it that runs this holds no lock of another's.
    unsafe { command.pre_exec(setup) };
}

/// What a signal means, in lower case as Go has it: `bad system call`.
pub fn signal_text(signal: i32) -> String {
    // SAFETY: gives null, or a C string that lives until the next call; there are no threads.
    let text = unsafe { libc::strsignal(signal) };
    if text.is_null() {
        return "unknown signal".into();
    }
    // SAFETY: not null, and terminated by the C library.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().to_lowercase()
}

/// Lets SIGHUP, SIGINT, SIGQUIT and SIGTERM end this process though it is the first of its pid namespace, where
/// the kernel drops signals that have their default action. execve(2) undoes it.
pub fn die_of_signals() -> Result<()> {
    extern "C" fn die(signal: libc::c_int) {
        // SAFETY: takes a number and does not return; allowed in signal handlers.
        unsafe { libc::_exit(128 + signal) }
    }
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM] {
        // SAFETY: sigaction is plain data.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        // SAFETY: as above, for what is there now.
        let mut now: libc::sigaction = unsafe { std::mem::zeroed() };
        // SAFETY: writes the present action and sets none.
        Errno::result(unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut now) })?;
        // What the caller has it ignore (nohup(1)) stays ignored, in the program too.
        if now.sa_sigaction == libc::SIG_DFL {
            action.sa_sigaction = die as extern "C" fn(libc::c_int) as usize;
            // SAFETY: the handler calls only what is safe in a signal handler.
            Errno::result(unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) })?;
        }
    }
    Ok(())
}

/// prlimit(2): sets both limits of a process, 0 for this one.
pub fn prlimit(pid: i32, resource: u32, soft: u64, hard: u64) -> Result<()> {
    let new = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    let none = std::ptr::null_mut::<libc::rlimit64>();
    // SAFETY: reads one structure of the right type and writes none.
    check(unsafe { libc::syscall(libc::SYS_prlimit64, pid, resource, &raw const new, none) }).map(drop)
}

/// The soft and hard limit of this process.
pub fn getrlimit(resource: u32) -> Result<(u64, u64)> {
    let mut old = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    let none = std::ptr::null::<libc::rlimit64>();
    // SAFETY: writes one structure of the right type and reads none.
    check(unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, none, &raw mut old) })?;
    Ok((old.rlim_cur, old.rlim_max))
}

/// personality(2).
pub fn personality(persona: u64) -> Result<()> {
    // SAFETY: takes a number.
    check(unsafe { libc::syscall(libc::SYS_personality, persona) }).map(drop)
}

/// ioprio_set(2) of this process: class and level.
pub fn ioprio_set(class: u32, level: u32) -> Result<()> {
    const IOPRIO_WHO_PROCESS: u32 = 1;
    // SAFETY: takes numbers.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, class << 13 | level) }).map(drop)
}

/// The structure of sched_setattr(2), its second version; a kernel of the first one (before 5.3) takes it, as the
/// members that it does not know are 0.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct SchedAttr {
    /// The size of this structure.
    pub size: u32,
    /// SCHED_*.
    pub policy: u32,
    /// SCHED_FLAG_*.
    pub flags: u64,
    /// For SCHED_OTHER and SCHED_BATCH.
    pub nice: i32,
    /// For SCHED_FIFO and SCHED_RR.
    pub priority: u32,
    /// For SCHED_DEADLINE, nanoseconds.
    pub runtime: u64,
    /// For SCHED_DEADLINE, nanoseconds.
    pub deadline: u64,
    /// For SCHED_DEADLINE, nanoseconds.
    pub period: u64,
    /// For SCHED_FLAG_UTIL_CLAMP_MIN.
    pub util_min: u32,
    /// For SCHED_FLAG_UTIL_CLAMP_MAX.
    pub util_max: u32,
}

/// sched_setattr(2) of a process, 0 for this one.
pub fn sched_setattr(pid: i32, attr: SchedAttr) -> Result<()> {
    let attr = SchedAttr { size: size_of::<SchedAttr>() as u32, ..attr };
    // SAFETY: the structure's own size tells the kernel how much of it to read.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, pid, &raw const attr, 0) }).map(drop)
}

/// A set of processors as the kernel's bit mask.
pub type CpuMask = [u64; 128];

/// sched_setaffinity(2) of a process, 0 for this one.
pub fn sched_setaffinity(pid: i32, mask: &CpuMask) -> Result<()> {
    // SAFETY: the pointer and size describe the mask.
    check(unsafe { libc::syscall(libc::SYS_sched_setaffinity, pid, size_of::<CpuMask>(), mask.as_ptr()) }).map(drop)
}

/// set_mempolicy(2) of this process: mode with flags, and the nodes as a bit mask.
pub fn set_mempolicy(mode: u32, nodes: &CpuMask) -> Result<()> {
    let bits = nodes.iter().rposition(|word| *word != 0).map_or(0, |last| (last + 1) * 64 + 1);
    let mask = if bits == 0 { std::ptr::null() } else { nodes.as_ptr() };
    // SAFETY: the kernel reads `bits` - 1 bits of the mask, which is longer than that.
    check(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, mask, bits) }).map(drop)
}

/// Makes children wait to be reaped, whatever the caller of this program has set.
pub fn default_sigchld() {
    // SAFETY: restores a default disposition.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
}

/// Unblocks all signals and gives them their default actions back, for the program that is about to be executed.
pub fn default_signals() -> Result<()> {
    // SAFETY: sigset_t is plain data that sigemptyset fills.
    let mut none: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set is a live local.
    unsafe { libc::sigemptyset(&raw mut none) };
    // SAFETY: reads the set and writes no old one.
    Errno::result(unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut()) })?;
    // What is ignored stays so over execve: SIGPIPE by Rust's start-up, others by the caller. As runc (Go) does,
    // SIGHUP and SIGINT are left, so that nohup(1) reaches the container.
    // The kernel's own call, as C libraries keep 32 to 34 for themselves. All zeroes is SIG_DFL without flags.
    let default = [0u64; 4];
    let none = std::ptr::null_mut::<u64>();
    let left = [libc::SIGHUP, libc::SIGINT, libc::SIGKILL, libc::SIGSTOP];
    for signal in (1..=64).filter(|signal| !left.contains(signal)) {
        // SAFETY: `default` is as long as the kernel's structure, and the size passed is that of its signal set.
        check(unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), none, size_of::<u64>()) })?;
    }
    Ok(())
}
