//! Containers without a mount namespace of their own: which mounts they make in the caller's, and that all are removed.

use crate::support::kernel::{mount_at, mounts, mounts_of};
use crate::support::runtime::Call;
use crate::support::{Bundle, Runtime, peer_differs};
use nix::mount::{MsFlags, mount, umount};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// A bundle without a mount namespace, and without masked and read-only paths, which need one.
fn beside(name: &str) -> Bundle {
    let bundle = Bundle::new(name).without_namespace("mount");
    bundle.without("/linux/maskedPaths").without("/linux/readonlyPaths")
}

/// Whether the runtime leaves its mounts behind and makes all mounts of the host slaves.
fn leaves_its_mounts() -> bool {
    peer_differs(&["runc", "crun"], "changes mounts of the host, and leaves its own")
}

/// The mount points at or below a path in our mount namespace.
fn mounted_below(path: &Path) -> Vec<String> {
    let all = mounts_of(i32::try_from(std::process::id()).unwrap());
    all.into_iter().map(|mount| mount.point).filter(|point| Path::new(point).starts_with(path)).collect()
}

fn namespace(pid: &str) -> std::path::PathBuf {
    std::fs::read_link(format!("/proc/{pid}/ns/mnt")).unwrap()
}

#[test]
fn mounts_are_in_the_callers_namespace_until_delete() {
    if leaves_its_mounts() {
        return;
    }
    let bundle = beside("beside").sees(&["mountinfo", "+", "stat", "/dev/null", "/dev/ptmx", "+", "pause"]);
    let pid = bundle.up();
    bundle.hears("/dev/ptmx");
    assert_eq!(namespace(&pid.to_string()), namespace("self"));
    let seen = mounts(&bundle.printed());
    for (point, fstype) in [("/proc", "proc"), ("/dev", "tmpfs"), ("/dev/pts", "devpts"), ("/dev/shm", "tmpfs")] {
        assert_eq!(mount_at(&seen, point).fstype, fstype);
        assert!(mounted_below(&bundle.rootfs()).contains(&format!("{}{point}", bundle.rootfs().display())));
    }
    assert!(seen.iter().all(|mount| mount.propagation() != "shared"), "{seen:?}");
    bundle.verb(&["exec", &bundle.id, "/payload", "stat", "/dev/shm"]).ok().has("/dev/shm.type", "d");
    bundle.kill("KILL").ok();
    crate::support::until("its end", || (bundle.status() == "stopped").then_some(()));
    bundle.delete().ok();
    assert_eq!(mounted_below(&bundle.rootfs()), [""; 0]);
    assert_eq!(std::fs::read_dir(bundle.rootfs().join("dev")).unwrap().count(), 0, "made in the root itself");
    bundle.nothing_left();
}

#[test]
fn a_run_unmounts_its_mounts() {
    if leaves_its_mounts() {
        return;
    }
    let bundle = beside("beside-run").hook("createRuntime", &["true"], &[]).sees(&["stat", "/dev/shm"]);
    bundle.run_as_is().ok().has("/dev/shm.type", "d");
    assert_eq!(mounted_below(&bundle.rootfs()), [""; 0]);
}

/// The lines of our mountinfo that do not belong to tests, by mount id.
fn others() -> std::collections::BTreeMap<String, String> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let others = text.lines().filter(|line| !line.contains("onggi-test"));
    others.filter_map(|line| Some((line.split_once(' ')?.0.to_owned(), line.to_owned()))).collect()
}

#[test]
fn no_host_mount_is_changed() {
    if leaves_its_mounts() {
        return;
    }
    let before = others();
    let bundle = beside("beside-host").set("/linux/rootfsPropagation", "rprivate").sees(&["pause"]);
    let bundle = bundle.bind("/sys", "/sys", &["rbind", "rslave", "ro"]);
    bundle.up();
    for when in ["while it runs", "when it is gone"] {
        let now = others();
        for (number, line) in &before {
            assert!(now.get(number).is_none_or(|now| now == line), "{when}: {line} became {:?}", now.get(number));
        }
        assert!(now.contains_key(before.keys().next().unwrap()));
        bundle.verb(&["delete", "--force", &bundle.id]).ok();
    }
}

