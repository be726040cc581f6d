//! The process: config.md#process (runtime-spec v1.3.0), for the container's init and for `exec --process`.

use oci_spec::runtime::{LinuxSchedulerPolicy, Process, Scheduler};
use serde_json::Value;

use super::at::At;
use super::json;
use crate::error::Result;

/// Resource limits by name, with their numbers for prlimit(2).
// The numbers' type differs between C libraries.
#[allow(clippy::unnecessary_cast)]
pub const RLIMITS: [(&str, u32); 16] = [
    ("RLIMIT_AS", libc::RLIMIT_AS as u32),
    ("RLIMIT_CORE", libc::RLIMIT_CORE as u32),
    ("RLIMIT_CPU", libc::RLIMIT_CPU as u32),
    ("RLIMIT_DATA", libc::RLIMIT_DATA as u32),
    ("RLIMIT_FSIZE", libc::RLIMIT_FSIZE as u32),
    ("RLIMIT_LOCKS", libc::RLIMIT_LOCKS as u32),
    ("RLIMIT_MEMLOCK", libc::RLIMIT_MEMLOCK as u32),
    ("RLIMIT_MSGQUEUE", libc::RLIMIT_MSGQUEUE as u32),
    ("RLIMIT_NICE", libc::RLIMIT_NICE as u32),
    ("RLIMIT_NOFILE", libc::RLIMIT_NOFILE as u32),
    ("RLIMIT_NPROC", libc::RLIMIT_NPROC as u32),
    ("RLIMIT_RSS", libc::RLIMIT_RSS as u32),
    ("RLIMIT_RTPRIO", libc::RLIMIT_RTPRIO as u32),
    ("RLIMIT_RTTIME", libc::RLIMIT_RTTIME as u32),
    ("RLIMIT_SIGPENDING", libc::RLIMIT_SIGPENDING as u32),
    ("RLIMIT_STACK", libc::RLIMIT_STACK as u32),
];

/// The number of a resource limit: `RLIMIT_NOFILE` is 7.
pub fn rlimit_number(name: &str) -> Option<u32> {
    RLIMITS.iter().find(|(known, _)| *known == name).map(|&(_, number)| number)
}

/// The number of a scheduling policy for sched_setattr(2).
pub fn scheduler_policy(policy: LinuxSchedulerPolicy) -> u32 {
    match policy {
        LinuxSchedulerPolicy::SchedOther => 0,
        LinuxSchedulerPolicy::SchedFifo => 1,
        LinuxSchedulerPolicy::SchedRr => 2,
        LinuxSchedulerPolicy::SchedBatch => 3,
        LinuxSchedulerPolicy::SchedIso => 4,
        LinuxSchedulerPolicy::SchedIdle => 5,
        LinuxSchedulerPolicy::SchedDeadline => 6,
    }
}

const SCHEDULER_FLAGS: [(&str, u64); 8] = [
    ("SCHED_FLAG_RESET_ON_FORK", 0x01),
    // The name that versions 1.1 and 1.2 of the Go types had for it.
    ("SCHED_RESET_ON_FORK", 0x01),
    ("SCHED_FLAG_RECLAIM", 0x02),
    ("SCHED_FLAG_DL_OVERRUN", 0x04),
    ("SCHED_FLAG_KEEP_POLICY", 0x08),
    ("SCHED_FLAG_KEEP_PARAMS", 0x10),
    ("SCHED_FLAG_UTIL_CLAMP_MIN", 0x20),
    ("SCHED_FLAG_UTIL_CLAMP_MAX", 0x40),
];

/// Reads `process.scheduler.flags` into the bits of sched_setattr(2).
pub(super) fn scheduler_flags(value: Value, at: &At<'_>) -> Result<u64> {
    let names = json::strings(value, at)?;
    names.iter().enumerate().try_fold(0, |bits, (i, name)| {
        match SCHEDULER_FLAGS.iter().find(|(known, _)| known == name) {
            Some((_, bit)) => Ok(bits | bit),
            None => Err(at.index(i).fault(format_args!("unknown scheduler flag {name:?}"))),
        }
    })
}

/// Checks a process whose types are right.
pub(super) fn check(process: &Process, at: &At<'_>, warnings: &mut Vec<String>) -> Result<()> {
    if process.cwd().as_os_str().is_empty() {
        return Err(at.key("cwd").fault("required"));
    }
    if process.cwd().is_relative() {
        return Err(at.key("cwd").fault(format_args!("{:?} must be an absolute path", process.cwd())));
    }
    if process.args().as_ref().is_none_or(Vec::is_empty) {
        return Err(at.key("args").fault("must not be empty"));
    }
    check_env(process.env().as_deref().unwrap_or_default(), &at.key("env"))?;
    check_user(process, &at.key("user"))?;
    check_rlimits(process, &at.key("rlimits"))?;
    if let Some(score) = process.oom_score_adj().filter(|score| !(-1000..=1000).contains(score)) {
        return Err(at.key("oomScoreAdj").fault(format_args!("{score} is not in -1000 to 1000")));
    }
    if let Some(scheduler) = process.scheduler() {
        check_scheduler(scheduler, &at.key("scheduler"))?;
    }
    if let Some(io) = process.io_priority().filter(|io| !(0..=7).contains(&io.priority())) {
        return Err(at.key("ioPriority").key("priority").fault(format_args!("{} is not in 0 to 7", io.priority())));
    }
    match (process.console_size(), process.terminal().unwrap_or(false)) {
        (Some(size), true) => {
            for (field, cells) in [("height", size.height()), ("width", size.width())] {
                // struct winsize has 16 bits.
                if cells > u64::from(u16::MAX) {
                    let at = at.key("consoleSize");
                    return Err(at.key(field).fault(format_args!("{cells} is above {}", u16::MAX)));
                }
            }
        }
        (Some(size), false) if (size.height(), size.width()) != (0, 0) => {
            warnings.push(format!("{}: ignored, as {} is not set", at.key("consoleSize"), at.key("terminal")));
        }
        _ => {}
    }
    Ok(())
}

