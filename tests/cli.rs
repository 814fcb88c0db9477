//! The command line as callers use it: flags, usage errors, versions, logs, `spec`.

use crate::support::{Bundle, Output, Value, json, peer_differs};

fn onggi_or_runc() -> bool {
    !peer_differs(&["crun"], "has a command line of its own")
}

#[test]
fn the_version_output_is_as_containerd_parses_it() {
    let bundle = Bundle::new("version");
    for flag in ["--version", "-v"] {
        let output = bundle.verb(&[flag]).ok();
        assert_eq!(output.stderr, "");
        let first = output.stdout.lines().next().unwrap().to_owned();
        let name = crate::support::Runtime::get().name.clone();
        assert!(first.starts_with(&format!("{name} version ")), "{first}");
        assert!(output.stdout.lines().any(|line| line.starts_with("spec: 1.")), "{output}");
        if !onggi_or_runc() {
            break;
        }
    }
}

#[test]
fn called_as_runc_the_version_says_runc() {
    let bundle = Bundle::new("argv0");
    let mut command = std::process::Command::new(&crate::support::Runtime::get().path);
    std::os::unix::process::CommandExt::arg0(&mut command, "/usr/bin/runc");
    let output = crate::support::runtime::Call::new(command, &bundle.path("argv0")).args(["--version"]).finish().ok();
    assert!(output.stdout.starts_with("runc version ") || peer_differs(&["crun"], "is itself"), "{output}");
}

#[test]
fn help_exits_with_0() {
    let bundle = Bundle::new("help");
    for args in [&[][..], &["--help"], &["-h"], &["create", "--help"], &["help"]] {
        if (args.len() != 2 && args != ["--help"]) && !onggi_or_runc() {
            continue;
        }
        let output = bundle.verb(args).ok();
        assert!(output.stdout.to_lowercase().contains("usage"), "{args:?}: {output}");
    }
}

/// Scripts look for the program and the verb after the first heading.
#[test]
fn help_has_runcs_layout() {
    if !onggi_or_runc() {
        return;
    }
    let bundle = Bundle::new("help-layout");
    let name = &crate::support::Runtime::get().name;
    for (args, line) in [
        (&["--help"][..], format!("   {name} - Open Container Initiative runtime")),
        (&["checkpoint", "-h"], format!("   {name} checkpoint - ")),
        (&["list", "--help"], format!("   {name} list - ")),
    ] {
        let output = bundle.verb(args).ok();
        let lines: Vec<_> = output.stdout.lines().collect();
        assert_eq!(lines[0], "NAME:", "{output}");
        assert!(lines[1].starts_with(&line), "{output}");
        assert!(lines.contains(&"USAGE:"), "{output}");
    }
}

#[test]
fn usage_errors_have_runcs_statuses_and_texts() {
    if !onggi_or_runc() {
        return;
    }
    let bundle = Bundle::new("usage");
    bundle.verb(&["bogus"]).fails(3, "No help topic for 'bogus'");
    bundle.verb(&["state", "--bogus", "x"]).fails(1, "flag provided but not defined: -bogus");
    bundle.verb(&["--bogus", "state", "x"]).fails(1, "flag provided but not defined: -bogus");
    bundle.verb(&["create", "--pid-file"]).fails(1, "flag needs an argument: -");
    bundle.verb(&["state"]).fails(1, "\"state\" requires exactly 1 argument(s)");
    bundle.verb(&["state", "a", "b"]).fails(1, "\"state\" requires exactly 1 argument(s)");
    bundle.verb(&["kill"]).fails(1, "\"kill\" requires a minimum of 1 argument");
    bundle.verb(&["kill", "a", "9", "c"]).fails(1, "\"kill\" requires a maximum of 2 argument");
    bundle.verb(&["--log-format", "bogus", "list"]).fails(1, "bogus");
}

#[test]
fn flags_follow_gos_syntax() {
    if !onggi_or_runc() {
        return;
    }
    let bundle = Bundle::new("go-flags").sees(&["exit", "4"]);
    let dir = bundle.dir.display().to_string();
    let run = |flags: &[&str]| bundle.runtime().args(["run"]).args(flags).args([&bundle.id]).finish();
    run(&["--bundle", &dir]).code(4);
    run(&[&format!("--bundle={dir}")]).code(4);
    run(&["-bundle", &dir]).code(4);
    run(&[&format!("-bundle={dir}")]).code(4);
    run(&["-b", &dir]).code(4);
    run(&["-b", &dir, "-no-subreaper"]).code(4);
    run(&["-b", &dir, "-keep=false", "--no-pivot=false"]).code(4);
}

#[test]
fn the_state_root_cannot_be_the_root_directory() {
    if onggi_or_runc() && !peer_differs(&["runc<1.2"], "takes it") {
        let bundle = Bundle::new("slash");
        let output = bundle.runtime().args(["--root", "/", "list"]).finish();
        output.fails(1, "Option --root argument should not be set to /");
    }
}

