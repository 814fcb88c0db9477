//! The runtime's binary, built with unusual flags or called in an unusual way: if the process cannot be moved onto a
//! read-only mount of the file (CVE-2019-5736), it executes a sealed copy of itself.
//!
//! `scripts/other-builds.sh` runs these tests and the attacks with binaries built with other flags.

use crate::support::process::without_argument;
use crate::support::runtime::Call;
use crate::support::{Bundle, not_here, peer_differs};
use std::path::PathBuf;
use std::process::Command;

/// Program headers of an ELF64 file (`elf(5)`): offset, type and flags of each.
fn headers(file: &[u8]) -> Vec<(usize, u32, u32)> {
    let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
    let first = usize::try_from(u64::from_le_bytes(file[32..40].try_into().unwrap())).unwrap();
    let count = usize::from(u16::from_le_bytes(file[56..58].try_into().unwrap()));
    (0..count).map(|i| first + i * 56).map(|at| (at, word(at), word(at + 4))).collect()
}

/// A copy of the runtime in the bundle. Other processes write it: children of ours would inherit a descriptor that is open
/// for writing (ETXTBSY).
fn copied(bundle: &Bundle) -> PathBuf {
    let path = bundle.path("runtime");
    let mut copy = Command::new("cp");
    copy.args([&bundle.binary, &path]);
    Call::new(copy, &bundle.path("copied")).finish().ok();
    path
}

/// A bundle whose runtime has a writable code segment, as `ld -N` makes it.
fn with_writable_code(name: &str) -> Bundle {
    const LOAD: u32 = 1;
    const EXECUTE: u32 = 1;
    const ALL: &str = "\\007";
    let mut bundle = Bundle::new(name);
    let path = copied(&bundle);
    let headers = headers(&std::fs::read(&path).unwrap());
    let code = headers.iter().find(|(_, kind, flags)| *kind == LOAD && flags & EXECUTE != 0);
    let (at, ..) = code.expect("a program has code");
    let mut patch = Command::new("sh");
    let line = format!("printf '{ALL}' | dd of=\"$1\" bs=1 seek={} conv=notrunc", at + 4);
    patch.args(["-c", &line, "sh"]).arg(&path);
    Call::new(patch, &bundle.path("patched")).finish().ok();
    bundle.binary = path;
    bundle
}

/// Creates a container, runs `exec` in it and deletes it; returns what `/proc/PID/exe` of init was.
fn run_and_exec(bundle: Bundle) -> String {
    let bundle = bundle.sees(&["pause"]);
    bundle.create().ok();
    let exe = std::fs::read_link(format!("/proc/{}/exe", bundle.pid())).unwrap();
    bundle.start().ok();
    bundle.verb(&["exec", &bundle.id, "/payload", "stat", "/dev/null"]).ok().has("/dev/null.type", "c");
    bundle.down();
    exe.display().to_string()
}

fn is_copy(exe: &str) -> bool {
    exe.starts_with("/memfd:onggi")
}

#[test]
fn a_binary_with_writable_code_runs_from_a_sealed_copy() {
    if peer_differs(&["runc", "crun"], "always runs from a copy") {
        return;
    }
    let exe = run_and_exec(with_writable_code("writable-code"));
    assert!(is_copy(&exe), "{exe}");
    let exe = run_and_exec(with_writable_code("writable-code-user").user_namespace());
    assert!(is_copy(&exe), "{exe}");
}

#[test]
fn without_pr_set_mm_map_a_sealed_copy_runs() {
    const PR_SET_MM: u64 = 35;
    if peer_differs(&["runc", "crun"], "always runs from a copy") {
        return;
    }
    let bundle = Bundle::new("not-moved").sees(&["pause"]);
    let deny = |command: &mut Command| without_argument(command, libc::SYS_prctl, PR_SET_MM, libc::EINVAL);
    bundle.launch("create", &[]).with(deny).finish().ok();
    let exe = std::fs::read_link(format!("/proc/{}/exe", bundle.pid())).unwrap();
    assert!(is_copy(&exe.display().to_string()), "{}", exe.display());
    bundle.start().ok();
    let guest = bundle.runtime().args(["exec", &bundle.id, "/payload", "true"]).with(deny).finish();
    guest.ok();
    bundle.down();
}

#[test]
fn the_sealed_copy_is_executable_despite_memfd_noexec() {
    if peer_differs(&["runc", "crun"], "is about our copy") {
        return;
    }
    let switch = "/proc/sys/vm/memfd_noexec";
    if std::fs::metadata(switch).is_err() && not_here("this kernel executes every memory file (before Linux 6.3)") {
        return;
    }
    // the sysctl belongs to a pid namespace
    let mut bundle = with_writable_code("noexec-memory");
    let script = format!("echo 1 > {switch} && exec {:?} \"$@\"", bundle.binary);
    std::fs::write(bundle.path("inside"), script).unwrap();
    let outer = format!("exec unshare -pf --mount-proc --kill-child sh {:?} \"$@\"", bundle.path("inside"));
    let outside = bundle.path("outside");
    std::fs::write(&outside, outer).unwrap();
    (bundle.binary, bundle.script) = ("/bin/sh".into(), Some(outside));
    bundle.run(&["stat", "/dev/null"]).ok().has("/dev/null.type", "c");
}

#[test]
fn called_through_a_dynamic_loader_the_error_says_what_to_do() {
    const INTERPRETER: u32 = 3;
    if peer_differs(&["runc", "crun"], "executes the loader") {
        return;
    }
    let mut bundle = Bundle::new("loader");
    let file = std::fs::read(&bundle.binary).unwrap();
    let Some((at, ..)) = headers(&file).into_iter().find(|(_, kind, _)| *kind == INTERPRETER) else {
        not_here("the runtime under test is static");
        return;
    };
    let number = |at: usize| usize::try_from(u64::from_le_bytes(file[at..at + 8].try_into().unwrap())).unwrap();
    let (offset, length) = (number(at + 8), number(at + 32));
    let loader = std::str::from_utf8(&file[offset..offset + length - 1]).unwrap().to_owned();
    (bundle.script, bundle.binary) = (Some(bundle.binary.clone()), loader.into());
    bundle.run(&["true"]).fails(1, "call the program by its own path");
}