/// Environment entries are `NAME=value`: execve(2) takes anything, programs do not.
pub(super) fn check_env(env: &[String], at: &At<'_>) -> Result<()> {
    for (i, entry) in env.iter().enumerate() {
        let why = match entry.find('=') {
            Some(0) => "name cannot be empty",
            Some(_) => continue,
            None => "missing '='",
        };
        return Err(at.index(i).fault(format_args!("invalid environment variable {entry:?}: {why}")));
    }
    Ok(())
}

fn check_user(process: &Process, at: &At<'_>) -> Result<()> {
    let user = process.user();
    // (uid_t) -1 means "leave as it is" to setresuid(2): the process would stay root.
    const NO_ID: u32 = u32::MAX;
    for (field, id) in [("uid", user.uid()), ("gid", user.gid())] {
        if id == NO_ID {
            return Err(at.key(field).fault(format_args!("{id} is not an id")));
        }
    }
    let groups = user.additional_gids().as_deref().unwrap_or_default();
    if let Some(i) = groups.iter().position(|&gid| gid == NO_ID) {
        return Err(at.key("additionalGids").index(i).fault(format_args!("{NO_ID} is not an id")));
    }
    match user.umask() {
        Some(mask) if mask > 0o777 => Err(at.key("umask").fault(format_args!("{mask} is above 511 (octal 777)"))),
        _ => Ok(()),
    }
}

fn check_rlimits(process: &Process, at: &At<'_>) -> Result<()> {
    let rlimits = process.rlimits().as_deref().unwrap_or_default();
    for (i, rlimit) in rlimits.iter().enumerate() {
        let at = at.index(i);
        if rlimits[..i].iter().any(|earlier| earlier.typ() == rlimit.typ()) {
            return Err(at.key("type").fault(format_args!("duplicated rlimit {}", rlimit.typ())));
        }
        if rlimit.soft() > rlimit.hard() {
            return Err(at.key("soft").fault(format_args!("{} is above hard, {}", rlimit.soft(), rlimit.hard())));
        }
    }
    Ok(())
}

/// The rules of sched_setattr(2), whose EINVAL would not say which was broken.
fn check_scheduler(scheduler: &Scheduler, at: &At<'_>) -> Result<()> {
    use LinuxSchedulerPolicy::{SchedBatch, SchedDeadline, SchedFifo, SchedOther, SchedRr};
    let policy = *scheduler.policy();
    let nice = scheduler.nice().unwrap_or(0);
    if matches!(policy, SchedOther | SchedBatch) && !(-20..=19).contains(&nice) {
        return Err(at.key("nice").fault(format_args!("{nice} is not in -20 to 19")));
    }
    let priority = scheduler.priority().unwrap_or(0);
    match policy {
        SchedFifo | SchedRr if !(1..=99).contains(&priority) => {
            return Err(at.key("priority").fault(format_args!("{priority} is not in 1 to 99, as {policy} needs")));
        }
        SchedFifo | SchedRr => {}
        _ if priority != 0 => {
            return Err(at.key("priority").fault("can only be specified for SCHED_FIFO or SCHED_RR"));
        }
        _ => {}
    }
    let [runtime, deadline, period] =
        [scheduler.runtime(), scheduler.deadline(), scheduler.period()].map(|time| time.unwrap_or(0));
    if policy == SchedDeadline {
        let period = if period == 0 { deadline } else { period };
        if runtime == 0 || runtime > deadline || deadline > period {
            return Err(at.fault("SCHED_DEADLINE needs 0 < runtime <= deadline <= period"));
        }
    } else {
        for (field, time) in [("runtime", runtime), ("deadline", deadline), ("period", period)] {
            if time != 0 {
                return Err(at.key(field).fault("can only be specified for SCHED_DEADLINE"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::PosixRlimitType;

    #[test]
    fn every_rlimit_type_has_a_number() {
        for (name, number) in RLIMITS {
            assert!(name.parse::<PosixRlimitType>().is_ok(), "{name}");
            assert_eq!(rlimit_number(name), Some(number));
        }
        assert_eq!(rlimit_number("RLIMIT_NOFILE"), Some(7));
        assert_eq!(rlimit_number("RLIMIT_FOO"), None);
    }
}
