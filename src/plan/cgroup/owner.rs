//! The user to whom the container's cgroup is delegated.
//!
//! Pure.

use crate::abi::mount::MS_RDONLY;
use crate::abi::ns::Namespace;
use crate::spec::{Config, MountEntry};

/// The user, as a uid of the host, to whom the container's cgroup is delegated: the payload's user, if the container has a cgroup
/// namespace and a writable cgroup mount. `None` if it is not delegated, or the user is not mapped to the host.
#[must_use]
pub fn owner(config: &Config) -> Option<u32> {
    let namespaces = &config.namespaces;
    if !namespaces.new.has(Namespace::Cgroup) || !config.mounts.iter().any(is_writable_cgroup) {
        return None;
    }
    let inside = config.spec.process().as_ref().map_or(0, |process| process.user().uid());
    if !namespaces.all.has(Namespace::User) {
        return Some(inside);
    }
    config.maps.uids.iter().find_map(|range| range.translate(inside, 1))
}

fn is_writable_cgroup(mount: &MountEntry) -> bool {
    let of_cgroups = matches!(mount.typ.as_str(), "cgroup" | "cgroup2");
    mount.target == "/sys/fs/cgroup" && of_cgroups && mount.options.set & MS_RDONLY == 0
}

#[cfg(test)]
mod tests {
    use super::owner;
    use crate::spec::{self, Checked, Config};
    use serde_json::{Value, json};
    use std::path::Path;

    fn config(options: &[&str], namespaces: Value, uid: u32) -> Checked<Config> {
        let mut document = json!({
            "ociVersion": "1.0.0",
            "root": {"path": "rootfs"},
            "process": {"user": {"uid": uid, "gid": 0}, "cwd": "/", "args": ["x"]},
            "mounts": [{"destination": "/sys//fs/cgroup/.", "type": "cgroup", "source": "cgroup", "options": options}],
            "linux": {"namespaces": namespaces},
        });
        if document["linux"]["namespaces"].to_string().contains("user") {
            let mapping = json!([{"containerID": 0, "hostID": 100_000, "size": 10}]);
            document["linux"]["uidMappings"] = mapping.clone();
            document["linux"]["gidMappings"] = mapping;
        }
        let loaded = spec::config(document.to_string().into_bytes(), Path::new("config.json")).unwrap();
        spec::check(loaded, Path::new("/bundle"), true).unwrap()
    }

    #[test]
    fn owners() {
        let cgroup = json!([{"type": "cgroup"}]);
        let user = json!([{"type": "cgroup"}, {"type": "user"}]);
        let table = [
            (config(&["rw"], user.clone(), 0), Some(100_000)),
            (config(&[], user.clone(), 7), Some(100_007)),
            (config(&["ro", "rw"], user.clone(), 0), Some(100_000)),
            (config(&["rw", "ro"], user.clone(), 0), None),
            (config(&["ro"], user.clone(), 0), None),
            (config(&["rw"], user, 10), None),
            (config(&["rw"], cgroup, 7), Some(7)),
            (config(&["rw"], json!([{"type": "cgroup", "path": "/x"}]), 0), None),
            (config(&["rw"], json!([{"type": "cgroup", "path": ""}]), 7), Some(7)),
            (config(&["rw"], json!([]), 0), None),
        ];
        for (i, (config, want)) in table.into_iter().enumerate() {
            assert_eq!(owner(&config), want, "case {i}");
        }
    }
}
