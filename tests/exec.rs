//! exec: exit status, flags, process.json, and failures.

use crate::support::process::members;
use crate::support::runtime::Call;
use crate::support::{Bundle, Output, Runtime, Value, json, kernel, payload, peer_differs, reaper, until};
use std::time::Instant;

/// Starts a container that keeps running, for `exec` into it.
pub(crate) fn up(bundle: Bundle) -> Bundle {
    let bundle = bundle.sees(&["pause"]);
    bundle.up();
    bundle
}

/// A call of exec: flags, then the payload's sub-commands.
pub(crate) fn exec(bundle: &Bundle, flags: &[&str], words: &[&str]) -> Call {
    bundle.runtime().arg("exec").args(flags).args([&bundle.id, payload::INSIDE]).args(words)
}

/// Runs exec in the foreground and returns its output.
pub(crate) fn sees(bundle: &Bundle, flags: &[&str], words: &[&str]) -> Output {
    exec(bundle, flags, words).finish()
}

/// A call of exec with this process.json.
fn document(bundle: &Bundle, document: &Value) -> Call {
    let file = bundle.host_file("process.json", &document.to_string());
    bundle.runtime().args(["exec", "--process"]).arg(file).arg(&bundle.id)
}

/// A pipe can be read only once; the process document must survive our re-execution as a sealed copy.
#[test]
fn takes_a_process_document_through_a_pipe() {
    let bundle = up(Bundle::new("pipe"));
    let document = json!({"cwd": "/", "args": words(&["echo", "through"])}).to_string();
    let call = bundle.runtime().args(["exec", "--process", "/proc/self/fd/0", &bundle.id]);
    let output = call.stdin(document.as_bytes()).finish().ok();
    assert_eq!(output.stdout, "through\n");
    bundle.down();
}

fn words(words: &[&str]) -> Vec<String> {
    [payload::INSIDE].iter().chain(words).map(|word| (*word).to_owned()).collect()
}

#[test]
fn returns_the_status_of_the_process() {
    let bundle = up(Bundle::new("status"));
    for code in [0, 1, 42, 126, 127, 255] {
        sees(&bundle, &[], &["exit", &code.to_string()]).code(code);
    }
    for signal in [9, 11, 15] {
        sees(&bundle, &[], &["die", &signal.to_string()]).code(128 + signal);
    }
    bundle.down();
}

#[test]
fn passes_standard_streams_through() {
    let bundle = up(Bundle::new("streams"));
    let output = sees(&bundle, &[], &["echo", "to the one", "+", "complain", "to the other"]).ok();
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("to the one\n", "to the other\n"));
    exec(&bundle, &[], &["stdin"]).stdin(b"from outside").finish().ok().has("stdin", "\"from outside\"");
    bundle.down();
}

#[test]
fn forwards_signals() {
    let bundle = up(Bundle::new("forward"));
    let run = exec(&bundle, &[], &["trap"]).start();
    until("the trap", || run.stdout().contains("trap: ready").then_some(()));
    for signal in [libc::SIGUSR1, libc::SIGHUP, libc::SIGINT, libc::SIGUSR2, libc::SIGCONT] {
        run.kill(signal);
        until("the signal", || run.stdout().contains(&format!("signal: {signal}\n")).then_some(()));
    }
    run.kill(libc::SIGTERM);
    run.finish().code(42);
    bundle.down();
}

