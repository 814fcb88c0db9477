//! What `run`, `create` and `restore` have in common before and after the container's first process: the plan, the state
//! directory with the record, the cgroup, the pid file. (`exec` only writes a pid file.)

use super::{Job, PlanInput, Record, Undo, notify, plan, record, record_process};
use crate::cgroup::{self, Cgroup};
use crate::error::Result;
use crate::log::Log;
use crate::plan::Plan;
use crate::plan::cgroup::CgroupPlan;
use crate::state::{self, Announced, Claim};
use std::path::Path;

/// A container without a process: its state directory is claimed and announced, its cgroup is made.
#[derive(Debug)]
pub struct Prepared {
    /// The state directory, locked.
    pub claim: Claim,
    /// The container's record; without its process until [`Prepared::complete`].
    pub record: Record,
    /// The plan of its cgroup.
    pub cgroups: CgroupPlan,
    /// The cgroup.
    pub cgroup: cgroup::CgroupSetup,
    /// The notify socket, if the container runs at once.
    pub relay: Option<notify::Relay>,
    announced: Option<Announced>,
}

/// Plans the container, and logs the notes of the plan. Has no other effects.
///
/// # Errors
/// The bundle asks for something impossible.
pub fn planned(input: &PlanInput<'_>, log: &Log) -> Result<(Plan, CgroupPlan)> {
    let _planning = log.span("plan");
    let (plan, cgroups) = plan(input)?;
    plan.notes.iter().for_each(|note| log.warn(note));
    plan.details.iter().for_each(|detail| log.debug(|| detail.clone()));
    Ok((plan, cgroups))
}

/// Claims the id, announces the container, and makes its cgroup. Each step is undone by `undo`.
///
/// # Errors
/// The id is taken; the kernel's answer.
pub fn prepare(
    job: &Job<'_>,
    cgroups: CgroupPlan,
    root_mount: Option<u64>,
    undo: &mut Undo<'_>,
    log: &Log,
) -> Result<Prepared> {
    let claiming = log.span("claim the state directory");
    let claim = job.root.claim(job.input.id)?;
    undo.push_last("remove the state directory", claim.undo());
    let relay = notify::prepare(claim.dir.path(), job.input.options)?;
    let mut record = Record { root_mount, ..record(&job.input, Cgroup::planned(&cgroups)) };
    // from here on the record is on disk, so `delete --force` can clean up even if we are killed by SIGKILL
    let announced = claim.announce(&record)?;
    drop(claiming);
    let _making = log.span("make the cgroup");
    let cgroup = match cgroup::make(&cgroups) {
        Ok(cgroup) => cgroup,
        Err(cgroup::NotMade { error, left }) => {
            // with something left the record stays, which knows of it
            undo.push("remove the cgroup", move || left);
            return Err(error);
        }
    };
    let (leftover, grip) = (cgroup.handle().clone(), claim.grip());
    // if somebody has deleted the container meanwhile, a newer one may use its cgroup
    undo.push("remove the cgroup", move || {
        if grip.is_gone()? {
            leftover.remove_unused();
            return Ok(());
        }
        leftover.remove()
    });
    record.cgroup = cgroup.handle().clone();
    record.rootless |= cgroup.forgiven();
    Ok(Prepared { claim, record, cgroups, cgroup, relay, announced: Some(announced) })
}

impl Prepared {
    /// Puts the first process into the record, and writes the record with the container's configuration. Once.
    ///
    /// # Errors
    /// The process is gone; the record cannot be written.
    pub fn complete(&mut self, pid: i32, start: Option<u64>, plan: &Plan, config: &[u8]) -> Result<()> {
        record_process(&mut self.record, pid, start, plan)?;
        match self.announced.take() {
            Some(announced) => announced.complete(&self.record, config),
            None => Ok(()),
        }
    }
}

/// Writes the pid file, if the caller wants one. Callers take it as a sign of success, so it is removed again after a failure.
///
/// # Errors
/// It cannot be written.
pub fn write_pid_file(path: Option<&Path>, pid: i32) -> Result<()> {
    path.map_or(Ok(()), |path| state::replace(path, pid.to_string().as_bytes(), 0o666))
}
