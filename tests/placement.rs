//! The path and owner of a container's cgroup in unusual hierarchies, and its removal.

use crate::support::runtime::Call;
use crate::support::world::{has_controller, hierarchies, home, unified};
use crate::support::{Bundle, Output, World, json, kernel, not_here, peer_differs, world};
use std::path::{Path, PathBuf};
use std::process::Command;

/// cgroups that a test creates; removed on drop, last one first.
struct Made(Vec<PathBuf>);

impl Made {
    fn new() -> Self {
        Self(Vec::new())
    }

    fn make(&mut self, path: &Path) -> PathBuf {
        std::fs::create_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        self.0.push(path.to_owned());
        path.to_owned()
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for path in self.0.iter().rev() {
            // a process that has just ended may still be counted
            let busy = || std::fs::remove_dir(path).is_err_and(|error| error.raw_os_error() == Some(libc::EBUSY));
            (0..200).any(|_| !busy() || (std::thread::sleep(std::time::Duration::from_millis(5)), false).1);
        }
    }
}

#[test]
fn a_hybrid_host_sets_limits_in_both_hierarchies() {
    let memory = json!({"memory": {"limit": 67_108_864}});
    let huge = json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4_194_304}]});
    let of_v2 = [("memory", "memory.max", "67108864", memory), ("hugetlb", "hugetlb.2MB.max", "4194304", huge)];
    let here = of_v2.into_iter().find(|(name, ..)| world() == World::V1 && home(name) == Some(World::V2));
    let Some((controller, file, value, mut limits)) = here else {
        assert!(not_here("no controller is in the tree beside v1 hierarchies"));
        return;
    };
    if peer_differs(&["runc", "crun"], "knows v1 hierarchies only, or refuses hybrid hosts") {
        return;
    }
    limits["pids"] = json!({"limit": 20});
    let bundle = Bundle::new("hybrid").set("/linux/resources", limits).sees(&["pause"]);
    let pid = bundle.up();
    assert_eq!(home("pids"), Some(World::V1));
    assert_eq!(bundle.cgroup_file("pids", "pids.max"), "20");
    assert_eq!(bundle.cgroup_file(controller, file), value);
    for name in ["pids", controller] {
        assert_eq!(kernel::cgroup_of(pid, name), bundle.cgroup(), "{name}");
    }
    bundle.down();
}

/// Runs the runtime in this cgroup.
fn called_from(bundle: &Bundle, cgroup: &Path) -> Output {
    bundle.verb(&["--version"]).ok();
    let mut command = Command::new("sh");
    command.args(["-c", "echo $$ > \"$0\"; exec \"$@\""]).arg(cgroup.join("cgroup.procs")).arg(&bundle.binary);
    command.arg("--root").arg(bundle.state_root()).current_dir(&bundle.dir);
    Call::new(command, &bundle.path("called")).args(["create", &bundle.id]).finish()
}

#[test]
fn a_relative_cgroup_path_is_resolved_from_the_callers_cgroup() {
    if peer_differs(&["crun"], "takes the top of the tree") {
        return;
    }
    for relative in [None, Some("a/b")] {
        let bundle = Bundle::new("near").without("/linux/cgroupsPath").sees(&["pause"]);
        let bundle =
            relative.map_or(bundle, |path| Bundle::new("near").set("/linux/cgroupsPath", path).sees(&["pause"]));
        let mut made = Made::new();
        let v1 = Path::new("/sys/fs/cgroup/pids").to_path_buf();
        let top = if world() == World::V2 { unified().unwrap() } else { v1 };
        let outer = made.make(&top.join(format!("{}-caller", bundle.id)));
        let caller = made.make(&outer.join("own"));
        called_from(&bundle, &caller).ok();
        // v1: below the caller's; v2: next to it, since a cgroup with processes cannot have children with controllers
        let near = if world() == World::V2 { outer.clone() } else { caller.clone() };
        let near = Path::new("/").join(near.strip_prefix(&top).unwrap());
        let place = near.join(relative.unwrap_or(&bundle.id));
        assert_eq!(kernel::cgroup_of(bundle.pid(), "pids"), place.display().to_string());
        bundle.down();
        if relative.is_some() {
            made.0.push(top.join(place.parent().unwrap().strip_prefix("/").unwrap()));
            for hierarchy in hierarchies().into_iter().filter(|path| *path != top) {
                let _ = std::fs::remove_dir(hierarchy.join("a"));
            }
        }
    }
}