#[test]
fn failures_exit_with_255_and_give_the_reason() {
    let bundle = up(Bundle::new("failures").file("/etc/passwd", "root:x:0:0::/:/bin/sh\n"));
    let id = bundle.id.as_str();
    let name = &Runtime::get().name;
    let rows: [(&[&str], &str); 9] = [
        (&["exec", "no-such-container", "/payload"], "exec failed: container does not exist"),
        (
            &["exec", id, "nosuch"],
            "exec failed: unable to start container process: exec: \"nosuch\": executable file not found in $PATH",
        ),
        (
            &["exec", id, "/nosuch"],
            "exec failed: unable to start container process: exec: \"/nosuch\": stat /nosuch: no such file or directory",
        ),
        (&["exec", id, "/etc/passwd"], "exec: \"/etc/passwd\": permission denied"),
        (
            &["exec", "--cwd", "/no/where", id, "/payload"],
            "chdir to cwd (\"/no/where\") set in config.json failed: no such file or directory",
        ),
        (&["exec", "--cwd", "relative", id, "/payload"], "exec failed: Cwd must be an absolute path"),
        (
            &["exec", "--tty", "--detach", id, "/payload"],
            &format!("exec failed: cannot allocate tty if {name} will detach without setting console socket"),
        ),
        (
            &["exec", "--console-socket", "/s", id, "/payload"],
            &format!("exec failed: cannot use console socket if {name} will not detach or allocate tty"),
        ),
        (&["exec", "--process", "/no/file", id], "exec failed: open /no/file: no such file or directory"),
    ];
    for (args, phrase) in rows {
        bundle.verb(args).fails(255, phrase);
    }
    for user in ["x", "0x0", "1:", "1:x", ":1", "-1", "4294967296", ""] {
        if user.is_empty() && peer_differs(&["runc"], "takes an empty user for none") {
            continue;
        }
        // CVE-2026-30892 (crun): an invalid number must not become root
        if user == "4294967296" && peer_differs(&["runc"], "cuts the number, and becomes root") {
            continue;
        }
        let output = bundle.verb(&["exec", "--user", user, id, "/payload"]);
        assert_eq!(output.code, if user == "-1" && output.code == 1 { 1 } else { 255 }, "{output}");
    }
    bundle.verb(&["exec", "--bogus", id, "/payload"]).fails(1, "flag provided but not defined: -bogus");
    bundle.down();
}

#[test]
fn requires_a_command() {
    if peer_differs(&["runc<1.2"], "says it in other words") {
        return;
    }
    let bundle = up(Bundle::new("no-command"));
    bundle.verb(&["exec", &bundle.id]).fails(255, "exec failed: exec args cannot be empty");
    bundle.down();
}

#[test]
fn works_in_created_but_not_in_stopped_containers() {
    let bundle = Bundle::new("created").sees(&["pause"]);
    bundle.create().ok();
    sees(&bundle, &[], &["exit", "3"]).code(3);
    assert_eq!(bundle.status(), "created");
    bundle.start().ok();
    sees(&bundle, &[], &["exit", "4"]).code(4);
    let pid = bundle.pid();
    bundle.kill("KILL").ok();
    bundle.exit_code(pid);
    sees(&bundle, &[], &["true"]).fails(255, "exec failed: cannot exec in a stopped container");
    bundle.delete().ok();
}

#[test]
fn works_in_paused_containers_only_with_ignore_paused() {
    let bundle = up(Bundle::new("paused"));
    bundle.verb(&["pause", &bundle.id]).ok();
    let phrase = "exec failed: cannot exec in a paused container (use --ignore-paused to override)";
    sees(&bundle, &[], &["true"]).fails(255, phrase);
    // the new process is frozen with the others and resumes with them
    let run = exec(&bundle, &["--ignore-paused"], &["echo", "thawed"]).start();
    std::thread::sleep(std::time::Duration::from_millis(150));
    assert_eq!(run.stdout(), "", "it ran in a frozen container");
    bundle.verb(&["resume", &bundle.id]).ok();
    run.finish().ok().says("thawed");
    bundle.down();
}

#[test]
fn detaches_and_writes_a_pid_file() {
    let bundle = up(Bundle::new("detach"));
    let (born, file) = (Instant::now(), bundle.path("pid"));
    let flags = ["--detach", "--pid-file", file.to_str().unwrap()];
    sees(&bundle, &flags, &["sleep", "200", "+", "exit", "7"]).ok();
    let text = std::fs::read_to_string(&file).unwrap();
    let pid: i32 = text.parse().unwrap_or_else(|_| panic!("pid file {text:?}"));
    assert_eq!(kernel::namespace(pid, "pid"), kernel::namespace(bundle.pid(), "pid"));
    let status = reaper::status_of(pid, born, crate::support::patience()).expect("the end of the process");
    assert_eq!(reaper::code(status), 7);
    // also in the foreground
    std::fs::remove_file(&file).unwrap();
    sees(&bundle, &flags[1..], &["exit", "5"]).code(5);
    assert!(file.exists());
    bundle.down();
}

