//! The third attack of CVE-2024-21626: a path in the container that goes through `/proc/self/fd/N`, where N is a host
//! descriptor that is still open when the kernel resolves the path. Every number is tried: one is enough for an attacker.

use super::{HostProgram, Variant, Victim, through, tried};
use crate::support::{Bundle, json, payload, until};

/// The descriptor numbers to try.
const ALL: std::ops::Range<u32> = 3..41;
/// The numbers that once led out, and a few more: used where there are many variants.
const FEW: std::ops::Range<u32> = 3..16;

/// Asserts that in no variant of a start any number (few of them in variants other than the plain one) runs the host's program.
fn nothing_runs(name: &str, numbers: std::ops::Range<u32>, mut attack: impl FnMut(&mut Bundle, &str) -> &'static str) {
    let mut hits = Vec::new();
    for mut variant in Variant::all(name) {
        let program = HostProgram::of(&variant.bundle);
        for number in tried(if variant.way == "plain" { numbers.clone() } else { FEW }) {
            let sign = attack(&mut variant.bundle, &program.through(number));
            if variant.run().stdout.contains(sign) {
                hits.push(format!("{}: {number}", variant.way));
            }
        }
    }
    assert!(hits.is_empty(), "a program of the host was executed through descriptors: {hits:?}");
}

/// Replaces a file of the image by a symbolic link.
fn put_link(bundle: &Bundle, name: &str, target: &str) {
    let link = bundle.rootfs().join(name);
    let _ = std::fs::remove_file(&link);
    std::os::unix::fs::symlink(target, link).unwrap();
}

/// Writes a script with this interpreter, as a new file each time: executing a file that is still open for writing in another
/// process fails (ETXTBSY).
fn put_script(bundle: &Bundle, interpreter: &str) {
    let script = bundle.rootfs().join("script");
    let _ = std::fs::remove_file(&script);
    std::fs::write(&script, format!("#!{interpreter} echo\n")).unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
}

/// CVE-2024-21626, third attack (moves t2, t19, t28): the program's path leads through a descriptor of the runtime.
#[test]
fn the_program_is_not_found_through_a_descriptor() {
    nothing_runs("program", ALL, |bundle, path| {
        bundle.config["process"]["args"] = json!([path, "echo", HostProgram::RUNS]);
        HostProgram::RUNS
    });
}

/// CVE-2024-21626, third attack (move t6): the path of the `#!` interpreter does; a check of the program's path misses it.
#[test]
fn the_interpreter_is_not_found_through_a_descriptor() {
    nothing_runs("interpreter", ALL, |bundle, path| {
        put_script(bundle, path);
        bundle.config["process"]["args"] = json!(["/script"]);
        "/script"
    });
}

/// CVE-2024-21626, third attack (move t3): the image's entry point is a symlink that does; the bundle looks normal.
#[test]
fn a_symlinked_entry_point_is_not_resolved_through_a_descriptor() {
    nothing_runs("entry", ALL, |bundle, path| {
        put_link(bundle, "entry", path);
        bundle.config["process"]["args"] = json!(["/entry", "echo", HostProgram::RUNS]);
        HostProgram::RUNS
    });
}

/// CVE-2024-21626 by PATH lookup: directories of `PATH` lead through every possible descriptor.
#[test]
fn the_path_lookup_does_not_go_through_a_descriptor() {
    let mut hits = Vec::new();
    for mut variant in Variant::all("search") {
        HostProgram::of(&variant.bundle);
        let path: Vec<String> = ALL.map(|number| through(number, &variant.bundle.dir)).collect();
        variant.bundle.config["process"]["env"] = json!([format!("PATH={}", path.join(":"))]);
        variant.bundle.config["process"]["args"] = json!(["hostprog", "echo", HostProgram::RUNS]);
        let output = variant.run();
        if output.stdout.contains(HostProgram::RUNS) {
            hits.push(variant.way);
        }
    }
    assert!(hits.is_empty(), "a program of the host was found: {hits:?}");
}

/// CVE-2024-21626 by `/etc/passwd` (move t7): it is a symlink through a descriptor to a host file that sets `HOME`.
#[test]
fn the_home_is_not_read_through_a_descriptor() {
    let mut hits = Vec::new();
    for variant in Variant::all_with("home", |bundle| bundle.sees(&["env"])) {
        let secret = variant.bundle.host_file("passwd", "x:x:0:0::/READ-ON-THE-HOST:/bin/sh\n");
        for number in tried(FEW) {
            put_link(&variant.bundle, "etc/passwd", &through(number, &secret));
            if variant.run().stdout.contains("READ-ON-THE-HOST") {
                hits.push(format!("{}: {number}", variant.way));
            }
        }
    }
    assert!(hits.is_empty(), "a file of the host was read through descriptors: {hits:?}");
}

