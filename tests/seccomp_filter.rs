//! What a profile means, asked of the programs themselves: in an interpreter for every architecture, and of the kernel.

#![allow(clippy::unwrap_used, clippy::panic)]

mod seccomp;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use oci_spec::runtime::{Arch, LinuxSeccomp};
use orlop::seccomp::{Filter, compile, compile_for, features};
use orlop::sys::seccomp::{action_available, load};
use seccomp::*;
use serde_json::{Value, json};

const ALLOW: u32 = 0x7fff_0000;
const EPERM: u32 = 0x5_0001;
const ENOSYS: u32 = 0x5_0026;
const KILL: u32 = 0;

fn filter_on(machine: &Machine, json: Value) -> Filter {
    compile_for(&profile(json), machine.arch()).unwrap().unwrap()
}

/// The answer to a call, from a filter for that machine alone.
fn answer(machine: &Machine, json: Value, number: u32, args: [u64; 6]) -> u32 {
    run(&instructions(&filter_on(machine, json)), &machine.call(number, args)).answer
}

fn error(json: Value) -> String {
    let machine = machine_named("SCMP_ARCH_X86_64");
    let profile: LinuxSeccomp = profile(json);
    compile_for(&profile, machine.arch()).err().map(|error| format!("{error:#}")).unwrap_or_default()
}

/// The number of close(2), which every architecture has had from the beginning.
fn close(machine: &Machine) -> u32 {
    match machine.name {
        "SCMP_ARCH_X86_64" | "SCMP_ARCH_X32" | "SCMP_ARCH_MIPS64" | "SCMP_ARCH_MIPSEL64" => machine.base + 3,
        "SCMP_ARCH_MIPS64N32" | "SCMP_ARCH_MIPSEL64N32" => machine.base + 3,
        "SCMP_ARCH_AARCH64" | "SCMP_ARCH_RISCV64" | "SCMP_ARCH_LOONGARCH64" => 57,
        _ => machine.base + 6,
    }
}

#[test]
fn every_action_is_answered_on_every_architecture() {
    let actions = [
        ("KILL", KILL),
        ("KILL_THREAD", KILL),
        ("KILL_PROCESS", 0x8000_0000),
        ("TRAP", 0x3_0000),
        ("ERRNO", EPERM),
        ("TRACE", 0x7ff0_0001),
        ("LOG", 0x7ffc_0000),
        ("NOTIFY", 0x7fc0_0000),
        ("ALLOW", ALLOW),
    ];
    for machine in MACHINES {
        for (action, word) in actions {
            let default = if action == "ALLOW" { "SCMP_ACT_TRAP" } else { "SCMP_ACT_ALLOW" };
            let json = json!({"defaultAction": default, "listenerPath": "/agent",
                "syscalls": [{"names": ["close"], "action": format!("SCMP_ACT_{action}")}]});
            assert_eq!(answer(&machine, json, close(&machine), [0; 6]), word, "{action} on {}", machine.name);
        }
    }
}

#[test]
fn every_operator_compares_all_bits_of_a_register_without_sign() {
    const VALUE: u64 = 0x8000_0001_0000_0005;
    let around = [VALUE - 1, VALUE, VALUE + 1, VALUE ^ (1 << 32), VALUE ^ (1 << 63), 0, u64::MAX];
    type Operator = fn(u64, u64) -> bool;
    let operators: [(&str, Operator); 6] = [
        ("NE", |a, b| a != b),
        ("LT", |a, b| a < b),
        ("LE", |a, b| a <= b),
        ("EQ", |a, b| a == b),
        ("GE", |a, b| a >= b),
        ("GT", |a, b| a > b),
    ];
    for machine in MACHINES {
        let narrow = |number: u64| if machine.bits == 32 { u64::from(number as u32) } else { number };
        for (name, operator) in operators {
            for (index, arg) in around.iter().enumerate() {
                let index = index % 6;
                let json = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["close"], "action": "SCMP_ACT_ERRNO",
                    "args": [{"index": index, "op": format!("SCMP_CMP_{name}"), "value": VALUE}]}]});
                let mut args = [0x1234_5678_9abc_def0; 6];
                args[index] = *arg;
                let expected = if operator(narrow(*arg), narrow(VALUE)) { EPERM } else { ALLOW };
                assert_eq!(
                    answer(&machine, json, close(&machine), args),
                    expected,
                    "{arg:#x} {name} on {}",
                    machine.name
                );
            }
        }
    }
}

