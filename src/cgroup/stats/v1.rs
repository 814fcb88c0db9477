//! Statistics from v1 hierarchies. May use `stats` only.

use super::{
    Blkio, BlkioEntry, Cpu, CpuSet, HugeTlb, Memory, MemoryEntry, Pids, Stats, list, number, page_sizes, pairs, text,
};
use crate::error::Result;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// `cpuacct.stat` counts in `USER_HZ`, which is 100 on every architecture we support; in nanoseconds.
const TICK: u64 = 1_000_000_000 / 100;

pub(super) fn stats(paths: &BTreeMap<String, PathBuf>) -> Result<Stats> {
    let mut stats = Stats::default();
    for (controller, dir) in paths {
        match controller.as_str() {
            "cpu" => throttling(dir, &mut stats.cpu)?,
            "cpuacct" => cpu(dir, &mut stats.cpu)?,
            "cpuset" => stats.cpuset = cpuset(dir)?,
            "memory" => stats.memory = memory(dir)?,
            "pids" => stats.pids = pids(dir)?,
            "blkio" => stats.blkio = blkio(dir)?,
            "hugetlb" => stats.hugetlb = hugetlb(dir)?,
            _ => {}
        }
    }
    Ok(stats)
}

fn throttling(dir: &Path, cpu: &mut Cpu) -> Result<()> {
    for (key, value) in pairs(&text(dir, "cpu.stat")?.unwrap_or_default()) {
        match key {
            "nr_periods" => cpu.throttling.periods = value,
            "nr_throttled" => cpu.throttling.throttled_periods = value,
            "throttled_time" => cpu.throttling.throttled_time = value,
            _ => {}
        }
    }
    Ok(())
}

fn cpu(dir: &Path, cpu: &mut Cpu) -> Result<()> {
    cpu.usage.total = number(dir, "cpuacct.usage")?;
    let percpu = text(dir, "cpuacct.usage_percpu")?.unwrap_or_default();
    cpu.usage.percpu = percpu.split_whitespace().map(super::parse).collect();
    // a heading, then lines "cpu user system"
    for line in text(dir, "cpuacct.usage_all")?.unwrap_or_default().lines().skip(1) {
        let mut words = line.split_whitespace().skip(1).map(super::parse);
        cpu.usage.percpu_user.extend(words.next());
        cpu.usage.percpu_kernel.extend(words.next());
    }
    for (key, ticks) in pairs(&text(dir, "cpuacct.stat")?.unwrap_or_default()) {
        match key {
            "user" => cpu.usage.user = ticks * TICK,
            "system" => cpu.usage.kernel = ticks * TICK,
            _ => {}
        }
    }
    Ok(())
}

fn cpuset(dir: &Path) -> Result<CpuSet> {
    let level = text(dir, "cpuset.sched_relax_domain_level")?.unwrap_or_default();
    Ok(CpuSet {
        cpus: list(&text(dir, "cpuset.cpus")?.unwrap_or_default()),
        cpu_exclusive: number(dir, "cpuset.cpu_exclusive")?,
        mems: list(&text(dir, "cpuset.mems")?.unwrap_or_default()),
        mem_hardwall: number(dir, "cpuset.mem_hardwall")?,
        mem_exclusive: number(dir, "cpuset.mem_exclusive")?,
        memory_migrate: number(dir, "cpuset.memory_migrate")?,
        memory_spread_page: number(dir, "cpuset.memory_spread_page")?,
        memory_spread_slab: number(dir, "cpuset.memory_spread_slab")?,
        memory_pressure: number(dir, "cpuset.memory_pressure")?,
        sched_load_balance: number(dir, "cpuset.sched_load_balance")?,
        sched_relax_domain_level: level.trim_end().parse().unwrap_or_default(),
    })
}

