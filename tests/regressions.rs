//! Bugs that users of runtimes have met, and unusual callers.

use crate::support::runtime::Call;
use crate::support::{Bundle, json, kernel, payload, peer_differs, process, until};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

#[test]
fn of_two_concurrent_starts_one_wins() {
    if peer_differs(&["runc", "crun"], "both may succeed, or one waits for ever at the fifo") {
        return;
    }
    for _ in 0..10 {
        let bundle = Bundle::new("two-starts").sees(&["append", "/ran", "once", "+", "pause"]);
        bundle.create().ok();
        let starts: Vec<_> = (0..2).map(|_| bundle.runtime().args(["start", &bundle.id]).start()).collect();
        let codes: Vec<i32> = starts.into_iter().map(|start| start.finish().code).collect();
        let ran = || std::fs::read_to_string(bundle.rootfs().join("ran")).ok();
        until("the payload", || ran().filter(|text| text.ends_with('\n')));
        assert_eq!(ran().unwrap(), "once\n");
        let won = codes.iter().filter(|code| **code == 0).count();
        assert_eq!(won, 1, "{codes:?}");
        bundle.down();
    }
}

/// A caller that does not reap, such as an old Docker shim or a pid 1 that is no real init.
#[test]
fn an_unreaped_container_is_stopped() {
    let bundle = Bundle::new("zombie").sees(&["wait-file", "/go"]);
    bundle.verb(&["--version"]).ok();
    let adopts = std::process::Command::new(payload::binary());
    let adopts =
        Call::new(adopts, &bundle.path("adopts")).env("ONGGI_TEST", &bundle.id).args(["adopt"]).args([&bundle.binary]);
    let adopts = adopts.args(["--root"]).args([bundle.state_root()]).args(["run", "--detach", "--bundle"]);
    let adopts = adopts.args([&bundle.dir]).args([&bundle.id]).start();
    until("the container", || adopts.stdout().contains("adopted").then_some(()));
    let pid = bundle.pid();
    std::fs::write(bundle.rootfs().join("go"), "").unwrap();
    until("a zombie", || (kernel::process_state(pid) == Some('Z')).then_some(()));
    assert_eq!(bundle.status(), "stopped");
    bundle.kill("KILL").fails(1, "container not running");
    let begun = std::time::Instant::now();
    bundle.delete().ok();
    assert!(begun.elapsed() < crate::support::limit(5), "delete waited for somebody to reap");
    adopts.kill(libc::SIGKILL);
    adopts.finish();
}

/// `delete` of a container without a pid namespace whose init has ended: it kills the other processes or refuses.
#[test]
fn delete_does_not_lose_processes_that_outlive_init() {
    let bundle = Bundle::new("go-on").without_namespace("pid").sees(&["background", "pause", "+", "true"]);
    let pid = bundle.up();
    bundle.exit_code(pid);
    bundle.wait_for("stopped");
    let deleted = bundle.delete();
    if deleted.code == 0 {
        until("the last process to be gone", || kernel::processes_with(&bundle.id).is_empty().then_some(()));
    } else {
        assert!(
            deleted.stderr.contains("not empty") || peer_differs(&["runc<1.2", "crun"], "fails later"),
            "{deleted}"
        );
        bundle.down();
    }
    bundle.nothing_left();
}

