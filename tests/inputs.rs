//! Input of callers: long lists, documents that are devices or endless, numbers that are out of range, and output files in
//! directories where other users may have placed links.

use crate::support::runtime::Call;
use crate::support::user::USER;
use crate::support::world::has_controller;
use crate::support::{Bundle, Output, Runtime, json, limit, not_here, payload, peer_differs, process};
use nix::sys::stat::Mode;
use std::fs::{File, Permissions, hard_link, set_permissions};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The limit for each of these calls, for a debug build on a busy machine.
fn soon() -> Duration {
    limit(30)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn long_lists_are_read_quickly() {
    let devices: Vec<_> =
        (0..2000).map(|i| json!({"path": format!("/dev/x{i}"), "type": "c", "major": 1, "minor": 3})).collect();
    let env: Vec<String> = (0..100_000).map(|i| format!("V{i}=x")).collect();
    let bundle = Bundle::new("long").set("/process/env", env).set("/linux/devices", devices);
    let bundle = bundle.sees(&["env", "+", "stat", "/dev/x1999"]);
    let began = Instant::now();
    let output = bundle.launch("run", &[]).start().finish_within(2 * soon()).ok();
    let took = began.elapsed();
    output.says("V0=x").says("V99999=x").has("/dev/x1999.type", "c");
    assert!(took < soon(), "{took:?}");
}

/// Calls of the three verbs that read a document, and the arguments after the file.
fn readers(bundle: &Bundle) -> [(Call, &'static str); 3] {
    [
        (bundle.runtime().args(["run", "--config"]), "second"),
        (bundle.runtime().args(["exec", "--process"]), ""),
        (bundle.runtime().args(["update", "--resources"]), ""),
    ]
}

/// Makes each of them read `path`; `bundle` is a running container.
fn read(bundle: &Bundle, path: &Path, each: impl Fn(Call) -> Output) -> Vec<Output> {
    let read = |(call, id): (Call, &str)| each(call.arg(path).arg(if id.is_empty() { &bundle.id } else { id }));
    readers(bundle).into_iter().map(read).collect()
}

fn waiting(name: &str) -> Bundle {
    let bundle = Bundle::new(name).sees(&["pause"]);
    bundle.up();
    bundle
}

#[test]
fn a_file_that_is_not_a_document_is_refused_by_name() {
    if peer_differs(&["runc", "crun"], "reads devices for ever") {
        return;
    }
    let bundle = waiting("no-document");
    let socket = bundle.path("socket");
    let _listener = UnixListener::bind(&socket).unwrap();
    let directory = bundle.host_directory("directory");
    for (path, why) in [
        (Path::new("/dev/zero"), "is a device, not a document"),
        (Path::new("/dev/urandom"), "is a device, not a document"),
        (&socket, "is a socket, not a document"),
        (&directory, "is a directory"),
        (Path::new("/nonexistent"), "no such file or directory"),
    ] {
        for output in read(&bundle, path, |call| call.start().finish_within(soon())) {
            assert!([1, 255].contains(&output.code), "{output}");
            // runc's text for a missing configuration
            let missing = output.stderr.contains("JSON specification file nonexistent not found");
            assert!(missing || output.stderr.contains(&format!("open {}: {why}", path.display())), "{output}");
        }
    }
    bundle.down();
}

/// A FIFO, and a thread that fills it.
fn fifo(bundle: &Bundle, name: &str, fill: impl FnOnce(File) + Send + 'static) -> PathBuf {
    let path = bundle.path(name);
    nix::unistd::mkfifo(&path, Mode::S_IRWXU).unwrap();
    let to = path.clone();
    std::thread::spawn(move || fill(File::options().write(true).open(to).unwrap()));
    path
}

#[test]
fn endless_input_is_refused_at_64_mib() {
    if peer_differs(&["runc", "crun"], "reads it all") {
        return;
    }
    let bundle = waiting("endless");
    for (number, verb) in ["run", "exec", "update"].into_iter().enumerate() {
        let path = fifo(&bundle, verb, |mut pipe| while pipe.write_all(&[b' '; 65536]).is_ok() {});
        let (call, id) = readers(&bundle).into_iter().nth(number).unwrap();
        let id = if id.is_empty() { &bundle.id } else { id };
        let output = call.arg(&path).arg(id).start().finish_within(soon());
        assert!([1, 255].contains(&output.code), "{output}");
        let why = format!("open {}: holds more than 64 MiB, the most that is read", path.display());
        assert!(output.stderr.contains(&why), "{output}");
    }
    bundle.down();
}

#[test]
fn a_document_may_arrive_through_a_pipe_in_pieces() {
    let pieces = |document: String| {
        move |mut pipe: File| {
            for piece in document.as_bytes().chunks(document.len().div_ceil(3)) {
                pipe.write_all(piece).unwrap();
                std::thread::sleep(Duration::from_millis(60));
            }
        }
    };
    let bundle = waiting("pieces");
    let process = json!({"cwd": "/", "user": {"uid": 0, "gid": 0}, "args": [payload::INSIDE, "echo", "whole"]});
    let path = fifo(&bundle, "process", pieces(process.to_string()));
    bundle.verb(&["exec", "--process", text(&path), &bundle.id]).ok().says("whole");
    if has_controller("pids") || !not_here("there is no controller to limit with") {
        let path = fifo(&bundle, "resources", pieces(json!({"pids": {"limit": 77}}).to_string()));
        bundle.verb(&["update", "--resources", text(&path), &bundle.id]).ok();
        assert_eq!(bundle.cgroup_file("pids", "pids.max"), "77");
    }
    bundle.down();
    if !peer_differs(&["runc"], "has no --config") {
        let other = Bundle::new("pieces-config").sees(&["echo", "whole"]);
        let path = fifo(&other, "config", pieces(other.config.to_string()));
        other.launch("run", &["--config", text(&path)]).finish().ok().says("whole");
    }
}

#[test]
fn a_runtime_that_waits_for_input_can_be_killed() {
    let bundle = waiting("reading");
    let path = bundle.path("nobody-writes");
    nix::unistd::mkfifo(&path, Mode::S_IRWXU).unwrap();
    for output in read(&bundle, &path, |call| {
        let running = call.with(process::with_default_signals).start();
        std::thread::sleep(Duration::from_millis(300));
        running.kill(libc::SIGTERM);
        running.finish_within(soon())
    }) {
        assert_eq!(output.code, 128 + libc::SIGTERM, "{output}");
    }
    bundle.down();
}

#[test]
fn out_of_range_numbers_are_refused_by_name() {
    if peer_differs(&["runc", "crun"], "other words") {
        return;
    }
    let bundle = waiting("numbers");
    let id = bundle.id.as_str();
    let rows: &[(&[&str], &str)] = &[
        (&["run", "--preserve-fds", "4294967295", "x"], "invalid value for preserve-fds"),
        (&["run", "--preserve-fds", "4294967294", "x"], "invalid value for preserve-fds"),
        (&["create", "--preserve-fds", "4294967293", "x"], "invalid value for preserve-fds"),
        (&["run", "--preserve-fds", "4294967296", "x"], "invalid value for preserve-fds"),
        (&["run", "--preserve-fds", "-1", "x"], "invalid value for preserve-fds"),
        (&["run", "--preserve-fds", "18446744073709551616", "x"], "preserve-fds"),
        (&["run", "--preserve-fds", "1048577", "x"], "\"1048577\" is more than 1048576"),
        (&["exec", "--preserve-fds", "4294967295", id, "true"], "invalid value for preserve-fds"),
        (
            &["exec", "--user", "4294967296", id, "true"],
            "parse user \"4294967296\": \"4294967296\" is more than 4294967294",
        ),
        (
            &["exec", "--user", "4294967295", id, "true"],
            "parse user \"4294967295\": \"4294967295\" is more than 4294967294",
        ),
        (&["exec", "--user", "0:4294967295", id, "true"], "is more than 4294967294"),
        (&["exec", "-g", "4294967296", id, "true"], "invalid value for additional-gids"),
        (&["exec", "-g", "4294967295", id, "true"], "additionalGids"),
        (&["checkpoint", "--status-fd", "4294967296", id], "invalid value for status-fd"),
        (&["checkpoint", "--status-fd", "-2", id], "invalid value for status-fd"),
        (&["events", "--interval", "99999999999999999999h", id], "interval"),
        (&["events", "--interval", "0", id], "duration interval must be greater than 0"),
        (&["kill", id, "4294967305"], "unknown signal"),
        (&["update", "--memory", "9223372036854775808", id], "invalid value for memory"),
        (&["update", "--pids-limit", "9223372036854775808", id], "pids-limit"),
        (&["update", "--cpu-period", "18446744073709551616", id], "cpu-period"),
    ];
    for (words, phrase) in rows {
        let output = bundle.runtime().args(*words).start().finish_within(soon());
        let said = output.stderr.replace("\\\"", "\"");
        assert!([1, 255].contains(&output.code) && said.contains(phrase), "{words:?}: {output}");
    }
    bundle.down();
}

#[test]
fn out_of_range_listen_fds_are_refused() {
    if peer_differs(&["runc", "crun"], "has other words, or none") {
        return;
    }
    let bundle = Bundle::new("listen-bounds").sees(&["fds"]);
    bundle.verb(&["--version"]).ok();
    std::fs::write(bundle.path("config.json"), bundle.config.to_string()).unwrap();
    let with = |fds: &str, more: &[&str]| {
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", "LISTEN_PID=$$ exec \"$@\"", "sh"]).arg(&Runtime::get().path).current_dir(&bundle.dir);
        let call = Call::new(shell, &bundle.path("shell")).arg("--root").arg(bundle.state_root()).arg("run").args(more);
        call.arg(&bundle.id).env("LISTEN_FDS", fds).start().finish_within(soon())
    };
    with("4294967295", &[]).fails(1, "LISTEN_FDS=4294967295: more than 1048576 descriptors");
    with("18446744073709551615", &[]).fails(1, "LISTEN_FDS=18446744073709551615: more than");
    with("1048576", &["--preserve-fds", "1048576"]).fails(1, "LISTEN_FDS 1048576: descriptor 3: bad file");
    with("1", &[]).fails(1, "LISTEN_FDS 1: descriptor 3: bad file");
}

