//! Making what is missing on the way to a mount point, also behind symbolic links that point nowhere yet:
//! images often have /etc/resolv.conf as a link into /run, and callers bind a file there.
//!
//! The way is walked name by name without allocating. What has been walked holds no link, and each step
//! opens it anew below the root with RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS, so that a link that is
//! put there meanwhile is an error and never a way out (CVE-2021-30465, CVE-2024-45310). Where only the last name is
//! missing, the kernel walks the way, with RESOLVE_IN_ROOT.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::{Errno, Result, fd, root};

/// What the last name shall be, where it is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Last {
    /// A directory with this mode.
    Directory(libc::mode_t),
    /// An empty file.
    File,
}

impl Last {
    /// For open(2) afterwards.
    fn flags(self) -> i32 {
        if matches!(self, Last::Directory(_)) { libc::O_DIRECTORY } else { 0 }
    }
}

/// Linux follows as many links.
const MOST_LINKS: u32 = 40;

/// Opens `path` below the root with O_PATH, made where missing; directories on the way have mode 0755.
///
/// # Errors
/// ELOOP for too many links, ENAMETOOLONG, and those of the system calls.
pub fn make(rootfs: BorrowedFd<'_>, path: &CStr, last: Last) -> Result<OwnedFd> {
    match make_last_name(rootfs, path, last) {
        Some(made) => Ok(made),
        None => make_each_name(rootfs, path, last),
    }
}

/// The usual case in few calls: all but the last name is there, and that is missing.
fn make_last_name(rootfs: BorrowedFd<'_>, path: &CStr, last: Last) -> Option<OwnedFd> {
    let bytes = path.to_bytes_with_nul();
    let cut = bytes.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    let name = CStr::from_bytes_with_nul(bytes.get(cut..)?).ok()?;
    if name.is_empty() || name == c"." || name == c".." {
        return None;
    }
    let mut parent = [0; 256];
    parent.get_mut(..cut)?.copy_from_slice(bytes.get(..cut)?);
    let parent = if cut == 0 { c"." } else { CStr::from_bytes_until_nul(&parent).ok()? };
    let dir = root::openat2(rootfs, parent, libc::O_PATH | libc::O_DIRECTORY, 0, root::IN_ROOT).ok()?;
    make_one(dir.as_fd(), name, last).ok()?;
    let resolve = libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_MAGICLINKS;
    root::openat2(dir.as_fd(), name, libc::O_PATH | last.flags(), 0, resolve).ok()
}

/// Its buffers are no part of the usual case's stack.
#[inline(never)]
fn make_each_name(rootfs: BorrowedFd<'_>, path: &CStr, last: Last) -> Result<OwnedFd> {
    let mut done = Text::new();
    let mut rest = Text::new();
    rest.append(path.to_bytes())?;
    let mut links = 0;
    let mut name = Text::new();
    while rest.take_name(&mut name)? {
        match name.bytes() {
            b"." => continue,
            b".." => {
                done.drop_last_name();
                continue;
            }
            _ => {}
        }
        let dir = open(rootfs, &done, libc::O_DIRECTORY)?;
        let mut target = Text::new();
        match target.fill(|room| fd::readlinkat(dir.as_fd(), name.c_str()?, room)) {
            Ok(()) => {
                // Links of procfs lead to what a process has open, not to where their text says.
                if fd::fs_magic(dir.as_fd())? == fd::PROC_SUPER_MAGIC {
                    return Err(Errno::ELOOP);
                }
                links += 1;
                if links > MOST_LINKS {
                    return Err(Errno::ELOOP);
                }
                if target.bytes().first() == Some(&b'/') {
                    done.clear();
                }
                rest.prepend(&target)?;
                continue;
            }
            // There, and no link.
            Err(Errno::EINVAL) => {}
            Err(Errno::ENOENT) => {
                let kind = if rest.has_names() { Last::Directory(0o755) } else { last };
                match make_one(dir.as_fd(), name.c_str()?, kind) {
                    Ok(()) | Err(Errno::EEXIST) => {}
                    Err(errno) => return Err(errno),
                }
            }
            Err(errno) => return Err(errno),
        }
        done.push_name(name.bytes())?;
    }
    open(rootfs, &done, last.flags())
}