fn memory(dir: &Path) -> Result<Memory> {
    let entry = |kind: &str| {
        Ok::<_, crate::error::Error>(MemoryEntry {
            limit: number(dir, &format!("{kind}.limit_in_bytes"))?,
            usage: number(dir, &format!("{kind}.usage_in_bytes"))?,
            max: number(dir, &format!("{kind}.max_usage_in_bytes"))?,
            failcnt: number(dir, &format!("{kind}.failcnt"))?,
        })
    };
    let raw = text(dir, "memory.stat")?.unwrap_or_default();
    let raw: BTreeMap<String, u64> = pairs(&raw).map(|(key, value)| (key.to_owned(), value)).collect();
    Ok(Memory {
        cache: raw.get("cache").copied().unwrap_or_default(),
        usage: entry("memory")?,
        swap: entry("memory.memsw")?,
        kernel: entry("memory.kmem")?,
        kernel_tcp: entry("memory.kmem.tcp")?,
        raw,
        psi: None,
    })
}

fn pids(dir: &Path) -> Result<Pids> {
    let limit = number(dir, "pids.max")?;
    Ok(Pids { current: number(dir, "pids.current")?, limit: if limit == u64::MAX { 0 } else { limit } })
}

/// The first of these that has values: BFQ's files, CFQ's files, the counters of the throttling layer.
fn blkio(dir: &Path) -> Result<Blkio> {
    let mut blkio = Blkio::default();
    for prefix in ["blkio.bfq.", "blkio."] {
        let read = |what: &str| entries(dir, &format!("{prefix}{what}_recursive"));
        blkio.sectors_recursive = read("sectors")?;
        blkio.io_service_time_recursive = read("io_service_time")?;
        blkio.io_wait_time_recursive = read("io_wait_time")?;
        blkio.io_merged_recursive = read("io_merged")?;
        blkio.io_queued_recursive = read("io_queued")?;
        blkio.io_time_recursive = read("time")?;
        blkio.io_serviced_recursive = read("io_serviced")?;
        blkio.io_service_bytes_recursive = read("io_service_bytes")?;
        if blkio != Blkio::default() {
            return Ok(blkio);
        }
    }
    for suffix in ["_recursive", ""] {
        blkio.io_serviced_recursive = entries(dir, &format!("blkio.throttle.io_serviced{suffix}"))?;
        blkio.io_service_bytes_recursive = entries(dir, &format!("blkio.throttle.io_service_bytes{suffix}"))?;
        if blkio != Blkio::default() {
            break;
        }
    }
    Ok(blkio)
}

/// Lines `8:0 Read 4096` or `8:0 4096`; the `Total` of all devices is left out.
fn entries(dir: &Path, file: &str) -> Result<Vec<BlkioEntry>> {
    let text = text(dir, file)?.unwrap_or_default();
    let entry = |line: &str| {
        let words: Vec<&str> = line.split([' ', ':']).collect();
        let (major, minor, op, value) = match words.as_slice() {
            [major, minor, op, value] => (major, minor, *op, value),
            [major, minor, value] => (major, minor, "", value),
            _ => return None,
        };
        let number = |text: &str| text.parse::<u64>().ok();
        Some(BlkioEntry { major: number(major)?, minor: number(minor)?, op: op.to_owned(), value: number(value)? })
    };
    Ok(text.lines().filter_map(entry).collect())
}

fn hugetlb(dir: &Path) -> Result<BTreeMap<String, HugeTlb>> {
    let mut sizes = BTreeMap::new();
    for size in page_sizes() {
        let rsvd = text(dir, &format!("hugetlb.{size}.rsvd.usage_in_bytes"))?.map_or("", |_| "rsvd.");
        let read = |what: &str| number(dir, &format!("hugetlb.{size}.{rsvd}{what}"));
        let one =
            HugeTlb { usage: read("usage_in_bytes")?, max: read("max_usage_in_bytes")?, failcnt: read("failcnt")? };
        sizes.insert(size, one);
    }
    Ok(sizes)
}
