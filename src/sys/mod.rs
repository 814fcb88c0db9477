//! The one door to the kernel: typed calls, and the only `unsafe`.
//!
//! Every function here may be called by init after the clone: none allocates, none keeps state. Descriptors are made
//! close-on-exec, always. A wrapper's doc names the call it is and the answers worth knowing.

#![allow(unsafe_code)]
#![allow(clippy::wildcard_enum_match_arm, reason = "errno is an open set")]
#![allow(clippy::cast_possible_truncation, reason = "64-bit Linux: addresses, sizes and flags of the ABI fit")]

pub mod alloc;
pub mod clock;
pub mod close;
pub mod cred;
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

/// Turns libc's `-1` into the errno.
fn check(answer: libc::c_int) -> Answer<libc::c_int> {
    if answer < 0 { Err(Errno::last()) } else { Ok(answer) }
}
