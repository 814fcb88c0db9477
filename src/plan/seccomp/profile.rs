//! Reads a profile: actions, architectures, rules and flags, with checks. Depends on the spec's types and the rules.

use super::Listener;
use super::arch::Arch;
use super::condition::ArgCmp;
use super::names;
use super::rules::{Rule, Sorted};
use crate::error::{Error, Result};
use oci_spec::runtime::{
    Arch as SpecArch, LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg, LinuxSeccompFilterFlag as Flag,
    LinuxSeccompOperator as Operator, LinuxSyscall,
};
use std::collections::BTreeSet;

/// `SECCOMP_FILTER_FLAG_LOG` (Linux 4.14).
const FLAG_LOG: u32 = 1 << 1;
/// `SECCOMP_FILTER_FLAG_SPEC_ALLOW` (Linux 4.17).
const FLAG_SPEC_ALLOW: u32 = 1 << 2;
/// `SECCOMP_FILTER_FLAG_NEW_LISTENER` (Linux 5.0).
const FLAG_NEW_LISTENER: u32 = 1 << 3;
/// `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV` (Linux 5.19).
const FLAG_WAIT_KILLABLE_RECV: u32 = 1 << 5;

/// The highest error number (`MAX_ERRNO`): the kernel would lower a higher one to it.
const MOST_ERRNO: u32 = 4095;
/// The highest value that can be passed to a tracer (`SECCOMP_RET_DATA`).
const MOST_DATA: u32 = 0xffff;
/// `SECCOMP_RET_ERRNO` with `ENOSYS`.
const NO_SUCH_CALL: u32 = 0x0005_0000 | 38;

/// A profile and its JSON path.
#[derive(Debug)]
pub(super) struct Profile<'a> {
    /// The profile.
    pub(super) seccomp: &'a LinuxSeccomp,
    /// Its path.
    pub(super) path: &'a str,
}

