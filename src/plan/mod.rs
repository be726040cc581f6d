//! One plan, two actors: everything that a command will do, decided before the clone, in order, and by whom.
//!
//! A [`Step`] is done outside by the runtime (std, allocation, rich errors) or inside by the
//! container's first process (system calls on prepared data). Both hold the same list after the
//! clone and walk it; the only message is a small [`frame::Frame`] when a turn ends. A failure
//! inside is an index into the list, so its words come from the step itself, in the runtime.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use crate::error::{Result, errno_text};

pub mod fault;
pub mod frame;
pub mod init;
pub mod show;
pub mod trace;
pub mod walk;

pub use init::Init;
pub use walk::Runtime;

/// A step of the runtime process. `Display` is a gerund: `joining cgroup "/x"`.
pub trait Outside: fmt::Display {
    /// Does it.
    ///
    /// # Errors
    /// Why it could not be done; the walk adds the step's own words in front.
    fn run(&self, runtime: &mut Runtime) -> Result<()>;
}

/// A step of the container's init. `Display` is a gerund: `mounting "proc" to rootfs at "/proc"`.
pub trait Inside: fmt::Display {
    /// Does it, without allocating.
    ///
    /// # Errors
    /// The errno, and a detail that `explain` can put into words.
    fn run(&self, init: &mut Init<'_>) -> std::result::Result<(), Fault>;

    /// Why it failed, in words; run in the runtime, where allocation is allowed.
    fn explain(&self, fault: Fault) -> String {
        errno_text(fault.errno)
    }

    /// Whether the runtime tells init at this step that what goes on beside its turn so far is done.
    fn meets(&self) -> bool {
        false
    }

    /// Whether the message stands alone, without what failed on the way up to it.
    fn speaks_alone(&self) -> bool {
        false
    }

    /// The whole message, for the few steps whose wording callers match.
    fn message(&self, fault: Fault) -> String {
        format!("error {self}: {}", self.explain(fault))
    }
}

/// How an inside step failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// The system call's errno.
    pub errno: Errno,
    /// Which part of the step failed; its meaning is the step's.
    pub detail: u64,
}

impl From<Errno> for Fault {
    fn from(errno: Errno) -> Fault {
        Fault { errno, detail: 0 }
    }
}

impl Fault {
    /// A fault of the part `detail` of a step.
    pub fn at(detail: u64) -> impl Fn(Errno) -> Fault {
        move |errno| Fault { errno, detail }
    }
}

/// One entry of the list.
pub enum Step {
    /// Done by the runtime.
    Outside(Box<dyn Outside>),
    /// Done by the container's init.
    Inside(Box<dyn Inside>),
    /// Done by the runtime while init does its steps of the same turn; the turn ends when both have, and a step that
    /// [meets](Inside::meets) begins what relies on it earlier than that.
    Alongside(Box<dyn Outside>),
}

/// A place for a descriptor that one step opens and another uses. The clone copies all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot(usize);

/// The descriptors of a plan, by [`Slot`].
#[derive(Debug, Default)]
pub struct Slots(Vec<Option<OwnedFd>>);

impl Slots {
    /// Empty places for `count` slots.
    pub fn new(count: usize) -> Slots {
        Slots((0..count).map(|_| None).collect())
    }

    /// The descriptor, or EBADF when no step has opened it.
    pub fn get(&self, slot: Slot) -> std::result::Result<BorrowedFd<'_>, Errno> {
        self.0.get(slot.0).and_then(Option::as_ref).map(AsFd::as_fd).ok_or(Errno::EBADF)
    }

    /// Puts a descriptor there; the former one is closed.
    pub fn put(&mut self, slot: Slot, fd: OwnedFd) {
        if let Some(place) = self.0.get_mut(slot.0) {
            *place = Some(fd);
        }
    }

    /// Takes it out.
    pub fn take(&mut self, slot: Slot) -> Option<OwnedFd> {
        self.0.get_mut(slot.0).and_then(Option::take)
    }
}

/// Opens another cgroup than the one that was planned.
pub struct Elsewhere(pub Box<dyn Fn() -> Option<OwnedFd>>);

impl fmt::Debug for Elsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Elsewhere")
    }
}

