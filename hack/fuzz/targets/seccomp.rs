//! The seccomp compiler: its programs, run by an interpreter, answer what the rules of the profile say.
//!
//! An input that begins with `{` is a profile as it is, compiled for every architecture; any other is a row of choices that
//! make a profile for x86_64, x86 and x32 and the calls that are put to it.

#![no_main]

#[path = "../../../tests/seccomp/mod.rs"]
mod interpreter;

use interpreter::{MACHINES, instructions, machine_named, run};
use libfuzzer_sys::fuzz_target;
use oci_spec::runtime::LinuxSeccomp;
use orlop::seccomp::compile_for;
use orlop_fuzz::Choices;
use serde_json::{Value, json};

/// System calls with their numbers on x86_64, x86 and x32.
const CALLS: [(&str, [u32; 3]); 9] = [
    ("read", [0, 3, 0x4000_0000]),
    ("write", [1, 4, 0x4000_0001]),
    ("open", [2, 5, 0x4000_0002]),
    ("close", [3, 6, 0x4000_0003]),
    ("dup", [32, 41, 0x4000_0020]),
    ("clone", [56, 120, 0x4000_0038]),
    ("keyctl", [250, 288, 0x4000_00fa]),
    ("clone3", [435, 435, 0x4000_01b3]),
    ("openat2", [437, 437, 0x4000_01b5]),
];
const ARCHS: [&str; 3] = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"];
const ACTIONS: [(&str, u32); 6] = [
    ("ALLOW", 0x7fff_0000),
    ("ERRNO", 0x5_0001),
    ("KILL_PROCESS", 0x8000_0000),
    ("TRAP", 0x3_0000),
    ("LOG", 0x7ffc_0000),
    ("TRACE", 0x7ff0_0001),
];
const OPERATORS: [&str; 7] = ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"];
const VALUES: [u64; 10] = [0, 1, 2, 5, 40, 0xffff_ffff, 0x1_0000_0000, 0x1_0000_0005, 0x7e02_0000, u64::MAX];
const ENOSYS: u32 = 0x5_0026;
const KILL_THREAD: u32 = 0;

type Condition = (usize, usize, u64, u64);

struct Rule {
    call: usize,
    action: usize,
    /// Those of one rule; two on one argument are rules of their own.
    conditions: Vec<Condition>,
}

fn rules(choices: &mut Choices) -> Vec<Rule> {
    let count = 1 + choices.below(8);
    let rule = |_| {
        let (call, action) = (choices.below(CALLS.len()), choices.below(ACTIONS.len()));
        let conditions = (0..choices.below(4)).map(|_| {
            let index = choices.below(6);
            (index, choices.below(OPERATORS.len()), *choices.one(&VALUES), *choices.one(&VALUES))
        });
        Rule { call, action, conditions: conditions.collect() }
    };
    (0..count).map(rule).collect()
}

fn written(default: usize, archs: usize, rules: &[Rule]) -> Value {
    let condition = |&(index, operator, value, two): &Condition| json!({"index": index, "op": format!("SCMP_CMP_{}", OPERATORS[operator]), "value": value, "valueTwo": two});
    let rule = |rule: &Rule| {
        json!({"names": [CALLS[rule.call].0], "action": format!("SCMP_ACT_{}", ACTIONS[rule.action].0),
            "args": rule.conditions.iter().map(condition).collect::<Value>()})
    };
    json!({"defaultAction": format!("SCMP_ACT_{}", ACTIONS[default].0), "architectures": &ARCHS[..=archs],
        "syscalls": rules.iter().map(rule).collect::<Value>()})
}

/// Whether a condition can fail, and whether it holds.
fn judge(&(index, operator, value, two): &Condition, args: &[u64; 6], wide: bool) -> (bool, bool) {
    let narrow = |number: u64| if wide { number } else { u64::from(number as u32) };
    let (arg, value, two) = (narrow(args[index]), narrow(value), narrow(two));
    let holds = match OPERATORS[operator] {
        "NE" => arg != value,
        "LT" => arg < value,
        "LE" => arg <= value,
        "EQ" => arg == value,
        "GE" => arg >= value,
        "GT" => arg > value,
        _ => arg & value == two & value,
    };
    (OPERATORS[operator] != "MASKED_EQ" || value != 0, holds)
}

