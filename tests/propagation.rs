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
