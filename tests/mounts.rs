//! Mounts: every option of the spec, propagation, bind mounts, cgroup mounts, and the root.

use crate::support::kernel::{Mount, mount_at, mounts};
use crate::support::{Bundle, Output, World, peer_differs, world};
use nix::mount::{MsFlags, mount};

/// The mounts that the payload printed.
fn seen(output: &Output) -> Vec<Mount> {
    mounts(&output.stdout)
}

/// The mount at `point` as the payload sees it.
fn mount_seen_at(bundle: Bundle, point: &str) -> Mount {
    mount_at(&seen(&bundle.run(&["mountinfo"]).ok()), point)
}

#[test]
fn the_default_mounts_are_there() {
    let all = seen(&Bundle::new("defaults").run(&["mountinfo"]).ok());
    for (point, fstype) in [
        ("/proc", "proc"),
        ("/dev", "tmpfs"),
        ("/dev/pts", "devpts"),
        ("/dev/shm", "tmpfs"),
        ("/dev/mqueue", "mqueue"),
        ("/sys", "sysfs"),
    ] {
        assert_eq!(mount_at(&all, point).fstype, fstype, "{point}");
    }
    let dev = mount_at(&all, "/dev");
    assert!(dev.has("nosuid") && !dev.has("noexec") && !dev.has("relatime"), "{dev:?}");
    assert!(dev.super_has("size=65536k") && dev.super_has("mode=755"), "{dev:?}");
    let pts = mount_at(&all, "/dev/pts");
    assert!(pts.super_has("gid=5") && pts.super_has("mode=620") && pts.super_has("ptmxmode=666"), "{pts:?}");
    let sys = mount_at(&all, "/sys");
    assert!(["ro", "nosuid", "nodev", "noexec"].iter().all(|option| sys.has(option)), "{sys:?}");
}

#[test]
fn no_mount_of_the_host_is_seen() {
    let bundle = Bundle::new("hidden");
    let outside = bundle.dir.display().to_string();
    let all = seen(&bundle.run(&["mountinfo"]).ok());
    assert!(all.iter().all(|m| !m.point.contains(&outside)), "{all:?}");
    assert!(all.iter().all(|m| m.point == "/" || ["/proc", "/dev", "/sys"].iter().any(|p| m.point.starts_with(p))));
}

/// Options, the flags that the mount must have, and those that it must not have.
type Row = (&'static [&'static str], &'static [&'static str], &'static [&'static str]);

const VFS_OPTIONS: &[Row] = &[
    (&[], &["rw", "relatime"], &["ro", "nosuid", "nodev", "noexec", "noatime"]),
    (&["ro"], &["ro"], &["rw"]),
    (&["ro", "rw"], &["rw"], &["ro"]),
    (&["rw", "ro"], &["ro"], &["rw"]),
    (&["nosuid"], &["nosuid"], &["nodev"]),
    (&["nosuid", "suid"], &[], &["nosuid"]),
    (&["nodev"], &["nodev"], &["nosuid"]),
    (&["nodev", "dev"], &[], &["nodev"]),
    (&["noexec"], &["noexec"], &["nosuid"]),
    (&["noexec", "exec"], &[], &["noexec"]),
    (&["noatime"], &["noatime"], &["relatime"]),
    (&["noatime", "atime"], &["relatime"], &["noatime"]),
    (&["nodiratime"], &["nodiratime"], &["noatime"]),
    (&["nodiratime", "diratime"], &[], &["nodiratime"]),
    (&["relatime"], &["relatime"], &["noatime"]),
    (&["strictatime"], &[], &["relatime", "noatime"]),
    (&["strictatime", "nostrictatime"], &["relatime"], &["noatime"]),
    (&["relatime", "norelatime"], &["relatime"], &["noatime"]),
    (&["nosuid", "nodev", "noexec", "ro", "noatime"], &["nosuid", "nodev", "noexec", "ro", "noatime"], &["rw"]),
];

