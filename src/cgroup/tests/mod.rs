//! Effects on the machine's own cgroups, v1 or v2. The tests need root and fail without it.
//!
//! `scripts/lab.sh`, and a private mount namespace with only cgroup2, run the same tests in other worlds.

mod devices;
mod limits;
mod systemd;
mod walk;

use super::*;
use crate::plan::cgroup::{CgroupFacts, CgroupRequest, plan};
use oci_spec::runtime::LinuxResources;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A cgroup that is removed when dropped.
pub(super) struct Bench {
    pub(super) made: CgroupSetup,
    pub(super) plan: CgroupPlan,
    pub(super) facts: CgroupFacts,
    children: Vec<Child>,
    /// A directory for its scripts: `$D`.
    scratch: PathBuf,
}

impl Bench {
    /// Makes a cgroup with these `linux.resources`.
    pub(super) fn new(resources: &str) -> Self {
        Self::planned(resources).unwrap()
    }

    fn planned(resources: &str) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        assert!(nix::unistd::geteuid().is_root(), "the tests of cgroup effects need root");
        let facts = facts(false).unwrap();
        let resources: LinuxResources = serde_json::from_str(resources).unwrap();
        let name = format!("onggi-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let (path, scratch) = (format!("/{name}/c"), std::env::temp_dir().join(name));
        std::fs::create_dir(&scratch).unwrap();
        let wanted = CgroupRequest {
            resources: Some(&resources),
            cgroups_path: Some(Path::new(&path)),
            id: "c",
            ..CgroupRequest::default()
        };
        let plan = plan(&wanted, &facts, &mut Vec::new()).inspect_err(|_| std::fs::remove_dir(&scratch).unwrap())?;
        let made = make(&plan).unwrap();
        Ok(Self { made, plan, facts, children: Vec::new(), scratch })
    }

    /// As `new`, with the limits written. `None` in a world without the controller; then the error must say that.
    pub(super) fn limited(controller: &str, resources: &str) -> Option<Self> {
        let done = Self::planned(resources).and_then(|bench| bench.made.limit(&bench.plan).map(|()| bench));
        match done {
            Ok(bench) => Some(bench),
            Err(error) => {
                assert!(!facts(false).unwrap().has(controller), "{error}");
                let said = error.to_string();
                assert!(said.contains("not available") || said.starts_with("cannot set "), "{said}");
                None
            }
        }
    }

    pub(super) fn handle(&self) -> &Cgroup {
        self.made.handle()
    }

    /// Starts a program and places it in every hierarchy.
    pub(super) fn start(&mut self, script: &str) -> i32 {
        // it waits until it is placed
        let mut child =
            child_of(Command::new("/bin/sh").args(["-c", &format!("read go; {script}")]).env("D", &self.scratch));
        let pid = i32::try_from(child.id()).unwrap();
        self.handle().join(pid, &[], false).unwrap();
        child.stdin.take().unwrap().write_all(b"go\n").unwrap();
        self.children.push(child);
        pid
    }

    /// Runs a script in the cgroup. Returns its output (both streams) and its status.
    pub(super) fn run(&mut self, script: &str) -> String {
        self.start(&format!("exec 2>&1; {script}"));
        let output = self.children.pop().unwrap().wait_with_output().unwrap();
        format!("{}{}", String::from_utf8_lossy(&output.stdout), output.status.code().unwrap_or(-1))
    }

    /// A file of the cgroup, in the hierarchy that has the controller.
    pub(super) fn read(&self, controller: &str, file: &str) -> String {
        let paths = &self.handle().cgroup_paths;
        let dir = paths.get(controller).or_else(|| paths.get("")).unwrap();
        std::fs::read_to_string(dir.join(file)).unwrap().trim_end().to_owned()
    }
}

fn child_of(command: &mut Command) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
}

impl CgroupFacts {
    /// Whether the machine has a controller.
    fn has(&self, controller: &str) -> bool {
        let root = self.tree().map(|tree| tree.root.join("cgroup.controllers"));
        let listed = root.and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
        let v1 = match self {
            Self::Unified(_) => false,
            Self::Legacy { hierarchies, .. } => {
                hierarchies.iter().any(|h| h.controllers.iter().any(|c| c == controller))
            }
        };
        v1 || listed.split_whitespace().any(|name| name == controller)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = self.handle().kill_all();
        for child in &mut self.children {
            let _ = child.wait();
        }
        let _ = self.handle().remove();
        let _ = std::fs::remove_dir_all(&self.scratch);
        self.made.undo().unwrap();
        for path in self.handle().cgroup_paths.values() {
            let _ = path.parent().map(std::fs::remove_dir);
        }
    }
}

