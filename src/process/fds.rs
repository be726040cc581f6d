//! Descriptors that reach the program: standard ones, and those of `--preserve-fds` and LISTEN_FDS. No other.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use oci_spec::runtime::Spec;

use crate::plan::{Fault, Init, Inside, Plan};
use crate::sys::fd;

/// Adds the closing of everything from 3 + `preserved` on, at execve.
pub fn plan(preserved: u32, plan: &mut Plan) {
    plan.inside(CloseRest(3 + preserved));
}

/// The links of /proc that tell what the process's standard descriptors will be: the runtime's own.
pub fn links(spec: &Spec) -> Vec<String> {
    if spec.process().as_ref().and_then(oci_spec::runtime::Process::terminal).unwrap_or(false) {
        return Vec::new();
    }
    fd::stdio().into_iter().zip(0..).map(|(file, number)| link(file, number)).collect()
}

/// The usual ones are known without a look at /proc, which takes the kernel longer than all else here.
fn link(file: BorrowedFd<'_>, number: u32) -> String {
    match fd::stat(file) {
        Ok(stat) if fd::is_null_device(&stat) => return "/dev/null".to_owned(),
        Ok(stat) if stat.st_mode & libc::S_IFMT == libc::S_IFIFO && fd::fs_magic(file) == Ok(fd::PIPEFS_MAGIC) => {
            return format!("pipe:[{}]", stat.st_ino);
        }
        _ => {}
    }
    std::fs::read_link(format!("/proc/self/fd/{number}")).unwrap_or_default().to_string_lossy().into_owned()
}

struct CloseRest(u32);

impl fmt::Display for CloseRest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "keeping no descriptor from {} on", self.0)
    }
}

impl Inside for CloseRest {
    fn run(&self, _: &mut Init<'_>) -> std::result::Result<(), Fault> {
        Ok(fd::cloexec_from(self.0)?)
    }
}

/// Adds the exchange of the host's /dev/null for the container's own, after the change of root: a file of the host's
/// that the program holds open would keep a checkpoint from being made.
pub fn plan_null(plan: &mut Plan) {
    plan.inside(OwnNull);
}

struct OwnNull;

impl fmt::Display for OwnNull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("opening the container's own /dev/null where the host's is given")
    }
}

impl Inside for OwnNull {
    fn run(&self, _: &mut Init<'_>) -> std::result::Result<(), Fault> {
        let mut own = None;
        for (given, number) in fd::stdio().into_iter().zip(0..) {
            if !is_null(given) {
                continue;
            }
            if own.is_none() {
                match fd::open(c"/dev/null", libc::O_RDWR | libc::O_NOFOLLOW | libc::O_NOCTTY, 0) {
                    Ok(null) if is_null(null.as_fd()) => own = Some(null),
                    // A container without the device, or with something else there, keeps what it has been given.
                    Ok(_) | Err(Errno::ENOENT | Errno::ENXIO | Errno::ELOOP | Errno::EACCES | Errno::EPERM) => {
                        return Ok(());
                    }
                    Err(errno) => return Err(errno.into()),
                }
            }
            if let Some(own) = &own {
                fd::dup_to(own.as_fd(), number)?;
            }
        }
        Ok(())
    }
}

fn is_null(file: BorrowedFd<'_>) -> bool {
    fd::stat(file).is_ok_and(|stat| fd::is_null_device(&stat))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_without_proc_is_what_proc_says() {
        let (read, _write) = std::io::pipe().unwrap();
        let (socket, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        let zero = std::fs::File::open("/dev/zero").unwrap();
        let file = std::fs::File::open("Cargo.toml").unwrap();
        let dir = std::env::temp_dir().join(format!("orlop-fifo-{}", std::process::id()));
        nix::unistd::mkfifo(&dir, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let fifo = std::fs::File::options().read(true).write(true).open(&dir).unwrap();
        for file in [read.as_fd(), socket.as_fd(), null.as_fd(), zero.as_fd(), file.as_fd(), fifo.as_fd()] {
            let number = fd::number(file) as u32;
            let said = std::fs::read_link(format!("/proc/self/fd/{number}")).unwrap();
            assert_eq!(link(file, number), said.to_str().unwrap());
        }
        std::fs::remove_file(&dir).unwrap();
    }
}
