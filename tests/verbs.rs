//! The other verbs that engines call: ps, pause, resume, update, events, features, and the checkpoint probes.

use crate::support::runtime::Call;
use crate::support::world::{has_controller, home};
use crate::support::{Bundle, Output, Value, World, json, kernel, not_here, peer_differs, until, world};

fn waiting(bundle: Bundle) -> (Bundle, i32) {
    let bundle = bundle.sees(&["pause"]);
    let pid = bundle.up();
    (bundle, pid)
}

#[test]
fn ps_lists_host_pids() {
    let (bundle, _) = waiting(Bundle::new("ps"));
    let works = Call::new(std::process::Command::new("ps"), &bundle.path("host")).arg("-ef").finish().code == 0;
    if !works && not_here("the host's ps does not work under this kernel") {
        return bundle.down();
    }
    let child = bundle.path("exec.pid");
    bundle.verb(&["exec", "-d", "--pid-file", child.to_str().unwrap(), &bundle.id, "/payload", "pause"]).ok();
    let child: i64 = std::fs::read_to_string(child).unwrap().parse().unwrap();
    let output = bundle.verb(&["ps", "--format", "json", &bundle.id]).ok();
    let mut pids: Vec<i64> = output.json().as_array().unwrap().iter().filter_map(Value::as_i64).collect();
    let mut expected = vec![i64::from(bundle.pid()), child];
    pids.sort_unstable();
    expected.sort_unstable();
    assert_eq!(pids, expected);
    assert_eq!(output.stderr, "", "callers read both streams as one");
    let table = bundle.verb(&["ps", &bundle.id]).ok().stdout;
    assert!(table.lines().next().unwrap().contains("PID") && table.lines().count() == 3, "{table}");
    if !peer_differs(&["crun"], "takes no arguments for ps") {
        let table = bundle.verb(&["ps", "--format", "table", &bundle.id, "-o", "pid,comm"]).ok().stdout;
        assert!(table.contains("payload") && table.lines().count() == 3, "{table}");
    }
    bundle.down();
}

#[test]
fn ps_of_a_stopped_container_is_empty() {
    if peer_differs(&["crun"], "fails") {
        return;
    }
    let bundle = Bundle::new("ps-stopped").sees(&["true"]);
    let pid = bundle.up();
    bundle.exit_code(pid);
    bundle.wait_for("stopped");
    let output = bundle.verb(&["ps", "--format", "json", &bundle.id]).ok();
    assert!(["[]", "null"].contains(&output.stdout.trim()), "{output}");
    bundle.delete().ok();
}

#[test]
fn a_paused_container_does_not_run() {
    let bundle = Bundle::new("pause").sees(&["count", "/ticks"]);
    bundle.up();
    until("the first tick", || bundle.rootfs().join("ticks").exists().then_some(()));
    bundle.verb(&["pause", &bundle.id]).ok();
    assert_eq!(bundle.status(), "paused");
    let ticks = || std::fs::metadata(bundle.rootfs().join("ticks")).unwrap().len();
    let before = ticks();
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(ticks(), before, "it went on");
    bundle.verb(&["resume", &bundle.id]).ok();
    assert_eq!(bundle.status(), "running");
    until("it to go on", || (ticks() > before).then_some(()));
    bundle.down();
}

#[test]
fn verbs_that_need_a_running_container_refuse_a_paused_one() {
    if peer_differs(&["crun"], "resumes what runs") {
        return;
    }
    let (bundle, _) = waiting(Bundle::new("paused"));
    bundle.verb(&["resume", &bundle.id]).fails(1, "container not paused");
    bundle.verb(&["pause", &bundle.id]).ok();
    bundle.verb(&["pause", &bundle.id]).fails(1, "container not running");
    let phrase = "cannot exec in a paused container (use --ignore-paused to override)";
    let output = bundle.verb(&["exec", &bundle.id, "/payload", "true"]);
    assert!(output.code != 0 && output.stderr.contains(phrase), "{output}");
    bundle.verb(&["delete", &bundle.id]).fails(1, "that is not stopped: paused");
    bundle.verb(&["resume", &bundle.id]).ok();
    bundle.down();
    let bundle = Bundle::new("pause-stopped").sees(&["true"]);
    let pid = bundle.up();
    bundle.exit_code(pid);
    bundle.wait_for("stopped");
    bundle.verb(&["pause", &bundle.id]).fails(1, "container not running");
    bundle.delete().ok();
}

