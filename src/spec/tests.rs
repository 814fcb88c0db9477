//! Documents by table: each has one mistake, and the expected message. Texts were compared with runc's.

use super::*;
use serde_json::{Value, json};

/// The template with changes; `null` removes the value.
fn changed(changes: &[(&str, Value)]) -> Value {
    let mut document: Value = serde_json::from_str(&template(None, true)).unwrap();
    for (pointer, value) in changes {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        match (document.pointer_mut(parent).unwrap_or_else(|| panic!("{pointer}")), value) {
            (Value::Object(members), Value::Null) => drop(members.remove(key)),
            (Value::Object(members), value) => drop(members.insert(key.to_owned(), value.clone())),
            (Value::Array(members), value) if key == "-" => members.push(value.clone()),
            (Value::Array(members), Value::Null) => drop(members.remove(key.parse().unwrap())),
            (Value::Array(members), value) => members[key.parse::<usize>().unwrap()] = value.clone(),
            (other, _) => panic!("{pointer}: {other}"),
        }
    }
    document
}

/// The notes of a document, or its error.
fn verdict(document: &Value) -> std::result::Result<Vec<String>, String> {
    checked(document).map(|(_, notes)| notes).map_err(|error| error.to_string())
}

fn checked(document: &Value) -> Result<(Checked<Config>, Vec<String>)> {
    let bytes = serde_json::to_vec(document).unwrap();
    let (spec, mut notes) = parse(&bytes, has_doubt, fixup::config)?;
    let config = check(Loaded { spec, bytes, notes: Vec::new() }, Path::new("/bundle"), true)?;
    notes.extend_from_slice(&config.notes);
    Ok((config, notes))
}

