//! Id-mapped mounts: config.md#posix-platform-mounts (`uidMappings`, `idmap`, `ridmap`; runtime-spec v1.3.0),
//! mount_setattr(2).
//!
//! A mount shows the ids of its files as a user namespace maps them. The kernel takes the mapping
//! from a namespace, so one is made for each distinct mapping, by a child that lives no longer than
//! that takes. Linux 5.12 has it for the first file systems; tmpfs came with 6.3.

use std::ffi::CString;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{anyhow, bail};
use nix::errno::Errno;
use oci_spec::runtime::{LinuxIdMapping, LinuxNamespaceType, Mount, Spec};

use super::options::{Options, Reach};
use crate::error::{Result, Why, errno_text};
use crate::plan::{Outside, Plan, Runtime, Slot, Slots};
use crate::sys::clone::{Cloned, clone3};
use crate::sys::mount::{MountAttr, mount_setattr};
use crate::sys::{self, channel, fd, process};

/// Where a mapping comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Origin {
    /// The lines of uid_map and gid_map.
    Maps { uids: String, gids: String },
    /// The user namespace that the container joins.
    Joined(CString),
}

/// The mapping that one entry of `mounts` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    json: String,
    origin: Origin,
    reach: Reach,
}

/// Reads what one mount asks for: its own mappings, or with the option alone those of the container's user namespace.
///
/// # Errors
/// The option without anything to take the mappings from.
pub fn asked(json: &str, mount: &Mount, options: &Options, spec: &Spec) -> Result<Option<Asked>> {
    let (uids, gids) = (list(mount.uid_mappings().as_ref()), list(mount.gid_mappings().as_ref()));
    let own = !(uids.is_empty() && gids.is_empty());
    if !own && options.idmap.is_none() {
        return Ok(None);
    }
    let reach = options.idmap.unwrap_or(Reach::Mount);
    let origin = match user_namespace(spec) {
        _ if own => Origin::Maps { uids: text(uids), gids: text(gids) },
        Some(User::New { uids, gids }) => Origin::Maps { uids: text(uids), gids: text(gids) },
        Some(User::Joined(path)) => {
            let path = CString::new(path.as_os_str().as_encoded_bytes());
            Origin::Joined(path.map_err(|_| anyhow!("config.json: linux.namespaces: a path contains a NUL byte"))?)
        }
        None => bail!(
            "config.json: {json}.options: an id-mapped mount needs uidMappings and gidMappings, or a user namespace"
        ),
    };
    Ok(Some(Asked { json: json.to_owned(), origin, reach }))
}

/// Which option among a file system's own, such as `gid=5` for devpts, names an id that the container's user
/// namespace does not map; the kernel refuses it without saying so. What a joined namespace maps is not known.
pub fn unmapped(data: &str, spec: &Spec) -> Option<String> {
    let Some(User::New { uids, gids }) = user_namespace(spec) else { return None };
    let is_unmapped = |option: &&str| {
        let Some((key, Ok(id))) = option.split_once('=').map(|(key, value)| (key, value.parse::<u32>())) else {
            return false;
        };
        let maps = match key {
            "uid" => uids,
            "gid" => gids,
            _ => return false,
        };
        !maps.iter().any(|map| id >= map.container_id() && id - map.container_id() < map.size())
    };
    let option = data.split(',').find(is_unmapped)?;
    let field = if option.starts_with('u') { "linux.uidMappings" } else { "linux.gidMappings" };
    Some(format!("the id of the option {option:?} is not in {field}"))
}

enum User<'a> {
    New { uids: &'a [LinuxIdMapping], gids: &'a [LinuxIdMapping] },
    Joined(&'a std::path::Path),
}

fn user_namespace(spec: &Spec) -> Option<User<'_>> {
    let linux = spec.linux().as_ref()?;
    let mut namespaces = linux.namespaces().iter().flatten();
    let user = namespaces.find(|namespace| namespace.typ() == LinuxNamespaceType::User)?;
    match user.path() {
        Some(path) if !path.as_os_str().is_empty() => Some(User::Joined(path)),
        _ => Some(User::New { uids: list(linux.uid_mappings().as_ref()), gids: list(linux.gid_mappings().as_ref()) }),
    }
}

fn list(maps: Option<&Vec<LinuxIdMapping>>) -> &[LinuxIdMapping] {
    maps.map(Vec::as_slice).unwrap_or_default()
}

fn text(maps: &[LinuxIdMapping]) -> String {
    maps.iter().map(|map| format!("{} {} {}\n", map.container_id(), map.host_id(), map.size())).collect()
}

/// The user namespaces of a plan, one for each distinct mapping.
#[derive(Debug, Default)]
pub struct Namespaces(Vec<(Origin, Slot)>);

impl Namespaces {
    /// The mapping for a mount; the first to want it adds the step which makes its namespace.
    pub fn mapping(&mut self, asked: &Asked, plan: &mut Plan) -> Mapping {
        let reach = asked.reach;
        if let Some((_, namespace)) = self.0.iter().find(|(origin, _)| *origin == asked.origin) {
            return Mapping { namespace: *namespace, reach };
        }
        let namespace = plan.slot();
        plan.before(OpenUserNamespace { asked: asked.clone(), slot: namespace });
        self.0.push((asked.origin.clone(), namespace));
        Mapping { namespace, reach }
    }
}

