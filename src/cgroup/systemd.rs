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
        let body =
            || vec![Value::text(unit), Value::text("fail"), list.clone(), Value::Array("(sa(sv))".into(), vec![])];
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

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
    use std::thread::JoinHandle;

    use super::super::dbus_wire::{Kind, Message};
    use super::*;

    fn systemd(user: bool) -> Systemd {
        Systemd { user, own: Some("/user.slice/user-1.slice/user@1.service".into()) }
    }

    fn scope(path: Option<&str>) -> std::result::Result<Scope, String> {
        Scope::new(path, "c1", &systemd(false)).map_err(|error| error.to_string())
    }

    #[test]
    fn a_path_names_slice_prefix_and_name() {
        let found = scope(Some("machine.slice:libpod:abc")).unwrap();
        assert_eq!((found.unit.as_str(), found.slice.as_str()), ("libpod-abc.scope", "machine.slice"));
        assert_eq!(found.path, "machine.slice/libpod-abc.scope");
        assert_eq!(scope(Some(":docker:abc")).unwrap().path, "system.slice/docker-abc.scope");
        assert_eq!(scope(Some("-.slice:docker:abc")).unwrap().path, "docker-abc.scope");
        assert_eq!(scope(None).unwrap().path, "system.slice/orlop-c1.scope");
        let user = Scope::new(None, "c1", &systemd(true)).unwrap();
        assert_eq!(user.path, "user.slice/user-1.slice/user@1.service/user.slice/orlop-c1.scope");
        assert_eq!((user.slice.as_str(), user.user), ("user.slice", true));
    }

    #[test]
    fn paths_of_another_form_are_refused() {
        for bad in ["/docker/abc", "a.slice:b", "a.slice:b:c:d", "a.slice:b:", "a.slice:b:c.slice", "a.slice:b:c/../d"]
        {
            assert!(scope(Some(bad)).unwrap_err().starts_with("linux.cgroupsPath: "), "{bad}");
        }
        for bad in ["a", ".slice", "a/b.slice", "-a.slice", "a--b.slice", "a-.slice", "../a.slice"] {
            let error = scope(Some(&format!("{bad}:p:n"))).unwrap_err();
            assert_eq!(error, format!("linux.cgroupsPath: invalid slice name: {bad}"));
        }
    }

    #[test]
    fn slices_are_nested_as_their_names_say() {
        assert_eq!(expand_slice("a-b-c.slice").unwrap(), "a.slice/a-b.slice/a-b-c.slice");
        assert_eq!(expand_slice("system.slice").unwrap(), "system.slice");
        assert_eq!(expand_slice("-.slice").unwrap(), "");
    }

    #[test]
    fn versions_are_their_first_number() {
        assert_eq!(["252.33-1~deb12u1", "v245", "257", "odd"].map(version), [252, 245, 257, 0]);
    }

    /// How a call is answered: the body or an error's name.
    type Answer = std::result::Result<Vec<Value>, &'static str>;

    /// A bus with a systemd behind it, for one connection; gives back the calls that it got.
    struct Fake {
        address: String,
        served: JoinHandle<Vec<Message>>,
    }

    impl Fake {
        fn new(test: &str, answer: impl Fn(&Message, usize) -> Answer + Send + 'static) -> Fake {
            let name = format!("orlop-bus-{}-{test}", std::process::id());
            let socket = SocketAddr::from_abstract_name(&name).unwrap();
            let listener = UnixListener::bind_addr(&socket).unwrap();
            let served = std::thread::spawn(move || serve(&listener.accept().unwrap().0, answer));
            Fake { address: format!("unix:abstract={name},guid=0"), served }
        }

        fn manager(&self) -> Manager {
            Manager::connect_to(&self.address).unwrap()
        }

        fn calls(self) -> Vec<Message> {
            self.served.join().unwrap()
        }
    }

    fn serve(mut socket: &UnixStream, answer: impl Fn(&Message, usize) -> Answer) -> Vec<Message> {
        let mut reader = BufReader::new(socket.try_clone().unwrap());
        let mut zero = [1];
        reader.read_exact(&mut zero).unwrap();
        assert_eq!(zero, [0]);
        let mut line = || {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            line
        };
        assert_eq!([line(), line(), line()], ["AUTH EXTERNAL\r\n", "DATA\r\n", "BEGIN\r\n"]);
        socket.write_all(b"DATA\r\nOK 0123\r\n").unwrap();
        let (mut bytes, mut calls) = (Vec::new(), Vec::new());
        loop {
            while let Some((call, len)) = Message::decode(&bytes).unwrap() {
                bytes.drain(..len);
                for message in replies(&call, &answer, calls.len()) {
                    // In two parts, as a stream may come.
                    let (first, second) = message.split_at(message.len() / 3);
                    socket.write_all(first).unwrap();
                    socket.write_all(second).unwrap();
                }
                calls.push(call);
            }
            let mut chunk = [0; 100];
            match reader.read(&mut chunk) {
                Ok(0) | Err(_) => return calls,
                Ok(len) => bytes.extend_from_slice(&chunk[..len]),
            }
        }
    }

    fn replies(call: &Message, answer: &impl Fn(&Message, usize) -> Answer, number: usize) -> Vec<Vec<u8>> {
        let reply = |kind| Message { kind, serial: 1000, reply: call.serial, ..Message::default() };
        let ended = |job: &str, result: &str| Message {
            kind: Kind::Signal,
            serial: 1001,
            path: SYSTEMD.path.into(),
            interface: SYSTEMD.interface.into(),
            member: "JobRemoved".into(),
            body: vec![Value::U32(1), Value::Object(job.into()), Value::text("x.scope"), Value::text(result)],
            ..Message::default()
        };
        match answer(call, number) {
            Err(name) => {
                let name = format!("org.freedesktop.systemd1.{name}");
                vec![Message { error: name, body: vec![Value::text("no")], ..reply(Kind::Error) }.encode()]
            }
            Ok(body) => {
                let job = body.iter().find(|value| matches!(value, Value::Object(_))).and_then(Value::as_str);
                let end = |when| job.and_then(|job| job.strip_prefix(when).map(|result| ended(job, result).encode()));
                let mut messages = vec![ended("/job/of/somebody/else", "done").encode()];
                messages.extend(end("/early/"));
                messages.push(Message { body: body.clone(), ..reply(Kind::Return) }.encode());
                messages.extend(end("/late/"));
                messages
            }
        }
    }

    fn members(calls: &[Message]) -> Vec<&str> {
        calls.iter().map(|call| call.member.as_str()).collect()
    }

    /// The job of a call that starts one; its name says when and how it ends.
    fn job(name: &str) -> Answer {
        Ok(vec![Value::Object(name.into())])
    }

    #[test]
    fn a_scope_is_started_with_one_call_and_waited_for() {
        for end in ["/early/done", "/late/done"] {
            let test = format!("start{}", end.replace('/', "-"));
            let fake = Fake::new(
                &test,
                move |call, _| if call.member == "StartTransientUnit" { job(end) } else { Ok(vec![]) },
            );
            let mut manager = fake.manager();
            let properties = scope(Some("a.slice:p:n")).unwrap().properties(true);
            manager.start("p-n.scope", &properties, 42).unwrap();
            drop(manager);
            let calls = fake.calls();
            assert_eq!(members(&calls), ["Hello", "AddMatch", "Subscribe", "StartTransientUnit"]);
            let body: Vec<String> = calls[3].body.iter().map(Value::to_string).collect();
            assert_eq!(body[..2], ["\"p-n.scope\"", "\"fail\""]);
            assert_eq!(body[3], "[]");
            assert_eq!(
                body[2],
                r#"[("Description", <"container c1">), ("Slice", <"a.slice">), ("Delegate", <true>), "#.to_owned()
                    + r#"("CPUAccounting", <true>), ("IOAccounting", <true>), ("MemoryAccounting", <true>), "#
                    + r#"("TasksAccounting", <true>), ("DefaultDependencies", <false>), ("PIDs", <[42]>)]"#
            );
        }
    }

    #[test]
    fn a_job_that_fails_is_an_error_and_leaves_no_failed_unit() {
        let fake =
            Fake::new(
                "failed",
                |call, _| if call.member == "StartTransientUnit" { job("/late/failed") } else { Ok(vec![]) },
            );
        let mut manager = fake.manager();
        let error = manager.start("x.scope", &[], 42).unwrap_err();
        assert_eq!(error.to_string(), "error creating systemd unit \"x.scope\": got \"failed\"");
        drop(manager);
        assert_eq!(members(&fake.calls()).last(), Some(&"ResetFailedUnit"));
    }

    #[test]
    fn the_rest_of_a_failed_unit_is_reset_once() {
        let fake = Fake::new("exists", |call, number| match (call.member.as_str(), number) {
            ("StartTransientUnit", 3) => Err("UnitExists"),
            ("StartTransientUnit", 5) => job("/late/done"),
            ("StartTransientUnit", _) => Err("UnitExists"),
            _ => Ok(vec![]),
        });
        let mut manager = fake.manager();
        manager.start("x.scope", &[], 42).unwrap();
        let error = manager.start("x.scope", &[], 42).unwrap_err();
        assert_eq!(error.to_string(), "no (org.freedesktop.systemd1.UnitExists)");
        drop(manager);
        let calls = fake.calls();
        assert_eq!(members(&calls).iter().filter(|name| **name == "ResetFailedUnit").count(), 2);
    }

    /// Stops x.scope, whose cgroup is said to be this one, for a container at /sys/fs/cgroup/a.slice/x.scope.
    fn stopping(test: &str, cgroup: &'static str) -> Vec<String> {
        let fake = Fake::new(test, move |call, _| match call.member.as_str() {
            "GetUnit" => Ok(vec![Value::Object("/unit/x".into())]),
            "Get" => Ok(vec![Value::variant(Value::text(cgroup))]),
            "StopUnit" => job("/late/done"),
            _ => Ok(vec![]),
        });
        let mut manager = fake.manager();
        manager.stop("x.scope", "/sys/fs/cgroup/a.slice/x.scope").unwrap();
        drop(manager);
        members(&fake.calls()).into_iter().map(str::to_owned).collect()
    }

    #[test]
    fn a_scope_is_stopped_and_forgotten() {
        let all = ["Hello", "GetUnit", "Get", "AddMatch", "Subscribe", "StopUnit", "ResetFailedUnit"];
        assert_eq!(stopping("stop", "/a.slice/x.scope"), all);
        assert_eq!(stopping("stop-failed", ""), all);
    }

    #[test]
    fn a_scope_of_that_name_elsewhere_is_left_alone() {
        assert_eq!(stopping("stop-other", "/b.slice/x.scope"), ["Hello", "GetUnit", "Get"]);
    }

    #[test]
    fn a_scope_that_is_gone_is_fine() {
        let fake = Fake::new("gone", |call, _| if call.member == "GetUnit" { Err("NoSuchUnit") } else { Ok(vec![]) });
        fake.manager().stop("x.scope", "/x.scope").unwrap();
        assert_eq!(members(&fake.calls()), ["Hello", "GetUnit"]);
    }

    #[test]
    fn an_old_systemd_is_not_told_what_it_does_not_know() {
        for (text, names) in [("239 (239-74.el8)", 1), ("247.3-7", 2)] {
            let fake = Fake::new(&format!("version-{names}"), move |call, _| match call.member.as_str() {
                "Get" => Ok(vec![Value::variant(Value::text(text))]),
                _ => Ok(vec![]),
            });
            let cpus = Property { since: 244, ..Property::new("AllowedCPUs", Value::Array("y".into(), vec![])) };
            fake.manager().set("x.scope", &[Property::new("TasksMax", Value::U64(1)), cpus]).unwrap();
            let calls = fake.calls();
            let Some(Value::Array(_, list)) = calls[2].body.get(2) else { panic!("{calls:?}") };
            assert_eq!((calls[2].member.as_str(), list.len()), ("SetUnitProperties", names));
        }
    }

    #[test]
    fn a_process_is_attached_below_a_unit() {
        let fake = Fake::new("attach", |_, _| Ok(vec![]));
        fake.manager().attach("x.scope", "sub", 7).unwrap();
        let calls = fake.calls();
        let body: Vec<String> = calls[1].body.iter().map(Value::to_string).collect();
        assert_eq!(
            (calls[1].member.as_str(), body.join(" ")),
            ("AttachProcessesToUnit", r#""x.scope" "/sub" [7]"#.into())
        );
    }

    #[test]
    fn a_bus_that_refuses_is_an_error() {
        let name = format!("orlop-bus-{}-closes", std::process::id());
        let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let closing = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            socket.write_all(b"REJECTED\r\n").unwrap();
        });
        let error = Manager::connect_to(&format!("unix:abstract={name}")).unwrap_err();
        let text = crate::error::one_line(&error);
        assert!(text.ends_with("authentication refused: REJECTED") || text.ends_with("broken pipe"), "{text}");
        closing.join().unwrap();
    }
}