#[test]
fn lives_and_dies() {
    let mut bench = Bench::new("{}");
    let handle = bench.handle().clone();
    bench.made.limit(&bench.plan).unwrap();
    let pid = bench.start("exec sleep 1000");
    let own = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    for key in handle.cgroup_paths.keys() {
        let names = |line: &str| line.split(':').nth(1).unwrap().split(',').any(|name| name == key);
        let line = own.lines().find(|line| names(line)).unwrap();
        assert!(line.contains("/onggi-test-") && line.ends_with("/c"), "{line}");
    }

    let used = make(&bench.plan).unwrap_err().to_string();
    assert_eq!(used, "container's cgroup is not empty: 1 process(es) found");

    handle.freeze().unwrap();
    assert!(handle.frozen().unwrap());
    assert_eq!(make(&bench.plan).unwrap_err().to_string(), used);
    handle.thaw().unwrap();
    assert!(!handle.frozen().unwrap());

    handle.freeze().unwrap();
    handle.kill_all().unwrap();
    // not reaped yet, which must not matter
    handle.remove().unwrap();
    assert!(!handle.exists());
    handle.remove().unwrap();
}

#[test]
fn is_not_made_in_a_frozen_cgroup() {
    let bench = Bench::new("{}");
    bench.handle().freeze().unwrap();
    assert_eq!(make(&bench.plan).unwrap_err().to_string(), "container's cgroup unexpectedly frozen");
    bench.handle().thaw().unwrap();
    // an empty one that somebody else created is accepted
    make(&bench.plan).unwrap();
}

#[test]
fn what_cannot_be_frozen_runs_on() {
    // files like those of a cgroup that never becomes frozen
    let dir = std::env::temp_dir().join(format!("onggi-test-{}-frost", std::process::id()));
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("cgroup.events"), "populated 1\nfrozen 0\n").unwrap();
    std::fs::write(dir.join("cgroup.freeze"), "0").unwrap();
    let handle = Cgroup::of(&[("", &dir)]);
    let error = handle.freeze_within(Duration::from_millis(50)).unwrap_err().to_string();
    let left = std::fs::read_to_string(dir.join("cgroup.freeze")).unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
    assert!(error.starts_with("unable to freeze: freeze cgroup ") && error.ends_with("timed out"), "{error}");
    assert_eq!(left, "0");
}

#[test]
fn leaves_nothing_of_a_failure() {
    let bench = Bench::new("{}");
    let mut plan = bench.plan.clone();
    for path in plan.paths.values_mut() {
        *path = path.join("a/b");
    }
    // the last hierarchy can't be removed
    plan.paths.insert("zzz".to_owned(), "/proc/self/nowhere/a".into());
    let error = make(&plan).unwrap_err().to_string();
    assert!(error.starts_with("unable to apply cgroup configuration: make cgroup /proc/self/nowhere"), "{error}");
    for path in bench.handle().cgroup_paths.values() {
        assert!(!path.join("a").exists(), "{}", path.display());
    }
}

#[test]
fn catches_those_who_fork_while_being_killed() {
    let mut bench = Bench::new("{}");
    for _ in 0..4 {
        bench.start("f() { sleep 0.01 & f; }; f 2> /dev/null");
    }
    // takes a while on a slow kernel
    let busy = || bench.handle().pids().unwrap().len() > 8;
    let seen = (0..1000).any(|_| busy() || (std::thread::sleep(Duration::from_millis(10)), false).1);
    assert!(seen, "they fork");
    bench.handle().kill_all().unwrap();
    bench.handle().remove().unwrap();
    assert!(!bench.handle().exists());
}

#[test]
fn kills_without_a_cgroup2_tree() {
    let mut bench = Bench::new("{}");
    let mut v1 = bench.handle().clone();
    v1.cgroup_paths.remove("");
    if v1.cgroup_paths.is_empty() {
        // nothing to do without v1
        v1.kill_all().unwrap();
        assert!(v1.freeze().is_err());
        return;
    }
    for _ in 0..3 {
        bench.start("f() { sleep 0.01 & f; }; f 2> /dev/null");
    }
    std::thread::sleep(Duration::from_millis(50));
    // in a frozen v1 cgroup no process dies before it is thawed
    v1.freeze().unwrap();
    v1.kill_all().unwrap();
    assert!(!v1.frozen().unwrap());
    v1.remove().unwrap();
    assert!(!v1.exists());
}

