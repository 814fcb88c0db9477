//! `/dev`: opened, and its nodes and links made.

use super::path::{self, Scratch};
use super::{Done, Scene, Trouble, leave, mount, tree};
use crate::plan::step::Slot;
use crate::sys::file::{self, open_in};
use crate::sys::{self, Answer, Errno};
use crate::wire::Cause;
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};

/// Opens the image's own `/dev`. What is mounted there, by whatever name, is not the image's: it may be the host's, whose
/// nodes nobody wants to see replaced.
pub(super) fn open_dev(scene: &mut Scene<'_>) -> Done {
    let dev = path::directory(scene.root()?, c"/dev")?;
    if sys::mount::id_of(dev.as_fd())? != sys::mount::id_of(scene.root()?)? {
        return Err(Cause::ForeignDev.into());
    }
    scene.put(Slot::DEV, dev);
    Ok(())
}

/// Relative to a directory that is known, a name needs no resolving; a path from the root gets its parents made.
fn within<T>(scene: &Scene<'_>, at: Slot, path: &CStr, act: impl Fn(BorrowedFd<'_>, &CStr) -> Answer<T>) -> Answer<T> {
    if at == Slot::ROOT { below_root(scene, path, act) } else { act(scene.get(at)?, path) }
}

#[cold]
#[inline(never)]
fn below_root<T>(scene: &Scene<'_>, path: &CStr, act: impl Fn(BorrowedFd<'_>, &CStr) -> Answer<T>) -> Answer<T> {
    let (parent, name) = path::parent(scene.root()?, path)?;
    act(parent.as_fd(), name.as_c()?)
}

/// Makes a symbolic link; what is there already stays.
pub(super) fn link(scene: &Scene<'_>, at: Slot, path: &CStr, target: &CStr) -> Done {
    match within(scene, at, path, |dir, name| file::symlink(target, dir, name)) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Makes a symbolic link in `/dev` to what is in the root; nothing if that is not there.
pub(super) fn link_to(scene: &Scene<'_>, name: &CStr, target: &CStr) -> Done {
    let Ok(found) = open_in(scene.root()?, target, libc::O_PATH, 0) else { return Ok(()) };
    leave(found);
    link(scene, Slot::DEV, name, target)
}

/// Removes a file; one that is not there is as good as removed.
pub(super) fn unlink(scene: &Scene<'_>, at: Slot, path: &CStr) -> Done {
    match file::unlink(scene.get(at)?, path, false) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// A device node.
pub(super) struct Node<'a> {
    /// What its path is relative to.
    pub(super) at: Slot,
    pub(super) path: &'a CStr,
    pub(super) mode: u32,
    pub(super) device: u64,
    pub(super) owner: Option<(u32, u32)>,
}

/// Makes a device node; says whether it is new. The same one that is there already will do, and where none may be made, the
/// host's is bound.
pub(super) fn node(scene: &mut Scene<'_>, node: &Node<'_>) -> Result<bool, Trouble> {
    let nofollow = libc::AT_SYMLINK_NOFOLLOW;
    let (at, path, mode, device) = (node.at, node.path, node.mode, node.device);
    let made = within(scene, at, path, |dir, name| file::mknod(dir, name, mode, device));
    match made {
        Ok(()) => {}
        Err(Errno::EEXIST) => {
            let found = within(scene, at, path, |dir, name| file::stat_at(dir, name, nofollow))?;
            let fifo = mode & libc::S_IFMT == libc::S_IFIFO;
            if found.st_mode & libc::S_IFMT != mode & libc::S_IFMT || (!fifo && found.st_rdev != device) {
                return Err(Cause::OtherNode.into());
            }
        }
        Err(Errno::EPERM) => return bind_node(scene, node).map(|()| false),
        Err(errno) => return Err(errno.into()),
    }
    if let Some((uid, gid)) = node.owner {
        within(scene, at, path, |dir, name| file::chown(dir, name, Some(uid), Some(gid), nofollow))?;
    }
    Ok(made.is_ok())
}

/// The host's node of the same name and number, which root of a user namespace may not make; it stays the host's, with
/// its owner and permissions.
#[cold]
#[inline(never)]
fn bind_node(scene: &mut Scene<'_>, node: &Node<'_>) -> Done {
    let Node { at, path, mode, device, owner: _ } = *node;
    let mut whole = Scratch::new(if at == Slot::DEV { c"/dev/" } else { c"" })?;
    whole.push(path.to_bytes())?;
    let tree = tree::late(scene, whole.as_c()?, false)?;
    let found = file::stat(tree.as_fd())?;
    if found.st_mode & libc::S_IFMT != mode & libc::S_IFMT || found.st_rdev != device {
        return Err(Cause::OtherNode.into());
    }
    scene.put(Slot::TREE, tree);
    mount::attach(scene, whole.as_c()?, false)
}
