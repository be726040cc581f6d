//! Network devices: the interface flags of netdevice(7).

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::{Errno, Result};

/// A socket for requests of netdevice(7) in this network namespace, which it then belongs to.
pub fn socket() -> Result<OwnedFd> {
    // SAFETY: takes numbers.
    let raw = Errno::result(unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: a descriptor just made, owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// The network namespace that a socket of any kind belongs to (Linux 4.9; CAP_NET_ADMIN over it).
pub fn namespace_of(socket: BorrowedFd<'_>) -> Result<OwnedFd> {
    const SIOCGSKNS: libc::c_int = 0x894c;
    // SAFETY: this request takes no argument.
    let raw = Errno::result(unsafe { libc::ioctl(socket.as_raw_fd(), SIOCGSKNS as _) })?;
    // SAFETY: a descriptor just made, owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Brings a device of the socket's network namespace up.
pub fn raise(socket: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    // SAFETY: ifreq is plain data, for which all zeroes is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.to_bytes().iter().take(libc::IFNAMSIZ - 1)) {
        *to = *from as libc::c_char;
    }
    // A new namespace's loopback has no other flag that could be lost.
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the request is of the type that this ioctl reads.
    Errno::result(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) }).map(drop)
}
