//! `state ID`: the state document.

use crate::cli::Global;
use crate::error::{Error, Result};
use crate::state::Status;

/// Shows it: two blanks of indent and no newline at the end, as runc does.
pub(super) fn run(global: &Global, id: &str) -> Result<u8> {
    let container = super::open(global, id)?;
    let status = super::status(&container)?;
    // only lists say who the owner is
    let mut document = container.record.document(status, String::new());
    document.awaited = (status == Status::Creating).then(|| container.dir.awaited()).flatten();
    let text = serde_json::to_string_pretty(&document).map_err(|error| Error::msg(error.to_string()))?;
    super::print(&text)?;
    Ok(0)
}
