//! Values that the types allow and the specification or the kernel does not.

use serde_json::{Value, json};

use crate::{accepted, message, read, refused, warned, with};

#[test]
fn required_fields_are_named_when_they_are_missing() {
    refused([
        ("ociVersion", Value::Null, "ociVersion: required"),
        ("root", Value::Null, "root: required"),
        ("root", json!({ "readonly": true }), "root.path: required"),
        ("root.path", json!(""), "root.path: required"),
        ("process", Value::Null, "process: required"),
        ("process.cwd", Value::Null, "process.cwd: required"),
        ("process.cwd", json!(""), "process.cwd: required"),
        ("process.args", Value::Null, "process.args: must not be empty"),
        ("process.args", json!([]), "process.args: must not be empty"),
        ("process.consoleSize", json!({ "height": 1 }), "process.consoleSize.width: required"),
        ("process.ioPriority", json!({ "priority": 1 }), "process.ioPriority.class: required"),
        ("process.rlimits", json!([{ "type": "RLIMIT_CPU", "soft": 1 }]), "process.rlimits[0].hard: required"),
        ("process.scheduler", json!({ "nice": 1 }), "process.scheduler.policy: required"),
        ("mounts", json!([{ "source": "proc" }]), "mounts[0].destination: required"),
        ("hooks", json!({ "poststop": [{}] }), "hooks.poststop[0].path: required"),
        ("linux.namespaces", json!([{ "path": "/x" }]), "linux.namespaces[0].type: required"),
        ("linux.uidMappings", json!([{ "hostID": 0, "size": 1 }]), "linux.uidMappings[0].containerID: required"),
        ("linux.devices", json!([{ "path": "/dev/x" }]), "linux.devices[0].type: required"),
        ("linux.devices", json!([{ "path": "/dev/x", "type": "c", "minor": 1 }]), "linux.devices[0].major: required"),
        ("linux.resources.devices", json!([{ "access": "rwm" }]), "linux.resources.devices[0].allow: required"),
        (
            "linux.resources.hugepageLimits",
            json!([{ "pageSize": "2MB" }]),
            "linux.resources.hugepageLimits[0].limit: required",
        ),
        (
            "linux.resources.network.priorities",
            json!([{ "name": "lo" }]),
            "linux.resources.network.priorities[0].priority: required",
        ),
        (
            "linux.resources.blockIO.weightDevice",
            json!([{ "major": 8 }]),
            "linux.resources.blockIO.weightDevice[0].minor: required",
        ),
        (
            "linux.resources.blockIO.throttleReadIOPSDevice",
            json!([{ "major": 8, "minor": 0 }]),
            "linux.resources.blockIO.throttleReadIOPSDevice[0].rate: required",
        ),
        (
            "linux.memoryPolicy",
            json!({ "nodes": "0" }),
            "linux.memoryPolicy.mode: invalid memory policy mode: required",
        ),
        ("linux.personality", json!({}), "linux.personality.domain: required"),
        (
            "linux.seccomp",
            json!({ "syscalls": [{ "names": ["read"], "action": "SCMP_ACT_ALLOW" }] }),
            "linux.seccomp.defaultAction: required",
        ),
    ]);
}

#[test]
fn the_version_has_to_be_one_point_something() {
    refused([
        ("ociVersion", json!("2.0.0"), "ociVersion: \"2.0.0\" is not supported: 1.0.0 up to 1.3.0 are"),
        ("ociVersion", json!("one"), "ociVersion: \"one\" is not a semantic version"),
    ]);
    accepted([("ociVersion", json!("1.0.2-dev")), ("ociVersion", json!("1.0.0"))]);
    warned([("ociVersion", json!("1.4.0"), "ociVersion: 1.4.0 is newer than 1.3.0, which is what this runtime knows")]);
}

