//! The cgroup steps against the kernel: v1 where this host has it, v2 in a private mount namespace.
//!
//! Each test makes cgroups under a name of its own and removes them even when it fails.
#![allow(clippy::unwrap_used, clippy::panic)] // Also in the functions that the tests share.

use std::ffi::CString;
use std::fmt;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use oci_spec::runtime::LinuxResources;
use orlop::cgroup::{Depth, Placement, Record, plan_delegate, plan_enter, plan_join, plan_make};
use orlop::error::{Result, errno_text, one_line};
use orlop::host::Host;
use orlop::host::cgroup::Setup;
use orlop::plan::trace::Trace;
use orlop::plan::walk::{Child, Ending};
use orlop::plan::{Fault, Init, Inside, Outside, Plan, Runtime};
use orlop::sys::{clone, fd, mem::Shared, process};

/// Set in the test process that runs in a private mount namespace with v2 at /sys/fs/cgroup.
const V2: &str = "ORLOP_TEST_CGROUP_V2";

/// The setup to test on, or why it is not there.
fn v1() -> Option<Setup> {
    let setup = Setup::probe().unwrap();
    let why = match (nix::unistd::geteuid().is_root(), &setup) {
        (false, _) => "needs root",
        (_, Setup::Legacy { hierarchies, .. }) if hierarchies.len() > 5 => return Some(setup),
        _ => "this host has no v1 hierarchies",
    };
    eprintln!("SKIP: {why}");
    None
}

fn v2() -> Setup {
    assert!(std::env::var_os(V2).is_some(), "run by v2_works_in_a_private_mount_namespace only");
    let setup = Setup::probe().unwrap();
    assert!(setup.is_unified());
    setup
}

/// A container's cgroups and process, gone when the test ends.
struct Container {
    record: Record,
    child: Option<Child>,
}

impl Drop for Container {
    fn drop(&mut self) {
        if let Some(child) = self.child.take() {
            let _ = self.record.thaw();
            let _ = process::pidfd_send_signal(child.pidfd.as_fd(), libc::SIGKILL);
            let _ = process::wait(child.pidfd.as_fd(), 0);
        }
        if let Err(error) = self.record.remove() {
            eprintln!("cleaning up: {}", one_line(&error));
        }
    }
}

impl Container {
    fn pid(&self) -> i32 {
        self.child.as_ref().unwrap().pid
    }

    fn read(&self, controller: &str, file: &str) -> String {
        let path = Path::new(&self.record.paths[controller]).join(file);
        std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).trim().to_owned()
    }

    /// Kills the process and waits for it, as a stopped container has none.
    fn stop(&mut self) {
        let child = self.child.take().unwrap();
        self.record.kill().unwrap();
        assert!(process::wait(child.pidfd.as_fd(), 0).unwrap().is_some());
    }
}

fn host(setup: &Setup, tolerant: bool) -> Host {
    let cgroup = setup.clone();
    let resctrl = orlop::host::resctrl::Resctrl::Unread;
    let (user_namespace, setgroups_denied) = (false, false);
    Host {
        uid: 0,
        gid: 0,
        cgroup,
        tolerant,
        user_namespace,
        setgroups_denied,
        systemd: None,
        apparmor: Some(false),
        selinux: Some(false),
        resctrl,
    }
}

fn name(test: &str) -> String {
    format!("/orlop-test-{}-{test}", std::process::id())
}

/// Makes the cgroups and runs `work` as the container's first process.
fn run(
    path: &str,
    setup: &Setup,
    resources: &str,
    pids: Option<i64>,
    work: impl Inside + 'static,
) -> (Container, Result<()>) {
    let placement = Placement::new(Some(path), "id", &host(setup, false)).unwrap();
    let mut container = Container { record: placement.record(), child: None };
    let resources: LinuxResources = serde_json::from_str(resources).unwrap();
    let mut plan = Plan::new();
    match plan_make(&placement, Some(&resources), pids, None, &mut plan) {
        Ok(attach) => attach.into_iter().for_each(|attach| plan.alongside(attach)),
        Err(error) => return (container, Err(error)),
    }
    plan_enter(&placement, &mut plan);
    plan.inside(work);
    let mut runtime = Runtime::default();
    let result = execute(&plan, &mut runtime);
    container.child = runtime.take_child();
    (container, result)
}

