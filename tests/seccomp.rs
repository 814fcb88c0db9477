//! seccomp: Docker's default profile, actions, errno values, argument conditions, and when the filter is loaded.

use crate::support::{Bundle, Value, json, peer_differs};

/// Docker's default profile, as Docker writes it into `config.json`.
fn docker_default() -> Value {
    serde_json::from_str(include_str!("fixtures/docker-default.seccomp.json")).unwrap()
}

/// A profile that allows everything but what the rules say.
fn profile(rules: Value) -> Value {
    json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"], "syscalls": rules})
}

fn with(profile: Value) -> Bundle {
    Bundle::new("seccomp").set("/linux/seccomp", profile)
}

/// `syscall NR ARG…` and its answer, on x86_64.
fn call(nr: i64, args: &[&str]) -> (Vec<String>, String) {
    let mut words = vec!["syscall".to_owned(), nr.to_string()];
    words.extend(args.iter().map(|arg| (*arg).to_owned()));
    (words, format!("syscall {nr}"))
}

fn answer(bundle: Bundle, nr: i64, args: &[&str]) -> String {
    let (words, key) = call(nr, args);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    bundle.run(&words).ok().get(&key).unwrap_or("(nothing)").to_owned()
}

#[test]
fn the_filter_is_installed() {
    with(docker_default()).run(&["id"]).ok().has("Seccomp", "2").has("Seccomp_filters", "1");
    Bundle::new("no-seccomp").run(&["id"]).ok().has("Seccomp", "0");
}

#[test]
fn dockers_profile_denies_what_it_should() {
    for (nr, args) in [
        (libc::SYS_kexec_load, &[][..]),
        (libc::SYS_keyctl, &["0", "-3", "0"]),
        (libc::SYS_add_key, &[]),
        (libc::SYS_mount, &[]),
        (libc::SYS_umount2, &[]),
        (libc::SYS_pivot_root, &[]),
        (libc::SYS_unshare, &["0x10000000"]),
        (libc::SYS_setns, &["0", "0"]),
        (libc::SYS_bpf, &[]),
        (libc::SYS_perf_event_open, &[]),
        (libc::SYS_init_module, &[]),
        (libc::SYS_reboot, &[]),
        (libc::SYS_swapon, &[]),
        (libc::SYS_userfaultfd, &[]),
        (libc::SYS_open_by_handle_at, &[]),
        (libc::SYS_personality, &["1"]),
        (libc::SYS_socket, &["40", "1", "0"]),
        (libc::SYS_clone, &["0x10000000", "0"]),
    ] {
        assert_eq!(answer(with(docker_default()), nr, args), "EPERM", "system call {nr} {args:?}");
    }
}

#[test]
fn dockers_profile_allows_what_it_should() {
    for (nr, args) in [
        (libc::SYS_getpid, &[][..]),
        (libc::SYS_personality, &["0"]),
        (libc::SYS_personality, &["0x8"]),
        (libc::SYS_personality, &["0xffffffff"]),
        (libc::SYS_socket, &["1", "1", "0"]),
        (libc::SYS_umask, &["18"]),
    ] {
        let answer = answer(with(docker_default()), nr, args);
        assert!(answer.starts_with("ok"), "system call {nr} {args:?}: {answer}");
    }
    // threads and processes still work: the payload makes both
    with(docker_default()).run(&["fork", "3", "+", "sleep", "1"]).ok().has("forked", "3 ok");
}

#[test]
fn dockers_profile_answers_clone3_with_enosys() {
    assert_eq!(answer(with(docker_default()), libc::SYS_clone3, &["0", "0"]), "ENOSYS");
}

#[test]
fn a_system_call_newer_than_the_profile_gives_enosys() {
    // with ENOSYS a program uses its fallback; EPERM would be a failure
    if !peer_differs(&["crun"], "EPERM for what the profile does not know") {
        assert_eq!(answer(with(docker_default()), 999, &[]), "ENOSYS");
    }
}

#[test]
fn the_errno_is_the_rules() {
    let rule = |errno: Option<i32>| {
        let mut rule = json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]);
        if let Some(errno) = errno {
            rule[0]["errnoRet"] = json!(errno);
        }
        with(profile(rule)).run(&["mkdir", "/made"]).ok().get("mkdir /made").unwrap().to_owned()
    };
    assert_eq!(rule(Some(libc::ENOSPC)), "ENOSPC");
    assert_eq!(rule(Some(libc::EXDEV)), "EXDEV");
    assert_eq!(rule(None), "EPERM");
}

