//! Making the container's cgroups and limiting them, before its first process exists.

use std::collections::HashMap;
use std::fmt;

use anyhow::{anyhow, bail};
use nix::errno::Errno;
use oci_spec::runtime::LinuxResources;

use super::devices::{self, List, Program};
use super::dir::{self, Dir, is_forbidden, is_gone, join};
use super::limits_v2::Limits;
use super::path::{Place, Placement};
use super::properties::{self, Property};
use super::setting::{Or, Setting, apply};
use super::systemd::Manager;
use super::{limits_v1, limits_v2};
use crate::error::{Result, Why, errno_of};
use crate::plan::{Outside, Plan, Runtime, Slot};
use crate::sys::fd;

/// The place of the resources in config.json.
pub(super) const PREFIX: &str = "linux.resources.";

/// The controllers of v2 are enabled where that works, even where nothing is limited: `events` and `update` use them,
/// and so does a runtime or a kubelet in the container. As in runc.
const CONTROLLERS: [&str; 9] = ["cpu", "cpuset", "dmem", "hugetlb", "io", "memory", "misc", "pids", "rdma"];

/// v2 controllers that a threaded cgroup cannot have.
const DOMAIN: [&str; 3] = ["memory", "io", "hugetlb"];

/// Adds the steps that make the container's cgroups and write their limits; on v2 the process is then born there.
/// A scope of systemd's is made after the clone, with the properties that `annotations` add.
///
/// `pids_limit` is `pids.limit` as config.json has it, since the typed resources cannot tell absent from 0.
///
/// What is given back is a step that the caller adds beside those of init, behind what init waits for.
///
/// # Errors
/// Values that cannot be, and limits for a container that gets no cgroup.
pub fn plan_make(
    placement: &Placement,
    resources: Option<&LinuxResources>,
    pids_limit: Option<i64>,
    annotations: Option<&HashMap<String, String>>,
    plan: &mut Plan,
) -> Result<Option<AttachDevices>> {
    let none = LinuxResources::default();
    let resources = resources.unwrap_or(&none);
    let Limits { settings, warnings } = if placement.unified {
        limits_v2::translate(resources, pids_limit, None)?
    } else {
        limits_v1::translate(resources, pids_limit, false)?
    };
    for warning in warnings {
        plan.warn(warning);
    }
    let rules = devices::rules(resources.devices().as_deref().unwrap_or_default())?;
    if !placement.is_some() {
        if settings.is_empty() {
            return Ok(None);
        }
        let why = placement.refused.as_deref().unwrap_or("no cgroup is mounted");
        bail!("rootless needs no limits + no cgrouppath when no permission is granted for cgroups: {why}");
    }
    let timing = match &placement.scope {
        None => Timing::Before,
        Some(scope) => {
            let mut properties = scope.properties(placement.unified);
            if !scope.user {
                properties.extend(properties::of_rules(&rules, placement.unified));
            }
            properties.extend(properties::of_settings(&settings));
            properties.extend(properties::of_annotations(annotations.unwrap_or(&HashMap::new()))?);
            plan.outside(StartScope { unit: scope.unit.clone(), user: scope.user, properties });
            Timing::After
        }
    };
    if placement.unified {
        let mut beside = None;
        for place in &placement.places {
            beside = make_v2(placement, place, settings.clone(), &rules, timing, plan).or(beside);
        }
        return Ok(beside);
    }
    make_v1(placement, resources, settings, &rules, timing, plan).map(|()| None)
}

/// Whether the cgroup is made before the container's first process or, by systemd, around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Timing {
    Before,
    After,
}

impl Timing {
    fn add(self, plan: &mut Plan, step: impl Outside + 'static) {
        match self {
            Timing::Before => plan.before(step),
            Timing::After => plan.outside(step),
        }
    }
}

struct StartScope {
    unit: String,
    user: bool,
    properties: Vec<Property>,
}

impl fmt::Display for StartScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list: Vec<String> = self.properties.iter().map(Property::to_string).collect();
        write!(f, "starting systemd unit {:?} with {}", self.unit, list.join(", "))
    }
}

impl Outside for StartScope {
    fn run(&self, runtime: &mut Runtime) -> Result<()> {
        let pid = runtime.child()?.pid;
        Manager::connect(self.user)?.start(&self.unit, &self.properties, pid)
    }
}

