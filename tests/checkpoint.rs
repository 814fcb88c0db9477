//! Checkpoint and restore with CRIU: a restored container continues where it was, with everything that belongs to it.
//!
//! `scripts/criu.sh` finds or fetches a CRIU that works on this kernel; its directory must be on PATH.

use crate::support::tty::{Receiver, Terminal};
use crate::support::{Bundle, Output, Value, json, kernel, not_here, payload, peer_differs, until, world};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// A container that counts in memory and writes the count to a file that the host reads.
pub(crate) fn counting(name: &str) -> Bundle {
    Bundle::new(name).sees(&["tally", "/tmp/n"])
}

pub(crate) fn count(bundle: &Bundle) -> u64 {
    until("a number", || std::fs::read_to_string(bundle.rootfs().join("tmp/n")).ok()?.parse().ok())
}

/// Asserts that the container continues to count from `from` and does not start again.
pub(crate) fn counts_on(bundle: &Bundle, from: u64) {
    until("the count to go on", || (count(bundle) != from).then_some(()));
    let now = count(bundle);
    assert!(now > from && now < from + 100_000, "{from}, then {now}");
}

pub(crate) fn nothing() -> OwnedFd {
    File::options().read(true).write(true).open("/dev/null").unwrap().into()
}

/// Whether CRIU cannot work here: User Mode Linux does not let it read the registers of processes.
pub(crate) fn not_possible() -> bool {
    let uml = std::fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| text.contains("User Mode Linux"));
    uml && not_here("CRIU does not work in User Mode Linux")
}

impl Bundle {
    fn images(&self) -> PathBuf {
        self.path("images")
    }

    /// Runs the container detached, without standard streams.
    fn go(&self) {
        self.launch("run", &["--detach"]).stdio(&nothing()).finish().ok();
    }

    pub(crate) fn checkpoint(&self, flags: &[&str]) -> Output {
        let call = self.runtime().args(["checkpoint", "--image-path"]).arg(self.images());
        call.args(flags).arg(&self.id).finish()
    }

    fn restore(&self, flags: &[&str]) -> crate::support::runtime::Call {
        let images = self.images();
        let flags: Vec<&str> = ["--image-path", images.to_str().unwrap()].iter().chain(flags).copied().collect();
        self.launch("restore", &flags)
    }

    pub(crate) fn back(&self) {
        self.restore(&["--detach"]).finish().ok();
    }

    /// Starts the container, checkpoints it, and checks that it is gone; returns the count.
    pub(crate) fn saved(&self) -> u64 {
        self.go();
        until("some counting", || (count(self) > 20).then_some(()));
        self.checkpoint(&[]).ok();
        self.nothing_left();
        count(self)
    }
}

#[test]
fn memory_is_restored() {
    if not_possible() {
        return;
    }
    let bundle = counting("memory");
    let before = bundle.saved();
    assert!(bundle.images().join("core-1.img").is_file() && bundle.images().join("descriptors.json").is_file());
    bundle.verb(&["state", &bundle.id]).fails(1, "container does not exist");

    let file = bundle.path("pid");
    bundle.restore(&["--detach", "--pid-file", file.to_str().unwrap()]).finish().ok();
    counts_on(&bundle, before);
    let state = bundle.state();
    assert_eq!((&state["status"], &state["id"]), (&json!("running"), &json!(bundle.id)));
    assert_eq!(std::fs::read_to_string(file).unwrap(), bundle.pid().to_string());
    assert_eq!(kernel::status_field(bundle.pid(), "NSpid").unwrap().split_whitespace().last(), Some("1"));
    let exec = bundle.verb(&["exec", &bundle.id, payload::INSIDE, "uname", "+", "ls", "/dev"]).ok();
    assert!(exec.stdout.contains("onggi-test") && exec.stdout.contains("urandom"), "{exec}");
    bundle.down();
}

