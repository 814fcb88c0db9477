//! Statistics of a cgroup as runc's `events` prints them: the same field names, order, and omitted zeros.
//!
//! May use sys and error. Times are nanoseconds, sizes bytes.

mod v1;
mod v2;

use super::Cgroup;
use crate::error::{Context, Result};
use crate::sys::Errno;
use crate::sys::cgroupfs::read_file;
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;
use std::path::Path;

/// The `data` of a `stats` event.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Stats {
    /// Processor time.
    pub cpu: Cpu,
    /// Processors and memory nodes; cgroup v1 only.
    pub cpuset: CpuSet,
    /// Memory.
    pub memory: Memory,
    /// Processes.
    pub pids: Pids,
    /// Block devices.
    pub blkio: Blkio,
    /// Huge pages, by size (`2MB`).
    pub hugetlb: BTreeMap<String, HugeTlb>,
    /// Resource Director Technology; always empty.
    pub intel_rdt: serde_json::Map<String, serde_json::Value>,
    /// Interfaces that the runtime created: always none.
    pub network_interfaces: (),
}

/// Processor time.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Cpu {
    /// Time used.
    pub usage: CpuUsage,
    /// Effects of the quota.
    pub throttling: Throttling,
    /// Pressure stall information.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Psi>,
}

/// Processor time used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CpuUsage {
    /// All.
    #[serde(skip_serializing_if = "is_zero")]
    pub total: u64,
    /// By processor; cgroup v1 only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu: Vec<u64>,
    /// In the kernel, by processor; cgroup v1 only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_kernel: Vec<u64>,
    /// In user space, by processor; cgroup v1 only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_user: Vec<u64>,
    /// In the kernel.
    pub kernel: u64,
    /// In user space.
    pub user: u64,
}

/// Effects of the CPU quota.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Throttling {
    /// Periods in which something ran.
    #[serde(skip_serializing_if = "is_zero")]
    pub periods: u64,
    /// Periods in which the quota was used up.
    #[serde(skip_serializing_if = "is_zero")]
    pub throttled_periods: u64,
    /// How long processes waited for the next period.
    #[serde(skip_serializing_if = "is_zero")]
    pub throttled_time: u64,
}

/// Pressure stall information (the kernel's `accounting/psi.rst`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Psi {
    /// At least one process waited.
    pub some: Pressure,
    /// All processes waited.
    pub full: Pressure,
}

/// Share of time stalled, in per cent, over three windows; and the total time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Pressure {
    /// Ten seconds.
    #[serde(serialize_with = "go_float")]
    pub avg10: f64,
    /// A minute.
    #[serde(serialize_with = "go_float")]
    pub avg60: f64,
    /// Five minutes.
    #[serde(serialize_with = "go_float")]
    pub avg300: f64,
    /// In all, in microseconds.
    pub total: u64,
}

/// The files of the v1 cpuset controller.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CpuSet {
    /// Processors.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cpus: Vec<u16>,
    /// `cpuset.cpu_exclusive`.
    pub cpu_exclusive: u64,
    /// Memory nodes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mems: Vec<u16>,
    /// `cpuset.mem_hardwall`.
    pub mem_hardwall: u64,
    /// `cpuset.mem_exclusive`.
    pub mem_exclusive: u64,
    /// `cpuset.memory_migrate`.
    pub memory_migrate: u64,
    /// `cpuset.memory_spread_page`.
    pub memory_spread_page: u64,
    /// `cpuset.memory_spread_slab`.
    pub memory_spread_slab: u64,
    /// `cpuset.memory_pressure`.
    pub memory_pressure: u64,
    /// `cpuset.sched_load_balance`.
    pub sched_load_balance: u64,
    /// `cpuset.sched_relax_domain_level`.
    pub sched_relax_domain_level: i64,
}

/// Memory.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Memory {
    /// Page cache.
    #[serde(skip_serializing_if = "is_zero")]
    pub cache: u64,
    /// Memory.
    pub usage: MemoryEntry,
    /// Memory and swap together, as on v1.
    pub swap: MemoryEntry,
    /// Kernel memory; cgroup v1 only.
    pub kernel: MemoryEntry,
    /// TCP buffers; cgroup v1 only.
    #[serde(rename = "kernelTCP")]
    pub kernel_tcp: MemoryEntry,
    /// All of `memory.stat`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub raw: BTreeMap<String, u64>,
    /// Pressure stall information.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Psi>,
}

/// One kind of memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct MemoryEntry {
    /// The limit; all bits set on v2 where there is none.
    pub limit: u64,
    /// Current value.
    #[serde(skip_serializing_if = "is_zero")]
    pub usage: u64,
    /// Maximum so far.
    #[serde(skip_serializing_if = "is_zero")]
    pub max: u64,
    /// How often the limit was hit.
    pub failcnt: u64,
}

/// Processes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Pids {
    /// Current value.
    #[serde(skip_serializing_if = "is_zero")]
    pub current: u64,
    /// The limit; 0 where there is none.
    #[serde(skip_serializing_if = "is_zero")]
    pub limit: u64,
}

