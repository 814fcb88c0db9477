//! What the runtime says is true: many callers of one id, records that are lost or cannot be read, processes that are
//! killed at a bad moment. `scripts/faults.sh` does the same at every system call.

use crate::support::{Bundle, json, kernel, peer_differs, process, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::time::{Duration, Instant};

fn gone(pid: i32) -> bool {
    matches!(kernel::process_state(pid), None | Some('Z' | 'X'))
}

fn end(pid: i32) {
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
}

/// Sixteen callers make and delete one container as they like: nobody is left behind whom nobody knows, and the id can
/// be deleted and used again.
#[test]
fn callers_of_one_id_leave_nothing() {
    if peer_differs(&["runc", "crun"], "leaves an orphan or an id that cannot be deleted") {
        return;
    }
    let bundle = Bundle::new("hammer").sees(&["pause"]);
    bundle.verb(&["list"]);
    bundle.create().ok();
    let calls = [
        ("create", vec![]),
        ("run", vec!["--detach"]),
        ("start", vec![]),
        ("kill", vec!["KILL"]),
        ("delete", vec!["--force"]),
        ("delete", vec![]),
        ("state", vec![]),
    ];
    let end = Instant::now() + Duration::from_secs(4);
    let launched = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16_usize)
            .map(|number| {
                let (bundle, calls) = (&bundle, &calls);
                scope.spawn(move || {
                    let (mut launched, mut turn) = (0, number);
                    while Instant::now() < end {
                        let (verb, flags) = &calls[turn % calls.len()];
                        turn += number % 5 + 1;
                        let output = match *verb {
                            "create" | "run" => bundle.launch(verb, flags).finish(),
                            "kill" => bundle.kill("KILL"),
                            _ => bundle.runtime().args([verb]).args(flags).args([&bundle.id]).finish(),
                        };
                        assert!([0, 1].contains(&output.code), "{output}");
                        assert!(output.code == 0 || !output.stderr.is_empty(), "no word of {output}");
                        launched += i32::from(output.code == 0 && ["create", "run"].contains(verb));
                    }
                    launched
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum::<i32>()
    });
    bundle.runtime().args(["delete", "--force", &bundle.id]).finish().ok();
    bundle.nothing_left();
    bundle.create().ok();
    bundle.delete().ok();
    assert!(launched > 0, "nobody could launch anything");
}

/// `delete --force` beside a `create` that is about to succeed: the create succeeds, and then its container is deleted.
#[test]
fn delete_by_force_lets_a_create_come_to_its_end() {
    if peer_differs(&["runc", "crun"], "knows no container that is being created") {
        return;
    }
    let bundle = Bundle::new("almost").sees(&["pause"]);
    let waits = bundle.path("go").display().to_string();
    let bundle = bundle.hook("createRuntime", &["wait-file", &waits], &[]);
    let create = bundle.launch("create", &[]).start();
    until("the record", || (bundle.verb(&["state", &bundle.id]).code == 0).then_some(()));
    let delete = bundle.runtime().args(["delete", "--force", &bundle.id]).start();
    std::thread::sleep(Duration::from_millis(200));
    std::fs::write(&waits, "").unwrap();
    create.finish().ok();
    delete.finish().ok();
    bundle.nothing_left();
}

/// The record of a running container is cut off: a full disk, a machine without power.
#[test]
fn a_broken_record_hides_no_processes() {
    if peer_differs(&["runc", "crun"], "removes the directory and leaves the container") {
        return;
    }
    for text in ["", "no record\n"] {
        for started in [true, false] {
            let bundle = Bundle::new("broken").without("/linux/cgroupsPath").sees(&["pause"]);
            bundle.create().ok();
            let pid = bundle.pid();
            if started {
                bundle.start().ok();
            }
            std::fs::write(bundle.state_root().join(&bundle.id).join("state.json"), text).unwrap();
            bundle.runtime().args(["delete", "--force", &bundle.id]).finish().ok();
            until("its end", || gone(pid).then_some(()));
            bundle.nothing_left();
            bundle.create().ok();
            bundle.delete().ok();
        }
    }
}

/// A record that cannot be read is no broken one: everything stays until it can be read.
#[test]
fn a_record_that_cannot_be_read_keeps_everything() {
    if peer_differs(&["runc", "crun"], "the record is called otherwise") {
        return;
    }
    let bundle = Bundle::new("unreadable").sees(&["pause"]);
    let pid = bundle.up();
    let record = bundle.state_root().join(&bundle.id).join("state.json");
    let aside = bundle.path("aside");
    std::fs::rename(&record, &aside).unwrap();
    std::os::unix::fs::symlink("state.json", &record).unwrap();
    let deleted = bundle.runtime().args(["delete", "--force", &bundle.id]).finish();
    assert!(!gone(pid), "killed on the word of nobody");
    deleted.fails(1, "symbolic link");
    std::fs::remove_file(&record).unwrap();
    std::fs::rename(&aside, &record).unwrap();
    assert_eq!(bundle.status(), "running");
    bundle.down();
}

/// A process in the container's cgroup that is not in its pid namespace.
#[test]
fn delete_by_force_ends_who_was_put_into_the_cgroup() {
    if peer_differs(&["runc", "crun"], "leaves it, and says that the cgroup is busy") {
        return;
    }
    let bundle = Bundle::new("outsider").sees(&["pause"]);
    let first = bundle.up();
    let mut outsider = std::process::Command::new("/bin/sleep").arg("100").spawn().unwrap();
    let pid = i32::try_from(outsider.id()).unwrap();
    for line in std::fs::read_to_string(format!("/proc/{first}/cgroup")).unwrap().lines() {
        let [_, controllers, path] = line.splitn(3, ':').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let controller = controllers.trim_start_matches("name=");
        let hierarchy = ["", controller, "unified"].map(|name| format!("/sys/fs/cgroup/{name}{path}/cgroup.procs"));
        let file = hierarchy.iter().find(|file| file.contains(&bundle.id) && std::path::Path::new(file).exists());
        if let Some(file) = file {
            std::fs::write(file, pid.to_string()).unwrap();
        }
    }
    let deleted = bundle.runtime().args(["delete", "--force", &bundle.id]).finish();
    let ended = gone(pid);
    let _ = outsider.kill();
    let _ = outsider.wait();
    deleted.ok();
    assert!(ended, "the process in the cgroup goes on");
}

/// Init is killed before its execve, and closes its socket to us as execve would.
#[test]
fn run_detached_tells_of_an_init_that_was_killed() {
    for _ in 0..20 {
        let bundle = Bundle::new("init-killed").sees(&["pause"]);
        let waits = bundle.path("go").display().to_string();
        let bundle = bundle.hook("createContainer", &["wait-file", &waits], &[]);
        let run = bundle.launch("run", &["--detach"]).start();
        let pid = until("init", || {
            let state = bundle.verb(&["state", &bundle.id]);
            let pid = (state.code == 0).then(|| state.json()["pid"].as_i64()).flatten().filter(|pid| *pid > 0)?;
            i32::try_from(pid).ok()
        });
        end(pid);
        let output = run.finish();
        assert_ne!(output.code, 0, "it says that the container runs: {output}");
        assert!(output.stderr.contains("killed by signal 9"), "{output}");
        bundle.nothing_left();
    }
}

/// Behind the gate: init is killed in a `startContainer` hook.
#[test]
fn start_tells_of_an_init_that_was_killed() {
    if peer_differs(&["runc", "crun"], "may say that it was started") {
        return;
    }
    let bundle = Bundle::new("gate-killed").sees(&["pause"]);
    let mut bundle = bundle.hook("startContainer", &["wait-file", "/go"], &[]);
    bundle.config["hooks"]["startContainer"][0]["path"] = json!(crate::support::payload::INSIDE);
    bundle.create().ok();
    let pid = bundle.pid();
    let start = bundle.runtime().args(["start", &bundle.id]).start();
    until("the hook", || {
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        (!children.trim().is_empty()).then_some(())
    });
    end(pid);
    let output = start.finish();
    assert_eq!(output.code, 1, "it says that the container runs: {output}");
    assert!(output.stderr.contains("error during container init"), "{output}");
    bundle.delete().ok();
}

#[test]
fn a_hook_that_cannot_be_executed_says_why() {
    let bundle = Bundle::new("no-format");
    let program = bundle.host_file("program", "neither a program nor a script\n");
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    for kind in ["createRuntime", "createContainer"] {
        let mut bundle = Bundle::new("no-format").hook(kind, &["true"], &[]);
        bundle.config["hooks"][kind][0]["path"] = json!(program);
        bundle.launch("run", &[]).finish().fails(1, "exec format error");
    }
}

#[test]
fn a_pid_file_goes_with_a_poststart_hook_that_fails() {
    if peer_differs(&["runc", "crun"], "the file stays") {
        return;
    }
    let bundle = Bundle::new("poststart-pid").sees(&["pause"]).hook("poststart", &["exit", "3"], &[]);
    let file = bundle.path("pid");
    let path = file.display().to_string();
    bundle.launch("run", &["--detach", "--pid-file", &path]).finish().fails(1, "poststart");
    assert!(!file.exists(), "a caller takes it for success");
}

/// A limit on the size of files kills who does not expect it.
#[test]
fn a_limit_on_files_is_an_error() {
    if peer_differs(&["runc", "crun"], "its record is smaller, or it is killed") {
        return;
    }
    let bundle = Bundle::new("file-size").sees(&["pause"]).set("/annotations/long", "x".repeat(4000));
    let create = bundle.launch("create", &[]).with(|command| process::with_file_size(command, 2048));
    create.finish().fails(1, "file too large");
    bundle.nothing_left();
}

/// A cgroup that cannot be removed at this moment is not forgotten: `delete --force` knows of it.
#[test]
fn an_undo_that_fails_leaves_the_record() {
    if peer_differs(&["runc", "crun"], "forgets it") {
        return;
    }
    let bundle = Bundle::new("undo").args(&["/no/such/program"]);
    let call = bundle.launch("run", &[]).with(|command| {
        // the directory of a cgroup is removed by unlinkat(AT_REMOVEDIR), files with flags of 0
        process::without_third_argument(command, libc::SYS_unlinkat, 0x200, libc::EBUSY);
    });
    let output = call.finish();
    assert_ne!(output.code, 0, "{output}");
    assert!(output.stderr.contains("the container's record is kept"), "{output}");
    bundle.runtime().args(["delete", "--force", &bundle.id]).finish().ok();
    bundle.nothing_left();
}

/// The notify socket of a container whose state directory has a longer path than a socket's address can hold.
#[test]
fn a_notify_socket_may_lie_deep() {
    if peer_differs(&["runc", "crun"], "the path is too long") {
        return;
    }
    let bundle = Bundle::new("deep").sees(&["true"]);
    let deep = bundle.path(&"d".repeat(120));
    let call = bundle.runtime().args(["--root"]).args([&deep]).args(["run", "--bundle"]).args([&bundle.path("")]);
    call.args([&bundle.id]).env("NOTIFY_SOCKET", format!("@{}", bundle.id)).finish().ok();
}

/// Who listens and takes no connections any more does not hold a caller for ever.
#[test]
fn a_socket_that_nobody_serves_has_a_limit() {
    if peer_differs(&["runc", "crun"], "waits for ever") {
        return;
    }
    let bundle = Bundle::new("backlog").sees(&["pause"]);
    let path = bundle.path("deaf");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    // the kernel takes as many as the backlog says, and one more
    nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
    let _waits = std::os::unix::net::UnixStream::connect(&path).unwrap();
    let path = path.display().to_string();
    let begun = Instant::now();
    bundle.launch("create", &["--pidfd-socket", &path]).finish().fails(1, "timed out");
    assert!(begun.elapsed() < crate::support::limit(40), "{:?}", begun.elapsed());
    bundle.nothing_left();
}

/// What a long `create` waits for: `state` shows it, the log tells it after ten seconds, SIGTERM ends it and leaves nothing.
#[test]
fn a_create_that_waits_says_what_for() {
    if peer_differs(&["runc", "crun"], "waits in silence") {
        return;
    }
    for (kind, phase, signal) in
        [("createRuntime", "hook", Signal::SIGTERM), ("createContainer", "init", Signal::SIGINT)]
    {
        let bundle = Bundle::new("waits").sees(&["pause"]);
        let bundle = bundle.hook(kind, &["pause"], &[]);
        let create = bundle.launch("create", &[]).start();
        let shown = until("what is waited for", || {
            let state = bundle.verb(&["state", &bundle.id]);
            let state = (state.code == 0).then(|| state.json())?;
            state["phase"].is_string().then_some(state)
        });
        assert_eq!((&shown["status"], &shown["phase"]), (&"creating".into(), &phase.into()), "{shown}");
        let hook = format!("{kind} hook #0");
        assert!(shown["step"].as_str().unwrap().contains(&hook), "{shown}");
        if phase == "hook" {
            std::thread::sleep(Duration::from_secs(10));
        }
        create.kill(signal as i32);
        let ended = create.finish().fails(1, &format!("{signal} while waiting for {phase}: "));
        let logged = format!("10 s of waiting for {phase}: ");
        assert_eq!(ended.stderr.contains(&logged), phase == "hook", "{ended}");
        for phrase in [&hook[..], ": process ", "sleeps (S", "its cgroup is not frozen"] {
            assert!(ended.stderr.contains(phrase), "{phrase}: {ended}");
        }
        bundle.nothing_left();
    }
}

/// The same for `start`, which may be tried only once: the container is there afterwards.
#[test]
fn a_start_that_waits_says_what_for() {
    if peer_differs(&["runc", "crun"], "waits in silence") {
        return;
    }
    let bundle = Bundle::new("start-waits").sees(&["pause"]);
    let mut bundle = bundle.hook("startContainer", &["pause"], &[]);
    bundle.config["hooks"]["startContainer"][0]["path"] = json!(crate::support::payload::INSIDE);
    bundle.create().ok();
    let start = bundle.runtime().args(["start", &bundle.id]).start();
    // long enough for it to have begun to wait
    std::thread::sleep(crate::support::limit(2));
    start.kill(libc::SIGTERM);
    start.finish().fails(1, "SIGTERM while waiting for start: startContainer hooks");
    bundle.runtime().args(["delete", "--force", &bundle.id]).finish().ok();
    bundle.nothing_left();
}

/// The program of a `startContainer` hook is missing, not the container's own: engines would take that for status 127.
#[test]
fn a_missing_hook_is_not_taken_for_a_missing_program() {
    if peer_differs(&["runc", "crun"], "words of their own") {
        return;
    }
    let mut bundle = Bundle::new("no-hook").sees(&["pause"]).hook("startContainer", &[], &[]);
    bundle.config["hooks"]["startContainer"][0]["path"] = json!("/no/such/hook");
    bundle.create().ok();
    let start = bundle.runtime().args(["start", &bundle.id]).finish();
    start.fails(1, "error running startContainer hook: fork/exec /no/such/hook: no such file or directory");
    bundle.runtime().args(["delete", "--force", &bundle.id]).finish().ok();
    bundle.nothing_left();
}

/// A caller that may open few files: with the cgroups of many hierarchies among the mounts, too.
#[test]
fn twenty_descriptors_are_enough() {
    let cgroups = json!({
        "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev", "ro"],
    });
    let bundle = Bundle::new("few").sees(&["true"]).set("/mounts/-", cgroups);
    bundle.launch("run", &[]).with(|command| process::with_descriptors(command, 20)).finish().ok();
}
