//! Signals: masks, dispositions, waiting, and children's ends.

#![allow(clippy::undocumented_unsafe_blocks, reason = "see # Safety of `sys`")]

use super::{Answer, Errno, call, owned};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// A signal mask, as the kernel has it: a C library's functions leave out the signals that it keeps for itself, but who
/// sends us one of these means the payload.
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

/// Lets children's ends be heard: a caller that ignores `SIGCHLD` hands that on, and the kernel then reaps children
/// without a word.
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

/// Installs handlers that exit on the signals that ask for it. The first process of a pid namespace needs them: the kernel does not
/// apply default actions to it. execve(2) resets them.
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

/// The usual effect of every standard signal (signal(7)), and none blocked, whatever our caller ignores (conmon SIGPIPE, nohup SIGHUP) or
/// blocks: for the payload and for hooks. execve would hand both on. Of real-time signals nobody's usual effect is known: those
/// that a caller ignores stay ignored.
///
/// # Errors
/// The kernel's answer.
pub fn default_all() -> Answer<()> {
    /// The kernel's `struct sigaction` with the default handler: all zeros, of at most this size on any architecture.
    const DEFAULT: [u64; 5] = [0; 5];
    const STANDARD: usize = 31;
    for number in (1..=STANDARD).filter(|number| ![libc::SIGKILL as usize, libc::SIGSTOP as usize].contains(number)) {
        // SAFETY: the structure lives through the call, and no handler is set. A filter may refuse it, to the payload too.
        let _kept = unsafe { call(libc::SYS_rt_sigaction, [number, DEFAULT.as_ptr() as usize, 0, Mask::SIZE, 0]) };
    }
    set_mask(&Mask::NONE)
}

/// `rt_sigtimedwait(2)` for any blocked signal, without an end.
///
/// # Errors
/// The kernel's answer; an interruption is waited through.
pub fn wait_any() -> Answer<i32> {
    loop {
        match unsafe { call(libc::SYS_rt_sigtimedwait, [Mask::ALL.address(), 0, 0, Mask::SIZE, 0]) } {
            Ok(signal) => return Ok(i32::try_from(signal).unwrap_or_default()),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// `signalfd(2)` for every blocked signal, non-blocking.
///
/// # Errors
/// The kernel's answer.
pub fn descriptor() -> Answer<OwnedFd> {
    let flags = (libc::SFD_CLOEXEC | libc::SFD_NONBLOCK).cast_unsigned() as usize;
    let new = (-1_i32).cast_unsigned() as usize;
    unsafe { call(libc::SYS_signalfd4, [new, Mask::ALL.address(), Mask::SIZE, flags, 0]) }.map(owned)
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
    /// It left with a status.
    Exited(i32),
    /// A signal killed it.
    Killed(i32),
}

impl End {
    /// The exit status that a shell, and runc, shows: the status, or 128 plus the signal.
    #[must_use]
    pub fn status(self) -> i32 {
        match self {
            Self::Exited(status) => status,
            Self::Killed(signal) => 128 + signal,
        }
    }

    /// What a status of wait(2) means.
    #[must_use]
    pub fn from_raw(status: i32) -> Self {
        if libc::WIFSIGNALED(status) {
            Self::Killed(libc::WTERMSIG(status))
        } else {
            Self::Exited(libc::WEXITSTATUS(status))
        }
    }
}

/// `waitpid(2)`: reaps a child (or any, with -1), also one whose end raises no signal. `None` only if `block` is false and
/// none has ended.
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
    // SAFETY: the call has filled it, or left the zeros that say that nobody has ended; the status is of a SIGCHLD.
    let (code, status, pid) = unsafe {
        let info = info.assume_init();
        (info.si_code, info.si_status(), info.si_pid())
    };
    Ok((pid != 0).then_some(if code == libc::CLD_EXITED { End::Exited(status) } else { End::Killed(status) }))
}

/// `pidfd_send_signal(2)` (Linux 5.1): as kill(2), and 0 only asks.
///
/// # Errors
/// `ESRCH`: it has been reaped. `EINVAL`: there is no such signal. `EPERM`.
pub fn send(pidfd: BorrowedFd<'_>, signal: i32) -> Answer<()> {
    let fd = pidfd.as_raw_fd().cast_unsigned() as usize;
    // SAFETY: no siginfo is given.
    unsafe { call(libc::SYS_pidfd_send_signal, [fd, signal.cast_unsigned() as usize, 0, 0, 0]) }.map(drop)
}
