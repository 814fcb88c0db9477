//! Device nodes: the default ones and their links, configured ones, and what the container may open.

use crate::support::{Bundle, Runtime, json, kernel, peer_differs, process, user};

#[test]
fn the_default_devices_are_there() {
    let expected =
        [("null", "1:3"), ("zero", "1:5"), ("full", "1:7"), ("random", "1:8"), ("urandom", "1:9"), ("tty", "5:0")];
    let paths: Vec<String> = expected.iter().map(|(name, _)| format!("/dev/{name}")).collect();
    let words: Vec<&str> = ["stat"].into_iter().chain(paths.iter().map(String::as_str)).collect();
    let mut output = Bundle::new("default-devices").run(&words).ok();
    for (path, (_, rdev)) in paths.iter().zip(expected) {
        output = output.has(&format!("{path}.type"), "c").has(&format!("{path}.rdev"), rdev);
        output = output.has(&format!("{path}.mode"), "0666").has(&format!("{path}.owner"), "0:0");
    }
}

#[test]
fn the_default_links_are_there() {
    let words = ["stat", "/dev/fd", "/dev/stdin", "/dev/stdout", "/dev/stderr", "/dev/ptmx", "/dev/core"];
    let output = Bundle::new("links").run(&words).ok();
    let output = output.has("/dev/fd.link", "/proc/self/fd").has("/dev/stdin.link", "/proc/self/fd/0");
    let output = output.has("/dev/stdout.link", "/proc/self/fd/1").has("/dev/stderr.link", "/proc/self/fd/2");
    let output = output.has("/dev/ptmx.link", "pts/ptmx");
    // only if the kernel has it
    if std::path::Path::new("/proc/kcore").exists() {
        output.has("/dev/core.link", "/proc/kcore");
    } else if !peer_differs(&["crun"], "links /dev/core to a file that is not there") {
        output.has("/dev/core.stat", "ENOENT");
    }
}

#[test]
fn the_default_devices_work() {
    let words = [
        "write",
        "/dev/null",
        "x",
        "+",
        "write",
        "/dev/full",
        "x",
        "+",
        "open",
        "/dev/zero",
        "r",
        "+",
        "open",
        "/dev/urandom",
        "r",
        "+",
        "open",
        "/dev/random",
        "r",
        "+",
        "open",
        "/dev/ptmx",
        "rw",
        "+",
        "open",
        "/dev/tty",
        "r",
    ];
    let output = Bundle::new("devices-work").run(&words).ok();
    let output = output.has("write /dev/null", "ok").has("write /dev/full", "ENOSPC").has("open /dev/zero r", "ok");
    let output = output.has("open /dev/urandom r", "ok").has("open /dev/random r", "ok");
    // ENXIO: there is no controlling terminal, but the device is allowed
    output.has("open /dev/ptmx rw", "ok").has("open /dev/tty r", "ENXIO");
}

#[test]
fn configured_devices_are_made() {
    let bundle = Bundle::new("devices").set(
        "/linux/devices",
        json!([
            {"path": "/dev/mine", "type": "c", "major": 1, "minor": 3, "fileMode": 0o640, "uid": 12, "gid": 34},
            {"path": "/dev/deep/er/block", "type": "b", "major": 7, "minor": 200, "fileMode": 0o600},
            {"path": "/dev/pipe", "type": "p", "fileMode": 0o622},
            {"path": "/dev/unbuffered", "type": "u", "major": 1, "minor": 5, "fileMode": 0o604},
            {"path": "/dev/plain", "type": "c", "major": 1, "minor": 7}
        ]),
    );
    let output =
        bundle.run(&["stat", "/dev/mine", "/dev/deep/er/block", "/dev/pipe", "/dev/unbuffered", "/dev/plain"]).ok();
    let output = output.has("/dev/mine.type", "c").has("/dev/mine.rdev", "1:3").has("/dev/mine.mode", "0640");
    let output = output.has("/dev/mine.owner", "12:34").has("/dev/deep/er/block.type", "b");
    let output = output.has("/dev/deep/er/block.rdev", "7:200").has("/dev/deep/er/block.mode", "0600");
    let output = output.has("/dev/pipe.type", "p").has("/dev/pipe.mode", "0622");
    let output = output.has("/dev/unbuffered.type", "c").has("/dev/unbuffered.mode", "0604");
    output.has("/dev/plain.mode", "0666").has("/dev/plain.owner", "0:0");
}

