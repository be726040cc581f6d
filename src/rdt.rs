//! Cache and memory bandwidth: config-linux.md#intelrdt (runtime-spec v1.3.0), resctrl in the kernel's documentation.
//!
//! A *group* (class of service) is a directory of the resctrl file system with a file `schemata`, which says
//! what the group may use, and a file `tasks`, into which its processes are written. A group that `closID`
//! names may be shared, so it stays; one that was made for this container goes with it. For monitoring the
//! container has a group of its own in `mon_groups`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{anyhow, bail};
use oci_spec::runtime::{LinuxIntelRdt, Spec};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::error::{Result, Why};
use crate::host::Host;
use crate::plan::{Outside, Plan, Runtime};

const JSON: &str = "linux.intelRdt";

/// What the record keeps of a container's group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Where resctrl is mounted.
    pub root: PathBuf,
    /// The directory of the group.
    pub group: PathBuf,
    /// Whether the group was made for this container alone, and goes with it.
    pub own: bool,
    /// The monitoring group, made for this container.
    pub monitor: Option<PathBuf>,
}

/// What is to be done about `linux.intelRdt`.
#[derive(Debug, Clone)]
pub struct Wanted {
    record: Record,
    /// The lines for `schemata`, in the order that the specification demands.
    schemata: Vec<String>,
    /// Whether the group is there already and shared, so that its schemata must be these.
    compared: bool,
    /// Whether the group is to be made.
    made: bool,
}

/// Reads the section, and looks at what is there.
///
/// # Errors
/// Without resctrl, without the feature that a field needs, or without a group that had to be there.
pub fn read(spec: &Spec, id: &str, host: &Host) -> Result<Option<Wanted>> {
    let Some(asked) = spec.linux().as_ref().and_then(|linux| linux.intel_rdt().as_ref()) else { return Ok(None) };
    let root = host.resctrl.mount().map_err(|error| anyhow!("config.json: {JSON}: {error}"))?;
    let feature = |field: &str, wanted: bool, info: &str, what: &str| {
        let path = root.join("info").join(info);
        if wanted && !path.is_dir() {
            bail!("config.json: {JSON}.{field}: there is no {}: {what} is not enabled", path.display());
        }
        Ok(())
    };
    feature("l3CacheSchema", asked.l3_cache_schema().is_some(), "L3", "Intel RDT/CAT")?;
    feature("memBwSchema", asked.mem_bw_schema().is_some(), "MB", "Intel RDT/MBA")?;
    let monitoring = asked.enable_monitoring().unwrap_or(false);
    feature("enableMonitoring", monitoring, "L3_MON", "Intel RDT monitoring")?;

    let named = asked.clos_id().as_deref();
    let group = match named {
        Some("/") => root.clone(),
        other => root.join(other.unwrap_or(id)),
    };
    let schemata = lines(asked);
    let there = group.is_dir();
    if named.is_some() && schemata.is_empty() && !there {
        bail!(
            "config.json: {JSON}.closID: there is no {} (without schemata the group must have been made before)",
            group.display()
        );
    }
    let monitor = monitoring.then(|| group.join("mon_groups").join(id));
    let record = Record { root, group, own: named.is_none() && !there, monitor };
    Ok(Some(Wanted { record, compared: named.is_some() && there, made: !there, schemata }))
}

fn lines(asked: &LinuxIntelRdt) -> Vec<String> {
    let single = [asked.l3_cache_schema(), asked.mem_bw_schema()];
    let all = single.into_iter().flatten().chain(asked.schemata().iter().flatten());
    all.filter(|line| !line.is_empty()).cloned().collect()
}

/// Adds the making of the group, before the clone.
pub fn plan_make(wanted: &Wanted, plan: &mut Plan) {
    plan.before(MakeGroup(wanted.clone()));
}

/// Adds the entering of the group by the new process.
pub fn plan_enter(record: &Record, plan: &mut Plan) {
    plan.outside(EnterGroup(record.clone()));
}

struct MakeGroup(Wanted);

impl fmt::Display for MakeGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Wanted { record, schemata, compared, made } = &self.0;
        write!(f, "{} resctrl group {:?}", if *made { "making" } else { "using" }, record.group)?;
        match (schemata.is_empty(), compared) {
            (true, _) => {}
            (false, true) => write!(f, ", whose schemata must be {}", schemata.join(" "))?,
            (false, false) => write!(f, " with {}", schemata.join(" "))?,
        }
        if record.monitor.is_some() { f.write_str(", monitored") } else { Ok(()) }
    }
}

