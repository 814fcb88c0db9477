//! Writes the id maps of a new user namespace (`user_namespaces(7)`), and creates the user namespaces for id-mapped mounts.

use crate::error::{Context, Error, Result};
use crate::plan::{IdRange, Maps};
use crate::sys::{Errno, cred, signal, spawn};
use std::fmt::Write as _;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::process::Command;

/// Writes `uid_map` and `gid_map` of a process; if we may not, `newuidmap(1)` and `newgidmap(1)` do.
///
/// # Errors
/// The kernel's answer, or the helper's message.
pub(super) fn write(pid: i32, maps: &Maps) -> Result<()> {
    if !cred::is_privileged() {
        // from an unprivileged caller the kernel takes a group map only if setgroups(2) is denied, which could drop groups
        let path = format!("/proc/{pid}/setgroups");
        let own = maps.gids.iter().all(|range| range.count == 1 && range.outside == cred::egid());
        if own {
            std::fs::write(&path, "deny").context(|| format!("write \"deny\" to {path}"))?;
        }
    }
    one(pid, "uid_map", "newuidmap", &maps.uids)?;
    one(pid, "gid_map", "newgidmap", &maps.gids)
}

/// A user namespace with these maps and no process in it.
///
/// # Errors
/// The kernel's answer.
pub(super) fn namespace(maps: &Maps) -> Result<OwnedFd> {
    let pid = spawn::zombie_in_new_user_namespace().context(|| "clone3(user)")?;
    let made = write(pid, maps).and_then(|()| {
        let path = format!("/proc/{pid}/ns/user");
        Ok(File::open(&path).context(|| format!("open {path}"))?.into())
    });
    signal::reap(pid, true).context(|| format!("wait for {pid}"))?;
    made
}

fn one(pid: i32, file: &str, helper: &str, ranges: &[IdRange]) -> Result<()> {
    let path = format!("/proc/{pid}/{file}");
    let mut text = String::new();
    for range in ranges {
        // writing to a string does not fail
        let _ = writeln!(text, "{} {} {}", range.inside, range.outside, range.count);
    }
    match std::fs::write(&path, &text) {
        Err(error) if error.raw_os_error() == Some(Errno::EPERM as i32) && !cred::is_privileged() => {
            by_helper(pid, helper, ranges)
        }
        answer => answer.context(|| format!("write {path} {text:?}")),
    }
}

fn by_helper(pid: i32, helper: &str, ranges: &[IdRange]) -> Result<()> {
    let kind = if helper == "newuidmap" { "uid" } else { "gid" };
    let mut command = Command::new(helper);
    command.arg(pid.to_string());
    for range in ranges {
        command.args([range.inside.to_string(), range.outside.to_string(), range.count.to_string()]);
    }
    let hint =
        |error: Error| error.with_hint(format!("{helper} is in the package uidmap; /etc/sub{kind} lists the ranges"));
    let output = command.output().context(|| format!("run {helper}")).map_err(hint)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    // the message begins with its name
    let said = said.trim().strip_prefix(helper).map_or(said.trim(), |rest| rest.trim_start_matches(": "));
    Err(hint(Error::msg(format!("{helper}: {said}"))))
}
