//! What the types cannot say about the document: config.md (runtime-spec v1.3.0).
//!
//! Each check looks at the document alone, so that a dry run finds the same faults as a start.

use std::path::Path;

use oci_spec::runtime::{Hook, Hooks, LinuxIdMapping, LinuxNamespaceType, Mount, Spec};

use super::at::At;
use super::{linux, process, resources, sysctl};
use crate::error::Result;

/// The oldest version of the specification that is understood.
pub const VERSION_MIN: &str = "1.0.0";

/// The newest version of the specification that is understood.
pub const VERSION_MAX: &str = "1.3.0";

/// The six kinds of hooks, in the order in which they run.
pub const HOOKS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// The longest name that sethostname(2) takes.
const HOSTNAME_MAX: usize = 64;

/// Checks a whole document and makes relative mount destinations absolute.
pub fn spec(spec: &mut Spec, warnings: &mut Vec<String>) -> Result<()> {
    let at = At::Root;
    version(spec.version(), &at.key("ociVersion"), warnings)?;
    match spec.root() {
        Some(root) if root.path().as_os_str().is_empty() => return Err(at.key("root").key("path").fault("required")),
        Some(_) => {}
        None => return Err(at.key("root").fault("required")),
    }
    match spec.process() {
        Some(wanted) => process::check(wanted, &at.key("process"), warnings)?,
        None => return Err(at.key("process").fault("required")),
    }
    uts(spec)?;
    for (i, mount) in spec.mounts().iter().flatten().enumerate() {
        check_mount(mount, &at.key("mounts").index(i), linux::find(spec, LinuxNamespaceType::User).is_some())?;
    }
    for (i, mount) in spec.mounts_mut().iter_mut().flatten().enumerate() {
        anchor(mount, &at.key("mounts").index(i), warnings);
    }
    if let Some(hooks) = spec.hooks() {
        check_hooks(hooks, &at.key("hooks"))?;
    }
    if let Some(annotations) = spec.annotations()
        && annotations.contains_key("")
    {
        return Err(at.key("annotations").fault("a key is empty"));
    }
    linux::check(spec, warnings)?;
    sysctl::check(spec)?;
    resources::check(spec)
}

/// Versions 1.x.y are understood, with or without `-dev` or another suffix. What a later minor version
/// adds shows up as unknown fields.
fn version(text: &str, at: &At<'_>, warnings: &mut Vec<String>) -> Result<()> {
    let invalid = || at.fault(format_args!("{text:?} is not a semantic version"));
    let core = text.split_once(['-', '+']).map_or(text, |(core, _)| core);
    let numbers: Vec<u64> = core.split('.').map(semver_number).collect::<Option<_>>().ok_or_else(invalid)?;
    let suffix = &text[core.len()..];
    let is_suffix = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'+' | b'.');
    if numbers.len() != 3 || suffix.len() == 1 || !suffix.bytes().all(is_suffix) {
        return Err(invalid());
    }
    if numbers[0] != 1 {
        return Err(at.fault(format_args!("{text:?} is not supported: {VERSION_MIN} up to {VERSION_MAX} are")));
    }
    if numbers[1] > 3 {
        warnings.push(format!("{at}: {text} is newer than {VERSION_MAX}, which is what this runtime knows"));
    }
    Ok(())
}

fn semver_number(text: &str) -> Option<u64> {
    let canonical = text == "0" || !text.starts_with('0');
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if canonical && digits { text.parse().ok() } else { None }
}

/// Names belong to the UTS namespace: set in the host's, they would rename the host.
fn uts(spec: &Spec) -> Result<()> {
    for (field, name) in [("hostname", spec.hostname()), ("domainname", spec.domainname())] {
        let Some(name) = name else { continue };
        let at = At::Root.key(field);
        if linux::find(spec, LinuxNamespaceType::Uts).is_none() {
            return Err(at.fault(format_args!("unable to set {field} without a private UTS namespace")));
        }
        if name.len() > HOSTNAME_MAX {
            return Err(at.fault(format_args!("{} bytes are more than the kernel's {HOSTNAME_MAX}", name.len())));
        }
    }
    Ok(())
}

