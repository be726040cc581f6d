//! What a profile asks for, checked: config-linux.md#seccomp (runtime-spec v1.3.0).
//!
//! Everything here is said in the profile's words, system calls by name; [`super::compile`] turns it into numbers for each
//! architecture. Where the specification leaves room this does as runc does, because profiles are written for it.

use super::Listener;
use super::arch::{self, Abi, Call};
use super::order::{Condition, Operator};
use anyhow::{Context, Result, bail, ensure};
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg, LinuxSeccompFilterFlag as Flag,
    LinuxSeccompOperator, LinuxSyscall,
};

/// The arguments of a system call that a filter sees.
const ARGUMENTS: usize = 6;

/// The kernel's MAX_ERRNO.
const LARGEST_ERRNO: u32 = 4095;

/// A checked profile.
#[derive(Debug)]
pub(super) struct Profile {
    /// The answer where no rule matches.
    pub default: u32,
    /// Whether calls that the profile cannot have known are to fail with ENOSYS: not where they are permitted anyway.
    pub deny_unknown: bool,
    /// The native ABI first, then those listed.
    pub abis: Vec<&'static Abi>,
    pub rules: Vec<Rule>,
    pub flags: u32,
    pub listener: Option<Listener>,
    pub warnings: Vec<String>,
}

/// One entry of `syscalls`.
#[derive(Debug)]
pub(super) struct Rule {
    /// Its place in `syscalls`.
    pub index: usize,
    pub calls: Vec<(usize, Call)>,
    pub action: u32,
    /// Each of these suffices; all conditions of one must hold. They are in the order of their arguments.
    pub alternatives: Vec<Vec<Condition>>,
}

impl Profile {
    /// Checks a profile for a kernel whose own ABI is `native`.
    pub fn read(seccomp: &LinuxSeccomp, native: Arch) -> Result<Profile> {
        let mut profile = Profile {
            default: answer(seccomp.default_action(), seccomp.default_errno_ret(), "linux.seccomp.defaultErrnoRet")?,
            deny_unknown: !matches!(
                seccomp.default_action(),
                Action::ScmpActAllow | Action::ScmpActLog | Action::ScmpActTrace
            ),
            abis: abis(seccomp, native)?,
            rules: Vec::new(),
            flags: 0,
            listener: None,
            warnings: Vec::new(),
        };
        if seccomp.default_action() == Action::ScmpActNotify {
            // The container's init could not even report that it has loaded the filter.
            bail!("linux.seccomp.defaultAction SCMP_ACT_NOTIFY: cannot be the default action");
        }
        for (index, syscall) in seccomp.syscalls().iter().flatten().enumerate() {
            let rule = profile.rule(index, syscall)?;
            profile.rules.push(rule);
        }
        let notifies = seccomp.syscalls().iter().flatten().any(|syscall| syscall.action() == Action::ScmpActNotify);
        profile.listener = listener(seccomp, notifies)?;
        profile.flags = flags(seccomp, notifies)?;
        Ok(profile)
    }

    fn rule(&mut self, index: usize, syscall: &LinuxSyscall) -> Result<Rule> {
        let path = |field: &str| format!("linux.seccomp.syscalls[{index}].{field}");
        let mut calls = Vec::with_capacity(syscall.names().len());
        for (at, name) in syscall.names().iter().enumerate() {
            ensure!(!name.is_empty(), "{}: the name of a system call is empty", path(&format!("names[{at}]")));
            if name == "write" && syscall.action() == Action::ScmpActNotify {
                // The init reports the listener by writing, before anyone answers for it.
                bail!("{}: SCMP_ACT_NOTIFY cannot be used for the write syscall", path(&format!("names[{at}]")));
            }
            match Call::find(name) {
                Some(call) => calls.push((at, call)),
                None => self.warnings.push(format!(
                    "{} {name:?}: no kernel is known to have this system call; it is left out of the filter",
                    path(&format!("names[{at}]"))
                )),
            }
        }
        let mut conditions = Vec::new();
        for (at, argument) in syscall.args().iter().flatten().enumerate() {
            conditions.push(condition(argument).with_context(|| path(&format!("args[{at}]")))?);
        }
        let action = answer(syscall.action(), syscall.errno_ret(), &path("errnoRet"))?;
        Ok(Rule { index, calls, action, alternatives: alternatives(conditions) })
    }
}