#[test]
fn masked_equality_has_the_mask_first() {
    let machine = machine_named("SCMP_ARCH_X86_64");
    let json = json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["clone"], "action": "SCMP_ACT_ALLOW",
        "args": [{"index": 0, "op": "SCMP_CMP_MASKED_EQ", "value": 0x7e02_0000_u64, "valueTwo": 0x2_0000}]}]});
    assert_eq!(answer(&machine, json.clone(), 56, [0x2_0011, 0, 0, 0, 0, 0]), ALLOW);
    assert_eq!(answer(&machine, json.clone(), 56, [0x1002_0011, 0, 0, 0, 0, 0]), EPERM);
    assert_eq!(answer(&machine, json, 56, [0x11, 0, 0, 0, 0, 0]), EPERM);
}

#[test]
fn two_conditions_on_one_argument_are_two_rules() {
    let machine = machine_named("SCMP_ARCH_X86_64");
    let json = json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["close"], "action": "SCMP_ACT_ALLOW", "args": [
        {"index": 0, "op": "SCMP_CMP_EQ", "value": 4}, {"index": 0, "op": "SCMP_CMP_EQ", "value": 7},
        {"index": 1, "op": "SCMP_CMP_EQ", "value": 9}]}]});
    for args in [[4, 0, 0, 0, 0, 0], [7, 0, 0, 0, 0, 0], [0, 9, 0, 0, 0, 0]] {
        assert_eq!(answer(&machine, json.clone(), 3, args), ALLOW, "{args:?}");
    }
    assert_eq!(answer(&machine, json, 3, [0; 6]), EPERM);
}

#[test]
fn calls_newer_than_the_profile_get_enosys_unless_permitted() {
    let machine = machine_named("SCMP_ARCH_X86_64");
    let json = |default| json!({"defaultAction": default, "syscalls": [{"names": ["close", "openat2"], "action": "SCMP_ACT_LOG"}]});
    let number = |default, number| answer(&machine, json(default), number, [0; 6]);
    assert_eq!(number("SCMP_ACT_ERRNO", 436), EPERM);
    assert_eq!(number("SCMP_ACT_ERRNO", 438), ENOSYS);
    assert_eq!(number("SCMP_ACT_KILL", 5000), ENOSYS);
    assert_eq!(number("SCMP_ACT_ALLOW", 5000), ALLOW);
}

#[test]
fn architectures_that_are_not_listed_are_killed() {
    let x86_64 = machine_named("SCMP_ARCH_X86_64");
    let listed = json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"]});
    let program = instructions(&filter_on(&x86_64, listed));
    let at = |machine: &str, number| run(&program, &machine_named(machine).call(number, [0; 6])).answer;
    assert_eq!(at("SCMP_ARCH_X86_64", 3), ALLOW);
    assert_eq!(at("SCMP_ARCH_X86_64", u32::MAX), ALLOW, "a tracer skips a call with -1");
    assert_eq!(at("SCMP_ARCH_X86", 3), KILL);
    assert_eq!(at("SCMP_ARCH_X32", 0x4000_0003), KILL);
    let all = json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]});
    assert!(compile_for(&profile(all), x86_64.arch()).unwrap().is_none(), "there is nothing to be refused");
}

#[test]
fn multiplexed_calls_are_told_apart_by_the_first_argument() {
    let machine = machine_named("SCMP_ARCH_X86");
    let json = json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
        {"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "op": "SCMP_CMP_NE", "value": 40}]},
        {"names": ["shmat", "fsync", "openat2"], "action": "SCMP_ACT_ALLOW"}]});
    let at = |number, first| answer(&machine, json.clone(), number, [first, 0, 0, 0, 0, 0]);
    assert_eq!((at(102, 1), at(102, 2)), (ALLOW, EPERM), "socketcall: socket, bind");
    assert_eq!((at(359, 1), at(359, 40)), (ALLOW, EPERM), "socket itself sees its argument");
    assert_eq!((at(117, 21), at(117, 22)), (ALLOW, EPERM), "ipc: shmat, shmdt");
}

#[test]
fn an_unconditional_rule_beats_conditional_ones() {
    let machine = machine_named("SCMP_ARCH_X86_64");
    let rule =
        json!({"names": ["close"], "action": "SCMP_ACT_TRAP", "args": [{"index": 0, "op": "SCMP_CMP_EQ", "value": 1}]});
    let plain = json!({"names": ["close"], "action": "SCMP_ACT_LOG"});
    for syscalls in [json!([rule, plain]), json!([plain, rule])] {
        let json = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": syscalls});
        assert_eq!(answer(&machine, json, 3, [1, 0, 0, 0, 0, 0]), 0x7ffc_0000);
    }
}

