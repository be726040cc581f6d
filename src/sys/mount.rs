//! Mounts: mount(2), and the descriptor-based calls (open_tree, move_mount, fsopen, mount_setattr) that nix lacks.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use super::{Errno, Result, check, fd};

fn owned(fd: libc::c_long) -> OwnedFd {
    // SAFETY: called only with a descriptor that the kernel has just made for us.
    unsafe { OwnedFd::from_raw_fd(fd as RawFd) }
}

fn pointer(text: Option<&CStr>) -> *const libc::c_char {
    text.map_or(std::ptr::null(), CStr::as_ptr)
}

/// mount(2).
pub fn mount(
    source: Option<&CStr>,
    target: &CStr,
    fstype: Option<&CStr>,
    flags: u64,
    data: Option<&CStr>,
) -> Result<()> {
    let (source, fstype, data) = (pointer(source), pointer(fstype), pointer(data));
    // SAFETY: each pointer is null or a C string that outlives the call.
    Errno::result(unsafe { libc::mount(source, target.as_ptr(), fstype, flags, data.cast()) }).map(drop)
}

/// mount(2) with MS_REMOUNT or a propagation, on the attached mount that `mounted` is open on: for kernels without
/// mount_setattr(2), before Linux 5.12. The working directory stays as it was.
///
/// A directory is named as `.`, a file by its number below /proc/self/fd, which is verified to be procfs.
pub fn change(mounted: BorrowedFd<'_>, flags: u64) -> Result<()> {
    let before = fd::open(c".", libc::O_PATH | libc::O_DIRECTORY, 0)?;
    let result = change_from(mounted, flags);
    fd::fchdir(before.as_fd())?;
    result
}

fn change_from(mounted: BorrowedFd<'_>, flags: u64) -> Result<()> {
    if fd::is_dir(fd::stat(mounted)?.st_mode) {
        fd::fchdir(mounted)?;
        return mount(None, c".", None, flags, None);
    }
    let numbers = fd::open(c"/proc/self/fd", libc::O_PATH | libc::O_DIRECTORY, 0)?;
    if fd::fs_magic(numbers.as_fd())? != fd::PROC_SUPER_MAGIC {
        return Err(Errno::ENODEV);
    }
    fd::fchdir(numbers.as_fd())?;
    let mut name = [0; 12];
    mount(None, decimal(mounted.as_raw_fd(), &mut name)?, None, flags, None)
}

