//! Failures: broken bundles and failing steps give one clear error and the right status, and leave nothing.

use crate::support::{Bundle, Runtime, Value, World, json, not_here, peer_differs, world};

/// A broken bundle: its name, the change that breaks it, the expected error, and runtimes known to differ.
type Row = (&'static str, fn(Bundle) -> Bundle, &'static str, &'static [&'static str]);

const BROKEN: &[Row] = &[
    ("no-args", |b| b.set("/process/args", json!([])), "args must not be empty", &[]),
    ("args-absent", |b| b.without("/process/args"), "args must not be empty", &["crun"]),
    ("no-cwd", |b| b.set("/process/cwd", ""), "Cwd property must not be empty", &["crun"]),
    ("cwd-relative", |b| b.set("/process/cwd", "x"), "Cwd must be an absolute path", &["crun"]),
    ("no-root", |b| b.without("/root"), "root", &[]),
    (
        "root-missing",
        |b| b.set("/root/path", "/nonexist"),
        "invalid rootfs: stat /nonexist: no such file or directory",
        &["runc<1.2"],
    ),
    ("rlimit", |b| b.set("/process/rlimits/0/type", "RLIMIT_BOGUS"), "wrong rlimit value: RLIMIT_BOGUS", &[]),
    ("namespace", |b| b.set("/linux/namespaces/-", json!({"type": "bogus"})), "namespace", &[]),
    (
        "two-namespaces",
        |b| b.set("/linux/namespaces/-", json!({"type": "uts"})),
        "malformed spec file: duplicated ns {\"uts\" \"\"}",
        &[],
    ),
    ("hostname", |b| b.without_namespace("uts"), "unable to set hostname without a private UTS namespace", &[]),
    (
        "masked",
        |b| b.without_namespace("mount"),
        "unable to restrict sys entries without a private MNT namespace",
        &["crun"],
    ),
    (
        "sysctl",
        |b| b.set("/linux/sysctl", json!({"kernel.foo": "1"})),
        "sysctl \"kernel.foo\" is not in a separate kernel namespace",
        &[],
    ),
    ("user-unmapped", |b| b.namespace("user", None), "mapping", &["crun"]),
    ("mount-source", |b| b.bind("/nosuchsrc", "/m", &["bind"]), "no such file or directory", &[]),
    ("mount-type", |b| b.mount("/m", "nosuchfs", "x", &[]), "no such device", &[]),
    ("mount-data", |b| b.mount("/m", "tmpfs", "x", &["nosuch=1"]), "invalid argument", &[]),
    ("proc-cover", |b| b.mount("/proc/sys", "tmpfs", "tmpfs", &[]), "/proc/sys", &["runc<1.2", "crun"]),
    (
        "program",
        |b| b.args(&["nosuchcmd"]),
        "unable to start container process: error during container init: exec: \"nosuchcmd\": executable file not found in $PATH",
        &["runc<1.2"],
    ),
    ("program-path", |b| b.args(&["/nosuch"]), "exec: \"/nosuch\": stat /nosuch: no such file or directory", &[]),
    (
        "hook-missing",
        |b| b.set("/hooks", json!({"prestart": [{"path": "/nosuchhook"}]})),
        "error running prestart hook #0: ",
        &["runc<1.2"],
    ),
    (
        "hook-timeout",
        |b| b.set("/hooks", json!({"prestart": [{"path": "/bin/true", "timeout": -1}]})),
        "timeout",
        &["runc", "crun"],
    ),
    (
        "seccomp-action",
        |b| b.set("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_FOO"})),
        "SCMP_ACT_FOO",
        &["runc<1.2"],
    ),
    (
        "device-type",
        |b| b.set("/linux/devices", json!([{"path": "/dev/x", "type": "x", "major": 1, "minor": 3}])),
        "type",
        &["crun"],
    ),
    ("swap-alone", |b| b.set("/linux/resources/memory", json!({"swap": 1_000_000})), "", &["crun"]),
    ("capability-type", |b| b.set("/process/capabilities/bounding", "CAP_KILL"), "bounding", &["crun"]),
    ("number-type", |b| b.set("/process/user/uid", "root"), "uid", &["crun"]),
    ("uid-negative", |b| b.set("/process/user/uid", -1), "uid", &["crun"]),
    ("oom-score", |b| b.set("/process/oomScoreAdj", 5000), "", &[]),
    ("linux-list", |b| b.set("/linux", json!([])), "linux", &["crun"]),
    ("user-list", |b| b.set("/process/user", json!([0, 0])), "user", &["crun"]),
    ("namespace-list", |b| b.set("/linux/namespaces/0", json!(["pid"])), "namespace", &["crun"]),
    ("memory-list", |b| b.set("/linux/resources/memory", json!([])), "memory", &["crun"]),
    ("hook-list", |b| b.set("/hooks", json!({"poststop": [["/bin/true"]]})), "poststop", &["crun"]),
    ("mounts-type", |b| b.set("/mounts", json!({})), "mounts", &["crun"]),
    // (uid_t) -1 means "leave it as it is" to the kernel: root would stay root
    ("uid-none", |b| b.set("/process/user/uid", 4_294_967_295_u32), "", &["crun"]),
    ("gid-none", |b| b.set("/process/user/gid", 4_294_967_295_u32), "", &["crun"]),
    ("groups-none", |b| b.set("/process/user/additionalGids", json!([4_294_967_295_u32])), "", &[]),
    ("zero-in-args", |b| b.set("/process/args", json!(["/payload", "a\0b"])), "", &["runc", "crun"]),
    ("zero-in-env", |b| b.set("/process/env/-", "A=\0"), "", &["runc<1.2", "crun"]),
    (
        "sysctl-hostname",
        |b| b.set("/linux/sysctl", json!({"kernel.hostname": "x"})),
        "sysctl \"kernel.hostname\" is not allowed as it conflicts with the OCI \"hostname\" field",
        &[],
    ),
    ("sysctl-escape", |b| b.set("/linux/sysctl", json!({"net.x/../../kernel/shmmni": "1"})), "sysctl", &["runc<1.2"]),
    ("selinux", |b| b.set("/process/selinuxLabel", "system_u:system_r:container_t:s0"), "selinux", &["crun"]),
];

