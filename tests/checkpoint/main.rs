//! `checkpoint` and `restore` with a real criu. hack/criu finds one that works with this kernel.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Also in the functions that the tests share.

#[path = "../common/mod.rs"]
mod common;

mod faults;
mod runtime;
mod stand_ins;

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::process::Command;

use common::actions::{eventually, link};
use common::{Bundle, cgroups_of};
use runtime::{Outcome, Runtime, judge, lacks, orlop};
use serde_json::json;

/// Counts in a variable of its own, and shows the number as what a link says: of a file that is open at the moment of
/// the dump, criu wants that it is the same when it restores, and in some tests the process goes on in between.
const COUNT: &str = "i=0; while :; do i=$((i+1)); ln -sf $i /new; mv /new /count; sleep 0.02; done";

/// Waits for a server, which writes to /got, and sends it numbers; descriptor 5 gets them too.
const CONNECT: &str = "sleep 100000 | nc -l -p 7000 >/got & \
    until cat /proc/net/tcp /proc/net/tcp6 | grep -q ':1B58 '; do sleep 0.02; done; \
    i=0; while :; do i=$((i+1)); echo $i; echo $i >&5; sleep 0.02; done";

fn counting() -> Bundle {
    Bundle::writable(COUNT)
}

#[test]
fn a_process_counts_on_after_a_restore() {
    judge(counting, |runtime| {
        runtime.run()?;
        let before = runtime.counts_beyond("count", 2);
        runtime.checkpoint(&[])?;
        require!(runtime.state().is_none(), "the container is still there");
        require!(cgroups_of(&runtime.id).is_empty(), "cgroups are left: {:?}", cgroups_of(&runtime.id));
        let dumped = runtime.number("count");
        require!(dumped >= before, "{dumped} is less than {before}");
        std::thread::sleep(std::time::Duration::from_millis(100));
        require!(runtime.number("count") == dumped, "it still counts");

        let pid_file = runtime.bundle.temp().join("pid");
        // containerd's folder for work is a link.
        let (work, real) = (runtime.bundle.temp().join("work"), runtime.bundle.temp().join("real"));
        std::fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink(&real, &work).unwrap();
        runtime.restore(&["--pid-file", pid_file.to_str().unwrap(), "--work-path", work.to_str().unwrap()])?;
        require!(real.join("restore.log").exists(), "no log in the work folder");
        let (status, pid) = runtime.state().ok_or("no state")?;
        require!(status == "running", "{status}");
        require!(std::fs::read_to_string(pid_file).unwrap() == pid.to_string(), "the pid file has another pid");
        let after = runtime.counts_beyond("count", dumped);
        require!(after < dumped + 1000, "{after} has nothing to do with {dumped}");
        require!(runtime.exec("echo $$; cat /proc/1/cmdline")?.contains("count"), "exec does not see the process");
        let cgroups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        require!(cgroups.contains(&runtime.id), "it is in other cgroups: {cgroups}");
        runtime.call(&["kill", &runtime.id, "KILL"])?;
        eventually("the end", || runtime.has_status("stopped").ok());
        runtime.call(&["delete", &runtime.id])
    });
}

#[test]
fn a_container_can_be_checkpointed_again_and_again() {
    judge(counting, |runtime| {
        runtime.run()?;
        let mut count = 0;
        for _ in 0..2 {
            count = runtime.counts_beyond("count", count);
            runtime.exec("sleep 1000 </dev/null >/dev/null 2>&1 & echo started")?;
            runtime.checkpoint(&[])?;
            runtime.restore(&[])?;
        }
        runtime.counts_beyond("count", count);
        let sleeping = runtime.exec("ps | grep -c '[s]leep 1000'")?;
        require!(sleeping.trim() == "2", "of two processes of exec there are {sleeping}");
        Ok(())
    });
}

