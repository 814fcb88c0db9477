//! Compares the plans of the sample bundles with `bundles/*/plan.txt`. `ONGGI_BLESS=1` rewrites those files.
//!
//! The facts are constants (root, cgroup v2, no security module), so the texts are the same on every machine.

use super::cgroup::{CgroupFacts, CgroupRequest, Tree};
use super::container::{Request, StartOptions, plan};
use super::mounts::CgroupTree;
use super::show::text;
use crate::error::Result;
use crate::facts::Facts;
use crate::spec::{self, Loaded};
use oci_spec::runtime::Spec;
use std::path::Path;

fn planned(bundle: &Path, caller: &Facts) -> String {
    let config = bundle.join("config.json");
    let loaded = spec::config(spec::read(&config).unwrap(), &config).unwrap();
    planned_of(loaded, caller, false).unwrap()
}

/// The text of a plan on a machine with cgroup v2.
pub(super) fn planned_of(loaded: Loaded<Spec>, caller: &Facts, no_pivot: bool) -> Result<String> {
    let config = spec::check(loaded, Path::new("/bundle"), true)?;
    let linux = config.spec.linux().as_ref();
    let facts = CgroupFacts::Unified(Tree { root: "/sys/fs/cgroup".into(), own: Some("/".into()), ..Tree::default() });
    let wanted = CgroupRequest {
        resources: linux.and_then(|linux| linux.resources().as_ref()),
        cgroups_path: linux.and_then(|linux| linux.cgroups_path().as_deref()),
        id: "ID",
        ..CgroupRequest::default()
    };
    let cgroups = super::cgroup::plan(&wanted, &facts, &mut Vec::new())?;
    let options = StartOptions { no_pivot, ..StartOptions::default() };
    let plan = requested(&options, |request| plan(&config, request, caller));
    Ok(text(&plan?, &cgroups))
}

