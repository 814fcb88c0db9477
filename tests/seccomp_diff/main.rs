//! Differential test of the seccomp compiler: its programs and libseccomp's, for the same profiles, run in an interpreter over
//! every system call number of every architecture, with arguments around the bounds of the conditions.
//!
//! A third verdict is computed from the profile itself (`naive`). Ours must always be one that the profile allows. libseccomp's
//! must be the same, except for calls newer than libseccomp's tables (`system_call_numbers_agree_with_libseccomp`) and calls
//! for which libseccomp has known bugs (`profiles::intricate`).

// all of this is test code: a panic is a failure
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_possible_truncation
)]

mod bpf;
mod naive;
mod oracle;
mod probe;
mod profiles;
mod random;

use bpf::{Call, Instruction};
use naive::Naive;
use oci_spec::runtime::{Arch as SpecArch, LinuxSeccomp};
use onggi::plan::seccomp::{Arch, compile};
use oracle::{Oracle, Token};
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// A machine: its native architecture, and the architectures for libseccomp.
#[derive(Debug, Clone, Copy)]
struct Machine {
    native: Arch,
    archs: &'static [(Arch, Token)],
}

const PC: Machine = Machine {
    native: Arch::X86_64,
    archs: &[(Arch::X86_64, oracle::X86_64), (Arch::X86, oracle::X86), (Arch::X32, oracle::X32)],
};
const ARM: Machine =
    Machine { native: Arch::Aarch64, archs: &[(Arch::Aarch64, oracle::AARCH64), (Arch::Arm, oracle::ARM)] };

impl Machine {
    /// The architectures that a profile asks for here, the native one included.
    fn asked(self, profile: &LinuxSeccomp) -> Vec<(Arch, Token)> {
        let listed = |arch: Arch| {
            let name = match arch {
                Arch::X86_64 => "SCMP_ARCH_X86_64",
                Arch::X86 => "SCMP_ARCH_X86",
                Arch::X32 => "SCMP_ARCH_X32",
                Arch::Aarch64 => "SCMP_ARCH_AARCH64",
                Arch::Arm => "SCMP_ARCH_ARM",
            };
            profile.architectures().iter().flatten().any(|listed| listed.to_string() == name)
        };
        self.archs.iter().copied().filter(|(arch, _)| *arch == self.native || listed(*arch)).collect()
    }
}

/// libseccomp, in a helper program that is built on first use.
fn oracle() -> Oracle {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    Oracle::start(BINARY.get_or_init(|| {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/seccomp_diff/oracle.c");
        let binary = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("seccomp-oracle");
        let new = binary.with_extension(std::process::id().to_string());
        let built =
            Command::new("cc").args(["-O2", "-Wall", "-Werror", "-o"]).arg(&new).args([source, "-lseccomp"]).status();
        let hint = "a C compiler and libseccomp's headers are needed (Debian: gcc libc6-dev libseccomp-dev)";
        assert!(built.is_ok_and(|status| status.success()), "cannot build oracle.c: {hint}");
        std::fs::rename(&new, &binary).unwrap();
        binary
    }))
}

/// Our program for a profile, checked as the kernel does.
fn ours(profile: &LinuxSeccomp, native: Arch) -> Result<Vec<Instruction>, onggi::Error> {
    let filter = compile(profile, native, "linux.seccomp")?;
    let program: Vec<_> = filter.program.iter().map(|i| (i.code, i.jt, i.jf, i.k)).collect();
    bpf::check(&program);
    Ok(program)
}

/// runc's filter: libseccomp's program, preceded by runc's ENOSYS for calls newer than the profile.
struct Theirs {
    program: Vec<Instruction>,
    /// By architecture: the audit value, the bit of x32, and the highest number that the profile names.
    newest: Vec<(Arch, u32)>,
    refuses: bool,
}

impl Theirs {
    fn new(
        oracle: &mut Oracle,
        profile: &LinuxSeccomp,
        archs: &[(Arch, Token)],
        optimize: u8,
    ) -> Result<Self, oracle::Refused> {
        let tokens: Vec<Token> = archs.iter().map(|(_, token)| *token).collect();
        let program = oracle.program(profile, &tokens, optimize)?;
        let names: Vec<&String> = profile.syscalls().iter().flatten().flat_map(|rule| rule.names()).collect();
        let mut newest = Vec::new();
        for (arch, token) in archs {
            let numbers = names.iter().map(|name| oracle.number(*token, name));
            if let Ok(number @ 1..) = u32::try_from(numbers.max().unwrap_or(0).max(0)) {
                newest.push((*arch, number));
            }
        }
        let refuses =
            !["SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE"].contains(&&*profile.default_action().to_string());
        Ok(Self { program, newest, refuses })
    }

