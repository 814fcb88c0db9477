//! The way into a mount namespace that is made of the root alone (`OPEN_TREE_NAMESPACE`, Linux 7.0).
//!
//! It copies none of the host's mounts, whose number it does not feel, and leaves no old root to be unmounted, which waits
//! for a grace period of the kernel. In exchange the host's tree is out of reach as soon as it is entered: what is bound
//! from there is cloned ahead. A bundle in which somebody could tell the difference goes the old way.

#![allow(clippy::wildcard_enum_match_arm, reason = "of a plan's steps only those that mount are looked at")]

use super::step::{Slot, Step, Str};
use crate::abi::mount::{MS_PRIVATE, MS_REC, MS_SLAVE, MS_UNBINDABLE};
use crate::abi::ns::Namespace;
use oci_spec::runtime::{Hooks, Spec};
use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

/// Each clone is a descriptor that waits, and callers may have as few as 256.
const MOST: usize = 128;

/// Whether the specification lets the namespace be made of the root alone. Not with hooks that are to find the root where
/// the host has it, before it is `/` (runtime.md, Lifecycle, step 7; config.md, createContainer Hooks).
#[must_use]
pub(super) fn allowed(spec: &Spec) -> bool {
    let hooks = spec.hooks().as_ref();
    let some = |list: &Option<Vec<_>>| list.as_ref().is_some_and(|list| !list.is_empty());
    #[allow(deprecated)] // bundles still have them
    let early =
        |hooks: &Hooks| some(hooks.prestart()) || some(hooks.create_runtime()) || some(hooks.create_container());
    !hooks.is_some_and(early)
}

/// Whether the mounts of a bundle come out the same, which are planned for the old way.
#[must_use]
pub(super) fn fits(mounts: &[Step], rootfs: &Path) -> bool {
    let mut targets = HashSet::new();
    let mut clones = 0;
    mounts.iter().all(|step| match step {
        Step::Clone { source, recursive, .. } => {
            clones += 1;
            clones <= MOST && !(*recursive && may_hold(source, rootfs))
        }
        // of two mounts on one place the later is listed later, and lists are read for that
        Step::Attach { target, .. } | Step::Mount { target, .. } | Step::MountCgroup { target, .. } => {
            targets.insert(target.as_c_str())
        }
        _ => true,
    })
}

/// Whether the root lies in a tree that is bound: it would be seen there together with what is mounted in it.
fn may_hold(source: &Str, rootfs: &Path) -> bool {
    let source = Path::new(OsStr::from_bytes(source.to_bytes()));
    rootfs.starts_with(source)
        || [source, rootfs].iter().any(|path| path.components().any(|c| c == Component::ParentDir))
}

/// The steps up to the root in slot `ROOT`, in a namespace of its own; in `mounts` the clones that are made ahead are
/// taken instead.
#[must_use]
pub(super) fn open(path: Str, propagation: u64, mounts: &mut [Step], slots: &mut u16) -> Vec<Step> {
    // first, so that the root and what comes with it are the first in the list of mounts
    let mut steps = vec![Step::NewTree { path, propagation }];
    for i in 0..mounts.len() {
        let settled = settled(&mounts[i..]);
        if let Step::Clone { source, recursive, instead } = &mut mounts[i] {
            let slot = Slot(*slots);
            *slots = slots.saturating_add(1);
            let (source, instead) = (source.clone(), instead.take());
            steps.push(Step::CloneAhead { slot, source: source.clone(), recursive: *recursive, instead, settled });
            mounts[i] = Step::Take { slot, source };
        }
    }
    steps.push(Step::Enter(Slot::MOUNTS, Namespace::Mount));
    steps.push(Step::Propagate(propagation));
    steps.push(Step::TakeRoot);
    steps
}

/// Whether the steps behind a clone cut all of it off from the host, whatever it was.
fn settled(mounts: &[Step]) -> bool {
    let Some(Step::Clone { recursive: deep, .. }) = mounts.first() else { return false };
    mounts.iter().take_while(|step| !matches!(step, Step::Attach { .. })).any(|step| match step {
        Step::Attr { attr, recursive, .. } => {
            attr.propagation & (MS_PRIVATE | MS_UNBINDABLE) != 0 && (*recursive || !*deep)
        }
        _ => false,
    })
}

/// How mounts that come from the host propagate, if that is the same for all of them.
#[must_use]
pub(super) fn propagation(asked: Option<u64>) -> Option<u64> {
    let flags = asked.unwrap_or(MS_SLAVE | MS_REC);
    [MS_SLAVE | MS_REC, MS_PRIVATE | MS_REC].contains(&flags).then_some(flags)
}
