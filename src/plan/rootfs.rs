//! The root: how mounts propagate, where the root lies, and how it becomes `/`.

use super::image::c_string;
use super::namespaces::Chosen;
use super::step::{Slot, Step};
use super::{Open, Plan};
use crate::abi::mount::{MS_PRIVATE, MS_REC, MS_SHARED, MS_SLAVE, MS_UNBINDABLE};
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

/// Steps until the root is a mount of its own, in slot `ROOT`; `by_host`: the host clones it.
///
/// # Errors
/// A root that is not named, or a propagation that does not exist.
pub(super) fn open(
    spec: &Spec,
    rootfs: &Path,
    chosen: &Chosen,
    by_host: bool,
    opens: &mut Vec<(Slot, Open)>,
    slots: &mut u16,
) -> Result<Vec<Step>> {
    let path = c_string("root.path", rootfs.as_os_str().as_encoded_bytes())?;
    if !chosen.mount {
        return Ok(vec![Step::Chroot(path)]);
    }
    let asked = propagation(spec)?;
    // what is mounted must not reach the host; a root that is to share makes itself shared again behind the pivot
    let first = asked.filter(|flags| flags & MS_UNBINDABLE == 0).unwrap_or(MS_SLAVE | MS_REC);
    let mut steps = vec![Step::Propagate(first)];
    if first & MS_SHARED != 0 || first & MS_REC == 0 {
        steps.push(Step::PrivateParent(path.clone()));
    }
    let tree = by_host.then(|| Plan::open(opens, slots, Open::Tree { source: path.clone(), recursive: true }));
    steps.push(Step::OpenRoot { path, tree });
    Ok(steps)
}

/// Steps that make the root `/`.
///
/// # Errors
/// As [`open`].
pub(super) fn pivot(spec: &Spec, chosen: &Chosen, no_pivot: bool) -> Result<Vec<Step>> {
    if !chosen.mount {
        return Ok(Vec::new());
    }
    let asked = propagation(spec)?;
    let shared = asked.is_some_and(|flags| flags & MS_SHARED != 0 || flags & MS_REC == 0);
    let mut steps = vec![if no_pivot { Step::MoveRoot } else { Step::Pivot { cut: shared } }];
    if let Some(flags) = asked.filter(|flags| flags & (MS_SHARED | MS_UNBINDABLE) != 0) {
        steps.push(Step::Propagate(flags));
    }
    Ok(steps)
}
