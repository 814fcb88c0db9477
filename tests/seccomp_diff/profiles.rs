//! Profiles to compare: the engines' defaults as a runtime gets them, and the names of all calls.

use crate::oracle::{self, Oracle};
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompArg, LinuxSyscall};
use onggi::plan::seccomp::Arch;
use std::collections::HashSet;
use std::sync::OnceLock;

/// A row of the generated table, read from its text.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    /// For x86_64, x86, x32, aarch64, arm, as the kernel sees them.
    pub(crate) numbers: [Option<u32>; 5],
    /// On x86: the number of socketcall or ipc if the call can be made through it, and the first argument that selects the call.
    pub(crate) carrier: Option<(u32, u32)>,
}

impl Row {
    /// The number on an architecture that has the call.
    pub(crate) fn number(&self, arch: Arch) -> Option<u32> {
        match arch {
            Arch::X86_64 => self.numbers[0],
            Arch::X86 => self.numbers[1],
            Arch::X32 => self.numbers[2],
            Arch::Aarch64 => self.numbers[3],
            Arch::Arm => self.numbers[4],
        }
    }
}

/// The generated table.
pub(crate) fn table() -> &'static [Row] {
    static TABLE: OnceLock<Vec<Row>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let text = include_str!("../../src/plan/seccomp/table.rs");
        let rows: Vec<Row> = text.lines().filter_map(|line| row(line.trim())).collect();
        assert!(rows.len() > 480);
        rows
    })
}

fn row(line: &'static str) -> Option<Row> {
    let (name, rest) = line.strip_prefix("row(\"")?.split_once("\", [")?;
    let (numbers, rest) = rest.split_once("], ")?;
    let mut parsed = numbers.split(", ").map(|number| number.parse::<u32>().ok());
    let mut numbers = [(); 5].map(|()| parsed.next().unwrap());
    numbers[2] = numbers[2].map(|number| number | 0x4000_0000);
    numbers[4] = numbers[4].map(|number| if number >= 0xf000 { number - 0xf000 + 0xf_0000 } else { number });
    let carrier = match rest.trim_end_matches("),").parse().unwrap() {
        0 => None,
        call @ 1..128 => Some((102, call)),
        call => Some((117, call - 128)),
    };
    Some(Row { name, numbers, carrier })
}

/// The engines' profiles.
pub(crate) fn fixtures() -> Vec<(&'static str, LinuxSeccomp)> {
    [
        ("docker", include_str!("profiles/docker.json")),
        ("docker-cap-add", include_str!("profiles/docker-cap-add.json")),
        ("docker-args", include_str!("profiles/docker-args.json")),
        ("docker-custom", include_str!("profiles/docker-custom.json")),
        ("containerd", include_str!("profiles/containerd.json")),
        ("podman", include_str!("profiles/podman.json")),
    ]
    .into_iter()
    .map(|(name, text)| (name, serde_json::from_str(text).unwrap()))
    .collect()
}

/// Names that our table has for an architecture on which libseccomp does not know them.
pub(crate) fn newer(oracle: &mut Oracle) -> HashSet<&'static str> {
    let tokens = [oracle::X86_64, oracle::X86, oracle::X32, oracle::AARCH64, oracle::ARM];
    let mut newer = HashSet::new();
    for row in table() {
        for (token, number) in tokens.into_iter().zip(row.numbers) {
            if number.is_some()
                && oracle.number(token, row.name) < 0
                && !(token == oracle::X86 && row.carrier.is_some())
            {
                newer.insert(row.name);
            }
        }
    }
    newer
}

/// The profile without the names that libseccomp is too old for.
pub(crate) fn known_to(oracle: &mut Oracle, profile: &LinuxSeccomp) -> LinuxSeccomp {
    let newer = newer(oracle);
    let mut profile = profile.clone();
    let mut rules = profile.syscalls().clone().unwrap_or_default();
    for rule in &mut rules {
        let names = rule.names().iter().filter(|name| !newer.contains(name.as_str())).cloned().collect();
        rule.set_names(names);
    }
    profile.set_syscalls(Some(rules));
    profile
}

/// The conditions of a rule; as in runc, an argument that is named twice makes each condition a rule of its own.
pub(crate) fn alternatives(rule: &LinuxSyscall) -> Vec<Vec<LinuxSeccompArg>> {
    let args = rule.args().clone().unwrap_or_default();
    let twice = args.iter().any(|one| args.iter().filter(|other| other.index() == one.index()).count() > 1);
    if twice { args.into_iter().map(|arg| vec![arg]).collect() } else { vec![args] }
}

/// What a profile says about a number: the name, the rule and one list of conditions.
fn said(profile: &LinuxSeccomp, nr: u32) -> Vec<(&str, &LinuxSyscall, Vec<LinuxSeccompArg>)> {
    let table = table();
    let same = |row: &&Row| row.numbers.contains(&Some(nr)) || row.carrier.is_some_and(|(carrier, _)| carrier == nr);
    let names: HashSet<&str> = table.iter().filter(same).map(|row| row.name).collect();
    let rules = profile.syscalls().iter().flatten();
    let named = rules.flat_map(|rule| rule.names().iter().map(move |name| (name.as_str(), rule)));
    named
        .filter(|(name, _)| names.contains(name))
        .flat_map(|(name, rule)| alternatives(rule).into_iter().map(move |args| (name, rule, args)))
        .collect()
}

/// What a profile says about a number, for failure messages.
pub(crate) fn about(profile: &LinuxSeccomp, nr: u32) -> String {
    let mut text = format!("{:?} of {:?}", profile.default_action(), profile.architectures());
    for (name, rule, args) in said(profile, nr) {
        let args: Vec<_> =
            args.iter().map(|a| format!("{} {} {:#x} {:x?}", a.index(), a.op(), a.value(), a.value_two())).collect();
        text += &format!("\n  {name} {} {:?} {args:?}", rule.action(), rule.errno_ret());
    }
    text
}

/// Whether libseccomp may get the rules of a call wrong, because several conditions meet. It keeps the comparisons of all rules
/// of a call in one tree of 32-bit words and shares parts of it between rules, calls and architectures. After a jump from one
/// comparison to another, the wrong word may be loaded, or another rule's conditions may apply (2.5.4 and 2.6.0, mostly with an
/// upper bound). It refuses some such rules and loops forever on others.
pub(crate) fn intricate(profile: &LinuxSeccomp, nr: u32) -> bool {
    let carried =
        |name: &str| table().iter().any(|row| row.name == name && row.carrier.is_some_and(|(by, _)| by == nr));
    said(profile, nr).iter().map(|(name, _, args)| args.len() + usize::from(carried(name))).sum::<usize>() > 1
}

/// The numbers that a profile names, on any architecture.
pub(crate) fn numbers(profile: &LinuxSeccomp) -> HashSet<u32> {
    let names: HashSet<&str> =
        profile.syscalls().iter().flatten().flat_map(LinuxSyscall::names).map(String::as_str).collect();
    let table = table();
    let rows = table.iter().filter(|row| names.contains(row.name));
    rows.flat_map(|row| row.numbers.into_iter().flatten().chain(row.carrier.map(|(carrier, _)| carrier))).collect()
}
