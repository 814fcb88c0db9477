//! The sync socket between the host half and init: messages of twelve bytes over a `SOCK_SEQPACKET` pair.
//!
//! ```text
//!   byte 0     1       2..4        4..8     8..12
//!   kind       what    step        errno    detail
//!   Reached    sync    –           –        –          init: has reached this point
//!   Go         sync    –           –        –          host: go on from this point
//!   Failed     cause   index       errno    status…    init: a step failed; init exits
//!   Fd         slot    –           –        –          init: a descriptor comes with this message
//!
//! The thread that creates the network namespace sends it to init: Fd, or Failed if there is none.
//! ```
//!
//! Init sends plain messages with `write` and waits with `read`, which no sensible seccomp profile forbids. The end of the
//! stream means that init has exited or has become the payload.

use crate::plan::step::{Slot, Sync};
use crate::sys::{Answer, Errno, file, socket};
use std::os::fd::{BorrowedFd, OwnedFd};

/// Exit status of an init whose program execve refuses, as in runc. Init has written the reason to the payload's standard error.
pub const REFUSED: i32 = 255;

/// Why a step failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The kernel refused a call.
    Kernel,
    /// No candidate for the program could be executed.
    NoProgram,
    /// A hook exited with a status other than 0.
    HookExited,
    /// A signal killed a hook.
    HookKilled,
    /// A hook ran into its timeout.
    HookTimeout,
    /// A hook's program could not be executed.
    HookRefused,
    /// Init could not wait for `start`.
    Gate,
    /// The working directory lies outside the root.
    CwdOutside,
    /// The mount point is not an ordinary directory.
    NotOrdinary,
    /// What is mounted where procfs must be is not procfs.
    NotProcfs,
    /// Another file exists where a device is to be made.
    OtherNode,
    /// The runtime's own `/dev/null` is not the null device.
    NotNull,
    /// A mount point is inside a procfs.
    InProc,
    /// What is mounted on `/dev/pts` is not devpts.
    NotDevpts,
    /// What is mounted on `/dev` is not the container's own.
    ForeignDev,
    /// The network namespace could not be created.
    NoNetwork,
    /// The loopback device of the network namespace could not be brought up.
    NoLoopback,
}

const CAUSES: [Cause; 17] = [
    Cause::Kernel,
    Cause::NoProgram,
    Cause::HookExited,
    Cause::HookKilled,
    Cause::HookTimeout,
    Cause::HookRefused,
    Cause::Gate,
    Cause::CwdOutside,
    Cause::NotOrdinary,
    Cause::NotProcfs,
    Cause::OtherNode,
    Cause::NotNull,
    Cause::InProc,
    Cause::ForeignDev,
    Cause::NotDevpts,
    Cause::NoNetwork,
    Cause::NoLoopback,
];

const SYNCS: [Sync; 6] = [Sync::Mapped, Sync::RootMounted, Sync::Limited, Sync::Delegated, Sync::IdMapped, Sync::Ready];

/// How a step failed; the host half makes the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    /// Index of the step.
    pub step: u16,
    /// Why it failed.
    pub cause: Cause,
    /// The errno, if a system call failed.
    pub errno: i32,
    /// A hook's exit status or signal.
    pub detail: i32,
}

/// A message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    /// Init has reached this point.
    Reached(Sync),
    /// The host half lets init go on from this point.
    Go(Sync),
    /// A step failed.
    Failed(Failure),
    /// A descriptor comes with this message.
    Fd(Slot),
    /// The loopback device stays down, for want of rights; the errno.
    LoopbackDown(i32),
}

/// Bytes of a message.
pub const SIZE: usize = 12;

