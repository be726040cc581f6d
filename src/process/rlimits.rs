//! Resource limits: config.md#posix-process, setrlimit(2).

use std::fmt;

use crate::error::{Result, Why};
use crate::plan::{Fault, Init, Inside, Outside, Plan, Runtime};
use crate::sys::process::{getrlimit, prlimit};

/// One limit, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// Where config.json names it.
    pub json: String,
    /// `RLIMIT_NOFILE` and so on.
    pub name: String,
    /// The kernel's number for it.
    pub resource: u32,
    /// In force.
    pub soft: u64,
    /// The ceiling.
    pub hard: u64,
}

impl Limit {
    /// RLIMIT_NOFILE.
    pub fn is_of_descriptors(&self) -> bool {
        self.resource == NOFILE
    }

    /// The runtime's own limit on descriptors, which the process inherits where none is configured.
    ///
    /// # Errors
    /// Those of getrlimit(2).
    pub fn of_runtime() -> Result<Limit> {
        let (soft, hard) = getrlimit(NOFILE).why(|| "getrlimit")?;
        Ok(Limit { json: "process.rlimits".into(), name: "RLIMIT_NOFILE".into(), resource: NOFILE, soft, hard })
    }
}

#[allow(clippy::unnecessary_cast, reason = "musl has it as another integer than glibc")]
const NOFILE: u32 = libc::RLIMIT_NOFILE as u32;

/// Adds the raising of the runtime's own limit on descriptors, so that it can hold that many.
pub fn plan_room(room: u64, plan: &mut Plan) {
    plan.before(MakeRoom(room));
}

struct MakeRoom(u64);

impl fmt::Display for MakeRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "making room for {} descriptors", self.0)
    }
}

impl Outside for MakeRoom {
    fn run(&self, _: &mut Runtime) -> Result<()> {
        let MakeRoom(room) = *self;
        let (soft, hard) = getrlimit(NOFILE).why(|| "getrlimit")?;
        if room <= soft {
            return Ok(());
        }
        prlimit(0, NOFILE, room, hard.max(room)).why(|| {
            format!("the mounts of config.json need RLIMIT_NOFILE {room}, and the runtime's hard limit is {hard}")
        })
    }
}

/// Adds what init cannot do to itself, as a user namespace takes away the right to it: the raising of ceilings.
///
/// Nothing is lowered here. Init still mounts and copies files, for which a small limit on descriptors or on the
/// size of files would not be enough, and lowering needs no right. `room` is how many descriptors it holds.
///
/// # Errors
/// Those of getrlimit(2).
pub fn plan_raise(limits: &[Limit], room: u64, plan: &mut Plan) -> Result<()> {
    let mut raised = Vec::new();
    for limit in limits {
        let (_, ceiling) = getrlimit(limit.resource).why(|| &limit.json)?;
        if limit.hard > ceiling {
            let hard = if limit.is_of_descriptors() { limit.hard.max(room) } else { limit.hard };
            raised.push(Limit { soft: hard, hard, ..limit.clone() });
        }
    }
    if !raised.is_empty() {
        plan.outside(RaiseLimits(raised));
    }
    Ok(())
}

/// Adds the setting of all limits, by the process itself.
pub fn plan(limits: Vec<Limit>, plan: &mut Plan) {
    if !limits.is_empty() {
        plan.inside(SetLimits(limits));
    }
}

fn list(limits: &[Limit]) -> String {
    let words: Vec<_> = limits.iter().map(|l| format!("{} {}/{}", l.name, l.soft, l.hard)).collect();
    words.join(", ")
}

struct RaiseLimits(Vec<Limit>);

impl fmt::Display for RaiseLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "raising rlimits to {}", list(&self.0))
    }
}

impl Outside for RaiseLimits {
    fn run(&self, runtime: &mut Runtime) -> Result<()> {
        let pid = runtime.child()?.pid;
        for limit in &self.0 {
            prlimit(pid, limit.resource, limit.soft, limit.hard).why(|| &limit.json)?;
        }
        Ok(())
    }
}

struct SetLimits(Vec<Limit>);

impl fmt::Display for SetLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "setting rlimits {}", list(&self.0))
    }
}

impl Inside for SetLimits {
    fn run(&self, _: &mut Init<'_>) -> std::result::Result<(), Fault> {
        for (index, limit) in self.0.iter().enumerate() {
            prlimit(0, limit.resource, limit.soft, limit.hard).map_err(Fault::at(index as u64))?;
        }
        Ok(())
    }

    fn explain(&self, fault: Fault) -> String {
        let limit = self.0.get(fault.detail as usize).map_or("", |limit| limit.json.as_str());
        format!("{limit}: {}", crate::error::errno_text(fault.errno))
    }
}