#[test]
fn a_rootfs_on_a_shared_mount_propagates_nothing_to_the_host() {
    let bundle = Bundle::new("shared-root").mount("/m", "tmpfs", "tmpfs", &[]).sees(&["pause"]);
    let root = bundle.host_directory("merged");
    mount(Some("root"), &root, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    mount(None::<&str>, &root, None::<&str>, MsFlags::MS_SHARED, None::<&str>).unwrap();
    for name in ["proc", "dev", "sys", "tmp", "etc"] {
        std::fs::create_dir(root.join(name)).unwrap();
    }
    payload::place(&root, payload::INSIDE);
    let bundle = bundle.set("/root/path", root.to_str().unwrap());
    bundle.up();
    let own = kernel::mounts_of(std::process::id().cast_signed());
    let seen: Vec<_> = own.iter().filter(|m| m.point.starts_with(root.to_str().unwrap())).map(|m| &m.point).collect();
    assert_eq!(seen, [root.to_str().unwrap()]);
    bundle.down();
    umount2(&root, MntFlags::MNT_DETACH).unwrap();
}

#[test]
fn callers_with_ignored_or_blocked_signals_are_supported() {
    for n in 0..2 {
        let bundle = Bundle::new("odd-signals").sees(&["exit", "7"]);
        let run = bundle.launch("run", &[]).with(|command| match n {
            0 => process::ignoring(command, libc::SIGCHLD),
            _ => process::blocking(command),
        });
        if n == 0 && peer_differs(&["crun"], "loses the status where SIGCHLD is ignored") {
            continue;
        }
        run.start().finish_within(crate::support::limit(20)).code(7);
    }
}

#[test]
fn a_run_that_waits_for_its_configuration_can_be_killed() {
    if peer_differs(&["runc"], "takes no other file than config.json") {
        return;
    }
    let bundle = Bundle::new("config-pipe");
    let pipe = bundle.path("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let run = bundle.launch("run", &["--config", pipe.to_str().unwrap()]).with(process::with_default_signals).start();
    until("it waits", || kernel::status_field(run.pid, "State").filter(|state| state.starts_with('S')));
    run.kill(libc::SIGTERM);
    run.finish_within(crate::support::limit(20)).code(128 + libc::SIGTERM);
}

#[test]
fn the_callers_umask_has_no_effect() {
    let bundle = Bundle::new("callers-umask").mount("/new/target", "tmpfs", "tmpfs", &["mode=0755"]);
    let bundle = bundle
        .set("/process/cwd", "/job/dir")
        .set("/linux/devices", json!([{"path": "/dev/mine", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666}]));
    let words = ["stat", "/dev/null", "/dev/mine", "/new", "/job", "/job/dir", "+", "umask"];
    let run = bundle.sees(&words);
    let output = run.launch("run", &[]).with(|command| process::with_umask(command, 0o077)).finish().ok();
    let output = output.has("/dev/null.mode", "0666").has("/dev/mine.mode", "0666").has("umask", "0022");
    if !peer_differs(&["runc", "crun"], "makes directories under the caller's mask") {
        output.has("/new.mode", "0755").has("/job.mode", "0755").has("/job/dir.mode", "0755");
    }
}

#[test]
fn a_low_descriptor_limit_is_enough() {
    let mut bundle = Bundle::new("few-fds").without("/process/rlimits");
    for n in 0..40 {
        bundle = bundle.mount(&format!("/m/{n}"), "tmpfs", "tmpfs", &[]);
    }
    let bundle = bundle.sees(&["exit", "7"]);
    bundle.launch("run", &[]).with(|command| process::with_descriptors(command, 64)).finish().code(7);
}

#[test]
fn many_mounts_work() {
    let mut bundle = Bundle::new("many-mounts");
    let file = bundle.host_file("file", "x");
    for n in 0..300 {
        bundle = bundle.bind(&file, &format!("/files/{n}"), &["rbind", "ro", "rprivate"]);
    }
    let output = bundle.run(&["mountinfo"]).ok();
    let made = kernel::mounts(&output.stdout).into_iter().filter(|m| m.point.starts_with("/files/") && m.has("ro"));
    assert_eq!(made.count(), 300);
}

#[test]
fn long_arguments_and_environments_are_passed_whole() {
    let long = "x".repeat(100_000);
    let output =
        Bundle::new("long").set("/process/env/-", format!("LONG={long}")).run(&["echo", &long, "+", "env"]).ok();
    assert!(output.stdout.starts_with(&long) && output.stdout.contains(&format!("LONG={long}\n")));
    // execve accepts no string of more than 32 pages
    let bundle = Bundle::new("too-long").sees(&["echo", &"x".repeat(200_000)]);
    let output = bundle.run_as_is();
    assert!(output.code != 0 && output.stderr.to_lowercase().contains("argument list too long"), "{}", output.stderr);
    bundle.nothing_left();
}

#[test]
fn a_too_long_hostname_is_reported() {
    let bundle = Bundle::new("long-name").set("/hostname", "x".repeat(65));
    let output = bundle.run_as_is();
    assert!(output.code != 0 && output.stderr.contains("hostname"), "{output}");
    bundle.nothing_left();
}

#[test]
fn a_closed_stdout_pipe_does_not_hang_the_runtime() {
    let bundle = Bundle::new("broken-pipe").sees(&["flood", "100000"]);
    let (reader, writer) = nix::unistd::pipe().unwrap();
    drop(reader);
    let run = bundle.launch("run", &[]).stdio(&writer);
    drop(writer);
    let output = run.start().finish_within(crate::support::limit(20));
    assert!((0..=255).contains(&output.code));
    bundle.nothing_left();
}

#[test]
fn relative_paths_are_resolved_in_the_callers_directory() {
    if peer_differs(&["crun"], "takes the pid file for one of the bundle's") {
        return;
    }
    let bundle = Bundle::new("relative").sees(&["pause"]);
    let elsewhere = bundle.host_directory("elsewhere");
    let call = bundle.runtime().args(["create", "--bundle", "..", "--pid-file", "the.pid", &bundle.id]);
    call.within(&elsewhere).finish().ok();
    assert_eq!(std::fs::read_to_string(elsewhere.join("the.pid")).unwrap(), bundle.pid().to_string());
    assert_eq!(bundle.state()["bundle"], bundle.dir.to_str().unwrap());
    bundle.down();
}

#[test]
fn a_relative_state_root_is_resolved_in_the_callers_directory() {
    let bundle = Bundle::new("relative-root").sees(&["pause"]);
    let runtime = |args: &[&str]| {
        let mut command = std::process::Command::new(&bundle.binary);
        command.current_dir(&bundle.dir).args(["--root", "state"]).env("ONGGI_TEST", &bundle.id);
        Call::new(command, &bundle.path("relative")).args(args).finish()
    };
    bundle.verb(&["--version"]).ok();
    runtime(&["create", &bundle.id]).ok();
    assert_eq!(bundle.status(), "created");
    runtime(&["start", &bundle.id]).ok();
    runtime(&["delete", "--force", &bundle.id]).ok();
    assert!(bundle.verb(&["state", &bundle.id]).code != 0);
}

#[test]
fn kill_with_signal_0_checks_for_existence() {
    if peer_differs(&["crun"], "knows no signal 0") {
        return;
    }
    let bundle = Bundle::new("signal-0").sees(&["true"]);
    bundle.create().ok();
    let pid = bundle.pid();
    bundle.kill("0").ok();
    bundle.start().ok();
    bundle.exit_code(pid);
    bundle.wait_for("stopped");
    bundle.kill("0").fails(1, "container not running");
    bundle.delete().ok();
}

#[test]
fn annotations_keep_every_character() {
    let text = "ünï \u{1f3fa} \"quoted\" \\ / \u{7f} \u{1}\n<html>&";
    let bundle = Bundle::new("letters").set("/annotations", json!({"key \u{e9}": text})).sees(&["pause"]);
    bundle.create().ok();
    assert_eq!(bundle.state()["annotations"]["key \u{e9}"], text);
    bundle.down();
}

#[test]
fn a_large_document_is_read() {
    let many: serde_json::Map<String, crate::support::Value> =
        (0..5000).map(|n| (format!("org.example/{n}"), json!("x".repeat(100)))).collect();
    let bundle = Bundle::new("large").set("/annotations", many);
    bundle.run(&["exit", "7"]).code(7);
}
