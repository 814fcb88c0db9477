//! exec: what the container can do to the new process before execve, and the process's seccomp filter, labels and terminal.

use crate::exec::{exec, sees, up};
use crate::support::agent::Agent;
use crate::support::tty::Receiver;
use crate::support::{Bundle, Runtime, Value, json, peer_differs};

/// A bundle with a profile that reports these system calls to an agent.
fn reports(bundle: Bundle, calls: &[&str]) -> (Bundle, Agent) {
    let path = bundle.path("a.sock");
    let agent = Agent::new(&path);
    let profile = json!({
        "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path, "listenerMetadata": "for the agent",
        "syscalls": [{"names": calls, "action": "SCMP_ACT_NOTIFY"}],
    });
    (bundle.set("/linux/seccomp", profile), agent)
}

#[test]
fn each_process_has_its_own_seccomp_listener() {
    let (bundle, agent) = reports(Bundle::new("notify").set("/annotations", json!({"a": "b"})), &["mkdir", "mkdirat"]);
    let bundle = bundle.sees(&["pause"]);
    bundle.create().ok();
    let first = agent.take();
    bundle.start().ok();
    let init = bundle.pid();
    assert_eq!(first.state["pid"], json!(init));
    let version = &bundle.config["ociVersion"];
    assert_eq!((&first.state["ociVersion"], &first.state["state"]["ociVersion"]), (version, version));
    for errno in [libc::ENOSPC, libc::EROFS] {
        let run = exec(&bundle, &[], &["mkdir", "/new"]).start();
        let listener = agent.take();
        let notice = listener.next();
        listener.deny(notice, errno);
        let output = run.finish().ok();
        output.has("mkdir /new", if errno == libc::ENOSPC { "ENOSPC" } else { "EROFS" });
        let state = &listener.state;
        assert_eq!(state["pid"], json!(notice.pid), "{state}");
        assert_eq!((&state["fds"], &state["metadata"]), (&json!(["seccompFd"]), &json!("for the agent")), "{state}");
        let container = &state["state"];
        assert_eq!((&container["id"], &container["pid"]), (&json!(bundle.id), &json!(init)), "{state}");
        assert_eq!(
            (&container["status"], &container["annotations"]),
            (&json!("running"), &json!({"a": "b"})),
            "{state}"
        );
    }
    bundle.down();
}

#[test]
fn the_container_cannot_inspect_the_process_before_execve() {
    // CVE-2016-9962: the process has the runtime's descriptors and more privileges than the container
    nobody_looks(Bundle::new("spy"));
}

#[test]
fn a_user_namespace_with_all_capabilities_cannot_inspect_it_either() {
    let caps = ["CAP_SYS_PTRACE", "CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH"];
    nobody_looks(Bundle::new("user-spy").user_namespace().caps(&caps));
}

fn nobody_looks(bundle: Bundle) {
    let (bundle, agent) = reports(bundle, &["execve"]);
    let bundle = bundle.directory("/spy").sees(&["spy", "/spy"]);
    bundle.create().ok();
    let init = agent.take();
    std::thread::scope(|scope| {
        scope.spawn(|| init.allow(init.next()));
        bundle.start().ok();
    });
    bundle.hears("spy: ready");
    // the process is at its execve: it may have only the descriptors that the payload gets
    let run = exec(&bundle, &[], &["true"]).start();
    let guest = agent.take();
    let notice = guest.next();
    std::fs::write(bundle.rootfs().join("spy/look"), "").unwrap();
    bundle.hears("spied: all");
    guest.allow(notice);
    run.finish().ok();
    let said = bundle.printed();
    let looks: Vec<&str> = said.lines().filter(|line| line.starts_with("look ")).collect();
    assert!(looks.len() >= 4, "the spy saw nothing: the test proves nothing: {said}");
    for look in looks {
        assert!(look.ends_with(": EACCES") || look.ends_with(": EPERM"), "the spy came through: {said}");
    }
    bundle.down();
}

#[test]
fn the_filter_is_loaded_with_and_without_no_new_privileges() {
    for on in [true, false] {
        let profile = json!({"defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::ENOSPC}]});
        let bundle = up(Bundle::new("filter").set("/linux/seccomp", profile).set("/process/noNewPrivileges", on));
        let output = sees(&bundle, &[], &["mkdir", "/new", "+", "id"]).ok().has("mkdir /new", "ENOSPC");
        output.has("Seccomp", "2").has("NoNewPrivs", if on { "1" } else { "0" });
        bundle.down();
    }
}

#[test]
fn the_working_directory_is_inside_the_container() {
    // CVE-2024-21626: a host descriptor that is still open at chdir
    let bundle = up(Bundle::new("cwd"));
    for number in 3..20 {
        for path in [format!("/proc/self/fd/{number}"), format!("/proc/self/fd/{number}/../..")] {
            let output = sees(&bundle, &["--cwd", &path], &["cwd"]);
            assert_eq!(output.code, 255, "{output}");
        }
    }
    bundle.down();
}

#[test]
fn a_label_without_its_security_module_is_an_error() {
    let on = |file: &str| std::path::Path::new(file).exists();
    let bundle = up(Bundle::new("label"));
    if !on("/sys/kernel/security/apparmor") && !on("/sys/module/apparmor") {
        sees(&bundle, &["--apparmor", "some-profile"], &["true"]).fails(255, "apparmor");
    }
    if !on("/sys/fs/selinux/enforce") && !peer_differs(&["runc<1.3"], "passes over the label") {
        sees(&bundle, &["--process-label", "u:r:t:s0"], &["true"]).fails(255, "selinux");
    }
    bundle.down();
}

#[test]
fn the_containers_first_process_is_not_the_parent() {
    let bundle = up(Bundle::new("parent"));
    let output = sees(&bundle, &[], &["status"]).ok();
    output.has("PPid", "0");
    let value: Value = bundle.state();
    assert_eq!(value["status"], json!("running"));
    bundle.down();
}

#[test]
fn the_terminal_comes_from_devpts_whatever_ptmx_is() {
    let fakes: [&[&str]; 3] =
        [&["mknod", "/dev/ptmx", "p", "0", "0"], &["write", "/dev/ptmx", "a file"], &["mkdir", "/dev/ptmx"]];
    for fake in fakes {
        let bundle = up(Bundle::new("ptmx"));
        sees(&bundle, &[], &[&["rm", "/dev/ptmx", "+"], fake].concat()).ok().has(&fake[..2].join(" "), "ok");
        let receiver = Receiver::new(&bundle.path("c.sock"));
        let socket = receiver.path.to_str().unwrap().to_owned();
        let output = sees(&bundle, &["--tty", "--detach", "--console-socket", &socket], &["true"]);
        if Runtime::get().is_onggi() {
            // ptmx of the container's devpts cannot be replaced
            output.ok();
        } else {
            assert_eq!(output.code, 255, "{output}");
        }
        bundle.down();
    }
}