#[test]
fn leave_running_lets_it_run_and_its_images_make_another_container() {
    judge(counting, |runtime| {
        runtime.run()?;
        let count = runtime.counts_beyond("count", 2);
        runtime.checkpoint(&["--leave-running"])?;
        runtime.has_status("running")?;
        let later = runtime.counts_beyond("count", count + 2);
        runtime.call(&["delete", "--force", &runtime.id])?;
        runtime.restore(&[])?;
        // It begins where the images were made.
        eventually("an older number", || (runtime.number("count") < later + 1000).then_some(()));
        runtime.has_status("running")
    });
}

#[test]
fn open_files_and_connections_are_kept() {
    let script = format!("exec 5>/numbers; {CONNECT} | nc 127.0.0.1 7000");
    judge(
        || Bundle::writable(&script),
        |runtime| {
            runtime.run()?;
            let before = runtime.counts_beyond("got", 3);
            runtime.checkpoint(&["--tcp-established"])?;
            runtime.restore(&["--tcp-established"])?;
            runtime.counts_beyond("got", before + 5);
            for file in ["got", "numbers"] {
                let text = std::fs::read_to_string(runtime.bundle.rootfs().join(file)).unwrap();
                let numbers: Vec<usize> = text.lines().map_while(|line| line.parse().ok()).collect();
                let in_order = numbers.iter().enumerate().all(|(index, number)| *number == index + 1);
                require!(in_order, "{file}: {numbers:?}");
            }
            Ok(())
        },
    );
}

#[test]
fn an_established_connection_needs_to_be_asked_for() {
    if let Some(why) = lacks() {
        skip!("{why}");
    }
    let runtime = orlop(Bundle::writable(&format!("exec 5>/dev/null; {CONNECT} | nc 127.0.0.1 7000")));
    runtime.run().unwrap();
    let before = runtime.counts_beyond("got", 3);
    let error = runtime.checkpoint(&[]).unwrap_err();
    let log = format!("{}/dump.log", runtime.images());
    assert!(error.contains("orlop checkpoint failed: error dumping the container with criu: criu failed"), "{error}");
    assert!(error.contains(&log) && error.contains("Connected TCP socket"), "{error}");
    runtime.has_status("running").unwrap();
    runtime.counts_beyond("got", before + 2);
}

#[test]
fn pipes_of_the_caller_are_given_anew() {
    judge(
        || Bundle::writable("while read line; do echo \"got $line\"; done"),
        |runtime| {
            let piped = |args: &[&str]| {
                let (input, to) = std::io::pipe().unwrap();
                let (from, output) = std::io::pipe().unwrap();
                let mut command = runtime.command(args);
                command.stdin(input).stdout(output);
                runtime.finish(command).map(|()| (to, from))
            };
            let ask = |to: &mut std::io::PipeWriter, from: &mut std::io::PipeReader, word: &str| {
                to.write_all(format!("{word}\n").as_bytes()).unwrap();
                let mut answer = vec![0; word.len() + 5];
                from.read_exact(&mut answer).unwrap();
                String::from_utf8(answer).unwrap()
            };
            let (mut to, mut from) = piped(&["run", "--detach", &runtime.id])?;
            require!(ask(&mut to, &mut from, "one") == "got one\n", "no answer before");
            runtime.checkpoint(&[])?;
            let images = runtime.images();
            let args =
                [&["restore", "--detach", "--image-path", &images], runtime.manage_cgroups(), &[&runtime.id]].concat();
            let (mut to, mut from) = piped(&args)?;
            require!(ask(&mut to, &mut from, "two") == "got two\n", "no answer after");
            Ok(())
        },
    );
}

/// The terminal that has been sent to a console socket.
fn terminal_of(listener: &UnixListener) -> Result<std::fs::File, String> {
    use std::os::fd::AsFd;
    let (stream, _) = listener.accept().map_err(|e| format!("no terminal: {e}"))?;
    let fd = orlop::sys::channel::recv_fd(stream.as_fd(), &mut [0; 4096]).unwrap();
    fd.map(Into::into).ok_or_else(|| "no terminal was sent".to_owned())
}

