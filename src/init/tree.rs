//! A mount namespace made of the root alone: what has to be fetched from the host's before it is entered, and what turns
//! out later to be needed from there.
//!
//! The tree is a copy of mounts that may be shared with the host, and so are the clones: both are made to propagate as if
//! they had been made in a copy of the whole namespace.

use super::{Done, Scene};
use crate::abi::mount::MountAttr;
use crate::abi::ns::{Namespace, Namespaces};
use crate::plan::step::Slot;
use crate::sys::file::{self, cwd};
use crate::sys::{Answer, Errno, mount, ns, socket};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

fn mounts() -> Namespaces {
    let mut kinds = Namespaces::default();
    kinds.insert(Namespace::Mount);
    kinds
}

/// Makes the namespace. By the working directory, so that no descriptor of the host's tree is left.
pub(super) fn new(path: &CStr, propagation: u64, scene: &mut Scene<'_>) -> Done {
    scene.propagation = propagation;
    file::chdir(path)?;
    let made = bindable(scene, || mount::namespace_of_tree(cwd(), c"."))?;
    scene.put(Slot::MOUNTS, made);
    Ok(())
}

/// Clones a tree of the host. `settled`: how it propagates is said later.
pub(super) fn ahead(
    scene: &mut Scene<'_>,
    slot: Slot,
    source: &CStr,
    instead: Option<&CStr>,
    recursive: bool,
    settled: bool,
) -> Done {
    let tree = bindable(scene, || clone_of_host(source, instead, recursive))?;
    if !settled {
        receive(scene, tree.as_fd(), recursive)?;
    }
    scene.put(slot, tree);
    Ok(())
}

/// A clone of a tree of the host, or of another where that one is not there.
pub(super) fn clone_of_host(source: &CStr, instead: Option<&CStr>, recursive: bool) -> Result<OwnedFd, Errno> {
    match (mount::clone_tree(cwd(), source, recursive, true), instead) {
        (Err(Errno::ENOENT), Some(instead)) => mount::clone_tree(cwd(), instead, recursive, true),
        (answer, _) => answer,
    }
}

/// What the host mounts there may come, nothing goes back.
fn receive(scene: &Scene<'_>, tree: BorrowedFd<'_>, recursive: bool) -> Answer<()> {
    let attr = MountAttr { propagation: scene.propagation, ..MountAttr::default() };
    mount::set_attr(tree, &attr, recursive)
}

/// An unbindable mount is no obstacle where the whole namespace is copied first and made to receive only: so that is
/// done.
fn bindable<T>(scene: &Scene<'_>, act: impl Fn() -> Answer<T>) -> Answer<T> {
    match act() {
        Err(Errno::EINVAL) => {
            ns::unshare(mounts())?;
            mount::propagate(c"/", scene.propagation)?;
            act()
        }
        answer => answer,
    }
}

/// Does something in the mount namespace of the host half, which made our wire, and comes back; where ours began as a
/// copy of that one, here.
fn abroad<T>(scene: &Scene<'_>, act: impl FnOnce() -> Answer<T>) -> Answer<T> {
    let Ok(own) = scene.get(Slot::MOUNTS) else { return act() };
    ns::join(socket::peer(scene.wire)?.as_fd(), mounts())?;
    let answer = act();
    ns::join(own, mounts())?;
    answer
}

/// A clone of a tree of the host for which the plan saw no need.
pub(super) fn late(scene: &Scene<'_>, source: &CStr, recursive: bool) -> Answer<OwnedFd> {
    let tree = abroad(scene, || mount::clone_tree(cwd(), source, recursive, true))?;
    if scene.get(Slot::MOUNTS).is_ok() {
        receive(scene, tree.as_fd(), recursive)?;
    }
    Ok(tree)
}

/// A clone without the mount namespaces that are mounted in it, which the kernel lets nobody attach (`ELOOP`). In a copy
/// of the whole namespace they would not have been.
pub(super) fn without_namespaces(scene: &Scene<'_>, tree: BorrowedFd<'_>) -> Answer<OwnedFd> {
    abroad(scene, || {
        let copy = mount::namespace_of_tree(tree, c"")?;
        ns::join(copy.as_fd(), mounts())?;
        mount::clone_tree(cwd(), c"/", true, true)
    })
}
