//! Fields in another case: runc's JSON reader takes `pagesize` for `pageSize`, and so do the configurations that
//! people have for it. Ignoring `noNewprivileges` would moreover leave out what was meant to protect.

use serde_json::{Map, Value};

use super::at::At;
use super::json;

/// The names of all fields. No two differ in case alone, so that one list serves all objects.
#[rustfmt::skip]
const NAMES: &[&str] = &[
    "access", "action", "additionalGids", "allow", "ambient", "annotations", "apparmorProfile", "architectures",
    "args", "blockIO", "boottime", "bounding", "burst", "capabilities", "cgroupsPath", "checkBeforeUpdate", "class",
    "classID", "closID", "commandLine", "consoleSize", "containerID", "cpu", "cpus", "createContainer",
    "createRuntime", "cwd", "deadline", "defaultAction", "defaultErrnoRet", "destination", "devices",
    "disableOOMKiller", "domain", "domainname", "effective", "enableMonitoring", "env", "errnoRet", "execCPUAffinity",
    "fileMode", "final", "flags", "gid", "gidMappings", "hard", "hcaHandles", "hcaObjects", "height", "hooks",
    "hostID", "hostname", "hugepageLimits", "idle", "index", "inheritable", "initial", "intelRdt", "ioPriority",
    "kernel", "kernelTCP", "l3CacheSchema", "leafWeight", "limit", "linux", "listenerMetadata", "listenerPath",
    "major", "maskedPaths", "memBwSchema", "memory", "memoryPolicy", "mems", "minor", "mode", "monotonic",
    "mountLabel", "mounts", "name", "names", "namespaces", "nanosecs", "netDevices", "network", "nice",
    "noNewPrivileges", "nodes", "ociVersion", "oomScoreAdj", "op", "options", "pageSize", "path", "period",
    "permitted", "personality", "pids", "policy", "poststart", "poststop", "prestart", "priorities", "priority",
    "process", "quota", "rate", "rdma", "readonly", "readonlyPaths", "realtimePeriod", "realtimeRuntime",
    "reservation", "resources", "rlimits", "root", "rootfsPropagation", "runtime", "scheduler", "schemata", "seccomp",
    "secs", "selinuxLabel", "shares", "size", "soft", "source", "startContainer", "swap", "swappiness", "syscalls",
    "sysctl", "terminal", "throttleReadBpsDevice", "throttleReadIOPSDevice", "throttleWriteBpsDevice",
    "throttleWriteIOPSDevice", "timeOffsets", "timeout", "type", "uid", "uidMappings", "umask", "unified",
    "useHierarchy", "user", "username", "value", "valueTwo", "weight", "weightDevice", "width",
];

/// Fields whose members have names of the user's own.
const FREE: [&str; 5] = ["annotations", "netDevices", "rdma", "sysctl", "unified"];

/// The text with its fields spelled as in the specification, and a warning for each that was not; nothing if all were.
pub fn corrected(text: &str, at: &At<'_>) -> Option<(String, Vec<String>)> {
    let mut value = serde_json::from_str(text).ok()?;
    let mut warnings = Vec::new();
    correct(&mut value, at, Names::Specified, &mut warnings);
    (!warnings.is_empty()).then(|| (value.to_string(), warnings))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Names {
    Specified,
    Free,
}

fn correct(value: &mut Value, at: &At<'_>, names: Names, warnings: &mut Vec<String>) {
    match value {
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                correct(item, &at.index(index), Names::Specified, warnings);
            }
        }
        Value::Object(map) => {
            if names == Names::Specified {
                rename(map, at, warnings);
            }
            for (key, member) in map {
                match names {
                    Names::Free => correct(member, &at.key(key), Names::Specified, warnings),
                    Names::Specified if FREE.contains(&key.as_str()) => {
                        correct(member, &at.key(key), Names::Free, warnings);
                    }
                    // What the specification does not have, or has for another platform, is left alone.
                    Names::Specified if NAMES.binary_search(&key.as_str()).is_ok() => {
                        correct(member, &at.key(key), Names::Specified, warnings);
                    }
                    Names::Specified => {}
                }
            }
        }
        _ => {}
    }
}

fn rename(map: &mut Map<String, Value>, at: &At<'_>, warnings: &mut Vec<String>) {
    let wrong: Vec<String> = map.keys().filter(|key| NAMES.binary_search(&key.as_str()).is_err()).cloned().collect();
    for key in wrong {
        let Some(name) = NAMES.iter().find(|name| name.eq_ignore_ascii_case(&key)) else { continue };
        if !map.contains_key(*name)
            && let Some(member) = map.remove(&key)
        {
            warnings.push(json::respelled_field(&at.key(&key), name));
            map.insert((*name).to_owned(), member);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_names_are_those_of_the_schema_in_order() {
        let fields = include_str!("../../tests/spec-fields.txt").lines().filter(|line| !line.starts_with('#'));
        let paths = fields.filter_map(|line| line.split(' ').next()).filter(|path| !path.is_empty());
        let names: BTreeSet<&str> =
            paths.filter_map(|path| path.rsplit('.').next()).map(|name| name.trim_end_matches("[]")).collect();
        assert_eq!(NAMES, names.into_iter().collect::<Vec<_>>());
        let folded: BTreeSet<String> = NAMES.iter().map(|name| name.to_ascii_lowercase()).collect();
        assert_eq!(folded.len(), NAMES.len());
    }

    #[test]
    fn names_of_the_users_own_stay() {
        let text = r#"{"annotations":{"Root":"x"},"linux":{"sysctl":{"LINUX":"1"},"netDevices":{"PID":{"NAME":"y"}}}}"#;
        let (text, warnings) = corrected(text, &At::Root).unwrap_or_default();
        assert!(text.contains(r#""PID":{"name":"y"}"#) && text.contains(r#""Root""#) && text.contains(r#""LINUX""#));
        assert_eq!(warnings, ["linux.netDevices.PID.NAME: unknown field, read as \"name\""]);
    }

    #[test]
    fn a_field_that_is_there_in_its_own_spelling_is_not_replaced() {
        assert_eq!(corrected(r#"{"hostname":"a","HostName":"b"}"#, &At::Root), None);
    }
}