#[test]
fn foreign_mounts_over_the_root_stay() {
    if leaves_its_mounts() {
        return;
    }
    let bundle = beside("beside-covered").sees(&["pause"]);
    bundle.up();
    let root = bundle.rootfs();
    mount(Some("tmpfs"), &root, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    let deleted = bundle.verb(&["delete", "--force", &bundle.id]);
    let on_top = mount_at(&mounts_of(i32::try_from(std::process::id()).unwrap()), root.to_str().unwrap());
    umount(&root).unwrap();
    deleted.ok();
    assert_eq!(on_top.fstype, "tmpfs");
    // the runtime's mount underneath is visible again; remove it
    nix::mount::umount2(&root, nix::mount::MntFlags::MNT_DETACH).unwrap();
    bundle.nothing_left();
}

#[test]
fn a_failed_start_unmounts_its_mounts() {
    if leaves_its_mounts() {
        return;
    }
    let missing = beside("beside-fails").bind("/nosuchsource", "/m", &["bind"]);
    missing.run_as_is().fails(1, "no such file or directory");
    let hook = beside("beside-hook").hook("createRuntime", &["false"], &[]);
    hook.run_as_is().fails(1, "createRuntime");
    let program = beside("beside-program").args(&["/nosuchprogram"]);
    program.create().fails(1, "no such file or directory");
    for bundle in [missing, hook, program] {
        assert_eq!(mounted_below(&bundle.rootfs()), [""; 0]);
        bundle.nothing_left();
    }
}

/// A directory of the bundle that is a shared mount, and a peer of it that shows what propagates.
struct Shared<'a> {
    bundle: &'a Bundle,
}

impl<'a> Shared<'a> {
    fn new(bundle: &'a Bundle) -> Self {
        let none = None::<&str>;
        let (one, two) = (bundle.host_directory("shared"), bundle.host_directory("peer"));
        mount(Some("tmpfs"), &one, Some("tmpfs"), MsFlags::empty(), none).unwrap();
        mount(none, &one, none, MsFlags::MS_SHARED, none).unwrap();
        mount(Some(&one), &two, none, MsFlags::MS_BIND, none).unwrap();
        let shared = Self { bundle };
        std::fs::create_dir(one.join("probe")).unwrap();
        // check that the two are peers
        mount(Some("tmpfs"), &one.join("probe"), Some("tmpfs"), MsFlags::empty(), none).unwrap();
        assert_eq!(mounted_below(&two.join("probe")).len(), 1);
        umount(&one.join("probe")).unwrap();
        shared
    }
}

impl Drop for Shared<'_> {
    fn drop(&mut self) {
        for name in ["peer", "shared"] {
            let _ = umount(&self.bundle.path(name));
        }
    }
}

#[test]
fn a_root_on_a_shared_mount_propagates_nothing() {
    if leaves_its_mounts() {
        return;
    }
    let mut bundle = beside("beside-shared").sees(&["pause"]);
    bundle.config["root"]["path"] = "shared/rootfs".into();
    let shared = Shared::new(&bundle);
    let root = bundle.path("shared/rootfs");
    let copy = Call::new(std::process::Command::new("cp"), &bundle.path("copy"));
    copy.args(["-a"]).args([bundle.rootfs(), root.clone()]).finish().ok();
    bundle.up();
    assert!(mounted_below(&root).len() > 5);
    let reached = mounted_below(&bundle.path("peer/rootfs"));
    assert!(reached.iter().all(|point| point.ends_with("peer/rootfs")), "{reached:?}");
    bundle.down();
    assert_eq!(mounted_below(&root), [""; 0]);
    assert_eq!(mounted_below(&bundle.path("peer/rootfs")), [""; 0]);
    drop(shared);
}

