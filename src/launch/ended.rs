//! Whether a process that has ended had become the payload before.

use super::sentence;
use crate::cgroup::Handle;
use crate::error::Error;
use crate::sys::signal;

/// What is wrong when the first process of a container ends before it has executed its program.
pub fn lost(cgroup: &Handle) -> impl Fn(Option<signal::End>) -> Error {
    |end| sentence::vanished(end, cgroup)
}

/// Whether a process that has ended, and is not reaped yet, had executed a program: the kernel's `PF_FORKNOEXEC`
/// (field 9 of `/proc/PID/stat`, proc(5)) says that it had not.
pub(super) fn became_payload(pid: i32) -> bool {
    let stat = procfs::process::Process::new(pid).and_then(|process| process.stat());
    let flags = stat.ok().and_then(|stat| stat.flags().ok());
    flags.is_none_or(|flags| !flags.contains(procfs::process::StatFlags::PF_FORKNOEXEC))
}
