//! Closing descriptors, now or on execve.

#![allow(clippy::undocumented_unsafe_blocks, reason = "see # Safety of `sys`")]

use super::{Answer, Errno, call, check};
use std::os::fd::RawFd;

/// `fcntl(F_SETFD)`: whether the descriptor closes on execve.
///
/// # Errors
/// `EBADF`: it isn't open.
pub fn close_on_exec(number: RawFd, on: bool) -> Answer<()> {
    let flag = if on { libc::FD_CLOEXEC } else { 0 };
    check(unsafe { libc::fcntl(number, libc::F_SETFD, flag) }).map(drop)
}

/// `close_range(2)` (Linux 5.9): closes the descriptors `first..=last`, whether they are open or not. Where a seccomp profile
/// older than this call denies it, they are closed one by one, up to the limit of open files.
///
/// # Errors
/// The kernel's answer.
pub fn close_range(first: u32, last: u32) -> Answer<()> {
    match unsafe { call(libc::SYS_close_range, [first as usize, last as usize, 0, 0, 0]) } {
        Err(Errno::EPERM | Errno::ENOSYS) => close_each(first, last),
        answer => answer.map(drop),
    }
}

/// `close_range(2)` with `CLOSE_RANGE_CLOEXEC` (Linux 5.11): everything from `first` on closes on execve, for programs of the
/// host's that we trust.
///
/// # Errors
/// The kernel's answer.
pub fn close_from_on_exec(first: u32) -> Answer<()> {
    const CLOSE_RANGE_CLOEXEC: usize = 4;
    unsafe { call(libc::SYS_close_range, [first as usize, u32::MAX as usize, CLOSE_RANGE_CLOEXEC, 0, 0]) }.map(drop)
}

#[cold]
#[inline(never)]
fn close_each(first: u32, last: u32) -> Answer<()> {
    // a process that lowers its limit keeps what it has open above: most never raise it beyond this
    const USUAL: u64 = 65536;
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    let end = u32::try_from(limit.rlim_max.clamp(USUAL, 1 << 20)).unwrap_or(u32::MAX);
    for number in first..=last.min(end) {
        // SAFETY: as above; numbers that are not open are refused.
        unsafe { libc::close(number.cast_signed()) };
    }
    Ok(())
}
