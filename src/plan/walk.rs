//! The outside walk: the runtime does its steps, hands over the turn, and words the errors of both sides.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use anyhow::anyhow;
use nix::errno::Errno;
use nix::fcntl::Flock;

use super::fault::{Injected, injected};
use super::frame::{Frame, SIZE};
use super::init::{self, Init};
use super::trace::{Clock, Trace};
use super::{Elsewhere, Fault, Outside, Plan, Slots, Spawn, Step};
use crate::error::{self, Detail, Detailed, Result, Why, one_line};
use crate::sys::clone::{Cloned, clone3};
use crate::sys::exe::Binary;
use crate::sys::mem::boot_ticks;
use crate::sys::process::{self, Exit};
use crate::sys::{alloc, channel, fd, ns};

/// The container's first process as its parent sees it.
#[derive(Debug)]
pub struct Child {
    /// To be printed and recorded only; signals go through the pidfd.
    pub pid: i32,
    /// The process itself.
    pub pidfd: OwnedFd,
    /// Its start time as field 22 of /proc/PID/stat has it, where that is known without a look.
    pub started: Option<u64>,
}

impl Child {
    /// Kills and reaps it, whatever it is doing or waiting for, unless that has been done.
    pub fn end(&self) {
        let _ = process::pidfd_send_signal(self.pidfd.as_fd(), libc::SIGKILL);
        let _ = process::wait(self.pidfd.as_fd(), 0);
    }
}

/// What outside steps work on.
#[derive(Debug, Default)]
pub struct Runtime {
    /// The descriptors of the plan.
    pub slots: Slots,
    child: Option<Child>,
    /// Where the master of the terminal arrives, for a `run` or `exec` in the foreground.
    pub terminal: Option<OwnedFd>,
    /// What init's last turn has told the next outside step.
    pub word: u64,
    born_in_cgroup: bool,
    /// The tick of the clock in which the child was cloned, where both sides of the call were in one.
    born: Option<u64>,
    /// The lock of the container's directory. Init is born with a share of it, and gives it up at once: else
    /// the lock would outlive a runtime that is killed.
    pub lock: Option<Rc<Flock<File>>>,
    /// The mount that the runtime runs from. It takes the kernel long to close: the runtime does that while init has its
    /// turn, or while its program runs where somebody waits for that.
    pub binary: Option<Binary>,
}

impl Runtime {
    /// The container's first process.
    ///
    /// # Errors
    /// Before the clone there is none.
    pub fn child(&self) -> Result<&Child> {
        self.child.as_ref().ok_or_else(|| anyhow!("the container's process has not been made yet"))
    }

    /// Makes another process the one that outside steps work on, in plans where a program of its own makes it.
    pub fn set_child(&mut self, child: Child) {
        self.child = Some(child);
    }

    /// Gives the process away to the caller.
    pub fn take_child(&mut self) -> Option<Child> {
        self.child.take()
    }
}

/// Whether the walk waits for the program to be executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// `run` and `exec`: until execve has happened or failed.
    Executed,
    /// `create`: init waits for `start`; the last outside step is the end.
    Waiting,
}

impl Plan {
    /// Carries the plan out.
    ///
    /// # Errors
    /// The failed step in its own words. The caller undoes what the record names.
    pub fn execute(&self, runtime: &mut Runtime, ending: Ending, trace: &mut Trace) -> Result<()> {
        runtime.slots = Slots::new(self.slots);
        let result = self.walk(runtime, ending, trace);
        // A runtime that waits for its container would keep namespaces and sources of mounts alive.
        runtime.slots = Slots::default();
        if result.is_err()
            && let Some(child) = &runtime.child
        {
            child.end();
        }
        result
    }

    fn walk(&self, runtime: &mut Runtime, ending: Ending, trace: &mut Trace) -> Result<()> {
        let mut walk = Walk {
            plan: self,
            runtime,
            clock: trace.start(self.len())?,
            injected: injected(),
            purpose: Some("unable to start container process"),
        };
        for (index, step) in self.before.iter().enumerate() {
            walk.act(step.as_ref(), index)?;
        }
        let (ours, theirs) = channel::pair().why(|| "making the channel to the container's init")?;
        let child = spawn(self, walk.runtime, &ours, theirs, walk.clock.shared(), walk.injected)
            .map_err(|e| e.context("unable to start container process"))?;
        walk.clock.spawned();
        walk.runtime.child = Some(child);
        let result = walk.go(ours.as_fd(), ending);
        walk.kill_here(self.len());
        walk.clock.finish(self, trace)?;
        result
    }