#[test]
fn a_broken_bundle_gives_one_clear_error_and_leaves_nothing() {
    // try every row, so that one run reports all failures
    let failed: Vec<&str> =
        BROKEN.iter().filter(|row| std::panic::catch_unwind(|| breaks(row)).is_err()).map(|(name, ..)| *name).collect();
    assert!(failed.is_empty(), "rows that failed: {failed:?}");
}

fn breaks((name, broken, phrase, peers): &Row) {
    if peer_differs(peers, &format!("{name}: takes it, or has other words")) {
        return;
    }
    let bundle = broken(Bundle::new(name));
    for verb in ["create", "run"] {
        let output = bundle.launch(verb, &[]).finish().fails(1, phrase);
        assert_eq!(output.stdout, "", "{name}: {output}");
        one_error(&output.stderr, name);
        bundle.nothing_left();
    }
    bundle.verb(&["state", &bundle.id]).fails(1, "container does not exist");
}

/// An error is reported once: callers take the last record as the reason.
fn one_error(text: &str, name: &str) {
    let said = text.lines().filter(|line| line.contains("level=error") || line.contains("level=fatal")).count();
    assert!(said <= 1 || peer_differs(&["runc"], &format!("{name}: says it {said} times")), "{name}: {text}");
}

#[test]
fn a_failure_begins_with_the_verb() {
    let bundle = Bundle::new("verb").args(&["/nosuch"]);
    if peer_differs(&["crun"], "does not name the verb") {
        return;
    }
    let name = &Runtime::get().name;
    bundle.create().fails(1, &format!("{name} create failed: unable to start container process: "));
    bundle.run_as_is().fails(1, &format!("{name} run failed: unable to start container process: "));
}

