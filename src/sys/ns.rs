//! Namespaces: join, unshare, identify; host and domain name.

#![allow(clippy::undocumented_unsafe_blocks, reason = "see # Safety of `sys`")]

use super::{Answer, Errno, check, file, owned, proc};
use crate::abi::ns::{Namespace, Namespaces};
use nix::sched::CloneFlags;
use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

fn flags(kinds: Namespaces) -> Answer<CloneFlags> {
    i32::try_from(kinds.0).map(CloneFlags::from_bits_retain).map_err(|_| Errno::EINVAL)
}

/// `setns(2)`: joins the namespace of a descriptor. `EINVAL`: it is of another type, or (user, time) the caller has threads.
///
/// # Errors
/// The kernel's answer.
pub fn join(ns: BorrowedFd<'_>, kinds: Namespaces) -> Answer<()> {
    nix::sched::setns(ns, flags(kinds)?)
}

/// `setns(2)` into our own mount namespace, whose root becomes our root: the way out of a chroot.
///
/// # Errors
/// The kernel's answer.
pub fn to_root_of_mounts() -> Answer<()> {
    let own = proc::pidfd_open(nix::unistd::getpid())?;
    join(own.as_fd(), Namespace::Mount.into())
}

/// `unshare(2)`: creates and enters new namespaces.
///
/// # Errors
/// The kernel's answer.
pub fn unshare(kinds: Namespaces) -> Answer<()> {
    nix::sched::unshare(flags(kinds)?)
}

/// `ioctl(NS_GET_NSTYPE)` (Linux 4.11): the kind of namespace of a descriptor; `None` if it is something else.
#[must_use]
pub fn kind(ns: BorrowedFd<'_>) -> Option<Namespace> {
    const NS_GET_NSTYPE: libc::Ioctl = 0xb703;
    let flag = unsafe { libc::ioctl(ns.as_raw_fd(), NS_GET_NSTYPE) };
    let flag = u64::try_from(flag).ok()?;
    Namespace::ALL.into_iter().find(|kind| kind.flag() == flag)
}

/// Whether we are in a user namespace other than the initial one, whose inode number is fixed (`PROC_USER_INIT_INO`).
#[must_use]
pub fn in_user_namespace() -> bool {
    const FIRST: u64 = 0xEFFF_FFFD;
    file::stat_at(file::cwd(), c"/proc/self/ns/user", 0).is_ok_and(|ns| ns.st_ino != FIRST)
}

/// Whether our mount namespace belongs to our user namespace (`NS_GET_USERNS`, Linux 4.9): only then root of the user namespace may
/// clone mounts of it.
#[must_use]
pub fn owns_mounts() -> bool {
    const NS_GET_USERNS: libc::Ioctl = 0xb701;
    let owner = || {
        let mounts = file::open(file::cwd(), c"/proc/self/ns/mnt", libc::O_RDONLY, 0)?;
        let owner = owned(check(unsafe { libc::ioctl(mounts.as_raw_fd(), NS_GET_USERNS) })?);
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
    nix::unistd::sethostname(OsStr::from_bytes(name.to_bytes()))
}

/// `setdomainname(2)`.
///
/// # Errors
/// `EINVAL`: longer than 64 bytes.
pub fn set_domainname(name: &CStr) -> Answer<()> {
    check(unsafe { libc::setdomainname(name.as_ptr(), name.count_bytes()) }).map(drop)
}
