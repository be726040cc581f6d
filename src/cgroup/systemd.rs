//! Cgroups that systemd makes: transient scopes, org.freedesktop.systemd1(5).
//!
//! `cgroupsPath` is `slice:prefix:name` then, and the scope `prefix-name.scope`. A scope is made around
//! processes that exist, so the container's first process is made outside and moved in by systemd,
//! before it does its first step.

use anyhow::{anyhow, bail};

use super::dbus::{Bus, Refused, Target};
use super::dbus_wire::Value;
use super::properties::Property;
use crate::error::Result;
use crate::host::Systemd;

/// The scope of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scope {
    /// What people see of it.
    pub description: String,
    pub unit: String,
    pub slice: String,
    /// Whether it is the user's systemd that makes it.
    pub user: bool,
    /// The cgroup, below the mount of a hierarchy.
    pub path: String,
}

impl Scope {
    /// The scope that cgroupsPath asks for.
    ///
    /// # Errors
    /// A path of another form, names that no unit has, a user's systemd that does not answer.
    pub fn new(cgroups_path: Option<&str>, id: &str, systemd: &Systemd) -> Result<Scope> {
        let default = if systemd.user { "user.slice" } else { "system.slice" };
        let (slice, prefix, name) = match cgroups_path {
            None => (default, "orlop", id),
            Some(path) => {
                let parts: Vec<&str> = path.split(':').collect();
                let [slice, prefix, name] = parts.as_slice() else {
                    bail!(
                        "linux.cgroupsPath: expected cgroupsPath to be of format \"slice:prefix:name\" \
                         for systemd cgroups, got {path:?} instead"
                    );
                };
                (if slice.is_empty() { default } else { slice }, *prefix, *name)
            }
        };
        let unit = format!("{prefix}-{name}.scope");
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte);
        if name.is_empty() || name.ends_with(".slice") || unit.len() > 255 || !unit.bytes().all(allowed) {
            bail!("linux.cgroupsPath: {unit:?} is no name of a systemd scope");
        }
        let mut path = expand_slice(slice)?;
        if systemd.user {
            let own = match &systemd.own {
                Some(own) => own.clone(),
                None => Manager::connect(true)?.control_group()?,
            };
            path = format!("{}/{path}", own.trim_matches('/'));
        }
        let path = format!("{path}/{unit}").trim_matches('/').to_owned();
        Ok(Scope { description: format!("container {id}"), unit, slice: slice.to_owned(), user: systemd.user, path })
    }

    /// Everything that systemd is told when the scope is made; the process comes last.
    pub fn properties(&self, unified: bool) -> Vec<Property> {
        let yes = |name: &str| Property::new(name, Value::Bool(true));
        vec![
            Property::new("Description", Value::text(&self.description)),
            Property::new("Slice", Value::text(&self.slice)),
            yes("Delegate"),
            // Counted from the start, as processes cannot be counted afterwards.
            yes("CPUAccounting"),
            yes(if unified { "IOAccounting" } else { "BlockIOAccounting" }),
            yes("MemoryAccounting"),
            yes("TasksAccounting"),
            Property::new("DefaultDependencies", Value::Bool(false)),
        ]
    }
}

/// The path of a slice below the manager's cgroup: `a-b.slice` is in `a.slice`, and `-.slice` is the root.
fn expand_slice(slice: &str) -> Result<String> {
    let wrong = || anyhow!("linux.cgroupsPath: invalid slice name: {slice}");
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte);
    let name = slice.strip_suffix(".slice").filter(|name| !name.is_empty()).ok_or_else(wrong)?;
    if name == "-" {
        return Ok(String::new());
    }
    if !name.bytes().all(allowed) || name.split('-').any(str::is_empty) {
        return Err(wrong());
    }
    let ends = name.match_indices('-').map(|(at, _)| at).chain([name.len()]);
    let slices: Vec<String> = ends.map(|end| format!("{}.slice", name.get(..end).unwrap_or_default())).collect();
    Ok(slices.join("/"))
}

