//! `state`, and the JSON that hooks and agents are given: runtime.md#state (runtime-spec v1.3.0).

use serde_json::{Value, json};

use super::Context;
use super::id::ContainerId;
use super::record::Record;
use super::status::Status;
use crate::error::Result;

/// The state as runc's `state` prints it, with its extra keys.
///
/// # Errors
/// When there is no such container.
pub fn state(context: &Context, id: &ContainerId) -> Result<Value> {
    let record = context.store.record(id)?;
    Ok(describe(&record, Status::of(&record, &context.store.dir(id))))
}

/// One entry of `list`, and the answer of `state`.
pub fn describe(record: &Record, status: Status) -> Value {
    let pid = if status == Status::Stopped { 0 } else { record.pid };
    let mut state = json!({
        "ociVersion": record.oci_version,
        "id": record.id,
        "pid": pid,
        "status": status.word(),
        "bundle": record.bundle,
        "rootfs": record.rootfs,
        "created": record.created,
    });
    if let Value::Object(map) = &mut state {
        if !record.annotations.is_empty() {
            map.insert("annotations".into(), json!(record.annotations));
        }
        map.insert("owner".into(), owner(record.owner).into());
    }
    state
}

/// The owner's name, or nothing when the host does not know it.
fn owner(uid: u32) -> String {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let mut lines = passwd.lines().map(|line| line.split(':'));
    let name = lines.find_map(|mut fields| {
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    name.unwrap_or_default()
}

/// The state that hooks and seccomp agents read: the spec's keys alone.
pub fn for_hooks(record: &Record, status: &str, pid: i32) -> String {
    let mut state = json!({
        "ociVersion": record.oci_version,
        "id": record.id,
        "status": status,
        "bundle": record.bundle,
    });
    if let Value::Object(map) = &mut state {
        if pid != 0 {
            map.insert("pid".into(), pid.into());
        }
        if !record.annotations.is_empty() {
            map.insert("annotations".into(), json!(record.annotations));
        }
    }
    state.to_string()
}