/// How the container's first process is made.
#[derive(Debug, Default)]
pub struct Spawn {
    /// CLONE_NEW* of the new namespaces.
    pub flags: u64,
    /// The v2 cgroup to be born in.
    pub cgroup: Option<Slot>,
    /// Where to go where no process may be in that one.
    pub busy: Option<Elsewhere>,
    /// Namespaces of existing containers that only children can enter (pid), with their CLONE_NEW* flag.
    pub for_children: Vec<(Slot, i32)>,
    /// Whether the runtime stays in those, as nothing else will be born to it.
    pub stays: bool,
    /// A user namespace to enter first: a go-between enters it and clones from there with CLONE_PARENT.
    pub through_user: Option<Slot>,
    /// Whether /proc/PID of the new process is hidden from the container's processes from its first moment.
    pub hidden: bool,
}

/// Everything that will be done.
#[derive(Default)]
pub struct Plan {
    before: Vec<Box<dyn Outside>>,
    /// The clone.
    pub spawn: Spawn,
    steps: Vec<Step>,
    slots: usize,
    /// Slots that init closes at once, as end of file at their other end is how it learns of the runtime's death.
    outside_only: Vec<Slot>,
    /// Things that the user should know, printed as warnings when the plan runs and by the dry run.
    pub warnings: Vec<String>,
    /// Values that no step shows, for `--debug`.
    pub remarks: Vec<String>,
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_string())
    }
}

impl Plan {
    /// An empty plan.
    pub fn new() -> Plan {
        Plan::default()
    }

    /// A place for a descriptor.
    pub fn slot(&mut self) -> Slot {
        self.slots += 1;
        Slot(self.slots - 1)
    }

    /// A place for a descriptor that init must not hold open.
    pub fn outside_slot(&mut self) -> Slot {
        let slot = self.slot();
        self.outside_only.push(slot);
        slot
    }

    /// Adds a step of the runtime before the clone.
    pub fn before(&mut self, step: impl Outside + 'static) {
        self.before.push(Box::new(step));
    }

    /// Adds a step of the runtime after the clone.
    pub fn outside(&mut self, step: impl Outside + 'static) {
        self.steps.push(Step::Outside(Box::new(step)));
    }

    /// Adds a step of the runtime that goes on beside the inside steps of its turn.
    ///
    /// For what takes long and what no inside step of the turn relies on (or waits for by itself).
    pub fn alongside(&mut self, step: impl Outside + 'static) {
        self.steps.push(Step::Alongside(Box::new(step)));
    }

    /// Adds a step of the container's init.
    pub fn inside(&mut self, step: impl Inside + 'static) {
        self.steps.push(Step::Inside(Box::new(step)));
    }

    /// Adds a step in which init waits for all that goes on beside its turn. Most often it is done by then.
    pub fn meet(&mut self) {
        self.inside(init::Meet);
    }

    /// Whether the clone is part of it: else there are steps of the runtime alone.
    fn clones(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Inside(_)))
    }

    /// How far init walks: what is behind is done when it has executed its program.
    fn inside_end(&self) -> usize {
        self.steps.iter().rposition(|step| matches!(step, Step::Inside(_))).map_or(0, |last| last + 1)
    }

    /// Gives the steps of the runtime away, for a step that does them at a moment that it is told of.
    pub fn into_outside(self) -> Vec<Box<dyn Outside>> {
        let after = self.steps.into_iter().filter_map(|step| match step {
            Step::Outside(step) | Step::Alongside(step) => Some(step),
            Step::Inside(_) => None,
        });
        self.before.into_iter().chain(after).collect()
    }

    /// Something that is odd but no error.
    pub fn warn(&mut self, message: impl Into<String>) {
        self.warnings.push(message.into());
    }

    /// A value that is worth knowing when something is looked for.
    pub fn remark(&mut self, message: impl Into<String>) {
        self.remarks.push(message.into());
    }

    /// How many steps there are, before and after the clone.
    pub fn len(&self) -> usize {
        self.before.len() + self.steps.len()
    }

    /// Whether nothing is to be done.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Two ways to do one thing: the second is tried where the first fails with one of these errnos.
pub struct Either<A, B> {
    /// Tried first.
    pub first: A,
    /// Tried when the first failed with one of `on`.
    pub second: B,
    /// The errnos that mean "not here".
    pub on: &'static [Errno],
}

impl<A: fmt::Display, B: fmt::Display> fmt::Display for Either<A, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (or {})", self.first, self.second)
    }
}

impl<A: Inside, B: Inside> Inside for Either<A, B> {
    fn run(&self, init: &mut Init<'_>) -> std::result::Result<(), Fault> {
        match self.first.run(init) {
            Err(fault) if self.on.contains(&fault.errno) => self.second.run(init),
            other => other,
        }
    }
}