    /// Carries out a plan whose steps are all the runtime's: nothing is cloned. A process that a step has left in
    /// `runtime` is ended when a later one fails.
    ///
    /// # Errors
    /// The failed step in its own words. The caller undoes what the record names.
    pub fn carry_out(&self, runtime: &mut Runtime, trace: &mut Trace) -> Result<()> {
        runtime.slots = Slots::new(self.slots);
        let (clock, injected) = (trace.start(self.len())?, injected());
        let mut walk = Walk { plan: self, runtime, clock, injected, purpose: None };
        let mut result = Ok(());
        for (index, step) in self.all_outside().enumerate() {
            result = walk.act(step, index);
            if result.is_err() {
                break;
            }
        }
        if result.is_ok() {
            walk.kill_here(self.len());
        }
        walk.clock.finish(self, trace)?;
        runtime.slots = Slots::default();
        if result.is_err()
            && let Some(child) = &runtime.child
        {
            child.end();
        }
        result
    }

    /// Whether init need not be told to begin: its turn is the first, and it was born in the cgroup that it belongs in.
    fn begins_at_once(&self, runtime: &Runtime) -> bool {
        let first = self.steps.iter().find(|step| !matches!(step, Step::Alongside(_)));
        // Nor may it say anything before the go-between that has made it.
        let speaks_first = self.spawn.through_user.is_none();
        matches!(first, Some(Step::Inside(_)))
            && speaks_first
            && (self.spawn.cgroup.is_none() || runtime.born_in_cgroup)
    }

    /// The steps that the runtime does, before and after the clone.
    fn all_outside(&self) -> impl Iterator<Item = &dyn Outside> {
        let after = self.steps.iter().filter_map(|step| match step {
            Step::Outside(step) | Step::Alongside(step) => Some(step.as_ref()),
            Step::Inside(_) => None,
        });
        self.before.iter().map(AsRef::as_ref).chain(after)
    }

    /// The words for a fault inside.
    pub fn fault(&self, step: usize, fault: Fault) -> anyhow::Error {
        let Some(Step::Inside(step)) = self.steps.get(step) else {
            return anyhow!("the container's init failed at an unknown step: {}", error::errno_text(fault.errno));
        };
        let detail = Detail { code: "step-failed", phase: "inside", step: step.to_string(), hint: String::new() };
        let message = step.message(fault);
        if step.speaks_alone() {
            let detail = Detail { code: error::EXEC_FAILED, ..detail };
            return anyhow::Error::new(Detailed { message, detail, errno: Some(fault.errno) });
        }
        anyhow::Error::new(Detailed { message, detail, errno: Some(fault.errno) })
            .context("error during container init")
            .context("unable to start container process")
    }

    fn died(&self, begin: usize, runtime: &Runtime) -> anyhow::Error {
        let how = runtime.child.as_ref().and_then(|child| process::wait(child.pidfd.as_fd(), 0).ok().flatten());
        let words = match how {
            Some(Exit::Signal(signal)) => format!("was killed by signal {signal}"),
            Some(Exit::Status(status)) => format!("exited with status {status}"),
            None => "has gone".into(),
        };
        let step = match self.steps.get(begin) {
            Some(Step::Inside(step)) => step.to_string(),
            _ => String::new(),
        };
        let message = format!("the container's init {words}, at the step {step} or later");
        let detail = Detail { code: "init-died", phase: "inside", step, hint: String::new() };
        anyhow::Error::new(Detailed { message, detail, errno: None }).context("unable to start container process")
    }
}

fn say_go(channel: BorrowedFd<'_>, step: usize) -> Result<()> {
    match channel::send(channel, &Frame::Go(step as u32).encode()) {
        // It has died; what it said last is still to be read.
        Ok(()) | Err(Errno::EPIPE) => Ok(()),
        Err(errno) => Err(errno).why(|| "telling the container's init to go on"),
    }
}

/// The runtime on its way through a plan.
struct Walk<'a> {
    plan: &'a Plan,
    runtime: &'a mut Runtime,
    clock: Clock,
    injected: Option<Injected>,
    /// What all of it is for, in front of the words of a step that fails.
    purpose: Option<&'static str>,
}