#[test]
fn mount_options_become_flags_of_the_mount() {
    if peer_differs(&["crun"], "an option does not undo the one before it") {
        return;
    }
    let mut bundle = Bundle::new("options");
    for (row, (options, _, _)) in VFS_OPTIONS.iter().enumerate() {
        bundle = bundle.mount(&format!("/m/{row}"), "tmpfs", "tmpfs", options);
    }
    let all = seen(&bundle.run(&["mountinfo"]).ok());
    for (row, (options, has, lacks)) in VFS_OPTIONS.iter().enumerate() {
        let found = mount_at(&all, &format!("/m/{row}"));
        assert!(has.iter().all(|option| found.has(option)), "{options:?}: {found:?}");
        assert!(!lacks.iter().any(|option| found.has(option)), "{options:?}: {found:?}");
    }
}

#[test]
fn bind_options_become_flags_of_the_mount() {
    if peer_differs(&["crun"], "an option does not undo the one before it") {
        return;
    }
    let mut bundle = Bundle::new("bind-options");
    let source = bundle.host_directory("source");
    for (row, (options, _, _)) in VFS_OPTIONS.iter().enumerate() {
        bundle = bundle.bind(&source, &format!("/m/{row}"), &[&["bind"], *options].concat());
    }
    let all = seen(&bundle.run(&["mountinfo"]).ok());
    for (row, (options, has, lacks)) in VFS_OPTIONS.iter().enumerate() {
        let found = mount_at(&all, &format!("/m/{row}"));
        assert!(has.iter().all(|option| found.has(option)), "{options:?}: {found:?}");
        assert!(!lacks.iter().any(|option| found.has(option)), "{options:?}: {found:?}");
    }
}

#[test]
fn the_option_defaults_sets_nothing() {
    if peer_differs(&["runc"], "passes the word on to the file system") {
        return;
    }
    let bundle = Bundle::new("no-wish").mount("/m", "tmpfs", "tmpfs", &["defaults"]);
    let source = bundle.host_directory("source");
    let all = seen(&bundle.bind(source, "/b", &["bind", "defaults"]).run(&["mountinfo"]).ok());
    assert!(["/m", "/b"].iter().all(|point| mount_at(&all, point).has("rw")), "{all:?}");
}

#[test]
fn superblock_options_become_superblock_flags() {
    for (options, has, lacks) in [
        (&["sync"][..], &["sync"][..], &[][..]),
        (&["sync", "async"], &[], &["sync"]),
        (&["dirsync"], &["dirsync"], &[]),
        (&["lazytime"], &["lazytime"], &[]),
        (&["lazytime", "nolazytime"], &[], &["lazytime"]),
    ] {
        if options.len() > 1 && peer_differs(&["crun"], "an option does not undo the one before it") {
            continue;
        }
        if options.contains(&"lazytime") && peer_differs(&["runc<1.2"], "knows no lazytime") {
            continue;
        }
        let found = mount_seen_at(Bundle::new("super").mount("/m", "tmpfs", "tmpfs", options), "/m");
        assert!(has.iter().all(|option| found.super_has(option)), "{options:?}: {found:?}");
        assert!(!lacks.iter().any(|option| found.super_has(option)), "{options:?}: {found:?}");
    }
}

#[test]
fn options_without_visible_effect_are_accepted() {
    for option in ["silent", "loud", "iversion", "noiversion", "mand", "nomand", "symfollow"] {
        if option == "symfollow" && peer_differs(&["runc<1.2", "crun"], "knows no symfollow") {
            continue;
        }
        if option != "mand" && option != "nomand" && peer_differs(&["runc<1.2", "crun"], "passes it on as data") {
            continue;
        }
        Bundle::new(option).mount("/m", "tmpfs", "tmpfs", &[option]).run(&["true"]).ok();
    }
}

#[test]
fn an_unknown_option_is_passed_to_the_filesystem() {
    let found =
        mount_seen_at(Bundle::new("data").mount("/m", "tmpfs", "tmpfs", &["size=12k", "mode=1711", "uid=7"]), "/m");
    assert!(["size=12k", "mode=1711", "uid=7"].iter().all(|option| found.super_has(option)), "{found:?}");
    let bundle = Bundle::new("bad-data").mount("/m", "tmpfs", "tmpfs", &["nosuchoption"]);
    bundle.run_as_is().fails(1, "invalid argument");
    bundle.nothing_left();
}

