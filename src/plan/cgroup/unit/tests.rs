//! Paths, properties and their order.

use super::super::devices::for_systemd;
use super::super::{Driver, Tree};
use super::*;
use std::collections::HashMap;

fn v2() -> CgroupFacts {
    CgroupFacts::Unified(Tree { root: "/sys/fs/cgroup".into(), ..Tree::default() })
}

fn v1() -> CgroupFacts {
    let pids = super::super::Hierarchy { controllers: vec!["pids".to_owned()], ..Default::default() };
    CgroupFacts::Legacy { hierarchies: vec![pids], unified: None }
}

fn resources(json: &str) -> LinuxResources {
    serde_json::from_str(json).unwrap()
}

/// `Name=value`, and `Name?=value` if it is optional.
fn shown(properties: &[Property]) -> String {
    let one = |p: &Property| match p.optional {
        true => p.to_string().replacen('=', "?=", 1),
        false => p.to_string(),
    };
    properties.iter().map(one).collect::<Vec<_>>().join(", ")
}

#[test]
fn places() {
    let table = [
        // (cgroupsPath, rootless, unit, below)
        (None, false, "onggi-ID.scope", "system.slice/onggi-ID.scope"),
        (None, true, "onggi-ID.scope", "user.slice/onggi-ID.scope"),
        (Some("machine.slice:libpod:abc"), false, "libpod-abc.scope", "machine.slice/libpod-abc.scope"),
        (Some(":libpod:abc"), true, "libpod-abc.scope", "user.slice/libpod-abc.scope"),
        (
            Some("kubepods-burstable-pod1.slice:cri:x"),
            false,
            "cri-x.scope",
            "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-x.scope",
        ),
        (Some("-.slice:a:b"), false, "a-b.scope", "a-b.scope"),
        (Some("system.slice::pod.slice"), false, "pod.slice", "system.slice/pod.slice"),
    ];
    for (path, rootless, name, below) in table {
        let wanted = CgroupRequest {
            cgroups_path: path.map(Path::new),
            id: "ID",
            driver: Driver::Systemd,
            rootless: if rootless { Rootless::Yes } else { Rootless::No },
            ..CgroupRequest::default()
        };
        let unit = plan(&wanted, &v2(), &Allowed::Everything, &LinuxResources::default()).unwrap();
        assert_eq!((unit.name.as_str(), unit.below.as_path(), unit.user), (name, Path::new(below), rootless));
    }
    for path in [
        "/a/b",
        "a:b",
        "a.slice:b:c:d",
        "a:b:c",
        "a/b.slice:c:d",
        "-a.slice:c:d",
        "a--b.slice:c:d",
        "a-.slice:c:d",
        ":/a:b",
        ":a:b/c",
        ":a:../b.slice",
    ] {
        let wanted = CgroupRequest { cgroups_path: Some(Path::new(path)), id: "ID", ..CgroupRequest::default() };
        let error = plan(&wanted, &v2(), &Allowed::Everything, &LinuxResources::default()).unwrap_err().to_string();
        assert!(error.starts_with("linux.cgroupsPath: "), "{error}");
    }
    let rootless = CgroupRequest { rootless: Rootless::Yes, id: "ID", ..CgroupRequest::default() };
    let error = plan(&rootless, &v1(), &Allowed::Everything, &LinuxResources::default()).unwrap_err().to_string();
    assert_eq!(error, "cannot use rootless systemd cgroups manager on cgroup v1");
}

