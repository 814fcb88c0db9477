//! Long lists in `config.json`: reading, checking, planning and printing must take time in proportion to their length. Four times
//! the members may take at most eight times the time; a quadratic loop takes sixteen. The CPU time of this thread is compared, up
//! to three times, so that other load on the machine does not matter.

use super::goldens::planned_of;
use crate::facts::Facts;
use crate::spec;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use serde_json::{Value, json};
use std::path::Path;

/// A list: its name, its length in the test, its JSON pointer, and its members by index.
type Row = (&'static str, usize, &'static str, fn(usize) -> Value);

fn list(count: usize, member: impl Fn(usize) -> Value) -> Value {
    (0..count).map(member).collect::<Vec<_>>().into()
}

fn equals(index: u32, value: usize) -> Value {
    json!({"index": index, "value": value, "op": "SCMP_CMP_EQ"})
}

/// Seccomp rules for one call, with `rule` for what differs between them.
fn rules(count: usize, rule: impl Fn(usize) -> Value) -> Value {
    let syscalls = list(count, |i| {
        let mut rule = rule(i);
        rule["names"] = json!(["read"]);
        if rule["action"].is_null() {
            rule["action"] = "SCMP_ACT_ALLOW".into();
        }
        rule
    });
    json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": syscalls})
}

/// tmpfs mounts with numbered targets.
fn mounts(count: usize, below: &str) -> Value {
    list(count, |i| json!({"destination": format!("{below}/{i}"), "type": "tmpfs", "source": "t", "options": ["ro"]}))
}

fn mapping(id: usize) -> Value {
    json!([{"containerID": 0, "hostID": id, "size": 1}])
}

const ROWS: &[Row] = &[
    ("variables", 2000, "/process/env", |n| list(n, |i| format!("V{i}=x").into())),
    ("arguments", 2000, "/process/args", |n| list(n, |i| i.to_string().into())),
    ("groups", 2000, "/process/user/additionalGids", |n| list(n, Value::from)),
    ("mounts", 2000, "/mounts", |n| mounts(n, "/m")),
    ("mounts below /dev", 4000, "/mounts", |n| {
        let mut all = mounts(n, "/dev");
        all[0]["destination"] = "/dev".into();
        all
    }),
    ("binds", 2000, "/mounts", |n| {
        list(n, |i| json!({"destination": format!("/m/{i}"), "source": "/tmp", "options": ["rbind", "ro"]}))
    }),
    ("mounts with mapped ids", 2000, "/mounts", |n| {
        list(n, |i| {
            json!({"destination": format!("/m/{i}"), "source": "/tmp", "options": ["bind"], "uidMappings": mapping(i),
                "gidMappings": mapping(i)})
        })
    }),
    ("devices", 6000, "/linux/devices", |n| {
        list(n, |i| json!({"path": format!("/dev/x{i}"), "type": "c", "major": 1, "minor": 3}))
    }),
    ("device rules", 6000, "/linux/resources/devices", |n| {
        list(n, |i| json!({"allow": i % 2 == 0, "type": "c", "major": i % 300, "minor": i, "access": "rwm"}))
    }),
    ("device rules of one verdict", 6000, "/linux/resources/devices", |n| {
        list(n, |i| json!({"allow": true, "type": "c", "major": 1, "minor": i, "access": "rwm"}))
    }),
    ("masked paths", 2000, "/linux/maskedPaths", |n| list(n, |i| format!("/sys/{i}").into())),
    ("network devices", 4000, "/linux/netDevices", |n| {
        (0..n).map(|i| (format!("a{i}"), json!({"name": format!("b{i}")}))).collect::<serde_json::Map<_, _>>().into()
    }),
    ("sysctls", 2000, "/linux/sysctl", |n| {
        (0..n).map(|i| (format!("net.a{i}"), "1".into())).collect::<serde_json::Map<_, _>>().into()
    }),
    ("hooks", 2000, "/hooks", |n| json!({"createRuntime": list(n, |_| json!({"path": "/bin/true"}))})),
    (
        "variables of a hook",
        4000,
        "/hooks",
        |n| json!({"poststart": [{"path": "/bin/true", "env": list(n, |i| format!("V{i}=x").into())}]}),
    ),
    ("names of a rule", 2000, "/linux/seccomp", |n| {
        // a repeated name must not add all conditions again
        let names = list(n, |i| ["read", "write", "ioctl"][i % 3].into());
        let rule = json!({"names": names, "action": "SCMP_ACT_ALLOW", "args": list(300, |i| equals(0, i))});
        json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule]})
    }),
    ("conditions up", 12_000, "/linux/seccomp", |n| rules(n, |i| json!({"args": [equals(0, i)]}))),
    ("conditions down", 4000, "/linux/seccomp", |n| rules(n, |i| json!({"args": [equals(0, 1 << 20 | (n - i))]}))),
    ("conditions of one order", 4000, "/linux/seccomp", |n| {
        let masked =
            |i: usize| json!({"index": 0, "value": (i + 1) << 8 | 7, "valueTwo": 5, "op": "SCMP_CMP_MASKED_EQ"});
        rules(n, |i| json!({"args": [masked(i)]}))
    }),
    ("conditions below one", 12_000, "/linux/seccomp", |n| rules(n, |i| json!({"args": [equals(0, 1), equals(1, i)]}))),
    ("verdicts", 4000, "/linux/seccomp", |n| {
        rules(n, |i| json!({"action": "SCMP_ACT_TRACE", "errnoRet": i + 1, "args": [equals(0, i)]}))
    }),
];

