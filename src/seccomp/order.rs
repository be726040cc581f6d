//! Which of several rules for one system call decides.
//!
//! A profile's rules are a set: libseccomp, whose behaviour profiles are written for, does not try them in the order in which
//! they stand. It sorts their conditions into a tree and takes the first branch that matches: conditions on later arguments
//! before those on earlier ones, equalities before upper bounds before lower bounds, among equalities and lower bounds the
//! larger value and among upper bounds the smaller value first. A rule whose conditions begin with all those of another never
//! decides, and an unconditional rule beats all others. Rules that are equal in all this stay in the profile's order.

use super::arch::Width;
use std::cmp::Ordering;

/// A condition's operator; all compare without sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    NotEqual,
    Less,
    LessOrEqual,
    Equal,
    GreaterOrEqual,
    Greater,
    /// Equality of the bits in the mask.
    Masked(u64),
}

/// A condition on one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    /// Which argument, from 0 to 5.
    pub argument: u8,
    pub operator: Operator,
    pub value: u64,
}

/// The comparisons that the operators come down to; an operator is one of these or its opposite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Equal,
    Greater,
    GreaterOrEqual,
    Masked,
}

/// One comparison of 32 bits on the way through a rule.
#[derive(Clone, Copy, Debug)]
struct Step {
    argument: u8,
    high: bool,
    kind: Kind,
    /// The place of the operator in the order, which its opposite does not share.
    class: u8,
    mask: u32,
    value: u32,
    /// Whether the rule goes on where the comparison holds.
    goes_on_if: bool,
}

impl Step {
    fn is_same(&self, other: &Step) -> bool {
        (self.argument, self.high, self.kind, self.mask, self.value)
            == (other.argument, other.high, other.kind, other.mask, other.value)
    }

    /// Whether `self` is tried before `other`; rules that are equal in this keep their order.
    fn compare(&self, other: &Step) -> Ordering {
        let values = match self.class {
            UPPER_BOUND => self.value.cmp(&other.value),
            _ => other.value.cmp(&self.value),
        };
        (other.argument, other.high, other.class).cmp(&(self.argument, self.high, self.class)).then(values)
    }
}

const LOWER_BOUND: u8 = 1;
const UPPER_BOUND: u8 = 2;
const EQUALITY: u8 = 3;

/// The comparisons of a condition: of the high half and then the low one, of the low one alone on 32-bit machines.
fn steps(condition: &Condition, width: Width, steps: &mut Vec<Step>) {
    let (kind, class, goes_on_if) = match condition.operator {
        Operator::Equal => (Kind::Equal, EQUALITY, true),
        Operator::NotEqual => (Kind::Equal, EQUALITY, false),
        Operator::Masked(_) => (Kind::Masked, EQUALITY, true),
        Operator::Greater => (Kind::Greater, LOWER_BOUND, true),
        Operator::LessOrEqual => (Kind::Greater, UPPER_BOUND, false),
        Operator::GreaterOrEqual => (Kind::GreaterOrEqual, LOWER_BOUND, true),
        Operator::Less => (Kind::GreaterOrEqual, UPPER_BOUND, false),
    };
    let mask = if let Operator::Masked(mask) = condition.operator { mask } else { u64::MAX };
    let value = condition.value & mask;
    let low = Step {
        argument: condition.argument,
        high: false,
        kind,
        class,
        mask: mask as u32,
        value: value as u32,
        goes_on_if,
    };
    if width == Width::Bits64 {
        let high = Step { high: true, mask: (mask >> 32) as u32, value: (value >> 32) as u32, ..low };
        match kind {
            Kind::Equal | Kind::Masked => steps.push(Step { goes_on_if: true, ..high }),
            // Beyond the bound in the high half, at it in the high half, beyond it in the low one.
            Kind::Greater | Kind::GreaterOrEqual => {
                steps.push(Step { kind: Kind::Greater, goes_on_if: false, ..high });
                steps.push(Step { kind: Kind::Equal, goes_on_if: true, ..high });
            }
        }
    }
    steps.push(low);
}

/// Rules in the tree below one branch.
#[derive(Debug, Default)]
struct Branch {
    /// The rule whose conditions end here.
    decides: Option<usize>,
    /// The comparisons tried here, in order.
    level: Vec<Fork>,
}

/// One comparison in the tree and the two ways on.
#[derive(Debug)]
struct Fork {
    step: Step,
    yes: Branch,
    no: Branch,
}