/// Reads until `text` has appeared.
fn sees(terminal: &mut std::fs::File, text: &str) -> Outcome {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;
    let mut seen = String::new();
    while !seen.contains(text) {
        let mut polled = [PollFd::new(terminal.as_fd(), PollFlags::POLLIN)];
        require!(poll(&mut polled, PollTimeout::from(20_000u16)).unwrap() > 0, "no {text:?} in {seen:?}");
        let mut buffer = [0; 4096];
        let got = terminal.read(&mut buffer).map_err(|e| format!("{e}: no {text:?} in {seen:?}"))?;
        seen += &String::from_utf8_lossy(&buffer[..got]);
    }
    Ok(())
}

#[test]
fn a_terminal_goes_to_the_console_socket_again() {
    let bundle = || {
        let mut bundle = Bundle::writable("echo ready; while read line; do echo \"got $line\"; done");
        bundle.config["process"]["terminal"] = json!(true);
        bundle
    };
    judge(bundle, |runtime| {
        let path = runtime.bundle.temp().join("console");
        let listener = UnixListener::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        let socket = path.to_str().unwrap();
        runtime.call(&["run", "--detach", "--console-socket", socket, &runtime.id])?;
        let mut terminal = terminal_of(&listener)?;
        sees(&mut terminal, "ready")?;
        runtime.checkpoint(&[])?;
        drop(terminal);
        runtime.restore(&["--console-socket", socket])?;
        let mut terminal = terminal_of(&listener)?;
        terminal.write_all(b"hello\n").unwrap();
        sees(&mut terminal, "got hello")
    });
}

#[test]
fn a_terminal_needs_somebody_who_takes_it() {
    if let Some(why) = lacks() {
        skip!("{why}");
    }
    let mut runtime = orlop(counting());
    runtime.bundle.config["process"]["terminal"] = json!(true);
    let error = runtime.restore(&[]).unwrap_err();
    assert!(error.contains("cannot allocate tty if orlop will detach without setting console socket"), "{error}");
    runtime.bundle.assert_nothing_of(&runtime.id);
}

#[test]
fn memory_that_was_dumped_before_is_not_dumped_again() {
    judge(counting, |runtime| {
        runtime.run()?;
        runtime.counts_beyond("count", 2);
        let before = runtime.bundle.temp().join("before");
        let args = ["checkpoint", "--pre-dump", "--image-path", before.to_str().unwrap()];
        runtime.call(&[&args, runtime.manage_cgroups(), &[runtime.id.as_str()]].concat())?;
        runtime.has_status("running")?;
        let count = runtime.counts_beyond("count", 2);
        runtime.checkpoint(&["--parent-path", "../before"])?;
        require!(std::fs::metadata(format!("{}/parent", runtime.images())).is_ok(), "the images have no parent");
        runtime.restore(&[])?;
        runtime.counts_beyond("count", count);
        Ok(())
    });
}

#[test]
fn a_parent_path_must_be_a_folder_beside_the_images() {
    if let Some(why) = lacks() {
        skip!("{why}");
    }
    let runtime = orlop(counting());
    runtime.run().unwrap();
    for (path, why) in
        [("/tmp", "must be relative"), ("../nowhere", "no such file or directory"), ("../log", "not a directory")]
    {
        std::fs::write(runtime.bundle.temp().join("log"), "").unwrap();
        let error = runtime.checkpoint(&["--parent-path", path]).unwrap_err();
        assert!(error.contains("--parent-path") && (path == "../log" || error.contains(why)), "{error}");
        runtime.has_status("running").unwrap();
    }
}

