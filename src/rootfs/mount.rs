//! The mounts of config.json, in the order in which they are listed: config.md#mounts (runtime-spec v1.3.0).
//!
//! A new file system is mounted with mount(2) on `.`, after fchdir to the opened destination; where more
//! is done to it afterwards, it is made detached (fsopen, fsmount), which leaves a descriptor of the mount
//! itself. A bind is a detached clone (open_tree), given its attributes, and attached with move_mount: at
//! no moment is it visible without them.

use std::ffi::{CStr, CString};
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use anyhow::{anyhow, bail};
use nix::errno::Errno;
use oci_spec::runtime::Spec;

use super::dest::Dest;
use super::detached;
use super::flags::{Flags, Outcome};
use super::idmap::{self, Mapping};
use super::options::Options;
use super::sources;
use crate::error::{Result, errno_text};
use crate::plan::{Either, Fault, Init, Inside, Plan, Slot};
use crate::sys::mount::{MountAttr, change, clone_tree, mount, mount_setattr, move_mount};
use crate::sys::{self, fd};

/// Parts of a mount step, for its error message.
pub(super) const PART_DEST: u64 = 1;
const PART_SOURCE: u64 = 2;
const PART_ATTRIBUTES: u64 = 3;
const PART_PROPAGATION: u64 = 4;
const PART_FILE_ON_DIR: u64 = 5;
const PART_DIR_ON_FILE: u64 = 6;
const PART_LABEL: u64 = 7;
/// Free for parts of steps in other files.
pub(super) const PART_OTHER: u64 = 16;

/// Who opens the sources of bind mounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sources {
    /// The container's init, in its copy of the host's mounts.
    Inside,
    /// The runtime, before the clone: the container's root may not be able to reach them.
    Outside,
}

/// One entry of `mounts`.
pub struct Entry<'a> {
    /// `mounts[n]`.
    pub json: String,
    /// The entry.
    pub mount: &'a oci_spec::runtime::Mount,
    /// Its options, read.
    pub options: Options,
    /// Where it goes.
    pub dest: Dest,
    /// `source`, or the type where none is given.
    pub source: CString,
    /// `type`.
    pub fstype: String,
    /// How its ids are mapped.
    pub idmap: Option<idmap::Asked>,
    /// Whether `source` lies below the container's root, where earlier mounts may have covered it.
    pub source_in_root: bool,
    /// Which option names an id that the container's user namespace does not map.
    pub unmapped: Option<String>,
    /// What SELinux is to call its files: `linux.mountLabel`, for the types that take it.
    pub label: Option<CString>,
}

