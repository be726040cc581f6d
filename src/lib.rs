//! Stand-in for the crate's root while the seccomp part is built.
pub mod seccomp;
pub mod sys;
