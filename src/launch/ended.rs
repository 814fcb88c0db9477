//! Whether a process that has ended had become the payload before.

use super::sentence;
use crate::cgroup::Handle;
use crate::error::{Context, Error, Result};
use crate::sys::{proc, signal};
use nix::unistd::Pid;

/// What is wrong when the first process of a container ends before it has executed its program.
pub fn lost(cgroup: &Handle) -> impl Fn(Option<signal::End>) -> Error {
    |end| sentence::vanished(end, cgroup)
}

/// Whether a child that is not reaped yet has executed a program: the kernel says so before execve closes the socket to us,
/// so the end of that stream alone is no proof. An init that is being killed closes it as well, and is no zombie yet.
///
/// # Errors
/// The kernel does not say.
pub(super) fn became_payload(pid: i32) -> Result<bool> {
    let stat = proc::stat(Pid::from_raw(pid)).context(|| format!("read /proc/{pid}/stat"))?;
    // without a process there was somebody else who reaped it, and nothing to ask
    Ok(stat.is_none_or(|stat| stat.executed))
}
