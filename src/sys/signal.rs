//! Signals: masks, dispositions, waiting; and how children ended.

#![allow(clippy::undocumented_unsafe_blocks, reason = "see # Safety of `sys`")]

use super::{Answer, Errno, call, owned};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// The kernel's signal mask. (A C library's functions leave out the signals that it reserves; but we must forward those to the
/// payload, too.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mask(u64);

impl Mask {
    const ALL: Self = Self(!0);
    const NONE: Self = Self(0);
    const SIZE: usize = size_of::<u64>();

    fn address(&self) -> usize {
        &raw const self.0 as usize
    }
}

/// Resets `SIGCHLD`: if our caller ignores it, so do we, and the kernel would reap our children without telling us.
pub fn default_sigchld() {
    // SAFETY: sets a disposition to the default; no handler is involved.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
}

/// Blocks every signal.
///
/// # Errors
/// The kernel's answer.
pub fn block_all() -> Answer<()> {
    set_mask(&Mask::ALL)
}

/// Blocks a signal, for this thread and those that it starts.
///
/// # Errors
/// The kernel's answer.
pub fn block(signal: i32) -> Answer<()> {
    let mask = Mask(1 << (signal - 1));
    let how = libc::SIG_BLOCK.cast_unsigned() as usize;
    // SAFETY: the mask lives through the call, and its size is the kernel's.
    unsafe { call(libc::SYS_rt_sigprocmask, [how, mask.address(), 0, Mask::SIZE, 0]) }.map(drop)
}

/// Sets the mask.
///
/// # Errors
/// The kernel's answer.
fn set_mask(mask: &Mask) -> Answer<()> {
    let how = libc::SIG_SETMASK.cast_unsigned() as usize;
    unsafe { call(libc::SYS_rt_sigprocmask, [how, mask.address(), 0, Mask::SIZE, 0]) }.map(drop)
}

/// Installs handlers that exit on SIGTERM and similar signals, because the kernel does not apply default actions to the first
/// process of a pid namespace. execve(2) resets them.
pub fn exit_on_term_signals() {
    extern "C" fn leave(signal: libc::c_int) {
        super::task::exit_now(128 + signal);
    }
    for number in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM] {
        let handler: extern "C" fn(libc::c_int) = leave;
        // SAFETY: the handler calls nothing but _exit(2).
        unsafe { libc::signal(number, handler as libc::sighandler_t) };
    }
}

/// Resets every standard signal to its default (signal(7)) and unblocks all signals, for the payload and for hooks: execve
/// would keep what our caller ignores (conmon SIGPIPE, nohup SIGHUP) or blocks. Real-time signals that the caller ignores stay
/// ignored.
///
/// # Errors
/// The kernel's answer.
pub fn default_all() -> Answer<()> {
    /// The kernel's `struct sigaction` with the default handler: all zeros, of at most this size on any architecture.
    const DEFAULT: [u64; 5] = [0; 5];
    const STANDARD: usize = 31;
    for number in (1..=STANDARD).filter(|number| ![libc::SIGKILL as usize, libc::SIGSTOP as usize].contains(number)) {
        // SAFETY: the structure lives through the call, and no handler is set. A seccomp filter may refuse the call.
        let _kept = unsafe { call(libc::SYS_rt_sigaction, [number, DEFAULT.as_ptr() as usize, 0, Mask::SIZE, 0]) };
    }
    set_mask(&Mask::NONE)
}

/// `rt_sigtimedwait(2)` for any blocked signal, without a time limit.
///
/// # Errors
/// The kernel's answer, except `EINTR`.
pub fn wait_any() -> Answer<i32> {
    loop {
        match unsafe { call(libc::SYS_rt_sigtimedwait, [Mask::ALL.address(), 0, 0, Mask::SIZE, 0]) } {
            Ok(signal) => return Ok(i32::try_from(signal).unwrap_or_default()),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// SIGTERM and SIGINT as something that can be polled for. Blocked as long as this lives, in this thread.
#[derive(Debug)]
pub struct Ending {
    fd: OwnedFd,
    before: Mask,
}

impl Ending {
    /// Blocks them.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn watch() -> Answer<Self> {
        let mask = Mask(1 << (libc::SIGTERM - 1) | 1 << (libc::SIGINT - 1));
        let mut before = Mask::NONE;
        let how = libc::SIG_BLOCK.cast_unsigned() as usize;
        // SAFETY: both masks live through the call, and their size is the kernel's.
        let at = &raw mut before.0 as usize;
        unsafe { call(libc::SYS_rt_sigprocmask, [how, mask.address(), at, Mask::SIZE, 0]) }?;
        match descriptor_of(&mask) {
            Ok(fd) => Ok(Self { fd, before }),
            Err(errno) => {
                let _as_it_was = set_mask(&before);
                Err(errno)
            }
        }
    }

    /// The name of the one that came, if one came.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn caught(&self) -> Answer<Option<&'static str>> {
        Ok(next(self.fd.as_fd())?.map(|signal| if signal == libc::SIGINT { "SIGINT" } else { "SIGTERM" }))
    }
}

impl AsFd for Ending {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let _as_it_was = set_mask(&self.before);
    }
}

