//! The program that is executed: arguments, environment, HOME, working directory, and lookup in PATH.

use crate::support::{Bundle, json, peer_differs, until};
use std::os::unix::fs::PermissionsExt;

#[test]
fn arguments_are_passed_unchanged() {
    let args = ["/payload", "args", "+", "true", "with space", "", "ünï", "\"quoted\"", "$HOME", "--flag"];
    let output = Bundle::new("args").args(&args[..4]).run_as_is().ok();
    output.has("arg0", "/payload").has("arg1", "args").has("arg2", "+").has("arg3", "true");
    let words = ["echo", "with space ünï \"quoted\" $HOME --flag"];
    assert_eq!(Bundle::new("args").run(&words).ok().stdout, "with space ünï \"quoted\" $HOME --flag\n");
    assert_eq!(Bundle::new("empty-arg").run(&["echo", ""]).ok().stdout, "\n");
}

#[test]
fn the_environment_is_exactly_as_configured() {
    let env = json!(["PATH=/", "A=1", "EMPTY=", "SPACED=a b", "HOME=/somewhere"]);
    let output = Bundle::new("env").set("/process/env", env).run(&["env"]).ok();
    let mut lines: Vec<&str> = output.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["A=1", "EMPTY=", "HOME=/somewhere", "PATH=/", "SPACED=a b"]);
}

#[test]
fn of_duplicate_variables_the_last_wins() {
    let env = json!(["PATH=/", "A=first", "B=between", "A=last", "HOME=/"]);
    let output = Bundle::new("env-twice").set("/process/env", env).run(&["env"]).ok();
    let of_a: Vec<&str> = output.stdout.lines().filter(|line| line.starts_with("A=")).collect();
    if !peer_differs(&["runc<1.3", "crun"], "hands on both") {
        assert_eq!(of_a, ["A=last"], "{output}");
    }
}

#[test]
fn home_comes_from_the_containers_passwd() {
    let passwd =
        "root:x:0:0:root:/the/root:/bin/sh\nuser:x:1000:1000::/home/user:\n# 1001\nbroken\n:x:1002:1::/nameless:\n";
    let home = |uid: u32, env: &[&str]| {
        let bundle = Bundle::new("home").file("/etc/passwd", passwd).set("/process/env", json!(env));
        let output = bundle.set("/process/user", json!({"uid": uid, "gid": 0})).run(&["env"]).ok();
        output.stdout.lines().find_map(|line| line.strip_prefix("HOME=")).unwrap_or("(none)").to_owned()
    };
    assert_eq!(home(0, &["PATH=/"]), "/the/root");
    assert_eq!(home(1000, &["PATH=/"]), "/home/user");
    assert_eq!(home(1001, &["PATH=/"]), "/");
    assert_eq!(home(0, &["PATH=/", "HOME=/given"]), "/given");
    if !peer_differs(&["runc<1.2", "crun"], "takes an empty HOME for a HOME") {
        assert_eq!(home(1000, &["PATH=/", "HOME="]), "/home/user");
    }
}

#[test]
fn home_is_the_root_without_a_passwd() {
    let output = Bundle::new("no-passwd").set("/process/env", json!(["PATH=/"])).run(&["env"]).ok();
    output.says("HOME=/");
}

#[test]
fn the_passwd_of_the_host_is_not_read() {
    let bundle = Bundle::new("passwd-link").symlink("/etc/passwd", "/proc/self/cwd/nothing");
    let output = bundle.set("/process/env", json!(["PATH=/"])).run(&["env"]).ok();
    output.says("HOME=/");
}

#[test]
fn a_missing_working_directory_is_created() {
    let output =
        Bundle::new("cwd").set("/process/cwd", "/deep/er").run(&["cwd", "+", "stat", "/deep", "/deep/er"]).ok();
    let output = output.has("cwd", "/deep/er").has("/deep/er.mode", "0755").has("/deep/er.owner", "0:0");
    output.has("/deep.mode", "0755");
}

#[test]
fn cwd_is_unaffected_by_the_last_mount() {
    for (last, fstype) in [("/sys", "sysfs"), ("/last", "tmpfs"), ("/dev/last", "tmpfs")] {
        let bundle = Bundle::new("cwd-of-root").without_mount("/sys").mount(last, fstype, fstype, &[]);
        bundle.set("/process/cwd", "/").run(&["cwd"]).ok().has("cwd", "/");
    }
}

#[test]
fn cwd_may_be_accessible_to_root_only() {
    // only root may enter the directory and the payload is another user, so chdir must come before setuid
    let bundle = Bundle::new("cwd-root").directory("/closed").set("/process/cwd", "/closed");
    std::fs::set_permissions(bundle.rootfs().join("closed"), PermissionsExt::from_mode(0o700)).unwrap();
    bundle.set("/process/user", json!({"uid": 1000, "gid": 1000})).run(&["cwd"]).ok().has("cwd", "/closed");
}

#[test]
fn an_invalid_working_directory_is_refused() {
    let bundle = Bundle::new("cwd-file").file("/file", "x").set("/process/cwd", "/file");
    let output = bundle.run_as_is();
    assert_ne!(output.code, 0);
    assert!(output.stderr.to_lowercase().contains("not a directory"), "{output}");
    bundle.nothing_left();
    let bundle = Bundle::new("cwd-relative").set("/process/cwd", "relative");
    if !peer_differs(&["crun"], "takes a relative path") {
        bundle.run_as_is().fails(1, "Cwd must be an absolute path");
        bundle.nothing_left();
    }
}

