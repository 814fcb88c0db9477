//! Hostile input: special and endless files of the image, invalid numbers, ids that are paths, and lists that are longer than a
//! message.

use super::Victim;
use crate::exec::{sees, up};
use crate::support::runtime::Call;
use crate::support::user::refused;
use crate::support::world::{World, home, world};
use crate::support::{Bundle, Value, json, peer_differs};
use std::path::Path;

/// A call that takes longer counts as blocked by the attacker.
/// CVE-2024-21626's checklist (5.6, whole components): an id names a directory and must not be a path that leads elsewhere.
#[test]
fn an_id_cannot_lead_out_of_the_state_root() {
    let bundle = Bundle::new("id");
    let victim = Victim::of(&bundle);
    std::fs::create_dir(bundle.state_root()).unwrap();
    for verb in ["state", "delete", "kill", "start"] {
        for id in ["../victim", "..", ".", "a/../../victim"] {
            bundle.verb(&[verb, id]);
            victim.assert_unchanged();
        }
        bundle.verb(&["delete", "--force", "../victim"]);
        victim.assert_unchanged();
    }
    // the state root still exists
    assert!(bundle.state_root().is_dir());
    assert!(Path::new(&bundle.dir).join("victim/kept").exists());
}

/// Creates a file of the image as a fifo, a device, a socket and the like.
fn odd(path: &Path, what: &str) {
    use nix::sys::stat::{Mode, SFlag, mknod};
    let link = |target: &str| std::os::unix::fs::symlink(target, path).unwrap();
    let sized = |size: u64| std::fs::File::create(path).unwrap().set_len(size).unwrap();
    match what {
        "fifo" => nix::unistd::mkfifo(path, Mode::S_IRWXU).unwrap(),
        "directory" => std::fs::create_dir(path).unwrap(),
        "socket" => drop(std::os::unix::net::UnixListener::bind(path).unwrap()),
        "sparse" => sized(1 << 40),
        "lines" => std::fs::write(path, "x:x:1:1::/:\n".repeat(4_000_000)).unwrap(),
        "line" => std::fs::write(path, "x".repeat(40 << 20)).unwrap(),
        "tape" => mknod(path, SFlag::S_IFCHR, Mode::S_IRWXU, nix::sys::stat::makedev(1, 5)).unwrap(),
        other => link(other),
    }
}

const ODD: [&str; 17] = [
    "/dev/zero",
    "/dev/urandom",
    "/dev/full",
    "/dev/stdin",
    "/dev/tty",
    "/proc/kmsg",
    "/proc/self/mem",
    "/proc/self/pagemap",
    "/proc/self/fd/0",
    "/proc/self/mountinfo",
    "fifo",
    "directory",
    "socket",
    "sparse",
    "lines",
    "line",
    "tape",
];

/// CVE-2016-3697's file (move t12): `/etc/passwd` of the image is a device, a fifo, endless or huge. `run` and `exec` must not
/// block.
#[test]
fn special_files_in_the_image_do_not_block_the_runtime() {
    let waits = peer_differs(&["runc", "crun"], "waits for a writer, or reads to the end");
    for what in ODD.into_iter().filter(|_| !waits) {
        let bundle = Bundle::new("odd").sees(&["env", "+", "wait-file", "/go"]);
        odd(&bundle.rootfs().join("etc/passwd"), what);
        let output = bundle.launch("create", &[]).start().finish_within(super::soon());
        assert!(output.code == 0 || !output.stderr.is_empty(), "{what}: {output}");
        if output.code == 0 {
            bundle.runtime().args(["start", &bundle.id]).start().finish_within(super::soon());
        }
        if output.code == 0 && bundle.status() == "running" {
            let exec = bundle.runtime().args(["exec", &bundle.id, "/payload", "true"]);
            exec.start().finish_within(super::soon());
        }
        bundle.down();
    }
}

/// Issue 13 section 3: the same for `/etc/group`, which some runtimes read as well.
#[test]
fn a_special_group_file_does_not_block_the_runtime() {
    let waits = peer_differs(&["runc", "crun"], "reads it");
    for what in ["fifo", "/dev/zero", "sparse"].into_iter().filter(|_| !waits) {
        let bundle = Bundle::new("odd-group").set("/process/user", json!({"uid": 1000, "gid": 1000})).sees(&["true"]);
        odd(&bundle.rootfs().join("etc/group"), what);
        bundle.launch("run", &[]).start().finish_within(super::soon()).ok();
    }
}