impl Walk<'_> {
    /// From step `at` on: all steps, turn by turn.
    fn go(&mut self, channel: BorrowedFd<'_>, ending: Ending) -> Result<()> {
        let plan = self.plan;
        let mut at = 0;
        while let Some(step) = plan.steps.get(at) {
            match step {
                Step::Outside(step) => {
                    self.act(step.as_ref(), plan.before.len() + at)?;
                    at += 1;
                }
                Step::Inside(_) | Step::Alongside(_) => {
                    let turn = plan.steps.iter().skip(at).position(|s| matches!(s, Step::Outside(_)));
                    let end = turn.map_or(plan.steps.len(), |n| at + n);
                    self.turn(at, end, channel, ending)?;
                    at = end;
                }
            }
        }
        Ok(())
    }

    /// One turn of init, from `at` to before `end`, and what the runtime does beside it.
    fn turn(&mut self, at: usize, end: usize, channel: BorrowedFd<'_>, ending: Ending) -> Result<()> {
        let plan = self.plan;
        let steps = || plan.steps.iter().enumerate().take(end).skip(at);
        let first_inside = steps().find(|(_, step)| matches!(step, Step::Inside(_))).map(|(index, _)| index);
        let last = end >= plan.inside_end();
        if last && ending == Ending::Waiting {
            // Nobody listens to init's last turn, in which it waits for `start`.
            for (index, _) in steps().filter(|(_, step)| matches!(step, Step::Inside(_))) {
                self.kill_here(plan.before.len() + index);
            }
        }
        if let Some(first) = first_inside.filter(|_| at > 0 || !plan.begins_at_once(self.runtime)) {
            say_go(channel, first)?;
        }
        for (index, step) in steps() {
            match step {
                Step::Alongside(step) => {
                    if let Err(error) = self.act(step.as_ref(), plan.before.len() + index) {
                        // Where init has failed meanwhile, that is the reason of this failure too.
                        let said_something = first_inside.is_some() && channel::is_ready(channel);
                        let fault = if said_something { self.wait_for(end, at, channel).err() } else { None };
                        return Err(fault.unwrap_or(error));
                    }
                }
                Step::Inside(step) if step.meets() => say_go(channel, index)?,
                Step::Inside(_) | Step::Outside(_) => {}
            }
        }
        if ending == Ending::Waiting {
            drop(self.runtime.binary.take());
        }
        match first_inside {
            Some(_) if last && ending == Ending::Waiting => Ok(()),
            Some(first) => self.wait_for(end, first, channel),
            None => Ok(()),
        }
    }

    /// Waits until init has come to step `end`; at the end of the list, until execve closed the channel.
    fn wait_for(&mut self, end: usize, begin: usize, channel: BorrowedFd<'_>) -> Result<()> {
        let plan = self.plan;
        let mut bytes = [0; SIZE];
        let mut about_to_exec = false;
        if end >= plan.inside_end() && self.injected.is_none() {
            // Nothing that init says is to be answered before it has executed its program or ended: one awakening less. Not
            // for ever: under a seccomp filter that refuses exit(2), an init that has failed does not end by itself.
            channel::await_close(channel).why(|| "waiting for the container's init")?;
        }
        loop {
            let got = match channel::recv(channel, &mut bytes) {
                // Where init has gone without reading all that it was told, the kernel says so, once, ahead of what
                // init said last.
                Err(Errno::ECONNRESET) => continue,
                other => other.why(|| "hearing from the container's init")?,
            };
            if got == 0 {
                return if about_to_exec { Ok(()) } else { Err(plan.died(begin, self.runtime)) };
            }
            match Frame::decode(bytes.get(..got).unwrap_or_default()) {
                Some(Frame::Done(step, word)) if step as usize == end && end < plan.inside_end() => {
                    self.runtime.word = word;
                    return Ok(());
                }
                Some(Frame::Done(step, _)) if step as usize == end => about_to_exec = true,
                Some(Frame::Die) if let Some(Injected::Kill(step)) = self.injected => self.kill_here(step),
                Some(Frame::Fault(step, fault)) => return Err(plan.fault(step as usize, fault)),
                _ => return Err(anyhow!("the container's init sent a message that is none")),
            }
        }
    }

    fn kill_here(&self, step: usize) {
        if self.injected == Some(Injected::Kill(step)) {
            let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL);
        }
    }

    /// Does one step of the runtime, and puts its words in front of its error.
    fn act(&mut self, step: &dyn Outside, index: usize) -> Result<()> {
        self.kill_here(index);
        let begin = self.clock.now();
        let result = if self.injected == Some(Injected::Fail(index)) {
            Err(anyhow::Error::new(error::Sys(Errno::EUCLEAN)))
        } else {
            step.run(self.runtime)
        };
        self.clock.note(index, begin);
        result.map_err(|e| {
            let detail = Detail { code: "step-failed", phase: "outside", step: step.to_string(), hint: String::new() };
            let message = format!("error {step}: {}", one_line(&e));
            let failed = anyhow::Error::new(Detailed { message, detail, errno: error::errno_of(&e) });
            match self.purpose {
                Some(purpose) => failed.context(purpose),
                None => failed,
            }
        })
    }
}