/// The answers that the rules allow for a call on the architecture of that number.
fn meaning(default: usize, rules: &[Rule], arch: usize, number: u32, args: &[u64; 6]) -> Vec<u32> {
    let numbers = |rule: &Rule| CALLS[rule.call].1[arch];
    let default_word = ACTIONS[default].1;
    let denies = !["ALLOW", "LOG", "TRACE"].contains(&ACTIONS[default].0);
    if denies && rules.iter().map(numbers).max().is_some_and(|newest| newest > 0 && number > newest) {
        return vec![ENOSYS];
    }
    let mut answers = Vec::new();
    for rule in rules.iter().filter(|rule| numbers(rule) == number && ACTIONS[rule.action].1 != default_word) {
        let repeated = rule.conditions.iter().any(|a| rule.conditions.iter().filter(|b| a.0 == b.0).count() > 1);
        let alternatives: Vec<&[Condition]> =
            if repeated { rule.conditions.chunks(1).collect() } else { vec![&rule.conditions] };
        for alternative in alternatives {
            let judged: Vec<_> = alternative.iter().map(|condition| judge(condition, args, arch == 0)).collect();
            if !judged.iter().any(|(decides, _)| *decides) {
                // The first rule without conditions decides, whatever the others say.
                return vec![ACTIONS[rule.action].1];
            }
            if judged.iter().all(|(decides, holds)| !decides || *holds) {
                answers.push(ACTIONS[rule.action].1);
            }
        }
    }
    if answers.is_empty() { vec![default_word] } else { answers }
}

fn compare(bytes: &[u8]) {
    let mut choices = Choices(bytes);
    let (default, archs) = (choices.below(ACTIONS.len()), choices.below(ARCHS.len()));
    let rules = rules(&mut choices);
    let json = written(default, archs, &rules);
    let Ok(Some(filter)) = compile_for(&interpreter::profile(json.clone()), machine_named(ARCHS[0]).arch()) else {
        return;
    };
    let program = instructions(&filter);
    for _ in 0..24 {
        let arch = choices.below(ARCHS.len());
        let number = CALLS[choices.below(CALLS.len())].1[arch] + u32::from(choices.byte() == 7);
        let args = [(); 6].map(|()| match choices.byte() {
            byte if usize::from(byte) < VALUES.len() => VALUES[usize::from(byte)],
            byte => VALUES[usize::from(byte) % VALUES.len()].wrapping_add(u64::from(byte % 3)).wrapping_sub(1),
        });
        let answer = run(&program, &machine_named(ARCHS[arch]).call(number, args)).answer;
        let wanted = match arch {
            1 if archs < 1 => vec![KILL_THREAD],
            // Without x32 in the profile its calls are as libseccomp leaves them; compared with libseccomp elsewhere.
            2 if archs < 2 => continue,
            _ => meaning(default, &rules, arch, number, &args),
        };
        assert!(
            wanted.contains(&answer),
            "{number:#x} {args:x?} on {}: {answer:#x}, not {wanted:x?}: {json}",
            ARCHS[arch]
        );
    }
}

/// Every architecture's program of a profile as it is written comes to an answer for any call.
fn compile_everywhere(text: &[u8]) {
    let Ok(profile) = serde_json::from_slice::<LinuxSeccomp>(text) else { return };
    for machine in MACHINES {
        let Ok(Some(filter)) = compile_for(&profile, machine.arch()) else { continue };
        let program = instructions(&filter);
        for number in [0, 1, 56, 102, 117, 435, 1000, u32::MAX].map(|number| machine.base.wrapping_add(number)) {
            for value in [0, 5, u64::MAX] {
                run(&program, &machine.call(number, [value; 6]));
            }
        }
    }
}

fuzz_target!(|bytes: &[u8]| { if bytes.first() == Some(&b'{') { compile_everywhere(bytes) } else { compare(bytes) } });
