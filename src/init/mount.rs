//! Existing mounts: clone, set attributes, attach. By descriptor; no path is resolved twice.

use super::path::Scratch;
use super::{State, StepResult, leak_until_exec, path, proc, tree};
use crate::abi::mount::{
    ATTR_ATIME, ATTR_NOATIME, ATTR_NODEV, ATTR_NODIRATIME, ATTR_NOEXEC, ATTR_NOSUID, ATTR_RDONLY, ATTR_STRICTATIME,
    MS_REMOUNT, MountAttr,
};
use crate::plan::Mapped;
use crate::plan::step::{Slot, Sync};
use crate::sync_socket::{self, Cause};
use crate::sys::file::{self, RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, open_in};
use crate::sys::{Errno, mount};
use std::ffi::CStr;
use std::fmt::Write;
use std::os::fd::{AsFd, BorrowedFd};

/// Remounts what is mounted at a path (`MS_REMOUNT`).
pub(super) fn remount(state: &mut State<'_>, target: &CStr, flags: u64, data: &CStr) -> StepResult {
    let place = open_in(state.root()?, target, libc::O_PATH, 0)?;
    state.fchdir(place.as_fd())?;
    Ok(mount::filesystem(c"", c".", c"", flags | MS_REMOUNT, data)?)
}

/// Clones a path inside the root.
pub(super) fn clone_inside(state: &mut State<'_>, source: &CStr, recursive: bool, nofollow: bool) -> StepResult {
    let flags = libc::O_PATH | if nofollow { libc::O_NOFOLLOW } else { 0 };
    let place = open_in(state.root()?, if source.is_empty() { c"." } else { source }, flags, 0)?;
    let tree = mount::clone_tree(place.as_fd(), c"", recursive, true)?;
    state.put(Slot::TREE, tree);
    Ok(())
}

/// Sets attributes of the mount at a path.
pub(super) fn attr_at(
    state: &State<'_>,
    target: &CStr,
    attr: &MountAttr,
    must_clear: u64,
    then: Option<&(MountAttr, bool)>,
) -> StepResult {
    let place = open_in(state.root()?, target, libc::O_PATH, 0)?;
    keep_locked(place.as_fd(), attr, must_clear, false)?;
    match then {
        Some((attr, recursive)) => Ok(mount::set_attr(place.as_fd(), attr, *recursive)?),
        None => Ok(()),
    }
}

/// Maps the ids of the tree, or sends it to the host half, which does.
pub(super) fn map_ids(state: &State<'_>, mapped: Mapped, by_host: bool) -> StepResult {
    let tree = state.get(Slot::TREE)?;
    if !by_host {
        return Ok(mount::map_ids(tree, state.get(mapped.namespace)?, mapped.recursive)?);
    }
    sync_socket::send_fd(state.socket, Slot::TREE, tree)?;
    Ok(sync_socket::wait_for_go(state.socket, Sync::IdMapped)?)
}

/// Sets attributes like a remount. In a user namespace some flags of the source may be locked: those that the configuration
/// does not clear by name (`must_clear`) are kept. In a clone made by the host half (`host`) the kernel does not lock them, so
/// its flags are read first.
pub(super) fn keep_locked(tree: BorrowedFd<'_>, attr: &MountAttr, must_clear: u64, host: bool) -> StepResult {
    const LOCKABLE: u64 = ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC;
    let mut attr = *attr;
    if host {
        // these ST_ flags have the same numbers as the attributes
        let flags = mount::flags_of(tree)?;
        let locked = flags & LOCKABLE & !attr.set;
        if locked & must_clear != 0 || changes_times(&attr, flags) {
            return Err(Errno::EPERM.into());
        }
        attr.clear &= !locked;
    }
    match mount::set_attr(tree, &attr, false) {
        Err(Errno::EPERM) if attr.clear & !must_clear != 0 => {
            Ok(mount::set_attr(tree, &MountAttr { clear: attr.clear & must_clear, ..attr }, false)?)
        }
        answer => Ok(answer?),
    }
}

/// Whether the attributes would change the access time mode of a mount with these `ST_` flags.
fn changes_times(attr: &MountAttr, flags: u64) -> bool {
    // linux/statfs.h; not every C library has it
    const ST_RELATIME: u64 = 0x1000;
    const TIMES: u64 = libc::ST_NOATIME | libc::ST_NODIRATIME | ST_RELATIME;
    let mut wanted = match attr.set & ATTR_ATIME {
        ATTR_NOATIME => libc::ST_NOATIME,
        ATTR_STRICTATIME => 0,
        _ => ST_RELATIME,
    };
    if attr.set & ATTR_NODIRATIME != 0 {
        wanted |= libc::ST_NODIRATIME;
    }
    attr.clear & ATTR_ATIME != 0 && flags & TIMES != wanted
}

/// Attaches the tree; a missing target is made. With `nofollow` a link at the target is covered itself.
pub(super) fn attach(
    state: &mut State<'_>,
    target: &CStr,
    in_proc: bool,
    nofollow: bool,
    keep: Option<Slot>,
) -> StepResult {
    let tree = state.take(Slot::TREE)?;
    let is_directory = match file::stat(tree.as_fd()) {
        Ok(found) => found.st_mode & libc::S_IFMT == libc::S_IFDIR,
        // a FUSE that only its user may enter can be bound, and its root is a directory
        Err(Errno::EACCES) => true,
        Err(errno) => return Err(errno.into()),
    };
    if target == c"/proc" && file::fs_magic(tree.as_fd())? != proc::MAGIC {
        return Err(Cause::NotProcfs.into());
    }
    let place = path::target(state.root()?, target, is_directory, nofollow)?;
    proc::outside(&place, in_proc)?;
    let place = place.fd;
    match mount::attach(tree.as_fd(), place.as_fd()) {
        // the errno of mount(2) when only one of the two is a directory
        Err(Errno::EINVAL) if (file::stat(place.as_fd())?.st_mode & libc::S_IFMT == libc::S_IFDIR) != is_directory => {
            return Err(Errno::ENOTDIR.into());
        }
        Err(Errno::ELOOP) if state.get(Slot::MOUNTS).is_ok() => {
            mount::attach(tree::without_namespaces(state, tree.as_fd())?.as_fd(), place.as_fd())?;
        }
        answer => answer?,
    }
    match keep {
        Some(slot) => state.put(slot, tree),
        None => leak_until_exec(tree),
    }
    leak_until_exec(place);
    Ok(())
}

/// Opens the root of the mount at a path. No link is followed, so that it is the mount of that name: one of another name may
/// hide something from the container.
pub(super) fn open_root(state: &mut State<'_>, slot: Slot, target: &CStr) -> StepResult {
    let resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS;
    let found = file::openat2(state.root()?, target, libc::O_PATH | libc::O_NOFOLLOW, 0, resolve)?;
    if !mount::is_root(found.as_fd())? {
        return Err(Errno::EINVAL.into());
    }
    state.put(slot, found);
    Ok(())
}

/// Unmounts what is in a slot, by its descriptor: a path could lead elsewhere by now.
pub(super) fn take_off(state: &State<'_>, slot: Slot) -> StepResult {
    let mut path = Scratch::new(c"self/fd/")?;
    write!(path, "{}", file::raw_fd(&state.get(slot)?)).map_err(|_| Errno::ENAMETOOLONG)?;
    file::fchdir(state.get(Slot::PROC)?)?;
    Ok(mount::unmount(path.as_c()?)?)
}
