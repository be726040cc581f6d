//! NOTIFY_SOCKET: a container that says it is ready is heard by the caller's service manager.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use common::Bundle;
use serde_json::json;

/// Sends one datagram to the socket of the environment; busybox has no tool for it.
const SAY_READY: &str = r#"
import os, socket
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.sendto(b"STATUS=almost\nREADY=1\n", os.environ["NOTIFY_SOCKET"])
"#;

/// A bundle that runs the host's python3, read-only.
fn bundle() -> Bundle {
    let mut bundle = Bundle::new("true");
    for dir in ["/usr", "/lib", "/lib64"] {
        let mount = json!({"destination": dir, "source": dir, "type": "bind", "options": ["rbind", "ro"]});
        bundle.config["mounts"].as_array_mut().unwrap().push(mount);
    }
    bundle.config["process"]["args"] = json!(["/usr/bin/python3", "-c", SAY_READY]);
    bundle
}

fn socket(bundle: &Bundle) -> (std::path::PathBuf, UnixDatagram) {
    let path = bundle.temp().join("manager.sock");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    (path, socket)
}

fn messages(socket: &UnixDatagram) -> String {
    let mut text = String::new();
    let mut buffer = [0; 256];
    while !text.contains("MAINPID=") {
        let got = socket.recv(&mut buffer).expect("a message in time");
        text.push_str(std::str::from_utf8(&buffer[..got]).unwrap());
    }
    text
}

#[test]
fn run_passes_ready_on_with_the_pid() {
    need_root!();
    if !std::path::Path::new("/usr/bin/python3").exists() {
        skip!("needs /usr/bin/python3");
    }
    let bundle = bundle();
    let (path, socket) = socket(&bundle);
    let mut command = bundle.command(&["run", &bundle.id()]);
    command.env("NOTIFY_SOCKET", &path);
    bundle.finish(command).ok();
    let text = messages(&socket);
    assert!(text.starts_with("READY=1\nMAINPID="), "{text}");
}

#[test]
fn what_is_said_right_before_the_end_is_passed_on() {
    need_root!();
    if !std::path::Path::new("/usr/bin/python3").exists() {
        skip!("needs /usr/bin/python3");
    }
    let mut bundle = bundle();
    let waiting = "import os, time\nwhile not os.path.exists('/go'): time.sleep(0.01)\n";
    bundle.config["process"]["args"] = json!(["/usr/bin/python3", "-c", format!("{waiting}{SAY_READY}")]);
    let (path, socket) = socket(&bundle);
    let id = bundle.id();
    let mut runtime = bundle.command(&["run", &id]).env("NOTIFY_SOCKET", &path).spawn().unwrap();
    common::actions::eventually("running", || bundle.root().join(&id).join("state.json").exists().then_some(()));
    common::actions::eventually("running", || (bundle.state(&id)["status"] == "running").then_some(()));
    let init = bundle.pid(&id);
    let signal = |signal| nix::sys::signal::kill(nix::unistd::Pid::from_raw(runtime.id() as i32), signal).unwrap();
    // It finds both, the message and the end, when it goes on.
    signal(nix::sys::signal::Signal::SIGSTOP);
    std::fs::write(bundle.rootfs().join("go"), "").unwrap();
    common::actions::eventually("the end", || {
        let stat = std::fs::read_to_string(format!("/proc/{init}/stat")).unwrap();
        stat.contains(") Z ").then_some(())
    });
    signal(nix::sys::signal::Signal::SIGCONT);
    assert!(runtime.wait().unwrap().success());
    assert!(messages(&socket).starts_with("READY=1\nMAINPID="));
}

#[test]
fn start_waits_until_the_container_is_ready() {
    need_root!();
    if !std::path::Path::new("/usr/bin/python3").exists() {
        skip!("needs /usr/bin/python3");
    }
    let bundle = bundle();
    let id = bundle.id();
    let (path, socket) = socket(&bundle);
    for verb in ["create", "start"] {
        let mut command = bundle.command(&[verb, &id]);
        command.env("NOTIFY_SOCKET", &path);
        bundle.finish(command).ok();
    }
    let text = messages(&socket);
    assert!(text.starts_with("READY=1\nMAINPID="), "{text}");
}

#[test]
fn start_says_so_when_the_container_ends_without_being_ready() {
    need_root!();
    let bundle = Bundle::new("true");
    let id = bundle.id();
    let (path, _socket) = socket(&bundle);
    let run = |verb: &str| {
        let mut command = bundle.command(&[verb, &id]);
        command.env("NOTIFY_SOCKET", &path);
        bundle.finish(command)
    };
    run("create").ok();
    assert!(run("start").fails().contains("ended before it was ready"));
}