impl<'a> Entry<'a> {
    /// Reads and checks one entry.
    ///
    /// # Errors
    /// Options that contradict the type.
    pub fn read(
        index: usize,
        mount: &'a oci_spec::runtime::Mount,
        spec: &Spec,
        root: &std::path::Path,
    ) -> Result<Entry<'a>> {
        let json = format!("mounts[{index}]");
        let path = |p: &std::path::Path| {
            p.to_str().map(str::to_owned).ok_or_else(|| anyhow!("config.json: {json} has a path that is not UTF-8"))
        };
        let options = Options::read(mount.options().as_deref().unwrap_or_default());
        // The comparison of bytes is the quick one.
        let begins = |path: &std::path::Path| path.as_os_str().as_bytes().starts_with(root.as_os_str().as_bytes());
        let below_root =
            |path: &std::path::Path| begins(path) && path.strip_prefix(root).is_ok() && root.parent().is_some();
        // As in runc, a destination that begins with the root's path on the host is taken from there.
        let dest = match path(mount.destination())? {
            dest if below_root(mount.destination()) => {
                let rest = dest.strip_prefix(&path(root)?).unwrap_or_default();
                format!("/{rest}")
            }
            dest => dest,
        };
        let dest = Dest::new(format_args!("{json}.destination"), &dest)?;
        let fstype = mount.typ().clone().unwrap_or_default();
        let is_bind = options.is_bind() || fstype == "bind";
        let source_in_root = mount.source().as_deref().is_some_and(below_root);
        let source = match mount.source() {
            Some(source) => path(source)?,
            None if is_bind => bail!("config.json: {json}.source is missing for a bind mount"),
            None => fstype.clone(),
        };
        if is_bind && !options.data.is_empty() {
            bail!("config.json: {json}.options: a bind mount takes no file system options ({:?})", options.data);
        }
        if !is_bind && fstype.is_empty() {
            bail!("config.json: {json}.type is missing");
        }
        let source = CString::new(source).map_err(|_| anyhow!("config.json: {json}.source contains a NUL byte"))?;
        if options.copy_up && (is_bind || fstype != "tmpfs") {
            bail!("config.json: {json}.options: \"tmpcopyup\" is for mounts of type tmpfs");
        }
        let idmap = idmap::asked(&json, mount, &options, spec)?;
        if idmap.is_some() && !is_bind && matches!(fstype.as_str(), "proc" | "sysfs" | "cgroup" | "cgroup2") {
            bail!("config.json: {json}: the ids of a mount of type {fstype} cannot be mapped");
        }
        let unmapped = idmap::unmapped(&options.data, spec);
        Ok(Entry { json, mount, options, dest, source, fstype, idmap, source_in_root, unmapped, label: None })
    }

    /// With the label of the container's mounts, where it is a new file system that can be labelled as a whole.
    ///
    /// procfs and sysfs have labels of the policy's own, cgroups are shared with the host, and a bind shows the
    /// files of another mount.
    pub fn labelled(mut self, label: Option<&CString>) -> Entry<'a> {
        const OWN: [&str; 4] = ["proc", "sysfs", "cgroup", "cgroup2"];
        let given = self.options.data.split(',').any(|word| word.starts_with("context="));
        if !self.is_bind() && !given && !OWN.contains(&self.fstype.as_str()) {
            self.label = label.cloned();
        }
        self
    }

    /// The options for mount(2). A label has commas in it (`s0:c1,c2`), so it stands in quotes.
    fn data(&self) -> String {
        let mut data = self.options.data.clone();
        // The kernel's mqueue takes no option; its files are labelled afterwards.
        if let Some(label) = self.label.as_ref().filter(|_| self.fstype != "mqueue") {
            let comma = if data.is_empty() { "" } else { "," };
            data += &format!("{comma}context=\"{}\"", label.to_string_lossy());
        }
        data
    }

    /// Whether the mount depends on the network namespace of the process that makes it.
    ///
    /// sysfs shows its devices; network file systems connect through it; of others it is not known.
    pub fn looks_at_network(&self) -> bool {
        const BLIND: [&str; 7] = ["proc", "tmpfs", "devpts", "mqueue", "cgroup", "cgroup2", "overlay"];
        !self.is_bind() && !BLIND.contains(&self.fstype.as_str())
    }

    /// Whether this is a new file system of one of these types.
    pub fn is_new(&self, types: &[&str]) -> bool {
        !self.is_bind() && types.contains(&self.fstype.as_str())
    }

    /// Whether this is a bind mount, by option or by type.
    pub fn is_bind(&self) -> bool {
        self.options.is_bind() || self.fstype == "bind"
    }
}

/// The context of planning mounts.
pub struct Setting {
    /// The root of the container.
    pub rootfs: Slot,
    /// Who opens bind sources.
    pub sources: Sources,
    /// Whether the container has a user namespace.
    pub user_namespace: bool,
    /// Whether bind mounts stay shared with the host, unless their options say otherwise.
    pub shares: bool,
    /// Where relative sources begin.
    pub bundle: std::path::PathBuf,
    /// What SELinux is to call the files of new mounts.
    pub label: Option<CString>,
}

/// A mount that becomes read-only when nothing is written below it any more.
#[derive(Debug, Clone)]
pub struct ReadOnlyLater {
    dest: Dest,
    mounted: Slot,
}

