//! The root: how mounts propagate, where the root lies, and how it becomes `/`.

use super::image::c_string;
use super::namespaces::Chosen;
use super::step::{Slot, Step, Str};
use super::{Open, Plan};
use crate::abi::mount::{MS_PRIVATE, MS_REC, MS_SHARED, MS_SLAVE, MS_UNBINDABLE, MountAttr};
use crate::error::{Error, Result};
use oci_spec::runtime::Spec;
use std::path::Path;

/// What `linux.rootfsPropagation` says.
pub(super) fn propagation(spec: &Spec) -> Result<Option<u64>> {
    let Some(name) = spec.linux().as_ref().and_then(|l| l.rootfs_propagation().as_deref()) else { return Ok(None) };
    Ok(Some(match name {
        "" => return Ok(None),
        "shared" => MS_SHARED,
        "rshared" => MS_SHARED | MS_REC,
        "slave" => MS_SLAVE,
        "rslave" => MS_SLAVE | MS_REC,
        "private" => MS_PRIVATE,
        "rprivate" => MS_PRIVATE | MS_REC,
        "unbindable" => MS_UNBINDABLE,
        "runbindable" => MS_UNBINDABLE | MS_REC,
        other => {
            let text = format!("rootfsPropagation={other:?} is not supported");
            return Err(Error::spec("linux.rootfsPropagation", text));
        }
    }))
}

/// The root that the host is to mount for a container in the host's mount namespace: what is mounted in it goes with it.
/// None where nothing is mounted.
///
/// # Errors
/// A user namespace, of which nobody may mount there.
pub(super) fn here(spec: &Spec, rootfs: &Path, chosen: &Chosen, mounts: bool) -> Result<Option<Str>> {
    let readonly = spec.root().as_ref().and_then(oci_spec::runtime::Root::readonly).unwrap_or_default();
    if chosen.mount || !(mounts || readonly) {
        return Ok(None);
    }
    if chosen.user {
        let at = if mounts { "mounts" } else { "root.readonly" };
        return Err(Error::spec(at, "mounts need a mount namespace in linux.namespaces, where there is one of users"));
    }
    c_string("root.path", rootfs.as_os_str().as_encoded_bytes()).map(Some)
}

/// How the root is come by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source {
    /// The host clones it.
    pub(super) by_host: bool,
    /// The host's paths mean nothing where init is.
    pub(super) hidden: bool,
    /// The host has mounted it.
    pub(super) here: bool,
}

/// Steps until the root is a mount of its own, in slot `ROOT`.
///
/// # Errors
/// A root that is not named, or a propagation that does not exist.
pub(super) fn open(
    spec: &Spec,
    rootfs: &Path,
    chosen: &Chosen,
    source: Source,
    opens: &mut Vec<(Slot, Open)>,
    slots: &mut u16,
) -> Result<Vec<Step>> {
    let path = c_string("root.path", rootfs.as_os_str().as_encoded_bytes())?;
    if !chosen.mount {
        // one that the host has mounted stays beside the host's until everything is in it
        return Ok(if source.here { Vec::new() } else { vec![Step::Chroot(path)] });
    }
    let asked = propagation(spec)?;
    // what is mounted must not reach the host; a root that is to share makes itself shared again behind the pivot
    let first = asked.filter(|flags| flags & MS_UNBINDABLE == 0).unwrap_or(MS_SLAVE | MS_REC);
    let mut steps = vec![Step::Propagate(first)];
    if first & MS_SHARED != 0 || first & MS_REC == 0 {
        steps.push(Step::PrivateParent(if source.hidden { c"/".to_owned() } else { path.clone() }));
    }
    let tree = Open::Tree { source: path.clone(), recursive: true, mapped: None, instead: None, shares: false };
    let tree = source.by_host.then(|| Plan::open(opens, slots, tree));
    steps.push(Step::OpenRoot { path, tree, over: source.hidden });
    if let Some(flags) = asked.filter(|flags| source.by_host && flags & MS_PRIVATE != 0) {
        // the host's clone receives what the host mounts
        let attr = MountAttr { propagation: MS_PRIVATE, ..MountAttr::default() };
        steps.push(Step::Attr { slot: Slot::ROOT, attr, recursive: flags & MS_REC != 0 });
    }
    Ok(steps)
}

/// Steps that make the root `/`; `stays`: what lies underneath stays in the mount namespace, with these instances of proc
/// and sysfs.
///
/// # Errors
/// As [`open`].
pub(super) fn pivot(spec: &Spec, chosen: &Chosen, here: bool, stays: Option<&[Str]>) -> Result<Vec<Step>> {
    let asked = propagation(spec)?;
    if !chosen.mount {
        let mut steps = Vec::new();
        if here {
            steps.push(Step::EnterRoot);
            steps.extend(asked.map(Step::Propagate));
        }
        return Ok(steps);
    }
    let shared = asked.is_some_and(|flags| flags & MS_SHARED != 0 || flags & MS_REC == 0);
    let mut steps: Vec<_> =
        stays.into_iter().flatten().map(|path| Step::Conceal { path: path.clone(), shared }).collect();
    steps.push(if stays.is_some() { Step::MoveRoot } else { Step::Pivot { cut: shared } });
    if let Some(flags) = asked.filter(|flags| flags & (MS_SHARED | MS_UNBINDABLE) != 0) {
        steps.push(Step::Propagate(flags));
    }
    Ok(steps)
}
