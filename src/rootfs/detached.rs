//! File systems that are worked on, through the descriptor that fsmount(2) gives: a tmpfs that gets a copy of
//! what it hides; new file systems with mapped ids, which the kernel allows only while a mount is attached
//! nowhere; and those whose propagation or recursive options are set, or which become read-only later.

use std::ffi::{CStr, CString};
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::anyhow;
use nix::errno::Errno;

use super::copyup::{self, Failed};
use super::dest::Dest;
use super::idmap::{self, Mapping};
use super::mount::{After, Entry, PART_OTHER, explain_link, explain_option, open_dest};
use crate::error::{Result, errno_text};
use crate::plan::{Fault, Init, Inside, Slot};
use crate::sys::mount::{fsconfig_create, fsconfig_set, fsmount, fsopen, move_mount};
use crate::sys::{self, fd};

const PART_COPY: u64 = PART_OTHER;
const PART_DEPTH: u64 = PART_OTHER + 1;
const PART_IDMAP: u64 = PART_OTHER + 2;
/// From here on: which of the options was refused.
const PART_OPTION: u64 = PART_OTHER + 3;

/// What belongs to a file system as a whole; everything else among the flags belongs to the mount.
const OF_FILE_SYSTEM: [(u64, &CStr); 5] = [
    (libc::MS_RDONLY, c"ro"),
    (libc::MS_SYNCHRONOUS, c"sync"),
    (libc::MS_DIRSYNC, c"dirsync"),
    (libc::MS_MANDLOCK, c"mand"),
    (libc::MS_LAZYTIME, c"lazytime"),
];

/// Whether the options can be given one by one: a value has at most 255 bytes there, and only mount(2) leaves
/// quotes and escaped commas to the file system.
pub fn takes(entry: &Entry<'_>) -> bool {
    let data = &entry.options.data;
    entry.options.flags & libc::MS_I_VERSION == 0
        && entry.source.as_bytes().len() < 256
        && !data.contains(['\\', '"'])
        && data.split(',').all(|word| word.len() < 256)
}

/// The step for one new file system; `flags` are those of the entry that do not wait for later, and the mount
/// goes into the slot `kept`.
///
/// # Errors
/// Options with NUL bytes.
pub fn step(
    entry: &Entry<'_>,
    flags: u64,
    mapping: Option<Mapping>,
    kept: Option<Slot>,
    rootfs: Slot,
) -> Result<MountDetached> {
    let c = |text: &str| CString::new(text).map_err(|_| anyhow!("config.json: {} contains a NUL byte", entry.json));
    let mut options = vec![(c"source".to_owned(), Some(entry.source.clone()))];
    for (flag, name) in OF_FILE_SYSTEM {
        if flags & flag != 0 {
            options.push((name.to_owned(), None));
        }
    }
    let words = || entry.options.data.split(',').filter(|word| !word.is_empty());
    for word in words() {
        options.push(match word.split_once('=') {
            Some((key, value)) => (c(key)?, Some(c(value)?)),
            None => (c(word)?, None),
        });
    }
    if let Some(label) = &entry.label {
        options.push((c"context".to_owned(), Some(label.clone())));
    }
    let given = |key: &str| words().any(|word| word.split('=').next() == Some(key));
    let mut attributes = entry.options.attributes().set;
    if flags & libc::MS_RDONLY == 0 {
        attributes &= !libc::MOUNT_ATTR_RDONLY;
    }
    Ok(MountDetached {
        source: entry.source.clone(),
        fstype: c(&entry.fstype)?,
        dest: entry.dest.clone(),
        takes_mode: entry.fstype == "tmpfs" && !given("mode"),
        takes_owner: !given("uid") && !given("gid"),
        options,
        attributes,
        copies_up: entry.options.copy_up,
        mapping,
        after: After::of(&entry.options),
        unmapped: entry.unmapped.clone(),
        kept,
        rootfs,
    })
}

/// A new file system, made detached and then attached.
pub struct MountDetached {
    source: CString,
    fstype: CString,
    dest: Dest,
    options: Vec<(CString, Option<CString>)>,
    takes_mode: bool,
    takes_owner: bool,
    attributes: u64,
    copies_up: bool,
    mapping: Option<Mapping>,
    after: After,
    unmapped: Option<String>,
    kept: Option<Slot>,
    rootfs: Slot,
}

