//! What the container must not see or change: masked and read-only paths of the finished root, each looked up once.

use super::{State, StepError, StepResult, leak_until_exec};
use crate::abi::mount::{ATTR_NODEV, ATTR_NOEXEC, ATTR_NOSUID, ATTR_RDONLY, MS_BIND, MountAttr};
use crate::plan::step::Slot;
use crate::sync_socket::Cause;
use crate::sys::file::{self, cwd};
use crate::sys::mount as sys;
use crate::sys::{Answer, Errno};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A mount in which nothing can be done; the flags of `mount(2)` have the same numbers.
const SEALED: u64 = ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC;

/// Opens a path of the finished root; none if it does not exist. Whatever else keeps us from it is an error: a path that is
/// there must not stay open to the container because we could not reach it.
fn existing(path: &CStr) -> Answer<Option<OwnedFd>> {
    match file::open(cwd(), path, libc::O_PATH, 0) {
        Ok(there) => Ok(Some(there)),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Makes a path read-only, with everything mounted below it.
pub(super) fn readonly_path(path: &CStr) -> StepResult {
    let attr = MountAttr { set: ATTR_RDONLY, ..MountAttr::default() };
    let Some(place) = existing(path)? else { return Ok(()) };
    put_on(sys::clone_tree_with(place.as_fd(), c"", &attr, true)?, place)
}

fn put_on(tree: OwnedFd, place: OwnedFd) -> StepResult {
    sys::attach(tree.as_fd(), place.as_fd())?;
    leak_until_exec(tree);
    leak_until_exec(place);
    Ok(())
}

/// Covers a path. Most are files or do not exist; the kernel refuses to bind a file over a directory (`ENOTDIR`).
pub(super) fn mask(state: &mut State<'_>, path: &CStr, options: &CStr) -> StepResult {
    if state.own_null {
        match bind_own_null(state, path) {
            Err(StepError { cause: Cause::Kernel, errno, .. }) if errno == Errno::ENOTDIR as i32 => {}
            Err(StepError { cause: Cause::Kernel, errno, .. }) if errno == Errno::ENOENT as i32 => return Ok(()),
            answer => return answer,
        }
    }
    let Some(place) = existing(path)? else { return Ok(()) };
    if file::stat(place.as_fd())?.st_mode & libc::S_IFMT == libc::S_IFDIR {
        return mask_directory(state, place, options);
    }
    put_on(null(state)?, place)
}

/// Binds the node that we made in a `/dev` of our own over a path, in one look-up. Nobody can have exchanged it: it is named from
/// that directory, whatever is mounted on `/dev` by now.
fn bind_own_null(state: &mut State<'_>, path: &CStr) -> StepResult {
    if !state.in_dev {
        // a hook of the container's may have been at it since
        is_null(state.get(Slot::DEV)?)?;
        state.fchdir_to_dev()?;
    }
    Ok(sys::filesystem(c"null", path, c"", MS_BIND, c"")?)
}

/// The container's `/dev/null`, after a look at what it is: an image may bring something else under that name, or nothing
/// (CVE-2025-31133).
fn null(state: &mut State<'_>) -> Result<OwnedFd, StepError> {
    if state.get(Slot::NULL).is_err() {
        let null = match state.get(Slot::DEV) {
            Ok(dev) => file::open(dev, c"null", libc::O_PATH | libc::O_NOFOLLOW, 0),
            Err(_) => file::open(cwd(), c"/dev/null", libc::O_PATH | libc::O_NOFOLLOW, 0),
        };
        let null = null.map_err(|_| Cause::NotNull)?;
        let found = file::stat(null.as_fd())?;
        if !is_null_device(&found) {
            return Err(Cause::NotNull.into());
        }
        state.put(Slot::NULL, null);
    }
    Ok(sys::clone_tree(state.get(Slot::NULL)?, c"", false, true)?)
}

fn is_null(dev: BorrowedFd<'_>) -> StepResult {
    let found = file::stat_at(dev, c"null", libc::AT_SYMLINK_NOFOLLOW);
    if found.is_ok_and(|found| is_null_device(&found)) { Ok(()) } else { Err(Cause::NotNull.into()) }
}

fn is_null_device(found: &libc::stat) -> bool {
    found.st_mode & libc::S_IFMT == libc::S_IFCHR && found.st_rdev == file::device(1, 3)
}

/// Mounts an empty, read-only file system over a directory.
pub(super) fn cover(path: &CStr, options: &CStr) -> Answer<()> {
    sys::filesystem(c"tmpfs", path, c"tmpfs", SEALED, options)
}

/// Covers a directory with an empty, read-only file system. All directories share one: the first gets it, the others get clones.
fn mask_directory(state: &mut State<'_>, place: OwnedFd, options: &CStr) -> StepResult {
    if let Ok(cover) = state.get(Slot::COVER) {
        return put_on(sys::clone_tree(cover, c"", false, true)?, place);
    }
    let new = sys::new(c"tmpfs", c"", options, 0, SEALED)?;
    sys::attach(new.as_fd(), place.as_fd())?;
    leak_until_exec(place);
    state.put(Slot::COVER, new);
    Ok(())
}
