//! Terminals: config.md#process (`terminal`, `consoleSize`), `--console-socket`, and `run` and `exec -t` in the foreground.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Also in the functions that the tests share.

mod common;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use common::Bundle;
use common::actions::eventually;
use common::sockets::Receiver;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::Pid;
use serde_json::json;

/// A terminal with a person at it, who has read `seen` so far.
struct Person {
    master: File,
    /// The end that programs have.
    slave: File,
    seen: String,
}

impl Person {
    fn new() -> Person {
        let size = Winsize { ws_row: 33, ws_col: 101, ws_xpixel: 0, ws_ypixel: 0 };
        let pair = openpty(Some(&size), None).unwrap();
        Person { master: pair.master.into(), slave: pair.slave.into(), seen: String::new() }
    }

    /// At the master that a console socket has been sent.
    fn at(master: std::os::fd::OwnedFd) -> Person {
        let slave = File::open("/dev/null").unwrap();
        Person { master: master.into(), slave, seen: String::new() }
    }

    fn start(&self, mut command: Command) -> Child {
        let end = || Stdio::from(self.slave.try_clone().unwrap());
        command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap()
    }

    fn is_raw(&self) -> bool {
        !tcgetattr(&self.slave).unwrap().local_flags.intersects(LocalFlags::ICANON | LocalFlags::ECHO)
    }

    fn types(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).unwrap();
    }

    /// Reads until `text` has appeared.
    #[track_caller]
    fn sees(&mut self, text: &str) {
        let end = Instant::now() + Duration::from_secs(10);
        while !self.seen.contains(text) {
            assert!(Instant::now() < end, "no {text:?} in {:?}", self.seen);
            let mut polled = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
            if poll(&mut polled, PollTimeout::from(50u8)).unwrap() == 0 {
                continue;
            }
            let mut buffer = [0; 4096];
            let got = self.master.read(&mut buffer).unwrap_or_else(|e| panic!("{e}: no {text:?} in {:?}", self.seen));
            self.seen += &String::from_utf8_lossy(&buffer[..got]);
        }
    }

    /// Sets the size as a terminal's window does.
    fn resizes(&self, rows: u16, columns: u16) {
        let size = ["rows", &rows.to_string(), "cols", &columns.to_string()].map(str::to_owned);
        assert!(Command::new("stty").args(size).stdin(self.slave.try_clone().unwrap()).status().unwrap().success());
    }
}

fn with_terminal(script: &str) -> Bundle {
    let mut bundle = Bundle::writable(script);
    bundle.config["process"]["terminal"] = json!(true);
    bundle
}

#[track_caller]
fn ended(child: &mut Child) -> ExitStatus {
    eventually("the end", || child.try_wait().unwrap())
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id() as i32), signal).unwrap();
}

#[test]
fn run_gives_the_program_a_terminal_and_its_exit_status_back() {
    need_root!();
    let bundle = with_terminal("tty; test -t 0 && test -t 1 && test -t 2 && echo all three; exit 5");
    let mut person = Person::new();
    let mut child = person.start(bundle.command(&["run", &bundle.id()]));
    person.sees("/dev/pts/0\r\n");
    person.sees("all three\r\n");
    assert_eq!(ended(&mut child).code(), Some(5));
}

#[test]
fn a_person_at_a_terminal_is_told_of_unknown_fields() {
    need_root!();
    let mut bundle = Bundle::new("echo ran");
    bundle.config["process"]["tomorrow"] = json!(1);
    let mut person = Person::new();
    let mut child = person.start(bundle.command(&["run", &bundle.id()]));
    person.sees("config.json: process.tomorrow: unknown field, ignored");
    person.sees("ran");
    assert!(ended(&mut child).success());
}

