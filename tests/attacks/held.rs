//! The open descriptors of a container's first process at the gate, in hooks and at its execve, read from outside.

use super::Variant;
use crate::support::agent::Agent;
use crate::support::tty::{high, inherit};
use crate::support::{Bundle, json, payload, peer_differs, until};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// The numbers of a process's descriptors.
fn numbers(pid: i32) -> Vec<i32> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap_or_else(|e| panic!("descriptors of {pid}: {e}"));
    let mut all: Vec<i32> = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    all.sort_unstable();
    all
}

/// The descriptors of a process that lead to a file system of the host. Allowed are 0 to 2, preserved ones, sockets, pipes,
/// memfds, pidfds, and files and fifos of the state directory; but no directory, and none opened with `O_PATH`.
fn leads_on(pid: i32, state: &Path, preserved: &[i32]) -> Vec<String> {
    let judge = |number: &i32| -> Option<String> {
        let path = format!("/proc/{pid}/fd/{number}");
        let link = std::fs::read_link(&path).ok()?.display().to_string();
        let kind = std::fs::metadata(&path).ok()?.file_type();
        let info = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")).ok()?;
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
        let place = i32::from_str_radix(flags, 8).unwrap() & libc::O_PATH != 0;
        let nowhere =
            ["socket:[", "pipe:[", "/memfd:", "anon_inode:[pidfd]"].iter().any(|start| link.starts_with(start));
        let gate = Path::new(&link).starts_with(state) && (kind.is_file() || kind.is_fifo());
        let meant = *number < 3 && !kind.is_dir() || preserved.contains(number);
        (place || kind.is_dir() || !(meant || nowhere || gate)).then(|| format!("{number} -> {link} (flags {flags})"))
    };
    numbers(pid).iter().filter_map(judge).collect()
}

/// CVE-2024-21626: at the gate no descriptor of a created container's init leads to a file system of the host.
#[test]
fn at_the_gate_no_descriptor_leads_to_the_host() {
    let mut found = Vec::new();
    for variant in Variant::all_with("gate", |bundle| bundle.sees(&["true"])) {
        variant.create().ok();
        let held = leads_on(variant.pid(), &variant.bundle.state_root(), &[]);
        variant.bundle.down();
        found.extend(held.into_iter().map(|what| format!("{}: {what}", variant.way)));
    }
    assert!(found.is_empty() || peer_differs(&["runc", "crun"], "holds the state directory, a poll set"), "{found:#?}");
}

/// Adds a profile that reports execve to an agent: init stops there until the test lets it continue.
fn reports_execve(variant: &mut Variant) -> Agent {
    let path = variant.bundle.path("a.sock");
    let agent = Agent::new(&path);
    // the unprivileged user connects to it
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    variant.bundle.config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path,
        "syscalls": [{"names": ["execve", "execveat"], "action": "SCMP_ACT_NOTIFY"}]});
    agent
}

/// CVE-2024-21626: at the execve of `start` and of `exec` no descriptor leads to the host. The kernel resolves the program's
/// path, the interpreter's and every symlink before it closes close-on-exec descriptors.
#[test]
fn at_execve_no_descriptor_leads_to_the_host() {
    if peer_differs(&["runc", "crun"], "holds the agent's connection as long") {
        return;
    }
    let mut found = Vec::new();
    for mut variant in Variant::all_with("at-execve", |bundle| bundle.sees(&["pause"])) {
        let agent = reports_execve(&mut variant);
        variant.create().ok();
        let init = agent.take();
        let bundle = &variant.bundle;
        std::thread::scope(|scope| {
            scope.spawn(|| bundle.start());
            let notice = init.next();
            let held = leads_on(notice.pid.cast_signed(), &bundle.state_root(), &[]);
            found.extend(held.into_iter().map(|what| format!("{}: start: {what}", variant.way)));
            init.allow(notice);
        });
        let run = bundle.runtime().args(["exec", &bundle.id, payload::INSIDE, "true"]).start();
        let guest = agent.take();
        let notice = guest.next();
        let held = leads_on(notice.pid.cast_signed(), &bundle.state_root(), &[]);
        found.extend(held.into_iter().map(|what| format!("{}: exec: {what}", variant.way)));
        guest.allow(notice);
        run.finish().ok();
        bundle.down();
    }
    assert!(found.is_empty(), "{found:#?}");
}

/// CVE-2024-21626: hooks in the container, payloads of `start` and processes of `exec` have three descriptors, and init has
/// none that leads to the host while a hook runs.
#[test]
fn hooks_and_payloads_have_three_descriptors() {
    let three =
        |text: &str| text.lines().map(|line| line.split([' ', ':']).next().unwrap()).collect::<Vec<_>>().join(" ");
    let mut found = Vec::new();
    for variant in Variant::all("hook-fds") {
        let (inside, outside) = ("/tmp/started", variant.bundle.rootfs().join("tmp/created"));
        let go = variant.bundle.rootfs().join("tmp/go");
        let bundle = variant.bundle.hook("createContainer", &["save-fds", outside.to_str().unwrap()], &[]);
        let words = ["payload", "save-fds", inside, "+", "wait-file", "/tmp/go"];
        let hook = json!([{"path": payload::INSIDE, "args": words}]);
        let bundle = bundle.set("/hooks/startContainer", hook).sees(&["fds", "+", "pause"]);
        let variant = Variant { bundle, ..variant };
        variant.create().ok();
        let (pid, bundle) = (variant.pid(), &variant.bundle);
        let start = bundle.runtime().args(["start", &bundle.id]).start();
        let saved = bundle.rootfs().join("tmp/started");
        until("the hook", || saved.exists().then_some(()));
        let held = leads_on(pid, &bundle.state_root(), &[]);
        found.extend(held.into_iter().map(|what| format!("{}: init beside its hook: {what}", variant.way)));
        std::fs::write(go, "").unwrap();
        start.finish().ok();
        bundle.hears("fd.2");
        let entered = bundle.verb(&["exec", &bundle.id, payload::INSIDE, "fds"]).ok().stdout.replace("fd.", "");
        let [created, started] = [&outside, &saved].map(|file| std::fs::read_to_string(file).unwrap());
        let payload = bundle.printed().replace("fd.", "");
        for (who, text) in
            [("createContainer", created), ("startContainer", started), ("payload", payload), ("exec", entered)]
        {
            if three(&text) != "0 1 2" {
                found.push(format!("{}: {who}: {text:?}", variant.way));
            }
        }
        bundle.down();
    }
    assert!(found.is_empty() || peer_differs(&["runc", "crun"], "holds the state directory, a poll set"), "{found:#?}");
}

