//! Removing cgroups. May use sys and error.

use super::walk::{Visit, walk};
use super::{Cgroup, members, remove_one};
use crate::error::{Error, Result};
use crate::sys::cgroupfs::{Watched, open_dir};
use crate::sys::{Answer, Errno, file};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long to wait for the last processes to die, after the last removal of a cgroup.
const MOST: Duration = Duration::from_secs(5);
/// How long the removal may take in all, even while it makes progress. A hundred thousand cgroups take ten seconds.
const LONGEST: Duration = Duration::from_secs(120);

impl Cgroup {
    /// Removes it and the cgroups below it in every hierarchy, and stops its systemd unit. Waits for processes that are still
    /// dying, so it must not have living ones.
    ///
    /// # Errors
    /// A process stays, or the kernel refuses.
    pub fn remove(&self) -> Result<()> {
        let stopped = match &self.systemd_unit {
            Some(unit) => unit.bus().and_then(|mut bus| bus.stop(&unit.name)),
            None => Ok(()),
        };
        let mut deadline = Deadline::new();
        let mut failed = None;
        for path in self.unified().into_iter().chain(self.legacy()) {
            if let Err(errno) = remove_tree(path, &mut deadline) {
                failed = failed.or(Some((path, errno)));
            }
        }
        // systemd ends a scope whose cgroup no longer exists, so a failed stop only matters if a cgroup is left
        let Some((path, errno)) = failed else { return Ok(()) };
        stopped?;
        Err(stays(path, errno))
    }

    /// Removes it in the hierarchies in which it is empty, without waiting: somebody else may use it by now.
    pub fn remove_unused(&self) {
        for path in self.unified().into_iter().chain(self.legacy()) {
            let _in_use = remove_one(path);
        }
    }
}

/// The error for a cgroup that can't be removed, with the processes that are in it.
fn stays(path: &Path, errno: Errno) -> Error {
    let error = Error::from(errno).context(format!("remove cgroup {}", path.display()));
    let Ok(list) = members::list(path) else { return error };
    let Some(first) = list.pids.first() else {
        return error.with_hint("no process is in it, but perhaps cgroups are still made in it: delete again");
    };
    let cgroup = path.join(list.first.unwrap_or_default());
    // the payload chose the names, and there may be thousands of them
    let shown: String = cgroup.as_os_str().as_encoded_bytes().escape_ascii().map(char::from).take(300).collect();
    error
        .context(format!("container's cgroup is not empty: {} process(es) found", list.pids.len()))
        .with_hint(format!("process {first} stays in {shown}: end it, or move it to another cgroup, and delete again"))
}

/// When to give up.
struct Deadline {
    end: Instant,
    last: Instant,
}

impl Deadline {
    fn new() -> Self {
        let now = Instant::now();
        Self { end: now + MOST, last: now + LONGEST }
    }

    /// Extends the deadline after a removal.
    fn extend(&mut self) {
        self.end = Instant::now() + MOST;
    }

    fn left(&self) -> Duration {
        self.end.min(self.last).saturating_duration_since(Instant::now())
    }
}

/// Removes a cgroup and all below it, and waits for the processes in them to end.
fn remove_tree(path: &Path, deadline: &mut Deadline) -> Answer<()> {
    let mut pause = Duration::from_micros(200);
    loop {
        let mut removal = Removal::default();
        match once(path, deadline.last, &mut removal) {
            Err(Errno::EBUSY) => {}
            other => return other,
        }
        if removal.done {
            deadline.extend();
        }
        let left = deadline.left();
        if left.is_zero() {
            return Err(Errno::EBUSY);
        }
        // the kernel notifies when a cgroup2 becomes empty; v1 is polled with growing pauses
        if !wait_empty(path, left) {
            std::thread::sleep(pause.min(left));
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }
}

/// Removes a cgroup and all below it, without waiting for processes.
pub(super) fn empty(path: &Path) -> Answer<()> {
    once(path, Instant::now() + LONGEST, &mut Removal::default())
}

fn once(path: &Path, end: Instant, removal: &mut Removal) -> Answer<()> {
    match remove_one(path) {
        Err(Errno::EBUSY) => {}
        other => return other,
    }
    match open_dir(path).and_then(|top| walk(top.as_fd(), end, removal)) {
        // removed meanwhile, or somebody keeps creating cgroups in it
        Ok(()) | Err(Errno::ENOENT | Errno::ENODEV | Errno::ETIMEDOUT) => remove_one(path),
        Err(errno) => Err(errno),
    }
}

/// Removes the cgroups below a cgroup, the lowest first, and leaves those in use.
#[derive(Default)]
struct Removal {
    /// Whether at least one was removed.
    done: bool,
}

impl Removal {
    /// Returns `false` if it is in use.
    fn remove(&mut self, above: BorrowedFd<'_>, name: &CStr) -> Answer<bool> {
        match file::unlink(above, name, true) {
            Ok(()) => {
                self.done = true;
                Ok(true)
            }
            Err(Errno::ENOENT | Errno::ENODEV) => Ok(true),
            Err(Errno::EBUSY) => Ok(false),
            Err(errno) => Err(errno),
        }
    }
}

impl Visit for Removal {
    fn finds(&mut self, above: BorrowedFd<'_>, name: &CStr) -> Answer<bool> {
        self.remove(above, name).map(|gone| !gone)
    }

    fn leaves(&mut self, above: BorrowedFd<'_>, name: &CStr) -> Answer<()> {
        self.remove(above, name).map(drop)
    }
}

/// Waits until no process is in a cgroup2 or below it. `false` if that can't be waited for (v1), or it is empty already.
fn wait_empty(path: &Path, most: Duration) -> bool {
    let Ok(events) = Watched::open(&path.join("cgroup.events")) else { return false };
    match events.read() {
        Ok(text) if text.lines().any(|line| line == "populated 1") => events.wait(most).is_ok(),
        Ok(_) | Err(_) => false,
    }
}
