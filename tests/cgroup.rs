//! cgroups: created at the configured path, the process in it, limits written and enforced, removed at the end.
//!
//! A limit needs its controller. In the pure v2 view of a machine whose controllers are on v1, the runtime must refuse the
//! limit with a clear error and leave nothing.

use crate::support::runtime::Call;
use crate::support::world::{CGROUP, cgroup_dir, has_controller, hierarchies, home};
use crate::support::{Bundle, Value, World, json, kernel, not_here, peer_differs, until, world};

const CONTROLLERS: [&str; 4] = ["memory", "pids", "cpu", "devices"];

#[test]
fn the_process_is_in_the_configured_cgroup() {
    let bundle = Bundle::new("placed").sees(&["pause"]);
    bundle.create().ok();
    let pid = bundle.pid();
    for controller in CONTROLLERS.into_iter().filter(|name| world() == World::V2 || has_controller(name)) {
        assert_eq!(kernel::cgroup_of(pid, controller), bundle.cgroup(), "{controller}");
        assert_eq!(bundle.cgroup_file(controller, "cgroup.procs"), pid.to_string(), "{controller}");
    }
    bundle.down();
    assert_eq!(kernel::cgroups_with(&bundle.id), Vec::<std::path::PathBuf>::new());
}

#[test]
fn on_a_v1_machine_every_hierarchy_is_used() {
    if world() == World::V2 && not_here("there is one hierarchy") {
        return;
    }
    let bundle = Bundle::new("every-hierarchy").sees(&["pause"]);
    let pid = bundle.up();
    for top in hierarchies() {
        let name = top.file_name().unwrap().to_string_lossy().into_owned();
        if ["unified", "systemd"].contains(&name.as_str()) {
            continue;
        }
        // controllers that are mounted together share a directory name, such as cpu,cpuacct
        let controller = name.split(',').next().unwrap_or_default();
        assert_eq!(kernel::cgroup_of(pid, controller), bundle.cgroup(), "{name}");
    }
    bundle.down();
}

#[test]
fn the_process_is_created_in_its_cgroup() {
    if (world() == World::V1 && not_here("v1 has no CLONE_INTO_CGROUP"))
        || peer_differs(&["runc", "crun"], "moves the process, which costs a grace period")
    {
        return;
    }
    let bundle = Bundle::new("born").sees(&["true"]);
    let trace = bundle.path("trace");
    let mut command = std::process::Command::new("strace");
    command.args(["-f", "-qq", "-e", "trace=clone3,openat,openat2", "-o"]).arg(&trace);
    command.arg(&bundle.binary).arg("--root").arg(bundle.state_root()).current_dir(&bundle.dir);
    bundle.verb(&["--version"]).ok();
    Call::new(command, &bundle.path("strace")).args(["run", &bundle.id]).finish().ok();
    let calls = std::fs::read_to_string(&trace).unwrap();
    assert!(calls.contains("CLONE_INTO_CGROUP"), "{calls}");
    // and it is not moved later
    let moved = calls.lines().find(|line| line.contains("cgroup.procs") && !line.contains("O_RDONLY"));
    assert_eq!(moved, None);
}

#[test]
fn the_cgroup_path_may_be_deep() {
    let bundle = Bundle::new("deep");
    let path = format!("/{}/a/b/c", bundle.id);
    let bundle = bundle.set("/linux/cgroupsPath", path.as_str()).sees(&["pause"]);
    let pid = bundle.up();
    assert_eq!(kernel::cgroup_of(pid, "pids"), path);
    bundle.down();
    // the container's own directory is removed; its parents may be shared and stay
    assert!(!cgroup_dir("pids", &path).exists());
    for cgroup in kernel::cgroups_with(&bundle.id) {
        std::fs::remove_dir(cgroup).unwrap();
    }
}

