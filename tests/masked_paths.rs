//! `linux.maskedPaths` and `linux.readonlyPaths`.

use crate::support::kernel::{mount_at, mounts};
use crate::support::{Bundle, json, peer_differs};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

#[test]
fn a_masked_file_is_empty() {
    let bundle = Bundle::new("masked-file").file("/secret", "secret").set("/linux/maskedPaths", json!(["/secret"]));
    let output =
        bundle.run(&["read", "/secret", "+", "stat", "/secret", "+", "write", "/secret", "x", "+", "read", "/secret"]);
    output.ok().has("read /secret", "0 \"\"").has("/secret.type", "c").has("/secret.rdev", "1:3");
}

#[test]
fn a_masked_directory_is_empty_and_cannot_be_written() {
    let bundle =
        Bundle::new("masked-directory").file("/secrets/key", "secret").set("/linux/maskedPaths", json!(["/secrets"]));
    let output = bundle.run(&["ls", "/secrets", "+", "write", "/secrets/new", "x", "+", "mountinfo"]).ok();
    let output = output.has("ls /secrets", "").has("write /secrets/new", "EROFS");
    assert!(mount_at(&mounts(&output.stdout), "/secrets").has("ro"));
}

#[test]
fn many_masked_directories_are_each_empty() {
    let mut bundle = Bundle::new("masked-many");
    let paths: Vec<String> = (0..20).map(|n| format!("/d{n}")).collect();
    for path in &paths {
        bundle = bundle.file(&format!("{path}/key"), "secret");
    }
    let bundle = bundle.set("/linux/maskedPaths", json!(paths));
    let words: Vec<&str> = ["ls"].into_iter().chain(paths.iter().map(String::as_str)).collect();
    let mut output = bundle.run(&words).ok();
    for path in &paths {
        output = output.has(&format!("ls {path}"), "");
    }
}

#[test]
fn masked_directories_of_proc_and_sys_share_one_tmpfs() {
    if peer_differs(&["runc", "crun"], "makes a tmpfs each") {
        return;
    }
    let paths = ["/proc/irq", "/sys/kernel", "/proc/nosuch", "/sys/devices", "/proc/fs"];
    let bundle = Bundle::new("masked-kernel").set("/linux/maskedPaths", json!(paths));
    let output = bundle.run(&["ls", "/proc/irq", "/sys/kernel", "/sys/devices", "/proc/fs", "+", "mountinfo"]).ok();
    let there = paths.into_iter().filter(|path| *path != "/proc/nosuch");
    let output = there.clone().fold(output, |output, path| output.has(&format!("ls {path}"), ""));
    let mounts = mounts(&output.stdout);
    let covers: Vec<_> = there.map(|path| mount_at(&mounts, path)).collect();
    assert!(covers.iter().all(|cover| cover.fstype == "tmpfs" && cover.has("ro")), "{covers:?}");
    assert!(covers.iter().all(|cover| cover.device == covers[0].device), "one file system for all: {covers:?}");
}

#[test]
fn paths_of_another_type_than_the_kernels_are_masked_too() {
    // directories at paths that usually are files, and a file at a path that usually is a directory
    let bundle = Bundle::new("masked-unusual").without_mount("/proc").file("/proc/keys/key", "secret");
    let bundle = bundle.file("/proc/acpi", "secret").file("/proc/kcore", "").without("/linux/readonlyPaths");
    let paths = json!(["/proc/acpi", "/proc/keys"]);
    let output = bundle.set("/linux/maskedPaths", paths).run(&["ls", "/proc/keys", "+", "read", "/proc/acpi"]).ok();
    output.has("ls /proc/keys", "").has("read /proc/acpi", "0 \"\"");
}