#[test]
fn jumps_over_more_than_255_instructions_arrive() {
    let machine = machine_named("SCMP_ARCH_X86_64");
    let args: Vec<Value> = (0..700).map(|value| json!({"index": 0, "op": "SCMP_CMP_EQ", "value": value * 3})).collect();
    let json = json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
        {"names": ["close"], "action": "SCMP_ACT_ALLOW", "args": args}, {"names": ["read", "open"], "action": "SCMP_ACT_LOG"}]});
    let program = instructions(&filter_on(&machine, json));
    assert!(program.len() > 700);
    for value in 0..2200 {
        let expected = if value % 3 == 0 && value < 2100 { ALLOW } else { EPERM };
        assert_eq!(run(&program, &machine.call(3, [value, 0, 0, 0, 0, 0])).answer, expected, "{value}");
    }
    assert_eq!(run(&program, &machine.call(0, [0; 6])).answer, 0x7ffc_0000);
    assert_eq!(run(&program, &machine.call(1, [0; 6])).answer, EPERM);
}

#[test]
fn a_filter_that_the_kernel_would_not_take_is_an_error() {
    // 3000 rules need two instructions each where they are for different numbers; 5000 for one call are given up early.
    for count in [3000, 5000] {
        let args = |from: u64| -> Vec<Value> {
            (0..count).map(|value| json!({"index": 0, "op": "SCMP_CMP_EQ", "value": from + value})).collect()
        };
        let json = json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
            {"names": ["close"], "action": "SCMP_ACT_ALLOW", "args": args(0)},
            {"names": ["dup"], "action": "SCMP_ACT_ALLOW", "args": args(7)}]});
        assert!(error(json.clone()).contains("4096"), "{count}: {}", error(json));
    }
}

#[test]
fn errors_name_what_is_wrong_and_where() {
    let rule = |rule: Value| error(json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}));
    let cases = [
        (
            rule(json!({"names": ["close"], "action": "SCMP_ACT_LOG", "errnoRet": 1})),
            "linux.seccomp.syscalls[0].errnoRet: ",
        ),
        (
            rule(json!({"names": ["close"], "action": "SCMP_ACT_ERRNO", "errnoRet": 70000})),
            "linux.seccomp.syscalls[0].errnoRet 70000: ",
        ),
        (rule(json!({"names": ["close", ""], "action": "SCMP_ACT_LOG"})), "linux.seccomp.syscalls[0].names[1]: "),
        (
            rule(
                json!({"names": ["close"], "action": "SCMP_ACT_LOG", "args": [{"index": 6, "op": "SCMP_CMP_EQ", "value": 0}]}),
            ),
            "linux.seccomp.syscalls[0].args[0]: index 6: ",
        ),
        (rule(json!({"names": ["close"], "action": "SCMP_ACT_NOTIFY"})), "linux.seccomp.listenerPath: "),
        (
            rule(json!({"names": ["write"], "action": "SCMP_ACT_NOTIFY"})),
            "linux.seccomp.syscalls[0].names[0]: SCMP_ACT_NOTIFY cannot be used for the write ",
        ),
        (error(json!({"defaultAction": "SCMP_ACT_NOTIFY"})), "linux.seccomp.defaultAction SCMP_ACT_NOTIFY: "),
        (error(json!({"defaultAction": "SCMP_ACT_KILL", "defaultErrnoRet": 1})), "linux.seccomp.defaultErrnoRet: "),
        (error(json!({"defaultAction": "SCMP_ACT_KILL", "listenerMetadata": "m"})), "linux.seccomp.listenerMetadata: "),
        (
            error(json!({"defaultAction": "SCMP_ACT_KILL", "architectures": ["SCMP_ARCH_X86", "SCMP_ARCH_S390X"]})),
            "linux.seccomp.architectures[1] SCMP_ARCH_S390X: ",
        ),
        (
            error(json!({"defaultAction": "SCMP_ACT_KILL", "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]})),
            "linux.seccomp.flags[0] SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV: ",
        ),
    ];
    for (error, start) in cases {
        assert!(error.starts_with(start), "{error:?} does not begin with {start:?}");
    }
}

#[test]
fn rules_that_contradict_each_other_are_an_error() {
    let rule = |action: &str| json!({"names": ["close"], "action": action, "args": [{"index": 0, "op": "SCMP_CMP_EQ", "value": 1}]});
    let error =
        error(json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule("SCMP_ACT_LOG"), rule("SCMP_ACT_TRAP")]}));
    assert!(
        error.starts_with("linux.seccomp.syscalls[1].names[0]: has the conditions of linux.seccomp.syscalls[0]"),
        "{error}"
    );
}

#[test]
fn unknown_names_are_left_out_with_a_warning() {
    let json = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["close", "frobnicate"], "action": "SCMP_ACT_TRAP"}]});
    let filter = filter_on(&machine_named("SCMP_ARCH_X86_64"), json);
    let [warning] = &filter.warnings[..] else { panic!("{:?}", filter.warnings) };
    assert!(warning.starts_with("linux.seccomp.syscalls[0].names[1] \"frobnicate\": "), "{warning}");
}

