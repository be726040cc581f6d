//! The one message between the two actors: 24 bytes over the SOCK_SEQPACKET pair.

use nix::errno::Errno;

use super::Fault;

/// The size of an encoded frame.
pub const SIZE: usize = 24;

/// What a frame says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame {
    /// From outside: it is your turn, from this step on.
    Go(u32),
    /// From inside: my turn is over, this step is yours (or, at the end of the list, I am about to exec).
    /// With it goes one number that a step of the turn has for one of the next.
    Done(u32, u64),
    /// From inside: this step failed.
    Fault(u32, Fault),
    /// From the go-between of a joined user namespace: the pid of the process that it cloned.
    Pid(i32),
    /// From inside, in tests of debug builds: the runtime is to be killed now.
    Die,
}

impl Frame {
    /// The bytes on the wire: kind, step, errno, padding, detail; native byte order, as both ends are one program.
    pub fn encode(self) -> [u8; SIZE] {
        let (kind, step, errno, detail): (u32, u32, i32, u64) = match self {
            Frame::Go(step) => (1, step, 0, 0),
            Frame::Done(step, word) => (2, step, 0, word),
            Frame::Fault(step, fault) => (3, step, fault.errno as i32, fault.detail),
            Frame::Pid(pid) => (4, 0, pid, 0),
            Frame::Die => (5, 0, 0, 0),
        };
        let mut bytes = [0; SIZE];
        let words = [kind, step, errno as u32, 0];
        for (chunk, word) in bytes.chunks_exact_mut(4).zip(words) {
            chunk.copy_from_slice(&word.to_ne_bytes());
        }
        for (byte, value) in bytes.iter_mut().skip(16).zip(detail.to_ne_bytes()) {
            *byte = value;
        }
        bytes
    }

    /// The frame in `bytes`; `None` when they are no frame.
    pub fn decode(bytes: &[u8]) -> Option<Frame> {
        let word = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let detail = u64::from_ne_bytes(bytes.get(16..SIZE)?.try_into().ok()?);
        let step = word(4)?;
        match word(0)? {
            1 => Some(Frame::Go(step)),
            2 => Some(Frame::Done(step, detail)),
            3 => Some(Frame::Fault(step, Fault { errno: Errno::from_raw(word(8)? as i32), detail })),
            4 => Some(Frame::Pid(word(8)? as i32)),
            5 => Some(Frame::Die),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_survives_the_wire() {
        let fault = Fault { errno: Errno::EACCES, detail: u64::MAX - 1 };
        for frame in [Frame::Go(7), Frame::Done(u32::MAX, 9), Frame::Fault(3, fault), Frame::Pid(12345), Frame::Die] {
            assert_eq!(Frame::decode(&frame.encode()), Some(frame));
        }
    }

    #[test]
    fn short_or_foreign_bytes_are_no_frame() {
        assert_eq!(Frame::decode(&[0; SIZE]), None);
        assert_eq!(Frame::decode(&[1; SIZE - 1]), None);
    }
}
