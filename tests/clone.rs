//! How init is cloned: with the runtime's memory or a copy of it, and with a network namespace that a thread creates.

use crate::support::process::without_call;
use crate::support::runtime::Call;
use crate::support::user::{Caller, refused};
use crate::support::world::has_controller;
use crate::support::{Bundle, json, not_here, peer_differs, until};
use std::process::Command;

/// strace's output for the given system calls of a run; each line begins with the thread id.
fn calls_of(bundle: &Bundle, trace: &[&str]) -> String {
    let log = bundle.path("trace");
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o"]).arg(&log).args(trace);
    command.arg(&bundle.binary).arg("--root").arg(bundle.state_root()).current_dir(&bundle.dir);
    bundle.verb(&["--version"]).ok();
    Call::new(command, &bundle.path("strace")).args(["run", &bundle.id]).finish().ok();
    std::fs::read_to_string(&log).unwrap()
}

/// The index of the line of init's clone3. The helper thread's has `CLONE_THREAD`, and "resumed" lines do not count.
fn clone_call(calls: &str) -> usize {
    let found = calls.lines().position(|line| line.contains("clone3(") && !line.contains("CLONE_THREAD"));
    found.unwrap_or_else(|| panic!("no clone3 in {calls}"))
}

const CALLS: [&str; 2] = ["-e", "trace=clone3,prctl,setns,unshare,mount,execve,execveat,getpid"];

#[test]
fn init_shares_memory_only_in_a_new_pid_namespace_and_undumpable() {
    if peer_differs(&["runc", "crun"], "makes copies") {
        return;
    }
    let tight = json!({"memory": {"limit": 8_388_608}});
    let table: [(&str, Bundle, bool); 4] = [
        ("plain", Bundle::new("shared"), true),
        // processes of the host's pid namespace could trace it once it has given up its privileges
        ("the host's pid namespace", Bundle::new("host-pid").without_namespace("pid"), false),
        ("a user namespace", Bundle::new("mapped").user_namespace(), false),
        // the OOM killer kills every process that shares the memory of its victim
        ("a small limit", Bundle::new("tight").set("/linux/resources", tight), false),
    ];
    for (what, bundle, shares) in table {
        if what == "a small limit" && !has_controller("memory") && not_here("there is no memory controller") {
            continue;
        }
        let calls = calls_of(&bundle.sees(&["true"]), &CALLS);
        let clone = clone_call(&calls);
        let line = calls.lines().nth(clone).unwrap();
        assert_eq!(line.contains("CLONE_VM"), shares, "{what}: {line}");
        // if the process cannot be moved to a read-only mount, a sealed copy was executed before
        let copied = calls.lines().take(clone).any(|line| line.contains("execveat("));
        let moved = calls.lines().any(|line| line.contains("PR_SET_MM_MAP_SIZE") && line.ends_with(" = 0")) && !copied;
        let sealed = calls.lines().take(clone).any(|line| line.contains("PR_SET_MM_MAP,"));
        assert_eq!(sealed, moved && !shares, "{what}: a copy is born sealed");
        if shares {
            let closed = calls.lines().take(clone).any(|line| line.contains("PR_SET_DUMPABLE, SUID_DUMP_DISABLE"));
            assert!(closed, "{what}: {calls}");
            let payload = calls.rfind("execve(").unwrap();
            let sealed = calls[..payload].contains("PR_SET_MM_MAP,");
            assert_eq!(sealed, moved, "{what}: sealed before the payload runs: {calls}");
        }
    }
}

