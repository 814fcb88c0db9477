//! The root: mount propagation, opening the root, and making it `/`.

use super::image::c_string;
use super::namespaces::Chosen;
use super::planner::Planner;
use super::step::{Slot, Step, Str};
use super::{Open, tree_namespace};
use crate::abi::mount::{MS_PRIVATE, MS_REC, MS_SHARED, MS_SLAVE, MS_UNBINDABLE, MountAttr};
use crate::error::{Error, Result};
use crate::spec::Config;
use oci_spec::runtime::Root;

/// The root that the host bind mounts on itself, for a container that mounts something in the host's mount namespace: unmounting
/// it removes everything that is mounted in it. `None` if nothing is mounted.
///
/// # Errors
/// The container has a user namespace: then it can't mount in the host's mount namespace.
pub(super) fn by_host(config: &Config, chosen: &Chosen, mounts: bool) -> Result<Option<Str>> {
    let readonly = config.spec.root().as_ref().and_then(Root::readonly).unwrap_or_default();
    if chosen.mount || !(mounts || readonly) {
        return Ok(None);
    }
    if chosen.user {
        let at = if mounts { "mounts" } else { "root.readonly" };
        return Err(Error::spec(at, "a container with a user namespace needs a mount namespace to mount anything"));
    }
    c_string("root.path", config.rootfs.as_os_str().as_encoded_bytes()).map(Some)
}

/// Steps until the root is a mount of its own, in slot `ROOT`.
///
/// # Errors
/// A zero byte in the path.
pub(super) fn open(planner: &mut Planner<'_>) -> Result<Vec<Step>> {
    let config = planner.config;
    let path = c_string("root.path", config.rootfs.as_os_str().as_encoded_bytes())?;
    if let Some(propagation) = planner.root_alone {
        let clones = std::mem::take(&mut planner.clones);
        let root = config.propagation.unwrap_or(MS_PRIVATE | MS_REC);
        return Ok(tree_namespace::open(path, propagation, root, clones).collect());
    }
    let Planner { by_host, hidden, .. } = *planner;
    if !planner.chosen.mount {
        // a root that the host has mounted is entered when everything is mounted in it
        return Ok(if planner.host_root.is_some() { Vec::new() } else { vec![Step::Chroot(path)] });
    }
    let asked = config.propagation;
    // our mounts must not propagate to the host; a root with shared propagation becomes shared again after the pivot
    let first = asked.filter(|flags| flags & MS_UNBINDABLE == 0).unwrap_or(MS_SLAVE | MS_REC);
    let mut steps = vec![Step::Propagate(first)];
    if first & MS_SHARED != 0 || first & MS_REC == 0 {
        // a root that is to receive mounts of the host is cloned from what receives them
        let flags = if first & MS_SLAVE != 0 { MS_SLAVE } else { MS_PRIVATE };
        steps.push(Step::PropagateParent(if hidden { c"/".to_owned() } else { path.clone() }, flags));
    }
    let tree = Open::Tree {
        source: path.clone(),
        recursive: true,
        nofollow: false,
        mapped: None,
        fallback: None,
        shares: false,
    };
    let tree = by_host.then(|| planner.opens.open(tree));
    // by default, mounts that the host makes in the root later do not appear
    let private = asked.is_none();
    steps.push(Step::OpenRoot { path, tree, private, over: hidden });
    let flags = asked.unwrap_or(MS_PRIVATE | MS_REC);
    if by_host && flags & MS_PRIVATE != 0 {
        // the clone was made by the host and is still a slave of its source
        let attr = MountAttr { propagation: MS_PRIVATE, ..MountAttr::default() };
        steps.push(Step::Attr { slot: Slot::ROOT, attr, recursive: flags & MS_REC != 0 });
    }
    Ok(steps)
}

/// Steps that make the root `/`. With `--no-pivot` the old root stays in the mount namespace, below the new one; its instances of
/// proc and sysfs are unmounted.
pub(super) fn pivot(planner: &Planner<'_>) -> Vec<Step> {
    if planner.root_alone.is_some() {
        return Vec::new();
    }
    let asked = planner.config.propagation;
    let stays = planner.request.options.no_pivot.then_some(&*planner.facts.instances);
    if !planner.chosen.mount {
        let mut steps = Vec::new();
        if planner.host_root.is_some() {
            steps.push(Step::EnterRoot);
            steps.extend(asked.map(Step::Propagate));
        }
        return steps;
    }
    let shared = asked.is_some_and(|flags| flags & MS_SHARED != 0 || flags & MS_REC == 0);
    let mut steps: Vec<_> =
        stays.into_iter().flatten().map(|path| Step::UnmountOrCover { path: path.clone(), shared }).collect();
    steps.push(if stays.is_some() { Step::MoveRoot } else { Step::Pivot { cut: shared } });
    if let Some(flags) = asked.filter(|flags| flags & (MS_SHARED | MS_UNBINDABLE) != 0) {
        steps.push(Step::Propagate(flags));
    }
    steps
}