/// Makes the container's first process. Only the parent returns.
fn spawn(
    plan: &Plan,
    runtime: &mut Runtime,
    ours: &OwnedFd,
    theirs: OwnedFd,
    trace: Option<&crate::sys::mem::Shared>,
    injected: Option<Injected>,
) -> Result<Child> {
    let mut theirs = Some(theirs);
    let Spawn { flags, cgroup, busy, for_children, stays, through_user, hidden } = &plan.spawn;
    if *hidden {
        process::set_dumpable(0).why(|| "hiding the runtime from the container")?;
    }
    let cgroup = cgroup.map(|slot| Home { slot, busy: busy.as_ref() });
    let own = match through_user {
        None => enter_for_children(for_children, *stays, runtime)?,
        Some(_) => Vec::new(),
    };
    let cloned = match through_user {
        None => clone_into(*flags, cgroup, runtime).why(|| "cloning the container's process")?,
        Some(slot) => {
            let go_between_cloned =
                clone_into(0, cgroup, runtime).why(|| "cloning the go-between of the user namespace")?;
            match go_between_cloned {
                Cloned::Child => {
                    alloc::forbid();
                    let user = runtime.slots.get(*slot).why(|| "joining the user namespace")?;
                    go_between(user, &plan.spawn, &runtime.slots, &theirs)
                }
                Cloned::Parent(_, pidfd) => {
                    // Else a go-between that dies without a word would never be end of file.
                    drop(theirs.take());
                    sibling(ours.as_fd(), pidfd.as_fd())?
                }
            }
        }
    };
    match cloned {
        Cloned::Child => become_init(plan, runtime, ours, theirs, trace, injected),
        Cloned::Parent(pid, pidfd) => {
            if *hidden {
                // The child has its own copy of the flag; the runtime itself is not in the container's pid namespace.
                process::set_dumpable(1).why(|| "showing the runtime again")?;
            }
            if let Some(home) = cgroup
                && !runtime.born_in_cgroup
            {
                let move_in = |dir: BorrowedFd<'_>| fd::write_at(dir, c"cgroup.procs", pid.to_string().as_bytes());
                home.enter(&mut runtime.slots, move_in).why(|| format!("error adding pid {pid} to cgroups"))?;
            }
            for (fd, kind) in own {
                match ns::setns(fd.as_fd(), kind) {
                    // A runtime in a user namespace has no rights over the pid namespace that it came from; it
                    // is still in it, only hooks that it runs are not, which are copies of it until they are executed.
                    Err(Errno::EPERM) if kind == libc::CLONE_NEWPID => {}
                    other => other.why(|| "returning to the runtime's own namespaces")?,
                }
            }
            // A runtime that has been in another time namespace read another clock there.
            let same_clock =
                through_user.is_none() && !for_children.iter().any(|(_, kind)| *kind == libc::CLONE_NEWTIME);
            Ok(Child { pid, pidfd, started: runtime.born.filter(|_| same_clock) })
        }
    }
}

/// The v2 cgroup that the process belongs in.
#[derive(Clone, Copy)]
struct Home<'a> {
    slot: super::Slot,
    busy: Option<&'a Elsewhere>,
}

impl Home<'_> {
    /// Does what takes the process there; where no process may be, in the other cgroup, which is then the one.
    fn enter<T>(
        self,
        slots: &mut Slots,
        go: impl Fn(BorrowedFd<'_>) -> crate::sys::Result<T>,
    ) -> crate::sys::Result<T> {
        let result = go(slots.get(self.slot)?);
        match (result, self.busy) {
            (Err(Errno::EBUSY), Some(Elsewhere(open))) => {
                let Some(other) = open() else { return Err(Errno::EBUSY) };
                slots.put(self.slot, other);
                go(slots.get(self.slot)?)
            }
            (other, _) => other,
        }
    }
}

/// clone3 into the v2 cgroup.
///
/// Without clone3 (a seccomp filter that hides it, answering ENOSYS), before Linux 5.7 (E2BIG), and for
/// a threaded or busy cgroup (EOPNOTSUPP, EBUSY with nowhere else to go), the process is made here and moved right afterwards.
fn clone_into(flags: u64, cgroup: Option<Home<'_>>, runtime: &mut Runtime) -> crate::sys::Result<Cloned> {
    let before = boot_ticks();
    let cloned = match cgroup {
        None => clone3(flags, None),
        Some(home) => match home.enter(&mut runtime.slots, |dir| clone3(flags, Some(dir))) {
            Err(Errno::ENOSYS | Errno::E2BIG | Errno::EOPNOTSUPP | Errno::EBUSY) => clone3(flags, None),
            other => {
                runtime.born_in_cgroup = other.is_ok();
                other
            }
        },
    };
    if let Ok(Cloned::Parent(..)) = cloned {
        runtime.born = Some(before).filter(|before| *before == boot_ticks());
    }
    cloned
}

