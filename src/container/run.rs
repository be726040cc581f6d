//! `run`: create and start in one, in the foreground or detached.

use anyhow::anyhow;

use super::create::{Created, Request, create};
use super::foreground::{self, Signals};
use super::{Context, delete, start};
use crate::error::{Result, Why};
use crate::process::console::Target;
use crate::sys::process;

/// How `run` behaves beyond the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Manner {
    /// Whether it returns once the program runs.
    pub detach: bool,
    /// Whether the container stays when it has ended.
    pub keep: bool,
    /// Whether the container's orphans become children of this process.
    pub subreaper: bool,
}

/// Runs a container; gives its exit status, 0 when detached.
///
/// # Errors
/// Whatever fails; nothing is left behind then.
pub fn run(context: &mut Context, request: &Request, manner: Manner) -> Result<i32> {
    if manner.detach {
        let mut created = create(context, request)?;
        let result = started(context, &created).and_then(|()| {
            let child = created.runtime.take_child();
            created.notify.as_mut().zip(child).map_or(Ok(()), |(notify, child)| notify.wait_for(&child))
        });
        if result.is_err() {
            remove(context, request, &created)?;
        }
        return result.map(|()| 0);
    }
    let signals = Signals::block()?;
    if manner.subreaper {
        process::set_child_subreaper().why(|| "becoming a subreaper")?;
    }
    let mut request = request.clone();
    request.terminal.get_or_insert(Target::Foreground);
    let mut created = create(context, &request)?;
    let child = created.runtime.take_child().ok_or_else(|| anyhow!("the container has no process"))?;
    let result = started(context, &created).and_then(|()| {
        context.trace.span("waiting for the container", || {
            foreground::wait(&child, &signals, created.runtime.terminal.take(), created.notify.take())
        })
    });
    if result.is_err() {
        child.end();
    }
    if !manner.keep {
        remove(context, &request, &created)?;
    }
    result
}

/// The poststart hooks; a failing one ends the container.
fn started(context: &Context, created: &Created) -> Result<()> {
    start::poststart(context, &created.record, &created.config)
}

fn remove(context: &mut Context, request: &Request, created: &Created) -> Result<()> {
    let seat = match context.store.open(&request.id) {
        // Somebody else has deleted it already.
        Err(error) if error.is::<super::store::NotFound>() => return Ok(()),
        other => other?,
    };
    context.trace.span("removing the container", || delete::destroy(&created.record, seat))?;
    delete::poststop(context, &created.record, &created.config);
    Ok(())
}