/// Adds the steps for one bind mount or one new file system (cgroup mounts are planned elsewhere). `missing`: its
/// destination is still to be made, in a tmpfs of an entry before.
///
/// # Errors
/// Values that cannot be passed to the kernel.
pub fn plan(
    entry: &Entry<'_>,
    missing: bool,
    setting: &Setting,
    maps: &mut idmap::Namespaces,
    plan: &mut Plan,
) -> Result<Option<ReadOnlyLater>> {
    let mapping = entry.idmap.as_ref().map(|asked| maps.mapping(asked, plan));
    if entry.is_bind() {
        let recursive = entry.options.is_recursive_bind() || !entry.options.is_bind();
        let bind = bind(entry, entry.source.clone(), recursive, mapping, (setting, setting.sources), plan)?;
        plan.inside(bind);
        return Ok(None);
    }
    let mut flags = entry.options.flags;
    let mut kept = None;
    if is_read_only_later(entry) {
        kept = entry.options.is_read_only().then(|| plan.slot());
        flags &= !libc::MS_RDONLY;
    }
    let later = kept.map(|mounted| ReadOnlyLater { dest: entry.dest.clone(), mounted });
    if entry.options.copy_up || mapping.is_some() {
        plan.inside(detached::step(entry, flags, mapping, kept, setting.rootfs)?);
        return Ok(later);
    }
    let c = |text: String| CString::new(text).map_err(|_| anyhow!("config.json: {} contains a NUL byte", entry.json));
    let step = MountFs {
        source: entry.source.clone(),
        fstype: c(entry.fstype.clone())?,
        dest: entry.dest.clone(),
        flags,
        data: Some(entry.data()).filter(|data| !data.is_empty()).map(c).transpose()?,
        label: entry.label.clone().filter(|_| entry.fstype == "mqueue"),
        after: After::of(&entry.options),
        unmapped: entry.unmapped.clone(),
        kept,
        missing,
        rootfs: setting.rootfs,
    };
    // The label of a message queue is set through its name.
    if step.is_worked_on() && step.label.is_none() && detached::takes(entry) {
        let first = detached::step(entry, flags, None, kept, setting.rootfs)?;
        // For filters of an outer container that are older than fsopen(2).
        plan.inside(Either { first, second: step, on: &[Errno::ENOSYS] });
    } else if entry.fstype == "sysfs" && setting.user_namespace {
        // The kernel refuses a new sysfs to a user namespace that does not own the network namespace.
        // Everybody reaches /sys, so init can open it, and only where it has to.
        let mut bind = bind(entry, c"/sys".to_owned(), true, None, (setting, Sources::Inside), plan)?;
        bind.flags = bind.flags.and(libc::MS_NOSUID | libc::MS_NOEXEC | libc::MS_NODEV);
        plan.inside(Either { first: step, second: bind, on: &[Errno::EPERM] });
    } else {
        plan.inside(step);
    }
    Ok(later)
}

/// Adds what must wait until nothing is written below a tmpfs or /dev any more: read-only.
pub fn plan_read_only(later: &ReadOnlyLater, plan: &mut Plan) {
    plan.inside(SetReadOnly(later.clone()));
}

/// More may be mounted and made below these.
fn is_read_only_later(entry: &Entry<'_>) -> bool {
    entry.fstype == "tmpfs" || entry.dest.as_str() == "/dev"
}

fn bind(
    entry: &Entry<'_>,
    source: CString,
    recursive: bool,
    mapping: Option<Mapping>,
    (setting, sources): (&Setting, Sources),
    plan: &mut Plan,
) -> Result<Bind> {
    let source = if source.to_bytes().starts_with(b"/") {
        source
    } else {
        let mut path = setting.bundle.as_os_str().as_encoded_bytes().to_vec();
        path.push(b'/');
        path.extend(source.to_bytes());
        CString::new(path).map_err(|_| anyhow!("config.json: {}.source contains a NUL byte", entry.json))?
    };
    let shared = setting.shares && !entry.source_in_root && entry.options.may_be_shared();
    let opened = match (sources, mapping) {
        (Sources::Inside, None) if !shared => None,
        // Ids are mapped by who is root over the file system, which the container's root need not be.
        _ => {
            let source = sources::Source { path: source.clone(), json: entry.json.clone(), recursive, mapping, shared };
            Some(if entry.source_in_root { sources::plan_there(source, plan) } else { sources::plan(source, plan) })
        }
    };
    Ok(Bind {
        source,
        recursive,
        opened,
        shared,
        dest: entry.dest.clone(),
        flags: Flags::of(&entry.options, setting.user_namespace),
        after: After::of(&entry.options),
        rootfs: setting.rootfs,
    })
}

