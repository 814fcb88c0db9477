//! The path of the container's cgroup: absolute, relative and absent `linux.cgroupsPath`.
//!
//! Pure.

use super::{CgroupFacts, CgroupRequest, Driver, Hierarchy, Tree};
use crate::error::{Error, Result};
use crate::spec::clean;
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

/// Whether the path depends on our own cgroup, so that `/proc/self/cgroup` must be read.
#[must_use]
pub fn wants_own(wanted: &CgroupRequest<'_>) -> bool {
    wanted.driver == Driver::Cgroupfs && !wanted.cgroups_path.is_some_and(Path::is_absolute)
}

/// The cgroup of a systemd unit in every hierarchy; `unit` is its path in each.
pub(super) fn below(unit: &Path, facts: &CgroupFacts) -> BTreeMap<String, PathBuf> {
    let mut paths: BTreeMap<String, PathBuf> = BTreeMap::new();
    if let CgroupFacts::Legacy { hierarchies, .. } = facts {
        for hierarchy in hierarchies {
            paths.extend(hierarchy.keys().map(|key| (key, hierarchy.mountpoint.join(unit))));
        }
    }
    paths.extend(facts.tree().map(|tree| (String::new(), tree.root.join(unit))));
    paths
}

/// `root` joined with `inner`, whether `inner` begins with a slash or not.
fn under(root: &Path, inner: &Path) -> PathBuf {
    root.join(inner.strip_prefix("/").unwrap_or(inner))
}

/// The container's cgroup in every hierarchy; keys as in runc's `cgroup_paths`: controller, `name=…`, `""` for cgroup2.
///
/// # Errors
/// Our own cgroup is needed, but is outside what the mount shows.
pub(super) fn paths(cgroups_path: Option<&Path>, id: &str, facts: &CgroupFacts) -> Result<BTreeMap<String, PathBuf>> {
    let inner = clean(cgroups_path.filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new(id)));
    if inner.components().all(|part| part == Component::RootDir) {
        return Err(Error::spec("linux.cgroupsPath", "is the top of the cgroup tree, which belongs to the host"));
    }
    let mut paths = BTreeMap::new();
    match facts {
        CgroupFacts::Unified(tree) => {
            // our own cgroup has a process (us), so its children can't have controllers: use a sibling
            let dir = match tree_own(tree, &inner)? {
                Some(own) => under(&under(&tree.root, own.parent().unwrap_or(Path::new("/"))), &inner),
                None => under(&tree.root, &inner),
            };
            paths.insert(String::new(), dir);
        }
        CgroupFacts::Legacy { hierarchies, unified } => {
            for hierarchy in hierarchies {
                let dir = in_hierarchy(hierarchy, &inner);
                paths.extend(hierarchy.keys().map(|key| (key, dir.clone())));
            }
            if let Some(tree) = unified {
                let top = tree_own(tree, &inner)?.map_or_else(|| tree.root.clone(), |own| under(&tree.root, &own));
                paths.insert(String::new(), under(&top, &inner));
            }
        }
    }
    Ok(paths)
}

fn in_hierarchy(hierarchy: &Hierarchy, inner: &Path) -> PathBuf {
    if inner.is_absolute() {
        return under(&hierarchy.mountpoint, inner);
    }
    under(&under(&hierarchy.mountpoint, &clean(&hierarchy.own)), inner)
}

fn tree_own(tree: &Tree, inner: &Path) -> Result<Option<PathBuf>> {
    if inner.is_absolute() {
        return Ok(None);
    }
    let Some(own) = &tree.own else {
        return Err(Error::msg("place the cgroup: our own cgroup is not known, and linux.cgroupsPath is not absolute"));
    };
    if own.starts_with("/..") {
        return Err(Error::msg(format!(
            "place the cgroup: our own cgroup {own:?} is outside of this cgroup namespace"
        ))
        .with_hint("give linux.cgroupsPath as an absolute path"));
    }
    Ok(Some(clean(own)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unified(own: &str) -> CgroupFacts {
        CgroupFacts::Unified(Tree { root: "/sys/fs/cgroup".into(), own: Some(own.into()), controllers: Vec::new() })
    }

    #[test]
    fn v2_places() {
        let cases = [
            // (cgroupsPath, our own, where)
            (Some("/a/b"), "/x/y", "/sys/fs/cgroup/a/b"),
            (Some("/a/../../b/./c"), "/x/y", "/sys/fs/cgroup/b/c"),
            (Some("a/b"), "/x/y", "/sys/fs/cgroup/x/a/b"),
            (Some("../../../a"), "/x/y", "/sys/fs/cgroup/x/a"),
            (None, "/x/y", "/sys/fs/cgroup/x/ID"),
            (None, "/", "/sys/fs/cgroup/ID"),
            (Some(""), "/x", "/sys/fs/cgroup/ID"),
        ];
        for (path, own, want) in cases {
            let got = paths(path.map(Path::new), "ID", &unified(own)).unwrap();
            assert_eq!(got, BTreeMap::from([(String::new(), PathBuf::from(want))]), "{path:?} in {own}");
        }
        for top in ["/", "..", "a/..", "/a/.."] {
            assert!(paths(Some(Path::new(top)), "ID", &unified("/x")).is_err(), "{top}");
        }
        assert!(paths(None, "ID", &unified("/../x")).is_err());
        assert!(paths(Some(Path::new("/a")), "ID", &unified("/../x")).is_ok());
    }

    #[test]
    fn v1_places() {
        let hierarchy = |controllers: &[&str], name: Option<&str>, at: &str, own: &str| Hierarchy {
            controllers: controllers.iter().map(|c| (*c).to_owned()).collect(),
            name: name.map(str::to_owned),
            mountpoint: at.into(),
            own: own.into(),
        };
        let facts = CgroupFacts::Legacy {
            hierarchies: vec![
                hierarchy(&["cpu", "cpuacct"], None, "/c/cpu,cpuacct", "/x"),
                hierarchy(&[], Some("systemd"), "/c/systemd", "/"),
            ],
            unified: Some(Tree { root: "/c/unified".into(), own: Some("/u".into()), controllers: Vec::new() }),
        };
        let table = |path: Option<&str>| -> Vec<(String, String)> {
            let got = paths(path.map(Path::new), "ID", &facts).unwrap();
            got.into_iter().map(|(k, v)| (k, v.display().to_string())).collect()
        };
        let want = |places: [&str; 4]| -> Vec<(String, String)> {
            ["", "cpu", "cpuacct", "name=systemd"]
                .iter()
                .map(|k| (*k).to_owned())
                .zip(places.map(str::to_owned))
                .collect()
        };
        assert_eq!(table(Some("/a")), want(["/c/unified/a", "/c/cpu,cpuacct/a", "/c/cpu,cpuacct/a", "/c/systemd/a"]));
        assert_eq!(
            table(None),
            want(["/c/unified/u/ID", "/c/cpu,cpuacct/x/ID", "/c/cpu,cpuacct/x/ID", "/c/systemd/ID"])
        );
    }
}
