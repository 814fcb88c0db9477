//! The life cycle: create, start, state, kill, delete, run, list, and their exit statuses.

use crate::support::{Bundle, Value, kernel, peer_differs, until};

/// Starts a foreground `run` and waits until the container is running.
fn running(bundle: &Bundle) -> crate::support::runtime::Running {
    let run = bundle.launch("run", &[]).start();
    until("the container to run", || bundle.verb(&["state", &bundle.id]).stdout.contains("running").then_some(()));
    run
}

#[test]
fn run_returns_the_status_of_the_payload() {
    for code in [0, 1, 42, 126, 127, 255] {
        Bundle::new("exit").run(&["exit", &code.to_string()]).code(code);
    }
}

#[test]
fn run_returns_128_and_the_signal() {
    // pid 1 cannot be killed from inside, except by a fault; from outside SIGKILL works
    Bundle::new("fault").run(&["die", "11"]).code(128 + 11);
    let bundle = Bundle::new("killed").sees(&["pause"]);
    let run = running(&bundle);
    bundle.kill("KILL").ok();
    run.finish().code(137);
}

#[test]
fn run_passes_stdout_and_stderr_through() {
    let output = Bundle::new("stdio").run(&["echo", "to the one", "+", "complain", "to the other"]).ok();
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("to the one\n", "to the other\n"));
}

#[test]
fn run_passes_stdin_through() {
    let bundle = Bundle::new("stdin").sees(&["stdin"]);
    bundle.launch("run", &[]).stdin(b"from outside").finish().ok().has("stdin", "\"from outside\"");
}

#[test]
fn run_forwards_signals() {
    let bundle = Bundle::new("forward").sees(&["trap"]);
    let run = running(&bundle);
    bundle.hears("trap: ready");
    for signal in [libc::SIGUSR1, libc::SIGHUP, libc::SIGINT, libc::SIGUSR2, libc::SIGCONT] {
        run.kill(signal);
        bundle.hears(&format!("signal: {signal}\n"));
    }
    run.kill(libc::SIGTERM);
    run.finish().code(42);
}

#[test]
fn run_defaults_to_the_bundle_in_the_working_directory() {
    let bundle = Bundle::new("cwd-bundle").sees(&["exit", "5"]);
    bundle.runtime().args(["run", &bundle.id]).finish().code(5);
}

#[test]
fn run_detached_returns_at_once() {
    let bundle = Bundle::new("detach").sees(&["wait-file", "/go", "+", "exit", "3"]);
    bundle.launch("run", &["--detach"]).finish().ok();
    assert_eq!(bundle.status(), "running");
    let pid = bundle.pid();
    std::fs::write(bundle.rootfs().join("go"), "").unwrap();
    assert_eq!(bundle.exit_code(pid), 3);
    bundle.wait_for("stopped");
    bundle.delete().ok();
    bundle.nothing_left();
}

#[test]
fn run_with_keep_keeps_the_stopped_container() {
    let bundle = Bundle::new("keep").sees(&["exit", "3"]);
    bundle.launch("run", &["--keep"]).finish().code(3);
    assert_eq!(bundle.status(), "stopped");
    bundle.delete().ok();
    bundle.verb(&["state", &bundle.id]).fails(1, "container does not exist");
}

#[test]
fn run_with_no_subreaper_adopts_no_orphans() {
    if peer_differs(&["crun"], "takes the flag, and then waits for ever for a child that is not its own")
        || peer_differs(&["runc<1.2"], "may leave the cgroup: it does not wait for the processes that it killed")
    {
        return;
    }
    // the payload's child outlives the payload only in the host's pid namespace
    let bundle = Bundle::new("no-subreaper").without_namespace("pid").sees(&["background", "pause", "+", "exit", "4"]);
    bundle.launch("run", &["--no-subreaper"]).finish().code(4);
}

#[test]
fn status_goes_from_created_to_running_to_stopped() {
    let bundle = Bundle::new("status").sees(&["wait-file", "/go", "+", "exit", "7"]);
    bundle.create().ok();
    assert_eq!(bundle.status(), "created");
    let pid = bundle.pid();
    assert!(kernel::process_state(pid).is_some());
    bundle.start().ok();
    assert_eq!(bundle.status(), "running");
    std::fs::write(bundle.rootfs().join("go"), "").unwrap();
    assert_eq!(bundle.exit_code(pid), 7);
    bundle.wait_for("stopped");
    assert_eq!(bundle.state()["pid"], 0);
    bundle.delete().ok();
    bundle.nothing_left();
}

#[test]
fn nothing_of_the_payload_runs_before_start() {
    let bundle = Bundle::new("gate").sees(&["write", "/ran", "x", "+", "pause"]);
    bundle.create().ok();
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert!(!bundle.rootfs().join("ran").exists(), "the payload ran before start");
    bundle.start().ok();
    until("the payload to run", || bundle.rootfs().join("ran").exists().then_some(()));
    bundle.down();
}

