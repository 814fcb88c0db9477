//! The foreground of `run`, `exec` and `restore`: forwards signals to the payload, reaps orphans, and copies between the
//! caller's terminal and the container's.
//!
//! All signals are blocked since before the clone and waited for here, so that none is lost, and so that the modes of the caller's
//! terminal are restored whatever signal ends us, except SIGKILL.

use super::Child;
use crate::error::{Context, Error, Result};
use crate::sys::file::{self, given};
use crate::sys::signal::{self, End};
use crate::sys::tty::{self, Modes};
use crate::sys::{Answer, Errno, wait};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Waits until the payload has ended; without a terminal. `lost` makes the error for one that never became the payload.
///
/// # Errors
/// The kernel's answer.
pub fn wait(child: &Child, lost: impl Fn(Option<End>) -> Error) -> Result<End> {
    // SIGCHLD is blocked since before the clone: if the payload has ended already, it is pending
    loop {
        let caught = signal::wait_any().context(|| "wait for signals")?;
        if caught != libc::SIGCHLD {
            forward(child, caught);
        } else if let Some(end) = reap_all(child, &lost)? {
            return Ok(end);
        }
    }
}

/// Reaps all children that have ended; a subreaper gets orphans, too. Returns how the payload ended, if it has. A process
/// that was killed before it had executed the payload (by the memory limit, say) is a failure to start. One SIGCHLD may
/// stand for several children, so we look at the process itself, before it is reaped.
fn reap_all(child: &Child, lost: impl Fn(Option<End>) -> Error) -> Result<Option<End>> {
    let end = signal::ended(child.pidfd.as_fd()).context(|| "look at the payload")?;
    // an init that exits by itself has reported why
    if matches!(end, Some(End::Killed(_))) && !child.restored && !super::became_payload(child.pid)? {
        return Err(lost(super::reap(child)?));
    }
    loop {
        match signal::reap(-1, false) {
            Ok(Some((ended, end))) if ended == child.pid => return Ok(Some(end)),
            Ok(Some(_)) => {}
            Ok(None) => return Ok(None),
            Err(errno) => return Err(errno).context(|| "wait for children"),
        }
    }
}

/// Forwards a signal, except those about ourselves: our children, our terminal's size, Go's preemption signal.
fn forward(child: &Child, caught: i32) {
    if !matches!(caught, libc::SIGCHLD | libc::SIGWINCH | libc::SIGURG) {
        // fails if the payload has ended
        let _ = signal::send(child.pidfd.as_fd(), caught);
    }
}

/// Opens the caller's terminal: the first of standard input, output and error that is one, else the controlling terminal, as runc
/// does.
///
/// # Errors
/// There is none, in runc's words.
pub fn callers_terminal() -> Result<OwnedFd> {
    if let Some(fd) = [0, 1, 2].map(given).into_iter().find(|fd| tty::modes(*fd).is_ok()) {
        return fd.try_clone_to_owned().context(|| "fcntl(F_DUPFD_CLOEXEC)");
    }
    let opened = File::options().read(true).write(true).open("/dev/tty").context(|| "open /dev/tty");
    opened.map(OwnedFd::from).map_err(|error| {
        error.with_hint(
            "process.terminal is true, but none of standard input, output and error is a terminal: set it to false, or run \
             detached with --console-socket",
        )
    })
}

/// The caller's terminal in raw mode. Its modes are restored on drop.
struct Raw<'a> {
    tty: BorrowedFd<'a>,
    before: Modes,
}

impl<'a> Raw<'a> {
    fn new(tty: BorrowedFd<'a>) -> Option<Self> {
        let before = tty::modes(tty).ok()?;
        tty::set_modes(tty, &before.raw()).ok()?;
        Some(Self { tty, before })
    }
}

impl Drop for Raw<'_> {
    fn drop(&mut self) {
        let _ = tty::set_modes(self.tty, &self.before);
    }
}

/// How often the payload is told that its input has ended, in milliseconds.
const EOF_INTERVAL: i32 = 100;

/// A buffer for one direction.
struct Pipe {
    buffer: Vec<u8>,
    from: usize,
    to: usize,
    closed: bool,
}

impl Pipe {
    fn new() -> Self {
        Self { buffer: vec![0; 16384], from: 0, to: 0, closed: false }
    }

    fn wants_input(&self) -> bool {
        !self.closed && self.from == self.to
    }

    fn wants_output(&self) -> bool {
        self.from < self.to
    }