fn make_v2(
    placement: &Placement,
    place: &Place,
    settings: Vec<Setting>,
    rules: &[devices::Rule],
    timing: Timing,
    plan: &mut Plan,
) -> Option<AttachDevices> {
    let slot = plan.outside_slot();
    let dir = place.dir();
    let mut wanted: Vec<Wanted> = Vec::new();
    for setting in settings.iter().filter(|setting| !setting.controller.is_empty() && setting.or != Or::SkipMissing) {
        if !wanted.contains(&(setting.controller, true)) {
            wanted.push((setting.controller, true));
        }
    }
    for name in CONTROLLERS {
        if !wanted.contains(&(name, true)) {
            wanted.push((name, false));
        }
    }
    timing.add(plan, MakeV2 { place: place.clone(), slot, wanted });
    let mut beside = None;
    if let Some(program) = devices::compile(rules) {
        let dir = dir.clone();
        let attach = AttachDevices { dir, slot, program, exists: place.exists, rootless: placement.rootless };
        match timing {
            Timing::Before => beside = Some(attach),
            Timing::After => plan.outside(attach),
        }
    }
    if !settings.is_empty() {
        timing.add(plan, LimitV2 { dir, slot, settings });
    }
    // Kernels since 2025 (6.14 and those it was backported to) count the uses of cgroup.kill and kill a
    // process born in a cgroup with another count than its parent's, so a cgroup that was there before
    // is joined after the clone.
    if !place.exists && timing == Timing::Before {
        plan.spawn.cgroup = Some(slot);
    }
    beside
}

fn make_v1(
    placement: &Placement,
    resources: &LinuxResources,
    settings: Vec<Setting>,
    rules: &[devices::Rule],
    timing: Timing,
    plan: &mut Plan,
) -> Result<()> {
    if let Some(setting) = settings.iter().find(|setting| placement.of(setting.controller).is_none()) {
        let name = setting.controller;
        bail!("{PREFIX}{}: cannot set {name} limit: container could not join or create cgroup", setting.json);
    }
    let given = |list: Option<&Option<String>>| list.and_then(Option::as_ref).is_some_and(|list| !list.is_empty());
    let cpu = resources.cpu().as_ref();
    for place in &placement.places {
        let cpuset = place.controllers.iter().any(|name| name == "cpuset");
        let seed = Seed {
            cpus: cpuset && !given(cpu.map(|cpu| cpu.cpus())),
            mems: cpuset && !given(cpu.map(|cpu| cpu.mems())),
        };
        timing.add(plan, MakeV1 { place: place.clone(), seed: cpuset.then_some(seed) });
    }
    for place in &placement.places {
        let own: Vec<Setting> =
            settings.iter().filter(|s| place.controllers.iter().any(|name| name == s.controller)).cloned().collect();
        if !own.is_empty() {
            timing.add(plan, LimitV1 { dir: place.dir(), settings: own });
        }
    }
    // In a user namespace nobody may change device lists; the container cannot make devices there either.
    match placement.of("devices") {
        Some(place) => {
            let list = List::of(rules)?;
            timing.add(plan, Devices { dir: place.dir(), list, rootless: placement.rootless });
        }
        None if placement.rootless => {}
        None => bail!("linux.resources.devices: no devices cgroup is mounted"),
    }
    Ok(())
}

/// Takes the directory out of its slot for a step's work, and puts it back.
fn with_dir(runtime: &mut Runtime, slot: Slot, path: &str, work: impl FnOnce(&Dir) -> Result<()>) -> Result<()> {
    let fd = runtime.slots.take(slot).ok_or(Errno::EBADF).why(|| format!("open {path}"))?;
    let dir = Dir::adopt(fd, path);
    work(&dir)?;
    runtime.slots.put(slot, dir.into_fd());
    Ok(())
}

/// How often what is made below an ancestor is begun again when that has just been removed: the end of another
/// container takes the ancestors that it leaves empty with it.
const TRIES: u32 = 100;

fn persist<T>(work: impl Fn() -> Result<T>) -> Result<T> {
    for _ in 1..TRIES {
        match work() {
            Err(error) if errno_of(&error).is_some_and(is_gone) => {}
            other => return other,
        }
    }
    work()
}

