//! Feeds profiles to the seccomp compiler: it must not panic, its program must be one that the kernel takes, and its
//! verdict on a call one that the profile gives, by the plain reading of it that the tests use too.
//!
//! `cargo fuzz run seccomp_profile`, or `fuzz/run.sh`, which needs no nightly toolchain.

#![no_main]

#[allow(dead_code)]
#[path = "../../tests/seccomp_diff/bpf.rs"]
mod bpf;
#[allow(dead_code)]
#[path = "../../tests/seccomp_diff/naive.rs"]
mod naive;
#[allow(dead_code)]
#[path = "../../tests/seccomp_diff/oracle.rs"]
mod oracle;
#[allow(dead_code)]
#[path = "../../tests/seccomp_diff/profiles.rs"]
mod profiles;

use bpf::Call;
use libfuzzer_sys::arbitrary::{Arbitrary, Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use naive::Naive;
use oci_spec::runtime::{Arch as SpecArch, LinuxSeccomp};
use onggi::plan::seccomp::{Arch, compile};
use serde_json::{Value, json};

const ACTIONS: [&str; 9] = [
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_TRAP",
];
const OPERATORS: [&str; 7] =
    ["SCMP_CMP_EQ", "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_GE", "SCMP_CMP_GT"];
const ARCHS: [(SpecArch, Arch); 5] = [
    (SpecArch::ScmpArchX86_64, Arch::X86_64),
    (SpecArch::ScmpArchX86, Arch::X86),
    (SpecArch::ScmpArchX32, Arch::X32),
    (SpecArch::ScmpArchAarch64, Arch::Aarch64),
    (SpecArch::ScmpArchArm, Arch::Arm),
];

fuzz_target!(|data: &[u8]| {
    let mut input = Unstructured::new(data);
    if let Ok((profile, native, calls)) = case(&mut input) {
        check(&profile, native, &calls);
    }
});

fn case(input: &mut Unstructured<'_>) -> Result<(LinuxSeccomp, Arch, Vec<Call>)> {
    let mut rules = Vec::new();
    let mut names = Vec::new();
    for _ in 0..input.int_in_range(0..=24)? {
        let mut named = Vec::new();
        for _ in 0..input.int_in_range(1..=4)? {
            let table = profiles::table();
            // few names, so that rules meet
            let most = if input.ratio(1, 4)? { table.len() } else { 12 };
            named.push(table[table.len() / 2 + input.choose_index(most / 2)?].name);
        }
        names.extend(named.clone());
        let mut args = Vec::new();
        for _ in 0..input.int_in_range(0..=3)? {
            let mut arg =
                json!({ "index": input.int_in_range(0..=6)?, "value": value(input)?, "op": input.choose(&OPERATORS)? });
            if input.ratio(1, 2)? {
                arg["valueTwo"] = json!(value(input)?);
            }
            args.push(arg);
        }
        let mut rule = json!({ "names": named, "action": input.choose(&ACTIONS)?, "args": args });
        if input.ratio(1, 4)? {
            rule["errnoRet"] = json!(u32::from(u16::arbitrary(input)?));
        }
        rules.push(rule);
    }
    let mut profile: Value =
        json!({ "defaultAction": input.choose(&ACTIONS)?, "listenerPath": "/agent", "syscalls": rules });
    let listed = input.int_in_range(0..=31)?;
    let archs = ARCHS.iter().enumerate().filter(|(bit, _)| listed >> bit & 1 == 1).map(|(_, (arch, _))| *arch);
    profile["architectures"] = json!(archs.collect::<Vec<_>>());
    let native = *input.choose(&[Arch::X86_64, Arch::Aarch64])?;
    let mut calls = Vec::new();
    for _ in 0..input.int_in_range(1..=32)? {
        let (_, arch) = input.choose(&ARCHS)?;
        let table = profiles::table();
        let named = if names.is_empty() { None } else { Some(*input.choose(&names)?) };
        let row = table.iter().find(|row| named == Some(row.name));
        let nr = match row.and_then(|row| row.number(*arch)) {
            Some(number) if !input.ratio(1, 8)? => number,
            Some(_) | None => input.int_in_range(0..=600)?,
        };
        let mut args = [0; 6];
        for arg in &mut args {
            *arg = value(input)?;
        }
        calls.push(Call { arch: arch.audit(), nr, args });
    }
    Ok((serde_json::from_value(profile).expect("a profile"), native, calls))
}

/// Small values, values of 32 bits and of 64.
fn value(input: &mut Unstructured<'_>) -> Result<u64> {
    let small = u64::from(u8::arbitrary(input)? % 8);
    Ok(match input.int_in_range(0..=3)? {
        0 => small | small << 32,
        1 => u64::arbitrary(input)?,
        2 => small << 32,
        _ => small,
    })
}

fn check(profile: &LinuxSeccomp, native: Arch, calls: &[Call]) {
    let Ok(filter) = compile(profile, native, "linux.seccomp") else { return };
    let program: Vec<_> = filter.program.iter().map(|i| (i.code, i.jt, i.jf, i.k)).collect();
    bpf::check(&program);
    let listed = |arch: SpecArch| profile.architectures().iter().flatten().any(|other| *other == arch);
    let family: &[Arch] = match native {
        Arch::X86_64 | Arch::X86 | Arch::X32 => &[Arch::X86_64, Arch::X86, Arch::X32],
        Arch::Aarch64 | Arch::Arm => &[Arch::Aarch64, Arch::Arm],
    };
    for call in calls {
        let (verdict, _) = bpf::run(&program, call);
        let x32 = call.nr & 0x4000_0000 != 0;
        let arch = ARCHS.iter().find(|(_, arch)| arch.audit() == call.arch && x32 == (*arch == Arch::X32));
        let said = match arch {
            Some((spec, arch)) if *arch == native || listed(*spec) && family.contains(arch) => {
                Naive::new(profile, *arch).verdicts(call)
            }
            // killed: not an architecture of the profile
            Some(_) | None => vec![0],
        };
        assert!(said.contains(&verdict), "{call:x?}: {verdict:#x}, the profile says {said:x?}");
    }
}
