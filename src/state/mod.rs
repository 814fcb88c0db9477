//! Where containers are remembered: one directory each below the root, made by whoever creates the container first and
//! removed last.
//!
//! What is stored is what cannot be seen (`record.rs`); what can be seen, the status, is never stored but asked of the
//! kernel each time. A pid is believed only with its start time. Depends on `sys` and the error type.
//!
//! ```text
//! ROOT/ID/              0711   its mkdir decides which of two creates wins
//!        state.json     0600   a line when the claim is made, a line when the container is there: the record; then what
//!                              config.json of the bundle said. The first file in and the first out. A lock on its
//!                              first byte says that the create still runs, one on its second that somebody deletes the
//!                              container; the sticky bit tells the create so
//!        gate           0600   held locked by init until its execve: created, not yet running
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
pub use record::{Document, Record, Status};
pub use root::{Root, Taken, check_id};

use dir::held;

/// A container: its directory and its record.
#[derive(Debug)]
pub struct Container<C> {
    /// The directory.
    pub dir: Dir,
    /// What is remembered.
    pub record: Record<C>,
    /// The bundle's configuration, as it was when the container was made.
    pub config: Vec<u8>,
    /// The open record, where this call made the container or deletes it.
    pub grip: Option<Grip>,
}

impl<C: DeserializeOwned> Container<C> {
    /// The container that a record describes now; `None` if it is not written yet.
    ///
    /// # Errors
    /// `Kind::Broken` when it is broken; the kernel's answer when it cannot be read.
    pub fn read(dir: &Dir, grip: &Grip) -> Result<Option<Self>> {
        let container = root::parse(dir.again(), grip.text()?)?;
        Ok(container.map(|container| Self { grip: Some(grip.clone()), ..container }))
    }
}

impl<C> Container<C> {
    /// One that was just made, whose maker knows its configuration.
    #[must_use]
    pub fn new(claim: Claim, record: Record<C>) -> Self {
        let (dir, grip) = claim.release();
        Self { dir, record, config: Vec::new(), grip: Some(grip) }
    }

    /// The first process, as long as it is the one of the record and has not ended.
    ///
    /// # Errors
    /// When the process cannot be looked at.
    pub fn init(&self) -> Result<Option<Pid>> {
        let pid = Pid::from_raw(self.record.init_process_pid);
        if pid.as_raw() <= 0 {
            return Ok(None);
        }
        let stat = proc::stat(pid).context(|| format!("read /proc/{pid}/stat"))?;
        Ok(stat.filter(|stat| stat.alive() && stat.start == self.record.init_process_start).map(|_| pid))
    }

    /// A hold on the first process: signals through it meet no later process of the same number.
    ///
    /// # Errors
    /// When the process cannot be looked at.
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
        // looked at after it is held: what matches now is what the descriptor means
        Ok(self.init()?.map(|pid| Held { pid, pidfd }))
    }

    /// The status, from what the kernel says now. `frozen` asks the container's cgroup.
    ///
    /// # Errors
    /// When the process or the cgroup cannot be looked at.
    pub fn status(&self, frozen: impl FnOnce() -> Result<bool>) -> Result<Status> {
        self.status_of(|| self.dir.claimed(), frozen)
    }

    /// The status, for who knows how to ask whether it is being made.
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
        // the record is there before init is done: whoever waits for `running` must not meet half a container
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

/// A process and a descriptor that means it.
#[derive(Debug)]
pub struct Held {
    /// Its number.
    pub pid: Pid,
    pidfd: OwnedFd,
}

impl AsFd for Held {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl Held {
    /// The descriptor.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// The descriptor alone.
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

    /// Waits for its end; says whether it came in that time.
    ///
    /// # Errors
    /// As `proc::pidfd_wait`.
    pub fn wait(&self, within: std::time::Duration) -> std::result::Result<bool, Errno> {
        proc::pidfd_wait(self.pidfd.as_fd(), within)
    }
}

#[cfg(test)]
mod tests;