#[test]
fn nosymfollow_is_a_mount_flag() {
    if !peer_differs(&["runc<1.2", "crun"], "knows no nosymfollow") {
        let found = mount_seen_at(Bundle::new("nosymfollow").mount("/m", "tmpfs", "tmpfs", &["nosymfollow"]), "/m");
        assert!(found.has("nosymfollow"), "{found:?}");
        let undone = Bundle::new("symfollow").mount("/m", "tmpfs", "tmpfs", &["nosymfollow", "symfollow"]);
        let found = mount_seen_at(undone, "/m");
        assert!(!found.has("nosymfollow"), "{found:?}");
    }
}

/// Names below `/dev` are mounted on from within it. One that an earlier mount has made is resolved from the root instead, which
/// leaves `/dev`: the next name must not be looked up from there.
#[test]
fn a_name_below_dev_that_is_there_already_does_not_mislead_the_next() {
    let bundle = Bundle::new("belowdev").without_mount("/dev/shm").without_mount("/dev/mqueue");
    let bundle = bundle.without_mount("/dev/pts").mount("/dev/shm/inner", "tmpfs", "tmpfs", &[]);
    let bundle = bundle.mount("/dev/pts", "devpts", "devpts", &["newinstance", "ptmxmode=0666"]);
    let bundle = bundle.mount("/dev/shm", "tmpfs", "tmpfs", &[]).mount("/dev/mqueue", "mqueue", "mqueue", &[]);
    let all = seen(&bundle.run(&["mountinfo"]).ok());
    for (point, fstype) in [("/dev/pts", "devpts"), ("/dev/shm", "tmpfs"), ("/dev/mqueue", "mqueue")] {
        assert_eq!(mount_at(&all, point).fstype, fstype, "{point}");
    }
}

/// An image's `/dev/ptmx` that is copied into a new `/dev` gives way to the container's own.
#[test]
fn a_dev_with_a_copy_of_the_image_s_has_its_own_ptmx() {
    let bundle = Bundle::new("copydev").without_mount("/dev").file("/dev/ptmx", "the image's");
    let bundle = bundle.without_mount("/dev/pts").without_mount("/dev/shm").without_mount("/dev/mqueue");
    let bundle = bundle.mount("/dev", "tmpfs", "tmpfs", &["nosuid", "mode=755", "tmpcopyup"]);
    bundle.run(&["stat", "/dev/ptmx"]).ok().has("/dev/ptmx.link", "pts/ptmx");
}

#[test]
fn a_remount_changes_the_mount_before_it() {
    let bundle = Bundle::new("remount").mount("/m", "tmpfs", "tmpfs", &["nosuid", "size=12k"]);
    let bundle = bundle.mount("/m", "tmpfs", "tmpfs", &["remount", "ro", "nosuid", "size=16k"]);
    let source = bundle.host_directory("source");
    let bundle = bundle.bind(&source, "/b", &["bind"]).bind(&source, "/b", &["bind", "remount", "ro", "noexec"]);
    let all = seen(&bundle.run(&["mountinfo"]).ok());
    let (fresh, bound) = (mount_at(&all, "/m"), mount_at(&all, "/b"));
    assert!(fresh.has("ro") && fresh.has("nosuid") && fresh.super_has("size=16k"), "{fresh:?}");
    assert!(bound.has("ro") && bound.has("noexec"), "{bound:?}");
    for point in ["/m", "/b"] {
        assert_eq!(all.iter().filter(|mount| mount.point == point).count(), 1, "{all:?}");
    }
}

/// Mounts a tmpfs and a second one in it, both with these flags.
fn tree(bundle: &Bundle, flags: MsFlags) -> std::path::PathBuf {
    let top = bundle.host_directory("tree");
    mount(Some("top"), &top, Some("tmpfs"), flags, None::<&str>).unwrap();
    std::fs::create_dir(top.join("sub")).unwrap();
    mount(Some("sub"), &top.join("sub"), Some("tmpfs"), flags, None::<&str>).unwrap();
    top
}

fn unmount_tree(top: &std::path::Path) {
    nix::mount::umount2(top, nix::mount::MntFlags::MNT_DETACH).unwrap();
}

