//! Mount propagation between host and container, as seen on the host.

use crate::support::{Bundle, kernel, peer_differs, until};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::path::{Path, PathBuf};

const NONE: Option<&str> = None;

/// A host directory that is a shared mount.
fn shared(bundle: &Bundle) -> PathBuf {
    let top = bundle.host_directory("shared");
    mount(Some("top"), &top, Some("tmpfs"), MsFlags::empty(), NONE).unwrap();
    mount(NONE, &top, NONE, MsFlags::MS_SHARED, NONE).unwrap();
    for name in ["out", "in"] {
        std::fs::create_dir(top.join(name)).unwrap();
    }
    top
}

fn mounted(place: &Path) -> bool {
    let own = kernel::mounts_of(std::process::id().cast_signed());
    own.iter().any(|mount| Path::new(&mount.point) == place)
}

/// Mounts made on either side propagate to the other if configured so; the host's mounts stay.
fn both_ways(bundle: Bundle, flags: &[&str], propagation: &str) {
    let top = shared(&bundle);
    let bundle = bundle.set("/linux/rootfsPropagation", propagation).caps(&["CAP_SYS_ADMIN"]);
    let bundle = bundle.bind(&top, "/m", &["rbind", "rshared"]);
    let bundle = bundle.sees(&[
        "echo",
        "ready",
        "+",
        "wait-file",
        "/m/go",
        "+",
        "mount",
        "tmpfs",
        "/m/out",
        "+",
        "read",
        "/m/in/file",
        "+",
        "pause",
    ]);
    let running = bundle.launch("run", flags).start();
    until("the container", || running.stdout().contains("ready").then_some(()));
    mount(Some("in"), &top.join("in"), Some("tmpfs"), MsFlags::empty(), NONE).unwrap();
    std::fs::write(top.join("in/file"), "from the host").unwrap();
    std::fs::write(top.join("go"), "").unwrap();
    until("what the container sees", || running.stdout().contains("read /m/in/file").then_some(()));
    let said = running.stdout();
    assert!(said.contains("mount /m/out: ok") && said.contains("from the host"), "{said}");
    assert!(mounted(&top.join("out")), "{propagation}: the container's mount does not reach the host");
    bundle.verb(&["kill", &bundle.id, "KILL"]).ok();
    running.finish();
    assert!(mounted(&top) && mounted(&top.join("in")), "the host's mounts went with the container");
    umount2(&top, MntFlags::MNT_DETACH).unwrap();
    bundle.nothing_left();
}

#[test]
fn a_shared_volume_propagates_both_ways() {
    if peer_differs(&["crun"], "its root is private unless the bundle says more") {
        return;
    }
    for propagation in ["shared", "rshared"] {
        both_ways(Bundle::new("both-ways"), &[], propagation);
    }
}

#[test]
fn a_shared_volume_propagates_both_ways_with_no_pivot() {
    if peer_differs(&["crun"], "its root is private unless the bundle says more") {
        return;
    }
    both_ways(Bundle::new("both-ways-moved"), &["--no-pivot"], "rshared");
}

#[test]
fn a_shared_volume_propagates_both_ways_in_a_joined_pid_namespace() {
    if peer_differs(&["crun"], "its root is private unless the bundle says more") {
        return;
    }
    let first = Bundle::new("pids").sees(&["pause"]);
    let pid = first.up();
    let path = format!("/proc/{pid}/ns/pid");
    both_ways(Bundle::new("both-ways-joined").namespace("pid", Some(&path)), &[], "rshared");
    first.down();
}

/// What the host mounts in the root directory while the container runs.
fn appears(propagation: Option<&str>, change: impl FnOnce(Bundle) -> Bundle, flags: &[&str]) -> bool {
    let bundle = change(Bundle::new("later").directory("/later")).sees(&["pause"]);
    let bundle = match propagation {
        Some(propagation) => bundle.set("/linux/rootfsPropagation", propagation),
        None => bundle,
    };
    // the root is in a mount that is shared
    mount(Some(&bundle.rootfs()), &bundle.rootfs(), NONE, MsFlags::MS_BIND, NONE).unwrap();
    mount(NONE, &bundle.rootfs(), NONE, MsFlags::MS_SHARED, NONE).unwrap();
    let pid_file = bundle.path("pid");
    bundle.launch("run", &[&["--detach", "--pid-file", pid_file.to_str().unwrap()], flags].concat()).finish().ok();
    let pid: i32 = std::fs::read_to_string(&pid_file).unwrap().parse().unwrap();
    mount(Some("later"), &bundle.rootfs().join("later"), Some("tmpfs"), MsFlags::empty(), NONE).unwrap();
    let appears = kernel::mounts_of(pid).iter().any(|mount| mount.point.ends_with("/later"));
    bundle.down();
    umount2(&bundle.rootfs().join("later"), MntFlags::MNT_DETACH).unwrap();
    umount2(&bundle.rootfs(), MntFlags::MNT_DETACH).unwrap();
    bundle.nothing_left();
    appears
}

#[test]
fn later_mounts_of_the_host_appear_in_the_root_only_if_asked() {
    if peer_differs(&["runc<1.6", "crun"], "the root receives unless it is private") {
        return;
    }
    for (propagation, expected) in [
        (None, false),
        (Some("private"), false),
        (Some("rprivate"), false),
        (Some("slave"), true),
        (Some("rslave"), true),
    ] {
        assert_eq!(appears(propagation, |bundle| bundle, &[]), expected, "{propagation:?}");
        assert_eq!(appears(propagation, |bundle| bundle, &["--no-pivot"]), expected, "{propagation:?}, --no-pivot");
        if propagation != Some("slave") {
            let user = appears(propagation, Bundle::user_namespace, &[]);
            assert_eq!(user, expected, "{propagation:?}, in a user namespace");
        }
    }
}
