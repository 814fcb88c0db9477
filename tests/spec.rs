//! Requirements of the runtime spec that no other test file covers; `spec.md` names the tests for every requirement.

use crate::support::process::{bind, with_default_signals};
use crate::support::{Bundle, Value, json, kernel, not_here, peer_differs, until};

#[test]
fn unsupported_properties_are_refused() {
    let rows = [
        ("/linux/intelRdt", json!({"closID": "guaranteed"}), "intelRdt is specified in config"),
        (
            "/linux/intelRdt",
            json!({"l3CacheSchema": "L3:0=f", "memBwSchema": "MB:0=20"}),
            "intelRdt is specified in config",
        ),
        ("/linux/intelRdt", json!({"schemata": ["L3:0=f"]}), "intelRdt is specified in config"),
        ("/linux/intelRdt", json!({"closID": "/"}), "intelRdt is specified in config"),
        ("/linux/intelRdt", json!({"enableMonitoring": true}), "intelRdt is specified in config"),
        ("/linux/intelRdt", json!({}), "intelRdt is specified in config"),
    ];
    for (place, value, words) in rows {
        if peer_differs(&["runc", "crun"], "supports some of these, where the machine does") {
            return;
        }
        Bundle::new("unsupported").set(place, value).create().fails(1, words);
    }
}

#[test]
fn a_container_without_a_process_is_created_and_not_started() {
    if peer_differs(&["runc"], "refuses to create it") {
        return;
    }
    let bundle = Bundle::new("no-process").without("/process");
    bundle.run_as_is().fails(1, "process property must not be empty");
    bundle.create().ok();
    assert_eq!(bundle.status(), "created");
    let output = bundle.start();
    if !peer_differs(&["crun"], "has words of its own") {
        output.fails(1, "process property must not be empty");
    }
    assert_eq!(bundle.status(), "created");
    bundle.down();
}

#[test]
fn a_console_size_without_a_terminal_is_ignored() {
    let size = json!({"height": 10, "width": 20});
    Bundle::new("size").set("/process/consoleSize", size).run(&["true"]).ok();
}

#[test]
fn annotations_appear_in_the_state_unchanged() {
    let mut annotations = json!({"com.example.unknown": "", "org.opencontainers.none": "reserved"});
    for key in ["os", "os.version", "os.features", "architecture", "variant", "author", "created", "stopSignal"] {
        // values are not validated: they come from the image
        annotations[format!("org.opencontainers.image.{key}")] = json!("nonsense");
    }
    let bundle = Bundle::new("annotations").sees(&["pause"]).set("/annotations", annotations.clone());
    bundle.create().ok();
    assert_eq!(bundle.state()["annotations"], annotations);
    bundle.down();
}

#[test]
fn invalid_annotations_are_refused() {
    if peer_differs(&["runc", "crun"], "takes an empty key") {
        return;
    }
    Bundle::new("empty-key").set("/annotations", json!({"": "x"})).create().fails(1, "annotations");
    Bundle::new("number").set("/annotations", json!({"a": 1})).create().fails(1, "annotations");
    Bundle::new("list").set("/annotations", json!(["a"])).create().fails(1, "annotations");
}

#[test]
fn documents_are_utf_8_and_the_last_duplicate_key_wins() {
    if peer_differs(&["runc", "crun"], "puts something in the place of what it cannot read") {
        return;
    }
    let bundle = Bundle::new("letters").set("/annotations", json!({"name": "NAME"})).sees(&["uname"]);
    let mut bundle = bundle.set("/hostname", "last");
    let dir = bundle.host_directory("other");
    bundle.config["root"]["path"] = json!(bundle.rootfs());
    let text = serde_json::to_string(&bundle.config).unwrap();
    let write = |bytes: &[u8]| {
        std::fs::write(dir.join("config.json"), bytes).unwrap();
        bundle.runtime().args(["run", "--bundle"]).arg(&dir).arg(&bundle.id).finish()
    };
    let (before, behind) = text.split_once("NAME").unwrap();
    write([before.as_bytes(), "König".as_bytes(), behind.as_bytes()].concat().as_slice()).ok();
    write([before.as_bytes(), b"K\xf6nig", behind.as_bytes()].concat().as_slice()).fails(1, "config.json");
    // as in Go: of two keys with the same name the last one wins
    let twice = text.replacen('{', "{\"hostname\": \"first\", ", 1);
    write(twice.as_bytes()).ok().has("hostname", "last");
}

