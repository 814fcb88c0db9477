//! What the spec demands beyond the types, and what its parts demand of each other. Pure: what only the machine can
//! tell (a path that is missing, a feature that is not there) is found by the plan or by the step that meets it.

use crate::error::{Error, Kind, Result};
use oci_spec::runtime::{
    Hook, Hooks, Linux, LinuxNamespace, LinuxNamespaceType, LinuxSchedulerPolicy, Process, Spec, User,
};
use std::collections::HashSet;
use std::path::Path;

/// Checks a bundle's configuration.
///
/// `for_start`: whether a process is to run; the spec lets `create` do without one.
///
/// # Errors
/// The first mistake, in runc's words where callers know these, else with its JSON path.
pub fn validate(spec: &Spec, for_start: bool) -> Result<()> {
    if spec.root().is_none() {
        return Err(Error::spec("root", "must be specified"));
    }
    match spec.process() {
        Some(process) => validate_process(process)?,
        None if for_start => return Err(sentence("process property must not be empty")),
        None => {}
    }
    for (at, mount) in spec.mounts().iter().flatten().enumerate() {
        if mount.destination().as_os_str().is_empty() {
            return Err(Error::spec(format!("mounts[{at}].destination"), "must not be empty"));
        }
    }
    if spec.annotations().iter().flatten().any(|(key, _)| key.is_empty()) {
        return Err(Error::spec("annotations", "a key must not be empty"));
    }
    spec.hooks().as_ref().map_or(Ok(()), hooks)?;
    names(spec)?;
    spec.linux().as_ref().map_or(Ok(()), |linux| {
        supported(linux)?;
        deadline(spec, linux)?;
        namespaces(linux)?;
        needs(linux)?;
        sysctls(linux)
    })
}

/// Checks a process: of a configuration, or of `exec`.
///
/// # Errors
/// The first mistake, in runc's words.
pub fn validate_process(process: &Process) -> Result<()> {
    if process.cwd().as_os_str().is_empty() {
        return Err(sentence("Cwd property must not be empty"));
    }
    if !process.cwd().is_absolute() {
        return Err(sentence("Cwd must be an absolute path"));
    }
    if process.args().as_ref().is_none_or(Vec::is_empty) {
        return Err(sentence("args must not be empty"));
    }
    ids(process.user())?;
    let mut seen = Vec::new();
    for (at, limit) in process.rlimits().iter().flatten().enumerate() {
        // the spec demands the error, and runc, crun and youki apply both instead
        if seen.contains(&limit.typ()) {
            return Err(Error::spec(format!("process.rlimits[{at}].type"), format!("duplicate {}", limit.typ())));
        }
        seen.push(limit.typ());
        if limit.soft() > limit.hard() {
            let message = format!("{} is above the hard limit {}", limit.soft(), limit.hard());
            return Err(Error::spec(format!("process.rlimits[{at}].soft"), message));
        }
    }
    // execve cannot carry a zero byte, and cutting at it would change the meaning
    let words = process.args().iter().flatten().map(|word| ("args", word));
    for (list, word) in words.chain(process.env().iter().flatten().map(|word| ("env", word))) {
        if word.contains('\0') {
            return Err(Error::spec(format!("process.{list}"), format!("{word:?} holds a zero byte")));
        }
    }
    Ok(())
}

/// The highest number is no id: `setresuid(2)` takes it for "leave it as it is", and the process would stay root.
fn ids(user: &User) -> Result<()> {
    let groups = user.additional_gids().iter().flatten().map(|gid| ("additionalGids", *gid));
    match [("uid", user.uid()), ("gid", user.gid())].into_iter().chain(groups).find(|(_, id)| *id == u32::MAX) {
        Some((name, id)) => Err(Error::spec(format!("process.user.{name}"), format!("{id} is nobody's id"))),
        None => Ok(()),
    }
}

/// A mistake that callers know by its words.
fn sentence(words: impl Into<String>) -> Error {
    Error::new(Kind::Spec, words)
}

#[allow(deprecated, reason = "prestart hooks are deprecated and still in use")]
fn hooks(hooks: &Hooks) -> Result<()> {
    let kinds = [
        ("prestart", hooks.prestart()),
        ("createRuntime", hooks.create_runtime()),
        ("createContainer", hooks.create_container()),
        ("startContainer", hooks.start_container()),
        ("poststart", hooks.poststart()),
        ("poststop", hooks.poststop()),
    ];
    for (kind, list) in kinds {
        for (at, hook) in list.iter().flatten().enumerate() {
            self::hook(hook, &format!("hooks.{kind}[{at}]"))?;
        }
    }
    Ok(())
}