/// A mapping, ready to be given to a mount.
#[derive(Debug, Clone, Copy)]
pub struct Mapping {
    namespace: Slot,
    reach: Reach,
}

impl Mapping {
    /// Maps the ids of a detached mount.
    pub fn apply(self, mount: BorrowedFd<'_>, slots: &Slots) -> sys::Result<()> {
        let recursive = if self.reach == Reach::Tree { libc::AT_RECURSIVE } else { 0 };
        mount_setattr(mount, MountAttr::default(), recursive, Some(slots.get(self.namespace)?))
    }
}

/// Why [`Mapping::apply`] failed, in words.
pub fn explain(errno: Errno) -> String {
    let why = match errno {
        Errno::ENOSYS => ": id-mapped mounts need mount_setattr(2), Linux 5.12",
        Errno::EINVAL => ": this kernel cannot map the ids of this file system, or they are mapped already",
        Errno::EPERM => ": mapping ids needs CAP_SYS_ADMIN where the file system was mounted",
        _ => "",
    };
    format!("mapping the ids of the mount: {}{why}", errno_text(errno))
}

struct OpenUserNamespace {
    asked: Asked,
    slot: Slot,
}

impl fmt::Display for OpenUserNamespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inline = |text: &str| text.trim_end().replace('\n', ", ");
        match &self.asked.origin {
            Origin::Maps { uids, gids } => {
                write!(
                    f,
                    "making a user namespace to map the ids of a mount (uids {}; gids {})",
                    inline(uids),
                    inline(gids)
                )
            }
            Origin::Joined(path) => write!(f, "opening user namespace {path:?} to map the ids of a mount"),
        }
    }
}

impl Outside for OpenUserNamespace {
    fn run(&self, runtime: &mut Runtime) -> Result<()> {
        let opened = match &self.asked.origin {
            Origin::Joined(path) => fd::open(path, libc::O_RDONLY, 0).why(|| format!("opening {path:?}")),
            Origin::Maps { uids, gids } => make(uids, gids),
        };
        runtime
            .slots
            .put(self.slot, opened.map_err(|error| error.context(format!("config.json: {}", self.asked.json)))?);
        Ok(())
    }
}

/// A user namespace with these maps. Its only process ends when the channel to it is closed, as it is when the
/// runtime dies; the descriptor keeps the namespace.
fn make(uids: &str, gids: &str) -> Result<OwnedFd> {
    let (ours, theirs) = channel::pair().why(|| "making a channel")?;
    match clone3(libc::CLONE_NEWUSER as u64, None).why(|| "making a user namespace")? {
        Cloned::Child => {
            // With its own copy of the other end open, it would never see the end of file.
            let _ = fd::close_early(ours.as_fd());
            let _ = channel::recv(theirs.as_fd(), &mut [0]);
            process::exit(0)
        }
        Cloned::Parent(pid, pidfd) => {
            let opened = map_and_open(pid, uids, gids);
            drop((ours, theirs));
            process::wait(pidfd.as_fd(), 0).why(|| "waiting for the user namespace's process")?;
            opened
        }
    }
}

fn map_and_open(pid: i32, uids: &str, gids: &str) -> Result<OwnedFd> {
    for (name, text) in [("uid_map", uids), ("gid_map", gids)] {
        let file = format!("/proc/{pid}/{name}");
        std::fs::write(&file, text).why(|| format!("writing {file}"))?;
    }
    let file = format!("/proc/{pid}/ns/user");
    std::fs::File::open(&file).map(OwnedFd::from).why(|| format!("opening {file}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(namespaces: &str) -> Spec {
        let maps = r#"[{"containerID": 0, "hostID": 1000, "size": 3}, {"containerID": 5, "hostID": 2000, "size": 1}]"#;
        let json = format!(
            r#"{{"ociVersion": "1.3.0", "linux": {{"namespaces": [{namespaces}], "uidMappings": {maps}, "gidMappings": {maps}}}}}"#
        );
        serde_json::from_str(&json).unwrap()
    }

    #[test]
    fn an_option_with_an_unmapped_id_is_found() {
        let spec = spec(r#"{"type": "user"}"#);
        assert_eq!(unmapped("newinstance,uid=2,gid=5,mode=620", &spec), None);
        assert_eq!(
            unmapped("gid=4,size=1", &spec).unwrap(),
            "the id of the option \"gid=4\" is not in linux.gidMappings"
        );
        assert_eq!(unmapped("uid=3", &spec).unwrap(), "the id of the option \"uid=3\" is not in linux.uidMappings");
    }

    #[test]
    fn the_option_alone_takes_the_mappings_of_the_containers_user_namespace() {
        let mount: Mount = serde_json::from_str(r#"{"destination": "/a", "options": ["bind", "ridmap"]}"#).unwrap();
        let options = Options::read(mount.options().as_deref().unwrap());
        let found =
            |spec: &Spec| asked("mounts[0]", &mount, &options, spec).map(|asked| asked.map(|asked| asked.origin));
        let lines = "0 1000 3\n5 2000 1\n".to_owned();
        let maps = Origin::Maps { uids: lines.clone(), gids: lines };
        assert_eq!(found(&spec(r#"{"type": "user"}"#)).unwrap(), Some(maps));
        let joined = Origin::Joined(c"/run/ns".to_owned());
        assert_eq!(found(&spec(r#"{"type": "user", "path": "/run/ns"}"#)).unwrap(), Some(joined));
        assert!(found(&spec("")).is_err());
    }
}