impl fmt::Display for MountDetached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mounting {:?} to rootfs at {}", self.source, self.dest)?;
        f.write_str(if self.copies_up { " with a copy of what it hides" } else { "" })?;
        f.write_str(if self.mapping.is_some() { " with mapped ids" } else { "" })?;
        let label =
            self.options.iter().find(|(key, _)| key.as_c_str() == c"context").and_then(|(_, value)| value.as_ref());
        label.map_or(Ok(()), |label| write!(f, " labelled {label:?}"))
    }
}

impl MountDetached {
    fn make(&self, mode: Option<libc::mode_t>) -> std::result::Result<OwnedFd, Fault> {
        let fs = fsopen(&self.fstype)?;
        if let Some(mode) = mode {
            let digits = [mode >> 9 & 7, mode >> 6 & 7, mode >> 3 & 7, mode & 7].map(|digit| b'0' + digit as u8);
            let [a, b, c, d] = digits;
            let text = [a, b, c, d, 0];
            fsconfig_set(fs.as_fd(), c"mode", CStr::from_bytes_with_nul(&text).ok())?;
        }
        for (index, (key, value)) in self.options.iter().enumerate() {
            fsconfig_set(fs.as_fd(), key, value.as_deref()).map_err(Fault::at(PART_OPTION + index as u64))?;
        }
        fsconfig_create(fs.as_fd())?;
        Ok(fsmount(fs.as_fd(), self.attributes)?)
    }

    fn copy_up(&self, from: BorrowedFd<'_>, mount: BorrowedFd<'_>) -> std::result::Result<(), Fault> {
        let top = open_top(mount).map_err(Fault::at(PART_COPY))?;
        copyup::copy(from, top.as_fd()).map_err(|failed| match failed {
            Failed::Call(errno) => Fault { errno, detail: PART_COPY },
            Failed::Depth => Fault { errno: Errno::ENAMETOOLONG, detail: PART_DEPTH },
        })?;
        if self.takes_owner {
            copyup::copy_top(from, top.as_fd()).map_err(Fault::at(PART_COPY))?;
        }
        Ok(())
    }
}

/// What fsmount(2) gives is as if opened with O_PATH.
fn open_top(mount: BorrowedFd<'_>) -> sys::Result<OwnedFd> {
    fd::openat(mount, c".", libc::O_RDONLY | libc::O_DIRECTORY, 0)
}

impl Inside for MountDetached {
    fn run(&self, init: &mut Init<'_>) -> std::result::Result<(), Fault> {
        let rootfs = init.slots.get(self.rootfs)?;
        // A directory that was there gives the tmpfs its mode; one that is made for it does not.
        let existing = self.dest.open(rootfs).ok().filter(|_| self.takes_mode);
        let mode = existing.map(|dir| fd::stat(dir.as_fd())).transpose()?.map(|stat| stat.st_mode & 0o7777);
        let dest = open_dest(&self.fstype, &self.dest, rootfs)?;
        let mount = self.make(mode)?;
        if self.copies_up {
            self.copy_up(dest.as_fd(), mount.as_fd())?;
        }
        if let Some(mapping) = self.mapping {
            mapping.apply(mount.as_fd(), &init.slots).map_err(Fault::at(PART_IDMAP))?;
        }
        move_mount(mount.as_fd(), dest.as_fd())?;
        // Now, as before Linux 5.12 the propagation of attached mounts only can be changed.
        self.after.apply(mount.as_fd())?;
        if let Some(slot) = self.kept {
            init.slots.put(slot, mount);
        }
        Ok(())
    }

    fn explain(&self, fault: Fault) -> String {
        let Fault { errno, detail } = fault;
        match detail {
            PART_COPY => format!("copying what it hides: {}", errno_text(errno)),
            PART_DEPTH => format!("copying what it hides: more than {} directories within each other", copyup::DEPTH),
            PART_IDMAP => idmap::explain(errno),
            PART_OPTION.. => {
                let option = self.options.get((detail - PART_OPTION) as usize);
                let (key, value) =
                    option.map(|(key, value)| (key.to_string_lossy(), value.as_ref())).unwrap_or_default();
                let value = value.map(|value| format!("={}", value.to_string_lossy())).unwrap_or_default();
                format!("option \"{key}{value}\": {}", explain_option(Fault::from(errno), self.unmapped.as_deref()))
            }
            _ => explain_link(&self.fstype, fault).unwrap_or_else(|| explain_option(fault, self.unmapped.as_deref())),
        }
    }
}