#[test]
fn the_program_is_looked_up_in_path() {
    let run = |path: &str| {
        let bundle = Bundle::new("path").directory("/one").directory("/two").args(&["tool", "exit", "6"]);
        crate::support::payload::place(&bundle.rootfs().join("two"), "tool");
        bundle.set("/process/env", json!([format!("PATH={path}")])).run_as_is()
    };
    run("/one:/two").code(6);
    run("/nosuch:/two:/one").code(6);
    run("/one").fails(1, "exec: \"tool\": executable file not found in $PATH");
}

#[test]
fn a_non_executable_file_in_path_is_skipped() {
    let bundle = Bundle::new("path-mode").file("/one/tool", "not for execution").directory("/two");
    crate::support::payload::place(&bundle.rootfs().join("two"), "tool");
    let bundle = bundle.args(&["tool", "exit", "6"]).set("/process/env", json!(["PATH=/one:/two"]));
    bundle.run_as_is().code(6);
}

#[test]
fn a_name_with_a_slash_is_a_path() {
    let bundle = Bundle::new("slash").directory("/dir").set("/process/cwd", "/dir");
    crate::support::payload::place(&bundle.rootfs().join("dir"), "tool");
    bundle.args(&["./tool", "exit", "6"]).run_as_is().code(6);
}

/// Asserts that both `run` and `create` fail with this phrase: the program is looked up at create.
fn refused(bundle: &Bundle, phrase: &str) {
    for verb in ["create", "run"] {
        let output = bundle.launch(verb, &[]).finish().fails(1, phrase);
        assert_eq!(output.stdout, "", "{output}");
        bundle.nothing_left();
    }
}

#[test]
fn a_missing_program_fails_create() {
    refused(&Bundle::new("nosuchcmd").args(&["nosuchcmd"]), "exec: \"nosuchcmd\": executable file not found in $PATH");
    let bundle = Bundle::new("no-path").args(&["payload"]).set("/process/env", json!([]));
    refused(&bundle, "exec: \"payload\": executable file not found in $PATH");
    refused(&Bundle::new("absolute").args(&["/nosuch"]), "exec: \"/nosuch\": stat /nosuch: no such file or directory");
}

#[test]
fn a_non_executable_program_fails_create() {
    refused(&Bundle::new("directory").args(&["/etc"]), "exec: \"/etc\": ");
    let bundle = Bundle::new("no-mode").file("/etc/passwd", "x").args(&["/etc/passwd"]);
    refused(&bundle, "exec: \"/etc/passwd\": permission denied");
    if !peer_differs(&["runc<1.2"], "says permission denied") {
        refused(&Bundle::new("directory").args(&["/etc"]), "exec: \"/etc\": is a directory");
    }
    refused(&Bundle::new("empty-name").args(&[""]), "exec: \"\": executable file not found in $PATH");
}

#[test]
fn an_executable_of_unknown_format_fails_at_start() {
    let bundle = Bundle::new("no-format").file("/text", "no program\n").args(&["/text"]);
    std::fs::set_permissions(bundle.rootfs().join("text"), PermissionsExt::from_mode(0o755)).unwrap();
    let output = bundle.run_as_is();
    assert!(output.code != 0 && output.stderr.to_lowercase().contains("exec format error"), "{output}");
    bundle.nothing_left();
}

#[test]
fn a_script_is_executed_by_its_interpreter() {
    let bundle = Bundle::new("script").file("/script", "#!/payload exit\n").args(&["/script"]);
    std::fs::set_permissions(bundle.rootfs().join("script"), PermissionsExt::from_mode(0o755)).unwrap();
    // executes `/payload exit /script`, and the payload reports that /script is no number
    let output = bundle.run_as_is();
    assert!(output.stderr.contains("not a number: /script"), "{output}");
}

/// What the container's standard error holds of a program that was found and that execve refuses.
const REFUSED: [(&str, &str, &str); 3] = [
    ("/text", "no program\n", "exec /text: exec format error"),
    ("/script", "#!/nosuch\n", "exec /script: no such file or directory"),
    ("/returns", "#!/payload\r\n", "exec /returns: no such file or directory"),
];

fn with_program(name: &str, path: &str, text: &str) -> Bundle {
    let bundle = Bundle::new(name).file(path, text);
    std::fs::set_permissions(bundle.rootfs().join(&path[1..]), PermissionsExt::from_mode(0o755)).unwrap();
    bundle
}

#[test]
fn a_program_that_execve_refuses_ends_the_container_with_255_and_its_log_says_why() {
    if peer_differs(&["crun"], "has other words and another status") {
        return;
    }
    for (path, text, said) in REFUSED {
        let bundle = with_program("refused", path, text).args(&[path]);
        let output = bundle.run_as_is().code(255);
        assert!(output.stderr.contains(said), "{output}");
        bundle.nothing_left();

        let output = bundle.launch("run", &["--detach"]).finish().ok();
        until(said, || std::fs::read_to_string(bundle.last_errors()).ok().filter(|text| text.contains(said)));
        bundle.wait_for("stopped").delete().ok();
        assert_eq!(output.stdout, "", "{output}");

        bundle.create().ok();
        let (pid, log) = (bundle.pid(), bundle.last_errors());
        bundle.start().ok();
        assert_eq!(bundle.exit_code(pid), 255);
        let log = std::fs::read_to_string(log).unwrap();
        assert!(log.contains(said), "{path}: {log}");
        bundle.wait_for("stopped").delete().ok();
    }
}

#[test]
fn exec_of_a_program_that_execve_refuses_is_255() {
    for (path, text, said) in REFUSED {
        let bundle = with_program("exec-refused", path, text).sees(&["pause"]);
        bundle.up();
        let output = bundle.verb(&["exec", &bundle.id, path]);
        let words = said.split(": ").nth(1).unwrap();
        assert!(output.stderr.to_lowercase().contains(words), "{output}");
        assert!(output.code == 255 || peer_differs(&["crun"], "another status"), "{output}");
        bundle.down();
    }
}
