//! What oci-spec 0.10 cannot hold, taken out of the document before it is typed.
//!
//! * `process.capabilities`: unknown names are a warning in the specification, an error in oci-spec.
//! * `linux.resources.pids.limit`: absent is not 0, which forbids every further process.
//! * `process.scheduler.flags`: oci-spec spells two of them unlike the specification.
//! * `process.execCPUAffinity`: oci-spec refuses the spaces and empty entries that the schema allows,
//!   and compiles a regular expression to do it.
//! * `linux.resources.hugepageLimits[].limit`: unsigned in the specification, signed in oci-spec.
//! * `process.user`: may be left out; oci-spec requires it.
//! * Sections of other platforms: nothing in them matters here, not even whether they are well-formed.
//! * Fields that the specification requires and oci-spec reads as 0 or empty when they are missing.
//! * Arrays in place of objects: serde's derived readers take them for the members in their order.
//! * `null`, and `""` where the specification has a string to set: writers in Go, whose types do not
//!   tell them from an absent field, emit either.

use serde_json::{Map, Value};

use super::at::At;
use super::capabilities::Capabilities;
use super::json;
use super::list::IdSet;
use crate::error::Result;

/// Where the CPUs of exec'd processes are set: `process.execCPUAffinity`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpuAffinity {
    /// Before the move to the container's cgroup.
    pub initial: Option<IdSet>,
    /// After it: the member `final`.
    pub last: Option<IdSet>,
}

/// What was taken out.
#[derive(Debug, Clone, Default)]
pub struct Gaps {
    pub capabilities: Option<Capabilities>,
    pub pids_limit: Option<i64>,
    pub scheduler_flags: u64,
    pub cpu_affinity: CpuAffinity,
}

/// Sections that the specification has for other platforms.
const FOREIGN: &[&str] = &["freebsd", "solaris", "vm", "windows", "zos"];

/// Objects whose members are the user's own names and values: an empty string is a value there.
const MAPS: &[&str] = &["annotations", "sysctl", "unified"];

/// The objects of a document, with the fields that the specification requires although oci-spec has a
/// default for them. `*` is any element or member.
const OBJECTS: &[(&[&str], &[&str])] = &[
    (&[], &["ociVersion"]),
    (&["root"], &["path"]),
    (&["hooks"], &[]),
    (&["hooks", "*", "*"], &[]),
    (&["process"], &[]),
    (&["process", "user"], &[]),
    (&["process", "scheduler"], &[]),
    (&["process", "consoleSize"], &["height", "width"]),
    (&["process", "ioPriority"], &["class"]),
    (&["process", "rlimits", "*"], &["type", "soft", "hard"]),
    (&["mounts", "*"], &[]),
    (&["mounts", "*", "uidMappings", "*"], &["containerID", "hostID", "size"]),
    (&["mounts", "*", "gidMappings", "*"], &["containerID", "hostID", "size"]),
    (&["linux"], &[]),
    (&["linux", "namespaces", "*"], &[]),
    (&["linux", "netDevices", "*"], &[]),
    (&["linux", "intelRdt"], &[]),
    (&["linux", "memoryPolicy"], &[]),
    (&["linux", "personality"], &[]),
    (&["linux", "timeOffsets", "*"], &[]),
    (&["linux", "uidMappings", "*"], &["containerID", "hostID", "size"]),
    (&["linux", "gidMappings", "*"], &["containerID", "hostID", "size"]),
    (&["linux", "devices", "*"], &["type", "path"]),
    (&["linux", "resources"], &[]),
    (&["linux", "resources", "memory"], &[]),
    (&["linux", "resources", "cpu"], &[]),
    (&["linux", "resources", "pids"], &[]),
    (&["linux", "resources", "blockIO"], &[]),
    (&["linux", "resources", "network"], &[]),
    (&["linux", "resources", "rdma", "*"], &[]),
    (&["linux", "resources", "devices", "*"], &["allow"]),
    (&["linux", "resources", "hugepageLimits", "*"], &["pageSize", "limit"]),
    (&["linux", "resources", "network", "priorities", "*"], &["name", "priority"]),
    (&["linux", "resources", "blockIO", "weightDevice", "*"], &["major", "minor"]),
    (&["linux", "resources", "blockIO", "throttleReadBpsDevice", "*"], &["major", "minor", "rate"]),
    (&["linux", "resources", "blockIO", "throttleWriteBpsDevice", "*"], &["major", "minor", "rate"]),
    (&["linux", "resources", "blockIO", "throttleReadIOPSDevice", "*"], &["major", "minor", "rate"]),
    (&["linux", "resources", "blockIO", "throttleWriteIOPSDevice", "*"], &["major", "minor", "rate"]),
];

