//! A seccomp agent: receives the listener of a process from the runtime, reads notifications, and answers them
//! (`seccomp_unotify(2)`).
#![allow(unsafe_code, reason = "ioctl(2) has no safe form")]

use super::Value;
use super::tty::Receiver;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

const RECV: libc::Ioctl = 0xC050_2100_u32 as libc::Ioctl;
const SEND: libc::Ioctl = 0xC018_2101_u32 as libc::Ioctl;
const CONTINUE: u32 = 1;

/// `struct seccomp_notif`.
#[repr(C)]
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Notice {
    id: u64,
    /// The process's pid in our pid namespace.
    pub(crate) pid: u32,
    flags: u32,
    /// The system call.
    pub(crate) number: i32,
    architecture: u32,
    instruction: u64,
    arguments: [u64; 6],
}

/// `struct seccomp_notif_resp`.
#[repr(C)]
struct Answer {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}

/// The socket at `linux.seccomp.listenerPath`.
#[derive(Debug)]
pub(crate) struct Agent(Receiver);

/// The listener of one filter, and the message that the runtime sent with it.
#[derive(Debug)]
pub(crate) struct Listener {
    fd: OwnedFd,
    /// The `ContainerProcessState`.
    pub(crate) state: Value,
}

impl Agent {
    /// Listens on a socket at `path`.
    pub(crate) fn new(path: &Path) -> Self {
        Self(Receiver::new(path))
    }

    /// Receives the next listener.
    #[track_caller]
    pub(crate) fn take(&self) -> Listener {
        let (fd, text) = self.0.take();
        Listener { fd, state: serde_json::from_str(&text).unwrap_or_else(|e| panic!("no JSON: {e}: {text}")) }
    }
}

impl Listener {
    /// Waits for a notification.
    #[track_caller]
    pub(crate) fn next(&self) -> Notice {
        let mut notice = Notice::default();
        // SAFETY: the request fills a live structure of its size, which must be all zero.
        let answer = unsafe { libc::ioctl(self.fd.as_raw_fd(), RECV, &raw mut notice) };
        assert_eq!(answer, 0, "SECCOMP_IOCTL_NOTIF_RECV: {}", std::io::Error::last_os_error());
        notice
    }

    /// Lets the system call proceed.
    pub(crate) fn allow(&self, notice: Notice) {
        self.answer(notice, 0, CONTINUE);
    }

    /// Makes the system call fail with `errno`.
    pub(crate) fn deny(&self, notice: Notice, errno: i32) {
        self.answer(notice, -errno, 0);
    }

    fn answer(&self, mut notice: Notice, error: i32, flags: u32) {
        loop {
            let answer = Answer { id: notice.id, value: 0, error, flags };
            // SAFETY: the request reads a live structure of its size.
            if unsafe { libc::ioctl(self.fd.as_raw_fd(), SEND, &raw const answer) } == 0 {
                return;
            }
            // ENOENT: a signal interrupted the call (Go's runtime sends itself some), and the process repeats it
            let why = std::io::Error::last_os_error();
            assert_eq!(why.raw_os_error(), Some(libc::ENOENT), "SECCOMP_IOCTL_NOTIF_SEND: {why}");
            notice = self.next();
        }
    }
}