// check: table: one row for each mistake
#[test]
fn a_mistake_is_named() {
    let rows = [
        ("/root", json!(null), "root: must be specified"),
        ("/process", json!(null), "process property must not be empty"),
        ("/process/cwd", json!(null), "Cwd property must not be empty"),
        ("/process/cwd", json!(""), "Cwd property must not be empty"),
        ("/process/cwd", json!("tmp"), "Cwd must be an absolute path"),
        ("/process/args", json!(null), "args must not be empty"),
        ("/process/args", json!([]), "args must not be empty"),
        ("/process/args", json!(["a\0b"]), "process.args: \"a\\0b\" holds a zero byte"),
        ("/process/args", json!("sh"), "process.args: invalid type: string \"sh\", expected a sequence"),
        ("/process/args", json!(["a", 1]), "process.args[1]: invalid type: integer `1`, expected a string"),
        ("/process/rlimits/0/type", json!("RLIMIT_BOGUS"), "wrong rlimit value: RLIMIT_BOGUS"),
        (
            "/process/rlimits/-",
            json!({"type": "RLIMIT_NOFILE", "hard": 1, "soft": 1}),
            "process.rlimits[1].type: duplicate RLIMIT_NOFILE",
        ),
        (
            "/process/user/uid",
            json!(u32::MAX),
            "process.user.uid: 4294967295 is not a valid id (it is the kernel's -1)",
        ),
        (
            "/process/user/gid",
            json!(u32::MAX),
            "process.user.gid: 4294967295 is not a valid id (it is the kernel's -1)",
        ),
        (
            "/process/user/additionalGids",
            json!([1, u32::MAX]),
            "process.user.additionalGids: 4294967295 is not a valid id (it is the kernel's -1)",
        ),
        ("/process/rlimits/0/soft", json!(2000), "process.rlimits[0].soft: 2000 is above the hard limit 1024"),
        ("/linux/namespaces/0/type", json!("bogus"), "namespace {\"bogus\" \"\"} does not exist"),
        ("/linux/namespaces/-", json!({"type": "pid"}), "malformed spec file: duplicated ns {\"pid\" \"\"}"),
        (
            "/linux/namespaces/-",
            json!({"type": "uts", "path": "/x"}),
            "malformed spec file: duplicated ns {\"uts\" \"/x\"}",
        ),
        ("/linux/namespaces/1/path", json!("ns/x"), "linux.namespaces[1].path: must be an absolute path"),
        ("/linux/namespaces/3", json!(null), "unable to set hostname without a private UTS namespace"),
        ("/linux", json!(null), "unable to set hostname without a private UTS namespace"),
        ("/linux/namespaces/4", json!(null), "unable to restrict sys entries without a private MNT namespace"),
        (
            "/linux/uidMappings",
            json!([{"containerID": 0, "hostID": 0, "size": 1}]),
            "User namespace mappings specified, but USER namespace isn't enabled in the config",
        ),
        ("/linux/namespaces/-", json!({"type": "user"}), "User namespaces enabled, but no uid mappings found"),
        ("/linux/timeOffsets", json!({"monotonic": {"secs": 5}}), "linux.timeOffsets: needs a time namespace"),
        ("/hooks", json!({"prestart": [{"path": "x"}]}), "hooks.prestart[0].path: \"x\" must be an absolute path"),
        (
            "/hooks",
            json!({"poststop": [{"path": "/x"}, {"path": ""}]}),
            "hooks.poststop[1].path: \"\" must be an absolute path",
        ),
        (
            "/hooks",
            json!({"createRuntime": [{"path": "/x", "timeout": 0}]}),
            "hooks.createRuntime[0].timeout: must be greater than zero",
        ),
        ("/hooks", json!({"poststart": [{"args": ["x"]}]}), "hooks.poststart[0]: missing field `path`"),
        (
            "/linux/resources",
            json!({"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "weight": 10}, {"major": 8, "minor": 1}]}}),
            "linux.resources.blockIO.weightDevice[1]: needs weight or leafWeight, or both",
        ),
        ("/root/path", json!(""), "root.path: must not be empty"),
        (
            "/mounts/1/destination",
            json!("/.."),
            "mounts[1].destination: mounting over / is not possible: the root is what root.path says",
        ),
        (
            "/mounts/1/destination",
            json!("/proc/../proc/self"),
            "mounts[1].destination: \"/proc/self\" cannot be mounted because it is inside /proc",
        ),
        (
            "/mounts/1/uidMappings",
            json!([{"containerID": 0, "hostID": 0, "size": 0}]),
            "mounts[1].uidMappings[0].size: a mapping must have at least one id",
        ),
        ("/linux/rootfsPropagation", json!("ro"), "linux.rootfsPropagation: rootfsPropagation=\"ro\" is not supported"),
        ("/annotations", json!({"": "x"}), "annotations: a key must not be empty"),
        ("/mounts/1/destination", json!(""), "mounts[1].destination: must not be empty"),
        ("/linux/sysctl", json!({"kernel.foo": "1"}), "sysctl \"kernel.foo\" is not in a separate kernel namespace"),
        ("/linux/sysctl", json!({"user.x": "1"}), "sysctl \"user.x\" is not in a separate kernel namespace"),
        (
            "/linux/sysctl",
            json!({"kernel.hostname": "x"}),
            "sysctl \"kernel.hostname\" is not allowed as it conflicts with the OCI \"hostname\" field",
        ),
        (
            "/linux/sysctl",
            json!({"net/../kernel/x": "1"}),
            "linux.sysctl.net/../kernel/x: invalid or duplicate sysctl key",
        ),
        ("/process/user", json!(3), "process.user: invalid type: integer `3`, expected struct User"),
        ("/process/user", json!({"uid": -1}), "process.user.uid: invalid value: integer `-1`, expected u32"),
        ("/process/terminal", json!({}), "process.terminal: invalid type: map, expected a boolean"),
        ("/mounts/2", json!({"source": "x"}), "mounts[2]: missing field `destination`"),
        (
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["x"], "action": "FOO"}]}),
            "linux.seccomp.syscalls[0].action: unknown variant `FOO`, expected one of `SCMP_ACT_KILL`, \
             `SCMP_ACT_KILL_THREAD`, `SCMP_ACT_KILL_PROCESS`, `SCMP_ACT_TRAP`, `SCMP_ACT_ERRNO`, `SCMP_ACT_NOTIFY`, \
             `SCMP_ACT_TRACE`, `SCMP_ACT_LOG`, `SCMP_ACT_ALLOW`",
        ),
    ];
    for (pointer, value, expected) in rows {
        let error =
            checked(&changed(&[(pointer, value.clone())])).err().unwrap_or_else(|| panic!("{pointer}: {value}"));
        assert_eq!(error.to_string(), expected, "{pointer} = {value}");
        // as part of the text, or, with runc's texts, for those who read errors as JSON
        let path = error.facts().iter().find(|(key, _)| *key == "path").map(|(_, path)| path.as_str());
        let section = pointer[1..].split('/').next().unwrap_or_default();
        // what is taken out of `linux` may be missed by the host name
        let named = path.is_some_and(|path| path.starts_with(section) || path == "hostname");
        assert!(named, "{pointer} = {value}: {path:?}");
    }
}