impl Outside for MakeGroup {
    fn run(&self, _: &mut Runtime) -> Result<()> {
        self.0.make()
    }
}

struct EnterGroup(Record);

impl fmt::Display for EnterGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "entering resctrl group {:?}", self.0.group)
    }
}

impl Outside for EnterGroup {
    fn run(&self, runtime: &mut Runtime) -> Result<()> {
        self.0.enter(runtime.child()?.pid)
    }
}

impl Wanted {
    /// What the container's record is to name.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Makes the groups and writes the schemata.
    ///
    /// # Errors
    /// The kernel's, with its own words; and a shared group that has other schemata.
    pub fn make(&self) -> Result<()> {
        let record = &self.record;
        if self.made {
            make_dir(&record.group).map_err(|error| record.explain(error))?;
        }
        if !self.schemata.is_empty() {
            if self.compared {
                record.compare(&self.schemata)?;
            } else {
                record.write(&self.schemata)?;
            }
        }
        match &record.monitor {
            Some(monitor) => make_dir(monitor).map_err(|error| record.explain(error)),
            None => Ok(()),
        }
    }
}

fn make_dir(path: &Path) -> Result<()> {
    match std::fs::create_dir(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        other => other.why(|| format!("making {}", path.display())),
    }
}

impl Record {
    /// Adds what the kernel says of its last refusal, as EINVAL alone says nothing.
    fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        match std::fs::read_to_string(self.root.join("info/last_cmd_status")) {
            Ok(words) if !matches!(words.trim(), "" | "ok") => anyhow!("{error:#} ({})", words.trim()),
            _ => error,
        }
    }

    fn write(&self, schemata: &[String]) -> Result<()> {
        let text: String = schemata.iter().map(|line| format!("{line}\n")).collect();
        let path = self.group.join("schemata");
        let written = std::fs::write(&path, &text);
        written.why(|| format!("writing {:?} to {}", text.trim_end(), path.display())).map_err(|e| self.explain(e))
    }

    /// The specification forbids to change a group that others may be in.
    fn compare(&self, schemata: &[String]) -> Result<()> {
        let path = self.group.join("schemata");
        let found = std::fs::read_to_string(&path).why(|| format!("reading {}", path.display()))?;
        let step = std::fs::read_to_string(self.root.join("info/MB/bandwidth_gran")).unwrap_or_default();
        let step = step.trim().parse().unwrap_or(1);
        let found = domains(found.lines(), step);
        for (domain, value) in domains(schemata.iter().map(String::as_str), step) {
            let Some(other) = found.get(&domain).filter(|other| **other != value) else { continue };
            let (resource, id) = &domain;
            bail!(
                "config.json: {JSON}.closID: {} has {resource}:{id}={other}, and {resource}:{id}={value} is asked for",
                path.display()
            );
        }
        Ok(())
    }

    /// Puts a process there.
    ///
    /// # Errors
    /// The kernel's.
    pub fn enter(&self, pid: i32) -> Result<()> {
        for dir in [Some(&self.group), self.monitor.as_ref()].into_iter().flatten() {
            let tasks = dir.join("tasks");
            let written = std::fs::write(&tasks, pid.to_string());
            written.why(|| format!("writing {pid} to {}", tasks.display())).map_err(|e| self.explain(e))?;
        }
        Ok(())
    }

    /// Writes other schemata for a container that runs.
    ///
    /// # Errors
    /// A feature that is not enabled, and the kernel's.
    pub fn update(&self, l3_cache: Option<&str>, mem_bw: Option<&str>) -> Result<()> {
        let has = |name: &str| self.root.join("info").join(name).is_dir();
        if l3_cache.is_some() && !has("L3") {
            bail!("Intel RDT/CAT: l3 cache schema is not enabled");
        }
        if mem_bw.is_some() && !has("MB") {
            bail!("Intel RDT/MBA: memory bandwidth schema is not enabled");
        }
        let lines: Vec<_> = [l3_cache, mem_bw].into_iter().flatten().map(str::to_owned).collect();
        if lines.iter().any(|line| line.contains('\n')) {
            bail!("a schema is one line");
        }
        if lines.is_empty() { Ok(()) } else { self.write(&lines) }
    }

    /// Removes what was made for this container; what has gone already is no error.
    ///
    /// # Errors
    /// The kernel's.
    pub fn remove(&self) -> Result<()> {
        let own = self.own.then_some(&self.group);
        for dir in [self.monitor.as_ref(), own].into_iter().flatten() {
            match std::fs::remove_dir(dir) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                other => other.why(|| format!("removing {}", dir.display()))?,
            }
        }
        Ok(())
    }

    /// The `intel_rdt` of a `stats` event, in runc's names.
    pub fn stats(&self) -> Value {
        let mut data = Map::new();
        let lines = |dir: &Path| -> Vec<String> {
            let text = std::fs::read_to_string(dir.join("schemata")).unwrap_or_default();
            text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
        };
        let (whole, own) = (lines(&self.root), lines(&self.group));
        let line = |list: &[String], name: &str| list.iter().find(|line| line.starts_with(name)).cloned();
        for (name, info, fields, keys) in [
            (
                "L3",
                "l3_cache_info",
                ["cbm_mask", "min_cbm_bits", "num_closids"],
                ["l3_cache_schema_root", "l3_cache_schema"],
            ),
            (
                "MB",
                "mem_bw_info",
                ["bandwidth_gran", "delay_linear", "min_bandwidth"],
                ["mem_bw_schema_root", "mem_bw_schema"],
            ),
        ] {
            let dir = self.root.join("info").join(name);
            if !dir.is_dir() {
                continue;
            }
            let mut facts: Map<_, _> = fields
                .iter()
                .chain(&["num_closids"])
                .filter_map(|f| Some(((*f).to_owned(), number(&dir.join(f))?)))
                .collect();
            if name == "L3" {
                let mask = std::fs::read_to_string(dir.join("cbm_mask")).unwrap_or_default();
                facts.insert("cbm_mask".into(), json!(mask.trim()));
            }
            data.insert(info.into(), Value::Object(facts));
            for (key, list) in keys.into_iter().zip([&whole, &own]) {
                data.extend(line(list, name).map(|line| (key.to_owned(), json!(line))));
            }
        }
        data.insert("schemata".into(), json!(own));
        self.monitoring(&mut data);
        Value::Object(data)
    }

    /// What the processor has counted, by domain.
    fn monitoring(&self, data: &mut Map<String, Value>) {
        let features = std::fs::read_to_string(self.root.join("info/L3_MON/mon_features")).unwrap_or_default();
        let has = |name: &str| features.lines().any(|line| line == name);
        let dir = self.monitor.as_ref().unwrap_or(&self.group).join("mon_data");
        let mut domains: Vec<_> = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).collect();
        domains.sort();
        for (key, names) in
            [("mbm_stats", &["mbm_total_bytes", "mbm_local_bytes"][..]), ("cmt_stats", &["llc_occupancy"][..])]
        {
            if names.iter().any(|name| has(name)) {
                let count = |domain: &PathBuf, name: &str| number(&domain.join(name)).unwrap_or(json!(0));
                let one = |domain: &PathBuf| -> Map<_, _> {
                    names.iter().map(|name| ((*name).to_owned(), count(domain, name))).collect()
                };
                data.insert(key.into(), domains.iter().map(one).map(Value::Object).collect());
            }
        }
    }
}

