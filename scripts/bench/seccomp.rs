//! What the bench of the seccomp compiler asks of onggi and libseccomp: `scripts/bench/seccomp.sh` builds and runs it.
//!
//! `seccomp_bench PROFILE ORACLE DIRECTORY`: prints the time of compiling a profile, the size of the programs and how many
//! instructions answer some calls, for onggi and for libseccomp with its binary tree and without; ORACLE is the program built
//! from `tests/seccomp_diff/oracle.c`. Writes the programs to DIRECTORY, one instruction a line.

// a tool of the bench: what it prints is its result, and a panic is a failure
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation
)]

// shared with the tests, which use more of them
#[allow(dead_code)]
#[path = "../../tests/seccomp_diff/bpf.rs"]
mod bpf;
#[allow(dead_code)]
#[path = "../../tests/seccomp_diff/oracle.rs"]
mod oracle;
#[allow(dead_code)]
#[path = "../../tests/seccomp_diff/profiles.rs"]
mod profiles;

use bpf::{Call, Instruction};
use oci_spec::runtime::LinuxSeccomp;
use onggi::plan::seccomp::filter;
use oracle::{Oracle, Token};
use std::path::Path;
use std::time::Instant;

const ROUNDS: u32 = 2000;
/// Calls whose way through the program is shown one by one.
const SHOWN: [&str; 6] = ["getpid", "read", "write", "futex", "openat", "clone3"];
/// The calls that programs make most.
const HOT: [&str; 20] = [
    "read",
    "write",
    "futex",
    "openat",
    "close",
    "newfstatat",
    "fstat",
    "mmap",
    "munmap",
    "mprotect",
    "lseek",
    "pread64",
    "writev",
    "recvmsg",
    "sendto",
    "recvfrom",
    "epoll_wait",
    "poll",
    "ioctl",
    "getpid",
];

struct Made {
    who: &'static str,
    /// Nanoseconds: of the first time in this process where that is known, and of the fastest.
    first: Option<u64>,
    best: u64,
    program: Vec<Instruction>,
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [profile, oracle, directory] = &*words else { panic!("PROFILE ORACLE DIRECTORY") };
    let profile: LinuxSeccomp = serde_json::from_str(&std::fs::read_to_string(profile).unwrap()).unwrap();
    let made = [onggi(&profile), libseccomp(&profile, oracle, 2), libseccomp(&profile, oracle, 1)];

    println!("{:<24}{:>12}{:>12}{:>14}{:>12}", "", "first µs", "fastest µs", "instructions", "times onggi");
    for Made { who, first, best, program } in &made {
        let micros = |nanos: u64| format!("{:.1}", nanos as f64 / 1e3);
        let times = *best as f64 / made[0].best as f64;
        let first = first.map_or("-".to_owned(), micros);
        println!("{who:<24}{first:>12}{:>12}{:>14}{times:>12.1}", micros(*best), program.len());
    }
    println!("\n{:<24}{:>12}{:>20}{:>20}", "steps to the verdict", made[0].who, made[1].who, made[2].who);
    let mut oracle = Oracle::start(Path::new(oracle));
    let rules = profile.syscalls().iter().flatten();
    let names = rules.flat_map(|rule| rule.names()).map(String::as_str);
    let last = names.clone().max_by_key(|name| oracle.number(oracle::X86_64, name)).unwrap();
    let listed: Vec<&str> = names.collect();
    let x86_64 = profiles::table().iter().filter(|row| row.numbers[0].is_some());
    let unlisted = x86_64.map(|row| row.name).rfind(|name| !listed.contains(name)).unwrap();
    for name in SHOWN.into_iter().chain([last, unlisted]) {
        let [a, b, c] = made.each_ref().map(|made| steps(&made.program, name));
        println!("{name:<24}{a:>12}{b:>20}{c:>20}");
    }
    let [a, b, c] = made.each_ref().map(|made| {
        let all: usize = HOT.iter().map(|name| steps(&made.program, name)).sum();
        all as f64 / HOT.len() as f64
    });
    println!("{:<24}{a:>12.2}{b:>20.2}{c:>20.2}", "mean of the 20 hottest");

    for (made, file) in made.iter().zip(["onggi", "tree", "list"]) {
        let lines: Vec<String> =
            made.program.iter().map(|(code, jt, jf, k)| format!("{code:x} {jt:x} {jf:x} {k:x}\n")).collect();
        std::fs::write(Path::new(directory).join(file), lines.concat()).unwrap();
    }
}

fn onggi(profile: &LinuxSeccomp) -> Made {
    let compile = || {
        let start = Instant::now();
        let filter = filter(profile, "linux.seccomp").unwrap();
        (start.elapsed().as_nanos() as u64, filter)
    };
    let (first, filter) = compile();
    let best = (0..ROUNDS).map(|_| compile().0).min().unwrap();
    let program = filter.program.iter().map(|i| (i.code, i.jt, i.jf, i.k)).collect();
    Made { who: "onggi", first: Some(first), best, program }
}

fn libseccomp(profile: &LinuxSeccomp, oracle: &str, optimize: u8) -> Made {
    let archs: &[Token] = &[oracle::X86_64, oracle::X86, oracle::X32];
    let mut oracle = Oracle::start(Path::new(oracle));
    let program = oracle.program(profile, archs, optimize).unwrap();
    let who = if optimize == 2 { "libseccomp tree" } else { "libseccomp list" };
    Made { who, first: Some(oracle.time(1)), best: oracle.time(100), program }
}

fn steps(program: &[Instruction], name: &str) -> usize {
    let row = profiles::table().iter().find(|row| row.name == name).unwrap();
    bpf::run(program, &Call { arch: oracle::X86_64, nr: row.numbers[0].unwrap(), args: [0; 6] }).1
}
