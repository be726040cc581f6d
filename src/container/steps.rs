//! Steps of `create`, `run` and `exec` that are about the record, and about what callers are told of the process.

use std::cell::RefCell;
use std::ffi::CString;
use std::fmt;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::rc::Rc;

use anyhow::anyhow;

use super::record::Record;
use super::{status, store};
use crate::error::{Result, Why};
use crate::plan::{Outside, Runtime, Slot};
use crate::sys::{channel, fd};

/// The first step: the record, naming all that is about to be made, and the configuration.
pub struct WriteRecord {
    /// What is written.
    pub record: Rc<RefCell<Record>>,
    /// The container's directory.
    pub dir: PathBuf,
    /// config.json as it was read.
    pub config: Vec<u8>,
}

impl fmt::Display for WriteRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("writing the record")
    }
}

impl Outside for WriteRecord {
    fn run(&self, _: &mut Runtime) -> Result<()> {
        store::begin_record(&self.dir, &self.record.borrow())?;
        store::keep_config(&self.dir, &self.config)
    }
}

/// The fifo on which init waits for `start`.
pub struct MakeFifo {
    /// Where.
    pub path: CString,
    /// Init's end.
    pub slot: Slot,
}

impl fmt::Display for MakeFifo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("making exec.fifo")
    }
}

impl Outside for MakeFifo {
    fn run(&self, runtime: &mut Runtime) -> Result<()> {
        nix::unistd::mkfifo(self.path.as_c_str(), nix::sys::stat::Mode::from_bits_truncate(0o600))
            .why(|| format!("mkfifo {:?}", self.path))?;
        // Read-write: it never blocks, and while init has it open `start` finds a reader.
        let fifo = fd::open(&self.path, libc::O_RDWR, 0).why(|| format!("opening {:?}", self.path))?;
        runtime.slots.put(self.slot, fifo);
        Ok(())
    }
}

/// The connection over which [`SendPidfd`] sends.
pub struct ConnectPidfdSocket {
    /// `--pidfd-socket`.
    pub path: PathBuf,
    /// The connection.
    pub slot: Slot,
}

impl fmt::Display for ConnectPidfdSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connecting to the pidfd socket {:?}", self.path)
    }
}

impl Outside for ConnectPidfdSocket {
    fn run(&self, runtime: &mut Runtime) -> Result<()> {
        runtime.slots.put(self.slot, channel::connect(&self.path).why(|| format!("--pidfd-socket {:?}", self.path))?);
        Ok(())
    }
}

/// Sends a pidfd of the container's process to the socket of `--pidfd-socket`.
pub struct SendPidfd(pub Slot);

impl fmt::Display for SendPidfd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sending the pidfd")
    }
}

impl Outside for SendPidfd {
    fn run(&self, runtime: &mut Runtime) -> Result<()> {
        let socket = runtime.slots.get(self.0).why(|| "--pidfd-socket")?;
        channel::send_fds(socket, b"pidfd", &[runtime.child()?.pidfd.as_fd()]).why(|| "--pidfd-socket")
    }
}

/// The record of the process, by pid and start time.
pub struct RecordPid {
    /// What is completed and written.
    pub record: Rc<RefCell<Record>>,
    /// The container's directory.
    pub dir: PathBuf,
}

impl fmt::Display for RecordPid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("recording the pid")
    }
}

impl Outside for RecordPid {
    fn run(&self, runtime: &mut Runtime) -> Result<()> {
        let mut record = self.record.borrow_mut();
        let child = runtime.child()?;
        let stat = || status::stat(child.pid).map(|(_, start)| start).ok_or_else(|| anyhow!("it has gone"));
        record.pid = child.pid;
        record.start_time = child.started.map_or_else(stat, Ok)?;
        store::write_record(&self.dir, &record)
    }
}

/// Writes the process's pid for the caller; the file appears whole.
pub struct WritePidFile(pub PathBuf);

impl fmt::Display for WritePidFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "writing the pid to {:?}", self.0)
    }
}

impl Outside for WritePidFile {
    fn run(&self, runtime: &mut Runtime) -> Result<()> {
        let mut name = std::ffi::OsString::from(".");
        name.push(self.0.file_name().ok_or_else(|| anyhow!("--pid-file {:?} names no file", self.0))?);
        let temp = self.0.with_file_name(name);
        let write = || {
            let mut options = std::fs::File::options();
            let mut file = options.write(true).create(true).truncate(true).mode(0o666).open(&temp)?;
            std::io::Write::write_all(&mut file, runtime.child().map_or(0, |child| child.pid).to_string().as_bytes())?;
            std::fs::rename(&temp, &self.0)
        };
        write().why(|| format!("--pid-file {:?}", self.0))
    }
}

/// The end of creation, for the container in that directory.
pub struct RecordCreated(pub PathBuf);

impl fmt::Display for RecordCreated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("recording that the container is created")
    }
}

impl Outside for RecordCreated {
    fn run(&self, _: &mut Runtime) -> Result<()> {
        store::finish(&self.0)
    }
}
