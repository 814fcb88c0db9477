//! The published attacks on runtimes, each with the attacker's own move: a hostile root file system, a hostile neighbour, a
//! hostile payload. `tests/attacks.md` says which test is which CVE's, and with what the move was seen to succeed.

mod binary;
mod descriptors;
mod held;
mod inputs;
mod joined;
mod limits;
mod links;
mod masks;
mod neighbours;
mod planted;
mod races;
mod secrets;
mod terminal;

use crate::support::private::Private;
use crate::support::user::refused;
use crate::support::world::has_controller;
use crate::support::{Bundle, Output, kernel, not_here, payload, peer_differs};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A directory of the host with a file in it, which no container may change.
struct Victim {
    dir: PathBuf,
}

impl Victim {
    fn of(bundle: &Bundle) -> Self {
        let dir = bundle.host_directory("victim");
        std::fs::write(dir.join("kept"), "kept").unwrap();
        Self { dir }
    }

    fn unhurt(&self) {
        let names: Vec<_> = std::fs::read_dir(&self.dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["kept"], "the host's directory was changed");
        assert_eq!(std::fs::read_to_string(self.dir.join("kept")).unwrap(), "kept");
        let [dir, file] = [&self.dir, &self.dir.join("kept")].map(|path| std::fs::metadata(path).unwrap());
        assert_eq!((dir.uid(), dir.mode() & 0o7777, file.uid(), file.mode() & 0o7777), (0, 0o755, 0, 0o644));
        let own = kernel::mounts_of(std::process::id().cast_signed());
        assert!(!own.iter().any(|m| Path::new(&m.point).starts_with(&self.dir)), "something is mounted on the host");
    }
}

/// How often a race is run: `ONGGI_TEST_RUNS`, or so many; on a slow machine a tenth of it.
fn rounds(few: u32) -> u32 {
    let few = if is_slow() { few.div_ceil(10) } else { few };
    std::env::var("ONGGI_TEST_RUNS").map_or(few, |n| n.parse().expect("ONGGI_TEST_RUNS"))
}

/// Whether `ONGGI_TEST_SLOW` says that a start takes long here (User Mode Linux): moves that take hundreds of starts are then
/// made with a few of the numbers. What they rest on, the descriptors that are open, is looked at whole (`held`).
fn is_slow() -> bool {
    std::env::var_os("ONGGI_TEST_SLOW").is_some()
}

/// What takes longer hangs.
fn soon() -> Duration {
    Duration::from_secs(if is_slow() { 90 } else { 10 })
}

/// The descriptors' numbers to try.
fn tried(numbers: std::ops::Range<u32>) -> impl Iterator<Item = u32> {
    numbers.step_by(if is_slow() { 8 } else { 1 })
}

/// A container that comes to be in one of the ways that differ in what init shares, joins and holds.
struct Birth {
    way: &'static str,
    bundle: Bundle,
    flags: &'static [&'static str],
    /// Ends after the bundle.
    host: Option<Private>,
}

impl Birth {
    fn of(way: &'static str, bundle: Bundle) -> Self {
        Self { way, bundle, flags: &[], host: None }
    }

    /// Every way that this machine and the runtime have.
    fn all(name: &str) -> Vec<Self> {
        let new = || Bundle::new(name);
        let joined = Private::new();
        let joins = new().namespace("pid", Some(&joined.pid_namespace()));
        let host = Private::new();
        let seen = host.hosts(new().without_namespace("pid"), &[]);
        let mut all = vec![
            Self::of("plain", new()),
            Self::of("a user namespace", new().user_namespace()),
            Self { flags: &["--no-pivot"], ..Self::of("no pivot", new()) },
            Self { host: Some(joined), ..Self::of("a joined pid namespace", joins) },
            Self { host: Some(host), ..Self::of("the host's pid namespace", seen) },
        ];
        if has_controller("memory") || !not_here("there is no memory controller: no start with little memory") {
            // below 16 MiB init is born with a copy of the runtime's memory
            let few = if peer_differs(&["runc", "crun"], "needs more memory") { 64 << 20 } else { 8 << 20 };
            all.push(Self::of("little memory", new().set("/linux/resources/memory/limit", few)));
        }
        if !peer_differs(&["runc", "crun"], "leaves mounts on the host without a mount namespace") {
            let bundle = new().without_namespace("mount").without("/linux/maskedPaths").without("/linux/readonlyPaths");
            all.push(Self::of("no mount namespace", bundle));
        }
        if !refused() {
            all.push(Self::of("rootless", Bundle::rootless(name)));
        }
        all
    }

    /// `all`, each of them changed.
    fn all_with(name: &str, change: impl Fn(Bundle) -> Bundle) -> Vec<Self> {
        let change = |birth: Self| Self { bundle: change(birth.bundle), ..birth };
        Self::all(name).into_iter().map(change).collect()
    }

    fn run(&self) -> Output {
        self.bundle.launch("run", self.flags).finish()
    }

    fn create(&self) -> Output {
        self.bundle.launch("create", self.flags).finish()
    }

    /// Its first process, as this process counts: in a pid namespace of its own the runtime counts otherwise.
    fn pid(&self) -> i32 {
        let pid = self.bundle.pid();
        if self.way != "the host's pid namespace" {
            return pid;
        }
        let wanted = pid.to_string();
        let found = kernel::processes_with(&self.bundle.id).into_iter().find(|(other, _)| {
            kernel::status_field(*other, "NSpid").is_some_and(|pids| pids.split_whitespace().last() == Some(&wanted))
        });
        found.unwrap_or_else(|| panic!("{}: no process {pid}", self.way)).0
    }
}

/// A program of the host's which no container may execute.
struct HostProgram(PathBuf);

impl HostProgram {
    const RUNS: &str = "A PROGRAM OF THE HOST RUNS";

    fn of(bundle: &Bundle) -> Self {
        payload::place(&bundle.dir, "hostprog");
        Self(bundle.path("hostprog"))
    }

    /// Its path by way of a descriptor of whoever executes it.
    fn through(&self, number: u32) -> String {
        through(number, &self.0)
    }
}

/// A path of the host's by way of a directory that this descriptor of a process is.
fn through(number: u32, path: &Path) -> String {
    format!("/proc/self/fd/{number}{}{}", "/..".repeat(12), path.display())
}
