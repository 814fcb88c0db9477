//! Removing cgroups. May use sys and error.

use super::{Handle, remove_one};
use crate::error::{Error, Result};
use crate::sys::Errno;
use crate::sys::cgroupfs::{Watched, sub_dirs};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long the last processes may take to die.
const MOST: Duration = Duration::from_secs(5);

impl Handle {
    /// Removes it and the cgroups below it in every hierarchy. Its processes must be dead or dying: waits for the last
    /// one, which leaves all hierarchies at once. A unit of systemd is stopped.
    ///
    /// # Errors
    /// If a process stays, or the kernel refuses.
    pub fn remove(&self) -> Result<()> {
        let stopped = match &self.systemd_unit {
            Some(unit) => unit.bus().and_then(|mut bus| bus.stop(&unit.name)),
            None => Ok(()),
        };
        let end = Instant::now() + MOST;
        let mut failed = None;
        for path in self.unified().into_iter().chain(self.legacy()) {
            if let Err(errno) = tree(path, end) {
                failed = failed.or(Some((path, errno)));
            }
        }
        // a scope whose cgroup is gone ends by itself, once there is a systemd again
        let Some((path, errno)) = failed else { return Ok(()) };
        stopped?;
        let error = Error::from(errno).context(format!("remove cgroup {}", path.display()));
        Err(match self.pids() {
            Ok(pids) if !pids.is_empty() => {
                error.context(format!("container's cgroup is not empty: {} process(es) found", pids.len()))
            }
            Ok(_) | Err(_) => error,
        })
    }
}

/// Removes a cgroup with all below it, as long as no process is in them.
fn tree(path: &Path, end: Instant) -> std::result::Result<(), Errno> {
    let mut pause = Duration::from_micros(200);
    loop {
        match empty(path) {
            Err(Errno::EBUSY) => {}
            other => return other,
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Errno::EBUSY);
        }
        // the kernel tells when a cgroup2 becomes empty; else look again, less and less often
        if !wait_empty(path, left) {
            std::thread::sleep(pause.min(left));
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }
}

/// Removes a cgroup with all below it, once.
pub(super) fn empty(path: &Path) -> std::result::Result<(), Errno> {
    match remove_one(path) {
        Err(Errno::EBUSY) => {}
        other => return other,
    }
    for name in sub_dirs(path)? {
        empty(&path.join(name))?;
    }
    remove_one(path)
}

/// Waits until no process is in a cgroup2 or below it. `false` if it can't be waited for, or is empty already.
fn wait_empty(path: &Path, most: Duration) -> bool {
    let Ok(events) = Watched::open(&path.join("cgroup.events")) else { return false };
    match events.read() {
        Ok(text) if text.lines().any(|line| line == "populated 1") => events.wait(most).is_ok(),
        Ok(_) | Err(_) => false,
    }
}
