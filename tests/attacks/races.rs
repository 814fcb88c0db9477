//! Races: a neighbour on a shared volume exchanges a directory with a symlink to the host while the runtime mounts, creates or
//! masks something below it. `ONGGI_TEST_RUNS=5000` sets the number of rounds.

use super::{Victim, rounds, through};
use crate::support::swapper::Swapper;
use crate::support::tty::Receiver;
use crate::support::world::{World, world};
use crate::support::{Bundle, json, kernel, peer_differs};
use std::path::Path;

/// A bundle with a volume on `/vol` in which `dir` is a directory and `link` leads to the victim.
fn with_volume(name: &str) -> (Bundle, Victim, std::path::PathBuf) {
    let bundle = Bundle::new(name);
    let victim = Victim::of(&bundle);
    let volume = bundle.host_directory("volume");
    std::fs::create_dir_all(volume.join("dir/s")).unwrap();
    std::os::unix::fs::symlink(&victim.dir, volume.join("link")).unwrap();
    let bundle = bundle.bind(&volume, "/vol", &["rbind", "rw"]).sees(&["true"]);
    (bundle, victim, volume)
}

/// Removes what a round has created in the volume, so that the next one has to create it again.
fn empty(volume: &Path) {
    for name in ["dir", "link"].map(|name| volume.join(name)).iter().filter(|path| !path.is_symlink()) {
        for entry in std::fs::read_dir(name).into_iter().flatten().flatten() {
            // the names may be exchanged: remove nothing through the symlink
            let path = entry.path();
            let kept = path.ends_with("kept") || path.ends_with("s");
            let _ = if kept { Ok(()) } else { std::fs::remove_dir_all(&path).or_else(|_| std::fs::remove_file(&path)) };
        }
    }
}

/// Runs the bundle repeatedly while the neighbour exchanges the names. A run may fail, but must not change the host.
fn races(name: &str, change: impl Fn(Bundle) -> Bundle) {
    let (bundle, victim, volume) = with_volume(name);
    let bundle = change(bundle);
    let mounts =
        kernel::mounts_of(std::process::id().cast_signed()).iter().filter(|m| m.point.contains(&bundle.id)).count();
    for part in 0..3 {
        let swapper = Swapper::of(&volume, "dir", "link");
        for round in 0..rounds(30).div_ceil(3) {
            let output = bundle.run_as_is();
            assert!(output.code == 0 || !output.stderr.is_empty(), "{name}, round {round}: {output}");
        }
        assert!(swapper.count() > 10, "the neighbour did next to nothing: the test proves nothing");
        drop(swapper);
        victim.assert_unchanged();
        if part < 2 {
            // the neighbour is stopped while the volume is emptied
            empty(&volume);
        }
    }
    let after =
        kernel::mounts_of(std::process::id().cast_signed()).iter().filter(|m| m.point.contains(&bundle.id)).count();
    assert_eq!(mounts, after, "{name}: mounts were left on the host");
}

/// CVE-2021-30465, CVE-2024-45310: bind mount targets that the runtime creates, directories and files.
#[test]
fn bind_targets_do_not_reach_the_host() {
    if peer_differs(&["runc<1.1.14"], "makes the targets outside") {
        return;
    }
    races("race-bind", |bundle| {
        let (dir, file) = (bundle.host_directory("source"), bundle.host_file("file", "attack"));
        let bundle = bundle.bind(dir, "/vol/dir/new/deep", &["rbind"]).bind(&file, "/vol/dir/file", &["bind"]);
        bundle.bind(&file, "/vol/dir/far/file", &["bind", "ro"])
    });
}

/// CVE-2021-30465: a tmpfs on the exchanged directory, and below it.
#[test]
fn tmpfs_targets_do_not_reach_the_host() {
    if peer_differs(&["runc<1.1.14"], "makes the targets outside") {
        return;
    }
    races("race-tmpfs", |b| {
        b.mount("/vol/dir/new/deep", "tmpfs", "tmpfs", &[]).mount("/vol/dir", "tmpfs", "tmpfs", &["ro"])
    });
}

/// CVE-2019-19921, CVE-2021-30465: procfs and sysfs, to which the runtime would write labels or sysctls.
#[test]
fn proc_and_sysfs_targets_do_not_reach_the_host() {
    if peer_differs(&["runc<1.1.14"], "makes the targets outside") {
        return;
    }
    races("race-proc", |b| b.mount("/vol/dir/p", "proc", "proc", &[]).mount("/vol/dir/q", "sysfs", "sysfs", &["ro"]));
}

/// CVE-2021-30465: cgroup mounts; on v1 a tmpfs with a directory for each hierarchy.
#[test]
fn cgroup_targets_do_not_reach_the_host() {
    if peer_differs(&["runc<1.1.14"], "makes the targets outside") {
        return;
    }
    let kind = if world() == World::V2 { "cgroup2" } else { "cgroup" };
    races("race-cgroup", |bundle| bundle.mount("/vol/dir/cg", kind, kind, &["ro"]));
}

/// CVE-2021-30465: mqueue and devpts.
#[test]
fn mqueue_and_devpts_targets_do_not_reach_the_host() {
    if peer_differs(&["runc<1.1.14"], "makes the targets outside") {
        return;
    }
    let options = ["newinstance", "ptmxmode=0666"];
    races("race-mqueue", |b| {
        b.mount("/vol/dir/q", "mqueue", "mqueue", &[]).mount("/vol/dir/t", "devpts", "devpts", &options)
    });
}

