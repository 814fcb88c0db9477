//! Mount sources and targets: missing ones, symlinks, order, and tmpfs with tmpcopyup.

use crate::support::kernel::{mount_at, mounts};
use crate::support::{Bundle, peer_differs};
use std::os::unix::fs::PermissionsExt;

#[test]
fn a_file_and_a_directory_can_be_bound() {
    let bundle = Bundle::new("sources");
    let (file, directory) = (bundle.host_file("file", "from the host"), bundle.host_directory("directory"));
    std::fs::write(directory.join("inner"), "inner").unwrap();
    let bundle = bundle.bind(file, "/data/file", &["bind", "ro"]).bind(directory, "/data/dir", &["rbind"]);
    let output = bundle.run(&["cat", "/data/file", "/data/dir/inner", "+", "write", "/data/file", "x"]).ok();
    assert!(output.stdout.starts_with("from the hostinner"), "{output}");
    assert_eq!(output.get("from the hostinnerwrite /data/file"), Some("EROFS"));
}

#[test]
fn a_bind_mount_can_be_written_through() {
    let bundle = Bundle::new("write-through");
    let directory = bundle.host_directory("directory");
    let bundle = bundle.bind(&directory, "/data", &["bind"]).sees(&["write", "/data/made", "inside"]);
    bundle.run_as_is().ok().has("write /data/made", "ok");
    assert_eq!(std::fs::read_to_string(directory.join("made")).unwrap(), "inside");
}

#[test]
fn the_type_of_a_bind_mount_is_ignored() {
    for fstype in ["none", "", "bind", "tmpfs"] {
        let bundle = Bundle::new("bind-type");
        let file = bundle.host_file("file", "text");
        let mut bundle = bundle.mount("/file", fstype, file, &["bind"]).sees(&["read", "/file"]);
        if fstype.is_empty() {
            let last = bundle.config["mounts"].as_array().unwrap().len() - 1;
            bundle = bundle.without(&format!("/mounts/{last}/type"));
        }
        bundle.run_as_is().ok().has("read /file", "4 \"text\"");
    }
}

#[test]
fn a_relative_source_is_relative_to_the_bundle() {
    let bundle = Bundle::new("relative");
    bundle.host_file("beside", "beside");
    bundle.bind("beside", "/file", &["bind"]).run(&["read", "/file"]).ok().has("read /file", "6 \"beside\"");
}

#[test]
fn a_missing_source_is_named_in_the_error() {
    let bundle = Bundle::new("no-source").bind("/nosuchsource", "/m", &["bind"]);
    let output = bundle.run_as_is().fails(1, "no such file or directory");
    assert!(output.stderr.contains("/nosuchsource"), "{output}");
    bundle.nothing_left();
}

#[test]
fn missing_targets_are_created() {
    let bundle = Bundle::new("targets");
    let (file, directory) = (bundle.host_file("file", "x"), bundle.host_directory("directory"));
    let bundle = bundle.bind(file, "/a/b/file", &["bind"]).bind(directory, "/a/c/dir", &["bind"]);
    let bundle = bundle.mount("/a/d/tmp", "tmpfs", "tmpfs", &[]);
    let output = bundle.run(&["stat", "/a", "/a/b", "/a/b/file", "/a/c/dir", "/a/d/tmp"]).ok();
    let output = output.has("/a.mode", "0755").has("/a.owner", "0:0").has("/a/b.mode", "0755");
    output.has("/a/b/file.type", "f").has("/a/c/dir.type", "d").has("/a/d/tmp.type", "d");
}

#[test]
fn a_target_of_another_type_is_refused() {
    let bundle = Bundle::new("file-on-directory").directory("/target");
    let file = bundle.host_file("file", "x");
    let bundle = bundle.bind(file, "/target", &["bind"]);
    bundle.run_as_is().fails(1, "not a directory");
    bundle.nothing_left();
    let bundle = Bundle::new("directory-on-file").file("/target", "x");
    let directory = bundle.host_directory("directory");
    let bundle = bundle.bind(directory, "/target", &["bind"]);
    bundle.run_as_is().fails(1, "not a directory");
    bundle.nothing_left();
}

#[test]
fn a_link_in_a_target_is_resolved_inside_the_root() {
    let bundle = Bundle::new("links").directory("/real").symlink("/absolute", "/real").symlink("/up", "../../../real");
    let (one, two) = (bundle.host_file("one", "1"), bundle.host_file("two", "2"));
    let bundle = bundle.bind(one, "/absolute/one", &["bind"]).bind(two, "/up/two", &["bind"]);
    let output = bundle.run(&["read", "/real/one", "/real/two", "+", "mountinfo"]).ok();
    let output = output.has("read /real/one", "1 \"1\"").has("read /real/two", "1 \"2\"");
    mount_at(&mounts(&output.stdout), "/real/one");
}

#[test]
fn a_link_through_a_mount_is_resolved_inside_the_root() {
    let bundle = Bundle::new("link-in-mount");
    let directory = bundle.host_directory("directory");
    std::os::unix::fs::symlink("/etc", directory.join("link")).unwrap();
    let file = bundle.host_file("file", "mine");
    let bundle = bundle.bind(directory, "/volume", &["bind"]).bind(file, "/volume/link/passwd", &["bind"]);
    let bundle = bundle.sees(&["read", "/etc/passwd"]);
    bundle.run_as_is().ok().has("read /etc/passwd", "4 \"mine\"");
    let hosts = std::fs::read_to_string("/etc/passwd").unwrap();
    assert!(hosts.contains("root:"), "the host's file was covered");
}

