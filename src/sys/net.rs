//! The network, as far as a runtime touches it: the loopback device.

use super::{Answer, check};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// `ioctl(SIOCSIFFLAGS)` (`netdevice(7)`): brings `lo` of the current network namespace up.
///
/// # Errors
/// The kernel's answer.
pub fn loopback_up() -> Answer<()> {
    // SAFETY: plain numbers.
    let socket = check(unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: just made; nobody else knows it.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    // SAFETY: an all-zero ifreq is a valid one.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = 108; // l
    request.ifr_name[1] = 111; // o
    #[allow(clippy::cast_possible_truncation)]
    {
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
    }
    // SAFETY: request is a filled ifreq and lives through the call.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) }).map(drop)
}
