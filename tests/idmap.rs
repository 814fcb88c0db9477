//! ID-mapped mounts: which mapping applies, submounts, and what cannot be mapped.

use crate::support::kernel::{mount_at, mounts};
use crate::support::{Bundle, Output, Value, json, peer_differs};
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

fn range(inside: u32, outside: u32, count: u32) -> Value {
    json!({"containerID": inside, "hostID": outside, "size": count})
}

/// Creates a host directory with a file of this owner.
fn source(bundle: &Bundle, name: &str, owner: (u32, u32)) -> String {
    let directory = bundle.host_directory(name);
    std::fs::write(directory.join("file"), "text").unwrap();
    chown(directory.join("file"), Some(owner.0), Some(owner.1)).unwrap();
    directory.to_str().unwrap().to_owned()
}

/// Adds a bind mount with these uidMappings and gidMappings.
fn mapped(bundle: Bundle, (source, at): (&str, &str), options: &[&str], uids: &[Value], gids: &[Value]) -> Bundle {
    let mount =
        json!({"destination": at, "source": source, "options": options, "uidMappings": uids, "gidMappings": gids});
    bundle.set("/mounts/-", mount)
}

fn owner(path: impl AsRef<Path>) -> (u32, u32) {
    let meta = std::fs::metadata(path).unwrap();
    (meta.uid(), meta.gid())
}

#[test]
fn ids_are_mapped_without_a_user_namespace() {
    let bundle = Bundle::new("idmap");
    let tree = source(&bundle, "tree", (5, 17));
    let bundle = mapped(bundle, (&tree, "/m"), &["bind"], &[range(0, 1000, 10)], &[range(10, 3000, 10)]);
    let bundle = bundle.bind(&tree, "/plain", &["bind"]);
    let bundle = bundle.sees(&["stat", "/m/file", "/plain/file", "/m"]);
    let output = bundle.run_as_is().ok();
    // gid 0 is not mapped, so the kernel shows 65534
    output.has("/m/file.owner", "1005:3007").has("/plain/file.owner", "5:17").has("/m.owner", "1000:65534");
    assert_eq!(owner(Path::new(&tree).join("file")), (5, 17));
}

#[test]
fn an_unmapped_user_cannot_create_files() {
    let bundle = Bundle::new("idmap-write");
    let tree = source(&bundle, "tree", (0, 0));
    let bundle = mapped(bundle, (&tree, "/m"), &["bind"], &[range(0, 1000, 10)], &[range(0, 1000, 10)]);
    bundle.run(&["write", "/m/new", "x"]).ok().has("write /m/new", "EOVERFLOW");
}

#[test]
fn in_a_user_namespace_root_keeps_its_ids_through_a_mapped_mount() {
    let bundle = Bundle::new("idmap-user").user_namespace();
    let tree = source(&bundle, "tree", (0, 0));
    let maps = [range(0, 100_000, 65536)];
    let bundle = mapped(bundle, (&tree, "/m"), &["bind"], &maps, &maps).bind(&tree, "/plain", &["bind"]);
    let bundle = bundle.sees(&["write", "/m/new", "x", "+", "stat", "/m/file", "/m/new", "/plain/file"]);
    let output = bundle.run_as_is().ok().has("write /m/new", "ok");
    output.has("/m/file.owner", "0:0").has("/m/new.owner", "0:0").has("/plain/file.owner", "65534:65534");
    assert_eq!(owner(Path::new(&tree).join("new")), (0, 0));
}

#[test]
fn files_created_through_a_mapped_mount_belong_to_the_mapped_id() {
    let bundle = Bundle::new("idmap-made").user_namespace();
    let tree = source(&bundle, "tree", (0, 0));
    chown(&tree, Some(7), Some(7)).unwrap();
    let maps = [range(7, 100_000, 1)];
    let bundle = mapped(bundle, (&tree, "/m"), &["bind"], &maps, &maps).sees(&["write", "/m/new", "x"]);
    bundle.run_as_is().ok().has("write /m/new", "ok");
    assert_eq!(owner(Path::new(&tree).join("new")), (7, 7));
}

#[test]
fn idmap_without_mappings_uses_the_containers_mappings() {
    for option in ["idmap", "ridmap"] {
        let bundle = Bundle::new("idmap-implied").user_namespace();
        let tree = source(&bundle, "tree", (3, 4));
        let bundle = bundle.bind(&tree, "/m", &["bind", option]);
        bundle.run(&["stat", "/m/file"]).ok().has("/m/file.owner", "3:4");
    }
}

