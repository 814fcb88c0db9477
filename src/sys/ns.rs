//! Namespaces: joining, leaving, naming.

use super::{Answer, Errno, check};
use crate::abi::ns::{Namespace, Namespaces};
use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `setns(2)`: joins the namespace that a descriptor stands for. `EINVAL`: it is of another type, or (user, time) the
/// caller has threads.
///
/// # Errors
/// The kernel's answer.
pub fn join(ns: BorrowedFd<'_>, kinds: Namespaces) -> Answer<()> {
    let flags = i32::try_from(kinds.0).map_err(|_| Errno::EINVAL)?;
    // SAFETY: plain numbers.
    check(unsafe { libc::setns(ns.as_raw_fd(), flags) }).map(drop)
}

/// `unshare(2)`: leaves namespaces for new ones.
///
/// # Errors
/// The kernel's answer.
pub fn unshare(kinds: Namespaces) -> Answer<()> {
    let flags = i32::try_from(kinds.0).map_err(|_| Errno::EINVAL)?;
    // SAFETY: plain number.
    check(unsafe { libc::unshare(flags) }).map(drop)
}

/// `ioctl(NS_GET_NSTYPE)` (Linux 4.11): which kind of namespace a descriptor stands for; `None` for something else.
#[must_use]
pub fn kind(ns: BorrowedFd<'_>) -> Option<Namespace> {
    const NS_GET_NSTYPE: libc::Ioctl = 0xb703;
    // SAFETY: the call takes no argument; on other files it answers ENOTTY.
    let flag = unsafe { libc::ioctl(ns.as_raw_fd(), NS_GET_NSTYPE) };
    let flag = u64::try_from(flag).ok()?;
    Namespace::ALL.into_iter().find(|kind| kind.flag() == flag)
}

/// `sethostname(2)`.
///
/// # Errors
/// `EINVAL`: longer than 64 bytes.
pub fn set_hostname(name: &CStr) -> Answer<()> {
    // SAFETY: the name lives through the call and the length is its own.
    check(unsafe { libc::sethostname(name.as_ptr(), name.count_bytes()) }).map(drop)
}

/// `setdomainname(2)`.
///
/// # Errors
/// `EINVAL`: longer than 64 bytes.
pub fn set_domainname(name: &CStr) -> Answer<()> {
    // SAFETY: the name lives through the call and the length is its own.
    check(unsafe { libc::setdomainname(name.as_ptr(), name.count_bytes()) }).map(drop)
}
