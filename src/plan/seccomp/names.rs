//! Finds a system call by its name: a hash table over the generated rows, built at compile time. Depends on the table only.

use super::arch::Arch;
use super::row::{NO, Row};
use super::table::ROWS;

/// A call of x86 that is also reached through `socketcall` or `ipc`, whose first argument selects it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Multiplexed {
    /// The slot of `socketcall` or `ipc`.
    pub(super) carrier: u16,
    /// The first argument that selects this call.
    pub(super) call: u8,
}

const SOCKETCALL: u16 = 102;
const IPC: u16 = 117;
/// Added in the table to calls that are reached through `ipc`.
const BEHIND_IPC: u8 = 128;

impl Row {
    /// The slot of the call on an architecture that has it.
    pub(super) fn slot(&self, arch: Arch) -> Option<usize> {
        let raw = self.numbers[arch.column()];
        (raw != NO).then(|| arch.slot(raw))
    }

    /// How x86 reaches the call through another one, if it does.
    pub(super) fn multiplexed(&self) -> Option<Multiplexed> {
        match self.behind {
            0 => None,
            call if call >= BEHIND_IPC => Some(Multiplexed { carrier: IPC, call: call - BEHIND_IPC }),
            call => Some(Multiplexed { carrier: SOCKETCALL, call }),
        }
    }
}

/// Finds a name.
pub(super) fn find(name: &str) -> Option<&'static Row> {
    let mut slot = hash(name.as_bytes());
    loop {
        let row = ROWS.get(usize::from(SLOTS[slot]))?;
        if row.name == name {
            return Some(row);
        }
        slot = (slot + 1) % SLOTS.len();
    }
}

/// The numbers of some names on an architecture, ascending; `NO` for those that it lacks.
pub(super) const fn numbers<const N: usize>(names: &[&str; N], arch: Arch) -> [u16; N] {
    let mut numbers = [NO; N];
    let mut index = 0;
    while index < N {
        let number = number(names[index], arch.column());
        let mut place = index;
        while place > 0 && numbers[place - 1] > number {
            numbers[place] = numbers[place - 1];
            place -= 1;
        }
        numbers[place] = number;
        index += 1;
    }
    numbers
}

const fn number(name: &str, column: usize) -> u16 {
    let mut slot = hash(name.as_bytes());
    while SLOTS[slot] != NO {
        let row = &ROWS[SLOTS[slot] as usize];
        if is_same(row.name.as_bytes(), name.as_bytes()) {
            return row.numbers[column];
        }
        slot = (slot + 1) % SIZE;
    }
    NO
}

const fn is_same(a: &[u8], b: &[u8]) -> bool {
    let mut same = a.len() == b.len();
    let mut index = 0;
    while same && index < a.len() {
        same = a[index] == b[index];
        index += 1;
    }
    same
}

/// A power of two, so much larger than the number of rows that most names are found at the first probe.
const SIZE: usize = 2048;
const _: () = assert!(ROWS.len() * 3 <= SIZE);
/// Indices into `ROWS` by hash, with linear probing; a free slot has an index past the end.
static SLOTS: [u16; SIZE] = slots();

const fn slots() -> [u16; SIZE] {
    let mut slots = [u16::MAX; SIZE];
    let mut index = 0;
    while index < ROWS.len() {
        let mut slot = hash(ROWS[index].name.as_bytes());
        while slots[slot] != u16::MAX {
            slot = (slot + 1) % SIZE;
        }
        // fewer than 2^16 rows: the assertion above
        #[allow(clippy::cast_possible_truncation)]
        let entry = index as u16;
        slots[slot] = entry;
        index += 1;
    }
    slots
}

/// Mixes the first and the last eight bytes: names of system calls differ there.
const fn hash(name: &[u8]) -> usize {
    let mixed = match (name.first_chunk::<8>(), name.last_chunk::<8>()) {
        (Some(first), Some(last)) => u64::from_le_bytes(*first) ^ u64::from_le_bytes(*last).rotate_left(27),
        (Some(_) | None, _) => {
            let mut bytes = 0;
            let mut index = 0;
            while index < name.len() {
                bytes = bytes << 8 | name[index] as u64;
                index += 1;
            }
            bytes
        }
    };
    // the upper bits of a product depend on all bits of its factors, and only those of an index are left
    #[allow(clippy::cast_possible_truncation)]
    let slot = (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - SIZE.trailing_zeros())) as usize;
    slot
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_and_no_other() {
        for row in &ROWS {
            assert!(std::ptr::eq(find(row.name).unwrap(), row), "{}", row.name);
        }
        for name in ["", "x", "reads", "rea", "clock_gettime65", "sched_get_priority_mix", "no_such_system_call_at_all"]
        {
            assert!(find(name).is_none(), "{name}");
        }
    }

    #[test]
    fn numbers_are_the_kernels() {
        // from the manual pages and unistd headers, not from the script
        let rows = [
            ("read", [Some(0), Some(3), Some(0x4000_0000), Some(63), Some(3)]),
            ("clone3", [Some(435), Some(435), Some(0x4000_01b3), Some(435), Some(435)]),
            ("rt_sigaction", [Some(13), Some(174), Some(0x4000_0200), Some(134), Some(174)]),
            ("socketcall", [None, Some(102), None, None, None]),
            ("set_tls", [None, None, None, None, Some(0xf_0005)]),
        ];
        for (name, numbers) in rows {
            let row = find(name).unwrap();
            for (arch, number) in
                [Arch::X86_64, Arch::X86, Arch::X32, Arch::Aarch64, Arch::Arm].into_iter().zip(numbers)
            {
                let found = row.slot(arch).map(|slot| arch.number(u32::try_from(slot).unwrap()));
                assert_eq!(found, number, "{name} of {arch:?}");
            }
        }
    }

    #[test]
    fn hash_spreads() {
        let probes: usize = ROWS
            .iter()
            .map(|row| {
                let home = hash(row.name.as_bytes());
                (0..SIZE).find(|step| std::ptr::eq(&ROWS[usize::from(SLOTS[(home + step) % SIZE])], row)).unwrap()
            })
            .sum();
        assert!(probes * 3 < ROWS.len(), "{probes} extra probes for {} names", ROWS.len());
    }
}
