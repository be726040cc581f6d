//! Nothing is left behind: every step of every plan fails once, the runtime is killed once before each step,
//! and at random moments; records are damaged, and commands race each other.

mod common;

use std::cell::RefCell;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use common::{Bundle, Done, cgroups_of, mounts_below, processes_with};
use orlop::container::create::{Request, Start, new_record, plan_create};
use orlop::container::exec::{self, Paused, plan_exec};
use orlop::container::id::ContainerId;
use orlop::container::store::Store;
use orlop::host::Host;
use orlop::plan::Plan;
use orlop::process::console::Target;
use orlop::spec::{self, Config};
use serde_json::{Value, json};

/// What an injected failure says: no step gives this errno by itself.
const INJECTED: &str = "structure needs cleaning";

/// A bundle, and what is told apart of it on the host.
struct Case {
    bundle: Bundle,
    /// In the names of the container's cgroups, and in every process's command line or environment.
    mark: String,
    id: String,
    options: Vec<String>,
    terminal: Option<PathBuf>,
    pid_file: Option<PathBuf>,
}

impl Case {
    fn new(script: &str) -> Case {
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
    fn with_everything(script: &str) -> Case {
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
        mounts.push(json!({"destination": "/tmp", "source": "tmpfs", "type": "tmpfs", "options": ["size=1m", "nosuid"]}));
        let hook = json!([{"path": "/bin/true"}]);
        for kind in ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"] {
            config["hooks"][kind] = hook.clone();
        }
        let linux = &mut config["linux"];
        let namespaces = linux["namespaces"].as_array_mut().unwrap();
        for kind in ["cgroup", "time"] {
            if std::path::Path::new("/proc/self/ns").join(kind).exists() && namespaces.iter().all(|have| have["type"] != kind) {
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

    fn with_user_namespace(script: &str) -> Case {
        let mut case = Case::new(script);
        let linux = &mut case.bundle.config["linux"];
        linux["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        let map = json!([{"containerID": 0, "hostID": 100_000, "size": 1000}]);
        linux["uidMappings"] = map.clone();
        linux["gidMappings"] = map;
        std::os::unix::fs::chown(case.bundle.rootfs(), Some(100_000), Some(100_000)).unwrap();
        case
    }

    fn with_terminal(script: &str) -> Case {
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
    fn without_parent_cgroup(mut self) -> Case {
        self.bundle.config["linux"]["cgroupsPath"] = json!(format!("/{}", self.id));
        self
    }

    fn option(&mut self, name: &str, value: &std::path::Path) {
        self.options.extend([name.to_owned(), value.to_str().unwrap().to_owned()]);
    }

    fn with_pid_file(mut self) -> Case {
        let file = self.bundle.temp().join("pid");
        self.option("--pid-file", &file);
        self.pid_file = Some(file);
        self
    }

    /// The command with the case's options.
    fn words<'a>(&'a self, command: &'a [&'a str]) -> Vec<&'a str> {
        let options = self.options.iter().map(String::as_str);
        command.iter().copied().chain(options).chain([self.id.as_str()]).collect()
    }

    /// The plan as the runtime will make it.
    fn plan(&self, start: Start) -> Plan {
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
    fn fault(&self, kind: &str, step: usize, words: &[&str]) -> Done {
        let mut command = self.bundle.command(words);
        command.env("ORLOP_FAULT", format!("{kind}:{step}"));
        bounded(&self.bundle, command)
    }

    #[track_caller]
    fn orlop(&self, words: &[&str]) -> Done {
        bounded(&self.bundle, self.bundle.command(words))
    }

    /// Asserts that no file, cgroup, mount or process is left; dying processes are waited for.
    #[track_caller]
    fn assert_nothing_left(&self, after: &str) {
        let files: Vec<_> = std::fs::read_dir(self.bundle.root()).into_iter().flatten().flatten().map(|e| e.path()).collect();
        assert!(files.is_empty(), "{after}: {files:?} left");
        let cgroups = cgroups_of(&self.mark);
        assert!(cgroups.is_empty(), "{after}: {cgroups:?} left");
        let mounts = mounts_below(&self.bundle.path());
        assert!(mounts.is_empty(), "{after}: {mounts:?} left");
        await_none(&self.mark, after);
    }

    /// Asserts that no inside step has ever allocated; the debug build's message for that goes to standard error.
    #[track_caller]
    fn assert_never_allocated(&self) {
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
fn await_none(text: &str, after: &str) {
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
fn bounded(bundle: &Bundle, mut command: Command) -> Done {
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
fn steps(plan: &Plan) -> Vec<String> {
    let text = plan.to_string();
    let actors = ["before   ", "outside  ", "inside   "];
    let steps: Vec<_> =
        text.lines().filter_map(|line| actors.iter().find_map(|actor| line.strip_prefix(actor))).map(str::to_owned).collect();
    assert_eq!(steps.len(), plan.len(), "a step's words are one line:\n{text}");
    steps
}

/// The message names the step. Two steps have wordings of their own, which callers of runc know.
#[track_caller]
fn assert_names(step: &str, done: &Done) {
    let named = done.stderr.contains(&format!("error {step}: ")) && done.stderr.contains(INJECTED);
    let own_words = ["looking for the program", "executing"].iter().any(|words| step.starts_with(words));
    let named = named || own_words && done.stderr.contains("exec") && done.stderr.contains(INJECTED);
    assert!(named, "{step:?} failed, but the message is {:?}", done.stderr);
    assert_eq!(done.stderr.lines().count(), 1, "{:?}", done.stderr);
}

/// Whether the step is init's after `create` has returned, where `start` hears of failures.
fn is_after_create(all: &[String], step: usize) -> bool {
    all.iter().position(|words| words == "waiting for start").is_some_and(|wait| step >= wait)
}

fn fail_every_step_of_create(case: &Case) {
    let all = steps(&case.plan(Start::Later));
    for (number, step) in all.iter().enumerate() {
        let done = case.fault("fail", number, &case.words(&["create"]));
        if is_after_create(&all, number) {
            done.ok();
            let error = case.orlop(&["start", &case.id]).fails();
            // Before it waits nobody hears of its failure: `create` has told it to go on, and returned.
            let died = error.contains("init has died") || error.contains("has stopped");
            assert!(error.contains(INJECTED) || step == "waiting for start" && died, "{step}: {error}");
            assert_eq!(case.bundle.state(&case.id)["status"], "stopped");
            case.orlop(&["delete", &case.id]).ok();
        } else {
            assert_eq!(done.code, 1, "{step}: {done:?}");
            assert!(done.stderr.starts_with("orlop: create failed: unable to start container process: "), "{}", done.stderr);
            assert_names(step, &done);
        }
        case.assert_nothing_left(&format!("fail:{number} of create ({step})"));
    }
    case.orlop(&case.words(&["create"])).ok();
    case.orlop(&["delete", "--force", &case.id]).ok();
    case.assert_nothing_left("create and delete");
    case.assert_never_allocated();
}

fn fail_every_step_of_run(case: &Case, command: &[&str]) {
    for (number, step) in steps(&case.plan(Start::Now)).iter().enumerate() {
        let done = case.fault("fail", number, &case.words(command));
        assert_eq!(done.code, 1, "{step}: {done:?}");
        assert!(done.stderr.starts_with("orlop: run failed: unable to start container process: "), "{}", done.stderr);
        assert_names(step, &done);
        case.assert_nothing_left(&format!("fail:{number} of {command:?} ({step})"));
    }
    case.assert_never_allocated();
}

fn kill_before_every_step(case: &Case, command: &[&str], start: Start) {
    for (number, step) in steps(&case.plan(start)).iter().enumerate() {
        let after = format!("kill:{number} of {command:?} ({step})");
        let done = case.fault("kill", number, &case.words(command));
        assert_eq!(done.code, -libc_sigkill(), "{after}: {done:?}");
        let listed = case.orlop(&["list", "--format", "json"]);
        assert_eq!(listed.code, 0, "{after}: {listed:?}");
        let deleted = case.orlop(&["delete", "--force", &case.id]);
        assert_eq!((deleted.code, deleted.stderr.as_str()), (0, ""), "{after}");
        case.assert_nothing_left(&after);
    }
    case.assert_never_allocated();
}

fn libc_sigkill() -> i32 {
    nix::sys::signal::Signal::SIGKILL as i32
}

#[test]
fn the_printed_plan_is_the_one_that_is_carried_out() {
    need_root!();
    let case = Case::with_everything("true");
    let printed = case.orlop(&["plan", "--bundle", case.bundle.path().to_str().unwrap(), &case.id]).ok();
    assert_eq!(printed, case.plan(Start::Later).to_string());
}

#[test]
fn a_failing_step_of_create_leaves_nothing() {
    need_root!();
    fail_every_step_of_create(&Case::with_everything("true").with_pid_file());
}

#[test]
fn a_failing_step_of_create_with_a_terminal_leaves_nothing() {
    need_root!();
    fail_every_step_of_create(&Case::with_terminal("true"));
}

#[test]
fn a_failing_step_of_create_with_a_user_namespace_leaves_nothing() {
    need_root!();
    fail_every_step_of_create(&Case::with_user_namespace("true"));
}

#[test]
fn a_failing_step_of_run_leaves_nothing() {
    need_root!();
    fail_every_step_of_run(&Case::with_everything("sleep 20"), &["run"]);
}

#[test]
fn a_failing_step_of_a_detached_run_leaves_nothing() {
    need_root!();
    fail_every_step_of_run(&Case::with_everything("sleep 20").with_pid_file(), &["run", "--detach"]);
}

#[test]
fn a_killed_create_can_be_deleted() {
    need_root!();
    kill_before_every_step(&Case::with_everything("true").with_pid_file(), &["create"], Start::Later);
}

#[test]
fn a_killed_create_with_a_terminal_can_be_deleted() {
    need_root!();
    kill_before_every_step(&Case::with_terminal("true"), &["create"], Start::Later);
}

#[test]
fn a_killed_create_with_a_user_namespace_can_be_deleted() {
    need_root!();
    kill_before_every_step(&Case::with_user_namespace("true"), &["create"], Start::Later);
}

#[test]
fn a_killed_run_can_be_deleted() {
    need_root!();
    kill_before_every_step(&Case::with_everything("sleep 20"), &["run"], Start::Now);
}

#[test]
fn a_killed_detached_run_can_be_deleted() {
    need_root!();
    kill_before_every_step(&Case::with_everything("sleep 20"), &["run", "--detach"], Start::Now);
}

/// A container in the namespaces of another one, its user namespace among them, is made by a go-between.
#[test]
fn faults_of_a_container_in_joined_namespaces_leave_nothing() {
    need_root!();
    let other = Case::with_user_namespace("sleep 100");
    other.orlop(&other.words(&["run", "--detach"])).ok();
    let pid = other.bundle.state(&other.id)["pid"].clone();
    let mut case = Case::with_user_namespace("true");
    let linux = &mut case.bundle.config["linux"];
    for namespace in linux["namespaces"].as_array_mut().unwrap() {
        let kind = namespace["type"].as_str().unwrap();
        let name = if kind == "network" { "net" } else { kind };
        if kind != "mount" {
            namespace["path"] = json!(format!("/proc/{pid}/ns/{name}"));
        }
    }
    linux.as_object_mut().unwrap().remove("uidMappings");
    linux.as_object_mut().unwrap().remove("gidMappings");
    case.bundle.config.as_object_mut().unwrap().remove("hostname");
    fail_every_step_of_create(&case);
    kill_before_every_step(&case, &["create"], Start::Later);
    assert_eq!(other.bundle.state(&other.id)["status"], "running");
    other.orlop(&["delete", "--force", &other.id]).ok();
    other.assert_nothing_left("delete");
}

/// A running container and a process to execute in it.
struct Running {
    case: Case,
    init: i64,
    /// In the command line or the environment of what `exec` makes, and of nothing else.
    mark: String,
    file: PathBuf,
}

impl Running {
    fn new(case: Case, terminal: bool) -> Running {
        case.orlop(&case.words(&["run", "--detach"])).ok();
        let init = case.bundle.state(&case.id)["pid"].as_i64().unwrap();
        let mark = format!("{}executed", case.mark);
        let mut process = case.bundle.config["process"].clone();
        process["args"] = json!(["true"]);
        process["terminal"] = json!(terminal);
        process["env"].as_array_mut().unwrap().push(json!(format!("EXEC={mark}")));
        let file = case.bundle.temp().join(format!("{mark}.json"));
        std::fs::write(&file, process.to_string()).unwrap();
        Running { case, init, mark, file }
    }

    fn words(&self) -> Vec<&str> {
        vec!["exec", "--process", self.file.to_str().unwrap(), &self.case.id]
    }

    fn plan(&self, terminal: bool) -> Plan {
        let store = Store::new(self.case.bundle.root());
        let id = ContainerId::new(&self.case.id).unwrap();
        let record = store.record(&id).unwrap();
        let config = orlop::container::store::kept_config(&store.dir(&id)).unwrap();
        let request = exec::Request {
            id,
            process: spec::read_process(&std::fs::read(&self.file).unwrap()).unwrap(),
            terminal: terminal.then_some(Target::Foreground),
            pid_file: None,
            pidfd_socket: None,
            preserve_fds: 0,
            cgroups: Vec::new(),
            paused: Paused::Refused,
        };
        plan_exec(&record, &config, &request, &Host::probe().unwrap()).unwrap()
    }

    /// Asserts that the container is as it was: its init runs, and nothing else.
    #[track_caller]
    fn assert_as_before(&self, after: &str) {
        await_none(&self.mark, after);
        let state = self.case.bundle.state(&self.case.id);
        assert_eq!((&state["status"], &state["pid"]), (&json!("running"), &json!(self.init)), "{after}");
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            let text = self.case.orlop(&["ps", "--format", "json", &self.case.id]).ok();
            let pids: Value = serde_json::from_str(&text).unwrap();
            if pids == json!([self.init]) {
                return;
            }
            assert!(Instant::now() < end, "{after}: processes {pids}, init is {}", self.init);
        }
    }

    fn fail_and_kill_every_step(&self, terminal: bool) {
        let all = steps(&self.plan(terminal));
        for (number, step) in all.iter().enumerate() {
            let after = format!("fail:{number} of exec ({step})");
            let done = self.case.fault("fail", number, &self.words());
            assert_eq!(done.code, 1, "{after}: {done:?}");
            assert!(done.stderr.starts_with("orlop: exec failed: "), "{done:?}");
            assert_names(step, &done);
            self.assert_as_before(&after);
            let after = format!("kill:{number} of exec ({step})");
            let done = self.case.fault("kill", number, &self.words());
            assert_eq!(done.code, -libc_sigkill(), "{after}: {done:?}");
            self.assert_as_before(&after);
        }
        // One more step than there are is no fault.
        self.case.fault("fail", all.len(), &self.words()).ok();
        self.case.orlop(&["delete", "--force", &self.case.id]).ok();
        self.case.assert_nothing_left("delete");
        self.case.assert_never_allocated();
    }
}

#[test]
fn a_failing_or_killed_exec_leaves_the_container_as_it_was() {
    need_root!();
    Running::new(Case::with_everything("sleep 200"), false).fail_and_kill_every_step(false);
}

#[test]
fn a_failing_or_killed_exec_with_a_terminal_leaves_the_container_as_it_was() {
    need_root!();
    Running::new(Case::new("sleep 200"), true).fail_and_kill_every_step(true);
}

#[test]
fn a_failing_or_killed_exec_in_a_user_namespace_leaves_the_container_as_it_was() {
    need_root!();
    Running::new(Case::with_user_namespace("sleep 200"), false).fail_and_kill_every_step(false);
}

/// Delays between nothing and `most`, by a linear congruential generator: the same in every run of the test.
struct Delays {
    seed: u64,
    most: Duration,
}

impl Delays {
    /// Somewhat more than the command takes, so that some of the kills come too late.
    fn like(duration: Duration) -> Delays {
        Delays { seed: 1, most: duration * 5 / 4 }
    }

    fn next(&mut self) -> Duration {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.most.mul_f64((self.seed >> 11) as f64 / (1u64 << 53) as f64)
    }
}

/// Starts a command and kills it after the delay; says whether it was killed.
fn kill_after(case: &Case, words: &[&str], delay: Duration) -> bool {
    use std::os::unix::process::ExitStatusExt;
    let mut child = quiet(case, words);
    std::thread::sleep(delay);
    child.kill().unwrap();
    child.wait().unwrap().signal().is_some()
}

fn quiet(case: &Case, words: &[&str]) -> Child {
    let mut command = case.bundle.command(words);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn a_create_killed_at_any_moment_can_be_deleted() {
    need_root!();
    let case = Case::with_everything("true");
    let begin = Instant::now();
    case.orlop(&case.words(&["create"])).ok();
    let mut delays = Delays::like(begin.elapsed());
    case.orlop(&["delete", "--force", &case.id]).ok();
    let mut killed = 0;
    for _ in 0..50 {
        let delay = delays.next();
        killed += usize::from(kill_after(&case, &case.words(&["create"]), delay));
        let deleted = case.orlop(&["delete", "--force", &case.id]);
        assert_eq!((deleted.code, deleted.stderr.as_str()), (0, ""), "create killed after {delay:?}");
        case.assert_nothing_left(&format!("create killed after {delay:?}"));
    }
    assert_ne!(killed, 0);
}

#[test]
fn a_delete_killed_at_any_moment_can_be_repeated() {
    need_root!();
    let case = Case::with_everything("sleep 100");
    let run = case.words(&["run", "--detach"]);
    case.orlop(&run).ok();
    let begin = Instant::now();
    case.orlop(&["delete", "--force", &case.id]).ok();
    let mut delays = Delays::like(begin.elapsed());
    let mut killed = 0;
    for _ in 0..50 {
        let delay = delays.next();
        case.orlop(&run).ok();
        killed += usize::from(kill_after(&case, &["delete", "--force", &case.id], delay));
        let deleted = case.orlop(&["delete", "--force", &case.id]);
        assert_eq!((deleted.code, deleted.stderr.as_str()), (0, ""), "delete killed after {delay:?}");
        case.assert_nothing_left(&format!("delete killed after {delay:?}"));
    }
    assert_ne!(killed, 0);
}

#[test]
fn a_damaged_record_is_an_error_and_delete_force_removes_the_container() {
    need_root!();
    let case = Case::new("sleep 100").without_parent_cgroup();
    let file = case.bundle.root().join(&case.id).join("state.json");
    let damages: [(&str, fn(&str) -> String); 4] = [
        ("empty", |_| String::new()),
        ("truncated", |text| text[..text.len() / 2].to_owned()),
        ("of another kind", |_| "{}".to_owned()),
        ("no JSON", |_| "\0\0\0\0".to_owned()),
    ];
    for (what, damage) in damages {
        case.orlop(&case.words(&["run", "--detach"])).ok();
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, damage(&text)).unwrap();
        for command in [&["state", &case.id][..], &["start", &case.id], &["kill", &case.id], &["delete", &case.id]] {
            let error = case.orlop(command).fails();
            assert!(error.contains("is damaged") && error.contains("delete --force"), "{what}, {command:?}: {error}");
        }
        // One damaged container does not hide the others.
        assert_eq!(case.orlop(&["list", "--format", "json"]).code, 0);
        case.orlop(&["delete", "--force", &case.id]).ok();
        case.assert_nothing_left(&format!("record {what}"));
    }
}

#[test]
fn a_missing_record_is_an_error_and_delete_force_removes_the_container() {
    need_root!();
    let case = Case::new("sleep 100").without_parent_cgroup();
    for command in [&["run", "--detach"][..], &["create"]] {
        case.orlop(&case.words(command)).ok();
        std::fs::remove_file(case.bundle.root().join(&case.id).join("state.json")).unwrap();
        let error = case.orlop(&["state", &case.id]).fails();
        assert!(error.contains("is missing"), "{error}");
        case.orlop(&["delete", "--force", &case.id]).ok();
        case.assert_nothing_left("missing record");
    }
}

/// Runs the same command twice at once; gives the statuses in order.
fn twice(case: &Case, words: &[&str]) -> [i32; 2] {
    let mut both = [quiet(case, words), quiet(case, words)];
    let mut codes = [0, 1].map(|at| both[at].wait().unwrap().code().unwrap());
    codes.sort_unstable();
    codes
}

#[test]
fn of_two_creates_of_one_id_one_succeeds() {
    need_root!();
    let case = Case::new("sleep 100");
    for _ in 0..15 {
        assert_eq!(twice(&case, &case.words(&["create"])), [0, 1]);
        assert_eq!(case.bundle.state(&case.id)["status"], "created");
        case.orlop(&["start", &case.id]).ok();
        assert_eq!(case.bundle.state(&case.id)["status"], "running");
        case.orlop(&["delete", "--force", &case.id]).ok();
        case.assert_nothing_left("two creates and a delete");
    }
}

#[test]
fn of_two_starts_one_succeeds() {
    need_root!();
    let case = Case::new("sleep 100");
    for _ in 0..15 {
        case.orlop(&case.words(&["create"])).ok();
        assert_eq!(twice(&case, &["start", &case.id]), [0, 1]);
        assert_eq!(case.bundle.state(&case.id)["status"], "running");
        case.orlop(&["delete", "--force", &case.id]).ok();
    }
    case.assert_nothing_left("two starts and a delete");
}

#[test]
fn two_deletes_at_once_delete_once() {
    need_root!();
    let case = Case::new("sleep 100");
    for force in [true, false].into_iter().cycle().take(20) {
        case.orlop(&case.words(&["run", "--detach"])).ok();
        if force {
            assert_eq!(twice(&case, &["delete", "--force", &case.id]), [0, 0]);
        } else {
            case.orlop(&["kill", &case.id, "KILL"]).ok();
            case.bundle.wait_for(&case.id, "stopped");
            assert_eq!(twice(&case, &["delete", &case.id]), [0, 1]);
        }
        case.assert_nothing_left("two deletes");
    }
}