#[test]
fn state_contains_what_the_spec_requires() {
    let bundle = Bundle::new("state").set("/annotations", crate::support::json!({"org.example/key": "value"}));
    bundle.create().ok();
    let output = bundle.verb(&["state", &bundle.id]).ok();
    let state = output.json();
    assert_eq!(state["id"], bundle.id.as_str());
    assert_eq!(state["status"], "created");
    assert_eq!(state["bundle"], bundle.dir.to_str().unwrap());
    assert_eq!(state["annotations"]["org.example/key"], "value");
    if !peer_differs(&["crun"], "rootfs as it stands in config.json; the owner's name") {
        assert_eq!(state["rootfs"], bundle.rootfs().to_str().unwrap());
        assert_eq!(state["owner"], "");
    }
    assert!(state["ociVersion"].as_str().is_some_and(|v| v.starts_with("1.")));
    let pid = i32::try_from(state["pid"].as_i64().unwrap()).unwrap();
    assert_ne!(kernel::namespace(pid, "pid"), kernel::namespace("self", "pid"));
    let created = state["created"].as_str().unwrap();
    assert!(created.starts_with("20") && created.ends_with('Z') && created.contains('T'), "created: {created}");
    assert_eq!(output.stderr, "");
    bundle.down();
}

#[test]
fn a_change_of_the_bundle_after_create_has_no_effect() {
    let mut bundle = Bundle::new("late-change").sees(&["echo", "first", "+", "pause"]);
    bundle.create().ok();
    bundle = bundle.sees(&["echo", "second", "+", "pause"]).set("/annotations", crate::support::json!({"late": "yes"}));
    bundle.start().ok();
    bundle.hears("first\n");
    assert_eq!(bundle.state().get("annotations"), None);
    bundle.down();
}

#[test]
fn the_pid_file_contains_only_the_number() {
    let bundle = Bundle::new("pid-file").sees(&["pause"]);
    let file = bundle.path("init.pid");
    bundle.launch("create", &["--pid-file", file.to_str().unwrap()]).finish().ok();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), bundle.pid().to_string());
    bundle.down();
    let bundle = Bundle::new("pid-file-run").sees(&["pause"]);
    let file = bundle.path("init.pid");
    bundle.launch("run", &["-d", "--pid-file", file.to_str().unwrap()]).finish().ok();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), bundle.pid().to_string());
    bundle.down();
}

#[test]
fn kill_accepts_signal_names_and_numbers() {
    let bundle = Bundle::new("signals").sees(&["trap"]);
    let pid = bundle.up();
    bundle.hears("trap: ready");
    for (name, number) in
        [("USR1", 10), ("SIGUSR2", 12), ("hup", 1), ("sigint", 2), ("3", 3), ("WINCH", 28), ("34", 34)]
    {
        if name.starts_with(|c: char| c.is_lowercase()) && peer_differs(&["crun"], "names in lower case") {
            continue;
        }
        bundle.kill(name).ok();
        bundle.hears(&format!("signal: {number}\n"));
    }
    // the default is SIGTERM
    bundle.verb(&["kill", &bundle.id]).ok();
    assert_eq!(bundle.exit_code(pid), 42);
    bundle.wait_for("stopped");
    bundle.kill("TERM").fails(1, "container not running");
    bundle.delete().ok();
}

#[test]
fn kill_refuses_an_unknown_signal() {
    let bundle = Bundle::new("bogus-signal").sees(&["pause"]);
    bundle.up();
    bundle.kill("BOGUS").fails(1, "unknown signal \"BOGUS\"");
    assert_eq!(bundle.status(), "running");
    bundle.down();
}

#[test]
fn kill_reaches_a_created_container() {
    let bundle = Bundle::new("kill-created");
    bundle.create().ok();
    let pid = bundle.pid();
    bundle.kill("KILL").ok();
    assert_eq!(bundle.exit_code(pid), 137);
    bundle.wait_for("stopped");
    bundle.start().fails(1, "cannot start a container that has stopped");
    bundle.delete().ok();
}

#[test]
fn kill_all_reaches_every_process_of_a_container_without_a_pid_namespace() {
    let bundle = Bundle::new("kill-all").without_namespace("pid").sees(&["background", "pause", "+", "pause"]);
    bundle.up();
    until("two processes", || (kernel::processes_with(&bundle.id).len() >= 2).then_some(()));
    bundle.verb(&["kill", "--all", &bundle.id, "KILL"]).ok();
    bundle.wait_for("stopped");
    bundle.delete().ok();
    bundle.nothing_left();
}

#[test]
fn delete_refuses_a_running_container() {
    let bundle = Bundle::new("delete-running").sees(&["pause"]);
    bundle.up();
    let phrase = format!("cannot delete container {} that is not stopped: running", bundle.id);
    bundle.delete().fails(1, &phrase);
    assert_eq!(bundle.status(), "running");
    bundle.down();
    bundle.nothing_left();
}

#[test]
fn delete_kills_a_created_container() {
    if peer_differs(&["crun"], "delete refuses a created container") {
        return;
    }
    let bundle = Bundle::new("delete-created");
    bundle.create().ok();
    bundle.delete().ok();
    bundle.nothing_left();
}

