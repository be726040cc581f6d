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

use crate::sys;
use anyhow::Result;
use oci_spec::runtime::{Arch, LinuxSeccomp};
use serde::Serialize;
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

/// What profiles may say here, as `linux.seccomp` of the features document (features-linux.md#seccomp).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Features {
    /// Always true: nothing has to be compiled in.
    pub enabled: bool,
    /// Values of `action` and `defaultAction`.
    pub actions: Vec<&'static str>,
    /// Values of `op`.
    pub operators: Vec<&'static str>,
    /// Values of `architectures`.
    pub archs: Vec<&'static str>,
    /// Values of `flags`.
    pub known_flags: Vec<&'static str>,
    /// Those that the running kernel takes.
    pub supported_flags: Vec<&'static str>,
}

const ACTIONS: [&str; 9] = [
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

const OPERATORS: [&str; 7] =
    ["SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE"];

const ARCHS: [&str; 18] = [
    "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_ARM",
    "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_RISCV64",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_X32",
    "SCMP_ARCH_X86",
    "SCMP_ARCH_X86_64",
];

/// The flags of profiles, each with what the kernel must take for it to work.
const FLAGS: [(&str, libc::c_ulong); 4] = [
    ("SECCOMP_FILTER_FLAG_TSYNC", 0),
    ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW),
    ("SECCOMP_FILTER_FLAG_LOG", libc::SECCOMP_FILTER_FLAG_LOG),
    (
        "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
        libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV | libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
    ),
];

/// What profiles may say on the running kernel.
pub fn features() -> Features {
    let supported = FLAGS.iter().filter(|(_, flags)| sys::seccomp::flags_available(*flags as u32));
    Features {
        enabled: true,
        actions: ACTIONS.to_vec(),
        operators: OPERATORS.to_vec(),
        archs: ARCHS.to_vec(),
        known_flags: FLAGS.iter().map(|(name, _)| *name).collect(),
        supported_flags: supported.map(|(name, _)| *name).collect(),
    }
}
