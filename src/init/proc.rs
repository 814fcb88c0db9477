//! procfs: a descriptor of one that nothing covers, what is written through it, and where it is not mounted into.

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

/// Refuses a mount point inside a procfs: a mount there could make `/proc` lie to the container and to `exec`. The plan has checked
/// the spelling of the target; where a link of the image led elsewhere, the place itself is checked.
pub(super) fn outside(place: &Place, in_proc: bool) -> StepResult {
    let judged = place.literal || in_proc;
    if !judged && file::fs_magic(place.fd.as_fd())? == MAGIC { Err(Cause::InProc.into()) } else { Ok(()) }
}

/// Opens a procfs of our own; where that is refused, the mounted one.
pub(super) fn open(state: &mut State<'_>) -> StepResult {
    let proc = match mount::detached(c"proc", ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC) {
        Ok(proc) => proc,
        Err(_) => mounted()?,
    };
    state.put(Slot::PROC, proc);
    Ok(())
}

/// The procfs on `/proc`, which must be one.
pub(super) fn mounted() -> Result<OwnedFd, StepError> {
    let proc = file::open(cwd(), c"/proc", libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW, 0)?;
    if file::fs_magic(proc.as_fd())? == MAGIC { Ok(proc) } else { Err(Cause::NotProcfs.into()) }
}

fn open_file(proc: BorrowedFd<'_>, name: &CStr) -> Answer<OwnedFd> {
    let resolve = file::RESOLVE_BENEATH | file::RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS;
    file::openat2(proc, name, libc::O_WRONLY, 0, resolve)
}

/// Some security modules judge a detached procfs by a path that their rules do not know (AppArmor in LXC): what they
/// deny there is tried on the mounted procfs, which is verified.
pub(super) fn write(state: &State<'_>, name: &CStr, value: &CStr) -> StepResult {
    let opened = match open_file(state.get(Slot::PROC)?, name) {
        Err(Errno::EACCES | Errno::EPERM) => open_file(mounted()?.as_fd(), name),
        // kernels before 5.8 have AppArmor's file one level up only
        Err(Errno::ENOENT) if name == c"self/attr/apparmor/exec" => {
            open_file(state.get(Slot::PROC)?, c"self/attr/exec")
        }
        answer => answer,
    };
    Ok(file::write(opened?.as_fd(), value.to_bytes())?)
}