/// CVE-2021-30465: flags are set on the mount that was opened before: by a remount, and recursively.
#[test]
fn flags_are_set_on_no_other_mount() {
    races("race-remount", |bundle| {
        let bundle =
            bundle.mount("/vol/dir", "tmpfs", "tmpfs", &[]).mount("/vol/dir", "", "", &["bind", "remount", "ro"]);
        bundle.mount("/vol/dir", "tmpfs", "tmpfs", &["rro", "rprivate"])
    });
}

/// CVE-2026-41579, CVE-2026-88264: device nodes, a fifo, and their chown.
#[test]
fn devices_are_not_created_on_the_host() {
    races("race-devices", |bundle| {
        let device = |path: &str, kind: &str| json!({"path": path, "type": kind, "major": 1, "minor": 3, "fileMode": 438, "uid": 1234, "gid": 1234});
        bundle.set("/linux/devices", json!([device("/vol/dir/d/null", "c"), device("/vol/dir/f", "p")]))
    });
}

/// CVE-2025-31133, CVE-2025-62161: masked and read-only paths.
#[test]
fn masks_are_not_placed_on_the_host() {
    races("race-masks", |bundle| {
        let paths = json!(["/vol/dir/s", "/vol/dir/kept", "/vol/dir"]);
        bundle.set("/linux/maskedPaths", paths.clone()).set("/linux/readonlyPaths", paths)
    });
}

/// CVE-2026-55686: the creation of a missing working directory.
#[test]
fn the_working_directory_is_not_created_on_the_host() {
    races("race-cwd", |bundle| bundle.set("/process/cwd", "/vol/dir/new/cwd"));
}

/// CVE-2024-21626 by a race (move t21): the missing working directory is behind a symlink through a descriptor.
#[test]
fn the_working_directory_is_not_created_through_a_descriptor() {
    for number in 3..14 {
        let (bundle, victim, volume) = with_volume("race-descriptor");
        std::fs::remove_file(volume.join("link")).unwrap();
        std::os::unix::fs::symlink(through(number, &victim.dir), volume.join("link")).unwrap();
        let bundle = bundle.set("/process/cwd", "/vol/dir/new");
        for _ in 0..rounds(30).div_ceil(10) {
            let swapper = Swapper::of(&volume, "dir", "link");
            for _ in 0..4 {
                bundle.run_as_is();
            }
            drop(swapper);
            empty(&volume);
            victim.assert_unchanged();
        }
    }
}

/// CVE-2021-30465 by `tmpcopyup` (move t13): if files were copied by path, chmod would follow an exchanged symlink.
#[test]
fn tmpcopyup_does_not_write_to_the_host() {
    use std::os::unix::fs::PermissionsExt;
    let (bundle, victim, volume) = with_volume("race-copy");
    let (dir, other) = (volume.join("dir"), volume.join("other"));
    std::fs::write(dir.join("f"), vec![b'x'; 4 << 20]).unwrap();
    std::fs::set_permissions(dir.join("f"), PermissionsExt::from_mode(0o6777)).unwrap();
    std::fs::create_dir(&other).unwrap();
    let bundle = bundle.mount("/vol/dir", "tmpfs", "tmpfs", &["rw", "nosuid", "nodev", "tmpcopyup"]);
    // the neighbour has the directory open, whatever its current name
    let held = std::fs::File::open(&other).unwrap();
    let place = std::path::PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&held)));
    let target = victim.dir.join("kept");
    let swapper = Swapper::of(&volume, "dir", "other");
    let planter = Swapper::repeating(move |_| {
        let _ = &held;
        let (file, link) = (place.join("f"), place.join("l"));
        let _ = std::os::unix::fs::symlink(&target, &link);
        match std::fs::symlink_metadata(&file) {
            Ok(meta) if meta.is_symlink() => {
                std::thread::sleep(std::time::Duration::from_millis(3));
                std::fs::remove_file(&file).is_ok()
            }
            Ok(_) => std::fs::rename(&link, &file).is_ok(),
            Err(_) => false,
        }
    });
    for _ in 0..rounds(60) {
        bundle.run_as_is();
        victim.assert_unchanged();
    }
    assert!(swapper.count() > 10, "the neighbour did next to nothing");
    drop((swapper, planter));
    victim.assert_unchanged();
}

/// CVE-2025-52565: `/dev/console` of a shared `/dev` is exchanged with a symlink to the host while the terminal is bound on it.
#[test]
fn the_console_is_not_bound_on_the_host() {
    let bundle = Bundle::new("race-console");
    let victim = Victim::of(&bundle);
    let dev = bundle.host_directory("dev");
    for name in ["pts", "shm", "mqueue"] {
        std::fs::create_dir(dev.join(name)).unwrap();
    }
    std::fs::write(dev.join("console"), "").unwrap();
    std::os::unix::fs::symlink(victim.dir.join("kept"), dev.join("other")).unwrap();
    let bundle = bundle.without_mount("/dev").set("/process/terminal", true).sees(&["true"]);
    let mut bundle = bundle;
    let mount = json!({"destination": "/dev", "type": "bind", "source": dev, "options": ["rbind", "rw"]});
    bundle.config["mounts"].as_array_mut().unwrap().insert(1, mount);
    let swapper = Swapper::of(&dev, "console", "other");
    for round in 0..rounds(30) {
        let socket = bundle.path(&format!("c{round}"));
        let receiver = Receiver::new(&socket);
        let output = bundle.launch("create", &["--console-socket", socket.to_str().unwrap()]).finish();
        if output.code == 0 {
            let (master, _) = receiver.take();
            bundle.start();
            drop(master);
            bundle.down();
        }
        std::fs::remove_file(&socket).unwrap();
    }
    assert!(swapper.count() > 10, "the neighbour did next to nothing");
    drop(swapper);
    victim.assert_unchanged();
}