fn make_one(dir: BorrowedFd<'_>, name: &CStr, kind: Last) -> Result<()> {
    match kind {
        Last::Directory(mode) => fd::mkdirat(dir, name, mode),
        Last::File => {
            let flags = libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW | libc::O_WRONLY;
            fd::openat(dir, name, flags, 0o755).map(drop)
        }
    }
}

fn open(rootfs: BorrowedFd<'_>, done: &Text, flags: i32) -> Result<OwnedFd> {
    let path = if done.bytes().is_empty() { c"." } else { done.c_str()? };
    root::openat2(rootfs, path, libc::O_PATH | flags, 0, root::IN_ROOT | libc::RESOLVE_NO_SYMLINKS)
}

/// A path in a buffer of its own, always with room for the final NUL.
struct Text {
    buffer: [u8; libc::PATH_MAX as usize],
    len: usize,
}

impl Text {
    fn new() -> Text {
        Text { buffer: [0; libc::PATH_MAX as usize], len: 0 }
    }

    fn bytes(&self) -> &[u8] {
        self.buffer.get(..self.len).unwrap_or_default()
    }

    fn c_str(&self) -> Result<&CStr> {
        CStr::from_bytes_until_nul(&self.buffer).map_err(|_| Errno::ENAMETOOLONG)
    }

    fn clear(&mut self) {
        self.set_len(0);
    }

    /// Cuts, and keeps everything behind the end zero.
    fn set_len(&mut self, len: usize) {
        if let Some(behind) = self.buffer.get_mut(len..self.len.max(len)) {
            behind.fill(0);
        }
        self.len = len;
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let end = self.len + bytes.len();
        if end >= self.buffer.len() {
            return Err(Errno::ENAMETOOLONG);
        }
        self.buffer.get_mut(self.len..end).ok_or(Errno::ENAMETOOLONG)?.copy_from_slice(bytes);
        self.len = end;
        Ok(())
    }

    fn push_name(&mut self, name: &[u8]) -> Result<()> {
        if self.len > 0 {
            self.append(b"/")?;
        }
        self.append(name)
    }

    fn drop_last_name(&mut self) {
        let cut = self.bytes().iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        self.set_len(cut);
    }

    fn has_names(&self) -> bool {
        self.bytes().iter().any(|byte| *byte != b'/')
    }

    /// Moves the first name into `name`; false when there is none.
    fn take_name(&mut self, name: &mut Text) -> Result<bool> {
        let Some(begin) = self.bytes().iter().position(|byte| *byte != b'/') else { return Ok(false) };
        let after = self.bytes().iter().skip(begin).position(|byte| *byte == b'/').map_or(self.len, |n| begin + n);
        name.clear();
        name.append(self.bytes().get(begin..after).unwrap_or_default())?;
        let rest = self.len - after;
        self.buffer.copy_within(after..self.len, 0);
        self.set_len(rest);
        Ok(true)
    }

    /// Puts a link's target in front of what is left.
    fn prepend(&mut self, target: &Text) -> Result<()> {
        let shift = target.len + 1;
        let end = self.len + shift;
        if end >= self.buffer.len() {
            return Err(Errno::ENAMETOOLONG);
        }
        self.buffer.copy_within(0..self.len, shift);
        if let Some(front) = self.buffer.get_mut(..target.len) {
            front.copy_from_slice(target.bytes());
        }
        if let Some(slash) = self.buffer.get_mut(target.len) {
            *slash = b'/';
        }
        self.len = end;
        Ok(())
    }