#[test]
fn list_fails_on_a_missing_state_root() {
    if onggi_or_runc() && !peer_differs(&["runc<1.2"], "shows an empty table") {
        let bundle = Bundle::new("list-root");
        bundle.verb(&["list"]).fails(1, "no such file or directory");
    }
}

/// A failing call with a log file; returns its output and the log.
fn logged(format: &str, words: &[&str]) -> (Output, String) {
    let bundle = Bundle::new("log");
    let file = bundle.path("log");
    let call = bundle.runtime().args(["--log"]).args([&file]).args(["--log-format", format]).args(words);
    let output = call.finish();
    (output, std::fs::read_to_string(file).unwrap_or_default())
}

#[test]
fn a_failing_call_logs_one_json_record() {
    let (output, log) = logged("json", &["state", "nosuch"]);
    assert_ne!(output.code, 0);
    if peer_differs(&["crun"], "prints a record over several lines") {
        return;
    }
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines.len(), 1, "{log}");
    let record: Value = serde_json::from_str(lines[0]).unwrap();
    assert_eq!(record["level"], "error");
    assert_eq!(record["msg"], "container does not exist");
    let time = record["time"].as_str().unwrap();
    assert_eq!(time.len(), "2026-11-20T23:49:41Z".len(), "{time}: RFC 3339 in seconds");
    assert!(time.ends_with('Z') && time.as_bytes()[10] == b'T', "{time}");
    // standard error has the message too
    assert!(output.stderr.contains("container does not exist"), "{output}");
}

#[test]
fn text_log_records_have_logrus_format() {
    if !onggi_or_runc() {
        return;
    }
    let (_, log) = logged("text", &["state", "nosuch"]);
    let rest = log.strip_prefix("time=\"").unwrap_or_else(|| panic!("{log}"));
    // a hint may follow
    let (record, hint) = rest.split_at(rest.find(" hint=").unwrap_or(rest.len() - 1));
    assert!(record.ends_with("Z\" level=error msg=\"container does not exist\""), "{log}");
    assert!(hint == "\n" || hint.starts_with(" hint=\"") && hint.ends_with("\"\n"), "{log}");
}

#[test]
fn without_a_log_file_the_record_goes_to_stderr() {
    if onggi_or_runc() {
        let output = Bundle::new("stderr").verb(&["state", "nosuch"]).code(1);
        assert!(output.stderr.contains("level=error msg=\"container does not exist\""), "{output}");
        let bundle = Bundle::new("stderr-json");
        let output = bundle.runtime().args(["--log-format", "json", "state", "nosuch"]).finish().code(1);
        let record: Value = serde_json::from_str(output.stderr.lines().next().unwrap()).unwrap();
        assert_eq!(record["msg"], "container does not exist");
    }
}

#[test]
fn the_log_is_appended_to_and_success_writes_nothing() {
    let bundle = Bundle::new("append").sees(&["true"]);
    let file = bundle.host_file("log", "");
    let logged = || bundle.runtime().args(["--log"]).args([&file]).args(["--log-format", "json"]);
    logged().args(["run", "--bundle"]).args([&bundle.dir]).args([&bundle.id]).finish().ok();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "");
    logged().args(["state", "nosuch"]).finish();
    logged().args(["state", "nosuch"]).finish();
    let text = std::fs::read_to_string(&file).unwrap();
    let records = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
    assert_eq!(records.filter_map(Result::ok).filter(|record| record["level"] == "error").count(), 2, "{text}");
}

#[test]
fn the_log_record_of_a_failed_start_contains_the_whole_error() {
    let bundle = Bundle::new("launch-log").args(&["nosuchcmd"]);
    let file = bundle.path("log");
    let call = bundle.runtime().args(["--log"]).args([&file]).args(["--log-format", "json", "create", "--bundle"]);
    assert_ne!(call.args([&bundle.dir]).args([&bundle.id]).finish().code, 0);
    let text = std::fs::read_to_string(&file).unwrap();
    let last = serde_json::Deserializer::from_str(&text).into_iter::<Value>().filter_map(Result::ok).last().unwrap();
    assert_eq!(last["level"], "error");
    let message = last["msg"].as_str().unwrap();
    let phrase = "exec: \"nosuchcmd\": executable file not found in $PATH";
    assert!(message.contains(phrase) || peer_differs(&["crun"], "has words of its own"), "{message}");
}

#[test]
fn debug_logs_more_and_changes_nothing_else() {
    let bundle = Bundle::new("debug").sees(&["exit", "3"]);
    let file = bundle.path("log");
    let call = bundle.runtime().args(["--debug", "--log"]).args([&file]).args(["run", "--bundle"]);
    let output = call.args([&bundle.dir]).args([&bundle.id]).finish().code(3);
    assert_eq!(output.stdout, "");
    let log = std::fs::read_to_string(&file).unwrap();
    if peer_differs(&["crun"], "says no more") {
        return;
    }
    // stages that runc also has are logged with runc's text
    for stage in ["nsexec container setup", "child process in init()", "init: closing the pipe to signal completion"] {
        let said = log.lines().any(|line| line.contains("level=debug") && line.contains(stage));
        assert!(said, "{stage}: {log}");
    }
}

