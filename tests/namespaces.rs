//! Namespaces: config-linux.md#namespaces, #user-namespace-mappings and #time-offsets (runtime-spec 1.3).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Also in the functions that the tests share.

mod common;

use common::actions::link;
use common::{Bundle, Done};
use serde_json::json;

/// Names in config.json and below /proc/PID/ns.
const KINDS: [(&str, &str); 8] = [
    ("pid", "pid"),
    ("mount", "mnt"),
    ("network", "net"),
    ("uts", "uts"),
    ("ipc", "ipc"),
    ("cgroup", "cgroup"),
    ("user", "user"),
    ("time", "time"),
];

fn of(pid: impl std::fmt::Display, file: &str) -> String {
    link(format!("/proc/{pid}/ns/{file}"))
}

/// A bundle with a new namespace of every kind.
fn all_new() -> Bundle {
    let mut bundle = Bundle::sleeping();
    bundle.namespace("cgroup", None);
    bundle.namespace("time", None);
    bundle.user_namespace(100_000);
    bundle
}

#[test]
fn a_new_namespace_of_every_kind_is_the_containers_own() {
    need_root!();
    let bundle = all_new();
    let id = bundle.running();
    let pid = bundle.pid(&id);
    for (kind, file) in KINDS {
        assert_ne!(of(pid, file), of("self", file), "{kind}");
    }
}

#[test]
fn a_namespace_that_is_not_asked_for_is_the_hosts() {
    need_root!();
    let mut bundle = Bundle::sleeping();
    bundle.config.as_object_mut().unwrap().remove("hostname");
    for kind in ["pid", "network", "uts", "ipc", "cgroup"] {
        bundle.without_namespace(kind);
    }
    // A new sysfs belongs to a new network namespace, a new mqueue to a new ipc namespace.
    let id = bundle.running();
    let pid = bundle.pid(&id);
    for (kind, file) in KINDS.iter().filter(|(kind, _)| *kind != "mount") {
        assert_eq!(of(pid, file), of("self", file), "{kind}");
    }
    assert_ne!(of(pid, "mnt"), of("self", "mnt"));
}

#[test]
fn each_kind_but_mount_and_user_can_be_joined_by_its_path() {
    need_root!();
    let mut first = Bundle::sleeping();
    first.namespace("cgroup", None);
    first.namespace("time", None);
    let other = first.pid(&first.running());
    for (kind, file) in KINDS.iter().filter(|(kind, _)| !matches!(*kind, "mount" | "user")) {
        let mut bundle = Bundle::sleeping();
        bundle.namespace(kind, Some(&format!("/proc/{other}/ns/{file}")));
        if *kind == "uts" {
            bundle.config.as_object_mut().unwrap().remove("hostname");
        }
        let id = bundle.running();
        assert_eq!(of(bundle.pid(&id), file), of(other, file), "{kind}");
        assert_eq!(of("self", "pid_for_children"), of("self", "pid"));
    }
}

#[test]
fn a_container_is_known_by_its_start_time_whatever_clock_it_has() {
    need_root!();
    let mut first = Bundle::sleeping();
    first.namespace("time", None);
    first.config["linux"]["timeOffsets"] = json!({ "boottime": { "secs": 100_000 } });
    let other = first.pid(&first.running());
    // With a new user namespace the runtime itself enters the time namespace, before the clone.
    for user_namespace in [false, true] {
        let mut bundle = Bundle::sleeping();
        bundle.namespace("time", Some(&format!("/proc/{other}/ns/time")));
        if user_namespace {
            bundle.user_namespace(100_000);
        }
        let id = bundle.running();
        let state = bundle.state(&id);
        assert_eq!(state["status"], "running");
        let pid = &state["pid"];
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let started = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().nth(19).unwrap();
        let record = std::fs::read_to_string(bundle.root().join(&id).join("state.json")).unwrap();
        let record: serde_json::Value = serde_json::from_str(&record).unwrap();
        assert_eq!(record["startTime"].to_string(), started, "{record}");
    }
}

