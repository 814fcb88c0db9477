//! `exec`: runs one more process in a container, in the foreground until it ends, or detached.

use super::prepare::{check_terminal, protect};
use crate::cgroup::SubCgroup;
use crate::cli::{self, Global};
use crate::error::{Context, Error, Result};
use crate::launch::exec::{self, Job};
use crate::launch::{self, console};
use crate::log::Log;
use crate::spec;
use crate::state::Held;
use crate::sys::{signal, tty};
use oci_spec::runtime::{
    Box as Window, BoxBuilder as WindowBuilder, Capabilities, Capability, LinuxCapabilities, Process,
};
use serde::Deserialize;
use serde::de::value::{Error as WordError, StringDeserializer};
use std::os::fd::{AsFd, BorrowedFd};

/// Runs a process in a container. Returns its exit status, or 0 when detached.
///
/// # Errors
/// The container has no process, is paused, or does not exist; see `launch::exec::launch`.
pub(super) fn run(global: &Global, exec: &cli::Exec, log: &Log) -> Result<u8> {
    let mut options = exec.start.clone();
    // before we open anything that could get one of these numbers
    options.preserve_fds = launch::preserve(options.preserve_fds, 0)?;
    // before the process document is read: the fallback executes us again, and a pipe can be read only once
    let protection = protect(log)?;
    let container = super::open(global, &exec.id)?;
    let init = running(&container, exec.ignore_paused)?;
    let loaded = super::configuration(&container)?;
    let mut process = process(exec, loaded.spec.process().as_ref(), log)?;
    check_terminal(Some(&process), &options)?;
    if process.terminal().unwrap_or_default() && options.foreground() {
        // set before the process starts, so that its first output fits the window
        process.set_console_size(size(console::callers_terminal()?.as_fd()).or(process.console_size()));
    }
    let process = spec::check_process(process)?;
    let subs = subs(&exec.cgroups)?;
    let protection = protection.apply().context(|| launch::PROTECTION)?;
    options.no_new_keyring = container.record.no_new_keyring;
    let linux = loaded.spec.linux().as_ref();
    let job = Job::new(&container.record, &process, linux, &options, &subs);
    if options.foreground() {
        // before the clone: the end of a short process must not be missed
        signal::block_all().context(|| "block signals")?;
    }
    let process = exec::launch(&job, init, protection, log)?;
    if !options.foreground() {
        return Ok(0);
    }
    let end = match &process.terminal {
        Some(master) => console::relay(&process.child, master, exec::lost(&container.record)),
        None => console::wait(&process.child, exec::lost(&container.record)),
    };
    Ok(u8::try_from(end?.status()).unwrap_or(u8::MAX))
}

/// The size of the caller's terminal, if it is one.
fn size(terminal: BorrowedFd<'_>) -> Option<Window> {
    let size = tty::size(terminal).ok().filter(|size| size.rows > 0 || size.columns > 0)?;
    WindowBuilder::default().height(size.rows).width(size.columns).build().ok()
}

/// The first process of the container, which must be created or running, and not paused.
fn running(container: &super::Container, ignore_paused: bool) -> Result<Held> {
    let Some(init) = container.hold()? else { return Err(Error::msg("cannot exec in a stopped container")) };
    if !ignore_paused && container.record.cgroup.frozen()? {
        return Err(Error::msg("cannot exec in a paused container (use --ignore-paused to override)"));
    }
    Ok(init)
}

/// The process: the document of `--process`, or the container's own as changed by the flags.
fn process(exec: &cli::Exec, own: Option<&Process>, log: &Log) -> Result<Process> {
    let process = match &exec.process {
        Some(path) => {
            let loaded = spec::load_process(path)?;
            loaded.notes.iter().for_each(|note| log.warn(note));
            inherit(*loaded.spec, own)
        }
        None if exec.args.is_empty() => return Err(Error::msg("exec args cannot be empty")),
        None => {
            let own = own.ok_or_else(|| Error::msg("process property must not be empty"))?;
            let (process, unknown) = change(own.clone(), exec);
            if !unknown.is_empty() {
                log.warn(&format!("ignoring unknown or unavailable capabilities: [{}]", unknown.join(" ")));
            }
            process
        }
    };
    Ok(process)
}

/// Takes the container's own restrictions where a `--process` document has none, as in runc.
fn inherit(mut process: Process, own: Option<&Process>) -> Process {
    let Some(own) = own else { return process };
    let silent = |text: &Option<String>| text.as_deref().is_none_or(str::is_empty);
    if silent(process.apparmor_profile()) {
        process.set_apparmor_profile(own.apparmor_profile().clone());
    }
    if silent(process.selinux_label()) {
        process.set_selinux_label(own.selinux_label().clone());
    }
    if process.capabilities().is_none() {
        process.set_capabilities(own.capabilities().clone());
    }
    if process.oom_score_adj().is_none() {
        process.set_oom_score_adj(own.oom_score_adj());
    }
    if process.scheduler().is_none() {
        process.set_scheduler(own.scheduler().clone());
    }
    if process.io_priority().is_none() {
        process.set_io_priority(*own.io_priority());
    }
    if process.exec_cpu_affinity().is_none() {
        process.set_exec_cpu_affinity(own.exec_cpu_affinity().clone());
    }
    if process.user().umask().is_none() {
        let umask = own.user().umask();
        process.user_mut().set_umask(umask);
    }
    process
}

