//! The network, as far as a runtime touches it: the loopback device, and the namespace itself.

#![allow(clippy::undocumented_unsafe_blocks, reason = "see # Safety of `sys`")]

use super::{Answer, check, owned};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// A socket that network devices are asked about (`netdevice(7)`). Sockets of every family answer these requests; `AF_UNIX` is
/// allowed where units forbid the others (systemd's `RestrictAddressFamilies=AF_UNIX`).
///
/// # Errors
/// The kernel's answer.
pub fn control() -> Answer<OwnedFd> {
    check(unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) }).map(owned)
}

/// `ioctl(SIOCSIFFLAGS)` (`netdevice(7)`): brings `lo` of the socket's network namespace up.
///
/// # Errors
/// The kernel's answer.
pub fn loopback_up(socket: BorrowedFd<'_>) -> Answer<()> {
    // SAFETY: an all-zero ifreq is a valid one.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = 108; // l
    request.ifr_name[1] = 111; // o
    #[allow(clippy::cast_possible_truncation)]
    {
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
    }
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) }).map(drop)
}

/// `ioctl(SIOCGSKNS)` (Linux 4.9): the network namespace that a socket is of, close-on-exec.
///
/// # Errors
/// `EPERM`: no `CAP_NET_ADMIN` there.
pub fn namespace(socket: BorrowedFd<'_>) -> Answer<OwnedFd> {
    const SIOCGSKNS: libc::c_int = 0x894c;
    check(unsafe { libc::ioctl(socket.as_raw_fd(), SIOCGSKNS as _, 0) }).map(owned)
}