/// Creates a sticky directory that is writable by all users, like `/tmp`.
fn shared(bundle: &Bundle) -> PathBuf {
    let path = bundle.host_directory("shared");
    set_permissions(&path, Permissions::from_mode(0o1777)).unwrap();
    path
}

/// What the user `nobody` may have placed in a directory where root is going to write: a name and how to create it.
/// `precious` is a file of root's.
type Trap = (&'static str, fn(&Path, &Path));

const TRAPS: &[Trap] = &[
    ("link", |place, precious| {
        symlink(precious, place).unwrap();
        lchown(place, Some(USER), Some(USER)).unwrap();
    }),
    ("link-to-new", |place, precious| {
        symlink(precious.with_file_name("not-there"), place).unwrap();
        lchown(place, Some(USER), Some(USER)).unwrap();
    }),
    ("link-by-way-of-ours", |place, precious| {
        let theirs = place.with_extension("theirs");
        symlink(precious, &theirs).unwrap();
        lchown(&theirs, Some(USER), Some(USER)).unwrap();
        symlink(theirs, place).unwrap();
    }),
    ("file", |place, _| {
        std::fs::write(place, "").unwrap();
        chown(place, Some(USER), Some(USER)).unwrap();
    }),
    ("second-name", |place, precious| hard_link(precious, place).unwrap()),
    ("fifo", |place, _| {
        nix::unistd::mkfifo(place, Mode::S_IRWXU).unwrap();
        chown(place, Some(USER), Some(USER)).unwrap();
    }),
];

/// Places it in a shared directory. Some of them the kernel refuses to open itself if `fs.protected_*` are set.
fn laid(bundle: &Bundle, trap: &Trap) -> (PathBuf, PathBuf) {
    let (name, lay) = trap;
    let precious = bundle.host_file(&format!("precious-{name}"), "precious");
    let place = shared(bundle).join(name);
    lay(&place, &precious);
    (place, precious)
}

fn untouched(place: &Path, precious: &Path, output: &Output) {
    assert_eq!(std::fs::read_to_string(precious).unwrap(), "precious", "{output}");
    assert!(!precious.with_file_name("not-there").exists(), "{output}");
    if place.symlink_metadata().unwrap().is_file() && place.metadata().unwrap().uid() == USER {
        assert_eq!(place.metadata().unwrap().len(), 0, "{output}");
    }
}

#[test]
fn the_log_does_not_follow_another_users_links() {
    if peer_differs(&["runc", "crun"], "leaves that to the kernel") {
        return;
    }
    for trap in TRAPS {
        let bundle = Bundle::new(trap.0);
        let (place, precious) = laid(&bundle, trap);
        let output = bundle.runtime().arg("--log").arg(&place).arg("list").start().finish_within(soon());
        let output = output.fails(1, &format!("open {}", place.display()));
        untouched(&place, &precious, &output);
    }
}

#[test]
fn the_trace_does_not_follow_another_users_links() {
    if peer_differs(&["runc", "crun"], "has none") {
        return;
    }
    for trap in TRAPS {
        let bundle = Bundle::new(trap.0);
        let (place, precious) = laid(&bundle, trap);
        let call = bundle.runtime().env("ONGGI_TRACE", &place).args(["state", "nobody"]);
        let output = call.start().finish_within(soon()).fails(1, "container does not exist");
        assert!(output.stderr.contains("(--trace)"), "{output}");
        untouched(&place, &precious, &output);
    }
}

#[test]
fn the_pid_file_does_not_follow_another_users_links() {
    for trap in TRAPS {
        let bundle = Bundle::new(trap.0);
        let (place, precious) = laid(&bundle, trap);
        let output = bundle.launch("run", &["--pid-file", text(&place)]).start().finish_within(soon()).ok();
        assert_eq!(std::fs::read_to_string(&precious).unwrap(), "precious", "{output}");
        let left = place.symlink_metadata().unwrap();
        assert!(left.is_file() && left.uid() == 0 && left.nlink() == 1, "{output}");
    }
}

/// What engines rely on: the caller's own links, the caller's streams, and a FIFO with a reader.
#[test]
fn the_log_follows_trusted_links() {
    if peer_differs(&["crun"], "other words") {
        return;
    }
    let bundle = Bundle::new("log");
    let says = |log: &Path| {
        let call = bundle.runtime().arg("--log").arg(log).args(["--log-format", "json", "state", "nobody"]);
        call.start().finish_within(soon()).fails(1, "container does not exist")
    };
    let record = "\"msg\":\"container does not exist\"";
    let place = bundle.path("place");
    let shared = shared(&bundle);
    for (name, link) in [("beside", bundle.path("link")), ("in-shared", shared.join("link"))] {
        let _ = std::fs::remove_file(&place);
        symlink(&place, &link).unwrap();
        says(&link);
        assert!(std::fs::read_to_string(&place).unwrap().contains(record), "{name}");
    }
    // outside shared directories a link may belong to any user
    let theirs = bundle.path("theirs");
    symlink("place", &theirs).unwrap();
    lchown(&theirs, Some(USER), Some(USER)).unwrap();
    says(&theirs);
    assert_eq!(std::fs::read_to_string(&place).unwrap().matches(record).count(), 2);
    // a file of our own in a shared directory
    let own = shared.join("own");
    std::fs::write(&own, "").unwrap();
    says(&own);
    assert!(std::fs::read_to_string(&own).unwrap().contains(record));
    for stream in ["/dev/stdout", "/dev/stderr", "/proc/self/fd/2"] {
        if !Path::new(stream).exists() && not_here("this /dev has no links to the streams") {
            continue;
        }
        let (mut reader, writer) = std::io::pipe().unwrap();
        let writer = OwnedFd::from(writer);
        let call = bundle.runtime().args(["--log", stream, "--log-format", "json", "state", "nobody"]).stdio(&writer);
        call.start().finish_within(soon()).code(1);
        drop(writer);
        let mut said = String::new();
        reader.read_to_string(&mut said).unwrap();
        assert!(said.contains(record), "{stream}: {said}");
    }
    let fifo = bundle.path("fifo");
    nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    let from = fifo.clone();
    let reader = std::thread::spawn(move || std::fs::read_to_string(from).unwrap());
    // fails until the reader has opened the FIFO
    let began = Instant::now();
    while began.elapsed() < soon() {
        let call = bundle.runtime().arg("--log").arg(&fifo).args(["--log-format", "json", "state", "nobody"]);
        if call.start().finish_within(soon()).stderr.contains("container does not exist") {
            break;
        }
    }
    assert!(reader.join().unwrap().contains(record));
    let output = bundle.runtime().arg("--log").arg(&fifo).arg("list").start().finish_within(soon());
    output.fails(1, &format!("open {}: is a FIFO that nobody reads", fifo.display()));
}

/// A set-user-id binary does not obey the environment of its less privileged caller.
#[test]
fn a_set_user_id_binary_ignores_onggi_trace() {
    if peer_differs(&["runc", "crun"], "has none") {
        return;
    }
    let bundle = Bundle::new("set-id");
    let (runtime, traces) = (bundle.own_runtime(), shared(&bundle));
    let ask = |name: &str| {
        let trace = traces.join(name);
        let mut command = std::process::Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(&runtime);
        let call = Call::new(command, &bundle.path(name)).env("ONGGI_TRACE", &trace);
        call.arg("--root").arg(bundle.path("none")).args(["state", "x"]).finish().fails(1, "container does not exist");
        trace.exists()
    };
    assert!(ask("plain"));
    chown(&runtime, Some(0), Some(0)).unwrap();
    set_permissions(&runtime, Permissions::from_mode(0o4755)).unwrap();
    let nosuid = nix::sys::statvfs::statvfs(&runtime).unwrap().flags().contains(nix::sys::statvfs::FsFlags::ST_NOSUID);
    if nosuid && not_here("set-user-id programs do not work where the tests keep their files") {
        return;
    }
    assert!(!ask("set-id"));
}

#[test]
fn sections_for_other_platforms_are_ignored_with_one_warning() {
    let bundle = Bundle::new("platforms")
        .set("/vm", json!({"kernel": {"path": "/boot/kernel"}}))
        .set("/zos", json!({}))
        .set("/windows", json!({"layerFolders": ["C:\\\\layer"]}))
        .set("/solaris", json!({"milestone": "svc:/milestone/container:default"}));
    let output = bundle.run(&["true"]).ok();
    let warnings = output.stderr.lines().filter(|line| line.contains("level=warning")).count();
    assert_eq!(warnings, 1, "{output}");
    assert!(output.stderr.contains("for other platforms: solaris, vm, windows, zos"), "{output}");
}
