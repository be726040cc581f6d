//! The inside walk: what the container's init does with the plan. Nothing here allocates or decides.

use std::fmt;
use std::os::fd::BorrowedFd;
use std::sync::atomic::Ordering;

use nix::errno::Errno;

use super::fault::Injected;
use super::frame::{Frame, SIZE};
use super::{Fault, Inside, Plan, Slot, Slots, Step};
use crate::sys::mem::{Shared, monotonic_ns};
use crate::sys::{channel, process};

/// What inside steps work on.
pub struct Init<'a> {
    /// The descriptors of the plan.
    pub slots: Slots,
    channel: BorrowedFd<'a>,
    /// After the wait for `start` nobody listens on the channel: faults go into the exec fifo. With it goes the place of
    /// the wait in the list, as `start` counts the steps from there.
    started: Option<(Slot, u32)>,
    /// Where the step being run stands in the list.
    step: u32,
    end: u32,
    /// `HOME=…`, looked up in the image when the plan found none.
    pub home: [u8; 4096],
    /// Which of the program's candidates was found.
    pub program: usize,
    /// What the next outside step is to know.
    pub word: u64,
    /// Whether the working directory has been reached.
    pub has_cwd: bool,
    /// Which path of the first step that masks is covered by an empty directory.
    pub covered: Option<usize>,
}

impl<'a> Init<'a> {
    /// The inside actor at the start of its walk.
    pub fn new(slots: Slots, channel: BorrowedFd<'a>) -> Init<'a> {
        Init {
            slots,
            channel,
            started: None,
            step: 0,
            end: 0,
            home: [0; 4096],
            program: 0,
            word: 0,
            has_cwd: false,
            covered: None,
        }
    }

    /// From now on faults are reported through the exec fifo, as `start` is the one that waits.
    pub fn report_to(&mut self, fifo: Slot) {
        self.started = Some((fifo, self.step));
    }

    /// Tells the runtime that everything has been done and the program is about to be executed.
    ///
    /// # Errors
    /// EPIPE when the runtime has died.
    pub fn about_to_exec(&self) -> Result<(), Errno> {
        if self.started.is_some() {
            return Ok(());
        }
        channel::send(self.channel, &Frame::Done(self.end, 0).encode())
    }

    fn fail(&self, index: u32, fault: Fault) -> Result<(), Errno> {
        match self.started {
            None => channel::send(self.channel, &Frame::Fault(index, fault).encode()),
            Some((fifo, wait)) => {
                let frame = Frame::Fault(index.saturating_sub(wait), fault);
                crate::sys::fd::write_once(self.slots.get(fifo)?, &frame.encode())
            }
        }
    }
}

/// Waits until it is this side's turn. End of file means that the runtime has died: then so does init.
fn wait_for_turn(channel: BorrowedFd<'_>) {
    let mut bytes = [0; SIZE];
    match channel::recv(channel, &mut bytes) {
        Ok(SIZE) => {}
        _ => process::exit(1),
    }
}

/// The end of what the runtime does beside init, in the middle of a turn.
pub(super) struct Meet;

impl fmt::Display for Meet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("waiting for the steps beside these")
    }
}

impl Inside for Meet {
    fn run(&self, init: &mut Init<'_>) -> Result<(), Fault> {
        wait_for_turn(init.channel);
        Ok(())
    }

    fn meets(&self) -> bool {
        true
    }
}

/// Walks the list; never returns, as the last step executes the program.
///
/// `at_once`: the first turn begins without a word of the runtime's.
pub fn walk(plan: &Plan, init: &mut Init<'_>, at_once: bool, trace: Option<&Shared>, injected: Option<Injected>) -> ! {
    init.end = plan.inside_end() as u32;
    // Modes of device nodes and mount points are meant as they are written; the process gets its own mask later.
    nix::sys::stat::umask(nix::sys::stat::Mode::empty());
    let mut mine = at_once;
    for (index, step) in plan.steps.iter().enumerate() {
        match step {
            Step::Outside(_) => {
                if mine && channel::send(init.channel, &Frame::Done(index as u32, init.word).encode()).is_err() {
                    process::exit(1);
                }
                mine = false;
            }
            Step::Alongside(_) => {}
            Step::Inside(step) => {
                if !mine {
                    wait_for_turn(init.channel);
                    mine = true;
                }
                init.step = index as u32;
                if injected == Some(Injected::Kill(plan.before.len() + index)) {
                    // The runtime dies when it hears this, while this process goes on with the step.
                    let _ = channel::send(init.channel, &Frame::Die.encode());
                }
                let begin = trace.map(|_| monotonic_ns());
                let failed = injected == Some(Injected::Fail(plan.before.len() + index));
                let result = if failed { Err(Fault::from(Errno::EUCLEAN)) } else { step.run(init) };
                if let (Some(trace), Some(begin)) = (trace, begin) {
                    store(trace, plan.before.len() + index, begin);
                }
                if let Err(fault) = result {
                    let _ = init.fail(index as u32, fault);
                    process::exit(1);
                }
            }
        }
    }
    // Only a plan without a program gets here; every real plan ends in an exec step.
    process::exit(0)
}

/// Notes when a step began and ended.
pub(super) fn store(trace: &Shared, step: usize, begin: u64) {
    if let [first, second, ..] = trace.values().get(step * 2..).unwrap_or_default() {
        first.store(begin, Ordering::Relaxed);
        second.store(monotonic_ns(), Ordering::Relaxed);
    }
}
