//! `execve(2)` with pointer arrays that are prepared before the clone, and running a program as a child.

use super::signal::{self, End};
use super::{Answer, Errno, call, close, file, task};
use nix::fcntl::OFlag;
use std::ffi::{CStr, CString, c_char};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Longest string that [`Strings::append`] takes.
const SPARE: usize = 4200;

/// Strings and the null-terminated array of pointers to them, for `execve(2)`.
pub struct Strings {
    /// Never changed: the pointers point into them.
    strings: Vec<CString>,
    pointers: Vec<*const c_char>,
    /// Space for one string that is known only after the clone.
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

    /// Appends one string, made of parts, without allocating. Works once, if space was reserved.
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

/// `execve(2)`; returns only if it failed.
#[must_use]
pub fn exec(path: &CStr, argv: &Strings, envp: &Strings) -> Errno {
    // SAFETY: both arrays are null-terminated and point to strings that they own or that are static.
    unsafe { libc::execve(path.as_ptr(), argv.pointers.as_ptr(), envp.pointers.as_ptr()) };
    Errno::last()
}

/// Runs a program with `files` as its descriptors 0, 1 and 2 and nothing else open, and with `umask` if it is not to have
/// ours, and waits for its end with `wait`, which gets its pidfd and its pid. If that says `false`, or fails, the program is
/// killed; after `false` the result is `None`.
///
/// # Errors
/// The file does not exist or cannot be executed, or there can be no more processes.
pub fn run(
    path: &CStr,
    argv: &Strings,
    envp: &Strings,
    files: [BorrowedFd<'_>; 3],
    umask: Option<u32>,
    wait: &mut dyn FnMut(BorrowedFd<'_>, i32) -> Answer<bool>,
) -> Answer<Option<End>> {
    const CLONE_PIDFD: usize = 0x1000;
    file::may_execute(path)?;
    let mut pidfd: i32 = -1;
    // for the errno of a failed execve. A seccomp filter may refuse the pipe: then only the exit status tells
    let said = nix::unistd::pipe2(OFlag::O_CLOEXEC).ok();
    // not clone3(2): most seccomp profiles deny it, because filters can't see its flags, and a startContainer hook is
    // started under the container's profile
    let flags = CLONE_PIDFD | libc::SIGCHLD.cast_unsigned() as usize;
    // SAFETY: no memory is shared with the child, which runs the lines below on its own copy and leaves by execve or
    // _exit; both halves are single-threaded here or, in the host half, the child calls only async-signal-safe code.
    let pid = unsafe { call(libc::SYS_clone, [flags, 0, &raw mut pidfd as usize, 0, 0]) }?;
    if pid == 0 {
        let refused = become_program(path, argv, envp, (files, said.as_ref().map(|(_, to)| to.as_fd())), umask);
        if let Some((_, to)) = &said {
            let _status_says_less = file::write(to.as_fd(), &(refused as i32).to_ne_bytes());
        }
        task::exit_now(127);
    }
    // SAFETY: the kernel has just stored the number of a new descriptor there.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    let pid = i32::try_from(pid).map_err(|_| Errno::ESRCH)?;
    let from = said.map(|(from, _)| from);
    let ended = wait(pidfd.as_fd(), pid);
    if ended != Ok(true) {
        signal::send(pidfd.as_fd(), libc::SIGKILL)?;
        signal::reap(pid, true)?;
        return ended.map(|_| None);
    }
    let end = signal::reap(pid, true)?.map(|(_, end)| end);
    let mut word = [0; size_of::<i32>()];
    match from.map(|from| file::read(from.as_fd(), &mut word)) {
        Some(Ok(length)) if length == word.len() => Err(Errno::from_raw(i32::from_ne_bytes(word))),
        Some(Ok(_) | Err(_)) | None => Ok(end),
    }
}

/// Returns only if it fails, with the reason. `said` stays open until execve.
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
        if let Err(errno) = file::dup_to(fd, number) {
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