#[test]
fn process_values_are_checked() {
    refused([
        ("process.cwd", json!("tmp"), "process.cwd: \"tmp\" must be an absolute path"),
        ("process.env", json!(["A=1", "B"]), "process.env[1]: invalid environment variable \"B\": missing '='"),
        ("process.env", json!(["=1"]), "process.env[0]: invalid environment variable \"=1\": name cannot be empty"),
        ("process.user.uid", json!(u32::MAX), "process.user.uid: 4294967295 is not an id"),
        (
            "process.user.additionalGids",
            json!([1, u32::MAX]),
            "process.user.additionalGids[1]: 4294967295 is not an id",
        ),
        ("process.user.umask", json!(512), "process.user.umask: 512 is above 511 (octal 777)"),
        ("process.oomScoreAdj", json!(1001), "process.oomScoreAdj: 1001 is not in -1000 to 1000"),
        (
            "process.rlimits",
            json!([{ "type": "RLIMIT_CPU", "soft": 1, "hard": 1 }, { "type": "RLIMIT_CPU", "soft": 1, "hard": 1 }]),
            "process.rlimits[1].type: duplicated rlimit RLIMIT_CPU",
        ),
        (
            "process.rlimits",
            json!([{ "type": "RLIMIT_CPU", "soft": 2, "hard": 1 }]),
            "process.rlimits[0].soft: 2 is above hard, 1",
        ),
        (
            "process.ioPriority",
            json!({ "class": "IOPRIO_CLASS_BE", "priority": 8 }),
            "process.ioPriority.priority: 8 is not in 0 to 7",
        ),
        (
            "process.ioPriority",
            json!({ "class": "X" }),
            "process.ioPriority.class: unknown variant `X`, expected one of `IOPRIO_CLASS_RT`, `IOPRIO_CLASS_BE`, `IOPRIO_CLASS_IDLE`",
        ),
        (
            "process.scheduler",
            json!({ "policy": "SCHED_OTHER", "nice": 20 }),
            "process.scheduler.nice: 20 is not in -20 to 19",
        ),
        (
            "process.scheduler",
            json!({ "policy": "SCHED_FIFO" }),
            "process.scheduler.priority: 0 is not in 1 to 99, as SCHED_FIFO needs",
        ),
        (
            "process.scheduler",
            json!({ "policy": "SCHED_BATCH", "priority": 1 }),
            "process.scheduler.priority: can only be specified for SCHED_FIFO or SCHED_RR",
        ),
        (
            "process.scheduler",
            json!({ "policy": "SCHED_OTHER", "deadline": 1 }),
            "process.scheduler.deadline: can only be specified for SCHED_DEADLINE",
        ),
        (
            "process.scheduler",
            json!({ "policy": "SCHED_DEADLINE", "runtime": 5, "deadline": 4 }),
            "process.scheduler: SCHED_DEADLINE needs 0 < runtime <= deadline <= period",
        ),
        (
            "process.scheduler",
            json!({ "policy": "SCHED_OTHER", "flags": ["X"] }),
            "process.scheduler.flags[0]: unknown scheduler flag \"X\"",
        ),
        ("process.execCPUAffinity", json!({ "initial": "3-1" }), "process.execCPUAffinity.initial: invalid range: 3-1"),
        (
            "process.execCPUAffinity",
            json!({ "final": 1 }),
            "process.execCPUAffinity.final: expected a string, found a number",
        ),
    ]);
    let mut document = with("process.terminal", json!(true));
    document["process"]["consoleSize"] = json!({ "height": 65536, "width": 1 });
    assert_eq!(message(&document), "config.json: process.consoleSize.height: 65536 is above 65535");
    warned([(
        "process.consoleSize",
        json!({ "height": 65536, "width": 1 }),
        "process.consoleSize: ignored, as process.terminal is not set",
    )]);
}