/// "OOM-killed" is reported only if the kernel counted an OOM kill.
#[test]
fn a_killed_init_is_reported_with_its_signal() {
    if peer_differs(&["crun", "runc"], "speaks of a closed socket") {
        return;
    }
    for (signal, verb) in [("SEGV", "run"), ("SEGV", "create"), ("KILL", "run"), ("KILL", "create")] {
        // the kernel does not deliver such a signal to the first process of a pid namespace
        let bundle = Bundle::new("killed").without_namespace("pid").sees(&["true"]);
        let script = format!("kill -{signal} $(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/')");
        let hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}]);
        let bundle = bundle.set("/hooks", json!({ "createRuntime": hook }));
        let output = bundle.launch(verb, &[]).finish();
        let number = if signal == "SEGV" { 11 } else { 9 };
        assert_ne!(output.code, 0, "{output}");
        assert!(output.stderr.contains(&format!("killed by signal {number}")), "{output}");
        assert!(!output.stderr.to_lowercase().contains("oom"), "{output}");
        bundle.nothing_left();
    }
}

#[test]
fn a_missing_bundle_is_reported() {
    let bundle = Bundle::new("no-bundle");
    let verb = |dir: &str| bundle.runtime().args(["create", "--bundle", dir, &bundle.id]).finish();
    verb("/nosuchbundle").fails(1, "/nosuchbundle");
    let empty = bundle.host_directory("empty");
    verb(empty.to_str().unwrap()).fails(1, "JSON specification file config.json not found");
    bundle.nothing_left();
}

#[test]
fn invalid_json_is_reported() {
    for text in ["", "{", "[]", "null", "\"text\"", "{\"ociVersion\": }", "{} {}", "\u{feff}{}"] {
        let bundle = Bundle::new("no-json");
        let dir = bundle.host_directory("other");
        std::fs::write(dir.join("config.json"), text).unwrap();
        let output = bundle.runtime().args(["create", "--bundle"]).args([&dir]).args([&bundle.id]).finish();
        assert!(output.code != 0 && !output.stderr.is_empty(), "{text:?}: {output}");
        bundle.nothing_left();
    }
}

#[test]
fn unknown_properties_are_ignored() {
    let bundle = Bundle::new("unknown-keys").set("/unknown", json!({"deep": [1, 2]})).set("/process/newField", 7);
    bundle.set("/linux/newField", Value::Null).set("/mounts/0/newField", "x").run(&["true"]).ok();
}

#[test]
fn any_spec_version_is_accepted() {
    for version in ["1.0.0", "1.3.0", "9.9.9"] {
        if version != "1.0.0" && peer_differs(&["crun<1.9"], "knows old versions only") {
            continue;
        }
        Bundle::new("version").set("/ociVersion", version).run(&["true"]).ok();
    }
}

#[test]
fn empty_lists_and_nulls_count_as_absent() {
    let bundle = Bundle::new("empty").set("/hooks", json!({})).set("/annotations", json!({}));
    let bundle =
        bundle.set("/linux/sysctl", json!({})).set("/linux/devices", json!([])).set("/linux/maskedPaths", json!([]));
    let bundle = bundle.set("/linux/readonlyPaths", json!([])).set("/process/rlimits", json!([]));
    bundle.set("/linux/seccomp", Value::Null).set("/process/user", json!({})).run(&["true"]).ok();
}

/// An unknown profile is an error with or without `AppArmor`; it never means "unconfined".
#[test]
fn an_unknown_apparmor_profile_is_an_error() {
    if peer_differs(&["crun"], "goes on without") {
        return;
    }
    let bundle = Bundle::new("apparmor").set("/process/apparmorProfile", "onggi-test-no-such-profile");
    let output = bundle.run_as_is();
    assert!(output.code != 0 && output.stderr.to_lowercase().contains("apparmor"), "{output}");
    bundle.nothing_left();
}

#[test]
fn the_id_is_free_again_after_a_failure() {
    let bundle = Bundle::new("again").args(&["/nosuch"]);
    assert_ne!(bundle.run_as_is().code, 0);
    assert_ne!(bundle.create().code, 0);
    bundle.sees(&["exit", "5"]).run_as_is().code(5);
}

