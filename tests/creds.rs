//! Attributes of the payload's process: user, groups, capabilities, rlimits, scheduling, keyring, signals.

use crate::support::process::{self, with_nice};
use crate::support::runtime::Call;
use crate::support::{Bundle, Output, json, peer_differs};

fn bits(names: &[u32]) -> String {
    format!("{:016x}", names.iter().fold(0u64, |set, bit| set | 1 << bit))
}

const CHOWN: u32 = 0;
const KILL: u32 = 5;
const NET_RAW: u32 = 13;

#[test]
fn the_five_capability_sets_are_as_configured() {
    let bundle = Bundle::new("caps").set(
        "/process/capabilities",
        json!({
            "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"],
            "permitted": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"],
            "effective": ["CAP_CHOWN", "CAP_KILL"],
            "inheritable": ["CAP_KILL"],
            "ambient": ["CAP_KILL"]
        }),
    );
    // execve recomputes the sets of root from the bounding set, so another user shows what the runtime has set
    let output = bundle.set("/process/user", json!({"uid": 1000, "gid": 1000})).run(&["id"]).ok();
    let output = output.has("CapBnd", &bits(&[CHOWN, KILL, NET_RAW])).has("CapInh", &bits(&[KILL]));
    output.has("CapAmb", &bits(&[KILL])).has("CapEff", &bits(&[KILL])).has("CapPrm", &bits(&[KILL]));
}

#[test]
fn root_has_what_the_bounding_set_leaves() {
    let output = Bundle::new("root-caps").caps(&["CAP_CHOWN", "CAP_KILL"]).run(&["id"]).ok();
    let output = output.has("CapBnd", &bits(&[CHOWN, KILL])).has("CapEff", &bits(&[CHOWN, KILL]));
    output.has("CapPrm", &bits(&[CHOWN, KILL])).has("CapInh", &bits(&[])).has("CapAmb", &bits(&[]));
}

#[test]
fn a_user_without_ambient_capabilities_has_none() {
    let bundle = Bundle::new("user-caps").set("/process/user", json!({"uid": 1000, "gid": 1000}));
    bundle
        .caps(&["CAP_CHOWN"])
        .run(&["id"])
        .ok()
        .has("CapEff", &bits(&[]))
        .has("CapPrm", &bits(&[]))
        .has("CapBnd", &bits(&[CHOWN]));
}

#[test]
fn no_capabilities_means_none() {
    for value in [json!({}), json!(null)] {
        let bundle = Bundle::new("no-caps").set("/process/capabilities", value.clone());
        let bundle = if value.is_null() { bundle.without("/process/capabilities") } else { bundle };
        if value.is_null() && peer_differs(&["runc"], "1.2 and newer leave the caller's capabilities") {
            continue;
        }
        let mut output = bundle.run(&["id"]).ok();
        for set in ["CapBnd", "CapEff", "CapPrm", "CapInh", "CapAmb"] {
            output = output.has(set, &bits(&[]));
        }
    }
}

#[test]
fn an_unknown_capability_is_a_warning() {
    if peer_differs(&["crun"], "says nothing") {
        return;
    }
    let output = Bundle::new("bogus-cap").caps(&["CAP_CHOWN", "CAP_BOGUS"]).run(&["id"]).ok();
    assert!(output.stderr.contains("CAP_BOGUS") && output.stderr.contains("warn"), "{output}");
    output.has("CapBnd", &bits(&[CHOWN]));
}

#[test]
fn no_new_privileges_is_as_configured() {
    Bundle::new("nnp").set("/process/noNewPrivileges", true).run(&["id"]).ok().has("NoNewPrivs", "1");
    Bundle::new("nnp").set("/process/noNewPrivileges", false).run(&["id"]).ok().has("NoNewPrivs", "0");
    Bundle::new("nnp").without("/process/noNewPrivileges").run(&["id"]).ok().has("NoNewPrivs", "0");
}

