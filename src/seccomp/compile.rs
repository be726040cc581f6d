//! Joins the rules of a profile into one program.
//!
//! The program asks first for the architecture, then searches for the call's number among ranges of equal answer, then tries
//! the conditional rules of that call. The conditions of each rule are compiled by seccompiler, whose blocks [`super::graph`]
//! joins. seccompiler's own filters have one architecture and two actions each and try one number after the other, and the
//! rules of one call may have different actions, so its unit here is the rule.

use super::arch::{self, Abi, Endian, Width, X32_BIT};
use super::emit::{LIMIT, emit};
use super::filter::Profile;
use super::graph::{ARCHITECTURE, Comparison, Graph, Id, NUMBER, Test};
use super::order::{Condition, Operator, Order};
use anyhow::{Context, Result, bail};
use oci_spec::runtime::Arch;
use seccompiler::{BpfProgram, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};

/// The answer to architectures that the profile does not list, as libseccomp gives it.
const FOREIGN: u32 = libc::SECCOMP_RET_KILL_THREAD;
const NO_SUCH_CALL: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

/// The program for a profile, or none if it would allow everything that can happen.
pub(super) fn compile(profile: &mut Profile) -> Result<Option<Vec<libc::sock_filter>>> {
    let mut graph = Graph::default();
    let mut sections: Vec<(u32, Vec<&'static Abi>)> = Vec::new();
    for &abi in &profile.abis {
        match sections.iter_mut().find(|section| section.0 == abi.audit) {
            Some(section) => section.1.push(abi),
            None => sections.push((abi.audit, vec![abi])),
        }
    }
    let allow = graph.answer(libc::SECCOMP_RET_ALLOW);
    let mut allows_all =
        arch::runnable(profile.abis[0].name).iter().all(|&name| profile.abis.iter().any(|abi| abi.name == name));
    let mut root = graph.answer(FOREIGN);
    // The native architecture comes first, and is asked for first.
    for (audit, abis) in sections.into_iter().rev() {
        let section = section(profile, &abis, &mut graph)?;
        allows_all &= section == allow;
        root = graph.decide(Test::new(ARCHITECTURE, Comparison::Equal, audit), section, root);
    }
    if allows_all {
        return Ok(None);
    }
    let program = emit(&graph, root);
    if program.len() > LIMIT {
        bail!(
            "linux.seccomp: the filter needs {} instructions, and the kernel takes no more than {LIMIT}",
            program.len()
        );
    }
    Ok(Some(program))
}

/// A rule for one number on one ABI, not yet in order with others for the same number.
struct Entry {
    number: u32,
    rule: usize,
    name: usize,
    conditions: Vec<Condition>,
    multiplexed: bool,
}

/// The decisions for one audit architecture.
fn section(profile: &mut Profile, abis: &[&'static Abi], graph: &mut Graph) -> Result<Id> {
    let mut answers = Vec::with_capacity(1024);
    let mut newest = Vec::new();
    for abi in abis {
        newest.push((abi.name, newest_call(profile, abi)));
        let entries = entries(profile, abi);
        calls(profile, abi, entries, graph, &mut answers)?;
    }
    answers.sort_unstable();
    let ranges = Ranges { profile, abis, newest, answers }.list(graph);
    Ok(search(&ranges, graph))
}

/// The largest number that the profile names on the ABI, as runc finds it: whatever the rule, but by direct calls only.
fn newest_call(profile: &Profile, abi: &Abi) -> Option<u32> {
    let calls = profile.rules.iter().flat_map(|rule| &rule.calls).map(|(_, call)| call.on(abi));
    let newest = calls.filter(|call| call.multiplexed.is_none()).filter_map(|call| call.direct).max();
    newest.filter(|&number| number > 0)
}

/// All rules by the ABI's numbers, except those that answer what the filter answers anyway.
fn entries(profile: &Profile, abi: &Abi) -> Vec<Entry> {
    let mut entries = Vec::with_capacity(512);
    for (index, rule) in profile.rules.iter().enumerate() {
        if rule.action == profile.default {
            continue;
        }
        for &(name, call) in &rule.calls {
            let entrances = call.on(abi);
            for conditions in &rule.alternatives {
                if let Some((number, argument)) = entrances.multiplexed {
                    let conditions = behind_multiplexer(conditions, argument, abi.width);
                    entries.push(Entry { number, rule: index, name, conditions, multiplexed: true });
                }
                if let Some(number) = entrances.direct {
                    let conditions =
                        conditions.iter().filter(|condition| decides(condition, abi.width)).copied().collect();
                    entries.push(Entry { number, rule: index, name, conditions, multiplexed: false });
                }
            }
        }
    }
    entries.sort_by_key(|entry| entry.number);
    entries
}

/// The conditions of a rule for a call that is made through a multiplexer. Its first argument chooses the call, in place of
/// the rule's condition on it; the call's own arguments are in memory, where no filter can look. So `socket` with a condition
/// on the family is permitted or denied for all families there, as libseccomp does it.
fn behind_multiplexer(conditions: &[Condition], argument: u32, width: Width) -> Vec<Condition> {
    let choice = Condition { argument: 0, operator: Operator::Equal, value: argument.into() };
    let others = conditions.iter().filter(|condition| condition.argument != 0 && decides(condition, width));
    std::iter::once(choice).chain(others.copied()).collect()
}

/// Whether the condition can fail: not where its mask has no bit in the register.
fn decides(condition: &Condition, width: Width) -> bool {
    match (condition.operator, width) {
        (Operator::Masked(mask), Width::Bits64) => mask != 0,
        (Operator::Masked(mask), Width::Bits32) => mask as u32 != 0,
        _ => true,
    }
}

/// Adds the answer to each number that has rules.
fn calls(
    profile: &mut Profile,
    abi: &Abi,
    entries: Vec<Entry>,
    graph: &mut Graph,
    answers: &mut Vec<(u32, Id)>,
) -> Result<()> {
    for rules in entries.chunk_by(|a, b| a.number == b.number) {
        let id = match rules.iter().find(|entry| entry.conditions.is_empty()) {
            // An unconditional rule beats all others.
            Some(entry) => graph.answer(profile.rules[entry.rule].action),
            None => conditional(profile, abi, rules, graph)?,
        };
        answers.push((rules[0].number, id));
    }
    Ok(())
}

/// The decisions for a call that has conditional rules only.
fn conditional(profile: &mut Profile, abi: &Abi, entries: &[Entry], graph: &mut Graph) -> Result<Id> {
    let mut order = Order::default();
    let mut different = 0;
    let mut actions: Vec<u32> = entries.iter().map(|entry| profile.rules[entry.rule].action).collect();
    for (index, entry) in entries.iter().enumerate() {
        let Some(equal) = order.insert(index, &entry.conditions, abi.width) else {
            different += 1;
            if different > LIMIT {
                bail!(
                    "linux.seccomp: a system call has more rules than the {LIMIT} instructions that the kernel takes"
                );
            }
            continue;
        };
        if actions[equal] == actions[index] {
            continue;
        }
        let rule = |entry: &Entry| format!("linux.seccomp.syscalls[{}]", profile.rules[entry.rule].index);
        let (first, second) = (rule(&entries[equal]), rule(entry));
        let which = format!(
            "{second}.names[{}]: has the conditions of {first} on {}, but another action",
            entry.name, abi.name
        );
        if !(entry.multiplexed && entries[equal].multiplexed) {
            bail!(which);
        }
        // The conditions that told them apart are on arguments that cannot be seen here; the stricter one is on the safe side.
        actions[equal] = stricter(actions[equal], actions[index]);
        profile.warnings.push(format!("{which}; the stricter one is taken there"));
    }
    let rules = order.rules();
    let mut next = graph.answer(profile.default);
    for rule in rules.into_iter().rev() {
        let matched = graph.answer(actions[rule]);
        let block = block(&entries[rule].conditions, abi.width)?;
        next = graph.read(&block, abi.endian == Endian::Big, matched, next)?;
    }
    Ok(next)
}

/// The stricter of two answers, in the order that the kernel uses when several filters answer: as signed numbers, the smaller.
fn stricter(a: u32, b: u32) -> u32 {
    let rank = |answer: u32| (answer & libc::SECCOMP_RET_ACTION_FULL) as i32;
    if rank(b) < rank(a) { b } else { a }
}

/// seccompiler's code for the conditions of one rule.
fn block(conditions: &[Condition], width: Width) -> Result<BpfProgram> {
    // seccompiler puts the conditions into its code from the last to the first.
    let conditions: Result<Vec<_>, _> =
        conditions.iter().rev().map(|condition| condition_of(condition, width)).collect();
    let rule = conditions.and_then(SeccompRule::new).context("linux.seccomp")?;
    Ok(rule.into())
}

fn condition_of(condition: &Condition, width: Width) -> Result<SeccompCondition, seccompiler::BackendError> {
    let operator = match condition.operator {
        Operator::NotEqual => SeccompCmpOp::Ne,
        Operator::Less => SeccompCmpOp::Lt,
        Operator::LessOrEqual => SeccompCmpOp::Le,
        Operator::Equal => SeccompCmpOp::Eq,
        Operator::GreaterOrEqual => SeccompCmpOp::Ge,
        Operator::Greater => SeccompCmpOp::Gt,
        Operator::Masked(mask) => SeccompCmpOp::MaskedEq(mask),
    };
    let length = match width {
        Width::Bits32 => SeccompCmpArgLen::Dword,
        Width::Bits64 => SeccompCmpArgLen::Qword,
    };
    SeccompCondition::new(condition.argument, length, operator, condition.value)
}

/// What is known of the numbers of one audit architecture.
struct Ranges<'a> {
    profile: &'a Profile,
    abis: &'a [&'static Abi],
    newest: Vec<(Arch, Option<u32>)>,
    /// In order of their numbers.
    answers: Vec<(u32, Id)>,
}