#[test]
fn removes_what_the_payload_made_below() {
    let mut bench = Bench::new("{}");
    let dir = bench.handle().cgroup_paths.values().next().unwrap().join("sub/sub");
    std::fs::create_dir_all(&dir).unwrap();
    let pid = bench.start("sleep 1000");
    std::fs::write(dir.join("cgroup.procs"), pid.to_string()).unwrap();
    if !bench.handle().is_pure() {
        std::fs::create_dir(bench.handle().legacy().next().unwrap().join("sub")).unwrap();
    }
    assert!(bench.handle().pids().unwrap().contains(&pid));
    bench.handle().kill_all().unwrap();
    bench.handle().remove().unwrap();
    assert!(!bench.handle().exists());
}

#[test]
fn signals_everybody() {
    let mut bench = Bench::new("{}");
    let pid = bench.start("exec 2> /dev/null; trap 'exit 7' TERM; while :; do sleep 0.01; done");
    std::thread::sleep(Duration::from_millis(50));
    bench.handle().signal_all(15).unwrap();
    let status = bench.children.pop().unwrap().wait().unwrap();
    assert_eq!(status.code(), Some(7), "{pid}");
}

#[test]
fn is_given_to_its_owner() {
    use std::os::unix::fs::MetadataExt;
    let mut bench = Bench::new("{}");
    bench.plan.owner = Some(4242);
    bench.made.limit(&bench.plan).unwrap();
    let Some(path) = bench.handle().unified() else { return };
    let owner = |file: &str| std::fs::metadata(path.join(file)).map(|m| m.uid()).ok();
    assert_eq!(owner(""), Some(4242));
    for file in ["cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
        assert_eq!(owner(file), Some(4242), "{file}");
    }
    for file in ["cgroup.max.depth", "memory.max", "pids.max", "cpu.max"] {
        assert_ne!(owner(file), Some(4242), "{file}");
    }
}

#[test]
fn without_the_kernels_list_three_files_are_given_away() {
    use std::os::unix::fs::MetadataExt;
    let bench = Bench::new("{}");
    let Some(path) = bench.handle().unified() else { return };
    delegate::delegate_listed(path, 4242, Path::new("/nosuch/list")).unwrap();
    let mut given: Vec<String> = std::fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.metadata().unwrap().uid() == 4242)
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    given.sort();
    assert_eq!(given, ["cgroup.procs", "cgroup.subtree_control", "cgroup.threads"]);
}

#[test]
fn threads_are_killed_too() {
    let mut bench = Bench::new("{}");
    let Some(path) = bench.handle().unified().map(Path::to_owned) else { return };
    let parent = path.parent().unwrap();
    let given = std::fs::read_to_string(parent.join("cgroup.subtree_control")).unwrap();
    for name in given.split_whitespace() {
        std::fs::write(parent.join("cgroup.subtree_control"), format!("-{name}")).unwrap();
    }
    std::fs::write(path.join("cgroup.type"), "threaded").unwrap();
    let pid = bench.start("exec sleep 1000");
    assert_eq!(bench.handle().pids().unwrap(), [pid]);
    bench.handle().freeze().unwrap();
    bench.handle().thaw().unwrap();
    bench.handle().kill_all().unwrap();
    bench.handle().remove().unwrap();
    assert!(!bench.handle().exists());
}

#[test]
fn what_may_not_be_made() {
    // no directory can be created in sysfs
    let plan = |permission| CgroupPlan {
        paths: [(String::new(), "/sys/kernel/onggi-test".into())].into(),
        root: "/sys/kernel".into(),
        permission,
        rootless: Rootless::Yes,
        ..CgroupPlan::default()
    };
    let none = make(&plan(Permission::Optional)).unwrap();
    assert!(none.handle().cgroup_paths.is_empty() && none.clone_into_fd().is_none() && !none.needs_placing());
    assert!(none.forgiven());
    none.limit(&plan(Permission::Optional)).unwrap();
    let made = "make cgroup /sys/kernel/onggi-test: operation not permitted";
    assert_eq!(
        make(&plan(Permission::NeededForLimits)).unwrap_err().to_string(),
        format!("rootless needs no limits + no cgrouppath when no permission is granted for cgroups: {made}")
    );
    let refused = format!("unable to apply cgroup configuration: {made}");
    assert_eq!(make(&plan(Permission::Needed)).unwrap_err().to_string(), refused);
    for rootless in [Rootless::No, Rootless::InUserNamespace] {
        let plan = CgroupPlan { rootless, ..plan(Permission::Optional) };
        // the tests run as root of the machine
        assert_eq!(make(&plan).unwrap_err().to_string(), refused);
    }
}
