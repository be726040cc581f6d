//! Where containers are kept: one directory each below `--root`, locked while an operation changes it.
//!
//! `state.json` is the record, `config.json` the configuration as it was at creation, `exec.fifo` where init waits for `start`.
//! The directory has the sticky bit until the container is made. The lock is flock(2) on the directory itself, so that
//! there is no lock file to leave behind.

use std::ffi::OsStr;
use std::fs::{DirBuilder, File, Permissions};
use std::io::{ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::id::ContainerId;
use super::record::Record;
use crate::error::{Result, Why};
use crate::spec::{Config, Part};
use crate::sys::copy;

/// The directory of all containers.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

/// One container's directory, locked.
#[derive(Debug)]
pub struct Seat {
    dir: PathBuf,
    lock: Rc<Flock<File>>,
}

impl Store {
    /// The store below `root`.
    pub fn new(root: PathBuf) -> Store {
        Store { root }
    }

    /// The directory of a container, whether it exists or not.
    pub fn dir(&self, id: &ContainerId) -> PathBuf {
        self.root.join(id.as_str())
    }

    /// Says early, before anything is planned, that an id is taken; [`Store::reserve`] decides.
    ///
    /// # Errors
    /// When there is a container of that id.
    pub fn check_free(&self, id: &ContainerId) -> Result<()> {
        if self.dir(id).exists() {
            bail!("container with given ID already exists");
        }
        Ok(())
    }

    /// Makes the directory of a new container.
    ///
    /// # Errors
    /// When there is a container of that id, or the directory cannot be made.
    pub fn reserve(&self, id: &ContainerId) -> Result<Seat> {
        let dir = self.dir(id);
        let make = || DirBuilder::new().mode(0o711 | UNFINISHED).create(&dir);
        let made = match make() {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                DirBuilder::new()
                    .mode(0o700)
                    .recursive(true)
                    .create(&self.root)
                    .why(|| format!("mkdir {:?}", self.root))?;
                make()
            }
            other => other,
        };
        match made {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => bail!("container with given ID already exists"),
            other => other.why(|| format!("mkdir {dir:?}"))?,
        }
        lock(dir)
    }

    /// Opens and locks an existing container's directory.
    ///
    /// # Errors
    /// When there is none, or another operation holds the lock for long.
    pub fn open(&self, id: &ContainerId) -> Result<Seat> {
        lock(self.dir(id))
    }

    /// The record, without a lock: it is whole when the container is made.
    ///
    /// # Errors
    /// When there is no such container, or the record is damaged.
    pub fn record(&self, id: &ContainerId) -> Result<Record> {
        let dir = self.dir(id);
        let mut tries = 0;
        loop {
            // Before it is read, as it is whole from the moment on in which it is finished.
            let unfinished = is_unfinished(&dir);
            let error = match read_record(&dir) {
                Err(error) if !dir.join("state.json").exists() => error,
                // Written since: it is read again.
                Err(_) if tries == 0 => {
                    tries += 1;
                    continue;
                }
                Err(error) if unfinished => error,
                other => return other,
            };
            // `create` has only just begun: for everybody else there is no such container yet.
            if error.is::<NotFound>() || is_locked(&dir) {
                return Err(anyhow!(NotFound));
            }
            // Between the making of the directory and its locking; or left by a `create` that was killed there.
            tries += 1;
            if tries > 20 {
                return Err(error);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The ids of all containers.
    ///
    /// # Errors
    /// When the directory cannot be read; one that does not exist is empty.
    pub fn ids(&self) -> Result<Vec<ContainerId>> {
        let entries = match std::fs::read_dir(&self.root) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.why(|| format!("reading {:?}", self.root))?,
        };
        let mut ids = Vec::new();
        for entry in entries {
            let entry = entry.why(|| format!("reading {:?}", self.root))?;
            if entry.file_type().is_ok_and(|kind| kind.is_dir())
                && let Some(id) = entry.file_name().to_str().and_then(|name| ContainerId::new(name).ok())
            {
                ids.push(id);
            }
        }
        ids.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        Ok(ids)
    }
}

/// That there is no such container, as runc says it.
#[derive(Debug)]
pub struct NotFound;

impl std::fmt::Display for NotFound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("container does not exist")
    }
}

impl std::error::Error for NotFound {}

fn lock(dir: PathBuf) -> Result<Seat> {
    const PATIENCE: Duration = Duration::from_secs(10);
    let end = Instant::now() + PATIENCE;
    let flags = libc::O_DIRECTORY | libc::O_CLOEXEC;
    let mut file = match File::options().read(true).custom_flags(flags).open(&dir) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Err(anyhow!(NotFound)),
        other => other.why(|| format!("opening {dir:?}"))?,
    };
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => {
                // Deleted while this process waited for the lock.
                if lock.metadata().map_or(0, |meta| meta.nlink()) == 0 {
                    return Err(anyhow!(NotFound));
                }
                return Ok(Seat { dir, lock: Rc::new(lock) });
            }
            Err((back, Errno::EWOULDBLOCK)) if Instant::now() < end => {
                file = back;
                std::thread::sleep(Duration::from_millis(1));
            }
            Err((_, Errno::EWOULDBLOCK)) => {
                bail!("another operation has held the lock of this container for {} s", PATIENCE.as_secs())
            }
            Err((_, errno)) => return Err(errno).why(|| format!("locking {dir:?}")),
        }
    }
}

