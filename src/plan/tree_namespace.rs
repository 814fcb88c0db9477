//! A mount namespace that is made of the root alone (`OPEN_TREE_NAMESPACE`, Linux 7.0).
//!
//! Unlike `CLONE_NEWNS` it does not copy the host's mounts, so its cost does not grow with their number, and there is no old
//! root to unmount, which waits for an RCU grace period. In exchange the host's tree is out of reach once the namespace is
//! entered: what is bound from there is cloned before. A bundle that could tell the difference is set up the other way.

use super::mounts::CgroupTree;
use super::planner::{Bound, Planner};
use super::step::{Slot, Step, Str};
use crate::abi::mount::{MS_PRIVATE, MS_REC, MS_SLAVE};
use crate::abi::ns::Namespace;
use crate::spec::MountKind;
use oci_spec::runtime::{Hooks, Spec};
use std::borrow::Cow;
use std::collections::HashSet;
use std::path::{Component, Path};

/// The most trees that are cloned ahead: each is an open descriptor, and callers may have as few as 256.
const MOST: usize = 128;

/// Whether no hook has to find the root where the host has it, before it is `/` (runtime.md, Lifecycle, step 7; config.md,
/// createContainer Hooks).
#[must_use]
pub(super) fn hooks_allow(spec: &Spec) -> bool {
    let hooks = spec.hooks().as_ref();
    let some = |list: &Option<Vec<_>>| list.as_ref().is_some_and(|list| !list.is_empty());
    #[allow(deprecated)] // bundles still have them
    let early =
        |hooks: &Hooks| some(hooks.prestart()) || some(hooks.create_runtime()) || some(hooks.create_container());
    !hooks.is_some_and(early)
}

/// Whether the mount namespace is made of the root alone: then, how mounts that come from the host propagate, which must be
/// the same for all of them.
#[must_use]
pub(super) fn propagation(planner: &Planner<'_>) -> Option<u64> {
    let able = planner.facts.namespaces_of_trees && !planner.request.options.no_pivot;
    let own = planner.chosen.clone_spec.new.has(Namespace::Mount) && !planner.chosen.user;
    if !(able && own && hooks_allow(&planner.config.spec) && fits(planner)) {
        return None;
    }
    let flags = planner.config.propagation.unwrap_or(MS_SLAVE | MS_REC);
    [MS_SLAVE | MS_REC, MS_PRIVATE | MS_REC].contains(&flags).then_some(flags)
}

/// Whether the mounts come out the same as the other way.
fn fits(planner: &Planner<'_>) -> bool {
    let (mut targets, mut clones) = (HashSet::new(), 0);
    let mut may_clone = |source: &Path, recursive: bool| {
        clones += 1;
        clones <= MOST && !(recursive && may_hold(source, &planner.config.rootfs))
    };
    planner.mounts.iter().all(|mount| {
        let kind = mount.kind();
        // with two mounts on one target their order in mountinfo, which matters to readers, would differ
        let lone = matches!(kind, MountKind::Remount | MountKind::RemountBind)
            || targets.insert(Cow::Borrowed(mount.target.as_str()));
        let fits = match (kind, planner.request.cgroups) {
            (MountKind::Bind, _) => match planner.bound(mount) {
                Bound::InRoot(_) => true,
                Bound::OfHost(source) => may_clone(&source, mount.options.set & MS_REC != 0),
            },
            (MountKind::Cgroup, CgroupTree::Legacy(hierarchies)) => hierarchies.iter().all(|hierarchy| {
                let free = targets.insert(Cow::Owned(format!("{}/{}", mount.target, hierarchy.folder())));
                free && (planner.has_cgroup_namespace() || may_clone(&hierarchy.directory, true))
            }),
            (MountKind::Cgroup | MountKind::New | MountKind::Remount | MountKind::RemountBind, _) => true,
        };
        lone && fits
    })
}

/// Whether the root may lie in a tree that is bound: there it would be seen together with what is mounted in it.
fn may_hold(source: &Path, rootfs: &Path) -> bool {
    rootfs.starts_with(source)
        || [source, rootfs].iter().any(|path| path.components().any(|c| c == Component::ParentDir))
}

/// The steps up to the root in slot `ROOT`, in a namespace of its own; `clones` are made before it is entered.
pub(super) fn open(path: Str, propagation: u64, clones: Vec<Step>) -> impl Iterator<Item = Step> {
    // the root comes first, so that it and what comes with it are the first in the list of mounts
    let first = [Step::NewTree { path, propagation }];
    let last = [Step::Setns(Slot::MOUNTS, Namespace::Mount), Step::Propagate(propagation), Step::TakeRoot];
    first.into_iter().chain(clones).chain(last)
}