#[test]
fn an_existing_node_must_be_the_configured_device() {
    // in the rootfs's own /dev, because a tmpfs would be empty
    let device = json!([{"path": "/there", "type": "c", "major": 1, "minor": 3}]);
    let bundle = Bundle::new("occupied").file("/there", "a file").set("/linux/devices", device.clone());
    bundle.create().fails(1, "/there");
    let bundle = Bundle::new("same").set("/linux/devices", device);
    nix::sys::stat::mknod(
        &bundle.rootfs().join("there"),
        nix::sys::stat::SFlag::S_IFCHR,
        nix::sys::stat::Mode::S_IRWXU,
        nix::sys::stat::makedev(1, 3),
    )
    .unwrap();
    bundle.run(&["stat", "/there"]).ok().has("/there.rdev", "1:3");
}

#[test]
fn one_device_may_have_two_paths() {
    let node = |path: &str| json!({"path": path, "type": "c", "major": 1, "minor": 3});
    let devices = json!([node("/dev/first"), node("/else/where")]);
    let output = Bundle::new("twice").set("/linux/devices", devices).run(&["stat", "/dev/first", "/else/where"]).ok();
    output.has("/dev/first.rdev", "1:3").has("/else/where.rdev", "1:3");
}

#[test]
fn an_invalid_device_access_is_refused() {
    if peer_differs(&["runc", "crun"], "passes over letters that mean nothing") {
        return;
    }
    let rule = |access: &str| json!({"allow": true, "type": "c", "major": 1, "minor": 11, "access": access});
    for access in ["rwx", "a", ""] {
        Bundle::new("access").set("/linux/resources/devices/-", rule(access)).create().fails(1, "access");
    }
}

