//! Symlinks of the image at mount targets, and targets that are spelled in other ways.

use super::Victim;
use crate::support::world::{World, world};
use crate::support::{Bundle, json, kernel, peer_differs};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// CVE-2023-27561, CVE-2023-28642, CVE-2025-54867: `/proc` or `/sys` of the image is a symlink.
#[test]
fn a_symlink_at_proc_or_sys_is_not_followed_to_the_host() {
    for (path, elsewhere) in [("/proc", "/fake"), ("/sys", "/fake")] {
        let bundle = Bundle::new("linked-proc").directory("/fake");
        let victim = Victim::of(&bundle);
        for target in [elsewhere.to_owned(), victim.dir.display().to_string(), "/".to_owned()] {
            let bundle = Bundle::new("linked").directory("/fake").symlink(path, &target).sees(&["mountinfo"]);
            let output = bundle.run_as_is();
            victim.assert_unchanged();
            bundle.nothing_left();
            // either refused, or a real mount on a real directory
            let real = kernel::mounts(&output.stdout).iter().any(|m| m.point == path && m.fstype == path[1..]);
            let refused = output.code != 0 && output.stderr.contains(path);
            assert!(
                refused || real || peer_differs(&["crun"], "mounts where the link leads"),
                "{path} -> {target}: {output}"
            );
        }
    }
}

/// CVE-2026-41579, CVE-2026-47766, CVE-2026-88264, CVE-2026-88265: `/dev` of the image is a symlink out of the root.
#[test]
fn a_symlink_at_dev_is_not_followed_to_the_host() {
    for with_mounts in [true, false] {
        let bundle = Bundle::new("linked-dev");
        let victim = Victim::of(&bundle);
        let mut bundle = bundle.symlink("/dev", &victim.dir).sees(&["true"]);
        if !with_mounts {
            bundle = ["/dev/mqueue", "/dev/shm", "/dev/pts", "/dev"].iter().fold(bundle, |b, m| b.without_mount(m));
        }
        let output = bundle.run_as_is();
        if !peer_differs(&["runc<1.3.6"], "makes links through it") {
            victim.assert_unchanged();
        }
        assert!(output.code == 0 || !output.stderr.is_empty());
    }
}

/// CVE-2019-18837, CVE-2026-87766, CVE-2021-30465 without a race: a mount's target leads out of the root.
#[test]
fn a_mount_target_cannot_lead_outside() {
    let bundle = Bundle::new("target");
    let victim = Victim::of(&bundle);
    let ups = "../".repeat(20);
    let file = bundle.host_file("file", "attack");
    let bundle = bundle.symlink("/absolute", &victim.dir).symlink("/up", format!("{ups}{}", victim.dir.display()));
    let bundle = bundle.symlink("/root", "/").symlink("/magic", "/proc/self/root");
    let bundle = bundle.bind(&file, "/absolute/kept", &["bind"]).bind(&file, "/up/kept", &["bind"]);
    let bundle = bundle.mount("/absolute/new/er", "tmpfs", "tmpfs", &[]).bind(&file, "/root/made", &["bind"]);
    let bundle = bundle.bind(&file, &format!("/magic{}/kept", victim.dir.display()), &["bind"]).sees(&["true"]);
    bundle.run_as_is();
    victim.assert_unchanged();
}

