//! The one socket between the runtime and the container's init, and descriptors sent over Unix sockets.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, recvmsg, sendmsg,
    socketpair,
};

use super::{Errno, Result};

/// A connected SOCK_SEQPACKET pair, close-on-exec: messages keep their bounds and end of file is seen.
pub fn pair() -> Result<(OwnedFd, OwnedFd)> {
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
}

/// Sends one message; a peer that is gone is EPIPE, as SIGPIPE is ignored until execve.
///
/// With write(2), like `recv` with read(2): init may already be under a seccomp filter, and these are
/// the calls that every profile allows (runc relies on them too).
pub fn send(socket: BorrowedFd<'_>, message: &[u8]) -> Result<()> {
    loop {
        match nix::unistd::write(socket, message) {
            Err(Errno::EINTR) => {}
            other => return other.map(drop),
        }
    }
}

/// Whether there is something to receive, end of file included.
pub fn is_ready(socket: BorrowedFd<'_>) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    poll(&mut [PollFd::new(socket, PollFlags::POLLIN)], PollTimeout::ZERO).is_ok_and(|count| count > 0)
}

/// Waits until the other end is closed, a second at most. Messages, which stay to be received, do not wake the process.
pub fn await_close(socket: BorrowedFd<'_>) -> Result<()> {
    use nix::poll::{PollFd, PollFlags, poll};
    // POLLHUP is told without being asked for.
    match poll(&mut [PollFd::new(socket, PollFlags::empty())], 1000u16) {
        Err(Errno::EINTR) => Ok(()),
        other => other.map(drop),
    }
}

