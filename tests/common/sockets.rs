//! The other end of `--console-socket` and `--pidfd-socket`.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use super::Bundle;

/// A socket that waits for a descriptor.
pub struct Receiver {
    listener: UnixListener,
    /// Where it listens.
    pub path: PathBuf,
}

impl Receiver {
    /// Listens in the test's own folder.
    pub fn new(bundle: &Bundle) -> Receiver {
        let path = bundle.temp().join("receiver.sock");
        let listener = UnixListener::bind(&path).unwrap();
        Receiver { listener, path }
    }

    /// The path as an argument.
    pub fn arg(&self) -> &str {
        self.path.to_str().unwrap()
    }

    /// The descriptor that has been sent, and the message that came with it.
    #[track_caller]
    pub fn receive(&self) -> (OwnedFd, String) {
        self.listener.set_nonblocking(true).unwrap();
        let (stream, _) = self.listener.accept().expect("somebody has connected");
        let mut message = [0; 4096];
        let fd = orlop::sys::channel::recv_fd(stream.as_fd(), &mut message).unwrap().expect("a descriptor was sent");
        let text = message.split(|byte| *byte == 0).next().unwrap();
        (fd, String::from_utf8(text.to_vec()).unwrap())
    }
}
