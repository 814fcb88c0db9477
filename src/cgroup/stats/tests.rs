//! Files as kernels write them → the JSON that runc's `events` prints.

use super::*;
use std::path::PathBuf;

/// A directory with files in it that is removed when dropped.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str, files: &[(&str, &str)]) -> Self {
        let dir = std::env::temp_dir().join(format!("onggi-test-{}-stats-{name}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        for (file, text) in files {
            std::fs::write(dir.join(file), text).unwrap();
        }
        Self(dir)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn json(stats: &Stats) -> serde_json::Value {
    let mut value = serde_json::to_value(stats).unwrap();
    // varies by machine
    value.as_object_mut().unwrap().remove("hugetlb");
    value
}

#[test]
fn v2() {
    let dir = Dir::new(
        "v2",
        &[
            (
                "cpu.stat",
                "usage_usec 5\nuser_usec 3\nsystem_usec 2\nnr_periods 7\nnr_throttled 6\nthrottled_usec 9\nnr_bursts 0\n",
            ),
            (
                "cpu.pressure",
                "some avg10=1.50 avg60=0.00 avg300=0.25 total=77\nfull avg10=0.00 avg60=2.00 avg300=0.00 total=8\n",
            ),
            ("memory.stat", "anon 10\nfile 4096\n"),
            ("memory.current", "100\n"),
            ("memory.max", "1000\n"),
            ("memory.peak", "200\n"),
            ("memory.swap.current", "5\n"),
            ("memory.swap.max", "50\n"),
            ("pids.current", "3\n"),
            ("pids.max", "max\n"),
            ("io.stat", "8:0 rbytes=1 wbytes=0 rios=3 wios=4 dbytes=5 dios=6\n253:16 \n"),
        ],
    );
    let want = serde_json::json!({
        "cpu": {
            "usage": {"total": 5000, "kernel": 2000, "user": 3000},
            "throttling": {"periods": 7, "throttledPeriods": 6, "throttledTime": 9000},
            "psi": {
                "some": {"avg10": 1.5, "avg60": 0, "avg300": 0.25, "total": 77},
                "full": {"avg10": 0, "avg60": 2, "avg300": 0, "total": 8},
            },
        },
        "cpuset": {
            "cpu_exclusive": 0, "mem_hardwall": 0, "mem_exclusive": 0, "memory_migrate": 0, "memory_spread_page": 0,
            "memory_spread_slab": 0, "memory_pressure": 0, "sched_load_balance": 0, "sched_relax_domain_level": 0,
        },
        "memory": {
            "cache": 4096,
            "usage": {"limit": 1000, "usage": 100, "max": 200, "failcnt": 0},
            "swap": {"limit": 1050, "usage": 105, "failcnt": 0},
            "kernel": {"limit": 0, "failcnt": 0},
            "kernelTCP": {"limit": 0, "failcnt": 0},
            "raw": {"anon": 10, "file": 4096},
        },
        "pids": {"current": 3},
        "blkio": {
            "ioServiceBytesRecursive": [
                {"major": 8, "op": "Read", "value": 1},
                {"major": 8, "op": "Write"},
            ],
            "ioServicedRecursive": [
                {"major": 8, "op": "Read", "value": 3},
                {"major": 8, "op": "Write", "value": 4},
            ],
        },
        "intel_rdt": {},
        "network_interfaces": null,
    });
    assert_eq!(json(&v2::stats(&dir.0).unwrap()), want);
}

#[test]
fn v2_without_controllers() {
    let dir = Dir::new("bare", &[("cgroup.procs", "1\n2\n"), ("cpu.stat", "usage_usec 1\n")]);
    let stats = v2::stats(&dir.0).unwrap();
    assert_eq!((stats.pids.current, stats.cpu.usage.total), (2, 1000));
    assert_eq!(stats.memory, Memory::default());
    let no_limit = Dir::new("max", &[("memory.stat", ""), ("memory.max", "max\n"), ("memory.swap.max", "max\n")]);
    let stats = v2::stats(&no_limit.0).unwrap();
    assert_eq!((stats.memory.usage.limit, stats.memory.swap.limit), (u64::MAX, u64::MAX));
}

#[test]
fn v1() {
    let dir = Dir::new(
        "v1",
        &[
            ("cpu.stat", "nr_periods 7\nnr_throttled 6\nthrottled_time 9\n"),
            ("cpuacct.usage", "50\n"),
            ("cpuacct.usage_percpu", "20 30 \n"),
            ("cpuacct.usage_all", "cpu user system\n0 11 9\n1 12 18\n"),
            ("cpuacct.stat", "user 3\nsystem 4\n"),
            ("cpuset.cpus", "0-1,3\n"),
            ("cpuset.mems", "0\n"),
            ("cpuset.sched_load_balance", "1\n"),
            ("cpuset.sched_relax_domain_level", "-1\n"),
            ("memory.stat", "cache 7\nrss 8\n"),
            ("memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory.usage_in_bytes", "100\n"),
            ("memory.max_usage_in_bytes", "200\n"),
            ("memory.failcnt", "1\n"),
            ("memory.memsw.limit_in_bytes", "5\n"),
            ("memory.kmem.usage_in_bytes", "6\n"),
            ("memory.kmem.tcp.failcnt", "7\n"),
            ("pids.current", "3\n"),
            ("pids.max", "10\n"),
            ("blkio.throttle.io_serviced", "8:0 Read 1\n8:0 Total 1\nTotal 1\n"),
            ("blkio.throttle.io_service_bytes", "Total 0\n"),
        ],
    );
    let paths = ["cpu", "cpuacct", "cpuset", "memory", "pids", "blkio", "name=systemd", ""];
    let paths = paths.iter().map(|name| ((*name).to_owned(), dir.0.clone())).collect();
    let want = serde_json::json!({
        "cpu": {
            "usage": {
                "total": 50, "percpu": [20, 30], "percpu_kernel": [9, 18], "percpu_user": [11, 12],
                "kernel": 40_000_000, "user": 30_000_000,
            },
            "throttling": {"periods": 7, "throttledPeriods": 6, "throttledTime": 9},
        },
        "cpuset": {
            "cpus": [0, 1, 3], "cpu_exclusive": 0, "mems": [0], "mem_hardwall": 0, "mem_exclusive": 0,
            "memory_migrate": 0, "memory_spread_page": 0, "memory_spread_slab": 0, "memory_pressure": 0,
            "sched_load_balance": 1, "sched_relax_domain_level": -1,
        },
        "memory": {
            "cache": 7,
            "usage": {"limit": 9_223_372_036_854_771_712_u64, "usage": 100, "max": 200, "failcnt": 1},
            "swap": {"limit": 5, "failcnt": 0},
            "kernel": {"limit": 0, "usage": 6, "failcnt": 0},
            "kernelTCP": {"limit": 0, "failcnt": 7},
            "raw": {"cache": 7, "rss": 8},
        },
        "pids": {"current": 3, "limit": 10},
        "blkio": {
            "ioServicedRecursive": [
                {"major": 8, "op": "Read", "value": 1},
                {"major": 8, "op": "Total", "value": 1},
            ],
        },
        "intel_rdt": {},
        "network_interfaces": null,
    });
    assert_eq!(json(&v1::stats(&paths).unwrap()), want);
}

#[test]
fn fields_stand_in_runcs_order() {
    let text = serde_json::to_string(&Stats::default()).unwrap();
    assert_eq!(
        text,
        "{\"cpu\":{\"usage\":{\"kernel\":0,\"user\":0},\"throttling\":{}},\"cpuset\":{\"cpu_exclusive\":0,\
         \"mem_hardwall\":0,\"mem_exclusive\":0,\"memory_migrate\":0,\"memory_spread_page\":0,\
         \"memory_spread_slab\":0,\"memory_pressure\":0,\"sched_load_balance\":0,\"sched_relax_domain_level\":0},\
         \"memory\":{\"usage\":{\"limit\":0,\"failcnt\":0},\"swap\":{\"limit\":0,\"failcnt\":0},\
         \"kernel\":{\"limit\":0,\"failcnt\":0},\"kernelTCP\":{\"limit\":0,\"failcnt\":0}},\"pids\":{},\"blkio\":{},\
         \"hugetlb\":{},\"intel_rdt\":{},\"network_interfaces\":null}"
    );
}
