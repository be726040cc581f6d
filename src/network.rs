//! The network namespace's own business: the loopback device of a new one is brought up, as runc does.

use std::fmt;

use crate::plan::{Fault, Init, Inside, Plan};
use crate::sys::net;

/// Adds the raising of `lo`, where the network namespace is a new one.
pub fn plan(new_namespace: bool, plan: &mut Plan) {
    if new_namespace {
        plan.inside(RaiseLoopback);
    }
}

struct RaiseLoopback;

impl fmt::Display for RaiseLoopback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bringing up loopback")
    }
}

impl Inside for RaiseLoopback {
    fn run(&self, _: &mut Init<'_>) -> std::result::Result<(), Fault> {
        Ok(net::raise(c"lo")?)
    }
}