impl Profile<'_> {
    /// The default verdict.
    pub(super) fn default(&self) -> Result<u32> {
        let action = self.seccomp.default_action();
        if action == Action::ScmpActNotify {
            let message = "SCMP_ACT_NOTIFY cannot be used as default action";
            return Err(Error::spec(format!("{}.defaultAction", self.path), message));
        }
        verdict(action, self.seccomp.default_errno_ret(), || format!("{}.defaultErrnoRet", self.path))
    }

    /// The verdict on calls newer than the profile: `ENOSYS`, so that a C library that tries such a call falls back to an older
    /// one. As in runc, and only if the default verdict is to refuse.
    pub(super) fn newer(&self) -> Option<u32> {
        match self.seccomp.default_action() {
            Action::ScmpActAllow | Action::ScmpActLog | Action::ScmpActTrace => None,
            Action::ScmpActKill
            | Action::ScmpActKillThread
            | Action::ScmpActKillProcess
            | Action::ScmpActTrap
            | Action::ScmpActErrno
            | Action::ScmpActNotify => Some(NO_SUCH_CALL),
        }
    }

    /// The architectures that the profile is for: the native one, listed or not, and those listed that its kernel can
    /// run.
    pub(super) fn architectures(&self, native: Arch, notes: &mut Vec<String>) -> Vec<Arch> {
        let mut archs = vec![native];
        for &listed in self.seccomp.architectures().iter().flatten() {
            match known(listed, native).filter(|arch| arch.runs_under(native)) {
                Some(arch) if archs.contains(&arch) => {}
                Some(arch) => archs.push(arch),
                None => notes.push(format!("seccomp architecture {listed} ignored, this machine cannot run it")),
            }
        }
        archs
    }

    /// Sorts all rules by architecture and number.
    pub(super) fn sort(&self, archs: &[Arch], default: u32, notes: &mut Vec<String>) -> Result<Sorted> {
        let mut sorted = Sorted::new(archs);
        for (index, rule) in self.seccomp.syscalls().iter().flatten().enumerate() {
            let path = || format!("{}.syscalls[{index}]", self.path);
            let verdict = verdict(rule.action(), rule.errno_ret(), || format!("{}.errnoRet", path()))?;
            let alternatives = alternatives(rule, &path)?;
            if rule.names().is_empty() {
                return Err(Error::spec(format!("{}.names", path()), "must name at least one system call"));
            }
            // a repeated name adds nothing, but would cost a pass over all alternatives
            let mut named = BTreeSet::new();
            let mut compiled = Rule { verdict, tests: &[], index: u32::try_from(index).unwrap_or(u32::MAX) };
            for (at, name) in rule.names().iter().enumerate() {
                let fault = |message: &str| Error::spec(format!("{}.names[{at}]", path()), message);
                if name.is_empty() {
                    return Err(fault("empty string is not a valid syscall"));
                }
                if rule.action() == Action::ScmpActNotify {
                    sorted.notifies = true;
                    if name == "write" {
                        // as in runc, whose init writes before the agent can answer
                        return Err(fault("SCMP_ACT_NOTIFY cannot be used for the write syscall"));
                    }
                }
                let Some(row) = names::find(name) else {
                    notes.push(format!("unknown seccomp syscall \"{name}\" ignored"));
                    continue;
                };
                sorted.know(row);
                // a rule with the default verdict is ignored, and does not override others
                if verdict == default || !named.insert(row.name) {
                    continue;
                }
                for tests in &alternatives {
                    compiled.tests = tests;
                    sorted.add(row, &compiled).map_err(|earlier| {
                        fault(&format!("\"{name}\" contradicts syscalls[{earlier}], which is about the same arguments"))
                    })?;
                }
            }
        }
        sorted.conditions.iter_mut().for_each(|conditions| conditions.chain.sort());
        Ok(sorted)
    }

    /// The flags of seccomp(2), and the agent that gets notifications.
    pub(super) fn listener(&self, notifies: bool) -> Result<(u32, Option<Listener>)> {
        let flags = match self.seccomp.flags() {
            // runc's default; an empty list means none
            None => FLAG_SPEC_ALLOW,
            Some(flags) => flags.iter().fold(0, |all, flag| all | bit(*flag)),
        };
        let metadata = self.seccomp.listener_metadata().clone().unwrap_or_default();
        let listener_path = self.seccomp.listener_path().as_ref().filter(|path| !path.as_os_str().is_empty());
        if listener_path.is_none() && !metadata.is_empty() {
            return Err(Error::spec(format!("{}.listenerMetadata", self.path), "needs a listenerPath"));
        }
        if !notifies {
            if flags & FLAG_WAIT_KILLABLE_RECV != 0 {
                // the kernel would only answer EINVAL
                let message = "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV needs a rule with SCMP_ACT_NOTIFY";
                return Err(Error::spec(format!("{}.flags", self.path), message));
            }
            return Ok((flags, None));
        }
        let Some(listener_path) = listener_path else {
            return Err(Error::spec(format!("{}.listenerPath", self.path), "seccomp listenerPath is not set"));
        };
        Ok((flags | FLAG_NEW_LISTENER, Some(Listener { path: listener_path.clone(), metadata })))
    }
}

/// An action as the kernel's `SECCOMP_RET_*`, with its error number (default `EPERM`).
fn verdict(action: Action, errno: Option<u32>, path: impl Fn() -> String) -> Result<u32> {
    let most = match action {
        Action::ScmpActErrno => Some(MOST_ERRNO),
        Action::ScmpActTrace => Some(MOST_DATA),
        Action::ScmpActKill
        | Action::ScmpActKillThread
        | Action::ScmpActKillProcess
        | Action::ScmpActTrap
        | Action::ScmpActNotify
        | Action::ScmpActLog
        | Action::ScmpActAllow => None,
    };
    match (errno, most) {
        (Some(_), None) => Err(Error::spec(path(), format!("{action} has no error number"))),
        (Some(errno), Some(most)) if errno > most => {
            Err(Error::spec(path(), format!("{errno} is out of range, the most is {most}")))
        }
        (_, _) => Ok(action.as_u32(errno)),
    }
}