/// The text of `bundles/hello` with a list added.
fn config(pointer: &str, value: Value) -> Vec<u8> {
    let bundle = Path::new(env!("CARGO_MANIFEST_DIR")).join("bundles/hello/config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(bundle).unwrap()).unwrap();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    if parent == "/linux/resources" {
        config["linux"]["resources"] = json!({});
    }
    config.pointer_mut(parent).unwrap()[key] = value;
    serde_json::to_vec(&config).unwrap()
}

/// The CPU time of this thread, in microseconds.
fn spent() -> i64 {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).unwrap();
    (usage.user_time() + usage.system_time()).num_microseconds()
}

/// The time for a configuration, in microseconds. (A seccomp filter that is too long is refused only once it is compiled.)
fn cost(text: &[u8]) -> i64 {
    let before = spent();
    let _guess = spec::looks_for_network(text);
    let loaded = spec::config(text.to_vec(), Path::new("config.json")).unwrap();
    match planned_of(loaded, &Facts { root: true, namespaces_of_trees: true, ..Facts::default() }, false) {
        Ok(text) => assert!(!text.is_empty()),
        Err(error) => {
            let text = error.to_string();
            assert!(text.contains("instructions, the kernel takes 4096") || text.contains("too many rules"), "{text}");
        }
    }
    spent() - before
}

/// Returns a description if three measurements agree that the time grows too fast.
fn grows(few: impl Fn() -> i64, many: impl Fn() -> i64) -> Option<String> {
    let mut times = String::new();
    for _ in 0..3 {
        let (few, many) = (few().max(2000), many());
        if many <= 8 * few {
            return None;
        }
        times = format!("{few} µs, four times as long {many} µs");
    }
    Some(times)
}

#[test]
fn long_lists_cost_time_in_proportion() {
    let grown = ROWS.iter().filter_map(|(name, count, pointer, members)| {
        let (few, many) = (config(pointer, members(*count)), config(pointer, members(4 * count)));
        grows(|| cost(&few), || cost(&many)).map(|times| format!("{count} {name}: {times}"))
    });
    let grown: Vec<String> = grown.collect();
    assert!(grown.is_empty(), "{grown:#?}");
}

/// Masked paths together with mounts: neither list may be searched for each member of the other.
#[test]
fn two_long_lists_cost_time_in_proportion() {
    let both = |count: usize| {
        let mut config: Value = serde_json::from_slice(&config("/mounts", mounts(count, "/m"))).unwrap();
        config["linux"]["maskedPaths"] = list(count, |i| format!("/sys/{i}").into());
        config["linux"]["readonlyPaths"] = list(count, |i| format!("/proc/{i}").into());
        serde_json::to_vec(&config).unwrap()
    };
    let (few, many) = (both(2000), both(8000));
    assert_eq!(grows(|| cost(&few), || cost(&many)), None);
}

/// `looks_for_network` on unparsed text, which may be anything.
#[test]
fn the_hint_costs_time_in_proportion() {
    for (front, part) in [
        ("", r#""type":"network" "#),
        ("", r#"{"type":"network","#),
        (r#"{"path":1,"#, r#""type":"network","#),
        ("{", r#""type":"#),
    ] {
        let text = |count: usize| format!("{front}{}", part.repeat(count)).into_bytes();
        let cost = |text: &[u8]| {
            let before = spent();
            std::hint::black_box(spec::looks_for_network(std::hint::black_box(text)));
            spent() - before
        };
        let (few, many) = (text(5000), text(20_000));
        assert_eq!(grows(|| cost(&few), || cost(&many)), None, "{front:?} {part:?}");
    }
}