#[test]
fn the_default_errno_is_the_profiles() {
    let mut allow_most = docker_default();
    allow_most["defaultErrnoRet"] = json!(libc::EUSERS);
    assert_eq!(answer(with(allow_most), libc::SYS_kexec_load, &[]), "EUSERS");
}

/// Whether a condition on a 64-bit argument holds: lseek(99, VALUE, 0) fails with EBADF unless the filter matches.
fn condition(op: &str, value: u64, value_two: u64, argument: &str) -> bool {
    let rule = json!([{"names": ["lseek"], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::EXDEV,
                       "args": [{"index": 1, "value": value, "valueTwo": value_two, "op": op}]}]);
    match answer(with(profile(rule)), libc::SYS_lseek, &["99", argument, "0"]).as_str() {
        "EXDEV" => true,
        "EBADF" => false,
        other => panic!("{op} {value}: {other}"),
    }
}

#[test]
fn conditions_compare_whole_arguments() {
    const BIG: u64 = 0x1_0000_0005;
    for (op, value, argument, holds) in [
        ("SCMP_CMP_EQ", BIG, "0x100000005", true),
        ("SCMP_CMP_EQ", BIG, "5", false),
        ("SCMP_CMP_EQ", 5, "0x100000005", false),
        ("SCMP_CMP_NE", BIG, "5", true),
        ("SCMP_CMP_NE", BIG, "0x100000005", false),
        ("SCMP_CMP_LT", BIG, "0x100000004", true),
        ("SCMP_CMP_LT", BIG, "0x100000005", false),
        ("SCMP_CMP_LT", BIG, "6", true),
        ("SCMP_CMP_LE", BIG, "0x100000005", true),
        ("SCMP_CMP_LE", BIG, "0x200000001", false),
        ("SCMP_CMP_GE", BIG, "0x100000005", true),
        ("SCMP_CMP_GE", BIG, "6", false),
        ("SCMP_CMP_GT", BIG, "0x100000005", false),
        ("SCMP_CMP_GT", BIG, "0x200000001", true),
        ("SCMP_CMP_GT", 5, "0xffffffffffffffff", true),
    ] {
        assert_eq!(condition(op, value, 0, argument), holds, "{argument} {op} {value:#x}");
    }
}

#[test]
fn a_masked_condition_compares_what_the_mask_leaves() {
    for (mask, value, argument, holds) in [
        (0xf0, 0x50, "0x5f", true),
        (0xf0, 0x50, "0x6f", false),
        (0xff00_0000_0000, 0x1200_0000_0000, "0x12ffffffffff", true),
        (0xff00_0000_0000, 0x1200_0000_0000, "0x13ffffffffff", false),
        // as in libseccomp, the mask is applied to the value as well
        (0x0f, 0x55, "0x5", true),
    ] {
        assert_eq!(
            condition("SCMP_CMP_MASKED_EQ", mask, value, argument),
            holds,
            "{argument} & {mask:#x} == {value:#x}"
        );
    }
}

#[test]
fn conditions_of_one_rule_must_all_hold() {
    let rule = json!([{"names": ["lseek"], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::EXDEV, "args": [
        {"index": 1, "value": 7, "op": "SCMP_CMP_EQ"}, {"index": 2, "value": 1, "op": "SCMP_CMP_EQ"}]}]);
    for (args, expected) in [(["99", "7", "1"], "EXDEV"), (["99", "7", "0"], "EBADF"), (["99", "8", "1"], "EBADF")] {
        assert_eq!(answer(with(profile(rule.clone())), libc::SYS_lseek, &args), expected, "{args:?}");
    }
}

#[test]
fn conditions_on_one_argument_are_alternatives() {
    // as in runc and crun, two conditions on one argument become two rules
    let rule = json!([{"names": ["lseek"], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::EXDEV, "args": [
        {"index": 1, "value": 7, "op": "SCMP_CMP_EQ"}, {"index": 1, "value": 9, "op": "SCMP_CMP_EQ"}]}]);
    for (offset, expected) in [("7", "EXDEV"), ("9", "EXDEV"), ("8", "EBADF")] {
        assert_eq!(answer(with(profile(rule.clone())), libc::SYS_lseek, &["99", offset, "0"]), expected, "{offset}");
    }
}

