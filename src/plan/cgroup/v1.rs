//! Resources → files of v1 hierarchies (the kernel's `admin-guide/cgroup-v1/`).
//!
//! Pure. Values that only v1 has are written here, or noted as ignored if the controller is on cgroup2.

use super::{Absent, Limits, Version, nowhere};
use crate::error::{Error, Result};
use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxNetwork, LinuxResources, LinuxThrottleDevice};

const V2_HAS_NONE: &str = "cgroup v2 has nothing like it";

/// Adds the writes of every controller that is in a v1 hierarchy.
pub(super) fn writes(r: &LinuxResources, out: &mut Limits<'_>) -> Result<()> {
    let facts = out.facts;
    if let Some(memory) = r.memory() {
        old_memory(memory, out);
        match facts.version("memory", "memory") {
            Version::V1 => self::memory(memory, out)?,
            Version::V2 => memory_without_v2(memory, out),
            Version::Nowhere if has_memory_limit(memory) => return Err(nowhere("memory")),
            Version::Nowhere => {}
        }
    }
    if let Some(cpu) = r.cpu() {
        if *cpu != cpus_only(cpu) {
            match facts.version("cpu", "cpu") {
                Version::V1 => self::cpu(cpu, out)?,
                Version::V2 => cpu_without_v2(cpu, out),
                Version::Nowhere => return Err(nowhere("cpu")),
            }
        }
        if cpu.cpus().is_some() || cpu.mems().is_some() {
            match facts.version("cpuset", "cpuset") {
                Version::V1 => cpuset(cpu, "cpuset", out),
                Version::V2 => {}
                Version::Nowhere => return Err(nowhere("cpuset")),
            }
        }
    }
    if let Some(pids) = r.pids() {
        match facts.version("pids", "pids") {
            Version::V1 => self::pids(pids.limit(), "pids", out),
            Version::V2 => {}
            Version::Nowhere => return Err(nowhere("pids")),
        }
    }
    if let Some(io) = r.block_io().as_ref().filter(|io| **io != LinuxBlockIo::default()) {
        match facts.version("blkio", "io") {
            Version::V1 => block_io(io, out),
            Version::V2 => block_io_without_v2(io, out),
            Version::Nowhere => return Err(nowhere("blkio")),
        }
    }
    rest(r, out)
}

fn rest(r: &LinuxResources, out: &mut Limits<'_>) -> Result<()> {
    let facts = out.facts;
    if r.hugepage_limits().as_ref().is_some_and(|l| !l.is_empty()) {
        match facts.version("hugetlb", "hugetlb") {
            Version::V1 => hugetlb(r, "hugetlb", out)?,
            Version::V2 => {}
            Version::Nowhere => return Err(nowhere("hugetlb")),
        }
    }
    if r.rdma().as_ref().is_some_and(|l| !l.is_empty()) {
        match facts.version("rdma", "rdma") {
            Version::V1 => rdma(r, "rdma", out),
            Version::V2 => {}
            Version::Nowhere => return Err(nowhere("rdma")),
        }
    }
    r.network().as_ref().map_or(Ok(()), |network| self::network(network, out))
}

/// A copy with only the fields of the cpuset controller.
fn cpus_only(cpu: &LinuxCpu) -> LinuxCpu {
    let mut only = LinuxCpu::default();
    only.set_cpus(cpu.cpus().clone()).set_mems(cpu.mems().clone());
    only
}

fn has_memory_limit(memory: &LinuxMemory) -> bool {
    [memory.limit(), memory.reservation(), memory.swap()].into_iter().flatten().any(|v| v != 0)
}

/// Limits that current kernels no longer have.
fn old_memory(memory: &LinuxMemory, out: &mut Limits<'_>) {
    if memory.kernel().is_some_and(|v| v != 0) {
        out.ignored("memory.kernel", "kernel memory limits no longer exist");
    }
    if memory.kernel_tcp().is_some_and(|v| v != 0) {
        out.ignored("memory.kernelTCP", "kernel memory limits no longer exist");
    }
}

