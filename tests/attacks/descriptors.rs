//! Descriptors of the host's that are open when the kernel looks something up in the container: the third attack of
//! CVE-2024-21626. Each number is tried: whoever attacks needs one that leads out.

use super::{Birth, HostProgram, Victim, through, tried};
use crate::support::{Bundle, json, payload, until};

/// The numbers that are tried.
const ALL: std::ops::Range<u32> = 3..41;
/// Those that a start has had open that led out, and a few more: for the ways that are many.
const FEW: std::ops::Range<u32> = 3..16;

/// Which numbers (in other ways than the plain one, few of them) let the host's program run in each way a container is born: none may.
fn nothing_runs(name: &str, numbers: std::ops::Range<u32>, mut attack: impl FnMut(&mut Bundle, &str) -> &'static str) {
    let mut hits = Vec::new();
    for mut birth in Birth::all(name) {
        let program = HostProgram::of(&birth.bundle);
        for number in tried(if birth.way == "plain" { numbers.clone() } else { FEW }) {
            let sign = attack(&mut birth.bundle, &program.through(number));
            if birth.run().stdout.contains(sign) {
                hits.push(format!("{}: {number}", birth.way));
            }
        }
    }
    assert!(hits.is_empty(), "a program of the host was executed through descriptors: {hits:?}");
}

/// A file of the image anew: a link would be followed.
fn put_link(bundle: &Bundle, name: &str, target: &str) {
    let link = bundle.rootfs().join(name);
    let _ = std::fs::remove_file(&link);
    std::os::unix::fs::symlink(target, link).unwrap();
}

/// A program whose interpreter is given. A new file each time: who executes it while a copy of our descriptor is open
/// elsewhere is refused, and the next number's turn has come.
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

/// CVE-2024-21626, third attack (move t6): the `#!` interpreter's path does; no check of the program's own path sees it.
#[test]
fn the_interpreter_is_not_found_through_a_descriptor() {
    nothing_runs("interpreter", ALL, |bundle, path| {
        put_script(bundle, path);
        bundle.config["process"]["args"] = json!(["/script"]);
        "/script"
    });
}

/// CVE-2024-21626, third attack (move t3): the image's entry point is a link that does; the bundle looks like any other.
#[test]
fn a_symlinked_entry_point_is_not_resolved_through_a_descriptor() {
    nothing_runs("entry", ALL, |bundle, path| {
        put_link(bundle, "entry", path);
        bundle.config["process"]["args"] = json!(["/entry", "echo", HostProgram::RUNS]);
        HostProgram::RUNS
    });
}

/// CVE-2024-21626, by the search: directories of `PATH` lead through every descriptor there may be.
#[test]
fn the_path_lookup_does_not_go_through_a_descriptor() {
    let mut hits = Vec::new();
    for mut birth in Birth::all("search") {
        HostProgram::of(&birth.bundle);
        let path: Vec<String> = ALL.map(|number| through(number, &birth.bundle.dir)).collect();
        birth.bundle.config["process"]["env"] = json!([format!("PATH={}", path.join(":"))]);
        birth.bundle.config["process"]["args"] = json!(["hostprog", "echo", HostProgram::RUNS]);
        let output = birth.run();
        if output.stdout.contains(HostProgram::RUNS) {
            hits.push(birth.way);
        }
    }
    assert!(hits.is_empty(), "a program of the host was found: {hits:?}");
}

/// CVE-2024-21626, by `/etc/passwd` (move t7): `HOME` comes from a file of the host's that a link of the image leads to.
#[test]
fn the_home_is_not_read_through_a_descriptor() {
    let mut hits = Vec::new();
    for birth in Birth::all_with("home", |bundle| bundle.sees(&["env"])) {
        let secret = birth.bundle.host_file("passwd", "x:x:0:0::/READ-ON-THE-HOST:/bin/sh\n");
        for number in tried(FEW) {
            put_link(&birth.bundle, "etc/passwd", &through(number, &secret));
            if birth.run().stdout.contains("READ-ON-THE-HOST") {
                hits.push(format!("{}: {number}", birth.way));
            }
        }
    }
    assert!(hits.is_empty(), "a file of the host was read through descriptors: {hits:?}");
}

