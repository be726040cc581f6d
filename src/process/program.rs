//! What is executed: config.md#process (`args`, `env`, `cwd`), and the end of the walk.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::fmt;
use std::os::fd::AsFd;
use std::rc::Rc;

use anyhow::{anyhow, bail};
use nix::errno::Errno;

use crate::error::{Result, errno_text};
use crate::plan::{Fault, Init, Inside, Plan, Slot};
use crate::sys::missing::{self, Last};
use crate::sys::process::Strings;
use crate::sys::{fd, process};

/// The program, its arguments and environment, prepared for execve(2).
pub struct Program {
    name: String,
    /// `name` itself when it has a slash, else its places in PATH.
    candidates: Vec<CString>,
    argv: Strings,
    /// All but a HOME from the image.
    pub env: Rc<Strings>,
    /// Whether the environment needs a HOME from the image.
    pub needs_home: bool,
}

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl Program {
    /// Prepares `args` and `env`; of a variable that stands twice the last wins.
    ///
    /// # Errors
    /// No arguments, or NUL bytes.
    pub fn new(args: &[String], env: &[String]) -> Result<Program> {
        let Some(name) = args.first() else { bail!("config.json: process.args is empty") };
        let c = |field: &str, list: &mut dyn Iterator<Item = &str>| {
            let one = |(index, text): (usize, &str)| {
                CString::new(text).map_err(|_| anyhow!("config.json: process.{field}[{index}] contains a NUL byte"))
            };
            list.enumerate().map(one).collect::<Result<Vec<_>>>()
        };
        let env = last_of_each(env);
        let value = |key: &str| env.iter().find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
        let candidates = if name.contains('/') {
            vec![CString::new(name.as_str())?]
        } else {
            let dirs = value("PATH").unwrap_or(DEFAULT_PATH).split(':');
            // An empty element would mean the working directory, which the image chooses; Go's LookPath refuses it too.
            let dirs = dirs.filter(|dir| !dir.is_empty());
            dirs.map(|dir| CString::new(format!("{dir}/{name}"))).collect::<std::result::Result<_, _>>()?
        };
        let needs_home = value("HOME").is_none_or(str::is_empty);
        let strings = c("env", &mut env.iter().copied().filter(|pair| !needs_home || !pair.starts_with("HOME=")))?;
        let env = Rc::new(if needs_home { Strings::with_room(strings) } else { Strings::new(strings) });
        Ok(Program {
            name: name.clone(),
            candidates,
            argv: Strings::new(c("args", &mut args.iter().map(String::as_str))?),
            env,
            needs_home,
        })
    }
}

/// The environment with earlier duplicates taken out.
fn last_of_each(env: &[String]) -> Vec<&str> {
    let mut kept: Vec<&str> = Vec::with_capacity(env.len());
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for pair in env {
        let key = pair.split('=').next().unwrap_or_default();
        match seen.get(key).and_then(|at| kept.get_mut(*at)) {
            Some(place) => *place = pair,
            None => {
                seen.insert(key, kept.len());
                kept.push(pair);
            }
        }
    }
    kept
}

/// Whose rights reach the working directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum As {
    /// The container's root, before the user changes; a refusal is not final.
    Root(Missing),
    /// The process's user, where root was refused (a file system that squashes root).
    User,
}

/// What to do about a working directory that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// It is made, for a container's first process.
    Made,
    /// An error, for `exec`.
    Refused,
}

/// Adds the change into the working directory.
///
/// # Errors
/// A NUL byte.
pub fn plan_cwd(cwd: &std::path::Path, who: As, plan: &mut Plan) -> Result<()> {
    let path = CString::new(cwd.as_os_str().as_encoded_bytes());
    let path = path.map_err(|_| anyhow!("config.json: process.cwd contains a NUL byte"))?;
    plan.inside(ChangeDirectory { path, who });
    Ok(())
}

/// Adds the search for the program; its failure is worded as Go words it, as Docker and Podman match the words.
pub fn plan_find(program: &Rc<Program>, plan: &mut Plan) {
    plan.inside(FindProgram(program.clone()));
}

/// Adds the wait for `start`.
pub fn plan_wait(fifo: Slot, plan: &mut Plan) {
    plan.inside(WaitForStart(fifo));
}

/// Adds the end: execve.
pub fn plan_execute(program: Rc<Program>, plan: &mut Plan) {
    plan.inside(Execute(program));
}

struct ChangeDirectory {
    path: CString,
    who: As,
}

impl fmt::Display for ChangeDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = if self.who == As::User { " as the user, if root could not" } else { "" };
        write!(f, "changing to the working directory {:?}{who}", self.path)
    }
}

impl Inside for ChangeDirectory {
    fn run(&self, init: &mut Init<'_>) -> std::result::Result<(), Fault> {
        if init.has_cwd {
            return Ok(());
        }
        match self.change() {
            Err(Fault { errno: Errno::EACCES | Errno::EPERM, .. }) if self.who != As::User => return Ok(()),
            other => other?,
        }
        // A path through /proc/self/fd can lead out of the container's root.
        if !fd::cwd_is_reachable() {
            return Err(Fault { errno: Errno::EXDEV, detail: 1 });
        }
        init.has_cwd = true;
        Ok(())
    }

