//! Pseudoterminals, and sockets that carry descriptors, as conmon and containerd's shim use them.
#![allow(unsafe_code, reason = "ioctl(2) has no safe form")]

use super::until;
use nix::fcntl::OFlag;
use nix::pty::{PtyMaster, grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use std::fs::File;
use std::io::{IoSliceMut, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// A listening socket that receives one descriptor per connection.
#[derive(Debug)]
pub(crate) struct Receiver {
    listener: UnixListener,
    /// The socket's path.
    pub(crate) path: PathBuf,
}

impl Receiver {
    /// Listens on `path`, which must fit into the 107 bytes of a socket address.
    #[track_caller]
    pub(crate) fn new(path: &Path) -> Self {
        Self { listener: UnixListener::bind(path).unwrap(), path: path.to_path_buf() }
    }

    /// Receives a descriptor and the text sent with it.
    #[track_caller]
    pub(crate) fn take(&self) -> (OwnedFd, String) {
        self.listener.set_nonblocking(true).unwrap();
        let mut stream = until("a connection", || self.listener.accept().ok()).0;
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(super::patience())).unwrap();
        let received = receive(stream.as_raw_fd());
        // one message per connection, which is then closed
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        received
    }
}

/// Gives a program descriptors at chosen numbers. Done in the child, because other tests start programs in parallel.
pub(crate) fn inherit(command: &mut std::process::Command, fds: Vec<(RawFd, OwnedFd)>) {
    use std::os::unix::process::CommandExt;
    let place = move || {
        for (number, fd) in &fds {
            // SAFETY: dup2(2) takes numbers only, and is async-signal-safe.
            if unsafe { libc::dup2(fd.as_raw_fd(), *number) } == -1 {
                return Err(std::io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes async-signal-safe calls only and allocates nothing.
    unsafe { command.pre_exec(place) };
}

/// A duplicate of a descriptor with a number of at least 100.
#[track_caller]
pub(crate) fn high(fd: &impl AsRawFd) -> OwnedFd {
    // SAFETY: the kernel makes a new descriptor at 100 or above, and this is its one owner.
    unsafe {
        let number = libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 100);
        assert!(number >= 100, "F_DUPFD_CLOEXEC");
        OwnedFd::from_raw_fd(number)
    }
}

/// Receives one message with one descriptor.
#[track_caller]
pub(crate) fn receive(socket: RawFd) -> (OwnedFd, String) {
    let mut text = [0u8; 4096];
    let mut space = nix::cmsg_space!([RawFd; 4]);
    let mut io = [IoSliceMut::new(&mut text)];
    let message = recvmsg::<()>(socket, &mut io, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC).unwrap();
    let mut fds = Vec::new();
    for part in message.cmsgs().unwrap() {
        if let ControlMessageOwned::ScmRights(received) = part {
            fds.extend(received);
        }
    }
    let length = message.bytes;
    assert_eq!(fds.len(), 1, "exactly one descriptor in the message");
    // SAFETY: the kernel has just made this descriptor for us; nobody else has its number.
    let fd = unsafe { OwnedFd::from_raw_fd(fds[0]) };
    (fd, String::from_utf8_lossy(&text[..length]).into_owned())
}

/// The master of a pseudoterminal, and everything read from it so far.
#[derive(Debug)]
pub(crate) struct Terminal {
    master: File,
    seen: String,
}

impl Terminal {
    /// Opens a new pseudoterminal; also returns the slave.
    #[track_caller]
    pub(crate) fn open() -> (Self, OwnedFd) {
        let master: PtyMaster = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname_r(&master).unwrap();
        let slave = File::options().read(true).write(true).open(name).unwrap();
        // SAFETY: `into_raw_fd` gives the descriptor away, and this is its one new owner.
        let master = unsafe { OwnedFd::from_raw_fd(std::os::fd::IntoRawFd::into_raw_fd(master)) };
        (Self::of(master), slave.into())
    }

    /// Wraps a master that was received.
    pub(crate) fn of(master: OwnedFd) -> Self {
        Self { master: master.into(), seen: String::new() }
    }

    /// Reads until `text` has arrived; returns everything read so far.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, text: &str) -> &str {
        let what = format!("{text:?} on the terminal");
        until(&what, || {
            if self.seen.contains(text) || !self.read() {
                assert!(self.seen.contains(text), "the terminal closed without {text:?}: {:?}", self.seen);
                return Some(());
            }
            None
        });
        &self.seen
    }

    /// Reads until the slave is closed; returns everything read.
    #[track_caller]
    pub(crate) fn rest(&mut self) -> String {
        until("the terminal to close", || (!self.read()).then_some(()));
        self.seen.clone()
    }

    /// Reads what is available; false once the slave is closed.
    fn read(&mut self) -> bool {
        let mut poll = [nix::poll::PollFd::new(std::os::fd::AsFd::as_fd(&self.master), nix::poll::PollFlags::POLLIN)];
        if nix::poll::poll(&mut poll, 20u8).unwrap_or(0) == 0 {
            return true;
        }
        let mut bytes = [0u8; 4096];
        match self.master.read(&mut bytes) {
            Ok(0) | Err(_) => false,
            Ok(n) => {
                self.seen.push_str(&String::from_utf8_lossy(&bytes[..n]));
                true
            }
        }
    }

    /// Types `text`.
    #[track_caller]
    pub(crate) fn type_in(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).unwrap();
    }

    /// Sets the window's size.
    #[track_caller]
    pub(crate) fn resize(&self, rows: u16, columns: u16) {
        let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: `size` is a live winsize, and the request reads one.
        assert_eq!(unsafe { libc::ioctl(self.master.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) }, 0);
    }

    /// The window's size.
    #[track_caller]
    pub(crate) fn size(&self) -> (u16, u16) {
        let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: `size` is a live winsize, and the request fills one.
        assert_eq!(unsafe { libc::ioctl(self.master.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) }, 0);
        (size.ws_row, size.ws_col)
    }
}