#[test]
fn two_changes_make_a_mistake() {
    let rows: [(&[(&str, Value)], &str); 8] = [
        (
            &[("/hostname", json!(null)), ("/domainname", json!("x")), ("/linux/namespaces/3", json!(null))],
            "unable to set domainname without a private UTS namespace",
        ),
        (
            &[("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"})), ("/linux/namespaces/1", json!(null))],
            "sysctl \"net.ipv4.ip_forward\" not allowed in host network namespace",
        ),
        (
            &[("/linux/sysctl", json!({"fs/mqueue/msg_max": "1"})), ("/linux/namespaces/2", json!(null))],
            "sysctl \"fs.mqueue.msg_max\" is not allowed in the hosts ipc namespace",
        ),
        (
            &[
                ("/linux/timeOffsets", json!({"boottime": {"secs": 5}})),
                ("/linux/namespaces/-", json!({"type": "time", "path": "/proc/1/ns/time"})),
            ],
            "linux.timeOffsets: not possible in a time namespace that is joined",
        ),
        (
            &[
                ("/linux/timeOffsets", json!({"boottime": {"nanosecs": 1_000_000_000}})),
                ("/linux/namespaces/-", json!({"type": "time"})),
            ],
            "linux.timeOffsets.boottime.nanosecs: must be less than a second",
        ),
        (
            &[
                ("/linux/namespaces/-", json!({"type": "user"})),
                ("/linux/uidMappings", json!([{"containerID": 1, "hostID": 0, "size": 9}])),
                ("/linux/gidMappings", json!([{"containerID": 0, "hostID": 0, "size": 1}])),
            ],
            "linux.uidMappings: user namespaces enabled, but no mapping found for uid 0",
        ),
        (
            &[
                ("/linux/namespaces/-", json!({"type": "user"})),
                ("/linux/uidMappings", json!([{"containerID": 0, "hostID": 0, "size": 1}])),
            ],
            "User namespaces enabled, but no gid mappings found",
        ),
        (
            &[("/linux/timeOffsets", json!({"x": {}})), ("/linux/namespaces/-", json!({"type": "time"}))],
            "linux.timeOffsets.x: is not monotonic or boottime",
        ),
    ];
    for (changes, expected) in rows {
        assert_eq!(verdict(&changed(changes)), Err(expected.to_owned()), "{changes:?}");
    }
}

#[test]
fn what_runc_lets_pass_passes() {
    let user = json!({"type": "user"});
    let maps = json!([{"containerID": 0, "hostID": 0, "size": 1}]);
    let rows: [&[(&str, Value)]; 13] = [
        &[],
        &[("/bogus", json!({"a": 1}))],
        &[("/ociVersion", json!("9.9.9"))],
        &[("/process/user", json!(null))],
        &[("/process/capabilities", json!(null))],
        &[("/windows", json!("nonsense")), ("/vm", json!(3))],
        &[("/hostname", json!("")), ("/linux/namespaces/3", json!(null))],
        &[("/linux/namespaces/1/path", json!("/proc/1/ns/net"))],
        &[("/linux/namespaces/1/path", json!(""))],
        &[("/linux/namespaces/-", user), ("/linux/uidMappings", maps.clone()), ("/linux/gidMappings", maps)],
        &[("/linux/namespaces/-", json!({"type": "user", "path": "/proc/1/ns/user"}))],
        &[("/linux/sysctl", json!({"net.ipv4.conf.eth0/1.x": "1", "kernel/sem": "1", "kernel.domainname": "d"}))],
        &[(
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["x"], "action": "SCMP_ACT_LOG", "args": [{"op": "SCMP_CMP_EQ"}]}]}),
        )],
    ];
    for changes in rows {
        assert_eq!(verdict(&changed(changes)), Ok(vec![]), "{changes:?}");
    }
}