/// Some callers pass Go's -1 as an unsigned number to mean "not set".
fn swappiness(memory: &LinuxMemory) -> Option<u64> {
    memory.swappiness().filter(|v| *v != u64::MAX)
}

fn memory_without_v2(memory: &LinuxMemory, out: &mut Limits<'_>) {
    if swappiness(memory).is_some() {
        out.ignored("memory.swappiness", V2_HAS_NONE);
    }
    if memory.disable_oom_killer() == Some(true) {
        out.ignored("memory.disableOOMKiller", V2_HAS_NONE);
    }
}

fn memory(memory: &LinuxMemory, out: &mut Limits<'_>) -> Result<()> {
    let limit = memory.limit().filter(|v| *v != 0);
    let swap = memory.swap().filter(|v| *v != 0);
    if let Some(limit) = limit {
        let follows = swap.is_some() || limit == -1;
        out.write("memory", "memory.limit_in_bytes", limit, "linux.resources.memory.limit").retry_on_einval = follows;
    }
    match (limit, swap) {
        (_, Some(swap)) => {
            out.write("memory", "memory.memsw.limit_in_bytes", swap, "linux.resources.memory.swap");
        }
        // without this, an earlier limit on memory and swap would still bound memory
        (Some(-1), None) => {
            let write = out.write("memory", "memory.memsw.limit_in_bytes", -1, "linux.resources.memory.limit");
            write.absent = Absent::Skip;
        }
        (_, None) => {}
    }
    if let Some(low) = memory.reservation().filter(|v| *v != 0) {
        out.write("memory", "memory.soft_limit_in_bytes", low, "linux.resources.memory.reservation");
    }
    if memory.disable_oom_killer() == Some(true) {
        out.write("memory", "memory.oom_control", 1, "linux.resources.memory.disableOOMKiller");
    }
    match swappiness(memory) {
        Some(swappiness @ 0..=100) => {
            out.write("memory", "memory.swappiness", swappiness, "linux.resources.memory.swappiness");
        }
        Some(other) => {
            let what = format!("invalid memory swappiness value: {other} (valid range is 0-100)");
            return Err(Error::spec("linux.resources.memory.swappiness", what));
        }
        None => {}
    }
    Ok(())
}

fn cpu_without_v2(cpu: &LinuxCpu, out: &mut Limits<'_>) {
    if cpu.realtime_runtime().is_some_and(|v| v != 0) {
        out.ignored("cpu.realtimeRuntime", V2_HAS_NONE);
    }
    if cpu.realtime_period().is_some_and(|v| v != 0) {
        out.ignored("cpu.realtimePeriod", V2_HAS_NONE);
    }
}

fn cpu(cpu: &LinuxCpu, out: &mut Limits<'_>) -> Result<()> {
    let runtime = cpu.realtime_runtime().filter(|v| *v != 0);
    if let Some(period) = cpu.realtime_period().filter(|v| *v != 0) {
        out.write("cpu", "cpu.rt_period_us", period, "linux.resources.cpu.realtimePeriod").retry_on_einval =
            runtime.is_some();
    }
    if let Some(runtime) = runtime {
        out.write("cpu", "cpu.rt_runtime_us", runtime, "linux.resources.cpu.realtimeRuntime");
    }
    if let Some(shares) = cpu.shares().filter(|v| *v != 0) {
        // the kernel would silently change the value
        if shares < 2 {
            return Err(Error::spec("linux.resources.cpu.shares", "the minimum allowed cpu-shares is 2"));
        }
        if shares > 262_144 {
            return Err(Error::spec("linux.resources.cpu.shares", "the maximum allowed cpu-shares is 262144"));
        }
        let write = out.write("cpu", "cpu.shares", shares, "linux.resources.cpu.shares");
        write.retry_on_einval = cpu.idle().is_some();
    }
    let quota = cpu.quota().filter(|v| *v != 0);
    if let Some(period) = cpu.period().filter(|v| *v != 0) {
        out.write("cpu", "cpu.cfs_period_us", period, "linux.resources.cpu.period").retry_on_einval = quota.is_some();
    }
    if let Some(burst) = cpu.burst() {
        let write = out.write("cpu", "cpu.cfs_burst_us", burst, "linux.resources.cpu.burst");
        write.retry_on_einval = quota.is_some();
    }
    if let Some(quota) = quota {
        out.write("cpu", "cpu.cfs_quota_us", quota, "linux.resources.cpu.quota");
    }
    if let Some(idle) = cpu.idle() {
        out.write("cpu", "cpu.idle", idle, "linux.resources.cpu.idle");
    }
    Ok(())
}

