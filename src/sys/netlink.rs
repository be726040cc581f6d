//! Route netlink: netlink(7), rtnetlink(7). For outside steps: answers are as long as they are, so this allocates.

use std::fmt;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::sys::socket::{self, AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType};

use super::{Errno, Result};

const HEADER: usize = 16;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_ACK_TLVS: u16 = 0x200;
/// The attribute of an answer that says in words why a request was refused (Linux 4.12).
const NLMSGERR_ATTR_MSG: u16 = 1;
/// The kernel's messages are at most this long when they are received with a buffer of this size.
const LONGEST: usize = 1 << 16;

/// The flags of a request that makes something, beside those that every request has.
pub const CREATE: u16 = 0x400 | 0x200;

/// A request being written.
#[derive(Debug, Clone)]
pub struct Request(Vec<u8>);

impl Request {
    /// A request of a kind (RTM_*), with the structure that this kind begins with.
    pub fn new(kind: u16, flags: u16, structure: &[u8]) -> Request {
        let mut bytes = Vec::with_capacity(128);
        bytes.extend(0u32.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((flags | NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend(structure);
        Request(bytes)
    }

    /// Adds an attribute.
    #[must_use]
    pub fn with(mut self, kind: u16, value: &[u8]) -> Request {
        self.0.extend((value.len() as u16 + 4).to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// Adds an attribute that is a descriptor.
    #[must_use]
    pub fn with_fd(self, kind: u16, fd: BorrowedFd<'_>) -> Request {
        self.with(kind, &fd.as_raw_fd().to_ne_bytes())
    }

    fn finish(mut self, more: u16) -> Vec<u8> {
        let len = self.0.len() as u32;
        let flags = u16_at(&self.0, 6) | more;
        if let Some(place) = self.0.get_mut(..4) {
            place.copy_from_slice(&len.to_ne_bytes());
        }
        if let Some(place) = self.0.get_mut(6..8) {
            place.copy_from_slice(&flags.to_ne_bytes());
        }
        self.0
    }
}

/// One message of an answer, without its header.
#[derive(Debug, Clone)]
pub struct Message(pub Vec<u8>);

impl Message {
    /// A byte of the structure at the beginning.
    pub fn byte(&self, at: usize) -> u8 {
        self.0.get(at).copied().unwrap_or(0)
    }

    /// Four bytes of it.
    pub fn word(&self, at: usize) -> u32 {
        self.0.get(at..at + 4).map_or(0, word)
    }

    /// The attributes that follow a structure of `skip` bytes.
    pub fn attributes(&self, skip: usize) -> Vec<(u16, &[u8])> {
        attributes(self.0.get(skip..).unwrap_or_default())
    }
}

/// The number in an attribute of four bytes.
pub fn word(value: &[u8]) -> u32 {
    value.try_into().map_or(0, u32::from_ne_bytes)
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).and_then(|pair| pair.try_into().ok()).map_or(0, u16::from_ne_bytes)
}

fn attributes(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    /// The upper two bits say how the value is to be read.
    const KIND: u16 = 0x3fff;
    let mut found = Vec::new();
    loop {
        let len = usize::from(u16_at(bytes, 0));
        let Some(value) = bytes.get(4..len) else { return found };
        found.push((u16_at(bytes, 2) & KIND, value));
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
}

/// Why the kernel refused a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The errno.
    pub errno: Errno,
    /// The kernel's own words, where it has some.
    pub words: String,
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Refusal {
        Refusal { errno, words: String::new() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::error::errno_text(self.errno))?;
        if self.words.is_empty() { Ok(()) } else { write!(f, " ({})", self.words) }
    }
}

/// A socket to the kernel, of the network namespace in which it was opened.
#[derive(Debug)]
pub struct Socket(OwnedFd);

impl Socket {
    /// Opens one in the network namespace of this process.
    ///
    /// # Errors
    /// Those of socket(2).
    pub fn open() -> Result<Socket> {
        let protocol = SockProtocol::NetlinkRoute;
        let socket = socket::socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        // Answers with words in them are a courtesy of newer kernels.
        for option in [libc::NETLINK_EXT_ACK, libc::NETLINK_CAP_ACK] {
            let on: libc::c_int = 1;
            let len = size_of::<libc::c_int>() as libc::socklen_t;
            // SAFETY: reads one int that outlives the call.
            unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_NETLINK, option, (&raw const on).cast(), len) };
        }
        Ok(Socket(socket))
    }

    /// Sends a request and gives back what answers it.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn ask(&self, request: Request) -> std::result::Result<Vec<Message>, Refusal> {
        self.send(&request.finish(0))?;
        Ok(self.receive()?.0)
    }

    /// Asks for all objects of a kind.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn dump(&self, request: &Request) -> std::result::Result<Vec<Message>, Refusal> {
        /// A list that changes all the time is taken as it is in the end.
        const ATTEMPTS: u32 = 5;
        let mut list = Vec::new();
        for _ in 0..ATTEMPTS {
            self.send(&request.clone().finish(NLM_F_DUMP))?;
            let (found, interrupted) = self.receive()?;
            list = found;
            if !interrupted {
                break;
            }
        }
        Ok(list)
    }