fn number(path: &Path) -> Option<Value> {
    std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok().map(Value::from)
}

/// The values of schemata by resource and domain, in one form of writing; bandwidth in the steps that there are.
fn domains<'a>(lines: impl Iterator<Item = &'a str>, step: u64) -> BTreeMap<(String, String), String> {
    let mut found = BTreeMap::new();
    for (resource, values) in lines.filter_map(|line| line.split_once(':')) {
        let resource = resource.trim();
        for (id, value) in values.split(';').filter_map(|domain| domain.split_once('=')) {
            let (id, value) = (id.trim(), value.trim());
            let value = match value.parse::<u64>() {
                Ok(value) if resource == "MB" => value.next_multiple_of(step.max(1)).to_string(),
                _ => value.trim_start_matches('0').to_ascii_lowercase(),
            };
            found.insert((resource.to_owned(), id.trim_start_matches('0').to_owned()), value);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> BTreeMap<(String, String), String> {
        domains(text.lines(), 10)
    }

    #[test]
    fn schemata_are_compared_by_value_not_by_letter() {
        assert_eq!(of("    L3:0=00fff;1=F0\n    MB:0= 20;1=70"), of("MB:1=70;0=20\nL3:1=f0;0=fff"));
        assert_eq!(of("MB:0=15"), of("MB:0=20"));
        assert_ne!(of("L3:0=f"), of("L3:0=ff"));
        assert_ne!(of("L3:0=f"), of("L2:0=f"));
    }
}
