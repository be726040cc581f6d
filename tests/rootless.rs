//! Containers of users without privileges.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Also in the functions that the tests share.

mod common;

use std::os::unix::fs::chown;
use std::path::Path;
use std::process::{Command, Stdio};

use common::{Bundle, Done};
use serde_json::json;

/// A user that no file of this machine knows.
const STRANGER: u32 = 54_321;

/// A bundle that belongs to `uid`, as `orlop spec --rootless` makes it for that user, with a runtime that it may read.
struct Users {
    bundle: Bundle,
    uid: u32,
}

impl Users {
    fn new(uid: u32, script: &str) -> Users {
        let bundle = Bundle::new(script);
        common::copy_program(env!("CARGO_BIN_EXE_orlop"), &bundle.temp().join("orlop"));
        std::fs::create_dir(bundle.root()).unwrap();
        for path in [bundle.path(), bundle.rootfs(), bundle.temp(), bundle.root()] {
            chown(path, Some(uid), Some(uid)).unwrap();
        }
        let mut users = Users { bundle, uid };
        users.bundle.config = users.config_of_spec(script);
        users
    }

    /// What `orlop spec --rootless` writes for the user.
    fn config_of_spec(&self, script: &str) -> serde_json::Value {
        let dir = self.bundle.temp();
        let mut command = self.as_user(&Command::new(dir.join("orlop")));
        assert!(command.args(["spec", "--rootless", "--bundle"]).arg(&dir).status().unwrap().success());
        let mut config: serde_json::Value =
            serde_json::from_slice(&std::fs::read(dir.join("config.json")).unwrap()).unwrap();
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(["sh", "-c", script]);
        config
    }

    fn as_user(&self, command: &Command) -> Command {
        let mut user = Command::new("setpriv");
        user.args([
            format!("--reuid={}", self.uid),
            format!("--regid={}", self.uid),
            "--clear-groups".into(),
            "--".into(),
        ]);
        user.arg(command.get_program()).args(command.get_args()).stdin(Stdio::null()).env_remove("XDG_RUNTIME_DIR");
        user
    }

    /// Runs orlop as the user.
    fn orlop(&self, args: &[&str]) -> Done {
        let prepared = self.bundle.command(args);
        let mut command = Command::new(self.bundle.temp().join("orlop"));
        command.args(prepared.get_args());
        let mut command = self.as_user(&command);
        command.current_dir(self.bundle.path());
        self.bundle.finish(command)
    }

    /// The same where /etc/subuid and /etc/subgid give user `nobody` a range, in a mount namespace of its own.
    fn orlop_with_ranges(&self, args: &[&str]) -> Done {
        let ranges = self.bundle.temp().join("ranges");
        std::fs::write(&ranges, "nobody:200000:65536\n").unwrap();
        let script = format!(
            "mount --bind {0} /etc/subuid && mount --bind {0} /etc/subgid && exec \"$0\" \"$@\"",
            ranges.display()
        );
        let prepared = self.bundle.command(args);
        let mut command = Command::new(self.bundle.temp().join("orlop"));
        command.args(prepared.get_args());
        let user = self.as_user(&command);
        let mut unshare = Command::new("unshare");
        unshare.args(["-m", "sh", "-c", &script]).arg(user.get_program()).args(user.get_args());
        unshare.current_dir(self.bundle.path()).stdin(Stdio::null());
        self.bundle.finish(unshare)
    }
}

/// Leaves the test where users may not make user namespaces.
macro_rules! need_user_namespaces {
    () => {
        need_root!();
        let unshare = ["--reuid=54321", "--regid=54321", "--clear-groups", "unshare", "-U", "true"];
        if !Command::new("setpriv").args(unshare).output().is_ok_and(|output| output.status.success()) {
            skip!("users may not make user namespaces here");
        }
    };
}

