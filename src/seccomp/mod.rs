//! Seccomp: config-linux.md#seccomp (runtime-spec v1.3.0).
//!
//! A profile becomes one BPF program that answers as the program that runc and crun make of it with libseccomp: the same for
//! every architecture, system call and argument. `docs/seccomp.md` says how profiles are read and where they differ.

mod arch;
mod compile;
mod emit;
mod filter;

mod graph;
pub mod load;
mod order;
mod table;

use anyhow::Result;
use oci_spec::runtime::{Arch, LinuxSeccomp};
use std::path::PathBuf;

/// A filter that is ready to be loaded.
pub struct Filter {
    /// What the kernel runs at every system call.
    pub program: Vec<libc::sock_filter>,
    /// `SECCOMP_FILTER_FLAG_*`, with NEW_LISTENER where a rule notifies.
    pub flags: u32,
    /// Who is to get the listener, where a rule notifies.
    pub listener: Option<Listener>,
    /// What is odd about the profile, as sentences for the log.
    pub warnings: Vec<String>,
}

/// The agent that answers for system calls with the action `SCMP_ACT_NOTIFY`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its socket, `listenerPath`.
    pub path: PathBuf,
    /// What it is told besides, `listenerMetadata`.
    pub metadata: Option<String>,
}

/// Compiles a profile for this machine; none if it would allow whatever can happen here.
pub fn compile(seccomp: &LinuxSeccomp) -> Result<Option<Filter>> {
    compile_for(seccomp, arch::NATIVE)
}

/// Compiles a profile for a machine whose own architecture is `native`.
pub fn compile_for(seccomp: &LinuxSeccomp, native: Arch) -> Result<Option<Filter>> {
    let mut profile = filter::Profile::read(seccomp, native)?;
    let Some(program) = compile::compile(&mut profile)? else { return Ok(None) };
    let filter::Profile { flags, listener, warnings, .. } = profile;
    Ok(Some(Filter { program, flags, listener, warnings }))
}