/// The kernel's word for an action; `path` is where its errno stands.
fn answer(action: Action, errno: Option<u32>, path: &str) -> Result<u32> {
    let (word, largest) = match action {
        Action::ScmpActKill | Action::ScmpActKillThread => (libc::SECCOMP_RET_KILL_THREAD, None),
        Action::ScmpActKillProcess => (libc::SECCOMP_RET_KILL_PROCESS, None),
        Action::ScmpActTrap => (libc::SECCOMP_RET_TRAP, None),
        Action::ScmpActErrno => (libc::SECCOMP_RET_ERRNO, Some(LARGEST_ERRNO)),
        Action::ScmpActNotify => (libc::SECCOMP_RET_USER_NOTIF, None),
        // What a tracer is told need not be an errno.
        Action::ScmpActTrace => (libc::SECCOMP_RET_TRACE, Some(libc::SECCOMP_RET_DATA)),
        Action::ScmpActLog => (libc::SECCOMP_RET_LOG, None),
        Action::ScmpActAllow => (libc::SECCOMP_RET_ALLOW, None),
    };
    let Some(largest) = largest else {
        ensure!(errno.is_none(), "{path}: {action} takes no errno");
        return Ok(word);
    };
    let errno = errno.unwrap_or(libc::EPERM as u32);
    ensure!(errno <= largest, "{path} {errno}: more than {largest}, the largest that {action} can return");
    Ok(word | errno)
}

fn condition(argument: &LinuxSeccompArg) -> Result<Condition> {
    let index = argument.index();
    ensure!(index < ARGUMENTS, "index {index}: a system call has the arguments 0 to {}", ARGUMENTS - 1);
    let (operator, value) = match argument.op() {
        LinuxSeccompOperator::ScmpCmpNe => (Operator::NotEqual, argument.value()),
        LinuxSeccompOperator::ScmpCmpLt => (Operator::Less, argument.value()),
        LinuxSeccompOperator::ScmpCmpLe => (Operator::LessOrEqual, argument.value()),
        LinuxSeccompOperator::ScmpCmpEq => (Operator::Equal, argument.value()),
        LinuxSeccompOperator::ScmpCmpGe => (Operator::GreaterOrEqual, argument.value()),
        LinuxSeccompOperator::ScmpCmpGt => (Operator::Greater, argument.value()),
        LinuxSeccompOperator::ScmpCmpMaskedEq => {
            (Operator::Masked(argument.value()), argument.value_two().unwrap_or_default())
        }
    };
    Ok(Condition { argument: index as u8, operator, value })
}

/// All conditions of a rule must hold; but where two are on one argument each becomes a rule of its own, as in runc, which
/// keeps so to what Docker's profiles meant before rules could have several conditions.
fn alternatives(mut conditions: Vec<Condition>) -> Vec<Vec<Condition>> {
    let count = |argument| conditions.iter().filter(|condition| condition.argument == argument).count();
    if (0..ARGUMENTS as u8).any(|argument| count(argument) > 1) {
        return conditions.into_iter().map(|condition| vec![condition]).collect();
    }
    conditions.sort_by_key(|condition| condition.argument);
    vec![conditions]
}

/// The ABIs of the filter; the native one is always among them.
fn abis(seccomp: &LinuxSeccomp, native: Arch) -> Result<Vec<&'static Abi>> {
    let native =
        arch::find(native).context("linux.seccomp: the system calls of this machine's architecture are not known")?;
    let mut abis = vec![native];
    for (index, &name) in seccomp.architectures().iter().flatten().enumerate() {
        if name == Arch::ScmpArchNative {
            continue;
        }
        let path = || format!("linux.seccomp.architectures[{index}] {name}");
        let abi = arch::find(name).with_context(|| format!("{}: its system calls are not known", path()))?;
        ensure!(abi.endian == native.endian, "{}: its byte order is not that of {}", path(), native.name);
        if !abis.iter().any(|known| known.name == abi.name) {
            abis.push(abi);
        }
    }
    Ok(abis)
}

fn listener(seccomp: &LinuxSeccomp, notifies: bool) -> Result<Option<Listener>> {
    let metadata = seccomp.listener_metadata().clone();
    match seccomp.listener_path() {
        Some(path) if notifies => Ok(Some(Listener { path: path.clone(), metadata })),
        None if notifies => bail!("linux.seccomp.listenerPath: missing, but a rule has the action SCMP_ACT_NOTIFY"),
        None if metadata.is_some() => bail!("linux.seccomp.listenerMetadata: must not be set without listenerPath"),
        _ => Ok(None),
    }
}

fn flags(seccomp: &LinuxSeccomp, notifies: bool) -> Result<u32> {
    let mut flags = if notifies { libc::SECCOMP_FILTER_FLAG_NEW_LISTENER } else { 0 };
    let Some(asked) = seccomp.flags() else {
        // Without a word on flags runc spares the container the mitigation of speculative store bypass, and so its cost.
        return Ok((flags | libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW) as u32);
    };
    for (index, flag) in asked.iter().enumerate() {
        flags |= match flag {
            Flag::SeccompFilterFlagLog => libc::SECCOMP_FILTER_FLAG_LOG,
            Flag::SeccompFilterFlagSpecAllow => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
            // The filter is loaded by a process of one thread, so that there is nothing to synchronise; runc takes the flag
            // without effect too, and the kernel does not take it together with a listener.
            Flag::SeccompFilterFlagTsync => 0,
            Flag::SeccompFilterFlagWaitKillableRecv => {
                ensure!(notifies, "linux.seccomp.flags[{index}] {flag}: needs a rule with the action SCMP_ACT_NOTIFY");
                libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
            }
        };
    }
    Ok(flags as u32)
}