    fn fill(&mut self, source: BorrowedFd<'_>) {
        match file::read(source, &mut self.buffer) {
            // EIO: nobody has the other end of the terminal open any more
            Ok(0) | Err(Errno::EIO) => self.closed = true,
            Ok(length) => (self.from, self.to) = (0, length),
            Err(Errno::EAGAIN) => {}
            Err(_) => self.closed = true,
        }
    }

    fn pour(&mut self, target: BorrowedFd<'_>) {
        match file::write_some(target, &self.buffer[self.from..self.to]) {
            Ok(length) => self.from += length,
            Err(Errno::EAGAIN) => {}
            Err(_) => (self.from, self.to) = (0, 0),
        }
    }
}

/// Copies between the caller's terminal and the container's until the payload has ended and all its output is copied.
///
/// # Errors
/// The kernel's answer.
pub fn relay(child: &Child, master: &OwnedFd, lost: impl Fn(Option<End>) -> Error) -> Result<End> {
    let (stdin, stdout) = (given(0), given(1));
    let callers = callers_terminal().ok();
    let _raw = callers.as_ref().and_then(|tty| Raw::new(tty.as_fd()));
    let resize = || callers.iter().for_each(|tty| resize(tty.as_fd(), master));
    resize();
    let signals = signal::descriptor().context(|| "signalfd")?;
    let (mut up, mut down) = (Pipe::new(), Pipe::new());
    let mut end = None;
    while end.is_none() || (!down.closed && (down.wants_output() || readable(master)?)) {
        let [signalled, typed, master_ready, screen] =
            turn(&signals, (stdin, stdout), master, (&up, &down)).context(|| "poll")?;
        if up.closed && !up.wants_output() && end.is_none() {
            end_input(master);
        }
        if signalled != 0 {
            while let Some(caught) = signal::next(signals.as_fd()).context(|| "read signals")? {
                match caught {
                    libc::SIGWINCH => resize(),
                    _ => forward(child, caught),
                }
            }
        }
        if end.is_none() {
            end = reap_all(child, &lost)?;
        }
        if typed != 0 {
            up.fill(stdin);
        }
        if master_ready & (libc::POLLIN | libc::POLLHUP | libc::POLLERR) != 0 && down.wants_input() {
            down.fill(master.as_fd());
        }
        if up.wants_output() {
            up.pour(master.as_fd());
        }
        if screen != 0 || down.wants_output() {
            down.pour(stdout);
        }
    }
    end.ok_or_else(|| Error::msg("the payload ended without a status"))
}

/// Tells the payload that its input has ended. A terminal has no end of file, only a character that stands for it (`VEOF`). It
/// is sent each time all earlier input has been read: a shell with line editing takes one that comes before the shell has
/// changed the terminal's mode for a NUL.
fn end_input(master: &OwnedFd) {
    let all_read = || -> Answer<bool> {
        let terminal = tty::peer(master.as_fd())?;
        wait::events([(Some(terminal.as_fd()), libc::POLLIN)], 0).map(|[waiting]| waiting == 0)
    };
    if let (Ok(true), Ok(modes)) = (all_read(), tty::modes(master.as_fd())) {
        let _may_be_full = file::write_some(master.as_fd(), &[modes.end_of_input()]);
    }
}

fn turn(
    signals: &OwnedFd,
    outside: (BorrowedFd<'_>, BorrowedFd<'_>),
    master: &OwnedFd,
    pipes: (&Pipe, &Pipe),
) -> Answer<[i16; 4]> {
    let (up, down) = pipes;
    let mut wanted = 0;
    if down.wants_input() {
        wanted |= libc::POLLIN;
    }
    if up.wants_output() {
        wanted |= libc::POLLOUT;
    }
    let master = (wanted != 0).then(|| master.as_fd());
    wait::events(
        [
            (Some(signals.as_fd()), libc::POLLIN),
            (up.wants_input().then_some(outside.0), libc::POLLIN),
            (master, wanted),
            (down.wants_output().then_some(outside.1), libc::POLLOUT),
        ],
        if up.closed { EOF_INTERVAL } else { -1 },
    )
}

fn readable(master: &OwnedFd) -> Result<bool> {
    let [ready] = wait::events([(Some(master.as_fd()), libc::POLLIN)], 0).context(|| "poll")?;
    Ok(ready & libc::POLLIN != 0)
}

fn resize(from: BorrowedFd<'_>, master: &OwnedFd) {
    if let Ok(size) = tty::size(from) {
        let _ = tty::set_size(master.as_fd(), size);
    }
}
