//! Creates the directories, and enables what a cgroup2 or a v1 cpuset needs before it takes a process.
//!
//! May use sys, plan/cgroup and error.

use super::limit::LimitWriter;
use crate::error::{Context, Error, Result};
use crate::plan::cgroup::CgroupPlan;
use crate::sys::Errno;
use crate::sys::cgroupfs::{AT_FDCWD, make_dir, read_file, read_line_at, write_file};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

/// Creates the cgroup `path` of the hierarchy `key`; adds the directories that it created to `made`. Returns `true` if the cgroup
/// existed before.
pub(super) fn make(key: &str, path: &Path, plan: &CgroupPlan, made: &mut Vec<PathBuf>) -> Result<bool> {
    let existed = match make_dir(path) {
        Ok(()) => {
            made.push(path.to_owned());
            false
        }
        // controllers that are mounted together share a directory: it may be our own from another key
        Err(Errno::EEXIST) => !made.iter().any(|done| done == path),
        Err(Errno::ENOENT) => {
            make_all(key, path, plan, made)?;
            false
        }
        Err(errno) => return Err(could_not(path, errno)),
    };
    if key == "cpuset" {
        prepare_cpuset(path, plan)?;
    }
    Ok(existed)
}

fn could_not(path: &Path, errno: Errno) -> Error {
    Error::from(errno).context(format!("make cgroup {}", path.display())).fact("path", path.display().to_string())
}

/// Creates the missing directories from the top down. On cgroup2, if limits are written there, each directory on the way
/// enables all controllers for its children.
fn make_all(key: &str, path: &Path, plan: &CgroupPlan, made: &mut Vec<PathBuf>) -> Result<()> {
    let enables = key.is_empty() && needs_controllers(plan);
    let controllers = if enables { controllers(&plan.root)? } else { Vec::new() };
    let mut way: Vec<&Path> = path.ancestors().take_while(|up| *up != plan.root).collect();
    if key.is_empty() {
        enable_for_children(&plan.root, &controllers);
    } else {
        // v1 has nothing to enable: only the missing directories count
        way = path.ancestors().take_while(|up| !up.exists()).collect();
    }
    for dir in way.into_iter().rev() {
        match make_dir(dir) {
            Ok(()) => made.push(dir.to_owned()),
            // a parent may have been created by somebody else meanwhile; the last one must be ours
            Err(Errno::EEXIST) if dir != path => {}
            Err(errno) => return Err(could_not(dir, errno)),
        }
        if dir != path {
            enable_for_children(dir, &controllers);
        }
    }
    Ok(())
}

/// Whether limits are written on cgroup2. Beside v1 hierarchies usually not.
fn needs_controllers(plan: &CgroupPlan) -> bool {
    plan.paths.len() == 1 || plan.writes.iter().any(|write| write.hierarchy.is_empty())
}

fn controllers(dir: &Path) -> Result<Vec<String>> {
    let list = read_line_at(AT_FDCWD, &dir.join("cgroup.controllers"))
        .context(|| format!("read the controllers of cgroup {}", dir.display()))?;
    Ok(list.split_whitespace().map(str::to_owned).collect())
}

/// Enables controllers for the children of `dir`, as many as possible: the write of a limit whose controller is missing will
/// fail with a better error.
fn enable_for_children(dir: &Path, controllers: &[String]) {
    if controllers.is_empty() {
        return;
    }
    let file = dir.join("cgroup.subtree_control");
    let all: Vec<String> = controllers.iter().map(|name| format!("+{name}")).collect();
    if write_file(&file, &all.join(" ")).is_err() {
        for one in &all {
            let _ = write_file(&file, one);
        }
    }
}

/// Makes sure that the cgroup has every controller that the hierarchy offers. Usually whoever created its parents has enabled
/// them; then nothing is written, because a write to `cgroup.subtree_control` waits for dying cgroups.
pub(super) fn give_controllers(dir: BorrowedFd<'_>, path: &Path, plan: &CgroupPlan) -> Result<()> {
    if !needs_controllers(plan) {
        return Ok(());
    }
    let offered = controllers(&plan.root)?;
    let has = read_line_at(dir, Path::new("cgroup.controllers")).unwrap_or_default();
    if offered.iter().all(|name| has.split_whitespace().any(|one| one == name)) {
        return Ok(());
    }
    let way: Vec<&Path> = path.ancestors().skip(1).take_while(|up| up.starts_with(&plan.root)).collect();
    for dir in way.into_iter().rev() {
        enable_for_children(dir, &offered);
    }
    Ok(())
}

/// Repairs what keeps clone3(2) from creating a process in the cgroup at `path`, or returns an error with the reason.
pub(super) fn repair(path: &Path, errno: Errno, domain: bool) -> Result<()> {
    let kind = read_file(&path.join("cgroup.type")).unwrap_or_default();
    let shown = path.display();
    match (errno, kind.trim_end()) {
        (Errno::EOPNOTSUPP, "domain invalid") if domain => Err(Error::from(errno)
            .context(format!("cannot enter cgroupv2 {shown:?} with domain controllers -- it is in an invalid state"))),
        (Errno::EOPNOTSUPP, "domain invalid") => {
            write_file(&path.join("cgroup.type"), "threaded").context(|| format!("make cgroup {shown} threaded"))
        }
        (Errno::EBUSY, _) => Err(Error::from(errno)
            .context(format!("enter cgroup {shown}"))
            .with_hint("a cgroup2 that hands controllers on to children can't have processes of its own")),
        (_, _) => Err(Error::from(errno).context(format!("enter cgroup {shown}"))),
    }
}

/// A v1 cpuset takes no process before it has CPUs and memory nodes: the bundle's, or else its parent's.
fn prepare_cpuset(path: &Path, plan: &CgroupPlan) -> Result<()> {
    if let Some(parent) = path.parent() {
        inherit(parent, "cpuset.cpus")?;
        inherit(parent, "cpuset.mems")?;
    }
    let handle = super::Cgroup::of(&[("cpuset", path)]);
    LimitWriter { handle: &handle, dir: None }.write_all(&plan.early)?;
    inherit(path, "cpuset.cpus")?;
    inherit(path, "cpuset.mems").map(drop)
}

/// The value of a cpuset file. If it is empty, copies the parent's, recursively.
fn inherit(dir: &Path, file: &str) -> Result<String> {
    let at = dir.join(file);
    let what = || format!("inherit {}", at.display());
    let value = read_file(&at).context(what)?;
    let (false, Some(parent)) = (!value.trim().is_empty(), dir.parent()) else { return Ok(value) };
    let value = inherit(parent, file)?;
    write_file(&at, value.trim_end()).context(what)?;
    Ok(value)
}
