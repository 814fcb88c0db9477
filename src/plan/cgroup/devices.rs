//! `linux.resources.devices` → writes for the v1 devices controller, or a BPF program for cgroup2.
//!
//! Pure. The rules apply in their order, starting with "nothing is allowed", and are followed by the nodes that every container
//! may use. For each of read, write and mknod the last matching rule decides. The program does exactly that; v1 only
//! understands a list of exceptions.

use super::{Absent, CgroupFacts, Version, Write};
use crate::error::{Error, Result};
use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};
use std::borrow::Cow;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

/// How access to devices is restricted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Devices {
    /// Not at all: everything is allowed, or there is no cgroup.
    #[default]
    Unrestricted,
    /// Writes to `devices.deny` and `devices.allow`.
    V1(Vec<Write>),
    /// A program of type `BPF_PROG_TYPE_CGROUP_DEVICE`; each element is one `struct bpf_insn`.
    Bpf(Vec<u64>),
}

/// The type of a device, with the number of `BPF_DEVCG_DEV_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Type {
    Block = 1,
    Char = 2,
}

const MKNOD: u8 = 1;
const READ: u8 = 2;
const WRITE: u8 = 4;
const ALL: u8 = MKNOD | READ | WRITE;

/// One rule; `None` means any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rule {
    allow: bool,
    node: Option<Type>,
    major: Option<u32>,
    minor: Option<u32>,
    /// `MKNOD`, `READ`, `WRITE`.
    access: u8,
}

const fn allow(node: Type, major: Option<u32>, minor: Option<u32>, access: u8) -> Rule {
    Rule { allow: true, node: Some(node), major, minor, access }
}

/// Allowed in every container, whatever the rules say: creating any node (not using it), the nodes that the spec demands,
/// terminals, and the tun device as in runc.
const DEFAULTS: [Rule; 11] = [
    allow(Type::Char, None, None, MKNOD),
    allow(Type::Block, None, None, MKNOD),
    allow(Type::Char, Some(1), Some(3), ALL),    // null
    allow(Type::Char, Some(1), Some(8), ALL),    // random
    allow(Type::Char, Some(1), Some(7), ALL),    // full
    allow(Type::Char, Some(5), Some(0), ALL),    // tty
    allow(Type::Char, Some(1), Some(5), ALL),    // zero
    allow(Type::Char, Some(1), Some(9), ALL),    // urandom
    allow(Type::Char, Some(136), None, ALL),     // pts/*
    allow(Type::Char, Some(5), Some(2), ALL),    // ptmx
    allow(Type::Char, Some(10), Some(200), ALL), // net/tun
];

/// Plans the filter.
pub(super) fn plan(list: &[LinuxDeviceCgroup], facts: &CgroupFacts) -> Result<Devices> {
    let rules = rules(list)?;
    match facts.version("devices", "devices") {
        Version::V1 => v1(&rules).map(Devices::V1),
        // on a hybrid machine cgroup2 does not list `devices`: it is no controller there, but a BPF hook
        Version::V2 | Version::Nowhere if facts.tree().is_some() => {
            Ok(bpf(&rules)?.map_or(Devices::Unrestricted, Devices::Bpf))
        }
        Version::V2 | Version::Nowhere => Err(Error::msg("mountpoint for devices not found")
            .with_hint("without the devices controller of cgroup v1 or a cgroup2 mount no device rule would hold")),
    }
}

/// The bundle's rules and the defaults, in their order.
fn rules(list: &[LinuxDeviceCgroup]) -> Result<Vec<Rule>> {
    let mut rules = list.iter().enumerate().map(|(i, rule)| parse(rule, i)).collect::<Result<Vec<_>>>()?;
    rules.extend(DEFAULTS);
    Ok(rules)
}

fn parse(rule: &LinuxDeviceCgroup, i: usize) -> Result<Rule> {
    let wrong = |key: &str, what: String| Error::spec(format!("linux.resources.devices[{i}].{key}"), what);
    let node = match rule.typ() {
        None | Some(LinuxDeviceType::A) => None,
        Some(LinuxDeviceType::B) => Some(Type::Block),
        Some(LinuxDeviceType::C | LinuxDeviceType::U) => Some(Type::Char),
        Some(LinuxDeviceType::P) => return Err(wrong("type", "invalid cgroup device type \"p\"".to_owned())),
    };
    let mut access = 0;
    for letter in rule.access().iter().flat_map(|text| text.chars()) {
        access |= match letter {
            'm' => MKNOD,
            'r' => READ,
            'w' => WRITE,
            // some bundles have it beside the other letters; it has no meaning, and runc ignores it
            'a' => 0,
            other => return Err(wrong("access", format!("unknown access {:?}", other.to_string()))),
        };
    }
    if access == 0 {
        return Err(wrong("access", format!("device access at {i} field cannot be empty")));
    }
    let number = |key: &str, value: Option<i64>| match value {
        None | Some(-1) => Ok(None),
        Some(n) => u32::try_from(n).map(Some).map_err(|_| wrong(key, format!("{n} is no device number"))),
    };
    let (major, minor) = (number("major", rule.major())?, number("minor", rule.minor())?);
    Ok(Rule { allow: rule.allow(), node, major, minor, access })
}

