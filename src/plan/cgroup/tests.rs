//! Every field of `linux.resources` on v1, hybrid and v2.

use super::*;

fn unified() -> CgroupFacts {
    CgroupFacts::Unified(Tree { root: "/sys/fs/cgroup".into(), ..Tree::default() })
}

/// A v1 hierarchy for each of `controllers`, and cgroup2 with those that are `left`.
fn legacy(controllers: &[&str], left: &[&str]) -> CgroupFacts {
    let hierarchy = |name: &&str| Hierarchy {
        controllers: vec![(*name).to_owned()],
        mountpoint: format!("/sys/fs/cgroup/{name}").into(),
        own: "/".into(),
        ..Hierarchy::default()
    };
    CgroupFacts::Legacy {
        hierarchies: controllers.iter().map(hierarchy).collect(),
        unified: Some(Tree {
            root: "/sys/fs/cgroup/unified".into(),
            own: Some("/".into()),
            controllers: left.iter().map(|c| (*c).to_owned()).collect(),
        }),
    }
}

const V1: &[&str] = &[
    "cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "hugetlb", "net_cls", "net_prio",
    "rdma",
];

/// The writes for a `linux.resources`, then the notes; or the error.
fn shown(json: &str, facts: &CgroupFacts) -> String {
    let resources: LinuxResources = serde_json::from_str(json).unwrap();
    let mut notes = Vec::new();
    let plan = match limits(&resources, facts, Driver::Cgroupfs, &mut notes) {
        Ok(plan) => plan,
        Err(error) => return format!("error: {error}"),
    };
    let mut lines: Vec<String> = plan
        .writes
        .iter()
        .map(|write| {
            let absent = match &write.absent {
                Absent::Fail => String::new(),
                Absent::Skip => " or skip".to_owned(),
                Absent::Fallback { file, value } => format!(" or {file} = {value}"),
            };
            let again = if write.retry_on_einval { " again" } else { "" };
            format!("{} = {}{absent}{again}", write.file, write.value)
        })
        .collect();
    lines.extend(plan.memory_check.map(|check| format!("check {:?} {:?}", check.limit, check.swap)));
    lines.extend(notes.iter().map(|note| format!("note: {}", note.trim_start_matches("linux.resources."))));
    lines.join("; ")
}

fn check(facts: &CgroupFacts, table: &[(&str, &str)]) {
    for (json, want) in table {
        assert_eq!(shown(json, facts), *want, "{json}");
    }
}

