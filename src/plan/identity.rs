//! Identity and confinement of the process: labels, limits, scheduling, ids, capabilities, seccomp, working directory.

use super::capabilities::{mask, names};
use super::image::c_string;
use super::step::{Attempt, Step};
use super::{Limit, seccomp};
use crate::error::{Error, Result};
use crate::facts::Lsm;
use crate::sys::cred::CapSets;
use crate::sys::task::SchedAttr;
use oci_spec::runtime::{
    Capabilities, IOPriorityClass, LinuxCapabilities, LinuxMemoryPolicy, LinuxPersonality, LinuxPersonalityDomain,
    LinuxSchedulerFlag, LinuxSchedulerPolicy, LinuxSeccomp, MemoryPolicyFlagType, MemoryPolicyModeType, PosixRlimit,
    PosixRlimitType, Process, Scheduler,
};
use std::path::PathBuf;

fn resource(typ: PosixRlimitType) -> (u32, &'static str) {
    match typ {
        PosixRlimitType::RlimitCpu => (0, "RLIMIT_CPU"),
        PosixRlimitType::RlimitFsize => (1, "RLIMIT_FSIZE"),
        PosixRlimitType::RlimitData => (2, "RLIMIT_DATA"),
        PosixRlimitType::RlimitStack => (3, "RLIMIT_STACK"),
        PosixRlimitType::RlimitCore => (4, "RLIMIT_CORE"),
        PosixRlimitType::RlimitRss => (5, "RLIMIT_RSS"),
        PosixRlimitType::RlimitNproc => (6, "RLIMIT_NPROC"),
        PosixRlimitType::RlimitNofile => (7, "RLIMIT_NOFILE"),
        PosixRlimitType::RlimitMemlock => (8, "RLIMIT_MEMLOCK"),
        PosixRlimitType::RlimitAs => (9, "RLIMIT_AS"),
        PosixRlimitType::RlimitLocks => (10, "RLIMIT_LOCKS"),
        PosixRlimitType::RlimitSigpending => (11, "RLIMIT_SIGPENDING"),
        PosixRlimitType::RlimitMsgqueue => (12, "RLIMIT_MSGQUEUE"),
        PosixRlimitType::RlimitNice => (13, "RLIMIT_NICE"),
        PosixRlimitType::RlimitRtprio => (14, "RLIMIT_RTPRIO"),
        PosixRlimitType::RlimitRttime => (15, "RLIMIT_RTTIME"),
    }
}

/// The limits of `process.rlimits`.
pub(super) fn limits(process: &Process) -> Vec<Limit> {
    let limit = |limit: &PosixRlimit| {
        let (resource, name) = resource(limit.typ());
        Limit { resource, name, soft: limit.soft(), hard: limit.hard() }
    };
    process.rlimits().iter().flatten().map(limit).collect()
}

/// Limits that init sets itself, as steps.
pub(super) fn limit_steps(limits: &[Limit]) -> impl Iterator<Item = Step> {
    limits.iter().map(|l| Step::Limit { resource: l.resource, name: l.name, soft: l.soft, hard: l.hard })
}

/// Scheduler, I/O priority, memory policy, personality.
///
/// # Errors
/// A value that the kernel does not have.
pub(super) fn scheduling(
    process: &Process,
    memory: Option<&LinuxMemoryPolicy>,
    persona: Option<&LinuxPersonality>,
) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    if let Some(scheduler) = process.scheduler() {
        steps.push(schedule(scheduler)?);
    }
    if let Some(priority) = process.io_priority() {
        let class = match priority.class() {
            IOPriorityClass::IoprioClassRt => 1,
            IOPriorityClass::IoprioClassBe => 2,
            IOPriorityClass::IoprioClassIdle => 3,
        };
        let level = u16::try_from(priority.priority()).ok().filter(|level| *level < 8);
        let level = level.ok_or_else(|| {
            Error::spec("process.ioPriority.priority", format!("invalid ioPriority.Priority: {}", priority.priority()))
        })?;
        steps.push(Step::IoPriority(class, level));
    }
    if let Some(policy) = memory {
        steps.push(memory_policy(policy)?);
    }
    if let Some(personality) = persona {
        if personality.flags().iter().flatten().next().is_some() {
            return Err(Error::spec("linux.personality.flags", "no flag is known to the spec"));
        }
        steps.push(Step::Personality(match personality.domain() {
            LinuxPersonalityDomain::PerLinux => 0,
            LinuxPersonalityDomain::PerLinux32 => 8,
        }));
    }
    Ok(steps)
}

