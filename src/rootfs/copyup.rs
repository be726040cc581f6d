//! `tmpcopyup`: what a tmpfs hides is copied into it. The option is no part of the specification;
//! Podman gives it to `--tmpfs` and to the writable places of `--read-only`.
//!
//! The files belong to an image that nobody vouches for, and another container may have the same
//! root and change it meanwhile. So the copy goes from descriptor to descriptor, name by name, and
//! follows no link. It runs in the container's init: buffers are on the stack, and the depth of the
//! tree is bounded, as each level holds two descriptors.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use crate::sys::copy::{self, getdents64, names};
use crate::sys::{self, fd, root};

/// How many directories below the first one are copied. Deeper trees are refused.
pub const DEPTH: u32 = 128;

/// What failed: the copy itself, or the depth of the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failed {
    /// A system call.
    Call(Errno),
    /// There are directories below the level [`DEPTH`].
    Depth,
}

impl From<Errno> for Failed {
    fn from(errno: Errno) -> Failed {
        Failed::Call(errno)
    }
}

/// Copies all that is in the directory `from` into the empty directory `to`.
///
/// # Errors
/// Those of the calls that read and write; owners and extended attributes that cannot be kept are not errors.
pub fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), Failed> {
    let from = fd::openat(from, c".", libc::O_RDONLY | libc::O_DIRECTORY, 0)?;
    copy_entries(from.as_fd(), to, DEPTH)
}

/// One component, opened where it stands: no link, no way out.
fn open(dir: BorrowedFd<'_>, name: &CStr, flags: i32) -> sys::Result<OwnedFd> {
    let resolve = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_MAGICLINKS | libc::RESOLVE_NO_SYMLINKS;
    root::openat2(dir, name, flags | libc::O_NOFOLLOW, 0, resolve)
}

fn copy_entries(from: BorrowedFd<'_>, to: BorrowedFd<'_>, depth: u32) -> Result<(), Failed> {
    let mut buffer = [0; 2048];
    loop {
        let len = getdents64(from, &mut buffer)?;
        if len == 0 {
            return Ok(());
        }
        for name in names(buffer.get(..len).unwrap_or_default()) {
            let found = match fd::stat_at(from, name) {
                // Removed meanwhile.
                Err(Errno::ENOENT) => continue,
                other => other?,
            };
            match found.st_mode & libc::S_IFMT {
                libc::S_IFDIR => copy_dir(from, to, name, depth)?,
                libc::S_IFREG => copy_file(from, to, name)?,
                libc::S_IFLNK => copy_link(from, to, name, &found)?,
                _ => copy_node(to, name, &found)?,
            }
        }
    }
}

fn copy_dir(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, depth: u32) -> Result<(), Failed> {
    let Some(left) = depth.checked_sub(1) else { return Err(Failed::Depth) };
    let flags = libc::O_RDONLY | libc::O_DIRECTORY;
    let source = open(from, name, flags)?;
    fd::mkdirat(to, name, 0o700)?;
    let target = open(to, name, flags)?;
    copy_entries(source.as_fd(), target.as_fd(), left)?;
    // The last thing: an entry made below would change the times again.
    Ok(copy_attributes(source.as_fd(), target.as_fd())?)
}

fn copy_file(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr) -> sys::Result<()> {
    // Not to wait for a writer, should a fifo have been put in the file's place.
    let source = open(from, name, libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY)?;
    let found = fd::stat(source.as_fd())?;
    if found.st_mode & libc::S_IFMT != libc::S_IFREG {
        return Err(Errno::ESTALE);
    }
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW;
    let target = fd::openat(to, name, flags, 0o600)?;
    copy_data(source.as_fd(), target.as_fd(), found.st_size)?;
    copy_attributes(source.as_fd(), target.as_fd())
}

/// The contents without the holes: /var/log/lastlog may be many gigabytes long, nearly all of them holes.
fn copy_data(from: BorrowedFd<'_>, to: BorrowedFd<'_>, size: i64) -> sys::Result<()> {
    let mut at = 0;
    loop {
        let data = match copy::lseek(from, at, libc::SEEK_DATA) {
            Err(Errno::ENXIO) => break,
            // A file system that knows nothing of holes.
            Err(Errno::EINVAL | Errno::EOPNOTSUPP) => at,
            other => other?,
        };
        let hole = copy::lseek(from, data, libc::SEEK_HOLE).unwrap_or(i64::MAX);
        copy::lseek(to, data, libc::SEEK_SET)?;
        at = copy_piece(from, to, data, hole)?;
        if at < hole {
            break;
        }
    }
    nix::unistd::ftruncate(to, at.max(size))
}

/// Copies the bytes from `at` up to `end` or the end of the file; gives back where it stopped.
///
/// copy_file_range(2) would gain nothing, as the target is always another file system (and 5.19 refuses those of
/// another type). sendfile(2) is refused by some files, such as those of FUSE with direct_io; these are read and written.
fn copy_piece(from: BorrowedFd<'_>, to: BorrowedFd<'_>, mut at: i64, end: i64) -> sys::Result<i64> {
    const AT_ONCE: i64 = 1 << 30;
    while at < end {
        let count = (end - at).min(AT_ONCE) as usize;
        match copy::sendfile(to, from, &mut at, count) {
            Ok(0) => break,
            Ok(_) | Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(Errno::EINVAL | Errno::ENOSYS) => return copy_bytes(from, to, at, end),
            Err(errno) => return Err(errno),
        }
    }
    Ok(at)
}

