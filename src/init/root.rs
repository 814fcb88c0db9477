//! The container's root: bind mount it, make it `/`.

use super::path::Scratch;
use super::{State, StepResult, leak_until_exec};
use crate::abi::mount::{ATTR_RDONLY, MS_PRIVATE, MS_REC, MS_SLAVE, MountAttr};
use crate::plan::step::Slot;
use crate::sys::file::{self, cwd};
use crate::sys::{Errno, mount, ns};
use std::ffi::CStr;
use std::os::fd::AsFd;

/// Sets the propagation of `/` and all below it. If `/` is no mount (`EINVAL`: the caller is in a chroot), a bind mount of it
/// becomes the root of the mount namespace first.
pub(super) fn propagate(flags: u64) -> StepResult {
    match mount::propagate(c"/", flags) {
        Err(Errno::EINVAL) => {
            leave_chroot()?;
            Ok(mount::propagate(c"/", flags)?)
        }
        answer => Ok(answer?),
    }
}

/// Bind mounts the directory that is `/` on itself, makes it the root, and unmounts everything outside of it. All mounts become
/// slaves first: otherwise the bind mount could propagate to the host, because the propagation of the mount that the directory
/// is in can't be changed from inside the chroot.
#[cold]
fn leave_chroot() -> StepResult {
    let here = file::open(cwd(), c"/", libc::O_PATH | libc::O_DIRECTORY, 0)?;
    ns::to_root_of_mounts()?;
    mount::propagate(c"/", MS_SLAVE | MS_REC)?;
    let tree = mount::clone_tree(here.as_fd(), c"", true, true)?;
    mount::attach(tree.as_fd(), here.as_fd())?;
    file::fchdir(tree.as_fd())?;
    mount::pivot_here()?;
    mount::unmount(c".")?;
    file::chdir(c"/")?;
    leak_until_exec(here);
    leak_until_exec(tree);
    Ok(())
}

/// Sets the propagation of the mount on which a path lies: tries the path and then each parent, until one is a mount point
/// (`EINVAL`: it is not).
#[inline(never)]
pub(super) fn propagate_parent(path: &CStr, flags: u64) -> StepResult {
    let mut walked = Scratch::new(path)?;
    loop {
        match mount::propagate(walked.as_c()?, flags) {
            Ok(()) => return Ok(()),
            Err(Errno::EINVAL) if walked.len() > 1 => {}
            Err(errno) => return Err(errno.into()),
        }
        let up = walked.as_c()?.to_bytes().iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        walked.cut(up.max(1));
    }
}

/// Bind mounts the root on itself, by descriptor. If the path can't be reached from our user namespace, the host half's clone is
/// attached over `/`, which the pivot replaces anyway.
pub(super) fn open(path: &CStr, tree: Option<Slot>, private: bool, state: &mut State<'_>) -> StepResult {
    let place = match file::open(cwd(), path, libc::O_PATH | libc::O_DIRECTORY, 0) {
        Err(Errno::EACCES) if tree.is_some() => file::open(cwd(), c"/", libc::O_PATH | libc::O_DIRECTORY, 0),
        answer => answer,
    }?;
    let tree = match tree {
        Some(slot) => state.take(slot)?,
        None if private => {
            let attr = MountAttr { propagation: MS_PRIVATE, ..MountAttr::default() };
            mount::clone_tree_with(place.as_fd(), c"", &attr, true)?
        }
        None => mount::clone_tree(place.as_fd(), c"", true, true)?,
    };
    mount::attach(tree.as_fd(), place.as_fd())?;
    leak_until_exec(place);
    state.put(Slot::ROOT, tree);
    Ok(())
}

/// Changes root by descriptor: the path could lead to something else by now.
pub(super) fn enter(state: &State<'_>) -> StepResult {
    file::fchdir(state.root()?)?;
    file::chroot(c".")?;
    file::chdir(c"/")?;
    Ok(())
}

/// Changes root by path, for a container without a mount namespace.
pub(super) fn change(path: &CStr, state: &mut State<'_>) -> StepResult {
    file::chroot(path)?;
    file::chdir(c"/")?;
    take(state)
}

/// Takes the root of the mount namespace that we have entered.
pub(super) fn take(state: &mut State<'_>) -> StepResult {
    state.put(Slot::ROOT, file::open(cwd(), c"/", libc::O_PATH | libc::O_DIRECTORY, 0)?);
    Ok(())
}

/// `pivot_root(".", ".")` (pivot_root(2), NOTES): the old root is mounted on top of the new one, and is unmounted there. With `cut`
/// the old root shares mounts with the host: it is made a slave first, by descriptor, because the path already means the new
/// root, which must stay shared.
pub(super) fn pivot(cut: bool, state: &State<'_>) -> StepResult {
    let old = cut.then(|| file::open(cwd(), c"/", libc::O_PATH | libc::O_DIRECTORY, 0)).transpose()?;
    file::fchdir(state.root()?)?;
    mount::pivot_here()?;
    let Some(old) = old else { return Ok(mount::unmount(c".")?) };
    file::fchdir(old.as_fd())?;
    mount::propagate(c".", MS_SLAVE | MS_REC)?;
    mount::unmount(c".")?;
    Ok(file::chdir(c"/")?)
}

/// Unmounts a procfs or sysfs, with everything mounted in it; covers it instead if it is locked (in a user namespace) or `shared`
/// with the host. With a complete instance in the mount namespace, a new user namespace could mount another one without masks.
pub(super) fn conceal(path: &CStr, shared: bool) -> StepResult {
    loop {
        // neither its unmounting nor a mount on it may propagate to the host
        match mount::propagate(path, MS_PRIVATE) {
            Ok(()) => {}
            // no instance is left there
            Err(Errno::EINVAL | Errno::ENOENT) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        }
        match if shared { Err(Errno::EPERM) } else { mount::unmount(path) } {
            Ok(()) => {}
            Err(Errno::EINVAL | Errno::EPERM) => break,
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(super::masked_paths::cover(path, c"")?)
}

/// For roots that can't be pivoted (an initramfs): the old root stays mounted below the new one, unreachable after chroot.
pub(super) fn shift(state: &State<'_>) -> StepResult {
    file::fchdir(state.root()?)?;
    mount::move_to(c".", c"/")?;
    file::chroot(c".")?;
    file::chdir(c"/")?;
    Ok(())
}

/// Makes the root mount read-only; mounts in it stay as they are.
pub(super) fn readonly(state: &State<'_>) -> StepResult {
    let attr = MountAttr { set: ATTR_RDONLY, ..MountAttr::default() };
    Ok(mount::set_attr(state.root()?, &attr, false)?)
}
