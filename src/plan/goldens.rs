//! The plans of the sample bundles against the text beside them. `ONGGI_BLESS=1` writes the texts anew.
//!
//! The facts are literals (root, cgroup v2, no security module), so the texts are the same on every machine.

use super::cgroup::{CgroupFacts, Tree, Wanted};
use super::container::{Request, plan};
use super::mounts::CgroupTree;
use super::show::text;
use crate::facts::Facts;
use crate::spec;
use std::path::Path;

fn planned(bundle: &Path, caller: &Facts) -> String {
    let loaded = spec::load(&bundle.join("config.json")).unwrap();
    spec::validate(&loaded.spec, true).unwrap();
    let linux = loaded.spec.linux().as_ref();
    let facts = CgroupFacts::Unified(Tree { root: "/sys/fs/cgroup".into(), own: Some("/".into()), ..Tree::default() });
    let wanted = Wanted {
        resources: linux.and_then(|linux| linux.resources().as_ref()),
        cgroups_path: linux.and_then(|linux| linux.cgroups_path().as_deref()),
        id: "ID",
        ..Wanted::default()
    };
    let cgroups = super::cgroup::plan(&wanted, &facts, &mut Vec::new()).unwrap();
    let request = Request {
        id: "ID",
        bundle: Path::new("/bundle"),
        gate: false,
        console_socket: None,
        no_pivot: false,
        no_new_keyring: false,
        preserve_fds: 0,
        listen_fds: 0,
        notify: None,
        cgroups: &CgroupTree::Unified(None),
        placed_late: false,
    };
    text(&plan(&loaded.spec, &request, caller).unwrap(), &cgroups)
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

#[test]
fn a_user_s_plan_asks_nothing_of_the_host_half_that_only_root_can_do() {
    let bundle = Path::new(env!("CARGO_MANIFEST_DIR")).join("bundles/userns");
    let root = planned(&bundle, &Facts { root: true, ..Facts::default() });
    let user = planned(&bundle, &Facts { unprivileged: true, foreign_mounts: true, ..Facts::default() });
    for line in ["host  slot ", "take the tree of \"/dev/null\"", "attach root ", "setgroups("] {
        assert!(root.contains(line) && !user.contains(line), "{line:?} in\n{user}");
    }
    for line in ["/65 open_tree(\"/dev/null\")", "/65 bind root "] {
        assert!(user.contains(line), "{line:?} in\n{user}");
    }
}