/// Makes a place's directory and the ancestors that are missing.
fn make(place: &Place) -> Result<()> {
    let path = place.dir();
    match dir::make(&path) {
        Err(Errno::ENOENT) => {}
        other => return other.why(|| format!("mkdir {path}")),
    }
    let mut at = place.mount.clone();
    for name in place.path.split('/') {
        at = join(&at, name);
        dir::make(&at).why(|| format!("mkdir {at}"))?;
    }
    Ok(())
}

/// A controller's name, with whether a limit needs it.
type Wanted = (&'static str, bool);

struct MakeV2 {
    place: Place,
    slot: Slot,
    wanted: Vec<Wanted>,
}

impl fmt::Display for MakeV2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "making cgroup {:?} with the controllers that are available", self.place.dir())?;
        let needed: Vec<&str> = self.needed().map(|(name, _)| *name).collect();
        if needed.is_empty() { Ok(()) } else { write!(f, ", and {} in any case", needed.join(", ")) }
    }
}

impl Outside for MakeV2 {
    fn run(&self, runtime: &mut Runtime) -> Result<()> {
        let path = self.place.dir();
        let (dir, refused) = persist(|| self.make())?;
        // Whether limits are asked for that a threaded cgroup cannot have.
        let domain = self.needed().any(|(name, _)| DOMAIN.contains(name));
        // Children of the root are domains always; elsewhere a threaded ancestor makes them threaded or invalid.
        if self.place.path.contains('/') {
            let kind = dir.read("cgroup.type").unwrap_or_default();
            match kind.trim() {
                "domain invalid" if domain => {
                    bail!("cannot enter cgroupv2 {path:?} with domain controllers -- it is in an invalid state")
                }
                "domain invalid" => dir.write("cgroup.type", "threaded").why(|| format!("making {path} threaded"))?,
                kind @ ("threaded" | "domain threaded") if domain => {
                    bail!("cannot enter cgroupv2 {path:?} with domain controllers -- it is in {kind} mode")
                }
                _ => {}
            }
        }
        if let Some(refused) = refused {
            return Err(refused);
        }
        runtime.slots.put(self.slot, dir.into_fd());
        Ok(())
    }
}

impl MakeV2 {
    fn needed(&self) -> impl Iterator<Item = &Wanted> {
        self.wanted.iter().filter(|(_, needed)| *needed)
    }

    /// Makes and opens the cgroup, after its parent has been told which controllers it hands down. The kernel shows
    /// them in cgroup.subtree_control and cgroup.controllers before the files of those children are there that it
    /// already has, but a cgroup made then waits for that and has all of its files.
    ///
    /// The error beside the cgroup is that of a controller which a limit needs and which could not be had.
    fn make(&self) -> Result<(Dir, Option<anyhow::Error>)> {
        let (above, name) = self.place.path.rsplit_once('/').unwrap_or(("", &self.place.path));
        let (parent, refused) = hand_down(&self.place.mount, above, &self.wanted)?;
        match parent.make(name) {
            // Its files may be on their way, and to ask for them once more is to wait for them.
            Err(Errno::EEXIST) => drop(write_control(&parent, &self.needed().copied().collect::<Vec<_>>())),
            other => other.why(|| format!("mkdir {}", self.place.dir()))?,
        }
        Ok((parent.child(name).why(|| format!("open {}", self.place.dir()))?, refused))
    }
}

/// Hands the wanted controllers down to a v2 cgroup, level by level, where they are not there yet.
///
/// # Errors
/// When one that a limit needs cannot be had.
pub(super) fn enable(leaf: &Dir, mount: &str, path: &str, wanted: &[Wanted]) -> Result<()> {
    let here = leaf.read("cgroup.controllers").unwrap_or_default();
    if wanted.iter().all(|(name, _)| has(&here, name)) {
        return Ok(());
    }
    match hand_down(mount, path.rsplit_once('/').map_or("", |(above, _)| above), wanted)? {
        (_, None) => Ok(()),
        (_, Some(refused)) => Err(refused),
    }
}

/// Whether a controller is in the kernel's list.
fn has(list: &str, name: &str) -> bool {
    list.split_whitespace().any(|word| word == name)
}

