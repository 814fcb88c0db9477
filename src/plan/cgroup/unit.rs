//! `linux.cgroupsPath` and `linux.resources` → a transient systemd unit: its name, slice and properties.
//!
//! Pure. Names and units of properties: systemd.resource-control(5), org.freedesktop.systemd1(5). Limits that systemd does not
//! know, and exact values that it would round, are written to the cgroup's files afterwards. Those that it knows must also be
//! properties of the unit, because systemd writes its own values again when it reloads.

use super::devices::Allowed;
use super::property::{Property, Value, optional, property};
use super::{CgroupFacts, CgroupRequest, Rootless, Version, v2, variant};
use crate::error::{Error, Result};
use oci_spec::runtime::{LinuxCpu, LinuxResources};
use std::path::{Path, PathBuf};

/// Microseconds in a second.
const SECOND: u64 = 1_000_000;
/// The period of a CPU quota if the bundle has none: the kernel's default, in microseconds.
const CPU_PERIOD: u64 = 100_000;
/// systemd rounds CPU quotas to hundredths of a CPU: 10 ms in a second.
const CPU_STEP: u64 = 10_000;
/// `infinity`.
const NO_LIMIT: u64 = u64::MAX;

/// A transient unit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Unit {
    /// `PREFIX-NAME.scope`.
    pub name: String,
    /// The path of its cgroup, relative to the service manager's.
    pub below: PathBuf,
    /// It belongs to the user's own service manager, not the system's.
    pub user: bool,
    /// Its properties, except `PIDs`.
    pub properties: Vec<Property>,
}

/// Plans the unit.
pub(super) fn plan(
    wanted: &CgroupRequest<'_>,
    facts: &CgroupFacts,
    allowed: &Allowed,
    resources: &LinuxResources,
) -> Result<Unit> {
    // with the systemd driver this is never `InUserNamespace`
    let rootless = wanted.rootless == Rootless::Yes;
    let place = unit_name(wanted.cgroups_path, wanted.id, rootless)?;
    let is_v2 = matches!(facts, CgroupFacts::Unified(_));
    if rootless && !is_v2 {
        return Err(Error::msg("cannot use rootless systemd cgroups manager on cgroup v1"));
    }
    let yes = |name: &str| property(name, Value::Bool(true));
    let text = |name: &str, text: &str| property(name, Value::Text(text.to_owned()));
    let mut properties = vec![text("Description", &format!("libcontainer container {}", place.name))];
    if place.is_slice() {
        properties.push(property("Wants", Value::Texts(vec![place.slice.clone()])));
    } else {
        properties.push(text("Slice", &place.slice));
        properties.push(yes("Delegate"));
        // a failed unit must not block the next one of the same name
        properties.push(text("CollectMode", "inactive-or-failed"));
    }
    properties.extend(["MemoryAccounting", "CPUAccounting", "TasksAccounting"].map(yes));
    properties.push(yes(if is_v2 { "IOAccounting" } else { "BlockIOAccounting" }));
    properties.push(property("DefaultDependencies", Value::Bool(false)));
    properties.extend(devices(allowed, is_v2));
    properties.extend(limits(resources, facts)?);
    properties.extend(oom_policy(resources));
    for (key, value) in wanted.annotations.into_iter().flatten() {
        let Some(name) = key.strip_prefix("org.systemd.property.") else { continue };
        let (name, value) = variant::property(key, name, value)?;
        properties.push(Property { name, value, optional: false });
    }
    let below = expand(&place.slice)?.join(place.unit());
    Ok(Unit { name: place.unit(), below, user: rootless, properties })
}

/// `SLICE:PREFIX:NAME`.
struct UnitName {
    slice: String,
    prefix: String,
    name: String,
}

impl UnitName {
    fn is_slice(&self) -> bool {
        self.name.ends_with(".slice")
    }

    fn unit(&self) -> String {
        if self.is_slice() { self.name.clone() } else { format!("{}-{}.scope", self.prefix, self.name) }
    }
}

fn unit_name(cgroups_path: Option<&Path>, id: &str, rootless: bool) -> Result<UnitName> {
    let default = if rootless { "user.slice" } else { "system.slice" };
    let path = cgroups_path.map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
    if path.is_empty() {
        return Ok(UnitName { slice: default.to_owned(), prefix: "onggi".to_owned(), name: id.to_owned() });
    }
    let parts: Vec<&str> = path.split(':').collect();
    let [slice, prefix, name] = parts.as_slice() else {
        return Err(Error::spec(
            "linux.cgroupsPath",
            format!(
                "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got {path:?} instead"
            ),
        ));
    };
    // the unit's name is also the name of its cgroup's directory, so it must not have a slash
    if let Some(wrong) = [prefix, name].into_iter().find(|part| part.contains(['/', '\0'])) {
        return Err(Error::spec("linux.cgroupsPath", format!("{wrong:?} can't be part of a unit's name")));
    }
    let slice = if slice.is_empty() { default } else { slice };
    Ok(UnitName { slice: slice.to_owned(), prefix: (*prefix).to_owned(), name: (*name).to_owned() })
}

