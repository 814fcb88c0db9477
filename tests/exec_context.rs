//! exec: the process is in the container's namespaces, cgroups, keyring and root, with the configured terminal,
//! descriptors, CPU affinity and rlimits.

use crate::exec::{exec, sees, up};
use crate::support::process::{bind, give, members, signal_through};
use crate::support::tty::{Receiver, Terminal};
use crate::support::{Bundle, Output, World, json, kernel, payload, peer_differs, until, world};

const NAMES: [&str; 8] = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];

/// Asserts that the process is in every namespace of the container's first process.
fn is_inside(bundle: &Bundle, output: &Output) {
    let init = bundle.pid();
    for name in NAMES {
        let own = output.get(&format!("ns.{name}")).unwrap_or_else(|| panic!("no ns.{name} in {output}"));
        assert_eq!(own, kernel::namespace(init, name), "{name}");
    }
}

#[test]
fn joins_all_namespaces_of_the_container() {
    type Change = fn(Bundle) -> Bundle;
    let all: [(&str, Change); 8] = [
        ("default", |b| b),
        ("user", Bundle::user_namespace),
        ("time", |b| b.namespace("time", None)),
        ("user-time", |b| b.user_namespace().namespace("time", None)),
        ("no-pid", |b| b.without_namespace("pid")),
        ("no-net", |b| b.without_namespace("network").without_mount("/sys")),
        ("user-no-pid", |b| b.user_namespace().without_namespace("pid").without_mount("/proc")),
        ("no-cgroup", |b| b.without_namespace("cgroup")),
    ];
    for (name, make) in all {
        if name.contains("time") && peer_differs(&["runc<1.2"], "has no time namespaces") {
            continue;
        }
        if name == "user-no-pid" && peer_differs(&["runc"], "needs a procfs, which can't be mounted here") {
            continue;
        }
        let bundle = up(make(Bundle::new(name)));
        if name == "user-no-pid" {
            // there is no procfs in the container, so look at the process from outside
            let run = exec(&bundle, &[], &["stdin", "+", "sleep", "100000"]).start();
            let own = until("the process", || members(&bundle.cgroup()).into_iter().find(|p| *p != bundle.pid()));
            until("its root", || {
                (kernel::namespace(own, "mnt") == kernel::namespace(bundle.pid(), "mnt")).then_some(())
            });
            NAMES.iter().for_each(|n| assert_eq!(kernel::namespace(own, n), kernel::namespace(bundle.pid(), n), "{n}"));
            bundle.down();
            drop(run);
            continue;
        }
        let output = sees(&bundle, &[], &["ns", "+", "id"]).ok().has("Uid", "0\t0\t0\t0");
        is_inside(&bundle, &output);
        bundle.down();
    }
}

#[test]
fn joins_namespaces_that_the_container_joined_by_path() {
    let first = up(Bundle::new("pod"));
    let pid = first.pid();
    for kinds in [&["network"][..], &["pid"], &["network", "ipc", "uts", "pid"]] {
        let mut bundle = Bundle::new("pod-member").without("/hostname");
        for kind in kinds {
            let name = if *kind == "network" { "net" } else { kind };
            bundle = bundle.namespace(kind, Some(&format!("/proc/{pid}/ns/{name}")));
        }
        let bundle = up(bundle);
        is_inside(&bundle, &sees(&bundle, &[], &["ns"]).ok());
        bundle.down();
    }
    first.down();
}

#[test]
fn joins_a_pod_with_a_user_namespace() {
    let first = up(Bundle::new("user-pod").user_namespace());
    let pid = first.pid();
    let mut bundle = Bundle::new("user-pod-member").user_namespace().without("/hostname");
    for (kind, name) in [("user", "user"), ("network", "net"), ("ipc", "ipc"), ("uts", "uts")] {
        bundle = bundle.namespace(kind, Some(&format!("/proc/{pid}/ns/{name}")));
    }
    let bundle = up(bundle);
    is_inside(&bundle, &sees(&bundle, &[], &["ns"]).ok());
    bundle.down();
    first.down();
}