/// Makes the children of the cgroup at `path` get the wanted controllers, as far as there are such, and opens it. It and
/// its ancestors are made where they are missing.
///
/// The error beside it names a controller which a limit needs and which could not be had.
fn hand_down(mount: &str, path: &str, wanted: &[Wanted]) -> Result<(Dir, Option<anyhow::Error>)> {
    let absent = |refused: &[Wanted], at: &str| {
        let name = refused.iter().find(|(_, needed)| *needed)?.0;
        Some(anyhow!("cannot set {name} limit: controller {name:?} not available in {at}"))
    };
    let lacking = |dir: &Dir, names: &[Wanted]| -> Vec<Wanted> {
        let on = if names.is_empty() { String::new() } else { dir.read("cgroup.subtree_control").unwrap_or_default() };
        names.iter().copied().filter(|(name, _)| !has(&on, name)).collect()
    };
    let mut dir = dir::open(mount)?;
    let available = dir.read("cgroup.controllers").unwrap_or_default();
    let (mut names, none): (Vec<Wanted>, Vec<Wanted>) = wanted.iter().partition(|(name, _)| has(&available, name));
    let mut refused = absent(&none, mount);
    // Usually all the levels have been through this.
    if !path.is_empty()
        && let Ok(dir) = Dir::open(&join(mount, path))
        && lacking(&dir, &names).is_empty()
    {
        return Ok((dir, refused));
    }
    let mut below = path.split('/').filter(|name| !name.is_empty());
    loop {
        let off = lacking(&dir, &names);
        let gone = write_control(&dir, &off);
        refused = refused.or_else(|| absent(&gone, &dir.path));
        names.retain(|each| !gone.contains(each));
        let Some(name) = below.next() else { return Ok((dir, refused)) };
        let path = join(&dir.path, name);
        let child = match dir.child(name) {
            Err(Errno::ENOENT) => {
                dir::make(&path).why(|| format!("mkdir {path}"))?;
                dir.child(name)
            }
            other => other,
        };
        dir = child.why(|| format!("open {path}"))?;
    }
}

/// Writes cgroup.subtree_control once, or name by name where one of them is refused; gives back the refused ones.
fn write_control(dir: &Dir, names: &[Wanted]) -> Vec<Wanted> {
    let line = |names: &[Wanted]| names.iter().map(|(name, _)| format!("+{name}")).collect::<Vec<_>>().join(" ");
    if names.is_empty() || dir.write("cgroup.subtree_control", &line(names)).is_ok() {
        return Vec::new();
    }
    let one = |each: &Wanted| dir.write("cgroup.subtree_control", &line(&[*each]));
    names.iter().filter(|each| one(each).is_err()).copied().collect()
}

/// The attaching of the device program to a cgroup that init has been born in.
pub struct AttachDevices {
    dir: String,
    slot: Slot,
    program: Program,
    exists: bool,
    rootless: bool,
}

impl fmt::Display for AttachDevices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "attaching the device program to cgroup {:?}", self.dir)
    }
}

impl Outside for AttachDevices {
    fn run(&self, runtime: &mut Runtime) -> Result<()> {
        with_dir(runtime, self.slot, &self.dir, |dir| tolerate(self.program.attach(dir, self.exists), self.rootless))
    }
}

/// A user without privileges may not decide about devices, and has none to give.
fn tolerate(result: Result<()>, rootless: bool) -> Result<()> {
    match result {
        Err(error) if rootless && errno_of(&error).is_some_and(is_forbidden) => Ok(()),
        other => other,
    }
}

struct LimitV2 {
    dir: String,
    slot: Slot,
    settings: Vec<Setting>,
}

fn show(settings: &[Setting], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let list: Vec<String> = settings.iter().map(Setting::to_string).collect();
    write!(f, "writing the cgroup limits {}", list.join(", "))
}

impl fmt::Display for LimitV2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(&self.settings, f)
    }
}

impl Outside for LimitV2 {
    fn run(&self, runtime: &mut Runtime) -> Result<()> {
        let settings: Vec<&Setting> = self.settings.iter().collect();
        with_dir(runtime, self.slot, &self.dir, |dir| apply(dir, &settings, PREFIX, None))
    }
}

struct LimitV1 {
    dir: String,
    settings: Vec<Setting>,
}

impl fmt::Display for LimitV1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(&self.settings, f)
    }
}

