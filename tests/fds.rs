//! Descriptors: none leaks into the container, preserved ones are passed, and the sockets of callers (pidfd, sd_notify).

use crate::support::runtime::Call;
use crate::support::tty::{Receiver, high, inherit};
use crate::support::{Bundle, Runtime, json, kernel, peer_differs, until};
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;

fn open(bundle: &Bundle, name: &str, text: &str) -> OwnedFd {
    high(&File::open(bundle.host_file(name, text)).unwrap())
}

#[test]
fn the_payload_has_three_descriptors() {
    let output = Bundle::new("three").run(&["fds"]).ok();
    let open: Vec<&str> = output.stdout.lines().map(|line| line.split(':').next().unwrap()).collect();
    assert_eq!(open, ["fd.0", "fd.1", "fd.2"], "{output}");
}

#[test]
fn descriptors_of_the_caller_stay_outside() {
    let bundle = Bundle::new("leak").sees(&["fds", "+", "pause"]);
    let directory = high(&File::open("/").unwrap());
    let fds = vec![(3, open(&bundle, "three", "3")), (7, directory), (40, open(&bundle, "forty", "40"))];
    bundle.launch("create", &[]).with(|command| inherit(command, fds)).finish().ok();
    let pid = bundle.pid();
    bundle.start().ok();
    bundle.hears("fd.2");
    let names: Vec<String> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(names, ["0", "1", "2"], "{}", bundle.printed());
    bundle.down();
}

#[test]
fn descriptors_are_preserved_when_asked() {
    let bundle = Bundle::new("preserve").sees(&["fds", "+", "read", "/proc/self/fd/3", "/proc/self/fd/4", "+", "env"]);
    let fds = vec![(3, open(&bundle, "three", "3")), (4, open(&bundle, "four", "4")), (5, open(&bundle, "five", "5"))];
    let call = bundle.launch("run", &["--preserve-fds", "2"]).with(|command| inherit(command, fds));
    let output = call.finish().ok().has("read /proc/self/fd/3", "1 \"3\"").has("read /proc/self/fd/4", "1 \"4\"");
    assert_eq!(output.get("fd.5"), None, "{output}");
    assert!(!output.stdout.contains("LISTEN_FDS"), "{output}");
}

#[test]
fn descriptors_of_socket_activation_are_preserved() {
    if peer_differs(&["crun"], "sets LISTEN_PID only") {
        return;
    }
    let bundle = Bundle::new("listen").sees(&["fds", "+", "read", "/proc/self/fd/3", "+", "env"]);
    let fds = vec![(3, open(&bundle, "three", "3")), (4, open(&bundle, "four", "4"))];
    // LISTEN_PID must be the runtime's pid, as with systemd: a shell sets it and then executes the runtime
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "LISTEN_PID=$$ exec \"$@\"", "sh"]).arg(&Runtime::get().path).current_dir(&bundle.dir);
    bundle.verb(&["--version"]).ok();
    let call = Call::new(shell, &bundle.path("shell")).args(["--root"]).args([bundle.state_root()]);
    let call = call.args(["run", &bundle.id]).env("LISTEN_FDS", "1").with(|command| inherit(command, fds));
    let output = call.finish().ok().has("read /proc/self/fd/3", "1 \"3\"").says("LISTEN_FDS=1").says("LISTEN_PID=1");
    assert_eq!(output.get("fd.4"), None, "{output}");
}

/// `sd_listen_fds(3)`: the descriptors are not ours if `LISTEN_PID` is another process; these numbers may be anything.
#[test]
fn socket_activation_for_another_pid_is_ignored() {
    if peer_differs(&["crun"], "takes them") {
        return;
    }
    for pid in [None, Some("1"), Some("x")] {
        let bundle = Bundle::new("listen-other").sees(&["fds", "+", "env"]);
        let fds = vec![(3, open(&bundle, "three", "3"))];
        let call = bundle.launch("run", &[]).env("LISTEN_FDS", "1").with(|command| inherit(command, fds));
        let call = if let Some(pid) = pid { call.env("LISTEN_PID", pid) } else { call };
        let output = call.finish().ok();
        assert_eq!(output.get("fd.3"), None, "{pid:?}: {output}");
        assert!(!output.stdout.contains("LISTEN_"), "{pid:?}: {output}");
    }
    // they need not even be open
    let bundle = Bundle::new("listen-none").sees(&["true"]);
    bundle.launch("run", &[]).env("LISTEN_FDS", "7").finish().ok();
}