#[test]
fn all_of_them_can_be_joined_at_once() {
    need_root!();
    let mut first = Bundle::sleeping();
    first.namespace("cgroup", None);
    first.namespace("time", None);
    let other = first.pid(&first.running());
    let mut bundle = Bundle::sleeping();
    let joined = KINDS.iter().filter(|(kind, _)| !matches!(*kind, "mount" | "user"));
    for (kind, file) in joined.clone() {
        bundle.namespace(kind, Some(&format!("/proc/{other}/ns/{file}")));
    }
    let id = bundle.running();
    for (kind, file) in joined {
        assert_eq!(of(bundle.pid(&id), file), of(other, file), "{kind}");
    }
    assert_eq!(bundle.exec(&id, "hostname"), "orlop\n");
}

#[test]
fn a_joined_mount_namespace_is_used() {
    need_root!();
    let mut unshared = std::process::Command::new("unshare").args(["-m", "sleep", "60"]).spawn().unwrap();
    let pid = unshared.id();
    common::actions::eventually("unshare", || (of(pid, "mnt") != of("self", "mnt")).then_some(()));
    let mut bundle = Bundle::sleeping();
    bundle.namespace("mount", Some(&format!("/proc/{pid}/ns/mnt")));
    let id = bundle.id();
    let done = bundle.orlop(&["run", "-d", &id]);
    let found = (done.code == 0).then(|| of(bundle.pid(&id), "mnt"));
    let expected = of(pid, "mnt");
    unshared.kill().unwrap();
    unshared.wait().unwrap();
    assert_eq!(found, Some(expected), "{done:?}");
}

#[test]
fn a_joined_user_namespace_with_all_others_new_has_its_ids() {
    need_root!();
    let mut first = Bundle::sleeping();
    first.user_namespace(100_000);
    let other = first.pid(&first.running());
    let mut bundle = Bundle::sleeping();
    bundle.user_namespace(100_000);
    bundle.config["linux"].as_object_mut().unwrap().retain(|key, _| !key.ends_with("idMappings"));
    bundle.namespace("user", Some(&format!("/proc/{other}/ns/user")));
    let id = bundle.running();
    let pid = bundle.pid(&id);
    assert_eq!(of(pid, "user"), of(other, "user"));
    assert_ne!(of(pid, "pid"), of(other, "pid"));
    assert!(std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap().contains("Uid:\t100000\t100000"));
    assert_eq!(bundle.exec(&id, "id -u"), "0\n");
}

#[test]
fn user_and_network_namespaces_of_another_container_are_joined_together() {
    need_root!();
    let first = all_new();
    let other = first.pid(&first.running());
    let mut bundle = Bundle::sleeping();
    bundle.user_namespace(100_000);
    bundle.config["linux"].as_object_mut().unwrap().retain(|key, _| !key.ends_with("idMappings"));
    let joined = [("user", "user"), ("network", "net"), ("ipc", "ipc"), ("uts", "uts"), ("pid", "pid")];
    for (kind, file) in joined {
        bundle.namespace(kind, Some(&format!("/proc/{other}/ns/{file}")));
    }
    let id = bundle.running();
    for (kind, file) in joined {
        assert_eq!(of(bundle.pid(&id), file), of(other, file), "{kind}");
    }
    assert_eq!(bundle.exec(&id, "hostname"), "orlop\n");
}

#[test]
fn a_joined_pid_namespace_shows_the_other_containers_processes() {
    need_root!();
    let mut first = Bundle::new("exec sleep 61.5");
    first.args(&["sleep", "61.5"]);
    let other = first.pid(&first.running());
    let mut bundle = Bundle::new("tr '\\0' ' ' </proc/1/cmdline; echo; [ $$ != 1 ] && echo not init");
    bundle.namespace("pid", Some(&format!("/proc/{other}/ns/pid")));
    assert_eq!(bundle.run().ok(), "sleep 61.5 \nnot init\n");
}

