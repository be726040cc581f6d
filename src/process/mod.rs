//! The container's process: config.md#process (runtime-spec v1.3.0). The same steps serve init and `exec`.

pub mod caps;
pub mod console;
pub mod fds;
pub mod labels;
pub mod program;
pub mod rlimits;
pub mod sched;
pub mod user;
