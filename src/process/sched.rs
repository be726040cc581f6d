//! How the process is scheduled and billed: config.md#linux-process (`oomScoreAdj`, `scheduler`, `ioPriority`),
//! config-linux.md#personality, and the session keyring that runc gives each container.

use std::ffi::CString;
use std::fmt;

use anyhow::anyhow;
use nix::errno::Errno;

use crate::error::{Result, Why, errno_text};
use crate::plan::{Fault, Init, Inside, Outside, Plan, Runtime};
use crate::sys::keyring;
use crate::sys::process::{self, CpuMask, SchedAttr};

/// Adds the OOM score, written by the runtime as it may need CAP_SYS_RESOURCE to lower it.
pub fn plan_oom_score(score: i32, plan: &mut Plan) {
    plan.outside(SetOomScore(score));
}

/// Adds sched_setattr(2).
pub fn plan_scheduler(attr: SchedAttr, plan: &mut Plan) {
    plan.inside(SetScheduler(attr));
}

/// Adds ioprio_set(2): the class's number and the level in it.
pub fn plan_io_priority(class: u32, level: u32, plan: &mut Plan) {
    plan.inside(SetIoPriority { class, level });
}

/// Adds personality(2).
pub fn plan_personality(persona: u64, plan: &mut Plan) {
    plan.inside(SetPersonality(persona));
}

/// Adds sched_setaffinity(2).
pub fn plan_affinity(cpus: CpuMask, plan: &mut Plan) {
    plan.inside(SetAffinity(cpus));
}

/// Adds sched_setaffinity(2) to all CPUs that the cgroup allows, as the runtime's caller may have restricted it.
pub fn plan_affinity_reset(plan: &mut Plan) {
    plan.inside(ResetAffinity);
}

/// Adds set_mempolicy(2): the mode with its flags, and the nodes.
pub fn plan_memory_policy(mode: u32, nodes: CpuMask, plan: &mut Plan) {
    plan.inside(SetMemoryPolicy { mode, nodes });
}

/// Adds a session keyring of that name (`_ses.ID`), joined by `exec` too.
///
/// # Errors
/// A NUL byte.
pub fn plan_keyring(name: &str, plan: &mut Plan) -> Result<()> {
    let name = CString::new(name).map_err(|_| anyhow!("the keyring's name contains a NUL byte"))?;
    plan.inside(JoinKeyring(name));
    Ok(())
}

struct SetOomScore(i32);

impl fmt::Display for SetOomScore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "setting oom_score_adj to {}", self.0)
    }
}

impl Outside for SetOomScore {
    fn run(&self, runtime: &mut Runtime) -> Result<()> {
        let file = format!("/proc/{}/oom_score_adj", runtime.child()?.pid);
        std::fs::write(&file, self.0.to_string())
            .why(|| "config.json: process.oomScoreAdj (lowering it needs CAP_SYS_RESOURCE)")
    }
}

struct SetScheduler(SchedAttr);

impl fmt::Display for SetScheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SchedAttr { policy, nice, priority, .. } = self.0;
        write!(f, "setting the scheduler (policy {policy}, nice {nice}, priority {priority})")
    }
}

impl Inside for SetScheduler {
    fn run(&self, _: &mut Init<'_>) -> std::result::Result<(), Fault> {
        Ok(process::sched_setattr(0, self.0)?)
    }

    fn explain(&self, fault: Fault) -> String {
        let realtime = matches!(self.0.policy as i32, libc::SCHED_FIFO | libc::SCHED_RR);
        let hint = match fault.errno {
            Errno::EPERM if realtime => {
                " (a v1 cgroup without linux.resources.cpu.realtimeRuntime has no realtime processes)"
            }
            // sched_setattr(2): a deadline needs all CPUs of the system; the rest of the sentence is runc's.
            Errno::EPERM if self.0.policy as i32 == libc::SCHED_DEADLINE => {
                " (CAP_SYS_NICE is missing, or linux.resources.cpu.cpus is set: \
                 process scheduler can't be used together with AllowedCPUs)"
            }
            _ => "",
        };
        format!("{}{hint}", errno_text(fault.errno))
    }
}