#[test]
fn a_path_that_is_no_such_namespace_is_an_error_at_its_place() {
    need_root!();
    let place = "linux.namespaces[4].path";
    for (path, why) in [
        ("/proc/self/ns/net", "network namespace, not a uts namespace"),
        ("/etc/passwd", "not a namespace"),
        ("/no/such/namespace", "no such file or directory"),
        ("proc/self/ns/uts", "not an absolute path"),
    ] {
        let mut bundle = Bundle::new("true");
        bundle.namespace("uts", Some(path));
        let id = bundle.id();
        let said = bundle.orlop(&["run", &id]).fails();
        assert!(said.contains(place) && said.contains(why), "{said}");
        bundle.assert_nothing_of(&id);
    }
}

#[test]
fn a_namespace_twice_or_of_an_unknown_kind_is_an_error() {
    need_root!();
    let mut bundle = Bundle::new("true");
    let list = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
    list.push(json!({ "type": "uts" }));
    let said = bundle.run().fails();
    assert!(said.contains("linux.namespaces[5]") && said.contains("uts"), "{said}");
    bundle.namespace("uts", None);
    bundle.namespace("universe", None);
    let said = bundle.run().fails();
    assert!(said.contains("linux.namespaces[5].type") && said.contains("universe"), "{said}");
}

#[test]
fn host_and_domain_names_are_set_in_the_uts_namespace_alone() {
    need_root!();
    let mut bundle = Bundle::new("hostname; cat /proc/sys/kernel/domainname");
    bundle.config["hostname"] = json!("some-host");
    bundle.config["domainname"] = json!("some.domain");
    let before = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_eq!(bundle.run().ok(), "some-host\nsome.domain\n");
    assert_eq!(std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap(), before);
}

#[test]
fn a_hostname_without_a_uts_namespace_is_refused() {
    need_root!();
    let mut bundle = Bundle::new("true");
    bundle.without_namespace("uts");
    let said = bundle.unshared(&["--uts"], &["run", &bundle.id()]).fails();
    assert!(said.contains("hostname"), "{said}");
}

#[test]
fn what_belongs_to_the_hosts_namespaces_is_not_changed_when_they_are_joined_by_their_path() {
    need_root!();
    let mut bundle = Bundle::new("true");
    bundle.namespace("uts", Some("/proc/self/ns/uts"));
    let said = bundle.unshared(&["--uts"], &["run", &bundle.id()]).fails();
    assert!(said.contains("hostname"), "{said}");
    for (kind, file, name) in [("network", "net", "net.ipv4.ip_forward"), ("ipc", "ipc", "kernel.shmmni")] {
        let mut bundle = Bundle::new("true");
        bundle.namespace(kind, Some(&format!("/proc/self/ns/{file}")));
        bundle.config["linux"]["sysctl"] = json!({ name: "1" });
        let said = bundle.unshared(&["--net", "--ipc"], &["run", &bundle.id()]).fails();
        assert!(said.contains("linux.sysctl") && said.contains(name), "{said}");
    }
    let mut bundle = Bundle::new("true");
    bundle.namespace("mount", Some("/proc/self/ns/mnt"));
    let said = bundle.unshared(&["--mount"], &["run", &bundle.id()]).fails();
    assert!(said.contains("linux.maskedPaths needs a mount namespace"), "{said}");
}

/// A bundle whose mounts are made in the runtime's mount namespace.
fn sharing_mounts(script: &str) -> Bundle {
    let mut bundle = Bundle::new(script);
    bundle.without_namespace("mount");
    bundle.config["linux"]["maskedPaths"] = json!([]);
    bundle.config["linux"]["readonlyPaths"] = json!([]);
    bundle
}