/// The container's process as changed by the flags, and the names of unknown capabilities.
fn change(mut process: Process, exec: &cli::Exec) -> (Process, Vec<String>) {
    process.set_args(Some(exec.args.clone()));
    // only `--tty` counts, not the container's own setting
    process.set_terminal(Some(exec.tty));
    if let Some(cwd) = exec.cwd.as_ref().filter(|cwd| !cwd.as_os_str().is_empty()) {
        process.set_cwd(cwd.clone());
    }
    if !exec.env.is_empty() {
        let mut env = process.env().clone().unwrap_or_default();
        env.extend_from_slice(&exec.env);
        process.set_env(Some(env));
    }
    if let Some((uid, gid)) = exec.user {
        let user = process.user_mut();
        user.set_uid(uid);
        let gid = gid.unwrap_or(user.gid());
        user.set_gid(gid);
    }
    if !exec.additional_gids.is_empty() {
        let mut groups = process.user().additional_gids().clone().unwrap_or_default();
        groups.extend_from_slice(&exec.additional_gids);
        process.user_mut().set_additional_gids(Some(groups));
    }
    if let Some(profile) = exec.apparmor.as_ref().filter(|profile| !profile.is_empty()) {
        process.set_apparmor_profile(Some(profile.clone()));
    }
    if let Some(label) = exec.process_label.as_ref().filter(|label| !label.is_empty()) {
        process.set_selinux_label(Some(label.clone()));
    }
    if let Some(on) = exec.no_new_privs {
        process.set_no_new_privileges(Some(on));
    }
    let mut unknown = Vec::new();
    if !exec.caps.is_empty() {
        let (known, others) = capabilities(&exec.caps);
        let caps = process.capabilities().clone().unwrap_or_else(none);
        process.set_capabilities(Some(add(caps, &known)));
        unknown = others;
    }
    (process, unknown)
}

fn capabilities(names: &[String]) -> (Vec<Capability>, Vec<String>) {
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for name in names {
        match Capability::deserialize(StringDeserializer::<WordError>::new(name.clone())) {
            Ok(capability) => known.push(capability),
            Err(_) => unknown.push(name.clone()),
        }
    }
    (known, unknown)
}

fn none() -> LinuxCapabilities {
    let mut none = LinuxCapabilities::default();
    none.set_bounding(None).set_effective(None).set_inheritable(None).set_permitted(None).set_ambient(None);
    none
}

/// Adds capabilities. Never to the inheritable set, which would give them to programs with inheritable file capabilities
/// (CVE-2022-24769); to the ambient set only where they are inheritable already, as the kernel demands.
fn add(mut caps: LinuxCapabilities, more: &[Capability]) -> LinuxCapabilities {
    let with = |set: &Option<Capabilities>, more: &[Capability]| -> Option<Capabilities> {
        Some(set.iter().flatten().chain(more).copied().collect())
    };
    let inheritable = |capability: &&Capability| caps.inheritable().iter().flatten().any(|known| known == *capability);
    let ambient: Vec<Capability> = more.iter().filter(inheritable).copied().collect();
    let (bounding, effective) = (with(caps.bounding(), more), with(caps.effective(), more));
    let (permitted, ambient) = (with(caps.permitted(), more), with(caps.ambient(), &ambient));
    caps.set_bounding(bounding).set_effective(effective).set_permitted(permitted).set_ambient(ambient);
    caps
}

