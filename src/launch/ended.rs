//! Whether a process that has ended had become the payload before.

use super::clone::Child;
use super::sentence;
use crate::error::Error;
use crate::sys::signal;

/// The error for a foreground container that was killed before it had executed its program; to be asked before it is
/// reaped.
#[must_use]
pub fn never_ran(child: &Child) -> Option<Error> {
    (!child.restored && !became_payload(child.pid))
        .then(|| sentence::vanished(Some(signal::End::Killed(libc::SIGKILL))))
}

/// Whether a process that has ended, and is not reaped yet, had executed a program: the kernel's `PF_FORKNOEXEC`
/// (field 9 of `/proc/PID/stat`, proc(5)) says that it had not.
pub(super) fn became_payload(pid: i32) -> bool {
    let stat = procfs::process::Process::new(pid).and_then(|process| process.stat());
    let flags = stat.ok().and_then(|stat| stat.flags().ok());
    flags.is_none_or(|flags| !flags.contains(procfs::process::StatFlags::PF_FORKNOEXEC))
}