/// The relative path of a slice: `a-b.slice` is in `a.slice`.
fn expand(slice: &str) -> Result<PathBuf> {
    let invalid = || Error::spec("linux.cgroupsPath", format!("invalid slice name: {slice}"));
    let stem = slice.strip_suffix(".slice").filter(|stem| !stem.contains('/')).ok_or_else(invalid)?;
    if stem == "-" {
        return Ok(PathBuf::new());
    }
    let mut path = PathBuf::new();
    for (end, _) in stem.match_indices('-').chain([(stem.len(), "")]) {
        let prefix = stem.get(..end).unwrap_or_default();
        if prefix.is_empty() || prefix.ends_with('-') {
            return Err(invalid());
        }
        path.push(format!("{prefix}.slice"));
    }
    Ok(path)
}

/// systemd's device filter. Ours applies as well, and both must allow an access; so it gets only what it can express.
fn devices(allowed: &Allowed, is_v2: bool) -> Vec<Property> {
    let policy = |name: &str| property("DevicePolicy", Value::Text(name.to_owned()));
    match allowed {
        Allowed::Everything => vec![policy("auto"), property("DeviceAllow", Value::Pairs(Vec::new()))],
        Allowed::These(list) => vec![policy("strict"), property("DeviceAllow", Value::Pairs(list.clone()))],
        Allowed::Inexpressible if is_v2 => vec![policy("auto")],
        // on v1 systemd and we write the same list in turn: systemd's must not be the more permissive one
        Allowed::Inexpressible => vec![policy("strict"), property("DeviceAllow", Value::Pairs(Vec::new()))],
    }
}

/// The properties for limits, at the start and for updates.
pub(super) fn limits(r: &LinuxResources, facts: &CgroupFacts) -> Result<Vec<Property>> {
    let mut out = Vec::new();
    let is_v2 = matches!(facts, CgroupFacts::Unified(_));
    if let Some(memory) = r.memory() {
        let some = |value: Option<i64>| value.filter(|v| *v != 0);
        if let Some(limit) = some(memory.limit()) {
            out.push(property(if is_v2 { "MemoryMax" } else { "MemoryLimit" }, Value::U64(bytes(limit))));
        }
        if let Some(low) = some(memory.reservation()).filter(|_| is_v2) {
            out.push(property("MemoryLow", Value::U64(bytes(low))));
        }
        if let Some(swap) = v2::swap_max(some(memory.limit()), some(memory.swap()))?.filter(|_| is_v2) {
            out.push(property("MemorySwapMax", Value::U64(number("memory.swap.max", &swap)?)));
        }
    }
    if let Some(cpu) = r.cpu() {
        processor(cpu, is_v2, &mut out)?;
    }
    if let Some(pids) = r.pids().filter(|_| facts.version("pids", "pids") != Version::Nowhere) {
        let limit = if pids.limit() < 0 { NO_LIMIT } else { pids.limit().max(1).unsigned_abs() };
        out.push(property("TasksMax", Value::U64(limit)));
    }
    if let Some(weight) = r.block_io().as_ref().and_then(|io| io.weight()).filter(|v| *v != 0) {
        out.push(match is_v2 {
            true => property("IOWeight", Value::U64(v2::io_weight(weight))),
            false => property("BlockIOWeight", Value::U64(u64::from(weight))),
        });
    }
    let mut files: Vec<_> = r.unified().iter().flatten().collect();
    files.sort();
    for (file, value) in files {
        out.extend(of_file(file, value.trim())?);
    }
    Ok(out)
}

fn bytes(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(NO_LIMIT)
}

fn processor(cpu: &LinuxCpu, is_v2: bool, out: &mut Vec<Property>) -> Result<()> {
    let idle = cpu.idle() == Some(1) && is_v2;
    if idle {
        // known since systemd 252
        out.push(optional("CPUWeight", Value::U64(0)));
    }
    if let Some(shares) = cpu.shares().filter(|v| *v != 0 && !idle) {
        out.push(match is_v2 {
            true => property("CPUWeight", Value::U64(v2::cpu_weight(shares))),
            false => property("CPUShares", Value::U64(shares)),
        });
    }
    quota(cpu.quota().unwrap_or_default(), cpu.period().unwrap_or_default(), out);
    for (name, list) in [("AllowedCPUs", cpu.cpus()), ("AllowedMemoryNodes", cpu.mems())] {
        if let Some(list) = list.as_ref().filter(|list| !list.is_empty()) {
            out.push(optional(name, Value::Bytes(mask(list)?)));
        }
    }
    Ok(())
}

/// A quota of 0 counts as absent; a negative one removes the limit.
fn quota(quota: i64, period: u64, out: &mut Vec<Property>) {
    if period != 0 {
        out.push(property("CPUQuotaPeriodUSec", Value::U64(period)));
    }
    if quota != 0 || period != 0 {
        let each_second = if quota > 0 { each_second(quota.unsigned_abs(), period) } else { NO_LIMIT };
        out.push(property("CPUQuotaPerSecUSec", Value::U64(each_second)));
    }
}