#[test]
fn recursive_options_apply_to_submounts() {
    if peer_differs(&["runc<1.2"], "knows no recursive options") {
        return;
    }
    for (option, flag) in [
        ("rro", "ro"),
        ("rnosuid", "nosuid"),
        ("rnodev", "nodev"),
        ("rnoexec", "noexec"),
        ("rnodiratime", "nodiratime"),
        ("rnoatime", "noatime"),
        ("rnosymfollow", "nosymfollow"),
    ] {
        if ["rnosymfollow", "rnodiratime", "rnoatime"].contains(&option)
            && peer_differs(&["crun"], "EINVAL from mount_setattr")
        {
            continue;
        }
        let bundle = Bundle::new(option);
        let top = tree(&bundle, MsFlags::empty());
        let bundle = bundle.bind(&top, "/m", &["rbind", option]).sees(&["mountinfo"]);
        let all = seen(&bundle.run_as_is().ok());
        for point in ["/m", "/m/sub"] {
            assert!(mount_at(&all, point).has(flag), "{option} at {point}: {all:?}");
        }
        unmount_tree(&top);
    }
}

#[test]
fn recursive_options_clear_flags() {
    if peer_differs(&["runc<1.2"], "knows no recursive options") {
        return;
    }
    let strict = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    // nix has no name for this one
    let strict = strict | MsFlags::from_bits_retain(libc::MS_NOSYMFOLLOW);
    for (option, flag) in
        [("rrw", "ro"), ("rsuid", "nosuid"), ("rdev", "nodev"), ("rexec", "noexec"), ("rsymfollow", "nosymfollow")]
    {
        if option == "rsymfollow" && peer_differs(&["crun"], "EINVAL from mount_setattr") {
            continue;
        }
        let bundle = Bundle::new(option);
        let top = tree(&bundle, MsFlags::empty());
        for point in [top.clone(), top.join("sub")] {
            let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | strict;
            mount(None::<&str>, &point, None::<&str>, flags, None::<&str>).unwrap();
        }
        let bundle = bundle.bind(&top, "/m", &["rbind", option]).sees(&["mountinfo"]);
        let all = seen(&bundle.run_as_is().ok());
        for point in ["/m", "/m/sub"] {
            let found = mount_at(&all, point);
            let kept = ["ro", "nosuid", "nodev", "noexec", "nosymfollow"].iter().filter(|kept| **kept != flag);
            assert!(!found.has(flag) && kept.clone().count() == 4, "{option} at {point}: {all:?}");
            // at the top the bundle's options determine all flags; submounts keep the others
            assert!(point == "/m" || kept.clone().all(|kept| found.has(kept)), "{option} at {point}: {all:?}");
        }
        unmount_tree(&top);
    }
}

#[test]
fn recursive_atime_options_are_applied() {
    if peer_differs(&["runc<1.2", "crun"], "knows no such options, or only some") {
        return;
    }
    // flags of the tree before, the option, and the flags that its mounts must have and must not have
    let no_atime = MsFlags::MS_NOATIME | MsFlags::MS_NODIRATIME;
    for (before, option, has, lacks) in [
        (MsFlags::empty(), "rstrictatime", &[][..], &["relatime", "noatime"][..]),
        (no_atime, "rrelatime", &["relatime"], &["noatime"]),
        (no_atime, "ratime", &["relatime"], &["noatime"]),
        (no_atime, "rdiratime", &["noatime"], &["nodiratime"]),
        (MsFlags::MS_STRICTATIME, "rnostrictatime", &["relatime"], &["noatime"]),
        // as with runc: back to the kernel's default
        (no_atime, "rnorelatime", &["relatime"], &["noatime"]),
    ] {
        let bundle = Bundle::new(option);
        let top = tree(&bundle, before);
        let bundle = bundle.bind(&top, "/m", &["rbind", option]).sees(&["mountinfo"]);
        let all = seen(&bundle.run_then(|| unmount_tree(&top)).ok());
        for point in ["/m", "/m/sub"] {
            let found = mount_at(&all, point);
            assert!(has.iter().all(|flag| found.has(flag)), "{option}: {found:?}");
            assert!(!lacks.iter().any(|flag| found.has(flag)), "{option}: {found:?}");
        }
    }
}

#[test]
fn a_plain_option_of_an_rbind_does_not_reach_submounts() {
    let bundle = Bundle::new("shallow");
    let top = tree(&bundle, MsFlags::empty());
    let bundle = bundle.bind(&top, "/m", &["rbind", "ro"]).sees(&["mountinfo", "+", "write", "/m/sub/x", "x"]);
    let output = bundle.run_as_is().ok().has("write /m/sub/x", "ok");
    let all = seen(&output);
    assert!(mount_at(&all, "/m").has("ro") && !mount_at(&all, "/m/sub").has("ro"), "{all:?}");
    unmount_tree(&top);
}

