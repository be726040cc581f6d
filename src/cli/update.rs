//! `update`.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{anyhow, bail};
use oci_spec::runtime::LinuxResources;
use serde_json::{Map, Value, json};

use crate::container::Context;
use crate::container::id::ContainerId;
use crate::container::update::{Schemata, update};
use crate::error::{Result, Why};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Read the resources from this file, `-` for standard input: `linux.resources` of a config.json
    #[arg(short, long, value_name = "FILE")]
    resources: Option<PathBuf>,
    /// Block I/O weight (10 to 1000)
    #[arg(long, value_name = "WEIGHT")]
    blkio_weight: Option<u16>,
    /// CPU CFS period in microseconds
    #[arg(long, value_name = "USECS")]
    cpu_period: Option<u64>,
    /// CPU time allowed in a period, in microseconds; -1 is unlimited
    #[arg(long, value_name = "USECS", allow_negative_numbers = true)]
    cpu_quota: Option<i64>,
    /// CPU time that may be saved up for bursts, in microseconds
    #[arg(long, value_name = "USECS")]
    cpu_burst: Option<u64>,
    /// CPU shares, relative to other containers
    #[arg(long, visible_alias = "cpu-shares", value_name = "SHARES")]
    cpu_share: Option<u64>,
    /// Realtime period in microseconds
    #[arg(long, value_name = "USECS")]
    cpu_rt_period: Option<u64>,
    /// Realtime CPU time in a period, in microseconds
    #[arg(long, value_name = "USECS", allow_negative_numbers = true)]
    cpu_rt_runtime: Option<i64>,
    /// Processors to use, such as 0-2,4
    #[arg(long, value_name = "CPUS")]
    cpuset_cpus: Option<String>,
    /// Memory nodes to use
    #[arg(long, value_name = "NODES")]
    cpuset_mems: Option<String>,
    /// 1 to run only when nothing else does
    #[arg(long, value_name = "0|1")]
    cpu_idle: Option<i64>,
    /// Memory limit in bytes, or with a suffix such as 64M; -1 is unlimited
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true)]
    memory: Option<String>,
    /// Memory that is kept under pressure, in bytes
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true)]
    memory_reservation: Option<String>,
    /// Memory and swap together, in bytes; -1 is unlimited
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true)]
    memory_swap: Option<String>,
    /// Obsolete
    #[arg(long, hide = true, value_name = "BYTES")]
    kernel_memory: Option<String>,
    /// Obsolete
    #[arg(long, hide = true, value_name = "BYTES")]
    kernel_memory_tcp: Option<String>,
    /// The number of processes; -1 is unlimited
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pids_limit: Option<i64>,
    /// Schema for the L3 cache (Intel RDT/CAT), such as L3:0=f0
    #[arg(long, value_name = "SCHEMA")]
    l3_cache_schema: Option<String>,
    /// Schema for memory bandwidth (Intel RDT/MBA), such as MB:0=50
    #[arg(long, value_name = "SCHEMA")]
    mem_bw_schema: Option<String>,
    /// The container's id
    #[arg(value_name = "CONTAINER-ID")]
    id: String,
}

impl Args {
    #[inline(never)]
    pub fn update(&self, context: &Context) -> Result<()> {
        let id = ContainerId::new(&self.id)?;
        let (value, source) = match &self.resources {
            Some(file) => (read(file)?, format!("--resources {file:?}")),
            None => (self.flags()?, "flags".to_owned()),
        };
        if self.kernel_memory.is_some() || self.kernel_memory_tcp.is_some() {
            context.log.warn("kernel memory limits are obsolete and ignored");
        }
        let pids = value.pointer("/pids/limit").and_then(Value::as_i64);
        let resources: LinuxResources =
            serde_path_to_error::deserialize(&value).map_err(|e| anyhow!("{source}: {}: {}", e.path(), e.inner()))?;
        let given = |text: &'_ Option<String>| text.clone().filter(|text| !text.is_empty());
        let (l3_cache, mem_bw) = (given(&self.l3_cache_schema), given(&self.mem_bw_schema));
        let schemata = Schemata { l3_cache: l3_cache.as_deref(), mem_bw: mem_bw.as_deref() };
        update(context, &id, &resources, pids, schemata)
    }

    /// The flags in the form of `linux.resources`; what was not given is absent.
    fn flags(&self) -> Result<Value> {
        let bytes = |flag: &str, text: &Option<String>| text.as_deref().map(|text| parse_bytes(flag, text)).transpose();
        let cpu = section([
            ("shares", self.cpu_share.map(Value::from)),
            ("quota", self.cpu_quota.map(Value::from)),
            ("period", self.cpu_period.map(Value::from)),
            ("burst", self.cpu_burst.map(Value::from)),
            ("realtimePeriod", self.cpu_rt_period.map(Value::from)),
            ("realtimeRuntime", self.cpu_rt_runtime.map(Value::from)),
            ("idle", self.cpu_idle.map(Value::from)),
            ("cpus", self.cpuset_cpus.clone().map(Value::from)),
            ("mems", self.cpuset_mems.clone().map(Value::from)),
        ]);
        let memory = section([
            ("limit", bytes("--memory", &self.memory)?.map(Value::from)),
            ("reservation", bytes("--memory-reservation", &self.memory_reservation)?.map(Value::from)),
            ("swap", bytes("--memory-swap", &self.memory_swap)?.map(Value::from)),
        ]);
        let mut all = Map::new();
        for (name, part) in [
            ("cpu", cpu),
            ("memory", memory),
            ("pids", self.pids_limit.map(|limit| json!({"limit": limit}))),
            ("blockIO", self.blkio_weight.map(|weight| json!({"weight": weight}))),
        ] {
            if let Some(part) = part {
                all.insert(name.into(), part);
            }
        }
        Ok(Value::Object(all))
    }
}

fn section<const N: usize>(fields: [(&str, Option<Value>); N]) -> Option<Value> {
    let given: Map<String, Value> =
        fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
    (!given.is_empty()).then_some(Value::Object(given))
}

fn read(file: &Path) -> Result<Value> {
    let mut text = Vec::new();
    if file.as_os_str() == "-" {
        std::io::stdin().read_to_end(&mut text).why(|| "--resources -")?;
    } else {
        text = std::fs::read(file).why(|| format!("--resources {file:?}"))?;
    }
    serde_json::from_slice(&text).map_err(|e| anyhow!("--resources {file:?}: {e}"))
}

/// A number of bytes, with a binary suffix where one is given.
fn parse_bytes(flag: &str, text: &str) -> Result<i64> {
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match lower.get(digits.len()..).unwrap_or_default() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        unit => bail!("{flag} {text:?}: unknown unit {unit:?}"),
    };
    let number: i64 = digits.parse().map_err(|_| anyhow!("{flag} {text:?} is not a number of bytes"))?;
    number.checked_mul(1 << shift).ok_or_else(|| anyhow!("{flag} {text:?} is too large"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_binary_suffixes() {
        for (text, bytes) in [("-1", -1), ("512", 512), ("4k", 4096), ("64M", 64 << 20), ("2GiB", 2 << 30)] {
            assert_eq!(parse_bytes("--memory", text).unwrap(), bytes, "{text}");
        }
        for text in ["", "M", "1x", "9999999999999T", "1.5G"] {
            assert!(parse_bytes("--memory", text).is_err(), "{text}");
        }
    }
}