#[test]
fn nulls_are_absent_as_go_writes_them() {
    let mut document = changed(&[]);
    for pointer in
        ["/process/env", "/process/user", "/mounts/0/options", "/linux/maskedPaths", "/linux/namespaces/0/path"]
    {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        document.pointer_mut(parent).unwrap()[key] = Value::Null;
    }
    assert_eq!(verdict(&document), Ok(vec![]));
}

#[test]
fn limits_that_the_types_cannot_hold() {
    let rows = [
        (json!({"pids": {}}), json!({})),
        (json!({"pids": {"limit": null}}), json!({})),
        (json!({"pids": {"limit": 0}}), json!({"pids": {"limit": 0}})),
        (json!({"pids": {"limit": -1}}), json!({"pids": {"limit": -1}})),
        (
            json!({"hugepageLimits": [{"pageSize": "2MB", "limit": u64::MAX}, {"pageSize": "1GB", "limit": 1_u64 << 62}]}),
            json!({"hugepageLimits": [{"pageSize": "2MB", "limit": -1}, {"pageSize": "1GB", "limit": 1_u64 << 62}]}),
        ),
        (
            json!({"devices": [{"allow": true, "type": "", "access": "r"}]}),
            json!({"devices": [{"allow": true, "access": "r"}]}),
        ),
    ];
    for (limits, means) in rows {
        let alone = resources(&serde_json::to_vec(&limits).unwrap()).unwrap();
        assert_eq!(serde_json::to_value(&alone).unwrap(), means, "{limits}");
        let whole = changed(&[("/linux/resources", limits.clone())]);
        let spec = config(serde_json::to_vec(&whole).unwrap(), Path::new("")).unwrap().spec;
        assert_eq!(spec.linux().as_ref().unwrap().resources().as_ref(), Some(&alone), "{limits}");
    }
}

#[test]
fn unknown_capabilities_are_noted_and_left_out() {
    let more = json!(["CAP_KILL", "CAP_ZZZ", "CAP_BOGUS"]);
    let document =
        changed(&[("/process/capabilities/bounding", more.clone()), ("/process/capabilities/ambient", more)]);
    let bytes = serde_json::to_vec(&document).unwrap();
    let (spec, notes) = parse::<Spec>(&bytes, has_doubt, fixup::config).unwrap();
    assert_eq!(notes, ["ignoring unknown or unavailable capabilities: [CAP_BOGUS CAP_ZZZ]"]);
    let capabilities = spec.process().as_ref().and_then(|process| process.capabilities().clone()).unwrap();
    assert_eq!(capabilities.bounding().as_ref().map(|set| set.len()), Some(1));

    let process = serde_json::to_vec(&document["process"]).unwrap();
    let (process, notes) = parse::<Process>(&process, |_| false, fixup::process).unwrap();
    assert_eq!(notes.len(), 1);
    assert!(check_process(*process).is_ok());
}

#[test]
fn a_process_may_be_absent_until_start() {
    let bytes = serde_json::to_vec(&changed(&[("/process", Value::Null)])).unwrap();
    let check = |for_start| check(config(bytes.clone(), Path::new("")).unwrap(), Path::new("/bundle"), for_start);
    assert!(check(false).is_ok());
    assert!(check(true).is_err());
}

#[test]
fn files_that_are_missing_or_no_json() {
    let load = |path: &Path| read(path).and_then(|bytes| config(bytes, path));
    let text = |path: &str| load(Path::new(path)).err().map(|error| error.to_string());
    assert_eq!(text("/nonexistent/config.json").as_deref(), Some("JSON specification file config.json not found"));
    let path = std::env::temp_dir().join(format!("onggi-spec-{}", std::process::id()));
    std::fs::write(&path, "{\"ociVersion\":\n").unwrap();
    let said = text(&path.to_string_lossy());
    std::fs::remove_file(&path).unwrap();
    let expected = format!("{}: EOF while parsing a value at line 2 column 0", path.display());
    assert_eq!(said, Some(expected));
}

