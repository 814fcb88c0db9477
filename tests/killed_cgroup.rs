//! Callers and containers in a cgroup in which `cgroup.kill` was written once. The kernel kills children that are cloned into
//! such a cgroup, or from it into another one (seen on Linux 6.18).

use crate::support::{Bundle, World, kernel, not_here, process, world};
use std::path::{Path, PathBuf};

/// A cgroup v2 directory in which `cgroup.kill` was written while it was empty; removed at the end.
struct Killed(PathBuf);

impl Killed {
    fn new(path: PathBuf) -> Self {
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join("cgroup.kill"), "1").unwrap();
        Self(path)
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

fn hierarchy() -> Option<&'static Path> {
    ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
        .map(Path::new)
        .into_iter()
        .find(|top| top.join("cgroup.procs").exists())
}

/// `run` and `exec`, from a caller in such a cgroup, as the bundle is.
fn from_killed(name: &str, change: impl FnOnce(Bundle) -> Bundle) {
    let Some(top) = hierarchy() else {
        let _ = not_here("there is no cgroup2");
        return;
    };
    let bundle = change(Bundle::new(name)).sees(&["pause"]);
    let cgroup = Killed::new(top.join(format!("{}-caller", bundle.id)));
    let procs = cgroup.0.join("cgroup.procs");
    let inside = || vec![procs.clone()];
    let pid_file = bundle.path("pid");
    let flags = ["--detach", "--pid-file", pid_file.to_str().unwrap()];
    bundle.launch("run", &flags).with(|command| process::in_cgroups(command, inside())).finish().ok();
    let pid: i32 = std::fs::read_to_string(&pid_file).unwrap().parse().unwrap();
    assert_eq!(bundle.status(), "running");
    if world() == World::V2 {
        let own = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        assert!(own.trim().ends_with(&bundle.cgroup()), "{own} is not {}", bundle.cgroup());
    }
    for _ in 0..3 {
        let exec = bundle.runtime().args(["exec", &bundle.id, "/payload", "exit", "7"]);
        exec.with(|command| process::in_cgroups(command, inside())).finish().code(7);
    }
    let root = bundle.runtime().args(["exec", &bundle.id, "/payload", "read", "/proc/self/cgroup"]);
    let root = root.with(|command| process::in_cgroups(command, inside())).finish().ok();
    assert!(!root.stdout.contains(&bundle.id), "the cgroup namespace shows the host's path: {root}");
    assert!(kernel::process_state(pid).is_some());
    bundle.down();
    drop(cgroup);
    bundle.nothing_left();
}

#[test]
fn a_caller_in_a_killed_cgroup_can_start_containers() {
    from_killed("killed-caller", |bundle| bundle.namespace("cgroup", None));
}

/// Init is a copy of the host half here, and its ids are mapped.
#[test]
fn a_caller_in_a_killed_cgroup_can_start_containers_in_user_namespaces() {
    from_killed("killed-user", |bundle| bundle.user_namespace().namespace("cgroup", None));
}

/// Without a pid namespace of its own init is cloned by itself; with one that is joined, by an intermediate process.
#[test]
fn a_caller_in_a_killed_cgroup_can_join_a_pid_namespace() {
    let first = Bundle::new("killed-joined").sees(&["pause"]);
    let pid = first.up();
    let path = format!("/proc/{pid}/ns/pid");
    from_killed("killed-join", |bundle| bundle.namespace("pid", Some(&path)).namespace("cgroup", None));
    first.down();
}

#[test]
fn a_killed_cgroup_takes_a_container_and_its_processes() {
    if world() != World::V2 {
        let _ = not_here("the container's own cgroup is not in cgroup2");
        return;
    }
    let bundle = Bundle::new("killed-own").sees(&["pause"]);
    let _own = Killed::new(hierarchy().unwrap().join(bundle.cgroup().trim_start_matches('/')));
    bundle.up();
    for code in [3, 4] {
        bundle.verb(&["exec", &bundle.id, "/payload", "exit", &code.to_string()]).code(code);
    }
    bundle.down();
}
