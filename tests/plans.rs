//! Whole plans, made without privileges for hosts that are written down here, compared with `tests/plans/*.txt`.
//!
//! After a wanted change `UPDATE_GOLDEN=1 cargo test --test plans` writes the files anew; their diff is the review.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Helpers of tests fail by panicking, as tests do.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};

use orlop::container::create::{Request, Start, new_record, plan_create};
use orlop::container::exec::{self, Paused, plan_exec};
use orlop::container::id::ContainerId;
use orlop::container::record::Record;
use orlop::host::cgroup::{Hierarchy, Own, Setup};
use orlop::host::resctrl::Resctrl;
use orlop::host::{Host, Systemd};
use orlop::process::console::Target;
use orlop::spec::{self, Config, defaults};
use serde_json::{Value, json};

/// A bundle and fake cgroup mounts, as planning looks at both.
struct Place(PathBuf);

impl Place {
    fn new() -> Place {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("orlop-plans-{}-{number}", std::process::id()));
        std::fs::create_dir_all(dir.join("bundle/rootfs")).unwrap();
        std::fs::create_dir_all(dir.join("cgroup")).unwrap();
        Place(dir.canonicalize().unwrap())
    }

    fn bundle(&self) -> PathBuf {
        self.0.join("bundle")
    }

    fn cgroup(&self, path: &str) -> String {
        let dir = self.0.join("cgroup").join(path);
        std::fs::create_dir_all(&dir).unwrap();
        dir.to_str().unwrap().trim_end_matches('/').to_owned()
    }

    /// The plan's text without this machine's paths.
    fn portable(&self, text: &str) -> String {
        let path = |name: &str| self.0.join(name).to_str().unwrap().to_owned();
        text.replace(&path("bundle"), "$BUNDLE")
            .replace(&path("cgroup"), "$CGROUP")
            .replace(&path("resctrl"), "$RESCTRL")
            .replace(NOBODY, SOMEBODY)
    }
}

/// Where the data have namespaces of a process that may just exist here, the plans are of one that cannot: the kernel's
/// numbers end at 4,194,304.
const SOMEBODY: &str = "/proc/1234/";
const NOBODY: &str = "/proc/4194305/";

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The kinds of hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum On {
    V1,
    V2,
    /// A normal user with a cgroup of their own, as systemd delegates it.
    Rootless,
    /// A normal user without one.
    Undelegated,
    /// Cgroups made by systemd: on v2, on v1, and on v2 for a normal user.
    Systemd,
    SystemdV1,
    SystemdUser,
    /// A host on which SELinux confines processes (v2).
    Selinux,
    /// A root that is one in a user's namespace alone, without a cgroup of its own, as rootless Podman calls a runtime.
    Podman,
    /// A host that controls cache and memory bandwidth (v2).
    Rdt,
}

fn host(on: On, place: &Place) -> Host {
    let user = matches!(on, On::Rootless | On::Undelegated | On::SystemdUser);
    let tolerant = user || on == On::Podman;
    let systemd = matches!(on, On::Systemd | On::SystemdV1 | On::SystemdUser)
        .then(|| Systemd { user, own: Some("/user.slice/user-1000.slice/user@1000.service".into()) });
    let uid = if user { 1000 } else { 0 };
    let cgroup = match on {
        On::V1 | On::SystemdV1 => v1(place),
        On::V2 | On::Systemd | On::Selinux | On::Rdt => v2(place, "/system.slice/caller.service"),
        On::Rootless => {
            std::fs::write(Path::new(&place.cgroup("user.slice")).join("cgroup.procs"), "").unwrap();
            v2(place, "/user.slice/shell.scope")
        }
        On::Undelegated | On::SystemdUser | On::Podman => v2(place, "/user.slice/shell.scope"),
    };
    let (apparmor, selinux, user_namespace) = (on == On::V2 || on == On::Systemd, on == On::Selinux, on == On::Podman);
    let resctrl = if on == On::Rdt { Resctrl::At(resctrl(place)) } else { Resctrl::Unread };
    Host {
        uid,
        gid: uid,
        cgroup,
        tolerant,
        setgroups_denied: false,
        systemd,
        user_namespace,
        apparmor: Some(apparmor),
        selinux: Some(selinux),
        resctrl,
    }
}

/// A stand-in for a mounted resctrl with one group that somebody has made.
fn resctrl(place: &Place) -> PathBuf {
    let root = place.0.join("resctrl");
    for dir in ["info/L3", "info/MB", "info/L3_MON", "mon_groups", "guaranteed/mon_groups"] {
        std::fs::create_dir_all(root.join(dir)).unwrap();
    }
    root
}

