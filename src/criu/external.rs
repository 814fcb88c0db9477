//! External mounts: those that the plan clones from the host. CRIU must not save them; it gets them again at the restore.
//! Pure. Checkpoint and restore make the same plan, so the names agree. They are runc's, whose images can be restored here.

#![allow(clippy::wildcard_enum_match_arm, reason = "of a plan's steps only those that mount are looked at")]

use crate::abi::ns::Namespace;
use crate::error::{Error, Result};
use crate::plan::step::Step;
use crate::plan::{Open, Plan};
use crate::spec::namespace_kind;
use oci_spec::runtime::Spec;
use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// CRIU's key of all masked files, which is also what is mounted over them.
pub(super) const NULL: &str = "/dev/null";

/// A mount in the order of the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mounted {
    /// The mount point, inside the root.
    pub(super) target: PathBuf,
    /// The path on the host that is bound there; `None` for a file system of the container's own.
    pub(super) source: Option<PathBuf>,
}

fn path(text: &CStr) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(text.to_bytes()))
}

/// The mounts that a plan makes.
pub(super) fn mounts(plan: &Plan) -> Vec<Mounted> {
    let mut mounts = Vec::new();
    let mut cloned = None;
    for step in &plan.steps {
        match step {
            Step::Clone { source, .. } | Step::Take { source, .. } => cloned = Some(path(source)),
            Step::Attach { target, .. } => mounts.push(Mounted { target: path(target), source: cloned.take() }),
            Step::Mount { target, .. } | Step::MountCgroup { target, .. } => {
                mounts.push(Mounted { target: path(target), source: None });
            }
            _ => {}
        }
    }
    mounts
}

/// Refuses what CRIU can't restore: it knows no id-mapped mounts, and would restore them without the mapping; and of a
/// container in its caller's mount namespace it would save all mounts of the host.
///
/// # Errors
/// The plan has a mount with mapped ids, or no mount namespace.
pub(super) fn refuse(plan: &Plan) -> Result<()> {
    if plan.root.is_some() {
        let text = "a container without a mount namespace of its own can't be checkpointed or restored";
        return Err(Error::msg(text).with_hint("linux.namespaces has no mount: CRIU would save the host's mounts"));
    }
    let by_host = plan.opens.iter().find_map(|(_, open)| match open {
        Open::Tree { source, mapped: Some(_), .. } => Some(source),
        _ => None,
    });
    let by_init = plan.steps.iter().find_map(|step| match step {
        Step::IdMap { source, .. } => Some(source),
        _ => None,
    });
    match by_host.or(by_init) {
        Some(source) => {
            let text = format!("the mount of {} is id-mapped, which CRIU can't restore", source.to_string_lossy());
            Err(Error::msg(text))
        }
        None => Ok(()),
    }
}

/// The paths that a plan masks.
pub(super) fn masked(plan: &Plan) -> Vec<PathBuf> {
    let masked = plan.steps.iter().filter_map(|step| match step {
        Step::Mask { path: masked, .. } => Some(path(masked)),
        _ => None,
    });
    masked.collect()
}

/// The path of a namespace that the container joins, if it joins one of this kind.
pub(super) fn namespace(spec: &Spec, kind: Namespace) -> Option<&Path> {
    let list = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    let entry = list.into_iter().flatten().find(|entry| namespace_kind(entry.typ()) == kind)?;
    entry.path().as_deref().filter(|path| !path.as_os_str().is_empty())
}

/// In which directory of the host a mount point must exist, and its path there: in the root, or in the bind mount around it.
/// `None` if it is in a file system of the container's own, which CRIU restores.
pub(super) fn point<'a>(mounts: &'a [Mounted], of: usize, rootfs: &'a Path) -> Option<(&'a Path, &'a Path)> {
    let target = &mounts[of].target;
    let around = mounts[..of].iter().filter(|mount| target.starts_with(&mount.target) && mount.target != *target);
    match around.max_by_key(|mount| mount.target.components().count()) {
        None => Some((rootfs, target.strip_prefix("/").unwrap_or(target))),
        Some(Mounted { target: above, source: Some(source) }) => {
            Some((source, target.strip_prefix(above).unwrap_or(target)))
        }
        Some(Mounted { source: None, .. }) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mounted(target: &str, source: Option<&str>) -> Mounted {
        Mounted { target: target.into(), source: source.map(PathBuf::from) }
    }

    #[test]
    fn a_mount_point_lies_in_the_mount_around_it() {
        let list = [
            mounted("/proc", None),
            mounted("/data", Some("/srv/a")),
            mounted("/data/x/y", Some("/srv/b")),
            mounted("/data/x/y/z", Some("/srv/c")),
            mounted("/proc/cpuinfo", Some("/srv/cpu")),
            mounted("/database", Some("/srv/d")),
        ];
        let place = |of| point(&list, of, Path::new("/r")).map(|(root, path)| (root.to_str(), path.to_str()));
        assert_eq!(place(0), Some((Some("/r"), Some("proc"))));
        assert_eq!(place(1), Some((Some("/r"), Some("data"))));
        assert_eq!(place(2), Some((Some("/srv/a"), Some("x/y"))));
        assert_eq!(place(3), Some((Some("/srv/b"), Some("z"))));
        assert_eq!(place(4), None);
        assert_eq!(place(5), Some((Some("/r"), Some("database"))));
    }
}
