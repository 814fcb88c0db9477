//! Cgroups of unprivileged callers: none at all, or a delegated subtree.

use crate::support::kernel::{cgroup_of, mount_at, mounts};
use crate::support::runtime::Call;
use crate::support::user::{Caller, refused};
use crate::support::{Bundle, World, json, not_here, peer_differs, until, world};
use std::path::{Path, PathBuf};

/// A container that could not get a cgroup.
#[test]
fn a_refused_cgroup_is_ignored_without_limits() {
    if refused() {
        return;
    }
    let bundle = Bundle::rootless("forgiven").sees(&["pause"]);
    let pid = bundle.up();
    assert!(!cgroup_of(pid, "pids").contains(&bundle.id));
    bundle.verb(&["pause", &bundle.id]).fails(1, "");
    let listed = bundle.verb(&["ps", &bundle.id]).fails(1, "");
    // an empty list would be wrong, so it is an error
    assert!(listed.stdout.is_empty(), "{listed}");
    bundle.verb(&["exec", &bundle.id, "/payload", "true"]).ok();
    bundle.down();
}

#[test]
fn limits_that_cannot_be_set_are_an_error() {
    if refused() {
        return;
    }
    let limit = json!({"pids": {"limit": 10}});
    let bundle = Bundle::rootless("limit").set("/linux/resources", limit);
    let words = "rootless needs no limits + no cgrouppath when no permission is granted for cgroups";
    if peer_differs(&["runc"], "says of v1, and of controllers that the tree has not, which limit it was") {
        bundle.run_as_is().fails(1, "");
    } else {
        bundle.run_as_is().fails(1, words);
    }
    bundle.nothing_left();
    let bundle = Bundle::rootless("path").set("/linux/cgroupsPath", "/nosuch/cgroup");
    bundle.run_as_is().fails(1, "unable to apply cgroup configuration");
    bundle.nothing_left();
}

#[test]
fn the_rootless_flag_decides_what_is_ignored() {
    if refused() {
        return;
    }
    let table = [("auto", true), ("true", true), ("false", false)];
    let callers: [fn(&str) -> Bundle; 2] =
        [|name| Bundle::rootless(name), |name| Bundle::users(name).called_by_inner_root("m")];
    for caller in callers {
        for (value, forgiven) in table {
            let bundle = caller(&format!("rootless-{value}"));
            let output =
                bundle.runtime().args(["--rootless", value, "run", "--bundle"]).args([&bundle.dir]).arg(&bundle.id);
            let output = output.finish();
            if forgiven {
                output.ok();
            } else {
                output.fails(1, "unable to apply cgroup configuration");
            }
        }
    }
}

#[test]
fn without_cgroup_and_pid_namespace_there_is_a_warning() {
    if refused() {
        return;
    }
    let bundle = Bundle::rootless("no-grip").without_namespace("pid").without_mount("/proc");
    let bundle =
        bundle.bind("/proc", "/proc", &["rbind"]).without("/linux/maskedPaths").without("/linux/readonlyPaths");
    let output = bundle.run_as_is().ok();
    assert!(output.stderr.contains("no cgroup and no private pid namespace"), "{output}");
    assert!(!Bundle::rootless("grip").run_as_is().ok().stderr.contains("strongly discouraged"));
}

#[test]
fn without_a_cgroup_the_cgroup_mount_is_empty_or_read_only() {
    if refused() || (world() == World::V1 && not_here("v1: each hierarchy is mounted by itself")) {
        return;
    }
    // CVE-2023-25809: a writable cgroup mount may be underneath
    let bundle = Bundle::rootless("covered").mount("/sys/fs/cgroup", "cgroup", "cgroup", &["rw"]);
    let bundle = bundle.namespace("cgroup", None).sees(&[
        "ls",
        "/sys/fs/cgroup",
        "+",
        "mkdir",
        "/sys/fs/cgroup/x",
        "+",
        "mountinfo",
    ]);
    let output = bundle.run_as_is().ok().has("ls /sys/fs/cgroup", "").has("mkdir /sys/fs/cgroup/x", "EROFS");
    let found = mounts(&output.stdout);
    assert_eq!(found.iter().rfind(|mount| mount.point == "/sys/fs/cgroup").unwrap().fstype, "tmpfs");
    let bundle = Bundle::rootless("shared").mount("/sys/fs/cgroup", "cgroup", "cgroup", &["ro"]);
    let output =
        bundle.run(&["mkdir", "/sys/fs/cgroup/x", "+", "mountinfo"]).ok().has("mkdir /sys/fs/cgroup/x", "EROFS");
    let found = mounts(&output.stdout);
    assert_eq!(found.iter().rfind(|mount| mount.point == "/sys/fs/cgroup").unwrap().fstype, "cgroup2");
}

