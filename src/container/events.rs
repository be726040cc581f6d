//! `events`: statistics at an interval, and a word when the memory limit has killed a process.

use std::io::Write;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::bail;
use serde::Serialize;
use serde_json::Value;

use super::Context;
use super::id::ContainerId;
use super::record::Record;
use super::status::{self, Status};
use crate::error::{Result, Why};
use crate::sys::process;

/// How often the count of OOM kills is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// One line of output; runc's fields in runc's order, which scripts match as text.
#[derive(Serialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Value>,
}

/// One `stats` event, in runc's shape.
///
/// # Errors
/// When the container does not run, or has no cgroup.
pub fn stats(context: &Context, id: &ContainerId) -> Result<String> {
    event_of(&running(context, id)?)
}

/// Prints events until the container ends.
///
/// # Errors
/// As [`stats`], and when standard output is closed.
pub fn stream(context: &Context, id: &ContainerId, interval: Duration) -> Result<()> {
    let record = running(context, id)?;
    let init = status::init(&record)?;
    let mut kills = record.cgroup.oom_kills().unwrap_or(0);
    let mut next = Instant::now() + interval;
    loop {
        let wait = next.saturating_duration_since(Instant::now()).min(LOOK);
        let ended = process::await_end(init.as_fd(), wait).why(|| "poll")?;
        let now = record.cgroup.oom_kills().unwrap_or(kills);
        if now > kills {
            print(&line(&Event { kind: "oom", id: &record.id, data: None })?)?;
        }
        kills = now;
        if ended {
            return Ok(());
        }
        if Instant::now() >= next {
            print(&event_of(&record)?)?;
            next += interval;
        }
    }
}

fn running(context: &Context, id: &ContainerId) -> Result<Record> {
    let record = context.store.record(id)?;
    if Status::of(&record, &context.store.dir(id)) == Status::Stopped {
        bail!("container with id {id} is not running");
    }
    Ok(record)
}

fn event_of(record: &Record) -> Result<String> {
    let mut data = record.cgroup.stats()?;
    if let Some(group) = &record.rdt {
        data["intel_rdt"] = group.stats();
    }
    line(&Event { kind: "stats", id: &record.id, data: Some(data) })
}

fn line(event: &Event<'_>) -> Result<String> {
    Ok(serde_json::to_string(event)?)
}

fn print(event: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{event}").and_then(|()| stdout.flush()).why(|| "writing events")
}