impl Message {
    /// Encodes the message.
    #[must_use]
    pub fn encode(self) -> [u8; SIZE] {
        let mut bytes = [0; SIZE];
        let place = |sync: Sync| SYNCS.iter().position(|known| *known == sync).unwrap_or_default();
        let small = |value: usize| u8::try_from(value).unwrap_or(u8::MAX);
        match self {
            Self::Reached(sync) => bytes[..2].copy_from_slice(&[1, small(place(sync))]),
            Self::Go(sync) => bytes[..2].copy_from_slice(&[2, small(place(sync))]),
            Self::Failed(failure) => {
                let cause = CAUSES.iter().position(|known| *known == failure.cause).unwrap_or_default();
                bytes[..2].copy_from_slice(&[3, small(cause)]);
                bytes[2..4].copy_from_slice(&failure.step.to_ne_bytes());
                bytes[4..8].copy_from_slice(&failure.errno.to_ne_bytes());
                bytes[8..].copy_from_slice(&failure.detail.to_ne_bytes());
            }
            Self::Fd(slot) => bytes[..2].copy_from_slice(&[4, small(slot.0.into())]),
            Self::LoopbackDown(errno) => {
                bytes[0] = 5;
                bytes[4..8].copy_from_slice(&errno.to_ne_bytes());
            }
        }
        bytes
    }

    /// Decodes a message.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; SIZE] = bytes.try_into().ok()?;
        let what = usize::from(bytes[1]);
        let word = |at: usize| i32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        match bytes[0] {
            1 => SYNCS.get(what).copied().map(Self::Reached),
            2 => SYNCS.get(what).copied().map(Self::Go),
            3 => CAUSES.get(what).map(|cause| {
                let step = u16::from_ne_bytes([bytes[2], bytes[3]]);
                Self::Failed(Failure { step, cause: *cause, errno: word(4), detail: word(8) })
            }),
            4 => Some(Self::Fd(Slot(u16::from(bytes[1])))),
            5 => Some(Self::LoopbackDown(word(4))),
            _ => None,
        }
    }
}

/// Sends a message from init. If the host half is gone, SIGPIPE ends init.
///
/// # Errors
/// `EPIPE`: the other half is gone.
pub fn send_from_init(to: BorrowedFd<'_>, message: Message) -> Answer<()> {
    file::write(to, &message.encode())
}

/// Sends a message from the host half: if init is gone, no SIGPIPE is raised.
///
/// # Errors
/// `EPIPE`: the other half is gone.
pub fn send_to_init(to: BorrowedFd<'_>, message: Message) -> Answer<()> {
    socket::send(to, &message.encode(), None)
}

/// Sends a descriptor.
///
/// # Errors
/// As [`send_from_init`].
pub fn send_fd(to: BorrowedFd<'_>, slot: Slot, fd: BorrowedFd<'_>) -> Answer<()> {
    socket::send(to, &Message::Fd(slot).encode(), Some(fd))
}

/// Receives a message and the descriptor that may come with it; `None` if the other half is gone.
///
/// # Errors
/// The kernel's answer.
pub fn receive(from: BorrowedFd<'_>) -> Answer<Option<(Message, Option<OwnedFd>)>> {
    let mut bytes = [0; SIZE];
    loop {
        match socket::receive(from, &mut bytes) {
            Ok((length, fd)) => return Ok(Message::decode(&bytes[..length]).map(|message| (message, fd))),
            // reported once, before what is still queued: the other half has closed its end without reading what we sent
            Err(Errno::ECONNRESET) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Waits in init for the host half to send `Go(sync)`. Anything else is an error.
///
/// # Errors
/// `EPIPE`: the host is gone.
pub fn wait_for_go(from: BorrowedFd<'_>, sync: Sync) -> Answer<()> {
    let mut bytes = [0; SIZE];
    let length = file::read(from, &mut bytes)?;
    if Message::decode(&bytes[..length]) == Some(Message::Go(sync)) { Ok(()) } else { Err(Errno::EPIPE) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back_as_they_went() {
        let failure = Failure { step: 300, cause: Cause::HookExited, errno: -7, detail: 42 };
        for message in [
            Message::Reached(Sync::RootMounted),
            Message::Go(Sync::Ready),
            Message::Failed(failure),
            Message::Failed(Failure { cause: Cause::NotNull, ..failure }),
            Message::Fd(Slot::PTY),
            Message::LoopbackDown(libc::EPERM),
        ] {
            assert_eq!(Message::decode(&message.encode()), Some(message));
        }
        assert_eq!(Message::decode(b""), None);
        assert_eq!(Message::decode(&[9; SIZE]), None);
    }
}