fn hook(hook: &Hook, at: &str) -> Result<()> {
    if !hook.path().is_absolute() {
        return Err(Error::spec(format!("{at}.path"), format!("{:?} must be an absolute path", hook.path())));
    }
    if hook.timeout().is_some_and(|seconds| seconds <= 0) {
        return Err(Error::spec(format!("{at}.timeout"), "must be greater than zero"));
    }
    Ok(())
}

/// What we do not do is refused: a container without it is not the one that was asked for.
fn supported(linux: &Linux) -> Result<()> {
    if linux.intel_rdt().is_some() {
        return Err(sentence("intelRdt is specified in config, but Intel RDT is not supported or enabled"));
    }
    let io = linux.resources().as_ref().and_then(|resources| resources.block_io().as_ref());
    let devices = io.and_then(|io| io.weight_device().as_deref()).unwrap_or_default();
    match devices.iter().position(|device| device.weight().is_none() && device.leaf_weight().is_none()) {
        Some(at) => Err(Error::spec(
            format!("linux.resources.blockIO.weightDevice[{at}]"),
            "needs weight or leafWeight, or both",
        )),
        None => Ok(()),
    }
}

/// The kernel gives deadlines only to those who may run anywhere.
fn deadline(spec: &Spec, linux: &Linux) -> Result<()> {
    let scheduler = spec.process().as_ref().and_then(|process| process.scheduler().as_ref());
    let cpu = linux.resources().as_ref().and_then(|resources| resources.cpu().as_ref());
    let bound = cpu.and_then(|cpu| cpu.cpus().as_deref()).is_some_and(|cpus| !cpus.is_empty());
    if bound && scheduler.is_some_and(|scheduler| *scheduler.policy() == LinuxSchedulerPolicy::SchedDeadline) {
        return Err(sentence("process scheduler can't be used together with AllowedCPUs"));
    }
    Ok(())
}

/// The name of a namespace type in `config.json`.
fn name(kind: LinuxNamespaceType) -> &'static str {
    match kind {
        LinuxNamespaceType::Mount => "mount",
        LinuxNamespaceType::Cgroup => "cgroup",
        LinuxNamespaceType::Uts => "uts",
        LinuxNamespaceType::Ipc => "ipc",
        LinuxNamespaceType::User => "user",
        LinuxNamespaceType::Pid => "pid",
        LinuxNamespaceType::Network => "network",
        LinuxNamespaceType::Time => "time",
    }
}

/// The namespace of a type, new or joined.
fn namespace(linux: &Linux, kind: LinuxNamespaceType) -> Option<&LinuxNamespace> {
    linux.namespaces().iter().flatten().find(|namespace| namespace.typ() == kind)
}

/// The path of a namespace that is joined; an empty one is none.
fn path(namespace: &LinuxNamespace) -> Option<&Path> {
    namespace.path().as_deref().filter(|path| !path.as_os_str().is_empty())
}

fn has(linux: &Linux, kind: LinuxNamespaceType) -> bool {
    namespace(linux, kind).is_some()
}

fn namespaces(linux: &Linux) -> Result<()> {
    let mut seen = Vec::new();
    for (at, namespace) in linux.namespaces().iter().flatten().enumerate() {
        let path = path(namespace);
        if seen.contains(&namespace.typ()) {
            let path = path.map(|path| path.to_string_lossy()).unwrap_or_default();
            let words = format!("malformed spec file: duplicated ns {{{:?} {path:?}}}", name(namespace.typ()));
            return Err(sentence(words));
        }
        seen.push(namespace.typ());
        if path.is_some_and(|path| !path.is_absolute()) {
            return Err(Error::spec(format!("linux.namespaces[{at}].path"), "must be an absolute path"));
        }
    }
    Ok(())
}

/// The host keeps its own names.
fn names(spec: &Spec) -> Result<()> {
    let private = spec.linux().as_ref().is_some_and(|linux| has(linux, LinuxNamespaceType::Uts));
    for (name, what) in [(spec.hostname(), "hostname"), (spec.domainname(), "domainname")] {
        if !private && name.as_ref().is_some_and(|name| !name.is_empty()) {
            return Err(sentence(format!("unable to set {what} without a private UTS namespace")));
        }
    }
    Ok(())
}

