//! One value for one cgroup file, what may go wrong with it, and how it is taken back.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};

use anyhow::anyhow;
use nix::errno::Errno;

use super::dir::Dir;
use crate::error::{Result, Why};
use crate::sys::{self, fd};

/// A value to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    /// The place in `linux.resources`, such as `memory.limit`.
    pub json: String,
    /// The controller whose directory holds the file.
    pub controller: &'static str,
    pub file: String,
    pub value: String,
    pub or: Or,
}

/// What to do when the kernel refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Or {
    Fail,
    /// A kernel without the file does what the value says anyway, or has no such feature.
    SkipMissing,
    /// A kernel without the file has this one.
    Instead {
        file: &'static str,
        value: String,
    },
    /// Two files that constrain each other: after EINVAL try again when the settings behind this one are written.
    Later,
}

impl Setting {
    pub fn new(
        json: impl Into<String>,
        controller: &'static str,
        file: impl Into<String>,
        value: impl ToString,
    ) -> Setting {
        Setting { json: json.into(), controller, file: file.into(), value: value.to_string(), or: Or::Fail }
    }

    pub fn or(self, or: Or) -> Setting {
        Setting { or, ..self }
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={:?}", self.file, self.value)
    }
}

/// What stood in a file before it was written.
#[derive(Debug)]
struct Before {
    file: String,
    value: String,
}

/// The values that an update has replaced in one directory, newest last.
#[derive(Debug, Default)]
pub(super) struct Undo(Vec<Before>);

/// Writes the settings in order; with `undo`, what they replace is noted there.
///
/// # Errors
/// The first refusal, with the place in the config, the file and the value.
pub(super) fn apply(dir: &Dir, settings: &[&Setting], prefix: &str, undo: Option<&mut Undo>) -> Result<()> {
    let mut writer = Writer { dir, open: None, undo };
    let mut late: Vec<&Setting> = Vec::new();
    for setting in settings {
        match writer.set(setting) {
            Err((Errno::EINVAL, _)) if setting.or == Or::Later => late.push(setting),
            other => other.map_err(|refused| refusal(dir, setting, prefix, refused))?,
        }
    }
    for setting in late {
        writer.set(setting).map_err(|refused| refusal(dir, setting, prefix, refused))?;
    }
    Ok(())
}

struct Writer<'a> {
    dir: &'a Dir,
    /// Several lines for one file (`io.max`, `devices.allow`) go through one descriptor.
    open: Option<(String, OwnedFd)>,
    undo: Option<&'a mut Undo>,
}

impl Writer<'_> {
    fn set(&mut self, setting: &Setting) -> std::result::Result<(), (Errno, String)> {
        match (self.write(&setting.file, &setting.value), &setting.or) {
            (Err(Errno::ENOENT), Or::SkipMissing) => Ok(()),
            (Err(Errno::ENOENT), Or::Instead { file, value }) => {
                self.write(file, value).map_err(|errno| (errno, (*file).to_owned()))
            }
            (other, _) => other.map_err(|errno| (errno, setting.file.clone())),
        }
    }

    fn write(&mut self, file: &str, value: &str) -> sys::Result<()> {
        if self.open.as_ref().is_none_or(|(name, _)| name != file) {
            self.open = Some((file.to_owned(), self.dir.file(file, libc::O_WRONLY)?));
        }
        let Some((_, open)) = &self.open else { return Err(Errno::EBADF) };
        let before = match &self.undo {
            // A file that cannot be read, such as one that only takes orders, cannot be taken back either.
            Some(_) => self.dir.read(file).ok().and_then(|text| former(file, &text, value)),
            None => None,
        };
        fd::write_once(open.as_fd(), value.as_bytes())?;
        if let (Some(undo), Some(value)) = (&mut self.undo, before) {
            undo.0.push(Before { file: file.to_owned(), value });
        }
        Ok(())
    }
}

impl Undo {
    /// Writes the former values back, newest first. What refuses is left as it is: there is nothing better to do.
    pub fn roll_back(&self, dir: &Dir) {
        let mut again = Vec::new();
        for before in self.0.iter().rev() {
            if dir.write(&before.file, &before.value).is_err() {
                again.push(before);
            }
        }
        // Files that constrain each other may need the other order.
        for before in again {
            let _ = dir.write(&before.file, &before.value);
        }
    }
}

/// The value that undoes writing `new`, from the file's text before.
fn former(file: &str, text: &str, new: &str) -> Option<String> {
    let first = text.lines().next().unwrap_or_default().trim();
    let key = new.split_once(' ').map(|(key, _)| key);
    match (file, key) {
        ("cpu.max", _) => Some(first.to_owned()),
        ("memory.oom_control", _) => first.strip_prefix("oom_kill_disable ").map(str::to_owned),
        // Keyed files: the key's own line, or what an absent line means.
        (_, Some(key)) => {
            let line = text.lines().find(|line| line.split_once(' ').is_some_and(|(k, _)| k == key));
            Some(line.map_or_else(|| absent(file, key), str::to_owned))
        }
        // An empty line, as a write of no bytes would not reach the file.
        (_, None) if first.is_empty() => Some("\n".into()),
        (_, None) => Some(first.to_owned()),
    }
}

