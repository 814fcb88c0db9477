//! What of the cgroup hierarchies a container gets to see in its mounts of type `cgroup`.

use super::cgroup::{CgroupFacts, CgroupPlan, Hierarchy, Permission};
use std::path::PathBuf;

/// Where the container's cgroups are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CgroupTree {
    /// One hierarchy (cgroup v2): the container's directory, if it can be told before it is there.
    Unified(Option<PathBuf>),
    /// A hierarchy for each set of controllers (v1).
    Legacy(Vec<Branch>),
}

impl CgroupTree {
    /// Where a plan of cgroups puts them.
    #[must_use]
    pub fn of(facts: &CgroupFacts, plan: &CgroupPlan) -> Self {
        match facts {
            // below which part of the tree a user's systemd makes it is asked later
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

/// A container's place in a hierarchy of v1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branch {
    /// `cpu`, `cpuacct`; `name=systemd`.
    pub names: Vec<String>,
    /// The container's directory.
    pub directory: PathBuf,
    /// The caller's own, if it may turn out that the container has to stay there.
    pub callers: Option<PathBuf>,
}