#[test]
fn leave_running_and_repeated_checkpoints_work() {
    if not_possible() {
        return;
    }
    let bundle = counting("leave");
    bundle.go();
    let pid = bundle.pid();
    let before = count(&bundle);
    bundle.checkpoint(&["--leave-running"]).ok();
    counts_on(&bundle, before);
    assert_eq!((bundle.pid(), bundle.status().as_str()), (pid, "running"));
    std::fs::remove_dir_all(bundle.images()).unwrap();
    bundle.checkpoint(&[]).ok();
    let before = count(&bundle);
    bundle.back();
    counts_on(&bundle, before);
    // a restored container can be checkpointed again
    std::fs::remove_dir_all(bundle.images()).unwrap();
    bundle.checkpoint(&["--manage-cgroups-mode", "ignore", "--file-locks", "--tcp-established", "--ext-unix-sk"]).ok();
    let before = count(&bundle);
    bundle.restore(&["--detach", "--manage-cgroups-mode", "ignore"]).finish().ok();
    counts_on(&bundle, before);
    bundle.down();
}

#[test]
fn a_paused_container_can_be_checkpointed() {
    if not_possible() {
        return;
    }
    let bundle = counting("paused");
    bundle.go();
    count(&bundle);
    bundle.verb(&["pause", &bundle.id]).ok();
    let before = count(&bundle);
    bundle.checkpoint(&[]).ok();
    bundle.back();
    counts_on(&bundle, before);
    bundle.down();
}

#[test]
fn pre_dump_saves_memory_in_advance() {
    if not_possible() {
        return;
    }
    let bundle = counting("ahead");
    bundle.go();
    let before = count(&bundle);
    let parent = bundle.path("ahead");
    let call =
        bundle.runtime().args(["checkpoint", "--pre-dump", "--image-path"]).arg(&parent).arg(&bundle.id).finish();
    if call.code != 0 {
        // tracking of written pages needs CONFIG_MEM_SOFT_DIRTY
        let call = call.fails(1, "criu is missing features: [MemTrack]");
        assert!(!parent.join("pages-1.img").exists(), "{call}");
        assert!(not_here("the kernel does not track written pages: pre-dump is refused"));
    } else {
        assert!(parent.join("pages-1.img").is_file());
        counts_on(&bundle, before);
        bundle.checkpoint(&["--parent-path", "../ahead"]).ok();
        assert!(bundle.images().join("parent").exists());
        let before = count(&bundle);
        bundle.back();
        counts_on(&bundle, before);
    }
    bundle.down();
}

#[test]
fn foreground_restore_forwards_signals_and_output() {
    if not_possible() || peer_differs(&["runc"], "does not save a container whose output goes to a file of the host") {
        return;
    }
    let bundle = Bundle::new("log").sees(&["trap"]);
    let log = bundle.host_file("log", "begin\n");
    let open = || OwnedFd::from(File::options().read(true).append(true).open(&log).unwrap());
    let said = || std::fs::read_to_string(&log).unwrap();
    bundle.launch("run", &["--detach"]).stdio(&open()).finish().ok();
    until("the trap", || said().contains("trap: ready").then_some(()));
    bundle.checkpoint(&[]).ok();
    let running = bundle.restore(&[]).stdio(&open()).start();
    until("the container", || bundle.verb(&["state", &bundle.id]).stdout.contains("running").then_some(()));
    running.kill(libc::SIGTERM);
    running.finish().code(42);
    let said = said();
    // the output may also report a wait that the checkpoint interrupted
    let ends = format!("signal: {}\n", libc::SIGTERM);
    assert!(said.starts_with("begin\ntrap: ready\nsignal: ") && said.ends_with(&ends), "{said}");
    bundle.nothing_left();
}

#[test]
fn foreground_restore_returns_the_exit_status() {
    if not_possible() || peer_differs(&["runc"], "waits on, though the container has ended") {
        return;
    }
    let bundle = Bundle::new("killed").sees(&["tally", "/tmp/n"]);
    let pipe = || std::io::pipe().unwrap();
    let (_first, writer) = pipe();
    bundle.launch("run", &["--detach"]).stdio(&writer.into()).finish().ok();
    let before = count(&bundle);
    bundle.checkpoint(&[]).ok();
    let (_second, writer) = pipe();
    let running = bundle.restore(&[]).stdio(&writer.into()).start();
    until("the container", || bundle.verb(&["state", &bundle.id]).stdout.contains("running").then_some(()));
    counts_on(&bundle, before);
    bundle.kill("KILL").ok();
    running.finish().code(137);
    bundle.nothing_left();
}