    /// Whether the program compares the numbers of an architecture without having loaded one. libseccomp 2.5.4 forgets it where
    /// the first rule in its order is about a call that the architecture lacks.
    fn forgets_number(&self, audit: u32) -> bool {
        let asks = |&(code, _, _, k): &Instruction| code == 0x15 && k == audit;
        self.program.iter().position(asks).is_some_and(|at| {
            let mut at = at + 1 + usize::from(self.program[at].1);
            while self.program[at].0 == 0x05 {
                at += 1 + self.program[at].3 as usize;
            }
            self.program[at].0 == 0x15
        })
    }

    fn verdict(&self, call: &Call) -> u32 {
        let x32 = call.nr & 0x4000_0000 != 0;
        let newest = self.newest.iter().find(|(arch, _)| {
            arch.audit() == call.arch && (call.arch != Arch::X86_64.audit() || x32 == (*arch == Arch::X32))
        });
        match newest {
            Some((_, newest)) if self.refuses && call.nr > *newest => 0x0005_0026,
            Some(_) | None => bpf::run(&self.program, call).0,
        }
    }
}

/// How calls compared.
#[derive(Debug, Default)]
struct Tally {
    equal: usize,
    /// Equal, where rules that contradict each other hold at once.
    overlapping: usize,
    /// libseccomp's verdict is not one that the profile allows.
    wrong: usize,
    /// Both verdicts are allowed by the profile, by rules that contradict each other.
    contradictory: usize,
}

/// The naive reading of a profile for each of its architectures on a machine.
fn read(profile: &LinuxSeccomp, machine: Machine) -> Vec<(Arch, Naive)> {
    machine.asked(profile).into_iter().map(|(arch, _)| (arch, Naive::new(profile, arch))).collect()
}

/// What a profile says about a call, if it is for the call's architecture. Numbers that are none of x86_64's, with or without
/// the bit of x32, are libseccomp's to judge.
fn said(read: &[(Arch, Naive)], call: &Call) -> Option<Vec<u32>> {
    let x32 = call.arch == Arch::X86_64.audit() && call.nr & 0x4000_0000 != 0;
    let (_, naive) = read.iter().find(|(arch, _)| arch.audit() == call.arch && x32 == (*arch == Arch::X32))?;
    (call.nr < 0x7fff_ffff).then(|| naive.verdicts(call))
}

/// Compares both programs with each other and with the profile.
fn compare(profile: &LinuxSeccomp, machine: Machine, ours: &[Instruction], theirs: &Theirs, tally: &mut Tally) {
    let read = read(profile, machine);
    for call in probe::calls(profile, machine.native) {
        let (verdict, expected) = (bpf::run(ours, &call).0, theirs.verdict(&call));
        let text =
            || format!("{call:x?}: {verdict:#x}, libseccomp {expected:#x}, of {}", profiles::about(profile, call.nr));
        let Some(said) = said(&read, &call) else {
            assert!(verdict == expected || theirs.forgets_number(call.arch), "{}", text());
            continue;
        };
        assert!(said.contains(&verdict), "the profile says {said:x?} on {}", text());
        match (verdict == expected, said.contains(&expected)) {
            (true, _) => {
                tally.equal += 1;
                tally.overlapping += usize::from(said.iter().any(|other| *other != verdict));
            }
            (false, true) => tally.contradictory += 1,
            (false, false) => tally.wrong += 1,
        }
        let errs = || profiles::intricate(profile, call.nr) || theirs.forgets_number(call.arch);
        assert!(verdict == expected || errs(), "{}", text());
    }
}

#[test]
fn system_call_numbers_agree_with_libseccomp() {
    let mut oracle = oracle();
    let mut newer = Vec::new();
    for row in profiles::table() {
        for ((_, token), ours) in PC.archs.iter().chain(ARM.archs).zip(row.numbers) {
            let theirs = oracle.number(*token, row.name);
            let munged = *token == oracle::X86 && row.carrier.is_some() && theirs < -1;
            match ours {
                Some(_) if munged => {}
                Some(number) if theirs >= 0 => {
                    assert_eq!(i64::from(number), i64::from(theirs), "{} {token:x}", row.name)
                }
                Some(_) => newer.push(row.name),
                None => assert!(theirs < 0, "{} is {theirs} on {token:x}", row.name),
            }
        }
    }
    newer.dedup();
    println!("newer than libseccomp: {newer:?}");
    // libseccomp 2.5.4 and 2.6 know what Linux 5.16 had
    for old in ["futex_waitv", "memfd_secret", "process_mrelease", "clone3", "openat2", "quotactl_fd"] {
        assert!(!newer.contains(&old), "{old} is in libseccomp's tables");
    }
}

