//! procfs: opens one that nothing covers, writes through it, and refuses mount points in it.

use super::path::Place;
use super::{State, StepError, StepResult};
use crate::abi::mount::{ATTR_NODEV, ATTR_NOEXEC, ATTR_NOSUID};
use crate::plan::step::Slot;
use crate::sync_socket::Cause;
use crate::sys::file::{self, RESOLVE_NO_MAGICLINKS, cwd};
use crate::sys::{Answer, Errno, mount};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// `PROC_SUPER_MAGIC` (`statfs(2)`).
pub(super) const MAGIC: i64 = 0x9fa0;

/// Refuses a mount point inside a procfs, because a mount there could fake `/proc` for the container and for `exec`. The plan has
/// checked the text of the target; if a link of the image led elsewhere, the mount point itself is checked.
pub(super) fn outside(place: &Place, in_proc: bool) -> StepResult {
    let judged = place.literal || in_proc;
    if !judged && file::fs_magic(place.fd.as_fd())? == MAGIC { Err(Cause::InProc.into()) } else { Ok(()) }
}

/// Mounts a procfs of our own, detached; if that is refused, opens the mounted one.
pub(super) fn open(state: &mut State<'_>) -> StepResult {
    let proc = match mount::detached(c"proc", ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC) {
        Ok(proc) => proc,
        Err(_) => mounted()?,
    };
    state.put(Slot::PROC, proc);
    Ok(())
}

/// Opens `/proc`, and checks that it is a procfs.
pub(super) fn mounted() -> Result<OwnedFd, StepError> {
    let proc = file::open(cwd(), c"/proc", libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW, 0)?;
    if file::fs_magic(proc.as_fd())? == MAGIC { Ok(proc) } else { Err(Cause::NotProcfs.into()) }
}

fn open_file(proc: BorrowedFd<'_>, name: &CStr) -> Answer<OwnedFd> {
    let resolve = file::RESOLVE_BENEATH | file::RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS;
    file::openat2(proc, name, libc::O_WRONLY, 0, resolve)
}

/// Writes to a file of procfs. Some security modules deny writes to a detached procfs, because its path is not in their rules
/// (AppArmor in LXC): then the write is tried on the mounted procfs, after a check that it is one.
pub(super) fn write(state: &State<'_>, name: &CStr, value: &CStr) -> StepResult {
    let opened = match open_file(state.get(Slot::PROC)?, name) {
        Err(Errno::EACCES | Errno::EPERM) => open_file(mounted()?.as_fd(), name),
        // before Linux 5.8 AppArmor's file is one directory up
        Err(Errno::ENOENT) if name == c"self/attr/apparmor/exec" => {
            open_file(state.get(Slot::PROC)?, c"self/attr/exec")
        }
        answer => answer,
    };
    Ok(file::write(opened?.as_fd(), value.to_bytes())?)
}