#[test]
fn a_joined_network_namespace_is_joined_again() {
    let mut other = None;
    if lacks().is_none() {
        let child = Command::new("unshare").args(["--net", "sleep", "1000"]).spawn().unwrap();
        eventually("the namespace", || {
            (link(format!("/proc/{}/ns/net", child.id())) != link("/proc/self/ns/net")).then_some(())
        });
        other = Some(child);
    }
    let path = format!("/proc/{}/ns/net", other.as_ref().map_or(1, std::process::Child::id));
    let bundle = || {
        let mut bundle = counting();
        bundle.namespace("network", Some(&path));
        bundle
    };
    judge(bundle, |runtime| {
        runtime.run()?;
        let count = runtime.counts_beyond("count", 2);
        runtime.checkpoint(&[])?;
        runtime.restore(&[])?;
        runtime.counts_beyond("count", count);
        let (_, pid) = runtime.state().ok_or("no state")?;
        require!(link(format!("/proc/{pid}/ns/net")) == link(&path), "it is in another network namespace");
        Ok(())
    });
    if let Some(mut other) = other {
        other.kill().unwrap();
        other.wait().unwrap();
    }
}

#[test]
fn a_paused_container_can_be_checkpointed() {
    judge(counting, |runtime| {
        runtime.run()?;
        let count = runtime.counts_beyond("count", 2);
        runtime.call(&["pause", &runtime.id])?;
        runtime.checkpoint(&["--leave-running"])?;
        runtime.has_status("paused")?;
        runtime.checkpoint(&[])?;
        runtime.restore(&[])?;
        runtime.has_status("running")?;
        runtime.counts_beyond("count", count);
        Ok(())
    });
}

#[test]
fn only_what_runs_can_be_checkpointed() {
    if let Some(why) = lacks() {
        skip!("{why}");
    }
    let runtime = orlop(counting());
    runtime.call(&["create", &runtime.id]).unwrap();
    let error = runtime.checkpoint(&[]).unwrap_err();
    assert!(error.contains("container cannot be checkpointed in created state"), "{error}");
    runtime.has_status("created").unwrap();
    assert!(runtime.call(&["checkpoint", "nobody"]).unwrap_err().contains("container does not exist"));
}

#[test]
fn mounts_from_outside_are_mounted_again() {
    let bundle = || {
        let mut bundle = Bundle::writable("cat /conf/file /test/for/nested/file >/seen; while :; do sleep 0.02; done");
        std::fs::create_dir_all(bundle.rootfs().join("real/conf")).unwrap();
        std::os::unix::fs::symlink("/real/conf", bundle.rootfs().join("conf")).unwrap();
        for name in ["one", "two", "three"] {
            let dir = bundle.temp().join(name);
            std::fs::create_dir(&dir).unwrap();
            std::fs::write(dir.join("file"), name).unwrap();
        }
        let source = |name: &str| bundle.temp().join(name).to_str().unwrap().to_owned();
        let (one, two, three) = (source("one"), source("two"), source("three"));
        bundle.mount("/conf", "bind", &one, &["bind"]);
        bundle.mount("/test", "bind", &two, &["rbind", "rw"]);
        bundle.mount("/test/for/nested", "bind", &three, &["bind", "ro"]);
        bundle
    };
    judge(bundle, |runtime| {
        runtime.run()?;
        eventually("the files", || runtime.bundle.rootfs().join("seen").exists().then_some(()));
        runtime.checkpoint(&[])?;
        // The mount point that `run` has made in the source: it is made again.
        std::fs::remove_dir_all(runtime.bundle.temp().join("two/for")).unwrap();
        runtime.restore(&[])?;
        let seen = runtime.exec("cat /conf/file /test/file /test/for/nested/file")?;
        require!(seen == "onetwothree", "{seen}");
        require!(runtime.exec("touch /test/for/nested/x 2>/dev/null || echo refused")? == "refused\n", "not read-only");
        Ok(())
    });
}

