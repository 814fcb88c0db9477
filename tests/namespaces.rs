//! Namespaces: new, shared with the host, or joined by path; user mappings, clocks, names, and namespaced sysctls.

use crate::support::runtime::Call;
use crate::support::{Bundle, Output, json, kernel, payload, peer_differs, until};

/// The type in `config.json` and the name in `/proc/PID/ns`.
const KINDS: [(&str, &str); 8] = [
    ("cgroup", "cgroup"),
    ("ipc", "ipc"),
    ("mount", "mnt"),
    ("network", "net"),
    ("pid", "pid"),
    ("time", "time"),
    ("user", "user"),
    ("uts", "uts"),
];

fn inside(output: &Output, name: &str) -> String {
    output.get(&format!("ns.{name}")).unwrap_or_else(|| panic!("no namespace {name} in {output}")).to_owned()
}

/// The payload, outside of any container.
fn on_the_host(bundle: &Bundle, words: &[&str]) -> Call {
    Call::new(std::process::Command::new(payload::binary()), &bundle.path("host"))
        .env("ONGGI_TEST", &bundle.id)
        .args(words)
}

#[test]
fn a_namespace_without_a_path_is_new() {
    for (kind, name) in KINDS {
        if kind == "time" && peer_differs(&["runc<1.2"], "has no time namespaces") {
            continue;
        }
        let bundle = Bundle::new(kind);
        let bundle = if kind == "user" { bundle.user_namespace() } else { bundle.namespace(kind, None) };
        let output = bundle.run(&["ns"]).ok();
        assert_ne!(inside(&output, name), kernel::namespace("self", name), "{kind} is the host's");
    }
}

#[test]
fn an_omitted_namespace_is_the_hosts() {
    for (kind, name) in KINDS.into_iter().filter(|(kind, _)| *kind != "mount") {
        let bundle = Bundle::new(kind).without_namespace(kind);
        let bundle = if kind == "uts" { bundle.without("/hostname") } else { bundle };
        // sysfs and mqueue belong to namespaces, so the bundle must not mount them if the namespace is shared
        let bundle = bundle.without_mount("/dev/mqueue");
        let output = bundle.run(&["ns"]).ok();
        assert_eq!(inside(&output, name), kernel::namespace("self", name), "{kind} is not the host's");
    }
}

#[test]
fn a_namespace_with_a_path_is_joined() {
    // as in a pod: the second container joins the first one's namespaces
    let first = Bundle::new("pod").sees(&["pause"]);
    let pid = first.up();
    for (kind, name) in KINDS.into_iter().filter(|(kind, _)| !["mount", "user", "time"].contains(kind)) {
        let path = format!("/proc/{pid}/ns/{name}");
        let second = Bundle::new(kind).namespace(kind, Some(&path)).without_mount("/dev/mqueue");
        let second = if kind == "uts" { second.without("/hostname") } else { second };
        let output = second.run(&["ns", "+", "uname"]).ok();
        assert_eq!(inside(&output, name), kernel::namespace(pid, name), "{kind}");
    }
    let mut all = Bundle::new("all").without("/hostname");
    for (kind, name) in [("network", "net"), ("ipc", "ipc"), ("uts", "uts"), ("pid", "pid")] {
        all = all.namespace(kind, Some(&format!("/proc/{pid}/ns/{name}")));
    }
    all.run(&["ns", "+", "uname"]).ok().has("hostname", "onggi-test").has("ns.pid", &kernel::namespace(pid, "pid"));
    first.down();
}

#[test]
fn a_user_namespace_is_joined_with_its_mappings() {
    let first = Bundle::new("owner").user_namespace().sees(&["pause"]);
    let pid = first.up();
    let path = |name: &str| format!("/proc/{pid}/ns/{name}");
    let second = Bundle::new("guest").user_namespace().namespace("user", Some(&path("user")));
    let second = second.namespace("network", Some(&path("net"))).namespace("ipc", Some(&path("ipc")));
    let output = second.run(&["ns", "+", "id", "+", "cat", "/proc/self/uid_map"]).ok();
    assert_eq!(inside(&output, "user"), kernel::namespace(pid, "user"));
    assert_eq!(inside(&output, "net"), kernel::namespace(pid, "net"));
    first.down();
}

