//! Attributes of a process besides its credentials: limits, scheduling, personality, keyring, memory policy, seccomp.

use super::{Answer, Errno, call, check};
use std::ffi::CStr;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

/// `prlimit(2)` of a process (0: ourselves).
///
/// # Errors
/// `EPERM`: a hard limit would be raised without `CAP_SYS_RESOURCE`.
pub fn set_limit(pid: i32, resource: u32, soft: u64, hard: u64) -> Answer<()> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    // SAFETY: limit lives through the call; no old value is asked for.
    unsafe {
        call(libc::SYS_prlimit64, [pid.cast_unsigned() as usize, resource as usize, &raw const limit as usize, 0, 0])
    }
    .map(drop)
}

/// How many descriptors we may have open: `prlimit(2)`.
///
/// # Errors
/// The kernel's answer.
pub fn open_files() -> Answer<u64> {
    let mut limit = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    let which = libc::RLIMIT_NOFILE as usize;
    // SAFETY: limit lives through the call; nothing is set.
    unsafe { call(libc::SYS_prlimit64, [0, which, 0, &raw mut limit as usize, 0]) }?;
    Ok(limit.rlim_cur)
}

/// `futex(FUTEX_WAIT)`: sleeps while the word is `value`. May return early.
fn wait_while(word: &AtomicU32, value: u32) {
    let operation = (libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG).cast_unsigned() as usize;
    // SAFETY: the word lives through the call; there is no timeout. The caller looks at the word again.
    let _woken = unsafe { call(libc::SYS_futex, [word.as_ptr() as usize, operation, value as usize, 0, 0]) };
}

/// `futex(FUTEX_WAKE)`: wakes all threads that wait on the word.
fn wake(word: &AtomicU32) {
    let operation = (libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG).cast_unsigned() as usize;
    // SAFETY: the word lives through the call.
    let _count = unsafe { call(libc::SYS_futex, [word.as_ptr() as usize, operation, i32::MAX as usize, 0, 0]) };
}

/// An event that happens once, which threads may wait for. Makes no system call if nobody has to wait.
#[derive(Debug, Default)]
pub struct Latch(AtomicU32);

impl Latch {
    const OPEN: u32 = 1;
    const WAITED: u32 = 2;

    /// The event has happened. Returns whether somebody waited.
    pub fn open(&self) -> bool {
        let waited = self.0.swap(Self::OPEN, Ordering::AcqRel) == Self::WAITED;
        if waited {
            wake(&self.0);
        }
        waited
    }

    /// Waits for the event.
    pub fn wait(&self) {
        let _closed = self.0.compare_exchange(0, Self::WAITED, Ordering::AcqRel, Ordering::Acquire);
        while self.0.load(Ordering::Acquire) != Self::OPEN {
            wait_while(&self.0, Self::WAITED);
        }
    }
}

/// `struct sched_attr` of `sched_setattr(2)`, first version.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SchedAttr {
    /// Size of this structure.
    pub size: u32,
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// Nice value, for `SCHED_OTHER` and `SCHED_BATCH`.
    pub nice: i32,
    /// Static priority, for `SCHED_FIFO` and `SCHED_RR`.
    pub priority: u32,
    /// For `SCHED_DEADLINE`, in nanoseconds.
    pub runtime: u64,
    /// For `SCHED_DEADLINE`, in nanoseconds.
    pub deadline: u64,
    /// For `SCHED_DEADLINE`, in nanoseconds.
    pub period: u64,
}

/// `sched_setattr(2)` of ourselves.
///
/// # Errors
/// `EPERM`: `SCHED_DEADLINE` with a restricted affinity, or no `CAP_SYS_NICE`.
pub fn set_scheduler(attr: &SchedAttr) -> Answer<()> {
    #[allow(clippy::cast_possible_truncation)]
    let attr = SchedAttr { size: size_of::<SchedAttr>() as u32, ..*attr };
    // SAFETY: attr lives through the call and says its own size.
    unsafe { call(libc::SYS_sched_setattr, [0, &raw const attr as usize, 0, 0, 0]) }.map(drop)
}

/// `ioprio_set(2)` of ourselves.
///
/// # Errors
/// `EPERM`: the real-time class without `CAP_SYS_ADMIN` or `CAP_SYS_NICE`.
pub fn set_io_priority(class: u16, level: u16) -> Answer<()> {
    const IOPRIO_WHO_PROCESS: usize = 1;
    let value = (usize::from(class) << 13) | usize::from(level);
    // SAFETY: plain numbers.
    unsafe { call(libc::SYS_ioprio_set, [IOPRIO_WHO_PROCESS, 0, value, 0, 0]) }.map(drop)
}

/// `sched_setaffinity(2)` of ourselves; bits of processor numbers, lowest first.
///
/// # Errors
/// `EINVAL`: none of the processors is usable.
pub fn set_affinity(mask: &[u64]) -> Answer<()> {
    // SAFETY: the mask lives through the call and the length is its own, in bytes.
    unsafe { call(libc::SYS_sched_setaffinity, [0, size_of_val(mask), mask.as_ptr() as usize, 0, 0]) }.map(drop)
}

