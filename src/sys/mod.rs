//! The one door to the kernel: typed calls, and the only `unsafe`.
//!
//! Where nix has a call in the form that we need (no allocation, one system call), its function is called. Our own are the
//! calls that it does not have, and those whose C function does more than the call.
//!
//! What init calls (`file`, `mount`, `ns`, `cred`, `task`, `close`, `signal`, `socket`, `tty`, `net`, `exec`, and of `exe`
//! and `entry` what forgets) allocates nothing: `scripts/check/words.py` cannot see into this module, but in debug builds an init
//! that allocates ends at once (`alloc`), in every integration test. `netlink`, `netns`, `paths`, `cgroupfs`, `bpf`, `proc`,
//! `clock`, `mountinfo` and `sealed` are the host half's and may allocate.
//!
//! Descriptors are made close-on-exec, always. A function's doc names the call that it makes and the errors worth knowing; an
//! `# Errors` of "the kernel's answer" means the errors of that call's manual page.
//!
//! # Safety
//!
//! In modules that allow `undocumented_unsafe_blocks`, a block without a comment rests on this: it makes one system call (or
//! the C function of the same name); each pointer in its arguments is to a reference's target or a C string that lives until
//! the call returns; each length is that of the buffer beside it; a result is read only after the call said that it was
//! filled. What needs a further argument has a comment of its own.

#![allow(unsafe_code)]
#![allow(clippy::wildcard_enum_match_arm, reason = "errno is an open set")]
#![allow(clippy::cast_possible_truncation, reason = "64-bit Linux: addresses, sizes and flags of the ABI fit")]

pub mod alloc;
pub mod clock;
pub mod close;
pub mod cred;
pub mod device;
pub mod entry;
pub mod exe;
pub mod exec;
pub mod file;
mod image;
pub mod kernel;
pub mod lock;
pub mod marks;
pub mod mount;
pub mod mountinfo;
pub mod net;
pub mod netlink;
pub mod netns;
pub mod ns;
pub mod paths;
pub mod proc;
pub mod regex;
mod sealed;
pub mod signal;
pub mod socket;
pub mod spawn;
pub mod task;
mod tls;
pub mod tty;
pub mod wait;

pub mod bpf;
pub mod cgroupfs;

pub use nix::errno::Errno;

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// What a system call answers.
pub type Answer<T> = Result<T, Errno>;

/// Makes a system call that libc has no function for, or whose libc function does more than the call.
///
/// # Safety
/// The arguments must be what the call of that number expects; pointers must be valid for as long as it takes.
unsafe fn call(number: libc::c_long, args: [usize; 5]) -> Answer<usize> {
    // SAFETY: the caller answers for the arguments.
    let answer = unsafe { libc::syscall(number, args[0], args[1], args[2], args[3], args[4]) };
    if answer < 0 { Err(Errno::last()) } else { Ok(usize::try_from(answer).unwrap_or_default()) }
}

/// Takes the descriptor that a successful call has just made.
fn owned(made: impl TryInto<RawFd>) -> OwnedFd {
    // SAFETY: the callers pass the answer of a call that makes a descriptor, right behind it: nobody else knows the number.
    unsafe { OwnedFd::from_raw_fd(made.try_into().unwrap_or(RawFd::MAX)) }
}

/// Turns libc's `-1` into the errno.
fn check(answer: libc::c_int) -> Answer<libc::c_int> {
    if answer < 0 { Err(Errno::last()) } else { Ok(answer) }
}