#[test]
fn exec_with_ignore_paused_waits_for_resume() {
    if peer_differs(&["crun"], "knows no --ignore-paused") {
        return;
    }
    let (bundle, _) = waiting(Bundle::new("ignore-paused"));
    bundle.verb(&["pause", &bundle.id]).ok();
    let exec = bundle.runtime().args(["exec", "--ignore-paused", &bundle.id, "/payload", "exit", "4"]).start();
    std::thread::sleep(std::time::Duration::from_millis(100));
    bundle.verb(&["resume", &bundle.id]).ok();
    exec.finish().code(4);
    bundle.down();
}

#[test]
fn a_paused_container_can_be_killed_and_deleted() {
    let (bundle, pid) = waiting(Bundle::new("kill-paused"));
    bundle.verb(&["pause", &bundle.id]).ok();
    bundle.kill("KILL").ok();
    if world() == World::V1 && peer_differs(&["runc<1.2"], "leaves it frozen") {
        bundle.verb(&["resume", &bundle.id]);
    }
    assert_eq!(bundle.exit_code(pid), 137);
    bundle.wait_for("stopped");
    bundle.delete().ok();
    let (bundle, _) = waiting(Bundle::new("force-paused"));
    bundle.verb(&["pause", &bundle.id]).ok();
    bundle.down();
    bundle.nothing_left();
}

/// A file of the container's cgroup on v1 or v2.
fn limit(bundle: &Bundle, controller: &str, v1: &str, v2: &str) -> String {
    bundle.cgroup_file(controller, if home(controller) == Some(World::V2) { v2 } else { v1 })
}

#[test]
fn update_changes_limits_by_flag() {
    if !["memory", "pids", "cpu"].iter().all(|c| has_controller(c))
        && not_here("there are no controllers to limit with")
    {
        return;
    }
    let (bundle, _) = waiting(Bundle::new("update").set("/linux/resources/memory", json!({"limit": 67_108_864})));
    let update = |flags: &[&str]| bundle.runtime().args(["update"]).args(flags).args([&bundle.id]).finish();
    update(&["--memory", "33554432"]).ok();
    assert_eq!(limit(&bundle, "memory", "memory.limit_in_bytes", "memory.max"), "33554432");
    update(&["--memory", "50M", "--memory-reservation", "10M"]).ok();
    assert_eq!(limit(&bundle, "memory", "memory.limit_in_bytes", "memory.max"), "52428800");
    assert_eq!(limit(&bundle, "memory", "memory.soft_limit_in_bytes", "memory.low"), "10485760");
    update(&["--pids-limit", "20"]).ok();
    assert_eq!(limit(&bundle, "pids", "pids.max", "pids.max"), "20");
    update(&["--cpu-quota", "30000", "--cpu-period", "60000"]).ok();
    let both = limit(&bundle, "cpu", "cpu.cfs_quota_us", "cpu.max");
    assert!(both == "30000" || both == "30000 60000", "{both}");
    update(&["--cpu-share", "200"]).ok();
    assert_eq!(limit(&bundle, "cpu", "cpu.shares", "cpu.weight"), if world() == World::V2 { "29" } else { "200" });
    // other limits are unchanged
    assert_eq!(limit(&bundle, "pids", "pids.max", "pids.max"), "20");
    bundle.down();
}