#[test]
fn sees_the_containers_files_and_processes() {
    let bundle = up(Bundle::new("files").file("/mark", "here\n"));
    sees(&bundle, &[], &["cat", "/mark"]).ok().says("here");
    let output = sees(&bundle, &[], &["ls", "/proc", "+", "uname"]).ok().has("hostname", "onggi-test");
    let processes = output.get("ls /proc").unwrap().split(' ').filter(|name| name.parse::<u32>().is_ok()).count();
    assert_eq!(processes, 2, "{output}");
    bundle.down();
}

#[test]
fn without_a_mount_namespace_the_root_is_the_containers() {
    if peer_differs(&["runc", "crun"], "leaves the process in the host's root, or has no such containers") {
        return;
    }
    let bundle = Bundle::new("chroot").without_namespace("mount").without("/mounts").file("/mark", "here\n");
    let bundle = up(bundle.without("/linux/maskedPaths").without("/linux/readonlyPaths"));
    sees(&bundle, &[], &["cat", "/mark", "+", "ls", "/"]).ok().says("here");
    bundle.down();
}

#[test]
fn is_in_the_containers_cgroup() {
    let bundle = up(Bundle::new("cgroup"));
    let run = exec(&bundle, &[], &["trap"]).start();
    until("the process", || run.stdout().contains("ready").then_some(()));
    let init = bundle.pid();
    let other = members(&bundle.cgroup()).into_iter().find(|pid| *pid != init).expect("a second process");
    let cgroups = |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert_eq!(cgroups(other), cgroups(init));
    run.kill(libc::SIGTERM);
    run.finish().code(42);
    bundle.down();
}

#[test]
fn cgroup_flag_selects_a_sub_cgroup_only() {
    let bundle = up(Bundle::new("sub"));
    let sub = world::cgroup_dir("pids", &bundle.cgroup()).join("sub");
    std::fs::create_dir(&sub).unwrap();
    // a sibling with the container's cgroup name as a prefix
    let sibling = format!("{}x", bundle.cgroup());
    let beside = world::cgroup_dir("pids", &sibling);
    std::fs::create_dir(&beside).unwrap();
    let word = |path: &str| if world() == World::V2 { path.to_owned() } else { format!("pids:{path}") };
    let output = sees(&bundle, &["--cgroup", &word("sub")], &["cgroup"]).ok();
    let line = output.stdout.lines().find(|l| l.contains(if world() == World::V2 { "0::" } else { ":pids:" }));
    assert!(line.is_some_and(|line| line.ends_with("/sub")), "{output}");
    for outside in ["..", "../..", &format!("..{sibling}"), &format!("../{}", sibling.trim_start_matches('/'))] {
        if outside.ends_with('x') && peer_differs(&["runc", "crun"], "compares the text only") {
            continue;
        }
        let output = sees(&bundle, &["--cgroup", &word(outside)], &["true"]);
        output.fails(255, "is not a sub cgroup path");
    }
    assert_eq!(sees(&bundle, &["--cgroup", &word("missing")], &["true"]).code, 255);
    for (wrong, phrase) in [
        (&["--cgroup", ":x"][..], "empty <controller> prefix"),
        (&["--cgroup", "a,b:x", "--cgroup", "b:y"], "controller b specified multiple times"),
        (&["--cgroup", "x", "--cgroup", "y"], "missing <controller>: prefix"),
        (&["--cgroup", "bogus:x"], "unknown controller bogus"),
    ] {
        if phrase.contains("multiple") && peer_differs(&["runc<1.2"], "takes the last") {
            continue;
        }
        if phrase.contains("empty") && peer_differs(&["runc<1.2"], "takes it for a controller") {
            continue;
        }
        sees(&bundle, wrong, &["true"]).fails(255, phrase);
    }
    std::fs::remove_dir(sub).unwrap();
    std::fs::remove_dir(beside).unwrap();
    bundle.down();
}

