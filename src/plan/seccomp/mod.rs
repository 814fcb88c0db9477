//! Compiles `linux.seccomp` into a BPF program: `profile` reads it, `rules` sorts it by number, `dispatch`, `search` and
//! `condition` generate the code, `program` assembles it. Pure; depends on the spec's types.
//!
//! The verdicts are those of runc with libseccomp, which the tests compare call by call (`tests/seccomp_diff`).

mod arch;
mod condition;
mod dispatch;
mod names;
mod profile;
mod program;
mod row;
mod rules;
mod search;
mod table;

pub use arch::Arch;

use crate::error::{Error, Result};
use oci_spec::runtime::LinuxSeccomp;
use profile::Profile;
use seccompiler::sock_filter;
use std::path::PathBuf;

/// A compiled profile, ready for `seccomp(SECCOMP_SET_MODE_FILTER)`.
#[derive(Debug)]
pub struct Filter {
    /// The program: an array that `struct sock_fprog` can point to, of at most 4096 instructions.
    pub program: Vec<sock_filter>,
    /// `SECCOMP_FILTER_FLAG_*` of seccomp(2).
    pub flags: u32,
    /// Who gets the notify descriptor; set if and only if the flags have `SECCOMP_FILTER_FLAG_NEW_LISTENER`.
    pub listener: Option<Listener>,
    /// What was left out because it can't occur on this machine: for the debug log.
    pub notes: Vec<String>,
}

/// The agent that answers `SCMP_ACT_NOTIFY`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Its socket, a path of the host (`listenerPath`).
    pub path: PathBuf,
    /// Metadata for it (`listenerMetadata`), or empty.
    pub metadata: String,
}

/// Compiles a profile for this machine; `path` is its JSON path, which errors begin with.
///
/// # Errors
/// A mistake in the profile, with the JSON path of the value; a profile that needs more than 4096 instructions.
pub fn filter(seccomp: &LinuxSeccomp, path: &str) -> Result<Filter> {
    match Arch::NATIVE {
        Some(native) => compile(seccomp, native, path),
        None => Err(Error::spec(path, "seccomp profiles are not supported on this architecture")),
    }
}

/// Compiles a profile for a machine whose kernel is of the architecture `native`.
///
/// # Errors
/// As [`filter`].
pub fn compile(seccomp: &LinuxSeccomp, native: Arch, path: &str) -> Result<Filter> {
    let profile = Profile { seccomp, path };
    let default = profile.default()?;
    let mut notes = Vec::new();
    let archs = profile.architectures(native, &mut notes);
    let sorted = profile.sort(&archs, default, &mut notes)?;
    let (flags, listener) = profile.listener(sorted.notifies)?;
    let program = dispatch::write(&sorted, default, profile.newer());
    if program.len() > program::MOST {
        let message = format!("needs {} instructions, the kernel takes {}", program.len(), program::MOST);
        return Err(Error::spec(path, message));
    }
    Ok(Filter { program, flags, listener, notes })
}