    fn fill(&mut self, read: impl FnOnce(&mut [u8]) -> Result<usize>) -> Result<()> {
        self.clear();
        let most = self.buffer.len() - 1;
        self.len = read(self.buffer.get_mut(..most).unwrap_or_default())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn in_folder(test: impl FnOnce(&std::path::Path, BorrowedFd<'_>)) {
        let number = std::thread::current().id();
        let temp = std::env::temp_dir().join(format!("orlop-missing-{}-{number:?}", std::process::id()));
        std::fs::create_dir_all(&temp).unwrap();
        let root = std::fs::File::open(&temp).unwrap();
        test(&temp, root.as_fd());
        std::fs::remove_dir_all(&temp).unwrap();
    }

    #[test]
    fn a_file_is_made_where_a_dangling_link_points() {
        in_folder(|temp, root| {
            std::fs::create_dir(temp.join("etc")).unwrap();
            symlink("../run/resolve/stub.conf", temp.join("etc/resolv.conf")).unwrap();
            make(root, c"etc/resolv.conf", Last::File).unwrap();
            assert!(temp.join("run/resolve/stub.conf").is_file());
        });
    }

    #[test]
    fn one_missing_name_is_made_behind_links_that_lead_somewhere() {
        use std::os::unix::fs::PermissionsExt;
        in_folder(|temp, root| {
            std::fs::create_dir_all(temp.join("run/deep")).unwrap();
            std::fs::create_dir(temp.join("var")).unwrap();
            symlink("/run", temp.join("var/run")).unwrap();
            make(root, c"var/run/deep/x", Last::Directory(0o700)).unwrap();
            let mode = std::fs::metadata(temp.join("run/deep/x")).unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, 0o700);
            make(root, c"/var/run/file", Last::File).unwrap();
            assert!(temp.join("run/file").is_file());
            make(root, c"top", Last::Directory(0o755)).unwrap();
            make(root, c"/above", Last::Directory(0o755)).unwrap();
            assert!(temp.join("top").is_dir() && temp.join("above").is_dir());
            // The last name may be a link too, and a long way is one.
            symlink("made", temp.join("run/link")).unwrap();
            make(root, c"var/run/link", Last::Directory(0o755)).unwrap();
            assert!(temp.join("run/made").is_dir());
            let long = std::ffi::CString::new(format!("{}x", "deep/../".repeat(100))).unwrap();
            std::fs::create_dir(temp.join("deep")).unwrap();
            make(root, &long, Last::Directory(0o755)).unwrap();
            assert!(temp.join("x").is_dir());
            assert_eq!(make(root, c"run/file", Last::Directory(0o755)).unwrap_err(), Errno::ENOTDIR);
        });
    }

    #[test]
    fn absolute_and_climbing_links_stay_below_the_root() {
        in_folder(|temp, root| {
            symlink("/a/b", temp.join("absolute")).unwrap();
            symlink("../../../../c", temp.join("climbing")).unwrap();
            make(root, c"absolute/x", Last::Directory(0o700)).unwrap();
            make(root, c"climbing/y", Last::File).unwrap();
            assert!(temp.join("a/b/x").is_dir() && temp.join("c/y").is_file());
        });
    }

    #[test]
    fn links_in_a_circle_end_as_an_error() {
        in_folder(|temp, root| {
            symlink("two", temp.join("one")).unwrap();
            symlink("one", temp.join("two")).unwrap();
            assert_eq!(make(root, c"one/x", Last::File).unwrap_err(), Errno::ELOOP);
        });
    }

    #[test]
    fn what_is_there_is_opened_as_it_is() {
        in_folder(|temp, root| {
            std::fs::create_dir_all(temp.join("a/b")).unwrap();
            std::fs::write(temp.join("a/b/c"), "kept").unwrap();
            make(root, c"/a//./b/c", Last::File).unwrap();
            assert_eq!(std::fs::read_to_string(temp.join("a/b/c")).unwrap(), "kept");
            assert_eq!(make(root, c"a/b/c/d", Last::File).unwrap_err(), Errno::ENOTDIR);
        });
    }
}
