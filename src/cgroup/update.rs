//! Changes the limits of a running container: all of them, or none. May use sys, plan/cgroup and error.

use super::Cgroup;
use super::limit::LimitWriter;
use crate::error::{Error, Result};
use crate::plan::cgroup::{Absent, CgroupPlan, Write, restore};
use crate::sys::Errno;
use crate::sys::cgroupfs::read_file;

impl Cgroup {
    /// Writes new limits (`plan::cgroup::limits`). If the kernel refuses one, restores those written before it.
    ///
    /// # Errors
    /// The kernel refuses a limit; the error names it, and the ones, if any, that could not be restored and so stay changed.
    pub fn update(&self, plan: &CgroupPlan) -> Result<()> {
        let writer = LimitWriter { handle: self, dir: None };
        writer.check_memory(plan.memory_check)?;
        let mut undo = Vec::new();
        if let Err(error) = self.change_all(&writer, plan, &mut undo) {
            return Err(take_back(&writer, undo, error));
        }
        let Some(unit) = self.systemd_unit.as_ref().filter(|_| !plan.properties.is_empty()) else { return Ok(()) };
        let told = unit.bus().and_then(|mut bus| bus.set(&unit.name, &plan.properties));
        if let Err(error) = told {
            return Err(take_back(&writer, undo, error));
        }
        // systemd has overwritten them with its own values
        writer.write_all(&plan.early)?;
        writer.write_all(&plan.writes)
    }

    fn change_all(&self, writer: &LimitWriter<'_>, plan: &CgroupPlan, undo: &mut Vec<Write>) -> Result<()> {
        let mut later = Vec::new();
        for write in plan.early.iter().chain(&plan.writes) {
            match self.change(writer, write, undo) {
                Err(error) if write.retry_on_einval && error.errno() == Some(Errno::EINVAL) => later.push(write),
                done => done?,
            }
        }
        later.into_iter().try_for_each(|write| self.change(writer, write, undo))
    }

    /// Makes one write, and adds to `undo` the writes that restore the file.
    fn change(&self, writer: &LimitWriter<'_>, write: &Write, undo: &mut Vec<Write>) -> Result<()> {
        let mut back = Vec::new();
        if let Some(path) = self.cgroup_paths.get(write.hierarchy.as_ref()) {
            let fallback = match &write.absent {
                Absent::Fallback { file, value } => Some((file, value)),
                Absent::Fail | Absent::Skip => None,
            };
            for (file, value) in std::iter::once((&write.file, &write.value)).chain(fallback) {
                let Ok(old) = read_file(&path.join(file.as_ref())) else { continue };
                // on the way back too, a value may have to wait for another that bounds it
                let one = |value| Write {
                    file: file.clone(),
                    value,
                    absent: Absent::Fail,
                    retry_on_einval: true,
                    ..write.clone()
                };
                back = restore::values(file, &old, value).into_iter().map(one).collect();
                break;
            }
        }
        writer.write(write)?;
        undo.append(&mut back);
        Ok(())
    }
}

/// Restores the old values, the last one first; adds to `error` what could not be restored.
fn take_back(writer: &LimitWriter<'_>, undo: Vec<Write>, error: Error) -> Error {
    let mut left: Vec<Write> = undo.into_iter().rev().collect();
    // two rounds: the second one for values that another had to precede
    for _ in 0..2 {
        left.retain(|write| writer.write(write).is_err());
    }
    if left.is_empty() {
        return error;
    }
    let names: Vec<&str> = left.iter().map(|write| write.field.as_ref()).collect();
    error.context(format!("changed and not taken back: {}", names.join(", ")))
}
