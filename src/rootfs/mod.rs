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
    /// Whether there is time before the network can be entered, and nobody who would see what is done with it: hooks are
    /// to find all mounts done and the root not yet changed (config.md#prestart, #createruntime-hooks, #createcontainer-hooks),
    /// and in a user namespace the kernel makes a sysfs only where it sees one.
    pub has_time: bool,
}

/// The mounts of a spec, read once and used by both halves of the plan.
pub struct Rootfs<'a> {
    input: Input,
    spec: &'a Spec,
    entries: Vec<mount::Entry<'a>>,
    read_only_later: Vec<mount::ReadOnlyLater>,
    propagation: pivot::Propagation,
    /// The masks and the change of root are done early where they can be, while the network is waited for.
    masked: bool,
    changed: bool,
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
        Ok(Rootfs { propagation, input, spec, entries, read_only_later: Vec::new(), masked: false, changed: false })
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
        let mut maps = idmap::Namespaces::default();
        self.plan_root(plan)?;
        let mut network = Some(network);
        let mut devices_missing = !self.dev_is_bound();
        // From where on all mounts are below /sys, which only the network is waited for with.
        let below_sys = |entry: &&mount::Entry| Path::new(entry.dest.as_str()).starts_with("/sys");
        let last = self.entries.len() - self.entries.iter().rev().take_while(below_sys).count();
        let mut opened = None;
        for index in 0..self.entries.len() {
            if self.entries.get(index).is_some_and(mount::Entry::looks_at_network)
                && let Some(enter) = network.take()
            {
                if index >= last {
                    if std::mem::take(&mut devices_missing) {
                        self.plan_devices(plan)?;
                    }
                    opened = self.plan_meanwhile(index, plan)?;
                }
                enter(plan);
            }
            let Some(entry) = self.entries.get(index) else { continue };
            let setting = &self.input.setting;
            if matches!(entry.fstype.as_str(), "cgroup" | "cgroup2") && !entry.is_bind() {
                let (hierarchies, own) = (&self.input.hierarchies, self.input.cgroup_namespace);
                cgroup::plan(entry, hierarchies, own, opened.take(), setting, plan)?;
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

    /// Adds what may be done before the mounts from `rest` on, all of which are below /sys, while the network namespace
    /// is being made: most of what init has to do takes no longer than that. Gives back the host's cgroups, opened
    /// for such a mount, where the root has been changed.
    fn plan_meanwhile(&mut self, rest: usize, plan: &mut Plan) -> Result<Option<Slot>> {
        let input = &self.input;
        if !input.has_time || input.change != pivot::Change::Pivot || !self.propagation.is_early() {
            return Ok(None);
        }
        if self.may_mask_early(rest) {
            self.plan_masks_of(masks::Which::Early, plan)?;
            self.masked = true;
        }
        let is_sysfs = |entry: &&mount::Entry| entry.fstype == "sysfs" && !entry.is_bind();
        // A mount of a new cgroup2 falls back to a bind, by a path which is not there any more after the change.
        let bound = input.hierarchies.unified.as_ref().filter(|_| !input.cgroup_namespace);
        let others: Vec<_> = self.entries.iter().skip(rest).filter(|entry| !is_sysfs(entry)).collect();
        let is_cgroup =
            |entry: &mount::Entry| matches!(entry.fstype.as_str(), "cgroup" | "cgroup2") && !entry.is_bind();
        let opened = match (others.as_slice(), bound) {
            ([], _) => None,
            ([entry], Some(unified)) if is_cgroup(entry) => {
                let slot = plan.slot();
                cgroup::plan_open(unified, slot, plan);
                Some(slot)
            }
            _ => return Ok(None),
        };
        self.plan_change(plan);
        self.changed = true;
        Ok(opened)
    }

    /// Whether covering paths of procfs before the mounts from `rest` on comes to the same as after all of them: it is a
    /// procfs of the container's own with nothing mounted in it, and what is there is not made read-only afterwards.
    fn may_mask_early(&self, rest: usize) -> bool {
        let mounted = || self.entries.iter().take(rest);
        let below_proc: Vec<_> =
            mounted().filter(|entry| Path::new(entry.dest.as_str()).starts_with("/proc")).collect();
        let own_proc = matches!(below_proc.as_slice(), [one] if one.fstype == "proc" && !one.is_bind() && one.dest.as_str() == "/proc");
        let read_only = self.spec.root().as_ref().is_some_and(|root| root.readonly().unwrap_or(false));
        let null_is_of_root = !mounted().any(|entry| entry.dest.as_str() == "/dev");
        own_proc && self.read_only_later.is_empty() && !(read_only && null_is_of_root)
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

    /// Adds the change of root, if it has not been changed while the network was waited for.
    pub fn plan_change(&self, plan: &mut Plan) {
        if self.changed {
            return;
        }
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

    /// Adds the masks that have not been added yet.
    ///
    /// # Errors
    /// As [`Rootfs::read`].
    pub fn plan_masks(&self, plan: &mut Plan) -> Result<()> {
        self.plan_masks_of(if self.masked { masks::Which::Late } else { masks::Which::All }, plan)
    }

    fn plan_masks_of(&self, which: masks::Which, plan: &mut Plan) -> Result<()> {
        let linux = self.spec.linux().as_ref();
        let masked = linux.and_then(|linux| linux.masked_paths().as_deref()).unwrap_or_default();
        let read_only = linux.and_then(|linux| linux.readonly_paths().as_deref()).unwrap_or_default();
        masks::plan((masked, read_only), which, self.input.setting.label.as_ref(), self.slot(), plan)
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