impl Ranges<'_> {
    /// The first number of each range with its answer, from 0 on; neighbours differ.
    fn list(&self, graph: &mut Graph) -> Vec<(u32, Id)> {
        let mut starts = vec![0, 1, X32_BIT, 2 * X32_BIT, 3 * X32_BIT, u32::MAX];
        starts.extend(self.newest.iter().filter_map(|(_, number)| number.map(|number| number.saturating_add(1))));
        for (number, _) in &self.answers {
            starts.extend([*number, number.saturating_add(1)]);
        }
        starts.sort_unstable();
        starts.dedup();
        let default = graph.answer(self.profile.default);
        let no_such_call = graph.answer(NO_SUCH_CALL);
        let foreign = graph.answer(FOREIGN);
        let mut answers = self.answers.iter().peekable();
        let mut ranges: Vec<(u32, Id)> = Vec::with_capacity(starts.len());
        for start in starts {
            while answers.next_if(|answer| answer.0 < start).is_some() {}
            let answer = if self.is_unknown(start) {
                no_such_call
            } else if self.is_foreign(start) {
                foreign
            } else {
                answers.peek().filter(|answer| answer.0 == start).map_or(default, |answer| answer.1)
            };
            if ranges.last().is_none_or(|last| last.1 != answer) {
                ranges.push((start, answer));
            }
        }
        ranges
    }

    fn has(&self, name: Arch) -> bool {
        self.abis.iter().any(|abi| abi.name == name)
    }

    /// Whether the number is of an ABI that shares the audit architecture, but is not listed. The number -1 is of none: a
    /// tracer sets it to skip a call.
    fn is_foreign(&self, number: u32) -> bool {
        let x32 = number >= X32_BIT;
        (self.has(Arch::ScmpArchX86_64) && !self.has(Arch::ScmpArchX32) && x32 && number != u32::MAX)
            || (self.has(Arch::ScmpArchX32) && !self.has(Arch::ScmpArchX86_64) && !x32)
    }

    /// Whether the number is larger than any that the profile names: what asks for a call that is newer than the profile is
    /// to hear ENOSYS and fall back, not to take EPERM or a signal for a failure.
    fn is_unknown(&self, number: u32) -> bool {
        if !self.profile.deny_unknown {
            return false;
        }
        let shared = self.has(Arch::ScmpArchX86_64) || self.has(Arch::ScmpArchX32);
        self.newest.iter().any(|&(name, newest)| {
            let Some(newest) = newest else { return false };
            match name {
                // s390 makes calls whose number is too large for its instruction as number 0 with the number in a register;
                // the kernel leaves 0 there when it does not know the call.
                Arch::ScmpArchS390 | Arch::ScmpArchS390x if number == 0 => true,
                _ if shared && (number & X32_BIT != 0) != (name == Arch::ScmpArchX32) => false,
                _ => number > newest,
            }
        })
    }
}

