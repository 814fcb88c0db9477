//! The verdict of a profile on one call, computed directly from the profile, without ranges of numbers or an order of conditions.
//! If conditions of rules with different actions hold at once, it returns all of their verdicts.

use crate::bpf::Call;
use crate::profiles;
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompArg, LinuxSeccompOperator as Operator};
use onggi::plan::seccomp::Arch;
use std::collections::HashMap;

/// `SECCOMP_RET_ERRNO` with `ENOSYS`.
const NO_SUCH_CALL: u32 = 0x0005_0026;

/// A profile, read for one architecture.
#[derive(Debug)]
pub(crate) struct Naive {
    default: u32,
    /// The bits of an argument that are compared.
    half: u64,
    /// Higher numbers are newer than the profile and get ENOSYS, if the profile denies by default.
    newest: Option<u32>,
    rules: HashMap<u32, Vec<Rule>>,
}

#[derive(Debug)]
struct Rule {
    /// For a call that x86 makes through socketcall or ipc: the first argument of that call.
    behind: Option<u32>,
    args: Vec<LinuxSeccompArg>,
    verdict: u32,
}

impl Naive {
    pub(crate) fn new(profile: &LinuxSeccomp, arch: Arch) -> Self {
        let half = if matches!(arch, Arch::X86_64 | Arch::Aarch64) { u64::MAX } else { 0xffff_ffff };
        let default = profile.default_action().as_u32(profile.default_errno_ret());
        let mut rules: HashMap<u32, Vec<Rule>> = HashMap::new();
        let mut newest = 0;
        for rule in profile.syscalls().iter().flatten() {
            let verdict = rule.action().as_u32(rule.errno_ret());
            for row in rule.names().iter().filter_map(|name| profiles::table().iter().find(|row| row.name == name)) {
                if arch != Arch::X86 || row.carrier.is_none() {
                    newest = newest.max(row.number(arch).unwrap_or(0));
                }
                if verdict == default {
                    continue;
                }
                for mut args in profiles::alternatives(rule) {
                    args.retain(|arg| arg.op() != Operator::ScmpCmpMaskedEq || arg.value() & half != 0);
                    if let Some((carrier, call)) = row.carrier.filter(|_| arch == Arch::X86) {
                        let args = args.iter().filter(|arg| arg.index() != 0).copied().collect();
                        rules.entry(carrier).or_default().push(Rule { behind: Some(call), args, verdict });
                    }
                    if let Some(number) = row.number(arch) {
                        rules.entry(number).or_default().push(Rule { behind: None, args, verdict });
                    }
                }
            }
        }
        let refuses =
            !["SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE"].contains(&&*profile.default_action().to_string());
        let newest = Some(newest).filter(|newest| refuses && *newest > 0);
        Self { default, half, newest, rules }
    }

    /// The verdicts that the rules allow.
    pub(crate) fn verdicts(&self, call: &Call) -> Vec<u32> {
        if self.newest.is_some_and(|newest| call.nr > newest) {
            return vec![NO_SUCH_CALL];
        }
        let mut verdicts = Vec::new();
        for Rule { behind, args, verdict } in self.rules.get(&call.nr).into_iter().flatten() {
            if args.is_empty() && behind.is_none() {
                // an unconditional rule applies, whatever other rules there are
                return vec![*verdict];
            }
            let is_meant = behind.is_none_or(|behind| behind == call.args[0] as u32);
            if is_meant && args.iter().all(|arg| self.holds(arg, call)) {
                verdicts.push(*verdict);
            }
        }
        if verdicts.is_empty() { vec![self.default] } else { verdicts }
    }

    fn holds(&self, arg: &LinuxSeccompArg, call: &Call) -> bool {
        let half = self.half;
        let (a, value, two) = (call.args[arg.index()] & half, arg.value() & half, arg.value_two().unwrap_or(0) & half);
        match arg.op() {
            Operator::ScmpCmpNe => a != value,
            Operator::ScmpCmpLt => a < value,
            Operator::ScmpCmpLe => a <= value,
            Operator::ScmpCmpEq => a == value,
            Operator::ScmpCmpGe => a >= value,
            Operator::ScmpCmpGt => a > value,
            Operator::ScmpCmpMaskedEq => a & value == two & value,
        }
    }
}
