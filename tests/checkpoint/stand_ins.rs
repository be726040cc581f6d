//! A criu that is not there, too old, or does not live to the end.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::common::Bundle;
use crate::runtime::{Outcome, Runtime, lacks, orlop};
use crate::{counting, is_running};
use serde_json::json;

/// A folder for PATH with a program `criu`: a script, or nothing.
fn folder_with(bundle: &Bundle, script: Option<&str>) -> String {
    let dir = bundle.temp().join("bin");
    std::fs::create_dir(&dir).unwrap();
    if let Some(script) = script {
        let file = dir.join("criu");
        std::fs::write(&file, format!("#!/bin/bash\n{script}\n")).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    dir.to_str().unwrap().to_owned()
}

fn with_path(runtime: &Runtime, path: &str, args: &[&str]) -> Outcome {
    let mut command: Command = runtime.command(args);
    command.env("PATH", path);
    runtime.finish(command)
}

/// Both commands with that criu: a running container runs on, and nothing is restored.
fn both_fail(script: Option<&str>, why: &str) {
    let runtime = orlop(counting());
    let path = folder_with(&runtime.bundle, script);
    runtime.run().unwrap();
    let error =
        with_path(&runtime, &path, &["checkpoint", "--image-path", &runtime.images(), &runtime.id]).unwrap_err();
    assert!(error.contains("orlop checkpoint failed") && error.contains(why), "{error}");
    is_running(&runtime);
    let id = runtime.bundle.id();
    let error = with_path(&runtime, &path, &["restore", "--detach", "--image-path", "/", &id]).unwrap_err();
    assert!(error.contains("orlop restore failed") && error.contains(why), "{error}");
    runtime.bundle.assert_nothing_of(&id);
}

#[test]
fn a_missing_criu_is_named() {
    crate::need_root!();
    both_fail(None, "criu is not installed: there is no program \\\"criu\\\" on PATH");
}

#[test]
fn a_criu_that_is_too_old_is_told_with_both_versions() {
    crate::need_root!();
    // A response of success to the question for the version: 3.11.
    let script = r#"exec /bin/printf '\x08\x0a\x10\x01\x52\x04\x08\x03\x10\x0b' >&"$2""#;
    both_fail(Some(script), "criu 3.16 or newer is needed, found 3.11");
}

#[test]
fn a_criu_from_before_there_were_versions_is_too_old() {
    crate::need_root!();
    // No success.
    let script = r#"exec /bin/printf '\x08\x00\x10\x00' >&"$2""#;
    both_fail(Some(script), "criu 3.16 or newer is needed, this one does not tell its version");
}

#[test]
fn a_criu_that_dies_at_once_is_told() {
    crate::need_root!();
    both_fail(Some("exit 3"), "criu has ended without an answer (status 3)");
    both_fail(Some("kill -9 $$"), "criu was killed by signal 9");
}

/// A criu configuration whose action script kills criu itself at `moment`.
fn kills_criu_at(moment: &str) -> Bundle {
    let mut bundle = counting();
    let (script, config) = (bundle.temp().join("action"), bundle.temp().join("criu.conf"));
    let text = format!(
        "#!/bin/bash\n[ \"$CRTOOLS_SCRIPT_ACTION\" = {moment} ] || exit 0\n\
        pid=$PPID\nwhile [ \"$(cat /proc/$pid/comm)\" != criu ]; do pid=$(awk '{{ print $4 }}' /proc/$pid/stat); done\n\
        kill -9 \"$pid\"\n"
    );
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(&config, format!("action-script {}\n", script.display())).unwrap();
    bundle.config["annotations"] = json!({ "org.criu.config": config });
    bundle
}

#[test]
fn a_container_runs_on_when_criu_is_killed_while_it_dumps() {
    if let Some(why) = lacks() {
        crate::skip!("{why}");
    }
    for moment in ["pre-dump", "network-lock", "post-dump"] {
        let runtime = orlop(kills_criu_at(moment));
        runtime.run().unwrap();
        runtime.counts_beyond("count", 2);
        let error = runtime.checkpoint(&[]).unwrap_err();
        assert!(error.contains("criu was killed by signal 9; its log"), "{moment}: {error}");
        is_running(&runtime);
    }
}

#[test]
fn nothing_is_left_when_criu_is_killed_while_it_restores() {
    if let Some(why) = lacks() {
        crate::skip!("{why}");
    }
    for moment in ["setup-namespaces", "post-setup-namespaces", "post-restore"] {
        let mut runtime = orlop(counting());
        runtime.run().unwrap();
        runtime.counts_beyond("count", 2);
        runtime.checkpoint(&[]).unwrap();
        let killing = kills_criu_at(moment);
        runtime.bundle.config["annotations"] = killing.config["annotations"].clone();
        let error = runtime.restore(&[]).unwrap_err();
        assert!(error.contains("criu was killed by signal 9; its log"), "{moment}: {error}");
        runtime.bundle.assert_nothing_of(&runtime.id);
        let count = runtime.number("count");
        std::thread::sleep(std::time::Duration::from_millis(100));
        assert_eq!(runtime.number("count"), count, "{moment}: somebody counts on");
    }
}