#[test]
fn a_time_namespace_is_joined() {
    if peer_differs(&["runc<1.2", "crun"], "cannot join one") {
        return;
    }
    let first = Bundle::new("clock").namespace("time", None).sees(&["pause"]);
    let pid = first.up();
    let second = Bundle::new("same-clock").namespace("time", Some(&format!("/proc/{pid}/ns/time")));
    let output = second.run(&["ns"]).ok();
    assert_eq!(inside(&output, "time"), kernel::namespace(pid, "time"));
    first.down();
}

/// A time namespace belongs to the user namespace of its creator, and a process that shares memory cannot join one. So it is
/// joined with the host's privileges, before the user namespace.
#[test]
fn a_time_namespace_is_joined_with_a_user_namespace() {
    if peer_differs(&["runc<1.2", "crun"], "cannot join one") {
        return;
    }
    for offsets in [json!({}), json!({"monotonic": {"secs": 7200}})] {
        let first = Bundle::new("moved").user_namespace().namespace("time", None);
        let first = first.set("/linux/timeOffsets", offsets).sees(&["pause"]);
        let pid = first.up();
        let mut second = Bundle::new("same-moved").user_namespace().without("/hostname");
        for (kind, name) in KINDS.into_iter().filter(|(kind, _)| *kind != "mount") {
            second = second.namespace(kind, Some(&format!("/proc/{pid}/ns/{name}")));
        }
        let second = second.without("/linux/uidMappings").without("/linux/gidMappings").without_mount("/dev/mqueue");
        let output = second.run(&["ns"]).ok();
        for (kind, name) in KINDS.into_iter().filter(|(kind, _)| *kind != "mount") {
            assert_eq!(inside(&output, name), kernel::namespace(pid, name), "{kind}");
        }
        first.down();
    }
}

#[test]
fn a_mount_namespace_is_joined() {
    let holder = Bundle::new("holder").sees(&["pause"]);
    // a private copy of the host's mounts
    let holds = on_the_host(&holder, &["unshare", "0x20000", "+", "pause"]).start();
    until("a mount namespace", || holds.stdout().contains("unshare: ok").then_some(()));
    let path = format!("/proc/{}/ns/mnt", holds.pid);
    let guest = Bundle::new("guest").namespace("mount", Some(&path)).sees(&["pause"]);
    let pid = guest.up();
    assert_eq!(kernel::namespace(pid, "mnt"), kernel::namespace(holds.pid, "mnt"));
    // other tests mount on the host at the same time
    let mut of_host = kernel::mounts_of(std::process::id().cast_signed());
    of_host.retain(|mount| mount.point.contains(&guest.id));
    assert!(of_host.is_empty(), "{of_host:?}");
    guest.down();
    holds.kill(libc::SIGKILL);
    holds.finish().code(137);
}

#[test]
fn a_path_of_the_wrong_namespace_type_is_refused() {
    if peer_differs(&["runc<1.2"], "refuses it, and may leave the cgroup") {
        return;
    }
    for (kind, other) in [("network", "ipc"), ("ipc", "uts"), ("pid", "net"), ("uts", "mnt"), ("cgroup", "net")] {
        let path = format!("/proc/self/ns/{other}");
        let bundle = Bundle::new(kind).namespace(kind, Some(&path)).without("/hostname");
        assert_ne!(bundle.run_as_is().code, 0, "{kind} took a namespace of kind {other}");
        bundle.nothing_left();
    }
}

#[test]
fn a_path_that_is_not_a_namespace_is_refused() {
    for path in ["/nosuch", "/etc/passwd", "relative/path"] {
        let bundle = Bundle::new("no-namespace").namespace("network", Some(path));
        let output = bundle.run_as_is();
        assert_ne!(output.code, 0, "{path}: {output}");
        bundle.nothing_left();
    }
}

