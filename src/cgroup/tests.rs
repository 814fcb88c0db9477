//! The effects, proved on the machine's own cgroups: needs root and says so.

use super::*;
use crate::plan::cgroup::{CgroupFacts, Wanted, plan};
use oci_spec::runtime::LinuxResources;
use std::path::Path;
use std::process::{Child, Command};

/// A cgroup that is gone at the end, whatever happens in between.
struct Bench {
    made: Made,
    plan: CgroupPlan,
    facts: CgroupFacts,
    children: Vec<Child>,
}

impl Bench {
    fn new(name: &str, resources: &str) -> Self {
        assert!(nix::unistd::geteuid().is_root(), "the tests of cgroup effects need root");
        let facts = facts(false).unwrap();
        let resources: LinuxResources = serde_json::from_str(resources).unwrap();
        let path = format!("/onggi-test-{name}-{}/c", std::process::id());
        let wanted =
            Wanted { resources: Some(&resources), cgroups_path: Some(Path::new(&path)), id: "c", ..Wanted::default() };
        let plan = plan(&wanted, &facts, &mut Vec::new()).unwrap();
        let made = make(&plan).unwrap();
        Self { made, plan, facts, children: Vec::new() }
    }

    /// Starts a program and places it in every hierarchy.
    fn start(&mut self, program: &str, args: &[&str]) -> i32 {
        let child = Command::new(program).args(args).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        self.children.push(child);
        self.made.handle().join(pid, &[], false).unwrap();
        pid
    }

    fn read(&self, controller: &str, file: &str) -> String {
        let paths = &self.made.handle().cgroup_paths;
        let dir = paths.get(controller).or_else(|| paths.get("")).unwrap();
        std::fs::read_to_string(dir.join(file)).unwrap().trim_end().to_owned()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = self.made.handle().kill_all();
        for child in &mut self.children {
            let _ = child.wait();
        }
        let _ = self.made.handle().remove();
        self.made.undo();
        for path in self.made.handle().cgroup_paths.values() {
            let _ = path.parent().map(std::fs::remove_dir);
        }
    }
}

#[test]
fn lives_and_dies() {
    let mut bench = Bench::new("life", "{}");
    let handle = bench.made.handle().clone();
    bench.made.limit(&bench.plan).unwrap();
    let pid = bench.start("/bin/sleep", &["1000"]);
    assert_eq!(handle.pids().unwrap(), [pid]);
    let own = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    for key in handle.cgroup_paths.keys() {
        let mark = if key.is_empty() { "0::".to_owned() } else { format!(":{key}:") };
        let line = own.lines().find(|line| line.contains(&mark)).unwrap();
        assert!(line.contains("/onggi-test-life-") && line.ends_with("/c"), "{line}");
    }

    let used = make(&bench.plan).unwrap_err().to_string();
    assert_eq!(used, "container's cgroup is not empty: 1 process(es) found");

    handle.freeze().unwrap();
    assert!(handle.frozen());
    handle.thaw().unwrap();
    assert!(!handle.frozen());

    handle.freeze().unwrap();
    handle.kill_all().unwrap();
    // not reaped yet, and that must not matter
    handle.remove().unwrap();
    assert!(!handle.exists());
    handle.remove().unwrap();
    let _ = &bench.facts;
}

#[test]
fn limits_are_written() {
    // 2 MB pages are a controller that v1 leaves to cgroup2 on the test machines, pids one that it does not
    let mut written = 0;
    for (limit, controller, file, value) in [
        (r#"{"pids":{"limit":7}}"#, "pids", "pids.max", "7"),
        (r#"{"hugepageLimits":[{"pageSize":"2MB","limit":4194304}]}"#, "hugetlb", "hugetlb.2MB.max", "4194304"),
    ] {
        let bench = Bench::new("limits", limit);
        match bench.made.limit(&bench.plan) {
            Ok(()) => {
                assert_eq!(bench.read(controller, file), value);
                written += 1;
            }
            Err(error) => assert!(error.to_string().contains("not available"), "{error}"),
        }
    }
    assert!(written > 0, "no controller to test with");
}
