//! A mount namespace created from the root alone: clones that are made on the host before it is entered, and those that turn out to
//! be needed later.
//!
//! The root and the clones are copies of mounts that may be shared with the host. Their propagation is set to what it would be in a
//! copy of the whole mount namespace.

use super::{State, StepResult};
use crate::abi::mount::MountAttr;
use crate::abi::ns::Namespace;
use crate::plan::step::Slot;
use crate::sys::file::{self, cwd};
use crate::sys::{Answer, Errno, mount, ns, socket};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Creates the namespace. From the working directory, so that no descriptor of the host's root is left.
pub(super) fn new(path: &CStr, propagation: u64, state: &mut State<'_>) -> StepResult {
    state.propagation = propagation;
    file::chdir(path)?;
    let made = bindable(state, || mount::namespace_of_tree(cwd(), c"."))?;
    state.put(Slot::MOUNTS, made);
    Ok(())
}

/// A tree of the host that is cloned.
pub(super) struct HostTree<'a> {
    pub(super) source: &'a CStr,
    /// With everything mounted below it.
    pub(super) recursive: bool,
    /// A link is cloned itself.
    pub(super) nofollow: bool,
    /// What is cloned where the source is not there.
    pub(super) fallback: Option<&'a CStr>,
}

/// Clones a path of the host. `propagation_follows`: a later step sets the propagation.
pub(super) fn ahead(state: &mut State<'_>, slot: Slot, host: &HostTree<'_>, propagation_follows: bool) -> StepResult {
    let tree = bindable(state, || clone_of_host(host))?;
    if !propagation_follows {
        receive(state, tree.as_fd(), host.recursive)?;
    }
    state.put(slot, tree);
    Ok(())
}

/// A clone of a path of the host, or of `fallback` if it does not exist.
pub(super) fn clone_of_host(host: &HostTree<'_>) -> Result<OwnedFd, Errno> {
    match (mount::clone_tree(cwd(), host.source, host.recursive, !host.nofollow), host.fallback) {
        (Err(Errno::ENOENT), Some(fallback)) => mount::clone_tree(cwd(), fallback, host.recursive, true),
        (answer, _) => answer,
    }
}

/// Sets the propagation of a clone: mounts of the host may propagate to it, none back.
fn receive(state: &State<'_>, tree: BorrowedFd<'_>, recursive: bool) -> Answer<()> {
    let attr = MountAttr { propagation: state.propagation, ..MountAttr::default() };
    mount::set_attr(tree, &attr, recursive)
}

/// Clones even an unbindable mount: if it is refused, copies the whole mount namespace first and makes all of it a slave, as the
/// usual way does.
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

/// Does something in the mount namespace of the host half, which created our sync socket; if ours is a copy of that one, does it
/// here.
fn in_host_mount_ns<T>(state: &State<'_>, act: impl FnOnce() -> Answer<T>) -> Answer<T> {
    let Ok(own) = state.get(Slot::MOUNTS) else { return act() };
    ns::join(socket::peer(state.socket)?.as_fd(), Namespace::Mount.into())?;
    let answer = act();
    ns::join(own, Namespace::Mount.into())?;
    answer
}

/// A clone of a path of the host that the plan did not provide for.
pub(super) fn late(state: &State<'_>, source: &CStr, recursive: bool) -> Answer<OwnedFd> {
    let tree = in_host_mount_ns(state, || mount::clone_tree(cwd(), source, recursive, true))?;
    if state.get(Slot::MOUNTS).is_ok() {
        receive(state, tree.as_fd(), recursive)?;
    }
    Ok(tree)
}

/// A clone without the mount namespace files (nsfs) that are mounted in it: the kernel refuses to attach them (`ELOOP`), and a copy
/// of the whole namespace would not have had them.
pub(super) fn without_namespaces(state: &State<'_>, tree: BorrowedFd<'_>) -> Answer<OwnedFd> {
    in_host_mount_ns(state, || {
        let copy = mount::namespace_of_tree(tree, c"")?;
        ns::join(copy.as_fd(), Namespace::Mount.into())?;
        mount::clone_tree(cwd(), c"/", true, true)
    })
}
