//! The rules of one architecture: the verdict for each number, and the same as ranges. Depends on the names and the conditions.

use super::arch::Arch;
use super::condition::{self, ArgChain, ArgCmp};
use super::row::Row;

/// The verdict on a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Always the same (`SECCOMP_RET_*` with its data).
    Always(u32),
    /// It depends on the arguments: an index into the profile's [`Conditions`].
    Arguments(u32),
}

/// Conditions of one call on one architecture.
#[derive(Debug)]
pub(super) struct Conditions {
    /// Whether arguments have 64 bits.
    pub(super) wide: bool,
    /// The conditions.
    pub(super) chain: ArgChain,
}

/// A range of numbers with one verdict, up to the start of the next range.
#[derive(Debug, Clone, Copy)]
pub(super) struct Range {
    /// The first number.
    pub(super) start: u32,
    /// The verdict.
    pub(super) verdict: Verdict,
}

/// The effect of a rule on the calls that it names.
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
    /// The conditions of all calls whose verdict depends on arguments.
    pub(super) conditions: Vec<Conditions>,
    /// Whether a rule has `SCMP_ACT_NOTIFY`.
    pub(super) notifies: bool,
}

impl Sorted {
    /// No rules for some architectures.
    pub(super) fn new(archs: &[Arch]) -> Self {
        let rules = archs.iter().map(|&arch| Rules::new(arch)).collect();
        Self { rules, conditions: Vec::new(), notifies: false }
    }

    /// Notes that the profile names a call.
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
    /// The architecture.
    pub(super) arch: Arch,
    /// By slot; `None` where the default applies.
    slots: Vec<Option<Verdict>>,
    /// The highest number that a rule names: calls above are newer than the profile.
    newest: u32,
}

impl Rules {
    /// No rules.
    pub(super) fn new(arch: Arch) -> Self {
        Self { arch, slots: vec![None; arch.slots()], newest: 0 }
    }

    /// Notes the highest number. Calls that x86 multiplexes do not count, because libseccomp has pseudo numbers for them.
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
            // libseccomp compares the arguments of socketcall and ipc, all but the first, although they are not the call's
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

    /// A rule without conditions overrides earlier ones with conditions, and all later ones.
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
            // there are at most as many as slots
            u32::try_from(conditions.len() - 1).unwrap_or(u32::MAX)
        });
        self.slots[slot] = Some(Verdict::Arguments(index));
        condition::insert(&mut conditions[index as usize].chain, tests, rule.verdict, rule.index)
    }

    /// Adds the ranges of the architecture's numbers. Numbers above the highest one that the profile names get `newer`, if there
    /// is one.
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

    /// The verdict on calls newer than the profile. `None` also if the profile names no call above number 0.
    pub(super) fn newer(&self, newer: Option<u32>) -> Option<u32> {
        newer.filter(|_| self.newest > 0)
    }

    fn number(&self, slot: usize) -> u32 {
        // a table has less than 1000 slots
        self.arch.number(u32::try_from(slot).unwrap_or(u32::MAX))
    }
}

/// Adds a range, unless the range before it has the same verdict.
pub(super) fn push(ranges: &mut Vec<Range>, start: u32, verdict: Verdict) {
    match ranges.last() {
        Some(last) if last.verdict == verdict => {}
        Some(_) | None => ranges.push(Range { start, verdict }),
    }
}