#[test]
fn leaves_no_pid_file_and_no_process_when_it_fails() {
    let bundle = up(Bundle::new("no-pid"));
    let file = bundle.path("pid");
    for flags in [&["--detach", "--pid-file"][..], &["--pid-file"]] {
        let call = bundle.runtime().arg("exec").args(flags).arg(&file).args([&bundle.id, "nosuch"]);
        call.finish().fails(255, "executable file not found in $PATH");
        assert!(!file.exists(), "a caller takes a pid file for success");
    }
    // a pid file that cannot be written is an error and kills the process
    let call = exec(&bundle, &["--detach", "--pid-file", "/no/such/dir/pid"], &["pause"]);
    call.finish().fails(255, "no such file or directory");
    until("the process to be gone", || (members(&bundle.cgroup()).len() == 1).then_some(()));
    bundle.down();
}

#[test]
fn starts_from_the_containers_process_and_applies_flags() {
    let bundle = Bundle::new("flags").env("OF=container").env("BOTH=container").directory("/job");
    let bundle = up(bundle.set("/process/cwd", "/etc").set("/process/user/additionalGids", json!([5])));
    let output = sees(&bundle, &[], &["cwd", "+", "id", "+", "env"]).ok().has("cwd", "/etc").has("Groups", "5");
    output.has("Uid", "0\t0\t0\t0").has("NoNewPrivs", "1").says("OF=container").says("BOTH=container");
    let flags = ["--cwd", "/job", "--env", "BOTH=flag", "--env", "NEW=a=b", "--user", "7:8", "-g", "9", "-g", "10"];
    let output = sees(&bundle, &flags, &["cwd", "+", "id", "+", "env"]).ok().has("cwd", "/job").has("Groups", "5 9 10");
    let output = output.has("Uid", "7\t7\t7\t7").has("Gid", "8\t8\t8\t8").says("BOTH=flag").says("NEW=a=b");
    output.says("OF=container");
    sees(&bundle, &["--user", "7"], &["id"]).ok().has("Uid", "7\t7\t7\t7").has("Gid", "0\t0\t0\t0");
    sees(&bundle, &["--no-new-privs=false"], &["id"]).ok().has("NoNewPrivs", "0");
    bundle.down();
}

#[test]
fn no_new_privs_can_be_set_for_one_exec() {
    let bundle = up(Bundle::new("nnp").set("/process/noNewPrivileges", false));
    sees(&bundle, &[], &["id"]).ok().has("NoNewPrivs", "0");
    sees(&bundle, &["--no-new-privs"], &["id"]).ok().has("NoNewPrivs", "1");
    bundle.down();
}

#[test]
fn home_comes_from_the_users_passwd_entry() {
    let bundle = Bundle::new("home").file("/etc/passwd", "root:x:0:0::/root:/bin/sh\nweb:x:33:33::/var/www:/bin/sh\n");
    let bundle = up(bundle);
    sees(&bundle, &["--user", "33"], &["env"]).ok().says("HOME=/var/www");
    sees(&bundle, &[], &["env"]).ok().says("HOME=/root");
    sees(&bundle, &["--user", "34"], &["env"]).ok().says("HOME=/");
    sees(&bundle, &["--env", "HOME=/given"], &["env"]).ok().says("HOME=/given");
    bundle.down();
}

#[test]
fn process_json_replaces_the_whole_process() {
    let bundle = up(Bundle::new("document").env("OF=container").set("/process/cwd", "/etc"));
    let process = json!({
        "terminal": false, "cwd": "/tmp", "args": words(&["cwd", "+", "id", "+", "umask", "+", "env", "+", "exit", "6"]),
        "env": ["PATH=/", "OF=document"], "user": {"uid": 5, "gid": 6, "additionalGids": [7], "umask": 0o077},
        "noNewPrivileges": true,
    });
    let output = document(&bundle, &process).finish().code(6).has("cwd", "/tmp").has("Groups", "7");
    let output = output.has("Uid", "5\t5\t5\t5").has("Gid", "6\t6\t6\t6").says("OF=document");
    assert!(!output.stdout.contains("OF=container"), "{output}");
    if !peer_differs(&["runc"], "takes the umask of the container only") {
        output.has("umask", "0077");
    }
    let mistakes: [(Value, &str); 4] = [
        (json!({"args": ["/payload"], "cwd": ""}), "Cwd property must not be empty"),
        (json!({"args": ["/payload"], "cwd": "x"}), "Cwd must be an absolute path"),
        (json!({"args": [], "cwd": "/"}), "args must not be empty"),
        (json!({"cwd": "/"}), "args must not be empty"),
    ];
    for (process, phrase) in mistakes {
        document(&bundle, &process).finish().fails(255, &format!("exec failed: {phrase}"));
    }
    bundle.down();
}