/// Block devices. Which lists are filled depends on the cgroup version and the I/O scheduler.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Blkio {
    /// Bytes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_service_bytes_recursive: Vec<BlkioEntry>,
    /// Operations.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_serviced_recursive: Vec<BlkioEntry>,
    /// Queued operations.
    #[serde(skip_serializing_if = "Vec::is_empty", rename = "ioQueueRecursive")]
    pub io_queued_recursive: Vec<BlkioEntry>,
    /// Time between dispatch and completion.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_service_time_recursive: Vec<BlkioEntry>,
    /// Time in the scheduler's queues.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_wait_time_recursive: Vec<BlkioEntry>,
    /// Merged operations.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_merged_recursive: Vec<BlkioEntry>,
    /// Time for which the device was allocated.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_time_recursive: Vec<BlkioEntry>,
    /// Sectors.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sectors_recursive: Vec<BlkioEntry>,
    /// Pressure stall information.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Psi>,
}

/// A number for one device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct BlkioEntry {
    /// The device.
    #[serde(skip_serializing_if = "is_zero")]
    pub major: u64,
    /// The device.
    #[serde(skip_serializing_if = "is_zero")]
    pub minor: u64,
    /// `Read`, `Write`, `Sync`, …
    #[serde(skip_serializing_if = "String::is_empty")]
    pub op: String,
    /// The number.
    #[serde(skip_serializing_if = "is_zero")]
    pub value: u64,
}

/// Huge pages of one size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct HugeTlb {
    /// Current value.
    #[serde(skip_serializing_if = "is_zero")]
    pub usage: u64,
    /// Maximum so far; cgroup v1 only.
    #[serde(skip_serializing_if = "is_zero")]
    pub max: u64,
    /// How often the limit was hit.
    pub failcnt: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's form
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Whole numbers without a fraction, as Go's encoder writes them.
#[allow(clippy::trivially_copy_pass_by_ref)] // serde's form
fn go_float<S: Serializer>(number: &f64, to: S) -> std::result::Result<S::Ok, S::Error> {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // per cent
    let whole = *number as u64;
    if number.fract() == 0.0 && *number >= 0.0 { to.serialize_u64(whole) } else { to.serialize_f64(*number) }
}

impl Cgroup {
    /// Reads the statistics. Values of missing controllers are zero.
    ///
    /// # Errors
    /// A file can't be read, or the cgroup no longer exists.
    pub fn stats(&self) -> Result<Stats> {
        match self.unified() {
            Some(path) if self.is_pure() => v2::stats(path),
            Some(path) => v1::stats(&self.cgroup_paths).and_then(|stats| self.complete(stats, v2::stats(path)?)),
            None => v1::stats(&self.cgroup_paths),
        }
    }

    /// On a hybrid machine: adds the statistics of controllers that are on cgroup2, not in a v1 hierarchy.
    fn complete(&self, mut stats: Stats, tree: Stats) -> Result<Stats> {
        let misses = |controller: &str| !self.cgroup_paths.contains_key(controller);
        if misses("cpu") && misses("cpuacct") {
            stats.cpu = tree.cpu;
        }
        if misses("memory") {
            stats.memory = tree.memory;
        }
        if misses("pids") {
            stats.pids = tree.pids;
        }
        if misses("blkio") {
            stats.blkio = tree.blkio;
        }
        if misses("hugetlb") {
            stats.hugetlb = tree.hugetlb;
        }
        Ok(stats)
    }
}

/// The contents of a file; `None` if it does not exist.
fn text(dir: &Path, file: &str) -> Result<Option<String>> {
    let path = dir.join(file);
    match read_file(&path) {
        Ok(text) => Ok(Some(text)),
        Err(Errno::ENOENT | Errno::EOPNOTSUPP) => Ok(None),
        Err(errno) => Err(errno).context(|| format!("read {}", path.display())),
    }
}

/// The number in a file; `max` is `u64::MAX`. Zero if the file does not exist.
fn number(dir: &Path, file: &str) -> Result<u64> {
    Ok(text(dir, file)?.map_or(0, |text| parse(text.trim_end())))
}

fn parse(text: &str) -> u64 {
    if text == "max" { u64::MAX } else { text.parse().unwrap_or_default() }
}

/// `key value` lines.
fn pairs(text: &str) -> impl Iterator<Item = (&str, u64)> {
    text.lines().filter_map(|line| line.split_once(' ').map(|(key, value)| (key, parse(value))))
}

/// A list of numbers and ranges: `0-2,5`.
fn list(text: &str) -> Vec<u16> {
    let part = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        first.parse().ok().zip(last.parse().ok()).map(|(first, last)| first..=last)
    };
    text.trim_end().split(',').filter_map(part).flatten().collect()
}

/// The kernel's huge page sizes, as the names of hugetlb files spell them.
fn page_sizes() -> Vec<String> {
    let entries = std::fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().flatten();
    let size = |entry: std::fs::DirEntry| {
        let name = entry.file_name();
        let kilo: u64 = name.to_str()?.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
        Some(match kilo {
            1_048_576.. => format!("{}GB", kilo / 1_048_576),
            1024.. => format!("{}MB", kilo / 1024),
            _ => format!("{kilo}KB"),
        })
    };
    entries.filter_map(size).collect()
}

#[cfg(test)]
mod tests;
