//! Loading the filter, and handing its listener to the agent: config-linux.md#seccomp, #containerprocessstate.

use std::fmt;
use std::os::fd::AsFd;
use std::rc::Rc;

use serde_json::json;

use super::{Filter, Listener};
use crate::error::{Result, Why};
use crate::plan::{Fault, Init, Inside, Outside, Plan, Runtime};
use crate::sys::fd::IntoNumber;
use crate::sys::{channel, process, seccomp};

/// The state of the container as JSON, for a status and pid.
pub type State = Rc<dyn Fn(&'static str, i32) -> String>;

/// Adds the loading, and the agent's part right after it.
pub fn plan(filter: &Rc<Filter>, status: &'static str, state: &State, plan: &mut Plan) {
    plan.remark(format!("seccomp filter flags: {}", filter.flags));
    plan.inside(LoadFilter(filter.clone()));
    if let Some(listener) = &filter.listener {
        plan.outside(NotifyAgent { listener: listener.clone(), status, state: state.clone() });
    }
}

struct LoadFilter(Rc<Filter>);

impl fmt::Display for LoadFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "loading the seccomp filter ({} instructions)", self.0.program.len())
    }
}

impl Inside for LoadFilter {
    fn run(&self, init: &mut Init<'_>) -> std::result::Result<(), Fault> {
        if let Some(listener) = seccomp::load(&self.0.program, self.0.flags)? {
            // Sending it may be what the filter asks the agent about; the runtime fetches it instead.
            init.word = listener.into_number() as u64;
        }
        Ok(())
    }
}

struct NotifyAgent {
    listener: Listener,
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
        let child = runtime.child()?;
        let fd =
            process::pidfd_getfd(child.pidfd.as_fd(), runtime.word as i32).why(|| "fetching the seccomp listener")?;
        let state: serde_json::Value = serde_json::from_str(&(self.state)(self.status, child.pid))?;
        let version = state.get("ociVersion").cloned().unwrap_or_default();
        let message = json!({
            "ociVersion": version,
            "fds": ["seccompFd"],
            "pid": child.pid,
            "metadata": self.listener.metadata.clone().unwrap_or_default(),
            "state": state,
        });
        let agent = channel::connect(&self.listener.path)
            .why(|| "linux.seccomp.listenerPath: failed to connect with seccomp agent")?;
        channel::send_fds(agent.as_fd(), message.to_string().as_bytes(), &[fd.as_fd()])
            .why(|| "sending the seccomp listener")
    }
}
