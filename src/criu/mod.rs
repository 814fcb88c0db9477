//! Checkpoint and restore. CRIU saves and restores the processes. We tell it which resources of a container come from
//! outside (bind mounts, masked files, joined namespaces, the cgroup, the standard streams), and keep the record.
//!
//! CRIU is a program; we talk to it through `criu swrk` (`service.rs`) in the messages of `rpc.rs`, which are our own
//! declarations over `prost`. This directory adds 100 kB to the binary. The crate `rust-criu` lacks what is needed here:
//! the restored pid, cgroup roots, options for security modules and configuration files, pre-dump and feature checks,
//! and notifications with contents.
//!
//! ```text
//! checkpoint ── dump.rs ─────┬─ external.rs ─── service.rs ── criu ── images, descriptors.json
//! restore ───── restore.rs ──┘  external        notifications:        the first process, a child of ours
//!               mount_ns.rs     mounts, pure    hooks, terminal, record
//! ```

mod dump;
mod external;
mod mount_ns;
mod report;
mod restore;
pub mod rpc;
mod service;

pub use dump::{DumpOptions, dump};
pub use restore::restore;

use crate::error::{Context, Error, Result};
use crate::launch::Record;
use rpc::Options;
use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// What the command line says for checkpoint and restore.
#[derive(Debug, Clone)]
pub struct CriuRequest {
    /// CRIU's options from the command line; those that follow from the container are added later.
    pub options: Options,
    /// The directory of the images.
    pub images: PathBuf,
    /// The directory of logs; without one they go to the directory of the images.
    pub work: Option<PathBuf>,
}

impl CriuRequest {
    /// The path of a log.
    fn log(&self, name: &str) -> PathBuf {
        self.work.as_ref().unwrap_or(&self.images).join(name)
    }
}

/// The file beside the images that records what descriptors 0 to 2 were.
const DESCRIPTORS: &str = "descriptors.json";

/// CRIU's configuration file: the one that the annotation names, or the machine's for runtimes.
fn configuration(record: &Record) -> Option<String> {
    const DEFAULT: &str = "/etc/criu/runc.conf";
    match record.annotations.get("org.criu.config") {
        Some(path) => Some(path.clone()).filter(|path| !path.is_empty()),
        None => Path::new(DEFAULT).exists().then(|| DEFAULT.to_owned()),
    }
}

/// Opens a directory, which is created if it is missing. Its files are readable for root only, but root of a user namespace
/// must be able to see that one does not exist.
fn directory(path: &Path) -> Result<File> {
    match DirBuilder::new().mode(0o711).create(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(Error::from(error).context(format!("mkdir {}", path.display())));
        }
        Ok(()) | Err(_) => {}
    }
    File::open(path).context(|| format!("open {}", path.display()))
}
