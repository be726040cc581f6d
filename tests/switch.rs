//! The change of root on a host with many threads, where pivot_root(2) would look at each of them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Helpers of tests fail by panicking, as tests do.

mod common;

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use common::actions::eventually;
use common::{Bundle, Done};
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

/// A command that may not call pivot_root(2).
#[allow(unsafe_code, reason = "the filter is loaded in the command's own process, before it is executed")]
fn without_pivot_root(mut command: Command) -> Command {
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
    let refused = SeccompAction::Errno(libc::EPERM as u32);
    let rules = [(libc::SYS_pivot_root, Vec::new())].into_iter().collect();
    let arch = std::env::consts::ARCH.try_into().unwrap();
    let filter: BpfProgram =
        SeccompFilter::new(rules, SeccompAction::Allow, refused, arch).unwrap().try_into().unwrap();
    // SAFETY: the filter has been made; to load it takes two system calls.
    unsafe {
        command.pre_exec(move || seccompiler::apply_filter(&filter).map_err(|_| std::io::Error::last_os_error()))
    };
    command
}

fn run_without_pivot_root(bundle: &Bundle) -> Done {
    bundle.finish(without_pivot_root(bundle.command(&["run", &bundle.id()])))
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
    let mut bundle = Bundle::new("cat /proc/self/mountinfo");
    let source = bundle.temp();
    std::fs::create_dir_all(source.join("below")).unwrap();
    std::fs::create_dir_all(bundle.rootfs().join("cache")).unwrap();
    bundle.mount("/data", "bind", source.to_str().unwrap(), &["rbind", "rslave", "ro"]);
    bundle.mount("/cache", "tmpfs", "cache", &["noexec", "size=64k"]);
    let few = bundle.run().ok();
    let crowd = Crowd::new();
    let many = bundle.run().ok();
    drop(crowd);
    assert_eq!(mounts(&many), mounts(&few));
    assert_eq!(many.lines().filter(|line| line.split(' ').nth(4) == Some("/")).count(), 1, "{many}");
}

#[test]
fn the_root_is_changed_without_pivot_root() {
    need_root!();
    if is_hidden() {
        return;
    }
    let before = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let bundle = Bundle::new("ls -d /bin /proc/self /dev/null; ls /.. | head -1; pwd; ls /proc/1/root/..  | head -1");
    let expected = bundle.run().ok();
    let _crowd = Crowd::new();
    assert_eq!(run_without_pivot_root(&bundle).ok(), expected);
    assert_eq!(std::fs::read_to_string("/proc/self/mountinfo").unwrap(), before);
}

#[test]
fn a_privileged_program_finds_nothing_of_the_host_beneath_its_root() {
    need_root!();
    if is_hidden() {
        return;
    }
    // Whoever may unmount and enter namespaces may look beneath: there is what is beneath the host's own root.
    let mut bundle = Bundle::new("umount -l / && nsenter -m/proc/self/ns/mnt /bin/ls / || echo nothing");
    let all = ["CAP_SYS_ADMIN", "CAP_SYS_CHROOT"];
    bundle.capabilities(&all);
    let (crowd, marker) = (Crowd::new(), bundle.path());
    let said = run_without_pivot_root(&bundle).ok();
    drop(crowd);
    assert!(said.ends_with("nothing\n") && !said.contains(marker.to_str().unwrap()), "{said}");
    assert_eq!(bundle.run().ok(), said);
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
    let said = bundle.finish(without_pivot_root(unshare)).ok();
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
        let error = run_without_pivot_root(&bundle).fails();
        assert!(error.contains("error during container init: error pivoting the root"), "{error}");
    };
    refused(&|bundle| bundle.config["linux"]["rootfsPropagation"] = json!("rshared"));
    refused(&|bundle| bundle.config["linux"]["rootfsPropagation"] = json!("unbindable"));
    refused(&|bundle| bundle.mount("/shared", "tmpfs", "shared", &["rshared"]));
    refused(&|bundle| bundle.mount("/apart", "tmpfs", "apart", &["unbindable"]));
    refused(&|bundle| bundle.mount("/fixed", "tmpfs", "fixed", &["ro", "mode=700"]));
    refused(&|bundle| bundle.user_namespace(100_000));
}

#[test]
fn a_crowd_is_counted() {
    let before = orlop::sys::process::threads().unwrap();
    let crowd = Crowd::new();
    assert!(orlop::sys::process::threads().unwrap() >= before.max(250));
    drop(crowd);
    eventually("the threads end", || (orlop::sys::process::threads().unwrap() < before + 250).then_some(()));
}
