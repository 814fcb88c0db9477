//! An assembler for classic BPF that writes a program from its end to its start. Jumps go forwards only, so every target
//! is already there when a jump is written and its distance is known: what is out of reach of the eight bits of a
//! conditional jump gets a stepping stone beside the jump. Depends on `seccompiler`'s instruction only.

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
/// How far a conditional jump reaches, less the stepping stones that one jump may need.
const REACH: usize = 255 - 2;

/// A place to go on from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Label {
    /// Ends with a verdict (`SECCOMP_RET_*`). All that end with the same one share a leaf where it is in reach.
    Return(u32),
    /// An instruction, by its distance from the end of the program.
    At(usize),
}

/// A program, last instruction first.
#[derive(Debug, Default)]
pub(super) struct Code {
    backwards: Vec<sock_filter>,
    /// The leaf of each verdict that was written last.
    leaves: BTreeMap<u32, usize>,
}

impl Code {
    /// An empty program with room for what a real profile needs.
    pub(super) fn new() -> Self {
        Self { backwards: Vec::with_capacity(512), leaves: BTreeMap::new() }
    }

    /// Loads a word of `seccomp_data` and goes on at `then`.
    pub(super) fn load(&mut self, offset: u32, then: Label) -> Label {
        self.before(then, LD_W_ABS, offset)
    }

    /// Keeps the bits of `mask` and goes on at `then`.
    pub(super) fn and(&mut self, mask: u32, then: Label) -> Label {
        self.before(then, ALU_AND_K, mask)
    }

    /// Goes on at `yes` or `no`, by comparing what was loaded with `k`.
    pub(super) fn branch(&mut self, comparison: u16, k: u32, yes: Label, no: Label) -> Label {
        if yes == no {
            return yes;
        }
        let yes = self.in_reach(yes);
        let no = self.in_reach(no);
        let (jt, jf) = (self.distance(yes), self.distance(no));
        self.write(comparison, jt, jf, k)
    }

    /// The program in its right order, if it is one that starts at `start`.
    pub(super) fn finish(mut self, start: Label) -> Vec<sock_filter> {
        if let Label::Return(verdict) = start {
            self.write(RET_K, 0, 0, verdict);
        } else if start != self.top() {
            self.jump(start);
        }
        self.backwards.reverse();
        self.backwards
    }

    /// A statement that falls through to `then`. Nothing but a verdict depends on what a load or a mask leaves behind, so
    /// before a verdict there is no need for it.
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

    /// Where the target can be reached by the next conditional jump: itself, or a stepping stone written now.
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