/// What a shell says that calls orlop as `orlop`, with `$id` and `$rootfs`, in a mount namespace that stands for the
/// host's and whose mounts are all shared, as systemd has them.
fn on_a_host(bundle: &Bundle, script: &str) -> Done {
    let orlop = "orlop() { \"$program\" --root \"$state\" \"$@\"; }; mount --make-rshared /; exec </dev/null";
    let mut unshare = std::process::Command::new("unshare");
    unshare.args(["--mount", "--propagation", "private", "sh", "-c", &format!("{orlop}; {script}")]);
    unshare.env("program", bundle.command(&[]).get_program()).env("state", bundle.root());
    unshare.env("id", bundle.id()).env("rootfs", bundle.rootfs()).current_dir(bundle.path());
    bundle.finish(unshare)
}

#[test]
fn mounts_without_a_mount_namespace_are_below_a_private_root_and_end_with_the_container() {
    need_root!();
    let mut bundle = sharing_mounts("ls /m; touch /new 2>/dev/null || echo read-only; while :; do sleep 0.1; done");
    let source = bundle.temp().join("source");
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("file"), "").unwrap();
    bundle.mount("/m", "bind", source.to_str().unwrap(), &["bind", "ro"]);
    let script = "
        before=$(cat /proc/self/mountinfo)
        orlop run --detach $id >$rootfs/../out 2>&1 || exit
        awk -v r=$rootfs '$5 == r || $5 == r \"/m\" { print substr($5, length(r) + 1), $7 }' /proc/self/mountinfo |
            sort
        grep -c \" $rootfs\" /proc/self/mountinfo
        orlop exec $id ls /m /proc/self/exe 2>&1
        orlop delete --force $id
        [ \"$before\" = \"$(cat /proc/self/mountinfo)\" ] && echo as before";
    let said = on_a_host(&bundle, script).ok();
    let lines: Vec<&str> = said.lines().collect();
    // No shared: or master: stands where the optional fields are; the bind of a host's directory follows that.
    assert_eq!(lines.first(), Some(&" -"), "{said}");
    assert!(lines.get(1).is_some_and(|line| line.starts_with("/m master:")), "{said}");
    assert!(lines.get(2).and_then(|count| count.parse::<u32>().ok()).is_some_and(|count| count > 6), "{said}");
    assert!(said.contains("/proc/self/exe") && said.contains("file"), "{said}");
    assert!(said.ends_with("as before\n"), "{said}");
}