/// Conditional rules for one system call, in the order in which they are tried. A rule is a number that its owner gave it.
#[derive(Debug, Default)]
pub(super) struct Order {
    root: Branch,
}

impl Order {
    /// Adds a rule, or returns the one that has the same conditions.
    pub fn insert(&mut self, rule: usize, conditions: &[Condition], width: Width) -> Option<usize> {
        let mut path = Vec::with_capacity(conditions.len() * 3);
        for condition in conditions {
            steps(condition, width, &mut path);
        }
        let mut branch = &mut self.root;
        for step in &path {
            let level = &mut branch.level;
            let at = match find(level, step) {
                Ok(at) => at,
                Err(at) => {
                    level.insert(at, Fork { step: *step, yes: Branch::default(), no: Branch::default() });
                    at
                }
            };
            branch = if step.goes_on_if { &mut level[at].yes } else { &mut level[at].no };
        }
        if branch.decides.is_none() {
            branch.decides = Some(rule);
            return None;
        }
        branch.decides
    }

    /// The rules in their order, without those that never decide.
    pub fn rules(&self) -> Vec<usize> {
        let mut rules = Vec::new();
        let mut pending = vec![&self.root];
        while let Some(branch) = pending.pop() {
            if let Some(rule) = branch.decides {
                rules.push(rule);
                continue;
            }
            for fork in branch.level.iter().rev() {
                pending.push(&fork.no);
                pending.push(&fork.yes);
            }
        }
        rules
    }
}

/// Where the level has this comparison, or where it is to be put.
fn find(level: &[Fork], step: &Step) -> Result<usize, usize> {
    for (at, fork) in level.iter().enumerate() {
        if fork.step.is_same(step) {
            return Ok(at);
        }
        if step.compare(&fork.step) == Ordering::Less {
            return Err(at);
        }
    }
    Err(level.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The order of rules of which each has these conditions, as argument, operator and value.
    fn order(rules: &[&[(u8, Operator, u64)]], width: Width) -> Vec<usize> {
        let mut order = Order::default();
        for (index, rule) in rules.iter().enumerate() {
            let conditions: Vec<_> =
                rule.iter().map(|&(argument, operator, value)| Condition { argument, operator, value }).collect();
            order.insert(index, &conditions, width);
        }
        order.rules()
    }

    use Operator::*;

    #[test]
    fn conditions_on_later_arguments_are_tried_first() {
        assert_eq!(order(&[&[(0, Equal, 1)], &[(3, Equal, 1)], &[(1, Equal, 1)]], Width::Bits64), [1, 2, 0]);
    }

    #[test]
    fn equalities_come_before_upper_bounds_before_lower_bounds() {
        assert_eq!(order(&[&[(0, Greater, 1)], &[(0, Less, 9)], &[(0, Equal, 5)]], Width::Bits64), [2, 1, 0]);
    }

    #[test]
    fn the_narrower_bound_comes_first() {
        for width in [Width::Bits32, Width::Bits64] {
            assert_eq!(order(&[&[(0, Greater, 1)], &[(0, Greater, 9)]], width), [1, 0]);
            assert_eq!(order(&[&[(0, Less, 9)], &[(0, Less, 1)]], width), [1, 0]);
        }
    }

    #[test]
    fn the_high_half_counts_on_64_bits_only() {
        let rules: &[&[(u8, Operator, u64)]] = &[&[(0, Equal, 9)], &[(0, Equal, 1 << 32)]];
        assert_eq!(order(rules, Width::Bits64), [1, 0]);
        assert_eq!(order(rules, Width::Bits32), [0, 1]);
    }

    #[test]
    fn a_rule_within_another_never_decides() {
        let rules: &[&[(u8, Operator, u64)]] = &[&[(0, Equal, 1), (1, Equal, 2)], &[(0, Equal, 1)]];
        assert_eq!(order(rules, Width::Bits64), [1]);
    }

    #[test]
    fn rules_of_equal_rank_keep_their_order() {
        let rules: &[&[(u8, Operator, u64)]] = &[&[(0, Masked(6), 2)], &[(0, Masked(3), 2)], &[(0, Equal, 2)]];
        assert_eq!(order(rules, Width::Bits32), [0, 1, 2]);
    }

    #[test]
    fn opposites_share_a_branch_and_both_stay() {
        assert_eq!(order(&[&[(0, NotEqual, 1)], &[(0, Equal, 1)]], Width::Bits64).len(), 2);
    }
}
