//! Cache and memory bandwidth: config-linux.md#intelrdt (runtime-spec 1.3), on a folder that stands in for resctrl.
//!
//! The kernel fills a new group with files, and takes them away with it; here the tests do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Also in the functions that the tests share.

mod common;

use std::path::{Path, PathBuf};

use common::Bundle;
use orlop::host::Host;
use orlop::host::resctrl::Resctrl;
use orlop::rdt::{self, Wanted};
use orlop::spec::Config;
use serde_json::{Value, json};

struct StandIn(PathBuf);

impl StandIn {
    fn new(name: &str) -> StandIn {
        let root = std::env::temp_dir().join(format!("orlop-resctrl-{}-{name}", std::process::id()));
        let stand_in = StandIn(root);
        for (file, text) in [
            ("schemata", "    L3:0=fffff;1=fffff\n    MB:0=100;1=100\n"),
            ("tasks", ""),
            ("mon_groups/.keep", ""),
            ("info/last_cmd_status", "ok\n"),
            ("info/L3/cbm_mask", "fffff\n"),
            ("info/L3/min_cbm_bits", "1\n"),
            ("info/L3/num_closids", "16\n"),
            ("info/MB/bandwidth_gran", "10\n"),
            ("info/MB/min_bandwidth", "10\n"),
            ("info/MB/delay_linear", "1\n"),
            ("info/MB/num_closids", "8\n"),
            ("info/L3_MON/mon_features", "llc_occupancy\nmbm_total_bytes\nmbm_local_bytes\n"),
        ] {
            stand_in.write(file, text);
        }
        stand_in
    }

