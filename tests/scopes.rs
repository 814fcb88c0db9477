//! `--systemd-cgroup`: the container is a systemd scope. Without systemd there is an error, without delay.

use crate::support::runtime::Call;
use crate::support::world::has_controller;
use crate::support::{Bundle, Output, Value, json, kernel, peer_differs};
use std::process::Command;
use std::time::Instant;

/// A bundle whose cgroup is a systemd scope.
struct Scope {
    bundle: Bundle,
    /// The path of its slice's cgroup.
    slice: &'static str,
}

impl Scope {
    /// Creates a bundle in a slice with this cgroup path. `None` if systemd does not run; then the error is checked.
    fn new(name: &str, (slice, path): (&str, &'static str)) -> Option<Self> {
        let bundle = Bundle::new(name);
        let cgroups_path = format!("{slice}:test:{}", bundle.id);
        let scope = Self { bundle: bundle.set("/linux/cgroupsPath", cgroups_path), slice: path };
        if std::path::Path::new("/run/systemd/system").exists() {
            return Some(scope);
        }
        let begun = Instant::now();
        let output = scope.launch("run");
        assert!(begun.elapsed() < crate::support::limit(10), "{:?} until {output}", begun.elapsed());
        if !peer_differs(&["runc", "crun"], "has words of its own") {
            output.fails(1, "systemd over the system bus ");
        }
        None
    }

    fn change(self, change: impl FnOnce(Bundle) -> Bundle) -> Self {
        Self { bundle: change(self.bundle), slice: self.slice }
    }

    /// `run` or `create` with `--systemd-cgroup`.
    fn launch(&self, verb: &str) -> Output {
        self.bundle.runtime().args(["--systemd-cgroup", verb, &self.bundle.id]).finish()
    }

    /// Creates and starts the container; returns the pid of its first process.
    fn up(&self) -> i32 {
        self.launch("create").ok();
        self.bundle.start().ok();
        self.bundle.pid()
    }

    fn unit(&self) -> String {
        format!("test-{}.scope", self.bundle.id)
    }

    fn place(&self) -> String {
        format!("{}/{}", self.slice, self.unit())
    }

    fn systemctl(&self, words: &[&str]) -> Output {
        Call::new(Command::new("systemctl"), &self.bundle.path("systemctl")).args(words).finish().ok()
    }

    /// A property of the unit, from `systemctl show`.
    fn shows(&self, property: &str) -> String {
        self.systemctl(&["show", "-P", property, &self.unit()]).stdout.trim_end().to_owned()
    }

    fn is_gone(&self) {
        self.bundle.nothing_left();
        assert_eq!(self.shows("LoadState"), "not-found");
    }
}

const DEFAULT: (&str, &str) = ("", "/system.slice");

#[test]
fn a_container_is_a_systemd_scope() {
    let Some(scope) = Scope::new("scope", DEFAULT) else { return };
    let limits = json!({"pids": {"limit": 20}, "cpu": {"shares": 512}});
    let scope = scope.change(|bundle| bundle.set("/linux/resources", limits).sees(&["pause"]));
    let pid = scope.up();
    assert_eq!(kernel::cgroup_of(pid, "pids"), scope.place());
    assert_eq!(scope.shows("ControlGroup"), scope.place());
    assert_eq!(["ActiveState", "Delegate", "TasksMax"].map(|name| scope.shows(name)), ["active", "yes", "20"]);

    let bundle = &scope.bundle;
    let exec = bundle.verb(&["exec", &bundle.id, "/payload", "cgroup"]).ok();
    assert!(!exec.stdout.contains("/system.slice/lab.service"), "not in the container's cgroup: {exec}");
    let stats = bundle.verb(&["events", "--stats", &bundle.id]).ok().json();
    assert_eq!(stats["data"]["pids"]["limit"], 20, "{stats}");
    bundle.verb(&["update", "--pids-limit", "30", "--cpu-share", "1024", &bundle.id]).ok();
    assert_eq!(scope.shows("TasksMax"), "30");
    let stats = bundle.verb(&["events", "--stats", &bundle.id]).ok().json();
    assert_eq!(stats["data"]["pids"]["limit"], 30, "{stats}");
    if has_controller("freezer") || crate::support::world() == crate::support::World::V2 {
        bundle.verb(&["pause", &bundle.id]).ok();
        bundle.wait_for("paused");
        bundle.verb(&["resume", &bundle.id]).ok();
    }
    bundle.kill("KILL").ok();
    bundle.exit_code(pid);
    bundle.wait_for("stopped");
    bundle.delete().ok();
    scope.is_gone();
}

#[test]
fn limits_survive_a_reload_of_systemd() {
    let Some(scope) = Scope::new("reload", DEFAULT) else { return };
    let limits = json!({"pids": {"limit": 20}, "cpu": {"quota": 30_000, "period": 100_000},
        "devices": [{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 1, "minor": 11, "access": "r"}]});
    let scope = scope
        .change(|bundle| bundle.set("/linux/resources", limits).caps(&["CAP_MKNOD", "CAP_SYSLOG"]).sees(&["pause"]));
    scope.up();
    let bundle = &scope.bundle;
    let look = || {
        let nodes = ["rm", "/dev/k", "+", "mknod", "/dev/k", "c", "1", "11", "+", "open", "/dev/k", "r", "+"];
        let denied = ["rm", "/dev/m", "+", "mknod", "/dev/m", "c", "1", "1", "+", "open", "/dev/m", "r"];
        let output = bundle.runtime().args(["exec", &bundle.id, "/payload"]).args(nodes).args(denied).finish().ok();
        output.has("open /dev/k r", "ok").has("open /dev/m r", "EPERM");
        bundle.verb(&["events", "--stats", &bundle.id]).ok().json()["data"]["pids"]["limit"].clone()
    };
    assert_eq!(look(), 20);
    scope.systemctl(&["daemon-reload"]);
    // systemd rewrites all settings of a unit when it changes one
    scope.systemctl(&["set-property", "--runtime", &scope.unit(), "CPUWeight=50"]);
    assert_eq!(look(), 20);
    bundle.down();
    scope.is_gone();
}

#[test]
fn slices_are_nested() {
    let Some(scope) = Scope::new("nested", ("onggi-test.slice", "/onggi.slice/onggi-test.slice")) else { return };
    let scope = scope.change(|bundle| bundle.sees(&["pause"]));
    let pid = scope.up();
    assert_eq!(kernel::cgroup_of(pid, "pids"), scope.place());
    scope.bundle.down();
    scope.is_gone();
}

#[test]
fn the_scope_is_removed_when_the_payload_ends() {
    let Some(scope) = Scope::new("ends", DEFAULT) else { return };
    let scope = scope.change(|bundle| bundle.sees(&["exit", "3"]));
    scope.launch("run").code(3);
    scope.is_gone();
    // the name can be used again
    scope.launch("run").code(3);
    scope.is_gone();
    let scope = scope.change(|bundle| bundle.args(&["/no/such/program"]));
    assert_ne!(scope.launch("run").code, 0);
    scope.is_gone();
}

#[test]
fn a_failed_unit_of_the_same_name_is_replaced() {
    let Some(scope) = Scope::new("failed", DEFAULT) else { return };
    let unit = scope.unit();
    let words = ["--scope", "--quiet", "--unit", &unit, "--property", "RuntimeMaxSec=100ms", "sleep", "100"];
    let ended = Call::new(Command::new("systemd-run"), &scope.bundle.path("run")).args(words).finish();
    assert_ne!(ended.code, 0, "{ended}");
    crate::support::until("the unit to fail", || (scope.shows("ActiveState") == "failed").then_some(()));
    let scope = scope.change(|bundle| bundle.sees(&["exit", "4"]));
    scope.launch("run").code(4);
    scope.is_gone();
}

#[test]
fn annotations_set_unit_properties() {
    let Some(scope) = Scope::new("annotated", DEFAULT) else { return };
    let annotations: Value = json!({"org.systemd.property.TimeoutStopSec": "7",
        "org.systemd.property.CollectMode": "'inactive-or-failed'"});
    let scope = scope.change(|bundle| bundle.set("/annotations", annotations).sees(&["pause"]));
    scope.up();
    assert_eq!(["TimeoutStopUSec", "CollectMode"].map(|name| scope.shows(name)), ["7s", "inactive-or-failed"]);
    scope.bundle.down();
    scope.is_gone();
    let wrong = json!({"org.systemd.property.TimeoutStopSec": "soon"});
    let scope = scope.change(|bundle| bundle.set("/annotations", wrong));
    scope.launch("run").fails(1, "org.systemd.property.TimeoutStopSec");
    scope.is_gone();
}

#[test]
fn a_path_must_name_slice_prefix_and_name() {
    let Some(scope) = Scope::new("format", DEFAULT) else { return };
    let scope = scope.change(|bundle| bundle.set("/linux/cgroupsPath", "/a/b"));
    scope.launch("run").fails(1, "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups");
}
