//! Effects on cgroups: making, placing, limiting, freezing, killing, removing, reading.
//!
//! Carries out what `plan::cgroup` decided. May use plan/cgroup, sys and error. On cgroup2 the way of a start is: one
//! mkdir, one open of the directory for `CLONE_INTO_CGROUP`, and, while init mounts, one open-write-close per limit.

mod facts;
mod freeze;
mod handle;
mod kill;
mod limit;
mod oom;
mod remove;
mod stats;
mod tree;
mod update;

use crate::error::{Context, Error, Result};
use crate::plan::cgroup::{CgroupPlan, Driver, Permission};
use crate::sys::Errno;
use crate::sys::cgroupfs::{open_dir, remove_dir, write_file};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

pub use facts::facts;
pub use handle::{Handle, Sub};
pub use oom::{Oom, OomWatch};
pub use stats::Stats;

/// The container's cgroup as it was made for a start.
#[derive(Debug)]
pub struct Made {
    handle: Handle,
    /// The directory in the cgroup2 tree.
    dir: Option<OwnedFd>,
    /// Directories made for it, in the order of making.
    made: Vec<PathBuf>,
}

/// Makes the container's cgroup in every hierarchy of the plan. What was made is removed if a later part fails.
///
/// # Errors
/// If a directory can't be made, or the cgroup is there already and has processes or is frozen.
pub fn make(plan: &CgroupPlan) -> Result<Made> {
    let mut made = Made { handle: Handle::default(), dir: None, made: Vec::new() };
    match made.fill(plan) {
        Ok(()) => Ok(made),
        Err(error) => {
            made.undo();
            Err(error)
        }
    }
}

impl Made {
    fn fill(&mut self, plan: &CgroupPlan) -> Result<()> {
        if plan.driver == Driver::Disabled {
            return Ok(());
        }
        for (key, path) in &plan.paths {
            let existed = match (tree::make(key, path, plan, &mut self.made), plan.permission) {
                (Ok(existed), _) => existed,
                (Err(error), Permission::Optional) if forbidden(&error) => continue,
                (Err(error), Permission::NeededForLimits) if forbidden(&error) => {
                    return Err(error.context(
                        "rootless needs no limits + no cgrouppath when no permission is granted for cgroups",
                    ));
                }
                (Err(error), Permission::Needed | Permission::NeededForLimits | Permission::Optional) => {
                    return Err(error.context("unable to apply cgroup configuration"));
                }
            };
            self.handle.cgroup_paths.insert(key.clone(), path.clone());
            if existed {
                self.handle.refuse_used(key)?;
            }
        }
        if let Some(path) = self.handle.unified() {
            self.dir = Some(open_dir(path).context(|| format!("open cgroup {}", path.display()))?);
        }
        Ok(())
    }

    /// The directory for `CLONE_INTO_CGROUP`, so that the process is born in it.
    #[must_use]
    pub fn into_fd(&self) -> Option<BorrowedFd<'_>> {
        self.dir.as_ref().map(AsFd::as_fd)
    }

    /// What to do when clone3(2) refused [`Made::into_fd`]: `Ok` means try once more.
    ///
    /// # Errors
    /// With what stands in the way.
    pub fn refused(&self, errno: Errno, plan: &CgroupPlan) -> Result<()> {
        let path = self.handle.unified().ok_or_else(|| Error::from(errno))?;
        tree::refused(path, errno, plan.domain)
    }

    /// Whether `CLONE_INTO_CGROUP` alone leaves hierarchies that [`Made::place`] must see to.
    #[must_use]
    pub fn needs_placing(&self) -> bool {
        self.handle.legacy().next().is_some()
    }

    /// Moves a process that was born in [`Made::into_fd`] into what is left: the v1 hierarchies.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn place(&self, pid: i32) -> Result<()> {
        for path in self.handle.legacy() {
            write_file(&path.join("cgroup.procs"), &pid.to_string())
                .context(|| format!("place process {pid} in cgroup {}", path.display()))?;
        }
        Ok(())
    }

    /// Writes the limits and sets the device filter. Meant for the time in which init mounts: no payload may run before
    /// it has come back.
    ///
    /// # Errors
    /// Naming the value in the bundle, the file and the kernel's answer.
    pub fn limit(&self, plan: &CgroupPlan) -> Result<()> {
        if plan.driver == Driver::Disabled || self.handle.cgroup_paths.is_empty() {
            return Ok(());
        }
        if self.handle.is_pure()
            && let Some(dir) = &self.dir
        {
            tree::give_controllers(dir.as_fd(), plan)?;
        }
        let places = limit::Places { handle: &self.handle, dir: self.into_fd() };
        places.check_memory(plan.memory_check)?;
        places.write_all(&plan.writes)?;
        places.filter_devices(&plan.devices, plan.rootless)
    }

    /// What later commands need.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Removes what was made, as far as possible. The processes in it must be gone.
    pub fn undo(&mut self) {
        self.dir = None;
        for path in self.made.drain(..).rev() {
            // whoever uses it by now keeps it
            let _ = remove::empty(&path);
        }
    }
}

/// Whether we lack the right, rather than something being wrong.
fn forbidden(error: &Error) -> bool {
    matches!(error.errno(), Some(Errno::EPERM | Errno::EACCES | Errno::EROFS))
}

/// Removes one directory; one that is gone is as good as removed.
fn remove_one(path: &std::path::Path) -> std::result::Result<(), Errno> {
    match remove_dir(path) {
        Err(Errno::ENOENT) | Ok(()) => Ok(()),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests;