#[test]
fn update_changes_limits_by_document() {
    if !["memory", "pids"].iter().all(|c| has_controller(c)) && not_here("there are no controllers to limit with") {
        return;
    }
    let (bundle, _) = waiting(Bundle::new("update-document"));
    let resources = json!({"memory": {"limit": 41_943_040}, "pids": {"limit": 33}});
    let update = |resources: &str, stdin: &[u8]| {
        bundle.runtime().args(["update", "--resources", resources, &bundle.id]).stdin(stdin).finish()
    };
    update("-", resources.to_string().as_bytes()).ok();
    assert_eq!(limit(&bundle, "memory", "memory.limit_in_bytes", "memory.max"), "41943040");
    assert_eq!(limit(&bundle, "pids", "pids.max", "pids.max"), "33");
    let file = bundle.host_file("resources.json", &json!({"pids": {"limit": 44}}).to_string());
    update(file.to_str().unwrap(), b"").ok();
    assert_eq!(limit(&bundle, "pids", "pids.max", "pids.max"), "44");
    assert_ne!(update("/nosuch", b"").code, 0);
    assert_ne!(update("-", b"{").code, 0);
    bundle.down();
}

#[test]
fn update_leaves_devices_alone() {
    let bundle = Bundle::new("update-devices").caps(&["CAP_MKNOD", "CAP_SYSLOG"]);
    let (bundle, _) = waiting(bundle);
    let open = || -> Output {
        let words = ["rm", "/tmp/kmsg", "+", "mknod", "/tmp/kmsg", "c", "1", "11", "+", "open", "/tmp/kmsg", "r"];
        bundle
            .runtime()
            .args(["exec", &bundle.id, "/payload"])
            .args(words)
            .finish()
            .ok()
            .has("open /tmp/kmsg r", "EPERM")
    };
    open();
    if has_controller("pids") {
        bundle.verb(&["update", "--pids-limit", "50", &bundle.id]).ok();
    } else {
        bundle.runtime().args(["update", "--resources", "-", &bundle.id]).stdin(b"{}").finish();
    }
    open();
    bundle.down();
}

#[test]
fn events_report_resource_usage() {
    if peer_differs(&["crun"], "has no events") {
        return;
    }
    let (bundle, _) = waiting(Bundle::new("events"));
    let stats = bundle.verb(&["events", "--stats", &bundle.id]).ok().json();
    assert_eq!((stats["type"].as_str(), stats["id"].as_str()), (Some("stats"), Some(bundle.id.as_str())));
    if has_controller("pids") && has_controller("memory") {
        assert!(stats["data"]["pids"]["current"].as_u64().is_some_and(|n| n > 0), "{stats}");
        assert!(stats["data"]["memory"]["usage"]["usage"].as_u64().is_some_and(|bytes| bytes > 0), "{stats}");
        assert!(stats["data"]["memory"]["raw"].is_object(), "{stats}");
    }
    assert!(stats["data"]["cpu"]["usage"].is_object(), "{stats}");
    bundle.down();
}

#[test]
fn events_repeat_until_the_container_ends() {
    if peer_differs(&["crun"], "has no events") {
        return;
    }
    if !has_controller("memory") && peer_differs(&["runc"], "sends nothing where a controller is missing") {
        return;
    }
    let (bundle, _) = waiting(Bundle::new("events-stream"));
    let events = bundle.runtime().args(["events", "--interval", "100ms", &bundle.id]).start();
    until("three events", || (events.stdout().lines().count() >= 3).then_some(()));
    for line in events.stdout().lines().take(3) {
        let event: Value = serde_json::from_str(line).unwrap();
        assert_eq!(event["type"], "stats");
    }
    bundle.kill("KILL").ok();
    bundle.wait_for("stopped");
    let ended = crate::support::reaper::status_of(
        events.pid,
        std::time::Instant::now() - crate::support::patience(),
        crate::support::limit(10),
    );
    if ended.is_none() {
        events.kill(libc::SIGKILL);
        assert!(peer_differs(&["runc"], "waits on"), "events goes on after the end of the container");
    }
    bundle.delete().ok();
}

