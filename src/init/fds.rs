//! Closes descriptors, so that nothing of the host is open when paths of the container are resolved (CVE-2024-21626).
//! Close-on-exec is too late: execve resolves the program, its `#!` interpreter and every link first.

use super::{State, StepResult};
use crate::plan::step::Slot;
use crate::sys::{Answer, close};
use std::os::fd::{AsRawFd, RawFd};

/// Closes what init has inherited from the host half, except the slots and the sync socket.
pub(super) fn close_inherited(preserve: u32, state: &State<'_>) -> StepResult {
    let mut from = 3 + preserve;
    for number in state.inherited {
        close_up_to(&mut from, *number)?;
    }
    Ok(close::close_range(from, u32::MAX)?)
}

/// Closes everything except the sync socket and the slots in `keep`. Other slots become empty; their descriptors are closed
/// with the ranges, not one by one.
pub(super) fn close_others(preserve: u32, keep: &[Slot], state: &mut State<'_>) -> StepResult {
    for (index, slot) in state.slots.iter_mut().enumerate() {
        if !keep.iter().any(|kept| kept.index() == index) {
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

/// Closes the numbers from `from` up to `kept`, which stays open, and moves `from` past it.
fn close_up_to(from: &mut u32, kept: RawFd) -> Answer<()> {
    let kept = kept.cast_unsigned();
    if kept > *from {
        close::close_range(*from, kept - 1)?;
    }
    *from = (*from).max(kept + 1);
    Ok(())
}
