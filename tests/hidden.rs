//! Containers without one of the newer system calls, as hack/old-kernel hides them: what orlop does without works as
//! ever, and what it needs is named. Run by itself, nothing is hidden and everything has to work.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Helpers of tests fail by panicking, as tests do.

mod common;

use common::{Bundle, Done, cgroups_of};
use serde_json::json;

/// The calls that a container cannot be made without.
const NEEDED: [&str; 3] = ["openat2", "open_tree", "fsopen"];

fn hidden() -> String {
    std::env::var("ORLOP_TEST_HIDDEN").unwrap_or_default()
}

/// What a command printed; where a call is missing that it needs, that is its error, and this is `None`.
#[track_caller]
fn unless_needed(done: Done, needed: &[&str]) -> Option<String> {
    let call = hidden();
    if !needed.contains(&call.as_str()) {
        return Some(done.ok());
    }
    assert!(matches!(done.code, 1 | 255), "{done:?}");
    let says =
        format!("function not implemented (this kernel, or a seccomp filter around orlop, does not have {call}(2))");
    assert!(done.stderr.contains(&says) && done.stderr.lines().count() == 1, "{done:?}");
    None
}

#[test]
fn a_program_has_its_directory_and_its_read_only_files() {
    need_root!();
    let script =
        "pwd; echo x >/etc/file || echo refused; ls /proc/acpi /proc/bus >/dev/null 2>&1; grep -c ' ro,' /proc/mounts";
    let mut bundle = Bundle::new(script);
    let source = bundle.temp().join("source");
    std::fs::write(&source, "text").unwrap();
    std::fs::create_dir_all(bundle.rootfs().join("work")).unwrap();
    std::fs::write(bundle.rootfs().join("masked"), "secret").unwrap();
    bundle.config["process"]["cwd"] = json!("/work");
    bundle.config["linux"]["readonlyPaths"] = json!(["/proc/bus", "/proc/sys", "/proc/version", "/proc/filesystems"]);
    bundle.config["linux"]["maskedPaths"] = json!(["/proc/acpi", "/proc/kcore", "/masked"]);
    let mount = json!({"destination": "/etc/file", "type": "bind", "source": source, "options": ["bind", "ro", "rprivate", "nosuid"]});
    bundle.config["mounts"].as_array_mut().unwrap().push(mount);
    let id = bundle.id();
    let done = bundle.orlop(&["run", &id]);
    if let Some(text) = unless_needed(done, &NEEDED) {
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[..2], ["/work", "refused"], "{text}");
        assert!(lines[2].parse::<u32>().unwrap() >= 4, "{text}");
    }
    assert_eq!(std::fs::read_to_string(&source).unwrap(), "text");
    assert_eq!(std::fs::read_dir(bundle.root()).unwrap().count(), 0);
    assert_eq!(cgroups_of(&id), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_read_only_file_is_bound_in_a_user_namespace() {
    need_root!();
    let mut bundle = Bundle::new("cat /etc/file; echo x >/etc/file || echo refused");
    let source = bundle.temp().join("source");
    std::fs::write(&source, "text\n").unwrap();
    let linux = &mut bundle.config["linux"];
    linux["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 1000}]);
    linux["uidMappings"] = map.clone();
    linux["gidMappings"] = map;
    std::os::unix::fs::chown(bundle.rootfs(), Some(100_000), Some(100_000)).unwrap();
    let mount = json!({"destination": "/etc/file", "type": "bind", "source": source, "options": ["bind", "ro"]});
    bundle.config["mounts"].as_array_mut().unwrap().push(mount);
    if let Some(text) = unless_needed(bundle.run(), &NEEDED) {
        assert_eq!(text, "text\nrefused\n");
    }
}

#[test]
fn a_container_is_entered_signalled_and_deleted() {
    need_root!();
    let bundle = Bundle::new("sleep 100");
    let id = bundle.id();
    if unless_needed(bundle.orlop(&["run", "--detach", &id]), &NEEDED).is_none() {
        return;
    }
    let exec = bundle.orlop(&["exec", &id, "echo", "inside"]);
    if let Some(text) = unless_needed(exec, &["pidfd_open"]) {
        assert_eq!(text, "inside\n");
    }
    bundle.orlop(&["pause", &id]).ok();
    bundle.orlop(&["resume", &id]).ok();
    bundle.orlop(&["kill", &id, "KILL"]).ok();
    bundle.wait_for(&id, "stopped");
    bundle.orlop(&["delete", &id]).ok();
    bundle.orlop(&["run", "--detach", &id]).ok();
    bundle.orlop(&["delete", "--force", &id]).ok();
    assert_eq!(cgroups_of(&id), Vec::<std::path::PathBuf>::new());
}
