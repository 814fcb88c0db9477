//! Signals to every process of a cgroup. May use sys and error.

use super::Cgroup;
use crate::error::{Context, Error, Result};
use crate::sys::Errno;
use crate::sys::cgroupfs::{send_signal, write_file};

const SIGKILL: i32 = 9;
/// A cgroup whose processes fork faster than this many rounds of killing is held by the freezer instead.
const ROUNDS: u32 = 10;

impl Cgroup {
    /// Kills every process in it and below it, those included that are being forked meanwhile. Does not wait for their
    /// end, for which frozen v1 cgroups are thawed.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn kill_all(&self) -> Result<()> {
        if let Some(path) = self.unified() {
            match write_file(&path.join("cgroup.kill"), "1") {
                Ok(()) => return self.let_die(),
                Err(Errno::ENODEV) => return Ok(()),
                // gone, or threaded: what acts on processes is refused there
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

    /// Sends a signal to every process in it and below it. Standing still meanwhile, none can fork away or hand its
    /// number to a stranger.
    ///
    /// # Errors
    /// If the processes can't be listed.
    pub fn signal_all(&self, signal: i32) -> Result<()> {
        if self.cgroup_paths.is_empty() {
            return Ok(());
        }
        let was_frozen = self.frozen()?;
        // without the freezer it is still worth a try
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
