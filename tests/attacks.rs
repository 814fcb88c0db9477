//! The published attacks on runtimes, each tried: a hostile root file system, a hostile neighbour, a hostile bundle path.

use crate::support::{Bundle, Runtime, json, kernel, peer_differs, until};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A directory of the host with a file in it, which no container may change.
struct Victim {
    dir: PathBuf,
}

impl Victim {
    fn of(bundle: &Bundle) -> Self {
        let dir = bundle.host_directory("victim");
        std::fs::write(dir.join("kept"), "kept").unwrap();
        Self { dir }
    }

    fn unhurt(&self) {
        let names: Vec<_> = std::fs::read_dir(&self.dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["kept"], "the host's directory was changed");
        assert_eq!(std::fs::read_to_string(self.dir.join("kept")).unwrap(), "kept");
        assert_eq!(std::fs::metadata(&self.dir).unwrap().uid(), 0);
        let own = kernel::mounts_of(std::process::id().cast_signed());
        assert!(!own.iter().any(|m| Path::new(&m.point).starts_with(&self.dir)), "something is mounted on the host");
    }
}

/// CVE-2023-27561, CVE-2023-28642, CVE-2025-54867: `/proc` or `/sys` of the image is a link.
#[test]
fn a_link_in_the_place_of_proc_or_sys_leads_nowhere() {
    for (path, elsewhere) in [("/proc", "/fake"), ("/sys", "/fake")] {
        let bundle = Bundle::new("linked-proc").directory("/fake");
        let victim = Victim::of(&bundle);
        for target in [elsewhere.to_owned(), victim.dir.display().to_string(), "/".to_owned()] {
            let bundle = Bundle::new("linked").directory("/fake").symlink(path, &target).sees(&["mountinfo"]);
            let output = bundle.run_as_is();
            victim.unhurt();
            bundle.nothing_left();
            // refused, or a real mount on a real directory: nothing in between
            let real = kernel::mounts(&output.stdout).iter().any(|m| m.point == path && m.fstype == path[1..]);
            let refused = output.code != 0 && output.stderr.contains(path);
            assert!(
                refused || real || peer_differs(&["crun"], "mounts where the link leads"),
                "{path} -> {target}: {output}"
            );
        }
    }
}

/// CVE-2026-41579, CVE-2026-47766, CVE-2026-88264: `/dev` of the image is a link, and devices and links land outside.
#[test]
fn a_link_in_the_place_of_dev_leads_nowhere() {
    for with_mounts in [true, false] {
        let bundle = Bundle::new("linked-dev");
        let victim = Victim::of(&bundle);
        let mut bundle = bundle.symlink("/dev", &victim.dir).sees(&["true"]);
        if !with_mounts {
            bundle = ["/dev/mqueue", "/dev/shm", "/dev/pts", "/dev"].iter().fold(bundle, |b, m| b.without_mount(m));
        }
        let output = bundle.run_as_is();
        if !peer_differs(&["runc<1.3.6"], "makes links through it") {
            victim.unhurt();
        }
        assert!(output.code == 0 || !output.stderr.is_empty());
    }
}

/// CVE-2019-18837, CVE-2021-30465 at rest: a mount's target leads out of the root.
#[test]
fn a_mount_target_cannot_lead_outside() {
    let bundle = Bundle::new("target");
    let victim = Victim::of(&bundle);
    let ups = "../".repeat(20);
    let file = bundle.host_file("file", "attack");
    let bundle = bundle.symlink("/absolute", &victim.dir).symlink("/up", format!("{ups}{}", victim.dir.display()));
    let bundle = bundle.symlink("/root", "/").symlink("/magic", "/proc/self/root");
    let bundle = bundle.bind(&file, "/absolute/kept", &["bind"]).bind(&file, "/up/kept", &["bind"]);
    let bundle = bundle.mount("/absolute/new/er", "tmpfs", "tmpfs", &[]).bind(&file, "/root/made", &["bind"]);
    let bundle = bundle.bind(&file, &format!("/magic{}/kept", victim.dir.display()), &["bind"]).sees(&["true"]);
    bundle.run_as_is();
    victim.unhurt();
}