#[test]
fn a_pid_file_that_cannot_be_written_ends_the_container() {
    let bundle = Bundle::new("pid-file").sees(&["pause"]);
    let output = bundle.launch("create", &["--pid-file", "/nosuch/dir/pid"]).finish();
    assert_ne!(output.code, 0, "{output}");
    if !peer_differs(&["runc"], "leaves the container") {
        bundle.nothing_left();
    } else {
        bundle.verb(&["delete", "--force", &bundle.id]).ok();
    }
}

#[test]
fn a_full_state_root_is_reported() {
    let bundle = Bundle::new("full").sees(&["true"]);
    std::fs::write(bundle.state_root(), "not a directory").unwrap();
    let output = bundle.run_as_is();
    assert!(output.code != 0 && output.stderr.to_lowercase().contains("not a directory"), "{output}");
    std::fs::remove_file(bundle.state_root()).unwrap();
}

#[test]
fn a_failing_mount_is_reported_before_a_failing_limit() {
    if world() == World::V1 && not_here("limits are written before init mounts") {
        return;
    }
    let broken = |bundle: Bundle| bundle.set("/linux/resources/unified", json!({"nosuch.max": "1"}));
    let bundle = broken(Bundle::new("limit-alone")).sees(&["true"]);
    bundle.run_as_is().fails(1, "nosuch");
    let bundle = broken(Bundle::new("mount-and-limit")).bind("/nosuchsrc", "/m", &["bind"]).sees(&["true"]);
    bundle.run_as_is().fails(1, "/nosuchsrc");
}

/// In all ways of cloning the source: by init, and by the host for a user namespace.
#[test]
fn a_bind_that_fails_names_its_source_and_its_target() {
    type Change = fn(Bundle) -> Bundle;
    let ways: [Change; 2] = [|bundle| bundle, Bundle::user_namespace];
    for way in ways {
        let bundle = way(Bundle::new("no-source").bind("/nosuchsrc", "/m", &["bind"]));
        let phrase = "error mounting \"/nosuchsrc\" to rootfs at \"/m\": ";
        let output = bundle.run_as_is().fails(1, phrase);
        assert!(output.stderr.contains("no such file or directory"), "{output}");
        bundle.nothing_left();
    }
    let bundle = Bundle::new("on-a-file").file("/m", "file");
    let source = bundle.host_directory("source");
    let bundle = bundle.bind(&source, "/m", &["bind"]);
    let phrase = format!("error mounting {source:?} to rootfs at \"/m\": ");
    let output = bundle.run_as_is().fails(1, &phrase);
    assert!(output.stderr.to_lowercase().contains("not a directory"), "{output}");
    bundle.nothing_left();
}

/// Followed to the letter, a hint leads to the container that was meant, and never to the end of one that runs.
#[test]
fn hints_about_ids_name_the_root() {
    if peer_differs(&["runc", "crun"], "has no hints") {
        return;
    }
    let bundle = Bundle::new("hints").sees(&["pause"]);
    let root = bundle.state_root().display().to_string();
    let output = bundle.verb(&["state", "nobody"]).fails(1, "msg=\"container does not exist\"");
    assert!(output.stderr.contains("nobody") && output.stderr.contains(&root), "{output}");
    bundle.up();
    let output = bundle.create().fails(1, "container with given ID already exists");
    let hint = output.stderr.split("hint=").nth(1).unwrap_or_default().to_owned();
    assert!(hint.contains(&format!("--root {root} delete {}", bundle.id)) && !hint.contains("--force"), "{output}");
    bundle.down();
}

#[test]
fn what_the_kernel_refuses_is_said_in_gos_words() {
    if peer_differs(&["crun"], "has libc's") {
        return;
    }
    let bundle = Bundle::new("loop").symlink("/a", "/b").symlink("/b", "/a").args(&["/a"]);
    bundle.run_as_is().fails(1, "too many levels of symbolic links");
    bundle.nothing_left();
}
