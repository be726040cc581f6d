//! Changing the limits of a running container: only what is named changes, and all of it or nothing.

use anyhow::{anyhow, bail};
use oci_spec::runtime::LinuxResources;

use super::dir::{self, Dir};
use super::make::{PREFIX, enable};
use super::setting::{Setting, Undo, apply};
use super::{Record, limits_v1, limits_v2};
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
        Ok(limits.warnings)
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
        Ok(limits.warnings)
    }
}
