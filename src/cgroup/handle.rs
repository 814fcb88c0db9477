//! The container's cgroup as the record stores it for later commands. May use sys and error.

use super::delegate::delegate;
use super::members;
use crate::error::{Context, Error, Kind, Result};
use crate::plan::cgroup::{CgroupPlan, Driver, Inner};
use crate::sys::Errno;
use crate::sys::cgroupfs::{make_dir, open_dir, write_file};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

/// A container's cgroup.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cgroup {
    /// Its path in each hierarchy. Keys as in runc: controller, `name=…`, `""` for cgroup2. Empty if it has no cgroup.
    #[serde(default, with = "super::paths")]
    pub cgroup_paths: BTreeMap<String, PathBuf>,
    /// Its systemd unit, with the systemd driver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub systemd_unit: Option<Scope>,
}

/// A unit of systemd.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    /// Its name.
    pub name: String,
    /// Whether it belongs to the user's own service manager.
    #[serde(default)]
    pub user: bool,
}

/// One `--cgroup` of exec: a cgroup below the container's, in some hierarchies or in all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SubCgroup {
    /// The v1 controllers it is for; empty means all hierarchies.
    pub controllers: Vec<String>,
    /// Relative to the container's cgroup.
    pub path: PathBuf,
}

impl Cgroup {
    /// A cgroup with these paths.
    pub(super) fn of(paths: &[(&str, &Path)]) -> Self {
        let paths = paths.iter().map(|(key, path)| ((*key).to_owned(), (*path).to_owned()));
        Self { cgroup_paths: paths.collect(), systemd_unit: None }
    }

    /// The cgroup that a plan will create, for the record that is written before.
    #[must_use]
    pub fn planned(plan: &CgroupPlan) -> Self {
        let unit = plan.unit.as_ref().map(|unit| Scope { name: unit.name.clone(), user: unit.user });
        Self { cgroup_paths: plan.paths.clone(), systemd_unit: unit }
    }

    /// Which driver created it.
    #[must_use]
    pub fn driver(&self) -> Driver {
        match (&self.systemd_unit, self.cgroup_paths.is_empty()) {
            (Some(_), _) => Driver::Systemd,
            (None, false) => Driver::Cgroupfs,
            (None, true) => Driver::Disabled,
        }
    }

    /// Its path in the cgroup2 tree.
    #[must_use]
    pub fn unified(&self) -> Option<&Path> {
        self.cgroup_paths.get("").map(PathBuf::as_path)
    }

    /// Whether it is on cgroup2 only.
    #[must_use]
    pub fn is_pure(&self) -> bool {
        self.cgroup_paths.len() == 1 && self.unified().is_some()
    }

    /// Its paths in the v1 hierarchies, without duplicates.
    pub(super) fn legacy(&self) -> impl Iterator<Item = &Path> {
        let mut seen: Vec<&Path> = Vec::new();
        for (_, path) in self.cgroup_paths.iter().filter(|(key, _)| !key.is_empty()) {
            if !seen.contains(&path.as_path()) {
                seen.push(path);
            }
        }
        seen.into_iter()
    }

    /// The v1 hierarchies in which systemd does not create the unit's cgroup: all but `name=systemd`.
    pub(super) fn by_hand(&self) -> impl Iterator<Item = (&str, &Path)> {
        let all = self.cgroup_paths.iter().map(|(key, path)| (key.as_str(), path.as_path()));
        all.filter(|(key, _)| !key.is_empty() && *key != "name=systemd")
    }

    /// Its path in the hierarchy by which its processes are listed.
    #[must_use]
    pub fn counted(&self) -> Option<&Path> {
        let first = ["", "devices", "freezer", "pids"].iter().find_map(|key| self.cgroup_paths.get(*key));
        first.or_else(|| self.cgroup_paths.values().next()).map(PathBuf::as_path)
    }

