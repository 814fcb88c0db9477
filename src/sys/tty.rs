//! Terminals: pseudo-terminals of a `devpts`, sizes, modes (`pts(4)`, `ioctl_tty(2)`).

#![allow(clippy::undocumented_unsafe_blocks, reason = "see # Safety of `sys`")]

use super::{Answer, check, owned};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// `TIOCSPTLCK` with 0: the other side may be opened.
///
/// # Errors
/// The kernel's answer.
pub fn unlock(master: BorrowedFd<'_>) -> Answer<()> {
    let unlocked: libc::c_int = 0;
    check(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlocked) }).map(drop)
}

/// `TIOCGPTPEER` (Linux 4.13): opens the other side without a path that could be exchanged.
///
/// # Errors
/// The kernel's answer.
pub fn peer(master: BorrowedFd<'_>) -> Answer<OwnedFd> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    check(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags) }).map(owned)
}

/// `TIOCGPTN`: the number of the pseudo-terminal, which is its name in `/dev/pts`.
///
/// # Errors
/// The kernel's answer.
pub fn index(master: BorrowedFd<'_>) -> Answer<u32> {
    let mut number: libc::c_uint = 0;
    check(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTN, &raw mut number) })?;
    Ok(number)
}

/// Rows and columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Lines.
    pub rows: u16,
    /// Characters a line.
    pub columns: u16,
}

/// `TIOCSWINSZ`.
///
/// # Errors
/// The kernel's answer.
pub fn set_size(tty: BorrowedFd<'_>, size: Size) -> Answer<()> {
    let size = libc::winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    check(unsafe { libc::ioctl(tty.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) }).map(drop)
}

/// `TIOCGWINSZ`.
///
/// # Errors
/// `ENOTTY`: not a terminal.
pub fn size(tty: BorrowedFd<'_>) -> Answer<Size> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    check(unsafe { libc::ioctl(tty.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) })?;
    Ok(Size { rows: size.ws_row, columns: size.ws_col })
}

/// `TIOCSCTTY`: makes it the controlling terminal of the session that we lead.
///
/// # Errors
/// The kernel's answer.
pub fn control(tty: BorrowedFd<'_>) -> Answer<()> {
    check(unsafe { libc::ioctl(tty.as_raw_fd(), libc::TIOCSCTTY, 0) }).map(drop)
}

/// A terminal's modes, to be put back.
#[derive(Clone, Copy)]
pub struct Modes(libc::termios);

impl std::fmt::Debug for Modes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Modes")
    }
}

/// `tcgetattr(3)`.
///
/// # Errors
/// `ENOTTY`: not a terminal.
pub fn modes(tty: BorrowedFd<'_>) -> Answer<Modes> {
    let mut modes = std::mem::MaybeUninit::<libc::termios>::uninit();
    unsafe {
        check(libc::tcgetattr(tty.as_raw_fd(), modes.as_mut_ptr()))?;
        Ok(Modes(modes.assume_init()))
    }
}

/// `tcsetattr(3)`, at once.
///
/// # Errors
/// The kernel's answer.
pub fn set_modes(tty: BorrowedFd<'_>, modes: &Modes) -> Answer<()> {
    // SAFETY: modes is a filled termios.
    check(unsafe { libc::tcsetattr(tty.as_raw_fd(), libc::TCSANOW, &raw const modes.0) }).map(drop)
}

impl Modes {
    /// `cfmakeraw(3)`: every byte that is typed passes as it is; lines on the screen still begin at its edge.
    #[must_use]
    pub fn raw(mut self) -> Self {
        // SAFETY: the termios is a filled one.
        unsafe { libc::cfmakeraw(&raw mut self.0) };
        self.0.c_oflag |= libc::OPOST;
        self
    }

    /// The character that means the end of input (`VEOF`).
    #[must_use]
    pub fn end_of_input(&self) -> u8 {
        self.0.c_cc[libc::VEOF]
    }

    /// Without `ONLCR`: what the payload writes reaches our caller unchanged.
    #[must_use]
    pub fn without_onlcr(mut self) -> Self {
        self.0.c_oflag &= !libc::ONLCR;
        self
    }
}
