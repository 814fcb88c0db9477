//! A mount namespace that is created from the root alone (`OPEN_TREE_NAMESPACE`, Linux 7.0).
//!
//! Unlike `CLONE_NEWNS` it does not copy the host's mounts, so its cost does not grow with their number, and there is no old
//! root to unmount, which waits for an RCU grace period. In exchange, the host's tree can't be reached from the namespace:
//! sources of bind mounts are cloned before it is entered. Where the result would differ, the plan uses `CLONE_NEWNS`.

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

/// How many sources are cloned in advance at most: each is an open descriptor, and a caller's limit may be as low as 256.
const MOST: usize = 128;

/// Whether no hook needs the root at its path on the host, before the pivot (runtime.md, Lifecycle, step 7; config.md,
/// createContainer Hooks).
#[must_use]
pub(super) fn hooks_allow(spec: &Spec) -> bool {
    let hooks = spec.hooks().as_ref();
    let some = |list: &Option<Vec<_>>| list.as_ref().is_some_and(|list| !list.is_empty());
    #[allow(deprecated)] // `prestart`
    let early =
        |hooks: &Hooks| some(hooks.prestart()) || some(hooks.create_runtime()) || some(hooks.create_container());
    !hooks.is_some_and(early)
}

/// Whether the mount namespace is created from the root alone: if so, the propagation of mounts that are cloned from the host,
/// which must be the same for all.
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

/// Whether the resulting mounts are the same as with `CLONE_NEWNS`.
fn fits(planner: &Planner<'_>) -> bool {
    let (mut targets, mut clones) = (HashSet::new(), 0);
    let mut may_clone = |source: &Path, recursive: bool| {
        clones += 1;
        clones <= MOST && !(recursive && may_hold(source, &planner.config.rootfs))
    };
    planner.mounts.iter().all(|mount| {
        let kind = mount.kind();
        // with two mounts on one target their order in mountinfo would differ
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

/// Whether the root may lie inside a source of a bind mount: there its mounts would be visible, too.
fn may_hold(source: &Path, rootfs: &Path) -> bool {
    rootfs.starts_with(source)
        || [source, rootfs].iter().any(|path| path.components().any(|c| c == Component::ParentDir))
}

/// The steps up to the root in slot `ROOT`, in a namespace of its own; `clones` are made before it is entered.
///
/// `propagation` is that of the clones, `root` the root's own.
pub(super) fn open(path: Str, propagation: u64, root: u64, clones: Vec<Step>) -> impl Iterator<Item = Step> {
    // the root comes first, so that its mounts come first in mountinfo
    let first = [Step::NewTree { path, propagation }];
    let last = [Step::Setns(Slot::MOUNTS, Namespace::Mount), Step::Propagate(root), Step::TakeRoot];
    first.into_iter().chain(clones).chain(last)
}