/// What can only be done in a namespace of its own.
fn needs(linux: &Linux) -> Result<()> {
    let any = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|list| !list.is_empty());
    if (any(linux.masked_paths()) || any(linux.readonly_paths())) && !has(linux, LinuxNamespaceType::Mount) {
        return Err(sentence("unable to restrict sys entries without a private MNT namespace"));
    }
    user(linux)?;
    if linux.time_offsets().as_ref().is_some_and(|offsets| !offsets.is_empty()) {
        time_offsets(linux)?;
    }
    Ok(())
}

/// Mappings belong to a user namespace, and a new one is of no use without.
fn user(linux: &Linux) -> Result<()> {
    let maps = [("uid", linux.uid_mappings()), ("gid", linux.gid_mappings())];
    for (kind, maps) in maps {
        let mapped = maps.as_ref().is_some_and(|maps| !maps.is_empty());
        match namespace(linux, LinuxNamespaceType::User) {
            None if mapped => {
                return Err(sentence(
                    "User namespace mappings specified, but USER namespace isn't enabled in the config",
                ));
            }
            Some(new) if path(new).is_none() && !mapped => {
                return Err(sentence(format!("User namespaces enabled, but no {kind} mappings found")));
            }
            None | Some(_) => {}
        }
    }
    Ok(())
}

/// Clocks can only be moved before the first process is in: never in a namespace that is joined.
fn time_offsets(linux: &Linux) -> Result<()> {
    match namespace(linux, LinuxNamespaceType::Time) {
        None => return Err(Error::spec("linux.timeOffsets", "needs a time namespace")),
        Some(joined) if path(joined).is_some() => {
            return Err(Error::spec("linux.timeOffsets", "not possible in a time namespace that is joined"));
        }
        Some(_) => {}
    }
    for clock in linux.time_offsets().iter().flatten().map(|(clock, _)| clock) {
        if !matches!(clock.as_str(), "monotonic" | "boottime") {
            return Err(Error::spec(format!("linux.timeOffsets.{clock}"), "is not monotonic or boottime"));
        }
    }
    Ok(())
}

/// sysctls that the kernel keeps by ipc namespace, beside `fs.mqueue.*`.
const IPC: &[&str] = &[
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// Only what a namespace of the container keeps to itself may be written: anything else would change the host.
fn sysctls(linux: &Linux) -> Result<()> {
    let mut seen = HashSet::new();
    for key in linux.sysctl().iter().flatten().map(|(key, _)| key) {
        let name = dotted(key);
        let needs = |kind, words: &str| {
            has(linux, kind).then_some(()).ok_or_else(|| sentence(format!("sysctl {name:?} {words}")))
        };
        if IPC.contains(&name.as_str()) || name.starts_with("fs.mqueue.") {
            needs(LinuxNamespaceType::Ipc, "is not allowed in the hosts ipc namespace")?;
        } else if name.starts_with("net.") {
            needs(LinuxNamespaceType::Network, "not allowed in host network namespace")?;
        } else if name.starts_with("user.") {
            needs(LinuxNamespaceType::User, "is not in a separate kernel namespace")?;
        } else if name == "kernel.domainname" {
            needs(LinuxNamespaceType::Uts, "is not in a separate kernel namespace")?;
        } else if name == "kernel.hostname" {
            return Err(sentence(format!(
                "sysctl {name:?} is not allowed as it conflicts with the OCI \"hostname\" field"
            )));
        } else {
            return Err(sentence(format!("sysctl {name:?} is not in a separate kernel namespace")));
        }
        // a component of dots would leave /proc/sys
        if key.split(['/', '.']).any(str::is_empty) || key.contains('\0') || !seen.insert(name.clone()) {
            return Err(Error::spec(format!("linux.sysctl.{key}"), "is not a name, or there twice"));
        }
    }
    Ok(())
}

/// `net/ipv4/conf/eth0.1/x` → `net.ipv4.conf.eth0/1.x`: the separator is whichever of the two comes first (sysctl(8)).
fn dotted(name: &str) -> String {
    match name.find(['.', '/']).and_then(|at| name.get(at..=at)) {
        Some("/") => name
            .chars()
            .map(|letter| match letter {
                '/' => '.',
                '.' => '/',
                other => other,
            })
            .collect(),
        Some(_) | None => name.to_owned(),
    }
}