#[test]
fn a_configured_device_replaces_a_default_one() {
    let device = json!([{"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o600, "uid": 5}]);
    let rule = json!({"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm"});
    let bundle = Bundle::new("own-null").set("/linux/devices", device).set("/linux/resources/devices/-", rule);
    let output = bundle.run(&["stat", "/dev/null"]).ok();
    if !peer_differs(&["crun"], "the default one comes first") {
        output.has("/dev/null.mode", "0600").has("/dev/null.owner", "5:0");
    }
}

#[test]
fn a_device_of_an_unknown_type_is_refused() {
    if peer_differs(&["crun"], "takes any letter") {
        return;
    }
    let device = json!([{"path": "/dev/odd", "type": "x", "major": 1, "minor": 3}]);
    let bundle = Bundle::new("odd-device").set("/linux/devices", device);
    assert_ne!(bundle.run_as_is().code, 0);
    bundle.nothing_left();
}

#[test]
fn devices_that_no_rule_allows_cannot_be_opened() {
    // kmsg, 1:11, is in no default rule: mknod is allowed, open is not
    let words = [
        "mknod",
        "/tmp/kmsg",
        "c",
        "1",
        "11",
        "+",
        "open",
        "/tmp/kmsg",
        "r",
        "+",
        "mknod",
        "/tmp/null",
        "c",
        "1",
        "3",
        "+",
        "open",
        "/tmp/null",
        "rw",
    ];
    let output = Bundle::new("denied-device").caps(&["CAP_MKNOD", "CAP_SYSLOG"]).run(&words).ok();
    let output = output.has("mknod /tmp/kmsg", "ok").has("open /tmp/kmsg r", "EPERM");
    output.has("mknod /tmp/null", "ok").has("open /tmp/null rw", "ok");
}

#[test]
fn a_rule_allows_what_it_names() {
    let rules = json!([{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 1, "minor": 11, "access": "r"}]);
    let bundle =
        Bundle::new("allowed-device").caps(&["CAP_MKNOD", "CAP_SYSLOG"]).set("/linux/resources/devices", rules);
    let words = ["mknod", "/tmp/kmsg", "c", "1", "11", "+", "open", "/tmp/kmsg", "r", "+", "open", "/tmp/kmsg", "w"];
    bundle.run(&words).ok().has("open /tmp/kmsg r", "ok").has("open /tmp/kmsg w", "EPERM");
}

#[test]
fn the_later_rule_wins() {
    let rules = json!([
        {"allow": false, "access": "rwm"},
        {"allow": true, "type": "c", "major": 1, "minor": 11, "access": "rwm"},
        {"allow": false, "type": "c", "major": 1, "minor": 11, "access": "w"}
    ]);
    let bundle = Bundle::new("later-rule").caps(&["CAP_MKNOD", "CAP_SYSLOG"]).set("/linux/resources/devices", rules);
    let words = ["mknod", "/tmp/kmsg", "c", "1", "11", "+", "open", "/tmp/kmsg", "r", "+", "open", "/tmp/kmsg", "w"];
    bundle.run(&words).ok().has("open /tmp/kmsg r", "ok").has("open /tmp/kmsg w", "EPERM");
}

/// `allow` is REQUIRED in the spec; runc (Go) reads a missing one as false.
#[test]
fn a_rule_without_allow_denies() {
    let rules = json!([{"allow": true, "access": "rwm"}, {"type": "c", "major": 1, "minor": 11, "access": "w"}]);
    let bundle = Bundle::new("no-allow").caps(&["CAP_MKNOD", "CAP_SYSLOG"]).set("/linux/resources/devices", rules);
    let words = ["mknod", "/tmp/kmsg", "c", "1", "11", "+", "open", "/tmp/kmsg", "r", "+", "open", "/tmp/kmsg", "w"];
    bundle.run(&words).ok().has("open /tmp/kmsg r", "ok").has("open /tmp/kmsg w", "EPERM");
}

#[test]
fn without_rules_only_the_default_devices_are_accessible() {
    let words = ["mknod", "/tmp/kmsg", "c", "1", "11", "+", "open", "/tmp/kmsg", "r", "+", "open", "/dev/null", "rw"];
    let bundle = Bundle::new("no-rules").caps(&["CAP_MKNOD", "CAP_SYSLOG"]).without("/linux/resources/devices");
    let output = bundle.run(&words).ok().has("open /dev/null rw", "ok");
    if !peer_differs(&["crun"], "leaves devices alone where there is no rule") {
        output.has("open /tmp/kmsg r", "EPERM");
    }
}

#[test]
fn in_a_user_namespace_the_default_devices_work() {
    let words = [
        "stat",
        "/dev/null",
        "/dev/zero",
        "+",
        "open",
        "/dev/null",
        "rw",
        "+",
        "open",
        "/dev/zero",
        "r",
        "+",
        "open",
        "/dev/ptmx",
        "rw",
        "+",
        "cat",
        "/proc/self/mountinfo",
    ];
    let bundle = Bundle::new("userns-devices").user_namespace();
    let output = bundle.run(&words).ok().has("/dev/null.rdev", "1:3").has("/dev/zero.rdev", "1:5");
    let output = output.has("open /dev/null rw", "ok").has("open /dev/zero r", "ok").has("open /dev/ptmx rw", "ok");
    if !peer_differs(&["runc", "crun"], "binds with the host's flags") {
        let null = kernel::mount_at(&kernel::mounts(&output.stdout), "/dev/null");
        assert!(null.has("nosuid") && null.has("noexec") && !null.has("nodev"), "{null:?}");
    }
}

/// What a payload does that looks at these devices, opens `/dev/mine` and reads the mount table.
fn looks_at<'a>(devices: &[&'a str]) -> Vec<&'a str> {
    [&["stat"], devices, &["+", "open", "/dev/mine", "r", "+", "cat", "/proc/self/mountinfo"]].concat()
}

