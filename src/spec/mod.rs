//! Reading config.json: config.md and config-linux.md (runtime-spec v1.3.0).
//!
//! The text becomes JSON values, from which what oci-spec cannot hold is taken first; the rest is
//! typed and then checked, all before anything is done. Every message names its JSON path. What
//! needs the host to be judged (does a path exist, is AppArmor there) is judged by those who use it.

use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, bail};
use oci_spec::runtime::{LinuxSeccomp, Process, Spec};
use serde_json::Value;

use crate::error::{Result, Why};

mod at;
mod capabilities;
mod check;
pub mod defaults;
pub mod features;
mod gaps;
mod json;
mod linux;
mod list;
mod plain;
mod process;
mod resources;
mod spelling;
pub mod sysctl;

pub use at::At;
pub use capabilities::{Capabilities, capability_names, capability_names_of, capability_number};
pub use check::{HOOKS, VERSION_MAX, VERSION_MIN, hooks};
pub use gaps::CpuAffinity;
pub use json::is_unknown_field;
pub use linux::{
    MEMORY_POLICY_FLAGS, MEMORY_POLICY_MODES, NAMESPACES, memory_policy_flag, memory_policy_mode, namespace_name,
    personality_flag,
};
pub use list::IdSet;
pub use process::{RLIMITS, rlimit_number, scheduler_policy};

use gaps::Gaps;
use json::Document;

/// A config.json, read and checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// What is asked, typed. `process.capabilities`, `process.scheduler.flags` and
    /// `process.execCPUAffinity` are never in here: the fields below have them.
    pub spec: Box<Spec>,
    /// The text as it was read.
    pub text: Vec<u8>,
    /// What is odd but no error, for the user.
    pub warnings: Vec<String>,
    /// `linux.resources.pids.limit`, where given: 0 is a limit. Without it, the spec has no `pids` either.
    pub pids_limit: Option<i64>,
    /// `process.capabilities`, where given.
    pub capabilities: Option<Capabilities>,
    /// `process.scheduler.flags` as SCHED_FLAG_* of sched_setattr(2).
    pub scheduler_flags: u64,
    /// `process.execCPUAffinity`.
    pub cpu_affinity: CpuAffinity,
}

/// What is read of a configuration. All but the whole is for one that has been read as a whole before: it is not
/// checked again, beyond what its types say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Whole,
    /// What concerns a process that enters the container.
    Process,
    /// The hooks.
    Hooks,
}

impl Part {
    /// Names in another spelling are not in these lists, so that they are found and corrected.
    fn leaves_out(self, section: &str) -> bool {
        match self {
            Part::Whole => false,
            Part::Process => matches!(section, "annotations" | "domainname" | "hooks" | "hostname" | "mounts" | "root"),
            Part::Hooks => {
                matches!(section, "annotations" | "domainname" | "hostname" | "linux" | "mounts" | "process" | "root")
            }
        }
    }

    fn leaves_out_of_linux(self, section: &str) -> bool {
        const OTHERS: [&str; 14] = [
            "cgroupsPath",
            "devices",
            "gidMappings",
            "intelRdt",
            "maskedPaths",
            "mountLabel",
            "namespaces",
            "netDevices",
            "readonlyPaths",
            "resources",
            "rootfsPropagation",
            "sysctl",
            "timeOffsets",
            "uidMappings",
        ];
        self != Part::Whole && OTHERS.contains(&section)
    }
}

/// A process.json of `exec --process`, read and checked.
#[derive(Debug, Clone)]
pub struct ProcessConfig {
    /// What is asked, typed; without what the fields below have.
    pub process: Process,
    /// What is odd but no error, for the user.
    pub warnings: Vec<String>,
    /// `capabilities`, where given.
    pub capabilities: Option<Capabilities>,
    /// `scheduler.flags` as SCHED_FLAG_* of sched_setattr(2).
    pub scheduler_flags: u64,
    /// `execCPUAffinity`.
    pub cpu_affinity: CpuAffinity,
}

impl Config {
    /// Reads the config.json of a bundle.
    ///
    /// # Errors
    /// The file cannot be read, or it is not a valid configuration.
    pub fn open(bundle: &Path) -> Result<Config> {
        let path = bundle.join("config.json");
        match std::fs::read(&path) {
            Ok(text) => Config::read(text),
            Err(e) if e.kind() == ErrorKind::NotFound => bail!("JSON specification file config.json not found"),
            Err(e) => Err(e).why(|| format!("open {}", path.display())),
        }
    }

    /// Reads a configuration.
    ///
    /// # Errors
    /// The text is not a valid configuration; the message has the JSON path.
    pub fn read(text: Vec<u8>) -> Result<Config> {
        Config::read_part(text, Part::Whole)
    }

    /// Reads a part of a configuration.
    ///
    /// # Errors
    /// As [`Config::read`].
    pub fn read_part(text: Vec<u8>, part: Part) -> Result<Config> {
        let mut config = parse(&text, part).context("config.json")?;
        config.text = text;
        config.warnings.iter_mut().for_each(|warning| warning.insert_str(0, "config.json: "));
        Ok(config)
    }
}

