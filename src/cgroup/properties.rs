//! What systemd is told of a container's limits: systemd.resource-control(5) and its D-Bus names.
//!
//! The limits are written to the cgroup's files in any case. The properties are there so that systemd,
//! which writes its own view of a unit again at each reload of its configuration, has the same view.

use std::collections::HashMap;
use std::fmt;

use anyhow::{anyhow, bail};

use super::dbus_wire::Value;
use super::devices::{Kind, Match, Rule, access_text};
use super::setting::{Or, Setting};
use crate::error::Result;
use crate::spec::IdSet;

/// A unit's property.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Property {
    pub name: String,
    pub value: Value,
    /// The first systemd that has it, where there are older ones to be met; those are not told.
    pub since: u32,
}

impl Property {
    pub fn new(name: impl Into<String>, value: Value) -> Property {
        Property { name: name.into(), value, since: 0 }
    }

    fn since(self, since: u32) -> Property {
        Property { since, ..self }
    }

    /// As D-Bus has it in a list of properties.
    pub fn pair(&self) -> Value {
        Value::Struct(vec![Value::text(&self.name), Value::variant(self.value.clone())])
    }
}

impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.value)
    }
}

/// The period that the kernel gives a quota without one, in microseconds.
const PERIOD: u64 = 100_000;

/// The limits that systemd knows too. What it does not know, or is no number, is the cgroup file's alone.
pub(super) fn of_settings(settings: &[Setting]) -> Vec<Property> {
    let mut list: Vec<Property> = Vec::new();
    let mut add = |property: Property| {
        list.retain(|other| other.name != property.name);
        list.push(property);
    };
    let value = |file: &str| settings.iter().rev().find(|setting| setting.file == file).map(|s| s.value.trim());
    let idle = value("cpu.idle") == Some("1");
    for setting in settings {
        let text = setting.value.trim();
        let number = || size(text).map(Value::U64);
        let cpus = || IdSet::parse(text).ok().map(|set| Value::Array("y".into(), mask(&set)));
        let named = |name: &str, value: Option<Value>| value.map(|value| Property::new(name, value));
        let property = match setting.file.as_str() {
            "memory.max" => named("MemoryMax", number()),
            "memory.high" => named("MemoryHigh", number()),
            "memory.low" => named("MemoryLow", number()),
            "memory.min" => named("MemoryMin", number()),
            "memory.swap.max" => named("MemorySwapMax", number()),
            "memory.limit_in_bytes" => named("MemoryLimit", number()),
            "pids.max" => named("TasksMax", size(text).map(|limit| Value::U64(limit.max(1)))),
            // An idle cgroup's weight is not to be set; 0 is how systemd names idleness.
            "cpu.weight" if idle => None,
            "cpu.weight" => named("CPUWeight", number()),
            "cpu.idle" if idle => named("CPUWeight", Some(Value::U64(0))).map(|property| property.since(252)),
            "cpu.shares" => named("CPUShares", number()),
            "cpuset.cpus" => named("AllowedCPUs", cpus()).map(|property| property.since(244)),
            "cpuset.mems" => named("AllowedMemoryNodes", cpus()).map(|property| property.since(244)),
            "io.weight" | "io.bfq.weight" => named("IOWeight", io_weight(setting)),
            "blkio.weight" => named("BlockIOWeight", number()),
            "memory.oom.group" => named("OOMPolicy", oom_policy(text)).map(|property| property.since(253)),
            _ => None,
        };
        property.into_iter().for_each(&mut add);
    }
    let (quota, period) = match value("cpu.max") {
        Some(max) => max.split_once(' ').map_or((Some(max), None), |(quota, period)| (Some(quota), Some(period))),
        None => (value("cpu.cfs_quota_us"), value("cpu.cfs_period_us")),
    };
    quota_properties(quota, period).into_iter().for_each(add);
    list
}

