//! A container whose record was read and is none: a disk that was full, a machine that lost power. What the kernel knows
//! of it is enough: the cgroup of its id, and who waits at its gate.

use crate::cgroup::{self, Cgroup};
use crate::cli::Global;
use crate::cmd::prepare::rootless;
use crate::error::{Context, Error, Result};
use crate::log::Log;
use crate::plan::cgroup::{CgroupRequest, plan, wants_own};
use crate::state::Dir;
use crate::sys::{Errno, proc, signal};
use nix::unistd::Pid;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// How long a process may take to die of SIGKILL.
const MOST: Duration = Duration::from_secs(5);

/// Deletes it.
///
/// # Errors
/// What is left, and where.
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

/// The cgroup of a container whose bundle names none.
fn usual(global: &Global, id: &str) -> Result<Cgroup> {
    let wanted = CgroupRequest {
        resources: None,
        cgroups_path: None,
        annotations: None,
        id,
        driver: global.cgroup,
        owner: None,
        rootless: rootless(global),
    };
    let facts = cgroup::facts(wants_own(&wanted))?;
    Ok(Cgroup::planned(&plan(&wanted, &facts, &mut Vec::new())?))
}

/// Whether a process is in our mount namespace. One that has ended is nowhere.
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

/// Ends the processes that have the gate open: an init that waits for `start`.
fn end_waiting(gate: &Path) -> Result<()> {
    let wanted = match std::fs::metadata(gate) {
        Ok(meta) => (meta.dev(), meta.ino()),
        Err(error) if is_gone(&error) => return Ok(()),
        Err(error) => return Err(error).context(|| format!("stat {}", gate.display())),
    };
    for entry in std::fs::read_dir("/proc").context(|| "read /proc")? {
        let name = entry.context(|| "read /proc")?.file_name();
        let Some(pid) =
            name.to_str().and_then(|name| name.parse().ok()).filter(|pid| *pid != nix::unistd::getpid().as_raw())
        else {
            continue;
        };
        // processes that go, and those that we may not look into, are none of ours
        let Ok(open) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
        let waits =
            open.flatten().any(|fd| std::fs::metadata(fd.path()).is_ok_and(|meta| (meta.dev(), meta.ino()) == wanted));
        if waits {
            end(pid)?;
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