#[test]
fn the_bundle_of_spec_rootless_runs_for_an_ordinary_user() {
    need_user_namespaces!();
    let users = Users::new(STRANGER, "id -u; id -g; hostname; echo $$; cat /proc/self/uid_map");
    let id = users.bundle.id();
    let said = users.orlop(&["run", &id]).ok();
    assert_eq!(said.split_whitespace().collect::<Vec<_>>(), ["0", "0", "orlop", "1", "0", "54321", "1"]);
    users.bundle.assert_nothing_of(&id);
}

#[test]
fn its_mounts_and_devices_are_there() {
    need_user_namespaces!();
    let script = "echo x >/dev/null && head -c2 /dev/zero | wc -c && ls -d /dev/pts/ptmx /sys/class && readlink /dev/ptmx && touch /dev/shm/x && ls /proc/self/fd >/dev/null && echo all";
    let users = Users::new(STRANGER, script);
    assert_eq!(users.orlop(&["run", &users.bundle.id()]).ok(), "2\n/dev/pts/ptmx\n/sys/class\npts/ptmx\nall\n");
}

#[test]
fn its_exit_status_is_given_back_and_nothing_is_left() {
    need_user_namespaces!();
    let users = Users::new(STRANGER, "exit 9");
    let id = users.bundle.id();
    assert_eq!(users.orlop(&["run", &id]).code, 9);
    users.bundle.assert_nothing_of(&id);
}

#[test]
fn a_user_creates_starts_enters_lists_kills_and_deletes() {
    need_user_namespaces!();
    let users = Users::new(STRANGER, "while :; do sleep 0.05; done");
    let id = users.bundle.id();
    users.orlop(&["create", &id]).ok();
    let state: serde_json::Value = serde_json::from_str(&users.orlop(&["state", &id]).ok()).unwrap();
    assert_eq!(state["status"], "created");
    users.orlop(&["start", &id]).ok();
    assert_eq!(users.orlop(&["exec", &id, "sh", "-c", "id -u; hostname; exit 0"]).ok(), "0\norlop\n");
    assert_eq!(users.orlop(&["exec", &id, "sh", "-c", "exit 4"]).code, 4);
    assert!(users.orlop(&["list", "-q"]).ok().contains(&id));
    users.orlop(&["kill", &id, "KILL"]).ok();
    users.bundle.wait_for(&id, "stopped");
    users.orlop(&["delete", &id]).ok();
    users.bundle.assert_nothing_of(&id);
}

#[test]
fn delete_with_force_works_for_a_user() {
    need_user_namespaces!();
    let users = Users::new(STRANGER, "sleep 60");
    let id = users.bundle.id();
    users.orlop(&["run", "-d", &id]).ok();
    users.orlop(&["delete", "--force", &id]).ok();
    users.bundle.assert_nothing_of(&id);
}

#[test]
fn files_that_the_container_makes_belong_to_the_user() {
    need_user_namespaces!();
    let mut users = Users::new(STRANGER, "touch /made");
    users.bundle.config["root"]["readonly"] = json!(false);
    users.orlop(&["run", &users.bundle.id()]).ok();
    use std::os::unix::fs::MetadataExt;
    assert_eq!(std::fs::metadata(users.bundle.rootfs().join("made")).unwrap().uid(), STRANGER);
}

#[test]
fn a_user_has_no_other_groups_without_newgidmap() {
    need_user_namespaces!();
    let mut users = Users::new(STRANGER, "true");
    users.bundle.config["process"]["user"]["additionalGids"] = json!([5]);
    let id = users.bundle.id();
    let done = users.orlop(&["run", &id]);
    assert_ne!(done.code, 0);
    assert!(done.stderr.contains("group") || done.stderr.contains("Gids"), "{done:?}");
    users.bundle.assert_nothing_of(&id);
}

#[test]
fn ids_that_the_user_has_not_been_given_are_refused() {
    need_user_namespaces!();
    let mut users = Users::new(STRANGER, "true");
    users.bundle.config["linux"]["uidMappings"] = json!([{ "containerID": 0, "hostID": 0, "size": 65536 }]);
    let id = users.bundle.id();
    let done = users.orlop(&["run", &id]);
    assert!(done.code == 1 && done.stderr.contains("newuidmap"), "{done:?}");
    users.bundle.assert_nothing_of(&id);
}