/// `signalfd(2)` for every blocked signal, non-blocking.
///
/// # Errors
/// The kernel's answer.
pub fn descriptor() -> Answer<OwnedFd> {
    descriptor_of(&Mask::ALL)
}

fn descriptor_of(mask: &Mask) -> Answer<OwnedFd> {
    let flags = (libc::SFD_CLOEXEC | libc::SFD_NONBLOCK).cast_unsigned() as usize;
    let new = (-1_i32).cast_unsigned() as usize;
    unsafe { call(libc::SYS_signalfd4, [new, mask.address(), Mask::SIZE, flags, 0]) }.map(owned)
}

/// The next signal from a `signalfd(2)`, if there is one.
///
/// # Errors
/// The kernel's answer.
pub fn next(fd: BorrowedFd<'_>) -> Answer<Option<i32>> {
    let mut info = std::mem::MaybeUninit::<libc::signalfd_siginfo>::uninit();
    let size = size_of::<libc::signalfd_siginfo>();
    // SAFETY: the buffer has the size of one record.
    let length = unsafe { libc::read(fd.as_raw_fd(), info.as_mut_ptr().cast(), size) };
    if usize::try_from(length) == Ok(size) {
        // SAFETY: one whole record was read.
        return Ok(Some(unsafe { info.assume_init() }.ssi_signo.cast_signed()));
    }
    match Errno::last() {
        Errno::EAGAIN | Errno::EINTR => Ok(None),
        errno => Err(errno),
    }
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It exited with a status.
    Exited(i32),
    /// A signal killed it.
    Killed(i32),
}

impl End {
    /// The exit status that shells and runc use: the status, or 128 plus the signal.
    #[must_use]
    pub fn status(self) -> i32 {
        match self {
            Self::Exited(status) => status,
            Self::Killed(signal) => 128 + signal,
        }
    }

    /// From a status of wait(2).
    #[must_use]
    pub fn from_raw(status: i32) -> Self {
        if libc::WIFSIGNALED(status) {
            Self::Killed(libc::WTERMSIG(status))
        } else {
            Self::Exited(libc::WEXITSTATUS(status))
        }
    }
}

/// `waitpid(2)` with `__WALL`: reaps a child (or any, with -1), also one that sends no signal. `None` only if `block` is false
/// and none has ended.
///
/// # Errors
/// `ECHILD`: there is no such child.
pub fn reap(pid: i32, block: bool) -> Answer<Option<(i32, End)>> {
    let mut status = 0;
    loop {
        let done = unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL | if block { 0 } else { libc::WNOHANG }) };
        match done {
            0 => return Ok(None),
            done if done > 0 => return Ok(Some((done, End::from_raw(status)))),
            _ if Errno::last() == Errno::EINTR => {}
            _ => return Err(Errno::last()),
        }
    }
}

/// `waitid(2)` by a pidfd (`P_PIDFD`, Linux 5.4), without reaping: how a child has ended, if it has.
///
/// # Errors
/// `ECHILD`: it is no child of ours, or was reaped.
pub fn ended(pidfd: BorrowedFd<'_>) -> Answer<Option<End>> {
    const P_PIDFD: usize = 3;
    let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
    let how = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL;
    let (fd, how) = (pidfd.as_raw_fd().cast_unsigned() as usize, how.cast_unsigned() as usize);
    unsafe { call(libc::SYS_waitid, [P_PIDFD, fd, info.as_mut_ptr() as usize, how, 0]) }?;
    // SAFETY: the call has filled it, or left zeros, which mean that none has ended; the fields are those of SIGCHLD.
    let (code, status, pid) = unsafe {
        let info = info.assume_init();
        (info.si_code, info.si_status(), info.si_pid())
    };
    Ok((pid != 0).then_some(if code == libc::CLD_EXITED { End::Exited(status) } else { End::Killed(status) }))
}

/// `pidfd_send_signal(2)` (Linux 5.1): as kill(2); signal 0 only checks.
///
/// # Errors
/// `ESRCH`: it has been reaped. `EINVAL`: there is no such signal. `EPERM`.
pub fn send(pidfd: BorrowedFd<'_>, signal: i32) -> Answer<()> {
    let fd = pidfd.as_raw_fd().cast_unsigned() as usize;
    // SAFETY: no siginfo is given.
    unsafe { call(libc::SYS_pidfd_send_signal, [fd, signal.cast_unsigned() as usize, 0, 0, 0]) }.map(drop)
}
