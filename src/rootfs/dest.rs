//! A path inside the container: never joined to the rootfs, always resolved by the kernel below its descriptor.
//!
//! Meets CVE-2019-16884, CVE-2021-30465, CVE-2023-27561 and their kin: a path that is resolved
//! twice can be swapped in between. A `Dest` is opened once, and what is done goes through the descriptor.

use std::ffi::{CStr, CString};
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{anyhow, bail};
use nix::errno::Errno;

use crate::error::Result;
use crate::sys::missing::{self, Last};
use crate::sys::{self, fd, root};

/// A cleaned path below the container's root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dest(CString);

impl Dest {
    /// Cleans `path` as an absolute path of the container: `.`, `..` and double slashes are gone afterwards.
    ///
    /// # Errors
    /// An empty path or one with a NUL byte; `json` names it in the message.
    pub fn new(json: impl fmt::Display, path: &str) -> Result<Dest> {
        if path.is_empty() {
            bail!("config.json: {json} is empty");
        }
        let nul = |_| anyhow!("config.json: {json} contains a NUL byte");
        if fd::is_plain(path.as_bytes()) {
            return CString::new(path).map(Dest).map_err(nul);
        }
        // With room for the slash in front and the NUL behind.
        let mut clean = String::with_capacity(path.len() + 2);
        for name in path.split('/') {
            match name {
                "" | "." => {}
                ".." => clean.truncate(clean.rfind('/').unwrap_or(0)),
                name => {
                    clean.push('/');
                    clean.push_str(name);
                }
            }
        }
        if clean.is_empty() {
            clean.push('/');
        }
        CString::new(clean).map(Dest).map_err(nul)
    }

    /// The path as the container sees it.
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    /// The same as bytes, which are not looked at.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.to_bytes()
    }

    /// The same from the root's descriptor: without the leading slash, and `.` for the root itself.
    fn path(&self) -> &CStr {
        match self.0.as_bytes_with_nul() {
            [b'/', 0] => c".",
            bytes => CStr::from_bytes_with_nul(bytes.get(1..).unwrap_or_default()).unwrap_or_default(),
        }
    }

    /// The last name, and the directory it stands in; `None` for the root itself.
    pub fn split(&self) -> Option<(Dest, CString)> {
        let (dir, name) = self.as_str().rsplit_once('/').filter(|(_, name)| !name.is_empty())?;
        Some((Dest::new("", if dir.is_empty() { "/" } else { dir }).ok()?, CString::new(name).ok()?))
    }

    /// Opens what is there with O_PATH; symbolic links resolve inside the container.
    pub fn open(&self, rootfs: BorrowedFd<'_>) -> sys::Result<OwnedFd> {
        root::openat2(rootfs, self.path(), libc::O_PATH, 0, root::IN_ROOT)
    }

    /// As [`Dest::open`], but no name on the way may be a symbolic link: for procfs and sysfs (CVE-2023-27561).
    pub fn open_without_links(&self, rootfs: BorrowedFd<'_>) -> sys::Result<OwnedFd> {
        let resolve = root::IN_ROOT | libc::RESOLVE_NO_SYMLINKS;
        root::openat2(rootfs, self.path(), libc::O_PATH | libc::O_DIRECTORY, 0, resolve)
    }

    /// Opens the directory, made with its parents where missing.
    pub fn make_dir(&self, rootfs: BorrowedFd<'_>, mode: libc::mode_t) -> sys::Result<OwnedFd> {
        match self.open_dir(rootfs) {
            Err(Errno::ENOENT) => {}
            other => return other,
        }
        self.make_missing_dir(rootfs, mode)
    }

    /// The same for one that is known not to be there.
    pub fn make_missing_dir(&self, rootfs: BorrowedFd<'_>, mode: libc::mode_t) -> sys::Result<OwnedFd> {
        missing::make(rootfs, self.path(), Last::Directory(mode))
    }

    fn open_dir(&self, rootfs: BorrowedFd<'_>) -> sys::Result<OwnedFd> {
        root::openat2(rootfs, self.path(), libc::O_PATH | libc::O_DIRECTORY, 0, root::IN_ROOT)
    }

    /// Opens what has just been mounted over `covered`. mount(2) gives no descriptor, so the name is resolved
    /// again, and refused when it does not lead to another file system than before.
    pub fn open_mounted(&self, covered: BorrowedFd<'_>, rootfs: BorrowedFd<'_>) -> sys::Result<OwnedFd> {
        let mounted = self.open(rootfs)?;
        if fd::stat(mounted.as_fd())?.st_dev == fd::stat(covered)?.st_dev {
            return Err(Errno::ESTALE);
        }
        Ok(mounted)
    }

    /// Opens what is there, or an empty file made for the purpose, as a place to mount a file on.
    pub fn make_file(&self, rootfs: BorrowedFd<'_>) -> sys::Result<OwnedFd> {
        match self.open(rootfs) {
            Err(Errno::ENOENT) => {}
            other => return other,
        }
        missing::make(rootfs, self.path(), Last::File)
    }
}

impl fmt::Display for Dest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dest(path: &str) -> Dest {
        Dest::new("mounts[0].destination", path).unwrap()
    }

    #[test]
    fn a_destination_is_cleaned_and_cannot_climb() {
        assert_eq!(dest("/a/b/c").as_str(), "/a/b/c");
        assert_eq!(dest("/a//b/./c").as_str(), "/a/b/c");
        assert_eq!(dest("/a/b/").as_str(), "/a/b");
        assert_eq!(dest("/").as_str(), "/");
        assert_eq!(dest("../../etc").as_str(), "/etc");
        assert_eq!(dest("/a/../..").as_str(), "/");
        assert!(Dest::new("x", "").is_err());
        assert!(Dest::new("x", "a\0b").is_err());
    }

    #[test]
    fn a_destination_is_split_into_its_directory_and_its_name() {
        let (dir, name) = dest("/dev/net/tun").split().unwrap();
        assert_eq!((dir.as_str(), name), ("/dev/net", c"tun".to_owned()));
        assert_eq!(dest("/x").split().unwrap().0, dest("/"));
        assert!(dest("/").split().is_none());
    }

    #[test]
    fn directories_are_made_below_the_root_and_links_stay_inside() {
        let temp = std::env::temp_dir().join(format!("orlop-dest-{}", std::process::id()));
        std::fs::create_dir_all(temp.join("real")).unwrap();
        std::os::unix::fs::symlink("/real", temp.join("link")).unwrap();
        let root = std::fs::File::open(&temp).unwrap();
        dest("/link/x/y").make_dir(root.as_fd(), 0o755).unwrap();
        dest("/link/x/file").make_file(root.as_fd()).unwrap();
        assert!(temp.join("real/x/y").is_dir() && temp.join("real/x/file").is_file());
        std::os::unix::fs::symlink("/later", temp.join("dangling")).unwrap();
        dest("/dangling").make_dir(root.as_fd(), 0o755).unwrap();
        assert!(temp.join("later").is_dir());
        std::fs::remove_dir_all(&temp).unwrap();
    }
}
