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
pub mod switch;

pub use mount::{Setting, Sources};

/// What the rootfs part of a plan needs to know beside the spec.
pub struct Input {
    /// Where the root and relative sources are.
    pub setting: Setting,
    /// The root's path on the host, absolute.
    pub path: std::path::PathBuf,
    /// How the root is changed.
    pub change: pivot::Change,
    /// Whether only init is and was ever in the mount namespace, which belongs to the machine's first user namespace.
    pub alone: bool,
    /// Whether device nodes are made or bound.
    pub devices: devices::Method,
    /// The container's cgroups, for cgroup mounts.
    pub hierarchies: cgroup::Hierarchies,
    /// Whether the container has a cgroup namespace of its own.
    pub cgroup_namespace: bool,
}

/// The two names of a mount of cgroups.
const CGROUP: [&str; 2] = ["cgroup", "cgroup2"];

/// The mounts of a spec, read once and used by both halves of the plan.
pub struct Rootfs<'a> {
    input: Input,
    spec: &'a Spec,
    entries: Vec<mount::Entry<'a>>,
    read_only_later: Vec<mount::ReadOnlyLater>,
    propagation: pivot::Propagation,
    early: Early,
}

/// Whether nothing is at the destination of a mount: what is mounted where it stands is a new tmpfs, in which no mount
/// before has made it.
fn is_missing(entry: &mount::Entry, before: &[mount::Entry]) -> bool {
    let dest = entry.dest.as_bytes();
    let end = dest.iter().rposition(|byte| *byte == b'/').unwrap_or_default().max(1);
    let parent = before.iter().rev().find(|other| Some(other.dest.as_bytes()) == dest.get(..end));
    let is_below = |path: &[u8]| path.strip_prefix(dest).is_some_and(|rest| matches!(rest, [] | [b'/', ..]));
    // Where a procfs or sysfs goes is looked at first.
    !entry.is_new(&["proc", "sysfs"])
        && parent.is_some_and(|parent| parent.is_new(&["tmpfs"]) && !parent.options.copy_up)
        && !before.iter().any(|other| is_below(other.dest.as_bytes()))
}

/// What is in the plan already, to be done while the network is waited for.
#[derive(Default)]
struct Early {
    /// Those masks that can be.
    masked: bool,
    /// The change of root.
    changed: bool,
    /// The host's cgroups, opened for a mount that follows the change.
    opened: Option<Slot>,
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
        Ok(Rootfs { propagation, input, spec, entries, read_only_later: Vec::new(), early: Early::default() })
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
    /// `network` adds the entering of the network namespace, once, as late as the mounts allow. `has_time`: before it can be
    /// entered, and there is nobody who would see what is done with it: hooks are to find all mounts done and the root not
    /// yet changed (config.md#prestart, #createruntime-hooks, #createcontainer-hooks), and in a user namespace the kernel makes
    /// a sysfs only where it sees one.
    ///
    /// # Errors
    /// As [`Rootfs::read`].
    pub fn plan_mounts(&mut self, has_time: bool, network: impl FnOnce(&mut Plan), plan: &mut Plan) -> Result<()> {
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
                if self.entries.iter().skip(index).all(below_sys) {
                    if std::mem::take(&mut devices_missing) {
                        self.plan_devices(plan)?;
                    }
                    if has_time {
                        self.early = self.plan_meanwhile(index, plan)?;
                    }
                }
                enter(plan);
            }
            if entry.is_new(&CGROUP) {
                let (hierarchies, own) = (&self.input.hierarchies, self.input.cgroup_namespace);
                cgroup::plan(entry, hierarchies, own, self.early.opened.take(), setting, plan)?;
            } else {
                let missing = is_missing(entry, self.entries.get(..index).unwrap_or_default());
                self.read_only_later.extend(mount::plan(entry, missing, setting, &mut maps, plan)?);
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
    /// is being made: most of what init has to do takes no longer than that.
    fn plan_meanwhile(&self, rest: usize, plan: &mut Plan) -> Result<Early> {
        let input = &self.input;
        let mut early = Early::default();
        if input.change != pivot::Change::Pivot || !self.propagation.is_early() {
            return Ok(early);
        }
        if self.may_mask_early(rest) {
            self.plan_masks_of(masks::Which::Early, plan)?;
            early.masked = true;
        }
        // A mount of a new cgroup2 falls back to a bind, by a path which is not there any more after the change.
        let bound = input.hierarchies.unified.as_ref().filter(|_| !input.cgroup_namespace);
        let others: Vec<_> = self.entries.iter().skip(rest).filter(|entry| !entry.is_new(&["sysfs"])).collect();
        match (others.as_slice(), bound) {
            ([], _) => {}
            ([entry], Some(unified)) if entry.is_new(&CGROUP) => {
                let slot = plan.slot();
                cgroup::plan_open(unified, slot, plan);
                early.opened = Some(slot);
            }
            _ => return Ok(early),
        }
        self.plan_change(plan);
        early.changed = true;
        Ok(early)
    }

    /// Whether covering paths of procfs before the mounts from `rest` on comes to the same as after all of them: it is a
    /// procfs of the container's own with nothing mounted in it, and what is there is not made read-only afterwards.
    fn may_mask_early(&self, rest: usize) -> bool {
        let mounted = || self.entries.iter().take(rest);
        let below_proc: Vec<_> =
            mounted().filter(|entry| Path::new(entry.dest.as_str()).starts_with("/proc")).collect();
        let own_proc = matches!(below_proc.as_slice(), [one] if one.is_new(&["proc"]) && one.dest.as_str() == "/proc");
        let null_is_of_root = !mounted().any(|entry| entry.dest.as_str() == "/dev");
        own_proc && self.read_only_later.is_empty() && !(self.is_read_only() && null_is_of_root)
    }

    fn is_read_only(&self) -> bool {
        self.spec.root().as_ref().is_some_and(|root| root.readonly().unwrap_or(false))
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
        if self.early.changed {
            return;
        }
        let input = &self.input;
        pivot::plan_change(self.propagation, input.change, self.is_alone(), &input.path, self.slot(), plan);
    }

    /// Whether the change of root concerns nobody else and can copy the mounts.
    fn is_alone(&self) -> bool {
        self.input.alone
            && self.propagation.is_early()
            && self.read_only_later.is_empty()
            && !self.entries.iter().any(|entry| entry.options.is_asked_to_spread())
    }

    /// Adds what makes the finished root read-only where asked, and masks paths.
    ///
    /// # Errors
    /// As [`Rootfs::read`].
    pub fn plan_finish(&self, plan: &mut Plan) -> Result<()> {
        for later in &self.read_only_later {
            mount::plan_read_only(later, plan);
        }
        if self.is_read_only() {
            pivot::plan_read_only(self.slot(), plan);
        }
        Ok(())
    }

    /// Adds the masks that have not been added yet.
    ///
    /// # Errors
    /// As [`Rootfs::read`].
    pub fn plan_masks(&self, plan: &mut Plan) -> Result<()> {
        self.plan_masks_of(if self.early.masked { masks::Which::Late } else { masks::Which::All }, plan)
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
