//! `plan`: shows what would be done for a bundle, step by step, in the words that errors use.

use super::prepare::{Purpose, find};
use crate::cli::Global;
use crate::error::{Context, Result};
use crate::launch::{self, notify};
use crate::log::Log;
use crate::plan::request::{Mode, StartOptions};
use crate::plan::show;
use crate::state::Root;
use std::io::Write;
use std::path::Path;

/// Prints the plan of a bundle.
///
/// # Errors
/// The bundle asks for something impossible.
pub(super) fn run(global: &Global, directory: &Path, id: &str, log: &Log) -> Result<u8> {
    let bundle = find(Some(directory), None, log)?.validate(Purpose::Look, log)?;
    let root = Root::find(global.root.as_deref())?;
    // without a process a container can be created, but not run
    let mode = if bundle.config.spec.process().is_some() { Mode::Run } else { Mode::Create };
    let options = StartOptions { mode, notify_socket: notify::from_environment(), ..StartOptions::default() };
    let (plan, cgroups) = launch::plan(&bundle.input(id, global, &root, &options))?;
    std::io::stdout().write_all(show::text(&plan, &cgroups).as_bytes()).context(|| "write the plan")?;
    Ok(0)
}