#[test]
fn a_scope() {
    let annotations = HashMap::from([
        ("org.systemd.property.TimeoutStopSec".to_owned(), "5".to_owned()),
        ("other".to_owned(), "x".to_owned()),
    ]);
    let resources = resources(r#"{"memory":{"limit":5},"unified":{"memory.oom.group":"1"}}"#);
    let wanted = CgroupRequest {
        cgroups_path: Some(Path::new("machine.slice:p:n")),
        annotations: Some(&annotations),
        ..CgroupRequest::default()
    };
    let list: Vec<_> = serde_json::from_str(r#"[{"allow":false,"access":"rwm"}]"#).unwrap();
    let unit = plan(&wanted, &v2(), &for_systemd(&list).unwrap(), &resources).unwrap();
    assert_eq!(
        shown(&unit.properties),
        "Description=libcontainer container n, Slice=machine.slice, Delegate=true, CollectMode=inactive-or-failed, \
         MemoryAccounting=true, CPUAccounting=true, TasksAccounting=true, IOAccounting=true, DefaultDependencies=false, \
         DevicePolicy=strict, DeviceAllow=block-*:m char-*:m /dev/char/1:3:rwm /dev/char/1:5:rwm /dev/char/1:7:rwm \
         /dev/char/1:8:rwm /dev/char/1:9:rwm /dev/char/5:0:rwm /dev/char/5:2:rwm /dev/char/10:200:rwm char-136:rwm, \
         MemoryMax=5, OOMPolicy=kill, TimeoutStopUSec=5000000"
    );
    let slice = CgroupRequest { cgroups_path: Some(Path::new("a.slice:p:a-b.slice")), ..CgroupRequest::default() };
    let unit = plan(&slice, &v1(), &Allowed::Everything, &LinuxResources::default()).unwrap();
    assert_eq!(
        shown(&unit.properties),
        "Description=libcontainer container a-b.slice, Wants=[\"a.slice\"], MemoryAccounting=true, CPUAccounting=true, \
         TasksAccounting=true, BlockIOAccounting=true, DefaultDependencies=false, DevicePolicy=auto, DeviceAllow="
    );
}

#[test]
fn what_systemd_is_told_of_devices() {
    let of = |json: &str| for_systemd(&serde_json::from_str::<Vec<_>>(json).unwrap()).unwrap();
    assert_eq!(of(r#"[{"allow":true,"access":"rwm"}]"#), Allowed::Everything);
    let Allowed::These(list) = of(r#"[{"allow":true,"type":"b","major":8,"access":"r"}]"#) else { panic!() };
    assert!(list.contains(&("block-8".to_owned(), "r".to_owned())), "{list:?}");
    for json in [
        // everything except one device
        r#"[{"allow":true,"access":"rwm"},{"allow":false,"type":"b","major":8,"minor":0,"access":"w"}]"#,
        // one minor number of every major
        r#"[{"allow":true,"type":"b","minor":8,"access":"r"}]"#,
        // a hole
        r#"[{"allow":true,"type":"b","access":"rw"},{"allow":false,"type":"b","major":8,"minor":0,"access":"w"}]"#,
    ] {
        assert_eq!(of(json), Allowed::Inexpressible, "{json}");
    }
    assert_eq!(shown(&devices(&Allowed::Inexpressible, true)), "DevicePolicy=auto");
    assert_eq!(shown(&devices(&Allowed::Inexpressible, false)), "DevicePolicy=strict, DeviceAllow=");
}

#[test]
fn limits_on_v2() {
    let table = [
        (r#"{"memory":{"limit":-1}}"#, "MemoryMax=infinity, MemorySwapMax=infinity"),
        (r#"{"memory":{"limit":100,"swap":300,"reservation":50}}"#, "MemoryMax=100, MemoryLow=50, MemorySwapMax=200"),
        (r#"{"memory":{"limit":100,"swap":100}}"#, "MemoryMax=100, MemorySwapMax=0"),
        (r#"{"cpu":{"shares":1024}}"#, "CPUWeight=100"),
        (r#"{"cpu":{"shares":1024,"idle":1}}"#, "CPUWeight?=0"),
        (r#"{"cpu":{"shares":1024,"idle":0}}"#, "CPUWeight=100"),
        (r#"{"cpu":{"quota":500000,"period":900000}}"#, "CPUQuotaPeriodUSec=900000, CPUQuotaPerSecUSec=560000"),
        (r#"{"cpu":{"quota":5000}}"#, "CPUQuotaPerSecUSec=50000"),
        (r#"{"cpu":{"quota":-1,"period":900000}}"#, "CPUQuotaPeriodUSec=900000, CPUQuotaPerSecUSec=infinity"),
        (r#"{"cpu":{"cpus":"0,2-3,9","mems":"0"}}"#, "AllowedCPUs?=[13, 2], AllowedMemoryNodes?=[1]"),
        (r#"{"pids":{"limit":-1}}"#, "TasksMax=infinity"),
        (r#"{"pids":{"limit":0}}"#, "TasksMax=1"),
        (r#"{"blockIO":{"weight":1000}}"#, "IOWeight=10000"),
        (
            r#"{"unified":{"cpu.max":"max 50000","cpu.weight":"42","cpuset.cpus":"1","memory.high":"5M",
                "memory.swap.max":"max","memory.zswap.max":"7","pids.max":"9","io.max":"8:0 rbps=1","misc.max":"x",
                "io.weight":"default 50"}}"#,
            "CPUQuotaPeriodUSec=50000, CPUQuotaPerSecUSec=infinity, CPUWeight=42, AllowedCPUs?=[2], IOWeight=50, \
             MemoryHigh=5242880, MemorySwapMax=infinity, MemoryZSwapMax?=7, TasksMax=9",
        ),
        (r#"{"unified":{"cpu.max":"5000 50000"}}"#, "CPUQuotaPeriodUSec=50000, CPUQuotaPerSecUSec=100000"),
    ];
    for (json, want) in table {
        assert_eq!(shown(&limits(&resources(json), &v2()).unwrap()), want, "{json}");
    }
    for json in [r#"{"cpu":{"cpus":"3-1"}}"#, r#"{"cpu":{"cpus":"a"}}"#, r#"{"unified":{"memory.max":"x"}}"#] {
        assert!(limits(&resources(json), &v2()).is_err(), "{json}");
    }
}

#[test]
fn limits_on_v1() {
    let table = [
        (r#"{"memory":{"limit":100,"swap":300,"reservation":50}}"#, "MemoryLimit=100"),
        (r#"{"cpu":{"shares":1024}}"#, "CPUShares=1024"),
        (r#"{"blockIO":{"weight":500}}"#, "BlockIOWeight=500"),
        (r#"{"pids":{"limit":5}}"#, "TasksMax=5"),
    ];
    for (json, want) in table {
        assert_eq!(shown(&limits(&resources(json), &v1()).unwrap()), want, "{json}");
    }
}

#[test]
fn quotas_are_systemds() {
    for (json, quota) in [
        (r#"{"cpu":{"quota":500000,"period":900000}}"#, Some(504_000)),
        (r#"{"cpu":{"quota":600000,"period":900000}}"#, Some(603_000)),
        (r#"{"cpu":{"quota":50000}}"#, Some(50_000)),
        (r#"{"cpu":{"quota":-1}}"#, Some(-1)),
        (r#"{"cpu":{"shares":5}}"#, None),
    ] {
        let rounded = rounded(&resources(json));
        assert_eq!(rounded.cpu().as_ref().unwrap().quota(), quota, "{json}");
    }
}
