//! Network devices (`linux.netDevices`): moved with their addresses, renamed, and returned if the start fails.
//!
//! Each test has its own network namespace, which the runtime inherits, so the machine's network is not touched.

use crate::support::process::{without_argument, without_capability, without_second_argument};
use crate::support::runtime::Call;
use crate::support::{Bundle, Value, json, kernel, not_here, peer_differs, until};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// Runs `ip -json` in our network namespace or in a process's.
fn ip(pid: Option<i32>, words: &str) -> Value {
    let command = match pid {
        Some(pid) => {
            let mut command = Command::new("nsenter");
            command.args(["-t", &pid.to_string(), "-n", "ip"]);
            command
        }
        None => Command::new("ip"),
    };
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let said = std::env::temp_dir().join(format!("onggi-test-{}-ip-{number}", std::process::id()));
    let output = Call::new(command, &said).args(["-j"]).args(words.split(' ')).finish().ok();
    for end in ["out", "err"] {
        let _ = std::fs::remove_file(said.with_extension(end));
    }
    serde_json::from_str(&output.stdout).unwrap_or(Value::Null)
}

/// Whether this kernel has no veth (User Mode Linux without modules); if so, prints that the test did not run.
fn no_pairs() -> bool {
    static NONE: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    let none = *NONE.get_or_init(|| {
        let said = std::env::temp_dir().join(format!("onggi-test-{}-veth", std::process::id()));
        let mut command = Command::new("unshare");
        command.args(["--net", "ip", "link", "add", "dev0", "type", "veth", "peer", "name", "other0"]);
        let output = Call::new(command, &said).finish();
        for end in ["out", "err"] {
            let _ = std::fs::remove_file(said.with_extension(end));
        }
        output.code != 0
    });
    none && not_here("this kernel has no veth")
}

/// Gives this thread and its children a network namespace with a veth pair; `dev0` is up and has addresses.
fn own_network() {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
    ip(None, "link add dev0 mtu 1400 type veth peer name other0");
    ip(None, "link set other0 up");
    ip(None, "link set dev0 address 02:11:22:33:44:55 up");
    ip(None, "addr add 10.7.0.1/24 brd 10.7.0.255 dev dev0");
    ip(None, "addr add 10.7.1.1 peer 10.7.1.2/32 dev dev0");
    ip(None, "addr add fd00:7::1/64 dev dev0 nodad");
    ip(None, "addr add 169.254.7.1/16 scope link dev dev0");
    ip(None, "addr add 10.7.9.9/24 dev dev0 valid_lft 3600 preferred_lft 3600");
}

fn bundle(name: &str, devices: Value) -> Bundle {
    Bundle::new(name).set("/linux/netDevices", devices)
}

/// The devices of a namespace by name, without `lo`.
fn names(pid: Option<i32>) -> Vec<String> {
    let list = ip(pid, "link show");
    let name = |device: &Value| device["ifname"].as_str().unwrap_or_default().to_owned();
    list.as_array().unwrap().iter().map(name).filter(|name| name != "lo").collect()
}

/// The addresses of a device, without those that the kernel assigns itself.
fn addresses(pid: Option<i32>, device: &str) -> Vec<String> {
    let shown = ip(pid, &format!("addr show dev {device}"));
    let list = shown[0]["addr_info"].as_array().unwrap().iter();
    let text = |entry: &Value| {
        let peer = entry["address"].as_str().map(|peer| format!(" peer {peer}")).unwrap_or_default();
        format!("{}{peer}/{}", entry["local"].as_str().unwrap_or_default(), entry["prefixlen"])
    };
    let mut list: Vec<String> = list.map(text).filter(|text| !text.starts_with("fe80:")).collect();
    list.sort();
    list
}

fn is_up(pid: Option<i32>, device: &str) -> bool {
    let shown = ip(pid, &format!("link show dev {device}"));
    shown[0]["flags"].as_array().unwrap().iter().any(|flag| flag == "UP")
}