#[test]
fn mounts_inside_a_bind_do_not_reach_its_source() {
    if leaves_its_mounts() {
        return;
    }
    let bundle = beside("beside-bind");
    let shared = Shared::new(&bundle);
    let source = bundle.path("shared");
    std::fs::create_dir(source.join("below")).unwrap();
    let mut config = beside("config").bind(&source, "/data", &["rbind"]).mount("/data/below", "tmpfs", "tmpfs", &[]);
    config = config.sees(&["mountinfo"]);
    let output = config.run_then(|| assert_eq!(mounted_below(&source), [source.to_str().unwrap()]));
    mount_at(&mounts(&output.ok().stdout), "/data/below");
    let running = config.sees(&["pause"]);
    running.up();
    assert_eq!(mounted_below(&source), [source.to_str().unwrap()], "mounted at the source, too");
    assert_eq!(mounted_below(&bundle.path("peer")), [bundle.path("peer").to_str().unwrap()]);
    running.down();
    drop(shared);
}

#[test]
fn links_are_resolved_inside_the_root() {
    if leaves_its_mounts() {
        return;
    }
    let bundle = beside("beside-links").symlink("/link", "/etc").symlink("/up", "../../../etc");
    let bundle = bundle.mount("/link/one", "tmpfs", "tmpfs", &[]).mount("/up/two", "tmpfs", "tmpfs", &[]);
    let output = bundle.run(&["mountinfo"]).ok();
    for point in ["/etc/one", "/etc/two"] {
        assert_eq!(mount_at(&mounts(&output.stdout), point).fstype, "tmpfs");
        assert!(!Path::new(point).exists(), "made on the host");
    }
}

#[test]
fn a_readonly_root_leaves_the_host_directory_writable() {
    if leaves_its_mounts() {
        return;
    }
    let bundle = beside("beside-readonly").without("/mounts").set("/root/readonly", true).sees(&["write", "/new", "x"]);
    bundle.run_as_is().ok().has("write /new", "EROFS");
    std::fs::write(bundle.rootfs().join("new"), "").unwrap();
    assert_eq!(mounted_below(&bundle.rootfs()), [""; 0]);
}

#[test]
fn without_mounts_nothing_is_mounted() {
    let bundle = beside("beside-none").without("/mounts").sees(&["pause"]);
    if leaves_its_mounts() {
        return;
    }
    bundle.up();
    assert_eq!(mounted_below(&bundle.rootfs()), [""; 0]);
    bundle.down();
}

#[test]
fn delete_by_force_cleans_up_a_killed_create() {
    if !Runtime::get().is_onggi() {
        return;
    }
    let bundle = beside("beside-killed");
    let fifo = bundle.path("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let bundle = bundle.hook("createRuntime", &["cat", fifo.to_str().unwrap()], &[]);
    let call = bundle.launch("create", &[]).start();
    crate::support::until("its mounts", || (mounted_below(&bundle.rootfs()).len() > 5).then_some(()));
    call.kill(libc::SIGKILL);
    let _killed = call.finish();
    // the hook outlives its caller: it waits for a writer
    let _nobody_may_read = std::fs::OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(&fifo);
    std::fs::remove_file(&fifo).unwrap();
    bundle.down();
    assert_eq!(mounted_below(&bundle.rootfs()), [""; 0]);
}

#[test]
fn a_user_namespace_needs_a_mount_namespace_to_mount() {
    if peer_differs(&["runc", "crun"], "fails with the kernel's answer") {
        return;
    }
    let bundle = beside("beside-user").user_namespace();
    bundle.run_as_is().fails(1, "needs a mount namespace to mount anything");
    bundle.nothing_left();
}

#[test]
fn checkpoint_is_refused() {
    if peer_differs(&["runc", "crun"], "leaves the answer to CRIU") {
        return;
    }
    let bundle = beside("beside-checkpoint").sees(&["pause"]);
    let pid = bundle.up();
    let images = bundle.path("images");
    let refused = bundle.verb(&["checkpoint", "--image-path", images.to_str().unwrap(), &bundle.id]);
    refused.fails(1, "without a mount namespace of its own can't be checkpointed");
    assert_eq!(bundle.status(), "running");
    assert!(Path::new(&format!("/proc/{pid}")).exists());
    bundle.down();
    bundle.nothing_left();
}