/// Issue 13 section 3: a configuration that is a device or endless is refused by name.
#[test]
fn an_endless_configuration_is_refused() {
    if peer_differs(&["runc", "crun"], "reads until memory ends") {
        return;
    }
    for what in ["/dev/zero", "sparse", "directory"] {
        let bundle = Bundle::new("endless");
        bundle.verb(&["--version"]).ok();
        let config = bundle.path("config.json");
        std::fs::remove_file(&config).unwrap();
        odd(&config, what);
        let mut command = bundle.command();
        // limit the runtime's memory, so that endless reading does not exhaust the machine's
        crate::support::process::with_memory(&mut command, 2 << 30);
        let call =
            Call::new(command, &bundle.path("said")).arg("--root").arg(bundle.state_root()).args(["run", "--bundle"]);
        let output = call.arg(&bundle.dir).arg(&bundle.id).start().finish_within(super::soon());
        assert!(output.code == 1 && output.stderr.contains("config.json"), "{what}: {output}");
    }
}

/// CVE-2016-3697: a user name in the image's passwd that looks like a uid is not used for that uid.
#[test]
fn a_numeric_user_is_not_looked_up_by_name() {
    let passwd = "1000:x:0:0:root:/EVIL:/bin/sh\nroot:x:0:0:root:/root:/bin/sh\n";
    let bundle =
        Bundle::new("numeric").file("/etc/passwd", passwd).set("/process/user", json!({"uid": 1000, "gid": 1000}));
    let output = bundle.sees(&["id", "+", "env"]).run_as_is().ok();
    assert!(!output.stdout.contains("/EVIL"), "{output}");
    output.has("Uid", "1000\t1000\t1000\t1000");
    let bundle = up(Bundle::new("numeric-exec").file("/etc/passwd", passwd));
    let output = sees(&bundle, &["--user", "1000"], &["id", "+", "env"]).ok();
    bundle.down();
    assert!(!output.stdout.contains("/EVIL"), "{output}");
    output.has("Uid", "1000\t1000\t1000\t1000");
}

/// CVE-2026-30892: a partly numeric or empty user or a name is refused; it never becomes root.
#[test]
fn a_partly_numeric_user_is_refused() {
    let bundle = up(Bundle::new("half"));
    for user in [
        "1000x",
        "x",
        "",
        ":",
        ":1",
        "1:",
        "1:x",
        "-1",
        "+",
        "4294967296",
        "0x3e8",
        "1000 ",
        "1e3",
        "1:2:3",
        "4294967295",
    ] {
        let output = sees(&bundle, &["--user", user], &["id"]);
        let as_asked = user == "1:" && output.stdout.contains("Uid: 1\t");
        assert!(output.code != 0 || as_asked || peer_differs(&["crun", "runc"], "takes it"), "{user:?}: {output}");
    }
    bundle.down();
}

/// CVE-2021-43784: lists longer than 64 KiB overflowed the 16-bit length of a netlink attribute in runc, and their content was
/// read as further fields. They must take effect as a whole, or the start must fail.
#[test]
fn long_lists_do_not_overflow_into_other_fields() {
    let groups: Vec<u32> = (10_000..30_000).collect();
    let bundle = Bundle::new("groups").set("/process/user/additionalGids", json!(groups)).sees(&["id"]);
    let output = bundle.run_as_is().ok().has("Uid", "0\t0\t0\t0");
    assert_eq!(output.get("Groups").unwrap().split_whitespace().count(), groups.len());
    // more lines than a kernel uid_map can have, and more than a page
    let map: Vec<Value> = (0..6000).map(|n| json!({"containerID": n, "hostID": 100_000 + 2 * n, "size": 1})).collect();
    let bundle =
        Bundle::new("maps").user_namespace().set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
    let bundle = bundle.sees(&["id"]);
    let output = bundle.run_as_is();
    assert!(output.code != 0 && output.stdout.is_empty(), "{output}");
    bundle.nothing_left();
}

