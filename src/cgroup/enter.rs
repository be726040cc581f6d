//! Getting a process into cgroups: the container's first one after the clone, and those of `exec`.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{anyhow, bail};
use nix::errno::Errno;

use super::Record;
use super::dir::{self, Dir, below};
use super::make::write_pid;
use super::path::{Placement, of_process};
use super::systemd::Manager;
use crate::error::{Result, Why};
use crate::plan::{Elsewhere, Outside, Plan, Runtime, Slot};

/// Adds the step after the clone that moves the container's process into its cgroups.
///
/// On v2 it is born there; the step is for kernels and sandboxes without clone3.
pub fn plan_enter(placement: &Placement, plan: &mut Plan) {
    let dirs: Vec<String> = placement.places.iter().map(super::path::Place::dir).collect();
    if dirs.is_empty() {
        return;
    }
    // On v2 the clone or systemd sees to it.
    let by_systemd = placement.unified && placement.scope.is_some();
    if plan.spawn.cgroup.is_none() && !by_systemd {
        plan.outside(Enter { dirs });
    }
}

/// Adds the steps that put a process of `exec` into the container's cgroups, or below them.
///
/// `sub` are the `--cgroup [controller,…:]path` arguments. `init` is the container's first process: where
/// the container has moved it into a cgroup of its own, the new process goes there too.
///
/// # Errors
/// A malformed argument, an unknown controller, a path that leads out of the container's cgroup.
pub fn plan_join(record: &Record, sub: &[String], init: Option<i32>, plan: &mut Plan) -> Result<()> {
    let sub = parse_sub(sub)?;
    if record.is_none() {
        if let Some((_, path)) = sub.iter().next() {
            bail!("bad sub cgroup path: {path}: the container has no cgroup");
        }
        return Ok(());
    }
    if let Some(controller) = sub.keys().find(|name| !name.is_empty() && record.path(name).is_none()) {
        bail!("unknown controller {controller} in SubCgroupPaths");
    }
    if record.is_unified() {
        let base = record.path("").unwrap_or_default();
        let asked = sub.get("").map(String::as_str);
        let path = below(base, asked.unwrap_or_default())?;
        let slot = plan.outside_slot();
        let fallback = if asked.is_none() { init } else { None };
        if let (Some(unit), true) = (&record.unit, record.user) {
            let (unit, base, mount) = (unit.clone(), base.to_owned(), record.mount.clone());
            plan.outside(Attach { unit, base, path, mount, init: fallback });
            return Ok(());
        }
        let init = fallback.map(|pid| InitsOwn { pid, mount: record.mount.clone() });
        plan.before(Open { path, init: init.clone(), slot });
        plan.spawn.cgroup = Some(slot);
        // With controllers handed down (a systemd in the container does that) no process may be in it.
        plan.spawn.busy = init.map(|init| Elsewhere(Box::new(move || init.open().ok().map(Dir::into_fd))));
        return Ok(());
    }
    // Controllers that are not named stay with the container's own cgroup, so that no limit is lost.
    let everywhere = sub.get("").map_or("", String::as_str);
    let mut dirs = Vec::new();
    for (controller, base) in &record.paths {
        let path = below(base, sub.get(controller).map_or(everywhere, String::as_str))?;
        if !dirs.contains(&path) {
            dirs.push(path);
        }
    }
    plan.outside(Enter { dirs });
    Ok(())
}

fn parse_sub(arguments: &[String]) -> Result<BTreeMap<String, String>> {
    let mut paths = BTreeMap::new();
    for argument in arguments {
        let Some((controllers, path)) = argument.split_once(':') else {
            if arguments.len() != 1 {
                bail!("invalid --cgroup argument: {argument} (missing <controller>: prefix)");
            }
            paths.insert(String::new(), argument.clone());
            continue;
        };
        for controller in controllers.split(',') {
            if controller.is_empty() {
                bail!("invalid --cgroup argument: {argument} (empty <controller> prefix)");
            }
            if paths.insert(controller.to_owned(), path.to_owned()).is_some() {
                bail!("invalid --cgroup argument(s): controller {controller} specified multiple times");
            }
        }
    }
    Ok(paths)
}

struct Enter {
    dirs: Vec<String>,
}

impl fmt::Display for Enter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "joining the cgroups {}", self.dirs.join(", "))
    }
}

impl Outside for Enter {
    fn run(&self, runtime: &mut Runtime) -> Result<()> {
        let pid = runtime.child()?.pid;
        for path in &self.dirs {
            let failed = |error: anyhow::Error| error.context(format!("error adding pid {pid} to cgroups"));
            write_pid(&dir::open(path).map_err(failed)?, pid).map_err(failed)?;
        }
        Ok(())
    }
}