fn parse(text: &[u8], part: Part) -> Result<Config> {
    let text = json::utf8(text)?;
    let read = parse_as_spelled(text, part);
    match needs_correction(&read, |config| &config.warnings).then(|| spelling::corrected(text, &At::Root)).flatten() {
        Some((text, mut warnings)) => {
            let mut config = parse_as_spelled(&text, part)?;
            warnings.append(&mut config.warnings);
            Ok(Config { warnings, ..config })
        }
        None => read,
    }
}

/// Whether what was read may have fields in another spelling: the usual text, which has none, is not searched for them.
fn needs_correction<T>(read: &Result<T>, warnings: impl FnOnce(&T) -> &Vec<String>) -> bool {
    read.as_ref().map_or(true, |read| warnings(read).iter().any(|warning| is_unknown_field(warning)))
}

fn parse_as_spelled(text: &str, part: Part) -> Result<Config> {
    parse_document(Document::split(text, part)?, text, part)
}

fn parse_document(mut document: Document<'_>, text: &str, part: Part) -> Result<Config> {
    let mut warnings = Vec::new();
    let mut gaps = Gaps::take(&mut document.value, &mut warnings)?;
    let mut spec: Box<Spec> = json::typed(document.value, &At::Root, &mut warnings, || {
        let mut again = Document::split(text, part)?.value;
        Gaps::take(&mut again, &mut Vec::new())?;
        Ok(again)
    })?;
    gaps.capabilities = gaps.capabilities.or(document.plain.capabilities);
    document.plain.complete(&mut spec);
    if let Some(raw) = document.seccomp.filter(|raw| is_profile(raw.get())) {
        let seccomp = profile(raw.get(), text, &mut warnings)?;
        if let Some(linux) = spec.linux_mut() {
            linux.set_seccomp(Some(seccomp));
        }
    }
    if part == Part::Whole {
        check::spec(&mut spec, &mut warnings)?;
    }
    let Gaps { capabilities, pids_limit, scheduler_flags, cpu_affinity } = gaps;
    Ok(Config { spec, text: Vec::new(), warnings, pids_limit, capabilities, scheduler_flags, cpu_affinity })
}

/// Reads `linux.seccomp`, which is this part of the text.
#[inline(never)]
fn profile(part: &str, text: &str, warnings: &mut Vec<String>) -> Result<LinuxSeccomp> {
    let at = At::Root.key("linux");
    let at = at.key("seccomp");
    if !part.starts_with('{') {
        return Err(json::not_an_object(&serde_json::from_str(part)?, &at));
    }
    json::typed_text(part, text, &at, warnings)
}

/// Whether a seccomp section asks for anything: without default action and system calls, it is none (as in runc).
fn is_profile(text: &str) -> bool {
    // In whatever spelling, which is corrected later.
    let named = |field: &'static str| move |(key, _): &(&String, &Value)| key.eq_ignore_ascii_case(field);
    let unset = |value: &Value, field| match value.as_object().and_then(|members| members.iter().find(named(field))) {
        Some((_, Value::String(text))) => text.is_empty(),
        Some((_, Value::Array(items))) => items.is_empty(),
        Some((_, Value::Null)) | None => true,
        Some(_) => false,
    };
    // Only a short text can be empty: profiles are not parsed twice.
    let short = if text.len() < 512 { serde_json::from_str(text).ok() } else { None };
    !short.is_some_and(|value: Value| {
        value.is_null() || value.is_object() && unset(&value, "defaultAction") && unset(&value, "syscalls")
    })
}

/// Reads the file of `exec --process`. Its paths begin with `process.`, as in config.json.
///
/// # Errors
/// The text is not a valid process; the message has the JSON path.
pub fn read_process(text: &[u8]) -> Result<ProcessConfig> {
    let text = json::utf8(text)?;
    let read = read_process_as_spelled(text);
    let correct = || spelling::corrected(text, &At::Root.key("process"));
    match needs_correction(&read, |process| &process.warnings).then(correct).flatten() {
        Some((text, mut warnings)) => {
            let mut process = read_process_as_spelled(&text)?;
            warnings.append(&mut process.warnings);
            Ok(ProcessConfig { warnings, ..process })
        }
        None => read,
    }
}

fn read_process_as_spelled(text: &str) -> Result<ProcessConfig> {
    let at = At::Root.key("process");
    let mut warnings = Vec::new();
    let (gaps, value) = prepare_process(text, &mut warnings)?;
    let process: Process = json::typed(value, &at, &mut warnings, || Ok(prepare_process(text, &mut Vec::new())?.1))?;
    process::check(&process, &at, &mut warnings)?;
    let Gaps { capabilities, scheduler_flags, cpu_affinity, .. } = gaps;
    Ok(ProcessConfig { process, warnings, capabilities, scheduler_flags, cpu_affinity })
}

fn prepare_process(text: &str, warnings: &mut Vec<String>) -> Result<(Gaps, Value)> {
    // The version stands for the document around the process, which this file leaves out.
    let mut document =
        serde_json::json!({ "ociVersion": VERSION_MAX, "process": json::read(text, &At::Root.key("process"))? });
    let gaps = Gaps::take(&mut document, warnings)?;
    Ok((gaps, document["process"].take()))
}