fn absent(file: &str, key: &str) -> String {
    match file {
        "io.max" => format!("{key} rbps=max wbps=max riops=max wiops=max"),
        "io.weight" | "io.bfq.weight" => format!("{key} default"),
        "rdma.max" => format!("{key} hca_handle=max hca_object=max"),
        _ => format!("{key} 0"),
    }
}

fn refusal(dir: &Dir, setting: &Setting, prefix: &str, (errno, file): (Errno, String)) -> anyhow::Error {
    let json = format!("{prefix}{}", setting.json);
    if setting.json.starts_with("unified.") && matches!(errno, Errno::ENOENT | Errno::EACCES | Errno::EPERM) {
        let controller = setting.file.split('.').next().unwrap_or_default();
        let here = dir.read("cgroup.controllers").unwrap_or_default();
        if controller != "cgroup" && !here.split_whitespace().any(|name| name == controller) {
            let file = &setting.file;
            return anyhow!("{json}: unified resource {file:?} can't be set: controller {controller:?} not available");
        }
    }
    // The kernel does not push usage below a new v1 limit for us; saying how much is used helps.
    if errno == Errno::EBUSY && file == "memory.limit_in_bytes" {
        let usage = dir.number("memory.usage_in_bytes").unwrap_or_default();
        let peak = dir.number("memory.max_usage_in_bytes").unwrap_or_default();
        let value = &setting.value;
        return anyhow!("{json}: unable to set memory limit to {value} (current usage: {usage}, peak usage: {peak})");
    }
    let what = || format!("{json}: failed to write {:?} to {}/{file}", setting.value, dir.path);
    Err::<(), _>(errno).why(what).err().unwrap_or_else(|| anyhow!(what()))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A directory that stands in for a cgroup: plain files hold what was written last.
    pub struct Fake(pub std::path::PathBuf);

    impl Fake {
        pub fn new(name: &str, files: &[(&str, &str)]) -> Fake {
            let path = std::env::temp_dir().join(format!("orlop-cgroup-{}-{name}", std::process::id()));
            let _ = std::fs::remove_dir_all(&path);
            std::fs::create_dir_all(&path).unwrap();
            for (file, text) in files {
                std::fs::write(path.join(file), text).unwrap();
            }
            Fake(path)
        }

        pub fn dir(&self) -> Dir {
            Dir::open(self.0.to_str().unwrap()).unwrap()
        }

        pub fn text(&self, file: &str) -> String {
            std::fs::read_to_string(self.0.join(file)).unwrap()
        }
    }

    impl Drop for Fake {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_missing_file_is_an_error_unless_the_setting_says_otherwise() {
        let fake = Fake::new("missing", &[("b", "0")]);
        let plain = Setting::new("cpu.burst", "cpu", "a", 1);
        let error = apply(&fake.dir(), &[&plain], "linux.resources.", None).unwrap_err();
        let text = crate::error::one_line(&error);
        assert!(text.starts_with("linux.resources.cpu.burst: failed to write \"1\" to /"), "{text}");
        assert!(text.ends_with("/a: no such file or directory"), "{text}");
        apply(&fake.dir(), &[&plain.clone().or(Or::SkipMissing)], "", None).unwrap();
        apply(&fake.dir(), &[&plain.or(Or::Instead { file: "b", value: "7".into() })], "", None).unwrap();
        assert_eq!(fake.text("b"), "7");
    }

    #[test]
    fn a_refused_update_is_rolled_back() {
        let fake = Fake::new("undo", &[("pids.max", "9"), ("cpuset.cpus", "\n")]);
        let settings = [Setting::new("p", "pids", "pids.max", 5), Setting::new("c", "cpuset", "cpuset.cpus", "0-1")];
        let bad = Setting::new("x", "x", "absent", 1);
        let mut undo = Undo::default();
        let list = [&settings[0], &settings[1], &bad];
        assert!(apply(&fake.dir(), &list, "", Some(&mut undo)).is_err());
        assert_eq!(fake.text("pids.max"), "5");
        undo.roll_back(&fake.dir());
        assert_eq!(fake.text("pids.max"), "9");
        assert!(fake.text("cpuset.cpus").starts_with('\n'));
    }

    #[test]
    fn former_values_of_keyed_files_are_the_keys_own() {
        let text = "8:0 rbps=1 wbps=max riops=max wiops=max\n8:16 rbps=2 wbps=max riops=max wiops=max\n";
        assert_eq!(former("io.max", text, "8:16 rbps=5").unwrap(), "8:16 rbps=2 wbps=max riops=max wiops=max");
        assert_eq!(former("io.max", "", "8:0 rbps=5").unwrap(), "8:0 rbps=max wbps=max riops=max wiops=max");
        assert_eq!(former("blkio.throttle.read_bps_device", "", "8:0 5").unwrap(), "8:0 0");
        assert_eq!(former("cpu.max", "max 100000\n", "5000 100000").unwrap(), "max 100000");
        assert_eq!(former("io.weight", "default 100\n", "50").unwrap(), "default 100");
        assert_eq!(former("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\n", "1").unwrap(), "0");
    }
}
