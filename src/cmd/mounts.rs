//! `mounts add ID FILE`, `mounts remove ID FILE`: mounts of a container that runs. All of them or none.

use super::prepare::protect;
use crate::cli::{Change, Global};
use crate::error::{Context, Error, Result};
use crate::facts::Facts;
use crate::launch::{self, mounts};
use crate::log::Log;
use crate::plan::added;
use crate::spec;
use crate::sys::{cred, paths};
use std::path::Path;

/// Adds or removes them.
///
/// # Errors
/// The container has no process or does not exist; a mount that is refused. Then no mount has changed.
pub(super) fn run(global: &Global, change: Change, id: &str, file: &Path, log: &Log) -> Result<u8> {
    const USUAL: usize = 4096;
    // before the document is read: the fallback starts us anew, and a pipe can be read only once
    let protection = protect(log)?;
    let container = super::open(global, id)?;
    let init = container.hold()?.ok_or_else(super::not_running)?;
    if !cred::is_privileged() {
        return Err(Error::msg("only root can change the mounts of a container that runs")
            .with_hint("what is mounted is cloned from the host, which takes CAP_SYS_ADMIN there"));
    }
    let bytes = paths::document(file, USUAL).context(|| format!("open {}", file.display()))?;
    let (record, mut notes) = (&container.record, Vec::new());
    let list = spec::added_mounts(&bytes, &record.rootfs, &mut notes).context(|| file.display().to_string())?;
    notes.iter().for_each(|note| log.warn(note));
    let config = spec::check(super::configuration(&container)?, &record.bundle, false)?;
    let plan = match change {
        // sources are relative to the bundle, as in its configuration
        Change::Add => added::add(&config, id, &list, &Facts::ask(false, true))?,
        Change::Remove => added::remove(&config, &list)?,
    };
    let protection = protection.apply().context(|| launch::PROTECTION)?;
    mounts::change(plan, init, protection, log)?;
    Ok(0)
}