/// `--cgroup [CONTROLLER[,CONTROLLER...]:]PATH`: one path for everything, or paths for controllers.
fn subs(words: &[String]) -> Result<Vec<SubCgroup>> {
    let mut subs: Vec<SubCgroup> = Vec::new();
    for word in words {
        let Some((controllers, path)) = word.split_once(':') else {
            if words.len() != 1 {
                return Err(Error::msg(format!("invalid --cgroup argument: {word} (missing <controller>: prefix)")));
            }
            subs.push(SubCgroup { controllers: Vec::new(), path: word.into() });
            continue;
        };
        let controllers: Vec<String> = controllers.split(',').map(str::to_owned).collect();
        for (at, name) in controllers.iter().enumerate() {
            if name.is_empty() {
                return Err(Error::msg(format!("invalid --cgroup argument: {word} (empty <controller> prefix)")));
            }
            if controllers[..at].contains(name) || subs.iter().any(|sub| sub.controllers.contains(name)) {
                let text = format!("invalid --cgroup argument(s): controller {name} specified multiple times");
                return Err(Error::msg(text));
            }
        }
        subs.push(SubCgroup { controllers, path: path.into() });
    }
    Ok(subs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Exec;

    fn process(text: &str) -> Process {
        serde_json::from_str(text).unwrap()
    }

    fn words(list: &[&str]) -> Vec<String> {
        list.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn cgroups_below() {
        let sub = |controllers: &[&str], path: &str| SubCgroup { controllers: words(controllers), path: path.into() };
        assert_eq!(subs(&words(&["a/b"])).unwrap(), [sub(&[], "a/b")]);
        assert_eq!(
            subs(&words(&["cpu,memory:a", "pids:b"])).unwrap(),
            [sub(&["cpu", "memory"], "a"), sub(&["pids"], "b")]
        );
        assert_eq!(subs(&[]).unwrap(), []);
        for (wrong, why) in [
            (&["a", "b"][..], "missing <controller>: prefix"),
            (&["cpu:a", "b"], "missing <controller>: prefix"),
            (&[":a"], "empty <controller> prefix"),
            (&["cpu,:a"], "empty <controller> prefix"),
            (&["cpu,cpu:a"], "cpu specified multiple times"),
            (&["cpu:a", "pids,cpu:b"], "cpu specified multiple times"),
        ] {
            let error = subs(&words(wrong)).unwrap_err().to_string();
            assert!(error.contains(why), "{wrong:?}: {error}");
        }
    }

    #[test]
    fn flags_change_what_they_name() {
        let own = process(
            r#"{"terminal": true, "cwd": "/own", "args": ["own"], "env": ["A=1"], "noNewPrivileges": true,
                "user": {"uid": 1, "gid": 2, "additionalGids": [3]}, "apparmorProfile": "own"}"#,
        );
        let exec = Exec { args: words(&["new"]), ..Exec::default() };
        let (bare, _) = change(own.clone(), &exec);
        let mut expected = own.clone();
        expected.set_args(Some(words(&["new"]))).set_terminal(Some(false));
        assert_eq!(bare, expected);
        let exec = Exec {
            env: words(&["A=2", "B=3"]),
            user: Some((7, None)),
            additional_gids: vec![8],
            cwd: Some("/new".into()),
            apparmor: Some("new".to_owned()),
            process_label: Some("label".to_owned()),
            no_new_privs: Some(false),
            tty: true,
            ..exec
        };
        let changed = change(own, &exec).0;
        let expected = process(
            r#"{"terminal": true, "cwd": "/new", "args": ["new"], "env": ["A=1", "A=2", "B=3"], "noNewPrivileges": false,
                "user": {"uid": 7, "gid": 2, "additionalGids": [3, 8]}, "apparmorProfile": "new", "selinuxLabel": "label"}"#,
        );
        assert_eq!(changed, expected);
    }

    #[test]
    fn capabilities_are_added_and_not_inherited() {
        let own =
            r#"{"cwd": "/", "user": {}, "capabilities": {"bounding": ["CAP_CHOWN"], "inheritable": ["CAP_KILL"]}}"#;
        let exec = Exec { caps: words(&["CAP_KILL", "CAP_SYSLOG", "CAP_BOGUS"]), ..Exec::default() };
        let (changed, unknown) = change(process(own), &exec);
        assert_eq!(unknown, ["CAP_BOGUS"]);
        let both = r#"["CAP_KILL", "CAP_SYSLOG"]"#;
        let caps = format!(
            r#"{{"bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_SYSLOG"], "effective": {both}, "permitted": {both},
                "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"]}}"#
        );
        let expected: LinuxCapabilities = serde_json::from_str(&caps).unwrap();
        assert_eq!(changed.capabilities().as_ref(), Some(&expected));
        let (changed, _) = change(process(r#"{"cwd": "/", "user": {}}"#), &exec);
        let caps = changed.capabilities().clone().unwrap();
        assert!(caps.inheritable().is_none() && caps.ambient().iter().flatten().count() == 0);
    }

    #[test]
    fn a_silent_document_takes_what_confines_the_container() {
        let own = process(
            r#"{"cwd": "/own", "args": ["own"], "env": ["A=1"], "user": {"uid": 1, "gid": 2, "umask": 63}, "oomScoreAdj": 5,
                "capabilities": {"bounding": ["CAP_CHOWN"]}, "apparmorProfile": "a", "selinuxLabel": "s", "noNewPrivileges": true,
                "rlimits": [{"type": "RLIMIT_CORE", "soft": 1, "hard": 1}], "ioPriority": {"class": "IOPRIO_CLASS_IDLE", "priority": 1}}"#,
        );
        let document = process(r#"{"cwd": "/", "args": ["x"], "user": {"uid": 9, "gid": 9}}"#);
        let expected = process(
            r#"{"cwd": "/", "args": ["x"], "user": {"uid": 9, "gid": 9, "umask": 63}, "oomScoreAdj": 5,
                "capabilities": {"bounding": ["CAP_CHOWN"]}, "apparmorProfile": "a", "selinuxLabel": "s",
                "ioPriority": {"class": "IOPRIO_CLASS_IDLE", "priority": 1}}"#,
        );
        assert_eq!(inherit(document.clone(), Some(&own)), expected);
        assert_eq!(inherit(own.clone(), Some(&expected)), own);
        assert_eq!(inherit(document.clone(), None), document);
    }
}
