//! The whole program: first the architecture, then the number. Depends on the search and the assembler.

use super::arch::{Arch, X32_BIT};
use super::program::{Code, JEQ, Label};
use super::rules::{Range, Rules, Sorted, Verdict, push};
use super::search::Search;
use seccompiler::sock_filter;

/// `SECCOMP_RET_KILL_THREAD`: libseccomp's verdict on an architecture that the profile does not list.
const BAD_ARCH: Verdict = Verdict::Always(0);
/// Where `seccomp_data` holds the number.
const NUMBER: u32 = 0;
/// Where `seccomp_data` holds the architecture.
const ARCHITECTURE: u32 = 4;

/// Writes the program. The first architecture is the native one, which is tested first.
pub(super) fn write(sorted: &Sorted, default: u32, newer: Option<u32>) -> Vec<sock_filter> {
    let mut code = Code::new();
    let mut label = Label::Return(0);
    let x32 = sorted.rules.iter().find(|rules| rules.arch == Arch::X32);
    let mut ranges = Vec::with_capacity(256);
    for rules in sorted.rules.iter().rev().filter(|rules| rules.arch != Arch::X32) {
        ranges.clear();
        rules.ranges(default, newer, &mut ranges);
        if rules.arch == Arch::X86_64 {
            beyond_x86_64(rules, x32, default, newer, &mut ranges);
        }
        let numbers = Search::new(&ranges, rules.arch, &sorted.conditions, default).write(&mut code);
        let numbers = code.load(NUMBER, numbers);
        label = code.branch(JEQ, rules.arch.audit(), numbers, label);
    }
    let start = code.load(ARCHITECTURE, label);
    code.finish(start)
}

/// Adds the ranges for numbers with bit 30 under x86_64: they are x32's, and not allowed if x32 is not listed. Number -1 is not a
/// call: a tracer sets it to skip one, so it must not be killed for.
fn beyond_x86_64(rules: &Rules, x32: Option<&Rules>, default: u32, newer: Option<u32>, ranges: &mut Vec<Range>) {
    let default_verdict = Verdict::Always(default);
    let unlisted = if x32.is_some() { default_verdict } else { BAD_ARCH };
    let without_bit = rules.newer(newer).map_or(unlisted, Verdict::Always);
    let with_bit = match x32 {
        Some(x32) => x32.newer(newer).map_or(default_verdict, Verdict::Always),
        None => BAD_ARCH,
    };
    match x32 {
        Some(x32) => x32.ranges(default, newer, ranges),
        None => push(ranges, X32_BIT, BAD_ARCH),
    }
    push(ranges, 2 * X32_BIT, without_bit);
    push(ranges, 3 * X32_BIT, with_bit);
    if x32.is_none() {
        push(ranges, u32::MAX, default_verdict);
    }
}
