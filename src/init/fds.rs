//! Closing descriptors, so that the container's paths are never looked up while something of the host is open
//! (CVE-2024-21626): execve resolves the program, its `#!` interpreter and every link on the way before it closes what is
//! marked close-on-exec.

use super::{State, StepResult};
use crate::plan::step::Slot;
use crate::sys::{Answer, close};
use std::os::fd::{AsRawFd, RawFd};

/// Closes what init has inherited of the host half, but for the slots and the sync socket.
pub(super) fn close_inherited(preserve: u32, state: &State<'_>) -> StepResult {
    let mut from = 3 + preserve;
    for number in state.inherited {
        close_up_to(&mut from, *number)?;
    }
    Ok(close::close_range(from, u32::MAX)?)
}

/// Closes everything but the sync socket and the slots to keep. The other slots are emptied without a call for each: the ranges
/// close them.
pub(super) fn close_others(preserve: u32, keep: &[Slot], state: &mut State<'_>) -> StepResult {
    for (index, slot) in state.slots.iter_mut().enumerate() {
        if !keep.iter().any(|kept| usize::from(kept.0) == index) {
            std::mem::forget(slot.take());
        }
    }
    let mut from = 3 + preserve;
    while let Some(number) = lowest(state, from) {
        close_up_to(&mut from, number)?;
    }
    Ok(close::close_range(from, u32::MAX)?)
}

/// The lowest number at or above `from` that stays open.
fn lowest(state: &State<'_>, from: u32) -> Option<RawFd> {
    let slots = state.slots.iter().flatten().map(AsRawFd::as_raw_fd);
    slots.chain([state.socket.as_raw_fd()]).filter(|number| number.cast_unsigned() >= from).min()
}

/// Closes from `from` up to a number that stays open, and goes on behind it.
fn close_up_to(from: &mut u32, kept: RawFd) -> Answer<()> {
    let kept = kept.cast_unsigned();
    if kept > *from {
        close::close_range(*from, kept - 1)?;
    }
    *from = (*from).max(kept + 1);
    Ok(())
}