#[test]
fn without_a_user_namespace_a_user_is_told_what_is_missing() {
    need_user_namespaces!();
    let mut users = Users::new(STRANGER, "true");
    users.bundle.without_namespace("user");
    users.bundle.config["linux"].as_object_mut().unwrap().retain(|key, _| !key.ends_with("idMappings"));
    let id = users.bundle.id();
    let done = users.orlop(&["run", &id]);
    assert!(done.code == 1 && done.stderr.starts_with("orlop: run failed: "), "{done:?}");
    users.bundle.assert_nothing_of(&id);
}

#[test]
fn ranges_of_subuid_are_mapped_by_newuidmap() {
    need_user_namespaces!();
    if !Path::new("/usr/bin/newuidmap").exists() || !Path::new("/etc/subuid").exists() {
        skip!("newuidmap (package uidmap) or /etc/subuid is missing");
    }
    const NOBODY: u32 = 65_534;
    let mut users = Users::new(
        NOBODY,
        "cat /proc/self/uid_map; id -u; id -G; touch /dev/shm/x; chown 7:8 /dev/shm/x && stat -c %u:%g /dev/shm/x",
    );
    let map = json!([{ "containerID": 0, "hostID": NOBODY, "size": 1 }, { "containerID": 1, "hostID": 200_000, "size": 65_536 }]);
    users.bundle.config["linux"]["uidMappings"] = map.clone();
    users.bundle.config["linux"]["gidMappings"] = map;
    users.bundle.config["process"]["user"] = json!({ "uid": 0, "gid": 0, "additionalGids": [5] });
    users.bundle.capabilities(&["CAP_CHOWN", "CAP_DAC_OVERRIDE"]);
    let id = users.bundle.id();
    let said = users.orlop_with_ranges(&["run", &id]).ok();
    assert_eq!(
        said.split_whitespace().collect::<Vec<_>>(),
        ["0", "65534", "1", "1", "200000", "65536", "0", "0", "5", "7:8"]
    );
    users.bundle.assert_nothing_of(&id);
}

#[test]
fn the_default_root_of_a_user_is_below_xdg_runtime_dir() {
    need_user_namespaces!();
    let users = Users::new(STRANGER, "sleep 60");
    let dir = users.bundle.temp().join("runtime-dir");
    std::fs::create_dir(&dir).unwrap();
    chown(&dir, Some(STRANGER), Some(STRANGER)).unwrap();
    // Writes config.json.
    drop(users.bundle.command(&[]));
    let orlop = |args: &[&str]| {
        let mut command = Command::new(users.bundle.temp().join("orlop"));
        command.args(args);
        let mut command = users.as_user(&command);
        command.current_dir(users.bundle.path()).env("XDG_RUNTIME_DIR", &dir);
        users.bundle.finish(command)
    };
    let id = users.bundle.id();
    let ran = orlop(&["run", "-d", &id]);
    let found = dir.join("orlop").join(&id).is_dir();
    orlop(&["delete", "--force", &id]).ok();
    assert!(found && ran.code == 0, "{ran:?}");
}

#[test]
fn root_of_a_user_namespace_that_denies_setgroups_runs_containers() {
    need_root!();
    let mut bundle = Bundle::new("id -u; id -g");
    bundle.config["linux"]["resources"] = json!({});
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| mount["type"] != "cgroup");
    for options in mounts.iter_mut().filter_map(|mount| mount["options"].as_array_mut()) {
        options.retain(|option| option != "gid=5");
    }
    let flags = ["--user", "--map-root-user", "--net", "--mount"];
    let said = bundle.unshared(&flags, &["--rootless", "true", "run", &bundle.id()]);
    assert_eq!(said.ok(), "0\n0\n");
}
