//! Descriptors: bulk close-on-exec, duplicates at fixed numbers, and small writes that do not allocate.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use super::{Errno, Result, check, root};

/// Marks every descriptor from `first` on close-on-exec.
///
/// close_range(2) is Linux 5.9 and CLOSE_RANGE_CLOEXEC 5.11: the kernel floor needs the loop for 5.10.
pub fn cloexec_from(first: u32) -> Result<()> {
    // SAFETY: takes three numbers and changes only descriptor flags.
    let ret = check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) });
    match ret {
        Err(Errno::ENOSYS | Errno::EINVAL) => {
            let (soft, _) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)?;
            for fd in first..soft.min(1 << 20) as u32 {
                // SAFETY: a number that is no open descriptor is EBADF.
                let _ = unsafe { libc::fcntl(fd as RawFd, libc::F_SETFD, libc::FD_CLOEXEC) };
            }
            Ok(())
        }
        other => other.map(drop),
    }
}

/// Closes every descriptor from `first` on but `kept`, at a moment when this program has opened no other itself.
pub fn close_from(first: u32, kept: &[BorrowedFd<'_>]) {
    // SAFETY: takes numbers; the caller knows that no owner of these descriptors exists in this process.
    let close = |from: u32, to: u32| check(unsafe { libc::syscall(libc::SYS_close_range, from, to, 0) });
    let mut kept: Vec<u32> = kept.iter().map(|kept| kept.as_raw_fd() as u32).filter(|kept| *kept >= first).collect();
    kept.sort_unstable();
    let mut closed = Ok(0);
    let mut from = first;
    for number in kept {
        if number > from {
            closed = closed.and(close(from, number - 1));
        }
        from = number + 1;
    }
    if closed.and(close(from, u32::MAX)).is_err() {
        // Linux before 5.9: they go at the next execve.
        let _ = cloexec_from(first);
    }
}

/// Another descriptor of the same file, with a number from `least` on.
pub fn duplicate_from(fd: BorrowedFd<'_>, least: i32) -> Result<OwnedFd> {
    // SAFETY: F_DUPFD_CLOEXEC takes a number.
    let new = Errno::result(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, least) })?;
    // SAFETY: the kernel has just made this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(new) })
}

/// Whether the number is an open descriptor.
pub fn is_open(number: i32) -> bool {
    // SAFETY: F_GETFD reads a flag; a number that is no open descriptor is EBADF.
    unsafe { libc::fcntl(number, libc::F_GETFD) != -1 }
}

/// F_GETFL of a descriptor that the caller of the runtime passed: O_ACCMODE tells what it can be used for.
pub fn status_flags(number: i32) -> Result<i32> {
    // SAFETY: F_GETFL reads flags; a number that is no open descriptor is EBADF.
    Errno::result(unsafe { libc::fcntl(number, libc::F_GETFL) })
}

/// Lets the descriptor `number`, which the caller of the runtime passed, survive execve.
pub fn keep(number: i32) -> Result<()> {
    // SAFETY: F_SETFD changes a flag; a number that is no open descriptor is EBADF.
    Errno::result(unsafe { libc::fcntl(number, libc::F_SETFD, 0) }).map(drop)
}

/// Makes `number` refer to what `fd` refers to, open across execve.
pub fn dup_to(fd: BorrowedFd<'_>, number: i32) -> Result<()> {
    if fd.as_raw_fd() == number {
        return keep(number);
    }
    // SAFETY: dup2 of a live descriptor; the numbers passed are 0, 1, 2 and those that the plan reserved.
    Errno::result(unsafe { libc::dup2(fd.as_raw_fd(), number) }).map(drop)
}

/// Takes over a descriptor that the caller of the runtime passed by number (`--pidfd-socket` and the like).
pub fn adopt(number: i32) -> Result<OwnedFd> {
    // SAFETY: F_DUPFD_CLOEXEC of a number that is no open descriptor is EBADF; the result is new.
    let new = Errno::result(unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) })?;
    // SAFETY: the kernel has just made this descriptor and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(new) })
}

