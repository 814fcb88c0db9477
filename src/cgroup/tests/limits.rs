//! Limits, tested by their effects.

use super::Bench;
use crate::cgroup::{Oom, facts, make};
use crate::plan::cgroup::{Absent, CgroupPlan, Write, limits};
use oci_spec::runtime::LinuxResources;
use std::time::Duration;

#[test]
fn the_memory_limit_kills() {
    // swap must not help
    let limits = r#"{"memory":{"limit":33554432,"swap":33554432}}"#;
    let Some(mut bench) = Bench::limited("memory", limits) else { return };
    assert_eq!(bench.run("head -c 8M /dev/zero | tail -c 8M | wc -c"), "8388608\n0");
    let said = bench.run("head -c 128M /dev/zero | tail -c 128M | wc -c");
    assert!(said.contains("Killed") || said.starts_with("0\n"), "{said}");
    assert!(bench.handle().oom_kills().unwrap() > 0);
}

#[test]
fn the_process_limit_stops_a_fork_bomb() {
    let Some(mut bench) = Bench::limited("pids", r#"{"pids":{"limit":7}}"#) else { return };
    assert_eq!(bench.read("pids", "pids.max"), "7");
    let said = bench.run("for i in 1 2 3 4 5 6 7 8 9; do sleep 5 > /dev/null 2>&1 & done");
    assert!(said.contains("fork"), "{said}");
    assert!(bench.read("pids", "pids.events").ends_with(|c: char| c.is_ascii_digit() && c != '0'));
}

#[test]
fn the_quota_throttles() {
    let Some(mut bench) = Bench::limited("cpu", r#"{"cpu":{"quota":2000,"period":20000}}"#) else { return };
    bench.run("timeout 0.3 sh -c 'while :; do :; done'");
    let stat = bench.read("cpu", "cpu.stat");
    let throttled = stat.lines().find_map(|line| line.strip_prefix("nr_throttled ")).unwrap();
    assert!(throttled.parse::<u32>().unwrap() > 0, "{stat}");
}

#[test]
fn every_value_arrives() {
    // (controller, resources, file on v1, file on v2, value)
    let table = [
        ("memory", r#"{"memory":{"limit":33554432}}"#, "memory.limit_in_bytes", "memory.max", "33554432"),
        (
            "memory",
            r#"{"memory":{"limit":33554432,"reservation":16777216}}"#,
            "memory.soft_limit_in_bytes",
            "memory.low",
            "16777216",
        ),
        ("cpu", r#"{"cpu":{"shares":1024}}"#, "cpu.shares", "cpu.weight", "1024 100"),
        ("cpu", r#"{"cpu":{"shares":2048,"idle":0}}"#, "cpu.idle", "cpu.idle", "0"),
        ("cpu", r#"{"cpu":{"idle":1}}"#, "cpu.idle", "cpu.idle", "1"),
        (
            "cpu",
            r#"{"cpu":{"quota":30000,"period":60000,"burst":10000}}"#,
            "cpu.cfs_burst_us",
            "cpu.max.burst",
            "10000",
        ),
        (
            "cpu",
            r#"{"cpu":{"quota":30000,"period":60000,"burst":10000}}"#,
            "cpu.cfs_period_us",
            "cpu.max",
            "60000 30000 60000",
        ),
        ("cpuset", r#"{"cpu":{"cpus":"0","mems":"0"}}"#, "cpuset.cpus", "cpuset.cpus", "0"),
        ("pids", r#"{"pids":{"limit":-1}}"#, "pids.max", "pids.max", "max"),
        (
            "hugetlb",
            r#"{"hugepageLimits":[{"pageSize":"2MB","limit":4194304}]}"#,
            "hugetlb.2MB.limit_in_bytes",
            "hugetlb.2MB.max",
            "4194304",
        ),
    ];
    let mut arrived = 0;
    for (controller, resources, v1, v2, value) in table {
        let Some(bench) = Bench::limited(controller, resources) else { continue };
        let is_v1 = bench.handle().cgroup_paths.contains_key(controller);
        let read = bench.read(controller, if is_v1 { v1 } else { v2 });
        // where v1 and v2 differ: v1's value, a blank, v2's
        let (first, second) = value.split_once(' ').unwrap_or((value, value));
        assert_eq!(read, if is_v1 { first } else { second }, "{resources}");
        arrived += 1;
    }
    assert!(arrived > 0, "no controller to test with");
}

/// A block device of this machine that can be throttled: `MAJOR:MINOR`.
fn disk() -> String {
    let disks = std::fs::read_dir("/sys/block").unwrap().flatten();
    let real = |name: &str| !["loop", "ram", "zram", "sr", "fd"].iter().any(|kind| name.starts_with(kind));
    let disk = disks.map(|disk| disk.path()).find(|path| real(&path.file_name().unwrap().to_string_lossy())).unwrap();
    std::fs::read_to_string(disk.join("dev")).unwrap().trim_end().to_owned()
}

#[test]
fn throttles_arrive_and_go() {
    let disk = disk();
    let (major, minor) = disk.split_once(':').unwrap();
    let of = |bytes: u32, operations: u32| {
        format!(
            r#"{{"blockIO":{{"throttleWriteBpsDevice":[{{"major":{major},"minor":{minor},"rate":{bytes}}}],
                "throttleReadIOPSDevice":[{{"major":{major},"minor":{minor},"rate":{operations}}}]}}}}"#
        )
    };
    let controller = if facts(false).unwrap().has("blkio") { "blkio" } else { "io" };
    let Some(bench) = Bench::limited(controller, &of(1_048_576, 50)) else { return };
    let read = || match controller {
        "blkio" => ["write_bps", "read_iops"].map(|kind| bench.read("blkio", &format!("blkio.throttle.{kind}_device"))),
        _ => [bench.read("io", "io.max"), String::new()],
    };
    let want = match controller {
        "blkio" => [format!("{disk} 1048576"), format!("{disk} 50")],
        _ => [format!("{disk} rbps=max wbps=1048576 riops=50 wiops=max"), String::new()],
    };
    assert_eq!(read(), want);
    bench.handle().update(&limits_of(&bench, &of(0, 0))).unwrap();
    assert_eq!(read(), [String::new(), String::new()]);
}

#[test]
fn network_classes_arrive_where_there_are_any() {
    let resources = r#"{"network":{"classID":1048577}}"#;
    match Bench::planned(resources) {
        Ok(bench) if bench.facts.has("net_cls") => {
            bench.made.limit(&bench.plan).unwrap();
            assert_eq!(bench.read("net_cls", "net_cls.classid"), "1048577");
        }
        // not on cgroup2: a note says so
        Ok(bench) => assert!(bench.handle().is_pure()),
        Err(error) => assert!(error.to_string().starts_with("cannot set net_cls limit: "), "{error}"),
    }
}

#[test]
fn a_controller_is_handed_down_late_too() {
    let bench = Bench::new("{}");
    let Some(unified) = bench.handle().unified().filter(|_| bench.handle().is_pure()) else {
        assert!(!bench.handle().is_pure());
        return;
    };
    // somebody created the parents without enabling controllers
    let parent = unified.parent().unwrap();
    let offered = std::fs::read_to_string(bench.plan.root.join("cgroup.controllers")).unwrap();
    let none: Vec<String> = offered.split_whitespace().map(|name| format!("-{name}")).collect();
    std::fs::write(parent.join("cgroup.subtree_control"), none.join(" ")).unwrap();
    assert_eq!(bench.read("", "cgroup.controllers"), "");
    bench.made.limit(&bench.plan).unwrap();
    assert_eq!(bench.read("", "cgroup.controllers"), offered.trim_end());
}

#[test]
fn what_is_not_there_is_said() {
    let no_such_size = r#"{"hugepageLimits":[{"pageSize":"3MB","limit":1}]}"#;
    let Ok(bench) = Bench::planned(no_such_size) else {
        assert!(Bench::limited("hugetlb", no_such_size).is_none());
        return;
    };
    let error = bench.made.limit(&bench.plan).unwrap_err().to_string();
    assert!(error.starts_with("linux.resources.hugepageLimits[0].limit: "), "{error}");
    assert!(error.contains("hugetlb.3MB."), "{error}");
}

#[test]
fn shortage_of_memory_is_told() {
    let limits = r#"{"memory":{"limit":33554432,"swap":33554432}}"#;
    let Some(mut bench) = Bench::limited("memory", limits) else { return };
    bench.start("exec sleep 1000");
    let mut watch = bench.handle().watch_oom().unwrap();
    let soon = Duration::from_millis(20);
    assert_eq!(watch.wait(soon).unwrap(), Oom::Nothing);
    bench.run("head -c 128M /dev/zero | tail -c 128M | wc -c");
    assert_eq!(watch.wait(Duration::from_secs(5)).unwrap(), Oom::Killed);
    while watch.wait(soon).unwrap() == Oom::Killed {}
    bench.handle().kill_all().unwrap();
    if bench.handle().unified().is_some() {
        assert_eq!(watch.wait(Duration::from_secs(5)).unwrap(), Oom::Gone);
    }
    bench.handle().remove().unwrap();
    assert_eq!(watch.wait(Duration::from_secs(5)).unwrap(), Oom::Gone);
}

/// Plans an update of the test cgroup.
fn limits_of(bench: &Bench, resources: &str) -> CgroupPlan {
    let resources: LinuxResources = serde_json::from_str(resources).unwrap();
    limits(&resources, &bench.facts, bench.handle().driver(), &mut Vec::new()).unwrap()
}

#[test]
fn an_update_is_all_or_nothing() {
    let before = r#"{"cpu":{"shares":512,"quota":50000,"period":100000}}"#;
    let Some(bench) = Bench::limited("cpu", before) else { return };
    let is_v1 = bench.handle().cgroup_paths.contains_key("cpu");
    let files: &[&str] =
        if is_v1 { &["cpu.shares", "cpu.cfs_quota_us", "cpu.cfs_period_us"] } else { &["cpu.weight", "cpu.max"] };
    let read = || files.iter().map(|file| bench.read("cpu", file)).collect::<Vec<_>>();
    let old = read();

    // the last value is invalid: a period over a second
    let bad = limits_of(&bench, r#"{"cpu":{"shares":1024,"quota":70000,"period":2000000}}"#);
    let error = bench.handle().update(&bad).unwrap_err().to_string();
    assert!(error.starts_with("linux.resources.cpu.") && error.ends_with("invalid argument"), "{error}");
    assert_eq!(read(), old);

    let good = limits_of(&bench, r#"{"cpu":{"shares":1024,"quota":70000,"period":200000}}"#);
    bench.handle().update(&good).unwrap();
    let want: &[&str] = if is_v1 { &["1024", "70000", "200000"] } else { &["100", "70000 200000"] };
    assert_eq!(read(), want);
}

#[test]
fn limits_that_bound_each_other_go_up_and_down() {
    let Some(bench) = Bench::limited("memory", r#"{"memory":{"limit":33554432,"swap":50331648}}"#) else { return };
    for (limit, swap) in [(67_108_864, 83_886_080), (16_777_216, 20_971_520), (33_554_432, 33_554_432)] {
        let plan = limits_of(&bench, &format!(r#"{{"memory":{{"limit":{limit},"swap":{swap}}}}}"#));
        bench.handle().update(&plan).unwrap();
        let (file, value) = match bench.handle().cgroup_paths.contains_key("memory") {
            true => ("memory.memsw.limit_in_bytes", swap),
            false => ("memory.max", limit),
        };
        assert_eq!(bench.read("memory", file), value.to_string());
    }
    let Some(bench) = Bench::limited("cpu", r#"{"cpu":{"quota":50000,"period":100000,"burst":50000}}"#) else { return };
    for (quota, burst) in [(10_000, 10_000), (90_000, 90_000), (20_000, 0)] {
        bench
            .handle()
            .update(&limits_of(&bench, &format!(r#"{{"cpu":{{"quota":{quota},"burst":{burst}}}}}"#)))
            .unwrap();
        let file = if bench.handle().cgroup_paths.contains_key("cpu") { "cpu.cfs_burst_us" } else { "cpu.max.burst" };
        assert_eq!(bench.read("cpu", file), burst.to_string());
    }
}

#[test]
fn a_cgroup_that_was_there_gets_new_limits() {
    let Some(bench) = Bench::limited("memory", r#"{"memory":{"limit":33554432,"swap":33554432}}"#) else { return };
    let wider = limits_of(&bench, r#"{"memory":{"limit":67108864,"swap":67108864}}"#);
    let again = make(&bench.plan).unwrap();
    again.limit(&CgroupPlan { writes: wider.writes, ..bench.plan.clone() }).unwrap();
    let is_v1 = bench.handle().cgroup_paths.contains_key("memory");
    assert_eq!(bench.read("memory", if is_v1 { "memory.limit_in_bytes" } else { "memory.max" }), "67108864");
}

#[test]
fn a_file_that_is_not_there_may_be_no_loss() {
    let bench = Bench::new("{}");
    let hierarchy = bench.handle().cgroup_paths.keys().next().unwrap().clone();
    let write = |absent| Write {
        hierarchy: hierarchy.clone().into(),
        file: "cgroup.no.such".into(),
        value: "1".into(),
        field: "linux.resources.x".into(),
        absent,
        retry_on_einval: false,
    };
    let limit = |absent| bench.made.limit(&CgroupPlan { writes: vec![write(absent)], ..bench.plan.clone() });
    limit(Absent::Skip).unwrap();
    let error = limit(Absent::Fail).unwrap_err().to_string();
    assert!(error.starts_with("linux.resources.x: ") && error.contains("write cgroup.no.such \"1\""), "{error}");
    let fallback = |value: &str| Absent::Fallback { file: "cgroup.procs".into(), value: value.to_owned() };
    let error = limit(fallback("x")).unwrap_err().to_string();
    assert!(error.contains("write cgroup.procs \"x\": invalid argument"), "{error}");
}

#[test]
fn a_watch_on_v1_ends_with_the_cgroup() {
    let bench = Bench::new("{}");
    let mut v1 = bench.handle().clone();
    v1.cgroup_paths.retain(|key, _| key == "memory");
    if v1.cgroup_paths.is_empty() {
        assert!(v1.watch_oom().is_err());
        return;
    }
    let mut watch = v1.watch_oom().unwrap();
    assert_eq!(watch.wait(Duration::from_millis(20)).unwrap(), Oom::Nothing);
    bench.handle().remove().unwrap();
    assert_eq!(watch.wait(Duration::from_secs(5)).unwrap(), Oom::Gone);
}

#[test]
fn used_memory_is_looked_at_first() {
    let Some(mut bench) = Bench::limited("memory", r#"{"memory":{"limit":67108864}}"#) else { return };
    bench.start("mkfifo $D/fifo; x=$(head -c 8M /dev/zero | tr '\\0' x); touch $D/ready; read forever < $D/fifo");
    while !bench.scratch.join("ready").exists() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let plan = limits_of(&bench, r#"{"memory":{"limit":4096,"checkBeforeUpdate":true}}"#);
    let said = bench.handle().update(&plan).map(|()| String::new()).unwrap_or_else(|e| e.to_string());
    match !bench.handle().cgroup_paths.contains_key("memory") {
        true => assert!(said.starts_with("rejecting memory limit 4096 <= usage "), "{said}"),
        // on v1 the kernel reclaims what it can and then refuses
        false => {
            assert!(said.is_empty() || said.contains("unable to set memory limit to 4096 (current usage: "), "{said}")
        }
    }
}
