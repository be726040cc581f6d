//! libseccomp as the reference, and what a profile means without it.

use super::{Call, Instruction, Machine, Outcome, run};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// libseccomp in a process of its own.
pub struct Oracle {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// libseccomp's version.
    pub version: String,
}

/// What libseccomp and runc make of a profile.
pub struct Reference {
    /// libseccomp's program; the errno with which it refuses the profile, or why it did not come to an end.
    pub program: Result<Vec<Instruction>, Value>,
    newest: BTreeMap<String, u32>,
    /// Names that libseccomp does not know.
    pub unknown: Vec<String>,
    deny_unknown: bool,
    default: u32,
    model: BTreeMap<String, Vec<Rule>>,
}

/// A rule as it reads: number, action, and conditions that must all hold.
pub type Rule = (u32, u32, Vec<(usize, String, u64, u64)>);

/// What the rules of a profile say of a call, whatever libseccomp makes of them.
#[derive(Debug, PartialEq, Eq)]
pub enum Meaning {
    Sure(u32),
    /// Rules with different actions match: it is a matter of their order.
    Either(BTreeSet<u32>),
}

impl Oracle {
    /// Starts it, or says why it cannot be.
    pub fn start() -> Option<Oracle> {
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
    pub fn names(&mut self, archs: &[&str]) -> Vec<String> {
        serde_json::from_value(self.ask(&json!({"names": archs}))["names"].take()).unwrap()
    }

    /// How long libseccomp takes for a profile, in seconds.
    pub fn seconds(&mut self, native: &str, profile: &Value) -> f64 {
        self.ask(&json!({"native": native, "seconds": profile}))["seconds"].as_f64().unwrap()
    }

    /// What libseccomp and runc make of a profile.
    pub fn compile(&mut self, native: &str, profile: &Value) -> Reference {
        let mut answer = self.ask(&json!({"native": native, "profile": profile}));
        let default = profile["defaultAction"].as_str().unwrap();
        let program = match answer["error"].take() {
            Value::Null => Ok(serde_json::from_value(answer["program"].take()).unwrap()),
            error => Err(error),
        };
        Reference {
            program,
            newest: serde_json::from_value(answer["newest"].take()).unwrap(),
            unknown: serde_json::from_value(answer["unknown"].take()).unwrap(),
            default: answer["default"].as_u64().unwrap() as u32,
            model: serde_json::from_value(answer["model"].take()).unwrap(),
            deny_unknown: !["SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE"].contains(&default),
        }
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether a condition holds, in the width of the machine's registers.
fn holds((index, op, value, value_two): &(usize, String, u64, u64), args: &[u64; 6], bits: u32) -> bool {
    let narrow = |number: u64| if bits == 32 { u64::from(number as u32) } else { number };
    let (arg, value, value_two) = (narrow(args[*index]), narrow(*value), narrow(*value_two));
    match op.as_str() {
        "SCMP_CMP_NE" => arg != value,
        "SCMP_CMP_LT" => arg < value,
        "SCMP_CMP_LE" => arg <= value,
        "SCMP_CMP_EQ" => arg == value,
        "SCMP_CMP_GE" => arg >= value,
        "SCMP_CMP_GT" => arg > value,
        "SCMP_CMP_MASKED_EQ" => arg & value == value_two & value,
        _ => panic!("{op}"),
    }
}

impl Reference {
    /// The answer of libseccomp's program, behind runc's ENOSYS.
    pub fn run(&self, machine: &Machine, call: &Call) -> Option<Outcome> {
        let outcome = run(self.program.as_ref().ok()?, call);
        Some(if self.is_newer(machine, call) { Outcome { answer: 0x5_0026, ..outcome } } else { outcome })
    }

    /// Whether runc's filter answers ENOSYS: to numbers above those of the profile.
    fn is_newer(&self, machine: &Machine, call: &Call) -> bool {
        let Some(&newest) = self.newest.get(abi(machine, call)).filter(|_| self.deny_unknown) else { return false };
        let multiplexer = machine.name.starts_with("SCMP_ARCH_S390") && call.number == 0;
        call.number > newest || multiplexer
    }

    /// What the rules say of a call.
    pub fn meaning(&self, machine: &Machine, call: &Call) -> Meaning {
        if self.is_newer(machine, call) {
            return Meaning::Sure(0x5_0026);
        }
        let name = abi(machine, call);
        let x32 = name == "SCMP_ARCH_X32";
        let without_x32 = machine.audit == 0xc000_003e && !self.model.contains_key("SCMP_ARCH_X32");
        if without_x32 && call.number >= 0x4000_0000 {
            return Meaning::Sure(if call.number == u32::MAX { self.default } else { 0 });
        }
        let Some(rules) = self.model.get(name) else { return Meaning::Sure(0) };
        let bits = if x32 { 32 } else { machine.bits };
        let rules: Vec<&Rule> = rules.iter().filter(|rule| rule.0 == call.number).collect();
        // A condition on no bit is none.
        let decides = |(_, op, value, _): &&(usize, String, u64, u64)| {
            op != "SCMP_CMP_MASKED_EQ" || if bits == 32 { *value as u32 != 0 } else { *value != 0 }
        };
        if let Some(rule) = rules.iter().find(|rule| !rule.2.iter().any(|condition| decides(&condition))) {
            return Meaning::Sure(rule.1);
        }
        let matching = rules.iter().filter(|rule| rule.2.iter().all(|condition| holds(condition, &call.args, bits)));
        let actions: BTreeSet<u32> = matching.map(|rule| rule.1).collect();
        match actions.len() {
            0 => Meaning::Sure(self.default),
            1 => Meaning::Sure(*actions.first().unwrap()),
            _ => Meaning::Either(actions),
        }
    }
}

/// The ABI of a call on the machine.
fn abi(machine: &Machine, call: &Call) -> &'static str {
    if machine.audit == 0xc000_003e && call.number & 0x4000_0000 != 0 { "SCMP_ARCH_X32" } else { machine.name }
}