/// What is set on a mount once it is there.
#[derive(Debug, Clone, Default)]
pub(super) struct After {
    recursive: (u64, u64),
    propagation: Vec<u64>,
}

impl After {
    pub(super) fn of(options: &Options) -> After {
        After { recursive: options.recursive, propagation: options.propagation.clone() }
    }

    pub(super) fn is_nothing(&self) -> bool {
        self.recursive == (0, 0) && self.propagation.is_empty()
    }

    pub(super) fn apply(&self, mount: BorrowedFd<'_>) -> std::result::Result<(), Fault> {
        let (set, clear) = self.recursive;
        if (set, clear) != (0, 0) {
            let attr = MountAttr { set, clear, propagation: 0 };
            mount_setattr(mount, attr, libc::AT_RECURSIVE, None).map_err(Fault::at(PART_ATTRIBUTES))?;
        }
        for flags in &self.propagation {
            let attr = MountAttr { propagation: flags & !libc::MS_REC, ..MountAttr::default() };
            let recursive = if flags & libc::MS_REC != 0 { libc::AT_RECURSIVE } else { 0 };
            match mount_setattr(mount, attr, recursive, None) {
                // Linux before 5.12 has only mount(2) for this, which wants the mount as a path.
                Err(Errno::ENOSYS) => change(mount, *flags),
                other => other,
            }
            .map_err(Fault::at(PART_PROPAGATION))?;
        }
        Ok(())
    }
}

pub(super) fn explain(fault: Fault) -> String {
    let what = match fault.detail {
        PART_DEST => "making the mount point: ",
        PART_SOURCE => "opening the source: ",
        PART_ATTRIBUTES => "setting mount attributes: ",
        PART_PROPAGATION => "setting propagation: ",
        PART_LABEL => "setting linux.mountLabel: ",
        PART_FILE_ON_DIR => "the source is a file, the destination a directory: ",
        PART_DIR_ON_FILE => "the source is a directory, the destination is none: ",
        _ => "",
    };
    format!("{what}{}", errno_text(fault.errno))
}

struct MountFs {
    source: CString,
    fstype: CString,
    dest: Dest,
    flags: u64,
    data: Option<CString>,
    /// Set on the mounted directory.
    label: Option<CString>,
    after: After,
    unmapped: Option<String>,
    kept: Option<Slot>,
    missing: bool,
    rootfs: Slot,
}

impl fmt::Display for MountFs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mounting {:?} to rootfs at {}", self.source, self.dest)?;
        let data = self.data.as_deref().map(|data| data.to_string_lossy()).unwrap_or_default();
        if let Some(at) = data.find("context=") {
            write!(f, " with {}", data.get(at..).unwrap_or_default())?;
        }
        self.label.as_ref().map_or(Ok(()), |label| write!(f, " labelled {label:?}"))
    }
}

/// Opens the place for a new file system.
///
/// procfs and sysfs behind a symbolic link would put the masks elsewhere (CVE-2019-19921, CVE-2023-27561).
pub(super) fn open_dest(fstype: &CStr, dest: &Dest, rootfs: BorrowedFd<'_>) -> std::result::Result<OwnedFd, Fault> {
    if !matches!(fstype.to_bytes(), b"proc" | b"sysfs") {
        return dest.make_dir(rootfs, 0o755).map_err(Fault::at(PART_DEST));
    }
    match dest.open_without_links(rootfs) {
        Err(Errno::ENOENT) => {}
        other => return other.map_err(Fault::at(PART_DEST)),
    }
    dest.make_dir(rootfs, 0o755).map_err(Fault::at(PART_DEST))?;
    dest.open_without_links(rootfs).map_err(Fault::at(PART_DEST))
}

/// What to say of a fault of [`open_dest`], if it was a link.
pub(super) fn explain_link(fstype: &CStr, fault: Fault) -> Option<String> {
    let is_link = fault.detail == PART_DEST && fault.errno == Errno::ELOOP;
    is_link.then(|| format!("filesystem {fstype:?} must be mounted on ordinary directory"))
}

