//! Effects on cgroups: making, placing, limiting, freezing, killing, removing, reading.
//!
//! Carries out what `plan::cgroup` decided. May use plan/cgroup, sys and error. On cgroup2 the way of a start is: one
//! mkdir, one open of the directory for `CLONE_INTO_CGROUP`, and, while init mounts, one open-write-close per limit.

mod address;
mod bus;
mod delegate;
mod facts;
mod freeze;
mod handle;
mod kill;
mod limit;
mod members;
mod oom;
mod paths;
mod remove;
mod stats;
mod tree;
mod update;
mod walk;

use crate::error::{Context, Error, Result};
use crate::plan::cgroup::{CgroupPlan, Driver, Permission, Rootless};
use crate::sys::cgroupfs::{open_dir, remove_dir, write_file};
use crate::sys::{Errno, file, ns};
use bus::Bus;
use std::cell::RefCell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

pub use facts::facts;
pub use handle::{Cgroup, SubCgroup};
pub use oom::Oom;
pub use stats::Stats;

/// The container's cgroup as it was made for a start.
#[derive(Debug)]
pub struct CgroupSetup {
    handle: Cgroup,
    /// The directory in the cgroup2 tree.
    dir: Option<OwnedFd>,
    /// Directories made for it, in the order of making.
    made: Vec<PathBuf>,
    /// Whether the one in the cgroup2 tree was there before, and may have a device filter.
    reused: bool,
    /// Whether the caller may not make all of it, which was forgiven.
    forgiven: bool,
    /// The service manager that is to make it.
    bus: Option<RefCell<Bus>>,
}

/// Makes the container's cgroup in every hierarchy of the plan. What was made is removed if a later part fails.
///
/// # Errors
/// If a directory can't be made, or the cgroup is there already and has processes or is frozen.
pub fn make(plan: &CgroupPlan) -> Result<CgroupSetup> {
    let mut made = CgroupSetup {
        handle: Cgroup::default(),
        dir: None,
        made: Vec::new(),
        reused: false,
        forgiven: false,
        bus: None,
    };
    match made.fill(plan) {
        Ok(()) => Ok(made),
        Err(error) => {
            made.undo();
            Err(error)
        }
    }
}

impl CgroupSetup {
    fn fill(&mut self, plan: &CgroupPlan) -> Result<()> {
        match plan.driver {
            Driver::Disabled => return Ok(()),
            Driver::Systemd => return self.prepare_unit(plan),
            Driver::Cgroupfs => {}
        }
        for (key, path) in &plan.paths {
            let existed = match tree::make(key, path, plan, &mut self.made) {
                Ok(existed) => existed,
                Err(error) => {
                    let forgiving = forbidden(&error) && forgiving(plan.rootless);
                    match plan.permission {
                        Permission::Optional if forgiving => {
                            self.forgiven = true;
                            continue;
                        }
                        Permission::NeededForLimits if forgiving => {
                            return Err(error.context(
                                "rootless needs no limits + no cgrouppath when no permission is granted for cgroups",
                            ));
                        }
                        Permission::Needed | Permission::NeededForLimits | Permission::Optional => {
                            return Err(error.context("unable to apply cgroup configuration"));
                        }
                    }
                }
            };
            self.handle.cgroup_paths.insert(key.clone(), path.clone());
            if existed {
                self.handle.refuse_used(key)?;
                self.reused |= key.is_empty();
            }
        }
        if let Some(path) = self.handle.unified() {
            self.dir = Some(open_dir(path).context(|| format!("open cgroup {}", path.display()))?);
        }
        Ok(())
    }

    /// Reaches the service manager, so that a bus that is missing is known before anything is started. A scope can't
    /// be made without a process: that is left to [`CgroupSetup::place`].
    fn prepare_unit(&mut self, plan: &CgroupPlan) -> Result<()> {
        self.handle = Cgroup::planned(plan);
        let unit = plan.unit.as_ref().ok_or_else(|| Error::msg("no unit is planned"))?;
        let mut bus = Bus::connect(unit.user)?;
        if unit.user
            && let Some(path) = self.handle.cgroup_paths.get_mut("")
        {
            let own = bus.control_group()?;
            *path = plan.root.join(own.trim_start_matches('/')).join(&unit.below);
        }
        let keys: Vec<String> = self.handle.cgroup_paths.keys().cloned().collect();
        keys.iter().try_for_each(|key| self.handle.refuse_used(key))?;
        self.bus = Some(RefCell::new(bus));
        Ok(())
    }

