//! Faults on purpose, in debug builds: `ORLOP_FAULT=fail:N` fails step N of the plan, `kill:N` sends the
//! runtime SIGKILL when it gets there. The fault tests run every N and assert that nothing is left.

/// What is to happen, and at which step (counted over the steps before and after the clone).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Injected {
    /// The step fails with EUCLEAN, an errno that no step gives by itself.
    Fail(usize),
    /// The runtime process is killed as the step begins; one more than there are kills it after the last. A step of
    /// init goes on meanwhile.
    Kill(usize),
}

/// The fault asked for by the environment; release builds have none.
pub fn injected() -> Option<Injected> {
    if !cfg!(debug_assertions) {
        return None;
    }
    let text = std::env::var("ORLOP_FAULT").ok()?;
    let (kind, step) = text.split_once(':')?;
    let step = step.parse().ok()?;
    match kind {
        "fail" => Some(Injected::Fail(step)),
        "kill" => Some(Injected::Kill(step)),
        _ => None,
    }
}
