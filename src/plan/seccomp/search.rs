//! The search for a number's range: a tree of comparisons in which hot calls are near the root. Depends on the assembler
//! and the ranges.

use super::arch::Arch;
use super::condition;
use super::names;
use super::program::{Code, JEQ, JGE, Label};
use super::rules::{Conditions, Range, Verdict};

/// The calls that programs make most, by what system-wide traces of servers, builds and shells show. The order does
/// not matter.
const HOT: [&str; 24] = [
    "read",
    "write",
    "futex",
    "openat",
    "close",
    "newfstatat",
    "fstat",
    "mmap",
    "munmap",
    "mprotect",
    "brk",
    "lseek",
    "pread64",
    "readv",
    "writev",
    "recvmsg",
    "sendmsg",
    "recvfrom",
    "sendto",
    "epoll_wait",
    "epoll_pwait",
    "poll",
    "ioctl",
    "getpid",
];
/// How much a hot call weighs; a range weighs 1 besides.
const HEAT: u32 = 64;

/// The numbers of the hot calls of some architectures, ascending.
pub(super) fn hot(archs: &[Arch]) -> Vec<u32> {
    let rows = HOT.iter().filter_map(|name| names::find(name));
    let mut numbers: Vec<u32> = rows
        .flat_map(|row| archs.iter().filter_map(|&arch| Some(arch.number(u32::try_from(row.slot(arch)?).ok()?))))
        .collect();
    numbers.sort_unstable();
    numbers
}

/// Ranges over all numbers, with the weight of all before each.
#[derive(Debug)]
pub(super) struct Search<'a> {
    ranges: &'a [Range],
    weights: Vec<u32>,
    conditions: &'a [Conditions],
    default: u32,
}

impl<'a> Search<'a> {
    /// Weighs the ranges: they ascend from 0 and no neighbours are equal. `default` is for calls whose arguments meet no
    /// condition.
    pub(super) fn new(ranges: &'a [Range], hot: &[u32], conditions: &'a [Conditions], default: u32) -> Self {
        let mut weights = Vec::with_capacity(ranges.len() + 1);
        weights.push(0);
        let mut hot = hot.iter().peekable();
        let mut weight = 0;
        for index in 0..ranges.len() {
            let end = ranges.get(index + 1).map(|next| next.start);
            weight += 1;
            while hot.next_if(|number| end.is_none_or(|end| **number < end)).is_some() {
                weight += HEAT;
            }
            weights.push(weight);
        }
        Self { ranges, weights, conditions, default }
    }

    /// Writes the search among all ranges; the number has been loaded.
    pub(super) fn write(&self, code: &mut Code) -> Label {
        self.among(code, 0, self.ranges.len())
    }

    /// Writes the search among the ranges `from..to`.
    fn among(&self, code: &mut Code, from: usize, to: usize) -> Label {
        if to - from <= 5
            && let Some(label) = self.exceptions(code, from, to)
        {
            return label;
        }
        let middle = self.middle(from, to);
        let upper = self.among(code, middle, to);
        let lower = self.among(code, from, middle);
        code.branch(JGE, self.ranges[middle].start, upper, lower)
    }

    /// Where to split, so that both sides weigh as much as can be.
    fn middle(&self, from: usize, to: usize) -> usize {
        let half = self.weights[from].midpoint(self.weights[to]);
        let middle = from + self.weights[from..to].partition_point(|weight| *weight <= half);
        let off = |at: usize| self.weights[at].abs_diff(half);
        let middle = if middle > from + 1 && off(middle - 1) <= off(middle) { middle - 1 } else { middle };
        middle.clamp(from + 1, to - 1)
    }

    /// Up to two single numbers amid one verdict need no bounds: writes a test for each of them.
    fn exceptions(&self, code: &mut Code, from: usize, to: usize) -> Option<Label> {
        let ranges = &self.ranges[from..to];
        let rule = ranges[0].verdict;
        let mut singles = 0..0;
        if ranges.len() > 1 {
            let lonely = |pair: &[Range]| pair[0].start + 1 == pair[1].start;
            let alternate = ranges.iter().step_by(2).all(|range| range.verdict == rule);
            if ranges.len().is_multiple_of(2) || !alternate || !ranges[1..].chunks_exact(2).all(lonely) {
                return None;
            }
            singles = 0..ranges.len() / 2;
        }
        let mut label = self.leaf(code, rule);
        for single in singles.rev() {
            let Range { start, verdict } = ranges[2 * single + 1];
            let leaf = self.leaf(code, verdict);
            label = code.branch(JEQ, start, leaf, label);
        }
        Some(label)
    }

    fn leaf(&self, code: &mut Code, verdict: Verdict) -> Label {
        match verdict {
            Verdict::Always(verdict) => Label::Return(verdict),
            Verdict::Arguments(index) => {
                let Conditions { wide, level } = &self.conditions[index];
                condition::write(code, level, *wide, Label::Return(self.default))
            }
        }
    }
}