/// systemd keeps a quota as microseconds of a second, in whole percents: it is rounded up, so that the
/// cgroup's own quota, which is exact, always fits.
fn quota_properties(quota: Option<&str>, period: Option<&str>) -> Vec<Property> {
    let mut list = Vec::new();
    let period: Option<u64> = period.and_then(|period| period.trim().parse().ok()).filter(|period| *period != 0);
    if let Some(period) = period {
        list.push(Property::new("CPUQuotaPeriodUSec", Value::U64(period)).since(242));
    }
    let second = match quota.map(size) {
        Some(Some(u64::MAX)) => Some(u64::MAX),
        Some(Some(quota)) => {
            let exact = u128::from(quota) * 1_000_000 / u128::from(period.unwrap_or(PERIOD));
            u64::try_from(exact.next_multiple_of(10_000)).ok()
        }
        Some(None) => None,
        None => period.map(|_| u64::MAX),
    };
    list.extend(second.map(|second| Property::new("CPUQuotaPerSecUSec", Value::U64(second))));
    list
}

/// A number of a cgroup file; `max`, and on v1 -1, are systemd's infinity.
fn size(text: &str) -> Option<u64> {
    match text {
        "max" | "-1" => Some(u64::MAX),
        digits => digits.parse().ok(),
    }
}

/// io.weight's range is systemd's; the weight of the BFQ scheduler has another one, and names what stands in for it.
fn io_weight(setting: &Setting) -> Option<Value> {
    let text = match (&setting.or, setting.file.as_str()) {
        (Or::Instead { file: "io.weight", value }, _) => value.as_str(),
        (_, "io.weight") => setting.value.as_str(),
        _ => return None,
    };
    let text = text.trim();
    text.strip_prefix("default ").unwrap_or(text).parse().ok().map(Value::U64)
}

fn oom_policy(text: &str) -> Option<Value> {
    match text {
        "0" => Some(Value::text("continue")),
        "1" => Some(Value::text("kill")),
        _ => None,
    }
}

/// The bytes of a mask, lowest numbers first, without zeroes at the end.
fn mask(set: &IdSet) -> Vec<Value> {
    let bytes: Vec<u8> = set.words().iter().flat_map(|word| word.to_le_bytes()).collect();
    let len = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
    bytes.into_iter().take(len).map(Value::Byte).collect()
}

/// The device rules as far as systemd can say them.
///
/// It has lists of what is allowed only. On v2 its program decides beside ours and both must allow, so it
/// is told nothing where its list would be shorter than the rules. On v1 it would open all devices again
/// at a reload, so there it is told the shorter list; the exact one is written over it.
pub(super) fn of_rules(rules: &[Rule], unified: bool) -> Vec<Property> {
    let mut allowed: Vec<(Match, u8)> = Vec::new();
    let (mut default, mut denies, mut sayable) = (false, false, true);
    for rule in rules {
        match rule.of {
            None => {
                (default, denies, sayable) = (rule.allow, false, true);
                allowed.clear();
            }
            Some(_) if default => denies |= !rule.allow,
            Some(Match { major: None, minor: Some(_), .. }) if rule.allow => sayable = false,
            Some(of) if rule.allow => allowed.push((of, rule.access)),
            // A hole in a wider rule is left to the cgroup's own rules.
            Some(of) => allowed.iter_mut().filter(|(other, _)| *other == of).for_each(|(_, had)| *had &= !rule.access),
        }
    }
    if (default && !denies) || (unified && (default || !sayable)) {
        return Vec::new();
    }
    let path = |of: &Match| {
        let kind = if of.kind == Kind::Block { "block" } else { "char" };
        match (of.major, of.minor) {
            (Some(major), Some(minor)) => format!("/dev/{kind}/{major}:{minor}"),
            (Some(major), None) => format!("{kind}-{major}"),
            (None, _) => format!("{kind}-*"),
        }
    };
    let entry =
        |(of, access): &(Match, u8)| Value::Struct(vec![Value::text(path(of)), Value::text(access_text(*access))]);
    let list = allowed.iter().filter(|(_, access)| *access != 0).map(entry).collect();
    vec![
        Property::new("DevicePolicy", Value::text("strict")),
        Property::new("DeviceAllow", Value::Array("(ss)".into(), list)),
    ]
}

/// Annotations with this prefix are properties of the scope.
const ANNOTATION: &str = "org.systemd.property.";

