//! Turning into another program: `execve(2)` with pointer arrays that are ready before the clone.

use super::signal::{self, End};
use super::{Answer, Errno, call, check, close, file, task, tty};
use std::ffi::{CStr, CString, c_char, c_void};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Longest string that [`Strings::append`] takes.
const SPARE: usize = 4200;

/// Strings and the null-terminated array of pointers to them, as `execve(2)` wants it.
pub struct Strings {
    /// Never changed: the pointers point into these.
    strings: Vec<CString>,
    pointers: Vec<*const c_char>,
    /// Room for one string that is known only after the clone.
    spare: Vec<u8>,
}

impl Strings {
    /// Makes the array.
    #[must_use]
    pub fn new(strings: Vec<CString>) -> Self {
        let mut pointers: Vec<_> = Vec::with_capacity(strings.len() + 2);
        pointers.extend(strings.iter().map(|s| s.as_ptr()));
        pointers.push(std::ptr::null());
        Self { strings, pointers, spare: Vec::new() }
    }

    /// Makes the array, with room for one string more (see [`Strings::append`]).
    #[must_use]
    pub fn with_spare(strings: Vec<CString>) -> Self {
        Self { spare: Vec::with_capacity(SPARE), ..Self::new(strings) }
    }

    /// The strings.
    #[must_use]
    pub fn strings(&self) -> &[CString] {
        &self.strings
    }

    /// The array, for calls other than [`exec`].
    pub(super) fn pointers(&self) -> *const *const c_char {
        self.pointers.as_ptr()
    }

    /// Appends one string, made of parts; allocates nothing. Once only, and only if there is room.
    pub fn append(&mut self, parts: &[&[u8]]) {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        if !self.spare.is_empty() || length >= self.spare.capacity() {
            return;
        }
        for part in parts {
            self.spare.extend_from_slice(part);
        }
        self.spare.push(0);
        self.pointers.insert(self.strings.len(), self.spare.as_ptr().cast());
    }
}

impl std::fmt::Debug for Strings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.strings.fmt(f)
    }
}

/// `execve(2)`; comes back only if it failed.
#[must_use]
pub fn exec(path: &CStr, argv: &Strings, envp: &Strings) -> Errno {
    // SAFETY: both arrays are null-terminated and point to strings that they own or that are static.
    unsafe { libc::execve(path.as_ptr(), argv.pointers.as_ptr(), envp.pointers.as_ptr()) };
    Errno::last()
}

/// `struct clone_args` of `clone3(2)`, as of Linux 5.7.
#[repr(C)]
#[derive(Debug, Default)]
pub struct CloneArgs {
    /// `CLONE_*`.
    pub flags: u64,
    /// Where the pidfd's number goes (`CLONE_PIDFD`): the address of an `i32`.
    pub pidfd: u64,
    /// Unused here.
    pub child_tid: u64,
    /// Unused here.
    pub parent_tid: u64,
    /// What the parent is told when the child ends: `SIGCHLD`.
    pub exit_signal: u64,
    /// The lowest byte of the child's stack; zero: a copy of the caller's stack.
    pub stack: u64,
    /// Its size.
    pub stack_size: u64,
    /// The thread pointer (`CLONE_SETTLS`).
    pub tls: u64,
    /// Unused here.
    pub set_tid: u64,
    /// Unused here.
    pub set_tid_size: u64,
    /// A cgroup v2 directory (`CLONE_INTO_CGROUP`).
    pub cgroup: u64,
}

/// `clone3(2)` of a child, or a thread, that begins in `run`, on the stack that `args` names, which must be aligned to 16
/// bytes. It shares our memory (`CLONE_VM`) and has thread-local storage of its own (`CLONE_SETTLS`).
///
/// # Errors
/// The kernel's answer.
///
/// # Safety
/// `args` must be right for the kernel, with a stack and storage that nobody else uses; `argument` must be what `run`
/// expects, and all that `run` uses must live until the child has executed a program or ended.
pub(super) unsafe fn clone_apart(
    args: &CloneArgs,
    run: extern "C" fn(*mut c_void) -> !,
    argument: *mut c_void,
) -> Answer<i32> {
    let answer: isize;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the child, whose answer is 0, leaves this function for good and touches nothing of our stack; the parent
    // goes on behind the label with everything but the named registers as it was.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 as isize => answer,
            in("rdi") &raw const *args,
            in("rsi") size_of::<CloneArgs>(),
            in("r12") argument,
            in("r13") run,
            out("rcx") _,
            out("r11") _,
        );
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        std::arch::asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x30, xzr",
            "mov x0, x20",
            "blr x21",
            "brk 1",
            "2:",
            in("x8") libc::SYS_clone3,
            inlateout("x0") &raw const *args as isize => answer,
            in("x1") size_of::<CloneArgs>(),
            in("x20") argument,
            in("x21") run,
        );
    }
    match i32::try_from(answer) {
        Ok(pid) if pid > 0 => Ok(pid),
        Ok(errno) => Err(Errno::from_raw(-errno)),
        Err(_) => Err(Errno::EIO),
    }
}