#[test]
fn idmap_without_mappings_uses_the_joined_user_namespace() {
    let first = Bundle::new("idmap-host").user_namespace().sees(&["pause"]);
    let pid = first.up();
    let second = Bundle::new("idmap-guest").user_namespace().namespace("user", Some(&format!("/proc/{pid}/ns/user")));
    let second = second.without("/linux/uidMappings").without("/linux/gidMappings");
    let tree = source(&second, "tree", (3, 4));
    let second = second.bind(&tree, "/m", &["bind", "idmap"]);
    second.run(&["stat", "/m/file"]).ok().has("/m/file.owner", "3:4");
    first.down();
}

#[test]
fn only_ridmap_maps_submounts() {
    for (user, option, below) in
        [(false, "idmap", "0:0"), (false, "ridmap", "1000:1000"), (true, "ridmap", "1000:1000")]
    {
        let bundle = Bundle::new("idmap-tree");
        let bundle = if user { bundle.user_namespace() } else { bundle };
        let tree = source(&bundle, "tree", (0, 0));
        let deep = bundle.host_directory("tree/deep");
        nix::mount::mount(Some("tmpfs"), &deep, Some("tmpfs"), nix::mount::MsFlags::empty(), None::<&str>).unwrap();
        std::fs::write(deep.join("file"), "").unwrap();
        let outside = if user { 101_000 } else { 1000 };
        let maps = [range(0, outside, 10)];
        let bundle = mapped(bundle, (&tree, "/m"), &["rbind", option], &maps, &maps);
        let output = bundle.sees(&["stat", "/m/file", "/m/deep/file"]).run_then(|| {
            nix::mount::umount(&deep).unwrap();
        });
        output.ok().has("/m/file.owner", "1000:1000").has("/m/deep/file.owner", below);
    }
}

#[test]
fn mapped_mounts_also_get_flags_and_propagation() {
    for user in [false, true] {
        let bundle = Bundle::new("idmap-attributes");
        let bundle = if user { bundle.user_namespace() } else { bundle };
        let tree = source(&bundle, "tree", (0, 0));
        let maps = [range(0, 100_000, 10)];
        let options = ["bind", "ro", "nosuid", "shared"];
        let bundle = mapped(bundle, (&tree, "m/relative"), &options, &maps, &maps);
        let output = bundle.run(&["mountinfo"]).ok();
        let mount = mount_at(&mounts(&output.stdout), "/m/relative");
        assert!(mount.has("ro") && mount.has("nosuid") && mount.has("idmapped"), "{mount:?}");
        assert!(mount.propagation().starts_with("shared"), "{mount:?}");
    }
}

#[test]
fn one_source_can_be_mapped_in_many_ways() {
    for user in [0, 100_000] {
        let bundle = Bundle::new("idmap-many");
        let mut bundle = if user == 0 { bundle } else { bundle.user_namespace() };
        let tree = source(&bundle, "tree", (1, 2));
        for (at, first) in [("/a", 10), ("/b", 20), ("/c", 20)] {
            let maps = [range(0, user + first, 5)];
            bundle = mapped(bundle, (&tree, at), &["bind"], &maps, &maps);
        }
        let plan = bundle.runtime().args(["plan"]).args([&bundle.dir]).finish();
        if !peer_differs(&["runc", "crun"], "has no plan") {
            assert_eq!(plan.ok().stdout.matches("a user namespace with uid_map").count(), 2, "one for each mapping");
        }
        let output = bundle.run(&["stat", "/a/file", "/b/file", "/c/file"]).ok();
        output.has("/a/file.owner", "11:12").has("/b/file.owner", "21:22").has("/c/file.owner", "21:22");
    }
}

#[test]
fn a_mapping_may_have_many_ranges() {
    let bundle = Bundle::new("idmap-ranges");
    let tree = source(&bundle, "tree", (101, 222));
    let uids = [range(100, 1000, 1), range(101, 2000, 1), range(102, 3000, 1)];
    let gids = [range(210, 1100, 10), range(220, 2200, 10)];
    let bundle = mapped(bundle, (&tree, "/m"), &["bind"], &uids, &gids);
    bundle.run(&["stat", "/m/file"]).ok().has("/m/file.owner", "2000:2202");
}

#[test]
fn a_source_inside_the_rootfs_can_be_mapped() {
    for user in [false, true] {
        let bundle = Bundle::new("idmap-inside");
        let bundle = if user { bundle.user_namespace() } else { bundle };
        let tree = source(&bundle, "tree", (0, 0));
        let bundle = bundle.bind(&tree, "/first", &["bind"]);
        let inside = bundle.rootfs().join("first");
        let maps = [range(0, if user { 100_004 } else { 4 }, 10)];
        let bundle = mapped(bundle, (inside.to_str().unwrap(), "/second"), &["rbind", "idmap"], &maps, &maps);
        let bundle = bundle.hook("createRuntime", &["true"], &[]);
        bundle.run(&["stat", "/second/file"]).ok().has("/second/file.owner", "4:4");
    }
}

