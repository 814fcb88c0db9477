//! Record locks of fcntl(2): they belong to a process. A child does not inherit them and the end of the process frees
//! them, so a lock tells that its process is still at work, which flock(2)'s, shared with every child, cannot.

use super::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use std::fs::File;

/// Locks a file or directory that is open for reading, shared: nobody waits for anybody.
///
/// The lock goes with the first descriptor of the file that this process closes, whichever it is.
///
/// # Errors
/// `fcntl(F_SETLK)`'s.
pub fn hold(file: &File) -> Result<(), Errno> {
    fcntl(file, FcntlArg::F_SETLK(&whole(libc::F_RDLCK))).map(drop)
}

/// Whether another process has locked it.
///
/// # Errors
/// `fcntl(F_GETLK)`'s.
pub fn is_held(file: &File) -> Result<bool, Errno> {
    // an exclusive lock would meet every shared one; this only asks for it
    let mut lock = whole(libc::F_WRLCK);
    fcntl(file, FcntlArg::F_GETLK(&mut lock))?;
    Ok(i32::from(lock.l_type) != libc::F_UNLCK)
}

/// A lock of the whole file.
fn whole(kind: libc::c_int) -> libc::flock {
    libc::flock {
        l_type: libc::c_short::try_from(kind).unwrap_or_default(),
        l_whence: libc::c_short::try_from(libc::SEEK_SET).unwrap_or_default(),
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}
