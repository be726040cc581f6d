//! `--trace FILE`: when each step of both processes began and ended, in the Chrome trace format
//! (<https://ui.perfetto.dev> and chrome://tracing read it). Times are microseconds of CLOCK_MONOTONIC.

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::init::store;
use super::{Plan, Step};
use crate::error::{Result, Why};
use crate::sys::mem::{Shared, monotonic_ns};

/// What has been measured so far, to be written when the command ends.
#[derive(Debug, Default)]
pub struct Trace {
    file: Option<PathBuf>,
    began: u64,
    events: Vec<Value>,
}

impl Trace {
    /// A trace that goes to `file`, or nowhere.
    pub fn new(file: Option<PathBuf>) -> Trace {
        Trace { began: if file.is_some() { monotonic_ns() } else { 0 }, file, events: Vec::new() }
    }

    /// Notes a stretch of the command that is no step, such as reading config.json.
    pub fn span<T>(&mut self, name: &str, work: impl FnOnce() -> T) -> T {
        if self.file.is_none() {
            return work();
        }
        let begin = monotonic_ns();
        let result = work();
        self.push(name, "runtime", begin, monotonic_ns());
        result
    }

    fn push(&mut self, name: &str, actor: &str, begin: u64, end: u64) {
        let tid = if actor == "inside" { 2 } else { 1 };
        self.events.push(json!({
            "name": name, "cat": actor, "ph": "X", "pid": 1, "tid": tid,
            "ts": (begin - self.began.min(begin)) as f64 / 1000.0, "dur": (end.saturating_sub(begin)) as f64 / 1000.0,
        }));
    }

    /// The clock of one plan's walk.
    pub(super) fn start(&self, steps: usize) -> Result<Clock> {
        if self.file.is_none() {
            return Ok(Clock::default());
        }
        let shared = Shared::new(steps * 2).why(|| "mapping memory for --trace")?;
        Ok(Clock { shared: Some(shared), cloning: monotonic_ns(), cloned: 0 })
    }

    /// Writes the file, if one was asked for.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&mut self) -> Result<()> {
        let Some(file) = self.file.take() else { return Ok(()) };
        self.file = Some(file.clone());
        self.push("orlop", "runtime", self.began, monotonic_ns());
        self.file = None;
        let mut events = vec![
            json!({"name": "thread_name", "ph": "M", "pid": 1, "tid": 1, "args": {"name": "outside (runtime)"}}),
            json!({"name": "thread_name", "ph": "M", "pid": 1, "tid": 2, "args": {"name": "inside (container's init)"}}),
        ];
        events.append(&mut self.events);
        let text = json!({"traceEvents": events, "displayTimeUnit": "ns"}).to_string();
        std::fs::write(&file, text).why(|| format!("--trace {file:?}"))
    }
}

/// The readings of one walk; empty when no trace was asked for.
#[derive(Debug, Default)]
pub(super) struct Clock {
    shared: Option<Shared>,
    cloning: u64,
    cloned: u64,
}

impl Clock {
    pub(super) fn shared(&self) -> Option<&Shared> {
        self.shared.as_ref()
    }

    pub(super) fn now(&self) -> u64 {
        if self.shared.is_some() { monotonic_ns() } else { 0 }
    }

    pub(super) fn note(&mut self, step: usize, begin: u64) {
        if let Some(shared) = &self.shared {
            store(shared, step, begin);
            if self.cloned == 0 {
                self.cloning = monotonic_ns();
            }
        }
    }

    pub(super) fn spawned(&mut self) {
        self.cloned = self.now();
    }

    pub(super) fn finish(&mut self, plan: &Plan, trace: &mut Trace) -> Result<()> {
        let Some(shared) = &self.shared else { return Ok(()) };
        if plan.clones() {
            let words = plan.spawn_words_for_trace();
            trace.push(&words, "runtime", self.cloning, self.cloned);
        }
        let reading = |at: usize| shared.values().get(at).map_or(0, |value| value.load(Ordering::Relaxed));
        let before = plan.before.iter().map(|step| (step.to_string(), "outside"));
        let after = plan.steps.iter().map(|step| match step {
            Step::Outside(step) | Step::Alongside(step) => (step.to_string(), "outside"),
            Step::Inside(step) => (step.to_string(), "inside"),
        });
        for (index, (name, actor)) in before.chain(after).enumerate() {
            let (begin, end) = (reading(index * 2), reading(index * 2 + 1));
            if begin != 0 {
                trace.push(&name, actor, begin, end);
            }
        }
        Ok(())
    }
}

impl Plan {
    fn spawn_words_for_trace(&self) -> String {
        self.to_string().lines().find_map(|line| line.strip_prefix("spawn    ")).unwrap_or("cloning").to_owned()
    }
}
