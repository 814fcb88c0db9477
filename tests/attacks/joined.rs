//! A joined mount namespace is controlled by the container in it: host paths must not be resolved there.

use crate::support::{Bundle, Output, payload, peer_differs};

/// A container that has put another root file system at the host path of its own: another payload, another mark.
fn planter(name: &str) -> Bundle {
    let bundle = Bundle::new(name).file("/real", "the root of the namespace").sees(&["pause"]);
    let planted = bundle.rootfs().display().to_string();
    let bundle = bundle.file(&format!("{planted}/planted"), "what the container put there");
    payload::place(&bundle.rootfs().join(planted.trim_start_matches('/')), payload::INSIDE);
    ["proc", "dev", "sys", "etc", "tmp"].iter().fold(bundle, |b, name| b.directory(&format!("{planted}/{name}")))
}

/// The same with a symbolic link at that path.
fn linker(name: &str) -> Bundle {
    let bundle =
        Bundle::new(name).file("/real", "the root of the namespace").file("/elsewhere/planted", "x").sees(&["pause"]);
    payload::place(&bundle.rootfs().join("elsewhere"), payload::INSIDE);
    let place = bundle.rootfs().display().to_string();
    let parent = std::path::Path::new(&place).parent().unwrap().display().to_string();
    bundle.directory(&parent).symlink(&place, "/elsewhere")
}

/// Asserts that joining is refused or gives the namespace's own root.
fn own_root(what: &str, output: &Output) {
    let planted = output.get("/planted.stat") == Some("ok");
    let real = output.get("/real.stat") == Some("ok");
    assert!(!planted, "{what}: the root is what the container had put in a path of the host's: {output}");
    assert!(real || output.code != 0, "{what}: {output}");
}

const LOOKS: [&str; 3] = ["stat", "/real", "/planted"];

/// Issue 13 section 2 (related to CVE-2019-5736): a `run` that joins a mount namespace by path, and `exec` into that container.
#[test]
fn a_root_is_not_looked_up_in_a_joined_mount_namespace() {
    for plant in [planter, linker] {
        let lives = plant("lives");
        let pid = lives.up();
        let path = format!("/proc/{pid}/ns/mnt");
        // the bundle's root is the other container's, as for a second container of a pod
        let joins = |words: &[&str]| {
            let bundle = Bundle::new("joins").namespace("mount", Some(&path));
            let bundle =
                bundle.set("/root/path", lives.rootfs().to_str().unwrap()).set("/mounts", crate::support::json!([]));
            bundle.without("/linux/maskedPaths").without("/linux/readonlyPaths").without("/linux/resources").sees(words)
        };
        let guest = joins(&LOOKS);
        let output = guest.run_as_is();
        if !peer_differs(&["runc", "crun"], "looks it up there") {
            own_root("run", &output);
        }
        drop(guest);
        let stays = joins(&["pause"]);
        if stays.create().code == 0 && stays.start().code == 0 {
            let words = [&["exec", &stays.id, payload::INSIDE], &LOOKS[..]].concat();
            let output = stays.verb(&words);
            if !peer_differs(&["runc", "crun"], "joins the root of its first process") {
                own_root("exec", &output);
            }
        }
        stays.down();
        lives.down();
    }
}

/// Issue 13 section 2: `exec` into a container with its own mount namespace that has put something at its root's host path.
#[test]
fn exec_has_the_root_of_the_container() {
    for plant in [planter, linker] {
        let bundle = plant("entered");
        bundle.up();
        let output = bundle.verb(&[&["exec", &bundle.id, payload::INSIDE], &LOOKS[..]].concat()).ok();
        own_root("exec", &output);
        bundle.down();
    }
}