fn execute(plan: &Plan, runtime: &mut Runtime) -> Result<()> {
    // A step of the runtime at the end makes the walk wait for what the inside steps say.
    plan.execute(runtime, Ending::Waiting, &mut Trace::new(None))
}

fn start(path: &str, setup: &Setup, resources: &str, pids: Option<i64>) -> Container {
    let (container, result) = run(path, setup, resources, pids, Sleep);
    result.unwrap_or_else(|error| panic!("{}", one_line(&error)));
    container
}

struct Sleep;

impl fmt::Display for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sleeping")
    }
}

impl Inside for Sleep {
    fn run(&self, _: &mut Init<'_>) -> std::result::Result<(), Fault> {
        loop {
            nix::unistd::pause();
        }
    }
}

/// A step that does one thing in the container's process and reports its errno; the process then waits.
struct Try<F>(F);

impl<F> fmt::Display for Try<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("trying")
    }
}

impl<F: Fn() -> std::result::Result<(), Errno>> Inside for Try<F> {
    fn run(&self, _: &mut Init<'_>) -> std::result::Result<(), Fault> {
        Ok((self.0)()?)
    }
}

struct Nothing;

impl fmt::Display for Nothing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("doing nothing")
    }
}

impl Outside for Nothing {
    fn run(&self, _: &mut Runtime) -> Result<()> {
        Ok(())
    }
}

/// Makes the cgroups and asks what a thing done in them leads to.
fn outcome(
    path: &str,
    setup: &Setup,
    resources: &str,
    pids: Option<i64>,
    work: impl Fn() -> std::result::Result<(), Errno> + 'static,
) -> (Container, Result<()>) {
    let placement = Placement::new(Some(path), "id", &host(setup, false)).unwrap();
    let mut container = Container { record: placement.record(), child: None };
    let mut plan = Plan::new();
    let attach = plan_make(&placement, Some(&serde_json::from_str(resources).unwrap()), pids, None, &mut plan).unwrap();
    attach.into_iter().for_each(|attach| plan.alongside(attach));
    plan_enter(&placement, &mut plan);
    // What goes on beside init's steps is done when its next turn begins, as it is before every program.
    plan.outside(Nothing);
    plan.inside(Try(work));
    plan.outside(Nothing);
    plan.inside(Sleep);
    let mut runtime = Runtime::default();
    let result = execute(&plan, &mut runtime);
    container.child = runtime.take_child();
    (container, result)
}

fn opens(path: &str, flags: i32) -> impl Fn() -> std::result::Result<(), Errno> + 'static {
    let path = CString::new(path).unwrap();
    move || fd::open(&path, flags, 0).map(drop)
}

/// Uses so many bytes of memory.
fn fill(bytes: usize) -> impl Fn() -> std::result::Result<(), Errno> + 'static {
    let pages = Shared::new(bytes / 8).unwrap();
    move || {
        for number in pages.values() {
            number.store(1, std::sync::atomic::Ordering::Relaxed);
        }
        Ok(())
    }
}

fn cgroup_of(pid: i32, controller: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let own = orlop::host::cgroup::parse_own(&text);
    own.into_iter().find(|(name, _)| name == controller).unwrap().1
}

fn update(record: &Record, resources: &str, pids: Option<i64>) -> std::result::Result<Vec<String>, String> {
    record.update(&serde_json::from_str(resources).unwrap(), pids).map_err(|error| one_line(&error))
}

fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn v1_limits_are_in_the_kernels_files_and_the_process_in_every_hierarchy() {
    let Some(setup) = v1() else { return };
    let resources = r#"{"memory":{"limit":67108864,"reservation":33554432,"swappiness":10},
        "cpu":{"shares":512,"quota":50000,"period":200000,"cpus":"0","burst":0}}"#;
    let path = name("limits") + "/below";
    let mut container = start(&path, &setup, resources, Some(10));
    assert_eq!(container.read("memory", "memory.limit_in_bytes"), "67108864");
    assert_eq!(container.read("memory", "memory.soft_limit_in_bytes"), "33554432");
    assert_eq!(container.read("cpu", "cpu.shares"), "512");
    assert_eq!(container.read("cpu", "cpu.cfs_quota_us"), "50000");
    assert_eq!(container.read("cpu", "cpu.cfs_period_us"), "200000");
    assert_eq!(container.read("cpuset", "cpuset.cpus"), "0");
    assert!(!container.read("cpuset", "cpuset.mems").is_empty());
    assert_eq!(container.read("pids", "pids.max"), "10");
    let devices = container.read("devices", "devices.list");
    assert!(devices.contains("c 1:3 rwm") && !devices.contains("a *:*"), "{devices}");
    for controller in container.record.paths.keys() {
        assert_eq!(cgroup_of(container.pid(), controller), path, "{controller}");
    }
    assert_eq!(container.record.pids(Depth::Own).unwrap(), [container.pid()]);
    let stats = container.record.stats().unwrap();
    assert_eq!(stats["pids"], serde_json::json!({"current": 1, "limit": 10}));
    assert_eq!(stats["memory"]["usage"]["limit"], 67_108_864_u64);
    assert_eq!(stats["cpuset"]["cpus"], serde_json::json!([0]));
    assert_eq!(container.record.memory().unwrap().limit, Some(67_108_864));
    assert_eq!(container.record.oom_kills(), Some(0));
    container.stop();
    container.record.remove().unwrap();
    for dir in container.record.paths.values().chain(&container.record.ancestors) {
        assert!(!Path::new(dir).exists(), "{dir}");
    }
    container.record.remove().unwrap();
}

#[test]
fn v1_without_limits_writes_none() {
    let Some(setup) = v1() else { return };
    let container = start(&name("free"), &setup, "{}", None);
    assert_eq!(container.read("pids", "pids.max"), "max");
    assert_eq!(container.read("cpu", "cpu.shares"), "1024");
    assert_eq!(container.record.memory().unwrap().limit, None);
}