/// CVE-2024-45310, CVE-2021-30465: a neighbour swaps a directory of a shared volume for a link while targets are made.
#[test]
fn a_swapped_directory_leads_nowhere() {
    let bundle = Bundle::new("swapped");
    let victim = Victim::of(&bundle);
    let volume = bundle.host_directory("volume");
    std::fs::create_dir(volume.join("dir")).unwrap();
    std::os::unix::fs::symlink(&victim.dir, volume.join("link")).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let swapper = std::thread::spawn({
        let c_path = |name| std::ffi::CString::new(volume.join(name).into_os_string().into_encoded_bytes()).unwrap();
        let (one, other, stop) = (c_path("dir"), c_path("link"), Arc::clone(&stop));
        move || {
            while !stop.load(Ordering::Relaxed) {
                let (here, exchange) = (libc::AT_FDCWD, libc::RENAME_EXCHANGE);
                #[allow(unsafe_code)]
                // SAFETY: both paths live through the call. Not every C library has a function for it.
                let done =
                    unsafe { libc::syscall(libc::SYS_renameat2, here, one.as_ptr(), here, other.as_ptr(), exchange) };
                assert_eq!(done, 0, "renameat2: {}", std::io::Error::last_os_error());
            }
        }
    });
    let file = bundle.host_file("file", "attack");
    let mut bundle = bundle.bind(&volume, "/volume", &["bind"]).sees(&["true"]);
    for n in 0..4 {
        bundle = bundle.mount(&format!("/volume/dir/new{n}/deep"), "tmpfs", "tmpfs", &[]);
        bundle = bundle.bind(&file, &format!("/volume/dir/file{n}"), &["bind"]);
    }
    for _ in 0..40 {
        // it may fail; it may not reach outside
        bundle.run_as_is();
    }
    stop.store(true, Ordering::Relaxed);
    swapper.join().unwrap();
    if !peer_differs(&["runc<1.1.14"], "makes the targets outside") {
        victim.unhurt();
    }
}

/// CVE-2025-31133: masking binds whatever the image's `/dev/null` leads to, for writing.
#[test]
fn a_masked_file_is_masked_by_the_real_null() {
    let bundle = Bundle::new("null-link").file("/bait", "bait").file("/secret", "secret");
    let bundle = bundle.directory("/dev").symlink("/dev/null", "/bait").set("/linux/maskedPaths", json!(["/secret"]));
    let bundle = ["/dev/mqueue", "/dev/shm", "/dev/pts", "/dev"].iter().fold(bundle, |b, m| b.without_mount(m));
    let output = bundle.sees(&["read", "/secret", "+", "stat", "/secret", "+", "write", "/secret", "x"]).run_as_is();
    if output.code == 0 && !peer_differs(&["runc<1.2.8", "crun"], "binds the bait, or prints nothing") {
        output.has("read /secret", "0 \"\"").has("/secret.rdev", "1:3");
    } else {
        assert!(!output.stdout.contains("secret\""), "{output}");
    }
}

/// CVE-2025-52881, CVE-2019-16884: writes meant for procfs are sent elsewhere by what is mounted there.
#[test]
fn nothing_may_be_mounted_inside_proc() {
    for (n, target) in
        ["/proc/sys", "/proc/self", "/proc/sys/kernel", "/proc/self/attr", "/proc/1"].into_iter().enumerate()
    {
        let bundle = Bundle::new(&format!("in-proc-{n}"));
        let fake = bundle.host_directory("fake");
        let bundle = bundle.bind(fake, target, &["bind"]).sees(&["mountinfo"]);
        let output = bundle.run_as_is();
        let mounted = kernel::mounts(&output.stdout).iter().any(|m| m.point.starts_with(target));
        let why = "mounts anything there";
        assert!(output.code != 0 && !mounted || peer_differs(&["crun", "runc<1.2"], why), "{target}: {output}");
    }
    // what engines show of a container's own resources is allowed
    for name in ["cpuinfo", "meminfo", "uptime", "loadavg", "stat", "swaps", "diskstats"] {
        let bundle = Bundle::new("lxcfs");
        let own = bundle.host_file("own", "own");
        let path = format!("/proc/{name}");
        bundle.bind(own, &path, &["bind"]).run(&["read", &path]).ok().has(&format!("read {path}"), "3 \"own\"");
    }
}

/// CVE-2019-16884: a volume over `/proc` itself takes what is written for the kernel.
#[test]
fn proc_is_the_kernels_own() {
    let bundle = Bundle::new("over-proc");
    let fake = bundle.host_directory("fake");
    let bundle = bundle.bind(fake, "/proc", &["bind"]).sees(&["true"]);
    assert!(bundle.run_as_is().code != 0 || peer_differs(&["crun", "runc"], "binds it; labels would be refused"));
}

/// CVE-2024-21626: the working directory is a descriptor of the host that the runtime forgot.
#[test]
fn the_working_directory_cannot_be_a_leaked_descriptor() {
    for number in 3..24 {
        let cwd = format!("/proc/self/fd/{number}");
        let words = ["cwd", "+", "stat", ".", "+", "read", "../../../etc/hostname"];
        let bundle = Bundle::new("leaked-cwd").set("/process/cwd", cwd.as_str()).sees(&words);
        let output = bundle.run_as_is();
        // a place that no path leads to is a place outside; what the runtime itself holds of the inside may be named
        let outside = !output.get("cwd").unwrap_or("/").starts_with('/') || output.stdout.contains("hostname: ok");
        if !peer_differs(&["runc<1.1.12"], "has the leak") {
            assert!(!outside, "{cwd}: {output}");
        }
    }
}

/// The same through a link in the image.
#[test]
fn a_linked_working_directory_stays_inside() {
    let bundle = Bundle::new("linked-cwd");
    let victim = Victim::of(&bundle);
    let bundle = bundle.symlink("/job", &victim.dir).set("/process/cwd", "/job/new").sees(&["cwd"]);
    bundle.run_as_is();
    victim.unhurt();
}