/// runc's own tests use it; it grants nothing.
#[test]
fn device_access_a_is_ignored_beside_others() {
    let rule = json!({"allow": true, "type": "c", "major": 1, "minor": 11, "access": "wa"});
    let node = json!({"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11});
    let bundle = Bundle::new("access-a").set("/linux/resources/devices/-", rule).set("/linux/devices", json!([node]));
    let output = bundle.run(&["open", "/dev/kmsg", "w", "+", "open", "/dev/kmsg", "r"]).ok();
    output.has("open /dev/kmsg w", "ok").has("open /dev/kmsg r", "EPERM");
}

#[test]
fn files_keep_their_owners_where_ids_are_mapped() {
    use std::os::unix::fs::MetadataExt;
    let bundle = Bundle::new("owners").user_namespace().file("/mine", "");
    std::os::unix::fs::chown(bundle.rootfs().join("mine"), Some(4242), Some(4243)).unwrap();
    let bundle = bundle.sees(&["true"]);
    bundle.run_as_is().ok();
    let found = std::fs::metadata(bundle.rootfs().join("mine")).unwrap();
    assert_eq!((found.uid(), found.gid()), (4242, 4243));
}

#[test]
fn spec_versions_listed_by_features_are_accepted() {
    let features = Bundle::new("features").verb(&["features"]).ok().json();
    for bound in ["ociVersionMin", "ociVersionMax"] {
        let version = features[bound].as_str().unwrap().to_owned();
        Bundle::new(bound).set("/ociVersion", version).run(&["true"]).ok();
    }
    let number = |bound: &str| -> Vec<u32> {
        let text = features[bound].as_str().unwrap().split('-').next().unwrap().to_owned();
        text.split('.').map(|part| part.parse().unwrap()).collect()
    };
    assert!(number("ociVersionMin") <= number("ociVersionMax"));
}

#[test]
fn annotations_of_features_are_a_string_map() {
    let features = Bundle::new("features").verb(&["features"]).ok().json();
    let annotations = features["annotations"].as_object().unwrap();
    assert!(annotations.iter().all(|(key, value)| !key.is_empty() && value.is_string()), "{annotations:?}");
}

/// The strings of a list in the features document.
fn words(features: &Value, place: &str) -> Vec<String> {
    let list = features.pointer(place).and_then(Value::as_array).unwrap_or_else(|| panic!("{place}"));
    list.iter().map(|word| word.as_str().unwrap().to_owned()).collect()
}

#[test]
fn seccomp_values_listed_by_features_are_accepted() {
    if peer_differs(&["runc", "crun"], "lists what only some machines have") {
        return;
    }
    let features = Bundle::new("features").verb(&["features"]).ok().json();
    let profile = |rule: Value| json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]});
    for action in words(&features, "/linux/seccomp/actions") {
        let mut profile = profile(json!({"names": ["pivot_root"], "action": action}));
        if action == "SCMP_ACT_NOTIFY" {
            // this action needs an agent, and there is none
            profile["listenerPath"] = json!("/onggi-nobody");
            Bundle::new(&action).set("/linux/seccomp", profile).create().fails(1, "/onggi-nobody");
        } else {
            Bundle::new(&action).set("/linux/seccomp", profile).run(&["true"]).ok();
        }
    }
    for operator in words(&features, "/linux/seccomp/operators") {
        let condition = json!([{"index": 0, "value": 77, "valueTwo": 77, "op": operator}]);
        let rule = json!({"names": ["pivot_root"], "action": "SCMP_ACT_ERRNO", "args": condition});
        Bundle::new(&operator).set("/linux/seccomp", profile(rule)).run(&["true"]).ok();
    }
    let archs = words(&features, "/linux/seccomp/archs");
    let mut all = profile(json!({"names": ["pivot_root"], "action": "SCMP_ACT_ERRNO"}));
    all["architectures"] = json!(archs);
    Bundle::new("archs").set("/linux/seccomp", all).run(&["true"]).ok();
    let known = words(&features, "/linux/seccomp/knownFlags");
    // supported flags are a subset of the known flags, which are tried below
    assert!(words(&features, "/linux/seccomp/supportedFlags").iter().all(|flag| known.contains(flag)), "{known:?}");
    for flag in known {
        let mut flagged = profile(json!({"names": ["pivot_root"], "action": "SCMP_ACT_ERRNO"}));
        flagged["flags"] = json!([flag]);
        let output = Bundle::new(&flag).set("/linux/seccomp", flagged).run(&["true"]);
        // the kernel accepts this flag only with a listener
        if flag == "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" {
            output.fails(1, "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV")
        } else {
            output.ok()
        };
    }
}

#[test]
fn capabilities_and_namespaces_listed_by_features_are_accepted() {
    let features = Bundle::new("features").verb(&["features"]).ok().json();
    let capabilities = words(&features, "/linux/capabilities");
    let bundle = Bundle::new("capabilities").caps(&capabilities.iter().map(String::as_str).collect::<Vec<_>>());
    let output = bundle.run(&["true"]).ok();
    assert!(!output.stderr.contains("unknown"), "{output}");
    for kind in words(&features, "/linux/namespaces").iter().filter(|kind| *kind != "user") {
        if kind == "time" && !std::path::Path::new("/proc/self/ns/time").exists() {
            not_here("the kernel has no time namespaces");
            continue;
        }
        Bundle::new(kind).namespace(kind, None).run(&["true"]).ok();
    }
    Bundle::new("user").user_namespace().run(&["true"]).ok();
}

