//! What a container's first process holds: facts read from outside, at the gate, in hooks, and at the very call of execve.

use super::Birth;
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

/// What a process holds and may not: all but 0 to 2, what is preserved, and sockets, pipes, memory, pidfds, and plain files or
/// fifos of the state directory that are really open. A directory, or whatever is open as a place alone, leads on.
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

/// CVE-2024-21626: at the gate a created container's first process holds nothing that leads to a file system of the host.
#[test]
fn at_the_gate_no_descriptor_leads_to_the_host() {
    let mut found = Vec::new();
    for birth in Birth::all_with("gate", |bundle| bundle.sees(&["true"])) {
        birth.create().ok();
        let held = leads_on(birth.pid(), &birth.bundle.state_root(), &[]);
        birth.bundle.down();
        found.extend(held.into_iter().map(|what| format!("{}: {what}", birth.way)));
    }
    assert!(found.is_empty() || peer_differs(&["runc", "crun"], "holds the state directory, a poll set"), "{found:#?}");
}

/// A profile that reports execve to an agent: who is about to be the payload waits there, as long as the test likes.
fn reports_execve(birth: &mut Birth) -> Agent {
    let path = birth.bundle.path("a.sock");
    let agent = Agent::new(&path);
    // a user without privileges connects to it
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    birth.bundle.config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path,
        "syscalls": [{"names": ["execve", "execveat"], "action": "SCMP_ACT_NOTIFY"}]});
    agent
}

/// CVE-2024-21626: at the very call of execve, of `start` and of `exec`, nothing leads on: the kernel resolves the program's
/// path, the interpreter's and every link before it closes what is close-on-exec.
#[test]
fn at_execve_no_descriptor_leads_to_the_host() {
    if peer_differs(&["runc", "crun"], "holds the agent's connection as long") {
        return;
    }
    let mut found = Vec::new();
    for mut birth in Birth::all_with("at-execve", |bundle| bundle.sees(&["pause"])) {
        let agent = reports_execve(&mut birth);
        birth.create().ok();
        let init = agent.take();
        let bundle = &birth.bundle;
        std::thread::scope(|scope| {
            scope.spawn(|| bundle.start());
            let notice = init.next();
            let held = leads_on(notice.pid.cast_signed(), &bundle.state_root(), &[]);
            found.extend(held.into_iter().map(|what| format!("{}: start: {what}", birth.way)));
            init.allow(notice);
        });
        let run = bundle.runtime().args(["exec", &bundle.id, payload::INSIDE, "true"]).start();
        let guest = agent.take();
        let notice = guest.next();
        let held = leads_on(notice.pid.cast_signed(), &bundle.state_root(), &[]);
        found.extend(held.into_iter().map(|what| format!("{}: exec: {what}", birth.way)));
        guest.allow(notice);
        run.finish().ok();
        bundle.down();
    }
    assert!(found.is_empty(), "{found:#?}");
}

/// CVE-2024-21626: a hook in the container, and init while it waits for one, hold nothing that leads on; and so does what
/// is executed by `start` and `exec`.
#[test]
fn hooks_and_payloads_have_three_descriptors() {
    let three =
        |text: &str| text.lines().map(|line| line.split([' ', ':']).next().unwrap()).collect::<Vec<_>>().join(" ");
    let mut found = Vec::new();
    for birth in Birth::all("hook-fds") {
        let (inside, outside) = ("/tmp/started", birth.bundle.rootfs().join("tmp/created"));
        let go = birth.bundle.rootfs().join("tmp/go");
        let bundle = birth.bundle.hook("createContainer", &["save-fds", outside.to_str().unwrap()], &[]);
        let words = ["payload", "save-fds", inside, "+", "wait-file", "/tmp/go"];
        let hook = json!([{"path": payload::INSIDE, "args": words}]);
        let bundle = bundle.set("/hooks/startContainer", hook).sees(&["fds", "+", "pause"]);
        let birth = Birth { bundle, ..birth };
        birth.create().ok();
        let (pid, bundle) = (birth.pid(), &birth.bundle);
        let start = bundle.runtime().args(["start", &bundle.id]).start();
        let saved = bundle.rootfs().join("tmp/started");
        until("the hook", || saved.exists().then_some(()));
        let held = leads_on(pid, &bundle.state_root(), &[]);
        found.extend(held.into_iter().map(|what| format!("{}: init beside its hook: {what}", birth.way)));
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
                found.push(format!("{}: {who}: {text:?}", birth.way));
            }
        }
        bundle.down();
    }
    assert!(found.is_empty() || peer_differs(&["runc", "crun"], "holds the state directory, a poll set"), "{found:#?}");
}

/// CVE-2016-9962: at the gate the first process can't be traced or looked into by whoever may do more than it: what is in
/// `/proc/PID` of a process that is not dumpable belongs to root, whoever the process is.
#[test]
fn at_the_gate_the_first_process_is_not_dumpable() {
    let mut found = Vec::new();
    let user = |bundle: Bundle| bundle.set("/process/user", json!({"uid": 0, "gid": 0})).sees(&["true"]);
    for birth in Birth::all_with("dumpable", user) {
        if !["a user namespace", "rootless"].contains(&birth.way) {
            // root's own processes belong to root anyway: the neighbours try
            continue;
        }
        birth.create().ok();
        let owner = std::fs::metadata(format!("/proc/{}/fd", birth.pid())).unwrap().uid();
        birth.bundle.down();
        if owner != 0 {
            found.push(format!("{}: /proc/PID/fd belongs to {owner}", birth.way));
        }
    }
    assert!(
        found.is_empty() || peer_differs(&["runc", "crun"], "is dumpable, or its memory the user namespace's"),
        "{found:#?}"
    );
}

/// CVE-2024-21626: what a caller forgot to close is closed at the start: who waits for the other end of a pipe hears its end
/// as soon as `create`, a detached `run` or a detached `exec` is over.
#[test]
fn inherited_descriptors_of_the_caller_are_closed_at_once() {
    for birth in Birth::all_with("forgotten", |bundle| bundle.sees(&["pause"])) {
        let bundle = &birth.bundle;
        let ends_with = |call: crate::support::runtime::Call| {
            let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
            let fds = vec![(9, high(&write)), (200, high(&write))];
            drop(write);
            let running = call.with(|command| inherit(command, fds));
            running.finish().ok();
            let mut poll = [nix::poll::PollFd::new(std::os::fd::AsFd::as_fd(&read), nix::poll::PollFlags::POLLIN)];
            let heard = nix::poll::poll(&mut poll, 2000_u16).unwrap();
            let end = heard == 1 && poll[0].revents().unwrap().contains(nix::poll::PollFlags::POLLHUP);
            assert!(end, "{}: somebody still holds the caller's descriptor", birth.way);
        };
        ends_with(bundle.launch("create", birth.flags));
        ends_with(bundle.runtime().args(["start", &bundle.id]));
        ends_with(bundle.runtime().args(["exec", "--detach", &bundle.id, payload::INSIDE, "pause"]));
        bundle.down();
        ends_with(bundle.launch("run", &[birth.flags, &["--detach"]].concat()));
        bundle.down();
    }
}

/// CVE-2024-21626: a log file of the caller's and a preserved descriptor: the first is not the container's, the second is.
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

/// CVE-2024-21626: what CRIU has brought back holds nothing of the runtime's, of CRIU's or of the host's.
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
