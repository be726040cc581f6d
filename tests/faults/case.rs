//! A bundle to do harm to, and the assertions that nothing of it is left.

use std::cell::RefCell;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::Command;
use std::rc::Rc;
use std::time::{Duration, Instant};

use orlop::container::create::{Request, Start, new_record, plan_create};
use orlop::container::id::ContainerId;
use orlop::host::Host;
use orlop::plan::Plan;
use orlop::process::console::Target;
use orlop::spec::Config;
use serde_json::json;

use crate::common::{Bundle, Done, cgroups_of, mounts_below, processes_with};

/// What an injected failure says: no step gives this errno by itself.
pub const INJECTED: &str = "structure needs cleaning";

/// A bundle, and what is told apart of it on the host.
pub struct Case {
    pub bundle: Bundle,
    /// In the names of the container's cgroups, and in every process's command line or environment.
    pub mark: String,
    pub id: String,
    options: Vec<String>,
    terminal: Option<PathBuf>,
    pid_file: Option<PathBuf>,
}

impl Case {
    pub fn new(script: &str) -> Case {
        let mut bundle = Bundle::new(script);
        let id = bundle.id();
        let mark = format!("{}-", bundle.path().parent().unwrap().file_name().unwrap().to_str().unwrap());
        let env = bundle.config["process"]["env"].as_array_mut().unwrap();
        env.push(json!(format!("MARK={mark}")));
        bundle.config["linux"]["cgroupsPath"] = json!(format!("/{mark}parent/{id}"));
        let options = vec!["--bundle".to_owned(), bundle.path().to_str().unwrap().to_owned()];
        Case { bundle, mark, id, options, terminal: None, pid_file: None }
    }

    /// Every kind of step that this kernel can do.
    pub fn with_everything(script: &str) -> Case {
        let mut case = Case::new(script);
        let source = case.bundle.temp();
        let config = &mut case.bundle.config;
        let process = &mut config["process"];
        process["user"] = json!({"uid": 7, "gid": 8, "umask": 0o27, "additionalGids": [9]});
        process["cwd"] = json!("/var/made");
        process["oomScoreAdj"] = json!(100);
        process["ioPriority"] = json!({"class": "IOPRIO_CLASS_BE", "priority": 4});
        process["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 5});
        config["domainname"] = json!("example");
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.push(json!({"destination": "/bound", "source": source, "type": "bind", "options": ["rbind", "ro"]}));
        mounts
            .push(json!({"destination": "/tmp", "source": "tmpfs", "type": "tmpfs", "options": ["size=1m", "nosuid"]}));
        let hook = json!([{"path": "/bin/true"}]);
        for kind in ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"] {
            config["hooks"][kind] = hook.clone();
        }
        let linux = &mut config["linux"];
        let namespaces = linux["namespaces"].as_array_mut().unwrap();
        for kind in ["cgroup", "time"] {
            if std::path::Path::new("/proc/self/ns").join(kind).exists()
                && namespaces.iter().all(|have| have["type"] != kind)
            {
                namespaces.push(json!({"type": kind}));
            }
        }
        if namespaces.iter().any(|have| have["type"] == "time") {
            linux["timeOffsets"] = json!({"monotonic": {"secs": 10, "nanosecs": 0}});
        }
        linux["sysctl"] = json!({"net.ipv4.ip_unprivileged_port_start": "0", "kernel.shm_rmid_forced": "1"});
        linux["personality"] = json!({"domain": "LINUX"});
        linux["rootfsPropagation"] = json!("private");
        linux["resources"]["memory"] = json!({"limit": 256 << 20});
        linux["resources"]["pids"] = json!({"limit": 64});
        linux["resources"]["cpu"] = json!({"shares": 512});
        linux["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["keyctl"], "action": "SCMP_ACT_ERRNO"}],
        });
        case
    }

    pub fn with_user_namespace(script: &str) -> Case {
        let mut case = Case::new(script);
        let linux = &mut case.bundle.config["linux"];
        linux["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        let map = json!([{"containerID": 0, "hostID": 100_000, "size": 1000}]);
        linux["uidMappings"] = map.clone();
        linux["gidMappings"] = map;
        std::os::unix::fs::chown(case.bundle.rootfs(), Some(100_000), Some(100_000)).unwrap();
        case
    }

    pub fn with_terminal(script: &str) -> Case {
        let mut case = Case::new(script);
        case.bundle.config["process"]["terminal"] = json!(true);
        case.bundle.config["process"]["consoleSize"] = json!({"height": 25, "width": 80});
        let socket = case.bundle.temp().join("console.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        std::thread::spawn(move || {
            // A terminal stays open while the message that carries it is unread: the newest one is kept.
            let mut newest: Option<UnixStream> = None;
            for stream in listener.incoming() {
                drop(newest.replace(stream.unwrap()));
            }
        });
        case.option("--console-socket", &socket);
        case.terminal = Some(socket);
        case
    }

    /// Whether a parent cgroup was made for the container is known to its record alone.
    pub fn without_parent_cgroup(mut self) -> Case {
        self.bundle.config["linux"]["cgroupsPath"] = json!(format!("/{}", self.id));
        self
    }

    pub fn option(&mut self, name: &str, value: &std::path::Path) {
        self.options.extend([name.to_owned(), value.to_str().unwrap().to_owned()]);
    }

    pub fn with_pid_file(mut self) -> Case {
        let file = self.bundle.temp().join("pid");
        self.option("--pid-file", &file);
        self.pid_file = Some(file);
        self
    }

    /// The command with the case's options.
    pub fn words<'a>(&'a self, command: &'a [&'a str]) -> Vec<&'a str> {
        let options = self.options.iter().map(String::as_str);
        command.iter().copied().chain(options).chain([self.id.as_str()]).collect()
    }

    /// The plan as the runtime will make it.
    pub fn plan(&self, start: Start) -> Plan {
        drop(self.bundle.command(&[]));
        let config = Config::open(&self.bundle.path()).unwrap();
        let request = Request {
            id: ContainerId::new(&self.id).unwrap(),
            bundle: self.bundle.path(),
            terminal: self.terminal.clone().map(Target::Socket),
            pid_file: self.pid_file.clone(),
            pidfd_socket: None,
            preserve_fds: 0,
            no_pivot: false,
            no_new_keyring: false,
            extra_env: Vec::new(),
            start,
        };
        let host = Host::probe().unwrap();
        let record = Rc::new(RefCell::new(new_record(&config, &request, &host).unwrap()));
        plan_create(&config, &record, &self.bundle.root().join(&self.id), &request, &host).unwrap()
    }

    /// A command with a fault injected.
    #[track_caller]
    pub fn fault(&self, kind: &str, step: usize, words: &[&str]) -> Done {
        let mut command = self.bundle.command(words);
        command.env("ORLOP_FAULT", format!("{kind}:{step}"));
        bounded(&self.bundle, command)
    }

    #[track_caller]
    pub fn orlop(&self, words: &[&str]) -> Done {
        bounded(&self.bundle, self.bundle.command(words))
    }

    /// Asserts that no file, cgroup, mount or process is left; dying processes are waited for.
    #[track_caller]
    pub fn assert_nothing_left(&self, after: &str) {
        let files: Vec<_> =
            std::fs::read_dir(self.bundle.root()).into_iter().flatten().flatten().map(|e| e.path()).collect();
        assert!(files.is_empty(), "{after}: {files:?} left");
        let cgroups = cgroups_of(&self.mark);
        assert!(cgroups.is_empty(), "{after}: {cgroups:?} left");
        let mounts = mounts_below(&self.bundle.path());
        assert!(mounts.is_empty(), "{after}: {mounts:?} left");
        await_none(&self.mark, after);
    }

    /// Asserts that no inside step has ever allocated; the debug build's message for that goes to standard error.
    #[track_caller]
    pub fn assert_never_allocated(&self) {
        let mut read = 0;
        for entry in std::fs::read_dir(self.bundle.temp()).unwrap().flatten() {
            if entry.file_name().to_str().unwrap().starts_with("err-") {
                let text = std::fs::read_to_string(entry.path()).unwrap();
                assert!(!text.contains("orlop: bug"), "{text}");
                read += 1;
            }
        }
        assert_ne!(read, 0);
    }
}

