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

/// How long the last processes may take to die, while nothing can be removed.
const MOST: Duration = Duration::from_secs(5);
/// How long it may take in all, also while there is always one more to remove. A hundred thousand take ten seconds.
const LONGEST: Duration = Duration::from_secs(120);

impl Cgroup {
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
        let mut patience = Patience::new();
        let mut failed = None;
        for path in self.unified().into_iter().chain(self.legacy()) {
            if let Err(errno) = tree(path, &mut patience) {
                failed = failed.or(Some((path, errno)));
            }
        }
        // a scope whose cgroup is gone ends by itself, once there is a systemd again
        let Some((path, errno)) = failed else { return Ok(()) };
        stopped?;
        Err(stays(path, errno))
    }
}

impl Cgroup {
    /// Removes it where nothing is in it, without waiting: whoever uses it by now keeps it.
    ///
    /// # Errors
    /// None; a cgroup that somebody uses is his.
    #[allow(clippy::unnecessary_wraps, reason = "in the place of `remove`")]
    pub fn remove_unused(&self) -> Result<()> {
        for path in self.unified().into_iter().chain(self.legacy()) {
            let _in_use = remove_one(path);
        }
        Ok(())
    }
}

/// The error for a cgroup that can't be removed, with the processes that are in it.
fn stays(path: &Path, errno: Errno) -> Error {
    let error = Error::from(errno).context(format!("remove cgroup {}", path.display()));
    let Ok(list) = members::list(path) else { return error };
    let Some(first) = list.pids.first() else {
        return error.with_hint("no process is in it, but perhaps cgroups are still made in it: delete again");
    };
    let place = path.join(list.first.unwrap_or_default());
    // names of a payload's choice, perhaps thousands of them
    let shown: String = place.as_os_str().as_encoded_bytes().escape_ascii().map(char::from).take(300).collect();
    error
        .context(format!("container's cgroup is not empty: {} process(es) found", list.pids.len()))
        .with_hint(format!("process {first} stays in {shown}: end it, or move it to another cgroup, and delete again"))
}

/// Until when to try.
struct Patience {
    end: Instant,
    last: Instant,
}

impl Patience {
    fn new() -> Self {
        let now = Instant::now();
        Self { end: now + MOST, last: now + LONGEST }
    }

    /// Something was removed.
    fn renew(&mut self) {
        self.end = Instant::now() + MOST;
    }

    fn left(&self) -> Duration {
        self.end.min(self.last).saturating_duration_since(Instant::now())
    }
}

/// Removes a cgroup with all below it, as long as no process is in them.
fn tree(path: &Path, patience: &mut Patience) -> Answer<()> {
    let mut pause = Duration::from_micros(200);
    loop {
        let mut removal = Removal::default();
        match once(path, patience.last, &mut removal) {
            Err(Errno::EBUSY) => {}
            other => return other,
        }
        if removal.done {
            patience.renew();
        }
        let left = patience.left();
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
pub(super) fn empty(path: &Path) -> Answer<()> {
    once(path, Instant::now() + LONGEST, &mut Removal::default())
}

fn once(path: &Path, end: Instant, removal: &mut Removal) -> Answer<()> {
    match remove_one(path) {
        Err(Errno::EBUSY) => {}
        other => return other,
    }
    match open_dir(path).and_then(|top| walk(top.as_fd(), end, removal)) {
        // gone meanwhile, or somebody makes one after the other
        Ok(()) | Err(Errno::ENOENT | Errno::ENODEV | Errno::ETIMEDOUT) => remove_one(path),
        Err(errno) => Err(errno),
    }
}

/// Removes what is below a cgroup, the lowest first. What is in use is left.
#[derive(Default)]
struct Removal {
    /// Whether there was something to remove.
    done: bool,
}

impl Removal {
    /// `false` if it is in use.
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
    fn meets(&mut self, above: BorrowedFd<'_>, name: &CStr) -> Answer<bool> {
        self.remove(above, name).map(|gone| !gone)
    }

    fn leaves(&mut self, above: BorrowedFd<'_>, name: &CStr) -> Answer<()> {
        self.remove(above, name).map(drop)
    }
}

/// Waits until no process is in a cgroup2 or below it. `false` if it can't be waited for, or is empty already.
fn wait_empty(path: &Path, most: Duration) -> bool {
    let Ok(events) = Watched::open(&path.join("cgroup.events")) else { return false };
    match events.read() {
        Ok(text) if text.lines().any(|line| line == "populated 1") => events.wait(most).is_ok(),
        Ok(_) | Err(_) => false,
    }
}
