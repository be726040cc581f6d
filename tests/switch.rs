//! The change of root on a host with many threads, where pivot_root(2) would look at each of them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Helpers of tests fail by panicking, as tests do.

mod common;

use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use common::actions::eventually;
use common::{Bundle, Done, mounts_below};
use orlop::sys::{copy, fd, ns, process};
use serde_json::json;

/// More threads than it takes, as long as this lives.
struct Crowd {
    ended: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Crowd {
    fn new() -> Crowd {
        let ended = Arc::new(AtomicBool::new(false));
        let wait = |ended: Arc<AtomicBool>| {
            move || {
                while !ended.load(Ordering::Relaxed) {
                    std::thread::park()
                }
            }
        };
        let spawn = |_| std::thread::Builder::new().stack_size(16384).spawn(wait(ended.clone())).unwrap();
        let threads = (0..300).map(spawn).collect();
        Crowd { ended, threads }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.thread().unpark();
            thread.join().unwrap();
        }
    }
}

/// A command that is refused a call, always or with this number as its second argument.
#[allow(unsafe_code, reason = "the filter is loaded in the command's own process, before it is executed")]
fn without(mut command: Command, call: i64, argument: Option<i32>) -> Command {
    use seccompiler::{BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter};
    let condition = |value| SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value as u64).unwrap();
    let rule = |value| seccompiler::SeccompRule::new(vec![condition(value)]).unwrap();
    let refused = SeccompAction::Errno(libc::EPERM as u32);
    let rules = [(call, argument.map(rule).into_iter().collect())].into_iter().collect();
    let arch = std::env::consts::ARCH.try_into().unwrap();
    let filter: BpfProgram =
        SeccompFilter::new(rules, SeccompAction::Allow, refused, arch).unwrap().try_into().unwrap();
    // SAFETY: the filter has been made; to load it takes two system calls.
    unsafe {
        command.pre_exec(move || seccompiler::apply_filter(&filter).map_err(|_| std::io::Error::last_os_error()))
    };
    command
}

/// Runs `orlop ARGS ID` so that the root has to be pivoted, and among many threads so that it must not be.
fn in_both_ways(bundle: &Bundle, args: &[&str], mut then: impl FnMut(&str, Done)) {
    let command = |id: &str| bundle.command(&[args, &[id]].concat());
    let id = bundle.id();
    then(&id, bundle.finish(without(command(&id), libc::SYS_setns, Some(libc::CLONE_NEWNS))));
    let crowd = Crowd::new();
    let id = bundle.id();
    let done = bundle.finish(without(command(&id), libc::SYS_pivot_root, None));
    drop(crowd);
    then(&id, done);
}

/// A pidfd is needed, which a test run may be hiding (hack/old-kernel).
fn is_hidden() -> bool {
    let hidden = std::env::var("ORLOP_TEST_HIDDEN").unwrap_or_default();
    if !hidden.is_empty() {
        println!("SKIP: {hidden} is hidden, and the root may have to be pivoted");
    }
    !hidden.is_empty()
}

/// Each mount of mountinfo without its numbers and what of a cgroup it shows, in order of its place.
fn mounts(mountinfo: &str) -> Vec<String> {
    let fields = |line: &str| {
        let shown = if line.contains(" - cgroup") { 4 } else { 3 };
        line.split(' ').skip(shown).collect::<Vec<_>>().join(" ")
    };
    let mut all: Vec<String> = mountinfo.lines().map(fields).collect();
    all.sort();
    all
}

#[test]
fn the_container_finds_the_same_mounts() {
    need_root!();
    if is_hidden() {
        return;
    }
    let mut bundle =
        Bundle::new("ls -d /bin /proc/self /dev/null; ls /.. | head -1; pwd; echo; cat /proc/self/mountinfo");
    let source = bundle.temp();
    std::fs::create_dir_all(source.join("below")).unwrap();
    std::fs::create_dir_all(bundle.rootfs().join("cache")).unwrap();
    bundle.mount("/data", "bind", source.to_str().unwrap(), &["rbind", "rslave", "ro"]);
    bundle.mount("/cache", "tmpfs", "cache", &["noexec", "size=64k"]);
    let mut found = Vec::new();
    in_both_ways(&bundle, &["run"], |_, done| {
        let said = done.ok();
        let (files, mountinfo) = said.split_once("\n\n").unwrap();
        assert_eq!(mountinfo.lines().filter(|line| line.split(' ').nth(4) == Some("/")).count(), 1, "{mountinfo}");
        found.push((files.to_owned(), mounts(mountinfo)));
    });
    assert_eq!(found[0], found[1]);
    assert!(found[0].0.starts_with("/bin\n") && found[0].1.len() > 10, "{found:?}");
    assert_eq!(mounts_below(&bundle.path()), Vec::<String>::new());
}

/// What is in the root of a mount namespace.
#[allow(unsafe_code, reason = "a process of its own enters the namespace, which has no program to execute")]
fn root_of(namespace: &std::fs::File) -> String {
    let namespace = namespace.try_clone().unwrap();
    let list = move || -> orlop::sys::Result<()> {
        let mut entries = [0; 4096];
        ns::setns(namespace.as_fd(), libc::CLONE_NEWNS)?;
        let root = fd::open(c"/", libc::O_RDONLY | libc::O_DIRECTORY, 0)?;
        let filled = copy::getdents64(root.as_fd(), &mut entries)?;
        for name in copy::names(&entries[..filled]) {
            nix::unistd::write(std::io::stdout(), name.to_bytes_with_nul())?;
        }
        process::exit(0)
    };
    let mut command = Command::new("true");
    // SAFETY: it makes system calls, and allocates nothing.
    unsafe { command.pre_exec(move || list().map_err(std::io::Error::from)) };
    String::from_utf8(command.output().unwrap().stdout).unwrap()
}