/// Refuses names that are no system calls, which [`filter`] leaves out (`run.oci.seccomp_fail_unknown_syscall`).
///
/// # Errors
/// The first one.
pub fn check_names(seccomp: &LinuxSeccomp, path: &str) -> Result<()> {
    for (index, rule) in seccomp.syscalls().iter().flatten().enumerate() {
        if let Some(at) = rule.names().iter().position(|name| names::find(name).is_none()) {
            let text = format!("unknown system call {:?}", rule.names()[at]);
            return Err(Error::spec(format!("{path}.syscalls[{index}].names[{at}]"), text)
                .with_hint("without the annotation run.oci.seccomp_fail_unknown_syscall it is left out"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn of(profile: Value) -> Result<Filter> {
        compile(&serde_json::from_value(profile).unwrap(), Arch::X86_64, "linux.seccomp")
    }

    /// The program's answer to a call of x86_64 without arguments.
    fn answer(filter: &Filter, arch: u32, nr: u32) -> u32 {
        let (mut at, mut a) = (0, 0);
        loop {
            let &sock_filter { code, jt, jf, k } = &filter.program[at];
            at += 1;
            let jump = |yes: bool| usize::from(if yes { jt } else { jf });
            match code {
                0x20 => a = [nr, arch].get(k as usize / 4).copied().unwrap_or(0),
                0x15 => at += jump(a == k),
                0x25 => at += jump(a > k),
                0x35 => at += jump(a >= k),
                0x45 => at += jump(a & k != 0),
                0x05 => at += k as usize,
                0x06 => return k,
                _ => panic!("instruction {code:#x}"),
            }
        }
    }

    #[test]
    fn what_must_be_named_is_missed() {
        let rule = json!({ "names": [], "action": "SCMP_ACT_TRAP" });
        for (profile, message) in [
            (
                json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] }),
                "linux.seccomp.syscalls[0].names: must name at least one system call",
            ),
            (
                json!({ "defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "web" }),
                "linux.seccomp.listenerMetadata: needs a listenerPath",
            ),
        ] {
            assert_eq!(of(profile).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn mistakes_are_named_by_their_path() {
        let rule = |rule: Value| json!({ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{ "names": ["read"], "action": "SCMP_ACT_ALLOW" }, rule] });
        let arg = |index: u32| json!([{ "index": 0, "value": 1, "op": "SCMP_CMP_NE" }, { "index": index, "value": 1, "op": "SCMP_CMP_EQ" }]);
        let contradiction = json!({ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
            { "names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{ "index": 0, "value": 1, "op": "SCMP_CMP_EQ" }] },
            { "names": ["open", "read"], "action": "SCMP_ACT_TRAP", "args": [{ "index": 0, "value": 1, "op": "SCMP_CMP_EQ" }] },
        ] });
        for (profile, message) in [
            (
                rule(json!({ "names": ["write"], "action": "SCMP_ACT_ALLOW", "args": arg(6) })),
                "linux.seccomp.syscalls[1].args[1].index: a system call has 6 arguments, numbered from 0",
            ),
            (
                rule(json!({ "names": ["write"], "action": "SCMP_ACT_ERRNO", "errnoRet": 4096 })),
                "linux.seccomp.syscalls[1].errnoRet: 4096 is out of range, the most is 4095",
            ),
            (
                rule(json!({ "names": ["write"], "action": "SCMP_ACT_TRACE", "errnoRet": 65536 })),
                "linux.seccomp.syscalls[1].errnoRet: 65536 is out of range, the most is 65535",
            ),
            (
                rule(json!({ "names": ["write"], "action": "SCMP_ACT_ALLOW", "errnoRet": 1 })),
                "linux.seccomp.syscalls[1].errnoRet: SCMP_ACT_ALLOW has no error number",
            ),
            (
                json!({ "defaultAction": "SCMP_ACT_KILL_PROCESS", "defaultErrnoRet": 1 }),
                "linux.seccomp.defaultErrnoRet: SCMP_ACT_KILL_PROCESS has no error number",
            ),
            (
                json!({ "defaultAction": "SCMP_ACT_NOTIFY", "listenerPath": "/agent" }),
                "linux.seccomp.defaultAction: SCMP_ACT_NOTIFY cannot be used as default action",
            ),
            (
                rule(json!({ "names": ["open", "write"], "action": "SCMP_ACT_NOTIFY" })),
                "linux.seccomp.syscalls[1].names[1]: SCMP_ACT_NOTIFY cannot be used for the write syscall",
            ),
            (
                rule(json!({ "names": ["open"], "action": "SCMP_ACT_NOTIFY" })),
                "linux.seccomp.listenerPath: seccomp listenerPath is not set",
            ),
            (
                rule(json!({ "names": ["open", ""], "action": "SCMP_ACT_TRAP" })),
                "linux.seccomp.syscalls[1].names[1]: empty string is not a valid syscall",
            ),
            (
                json!({ "defaultAction": "SCMP_ACT_ERRNO", "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"] }),
                "linux.seccomp.flags: SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV needs a rule with SCMP_ACT_NOTIFY",
            ),
            (
                contradiction,
                "linux.seccomp.syscalls[1].names[1]: \"read\" contradicts syscalls[0], which is about the same arguments",
            ),
        ] {
            assert_eq!(of(profile).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn flags_absent_are_not_flags_empty() {
        let flags = |flags: Value| of(json!({ "defaultAction": "SCMP_ACT_ALLOW", "flags": flags })).unwrap().flags;
        assert_eq!(of(json!({ "defaultAction": "SCMP_ACT_ALLOW" })).unwrap().flags, 1 << 2);
        assert_eq!(flags(Value::Null), 1 << 2);
        assert_eq!(flags(json!([])), 0);
        assert_eq!(flags(json!(["SECCOMP_FILTER_FLAG_TSYNC"])), 0);
        assert_eq!(flags(json!(["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"])), 1 << 1 | 1 << 2);
    }

    #[test]
    fn a_notification_has_a_listener() {
        let rule = json!({ "names": ["mkdir"], "action": "SCMP_ACT_NOTIFY" });
        let flags = ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"];
        let profile = json!({ "defaultAction": "SCMP_ACT_ALLOW", "flags": flags, "listenerPath": "/run/agent", "listenerMetadata": "web", "syscalls": [rule] });
        let filter = of(profile).unwrap();
        assert_eq!(filter.flags, 1 << 3 | 1 << 5);
        assert_eq!(filter.listener, Some(Listener { path: "/run/agent".into(), metadata: "web".to_owned() }));
        assert_eq!(answer(&filter, Arch::X86_64.audit(), 83), 0x7fc0_0000);
        let none = of(json!({ "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/agent" })).unwrap();
        assert_eq!((none.listener, none.flags & 1 << 3), (None, 0));
    }

    #[test]
    fn what_cannot_be_met_is_noted() {
        let profile = json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_S390X", "SCMP_ARCH_AARCH64", "SCMP_ARCH_X86"],
            "syscalls": [{ "names": ["no_such_call", "socketcall"], "action": "SCMP_ACT_TRAP" }] });
        let notes = of(profile).unwrap().notes;
        let expected = [
            "seccomp architecture SCMP_ARCH_S390X ignored, this machine cannot run it",
            "seccomp architecture SCMP_ARCH_AARCH64 ignored, this machine cannot run it",
            "unknown seccomp syscall \"no_such_call\" ignored",
        ];
        assert_eq!(notes, expected);
    }

    #[test]
    fn newer_calls_do_not_exist() {
        let (x86_64, x86) = (Arch::X86_64.audit(), Arch::X86.audit());
        let profile = |default: &str| json!({ "defaultAction": default, "architectures": ["SCMP_ARCH_X86"], "syscalls": [{ "names": ["openat", "socket"], "action": "SCMP_ACT_ALLOW" }] });
        for (default, verdict) in
            [("SCMP_ACT_ERRNO", 0x0005_0001), ("SCMP_ACT_KILL_PROCESS", 0x8000_0000), ("SCMP_ACT_TRAP", 0x0003_0000)]
        {
            let filter = of(profile(default)).unwrap();
            assert_eq!(answer(&filter, x86_64, 0), verdict);
            assert_eq!(answer(&filter, x86_64, 257), 0x7fff_0000);
            assert_eq!(answer(&filter, x86_64, 258), 0x0005_0026);
            // openat is 295 on x86; socket is 359 but counts as a part of socketcall, as in runc
            assert_eq!(answer(&filter, x86, 295), 0x7fff_0000);
            assert_eq!(answer(&filter, x86, 296), 0x0005_0026);
            assert_eq!(answer(&filter, x86, 359), 0x0005_0026);
            // x32 is not listed
            assert_eq!(answer(&filter, x86_64, 0x4000_0000), 0);
            assert_eq!(answer(&filter, x86_64, u32::MAX), verdict);
        }
        for (default, verdict) in
            [("SCMP_ACT_ALLOW", 0x7fff_0000), ("SCMP_ACT_LOG", 0x7ffc_0000), ("SCMP_ACT_TRACE", 0x7ff0_0001)]
        {
            assert_eq!(answer(&of(profile(default)).unwrap(), x86_64, 500), verdict);
        }
    }
}
