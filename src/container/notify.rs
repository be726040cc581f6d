//! `NOTIFY_SOCKET` (sd_notify(3)): the container gets a socket of its own, and its `READY=1` is passed on to the
//! one that the caller named, followed by the container's pid as `MAINPID`.
//!
//! The caller's socket itself is not given to the container: any process there could then steer the
//! service manager.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::bail;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use oci_spec::runtime::Mount;

use crate::error::{Result, Why};
use crate::plan::walk::Child;
use crate::spec::Config;
use crate::sys::process;

/// Where the container sees the folder with its socket.
const INSIDE: &str = "/run/notify";

/// The folder with the socket, in the container's own folder of the store.
fn folder(dir: &Path) -> PathBuf {
    dir.join("notify")
}

/// Whether the container was made with such a folder.
pub fn has_folder(dir: &Path) -> bool {
    folder(dir).is_dir()
}

/// Adds the mount and the variable that lead the container to its socket.
pub fn configure(config: &mut Config, dir: &Path) {
    let mut mount = Mount::default();
    mount.set_destination(INSIDE.into());
    mount.set_typ(Some("bind".into()));
    mount.set_source(Some(folder(dir)));
    mount.set_options(Some(["bind", "nosuid", "noexec", "nodev", "ro"].map(str::to_owned).to_vec()));
    let mut mounts = config.spec.mounts().clone().unwrap_or_default();
    mounts.push(mount);
    config.spec.set_mounts(Some(mounts));
    super::create::add_env(config, &[format!("NOTIFY_SOCKET={INSIDE}/notify.sock")]);
}

/// Makes the folder; the socket comes with `start`.
///
/// # Errors
/// When the file system refuses it.
pub fn make_folder(dir: &Path) -> Result<()> {
    let folder = folder(dir);
    std::fs::create_dir(&folder).why(|| format!("mkdir {folder:?}"))?;
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).why(|| format!("chmod {folder:?}"))
}

/// The container's socket, and where its messages go.
pub struct Notify {
    socket: UnixDatagram,
    host: PathBuf,
    passed_on: bool,
}

impl Notify {
    /// The caller's socket from the environment.
    pub fn host() -> Option<PathBuf> {
        std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty()).map(PathBuf::from)
    }

    /// Binds the socket of a container that was created with one.
    ///
    /// # Errors
    /// When it cannot be bound.
    pub fn bind(dir: &Path) -> Result<Option<Notify>> {
        let (folder, Some(host)) = (folder(dir), Notify::host()) else { return Ok(None) };
        if !folder.is_dir() {
            return Ok(None);
        }
        let path = folder.join("notify.sock");
        // Of a `start` that failed.
        let _ = std::fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path).why(|| format!("binding {path:?}"))?;
        use std::os::unix::fs::PermissionsExt;
        // The container's user may be any.
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).why(|| format!("chmod {path:?}"))?;
        socket.set_nonblocking(true).why(|| "NOTIFY_SOCKET")?;
        Ok(Some(Notify { socket, host, passed_on: false }))
    }

    /// Whether there is still something to wait for.
    pub fn is_waiting(&self) -> bool {
        !self.passed_on
    }

    /// Reads one message, and passes its READY line on.
    ///
    /// # Errors
    /// When the caller's socket does not take it.
    pub fn pass_on(&mut self, pid: i32) -> Result<()> {
        let mut message = [0; 4096];
        let Ok(got) = self.socket.recv(&mut message) else { return Ok(()) };
        let text = message.get(..got).unwrap_or_default();
        let Some(ready) = text.split(|byte| *byte == b'\n').find(|line| line.starts_with(b"READY=")) else {
            return Ok(());
        };
        let mut line = ready.to_vec();
        line.push(b'\n');
        // Also where the service manager has gone: that is no fault of the container.
        self.passed_on = true;
        self.send(&line)?;
        self.send(format!("MAINPID={pid}\n").as_bytes())
    }

    fn send(&self, message: &[u8]) -> Result<()> {
        use std::os::linux::net::SocketAddrExt;
        let name = self.host.as_os_str().as_encoded_bytes();
        // systemd writes an address of the abstract namespace with an @ in front.
        let address = match name.strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(&self.host),
        };
        let send = || UnixDatagram::unbound()?.send_to_addr(message, &address?).map(drop);
        send().why(|| format!("NOTIFY_SOCKET {:?}", self.host))
    }

    /// Waits until the container is ready, or has ended without ever being so.
    ///
    /// # Errors
    /// When the container ended, or the caller's socket does not take the message.
    pub fn wait(&mut self, init: BorrowedFd<'_>, pid: i32) -> Result<()> {
        while self.is_waiting() {
            let mut polled =
                [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN), PollFd::new(init, PollFlags::POLLIN)];
            if poll(&mut polled, PollTimeout::NONE).is_err() {
                continue;
            }
            let ready = polled.last().and_then(PollFd::revents).is_some_and(|events| !events.is_empty());
            let ended = ready && process::await_end(init, Duration::from_millis(5)).why(|| "poll")?;
            self.pass_on(pid)?;
            if ended && self.is_waiting() {
                bail!("the container ended before it was ready (NOTIFY_SOCKET)");
            }
        }
        Ok(())
    }

    /// As [`Notify::wait`], for the process that `run` has made.
    ///
    /// # Errors
    /// As [`Notify::wait`].
    pub fn wait_for(&mut self, child: &Child) -> Result<()> {
        self.wait(child.pidfd.as_fd(), child.pid)
    }

    /// To be polled.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
