//! A mount namespace made of the root alone: what has to be fetched from the host's before it is entered, and what turns
//! out later to be needed from there.
//!
//! The tree is a copy of mounts that may be shared with the host, and so are the clones: both are made to propagate as if
//! they had been made in a copy of the whole namespace.

use super::{State, StepResult};
use crate::abi::mount::MountAttr;
use crate::abi::ns::Namespace;
use crate::plan::step::Slot;
use crate::sys::file::{self, cwd};
use crate::sys::{Answer, Errno, mount, ns, socket};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Makes the namespace. By the working directory, so that no descriptor of the host's tree is left.
pub(super) fn new(path: &CStr, propagation: u64, state: &mut State<'_>) -> StepResult {
    state.propagation = propagation;
    file::chdir(path)?;
    let made = bindable(state, || mount::namespace_of_tree(cwd(), c"."))?;
    state.put(Slot::MOUNTS, made);
    Ok(())
}

/// Clones a tree of the host. `propagation_follows`: how it propagates is said later.
pub(super) fn ahead(
    state: &mut State<'_>,
    slot: Slot,
    source: &CStr,
    fallback: Option<&CStr>,
    recursive: bool,
    propagation_follows: bool,
) -> StepResult {
    let tree = bindable(state, || clone_of_host(source, fallback, recursive))?;
    if !propagation_follows {
        receive(state, tree.as_fd(), recursive)?;
    }
    state.put(slot, tree);
    Ok(())
}

/// A clone of a tree of the host, or of another where that one is not there.
pub(super) fn clone_of_host(source: &CStr, fallback: Option<&CStr>, recursive: bool) -> Result<OwnedFd, Errno> {
    match (mount::clone_tree(cwd(), source, recursive, true), fallback) {
        (Err(Errno::ENOENT), Some(fallback)) => mount::clone_tree(cwd(), fallback, recursive, true),
        (answer, _) => answer,
    }
}

/// What the host mounts there may come, nothing goes back.
fn receive(state: &State<'_>, tree: BorrowedFd<'_>, recursive: bool) -> Answer<()> {
    let attr = MountAttr { propagation: state.propagation, ..MountAttr::default() };
    mount::set_attr(tree, &attr, recursive)
}

/// An unbindable mount is no obstacle where the whole namespace is copied first and made to receive only: so that is
/// done.
fn bindable<T>(state: &State<'_>, act: impl Fn() -> Answer<T>) -> Answer<T> {
    match act() {
        Err(Errno::EINVAL) => {
            ns::unshare(Namespace::Mount.into())?;
            mount::propagate(c"/", state.propagation)?;
            act()
        }
        answer => answer,
    }
}

/// Does something in the mount namespace of the host half, which made our sync socket, and comes back; where ours began as a
/// copy of that one, here.
fn abroad<T>(state: &State<'_>, act: impl FnOnce() -> Answer<T>) -> Answer<T> {
    let Ok(own) = state.get(Slot::MOUNTS) else { return act() };
    ns::join(socket::peer(state.socket)?.as_fd(), Namespace::Mount.into())?;
    let answer = act();
    ns::join(own, Namespace::Mount.into())?;
    answer
}

/// A clone of a tree of the host for which the plan saw no need.
pub(super) fn late(state: &State<'_>, source: &CStr, recursive: bool) -> Answer<OwnedFd> {
    let tree = abroad(state, || mount::clone_tree(cwd(), source, recursive, true))?;
    if state.get(Slot::MOUNTS).is_ok() {
        receive(state, tree.as_fd(), recursive)?;
    }
    Ok(tree)
}

/// A clone without the mount namespaces that are mounted in it, which the kernel lets nobody attach (`ELOOP`). In a copy
/// of the whole namespace they would not have been.
pub(super) fn without_namespaces(state: &State<'_>, tree: BorrowedFd<'_>) -> Answer<OwnedFd> {
    abroad(state, || {
        let copy = mount::namespace_of_tree(tree, c"")?;
        ns::join(copy.as_fd(), Namespace::Mount.into())?;
        mount::clone_tree(cwd(), c"/", true, true)
    })
}
