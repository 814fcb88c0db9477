//! Containers of an unprivileged user, and of root of a user namespace (as rootless engines call).

use crate::support::kernel::{mount_at, mounts};
use crate::support::tty::{Receiver, Terminal};
use crate::support::user::{Caller, USER, privately, range, ranges, refused};
use crate::support::{Bundle, Runtime, json, peer_differs};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

const SHOW_MAPS: [&str; 8] =
    ["id", "+", "cat", "/proc/self/uid_map", "/proc/self/gid_map", "/proc/self/setgroups", "+", "ns"];

#[test]
fn a_user_is_root_inside() {
    if refused() {
        return;
    }
    // mapping the own id needs no newuidmap, so it works without one
    let caller = Caller { through: "env PATH=/nowhere", ..Caller::default() };
    let output = Bundle::rootless("root-inside").called_by(&caller).run(&SHOW_MAPS).ok();
    assert_eq!(output.get("Uid"), Some("0\t0\t0\t0"), "{output}");
    assert_eq!(ranges(&output.stdout), [[0, USER, 1], [0, USER, 1]], "{output}");
    // a user who could leave a group could gain access that the group is denied: setgroups is disabled
    assert!(output.stdout.lines().any(|line| line == "deny"), "{output}");
}

#[test]
fn the_bundle_of_spec_rootless_runs() {
    if refused() {
        return;
    }
    let mut bundle = Bundle::rootless("spec-rootless");
    let place = bundle.host_directory("made");
    Bundle::given(&place);
    bundle.runtime().args(["spec", "--rootless", "--bundle"]).args([&place]).finish().ok();
    bundle.config = serde_json::from_slice(&std::fs::read(place.join("config.json")).unwrap()).unwrap();
    let bundle = bundle.set("/process/terminal", false).sees(&SHOW_MAPS);
    let output = bundle.run_as_is().ok();
    assert_eq!(ranges(&output.stdout), [[0, USER, 1], [0, USER, 1]], "{output}");
}

#[test]
fn all_verbs_work_for_a_user() {
    if refused() {
        return;
    }
    let bundle = Bundle::rootless("life").sees(&["pause"]);
    let pid = bundle.up();
    assert_eq!(std::fs::metadata(format!("/proc/{pid}/root")).unwrap().uid(), USER);
    let inside = bundle.verb(&["exec", "--cwd", "/tmp", &bundle.id, "/payload", "id", "+", "cwd", "+", "ns"]).ok();
    let inside = inside.has("Uid", "0\t0\t0\t0").has("cwd", "/tmp");
    for name in ["user", "pid", "mnt", "uts"] {
        let theirs = crate::support::kernel::namespace(pid, name);
        assert_eq!(inside.get(&format!("ns.{name}")), Some(theirs.as_str()));
    }
    bundle.verb(&["exec", &bundle.id, "/payload", "exit", "7"]).code(7);
    let words = ["exec", "--additional-gids", "7", &bundle.id, "/payload", "true"];
    bundle.verb(&words).fails(255, "cannot set any additional groups in a rootless container");
    let words = ["exec", "--user", "5", &bundle.id, "/payload", "true"];
    bundle.verb(&words).fails(255, "cannot setuid to unmapped uid 5 in user namespace");
    assert_eq!(bundle.state()["owner"].as_str(), Some(""));
    bundle.kill("KILL").ok();
    bundle.wait_for("stopped");
    bundle.delete().ok();
    bundle.nothing_left();
    bundle.create().ok();
    bundle.down();
}

