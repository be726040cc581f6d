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

/// The actions that profiles may name.
pub const ACTIONS: [&str; 9] = [
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_TRAP",
];

/// The comparisons of arguments.
pub const OPERATORS: [&str; 7] =
    ["SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE"];

/// The flags that profiles may set.
pub const FLAGS: [&str; 4] = [
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
];

/// The architectures whose system calls are known.
pub fn architectures() -> Vec<String> {
    arch::names()
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

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::{LinuxSeccompAction, LinuxSeccompFilterFlag, LinuxSeccompOperator};

    fn reads<T: serde::de::DeserializeOwned>(names: &[&str]) -> bool {
        names.iter().all(|name| serde_json::from_value::<T>((*name).into()).is_ok())
    }

    #[test]
    fn the_names_of_features_are_those_of_config_json() {
        assert!(reads::<LinuxSeccompAction>(&ACTIONS) && reads::<LinuxSeccompOperator>(&OPERATORS));
        assert!(reads::<LinuxSeccompFilterFlag>(&FLAGS));
        assert!(architectures().contains(&"SCMP_ARCH_X86_64".to_owned()));
    }
}