#[test]
fn below_a_threaded_cgroup_the_cgroup_is_threaded() {
    if world() == World::V1 && not_here("v1 has no threaded cgroups") {
        return;
    }
    let bundle = Bundle::new("threaded");
    let mut made = Made::new();
    let domain = made.make(&unified().unwrap().join(format!("{}-domain", bundle.id)));
    let sibling = made.make(&domain.join("sibling"));
    std::fs::write(sibling.join("cgroup.type"), "threaded").unwrap();
    let path = format!("/{0}-domain/{0}", bundle.id);
    let bundle = bundle.set("/linux/cgroupsPath", path).sees(&["pause"]);
    let bundle = if has_controller("pids") { bundle.set("/linux/resources/pids/limit", 20) } else { bundle };
    bundle.up();
    assert_eq!(bundle.cgroup_file("", "cgroup.type"), "threaded");
    bundle.verb(&["exec", &bundle.id, "/payload", "true"]).ok();
    bundle.verb(&["pause", &bundle.id]).ok();
    bundle.verb(&["resume", &bundle.id]).ok();
    bundle.down();
    // domain controllers are not available in a threaded cgroup
    let bundle = bundle.set("/linux/resources/memory/limit", 67_108_864);
    let output = bundle.create();
    assert_ne!(output.code, 0, "{output}");
    assert!(output.stderr.contains("domain controllers") || output.stderr.contains("memory"), "{output}");
    drop(made);
}

#[test]
fn a_writable_cgroup_mount_gives_the_payload_ownership() {
    let mount = |bundle: Bundle, options: &[&str]| bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", options);
    let own = if world() == World::V2 { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/pids" };
    let (sub, procs) = (format!("{own}/sub"), format!("{own}/cgroup.procs"));
    let words = ["mkdir", &sub, "+", "stat", &procs];
    let made = format!("mkdir {sub}");
    let open = |options: &[&str]| mount(Bundle::new("owner").user_namespace(), options).run(&words).ok();
    let output = open(&["nosuid", "noexec", "nodev"]);
    if world() == World::V1 {
        // v1 hierarchies are not delegated to other user namespaces
        assert_eq!(output.get(&made), Some("EACCES"), "{output}");
    } else if !peer_differs(&["runc"], "gives away what systemd made only") {
        let owner = output.get(&format!("{procs}.owner")).unwrap_or_default();
        assert!(owner.starts_with("0:") && output.get(&made) == Some("ok"), "{output}");
    }
    open(&["nosuid", "noexec", "nodev", "ro"]).has(&made, "EROFS");
}

#[test]
fn processes_that_keep_forking_are_killed() {
    if peer_differs(&["runc<1.2"], "kills a list of them, once") {
        return;
    }
    // with a pid namespace the kernel would kill them with init
    for _ in 0..10 {
        let bundle = Bundle::new("runaways").without_namespace("pid").sees(&["runaways", "16", "+", "pause"]);
        bundle.up();
        std::thread::sleep(std::time::Duration::from_millis(20));
        bundle.down();
        bundle.nothing_left();
    }
}

#[test]
fn a_thousand_containers_leave_nothing() {
    // User Mode Linux is slow: use a tenth
    let each = if std::env::var_os("ONGGI_LAB").is_some() { 25 } else { 250 };
    let some = || {
        let bundle = Bundle::new("thousand").sees(&["true"]);
        for _ in 0..each {
            bundle.run_as_is().ok();
        }
        bundle.nothing_left();
        assert_eq!(std::fs::read_dir(bundle.state_root()).map_or(0, Iterator::count), 0);
    };
    std::thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(some))));
}