#[test]
fn requests_that_need_root_are_refused_and_leave_nothing() {
    if refused() {
        return;
    }
    let someone = json!([range(0, USER + 1, 1)]);
    let groups = json!({"uid": 0, "gid": 0, "additionalGids": [5]});
    let devpts =
        json!({"destination": "/p", "type": "devpts", "source": "devpts", "options": ["newinstance", "gid=5"]});
    let table: [(&str, &str, crate::support::Value, &str); 8] = [
        ("groups", "/process/user", groups, "cannot set any additional groups in a rootless container"),
        ("uid", "/process/user/uid", json!(5), "cannot setuid to unmapped uid 5 in user namespace"),
        ("gid", "/process/user/gid", json!(5), "cannot setgid to unmapped gid 5 in user namespace"),
        ("pts", "/mounts/-", devpts, "cannot specify gid=5 mount option for rootless container"),
        ("other", "/linux/uidMappings", someone, "newuidmap"),
        ("no-root", "/linux/gidMappings", json!([range(1, USER, 1)]), "no mapping found for gid 0"),
        ("score", "/process/oomScoreAdj", json!(-1000), ""),
        (
            "limit",
            "/process/rlimits/-",
            json!({"type": "RLIMIT_NICE", "soft": 1, "hard": 40}),
            "operation not permitted",
        ),
    ];
    for (name, pointer, value, words) in table {
        if name == "other" && peer_differs(&["runc"], "gives its fifo to the container's root before it maps ids") {
            continue;
        }
        let bundle = Bundle::rootless(name).set(pointer, value);
        bundle.run_as_is().fails(1, words);
        bundle.nothing_left();
    }
    let bundle = Bundle::users("no-namespace").called_by(&Caller::default());
    bundle.run_as_is().fails(1, "rootless container requires user namespaces");
}

#[test]
fn the_state_root_is_in_xdg_runtime_dir() {
    if refused() {
        return;
    }
    let bundle = Bundle::rootless("runtime-dir").sees(&["true"]);
    let dir = bundle.host_directory("xdg");
    Bundle::given(&dir);
    bundle.create().ok();
    bundle.down();
    let call = |args: &[&str], env: &str| {
        let number = args.len();
        let mut command = bundle.command();
        command.args(args).current_dir(&bundle.dir).env("XDG_RUNTIME_DIR", env).env("ONGGI_TEST", &bundle.id);
        crate::support::runtime::Call::new(command, &bundle.path(&format!("direct-{number}"))).finish()
    };
    call(&["run", &bundle.id], dir.to_str().unwrap()).ok();
    let made = std::fs::metadata(dir.join(&Runtime::get().name)).unwrap();
    // the sticky bit keeps systemd-tmpfiles from removing it
    assert_eq!((made.permissions().mode() & 0o7777, made.uid()), (0o1700, USER));
    assert!(call(&["list", "--quiet"], dir.to_str().unwrap()).ok().stdout.is_empty());
}

#[test]
fn devices_are_bound_from_the_host() {
    if refused() {
        return;
    }
    let fuse = json!({"path": "/dev/full", "type": "c", "major": 1, "minor": 7});
    let bundle = Bundle::rootless("devices").set("/linux/devices/-", fuse);
    let words = [
        "stat",
        "/dev/null",
        "/dev/full",
        "+",
        "write",
        "/dev/null",
        "x",
        "+",
        "open",
        "/dev/tty",
        "r",
        "+",
        "mountinfo",
    ];
    let output = bundle.run(&words).ok().has("/dev/null.rdev", "1:3").has("/dev/full.rdev", "1:7");
    let output = output.has("write /dev/null", "ok").has("open /dev/tty r", "ENXIO");
    assert_eq!(mount_at(&mounts(&output.stdout), "/dev/null").point, "/dev/null");
    // a number that no driver has; the host's device of a known number would be bound from its own path
    let missing = json!({"path": "/dev/nosuchdevice", "type": "c", "major": 240, "minor": 7});
    let bundle = Bundle::rootless("no-device").set("/linux/devices/-", missing);
    assert!(bundle.run_as_is().fails(1, "no such file or directory").stderr.contains("/dev/nosuchdevice"));
}

/// A tmpfs of root's with locked flags, and a file in it.
fn locked(bundle: &Bundle) -> (PathBuf, String) {
    let place = bundle.host_directory("locked");
    let mount =
        format!("mount -t tmpfs -o nosuid,nodev,noexec,noatime locked {place:?} && printf seen > {place:?}/file");
    (place, privately(&mount))
}

#[test]
fn locked_flags_of_host_mounts_stay() {
    if refused() {
        return;
    }
    let kept = ["nosuid", "nodev", "noexec", "noatime"];
    let table: [(&str, &[&str], Option<&str>); 6] = [
        ("rw", &["bind", "rw"], Some("rw")),
        ("ro", &["bind", "ro"], Some("ro")),
        ("rro", &["rbind", "rro"], Some("ro")),
        ("same", &["bind", "noatime", "nosuid"], Some("rw")),
        ("suid", &["bind", "suid"], None),
        ("relatime", &["bind", "relatime"], None),
    ];
    for (name, options, mode) in table {
        let bundle = Bundle::rootless(name);
        let (place, first) = locked(&bundle);
        let bundle = bundle.called_by(&Caller { first: &first, ..Caller::default() });
        let output = bundle.bind(&place, "/data", options).run(&["mountinfo"]);
        let Some(mode) = mode else {
            output.fails(1, "operation not permitted");
            continue;
        };
        let found = mount_at(&mounts(&output.ok().stdout), "/data");
        for flag in kept.iter().chain([&mode]) {
            assert!(found.has(flag), "{flag} of {name} in {found:?}");
        }
    }
}

