//! The container's file system: config.md#root, #mounts, config-linux.md (runtime-spec v1.3.0).
//!
//! Every path inside is a [`dest::Dest`], resolved once by the kernel below the root's descriptor.

use std::path::Path;

use oci_spec::runtime::{Mount, Spec};

use crate::error::Result;
use crate::plan::{Plan, Slot};

pub mod beneath;
pub mod cgroup;
pub mod copyup;
pub mod dest;
pub mod detached;
pub mod devices;
pub mod flags;
pub mod idmap;
pub mod masks;
pub mod mount;
pub mod options;
pub mod pivot;
pub mod shared;
pub mod sources;

pub use mount::{Setting, Sources};

/// What the rootfs part of a plan needs to know beside the spec.
pub struct Input {
    /// Where the root and relative sources are.
    pub setting: Setting,
    /// The root's path on the host, absolute.
    pub path: std::path::PathBuf,
    /// How the root is changed.
    pub change: pivot::Change,
    /// Whether device nodes are made or bound.
    pub devices: devices::Method,
    /// The container's cgroups, for cgroup mounts.
    pub hierarchies: cgroup::Hierarchies,
    /// Whether the container has a cgroup namespace of its own.
    pub cgroup_namespace: bool,
}

/// The mounts of a spec, read once and used by both halves of the plan.
pub struct Rootfs<'a> {
    input: Input,
    spec: &'a Spec,
    entries: Vec<mount::Entry<'a>>,
    read_only_later: Vec<mount::ReadOnlyLater>,
    propagation: pivot::Propagation,
}

impl<'a> Rootfs<'a> {
    /// Reads mounts and propagation.
    ///
    /// # Errors
    /// Values that no kernel could honour, by JSON path.
    pub fn read(spec: &'a Spec, mut input: Input) -> Result<Rootfs<'a>> {
        let mounts = spec.mounts().as_deref().unwrap_or_default();
        let entry = |(index, mount)| {
            let entry = mount::Entry::read(index, mount, spec, &input.path)?;
            Ok(entry.labelled(input.setting.label.as_ref()))
        };
        let entries = mounts.iter().enumerate().map(entry).collect::<Result<Vec<_>>>()?;
        let word = spec.linux().as_ref().and_then(|linux| linux.rootfs_propagation().as_deref());
        let propagation = pivot::Propagation::read(word)?;
        input.setting.shares &= propagation.is_shared();
        Ok(Rootfs { propagation, input, spec, entries, read_only_later: Vec::new() })
    }

    /// The descriptor of the root.
    pub fn slot(&self) -> Slot {
        self.input.setting.rootfs
    }

    /// Adds the root alone, for a container that nothing is mounted for.
    ///
    /// # Errors
    /// As [`Rootfs::read`].
    pub fn plan_root(&self, plan: &mut Plan) -> Result<()> {
        let root = pivot::path(&self.input.path)?;
        pivot::plan_root(root, self.propagation, self.input.change, self.slot(), plan);
        Ok(())
    }

    /// Adds everything before the hooks: the root, the mounts, the devices.
    ///
    /// `network` adds the entering of the network namespace, once, as late as the mounts allow.
    ///
    /// # Errors
    /// As [`Rootfs::read`].
    pub fn plan_mounts(&mut self, network: impl FnOnce(&mut Plan), plan: &mut Plan) -> Result<()> {
        let setting = &self.input.setting;
        let mut maps = idmap::Namespaces::default();
        self.plan_root(plan)?;
        let mut network = Some(network);
        let mut devices_missing = !self.dev_is_bound();
        for (index, entry) in self.entries.iter().enumerate() {
            if entry.looks_at_network()
                && let Some(enter) = network.take()
            {
                // What may take its time meanwhile, if no mount that follows can have to do with it.
                let below_sys = |later: &mount::Entry| Path::new(later.dest.as_str()).starts_with("/sys");
                if devices_missing && self.entries.iter().skip(index).all(below_sys) {
                    self.plan_devices(plan)?;
                    devices_missing = false;
                }
                enter(plan);
            }
            if matches!(entry.fstype.as_str(), "cgroup" | "cgroup2") && !entry.is_bind() {
                let (hierarchies, own) = (&self.input.hierarchies, self.input.cgroup_namespace);
                cgroup::plan(entry, hierarchies, own, setting, plan)?;
            } else {
                self.read_only_later.extend(mount::plan(entry, setting, &mut maps, plan)?);
            }
        }
        if devices_missing {
            self.plan_devices(plan)?;
        }
        if let Some(enter) = network {
            enter(plan);
        }
        Ok(())
    }

    fn plan_devices(&self, plan: &mut Plan) -> Result<()> {
        let linux = self.spec.linux().as_ref();
        let devices = linux.and_then(|linux| linux.devices().as_deref()).unwrap_or_default();
        let covered: Vec<&str> = self.entries.iter().map(|entry| entry.dest.as_str()).collect();
        devices::plan(devices, &covered, self.input.devices, self.input.setting.rootfs, plan)
    }

    /// Where the host's whole /dev is bound, its nodes are the host's business.
    fn dev_is_bound(&self) -> bool {
        self.entries.iter().any(|entry| entry.is_bind() && entry.dest.as_str() == "/dev")
    }

    /// Adds the change of root.
    pub fn plan_change(&self, plan: &mut Plan) {
        let input = &self.input;
        pivot::plan_change(self.propagation, input.change, &input.path, self.slot(), plan);
    }

    /// Adds what makes the finished root read-only where asked, and masks paths.
    ///
    /// # Errors
    /// As [`Rootfs::read`].
    pub fn plan_finish(&self, plan: &mut Plan) -> Result<()> {
        for later in &self.read_only_later {
            mount::plan_read_only(later, plan);
        }
        if self.spec.root().as_ref().is_some_and(|root| root.readonly().unwrap_or(false)) {
            pivot::plan_read_only(self.slot(), plan);
        }
        Ok(())
    }

    /// Adds the masks.
    ///
    /// # Errors
    /// As [`Rootfs::read`].
    pub fn plan_masks(&self, plan: &mut Plan) -> Result<()> {
        let linux = self.spec.linux().as_ref();
        let list = |paths: Option<&Vec<String>>| paths.cloned().unwrap_or_default();
        let masked = list(linux.and_then(|l| l.masked_paths().as_ref()));
        let read_only = list(linux.and_then(|l| l.readonly_paths().as_ref()));
        masks::plan(&masked, &read_only, self.input.setting.label.as_ref(), self.slot(), plan)
    }
}

/// How many descriptors the runtime may have to hold at once, where that may be more than the usual limit allows.
pub fn descriptors_at_once(spec: &Spec, sources: Sources) -> Option<u64> {
    const MANY: usize = 400;
    const OTHERS: usize = 256;
    let mapped = |mount: &&Mount| {
        let option = |word: &String| matches!(word.as_str(), "idmap" | "ridmap");
        mount.uid_mappings().is_some() || mount.options().iter().flatten().any(option)
    };
    let word = spec.linux().as_ref().and_then(|linux| linux.rootfs_propagation().as_deref());
    let shared = matches!(word, Some("shared" | "rshared"));
    let opened = |mount: &&Mount| sources == Sources::Outside || shared || mapped(mount);
    let count = spec.mounts().iter().flatten().filter(opened).count();
    // The descriptor of the mount, and that of the mapping which it may have.
    (count > MANY).then_some((2 * count + OTHERS) as u64)
}
