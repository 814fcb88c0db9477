//! `pause ID` and `resume ID`: the freezer of the container's cgroup.

use crate::cli::Global;
use crate::error::{Error, Result};
use crate::state::Status;

/// Freezes all processes.
pub(super) fn pause(global: &Global, id: &str) -> Result<u8> {
    let container = super::open(global, id)?;
    match super::status(&container)? {
        Status::Created | Status::Running => container.record.cgroup.freeze().map(|()| 0),
        Status::Creating | Status::Paused | Status::Stopped => Err(super::not_running()),
    }
}

/// Thaws them.
pub(super) fn resume(global: &Global, id: &str) -> Result<u8> {
    let container = super::open(global, id)?;
    match super::status(&container)? {
        Status::Paused => container.record.cgroup.thaw().map(|()| 0),
        Status::Creating | Status::Created | Status::Running | Status::Stopped => {
            Err(Error::msg("container not paused"))
        }
    }
}