#[test]
fn a_bind_mount_keeps_the_flags_of_its_source() {
    let bundle = Bundle::new("kept");
    let top = tree(&bundle, MsFlags::MS_NOSUID | MsFlags::MS_NODEV);
    let bundle = bundle.bind(&top, "/kept", &["rbind"]).bind(&top, "/cleared", &["bind", "dev", "ro"]);
    let all = seen(&bundle.sees(&["mountinfo"]).run_then(|| unmount_tree(&top)).ok());
    let kept = mount_at(&all, "/kept");
    if !peer_differs(&["crun"], "a recursive bind loses the flags of its source") {
        assert!(kept.has("nosuid") && kept.has("nodev"), "{kept:?}");
    }
    if !peer_differs(&["runc<1.2", "crun"], "cannot clear a flag of a bind mount") {
        let cleared = mount_at(&all, "/cleared");
        assert!(!cleared.has("nodev") && cleared.has("ro"), "{cleared:?}");
    }
}

#[test]
fn only_rbind_includes_submounts() {
    let bundle = Bundle::new("depth");
    let top = tree(&bundle, MsFlags::empty());
    let bundle = bundle.bind(&top, "/deep", &["rbind"]).bind(&top, "/flat", &["bind"]).sees(&["mountinfo"]);
    let all = seen(&bundle.run_then(|| unmount_tree(&top)).ok());
    assert!(all.iter().any(|m| m.point == "/deep/sub"), "{all:?}");
    assert!(!all.iter().any(|m| m.point == "/flat/sub"), "{all:?}");
}

#[test]
fn propagation_options_are_applied() {
    if peer_differs(&["crun"], "makes everything private first, where the bundle says nothing of the root") {
        return;
    }
    for (option, top_is, sub_is) in [
        ("private", "private", "shared slave"),
        ("rprivate", "private", "private"),
        ("slave", "slave", "shared slave"),
        ("rslave", "slave", "slave"),
        ("shared", "shared slave", "shared slave"),
        ("rshared", "shared slave", "shared slave"),
        ("unbindable", "unbindable", "shared slave"),
        ("runbindable", "unbindable", "unbindable"),
    ] {
        let bundle = Bundle::new(option);
        let top = tree(&bundle, MsFlags::empty());
        mount(None::<&str>, &top, None::<&str>, MsFlags::MS_SHARED | MsFlags::MS_REC, None::<&str>).unwrap();
        let bundle = bundle.bind(&top, "/m", &["rbind", option]).sees(&["mountinfo"]);
        let all = seen(&bundle.run_then(|| unmount_tree(&top)).ok());
        let of = |point: &str| mount_at(&all, point).propagation();
        // a peer group of the host shows as a master here, so compare only what the option sets
        let same =
            |seen: &str, wanted: &str| seen.trim_start_matches("shared ") == wanted.trim_start_matches("shared ");
        assert!(same(&of("/m"), top_is), "{option}: {}, not {top_is}: {all:?}", of("/m"));
        assert!(same(&of("/m/sub"), sub_is), "{option}, below: {}, not {sub_is}: {all:?}", of("/m/sub"));
        assert_eq!(of("/m").contains("shared"), top_is.contains("shared"), "{option}: {all:?}");
    }
}

#[test]
fn rootfs_propagation_is_as_configured() {
    for (value, seen_as) in [
        ("", "private"),
        ("private", "private"),
        ("slave", "private"),
        ("shared", "shared"),
        ("unbindable", "unbindable"),
    ] {
        if ["shared", "unbindable"].contains(&value) && peer_differs(&["runc<1.3.1", "crun"], "the value has no effect")
        {
            continue;
        }
        let bundle = Bundle::new("root-propagation");
        let bundle = if value.is_empty() { bundle } else { bundle.set("/linux/rootfsPropagation", value) };
        let root = mount_seen_at(bundle, "/");
        let is = root.propagation();
        assert!(is == seen_as || (seen_as == "private" && is == "slave"), "{value}: {is}: {root:?}");
    }
}