#[test]
fn a_restored_terminal_has_a_new_master() {
    if not_possible() {
        return;
    }
    let bundle = Bundle::new("terminal").set("/process/terminal", true).sees(&["wait-size", "44", "99", "+", "pause"]);
    let socket = |name: &str| Receiver::new(&bundle.path(name));
    let first = socket("a.sock");
    bundle.launch("run", &["--detach", "--console-socket", first.path.to_str().unwrap()]).finish().ok();
    let _first = first.take();
    bundle.checkpoint(&[]).ok();
    let second = socket("b.sock");
    let flags = ["--detach", "--console-socket", second.path.to_str().unwrap()];
    bundle.restore(&flags).finish().ok();
    let (master, name) = second.take();
    assert!(!name.is_empty());
    let mut terminal = Terminal::of(master);
    terminal.resize(44, 99);
    terminal.wait_for("size: 44 99");
    bundle.down();
}

#[test]
fn bind_mounts_and_masks_are_restored() {
    if not_possible() {
        return;
    }
    let mut bundle = counting("binds").symlink("/way", "/tmp").file("/etc/secret", "x");
    let (directory, file) = (bundle.host_directory("data"), bundle.host_file("one", "first"));
    let other = bundle.host_file("two", "second");
    bundle = bundle
        .bind(&directory, "/data", &["rbind"])
        .bind(&file, "/data/deep/one", &["bind", "ro"])
        .bind(&other, "/way/linked", &["bind"])
        .mount("/scratch", "tmpfs", "tmpfs", &["size=1m"])
        .bind(&file, "/scratch/one", &["bind"]);
    bundle = bundle.set("/linux/maskedPaths/-", "/nowhere").set("/linux/maskedPaths/-", "/etc/secret");
    let before = bundle.saved();
    // as on another machine: other contents, and mount points that the runtime created are missing
    std::fs::write(&file, "second").unwrap();
    std::fs::remove_dir_all(directory.join("deep")).unwrap();
    std::fs::remove_file(bundle.rootfs().join("tmp/linked")).unwrap();
    std::fs::remove_dir(bundle.rootfs().join("scratch")).unwrap();
    bundle.back();
    counts_on(&bundle, before);
    let look = |words: &[&str]| {
        let words: Vec<&str> = ["exec", &bundle.id, payload::INSIDE].iter().chain(words).copied().collect();
        bundle.verb(&words).ok()
    };
    for path in ["/data/deep/one", "/tmp/linked", "/scratch/one"] {
        assert_eq!(look(&["cat", path]).stdout, "second", "{path}");
    }
    look(&["open", "/data/deep/one", "w"]).has("open /data/deep/one w", "EROFS");
    look(&["write", "/data/new", "x"]).has("write /data/new", "ok");
    assert_eq!(std::fs::read_to_string(directory.join("new")).unwrap(), "x");
    look(&["stat", "/etc/secret"]).has("/etc/secret.rdev", "1:3");
    look(&["open", "/proc/sys/kernel/hostname", "w"]).has("open /proc/sys/kernel/hostname w", "EROFS");
    look(&["ls", "/proc/acpi"]).has("ls /proc/acpi", "");
    bundle.down();
}

#[test]
fn host_devices_are_restored() {
    if not_possible() {
        return;
    }
    let mut bundle = counting("host-dev").file("/etc/secret", "x").set("/linux/maskedPaths", json!(["/etc/secret"]));
    for inside in ["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"] {
        bundle = bundle.without_mount(inside);
    }
    let bundle = bundle.bind("/dev", "/dev", &["bind"]);
    let before = bundle.saved();
    bundle.back();
    counts_on(&bundle, before);
    let exec = bundle.verb(&["exec", &bundle.id, payload::INSIDE, "stat", "/etc/secret", "/dev/null"]).ok();
    exec.has("/etc/secret.rdev", "1:3").has("/dev/null.rdev", "1:3");
    bundle.down();
}

#[test]
fn cgroup_and_limits_are_restored() {
    if not_possible() {
        return;
    }
    let bundle = counting("limits").set("/linux/resources/pids", json!({"limit": 33}));
    if !world::has_controller("pids") {
        assert!(not_here("no pids controller"));
        return;
    }
    let before = bundle.saved();
    bundle.back();
    counts_on(&bundle, before);
    assert_eq!(bundle.cgroup_file("pids", "pids.max"), "33");
    assert_eq!(kernel::cgroup_of(bundle.pid(), "pids"), bundle.cgroup());
    bundle.verb(&["pause", &bundle.id]).ok();
    assert_eq!(bundle.status(), "paused");
    bundle.verb(&["resume", &bundle.id]).ok();
    bundle.down();
}