#[test]
fn on_v1_the_callers_own_cgroups_are_visible() {
    if refused() || (world() == World::V2 && not_here("v2: there is one tree")) {
        return;
    }
    let bundle = Bundle::rootless("branches").mount("/sys/fs/cgroup", "cgroup", "cgroup", &["ro"]);
    let output = bundle.run(&["mountinfo", "+", "mkdir", "/sys/fs/cgroup/pids/x"]).ok();
    assert_eq!(mount_at(&mounts(&output.stdout), "/sys/fs/cgroup/pids").fstype, "cgroup");
    assert_eq!(output.get("mkdir /sys/fs/cgroup/pids/x"), Some("EROFS"), "{output}");
}

/// A subtree of cgroup2 that is delegated to the user, as with systemd's `Delegate=`.
struct Delegated(PathBuf);

impl Delegated {
    fn new(bundle: &Bundle) -> Self {
        let top = Path::new("/sys/fs/cgroup").join(format!("{}-user", bundle.id));
        std::fs::create_dir_all(top.join("caller")).unwrap();
        Bundle::given(&top);
        for dir in [top.clone(), top.join("caller")] {
            for file in ["cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
                Bundle::given(&dir.join(file));
            }
        }
        Self(top)
    }

    fn caller(&self) -> String {
        format!("echo $$ > {}/caller/cgroup.procs || exit 99", self.0.display())
    }
}

