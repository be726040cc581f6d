//! Where the container's cgroup is: config-linux.md#cgroups-path (runtime-spec v1.3.0).
//!
//! An absolute path is below the mount of the hierarchy, a relative one beside the runtime's own
//! cgroup (v2: its parent, as a cgroup with processes cannot hand out controllers), an absent one is
//! the container's id. What exists there is looked at now, before anything is recorded: a cgroup
//! with processes in it is somebody else's, and `destroy` must never get hold of its name.

use anyhow::{anyhow, bail};
use nix::errno::Errno;
use nix::unistd::AccessFlags;

use super::dir::{Dir, clean, is_forbidden, is_gone, join};
use super::systemd::Scope;
use super::{Record, processes};
use crate::error::{Result, Why};
use crate::host::Host;
use crate::host::cgroup::{Own, Setup};
use crate::sys::fd;

/// The cgroups of a container that is to be made.
#[derive(Debug)]
pub struct Placement {
    /// One a hierarchy.
    pub(super) places: Vec<Place>,
    pub(super) unified: bool,
    pub(super) rootless: bool,
    /// Why a rootless container gets no cgroup.
    pub(super) refused: Option<String>,
    /// The scope that systemd makes for it.
    pub(super) scope: Option<Scope>,
}

/// A container's cgroup in one hierarchy.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// v2 is "".
    pub controllers: Vec<String>,
    pub mount: String,
    /// Below the mount, without a leading slash.
    pub path: String,
    /// Whether the (empty) cgroup is there already.
    pub exists: bool,
    /// How many of its ancestors are not.
    pub missing: usize,
}

impl Place {
    /// The absolute path of the directory.
    pub fn dir(&self) -> String {
        join(&self.mount, &self.path)
    }
}

impl Placement {
    /// Decides where the container's cgroup will be.
    ///
    /// # Errors
    /// A path that names a hierarchy's root, a cgroup with processes or a frozen one, a host without cgroups.
    pub fn new(cgroups_path: Option<&str>, id: &str, host: &Host) -> Result<Placement> {
        let (setup, rootless) = (&host.cgroup, host.tolerant);
        let asked = cgroups_path.filter(|path| !path.is_empty());
        let (mut places, scope) = candidates(asked, id, host)?;
        if places.is_empty() && !rootless {
            bail!("no cgroup mount found in mountinfo");
        }
        let mut refused = None;
        for place in &mut places {
            look(place)?;
            if scope.is_some() {
                // Slices are systemd's to make and to remove.
                place.missing = 0;
            }
        }
        // A path in config.json is an order, to be followed or to fail; without one a user who may
        // not make cgroups gets none, hierarchy by hierarchy.
        if rootless && asked.is_none() && scope.is_none() {
            places.retain(|place| match permitted(place, setup.is_unified()) {
                Ok(()) => true,
                Err(errno) => {
                    refused
                        .get_or_insert_with(|| format!("mkdir {}: {}", place.dir(), crate::error::errno_text(errno)));
                    false
                }
            });
        }
        Ok(Placement { places, unified: setup.is_unified(), rootless, refused, scope })
    }

    /// What has to be known to find the cgroups again; to be written down before they are made.
    pub fn record(&self) -> Record {
        let mut record = Record::default();
        if let Some(scope) = &self.scope {
            (record.unit, record.user) = (Some(scope.unit.clone()), scope.user);
        }
        for place in &self.places {
            for controller in &place.controllers {
                record.paths.insert(controller.clone(), place.dir());
            }
            let parts: Vec<&str> = place.path.split('/').collect();
            for up in 1..=place.missing {
                let ancestor = parts.get(..parts.len().saturating_sub(up)).unwrap_or_default().join("/");
                record.ancestors.push(join(&place.mount, &ancestor));
            }
            if self.unified {
                record.mount.clone_from(&place.mount);
            }
        }
        record
    }

    /// Whether the container gets a cgroup in any hierarchy.
    pub fn is_some(&self) -> bool {
        !self.places.is_empty()
    }

    /// The place in the hierarchy of a v1 controller.
    pub(super) fn of(&self, controller: &str) -> Option<&Place> {
        self.places.iter().find(|place| place.controllers.iter().any(|name| name == controller))
    }
}

impl Record {
    /// The cgroups that a container of that path and id has got, where its own record is lost.
    ///
    /// # Errors
    /// When the runtime's own cgroup, which a relative path is beside, cannot be found out.
    pub fn presumed(cgroups_path: Option<&str>, id: &str, host: &Host) -> Result<Record> {
        let (places, scope) = candidates(cgroups_path.filter(|path| !path.is_empty()), id, host)?;
        // Whether the ancestors were made for it is not known, so they stay.
        let unified = host.cgroup.is_unified();
        Ok(Placement { places, unified, rootless: false, refused: None, scope }.record())
    }
}