#[test]
fn a_joined_network_namespace_is_restored() {
    if not_possible() {
        return;
    }
    let [first, second] = ["first", "second"].map(|name| Bundle::new(name).sees(&["pause"]));
    let given = |owner: &Bundle| format!("/proc/{}/ns/net", owner.up());
    let bundle = counting("given").namespace("network", Some(&given(&first)));
    let before = bundle.saved();
    let path = given(&second);
    let bundle = bundle.namespace("network", Some(&path));
    bundle.back();
    counts_on(&bundle, before);
    assert_eq!(kernel::namespace(bundle.pid(), "net"), kernel::namespace(second.pid(), "net"));
    [&bundle, &first, &second].into_iter().for_each(Bundle::down);
}

#[test]
fn id_mappings_are_restored() {
    if not_possible() || peer_differs(&["runc"], "closes the images to who is root in the container") {
        return;
    }
    let bundle = counting("mapped").user_namespace();
    let before = bundle.saved();
    bundle.back();
    counts_on(&bundle, before);
    assert_eq!(kernel::status_field(bundle.pid(), "Uid").unwrap().split_whitespace().next(), Some("100000"));
    bundle.verb(&["exec", &bundle.id, payload::INSIDE, "stat", "/dev/null"]).ok().has("/dev/null.rdev", "1:3");
    bundle.down();
}

#[test]
fn runtime_hooks_run_at_restore() {
    if not_possible() {
        return;
    }
    let mut bundle = counting("hooks");
    let log = bundle.path("hooks").to_str().unwrap().to_owned();
    for kind in ["prestart", "createRuntime", "poststop"] {
        bundle = bundle.hook(kind, &["append", &log, kind], &[]);
    }
    let document = bundle.path("document").to_str().unwrap().to_owned();
    bundle = bundle.hook("createRuntime", &["save", &document], &[]);
    bundle.saved();
    std::fs::remove_file(&log).unwrap();
    bundle.back();
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "prestart\ncreateRuntime\n");
    let document: Value = serde_json::from_slice(&std::fs::read(document).unwrap()).unwrap();
    assert_eq!((&document["id"], &document["pid"]), (&json!(bundle.id), &json!(bundle.pid())));
    bundle.down();
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "prestart\ncreateRuntime\npoststop\n");
}

#[test]
fn a_failing_hook_fails_the_restore() {
    if not_possible() {
        return;
    }
    let bundle = counting("hook-fails");
    let before = bundle.saved();
    let bundle = bundle.hook("createRuntime", &["exit", "3"], &[]);
    let file = bundle.path("pid");
    let call = bundle.restore(&["--detach", "--pid-file", file.to_str().unwrap()]).finish();
    call.fails(1, "exit status 3");
    assert!(!file.exists());
    bundle.nothing_left();
    assert_eq!(count(&bundle), before, "it ran");
}

#[test]
fn a_failed_checkpoint_leaves_the_container_running() {
    if not_possible() {
        return;
    }
    let bundle = counting("fails");
    bundle.checkpoint(&[]).fails(1, "container does not exist");
    bundle.go();
    for (flags, phrase) in [
        (&["--manage-cgroups-mode", "hard"][..], "invalid manage-cgroups-mode value"),
        (&["--empty-ns", "mount"], "namespace \"mount\" is not supported"),
        (&["--page-server", "here"], "Use --page-server ADDRESS:PORT to specify page server"),
        (&["--parent-path", "/tmp"], "--parent-path must be relative"),
        (&["--parent-path", "../nowhere"], "invalid --parent-path"),
    ] {
        bundle.checkpoint(flags).fails(1, phrase);
    }
    let path = bundle.host_directory("bin");
    let call = bundle.runtime().env("PATH", &path).args(["checkpoint", "--image-path"]).arg(bundle.images());
    call.arg(&bundle.id).finish().fails(1, "exec: \"criu\": executable file not found in $PATH");
    // a criu that exits without an answer, as one that is too old does, and one that is killed
    for (script, phrase) in [("exit 0", "criu ended without an answer"), ("kill -KILL $$", "criu ended without")] {
        executable(&path.join("criu"), &format!("#!/bin/sh\n{script}\n"));
        let call = bundle.runtime().env("PATH", &path).args(["checkpoint", "--image-path"]).arg(bundle.images());
        let call = call.arg(&bundle.id).finish();
        if !peer_differs(&["runc"], "says it in other words") {
            call.fails(1, phrase);
        }
    }
    let before = count(&bundle);
    counts_on(&bundle, before);
    assert_eq!(bundle.status(), "running");
    bundle.down();
}