/// The whole text, as `runc spec` of runc 1.3.6 writes it on cgroup v2, but for the host name and the version.
#[test]
fn the_template_is_runcs() {
    let value: Value = serde_json::from_str(&template(None, true)).unwrap();
    assert_eq!(value["linux"]["namespaces"].as_array().map(Vec::len), Some(6));
    assert_eq!(value["mounts"][2]["options"].as_array().map(Vec::len), Some(6));
    let rootless: Value = serde_json::from_str(&template(Some((1000, 100)), false)).unwrap();
    assert_eq!(rootless["linux"]["resources"], Value::Null);
    assert_eq!(rootless["linux"]["uidMappings"][0], json!({"containerID": 0, "hostID": 1000, "size": 1}));
    assert_eq!(rootless["linux"]["gidMappings"][0]["hostID"], json!(100));
    let types: Vec<_> =
        rootless["linux"]["namespaces"].as_array().unwrap().iter().map(|ns| ns["type"].clone()).collect();
    assert_eq!(types, ["pid", "ipc", "uts", "mount", "user"]);
    assert_eq!(rootless["mounts"][5]["source"], json!("/sys"));
}

/// A document with something at every level.
fn full() -> Value {
    changed(&[
        ("/hooks", json!({"prestart": [{"path": "/x"}], "poststop": [{"path": "/x"}]})),
        ("/annotations", json!({"a": "b"})),
        ("/process/consoleSize", json!({"height": 1, "width": 1})),
        ("/process/ioPriority", json!({"class": "IOPRIO_CLASS_IDLE", "priority": 1})),
        ("/process/scheduler", json!({"policy": "SCHED_BATCH", "flags": ["SCHED_RESET_ON_FORK"]})),
        ("/process/execCPUAffinity", json!({"initial": "0"})),
        ("/linux/devices", json!([{"path": "/dev/x", "type": "c", "major": 1, "minor": 3}])),
        ("/linux/sysctl", json!({"kernel.domainname": "d"})),
        ("/linux/personality", json!({"domain": "LINUX32"})),
        ("/linux/memoryPolicy", json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]})),
        (
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"], "flags": ["SECCOMP_FILTER_FLAG_LOG"],
                "syscalls": [{"names": ["x"], "action": "SCMP_ACT_LOG", "args": [{"index": 0, "value": 0, "op": "SCMP_CMP_EQ"}]}]}),
        ),
        (
            "/linux/resources",
            json!({"devices": [{"allow": false, "type": "c", "access": "r"}], "memory": {"limit": 1}, "cpu": {"shares": 2},
                "pids": {"limit": 3}, "hugepageLimits": [{"pageSize": "2MB", "limit": 1}], "rdma": {"x": {"hcaHandles": 1}},
                "network": {"classID": 1, "priorities": [{"name": "lo", "priority": 1}]}, "unified": {"a": "b"},
                "blockIO": {"weight": 10, "weightDevice": [{"major": 8, "minor": 0, "weight": 10}],
                    "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1}]}}),
        ),
    ])
}

/// The places of a document's values.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(members) => members.iter().for_each(|(key, value)| places(value, &format!("{at}/{key}"), found)),
        Value::Array(members) => {
            members.iter().enumerate().for_each(|(key, value)| places(value, &format!("{at}/{key}"), found));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn a_list_is_no_object_and_an_object_is_no_word_at_any_level() {
    let full = full();
    assert_eq!(verdict(&full), Ok(vec![]));
    let mut found = Vec::new();
    places(&full, "", &mut found);
    let mut tried = 0;
    for place in found {
        let mut document = full.clone();
        let value = document.pointer_mut(&place).unwrap();
        *value = match &value {
            Value::Object(_) => json!([]),
            Value::String(word) => json!({ (word.as_str()): null }),
            Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_) => continue,
        };
        tried += 1;
        let said = verdict(&document).expect_err(&place);
        let named = place.split('/').filter(|key| key.parse::<usize>().is_err()).all(|key| said.contains(key));
        assert!(named && said.contains("invalid type: "), "{place}: {said}");
    }
    assert!(tried > 60, "{tried}");
}