/// As [`adopt`], for a descriptor whose end of file somebody waits for: the number itself is closed.
pub fn take_over(number: i32) -> Result<OwnedFd> {
    let own = adopt(number)?;
    // SAFETY: the caller of the runtime passed the number for this purpose, and nobody owns it.
    let _ = unsafe { libc::close(number) };
    Ok(own)
}

/// openat(2) with O_CLOEXEC added.
pub fn openat(dir: BorrowedFd<'_>, path: &CStr, flags: libc::c_int, mode: libc::mode_t) -> Result<OwnedFd> {
    // SAFETY: the path is a C string that outlives the call.
    let fd = unsafe { libc::openat(dir.as_raw_fd(), path.as_ptr(), flags | libc::O_CLOEXEC, mode) };
    // SAFETY: a descriptor just made, owned by nobody else.
    Errno::result(fd).map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// open(2) with O_CLOEXEC added.
pub fn open(path: &CStr, flags: libc::c_int, mode: libc::mode_t) -> Result<OwnedFd> {
    openat(cwd(), path, flags, mode)
}

/// A path without links, and what it leads to: as realpath(3), with one question instead of one for each part.
pub fn real_path(path: &Path) -> std::io::Result<(PathBuf, libc::mode_t)> {
    let name = CString::new(path.as_os_str().as_encoded_bytes())?;
    // What has neither links nor dots is the answer already.
    if is_plain(name.as_bytes())
        && let Ok(file) = root::openat2(cwd(), &name, libc::O_PATH, 0, libc::RESOLVE_NO_SYMLINKS)
    {
        return Ok((path.to_owned(), stat(file.as_fd())?.st_mode));
    }
    let file = open(&name, libc::O_PATH, 0)?;
    let real = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    Ok((real, stat(file.as_fd())?.st_mode))
}

/// Whether a path is absolute and names each directory once: no `.`, `..` or doubled slash.
pub fn is_plain(path: &[u8]) -> bool {
    let is_name = |part: &[u8]| !matches!(part, b"" | b"." | b"..");
    path.strip_prefix(b"/").is_some_and(|rest| rest.split(|byte| *byte == b'/').all(is_name))
}

/// AT_FDCWD as a descriptor to pass to the *at calls.
pub fn cwd() -> BorrowedFd<'static> {
    // SAFETY: AT_FDCWD is no descriptor that could be closed, and every *at call accepts it.
    unsafe { BorrowedFd::borrow_raw(libc::AT_FDCWD) }
}

/// Standard input, output and error, without the buffers of std.
pub fn stdio() -> [BorrowedFd<'static>; 3] {
    // SAFETY: never closed by this program (at the latest std's start-up has opened them on /dev/null).
    [0, 1, 2].map(|number| unsafe { BorrowedFd::borrow_raw(number) })
}

/// Writes all of `bytes` in one write(2), as /proc and cgroup files want it; a short write is EIO.
pub fn write_once(fd: BorrowedFd<'_>, bytes: &[u8]) -> Result<()> {
    loop {
        match nix::unistd::write(fd, bytes) {
            Err(Errno::EINTR) => {}
            Ok(n) if n == bytes.len() => return Ok(()),
            Ok(_) => return Err(Errno::EIO),
            Err(errno) => return Err(errno),
        }
    }
}

