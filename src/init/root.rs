//! The root: found, bound, made `/`.

use super::path::Scratch;
use super::{State, StepResult, leak_until_exec};
use crate::abi::mount::{ATTR_RDONLY, MS_PRIVATE, MS_REC, MS_SLAVE, MountAttr};
use crate::plan::step::Slot;
use crate::sys::file::{self, cwd};
use crate::sys::{Errno, mount};
use std::ffi::CStr;
use std::os::fd::AsFd;

/// Tries the path and then each of its parents, until one is a mount point (`EINVAL` says that it is none).
#[inline(never)]
pub(super) fn private_parent(path: &CStr) -> StepResult {
    let mut walked = Scratch::new(path)?;
    loop {
        match mount::propagate(walked.as_c()?, MS_PRIVATE) {
            Ok(()) => return Ok(()),
            Err(Errno::EINVAL) if walked.len() > 1 => {}
            Err(errno) => return Err(errno.into()),
        }
        let up = walked.as_c()?.to_bytes().iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        walked.cut(up.max(1));
    }
}

/// Binds the root on itself by descriptor. From a user namespace the path may be out of reach: then the host's clone
/// goes over `/`, which is about to be left anyway.
pub(super) fn open(path: &CStr, tree: Option<Slot>, state: &mut State<'_>) -> StepResult {
    let place = match file::open(cwd(), path, libc::O_PATH | libc::O_DIRECTORY, 0) {
        Err(Errno::EACCES) if tree.is_some() => file::open(cwd(), c"/", libc::O_PATH | libc::O_DIRECTORY, 0),
        answer => answer,
    }?;
    let tree = match tree {
        Some(slot) => state.take(slot)?,
        None => mount::clone_tree(place.as_fd(), c"", true, true)?,
    };
    mount::attach(tree.as_fd(), place.as_fd())?;
    leak_until_exec(place);
    state.put(Slot::ROOT, tree);
    Ok(())
}

/// By descriptor: the path could lead to something else by now.
pub(super) fn enter(state: &State<'_>) -> StepResult {
    file::fchdir(state.root()?)?;
    file::chroot(c".")?;
    file::chdir(c"/")?;
    Ok(())
}

/// Without a mount namespace there is nothing to pivot.
pub(super) fn change(path: &CStr, state: &mut State<'_>) -> StepResult {
    file::chroot(path)?;
    file::chdir(c"/")?;
    take(state)
}

/// The root of the mount namespace that we have entered.
pub(super) fn take(state: &mut State<'_>) -> StepResult {
    state.put(Slot::ROOT, file::open(cwd(), c"/", libc::O_PATH | libc::O_DIRECTORY, 0)?);
    Ok(())
}

/// The old root comes to lie on top of the new one, under the same name, and is taken off there. The working directory is
/// the new root all the while (`pivot_root(2)`, NOTES). Where the old root shares its mounts with the host, it is cut off first, by
/// its own descriptor (`cut`): the path would name the new root, whose mounts are to go on sharing.
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

/// A whole instance of proc or sysfs in a mount namespace lets whoever makes a user namespace in it mount another, with
/// nothing masked. Taken off with what lies on it; covered where it is locked, as the host's are in a user namespace, or
/// `shared` with the host.
pub(super) fn conceal(path: &CStr, shared: bool) -> StepResult {
    loop {
        // neither what happens to it nor what comes to lie on it is the host's to share
        match mount::propagate(path, MS_PRIVATE) {
            Ok(()) => {}
            // the last one of several came off, or it went with what it lay in
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

/// For roots that can't be pivoted (an initramfs): the old root stays underneath, out of reach behind the chroot.
pub(super) fn shift(state: &State<'_>) -> StepResult {
    file::fchdir(state.root()?)?;
    mount::move_to(c".", c"/")?;
    file::chroot(c".")?;
    file::chdir(c"/")?;
    Ok(())
}

/// The root mount alone; what is mounted in it keeps its own mode.
pub(super) fn readonly(state: &State<'_>) -> StepResult {
    let attr = MountAttr { set: ATTR_RDONLY, ..MountAttr::default() };
    Ok(mount::set_attr(state.root()?, &attr, false)?)
}