/// Podman's `--preserve-fd 8` asks for six and has one open. The payload finds the others as its caller left them: nothing of
/// ours lies there.
#[test]
fn numbers_that_are_not_open_stay_closed_among_the_preserved() {
    if peer_differs(&["runc"], "refuses them") {
        return;
    }
    let bundle = Bundle::new("holes").sees(&["fds", "+", "read", "/proc/self/fd/8"]);
    let fds = || vec![(8, open(&bundle, "eight", "8"))];
    let numbers = |output: &crate::support::Output| -> Vec<String> {
        let lines = output.stdout.lines().filter_map(|line| line.strip_prefix("fd."));
        let numbers = lines.map(|line| line.split(':').next().unwrap().to_owned());
        // what the test itself was given lies above
        numbers.filter(|number| number.len() == 1 && number != "9").collect()
    };
    let call = bundle.launch("run", &["--preserve-fds", "6"]).with(|command| inherit(command, fds()));
    let output = call.finish().ok().has("read /proc/self/fd/8", "1 \"8\"");
    assert_eq!(numbers(&output), ["0", "1", "2", "8"], "{output}");
    // more than there can be
    let call = bundle.launch("run", &["--preserve-fds", "900000"]).with(|command| inherit(command, fds()));
    assert_eq!(numbers(&call.finish().ok()), ["0", "1", "2", "8"]);
    // none at all
    assert_eq!(numbers(&bundle.launch("run", &["--preserve-fds", "6"]).finish().ok()), ["0", "1", "2"]);
}

/// `sockaddr_un` has room for 107 bytes; a state root below a home directory has longer ones.
#[test]
fn sockets_may_have_long_paths() {
    if peer_differs(&["runc", "crun<1.28"], "has no room for them") {
        return;
    }
    let bundle = Bundle::new("long-paths").set("/process/terminal", true).sees(&["pause"]);
    let deep = bundle.host_directory(&"d".repeat(150));
    let held = File::open(&deep).unwrap();
    let console = Receiver::new(format!("/proc/self/fd/{}/c", held.as_raw_fd()).as_ref());
    let pidfd = Receiver::new(format!("/proc/self/fd/{}/p", held.as_raw_fd()).as_ref());
    let (at, then) = (deep.join("c"), deep.join("p"));
    let flags = ["--console-socket", at.to_str().unwrap(), "--pidfd-socket", then.to_str().unwrap()];
    let create = bundle.launch("create", &flags).start();
    assert_eq!(pidfd.take().1, "standard");
    // kept open: init makes it its controlling terminal
    let _master = console.take();
    create.finish().ok();
    bundle.down();
}

#[test]
fn standard_files_belong_to_the_user() {
    use std::os::unix::fs::MetadataExt;
    let bundle = Bundle::new("stdio-owner").set("/process/user", json!({"uid": 1000, "gid": 1000})).sees(&["true"]);
    let shared = std::fs::metadata("/dev/null").unwrap().uid();
    bundle.launch("run", &["--detach"]).finish().ok();
    let file = std::fs::metadata(bundle.path("call-0.out")).unwrap();
    assert_eq!(file.uid(), 1000);
    // standard input is /dev/null, whose owner must not change
    assert_eq!(std::fs::metadata("/dev/null").unwrap().uid(), shared);
    bundle.wait_for("stopped");
    bundle.delete().ok();
}

