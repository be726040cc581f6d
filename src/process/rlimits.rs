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

    /// The limit as it has to be while the process still holds that many descriptors.
    #[must_use]
    pub fn with_room(&self, room: u64) -> Limit {
        let room = if self.is_of_descriptors() { room } else { 0 };
        Limit { soft: self.soft.max(room), hard: self.hard.max(room), ..self.clone() }
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

/// Who sets the limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The process itself, while it still has the runtime's privileges.
    Init,
    /// The runtime, as a user namespace takes away the right to raise them.
    Runtime,
}

/// Adds the setting of all limits.
pub fn plan(limits: Vec<Limit>, by: By, plan: &mut Plan) {
    if limits.is_empty() {
        return;
    }
    match by {
        By::Init => plan.inside(SetLimits(limits)),
        By::Runtime => plan.outside(SetLimits(limits)),
    }
}

struct SetLimits(Vec<Limit>);

impl fmt::Display for SetLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<_> = self.0.iter().map(|l| format!("{} {}/{}", l.name, l.soft, l.hard)).collect();
        write!(f, "setting rlimits {}", words.join(", "))
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

impl Outside for SetLimits {
    fn run(&self, runtime: &mut Runtime) -> Result<()> {
        let pid = runtime.child()?.pid;
        for limit in &self.0 {
            prlimit(pid, limit.resource, limit.soft, limit.hard).why(|| &limit.json)?;
        }
        Ok(())
    }
}
