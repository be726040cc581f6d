//! Records that are damaged or missing: every command says so, and `delete --force` removes what it can.

use crate::case::Case;
use crate::need_root;

#[test]
fn a_damaged_record_is_an_error_and_delete_force_removes_the_container() {
    need_root!();
    let case = Case::new("sleep 100").without_parent_cgroup();
    let file = case.bundle.root().join(&case.id).join("state.json");
    let id = case.id.as_str();
    let commands: [&[&str]; 11] = [
        &["state", id],
        &["start", id],
        &["kill", id],
        &["delete", id],
        &["ps", id],
        &["pause", id],
        &["resume", id],
        &["update", "--pids-limit", "5", id],
        &["events", "--stats", id],
        &["events", id],
        &["exec", id, "true"],
    ];
    for what in ["empty", "truncated", "of another kind", "an array", "no JSON", "with a pid in words", "a directory"] {
        case.orlop(&case.words(&["run", "--detach"])).ok();
        let whole = std::fs::read(&file).unwrap();
        let with_words = String::from_utf8(whole.clone()).unwrap().replace("\"pid\":", "\"pid\":\"one\",\"p\":");
        let damaged = match what {
            "empty" => &[],
            "truncated" => &whole[..whole.len() / 2],
            "of another kind" => b"{}",
            "an array" => b"[1, 2]",
            "with a pid in words" => with_words.as_bytes(),
            _ => &[0; 4][..],
        };
        std::fs::write(&file, damaged).unwrap();
        if what == "a directory" {
            std::fs::remove_file(&file).unwrap();
            std::fs::create_dir_all(file.join("below")).unwrap();
        }
        for command in commands {
            let done = case.orlop(command);
            let error = &done.stderr;
            assert!(matches!(done.code, 1 | 255), "{what}, {command:?}: {done:?}");
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

#[test]
fn a_record_with_fields_of_a_later_version_is_read() {
    need_root!();
    let case = Case::new("sleep 100");
    case.orlop(&case.words(&["run", "--detach"])).ok();
    let file = case.bundle.root().join(&case.id).join("state.json");
    let text = std::fs::read_to_string(&file).unwrap().replacen('{', "{\"ofLater\":{\"x\":[1]},", 1);
    std::fs::write(&file, text).unwrap();
    assert_eq!(case.bundle.state(&case.id)["status"], "running");
    case.orlop(&["delete", "--force", &case.id]).ok();
    case.assert_nothing_left("delete");
}

#[test]
fn a_damaged_configuration_does_not_keep_a_container_from_being_deleted() {
    need_root!();
    let case = Case::new("sleep 100");
    for (command, forced) in [(&["create"][..], false), (&["run", "--detach"], true)] {
        case.orlop(&case.words(command)).ok();
        std::fs::write(case.bundle.root().join(&case.id).join("config.json"), "{").unwrap();
        let done = case.orlop(&["exec", &case.id, "true"]);
        assert!(done.code == 255 && done.stderr.contains("config.json"), "{done:?}");
        let plain = ["delete", &case.id];
        let delete = ["delete", "--force", &case.id];
        case.orlop(if forced { &delete[..] } else { &plain[..] }).ok();
        case.assert_nothing_left("delete");
    }
}

#[test]
fn what_cannot_be_known_any_more_is_said() {
    need_root!();
    let case = Case::new("sleep 100");
    case.orlop(&case.words(&["run", "--detach"])).ok();
    let pid = case.bundle.state(&case.id)["pid"].as_i64().unwrap();
    let record: orlop::container::record::Record =
        serde_json::from_slice(&std::fs::read(case.bundle.root().join(&case.id).join("state.json")).unwrap()).unwrap();
    for file in ["state.json", "config.json"] {
        std::fs::write(case.bundle.root().join(&case.id).join(file), "").unwrap();
    }
    let done = case.orlop(&["delete", "--force", &case.id]);
    assert_eq!(done.code, 0);
    assert!(done.stderr.contains("are lost") && done.stderr.contains("are left"), "{done:?}");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), nix::sys::signal::SIGKILL).unwrap();
    record.cgroup.remove().unwrap();
    case.assert_nothing_left("the rest removed by hand");
}

#[test]
fn half_of_a_first_record_is_no_container_yet() {
    use std::os::unix::fs::PermissionsExt;
    need_root!();
    let case = Case::new("true").without_parent_cgroup();
    let dir = case.bundle.root().join(&case.id);
    for text in ["", "{\"ociVersion\":\"1.2"] {
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o1711)).unwrap();
        std::fs::write(dir.join("state.json"), text).unwrap();
        // While the create that writes it goes on.
        let lock = std::fs::File::open(&dir).unwrap();
        lock.lock().unwrap();
        let error = case.orlop(&["state", &case.id]).fails();
        assert!(error.contains("container does not exist"), "{error}");
        let listed = case.orlop(&["list"]);
        assert_eq!((listed.code, listed.stdout.contains(&case.id), listed.stderr.as_str()), (0, false, ""));
        drop(lock);
        // When it was killed there: nothing else had been made.
        let error = case.orlop(&["state", &case.id]).fails();
        assert!(error.contains("is damaged") && error.contains("delete --force"), "{error}");
        let deleted = case.orlop(&["delete", "--force", &case.id]);
        assert_eq!((deleted.code, deleted.stderr.as_str()), (0, ""));
        case.assert_nothing_left("half of a record");
    }
}