#[test]
fn events_report_oom_kills() {
    if peer_differs(&["crun"], "has no events")
        || (!has_controller("memory") && not_here("there is no memory controller"))
    {
        return;
    }
    let bundle = Bundle::new("events-oom").set("/linux/resources/memory", json!({"limit": 33_554_432}));
    let bundle = bundle.sees(&["wait-file", "/go", "+", "exec", "/payload", "hog", "100000000", "+", "pause"]);
    bundle.up();
    let events = bundle.runtime().args(["events", "--interval", "30s", &bundle.id]).start();
    std::thread::sleep(std::time::Duration::from_millis(500));
    std::fs::write(bundle.rootfs().join("go"), "").unwrap();
    until("an oom event", || events.stdout().lines().any(|line| line.contains("\"oom\"")).then_some(()));
    let event = events.stdout();
    let event: Value = serde_json::from_str(event.lines().find(|line| line.contains("\"oom\"")).unwrap()).unwrap();
    assert_eq!(event, json!({"type": "oom", "id": bundle.id}));
    events.kill(libc::SIGKILL);
    bundle.down();
}

#[test]
fn events_need_a_running_container() {
    if peer_differs(&["crun"], "has no events") {
        return;
    }
    let bundle = Bundle::new("events-stopped").sees(&["true"]);
    let pid = bundle.up();
    bundle.exit_code(pid);
    bundle.wait_for("stopped");
    bundle
        .verb(&["events", "--stats", &bundle.id])
        .fails(1, &format!("container with id {} is not running", bundle.id));
    bundle.delete().ok();
}

#[test]
fn features_contain_what_engines_read() {
    if peer_differs(&["runc<1.2"], "has fewer of them") {
        return;
    }
    let output = Bundle::new("features").verb(&["features"]).ok();
    assert_eq!(output.stderr, "");
    let features = output.json();
    let has = |list: &str, word: &str| {
        features.pointer(list).and_then(Value::as_array).is_some_and(|all| all.contains(&json!(word)))
    };
    assert_eq!(features["ociVersionMin"], "1.0.0");
    assert!(features["ociVersionMax"].as_str().is_some_and(|v| v.starts_with("1.")));
    for hook in ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"] {
        assert!(has("/hooks", hook), "{hook}");
    }
    for option in ["bind", "rbind", "ro", "rw", "rro", "rnosuid", "tmpcopyup", "private", "rslave"] {
        assert!(has("/mountOptions", option), "{option}");
    }
    for kind in ["pid", "network", "mount", "ipc", "uts", "user", "cgroup"] {
        assert!(has("/linux/namespaces", kind), "{kind}");
    }
    assert!(has("/linux/capabilities", "CAP_SYS_ADMIN") && has("/linux/capabilities", "CAP_CHECKPOINT_RESTORE"));
    for way in ["v1", "v2", "systemd", "systemdUser"] {
        assert_eq!(features["linux"]["cgroup"][way], true, "{way}");
    }
    assert_eq!(features["linux"]["seccomp"]["enabled"], true);
    for action in ["SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_LOG"] {
        assert!(has("/linux/seccomp/actions", action), "{action}");
    }
    let annotations = features["annotations"].as_object().cloned().unwrap_or_default();
    assert!(
        annotations.values().all(|value| value.as_str().is_some_and(|text| text == text.trim())),
        "{annotations:?}"
    );
}

#[test]
fn mount_options_listed_by_features_are_accepted() {
    if peer_differs(&["runc", "crun"], "some options need more than a tmpfs") {
        return;
    }
    let features = Bundle::new("features").verb(&["features"]).ok().json();
    let bind = ["bind", "rbind", "remount", "copy-symlink", "src-nofollow", "dest-nofollow"];
    for option in features["mountOptions"].as_array().unwrap().iter().filter_map(Value::as_str) {
        if bind.contains(&option) || option.contains("idmap") {
            continue;
        }
        Bundle::new(option).mount("/m", "tmpfs", "tmpfs", &[option]).run(&["true"]).ok();
    }
}

#[test]
fn checkpoint_probes_of_engines_are_answered() {
    let bundle = Bundle::new("probes");
    bundle.verb(&["checkpoint", "--help"]).ok();
    let output = bundle.verb(&["restore", "--lsm-mount-context"]);
    let said = output.stdout + &output.stderr;
    assert!(said.contains("flag needs an argument") || said.contains("requires an argument"), "{said}");
    assert!(kernel::cgroups_with(&bundle.id).is_empty());
}