const LASTING: [&str; 3] = ["10.7.0.1/24", "10.7.1.1 peer 10.7.1.2/32", "fd00:7::1/64"];
const ALL: [&str; 5] = ["10.7.0.1/24", "10.7.1.1 peer 10.7.1.2/32", "10.7.9.9/24", "169.254.7.1/16", "fd00:7::1/64"];

#[test]
fn a_device_moves_with_its_permanent_global_addresses() {
    if no_pairs() {
        return;
    }
    own_network();
    assert_eq!(addresses(None, "dev0"), ALL);
    for user in [false, true] {
        let bundle = bundle("netdev", json!({"dev0": {}}));
        let bundle = if user { bundle.user_namespace() } else { bundle };
        let bundle = bundle.sees(&["pause"]);
        let pid = bundle.up();
        assert_eq!(names(None), ["other0"]);
        assert_eq!(names(Some(pid)), ["dev0"]);
        assert!(is_up(Some(pid), "dev0"));
        assert_eq!(addresses(Some(pid), "dev0"), LASTING);
        let shown = ip(Some(pid), "link show dev dev0");
        assert_eq!((shown[0]["address"].as_str(), shown[0]["mtu"].as_i64()), (Some("02:11:22:33:44:55"), Some(1400)));
        bundle.down();
        // the kernel deletes a veth pair with its namespace, asynchronously
        until("the end of the pair", || names(None).is_empty().then_some(()));
        if !user {
            ip(None, "link add dev0 mtu 1400 address 02:11:22:33:44:55 type veth peer name other0");
            for address in ["10.7.0.1/24", "10.7.1.1 peer 10.7.1.2/32", "fd00:7::1/64"] {
                ip(None, &format!("addr add {address} dev dev0"));
            }
        }
    }
}

#[test]
fn a_device_gets_the_configured_name() {
    if no_pairs() {
        return;
    }
    own_network();
    let bundle = bundle("netdev-name", json!({"dev0": {"name": "eth7"}}));
    // sysctls of the device can be set under its new name
    let bundle = bundle.set("/linux/sysctl", json!({"net.ipv4.conf.eth7.rp_filter": "2"})).sees(&["pause"]);
    let pid = bundle.up();
    assert_eq!(names(Some(pid)), ["eth7"]);
    assert_eq!(addresses(Some(pid), "eth7"), LASTING);
    let read = bundle.verb(&["exec", &bundle.id, "/payload", "read", "/proc/sys/net/ipv4/conf/eth7/rp_filter"]);
    read.ok().has("read /proc/sys/net/ipv4/conf/eth7/rp_filter", "2 \"2\\n\"");
    bundle.down();
}

#[test]
fn create_container_hooks_see_the_moved_device() {
    if no_pairs() {
        return;
    }
    own_network();
    let bundle = bundle("netdev-hook", json!({"dev0": {"name": "eth7"}}));
    let look = json!([{"path": "/bin/sh", "args": ["sh", "-c", "test -e /proc/sys/net/ipv4/conf/eth7"]}]);
    bundle.set("/hooks/createContainer", look).run(&["true"]).ok();
}

#[test]
fn a_device_moves_into_a_joined_namespace() {
    if no_pairs() {
        return;
    }
    own_network();
    let host = Bundle::new("netdev-host").sees(&["pause"]);
    let pid = host.up();
    let path = format!("/proc/{pid}/ns/net");
    let taken = bundle("netdev-taken", json!({"dev0": {"name": "lo"}})).namespace("network", Some(&path));
    taken.run_as_is().fails(1, "file exists");
    taken.nothing_left();
    assert_eq!(addresses(None, "dev0"), ALL);
    let guest = bundle("netdev-guest", json!({"dev0": {"name": "eth%d"}})).namespace("network", Some(&path));
    let guest = guest.sees(&["pause"]);
    guest.up();
    assert_eq!(names(Some(pid)), ["eth0"]);
    guest.down();
    // the namespace continues to exist, and the device stays in it
    assert_eq!(addresses(Some(pid), "eth0"), LASTING);
    host.down();
}

