//! Conditions on arguments: how they are ordered, merged and written as BPF. Depends on the assembler.
//!
//! libseccomp's semantics: the conditions of one rule all have to hold; of several rules for one call, the first whose
//! conditions hold gives the verdict, in an order that puts the more specific first: higher argument, then equality before
//! upper bounds before lower bounds, then the narrower bound. A rule that only adds conditions to an earlier one is
//! never reached.

use super::program::{Code, JEQ, JGE, JGT, JSET, Label};
use oci_spec::runtime::LinuxSeccompOperator as Operator;
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// A condition on one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ArgCmp {
    /// Which argument, 0 to 5.
    pub(super) argument: u8,
    /// The comparison.
    pub(super) operator: Operator,
    /// The bits that are compared: all, except for `SCMP_CMP_MASKED_EQ`.
    pub(super) mask: u64,
    /// What they are compared with.
    pub(super) value: u64,
}

impl ArgCmp {
    /// The test that an argument has a value.
    pub(super) fn equals(argument: u8, value: u64) -> Self {
        Self { argument, operator: Operator::ScmpCmpEq, mask: u64::MAX, value }
    }

    /// The test for an architecture with 32-bit arguments: on the lower halves.
    pub(super) fn narrowed(self) -> Self {
        let half = u64::from(u32::MAX);
        Self { mask: self.mask & half, value: self.value & half, ..self }
    }

    /// Whether it always passes, because no bit is compared.
    pub(super) fn is_empty(self) -> bool {
        self.operator == Operator::ScmpCmpMaskedEq && self.mask == 0
    }

    /// Equal for equal tests.
    fn key(&self) -> (u8, u32, u64, u64) {
        (self.argument, self.operator as u32, self.mask, self.value)
    }

    /// The order among the tests of one chain.
    fn order(&self, other: &Self) -> Ordering {
        let class = |test: &Self| match test.operator {
            Operator::ScmpCmpEq | Operator::ScmpCmpMaskedEq | Operator::ScmpCmpNe => 0,
            Operator::ScmpCmpLt | Operator::ScmpCmpLe => 1,
            Operator::ScmpCmpGt | Operator::ScmpCmpGe => 2,
        };
        let by_value = match class(self) {
            1 => self.value.cmp(&other.value),
            _ => other.value.cmp(&self.value),
        };
        other.argument.cmp(&self.argument).then(class(self).cmp(&class(other))).then(by_value)
    }
}

/// What follows when a test passes.
#[derive(Debug)]
pub(super) enum Next {
    /// A verdict, and the rule that asked for it.
    Verdict(u32, u32),
    /// Further tests.
    ArgChain(ArgChain),
}

/// Alternatives: tests of which each leads to a verdict or to further tests.
#[derive(Debug, Default)]
pub(super) struct ArgChain {
    /// In the order in which they were added; after [`ArgChain::sort`] in the order in which they are tried.
    tests: Vec<(ArgCmp, Next)>,
    /// The index of each test, until they are sorted.
    indices: BTreeMap<(u8, u32, u64, u64), usize>,
}

impl ArgChain {
    /// Sorts the tests into the order in which they are tried; the sort is stable.
    pub(super) fn sort(&mut self) {
        self.indices.clear();
        self.tests.sort_by(|(a, _), (b, _)| a.order(b));
        for (_, next) in &mut self.tests {
            if let Next::ArgChain(inner) = next {
                inner.sort();
            }
        }
    }
}

/// Adds a rule: its tests by ascending argument, its verdict, its index.
///
/// # Errors
/// The index of an earlier rule that asks for another verdict on the same or a part of the same arguments.
pub(super) fn insert(chain: &mut ArgChain, tests: &[ArgCmp], verdict: u32, rule: u32) -> Result<(), u32> {
    let Some((&test, rest)) = tests.split_first() else { return Ok(()) };
    let end = chain.tests.len();
    let index = *chain.indices.entry(test.key()).or_insert(end);
    if let Some((_, next)) = chain.tests.get_mut(index) {
        return match next {
            Next::ArgChain(inner) if !rest.is_empty() => insert(inner, rest, verdict, rule),
            Next::ArgChain(inner) => {
                only(inner, verdict)?;
                *next = Next::Verdict(verdict, rule);
                Ok(())
            }
            Next::Verdict(earlier, by) if rest.is_empty() && *earlier != verdict => Err(*by),
            // the earlier rule has the same verdict, or decides these arguments already
            Next::Verdict(..) => Ok(()),
        };
    }
    let next = if rest.is_empty() {
        Next::Verdict(verdict, rule)
    } else {
        let mut inner = ArgChain::default();
        insert(&mut inner, rest, verdict, rule)?;
        Next::ArgChain(inner)
    };
    chain.tests.push((test, next));
    Ok(())
}

