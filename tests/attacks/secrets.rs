//! Secrets of the runtime's caller that a payload could read: keys of its session keyring (cases 26 and 45), and init's memory.

use crate::support::runtime::Call;
use crate::support::user::refused;
use crate::support::{Bundle, json, payload, peer_differs};
use std::os::unix::fs::chown;

/// A uid for this test alone: the kernel counts keys per user.
fn own_user() -> u32 {
    40_000 + std::process::id() % 9_000
}

/// A bundle like `Bundle::rootless` for that user.
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

/// Calls the runtime as that user, in a session with a key and with the quota of keys used up. `KEY` in `config.json` is
/// replaced by the key's id.
fn out_of_a_full_session(bundle: &Bundle, user: u32, flags: &[&str]) -> crate::support::Output {
    // any call of `verb` writes config.json
    bundle.verb(&["--version"]).ok();
    let runtime = bundle.own_runtime();
    // replaces KEY by the id everywhere but in this pattern
    let script = "sed -i \"s/K\"\"EY/$1/\" config.json && shift && exec \"$@\"";
    let user = user.to_string();
    let mut command = std::process::Command::new("setpriv");
    command.args(["--reuid", &user, "--regid", &user, "--clear-groups"]).arg(bundle.path("keys"));
    command.args(["fill-keys", "HUSH", "/bin/sh", "-c", script, "sh", "KEY"]).arg(runtime);
    command.arg("--root").arg(bundle.state_root()).arg("run").args(flags).arg(&bundle.id);
    command.current_dir(&bundle.dir).env("ONGGI_TEST", &bundle.id);
    Call::new(command, &bundle.path("full")).finish()
}

/// Cases 26 and 45: with the quota of keys used up no new keyring can be joined. The payload would keep its caller's session
/// keyring and could read keys that only possessors may read.
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

/// Case 26: with `--no-new-keyring` the start succeeds and keeps the caller's session keyring.
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

/// CVE-2016-9962: a hook whose program is in the image, with the right to trace, finds nothing of the runtime's caller in init.
/// With such hooks init does not share the host half's memory.
#[test]
fn a_hook_of_the_image_finds_no_secret_in_init() {
    if peer_differs(&["runc", "crun"], "has its caller's environment until execve") {
        return;
    }
    let bundle = Bundle::new("hook-thief").caps(&["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE"]).sees(&["true"]);
    // a hook's output is reported only if it fails
    let words = ["payload", "read", "/proc/1/environ", "/proc/1/cmdline", "+", "exit", "3"];
    let bundle = bundle.set("/hooks/startContainer", json!([{"path": "/payload", "args": words, "env": []}]));
    let output = bundle.launch("run", &[]).env("TOKEN", "secret-of-the-caller").start().finish();
    assert!(output.code != 0 && output.stderr.contains("read /proc/1/environ"), "{output}");
    assert!(!output.stderr.contains("secret-of-the-caller"), "{output}");
    let plan = bundle.verb(&["plan", bundle.dir.to_str().unwrap()]).ok();
    assert!(!plan.stdout.contains("sharing memory"), "{plan}");
}
