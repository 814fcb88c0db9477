//! Annotations of crun's family `run.oci.*`, each as crun documents it.

use crate::support::payload::INSIDE;
use crate::support::process::{groups, signal_through};
use crate::support::tty::Receiver;
use crate::support::world::{World, cgroup_dir, world};
use crate::support::{Bundle, Value, agent, json};
use std::os::unix::fs::MetadataExt;

fn with(name: &str, key: &str, value: &str) -> Bundle {
    Bundle::new(name).set("/annotations", json!({key: value}))
}

#[test]
fn the_callers_groups_stay() {
    const GROUPS: &[u32] = &[4242, 4343];
    for asked in [json!([]), json!([7])] {
        let bundle = with("groups", "run.oci.keep_original_groups", "1");
        let bundle = bundle.set("/process/user", json!({"uid": 0, "gid": 0, "additionalGids": asked})).sees(&["id"]);
        let output = bundle.launch("run", &[]).with(|command| groups(command, GROUPS)).finish().ok();
        assert_eq!(output.get("Groups"), Some("4242 4343"), "{output}");
    }
    let bundle = Bundle::new("own-groups").sees(&["id"]);
    let output = bundle.launch("run", &[]).with(|command| groups(command, GROUPS)).finish().ok();
    assert_eq!(output.get("Groups").unwrap_or_default(), "", "{output}");
}

#[test]
fn the_callers_groups_stay_in_a_user_namespace_and_for_exec() {
    let bundle = with("user-groups", "run.oci.keep_original_groups", "1").user_namespace().sees(&["pause"]);
    bundle.launch("run", &["--detach"]).with(|command| groups(command, &[100_042, 4242])).finish().ok();
    let exec = bundle.runtime().args(["exec", &bundle.id, INSIDE, "id"]);
    let output = exec.with(|command| groups(command, &[100_043])).finish().ok();
    assert_eq!(output.get("Groups"), Some("43"), "{output}");
    let status = std::fs::read_to_string(format!("/proc/{}/status", bundle.pid())).unwrap();
    assert!(status.contains("Groups:\t4242 100042"), "{status}");
    bundle.down();
}

/// A bundle with a hook of each kind that says its name.
fn talkative(name: &str) -> Bundle {
    let bundle = Bundle::new(name);
    let (out, err) = (bundle.host_file("out", "before\n"), bundle.path("err"));
    let bundle = bundle.set(
        "/annotations",
        json!({"run.oci.hooks.stdout": out.to_str().unwrap(), "run.oci.hooks.stderr": err.to_str().unwrap()}),
    );
    let bundle = ["prestart", "createRuntime", "poststart", "poststop"]
        .into_iter()
        .fold(bundle, |bundle, kind| bundle.hook(kind, &["echo", kind, "+", "complain", kind], &[]));
    let inside = INSIDE;
    let late =
        json!({"path": inside, "args": ["payload", "echo", "startContainer", "+", "complain", "startContainer"]});
    let early = format!("{}{inside}", bundle.rootfs().display());
    let early =
        json!({"path": early, "args": ["payload", "echo", "createContainer", "+", "complain", "createContainer"]});
    bundle.set("/hooks/createContainer", json!([early])).set("/hooks/startContainer", json!([late]))
}

#[test]
fn hooks_write_into_the_files_that_are_named() {
    let all = "prestart\ncreateRuntime\ncreateContainer\nstartContainer\npoststart\npoststop\n";
    for created in [false, true] {
        let bundle = talkative("hooks").sees(&["fds"]);
        if created {
            bundle.up();
            bundle.wait_for("stopped").delete().ok();
            assert!(!bundle.printed().contains("/out"), "{}", bundle.printed());
        } else {
            let output = bundle.run_as_is().ok();
            assert!(!output.stdout.contains("/out") && !output.stdout.contains("/err"), "{output}");
        }
        let read = |name: &str| std::fs::read_to_string(bundle.path(name)).unwrap();
        assert_eq!((read("out"), read("err")), (format!("before\n{all}"), all.to_owned()));
        assert_eq!(std::fs::metadata(bundle.path("err")).unwrap().mode() & 0o777, 0o600);
    }
}

#[test]
fn a_file_for_hooks_that_cannot_be_opened_is_an_error() {
    let bundle = with("hooks-nowhere", "run.oci.hooks.stdout", "/nosuchdirectory/file");
    let bundle = bundle.hook("createRuntime", &["true"], &[]);
    bundle.run_as_is().fails(1, "/nosuchdirectory/file");
    bundle.nothing_left();
    let bundle = with("hooks-relative", "run.oci.hooks.stderr", "file");
    bundle.run_as_is().fails(1, "must be an absolute path");
}

fn profile() -> Value {
    let rule = json!({"names": ["mkdir", "nosuchcall"], "action": "SCMP_ACT_ERRNO"});
    json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]})
}

#[test]
fn an_unknown_system_call_can_be_an_error() {
    Bundle::new("lax").set("/linux/seccomp", profile()).run(&["true"]).ok();
    let bundle = with("strict", "run.oci.seccomp_fail_unknown_syscall", "1").set("/linux/seccomp", profile());
    bundle.run_as_is().fails(1, "linux.seccomp.syscalls[0].names[1]: unknown system call");
    bundle.nothing_left();
}