/// The properties that annotations ask for, in the text format of GVariant.
///
/// # Errors
/// A name or a value that is none.
pub(super) fn of_annotations(annotations: &HashMap<String, String>) -> Result<Vec<Property>> {
    let mut list = Vec::new();
    for (key, text) in annotations {
        let Some(name) = key.strip_prefix(ANNOTATION) else { continue };
        let wrong = |why: &str| anyhow!("config.json: annotations[{key:?}]: {why}");
        if name.len() < 3 || !name.bytes().all(|byte| byte.is_ascii_alphabetic()) {
            return Err(wrong("a property's name has three letters or more, and nothing else"));
        }
        let value = parse(text).map_err(|error| wrong(&format!("{text:?}: {error}")))?;
        let unit = name.strip_suffix("Sec").filter(|rest| rest.ends_with(|c: char| c.is_ascii_lowercase()));
        list.push(match unit {
            // D-Bus has these in microseconds, under another name.
            Some(unit) => Property::new(
                format!("{unit}USec"),
                microseconds(&value).ok_or_else(|| wrong("not a number of seconds"))?,
            ),
            None => Property::new(name, value),
        });
    }
    list.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(list)
}

fn microseconds(seconds: &Value) -> Option<Value> {
    const SECOND: u64 = 1_000_000;
    let whole = match seconds {
        Value::Byte(n) => u64::from(*n),
        Value::U16(n) => u64::from(*n),
        Value::U32(n) => u64::from(*n),
        Value::U64(n) => *n,
        Value::I16(n) => u64::try_from(*n).ok()?,
        Value::I32(n) => u64::try_from(*n).ok()?,
        Value::I64(n) => u64::try_from(*n).ok()?,
        Value::F64(n) if *n >= 0.0 => return Some(Value::U64((n * SECOND as f64) as u64)),
        _ => return None,
    };
    whole.checked_mul(SECOND).map(Value::U64)
}

/// Booleans, numbers (32 bits, or with a type's name in front), texts in quotes, and lists of these.
fn parse(text: &str) -> Result<Value> {
    let mut rest = text.trim();
    let value = parse_value(&mut rest)?;
    if !rest.trim().is_empty() {
        bail!("{rest:?} is left over");
    }
    Ok(value)
}

fn parse_value(rest: &mut &str) -> Result<Value> {
    *rest = rest.trim_start();
    match rest.chars().next() {
        None => bail!("a value is missing"),
        Some('[') => parse_list(rest, None),
        Some('@') => {
            let (kind, others) = rest.split_once(' ').ok_or_else(|| anyhow!("a value is missing"))?;
            let element = kind.strip_prefix("@a").filter(|of| of.len() == 1 && "ybnqiuxtdso".contains(of));
            *rest = others.trim_start();
            parse_list(rest, Some(element.ok_or_else(|| anyhow!("{kind:?} is no list of a basic type"))?))
        }
        Some(quote @ ('"' | '\'')) => parse_text(rest, quote).map(Value::Text),
        Some(_) => {
            let word = take_word(rest);
            match word {
                "true" => Ok(Value::Bool(true)),
                "false" => Ok(Value::Bool(false)),
                "boolean" | "byte" | "int16" | "uint16" | "int32" | "uint32" | "int64" | "uint64" | "double"
                | "string" | "objectpath" => parse_typed(word, rest),
                number if number.contains('.') => typed("double", number),
                number => typed("int32", number),
            }
        }
    }
}

fn take_word<'a>(rest: &mut &'a str) -> &'a str {
    let end = rest.find(|c: char| c.is_whitespace() || matches!(c, ',' | ']')).unwrap_or(rest.len());
    let (word, others) = rest.split_at(end);
    *rest = others;
    word
}

fn parse_typed(kind: &str, rest: &mut &str) -> Result<Value> {
    *rest = rest.trim_start();
    match rest.chars().next() {
        Some(quote @ ('"' | '\'')) => {
            let text = parse_text(rest, quote)?;
            match kind {
                "string" => Ok(Value::Text(text)),
                "objectpath" => Ok(Value::Object(text)),
                _ => bail!("a text is no {kind}"),
            }
        }
        _ => typed(kind, take_word(rest)),
    }
}

fn typed(kind: &str, word: &str) -> Result<Value> {
    let wrong = || anyhow!("{word:?} is no {kind}");
    let value = match kind {
        "boolean" => word.parse().ok().map(Value::Bool),
        "byte" => word.parse().ok().map(Value::Byte),
        "int16" => word.parse().ok().map(Value::I16),
        "uint16" => word.parse().ok().map(Value::U16),
        "int32" => word.parse().ok().map(Value::I32),
        "uint32" => word.parse().ok().map(Value::U32),
        "int64" => word.parse().ok().map(Value::I64),
        "uint64" => word.parse().ok().map(Value::U64),
        "double" => word.parse().ok().map(Value::F64),
        _ => None,
    };
    value.ok_or_else(wrong)
}