/// The cgroup that the container's first process is in.
#[derive(Clone)]
struct InitsOwn {
    pid: i32,
    mount: String,
}

impl InitsOwn {
    fn open(&self) -> Result<Dir> {
        let path = of_process(&self.mount, self.pid)?;
        Dir::open(&path)
            .map_err(|errno| anyhow!(crate::error::Sys(errno)).context(format!("can't open cgroup: open {path}")))
    }
}

/// Opens the v2 cgroup that a process of `exec` is born in.
struct Open {
    path: String,
    init: Option<InitsOwn>,
    slot: Slot,
}

impl fmt::Display for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "opening cgroup {:?}", self.path)
    }
}

impl Outside for Open {
    fn run(&self, runtime: &mut Runtime) -> Result<()> {
        let dir = match (Dir::open(&self.path), &self.init) {
            (Err(Errno::ENOENT), Some(init)) => init.open()?,
            (own, _) => own.why(|| format!("can't open cgroup: open {}", self.path))?,
        };
        runtime.slots.put(self.slot, dir.into_fd());
        Ok(())
    }
}

/// Moves a process of `exec` into a user's scope. The user may not do that: it takes rights to the cgroup
/// that holds both the scope and where the runtime is.
struct Attach {
    unit: String,
    base: String,
    path: String,
    mount: String,
    init: Option<i32>,
}

impl fmt::Display for Attach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "moving the process into systemd unit {:?}, cgroup {:?}", self.unit, self.path)
    }
}

impl Outside for Attach {
    fn run(&self, runtime: &mut Runtime) -> Result<()> {
        let pid = runtime.child()?.pid;
        let handed_down = || dir::open(&self.path)?.read("cgroup.subtree_control").why(|| "cgroup.subtree_control");
        let path = match self.init {
            // As for `Open`: with controllers handed down no process may be in it.
            Some(init) if !handed_down()?.trim().is_empty() => of_process(&self.mount, init)?,
            _ => self.path.clone(),
        };
        let below = path.strip_prefix(&self.base).ok_or_else(|| anyhow!("{path} is not in the container's cgroup"))?;
        Manager::connect(true)?.attach(&self.unit, below, pid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> std::result::Result<Vec<(String, String)>, String> {
        let arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
        parse_sub(&arguments).map(|map| map.into_iter().collect()).map_err(|e| e.to_string())
    }

    #[test]
    fn cgroup_arguments_name_controllers_or_one_path() {
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(parsed(&["x"]).unwrap(), [pair("", "x")]);
        assert_eq!(
            parsed(&["cpu,memory:x", "pids:y"]).unwrap(),
            [pair("cpu", "x"), pair("memory", "x"), pair("pids", "y")]
        );
        assert!(parsed(&["x", "y"]).unwrap_err().contains("missing <controller>: prefix"));
        assert!(parsed(&[":x"]).unwrap_err().contains("empty <controller> prefix"));
        assert!(parsed(&["cpu:x", "cpu:y"]).unwrap_err().contains("controller cpu specified multiple times"));
    }

    #[test]
    fn a_sub_cgroup_cannot_be_outside_the_container() {
        let paths = BTreeMap::from([(String::new(), "/cg/x".to_owned())]);
        let record = Record { paths, ..Record::default() };
        let error = plan_join(&record, &["../y".to_owned()], None, &mut Plan::new()).unwrap_err();
        assert_eq!(error.to_string(), "bad sub cgroup path: ../y");
        let error = plan_join(&record, &["cpu:y".to_owned()], None, &mut Plan::new()).unwrap_err();
        assert_eq!(error.to_string(), "unknown controller cpu in SubCgroupPaths");
    }

    #[test]
    fn only_a_users_scope_is_joined_through_systemd() {
        let paths = BTreeMap::from([(String::new(), "/cg/x.scope".to_owned())]);
        let record = |user| Record { paths: paths.clone(), unit: Some("x.scope".into()), user, ..Record::default() };
        let mut plan = Plan::new();
        plan_join(&record(true), &["sub".to_owned()], None, &mut plan).unwrap();
        assert!(plan.spawn.cgroup.is_none());
        let text = plan.to_string();
        assert!(
            text.contains("moving the process into systemd unit \"x.scope\", cgroup \"/cg/x.scope/sub\""),
            "{text}"
        );
        let mut plan = Plan::new();
        plan_join(&record(false), &[], None, &mut plan).unwrap();
        assert!(plan.spawn.cgroup.is_some() && !plan.to_string().contains("systemd"));
    }
}
