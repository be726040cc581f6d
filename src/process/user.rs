//! The process's user: config.md#posix-platform-user (runtime-spec v1.3.0), and HOME from the image's passwd(5).

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::stat::Mode;

use crate::plan::{Fault, Init, Inside, Plan};
use crate::sys::{cred, fd};

/// Ids of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// User id in the container.
    pub uid: u32,
    /// Group id in the container.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// File mode creation mask; runc's default is 0022.
    pub umask: u32,
    /// Whether setgroups(2) is denied to a rootless container.
    pub setgroups_denied: bool,
}

/// Adds the change of user. Capabilities are kept over it, to be set afterwards.
pub fn plan(user: User, plan: &mut Plan) {
    plan.inside(BecomeUser(user));
}

/// Adds the search for the home directory, for processes whose environment has no HOME.
pub fn plan_home(uid: u32, plan: &mut Plan) {
    plan.inside(FindHome(uid));
}

/// Adds the giving of the standard descriptors to the user, as runc does, so that /dev/stdout can be opened again.
pub fn plan_stdio(uid: u32, plan: &mut Plan) {
    plan.inside(GiveStdio(uid));
}

struct BecomeUser(User);

impl fmt::Display for BecomeUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let User { uid, gid, groups, umask, .. } = &self.0;
        write!(f, "becoming user {uid}:{gid} with groups {groups:?} and umask {umask:04o}")
    }
}

impl Inside for BecomeUser {
    fn run(&self, _: &mut Init<'_>) -> std::result::Result<(), Fault> {
        nix::sys::stat::umask(Mode::from_bits_truncate(self.0.umask));
        match cred::setgroups(&self.0.groups) {
            Err(Errno::EPERM) if self.0.setgroups_denied && self.0.groups.is_empty() => {}
            other => other?,
        }
        // Only who gives up being root loses any by it.
        let keeps = self.0.uid != 0;
        if keeps {
            cred::keep_capabilities(1)?;
        }
        cred::setgid(self.0.gid)?;
        cred::setuid(self.0.uid)?;
        if keeps {
            cred::keep_capabilities(0)?;
        }
        Ok(())
    }

    fn explain(&self, fault: Fault) -> String {
        let why = crate::error::errno_text(fault.errno);
        match fault.errno {
            Errno::EINVAL => format!("{why}: the user namespace does not map these ids"),
            Errno::EPERM if self.0.setgroups_denied => {
                format!("{why}: a rootless container without newgidmap has no groups")
            }
            _ => why,
        }
    }
}

struct FindHome(u32);

impl fmt::Display for FindHome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "looking up the home directory of user {}", self.0)
    }
}

impl Inside for FindHome {
    fn run(&self, init: &mut Init<'_>) -> std::result::Result<(), Fault> {
        match fd::open(c"/etc/passwd", libc::O_RDONLY | libc::O_NONBLOCK, 0) {
            Ok(passwd) => find_home(passwd, self.0, &mut init.home),
            Err(_) => set_home(&mut init.home, b"/"),
        }
        Ok(())
    }
}

/// Fills `HOME=…` from the first line of a passwd(5) file that has this user with a home; `/` where none has.
pub fn find_home(passwd: OwnedFd, uid: u32, buffer: &mut [u8; 4096]) {
    set_home(buffer, b"/");
    Lines::new(passwd).each(|line| {
        let mut fields = line.split(|byte| *byte == b':');
        let found = fields.nth(2).and_then(number) == Some(uid);
        let home = fields.nth(2).filter(|home| found && !home.is_empty());
        if let Some(home) = home {
            set_home(buffer, home);
        }
        home.is_some()
    });
}

/// Fills `HOME=…` with its terminating NUL.
fn set_home(buffer: &mut [u8; 4096], home: &[u8]) {
    const KEY: &[u8] = b"HOME=";
    buffer.fill(0);
    for (to, from) in buffer.iter_mut().zip(KEY.iter().chain(home.iter().take(4096 - KEY.len() - 1))) {
        *to = *from;
    }
}

fn number(text: &[u8]) -> Option<u32> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The lines of a file, through a fixed buffer; longer lines are passed over.
struct Lines {
    file: OwnedFd,
    buffer: [u8; 4096],
}

impl Lines {
    fn new(file: OwnedFd) -> Lines {
        Lines { file, buffer: [0; 4096] }
    }

    /// Calls `done` with each line until it says that it is.
    fn each(&mut self, mut done: impl FnMut(&[u8]) -> bool) {
        let mut filled = 0;
        loop {
            let Some(room) = self.buffer.get_mut(filled..) else { return };
            let got = match nix::unistd::read(self.file.as_fd(), room) {
                Err(Errno::EINTR) => continue,
                Ok(got) => got,
                Err(_) => return,
            };
            let end = filled + got;
            let text = self.buffer.get(..end).unwrap_or_default();
            let whole = if got == 0 { end } else { text.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1) };
            for line in text.get(..whole).unwrap_or_default().split(|b| *b == b'\n') {
                if done(line) {
                    return;
                }
            }
            if got == 0 {
                return;
            }
            let rest = end - whole;
            self.buffer.copy_within(whole..end, 0);
            filled = if rest == self.buffer.len() { 0 } else { rest };
        }
    }
}

struct GiveStdio(u32);

impl fmt::Display for GiveStdio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "giving standard input, output and error to user {}", self.0)
    }
}

impl Inside for GiveStdio {
    fn run(&self, _: &mut Init<'_>) -> std::result::Result<(), Fault> {
        for stdio in fd::stdio() {
            let Ok(stat) = fd::stat(stdio) else { continue };
            if fd::is_null_device(&stat) || stat.st_uid == self.0 {
                continue;
            }
            match fd::fchown(stdio, self.0, stat.st_gid) {
                // An id that is not mapped, a read-only file system, a pipe of somebody else: runc lets these be.
                Ok(()) | Err(Errno::EINVAL | Errno::EPERM | Errno::EROFS) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Seek, Write};

    fn home_of(uid: u32, passwd: &str) -> String {
        let mut file = std::fs::File::from(fd::memfd(c"passwd").unwrap());
        file.write_all(passwd.as_bytes()).unwrap();
        file.rewind().unwrap();
        let mut home = None;
        Lines::new(file.into()).each(|line| {
            let fields: Vec<_> = line.split(|b| *b == b':').collect();
            let found = fields.get(2).copied().and_then(number) == Some(uid);
            if found {
                home = Some(String::from_utf8(fields[5].to_vec()).unwrap());
            }
            found
        });
        home.unwrap_or_default()
    }

    #[test]
    fn a_line_over_the_buffers_end_is_read_whole() {
        let long = "x".repeat(4090);
        let passwd = format!("a:x:1:1::/a:\n{long}:x:2:2::/b:/bin/sh\nc:x:3:3::/home/c:/bin/sh");
        assert_eq!(home_of(1, &passwd), "/a");
        assert_eq!(home_of(3, &passwd), "/home/c");
        assert_eq!(home_of(4, &passwd), "");
    }

    #[test]
    fn home_is_cut_to_its_buffer_and_terminated() {
        let mut buffer = [1; 4096];
        set_home(&mut buffer, &[b'x'; 5000]);
        assert_eq!((buffer[4094], buffer[4095]), (b'x', 0));
        set_home(&mut buffer, b"/root");
        assert!(buffer.starts_with(b"HOME=/root\0"));
    }
}