impl Outside for LimitV1 {
    fn run(&self, _: &mut Runtime) -> Result<()> {
        let settings: Vec<&Setting> = self.settings.iter().collect();
        apply(&dir::open(&self.dir)?, &settings, PREFIX, None)
    }
}

struct Devices {
    dir: String,
    list: List,
    rootless: bool,
}

impl fmt::Display for Devices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "writing the device list of cgroup {:?}", self.dir)
    }
}

impl Outside for Devices {
    fn run(&self, _: &mut Runtime) -> Result<()> {
        tolerate(self.list.write(&dir::open(&self.dir)?), self.rootless)
    }
}

/// Which of the new cpuset's files get the parent's value.
#[derive(Debug, Clone, Copy)]
struct Seed {
    cpus: bool,
    mems: bool,
}

struct MakeV1 {
    place: Place,
    seed: Option<Seed>,
}

impl fmt::Display for MakeV1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "making cgroup {:?}", self.place.dir())
    }
}

impl Outside for MakeV1 {
    fn run(&self, _: &mut Runtime) -> Result<()> {
        persist(|| make(&self.place))?;
        match self.seed {
            Some(seed) => seed_cpuset(&self.place, seed),
            None => Ok(()),
        }
    }
}

/// A new v1 cpuset is empty, and no process can join an empty one: it and its ancestors get their parent's values.
fn seed_cpuset(place: &Place, seed: Seed) -> Result<()> {
    let mut parent = dir::open(&place.mount)?;
    let names: Vec<&str> = place.path.split('/').collect();
    for (index, name) in names.iter().enumerate() {
        let child = parent.child(name).why(|| format!("open {}/{name}", parent.path))?;
        let last = index + 1 == names.len();
        for (file, wanted) in [("cpuset.cpus", seed.cpus), ("cpuset.mems", seed.mems)] {
            if last && !wanted {
                continue;
            }
            let empty = child.read(file).why(|| format!("read {}/{file}", child.path))?.trim().is_empty();
            if empty {
                let value = parent.read(file).why(|| format!("read {}/{file}", parent.path))?;
                child.write(file, value.trim()).why(|| format!("write {value:?} to {}/{file}", child.path))?;
            }
        }
        parent = child;
    }
    Ok(())
}

/// Adds the step that gives a v2 cgroup to the container's root user, for one with its own cgroup
/// namespace and a writable cgroup file system.
pub fn plan_delegate(placement: &Placement, owner: u32, plan: &mut Plan) {
    if let (true, [place]) = (placement.unified, placement.places.as_slice()) {
        plan.before(Delegate { dir: place.dir(), owner });
    }
}

struct Delegate {
    dir: String,
    owner: u32,
}

impl fmt::Display for Delegate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "giving cgroup {:?} to user {}", self.dir, self.owner)
    }
}

impl Outside for Delegate {
    fn run(&self, _: &mut Runtime) -> Result<()> {
        let list = std::fs::read_to_string("/sys/kernel/cgroup/delegate").ok();
        // Kernels before 4.15 have no list; these were the files then.
        let list = list.as_deref().unwrap_or("cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n");
        let owner = Some(nix::unistd::Uid::from_raw(self.owner));
        let dir = dir::open(&self.dir)?;
        for file in std::iter::once(".").chain(list.lines()) {
            match nix::unistd::fchownat(&dir, file, owner, None, nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW) {
                // The list is the kernel's, the files depend on the controllers here.
                Err(Errno::ENOENT) => {}
                other => other.why(|| format!("chown {}/{file}", self.dir))?,
            }
        }
        Ok(())
    }
}

/// Writes a pid into a cgroup's list, patient with a process that the scheduler does not know yet.
pub(super) fn write_pid(dir: &Dir, pid: i32) -> Result<()> {
    let what = || format!("failed to write {pid} to {}/cgroup.procs", dir.path);
    let file = dir.file("cgroup.procs", libc::O_WRONLY).why(what)?;
    let mut tries = 0;
    loop {
        match fd::write_once(std::os::fd::AsFd::as_fd(&file), pid.to_string().as_bytes()) {
            Err(Errno::EINVAL) if tries < 5 => {
                tries += 1;
                std::thread::sleep(std::time::Duration::from_millis(tries));
            }
            other => return other.why(what),
        }
    }
}