fn parse_text(rest: &mut &str, quote: char) -> Result<String> {
    let mut text = String::new();
    let mut chars = rest.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            c if c == quote => {
                *rest = rest.get(at + 1..).unwrap_or_default();
                return Ok(text);
            }
            '\\' => match chars.next() {
                Some((_, c @ ('\\' | '"' | '\''))) => text.push(c),
                Some((_, 'n')) => text.push('\n'),
                Some((_, 't')) => text.push('\t'),
                _ => bail!("an escape that is not supported"),
            },
            c => text.push(c),
        }
    }
    bail!("a quote is missing")
}

fn parse_list(rest: &mut &str, element: Option<&str>) -> Result<Value> {
    *rest = rest.strip_prefix('[').ok_or_else(|| anyhow!("a list is missing"))?.trim_start();
    let mut list: Vec<Value> = Vec::new();
    while !rest.starts_with(']') {
        if !list.is_empty() {
            *rest = rest.strip_prefix(',').ok_or_else(|| anyhow!("a comma is missing"))?.trim_start();
        }
        if rest.starts_with('[') {
            bail!("lists of lists are not supported");
        }
        list.push(parse_value(rest)?);
        *rest = rest.trim_start();
    }
    *rest = rest.get(1..).unwrap_or_default();
    let first = list.first().map(Value::signature);
    let element = match (element, first) {
        (Some(element), _) => element.to_owned(),
        (None, Some(first)) => first,
        (None, None) => bail!("an empty list needs its type in front, such as @as"),
    };
    if list.iter().any(|value| value.signature() != element) {
        bail!("a list of several types");
    }
    Ok(Value::Array(element, list))
}

#[cfg(test)]
mod tests {
    use super::super::devices::rules;
    use super::*;

    fn texts(list: &[Property]) -> Vec<String> {
        list.iter().map(Property::to_string).collect()
    }

    fn set(pairs: &[(&str, &str)]) -> Vec<String> {
        let settings: Vec<_> = pairs.iter().map(|(file, value)| Setting::new("x", "cpu", *file, value)).collect();
        texts(&of_settings(&settings))
    }

    #[test]
    fn limits_become_properties() {
        assert_eq!(
            set(&[("memory.max", "1024"), ("memory.swap.max", "max"), ("pids.max", "0"), ("cpu.weight", "59")]),
            ["MemoryMax=1024", "MemorySwapMax=infinity", "TasksMax=1", "CPUWeight=59"]
        );
        assert_eq!(
            set(&[("cpuset.cpus", "0-1,9"), ("cpuset.mems", "0")]),
            ["AllowedCPUs=[3, 2]", "AllowedMemoryNodes=[1]"]
        );
        assert_eq!(
            set(&[("memory.limit_in_bytes", "-1"), ("cpu.shares", "512"), ("blkio.weight", "500")]),
            ["MemoryLimit=infinity", "CPUShares=512", "BlockIOWeight=500"]
        );
        assert!(set(&[("hugetlb.2MB.max", "1"), ("memory.max", "nonsense")]).is_empty());
        assert_eq!(set(&[("pids.max", "5"), ("pids.max", "7")]), ["TasksMax=7"]);
    }

    #[test]
    fn an_idle_cgroup_has_the_weight_0() {
        assert_eq!(set(&[("cpu.idle", "1"), ("cpu.weight", "10")]), ["CPUWeight=0"]);
        assert_eq!(set(&[("cpu.idle", "0"), ("cpu.weight", "10")]), ["CPUWeight=10"]);
    }

    #[test]
    fn a_quota_is_rounded_up_to_whole_percents() {
        let second = |text: &str| format!("CPUQuotaPerSecUSec={text}");
        assert_eq!(set(&[("cpu.max", "50000")]), [second("500000")]);
        assert_eq!(set(&[("cpu.max", "1234 50000")]), ["CPUQuotaPeriodUSec=50000".to_owned(), second("30000")]);
        assert_eq!(set(&[("cpu.max", "max 50000")]), ["CPUQuotaPeriodUSec=50000".to_owned(), second("infinity")]);
        assert_eq!(
            set(&[("cpu.cfs_quota_us", "-1"), ("cpu.cfs_period_us", "1000")]),
            ["CPUQuotaPeriodUSec=1000".to_owned(), second("infinity")]
        );
    }

