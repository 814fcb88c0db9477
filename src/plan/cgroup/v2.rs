//! Resources → files of cgroup2 (the kernel's `admin-guide/cgroup-v2.rst`).
//!
//! Pure. The spec's values are v1's: weights and swap are converted by the formulas of runc and crun.

use super::v1::{cpuset, page_size, pids, rdma, throttles};
use super::{Absent, CgroupFacts, Limits, MemoryCheck, Version};
use crate::error::{Error, Result};
use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources};

/// The period of `cpu.max` if the bundle has none: the kernel's default, in microseconds.
const CPU_PERIOD: u64 = 100_000;

/// Adds the writes of every controller that is on cgroup2.
pub(super) fn writes(r: &LinuxResources, out: &mut Limits<'_>) -> Result<()> {
    let facts = out.facts;
    let here = |v1, v2| facts.version(v1, v2) == Version::V2;
    if let Some(limit) = r.pids().map(|p| p.limit()).filter(|_| here("pids", "pids")) {
        pids(limit, "", out);
    }
    if let Some(memory) = r.memory().as_ref().filter(|_| here("memory", "memory")) {
        self::memory(memory, out)?;
    }
    if let Some(io) = r.block_io().as_ref().filter(|_| here("blkio", "io")) {
        block_io(io, out)?;
    }
    if let Some(cpu) = r.cpu().as_ref().filter(|_| here("cpu", "cpu")) {
        self::cpu(cpu, out);
    }
    if let Some(cpu) = r.cpu().as_ref().filter(|_| here("cpuset", "cpuset")) {
        cpuset(cpu, "", out);
    }
    if here("hugetlb", "hugetlb") {
        hugetlb(r, out)?;
    }
    if here("rdma", "rdma") {
        rdma(r, "", out);
    }
    unified(r, out)
}

/// A limit in the form of these files: `-1` becomes `max`.
fn limit(value: i64, field: &'static str) -> Result<String> {
    match value {
        -1 => Ok("max".to_owned()),
        0.. => Ok(value.to_string()),
        _ => Err(Error::spec(field, format!("invalid memory value: {value}"))),
    }
}

fn memory(memory: &LinuxMemory, out: &mut Limits<'_>) -> Result<()> {
    const LIMIT: &str = "linux.resources.memory.limit";
    const SWAP: &str = "linux.resources.memory.swap";
    const LOW: &str = "linux.resources.memory.reservation";
    let some = |value: Option<i64>| value.filter(|v| *v != 0);
    let positive = |value: Option<i64>| value.filter(|v| *v > 0).and_then(|v| u64::try_from(v).ok());
    let asked = [memory.limit(), memory.swap(), memory.reservation()].into_iter().any(|v| some(v).is_some());
    out.plan.domain |= asked;
    let check = MemoryCheck { limit: positive(memory.limit()), swap: positive(memory.swap()) };
    if memory.check_before_update() == Some(true) && (check.limit.is_some() || check.swap.is_some()) {
        out.plan.memory_check = Some(check);
    }
    if let Some(value) = swap_max(some(memory.limit()), some(memory.swap()))? {
        let write = out.write("", "memory.swap.max", &value, SWAP);
        // without swap accounting there is no such file, and these values do not need it
        if value == "max" || value == "0" {
            write.absent = Absent::Skip;
        }
    }
    if let Some(value) = some(memory.limit()) {
        out.write("", "memory.max", limit(value, LIMIT)?, LIMIT);
    }
    if let Some(value) = some(memory.reservation()) {
        out.write("", "memory.low", limit(value, LOW)?, LOW);
    }
    Ok(())
}

/// `memory.swap.max` from the spec's limits on memory, and on memory and swap together.
pub(super) fn swap_max(memory: Option<i64>, swap: Option<i64>) -> Result<Option<String>> {
    const SWAP: &str = "linux.resources.memory.swap";
    let spec = |what: &str| Err(Error::spec(SWAP, what));
    match (memory, swap) {
        // no limit for memory means none for swap, unless it has its own
        (Some(-1), None) | (_, Some(-1)) => Ok(Some("max".to_owned())),
        (_, None) => Ok(None),
        (Some(-1), Some(swap)) => limit(swap, SWAP).map(Some),
        (None, Some(_)) => spec("unable to set swap limit without memory limit"),
        (Some(memory), Some(_)) if memory < 0 => spec(&format!("invalid memory value: {memory}")),
        (Some(memory), Some(swap)) if swap < memory => spec("memory+swap limit should be >= memory limit"),
        (Some(memory), Some(swap)) => Ok(Some((swap - memory).to_string())),
    }
}

