//! The calls to try on a profile: every number of every architecture and adjacent ones, with arguments around the bounds of the
//! conditions.

use crate::bpf::Call;
use crate::profiles;
use oci_spec::runtime::LinuxSeccomp;
use onggi::plan::seccomp::Arch;
use std::collections::{BTreeMap, BTreeSet};

/// A small generator (xorshift64*), so that the tests are the same on every run.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 3
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub(crate) fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }

    pub(crate) fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

/// The calls to try on a profile.
pub(crate) fn calls(profile: &LinuxSeccomp, native: Arch) -> Vec<Call> {
    let mut random = Random::new(7);
    let table = profiles::table();
    let mut calls = Vec::new();
    let (columns, audits): (&[usize], &[u32]) = match native {
        Arch::Aarch64 | Arch::Arm => (&[3, 4], &[0xc000_00b7, 0x4000_0028]),
        Arch::X86_64 | Arch::X86 | Arch::X32 => (&[0, 1, 2], &[0xc000_003e, 0x4000_0003, 0xc000_003e]),
    };
    let bounds = bounds(profile);
    for (&column, &arch) in columns.iter().zip(audits) {
        // calls with conditions: on x86 both directly and through socketcall or ipc
        let mut conditions: BTreeMap<u32, Vec<[Vec<u64>; 6]>> = BTreeMap::new();
        for row in table {
            let Some(values) = bounds.get(row.name) else { continue };
            if let Some(number) = row.numbers[column] {
                conditions.entry(number).or_default().push(values.clone());
            }
            if column == 1 && row.carrier.is_some() {
                let mut values = values.clone();
                values[0] = (0..26).collect();
                for carrier in [102, 117] {
                    conditions.entry(carrier).or_default().push(values.clone());
                }
            }
        }
        for nr in numbers(column, table) {
            calls.push(Call { arch, nr, args: [0; 6] });
            if column == 1 && (nr == 102 || nr == 117) {
                calls.extend((0..32).map(|first| Call { arch, nr, args: [first, 0, 0, 0, 0, 0] }));
            }
            for values in conditions.get(&nr).into_iter().flatten() {
                for _ in 0..48 {
                    let args = [0, 1, 2, 3, 4, 5].map(|index: usize| argument(&mut random, &values[index]));
                    calls.push(Call { arch, nr, args });
                }
            }
        }
    }
    for arch in [0, 1, 0xc000_003e ^ 1, 0x4000_003e, 0xc000_00f3] {
        calls.push(Call { arch, nr: 0, args: [0; 6] });
    }
    calls
}

/// Every number that an architecture may have, and numbers at bounds.
fn numbers(column: usize, table: &[profiles::Row]) -> BTreeSet<u32> {
    let mut numbers: BTreeSet<u32> = table.iter().filter_map(|row| row.numbers[column]).collect();
    numbers.extend((0..600).map(|number| if column == 2 { number | 0x4000_0000 } else { number }));
    let around = numbers.iter().flat_map(|number| [number.saturating_sub(1), number + 1]).collect::<Vec<_>>();
    numbers.extend(around);
    for bound in
        [0x400, 0x10_000, 0xf_0000, 0x3fff_ffff, 0x4000_0000, 0x4000_0400, 0x7fff_ffff, 0x8000_0000, 0xbfff_ffff_u32]
    {
        numbers.extend([bound - 1, bound, bound + 1]);
    }
    numbers.extend([0xc000_0000, 0xc000_0001, 0xffff_fff0, u32::MAX - 1, u32::MAX]);
    numbers
}

/// By name: the values that its arguments are compared with.
pub(crate) fn bounds(profile: &LinuxSeccomp) -> BTreeMap<&str, [Vec<u64>; 6]> {
    let mut bounds: BTreeMap<&str, [Vec<u64>; 6]> = BTreeMap::new();
    for rule in profile.syscalls().iter().flatten() {
        for name in rule.names() {
            for arg in rule.args().iter().flatten() {
                let values = &mut bounds.entry(name).or_default()[arg.index()];
                values.push(arg.value());
                values.extend(arg.value_two());
            }
        }
    }
    bounds
}

/// A value around one of the bounds.
pub(crate) fn argument(random: &mut Random, bounds: &[u64]) -> u64 {
    let extremes = [0, 1, 0xffff_ffff, 0x1_0000_0000, 0x7fff_ffff_ffff_ffff, u64::MAX];
    if bounds.is_empty() || random.one_in(8) {
        return random.of(&extremes);
    }
    let bound = random.of(bounds);
    let upper = bound & 0xffff_ffff_0000_0000;
    match random.below(12) {
        0..=3 => bound,
        4 => bound.wrapping_add(1),
        5 => bound.wrapping_sub(1),
        6 => bound.wrapping_add(1 << 32),
        7 => bound.wrapping_sub(1 << 32),
        8 => bound ^ (1 << random.below(64)),
        9 => upper | u64::from(random.next() as u32),
        10 => bound | random.of(bounds),
        _ => bound & 0xffff_ffff | random.of(bounds) & 0xffff_ffff_0000_0000,
    }
}
