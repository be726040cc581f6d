//! A filter as a graph of decisions: each node asks one thing about the system call, each leaf is an answer to it.
//!
//! seccompiler's blocks are read into the graph by following their jumps; equal decisions become one node, questions whose
//! answer the way to them has given already are left out, and [`super::emit`] lays the graph out as one program.

use anyhow::{Context, Result, bail};
use std::collections::HashMap;

/// Where `struct seccomp_data` has the system call's number.
pub(super) const NUMBER: u8 = 0;
/// Where `struct seccomp_data` has the audit architecture.
pub(super) const ARCHITECTURE: u8 = 4;
/// Where `struct seccomp_data` has the first argument.
const ARGUMENTS: u8 = 16;

/// A node of the graph.
pub(super) type Id = u32;

/// A comparison that the kernel's BPF can make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Comparison {
    Equal,
    Greater,
    GreaterOrEqual,
}

/// The question of a node: how the word at `offset`, under `mask`, compares to `value`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Test {
    pub offset: u8,
    pub mask: u32,
    pub comparison: Comparison,
    pub value: u32,
}

/// A decision or an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Node {
    /// The filter's answer, `SECCOMP_RET_*` with its data.
    Return(u32),
    Test {
        test: Test,
        yes: Id,
        no: Id,
    },
}

impl Test {
    /// A test of a whole word.
    pub fn new(offset: u8, comparison: Comparison, value: u32) -> Test {
        Test { offset, mask: u32::MAX, comparison, value }
    }

    /// The answer, when it is the same for every word.
    fn constant(&self) -> Option<bool> {
        match self.comparison {
            Comparison::Equal if self.value & !self.mask != 0 => Some(false),
            Comparison::Equal if self.mask == 0 => Some(true),
            Comparison::Greater if self.value >= self.mask => Some(false),
            Comparison::GreaterOrEqual if self.value == 0 => Some(true),
            Comparison::GreaterOrEqual if self.value > self.mask => Some(false),
            _ => None,
        }
    }

    /// The answer to this test where that to `known` was `answer`.
    fn given(&self, known: &Test, answer: bool) -> Option<bool> {
        if self == known {
            return Some(answer);
        }
        if self.offset != known.offset || known.mask != u32::MAX {
            return None;
        }
        if known.comparison == Comparison::Equal && answer {
            let word = known.value & self.mask;
            return Some(match self.comparison {
                Comparison::Equal => word == self.value,
                Comparison::Greater => word > self.value,
                Comparison::GreaterOrEqual => word >= self.value,
            });
        }
        if self.mask != u32::MAX {
            return None;
        }
        // What is known bounds the word from one side.
        let (low, high) = match (known.comparison, answer) {
            (Comparison::Greater, true) => (known.value.saturating_add(1), u32::MAX),
            (Comparison::Greater, false) => (0, known.value),
            (Comparison::GreaterOrEqual, true) => (known.value, u32::MAX),
            (Comparison::GreaterOrEqual, false) => (0, known.value.saturating_sub(1)),
            (Comparison::Equal, _) => return None,
        };
        match self.comparison {
            Comparison::Equal if self.value < low || self.value > high => Some(false),
            Comparison::Greater if low > self.value => Some(true),
            Comparison::Greater if high <= self.value => Some(false),
            Comparison::GreaterOrEqual if low >= self.value => Some(true),
            Comparison::GreaterOrEqual if high < self.value => Some(false),
            _ => None,
        }
    }
}

/// How many nodes may be visited to leave out answered questions, in all and one below the other. A filter that needs more
/// is as right without: it only asks some questions again.
const PRUNE_VISITS: u32 = 20_000;
const PRUNE_DEPTH: u32 = 200;

/// All nodes of a filter.
#[derive(Debug, Default)]
pub(super) struct Graph {
    nodes: Vec<Node>,
    ids: HashMap<Node, Id>,
    pruned: HashMap<(Id, Test, bool), Id>,
    visits: u32,
}

impl Graph {
    /// The node of that number.
    pub fn node(&self, id: Id) -> Node {
        self.nodes[id as usize]
    }