    /// The directory for `CLONE_INTO_CGROUP`, so that the process is created in it. `None` with the systemd driver.
    #[must_use]
    pub fn clone_into_fd(&self) -> Option<BorrowedFd<'_>> {
        self.dir.as_ref().map(AsFd::as_fd)
    }

    /// What to do when clone3(2) refused [`CgroupSetup::clone_into_fd`]: `Ok` means try once more.
    ///
    /// # Errors
    /// With what stands in the way.
    pub fn refused(&self, errno: Errno, plan: &CgroupPlan) -> Result<()> {
        let path = self.handle.unified().ok_or_else(|| Error::from(errno))?;
        tree::refused(path, errno, plan.domain)
    }

    /// Whether `CLONE_INTO_CGROUP` alone leaves something to do for [`CgroupSetup::place`].
    #[must_use]
    pub fn needs_placing(&self) -> bool {
        self.bus.is_some() || self.handle.legacy().next().is_some()
    }

    /// Moves a process that was created in [`CgroupSetup::clone_into_fd`] into what is left: the v1 hierarchies, or all of them once
    /// systemd has made its unit.
    ///
    /// # Errors
    /// If the kernel or systemd refuses.
    pub fn place(&self, pid: i32, plan: &CgroupPlan) -> Result<()> {
        let by_systemd = match (&self.bus, &plan.unit) {
            (Some(bus), Some(unit)) => {
                bus.borrow_mut().start(&unit.name, &unit.properties, pid)?;
                self.verify(pid)?;
                for (key, path) in self.handle.by_hand() {
                    tree::make(key, path, plan, &mut Vec::new())?;
                }
                true
            }
            (_, _) => false,
        };
        for path in self.handle.legacy() {
            if by_systemd && self.handle.cgroup_paths.get("name=systemd").is_some_and(|own| own == path) {
                continue;
            }
            write_file(&path.join("cgroup.procs"), &pid.to_string())
                .context(|| format!("place process {pid} in cgroup {}", path.display()))?;
        }
        Ok(())
    }

    /// Moves in a process that was created elsewhere.
    ///
    /// # Errors
    /// As [`CgroupSetup::place`].
    pub fn adopt(&self, pid: i32, plan: &CgroupPlan) -> Result<()> {
        if let Some(path) = self.handle.unified().filter(|_| self.bus.is_none()) {
            write_file(&path.join("cgroup.procs"), &pid.to_string())
                .context(|| format!("place process {pid} in cgroup {}", path.display()))?;
        }
        self.place(pid, plan)
    }

    /// Checks that systemd put the process where its limits will be written.
    fn verify(&self, pid: i32) -> Result<()> {
        let Some(path) = self.handle.unified().filter(|_| self.handle.is_pure()) else { return Ok(()) };
        let text = file::contents(Path::new(&format!("/proc/{pid}/cgroup")), 4096)
            .context(|| format!("read the cgroup of process {pid}"))?;
        let own = members::unified(&text).unwrap_or(Path::new(""));
        // the mount may show a part of the tree only
        if own != Path::new("/") && path.ends_with(own.strip_prefix("/").unwrap_or(own)) {
            return Ok(());
        }
        let own = format!("systemd put process {pid} into cgroup {} instead of {}", own.display(), path.display());
        Err(Error::msg(own))
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
        let opened = match (self.handle.unified(), &self.bus) {
            (Some(path), Some(_)) => Some(open_dir(path).context(|| format!("open cgroup {}", path.display()))?),
            (_, _) => None,
        };
        let dir = self.clone_into_fd().or(opened.as_ref().map(AsFd::as_fd));
        if let (Some(dir), Some(path)) = (dir, self.handle.unified()) {
            tree::give_controllers(dir, path, plan)?;
        }
        let places = limit::Places { handle: &self.handle, dir };
        places.check_memory(plan.memory_check)?;
        places.write_all(&plan.writes)?;
        if let (Some(owner), Some(path)) = (plan.owner, self.handle.unified()) {
            delegate::delegate(path, owner)?;
        }
        places.filter_devices(&plan.devices, plan.rootless, self.reused)
    }

    /// Whether the caller may not make all of it, which was forgiven (`--rootless`).
    #[must_use]
    pub fn forgiven(&self) -> bool {
        self.forgiven
    }

    /// What later commands need.
    #[must_use]
    pub fn handle(&self) -> &Cgroup {
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

/// For root of a user namespace: whether the service manager that his user bus leads to is that of a mere user of the
/// machine (rootless engines), not the one of a system in a container. Without such a bus it is not.
#[must_use]
pub fn user_manager_is_a_users() -> bool {
    Bus::connect(true).and_then(|mut bus| bus.user()).is_ok_and(|user| user != 0)
}

/// Whether what is refused is forgiven.
fn forgiving(rootless: Rootless) -> bool {
    match rootless {
        Rootless::No => false,
        Rootless::Yes => true,
        Rootless::InUserNamespace => ns::in_user_namespace(),
    }
}

/// Whether we lack the right, rather than something being wrong.
fn forbidden(error: &Error) -> bool {
    matches!(error.errno(), Some(Errno::EPERM | Errno::EACCES | Errno::EROFS))
}

/// Removes one directory; one that is gone is as good as removed.
fn remove_one(path: &Path) -> std::result::Result<(), Errno> {
    match remove_dir(path) {
        Err(Errno::ENOENT) | Ok(()) => Ok(()),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests;