#[test]
fn of_mounts_without_a_mount_namespace_a_failed_create_leaves_none() {
    need_root!();
    let mut bundle = sharing_mounts("true");
    bundle.hook("createRuntime", "grep -c /rootfs/proc /proc/self/mountinfo >&2; exit 3");
    let script = "before=$(cat /proc/self/mountinfo); orlop create $id && echo made
        [ \"$before\" = \"$(cat /proc/self/mountinfo)\" ] && echo as before";
    let done = on_a_host(&bundle, script);
    assert_eq!(done.stdout, "as before\n", "{done:?}");
    assert!(done.stderr.contains("exit status: 3, output: 1"), "{done:?}");
}

#[test]
fn what_is_mounted_over_the_shared_root_is_not_unmounted_for_it() {
    need_root!();
    let bundle = sharing_mounts("true");
    let script = "orlop create $id || exit
        mount -t tmpfs over $rootfs
        orlop delete --force $id && echo deleted
        grep -c \" over \" /proc/self/mountinfo
        umount $rootfs; orlop delete --force $id; grep -c \" $rootfs\" /proc/self/mountinfo";
    let done = on_a_host(&bundle, script);
    assert_eq!(done.stdout, "1\n0\n", "{done:?}");
    assert!(done.stderr.contains("something else has been mounted over"), "{done:?}");
}

#[test]
fn mounts_in_the_hosts_mount_namespace_are_refused_to_a_user_namespace() {
    need_root!();
    let mut bundle = sharing_mounts("true");
    bundle.user_namespace(100_000);
    let said = bundle.unshared(&["--mount"], &["run", &bundle.id()]).fails();
    assert!(said.contains("mounts needs a mount namespace"), "{said}");
}

#[test]
fn the_loopback_interface_of_a_new_network_namespace_is_up() {
    need_root!();
    let bundle = Bundle::new(
        "cat /sys/class/net/lo/flags; ls /sys/class/net; ping -c1 -W1 127.0.0.1 >/dev/null 2>&1; ip -o addr show lo | grep -c 127.0.0.1",
    );
    let said = bundle.run();
    // IFF_UP is bit 0.
    let flags = u32::from_str_radix(said.stdout.lines().next().unwrap().trim_start_matches("0x"), 16).unwrap();
    assert_eq!(flags & 1, 1, "{said:?}");
    assert_eq!(said.stdout.lines().filter(|line| *line == "lo").count(), 1);
    assert_eq!(said.stdout.lines().last(), Some("1"));
}

#[test]
fn in_a_cgroup_namespace_the_containers_cgroup_is_the_root() {
    need_root!();
    let mut bundle = Bundle::new("cut -d: -f3 /proc/self/cgroup | sort -u");
    assert!(bundle.run().ok().contains("orlop-test-"));
    bundle.namespace("cgroup", None);
    assert_eq!(bundle.run().ok(), "/\n");
}

#[test]
fn time_offsets_shift_the_clocks() {
    need_root!();
    let mut bundle = Bundle::new("cut -d. -f1 /proc/uptime; cat /proc/self/timens_offsets");
    bundle.namespace("time", None);
    bundle.config["linux"]["timeOffsets"] =
        json!({ "boottime": { "secs": 864_000, "nanosecs": 5 }, "monotonic": { "secs": 1000, "nanosecs": 7 } });
    let uptime: f64 = std::fs::read_to_string("/proc/uptime").unwrap().split(' ').next().unwrap().parse().unwrap();
    let said = bundle.run().ok();
    let shifted: f64 = said.lines().next().unwrap().parse().unwrap();
    assert!((863_999.0..864_060.0).contains(&(shifted - uptime)), "{said}");
    let words: Vec<_> = said.split_whitespace().skip(1).collect();
    assert_eq!(words, ["monotonic", "1000", "7", "boottime", "864000", "5"]);
}

#[test]
fn a_program_of_exec_has_the_shifted_clocks_too() {
    need_root!();
    let mut bundle = Bundle::sleeping();
    bundle.namespace("time", None);
    bundle.config["linux"]["timeOffsets"] = json!({ "boottime": { "secs": 864_000 } });
    let id = bundle.running();
    let uptime: u64 = bundle.exec(&id, "cut -d. -f1 /proc/uptime").trim().parse().unwrap();
    assert!(uptime >= 864_000);
}

#[test]
fn time_offsets_that_cannot_be_are_refused() {
    need_root!();
    let wrong = [
        (true, json!({ "realtime": { "secs": 1 } }), "linux.timeOffsets"),
        (true, json!({ "monotonic": { "nanosecs": 1_000_000_000u32 } }), "linux.timeOffsets.monotonic.nanosecs"),
        (false, json!({ "monotonic": { "secs": 1 } }), "linux.timeOffsets"),
    ];
    for (namespace, offsets, place) in wrong {
        let mut bundle = Bundle::new("true");
        if namespace {
            bundle.namespace("time", None);
        }
        bundle.config["linux"]["timeOffsets"] = offsets;
        let said = bundle.run().fails();
        assert!(said.contains(place), "{said}");
    }
}

#[test]
fn a_user_namespace_maps_its_ids() {
    need_root!();
    let mut bundle = Bundle::writable("cat /proc/self/uid_map /proc/self/gid_map; id -u; id -g; touch /made");
    bundle.user_namespace(100_000);
    bundle.config["linux"]["uidMappings"] = json!([
        { "containerID": 0, "hostID": 100_000, "size": 1000 },
        { "containerID": 5000, "hostID": 300_000, "size": 7 },
    ]);
    let said = bundle.run().ok();
    let words: Vec<_> = said.split_whitespace().collect();
    assert_eq!(words, ["0", "100000", "1000", "5000", "300000", "7", "0", "100000", "65536", "0", "0"]);
    use std::os::unix::fs::MetadataExt;
    let made = std::fs::metadata(bundle.rootfs().join("made")).unwrap();
    assert_eq!((made.uid(), made.gid()), (100_000, 100_000));
}

#[test]
fn a_program_in_a_user_namespace_may_run_as_another_of_its_users() {
    need_root!();
    let mut bundle = Bundle::sleeping();
    bundle.user_namespace(100_000);
    bundle.config["process"]["user"] = json!({ "uid": 7, "gid": 8, "additionalGids": [9] });
    let id = bundle.running();
    let status = std::fs::read_to_string(format!("/proc/{}/status", bundle.pid(&id))).unwrap();
    for line in ["Uid:\t100007\t", "Gid:\t100008\t", "Groups:\t100009"] {
        assert!(status.contains(line), "{line}: {status}");
    }
}

#[test]
fn an_id_that_is_not_mapped_cannot_be_the_programs() {
    need_root!();
    let mut bundle = Bundle::new("true");
    bundle.user_namespace(100_000);
    bundle.config["process"]["user"] = json!({ "uid": 70_000, "gid": 0 });
    let id = bundle.id();
    let said = bundle.orlop(&["run", &id]).fails();
    assert!(said.contains("70000") && said.contains("does not map"), "{said}");
    bundle.assert_nothing_of(&id);
}

#[test]
fn a_user_namespace_needs_mappings_and_mappings_a_user_namespace() {
    need_root!();
    let mut bundle = Bundle::new("true");
    bundle.namespace("user", None);
    let said = bundle.run().fails();
    assert!(said.contains("linux.uidMappings"), "{said}");
    bundle.user_namespace(100_000);
    bundle.without_namespace("user");
    let said = bundle.run().fails();
    assert!(said.contains("linux.uidMappings") && said.contains("user namespace"), "{said}");
}

#[test]
fn devices_in_a_user_namespace_work() {
    need_root!();
    let mut bundle = Bundle::new(
        "echo x >/dev/null && head -c3 /dev/zero | wc -c && test -c /dev/tty && test -L /dev/ptmx && echo fine",
    );
    bundle.user_namespace(100_000);
    let said = bundle.run().ok();
    assert_eq!(said.split_whitespace().collect::<Vec<_>>(), ["3", "fine"]);
}

#[test]
fn a_bind_mount_in_a_user_namespace_may_come_from_where_its_root_cannot_look() {
    need_root!();
    use std::os::unix::fs::PermissionsExt;
    let mut bundle = Bundle::new("cat /seen/file");
    bundle.user_namespace(100_000);
    let hidden = bundle.temp().join("hidden");
    std::fs::create_dir_all(hidden.join("inner")).unwrap();
    std::fs::write(hidden.join("inner/file"), "text\n").unwrap();
    std::fs::set_permissions(&hidden, PermissionsExt::from_mode(0o700)).unwrap();
    bundle.mount("/seen", "bind", hidden.join("inner").to_str().unwrap(), &["rbind", "ro"]);
    assert_eq!(bundle.run().ok(), "text\n");
}

#[test]
fn the_message_queues_of_a_user_namespace_belong_to_its_root() {
    need_root!();
    let mut bundle = Bundle::new("stat -c %u:%g /dev/mqueue; chmod 700 /dev/mqueue && stat -c %a /dev/mqueue");
    bundle.user_namespace(100_000);
    assert_eq!(bundle.run().ok(), "0:0\n700\n");
}