/// The conditions of a rule: alternatives, each of them a list of conditions that all have to hold. If an argument is named
/// twice, every condition is an alternative of its own, as in runc.
fn alternatives(rule: &LinuxSyscall, path: &dyn Fn() -> String) -> Result<Vec<Vec<ArgCmp>>> {
    let arguments = rule.args().as_deref().unwrap_or_default();
    let mut tests = Vec::with_capacity(arguments.len());
    for (index, argument) in arguments.iter().enumerate() {
        tests.push(test(argument).ok_or_else(|| {
            Error::spec(format!("{}.args[{index}].index", path()), "a system call has 6 arguments, numbered from 0")
        })?);
    }
    tests.sort_by_key(|test| test.argument);
    if tests.windows(2).any(|pair| pair[0].argument == pair[1].argument) {
        return Ok(tests.into_iter().map(|test| Vec::from_iter(Some(test).filter(|test| !test.is_empty()))).collect());
    }
    tests.retain(|test| !test.is_empty());
    Ok(vec![tests])
}

fn test(argument: &LinuxSeccompArg) -> Option<ArgCmp> {
    let index = u8::try_from(argument.index()).ok().filter(|index| *index < 6)?;
    let (mask, value) = match argument.op() {
        Operator::ScmpCmpMaskedEq => {
            let mask = argument.value();
            (mask, argument.value_two().unwrap_or_default() & mask)
        }
        Operator::ScmpCmpNe
        | Operator::ScmpCmpLt
        | Operator::ScmpCmpLe
        | Operator::ScmpCmpEq
        | Operator::ScmpCmpGe
        | Operator::ScmpCmpGt => (u64::MAX, argument.value()),
    };
    Some(ArgCmp { argument: index, operator: argument.op(), mask, value })
}

fn bit(flag: Flag) -> u32 {
    match flag {
        Flag::SeccompFilterFlagLog => FLAG_LOG,
        Flag::SeccompFilterFlagSpecAllow => FLAG_SPEC_ALLOW,
        Flag::SeccompFilterFlagWaitKillableRecv => FLAG_WAIT_KILLABLE_RECV,
        // init has one thread when it installs the filter
        Flag::SeccompFilterFlagTsync => 0,
    }
}

/// The architecture for a name of the spec, if it is supported.
fn known(listed: SpecArch, native: Arch) -> Option<Arch> {
    match listed {
        SpecArch::ScmpArchNative => Some(native),
        SpecArch::ScmpArchX86_64 => Some(Arch::X86_64),
        SpecArch::ScmpArchX86 => Some(Arch::X86),
        SpecArch::ScmpArchX32 => Some(Arch::X32),
        SpecArch::ScmpArchAarch64 => Some(Arch::Aarch64),
        SpecArch::ScmpArchArm => Some(Arch::Arm),
        SpecArch::ScmpArchMips
        | SpecArch::ScmpArchMips64
        | SpecArch::ScmpArchMips64n32
        | SpecArch::ScmpArchMipsel
        | SpecArch::ScmpArchMipsel64
        | SpecArch::ScmpArchMipsel64n32
        | SpecArch::ScmpArchPpc
        | SpecArch::ScmpArchPpc64
        | SpecArch::ScmpArchPpc64le
        | SpecArch::ScmpArchS390
        | SpecArch::ScmpArchS390x
        | SpecArch::ScmpArchParisc
        | SpecArch::ScmpArchParisc64
        | SpecArch::ScmpArchRiscv64
        | SpecArch::ScmpArchLoongarch64
        | SpecArch::ScmpArchM68k
        | SpecArch::ScmpArchSh
        | SpecArch::ScmpArchSheb => None,
    }
}