#[test]
fn a_duplicate_namespace_is_refused() {
    let bundle = Bundle::new("twice").set("/linux/namespaces/-", json!({"type": "pid"}));
    bundle.run_as_is().fails(1, "duplicate");
    let bundle = Bundle::new("bogus").set("/linux/namespaces/-", json!({"type": "bogus"}));
    bundle.run_as_is().fails(1, "bogus");
}

#[test]
fn the_first_process_of_a_pid_namespace_is_pid_1() {
    let output = Bundle::new("pid-1").run(&["id"]).ok();
    assert_eq!(output.get("Pid"), Some("1"));
    let shared = Bundle::new("host-pid").without_namespace("pid").run(&["id"]).ok();
    assert_ne!(shared.get("Pid"), Some("1"));
}

#[test]
fn a_user_namespace_has_the_configured_mappings() {
    let map = json!([
        {"containerID": 0, "hostID": 100_000, "size": 1000},
        {"containerID": 1000, "hostID": 5000, "size": 1},
        {"containerID": 2000, "hostID": 200_000, "size": 10}
    ]);
    let bundle = Bundle::new("maps").user_namespace().set("/linux/uidMappings", map.clone());
    let bundle = bundle.set("/linux/gidMappings", map).sees(&["write", "/tmp/file", "x", "+", "id", "+", "pause"]);
    let pid = bundle.up();
    bundle.hears("Pid:");
    for file in ["uid_map", "gid_map"] {
        let text = std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
        let rows: Vec<String> = text.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(rows, ["0 100000 1000", "1000 5000 1", "2000 200000 10"], "{file}");
    }
    use std::os::unix::fs::MetadataExt;
    let file = std::fs::metadata(bundle.rootfs().join("tmp/file")).unwrap();
    assert_eq!((file.uid(), file.gid()), (100_000, 100_000), "a file made by the container's root");
    assert_eq!(kernel::status_field(pid, "Uid").unwrap(), "100000\t100000\t100000\t100000");
    bundle.down();
}

#[test]
fn inside_a_user_namespace_the_process_is_its_root() {
    let caps = ["CAP_SYS_ADMIN", "CAP_CHOWN", "CAP_KILL"];
    let output = Bundle::new("inner-root").user_namespace().caps(&caps).run(&["id", "+", "stat", "/tmp", "/dev/null"]);
    output.ok().has("Uid", "0\t0\t0\t0").has("CapEff", "0000000000200021").has("/tmp.owner", "0:0");
}

#[test]
fn process_user_is_mapped_in_a_user_namespace() {
    let bundle = Bundle::new("inner-user").user_namespace().set("/process/user", json!({"uid": 1000, "gid": 1001}));
    let bundle = bundle.sees(&["id", "+", "pause"]);
    let pid = bundle.up();
    bundle.hears("Uid:\t1000\t1000\t1000\t1000");
    assert_eq!(kernel::status_field(pid, "Uid").unwrap(), "101000\t101000\t101000\t101000");
    assert_eq!(kernel::status_field(pid, "Gid").unwrap(), "101001\t101001\t101001\t101001");
    bundle.down();
}

#[test]
fn time_offsets_move_the_clocks() {
    if peer_differs(&["runc<1.2"], "has no time namespaces") {
        return;
    }
    let bundle = Bundle::new("offsets").namespace("time", None);
    let bundle = bundle.set("/linux/timeOffsets", json!({"monotonic": {"secs": 7200}, "boottime": {"secs": 86400}}));
    let (monotonic, boottime) = clocks(&bundle);
    let output = bundle.run(&["clock", "+", "cat", "/proc/self/timens_offsets"]).ok();
    for (name, host, offset) in [("monotonic", monotonic, 7200), ("boottime", boottime, 86400)] {
        let seen: i128 = output.get(name).unwrap().parse().unwrap();
        let off = (seen - host) / 1_000_000_000 - offset;
        assert!((0..60).contains(&off), "{name} is {off} s off: {output}");
    }
}

/// The clocks outside the container, read by the payload.
fn clocks(bundle: &Bundle) -> (i128, i128) {
    let output = on_the_host(bundle, &["clock"]).finish().ok();
    let clock = |name: &str| output.get(name).unwrap().parse().unwrap();
    (clock("monotonic"), clock("boottime"))
}