fn v1(place: &Place) -> Setup {
    const ALL: [&str; 11] = [
        "cpu,cpuacct",
        "cpuset",
        "memory",
        "devices",
        "freezer",
        "blkio",
        "pids",
        "net_cls,net_prio",
        "hugetlb",
        "rdma",
        "name=systemd",
    ];
    let hierarchy = |names: &str| Hierarchy {
        controllers: names.split(',').map(str::to_owned).collect(),
        mount: place.cgroup(names.strip_prefix("name=").unwrap_or(names)),
        root: "/".into(),
    };
    let mut hierarchies: Vec<_> = ALL.iter().map(|names| hierarchy(names)).collect();
    hierarchies.push(Hierarchy { mount: place.cgroup("unified"), ..hierarchy("") });
    let own = ALL.iter().flat_map(|names| names.split(',')).chain([""]).map(|name| (name.to_owned(), "/".to_owned()));
    Setup::Legacy { own: Own::Known(own.collect()), hierarchies }
}

fn v2(place: &Place, own: &str) -> Setup {
    Setup::Unified { mount: place.cgroup(""), own: Own::Known(vec![(String::new(), own.to_owned())]) }
}

/// One golden plan of `create` or `run`.
struct Case {
    name: &'static str,
    on: On,
    config: Value,
    change: fn(&mut Request),
}

fn case(name: &'static str, on: On, config: Value) -> Case {
    Case { name, on, config, change: |_| {} }
}

impl Case {
    /// The command line's part.
    fn asked(mut self, change: fn(&mut Request)) -> Case {
        self.change = change;
        self
    }

    fn plan(&self) -> String {
        let place = Place::new();
        std::fs::write(place.bundle().join("config.json"), self.config.to_string()).unwrap();
        let host = host(self.on, &place);
        let mut request = Request::new(ContainerId::new("c1").unwrap(), place.bundle());
        (self.change)(&mut request);
        let text = (|| {
            let config = Config::open(&request.bundle)?;
            let record = Rc::new(RefCell::new(new_record(&config, &request, &host)?));
            let plan = plan_create(&config, &record, Path::new("/run/orlop/c1"), &request, &host)?;
            let warnings: String = config.warnings.iter().map(|warning| format!("warning  {warning}\n")).collect();
            orlop::error::Result::Ok(format!("{warnings}{plan}"))
        })();
        let text = text.unwrap_or_else(|error| panic!("{}: {}", self.name, orlop::error::one_line(&error)));
        place.portable(&text)
    }
}

/// What `orlop spec` writes, without a terminal.
fn default_config() -> Value {
    let mut config: Value = serde_json::from_str(&defaults::text(&defaults::spec(false).unwrap()).unwrap()).unwrap();
    config["process"]["terminal"] = json!(false);
    config
}

/// What `orlop spec --rootless` writes for user 1000.
fn rootless_config() -> Value {
    let mut config: Value = serde_json::from_str(&defaults::text(&defaults::spec(true).unwrap()).unwrap()).unwrap();
    config["process"]["terminal"] = json!(false);
    let map = json!([{"containerID": 0, "hostID": 1000, "size": 1}]);
    config["linux"]["uidMappings"] = map.clone();
    config["linux"]["gidMappings"] = map;
    config
}

/// A configuration that a real caller wrote.
fn written_by(caller: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/config-{caller}.json"));
    let text = std::fs::read_to_string(path).unwrap().replace(SOMEBODY, NOBODY);
    let mut config: Value = serde_json::from_str(&text).unwrap();
    config["root"]["path"] = json!("rootfs");
    config
}

fn with(mut config: Value, change: impl FnOnce(&mut Value)) -> Value {
    change(&mut config);
    config
}

/// A namespace of each kind, joined.
fn joining(mut config: Value, kinds: &[(&str, &str)]) -> Value {
    for (kind, path) in kinds {
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != *kind);
        namespaces.push(json!({"type": kind, "path": path}));
    }
    config
}

fn hooks(config: &mut Value) {
    for kind in ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"] {
        config["hooks"][kind] = json!([{"path": format!("/hooks/{kind}")}, {"path": "/hooks/again", "timeout": 5}]);
    }
}

fn mounts(config: &mut Value) {
    let mounts = config["mounts"].as_array_mut().unwrap();
    let mut add = |destination: &str, kind: &str, source: &str, options: &[&str]| {
        mounts.push(json!({"destination": destination, "type": kind, "source": source, "options": options}));
    };
    add("/tmp", "tmpfs", "tmpfs", &["nosuid", "nodev", "size=64m", "mode=1777"]);
    add("/data", "bind", "/srv/data", &["rbind", "ro", "rprivate"]);
    add("/file", "none", "/etc/hosts", &["bind", "nosuid", "noexec"]);
    add("/shared", "bind", "data", &["rbind", "rshared"]);
    add("/recursive", "bind", "/srv/data", &["rbind", "rro", "rnosuid"]);
    add("/times", "bind", "/srv/data", &["bind", "noatime", "nodiratime", "nosymfollow"]);
    add("/over", "overlay", "overlay", &["lowerdir=/lower", "upperdir=/upper", "workdir=/work-dir"]);
    config["linux"]["rootfsPropagation"] = json!("rshared");
}

