//! When our own binary is protected (`sys::exe`): before or beside the birth of a child.

use crate::error::{Context, Result};
use crate::log::Log;
use crate::sys::exe::{Rest, View};

/// What protecting our own binary is called in errors.
pub const SEAL: &str = "protect our own binary from the container";

/// How far the protection of our binary has come. It is done before a child that is a copy of us is born: it must be born
/// sealed. And beside a child that shares our memory, which is sealed with us; its payload waits for us.
#[derive(Debug)]
pub(super) enum Sealing {
    /// We can be moved.
    View(View),
    /// We are; what is left is to be dropped when there is time to wait.
    Done { _rest: Option<Rest> },
}

impl Sealing {
    /// Does what is left to do; does nothing the second time.
    pub(super) fn finish(self, log: &Log) -> Result<Self> {
        let _span = log.span("seal our binary");
        match self {
            Self::View(view) => view.finish().map(|rest| Self::Done { _rest: rest }).context(|| SEAL),
            Self::Done { .. } => Ok(self),
        }
    }
}