#[test]
fn user_and_groups_are_as_configured() {
    let user = json!({"uid": 1000, "gid": 1001, "additionalGids": [5, 1002, 65533]});
    let output = Bundle::new("user").set("/process/user", user).run(&["id"]).ok();
    let output = output.has("Uid", "1000\t1000\t1000\t1000").has("Gid", "1001\t1001\t1001\t1001");
    output.has("Groups", "5 1002 65533");
    // the caller's groups are not inherited
    Bundle::new("no-groups").run(&["id"]).ok().has("Groups", "");
}

#[test]
fn the_umask_is_022_or_as_configured() {
    Bundle::new("umask").run(&["umask"]).ok().has("umask", "0022");
    Bundle::new("umask").set("/process/user/umask", 0o77).run(&["umask"]).ok().has("umask", "0077");
    Bundle::new("umask").set("/process/user/umask", 0).run(&["umask"]).ok().has("umask", "0000");
}

#[test]
fn rlimits_are_as_configured() {
    let limits = json!([
        {"type": "RLIMIT_NOFILE", "soft": 512, "hard": 1024},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
        {"type": "RLIMIT_NPROC", "soft": 100, "hard": 200},
        {"type": "RLIMIT_FSIZE", "soft": 1_048_576, "hard": 2_097_152},
        {"type": "RLIMIT_STACK", "soft": 4_194_304, "hard": 8_388_608},
        {"type": "RLIMIT_NICE", "soft": 0, "hard": 0}
    ]);
    let output = Bundle::new("limits").set("/process/rlimits", limits).run(&["rlimits"]).ok();
    let output = output.has("RLIMIT_NOFILE", "512 1024").has("RLIMIT_CORE", "0 0").has("RLIMIT_NPROC", "100 200");
    let output = output.has("RLIMIT_FSIZE", "1048576 2097152").has("RLIMIT_STACK", "4194304 8388608");
    output.has("RLIMIT_NICE", "0 0");
}