/// The container owns its devices: the runtime does not change them later.
#[test]
fn later_changes_to_a_device_in_the_container_are_kept() {
    if no_pairs() {
        return;
    }
    own_network();
    let host = Bundle::new("netdev-owner").sees(&["pause"]);
    let pid = host.up();
    let guest = bundle("netdev-stays", json!({"dev0": {"name": "eth7"}}));
    let guest = guest.namespace("network", Some(&format!("/proc/{pid}/ns/net"))).sees(&["pause"]);
    guest.create().ok();
    ip(Some(pid), "addr del 10.7.0.1/24 dev eth7");
    ip(Some(pid), "addr add 10.8.0.1/24 dev eth7");
    ip(Some(pid), "link set eth7 down");
    ip(Some(pid), "link set eth7 name eth8 mtu 1300");
    let found = || {
        let shown = ip(Some(pid), "link show dev eth8");
        (names(Some(pid)), is_up(Some(pid), "eth8"), shown[0]["mtu"].as_i64(), addresses(Some(pid), "eth8"))
    };
    let left = found();
    assert_eq!((left.0.as_slice(), left.1, left.2), (&["eth8".to_owned()][..], false, Some(1300)));
    guest.start().ok();
    guest.verb(&["exec", &guest.id, "/payload", "true"]).ok();
    // only if this machine supports it
    for words in [&["pause"][..], &["resume"], &["update", "--pids-limit", "99"]] {
        guest.verb(&[words, &[&guest.id]].concat());
    }
    assert_eq!(found(), left);
    guest.down();
    // and it is not returned at the end
    assert_eq!(found(), left);
    assert_eq!(names(None), ["other0"]);
    host.down();
}

#[test]
fn a_name_template_takes_the_first_free_number() {
    if no_pairs() {
        return;
    }
    own_network();
    let bundle = bundle("netdev-template", json!({"dev0": {"name": "eth%d"}, "other0": {"name": "eth%d"}}));
    let bundle = bundle.sees(&["pause"]);
    let pid = bundle.up();
    let mut found = names(Some(pid));
    found.sort();
    assert_eq!(found, ["eth0", "eth1"]);
    assert_eq!(addresses(Some(pid), "eth0"), LASTING);
    bundle.down();
}

#[test]
fn a_failed_start_returns_the_device() {
    if no_pairs() {
        return;
    }
    own_network();
    let mount = bundle("netdev-mount", json!({"dev0": {"name": "eth7"}})).bind("/nosuchsource", "/m", &["bind"]);
    mount.run_as_is().fails(1, "no such file or directory");
    let hook = bundle("netdev-fails", json!({"dev0": {}})).hook("createRuntime", &["false"], &[]);
    hook.run_as_is().fails(1, "createRuntime");
    // the second device cannot be moved
    let second = bundle("netdev-second", json!({"dev0": {}, "nosuch0": {}}));
    second.run_as_is().fails(1, "link not found for interface nosuch0 on runtime namespace: no such device");
    for bundle in [mount, hook, second] {
        bundle.nothing_left();
    }
    let mut found = names(None);
    found.sort();
    assert_eq!(found, ["dev0", "other0"]);
    assert!(is_up(None, "dev0"));
    assert_eq!(addresses(None, "dev0"), LASTING);
}

