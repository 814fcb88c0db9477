//! The command line of `exec`: where flags end, valid users, what each flag changes; and its seccomp filter.

use crate::support::{Bundle, Output, Value, json, payload, peer_differs};

/// Starts a container that keeps running.
fn waiting(bundle: Bundle) -> Bundle {
    let bundle = bundle.sees(&["pause"]);
    bundle.up();
    bundle
}

/// Runs `exec FLAGS ID /payload WORDS`.
fn exec(bundle: &Bundle, flags: &[&str], words: &[&str]) -> Output {
    let call = bundle.runtime().args(["exec"]).args(flags).args([bundle.id.as_str(), payload::INSIDE]);
    call.args(words).finish()
}

#[test]
fn flags_override_the_process() {
    let bundle = waiting(Bundle::new("flags").set("/process/noNewPrivileges", false).set("/process/env/-", "A=bundle"));
    exec(&bundle, &["--cwd", "/tmp"], &["cwd"]).ok().has("cwd", "/tmp");
    exec(&bundle, &["--env", "A=1", "--env", "B=2"], &["env"]).ok().says("A=1").says("B=2");
    exec(&bundle, &["-e", "A=3"], &["env"]).ok().says("A=3");
    let output = exec(&bundle, &["--user", "1000"], &["id"]).ok();
    output.has("Uid", "1000\t1000\t1000\t1000").has("Gid", "0\t0\t0\t0");
    exec(&bundle, &["-u", "1000:1001"], &["id"]).ok().has("Gid", "1001\t1001\t1001\t1001");
    exec(&bundle, &["--no-new-privs"], &["id"]).ok().has("NoNewPrivs", "1");
    exec(&bundle, &[], &["id"]).ok().has("NoNewPrivs", "0");
    if !peer_differs(&["crun"], "knows no additional groups") {
        exec(&bundle, &["-g", "33", "-g", "44"], &["id"]).ok().has("Groups", "33 44");
    }
    bundle.down();
}

#[test]
fn a_non_numeric_user_is_refused() {
    let bundle = waiting(Bundle::new("bad-user"));
    for user in ["root", "1000:", "1000x", ":5", "-1", "1:2:3", "4294967295", "4294967296", "0:4294967295"] {
        // CVE-2026-30892: a partly numeric user is refused
        let output = exec(&bundle, &["--user", user], &["id"]);
        let refused = output.code != 0 && output.stdout.is_empty();
        assert!(refused || peer_differs(&["runc", "crun"], &format!("takes {user:?}")), "{user}: {output}");
    }
    bundle.down();
}

#[test]
fn flags_end_at_the_id() {
    let bundle = waiting(Bundle::new("flags-end"));
    let output = exec(&bundle, &[], &["args", "+", "true", "-t", "--user", "5"]);
    assert!(output.stderr.contains("no observation called true") || output.code == 0, "{output}");
    let output = exec(&bundle, &[], &["echo", "--detach"]).ok();
    assert_eq!(output.stdout, "--detach\n");
    bundle.down();
}

#[test]
fn exec_installs_the_seccomp_filter() {
    let profile: Value = serde_json::from_str(include_str!("fixtures/docker-default.seccomp.json")).unwrap();
    for early in [true, false] {
        let bundle = Bundle::new("seccomp").set("/linux/seccomp", profile.clone());
        let bundle = waiting(bundle.set("/process/noNewPrivileges", !early));
        let output = exec(&bundle, &[], &["id", "+", "syscall", &libc::SYS_keyctl.to_string(), "0", "-3", "0"]).ok();
        output.has("Seccomp", "2").has(&format!("syscall {}", libc::SYS_keyctl), "EPERM");
        bundle.down();
    }
}

#[test]
fn exec_starts_from_the_configured_process() {
    if peer_differs(&["crun"], "forgets noNewPrivileges and the umask") {
        return;
    }
    let bundle = Bundle::new("base")
        .set("/process/user", json!({"uid": 1000, "gid": 1001, "additionalGids": [7], "umask": 0o27}));
    let bundle = bundle.set("/process/env/-", "OF=bundle").set("/process/cwd", "/tmp").caps(&["CAP_CHOWN"]);
    let limits = json!([{"type": "RLIMIT_NOFILE", "soft": 300, "hard": 400}]);
    let bundle = waiting(bundle.set("/process/rlimits", limits));
    let output = exec(&bundle, &[], &["id", "+", "env", "+", "cwd", "+", "rlimits", "+", "umask"]).ok();
    let output = output.has("Uid", "1000\t1000\t1000\t1000").has("Gid", "1001\t1001\t1001\t1001").has("Groups", "7");
    let output = output.says("OF=bundle").has("cwd", "/tmp").has("RLIMIT_NOFILE", "300 400").has("NoNewPrivs", "1");
    let output = output.has("CapBnd", "0000000000000001").has("CapEff", "0000000000000000");
    if !peer_differs(&["runc<1.2"], "forgets the umask") {
        output.has("umask", "0027");
    }
    bundle.down();
}