#[test]
fn mounts_are_made_in_the_configured_order() {
    let bundle = Bundle::new("order");
    let file = bundle.host_file("file", "x");
    let bundle = bundle.mount("/m", "tmpfs", "tmpfs", &[]).bind(&file, "/m/below", &["bind"]);
    let bundle = bundle.bind(&file, "/n/covered", &["bind"]).mount("/n", "tmpfs", "tmpfs", &[]);
    let output = bundle.run(&["stat", "/m/below", "/n/covered"]).ok();
    output.has("/m/below.type", "f").has("/n/covered.stat", "ENOENT");
}

#[test]
fn dots_in_a_target_stay_inside_the_root() {
    let bundle = Bundle::new("dots");
    let file = bundle.host_file("file", "x");
    let bundle = bundle.bind(file, "/a/../../../b/./file", &["bind"]);
    bundle.run(&["stat", "/b/file"]).ok().has("/b/file.type", "f");
}

#[test]
fn a_mount_over_the_root_is_refused() {
    let bundle = Bundle::new("over-root");
    if !peer_differs(&["runc<1.4", "crun"], "mounts over the root") {
        let bundle = bundle.mount("/", "tmpfs", "tmpfs", &[]);
        assert_ne!(bundle.run_as_is().code, 0);
        bundle.nothing_left();
    }
}

#[test]
fn an_unknown_file_system_is_refused() {
    let bundle = Bundle::new("bad-type").mount("/m", "nosuchfs", "nosuchfs", &[]);
    let output = bundle.run_as_is().fails(1, "no such device");
    if !peer_differs(&["crun"], "names the target without its first slash") {
        assert!(output.stderr.contains("/m"), "{output}");
    }
    bundle.nothing_left();
}

#[test]
fn a_tmpfs_takes_the_mode_of_its_target() {
    let bundle = Bundle::new("tmpfs-mode").directory("/covered");
    std::fs::set_permissions(bundle.rootfs().join("covered"), PermissionsExt::from_mode(0o751)).unwrap();
    let bundle = bundle.mount("/covered", "tmpfs", "tmpfs", &[]).mount("/said", "tmpfs", "tmpfs", &["mode=0700"]);
    let output = bundle.mount("/new", "tmpfs", "tmpfs", &[]).run(&["stat", "/covered", "/said", "/new"]).ok();
    let output = output.has("/said.mode", "0700");
    if !peer_differs(&["crun"], "leaves the mode to the kernel") {
        output.has("/covered.mode", "0751").has("/new.mode", "1777");
    }
}

#[test]
fn tmpcopyup_copies_the_target_into_the_tmpfs() {
    let bundle = Bundle::new("copy-up").file("/full/file", "text").file("/full/sub/inner", "deep");
    let bundle = bundle.symlink("/full/link", "file");
    let full = bundle.rootfs().join("full");
    std::fs::set_permissions(full.join("file"), PermissionsExt::from_mode(0o604)).unwrap();
    std::os::unix::fs::chown(full.join("file"), Some(7), Some(8)).unwrap();
    let bundle = bundle.mount("/full", "tmpfs", "tmpfs", &["tmpcopyup", "size=1m"]);
    let words = [
        "read",
        "/full/file",
        "/full/sub/inner",
        "+",
        "stat",
        "/full/file",
        "/full/link",
        "+",
        "rm",
        "/full/file",
        "+",
        "mountinfo",
    ];
    let output = bundle.sees(&words).run_as_is();
    let output = output.ok().has("read /full/file", "4 \"text\"").has("read /full/sub/inner", "4 \"deep\"");
    let output = output.has("/full/file.mode", "0604").has("/full/file.owner", "7:8").has("/full/link.link", "file");
    let found = mount_at(&mounts(&output.has("rm /full/file", "ok").stdout), "/full");
    assert!(found.fstype == "tmpfs" && found.super_has("size=1024k"), "{found:?}");
}

#[test]
fn tmpcopyup_does_not_change_the_covered_files() {
    let bundle = Bundle::new("copy-up-below").file("/full/file", "text");
    let bundle = bundle.mount("/full", "tmpfs", "tmpfs", &["tmpcopyup"]).sees(&["write", "/full/file", "changed"]);
    bundle.run_as_is().ok().has("write /full/file", "ok");
    assert_eq!(std::fs::read_to_string(bundle.rootfs().join("full/file")).unwrap(), "text");
}

#[test]
fn the_host_sees_nothing_of_the_containers_mounts() {
    let bundle = Bundle::new("unseen").mount("/m", "tmpfs", "tmpfs", &[]).sees(&["pause"]);
    let before = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    bundle.up();
    let during = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let of_this = |text: &str| text.lines().filter(|line| line.contains(&bundle.id)).count();
    assert_eq!((of_this(&before), of_this(&during)), (0, 0), "{during}");
    bundle.down();
}