#[test]
fn hostname_and_domainname_are_set() {
    let bundle = Bundle::new("names").set("/hostname", "pot").set("/domainname", "kiln");
    let output = bundle.run(&["uname"]).ok().has("hostname", "pot");
    if !peer_differs(&["runc<1.2"], "has no domain names") {
        output.has("domainname", "kiln");
    }
    assert_ne!(nix::unistd::gethostname().unwrap(), "pot", "the host's name was changed");
}

#[test]
fn hostname_requires_a_uts_namespace() {
    let bundle = Bundle::new("no-uts").without_namespace("uts").set("/hostname", "pot");
    bundle.run_as_is().fails(1, "unable to set hostname without a private UTS namespace");
    let bundle = Bundle::new("no-uts").without_namespace("uts").without("/hostname").set("/domainname", "kiln");
    if !peer_differs(&["runc<1.2"], "has no domain names") {
        bundle.run_as_is().fails(1, "unable to set domainname without a private UTS namespace");
    }
}

#[test]
fn loopback_is_up_in_a_new_network_namespace() {
    // IFF_UP | IFF_LOOPBACK | …
    let output = Bundle::new("loopback").run(&["cat", "/sys/class/net/lo/flags", "+", "ls", "/sys/class/net"]).ok();
    assert_eq!(output.stdout.lines().next(), Some("0x9"), "{output}");
}

#[test]
fn a_cgroup_namespace_is_rooted_at_the_containers_cgroup() {
    let output = Bundle::new("cgroup-root").run(&["cgroup"]).ok();
    for line in output.stdout.lines() {
        // in the pure v2 view the runtime ignores the machine's v1 hierarchies
        let (hierarchy, path) = line.split_once(':').and_then(|(n, rest)| Some((n, rest.split_once(':')?.1))).unwrap();
        let seen = crate::support::world() == crate::support::World::V1 || hierarchy == "0";
        assert!(!seen || path == "/", "{line}");
    }
}

#[test]
fn namespaced_sysctls_are_set() {
    let bundle = Bundle::new("sysctl").set(
        "/linux/sysctl",
        json!({"net.ipv4.ip_forward": "1", "net/ipv4/ip_unprivileged_port_start": "80", "kernel.shm_rmid_forced": "1",
               "kernel.msgmax": "65535", "fs.mqueue.msg_max": "20"}),
    );
    let paths = [
        "/proc/sys/net/ipv4/ip_forward",
        "/proc/sys/net/ipv4/ip_unprivileged_port_start",
        "/proc/sys/kernel/shm_rmid_forced",
        "/proc/sys/kernel/msgmax",
        "/proc/sys/fs/mqueue/msg_max",
    ];
    let output = bundle.run(&[&["cat"], &paths[..]].concat()).ok();
    assert_eq!(output.stdout, "1\n80\n1\n65535\n20\n", "{output}");
    assert_ne!(std::fs::read_to_string("/proc/sys/kernel/msgmax").unwrap(), "65535\n", "the host's was changed");
}

#[test]
fn a_sysctl_that_is_not_namespaced_is_refused() {
    let refused = |name: &str, bundle: Bundle, phrase: &str| {
        let bundle = bundle.set("/linux/sysctl", json!({name: "1"}));
        bundle.run_as_is().fails(1, phrase);
        bundle.nothing_left();
    };
    refused("kernel.foo", Bundle::new("sysctl"), "sysctl \"kernel.foo\" is not in a separate kernel namespace");
    refused("vm.swappiness", Bundle::new("sysctl"), "sysctl \"vm.swappiness\" is not in a separate kernel namespace");
    let hosts_net = Bundle::new("sysctl").without_namespace("network");
    refused("net.ipv4.ip_forward", hosts_net, "sysctl \"net.ipv4.ip_forward\" not allowed in host network namespace");
    let hosts_ipc = Bundle::new("sysctl").without_namespace("ipc").without_mount("/dev/mqueue");
    refused("kernel.msgmax", hosts_ipc, "sysctl \"kernel.msgmax\" is not allowed in the hosts ipc namespace");
}
