//! The rules of one architecture: what each of its numbers gets, then the same as ranges. Depends on the names and the
//! conditions.

use super::arch::Arch;
use super::condition::{self, ArgChain, ArgCmp};
use super::row::Row;

/// What a system call gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// One verdict (`SECCOMP_RET_*` with its data).
    Always(u32),
    /// What the arguments decide: an index among the profile's [`Conditions`].
    Arguments(u32),
}

/// Conditions of one call on one architecture.
#[derive(Debug)]
pub(super) struct Conditions {
    /// Whether arguments have 64 bits.
    pub(super) wide: bool,
    /// The alternatives.
    pub(super) chain: ArgChain,
}

/// A verdict from a number up to the next range.
#[derive(Debug, Clone, Copy)]
pub(super) struct Range {
    /// The first number.
    pub(super) start: u32,
    /// What it gets.
    pub(super) verdict: Verdict,
}

/// What a rule does to the calls that it names.
#[derive(Debug)]
pub(super) struct Rule<'a> {
    /// The verdict.
    pub(super) verdict: u32,
    /// Conditions that all have to hold, by ascending argument, with 64 bits.
    pub(super) tests: &'a [ArgCmp],
    /// The rule's index, for errors.
    pub(super) index: u32,
}

/// A profile by architecture and number.
#[derive(Debug)]
pub(super) struct Sorted {
    /// The rules of each architecture, the native one first.
    pub(super) rules: Vec<Rules>,
    /// The conditions of the calls whose arguments decide.
    pub(super) conditions: Vec<Conditions>,
    /// Whether a rule notifies.
    pub(super) notifies: bool,
}

impl Sorted {
    /// No rules for some architectures.
    pub(super) fn new(archs: &[Arch]) -> Self {
        let rules = archs.iter().map(|&arch| Rules::new(arch)).collect();
        Self { rules, conditions: Vec::new(), notifies: false }
    }

    /// Remembers that the profile knows a call, whatever it says about it.
    pub(super) fn know(&mut self, row: &Row) {
        for rules in &mut self.rules {
            rules.know(row);
        }
    }

    /// Adds a rule for a call, on the architectures that have it.
    ///
    /// # Errors
    /// The index of an earlier rule that is contradicted.
    pub(super) fn add(&mut self, row: &Row, rule: &Rule<'_>) -> Result<(), u32> {
        let Self { rules, conditions, .. } = self;
        rules.iter_mut().try_for_each(|rules| rules.add(row, rule, conditions))
    }
}

/// The rules of one architecture.
#[derive(Debug)]
pub(super) struct Rules {
    /// Whose they are.
    pub(super) arch: Arch,
    /// By slot; nothing where the default applies.
    slots: Vec<Option<Verdict>>,
    /// The highest number that a rule names, as the rule for newer calls sees it.
    newest: u32,
}

impl Rules {
    /// No rules.
    pub(super) fn new(arch: Arch) -> Self {
        Self { arch, slots: vec![None; arch.slots()], newest: 0 }
    }

    /// Remembers the highest number. Calls that x86 multiplexes do not count, as their numbers in libseccomp are not the
    /// kernel's.
    fn know(&mut self, row: &Row) {
        if self.arch == Arch::X86 && row.multiplexed().is_some() {
            return;
        }
        if let Some(slot) = row.slot(self.arch) {
            self.newest = self.newest.max(self.number(slot));
        }
    }

    fn add(&mut self, row: &Row, rule: &Rule<'_>, conditions: &mut Vec<Conditions>) -> Result<(), u32> {
        if self.arch == Arch::X86
            && let Some(multiplexed) = row.multiplexed()
        {
            // the carrier's arguments are not the call's, but libseccomp keeps all but the first
            let first = ArgCmp::equals(0, u64::from(multiplexed.call));
            let rest = rule.tests.iter().filter(|test| test.argument != 0).copied();
            let tests: Vec<ArgCmp> = std::iter::once(first).chain(rest).collect();
            self.put(usize::from(multiplexed.carrier), &Rule { tests: &tests, ..*rule }, conditions)?;
        }
        match row.slot(self.arch) {
            Some(slot) => self.put(slot, rule, conditions),
            None => Ok(()),
        }
    }

    /// A rule without conditions rules alone: over earlier ones that have some, and over all later ones.
    fn put(&mut self, slot: usize, rule: &Rule<'_>, conditions: &mut Vec<Conditions>) -> Result<(), u32> {
        let known = match self.slots[slot] {
            Some(Verdict::Always(_)) => return Ok(()),
            Some(Verdict::Arguments(known)) => Some(known),
            None => None,
        };
        let wide = self.arch.is_wide();
        let narrowed: Vec<ArgCmp>;
        let tests = if wide || rule.tests.is_empty() {
            rule.tests
        } else {
            narrowed = rule.tests.iter().map(|test| test.narrowed()).filter(|test| !test.is_empty()).collect();
            &narrowed
        };
        if tests.is_empty() {
            self.slots[slot] = Some(Verdict::Always(rule.verdict));
            return Ok(());
        }
        let index = known.unwrap_or_else(|| {
            conditions.push(Conditions { wide, chain: ArgChain::default() });
            // as many at most as there are slots
            u32::try_from(conditions.len() - 1).unwrap_or(u32::MAX)
        });
        self.slots[slot] = Some(Verdict::Arguments(index));
        condition::insert(&mut conditions[index as usize].chain, tests, rule.verdict, rule.index)
    }

    /// Writes the ranges of the architecture's numbers, from the lowest that it has. Numbers beyond the newest call that
    /// the profile knows get `newer` where there is one.
    pub(super) fn ranges(&self, default: u32, newer: Option<u32>, ranges: &mut Vec<Range>) {
        let from = ranges.len();
        let default = Verdict::Always(default);
        let mut next = self.number(0);
        for (slot, verdict) in self.slots.iter().enumerate() {
            let number = self.number(slot);
            if number != next {
                push(ranges, next, default);
            }
            push(ranges, number, verdict.unwrap_or(default));
            next = number + 1;
        }
        push(ranges, next, default);
        if let Some(newer) = self.newer(newer) {
            ranges.truncate(from + ranges[from..].partition_point(|range| range.start <= self.newest));
            push(ranges, self.newest + 1, Verdict::Always(newer));
        }
    }

    /// What calls newer than the profile get. A profile that names none, or only number 0, is of no age.
    pub(super) fn newer(&self, newer: Option<u32>) -> Option<u32> {
        newer.filter(|_| self.newest > 0)
    }

    fn number(&self, slot: usize) -> u32 {
        // a table has less than 1000 slots
        self.arch.number(u32::try_from(slot).unwrap_or(u32::MAX))
    }
}

/// Adds a range, unless it goes on like the one before it.
pub(super) fn push(ranges: &mut Vec<Range>, start: u32, verdict: Verdict) {
    match ranges.last() {
        Some(last) if last.verdict == verdict => {}
        Some(_) | None => ranges.push(Range { start, verdict }),
    }
}
