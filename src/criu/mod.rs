//! Checkpoint and restore: CRIU saves and brings back the processes; we tell it what of a container is not the
//! processes' own (bind mounts, masked files, joined namespaces, the cgroup, the standard streams) and keep the record.
//!
//! CRIU is a program, talked to through `criu swrk` (`service.rs`) in the messages of `rpc.rs`. They are our own
//! declarations over `prost`; the whole room adds 100 kB to the binary. The crate `rust-criu` was weighed: it lacks
//! what is needed here (the restored pid, cgroup roots, options for security modules and configuration files, pre-dump
//! and feature checks, notifications that may know something).
//!
//! ```text
//! checkpoint ── dump.rs ─────┬─ external.rs ── service.rs ── criu ── images, descriptors.json
//! restore ───── restore.rs ──┘  what is given  asks back: hooks,     the first process, a child of ours
//!               stage.rs        again, pure    terminal, record
//! ```

mod dump;
mod external;
mod report;
mod restore;
pub mod rpc;
mod service;
mod stage;

pub use dump::{Saving, dump};
pub use restore::restore;

use crate::error::{Context, Error, Result};
use crate::launch::Record;
use rpc::Options;
use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Component, Path, PathBuf};

/// What both directions were told.
#[derive(Debug, Clone)]
pub struct Asked {
    /// What was chosen of CRIU's options; what the container dictates comes on top.
    pub options: Options,
    /// The directory of the images.
    pub images: PathBuf,
    /// The directory of logs; without one they go to the images.
    pub work: Option<PathBuf>,
}

impl Asked {
    /// Where the log lies.
    fn log(&self, name: &str) -> PathBuf {
        self.work.as_ref().unwrap_or(&self.images).join(name)
    }
}

/// The file beside the images that says what descriptors 0 to 2 were.
const DESCRIPTORS: &str = "descriptors.json";

/// A configuration file of CRIU's: what the annotation names, or the machine's own for runtimes.
fn configuration(record: &Record) -> Option<String> {
    const DEFAULT: &str = "/etc/criu/runc.conf";
    match record.annotations.get("org.criu.config") {
        Some(path) => Some(path.clone()).filter(|path| !path.is_empty()),
        None => Path::new(DEFAULT).exists().then(|| DEFAULT.to_owned()),
    }
}

/// A path without `..`, as CRIU means it: the directory before one need not be there yet.
#[must_use]
pub fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(clean.pop()),
            Component::CurDir => {}
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => clean.push(part),
        }
    }
    clean
}

/// Opens a directory, which is made if it is missing. Its files are root's alone, but who is root in a user namespace must
/// be able to find that one is not there.
fn directory(path: &Path) -> Result<File> {
    match DirBuilder::new().mode(0o711).create(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(Error::from(error).context(format!("mkdir {}", path.display())));
        }
        Ok(()) | Err(_) => {}
    }
    File::open(path).context(|| format!("open {}", path.display()))
}