/// Checks that a chain has no other verdict.
fn only(chain: &ArgChain, verdict: u32) -> Result<(), u32> {
    chain.tests.iter().try_for_each(|(_, next)| match next {
        Next::Verdict(other, rule) if *other != verdict => Err(*rule),
        Next::Verdict(..) => Ok(()),
        Next::ArgChain(inner) => only(inner, verdict),
    })
}

/// Writes a chain: goes on at `miss` when no alternative holds.
pub(super) fn write(code: &mut Code, chain: &ArgChain, wide: bool, miss: Label) -> Label {
    chain.tests.chunk_by(|(a, _), (b, _)| shares_upper(a, b, wide)).rev().fold(miss, |miss, alternatives| {
        if let [(test, next)] = alternatives {
            let hit = follow(code, next, wide, miss);
            return write_test(code, test, wide, hit, miss);
        }
        // values of one argument with the same upper half: the upper half is compared once
        let mut lower = miss;
        for (test, next) in alternatives.iter().rev() {
            let hit = follow(code, next, wide, miss);
            lower = code.branch(JEQ, low(test.value), hit, lower);
        }
        let argument = alternatives[0].0.argument;
        let lower = code.load(lower_half(argument), lower);
        if !wide {
            return lower;
        }
        let upper = code.branch(JEQ, high(alternatives[0].0.value), lower, miss);
        code.load(upper_half(argument), upper)
    })
}

fn follow(code: &mut Code, next: &Next, wide: bool, miss: Label) -> Label {
    match next {
        Next::Verdict(verdict, _) => Label::Return(*verdict),
        Next::ArgChain(inner) => write(code, inner, wide, miss),
    }
}

fn shares_upper(a: &ArgCmp, b: &ArgCmp, wide: bool) -> bool {
    let equality = |test: &ArgCmp| test.operator == Operator::ScmpCmpEq;
    equality(a) && equality(b) && a.argument == b.argument && (!wide || high(a.value) == high(b.value))
}

/// Writes one test.
fn write_test(code: &mut Code, test: &ArgCmp, wide: bool, hit: Label, miss: Label) -> Label {
    match test.operator {
        Operator::ScmpCmpEq | Operator::ScmpCmpMaskedEq => equal(code, test, wide, hit, miss),
        Operator::ScmpCmpNe => equal(code, test, wide, miss, hit),
        Operator::ScmpCmpGt => above(code, test, wide, JGT, hit, miss),
        Operator::ScmpCmpGe => above(code, test, wide, JGE, hit, miss),
        Operator::ScmpCmpLe => above(code, test, wide, JGT, miss, hit),
        Operator::ScmpCmpLt => above(code, test, wide, JGE, miss, hit),
    }
}

fn equal(code: &mut Code, test: &ArgCmp, wide: bool, hit: Label, miss: Label) -> Label {
    let lower = equal_half(code, lower_half(test.argument), low(test.mask), low(test.value), hit, miss);
    if !wide {
        return lower;
    }
    equal_half(code, upper_half(test.argument), high(test.mask), high(test.value), lower, miss)
}

fn equal_half(code: &mut Code, offset: u32, mask: u32, value: u32, hit: Label, miss: Label) -> Label {
    let compared = match (mask, value) {
        (0, _) => return hit,
        (u32::MAX, _) => code.branch(JEQ, value, hit, miss),
        (_, 0) => code.branch(JSET, mask, miss, hit),
        (_, _) => {
            let compared = code.branch(JEQ, value, hit, miss);
            code.and(mask, compared)
        }
    };
    code.load(offset, compared)
}

/// `comparison` is of the lower halves; the upper ones decide unless they are equal.
fn above(code: &mut Code, test: &ArgCmp, wide: bool, comparison: u16, hit: Label, miss: Label) -> Label {
    let lower = code.branch(comparison, low(test.value), hit, miss);
    let lower = code.load(lower_half(test.argument), lower);
    if !wide {
        return lower;
    }
    let upper = match high(test.value) {
        // no value is below
        0 => lower,
        value => code.branch(JEQ, value, lower, miss),
    };
    let upper = code.branch(JGT, high(test.value), hit, upper);
    code.load(upper_half(test.argument), upper)
}

/// The offset in `seccomp_data` of the lower half of an argument (little endian).
fn lower_half(argument: u8) -> u32 {
    16 + 8 * u32::from(argument)
}

fn upper_half(argument: u8) -> u32 {
    lower_half(argument) + 4
}

#[allow(clippy::cast_possible_truncation)] // intended
fn low(value: u64) -> u32 {
    value as u32
}

#[allow(clippy::cast_possible_truncation)] // 32 bits are left
fn high(value: u64) -> u32 {
    (value >> 32) as u32
}
