//! The OCI life cycle: runtime.md (runtime-spec v1.3.0). Each operation is a file.

pub mod checkpoint;
pub mod create;
mod death;
pub mod delete;
pub mod events;
pub mod exec;
pub mod foreground;
pub mod id;
pub mod kill;
pub mod list;
pub mod notify;
pub mod pause;
pub mod process;
pub mod ps;
pub mod record;
pub mod restore;
pub mod run;
pub mod start;
pub mod state;
pub mod status;
pub mod steps;
pub mod store;
pub mod update;

use crate::host::Host;
use crate::log::Log;
use crate::plan::trace::Trace;
use crate::spec;
use crate::sys::exe::Binary;

/// What every operation works with.
pub struct Context {
    /// The machine.
    pub host: Host,
    /// Where containers are kept.
    pub store: store::Store,
    /// Where warnings go.
    pub log: Log,
    /// Where timings go.
    pub trace: Trace,
    /// The mount that the runtime runs from; a walk lets go of it when it has time.
    pub binary: Option<Binary>,
}

/// Tells what is odd about a configuration and its plan. What the specification has ignored is no news to a program
/// that takes anything on stderr for an error.
fn warn<'a>(log: &Log, warnings: impl Iterator<Item = &'a String>) {
    for warning in warnings {
        if spec::is_unknown_field(warning) {
            log.note(warning);
        } else {
            log.warn(warning);
        }
    }
}
