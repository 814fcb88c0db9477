//! Deletes a container whose record can be read but is damaged (a full disk, a loss of power), by what the kernel knows of it: the
//! cgroup of its id, and a process that has its gate open.

use crate::cgroup::{self, Cgroup};
use crate::cli::Global;
use crate::cmd::prepare::rootless;
use crate::error::{Context, Error, Result};
use crate::log::Log;
use crate::plan::cgroup::{CgroupRequest, plan, wants_own};
use crate::state::Dir;
use crate::sys::{Errno, proc, signal};
use nix::unistd::Pid;
use procfs::process::all_processes;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// How long a killed process may take to end.
const MOST: Duration = Duration::from_secs(5);

/// Deletes it.
///
/// # Errors
/// Something can't be removed; the error says what and where.
pub(super) fn delete(global: &Global, id: &str, dir: &Dir, why: &Error, log: &Log) -> Result<()> {
    let cgroup = usual(global, id)?;
    end_waiting(&dir.gate())?;
    let shown = cgroup.counted().map(|path| path.display().to_string()).unwrap_or_default();
    let pids = cgroup.pids()?;
    for pid in &pids {
        if at_home(*pid)? {
            return Err(Error::msg(format!("{why}; process {pid} in cgroup {shown} is in the host's mount namespace"))
                .with_hint(
                    "it may be none of the container's: end it, or move it to another cgroup, and delete again",
                ));
        }
    }
    if !pids.is_empty() {
        cgroup.kill_all().context(|| "unable to kill the container's processes")?;
    }
    cgroup.remove().context(|| "unable to remove container's cgroup")?;
    log.warn(&format!("{why}; what it had elsewhere than in cgroup {shown}, if anything, is left"));
    dir.remove().context(|| "unable to remove container state dir")
}

/// The cgroup of a container whose bundle has no `cgroupsPath`.
fn usual(global: &Global, id: &str) -> Result<Cgroup> {
    let wanted = CgroupRequest {
        resources: None,
        cgroups_path: None,
        annotations: None,
        extensions: None,
        id,
        driver: global.cgroup,
        owner: None,
        rootless: rootless(global),
    };
    let facts = cgroup::facts(wants_own(&wanted))?;
    Ok(Cgroup::planned(&plan(&wanted, &facts, &mut Vec::new())?))
}

/// Whether a process is in our mount namespace. `false` if it has ended.
fn at_home(pid: i32) -> Result<bool> {
    let namespace = |who: &str| std::fs::read_link(format!("/proc/{who}/ns/mnt"));
    let own = namespace("self").context(|| "read /proc/self/ns/mnt")?;
    match namespace(&pid.to_string()) {
        Ok(theirs) => Ok(theirs == own),
        Err(error) if is_gone(&error) => Ok(false),
        Err(error) => Err(error).context(|| format!("read /proc/{pid}/ns/mnt")),
    }
}

fn is_gone(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error().map(Errno::from_raw), Some(Errno::ENOENT | Errno::ESRCH))
}

/// Kills the processes that have the gate open: an init that waits for `start`.
fn end_waiting(gate: &Path) -> Result<()> {
    let wanted = match std::fs::metadata(gate) {
        Ok(meta) => (meta.dev(), meta.ino()),
        Err(error) if is_gone(&error) => return Ok(()),
        Err(error) => return Err(error).context(|| format!("stat {}", gate.display())),
    };
    let processes = all_processes().map_err(|error| Error::msg(error.to_string()).context("list the processes"))?;
    // a process that has ended, or whose descriptors we may not read, is not init of this container
    for process in processes.flatten().filter(|process| process.pid != nix::unistd::getpid().as_raw()) {
        let Ok(mut open) = process.fd() else { continue };
        let is_gate = |fd: i32| {
            let file = std::fs::metadata(format!("/proc/{}/fd/{fd}", process.pid));
            file.is_ok_and(|file| (file.dev(), file.ino()) == wanted)
        };
        if open.any(|fd| fd.is_ok_and(|fd| is_gate(fd.fd))) {
            end(process.pid)?;
        }
    }
    Ok(())
}

fn end(pid: i32) -> Result<()> {
    let what = || format!("kill process {pid}, which waits at the container's gate");
    let pidfd = match proc::pidfd_open(Pid::from_raw(pid)) {
        Err(Errno::ESRCH) => return Ok(()),
        pidfd => pidfd.context(what)?,
    };
    match signal::send(pidfd.as_fd(), libc::SIGKILL) {
        Err(Errno::ESRCH) | Ok(()) => {}
        Err(errno) => return Err(errno).context(what),
    }
    if proc::pidfd_wait(pidfd.as_fd(), MOST).context(what)? { Ok(()) } else { Err(Error::msg(what())) }
}