#[test]
fn hooks_are_run_for_a_restored_container() {
    let bundle = || {
        let mut bundle = counting();
        let hook = |name: &str| {
            let file = bundle.temp().join(name).to_str().unwrap().to_owned();
            json!([{ "path": "/bin/sh", "args": ["sh", "-c", format!("cat >>{file}; echo >>{file}")] }])
        };
        let (prestart, create, stop) = (hook("prestart"), hook("createRuntime"), hook("poststop"));
        bundle.config["hooks"] = json!({ "prestart": prestart, "createRuntime": create, "poststop": stop });
        bundle
    };
    judge(bundle, |runtime| {
        let read = |name: &str| std::fs::read_to_string(runtime.bundle.temp().join(name)).unwrap_or_default();
        runtime.run()?;
        runtime.checkpoint(&[])?;
        require!(read("poststop").lines().count() == 1, "poststop after the checkpoint: {}", read("poststop"));
        runtime.restore(&[])?;
        let (_, pid) = runtime.state().ok_or("no state")?;
        for name in ["prestart", "createRuntime"] {
            let last: serde_json::Value = serde_json::from_str(read(name).lines().next_back().unwrap()).unwrap();
            require!(read(name).lines().count() == 2 && last["pid"] == pid, "{name}: {last}, the pid is {pid}");
        }
        Ok(())
    });
}

#[test]
fn a_restore_in_the_foreground_gives_the_exit_status() {
    judge(
        || Bundle::writable("echo up >/up; while ! test -e /go; do sleep 0.02; done; exit 7"),
        |runtime| {
            runtime.run()?;
            eventually("the start", || runtime.bundle.rootfs().join("up").exists().then_some(()));
            runtime.checkpoint(&[])?;
            let images = runtime.images();
            let args = [&["restore", "--image-path", &images], runtime.manage_cgroups(), &[&runtime.id]].concat();
            let mut child = runtime.command(&args).spawn().unwrap();
            eventually("the restore or its failure", || {
                (runtime.has_status("running").is_ok() || child.try_wait().unwrap().is_some()).then_some(())
            });
            std::fs::write(runtime.bundle.rootfs().join("go"), "").unwrap();
            let status = eventually("the end", || child.try_wait().unwrap());
            require!(status.code() == Some(7), "{status}");
            require!(runtime.state().is_none(), "the container is still there");
            Ok(())
        },
    );
}

fn is_running(runtime: &Runtime) {
    runtime.has_status("running").unwrap();
    let count = runtime.number("count");
    runtime.counts_beyond("count", count);
}

#[test]
fn folders_without_a_checkpoint_are_named() {
    if let Some(why) = lacks() {
        skip!("{why}");
    }
    let runtime = orlop(counting());
    let fails = |why: &str| {
        let error = runtime.restore(&[]).unwrap_err();
        assert!(error.contains("orlop restore failed") && error.contains(why), "{error}");
        runtime.bundle.assert_nothing_of(&runtime.id);
    };
    fails("no such file or directory");
    std::fs::create_dir(runtime.images()).unwrap();
    fails("--image-path holds no checkpoint");
    std::fs::remove_dir(runtime.images()).unwrap();
    runtime.run().unwrap();
    runtime.counts_beyond("count", 2);
    runtime.checkpoint(&["--leave-running"]).unwrap();
    is_running(&runtime);
    let error = runtime.restore(&[]).unwrap_err();
    assert!(error.contains("container with given ID already exists"), "{error}");
    runtime.call(&["delete", "--force", &runtime.id]).unwrap();
    for entry in std::fs::read_dir(runtime.images()).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        if name.starts_with("pages-") || name.starts_with("mm-") {
            std::fs::write(entry.path(), "damaged").unwrap();
        }
    }
    fails("restore.log\\\" says: ");
    std::fs::write(format!("{}/descriptors.json", runtime.images()), "{").unwrap();
    fails("descriptors.json");
}