/// cpuset has the same files on v1 and v2.
pub(super) fn cpuset(cpu: &LinuxCpu, hierarchy: &'static str, out: &mut Limits<'_>) {
    if let Some(cpus) = cpu.cpus().as_ref().filter(|v| !v.is_empty()) {
        out.write(hierarchy, "cpuset.cpus", cpus, "linux.resources.cpu.cpus");
    }
    if let Some(mems) = cpu.mems().as_ref().filter(|v| !v.is_empty()) {
        out.write(hierarchy, "cpuset.mems", mems, "linux.resources.cpu.mems");
    }
}

/// pids has the same file on v1 and v2. Zero becomes one, because init itself could not be created otherwise.
pub(super) fn pids(limit: i64, hierarchy: &'static str, out: &mut Limits<'_>) {
    let value = if limit < 0 { "max".to_owned() } else { limit.max(1).to_string() };
    out.write(hierarchy, "pids.max", value, "linux.resources.pids.limit");
}

fn block_io_without_v2(io: &LinuxBlockIo, out: &mut Limits<'_>) {
    let devices = io.weight_device().as_deref().unwrap_or_default();
    if io.leaf_weight().is_some() || devices.iter().any(|d| d.leaf_weight().is_some()) {
        out.ignored("blockIO.leafWeight", V2_HAS_NONE);
    }
}

fn block_io(io: &LinuxBlockIo, out: &mut Limits<'_>) {
    if let Some(weight) = io.weight().filter(|v| *v != 0) {
        bfq_or(out, "blkio.bfq.weight", "blkio.weight", weight.to_string(), "weight".to_owned());
    }
    if let Some(weight) = io.leaf_weight().filter(|v| *v != 0) {
        out.write("blkio", "blkio.leaf_weight", weight, "linux.resources.blockIO.leafWeight");
    }
    for (i, device) in io.weight_device().as_deref().unwrap_or_default().iter().enumerate() {
        let node = format!("{}:{}", device.major(), device.minor());
        if let Some(weight) = device.weight().filter(|v| *v != 0) {
            let value = format!("{node} {weight}");
            bfq_or(out, "blkio.bfq.weight_device", "blkio.weight_device", value, format!("weightDevice[{i}].weight"));
        }
        if let Some(weight) = device.leaf_weight().filter(|v| *v != 0) {
            let field = format!("linux.resources.blockIO.weightDevice[{i}].leafWeight");
            out.write("blkio", "blkio.leaf_weight_device", format!("{node} {weight}"), field);
        }
    }
    for throttle in throttles(io) {
        for (i, device) in throttle.devices.iter().enumerate() {
            let value = format!("{}:{} {}", device.major(), device.minor(), device.rate());
            out.write("blkio", throttle.v1, value, format!("linux.resources.blockIO.{}[{i}].rate", throttle.field));
        }
    }
}

fn bfq_or(out: &mut Limits<'_>, bfq: &'static str, plain: &'static str, value: String, field: String) {
    let write = out.write("blkio", bfq, &value, format!("linux.resources.blockIO.{field}"));
    write.absent = Absent::Fallback { file: plain.into(), value };
}

/// One of the four kinds of I/O throttling, with its names.
pub(super) struct Throttle<'a> {
    /// The file on v1.
    v1: &'static str,
    /// The key in v2's `io.max`.
    pub(super) v2: &'static str,
    /// The key in `config.json`.
    pub(super) field: &'static str,
    pub(super) devices: &'a [LinuxThrottleDevice],
}

