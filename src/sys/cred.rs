//! Credentials: ids, groups, capabilities (`credentials(7)`, `capabilities(7)`).
//!
//! The raw system calls, not libc's: libc's versions change all threads of a process by signals; init has one thread.

#![allow(clippy::undocumented_unsafe_blocks, reason = "see # Safety of `sys`")]

use super::{Answer, Errno, call, check};

/// `setgroups(2)`.
///
/// # Errors
/// `EPERM`: not privileged, or `/proc/self/setgroups` says `deny`.
pub fn set_groups(groups: &[u32]) -> Answer<()> {
    unsafe { call(libc::SYS_setgroups, [groups.len(), groups.as_ptr() as usize, 0, 0, 0]) }.map(drop)
}

/// `setresgid(2)`: real, effective and saved.
///
/// # Errors
/// `EINVAL`: the id has no mapping in this user namespace.
pub fn set_gid(gid: u32) -> Answer<()> {
    let gid = gid as usize;
    unsafe { call(libc::SYS_setresgid, [gid, gid, gid, 0, 0]) }.map(drop)
}

/// `setresuid(2)`: real, effective and saved.
///
/// # Errors
/// `EINVAL`: the id has no mapping in this user namespace. `EAGAIN`: over `RLIMIT_NPROC`.
pub fn set_uid(uid: u32) -> Answer<()> {
    let uid = uid as usize;
    unsafe { call(libc::SYS_setresuid, [uid, uid, uid, 0, 0]) }.map(drop)
}

/// Effective, permitted and inheritable capabilities, one bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CapSets {
    /// What the kernel checks.
    pub effective: u64,
    /// What may be made effective.
    pub permitted: u64,
    /// What survives an execve of a file that asks for it.
    pub inheritable: u64,
}

#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Default, Clone, Copy)]
struct CapWords {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const CAP_VERSION_3: u32 = 0x2008_0522;

/// `capset(2)` of the calling thread.
///
/// # Errors
/// `EPERM`: more than is permitted.
pub fn set_caps(sets: &CapSets) -> Answer<()> {
    let header = CapHeader { version: CAP_VERSION_3, pid: 0 };
    let word = |shift: u32| {
        #[allow(clippy::cast_possible_truncation)] // the lower half is intended
        let half = |set: u64| (set >> shift) as u32;
        CapWords {
            effective: half(sets.effective),
            permitted: half(sets.permitted),
            inheritable: half(sets.inheritable),
        }
    };
    let words = [word(0), word(32)];
    unsafe { call(libc::SYS_capset, [&raw const header as usize, words.as_ptr() as usize, 0, 0, 0]) }.map(drop)
}

/// `capget(2)` of the calling thread.
///
/// # Errors
/// The kernel's answer.
pub fn caps() -> Answer<CapSets> {
    let header = CapHeader { version: CAP_VERSION_3, pid: 0 };
    let mut words = [CapWords::default(); 2];
    unsafe { call(libc::SYS_capget, [&raw const header as usize, words.as_mut_ptr() as usize, 0, 0, 0]) }?;
    let join = |low: u32, high: u32| u64::from(low) | (u64::from(high) << 32);
    Ok(CapSets {
        effective: join(words[0].effective, words[1].effective),
        permitted: join(words[0].permitted, words[1].permitted),
        inheritable: join(words[0].inheritable, words[1].inheritable),
    })
}

fn prctl(option: libc::c_int, a: usize, b: usize) -> Answer<libc::c_int> {
    check(unsafe { libc::prctl(option, a, b, 0, 0) })
}

/// `prctl(PR_CAPBSET_DROP)` for every capability the kernel knows that is not in `keep`; the kernel answers `EINVAL`
/// for the first number that it does not know, which ends the loop. So capabilities newer than this program are dropped, too.
///
/// # Errors
/// `EPERM`: no `CAP_SETPCAP`.
pub fn bound(keep: u64) -> Answer<()> {
    for cap in 0..64 {
        if keep & (1 << cap) == 0 {
            match prctl(libc::PR_CAPBSET_DROP, cap, 0) {
                Ok(_) => {}
                Err(Errno::EINVAL) => break,
                Err(errno) => return Err(errno),
            }
        }
    }
    Ok(())
}

/// `prctl(PR_SET_KEEPCAPS)`: permitted capabilities survive the change of ids.
///
/// # Errors
/// The kernel's answer.
pub fn keep_caps(on: bool) -> Answer<()> {
    prctl(libc::PR_SET_KEEPCAPS, usize::from(on), 0).map(drop)
}

/// `prctl(PR_CAP_AMBIENT)`: clears the ambient set, then raises one by one. `EINVAL` for a capability that is not
/// both permitted and inheritable is ignored, as in runc.
///
/// # Errors
/// The kernel's answer.
pub fn set_ambient(set: u64) -> Answer<()> {
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as usize, 0)?;
    for cap in (0..64).filter(|cap| set & (1 << cap) != 0) {
        match prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE as usize, cap) {
            Ok(_) | Err(Errno::EPERM | Errno::EINVAL) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// `prctl(PR_SET_NO_NEW_PRIVS)`.
///
/// # Errors
/// The kernel's answer.
pub fn no_new_privs() -> Answer<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0).map(drop)
}

/// `prctl(PR_SET_DUMPABLE)`: whether other processes of our user may trace this one (`ptrace(2)`, `/proc/PID`).
///
/// # Errors
/// The kernel's answer.
pub fn set_dumpable(on: bool) -> Answer<()> {
    prctl(libc::PR_SET_DUMPABLE, usize::from(on), 0).map(drop)
}

/// `prctl(PR_SET_CHILD_SUBREAPER)`: orphaned descendants become our children.
///
/// # Errors
/// The kernel's answer.
pub fn become_subreaper() -> Answer<()> {
    prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0).map(drop)
}

/// Whether user and group ids, real and effective, were all 0 when we were executed: the kernel said so in the
/// auxiliary vector (`getauxval(3)`), which costs no call.
#[must_use]
pub fn is_root() -> bool {
    [libc::AT_UID, libc::AT_EUID, libc::AT_GID, libc::AT_EGID]
        .into_iter()
        .all(|key| unsafe { libc::getauxval(key) == 0 })
}

/// Whether the effective user was root of our user namespace when we were executed (as [`is_root`]).
#[must_use]
pub fn is_privileged() -> bool {
    // SAFETY: as in `is_root`.
    unsafe { libc::getauxval(libc::AT_EUID) == 0 }
}

/// Whether our program has more privileges than its caller (set-user-id, file capabilities: `AT_SECURE`). Then the environment must
/// not be trusted.
#[must_use]
pub fn is_above_caller() -> bool {
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// A random number: the kernel's random bytes in the auxiliary vector (`AT_RANDOM`), which need no system call.
#[must_use]
pub fn auxv_random() -> u64 {
    // SAFETY: the kernel gives the address of sixteen bytes on our stack, which stay there.
    unsafe {
        let bytes = libc::getauxval(libc::AT_RANDOM) as *const [u8; 8];
        if bytes.is_null() { 0 } else { u64::from_ne_bytes(*bytes) }
    }
}

/// `geteuid(2)`.
#[must_use]
pub fn euid() -> u32 {
    unsafe { libc::geteuid() }
}

/// `getegid(2)`.
#[must_use]
pub fn egid() -> u32 {
    unsafe { libc::getegid() }
}