#[test]
fn flags_are_the_kernels() {
    let flags = |flags: Value| {
        let mut json = json!({"defaultAction": "SCMP_ACT_ERRNO", "listenerPath": "/agent"});
        if !flags.is_null() {
            json["flags"] = flags;
        }
        filter_on(&machine_named("SCMP_ARCH_X86_64"), json).flags
    };
    assert_eq!(flags(Value::Null), 4, "SPEC_ALLOW where nothing is said");
    assert_eq!(flags(json!([])), 0);
    assert_eq!(flags(json!(["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_TSYNC"])), 2);
    let json = json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/agent", "listenerMetadata": "m",
        "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"], "syscalls": [{"names": ["close"], "action": "SCMP_ACT_NOTIFY"}]});
    let filter = filter_on(&machine_named("SCMP_ARCH_X86_64"), json);
    assert_eq!(filter.flags, 32 | 8);
    assert_eq!(filter.listener.unwrap().metadata.as_deref(), Some("m"));
}

/// Runs `then` in a thread of its own under a filter for this machine.
fn under(json: Value, then: impl FnOnce() + Send + 'static) {
    let filter = compile(&profile(json)).unwrap().unwrap();
    let thread = std::thread::spawn(move || {
        nix::sys::prctl::set_no_new_privs().unwrap();
        let listener = load(&filter.program, filter.flags).unwrap();
        assert_eq!(listener.is_some(), filter.listener.is_some());
        then();
    });
    thread.join().unwrap();
}

#[test]
fn the_kernel_takes_the_filters_and_answers_as_they_say() {
    let json = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::EXDEV},
        {"names": ["rmdir", "unlinkat"], "action": "SCMP_ACT_LOG"},
        {"names": ["personality"], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::ELOOP,
         "args": [{"index": 0, "op": "SCMP_CMP_EQ", "value": 0xffff_ffff_u64}]}]});
    under(json, || {
        let error = std::fs::create_dir("/nowhere/at/all").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EXDEV));
        assert_eq!(std::fs::remove_dir("/nowhere/at/all").unwrap_err().raw_os_error(), Some(libc::ENOENT));
        assert_eq!(nix::sys::stat::fstat(std::io::stdin()).map(drop), Ok(()));
    });
}

#[test]
fn the_kernel_runs_the_filters_of_engines() {
    for text in [include_str!("seccomp/docker.json"), include_str!("seccomp/containerd.json")] {
        under(serde_json::from_str(text).unwrap(), || {
            // Without the filter this would be EINVAL, because the process has several threads.
            let unshared = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER);
            assert_eq!(unshared, Err(Errno::EPERM));
        });
    }
    under(serde_json::from_str(include_str!("seccomp/podman.json")).unwrap(), || {
        let audit = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::empty(), SockProtocol::NetlinkAudit);
        assert_eq!(audit.map(drop), Err(Errno::EINVAL));
        let route = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::empty(), SockProtocol::NetlinkRoute);
        assert_eq!(route.map(drop), Ok(()));
    });
}

#[test]
fn a_filter_that_notifies_has_a_listener() {
    let json = json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/agent",
        "syscalls": [{"names": ["swapoff"], "action": "SCMP_ACT_NOTIFY"}]});
    under(json, || {});
}

#[test]
fn features_name_what_is_compiled() {
    let features = features();
    assert_eq!(features.archs.len(), MACHINES.len());
    assert!(MACHINES.iter().all(|machine| features.archs.contains(&machine.name)));
    assert!(features.supported_flags.contains(&"SECCOMP_FILTER_FLAG_SPEC_ALLOW"), "{features:?}");
    for operator in &features.operators {
        serde_json::from_value::<oci_spec::runtime::LinuxSeccompOperator>((*operator).into()).unwrap();
    }
    for flag in &features.known_flags {
        serde_json::from_value::<oci_spec::runtime::LinuxSeccompFilterFlag>((*flag).into()).unwrap();
    }
    let json = serde_json::to_value(&features).unwrap();
    assert_eq!(json["enabled"], true);
    assert!(json["knownFlags"].is_array());
    assert!(action_available(ALLOW));
    assert!(!action_available(0x1234_0000));
}

#[test]
fn architectures_that_are_no_machines_here_are_an_error() {
    let json = json!({"defaultAction": "SCMP_ACT_KILL", "architectures": ["SCMP_ARCH_PARISC"]});
    assert!(error(json).contains("SCMP_ARCH_PARISC"));
    assert!(compile_for(&profile(json!({"defaultAction": "SCMP_ACT_KILL"})), Arch::ScmpArchSh).is_err());
}