/// CVE-2025-52881, CVE-2019-16884, CVE-2025-62596: a mount inside procfs would redirect the runtime's writes to it.
#[test]
fn nothing_may_be_mounted_inside_proc() {
    for (n, target) in
        ["/proc/sys", "/proc/self", "/proc/sys/kernel", "/proc/self/attr", "/proc/1"].into_iter().enumerate()
    {
        let bundle = Bundle::new(&format!("in-proc-{n}"));
        let fake = bundle.host_directory("fake");
        let bundle = bundle.bind(fake, target, &["bind"]).sees(&["mountinfo"]);
        let output = bundle.run_as_is();
        let mounted = kernel::mounts(&output.stdout).iter().any(|m| m.point.starts_with(target));
        let why = "mounts anything there";
        assert!(output.code != 0 && !mounted || peer_differs(&["crun", "runc<1.2"], why), "{target}: {output}");
    }
    // files that engines bind to show a container's own resources (lxcfs) are allowed
    for name in ["cpuinfo", "meminfo", "uptime", "loadavg", "stat", "swaps", "diskstats"] {
        let bundle = Bundle::new("lxcfs");
        let own = bundle.host_file("own", "own");
        let path = format!("/proc/{name}");
        bundle.bind(own, &path, &["bind"]).run(&["read", &path]).ok().has(&format!("read {path}"), "3 \"own\"");
    }
}

/// CVE-2019-16884, CVE-2019-19921: a volume mounted over `/proc` would receive what the runtime writes for the kernel.
#[test]
fn a_volume_cannot_be_mounted_over_proc() {
    let bundle = Bundle::new("over-proc");
    let fake = bundle.host_directory("fake");
    let bundle = bundle.bind(fake, "/proc", &["bind"]).sees(&["true"]);
    assert!(bundle.run_as_is().code != 0 || peer_differs(&["crun", "runc"], "binds it; labels would be refused"));
}

/// CVE-2026-55686: the missing working directory is behind a symlink of the image that leads out.
#[test]
fn a_linked_working_directory_stays_inside() {
    let bundle = Bundle::new("linked-cwd");
    let victim = Victim::of(&bundle);
    let bundle = bundle.symlink("/job", &victim.dir).set("/process/cwd", "/job/new").sees(&["cwd"]);
    bundle.run_as_is();
    victim.assert_unchanged();
}

const OWN_DEV: [&str; 4] = ["/dev/mqueue", "/dev/shm", "/dev/pts", "/dev"];

/// A bundle without mounts on `/dev` and below.
fn without_dev(bundle: Bundle) -> Bundle {
    OWN_DEV.iter().fold(bundle, |bundle, point| bundle.without_mount(point))
}

/// The names, types, owners, device numbers and sizes of a directory's entries.
fn listing(dir: &Path) -> Vec<String> {
    let tell = |entry: std::fs::DirEntry| {
        let meta = entry.path().symlink_metadata().unwrap();
        format!("{:?} {:o} {}:{} {:x}", entry.file_name(), meta.mode(), meta.uid(), meta.gid(), meta.rdev())
    };
    let mut all: Vec<String> = std::fs::read_dir(dir).unwrap().map(|entry| tell(entry.unwrap())).collect();
    all.sort();
    all
}

/// Creates a directory like a host's `/dev`.
fn hosts_dev(bundle: &Bundle) -> std::path::PathBuf {
    use nix::sys::stat::{Mode, SFlag, makedev, mknod};
    let dev = bundle.host_directory("host-dev");
    std::fs::create_dir(dev.join("pts")).unwrap();
    for (name, major, minor) in [("ptmx", 5, 2), ("null", 1, 3)] {
        mknod(&dev.join(name), SFlag::S_IFCHR, Mode::from_bits_truncate(0o640), makedev(major, minor)).unwrap();
    }
    dev
}

/// CVE-2026-41579 by spelling (move t9): the host's `/dev` is bound at `/dev`, with the destination spelled differently. The
/// runtime must not create, remove or change anything in it.
#[test]
fn the_hosts_dev_is_not_written_to_however_its_destination_is_spelled() {
    let mut hurt = Vec::new();
    let spelled =
        ["/dev", "/dev/", "//dev", "/x/../dev", "/./dev/.", "/dev//", "/link", "/link/", "/links/dev", "ROOT/dev"];
    for (n, destination) in spelled.into_iter().enumerate() {
        let bundle = without_dev(Bundle::new(&format!("dev-{n}"))).symlink("/link", "/dev").symlink("/links", "/");
        let dev = hosts_dev(&bundle);
        let before = listing(&dev);
        let destination = destination.replace("ROOT", bundle.rootfs().to_str().unwrap());
        let bundle = bundle.bind(&dev, &destination, &["rbind", "rw"]).sees(&["true"]);
        bundle.run_as_is();
        let after = listing(&dev);
        let other = destination.contains("link") || destination.contains("rootfs");
        let why = "changes it through a link, or by a path of the host";
        if before != after && !(other && peer_differs(&["runc", "crun"], why)) {
            hurt.push(format!("{destination}: {after:?}"));
        }
    }
    assert!(hurt.is_empty(), "the host's /dev was changed: {hurt:#?}");
}