#[test]
fn delete_by_force_kills_and_ignores_a_missing_container() {
    let bundle = Bundle::new("force").sees(&["background", "pause", "+", "pause"]);
    bundle.up();
    bundle.verb(&["delete", "--force", &bundle.id]).ok();
    bundle.nothing_left();
    let again = bundle.verb(&["delete", "-f", &bundle.id]).ok();
    assert_eq!(again.stdout + &again.stderr, "");
}

#[test]
fn delete_by_force_kills_a_container_without_a_pid_namespace() {
    if peer_differs(&["runc<1.2"], "may leave the cgroup: it does not wait for the processes that it killed") {
        return;
    }
    let bundle = Bundle::new("force-host-pid").without_namespace("pid").sees(&["background", "pause", "+", "pause"]);
    bundle.up();
    until("two processes", || (kernel::processes_with(&bundle.id).len() >= 2).then_some(()));
    bundle.down();
    bundle.nothing_left();
}

#[test]
fn start_requires_a_created_container() {
    let bundle = Bundle::new("restart").sees(&["pause"]);
    bundle.up();
    bundle.start().fails(1, "cannot start an already running container");
    bundle.down();
}

#[test]
fn an_unknown_id_is_one_clear_error() {
    let bundle = Bundle::new("unknown");
    std::fs::create_dir(bundle.state_root()).unwrap();
    for verb in [&["state"][..], &["start"], &["kill"], &["delete"], &["pause"], &["resume"]] {
        let output = bundle.verb(&[verb, &["nosuch"]].concat()).fails(1, "container does not exist");
        assert_eq!(output.stdout, "", "{output}");
    }
}

#[test]
fn an_id_can_be_used_once() {
    let bundle = Bundle::new("taken");
    bundle.create().ok();
    let state = bundle.state();
    bundle.create().fails(1, "container with given ID already exists");
    bundle.run_as_is().fails(1, "container with given ID already exists");
    assert_eq!(bundle.state(), state, "the first container is untouched");
    bundle.down();
}

#[test]
fn ids_with_invalid_characters_are_refused() {
    let bundle = Bundle::new("ids");
    let refused = ["", "a/b", "..", "../x", "a b", "ü", "."];
    for id in refused {
        let phrase = if id.is_empty() { "container id cannot be empty" } else { "invalid" };
        if id == "." && peer_differs(&["runc<1.1.13"], "takes a dot for an id, and fails later") {
            continue;
        }
        bundle.runtime().args(["create", "--bundle"]).args([&bundle.dir]).args([id]).finish().fails(1, phrase);
    }
    let listed = bundle.verb(&["list", "-q"]);
    assert_eq!(listed.stdout, "");
    let mut odd = Bundle::new("odd");
    odd.id = format!("{}.A_b+c-9", odd.id);
    odd.run_as_is().ok();
}

#[test]
fn list_shows_every_container() {
    let bundle = Bundle::new("list").sees(&["pause"]);
    std::fs::create_dir(bundle.state_root()).unwrap();
    if peer_differs(&["crun"], "an empty list; the columns") {
        return;
    }
    assert_eq!(bundle.verb(&["list", "--format", "json"]).ok().stdout.trim(), "null");
    bundle.create().ok();
    assert_eq!(bundle.verb(&["list", "--quiet"]).ok().stdout, format!("{}\n", bundle.id));
    let table = bundle.verb(&["list"]).ok().stdout;
    let words: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words[0], ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
    let pid = bundle.pid().to_string();
    assert_eq!(words[1][..4], [bundle.id.as_str(), pid.as_str(), "created", bundle.dir.to_str().unwrap()]);
    assert_eq!(words[1][5], "root");
    let json = bundle.verb(&["list", "-f", "json"]).ok().json();
    let first: &Value = &json[0];
    assert_eq!(first["id"], bundle.id.as_str());
    assert_eq!(first["status"], "created");
    assert_eq!(first["owner"], "root");
    assert_eq!(first["pid"], bundle.pid());
    bundle.down();
}

/// "Poll state, then start": `state` knows a container before its creator is done with it.
#[test]
fn start_waits_for_the_creator() {
    if peer_differs(&["runc", "crun"], "knows a container only when it is created") {
        return;
    }
    let go = std::env::temp_dir().join(format!("onggi-test-{}-go", std::process::id()));
    let bundle = Bundle::new("early").hook("createRuntime", &["wait-file", go.to_str().unwrap()], &[]);
    let bundle = bundle.sees(&["echo", "runs", "+", "pause"]);
    let create = bundle.launch("create", &[]).start();
    until("a state", || (bundle.verb(&["state", &bundle.id]).code == 0).then_some(()));
    let start = bundle.runtime().args(["start", &bundle.id]).start();
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert_eq!(bundle.status(), "creating");
    std::fs::write(&go, "").unwrap();
    create.finish().ok();
    start.finish().ok();
    bundle.hears("runs");
    std::fs::remove_file(&go).unwrap();
    bundle.down();
}
