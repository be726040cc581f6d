//! From the graph of decisions to the kernel's program.
//!
//! The program is laid out from its end, so that all jumps lead to what is placed already. A conditional jump reaches 255
//! instructions; where its target is farther, a copy of the answer or a long jump is put behind the jump, and others use it too.

use super::graph::{Comparison, Graph, Id, Node, Test};
use libc::sock_filter;

/// The most instructions that the kernel takes in one filter.
pub(super) const LIMIT: usize = libc::BPF_MAXINSNS as usize;

/// How a node is entered: with the word that it asks about loaded, or not.
#[derive(Clone, Copy, Debug)]
enum Entry {
    Loaded,
    Unloaded,
}

/// Where the nearest entry to a node is, in instructions from the program's end.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    loaded: Option<usize>,
    unloaded: Option<usize>,
}

/// The program, last instruction first.
struct Layout<'a> {
    graph: &'a Graph,
    reversed: Vec<sock_filter>,
    places: Vec<Place>,
}

/// The program of the graph below `root`.
pub(super) fn emit(graph: &Graph, root: Id) -> Vec<sock_filter> {
    let order = children_first(graph, root);
    let mut unloaded = vec![false; graph.len()];
    unloaded[root as usize] = true;
    for &id in &order {
        if let Node::Test { test, yes, no } = graph.node(id) {
            for child in [yes, no] {
                unloaded[child as usize] |= matches!(entry(graph, &test, child), Entry::Unloaded);
            }
        }
    }
    let mut layout =
        Layout { graph, reversed: Vec::with_capacity(order.len() * 2), places: vec![Place::default(); graph.len()] };
    for id in order {
        match graph.node(id) {
            Node::Return(action) => layout.answer(id, action),
            Node::Test { test, yes, no } => layout.test(id, &test, yes, no, unloaded[id as usize]),
        }
    }
    layout.reversed.reverse();
    layout.reversed
}

/// All nodes below `root`, each after those it leads to. What comes last of a node's children is placed next to it: for the
/// question of the architecture that is the match, for the search through the numbers the lower half.
fn children_first(graph: &Graph, root: Id) -> Vec<Id> {
    let mut order = Vec::with_capacity(graph.len());
    let mut entered = vec![false; graph.len()];
    let mut pending = vec![(root, false)];
    while let Some((id, children_done)) = pending.pop() {
        if children_done {
            order.push(id);
            continue;
        }
        if std::mem::replace(&mut entered[id as usize], true) {
            continue;
        }
        pending.push((id, true));
        if let Node::Test { test, yes, no } = graph.node(id) {
            let (first, last) = if test.comparison == Comparison::Equal { (no, yes) } else { (yes, no) };
            pending.push((last, false));
            pending.push((first, false));
        }
    }
    order
}

/// How `child` is entered from a node with this test.
fn entry(graph: &Graph, test: &Test, child: Id) -> Entry {
    match graph.node(child) {
        Node::Test { test: next, .. } if (next.offset, next.mask) == (test.offset, test.mask) => Entry::Loaded,
        _ => Entry::Unloaded,
    }
}

impl Layout<'_> {
    fn push(&mut self, code: u32, jt: u8, jf: u8, k: u32) -> usize {
        self.reversed.push(sock_filter { code: code as u16, jt, jf, k });
        self.reversed.len() - 1
    }

    fn answer(&mut self, id: Id, action: u32) {
        let at = self.push(libc::BPF_RET | libc::BPF_K, 0, 0, action);
        self.places[id as usize].unloaded = Some(at);
    }

    fn test(&mut self, id: Id, test: &Test, yes: Id, no: Id, needs_load: bool) {
        let (yes_entry, no_entry) = (entry(self.graph, test, yes), entry(self.graph, test, no));
        // Bringing one target near moves the other away by an instruction, so both are looked at until both are in reach.
        let (jt, jf) = loop {
            match (self.distance(yes, yes_entry), self.distance(no, no_entry)) {
                (Some(jt), Some(jf)) => break (jt, jf),
                (None, _) => self.bring_near(yes, yes_entry),
                (_, None) => self.bring_near(no, no_entry),
            }
        };
        let comparison = match test.comparison {
            Comparison::Equal => libc::BPF_JEQ,
            Comparison::Greater => libc::BPF_JGT,
            Comparison::GreaterOrEqual => libc::BPF_JGE,
        };
        let mut at = self.push(libc::BPF_JMP | comparison | libc::BPF_K, jt, jf, test.value);
        self.places[id as usize].loaded = Some(at);
        if needs_load {
            if test.mask != u32::MAX {
                self.push(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0, 0, test.mask);
            }
            at = self.push(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, u32::from(test.offset));
            self.places[id as usize].unloaded = Some(at);
        }
    }

    fn place(&mut self, id: Id, entry: Entry) -> &mut Option<usize> {
        let place = &mut self.places[id as usize];
        match entry {
            Entry::Loaded => &mut place.loaded,
            Entry::Unloaded => &mut place.unloaded,
        }
    }

    /// How many instructions a jump that is placed now has to skip to the target, if a conditional jump can.
    fn distance(&mut self, target: Id, entry: Entry) -> Option<u8> {
        let here = self.reversed.len();
        self.place(target, entry).and_then(|at| u8::try_from(here - at - 1).ok())
    }

    /// Places another entry to the target here.
    fn bring_near(&mut self, target: Id, entry: Entry) {
        let here = self.reversed.len();
        match self.graph.node(target) {
            Node::Return(action) => self.answer(target, action),
            Node::Test { .. } => {
                // Children are placed before their parents, so there is an entry; were there none, the jump would go nowhere.
                let far = self.place(target, entry).map_or(0, |at| here - at - 1);
                let at = self.push(libc::BPF_JMP | libc::BPF_JA, 0, 0, far as u32);
                *self.place(target, entry) = Some(at);
            }
        }
    }
}