    fn write(&self, file: &str, text: &str) {
        let path = self.0.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn text(&self, file: &str) -> String {
        std::fs::read_to_string(self.0.join(file)).unwrap()
    }

    fn has(&self, path: &str) -> bool {
        self.0.join(path).exists()
    }

    fn read(&self, section: Value) -> Result<Wanted, String> {
        let text = include_str!("data/config-docker.json");
        let mut config: Value = serde_json::from_str(text).unwrap();
        config["linux"]["intelRdt"] = section;
        let config = Config::read(config.to_string().into_bytes()).map_err(|error| error.to_string())?;
        let host = Host { resctrl: Resctrl::At(self.0.clone()), ..Host::probe().unwrap() };
        match rdt::read(&config.spec, "c1", &host) {
            Ok(wanted) => Ok(wanted.unwrap()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// As the kernel does it when a group is removed.
    fn empty(&self, group: &str) {
        for entry in std::fs::read_dir(self.0.join(group)).unwrap().flatten() {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_group_is_made_for_the_container_and_goes_with_it() {
    let resctrl = StandIn::new("own");
    let section = json!({"schemata": ["L2:0=f"], "memBwSchema": "MB:0=20;1=70", "l3CacheSchema": "L3:0=7f0;1=1f"});
    let wanted = resctrl.read(section).unwrap();
    wanted.make().unwrap();
    assert_eq!(resctrl.text("c1/schemata"), "L3:0=7f0;1=1f\nMB:0=20;1=70\nL2:0=f\n");
    wanted.record().enter(42).unwrap();
    assert_eq!(resctrl.text("c1/tasks"), "42");
    wanted.record().update(None, Some("MB:0=30")).unwrap();
    assert_eq!(resctrl.text("c1/schemata"), "MB:0=30\n");
    resctrl.empty("c1");
    wanted.record().remove().unwrap();
    assert!(!resctrl.has("c1"));
    wanted.record().remove().unwrap();
}

#[test]
fn a_named_group_is_made_where_it_is_missing_and_stays() {
    let resctrl = StandIn::new("named");
    let section = json!({"closID": "gold", "memBwSchema": "MB:0=15"});
    resctrl.read(section.clone()).unwrap().make().unwrap();
    assert_eq!(resctrl.text("gold/schemata"), "MB:0=15\n");
    // As the kernel shows it: all domains, and bandwidth in its own steps.
    resctrl.write("gold/schemata", "    L3:0=fffff;1=fffff\n    MB:0= 20;1=100\n");
    let wanted = resctrl.read(section).unwrap();
    wanted.make().unwrap();
    wanted.record().remove().unwrap();
    assert!(resctrl.text("gold/schemata").contains("L3"), "what is shared is not written");
    let other = resctrl.read(json!({"closID": "gold", "schemata": ["L3:1=f"]})).unwrap().make().unwrap_err();
    let wanted = format!("config.json: linux.intelRdt.closID: {}/gold/schemata has L3:1=fffff", resctrl.0.display());
    assert!(other.to_string().starts_with(&wanted), "{other}");
}

#[test]
fn without_schemata_a_named_group_must_be_there() {
    let resctrl = StandIn::new("preconfigured");
    let error = resctrl.read(json!({"closID": "gold"})).unwrap_err();
    let place = resctrl.0.join("gold");
    assert!(
        error.starts_with(&format!("config.json: linux.intelRdt.closID: there is no {}", place.display())),
        "{error}"
    );
    resctrl.write("gold/tasks", "");
    let wanted = resctrl.read(json!({"closID": "gold"})).unwrap();
    wanted.make().unwrap();
    wanted.record().enter(7).unwrap();
    assert_eq!((resctrl.text("gold/tasks").as_str(), resctrl.has("gold/schemata")), ("7", false));
    let wanted = resctrl.read(json!({"closID": "/"})).unwrap();
    wanted.make().unwrap();
    wanted.record().enter(8).unwrap();
    assert_eq!(resctrl.text("tasks"), "8");
}

#[test]
fn monitoring_has_a_group_of_its_own_that_goes_with_the_container() {
    let resctrl = StandIn::new("monitoring");
    let wanted = resctrl.read(json!({"closID": "/", "enableMonitoring": true})).unwrap();
    wanted.make().unwrap();
    wanted.record().enter(9).unwrap();
    assert_eq!((resctrl.text("tasks"), resctrl.text("mon_groups/c1/tasks")), ("9".into(), "9".into()));
    for (file, text) in [("llc_occupancy", "1000"), ("mbm_total_bytes", "200"), ("mbm_local_bytes", "100")] {
        resctrl.write(&format!("mon_groups/c1/mon_data/mon_L3_00/{file}"), text);
    }
    let stats = wanted.record().stats();
    assert_eq!(stats["l3_cache_info"], json!({"cbm_mask": "fffff", "min_cbm_bits": 1, "num_closids": 16}));
    assert_eq!(stats["mem_bw_info"]["bandwidth_gran"], 10);
    assert_eq!(stats["mem_bw_schema"], "MB:0=100;1=100");
    assert_eq!(stats["mbm_stats"], json!([{"mbm_total_bytes": 200, "mbm_local_bytes": 100}]));
    assert_eq!(stats["cmt_stats"], json!([{"llc_occupancy": 1000}]));
    std::fs::remove_dir_all(resctrl.0.join("mon_groups/c1/mon_data")).unwrap();
    resctrl.empty("mon_groups/c1");
    wanted.record().remove().unwrap();
    assert!(!resctrl.has("mon_groups/c1") && resctrl.has("mon_groups"));
}

#[test]
fn what_is_not_enabled_is_named_with_its_path() {
    let resctrl = StandIn::new("features");
    for (field, value, info) in [
        ("l3CacheSchema", json!("L3:0=f"), "L3"),
        ("memBwSchema", json!("MB:0=50"), "MB"),
        ("enableMonitoring", json!(true), "L3_MON"),
    ] {
        std::fs::remove_dir_all(resctrl.0.join("info").join(info)).unwrap();
        let error = resctrl.read(json!({field: value})).unwrap_err();
        let wanted = format!("config.json: linux.intelRdt.{field}: there is no {}/info/{info}:", resctrl.0.display());
        assert!(error.starts_with(&wanted), "{error}");
    }
    let group = resctrl.read(json!({})).unwrap();
    let error = group.record().update(Some("L3:0=f"), None).unwrap_err().to_string();
    assert_eq!(error, "Intel RDT/CAT: l3 cache schema is not enabled");
}

#[test]
fn the_kernels_own_words_are_told() {
    let resctrl = StandIn::new("words");
    resctrl.write("info/last_cmd_status", "non-consecutive 1-bits in the mask 101\n");
    let wanted = resctrl.read(json!({"l3CacheSchema": "L3:0=101"})).unwrap();
    // Where a file is a directory, writing it fails.
    std::fs::create_dir_all(resctrl.0.join("c1/schemata")).unwrap();
    let error = wanted.make().unwrap_err().to_string();
    assert!(error.ends_with("(non-consecutive 1-bits in the mask 101)"), "{error}");
}

#[test]
fn without_resctrl_a_container_that_asks_for_it_is_refused() {
    need_root!();
    if let Ok(path) = Resctrl::Unread.mount() {
        skip!("resctrl is mounted at {}", path.display());
    }
    let mut bundle = Bundle::new("true");
    bundle.config["linux"]["intelRdt"] = json!({"closID": "gold"});
    let id = bundle.id();
    let said = bundle.orlop(&["run", &id]).fails();
    assert!(said.contains("config.json: linux.intelRdt: ") && said.contains("/sys/fs/resctrl"), "{said}");
    bundle.assert_nothing_of(&id);
    assert!(!Path::new(&bundle.root()).join(&id).exists());
}

#[test]
fn update_without_a_group_is_an_error() {
    need_root!();
    let bundle = Bundle::sleeping();
    let id = bundle.running();
    let said = bundle.orlop(&["update", "--mem-bw-schema", "MB:0=50", &id]).fails();
    assert!(said.contains("updating a non-existent Intel RDT configuration is not supported"), "{said}");
}