fn check_mount(mount: &Mount, at: &At<'_>, user_namespace: bool) -> Result<()> {
    if mount.destination().as_os_str().is_empty() {
        return Err(at.key("destination").fault("required"));
    }
    let options = mount.options().as_deref().unwrap_or_default();
    for (i, option) in options.iter().enumerate() {
        let earlier = &options[..i];
        if let Some(other) = earlier.iter().find(|earlier| contradict(earlier, option)) {
            return Err(at.key("options").index(i).fault(format_args!("{option:?} contradicts {other:?}")));
        }
    }
    let uid = mount.uid_mappings().as_deref().unwrap_or_default();
    let gid = mount.gid_mappings().as_deref().unwrap_or_default();
    check_mappings(uid, &at.key("uidMappings"))?;
    check_mappings(gid, &at.key("gidMappings"))?;
    match (uid.is_empty(), gid.is_empty()) {
        (true, false) => Err(at.key("uidMappings").fault("required, as there are gidMappings")),
        (false, true) => Err(at.key("gidMappings").fault("required, as there are uidMappings")),
        (true, true) if !user_namespace => {
            match options.iter().position(|option| option == "idmap" || option == "ridmap") {
                Some(i) => Err(at.key("options").index(i).fault(format_args!(
                    "{:?} needs uidMappings and gidMappings, or a user namespace to take them from",
                    options[i]
                ))),
                None => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

/// Whether one mount option undoes the other: `ro` and `rw`, `suid` and `nosuid`, `rexec` and `rnoexec`.
fn contradict(one: &str, other: &str) -> bool {
    const PAIRS: [(&str, &str); 4] = [("ro", "rw"), ("rro", "rrw"), ("sync", "async"), ("silent", "loud")];
    const NEGATED: [&str; 11] = [
        "atime",
        "dev",
        "diratime",
        "exec",
        "iversion",
        "lazytime",
        "mand",
        "relatime",
        "strictatime",
        "suid",
        "symfollow",
    ];
    // `nodev` against `dev`, and the recursive forms `rnodev` against `rdev`.
    let negates = |long: &str, short: &str| {
        let plain = long.strip_prefix("no") == Some(short) && NEGATED.contains(&short);
        let recursive = || {
            let short = short.strip_prefix('r').filter(|short| NEGATED.contains(short));
            short.is_some() && long.strip_prefix("rno") == short
        };
        plain || recursive()
    };
    PAIRS.iter().any(|&(a, b)| (one, other) == (a, b) || (other, one) == (a, b))
        || negates(one, other)
        || negates(other, one)
}

/// The specification allows relative destinations for old tools and takes them from `/`.
fn anchor(mount: &mut Mount, at: &At<'_>, warnings: &mut Vec<String>) {
    if mount.destination().is_relative() {
        let absolute = Path::new("/").join(mount.destination());
        warnings.push(format!(
            "{}: mount destination {} is not absolute, which is deprecated; {} is used",
            at.key("destination"),
            mount.destination().display(),
            absolute.display()
        ));
        mount.set_destination(absolute);
    }
}

/// The lists of hooks with their names, in the order of [`HOOKS`].
pub fn hooks(hooks: &Hooks) -> [(&'static str, &[Hook]); 6] {
    // Deprecated in the specification, and still what Docker's network library uses.
    #[allow(deprecated)]
    let prestart = hooks.prestart();
    let lists = [
        prestart,
        hooks.create_runtime(),
        hooks.create_container(),
        hooks.start_container(),
        hooks.poststart(),
        hooks.poststop(),
    ];
    std::array::from_fn(|i| (HOOKS[i], lists[i].as_deref().unwrap_or_default()))
}

fn check_hooks(wanted: &Hooks, at: &At<'_>) -> Result<()> {
    for (name, list) in hooks(wanted) {
        for (i, hook) in list.iter().enumerate() {
            let at = at.key(name);
            let at = at.index(i);
            if hook.path().is_relative() {
                return Err(at.key("path").fault(format_args!("{:?} is not an absolute path", hook.path())));
            }
            if let Some(timeout) = hook.timeout().filter(|&timeout| timeout <= 0) {
                return Err(at.key("timeout").fault(format_args!("{timeout} is not greater than zero")));
            }
            process::check_env(hook.env().as_deref().unwrap_or_default(), &at.key("env"))?;
        }
    }
    Ok(())
}

/// Id mappings as the kernel takes them: none empty, none past the last id, none overlapping (user_namespaces(7)).
pub fn check_mappings(mappings: &[LinuxIdMapping], at: &At<'_>) -> Result<()> {
    /// Since Linux 4.15.
    const EXTENTS_MAX: usize = 340;
    if mappings.len() > EXTENTS_MAX {
        return Err(at.fault(format_args!("{} mappings are more than the kernel's {EXTENTS_MAX}", mappings.len())));
    }
    let range = |start: u32, size: u32| u64::from(start)..u64::from(start) + u64::from(size);
    for (i, mapping) in mappings.iter().enumerate() {
        let at = at.index(i);
        if mapping.size() == 0 {
            return Err(at.key("size").fault("0 ids cannot be mapped"));
        }
        let container = |mapping: &LinuxIdMapping| range(mapping.container_id(), mapping.size());
        let host = |mapping: &LinuxIdMapping| range(mapping.host_id(), mapping.size());
        for field in ["containerID", "hostID"] {
            let side = |mapping| if field == "hostID" { host(mapping) } else { container(mapping) };
            let own = side(mapping);
            // 4294967295 is (uid_t) -1, which is no id.
            if own.end > u64::from(u32::MAX) {
                return Err(at.key(field).fault(format_args!(
                    "{} ids do not fit from {} on",
                    mapping.size(),
                    own.start
                )));
            }
            for (j, earlier) in mappings[..i].iter().enumerate() {
                let other = side(earlier);
                if own.start < other.end && other.start < own.end {
                    return Err(at.key(field).fault(format_args!("overlaps with the mapping at index {j}")));
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_follow_semver() {
        let at = At::Root;
        for good in ["1.0.0", "1.0.2-dev", "1.3.0", "1.3.0+dev", "1.2.1", "1.0.0-rc2-dev"] {
            let mut warnings = Vec::new();
            version(good, &at, &mut warnings).unwrap();
            assert!(warnings.is_empty(), "{good}: {warnings:?}");
        }
        for bad in ["", "1", "1.0", "1.0.0.0", "01.0.0", "1.0.x", "v1.0.0", "1.0.0-", "0.9.0", "2.0.0", "1.0.0-a b"] {
            assert!(version(bad, &at, &mut Vec::new()).is_err(), "{bad:?}");
        }
        let mut warnings = Vec::new();
        version("1.9.0", &at, &mut warnings).unwrap();
        assert_eq!(warnings.len(), 1);
    }

    #[test]
    fn options_contradict_when_one_undoes_the_other() {
        for (one, other) in [("ro", "rw"), ("nosuid", "suid"), ("rexec", "rnoexec"), ("async", "sync"), ("rrw", "rro")]
        {
            assert!(contradict(one, other) && contradict(other, one), "{one} {other}");
        }
        // A slave mount may also be shared; recursion differs; the data of a filesystem is its own business.
        for (one, other) in [("slave", "shared"), ("bind", "rbind"), ("ro", "rrw"), ("nodev", "rdev"), ("noacl", "acl")]
        {
            assert!(!contradict(one, other) && !contradict(other, one), "{one} {other}");
        }
    }
}
