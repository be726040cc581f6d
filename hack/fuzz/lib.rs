//! What the fuzz targets share: hosts that are written down, a bundle, and a source of choices.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::OnceLock;

use orlop::container::create::{Request, Start, new_record, plan_create};
use orlop::container::id::ContainerId;
use orlop::error::{Result, one_line};
use orlop::host::cgroup::{Hierarchy, Own, Setup};
use orlop::host::resctrl::Resctrl;
use orlop::host::{Host, Systemd};
use orlop::plan::Plan;
use orlop::spec::Config;

/// A folder for the files of this process, in memory where the machine has that.
pub fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let memory = Path::new("/dev/shm");
        let base = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let dir = base.join(format!("orlop-fuzz-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("bundle/rootfs")).expect("a folder for the bundle");
        dir
    })
}

/// A host of one of six kinds. Its cgroups are nowhere, so that planning finds none that are in use.
pub fn host(kind: u8) -> Host {
    let own = |name: &str| (name.to_owned(), "/own/x.scope".to_owned());
    let cgroup = match kind % 3 {
        0 => Setup::Unified { mount: "/nowhere/cgroup".into(), own: Own::Known(vec![own("")]) },
        1 => {
            let names =
                ["cpu", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "hugetlb", "name=systemd", ""];
            let hierarchy = |name: &&str| Hierarchy {
                controllers: vec![(*name).to_owned()],
                mount: format!("/nowhere/{name}"),
                root: "/".into(),
            };
            Setup::Legacy {
                hierarchies: names.iter().map(hierarchy).collect(),
                own: Own::Known(names.iter().map(|name| own(name)).collect()),
            }
        }
        _ => Setup::Absent,
    };
    let user = kind & 8 != 0;
    let uid = if user { 1000 } else { 0 };
    let systemd = (kind & 4 != 0).then(|| Systemd { user, own: Some("/user.slice/user@1000.service".to_owned()) });
    Host {
        uid,
        gid: uid,
        user_namespace: kind & 16 != 0,
        cgroup,
        tolerant: user,
        systemd,
        apparmor: Some(kind & 32 != 0),
        selinux: Some(kind & 64 != 0),
        setgroups_denied: kind & 16 != 0,
        resctrl: Resctrl::Unread,
    }
}

/// The plan of a configuration, whose rootfs is an empty folder.
pub fn plan(config: &mut Config, host: &Host, start: Start) -> Result<Plan> {
    if let Some(root) = config.spec.root_mut() {
        root.set_path("rootfs".into());
    }
    let id = ContainerId::new("c1").expect("an id");
    let request = Request { start, ..Request::new(id, folder().join("bundle")) };
    let record = Rc::new(RefCell::new(new_record(config, &request, host)?));
    plan_create(config, &record, Path::new("/nowhere/state/c1"), &request, host)
}

/// Plans a configuration for a host, and prints the plan or the error, as a user would have it.
///
/// # Panics
/// When a message is empty or has several lines.
pub fn read_and_plan(text: &[u8], kind: u8) -> std::result::Result<(Config, Plan), String> {
    let start = if kind & 128 != 0 { Start::Now } else { Start::Later };
    let planned = Config::read(text.to_vec()).and_then(|mut config| {
        let plan = plan(&mut config, &host(kind), start)?;
        Ok((config, plan))
    });
    match planned {
        Ok((config, plan)) => {
            assert!(!plan.to_string().is_empty());
            Ok((config, plan))
        }
        Err(error) => {
            let line = one_line(&error);
            assert!(!line.is_empty() && !line.contains(char::is_control), "not one line: {line:?}");
            Err(line)
        }
    }
}

/// Choices taken from the fuzzer's bytes; without any left, always the first.
pub struct Choices<'a>(pub &'a [u8]);

impl Choices<'_> {
    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// A number below the bound.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()) % bound
    }

    /// One of several.
    pub fn one<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }

    /// Four bytes.
    pub fn word(&mut self) -> u32 {
        u32::from_le_bytes([self.byte(), self.byte(), self.byte(), self.byte()])
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
