//! `state ID`: the state document.

use crate::cli::Global;
use crate::error::{Error, Result};

/// Shows it: two blanks of indent and no newline at the end, as runc does.
pub(super) fn run(global: &Global, id: &str) -> Result<u8> {
    let container = super::open(global, id)?;
    let status = super::status(&container)?;
    // only `list` prints the owner
    let document = container.record.document(status, String::new());
    let text = serde_json::to_string_pretty(&document).map_err(|error| Error::msg(error.to_string()))?;
    super::print(&text)?;
    Ok(0)
}