/// The four kinds of I/O throttling of a `blockIO`.
pub(super) fn throttles(io: &LinuxBlockIo) -> [Throttle<'_>; 4] {
    [
        Throttle {
            v1: "blkio.throttle.read_bps_device",
            v2: "rbps",
            field: "throttleReadBpsDevice",
            devices: io.throttle_read_bps_device().as_deref().unwrap_or_default(),
        },
        Throttle {
            v1: "blkio.throttle.write_bps_device",
            v2: "wbps",
            field: "throttleWriteBpsDevice",
            devices: io.throttle_write_bps_device().as_deref().unwrap_or_default(),
        },
        Throttle {
            v1: "blkio.throttle.read_iops_device",
            v2: "riops",
            field: "throttleReadIOPSDevice",
            devices: io.throttle_read_iops_device().as_deref().unwrap_or_default(),
        },
        Throttle {
            v1: "blkio.throttle.write_iops_device",
            v2: "wiops",
            field: "throttleWriteIOPSDevice",
            devices: io.throttle_write_iops_device().as_deref().unwrap_or_default(),
        },
    ]
}

/// The page size of a hugepage limit, as the kernel spells it in file names (`2MB`).
pub(super) fn page_size(size: &str, i: usize) -> Result<&str> {
    let digits = size.trim_end_matches("KB").trim_end_matches("MB").trim_end_matches("GB");
    if digits.is_empty() || digits.len() + 2 != size.len() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        let field = format!("linux.resources.hugepageLimits[{i}].pageSize");
        return Err(Error::spec(field, format!("{size:?} is no page size like \"2MB\"")));
    }
    Ok(size)
}

fn hugetlb(r: &LinuxResources, hierarchy: &'static str, out: &mut Limits<'_>) -> Result<()> {
    for (i, limit) in r.hugepage_limits().as_deref().unwrap_or_default().iter().enumerate() {
        let size = page_size(limit.page_size(), i)?;
        let field = format!("linux.resources.hugepageLimits[{i}].limit");
        out.write(hierarchy, format!("hugetlb.{size}.limit_in_bytes"), limit.limit(), field.clone());
        // reservations need a limit of their own, or they bypass the limit on usage (Linux 5.7)
        out.write(hierarchy, format!("hugetlb.{size}.rsvd.limit_in_bytes"), limit.limit(), field).absent = Absent::Skip;
    }
    Ok(())
}

/// rdma has the same file on v1 and v2.
pub(super) fn rdma(r: &LinuxResources, hierarchy: &'static str, out: &mut Limits<'_>) {
    let mut devices: Vec<_> = r.rdma().iter().flatten().collect();
    devices.sort_by_key(|(name, _)| *name);
    for (name, limit) in devices {
        let mut value = name.clone();
        if let Some(handles) = limit.hca_handles() {
            value.push_str(&format!(" hca_handle={handles}"));
        }
        if let Some(objects) = limit.hca_objects() {
            value.push_str(&format!(" hca_object={objects}"));
        }
        out.write(hierarchy, "rdma.max", value, format!("linux.resources.rdma[{name:?}]"));
    }
}

fn network(network: &LinuxNetwork, out: &mut Limits<'_>) -> Result<()> {
    let facts = out.facts;
    if let Some(class) = network.class_id().filter(|v| *v != 0) {
        match facts.version("net_cls", "") {
            Version::V1 => drop(out.write("net_cls", "net_cls.classid", class, "linux.resources.network.classID")),
            Version::V2 => out.ignored("network.classID", V2_HAS_NONE),
            Version::Nowhere => return Err(nowhere("net_cls")),
        }
    }
    for (i, priority) in network.priorities().as_deref().unwrap_or_default().iter().enumerate() {
        match facts.version("net_prio", "") {
            Version::V1 => {
                let value = format!("{} {}", priority.name(), priority.priority());
                out.write("net_prio", "net_prio.ifpriomap", value, format!("linux.resources.network.priorities[{i}]"));
            }
            Version::V2 => out.ignored("network.priorities", V2_HAS_NONE),
            Version::Nowhere => return Err(nowhere("net_prio")),
        }
    }
    Ok(())
}