#[test]
fn run_is_in_raw_mode_while_the_program_runs_and_restores_the_terminal() {
    need_root!();
    let bundle = with_terminal("echo ready; read line; echo \"got $line\"");
    let mut person = Person::new();
    assert!(!person.is_raw());
    let mut child = person.start(bundle.command(&["run", &bundle.id()]));
    person.sees("ready");
    assert!(person.is_raw());
    person.types("hello\r");
    person.sees("got hello");
    assert!(ended(&mut child).success());
    assert!(!person.is_raw());
}

#[test]
fn the_programs_terminal_has_the_size_of_the_persons_and_follows_it() {
    need_root!();
    let bundle = with_terminal("trap 'stty size' WINCH; stty size; while :; do sleep 0.02; done");
    let mut person = Person::new();
    let id = bundle.id();
    let mut child = person.start(bundle.command(&["run", &id]));
    person.sees("33 101");
    person.resizes(44, 122);
    signal(&child, Signal::SIGWINCH);
    person.sees("44 122");
    bundle.end(&id);
    ended(&mut child);
}

#[test]
fn signals_to_run_go_to_the_program() {
    need_root!();
    let bundle = with_terminal("trap 'echo caught; exit 15' TERM; echo ready; while :; do sleep 0.02; done");
    let mut person = Person::new();
    let mut child = person.start(bundle.command(&["run", &bundle.id()]));
    person.sees("ready");
    signal(&child, Signal::SIGTERM);
    person.sees("caught");
    assert_eq!(ended(&mut child).code(), Some(15));
}

#[test]
fn control_c_interrupts_the_program_and_not_run() {
    need_root!();
    let bundle = with_terminal("trap 'echo interrupted; exit 2' INT; echo ready; while :; do sleep 0.02; done");
    let mut person = Person::new();
    let mut child = person.start(bundle.command(&["run", &bundle.id()]));
    person.sees("ready");
    person.types("\x03");
    person.sees("interrupted");
    assert_eq!(ended(&mut child).code(), Some(2));
    assert!(!person.is_raw());
}

#[test]
fn the_terminal_is_restored_when_the_program_is_killed() {
    need_root!();
    let bundle = with_terminal("echo ready; sleep 60");
    let mut person = Person::new();
    let id = bundle.id();
    let mut child = person.start(bundle.command(&["run", &id]));
    person.sees("ready");
    bundle.orlop(&["kill", &id, "KILL"]).ok();
    assert_eq!(ended(&mut child).code(), Some(137));
    assert!(!person.is_raw());
}

#[test]
fn all_output_arrives_before_run_ends() {
    need_root!();
    let bundle = with_terminal("seq 1 3000; echo the last line");
    let mut person = Person::new();
    let mut child = person.start(bundle.command(&["run", &bundle.id()]));
    person.sees("the last line");
    assert!(ended(&mut child).success());
    assert!(person.seen.contains("\n1500\r\n") && person.seen.contains("\n3000\r\n"));
}

#[test]
fn a_terminal_works_also_when_run_itself_has_none() {
    need_root!();
    let bundle = with_terminal("test -t 1 && echo a terminal");
    assert_eq!(bundle.run().ok(), "a terminal\n");
}

#[test]
fn the_terminal_is_the_controlling_one_and_dev_console() {
    need_root!();
    let bundle =
        with_terminal("echo to tty >/dev/tty; echo to console >/dev/console; stat -c %t:%T /dev/console /dev/pts/0");
    let said = bundle.run().ok();
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(&lines[..2], ["to tty", "to console"]);
    assert_eq!(lines[2], lines[3]);
    assert!(lines[2].starts_with("88:"), "{said}");
}

#[test]
fn the_terminal_belongs_to_the_programs_user() {
    need_root!();
    let mut bundle = with_terminal("stat -c '%u %g %a' /dev/pts/0; echo x >/dev/stdout");
    bundle.config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    assert_eq!(bundle.run().ok(), "1000 5 620\nx\n");
}

#[test]
fn console_size_is_the_first_size() {
    need_root!();
    let mut bundle = with_terminal("stty size");
    bundle.config["process"]["consoleSize"] = json!({ "height": 20, "width": 70 });
    assert_eq!(bundle.run().ok(), "20 70\n");
}

