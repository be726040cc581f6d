//! A cgroup's directory as a descriptor: its files are read and written below it, each in as few calls as the kernel wants.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::anyhow;
use nix::errno::Errno;
use nix::sys::stat::Mode;
use nix::unistd::UnlinkatFlags;

use crate::error::{Result, Why};
use crate::sys::{self, fd};

/// An open cgroup directory and its path, for messages.
#[derive(Debug)]
pub(super) struct Dir {
    fd: OwnedFd,
    pub path: String,
}

/// The bits of a cgroup directory, as mkdir(1) would make it.
const MODE: Mode = Mode::from_bits_truncate(0o755);

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Dir {
    /// Opens the directory at an absolute path.
    pub fn open(path: &str) -> sys::Result<Dir> {
        Dir::open_at(fd::cwd(), path, path)
    }

    fn open_at(dir: BorrowedFd<'_>, name: &str, path: &str) -> sys::Result<Dir> {
        // No file of a cgroup directory is a symbolic link; one in the way is not a cgroup.
        let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW;
        Ok(Dir { fd: fd::openat(dir, &c_string(name)?, flags, 0)?, path: path.to_owned() })
    }

    /// The directory behind a plan's slot.
    pub fn adopt(fd: OwnedFd, path: &str) -> Dir {
        Dir { fd, path: path.to_owned() }
    }

    /// Gives the descriptor back.
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// Opens a cgroup below this one; `name` is relative.
    pub fn child(&self, name: &str) -> sys::Result<Dir> {
        Dir::open_at(self.as_fd(), name, &join(&self.path, name))
    }

    /// A file's text.
    pub fn read(&self, file: &str) -> sys::Result<String> {
        let file = fd::openat(self.as_fd(), &c_string(file)?, libc::O_RDONLY, 0)?;
        read_all(file.as_fd())
    }

    /// The one number of a file; `max` is [`u64::MAX`]. `None` when the file is not there or holds something else.
    pub fn number(&self, file: &str) -> Option<u64> {
        let text = self.read(file).ok()?;
        match text.trim() {
            "max" => Some(u64::MAX),
            digits => digits.parse().ok(),
        }
    }

    /// The number behind a key of a flat keyed file, such as `oom_kill` in memory.events.
    pub fn keyed(&self, file: &str, key: &str) -> Option<u64> {
        let text = self.read(file).ok()?;
        text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
    }

    /// Writes a value in one call.
    pub fn write(&self, file: &str, value: &str) -> sys::Result<()> {
        fd::write_at(self.as_fd(), &c_string(file)?, value.as_bytes())
    }

    /// Opens a file for a series of writes, or for poll(2).
    pub fn file(&self, file: &str, flags: i32) -> sys::Result<OwnedFd> {
        fd::openat(self.as_fd(), &c_string(file)?, flags, 0)
    }

    /// Makes a cgroup below this one.
    pub fn make(&self, name: &str) -> sys::Result<()> {
        nix::sys::stat::mkdirat(self.as_fd(), name, MODE)
    }

    /// Removes a cgroup below this one.
    pub fn remove(&self, name: &str) -> sys::Result<()> {
        nix::unistd::unlinkat(self.as_fd(), name, UnlinkatFlags::RemoveDir)
    }

    /// The names of the cgroups below this one.
    pub fn children(&self) -> Vec<String> {
        // A cgroup removed meanwhile has none.
        let Ok(entries) = std::fs::read_dir(&self.path) else { return Vec::new() };
        let dirs = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        dirs.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }
}

/// Makes the directory at an absolute path; one that is there already is fine.
pub(super) fn make(path: &str) -> sys::Result<()> {
    match nix::sys::stat::mkdirat(fd::cwd(), path, MODE) {
        Err(Errno::EEXIST) => Ok(()),
        other => other,
    }
}

/// Removes the directory at an absolute path.
pub(super) fn remove(path: &str) -> sys::Result<()> {
    nix::unistd::unlinkat(fd::cwd(), path, UnlinkatFlags::RemoveDir)
}

/// Opens a directory for a step; the error names it.
pub(super) fn open(path: &str) -> Result<Dir> {
    Dir::open(path).why(|| format!("open {path}"))
}

/// The text of one file of a cgroup, by its path.
pub(super) fn read(path: &str) -> sys::Result<String> {
    read_all(fd::open(&c_string(path)?, libc::O_RDONLY | libc::O_NOFOLLOW, 0)?.as_fd())
}

/// Everything that a file holds, from its beginning.
pub(super) fn read_all(file: BorrowedFd<'_>) -> sys::Result<String> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match nix::sys::uio::pread(file, &mut chunk, bytes.len() as i64) {
            Ok(0) => return String::from_utf8(bytes).map_err(|_| Errno::EILSEQ),
            Ok(n) => {
                bytes.extend_from_slice(chunk.get(..n).unwrap_or_default());
                // kernfs gives as much as fits; less than that is the end, which saves a call.
                if n < chunk.len() / 2 {
                    return String::from_utf8(bytes).map_err(|_| Errno::EILSEQ);
                }
            }
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Whether the errno means that the cgroup is gone.
pub(super) fn is_gone(errno: Errno) -> bool {
    matches!(errno, Errno::ENOENT | Errno::ENODEV)
}

/// Whether the errno is what an unprivileged user gets from cgroup files.
pub(super) fn is_forbidden(errno: Errno) -> bool {
    matches!(errno, Errno::EACCES | Errno::EPERM | Errno::EROFS)
}

/// A name as the kernel takes it; a NUL byte in it is EINVAL.
fn c_string(text: &str) -> sys::Result<CString> {
    CString::new(text).map_err(|_| Errno::EINVAL)
}

/// Two paths joined; the second is relative, and "" stays out.
pub(super) fn join(path: &str, name: &str) -> String {
    if name.is_empty() { path.to_owned() } else { format!("{}/{name}", path.trim_end_matches('/')) }
}

/// The text of a path without `.`, `..` and doubled slashes, and without a leading slash; `..` stops at the root.
pub(super) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    parts.join("/")
}

/// The place of a `--cgroup` path or the like below `base`.
///
/// # Errors
/// When `..` would lead out of it.
pub(super) fn below(base: &str, sub: &str) -> Result<String> {
    let mut depth = 0_i32;
    for part in sub.split('/') {
        match part {
            "" | "." => {}
            ".." => depth -= 1,
            _ => depth += 1,
        }
        if depth < 0 {
            return Err(anyhow!("bad sub cgroup path: {sub}"));
        }
    }
    Ok(join(base, &clean(sub)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_never_lead_out_of_the_root() {
        for (given, cleaned) in [
            ("/a/b", "a/b"),
            ("a//b/./c/", "a/b/c"),
            ("/../../../../etc", "etc"),
            ("a/../../b", "b"),
            ("/", ""),
            ("..", ""),
        ] {
            assert_eq!(clean(given), cleaned, "{given}");
        }
    }

    #[test]
    fn a_sub_cgroup_stays_below_its_base() {
        assert_eq!(below("/cg/x", "a/../b").unwrap(), "/cg/x/b");
        assert_eq!(below("/cg/x", "/").unwrap(), "/cg/x");
        assert!(below("/cg/x", "../y").is_err());
        assert!(below("/cg/x", "a/../../x2").is_err());
    }
}
