//! The two ways to create a container's mount namespace: from the root alone (`OPEN_TREE_NAMESPACE`, Linux 7.0), or as a copy
//! of the host's followed by pivot_root. The result is the same for the container.

use crate::support::runtime::Call;
use crate::support::{Bundle, Runtime, json, not_here, peer_differs};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::path::{Path, PathBuf};
use std::process::Command;

const NONE: Option<&str> = None;

/// Whether the kernel has `OPEN_TREE_NAMESPACE` and lets us mount procfs there, which it does not in a user namespace.
fn kernel_can() -> bool {
    let release = nix::sys::utsname::uname().unwrap().release().to_string_lossy().into_owned();
    let first = std::fs::read_link("/proc/self/ns/user").unwrap() == Path::new("user:[4026531837]");
    release.split('.').next().unwrap().parse::<u32>().unwrap() >= 7 && first
}

/// mountinfo in a form that can be compared: without mount ids, device numbers and the container's own peer groups, with the
/// mount point of each parent, and with the peer groups that mounts receive from counted in the order of their mount points:
/// the kernel gives out the numbers to everybody on the machine.
fn comparable(mountinfo: &str) -> Vec<String> {
    let lines: Vec<Vec<&str>> = mountinfo.lines().map(|line| line.split(' ').collect()).collect();
    let point = |id: &str| lines.iter().find(|line| line[0] == id).map_or("outside", |line| line[4]);
    let mut by_point: Vec<_> = lines.iter().filter(|line| line.len() > 6).collect();
    by_point.sort_by_key(|line| line[4]);
    let mut masters: Vec<&str> = Vec::new();
    for word in by_point.iter().flat_map(|line| line.iter()).filter(|word| word.starts_with("master:")) {
        if !masters.contains(word) {
            masters.push(word);
        }
    }
    let tag = |word: &str| match masters.iter().position(|master| *master == word) {
        Some(place) => format!("master:{place}"),
        None if word.starts_with("shared:") => "shared".to_owned(),
        None => word.to_owned(),
    };
    let tell = |line: &Vec<&str>| {
        let words: Vec<String> = line[3..].iter().map(|word| tag(word)).collect();
        format!("{} on {}", words.join(" "), point(line[1]))
    };
    let mut told: Vec<String> = lines.iter().filter(|line| line.len() > 6).map(tell).collect();
    assert!(told.len() > 8, "{mountinfo}");
    told.sort();
    told
}

fn plan_of(bundle: &Bundle) -> String {
    bundle.runtime().args(["plan"]).args([&bundle.dir]).finish().ok().stdout
}

fn uses_open_tree_namespace(plan: &str) -> bool {
    let alone = plan.contains(", recursive, namespace)");
    assert_eq!(alone, !plan.contains("pivot_root()"), "{plan}");
    let clone = plan.lines().find(|line| line.starts_with("clone ")).unwrap();
    assert_eq!(alone, !clone.split([' ', '|', ',']).any(|word| word == "mount"), "{clone}");
    alone
}

/// The container's mounts, created the new way and the old way. A hook that needs the host's mounts selects the old way.
/// Then calls `undo`, whatever the result.
fn both(bundle: Bundle, undo: impl FnOnce()) -> [Vec<String>; 2] {
    let bundle = bundle.sees(&["mountinfo"]);
    let mut ways = vec![bundle.runtime().args(["plan"]).args([&bundle.dir]).finish()];
    let quick = bundle.run_as_is();
    let bundle = bundle.hook("createContainer", &["id"], &[]);
    ways.push(bundle.runtime().args(["plan"]).args([&bundle.dir]).finish());
    let old = bundle.run_then(undo);
    if Runtime::get().is_onggi() {
        let ways: Vec<bool> = ways.into_iter().map(|plan| uses_open_tree_namespace(&plan.ok().stdout)).collect();
        assert_eq!(ways, [kernel_can(), false]);
    }
    [quick, old].map(|output| comparable(&output.ok().stdout))
}

fn same(bundle: Bundle, undo: impl FnOnce()) -> Vec<String> {
    let [quick, old] = both(bundle, undo);
    assert_eq!(quick, old);
    quick
}