/// The rules as far as systemd can express them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Allowed {
    /// No filter.
    Everything,
    /// `DeviceAllow=`: nodes and accesses; nothing else is allowed.
    These(Vec<(String, String)>),
    /// They can't be expressed.
    Inexpressible,
}

/// The rules as systemd's `DeviceAllow=` (systemd.resource-control(5)): `/dev/char/1:3`, `char-136` for all of a major number,
/// `char-*` for all.
pub(super) fn for_systemd(list: &[LinuxDeviceCgroup]) -> Result<Allowed> {
    let rules = rules(list)?;
    let (decisive, default) = decisive(&rules);
    if default {
        return Ok(if decisive.is_empty() { Allowed::Everything } else { Allowed::Inexpressible });
    }
    // systemd can only express a list of exceptions, as v1
    let Ok((false, exceptions)) = exceptions(&rules) else { return Ok(Allowed::Inexpressible) };
    let mut these = Vec::new();
    for ((kind, major, minor), access) in &exceptions {
        let word = if *kind == Type::Block { "block" } else { "char" };
        let node = match (major, minor) {
            (Some(major), Some(minor)) => format!("/dev/{word}/{major}:{minor}"),
            (Some(major), None) => format!("{word}-{major}"),
            (None, None) => format!("{word}-*"),
            (None, Some(_)) => return Ok(Allowed::Inexpressible),
        };
        these.push((node, letters(*access)));
    }
    Ok(Allowed::These(these))
}

/// The device of a v1 exception; `None` means `*`.
type Node = (Type, Option<u32>, Option<u32>);

/// The rules as exceptions to "everything" (`true`) or to "nothing".
fn exceptions(rules: &[Rule]) -> Result<(bool, BTreeMap<Node, u8>)> {
    let mut allow_all = false;
    let mut exceptions: BTreeMap<Node, u8> = BTreeMap::new();
    for rule in rules {
        if (rule.node, rule.major, rule.minor, rule.access) == (None, None, None, ALL) {
            allow_all = rule.allow;
            exceptions.clear();
            continue;
        }
        let types = rule.node.map_or_else(|| vec![Type::Block, Type::Char], |node| vec![node]);
        for node in types {
            let node = (node, rule.major, rule.minor);
            if rule.allow != allow_all {
                *exceptions.entry(node).or_default() |= rule.access;
            } else {
                take_back(&mut exceptions, node, rule.access)?;
            }
        }
    }
    Ok((allow_all, exceptions))
}

/// The writes that apply the rules to a new v1 cgroup, which allows what its parent allows.
fn v1(rules: &[Rule]) -> Result<Vec<Write>> {
    let (allow_all, exceptions) = exceptions(rules)?;
    let write = |allow: bool, value: String| Write {
        hierarchy: Cow::Borrowed("devices"),
        file: Cow::Borrowed(if allow { "devices.allow" } else { "devices.deny" }),
        value,
        field: Cow::Borrowed("linux.resources.devices"),
        absent: Absent::Fail,
        retry_on_einval: false,
    };
    let mut writes = vec![write(allow_all, "a".to_owned())];
    writes.extend(exceptions.iter().map(|(node, access)| write(!allow_all, spell(node, *access))));
    Ok(writes)
}

/// Removes an exception. The kernel removes exact matches only, and silently ignores anything else. So a rule that would remove a
/// part of a wider exception is an error.
fn take_back(exceptions: &mut BTreeMap<Node, u8>, node: Node, access: u8) -> Result<()> {
    let (kind, major, minor) = node;
    for wider in [(kind, None, minor), (kind, major, None), (kind, None, None)] {
        let Some(held) = exceptions.get(&wider).filter(|held| wider != node && **held & access != 0) else { continue };
        let (node, wider) = (spell(&node, access), spell(&wider, *held));
        return Err(Error::spec(
            "linux.resources.devices",
            format!("rule {node:?} not supported by devices cgroupv1 (cannot punch hole in existing rule {wider:?})"),
        ));
    }
    if let Entry::Occupied(mut held) = exceptions.entry(node) {
        *held.get_mut() &= !access;
        if *held.get() == 0 {
            held.remove();
        }
    }
    Ok(())
}

