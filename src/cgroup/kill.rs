//! Signals to all processes of a cgroup. May use sys and error.

use super::Cgroup;
use crate::error::{Context, Error, Result};
use crate::sys::Errno;
use crate::sys::cgroupfs::{send_signal, write_file};

const SIGKILL: i32 = 9;
/// How often the processes are listed and killed at most, where there is no `cgroup.kill`.
const ROUNDS: u32 = 10;

impl Cgroup {
    /// Kills all processes in it and below it, including those that are forked meanwhile. Thaws frozen v1 cgroups, so that
    /// they can die, but does not wait for their end.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn kill_all(&self) -> Result<()> {
        if let Some(path) = self.unified() {
            match write_file(&path.join("cgroup.kill"), "1") {
                Ok(()) => return self.let_die(),
                Err(Errno::ENODEV) => return Ok(()),
                // it no longer exists, or is threaded: then the kernel refuses whatever acts on processes
                Err(Errno::ENOENT | Errno::EOPNOTSUPP) => {}
                Err(errno) => {
                    return Err(errno).context(|| format!("kill the processes of cgroup {}", path.display()));
                }
            }
        }
        for _ in 0..ROUNDS {
            if self.pids()?.is_empty() {
                return Ok(());
            }
            self.signal_all(SIGKILL)?;
            self.let_die()?;
        }
        Ok(())
    }

    /// Sends a signal to all processes in it and below it. They are frozen meanwhile, so that none can fork, and no pid can be
    /// reused.
    ///
    /// # Errors
    /// The processes can't be listed, or one can't be signalled.
    pub fn signal_all(&self, signal: i32) -> Result<()> {
        if self.cgroup_paths.is_empty() {
            return Ok(());
        }
        let was_frozen = self.frozen()?;
        // if they can't be frozen, the signals are sent all the same
        let froze = !was_frozen && self.freeze().is_ok();
        let pids = self.pids();
        let mut refused = None;
        for pid in pids.as_deref().unwrap_or_default() {
            match send_signal(*pid, signal) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(errno) => refused = Some(Error::from(errno).context(format!("signal process {pid}"))),
            }
        }
        if froze || signal == SIGKILL && was_frozen {
            self.thaw()?;
        }
        pids?;
        refused.map_or(Ok(()), Err)
    }
}