/// `cpu.weight` (1..10000, default 100) from v1's shares (2..262144, default 1024): both ends and the defaults correspond.
#[must_use]
pub(super) fn cpu_weight(shares: u64) -> u64 {
    match shares {
        ..=2 => 1,
        262_144.. => 10_000,
        _ => {
            #[allow(clippy::cast_precision_loss)] // below 2^18
            let l = (shares as f64).log2();
            let exponent = (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0;
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // 1..=10000
            let weight = 10_f64.powf(exponent).ceil() as u64;
            weight
        }
    }
}

fn cpu(cpu: &LinuxCpu, out: &mut Limits<'_>) {
    // an idle cgroup refuses a weight, so cpu.idle comes first
    if let Some(idle) = cpu.idle() {
        out.write("", "cpu.idle", idle, "linux.resources.cpu.idle");
    }
    if let Some(shares) = cpu.shares().filter(|v| *v != 0) {
        out.write("", "cpu.weight", cpu_weight(shares), "linux.resources.cpu.shares");
    }
    let quota = cpu.quota().filter(|v| *v != 0);
    let period = cpu.period().filter(|v| *v != 0);
    if let Some(burst) = cpu.burst() {
        let write = out.write("", "cpu.max.burst", burst, "linux.resources.cpu.burst");
        write.retry_on_einval = quota.is_some() || period.is_some();
    }
    if quota.is_some() || period.is_some() {
        let max = quota.filter(|v| *v > 0).map_or_else(|| "max".to_owned(), |v| v.to_string());
        let field = if quota.is_some() { "linux.resources.cpu.quota" } else { "linux.resources.cpu.period" };
        out.write("", "cpu.max", format!("{max} {}", period.unwrap_or(CPU_PERIOD)), field);
    }
}

/// `io.weight` (1..10000) from v1's blkio weight (10..1000).
#[must_use]
pub(super) fn io_weight(weight: u16) -> u64 {
    1 + u64::from(weight).saturating_sub(10) * 9999 / 990
}

fn block_io(io: &LinuxBlockIo, out: &mut Limits<'_>) -> Result<()> {
    let before = out.plan.writes.len();
    let valid = |weight: u16, field: &str| match weight {
        10..=1000 => Ok(weight),
        _ => Err(Error::spec(format!("linux.resources.blockIO.{field}"), format!("{weight} is not within 10..1000"))),
    };
    if let Some(weight) = io.weight().filter(|v| *v != 0) {
        let weight = valid(weight, "weight")?;
        let write = out.write("", "io.bfq.weight", weight, "linux.resources.blockIO.weight");
        write.absent = Absent::Fallback { file: "io.weight".into(), value: io_weight(weight).to_string() };
    }
    for (i, device) in io.weight_device().as_deref().unwrap_or_default().iter().enumerate() {
        let Some(weight) = device.weight().filter(|v| *v != 0) else { continue };
        let field = format!("weightDevice[{i}].weight");
        let weight = valid(weight, &field)?;
        let node = format!("{}:{}", device.major(), device.minor());
        let write =
            out.write("", "io.bfq.weight", format!("{node} {weight}"), format!("linux.resources.blockIO.{field}"));
        write.absent = Absent::Fallback { file: "io.weight".into(), value: format!("{node} {}", io_weight(weight)) };
    }
    for throttle in throttles(io) {
        for (i, device) in throttle.devices.iter().enumerate() {
            // 0 removes a limit on v1, "max" on v2
            let rate = if device.rate() == 0 { "max".to_owned() } else { device.rate().to_string() };
            let value = format!("{}:{} {}={rate}", device.major(), device.minor(), throttle.v2);
            out.write("", "io.max", value, format!("linux.resources.blockIO.{}[{i}].rate", throttle.field));
        }
    }
    out.plan.domain |= out.plan.writes.len() > before;
    Ok(())
}

fn hugetlb(r: &LinuxResources, out: &mut Limits<'_>) -> Result<()> {
    for (i, huge) in r.hugepage_limits().as_deref().unwrap_or_default().iter().enumerate() {
        let size = page_size(huge.page_size(), i)?;
        let field = format!("linux.resources.hugepageLimits[{i}].limit");
        let value = if huge.limit() == -1 { "max".to_owned() } else { huge.limit().to_string() };
        out.write("", format!("hugetlb.{size}.max"), &value, field.clone());
        // reservations need a limit of their own, or they bypass the limit on usage (Linux 5.7)
        out.write("", format!("hugetlb.{size}.rsvd.max"), &value, field).absent = Absent::Skip;
        out.plan.domain = true;
    }
    Ok(())
}

/// `unified`: files that the bundle names, written verbatim after everything else. A value with several lines becomes one write
/// for each line.
fn unified(r: &LinuxResources, out: &mut Limits<'_>) -> Result<()> {
    let mut files: Vec<_> = r.unified().iter().flatten().collect();
    files.sort();
    match out.facts {
        CgroupFacts::Unified(_) => {}
        CgroupFacts::Legacy { .. } if files.is_empty() => {}
        CgroupFacts::Legacy { .. } => {
            return Err(Error::msg("invalid configuration: cannot use unified on cgroup v1"));
        }
    }
    for (file, value) in files {
        let field = format!("linux.resources.unified[{file:?}]");
        if file.contains('/') {
            return Err(Error::spec(field, format!("unified resource {file:?} must be a file name (no slashes)")));
        }
        if !file.split_once('.').is_some_and(|(controller, file)| !controller.is_empty() && !file.is_empty()) {
            let what = format!("unified resource {file:?} must be in the form CONTROLLER.PARAMETER");
            return Err(Error::spec(field, what));
        }
        for line in value.lines().filter(|line| !line.is_empty()) {
            out.write("", file.clone(), line, field.clone());
        }
        let threaded = ["cpu.", "pids.", "cpuset.", "perf_event.", "cgroup."].iter().any(|c| file.starts_with(c));
        out.plan.domain |= !threaded;
    }
    Ok(())
}
