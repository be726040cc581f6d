//! What filters cost, beside those of libseccomp: `hack/bench seccomp` prints it. Nothing is judged here.

#![cfg(target_arch = "x86_64")]
#![allow(clippy::unwrap_used, clippy::panic)]
#![allow(unsafe_code, reason = "the filter is loaded, and the calls are made, without a library between")]

mod seccomp;

use orlop::seccomp::compile_for;
use seccomp::oracle::Oracle;
use seccomp::*;
use serde_json::Value;
use std::time::Instant;

const NATIVE: &str = "SCMP_ARCH_X86_64";

/// The profiles of container engines, as they write them into config.json.
const ENGINES: [(&str, &str); 3] = [
    ("docker", include_str!("seccomp/docker.json")),
    ("containerd", include_str!("seccomp/containerd.json")),
    ("podman", include_str!("seccomp/podman.json")),
];

/// Loads a program into the calling thread, as a runtime does it without flags in the profile.
fn load(program: &[Instruction]) {
    let mut program: Vec<libc::sock_filter> =
        program.iter().map(|&(code, jt, jf, k)| libc::sock_filter { code, jt, jf, k }).collect();
    let fprog = libc::sock_fprog { len: program.len().try_into().unwrap(), filter: program.as_mut_ptr() };
    // SAFETY: PR_SET_NO_NEW_PRIVS takes plain numbers.
    let privileges = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    let flags = libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    // SAFETY: the kernel copies the program, which lives until the end of this function.
    let filter = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const fprog) };
    assert_eq!((privileges, filter), (0, 0), "{}", std::io::Error::last_os_error());
}

/// Nanoseconds that a call takes in a thread under a program: the best of some runs.
fn nanoseconds(program: Option<Vec<Instruction>>, number: libc::c_long, argument: libc::c_long) -> f64 {
    const CALLS: u32 = 100_000;
    let thread = std::thread::spawn(move || {
        if let Some(program) = program {
            load(&program);
        }
        let run = || {
            let begin = Instant::now();
            for _ in 0..CALLS {
                // SAFETY: the calls that are measured take a number or nothing.
                std::hint::black_box(unsafe { libc::syscall(number, argument) });
            }
            begin.elapsed().as_secs_f64() * 1e9 / f64::from(CALLS)
        };
        (0..20).map(|_| run()).fold(f64::INFINITY, f64::min)
    });
    thread.join().unwrap()
}

/// Instructions that are executed for each system call that the machine's own ABI has: their mean and the largest number.
fn executed(program: &[Instruction]) -> (f64, usize) {
    let machine = machine_named(NATIVE);
    let steps: Vec<usize> = (0..470).map(|number| run(program, &machine.call(number, [0; 6])).steps).collect();
    let sum: usize = steps.iter().sum();
    (sum as f64 / steps.len() as f64, steps.into_iter().max().unwrap())
}

/// Milliseconds for compiling a profile the first time in this process, and the best time afterwards.
fn compiling(json: &Value) -> (f64, f64) {
    let parsed = profile(json.clone());
    let time = || {
        let begin = Instant::now();
        std::hint::black_box(compile_for(&parsed, machine_named(NATIVE).arch()).unwrap().unwrap());
        begin.elapsed().as_secs_f64() * 1e3
    };
    let first = time();
    (first, (0..200).map(|_| time()).fold(f64::INFINITY, f64::min))
}

#[test]
#[ignore = "measures: hack/bench seccomp"]
fn filters_are_measured_beside_those_of_libseccomp() {
    let Some(mut oracle) = Oracle::start() else { return };
    let bare = (nanoseconds(None, libc::SYS_getppid, 0), nanoseconds(None, libc::SYS_personality, 0xffff_ffff));
    println!(
        "libseccomp {}; without a filter getppid takes {:.0} ns, personality {:.0} ns",
        oracle.version, bare.0, bare.1
    );
    println!(
        "{:<12}{:<12}{:>11}{:>10}{:>8}{:>15}{:>14}{:>14}{:>12}{:>14}",
        "profile",
        "compiler",
        "first, ms",
        "best, ms",
        "ratio",
        "instructions",
        "run, mean",
        "run, most",
        "getppid, ns",
        "personality, ns"
    );
    for (engine, text) in ENGINES {
        let json: Value = serde_json::from_str(text).unwrap();
        let (first, best) = compiling(&json);
        let theirs = oracle.seconds(NATIVE, &json) * 1e3;
        let ours = instructions(&compile_for(&profile(json.clone()), machine_named(NATIVE).arch()).unwrap().unwrap());
        let reference = oracle.compile(NATIVE, &json).program.unwrap();
        for (compiler, program, first, best) in
            [("orlop", ours, Some(first), best), ("libseccomp", reference, None, theirs)]
        {
            let (mean, most) = executed(&program);
            let length = program.len();
            let getppid = nanoseconds(Some(program.clone()), libc::SYS_getppid, 0);
            let personality = nanoseconds(Some(program), libc::SYS_personality, 0xffff_ffff);
            let first = first.map_or(String::new(), |first| format!("{first:.3}"));
            println!(
                "{engine:<12}{compiler:<12}{first:>11}{best:>10.3}{:>8.0}{length:>15}{mean:>14.1}{most:>14}{getppid:>12.0}{personality:>14.0}",
                theirs / best
            );
        }
    }
}
