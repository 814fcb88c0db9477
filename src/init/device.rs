//! `/dev`: opened, and its nodes and links made.

use super::path::{self, Scratch};
use super::{State, StepError, StepResult, leak_until_exec, mount, tree};
use crate::abi::mount::{ATTR_NOEXEC, ATTR_NOSUID, MountAttr};
use crate::plan::step::Slot;
use crate::sync_socket::Cause;
use crate::sys::file::{self, open_in};
use crate::sys::{self, Answer, Errno};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};

/// Opens the image's own `/dev`. A mount there is refused: it may be the host's `/dev`, whose nodes must not be replaced.
pub(super) fn open_dev(state: &mut State<'_>) -> StepResult {
    let dev = path::directory(state.root()?, c"/dev")?;
    if sys::mount::id_of(dev.as_fd())? != sys::mount::id_of(state.root()?)? {
        return Err(Cause::ForeignDev.into());
    }
    state.put(Slot::DEV, dev);
    Ok(())
}

/// Relative to a directory that is known, a name needs no resolving; a path from the root gets its parents made.
fn within<T>(state: &State<'_>, at: Slot, path: &CStr, act: impl Fn(BorrowedFd<'_>, &CStr) -> Answer<T>) -> Answer<T> {
    if at == Slot::ROOT { below_root(state, path, act) } else { act(state.get(at)?, path) }
}

#[cold]
#[inline(never)]
fn below_root<T>(state: &State<'_>, path: &CStr, act: impl Fn(BorrowedFd<'_>, &CStr) -> Answer<T>) -> Answer<T> {
    let (parent, name) = path::parent(state.root()?, path)?;
    act(parent.as_fd(), name.as_c()?)
}

/// Makes a symbolic link; what is there already stays.
pub(super) fn link(state: &State<'_>, at: Slot, path: &CStr, target: &CStr) -> StepResult {
    match within(state, at, path, |dir, name| file::symlink(target, dir, name)) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Makes a symbolic link; the same one may be there.
pub(super) fn copy_link(state: &State<'_>, path: &CStr, target: &CStr) -> StepResult {
    below_root(state, path, |dir, name| match file::symlink(target, dir, name) {
        Err(Errno::EEXIST) => {
            let mut buffer = [0; libc::PATH_MAX as usize];
            match file::readlink(dir, name, &mut buffer) {
                Ok(says) if says == target.to_bytes() => Ok(()),
                // `EINVAL`: it is no link
                Ok(_) | Err(Errno::EINVAL) => Err(Errno::EEXIST),
                Err(errno) => Err(errno),
            }
        }
        answer => answer,
    })?;
    Ok(())
}

/// Makes a symbolic link in `/dev` to what is in the root; nothing if that is not there.
pub(super) fn link_to(state: &State<'_>, name: &CStr, target: &CStr) -> StepResult {
    let Ok(found) = open_in(state.root()?, target, libc::O_PATH, 0) else { return Ok(()) };
    leak_until_exec(found);
    link(state, Slot::DEV, name, target)
}

/// Removes a file; one that is not there is as good as removed.
pub(super) fn unlink(state: &State<'_>, at: Slot, path: &CStr) -> StepResult {
    match file::unlink(state.get(at)?, path, false) {
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
    /// Where the host has it, if not at this path.
    pub(super) host: Option<&'a CStr>,
}

/// Makes a device node; says whether it is new. The same one that is there already will do, and where none may be made, the
/// host's is bound.
pub(super) fn node(state: &mut State<'_>, node: &Node<'_>) -> Result<bool, StepError> {
    let nofollow = libc::AT_SYMLINK_NOFOLLOW;
    let (at, path, mode, device) = (node.at, node.path, node.mode, node.device);
    let made = within(state, at, path, |dir, name| file::mknod(dir, name, mode, device));
    match made {
        Ok(()) => {}
        Err(Errno::EEXIST) => {
            let found = within(state, at, path, |dir, name| file::stat_at(dir, name, nofollow))?;
            let fifo = mode & libc::S_IFMT == libc::S_IFIFO;
            if found.st_mode & libc::S_IFMT != mode & libc::S_IFMT || (!fifo && found.st_rdev != device) {
                return Err(Cause::OtherNode.into());
            }
        }
        Err(Errno::EPERM) => return bind_node(state, node).map(|()| false),
        Err(errno) => return Err(errno.into()),
    }
    if let Some((uid, gid)) = node.owner {
        within(state, at, path, |dir, name| file::chown(dir, name, Some(uid), Some(gid), nofollow))?;
    }
    Ok(made.is_ok())
}

/// Binds the host's node of the same number, where we may not make one (in a user namespace, without `CAP_MKNOD`). It stays the
/// host's, with its owner and permissions; nothing is executed through it.
#[cold]
#[inline(never)]
fn bind_node(state: &mut State<'_>, node: &Node<'_>) -> StepResult {
    let Node { at, path, mode, device, host, owner: _ } = *node;
    let mut whole = Scratch::new(if at == Slot::DEV { c"/dev/" } else { c"" })?;
    whole.push(path.to_bytes())?;
    let tree = match host {
        Some(host) => tree::late(state, host, false)?,
        None => tree::late(state, whole.as_c()?, false)?,
    };
    let found = file::stat(tree.as_fd())?;
    if found.st_mode & libc::S_IFMT != mode & libc::S_IFMT || found.st_rdev != device {
        return Err(Cause::OtherNode.into());
    }
    let attr = MountAttr { set: ATTR_NOSUID | ATTR_NOEXEC, ..MountAttr::default() };
    sys::mount::set_attr(tree.as_fd(), &attr, false)?;
    state.put(Slot::TREE, tree);
    mount::attach(state, whole.as_c()?, false, false, None)
}
