//! What copying a tree by descriptors takes: entries, contents, attributes. Nothing here allocates.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::{Errno, Result, check};

/// getdents64(2): fills the buffer with entries; 0 bytes at the end of the directory.
pub fn getdents64(dir: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize> {
    // SAFETY: the kernel writes at most the length that is passed.
    let read =
        check(unsafe { libc::syscall(libc::SYS_getdents64, dir.as_raw_fd(), buffer.as_mut_ptr(), buffer.len()) })?;
    Ok(read as usize)
}

/// The names among what getdents64 filled in, without `.` and `..`.
pub fn names(entries: &[u8]) -> impl Iterator<Item = &CStr> {
    /// Where the record's length and the name stand in `linux_dirent64`.
    const LENGTH: usize = 16;
    const NAME: usize = 19;
    let mut at = 0;
    std::iter::from_fn(move || {
        let entry = entries.get(at..)?;
        let [low, high] = entry.get(LENGTH..LENGTH + 2)?.try_into().ok()?;
        at += usize::from(u16::from_ne_bytes([low, high])).max(NAME);
        CStr::from_bytes_until_nul(entry.get(NAME..)?).ok()
    })
    .filter(|name| !matches!(name.to_bytes(), b"." | b".."))
}

/// sendfile(2) from `offset` on, which moves: the bytes sent, 0 at the end of the file.
pub fn sendfile(to: BorrowedFd<'_>, from: BorrowedFd<'_>, offset: &mut i64, count: usize) -> Result<usize> {
    // SAFETY: both are live descriptors and the offset outlives the call.
    let sent = Errno::result(unsafe { libc::sendfile(to.as_raw_fd(), from.as_raw_fd(), &raw mut *offset, count) })?;
    Ok(sent as usize)
}

/// pread(2).
pub fn pread(from: BorrowedFd<'_>, buffer: &mut [u8], offset: i64) -> Result<usize> {
    // SAFETY: the kernel writes at most the length that is passed.
    let read =
        Errno::result(unsafe { libc::pread(from.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), offset) })?;
    Ok(read as usize)
}

/// lseek(2).
pub fn lseek(file: BorrowedFd<'_>, offset: i64, whence: i32) -> Result<i64> {
    // SAFETY: takes a live descriptor and numbers.
    Errno::result(unsafe { libc::lseek(file.as_raw_fd(), offset, whence) })
}

/// readlinkat(2): the target as a C string in the buffer; ENAMETOOLONG when it does not fit.
pub fn readlinkat<'b>(dir: BorrowedFd<'_>, name: &CStr, buffer: &'b mut [u8]) -> Result<&'b CStr> {
    let room = buffer.len().saturating_sub(1);
    // SAFETY: the name is a C string and the kernel writes at most the length that is passed.
    let len = unsafe { libc::readlinkat(dir.as_raw_fd(), name.as_ptr(), buffer.as_mut_ptr().cast(), room) };
    let len = Errno::result(len)? as usize;
    if len >= room {
        return Err(Errno::ENAMETOOLONG);
    }
    *buffer.get_mut(len).ok_or(Errno::ENAMETOOLONG)? = 0;
    CStr::from_bytes_with_nul(buffer.get(..=len).unwrap_or_default()).map_err(|_| Errno::EINVAL)
}

/// fchmod(2).
pub fn fchmod(file: BorrowedFd<'_>, mode: libc::mode_t) -> Result<()> {
    // SAFETY: takes a live descriptor and a number.
    Errno::result(unsafe { libc::fchmod(file.as_raw_fd(), mode) }).map(drop)
}

/// utimensat(2) that does not follow a link in the last name: the times of access and change that `of` has.
pub fn set_times_at(dir: BorrowedFd<'_>, name: &CStr, of: &libc::stat) -> Result<()> {
    let times = times(of);
    // SAFETY: the name is a C string and the array has the two times that the call reads.
    Errno::result(unsafe { libc::utimensat(dir.as_raw_fd(), name.as_ptr(), times.as_ptr(), libc::AT_SYMLINK_NOFOLLOW) })
        .map(drop)
}

/// futimens(2): the times of access and change that `of` has.
pub fn set_times(file: BorrowedFd<'_>, of: &libc::stat) -> Result<()> {
    let times = times(of);
    // SAFETY: the array has the two times that the call reads.
    Errno::result(unsafe { libc::futimens(file.as_raw_fd(), times.as_ptr()) }).map(drop)
}

fn times(of: &libc::stat) -> [libc::timespec; 2] {
    let time = |seconds, nanoseconds| libc::timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    [time(of.st_atime, of.st_atime_nsec), time(of.st_mtime, of.st_mtime_nsec)]
}

/// flistxattr(2): the names in the buffer, each with its NUL.
pub fn flistxattr<'b>(file: BorrowedFd<'_>, buffer: &'b mut [u8]) -> Result<&'b [u8]> {
    // SAFETY: the kernel writes at most the length that is passed.
    let len = unsafe { libc::flistxattr(file.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) };
    let len = Errno::result(len)? as usize;
    Ok(buffer.get(..len).unwrap_or_default())
}

/// fgetxattr(2): the value in the buffer.
pub fn fgetxattr<'b>(file: BorrowedFd<'_>, name: &CStr, buffer: &'b mut [u8]) -> Result<&'b [u8]> {
    // SAFETY: the name is a C string and the kernel writes at most the length that is passed.
    let len = unsafe { libc::fgetxattr(file.as_raw_fd(), name.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) };
    let len = Errno::result(len)? as usize;
    Ok(buffer.get(..len).unwrap_or_default())
}

/// fsetxattr(2).
pub fn fsetxattr(file: BorrowedFd<'_>, name: &CStr, value: &[u8]) -> Result<()> {
    // SAFETY: the name is a C string and the pointer and length describe the value.
    Errno::result(unsafe { libc::fsetxattr(file.as_raw_fd(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) })
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn names_are_read_from_a_directory_in_small_pieces() {
        let dir = std::env::temp_dir().join(format!("orlop-getdents-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let mut made: Vec<_> = (0..50).map(|n| format!("file-{n}")).collect();
        made.iter().for_each(|name| std::fs::write(dir.join(name), "").unwrap());
        let opened = std::fs::File::open(&dir).unwrap();
        let (mut found, mut buffer) = (Vec::new(), [0; 300]);
        while let Ok(len @ 1..) = getdents64(opened.as_fd(), &mut buffer) {
            found.extend(names(&buffer[..len]).map(|name| name.to_str().unwrap().to_owned()));
        }
        std::fs::remove_dir_all(&dir).unwrap();
        made.sort();
        found.sort();
        assert_eq!(found, made);
    }
}