#[test]
fn beneath_the_root_is_what_is_beneath_it_after_pivot_root() {
    need_root!();
    if is_hidden() {
        return;
    }
    let mut bundle = Bundle::new("umount -l / && exec sleep 1000");
    bundle.capabilities(&["CAP_SYS_ADMIN"]);
    let mut found = Vec::new();
    in_both_ways(&bundle, &["run", "-d"], |id, done| {
        done.ok();
        let namespace = std::fs::File::open(format!("/proc/{}/ns/mnt", bundle.pid(id))).unwrap();
        found.push(eventually("the root is unmounted", || {
            Some(root_of(&namespace)).filter(|names| !names.contains("bin\0"))
        }));
        bundle.end(id);
    });
    assert_eq!(found[0], found[1]);
}

/// Runs a container below another root than that of the mount namespace, and says what became of the mounts.
fn from_another_root(script: &str) -> String {
    let bundle = Bundle::new("echo here");
    std::fs::create_dir_all(bundle.temp().join("root")).unwrap();
    let run = bundle.command(&["run", &bundle.id()]);
    let script = format!(
        "mount --make-rshared / && root=$0/root && {{ {script}; }} 2>&1
        [ \"$before\" = \"$(cat /proc/self/mountinfo)\" ] && echo as before"
    );
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "--propagation", "private", "sh", "-c", &script]).arg(bundle.temp());
    unshare.arg(run.get_program()).args(run.get_args()).current_dir(bundle.path()).stdin(Stdio::null());
    let _crowd = Crowd::new();
    bundle.finish(unshare).ok()
}

#[test]
fn mounts_of_the_host_stay_where_the_runtime_has_another_root() {
    need_root!();
    // Its own root is a mount whose neighbours are shared.
    let said = from_another_root(
        "mount --rbind / $root && before=$(cat /proc/self/mountinfo) && chroot $root sh -c 'cd \"$0\" && \"$@\"' \"$PWD\" \"$@\"",
    );
    assert!(said.ends_with("as before\n"), "{said}");
    // Its root is on a mount that passes on what is unmounted there.
    let said = from_another_root(
        "mount --rbind / / && before=$(cat /proc/self/mountinfo) && nsenter --mount=/proc/self/ns/mnt --wd=\"$PWD\" \"$@\"",
    );
    assert!(said.ends_with("as before\n"), "{said}");
}

#[test]
fn an_init_that_may_not_end_after_a_failure_is_ended() {
    need_root!();
    let mut bundle = Bundle::new("true");
    let allowed = json!([{"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"}]);
    bundle.config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": allowed});
    bundle.config["process"]["noNewPrivileges"] = json!(true);
    let id = bundle.id();
    let begin = std::time::Instant::now();
    let error = bundle.orlop(&["run", &id]).fails();
    assert!(error.contains("exec sh: ") && begin.elapsed().as_secs() < 60, "{error}");
    bundle.assert_nothing_of(&id);
}

#[test]
fn what_the_host_mounts_later_reaches_a_bind_that_follows() {
    need_root!();
    if is_hidden() {
        return;
    }
    let mut bundle = Bundle::sleeping();
    let shared = bundle.temp();
    std::fs::create_dir_all(shared.join("late")).unwrap();
    bundle.mount("/data", "bind", shared.to_str().unwrap(), &["rbind", "rslave"]);
    let id = bundle.id();
    let run = bundle.command(&["run", "-d", &id]);
    let script = "mount --bind \"$0\" \"$0\" && mount --make-shared \"$0\" && \"$@\" &&
        mount -t tmpfs late \"$0/late\" && touch \"$0/late/file\" && sed -n 's|^.* \\(/data/[^ ]*\\) .*|\\1|p' /proc/$(cat pid)/mountinfo";
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "--propagation", "private", "sh", "-c", script]).arg(&shared).arg(run.get_program());
    let args: Vec<_> = run.get_args().collect();
    let (id, before) = args.split_last().unwrap();
    unshare.args(before).args(["--pid-file", "pid"]).arg(id).current_dir(bundle.path()).stdin(Stdio::null());
    let crowd = Crowd::new();
    let said = bundle.finish(without(unshare, libc::SYS_pivot_root, None)).ok();
    drop(crowd);
    assert_eq!(said, "/data/late\n");
    bundle.end(id.to_str().unwrap());
}

#[test]
fn where_mounts_cannot_be_copied_the_root_is_pivoted() {
    need_root!();
    let _crowd = Crowd::new();
    let refused = |change: &dyn Fn(&mut Bundle)| {
        let mut bundle = Bundle::new("echo here");
        change(&mut bundle);
        assert_eq!(bundle.run().ok(), "here\n");
        let run = bundle.command(&["run", &bundle.id()]);
        let error = bundle.finish(without(run, libc::SYS_pivot_root, None)).fails();
        assert!(error.contains("error during container init: error pivoting the root"), "{error}");
    };
    refused(&|bundle| bundle.config["linux"]["rootfsPropagation"] = json!("rshared"));
    refused(&|bundle| bundle.config["linux"]["rootfsPropagation"] = json!("unbindable"));
    refused(&|bundle| bundle.mount("/shared", "tmpfs", "shared", &["rshared"]));
    refused(&|bundle| bundle.mount("/apart", "tmpfs", "apart", &["unbindable"]));
    refused(&|bundle| bundle.mount("/fixed", "tmpfs", "fixed", &["ro", "mode=700"]));
    refused(&|bundle| bundle.user_namespace(100_000));
    refused(&|bundle| bundle.hook("createContainer", "true"));
}

#[test]
fn a_crowd_is_counted() {
    let _crowd = Crowd::new();
    assert!(process::threads().unwrap() >= 300);
}
