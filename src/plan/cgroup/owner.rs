//! Whom the container's cgroup is given to.
//!
//! Pure.

use oci_spec::runtime::{LinuxIdMapping, LinuxNamespaceType, Mount, Spec};
use std::path::{Component, Path};

/// The host's number of the user who gets the container's cgroup: the payload's, if it sees its own cgroup in a
/// namespace of its own and may write to it. `None` if nobody gets it, or that user has no number on the host.
#[must_use]
pub fn owner(spec: &Spec) -> Option<u32> {
    let linux = spec.linux().as_ref()?;
    let namespaces = linux.namespaces().as_deref().unwrap_or_default();
    let new = |kind| namespaces.iter().any(|n| n.typ() == kind && n.path().is_none());
    let writable = spec.mounts().iter().flatten().any(is_writable_cgroup);
    if !new(LinuxNamespaceType::Cgroup) || !writable {
        return None;
    }
    let inside = spec.process().as_ref().map_or(0, |process| process.user().uid());
    if !namespaces.iter().any(|n| n.typ() == LinuxNamespaceType::User) {
        return Some(inside);
    }
    linux.uid_mappings().iter().flatten().find_map(|map| mapped(map, inside))
}

fn is_writable_cgroup(mount: &Mount) -> bool {
    let place: Vec<_> = mount.destination().components().filter(|part| *part != Component::CurDir).collect();
    let is_there = place == Path::new("/sys/fs/cgroup").components().collect::<Vec<_>>();
    let of_cgroups = mount.typ().as_deref().is_some_and(|typ| typ == "cgroup" || typ == "cgroup2");
    // of contradicting options the last one holds
    let last = mount.options().iter().flatten().rfind(|option| *option == "ro" || *option == "rw");
    is_there && of_cgroups && last.is_none_or(|option| option == "rw")
}

fn mapped(map: &LinuxIdMapping, inside: u32) -> Option<u32> {
    let offset = inside.checked_sub(map.container_id()).filter(|offset| *offset < map.size())?;
    map.host_id().checked_add(offset)
}

#[cfg(test)]
mod tests {
    use super::owner;
    use oci_spec::runtime::Spec;
    use serde_json::{Value, json};

    fn spec(options: &[&str], namespaces: Value, uid: u32) -> Spec {
        serde_json::from_value(json!({
            "ociVersion": "1.0.0",
            "process": {"user": {"uid": uid, "gid": 0}, "cwd": "/", "args": ["x"]},
            "mounts": [{"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": options}],
            "linux": {"namespaces": namespaces, "uidMappings": [{"containerID": 0, "hostID": 100_000, "size": 10}]},
        }))
        .unwrap()
    }

    #[test]
    fn owners() {
        let cgroup = json!([{"type": "cgroup"}]);
        let user = json!([{"type": "cgroup"}, {"type": "user"}]);
        let table = [
            (spec(&["rw"], user.clone(), 0), Some(100_000)),
            (spec(&[], user.clone(), 7), Some(100_007)),
            (spec(&["ro", "rw"], user.clone(), 0), Some(100_000)),
            (spec(&["rw", "ro"], user.clone(), 0), None),
            (spec(&["ro"], user.clone(), 0), None),
            (spec(&["rw"], user, 10), None),
            (spec(&["rw"], cgroup, 7), Some(7)),
            (spec(&["rw"], json!([{"type": "cgroup", "path": "/x"}]), 0), None),
            (spec(&["rw"], json!([]), 0), None),
        ];
        for (i, (spec, want)) in table.into_iter().enumerate() {
            assert_eq!(owner(&spec), want, "case {i}");
        }
    }
}
