//! A runtime in a scenario: orlop, or runc when orlop has failed and the question is whose fault it is.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::common::actions::eventually;
use crate::common::{BUSYBOX, Bundle, Done};

/// What a scenario gives: nothing, or what went wrong.
pub type Outcome = Result<(), String>;

/// Fails a scenario.
#[macro_export]
macro_rules! require {
    ($condition:expr, $($words:tt)*) => {
        if !$condition {
            return Err(format!($($words)*));
        }
    };
}

/// A bundle, and the runtime that has it.
pub struct Runtime {
    pub bundle: Bundle,
    program: Option<PathBuf>,
    pub id: String,
}

impl Runtime {
    /// The folder for the images.
    pub fn images(&self) -> String {
        self.bundle.temp().join("images").to_str().unwrap().to_owned()
    }

    /// The command, with a log that says what went wrong: containers cannot keep files of the host as their output.
    pub fn command(&self, args: &[&str]) -> Command {
        let orlop = self.bundle.command(args);
        let program = self.program.clone().unwrap_or_else(|| orlop.get_program().into());
        let mut command = Command::new(program);
        command.args(["--log", self.log().to_str().unwrap()]).args(orlop.get_args());
        command.current_dir(self.bundle.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn log(&self) -> PathBuf {
        self.bundle.temp().join("log")
    }

    /// Runs a command to its end, with nothing but /dev/null for a container to inherit.
    pub fn call(&self, args: &[&str]) -> Outcome {
        self.finish(self.command(args))
    }

    pub fn finish(&self, mut command: Command) -> Outcome {
        let _ = std::fs::remove_file(self.log());
        let status = command.status().unwrap();
        let words: Vec<_> = command.get_args().map(|arg| arg.to_string_lossy().into_owned()).collect();
        let log = std::fs::read_to_string(self.log()).unwrap_or_default();
        require!(status.success(), "{}: {status}: {log}", words.join(" "));
        Ok(())
    }

    pub fn run(&self) -> Outcome {
        self.call(&["run", "--detach", &self.id])
    }

    /// `checkpoint` into the images' folder.
    pub fn checkpoint(&self, flags: &[&str]) -> Outcome {
        self.call(
            &[&["checkpoint", "--image-path", &self.images()], self.manage_cgroups(), flags, &[self.id.as_str()]]
                .concat(),
        )
    }

    /// `restore` from there, detached.
    pub fn restore(&self, flags: &[&str]) -> Outcome {
        let images = self.images();
        let args = ["restore", "--detach", "--image-path", &images];
        self.call(&[&args, self.manage_cgroups(), flags, &[self.id.as_str()]].concat())
    }

    /// On v2 criu walks all cgroups below its own, among which those of other tests come and go, and it changes
    /// the options of the host's mount (https://github.com/checkpoint-restore/criu/issues/3029).
    pub fn manage_cgroups(&self) -> &'static [&'static str] {
        let unified = std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
        // runc knows the word since 1.2.
        let known = self.program.is_none() || self.captured(&["checkpoint", "--help"]).stdout.contains("ignore");
        if unified && known { &["--manage-cgroups-mode", "ignore"] } else { &[] }
    }

    fn captured(&self, args: &[&str]) -> Done {
        let mut command = self.command(args);
        let output = command.stdout(Stdio::piped()).output().unwrap();
        Done::from(output)
    }

    /// What a command prints.
    pub fn output(&self, args: &[&str]) -> Result<String, String> {
        let done = self.captured(args);
        require!(done.code == 0, "{args:?}: {done:?}");
        Ok(done.stdout)
    }

    /// The container's status and pid; `None` when there is no such container.
    pub fn state(&self) -> Option<(String, i64)> {
        let done = self.captured(&["state", &self.id]);
        let state: serde_json::Value = serde_json::from_str(&done.stdout).ok()?;
        Some((state["status"].as_str()?.to_owned(), state["pid"].as_i64()?))
    }

    pub fn has_status(&self, wanted: &str) -> Outcome {
        let found = self.state().map_or("none".to_owned(), |(status, _)| status);
        require!(found == wanted, "the status is {found}, not {wanted}");
        Ok(())
    }

    pub fn exec(&self, script: &str) -> Result<String, String> {
        self.output(&["exec", &self.id, "sh", "-c", script])
    }

    /// The number that a file of the root file system ends with, or that a link says; 0 while there is none.
    pub fn number(&self, file: &str) -> u64 {
        let path = self.bundle.rootfs().join(file);
        let link = std::fs::read_link(&path).map(|target| target.to_string_lossy().into_owned());
        let text = link.or_else(|_| std::fs::read_to_string(&path)).unwrap_or_default();
        text.lines().next_back().and_then(|line| line.parse().ok()).unwrap_or(0)
    }

    /// Waits until the number is larger than `than`, and gives it.
    pub fn counts_beyond(&self, file: &str, than: u64) -> u64 {
        eventually("the count", || Some(self.number(file)).filter(|now| *now > than))
    }

    fn end(&self) {
        if self.program.is_some() {
            let _ = self.command(&["delete", "--force", &self.id]).status();
        }
    }
}

/// Runs a scenario with orlop, and where it fails with runc: what runc cannot do either is a skip, with runc's reason.
pub fn judge(bundle: impl Fn() -> Bundle, scenario: impl Fn(&Runtime) -> Outcome) {
    if let Some(why) = lacks() {
        eprintln!("SKIP: {why}");
        return;
    }
    let runtime = |program| {
        let bundle = bundle();
        let id = bundle.id();
        Runtime { bundle, program, id }
    };
    let Err(wrong) = scenario(&runtime(None)) else { return };
    let Some(runc) = on_path("runc") else { panic!("{wrong}\n(and there is no runc to compare with)") };
    let other = runtime(Some(runc));
    let outcome = scenario(&other);
    other.end();
    match outcome {
        Ok(()) => panic!("runc can do it, orlop: {wrong}"),
        Err(same) => {
            let why = same.trim().rsplit("msg=").next().unwrap_or_default().to_owned();
            eprintln!("(orlop: {})", wrong.trim());
            eprintln!("SKIP: neither orlop nor runc can do it here: {why}");
        }
    }
}

/// A runtime for what concerns orlop alone.
pub fn orlop(bundle: Bundle) -> Runtime {
    let id = bundle.id();
    Runtime { bundle, program: None, id }
}

/// Why nothing can be checkpointed here.
pub fn lacks() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("needs root".to_owned());
    }
    if !std::path::Path::new(BUSYBOX).exists() {
        return Some(format!("needs {BUSYBOX}"));
    }
    let Some(criu) = on_path("criu") else { return Some("criu is not installed".to_owned()) };
    let check = Command::new(criu).arg("check").output().unwrap();
    let said = String::from_utf8_lossy(&check.stderr).into_owned();
    (!check.status.success())
        .then(|| format!("this criu does not work on this kernel: {}", said.trim().replace('\n', "; ")))
}

pub fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
}
