//! What the integration tests share: a bundle of its own for each test, the built program, and skips that are counted.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

pub mod actions;
pub mod config;
pub mod sockets;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Prints why a test is skipped, in the form that hack/test counts, and leaves the test.
#[macro_export]
macro_rules! skip {
    ($($why:tt)*) => {{
        eprintln!("SKIP: {}", format!($($why)*));
        return;
    }};
}

/// Leaves the test unless it runs as root.
#[macro_export]
macro_rules! need_root {
    () => {
        if !nix::unistd::geteuid().is_root() {
            $crate::skip!("needs root");
        }
    };
}

/// A static busybox: what test containers run.
pub const BUSYBOX: &str = "/bin/busybox";

/// What test containers find on their PATH. Links to all of busybox would take longer to make than most tests take.
const APPLETS: &str = "[ awk basename cat chgrp chmod chown chroot chrt cp cut date dd df dirname du echo env expr false find \
    free grep head hostname id ionice ip kill ln ls md5sum mkdir mkfifo mknod mktemp mount mountpoint mv nc nice nproc od \
    ping printf ps pwd readlink realpath rm rmdir sed seq setsid sh sleep sort stat stty sync sysctl tail taskset tee test \
    timeout top touch tr true truncate tty umount uname uniq unlink unshare uptime usleep wc which xargs yes";

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A bundle with a busybox rootfs, and a state root of its own. Dropped, it removes every container in it.
pub struct Bundle {
    dir: PathBuf,
    /// config.json, written by every command that is run.
    pub config: Value,
}

/// What a command printed, and its exit status.
#[derive(Debug)]
pub struct Done {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Done {
    /// Standard output of a command that succeeded.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.stdout
    }

    /// Standard error of a command that failed with status 1.
    #[track_caller]
    pub fn fails(self) -> String {
        assert_eq!(self.code, 1, "{self:?}");
        self.stderr
    }
}

impl From<Output> for Done {
    fn from(output: Output) -> Done {
        use std::os::unix::process::ExitStatusExt;
        let status = output.status;
        Done {
            code: status.code().unwrap_or_else(|| -status.signal().unwrap_or(0)),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Bundle {
    /// A bundle whose program is `sh -c script`.
    pub fn new(script: &str) -> Bundle {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("orlop-test-{}-{number}", std::process::id()));
        let bin = dir.join("bundle/rootfs/bin");
        std::fs::create_dir_all(&bin).unwrap();
        std::fs::copy(BUSYBOX, bin.join("busybox")).expect("busybox-static is installed (hack/test does it)");
        for applet in APPLETS.split_whitespace() {
            std::os::unix::fs::symlink("busybox", bin.join(applet)).unwrap();
        }
        let mut config = default_config();
        config["process"]["args"] = json!(["sh", "-c", script]);
        Bundle { dir, config }
    }

    /// An id that no other test uses.
    pub fn id(&self) -> String {
        format!("{}-{}", self.dir.file_name().unwrap().to_str().unwrap(), NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// The folder with config.json.
    pub fn path(&self) -> PathBuf {
        self.dir.join("bundle")
    }

    /// The root file system.
    pub fn rootfs(&self) -> PathBuf {
        self.path().join("rootfs")
    }

    /// The folder of containers' states.
    pub fn root(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// A place for the test's own files.
    pub fn temp(&self) -> PathBuf {
        let temp = self.dir.join("temp");
        std::fs::create_dir_all(&temp).unwrap();
        temp
    }

    /// The program with `--root` and the arguments, run in the bundle. config.json is written first.
    pub fn command(&self, args: &[&str]) -> Command {
        // Renamed into its place: a command that still runs may be reading it.
        let new = self.temp().join(format!("config-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        std::fs::write(&new, serde_json::to_vec_pretty(&self.config).unwrap()).unwrap();
        std::fs::rename(&new, self.path().join("config.json")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_orlop"));
        command.arg("--root").arg(self.root()).args(args).current_dir(self.path()).stdin(Stdio::null());
        command
    }

    /// Runs it to its end.
    ///
    /// Output goes through files: a detached container keeps inherited pipes open, and would be waited for.
    pub fn orlop(&self, args: &[&str]) -> Done {
        self.finish(self.command(args))
    }

    /// Runs a prepared command to its end.
    pub fn finish(&self, mut command: Command) -> Done {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let (out, err) = (self.temp().join(format!("out-{number}")), self.temp().join(format!("err-{number}")));
        let file = |path: &Path| std::fs::File::create(path).unwrap();
        let status = command.stdout(file(&out)).stderr(file(&err)).status().unwrap();
        let text = |path: &Path| std::fs::read(path).unwrap();
        Done::from(Output { status, stdout: text(&out), stderr: text(&err) })
    }

    /// Runs a container in the foreground to its end.
    pub fn run(&self) -> Done {
        let id = self.id();
        self.orlop(&["run", &id])
    }

    /// The `state` of a container.
    #[track_caller]
    pub fn state(&self, id: &str) -> Value {
        serde_json::from_str(&self.orlop(&["state", id]).ok()).unwrap()
    }

    /// Waits until a container has that status.
    #[track_caller]
    pub fn wait_for(&self, id: &str, status: &str) {
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            let now = self.state(id)["status"].as_str().unwrap().to_owned();
            if now == status {
                return;
            }
            assert!(Instant::now() < end, "{id} is {now}, not {status}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        if let Ok(entries) = std::fs::read_dir(self.root()) {
            for entry in entries.flatten() {
                let id = entry.file_name();
                let mut command = Command::new(env!("CARGO_BIN_EXE_orlop"));
                let _ = command.arg("--root").arg(self.root()).args(["delete", "--force"]).arg(id).output();
            }
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// What `orlop spec` writes, without a terminal.
fn default_config() -> Value {
    let dir = std::env::temp_dir().join(format!(
        "orlop-spec-{}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    ));
    std::fs::create_dir_all(&dir).unwrap();
    let done = Command::new(env!("CARGO_BIN_EXE_orlop")).args(["spec", "--bundle"]).arg(&dir).output().unwrap();
    assert!(done.status.success(), "{done:?}");
    let mut config: Value = serde_json::from_slice(&std::fs::read(dir.join("config.json")).unwrap()).unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
    config["process"]["terminal"] = json!(false);
    config
}

/// Every directory of every cgroup hierarchy whose name contains `id`.
pub fn cgroups_of(id: &str) -> Vec<PathBuf> {
    fn walk(dir: &Path, id: &str, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if entry.file_name().to_string_lossy().contains(id) {
                    found.push(entry.path());
                }
                walk(&entry.path(), id, found);
            }
        }
    }
    let mut found = Vec::new();
    walk(Path::new("/sys/fs/cgroup"), id, &mut found);
    found
}

/// Every process whose command line or environment contains `text`.
pub fn processes_with(text: &str) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        if pid == std::process::id() as i32 {
            continue;
        }
        for file in ["cmdline", "environ"] {
            let bytes = std::fs::read(entry.path().join(file)).unwrap_or_default();
            if String::from_utf8_lossy(&bytes).contains(text) {
                found.push(pid);
            }
        }
    }
    found
}

/// Mount points of this process's namespace below `path`.
pub fn mounts_below(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let below = |line: &&str| line.split(' ').nth(4).is_some_and(|point| Path::new(point).starts_with(path));
    text.lines().filter(below).map(str::to_owned).collect()
}
