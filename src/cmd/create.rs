//! `create`: everything but the start of the container's program.

use super::prepare::{self, Purpose};
use crate::cli::{self, Global};
use crate::error::Result;
use crate::launch;
use crate::log::Log;

/// Creates a container.
///
/// # Errors
/// See `launch::launch`.
pub(super) fn run(global: &Global, create: &cli::Create, log: &Log) -> Result<u8> {
    let (prepared, protection) = prepare::container(global, create, Purpose::Create, log)?;
    launch::launch(&prepared.job(&create.id, global), protection, log)?;
    Ok(0)
}
