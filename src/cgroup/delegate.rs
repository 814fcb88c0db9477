//! Delegating a cgroup to a user: exactly the files that the kernel lists as safe (cgroups(7), cgroup-v2.rst
//! "Delegation"). May use sys and error.

use crate::error::{Context, Result};
use crate::sys::Errno;
use crate::sys::cgroupfs::{give, read_file};
use std::path::Path;

/// The kernel's list of the files that the owner of a delegated cgroup may write.
const LIST: &str = "/sys/kernel/cgroup/delegate";

/// Gives the cgroup2 at `path` to a user: the directory, so that the user can create cgroups in it, and the files that move
/// processes and enable controllers for children, but none of the limits.
pub(super) fn delegate(path: &Path, uid: u32) -> Result<()> {
    delegate_listed(path, uid, Path::new(LIST))
}

pub(super) fn delegate_listed(path: &Path, uid: u32, list: &Path) -> Result<()> {
    let what = || format!("give cgroup {} to user {uid}", path.display());
    // where the list cannot be read: these are always on it (cgroups(7))
    let list = read_file(list).unwrap_or("cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n".to_owned());
    give(path, uid).context(what)?;
    for file in list.lines() {
        match give(&path.join(file), uid) {
            // the file's controller is not available
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno).context(what),
        }
    }
    Ok(())
}