#[test]
fn namespaces_are_checked_against_what_needs_them() {
    let without = |kind: &str, path: &str, value: Value| {
        let mut document = with(path, value);
        document["linux"]["namespaces"].as_array_mut().unwrap().retain(|namespace| namespace["type"] != kind);
        message(&document)
    };
    for (kind, path, value, expected) in [
        ("uts", "hostname", json!("a"), "hostname: unable to set hostname without a private UTS namespace"),
        ("uts", "domainname", json!("a"), "domainname: unable to set domainname without a private UTS namespace"),
        (
            "mount",
            "linux.maskedPaths",
            json!(["/x"]),
            "linux.maskedPaths: unable to restrict sys entries without a private MNT namespace",
        ),
        (
            "network",
            "linux.netDevices",
            json!({ "eth0": {} }),
            "linux.netDevices: unable to move network devices without a NET namespace",
        ),
        (
            "ipc",
            "linux.sysctl",
            json!({ "kernel.msgmax": "1" }),
            "linux.sysctl[\"kernel.msgmax\"]: sysctl \"kernel.msgmax\" is not allowed in the hosts ipc namespace",
        ),
        (
            "network",
            "linux.sysctl",
            json!({ "net.core.somaxconn": "1" }),
            "linux.sysctl[\"net.core.somaxconn\"]: sysctl \"net.core.somaxconn\" not allowed in host network namespace",
        ),
    ] {
        assert_eq!(without(kind, path, value.clone()), format!("config.json: {expected}"));
        assert_eq!(message(&with(path, value)), "accepted, warnings: []");
    }
    refused([
        (
            "linux.namespaces",
            json!([{ "type": "pid" }, { "type": "pid", "path": "/x" }]),
            "linux.namespaces[1].type: malformed spec file: duplicated ns \"pid\"",
        ),
        (
            "linux.namespaces",
            json!([{ "type": "pid", "path": "x" }]),
            "linux.namespaces[0].path: \"x\" is not an absolute path",
        ),
        ("hostname", json!("x".repeat(65)), "hostname: 65 bytes are more than the kernel's 64"),
    ]);
}