    #[test]
    fn the_weight_for_systemd_is_that_of_its_range() {
        let or = Or::Instead { file: "io.weight", value: "default 4950".into() };
        let bfq = Setting::new("blockIO.weight", "io", "io.bfq.weight", 500).or(or);
        assert_eq!(texts(&of_settings(&[bfq])), ["IOWeight=4950"]);
        assert!(set(&[("io.bfq.weight", "500")]).is_empty());
    }

    fn devices(json: serde_json::Value, unified: bool) -> Vec<String> {
        let list: Vec<oci_spec::runtime::LinuxDeviceCgroup> = serde_json::from_value(json).unwrap();
        texts(&of_rules(&rules(&list).unwrap(), unified))
    }

    #[test]
    fn allowed_devices_are_listed() {
        let list = devices(
            serde_json::json!([{"allow": false, "access": "rwm"},
                {"allow": true, "type": "b", "major": 8, "minor": 1, "access": "r"},
                {"allow": true, "type": "c", "major": 10, "access": "rw"}]),
            true,
        );
        assert_eq!(list[0], "DevicePolicy=\"strict\"");
        let begin = r#"DeviceAllow=[("/dev/block/8:1", "r"), ("char-10", "rw"), ("char-*", "m"), ("block-*", "m"), "#;
        assert!(list[1].starts_with(begin), "{}", list[1]);
        assert!(list[1].contains(r#"("/dev/char/1:3", "rwm")"#), "{}", list[1]);
    }

    #[test]
    fn what_systemd_cannot_say_is_not_told_on_v2_and_narrowed_on_v1() {
        let all = serde_json::json!([{"allow": true, "access": "rwm"}]);
        assert!(devices(all.clone(), true).is_empty() && devices(all, false).is_empty());
        let hole = serde_json::json!([{"allow": true, "access": "rwm"},
            {"allow": false, "type": "b", "major": 8, "access": "rwm"}]);
        assert!(devices(hole.clone(), true).is_empty());
        assert_eq!(devices(hole, false), ["DevicePolicy=\"strict\"", "DeviceAllow=[]"]);
        let any_major = serde_json::json!([{"allow": false, "access": "rwm"},
            {"allow": true, "type": "c", "minor": 1, "access": "r"}]);
        assert!(devices(any_major, true).is_empty());
    }

    fn annotated(name: &str, text: &str) -> std::result::Result<Property, String> {
        let map =
            HashMap::from([(format!("org.systemd.property.{name}"), text.to_owned()), ("other".into(), "'".into())]);
        of_annotations(&map).map(|list| list.into_iter().next().unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn annotations_are_typed_values() {
        let value = |text: &str| annotated("CollectMode", text).unwrap().value;
        assert_eq!(value("'inactive-or-failed'"), Value::text("inactive-or-failed"));
        assert_eq!(value("true"), Value::Bool(true));
        assert_eq!(value("5"), Value::I32(5));
        assert_eq!(value("uint64 123456789"), Value::U64(123_456_789));
        assert_eq!(value("0.5"), Value::F64(0.5));
        let list = ["a.service", "b\"c"].map(Value::text).to_vec();
        assert_eq!(value(r#"['a.service', "b\"c"]"#), Value::Array("s".into(), list));
        assert_eq!(value("@as []"), Value::Array("s".into(), Vec::new()));
        for bad in ["", "inactive", "'a", "[1, 'a']", "[]", "[[1]]", "byte 256", "1 2", "uint64", "@aas []"] {
            assert!(annotated("CollectMode", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn seconds_become_microseconds() {
        let property = annotated("TimeoutStopSec", "456").unwrap();
        assert_eq!(property, Property::new("TimeoutStopUSec", Value::U64(456_000_000)));
        assert_eq!(annotated("TimeoutStopSec", "double 1.5").unwrap().value, Value::U64(1_500_000));
        assert!(annotated("TimeoutStopSec", "'covfefe'").unwrap_err().ends_with("not a number of seconds"));
        assert_eq!(annotated("FOOSec", "1").unwrap().name, "FOOSec");
    }

    #[test]
    fn names_of_properties_are_letters() {
        for bad in ["ab", "A-b", "A b", ""] {
            assert!(annotated(bad, "true").is_err(), "{bad}");
        }
    }
}
