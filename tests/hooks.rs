//! Hooks: order, namespaces, input, environment, timeout, and the effect of failures.

use crate::support::{Bundle, Value, json, kernel, payload, peer_differs, until};
use std::time::Instant;

const KINDS: [&str; 6] = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// Adds a hook that appends a word to the log.
fn logs(bundle: Bundle, kind: &str, word: &str) -> Bundle {
    let log =
        if kind == "startContainer" { "/log".to_owned() } else { bundle.rootfs().join("log").display().to_string() };
    let bundle = bundle.hook(kind, &["append", &log, word], &[]);
    inside(bundle, kind)
}

/// startContainer hooks are looked up in the container: uses the payload's path there.
fn inside(mut bundle: Bundle, kind: &str) -> Bundle {
    if kind == "startContainer" {
        bundle.config["hooks"][kind].as_array_mut().unwrap().last_mut().unwrap()["path"] = json!(payload::INSIDE);
    }
    bundle
}

fn log(bundle: &Bundle) -> Vec<String> {
    let text = std::fs::read_to_string(bundle.rootfs().join("log")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn hooks_run_in_lifecycle_order() {
    let mut bundle = Bundle::new("order");
    for kind in KINDS.into_iter().rev() {
        bundle = logs(logs(bundle, kind, &format!("{kind} one")), kind, &format!("{kind} two"));
    }
    bundle = bundle.sees(&["append", "/log", "payload"]);
    bundle.run_as_is().ok();
    let mut expected: Vec<String> = Vec::new();
    for kind in &KINDS[..4] {
        expected.extend([format!("{kind} one"), format!("{kind} two")]);
    }
    expected.push("payload".to_owned());
    for kind in &KINDS[4..] {
        expected.extend([format!("{kind} one"), format!("{kind} two")]);
    }
    let mut seen = log(&bundle);
    // poststart hooks and the payload run concurrently
    seen.sort_by_key(|line| expected.iter().position(|wanted| wanted == line));
    assert_eq!(seen, expected, "{:?}", log(&bundle));
    let place = |word: &str| log(&bundle).iter().position(|line| line == word).unwrap();
    assert!(place("startContainer two") < place("payload") && place("payload") < place("poststop one"));
}

#[test]
fn each_verb_runs_its_hooks() {
    if peer_differs(&["runc<1.5"], "runs poststart hooks at create") {
        return;
    }
    let mut bundle = Bundle::new("verbs").sees(&["pause"]);
    for kind in KINDS {
        bundle = logs(bundle, kind, kind);
    }
    bundle.create().ok();
    assert_eq!(log(&bundle), KINDS[..3]);
    bundle.start().ok();
    // start may return before the hook has run in the container
    until("startContainer", || log(&bundle).contains(&"startContainer".to_owned()).then_some(()));
    let mut seen = log(&bundle);
    seen.sort_by_key(|line| KINDS.iter().position(|kind| kind == line));
    assert_eq!(seen, KINDS[..5]);
    bundle.down();
    assert_eq!(log(&bundle).last().map(String::as_str), Some("poststop"));
}

/// The state document that a hook of this kind got.
fn document(bundle: &Bundle, kind: &str) -> Value {
    let file = bundle.rootfs().join(kind);
    let text = until(kind, || std::fs::read_to_string(&file).ok().filter(|text| !text.is_empty()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{kind}: {e}: {text}"))
}

#[test]
fn hooks_get_the_container_state_on_stdin() {
    if peer_differs(&["crun"], "has status words and a bundle of its own") {
        return;
    }
    let mut bundle = Bundle::new("documents").sees(&["pause"]).set("/annotations", json!({"org.example": "yes"}));
    for kind in KINDS {
        let file = if kind == "startContainer" {
            format!("/{kind}")
        } else {
            bundle.rootfs().join(kind).display().to_string()
        };
        bundle = inside(bundle.hook(kind, &["save", &file], &[]), kind);
    }
    let pid = bundle.up();
    let mut expected = ["created", "created", "created", "created", "running", "stopped"];
    if peer_differs(&["runc"], "hooks of the creation read creating") {
        expected[..3].fill("creating");
    }
    if peer_differs(&["runc<1.5"], "runs poststart hooks at create") {
        expected[4] = "created";
    }
    for (kind, status) in KINDS.iter().zip(expected) {
        if *kind == "poststop" {
            bundle.down();
        }
        let state = document(&bundle, kind);
        assert_eq!(state["id"], bundle.id.as_str(), "{kind}");
        assert_eq!(state["status"], status, "{kind}");
        assert_eq!(state["bundle"], bundle.dir.to_str().unwrap(), "{kind}");
        assert_eq!(state["annotations"]["org.example"], "yes", "{kind}");
        assert!(state["ociVersion"].is_string(), "{kind}");
        if ["prestart", "createRuntime", "poststart"].contains(kind) {
            assert_eq!(state["pid"], pid, "{kind}");
        }
    }
}

#[test]
fn hooks_run_in_the_namespaces_of_the_spec() {
    let mut bundle = Bundle::new("places").sees(&["pause"]);
    for kind in KINDS {
        let file = if kind == "startContainer" {
            format!("/{kind}")
        } else {
            bundle.rootfs().join(kind).display().to_string()
        };
        bundle = inside(bundle.hook(kind, &["save-ns", &file], &[]), kind);
    }
    let pid = bundle.up();
    until("startContainer", || bundle.rootfs().join("startContainer").exists().then_some(()));
    let (host, container) = (kernel::namespace("self", "mnt"), kernel::namespace(pid, "mnt"));
    bundle.down();
    for kind in KINDS {
        let seen = until(kind, || std::fs::read_to_string(bundle.rootfs().join(kind)).ok().filter(|t| !t.is_empty()));
        let expected = if ["createContainer", "startContainer"].contains(&kind) { &container } else { &host };
        assert_eq!(seen.trim(), expected, "{kind}");
    }
}

#[test]
fn a_hook_has_exactly_the_configured_environment() {
    let bundle = Bundle::new("hook-env");
    let file = bundle.path("env").display().to_string();
    let bundle = bundle.hook("createRuntime", &["save-env", &file], &["A=1", "B=two words"]);
    let call = bundle.launch("run", &[]).env("OF_THE_CALLER", "yes");
    call.finish().ok();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "A=1\nB=two words\n");
}

#[test]
fn a_hook_starts_in_the_bundle_directory() {
    let bundle = Bundle::new("hook-cwd");
    let elsewhere = bundle.host_directory("elsewhere");
    let bundle = bundle.hook("createRuntime", &["write", "hook-was-here", "x"], &[]).sees(&["true"]);
    bundle.launch("run", &[]).within(&elsewhere).finish().ok();
    assert!(bundle.path("hook-was-here").exists());
}

#[test]
fn without_args_a_hook_gets_its_path_as_argv0() {
    let mut bundle = Bundle::new("hook-args");
    let file = bundle.path("args").display().to_string();
    bundle = bundle.hook("prestart", &["save-args", &file, "one two", ""], &[]);
    bundle.run_as_is().ok();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), format!("payload\nsave-args\n{file}\none two\n\n"));
}

#[test]
fn a_failing_hook_fails_the_start_and_its_stderr_is_reported() {
    if peer_differs(&["runc<1.2"], "does not name the kind of the hook") {
        return;
    }
    for kind in ["prestart", "createRuntime", "createContainer"] {
        let bundle = Bundle::new(kind).hook(kind, &["complain", "alas", "+", "echo", "oh", "+", "exit", "3"], &[]);
        for verb in ["create", "run"] {
            let output = bundle.launch(verb, &[]).finish();
            let phrase = format!("error running {kind} hook #0: exit status 3, stdout: oh\n, stderr: alas\n");
            let output = output.fails(1, &format!("error running {kind} hook #0: exit status 3"));
            let said = output.stderr.replace("\\n", "\n");
            assert!(said.contains(&phrase) || peer_differs(&["crun"], "keeps the words"), "{output}");
            bundle.nothing_left();
        }
        bundle.verb(&["state", &bundle.id]).fails(1, "container does not exist");
    }
}

#[test]
fn errors_number_hooks_from_0() {
    if peer_differs(&["runc<1.2"], "does not name the kind of the hook") {
        return;
    }
    let bundle = Bundle::new("second").hook("prestart", &["true"], &[]).hook("prestart", &["exit", "9"], &[]);
    bundle.run_as_is().fails(1, "error running prestart hook #1: exit status 9");
}

#[test]
fn a_failing_start_container_hook_prevents_the_payload() {
    if peer_differs(&["runc<1.2"], "returns before it knows") {
        return;
    }
    let bundle = inside(Bundle::new("start-hook").hook("startContainer", &["exit", "5"], &[]), "startContainer");
    let bundle = bundle.sees(&["write", "/ran", "x"]);
    let output = bundle.run_as_is();
    assert_ne!(output.code, 0, "{output}");
    // 255: the start failed after init had continued
    assert!(output.code == 255 || peer_differs(&["crun"], "another status"), "{output}");
    assert!(!bundle.rootfs().join("ran").exists());
    bundle.nothing_left();
}

#[test]
fn a_failing_poststart_hook_ends_the_container() {
    if peer_differs(&["runc<1.5"], "runs poststart hooks at create") {
        return;
    }
    let bundle = Bundle::new("poststart").hook("poststart", &["exit", "5"], &[]).sees(&["pause"]);
    let output = bundle.run_as_is();
    assert_ne!(output.code, 0);
    output.fails(1, "error running poststart hook #0: exit status 5");
    bundle.nothing_left();
    bundle.create().ok();
    let output = bundle.start();
    assert_ne!(output.code, 0, "start must fail: {output}");
    until("the payload to be dead", || {
        let state = bundle.verb(&["state", &bundle.id]);
        (state.code != 0 || state.stdout.contains("stopped")).then_some(())
    });
    bundle.down();
}

#[test]
fn a_failing_poststop_hook_is_a_warning() {
    if peer_differs(&["runc<1.5", "crun"], "the next hook does not run, or nothing is said") {
        return;
    }
    let bundle = Bundle::new("poststop").hook("poststop", &["exit", "5"], &[]).sees(&["true"]);
    let bundle = logs(bundle, "poststop", "the next one");
    let output = bundle.run_as_is().ok();
    assert!(output.stderr.contains("poststop"), "{output}");
    assert_eq!(log(&bundle), ["the next one"]);
    bundle.nothing_left();
}

#[test]
fn a_missing_hook_program_is_an_error() {
    let bundle = Bundle::new("no-hook").set("/hooks/createRuntime/-", json!({"path": "/nosuchhook"}));
    let output = bundle.run_as_is().fails(1, "/nosuchhook");
    let said = output.stderr.to_lowercase().contains("no such file or directory");
    assert!(said || peer_differs(&["crun"], "does not say why"), "{output}");
    bundle.nothing_left();
}

#[test]
fn a_hook_with_a_relative_path_is_refused() {
    for kind in KINDS {
        let bundle = Bundle::new(kind).set(&format!("/hooks/{kind}/-"), json!({"path": "bin/hook"}));
        // refused before anything is created, whenever the hook would run
        if !peer_differs(&["runc", "crun"], "looks when its time comes, or does not look") {
            bundle.create().fails(1, &format!("hooks.{kind}[0].path: \"bin/hook\" must be an absolute path"));
        } else if kind == "createRuntime" {
            assert_ne!(bundle.run_as_is().code, 0);
        }
        bundle.nothing_left();
    }
}

#[test]
fn a_hook_that_takes_too_long_is_killed() {
    let mut bundle = Bundle::new("slow-hook").hook("createRuntime", &["pause"], &["MARK=yes"]);
    bundle.config["hooks"]["createRuntime"][0]["timeout"] = json!(1);
    let begun = Instant::now();
    let output = bundle.run_as_is();
    assert!(begun.elapsed() < crate::support::limit(20), "{output}");
    output.fails(1, "hook ran past specified timeout of 1.0s");
    bundle.nothing_left();
}

#[test]
fn a_hook_need_not_read_its_stdin() {
    // the state is larger than a pipe's buffer: writing it must neither block nor fail if the hook does not read
    let bundle = Bundle::new("deaf-hook").set("/annotations", json!({"big": "x".repeat(200_000)}));
    bundle.hook("createRuntime", &["true"], &[]).run(&["true"]).ok();
}

#[test]
fn output_of_a_successful_hook_is_discarded() {
    let output = Bundle::new("quiet")
        .hook("createRuntime", &["echo", "noise", "+", "complain", "noise"], &[])
        .run(&["true"])
        .ok();
    if !peer_differs(&["crun"], "lets hooks write on its own output") {
        assert_eq!(output.stdout + &output.stderr, "");
    }
}

#[test]
fn hooks_have_three_descriptors() {
    let bundle = Bundle::new("hook-fds");
    let file = bundle.path("fds");
    let bundle = bundle.hook("createRuntime", &["save-fds", file.to_str().unwrap()], &[]).sees(&["true"]);
    bundle.run_as_is().ok();
    let open = std::fs::read_to_string(file).unwrap();
    let open: Vec<&str> = open.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(open, ["0", "1", "2"]);
}

/// config.md leaves it open; runc and crun agree (nvidia's and Podman's hooks want `PATH`).
#[test]
fn hooks_of_the_host_without_an_environment_have_the_runtimes() {
    let mut bundle = Bundle::new("hook-env").sees(&["true"]);
    let kinds = ["prestart", "createRuntime", "poststart", "poststop"];
    for kind in kinds {
        let file = bundle.path(kind).display().to_string();
        bundle = bundle.hook(kind, &["save-env", &file], &[]);
        bundle.config["hooks"][kind][0].as_object_mut().unwrap().remove("env");
    }
    bundle.launch("run", &[]).env("ONGGI_TEST_CALLER", "is here").finish().ok();
    for kind in kinds {
        let env = std::fs::read_to_string(bundle.path(kind)).unwrap();
        assert!(env.lines().any(|line| line == "ONGGI_TEST_CALLER=is here"), "{kind}: {env}");
    }
    // an environment that is empty is one
    let file = bundle.path("empty").display().to_string();
    let bundle = Bundle::new("hook-env-empty").hook("createRuntime", &["save-env", &file], &[]).sees(&["true"]);
    bundle.launch("run", &[]).env("ONGGI_TEST_CALLER", "is here").finish().ok();
    let env = std::fs::read_to_string(&file).unwrap();
    assert!(!env.contains("ONGGI_TEST_CALLER") || peer_differs(&["runc", "crun"], "takes it for none"), "{env}");
}