/// Only a path that does not exist is ignored. ENOTDIR, ELOOP and EACCES are errors: the container may be able to reach the
/// path later.
#[test]
fn a_path_that_cannot_be_resolved_is_an_error() {
    for (path, why) in [("/file/deeper", "not a directory"), ("/loop/x", "symbolic links")] {
        for list in ["maskedPaths", "readonlyPaths"] {
            if peer_differs(&["crun"], "passes over some of these") {
                return;
            }
            let bundle = Bundle::new("unreachable").file("/file", "").symlink("/loop", "/loop");
            let bundle = bundle.set(&format!("/linux/{list}"), json!([path])).sees(&["true"]);
            let output = bundle.run_as_is();
            assert!(output.code != 0 && output.stderr.contains(why), "{list} {path}: {output}");
        }
    }
}

/// The spelling of a path does not disable its mask.
#[test]
fn a_trailing_slash_or_dot_does_not_prevent_masking() {
    for end in ["/", "/.", "//", "/./"] {
        if peer_differs(&["runc", "crun"], "takes some of these for files that are no directories") {
            return;
        }
        let paths = json!([format!("/proc/keys{end}"), format!("/sys/firmware{end}")]);
        let bundle = Bundle::new("spelled").set("/linux/maskedPaths", paths);
        let bundle = bundle.set("/linux/readonlyPaths", json!([format!("/proc/sys{end}")]));
        let words =
            ["read", "/proc/keys", "+", "ls", "/sys/firmware", "+", "write", "/proc/sys/kernel/domainname", "x"];
        let output = bundle.caps(&["CAP_SYS_ADMIN"]).run(&words).ok();
        output
            .has("read /proc/keys", "0 \"\"")
            .has("ls /sys/firmware", "")
            .has("write /proc/sys/kernel/domainname", "EROFS");
    }
}

#[test]
fn a_masked_symlink_masks_its_target() {
    let bundle = Bundle::new("masked-link").file("/real/key", "secret").file("/file", "secret");
    let bundle = bundle.symlink("/link", "/real").symlink("/link-to-file", "/file");
    let paths = json!(["/link", "/link-to-file"]);
    let output = bundle.set("/linux/maskedPaths", paths).run(&["ls", "/real", "+", "read", "/file"]).ok();
    output.has("ls /real", "").has("read /file", "0 \"\"");
}

#[test]
fn root_in_the_container_cannot_remove_a_mask() {
    let caps = ["CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER"];
    let bundle = Bundle::new("mask-root").caps(&caps);
    bundle
        .run(&["read", "/proc/keys", "+", "ls", "/sys/firmware"])
        .ok()
        .has("read /proc/keys", "0 \"\"")
        .has("ls /sys/firmware", "");
}

#[test]
fn missing_paths_are_ignored() {
    let missing = json!(["/nosuch", "/proc/nosuch/deeper", "/etc/nosuch"]);
    let bundle = Bundle::new("missing").set("/linux/maskedPaths", missing.clone()).set("/linux/readonlyPaths", missing);
    bundle.run(&["stat", "/nosuch"]).ok().has("/nosuch.stat", "ENOENT");
}

#[test]
fn a_read_only_path_is_readable_but_not_writable() {
    let bundle = Bundle::new("readonly-path").file("/kept/file", "text").file("/single", "text");
    let bundle = bundle.set("/linux/readonlyPaths", json!(["/kept", "/single", "/proc/sys"]));
    let output = bundle.run(&[
        "read",
        "/kept/file",
        "+",
        "write",
        "/kept/file",
        "x",
        "+",
        "write",
        "/kept/new",
        "x",
        "+",
        "write",
        "/single",
        "x",
        "+",
        "write",
        "/proc/sys/kernel/hostname",
        "x",
        "+",
        "write",
        "/beside",
        "x",
    ]);
    let output = output.ok().has("read /kept/file", "4 \"text\"").has("write /kept/file", "EROFS");
    let output = output.has("write /kept/new", "EROFS").has("write /single", "EROFS");
    output.has("write /proc/sys/kernel/hostname", "EROFS").has("write /beside", "ok");
}

