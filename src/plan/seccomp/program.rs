//! An assembler for classic BPF that writes a program from its end to its start. Jumps only go forwards, so the target of each
//! jump is written before the jump, and its distance is known. A target that is too far for the eight bits of a conditional jump
//! is reached through an unconditional jump next to it. Depends on `seccompiler`'s instruction only.

use seccompiler::sock_filter;
use std::collections::BTreeMap;

/// `BPF_JMP | BPF_JEQ | BPF_K`: equal.
pub(super) const JEQ: u16 = 0x15;
/// `BPF_JMP | BPF_JGT | BPF_K`: greater, unsigned.
pub(super) const JGT: u16 = 0x25;
/// `BPF_JMP | BPF_JGE | BPF_K`: greater or equal, unsigned.
pub(super) const JGE: u16 = 0x35;
/// `BPF_JMP | BPF_JSET | BPF_K`: any bit in common.
pub(super) const JSET: u16 = 0x45;
const JA: u16 = 0x05;
const LD_W_ABS: u16 = 0x20;
const ALU_AND_K: u16 = 0x54;
const RET_K: u16 = 0x06;

/// The most instructions that the kernel takes (`BPF_MAXINSNS`).
pub(super) const MOST: usize = 4096;
/// How far a conditional jump reaches, less the two unconditional jumps that it may need next to it.
const REACH: usize = 255 - 2;

/// A target of a jump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Label {
    /// Returns a verdict (`SECCOMP_RET_*`). Jumps to the same verdict share a return instruction that is in reach.
    Return(u32),
    /// An instruction, by its distance from the end of the program.
    At(usize),
}

/// A program, last instruction first.
#[derive(Debug, Default)]
pub(super) struct Code {
    backwards: Vec<sock_filter>,
    /// The last written return instruction for each verdict.
    leaves: BTreeMap<u32, usize>,
}

impl Code {
    /// An empty program with capacity for a real profile.
    pub(super) fn new() -> Self {
        Self { backwards: Vec::with_capacity(512), leaves: BTreeMap::new() }
    }

    /// Loads a word of `seccomp_data` and continues at `then`.
    pub(super) fn load(&mut self, offset: u32, then: Label) -> Label {
        self.before(then, LD_W_ABS, offset)
    }

    /// Keeps the bits of `mask` and continues at `then`.
    pub(super) fn and(&mut self, mask: u32, then: Label) -> Label {
        self.before(then, ALU_AND_K, mask)
    }

    /// Compares the loaded value with `k` and continues at `yes` or `no`.
    pub(super) fn branch(&mut self, comparison: u16, k: u32, yes: Label, no: Label) -> Label {
        if yes == no {
            return yes;
        }
        let yes = self.in_reach(yes);
        let no = self.in_reach(no);
        let (jt, jf) = (self.distance(yes), self.distance(no));
        self.write(comparison, jt, jf, k)
    }

    /// The program in execution order, starting at `start`.
    pub(super) fn finish(mut self, start: Label) -> Vec<sock_filter> {
        if let Label::Return(verdict) = start {
            self.write(RET_K, 0, 0, verdict);
        } else if start != self.top() {
            self.jump(start);
        }
        self.backwards.reverse();
        self.backwards
    }

    /// An instruction that continues at `then`. It is left out if `then` is a verdict, because a verdict does not use what was
    /// loaded.
    fn before(&mut self, then: Label, code: u16, k: u32) -> Label {
        match then {
            Label::Return(_) => return then,
            Label::At(_) if then == self.top() => {}
            Label::At(_) => {
                self.jump(then);
            }
        }
        self.write(code, 0, 0, k)
    }

    fn top(&self) -> Label {
        Label::At(self.backwards.len().wrapping_sub(1))
    }

    fn write(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> Label {
        self.backwards.push(sock_filter { code, jt, jf, k });
        self.top()
    }

    /// An unconditional jump: its distance has 32 bits.
    fn jump(&mut self, to: Label) -> Label {
        match to {
            Label::Return(verdict) => self.write(RET_K, 0, 0, verdict),
            Label::At(at) => {
                let distance = u32::try_from(self.backwards.len() - 1 - at).unwrap_or(u32::MAX);
                self.write(JA, 0, 0, distance)
            }
        }
    }

    /// An instruction in reach of the next conditional jump: the target, or an unconditional jump to it that is written now.
    fn in_reach(&mut self, to: Label) -> usize {
        let here = self.backwards.len();
        match to {
            Label::At(at) if here - at <= REACH => at,
            Label::At(_) => {
                self.jump(to);
                here
            }
            Label::Return(verdict) => {
                let leaf = self.leaves.entry(verdict).or_insert(here);
                if *leaf != here && here - *leaf <= REACH {
                    return *leaf;
                }
                *leaf = here;
                self.jump(to);
                here
            }
        }
    }

    /// The distance from the next instruction to one that is in reach.
    fn distance(&self, at: usize) -> u8 {
        u8::try_from(self.backwards.len() - 1 - at).unwrap_or(u8::MAX)
    }
}