    /// Whether the cgroup exists.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.counted().is_some_and(Path::exists)
    }

    /// Fails if a cgroup that existed before has processes or is frozen.
    pub(super) fn refuse_used(&self, key: &str) -> Result<()> {
        let Some(path) = self.cgroup_paths.get(key) else { return Ok(()) };
        let pids = members::pids(path)?;
        if !pids.is_empty() {
            let path = path.display().to_string();
            let text = format!("container's cgroup is not empty: {} process(es) found", pids.len());
            return Err(Error::new(Kind::Exists, text).fact("path", path));
        }
        if Self::of(&[(key, path)]).frozen()? {
            return Err(Error::msg("container's cgroup unexpectedly frozen").fact("path", path.display().to_string()));
        }
        Ok(())
    }

    /// Opens its cgroup2 directory, or that of the cgroup below it that `subs` name, for `CLONE_INTO_CGROUP`. `None` if it is
    /// not on cgroup2.
    ///
    /// # Errors
    /// `subs` lead outside the container's cgroup or do not exist.
    pub fn dir_fd(&self, subs: &[SubCgroup]) -> Result<Option<OwnedFd>> {
        self.check(subs)?;
        let Some(path) = self.dir(subs)? else { return Ok(None) };
        open_dir(&path).map(Some).context(|| format!("open {}/cgroup.procs", path.display()))
    }

    /// The path of the directory that [`Cgroup::dir_fd`] opens.
    ///
    /// # Errors
    /// `subs` lead outside the container's cgroup.
    pub fn dir(&self, subs: &[SubCgroup]) -> Result<Option<PathBuf>> {
        self.unified().map(|path| join_sub(path, "", subs)).transpose()
    }

    /// Makes a cgroup below it, gives it to its owner, and moves a process there. Nothing without a cgroup2 tree.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn move_below(&self, pid: i32, inner: &Inner) -> Result<()> {
        let Some(own) = self.unified() else { return Ok(()) };
        let mut path = own.to_owned();
        for name in &inner.path {
            path.push(name);
            match make_dir(&path) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(errno) => return Err(errno).context(|| format!("make cgroup {}", path.display())),
            }
        }
        inner.owner.map_or(Ok(()), |owner| delegate(&path, owner))?;
        write_file(&path.join("cgroup.procs"), &pid.to_string())
            .context(|| format!("move process {pid} to cgroup {}", path.display()))
    }

    fn check(&self, subs: &[SubCgroup]) -> Result<()> {
        match subs.iter().flat_map(|sub| &sub.controllers).find(|name| !self.cgroup_paths.contains_key(*name)) {
            Some(unknown) => Err(Error::msg(format!("unknown controller {unknown} in --cgroup"))),
            None => Ok(()),
        }
    }

    /// Moves a process into it: in every hierarchy, or with `legacy_only` (it was created in [`Cgroup::dir_fd`]) in the v1
    /// ones.
    ///
    /// # Errors
    /// The kernel refuses, or `subs` lead outside the container's cgroup.
    pub fn join(&self, pid: i32, subs: &[SubCgroup], legacy_only: bool) -> Result<()> {
        self.check(subs)?;
        for (key, path) in self.cgroup_paths.iter().filter(|(key, _)| !(legacy_only && key.is_empty())) {
            let inside = join_sub(path, key, subs)?;
            match (write_file(&inside.join("cgroup.procs"), &pid.to_string()), &self.systemd_unit) {
                (Ok(()), _) => {}
                // a user may not move a process into the delegated subtree from outside it; systemd may
                (Err(Errno::EACCES | Errno::EPERM), Some(unit)) if self.is_pure() => {
                    let below = inside.strip_prefix(path).unwrap_or(Path::new("")).display().to_string();
                    unit.bus()?.attach(&unit.name, &format!("/{below}"), pid)?;
                }
                (Err(errno), _) => {
                    let what = || format!("error adding pid {pid} to cgroups: open {}/cgroup.procs", inside.display());
                    return Err(errno).context(what);
                }
            }
        }
        Ok(())
    }
}

/// The path in one hierarchy that `--cgroup` asks for. `--cgroup CONTROLLER:PATH` has priority over `--cgroup PATH`.
fn join_sub(path: &Path, key: &str, subs: &[SubCgroup]) -> Result<PathBuf> {
    let named = subs.iter().rfind(|sub| sub.controllers.iter().any(|c| c == key));
    let Some(sub) = named.or_else(|| subs.iter().rfind(|sub| sub.controllers.is_empty())) else {
        return Ok(path.to_owned());
    };
    let inner = sub.path.strip_prefix("/").unwrap_or(&sub.path);
    if inner.components().any(|part| part == Component::ParentDir) {
        return Err(Error::msg(format!("bad sub cgroup path: {} is not a sub cgroup path", sub.path.display())));
    }
    Ok(path.join(inner))
}
