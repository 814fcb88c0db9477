//! The notify socket (`sd_notify(3)`): the payload's word that it is ready, passed on to whoever started us.
//!
//! A caller that gives `NOTIFY_SOCKET` wants to hear `READY=1`. The payload cannot reach that socket from its mount
//! namespace, so it gets one of ours, seen as `/run/notify/notify.sock`. Of what it says only lines with `READY=` go
//! out, followed by `MAINPID=` with the number that the caller knows the payload by, and a barrier that shows that the
//! caller has taken both in before we leave.

use crate::error::{Context, Result};
use crate::sys::{file, socket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// The directory in the container's state directory that the container sees as `/run/notify`.
const DIRECTORY: &str = "notify";
/// The socket in it.
const NAME: &str = "notify.sock";

/// The caller's socket, if it gave one.
#[must_use]
pub fn asked() -> Option<PathBuf> {
    std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// Where the directory for the container lies.
#[must_use]
pub fn directory(state: &Path) -> PathBuf {
    state.join(DIRECTORY)
}

/// Makes the directory, and for a container that does not wait for `start` the socket in it.
///
/// # Errors
/// The kernel's answer.
pub(super) fn prepare(state: &Path, to: &Path, gate: bool) -> Result<Option<Relay>> {
    let path = directory(state);
    std::fs::create_dir(&path).context(|| format!("mkdir {}", path.display()))?;
    if gate { Ok(None) } else { Relay::bind(state, to.to_owned()).map(Some) }
}

/// Our socket, bound where the container sees it.
#[derive(Debug)]
pub struct Relay {
    socket: OwnedFd,
    to: PathBuf,
}

impl Relay {
    /// Binds the socket; every user of the container may write to it.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn bind(state: &Path, to: PathBuf) -> Result<Self> {
        let path = directory(state).join(NAME);
        // one that a killed call has left
        let _ = std::fs::remove_file(&path);
        let mask = file::umask(0);
        let socket = socket::bind_datagrams(&path);
        file::umask(mask);
        Ok(Self { socket: socket.context(|| format!("bind {}", path.display()))?, to })
    }

    /// To be polled for input.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Takes one message; answers whether it was the word, and was passed on.
    ///
    /// # Errors
    /// The caller's socket is gone.
    pub fn pass(&self, pid: i32) -> Result<bool> {
        let mut buffer = [0; 4096];
        let length = file::read(self.fd(), &mut buffer).context(|| "read the notify socket")?;
        let text = String::from_utf8_lossy(&buffer[..length]);
        let ready: Vec<&str> = text.lines().filter(|line| line.starts_with("READY=")).collect();
        if ready.is_empty() {
            return Ok(false);
        }
        let target = || format!("send to NOTIFY_SOCKET {}", self.to.display());
        let caller = socket::connect_datagrams(&self.to).context(target)?;
        let say = |text: &str| socket::send(caller.as_fd(), text.as_bytes(), None).context(target);
        say(&ready.join("\n"))?;
        say(&format!("MAINPID={pid}"))?;
        barrier(&caller).context(target)?;
        Ok(true)
    }

    /// Waits for the word, or for the end of the process.
    ///
    /// # Errors
    /// As [`Relay::pass`].
    pub fn wait(&self, pid: i32, pidfd: BorrowedFd<'_>) -> Result<()> {
        loop {
            let watched = [(Some(self.fd()), libc::POLLIN), (Some(pidfd), libc::POLLIN)];
            let [spoken, ended] = crate::sys::wait::events(watched, -1).context(|| "poll the notify socket")?;
            if spoken != 0 && self.pass(pid)? {
                return Ok(());
            }
            if ended != 0 {
                return Ok(());
            }
        }
    }
}

/// Sends one end of a pipe and waits, thirty seconds at most, until the caller has closed it
/// (`sd_notify_barrier(3)`).
fn barrier(caller: &OwnedFd) -> std::result::Result<(), crate::sys::Errno> {
    const MOST: i32 = 30_000;
    let (ours, theirs) = socket::pair()?;
    socket::send(caller.as_fd(), b"BARRIER=1", Some(theirs.as_fd()))?;
    drop(theirs);
    crate::sys::wait::events([(Some(ours.as_fd()), 0)], MOST).map(drop)
}
