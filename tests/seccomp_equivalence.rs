//! The filters are those of libseccomp: both compile the same profiles, and both programs give the same answers.
//!
//! libseccomp is asked through `tests/seccomp/libseccomp.py`, which does with a profile what runc does. Without python3 or
//! libseccomp the tests say so and are skipped; `LIBSECCOMP=FILE` names another version of the library.

#![allow(clippy::unwrap_used, clippy::panic)]

mod seccomp;

use orlop::seccomp::compile_for;
use seccomp::*;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// libseccomp in a process of its own.
struct Oracle {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
    version: String,
}

/// What libseccomp and runc make of a profile.
struct Reference {
    program: Vec<Instruction>,
    newest: BTreeMap<String, u32>,
    unknown: Vec<String>,
    deny_unknown: bool,
}

impl Oracle {
    fn start() -> Option<Oracle> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/seccomp/libseccomp.py");
        let child = Command::new("python3")
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let Ok(mut child) = child else {
            eprintln!("SKIP: no python3 to ask libseccomp with");
            return None;
        };
        let requests = child.stdin.take().unwrap();
        let mut answers = BufReader::new(child.stdout.take().unwrap());
        let mut version = String::new();
        answers.read_line(&mut version).unwrap();
        if version.is_empty() {
            let output = child.wait_with_output().unwrap();
            eprintln!("SKIP: no libseccomp to compare with: {}", String::from_utf8_lossy(&output.stderr).trim_end());
            return None;
        }
        Some(Oracle { child, requests, answers, version: version.trim().into() })
    }

    fn ask(&mut self, request: &Value) -> Value {
        writeln!(self.requests, "{request}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap()
    }

    /// The names of the system calls that libseccomp knows on these architectures.
    fn names(&mut self, archs: &[&str]) -> Vec<String> {
        serde_json::from_value(self.ask(&json!({"names": archs}))["names"].take()).unwrap()
    }

    /// The reference for a profile, or the errno with which libseccomp refuses it.
    fn compile(&mut self, native: &str, profile: &Value) -> Result<Reference, i64> {
        let mut answer = self.ask(&json!({"native": native, "profile": profile}));
        if let Some(errno) = answer["error"].as_i64() {
            return Err(errno);
        }
        let default = profile["defaultAction"].as_str().unwrap();
        Ok(Reference {
            program: serde_json::from_value(answer["program"].take()).unwrap(),
            newest: serde_json::from_value(answer["newest"].take()).unwrap(),
            unknown: serde_json::from_value(answer["unknown"].take()).unwrap(),
            deny_unknown: !["SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE"].contains(&default),
        })
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Reference {
    /// The answer of runc's filter: ENOSYS for numbers above those of the profile, else what libseccomp says.
    fn run(&self, machine: &Machine, call: &Call) -> Outcome {
        let outcome = run(&self.program, call);
        let x86_64 = machine.audit == 0xc000_003e;
        let name = match (x86_64, call.number & 0x4000_0000 != 0) {
            (true, true) => "SCMP_ARCH_X32",
            (true, false) => "SCMP_ARCH_X86_64",
            _ => machine.name,
        };
        let Some(&newest) = self.newest.get(name).filter(|_| self.deny_unknown) else { return outcome };
        let multiplexer = machine.name.starts_with("SCMP_ARCH_S390") && call.number == 0;
        let answer = if call.number > newest || multiplexer { 0x5_0026 } else { outcome.answer };
        Outcome { answer, ..outcome }
    }
}

/// What a comparison came to.
#[derive(Debug, Default)]
struct Totals {
    profiles: usize,
    refused: usize,
    calls: usize,
    ours: usize,
    theirs: usize,
}

/// Arguments that lie at and around the values that the profile compares with.
fn vectors(profile: &Value, random: &mut Random) -> Vec<[u64; 6]> {
    let args = profile["syscalls"].as_array().into_iter().flatten().flat_map(|call| call["args"].as_array().into_iter().flatten());
    let mut values = vec![0, 1, u64::MAX, 1 << 32, u64::from(u32::MAX)];
    for value in args.flat_map(|arg| [arg["value"].as_u64(), arg["valueTwo"].as_u64()]).flatten() {
        values.extend([value, value.wrapping_add(1), value.wrapping_sub(1), value ^ (1 << 32), !value, value & 0xffff_ffff]);
    }
    (0..50)
        .map(|_| {
            std::array::from_fn(|_| match random.below(4) {
                0 => random.next() & random.next(),
                1 => *random.one(&values) & random.next(),
                _ => *random.one(&values),
            })
        })
        .collect()
}

/// Compares both programs for a profile; returns the differences as sentences.
fn compare(oracle: &mut Oracle, native: &str, json: &Value, random: &mut Random, totals: &mut Totals) -> Vec<String> {
    let ours = compile_for(&profile(json.clone()), machine_named(native).arch());
    let reference = match (oracle.compile(native, json), ours.is_ok()) {
        (Ok(reference), _) => reference,
        (Err(errno), true) => return vec![format!("libseccomp refuses it with errno {errno}, orlop does not")],
        (Err(_), false) => {
            totals.refused += 1;
            return Vec::new();
        }
    };
    assert_eq!(reference.unknown, Vec::<String>::new(), "the profile is to name only what this libseccomp knows");
    let ours = match ours {
        // No filter at all is as good as one that allows everything.
        Ok(filter) => filter.map_or(vec![(0x06, 0, 0, 0x7fff_0000)], |filter| instructions(&filter)),
        Err(error) => return vec![format!("orlop refuses it: {error:#}")],
    };
    totals.profiles += 1;
    let vectors = vectors(json, random);
    let mut differences = Vec::new();
    let edges = [0x7fff_ffff, 0x8000_0000, 0xbfff_ffff, 0xc000_0000, 0xffff_fffe, 0xffff_ffff];
    for machine in machines(native) {
        let starts = [0, machine.base, 0xf_0000, 0x4000_0000];
        let numbers: BTreeSet<u32> = starts.iter().flat_map(|&start| start..start + 601).chain(edges).collect();
        for number in numbers {
            for args in &vectors {
                let call = machine.call(number, *args);
                let (a, b) = (run(&ours, &call), reference.run(&machine, &call));
                totals.calls += 1;
                if a.answer != b.answer {
                    differences.push(format!("{} {number:#x} {args:x?}: {:#x}, libseccomp {:#x}", machine.name, a.answer, b.answer));
                    break;
                }
                if !a.saw_arguments && !b.saw_arguments {
                    totals.ours += a.steps;
                    totals.theirs += b.steps;
                    break;
                }
            }
        }
    }
    differences
}

/// The architectures that a kernel could report on this machine, and one that it could not.
fn machines(native: &str) -> Vec<Machine> {
    let also: &[&str] = match native {
        "SCMP_ARCH_X86_64" => &["SCMP_ARCH_X86", "SCMP_ARCH_AARCH64"],
        "SCMP_ARCH_AARCH64" => &["SCMP_ARCH_ARM"],
        "SCMP_ARCH_S390X" => &["SCMP_ARCH_S390"],
        "SCMP_ARCH_PPC64" => &["SCMP_ARCH_PPC"],
        "SCMP_ARCH_MIPS64" => &["SCMP_ARCH_MIPS", "SCMP_ARCH_MIPS64N32"],
        "SCMP_ARCH_MIPSEL64" => &["SCMP_ARCH_MIPSEL", "SCMP_ARCH_MIPSEL64N32"],
        _ => &[],
    };
    [&[native], also].concat().into_iter().map(machine_named).collect()
}

/// Leaves out the names that this version of libseccomp does not know; says how many.
fn known_to(names: &BTreeSet<String>, profile: &mut Value) -> usize {
    let mut left_out = 0;
    for call in profile["syscalls"].as_array_mut().into_iter().flatten() {
        let list = call["names"].as_array_mut().unwrap();
        let before = list.len();
        list.retain(|name| names.contains(name.as_str().unwrap()));
        left_out += before - list.len();
    }
    left_out
}

/// The profiles of container engines, as they write them into config.json.
const ENGINES: [(&str, &str); 3] = [
    ("docker", include_str!("seccomp/docker.json")),
    ("containerd", include_str!("seccomp/containerd.json")),
    ("podman", include_str!("seccomp/podman.json")),
];

/// Each machine with the architectures that engines list on it.
const FAMILIES: [&[&str]; 9] = [
    &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
    &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
    &["SCMP_ARCH_RISCV64"],
    &["SCMP_ARCH_S390X", "SCMP_ARCH_S390"],
    &["SCMP_ARCH_PPC64LE"],
    &["SCMP_ARCH_PPC64", "SCMP_ARCH_PPC"],
    &["SCMP_ARCH_MIPS64", "SCMP_ARCH_MIPS", "SCMP_ARCH_MIPS64N32"],
    &["SCMP_ARCH_MIPSEL64", "SCMP_ARCH_MIPSEL", "SCMP_ARCH_MIPSEL64N32"],
    &["SCMP_ARCH_ARM"],
];

#[test]
fn profiles_of_engines_are_compiled_as_libseccomp_does() {
    let Some(mut oracle) = Oracle::start() else { return };
    let mut random = Random(1);
    let every: Vec<&str> = MACHINES.iter().map(|machine| machine.name).filter(|name| *name != "SCMP_ARCH_LOONGARCH64").collect();
    let known = oracle.names(&every).into_iter().collect();
    for (engine, text) in ENGINES {
        for family in FAMILIES {
            let mut json: Value = serde_json::from_str(text).unwrap();
            json["architectures"] = json!(family);
            let left_out = known_to(&known, &mut json);
            let mut totals = Totals::default();
            let differences = compare(&mut oracle, family[0], &json, &mut random, &mut totals);
            assert!(differences.is_empty(), "{engine} on {}: {:#?}", family[0], &differences[..differences.len().min(20)]);
            eprintln!("{engine} on {} as libseccomp {} ({left_out} names unknown to it left out): {totals:?}", family[0], oracle.version);
        }
    }
}

/// A rule with conditions, values of which meet often.
fn random_args(random: &mut Random) -> Value {
    let operators = ["NE", "LT", "LE", "EQ", "EQ", "GE", "GT", "MASKED_EQ"];
    let values = [0, 1, 2, 5, 40, 0xffff_ffff, 0x1_0000_0000, 0x1_0000_0005, 0x7e02_0000, u64::MAX];
    let args: Vec<Value> = (0..1 + random.below(3))
        .map(|_| {
            let op = format!("SCMP_CMP_{}", random.one(&operators));
            let index = if random.below(3) > 0 { random.below(2) } else { random.below(6) };
            json!({"index": index, "op": op, "value": random.one(&values), "valueTwo": random.one(&values)})
        })
        .collect();
    json!(args)
}

/// A profile with rules for calls with those names; `mixed` gives the conditional rules of one call different actions.
fn random_profile(random: &mut Random, names: &[String], archs: &[&str], mixed: bool) -> Value {
    let actions = ["ALLOW", "ERRNO", "KILL", "KILL_PROCESS", "TRAP", "TRACE", "LOG", "ERRNO"];
    let default = format!("SCMP_ACT_{}", random.one(&actions));
    let mut syscalls = Vec::new();
    for _ in 0..1 + random.below(60) {
        let action = format!("SCMP_ACT_{}", random.one(&actions));
        let mut call = json!({"names": [], "action": action});
        if action.ends_with("ERRNO") || action.ends_with("TRACE") {
            call["errnoRet"] = json!(random.one(&[1, 2, 38, 4094]));
        }
        let count = if random.below(4) == 0 { random.below(100) } else { 1 + random.below(4) };
        call["names"] = (0..count).map(|_| random.one(names).clone()).collect();
        syscalls.push(call.clone());
        for _ in 0..random.below(4) {
            if mixed {
                call["action"] = format!("SCMP_ACT_{}", random.one(&["ALLOW", "KILL", "TRAP", "LOG"])).into();
                call.as_object_mut().unwrap().remove("errnoRet");
            }
            call["args"] = random_args(random);
            call["names"] = json!([random.one(names)]);
            for _ in 0..random.below(3) {
                syscalls.push(call.clone());
                call["args"] = random_args(random);
            }
        }
    }
    let mut archs = archs.to_vec();
    archs.retain(|_| random.below(4) > 0);
    json!({"defaultAction": default, "architectures": archs, "syscalls": syscalls})
}

fn compare_random(seed: u64, count: usize, mixed: bool) -> Option<(Totals, Vec<String>)> {
    let mut oracle = Oracle::start()?;
    let mut random = Random(seed);
    let mut totals = Totals::default();
    let mut differences = Vec::new();
    for round in 0..count {
        let family = if round % 2 == 0 { FAMILIES[0] } else { FAMILIES[round / 2 % FAMILIES.len()] };
        let mut names = oracle.names(family);
        // ARM's headers have this name for arm_sync_file_range too, of which libseccomp does not know.
        names.retain(|name| name != "sync_file_range2");
        let json = random_profile(&mut random, &names, family, mixed);
        for difference in compare(&mut oracle, family[0], &json, &mut random, &mut totals) {
            differences.push(format!("profile {round} {}: {difference}\n{json}", family[0]));
        }
    }
    eprintln!("libseccomp {}: {totals:?}, {} differences", oracle.version, differences.len());
    Some((totals, differences))
}

#[test]
fn random_profiles_are_compiled_as_libseccomp_does() {
    let Some((totals, differences)) = compare_random(2, 200, false) else { return };
    assert!(differences.is_empty(), "{}", differences[0]);
    assert!(totals.profiles > 150, "too few were compared: {totals:?}");
}

#[test]
fn rules_with_different_actions_for_one_call_are_ordered_as_libseccomp_does() {
    let Some((totals, differences)) = compare_random(3, 200, true) else { return };
    assert!(differences.is_empty(), "{}", differences[0]);
    assert!(totals.profiles > 100, "too few were compared: {totals:?}");
}