/// An exception in the form of the v1 files: `c 1:3 rwm`.
fn spell((kind, major, minor): &Node, access: u8) -> String {
    let number = |n: &Option<u32>| n.map_or_else(|| "*".to_owned(), |n| n.to_string());
    let letter = if *kind == Type::Block { 'b' } else { 'c' };
    format!("{letter} {}:{} {}", number(major), number(minor), letters(access))
}

fn letters(access: u8) -> String {
    [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')].iter().filter(|(bit, _)| access & bit != 0).map(|(_, c)| c).collect()
}

/// eBPF instructions (`struct bpf_insn` as one word); the kernel's `bpf/standardization/instruction-set.rst`.
mod insn {
    const fn word(op: u8, dst: u8, src: u8, off: u16, imm: u32) -> u64 {
        let (op, dst, src, off, imm) = (op as u64, dst as u64, src as u64, off as u64, imm as u64);
        if cfg!(target_endian = "big") {
            op << 56 | dst << 52 | src << 48 | off << 32 | imm
        } else {
            op | dst << 8 | src << 12 | off << 16 | imm << 32
        }
    }
    /// `dst = *(u32 *)(src + off)`
    pub(super) const fn load(dst: u8, src: u8, off: u16) -> u64 {
        word(0x61, dst, src, off, 0)
    }
    /// `dst = src`, 32 bits.
    pub(super) const fn copy(dst: u8, src: u8) -> u64 {
        word(0xbc, dst, src, 0, 0)
    }
    /// `dst = imm`, 32 bits.
    pub(super) const fn set(dst: u8, imm: u32) -> u64 {
        word(0xb4, dst, 0, 0, imm)
    }
    /// `dst &= imm`, 32 bits.
    pub(super) const fn and(dst: u8, imm: u32) -> u64 {
        word(0x54, dst, 0, 0, imm)
    }
    /// `dst >>= imm`, 32 bits.
    pub(super) const fn shift_right(dst: u8, imm: u32) -> u64 {
        word(0x74, dst, 0, 0, imm)
    }
    /// `dst >>= src`, 32 bits.
    pub(super) const fn shift_right_by(dst: u8, src: u8) -> u64 {
        word(0x7c, dst, src, 0, 0)
    }
    /// Skips `off` instructions if `dst > imm`, 32 bits, unsigned.
    pub(super) const fn skip_if_above(dst: u8, imm: u32, off: u16) -> u64 {
        word(0x26, dst, 0, off, imm)
    }
    /// Skips `off` instructions if `dst != imm`, 32 bits.
    pub(super) const fn skip_unless(dst: u8, imm: u32, off: u16) -> u64 {
        word(0x56, dst, 0, off, imm)
    }
    /// Skips `off` instructions if `dst == imm`, 32 bits.
    pub(super) const fn skip_if(dst: u8, imm: u32, off: u16) -> u64 {
        word(0x16, dst, 0, off, imm)
    }
    /// Returns r0.
    pub(super) const EXIT: u64 = word(0x95, 0, 0, 0, 0);
}

/// r0: the result.
const ANSWER: u8 = 0;
/// r1: at the start `struct bpf_cgroup_dev_ctx { u32 access_type, major, minor; }`; then scratch.
const SCRATCH: u8 = 1;
/// r2: block or char.
const TYPE: u8 = 2;
/// r3: the requested accesses that no rule has allowed yet.
const ACCESS: u8 = 3;
/// r4, r5: the device's numbers.
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

fn answer(allow: bool) -> [u64; 2] {
    [insn::set(ANSWER, u32::from(allow)), insn::EXIT]
}

/// Instructions that are executed only if a register has the value.
fn only_if(register: u8, value: Option<u32>, mut code: Vec<u64>) -> Vec<u64> {
    if let Some(value) = value {
        code.insert(0, insn::skip_unless(register, value, over(&code)));
    }
    code
}

/// The length of a jump over `code`. (A program too long for a jump is refused before it is used.)
fn over(code: &[u64]) -> u16 {
    u16::try_from(code.len()).unwrap_or(u16::MAX)
}

/// The rules as a program: the last rule first, each of them deciding the accesses that no later rule has decided. `None` if
/// they allow everything.
///
/// The kernel verifies every path through a program when it is loaded, and each conditional jump may double their number, which
/// costs time at each start. So consecutive rules with the same verdict for all accesses are grouped by type and major number,
/// and small minor numbers are looked up in a bit mask.
fn bpf(rules: &[Rule]) -> Result<Option<Vec<u64>>> {
    let (rules, default) = decisive(rules);
    if default && rules.is_empty() {
        return Ok(None);
    }
    let mut code = vec![
        insn::load(TYPE, SCRATCH, 0),
        insn::copy(ACCESS, TYPE),
        insn::and(TYPE, 0xffff),
        insn::shift_right(ACCESS, 16),
        insn::load(MAJOR, SCRATCH, 4),
        insn::load(MINOR, SCRATCH, 8),
    ];
    for alike in rules.chunk_by(|a, b| (a.allow, a.access) == (b.allow, b.access)) {
        let alike = whichever(alike);
        for node in [None, Some(Type::Char), Some(Type::Block)] {
            let of_type = alike.iter().filter(|rule| rule.node == node).copied();
            code.extend(only_if(TYPE, node.map(|node| node as u32), by_number(of_type)));
        }
    }
    code.extend(answer(default));
    // the kernel accepts a million instructions from privileged callers; so many rules are a mistake
    if code.len() > usize::from(u16::MAX) {
        return Err(Error::spec("linux.resources.devices", "too many rules for one BPF program"));
    }
    Ok(Some(code))
}

/// Merges a char rule and a block rule that are otherwise equal into one rule for any type.
fn whichever(alike: &[Rule]) -> Vec<Rule> {
    let known: BTreeSet<_> = alike.iter().map(|rule| (rule.node, rule.major, rule.minor)).collect();
    let merged = alike.iter().filter_map(|rule| {
        let other = |node| known.contains(&(Some(node), rule.major, rule.minor));
        match rule.node {
            Some(Type::Char) if other(Type::Block) => Some(Rule { node: None, ..*rule }),
            Some(Type::Block) if other(Type::Char) => None,
            _ => Some(*rule),
        }
    });
    merged.collect()
}

/// Code for rules of one verdict and one type.
fn by_number(rules: impl Iterator<Item = Rule>) -> Vec<u64> {
    let mut majors: BTreeMap<Option<u32>, Vec<Rule>> = BTreeMap::new();
    rules.for_each(|rule| majors.entry(rule.major).or_default().push(rule));
    majors.into_iter().flat_map(|(major, rules)| only_if(MAJOR, major, by_minor(&rules))).collect()
}

/// Code for rules of one verdict, one type and one major number.
fn by_minor(rules: &[Rule]) -> Vec<u64> {
    let Some(first) = rules.first() else { return Vec::new() };
    let small = |rule: &&Rule| first.access == ALL && rule.minor.is_some_and(|minor| minor < u32::BITS);
    let bits = rules.iter().filter(small).filter_map(|rule| rule.minor).fold(0_u32, |bits, minor| bits | 1 << minor);
    let in_bits = bits.count_ones() > 1;
    let mut code = Vec::new();
    if in_bits {
        let mut found = vec![insn::set(ANSWER, bits), insn::shift_right_by(ANSWER, MINOR), insn::and(ANSWER, 1)];
        // for an allowing rule, the bit in r0 is the result already
        let verdict = if first.allow { vec![insn::EXIT] } else { answer(false).to_vec() };
        found.push(insn::skip_if(ANSWER, 0, over(&verdict)));
        found.extend(verdict);
        code.push(insn::skip_if_above(MINOR, u32::BITS - 1, over(&found)));
        code.extend(found);
    }
    for rule in rules.iter().filter(|rule| !(in_bits && small(rule))) {
        code.extend(only_if(MINOR, rule.minor, verdict(rule)));
    }
    code
}

/// The rules that can change a result, from the last to the first, and the result if none of them matches.
fn decisive(rules: &[Rule]) -> (Vec<Rule>, bool) {
    let mut decisive: Vec<Rule> = Vec::new();
    // the accesses that later rules decide, by device
    let mut decided = BTreeMap::new();
    let mut default = false;
    for rule in rules.iter().rev() {
        if (rule.node, rule.major, rule.minor, rule.access) == (None, None, None, ALL) {
            default = rule.allow;
            break;
        }
        let decided: &mut u8 = decided.entry((rule.node, rule.major, rule.minor)).or_default();
        let access = rule.access & !*decided;
        if access != 0 {
            decisive.push(Rule { access, ..*rule });
            *decided |= access;
        }
    }
    while decisive.last().is_some_and(|rule| rule.allow == default) {
        decisive.pop();
    }
    (decisive, default)
}

/// The code of a rule for a device that it matches.
fn verdict(rule: &Rule) -> Vec<u64> {
    let mut code = match (rule.allow, rule.access) {
        (_, ALL) => Vec::new(),
        // allows these accesses; goes on with the others, if any
        (true, access) => vec![insn::and(ACCESS, u32::from(!access & ALL)), insn::skip_unless(ACCESS, 0, 2)],
        (false, access) => {
            vec![insn::copy(SCRATCH, ACCESS), insn::and(SCRATCH, u32::from(access)), insn::skip_if(SCRATCH, 0, 2)]
        }
    };
    code.extend(answer(rule.allow));
    code
}

#[cfg(test)]
mod tests;