#[test]
fn hooks_listed_by_features_are_run() {
    let features = Bundle::new("features").verb(&["features"]).ok().json();
    for kind in words(&features, "/hooks") {
        let bundle = Bundle::new(&kind).sees(&["pause"]);
        let file = if kind == "startContainer" {
            "/ran".to_owned()
        } else {
            bundle.rootfs().join("ran").display().to_string()
        };
        let mut bundle = bundle.hook(&kind, &["save", &file], &[]);
        if kind == "startContainer" {
            bundle = bundle.set("/hooks/startContainer/0/path", "/payload");
        }
        bundle.up();
        let ran = bundle.rootfs().join("ran");
        if kind == "poststop" {
            assert!(!ran.exists());
            bundle.down();
        } else {
            until(&kind, || ran.exists().then_some(()));
            bundle.down();
        }
        assert!(ran.exists(), "{kind}");
    }
}

#[test]
fn start_container_hooks_run_under_the_payloads_filter() {
    for no_new_privileges in [false, true] {
        let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL_PROCESS"},
            // as a profile that is older than these system calls
            {"names": ["clone3", "close_range", "openat2", "faccessat2"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1},
        ]});
        let bundle = Bundle::new("filtered-hook").sees(&["true"]).set("/linux/seccomp", profile);
        let bundle = bundle.set("/process/noNewPrivileges", no_new_privileges).set("/process/cwd", "/tmp");
        let bundle = bundle.set("/process/user", json!({"uid": 7, "gid": 7}));
        let hook = |words: &[&str]| json!([{"path": "/payload", "args": words}]);
        let bundle = bundle.set("/hooks/startContainer", hook(&["payload", "mkdir", "/tmp/x"]));
        let code = if crate::support::Runtime::get().is_onggi() { 255 } else { 1 };
        bundle.run_as_is().fails(code, "bad system call");
    }
}