/// CVE-2016-9962: at the gate init is not dumpable, so that a more privileged process in its user namespace cannot trace or
/// inspect it. Files in `/proc/PID` of such a process belong to root.
#[test]
fn at_the_gate_the_first_process_is_not_dumpable() {
    let mut found = Vec::new();
    let user = |bundle: Bundle| bundle.set("/process/user", json!({"uid": 0, "gid": 0})).sees(&["true"]);
    for variant in Variant::all_with("dumpable", user) {
        if !["a user namespace", "rootless"].contains(&variant.way) {
            // processes of root belong to root anyway; tests/attacks/neighbours.rs covers them
            continue;
        }
        variant.create().ok();
        let owner = std::fs::metadata(format!("/proc/{}/fd", variant.pid())).unwrap().uid();
        variant.bundle.down();
        if owner != 0 {
            found.push(format!("{}: /proc/PID/fd belongs to {owner}", variant.way));
        }
    }
    assert!(
        found.is_empty() || peer_differs(&["runc", "crun"], "is dumpable, or its memory the user namespace's"),
        "{found:#?}"
    );
}

/// CVE-2024-21626: descriptors inherited from the caller are closed at the start. The reader of an inherited pipe gets end of
/// file as soon as `create`, a detached `run` or a detached `exec` returns.
#[test]
fn inherited_descriptors_of_the_caller_are_closed_at_once() {
    for variant in Variant::all_with("forgotten", |bundle| bundle.sees(&["pause"])) {
        let bundle = &variant.bundle;
        let ends_with = |call: crate::support::runtime::Call| {
            let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
            let fds = vec![(9, high(&write)), (200, high(&write))];
            drop(write);
            let running = call.with(|command| inherit(command, fds));
            running.finish().ok();
            let mut poll = [nix::poll::PollFd::new(std::os::fd::AsFd::as_fd(&read), nix::poll::PollFlags::POLLIN)];
            let heard = nix::poll::poll(&mut poll, 2000_u16).unwrap();
            let end = heard == 1 && poll[0].revents().unwrap().contains(nix::poll::PollFlags::POLLHUP);
            assert!(end, "{}: somebody still holds the caller's descriptor", variant.way);
        };
        ends_with(bundle.launch("create", variant.flags));
        ends_with(bundle.runtime().args(["start", &bundle.id]));
        ends_with(bundle.runtime().args(["exec", "--detach", &bundle.id, payload::INSIDE, "pause"]));
        bundle.down();
        ends_with(bundle.launch("run", &[variant.flags, &["--detach"]].concat()));
        bundle.down();
    }
}

/// CVE-2024-21626: the container gets preserved descriptors, but not the caller's log file.
#[test]
fn preserved_descriptors_are_kept_and_the_log_is_closed() {
    let bundle = Bundle::new("preserved").sees(&["true"]);
    let log = bundle.path("log");
    let meant = bundle.host_file("meant", "meant");
    let fds = vec![(3, high(&std::fs::File::open(&meant).unwrap()))];
    let call =
        bundle.runtime().arg("--log").arg(&log).args(["create", "--preserve-fds", "1", "--bundle"]).arg(&bundle.dir);
    call.arg(&bundle.id).with(|command| inherit(command, fds)).finish().ok();
    let pid = bundle.pid();
    let links = numbers(pid).into_iter().filter_map(|n| std::fs::read_link(format!("/proc/{pid}/fd/{n}")).ok());
    let links: Vec<_> = links.collect();
    let held = leads_on(pid, &bundle.state_root(), &[3]);
    bundle.down();
    assert!(links.contains(&meant), "{links:?}");
    assert!(!links.contains(&log) || peer_differs(&["crun"], "keeps its log"), "{links:?}");
    assert!(held.is_empty() || peer_differs(&["runc", "crun"], "holds the state directory, a poll set"), "{held:?}");
}

/// CVE-2024-21626: a process restored by CRIU has no descriptor of the runtime, of CRIU or of the host.
#[test]
fn a_restored_container_has_no_descriptor_that_leads_to_the_host() {
    if crate::checkpoint::not_possible() {
        return;
    }
    let bundle = crate::checkpoint::counting("restored-held");
    bundle.saved();
    bundle.back();
    let pid = bundle.pid();
    let held = leads_on(pid, &bundle.state_root(), &[]);
    assert!(held.is_empty() && numbers(pid).len() == 3, "{held:?} of {:?}", numbers(pid));
    bundle.down();
}