#[test]
fn a_remount_keeps_locked_flags() {
    if refused() || peer_differs(&["runc"], "a bind remount that would clear locked flags fails") {
        return;
    }
    let bundle = Bundle::rootless("remount");
    let (place, first) = locked(&bundle);
    let bundle = bundle.called_by(&Caller { first: &first, ..Caller::default() });
    let bundle = bundle.bind(&place, "/data", &["bind"]).bind(&place, "/data", &["bind", "remount", "ro"]);
    let output = bundle.run(&["mountinfo"]).ok();
    let found = mount_at(&mounts(&output.stdout), "/data");
    assert!(["ro", "nosuid", "nodev", "noexec", "noatime"].iter().all(|flag| found.has(flag)), "{found:?}");
}

#[test]
fn the_users_groups_give_access_to_files() {
    if refused() {
        return;
    }
    let bundle = Bundle::rootless("groups").called_by(&Caller { groups: "--groups 4711", ..Caller::default() });
    let place = bundle.host_directory("of-the-group");
    std::fs::write(place.join("file"), "for the group").unwrap();
    std::os::unix::fs::chown(&place, Some(0), Some(4711)).unwrap();
    std::fs::set_permissions(&place, PermissionsExt::from_mode(0o750)).unwrap();
    let bundle = bundle.bind(&place, "/data", &["bind"]).sees(&["read", "/data/file"]);
    bundle.run_as_is().ok().has("read /data/file", "13 \"for the group\"");
}

#[test]
fn id_ranges_come_from_newuidmap() {
    if refused() {
        return;
    }
    let caller = |bundle: Bundle| {
        let list = bundle.host_file("subids", &format!("{USER}:300000:1000\n"));
        let first = privately(&format!("mount --bind {list:?} /etc/subuid && mount --bind {list:?} /etc/subgid"));
        bundle.called_by(&Caller { first: &first, groups: "--groups 4711", ..Caller::default() })
    };
    let maps = |outside: u32| json!([range(0, USER, 1), range(1, outside, 100)]);
    let with = |name: &str, outside| {
        caller(Bundle::rootless(name)).set("/linux/uidMappings", maps(outside)).set("/linux/gidMappings", maps(outside))
    };
    let user = json!({"uid": 7, "gid": 8});
    let output = with("ranges", 300_000).set("/process/user", user).run(&SHOW_MAPS).ok();
    let expected = [[0, USER, 1], [1, 300_000, 100]];
    assert_eq!(ranges(&output.stdout), expected.iter().chain(&expected).copied().collect::<Vec<_>>(), "{output}");
    assert_eq!(output.get("Uid"), Some("7\t7\t7\t7"));
    // the supplementary groups are kept, because they give the user access to files
    assert_eq!(output.get("Groups"), Some("65534"), "{output}");
    assert!(output.stdout.lines().any(|line| line == "allow"), "{output}");
    let bundle = with("foreign", 200_000);
    let output = bundle.run_as_is().fails(1, "");
    assert!(output.stderr.contains("newuidmap: uid range [1-101) -> [200000-200100) not allowed"), "{output}");
    bundle.nothing_left();
}

#[test]
fn a_permitted_oom_score_adj_is_set() {
    if refused() {
        return;
    }
    let bundle = Bundle::rootless("score").set("/process/oomScoreAdj", 321).sees(&["pause"]);
    let pid = bundle.up();
    assert_eq!(std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap(), "321\n");
    bundle.down();
}