#[test]
fn without_a_path_the_cgroup_is_named_after_the_container() {
    let bundle = Bundle::new("unnamed").without("/linux/cgroupsPath").sees(&["pause"]);
    let pid = bundle.up();
    let path = kernel::cgroup_of(pid, "pids");
    assert!(path.ends_with(&format!("/{}", bundle.id)), "{path}");
    bundle.down();
}

#[test]
fn sub_cgroups_are_removed_too() {
    let bundle = Bundle::new("below").sees(&["pause"]);
    let pid = bundle.up();
    let top = cgroup_dir("pids", &bundle.cgroup());
    std::fs::create_dir_all(top.join("made/by/payload")).unwrap();
    std::fs::write(top.join("made/by/payload/cgroup.procs"), pid.to_string()).unwrap();
    bundle.kill("KILL").ok();
    bundle.exit_code(pid);
    bundle.wait_for("stopped");
    bundle.delete().ok();
    bundle.nothing_left();
}

#[test]
fn a_cgroup_in_use_is_refused() {
    if peer_differs(&["runc<1.4"], "only warns") || peer_differs(&["crun"], "takes it") {
        return;
    }
    let first = Bundle::new("in-use").sees(&["pause"]);
    let pid = first.up();
    let second = Bundle::new("intruder").set("/linux/cgroupsPath", first.cgroup());
    second.run_as_is().fails(1, "container's cgroup is not empty: 1 process(es) found");
    assert!(kernel::process_state(pid).is_some(), "the first container's process was hurt");
    first.down();
}

/// Sets a limit and reads it back; without the controller it must be refused.
fn limit(controller: &str, pointer: &str, value: Value, files: [(&str, &str); 2]) {
    let bundle = Bundle::new(controller).set(&format!("/linux/resources/{pointer}"), value).sees(&["pause"]);
    if !has_controller(controller) {
        let output = bundle.create();
        assert!(output.code != 0 && output.stderr.contains(controller), "{controller} is missing here: {output}");
        return bundle.nothing_left();
    }
    bundle.create().ok();
    let (file, expected) = files[usize::from(home(controller) == Some(World::V2))];
    assert_eq!(bundle.cgroup_file(controller, file), expected, "{controller} {pointer}: {file}");
    bundle.down();
}

#[test]
fn memory_limits_are_written() {
    limit(
        "memory",
        "memory/limit",
        json!(67_108_864),
        [("memory.limit_in_bytes", "67108864"), ("memory.max", "67108864")],
    );
    limit(
        "memory",
        "memory/reservation",
        json!(33_554_432),
        [("memory.soft_limit_in_bytes", "33554432"), ("memory.low", "33554432")],
    );
}

#[test]
fn pids_limits_are_written() {
    limit("pids", "pids/limit", json!(77), [("pids.max", "77"), ("pids.max", "77")]);
}

#[test]
fn cpu_limits_are_written() {
    limit(
        "cpu",
        "cpu",
        json!({"quota": 20_000, "period": 50_000}),
        [("cpu.cfs_quota_us", "20000"), ("cpu.max", "20000 50000")],
    );
    limit("cpu", "cpu/shares", json!(512), [("cpu.shares", "512"), ("cpu.weight", "59")]);
}

#[test]
fn empty_limits_are_accepted_without_a_controller() {
    let bundle = Bundle::new("unlimited").set("/linux/resources/memory", json!({"disableOOMKiller": false}));
    let bundle = if peer_differs(&["crun"], "takes an empty blockIO for a limit") {
        bundle
    } else {
        bundle.set("/linux/resources/blockIO", json!({}))
    };
    bundle.set("/linux/resources/cpu", json!({})).run(&["true"]).ok();
    Bundle::new("no-resources").without("/linux/resources").run(&["true"]).ok();
}

#[test]
fn the_pids_limit_is_enforced() {
    if !has_controller("pids") {
        return limit("pids", "pids/limit", json!(5), [("", ""), ("", "")]);
    }
    let output = Bundle::new("pids-felt").set("/linux/resources/pids/limit", 5).run(&["fork", "50"]).ok();
    output.has("forked", "4 EAGAIN");
}