#[test]
fn the_seccomp_listener_goes_to_the_receiver() {
    let bundle = Bundle::new("receiver");
    let path = bundle.path("agent.sock");
    let agent = agent::Agent::new(&path);
    let rule = json!({"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"});
    let bundle = bundle.set("/annotations", json!({"run.oci.seccomp.receiver": path.to_str().unwrap()}));
    let bundle = bundle.set("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}));
    let run = bundle.sees(&["mkdir", "/tmp/made"]);
    let call = run.launch("run", &[]).start();
    let listener = agent.take();
    assert_eq!(listener.state["state"]["id"], run.id.as_str());
    let notice = listener.next();
    listener.allow(notice);
    call.finish().ok().has("mkdir /tmp/made", "ok");
}

#[test]
fn the_pidfd_goes_to_the_receiver() {
    let bundle = Bundle::new("pidfd");
    let receiver = Receiver::new(&bundle.path("p.sock"));
    let bundle = bundle.set("/annotations", json!({"run.oci.pidfd_receiver": receiver.path.to_str().unwrap()}));
    let bundle = bundle.sees(&["pause"]);
    bundle.launch("run", &["--detach"]).finish().ok();
    let (pidfd, word) = receiver.take();
    assert_eq!(word, "standard");
    signal_through(&pidfd, libc::SIGKILL);
    bundle.wait_for("stopped").delete().ok();
}

#[test]
fn the_option_of_labels_is_chosen() {
    for (kind, expected) in [(None, "context"), (Some("rootcontext"), "rootcontext")] {
        let bundle =
            kind.map_or_else(|| Bundle::new("context"), |kind| with("context", "run.oci.mount_context_type", kind));
        let bundle = bundle.set("/linux/mountLabel", "system_u:object_r:qm_file_t:s0");
        let plan = bundle.runtime().args(["plan"]).args([&bundle.dir]).finish().ok().stdout;
        let option = format!(",{expected}=\\\"system_u:object_r:qm_file_t:s0\\\"");
        assert!(plan.contains(&option), "{expected}: {plan}");
    }
    let bundle = with("context-odd", "run.oci.mount_context_type", "label");
    bundle.run_as_is().fails(1, "is not context, fscontext, defcontext or rootcontext");
}

#[test]
fn an_offset_of_a_clock_is_set() {
    let bundle = with("timens", "run.oci.timens_offset", "boottime 86400 5").namespace("time", None);
    let bundle = bundle.set("/linux/timeOffsets", json!({"monotonic": {"secs": 7200}, "boottime": {"secs": 1}}));
    let output = bundle.run(&["cat", "/proc/self/timens_offsets"]).ok();
    let lines: Vec<Vec<&str>> = output.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines, [["monotonic", "7200", "0"], ["boottime", "86400", "5"]]);
    with("timens-none", "run.oci.timens_offset", "boottime 86400 5").run(&["true"]).ok();
    let bundle = with("timens-odd", "run.oci.timens_offset", "tomorrow").namespace("time", None);
    bundle.run_as_is().fails(1, "is not CLOCK SECONDS NANOSECONDS");
}

#[test]
fn the_process_is_moved_below_the_root_of_its_cgroup_namespace() {
    if world() == World::V1 {
        let bundle = with("delegate", "run.oci.delegate-cgroup", "payload");
        bundle.run_as_is().fails(1, "needs cgroup v2");
        bundle.nothing_left();
        return;
    }
    for user in [false, true] {
        let bundle = with("delegate", "run.oci.delegate-cgroup", "all/payload").namespace("cgroup", None);
        let bundle = bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["rw"]);
        let bundle = if user { bundle.user_namespace() } else { bundle };
        let bundle = bundle.sees(&["cgroup", "+", "pause"]);
        bundle.up();
        bundle.hears("0::/all/payload\n");
        let top = cgroup_dir("", &bundle.cgroup());
        assert_eq!(std::fs::read_to_string(top.join("cgroup.procs")).unwrap(), "");
        let owner = std::fs::metadata(top.join("all/payload/cgroup.procs")).unwrap().uid();
        assert_eq!(owner, if user { 100_000 } else { 0 });
        let exec = bundle.verb(&["exec", &bundle.id, INSIDE, "cgroup"]).ok();
        assert!(exec.stdout.contains("0::/all/payload\n"), "{exec}");
        bundle.verb(&["pause", &bundle.id]).ok();
        assert_eq!(bundle.status(), "paused");
        bundle.verb(&["resume", &bundle.id]).ok();
        bundle.down();
        bundle.nothing_left();
    }
}

#[test]
fn a_cgroup_outside_of_the_containers_is_refused() {
    for (key, value) in [("run.oci.delegate-cgroup", "../up"), ("run.oci.systemd.subgroup", "/top")] {
        let bundle = with("outside", key, value);
        bundle.run_as_is().fails(1, "must be a path below the container's cgroup");
        bundle.nothing_left();
    }
}

#[test]
fn others_of_the_family_warn() {
    let bundle = Bundle::new("others").set("/annotations", json!({"run.oci.handler": "wasm", "org.example": "x"}));
    let output = bundle.run(&["true"]).ok();
    assert!(output.stderr.contains("annotation run.oci.handler is not supported and has no effect"), "{output}");
    assert!(!output.stderr.contains("org.example"), "{output}");
}

#[test]
fn features_list_them() {
    let document = Bundle::new("features").verb(&["features"]).ok().json();
    let annotations = &document["annotations"];
    let unsafe_ones = document["potentiallyUnsafeConfigAnnotations"].as_array().unwrap();
    for key in [
        "run.oci.delegate-cgroup",
        "run.oci.hooks.stderr",
        "run.oci.hooks.stdout",
        "run.oci.keep_original_groups",
        "run.oci.mount_context_type",
        "run.oci.pidfd_receiver",
        "run.oci.seccomp.receiver",
        "run.oci.seccomp_fail_unknown_syscall",
        "run.oci.systemd.subgroup",
        "run.oci.timens_offset",
    ] {
        assert_eq!(annotations[key], "true", "{key}: {annotations}");
    }
    assert!(unsafe_ones.contains(&Value::from("run.oci.")), "{unsafe_ones:?}");
}