/// What a file of procfs says, in two reads if it has less than `room` bytes: std would grow its buffer from 32.
pub fn read_whole(path: &CStr, room: usize) -> Result<Vec<u8>> {
    let file = open(path, libc::O_RDONLY, 0)?;
    let (mut bytes, mut len) = (vec![0; room], 0);
    loop {
        if len == bytes.len() {
            bytes.resize(2 * len, 0);
        }
        match nix::unistd::read(&file, bytes.get_mut(len..).unwrap_or_default()) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    bytes.truncate(len);
    Ok(bytes)
}

/// Opens `path` below `dir` for writing and writes `bytes` in one call.
pub fn write_at(dir: BorrowedFd<'_>, path: &CStr, bytes: &[u8]) -> Result<()> {
    let fd = openat(dir, path, libc::O_WRONLY, 0)?;
    write_once(std::os::fd::AsFd::as_fd(&fd), bytes)
}

/// A memfd with the bytes in it, for the standard input of hooks.
pub fn memfd(name: &CStr) -> Result<OwnedFd> {
    // SAFETY: the name is a C string that outlives the call.
    let fd = check(unsafe { libc::syscall(libc::SYS_memfd_create, name.as_ptr(), libc::MFD_CLOEXEC) })?;
    // SAFETY: a descriptor just made, owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// The number of a descriptor, to be printed or put into a path.
pub fn number(fd: BorrowedFd<'_>) -> i32 {
    fd.as_raw_fd()
}

/// The file system type of procfs.
pub const PROC_SUPER_MAGIC: i64 = 0x9fa0;
/// The type of the file system of pipe(2)'s pipes (linux/magic.h).
pub const PIPEFS_MAGIC: i64 = 0x5049_5045;

/// fstatfs(2)'s file system type, such as [`PROC_SUPER_MAGIC`].
// The field's type differs between architectures.
#[allow(clippy::unnecessary_cast)]
pub fn fs_magic(fd: BorrowedFd<'_>) -> Result<i64> {
    let mut buffer = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: the kernel fills the buffer of exactly this type.
    Errno::result(unsafe { libc::fstatfs(fd.as_raw_fd(), buffer.as_mut_ptr()) })?;
    // SAFETY: fstatfs succeeded, so the buffer is initialised.
    Ok(unsafe { buffer.assume_init() }.f_type as i64)
}

/// Closes the child's copy of a descriptor whose owner lives on in the parent; the child never returns to drop it.
pub fn close_early(fd: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: called in the container's init, which never comes back to the frame that owns `fd`.
    Errno::result(unsafe { libc::close(fd.as_raw_fd()) }).map(drop)
}

/// mkdirat(2).
pub fn mkdirat(dir: BorrowedFd<'_>, name: &CStr, mode: libc::mode_t) -> Result<()> {
    // SAFETY: the name is a C string that outlives the call.
    Errno::result(unsafe { libc::mkdirat(dir.as_raw_fd(), name.as_ptr(), mode) }).map(drop)
}

/// mknodat(2).
pub fn mknodat(dir: BorrowedFd<'_>, name: &CStr, mode: libc::mode_t, device: u64) -> Result<()> {
    // SAFETY: the name is a C string that outlives the call.
    Errno::result(unsafe { libc::mknodat(dir.as_raw_fd(), name.as_ptr(), mode, device) }).map(drop)
}

/// symlinkat(2).
pub fn symlinkat(target: &CStr, dir: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    // SAFETY: both are C strings that outlive the call.
    Errno::result(unsafe { libc::symlinkat(target.as_ptr(), dir.as_raw_fd(), name.as_ptr()) }).map(drop)
}

/// unlinkat(2) of a file.
pub fn unlinkat(dir: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    // SAFETY: the name is a C string that outlives the call.
    Errno::result(unsafe { libc::unlinkat(dir.as_raw_fd(), name.as_ptr(), 0) }).map(drop)
}

/// fchownat(2) that does not follow a link in the last name.
pub fn chown_at(dir: BorrowedFd<'_>, name: &CStr, uid: u32, gid: u32) -> Result<()> {
    let flags = libc::AT_SYMLINK_NOFOLLOW;
    // SAFETY: the name is a C string that outlives the call.
    Errno::result(unsafe { libc::fchownat(dir.as_raw_fd(), name.as_ptr(), uid, gid, flags) }).map(drop)
}

/// fchmodat(2); the caller knows that the last name is no link.
pub fn chmod_at(dir: BorrowedFd<'_>, name: &CStr, mode: libc::mode_t) -> Result<()> {
    // SAFETY: the name is a C string that outlives the call.
    Errno::result(unsafe { libc::fchmodat(dir.as_raw_fd(), name.as_ptr(), mode, 0) }).map(drop)
}

/// fstat(2).
pub fn stat(fd: BorrowedFd<'_>) -> Result<libc::stat> {
    let mut stat = std::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the kernel fills the buffer of exactly this type.
    Errno::result(unsafe { libc::fstat(fd.as_raw_fd(), stat.as_mut_ptr()) })?;
    // SAFETY: fstat succeeded, so the buffer is initialised.
    Ok(unsafe { stat.assume_init() })
}

/// fstatat(2) that does not follow a link in the last name.
pub fn stat_at(dir: BorrowedFd<'_>, name: &CStr) -> Result<libc::stat> {
    let mut stat = std::mem::MaybeUninit::<libc::stat>::uninit();
    let flags = libc::AT_SYMLINK_NOFOLLOW;
    // SAFETY: the name is a C string and the kernel fills the buffer of exactly this type.
    Errno::result(unsafe { libc::fstatat(dir.as_raw_fd(), name.as_ptr(), stat.as_mut_ptr(), flags) })?;
    // SAFETY: fstatat succeeded, so the buffer is initialised.
    Ok(unsafe { stat.assume_init() })
}

/// The id of the mount that a descriptor was opened through, as mountinfo has it (statx(2), Linux 5.8).
pub fn mount_id(fd: BorrowedFd<'_>) -> Result<u32> {
    const STATX_MNT_ID: u32 = 0x1000;
    let mut found = std::mem::MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: the path is a constant, and the kernel writes one structure.
    let result = unsafe {
        libc::syscall(
            libc::SYS_statx,
            fd.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            STATX_MNT_ID,
            found.as_mut_ptr(),
        )
    };
    check(result)?;
    // SAFETY: plain data, all of it zero before it was written.
    let found = unsafe { found.assume_init() };
    if found.stx_mask & STATX_MNT_ID == 0 {
        return Err(Errno::ENOSYS);
    }
    u32::try_from(found.stx_mnt_id).map_err(|_| Errno::EOVERFLOW)
}

/// Whether a mode is that of a directory.
pub fn is_dir(mode: libc::mode_t) -> bool {
    mode & libc::S_IFMT == libc::S_IFDIR
}

/// Whether a file is the device of /dev/null.
pub fn is_null_device(stat: &libc::stat) -> bool {
    stat.st_mode & libc::S_IFMT == libc::S_IFCHR && stat.st_rdev == libc::makedev(1, 3)
}

/// fchdir(2).
pub fn fchdir(dir: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: takes a live descriptor.
    Errno::result(unsafe { libc::fchdir(dir.as_raw_fd()) }).map(drop)
}

/// chdir(2).
pub fn chdir(path: &CStr) -> Result<()> {
    // SAFETY: the path is a C string that outlives the call.
    Errno::result(unsafe { libc::chdir(path.as_ptr()) }).map(drop)
}

/// chroot(2).
pub fn chroot(path: &CStr) -> Result<()> {
    // SAFETY: the path is a C string that outlives the call.
    Errno::result(unsafe { libc::chroot(path.as_ptr()) }).map(drop)
}

/// Whether the current directory is below the root: getcwd(2) begins with `(unreachable)` when it is not (CVE-2024-21626).
pub fn cwd_is_reachable() -> bool {
    let mut path = [0u8; libc::PATH_MAX as usize];
    // SAFETY: the kernel writes at most the length that is passed.
    let len = unsafe { libc::syscall(libc::SYS_getcwd, path.as_mut_ptr(), path.len()) };
    len > 0 && path.first() == Some(&b'/')
}

/// The MS_* flags of the mount that a descriptor is on, as a remount must repeat them.
pub fn mount_flags(fd: BorrowedFd<'_>) -> Result<u64> {
    let mut stat = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the library fills the buffer of exactly this type.
    Errno::result(unsafe { libc::fstatvfs(fd.as_raw_fd(), stat.as_mut_ptr()) })?;
    // SAFETY: fstatvfs succeeded, so the buffer is initialised.
    let flags = unsafe { stat.assume_init() }.f_flag;
    /// Not in every C library's headers.
    const ST_RELATIME: u64 = 4096;
    let pairs = [
        (libc::ST_RDONLY, libc::MS_RDONLY),
        (libc::ST_NOSUID, libc::MS_NOSUID),
        (libc::ST_NODEV, libc::MS_NODEV),
        (libc::ST_NOEXEC, libc::MS_NOEXEC),
        (libc::ST_NOATIME, libc::MS_NOATIME),
        (libc::ST_NODIRATIME, libc::MS_NODIRATIME),
        (ST_RELATIME, libc::MS_RELATIME),
    ];
    Ok(pairs.iter().filter(|(on, _)| flags & on != 0).fold(0, |sum, (_, flag)| sum | flag))
}

/// fchown(2).
pub fn fchown(fd: BorrowedFd<'_>, uid: u32, gid: u32) -> Result<()> {
    // SAFETY: takes a live descriptor and numbers.
    Errno::result(unsafe { libc::fchown(fd.as_raw_fd(), uid, gid) }).map(drop)
}

/// Whether the process may execute what the path names, by its effective ids, and that it is no directory.
pub fn check_executable(path: &CStr) -> Result<()> {
    let mut stat = std::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the path is a C string and the kernel fills the buffer of exactly this type.
    Errno::result(unsafe { libc::stat(path.as_ptr(), stat.as_mut_ptr()) })?;
    // SAFETY: stat succeeded, so the buffer is initialised.
    if is_dir(unsafe { stat.assume_init() }.st_mode) {
        return Err(Errno::EISDIR);
    }
    // SAFETY: the path is a C string that outlives the call.
    let ret = check(unsafe {
        libc::syscall(libc::SYS_faccessat2, libc::AT_FDCWD, path.as_ptr(), libc::X_OK, libc::AT_EACCESS)
    });
    match ret {
        // Linux before 5.8, or a seccomp filter that hides the call: the real ids equal the effective ones here.
        Err(Errno::ENOSYS | Errno::EPERM) => {
            // SAFETY: the path is a C string that outlives the call.
            Errno::result(unsafe { libc::access(path.as_ptr(), libc::X_OK) }).map(drop)
        }
        other => other.map(drop),
    }
}

/// Sets the file position to the beginning.
pub fn rewind(fd: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: takes a live descriptor and numbers.
    Errno::result(unsafe { libc::lseek(fd.as_raw_fd(), 0, libc::SEEK_SET) }).map(drop)
}

/// For a descriptor that stays open until execve, whoever else gets to know its number.
pub trait IntoNumber {
    /// The number; nobody closes it any more.
    fn into_number(self) -> i32;
}

impl IntoNumber for OwnedFd {
    fn into_number(self) -> i32 {
        std::os::fd::IntoRawFd::into_raw_fd(self)
    }
}

/// readlinkat(2): EINVAL when it is no link.
pub fn readlinkat(dir: BorrowedFd<'_>, name: &CStr, room: &mut [u8]) -> Result<usize> {
    // SAFETY: the name is a C string, and the kernel writes at most the length of `room`.
    let len = unsafe { libc::readlinkat(dir.as_raw_fd(), name.as_ptr(), room.as_mut_ptr().cast(), room.len()) };
    Errno::result(len).map(|len| len as usize)
}
