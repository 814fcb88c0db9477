//! libseccomp behind a pipe: runs the small C program `oracle.c`.

use crate::bpf::Instruction;
use crate::profiles;
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompArg};
use std::io::{BufRead, BufReader, BufWriter, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// libseccomp's name of an architecture (`SCMP_ARCH_*`).
pub(crate) type Token = u32;
pub(crate) const X86_64: Token = 0xc000_003e;
pub(crate) const X86: Token = 0x4000_0003;
pub(crate) const X32: Token = 0x4000_003e;
pub(crate) const AARCH64: Token = 0xc000_00b7;
pub(crate) const ARM: Token = 0x4000_0028;

/// Why there is no program.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// libseccomp refuses a rule: the index of the entry.
    Rule(usize),
    /// libseccomp did not finish.
    Hangs,
}

pub(crate) struct Oracle {
    binary: PathBuf,
    child: Child,
    input: BufWriter<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
}

impl Oracle {
    /// Starts the program built from oracle.c.
    pub(crate) fn start(binary: &Path) -> Self {
        let mut child = Command::new(binary)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program built from oracle.c starts");
        let input = BufWriter::new(child.stdin.take().unwrap());
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { binary: binary.to_owned(), child, input, output }
    }

    fn say(&mut self, line: &str) {
        writeln!(self.input, "{line}").unwrap();
    }

    /// Reads the next answer and returns it without its leading keyword.
    fn hear(&mut self) -> String {
        self.input.flush().unwrap();
        self.output.next().expect("libseccomp's program lives").unwrap()
    }

    /// The number of a call, if the architecture has it; negative numbers are libseccomp's own.
    pub(crate) fn number(&mut self, arch: Token, name: &str) -> i32 {
        self.say(&format!("number {arch:x} {name}"));
        self.hear().strip_prefix("number ").unwrap().parse().unwrap()
    }

    /// The program that libseccomp generates for runc, without runc's ENOSYS part for newer calls.
    pub(crate) fn program(
        &mut self,
        profile: &LinuxSeccomp,
        archs: &[Token],
        optimize: u8,
    ) -> Result<Vec<Instruction>, Refused> {
        let program = self.attempt(profile, archs, optimize);
        if program.is_err() {
            // libseccomp 2.5.4 may have corrupted its memory while it removed the rule
            *self = Self::start(&self.binary.clone());
        }
        program
    }

    /// The time in nanoseconds that libseccomp takes for the last program, the fastest of `rounds`.
    #[allow(dead_code)] // used by the bench, which shares this file
    pub(crate) fn time(&mut self, rounds: u32) -> u64 {
        self.say(&format!("time {rounds}"));
        self.hear().strip_prefix("time ").unwrap().parse().unwrap()
    }

    fn attempt(&mut self, profile: &LinuxSeccomp, archs: &[Token], optimize: u8) -> Result<Vec<Instruction>, Refused> {
        let default = profile.default_action().as_u32(profile.default_errno_ret());
        let archs: String = archs.iter().map(|arch| format!(" {arch:x}")).collect();
        self.say(&format!("filter {default:x} {optimize}{archs}"));
        for (index, rule) in profile.syscalls().iter().flatten().enumerate() {
            let action = rule.action().as_u32(rule.errno_ret());
            if action == default {
                continue;
            }
            for name in rule.names() {
                for args in profiles::alternatives(rule) {
                    let args: String = args.iter().map(condition).collect();
                    self.say(&format!("rule {action:x} {name}{args}"));
                    let answer = self.hear();
                    match answer.as_str() {
                        "ok" | "unknown" => {}
                        "hangs" => return Err(Refused::Hangs),
                        error if error.starts_with("error 17") => return Err(Refused::Rule(index)),
                        error => panic!("{error} for {name} of {rule:?}"),
                    }
                }
            }
        }
        self.say("load");
        let answer = self.hear();
        if answer == "hangs" {
            return Err(Refused::Hangs);
        }
        let count: usize = answer.strip_prefix("program ").unwrap().parse().unwrap();
        assert!(count > 0, "libseccomp makes no program of {profile:?}");
        Ok((0..count).map(|_| instruction(&self.hear())).collect())
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn condition(arg: &LinuxSeccompArg) -> String {
    format!(" {:x} {:x} {:x} {:x}", arg.index(), arg.op() as u32, arg.value(), arg.value_two().unwrap_or(0))
}

fn instruction(line: &str) -> Instruction {
    let mut words = line.split(' ').map(|word| u32::from_str_radix(word, 16).unwrap());
    let mut next = || words.next().unwrap();
    (next() as u16, next() as u8, next() as u8, next())
}