#[test]
fn memory_on_v2() {
    check(
        &unified(),
        &[
            (r#"{"memory":{}}"#, ""),
            (r#"{"memory":{"limit":0,"reservation":0,"swap":0}}"#, ""),
            (r#"{"memory":{"limit":1048576}}"#, "memory.max = 1048576"),
            (r#"{"memory":{"limit":-1}}"#, "memory.swap.max = max or skip; memory.max = max"),
            (r#"{"memory":{"limit":-2}}"#, "error: linux.resources.memory.limit: invalid memory value: -2"),
            (r#"{"memory":{"limit":100,"swap":100}}"#, "memory.swap.max = 0 or skip; memory.max = 100"),
            (r#"{"memory":{"limit":100,"swap":300}}"#, "memory.swap.max = 200; memory.max = 100"),
            (r#"{"memory":{"limit":100,"swap":-1}}"#, "memory.swap.max = max or skip; memory.max = 100"),
            (r#"{"memory":{"limit":-1,"swap":300}}"#, "memory.swap.max = 300; memory.max = max"),
            (r#"{"memory":{"swap":-1}}"#, "memory.swap.max = max or skip"),
            (
                r#"{"memory":{"swap":300}}"#,
                "error: linux.resources.memory.swap: unable to set swap limit without memory limit",
            ),
            (
                r#"{"memory":{"limit":300,"swap":100}}"#,
                "error: linux.resources.memory.swap: memory+swap limit should be >= memory limit",
            ),
            (r#"{"memory":{"reservation":50}}"#, "memory.low = 50"),
            (r#"{"memory":{"reservation":-1}}"#, "memory.low = max"),
            (
                r#"{"memory":{"limit":100,"swap":300,"checkBeforeUpdate":true}}"#,
                "memory.swap.max = 200; memory.max = 100; check Some(100) Some(300)",
            ),
            (r#"{"memory":{"limit":-1,"checkBeforeUpdate":true}}"#, "memory.swap.max = max or skip; memory.max = max"),
            (r#"{"memory":{"reservation":50,"swappiness":18446744073709551615}}"#, "memory.low = 50"),
            (
                r#"{"memory":{"kernel":1,"kernelTCP":2,"swappiness":3,"disableOOMKiller":true}}"#,
                "note: memory.kernel is ignored: kernel memory limits no longer exist; \
             note: memory.kernelTCP is ignored: kernel memory limits no longer exist; \
             note: memory.swappiness is ignored: cgroup v2 has nothing like it; \
             note: memory.disableOOMKiller is ignored: cgroup v2 has nothing like it",
            ),
            (r#"{"memory":{"disableOOMKiller":false,"useHierarchy":true}}"#, ""),
        ],
    );
}

#[test]
fn memory_on_v1() {
    check(
        &legacy(V1, &[]),
        &[
            (r#"{"memory":{"limit":0}}"#, ""),
            (r#"{"memory":{"limit":100}}"#, "memory.limit_in_bytes = 100"),
            (
                r#"{"memory":{"limit":-1}}"#,
                "memory.limit_in_bytes = -1 again; memory.memsw.limit_in_bytes = -1 or skip",
            ),
            (
                r#"{"memory":{"limit":100,"swap":300}}"#,
                "memory.limit_in_bytes = 100 again; memory.memsw.limit_in_bytes = 300",
            ),
            (r#"{"memory":{"swap":300}}"#, "memory.memsw.limit_in_bytes = 300"),
            (
                r#"{"memory":{"reservation":50,"disableOOMKiller":true,"swappiness":0}}"#,
                "memory.soft_limit_in_bytes = 50; memory.oom_control = 1; memory.swappiness = 0",
            ),
            (r#"{"memory":{"limit":100,"swappiness":18446744073709551615}}"#, "memory.limit_in_bytes = 100"),
            (
                r#"{"memory":{"swappiness":101}}"#,
                "error: linux.resources.memory.swappiness: invalid memory swappiness value: 101 (valid range is 0-100)",
            ),
            (r#"{"memory":{"limit":100,"checkBeforeUpdate":true}}"#, "memory.limit_in_bytes = 100"),
        ],
    );
}

#[test]
fn cpu_on_v2() {
    check(
        &unified(),
        &[
            (r#"{"cpu":{}}"#, ""),
            (r#"{"cpu":{"shares":0,"quota":0,"period":0,"cpus":"","mems":""}}"#, ""),
            (r#"{"cpu":{"shares":1024}}"#, "cpu.weight = 100"),
            (r#"{"cpu":{"quota":50000}}"#, "cpu.max = 50000 100000"),
            (r#"{"cpu":{"quota":-1}}"#, "cpu.max = max 100000"),
            (r#"{"cpu":{"period":20000}}"#, "cpu.max = max 20000"),
            (r#"{"cpu":{"quota":5000,"period":20000}}"#, "cpu.max = 5000 20000"),
            (r#"{"cpu":{"burst":0}}"#, "cpu.max.burst = 0"),
            (
                r#"{"cpu":{"quota":5000,"burst":1000,"idle":0,"shares":2}}"#,
                "cpu.idle = 0; cpu.weight = 1; cpu.max.burst = 1000 again; cpu.max = 5000 100000",
            ),
            (r#"{"cpu":{"cpus":"0-1","mems":"0"}}"#, "cpuset.cpus = 0-1; cpuset.mems = 0"),
            (
                r#"{"cpu":{"realtimePeriod":1000,"realtimeRuntime":500}}"#,
                "note: cpu.realtimeRuntime is ignored: cgroup v2 has nothing like it; \
             note: cpu.realtimePeriod is ignored: cgroup v2 has nothing like it",
            ),
        ],
    );
}

#[test]
fn cpu_on_v1() {
    check(
        &legacy(V1, &[]),
        &[
            (r#"{"cpu":{"shares":1024}}"#, "cpu.shares = 1024"),
            (r#"{"cpu":{"shares":1}}"#, "error: linux.resources.cpu.shares: the minimum allowed cpu-shares is 2"),
            (
                r#"{"cpu":{"shares":262145}}"#,
                "error: linux.resources.cpu.shares: the maximum allowed cpu-shares is 262144",
            ),
            (r#"{"cpu":{"quota":-1}}"#, "cpu.cfs_quota_us = -1"),
            (
                r#"{"cpu":{"quota":5000,"period":20000,"burst":100}}"#,
                "cpu.cfs_period_us = 20000 again; cpu.cfs_burst_us = 100 again; cpu.cfs_quota_us = 5000",
            ),
            (r#"{"cpu":{"period":20000,"burst":100}}"#, "cpu.cfs_period_us = 20000; cpu.cfs_burst_us = 100"),
            (r#"{"cpu":{"shares":5,"idle":1}}"#, "cpu.shares = 5 again; cpu.idle = 1"),
            (
                r#"{"cpu":{"realtimePeriod":1000,"realtimeRuntime":500}}"#,
                "cpu.rt_period_us = 1000 again; cpu.rt_runtime_us = 500",
            ),
            (r#"{"cpu":{"cpus":"1","mems":"0"}}"#, "cpuset.cpus = 1; cpuset.mems = 0"),
        ],
    );
}

#[test]
fn weights() {
    // both ends, both defaults, and values computed with 50 digits
    for (shares, weight) in [(2, 1), (3, 2), (100, 17), (200, 29), (1024, 100), (3333, 256), (262_144, 10_000)] {
        assert_eq!(v2::cpu_weight(shares), weight, "{shares}");
    }
    let monotonic = (1..300_000).map(v2::cpu_weight).is_sorted();
    assert!(monotonic);
    for (weight, io) in [(10, 1), (100, 910), (500, 4950), (750, 7475), (1000, 10_000)] {
        assert_eq!(v2::io_weight(weight), io, "{weight}");
    }
}

#[test]
fn pids_in_both_worlds() {
    for facts in [unified(), legacy(V1, &[])] {
        check(
            &facts,
            &[
                (r#"{"pids":{"limit":20}}"#, "pids.max = 20"),
                (r#"{"pids":{"limit":0}}"#, "pids.max = 1"),
                (r#"{"pids":{"limit":-1}}"#, "pids.max = max"),
            ],
        );
    }
}

#[test]
fn block_io_on_v2() {
    check(
        &unified(),
        &[
            (r#"{"blockIO":{}}"#, ""),
            (r#"{"blockIO":{"weight":0}}"#, ""),
            (r#"{"blockIO":{"weight":750}}"#, "io.bfq.weight = 750 or io.weight = 7475"),
            (r#"{"blockIO":{"weight":9}}"#, "error: linux.resources.blockIO.weight: 9 is not within 10..1000"),
            (
                r#"{"blockIO":{"weightDevice":[{"major":8,"minor":0,"weight":10,"leafWeight":20}],"leafWeight":30}}"#,
                "io.bfq.weight = 8:0 10 or io.weight = 8:0 1; \
             note: blockIO.leafWeight is ignored: cgroup v2 has nothing like it",
            ),
            (
                r#"{"blockIO":{"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":1},{"major":8,"minor":1,"rate":0}],
                "throttleWriteBpsDevice":[{"major":8,"minor":0,"rate":2}],
                "throttleReadIOPSDevice":[{"major":8,"minor":0,"rate":3}],
                "throttleWriteIOPSDevice":[{"major":8,"minor":0,"rate":4}]}}"#,
                "io.max = 8:0 rbps=1; io.max = 8:1 rbps=max; io.max = 8:0 wbps=2; io.max = 8:0 riops=3; io.max = 8:0 wiops=4",
            ),
        ],
    );
}

#[test]
fn block_io_on_v1() {
    check(
        &legacy(V1, &[]),
        &[
            (
                r#"{"blockIO":{"weight":300,"leafWeight":400,
                "weightDevice":[{"major":8,"minor":0,"weight":10,"leafWeight":20}]}}"#,
                "blkio.bfq.weight = 300 or blkio.weight = 300; blkio.leaf_weight = 400; \
             blkio.bfq.weight_device = 8:0 10 or blkio.weight_device = 8:0 10; blkio.leaf_weight_device = 8:0 20",
            ),
            (
                r#"{"blockIO":{"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":0}],
                "throttleWriteBpsDevice":[{"major":8,"minor":0,"rate":2}],
                "throttleReadIOPSDevice":[{"major":8,"minor":0,"rate":3}],
                "throttleWriteIOPSDevice":[{"major":8,"minor":0,"rate":4}]}}"#,
                "blkio.throttle.read_bps_device = 8:0 0; blkio.throttle.write_bps_device = 8:0 2; \
             blkio.throttle.read_iops_device = 8:0 3; blkio.throttle.write_iops_device = 8:0 4",
            ),
        ],
    );
}

#[test]
fn the_rest() {
    let huge = r#"{"hugepageLimits":[{"pageSize":"2MB","limit":4194304},{"pageSize":"1GB","limit":-1}]}"#;
    let rdma = r#"{"rdma":{"mlx5_1":{"hcaHandles":3,"hcaObjects":1000},"mlx4_0":{"hcaObjects":5}}}"#;
    let net = r#"{"network":{"classID":1048577,"priorities":[{"name":"eth0","priority":5}]}}"#;
    let page = r#"{"hugepageLimits":[{"pageSize":"../2MB","limit":1}]}"#;
    let no_page = "error: linux.resources.hugepageLimits[0].pageSize: \"../2MB\" is no page size like \"2MB\"";
    check(
        &unified(),
        &[
            (
                huge,
                "hugetlb.2MB.max = 4194304; hugetlb.2MB.rsvd.max = 4194304 or skip; \
             hugetlb.1GB.max = max; hugetlb.1GB.rsvd.max = max or skip",
            ),
            (page, no_page),
            (rdma, "rdma.max = mlx4_0 hca_object=5; rdma.max = mlx5_1 hca_handle=3 hca_object=1000"),
            (
                net,
                "note: network.classID is ignored: cgroup v2 has nothing like it; \
             note: network.priorities is ignored: cgroup v2 has nothing like it",
            ),
        ],
    );
    check(
        &legacy(V1, &[]),
        &[
            (
                huge,
                "hugetlb.2MB.limit_in_bytes = 4194304; hugetlb.2MB.rsvd.limit_in_bytes = 4194304 or skip; \
             hugetlb.1GB.limit_in_bytes = -1; hugetlb.1GB.rsvd.limit_in_bytes = -1 or skip",
            ),
            (page, no_page),
            (rdma, "rdma.max = mlx4_0 hca_object=5; rdma.max = mlx5_1 hca_handle=3 hca_object=1000"),
            (net, "net_cls.classid = 1048577; net_prio.ifpriomap = eth0 5"),
        ],
    );
}

#[test]
fn unified_map() {
    let map = r#"{"unified":{"memory.high":"5M","cgroup.max.depth":"3","io.max":"8:0 rbps=1\n8:1 rbps=2\n"}}"#;
    let refused = "error: invalid configuration: cannot use unified on cgroup v1";
    check(
        &unified(),
        &[
            (map, "cgroup.max.depth = 3; io.max = 8:0 rbps=1; io.max = 8:1 rbps=2; memory.high = 5M"),
            (r#"{"unified":{"memory.max":"7"},"memory":{"limit":5}}"#, "memory.max = 5; memory.max = 7"),
            (
                r#"{"unified":{"../x.y":"1"}}"#,
                "error: linux.resources.unified[\"../x.y\"]: unified resource \"../x.y\" must be a file name (no slashes)",
            ),
            (
                r#"{"unified":{"nodot":"1"}}"#,
                "error: linux.resources.unified[\"nodot\"]: unified resource \"nodot\" must be in the form CONTROLLER.PARAMETER",
            ),
        ],
    );
    check(&legacy(V1, &[]), &[(map, refused), (r#"{"unified":{}}"#, "")]);
}

#[test]
fn hybrid_writes_where_the_controller_is() {
    let facts = legacy(&["memory", "devices"], &["pids", "hugetlb"]);
    check(
        &facts,
        &[
            (
                r#"{"memory":{"limit":5},"pids":{"limit":3},"hugepageLimits":[{"pageSize":"2MB","limit":1}]}"#,
                "memory.limit_in_bytes = 5; pids.max = 3; hugetlb.2MB.max = 1; hugetlb.2MB.rsvd.max = 1 or skip",
            ),
            (r#"{"cpu":{"shares":5}}"#, "error: cannot set cpu limit: container could not join or create cgroup"),
            (r#"{"cpu":{"cpus":"1"}}"#, "error: cannot set cpuset limit: container could not join or create cgroup"),
            (
                r#"{"network":{"classID":1}}"#,
                "error: cannot set net_cls limit: container could not join or create cgroup",
            ),
        ],
    );
    let resources: LinuxResources = serde_json::from_str(r#"{"memory":{"limit":5},"pids":{"limit":3}}"#).unwrap();
    let hierarchies: Vec<_> = limits(&resources, &facts, Driver::Cgroupfs, &mut Vec::new())
        .unwrap()
        .writes
        .iter()
        .map(|w| w.hierarchy.clone())
        .collect();
    assert_eq!(hierarchies, ["memory", ""]);
}

#[test]
fn a_whole_plan() {
    let resources: LinuxResources =
        serde_json::from_str(r#"{"cpu":{"cpus":"0","shares":1024},"pids":{"limit":3}}"#).unwrap();
    let wanted = |rootless, path, resources| CgroupRequest {
        resources,
        cgroups_path: path,
        annotations: None,
        extensions: None,
        id: "ID",
        driver: Driver::Cgroupfs,
        owner: None,
        rootless,
    };
    let some = Some(&resources);
    let path = Some(Path::new("/a"));
    let v1 = legacy(V1, &[]);
    let planned = |wanted: &CgroupRequest<'_>| plan(wanted, &v1, &mut Vec::new()).unwrap();

    // a v1 cpuset must be set before a process can be moved in
    let whole = planned(&wanted(Rootless::No, path, some));
    assert_eq!(whole.early.iter().map(|w| w.file.as_ref()).collect::<Vec<_>>(), ["cpuset.cpus"]);
    assert_eq!(whole.writes.iter().map(|w| w.file.as_ref()).collect::<Vec<_>>(), ["cpu.shares", "pids.max"]);
    assert_eq!(whole.paths.len(), V1.len() + 1);
    assert_eq!(whole.root, Path::new("/sys/fs/cgroup/unified"));

    assert_eq!(planned(&wanted(Rootless::No, None, None)).permission, Permission::Needed);
    assert_eq!(planned(&wanted(Rootless::Yes, path, some)).permission, Permission::Needed);
    assert_eq!(planned(&wanted(Rootless::Yes, None, some)).permission, Permission::NeededForLimits);
    assert_eq!(planned(&wanted(Rootless::Yes, None, None)).permission, Permission::Optional);

    let mut notes = Vec::new();
    let disabled = CgroupRequest { driver: Driver::Disabled, ..wanted(Rootless::No, path, some) };
    assert_eq!(
        plan(&disabled, &v1, &mut notes).unwrap(),
        CgroupPlan { driver: Driver::Disabled, ..CgroupPlan::default() }
    );
    assert_eq!(notes, ["linux.resources is ignored: cgroups are disabled"]);
}

#[test]
fn annotations_name_cgroups_below() {
    let some = |path: &str| Some(path.into());
    let both = Extensions { subgroup: some("container"), delegate: some("own/part"), ..Extensions::default() };
    let inner = |path: &str, owner| Some(Inner { path: path.into(), owner });
    for (driver, facts, owner, expected) in [
        (Driver::Systemd, unified(), Some(7), (inner("container", Some(7)), inner("container/own/part", Some(7)))),
        (Driver::Systemd, unified(), Some(0), (inner("container", None), inner("container/own/part", None))),
        // a scope is systemd's alone
        (Driver::Cgroupfs, unified(), Some(7), (None, inner("own/part", Some(7)))),
        (Driver::Disabled, unified(), Some(7), (None, None)),
    ] {
        let cgroups_path = (driver == Driver::Cgroupfs).then_some(Path::new("/a"));
        let wanted = CgroupRequest {
            id: "ID",
            cgroups_path,
            driver,
            owner,
            extensions: Some(&both),
            ..CgroupRequest::default()
        };
        let planned = plan(&wanted, &facts, &mut Vec::new()).unwrap();
        assert_eq!((planned.subgroup, planned.delegate), expected, "{driver:?} {owner:?}");
    }
    let v1 = legacy(V1, &[]);
    let wanted = CgroupRequest {
        id: "ID",
        cgroups_path: Some(Path::new("/a")),
        extensions: Some(&both),
        ..CgroupRequest::default()
    };
    let error = plan(&wanted, &v1, &mut Vec::new()).unwrap_err().to_string();
    assert_eq!(error, "annotations[\"run.oci.delegate-cgroup\"]: needs cgroup v2");
    let subgroup = Extensions { subgroup: some("container"), ..Extensions::default() };
    let wanted = CgroupRequest { cgroups_path: None, driver: Driver::Systemd, extensions: Some(&subgroup), ..wanted };
    let mut notes = Vec::new();
    assert_eq!(plan(&wanted, &v1, &mut notes).unwrap().subgroup, None);
    assert_eq!(notes, ["annotation run.oci.systemd.subgroup is ignored: it needs cgroup v2"]);
}

#[test]
fn what_threaded_cgroups_lack() {
    for (json, domain) in [
        (r#"{"pids":{"limit":3},"cpu":{"shares":5,"cpus":"0"}}"#, false),
        (r#"{"unified":{"cpu.max":"1 2","cgroup.max.depth":"3"}}"#, false),
        (r#"{"memory":{"limit":3}}"#, true),
        (r#"{"memory":{"limit":0}}"#, false),
        (r#"{"blockIO":{"weight":30}}"#, true),
        (r#"{"hugepageLimits":[{"pageSize":"2MB","limit":1}]}"#, true),
        (r#"{"unified":{"memory.high":"1"}}"#, true),
    ] {
        let resources: LinuxResources = serde_json::from_str(json).unwrap();
        assert_eq!(limits(&resources, &unified(), Driver::Cgroupfs, &mut Vec::new()).unwrap().domain, domain, "{json}");
    }
}