fn schedule(scheduler: &Scheduler) -> Result<Step> {
    let (policy, name) = match scheduler.policy() {
        LinuxSchedulerPolicy::SchedOther => (0, "SCHED_OTHER"),
        LinuxSchedulerPolicy::SchedFifo => (1, "SCHED_FIFO"),
        LinuxSchedulerPolicy::SchedRr => (2, "SCHED_RR"),
        LinuxSchedulerPolicy::SchedBatch => (3, "SCHED_BATCH"),
        LinuxSchedulerPolicy::SchedIso => (4, "SCHED_ISO"),
        LinuxSchedulerPolicy::SchedIdle => (5, "SCHED_IDLE"),
        LinuxSchedulerPolicy::SchedDeadline => (6, "SCHED_DEADLINE"),
    };
    let nice = scheduler.nice().unwrap_or_default();
    if !(-20..=19).contains(&nice) {
        return Err(Error::spec("process.scheduler.nice", format!("invalid scheduler.nice: {nice}")));
    }
    let flags = scheduler.flags().iter().flatten().fold(0, |flags, flag| {
        flags
            | match flag {
                LinuxSchedulerFlag::SchedResetOnFork => 0x01,
                LinuxSchedulerFlag::SchedFlagReclaim => 0x02,
                LinuxSchedulerFlag::SchedFlagDLOverrun => 0x04,
                LinuxSchedulerFlag::SchedFlagKeepPolicy => 0x08,
                LinuxSchedulerFlag::SchedFlagKeepParams => 0x10,
                LinuxSchedulerFlag::SchedFlagUtilClampMin => 0x20,
                LinuxSchedulerFlag::SchedFlagUtilClampMax => 0x40,
            }
    });
    let priority = u32::try_from(scheduler.priority().unwrap_or_default())
        .map_err(|_| Error::spec("process.scheduler.priority", "must not be negative"))?;
    let attr = SchedAttr {
        policy,
        flags,
        nice,
        priority,
        runtime: scheduler.runtime().unwrap_or_default(),
        deadline: scheduler.deadline().unwrap_or_default(),
        period: scheduler.period().unwrap_or_default(),
        ..SchedAttr::default()
    };
    Ok(Step::Scheduler(attr, name))
}

fn memory_policy(policy: &LinuxMemoryPolicy) -> Result<Step> {
    let mode = match policy.mode() {
        MemoryPolicyModeType::MpolDefault => 0,
        MemoryPolicyModeType::MpolPreferred => 1,
        MemoryPolicyModeType::MpolBind => 2,
        MemoryPolicyModeType::MpolInterleave => 3,
        MemoryPolicyModeType::MpolLocal => 4,
        MemoryPolicyModeType::MpolPreferredMany => 5,
        MemoryPolicyModeType::MpolWeightedInterleave => 6,
    };
    let flags = policy.flags().iter().flatten().fold(0, |flags, flag| {
        flags
            | match flag {
                MemoryPolicyFlagType::MpolFNumaBalancing => 1 << 13,
                MemoryPolicyFlagType::MpolFRelativeNodes => 1 << 14,
                MemoryPolicyFlagType::MpolFStaticNodes => 1 << 15,
            }
    });
    let nodes = bit_list("linux.memoryPolicy.nodes", policy.nodes().as_deref().unwrap_or_default())?;
    Ok(Step::MemoryPolicy(mode | flags, nodes))
}

/// Parses `0-3,7` into a bit mask, lowest first (`cpuset(7)`, List format).
///
/// # Errors
/// The text has another form.
pub(super) fn bit_list(at: &str, list: &str) -> Result<Box<[u64]>> {
    const MOST: usize = 8192;
    let wrong = || Error::spec(at, format!("{list:?} is no list of numbers and ranges"));
    let mut bits: Vec<u64> = Vec::new();
    for part in list.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: usize = first.trim().parse().map_err(|_| wrong())?;
        let last: usize = last.trim().parse().map_err(|_| wrong())?;
        if first > last || last >= MOST {
            return Err(wrong());
        }
        bits.resize(bits.len().max(last / 64 + 1), 0);
        (first..=last).for_each(|bit| bits[bit / 64] |= 1 << (bit % 64));
    }
    Ok(bits.into())
}

