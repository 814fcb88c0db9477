//! What the targets have in common: machines that a plan is made for, and the whole way from a configuration to a plan.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a target that panics is a finding")]

use oci_spec::runtime::LinuxResources;
use onggi::Facts;
use onggi::plan::cgroup::{self, CgroupFacts, Driver, Hierarchy, Rootless, Tree, CgroupRequest};
use onggi::plan::container::{self, Request};
use onggi::plan::mounts::CgroupTree;
use onggi::plan::request::{Mode, StartOptions};
use onggi::plan::{cgroup as cgroups, show};
use onggi::fuzzing::spec;
use onggi::plan::{Checked, Config};
use std::path::{Component, Path, PathBuf};

/// Where the trees of the machines lie.
const TOP: &str = "/sys/fs/cgroup";

/// Callers: root, root on a kernel that makes mount namespaces of trees, a user.
pub fn callers() -> [Facts; 3] {
    let root = Facts { root: true, ..Facts::default() };
    let new = Facts { namespaces_of_trees: true, ..root.clone() };
    [root, new, Facts { unprivileged: true, foreign_mounts: true, ..Facts::default() }]
}

/// Machines: cgroup v2, v1, and both.
pub fn machines() -> [CgroupFacts; 3] {
    let tree = |root: &str| Tree { root: root.into(), own: Some("/own".into()), controllers: vec!["hugetlb".into()] };
    let hierarchy = |names: &[&str]| Hierarchy {
        controllers: names.iter().map(|name| (*name).to_owned()).collect(),
        name: names.is_empty().then(|| "systemd".to_owned()),
        mountpoint: Path::new(TOP).join(names.first().unwrap_or(&"systemd")),
        own: "/own".into(),
    };
    let all: [&[&str]; 7] =
        [&["cpu", "cpuacct"], &["memory"], &["pids"], &["devices"], &["blkio"], &["net_cls", "net_prio"], &[]];
    let v1 = || all.iter().map(|names| hierarchy(names)).collect();
    [
        CgroupFacts::Unified(tree(TOP)),
        CgroupFacts::Legacy { hierarchies: v1(), unified: None },
        CgroupFacts::Legacy { hierarchies: v1(), unified: Some(tree("/sys/fs/cgroup/unified")) },
    ]
}

/// Plans cgroups in every way; no path of a plan leads out of its tree, and no file that is written is a path.
pub fn cgroups(resources: Option<&LinuxResources>, path: Option<&Path>) {
    for facts in &machines() {
        for driver in [Driver::Cgroupfs, Driver::Systemd, Driver::Disabled] {
            let wanted = CgroupRequest {
                resources,
                cgroups_path: path,
                id: "box",
                driver,
                rootless: Rootless::InUserNamespace,
                ..CgroupRequest::default()
            };
            let Ok(plan) = cgroups::plan(&wanted, facts, &mut Vec::new()) else { continue };
            for place in plan.paths.values() {
                let up = place.components().any(|part| part == Component::ParentDir);
                assert!(place.starts_with(TOP) && !up, "{place:?} of {path:?}");
            }
            for write in plan.early.iter().chain(&plan.writes) {
                assert!(!write.file.contains('/') && !write.file.starts_with('.'), "{write}");
            }
        }
    }
    if let Some(resources) = resources {
        for facts in &machines() {
            for driver in [Driver::Cgroupfs, Driver::Systemd] {
                let _ = cgroup::limits(resources, facts, driver, &mut Vec::new());
            }
        }
    }
}

/// Plans a container for every caller; the plan can be shown.
pub fn plans(config: &Checked<Config>) -> Vec<String> {
    let mut shown = Vec::new();
    for caller in &callers() {
        for (gate, no_pivot) in [(false, false), (true, true)] {
            let options = StartOptions {
                mode: if gate { Mode::Create } else { Mode::Run },
                console_socket: gate.then(|| PathBuf::from("/console")),
                no_pivot,
                no_new_keyring: gate,
                preserve_fds: u32::from(gate),
                ..StartOptions::default()
            };
            let request = Request {
                id: "box",
                options: &options,
                notify: None,
                cgroups: &CgroupTree::Unified(None),
                delegate: None,
                placed_late: gate,
            };
            if let Ok(plan) = container::plan(config, &request, caller) {
                shown.push(show::text(&plan, &cgroup::CgroupPlan::default()));
            }
        }
    }
    shown
}

/// The way of a configuration; what was read and written again has the same plans.
pub fn configuration(bytes: &[u8]) {
    spec::looks_for_network(bytes);
    let path = Path::new("config.json");
    let Ok(loaded) = spec::config(bytes.to_vec(), path) else { return };
    let again = serde_json::to_vec(&*loaded.spec).unwrap();
    let bundle = Path::new("/bundle");
    let run = spec::check(spec::config(bytes.to_vec(), path).expect("it was read before"), bundle, true);
    let Ok(config) = spec::check(loaded, bundle, false) else {
        assert!(run.is_err(), "what can be run can be made");
        return;
    };
    let linux = config.spec.linux().as_ref();
    cgroups(
        linux.and_then(|linux| linux.resources().as_ref()),
        linux.and_then(|linux| linux.cgroups_path().as_deref()),
    );
    let shown = plans(&config);
    let again = spec::config(again, path).unwrap_or_else(|error| panic!("written again it is refused: {error}"));
    let again = spec::check(again, bundle, false).unwrap_or_else(|error| panic!("written again it is refused: {error}"));
    assert_eq!(shown, plans(&again), "written again it is planned otherwise");
}
