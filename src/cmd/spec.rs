//! `spec`: a `config.json` to start from.

use crate::error::{Context, Error, Result};
use crate::spec::template;
use crate::sys::cgroupfs::{Mounted, mounted};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

/// Writes it into the bundle, or the current directory. An existing file is not overwritten.
pub(super) fn run(bundle: Option<&Path>, rootless: bool) -> Result<u8> {
    let dir = bundle.unwrap_or(Path::new("."));
    std::fs::metadata(dir).context(|| format!("chdir {}", dir.display()))?;
    let path = dir.join("config.json");
    let ids = rootless.then(|| (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw()));
    let text = template(ids, mounted(Path::new("/sys/fs/cgroup")) == Mounted::V2);
    let written = OpenOptions::new().write(true).create_new(true).open(&path);
    match written.and_then(|mut file| file.write_all(text.as_bytes())) {
        Ok(()) => Ok(0),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            Err(Error::msg("File config.json exists. Remove it first"))
        }
        Err(error) => Err(Error::from(error).context(format!("write {}", path.display()))),
    }
}