#[test]
fn a_read_only_path_includes_submounts() {
    let bundle = Bundle::new("readonly-deep").mount("/top/sub", "tmpfs", "tmpfs", &[]);
    let output =
        bundle.set("/linux/readonlyPaths", json!(["/top"])).run(&["write", "/top/x", "x", "+", "mountinfo"]).ok();
    let all = mounts(&output.has("write /top/x", "EROFS").stdout);
    assert!(mount_at(&all, "/top").has("ro"), "{all:?}");
    // the bind mount is recursive: submounts are still visible
    mount_at(&all, "/top/sub");
}

#[test]
fn a_read_only_path_keeps_the_flags_of_its_mount() {
    let bundle = Bundle::new("readonly-flags").mount("/top", "tmpfs", "tmpfs", &["nosuid", "nodev", "noexec"]);
    let output = bundle.set("/linux/readonlyPaths", json!(["/top"])).run(&["mountinfo"]).ok();
    let top = mount_at(&mounts(&output.stdout), "/top");
    assert!(["ro", "nosuid", "nodev", "noexec"].iter().all(|flag| top.has(flag)), "{top:?}");
}

#[test]
fn masked_paths_require_a_mount_namespace() {
    if peer_differs(&["crun"], "runs in the host's mount namespace") {
        return;
    }
    let bundle = Bundle::new("no-mount-ns").without_namespace("mount");
    bundle.run_as_is().fails(1, "unable to restrict sys entries without a private MNT namespace");
    bundle.nothing_left();
}

/// The kernel lets a user namespace mount a new procfs only if a fully visible one is in its mount namespace
/// (`mount_too_revealing()`). A new one would show what is masked.
#[test]
fn with_no_pivot_no_unmasked_procfs_can_be_mounted() {
    const USER_MOUNT_PID: &str = "30020000";
    if peer_differs(&["crun"], "looks at /proc and /sys alone") {
        return;
    }
    for (propagation, user) in [("rslave", false), ("rslave", true), ("shared", false)] {
        if propagation == "shared" && peer_differs(&["runc"], "takes them off the host, too") {
            continue;
        }
        let bundle = Bundle::new("no-pivot-procfs").set("/linux/rootfsPropagation", propagation);
        let bundle = if user { bundle.user_namespace() } else { bundle };
        let top = bundle.host_directory("top");
        mount(Some("top"), &top, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        mount(None::<&str>, &top, None::<&str>, MsFlags::MS_SHARED, None::<&str>).unwrap();
        let places = ["one", "a b/two"].map(|name| top.join(name));
        for place in &places {
            std::fs::create_dir_all(place).unwrap();
            mount(Some("proc"), place, Some("proc"), MsFlags::empty(), None::<&str>).unwrap();
        }
        let bundle = bundle.sees(&["unshare", USER_MOUNT_PID, "+", "child", "mount", "proc", "/tmp"]);
        let output = bundle.launch("run", &["--no-pivot"]).finish();
        let kept = places.each_ref().map(|place| place.join("self").exists());
        umount2(&top, MntFlags::MNT_DETACH).unwrap();
        let own = std::fs::exists("/proc/self/status").unwrap();
        assert!(kept == [true; 2] && own, "the host lost what the container was to lose: {output}");
        output.ok().has("unshare", "ok").has("mount /tmp", "EPERM");
    }
}

#[test]
fn a_path_that_is_listed_twice_is_masked_once() {
    let bundle = Bundle::new("twice").set("/linux/maskedPaths", json!(["/proc/keys", "/proc/keys/", "/proc/keys"]));
    let output = bundle.run(&["mountinfo"]).ok();
    let count = mounts(&output.stdout).iter().filter(|mount| mount.point == "/proc/keys").count();
    assert!(count == 1 || peer_differs(&["runc", "crun"], "masks it twice"), "{output}");
}