/// CVE-2022-24769, CVE-2022-29162, CVE-2022-27650, CVE-2025-27612: only configured capabilities are inheritable, with `run`,
/// with `exec`, and with `exec --cap`.
#[test]
fn inheritable_capabilities_are_only_those_configured() {
    let none = "0000000000000000";
    let user = |bundle: Bundle, id: u32| bundle.set("/process/user", json!({"uid": id, "gid": id}));
    for id in [0, 1000] {
        user(Bundle::new("inherit"), id).run(&["status"]).ok().has("CapInh", none);
        let bundle = up(user(Bundle::new("inherit-exec"), id));
        sees(&bundle, &[], &["status"]).ok().has("CapInh", none);
        let output = sees(&bundle, &["--cap", "CAP_NET_RAW", "--user", &id.to_string()], &["status"]).ok();
        bundle.down();
        output.has("CapInh", none);
    }
}

/// CVE-2023-25809 (move t28): without a cgroup namespace a rootless container sees the host's cgroups, and must not write them.
#[test]
fn cgroups_of_the_host_are_read_only_in_a_users_container() {
    if refused() {
        return;
    }
    let v2 = home("pids") == Some(World::V2);
    let kind = if v2 { "cgroup2" } else { "cgroup" };
    // on v1 the directory of the hierarchies is the container's own tmpfs
    let names = if world() == World::V2 { &[""][..] } else { &["unified/", "pids/", "memory/", "cpu/"] };
    let places: Vec<String> = names.iter().map(|name| format!("/sys/fs/cgroup/{name}evil")).collect();
    // the kernel checks for a read-only mount before it checks permissions
    let words = places.iter().flat_map(|place| ["mkdir", place, "+"]).collect::<Vec<_>>();
    let options = ["nosuid", "noexec", "nodev", "relatime", "ro"];
    let bundle = Bundle::rootless("rootless-cgroup").mount("/sys/fs/cgroup", kind, kind, &options).sees(&words);
    let output = bundle.run_as_is().ok();
    let verdicts: Vec<_> = places.iter().map(|place| output.get(&format!("mkdir {place}")).unwrap()).collect();
    assert!(verdicts.iter().all(|verdict| ["EROFS", "ENOENT"].contains(verdict)), "{output}");
}

/// CVE-2024-21626's checklist (5.6): a `--preserve-fds` that overflows is refused, not truncated.
#[test]
fn too_many_preserved_descriptors_are_refused() {
    for count in ["4294967295", "4294967296", "2147483647", "2147483648", "18446744073709551615", "-1", "1048577"] {
        let bundle = Bundle::new("preserve").sees(&["true"]);
        let output = bundle.launch("run", &["--preserve-fds", count]).start().finish_within(super::soon());
        assert!(output.code != 0 || peer_differs(&["runc", "crun"], "takes it for few"), "{count}: {output}");
        let _ = std::fs::remove_dir_all(bundle.state_root());
    }
}

/// Move t15: a state file that is truncated anywhere, as after a crash: every verb returns, with an error at worst, and
/// `delete --force` cleans up.
#[test]
fn a_truncated_state_file_blocks_no_verb() {
    if peer_differs(&["runc", "crun"], "has records of its own") {
        return;
    }
    let bundle = Bundle::new("record").sees(&["true"]);
    bundle.create().ok();
    let file = bundle.state_root().join(&bundle.id).join("state.json");
    let good = std::fs::read(&file).unwrap();
    let mut broken: Vec<Vec<u8>> = (0..12).map(|n| good[..good.len() * n / 12].to_vec()).collect();
    let flip = |at: usize| good.iter().enumerate().map(|(n, byte)| if n == at { byte ^ 0x15 } else { *byte }).collect();
    broken.extend((1..12).map(|n| flip(good.len() * n / 12)));
    broken.extend([b"null\nnull\nnull".to_vec(), "[".repeat(100_000).into_bytes(), vec![0; 4096]]);
    for text in broken {
        std::fs::write(&file, &text).unwrap();
        for verb in [&["state"][..], &["ps"], &["events", "--stats"]] {
            let output = bundle.runtime().args(verb).arg(&bundle.id).start().finish_within(super::soon());
            assert!(output.code < 128 && !output.stderr.contains("panicked"), "{output}");
            assert!(output.code == 0 || !output.stderr.is_empty(), "{output}");
        }
        bundle.runtime().arg("list").start().finish_within(super::soon());
    }
    std::fs::write(&file, &good).unwrap();
    bundle.down();
}
