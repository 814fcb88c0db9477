//! Random profiles.

use crate::probe::Random;
use oci_spec::runtime::LinuxSeccomp;
use serde_json::{Value, json};

/// The kind of profiles to generate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Profiles for which libseccomp's verdict does not depend on how it stores rules.
    Clear,
    /// All.
    Any,
}

const ACTIONS: [(&str, Option<u32>); 10] = [
    ("SCMP_ACT_ALLOW", None),
    ("SCMP_ACT_ALLOW", None),
    ("SCMP_ACT_ERRNO", None),
    ("SCMP_ACT_ERRNO", Some(13)),
    ("SCMP_ACT_ERRNO", Some(38)),
    ("SCMP_ACT_TRACE", Some(700)),
    ("SCMP_ACT_LOG", None),
    ("SCMP_ACT_TRAP", None),
    ("SCMP_ACT_KILL", None),
    ("SCMP_ACT_KILL_PROCESS", None),
];
const OPERATORS: [&str; 7] =
    ["SCMP_CMP_EQ", "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_GE", "SCMP_CMP_GT"];

/// A profile with rules for some of the names.
pub(crate) fn profile(random: &mut Random, names: &[&str], kind: Kind) -> LinuxSeccomp {
    let (default, errno) = random.of(&ACTIONS);
    let mut rules = Vec::new();
    let mut about: Vec<&str> = (0..=random.below(12)).map(|_| random.of(names)).collect();
    about.sort_unstable();
    about.dedup();
    for _ in 0..random.below(4) {
        let action = random.of(&ACTIONS);
        let names = (0..random.below(60)).map(|_| random.of(names)).filter(|name| !about.contains(name));
        let names: Vec<_> = names.collect();
        // a rule without names is refused
        if !names.is_empty() {
            rules.push(rule(&names, action, &[]));
        }
    }
    for name in &about {
        match kind {
            Kind::Clear => clear(random, name, &mut rules),
            Kind::Any => any(random, name, &mut rules),
        }
    }
    shuffle(random, &mut rules);
    let all = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"];
    let mut archs: Vec<&str> = all.into_iter().filter(|_| !random.one_in(3)).collect();
    shuffle(random, &mut archs);
    let mut profile =
        json!({ "defaultAction": default, "architectures": archs, "syscalls": rules, "listenerPath": "/agent" });
    if let Some(errno) = errno {
        profile["defaultErrnoRet"] = json!(errno);
    }
    serde_json::from_value(profile).unwrap()
}

/// A profile with conditions for this many calls, so that the program needs jumps longer than 255 instructions.
pub(crate) fn large(random: &mut Random, names: &[&str], calls: usize) -> LinuxSeccomp {
    let mut names = names.to_vec();
    shuffle(random, &mut names);
    let mut rules = Vec::new();
    for name in &names[..calls] {
        for _ in 0..4 {
            let argument = json!({ "index": 1, "value": random.next(), "op": "SCMP_CMP_EQ" });
            rules.push(rule(&[name], random.of(&ACTIONS), &[argument]));
        }
    }
    let archs = ["SCMP_ARCH_X86", "SCMP_ARCH_ARM"];
    let profile = json!({ "defaultAction": "SCMP_ACT_ERRNO", "architectures": archs, "syscalls": rules });
    serde_json::from_value(profile).unwrap()
}

/// Rules for one call whose conditions do not overlap, or that agree where they do.
fn clear(random: &mut Random, name: &str, rules: &mut Vec<Value>) {
    let action = random.of(&ACTIONS);
    let index = random.below(6);
    match random.below(4) {
        // alternatives with one condition each
        0 => {
            for _ in 0..=random.below(6) {
                let index = if random.one_in(3) { random.below(6) } else { index };
                let operator = random.of(&OPERATORS);
                rules.push(rule(&[name], action, &[condition(random, index, operator)]));
            }
        }
        // several conditions, all of them equality
        1 => {
            for _ in 0..=random.below(4) {
                let args: Vec<Value> = indices(random).map(|index| condition(random, index, "SCMP_CMP_EQ")).collect();
                rules.push(rule(&[name], action, &args));
            }
        }
        // one rule with several conditions of all kinds
        2 => {
            let args: Vec<Value> = indices(random)
                .map(|index| {
                    let operator = random.of(&OPERATORS);
                    condition(random, index, operator)
                })
                .collect();
            rules.push(rule(&[name], action, &args));
        }
        // values of one argument, each with its action
        _ => {
            let first = value(random);
            for step in 0..=random.below(6) as u64 {
                let argument = json!({ "index": index, "value": first.wrapping_add(step), "op": "SCMP_CMP_EQ" });
                rules.push(rule(&[name], random.of(&ACTIONS), &[argument]));
            }
        }
    }
    if random.one_in(8) {
        rules.push(rule(&[name], random.of(&ACTIONS), &[]));
    }
}

/// Arbitrary rules for one call.
fn any(random: &mut Random, name: &str, rules: &mut Vec<Value>) {
    let actions = [random.of(&ACTIONS), random.of(&ACTIONS)];
    for _ in 0..=random.below(5) {
        let args: Vec<Value> = (0..random.below(4))
            .map(|_| {
                let (index, operator) = (random.below(3), random.of(&OPERATORS));
                condition(random, index, operator)
            })
            .collect();
        rules.push(rule(&[name], random.of(&actions), &args));
    }
}

fn rule(names: &[&str], (action, errno): (&str, Option<u32>), args: &[Value]) -> Value {
    let mut rule = json!({ "names": names, "action": action, "args": args });
    if let Some(errno) = errno {
        rule["errnoRet"] = json!(errno);
    }
    rule
}

fn condition(random: &mut Random, index: usize, operator: &str) -> Value {
    let mut condition = json!({ "index": index, "value": value(random), "op": operator });
    if operator == "SCMP_CMP_MASKED_EQ" || random.one_in(8) {
        condition["valueTwo"] = json!(value(random));
    }
    condition
}

/// Some distinct arguments.
fn indices(random: &mut Random) -> impl Iterator<Item = usize> + use<> {
    let mut random = Random::new(random.next());
    (0..6).filter(move |_| random.one_in(3))
}

/// Few different values, so that conditions overlap; some of more than 32 bits.
fn value(random: &mut Random) -> u64 {
    let small = [0, 1, 2, 3, 5, 8, 40, 0xff, 0x7e02_0000, 0xffff_ffff];
    match random.below(8) {
        0 => random.next(),
        1 | 2 => random.of(&small) | random.of(&[1, 2, 3, 0xffff_ffff]) << 32,
        _ => random.of(&small),
    }
}

fn shuffle<T>(random: &mut Random, all: &mut [T]) {
    for index in (1..all.len()).rev() {
        all.swap(index, random.below(index + 1));
    }
}