#[test]
fn devices_that_cannot_be_moved_are_refused() {
    if no_pairs() {
        return;
    }
    own_network();
    ip(None, "link add bridge0 type bridge");
    let wrong = "invalid network device name";
    let rows = [
        (json!({"nosuch0": {}}), "link not found for interface nosuch0 on runtime namespace"),
        (json!({"lo": {"name": "lo9"}}), "fail to move network device lo to network namespace"),
        (json!({"bridge0": {}}), "fail to move network device bridge0 to network namespace: invalid argument"),
        (json!({"dev/0": {}}), wrong),
        (json!({"dev0": {"name": "much-too-long-a-name"}}), wrong),
        (json!({"dev0": {"name": "a b"}}), wrong),
        (json!({"dev0": {"name": ".."}}), wrong),
        (json!({"dev0": {"name": "eth%s"}}), wrong),
        (json!({"dev0": {"name": "x0"}, "other0": {"name": "x0"}}), "a second network device with the name \"x0\""),
    ];
    for (devices, words) in rows {
        let bundle = bundle("netdev-refused", devices);
        bundle.run_as_is().fails(1, words);
        bundle.nothing_left();
    }
    let private = "unable to move network devices without a private NET namespace";
    let host = bundle("netdev-none", json!({"dev0": {}})).without_namespace("network");
    host.run_as_is().fails(1, private);
    let own = format!("/proc/{}/ns/net", nix::unistd::gettid());
    let joined = bundle("netdev-own", json!({"dev0": {}})).namespace("network", Some(&own));
    if !peer_differs(&["runc", "crun"], "judges the host's namespace in another way") {
        joined.run_as_is().fails(1, private);
    }
    assert_eq!(addresses(None, "dev0"), ALL);
}

/// `RestrictAddressFamilies=AF_UNIX` of a caller's unit (systemd.exec(5)).
#[test]
fn lo_is_up_for_a_caller_who_may_open_unix_sockets_only() {
    if peer_differs(&["runc", "crun"], "needs AF_NETLINK or AF_INET") {
        return;
    }
    for family in [libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK] {
        let bundle = Bundle::new("families").sees(&["cat", "/sys/class/net/lo/flags"]);
        let forbid = |command: &mut Command| {
            without_argument(command, libc::SYS_socket, family.unsigned_abs().into(), libc::EAFNOSUPPORT);
        };
        let output = bundle.launch("run", &[]).with(forbid).finish().ok();
        assert_eq!(output.stdout.trim(), "0x9", "{output}");
        assert_eq!(output.stderr, "");
    }
}

#[test]
fn lo_stays_down_with_a_warning_where_the_caller_may_not_bring_it_up() {
    if peer_differs(&["runc", "crun"], "fails") {
        return;
    }
    for flags in [&[][..], &["--detach"]] {
        let bundle = Bundle::new("no-net-admin").sees(&["cat", "/sys/class/net/lo/flags", "+", "ns"]);
        let output = bundle.launch("run", flags).with(|command| without_capability(command, NET_ADMIN)).finish().ok();
        let said = output.stderr.clone();
        assert!(said.contains("level=warning") && said.contains("bring lo up: operation not permitted"), "{output}");
        bundle.hears("ns.net");
        assert!(bundle.printed().starts_with("0x8\n"), "{}", bundle.printed());
        assert!(!bundle.printed().contains(&kernel::namespace(std::process::id().cast_signed(), "net")));
        if !flags.is_empty() {
            bundle.wait_for("stopped").delete().ok();
        }
    }
}

/// As under gVisor, which does not let anybody change a device. In a user namespace init brings it up, else a thread of the
/// host half.
#[test]
fn lo_stays_down_with_a_warning_where_the_kernel_refuses() {
    if peer_differs(&["runc", "crun"], "fails") {
        return;
    }
    for user in [false, true] {
        let bundle = Bundle::new("no-lo").sees(&["cat", "/sys/class/net/lo/flags"]);
        let bundle = if user { bundle.user_namespace() } else { bundle };
        let refuse = |command: &mut Command| {
            without_second_argument(command, libc::SYS_ioctl, libc::SIOCSIFFLAGS, libc::EPERM);
        };
        for verb in ["run", "create"] {
            let output = bundle.launch(verb, &[]).with(refuse).finish().ok();
            let warning = "bring lo up: operation not permitted";
            assert_eq!(output.stderr.matches(warning).count(), 1, "{verb}, user namespace: {user}: {output}");
            assert!(verb == "create" || output.stdout.starts_with("0x8\n"), "{output}");
        }
        bundle.delete().ok();
    }
}

/// `CAP_NET_ADMIN` (linux/capability.h).
const NET_ADMIN: u64 = 12;
