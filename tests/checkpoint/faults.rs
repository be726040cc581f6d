//! Every step fails once, and the runtime is killed once before each: a restore leaves nothing, or what `delete`
//! removes; a checkpoint leaves the container running.

use crate::common::processes_with;
use crate::runtime::{Runtime, lacks, orlop};
use crate::{counting, is_running};
use serde_json::json;

/// What an injected failure says.
const INJECTED: &str = "structure needs cleaning";

/// A counting container whose processes can be told from others, with a hook, and images of it.
fn with_images() -> (Runtime, String) {
    let mut runtime = orlop(counting());
    let mark = format!("MARK={}", runtime.id);
    runtime.bundle.env(&mark);
    runtime.bundle.config["hooks"] = json!({ "createRuntime": [{ "path": "/bin/true" }] });
    runtime.run().unwrap();
    runtime.counts_beyond("count", 2);
    runtime.checkpoint(&[]).unwrap();
    (runtime, mark)
}

fn assert_nothing_left(runtime: &Runtime, mark: &str, after: &str) {
    runtime.bundle.assert_nothing_of(&runtime.id);
    crate::common::actions::eventually(after, || processes_with(mark).is_empty().then_some(()));
}

/// `restore` with a fault at step `number`.
fn faulty(runtime: &Runtime, fault: &str, number: usize, command: &str, flags: &[&str]) -> Result<(), String> {
    let images = runtime.images();
    let args =
        [&[command, "--image-path", images.as_str()], runtime.manage_cgroups(), flags, &[runtime.id.as_str()]].concat();
    let mut command = runtime.command(&args);
    command.env("ORLOP_FAULT", format!("{fault}:{number}"));
    runtime.finish(command)
}

#[test]
fn a_failing_step_of_restore_leaves_nothing() {
    if let Some(why) = lacks() {
        crate::skip!("{why}");
    }
    let (runtime, mark) = with_images();
    let pid_file = runtime.bundle.temp().join("pid");
    let flags = ["--detach", "--pid-file", pid_file.to_str().unwrap()];
    let mut number = 0;
    while let Err(error) = faulty(&runtime, "fail", number, "restore", &flags) {
        assert!(error.contains("orlop restore failed: error ") && error.contains(INJECTED), "{number}: {error}");
        assert_nothing_left(&runtime, &mark, &format!("fail:{number}"));
        number += 1;
    }
    assert!(number > 10, "only {number} steps");
    is_running(&runtime);
}

#[test]
fn a_killed_restore_can_be_deleted() {
    if let Some(why) = lacks() {
        crate::skip!("{why}");
    }
    let (runtime, mark) = with_images();
    let mut number = 0;
    while let Err(error) = faulty(&runtime, "kill", number, "restore", &["--detach"]) {
        assert!(error.contains("signal: 9"), "{number}: {error}");
        runtime.call(&["delete", "--force", &runtime.id]).unwrap();
        assert_nothing_left(&runtime, &mark, &format!("kill:{number}"));
        assert!(runtime.bundle.rootfs().join("bin/busybox").exists(), "the root file system has been removed");
        number += 1;
    }
    assert!(number > 10, "only {number} steps");
    is_running(&runtime);
}

#[test]
fn a_failing_step_of_checkpoint_lets_the_container_run() {
    if let Some(why) = lacks() {
        crate::skip!("{why}");
    }
    let runtime = orlop(counting());
    runtime.run().unwrap();
    let mut number = 0;
    for fault in ["fail", "kill"] {
        number = 0;
        while let Err(error) = faulty(&runtime, fault, number, "checkpoint", &["--leave-running"]) {
            assert!(fault == "kill" || error.contains(INJECTED), "{number}: {error}");
            is_running(&runtime);
            number += 1;
        }
    }
    assert!(number > 4, "only {number} steps");
}
