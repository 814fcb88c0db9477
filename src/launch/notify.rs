//! The notify socket (`sd_notify(3)`): relays the payload's `READY=1` to our caller.
//!
//! The payload cannot reach the caller's `NOTIFY_SOCKET` from its mount namespace, so it gets a socket of ours, as
//! `/run/notify/notify.sock`. Only lines with `READY=` are relayed, followed by `MAINPID=` with the payload's pid on the
//! host, and a barrier, which shows that the caller has read both before we exit.

use super::patience::{self, Told};
use crate::error::{Context, Result};
use crate::plan::request::StartOptions;
use crate::state::Awaited;
use crate::sys::{file, socket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// The directory in the container's state directory that the container sees as `/run/notify`.
const DIRECTORY: &str = "notify";
/// The socket in it.
const NAME: &str = "notify.sock";

/// The caller's `NOTIFY_SOCKET`, if it has one.
#[must_use]
pub fn from_environment() -> Option<PathBuf> {
    std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// The directory for the socket, in a container's state directory.
#[must_use]
pub fn directory(state: &Path) -> PathBuf {
    state.join(DIRECTORY)
}

/// For a caller that gave a socket: makes the directory, and the socket in it if the container does not wait for `start`.
///
/// # Errors
/// The kernel's answer.
pub(super) fn prepare(state: &Path, options: &StartOptions) -> Result<Option<Relay>> {
    let Some(to) = &options.notify_socket else { return Ok(None) };
    let path = directory(state);
    std::fs::create_dir(&path).context(|| format!("mkdir {}", path.display()))?;
    if options.waits() { Ok(None) } else { Relay::bind(state, to.to_owned()).map(Some) }
}

/// Our socket, which the container sees.
#[derive(Debug)]
pub struct Relay {
    socket: OwnedFd,
    to: PathBuf,
}

impl Relay {
    /// Binds the socket. Every user of the container may write to it.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn bind(state: &Path, to: PathBuf) -> Result<Self> {
        let path = directory(state).join(NAME);
        // a killed call may have left one behind
        let _ = std::fs::remove_file(&path);
        let mask = file::umask(0);
        let socket = socket::bind_datagrams(&path);
        file::umask(mask);
        Ok(Self { socket: socket.context(|| format!("bind {}", path.display()))?, to })
    }

    /// The socket, to be polled for input.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Reads one message. Returns whether it was `READY=`, which is then relayed.
    ///
    /// # Errors
    /// The caller's socket does not take it.
    pub fn relay_one(&self, pid: i32) -> Result<bool> {
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

    /// Relays until the payload is ready, or has ended. `told` is none for a wait beside other things.
    ///
    /// # Errors
    /// As [`Relay::relay_one`].
    pub fn wait(&self, pid: i32, pidfd: BorrowedFd<'_>, told: Option<Told<'_>>) -> Result<()> {
        let awaited = || Awaited {
            phase: "notify".to_owned(),
            step: "READY=1 from the payload (NOTIFY_SOCKET is set)".to_owned(),
        };
        loop {
            let watched = [(Some(self.fd()), libc::POLLIN), (Some(pidfd), libc::POLLIN)];
            let [spoken, ended] = match told {
                Some(told) => patience::until(watched, None, told, &|| (awaited(), pid))?,
                None => crate::sys::wait::events(watched, -1).context(|| "poll the notify socket")?,
            };
            if spoken != 0 && self.relay_one(pid)? {
                return Ok(());
            }
            if ended != 0 {
                return Ok(());
            }
        }
    }
}

/// `sd_notify_barrier(3)`: sends one end of a pair and waits, at most thirty seconds, until the caller has closed it.
fn barrier(caller: &OwnedFd) -> std::result::Result<(), crate::sys::Errno> {
    const MOST: i32 = 30_000;
    let (ours, theirs) = socket::pair()?;
    socket::send(caller.as_fd(), b"BARRIER=1", Some(theirs.as_fd()))?;
    drop(theirs);
    crate::sys::wait::events([(Some(ours.as_fd()), 0)], MOST).map(drop)
}