#[test]
fn a_users_container_has_a_terminal() {
    if refused() {
        return;
    }
    let words = ["tty", "+", "stat", "/dev/console", "+", "echo", "done", "+", "pause"];
    let bundle = Bundle::rootless("terminal").set("/process/terminal", true).sees(&words);
    let receiver = Receiver::new(&bundle.path("c.sock"));
    Bundle::given(&receiver.path);
    bundle.launch("create", &["--console-socket", receiver.path.to_str().unwrap()]).finish().ok();
    let mut terminal = Terminal::of(receiver.take().0);
    bundle.start().ok();
    let seen = terminal.wait_for("done").replace("\r\n", "\n");
    for line in ["isatty.0: true", "tty.0: /dev/pts/0", "open /dev/tty: ok", "/dev/console.rdev: 136:0"] {
        assert!(seen.lines().any(|seen| seen == line), "{line:?} in {seen}");
    }
    bundle.down();
}

#[test]
fn namespaces_of_another_container_are_joined() {
    if refused() {
        return;
    }
    let first = Bundle::rootless("owner").sees(&["pause"]);
    let pid = first.up();
    let path = |name: &str| format!("/proc/{pid}/ns/{name}");
    let second = Bundle::rootless("guest").without("/linux/uidMappings").without("/linux/gidMappings");
    let second = second
        .namespace("user", Some(&path("user")))
        .namespace("ipc", Some(&path("ipc")))
        .namespace("pid", Some(&path("pid")));
    let output = second.run(&["ns", "+", "id"]).ok().has("Uid", "0\t0\t0\t0");
    for name in ["user", "ipc", "pid"] {
        assert_eq!(output.get(&format!("ns.{name}")), Some(crate::support::kernel::namespace(pid, name).as_str()));
    }
    first.down();
}

#[test]
fn root_of_a_user_namespace_needs_no_new_user_namespace() {
    if refused() {
        return;
    }
    for (name, flags) in [("inner", "m"), ("inner-foreign", "")] {
        // supplementary groups that cannot be set there are ignored: images often have some
        let groups = json!({"uid": 0, "gid": 0, "additionalGids": [5]});
        let bundle = Bundle::users(name).set("/process/user", groups).called_by_inner_root(flags);
        let words = ["id", "+", "stat", "/dev/null", "+", "mountinfo", "+", "write", "/dev/null", "x"];
        let output = bundle.run(&words).ok().has("/dev/null.rdev", "1:3").has("write /dev/null", "ok");
        assert_eq!(output.get("Uid"), Some("0\t0\t0\t0"));
        assert_eq!(mount_at(&mounts(&output.stdout), "/dev/null").point, "/dev/null");
    }
}

#[test]
fn user_namespaces_may_be_nested() {
    if refused() {
        return;
    }
    for (name, through) in [("nested", "unshare -Urm"), ("nested-foreign", "unshare -Ur")] {
        let map = json!([range(0, 0, 1)]);
        let bundle = Bundle::users(name).namespace("user", None);
        let (place, first) = locked(&bundle);
        let bundle = bundle.called_by(&Caller { first: &first, through, ..Caller::default() });
        let bundle = bundle.set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
        let bundle = bundle.bind(&place, "/data", &["bind", "ro"]);
        let output = bundle.run(&["read", "/data/file", "+", "stat", "/dev/zero"]).ok();
        output.has("read /data/file", "4 \"seen\"").has("/dev/zero.rdev", "1:5");
    }
}

/// CVE-2019-5736 in the easiest case: the runtime's binary belongs to the user, and root inside is that user.
#[test]
fn the_users_own_binary_cannot_be_overwritten_from_inside() {
    if refused() {
        return;
    }
    let caps = ["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_SYS_ADMIN"];
    let thief = Bundle::rootless("thief").caps(&caps).directory("/x").sees(&["steal-exe", "/x"]);
    Bundle::given(&thief.rootfs().join("x"));
    let binary = thief.own_runtime();
    let before = std::fs::read(&binary).unwrap();
    let pid = thief.up();
    thief.hears("steal: ready");
    for _ in 0..20 {
        thief.verb(&["exec", &thief.id, "/payload", "true"]).ok();
        // the original exploit: the program to execute is /proc/self/exe, the runtime
        thief.verb(&["exec", &thief.id, "/proc/self/exe"]);
    }
    std::fs::write(thief.rootfs().join("x/stop"), "").unwrap();
    assert_eq!(thief.exit_code(pid), 0);
    assert!(std::fs::read(&binary).unwrap() == before, "the binary was overwritten: {}", thief.printed());
    thief.wait_for("stopped");
    thief.delete().ok();
}
