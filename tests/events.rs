//! `events`: statistics and OOM kills, in runc's JSON.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Also in the functions that the tests share.

mod common;

use std::time::{Duration, Instant};

use common::Bundle;
use serde_json::{Value, json};

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn stats_are_one_event_with_the_cgroups_numbers() {
    need_root!();
    let bundle = Bundle::new("sleep 100");
    let id = bundle.id();
    bundle.orlop(&["run", "-d", &id]).ok();
    let events = lines(&bundle.orlop(&["events", "--stats", &id]).ok());
    assert_eq!((&events[0]["type"], &events[0]["id"]), (&json!("stats"), &json!(id)));
    assert!(events[0]["data"]["pids"].is_object() && events[0]["data"]["cpu"].is_object(), "{events:?}");
}

#[test]
fn a_stream_ends_with_the_container() {
    need_root!();
    let bundle = Bundle::new("sleep 1000");
    let id = bundle.id();
    bundle.orlop(&["run", "-d", &id]).ok();
    let file = bundle.temp().join("events");
    let mut command = bundle.command(&["events", "--interval", "50ms", &id]);
    let mut stream = command.stdout(std::fs::File::create(&file).unwrap()).spawn().unwrap();
    let printed = || std::fs::read_to_string(&file).unwrap();
    let end = Instant::now() + Duration::from_secs(30);
    while printed().matches('\n').count() < 2 && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(10));
    }
    bundle.orlop(&["kill", &id, "KILL"]).ok();
    assert!(stream.wait().unwrap().success());
    let events = lines(&printed());
    assert!(events.len() >= 2 && events.iter().all(|event| event["type"] == "stats"), "{events:?}");
}

#[test]
fn an_oom_kill_is_told_of() {
    need_root!();
    // The shell outlives its child, which the limit kills.
    let mut bundle = Bundle::new("sleep 0.5; (head -c 64m /dev/zero | tail >/dev/null); sleep 0.5");
    bundle.config["linux"]["resources"] = json!({"memory": {"limit": 16 << 20, "swap": 16 << 20}});
    if !std::path::Path::new("/sys/fs/cgroup/memory").exists() && common::cgroups_of("memory").is_empty() {
        skip!("needs the v1 memory controller");
    }
    let id = bundle.id();
    bundle.orlop(&["run", "-d", &id]).ok();
    let events = lines(&bundle.orlop(&["events", "--interval", "10s", &id]).ok());
    assert!(events.contains(&json!({"type": "oom", "id": id})), "{events:?}");
}

#[test]
fn events_need_a_running_container_and_a_duration() {
    need_root!();
    let bundle = Bundle::new("true");
    let id = bundle.id();
    bundle.orlop(&["run", "-d", &id]).ok();
    bundle.wait_for(&id, "stopped");
    let said = bundle.orlop(&["events", "--stats", &id]).fails();
    assert!(said.contains(&format!("container with id {id} is not running")), "{said}");
    let said = bundle.orlop(&["events", "--interval", "0s", &id]).fails();
    assert!(said.contains("duration interval must be greater than 0"), "{said}");
}
