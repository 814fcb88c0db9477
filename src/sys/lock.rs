//! Locks of fcntl(2) on single bytes of a file, which need not be there.
//!
//! A **process's** lock belongs to the process: a child does not inherit it and the end of the process frees it, so it
//! tells that its process is still at work, which flock(2)'s, shared with every child, cannot. It goes with the first
//! descriptor of the file that the process closes, whichever it is. An **open file's** lock (`F_OFD_SETLK`) stays until
//! that open file is closed, whatever else the process does with the file. The two exclude each other.

use super::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use std::fs::File;

/// Takes the process's lock on a byte of a file that is open for writing.
///
/// # Errors
/// `fcntl(F_SETLK)`'s; `EAGAIN`: another process has it.
pub fn hold(file: &File, byte: i64) -> Result<(), Errno> {
    fcntl(file, FcntlArg::F_SETLK(&exclusive(byte))).map(drop)
}

/// Takes the open file's lock on a byte of a file that is open for writing; says whether it could be had at once.
///
/// # Errors
/// `fcntl(F_OFD_SETLK)`'s.
pub fn try_hold_open(file: &File, byte: i64) -> Result<bool, Errno> {
    match fcntl(file, FcntlArg::F_OFD_SETLK(&exclusive(byte))) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Gives the process's lock on a byte back.
///
/// # Errors
/// `fcntl(F_SETLK)`'s.
pub fn release(file: &File, byte: i64) -> Result<(), Errno> {
    let free = libc::flock { l_type: kind(libc::F_UNLCK), ..exclusive(byte) };
    fcntl(file, FcntlArg::F_SETLK(&free)).map(drop)
}

/// Whether another process has locked a byte.
///
/// # Errors
/// `fcntl(F_GETLK)`'s.
pub fn is_held(file: &File, byte: i64) -> Result<bool, Errno> {
    let mut lock = exclusive(byte);
    fcntl(file, FcntlArg::F_GETLK(&mut lock))?;
    Ok(lock.l_type != kind(libc::F_UNLCK))
}

fn exclusive(byte: i64) -> libc::flock {
    libc::flock {
        l_type: kind(libc::F_WRLCK),
        l_whence: libc::c_short::try_from(libc::SEEK_SET).unwrap_or_default(),
        l_start: byte,
        l_len: 1,
        l_pid: 0,
    }
}

fn kind(kind: libc::c_int) -> libc::c_short {
    libc::c_short::try_from(kind).unwrap_or_default()
}
