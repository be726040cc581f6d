//! No room, no descriptors, no memory, no processes: each limit at each of its values fails the command or not at all.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::case::{Case, bounded};
use crate::common::Done;
use crate::{need_root, skip};

/// Runs a shell script with the program as `$orlop`, its state root as `$root`, and the container as `$id`.
fn sh(case: &Case, launcher: &[&str], script: &str) -> Done {
    let orlop = case.bundle.command(&[]);
    let mut command = Command::new(launcher.first().unwrap_or(&"sh"));
    command.args(launcher.iter().skip(1));
    if !launcher.is_empty() {
        command.arg("sh");
    }
    command.args(["-c", script]).current_dir(case.bundle.path()).stdin(std::process::Stdio::null());
    command.env("orlop", orlop.get_program()).env("root", case.bundle.root()).env("id", &case.id);
    bounded(&case.bundle, command)
}

/// The script's lines, which are `NUMBER|STATUS|WHAT IT SAID|WHAT IS LEFT`.
fn lines(done: &Done) -> Vec<Vec<String>> {
    assert_eq!(done.code, 0, "{done:?}");
    let lines = done.stdout.lines().map(|line| line.split('|').map(str::to_owned).collect::<Vec<_>>());
    let lines: Vec<_> = lines.collect();
    assert!(lines.iter().all(|line| line.len() == 4), "{done:?}");
    lines
}

/// Mounts a tmpfs with each of the options in turn as the state root, and makes and deletes a container there.
fn on_small_roots(case: &Case, options: &str) -> Vec<Vec<String>> {
    std::fs::create_dir_all(case.bundle.root()).unwrap();
    let script = format!(
        r#"
        for option in {options}; do
            mount -t tmpfs -o $option small "$root" || exit 1
            "$orlop" --root "$root" create "$id" </dev/null >/dev/null 2>"$root.said"
            code=$?
            said=$(cat "$root.said")
            left=$(ls -A "$root")
            [ $code = 0 ] && "$orlop" --root "$root" delete "$id" && left=$(ls -A "$root")
            umount "$root"
            echo "$option|$code|$said|$left"
        done"#
    );
    lines(&sh(case, &["unshare", "-m"], &script))
}

#[test]
fn a_full_state_root_is_an_error_and_leaves_nothing() {
    need_root!();
    let case = Case::new("sleep 100");
    let inodes: Vec<String> = (1..10).map(|count| format!("nr_inodes={count}")).collect();
    let sizes = ["size=4k", "size=8k", "size=12k", "size=16k", "size=1m"].map(str::to_owned);
    let results = on_small_roots(&case, &[inodes, sizes.to_vec()].concat().join(" "));
    for line in &results {
        let full = line[2].contains("no space left on device") && line[2].starts_with("orlop: create failed: ");
        assert!(line[1] == "0" && line[2].is_empty() || line[1] == "1" && full, "{line:?}");
        assert_eq!(line[3], "", "{line:?}");
    }
    let failed = |name: &str| results.iter().filter(|line| line[0].starts_with(name) && line[1] == "1").count();
    assert!(failed("nr_inodes") > 2 && failed("size") > 0, "{results:?}");
    assert_eq!(results.last().unwrap()[1], "0");
    case.assert_nothing_left("create on full file systems");
}

#[test]
fn a_container_on_a_full_state_root_can_be_used_and_deleted() {
    need_root!();
    let case = Case::new("sleep 100");
    std::fs::create_dir_all(case.bundle.root()).unwrap();
    let script = r#"
        o() { "$orlop" --root "$root" "$@" </dev/null >/dev/null; echo "$1|$?||"; }
        mount -t tmpfs -o size=64k small "$root" || exit 1
        o create "$id"
        dd if=/dev/zero of="$root/fill" bs=4k 2>/dev/null
        o start "$id"
        o exec "$id" true
        o state "$id"
        o update --pids-limit 50 "$id"
        o pause "$id"
        o resume "$id"
        o delete --force "$id"
        rm "$root/fill"
        echo "left|0||$(ls -A "$root")"
        umount "$root""#;
    // Standard error of a container's init must not be a pipe that the script reads to its end.
    for line in lines(&sh(&case, &["unshare", "-m"], script)) {
        assert_eq!((line[1].as_str(), line[3].as_str()), ("0", ""), "{line:?}");
    }
    case.assert_nothing_left("delete on a full file system");
}

