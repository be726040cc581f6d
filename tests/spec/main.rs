//! Reading config.json: each message with its JSON path, each warning, and documents as their authors write them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Helpers of tests fail by panicking, as tests do.

mod reading;
mod values;

use orlop::error::one_line;
use orlop::spec::{Config, ProcessConfig, read_process};
use serde_json::{Value, json};

/// The smallest document that runs anything, with all namespaces but user and time.
fn minimal() -> Value {
    let namespaces = ["pid", "network", "ipc", "uts", "mount", "cgroup"].map(|kind| json!({ "type": kind }));
    json!({
        "ociVersion": "1.3.0",
        "root": { "path": "rootfs" },
        "process": { "cwd": "/", "args": ["sh"], "user": { "uid": 0, "gid": 0 } },
        "linux": { "namespaces": namespaces },
    })
}

/// The smallest document with the member at `path` (`linux.sysctl`) set, made where it is missing.
fn with(path: &str, value: Value) -> Value {
    let mut document = minimal();
    let place = path.split('.').fold(&mut document, |place, key| &mut place[key]);
    *place = value;
    document
}

fn read(document: &Value) -> anyhow::Result<Config> {
    Config::read(document.to_string().into_bytes())
}

fn message(document: &Value) -> String {
    match read(document) {
        Ok(config) => format!("accepted, warnings: {:?}", config.warnings),
        Err(e) => one_line(&e),
    }
}

/// Asserts the message for each (path, value) set into the smallest document.
fn refused<const N: usize>(cases: [(&str, Value, &str); N]) {
    for (path, value, expected) in cases {
        let said = message(&with(path, value.clone()));
        assert_eq!(said, format!("config.json: {expected}"), "{path} = {value}");
    }
}

fn accepted<const N: usize>(cases: [(&str, Value); N]) {
    for (path, value) in cases {
        let said = message(&with(path, value.clone()));
        assert_eq!(said, "accepted, warnings: []", "{path} = {value}");
    }
}

fn warned<const N: usize>(cases: [(&str, Value, &str); N]) {
    for (path, value, expected) in cases {
        let config = read(&with(path, value.clone())).unwrap_or_else(|e| panic!("{path} = {value}: {}", one_line(&e)));
        assert_eq!(config.warnings, [format!("config.json: {expected}")], "{path} = {value}");
    }
}

fn process(value: &Value) -> anyhow::Result<ProcessConfig> {
    read_process(value.to_string().as_bytes())
}

fn sample(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/tests/data/{name}.json", env!("CARGO_MANIFEST_DIR"))).unwrap()
}
