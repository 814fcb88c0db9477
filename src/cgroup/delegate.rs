//! Giving a cgroup to a user, as far as the kernel says that this is safe. May use sys and error.

use crate::error::{Context, Result};
use crate::sys::Errno;
use crate::sys::cgroupfs::{give, read_file};
use std::path::Path;

/// Which files a cgroup's owner may write: the kernel's own list.
const LIST: &str = "/sys/kernel/cgroup/delegate";

/// Gives the cgroup2 at `path` to a user: the directory, in which he may then make cgroups, and the files to move
/// processes and hand controllers on, but none that hold the limits.
pub(super) fn delegate(path: &Path, uid: u32) -> Result<()> {
    delegate_listed(path, uid, Path::new(LIST))
}

pub(super) fn delegate_listed(path: &Path, uid: u32, list: &Path) -> Result<()> {
    let what = || format!("give cgroup {} to user {uid}", path.display());
    // a kernel that hides the list has at least these (cgroups(7))
    let list = read_file(list).unwrap_or("cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n".to_owned());
    give(path, uid).context(what)?;
    for file in list.lines() {
        match give(&path.join(file), uid) {
            // its controller is not there
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno).context(what),
        }
    }
    Ok(())
}
