//! Searches the range of a number: a tree of comparisons with frequent calls near the root. Depends on the assembler and the
//! ranges.

use super::arch::Arch;
use super::condition;
use super::names;
use super::program::{Code, JEQ, JGE, Label};
use super::rules::{Conditions, Range, Verdict};

/// The most frequent calls, from system-wide traces of servers, builds and shells. The order does not matter.
#[rustfmt::skip]
const HOT: [&str; 24] = [
    "read", "write", "futex", "openat", "close", "newfstatat", "fstat", "mmap", "munmap", "mprotect", "brk", "lseek",
    "pread64", "readv", "writev", "recvmsg", "sendmsg", "recvfrom", "sendto", "epoll_wait", "epoll_pwait", "poll",
    "ioctl", "getpid",
];
/// Their numbers, in the table's order of architectures.
static HOT_NUMBERS: [[u16; HOT.len()]; 5] = [
    names::numbers(&HOT, Arch::X86_64),
    names::numbers(&HOT, Arch::X86),
    names::numbers(&HOT, Arch::X32),
    names::numbers(&HOT, Arch::Aarch64),
    names::numbers(&HOT, Arch::Arm),
];
/// The weight of a frequent call; others weigh 1. They count too, because the kernel runs the program for every number when it is
/// installed, to learn which calls are always allowed.
const HEAT: u32 = 16;

/// The ranges of all numbers, each with the weight of all ranges before it.
#[derive(Debug)]
pub(super) struct Search<'a> {
    ranges: &'a [Range],
    weights: Vec<u32>,
    conditions: &'a [Conditions],
    default: u32,
}

impl<'a> Search<'a> {
    /// Weighs the ranges, which ascend from 0, by an architecture's calls. `default` is the verdict on a call whose arguments meet
    /// no condition.
    pub(super) fn new(ranges: &'a [Range], arch: Arch, conditions: &'a [Conditions], default: u32) -> Self {
        let mut weights = Vec::with_capacity(ranges.len() + 1);
        let mut hot = HOT_NUMBERS[arch.column()].iter().map(|number| u32::from(*number)).peekable();
        let calls = u32::try_from(arch.slots()).unwrap_or(u32::MAX);
        let mut weight = 0;
        weights.push(weight);
        for (index, range) in ranges.iter().enumerate() {
            let end = ranges.get(index + 1).map_or(calls, |next| next.start.min(calls));
            weight += 1 + end.saturating_sub(range.start);
            while hot.next_if(|number| *number < end).is_some() {
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
        if self.is_simple(from, to) {
            return self.exceptions(code, from, to);
        }
        let middle = self.middle(from, to);
        let upper = self.among(code, middle, to);
        let lower = self.among(code, from, middle);
        code.branch(JGE, self.ranges[middle].start, upper, lower)
    }

    /// Whether the ranges are one verdict with at most two single numbers as exceptions: these are tested for equality.
    fn is_simple(&self, from: usize, to: usize) -> bool {
        let ranges = &self.ranges[from..to];
        let lonely = |pair: &[Range]| pair[0].start + 1 == pair[1].start;
        matches!(ranges.len(), 1 | 3 | 5)
            && ranges.iter().step_by(2).all(|range| range.verdict == ranges[0].verdict)
            && ranges[1..].chunks_exact(2).all(lonely)
    }

    /// Writes a test for each exception, then the verdict for all others.
    fn exceptions(&self, code: &mut Code, from: usize, to: usize) -> Label {
        let ranges = &self.ranges[from..to];
        let rule = self.leaf(code, ranges[0].verdict);
        ranges[1..].chunks_exact(2).rev().fold(rule, |others, pair| {
            let leaf = self.leaf(code, pair[0].verdict);
            code.branch(JEQ, pair[0].start, leaf, others)
        })
    }

    /// Where to split, so that both sides have about the same weight.
    fn middle(&self, from: usize, to: usize) -> usize {
        let half = self.weights[from].midpoint(self.weights[to]);
        let middle = from + self.weights[from..to].partition_point(|weight| *weight <= half);
        let off = |at: usize| self.weights[at].abs_diff(half);
        let middle = if middle > from + 1 && off(middle - 1) <= off(middle) { middle - 1 } else { middle };
        middle.clamp(from + 1, to - 1)
    }

    fn leaf(&self, code: &mut Code, verdict: Verdict) -> Label {
        match verdict {
            Verdict::Always(verdict) => Label::Return(verdict),
            Verdict::Arguments(index) => {
                let Conditions { wide, chain } = &self.conditions[index as usize];
                condition::write(code, chain, *wide, Label::Return(self.default))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hot_calls_are_in_the_table() {
        for name in HOT {
            assert!(names::find(name).is_some(), "{name}");
        }
        let x86_64 = HOT_NUMBERS[Arch::X86_64.column()];
        assert!(x86_64.is_sorted() && x86_64.contains(&0) && x86_64.contains(&257), "{x86_64:?}");
    }
}