#[test]
fn the_memory_limit_is_enforced() {
    if !has_controller("memory") {
        return limit("memory", "memory/limit", json!(33_554_432), [("", ""), ("", "")]);
    }
    let bundle = Bundle::new("memory-felt").set("/linux/resources/memory", json!({"limit": 33_554_432}));
    bundle.run(&["hog", "100000000"]).code(137);
    let bundle = Bundle::new("memory-fits").set("/linux/resources/memory", json!({"limit": 67_108_864}));
    bundle.run(&["hog", "20000000"]).ok().has("hogged", "20000000");
}

#[test]
fn a_memory_limit_too_small_to_start_is_reported() {
    if !has_controller("memory") {
        return limit("memory", "memory/limit", json!(4096), [("", ""), ("", "")]);
    }
    let bundle = Bundle::new("memory-tiny").set("/linux/resources/memory", json!({"limit": 4096})).sees(&["true"]);
    let output = bundle.run_as_is();
    assert_ne!(output.code, 0, "{output}");
    if output.code != 137 && !peer_differs(&["crun"], "speaks of a closed socket") {
        let said = output.stderr.to_lowercase();
        assert!(said.contains("oom") || said.contains("memory"), "{output}");
    }
    bundle.nothing_left();
}

#[test]
fn delete_removes_the_cgroup_of_a_stopped_container() {
    let bundle = Bundle::new("stopped").sees(&["true"]);
    let pid = bundle.up();
    bundle.exit_code(pid);
    bundle.wait_for("stopped");
    bundle.delete().ok();
    assert_eq!(kernel::cgroups_with(&bundle.id), Vec::<std::path::PathBuf>::new());
}

#[test]
fn processes_left_by_the_first_process_die_with_the_container() {
    if peer_differs(&["crun"], "waits for the orphan") {
        return;
    }
    // in the host's pid namespace the payload's child outlives the payload
    let bundle = Bundle::new("orphans").without_namespace("pid").sees(&["background", "pause", "+", "true"]);
    let run = bundle.launch("run", &[]).start();
    run.finish().ok();
    until("the orphan to die", || kernel::processes_with(&bundle.id).is_empty().then_some(()));
}

/// A mount of cgroup2 in the host's cgroup namespace would give the host's whole hierarchy the options of that mount
/// (cgroups(7), "Cgroups v2 mount options"): runc#5258, containerd#12952.
#[test]
fn a_container_leaves_the_options_of_the_hosts_cgroup2_alone() {
    use crate::support::kernel::{mount_at, mounts};
    use nix::mount::{MsFlags, mount};
    if (world() == World::V1 && not_here("containers of v1 mount no cgroup2"))
        || peer_differs(&["runc"], "changes them")
    {
        return;
    }
    let options = || mount_at(&kernel::mounts_of(std::process::id().cast_signed()), CGROUP).super_options;
    let remount = |data: &str| {
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some("cgroup2"), CGROUP, Some("cgroup2"), flags, Some(data)).unwrap();
    };
    let own = options();
    // one that means nothing to whoever has no limits of memory here
    let other = own.iter().any(|option| option == "memory_recursiveprot");
    if !other {
        remount("memory_recursiveprot");
    }
    let before = options();
    let bundle = Bundle::new("cgroup-options").without_namespace("cgroup");
    let bundle = bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "ro"]);
    let output = bundle.run(&["mountinfo", "+", "mkdir", "/sys/fs/cgroup/x"]);
    let after = options();
    if !other {
        remount("");
    }
    assert!(before.iter().any(|option| option == "memory_recursiveprot"), "{before:?}");
    assert_eq!(after, before);
    let output = output.ok().has("mkdir /sys/fs/cgroup/x", "EROFS");
    let found = mount_at(&mounts(&output.stdout), "/sys/fs/cgroup");
    assert!(["ro", "nosuid", "nodev", "noexec"].iter().all(|option| found.has(option)), "{found:?}");
}