/// Runs a program with these as 0, 1 and 2, nothing else open, and a umask if it is not to have ours, and waits for its end; after `limit` milliseconds it is killed, and the
/// answer is none.
///
/// # Errors
/// The file is not there or cannot be executed, or there can be no more processes.
pub fn run(
    path: &CStr,
    argv: &Strings,
    envp: &Strings,
    files: [BorrowedFd<'_>; 3],
    limit: Option<u64>,
    umask: Option<u32>,
) -> Answer<Option<End>> {
    const CLONE_PIDFD: usize = 0x1000;
    file::may_execute(path)?;
    let mut pidfd: i32 = -1;
    // what execve says, if it comes back. A filter may refuse a pipe: then the status alone says that it failed
    let said = pipe().ok();
    // not clone3(2): a hook that starts under the container's seccomp profile runs under one that most likely denies it,
    // because filters can't look into its argument
    let flags = CLONE_PIDFD | libc::SIGCHLD.cast_unsigned() as usize;
    // SAFETY: no memory is shared with the child, which runs the lines below on its own copy and leaves by execve or
    // _exit; both halves are single-threaded here or, in the host half, the child calls only async-signal-safe code.
    let pid = unsafe { call(libc::SYS_clone, [flags, 0, &raw mut pidfd as usize, 0, 0]) }?;
    if pid == 0 {
        let refused = become_program(path, argv, envp, (files, said.as_ref().map(|(_, to)| to.as_fd())), umask);
        if let Some((_, to)) = &said {
            let _status_says_less = file::write(to.as_fd(), &(refused as i32).to_ne_bytes());
        }
        task::leave(127);
    }
    // SAFETY: the kernel has just stored the number of a new descriptor there.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    let pid = i32::try_from(pid).map_err(|_| Errno::ESRCH)?;
    let limit = limit.map_or(-1, |limit| i32::try_from(limit).unwrap_or(i32::MAX));
    let from = said.map(|(from, _)| from);
    let [ended] = tty::poll([(Some(pidfd.as_fd()), libc::POLLIN)], limit)?;
    if ended == 0 {
        signal::send(pidfd.as_fd(), libc::SIGKILL)?;
        signal::reap(pid, true)?;
        return Ok(None);
    }
    let end = signal::reap(pid, true)?.map(|(_, end)| end);
    let mut word = [0; size_of::<i32>()];
    match from.map(|from| file::read(from.as_fd(), &mut word)) {
        Some(Ok(length)) if length == word.len() => Err(Errno::from_raw(i32::from_ne_bytes(word))),
        Some(Ok(_) | Err(_)) | None => Ok(end),
    }
}

/// `pipe2(2)`: the end to read and the end to write.
fn pipe() -> Answer<(OwnedFd, OwnedFd)> {
    let mut fds = [-1; 2];
    // SAFETY: fds has room for two.
    check(unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) })?;
    // SAFETY: the call has just made them for us, and nobody else knows their numbers.
    Ok(unsafe { (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])) })
}

/// Comes back only with the reason why it could not be done. `said` stays open until execve.
fn become_program(
    path: &CStr,
    argv: &Strings,
    envp: &Strings,
    (files, said): ([BorrowedFd<'_>; 3], Option<BorrowedFd<'_>>),
    umask: Option<u32>,
) -> Errno {
    let _a_filter_may_refuse = signal::default_all();
    if let Some(umask) = umask {
        file::umask(umask);
    }
    for (number, fd) in files.into_iter().enumerate() {
        let number = i32::try_from(number).unwrap_or_default();
        if let Err(errno) = file::place(fd, number) {
            return errno;
        }
    }
    let mut first = 3;
    if let Some(said) = said {
        first = said.as_raw_fd().cast_unsigned();
        if first > 3
            && let Err(errno) = close::close_range(3, first - 1)
        {
            return errno;
        }
        first += 1;
    }
    // not left to execve, which looks the program up before it closes anything. The end of a pipe leads nowhere
    match close::close_range(first, u32::MAX) {
        Ok(()) => exec(path, argv, envp),
        Err(errno) => errno,
    }
}