fn candidates(asked: Option<&str>, id: &str, host: &Host) -> Result<(Vec<Place>, Option<Scope>)> {
    let Some(systemd) = &host.systemd else { return Ok((below_mounts(asked, id, &host.cgroup)?, None)) };
    if systemd.user && !host.cgroup.is_unified() {
        bail!("--systemd-cgroup: cgroup v2 is needed for a normal user");
    }
    let scope = Scope::new(asked, id, systemd)?;
    let places = below_mounts(Some(&format!("/{}", scope.path)), id, &host.cgroup)?;
    Ok((places, Some(scope)))
}

fn below_mounts(asked: Option<&str>, id: &str, setup: &Setup) -> Result<Vec<Place>> {
    let absolute = asked.is_some_and(|path| path.starts_with('/'));
    let inner = clean(asked.unwrap_or(id));
    if inner.is_empty() {
        bail!("linux.cgroupsPath {:?}: a container cannot have the root cgroup", asked.unwrap_or_default());
    }
    let place = |controllers: &[String], mount: &str, path: String| Place {
        controllers: controllers.to_vec(),
        mount: mount.to_owned(),
        path,
        exists: false,
        missing: 0,
    };
    Ok(match setup {
        Setup::Absent => Vec::new(),
        Setup::Unified { mount, own } => {
            let path = if absolute { inner } else { beside(own, &inner)? };
            vec![place(&[String::new()], mount, path)]
        }
        Setup::Legacy { hierarchies, own } => {
            let own = if absolute { None } else { Some(own.known()?) };
            let mut places = Vec::new();
            for hierarchy in hierarchies {
                let first = hierarchy.controllers.first().map_or("", String::as_str);
                let path = match &own {
                    None => inner.clone(),
                    // A hierarchy that the kernel lists without a path for us cannot be joined.
                    Some(own) => match own.path(first) {
                        Ok(own) => join_clean(&below_root(&own, &hierarchy.root), &inner),
                        Err(_) => continue,
                    },
                };
                places.push(place(&hierarchy.controllers, &hierarchy.mount, path));
            }
            places
        }
    })
}

/// The v2 path of a relative name: below the parent of the runtime's own cgroup.
fn beside(own: &Own, inner: &str) -> Result<String> {
    let own = clean(&own.path("")?);
    let parent = own.rsplit_once('/').map_or("", |(parent, _)| parent);
    Ok(join_clean(parent, inner))
}

/// A path as /proc/self/cgroup shows it, seen from a mount whose root is `root`.
fn below_root(own: &str, root: &str) -> String {
    let (own, root) = (clean(own), clean(root));
    match own.strip_prefix(&root) {
        Some(rest) if root.is_empty() || rest.is_empty() || rest.starts_with('/') => clean(rest),
        _ => own,
    }
}

fn join_clean(parent: &str, inner: &str) -> String {
    if parent.is_empty() { inner.to_owned() } else { format!("{parent}/{inner}") }
}

/// Finds out what is there already.
fn look(place: &mut Place) -> Result<()> {
    let path = place.dir();
    match Dir::open(&path) {
        Ok(dir) => {
            place.exists = true;
            let pids = processes::below(&dir);
            if !pids.is_empty() {
                bail!("container's cgroup is not empty: {} process(es) found", pids.len());
            }
            if super::freezer::is_frozen(&dir).unwrap_or(false) {
                bail!("container's cgroup unexpectedly frozen");
            }
            Ok(())
        }
        Err(errno) if is_gone(errno) => {
            let mut parent = place.path.as_str();
            while let Some((up, _)) = parent.rsplit_once('/') {
                parent = up;
                match nix::unistd::access(join(&place.mount, parent).as_str(), AccessFlags::F_OK) {
                    Err(errno) if is_gone(errno) => place.missing += 1,
                    _ => break,
                }
            }
            Ok(())
        }
        // Making it will fail with the same error, unless nobody insists on it.
        Err(errno) if is_forbidden(errno) => Ok(()),
        Err(errno) => Err(errno).why(|| format!("open {path}")),
    }
}

/// Whether the user may make the cgroup and put a process there.
fn permitted(place: &Place, unified: bool) -> std::result::Result<(), Errno> {
    let levels = place.path.split('/').count();
    let existing = if place.exists { levels } else { levels - 1 - place.missing };
    let parts: Vec<&str> = place.path.split('/').take(existing).collect();
    let parent = Dir::open(&join(&place.mount, &parts.join("/")))?;
    let may = |path: &str, mode| nix::unistd::faccessat(&parent, path, mode, nix::fcntl::AtFlags::AT_EACCESS);
    may(".", AccessFlags::W_OK | AccessFlags::X_OK)?;
    if unified {
        // A process may only be placed below a cgroup whose cgroup.procs its mover may write.
        may("cgroup.procs", AccessFlags::W_OK)?;
    }
    Ok(())
}

/// The cgroup that a process is in now, as a path below the v2 mount.
pub(super) fn of_process(mount: &str, pid: i32) -> Result<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).why(|| format!("read /proc/{pid}/cgroup"))?;
    let list = crate::host::cgroup::parse_own(&text);
    let found = list.iter().find(|(controller, _)| controller.is_empty());
    let (_, path) = found.ok_or_else(|| anyhow!("/proc/{pid}/cgroup does not list a v2 cgroup"))?;
    Ok(join(mount, &clean(path)))
}

