//! `--trace FILE` and `ORLOP_TRACE`: every step of both processes on one clock, in the Chrome trace format.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Helpers of tests fail by panicking, as tests do.

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use common::Bundle;
use serde_json::{Value, json};

/// A span as the file has it; times are in microseconds.
#[derive(Debug)]
struct Span {
    name: String,
    actor: String,
    thread: u64,
    begin: f64,
    duration: f64,
}

impl Span {
    fn end(&self) -> f64 {
        self.begin + self.duration
    }
}

/// Reads a trace, and checks what the format asks of every event.
#[track_caller]
fn read(file: &Path) -> Vec<Span> {
    let trace: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let (named, spans): (Vec<_>, Vec<_>) = events.iter().partition(|event| event["ph"] == "M");
    let threads: BTreeSet<_> = named.iter().map(|event| event["tid"].as_u64().unwrap()).collect();
    assert_eq!(threads, BTreeSet::from([1, 2]), "both processes have a name");
    let span = |event: &&Value| {
        assert_eq!((&event["ph"], &event["pid"]), (&json!("X"), &json!(1)), "{event}");
        let text = |key: &str| event[key].as_str().unwrap().to_owned();
        let number =
            |key: &str| event[key].as_f64().filter(|number| *number >= 0.0).unwrap_or_else(|| panic!("{event}"));
        Span {
            name: text("name"),
            actor: text("cat"),
            thread: event["tid"].as_u64().unwrap(),
            begin: number("ts"),
            duration: number("dur"),
        }
    };
    spans.iter().map(span).collect()
}

/// Asserts that the spans follow the plan: its steps up to `last`, by the right process, in order, none twice.
#[track_caller]
fn assert_follows(spans: &[Span], plan: &str, last: &str) {
    // What init does, and what the runtime does beside it, each have an order of their own.
    let mut before = [0.0, 0.0];
    let mut count = 0;
    for line in plan.lines().filter(|line| !line.starts_with("warning")) {
        let (actor, words) = line.split_at(9);
        if words.starts_with(last) {
            break;
        }
        let found: Vec<_> = spans.iter().filter(|span| span.name == words).collect();
        let [span] = found.as_slice() else { panic!("{words:?} stands {} times in the trace", found.len()) };
        let (expected, thread) = match actor.trim_end() {
            "inside" => ("inside", 2),
            "spawn" => ("runtime", 1),
            _ => ("outside", 1),
        };
        assert_eq!((span.actor.as_str(), span.thread), (expected, thread), "{words}");
        let beside = usize::from(actor.trim_end() == "beside");
        assert!(span.begin >= before[beside], "{words:?} begins before the step in front of it has ended");
        before[beside] = span.end();
        count += 1;
    }
    assert!(count > 20, "{count} steps");
    let whole = spans.iter().find(|span| span.name == "orlop").unwrap();
    assert!(spans.iter().all(|span| span.end() <= whole.end() + 0.001), "a span ends after the command");
}

fn bundle() -> (Bundle, PathBuf) {
    let bundle = Bundle::new("true");
    let file = bundle.temp().join("trace.json");
    (bundle, file)
}

#[test]
fn create_writes_each_step_up_to_the_wait_for_start() {
    need_root!();
    let (bundle, file) = bundle();
    let id = bundle.id();
    let plan = bundle.orlop(&["plan", &id]).ok();
    bundle.orlop(&["--trace", file.to_str().unwrap(), "create", &id]).ok();
    let spans = read(&file);
    assert_follows(&spans, &plan, "waiting for start");
    for span in ["looking at the host", "reading config.json", "planning"] {
        assert!(spans.iter().any(|found| found.name == span), "{span}");
    }
}

#[test]
fn run_writes_each_step_up_to_execve() {
    need_root!();
    let (bundle, file) = bundle();
    let id = bundle.id();
    let plan = bundle.orlop(&["plan", &id]).ok();
    let plan: String = plan
        .lines()
        .filter(|line| {
            let only_create = ["making exec.fifo", "waiting for start", "recording that the container is created"];
            !only_create.iter().any(|words| line.ends_with(words))
        })
        .fold(String::new(), |text, line| text + line + "\n");
    // The flag may stand behind the command, too.
    bundle.orlop(&["run", "--trace", file.to_str().unwrap(), &id]).ok();
    let spans = read(&file);
    assert_follows(&spans, &plan, "executing");
    for span in ["waiting for the container", "removing the container"] {
        assert!(spans.iter().any(|found| found.name == span), "{span}");
    }
}

#[test]
fn the_environment_asks_for_a_trace_too() {
    need_root!();
    let (mut bundle, file) = bundle();
    bundle.config["process"]["args"] = json!(["sleep", "100"]);
    let id = bundle.id();
    bundle.orlop(&["run", "--detach", &id]).ok();
    let mut command = bundle.command(&["exec", &id, "true"]);
    command.env("ORLOP_TRACE", &file);
    bundle.finish(command).ok();
    let spans = read(&file);
    let inside: Vec<_> = spans.iter().filter(|span| span.actor == "inside").map(|span| span.name.as_str()).collect();
    assert_eq!(inside.first(), Some(&"joining the container's namespaces (network, uts, ipc, mount)"));
    assert!(inside.contains(&"looking for the program \"true\""), "{inside:?}");
    assert!(spans.iter().any(|span| span.actor == "outside" && span.name == "opening a pidfd of the container's init"));
}

#[test]
fn a_failing_command_writes_what_was_done() {
    need_root!();
    let (mut bundle, file) = bundle();
    bundle.config["process"]["args"] = json!(["no-such-program"]);
    let id = bundle.id();
    bundle.orlop(&["--trace", file.to_str().unwrap(), "run", &id]).fails();
    let spans = read(&file);
    assert!(spans.iter().any(|span| span.name == "looking for the program \"no-such-program\""), "{spans:?}");
    assert!(!spans.iter().any(|span| span.name == "executing [\"no-such-program\"]"), "{spans:?}");
}

#[test]
fn commands_without_a_plan_are_traced_as_well() {
    let (bundle, file) = bundle();
    std::fs::create_dir(bundle.root()).unwrap();
    bundle.orlop(&["--trace", file.to_str().unwrap(), "list"]).ok();
    let names: Vec<_> = read(&file).into_iter().map(|span| span.name).collect();
    assert_eq!(names, ["looking at the host", "orlop"]);
}

#[test]
fn a_trace_that_cannot_be_written_is_an_error() {
    let (bundle, _) = bundle();
    std::fs::create_dir(bundle.root()).unwrap();
    let error = bundle.orlop(&["--trace", "/proc/nowhere", "list"]).fails();
    assert!(error.contains("--trace \"/proc/nowhere\""), "{error}");
}