#[test]
fn a_profile_without_new_system_calls_does_not_break_the_start() {
    // a profile that denies by default, such as that of https://github.com/opencontainers/runtime-tools
    for no_new_privileges in [false, true] {
        let denied = ["clone3", "close_range", "openat2", "faccessat2", "mount_setattr", "open_tree", "pidfd_open"];
        for errno in [libc::EPERM, libc::ENOSYS] {
            let rule = json!({"names": denied, "action": "SCMP_ACT_ERRNO", "errnoRet": errno});
            let bundle = Bundle::new("old-profile")
                .set("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}));
            let bundle = bundle.set("/process/noNewPrivileges", no_new_privileges).set("/process/cwd", "/tmp/deep");
            let bundle = bundle.set("/process/user", json!({"uid": 7, "gid": 7})).directory("/tmp/deep");
            bundle.run(&["cwd", "+", "fds"]).ok().has("cwd", "/tmp/deep");
        }
    }
}

#[test]
fn a_start_container_hook_without_env_gets_the_payloads() {
    let bundle = Bundle::new("inherits").file("/etc/passwd", "seven:x:7:7::/home/seven:/bin/sh\n").env("NAME=value");
    let bundle = bundle.set("/process/user", json!({"uid": 0, "gid": 0})).sees(&["pause"]);
    let hook = json!([{"path": "/payload", "args": ["payload", "save-env", "/env"]}]);
    let bundle = bundle.set("/hooks/startContainer", hook);
    if peer_differs(&["crun"], "gives it an environment of its own") {
        return;
    }
    bundle.up();
    let file = bundle.rootfs().join("env");
    let text = until("the hook", || std::fs::read_to_string(&file).ok().filter(|text| !text.is_empty()));
    assert!(text.contains("NAME=value") && text.contains("HOME=/"), "{text}");
    bundle.down();
}

#[test]
fn a_dangling_symlink_target_is_created_inside_the_root() {
    let source = |bundle: &Bundle| bundle.host_file("source", "bound");
    for (link, says, target, made) in [
        ("/etc/dangling", "/tmp/made", "/etc/dangling", "tmp/made"),
        ("/etc/relative", "../tmp/beside", "/etc/relative", "tmp/beside"),
        ("/etc/way", "/tmp/way/deep", "/etc/way/file", "tmp/way/deep/file"),
        ("/etc/out", "../../../../onggi-outside", "/etc/out", "onggi-outside"),
    ] {
        let bundle = Bundle::new("dangling").symlink(link, says);
        let file = source(&bundle);
        let bundle = bundle.bind(file, target, &["bind"]).sees(&["cat", target]);
        let there = bundle.rootfs().join(made);
        bundle.run_as_is().ok().says("bound");
        assert!(there.exists() && !std::path::Path::new("/onggi-outside").exists(), "{made}");
    }
}

#[test]
fn the_callers_cpu_affinity_is_not_inherited() {
    let allowed = || kernel::status_field(std::process::id().cast_signed(), "Cpus_allowed").unwrap();
    let all = allowed();
    if u64::from_str_radix(&all.replace(',', ""), 16).is_ok_and(u64::is_power_of_two) {
        not_here("one processor");
        return;
    }
    if peer_differs(&["runc<1.3", "crun"], "leaves it as it is") {
        return;
    }
    let bundle = Bundle::new("affinity").sees(&["status"]);
    let call = bundle.launch("run", &[]).with(|command| bind(command, 0));
    call.finish().ok().has("Cpus_allowed", &all);
}

#[test]
fn an_ambient_capability_that_cannot_be_raised_is_a_warning() {
    let names = json!(["CAP_CHOWN", "CAP_KILL"]);
    let caps = json!({"bounding": names, "effective": names, "permitted": names, "inheritable": ["CAP_KILL"], "ambient": names});
    let output = Bundle::new("ambient").set("/process/capabilities", caps).run(&["true"]).ok();
    if !peer_differs(&["crun", "runc<1.3"], "says nothing") {
        assert!(output.stderr.contains("can't raise ambient capability CAP_CHOWN: "), "{output}");
        assert!(!output.stderr.contains("CAP_KILL"), "{output}");
    }
}

#[test]
fn create_container_hooks_run_before_the_pivot() {
    if peer_differs(&["crun"], "leaves them in the bundle") {
        return;
    }
    let bundle = Bundle::new("stand").hook("createContainer", &["append", "here", "x"], &[]);
    let bundle = bundle.sees(&["cat", "/here"]);
    bundle.run_as_is().ok().says("x");
    // the host's files are still visible, as the hook's program is looked up there
    assert!(bundle.rootfs().join("here").exists());
}

#[test]
fn the_memory_policy_is_applied() {
    if peer_differs(&["runc<1.4", "crun"], "has no memory policies") {
        return;
    }
    let features = Bundle::new("features").verb(&["features"]).ok().json();
    for mode in words(&features, "/linux/memoryPolicy/modes") {
        let nodes = if ["MPOL_DEFAULT", "MPOL_LOCAL"].contains(&mode.as_str()) { "" } else { "0" };
        let output =
            Bundle::new(&mode).set("/linux/memoryPolicy", json!({"mode": mode, "nodes": nodes})).run(&["true"]);
        // on a kernel without NUMA, or older than the mode, it must be an error
        assert!(output.code == 0 || output.stderr.contains("set_mempolicy"), "{output}");
    }
    for flag in words(&features, "/linux/memoryPolicy/flags") {
        let policy = json!({"mode": "MPOL_BIND", "nodes": "0", "flags": [flag]});
        let output = Bundle::new(&flag).set("/linux/memoryPolicy", policy).run(&["true"]);
        assert!(output.code == 0 || output.stderr.contains("set_mempolicy"), "{output}");
    }
    let wrong = [
        json!({"mode": "MPOL_NONE", "nodes": "0"}),
        json!({"nodes": "0"}),
        json!({"mode": "MPOL_BIND", "nodes": "x"}),
        json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_NONE"]}),
    ];
    for policy in wrong {
        Bundle::new("wrong-policy").set("/linux/memoryPolicy", policy).create().fails(1, "linux.memoryPolicy");
    }
}

#[test]
fn relative_masked_paths_are_taken_as_absolute() {
    let bundle = Bundle::new("relative").set("/linux/maskedPaths", json!(["proc/keys"]));
    let output = bundle.run(&["read", "/proc/keys"]).ok().has("read /proc/keys", "0 \"\"");
    if !peer_differs(&["runc", "crun"], "says nothing") {
        assert!(output.stderr.contains("is not absolute: taken as a path from the root"), "{output}");
    }
}

#[test]
fn the_last_home_wins_and_an_empty_one_is_looked_up() {
    let bundle = |name: &str| {
        let bundle = Bundle::new(name).file("/etc/passwd", "root:x:0:0::/root:/bin/sh\n");
        bundle.set("/process/env", json!([]))
    };
    let home = |bundle: Bundle| bundle.run(&["env"]).ok().stdout;
    assert!(home(bundle("last").env("HOME=/one").env("HOME=")).contains("HOME=/root\n"));
    assert!(home(bundle("first").env("HOME=").env("HOME=/two")).contains("HOME=/two\n"));
}

#[test]
fn sched_deadline_and_a_cpuset_conflict() {
    let bundle = Bundle::new("deadline").set("/linux/resources/cpu", json!({"cpus": "0"}));
    let scheduler = json!({"policy": "SCHED_DEADLINE", "runtime": 42000, "deadline": 1_000_000, "period": 1_000_000});
    if peer_differs(&["crun", "runc<1.2"], "leaves it to the kernel") {
        return;
    }
    let words = "process scheduler can't be used together with AllowedCPUs";
    bundle.set("/process/scheduler", scheduler).create().fails(1, words);
}

#[test]
fn a_created_container_ends_on_sigterm() {
    if peer_differs(&["crun"], "waits in a process that heeds nothing") {
        return;
    }
    for signal in ["TERM", "INT", "HUP", "QUIT"] {
        let bundle = Bundle::new(signal).sees(&["pause"]);
        bundle.launch("create", &[]).with(with_default_signals).finish().ok();
        bundle.kill(signal).ok();
        bundle.wait_for("stopped");
        bundle.down();
    }
}

#[test]
fn a_bind_source_may_be_an_earlier_mount_in_the_root() {
    for user in [false, true] {
        let bundle = Bundle::new("order");
        let bundle = if user { bundle.user_namespace() } else { bundle };
        let first = bundle.host_directory("first");
        std::fs::write(first.join("file"), "first").unwrap();
        let inside = bundle.rootfs().join("one");
        let bundle = bundle.bind(first, "/one", &["rbind"]).bind(&inside, "/two", &["rbind"]);
        // as in runc, a destination that starts with the rootfs path has that prefix removed
        let three = bundle.rootfs().join("three");
        let bundle = bundle.bind(&inside, three.to_str().unwrap(), &["rbind"]);
        let output = bundle.run(&["cat", "/two/file", "+", "cat", "/three/file"]).ok();
        assert_eq!(output.stdout, "firstfirst", "{output}");
    }
}

#[test]
fn locked_flags_of_host_mounts_hold_in_a_user_namespace() {
    use nix::mount::{MsFlags, mount, umount};
    if peer_differs(&["crun", "runc<1.2"], "has rules of its own") {
        return;
    }
    let forbids = |bundle: &Bundle| {
        let (top, none) = (bundle.host_directory("top"), None::<&str>);
        mount(Some(&top), &top, none, MsFlags::MS_BIND, none).unwrap();
        let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | MsFlags::MS_NOATIME;
        mount(none, &top, none, flags, none).unwrap();
        top
    };
    for (options, refused) in
        [(&["bind", "nosuid"][..], false), (&["bind", "rw"], true), (&["bind", "nosuid", "strictatime"], true)]
    {
        for user in [false, true] {
            let bundle = Bundle::new("locked");
            let bundle = if user { bundle.user_namespace() } else { bundle };
            let top = forbids(&bundle);
            let bundle = bundle.bind(&top, "/m", options).sees(&["mountinfo"]);
            let output = bundle.run_then(|| umount(&top).unwrap());
            if user && refused {
                output.fails(1, "error mounting");
                continue;
            }
            let all = kernel::mounts(&output.ok().stdout);
            let seen = kernel::mount_at(&all, "/m");
            // flags that the bundle does not mention are kept in a user namespace, and cleared without one
            assert_eq!(seen.has("ro"), user, "{options:?}: {seen:?}");
        }
    }
}
