//! Odd callers: in a chroot, with a FUSE of another user, with properties of a process that a container inherits.

use crate::support::{Bundle, Runtime, kernel, not_here, peer_differs, process};

/// A caller whose `/` is a directory and no mount, on a mount that is shared. Fails if a mount appears outside.
const IN_A_CHROOT: &str = r#"
set -e
mkdir -p DIR/host
mount -t tmpfs host DIR/host
mount --make-rshared DIR/host
R=DIR/host/root
mkdir -p $R/proc $R/sys $R/tmp $R/dev
for d in sys tmp dev; do mount --rbind /$d $R/$d; done
mount -t proc proc $R/proc
cp RUNTIME $R/runtime
before=$(sed 's/ - .*//; s/.* //' /proc/self/mountinfo | wc -l)
s=0
chroot $R /runtime "$@" || s=$?
after=$(sed 's/ - .*//; s/.* //' /proc/self/mountinfo | wc -l)
[ $before = $after ] || { echo "$before mounts before, $after after" >&2; exit 99; }
exit $s
"#;

fn in_a_chroot(mut bundle: Bundle) -> Bundle {
    let dir = bundle.dir.display().to_string();
    let text = IN_A_CHROOT.replace("DIR", &dir).replace("RUNTIME", &bundle.binary.display().to_string());
    bundle.host_file("inside", &text);
    let wrapper = format!("exec unshare -m --propagation slave /bin/sh {dir}/inside \"$@\"\n");
    bundle.script = Some(bundle.host_file("wrapper", &wrapper));
    bundle.binary = "/bin/sh".into();
    bundle
}

#[test]
fn a_caller_in_a_chroot_can_start_containers() {
    if peer_differs(&["runc", "crun"], "pivot_root fails") {
        return;
    }
    let words = ["echo", "ran", "+", "cat", "/proc/self/mountinfo"];
    for flags in [&[][..], &["--no-pivot"]] {
        let output = in_a_chroot(Bundle::new("chroot").sees(&words)).launch("run", flags).finish().ok();
        assert!(output.stdout.contains("ran"), "{output}");
        let mounts = kernel::mounts(&output.stdout);
        assert!(mounts.iter().all(|mount| !mount.point.contains("/host")), "the host is there: {output}");
    }
    // user_namespaces(7): EPERM for a caller in a chroot
    let user = in_a_chroot(Bundle::new("chroot-user").user_namespace().sees(&words)).launch("run", &[]).finish();
    user.fails(1, "a caller in a chroot can make no user namespace");
}

#[test]
fn a_caller_in_a_chroot_can_join_a_pid_namespace() {
    if peer_differs(&["runc", "crun"], "pivot_root fails") {
        return;
    }
    let first = Bundle::new("chroot-pids").sees(&["pause"]);
    let path = format!("/proc/{}/ns/pid", first.up());
    let bundle = in_a_chroot(Bundle::new("chroot-join").namespace("pid", Some(&path)).sees(&["echo", "ran"]));
    let output = bundle.launch("run", &[]).finish().ok();
    assert!(output.stdout.contains("ran"), "{output}");
    first.down();
}

/// A FUSE without `allow_other`: even root may not look at its root directory, and mount(2) binds it all the same.
#[test]
fn a_fuse_of_another_user_can_be_bound() {
    if peer_differs(&["runc", "crun"], "looks at the source") {
        return;
    }
    let Ok(device) = std::fs::File::options().read(true).write(true).open("/dev/fuse") else {
        let _ = not_here("the kernel has no FUSE");
        return;
    };
    let bundle = Bundle::new("fuse").directory("/there");
    let place = bundle.host_directory("fuse");
    let fd = std::os::fd::AsRawFd::as_raw_fd(&device);
    let options = format!("fd={fd},rootmode=40000,user_id=1000,group_id=1000");
    let (kind, flags) = (Some("fuse"), nix::mount::MsFlags::empty());
    nix::mount::mount(Some("test"), &place, kind, flags, Some(options.as_str())).unwrap();
    let bundle = bundle.bind(&place, "/there", &["bind"]).bind(&place, "/made", &["rbind", "ro"]);
    let output = bundle.sees(&["cat", "/proc/self/mountinfo"]).run_then(|| {
        nix::mount::umount2(&place, nix::mount::MntFlags::MNT_DETACH).unwrap();
    });
    let mounts = kernel::mounts(&output.ok().stdout);
    assert_eq!(kernel::mount_at(&mounts, "/there").fstype, "fuse");
    assert!(kernel::mount_at(&mounts, "/made").has("ro"));
}

/// What a process inherits and no key of the bundle names is the caller's, as with runc.
#[test]
fn properties_of_the_caller_are_inherited() {
    if peer_differs(&["crun"], "not compared") {
        return;
    }
    let bundle = Bundle::new("inherited").sees(&["pause"]);
    let pid_file = bundle.path("pid");
    let flags = ["--detach", "--pid-file", pid_file.to_str().unwrap()];
    bundle.launch("run", &flags).with(process::with_inherited).finish().ok();
    let pid: i32 = std::fs::read_to_string(&pid_file).unwrap().parse().unwrap();
    let of = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap().trim().to_owned();
    assert_eq!(of("timerslack_ns"), "70000");
    assert_eq!(of("coredump_filter"), "00000011");
    assert_eq!(of("personality"), "00040000", "ADDR_NO_RANDOMIZE");
    assert_eq!(kernel::status_field(pid, "THP_enabled").as_deref(), Some("0"));
    let stat = of("stat");
    assert_eq!(stat.rsplit(')').next().unwrap().split_whitespace().nth(16), Some("5"), "nice value in {stat}");
    bundle.down();
}

/// The processors are not the caller's: a container runs on all that its cgroup allows.
#[test]
fn the_callers_processors_are_not_inherited() {
    let mine = |pid: i32| kernel::status_field(pid, "Cpus_allowed_list").unwrap();
    let all = mine(1);
    let bundle = Bundle::new("processors").sees(&["pause"]);
    bundle.launch("create", &[]).with(|command| process::bind(command, 0)).finish().ok();
    assert_eq!(mine(bundle.pid()), all);
    bundle.down();
}

/// More than runc's parser needs behind the document, and text that is not quite JSON.
#[test]
fn documents_that_go_takes_are_taken_with_a_warning() {
    let bundle = Bundle::new("lenient").sees(&["echo", "ran"]);
    bundle.verb(&["list"]);
    let good = std::fs::read_to_string(bundle.dir.join("config.json")).unwrap();
    let cases = [
        (format!("{good}\n}} trailing"), "data behind the JSON document is ignored"),
        (good.replacen('{', r#"{"annotations": {"a": "\ud800"},"#, 1), "half a surrogate pair"),
    ];
    for (text, warning) in cases {
        let odd = Bundle::new("lenient-odd").sees(&["echo", "ran"]);
        odd.verb(&["list"]);
        std::fs::write(odd.path("odd.json"), text.replace(&bundle.id, &odd.id)).unwrap();
        let config = odd.path("odd.json");
        if Runtime::get().is_onggi() {
            let output = odd.launch("run", &["--config", config.to_str().unwrap()]).finish().ok();
            assert!(output.stdout.contains("ran") && output.stderr.contains(warning), "{output}");
        }
        odd.nothing_left();
    }
}