#[test]
fn a_read_only_state_root_is_an_error_and_the_container_can_be_deleted_later() {
    need_root!();
    let case = Case::new("sleep 100");
    std::fs::create_dir_all(case.bundle.root()).unwrap();
    let script = r#"
        o() { "$orlop" --root "$root" "$@" </dev/null >/dev/null 2>"$root.said"; echo "$1|$?|$(cat "$root.said")|"; }
        mount -t tmpfs -o size=1m small "$root" || exit 1
        mount -o remount,ro "$root"
        o create "$id"
        mount -o remount,rw "$root"
        o create "$id"
        mount -o remount,ro "$root"
        o state "$id"
        o exec "$id" true
        o delete --force "$id"
        mount -o remount,rw "$root"
        o delete --force "$id"
        echo "left|0||$(ls -A "$root")"
        umount "$root""#;
    let results = lines(&sh(&case, &["unshare", "-m"], script));
    let codes: Vec<(&str, &str)> = results.iter().map(|line| (line[0].as_str(), line[1].as_str())).collect();
    let succeed = [("create", "0"), ("state", "0"), ("exec", "0"), ("delete", "0")];
    assert_eq!([codes[1], codes[2], codes[3], codes[5]], succeed, "{results:?}");
    for failed in [&results[0], &results[4]] {
        assert!(failed[1] == "1" && failed[2].contains("read-only file system"), "{failed:?}");
    }
    assert_eq!(results[6][3], "", "{results:?}");
    case.assert_nothing_left("delete after the file system became writable");
}

#[test]
fn too_few_descriptors_are_an_error_and_leave_nothing() {
    need_root!();
    let case = Case::with_everything("sleep 100");
    let mut failed = 0;
    for most in 3..48 {
        let script = format!("ulimit -S -n {most}; exec \"$orlop\" --root \"$root\" run --detach \"$id\"");
        let done = sh(&case, &[], &script);
        let after = format!("run with {most} descriptors");
        if done.code == 0 {
            let script = format!("ulimit -S -n {most}; exec \"$orlop\" --root \"$root\" delete --force \"$id\"");
            let deleted = sh(&case, &[], &script);
            let few = deleted.code == 1 && deleted.stderr.contains("too many open files");
            assert!(deleted.code == 0 || few, "delete with {most} descriptors: {deleted:?}");
        } else {
            failed += 1;
            assert_eq!(done.code, 1, "{after}: {done:?}");
            assert!(done.stderr.contains("too many open files"), "{after}: {done:?}");
        }
        case.orlop(&["delete", "--force", &case.id]).ok();
        case.assert_nothing_left(&after);
    }
    assert!((5..45).contains(&failed), "{failed} runs failed");
}

#[test]
fn too_little_memory_ends_the_command_and_leaves_what_can_be_deleted() {
    need_root!();
    let case = Case::new("sleep 100");
    let mut failed = 0;
    for megabytes in [4, 6, 8, 9, 10, 11, 12, 13, 14, 16, 20, 24, 32, 64] {
        let kilobytes = megabytes * 1024;
        let script = format!("ulimit -S -v {kilobytes}; exec \"$orlop\" --root \"$root\" run --detach \"$id\"");
        let done = sh(&case, &[], &script);
        failed += usize::from(done.code != 0);
        let deleted = case.orlop(&["delete", "--force", &case.id]);
        assert_eq!((deleted.code, deleted.stderr.as_str()), (0, ""), "{megabytes} MiB: {done:?}");
        case.assert_nothing_left(&format!("run with {megabytes} MiB: {done:?}"));
    }
    assert!((1..14).contains(&failed), "{failed} runs failed");
}

/// A cgroup with a limit of processes, for the runtime and what it starts.
struct Pids(PathBuf);

impl Pids {
    fn new(mark: &str) -> Option<Pids> {
        let v1 = Path::new("/sys/fs/cgroup/pids");
        let v2 = Path::new("/sys/fs/cgroup");
        let enabled = std::fs::read_to_string(v2.join("cgroup.subtree_control")).unwrap_or_default();
        let base = if v1.join("cgroup.procs").exists() {
            v1
        } else if enabled.split_whitespace().any(|name| name == "pids") {
            v2
        } else {
            return None;
        };
        let dir = base.join(format!("orlop-pids-of-{mark}"));
        std::fs::create_dir(&dir).unwrap();
        Some(Pids(dir))
    }
}

impl Drop for Pids {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[test]
fn too_few_processes_are_an_error_and_leave_nothing() {
    need_root!();
    let case = Case::with_everything("sleep 100");
    let Some(pids) = Pids::new(&std::process::id().to_string()) else { skip!("no pids controller") };
    let dir = pids.0.to_str().unwrap();
    let mut failed = 0;
    // The limit counts the runtime itself.
    for most in 1..6 {
        let script = format!(
            "echo {most} >{dir}/pids.max; echo $$ >{dir}/cgroup.procs; exec \"$orlop\" --root \"$root\" run --detach \"$id\""
        );
        let done = sh(&case, &[], &script);
        if done.code != 0 {
            failed += 1;
            let said = &done.stderr;
            assert!(done.code == 1 && said.contains("resource temporarily unavailable"), "{most} processes: {done:?}");
        }
        case.orlop(&["delete", "--force", &case.id]).ok();
        case.assert_nothing_left(&format!("run with {most} processes: {done:?}"));
    }
    assert!(failed > 0);
}
