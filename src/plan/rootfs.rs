//! The root: how mounts propagate, where the root lies, and how it becomes `/`.

use super::image::c_string;
use super::namespaces::Chosen;
use super::step::{Slot, Step, Str};
use super::{Open, Plan};
use crate::abi::mount::{MS_PRIVATE, MS_REC, MS_SHARED, MS_SLAVE, MS_UNBINDABLE, MountAttr};
use crate::error::{Error, Result};
use crate::spec::Config;
use oci_spec::runtime::Root;

/// The root that the host is to mount for a container in the host's mount namespace: what is mounted in it goes with it.
/// None where nothing is mounted.
///
/// # Errors
/// A user namespace, of which nobody may mount there.
pub(super) fn here(config: &Config, chosen: &Chosen, mounts: bool) -> Result<Option<Str>> {
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
/// A zero byte in the path.
pub(super) fn open(
    config: &Config,
    chosen: &Chosen,
    source: Source,
    opens: &mut Vec<(Slot, Open)>,
    slots: &mut u16,
) -> Result<Vec<Step>> {
    let path = c_string("root.path", config.rootfs.as_os_str().as_encoded_bytes())?;
    if !chosen.mount {
        // one that the host has mounted stays beside the host's until everything is in it
        return Ok(if source.here { Vec::new() } else { vec![Step::Chroot(path)] });
    }
    let asked = config.propagation;
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
pub(super) fn pivot(asked: Option<u64>, chosen: &Chosen, here: bool, stays: Option<&[Str]>) -> Vec<Step> {
    if !chosen.mount {
        let mut steps = Vec::new();
        if here {
            steps.push(Step::EnterRoot);
            steps.extend(asked.map(Step::Propagate));
        }
        return steps;
    }
    let shared = asked.is_some_and(|flags| flags & MS_SHARED != 0 || flags & MS_REC == 0);
    let mut steps: Vec<_> =
        stays.into_iter().flatten().map(|path| Step::Conceal { path: path.clone(), shared }).collect();
    steps.push(if stays.is_some() { Step::MoveRoot } else { Step::Pivot { cut: shared } });
    if let Some(flags) = asked.filter(|flags| flags & (MS_SHARED | MS_UNBINDABLE) != 0) {
        steps.push(Step::Propagate(flags));
    }
    steps
}