/// The steps that set the labels which the next execve takes on; `PROC` must be open.
///
/// # Errors
/// A label of a security module that is not enabled.
pub(super) fn labels(process: &Process, lsm: &Lsm) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    if let Some(profile) = process.apparmor_profile().as_deref().filter(|profile| !profile.is_empty()) {
        let at = "process.apparmorProfile";
        if !lsm.apparmor {
            return Err(Error::spec(at, "apparmor: config provided but apparmor not supported"));
        }
        let value = c_string(at, format!("exec {profile}"))?;
        let file = c"self/attr/apparmor/exec".to_owned();
        steps.push(Step::WriteProc { file, value });
    }
    if let Some(label) = process.selinux_label().as_deref().filter(|label| !label.is_empty()) {
        let at = "process.selinuxLabel";
        if !lsm.selinux {
            return Err(Error::spec(
                at,
                "selinux label is specified in config, but selinux is disabled or not supported",
            ));
        }
        let value = c_string(at, label)?;
        for file in [c"self/attr/keycreate", c"self/attr/exec"] {
            steps.push(Step::WriteProc { file: file.to_owned(), value: value.clone() });
        }
    }
    Ok(steps)
}

/// Steps that confine the process and change its ids.
#[derive(Debug)]
pub(super) struct Confinement {
    /// To be done before the program is looked up.
    pub before: Vec<Step>,
    /// With `noNewPrivileges`: the seccomp filter, as the last step before execve.
    pub last: Option<Step>,
    /// Path of the seccomp agent's socket, and the metadata for it.
    pub listener: Option<(PathBuf, String)>,
    /// Warnings for the log.
    pub notes: Vec<String>,
}

/// The seccomp filter as a step, and who gets its listener.
#[allow(clippy::type_complexity, reason = "a step and an address")]
fn filter(
    profile: Option<&LinuxSeccomp>,
    details: &mut Vec<String>,
) -> Result<(Option<Step>, Option<(PathBuf, String)>)> {
    let Some(profile) = profile else { return Ok((None, None)) };
    let filter = seccomp::filter(profile, "linux.seccomp")?;
    details.extend(filter.notes);
    let listener = filter.listener.map(|listener| (listener.path, listener.metadata));
    let step = Step::Seccomp { program: filter.program, flags: filter.flags };
    Ok((Some(step), listener))
}

/// Which process of a container it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The first one: its working directory is created if it is missing.
    First,
    /// A later one (`exec`).
    Exec,
}

/// What is known about the caller.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller {
    /// It may set groups. If not (it is not root), its own groups stay.
    pub groups: bool,
    /// The caller's groups stay, whatever the process names (`run.oci.keep_original_groups`).
    pub keeps_groups: bool,
    /// Its user and group are 0 already.
    pub is_root: bool,
}

/// Seccomp, groups, ids, capabilities, working directory, in an order in which each step still has the privileges that it
/// needs.
///
/// # Errors
/// An invalid seccomp profile.
pub(super) fn confine(
    process: &Process,
    profile: Option<&LinuxSeccomp>,
    caller: Caller,
    role: Role,
    details: &mut Vec<String>,
) -> Result<Confinement> {
    let user = process.user();
    let cwd = c_string("process.cwd", process.cwd().as_os_str().as_encoded_bytes())?;
    let (filter, listener) = filter(profile, details)?;
    let mut before = Vec::new();
    let mut last = None;
    let changes_uid = user.uid() != 0;
    // after the pivot we are in / already
    let moves = cwd.as_c_str() != c"/";
    // before seccomp, which may deny openat2, by which links of procfs are refused
    if moves {
        let attempt = if changes_uid { Attempt::First } else { Attempt::Only };
        before.push(Step::Chdir { path: cwd.clone(), attempt, make: role == Role::First });
    }
    if process.no_new_privileges().unwrap_or_default() {
        before.push(Step::NoNewPrivs);
        last = filter;
    } else {
        // without no_new_privs, installing a filter needs CAP_SYS_ADMIN, which is dropped next
        before.extend(filter);
    }
    let caps = process.capabilities().as_ref();
    let set =
        |choose: fn(&LinuxCapabilities) -> &Option<Capabilities>| mask(caps.and_then(|caps| choose(caps).as_ref()));
    before.push(Step::Bound(set(LinuxCapabilities::bounding)));
    if changes_uid {
        before.push(Step::OwnStdio(user.uid()));
        before.push(Step::KeepCaps(true));
    }
    before.push(Step::Umask(user.umask().unwrap_or(0o022)));
    let groups: Box<[u32]> = user.additional_gids().clone().unwrap_or_default().into();
    if caller.keeps_groups {
        // as with crun, the process gets no others
    } else if caller.groups {
        before.push(Step::Groups(groups));
    } else if !groups.is_empty() {
        let text = "cannot set any additional groups in a rootless container";
        return Err(Error::spec("process.user.additionalGids", text).with_hint("only root may set groups"));
    }
    if !(caller.is_root && user.gid() == 0) {
        before.push(Step::Gid(user.gid()));
    }
    if !(caller.is_root && user.uid() == 0) {
        before.push(Step::Uid(user.uid()));
    }
    // the user may be able to enter a directory that root could not (NFS); otherwise this does nothing
    if moves && changes_uid {
        before.push(Step::Chdir { path: cwd, attempt: Attempt::Second, make: false });
    }
    if changes_uid {
        before.push(Step::KeepCaps(false));
    }
    before.push(Step::Caps(CapSets {
        effective: set(LinuxCapabilities::effective),
        permitted: set(LinuxCapabilities::permitted),
        inheritable: set(LinuxCapabilities::inheritable),
    }));
    let ambient = set(LinuxCapabilities::ambient);
    let refused = ambient & !(set(LinuxCapabilities::permitted) & set(LinuxCapabilities::inheritable));
    let notes =
        names(refused).map(|name| format!("can't raise ambient capability {name}: operation not permitted")).collect();
    if ambient != 0 {
        before.push(Step::Ambient(ambient));
    }
    // with fs.suid_dumpable=1 each change of ids has made us dumpable again; we must not be until execve
    before.push(Step::Undumpable);
    Ok(Confinement { before, last, listener, notes })
}

