//! Loading the filter, and handing its listener to the agent: config-linux.md#seccomp, #containerprocessstate.

use std::fmt;
use std::os::fd::AsFd;
use std::rc::Rc;

use anyhow::anyhow;
use nix::errno::Errno;
use serde_json::json;

use super::{Filter, Listener};
use crate::error::{Result, Why};
use crate::plan::{Fault, Init, Inside, Outside, Plan, Runtime, Slot};
use crate::sys::{channel, seccomp};

/// The state of the container as JSON, for a status and pid.
pub type State = Rc<dyn Fn(&'static str, i32) -> String>;

/// A filter and the socket pair over which init hands out its listener.
pub struct Load {
    filter: Rc<Filter>,
    listener: Option<(Slot, Slot)>,
}

/// Adds what comes before the clone.
pub fn plan_before(filter: Rc<Filter>, plan: &mut Plan) -> Load {
    let listener = filter.listener.is_some().then(|| (plan.slot(), plan.slot()));
    if let Some((outside, inside)) = listener {
        plan.before(MakePair { outside, inside });
    }
    Load { filter, listener }
}

/// Adds the loading, and the agent's part right after it.
pub fn plan(load: &Load, status: &'static str, state: &State, plan: &mut Plan) {
    plan.inside(LoadFilter { filter: load.filter.clone(), to: load.listener.map(|(_, inside)| inside) });
    if let (Some(listener), Some((outside, _))) = (&load.filter.listener, load.listener) {
        plan.outside(NotifyAgent { listener: listener.clone(), from: outside, status, state: state.clone() });
    }
}

struct MakePair {
    outside: Slot,
    inside: Slot,
}

impl fmt::Display for MakePair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("making a socket for the seccomp listener")
    }
}

impl Outside for MakePair {
    fn run(&self, runtime: &mut Runtime) -> Result<()> {
        let (ours, theirs) = channel::pair().why(|| "socketpair")?;
        runtime.slots.put(self.outside, ours);
        runtime.slots.put(self.inside, theirs);
        Ok(())
    }
}

struct LoadFilter {
    filter: Rc<Filter>,
    to: Option<Slot>,
}

impl fmt::Display for LoadFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "loading the seccomp filter ({} instructions)", self.filter.program.len())
    }
}

impl Inside for LoadFilter {
    fn run(&self, init: &mut Init<'_>) -> std::result::Result<(), Fault> {
        let listener = seccomp::load(&self.filter.program, self.filter.flags)?;
        if let Some(to) = self.to {
            let listener = listener.ok_or(Errno::EBADF)?;
            channel::send_fd(init.slots.get(to)?, b"seccomp", listener.as_fd())?;
        }
        Ok(())
    }
}

struct NotifyAgent {
    listener: Listener,
    from: Slot,
    status: &'static str,
    state: State,
}

impl fmt::Display for NotifyAgent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sending the seccomp listener to {:?}", self.listener.path)
    }
}

impl Outside for NotifyAgent {
    fn run(&self, runtime: &mut Runtime) -> Result<()> {
        let socket = runtime.slots.get(self.from).why(|| "seccomp listener")?;
        let mut word = [0; 8];
        let fd = channel::recv_fd(socket, &mut word).why(|| "receiving the seccomp listener")?;
        let fd = fd.ok_or_else(|| anyhow!("the container's init sent no seccomp listener"))?;
        let pid = runtime.child()?.pid;
        let state: serde_json::Value = serde_json::from_str(&(self.state)(self.status, pid))?;
        let version = state.get("ociVersion").cloned().unwrap_or_default();
        let message = json!({
            "ociVersion": version,
            "fds": ["seccompFd"],
            "pid": pid,
            "metadata": self.listener.metadata.clone().unwrap_or_default(),
            "state": state,
        });
        let agent = channel::connect(&self.listener.path)
            .why(|| format!("config.json: linux.seccomp.listenerPath {:?}", self.listener.path))?;
        channel::send_fds(agent.as_fd(), message.to_string().as_bytes(), &[fd.as_fd()])
            .why(|| "sending the seccomp listener")
    }
}