/// Receives one message; 0 is end of file. ECONNRESET says, once, that the other end has gone with messages unread: what it
/// said itself still follows.
pub fn recv(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize> {
    loop {
        match nix::unistd::read(socket, buffer) {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}

/// Connects a stream socket to a path (`--console-socket`, the seccomp agent's `listenerPath`).
pub fn connect(path: &std::path::Path) -> Result<OwnedFd> {
    let socket = nix::sys::socket::socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let address = UnixAddr::new(path)?;
    nix::sys::socket::connect(socket.as_raw_fd(), &address)?;
    Ok(socket)
}

/// Sends descriptors with a non-empty message, as SCM_RIGHTS. Allocates: outside only.
pub fn send_fds(socket: BorrowedFd<'_>, message: &[u8], fds: &[BorrowedFd<'_>]) -> Result<()> {
    let raw: Vec<_> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let iov = [IoSlice::new(message)];
    sendmsg::<()>(socket.as_raw_fd(), &iov, &[ControlMessage::ScmRights(&raw)], MsgFlags::MSG_NOSIGNAL, None).map(drop)
}

#[repr(C)]
union OneRight {
    header: libc::cmsghdr,
    room: [u8; 32],
}

/// Sends one descriptor with a message, without allocating, for the container's init.
pub fn send_fd(socket: BorrowedFd<'_>, message: &[u8], fd: BorrowedFd<'_>) -> Result<()> {
    let mut iov = libc::iovec { iov_base: message.as_ptr().cast_mut().cast(), iov_len: message.len() };
    let mut control = OneRight { room: [0; 32] };
    let fd_len = size_of::<libc::c_int>() as libc::c_uint;
    // SAFETY: msghdr is plain data, for which all zeroes is a valid value.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut iov;
    header.msg_iovlen = 1;
    header.msg_control = (&raw mut control).cast();
    // SAFETY: CMSG_SPACE only computes; 24 for one descriptor, less than the 32 bytes of room.
    header.msg_controllen = unsafe { libc::CMSG_SPACE(fd_len) } as _;
    // SAFETY: the header names a control buffer that is long enough for one cmsghdr.
    let cmsg = unsafe { libc::CMSG_FIRSTHDR(&header) };
    if cmsg.is_null() {
        return Err(Errno::EINVAL);
    }
    // SAFETY: CMSG_LEN only computes.
    let len = unsafe { libc::CMSG_LEN(fd_len) };
    // SAFETY: cmsghdr is plain data, for which all zeroes is a valid value (C libraries pad it differently).
    let mut filled: libc::cmsghdr = unsafe { std::mem::zeroed() };
    filled.cmsg_len = len as _;
    filled.cmsg_level = libc::SOL_SOCKET;
    filled.cmsg_type = libc::SCM_RIGHTS;
    // SAFETY: cmsg points at the aligned start of `control`, which outlives this call.
    unsafe { cmsg.write(filled) };
    // SAFETY: the data of a cmsghdr within the buffer checked above.
    let data = unsafe { libc::CMSG_DATA(cmsg) }.cast::<libc::c_int>();
    // SAFETY: CMSG_DATA leaves room for the CMSG_LEN bytes that were asked for.
    unsafe { data.write_unaligned(fd.as_raw_fd()) };
    // SAFETY: every pointer in the header refers to a live local.
    let ret = unsafe { libc::sendmsg(socket.as_raw_fd(), &header, libc::MSG_NOSIGNAL) };
    Errno::result(ret).map(drop)
}

/// Receives one descriptor (close-on-exec) with at most `buffer` bytes; `None` where none came along.
pub fn recv_fd(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<Option<OwnedFd>> {
    recv_with_fd(socket, buffer).map(|(_, fd)| fd)
}

/// As [`recv_fd`], with the length of the message; 0 is end of file.
pub fn recv_with_fd(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<(usize, Option<OwnedFd>)> {
    let mut space = nix::cmsg_space!([std::os::fd::RawFd; 4]);
    let mut iov = [IoSliceMut::new(buffer)];
    let message = loop {
        match recvmsg::<()>(socket.as_raw_fd(), &mut iov, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC) {
            Err(Errno::EINTR) => {}
            other => break other?,
        }
    };
    let mut got = None;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = control {
            for fd in fds {
                // SAFETY: the kernel has just installed this descriptor for us, and nobody else owns it.
                let owned = unsafe { OwnedFd::from_raw_fd(fd) };
                got.get_or_insert(owned);
            }
        }
    }
    Ok((message.bytes, got))
}

/// Receives one descriptor (close-on-exec) with a short message, without allocating, for the container's init.
///
/// `None` at end of file, or where no descriptor came along.
pub fn receive_fd(socket: BorrowedFd<'_>) -> Result<Option<OwnedFd>> {
    let mut message = [0u8; 16];
    let mut iov = libc::iovec { iov_base: message.as_mut_ptr().cast(), iov_len: message.len() };
    let mut control = OneRight { room: [0; 32] };
    // SAFETY: msghdr is plain data, for which all zeroes is a valid value.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut iov;
    header.msg_iovlen = 1;
    header.msg_control = (&raw mut control).cast();
    header.msg_controllen = size_of::<OneRight>() as _;
    loop {
        // SAFETY: every pointer in the header refers to a live local.
        let got = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_CMSG_CLOEXEC) };
        match Errno::result(got) {
            Err(Errno::EINTR) => continue,
            other => other?,
        };
        break;
    }
    // SAFETY: the kernel has filled the header and the control buffer that it names.
    let cmsg = unsafe { libc::CMSG_FIRSTHDR(&raw const header) };
    if cmsg.is_null() {
        return Ok(None);
    }
    // SAFETY: not null, so it points at a whole cmsghdr in the control buffer.
    let first = unsafe { cmsg.read() };
    if first.cmsg_level != libc::SOL_SOCKET || first.cmsg_type != libc::SCM_RIGHTS {
        return Ok(None);
    }
    // SAFETY: the data of a cmsghdr within the control buffer.
    let data = unsafe { libc::CMSG_DATA(cmsg) }.cast::<libc::c_int>();
    // SAFETY: a message of rights has at least one descriptor, and the buffer has room for one.
    let raw = unsafe { data.read_unaligned() };
    // SAFETY: the kernel has just installed this descriptor for us, and nobody else owns it.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(raw) }))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn what_the_other_end_said_last_comes_after_the_news_that_it_did_not_listen() {
        let (ours, theirs) = pair().unwrap();
        send(ours.as_fd(), b"go on").unwrap();
        send(theirs.as_fd(), b"failed").unwrap();
        drop(theirs);
        let mut bytes = [0; 16];
        assert_eq!(recv(ours.as_fd(), &mut bytes), Err(Errno::ECONNRESET));
        assert_eq!(recv(ours.as_fd(), &mut bytes), Ok(6));
        assert_eq!(&bytes[..6], b"failed");
        assert_eq!(recv(ours.as_fd(), &mut bytes), Ok(0));
    }

    #[test]
    fn the_end_is_waited_for_past_what_is_said() {
        use std::time::Duration;
        let (ours, theirs) = pair().unwrap();
        let waiting = std::thread::spawn(move || {
            await_close(ours.as_fd()).unwrap();
            ours
        });
        send(theirs.as_fd(), b"first").unwrap();
        std::thread::sleep(Duration::from_millis(50));
        assert!(!waiting.is_finished());
        send(theirs.as_fd(), b"last").unwrap();
        drop(theirs);
        let ours = waiting.join().unwrap();
        let mut bytes = [0; 16];
        assert_eq!(recv(ours.as_fd(), &mut bytes), Ok(5));
        assert_eq!(recv(ours.as_fd(), &mut bytes), Ok(4));
        assert_eq!(recv(ours.as_fd(), &mut bytes), Ok(0));
    }
}