impl Drop for Delegated {
    fn drop(&mut self) {
        // the last process may take a moment to disappear
        for _ in 0..100 {
            let _ = std::fs::remove_dir(self.0.join("caller"));
            if std::fs::remove_dir(&self.0).is_ok() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

#[test]
fn in_a_delegated_subtree_all_verbs_work() {
    if refused() || (world() == World::V1 && not_here("v1: no part of a hierarchy is given to users")) {
        return;
    }
    let bundle = Bundle::rootless("delegated").sees(&["pause"]);
    let part = Delegated::new(&bundle);
    let bundle = bundle.called_by(&Caller { first: &part.caller(), ..Caller::default() });
    let pid = bundle.up();
    let place = part.0.join(&bundle.id);
    let members = || std::fs::read_to_string(place.join("cgroup.procs")).unwrap();
    assert_eq!(members(), format!("{pid}\n"));
    assert_eq!(bundle.verb(&["ps", "--format", "json", &bundle.id]).ok().json(), json!([pid]));
    let inside = bundle.verb(&["exec", &bundle.id, "/payload", "cgroup"]).ok();
    assert!(inside.stdout.trim_end().ends_with(&format!("/{}", bundle.id)), "{inside}");
    bundle.verb(&["pause", &bundle.id]).ok();
    bundle.wait_for("paused");
    bundle.verb(&["resume", &bundle.id]).ok();
    bundle.wait_for("running");
    bundle.down();
    assert!(!place.exists());
    drop(part);
}

#[test]
fn in_a_delegated_subtree_the_container_sees_its_own_cgroup() {
    if refused() || (world() == World::V1 && not_here("v1: no part of a hierarchy is given to users")) {
        return;
    }
    let bundle =
        Bundle::rootless("own-part").namespace("cgroup", None).mount("/sys/fs/cgroup", "cgroup", "cgroup", &["rw"]);
    let part = Delegated::new(&bundle);
    let bundle = bundle.called_by(&Caller { first: &part.caller(), ..Caller::default() });
    let words =
        ["cgroup", "+", "mkdir", "/sys/fs/cgroup/inner", "+", "write", "/sys/fs/cgroup/inner/cgroup.procs", "0"];
    let bundle = bundle.sees(&words);
    let output = bundle.run_as_is();
    drop(part);
    let output = output.ok().has("mkdir /sys/fs/cgroup/inner", "ok");
    assert!(output.stdout.lines().any(|line| line == "0::/"), "{output}");
    output.has("write /sys/fs/cgroup/inner/cgroup.procs", "ok");
}

/// Starts the user's service manager and returns the environment variables for it. Without systemd it returns `None` and
/// prints that the test did not run.
fn manager() -> Option<String> {
    let booted = Path::new("/run/systemd/system").is_dir() && world() == World::V2;
    if !booted && not_here("no systemd with cgroup v2") {
        return None;
    }
    let said = std::env::temp_dir().join(format!("onggi-test-{}-manager", std::process::id()));
    let mut start = std::process::Command::new("systemctl");
    start.args(["start", "user@65534.service"]);
    Call::new(start, &said).finish().ok();
    until("the user's bus", || Path::new("/run/user/65534/bus").exists().then_some(()));
    Some("env -u DBUS_SESSION_BUS_ADDRESS XDG_RUNTIME_DIR=/run/user/65534".to_owned())
}

/// A bundle with a limit, whose cgroup the user's systemd creates.
fn scoped(bundle: Bundle, name: &str, through: &str) -> Bundle {
    bundle
        .set("/linux/resources", json!({"pids": {"limit": 20}}))
        .set("/linux/cgroupsPath", format!("user.slice:onggi:{name}"))
        .mount("/sys/fs/cgroup", "cgroup", "cgroup", &["ro"])
        .namespace("cgroup", None)
        .called_by(&Caller { through, ..Caller::default() })
}

#[test]
fn the_users_systemd_creates_the_cgroup() {
    let Some(variables) = manager() else { return };
    let bundle = scoped(Bundle::rootless("user"), "user", &variables).sees(&["pause"]);
    let call = |args: &[&str]| bundle.runtime().arg("--systemd-cgroup").args(args).finish();
    call(&["create", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id]).ok();
    let place = "user.slice/user-65534.slice/user@65534.service/user.slice/onggi-user.scope";
    assert_eq!(cgroup_of(bundle.pid(), "pids"), format!("/{place}"));
    bundle.start().ok();
    // the caller is outside the user's subtree, so the user's systemd has to move the process
    call(&["exec", "--detach", "--pid-file", "exec.pid", &bundle.id, "/payload", "pause"]).ok();
    let second = std::fs::read_to_string(bundle.path("exec.pid")).unwrap().parse().unwrap();
    assert_eq!(cgroup_of(second, "pids"), format!("/{place}"));
    assert_eq!(call(&["exec", &bundle.id, "/payload", "cat", "/sys/fs/cgroup/pids.max"]).ok().stdout, "20\n");
    call(&["update", "--pids-limit", "30", &bundle.id]).ok();
    let place = Path::new("/sys/fs/cgroup").join(place);
    assert_eq!(std::fs::read_to_string(place.join("pids.max")).unwrap(), "30\n");
    call(&["delete", "--force", &bundle.id]).ok();
    assert!(!place.exists());
}

#[test]
fn root_of_a_user_namespace_uses_the_users_systemd() {
    let Some(variables) = manager() else { return };
    let through = format!("{variables} unshare -Urm");
    let bundle = scoped(Bundle::users("inner"), "inner", &through).sees(&["cat", "/sys/fs/cgroup/pids.max"]);
    let call = |flag: &str| {
        let run = ["--systemd-cgroup", flag, "run", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id];
        bundle.runtime().args(run).finish()
    };
    assert_eq!(call("--rootless=auto").ok().stdout, "20\n");
    call("--rootless=false").fails(1, "system bus");
}