#[test]
fn an_unset_rlimit_is_the_callers() {
    let (soft, hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
    let output = Bundle::new("callers-limit").without("/process/rlimits").run(&["rlimits"]).ok();
    assert_eq!(output.get("RLIMIT_NOFILE"), Some(format!("{soft} {hard}").as_str()), "{output}");
}

#[test]
fn an_invalid_rlimit_is_refused() {
    let bundle =
        Bundle::new("bogus-limit").set("/process/rlimits", json!([{"type": "RLIMIT_BOGUS", "soft": 1, "hard": 1}]));
    bundle.run_as_is().fails(1, "RLIMIT_BOGUS");
    bundle.nothing_left();
    let above = json!([{"type": "RLIMIT_CORE", "soft": 2, "hard": 1}]);
    assert_ne!(Bundle::new("above").set("/process/rlimits", above).run_as_is().code, 0, "soft above hard");
    let twice = json!([{"type": "RLIMIT_CORE", "soft": 1, "hard": 1}, {"type": "RLIMIT_CORE", "soft": 1, "hard": 1}]);
    if !peer_differs(&["runc", "crun"], "sets a limit that stands twice, twice; the spec wants an error") {
        Bundle::new("twice").set("/process/rlimits", twice).run_as_is().fails(1, "RLIMIT_CORE");
    }
}

#[test]
fn oom_score_adj_is_as_configured() {
    Bundle::new("oom").set("/process/oomScoreAdj", 500).run(&["sched"]).ok().has("oom_score_adj", "500");
    let own = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap();
    Bundle::new("oom").run(&["sched"]).ok().has("oom_score_adj", own.trim());
    // lowering it needs a capability that the tests may lack: then it must be an error
    let lower = Bundle::new("oom-lower").set("/process/oomScoreAdj", -900).run(&["sched"]);
    if lower.code == 0 {
        lower.has("oom_score_adj", "-900");
    } else {
        assert!(lower.stderr.contains("oom_score_adj"), "{lower}");
    }
    let bundle = Bundle::new("oom-range").set("/process/oomScoreAdj", 1001);
    assert_ne!(bundle.run_as_is().code, 0);
}

#[test]
fn the_scheduler_is_as_configured() {
    if peer_differs(&["runc<1.2"], "knows no scheduler") {
        return;
    }
    let see = |value| Bundle::new("scheduler").set("/process/scheduler", value).run(&["sched"]).ok();
    see(json!({"policy": "SCHED_BATCH", "nice": 5})).has("sched.policy", "3").has("sched.nice", "5");
    see(json!({"policy": "SCHED_OTHER", "nice": 7})).has("sched.policy", "0").has("sched.nice", "7");
    see(json!({"policy": "SCHED_IDLE"})).has("sched.policy", "5");
    let flags = json!({"policy": "SCHED_OTHER", "nice": 3, "flags": ["SCHED_FLAG_RESET_ON_FORK"]});
    see(flags).has("sched.flags", "1").has("sched.nice", "3");
    // unset values are 0, not the caller's
    let from_nice = |bundle: &Bundle| bundle.launch("run", &[]).with(|command| with_nice(command, 5)).finish().ok();
    for policy in ["SCHED_OTHER", "SCHED_BATCH"] {
        let bundle = Bundle::new("scheduler").set("/process/scheduler", json!({"policy": policy})).sees(&["sched"]);
        from_nice(&bundle).has("sched.nice", "0").has("sched.priority", "0").has("sched.flags", "0");
    }
    from_nice(&Bundle::new("no-scheduler").sees(&["sched"])).has("sched.nice", "5");
}

#[test]
fn real_time_scheduling_is_as_configured_or_an_error() {
    if peer_differs(&["runc<1.2"], "knows no scheduler") {
        return;
    }
    // a v1 cpu cgroup without a real-time budget refuses it: then the error must name the call
    let output =
        Bundle::new("fifo").set("/process/scheduler", json!({"policy": "SCHED_FIFO", "priority": 10})).run(&["sched"]);
    if output.code == 0 {
        output.has("sched.policy", "1").has("sched.priority", "10");
    } else {
        assert!(output.stderr.to_lowercase().contains("sched"), "{output}");
    }
}

#[test]
fn an_unknown_scheduler_is_refused() {
    if !peer_differs(&["runc<1.2"], "knows no scheduler") {
        let bundle = Bundle::new("bogus-scheduler").set("/process/scheduler", json!({"policy": "SCHED_BOGUS"}));
        bundle.run_as_is().fails(1, "SCHED_BOGUS");
    }
}

#[test]
fn the_io_priority_is_as_configured() {
    if peer_differs(&["runc<1.2"], "knows no ioPriority") {
        return;
    }
    for (class, number) in [("IOPRIO_CLASS_BE", "2"), ("IOPRIO_CLASS_RT", "1")] {
        let value = json!({"class": class, "priority": 6});
        let output = Bundle::new("io").set("/process/ioPriority", value).run(&["sched"]).ok();
        output.has("io.class", number).has("io.priority", "6");
    }
    let idle = json!({"class": "IOPRIO_CLASS_IDLE", "priority": 0});
    Bundle::new("io").set("/process/ioPriority", idle).run(&["sched"]).ok().has("io.class", "3");
    if peer_differs(&["crun"], "hands the kernel what there is of it") {
        return;
    }
    for level in [-1, 8] {
        let value = json!({"class": "IOPRIO_CLASS_BE", "priority": level});
        Bundle::new("io-level").set("/process/ioPriority", value).run_as_is().fails(1, "ioPriority.Priority");
    }
    for (value, words) in [
        (json!({"class": "IOPRIO_CLASS_NONE", "priority": 0}), "IOPRIO_CLASS_NONE"),
        (json!({"priority": 0}), "invalid ioPriority.Class"),
    ] {
        Bundle::new("io-class").set("/process/ioPriority", value).run_as_is().fails(1, words);
    }
}

#[test]
fn the_personality_is_as_configured() {
    if peer_differs(&["runc<1.2"], "knows no personality") {
        return;
    }
    let value = json!({"domain": "LINUX32"});
    let bundle = Bundle::new("linux32").set("/linux/personality", value);
    // User Mode Linux stores the personality, but uname does not change
    let told = Call::new(std::process::Command::new("setarch"), &bundle.path("host"))
        .args(["linux32", "uname", "-m"])
        .finish()
        .ok();
    let output = bundle.run(&["sched", "+", "uname"]).ok().has("personality", "0x8");
    output.has("machine", told.stdout.trim());
    let value = json!({"domain": "LINUX"});
    Bundle::new("linux").set("/linux/personality", value).run(&["sched"]).ok().has("personality", "0x0");
    let value = json!({"domain": "BOGUS"});
    assert_ne!(Bundle::new("bogus").set("/linux/personality", value).run_as_is().code, 0);
}

fn keyring(output: &Output) -> String {
    output.get("keyring").unwrap_or_else(|| panic!("no keyring in {output}")).to_owned()
}

#[test]
fn the_container_has_a_session_keyring_of_its_own() {
    let bundle = Bundle::new("keyring");
    let name = format!("_ses.{}", bundle.id);
    let seen = keyring(&bundle.run(&["keyring"]).ok());
    if !peer_differs(&["crun"], "calls it by the bare id") {
        assert!(seen.ends_with(&name), "{seen} is not {name}");
    }
}

#[test]
fn no_new_keyring_keeps_the_callers_session_keyring() {
    let bundle = Bundle::new("callers-keyring").sees(&["keyring"]);
    let name = format!("_ses.{}", bundle.id);
    let seen = keyring(&bundle.launch("run", &["--no-new-keyring"]).finish().ok());
    assert!(!seen.ends_with(&name), "{seen}");
}

/// Whatever the caller ignores or blocks (conmon ignores SIGPIPE, nohup SIGHUP), a payload, a process of `exec` and a hook
/// start with every signal at its default action and unblocked.
#[test]
fn signals_start_with_default_dispositions_and_unblocked() {
    if peer_differs(&["runc"], "hands on what its caller ignores") {
        return;
    }
    let judge = |text: &str| {
        let of = |key: &str| {
            let line =
                text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_else(|| panic!("no {key} in {text}"));
            u64::from_str_radix(line.trim_start_matches(':').trim(), 16).unwrap()
        };
        // Rust's startup code in the payload ignores SIGPIPE, and glibc's posix_spawn leaves its two private signals ignored
        let known = (1 << (libc::SIGPIPE - 1)) | (1 << 31) | (1 << 32);
        assert_eq!((of("SigBlk"), of("SigIgn") & !known), (0, 0), "{text}");
    };
    let bundle = Bundle::new("signal-state").sees(&["id"]);
    let said = bundle.path("hook.said");
    let status =
        |verb: &[&str]| bundle.launch(verb[0], &verb[1..]).with(process::with_odd_signals).finish().ok().stdout;
    judge(&status(&["run"]));
    let running = Bundle::new("signal-exec").sees(&["pause"]);
    running.up();
    let call = running.runtime().args(["exec", &running.id, "/payload", "id"]).with(process::with_odd_signals);
    judge(&call.finish().ok().stdout);
    running.down();
    let hook =
        json!([{"path": "/bin/sh", "args": ["sh", "-c", format!("grep Sig /proc/self/status > {}", said.display())]}]);
    let hooked = Bundle::new("signal-hook").set("/hooks/createRuntime", hook).sees(&["true"]);
    hooked.launch("run", &[]).with(process::with_odd_signals).finish().ok();
    judge(&std::fs::read_to_string(&said).unwrap());
}

/// Kubernetes' `readOnlyRootFilesystem` with a `workingDir` that the image does not have.
#[test]
fn a_missing_cwd_is_created_before_the_root_becomes_read_only() {
    let bundle = Bundle::new("cwd-ro").set("/root/readonly", true).set("/process/cwd", "/made/for/it").sees(&["cwd"]);
    let output = bundle.run_as_is().ok();
    assert!(output.stdout.contains("/made/for/it"), "{output}");
}