#[test]
fn console_socket_gets_the_master() {
    need_root!();
    for command in [&["run", "-d"][..], &["create"]] {
        let bundle = with_terminal("trap 'exit 1' HUP; echo ready; read line; echo \"got $line\"; sleep 60");
        let receiver = Receiver::new(&bundle);
        let id = bundle.id();
        bundle.orlop(&[command, &["--console-socket", receiver.arg(), &id]].concat()).ok();
        let (master, name) = receiver.receive();
        assert!(name.contains("ptmx") || name.contains("pts"), "{name}");
        if command == ["create"] {
            bundle.orlop(&["start", &id]).ok();
        }
        let mut person = Person::at(master);
        person.sees("ready");
        person.types("this\n");
        person.sees("got this");
        bundle.end(&id);
    }
}

#[test]
fn exec_gets_a_terminal_with_tty() {
    need_root!();
    let bundle = Bundle::sleeping();
    let id = bundle.running();
    let script = "test -t 0 && stty size; read line; echo \"got $line\"; exit 6";
    let mut person = Person::new();
    let mut child = person.start(bundle.command(&["exec", "--tty", &id, "sh", "-c", script]));
    person.sees("33 101");
    assert!(person.is_raw());
    person.types("input\r");
    person.sees("got input");
    assert_eq!(ended(&mut child).code(), Some(6));
    assert!(!person.is_raw());
}

#[test]
fn exec_without_tty_has_no_terminal_of_its_own_though_the_container_has() {
    need_root!();
    let bundle = with_terminal("sleep 60");
    let receiver = Receiver::new(&bundle);
    let id = bundle.id();
    bundle.orlop(&["run", "-d", "--console-socket", receiver.arg(), &id]).ok();
    assert_eq!(bundle.exec(&id, "test -t 1 || echo no terminal"), "no terminal\n");
}

#[test]
fn a_detached_exec_with_tty_sends_its_master_to_the_console_socket() {
    need_root!();
    let bundle = Bundle::sleeping();
    let id = bundle.running();
    let receiver = Receiver::new(&bundle);
    let args = ["exec", "-t", "-d", "--console-socket", receiver.arg(), &id, "sh", "-c", "tty; sleep 60"];
    bundle.orlop(&args).ok();
    let mut person = Person::at(receiver.receive().0);
    person.sees("/dev/pts/");
}

#[test]
fn a_terminal_without_anybody_to_take_it_is_an_error() {
    need_root!();
    let bundle = with_terminal("true");
    for command in [&["create"][..], &["run", "-d"]] {
        let id = bundle.id();
        let said = bundle.orlop(&[command, &[&id]].concat()).fails();
        assert!(said.contains("cannot allocate tty if orlop will detach without setting console socket"), "{said}");
        bundle.assert_nothing_of(&id);
    }
}

#[test]
fn a_console_socket_without_a_terminal_is_an_error() {
    need_root!();
    let bundle = Bundle::new("true");
    let receiver = Receiver::new(&bundle);
    let said = bundle.orlop(&["create", "--console-socket", receiver.arg(), &bundle.id()]).fails();
    assert!(said.contains("cannot use console socket if orlop will not detach or allocate tty"), "{said}");
}

#[test]
fn a_console_socket_that_nobody_listens_at_is_named() {
    need_root!();
    let bundle = with_terminal("true");
    let id = bundle.id();
    let said = bundle.orlop(&["create", "--console-socket", "/no/such.sock", &id]).fails();
    assert!(said.contains("/no/such.sock") && said.contains("no such file or directory"), "{said}");
    bundle.assert_nothing_of(&id);
}

#[test]
fn a_terminal_in_a_user_namespace_works() {
    need_root!();
    let mut bundle = with_terminal("tty; stat -c %u /dev/pts/0; echo x >/dev/console");
    bundle.user_namespace(100_000);
    assert_eq!(bundle.run().ok(), "/dev/pts/0\n0\nx\n");
}