#[test]
fn the_network_namespace_is_created_by_a_parallel_thread() {
    if peer_differs(&["runc", "crun"], "makes it with the others") {
        return;
    }
    for (what, bundle) in [
        ("shared", Bundle::new("ahead")),
        ("copied", Bundle::new("ahead-copied").set("/linux/resources", json!({"memory": {"limit": 8_388_608}}))),
    ] {
        if what == "copied" && !has_controller("memory") && not_here("there is no memory controller") {
            continue;
        }
        let bundle = bundle.sees(&["ns", "+", "cat", "/sys/class/net/lo/operstate"]);
        let calls = calls_of(&bundle, &CALLS);
        let (clone, lines) = (clone_call(&calls), calls.lines().collect::<Vec<_>>());
        assert!(!lines[clone].contains("CLONE_NEWNET"), "{what}: {}", lines[clone]);
        let made = lines.iter().find(|line| line.contains("unshare(CLONE_NEWNET")).unwrap();
        let joined = lines.iter().position(|line| line.contains("CLONE_NEWNET") && line.contains("setns"));
        let joined = joined.unwrap_or_else(|| panic!("{what}: {calls}"));
        let shown = lines.iter().position(|line| line.contains("\"sysfs\"")).unwrap();
        assert!(clone < joined && joined < shown, "{what}: {calls}");
        // created by a thread of the runtime, not by init
        let thread = |line: &str| line.split_whitespace().next().map(str::to_owned);
        assert_ne!(thread(made), thread(lines[clone]), "{what}");
        assert_ne!(thread(made), thread(lines[joined]), "{what}");
    }
    let own = crate::support::kernel::namespace("self", "net");
    let output = Bundle::new("ahead-seen").run(&["ns", "+", "cat", "/sys/class/net/lo/operstate"]).ok();
    assert!(output.get("ns.net").is_some_and(|theirs| theirs != own), "{output}");
    // sysfs shows the devices of the new namespace; operstate of lo is "unknown"
    assert!(output.stdout.lines().any(|line| line == "unknown"), "{output}");
}

#[test]
fn a_network_namespace_that_cannot_be_created_is_reported() {
    if refused() || peer_differs(&["runc", "crun"], "names the whole clone") {
        return;
    }
    // in a user namespace of the caller's, so that its limit affects no other process
    let none = "unshare -Urmpf --mount-proc sh -c 'echo 0 > /proc/sys/user/max_net_namespaces && exec \"$@\"' sh";
    let caller = Caller { through: none, ..Caller::default() };
    let bundle = Bundle::users("no-network").namespace("network", None).called_by(&caller).sees(&["true"]);
    // the error is the same whether the thread fails before or after the clone
    for _ in 0..10 {
        let output = bundle.run_as_is().fails(1, "unshare(network): no space left on device");
        assert!(output.stderr.contains("a limit of /proc/sys/user"), "{output}");
        bundle.nothing_left();
    }
}

#[test]
fn oom_score_adj_of_init_does_not_affect_the_runtime() {
    let bundle = Bundle::new("own-score").set("/process/oomScoreAdj", 300).sees(&["pause"]);
    let run = bundle.launch("run", &[]).start();
    until("the container", || (bundle.verb(&["state", &bundle.id]).code == 0).then_some(()));
    bundle.wait_for("running");
    let score = |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap();
    assert_eq!(score(bundle.pid()), "300\n");
    // the kernel kept both scores equal while they shared memory
    let own = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap();
    let runtime = run.pid;
    until("the runtime's own score", || (score(runtime) == own).then_some(()));
    bundle.kill("KILL").ok();
    run.finish().code(137);
    bundle.nothing_left();
}

#[test]
fn without_open_tree_attr_two_calls_are_used() {
    const OPEN_TREE_ATTR: i64 = 467;
    let paths = json!(["/proc/sys", "/proc/bus"]);
    let bundle = Bundle::new("two-calls").set("/linux/readonlyPaths", paths).sees(&["cat", "/proc/self/mountinfo"]);
    let run =
        |errno| bundle.launch("run", &[]).with(|command| without_call(command, OPEN_TREE_ATTR, errno)).finish().ok();
    // ENOSYS from an old kernel, EPERM from a sandbox
    for errno in [libc::ENOSYS, libc::EPERM] {
        let mounts = crate::support::kernel::mounts(&run(errno).stdout);
        for path in ["/proc/sys", "/proc/bus"] {
            assert!(crate::support::kernel::mount_at(&mounts, path).has("ro"), "{path}");
        }
    }
}
