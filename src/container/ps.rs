//! `ps`: the container's processes, from its cgroup.

use std::process::Command;

use anyhow::{anyhow, bail};

use super::Context;
use super::id::ContainerId;
use crate::cgroup::Depth;
use crate::error::{Result, Why};

/// The pids, on the host.
///
/// # Errors
/// When there is no such container, or its cgroup cannot be read.
pub fn pids(context: &Context, id: &ContainerId) -> Result<Vec<i32>> {
    context.store.record(id)?.cgroup.pids(Depth::All)
}

/// The lines of ps(1) that belong to the container, below its header.
///
/// # Errors
/// When ps cannot be run, or its output has no PID column.
pub fn table(context: &Context, id: &ContainerId, args: &[String]) -> Result<String> {
    let pids = pids(context, id)?;
    let args: &[String] = if args.is_empty() { &["-ef".to_owned()] } else { args };
    let output = Command::new("ps").args(args).output().why(|| "running ps")?;
    if !output.status.success() {
        bail!("ps: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines();
    let header = lines.next().unwrap_or_default();
    let column = header.split_whitespace().position(|name| name == "PID");
    let column = column.ok_or_else(|| anyhow!("couldn't find PID field in ps output"))?;
    let mut kept = format!("{header}\n");
    for line in lines {
        let pid = line.split_whitespace().nth(column).and_then(|field| field.parse::<i32>().ok());
        if pid.is_some_and(|pid| pids.contains(&pid)) {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    Ok(kept)
}
