//! `state`, and the JSON that hooks and agents are given: runtime.md#state (runtime-spec v1.3.0).

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use super::Context;
use super::id::ContainerId;
use super::record::Record;
use super::status::Status;
use crate::error::Result;

/// The state as runc's `state` and `list` print it: the spec's keys and four more, in runc's order.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    oci_version: String,
    /// The id.
    pub id: String,
    /// The first process on the host, 0 when it has ended.
    pub pid: i32,
    /// One of runtime.md's words, or `paused`.
    pub status: &'static str,
    /// The bundle, absolute.
    pub bundle: PathBuf,
    rootfs: PathBuf,
    /// RFC 3339.
    pub created: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
    /// Who made it.
    pub owner: String,
}

/// The state of a container.
///
/// # Errors
/// When there is no such container.
pub fn state(context: &Context, id: &ContainerId) -> Result<State> {
    let record = context.store.record(id)?;
    Ok(describe(&record, Status::of(&record, &context.store.dir(id))))
}

/// One entry of `list`, and the answer of `state`.
pub fn describe(record: &Record, status: Status) -> State {
    State {
        oci_version: record.oci_version.clone(),
        id: record.id.clone(),
        pid: if status == Status::Stopped { 0 } else { record.pid },
        status: status.word(),
        bundle: record.bundle.clone(),
        rootfs: record.rootfs.clone(),
        created: record.created.clone(),
        annotations: record.annotations.clone(),
        owner: owner(record.owner),
    }
}

/// The owner's name, or nothing when the host does not know it.
fn owner(uid: u32) -> String {
    let passwd = std::fs::read("/etc/passwd").unwrap_or_default();
    name_in(&String::from_utf8_lossy(&passwd), uid).unwrap_or_default().to_owned()
}

/// The name of a user in the text of a passwd(5) file.
pub fn name_in(passwd: &str, uid: u32) -> Option<&str> {
    let mut lines = passwd.lines().map(|line| line.split(':'));
    lines.find_map(|mut fields| {
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    })
}

/// The spec's keys alone.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Plain<'a> {
    oci_version: &'a str,
    id: &'a str,
    status: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    pid: i32,
    bundle: &'a PathBuf,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
}

// serde hands the field over by reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(pid: &i32) -> bool {
    *pid == 0
}

/// The state that hooks and seccomp agents read: the spec's keys alone.
pub fn for_hooks(record: &Record, status: &str, pid: i32) -> String {
    let Record { oci_version, id, bundle, annotations, .. } = record;
    serde_json::to_string(&Plain { oci_version, id, status, pid, bundle, annotations }).unwrap_or_default()
}
