//! The socket between the halves: messages of twelve bytes over a `SOCK_SEQPACKET` pair.
//!
//! ```text
//!   byte 0     1       2..4        4..8     8..12
//!   kind       what    step        errno    detail
//!   Reached    sync    –           –        –          init: this moment has come
//!   Go         sync    –           –        –          host: go on
//!   Failed     cause   index       errno    status…    init: a step failed; init leaves
//!   Handed     slot    –           –        –          init: the descriptor beside this message (and the host: a
//!                                                      network namespace; Failed: there is none)
//! ```
//!
//! Plain messages travel by `read` and `write`, which no sensible seccomp profile takes away from init. The end of the
//! stream means that init is gone or has become the payload.

use crate::plan::step::{Slot, Sync};
use crate::sys::{Answer, Errno, file, socket};
use std::os::fd::{BorrowedFd, OwnedFd};

/// Why a step failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The kernel refused a call.
    Kernel,
    /// No candidate for the program could be executed.
    NoProgram,
    /// A hook left with a status.
    HookExited,
    /// A signal killed a hook.
    HookKilled,
    /// A hook took longer than it may.
    HookTimeout,
    /// The working directory lies outside the root.
    CwdOutside,
    /// What a mount would cover is not a plain directory.
    NotOrdinary,
    /// Something that is no procfs lies where procfs must be.
    NotProcfs,
    /// A node with another number is there already.
    OtherNode,
    /// The runtime's own `/dev/null` is not the null device.
    NotNull,
    /// A mount would go into a procfs.
    InProc,
    /// What lies on `/dev/pts` is no devpts.
    NotDevpts,
    /// Something is mounted on `/dev` that is not the container's own.
    ForeignDev,
    /// There is no network namespace to join.
    NoNetwork,
    /// Its loopback device stays down.
    NoLoopback,
}

const CAUSES: [Cause; 15] = [
    Cause::Kernel,
    Cause::NoProgram,
    Cause::HookExited,
    Cause::HookKilled,
    Cause::HookTimeout,
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

const SYNCS: [Sync; 5] = [Sync::Mapped, Sync::Rooted, Sync::Limited, Sync::IdMapped, Sync::Ready];

/// What init has to say when a step failed; the host makes the sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    /// Index of the step.
    pub step: u16,
    /// Why.
    pub cause: Cause,
    /// The kernel's answer, where it was asked.
    pub errno: i32,
    /// A hook's exit status or signal.
    pub detail: i32,
}

/// A message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    /// Init has come to a moment.
    Reached(Sync),
    /// The host lets init go on.
    Go(Sync),
    /// A step failed.
    Failed(Failure),
    /// A descriptor comes with this message.
    Handed(Slot),
}

/// Bytes of a message.
pub const SIZE: usize = 12;

impl Message {
    /// The message as bytes.
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
            Self::Handed(slot) => bytes[..2].copy_from_slice(&[4, small(slot.0.into())]),
        }
        bytes
    }

    /// The message in bytes that came.
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
            4 => Some(Self::Handed(Slot(u16::from(bytes[1])))),
            _ => None,
        }
    }
}

/// Sends a message, in init: a host that is gone ends it.
///
/// # Errors
/// `EPIPE`: the other half is gone.
pub fn say(wire: BorrowedFd<'_>, message: Message) -> Answer<()> {
    file::write(wire, &message.encode())
}

/// Sends a message, in the host half: an init that is gone raises no signal.
///
/// # Errors
/// `EPIPE`: the other half is gone.
pub fn tell(wire: BorrowedFd<'_>, message: Message) -> Answer<()> {
    socket::send(wire, &message.encode(), None)
}

/// Sends a descriptor.
///
/// # Errors
/// As [`say`].
pub fn hand(wire: BorrowedFd<'_>, slot: Slot, fd: BorrowedFd<'_>) -> Answer<()> {
    socket::send(wire, &Message::Handed(slot).encode(), Some(fd))
}

/// Waits for a message and the descriptor that may come with it; none if the other half is gone.
///
/// # Errors
/// The kernel's answer.
pub fn hear(wire: BorrowedFd<'_>) -> Answer<Option<(Message, Option<OwnedFd>)>> {
    let mut bytes = [0; SIZE];
    loop {
        match socket::receive(wire, &mut bytes) {
            Ok((length, fd)) => return Ok(Message::decode(&bytes[..length]).map(|message| (message, fd))),
            // said once, before what is still queued: the other half left without reading what we sent it
            Err(Errno::ECONNRESET) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Waits for the host's word; anything else than that word ends init.
///
/// # Errors
/// `EPIPE`: the host is gone.
pub fn wait(wire: BorrowedFd<'_>, sync: Sync) -> Answer<()> {
    let mut bytes = [0; SIZE];
    let length = file::read(wire, &mut bytes)?;
    if Message::decode(&bytes[..length]) == Some(Message::Go(sync)) { Ok(()) } else { Err(Errno::EPIPE) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back_as_they_went() {
        let failure = Failure { step: 300, cause: Cause::HookExited, errno: -7, detail: 42 };
        for message in [
            Message::Reached(Sync::Rooted),
            Message::Go(Sync::Ready),
            Message::Failed(failure),
            Message::Failed(Failure { cause: Cause::NotNull, ..failure }),
            Message::Handed(Slot::PTY),
        ] {
            assert_eq!(Message::decode(&message.encode()), Some(message));
        }
        assert_eq!(Message::decode(b""), None);
        assert_eq!(Message::decode(&[9; SIZE]), None);
    }
}