/// CVE-2019-5736: a neighbour in the pid namespace holds the runtime's binary and writes to it when nobody runs it.
#[test]
fn the_runtimes_binary_cannot_be_overwritten_from_inside() {
    let caps = ["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_SYS_ADMIN", "CAP_KILL"];
    let thief = Bundle::new("thief").caps(&caps).directory("/x").sees(&["steal-exe", "/x"]);
    let pid = thief.up();
    thief.hears("steal: ready");
    let path = format!("/proc/{pid}/ns/pid");
    // a binary of the test's own: other tests execute the common one, and a busy text refuses every writer
    let binary = thief.path("runtime");
    std::fs::copy(&Runtime::get().path, &binary).unwrap();
    let before = std::fs::read(&binary).unwrap();
    for _ in 0..5 {
        let mut prey = Bundle::new("prey").namespace("pid", Some(&path)).sees(&["true"]);
        prey.binary.clone_from(&binary);
        prey.create().ok();
        // the runtime's half waits at the gate, in sight of the thief
        std::thread::sleep(std::time::Duration::from_millis(50));
        let init = prey.pid();
        prey.start().ok();
        prey.exit_code(init);
        prey.wait_for("stopped");
        prey.delete().ok();
    }
    std::fs::write(thief.rootfs().join("x/stop"), "").unwrap();
    assert_eq!(thief.exit_code(pid), 0);
    let said = thief.printed();
    let held = said.lines().find_map(|line| line.strip_prefix("held: ")).unwrap_or_else(|| panic!("{said}"));
    assert_ne!(held, "0", "the thief saw nothing: the test proves nothing");
    // one without a name was a payload that had ended; that it was not the binary is seen at the end
    let named = |line: &&str| line.starts_with("steal ") && !line.contains("/payload") && !line.contains(" : ");
    for line in said.lines().filter(named) {
        let verdict = line.rsplit(": ").next().unwrap();
        let refused = ["EROFS", "ETXTBSY", "EACCES", "EPERM"].contains(&verdict);
        // a copy of its own in memory may be written: nobody else runs it
        let copy = line.contains("memfd:") || line.contains("(deleted)");
        assert!(refused || copy, "the handle could be written through: {said}");
        assert_ne!(verdict, "ETXTBSY", "somebody still runs it: the attack came too early: {said}");
    }
    assert!(std::fs::read(&binary).unwrap() == before, "the binary was overwritten");
    until("the thief to be stopped", || (thief.status() == "stopped").then_some(()));
    thief.delete().ok();
}

/// CVE-2019-5736, by way of exec: the container itself waits for the runtime to come in.
#[test]
fn execs_binary_cannot_be_overwritten_from_inside() {
    let caps = ["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_SYS_ADMIN"];
    let mut thief = Bundle::new("thief").caps(&caps).directory("/x").sees(&["steal-exe", "/x"]);
    let binary = thief.path("runtime");
    std::fs::copy(&thief.binary, &binary).unwrap();
    thief.binary.clone_from(&binary);
    let before = std::fs::read(&binary).unwrap();
    let pid = thief.up();
    thief.hears("steal: ready");
    for _ in 0..30 {
        thief.runtime().args(["exec", &thief.id, "/payload", "true"]).finish().ok();
        // the classical form: the program to execute is the runtime itself
        thief.runtime().args(["exec", &thief.id, "/proc/self/exe"]).finish();
    }
    std::fs::write(thief.rootfs().join("x/stop"), "").unwrap();
    assert_eq!(thief.exit_code(pid), 0);
    assert!(std::fs::read(&binary).unwrap() == before, "the binary was overwritten: {}", thief.printed());
    thief.wait_for("stopped");
    thief.delete().ok();
}

/// The image's hook path, passwd and devices are files of the image: a fifo or a huge one must not hold the runtime.
#[test]
fn odd_files_of_the_image_do_not_hold_the_runtime() {
    let bundle = Bundle::new("fifo-passwd").without("/process/env/-").set("/process/env", json!(["PATH=/"]));
    nix::unistd::mkfifo(&bundle.rootfs().join("etc/passwd"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    if !peer_differs(&["runc", "crun"], "waits for a writer") {
        bundle.run(&["true"]);
    }
}

/// An id is a directory's name: it may not lead elsewhere.
#[test]
fn an_id_cannot_lead_out_of_the_state_root() {
    let bundle = Bundle::new("id");
    let victim = Victim::of(&bundle);
    std::fs::create_dir(bundle.state_root()).unwrap();
    for verb in ["state", "delete", "kill", "start"] {
        for id in ["../victim", "..", ".", "a/../../victim"] {
            bundle.verb(&[verb, id]);
            victim.unhurt();
        }
        bundle.verb(&["delete", "--force", "../victim"]);
        victim.unhurt();
    }
    // the state root itself is still there
    assert!(bundle.state_root().is_dir());
    assert!(Path::new(&bundle.dir).join("victim/kept").exists());
}