    fn explain(&self, fault: Fault) -> String {
        if fault.detail == 1 {
            return "current working directory is outside of container mount namespace root -- possible container breakout detected".into();
        }
        errno_text(fault.errno)
    }

    fn message(&self, fault: Fault) -> String {
        format!("error {self}: chdir to cwd ({:?}) set in config.json failed: {}", self.path, self.explain(fault))
    }
}

impl ChangeDirectory {
    fn change(&self) -> std::result::Result<(), Fault> {
        match fd::chdir(&self.path) {
            Err(Errno::ENOENT) if self.who == As::Root(Missing::Made) => {
                // Below the container's root, and through no descriptor of this process: nothing is made on the host.
                let root = fd::open(c"/", libc::O_PATH | libc::O_DIRECTORY, 0)?;
                let made = missing::make(root.as_fd(), &self.path, Last::Directory(0o755))?;
                Ok(fd::fchdir(made.as_fd())?)
            }
            other => Ok(other?),
        }
    }
}

struct FindProgram(Rc<Program>);

impl fmt::Display for FindProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "looking for the program {:?}", self.0.name)
    }
}

impl Inside for FindProgram {
    fn run(&self, init: &mut Init<'_>) -> std::result::Result<(), Fault> {
        let mut worst = Errno::ENOENT;
        for (index, candidate) in self.0.candidates.iter().enumerate() {
            match fd::check_executable(candidate) {
                Ok(()) => {
                    init.program = index;
                    return Ok(());
                }
                Err(Errno::EACCES) => worst = Errno::EACCES,
                Err(errno) if self.0.name.contains('/') => worst = errno,
                Err(_) => {}
            }
        }
        Err(worst.into())
    }

    fn message(&self, fault: Fault) -> String {
        let name = &self.0.name;
        match fault.errno {
            Errno::ENOENT if !name.contains('/') => format!("exec: {name:?}: executable file not found in $PATH"),
            Errno::ENOENT | Errno::ENOTDIR => format!("exec: {name:?}: stat {name}: {}", errno_text(fault.errno)),
            errno => format!("exec: {name:?}: {}", errno_text(errno)),
        }
    }
}

struct WaitForStart(Slot);

impl fmt::Display for WaitForStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("waiting for start")
    }
}

impl Inside for WaitForStart {
    fn run(&self, init: &mut Init<'_>) -> std::result::Result<(), Fault> {
        init.report_to(self.0);
        process::die_of_signals()?;
        let fifo = init.slots.get(self.0)?;
        let mut byte = [0];
        loop {
            match nix::unistd::read(fifo, &mut byte) {
                Ok(1) => return Ok(()),
                Err(Errno::EINTR) => {}
                // The runtime holds no end any more and init's own end is read-write: this cannot be end of file.
                _ => return Err(Errno::EIO.into()),
            }
        }
    }
}

struct Execute(Rc<Program>);

impl fmt::Display for Execute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let args: Vec<_> = self.0.argv.as_slice().iter().map(|arg| arg.to_string_lossy()).collect();
        write!(f, "executing {args:?}")
    }
}

impl Inside for Execute {
    fn run(&self, init: &mut Init<'_>) -> std::result::Result<(), Fault> {
        let program = &self.0;
        let path = program.candidates.get(init.program).ok_or(Errno::ENOENT)?;
        init.about_to_exec()?;
        process::default_signals()?;
        let errno = if program.needs_home {
            let home = CStr::from_bytes_until_nul(&init.home).unwrap_or(c"HOME=/");
            program.env.execve_with(home, path, &program.argv)
        } else {
            program.env.execve(path, &program.argv)
        };
        Err(errno.into())
    }

    // runc's process is the container's by now, and says no more than this.
    fn speaks_alone(&self) -> bool {
        true
    }

    fn message(&self, fault: Fault) -> String {
        format!("exec {}: {}", self.0.name, errno_text(fault.errno))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn the_last_of_a_duplicate_variable_wins_in_the_first_ones_place() {
        assert_eq!(last_of_each(&strings(&["A=1", "B=2", "A=3"])), strings(&["A=3", "B=2"]));
    }

    #[test]
    fn a_bare_name_is_looked_for_along_path() {
        let program = Program::new(&strings(&["sh"]), &strings(&["PATH=/a::/b"])).unwrap();
        assert_eq!(program.candidates, [c"/a/sh".to_owned(), c"/b/sh".to_owned()]);
        assert!(program.needs_home);
        let program = Program::new(&strings(&["/bin/sh"]), &strings(&["HOME=/x"])).unwrap();
        assert_eq!(program.candidates, [c"/bin/sh".to_owned()]);
        assert!(!program.needs_home);
    }
}
