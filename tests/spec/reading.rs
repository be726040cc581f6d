//! From text to types: syntax, types, unknown fields, and what oci-spec cannot hold.

use orlop::error::one_line;
use orlop::spec::{Capabilities, Config, Part, read_process};
use serde_json::{Value, json};

use crate::{accepted, minimal, process, read, refused, sample, warned, with};

#[test]
fn syntax_errors_name_line_and_column() {
    for (text, expected) in [
        ("{\n  \"ociVersion\": }", "line 2 column 17: expected value"),
        ("{\n  \"linux\": {\n    \"devices\": [1,]\n  }\n}", "line 3 column 19: trailing comma"),
        ("{", "line 1 column 1: EOF while parsing an object"),
        ("", "line 1 column 0: EOF while parsing a value"),
        ("{} {}", "line 1 column 4: trailing characters"),
        ("null", "config cannot be null"),
        ("[]", "expected an object"),
        ("{\"a\": \"\u{1}\"}", "line 1 column 8: control character (\\u0000-\\u001F) found while parsing a string"),
        (
            "{\"ociVersion\": \"1.3.0\",\n\"linux\": {\"seccomp\": {\n\"defaultAction\": \"\\ud800\"}}}",
            "line 3 column 25: unexpected end of hex escape",
        ),
        ("{\"hostname\": \"\\ud800\"}", "line 1 column 21: unexpected end of hex escape"),
    ] {
        let error = Config::read(text.as_bytes().to_vec()).unwrap_err();
        assert_eq!(one_line(&error), format!("config.json: {expected}"), "{text:?}");
    }
    let error = Config::read(b"{\"a\": \"\xff\"}".to_vec()).unwrap_err();
    assert_eq!(one_line(&error), "config.json: not UTF-8 text after byte 7");
}