/// Lets us, and our children, run on all CPUs that the cgroup allows: the affinity that our caller happens to have is no
/// setting of the container. A sandbox that refuses this leaves it as it is.
pub fn reset_affinity() {
    const ALL: [u64; 128] = [u64::MAX; 128];
    let _ = set_affinity(&ALL);
}

/// Moves to another CPU than the one we are on, if there is one. [`reset_affinity`] takes that back.
pub fn hop_cpu() {
    let mut others = [u64::MAX; 128];
    // SAFETY: the call takes no argument.
    let here = usize::try_from(unsafe { libc::sched_getcpu() });
    if let Some(word) = here.ok().and_then(|here| others.get_mut(here / 64).map(|word| (word, here % 64))) {
        *word.0 &= !(1 << word.1);
        let _ = set_affinity(&others);
    }
}

/// `set_mempolicy(2)` of ourselves; bits of node numbers, lowest first.
///
/// # Errors
/// `EINVAL`: mode, flags and nodes do not fit.
pub fn set_memory_policy(mode: u32, nodes: &[u64]) -> Answer<()> {
    let (pointer, bits) = if nodes.is_empty() { (0, 0) } else { (nodes.as_ptr() as usize, nodes.len() * 64 + 1) };
    // SAFETY: the mask lives through the call; the kernel reads one bit less than it is told.
    unsafe { call(libc::SYS_set_mempolicy, [mode as usize, pointer, bits, 0, 0]) }.map(drop)
}

/// `personality(2)`.
///
/// # Errors
/// The kernel's answer.
pub fn set_personality(persona: u64) -> Answer<()> {
    // SAFETY: plain number.
    check(unsafe { libc::personality(persona) }).map(drop)
}

/// Joins a new session keyring of that name and lets its owner's user search it (`keyctl(2)`,
/// `KEYCTL_JOIN_SESSION_KEYRING`, `KEYCTL_SETPERM`), as runc does.
///
/// # Errors
/// The kernel's answer. `ENOSYS`: a kernel without keyrings.
pub fn join_keyring(name: &CStr) -> Answer<()> {
    const JOIN: usize = 1;
    const SETPERM: usize = 5;
    // the kernel's own default (all for the possessor; view, read and link for the user) plus search for the user
    const PERM: usize = 0x3f1b_0000;
    // SAFETY: name lives through the call.
    let ring = unsafe { call(libc::SYS_keyctl, [JOIN, name.as_ptr() as usize, 0, 0, 0]) }?;
    // SAFETY: plain numbers.
    unsafe { call(libc::SYS_keyctl, [SETPERM, ring, PERM, 0, 0]) }.map(drop)
}

/// `seccomp(2)`, `SECCOMP_SET_MODE_FILTER`. Answers the listener if one was asked for.
///
/// # Errors
/// `EACCES`: neither `no_new_privs` nor `CAP_SYS_ADMIN`. `EINVAL`: not a valid program.
pub fn install_filter(program: &[seccompiler::sock_filter], flags: u32) -> Answer<Option<OwnedFd>> {
    const NEW_LISTENER: u32 = 1 << 3;
    const SET_MODE_FILTER: usize = 1;
    let length = u16::try_from(program.len()).map_err(|_| Errno::EINVAL)?;
    // seccompiler's instruction has the layout of the kernel's `struct sock_filter`
    let fprog = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut().cast() };
    // SAFETY: the program lives through the call and is only read.
    let number =
        unsafe { call(libc::SYS_seccomp, [SET_MODE_FILTER, flags as usize, &raw const fprog as usize, 0, 0]) }?;
    let number = i32::try_from(number).ok().filter(|_| flags & NEW_LISTENER != 0);
    // SAFETY: the kernel has just created it. It must not be used before the agent has it: any system call may be one that
    // waits for the agent's answer.
    Ok(number.map(|number| unsafe { OwnedFd::from_raw_fd(number) }))
}

/// `setsid(2)`: a session of our own, without a terminal. `EPERM` (we lead one already) is not an error.
pub fn new_session() {
    // SAFETY: no arguments.
    let _ = unsafe { libc::setsid() };
}

/// `exit_group(2)`: ends the process at once, without handlers, flushing or destructors. Where a seccomp profile refuses even
/// that (the C library would try for ever), an instruction traps: the signal ends the process, blocked or not, and the
/// parent sees it.
pub fn exit_now(status: i32) -> ! {
    let status = status.cast_unsigned() as usize;
    for number in [libc::SYS_exit_group, libc::SYS_exit] {
        // SAFETY: no pointers; nothing of ours runs afterwards if it does what it says.
        let _refused = unsafe { call(number, [status, 0, 0, 0, 0]) };
    }
    trap()
}

/// Ends the process by `SIGILL`: for a process that cannot report its failure in any other way. (The first process of a pid
/// namespace survives that while it is traced, and executes the instruction for ever.)
pub fn trap() -> ! {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the instruction raises an exception and does nothing else.
    unsafe {
        std::arch::asm!("ud2", options(noreturn, nomem, nostack));
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        std::arch::asm!("udf #0", options(noreturn, nomem, nostack));
    }
}