#[test]
fn rules_of_one_system_call_are_alternatives() {
    let rules = json!([
        {"names": ["lseek"], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::EXDEV, "args": [{"index": 1, "value": 7, "op": "SCMP_CMP_EQ"}]},
        {"names": ["lseek"], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::EUSERS, "args": [{"index": 1, "value": 8, "op": "SCMP_CMP_EQ"}]}
    ]);
    for (offset, expected) in [("7", "EXDEV"), ("8", "EUSERS"), ("9", "EBADF")] {
        assert_eq!(answer(with(profile(rules.clone())), libc::SYS_lseek, &["99", offset, "0"]), expected, "{offset}");
    }
}

#[test]
fn kill_actions_end_the_process_with_sigsys() {
    for action in ["SCMP_ACT_KILL", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP"] {
        let rule = json!([{"names": ["mkdir", "mkdirat"], "action": action}]);
        with(profile(rule)).run(&["mkdir", "/made"]).code(128 + libc::SIGSYS);
    }
}

#[test]
fn log_lets_the_call_through_and_trace_without_a_tracer_gives_enosys() {
    let rule = |action: &str| json!([{"names": ["mkdir", "mkdirat"], "action": action}]);
    with(profile(rule("SCMP_ACT_LOG"))).run(&["mkdir", "/made"]).ok().has("mkdir /made", "ok");
    with(profile(rule("SCMP_ACT_ALLOW"))).run(&["mkdir", "/made"]).ok().has("mkdir /made", "ok");
    // without a tracer the kernel returns ENOSYS
    with(profile(rule("SCMP_ACT_TRACE"))).run(&["mkdir", "/made"]).ok().has("mkdir /made", "ENOSYS");
}

#[test]
fn unknown_system_call_names_are_ignored() {
    let rule =
        json!([{"names": ["no_such_call", "mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::EXDEV}]);
    with(profile(rule)).run(&["mkdir", "/made"]).ok().has("mkdir /made", "EXDEV");
}

#[test]
fn unknown_seccomp_values_are_refused() {
    for broken in [
        json!({"defaultAction": "SCMP_ACT_BOGUS"}),
        json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_BOGUS"]}),
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_BOGUS"}]}),
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO",
               "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_BOGUS"}]}]}),
        json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_BOGUS"]}),
    ] {
        let bundle = with(broken.clone());
        let output = bundle.run_as_is();
        assert_ne!(output.code, 0, "{broken}");
        assert!(
            output.stderr.contains("BOGUS") || peer_differs(&["runc", "crun"], "does not name the word"),
            "{output}"
        );
        bundle.nothing_left();
    }
}

#[test]
fn with_no_new_privileges_the_filter_is_loaded_last() {
    // the profile may deny what the runtime needs after an early filter, since the filter is loaded last
    let names = ["capset", "setuid", "setgid", "setgroups", "setresuid", "setresgid", "chdir", "fchdir", "unshare"];
    let rule = json!([{"names": names, "action": "SCMP_ACT_ERRNO"}]);
    let bundle = with(profile(rule)).set("/process/noNewPrivileges", true);
    let bundle = bundle.set("/process/user", json!({"uid": 1000, "gid": 1000, "additionalGids": [5]}));
    let output = bundle.run(&["id", "+", "syscall", &libc::SYS_chdir.to_string()]).ok();
    let output = output.has("Uid", "1000\t1000\t1000\t1000").has("CapEff", "0000000000000000").has("Seccomp", "2");
    output.has(&format!("syscall {}", libc::SYS_chdir), "EPERM");
}

#[test]
fn without_no_new_privileges_the_filter_is_loaded_while_privileged() {
    let bundle = with(docker_default()).set("/process/noNewPrivileges", false);
    let output = bundle.set("/process/user", json!({"uid": 1000, "gid": 1000})).run(&["id"]).ok();
    output.has("Seccomp", "2").has("NoNewPrivs", "0").has("CapEff", "0000000000000000");
}

#[test]
fn a_profile_without_rules_applies_its_default_action() {
    Bundle::new("allow-all").set("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW"})).run(&["true"]).ok();
}
