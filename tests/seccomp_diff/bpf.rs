//! An interpreter for the part of BPF that seccomp allows, with the kernel's checks of programs.

/// An instruction: code, jump if true, jump if false, operand.
pub(crate) type Instruction = (u16, u8, u8, u32);

/// What a filter sees of a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) arch: u32,
    pub(crate) nr: u32,
    pub(crate) args: [u64; 6],
}

impl Call {
    /// A word of `struct seccomp_data` on a little-endian machine.
    fn word(&self, offset: u32) -> u32 {
        let (index, upper) = ((offset as usize).wrapping_sub(16) / 8, offset % 8 == 4);
        match offset {
            0 => self.nr,
            4 => self.arch,
            8 | 12 => 0,
            16..=60 if upper => (self.args[index] >> 32) as u32,
            16..=60 => self.args[index] as u32,
            _ => panic!("load from {offset}"),
        }
    }
}

/// The program's return value, and how many instructions it took.
pub(crate) fn run(program: &[Instruction], call: &Call) -> (u32, usize) {
    let (mut at, mut a, mut steps) = (0, 0_u32, 0);
    loop {
        let (code, jt, jf, k) = program[at];
        at += 1;
        steps += 1;
        let jump = |yes: bool| usize::from(if yes { jt } else { jf });
        match code {
            0x20 => a = call.word(k),
            0x54 => a &= k,
            0x05 => at += k as usize,
            0x15 => at += jump(a == k),
            0x25 => at += jump(a > k),
            0x35 => at += jump(a >= k),
            0x45 => at += jump(a & k != 0),
            0x06 => return (k, steps),
            _ => panic!("instruction {code:#x}"),
        }
    }
}

/// Checks what the kernel checks (`bpf_check_classic`, `seccomp_check_filter`): loads only words of `seccomp_data`, jumps stay
/// inside, the last instruction is a return. Also checks that every instruction can be reached.
pub(crate) fn check(program: &[Instruction]) {
    assert!((1..=4096).contains(&program.len()), "{} instructions", program.len());
    assert_eq!(program[program.len() - 1].0, 0x06, "the last instruction is no return");
    let mut reached = vec![false; program.len()];
    reached[0] = true;
    for (at, &(code, jt, jf, k)) in program.iter().enumerate() {
        assert!(reached[at], "instruction {at} is on no path");
        let mut reach = |distance: usize| reached[at + 1 + distance] = true;
        match code {
            0x20 => {
                assert!(k % 4 == 0 && k < 64, "load from {k}");
                reach(0);
            }
            0x54 => reach(0),
            0x05 => reach(k as usize),
            0x15 | 0x25 | 0x35 | 0x45 => {
                reach(usize::from(jt));
                reach(usize::from(jf));
            }
            0x06 => {}
            _ => panic!("instruction {code:#x}"),
        }
    }
}