#[test]
fn v1_update_changes_what_it_names_in_an_order_that_works() {
    let Some(setup) = v1() else { return };
    let container = start(&name("update"), &setup, r#"{"memory":{"limit":67108864}}"#, Some(10));
    let record = &container.record;
    let swap = Path::new(&record.paths["memory"]).join("memory.memsw.limit_in_bytes").exists();
    let value = |memory: i64| match swap {
        true => format!(r#"{{"memory":{{"limit":{memory},"swap":{memory}}}}}"#),
        false => format!(r#"{{"memory":{{"limit":{memory}}}}}"#),
    };
    if !swap {
        eprintln!("SKIP: the memory+swap part, as this kernel has no swap accounting");
    }
    for memory in [33_554_432, 134_217_728, 50_331_648] {
        update(record, &value(memory), None).unwrap();
        assert_eq!(container.read("memory", "memory.limit_in_bytes"), memory.to_string());
        if swap {
            assert_eq!(container.read("memory", "memory.memsw.limit_in_bytes"), memory.to_string());
        }
    }
    update(record, r#"{"memory":{"limit":-1}}"#, None).unwrap();
    assert_eq!(record.memory().unwrap().limit, None);
    update(record, r#"{"cpu":{"quota":20000}}"#, None).unwrap();
    update(record, r#"{"cpu":{"period":40000}}"#, None).unwrap();
    assert_eq!(container.read("cpu", "cpu.cfs_quota_us"), "20000");
    assert_eq!(container.read("cpu", "cpu.cfs_period_us"), "40000");
    assert_eq!(container.read("pids", "pids.max"), "10");
}

#[test]
fn v1_a_refused_update_leaves_everything_as_it_was() {
    let Some(setup) = v1() else { return };
    let container = start(&name("refused"), &setup, r#"{"cpu":{"shares":600}}"#, Some(10));
    let resources = r#"{"memory":{"limit":67108864},"cpu":{"shares":700,"cpus":"9999"}}"#;
    let error = update(&container.record, resources, Some(20)).unwrap_err();
    assert!(error.contains("cpu.cpus: failed to write \"9999\" to "), "{error}");
    assert_eq!(container.read("cpu", "cpu.shares"), "600");
    assert_eq!(container.read("pids", "pids.max"), "10");
    assert_eq!(container.record.memory().unwrap().limit, None);
    let (container, result) = outcome(&name("busy"), &setup, "{}", None, fill(16 << 20));
    result.unwrap();
    let error = update(&container.record, r#"{"memory":{"limit":4096}}"#, None).unwrap_err();
    assert!(error.contains("unable to set memory limit to 4096 (current usage: "), "{error}");
}

#[test]
fn v1_devices_that_are_not_allowed_cannot_be_opened() {
    let Some(setup) = v1() else { return };
    let deny = r#"{"devices":[{"allow":false,"access":"rwm"}]}"#;
    outcome(&name("null"), &setup, deny, None, opens("/dev/null", libc::O_RDWR)).1.unwrap();
    let error = outcome(&name("kmsg"), &setup, deny, None, opens("/dev/kmsg", libc::O_RDONLY)).1.unwrap_err();
    assert!(one_line(&error).ends_with("operation not permitted"), "{}", one_line(&error));
    let allow =
        r#"{"devices":[{"allow":false,"access":"rwm"},{"allow":true,"type":"c","major":1,"minor":11,"access":"r"}]}"#;
    outcome(&name("kmsg2"), &setup, allow, None, opens("/dev/kmsg", libc::O_RDONLY)).1.unwrap();
}

#[test]
fn v1_pids_limit_stops_forks() {
    let Some(setup) = v1() else { return };
    let error = outcome(&name("fork"), &setup, "{}", Some(1), || clone::fork().map(drop)).1.unwrap_err();
    assert!(one_line(&error).ends_with(&errno_text(Errno::EAGAIN)), "{}", one_line(&error));
}

#[test]
fn v1_an_oom_kill_is_counted() {
    let Some(setup) = v1() else { return };
    let (mut container, result) =
        outcome(&name("oom"), &setup, r#"{"memory":{"limit":8388608,"swappiness":0}}"#, None, fill(64 << 20));
    let text = one_line(&result.unwrap_err());
    assert!(text.contains("was killed by signal 9"), "{text}");
    // The walk has reaped the process.
    container.child = None;
    assert_eq!(container.record.oom_kills(), Some(1));
    assert!(container.record.memory().unwrap().peak.unwrap() > 7 << 20);
}

#[test]
fn v1_freezing_stops_and_thawing_continues() {
    let Some(setup) = v1() else { return };
    freezing(&setup, &name("freeze"));
}

fn freezing(setup: &Setup, path: &str) {
    let container = start(path, setup, "{}", None);
    let record = &container.record;
    assert!(!record.is_frozen().unwrap());
    record.freeze().unwrap();
    assert!(record.is_frozen().unwrap());
    let error = Placement::new(Some(path), "id", &host(setup, false)).unwrap_err().to_string();
    assert_eq!(error, "container's cgroup is not empty: 1 process(es) found");
    // On v1 a signal waits until the container continues; on v2 a deadly one gets through. It stays paused.
    record.signal_all(libc::SIGTERM).unwrap();
    assert!(record.is_frozen().unwrap());
    let child = container.child.as_ref().unwrap();
    if !setup.is_unified() {
        assert_eq!(process::wait(child.pidfd.as_fd(), libc::WNOHANG).unwrap(), None);
    }
    record.thaw().unwrap();
    assert!(!record.is_frozen().unwrap());
    assert_eq!(process::wait(child.pidfd.as_fd(), 0).unwrap(), Some(process::Exit::Signal(libc::SIGTERM)));
}

#[test]
fn v1_removal_reaches_processes_in_frozen_cgroups_below() {
    let Some(setup) = v1() else { return };
    let container = start(&name("below"), &setup, "{}", None);
    let record = &container.record;
    for (controller, path) in &record.paths {
        if controller == "cpuset" {
            continue;
        }
        std::fs::create_dir(format!("{path}/a")).unwrap();
        std::fs::create_dir(format!("{path}/a/b")).unwrap();
        std::fs::write(format!("{path}/a/b/cgroup.procs"), container.pid().to_string()).unwrap();
    }
    std::fs::write(format!("{}/a/b/freezer.state", record.paths["freezer"]), "FROZEN").unwrap();
    assert!(!record.is_frozen().unwrap());
    assert_eq!(record.pids(Depth::Own).unwrap(), [0; 0]);
    assert_eq!(record.pids(Depth::All).unwrap(), [container.pid()]);
    record.remove().unwrap();
    assert!(record.paths.values().all(|path| !Path::new(path).exists()));
}

#[test]
fn v1_exec_joins_the_containers_cgroups_or_one_below() {
    let Some(setup) = v1() else { return };
    let path = name("exec");
    let container = start(&path, &setup, "{}", None);
    std::fs::create_dir(format!("{}/sub", container.record.paths["pids"])).unwrap();
    let mut plan = Plan::new();
    plan_join(&container.record, &["pids:sub".to_owned()], Some(container.pid()), &mut plan).unwrap();
    plan.inside(Sleep);
    let mut runtime = Runtime::default();
    execute(&plan, &mut runtime).unwrap();
    let second = Container { record: Record::default(), child: runtime.take_child() };
    assert_eq!(cgroup_of(second.pid(), "pids"), format!("{path}/sub"));
    assert_eq!(cgroup_of(second.pid(), "memory"), path);
    assert_eq!(container.record.pids(Depth::All).unwrap().len(), 2);
}

#[test]
fn v1_a_limit_without_its_controller_is_an_error() {
    let Some(setup) = v1() else { return };
    if matches!(&setup, Setup::Legacy { hierarchies, .. } if hierarchies.iter().any(|h| h.controllers == ["rdma"])) {
        eprintln!("SKIP: this host has the rdma controller");
        return;
    }
    let (_container, result) = run(&name("rdma"), &setup, r#"{"rdma":{"mlx5_1":{"hcaHandles":1}}}"#, None, Sleep);
    let text = one_line(&result.unwrap_err());
    assert!(text.contains("cannot set rdma limit: container could not join or create cgroup"), "{text}");
}

/// Runs every ignored test of this file on v2, which hosts with v1 hierarchies show nobody.
#[test]
fn v2_works_in_a_private_mount_namespace() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIP: needs root");
        return;
    }
    let unified = statfs("/sys/fs/cgroup").is_ok_and(|fs| fs.filesystem_type() == CGROUP2_SUPER_MAGIC);
    let mount = if unified { "true" } else { "mount -t cgroup2 none /sys/fs/cgroup" };
    let script = format!("{mount} && exec \"$0\" --ignored --test-threads=1 on_v2::");
    let program = std::env::current_exe().unwrap();
    let output = Command::new("unshare").args(["-m", "sh", "-c", &script]).arg(program).env(V2, "1").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success());
    assert!(!text.contains(" 0 passed"));
}

mod on_v2 {
    use super::*;

    #[test]
    #[ignore = "run on v2 by v2_works_in_a_private_mount_namespace"]
    fn the_process_is_born_in_its_cgroup() {
        let path = name("v2") + "/a/b";
        let mut container = start(&path, &v2(), "{}", None);
        assert_eq!(cgroup_of(container.pid(), ""), path);
        assert_eq!(container.record.pids(Depth::Own).unwrap(), [container.pid()]);
        assert_eq!(container.record.ancestors.len(), 2);
        assert_eq!(container.record.stats().unwrap()["pids"]["current"], 1);
        container.stop();
        container.record.remove().unwrap();
        assert!(!Path::new(&container.record.ancestors[1]).exists());
        container.record.remove().unwrap();
    }

    #[test]
    #[ignore = "run on v2 by v2_works_in_a_private_mount_namespace"]
    fn devices_that_are_not_allowed_cannot_be_opened() {
        let setup = v2();
        let deny = r#"{"devices":[{"allow":false,"access":"rwm"}]}"#;
        outcome(&name("null"), &setup, deny, None, opens("/dev/null", libc::O_RDWR)).1.unwrap();
        let error = outcome(&name("kmsg"), &setup, deny, None, opens("/dev/kmsg", libc::O_RDONLY)).1.unwrap_err();
        assert!(one_line(&error).ends_with("operation not permitted"), "{}", one_line(&error));
        let all = r#"{"devices":[{"allow":true,"access":"rwm"}]}"#;
        outcome(&name("all"), &setup, all, None, opens("/dev/kmsg", libc::O_RDONLY)).1.unwrap();
    }

    #[test]
    #[ignore = "run on v2 by v2_works_in_a_private_mount_namespace"]
    fn the_device_program_of_a_cgroup_that_was_there_is_replaced() {
        let setup = v2();
        let path = name("replace");
        let deny = r#"{"devices":[{"allow":false,"access":"rwm"}]}"#;
        let mut first = start(&path, &setup, deny, None);
        first.stop();
        let allow = r#"{"devices":[{"allow":true,"type":"c","major":1,"minor":11,"access":"r"}]}"#;
        let (container, result) = outcome(&path, &setup, allow, None, opens("/dev/kmsg", libc::O_RDONLY));
        result.unwrap();
        let dir = fd::open(&CString::new(container.record.paths[""].as_str()).unwrap(), libc::O_RDONLY, 0).unwrap();
        assert_eq!(orlop::sys::bpf::device_programs(dir.as_fd()).unwrap().len(), 1);
    }

    #[test]
    #[ignore = "run on v2 by v2_works_in_a_private_mount_namespace"]
    fn freezing_stops_and_thawing_continues() {
        freezing(&v2(), &name("freeze"));
    }

    #[test]
    #[ignore = "run on v2 by v2_works_in_a_private_mount_namespace"]
    fn a_frozen_cgroup_is_refused_and_removed() {
        let setup = v2();
        let path = name("frozen");
        let mut container = start(&path, &setup, "{}", None);
        container.record.freeze().unwrap();
        container.stop();
        let error = Placement::new(Some(&path), "id", &host(&setup, false)).unwrap_err().to_string();
        assert_eq!(error, "container's cgroup unexpectedly frozen");
    }

    #[test]
    #[ignore = "run on v2 by v2_works_in_a_private_mount_namespace"]
    fn removal_kills_what_is_below() {
        let container = start(&name("below"), &v2(), "{}", None);
        let below = format!("{}/a/b", container.record.paths[""]);
        std::fs::create_dir_all(&below).unwrap();
        std::fs::write(format!("{below}/cgroup.procs"), container.pid().to_string()).unwrap();
        std::fs::write(format!("{below}/cgroup.freeze"), "1").unwrap();
        container.record.remove().unwrap();
        assert!(!Path::new(&container.record.paths[""]).exists());
    }

    #[test]
    #[ignore = "run on v2 by v2_works_in_a_private_mount_namespace"]
    fn exec_is_born_in_the_containers_cgroup_or_where_init_is() {
        let path = name("exec");
        let container = start(&path, &v2(), "{}", None);
        let joined = |sub: &[&str]| {
            let sub: Vec<String> = sub.iter().map(|text| (*text).to_owned()).collect();
            let mut plan = Plan::new();
            plan_join(&container.record, &sub, Some(container.pid()), &mut plan)?;
            plan.inside(Sleep);
            let mut runtime = Runtime::default();
            execute(&plan, &mut runtime)?;
            let second = Container { record: Record::default(), child: runtime.take_child() };
            Ok::<_, anyhow::Error>(cgroup_of(second.pid(), ""))
        };
        assert_eq!(joined(&[]).unwrap(), path);
        assert!(one_line(&joined(&["sub"]).unwrap_err()).contains("can't open cgroup"));
        let sub = format!("{}/sub", container.record.paths[""]);
        std::fs::create_dir(&sub).unwrap();
        assert_eq!(joined(&["sub"]).unwrap(), format!("{path}/sub"));
        // Without its own cgroup file system the container's cgroup may be gone and init elsewhere.
        std::fs::write(format!("{sub}/cgroup.procs"), container.pid().to_string()).unwrap();
        let moved = Record {
            paths: [(String::new(), format!("{}/gone", container.record.paths[""]))].into(),
            ..container.record.clone()
        };
        let mut plan = Plan::new();
        plan_join(&moved, &[], Some(container.pid()), &mut plan).unwrap();
        plan.inside(Sleep);
        let mut runtime = Runtime::default();
        execute(&plan, &mut runtime).unwrap();
        let second = Container { record: Record::default(), child: runtime.take_child() };
        assert_eq!(cgroup_of(second.pid(), ""), format!("{path}/sub"));
    }

    #[test]
    #[ignore = "run on v2 by v2_works_in_a_private_mount_namespace"]
    fn exec_into_a_cgroup_that_hands_controllers_down_is_refused_when_it_is_asked_for() {
        let container = start(&name("handed"), &v2(), "{}", None);
        let path = &container.record.paths[""];
        let controllers = container.read("", "cgroup.controllers");
        let Some(controller) = controllers.split(' ').find(|name| ["memory", "io", "hugetlb"].contains(name)) else {
            eprintln!("SKIP: this host has no domain controller on v2");
            return;
        };
        std::fs::create_dir(format!("{path}/sub")).unwrap();
        std::fs::write(format!("{path}/sub/cgroup.procs"), container.pid().to_string()).unwrap();
        std::fs::write(format!("{path}/cgroup.subtree_control"), format!("+{controller}")).unwrap();
        let mut plan = Plan::new();
        plan_join(&container.record, &["/".to_owned()], Some(container.pid()), &mut plan).unwrap();
        plan.inside(Sleep);
        let error = one_line(&execute(&plan, &mut Runtime::default()).unwrap_err());
        assert!(
            error.contains("error adding pid ") && error.ends_with(" to cgroups: device or resource busy"),
            "{error}"
        );
    }

    #[test]
    #[ignore = "run on v2 by v2_works_in_a_private_mount_namespace"]
    fn every_controller_that_the_host_has_counts_in_the_container() {
        let host = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap();
        let container = start(&format!("{}/below", name("controllers")), &v2(), "{}", None);
        assert_eq!(container.read("", "cgroup.controllers"), host.trim());
    }

    #[test]
    #[ignore = "run on v2 by v2_works_in_a_private_mount_namespace"]
    fn a_limit_without_its_controller_is_an_error() {
        let setup = v2();
        let controllers = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap();
        if controllers.contains("memory") {
            eprintln!("SKIP: this host has the memory controller on v2");
            return;
        }
        let (_container, result) = run(&name("memory"), &setup, r#"{"memory":{"limit":67108864}}"#, None, Sleep);
        let text = one_line(&result.unwrap_err());
        assert!(
            text.contains("cannot set memory limit: controller \"memory\" not available in /sys/fs/cgroup"),
            "{text}"
        );
        let (_container, result) = run(&name("unified"), &setup, r#"{"unified":{"foo.bar":"1"}}"#, None, Sleep);
        let text = one_line(&result.unwrap_err());
        assert!(text.contains("unified resource \"foo.bar\" can't be set: controller \"foo\" not available"), "{text}");
    }

    #[test]
    #[ignore = "run on v2 by v2_works_in_a_private_mount_namespace"]
    fn unified_resources_reach_their_file() {
        let container = start(&name("depth"), &v2(), r#"{"unified":{"cgroup.max.depth":"3"}}"#, None);
        assert_eq!(container.read("", "cgroup.max.depth"), "3");
        update(&container.record, "{}", None).unwrap();
        let error =
            update(&container.record, r#"{"unified":{"cgroup.max.depth":"4","cgroup.max.descendants":"x"}}"#, None);
        assert!(error.unwrap_err().contains("unified.cgroup.max.descendants: failed to write \"x\""));
        assert_eq!(container.read("", "cgroup.max.depth"), "3");
    }

    #[test]
    #[ignore = "run on v2 by v2_works_in_a_private_mount_namespace"]
    fn a_delegated_cgroup_belongs_to_the_containers_root() {
        use std::os::unix::fs::MetadataExt;
        let placement = Placement::new(Some(&name("owner")), "id", &host(&v2(), false)).unwrap();
        let mut container = Container { record: placement.record(), child: None };
        let mut plan = Plan::new();
        plan_make(&placement, None, None, None, &mut plan).unwrap();
        plan_delegate(&placement, 4242, &mut plan);
        plan.inside(Sleep);
        let mut runtime = Runtime::default();
        execute(&plan, &mut runtime).unwrap();
        container.child = runtime.take_child();
        let owner = |file: &str| std::fs::metadata(format!("{}/{file}", container.record.paths[""])).unwrap().uid();
        assert_eq!([owner(""), owner("cgroup.procs"), owner("cgroup.freeze")], [4242, 4242, 0]);
    }

    #[test]
    #[ignore = "run on v2 by v2_works_in_a_private_mount_namespace"]
    fn kill_reaches_everything() {
        let container = start(&name("kill"), &v2(), "{}", None);
        container.record.freeze().unwrap();
        container.record.kill().unwrap();
        let child = container.child.as_ref().unwrap();
        eventually("the frozen process dies", || {
            process::wait(child.pidfd.as_fd(), libc::WNOHANG | libc::WNOWAIT).unwrap().is_some()
        });
        eventually("nothing is listed", || container.record.pids(Depth::All).unwrap().is_empty());
    }

    #[test]
    #[ignore = "run on v2 by v2_works_in_a_private_mount_namespace"]
    fn a_user_without_permission_gets_no_cgroup_unless_asked_for_limits() {
        let setup = v2();
        let nobody = nix::unistd::Uid::from_raw(65534);
        nix::unistd::seteuid(nobody).unwrap();
        let placement = Placement::new(None, "orlop-test-nobody", &host(&setup, true));
        nix::unistd::seteuid(nix::unistd::Uid::from_raw(0)).unwrap();
        let placement = placement.unwrap();
        assert!(!placement.is_some() && placement.record().is_none());
        let mut plan = Plan::new();
        plan_make(&placement, None, None, None, &mut plan).unwrap();
        plan_enter(&placement, &mut plan);
        assert!(plan.is_empty());
        let error = plan_make(&placement, None, Some(5), None, &mut plan).err().unwrap().to_string();
        let wording = "rootless needs no limits + no cgrouppath when no permission is granted for cgroups: mkdir /";
        assert!(error.starts_with(wording) && error.ends_with(": permission denied"), "{error}");
    }
}