/// Whether any step writes to procfs, so that one must be opened.
pub(super) fn wants_proc(steps: &[Step]) -> bool {
    steps.iter().any(|step| matches!(step, Step::WriteProc { .. }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_numbers() {
        assert_eq!(*bit_list("x", "0-3,7").unwrap(), [0b1000_1111]);
        assert_eq!(*bit_list("x", "64").unwrap(), [0, 1]);
        assert!(bit_list("x", "").unwrap().is_empty());
        for wrong in ["3-1", "a", "1-", "99999"] {
            assert!(bit_list("x", wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn seccomp_comes_before_the_capabilities_go_or_last() {
        let profile: LinuxSeccomp = serde_json::from_str(r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["kexec_load"], "action": "SCMP_ACT_ERRNO"}]}"#).unwrap();
        let mut process = Process::default();
        let place = |process: &Process| {
            let caller = Caller { groups: true, keeps_groups: false, is_root: true };
            let confined = confine(process, Some(&profile), caller, Role::First, &mut Vec::new()).unwrap();
            let at = confined.before.iter().position(|s| matches!(s, Step::Seccomp { .. }));
            let caps = confined.before.iter().position(|s| matches!(s, Step::Bound(_)));
            (at, caps, confined.last.is_some())
        };
        process.set_no_new_privileges(Some(true));
        assert!(matches!(place(&process), (None, Some(_), true)));
        for without in [Some(false), None] {
            process.set_no_new_privileges(without);
            assert!(matches!(place(&process), (Some(s), Some(c), false) if s < c));
        }
    }

    #[test]
    fn groups_are_root_s_to_set() {
        let steps = |gids: &[u32], groups: bool, keeps_groups: bool| {
            let mut user = oci_spec::runtime::User::default();
            user.set_additional_gids(Some(gids.to_vec()));
            let mut process = Process::default();
            process.set_user(user);
            let caller = Caller { groups, keeps_groups, is_root: false };
            let confined = confine(&process, None, caller, Role::First, &mut Vec::new()).map_err(|e| e.to_string())?;
            Ok::<_, String>(confined.before.iter().any(|step| matches!(step, Step::Groups(_))))
        };
        assert_eq!(steps(&[5], true, false), Ok(true));
        // the caller's own, which are unmapped, go nowhere but with him
        assert_eq!(steps(&[], true, false), Ok(true));
        assert_eq!(steps(&[], false, false), Ok(false));
        let refused = "process.user.additionalGids: cannot set any additional groups in a rootless container";
        assert_eq!(steps(&[5], false, false), Err(refused.to_owned()));
        for (gids, groups) in [(&[5][..], true), (&[], true), (&[5], false)] {
            assert_eq!(steps(gids, groups, true), Ok(false), "{gids:?}");
        }
    }
}