/// A search for the range that the number is in, balanced by weight: a range of many calls is found sooner than a narrow one.
fn search(ranges: &[(u32, Id)], graph: &mut Graph) -> Id {
    let at_least = |number| Test::new(NUMBER, Comparison::GreaterOrEqual, number);
    match *ranges {
        [] => graph.answer(FOREIGN),
        [(_, answer)] => answer,
        // One number between others that all have the same answer.
        [(_, below), (number, answer), (next, above)] if below == above && next == number + 1 => {
            graph.decide(Test::new(NUMBER, Comparison::Equal, number), answer, below)
        }
        _ => {
            // x32 calls are told apart first, so that they do not cost those of x86_64 a step.
            let x32 = ranges.partition_point(|range| range.0 < X32_BIT);
            let middle = if x32 > 0 && x32 < ranges.len() { x32 } else { middle(ranges) };
            let (low, high) = ranges.split_at(middle);
            let (above, below) = (search(high, graph), search(low, graph));
            graph.decide(at_least(high[0].0), above, below)
        }
    }
}

/// Where to divide two or more ranges so that both halves weigh about the same. Each range has the same part of its weight
/// from being there, which keeps the search for a single number short, and the other part from the calls in it, of which the
/// last range, that nobody calls, has an unknown number.
fn middle(ranges: &[(u32, Id)]) -> usize {
    const BEING_THERE: u32 = 8;
    const MANY: u32 = 64;
    let weight = |at: usize| {
        let end = ranges.get(at + 1).map_or(ranges[at].0, |next| next.0);
        BEING_THERE + (end - ranges[at].0).min(MANY)
    };
    let half = (0..ranges.len()).map(weight).sum::<u32>() / 2;
    let mut low = 0;
    for at in 0..ranges.len() - 1 {
        let before = low;
        low += weight(at);
        if low >= half {
            // Whichever of the two places is nearer to the middle, with something on both sides.
            return if at > 0 && half - before < low - half { at } else { at + 1 };
        }
    }
    ranges.len() - 1
}