const SYSTEMD: Target<'_> = Target {
    destination: "org.freedesktop.systemd1",
    path: "/org/freedesktop/systemd1",
    interface: "org.freedesktop.systemd1.Manager",
};

const JOBS: &str = "type='signal',sender='org.freedesktop.systemd1',path='/org/freedesktop/systemd1',\
                    interface='org.freedesktop.systemd1.Manager',member='JobRemoved'";

/// A connection to systemd.
#[derive(Debug)]
pub(super) struct Manager {
    bus: Bus,
    subscribed: bool,
}

impl Manager {
    /// Connects to the system's or to the user's systemd.
    ///
    /// # Errors
    /// When there is no bus.
    pub fn connect(user: bool) -> Result<Manager> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let addresses = if user {
            let default = || variable("XDG_RUNTIME_DIR").map(|dir| format!("unix:path={dir}/bus"));
            variable("DBUS_SESSION_BUS_ADDRESS").or_else(default).ok_or_else(|| {
                anyhow!(
                    "no D-Bus of this user: neither DBUS_SESSION_BUS_ADDRESS nor XDG_RUNTIME_DIR is set \
                     (is dbus-user-session installed?)"
                )
            })?
        } else {
            variable("DBUS_SYSTEM_BUS_ADDRESS").unwrap_or_else(|| "unix:path=/run/dbus/system_bus_socket".into())
        };
        Manager::connect_to(&addresses)
    }

    fn connect_to(addresses: &str) -> Result<Manager> {
        Ok(Manager { bus: Bus::connect(addresses)?, subscribed: false })
    }

    fn call(&mut self, member: &str, body: Vec<Value>) -> Result<Vec<Value>> {
        self.bus.call(SYSTEMD, member, body)
    }

    fn property(&mut self, path: &str, interface: &str, name: &str) -> Result<String> {
        let target = Target { path, interface: "org.freedesktop.DBus.Properties", ..SYSTEMD };
        let answer = self.bus.call(target, "Get", vec![Value::text(interface), Value::text(name)])?;
        let text = answer.first().and_then(Value::as_str);
        Ok(text.ok_or_else(|| anyhow!("{name} is no text"))?.to_owned())
    }

    /// The cgroup of the manager itself, which its units are below.
    ///
    /// # Errors
    /// When it does not tell.
    pub fn control_group(&mut self) -> Result<String> {
        self.property(SYSTEMD.path, SYSTEMD.interface, "ControlGroup")
    }

    /// The list for a call, without what this systemd is too old for; its version is asked for only where that matters.
    fn known(&mut self, properties: &[Property]) -> Result<Value> {
        let newest = properties.iter().map(|property| property.since).max().unwrap_or_default();
        let version = match newest {
            0 => 0,
            _ => version(&self.property(SYSTEMD.path, SYSTEMD.interface, "Version")?),
        };
        let known = properties.iter().filter(|property| property.since <= version);
        Ok(Value::Array("(sv)".into(), known.map(Property::pair).collect()))
    }

    /// Makes a scope around a process and waits until that is done.
    ///
    /// # Errors
    /// When systemd refuses, or a unit of that name exists and is not just the rest of a failed one.
    pub fn start(&mut self, unit: &str, properties: &[Property], pid: i32) -> Result<()> {
        let pids = Value::Array("u".into(), vec![Value::U32(pid.unsigned_abs())]);
        let mut all = properties.to_vec();
        all.push(Property::new("PIDs", pids));
        let list = self.known(&all)?;
        let body = || vec![Value::text(unit), Value::text("fail"), list.clone(), Value::Array("(sa(sv))".into(), vec![])];
        self.subscribe()?;
        let answer = match self.call("StartTransientUnit", body()) {
            Err(error) if is_refusal(&error, "UnitExists") => {
                self.reset_failed(unit)?;
                self.call("StartTransientUnit", body())
            }
            other => other,
        }?;
        match self.job(&answer)?.as_str() {
            "done" => Ok(()),
            result => {
                let _ = self.reset_failed(unit);
                bail!("error creating systemd unit {unit:?}: got {result:?}")
            }
        }
    }

    /// Stops a scope and lets systemd forget it. One that is gone, or has its cgroup elsewhere, is nobody of ours.
    ///
    /// # Errors
    /// When systemd cannot be spoken with, or does not get it done in time.
    pub fn stop(&mut self, unit: &str, dir: &str) -> Result<()> {
        let answer = match self.call("GetUnit", vec![Value::text(unit)]) {
            Err(error) if is_refusal(&error, "NoSuchUnit") => return Ok(()),
            other => other?,
        };
        let path = answer.first().and_then(Value::as_str).unwrap_or_default().to_owned();
        let cgroup = match self.property(&path, "org.freedesktop.systemd1.Scope", "ControlGroup") {
            // It has just been forgotten.
            Err(error) if error.is::<Refused>() => return Ok(()),
            other => other?,
        };
        if !cgroup.is_empty() && !dir.ends_with(&cgroup) {
            return Ok(());
        }
        self.subscribe()?;
        match self.call("StopUnit", vec![Value::text(unit), Value::text("replace")]) {
            Ok(answer) => {
                self.job(&answer)?;
            }
            Err(error) if is_refusal(&error, "NoSuchUnit") => return Ok(()),
            Err(error) => return Err(error),
        }
        self.reset_failed(unit)
    }

    /// A failed unit is kept for people to look at until it is reset; one that is not there is fine.
    fn reset_failed(&mut self, unit: &str) -> Result<()> {
        match self.call("ResetFailedUnit", vec![Value::text(unit)]) {
            Err(error) if !error.is::<Refused>() => Err(error),
            _ => Ok(()),
        }
    }

    /// Changes properties of a unit, until it is stopped.
    ///
    /// # Errors
    /// When systemd refuses.
    pub fn set(&mut self, unit: &str, properties: &[Property]) -> Result<()> {
        let list = self.known(properties)?;
        self.call("SetUnitProperties", vec![Value::text(unit), Value::Bool(true), list]).map(drop)
    }

    /// Moves a process into a unit's cgroup, or one below it; for users who may not do so themselves.
    ///
    /// # Errors
    /// When systemd refuses.
    pub fn attach(&mut self, unit: &str, below: &str, pid: i32) -> Result<()> {
        let pids = Value::Array("u".into(), vec![Value::U32(pid.unsigned_abs())]);
        let below = format!("/{}", below.trim_matches('/'));
        self.call("AttachProcessesToUnit", vec![Value::text(unit), Value::Text(below), pids]).map(drop)
    }

    /// Asks for the signals that tell the end of a job.
    fn subscribe(&mut self) -> Result<()> {
        if !self.subscribed {
            self.bus.add_match(JOBS)?;
            self.call("Subscribe", Vec::new())?;
            self.subscribed = true;
        }
        Ok(())
    }

    /// Waits for the end of the job that a call has answered with, and gives its result.
    fn job(&mut self, answer: &[Value]) -> Result<String> {
        let job = answer.first().and_then(Value::as_str).ok_or_else(|| anyhow!("systemd names no job"))?;
        let is_end = |member: &str, body: &[Value]| {
            member == "JobRemoved" && body.get(1).and_then(Value::as_str).is_some_and(|path| path == job)
        };
        let end = self.bus.signal(|message| is_end(&message.member, &message.body))?;
        Ok(end.body.get(3).and_then(Value::as_str).unwrap_or_default().to_owned())
    }
}

fn is_refusal(error: &anyhow::Error, name: &str) -> bool {
    error.downcast_ref::<Refused>().is_some_and(|refused| refused.name.rsplit('.').next() == Some(name))
}

/// The number in a version such as `252.33-1~deb12u1` or `v245`; 0 when there is none.
fn version(text: &str) -> u32 {
    let text = text.trim_start_matches('v');
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.get(..end).and_then(|digits| digits.parse().ok()).unwrap_or_default()
}