#[test]
fn debug_logs_the_stages_of_exec() {
    if peer_differs(&["crun"], "says no more") {
        return;
    }
    let bundle = Bundle::new("debug-exec").sees(&["pause"]);
    bundle.up();
    let document =
        json!({"cwd": "/", "args": [crate::support::payload::INSIDE, "true"], "execCPUAffinity": {"initial": "0"}});
    let file = bundle.host_file("process.json", &document.to_string());
    let output = bundle.runtime().args(["--debug", "exec", "--process"]).arg(file).arg(&bundle.id).finish().ok();
    assert!(output.stderr.contains("setns_init: about to exec"), "{output}");
    if !peer_differs(&["runc<1.3"], "has no execCPUAffinity") {
        let affinity = output.stderr.lines().find(|line| line.contains("nsexec") && line.contains(": affinity: "));
        assert!(affinity.is_some_and(|line| line.contains(": affinity: 0x1")), "{output}");
    }
    bundle.down();
}

#[test]
fn global_flags_of_engines_are_accepted() {
    let bundle = Bundle::new("globals").sees(&["exit", "3"]);
    for flags in
        [&["--rootless=false"][..], &["--rootless", "false"], &["--rootless=auto"], &["--log-format=text", "--debug"]]
    {
        if flags[0].starts_with("--log") && !onggi_or_runc() {
            continue;
        }
        bundle.runtime().args(flags).args(["run", "--bundle"]).args([&bundle.dir]).args([&bundle.id]).finish().code(3);
    }
}

#[test]
fn spec_writes_a_bundle_that_runs() {
    let bundle = Bundle::new("spec");
    let dir = bundle.host_directory("fresh");
    let call = || bundle.runtime().args(["spec", "--bundle"]).args([&dir]);
    call().finish().ok();
    let written = std::fs::read_to_string(dir.join("config.json")).unwrap();
    let config: Value = serde_json::from_str(&written).unwrap();
    assert_eq!(config["process"]["args"], json!(["sh"]));
    assert_eq!(config["root"]["path"], "rootfs");
    assert_eq!(config["process"]["noNewPrivileges"], true);
    assert!(config["linux"]["namespaces"].as_array().is_some_and(|all| all.len() >= 5), "{written}");
    if onggi_or_runc() {
        call().finish().fails(1, "File config.json exists. Remove it first");
    }
    // as a user continues: another program, no terminal
    let mut own = bundle;
    own.config = config;
    let path = format!("/{}", own.id);
    let own = own.set("/process/terminal", false).set("/linux/cgroupsPath", path);
    own.run(&["id", "+", "exit", "4"]).code(4).has("Pid", "1");
}

#[test]
fn spec_for_a_user_has_a_user_namespace() {
    let bundle = Bundle::new("spec-rootless");
    let dir = bundle.host_directory("fresh");
    bundle.runtime().args(["spec", "--rootless", "--bundle"]).args([&dir]).finish().ok();
    let config: Value = serde_json::from_slice(&std::fs::read(dir.join("config.json")).unwrap()).unwrap();
    let kinds: Vec<&str> =
        config["linux"]["namespaces"].as_array().unwrap().iter().filter_map(|n| n["type"].as_str()).collect();
    if peer_differs(&["crun"], "writes a network, and no mappings") {
        return;
    }
    assert!(kinds.contains(&"user") && !kinds.contains(&"network"), "{kinds:?}");
    assert_eq!(config["linux"]["uidMappings"][0]["containerID"], 0);
}

#[test]
fn cruns_config_flag_is_accepted() {
    if peer_differs(&["runc"], "knows no --config") {
        return;
    }
    let bundle = Bundle::new("config-flag").sees(&["exit", "6"]);
    let other = bundle.host_file("other.json", &bundle.config.to_string());
    let bundle = bundle.sees(&["exit", "5"]);
    for flag in ["--config", "-f"] {
        let call = bundle.runtime().args(["run", "--bundle"]).args([&bundle.dir]).args([flag]).args([&other]);
        call.args([&bundle.id]).finish().code(6);
    }
}

#[test]
fn cruns_cgroup_manager_flag_is_accepted() {
    if peer_differs(&["runc"], "knows no --cgroup-manager") {
        return;
    }
    for name in ["cgroupfs", "disabled"] {
        let bundle = Bundle::new(name).sees(&["pause"]);
        let call = || bundle.runtime().args(["--cgroup-manager", name]);
        call().args(["create", "--bundle"]).args([&bundle.dir]).args([&bundle.id]).finish().ok();
        let made = !crate::support::kernel::cgroups_with(&bundle.id).is_empty();
        assert_eq!(made, name == "cgroupfs", "{name}");
        call().args(["start", &bundle.id]).finish().ok();
        call().args(["delete", "--force", &bundle.id]).finish().ok();
    }
}
