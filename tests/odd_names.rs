//! Unusual names: sub-cgroups that a payload creates, and mount points of the host, with any bytes, length, depth and
//! number. Every verb still finds the processes in them, and `delete` removes all of them.

use crate::exec::{exec, sees, up};
use crate::support::runtime::Call;
use crate::support::world::{has_controller, hierarchies};
use crate::support::{Bundle, World, kernel, not_here, process, until, world};
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Names that the kernel accepts for a cgroup: it refuses only newlines and the names of its own files.
fn names() -> Vec<OsString> {
    let odd: [&[u8]; 9] = [
        b"\xff\xfe",
        b"caf\xe9",
        b" a\tb\\c ",
        b"x (deleted)",
        b"...",
        b"0::",
        b"cgroup.procs.",
        "\u{fffd}".as_bytes(),
        &[0x80; 255],
    ];
    odd.into_iter().map(|name| OsString::from_vec(name.to_vec())).collect()
}

/// Removes what a failed test leaves: the common clean-up uses paths and does not go deep.
#[derive(Default)]
struct Sweep(Vec<PathBuf>);

impl Drop for Sweep {
    fn drop(&mut self) {
        for top in self.0.iter().filter(|top| top.exists()) {
            let script = "find \"$1\" -name cgroup.procs -execdir cat {} \\; | while read p; do kill -9 $p; done
                sleep 0.2; find \"$1\" -depth -type d -delete";
            let _ = std::process::Command::new("sh").args(["-c", script, "sh"]).arg(top).status();
        }
    }
}

/// The container's cgroup in every hierarchy.
fn tops(bundle: &Bundle) -> Vec<PathBuf> {
    let own = bundle.cgroup();
    let all = hierarchies().into_iter().map(|top| top.join(own.trim_start_matches('/')));
    all.filter(|top| top.exists()).collect()
}

fn open(dir: impl AsFd, name: impl AsRef<Path>) -> OwnedFd {
    openat(dir, name.as_ref(), OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).unwrap()
}

fn top(path: &Path) -> OwnedFd {
    OwnedFd::from(std::fs::File::open(path).unwrap())
}

/// Creates a sub-cgroup by descriptor, as a payload could.
fn below(dir: impl AsFd, name: &OsStr) -> OwnedFd {
    mkdirat(&dir, name, Mode::from_bits_truncate(0o755)).unwrap_or_else(|error| panic!("{name:?}: {error}"));
    open(dir, name)
}

/// Creates nested cgroups; returns the innermost.
fn chain(from: &Path, name: &OsStr, depth: usize) -> OwnedFd {
    (0..depth).fold(top(from), |dir, _| below(dir, name))
}