/// CVE-2024-21626 by `process.cwd` (move t20): a directory is created through a descriptor if a profile denies openat2.
#[test]
fn no_directory_is_created_through_a_descriptor() {
    let profile = json!({"defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["openat2"], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::EPERM}]});
    for set in [true, false] {
        let change =
            |bundle: Bundle| bundle.set("/linux/seccomp", profile.clone()).set("/process/noNewPrivileges", set);
        // noNewPrivileges decides whether the filter is loaded early or late; the plain variant tries both
        let variants = Variant::all_with("cwd", change).into_iter().filter(|variant| set || variant.way == "plain");
        for mut variant in variants {
            let victim = Victim::of(&variant.bundle);
            for number in tried(FEW) {
                let cwd = through(number, &victim.dir.join(format!("made-{number}")));
                variant.bundle.config["process"]["cwd"] = json!(cwd);
                variant.run();
            }
            victim.assert_unchanged();
        }
    }
}

/// CVE-2024-21626, first attack: `process.cwd` is a host descriptor that the runtime has leaked.
#[test]
fn the_working_directory_cannot_be_a_leaked_descriptor() {
    for mut variant in
        Variant::all_with("leaked-cwd", |b| b.sees(&["cwd", "+", "stat", ".", "+", "read", "../../../etc/hostname"]))
    {
        for number in tried(FEW) {
            let cwd = format!("/proc/self/fd/{number}");
            variant.bundle.config["process"]["cwd"] = json!(cwd);
            let output = variant.run();
            // a cwd that getcwd cannot name is outside; descriptors of the runtime that lead inside are allowed
            let outside = !output.get("cwd").unwrap_or("/").starts_with('/') || output.stdout.contains("hostname: ok");
            assert!(!outside, "{}: {cwd}: {output}", variant.way);
        }
    }
}

/// CVE-2024-21626, third attack by `exec` (move t5): the program, its interpreter, an entry point, and `HOME`.
#[test]
fn exec_resolves_nothing_through_a_descriptor() {
    let mut hits = Vec::new();
    for variant in Variant::all_with("enter", |bundle| bundle.sees(&["pause"])) {
        let bundle = &variant.bundle;
        let program = HostProgram::of(bundle);
        let secret = bundle.host_file("passwd", "x:x:0:0::/READ-ON-THE-HOST:/bin/sh\n");
        variant.create().ok();
        bundle.start().ok();
        for number in tried(FEW) {
            let path = program.through(number);
            put_link(bundle, "entry", &path);
            put_script(bundle, &path);
            put_link(bundle, "etc/passwd", &through(number, &secret));
            let tries: [(&[&str], &str); 4] = [
                (&[&path, "echo", HostProgram::RUNS], HostProgram::RUNS),
                (&["/entry", "echo", HostProgram::RUNS], HostProgram::RUNS),
                (&["/script"], "/script"),
                (&[payload::INSIDE, "env"], "READ-ON-THE-HOST"),
            ];
            for (args, sign) in tries {
                let output = bundle.runtime().args(["exec", &bundle.id]).args(args).finish();
                if output.stdout.contains(sign) {
                    hits.push(format!("{}: {} through {number}", variant.way, args[0]));
                }
            }
        }
        bundle.down();
    }
    assert!(hits.is_empty(), "exec reached the host: {hits:?}");
}

/// CVE-2024-21626, third attack by `exec --detach`: the program writes a file, since its output is not read.
#[test]
fn a_detached_exec_resolves_nothing_through_a_descriptor() {
    let variant = Variant::of("plain", Bundle::new("enter-detached").sees(&["pause"]));
    let bundle = &variant.bundle;
    let program = HostProgram::of(bundle);
    variant.create().ok();
    bundle.start().ok();
    for number in tried(ALL) {
        let args = [&program.through(number), "write", "/hit", "x"];
        bundle.runtime().args(["exec", "--detach", &bundle.id]).args(args).finish();
    }
    // the last one must succeed; by then the others have had time to run
    bundle.verb(&["exec", "--detach", &bundle.id, payload::INSIDE, "write", "/last", "x"]).ok();
    until("the last exec", || bundle.rootfs().join("last").exists().then_some(()));
    let hit = bundle.rootfs().join("hit").exists();
    bundle.down();
    assert!(!hit, "a program of the host was executed");
}

/// CVE-2024-21626, third attack by a hook: `startContainer` names a program of the image that is a symlink.
#[test]
fn a_hook_in_the_image_is_not_resolved_through_a_descriptor() {
    let mut hits = Vec::new();
    for kind in ["createContainer", "startContainer"] {
        let hook = json!([{"path": "/hook", "args": ["hook", "write", "/hit", "x"]}]);
        let change = |bundle: Bundle| bundle.set(&format!("/hooks/{kind}"), hook.clone()).sees(&["true"]);
        // createContainer hooks are looked up on the host in every variant
        let variants = Variant::all_with("hook", change).into_iter();
        for variant in variants.filter(|variant| kind == "startContainer" || variant.way == "plain") {
            let program = HostProgram::of(&variant.bundle);
            for number in tried(FEW) {
                put_link(&variant.bundle, "hook", &program.through(number));
                variant.run();
                if std::fs::remove_file(variant.bundle.rootfs().join("hit")).is_ok() {
                    hits.push(format!("{kind}: {}: {number}", variant.way));
                }
            }
        }
    }
    assert!(hits.is_empty(), "a hook of the image was a program of the host: {hits:?}");
}
