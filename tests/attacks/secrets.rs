//! Keys: a payload that reads the session keys of whoever called the runtime (cases 26 and 45).

use crate::support::runtime::Call;
use crate::support::user::refused;
use crate::support::{Bundle, json, payload, peer_differs};
use std::os::unix::fs::chown;

/// A user of this test's own: the kernel counts keys by user, and other tests have theirs.
fn own_user() -> u32 {
    40_000 + std::process::id() % 9_000
}

/// A bundle like `Bundle::rootless` of that user, who holds a key in his session and has no room for another.
fn of_a_user(name: &str, user: u32, words: &[&str]) -> Bundle {
    let map = json!([{"containerID": 0, "hostID": user, "size": 1}]);
    let bundle = Bundle::users(name)
        .namespace("user", None)
        .set("/linux/uidMappings", map.clone())
        .set("/linux/gidMappings", map);
    for path in ["", "rootfs", "rootfs/proc", "rootfs/dev", "rootfs/sys", "rootfs/tmp", "rootfs/etc"] {
        chown(bundle.dir.join(path), Some(user), Some(user)).unwrap();
    }
    payload::place(&bundle.dir, "keys");
    std::fs::create_dir(bundle.state_root()).unwrap();
    chown(bundle.state_root(), Some(user), Some(user)).unwrap();
    bundle.without("/linux/maskedPaths").sees(words)
}

/// Calls the runtime as that user, out of a session of his with a key in it; `KEY` in `config.json` is the key's number.
fn out_of_a_full_session(bundle: &Bundle, user: u32, flags: &[&str]) -> crate::support::Output {
    // writes config.json and the words that are told of a call
    bundle.verb(&["--version"]).ok();
    let runtime = bundle.own_runtime();
    // the number is put wherever KEY stands in the words that follow, but in the pattern
    let script = "sed -i \"s/K\"\"EY/$1/\" config.json && shift && exec \"$@\"";
    let user = user.to_string();
    let mut command = std::process::Command::new("setpriv");
    command.args(["--reuid", &user, "--regid", &user, "--clear-groups"]).arg(bundle.path("keys"));
    command.args(["fill-keys", "HUSH", "/bin/sh", "-c", script, "sh", "KEY"]).arg(runtime);
    command.arg("--root").arg(bundle.state_root()).arg("run").args(flags).arg(&bundle.id);
    command.current_dir(&bundle.dir).env("ONGGI_TEST", &bundle.id);
    Call::new(command, &bundle.path("full")).finish()
}

/// Cases 26 and 45: with the quota of keys used up no keyring can be joined; the payload would keep its caller's session, and
/// read what only who possesses it may.
#[test]
fn a_keyring_that_cannot_be_joined_is_an_error() {
    if refused() {
        return;
    }
    let user = own_user();
    let bundle = of_a_user("keys", user, &["read-key", "KEY", "+", "keyring"]);
    let output = out_of_a_full_session(&bundle, user, &[]);
    assert!(output.stdout.contains("keys: EDQUOT"), "there was room for another key: {output}");
    if peer_differs(&["crun"], "passes over it") {
        return;
    }
    assert!(!output.stdout.contains("read-key: HUSH"), "the payload read its caller's key: {output}");
    let ran = output.stdout.contains("read-key: ");
    assert!(ran || output.code != 0 && output.stderr.contains("key"), "{output}");
}

/// Case 26: whoever asks for no keyring of the container's own starts all the same, and keeps the caller's.
#[test]
fn no_new_keyring_needs_no_quota() {
    if refused() {
        return;
    }
    let user = own_user() + 1;
    let bundle = of_a_user("no-keys", user, &["read-key", "KEY"]);
    let output = out_of_a_full_session(&bundle, user, &["--no-new-keyring"]);
    assert!(output.stdout.contains("keys: EDQUOT"), "there was room for another key: {output}");
    output.ok();
}

/// CVE-2016-9962: a program of the image that runs before the payload (a hook) and may trace finds nothing of the runtime's caller in
/// init, whose memory is not the host half's then.
#[test]
fn a_hook_of_the_image_finds_no_secret_in_init() {
    if peer_differs(&["runc", "crun"], "has its caller's environment until execve") {
        return;
    }
    let bundle = Bundle::new("hook-thief").caps(&["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE"]).sees(&["true"]);
    // what a hook says is told when it fails
    let words = ["payload", "read", "/proc/1/environ", "/proc/1/cmdline", "+", "exit", "3"];
    let bundle = bundle.set("/hooks/startContainer", json!([{"path": "/payload", "args": words, "env": []}]));
    let output = bundle.launch("run", &[]).env("TOKEN", "secret-of-the-caller").start().finish();
    assert!(output.code != 0 && output.stderr.contains("read /proc/1/environ"), "{output}");
    assert!(!output.stderr.contains("secret-of-the-caller"), "{output}");
    let plan = bundle.verb(&["plan", bundle.dir.to_str().unwrap()]).ok();
    assert!(!plan.stdout.contains("sharing memory"), "{plan}");
}
