//! The conversation with criu as one step: a request, notifications, an answer.

use std::fmt;
use std::os::fd::AsFd;
use std::path::PathBuf;

use anyhow::{anyhow, bail};

use super::rpc::{Notify, Request, Response, kind};
use super::{Shared, criu};
use crate::error::{Result, Why};
use crate::plan::walk::Child;
use crate::plan::{Outside, Plan, Runtime, Slot};
use crate::sys::process::{self, Exit};

/// What is to be done when criu notifies of something.
pub struct Moment {
    /// criu's name of it, such as `setup-namespaces`.
    pub name: &'static str,
    steps: Vec<Box<dyn Outside>>,
}

impl Moment {
    /// At `name`, the steps that `add` adds; none may use a slot of the inner plan.
    pub fn new(name: &'static str, add: impl FnOnce(&mut Plan)) -> Moment {
        let mut plan = Plan::new();
        add(&mut plan);
        Moment { name, steps: plan.into_outside() }
    }
}

/// One request.
pub(super) struct Transact {
    /// One of [`kind`].
    pub kind: i32,
    pub opts: Shared,
    /// The socket to criu, which `Runtime::child` is.
    pub socket: Slot,
    /// Where a descriptor goes that comes with a notification.
    pub descriptor: Slot,
    pub log: PathBuf,
    pub moments: Vec<Moment>,
}

impl fmt::Display for Transact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            kind::DUMP => "dumping the container with criu",
            kind::PRE_DUMP => "dumping the container's memory with criu",
            _ => "restoring the container with criu",
        })?;
        // In the plan, not in front of an error.
        if !f.alternate() {
            return Ok(());
        }
        for moment in self.moments.iter().filter(|moment| !moment.steps.is_empty()) {
            let steps: Vec<_> = moment.steps.iter().map(ToString::to_string).collect();
            write!(f, "; at {}: {}", moment.name, steps.join(", "))?;
        }
        Ok(())
    }
}

impl Outside for Transact {
    fn run(&self, runtime: &mut Runtime) -> Result<()> {
        let socket = runtime.slots.take(self.socket).ok_or_else(|| anyhow!("criu has not been started"))?;
        let criu = runtime.take_child().ok_or_else(|| anyhow!("criu has not been started"))?;
        let request = Request { kind: self.kind, opts: Some(self.opts.borrow().clone()), ..Request::default() };
        let answer = super::criu::converse(socket.as_fd(), &criu, &request, |notify, descriptor| {
            if let Some(descriptor) = descriptor {
                runtime.slots.put(self.descriptor, descriptor);
            }
            self.on(notify, runtime)
        });
        // After a pre-dump criu waits for another request: the end of the socket is what ends it.
        drop(socket);
        let exit = process::wait(criu.pidfd.as_fd(), 0).why(|| "waiting for criu")?;
        self.judge(answer?, exit)
    }
}

impl Transact {
    fn on(&self, notify: &Notify, runtime: &mut Runtime) -> Result<()> {
        if let Some(pid) = notify.pid.filter(|_| self.kind == kind::RESTORE) {
            // A child of this process, so the pid is its own until it is waited for here.
            let pidfd = process::pidfd_open(pid).why(|| "the restored process")?;
            runtime.set_child(Child { pid, pidfd, started: None });
        }
        let script = notify.script.as_deref().unwrap_or_default();
        let moments = self.moments.iter().filter(|moment| moment.name == script);
        for step in moments.flat_map(|moment| &moment.steps) {
            step.run(runtime).map_err(|e| e.context(format!("error {step}")))?;
        }
        Ok(())
    }

    /// The answer and the end of criu, in words when they are not what was hoped for.
    fn judge(&self, answer: Option<Response>, exit: Option<Exit>) -> Result<()> {
        let done = self.kind == kind::PRE_DUMP || exit == Some(Exit::Status(0));
        let quoted = criu::quote(&self.log);
        let why = match answer {
            Some(answer) if answer.success && answer.kind == self.kind && done => return Ok(()),
            Some(answer) if answer.success && answer.kind == self.kind => criu::ended(exit),
            // What criu says itself is the first error of the log, which often has nothing to do with it.
            Some(_) if !quoted.is_empty() => "criu failed".to_owned(),
            Some(answer) => format!("criu failed: {}", criu::reason(&answer)),
            None => criu::ended(exit),
        };
        if quoted.is_empty() {
            bail!("{why}; its log is {:?}", self.log);
        }
        bail!("{why}; its log {:?} says: {quoted}", self.log)
    }
}
