//! CVE-2019-5736: a container keeps a handle of the runtime's binary and writes to it once no process executes it.

use super::Variant;
use crate::support::{Bundle, Runtime, until};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// CVE-2019-5736: a neighbour in the pid namespace keeps a handle of the binary and writes to it once no process executes it.
#[test]
fn the_binary_cannot_be_overwritten_during_run_and_create() {
    let caps = ["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_SYS_ADMIN", "CAP_KILL"];
    let thief = Bundle::new("thief").caps(&caps).directory("/x").sees(&["steal-exe", "/x"]);
    let pid = thief.up();
    thief.hears("steal: ready");
    let path = format!("/proc/{pid}/ns/pid");
    // a private copy of the binary: other tests execute the common one, and ETXTBSY would stop every writer
    let binary = thief.path("runtime");
    std::fs::copy(&Runtime::get().path, &binary).unwrap();
    let before = std::fs::read(&binary).unwrap();
    for _ in 0..5 {
        let mut prey = Bundle::new("prey").namespace("pid", Some(&path)).sees(&["true"]);
        prey.binary.clone_from(&binary);
        prey.create().ok();
        // init waits at the gate, visible to the thief
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
    // a handle without a name belongs to a payload that has ended; the check at the end shows it was not the binary
    let named = |line: &&str| line.starts_with("steal ") && !line.contains("/payload") && !line.contains(" : ");
    for line in said.lines().filter(named) {
        let verdict = line.rsplit(": ").next().unwrap();
        let refused = ["EROFS", "ETXTBSY", "EACCES", "EPERM"].contains(&verdict);
        // a memfd copy may be writable: no other process executes it
        let copy = line.contains("memfd:") || line.contains("(deleted)");
        assert!(refused || copy, "the handle could be written through: {said}");
        assert_ne!(verdict, "ETXTBSY", "somebody still runs it: the attack came too early: {said}");
    }
    assert!(std::fs::read(&binary).unwrap() == before, "the binary was overwritten");
    until("the thief to be stopped", || (thief.status() == "stopped").then_some(()));
    thief.delete().ok();
}

/// CVE-2019-5736 by `exec`: the container waits for the runtime to enter it.
#[test]
fn the_binary_cannot_be_overwritten_during_exec() {
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
        // the original exploit: the program to execute is /proc/self/exe, the runtime
        thief.runtime().args(["exec", &thief.id, "/proc/self/exe"]).finish();
    }
    std::fs::write(thief.rootfs().join("x/stop"), "").unwrap();
    assert_eq!(thief.exit_code(pid), 0);
    assert!(std::fs::read(&binary).unwrap() == before, "the binary was overwritten: {}", thief.printed());
    thief.wait_for("stopped");
    thief.delete().ok();
}

/// The id of the mount that a file is opened on.
fn mount_of(path: &Path) -> Option<String> {
    let file = std::fs::File::options().read(true).custom_flags(libc::O_PATH).open(path).ok()?;
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd())).unwrap();
    info.lines().find_map(|line| Some(line.strip_prefix("mnt_id:")?.trim().to_owned()))
}

/// CVE-2019-5736 (move t23): neither `exe` nor a mapped file of a created container's init is on the mount through which
/// the host's binary can be written.
#[test]
fn no_handle_of_the_binary_is_on_a_writable_mount() {
    let mut found = Vec::new();
    for variant in Variant::all_with("sealed", |bundle| bundle.sees(&["true"])) {
        if variant.way == "rootless" {
            // the user could not write another user's binary anyway
            variant.bundle.own_runtime();
        }
        let binary =
            if variant.way == "rootless" { variant.bundle.path("runtime") } else { Runtime::get().path.clone() };
        // the private host has its own mount ids
        let root = variant.host.as_ref().filter(|_| variant.way != "a joined pid namespace");
        let root = root.map_or_else(|| "/".to_owned(), |host| format!("/proc/{}/root", host.pid));
        let host = mount_of(&Path::new(&root).join(binary.strip_prefix("/").unwrap())).unwrap();
        variant.create().ok();
        let base = Path::new("/proc").join(variant.pid().to_string());
        let mapped = std::fs::read_dir(base.join("map_files")).unwrap().map(|entry| entry.unwrap().path());
        let handles: Vec<_> = mapped.chain([base.join("exe")]).collect();
        let bad = handles.iter().filter(|path| mount_of(path).is_none_or(|mount| mount == host));
        found.extend(bad.map(|path| format!("{}: {:?}", variant.way, std::fs::read_link(path))));
        let opened = std::fs::File::options().append(true).open(base.join("exe"));
        if opened.is_ok() {
            found.push(format!("{}: opened for writing", variant.way));
        }
        variant.bundle.down();
    }
    // Shared libraries of a dynamic build are the host's. Opening map_files of init, which is undumpable, needs the right to
    // trace every process of the host (src/sys/exe.rs).
    found.retain(|what| !what.contains(".so"));
    assert!(found.is_empty(), "{found:#?}");
}
