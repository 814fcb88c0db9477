//! `plan`: shows what would be done for a bundle, step by step, in the words that errors use.

use super::create::{Purpose, bundle, job};
use crate::cli::{self, Global};
use crate::error::{Context, Result};
use crate::launch;
use crate::log::Log;
use crate::plan::show;
use crate::state::Root;
use std::io::Write;
use std::path::Path;

/// Prints the plan of a bundle.
///
/// # Errors
/// The bundle asks for what can't be.
pub(super) fn run(global: &Global, directory: &Path, id: &str, log: &Log) -> Result<u8> {
    let bundle = bundle(Some(directory), None, Purpose::Look, log)?;
    let root = Root::find(global.root.as_deref())?;
    let create = cli::Create { id: id.to_owned(), ..cli::Create::default() };
    // what has no process can be created, and not be run
    let gate = bundle.loaded.spec.process().is_none();
    let job = job(global, &create, &root, &bundle, gate, 0);
    let (plan, cgroups) = launch::plan(&job)?;
    std::io::stdout().write_all(show::text(&plan, &cgroups).as_bytes()).context(|| "write the plan")?;
    Ok(0)
}