/// Waits until no process has the text in its command line or environment.
#[track_caller]
pub fn await_none(text: &str, after: &str) {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let left = processes_with(text);
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < end, "{after}: processes {left:?} left");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Runs a command to its end, which has to come within 30 seconds.
#[track_caller]
pub fn bounded(bundle: &Bundle, mut command: Command) -> Done {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let file = |name: &str| bundle.temp().join(format!("{name}-bounded-{number}"));
    let create = |name: &str| std::fs::File::create(file(name)).unwrap();
    let mut child = command.stdout(create("out")).stderr(create("err")).spawn().unwrap();
    let end = Instant::now() + Duration::from_secs(30);
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > end {
            child.kill().unwrap();
            child.wait().unwrap();
            let said = std::fs::read_to_string(file("err")).unwrap();
            panic!("{command:?} hangs; it said {said:?}");
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    let read = |name: &str| std::fs::read(file(name)).unwrap();
    Done::from(std::process::Output { status, stdout: read("out"), stderr: read("err") })
}

/// The words of a plan's steps, numbered as ORLOP_FAULT numbers them.
pub fn steps(plan: &Plan) -> Vec<String> {
    let text = plan.to_string();
    let actors = ["before   ", "outside  ", "inside   ", "beside   "];
    let steps: Vec<_> = text
        .lines()
        .filter_map(|line| actors.iter().find_map(|actor| line.strip_prefix(actor)))
        .map(str::to_owned)
        .collect();
    assert_eq!(steps.len(), plan.len(), "a step's words are one line:\n{text}");
    steps
}

/// Whether execve was refused: the message is then what programs written for runc look for, and no more.
pub fn is_of_the_program(step: &str, done: &Done) -> bool {
    step.starts_with("executing") && done.stderr.starts_with("exec ")
}

/// The message names the step. Two steps have wordings of their own, which callers of runc know.
#[track_caller]
pub fn assert_names(step: &str, done: &Done) {
    let named = done.stderr.contains(&format!("error {step}: ")) && done.stderr.contains(INJECTED);
    let own_words = ["looking for the program", "executing"].iter().any(|words| step.starts_with(words));
    let named = named || own_words && done.stderr.contains("exec") && done.stderr.contains(INJECTED);
    assert!(named, "{step:?} failed, but the message is {:?}", done.stderr);
    assert_eq!(done.stderr.lines().count(), 1, "{:?}", done.stderr);
}