struct SetIoPriority {
    class: u32,
    level: u32,
}

impl fmt::Display for SetIoPriority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "setting the I/O priority (class {}, level {})", self.class, self.level)
    }
}

impl Inside for SetIoPriority {
    fn run(&self, _: &mut Init<'_>) -> std::result::Result<(), Fault> {
        Ok(process::ioprio_set(self.class, self.level)?)
    }
}

struct SetPersonality(u64);

impl fmt::Display for SetPersonality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "setting the personality {:#x}", self.0)
    }
}

impl Inside for SetPersonality {
    fn run(&self, _: &mut Init<'_>) -> std::result::Result<(), Fault> {
        Ok(process::personality(self.0)?)
    }
}

struct ResetAffinity;

impl fmt::Display for ResetAffinity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("resetting the CPU affinity")
    }
}

impl Inside for ResetAffinity {
    fn run(&self, _: &mut Init<'_>) -> std::result::Result<(), Fault> {
        match process::sched_setaffinity(0, &[u64::MAX; 128]) {
            // Not every outer container allows it; a container with fewer CPUs is one still.
            Ok(()) | Err(Errno::EPERM | Errno::EACCES | Errno::EINVAL | Errno::ENOSYS) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// A mask as one number.
fn hexadecimal(mask: &CpuMask) -> String {
    let words: String = mask.iter().rev().map(|word| format!("{word:016x}")).collect();
    format!("0x{}", words.trim_start_matches('0'))
}

/// The ids of a mask, as a list.
fn ids(mask: &CpuMask) -> String {
    let set = |n: &usize| mask.get(n / 64).is_some_and(|word| word >> (n % 64) & 1 == 1);
    (0..mask.len() * 64).filter(set).map(|n| n.to_string()).collect::<Vec<_>>().join(",")
}

struct SetAffinity(CpuMask);

impl fmt::Display for SetAffinity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "setting the CPU affinity: {} ({})", hexadecimal(&self.0), ids(&self.0))
    }
}

impl Inside for SetAffinity {
    fn run(&self, _: &mut Init<'_>) -> std::result::Result<(), Fault> {
        Ok(process::sched_setaffinity(0, &self.0)?)
    }
}

struct SetMemoryPolicy {
    mode: u32,
    nodes: CpuMask,
}

impl fmt::Display for SetMemoryPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "setting the memory policy (mode {:#x}, nodes {})", self.mode, ids(&self.nodes))
    }
}

impl Inside for SetMemoryPolicy {
    fn run(&self, _: &mut Init<'_>) -> std::result::Result<(), Fault> {
        Ok(process::set_mempolicy(self.mode, &self.nodes)?)
    }
}

struct JoinKeyring(CString);

impl fmt::Display for JoinKeyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "joining the session keyring {:?}", self.0)
    }
}

impl Inside for JoinKeyring {
    fn run(&self, _: &mut Init<'_>) -> std::result::Result<(), Fault> {
        const USER_SEARCH: u32 = 0x0008_0000;
        match keyring::join_session(&self.0) {
            // A kernel without keyrings, or a seccomp filter that hides them: there is nothing to keep apart.
            Err(Errno::ENOSYS | Errno::EPERM) => Ok(()),
            Err(errno) => Err(errno.into()),
            // So that another process of the container's user (`exec`) finds the ring by its name.
            Ok(serial) => match keyring::add_permissions(serial, USER_SEARCH) {
                Ok(()) | Err(Errno::EACCES | Errno::EPERM) => Ok(()),
                Err(errno) => Err(errno.into()),
            },
        }
    }

    fn explain(&self, fault: Fault) -> String {
        match fault.errno {
            Errno::EDQUOT => "the user's quota of keys is used up (see --no-new-keyring)".into(),
            errno => crate::error::errno_text(errno),
        }
    }
}
