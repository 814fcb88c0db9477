//! What could make a start spin, hang or take forever: filters that deny what the runtime needs, and long lists.

use crate::support::runtime::Call;
use crate::support::{Bundle, Value, json, peer_differs};
use std::fmt::Write;
use std::time::{Duration, Instant};

/// Asserts that a start with this profile ends soon, successfully or not, and leaves nothing.
fn ends(what: &str, profile: &Value, no_new_privs: bool) {
    let bundle = Bundle::new("filter").caps(&["CAP_SYS_ADMIN"]).set("/process/noNewPrivileges", no_new_privs);
    let bundle = bundle.set("/linux/seccomp", profile.clone()).sees(&["echo", "ran"]);
    let output = bundle.launch("run", &[]).start().finish_within(super::soon());
    // 1 is the runtime's own status; others are the payload's or 128 plus a signal
    let told = output.code != 1 || !output.stderr.is_empty();
    assert!(told, "{what}: {output}");
    bundle.runtime().args(["delete", "--force", &bundle.id]).start().finish_within(super::soon());
    bundle.nothing_left();
}

/// Move t32, case 27: a profile that denies `exit_group`, `execve`, `write` and the like: no process spins, no caller waits.
#[test]
fn a_filter_that_denies_what_init_needs_does_not_hang_the_start() {
    let calls: [&[&str]; 12] = [
        &["exit_group"],
        &["execve"],
        &["write"],
        &["read"],
        &["close"],
        &["prctl"],
        &["openat"],
        &["execve", "write"],
        &["execve", "exit_group"],
        &["execve", "exit_group", "exit"],
        &["execve", "write", "exit_group", "exit"],
        &["execve", "close", "sendmsg", "sendto", "write", "exit_group", "exit", "kill", "tgkill", "rt_sigreturn"],
    ];
    let hangs = peer_differs(&["runc", "crun"], "hangs, or says nothing");
    for no_new_privs in [true, false].into_iter().filter(|_| !hangs) {
        for names in calls {
            let rule = json!([{"names": names, "action": "SCMP_ACT_ERRNO"}]);
            let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rule});
            ends(&format!("no {names:?}, no_new_privs {no_new_privs}"), &profile, no_new_privs);
        }
    }
}

/// Move t32, case 27: a profile that denies everything, with an errno, kill or trap; and one that allows only `read`.
#[test]
fn a_filter_that_denies_everything_does_not_hang_the_start() {
    let hangs = peer_differs(&["runc", "crun"], "hangs, or says nothing");
    for no_new_privs in [true, false].into_iter().filter(|_| !hangs) {
        for action in ["SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP", "SCMP_ACT_TRACE"] {
            ends(action, &json!({"defaultAction": action}), no_new_privs);
        }
        let rule = json!([{"names": ["read"], "action": "SCMP_ACT_ALLOW"}]);
        let profile = json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": libc::ENOSYS, "syscalls": rule});
        ends("read alone", &profile, no_new_privs);
    }
}

/// Move t17: the time for an environment of 100,000 variables is linear, not quadratic.
#[test]
fn a_long_environment_costs_linear_time() {
    if peer_differs(&["runc<1.3", "crun"], "takes the square") {
        return;
    }
    let variables = |count: usize| {
        let mut all = vec!["PATH=/".to_owned()];
        all.extend((0..count).map(|n| format!("V{n}=x")));
        let bundle = Bundle::new("env").set("/process/env", json!(all)).sees(&["exit", "7"]);
        let begun = Instant::now();
        bundle.launch("run", &[]).start().finish_within(4 * super::soon()).code(7);
        begun.elapsed()
    };
    let (some, many) = (variables(10_000), variables(100_000));
    // linear time grows tenfold, quadratic a hundredfold
    assert!(many < (some * 30).max(crate::support::limit(5)), "10,000 variables took {some:?}, 100,000 {many:?}");
}

/// The JSON pointer of a list, its length, and its entries.
type Growing<'a> = (&'a str, usize, &'a dyn Fn(usize) -> Value);

/// Move t29: long lists of seccomp rules, devices, device rules, mounts, namespaces, masked paths and hooks are planned in
/// linear time. Only the plan is timed: that is what the runtime computes itself.
#[test]
fn long_lists_are_planned_in_linear_time() {
    if peer_differs(&["runc", "crun"], "has no plan") {
        return;
    }
    let list = |count: usize, make: &dyn Fn(usize) -> Value| (0..count).map(make).collect::<Vec<Value>>();
    let rule = |n: usize| json!({"names": ["read", "write", "open", "close"], "action": "SCMP_ACT_ALLOW", "args": [{"index": n % 6, "value": n, "op": "SCMP_CMP_EQ"}]});
    let growing: [Growing<'_>; 9] = [
        ("/linux/seccomp/syscalls", 3_000, &rule),
        ("/linux/devices", 10_000, &|n| json!({"path": format!("/dev/x{n}"), "type": "c", "major": 1, "minor": 3})),
        (
            "/linux/resources/devices",
            5_000,
            &|n| json!({"allow": n % 2 == 0, "type": "c", "major": n % 300, "minor": n, "access": "rwm"}),
        ),
        (
            "/mounts",
            10_000,
            &|n| json!({"destination": format!("/m/{n}"), "type": "bind", "source": "/tmp", "options": ["bind"]}),
        ),
        ("/mounts", 10_000, &|n| json!({"destination": format!("/dev/{n}"), "type": "tmpfs", "source": "t"})),
        ("/linux/maskedPaths", 10_000, &|n| json!(format!("/sys/{n}"))),
        ("/linux/readonlyPaths", 10_000, &|n| json!(format!("/proc/{n}"))),
        ("/hooks/prestart", 20_000, &|_| json!({"path": "/bin/true"})),
        ("/process/env", 50_000, &|n| json!(format!("V{n}=x"))),
    ];
    let mut slow = String::new();
    for (pointer, count, make) in growing {
        let planned = |count: usize| {
            let bundle = Bundle::new("long").set("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ERRNO"}));
            let bundle = bundle.set(pointer, list(count, make));
            bundle.verb(&["--version"]).ok();
            let call = Call::new(bundle.command(), &bundle.path("said")).arg("plan").arg(&bundle.dir);
            let begun = Instant::now();
            let output = call.start().finish_within(4 * super::soon());
            assert!(output.code == 0 || !output.stderr.is_empty(), "{pointer}: {output}");
            begun.elapsed()
        };
        let (some, many) = (planned(count / 5), planned(count));
        // linear time grows fivefold, quadratic 25-fold; short times are noise
        if many > (some * 12).max(Duration::from_millis(1500)) {
            writeln!(slow, "{pointer}: {} took {some:?}, {count} took {many:?}", count / 5).unwrap();
        }
    }
    assert!(slow.is_empty(), "{slow}");
}
