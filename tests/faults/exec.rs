//! `exec` fails and is killed at every step: the container goes on as it was.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal::SIGKILL;
use orlop::container::exec::{Paused, Request, plan_exec};
use orlop::container::id::ContainerId;
use orlop::container::store::{Store, kept_config};
use orlop::host::Host;
use orlop::plan::Plan;
use orlop::process::console::Target;
use orlop::spec;
use serde_json::{Value, json};

use crate::case::{Case, assert_names, await_none, is_of_the_program, steps};
use crate::need_root;

/// A running container and a process to execute in it.
struct Running {
    case: Case,
    init: i64,
    /// In the command line or the environment of what `exec` makes, and of nothing else.
    mark: String,
    file: PathBuf,
}

impl Running {
    fn new(case: Case, terminal: bool) -> Running {
        case.orlop(&case.words(&["run", "--detach"])).ok();
        let init = case.bundle.state(&case.id)["pid"].as_i64().unwrap();
        let mark = format!("{}executed", case.mark);
        let mut process = case.bundle.config["process"].clone();
        process["args"] = json!(["true"]);
        process["terminal"] = json!(terminal);
        process["env"].as_array_mut().unwrap().push(json!(format!("EXEC={mark}")));
        let file = case.bundle.temp().join(format!("{mark}.json"));
        std::fs::write(&file, process.to_string()).unwrap();
        Running { case, init, mark, file }
    }

    fn words(&self) -> Vec<&str> {
        vec!["exec", "--process", self.file.to_str().unwrap(), &self.case.id]
    }

    fn plan(&self, terminal: bool) -> Plan {
        let store = Store::new(self.case.bundle.root());
        let id = ContainerId::new(&self.case.id).unwrap();
        let record = store.record(&id).unwrap();
        let config = kept_config(&store.dir(&id), spec::Part::Process).unwrap();
        let request = Request {
            id,
            process: spec::read_process(&std::fs::read(&self.file).unwrap()).unwrap(),
            terminal: terminal.then_some(Target::Foreground),
            pid_file: None,
            pidfd_socket: None,
            preserve_fds: 0,
            cgroups: Vec::new(),
            paused: Paused::Refused,
            init: None.into(),
        };
        plan_exec(&record, &config, &request, &Host::probe().unwrap()).unwrap()
    }

    /// Asserts that the container is as it was: its init runs, and nothing else.
    #[track_caller]
    fn assert_as_before(&self, after: &str) {
        await_none(&self.mark, after);
        let state = self.case.bundle.state(&self.case.id);
        assert_eq!((&state["status"], &state["pid"]), (&json!("running"), &json!(self.init)), "{after}");
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            let text = self.case.orlop(&["ps", "--format", "json", &self.case.id]).ok();
            let pids: Value = serde_json::from_str(&text).unwrap();
            if pids == json!([self.init]) {
                return;
            }
            assert!(Instant::now() < end, "{after}: processes {pids}, init is {}", self.init);
        }
    }

    fn fail_and_kill_every_step(&self, terminal: bool) {
        let all = steps(&self.plan(terminal));
        for (number, step) in all.iter().enumerate() {
            let after = format!("fail:{number} of exec ({step})");
            let done = self.case.fault("fail", number, &self.words());
            assert_eq!(done.code, 255, "{after}: {done:?}");
            let in_words = is_of_the_program(step, &done) || done.stderr.starts_with("orlop: exec failed: ");
            assert!(in_words, "{done:?}");
            assert_names(step, &done);
            self.assert_as_before(&after);
            let after = format!("kill:{number} of exec ({step})");
            let done = self.case.fault("kill", number, &self.words());
            assert_eq!(done.code, -(SIGKILL as i32), "{after}: {done:?}");
            self.assert_as_before(&after);
        }
        let done = self.case.fault("kill", all.len(), &self.words());
        assert_eq!(done.code, -(SIGKILL as i32), "{done:?}");
        self.assert_as_before("exec killed after the last step");
        // There is no step of this number to fail.
        self.case.fault("fail", all.len(), &self.words()).ok();
        self.case.orlop(&["delete", "--force", &self.case.id]).ok();
        self.case.assert_nothing_left("delete");
        self.case.assert_never_allocated();
    }
}

#[test]
fn a_failing_or_killed_exec_leaves_the_container_as_it_was() {
    need_root!();
    Running::new(Case::with_everything("sleep 200"), false).fail_and_kill_every_step(false);
}

#[test]
fn a_failing_or_killed_exec_with_a_terminal_leaves_the_container_as_it_was() {
    need_root!();
    Running::new(Case::new("sleep 200"), true).fail_and_kill_every_step(true);
}

#[test]
fn a_failing_or_killed_exec_in_a_user_namespace_leaves_the_container_as_it_was() {
    need_root!();
    Running::new(Case::with_user_namespace("sleep 200"), false).fail_and_kill_every_step(false);
}
