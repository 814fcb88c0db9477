//! Effects on cgroups: create, place processes, limit, freeze, kill, remove, read statistics.
//!
//! Carries out what `plan::cgroup` decided. May use plan/cgroup, sys and error. On cgroup2 a start makes one mkdir, one open of
//! the directory for `CLONE_INTO_CGROUP`, and, while init mounts, one open-write-close for each limit.

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
use crate::sys::wait::Backoff;
use crate::sys::{Errno, file, ns};
use bus::Bus;
use std::cell::RefCell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use facts::facts;
pub use handle::{Cgroup, SubCgroup};
pub use oom::Oom;
pub use stats::Stats;

/// The container's cgroup while it is being set up for a start.
#[derive(Debug)]
pub struct CgroupSetup {
    handle: Cgroup,
    /// The directory in the cgroup2 tree.
    dir: Option<OwnedFd>,
    /// Directories created for it, in order of creation.
    made: Vec<PathBuf>,
    /// Whether its cgroup2 existed before, and so may have a device filter.
    reused: bool,
    /// Whether a hierarchy was left out because the caller lacks the permission (`--rootless`).
    forgiven: bool,
    /// The service manager that creates it, with the systemd driver.
    bus: Option<RefCell<Bus>>,
}

/// A cgroup that could not be made.
#[derive(Debug)]
pub struct NotMade {
    /// Why.
    pub error: Error,
    /// Whether all that had been made before could be removed.
    pub left: Result<()>,
}

impl std::fmt::Display for NotMade {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.error.fmt(f)
    }
}