#[test]
fn joins_the_sub_cgroup_that_the_payload_moved_to() {
    // Docker in Docker, systemd: init has moved to a sub-cgroup and enabled controllers there, so that the kernel refuses
    // processes in its old cgroup
    let top = std::path::Path::new(if world() == World::V2 { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/unified" });
    let controllers = std::fs::read_to_string(top.join("cgroup.controllers")).unwrap_or_default();
    let Some(controller) = controllers.split_whitespace().next() else {
        assert!(world() == World::V1 || !controllers.is_empty(), "cgroup2 without controllers");
        return;
    };
    if world() == World::V1 && peer_differs(&["runc"], "follows in the pure v2 world only") {
        return;
    }
    let bundle = up(Bundle::new("delegated"));
    let own = top.join(bundle.cgroup().trim_start_matches('/'));
    let below = own.join("init");
    std::fs::create_dir(&below).unwrap();
    std::fs::write(below.join("cgroup.procs"), bundle.pid().to_string()).unwrap();
    let parent = own.parent().unwrap();
    let _ = std::fs::write(parent.join("cgroup.subtree_control"), format!("+{controller}"));
    std::fs::write(own.join("cgroup.subtree_control"), format!("+{controller}")).unwrap();
    let output = sees(&bundle, &[], &["cgroup"]).ok();
    let line = output.stdout.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default();
    assert!(line.ends_with("/init"), "{output}");
    sees(&bundle, &["--cgroup", "."], &["true"]).fails(255, "cgroup.procs: device or resource busy");
    bundle.down();
}

#[test]
fn shares_the_containers_keyring() {
    let name = |output: &Output| output.get("keyring").unwrap_or_default().to_owned();
    let bundle = up(Bundle::new("keyring"));
    let first = name(&sees(&bundle, &[], &["keyring"]).ok());
    assert!(first.contains(&format!("_ses.{}", bundle.id)), "{first}");
    bundle.down();
    let bundle = Bundle::new("old-keyring").sees(&["pause"]);
    bundle.launch("create", &["--no-new-keyring"]).finish().ok();
    bundle.start().ok();
    let other = name(&sees(&bundle, &[], &["keyring"]).ok());
    assert!(!other.contains(&bundle.id), "{other}");
    bundle.down();
}

#[test]
fn in_the_foreground_the_terminal_is_relayed() {
    let bundle = up(Bundle::new("tty"));
    let (mut terminal, slave) = Terminal::open();
    terminal.resize(30, 90);
    let words = ["tty", "+", "wait-size", "30", "90", "+", "wait-size", "31", "91", "+", "exit", "5"];
    let run = exec(&bundle, &["--tty"], &words).stdio(&slave).start();
    drop(slave);
    let seen = terminal.wait_for("size: 30 90").to_owned();
    if !peer_differs(&["runc", "crun"], "gives the size after the start") {
        assert!(!seen.contains("size: 0 0"), "{seen}");
    }
    terminal.resize(31, 91);
    run.kill(libc::SIGWINCH);
    let seen = terminal.wait_for("size: 31 91").to_owned();
    run.finish().code(5);
    for line in ["isatty.0: true", "isatty.1: true", "isatty.2: true", "open /dev/tty: ok", "tty.0: /dev/pts/"] {
        assert!(seen.contains(line), "{line} in {seen}");
    }
    bundle.down();
}

#[test]
fn a_detached_terminal_goes_to_the_console_socket() {
    for user in ["0", "1000"] {
        let bundle = up(Bundle::new("console"));
        let receiver = Receiver::new(&bundle.path("c.sock"));
        let socket = receiver.path.to_str().unwrap().to_owned();
        let flags = ["--tty", "--detach", "--user", user, "--console-socket", &socket];
        let run = exec(&bundle, &flags, &["tty", "+", "stat", "/dev/pts/0"]).start();
        let (master, name) = receiver.take();
        run.finish().ok();
        let mut terminal = Terminal::of(master);
        let seen = terminal.rest();
        assert!(name.starts_with("/dev/pts/") || name.contains("ptmx"), "{name}");
        assert!(seen.contains("isatty.2: true") && seen.contains("open /dev/tty: ok"), "{seen}");
        assert!(seen.contains(&format!("/dev/pts/0.owner: {user}:5")), "{seen}");
        bundle.down();
    }
}

#[test]
fn keeps_only_preserved_descriptors() {
    use std::os::fd::AsRawFd;
    let bundle = up(Bundle::new("preserve"));
    let file = std::fs::File::open(bundle.host_file("given", "given")).unwrap();
    let fd = file.as_raw_fd();
    let with = |flags: &[&str]| exec(&bundle, flags, &["fds"]).with(|command| give(command, fd, &[3, 4, 5]));
    let count = |output: &Output| output.stdout.lines().filter(|line| line.starts_with("fd.")).count();
    let output = with(&[]).finish().ok();
    assert_eq!(count(&output), 3, "{output}");
    let output = with(&["--preserve-fds", "2"]).finish().ok();
    assert_eq!(count(&output), 5, "{output}");
    assert!(output.get("fd.4").unwrap().ends_with("/given"), "{output}");
    if !peer_differs(&["runc"], "refuses numbers that are not open") {
        let output = with(&["--preserve-fds", "5"]).finish().ok();
        assert_eq!(count(&output), 6, "{output}");
    }
    bundle.down();
}

#[test]
fn sends_a_pidfd() {
    if peer_differs(&["runc<1.2", "crun"], "has no --pidfd-socket") {
        return;
    }
    let bundle = up(Bundle::new("pidfd"));
    let receiver = Receiver::new(&bundle.path("p.sock"));
    let socket = receiver.path.to_str().unwrap().to_owned();
    let run = exec(&bundle, &["--pidfd-socket", &socket], &["trap"]).start();
    let (pidfd, word) = receiver.take();
    assert_eq!(word, "setns");
    until("the process", || run.stdout().contains("ready").then_some(()));
    signal_through(&pidfd, libc::SIGKILL);
    run.finish().code(137);
    bundle.down();
}

#[test]
fn cpu_affinity_is_as_configured() {
    if peer_differs(&["runc<1.3", "crun<1.20"], "has no execCPUAffinity") {
        return;
    }
    let bundle = up(Bundle::new("affinity"));
    let list = |process: serde_json::Value| {
        let mut document = json!({"cwd": "/", "args": [payload::INSIDE, "status"]});
        document["execCPUAffinity"] = process;
        let file = bundle.host_file("process.json", &document.to_string());
        let output = bundle.runtime().args(["exec", "--process"]).arg(file).arg(&bundle.id).finish().ok();
        output.get("Cpus_allowed_list").unwrap_or_default().to_owned()
    };
    let all = list(json!(null));
    assert_eq!(list(json!({"initial": "0"})), "0");
    assert_eq!(list(json!({"final": "0"})), "0");
    assert_eq!(list(json!({"initial": "0", "final": all})), all);
    let bound = |words: &[&str]| exec(&bundle, &[], words).with(|command| bind(command, 0));
    assert_eq!(bound(&["status"]).finish().ok().get("Cpus_allowed_list"), Some(all.as_str()));
    bundle.down();
}

#[test]
fn rlimits_apply_in_a_user_namespace() {
    let limits = json!([{"type": "RLIMIT_CORE", "soft": 100, "hard": 200}]);
    let bundle = up(Bundle::new("user-limits").user_namespace().set("/process/rlimits", limits));
    sees(&bundle, &[], &["rlimits"]).ok().has("RLIMIT_CORE", "100 200");
    bundle.down();
}