/// A document with these members behind the required ones.
fn text_with(members: &str) -> Vec<u8> {
    let process = r#"{"cwd": "/", "args": ["sh"], "user": {"uid": 0, "gid": 0}}"#;
    format!(r#"{{"ociVersion": "1.3.0", "root": {{"path": "r"}}, "process": {process}, {members}}}"#).into_bytes()
}

#[test]
fn the_last_of_two_sections_counts_with_all_that_it_has() {
    let first = r#""linux": {"seccomp": {"defaultAction": "SCMP_ACT_KILL"}, "cgroupsPath": "/a"}"#;
    let second = r#""linux": {"cgroupsPath": "/b"}"#;
    for (members, profile, path) in
        [(format!("{first}, {second}"), false, "/b"), (format!("{second}, {first}"), true, "/a")]
    {
        let linux = Config::read(text_with(&members)).unwrap().spec.linux().clone().unwrap();
        assert_eq!((linux.seccomp().is_some(), linux.cgroups_path().as_deref()), (profile, Some(path.as_ref())));
    }
}

#[test]
fn a_linux_section_that_is_no_object_is_named() {
    for value in ["5", "-5", "0.5", "\"x\"", "true", "[{}, 1]"] {
        let error = one_line(&Config::read(text_with(&format!(r#""linux": {value}"#))).unwrap_err());
        assert!(error.starts_with("config.json: linux: ") && error.contains("expected"), "{value}: {error}");
    }
    assert!(Config::read(text_with(r#""linux": null"#)).unwrap().spec.linux().is_none());
}

#[test]
fn type_errors_name_the_path() {
    refused([
        ("ociVersion", json!(1), "ociVersion: invalid type: integer `1`, expected a string"),
        ("linux", json!([]), "linux: expected an object, found an array"),
        ("process.user", json!([0, 0]), "process.user: expected an object, found an array"),
        ("mounts", json!([["/proc"]]), "mounts[0]: expected an object, found an array"),
        ("hooks", json!({ "poststop": [["/x"]] }), "hooks.poststop[0]: expected an object, found an array"),
        (
            "linux.resources.rdma",
            json!({ "mlx5_1": [1] }),
            "linux.resources.rdma.mlx5_1: expected an object, found an array",
        ),
        ("linux.seccomp", json!(["SCMP_ACT_ALLOW"]), "linux.seccomp: expected an object, found an array"),
        ("process.args", json!("sh"), "process.args: invalid type: string \"sh\", expected a sequence"),
        ("process.args", json!(["sh", 1]), "process.args[1]: invalid type: integer `1`, expected a string"),
        ("process.user.uid", json!(-1), "process.user.uid: invalid value: integer `-1`, expected u32"),
        (
            "process.user.gid",
            json!(4294967296u64),
            "process.user.gid: invalid value: integer `4294967296`, expected u32",
        ),
        ("process.capabilities", json!(["CAP_KILL"]), "process.capabilities: expected an object, found an array"),
        (
            "process.capabilities.bounding",
            json!(1),
            "process.capabilities.bounding: expected an array of strings, found a number",
        ),
        (
            "process.capabilities.bounding",
            json!([1]),
            "process.capabilities.bounding[0]: expected a string, found a number",
        ),
        (
            "linux.resources.pids.limit",
            json!("x"),
            "linux.resources.pids.limit: invalid type: string \"x\", expected i64",
        ),
        (
            "linux.resources.memory.limit",
            json!(1.5),
            "linux.resources.memory.limit: invalid type: floating point `1.5`, expected i64",
        ),
        (
            "linux.sysctl",
            json!({ "net.core.somaxconn": 1 }),
            "linux.sysctl[\"net.core.somaxconn\"]: invalid type: integer `1`, expected a string",
        ),
        (
            "linux.namespaces",
            json!([{ "type": "net" }]),
            "linux.namespaces[0].type: unknown variant `net`, expected one of `mount`, `cgroup`, `uts`, `ipc`, `user`, `pid`, `network`, `time`",
        ),
        (
            "linux.namespaces",
            json!([{ "type": "a\nb\u{1b}[2J" }]),
            "linux.namespaces[0].type: unknown variant `a\\nb\\u{1b}[2J`, expected one of `mount`, `cgroup`, `uts`, `ipc`, `user`, `pid`, `network`, `time`",
        ),
        (
            "linux.seccomp",
            json!({ "defaultAction": 1 }),
            "linux.seccomp.defaultAction: invalid type: integer `1`, expected string or map",
        ),
        (
            "linux.seccomp",
            json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{ "names": ["x"], "action": "SCMP_ACT_ALLOW", "args": [{ "index": 0, "value": 1 }] }] }),
            "linux.seccomp.syscalls[0].args[0].op: required",
        ),
    ]);
}

#[test]
fn nul_bytes_are_found_wherever_they_are() {
    refused([
        ("hostname", json!("a\0b"), "hostname: contains a NUL byte"),
        ("process.env", json!(["A=\0"]), "process.env[0]: contains a NUL byte"),
        ("annotations", json!({ "a\0": "" }), "annotations[\"a\\0\"]: contains a NUL byte"),
        (
            "linux.seccomp",
            json!({ "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/\0" }),
            "linux.seccomp.listenerPath: contains a NUL byte",
        ),
    ]);
    accepted([("process.env", json!(["A=\\u0000"]))]);
}

#[test]
fn what_writers_in_go_leave_unset_counts_as_absent() {
    accepted([
        ("hostname", json!("")),
        ("mounts", Value::Null),
        ("process.user", Value::Null),
        ("process.apparmorProfile", json!("")),
        ("linux.rootfsPropagation", json!("")),
        ("linux.namespaces", json!([{ "type": "pid", "path": "" }])),
        ("linux.resources.devices", json!([{ "allow": false, "type": "", "access": "rwm", "major": null }])),
        ("linux.uidMappings", json!([])),
        ("linux.timeOffsets", json!({})),
        ("linux.seccomp", json!({})),
        ("linux.seccomp", Value::Null),
        ("linux.seccomp", json!({ "defaultAction": "", "syscalls": null })),
        ("linux.devices", json!([{ "path": "/dev/fifo", "type": "p" }])),
    ]);
    // A value of the user's own stays, even when it is empty.
    let config = read(&with("annotations", json!({ "a": "" }))).unwrap();
    assert_eq!(config.spec.annotations().as_ref().unwrap()["a"], "");
    let config = read(&with("linux.seccomp", json!({}))).unwrap();
    assert!(config.spec.linux().as_ref().unwrap().seccomp().is_none());
}

#[test]
fn unknown_fields_are_warned_about() {
    warned([
        ("foo", json!(1), "foo: unknown field, ignored"),
        ("linux.foo", json!({ "a": 1 }), "linux.foo: unknown field, ignored"),
        ("process.user.shell", json!("x"), "process.user.shell: unknown field, ignored"),
        ("mounts", json!([{ "destination": "/a", "foo": 1 }]), "mounts[0].foo: unknown field, ignored"),
        (
            "linux.seccomp",
            json!({ "defaultAction": "SCMP_ACT_ALLOW", "x": 1 }),
            "linux.seccomp.x: unknown field, ignored",
        ),
        ("process.execCPUAffinity", json!({ "x": "1" }), "process.execCPUAffinity.x: unknown field, ignored"),
        ("process.capabilities", json!({ "x": [] }), "process.capabilities.x: unknown field, ignored"),
        ("linux.intelRdt", json!({ "enableCMT": true }), "linux.intelRdt.enableCMT: unknown field, ignored"),
        ("uidMappings", json!([]), "uidMappings: unknown field, ignored"),
        ("windows", json!({ "anything": [1, 2] }), "windows: not for Linux, ignored"),
        ("vm", json!(17), "vm: not for Linux, ignored"),
        ("process.commandLine", json!("cmd"), "process.commandLine: not for Linux, ignored"),
        ("process.user.username", json!("x"), "process.user.username: not for Linux, ignored"),
    ]);
}

#[test]
fn a_field_in_another_case_is_read_as_in_runc_and_told() {
    let mut document = with("linux.resources.hugepageLimits", json!([{ "pagesize": "2MB", "limit": 1 }]));
    document["process"]["NoNewPrivileges"] = json!(true);
    document["linux"]["seccomp"] = json!({ "defaultaction": "SCMP_ACT_ALLOW" });
    let config = read(&document).unwrap();
    assert_eq!(config.spec.process().as_ref().unwrap().no_new_privileges(), Some(true));
    let linux = config.spec.linux().as_ref().unwrap();
    assert!(linux.seccomp().is_some());
    let limits = linux.resources().as_ref().unwrap().hugepage_limits().as_ref().unwrap();
    assert_eq!(limits[0].page_size(), "2MB");
    assert_eq!(
        config.warnings,
        [
            "config.json: linux.resources.hugepageLimits[0].pagesize: unknown field, read as \"pageSize\"",
            "config.json: linux.seccomp.defaultaction: unknown field, read as \"defaultAction\"",
            "config.json: process.NoNewPrivileges: unknown field, read as \"noNewPrivileges\"",
        ]
    );
    let process = read_process(br#"{"CWD":"/","args":["a"],"User":{"uid":0,"GID":5}}"#).unwrap();
    assert_eq!((process.process.user().gid(), process.warnings.len()), (5, 3));
    assert_eq!(process.warnings[0], "process.CWD: unknown field, read as \"cwd\"");
}

#[test]
fn unknown_capabilities_are_named_once_and_dropped() {
    let document = with(
        "process.capabilities",
        json!({ "bounding": ["CAP_KILL", "CAP_FUTURE"], "effective": ["CAP_FUTURE", "CAP_CHECKPOINT_RESTORE"], "ambient": [] }),
    );
    let config = read(&document).unwrap();
    let expected = Capabilities { bounding: 1 << 5, effective: 1 << 40, ..Capabilities::default() };
    assert_eq!(config.capabilities, Some(expected));
    assert_eq!(
        config.warnings,
        ["config.json: process.capabilities: ignoring unknown or unavailable capabilities: [CAP_FUTURE]"]
    );
    assert_eq!(read(&minimal()).unwrap().capabilities, None);
}

#[test]
fn an_absent_pids_limit_is_not_zero() {
    for (value, expected) in [(json!({}), None), (json!({ "limit": 0 }), Some(0)), (json!({ "limit": -1 }), Some(-1))] {
        let config = read(&with("linux.resources.pids", value)).unwrap();
        assert_eq!(config.pids_limit, expected);
        let resources = config.spec.linux().as_ref().unwrap().resources().as_ref().unwrap();
        assert_eq!(resources.pids().is_some(), expected.is_some());
    }
}

#[test]
fn unsigned_hugepage_limits_are_read() {
    let config =
        read(&with("linux.resources.hugepageLimits", json!([{ "pageSize": "2MB", "limit": u64::MAX }]))).unwrap();
    let resources = config.spec.linux().as_ref().unwrap().resources().as_ref().unwrap();
    assert_eq!(resources.hugepage_limits().as_ref().unwrap()[0].limit(), i64::MAX);
}

#[test]
fn what_oci_spec_cannot_hold_is_kept_beside_it() {
    let mut document = with(
        "process.scheduler",
        json!({ "policy": "SCHED_DEADLINE", "runtime": 1, "deadline": 2, "flags": ["SCHED_FLAG_DL_OVERRUN", "SCHED_FLAG_RESET_ON_FORK"] }),
    );
    document["process"]["execCPUAffinity"] = json!({ "initial": " 0-1, 3,", "final": "" });
    let config = read(&document).unwrap();
    assert_eq!(config.scheduler_flags, 0x05);
    assert_eq!(config.cpu_affinity.initial.unwrap().words(), [0b1011]);
    assert_eq!(config.cpu_affinity.last, None);
    assert_eq!(config.text, document.to_string().as_bytes());
}

#[test]
fn a_missing_file_is_reported_as_runc_does() {
    let bundle = std::env::temp_dir().join(format!("orlop-spec-{}", std::process::id()));
    std::fs::create_dir_all(&bundle).unwrap();
    let missing = one_line(&Config::open(&bundle).unwrap_err());
    std::fs::write(bundle.join("config.json"), minimal().to_string()).unwrap();
    let opened = Config::open(&bundle);
    std::fs::remove_dir_all(&bundle).unwrap();
    assert_eq!(missing, "JSON specification file config.json not found");
    assert_eq!(opened.unwrap().spec.root().as_ref().unwrap().path().to_str(), Some("rootfs"));
}

#[test]
fn a_process_file_is_read_like_the_process_of_a_configuration() {
    let read = process(&json!({
        "cwd": "/tmp", "args": ["id"], "foo": 1, "capabilities": { "ambient": ["CAP_CHOWN", "CAP_NEW"] },
        "execCPUAffinity": { "initial": "1" }, "noNewPrivileges": true,
    }))
    .unwrap();
    assert_eq!(read.process.cwd().to_str(), Some("/tmp"));
    assert_eq!(read.capabilities.map(|sets| sets.ambient), Some(1));
    assert_eq!(read.cpu_affinity.initial.unwrap().words(), [2]);
    assert_eq!(
        read.warnings,
        [
            "process.capabilities: ignoring unknown or unavailable capabilities: [CAP_NEW]",
            "process.foo: unknown field, ignored"
        ]
    );
    for (value, expected) in [
        (json!({ "args": ["a"] }), "process.cwd: required"),
        (json!({ "cwd": "/" }), "process.args: must not be empty"),
        (
            json!({ "cwd": "/", "args": ["a"], "user": { "uid": "x" } }),
            "process.user.uid: invalid type: string \"x\", expected u32",
        ),
        (json!({ "cwd": "/\0", "args": ["a"] }), "process.cwd: contains a NUL byte"),
        (json!({ "cwd": "/", "args": ["a"], "rlimits": [{}] }), "process.rlimits[0].type: required"),
        (json!([]), "process: expected an object, found an array"),
        (Value::Null, "config cannot be null"),
    ] {
        assert_eq!(one_line(&process(&value).unwrap_err()), expected);
    }
}

#[test]
fn no_field_of_the_specification_is_lost() {
    let mut document: Value = serde_json::from_slice(&sample("config-every-field")).unwrap();
    let config = read(&document).unwrap_or_else(|e| panic!("{}", one_line(&e)));
    assert_eq!(config.warnings, [""; 0]);
    assert_eq!(serde_json::to_value(&config.spec).unwrap(), document);
    // And with those that are kept beside the typed document.
    document["process"]["capabilities"] = json!({
        "bounding": ["CAP_CHOWN"], "permitted": ["CAP_DAC_OVERRIDE"], "effective": ["CAP_KILL"], "inheritable": ["CAP_SETUID"],
        "ambient": ["CAP_SETGID"],
    });
    document["process"]["execCPUAffinity"] = json!({ "initial": "7", "final": "0-3,7" });
    document["process"]["scheduler"]["flags"] = [
        "SCHED_FLAG_RESET_ON_FORK",
        "SCHED_FLAG_RECLAIM",
        "SCHED_FLAG_DL_OVERRUN",
        "SCHED_FLAG_KEEP_POLICY",
        "SCHED_FLAG_KEEP_PARAMS",
        "SCHED_FLAG_UTIL_CLAMP_MIN",
        "SCHED_FLAG_UTIL_CLAMP_MAX",
    ]
    .into();
    let config = read(&document).unwrap();
    assert_eq!(config.warnings, [""; 0]);
    let sets = Capabilities { bounding: 1, permitted: 2, effective: 1 << 5, inheritable: 1 << 7, ambient: 1 << 6 };
    assert_eq!(config.capabilities, Some(sets));
    assert_eq!(config.cpu_affinity.last.unwrap().to_string(), "0-3,7");
    assert_eq!(config.scheduler_flags, 0x7f);
    assert_eq!(config.pids_limit, Some(100));
}

#[test]
fn documents_of_engines_pass_without_a_warning() {
    for (name, syscalls) in [
        ("config-docker", true),
        ("config-docker-blkio", true),
        ("config-docker-buildkit", true),
        ("config-docker-terminal", true),
        ("config-docker-unconfined", false),
        ("config-docker-userns", true),
        ("config-containerd-ctr", false),
        ("config-containerd-ctr-seccomp", true),
        ("config-containerd-ctr-userns", false),
        ("config-containerd-cri-1.6-resources", true),
        ("config-containerd-cri-1.6-sandbox", true),
        ("config-containerd-cri-bidirectional", false),
        ("config-containerd-cri-confined", true),
        ("config-containerd-cri-propagation", true),
        ("config-containerd-cri-resources", true),
        ("config-containerd-cri-sandbox", true),
        ("config-containerd-cri-sandbox-privileged", false),
        ("config-containerd-cri-sandbox-userns", true),
        ("config-containerd-cri-userns", true),
        ("config-crio-bidirectional", false),
        ("config-crio-confined", true),
        ("config-crio-propagation", true),
        ("config-crio-resources", true),
        ("config-crio-sandbox", true),
        ("config-crio-sandbox-userns", true),
        ("config-crio-shared-userns", true),
        ("config-crio-userns", true),
        ("config-podman", true),
        ("config-podman-pod-member", true),
        ("config-podman-rootless", true),
        ("config-podman-terminal", true),
        ("config-podman-userns", true),
    ] {
        let config = Config::read(sample(name)).unwrap_or_else(|e| panic!("{name}: {}", one_line(&e)));
        assert_eq!(config.warnings, [""; 0], "{name}");
        let linux = config.spec.linux().as_ref().unwrap();
        let profile = linux.seccomp().as_ref().and_then(|seccomp| seccomp.syscalls().as_ref());
        assert_eq!(profile.is_some_and(|syscalls| syscalls.len() > 5), syscalls, "{name}");
        assert!(config.capabilities.is_some_and(|sets| sets.bounding != 0), "{name}");
    }
    for name in [
        "process-docker-exec",
        "process-docker-exec-terminal",
        "process-containerd-ctr-exec",
        "process-containerd-cri-exec",
        "process-crio-exec",
        "process-podman-exec",
    ] {
        let read = read_process(&sample(name)).unwrap_or_else(|e| panic!("{name}: {}", one_line(&e)));
        assert_eq!(read.warnings, [""; 0], "{name}");
        assert!(read.capabilities.is_some_and(|sets| sets.bounding != 0), "{name}");
    }
}

#[test]
fn a_part_says_what_the_whole_says() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let names = files.filter_map(|path| Some(path.file_name()?.to_str()?.strip_suffix(".json")?.to_owned()));
    let mut texts: Vec<(String, Vec<u8>)> =
        names.filter(|name| name.starts_with("config-")).map(|name| (name.clone(), sample(&name))).collect();
    assert!(texts.len() > 30, "{}", texts.len());
    texts.push(("the example".into(), include_bytes!("../../config.json.example").to_vec()));
    let mut document =
        with("process.scheduler", json!({"policy": "SCHED_OTHER", "flags": ["SCHED_FLAG_RESET_ON_FORK"]}));
    document["process"]["execCPUAffinity"] = json!({"initial": "0", "final": "0-1"});
    document["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 10, "hard": 20}]);
    document["hooks"] =
        json!({"poststop": [{"path": "/bin/true", "timeout": 3}], "poststart": [{"path": "/bin/echo"}]});
    document["linux"]["personality"] = json!({"domain": "LINUX32"});
    document["linux"]["memoryPolicy"] = json!({"mode": "MPOL_INTERLEAVE", "nodes": "0"});
    document["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"});
    texts.push(("much".into(), document.to_string().into_bytes()));
    let respelled = document.to_string().replace("\"process\"", "\"Process\"").replace("\"hooks\"", "\"HOOKS\"");
    let respelled = respelled.replace("\"linux\"", "\"Linux\"").replace("\"personality\"", "\"PERSONALITY\"");
    texts.push(("much in another spelling".into(), respelled.into_bytes()));
    // Nothing else is in another spelling, in what is left out or in what is not.
    let profile =
        json!({"DefaultAction": "SCMP_ACT_ALLOW", "Syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]});
    let mut document = with("linux.seccomp", profile);
    for (name, more) in
        [("a profile in another spelling", json!(null)), ("more of it", json!({"Memory": {"limit": 1 << 30}}))]
    {
        document["linux"]["resources"] = more;
        let text = document.to_string().into_bytes();
        let config = Config::read(text.clone()).unwrap();
        assert!(config.spec.linux().as_ref().unwrap().seccomp().is_some(), "{name}");
        texts.push((name.into(), text));
    }
    for (name, text) in texts {
        let whole = Config::read(text.clone()).unwrap_or_else(|e| panic!("{name}: {}", one_line(&e)));
        let [process, hooks] = [Part::Process, Part::Hooks]
            .map(|part| Config::read_part(text.clone(), part).unwrap_or_else(|e| panic!("{name}: {}", one_line(&e))));
        assert_eq!(process.spec.process(), whole.spec.process(), "{name}");
        assert_eq!(process.capabilities, whole.capabilities, "{name}");
        assert_eq!(process.scheduler_flags, whole.scheduler_flags, "{name}");
        assert_eq!(process.cpu_affinity, whole.cpu_affinity, "{name}");
        let [part, all] = [&process, &whole].map(|config| config.spec.linux().as_ref().unwrap());
        assert_eq!(part.seccomp(), all.seccomp(), "{name}");
        assert_eq!(part.personality(), all.personality(), "{name}");
        assert_eq!(part.memory_policy(), all.memory_policy(), "{name}");
        assert_eq!(hooks.spec.hooks(), whole.spec.hooks(), "{name}");
        // And what is left out is left out.
        assert!(
            process.spec.mounts().is_none() && part.devices().is_none() && process.spec.hooks().is_none(),
            "{name}"
        );
        assert!(hooks.spec.process().is_none() && hooks.spec.linux().is_none(), "{name}");
    }
}

#[test]
fn the_example_passes_and_has_the_limits_that_it_shows() {
    let config = Config::read(include_bytes!("../../config.json.example").to_vec()).unwrap();
    assert_eq!(config.warnings, [""; 0]);
    assert_eq!(config.pids_limit, Some(64));
    let resources = config.spec.linux().as_ref().unwrap().resources().as_ref().unwrap();
    assert_eq!(resources.memory().unwrap().limit(), Some(64 << 20));
    assert_eq!(resources.cpu().as_ref().unwrap().shares(), Some(512));
}

/// Calls `visit` with the JSON pointer and the printed path of every scalar.
fn scalars(value: &Value, pointer: &str, path: &str, visit: &mut dyn FnMut(&str, &str)) {
    match value {
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                scalars(item, &format!("{pointer}/{i}"), &format!("{path}[{i}]"), visit);
            }
        }
        Value::Object(members) => {
            for (key, member) in members {
                let path = match key.contains('.') {
                    true => format!("{path}[{key:?}]"),
                    false if path.is_empty() => key.clone(),
                    false => format!("{path}.{key}"),
                };
                scalars(member, &format!("{pointer}/{key}"), &path, visit);
            }
        }
        _ => visit(pointer, path),
    }
}

#[test]
fn a_wrong_type_is_refused_at_every_field_and_the_message_names_it() {
    let document: Value = serde_json::from_slice(&sample("config-every-field")).unwrap();
    let mut fields = 0;
    scalars(&document, "", "", &mut |pointer, path| {
        fields += 1;
        for wrong in [json!([[]]), json!({ "x": 1 }), json!(true), json!(-1.5)] {
            let mut broken = document.clone();
            let place = broken.pointer_mut(pointer).unwrap();
            if place.is_boolean() && wrong.is_boolean() {
                continue;
            }
            *place = wrong.clone();
            let said = one_line(&read(&broken).expect_err(&format!("{path} = {wrong}")));
            assert!(said.starts_with(&format!("config.json: {path}: ")), "{path} = {wrong}: {said}");
        }
    });
    assert!(fields > 150, "{fields} fields were visited");
}

#[test]
fn no_truncated_text_is_accepted() {
    let text = sample("config-every-field");
    let whole = text.trim_ascii_end().len();
    for end in (0..whole).step_by(7) {
        let said = one_line(&Config::read(text[..end].to_vec()).expect_err("truncated"));
        assert!(said.starts_with("config.json: line "), "{end}: {said}");
    }
}
