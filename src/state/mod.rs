//! The stored state of containers: a directory for each of them below the root, which is created first and removed last.
//!
//! The record (`record.rs`) holds what can't be found out otherwise. The status is never stored: it is computed from kernel
//! facts each time. A pid only counts together with its start time. Depends on `sys` and the error type.
//!
//! ```text
//! ROOT/ID/             01711   mkdir decides which of two concurrent `create` wins. The sticky bit marks it as onggi's: other
//!                              runtimes may use the same root, and their directories are refused and never changed
//!        state.json     0600   the record: a line when the id is claimed, and a line when the container is created; then
//!                              config.json of the bundle. The first file that is created and the first that is removed.
//!                              A lock on its first byte: `create` still runs. A lock on its second byte: the container is
//!                              being deleted; the sticky bit tells a running `create` so
//!        waiting.json   0600   what a running `create` has been waiting for, for more than half a second
//!        gate           0600   locked by init until its execve: the container is created and not running yet
//! ```

use crate::error::{Context, Error, Result};
use crate::sys::{Errno, proc, signal};
use nix::unistd::Pid;
use serde::de::DeserializeOwned;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

mod dir;
mod record;
mod root;

pub use dir::{Announced, Claim, Dir, Grip, replace};
pub use record::{Awaited, Document, Maker, Record, Status};
pub use root::{Root, Taken, check_id};

use dir::held;

/// A container: its directory and its record.
#[derive(Debug)]
pub struct Container<C> {
    /// The directory.
    pub dir: Dir,
    /// The record.
    pub record: Record<C>,
    /// The bundle's configuration when the container was created.
    pub config: Vec<u8>,
    /// The open record, if this call creates or deletes the container.
    pub grip: Option<Grip>,
}

impl<C: DeserializeOwned> Container<C> {
    /// Reads the container from its record; `None` if that is not written yet.
    ///
    /// # Errors
    /// `Kind::Broken`: it is damaged. The kernel's answer: it cannot be read.
    pub fn read(dir: &Dir, grip: &Grip) -> Result<Option<Self>> {
        let container = root::parse(dir.again(), grip.text()?)?;
        Ok(container.map(|container| Self { grip: Some(grip.clone()), ..container }))
    }
}

impl<C> Container<C> {
    /// A container that this call has just created.
    #[must_use]
    pub fn new(claim: Claim, record: Record<C>) -> Self {
        let (dir, grip) = claim.release();
        Self { dir, record, config: Vec::new(), grip: Some(grip) }
    }

    /// The first process of the record; `None` if it has ended.
    ///
    /// # Errors
    /// `/proc/PID/stat` cannot be read.
    pub fn init(&self) -> Result<Option<Pid>> {
        let pid = Pid::from_raw(self.record.init_process_pid);
        if pid.as_raw() <= 0 {
            return Ok(None);
        }
        let stat = proc::stat(pid).context(|| format!("read /proc/{pid}/stat"))?;
        Ok(stat.filter(|stat| stat.alive() && stat.start == self.record.init_process_start).map(|_| pid))
    }

    /// The first process with a pidfd, through which signals can't reach a later process of the same pid.
    ///
    /// # Errors
    /// `/proc/PID/stat` cannot be read, or no pidfd be opened.
    pub fn hold(&self) -> Result<Option<Held>> {
        let pid = Pid::from_raw(self.record.init_process_pid);
        if pid.as_raw() <= 0 {
            return Ok(None);
        }
        let pidfd = match proc::pidfd_open(pid) {
            Ok(pidfd) => pidfd,
            Err(Errno::ESRCH) => return Ok(None),
            Err(errno) => return Err(Error::from(errno).context(format!("pidfd_open {pid}"))),
        };
        // checked after the pidfd is open: if the start time matches now, the pidfd is of that process
        Ok(self.init()?.map(|pid| Held { pid, pidfd }))
    }

    /// The status, from current kernel facts. `frozen` queries the container's cgroup.
    ///
    /// # Errors
    /// The process or the cgroup cannot be queried.
    pub fn status(&self, frozen: impl FnOnce() -> Result<bool>) -> Result<Status> {
        self.status_of(|| self.dir.claimed(), frozen)
    }

    /// The status, with another way to query whether the container is being created.
    ///
    /// # Errors
    /// As [`Container::status`], and those of `claimed`.
    pub fn status_of(
        &self,
        claimed: impl FnOnce() -> Result<bool>,
        frozen: impl FnOnce() -> Result<bool>,
    ) -> Result<Status> {
        if self.record.init_process_pid != 0 && self.init()?.is_none() {
            return Ok(Status::Stopped);
        }
        // the record is complete before init is: a caller that waits for `running` must not see an unfinished container
        if claimed()? {
            return Ok(Status::Creating);
        }
        if self.record.init_process_pid == 0 {
            return Ok(Status::Stopped);
        }
        if frozen()? {
            return Ok(Status::Paused);
        }
        Ok(if held(&self.dir.gate())? { Status::Created } else { Status::Running })
    }
}

/// A process with its pidfd.
#[derive(Debug)]
pub struct Held {
    /// Its pid.
    pub pid: Pid,
    pidfd: OwnedFd,
}

impl AsFd for Held {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl Held {
    /// The pidfd.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// The pidfd alone.
    #[must_use]
    pub fn into_pidfd(self) -> OwnedFd {
        self.pidfd
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// As [`signal::send`].
    pub fn signal(&self, signal: i32) -> std::result::Result<(), Errno> {
        signal::send(self.pidfd.as_fd(), signal)
    }

    /// Waits for its end. Returns whether it ended within the time.
    ///
    /// # Errors
    /// As `proc::pidfd_wait`.
    pub fn wait(&self, within: std::time::Duration) -> std::result::Result<bool, Errno> {
        proc::pidfd_wait(self.pidfd.as_fd(), within)
    }
}

#[cfg(test)]
mod tests;