#[test]
fn processes_and_resources_are_as_strict() {
    let process = |text: &str| parse::<Process>(text.as_bytes(), no_class, fixup::process).map_err(|e| e.to_string());
    assert!(process(r#"{"cwd": "/", "args": ["x"], "user": {"uid": 0, "gid": 0}}"#).is_ok());
    for (text, expected) in [
        ("[]", "invalid type: sequence, expected struct Process"),
        (r#"{"cwd": "/", "user": [0, 0]}"#, "user: invalid type: sequence, expected struct User"),
        (
            r#"{"cwd": "/", "capabilities": [], "user": {}}"#,
            "capabilities: invalid type: sequence, expected struct LinuxCapabilities",
        ),
        (r#"{"cwd": "/", "user": {}, "ioPriority": {"priority": 1}}"#, "invalid ioPriority.Class: \"\""),
    ] {
        assert_eq!(process(text).map(|_| ()), Err(expected.to_owned()), "{text}");
    }
    for (text, expected) in [
        ("[]", "invalid type: sequence, expected struct LinuxResources"),
        (r#"{"memory": [5]}"#, "memory: invalid type: sequence, expected struct LinuxMemory"),
        (r#"{"pids": []}"#, "pids: invalid type: sequence, expected struct LinuxPids"),
    ] {
        assert_eq!(
            resources(text.as_bytes()).map_err(|e| e.to_string()).map(|_| ()),
            Err(expected.to_owned()),
            "{text}"
        );
    }
}

/// What the spec says must be there (REQUIRED), taken out: a mistake where nothing would have a meaning; else, as for runc,
/// nothing, zero or false.
#[test]
fn what_must_be_there_is_missed() {
    let without = |place: &str| {
        let mut document = full();
        let (parent, key) = place.rsplit_once('/').unwrap();
        document.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(key).expect(place);
        verdict(&document)
    };
    for (place, expected) in [
        ("/mounts/0/destination", "mounts[0]: missing field `destination`"),
        ("/process/cwd", "Cwd property must not be empty"),
        ("/process/rlimits/0/type", "wrong rlimit value: "),
        ("/process/rlimits/0/hard", "process.rlimits[0].soft: 1024 is above the hard limit 0"),
        ("/process/scheduler/policy", "process.scheduler: missing field `policy`"),
        ("/process/ioPriority/class", "invalid ioPriority.Class: \"\""),
        ("/hooks/prestart/0/path", "hooks.prestart[0]: missing field `path`"),
        ("/linux/namespaces/0/type", "namespace {\"\" \"\"} does not exist"),
        ("/linux/devices/0/type", "linux.devices[0]: missing field `type`"),
        ("/linux/memoryPolicy/mode", "linux.memoryPolicy: missing field `mode`"),
        ("/linux/personality/domain", "linux.personality: missing field `domain`"),
        ("/linux/seccomp/defaultAction", "linux.seccomp: missing field `defaultAction`"),
        ("/linux/seccomp/syscalls/0/names", "linux.seccomp.syscalls[0]: missing field `names`"),
        ("/linux/seccomp/syscalls/0/action", "linux.seccomp.syscalls[0]: missing field `action`"),
        ("/linux/seccomp/syscalls/0/args/0/op", "linux.seccomp.syscalls[0].args[0]: missing field `op`"),
    ] {
        assert_eq!(without(place), Err(expected.to_owned()), "{place}");
    }
    for place in [
        "/process/consoleSize/height",
        "/process/consoleSize/width",
        "/process/rlimits/0/soft",
        "/process/ioPriority/priority",
        "/process/user/uid",
        "/process/user/gid",
        "/linux/devices/0/major",
        "/linux/devices/0/minor",
        "/linux/resources/devices/0/allow",
        "/linux/resources/blockIO/weightDevice/0/major",
        "/linux/resources/blockIO/weightDevice/0/minor",
        "/linux/resources/blockIO/throttleReadBpsDevice/0/rate",
        "/linux/resources/hugepageLimits/0/limit",
        "/linux/resources/network/priorities/0/priority",
        "/linux/resources/pids/limit",
        "/linux/seccomp/syscalls/0/args/0/index",
        "/linux/seccomp/syscalls/0/args/0/value",
    ] {
        assert_eq!(without(place), Ok(vec![]), "{place}");
    }
}
