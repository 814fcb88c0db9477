//! `checkpoint ID` and `restore ID`: their flags are understood, for engines ask for the help text and for how a flag
//! without its value is refused; saving and bringing back itself is refused in one sentence.

use crate::cli::{Checkpoint, Global, Restore};
use crate::error::{Error, Result};
use crate::state::{Root, Status};
use std::path::Path;

/// Refuses to save a container, once it is sure that there is one.
pub(super) fn checkpoint(global: &Global, checkpoint: &Checkpoint) -> Result<u8> {
    let container = super::open(global, &checkpoint.criu.id)?;
    if super::status(&container)? == Status::Stopped {
        return Err(super::not_running());
    }
    Err(unsupported("checkpoint"))
}

/// Refuses to bring a container back.
pub(super) fn restore(global: &Global, restore: &Restore) -> Result<u8> {
    let bundle = restore.bundle.as_deref().unwrap_or(Path::new("."));
    crate::spec::load(&bundle.join("config.json"))?;
    if Root::find(global.root.as_deref())?.dir(&restore.criu.id).is_ok() {
        return Err(Error::new(crate::error::Kind::Exists, "container with given ID already exists"));
    }
    Err(unsupported("restore"))
}

fn unsupported(verb: &str) -> Error {
    Error::msg(format!("{verb} is not supported: this build does not work with CRIU"))
}