    fn send(&self, bytes: &[u8]) -> Result<()> {
        socket::send(self.0.as_raw_fd(), bytes, MsgFlags::empty()).map(drop)
    }

    /// All messages up to the last one, and whether the list changed while it was read.
    fn receive(&self) -> std::result::Result<(Vec<Message>, bool), Refusal> {
        let mut buffer = vec![0; LONGEST];
        let (mut list, mut interrupted) = (Vec::new(), false);
        loop {
            let len = match socket::recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::MSG_TRUNC) {
                Err(Errno::EINTR) => continue,
                Ok(len) if len > LONGEST => return Err(Errno::EMSGSIZE.into()),
                other => other?,
            };
            let mut rest = buffer.get(..len).unwrap_or_default();
            while let Some(body) = rest.get(HEADER..word(rest.get(..4).unwrap_or_default()) as usize) {
                let (kind, flags) = (u16_at(rest, 4), u16_at(rest, 6));
                interrupted |= flags & NLM_F_DUMP_INTR != 0;
                match kind {
                    NLMSG_ERROR => return refusal(body, flags).map_or(Ok((list, interrupted)), Err),
                    NLMSG_DONE => return Ok((list, interrupted)),
                    _ => list.push(Message(body.to_vec())),
                }
                rest = rest.get((HEADER + body.len()).next_multiple_of(4)..).unwrap_or_default();
            }
        }
    }
}

/// What an error message says; errno 0 is the acknowledgement of success.
fn refusal(body: &[u8], flags: u16) -> Option<Refusal> {
    let code = word(body.get(..4)?) as i32;
    if code == 0 {
        return None;
    }
    let tail = if flags & NLM_F_ACK_TLVS == 0 { &[] } else { body.get(4 + HEADER..).unwrap_or_default() };
    let text = attributes(tail).into_iter().find(|(kind, _)| *kind == NLMSGERR_ATTR_MSG);
    let words = text.map_or_else(String::new, |(_, text)| String::from_utf8_lossy(text).trim_matches('\0').to_owned());
    Some(Refusal { errno: Errno::from_raw(-code), words })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_aligned_and_know_their_length() {
        let bytes = Request::new(18, 0, &[0; 16]).with(3, b"eth0\0").finish(NLM_F_DUMP);
        assert_eq!((bytes.len(), word(&bytes[..4])), (44, 44));
        assert_eq!((u16_at(&bytes, 4), u16_at(&bytes, 6)), (18, 0x305));
        assert_eq!(attributes(&bytes[32..]), [(3, &b"eth0\0"[..])]);
    }

    #[test]
    fn a_damaged_attribute_ends_the_list() {
        assert_eq!(attributes(&[3, 0, 0, 0]), []);
        assert_eq!(attributes(&[8, 0, 1, 0, 9, 9]), []);
        assert_eq!(attributes(&[8, 0, 1, 0x80, 1, 2, 3, 4, 0, 0]), [(1, &[1, 2, 3, 4][..])]);
    }

    #[test]
    fn a_device_that_is_not_there_is_enodev() {
        let mut link = vec![0; 16];
        link[0] = libc::AF_UNSPEC as u8;
        let asked = Request::new(libc::RTM_GETLINK, 0, &link).with(libc::IFLA_IFNAME, b"no-such-one\0");
        assert_eq!(Socket::open().unwrap().ask(asked).unwrap_err().errno, Errno::ENODEV);
    }
}