/// Enters the namespaces that only children can be born in; gives back the way out of those that are not to be stayed in.
fn enter_for_children(list: &[(super::Slot, i32)], stays: bool, runtime: &Runtime) -> Result<Vec<(OwnedFd, i32)>> {
    let mut own = Vec::new();
    for (slot, kind) in list {
        if !stays {
            let path = own_namespace(*kind);
            own.push((fd::open(path, libc::O_RDONLY, 0).why(|| "opening the runtime's own namespace")?, *kind));
        }
        let target = runtime.slots.get(*slot).why(|| "joining a namespace")?;
        ns::setns(target, *kind).why(|| "joining a namespace")?;
    }
    Ok(own)
}

/// The child that enters an existing user namespace, clones init from there as its sibling, and ends.
fn go_between(user: BorrowedFd<'_>, spawn: &Spawn, slots: &Slots, theirs: &Option<OwnedFd>) -> Cloned {
    let Some(channel) = theirs.as_ref().map(OwnedFd::as_fd) else { process::exit(1) };
    let enter = || {
        ns::setns(user, libc::CLONE_NEWUSER)?;
        for (slot, kind) in &spawn.for_children {
            ns::setns(slots.get(*slot)?, *kind)?;
        }
        clone3(spawn.flags | libc::CLONE_PARENT as u64, None)
    };
    match enter() {
        Ok(Cloned::Child) => Cloned::Child,
        Ok(Cloned::Parent(pid, pidfd)) => {
            let _ = channel::send_fd(channel, &Frame::Pid(pid).encode(), pidfd.as_fd());
            process::exit(0)
        }
        Err(errno) => {
            let _ = channel::send(channel, &Frame::Fault(0, Fault::from(errno)).encode());
            process::exit(1)
        }
    }
}

/// The process that the go-between made; reaps the go-between.
fn sibling(channel: BorrowedFd<'_>, go_between: BorrowedFd<'_>) -> Result<Cloned> {
    let mut bytes = [0; SIZE];
    let pidfd = channel::recv_fd(channel, &mut bytes).why(|| "hearing from the go-between")?;
    process::wait(go_between, 0).why(|| "waiting for the go-between")?;
    match (pidfd, Frame::decode(&bytes)) {
        // The pid in the frame is the go-between's view, which differs in a joined pid namespace.
        (Some(pidfd), Some(Frame::Pid(_))) => {
            let pid = process::pid_of(pidfd.as_fd()).why(|| "asking for the container's pid")?;
            Ok(Cloned::Parent(pid, pidfd))
        }
        (_, Some(Frame::Fault(_, fault))) => Err(fault.errno).why(|| "joining the user namespace"),
        _ => Err(anyhow!("the go-between of the user namespace died")),
    }
}

fn become_init(
    plan: &Plan,
    runtime: &mut Runtime,
    ours: &OwnedFd,
    theirs: Option<OwnedFd>,
    trace: Option<&crate::sys::mem::Shared>,
    injected: Option<Injected>,
) -> ! {
    alloc::forbid();
    let Some(theirs) = theirs else { process::exit(1) };
    // The copy of the runtime's own end is closed, so that the runtime's death is end of file here.
    let lock = runtime.lock.as_ref().map(|lock| lock.as_fd());
    let binary = runtime.binary.as_ref().map(Binary::descriptor);
    let shared = [Some(ours.as_fd()), lock, binary].into_iter().flatten();
    if shared.map(fd::close_early).any(|closed| closed.is_err()) {
        process::exit(1);
    }
    let mut slots = std::mem::take(&mut runtime.slots);
    for slot in &plan.outside_only {
        drop(slots.take(*slot));
    }
    let mut init = Init::new(slots, theirs.as_fd());
    init::walk(plan, &mut init, plan.begins_at_once(runtime), trace, injected)
}

fn own_namespace(kind: i32) -> &'static std::ffi::CStr {
    match kind {
        libc::CLONE_NEWPID => c"/proc/self/ns/pid",
        libc::CLONE_NEWNET => c"/proc/self/ns/net",
        libc::CLONE_NEWUTS => c"/proc/self/ns/uts",
        libc::CLONE_NEWIPC => c"/proc/self/ns/ipc",
        libc::CLONE_NEWCGROUP => c"/proc/self/ns/cgroup",
        _ => c"/proc/self/ns/time",
    }
}