/// The host has no such paths, or has other devices there; owner and permissions are the bundle's.
#[test]
fn in_a_user_namespace_configured_devices_are_as_asked() {
    if peer_differs(&["runc"], "binds what the host has at the path") {
        return;
    }
    let devices = json!([
        {"path": "/dev/mine", "type": "c", "major": 1, "minor": 5, "fileMode": 0o640, "uid": 12, "gid": 34},
        {"path": "/dev/deep/er", "type": "c", "major": 1, "minor": 9},
        {"path": "/dev/zero", "type": "c", "major": 1, "minor": 3, "fileMode": 0o600},
    ]);
    let bundle = Bundle::new("userns-mine").user_namespace().set("/linux/devices", devices).caps(&["CAP_DAC_OVERRIDE"]);
    let words = looks_at(&["/dev/mine", "/dev/deep/er", "/dev/zero"]);
    let output = bundle.run(&words).ok();
    let mine = kernel::mount_at(&kernel::mounts(&output.stdout), "/dev/mine");
    let output = output.has("/dev/mine.rdev", "1:5").has("/dev/mine.mode", "0640").has("/dev/mine.owner", "12:34");
    let output =
        output.has("/dev/deep/er.rdev", "1:9").has("/dev/deep/er.mode", "0666").has("/dev/deep/er.owner", "0:0");
    let output = output.has("/dev/zero.rdev", "1:3").has("/dev/zero.mode", "0600").has("open /dev/mine r", "ok");
    assert!(mine.has("nosuid") && mine.has("noexec") && !mine.has("nodev"), "{mine:?} in {output}");
}