#[test]
fn mappings_and_user_namespaces_need_each_other() {
    let one = json!([{ "containerID": 0, "hostID": 1000, "size": 10 }]);
    refused([(
        "linux.uidMappings",
        one.clone(),
        "linux.uidMappings: user namespace mappings specified, but user namespace isn't enabled in the config",
    )]);
    let user = |uid: &Value, gid: &Value| {
        let mut document = with("linux.uidMappings", uid.clone());
        document["linux"]["gidMappings"] = gid.clone();
        document["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
        document
    };
    assert_eq!(message(&user(&one, &one)), "accepted, warnings: []");
    let missing = "required: user namespaces enabled, but no mappings found";
    assert_eq!(message(&user(&one, &Value::Null)), format!("config.json: linux.gidMappings: {missing}"));
    assert_eq!(message(&user(&json!([]), &one)), format!("config.json: linux.uidMappings: {missing}"));
    // containerd and CRI-O repeat the mappings of the namespace that they ask to join.
    let mut joined = user(&one, &one);
    joined["linux"]["namespaces"][6]["path"] = json!("/proc/1/ns/user");
    assert_eq!(message(&joined), "accepted, warnings: []");

    let two = |container, host, size| json!([{ "containerID": 0, "hostID": 1000, "size": 10 }, { "containerID": container, "hostID": host, "size": size }]);
    for (mappings, expected) in [
        (two(9, 5000, 1), "linux.uidMappings[1].containerID: overlaps with the mapping at index 0"),
        (two(10, 1009, 1), "linux.uidMappings[1].hostID: overlaps with the mapping at index 0"),
        (two(10, 5000, 0), "linux.uidMappings[1].size: 0 ids cannot be mapped"),
        (two(10, u32::MAX - 1, 2), "linux.uidMappings[1].hostID: 2 ids do not fit from 4294967294 on"),
    ] {
        assert_eq!(message(&user(&mappings, &one)), format!("config.json: {expected}"));
    }
    assert_eq!(message(&user(&two(10, 1010, 1), &one)), "accepted, warnings: []");
}

#[test]
fn time_offsets_need_a_time_namespace_of_their_own() {
    let time = |offsets: Value, path: &str| {
        let mut document = with("linux.timeOffsets", offsets);
        document["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "time", "path": path }));
        message(&document)
    };
    let hour = json!({ "monotonic": { "secs": 3600 }, "boottime": { "nanosecs": 1 } });
    assert_eq!(time(hour.clone(), ""), "accepted, warnings: []");
    assert_eq!(
        time(hour.clone(), "/x"),
        "config.json: linux.timeOffsets: the joined time namespace has its own offsets, which cannot be changed"
    );
    assert_eq!(
        time(json!({ "realtime": {} }), ""),
        "config.json: linux.timeOffsets.realtime: unknown clock: monotonic and boottime have offsets"
    );
    assert_eq!(
        time(json!({ "boottime": { "nanosecs": 1_000_000_000 } }), ""),
        "config.json: linux.timeOffsets.boottime.nanosecs: 1000000000 is a second or more"
    );
    refused([(
        "linux.timeOffsets",
        hour,
        "linux.timeOffsets: time namespace offsets specified, but time namespace isn't enabled in the config",
    )]);
}

#[test]
fn mounts_are_checked() {
    let mount = |members: Value| {
        let mut mount = json!({ "destination": "/a" });
        mount.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        json!([mount])
    };
    let ids = json!([{ "containerID": 0, "hostID": 1, "size": 1 }]);
    refused([
        (
            "mounts",
            mount(json!({ "options": ["ro", "nosuid", "rw"] })),
            "mounts[0].options[2]: \"rw\" contradicts \"ro\"",
        ),
        (
            "mounts",
            mount(json!({ "uidMappings": ids.clone() })),
            "mounts[0].gidMappings: required, as there are uidMappings",
        ),
        (
            "mounts",
            mount(json!({ "gidMappings": ids.clone() })),
            "mounts[0].uidMappings: required, as there are gidMappings",
        ),
        (
            "mounts",
            mount(json!({ "options": ["bind", "idmap"] })),
            "mounts[0].options[1]: \"idmap\" needs uidMappings and gidMappings, or a user namespace to take them from",
        ),
    ]);
    accepted([
        ("mounts", mount(json!({ "options": ["rbind", "ridmap"], "uidMappings": ids.clone(), "gidMappings": ids }))),
        ("mounts", mount(json!({ "options": ["rbind", "rprivate", "ro", "slave", "shared", "size=1", "size=2"] }))),
    ]);
    let config = read(&with("mounts", json!([{ "destination": "proc", "type": "proc" }]))).unwrap();
    assert_eq!(config.spec.mounts().as_ref().unwrap()[0].destination().to_str(), Some("/proc"));
    assert_eq!(
        config.warnings,
        [
            "config.json: mounts[0].destination: mount destination proc is not absolute, which is deprecated; /proc is used"
        ]
    );
}

#[test]
fn hooks_and_annotations_are_checked() {
    refused([
        ("hooks", json!({ "prestart": [{ "path": "x" }] }), "hooks.prestart[0].path: \"x\" is not an absolute path"),
        (
            "hooks",
            json!({ "poststop": [{ "path": "/x" }, { "path": "/x", "timeout": 0 }] }),
            "hooks.poststop[1].timeout: 0 is not greater than zero",
        ),
        (
            "hooks",
            json!({ "createRuntime": [{ "path": "/x", "env": ["A"] }] }),
            "hooks.createRuntime[0].env[0]: invalid environment variable \"A\": missing '='",
        ),
        ("annotations", json!({ "": "x" }), "annotations: a key is empty"),
    ]);
    let all = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
    let members = all.map(|name| (name.to_owned(), json!([{ "path": format!("/{name}"), "timeout": 1 }])));
    let config = read(&with("hooks", Value::Object(members.into_iter().collect()))).unwrap();
    for (name, list) in orlop::spec::hooks(config.spec.hooks().as_ref().unwrap()) {
        assert_eq!(list[0].path().to_str(), Some(format!("/{name}").as_str()));
    }
}

#[test]
fn sysctls_outside_the_namespaces_are_refused() {
    let case = |name: &str, why: &str| {
        let said = message(&with("linux.sysctl", json!({ name: "1" })));
        assert_eq!(said, format!("config.json: linux.sysctl[{name:?}]: {why}"));
    };
    case("kernel.core_pattern", "sysctl \"kernel.core_pattern\" is not in a separate kernel namespace");
    case("vm.swappiness", "sysctl \"vm.swappiness\" is not in a separate kernel namespace");
    case("kernel/core_pattern", "sysctl \"kernel.core_pattern\" is not in a separate kernel namespace");
    case(
        "kernel.hostname",
        "sysctl \"kernel.hostname\" is not allowed as it conflicts with the OCI \"hostname\" field",
    );
    case("user.max_user_namespaces", "setting ucounts without a user namespace not allowed: user.max_user_namespaces");
    case("net/../kernel/core_pattern", "sysctl \"net/../kernel/core_pattern\" is not the name of a parameter");
    case("net.//.kernel.core_pattern", "sysctl \"net.//.kernel.core_pattern\" is not the name of a parameter");
    accepted([(
        "linux.sysctl",
        json!({
            "net.ipv4.ip_forward": "1", "net/ipv4/conf/eno2.100/rp_filter": "1", "kernel.shm_rmid_forced": "1",
            "fs.mqueue.msg_max": "10", "kernel.domainname": "x", "kernel/sem": "1 2 3 4",
        }),
    )]);
}

#[test]
fn devices_are_checked() {
    let device = |members: Value| {
        let mut device = json!({ "path": "/dev/x", "type": "c", "major": 1, "minor": 3 });
        device.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        json!([device])
    };
    refused([
        ("linux.devices", device(json!({ "path": "x" })), "linux.devices[0].path: \"x\" is not an absolute path"),
        (
            "linux.devices",
            device(json!({ "type": "a" })),
            "linux.devices[0].type: invalid device type \"a\": b, c, u and p can be made",
        ),
        ("linux.devices", device(json!({ "major": 4096 })), "linux.devices[0].major: 4096 is not in 0 to 4095"),
        ("linux.devices", device(json!({ "minor": -1 })), "linux.devices[0].minor: -1 is not in 0 to 1048575"),
        ("linux.devices", device(json!({ "gid": u32::MAX })), "linux.devices[0].gid: 4294967295 is not an id"),
    ]);
    // Podman writes the file type into the mode.
    accepted([("linux.devices", device(json!({ "fileMode": 8630, "uid": 0, "gid": 5 })))]);
}

#[test]
fn resources_are_checked() {
    refused([
        (
            "linux.resources.devices",
            json!([{ "allow": true, "type": "p" }]),
            "linux.resources.devices[0].type: invalid cgroup device type \"p\"",
        ),
        (
            "linux.resources.devices",
            json!([{ "allow": true, "major": -2 }]),
            "linux.resources.devices[0].major: -2 is not a device number",
        ),
        (
            "linux.resources.devices",
            json!([{ "allow": true, "access": "rx" }]),
            "linux.resources.devices[0].access: \"rx\" is not composed of r, w and m",
        ),
        (
            "linux.resources.memory",
            json!({ "limit": -2 }),
            "linux.resources.memory.limit: -2 is neither a number of bytes nor -1 (unlimited)",
        ),
        (
            "linux.resources.memory",
            json!({ "limit": 10, "swap": 5 }),
            "linux.resources.memory.swap: memory and swap, 5, is below limit, 10",
        ),
        (
            "linux.resources.memory",
            json!({ "swappiness": 101 }),
            "linux.resources.memory.swappiness: 101 is not in 0 to 100",
        ),
        ("linux.resources.cpu", json!({ "quota": 1, "burst": 2 }), "linux.resources.cpu.burst: 2 is above quota, 1"),
        ("linux.resources.cpu", json!({ "idle": 2 }), "linux.resources.cpu.idle: 2 is neither 0 nor 1"),
        (
            "linux.resources.blockIO.weightDevice",
            json!([{ "major": 8, "minor": 0 }]),
            "linux.resources.blockIO.weightDevice[0]: weight or leafWeight is required",
        ),
        (
            "linux.resources.blockIO.throttleWriteBpsDevice",
            json!([{ "major": -1, "minor": 0, "rate": 1 }]),
            "linux.resources.blockIO.throttleWriteBpsDevice[0].major: -1 is not a device number",
        ),
        (
            "linux.resources.hugepageLimits",
            json!([{ "pageSize": "../2MB", "limit": 1 }]),
            "linux.resources.hugepageLimits[0].pageSize: \"../2MB\" is not a page size, as 2MB is",
        ),
        (
            "linux.resources.rdma",
            json!({ "mlx5_1": {} }),
            "linux.resources.rdma.mlx5_1: hcaHandles or hcaObjects is required",
        ),
        (
            "linux.resources.network.priorities",
            json!([{ "name": "a b", "priority": 1 }]),
            "linux.resources.network.priorities[0].name: invalid interface name \"a b\"",
        ),
        (
            "linux.resources.unified",
            json!({ "../memory.max": "1" }),
            "linux.resources.unified[\"../memory.max\"]: \"../memory.max\" is not the name of a file of a cgroup",
        ),
    ]);
    accepted([
        ("linux.resources.memory", json!({ "limit": -1, "swap": -1, "reservation": 0, "swappiness": 100 })),
        ("linux.resources.unified", json!({ "memory.high": "max", "hugetlb.1GB.max": "1" })),
        ("linux.resources.devices", json!([{ "allow": true, "type": "b", "major": -1, "minor": 3, "access": "rw" }])),
    ]);
}

#[test]
fn the_rest_of_the_linux_section_is_checked() {
    refused([
        ("linux.rootfsPropagation", json!("foo"), "linux.rootfsPropagation: rootfsPropagation=foo is not supported"),
        ("linux.readonlyPaths", json!(["/a", ""]), "linux.readonlyPaths[1]: is empty"),
        ("linux.netDevices", json!({ "a/b": {} }), "linux.netDevices[\"a/b\"]: invalid network device name \"a/b\""),
        (
            "linux.netDevices",
            json!({ "eth0": { "name": "a b" } }),
            "linux.netDevices.eth0.name: invalid network device name \"a b\"",
        ),
        (
            "linux.netDevices",
            json!({ "eth0": {}, "eth1": { "name": "eth0" } }),
            "linux.netDevices.eth1.name: two network devices are to be \"eth0\"",
        ),
        ("linux.intelRdt", json!({ "closID": "a/b" }), "linux.intelRdt.closID: invalid intelRdt.ClosID \"a/b\""),
        (
            "linux.intelRdt",
            json!({ "memBwSchema": "x" }),
            "linux.intelRdt.memBwSchema: \"x\" does not start with \"MB:\"",
        ),
        ("linux.intelRdt", json!({ "schemata": ["L3:0=f\nMB:0=1"] }), "linux.intelRdt.schemata[0]: contains a newline"),
        (
            "linux.memoryPolicy",
            json!({ "mode": "MPOL_BIND" }),
            "linux.memoryPolicy.nodes: required: MPOL_BIND needs at least one node",
        ),
        (
            "linux.memoryPolicy",
            json!({ "mode": "MPOL_LOCAL", "nodes": "0" }),
            "linux.memoryPolicy.nodes: MPOL_LOCAL: mode requires 0 nodes but got 1",
        ),
        (
            "linux.memoryPolicy",
            json!({ "mode": "MPOL_BIND", "nodes": "x" }),
            "linux.memoryPolicy.nodes: invalid memory policy nodes: invalid entry \"x\"",
        ),
        (
            "linux.memoryPolicy",
            json!({ "mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"] }),
            "linux.memoryPolicy.flags: MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES exclude each other",
        ),
        (
            "linux.personality",
            json!({ "domain": "LINUX", "flags": ["X"] }),
            "linux.personality.flags[0]: unknown personality flag \"X\"",
        ),
    ]);
    accepted([
        ("linux.intelRdt", json!({ "closID": "/", "schemata": ["L2:0=f"], "enableMonitoring": true })),
        ("linux.memoryPolicy", json!({ "mode": "MPOL_PREFERRED" })),
        (
            "linux.memoryPolicy",
            json!({ "mode": "MPOL_WEIGHTED_INTERLEAVE", "nodes": "0-1", "flags": ["MPOL_F_NUMA_BALANCING"] }),
        ),
        ("linux.personality", json!({ "domain": "LINUX32", "flags": ["ADDR_NO_RANDOMIZE"] })),
        ("linux.netDevices", json!({ "eth0": { "name": "eth%d" }, "eth1": { "name": "eth%d" } })),
    ]);
    for mode in ["shared", "rshared", "slave", "rslave", "private", "rprivate", "unbindable", "runbindable"] {
        accepted([("linux.rootfsPropagation", json!(mode))]);
    }
}
