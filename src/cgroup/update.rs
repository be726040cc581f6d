//! Changing the limits of a running container: only what is named changes, and all of it or nothing.

use anyhow::{anyhow, bail};
use oci_spec::runtime::LinuxResources;

use super::dir::{self, Dir};
use super::make::{PREFIX, enable};
use super::setting::{Setting, Undo, apply};
use super::systemd::Manager;
use super::{Record, limits_v1, limits_v2, properties};
use crate::error::Result;

impl Record {
    /// Writes the named limits; gives back what the user should be warned of. Devices are left alone.
    ///
    /// When the kernel refuses one of them, those written before get their former values back.
    ///
    /// # Errors
    /// A value that cannot be or that the kernel refuses, with its place in the resources.
    pub fn update(&self, resources: &LinuxResources, pids_limit: Option<i64>) -> Result<Vec<String>> {
        if self.is_unified() { self.update_v2(resources, pids_limit) } else { self.update_v1(resources, pids_limit) }
    }

    fn update_v2(&self, resources: &LinuxResources, pids_limit: Option<i64>) -> Result<Vec<String>> {
        let path = self.path("").unwrap_or_default();
        let dir = dir::open(path)?;
        let limits = limits_v2::translate(resources, pids_limit, Some(&dir))?;
        let mut wanted: Vec<(&'static str, bool)> = Vec::new();
        for setting in limits.settings.iter().filter(|setting| !setting.controller.is_empty()) {
            if !wanted.contains(&(setting.controller, true)) {
                wanted.push((setting.controller, true));
            }
        }
        let below = path.strip_prefix(&self.mount).unwrap_or_default().trim_start_matches('/');
        enable(&dir, &self.mount, below, &wanted)?;
        let settings: Vec<&Setting> = limits.settings.iter().collect();
        let mut undo = Undo::default();
        apply(&dir, &settings, PREFIX, Some(&mut undo)).inspect_err(|_| undo.roll_back(&dir))?;
        if let Some(unit) = &self.unit {
            // The period that goes with a quota, and the other way round, is the one that is there now.
            let mut told = limits.settings.clone();
            if let (Some(max), Ok(now)) = (told.iter_mut().find(|s| s.file == "cpu.max"), dir.read("cpu.max")) {
                max.value = now.trim().to_owned();
            }
            self.tell(unit, &told).inspect_err(|_| undo.roll_back(&dir))?;
            apply(&dir, &settings, PREFIX, None)?;
        }
        Ok(limits.warnings)
    }

    /// Tells systemd of new limits. It writes them to the cgroup itself, some of them rounded.
    fn tell(&self, unit: &str, settings: &[Setting]) -> Result<()> {
        let mut properties = properties::of_settings(settings);
        // What systemd decides when a unit starts only.
        properties.retain(|property| property.name != "OOMPolicy");
        if properties.is_empty() {
            return Ok(());
        }
        let failed = |error: anyhow::Error| error.context(format!("setting the properties of unit {unit:?}"));
        Manager::connect(self.user).map_err(failed)?.set(unit, &properties).map_err(failed)
    }

    fn update_v1(&self, resources: &LinuxResources, pids_limit: Option<i64>) -> Result<Vec<String>> {
        let limits = limits_v1::translate(resources, pids_limit, true)?;
        let mut dirs: Vec<(&str, Dir, Vec<&Setting>)> = Vec::new();
        for setting in &limits.settings {
            let name = setting.controller;
            let Some(path) = self.path(name) else {
                bail!("{PREFIX}{}: cannot set {name} limit: container could not join or create cgroup", setting.json);
            };
            match dirs.iter_mut().find(|(found, ..)| *found == path) {
                Some((_, _, settings)) => settings.push(setting),
                None => dirs.push((path, dir::open(path)?, vec![setting])),
            }
        }
        let mut undone: Vec<(&Dir, Undo)> = Vec::new();
        for (_, dir, settings) in &dirs {
            let mut undo = Undo::default();
            let result = apply(dir, settings, PREFIX, Some(&mut undo));
            undone.push((dir, undo));
            if let Err(error) = result {
                for (dir, undo) in undone.iter().rev() {
                    undo.roll_back(dir);
                }
                return Err(anyhow!(error));
            }
        }
        if let Some(unit) = &self.unit {
            let roll_back = |_: &_| undone.iter().rev().for_each(|(dir, undo)| undo.roll_back(dir));
            self.tell(unit, &limits.settings).inspect_err(roll_back)?;
            for (_, dir, settings) in &dirs {
                apply(dir, settings, PREFIX, None)?;
            }
        }
        Ok(limits.warnings)
    }
}
