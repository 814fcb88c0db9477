//! Changing the limits of a living container: all of them, or none. May use sys, plan/cgroup and error.

use super::Cgroup;
use super::limit::Places;
use crate::error::{Error, Result};
use crate::plan::cgroup::{Absent, CgroupPlan, Write, restore};
use crate::sys::Errno;
use crate::sys::cgroupfs::read_file;

impl Cgroup {
    /// Writes new limits (`plan::cgroup::limits`). If the kernel refuses one, those before it are taken back.
    ///
    /// # Errors
    /// With the limit that was refused, and which ones, if any, could not be taken back and so stay changed.
    pub fn update(&self, plan: &CgroupPlan) -> Result<()> {
        let places = Places { handle: self, dir: None };
        places.check_memory(plan.memory_check)?;
        let mut undo = Vec::new();
        if let Err(error) = self.change_all(&places, plan, &mut undo) {
            return Err(take_back(&places, undo, error));
        }
        let Some(unit) = self.systemd_unit.as_ref().filter(|_| !plan.properties.is_empty()) else { return Ok(()) };
        let told = unit.bus().and_then(|mut bus| bus.set(&unit.name, &plan.properties));
        if let Err(error) = told {
            return Err(take_back(&places, undo, error));
        }
        // systemd has written its own view of them meanwhile
        places.write_all(&plan.early)?;
        places.write_all(&plan.writes)
    }

    fn change_all(&self, places: &Places<'_>, plan: &CgroupPlan, undo: &mut Vec<Write>) -> Result<()> {
        let mut later = Vec::new();
        for write in plan.early.iter().chain(&plan.writes) {
            match self.change(places, write, undo) {
                Err(error) if write.retry_on_einval && error.errno() == Some(Errno::EINVAL) => later.push(write),
                done => done?,
            }
        }
        later.into_iter().try_for_each(|write| self.change(places, write, undo))
    }

    /// One write, after which `undo` knows what brings the file back.
    fn change(&self, places: &Places<'_>, write: &Write, undo: &mut Vec<Write>) -> Result<()> {
        let mut back = Vec::new();
        if let Some(path) = self.cgroup_paths.get(write.hierarchy.as_ref()) {
            let instead = match &write.absent {
                Absent::Fallback { file, value } => Some((file, value)),
                Absent::Fail | Absent::Skip => None,
            };
            for (file, value) in std::iter::once((&write.file, &write.value)).chain(instead) {
                let Ok(old) = read_file(&path.join(file.as_ref())) else { continue };
                // a value that bounds another may have to wait for it on the way back too
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
        places.write(write)?;
        undo.append(&mut back);
        Ok(())
    }
}

/// Takes changes back, the last one first; says in `error` what could not be.
fn take_back(places: &Places<'_>, undo: Vec<Write>, error: Error) -> Error {
    let mut left: Vec<Write> = undo.into_iter().rev().collect();
    // two rounds: the second for those that another had to precede
    for _ in 0..2 {
        left.retain(|write| places.write(write).is_err());
    }
    if left.is_empty() {
        return error;
    }
    let names: Vec<&str> = left.iter().map(|write| write.field.as_ref()).collect();
    error.context(format!("changed and not taken back: {}", names.join(", ")))
}
