//! Which cgroup directories a container sees in its mounts of type `cgroup`.

use super::cgroup::{CgroupFacts, CgroupPlan, Hierarchy, Permission};
use std::path::PathBuf;

/// Where the container's cgroups are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CgroupTree {
    /// Only cgroup2: the container's directory, if its path is known before it is created.
    Unified(Option<PathBuf>),
    /// cgroup v1 or hybrid: all hierarchies.
    Legacy(Vec<Branch>),
}

impl CgroupTree {
    /// The directories in which a cgroup plan puts the container.
    #[must_use]
    pub fn of(facts: &CgroupFacts, plan: &CgroupPlan) -> Self {
        match facts {
            // a user's systemd is asked later where it creates the unit's cgroup
            CgroupFacts::Unified(_) if plan.unit.as_ref().is_some_and(|unit| unit.user) => Self::Unified(None),
            CgroupFacts::Unified(_) => Self::Unified(plan.paths.get("").cloned()),
            CgroupFacts::Legacy { hierarchies, .. } => {
                let place = |hierarchy: &Hierarchy| {
                    let names: Vec<String> = hierarchy.keys().collect();
                    let directory = names.first().and_then(|name| plan.paths.get(name)).cloned();
                    let callers = (plan.permission == Permission::Optional)
                        .then(|| hierarchy.mountpoint.join(hierarchy.own.strip_prefix("/").unwrap_or(&hierarchy.own)));
                    Branch { names, directory: directory.unwrap_or_else(|| hierarchy.mountpoint.clone()), callers }
                };
                Self::Legacy(hierarchies.iter().map(place).collect())
            }
        }
    }
}

impl Branch {
    /// The name of its directory in `/sys/fs/cgroup`.
    pub(super) fn folder(&self) -> String {
        let joined = self.names.join(",");
        joined.strip_prefix("name=").map(str::to_owned).unwrap_or(joined)
    }
}

/// One hierarchy of a v1 or hybrid machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branch {
    /// `cpu`, `cpuacct`; `name=systemd`.
    pub names: Vec<String>,
    /// The container's directory.
    pub directory: PathBuf,
    /// The caller's own directory, if the container may have to stay there (rootless).
    pub callers: Option<PathBuf>,
}