fn process(config: &mut Value) {
    let process = &mut config["process"];
    process["user"] = json!({"uid": 33, "gid": 34, "umask": 0o27, "additionalGids": [5, 6]});
    process["cwd"] = json!("/var/www");
    process["args"] = json!(["/usr/bin/server", "--port", "80"]);
    process["env"] = json!(["HOME=/var/www", "PATH=/bin"]);
    process["oomScoreAdj"] = json!(-500);
    process["apparmorProfile"] = json!("a-profile");
    process["ioPriority"] = json!({"class": "IOPRIO_CLASS_BE", "priority": 4});
    process["scheduler"] = json!({"policy": "SCHED_FIFO", "priority": 10, "flags": ["SCHED_FLAG_RESET_ON_FORK"]});
    process["rlimits"] =
        json!([{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}, {"type": "RLIMIT_NPROC", "soft": 10, "hard": 20}]);
    process["capabilities"] = json!({
        "bounding": ["CAP_NET_RAW", "CAP_SETUID"], "permitted": ["CAP_NET_RAW"], "effective": ["CAP_NET_RAW"],
        "inheritable": ["CAP_NET_RAW"], "ambient": ["CAP_NET_RAW"],
    });
    process["noNewPrivileges"] = json!(false);
    config["domainname"] = json!("example.org");
    let linux = &mut config["linux"];
    linux["sysctl"] = json!({"net.ipv4.ip_forward": "1", "kernel.shmmax": "65536"});
    linux["personality"] = json!({"domain": "LINUX32"});
    linux["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": ["keyctl"], "action": "SCMP_ACT_ERRNO"}, {"names": ["mount"], "action": "SCMP_ACT_NOTIFY"}],
        "listenerPath": "/run/agent.sock",
    });
    let namespaces = linux["namespaces"].as_array_mut().unwrap();
    namespaces.push(json!({"type": "time"}));
    linux["timeOffsets"] =
        json!({"monotonic": {"secs": 86400, "nanosecs": 0}, "boottime": {"secs": 86400, "nanosecs": 0}});
    linux["devices"] = json!([
        {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o666, "uid": 0, "gid": 0},
        {"path": "/dev/loop-control", "type": "c", "major": 10, "minor": 237},
    ]);
}