#[test]
fn podmans_idmap_option_syntax_is_accepted() {
    if peer_differs(&["runc"], "does not know it") {
        return;
    }
    let bundle = Bundle::new("idmap-podman").user_namespace();
    let tree = source(&bundle, "tree", (1, 2));
    let bundle = bundle.bind(&tree, "/m", &["bind", "idmap=uids=0-100010-5#5-100030-5;gids=0-100020-10"]);
    let bundle = bundle.bind(&tree, "/n", &["bind", "idmap=uids=@0-10-5;gids=@0-20-5"]);
    let output = bundle.run(&["stat", "/m/file", "/n/file"]).ok();
    output.has("/m/file.owner", "11:22").has("/n/file.owner", "11:22");
}

#[test]
fn a_container_with_a_mapped_mount_is_not_checkpointed() {
    if peer_differs(&["runc", "crun"], "saves it, and brings it back with the ids of the host") {
        return;
    }
    let bundle = Bundle::new("idmap-checkpoint");
    let tree = source(&bundle, "tree", (0, 0));
    let maps = [range(0, 1000, 10)];
    let bundle = mapped(bundle, (&tree, "/m"), &["bind"], &maps, &maps).sees(&["pause"]);
    bundle.up();
    let images = bundle.path("images");
    let output = bundle.verb(&["checkpoint", "--image-path", images.to_str().unwrap(), &bundle.id]);
    output.fails(1, &format!("the mount of {tree} is id-mapped"));
    assert_eq!(bundle.status(), "running");
    bundle.down();
}

/// Asserts that the bundle is refused with this error and leaves nothing.
fn refused(bundle: &Bundle, words: &str) -> Output {
    let output = bundle.run_as_is().fails(1, words);
    bundle.nothing_left();
    output
}

#[test]
fn invalid_mappings_are_refused() {
    let (one, pair) = ([range(0, 1000, 10)], [range(0, 1000, 10), range(5, 3000, 10)]);
    let bundle = |name: &str| Bundle::new(name).sees(&["true"]);
    let both = "id-mapped mounts must have both uid and gid mappings specified";
    refused(&mapped(bundle("idmap-no-gids"), ("/tmp", "/m"), &["bind"], &one, &[]), both);
    refused(&mapped(bundle("idmap-no-uids"), ("/tmp", "/m"), &["bind"], &[], &one), both);
    for option in ["idmap", "ridmap"] {
        refused(&bundle("idmap-none").bind("/tmp", "/m", &["bind", option]), both);
    }
    let only = "id-mapped mounts are only supported for bind-mounts";
    let mount =
        json!({"destination": "/m", "source": "tmpfs", "type": "tmpfs", "uidMappings": one, "gidMappings": one});
    refused(&bundle("idmap-tmpfs").set("/mounts/-", mount), only);
    // the kernel refuses overlapping ranges
    let words = "failed to fulfil mount request: failed to create userns";
    refused(&mapped(bundle("idmap-overlap"), ("/tmp", "/m"), &["bind"], &pair, &one), words);
}

#[test]
fn a_filesystem_without_idmap_support_is_named_in_the_error() {
    let maps = [range(0, 100_000, 65536)];
    for user in [false, true] {
        let bundle = Bundle::new("idmap-sysfs");
        let bundle = if user { bundle.user_namespace() } else { bundle };
        let bundle = mapped(bundle.sees(&["true"]), ("/sys/kernel", "/m"), &["bind"], &maps, &maps);
        let words = "failed to set MOUNT_ATTR_IDMAP on /sys/kernel: invalid argument \
                     (maybe the filesystem used doesn't support idmap mounts on this kernel?)";
        refused(&bundle, words);
        // a source inside the root: init asks the host half for the mapped mount
        let bundle = Bundle::new("idmap-sysfs-inside");
        let bundle = if user { bundle.user_namespace() } else { bundle };
        let bundle = bundle.bind("/sys/kernel", "/first", &["bind"]).sees(&["true"]);
        let inside = bundle.rootfs().join("first").to_str().unwrap().to_owned();
        let bundle = mapped(bundle, (&inside, "/m"), &["bind"], &maps, &maps);
        refused(&bundle, "failed to set MOUNT_ATTR_IDMAP on ");
    }
}