/// CVE-2024-21626, by `process.cwd` (move t20): a directory is made through a descriptor where a profile denies openat2.
#[test]
fn no_directory_is_created_through_a_descriptor() {
    let profile = json!({"defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["openat2"], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::EPERM}]});
    for set in [true, false] {
        let change =
            |bundle: Bundle| bundle.set("/linux/seccomp", profile.clone()).set("/process/noNewPrivileges", set);
        // loaded early or late: in one way it makes a difference, in all it is the same one
        let births = Birth::all_with("cwd", change).into_iter().filter(|birth| set || birth.way == "plain");
        for mut birth in births {
            let victim = Victim::of(&birth.bundle);
            for number in tried(FEW) {
                let cwd = through(number, &victim.dir.join(format!("made-{number}")));
                birth.bundle.config["process"]["cwd"] = json!(cwd);
                birth.run();
            }
            victim.unhurt();
        }
    }
}

/// CVE-2024-21626, first attack: the working directory is a descriptor of the host that the runtime forgot.
#[test]
fn the_working_directory_cannot_be_a_leaked_descriptor() {
    for mut birth in
        Birth::all_with("leaked-cwd", |b| b.sees(&["cwd", "+", "stat", ".", "+", "read", "../../../etc/hostname"]))
    {
        for number in tried(FEW) {
            let cwd = format!("/proc/self/fd/{number}");
            birth.bundle.config["process"]["cwd"] = json!(cwd);
            let output = birth.run();
            // a place that no path leads to is a place outside; what the runtime itself holds of the inside may be named
            let outside = !output.get("cwd").unwrap_or("/").starts_with('/') || output.stdout.contains("hostname: ok");
            assert!(!outside, "{}: {cwd}: {output}", birth.way);
        }
    }
}

/// CVE-2024-21626, third attack by `exec` (move t5): the program, its interpreter, an entry point, and `HOME`.
#[test]
fn exec_resolves_nothing_through_a_descriptor() {
    let mut hits = Vec::new();
    for birth in Birth::all_with("enter", |bundle| bundle.sees(&["pause"])) {
        let bundle = &birth.bundle;
        let program = HostProgram::of(bundle);
        let secret = bundle.host_file("passwd", "x:x:0:0::/READ-ON-THE-HOST:/bin/sh\n");
        birth.create().ok();
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
                    hits.push(format!("{}: {} through {number}", birth.way, args[0]));
                }
            }
        }
        bundle.down();
    }
    assert!(hits.is_empty(), "exec reached the host: {hits:?}");
}

/// CVE-2024-21626, third attack by `exec --detach`: the program writes a file, for nobody hears what it says.
#[test]
fn a_detached_exec_resolves_nothing_through_a_descriptor() {
    let birth = Birth::of("plain", Bundle::new("enter-detached").sees(&["pause"]));
    let bundle = &birth.bundle;
    let program = HostProgram::of(bundle);
    birth.create().ok();
    bundle.start().ok();
    for number in tried(ALL) {
        let args = [&program.through(number), "write", "/hit", "x"];
        bundle.runtime().args(["exec", "--detach", &bundle.id]).args(args).finish();
    }
    // one that is meant to succeed is the last: the others have had their time
    bundle.verb(&["exec", "--detach", &bundle.id, payload::INSIDE, "write", "/last", "x"]).ok();
    until("the last exec", || bundle.rootfs().join("last").exists().then_some(()));
    let hit = bundle.rootfs().join("hit").exists();
    bundle.down();
    assert!(!hit, "a program of the host was executed");
}

/// CVE-2024-21626, third attack by a hook: `startContainer` names a program of the image, which is a link.
#[test]
fn a_hook_in_the_image_is_not_resolved_through_a_descriptor() {
    let mut hits = Vec::new();
    for kind in ["createContainer", "startContainer"] {
        let hook = json!([{"path": "/hook", "args": ["hook", "write", "/hit", "x"]}]);
        let change = |bundle: Bundle| bundle.set(&format!("/hooks/{kind}"), hook.clone()).sees(&["true"]);
        // createContainer is looked up on the host, in whatever way the container is born
        let births = Birth::all_with("hook", change).into_iter();
        for birth in births.filter(|birth| kind == "startContainer" || birth.way == "plain") {
            let program = HostProgram::of(&birth.bundle);
            for number in tried(FEW) {
                put_link(&birth.bundle, "hook", &program.through(number));
                birth.run();
                if std::fs::remove_file(birth.bundle.rootfs().join("hit")).is_ok() {
                    hits.push(format!("{kind}: {}: {number}", birth.way));
                }
            }
        }
    }
    assert!(hits.is_empty(), "a hook of the image was a program of the host: {hits:?}");
}
