//! Namespaces: joining, leaving, naming.

use super::{Answer, Errno, check, file};
use crate::abi::ns::{Namespace, Namespaces};
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

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

/// Whether we live in a user namespace other than the machine's first, whose inode is fixed (`PROC_USER_INIT_INO`).
#[must_use]
pub fn in_user_namespace() -> bool {
    const FIRST: u64 = 0xEFFF_FFFD;
    file::stat_at(file::cwd(), c"/proc/self/ns/user", 0).is_ok_and(|ns| ns.st_ino != FIRST)
}

/// Whether the mount namespace that we live in belongs to the user namespace that we live in (`NS_GET_USERNS`, Linux
/// 4.9): only then root of the latter may clone what is mounted in the former.
#[must_use]
pub fn owns_mounts() -> bool {
    const NS_GET_USERNS: libc::Ioctl = 0xb701;
    let owner = || {
        let mounts = file::open(file::cwd(), c"/proc/self/ns/mnt", libc::O_RDONLY, 0)?;
        // SAFETY: the call takes no argument; EPERM says that the owner is a namespace above ours.
        let owner = check(unsafe { libc::ioctl(mounts.as_raw_fd(), NS_GET_USERNS) })?;
        // SAFETY: a new descriptor that nobody else has.
        let owner = unsafe { OwnedFd::from_raw_fd(owner) };
        let ours = file::stat_at(file::cwd(), c"/proc/self/ns/user", 0)?;
        Ok::<bool, Errno>(file::stat(owner.as_fd())?.st_ino == ours.st_ino)
    };
    owner().unwrap_or(false)
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