/// Who may make no device binds the host's with the same number, wherever it is.
#[test]
fn a_user_gets_the_hosts_device_of_the_same_number() {
    if user::refused() || peer_differs(&["runc", "crun"], "binds what the host has at the path") {
        return;
    }
    let devices = json!([
        {"path": "/dev/mine", "type": "c", "major": 1, "minor": 5},
        {"path": "/dev/zero", "type": "c", "major": 1, "minor": 3},
    ]);
    let bundle = Bundle::rootless("user-devices").set("/linux/devices", devices);
    let words = looks_at(&["/dev/mine", "/dev/zero"]);
    let output = bundle.run(&words).ok();
    let mine = kernel::mount_at(&kernel::mounts(&output.stdout), "/dev/mine");
    assert!(mine.has("nosuid") && mine.has("noexec"), "{mine:?}");
    output.has("/dev/mine.rdev", "1:5").has("/dev/zero.rdev", "1:3").has("open /dev/mine r", "ok");

    let absent = json!([{"path": "/dev/mine", "type": "c", "major": 240, "minor": 7}]);
    let output = Bundle::rootless("user-no-device").set("/linux/devices", absent).run(&["true"]);
    output.fails(1, "error mounting \"/dev/mine\" to rootfs at \"/dev/mine\"");
}

/// The runtime itself is in a user namespace (rootless engines), or its caller has no `CAP_MKNOD`; the container has no user
/// namespace of its own.
#[test]
fn a_caller_that_can_make_no_devices_binds_the_hosts() {
    if peer_differs(&["runc", "crun"], "binds what the host has at the path") {
        return;
    }
    let devices = json!([
        {"path": "/dev/mine", "type": "c", "major": 1, "minor": 5},
        {"path": "/deep/er", "type": "c", "major": 1, "minor": 9},
        {"path": "/dev/zero", "type": "c", "major": 1, "minor": 3},
    ]);
    let words = looks_at(&["/dev/mine", "/deep/er", "/dev/zero"]);
    let bare = Bundle::new("no-mknod-elsewhere").set("/linux/devices", devices.clone()).sees(&words);
    let bare = bare.launch("run", &[]).with(|command| process::without_capability(command, 27)).finish();
    let mut outputs = vec![bare];
    if !user::refused() {
        let inner = Bundle::users("nested-devices").called_by_inner_root("").set("/linux/devices", devices);
        outputs.push(inner.run(&words));
    }
    for output in outputs {
        let output = output.ok().has("/dev/mine.rdev", "1:5").has("/deep/er.rdev", "1:9").has("/dev/zero.rdev", "1:3");
        let mine = kernel::mount_at(&kernel::mounts(&output.stdout), "/dev/mine");
        assert!(mine.has("nosuid") && mine.has("noexec"), "{mine:?}");
        output.has("open /dev/mine r", "ok");
    }
}

#[test]
fn odd_paths_of_devices_are_taken_with_a_warning() {
    let devices = json!([
        {"path": "/dev/slash/", "type": "c", "major": 1, "minor": 5},
        {"path": "dev/relative", "type": "c", "major": 1, "minor": 9},
    ]);
    for user in [false, true] {
        let bundle = Bundle::new("odd-device-path").set("/linux/devices", devices.clone());
        let bundle = if user { bundle.user_namespace() } else { bundle };
        if user && peer_differs(&["runc", "crun"], "binds what the host has at the path") {
            continue;
        }
        let output = bundle.run(&["stat", "/dev/slash", "/dev/relative"]).ok();
        assert!(
            !Runtime::get().is_onggi() || output.stderr.matches("is not the absolute path of a file").count() == 2,
            "{output}"
        );
        output.has("/dev/slash.rdev", "1:5").has("/dev/relative.rdev", "1:9");
    }
}

#[test]
fn a_bind_mounted_host_dev_is_left_unchanged() {
    let before = std::fs::read_link("/dev/ptmx").map(|l| l.display().to_string()).unwrap_or_default();
    let bundle = Bundle::new("bound-dev");
    for mount in ["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"] {
        // everything on it that the default configuration mounts
        assert!(bundle.config["mounts"].as_array().unwrap().iter().any(|m| m["destination"] == mount));
    }
    let bundle = ["/dev/pts", "/dev/shm", "/dev/mqueue", "/dev"].iter().fold(bundle, |b, m| b.without_mount(m));
    let output = bundle.bind("/dev", "/dev", &["rbind"]).run(&["open", "/dev/null", "rw"]).ok();
    output.has("open /dev/null rw", "ok");
    assert_eq!(std::fs::read_link("/dev/ptmx").map(|l| l.display().to_string()).unwrap_or_default(), before);
}