fn read_record(dir: &Path) -> Result<Record> {
    let file = dir.join("state.json");
    let text = match std::fs::read(&file) {
        Err(e) if e.kind() == ErrorKind::NotFound => {
            if dir.is_dir() {
                bail!("the container's record {file:?} is missing (delete --force removes what is left)");
            }
            return Err(anyhow!(NotFound));
        }
        Err(e) if e.kind() == ErrorKind::IsADirectory => {
            bail!("the container's record {file:?} is damaged: a directory (delete --force removes what is left)")
        }
        other => other.why(|| format!("reading {file:?}"))?,
    };
    serde_json::from_slice(&text)
        .map_err(|e| anyhow!("the container's record {file:?} is damaged: {e} (delete --force removes what is left)"))
}

impl Seat {
    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The lock, for those who have to give up their share of it.
    pub fn lock(&self) -> Rc<Flock<File>> {
        self.lock.clone()
    }

    /// Where init waits for `start`.
    pub fn fifo(&self) -> PathBuf {
        self.dir.join("exec.fifo")
    }

    /// Reads the record.
    ///
    /// # Errors
    /// When it is missing or damaged.
    pub fn record(&self) -> Result<Record> {
        read_record(&self.dir)
    }

    /// Reads the configuration as it was at creation.
    ///
    /// # Errors
    /// When it is missing or damaged.
    pub fn config(&self, part: Part) -> Result<Config> {
        kept_config(&self.dir, part)
    }

    /// Removes the directory and gives up the lock.
    ///
    /// # Errors
    /// When the file system refuses it.
    pub fn remove(self) -> Result<()> {
        const RECORD: &str = "state.json";
        let gone = |result: std::io::Result<()>| match result {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
            other => other.why(|| format!("removing {:?}", self.dir)),
        };
        let remove = |name: &OsStr| {
            let path = self.dir.join(name);
            match std::fs::remove_file(&path) {
                Err(e) if e.kind() == ErrorKind::IsADirectory => gone(std::fs::remove_dir_all(&path)),
                other => gone(other),
            }
        };
        let mut entries = [0; 1024];
        // From the beginning, as nobody else reads through the lock.
        loop {
            let filled = match copy::getdents64(self.lock.as_fd(), &mut entries) {
                Ok(0) | Err(Errno::ENOENT) => break,
                other => other.why(|| format!("reading {:?}", self.dir))?,
            };
            let names = copy::names(entries.get(..filled).unwrap_or_default());
            for name in names.map(|name| OsStr::from_bytes(name.to_bytes())).filter(|name| *name != RECORD) {
                remove(name)?;
            }
        }
        // The record goes last: whatever interrupts this can be taken up again.
        remove(OsStr::new(RECORD))?;
        gone(std::fs::remove_dir(&self.dir))
    }
}

/// Writes the record: a new file, flushed, in the place of the old one.
///
/// # Errors
/// When the file system refuses it; the old record is then as it was.
pub fn write_record(dir: &Path, record: &Record) -> Result<()> {
    let temp = dir.join("state.json.new");
    let file = dir.join("state.json");
    let write = || {
        flushed(&temp, record)?;
        std::fs::rename(&temp, &file)
    };
    write().why(|| format!("writing {file:?}"))
}

/// Writes the first record of a container, in place: half of one says no less than none.
///
/// # Errors
/// As [`write_record`].
pub fn begin_record(dir: &Path, record: &Record) -> Result<()> {
    let file = dir.join("state.json");
    flushed(&file, record).why(|| format!("writing {file:?}"))
}

fn flushed(file: &Path, record: &Record) -> std::io::Result<()> {
    let text = serde_json::to_vec(record)?;
    let mut new = private(file)?;
    new.write_all(&text)?;
    new.sync_all()
}

/// Whether a `create` was broken off before it had written all down, and so before it made anything; or a `delete`
/// after it had removed all else.
pub fn is_just_begun(dir: &Path) -> bool {
    !dir.join("config.json").exists() && (!dir.join("state.json").exists() || is_unfinished(dir))
}

/// The mode bit (S_ISVTX) of a directory whose container is being made: a mark that appears with the directory and
/// goes in one call.
const UNFINISHED: u32 = libc::S_ISVTX;

/// Whether creation is in progress, or was broken off.
pub fn is_unfinished(dir: &Path) -> bool {
    std::fs::metadata(dir).is_ok_and(|found| found.mode() & UNFINISHED != 0)
}

/// Marks that creation is done. Cheaper than another record, and as whole.
///
/// # Errors
/// When the file system refuses it.
pub fn finish(dir: &Path) -> Result<()> {
    let unmark = || {
        let mode = std::fs::metadata(dir)?.mode() & 0o7777 & !UNFINISHED;
        std::fs::set_permissions(dir, Permissions::from_mode(mode))
    };
    unmark().why(|| format!("chmod {dir:?}"))
}

/// Keeps the configuration, as the bundle's may change later.
///
/// # Errors
/// When the file system refuses it.
pub fn keep_config(dir: &Path, text: &[u8]) -> Result<()> {
    let file = dir.join("config.json");
    private(&file).and_then(|mut new| new.write_all(text)).why(|| format!("writing {file:?}"))
}

/// A new file that nobody else may read: the environment of a process often holds secrets.
fn private(file: &Path) -> std::io::Result<File> {
    File::options().write(true).create(true).truncate(true).mode(0o600).open(file)
}

/// Whether another process is working on the container.
pub fn is_locked(dir: &Path) -> bool {
    File::open(dir)
        .is_ok_and(|file| matches!(Flock::lock(file, FlockArg::LockSharedNonblock), Err((_, Errno::EWOULDBLOCK))))
}

/// The configuration kept in a container's directory.
///
/// # Errors
/// When it is missing or damaged.
pub fn kept_config(dir: &Path, part: Part) -> Result<Config> {
    let file = dir.join("config.json");
    Config::read_part(std::fs::read(&file).why(|| format!("reading {file:?}"))?, part)
}
