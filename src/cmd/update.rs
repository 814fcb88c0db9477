//! `update ID`: changes the given limits of a container. Device rules never change.

use super::Container;
use crate::cgroup;
use crate::cli::{Global, Update};
use crate::error::{Context, Error, Result};
use crate::log::Log;
use crate::plan::cgroup::limits;
use crate::spec;
use crate::state::Status;
use crate::sys::paths;
use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxPids, LinuxResources};
use std::path::Path;

/// Sets them.
pub(super) fn run(global: &Global, update: &Update, log: &Log) -> Result<u8> {
    let container = super::open(global, &update.id)?;
    if matches!(super::status(&container)?, Status::Stopped | Status::Creating) {
        return Err(super::not_running());
    }
    let mut resources = match &update.resources {
        Some(path) => document(path)?,
        None => flags(update, log)?,
    };
    complete(&mut resources, &container);
    let mut notes = Vec::new();
    let plan = limits(&resources, &cgroup::facts(false)?, container.record.cgroup.driver(), &mut notes)?;
    notes.iter().for_each(|note| log.warn(note));
    container.record.cgroup.update(&plan)?;
    Ok(0)
}

/// A JSON document: a file, or `-` for standard input.
fn document(path: &Path) -> Result<LinuxResources> {
    const USUAL: usize = 4096;
    let read = if path == Path::new("-") { paths::rest(std::io::stdin(), USUAL) } else { paths::document(path, USUAL) };
    let bytes = read.context(|| format!("open {}", path.display()))?;
    spec::resources(&bytes).context(|| format!("resources in {}", path.display()))
}

/// The resources that the flags name.
fn flags(update: &Update, log: &Log) -> Result<LinuxResources> {
    if update.kernel_memory {
        log.warn("Kernel memory settings are ignored and will be removed");
    }
    if update.l3_cache_schema.is_some() || update.mem_bw_schema.is_some() {
        return Err(Error::msg("Intel RDT: the container has no linux.intelRdt to update"));
    }
    let mut memory = LinuxMemory::default();
    memory.set_limit(update.memory).set_reservation(update.memory_reservation).set_swap(update.memory_swap);
    let mut cpu = LinuxCpu::default();
    cpu.set_period(update.cpu_period)
        .set_quota(update.cpu_quota)
        .set_burst(update.cpu_burst)
        .set_shares(update.cpu_shares)
        .set_realtime_period(update.cpu_rt_period)
        .set_realtime_runtime(update.cpu_rt_runtime)
        .set_idle(update.cpu_idle)
        .set_cpus(update.cpuset_cpus.clone())
        .set_mems(update.cpuset_mems.clone());
    let mut block_io = LinuxBlockIo::default();
    block_io.set_weight(update.blkio_weight);

    let mut resources = LinuxResources::default();
    resources
        .set_memory((memory != LinuxMemory::default()).then_some(memory))
        .set_block_io((block_io != LinuxBlockIo::default()).then_some(block_io))
        .set_cpu((cpu != LinuxCpu::default()).then_some(cpu));
    if let Some(limit) = update.pids_limit {
        let mut pids = LinuxPids::default();
        pids.set_limit(limit);
        resources.set_pids(Some(pids));
    }
    Ok(resources)
}

/// cgroup2 has quota and period in one file: if only one of them is given, the other is read from it.
fn complete(resources: &mut LinuxResources, container: &Container) {
    let Some(path) = container.record.cgroup.unified() else { return };
    let Some(cpu) = resources.cpu().as_ref() else { return };
    if cpu.quota().is_some_and(|quota| quota != 0) == cpu.period().is_some_and(|period| period != 0) {
        return;
    }
    // if it cannot be read, the write fails and says why
    let current = std::fs::read_to_string(path.join("cpu.max")).unwrap_or_default();
    let cpu = merged(cpu.clone(), &current);
    resources.set_cpu(Some(cpu));
}

/// The missing one of quota and period, from the text of `cpu.max`: `QUOTA PERIOD`, where `max` is no quota.
fn merged(mut cpu: LinuxCpu, current: &str) -> LinuxCpu {
    let mut fields = current.split_whitespace();
    let (quota, period) =
        (fields.next().and_then(|word| word.parse().ok()), fields.next().and_then(|word| word.parse().ok()));
    if cpu.quota().is_none_or(|quota| quota == 0) {
        cpu.set_quota(quota);
    } else {
        cpu.set_period(period);
    }
    cpu
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_become_resources() {
        let update = Update {
            memory: Some(-1),
            cpu_quota: Some(5000),
            cpuset_cpus: Some("0-1".into()),
            pids_limit: Some(7),
            blkio_weight: Some(500),
            ..Update::default()
        };
        let resources = serde_json::to_value(flags(&update, &Log::stderr()).unwrap()).unwrap();
        let expected = serde_json::json!({
            "memory": {"limit": -1}, "cpu": {"quota": 5000, "cpus": "0-1"}, "pids": {"limit": 7}, "blockIO": {"weight": 500}
        });
        assert_eq!(resources, expected);
        let none = serde_json::to_value(flags(&Update::default(), &Log::stderr()).unwrap()).unwrap();
        assert_eq!(none, serde_json::json!({}));
        let rdt = Update { l3_cache_schema: Some("L3:0=f".into()), ..Update::default() };
        assert!(flags(&rdt, &Log::stderr()).is_err());
    }

    #[test]
    fn the_other_half_of_cpu_max_stays() {
        let cpu = |quota, period| {
            let mut cpu = LinuxCpu::default();
            cpu.set_quota(quota).set_period(period);
            cpu
        };
        // (asked for, there) → written
        let rows = [
            (cpu(Some(5000), None), "max 20000\n", cpu(Some(5000), Some(20_000))),
            (cpu(None, Some(20_000)), "5000 100000\n", cpu(Some(5000), Some(20_000))),
            (cpu(None, Some(20_000)), "max 100000\n", cpu(None, Some(20_000))),
            (cpu(Some(-1), None), "5000 20000\n", cpu(Some(-1), Some(20_000))),
            (cpu(Some(5000), None), "", cpu(Some(5000), None)),
        ];
        for (asked, current, expected) in rows {
            assert_eq!(merged(asked.clone(), current), expected, "{asked:?} {current:?}");
        }
    }
}