#[test]
fn closed_standard_streams_are_accepted() {
    if peer_differs(&["crun"], "dies of a segmentation fault") {
        return;
    }
    let bundle = Bundle::new("closed").sees(&["write", "/ran", "x"]);
    let command = ["exec \"$@\" <&- >&- 2>&-", "sh"];
    let mut shell = std::process::Command::new("sh");
    shell.arg("-c").args(command).arg(&Runtime::get().path).current_dir(&bundle.dir);
    bundle.verb(&["--version"]).ok();
    let call = Call::new(shell, &bundle.path("shell")).args(["--root"]).args([bundle.state_root()]);
    call.args(["run", &bundle.id]).finish().ok();
    assert!(bundle.rootfs().join("ran").exists());
}

#[test]
fn a_pidfd_is_sent_to_the_pidfd_socket() {
    if peer_differs(&["runc<1.2", "crun"], "knows no --pidfd-socket") {
        return;
    }
    let bundle = Bundle::new("pidfd").sees(&["pause"]);
    let receiver = Receiver::new(&bundle.path("p.sock"));
    bundle.launch("create", &["--pidfd-socket", receiver.path.to_str().unwrap()]).finish().ok();
    let (pidfd, text) = receiver.take();
    assert_eq!(text, "standard");
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).unwrap();
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:")).unwrap().trim().to_owned();
    assert_eq!(pid, bundle.pid().to_string());
    bundle.down();
}

/// Receives datagrams until one contains `word`; returns all of them.
fn told(socket: &UnixDatagram, word: &str) -> String {
    socket.set_nonblocking(true).unwrap();
    let mut all = String::new();
    until(&format!("{word:?} on the notify socket"), || {
        let mut bytes = [0; 4096];
        if let Ok(n) = socket.recv(&mut bytes) {
            all.push_str(&String::from_utf8_lossy(&bytes[..n]));
            all.push('\n');
        }
        all.contains(word).then_some(())
    });
    all
}

#[test]
fn sd_notify_is_relayed_with_the_host_pid() {
    if !peer_differs(&["crun"], "hands the socket itself to the container") {
        notified("READY=1|STATUS=busy");
    }
}

#[test]
fn sd_notify_ready_may_be_on_any_line() {
    if !peer_differs(&["runc", "crun"], "looks at the first line only") {
        notified("STATUS=busy|READY=1");
    }
}

fn notified(text: &str) {
    let bundle = Bundle::new("notify").directory("/run").sees(&["env", "+", "notify", text, "+", "pause"]);
    let socket = UnixDatagram::bind(bundle.path("n.sock")).unwrap();
    let call = |call: Call| call.env("NOTIFY_SOCKET", bundle.path("n.sock"));
    call(bundle.launch("create", &[])).finish().ok();
    let start = call(bundle.runtime().args(["start", &bundle.id])).start();
    let heard = told(&socket, "MAINPID=");
    let pid = bundle.pid();
    assert!(heard.contains("READY=1") && heard.contains(&format!("MAINPID={pid}")), "{heard}");
    // other lines are not relayed
    assert!(!heard.contains("STATUS="), "{heard}");
    // the payload's wait for the barrier ends when the listener closes
    drop(socket);
    start.finish().ok();
    assert!(bundle.printed().contains("NOTIFY_SOCKET=/run/notify/notify.sock\n"), "{}", bundle.printed());
    assert!(kernel::process_state(pid).is_some());
    bundle.down();
}

#[test]
fn sd_notify_is_relayed_in_the_foreground() {
    if peer_differs(&["crun"], "hands the socket itself to the container") {
        return;
    }
    let bundle = Bundle::new("notify-run").directory("/run").sees(&["notify", "READY=1", "+", "wait-file", "/go"]);
    let socket = UnixDatagram::bind(bundle.path("n.sock")).unwrap();
    let run = bundle.launch("run", &[]).env("NOTIFY_SOCKET", bundle.path("n.sock")).start();
    let heard = told(&socket, "MAINPID=");
    assert!(heard.contains("READY=1"), "{heard}");
    drop(socket);
    std::fs::write(bundle.rootfs().join("go"), "").unwrap();
    run.finish().ok();
}
