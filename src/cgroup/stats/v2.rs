//! Statistics from cgroup2, in the form of v1's. May use `stats` only.

use super::{
    Blkio, BlkioEntry, Cpu, HugeTlb, MemoryEntry, Pids, Pressure, Psi, Stats, number, page_sizes, pairs, text,
};
use crate::error::Result;
use std::path::Path;

pub(super) fn stats(dir: &Path) -> Result<Stats> {
    let mut stats = Stats { cpu: cpu(dir)?, pids: pids(dir)?, blkio: blkio(dir)?, ..Stats::default() };
    memory(dir, &mut stats)?;
    for size in page_sizes() {
        let of = |what: &str| format!("hugetlb.{size}.{what}");
        let Some(usage) = text(dir, &of("rsvd.current"))?.or(text(dir, &of("current"))?) else { continue };
        let events = text(dir, &of("events"))?.unwrap_or_default();
        let failcnt = pairs(&events).find(|(key, _)| *key == "max").map_or(0, |(_, value)| value);
        stats.hugetlb.insert(size, HugeTlb { usage: super::parse(usage.trim_end()), max: 0, failcnt });
    }
    Ok(stats)
}

fn cpu(dir: &Path) -> Result<Cpu> {
    let mut cpu = Cpu { psi: psi(dir, "cpu.pressure")?, ..Cpu::default() };
    // this file exists without the cpu controller, too
    for (key, value) in pairs(&text(dir, "cpu.stat")?.unwrap_or_default()) {
        match key {
            "usage_usec" => cpu.usage.total = value * 1000,
            "user_usec" => cpu.usage.user = value * 1000,
            "system_usec" => cpu.usage.kernel = value * 1000,
            "nr_periods" => cpu.throttling.periods = value,
            "nr_throttled" => cpu.throttling.throttled_periods = value,
            "throttled_usec" => cpu.throttling.throttled_time = value * 1000,
            _ => {}
        }
    }
    Ok(cpu)
}

fn pids(dir: &Path) -> Result<Pids> {
    let Some(current) = text(dir, "pids.current")? else {
        // without the pids controller the processes are counted
        let procs = text(dir, "cgroup.procs")?.unwrap_or_default();
        return Ok(Pids { current: procs.lines().count() as u64, limit: 0 });
    };
    let limit = number(dir, "pids.max")?;
    Ok(Pids { current: super::parse(current.trim_end()), limit: if limit == u64::MAX { 0 } else { limit } })
}

fn memory(dir: &Path, stats: &mut Stats) -> Result<()> {
    let memory = &mut stats.memory;
    memory.psi = psi(dir, "memory.pressure")?;
    let Some(raw) = text(dir, "memory.stat")? else { return Ok(()) };
    memory.raw = pairs(&raw).map(|(key, value)| (key.to_owned(), value)).collect();
    memory.cache = memory.raw.get("file").copied().unwrap_or_default();
    let entry = |kind: &str| {
        Ok::<_, crate::error::Error>(MemoryEntry {
            limit: number(dir, &format!("{kind}.max"))?,
            usage: number(dir, &format!("{kind}.current"))?,
            max: number(dir, &format!("{kind}.peak"))?,
            failcnt: 0,
        })
    };
    memory.usage = entry("memory")?;
    let swap = entry("memory.swap")?;
    // v1's value is memory and swap together; a peak of the sum is not known
    memory.swap = MemoryEntry {
        limit: if swap.limit == u64::MAX { swap.limit } else { swap.limit.saturating_add(memory.usage.limit) },
        usage: swap.usage.saturating_add(memory.usage.usage),
        ..MemoryEntry::default()
    };
    Ok(())
}

fn blkio(dir: &Path) -> Result<Blkio> {
    let mut blkio = Blkio { psi: psi(dir, "io.pressure")?, ..Blkio::default() };
    for line in text(dir, "io.stat")?.unwrap_or_default().lines() {
        let mut words = line.split(' ');
        let Some((major, minor)) = words.next().and_then(|device| device.split_once(':')) else { continue };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let (list, op) = match key {
                "rbytes" => (&mut blkio.io_service_bytes_recursive, "Read"),
                "wbytes" => (&mut blkio.io_service_bytes_recursive, "Write"),
                "rios" => (&mut blkio.io_serviced_recursive, "Read"),
                "wios" => (&mut blkio.io_serviced_recursive, "Write"),
                _ => continue,
            };
            list.push(BlkioEntry {
                major: super::parse(major),
                minor: super::parse(minor),
                op: op.to_owned(),
                value: super::parse(value),
            });
        }
    }
    Ok(blkio)
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, and the same for `full`.
fn psi(dir: &Path, file: &str) -> Result<Option<Psi>> {
    Ok(text(dir, file)?.map(|text| pressure(&text)))
}

pub(super) fn pressure(text: &str) -> Psi {
    let mut psi = Psi::default();
    for line in text.lines() {
        let mut words = line.split(' ');
        let part = match words.next() {
            Some("some") => &mut psi.some,
            Some("full") => &mut psi.full,
            Some(_) | None => continue,
        };
        *part = Pressure::default();
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            match key {
                "avg10" => part.avg10 = value.parse().unwrap_or_default(),
                "avg60" => part.avg60 = value.parse().unwrap_or_default(),
                "avg300" => part.avg300 = value.parse().unwrap_or_default(),
                "total" => part.total = super::parse(value),
                _ => {}
            }
        }
    }
    psi
}