#[test]
fn an_unknown_propagation_is_refused() {
    if peer_differs(&["crun"], "takes any word") {
        return;
    }
    let bundle = Bundle::new("bad-propagation").set("/linux/rootfsPropagation", "sideways");
    bundle.run_as_is().fails(1, "sideways");
    bundle.nothing_left();
}

#[test]
fn the_cgroup_mount_has_the_configured_options() {
    let bundle =
        Bundle::new("cgroup-mount").mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "ro"]);
    let output = bundle.run(&["mountinfo", "+", "ls", "/sys/fs/cgroup", "+", "mkdir", "/sys/fs/cgroup/x"]).ok();
    let found = mount_at(&seen(&output), "/sys/fs/cgroup");
    if world() == World::V1 && peer_differs(&["runc"], "only the hierarchies are read-only, not the directory of them")
    {
        return;
    }
    assert!(["ro", "nosuid", "nodev", "noexec"].iter().all(|option| found.has(option)), "{found:?}");
    assert_eq!(found.fstype, if world() == World::V2 { "cgroup2" } else { "tmpfs" });
    assert_eq!(output.get("mkdir /sys/fs/cgroup/x"), Some("EROFS"));
    let names = output.get("ls /sys/fs/cgroup").unwrap();
    let wanted = if world() == World::V2 { "cgroup.procs" } else { "memory" };
    assert!(names.split(' ').any(|name| name == wanted), "{names}");
}

#[test]
fn the_cgroup_mount_shows_the_containers_own_cgroup() {
    let bundle = Bundle::new("cgroup-self").mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev"]);
    let file = if world() == World::V2 { "/sys/fs/cgroup/cgroup.procs" } else { "/sys/fs/cgroup/pids/cgroup.procs" };
    let output = bundle.run(&["cat", file]).ok();
    assert_eq!(output.stdout, "1\n");
}

#[test]
fn without_a_cgroup_namespace_the_cgroup_mount_contains_the_containers_cgroup() {
    let bundle = Bundle::new("cgroup-shared").without_namespace("cgroup");
    let bundle = bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "ro"]);
    // on v1 the container's own directories are bound; on v2 the whole hierarchy is mounted
    let own = bundle.cgroup();
    let file = match world() {
        World::V2 => format!("/sys/fs/cgroup{own}/cgroup.procs"),
        World::V1 => "/sys/fs/cgroup/pids/cgroup.procs".to_owned(),
    };
    let output = bundle.run(&["cat", &file]).ok();
    assert_eq!(output.stdout, "1\n");
}

#[test]
fn a_read_only_root_is_read_only() {
    let bundle = Bundle::new("readonly").set("/root/readonly", true);
    let output = bundle.run(&[
        "write",
        "/new",
        "x",
        "+",
        "write",
        "/tmp/new",
        "x",
        "+",
        "write",
        "/dev/shm/new",
        "x",
        "+",
        "mountinfo",
    ]);
    let output = output.ok().has("write /new", "EROFS").has("write /tmp/new", "EROFS").has("write /dev/shm/new", "ok");
    assert!(mount_at(&seen(&output), "/").has("ro"));
    Bundle::new("writable").run(&["write", "/new", "x"]).ok().has("write /new", "ok");
}

#[test]
fn no_pivot_moves_the_root() {
    let bundle = Bundle::new("no-pivot").sees(&["ls", "/", "+", "mountinfo"]);
    let output = bundle.launch("run", &["--no-pivot"]).finish().ok();
    assert!(output.get("ls /").is_some_and(|names| names.contains("payload")), "{output}");
}

#[test]
fn the_rootfs_may_be_at_any_path() {
    let elsewhere = Bundle::new("elsewhere");
    let root = elsewhere.rootfs();
    let bundle = Bundle::new("absolute").set("/root/path", root.to_str().unwrap());
    bundle.run(&["write", "/here", "x"]).ok();
    assert!(root.join("here").exists());
    let bundle = Bundle::new("dotted").set("/root/path", format!("../{}/./rootfs", elsewhere.id));
    bundle.run(&["write", "/there", "x"]).ok();
    assert!(root.join("there").exists());
    let bundle = Bundle::new("missing").set("/root/path", "nosuch");
    bundle.run_as_is().fails(1, "no such file or directory");
    bundle.nothing_left();
}