impl Gaps {
    /// Takes the gaps out of a document and makes the rest fit for oci-spec's types.
    pub fn take(value: &mut Value, warnings: &mut Vec<String>) -> Result<Gaps> {
        let mut gaps = Gaps::default();
        let Some(document) = value.as_object_mut() else { return Ok(gaps) };
        for section in FOREIGN {
            if document.remove(*section).is_some() {
                warnings.push(format!("{section}: not for Linux, ignored"));
            }
        }
        // oci-spec 0.10 has these two at the top, the specification has them in `linux` only.
        for stray in ["uidMappings", "gidMappings"] {
            if document.remove(stray).is_some() {
                warnings.push(json::unknown_field(&At::Root.key(stray)));
            }
        }
        document.iter_mut().for_each(|(key, member)| tidy(key, member));
        document.retain(|_, member| !is_unset(member));
        for (place, fields) in OBJECTS {
            require(value, place, fields, &At::Root)?;
        }
        if let Some(process) = value.get_mut("process").and_then(Value::as_object_mut) {
            gaps.take_process(process, warnings)?;
        }
        if let Some(linux) = value.get_mut("linux").and_then(Value::as_object_mut) {
            gaps.take_linux(linux)?;
        }
        Ok(gaps)
    }

    fn take_process(&mut self, process: &mut Map<String, Value>, warnings: &mut Vec<String>) -> Result<()> {
        let at = At::Root.key("process");
        if process.remove("commandLine").is_some() {
            warnings.push(format!("{}: not for Linux, ignored", at.key("commandLine")));
        }
        let user = process.entry("user").or_insert_with(|| Value::Object(Map::new()));
        if user.as_object_mut().is_some_and(|user| user.remove("username").is_some()) {
            warnings.push(format!("{}: not for Linux, ignored", at.key("user").key("username")));
        }
        if let Some(value) = process.remove("capabilities") {
            self.capabilities = Some(Capabilities::take(value, &at.key("capabilities"), warnings)?);
        }
        if let Some(flags) = process.get_mut("scheduler").and_then(|s| s.as_object_mut()?.remove("flags")) {
            self.scheduler_flags = super::process::scheduler_flags(flags, &at.key("scheduler").key("flags"))?;
        }
        if let Some(value) = process.remove("execCPUAffinity") {
            let at = at.key("execCPUAffinity");
            for (key, list) in json::object(value, &at)? {
                let at = at.key(&key);
                let place = match key.as_str() {
                    "initial" => &mut self.cpu_affinity.initial,
                    "final" => &mut self.cpu_affinity.last,
                    _ => {
                        warnings.push(json::unknown_field(&at));
                        continue;
                    }
                };
                *place = Some(IdSet::parse(&json::string(list, &at)?).map_err(|why| at.fault(why))?);
            }
        }
        Ok(())
    }

    fn take_linux(&mut self, linux: &mut Map<String, Value>) -> Result<()> {
        if let Some(devices) = linux.get("devices").and_then(Value::as_array) {
            for (i, device) in devices.iter().enumerate() {
                // A FIFO has no numbers; for all else, oci-spec would read a missing one as 0.
                if device.get("type").is_some_and(|kind| kind != "p") {
                    let at = At::Root.key("linux");
                    require(device, &[], &["major", "minor"], &at.key("devices").index(i))?;
                }
            }
        }
        let Some(resources) = linux.get_mut("resources").and_then(Value::as_object_mut) else { return Ok(()) };
        match resources.get("pids").map(|pids| pids.get("limit")) {
            Some(Some(limit)) => self.pids_limit = limit.as_i64(),
            // Docker writes `"pids": {}` for "no limit asked for".
            Some(None) if resources["pids"].is_object() => drop(resources.remove("pids")),
            _ => {}
        }
        for limit in resources.get_mut("hugepageLimits").and_then(Value::as_array_mut).into_iter().flatten() {
            // Nobody has 8 EiB of huge pages: the highest signed number limits as little.
            if let Some(bytes) = limit.get_mut("limit").filter(|bytes| bytes.as_u64() > Some(i64::MAX as u64)) {
                *bytes = Value::from(i64::MAX);
            }
        }
        Ok(())
    }
}

fn is_unset(value: &Value) -> bool {
    matches!(value, Value::Null) || value.as_str() == Some("")
}

/// Removes members that say nothing.
fn tidy(key: &str, value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| tidy("", item)),
        Value::Object(_) if MAPS.contains(&key) => {}
        Value::Object(map) => {
            let mut unset = false;
            for (key, member) in map.iter_mut() {
                tidy(key, member);
                unset |= is_unset(member);
            }
            if unset {
                map.retain(|_, member| !is_unset(member));
            }
        }
        _ => {}
    }
}

/// Demands that what stands at `place` is an object, and has `fields`.
fn require(value: &Value, place: &[&str], fields: &[&str], at: &At<'_>) -> Result<()> {
    match (place.split_first(), value) {
        (Some((&"*", rest)), Value::Array(items)) => {
            items.iter().enumerate().try_for_each(|(i, item)| require(item, rest, fields, &at.index(i)))
        }
        (Some((&"*", rest)), Value::Object(members)) => {
            members.iter().try_for_each(|(key, member)| require(member, rest, fields, &at.key(key)))
        }
        (Some((key, rest)), _) => value.get(key).map_or(Ok(()), |member| require(member, rest, fields, &at.key(key))),
        (None, Value::Object(members)) => match fields.iter().find(|field| !members.contains_key(**field)) {
            Some(field) => Err(at.key(field).fault("required")),
            None => Ok(()),
        },
        (None, other) => Err(json::not_an_object(other, at)),
    }
}