/// A descriptor's number as text, without allocating.
fn decimal(mut number: RawFd, room: &mut [u8; 12]) -> Result<&CStr> {
    let mut at = room.len() - 1;
    loop {
        at = at.checked_sub(1).ok_or(Errno::EINVAL)?;
        *room.get_mut(at).ok_or(Errno::EINVAL)? = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    CStr::from_bytes_with_nul(room.get(at..).unwrap_or_default()).map_err(|_| Errno::EINVAL)
}

/// umount2(2).
pub fn umount2(target: &CStr, flags: i32) -> Result<()> {
    // SAFETY: the target is a C string that outlives the call.
    Errno::result(unsafe { libc::umount2(target.as_ptr(), flags) }).map(drop)
}

/// pivot_root(2).
pub fn pivot_root(new: &CStr, old: &CStr) -> Result<()> {
    // SAFETY: both are C strings that outlive the call.
    check(unsafe { libc::syscall(libc::SYS_pivot_root, new.as_ptr(), old.as_ptr()) }).map(drop)
}

/// open_tree(2) with close-on-exec; `flags` as of that call (OPEN_TREE_CLONE, AT_EMPTY_PATH, AT_RECURSIVE).
pub fn open_tree(dir: BorrowedFd<'_>, path: &CStr, flags: u32) -> Result<OwnedFd> {
    let flags = flags | libc::OPEN_TREE_CLOEXEC;
    // SAFETY: the path is a C string that outlives the call.
    check(unsafe { libc::syscall(libc::SYS_open_tree, dir.as_raw_fd(), path.as_ptr(), flags) }).map(owned)
}

/// A detached clone of the mount at a path, with all below it when `recursive`.
pub fn clone_tree(dir: BorrowedFd<'_>, path: &CStr, recursive: bool) -> Result<OwnedFd> {
    let mut flags = libc::OPEN_TREE_CLONE;
    if recursive {
        flags |= libc::AT_RECURSIVE as u32;
    }
    if path.is_empty() {
        flags |= libc::AT_EMPTY_PATH as u32;
    }
    open_tree(dir, path, flags)
}

/// move_mount(2): attaches the tree of `from` at the place that `to` is open on.
pub fn move_mount(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    let flags = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH;
    // SAFETY: both paths are empty constants.
    check(unsafe {
        libc::syscall(libc::SYS_move_mount, from.as_raw_fd(), c"".as_ptr(), to.as_raw_fd(), c"".as_ptr(), flags)
    })
    .map(drop)
}

/// Whether the mount that is the root of the process could be moved: it has one beneath that is not shared, and is neither
/// locked nor another mount namespace's. Asked by moving it into itself, which is refused last (do_move_mount in
/// fs/namespace.c).
pub fn root_may_go() -> bool {
    let (cwd, root) = (libc::AT_FDCWD, c"/".as_ptr());
    // SAFETY: both paths are constants.
    let moved = check(unsafe { libc::syscall(libc::SYS_move_mount, cwd, root, cwd, root, 0) });
    moved.err() == Some(Errno::ELOOP)
}

const FSCONFIG_SET_FLAG: u32 = 0;
const FSCONFIG_SET_STRING: u32 = 1;
const FSCONFIG_CMD_CREATE: u32 = 6;

/// fsopen(2) with close-on-exec.
pub fn fsopen(fstype: &CStr) -> Result<OwnedFd> {
    // SAFETY: the name is a C string that outlives the call.
    check(unsafe { libc::syscall(libc::SYS_fsopen, fstype.as_ptr(), 1u32) }).map(owned)
}

/// fsconfig(2): one option, as a flag when it has no value.
pub fn fsconfig_set(fs: BorrowedFd<'_>, key: &CStr, value: Option<&CStr>) -> Result<()> {
    let command = if value.is_some() { FSCONFIG_SET_STRING } else { FSCONFIG_SET_FLAG };
    // SAFETY: key and value are C strings that outlive the call, or null for a flag.
    check(unsafe { libc::syscall(libc::SYS_fsconfig, fs.as_raw_fd(), command, key.as_ptr(), pointer(value), 0) })
        .map(drop)
}

/// fsconfig(2): makes the superblock.
pub fn fsconfig_create(fs: BorrowedFd<'_>) -> Result<()> {
    let null = std::ptr::null::<libc::c_char>();
    // SAFETY: this command takes no key and no value.
    check(unsafe { libc::syscall(libc::SYS_fsconfig, fs.as_raw_fd(), FSCONFIG_CMD_CREATE, null, null, 0) }).map(drop)
}

/// fsmount(2) with close-on-exec: a detached mount with MOUNT_ATTR_* `attributes`.
pub fn fsmount(fs: BorrowedFd<'_>, attributes: u64) -> Result<OwnedFd> {
    // SAFETY: takes a live descriptor and numbers.
    check(unsafe { libc::syscall(libc::SYS_fsmount, fs.as_raw_fd(), 1u32, attributes as u32) }).map(owned)
}

/// A file system mounted nowhere, with these options.
pub fn detached(fstype: &CStr, options: &[(&CStr, &CStr)], attributes: u64) -> Result<OwnedFd> {
    let fs = fsopen(fstype)?;
    for (key, value) in options {
        fsconfig_set(fs.as_fd(), key, Some(value))?;
    }
    fsconfig_create(fs.as_fd())?;
    fsmount(fs.as_fd(), attributes)
}

/// What mount_setattr(2) shall change.
#[derive(Debug, Clone, Copy, Default)]
pub struct MountAttr {
    /// MOUNT_ATTR_* to set.
    pub set: u64,
    /// MOUNT_ATTR_* to clear.
    pub clear: u64,
    /// MS_SHARED, MS_SLAVE, MS_PRIVATE, MS_UNBINDABLE, or 0.
    pub propagation: u64,
}

/// mount_setattr(2) on the mount that `fd` is open on; `recursive` is 0 or AT_RECURSIVE.
pub fn mount_setattr(
    fd: BorrowedFd<'_>,
    attr: MountAttr,
    recursive: i32,
    user_ns: Option<BorrowedFd<'_>>,
) -> Result<()> {
    let raw = libc::mount_attr {
        attr_set: attr.set | user_ns.map_or(0, |_| libc::MOUNT_ATTR_IDMAP),
        attr_clr: attr.clear,
        propagation: attr.propagation,
        userns_fd: user_ns.map_or(0, |fd| fd.as_raw_fd() as u64),
    };
    let flags = libc::AT_EMPTY_PATH | recursive;
    let size = size_of::<libc::mount_attr>();
    // SAFETY: the path is an empty constant and the structure is of the size passed.
    check(unsafe { libc::syscall(libc::SYS_mount_setattr, fd.as_raw_fd(), c"".as_ptr(), flags, &raw const raw, size) })
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_written_in_decimal() {
        for (number, text) in [(0, c"0"), (7, c"7"), (1048576, c"1048576"), (i32::MAX, c"2147483647")] {
            assert_eq!(decimal(number, &mut [0; 12]).unwrap(), text);
        }
    }
}