/// Whether a directory is there; without rights to see it, it is not.
pub(super) fn exists(path: &str) -> bool {
    let flags = libc::O_PATH | libc::O_DIRECTORY;
    std::ffi::CString::new(path).is_ok_and(|path| fd::open(&path, flags, 0).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Systemd;
    use crate::host::cgroup::Hierarchy;

    fn host(cgroup: Setup, tolerant: bool) -> Host {
        let resctrl = crate::host::resctrl::Resctrl::Unread;
        let (user_namespace, setgroups_denied) = (false, false);
        Host {
            uid: 0,
            gid: 0,
            cgroup,
            tolerant,
            user_namespace,
            setgroups_denied,
            systemd: None,
            apparmor: Some(false),
            selinux: Some(false),
            resctrl,
        }
    }

    fn unified(own: &str) -> Setup {
        Setup::Unified { mount: "/nowhere/cg".into(), own: Own::Known(vec![(String::new(), own.into())]) }
    }

    fn v2_path(asked: Option<&str>, own: &str) -> String {
        let placement = Placement::new(asked, "c1", &host(unified(own), false)).unwrap();
        placement.record().paths.remove("").unwrap()
    }

    #[test]
    fn v2_paths_are_absolute_or_beside_the_runtime() {
        assert_eq!(v2_path(Some("/docker/c1"), "/user.slice/x"), "/nowhere/cg/docker/c1");
        assert_eq!(v2_path(Some("pod/c1"), "/user.slice/x.scope"), "/nowhere/cg/user.slice/pod/c1");
        assert_eq!(v2_path(None, "/user.slice/x.scope"), "/nowhere/cg/user.slice/c1");
        assert_eq!(v2_path(Some(""), "/"), "/nowhere/cg/c1");
    }

    #[test]
    fn no_path_leads_out_of_the_mount() {
        assert_eq!(v2_path(Some("/../../etc/x"), "/"), "/nowhere/cg/etc/x");
        assert_eq!(v2_path(Some("../../../x"), "/a/b"), "/nowhere/cg/a/x");
        assert_eq!(v2_path(Some("x"), "/../../b/c"), "/nowhere/cg/b/x");
    }

    #[test]
    fn the_root_cgroup_is_refused() {
        for path in ["/", "..", "/a/.."] {
            let error = Placement::new(Some(path), "c1", &host(unified("/"), false)).unwrap_err();
            assert!(error.to_string().starts_with("linux.cgroupsPath"), "{error}");
        }
    }

    #[test]
    fn v1_relative_paths_are_below_the_runtimes_own_cgroup_of_each_hierarchy() {
        let hierarchy = |names: &[&str], root: &str| Hierarchy {
            controllers: names.iter().map(|name| (*name).to_owned()).collect(),
            mount: format!("/nowhere/{}", names.join(",")),
            root: root.into(),
        };
        let setup = Setup::Legacy {
            hierarchies: vec![hierarchy(&["cpu", "cpuacct"], "/"), hierarchy(&["memory"], "/docker/outer")],
            own: Own::Known(vec![("cpu".into(), "/a".into()), ("memory".into(), "/docker/outer/in".into())]),
        };
        let record = Placement::new(Some("p/c1"), "c1", &host(setup, false)).unwrap().record();
        assert_eq!(record.paths["cpu"], "/nowhere/cpu,cpuacct/a/p/c1");
        assert_eq!(record.paths["cpuacct"], record.paths["cpu"]);
        assert_eq!(record.paths["memory"], "/nowhere/memory/in/p/c1");
    }

    #[test]
    fn a_rootless_container_without_permission_and_path_has_no_cgroup() {
        let placement = Placement::new(None, "c1", &host(unified("/"), true)).unwrap();
        assert!(!placement.is_some());
        assert!(placement.record().paths.is_empty());
        assert!(Placement::new(Some("/c1"), "c1", &host(unified("/"), true)).unwrap().is_some());
    }

    #[test]
    fn a_scope_has_its_place_in_its_slice_and_in_the_record() {
        let systemd = |user| Some(Systemd { user, own: Some("/user.slice/user@1.service".into()) });
        let place = |user, path| {
            let host = Host { systemd: systemd(user), ..host(unified("/"), user) };
            Placement::new(path, "c1", &host).unwrap().record()
        };
        let record = place(false, Some("a-b.slice:docker:c1"));
        assert_eq!(record.paths[""], "/nowhere/cg/a.slice/a-b.slice/docker-c1.scope");
        assert_eq!((record.unit.as_deref(), record.user), (Some("docker-c1.scope"), false));
        assert!(record.ancestors.is_empty());
        let record = place(true, None);
        assert_eq!(record.paths[""], "/nowhere/cg/user.slice/user@1.service/user.slice/orlop-c1.scope");
        assert!(record.user);
    }
}