#[test]
fn process_json_without_capabilities_gets_the_containers() {
    let bundle = up(Bundle::new("silent").set("/process/oomScoreAdj", 77));
    let own = sees(&bundle, &[], &["id", "+", "sched"]).ok();
    let process = json!({"cwd": "/", "args": words(&["id", "+", "sched"])});
    let output = document(&bundle, &process).finish().ok();
    for key in ["CapBnd", "CapPrm", "CapEff", "CapInh", "CapAmb", "oom_score_adj"] {
        assert!(own.get(key).is_some(), "no {key} in {own}");
        assert_eq!(output.get(key), own.get(key), "{key} in {output}");
    }
    output.has("CapBnd", "0000000020000420").has("oom_score_adj", "77");
    let process = json!({"cwd": "/", "args": words(&["rlimits", "+", "id"]), "capabilities": {"bounding": ["CAP_KILL"]},
        "rlimits": [{"type": "RLIMIT_CORE", "soft": 50, "hard": 60}]});
    let output = document(&bundle, &process).finish().ok().has("RLIMIT_CORE", "50 60");
    output.has("CapBnd", "0000000000000020");
    bundle.down();
}

#[test]
fn added_capabilities_are_not_inheritable() {
    // CVE-2022-24769, CVE-2022-29162: inheritable capabilities are regained by executing files with file capabilities
    let bundle = up(Bundle::new("cap"));
    let output = sees(&bundle, &["-c", "CAP_NET_ADMIN", "-c", "CAP_CHOWN"], &["id"]).ok();
    let output = output.has("CapBnd", "0000000020001421").has("CapPrm", "0000000020001421");
    output.has("CapEff", "0000000020001421").has("CapInh", "0000000000000000").has("CapAmb", "0000000000000000");
    let output = sees(&bundle, &["--cap", "CAP_BOGUS"], &["id"]).ok().has("CapBnd", "0000000020000420");
    assert!(output.stderr.contains("ignoring unknown or unavailable capabilities: [CAP_BOGUS]"), "{output}");
    bundle.down();
}

#[test]
fn added_capabilities_are_ambient_where_they_were_inheritable() {
    let set = ["CAP_KILL", "CAP_CHOWN"];
    let caps = json!({"bounding": set, "permitted": set, "effective": set, "inheritable": ["CAP_CHOWN"]});
    let bundle = Bundle::new("ambient").set("/process/capabilities", caps);
    let bundle = up(bundle.set("/process/user", json!({"uid": 1000, "gid": 1000})));
    let output = sees(&bundle, &["--cap", "CAP_CHOWN", "--cap", "CAP_NET_RAW"], &["id"]).ok();
    let output = output.has("CapAmb", "0000000000000001").has("CapEff", "0000000000000001");
    output.has("CapInh", "0000000000000001").has("CapBnd", "0000000000002021");
    bundle.down();
}

#[test]
fn scheduling_comes_from_process_json() {
    if peer_differs(&["runc<1.3"], "has no scheduling for exec") {
        return;
    }
    let bundle = up(Bundle::new("sched").set("/process/oomScoreAdj", 50));
    let process = json!({"cwd": "/", "args": words(&["sched"]),
        "scheduler": {"policy": "SCHED_BATCH", "nice": 5}, "ioPriority": {"class": "IOPRIO_CLASS_IDLE", "priority": 3}});
    let output = document(&bundle, &process).finish().ok().has("sched.policy", "3").has("sched.nice", "5");
    output.has("io.class", "3").has("oom_score_adj", "50");
    bundle.down();
}

#[test]
fn personality_is_the_containers() {
    if peer_differs(&["runc<1.2"], "has no personality") {
        return;
    }
    let bundle = up(Bundle::new("persona").set("/linux/personality", json!({"domain": "LINUX32"})));
    sees(&bundle, &[], &["sched"]).ok().has("personality", "0x8");
    bundle.down();
}