/// CVE-2026-47766 by spelling: `/dev` of the image is a symlink, and a mount has its target as the destination.
#[test]
fn devices_do_not_follow_a_symlinked_dev_that_is_also_a_mount_target() {
    for destination in ["/dev/", "//dev", "/x/../dev"] {
        let bundle = Bundle::new("dev-link");
        let victim = Victim::of(&bundle);
        let bundle = without_dev(bundle).symlink("/dev", &victim.dir).mount(destination, "tmpfs", "tmpfs", &[]);
        let bundle = bundle.sees(&["true"]);
        bundle.run_as_is();
        if !peer_differs(&["runc<1.3.6", "crun"], "makes links through it") {
            victim.assert_unchanged();
        }
    }
}

/// CVE-2019-16884, CVE-2025-52881 through symlinks of the image (move t10): no kind of mount is made inside procfs.
#[test]
fn nothing_is_mounted_inside_proc_through_a_link() {
    let targets = ["/proc/sys", "/proc/self", "/proc/1/attr", "/proc/sys/kernel", "/proc/thread-self/attr", "/proc/fs"];
    let cgroup = if world() == World::V2 { "cgroup2" } else { "cgroup" };
    let mut mounted = Vec::new();
    for (n, target) in targets.into_iter().enumerate() {
        for kind in ["bind", "tmpfs", "mqueue", "devpts", cgroup, "proc"] {
            // a symlink to the target, and a symlink on the way to it
            for (link, to, destination) in
                [("/data", target.to_owned(), "/data".to_owned()), ("/up", "/".to_owned(), format!("/up{target}"))]
            {
                let bundle = Bundle::new(&format!("in-proc-{n}")).symlink(link, to);
                let volume = bundle.host_directory("volume");
                let source = if kind == "bind" { volume.to_str().unwrap().to_owned() } else { kind.to_owned() };
                let options: &[&str] = if kind == "bind" { &["rbind", "rw"] } else { &[] };
                let bundle = bundle.mount(&destination, kind, source, options);
                let bundle = bundle.without("/linux/maskedPaths").without("/linux/readonlyPaths").sees(&["mountinfo"]);
                let output = bundle.run_as_is();
                if kernel::mounts(&output.stdout).iter().any(|mount| mount.point.starts_with("/proc/")) {
                    mounted.push(format!("{kind} at {destination} -> {target}"));
                }
            }
        }
    }
    assert!(mounted.is_empty() || peer_differs(&["crun", "runc<1.2"], "mounts some there"), "{mounted:#?}");
}

/// CVE-2025-24965, CVE-2026-84042: crun's handler for virtual machines follows a symlink of the image, or executes its
/// program, as root of the host. Annotations do not select a handler here.
#[test]
fn annotations_do_not_select_a_virtual_machine_handler() {
    let bundle = Bundle::new("krun").set("/annotations", json!({"run.oci.handler": "krun", "krun.cpus": "1"}));
    let victim = Victim::of(&bundle);
    let bundle = bundle.symlink("/.krun_config.json", victim.dir.join("kept")).sees(&["ns"]);
    let output = bundle.run_as_is();
    victim.assert_unchanged();
    let own = output.get("ns.mnt").is_none_or(|inside| inside != kernel::namespace("self", "mnt"));
    assert!(own, "the program ran on the host: {output}");
}
