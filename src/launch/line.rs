//! How the host half lets init go on.

use crate::error::{Context, Result};
use crate::plan::step::Sync;
use crate::sys::Errno;
use crate::sys::task::Word;
use crate::wire::{self, Message};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Our end of the wire, and what spares the last message where memory is shared.
#[derive(Debug)]
pub(super) struct Line {
    host: OwnedFd,
    ready: Option<&'static Word>,
}

impl Line {
    pub(super) fn new(host: OwnedFd, ready: Option<&'static Word>) -> Self {
        Self { host, ready }
    }

    pub(super) fn go(&self, sync: Sync) -> Result<()> {
        if sync == Sync::Ready && self.ready.is_some_and(|ready| !ready.say()) {
            return Ok(());
        }
        // a child that is gone is noticed by whoever listens next, with its reason
        match wire::tell(self.as_fd(), Message::Go(sync)) {
            Ok(()) | Err(Errno::EPIPE | Errno::ECONNRESET) => Ok(()),
            Err(errno) => Err(errno).context(|| "talk to init"),
        }
    }
}

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.host.as_fd()
    }
}