/// A request for a container on cgroup2, with these options.
pub(super) fn requested<T>(options: &StartOptions, with: impl FnOnce(&Request<'_>) -> T) -> T {
    with(&Request {
        id: "ID",
        options,
        notify: None,
        cgroups: &CgroupTree::Unified(None),
        delegate: None,
        placed_late: false,
    })
}

#[test]
fn plans_of_the_bundles_are_the_ones_beside_them() {
    let bundles = Path::new(env!("CARGO_MANIFEST_DIR")).join("bundles");
    let mut seen = 0;
    for bundle in std::fs::read_dir(bundles).unwrap().map(|entry| entry.unwrap().path()) {
        if !bundle.join("config.json").exists() {
            continue;
        }
        let root = Facts { root: true, ..Facts::default() };
        let (golden, planned) = (bundle.join("plan.txt"), planned(&bundle, &root));
        if std::env::var_os("ONGGI_BLESS").is_some() {
            std::fs::write(&golden, &planned).unwrap();
        }
        let expected = std::fs::read_to_string(&golden).unwrap_or_default();
        assert_eq!(expected, planned, "{} (ONGGI_BLESS=1 writes it anew)", golden.display());
        seen += 1;
    }
    assert!(seen >= 6, "six sample bundles, found {seen}");
}

/// The plan of `bundles/hello` with one value changed, on a kernel with `OPEN_TREE_NAMESPACE`.
pub(super) fn changed(pointer: &str, value: serde_json::Value) -> String {
    let bundle = Path::new(env!("CARGO_MANIFEST_DIR")).join("bundles/hello/config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&std::fs::read(bundle).unwrap()).unwrap();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let place = config.pointer_mut(parent).unwrap();
    match place.as_array_mut() {
        Some(list) => list.extend(value.as_array().unwrap().iter().cloned()),
        None => place[key] = value,
    }
    let facts = Facts { root: true, namespaces_of_trees: true, ..Facts::default() };
    let loaded = spec::config(serde_json::to_vec(&config).unwrap(), Path::new("config.json")).unwrap();
    planned_of(loaded, &facts, pointer == "/no_pivot").unwrap()
}

#[test]
fn a_mount_namespace_is_made_of_the_root_alone_unless_somebody_could_tell() {
    let hook = || serde_json::json!([{"path": "/bin/true"}]);
    let bind = |source: &str, how: &str| serde_json::json!({"destination": "/m", "source": source, "options": [how]});
    let binds = |count: usize| -> Vec<serde_json::Value> {
        (0..count)
            .map(|i| serde_json::json!({"destination": format!("/{i}"), "source": "/srv", "options": ["bind"]}))
            .collect()
    };
    for (pointer, value, alone) in [
        ("/hostname", "box".into(), true),
        ("/no_pivot", true.into(), false),
        ("/hooks", serde_json::json!({"startContainer": hook(), "poststart": hook(), "poststop": hook()}), true),
        ("/hooks", serde_json::json!({"prestart": [], "createRuntime": []}), true),
        ("/hooks", serde_json::json!({"prestart": hook()}), false),
        ("/hooks", serde_json::json!({"createRuntime": hook()}), false),
        ("/hooks", serde_json::json!({"createContainer": hook()}), false),
        ("/linux/rootfsPropagation", "rslave".into(), true),
        ("/linux/rootfsPropagation", "rprivate".into(), true),
        ("/linux/rootfsPropagation", "slave".into(), false),
        ("/linux/rootfsPropagation", "private".into(), false),
        ("/linux/rootfsPropagation", "rshared".into(), false),
        ("/linux/rootfsPropagation", "unbindable".into(), false),
        ("/linux/namespaces/-", serde_json::json!([{"type": "time"}]), true),
        ("/mounts/-", serde_json::json!([bind("/srv", "rbind")]), true),
        ("/mounts/-", serde_json::json!([bind("/bundle", "bind")]), true),
        ("/mounts/-", serde_json::json!([bind("/bundle/rootfs/etc", "rbind")]), true),
        ("/mounts/-", serde_json::json!([bind("/bundle", "rbind")]), false),
        ("/mounts/-", serde_json::json!([bind("/", "rbind")]), false),
        ("/mounts/-", serde_json::json!([bind("/srv/../bundle", "rbind")]), false),
        ("/mounts/-", serde_json::json!([bind("/srv", "bind"), bind("/opt", "bind")]), false),
        ("/mounts/-", binds(128).into(), true),
        ("/mounts/-", binds(129).into(), false),
    ] {
        let plan = changed(pointer, value.clone());
        assert_eq!(plan.contains("recursive, namespace)"), alone, "{pointer} {value}\n{plan}");
        assert_eq!(
            !plan.contains("pivot_root()") && !plan.contains("move the root over /"),
            alone,
            "{pointer}\n{plan}"
        );
    }
}

#[test]
fn what_is_bound_is_cloned_before_the_host_is_out_of_sight() {
    let mounts = serde_json::json!([
        {"destination": "/a", "source": "/srv/a", "options": ["rbind"]},
        {"destination": "/b", "source": "beside", "options": ["rbind", "rprivate", "ro"]},
        {"destination": "/c", "source": "rootfs/etc", "options": ["bind"]},
    ]);
    let plan = changed("/mounts/-", mounts);
    let at =
        |text: &str| plan.lines().position(|line| line.ends_with(text)).unwrap_or_else(|| panic!("{text}\n{plan}"));
    let order = [
        "open_tree(\"/bundle/rootfs\", recursive, namespace)",
        "open_tree(\"/srv/a\", recursive) for slot 19",
        "open_tree(\"/bundle/beside\", recursive) for slot 20",
        "setns(mount namespace of slot 17)",
        "mount(\"/\", rec|private)",
        "take / as the root",
        "take the tree of \"/srv/a\" (slot 19)",
        "move_mount(\"/a\")",
        "take the tree of \"/bundle/beside\" (slot 20)",
        "move_mount(\"/b\")",
        "open_tree(root \"etc\")",
        "move_mount(\"/c\")",
    ];
    assert!(order.map(at).is_sorted(), "{plan}");
}

#[test]
fn a_user_s_plan_asks_nothing_of_the_host_half_that_only_root_can_do() {
    let bundle = Path::new(env!("CARGO_MANIFEST_DIR")).join("bundles/userns");
    let root = planned(&bundle, &Facts { root: true, ..Facts::default() });
    let user = planned(&bundle, &Facts { unprivileged: true, foreign_mounts: true, ..Facts::default() });
    for line in ["host  slot ", "take the tree of \"/dev/null\"", "attach root ", "setgroups("] {
        assert!(root.contains(line) && !user.contains(line), "{line:?} in\n{user}");
    }
    for line in [" open_tree(\"/dev/null\")", " bind root "] {
        assert!(user.contains(line), "{line:?} in\n{user}");
    }
}