/// Creates the container's cgroup in every hierarchy of the plan. On failure removes what it has created.
///
/// # Errors
/// A directory can't be created, or the cgroup exists and has processes or is frozen.
pub fn make(plan: &CgroupPlan) -> std::result::Result<CgroupSetup, NotMade> {
    let mut setup = CgroupSetup {
        handle: Cgroup::default(),
        dir: None,
        made: Vec::new(),
        reused: false,
        forgiven: false,
        bus: None,
    };
    match setup.fill(plan) {
        Ok(()) => Ok(setup),
        Err(error) => {
            let left = setup.undo();
            Err(NotMade { error, left })
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

    /// Connects to the service manager, so that a missing bus is noticed before init is spawned. The scope itself is created by
    /// [`CgroupSetup::place`], because systemd needs a process for it.
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

    /// The cgroup2 directory for `CLONE_INTO_CGROUP`. `None` with the systemd driver, and without cgroup2.
    #[must_use]
    pub fn clone_into_fd(&self) -> Option<BorrowedFd<'_>> {
        self.dir.as_ref().map(AsFd::as_fd)
    }

    /// Repairs, if possible, what made clone3(2) into [`CgroupSetup::clone_into_fd`] fail. `Ok`: try once more.
    ///
    /// # Errors
    /// The reason, if it can't be repaired.
    pub fn retry_after(&self, errno: Errno, plan: &CgroupPlan) -> Result<()> {
        let path = self.handle.unified().ok_or_else(|| Error::from(errno))?;
        tree::repair(path, errno, plan.domain)
    }

    /// Whether [`CgroupSetup::place`] has something to do after a clone into [`CgroupSetup::clone_into_fd`].
    #[must_use]
    pub fn needs_placing(&self) -> bool {
        self.bus.is_some() || self.handle.legacy().next().is_some()
    }

    /// Places a process that was created in [`CgroupSetup::clone_into_fd`] in the other hierarchies: with the systemd driver has
    /// systemd create the scope with it; then moves it into the v1 cgroups.
    ///
    /// # Errors
    /// The kernel or systemd refuses.
    pub fn place(&self, pid: i32, plan: &CgroupPlan) -> Result<()> {
        let by_systemd = match (&self.bus, &plan.unit) {
            (Some(bus), Some(unit)) => {
                bus.borrow_mut().start(&unit.name, &unit.properties, pid)?;
                self.verify(pid)?;
                plan.subgroup.as_ref().map_or(Ok(()), |inner| self.handle.move_below(pid, inner))?;
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

    /// Places a process that was created elsewhere, by CRIU.
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

    /// Checks that systemd put the process into the cgroup whose limits we will write.
    fn verify(&self, pid: i32) -> Result<()> {
        let Some(path) = self.handle.unified().filter(|_| self.handle.is_pure()) else { return Ok(()) };
        let text = file::contents(Path::new(&format!("/proc/{pid}/cgroup")), 4096)
            .context(|| format!("read the cgroup of process {pid}"))?;
        let own = members::unified(&text).unwrap_or(Path::new(""));
        // the kernel's path may be shorter than ours: the mount may show only a part of the hierarchy
        if own != Path::new("/") && path.ends_with(own.strip_prefix("/").unwrap_or(own)) {
            return Ok(());
        }
        let own = format!("systemd put process {pid} into cgroup {} instead of {}", own.display(), path.display());
        Err(Error::msg(own))
    }

    /// Writes the limits and sets the device filter, while init mounts. The payload must not run before this returns.
    ///
    /// # Errors
    /// The kernel refuses; the error names the value in config.json, the file and the reason.
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
        let writer = limit::LimitWriter { handle: &self.handle, dir };
        writer.check_memory(plan.memory_check)?;
        writer.write_all(&plan.writes)?;
        // a scope with a cgroup below it for the container stays systemd's
        if let (Some(owner), Some(path), None) = (plan.owner, self.handle.unified(), &plan.subgroup) {
            delegate::delegate(path, owner)?;
        }
        writer.filter_devices(&plan.devices, plan.rootless, self.reused)
    }

    /// Whether a hierarchy was left out because the caller lacks the permission (`--rootless`).
    #[must_use]
    pub fn forgiven(&self) -> bool {
        self.forgiven
    }

    /// The cgroup, for the record and later commands.
    #[must_use]
    pub fn handle(&self) -> &Cgroup {
        &self.handle
    }

    /// Removes what was made, as far as possible. The processes in it must be gone.
    ///
    /// # Errors
    /// The first of them that could not be removed.
    pub fn undo(&mut self) -> Result<()> {
        self.dir = None;
        let mut left = Ok(());
        for path in self.made.drain(..).rev() {
            let removed = remove::empty(&path).context(|| format!("remove cgroup {}", path.display()));
            left = left.and(removed.map(drop));
        }
        left
    }
}

/// For root of a user namespace: whether the service manager on the user bus belongs to an ordinary user of the machine
/// (rootless engines), not to the system of a container. `false` if there is no such bus.
#[must_use]
pub fn user_manager_is_a_users() -> bool {
    const CONNECTS: Duration = Duration::from_secs(2);
    const PAUSE: Duration = Duration::from_millis(20);
    let Ok(mut bus) = Bus::connect(true) else { return false };
    let mut backoff = Backoff::new(CONNECTS, PAUSE, PAUSE);
    loop {
        match bus.user() {
            Ok(Some(user)) => return user != 0,
            // our connection may have started the bus, and the manager connects to it a moment later
            Ok(None) if address::has_user_manager() && backoff.sleep() => {}
            Ok(None) | Err(_) => return false,
        }
    }
}

/// Whether a lack of permission for cgroups is ignored.
fn forgiving(rootless: Rootless) -> bool {
    match rootless {
        Rootless::No => false,
        Rootless::Yes => true,
        Rootless::InUserNamespace => ns::in_user_namespace(),
    }
}

/// Whether the error is a lack of permission.
fn forbidden(error: &Error) -> bool {
    matches!(error.errno(), Some(Errno::EPERM | Errno::EACCES | Errno::EROFS))
}

/// Removes one cgroup; succeeds if it no longer exists.
fn remove_one(path: &Path) -> std::result::Result<(), Errno> {
    match remove_dir(path) {
        Err(Errno::ENOENT) | Ok(()) => Ok(()),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests;