/// A shared tmpfs with a shared, a private and a slave mount in it.
fn tree(bundle: &Bundle) -> PathBuf {
    let top = bundle.host_directory("tree");
    let fresh = |place: &Path, kind: MsFlags| {
        std::fs::create_dir_all(place).unwrap();
        mount(Some("tree"), place, Some("tmpfs"), MsFlags::MS_NODEV, NONE).unwrap();
        mount(NONE, place, NONE, kind, NONE).unwrap();
    };
    fresh(&top, MsFlags::MS_SHARED);
    std::fs::write(top.join("file"), "from the tree").unwrap();
    fresh(&top.join("shared"), MsFlags::MS_SHARED);
    fresh(&top.join("private"), MsFlags::MS_PRIVATE);
    std::fs::create_dir(top.join("receiving")).unwrap();
    mount(Some(&top.join("shared")), &top.join("receiving"), NONE, MsFlags::MS_BIND, NONE).unwrap();
    mount(NONE, &top.join("receiving"), NONE, MsFlags::MS_SLAVE, NONE).unwrap();
    top
}

fn unmount_tree(top: &Path) {
    umount2(top, MntFlags::MNT_DETACH).unwrap();
}

#[test]
fn the_mount_namespace_is_created_from_the_root_if_the_kernel_can() {
    if peer_differs(&["runc", "crun"], "has no plan to show") {
        return;
    }
    let bundle = Bundle::new("alone").sees(&["id"]);
    assert_eq!(uses_open_tree_namespace(&plan_of(&bundle)), kernel_can());
    let log = bundle.path("strace.log");
    let mut command = Command::new("strace");
    command.args(["-f", "-e", "trace=pivot_root,umount2,unshare,clone3,setns,open_tree", "-o"]).arg(&log);
    command.arg(&bundle.binary).arg("--root").arg(bundle.state_root()).current_dir(&bundle.dir);
    Call::new(command, &bundle.path("strace")).args(["run", &bundle.id]).finish().ok();
    let calls = std::fs::read_to_string(log).unwrap();
    for old in ["CLONE_NEWNS|", "pivot_root(", "umount2("] {
        let done = calls.lines().any(|line| line.contains(old) && !line.contains("setns("));
        assert_eq!(done, !kernel_can(), "{old}\n{calls}");
    }
    let entered = calls.lines().any(|line| line.contains("setns(") && line.contains("CLONE_NEWNS"));
    assert_eq!(entered, kernel_can(), "{calls}");
}

#[test]
fn the_mounts_are_the_same_either_way() {
    let bundle = Bundle::new("either");
    let top = tree(&bundle);
    let beside = bundle.host_directory("beside");
    let file = bundle.host_file("file", "text");
    let bundle = bundle
        .bind(&top, "/rbind", &["rbind"])
        .bind(&top, "/bind", &["bind"])
        .bind(&top, "/rprivate", &["rbind", "rprivate", "ro"])
        .bind(&top, "/private", &["rbind", "private"])
        .bind(&top, "/rslave", &["rbind", "rslave", "nosuid"])
        .bind(&top, "/shared", &["rbind", "shared"])
        .bind(&top, "/runbindable", &["rbind", "runbindable"])
        .bind(top.join("shared"), "/rbind/inner", &["bind", "rro"])
        .bind(top.join("file"), "/etc/file", &["bind"])
        .bind(&file, "/etc/other", &["bind", "ro"])
        .bind(&beside, "/beside", &["rbind", "noexec"])
        .bind("rootfs/etc", "/inside", &["rbind"])
        .mount("/tmp", "tmpfs", "tmpfs", &["tmpcopyup", "rslave"])
        .mount("/tmp/deeper", "tmpfs", "tmpfs", &["size=1m"])
        .mount("/sys/fs/cgroup", "cgroup", "cgroup", &["ro", "nosuid"])
        .set("/linux/maskedPaths", json!(["/proc/kcore", "/sys/firmware", "/rbind/file"]))
        .set("/linux/readonlyPaths", json!(["/proc/sys", "/bind"]))
        .set("/root/readonly", true);
    let quick = same(bundle, || unmount_tree(&top));
    assert!(quick.iter().any(|line| line.contains(" /rbind/receiving ") && line.contains("master:")), "{quick:#?}");
    // none of the container's mounts propagated to the host
    assert!(!quick.iter().any(|line| line.contains(" /rbind ") && line.contains("shared")), "{quick:#?}");
}

#[test]
fn propagation_of_the_root_is_the_same_either_way() {
    for value in ["", "private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable"] {
        let bundle = Bundle::new("root");
        let top = tree(&bundle);
        let bundle = bundle.set("/linux/rootfsPropagation", value).sees(&["mountinfo"]);
        let bundle = bundle.bind(&top, "/m", &["rbind"]).bind(&top, "/slave", &["rbind", "rslave"]);
        let quick = bundle.run_as_is();
        let old = bundle.hook("createContainer", &["id"], &[]).run_then(|| unmount_tree(&top));
        let [quick, old] = [quick, old].map(|output| comparable(&output.ok().stdout));
        assert_eq!(quick, old, "{value}");
    }
}

