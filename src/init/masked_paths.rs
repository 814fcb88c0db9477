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

const ENOTDIR: i32 = Errno::ENOTDIR as i32;
const EINVAL: i32 = Errno::EINVAL as i32;
const ENOENT: i32 = Errno::ENOENT as i32;

/// A mount in which nothing can be done; the flags of `mount(2)` have the same numbers.
const SEALED: u64 = ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC;

/// Opens a path of the finished root; none if it does not exist. Whatever else keeps us from it is an error: a path that is
/// there must not stay open to the container because we could not reach it.
fn existing(path: &CStr, flags: i32) -> Answer<Option<OwnedFd>> {
    match file::open(cwd(), path, libc::O_PATH | flags, 0) {
        Ok(there) => Ok(Some(there)),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Makes a path read-only, with everything mounted below it.
pub(super) fn readonly_path(path: &CStr) -> StepResult {
    let attr = MountAttr { set: ATTR_RDONLY, ..MountAttr::default() };
    let Some(place) = existing(path, 0)? else { return Ok(()) };
    put_on(sys::clone_tree_with(place.as_fd(), c"", &attr, true)?, place)
}

fn put_on(tree: OwnedFd, place: OwnedFd) -> StepResult {
    sys::attach(tree.as_fd(), place.as_fd())?;
    leak_until_exec(tree);
    leak_until_exec(place);
    Ok(())
}

/// Covers a path. A directory refuses to be covered by a file, and the reverse (`ENOTDIR`, in some kernels `EINVAL`): what
/// the plan expects is tried first. Each try looks the path up once.
pub(super) fn mask(state: &mut State<'_>, path: &CStr, options: &CStr, file: bool) -> StepResult {
    let mismatch = |errno: i32| errno == ENOTDIR || errno == EINVAL;
    for file in [file, !file] {
        match if file { mask_file(state, path) } else { mask_directory(state, path, options) } {
            Err(StepError { cause: Cause::Kernel, errno, .. }) if mismatch(errno) => {}
            Err(StepError { cause: Cause::Kernel, errno: ENOENT, .. }) => return Ok(()),
            answer => return answer,
        }
    }
    Err(Errno::ENOTDIR.into())
}

/// Covers a file with the container's `/dev/null`. Nobody can have exchanged the node that we made in a `/dev` of our own: it is
/// named from there, whatever is mounted on `/dev` by now.
fn mask_file(state: &mut State<'_>, path: &CStr) -> StepResult {
    if state.own_null {
        if !state.in_dev {
            // a hook of the container's may have been at it since
            is_null(state.get(Slot::DEV)?)?;
            state.fchdir_to_dev()?;
        }
        return Ok(sys::filesystem(c"null", path, c"", MS_BIND, c"")?);
    }
    let Some(place) = existing(path, 0)? else { return Ok(()) };
    let null = null(state)?;
    put_on(null, place)
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
/// Closing a clone that is attached nowhere waits for an RCU grace period, so the directory is opened before one is made.
fn mask_directory(state: &mut State<'_>, path: &CStr, options: &CStr) -> StepResult {
    let Some(place) = existing(path, libc::O_DIRECTORY)? else { return Ok(()) };
    if let Ok(cover) = state.get(Slot::COVER) {
        return put_on(sys::clone_tree(cover, c"", false, true)?, place);
    }
    let new = sys::new(c"tmpfs", c"", options, 0, SEALED)?;
    sys::attach(new.as_fd(), place.as_fd())?;
    leak_until_exec(place);
    state.put(Slot::COVER, new);
    Ok(())
}