    /// The number of nodes; each [`Id`] is below it.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    fn intern(&mut self, node: Node) -> Id {
        *self.ids.entry(node).or_insert_with(|| {
            self.nodes.push(node);
            (self.nodes.len() - 1) as Id
        })
    }

    /// The leaf that gives this answer.
    pub fn answer(&mut self, action: u32) -> Id {
        self.intern(Node::Return(action))
    }

    /// A decision below which nothing asks about the same word.
    pub fn decide(&mut self, test: Test, yes: Id, no: Id) -> Id {
        match test.constant() {
            Some(true) => yes,
            Some(false) => no,
            None if yes == no => yes,
            None => self.intern(Node::Test { test, yes, no }),
        }
    }

    /// A decision below which questions that it answers are left out.
    fn decide_and_prune(&mut self, test: Test, yes: Id, no: Id) -> Id {
        let yes = self.prune(yes, test, true, PRUNE_DEPTH);
        let no = self.prune(no, test, false, PRUNE_DEPTH);
        self.decide(test, yes, no)
    }

    /// The graph below `id` for callers of whom the answer to `known` is known.
    fn prune(&mut self, id: Id, known: Test, answer: bool, depth: u32) -> Id {
        let Node::Test { test, yes, no } = self.node(id) else { return id };
        if let Some(&done) = self.pruned.get(&(id, known, answer)) {
            return done;
        }
        if depth == 0 || self.visits == PRUNE_VISITS {
            return id;
        }
        self.visits += 1;
        let result = match test.given(&known, answer) {
            Some(true) => self.prune(yes, known, answer, depth - 1),
            Some(false) => self.prune(no, known, answer, depth - 1),
            None => {
                let yes = self.prune(yes, known, answer, depth - 1);
                let no = self.prune(no, known, answer, depth - 1);
                self.decide(test, yes, no)
            }
        };
        self.pruned.insert((id, known, answer), result);
        self.pruned.insert((result, known, answer), result);
        result
    }

    /// The decisions of a block that seccompiler made of one rule.
    ///
    /// Such a block runs past its end where all conditions of the rule hold, and past the instruction after that, which
    /// seccompiler makes the rule's action, where one does not. `swap` reads the halves of arguments in the other order: the
    /// block has them as on a little endian machine.
    pub fn read(&mut self, block: &[seccompiler::sock_filter], swap: bool, matched: Id, missed: Id) -> Result<Id> {
        Reader { graph: self, block, swap, matched, missed, seen: HashMap::new() }.at(0, None)
    }
}

/// A walk through one block, which follows every jump.
struct Reader<'a> {
    graph: &'a mut Graph,
    block: &'a [seccompiler::sock_filter],
    swap: bool,
    matched: Id,
    missed: Id,
    seen: HashMap<(usize, Option<(u8, u32)>), Id>,
}

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
const JUMP_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const JUMP_GREATER: u16 = (libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K) as u16;
const JUMP_GREATER_OR_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;

impl Reader<'_> {
    /// The decisions from an instruction on; `word` is the offset and mask of what is loaded there.
    fn at(&mut self, position: usize, word: Option<(u8, u32)>) -> Result<Id> {
        let Some(instruction) = self.block.get(position) else {
            return match position - self.block.len() {
                0 => Ok(self.matched),
                1 => Ok(self.missed),
                _ => bail!("a condition's block jumps out of its rule"),
            };
        };
        if let Some(&seen) = self.seen.get(&(position, word)) {
            return Ok(seen);
        }
        let id = match instruction.code {
            LOAD => {
                let offset = u8::try_from(instruction.k).context("a condition's block loads what is not there")?;
                let offset = if self.swap && offset >= ARGUMENTS { offset ^ 4 } else { offset };
                self.at(position + 1, Some((offset, u32::MAX)))?
            }
            AND => self.at(position + 1, word.map(|(offset, mask)| (offset, mask & instruction.k)))?,
            JUMP => self.at(position + 1 + instruction.k as usize, word)?,
            code => {
                let comparison = match code {
                    JUMP_EQUAL => Comparison::Equal,
                    JUMP_GREATER => Comparison::Greater,
                    JUMP_GREATER_OR_EQUAL => Comparison::GreaterOrEqual,
                    _ => bail!("a condition's block has the unexpected instruction {code:#x}"),
                };
                let (offset, mask) = word.context("a condition's block compares before it loads")?;
                let yes = self.at(position + 1 + usize::from(instruction.jt), word)?;
                let no = self.at(position + 1 + usize::from(instruction.jf), word)?;
                let test = Test { offset, mask, comparison, value: instruction.k };
                self.graph.decide_and_prune(test, yes, no)
            }
        };
        self.seen.insert((position, word), id);
        Ok(id)
    }
}
