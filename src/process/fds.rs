//! Descriptors that reach the program: standard ones, and those of `--preserve-fds` and LISTEN_FDS. No other.

use std::fmt;

use crate::plan::{Fault, Init, Inside, Plan};
use crate::sys::fd;

/// Adds the closing of everything from 3 + `preserved` on, at execve.
pub fn plan(preserved: u32, plan: &mut Plan) {
    plan.inside(CloseRest(3 + preserved));
}

struct CloseRest(u32);

impl fmt::Display for CloseRest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "keeping no descriptor from {} on", self.0)
    }
}

impl Inside for CloseRest {
    fn run(&self, _: &mut Init<'_>) -> std::result::Result<(), Fault> {
        Ok(fd::cloexec_from(self.0)?)
    }
}