fn put(dir: impl AsFd, file: &str, text: &str) -> nix::Result<()> {
    let file = openat(dir, file, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    nix::unistd::write(file, text.as_bytes()).map(drop)
}

/// Moves a process into a cgroup. Skips v1's cpuset, where a new cgroup cannot take processes yet.
fn place(dir: impl AsFd, hierarchy: &Path, pid: i32) {
    if !hierarchy.components().any(|part| part.as_os_str() == "cpuset") {
        put(dir, "cgroup.procs", &pid.to_string()).unwrap_or_else(|error| panic!("{}: {error}", hierarchy.display()));
    }
}

/// Starts one more process in the container that keeps running.
fn second(bundle: &Bundle) -> i32 {
    let file = bundle.path("second.pid");
    exec(bundle, &["--detach", "--pid-file", file.to_str().unwrap()], &["pause"]).finish().ok();
    std::fs::read_to_string(file).unwrap().parse().unwrap()
}

/// Calls every verb except `kill` and `delete` with these processes in the container.
fn verbs(bundle: &Bundle, mut pids: Vec<i32>) {
    let listed = || {
        let mut listed: Vec<i32> =
            serde_json::from_value(bundle.verb(&["ps", "--format", "json", &bundle.id]).ok().json()).unwrap();
        listed.sort_unstable();
        listed
    };
    pids.sort_unstable();
    assert_eq!(listed(), pids);
    // the machine's ps may fail on this kernel (User Mode Linux has no boot time)
    let works = Call::new(std::process::Command::new("ps"), &bundle.path("ps")).arg("-ef").finish().code == 0;
    if works || !not_here("ps(1) does not work on this kernel") {
        let table = bundle.verb(&["ps", &bundle.id]).ok();
        assert_eq!(table.stdout.lines().count(), pids.len() + 1, "{table}");
    }
    assert_eq!(bundle.status(), "running");
    bundle.verb(&["pause", &bundle.id]).ok();
    assert_eq!(bundle.status(), "paused");
    bundle.verb(&["resume", &bundle.id]).ok();
    assert_eq!(bundle.status(), "running");
    if has_controller("pids") {
        bundle.verb(&["update", "--pids-limit", "77", &bundle.id]).ok();
    }
    bundle.verb(&["events", "--stats", &bundle.id]).ok();
    sees(bundle, &[], &["exit", "7"]).code(7);
    bundle.kill("CONT").ok();
}

/// Kills and deletes the container and asserts that nothing is left of its cgroup.
fn ends(bundle: &Bundle, tops: &[PathBuf], pids: &[i32]) {
    bundle.verb(&["kill", "--all", &bundle.id, "KILL"]).ok();
    for pid in pids {
        until("the processes to die", || kernel::process_state(*pid).is_none_or(|state| state == 'Z').then_some(()));
    }
    bundle.down();
    let left: Vec<_> = tops.iter().filter(|top| top.exists()).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Runs a test with and without a pid namespace: with one the kernel kills all processes, without one we use the cgroup.
fn both(name: &str, test: impl Fn(Bundle)) {
    test(Bundle::new(name));
    test(Bundle::new(name).without_namespace("pid"));
}

#[test]
fn sub_cgroups_of_any_name() {
    both("named", |bundle| {
        let mut sweep = Sweep::default();
        let bundle = up(bundle);
        sweep.0 = tops(&bundle);
        let (first, second) = (bundle.pid(), second(&bundle));
        for own in &sweep.0 {
            for name in names() {
                // with a sub-cgroup whose name is not UTF-8
                let one = below(top(own), &name);
                below(one, OsStr::from_bytes(b"\xff"));
            }
            place(open(top(own), OsStr::from_bytes(b"\xff\xfe")), own, second);
        }
        verbs(&bundle, vec![first, second]);
        ends(&bundle, &sweep.0, &[first, second]);
    });
}

#[test]
fn sub_cgroups_deeper_than_a_path() {
    let name = OsString::from_vec(vec![b'd'; 250]);
    both("deep", |bundle| {
        let mut sweep = Sweep::default();
        let bundle = up(bundle);
        sweep.0 = tops(&bundle);
        let (first, second) = (bundle.pid(), second(&bundle));
        for own in &sweep.0 {
            place(chain(own, &name, 20), own, second);
        }
        verbs(&bundle, vec![first, second]);
        ends(&bundle, &sweep.0, &[first, second]);
    });
}

/// Removal needs neither a descriptor nor stack space for each level.
#[test]
fn sub_cgroups_deeper_than_the_descriptors_that_we_may_have() {
    let mut sweep = Sweep::default();
    let bundle = up(Bundle::new("few-fds"));
    sweep.0 = tops(&bundle);
    for own in &sweep.0 {
        place(chain(own, OsStr::new("d"), 300), own, bundle.pid());
    }
    let few = |words: &[&str]| bundle.runtime().args(words).with(|c| process::with_descriptors(c, 24)).finish().ok();
    let listed = few(&["ps", "--format", "json", &bundle.id]).json();
    assert_eq!(listed, serde_json::json!([bundle.pid()]));
    few(&["delete", "--force", &bundle.id]);
    assert!(sweep.0.iter().all(|top| !top.exists()));
}

#[test]
fn many_sub_cgroups() {
    let mut sweep = Sweep::default();
    let bundle = up(Bundle::new("many"));
    sweep.0 = tops(&bundle);
    for own in &sweep.0 {
        let own = top(own);
        (0..1000).for_each(|n| drop(below(&own, OsStr::new(&format!("many {n}")))));
    }
    bundle.down();
    assert!(sweep.0.iter().all(|top| !top.exists()));
}

/// Processes that create one cgroup after the other until they are killed.
#[test]
fn sub_cgroups_created_without_end() {
    let mut sweep = Sweep::default();
    let bundle = up(Bundle::new("grows").without_namespace("pid"));
    sweep.0 = tops(&bundle);
    let script = "i=0; cd \"$1\"; while mkdir $i $i/d; do i=$((i+1)); done";
    let growers: Vec<i32> = sweep
        .0
        .iter()
        .map(|own| {
            let mut shell = std::process::Command::new("sh");
            shell.args(["-c", script, "sh"]).arg(own).stderr(std::process::Stdio::null());
            i32::try_from(shell.spawn().unwrap().id()).unwrap()
        })
        .collect();
    for own in &sweep.0 {
        growers.iter().for_each(|grower| place(top(own), own, *grower));
    }
    for own in &sweep.0 {
        until("a tree", || own.join("30/d").exists().then_some(()));
    }
    let listed = bundle.verb(&["ps", "--format", "json", &bundle.id]).ok().json();
    assert!(growers.iter().all(|grower| listed.as_array().unwrap().contains(&(*grower).into())), "{listed}");
    bundle.down();
    assert!(sweep.0.iter().all(|top| !top.exists()));
}

/// The container's cgroup2 directory, and a controller that it can enable for children; `None` if there is none.
fn delegated(bundle: &Bundle) -> (PathBuf, String) {
    let top = PathBuf::from(if world() == World::V2 { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/unified" });
    let controllers = std::fs::read_to_string(top.join("cgroup.controllers")).unwrap_or_default();
    let controller = controllers.split_whitespace().next().expect("cgroup2 without controllers").to_owned();
    let own = top.join(bundle.cgroup().trim_start_matches('/'));
    let _ = std::fs::write(top.join("cgroup.subtree_control"), format!("+{controller}"));
    (own, controller)
}

/// systemd or Docker in a container: the first process has moved to a sub-cgroup and enabled controllers, so that the
/// cgroup itself takes no processes. exec follows it there, whatever the sub-cgroup's name and depth.
#[test]
fn exec_joins_the_sub_cgroup_of_the_first_process() {
    let long = OsString::from_vec(vec![0xfe; 250]);
    // the kernel truncates a long path in /proc/PID/cgroup: an existing cgroup at the truncated path must not be used
    for (name, depth) in [(OsStr::from_bytes(b"\xff"), 1), (OsStr::new(" a b"), 2), (&long, 15), (&long, 20)] {
        let mut sweep = Sweep::default();
        let bundle = up(Bundle::new("follows"));
        sweep.0 = tops(&bundle);
        let (own, controller) = delegated(&bundle);
        let deepest = chain(&own, name, depth);
        place(&deepest, &own, bundle.pid());
        std::fs::write(own.join("cgroup.subtree_control"), format!("+{controller}")).unwrap();
        let second = second(&bundle);
        let file = openat(&deepest, "cgroup.procs", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).unwrap();
        let members = std::io::read_to_string(std::fs::File::from(file)).unwrap();
        assert!(members.lines().any(|line| line == second.to_string()), "{second} is not among {members}");
        ends(&bundle, &sweep.0, &[bundle.pid(), second]);
    }
}

/// A sub-cgroup with the name of a control file that its parent lacks: the file counts as absent.
#[test]
fn sub_cgroups_with_names_of_files() {
    let mut sweep = Sweep::default();
    let bundle = up(Bundle::new("files"));
    sweep.0 = tops(&bundle);
    let files = ["memory.events", "memory.current", "memory.max", "pids.current", "pids.max", "cpu.max", "io.stat"];
    let mut made = 0;
    for own in &sweep.0 {
        for file in files.iter().filter(|file| !own.join(file).exists()) {
            below(top(own), OsStr::new(file));
            made += 1;
        }
    }
    if made == 0 && not_here("every controller has its files") {
        bundle.down();
        return;
    }
    verbs(&bundle, vec![bundle.pid()]);
    let limit = bundle.verb(&["update", "--memory", "100000000", &bundle.id]);
    if has_controller("memory") {
        limit.ok();
    } else {
        limit.fails(1, "controller \"memory\" not available");
    }
    ends(&bundle, &sweep.0, &[bundle.pid()]);
}

/// A process that does not belong to the container is not killed, but reported.
#[test]
fn a_foreign_process_in_a_sub_cgroup_is_reported_not_killed() {
    let mut sweep = Sweep::default();
    let bundle = up(Bundle::new("stranger"));
    sweep.0 = tops(&bundle);
    let stranger = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    let pid = i32::try_from(stranger.id()).unwrap();
    for own in &sweep.0 {
        place(chain(own, OsStr::from_bytes(b"\xff"), 2), own, pid);
    }
    // only force ends a stranger
    bundle.kill("KILL").ok();
    bundle.wait_for("stopped");
    let output = bundle.delete();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    let output = output.fails(1, "container's cgroup is not empty: 1 process(es) found");
    let place = format!(
        "process {pid} stays in {}/",
        sweep.0.iter().find(|own| output.stderr.contains(&own.display().to_string())).unwrap().display()
    );
    assert!(output.stderr.contains(&place) && output.stderr.contains("xff/"), "{output}");
    bundle.down();
    assert!(sweep.0.iter().all(|top| !top.exists()));
}

/// A file system mounted over a sub-cgroup is not entered, and the error names what prevents the removal.
#[test]
fn a_sub_cgroup_that_is_mounted_over() {
    let mut sweep = Sweep::default();
    let bundle = up(Bundle::new("mounted"));
    sweep.0 = tops(&bundle);
    let place = sweep.0[0].join(OsStr::from_bytes(b"\xff"));
    std::fs::create_dir(&place).unwrap();
    let call = bundle.runtime().args(["delete", "--force", &bundle.id]);
    let output = call.with(|command| process::with_extra_mount(command, &place)).finish();
    let output = output.fails(1, &format!("remove cgroup {}: device or resource busy", sweep.0[0].display()));
    assert!(output.stderr.contains("delete again"), "{output}");
    // the mount is not in this mount namespace
    bundle.down();
    assert!(sweep.0.iter().all(|top| !top.exists()));
}

/// Processes in a frozen sub-cgroup of v1 cannot be killed until it is thawed.
#[test]
fn frozen_sub_cgroups() {
    both("frozen", |bundle| {
        let mut sweep = Sweep::default();
        let bundle = up(bundle);
        sweep.0 = tops(&bundle);
        let (first, second) = (bundle.pid(), second(&bundle));
        let (file, value) =
            if has_controller("freezer") { ("freezer.state", "FROZEN") } else { ("cgroup.freeze", "1") };
        for own in sweep.0.iter().filter(|own| own.join(file).exists()) {
            let dir = chain(own, OsStr::from_bytes(b"\xff"), 3);
            place(&dir, own, second);
            put(&dir, file, value).unwrap();
        }
        ends(&bundle, &sweep.0, &[first, second]);
    });
}

/// A caller in a cgroup with an unusual name. A relative or missing cgroupsPath is resolved from it.
#[test]
fn a_caller_in_a_cgroup_of_an_odd_name() {
    for path in [None, Some("relative/path"), Some("")] {
        let mut sweep = Sweep::default();
        let mut bundle = Bundle::new("caller");
        let outer = format!("{}-outer", bundle.id);
        bundle = match path {
            Some("") | None => bundle.without("/linux/cgroupsPath"),
            Some(path) => bundle.set("/linux/cgroupsPath", path),
        };
        if path == Some("") {
            let absolute = format!("/{}", bundle.id);
            bundle = bundle.set("/linux/cgroupsPath", absolute);
        }
        let bundle = bundle.sees(&["pause"]);
        for hierarchy in hierarchies() {
            let outer = hierarchy.join(&outer);
            std::fs::create_dir(&outer).unwrap();
            sweep.0.push(outer.clone());
            below(below(top(&outer), OsStr::from_bytes(b"\xff")), OsStr::from_bytes(b"\xfe"));
        }
        let files: Vec<PathBuf> =
            sweep.0.iter().map(|outer| outer.join(OsStr::from_bytes(b"\xff/\xfe/cgroup.procs"))).collect();
        let files = files.into_iter().filter(|file| !file.starts_with("/sys/fs/cgroup/cpuset")).collect();
        let call = bundle.launch("create", &[]).with(|command| process::in_cgroups(command, files));
        call.finish().ok();
        bundle.start().ok();
        assert_eq!(bundle.verb(&["ps", "--format", "json", &bundle.id]).ok().json(), serde_json::json!([bundle.pid()]));
        sees(&bundle, &[], &["exit", "7"]).code(7);
        bundle.down();
        let rest = path.filter(|path| !path.is_empty()).unwrap_or(&bundle.id);
        for outer in &sweep.0 {
            for above in [&b"\xff"[..], b"\xff/\xfe"] {
                assert!(!outer.join(OsStr::from_bytes(above)).join(rest).exists(), "{}", outer.display());
            }
        }
        // before the bundle checks for leftovers
        drop(sweep);
    }
}

/// The host's mount table may contain mount points with any name.
#[test]
fn a_mount_point_of_an_odd_name() {
    let names: [&[u8]; 4] = [b"\xff\xfe", b"a b\n\\c\xe9", b"- cgroup cgroup rw,memory", &[0x80; 255]];
    for name in names {
        let bundle = Bundle::new("beside-odd").sees(&["exit", "7"]);
        let place = bundle.path("mounts").join(OsStr::from_bytes(name));
        std::fs::create_dir_all(&place).unwrap();
        let beside = |call: Call| call.with(|command| process::with_extra_mount(command, &place)).finish();
        beside(bundle.launch("run", &[])).code(7);
        beside(bundle.launch("run", &["--no-pivot"])).code(7);
        let bundle = up(bundle);
        beside(exec(&bundle, &[], &["exit", "7"])).code(7);
        if has_controller("pids") {
            beside(bundle.runtime().args(["update", "--pids-limit", "77", &bundle.id])).ok();
        }
        beside(bundle.runtime().args(["delete", "--force", &bundle.id])).ok();
    }
}
