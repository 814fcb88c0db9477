//! The published attacks on runtimes, each made as the attacker would: with a hostile root file system, a hostile neighbour or a
//! hostile payload. `tests/attacks.md` maps tests to CVEs and names the runtime on which each attack was seen to succeed.

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
use crate::support::{Bundle, Output, is_slow, kernel, limit, not_here, payload, peer_differs};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A host directory with a file in it that no container may change.
struct Victim {
    dir: PathBuf,
}

impl Victim {
    fn of(bundle: &Bundle) -> Self {
        let dir = bundle.host_directory("victim");
        std::fs::write(dir.join("kept"), "kept").unwrap();
        Self { dir }
    }

    fn assert_unchanged(&self) {
        let names: Vec<_> = std::fs::read_dir(&self.dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["kept"], "the host's directory was changed");
        assert_eq!(std::fs::read_to_string(self.dir.join("kept")).unwrap(), "kept");
        let [dir, file] = [&self.dir, &self.dir.join("kept")].map(|path| std::fs::metadata(path).unwrap());
        assert_eq!((dir.uid(), dir.mode() & 0o7777, file.uid(), file.mode() & 0o7777), (0, 0o755, 0, 0o644));
        let own = kernel::mounts_of(std::process::id().cast_signed());
        assert!(!own.iter().any(|m| Path::new(&m.point).starts_with(&self.dir)), "something is mounted on the host");
    }
}

/// The number of rounds of a race: `ONGGI_TEST_RUNS` or `few`; a tenth of it on a slow machine.
fn rounds(few: u32) -> u32 {
    let few = if is_slow() { few.div_ceil(10) } else { few };
    std::env::var("ONGGI_TEST_RUNS").map_or(few, |n| n.parse().expect("ONGGI_TEST_RUNS"))
}

/// The time after which a call counts as hung.
fn soon() -> Duration {
    limit(10)
}

/// The descriptor numbers to try: only a few on a slow machine, where `held` still checks all open descriptors.
fn tried(numbers: std::ops::Range<u32>) -> impl Iterator<Item = u32> {
    numbers.step_by(if is_slow() { 8 } else { 1 })
}

/// A container in one variant of a start. The variants differ in what init shares, joins and has open.
struct Variant {
    way: &'static str,
    bundle: Bundle,
    flags: &'static [&'static str],
    /// Dropped after the bundle.
    host: Option<Private>,
}

impl Variant {
    fn of(way: &'static str, bundle: Bundle) -> Self {
        Self { way, bundle, flags: &[], host: None }
    }

    /// Every variant that this machine and the runtime support.
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
            // below 16 MiB init gets a copy of the runtime's memory
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

    /// `all`, with each bundle changed.
    fn all_with(name: &str, change: impl Fn(Bundle) -> Bundle) -> Vec<Self> {
        let change = |variant: Self| Self { bundle: change(variant.bundle), ..variant };
        Self::all(name).into_iter().map(change).collect()
    }

    fn run(&self) -> Output {
        self.bundle.launch("run", self.flags).finish()
    }

    fn create(&self) -> Output {
        self.bundle.launch("create", self.flags).finish()
    }

    /// The pid of its first process in our pid namespace; a runtime on a private host reports another one.
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

/// A host program that no container may execute.
struct HostProgram(PathBuf);

impl HostProgram {
    const RUNS: &str = "A PROGRAM OF THE HOST RUNS";

    fn of(bundle: &Bundle) -> Self {
        payload::place(&bundle.dir, "hostprog");
        Self(bundle.path("hostprog"))
    }

    /// Its path through a descriptor of the executing process.
    fn through(&self, number: u32) -> String {
        through(number, &self.0)
    }
}

/// A host path through a descriptor that is a directory.
fn through(number: u32, path: &Path) -> String {
    format!("/proc/self/fd/{number}{}{}", "/..".repeat(12), path.display())
}