fn resources(config: &mut Value) {
    config["linux"]["cgroupsPath"] = json!("/pod/c1");
    config["linux"]["resources"] = json!({
        "devices": [{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw"}],
        "memory": {"limit": 268_435_456, "reservation": 134_217_728, "swap": 536_870_912, "swappiness": 10},
        "cpu": {"shares": 512, "quota": 50000, "period": 100_000, "cpus": "0-1", "mems": "0"},
        "pids": {"limit": 100},
        "blockIO": {"weight": 500, "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1_048_576}]},
        "hugepageLimits": [{"pageSize": "2MB", "limit": 4_194_304}],
        "rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10000}, "mlx4_0": {"hcaHandles": 4}},
    });
}

/// All of `linux.resources` that has not been in `resources`.
fn other_resources(config: &mut Value) {
    let rate = |minor: u32| json!([{"major": 8, "minor": minor, "rate": 1000 + minor}]);
    config["linux"]["resources"] = json!({
        "memory": {"limit": 268_435_456, "kernel": 1, "kernelTCP": 2, "disableOOMKiller": true, "useHierarchy": true,
            "checkBeforeUpdate": true},
        "cpu": {"quota": 50000, "period": 100_000, "burst": 20000, "realtimePeriod": 1_000_000, "realtimeRuntime": 95000, "idle": 1},
        "blockIO": {"weight": 100, "leafWeight": 200,
            "weightDevice": [{"major": 8, "minor": 0, "weight": 300, "leafWeight": 400}],
            "throttleReadBpsDevice": rate(0), "throttleWriteBpsDevice": rate(1),
            "throttleReadIOPSDevice": rate(2), "throttleWriteIOPSDevice": rate(3)},
        "network": {"classID": 1_048_577, "priorities": [{"name": "lo", "priority": 500}]},
    });
}

fn scope(config: &mut Value) {
    resources(config);
    config["linux"]["cgroupsPath"] = json!("pods-pod1.slice:cri:c1");
    config["annotations"] = json!({"org.systemd.property.CollectMode": "'inactive-or-failed'"});
}

fn unified(config: &mut Value) {
    config["linux"]["resources"] = json!({"unified": {
        "memory.high": "1073741824", "memory.oom.group": "1", "cpu.weight": "10", "pids.max": "7", "io.max": "8:0 wiops=5",
    }});
}

fn net_devices(config: &mut Value) {
    config["linux"]["netDevices"] = json!({"eth1": {"name": "eth0"}, "eth2.100": {}, "eth3": {"name": "net%d"}});
}

fn user_namespace(config: &mut Value) {
    config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    config["linux"]["uidMappings"] = map.clone();
    config["linux"]["gidMappings"] = map;
}

fn labels(config: &mut Value) {
    config["process"]["selinuxLabel"] = json!("system_u:system_r:container_t:s0:c1,c2");
    config["linux"]["mountLabel"] = json!("system_u:object_r:container_file_t:s0:c1,c2");
    let mounts = config["mounts"].as_array_mut().unwrap();
    mounts.push(json!({"destination": "/run", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]}));
}

fn sharing_mounts(config: &mut Value) {
    let list = config["linux"]["namespaces"].as_array_mut().unwrap();
    list.retain(|namespace| namespace["type"] != "mount");
    config["linux"]["maskedPaths"] = json!([]);
    config["linux"]["readonlyPaths"] = json!([]);
}

fn without_namespaces(config: &mut Value) {
    config["linux"]["namespaces"] = json!([]);
    config["mounts"] = json!([]);
    config["root"]["readonly"] = json!(false);
    config.as_object_mut().unwrap().remove("hostname");
    for field in ["maskedPaths", "readonlyPaths"] {
        config["linux"].as_object_mut().unwrap().remove(field);
    }
}

fn cases() -> Vec<Case> {
    use On::{Rootless, Undelegated, V1, V2};
    vec![
        case("default-v1", V1, default_config()),
        case("default-v2", V2, default_config()),
        case("default-v2-run", V2, default_config()).asked(|request| request.start = Start::Now),
        case("every-flag", V2, with(default_config(), |config| config["process"]["terminal"] = json!(true))).asked(
            |request| {
                request.terminal = Some(Target::Socket("/run/caller/pty.sock".into()));
                request.pid_file = Some("/run/caller/pid".into());
                request.pidfd_socket = Some("/run/caller/pidfd.sock".into());
                request.preserve_fds = 2;
                request.no_pivot = true;
                request.no_new_keyring = true;
            },
        ),
        case("foreground-terminal", V2, with(default_config(), |config| config["process"]["terminal"] = json!(true)))
            .asked(|request| (request.terminal, request.start) = (Some(Target::Foreground), Start::Now)),
        case("rootless", Rootless, rootless_config()),
        case("rootless-undelegated", Undelegated, rootless_config()),
        case(
            "rootless-many-ids",
            Rootless,
            with(rootless_config(), |config| {
                let map = json!([{"containerID": 0, "hostID": 1000, "size": 1}, {"containerID": 1, "hostID": 100_000, "size": 65536}]);
                config["linux"]["uidMappings"] = map.clone();
                config["linux"]["gidMappings"] = map;
            }),
        ),
        case("user-namespace", V2, with(default_config(), user_namespace)),
        case("systemd", On::Systemd, with(default_config(), scope)),
        case("systemd-v1", On::SystemdV1, with(default_config(), scope)),
        case("systemd-user", On::SystemdUser, rootless_config()),
        case(
            "joined-namespaces",
            V2,
            joining(
                default_config(),
                &[
                    ("network", "/run/netns/pod"),
                    ("ipc", "/run/ns/pod/ipc"),
                    ("uts", "/run/ns/pod/uts"),
                    ("pid", "/run/ns/pod/pid"),
                ],
            ),
        ),
        case(
            "joined-user-namespace",
            V2,
            joining(
                default_config(),
                &[("user", "/run/ns/pod/user"), ("network", "/run/ns/pod/net"), ("pid", "/run/ns/pod/pid")],
            ),
        ),
        case("no-namespaces", V2, with(default_config(), without_namespaces)),
        case("shared-mounts", V2, with(default_config(), sharing_mounts)),
        case("hooks", V2, with(default_config(), hooks)),
        case("hooks-run", V2, with(default_config(), hooks)).asked(|request| request.start = Start::Now),
        case("mounts", V2, with(default_config(), mounts)),
        case("process", V2, with(default_config(), process)),
        case("resources-v1", V1, with(default_config(), resources)),
        case("resources-v2", V2, with(default_config(), resources)),
        case("resources-other-v1", V1, with(default_config(), other_resources)),
        case("resources-other-v2", V2, with(default_config(), other_resources)),
        case("resources-unified", V2, with(default_config(), unified)),
    ]
}

/// Fields that need a host of their kind, or things that only a real host has.
fn cases_of_hosts() -> Vec<Case> {
    use On::{V1, V2};
    vec![
        case("net-devices", V2, with(default_config(), net_devices)),
        case("net-devices-user-namespace", V2, with(with(default_config(), net_devices), user_namespace)),
        case("net-devices-joined", V2, joining(with(default_config(), net_devices), &[("network", "/run/netns/pod")])),
        case("selinux", On::Selinux, with(with(default_config(), mounts), labels)),
        case(
            "selinux-elsewhere",
            V1,
            with(default_config(), |config| config["linux"]["mountLabel"] = json!("a_label")),
        ),
        case(
            "rdt",
            On::Rdt,
            with(default_config(), |config| {
                config["linux"]["intelRdt"] = json!({"schemata": ["L3:0=f", "L2:0=f"], "l3CacheSchema": "L3:0=ff", "memBwSchema": "MB:0=50", "enableMonitoring": true});
            }),
        ),
        case(
            "rdt-shared",
            On::Rdt,
            with(default_config(), |config| {
                config["linux"]["intelRdt"] = json!({"closID": "guaranteed", "schemata": ["L3:0=f"]});
            }),
        ),
        case(
            "rdt-default",
            On::Rdt,
            with(default_config(), |config| {
                config["linux"]["intelRdt"] = json!({"closID": "/", "enableMonitoring": true});
            }),
        ),
    ]
}

/// What Docker, BuildKit and containerd ask for.
fn cases_of_callers() -> Vec<Case> {
    use On::{V1, V2};
    let socket = |request: &mut Request| request.terminal = Some(Target::Socket("/run/caller/pty.sock".into()));
    vec![
        case("docker-v1", V1, written_by("docker")),
        case("docker-v2", V2, written_by("docker")),
        case("docker-terminal", V2, written_by("docker-terminal")).asked(socket),
        case("docker-user-namespace", V2, written_by("docker-userns")),
        case("docker-unconfined", V2, written_by("docker-unconfined")),
        case("docker-blkio", V1, written_by("docker-blkio")),
        case("docker-buildkit", V2, written_by("docker-buildkit")).asked(|request| request.start = Start::Now),
        case("containerd", V2, written_by("containerd-ctr")),
        case("containerd-seccomp", V2, written_by("containerd-ctr-seccomp")),
        case("containerd-user-namespace", V1, written_by("containerd-ctr-userns")),
    ]
}

/// What Podman, CRI-O and containerd for Kubernetes ask for.
fn cases_of_pods() -> Vec<Case> {
    use On::{Podman, Systemd, V1, V2};
    let socket = |request: &mut Request| request.terminal = Some(Target::Socket("/run/caller/pty.sock".into()));
    vec![
        case("podman-v1", V1, written_by("podman")),
        case("podman-v2", V2, written_by("podman")),
        case("podman-terminal", V2, written_by("podman-terminal")).asked(socket),
        case("podman-user-namespace", V2, written_by("podman-userns")),
        case("podman-pod-member", V2, written_by("podman-pod-member")),
        case("podman-rootless", Podman, written_by("podman-rootless")),
        case("crio-sandbox", Systemd, written_by("crio-sandbox")),
        case("crio-sandbox-user-namespace", Systemd, written_by("crio-sandbox-userns")),
        case("crio-propagation", Systemd, written_by("crio-propagation")),
        case("crio-bidirectional", Systemd, written_by("crio-bidirectional")),
        case("crio-confined", Systemd, written_by("crio-confined")),
        case("crio-resources", Systemd, written_by("crio-resources")),
        case("crio-user-namespace", Systemd, written_by("crio-userns")),
        case("crio-shared-user-namespace", Systemd, written_by("crio-shared-userns")),
        case("containerd-cri-sandbox", Systemd, written_by("containerd-cri-sandbox")),
        case("containerd-cri-sandbox-v1", V1, written_by("containerd-cri-1.6-sandbox")),
        case("containerd-cri-sandbox-privileged", Systemd, written_by("containerd-cri-sandbox-privileged")),
        case("containerd-cri-sandbox-user-namespace", Systemd, written_by("containerd-cri-sandbox-userns")),
        case("containerd-cri-propagation", Systemd, written_by("containerd-cri-propagation")),
        case("containerd-cri-bidirectional", Systemd, written_by("containerd-cri-bidirectional")),
        case("containerd-cri-confined", Systemd, written_by("containerd-cri-confined")),
        case("containerd-cri-resources", Systemd, written_by("containerd-cri-resources")),
        case("containerd-cri-resources-v1", V1, written_by("containerd-cri-1.6-resources")),
        case("containerd-cri-user-namespace", Systemd, written_by("containerd-cri-userns")),
    ]
}

fn all_cases() -> impl Iterator<Item = Case> {
    cases().into_iter().chain(cases_of_hosts()).chain(cases_of_callers()).chain(cases_of_pods())
}

/// One golden plan of `exec`.
struct ExecCase {
    name: &'static str,
    on: On,
    namespaces: i32,
    process: Value,
    change: fn(&mut exec::Request),
}

impl ExecCase {
    fn plan(&self) -> String {
        let place = Place::new();
        let host = host(self.on, &place);
        let config = Config::read(default_config().to_string().into_bytes()).unwrap();
        let mut record = Record {
            oci_version: "1.3.0".into(),
            id: "c1".into(),
            bundle: place.bundle(),
            rootfs: place.bundle().join("rootfs"),
            created: "2025-01-01T00:00:00Z".into(),
            owner: host.uid,
            pid: 0,
            start_time: 0,
            namespaces: self.namespaces,
            own_pid_namespace: true,
            keyring: true,
            descriptors: Vec::new(),
            annotations: Default::default(),
            cgroup: orlop::cgroup::Record::default(),
            rdt: None,
            shared_mounts: None,
        };
        let paths = match self.on {
            On::V1 => vec![("cpu", place.cgroup("cpu/c1")), ("pids", place.cgroup("pids/c1"))],
            _ => vec![("", place.cgroup("c1"))],
        };
        record.cgroup.paths.extend(paths.into_iter().map(|(name, path)| (name.to_owned(), path)));
        if self.on != On::V1 {
            record.cgroup.mount = place.cgroup("");
        }
        let mut request = exec::Request {
            id: ContainerId::new("c1").unwrap(),
            process: spec::read_process(self.process.to_string().as_bytes()).unwrap(),
            terminal: None,
            pid_file: None,
            pidfd_socket: None,
            preserve_fds: 0,
            cgroups: Vec::new(),
            paused: Paused::Refused,
            init: None.into(),
        };
        (self.change)(&mut request);
        place.portable(&plan_exec(&record, &config, &request, &host).unwrap().to_string())
    }
}

fn exec_cases() -> Vec<ExecCase> {
    let caller = |name: &str| -> Value {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/process-{name}.json"));
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    };
    let usual = libc_flags(&["pid", "mount", "network", "uts", "ipc"]);
    let with_user = usual | libc_flags(&["user"]);
    let exec = |name, on, namespaces, process| ExecCase { name, on, namespaces, process, change: |_| {} };
    let default = default_config()["process"].clone();
    vec![
        exec("exec-v1", On::V1, usual, default.clone()),
        exec("exec-v2", On::V2, usual, default.clone()),
        exec("exec-user-namespace", On::V2, with_user, default.clone()),
        exec("exec-rootless", On::Rootless, with_user, default.clone()),
        exec("exec-no-namespaces", On::V2, 0, default.clone()),
        exec("exec-docker", On::V2, usual, caller("docker-exec")),
        exec("exec-podman", On::V2, usual, caller("podman-exec")),
        exec("exec-containerd", On::V2, usual, caller("containerd-ctr-exec")),
        exec("exec-containerd-cri", On::Systemd, usual, caller("containerd-cri-exec")),
        exec("exec-crio", On::Systemd, usual, caller("crio-exec")),
        ExecCase {
            change: |request| {
                request.terminal = Some(Target::Socket("/run/caller/pty.sock".into()));
                request.pid_file = Some("/run/caller/pid".into());
                request.pidfd_socket = Some("/run/caller/pidfd.sock".into());
                request.cgroups = vec!["below".into()];
            },
            ..exec("exec-docker-terminal", On::V2, usual, caller("docker-exec-terminal"))
        },
        exec("exec-affinity", On::V2, usual, {
            let mut process = default;
            process["execCPUAffinity"] = json!({"initial": "0", "final": "0-1"});
            process
        }),
    ]
}

fn libc_flags(kinds: &[&str]) -> i32 {
    let all = orlop::namespaces::Kind::ALL;
    all.iter().filter(|kind| kinds.contains(&kind.name())).fold(0, |flags, kind| flags | kind.flag())
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plans")
}

fn all_plans() -> Vec<(&'static str, String)> {
    let created = all_cases().map(|case| (case.name, case.plan()));
    created.chain(exec_cases().into_iter().map(|case| (case.name, case.plan()))).collect()
}

/// The lines that only one of the two has, as `-` and `+`.
fn difference(old: &str, new: &str) -> String {
    let only = |these: &str, those: &str, sign: char| -> String {
        these
            .lines()
            .filter(|line| !those.lines().any(|other| other == *line))
            .map(|line| format!("{sign} {line}\n"))
            .collect()
    };
    let lines = only(old, new, '-') + &only(new, old, '+');
    if lines.is_empty() { "the order has changed\n".into() } else { lines }
}

#[test]
fn plans_are_as_written_down() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = String::new();
    let mut names = BTreeSet::new();
    let again: Vec<_> = (0..2).map(|_| all_plans()).collect();
    for (at, (name, plan)) in all_plans().into_iter().enumerate() {
        assert!(again.iter().all(|plans| plans[at] == (name, plan.clone())), "{name}: the plan is not always the same");
        let file = folder().join(format!("{name}.txt"));
        names.insert(file.clone());
        if update {
            std::fs::write(&file, &plan).unwrap();
        }
        let golden = std::fs::read_to_string(&file).unwrap_or_default();
        if golden != plan {
            wrong += &format!("{}:\n{}", file.display(), difference(&golden, &plan));
        }
    }
    let there: BTreeSet<_> = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(wrong.is_empty(), "UPDATE_GOLDEN=1 writes the files anew, if this is wanted:\n{wrong}");
    assert_eq!(there, names, "files without a plan, or plans without a file");
}

/// Where a step that begins so stands in the plan.
fn at(plan: &str, start: &str) -> Option<usize> {
    plan.lines().position(|line| line.starts_with(start))
}

/// What has to hold for every plan of `create`, whatever the configuration.
#[test]
fn the_order_of_every_plan_is_safe() {
    for case in all_cases() {
        let plan = case.plan();
        // A step that is not there is in no wrong order.
        let order = |earlier: &str, later: &str| {
            if let (Some(first), Some(second)) = (at(&plan, earlier), at(&plan, later)) {
                assert!(first < second, "{}: {later:?} before {earlier:?}", case.name);
            }
        };
        order("before   writing the record", "before   making exec.fifo");
        order("before   writing the record", "before   making cgroup");
        assert!(at(&plan, "before   writing the record").is_some(), "{}", case.name);
        // Where nobody is to start it, the record is finished while the program runs.
        let mut last = plan.lines().filter(|line| *line != "outside  recording that the container is created");
        assert!(last.next_back().unwrap().starts_with("inside   executing"), "{}", case.name);
        order("spawn", "beside   recording the pid");
        order("spawn", "outside  mapping ids");
        order("outside  mapping ids", "inside   ");
        order("inside   making all mounts", "inside   mounting rootfs");
        order("inside   limiting capabilities", "inside   becoming user");
        order("inside   becoming user", "inside   setting capabilities");
        order("outside  recording that the container is created", "inside   waiting for start");
        // The device program, for one, has to be there before anything of the container runs.
        let meets = ["inside   waiting for the steps beside", "outside  recording that the container is created"];
        let met = plan.lines().position(|line| meets.iter().any(|meet| line.starts_with(meet)));
        assert!(at_last(&plan, "beside") < met.unwrap(), "{}", case.name);
        order("inside   keeping no descriptor", "inside   loading the seccomp filter");
        for hook in ["prestart", "createRuntime", "createContainer"].map(|kind| format!("running {kind} hook")) {
            for later in ["pivoting the root", "limiting capabilities", "making paths read-only", "masking paths"] {
                let ran = plan.lines().enumerate().filter(|(_, line)| line.contains(&hook)).last().map(|(at, _)| at);
                assert!(ran < at(&plan, &format!("inside   {later}")).or(Some(usize::MAX)), "{}: {later}", case.name);
            }
        }
        mounts_cover_nothing(case.name, &plan);
    }
}

/// No mount covers or changes what has been masked before, and none of the host's is looked for in the container.
fn mounts_cover_nothing(case: &str, plan: &str) {
    let mut masked: Vec<&Path> = Vec::new();
    let mut opened: Vec<&str> = Vec::new();
    let mut changed = false;
    for line in plan.lines() {
        changed |= line.starts_with("inside   pivoting the root") || line.starts_with("inside   moving the root");
        opened.extend(line.strip_prefix("inside   opening ").filter(|_| !changed));
        let list = covered(line);
        assert!(list.iter().all(|path| !masked.contains(path)), "{case}: {line:?} covers a path again");
        masked.extend(list);
        let mounted = line.strip_prefix("inside   mounting ").and_then(|rest| rest.rsplit_once(" at "));
        let Some((source, place)) = mounted else { continue };
        let place = Path::new(place.trim_end_matches(')').trim_matches('"'));
        for path in &masked {
            let apart = !path.starts_with(place) && !place.starts_with(path);
            assert!(apart, "{case}: a mount at {place:?} after {path:?} has been masked");
        }
        if changed {
            assert!(place.starts_with("/sys"), "{case}: {line:?} after the root has changed");
            // What is there has no path any more, but one that has been opened; so there is no second way either.
            let known =
                source == "\"sysfs\" to rootfs" || opened.iter().any(|path| source == format!("{path} to rootfs"));
            assert!(known, "{case}: {line:?} after the root has changed");
        }
    }
}

/// The paths that a step covers or makes read-only.
fn covered(line: &str) -> Vec<&Path> {
    let lists = ["inside   masking paths: ", "inside   making paths read-only: "];
    let list = lists.into_iter().find_map(|words| line.strip_prefix(words));
    let paths = list.map(|list| list.split_once(" labelled ").map_or(list, |(paths, _)| paths));
    paths.into_iter().flat_map(|paths| paths.split(", ")).map(Path::new).collect()
}

/// Only what is the same before init has entered its network namespace is covered before, and nothing is left out.
#[test]
fn paths_are_covered_when_they_are_there() {
    let early = ["/proc/kcore", "/proc/sys"];
    let late = ["/proc/sys/net/ipv4", "/proc/device-tree", "/proc/net", "/sys/firmware", "/data", "/proc/sys/kernel"];
    type Change = fn(&mut Value);
    let shapes: [(&str, Change); 5] = [
        ("", |_| {}),
        ("a mount in procfs", |config| {
            let more =
                json!({"destination": "/proc/sys/fs/binfmt_misc", "type": "tmpfs", "source": "x", "options": ["ro"]});
            config["mounts"].as_array_mut().unwrap().insert(1, more);
        }),
        ("a read-only /dev", |config| {
            let dev = config["mounts"].as_array_mut().unwrap().iter_mut().find(|mount| mount["destination"] == "/dev");
            dev.unwrap()["options"] = json!(["ro"]);
        }),
        ("the read-only root's /dev", |config| {
            config["mounts"]
                .as_array_mut()
                .unwrap()
                .retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
        }),
        ("mounts that cannot be bound", |config| config["linux"]["rootfsPropagation"] = json!("runbindable")),
    ];
    for (shape, change) in shapes {
        let mut config = default_config();
        config["linux"]["maskedPaths"] = json!(["proc/kcore", "/proc/device-tree", "/data/../data", "/sys/firmware"]);
        config["linux"]["readonlyPaths"] =
            json!(["/proc/sys/net/ipv4", "/proc/sys/kernel", "/proc/net", "/proc/sys", "/proc/sys"]);
        change(&mut config);
        let plan = case("covered", On::V2, config).plan();
        let network = at(&plan, "inside   entering the network namespace").unwrap();
        let when = |path: &str| {
            let lines: Vec<_> =
                plan.lines().enumerate().filter(|(_, line)| covered(line).contains(&Path::new(path))).collect();
            assert_eq!(lines.len(), 1, "{shape}: {path} is covered by {lines:?}");
            lines[0].0
        };
        for path in early {
            assert_eq!(when(path) < network, shape.is_empty(), "{shape}: {path}");
        }
        for path in late {
            assert!(when(path) > network, "{shape}: {path}");
        }
        let pivoted = at(&plan, "inside   pivoting the root").unwrap();
        assert_eq!(pivoted < network, shape != "mounts that cannot be bound", "{shape}");
    }
}

/// After the root has changed there is no path to the host's, and no sysfs that lets a user namespace make another.
#[test]
fn the_root_changes_early_only_where_nothing_of_the_host_is_needed() {
    let with_namespace = |namespace: Value| {
        let mut config = default_config();
        let list = config["linux"]["namespaces"].as_array_mut().unwrap();
        list.retain(|old| old["type"] != namespace["type"]);
        list.push(namespace);
        config
    };
    let cases = [
        case("in a user's namespace", On::Podman, default_config()),
        case("cgroup namespace", On::V2, with_namespace(json!({"type": "cgroup"}))),
        case(
            "the network namespace of the host",
            On::V2,
            with_namespace(json!({"type": "network", "path": "/proc/self/ns/net"})),
        ),
    ];
    for case in cases {
        let plan = case.plan();
        let pivoted = at(&plan, "inside   pivoting the root").unwrap();
        assert!(at_last(&plan, "inside   mounting") < pivoted, "{}:\n{plan}", case.name);
    }
    let plan = case("default", On::V2, default_config()).plan();
    assert!(at(&plan, "inside   pivoting the root") < at(&plan, "inside   mounting \"sysfs\""), "{plan}");
}

/// Where the last step that begins so stands.
fn at_last(plan: &str, start: &str) -> usize {
    plan.lines().enumerate().filter(|(_, line)| line.starts_with(start)).last().map_or(0, |(at, _)| at)
}

#[test]
fn planning_changes_nothing() {
    fn everything(folder: &Path) -> Vec<(PathBuf, u64)> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let meta = entry.metadata().unwrap();
            found.push((entry.path(), if meta.is_dir() { 0 } else { meta.len() }));
            if meta.is_dir() {
                found.extend(everything(&entry.path()));
            }
        }
        found.sort();
        found
    }
    let place = Place::new();
    let host = host(On::V1, &place);
    std::fs::write(place.bundle().join("config.json"), with(default_config(), resources).to_string()).unwrap();
    let before = everything(&place.0);
    let config = Config::open(&place.bundle()).unwrap();
    let mut request = Request::new(ContainerId::new("c1").unwrap(), place.bundle());
    request.pid_file = Some(place.0.join("pid"));
    let record = Rc::new(RefCell::new(new_record(&config, &request, &host).unwrap()));
    assert!(plan_create(&config, &record, &place.0.join("state/c1"), &request, &host).unwrap().len() > 20);
    assert_eq!(everything(&place.0), before);
}
