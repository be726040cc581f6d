//! `run`: create and start in one, in the foreground or detached.

use anyhow::anyhow;

use super::create::{Created, Request, create};
use super::foreground::{self, Signals};
use super::id::ContainerId;
use super::record::Record;
use super::{Context, delete, start};
use crate::error::{Result, Why};
use crate::process::console::Target;
use crate::spec::Config;
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
        drop(created.runtime.binary.take());
        let result = started(context, &created).and_then(|()| {
            let child = created.runtime.take_child();
            created.notify.as_mut().zip(child).map_or(Ok(()), |(notify, child)| notify.wait_for(&child))
        });
        if result.is_err() {
            remove(context, &created.record, &created.config)?;
        }
        std::mem::forget(created);
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
    drop(created.runtime.binary.take());
    let result = started(context, &created).and_then(|()| {
        context.trace.span("waiting for the container", || {
            foreground::wait(&child, &signals, created.runtime.terminal.take(), created.notify.take())
        })
    });
    if result.is_err() {
        child.end();
    }
    if !manner.keep {
        remove(context, &created.record, &created.config)?;
    }
    // Not taken apart, as the process ends.
    std::mem::forget((created, child, signals));
    result
}

/// The poststart hooks; a failing one ends the container.
fn started(context: &Context, created: &Created) -> Result<()> {
    start::poststart(context, &created.record, &created.config)
}

/// Removes a container that has ended, unless somebody else has done it.
///
/// # Errors
/// As [`delete::destroy`].
pub(super) fn remove(context: &mut Context, record: &Record, config: &Config) -> Result<()> {
    let seat = match context.store.open(&ContainerId::new(&record.id)?) {
        Err(error) if error.is::<super::store::NotFound>() => return Ok(()),
        other => other?,
    };
    context.trace.span("removing the container", || delete::destroy(record, seat))?;
    delete::poststop(context, record, config);
    Ok(())
}