fn each_second(quota: u64, period: u64) -> u64 {
    let period = if period == 0 { CPU_PERIOD } else { period };
    (quota.saturating_mul(SECOND) / period).div_ceil(CPU_STEP) * CPU_STEP
}

/// The resources with the CPU quota rounded as systemd rounds it: another value in the file would change with systemd's next
/// reload.
pub(super) fn rounded(resources: &LinuxResources) -> LinuxResources {
    let mut resources = resources.clone();
    if let Some(cpu) = resources.cpu().clone() {
        let period = cpu.period().filter(|v| *v != 0).unwrap_or(CPU_PERIOD);
        let quota = cpu.quota().filter(|v| *v > 0).map(|quota| {
            let each_second = each_second(quota.unsigned_abs(), period);
            i64::try_from(each_second.saturating_mul(period) / SECOND).unwrap_or(quota)
        });
        let mut cpu = cpu;
        if quota.is_some() {
            cpu.set_quota(quota);
        }
        resources.set_cpu(Some(cpu));
    }
    resources
}

/// A list of CPUs or memory nodes as a bit mask, lowest first.
fn mask(list: &str) -> Result<Vec<u8>> {
    let wrong = || Error::spec("linux.resources.cpu", format!("{list:?} is no list of numbers and ranges"));
    let mut mask: Vec<u8> = Vec::new();
    for part in list.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.trim().parse::<u16>(), last.trim().parse::<u16>());
        let (Ok(first), Ok(last)) = (first, last) else { return Err(wrong()) };
        if first > last {
            return Err(wrong());
        }
        for bit in usize::from(first)..=usize::from(last) {
            if mask.len() <= bit / 8 {
                mask.resize(bit / 8 + 1, 0);
            }
            if let Some(byte) = mask.get_mut(bit / 8) {
                *byte |= 1 << (bit % 8);
            }
        }
    }
    Ok(mask)
}

/// The property for a file of `unified`, if there is one.
fn of_file(file: &str, value: &str) -> Result<Vec<Property>> {
    let limit = |name: &str| Ok(vec![property(name, Value::U64(number(file, value)?))]);
    match file {
        "cpu.idle" if value == "1" => Ok(vec![optional("CPUWeight", Value::U64(0))]),
        "cpu.weight" => limit("CPUWeight"),
        "cpu.max" => {
            let mut words = value.split_whitespace();
            let most = number(file, words.next().unwrap_or_default())?;
            let period = words.next().map_or(Ok(CPU_PERIOD), |word| number(file, word))?;
            let mut out = Vec::new();
            quota(i64::try_from(most).unwrap_or(-1), period, &mut out);
            Ok(out)
        }
        "cpuset.cpus" => Ok(vec![optional("AllowedCPUs", Value::Bytes(mask(value)?))]),
        "cpuset.mems" => Ok(vec![optional("AllowedMemoryNodes", Value::Bytes(mask(value)?))]),
        "memory.high" => limit("MemoryHigh"),
        "memory.low" => limit("MemoryLow"),
        "memory.min" => limit("MemoryMin"),
        "memory.max" => limit("MemoryMax"),
        "memory.swap.max" => limit("MemorySwapMax"),
        // known since systemd 253
        "memory.zswap.max" => Ok(vec![optional("MemoryZSwapMax", Value::U64(number(file, value)?))]),
        "pids.max" => limit("TasksMax"),
        "io.weight" => match value.strip_prefix("default ").unwrap_or(value).parse() {
            Ok(weight) => Ok(vec![property("IOWeight", Value::U64(weight))]),
            // for one device there is only the file
            Err(_) => Ok(Vec::new()),
        },
        _ => Ok(Vec::new()),
    }
}

/// A number in the form of cgroup files: `max`, or with a suffix (powers of 1024).
fn number(file: &str, value: &str) -> Result<u64> {
    if value == "max" {
        return Ok(NO_LIMIT);
    }
    let (digits, shift) = match value.char_indices().last() {
        Some((at, 'K' | 'k')) => (value.get(..at), 10),
        Some((at, 'M' | 'm')) => (value.get(..at), 20),
        Some((at, 'G' | 'g')) => (value.get(..at), 30),
        Some(_) | None => (Some(value), 0),
    };
    let number = digits.and_then(|digits| digits.parse::<u64>().ok()).and_then(|n| n.checked_mul(1 << shift));
    number.ok_or_else(|| {
        let field = format!("linux.resources.unified[{file:?}]");
        Error::spec(field, format!("value conversion error: {value:?} is no number"))
    })
}

/// The property for `memory.oom.group`, which can be set only when the unit is started.
fn oom_policy(r: &LinuxResources) -> Option<Property> {
    let policy = match r.unified().as_ref()?.get("memory.oom.group")?.trim() {
        "0" => "continue",
        "1" => "kill",
        _ => return None,
    };
    Some(property("OOMPolicy", Value::Text(policy.to_owned())))
}

#[cfg(test)]
mod tests;