#[test]
fn a_shared_root_is_the_same_either_way() {
    let bundle = Bundle::new("shared-root");
    let root = bundle.rootfs();
    mount(Some(&root), &root, NONE, MsFlags::MS_BIND, NONE).unwrap();
    mount(NONE, &root, NONE, MsFlags::MS_SHARED, NONE).unwrap();
    std::fs::create_dir(root.join("below")).unwrap();
    mount(Some("below"), &root.join("below"), Some("tmpfs"), MsFlags::empty(), NONE).unwrap();
    let bundle = bundle.set("/linux/rootfsPropagation", "rslave");
    let seen = same(bundle, || unmount_tree(&root));
    assert!(seen.iter().any(|line| line.contains(" /below ") && line.contains("master:")), "{seen:#?}");
}

#[test]
fn an_unbindable_mount_can_be_bound_either_way() {
    let bundle = Bundle::new("unbindable");
    let top = tree(&bundle);
    mount(NONE, &top, NONE, MsFlags::MS_UNBINDABLE, NONE).unwrap();
    let bundle = bundle.bind(&top, "/m", &["rbind"]).bind(top.join("shared"), "/shared", &["bind"]);
    let seen = same(bundle, || unmount_tree(&top));
    assert!(seen.iter().any(|line| line.contains(" /m/private ")));
}

#[test]
fn a_bound_mount_namespace_file_is_not_copied_either_way() {
    let bundle = Bundle::new("pinned");
    let top = bundle.host_directory("tree");
    mount(Some("tree"), &top, Some("tmpfs"), MsFlags::empty(), NONE).unwrap();
    mount(NONE, &top, NONE, MsFlags::MS_PRIVATE, NONE).unwrap();
    std::fs::write(top.join("namespace"), "").unwrap();
    std::fs::write(top.join("file"), "").unwrap();
    std::fs::create_dir(top.join("sub")).unwrap();
    mount(Some("sub"), &top.join("sub"), Some("tmpfs"), MsFlags::MS_NOEXEC, NONE).unwrap();
    let mut command = Command::new("unshare");
    command.arg(format!("--mount={}", top.join("namespace").display())).arg("true");
    let pinned = Call::new(command, &bundle.path("unshare")).finish();
    let bundle = bundle.bind(&top, "/m", &["rbind", "ro", "rslave"]).bind(&top, "/other", &["rbind"]);
    let own = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let there = own.lines().any(|line| line.contains("tree/namespace") && line.contains("nsfs"));
    let seen = same(bundle, || unmount_tree(&top));
    assert!(pinned.ok().code == 0 && there, "{own}");
    assert!(seen.iter().any(|line| line.contains(" /m/sub ") && line.contains("noexec")), "{seen:#?}");
    assert!(!seen.iter().any(|line| line.contains("nsfs")), "{seen:#?}");
}

#[test]
fn without_mknod_devices_are_bound_from_the_host_either_way() {
    if peer_differs(&["runc", "crun"], "only in user namespaces") {
        return;
    }
    let bundle = Bundle::new("no-mknod").sees(&["mountinfo", "+", "stat", "/dev/null"]);
    let mut seen = Vec::new();
    for bundle in [
        bundle,
        Bundle::new("no-mknod").sees(&["mountinfo", "+", "stat", "/dev/null"]).hook("createContainer", &["id"], &[]),
    ] {
        let run = bundle.launch("run", &[]).with(|command| {
            let runtime = std::mem::replace(command, Command::new("setpriv"));
            command.args(["--bounding-set", "-mknod", "--"]).arg(runtime.get_program()).args(runtime.get_args());
            command.current_dir(&bundle.dir);
        });
        let output = run.finish().ok().has("/dev/null.type", "c");
        let (mountinfo, _) = output.stdout.split_once("/dev/null.").unwrap();
        seen.push(comparable(mountinfo));
    }
    if std::fs::read_to_string("/proc/self/mountinfo")
        .unwrap()
        .lines()
        .all(|line| line.split(' ').nth(4) != Some("/dev"))
    {
        not_here("the host's /dev is no mount of its own, so where nodes come from is not seen");
    }
    let of = |seen: &Vec<String>| seen.iter().filter(|line| line.contains(" /dev/null ")).cloned().collect::<Vec<_>>();
    assert_eq!(of(&seen[0]), of(&seen[1]));
    assert_eq!(of(&seen[0]).len(), 1, "{seen:#?}");
}