// Not inlined, as the other functions with large buffers, lest each level of the tree holds them.
#[inline(never)]
fn copy_bytes(from: BorrowedFd<'_>, to: BorrowedFd<'_>, mut at: i64, end: i64) -> sys::Result<i64> {
    let mut buffer = [0; 16384];
    while at < end {
        let wanted = buffer.get_mut(..(end - at).min(16384) as usize).unwrap_or_default();
        let read = match copy::pread(from, wanted, at) {
            Ok(0) => break,
            Err(Errno::EINTR) => continue,
            other => other?,
        };
        let mut left = buffer.get(..read).unwrap_or_default();
        while !left.is_empty() {
            match nix::unistd::write(to, left) {
                Ok(written) => left = left.get(written..).unwrap_or_default(),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        at += read as i64;
    }
    Ok(at)
}

#[inline(never)]
fn copy_link(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, found: &libc::stat) -> sys::Result<()> {
    let mut buffer = [0; libc::PATH_MAX as usize + 1];
    fd::symlinkat(copy::readlinkat(from, name, &mut buffer)?, to, name)?;
    let _ = keep_owner(fd::chown_at(to, name, found.st_uid, found.st_gid))?;
    copy::set_times_at(to, name, found)
}

/// Devices, fifos and sockets.
fn copy_node(to: BorrowedFd<'_>, name: &CStr, found: &libc::stat) -> sys::Result<()> {
    fd::mknodat(to, name, found.st_mode & libc::S_IFMT | 0o600, found.st_rdev)?;
    let kept = keep_owner(fd::chown_at(to, name, found.st_uid, found.st_gid))?;
    // Nobody else has the tmpfs, so the name is still the node just made.
    fd::chmod_at(to, name, mode(found, kept))?;
    copy::set_times_at(to, name, found)
}

/// Whether a copy belongs to the owner of its original.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Kept,
    /// An id that is not mapped in the user namespace cannot be given.
    Lost,
}

fn keep_owner(result: sys::Result<()>) -> sys::Result<Owner> {
    match result {
        Ok(()) => Ok(Owner::Kept),
        Err(Errno::EINVAL | Errno::EPERM) => Ok(Owner::Lost),
        Err(errno) => Err(errno),
    }
}

/// The permissions for a copy; a set-id program that lost its owner would be one of root's.
fn mode(found: &libc::stat, owner: Owner) -> libc::mode_t {
    let mode = found.st_mode & 0o7777;
    if owner == Owner::Lost { mode & !(libc::S_ISUID | libc::S_ISGID) } else { mode }
}

/// Owner, mode, extended attributes and times, in this order: each may change the ones before.
fn copy_attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> sys::Result<()> {
    let found = fd::stat(from)?;
    let owner = keep_owner(fd::fchown(to, found.st_uid, found.st_gid))?;
    copy::fchmod(to, mode(&found, owner))?;
    copy_xattrs(from, to);
    copy::set_times(to, &found)
}

/// As far as the tmpfs takes them: user attributes need Linux 6.6, and a list or value beyond the buffers is left out.
#[inline(never)]
fn copy_xattrs(from: BorrowedFd<'_>, to: BorrowedFd<'_>) {
    let (mut list, mut value) = ([0; 4096], [0; 8192]);
    let Ok(names) = copy::flistxattr(from, &mut list) else { return };
    for name in names.split_inclusive(|byte| *byte == 0) {
        if let Ok(name) = CStr::from_bytes_with_nul(name)
            && let Ok(value) = copy::fgetxattr(from, name, &mut value)
        {
            let _ = copy::fsetxattr(to, name, value);
        }
    }
}

/// Gives the root of the tmpfs the owner, attributes and times of the directory that it hides; its mode was an option.
///
/// # Errors
/// Those of fchown(2) and futimens(2).
pub fn copy_top(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> sys::Result<()> {
    let from = fd::openat(from, c".", libc::O_RDONLY | libc::O_DIRECTORY, 0)?;
    let found = fd::stat(from.as_fd())?;
    let _ = keep_owner(fd::fchown(to, found.st_uid, found.st_gid))?;
    copy_xattrs(from.as_fd(), to);
    copy::set_times(to, &found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_and_writing_copies_the_same_piece_as_sendfile() {
        let path = |name: &str| std::env::temp_dir().join(format!("orlop-copyup-{}-{name}", std::process::id()));
        let bytes: Vec<u8> = (0..50_000).map(|n: u32| (n % 251) as u8).collect();
        std::fs::write(path("from"), &bytes).unwrap();
        let from = std::fs::File::open(path("from")).unwrap();
        type Copy = fn(BorrowedFd<'_>, BorrowedFd<'_>, i64, i64) -> sys::Result<i64>;
        for (copy, name) in [(copy_piece as Copy, "sendfile"), (copy_bytes as Copy, "bytes")] {
            for (end, stops) in [(40_000, 40_000), (i64::MAX, 50_000)] {
                let to = std::fs::File::create(path(name)).unwrap();
                assert_eq!(copy(from.as_fd(), to.as_fd(), 100, end), Ok(stops));
                assert_eq!(std::fs::read(path(name)).unwrap(), bytes[100..stops as usize], "{name}");
            }
            std::fs::remove_file(path(name)).unwrap();
        }
        std::fs::remove_file(path("from")).unwrap();
    }
}