#[test]
fn engine_profiles_agree() {
    let mut oracle = oracle();
    for (name, profile) in profiles::fixtures() {
        let mut profile = profiles::known_to(&mut oracle, &profile);
        for machine in [PC, ARM] {
            if machine.native == Arch::Aarch64 {
                // as the engines list them there
                profile.set_architectures(Some(vec![SpecArch::ScmpArchAarch64, SpecArch::ScmpArchArm]));
            }
            for optimize in [1, 2] {
                let mut tally = Tally::default();
                let theirs = Theirs::new(&mut oracle, &profile, &machine.asked(&profile), optimize).unwrap();
                compare(&profile, machine, &ours(&profile, machine.native).unwrap(), &theirs, &mut tally);
                println!("{name} on {:?}, optimize {optimize}: {tally:?}", machine.native);
                assert!(tally.equal > 300 && tally.wrong == 0 && tally.contradictory == 0);
            }
        }
    }
}

/// How many random profiles: more with `ONGGI_SECCOMP_ROUNDS`.
fn rounds() -> u64 {
    std::env::var("ONGGI_SECCOMP_ROUNDS").map_or(1000, |rounds| rounds.parse().unwrap())
}

fn random_profiles(kind: random::Kind) {
    let mut oracle = oracle();
    let newer = profiles::newer(&mut oracle);
    let table = profiles::table();
    let names: Vec<&str> = table.iter().map(|row| row.name).filter(|name| !newer.contains(name)).collect();
    let (mut tally, mut refused, mut theirs_only, mut ours_only) = (Tally::default(), 0, 0, 0);
    for round in 0..rounds() {
        let mut random = probe::Random::new(round + 1);
        let profile = random::profile(&mut random, &names, kind);
        let machine = random.of(&[PC, PC, ARM]);
        let theirs = Theirs::new(&mut oracle, &profile, &machine.asked(&profile), random.of(&[1, 2]));
        let intricate = || profiles::numbers(&profile).into_iter().any(|nr| profiles::intricate(&profile, nr));
        match (ours(&profile, machine.native), theirs) {
            (Ok(ours), Ok(theirs)) => compare(&profile, machine, &ours, &theirs, &mut tally),
            (Err(_), Err(oracle::Refused::Rule(_))) => refused += 1,
            (Ok(_), Err(refusal)) => {
                theirs_only += 1;
                assert!(intricate(), "round {round}: libseccomp {refusal:?}, we do not: {profile:#?}");
            }
            (Err(error), theirs) => {
                ours_only += 1;
                let contradicts = error.to_string().contains("contradicts syscalls[");
                assert!(
                    contradicts && intricate(),
                    "round {round}: {error}, libseccomp {:?}: {profile:#?}",
                    theirs.err()
                );
            }
        }
    }
    let refused = format!("{refused} refused by both, {theirs_only} by libseccomp, {ours_only} by us");
    println!("{kind:?}: {} profiles, {refused}, {tally:?}", rounds());
    assert!(tally.equal > 1000 * usize::try_from(rounds()).unwrap());
    // libseccomp also uses the order of rules, as far as it keeps it
    assert!(tally.contradictory * 25 <= tally.overlapping, "{tally:?}");
}

#[test]
fn random_profiles_without_conflicts_agree() {
    random_profiles(random::Kind::Clear);
}

#[test]
fn random_profiles_of_all_kinds_agree() {
    random_profiles(random::Kind::Any);
}

#[test]
fn large_profiles_agree() {
    let mut oracle = oracle();
    let newer = profiles::newer(&mut oracle);
    let names: Vec<&str> = profiles::table().iter().map(|row| row.name).filter(|name| !newer.contains(name)).collect();
    let (mut longest, mut too_long) = (0, 0);
    for calls in [10, 50, 130, 210, 440] {
        let mut random = probe::Random::new(u64::try_from(calls).unwrap());
        let profile = random::large(&mut random, &names, calls);
        for machine in [PC, ARM] {
            let ours = match ours(&profile, machine.native) {
                Ok(ours) => ours,
                Err(error) => {
                    assert!(error.to_string().ends_with("the kernel takes 4096"), "{error}");
                    too_long += 1;
                    continue;
                }
            };
            longest = longest.max(ours.len());
            let read = read(&profile, machine);
            for call in probe::calls(&profile, machine.native) {
                let verdict = bpf::run(&ours, &call).0;
                assert!(said(&read, &call).is_none_or(|said| said.contains(&verdict)), "{call:x?}: {verdict:#x}");
            }
            // libseccomp needs seconds for more
            if calls <= 50 {
                let theirs = Theirs::new(&mut oracle, &profile, &machine.asked(&profile), 1).unwrap();
                compare(&profile, machine, &ours, &theirs, &mut Tally::default());
            }
        }
    }
    assert!(longest > 3500 && too_long > 0, "{longest} instructions, {too_long} too long");
}
