//! The root of a container without a mount namespace of its own: a mount in the caller's mount namespace, unmounted at the
//! end with everything in it. No mount that existed before is changed.

use crate::abi::mount::{MS_PRIVATE, MountAttr};
use crate::error::{Context, Error, Kind, Result};
use crate::plan::step::{Slot, Str};
use crate::sys::file::{self, cwd};
use crate::sys::{Errno, mount};
use std::ffi::{CString, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

const PRIVATE: MountAttr = MountAttr { set: 0, clear: 0, propagation: MS_PRIVATE, userns_fd: 0 };

/// A clone of the root, not attached yet.
#[derive(Debug)]
pub(super) struct Detached {
    path: Str,
    mountpoint: OwnedFd,
    tree: OwnedFd,
    /// Its mount id, which it keeps.
    pub(super) id: u64,
}

/// Clones the root.
///
/// # Errors
/// It does not exist.
pub(super) fn detached(path: &Str) -> Result<Detached> {
    let name = path.to_string_lossy();
    let mountpoint = file::open(cwd(), path, libc::O_PATH | libc::O_DIRECTORY, 0).map_err(|errno| {
        let error = Error::from(errno).context(format!("invalid rootfs: stat {name}"));
        error.with_kind(Kind::Spec)
    })?;
    let tree = mount::clone_tree(mountpoint.as_fd(), c"", true, true).context(|| format!("open_tree({name:?})"))?;
    mount::set_attr(tree.as_fd(), &PRIVATE, true).context(|| format!("make the mounts of {name} private"))?;
    let id = mount::id_of(tree.as_fd()).context(|| format!("statx of {name}"))?;
    Ok(Detached { path: path.clone(), mountpoint, tree, id })
}

impl Detached {
    /// Attaches it to the root's path. Returns what unmounts it again. If the mount around it is shared, the kernel makes it
    /// shared, too: it is made private before anything is mounted in it.
    ///
    /// # Errors
    /// The kernel's answer; then it is not attached.
    pub(super) fn attach(self, slots: &mut [Option<OwnedFd>]) -> Result<impl FnOnce() -> Result<()> + use<>> {
        let name = self.path.to_string_lossy().into_owned();
        mount::attach(self.tree.as_fd(), self.mountpoint.as_fd()).context(|| format!("move_mount({name:?})"))?;
        let private = mount::set_attr(self.tree.as_fd(), &PRIVATE, true);
        private.context(|| format!("make the mounts of {name} private")).inspect_err(|_| {
            let _the_first_failure_counts = mount::unmount_here(&self.path);
        })?;
        slots[Slot::ROOT.index()] = Some(self.tree);
        let (path, id) = (PathBuf::from(OsString::from_vec(self.path.into_bytes())), self.id);
        Ok(move || detach(&path, id))
    }
}

/// Unmounts the root, if the mount at its path has that id: it may have been unmounted, or be in another mount namespace.
///
/// # Errors
/// The kernel's answer.
pub fn detach(path: &Path, id: u64) -> Result<()> {
    let what = || format!("unmount {}", path.display());
    let name = CString::new(path.as_os_str().as_bytes()).map_err(|_| Error::msg(what()))?;
    let place = match file::open(cwd(), &name, libc::O_PATH | libc::O_DIRECTORY, 0) {
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(()),
        place => place.context(what)?,
    };
    if mount::id_of(place.as_fd()).context(what)? != id {
        return Ok(());
    }
    // by the path that the kernel reports, which contains no link that could be changed meanwhile
    let path = std::fs::read_link(format!("/proc/self/fd/{}", file::raw_fd(&place))).context(what)?;
    drop(place);
    let name = CString::new(path.as_os_str().as_bytes()).map_err(|_| Error::msg(what()))?;
    mount::unmount_here(&name).context(what)
}
