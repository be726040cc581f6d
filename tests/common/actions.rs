//! What tests do with containers again and again.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{Bundle, Done, cgroups_of, mounts_below};

/// Waits until `ready` gives something.
#[track_caller]
pub fn eventually<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(found) = ready() {
            return found;
        }
        assert!(Instant::now() < end, "{what}: not in time");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The target of a link such as /proc/self/ns/uts.
#[track_caller]
pub fn link(path: impl AsRef<Path>) -> String {
    std::fs::read_link(path).unwrap().to_str().unwrap().to_owned()
}

/// Whether a process runs (a zombie does not).
pub fn is_alive(pid: i64) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    !stat.rsplit(") ").next().unwrap().starts_with('Z')
}

impl Bundle {
    /// A container in the state `created`, and its id.
    #[track_caller]
    pub fn created(&self) -> String {
        let id = self.id();
        self.orlop(&["create", &id]).ok();
        id
    }

    /// A container whose program runs, and its id.
    #[track_caller]
    pub fn running(&self) -> String {
        let id = self.id();
        self.orlop(&["run", "--detach", &id]).ok();
        id
    }

    /// The pid of a container's first process.
    #[track_caller]
    pub fn pid(&self, id: &str) -> i64 {
        self.state(id)["pid"].as_i64().unwrap()
    }

    /// What `exec id sh -c script` prints.
    #[track_caller]
    pub fn exec(&self, id: &str, script: &str) -> String {
        self.orlop(&["exec", id, "sh", "-c", script]).ok()
    }

    /// Kills and deletes a container, and waits for both.
    #[track_caller]
    pub fn end(&self, id: &str) {
        self.orlop(&["delete", "--force", id]).ok();
    }

    /// Runs orlop from a shell with redirections such as `3</dev/null`.
    pub fn redirected(&self, redirections: &str, args: &[&str]) -> Done {
        let orlop = self.command(args);
        let mut shell = Command::new("/bin/sh");
        shell
            .arg("-c")
            .arg(format!("exec \"$0\" \"$@\" {redirections}"))
            .arg(orlop.get_program())
            .args(orlop.get_args());
        shell.current_dir(self.path()).stdin(Stdio::null());
        self.finish(shell)
    }

    /// Runs orlop in new namespaces of its own, which stand for the host's and may come to harm.
    pub fn unshared(&self, flags: &[&str], args: &[&str]) -> Done {
        let orlop = self.command(args);
        let mut unshare = Command::new("unshare");
        unshare
            .args(flags)
            .arg(orlop.get_program())
            .args(orlop.get_args())
            .current_dir(self.path())
            .stdin(Stdio::null());
        self.finish(unshare)
    }

    /// Starts orlop and does not wait; its output goes to `file` in the test's own folder.
    pub fn spawn(&self, args: &[&str], file: &str) -> Child {
        let output = std::fs::File::create(self.temp().join(file)).unwrap();
        let mut command = self.command(args);
        command.stdout(output.try_clone().unwrap()).stderr(output).spawn().unwrap()
    }

    /// Asserts that of a container nothing is there.
    #[track_caller]
    pub fn assert_nothing_of(&self, id: &str) {
        assert!(!self.root().join(id).exists(), "state is left");
        assert_eq!(cgroups_of(id), Vec::<std::path::PathBuf>::new());
        assert_eq!(mounts_below(&self.path()), Vec::<String>::new());
    }
}
