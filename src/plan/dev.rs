//! Which mount is the container's `/dev`.

use crate::spec::{MountEntry, MountKind};
use std::collections::HashSet;

/// The container's `/dev`.
#[derive(Debug, Default)]
pub(super) struct Dev {
    /// It is ours to fill.
    pub(super) own: bool,
    /// Where in the list the mount is that is filled: the last one on `/dev`.
    pub(super) mount: Option<usize>,
    /// That mount is a tmpfs, in which there is nothing at first.
    pub(super) is_empty: bool,
    /// Where in the list the mounts are whose targets are new directories directly below an empty `/dev`.
    pub(super) new_dirs: HashSet<usize>,
}

impl Dev {
    /// Finds the container's `/dev` in its mounts; `has_place`: there is a mount namespace or a root where it can be filled.
    #[must_use]
    pub(super) fn of(mounts: &[MountEntry], has_place: bool) -> Self {
        let on_dev = |mount: &&MountEntry| mount.target == "/dev";
        let Some(last) = mounts.iter().rposition(|mount| on_dev(&mount)) else {
            return Self { own: has_place, ..Self::default() };
        };
        // there is one devtmpfs on a machine, which shows the same nodes wherever it is mounted
        let hosts = mounts.iter().filter(on_dev).any(|mount| mount.is_bind() || mount.typ == "devtmpfs");
        let own = has_place && !hosts;
        let is_empty = mounts[last].typ == "tmpfs" && !mounts[last].options.copy_up;
        let is_lone = mounts.iter().filter(on_dev).count() == 1;
        let is_new = mounts[last].kind() == MountKind::New;
        let new_dirs = if own && is_lone && is_empty && is_new { new_dirs(mounts, last) } else { HashSet::new() };
        Self { own, mount: Some(last), is_empty, new_dirs }
    }
}

fn new_dirs(mounts: &[MountEntry], dev: usize) -> HashSet<usize> {
    let mut names = HashSet::new();
    let mut new = HashSet::new();
    for (i, mount) in mounts.iter().enumerate().skip(dev + 1) {
        let Some(below) = mount.target.strip_prefix("/dev/") else { continue };
        let name = below.split('/').next().unwrap_or(below);
        let is_new = names.insert(name) && name == below;
        // a procfs or a sysfs is mounted with more care
        if is_new && mount.kind() == MountKind::New && !matches!(mount.typ.as_str(), "proc" | "sysfs") {
            new.insert(i);
        }
    }
    new
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec;
    use serde_json::json;
    use std::path::Path;

    /// What is found in mounts that are given as target, type, and an option.
    fn dev(mounts: &[[&str; 3]]) -> Dev {
        let mounts = mounts.iter().map(
            |[target, typ, option]| json!({"destination": target, "type": typ, "source": "/x", "options": [option]}),
        );
        let mut document: serde_json::Value = serde_json::from_str(&spec::template(None, true)).unwrap();
        document["mounts"] = mounts.collect::<Vec<_>>().into();
        let loaded = spec::config(document.to_string().into_bytes(), Path::new("config.json")).unwrap();
        Dev::of(&spec::check(loaded, Path::new("/bundle"), true).unwrap().mounts, true)
    }

    #[test]
    fn only_names_that_nothing_has_used_are_new() {
        const DEV: [&str; 3] = ["/dev/", "tmpfs", "nosuid"];
        let new = |more: &[[&str; 3]]| {
            let mut new: Vec<_> = dev(&[&[DEV], more].concat()).new_dirs.into_iter().collect();
            new.sort_unstable();
            new
        };
        assert_eq!(new(&[["/dev/pts", "devpts", "rw"], ["/dev//shm/.", "tmpfs", "rw"]]), [1, 2]);
        assert_eq!(new(&[["/dev/a", "tmpfs", "rw"], ["/dev/a", "tmpfs", "rw"]]), [1]);
        // a bind mount and a mount further down make the directory too
        assert_eq!(new(&[["/dev/a", "none", "rbind"], ["/dev/a", "tmpfs", "rw"]]), [0; 0]);
        assert_eq!(new(&[["/dev/a/b", "tmpfs", "rw"], ["/dev/a", "tmpfs", "rw"]]), [0; 0]);
        assert_eq!(new(&[["/dev/a", "proc", "rw"], ["/deva", "tmpfs", "rw"]]), [0; 0]);
        // something else than one empty tmpfs
        for odd in [DEV, ["/dev", "tmpfs", "remount"]] {
            assert_eq!(new(&[odd, ["/dev/a", "tmpfs", "rw"]]), [0; 0]);
        }
        for first in [["/dev", "tmpfs", "tmpcopyup"], ["/dev", "none", "bind"], ["/dev", "devtmpfs", "rw"]] {
            assert!(dev(&[first, ["/dev/a", "tmpfs", "rw"]]).new_dirs.is_empty(), "{first:?}");
        }
    }

    #[test]
    fn the_host_s_dev_is_not_ours_to_fill() {
        let own = |mounts: &[[&str; 3]]| dev(mounts).own;
        assert!(own(&[]) && own(&[["/dev", "tmpfs", "rw"]]));
        assert!(!own(&[["/dev/.", "none", "rbind"]]) && !own(&[["/dev", "devtmpfs", "rw"]]));
        assert!(!own(&[["/dev", "bind", "rw"], ["/dev", "tmpfs", "rw"]]));
    }
}