impl MountFs {
    /// Whether the mount is needed again once it is there.
    fn is_worked_on(&self) -> bool {
        self.kept.is_some() || self.label.is_some() || !self.after.is_nothing()
    }
}

impl Inside for MountFs {
    fn run(&self, init: &mut Init<'_>) -> std::result::Result<(), Fault> {
        let rootfs = init.slots.get(self.rootfs)?;
        let make = || self.dest.make_missing_dir(rootfs, 0o755).map_err(Fault::at(PART_DEST));
        let (mut mode, mut dest) = (None, self.missing.then(make).transpose()?);
        if dest.is_none() && self.fstype.as_c_str() == c"tmpfs" {
            // A tmpfs takes over the mode of the directory that it hides, as runc's does.
            match self.dest.open(rootfs) {
                Ok(existing) => {
                    let found = fd::stat(existing.as_fd())?.st_mode;
                    mode = Some(found & 0o7777);
                    dest = Some(existing).filter(|_| fd::is_dir(found));
                }
                Err(Errno::ENOENT) => {
                    dest = Some(make()?);
                }
                Err(_) => {}
            }
        }
        let dest = match dest {
            Some(dest) => dest,
            None => open_dest(&self.fstype, &self.dest, rootfs)?,
        };
        fd::fchdir(dest.as_fd()).map_err(Fault::at(PART_DEST))?;
        let mut buffer: [u8; 4096];
        let data = match mode {
            Some(mode) => {
                buffer = [0; 4096];
                Some(with_mode(mode, self.data.as_deref(), &mut buffer).ok_or(Errno::E2BIG)?)
            }
            None => self.data.as_deref(),
        };
        mount(Some(&self.source), c".", Some(&self.fstype), self.flags, data)?;
        if self.is_worked_on() {
            let mounted = self.dest.open_mounted(dest.as_fd(), rootfs)?;
            if let Some(label) = &self.label {
                set_label(mounted.as_fd(), label).map_err(Fault::at(PART_LABEL))?;
            }
            self.after.apply(mounted.as_fd())?;
            if let Some(slot) = self.kept {
                init.slots.put(slot, mounted);
            }
        }
        Ok(())
    }

    fn explain(&self, fault: Fault) -> String {
        explain_link(&self.fstype, fault).unwrap_or_else(|| explain_option(fault, self.unmapped.as_deref()))
    }
}

/// The label that SELinux knows a directory by; an attribute cannot be set through O_PATH.
fn set_label(dir: BorrowedFd<'_>, label: &CStr) -> sys::Result<()> {
    let dir = fd::openat(dir, c".", libc::O_RDONLY | libc::O_DIRECTORY, 0)?;
    sys::copy::fsetxattr(dir.as_fd(), c"security.selinux", label.to_bytes_with_nul())
}

/// The kernel says no more than "invalid argument" of an id that is not mapped.
pub(super) fn explain_option(fault: Fault, unmapped: Option<&str>) -> String {
    match unmapped {
        Some(unmapped) if fault.errno == Errno::EINVAL => format!("{} ({unmapped})", explain(fault)),
        _ => explain(fault),
    }
}

/// `mode=0755,DATA` in a buffer; the user's own mode comes later and wins.
fn with_mode<'b>(
    mode: libc::mode_t,
    data: Option<&std::ffi::CStr>,
    buffer: &'b mut [u8],
) -> Option<&'b std::ffi::CStr> {
    let digits = [mode >> 9 & 7, mode >> 6 & 7, mode >> 3 & 7, mode & 7].map(|digit| b'0' + digit as u8);
    let rest = data.map(std::ffi::CStr::to_bytes).unwrap_or_default();
    let comma: &[u8] = if rest.is_empty() { b"" } else { b"," };
    let mut at = 0;
    for part in [b"mode=", digits.as_slice(), comma, rest, b"\0"] {
        buffer.get_mut(at..at + part.len())?.copy_from_slice(part);
        at += part.len();
    }
    std::ffi::CStr::from_bytes_with_nul(buffer.get(..at)?).ok()
}

struct Bind {
    source: CString,
    recursive: bool,
    opened: Option<Slot>,
    shared: bool,
    dest: Dest,
    flags: Flags,
    after: After,
    rootfs: Slot,
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mounting {:?} to rootfs at {}", self.source, self.dest)
    }
}