fn executable(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
}

#[test]
fn crius_error_is_reported() {
    if not_possible() {
        return;
    }
    // a file on a mount that is not in the container
    let bundle = counting("reason");
    let secret = File::open(bundle.host_file("secret", "")).unwrap();
    let call = bundle.launch("run", &["--detach", "--preserve-fds", "1"]).stdio(&nothing());
    let fds = vec![(3, crate::support::tty::high(&secret))];
    call.with(|command| crate::support::tty::inherit(command, fds)).finish().ok();
    let work = bundle.path("work");
    let output = bundle.checkpoint(&["--work-path", work.to_str().unwrap()]).fails(1, "criu failed: type DUMP errno");
    assert!(work.join("dump.log").is_file() && !bundle.images().join("dump.log").exists());
    assert!(output.stderr.contains("Can't lookup mount"), "{output}");
    let before = count(&bundle);
    counts_on(&bundle, before);
    bundle.down();
}

#[test]
fn a_failed_restore_leaves_nothing() {
    if not_possible() {
        return;
    }
    let bundle = counting("broken");
    bundle.restore(&["--detach"]).finish().fails(1, "no such file or directory");
    bundle.saved();
    bundle.go();
    bundle.restore(&["--detach"]).finish().fails(1, "container with given ID already exists");
    assert_eq!(bundle.status(), "running");
    bundle.down();
    std::fs::write(bundle.images().join("core-1.img"), "no image").unwrap();
    bundle.restore(&["--detach"]).finish().fails(1, "criu failed: type RESTORE errno");
    bundle.nothing_left();
    assert!(bundle.rootfs().join("tmp/n").exists(), "the root file system went with the state");
    std::fs::remove_file(bundle.images().join("descriptors.json")).unwrap();
    bundle.restore(&["--detach"]).finish().fails(1, "descriptors.json: no such file or directory");
    bundle.nothing_left();
}

#[test]
fn a_killed_restore_can_be_deleted() {
    if not_possible() || peer_differs(&["runc"], "leaves the root mounted in the state directory") {
        return;
    }
    let bundle = counting("cut");
    bundle.saved();
    let file = |name: &str| bundle.path(name).to_str().unwrap().to_owned();
    let (reached, go) = (file("reached"), file("go"));
    let bundle = bundle.hook("createRuntime", &["write", &reached, ""], &[]);
    let bundle = bundle.hook("createRuntime", &["wait-file", &go], &[]);
    let running = bundle.restore(&["--detach"]).start();
    until("the hook", || Path::new(&reached).exists().then_some(()));
    running.kill(libc::SIGKILL);
    running.finish().code(137);
    std::fs::write(&go, "").unwrap();
    bundle.down();
    bundle.nothing_left();
    assert!(bundle.rootfs().join("tmp/n").exists(), "the root file system went with the state");
}

#[test]
fn only_a_running_container_can_be_checkpointed() {
    let bundle = Bundle::new("states").sees(&["pause"]);
    bundle.create().ok();
    bundle.checkpoint(&[]).fails(1, "Container cannot be checkpointed in created state");
    bundle.start().ok();
    bundle.kill("KILL").ok();
    bundle.wait_for("stopped");
    bundle.checkpoint(&[]).fails(1, "Container cannot be checkpointed in stopped state");
    bundle.delete().ok();
}

#[test]
fn checkpoint_reports_missing_support_as_engines_expect() {
    let probe = |args: &[&str]| Bundle::new("probe").verb(args);
    assert!(probe(&["checkpoint", "--help"]).ok().stdout.contains("--leave-running"));
    // Podman uses this to find out whether the flag is supported
    let said = probe(&["restore", "--lsm-mount-context"]);
    assert!(said.code != 0 && said.stderr.contains("flag needs an argument"), "{said}");
    let features = probe(&["features"]).ok().json();
    assert_eq!(features["annotations"]["org.opencontainers.runc.checkpoint.enabled"], "true");
}