impl Bind {
    /// move_mount(2) says EINVAL where mount(2) said ENOTDIR, the word that Docker explains to its users.
    fn open_dest(&self, rootfs: BorrowedFd<'_>, source_is_dir: bool) -> std::result::Result<OwnedFd, Fault> {
        if source_is_dir {
            return self.dest.make_dir(rootfs, 0o755).map_err(|errno| {
                let on_file = errno == Errno::ENOTDIR && self.dest.open(rootfs).is_ok();
                Fault { errno, detail: if on_file { PART_DIR_ON_FILE } else { PART_DEST } }
            });
        }
        let dest = self.dest.make_file(rootfs).map_err(Fault::at(PART_DEST))?;
        if fd::is_dir(fd::stat(dest.as_fd())?.st_mode) {
            return Err(Fault { errno: Errno::ENOTDIR, detail: PART_FILE_ON_DIR });
        }
        Ok(dest)
    }
}

impl Inside for Bind {
    fn run(&self, init: &mut Init<'_>) -> std::result::Result<(), Fault> {
        // Taken out, and closed when it is attached: there may be very many of them.
        let tree = match self.opened {
            Some(slot) => init.slots.take(slot).ok_or(Errno::EBADF)?,
            None => clone_tree(fd::cwd(), &self.source, self.recursive).map_err(Fault::at(PART_SOURCE))?,
        };
        let tree = tree.as_fd();
        let rootfs = init.slots.get(self.rootfs)?;
        let dest = self.open_dest(rootfs, fd::is_dir(fd::stat(tree)?.st_mode))?;
        let outcome = self.flags.apply(tree).map_err(Fault::at(PART_ATTRIBUTES))?;
        // A source that the runtime has opened is asked for nothing, to learn whether its propagation is still to be set.
        let follows = self.opened.is_some() && !self.shared;
        let unset = follows && mount_setattr(tree, MountAttr::default(), 0, None) == Err(Errno::ENOSYS);
        let late = unset || outcome == Outcome::Later;
        if !late {
            self.after.apply(tree)?;
        }
        move_mount(tree, dest.as_fd())?;
        if unset {
            change(tree, libc::MS_SLAVE | libc::MS_REC).map_err(Fault::at(PART_PROPAGATION))?;
        }
        if outcome == Outcome::Later {
            self.flags.remount(tree).map_err(Fault::at(PART_ATTRIBUTES))?;
        }
        if late {
            self.after.apply(tree)?;
        }
        Ok(())
    }

    fn explain(&self, fault: Fault) -> String {
        explain(fault)
    }
}

/// Makes one mount read-only, by remount where the kernel has no mount_setattr (before 5.12).
pub fn set_read_only(mounted: BorrowedFd<'_>) -> sys::Result<()> {
    let read_only = MountAttr { set: libc::MOUNT_ATTR_RDONLY, ..MountAttr::default() };
    match mount_setattr(mounted, read_only, 0, None) {
        Err(Errno::ENOSYS) => {
            let kept = fd::mount_flags(mounted)?;
            change(mounted, kept | libc::MS_BIND | libc::MS_REMOUNT | libc::MS_RDONLY)
        }
        other => other,
    }
}

struct SetReadOnly(ReadOnlyLater);

impl fmt::Display for SetReadOnly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "making {} read-only", self.0.dest)
    }
}

impl Inside for SetReadOnly {
    fn run(&self, init: &mut Init<'_>) -> std::result::Result<(), Fault> {
        let mounted = init.slots.take(self.0.mounted).ok_or(Errno::EBADF)?;
        Ok(set_read_only(mounted.as_fd())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mode_of_the_hidden_directory_comes_before_the_users_options() {
        let mut buffer = [0; 64];
        assert_eq!(with_mode(0o1777, Some(c"size=1m"), &mut buffer), Some(c"mode=1777,size=1m"));
        assert_eq!(with_mode(0o755, None, &mut buffer), Some(c"mode=0755"));
        assert_eq!(with_mode(0o755, Some(c"size=1m"), &mut [0; 8]), None);
    }
}
