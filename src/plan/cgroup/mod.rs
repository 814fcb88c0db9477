//! `linux.resources` and `linux.cgroupsPath` → what to do to the cgroup file systems, as data.
//!
//! Pure: facts about the machine come in as [`CgroupFacts`], what leaves is a [`CgroupPlan`] for `crate::cgroup` to carry
//! out. May use spec types and error only. Formulas and file names: runtime-spec `config-linux.md`, the kernel's
//! `admin-guide/cgroup-v1/` and `admin-guide/cgroup-v2.rst`.

pub mod devices;
mod owner;
mod path;
pub mod property;
pub mod restore;
pub mod unit;
mod v1;
mod v2;
mod variant;

use crate::error::{Error, Result};
use oci_spec::runtime::LinuxResources;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};

pub use devices::Devices;
pub use owner::owner;
pub use path::wants_own;
use property::Property;
use unit::Unit;

/// Who makes the container's cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Driver {
    /// We do, with mkdir.
    #[default]
    Cgroupfs,
    /// systemd does, as a transient unit.
    Systemd,
    /// Nobody: the container stays in the caller's cgroup (`--cgroup-manager disabled`).
    Disabled,
}

/// What the machine offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CgroupFacts {
    /// cgroup2 alone, mounted on `/sys/fs/cgroup`.
    Unified(Tree),
    /// v1 hierarchies, perhaps with a cgroup2 tree beside them ("hybrid").
    Legacy {
        /// The mounted v1 hierarchies.
        hierarchies: Vec<Hierarchy>,
        /// The cgroup2 tree.
        unified: Option<Tree>,
    },
}

/// A cgroup2 tree.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tree {
    /// Where it is mounted.
    pub root: PathBuf,
    /// Our own cgroup, seen from `root`; read only when the place depends on it ([`wants_own`]).
    pub own: Option<PathBuf>,
    /// The controllers at its root. Read only beside v1 hierarchies, where it tells which ones v1 has not taken.
    pub controllers: Vec<String>,
}

/// A v1 hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hierarchy {
    /// Its controllers; several when mounted together.
    pub controllers: Vec<String>,
    /// The name of a hierarchy without controllers (`systemd`).
    pub name: Option<String>,
    /// Where it is mounted.
    pub mountpoint: PathBuf,
    /// Our own cgroup, seen from `mountpoint`.
    pub own: PathBuf,
}

impl Hierarchy {
    /// The keys under which its paths are recorded.
    pub fn keys(&self) -> impl Iterator<Item = String> + '_ {
        self.controllers.iter().cloned().chain(self.name.iter().map(|name| format!("name={name}")))
    }
}

/// What is asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct CgroupRequest<'a> {
    /// `linux.resources`.
    pub resources: Option<&'a LinuxResources>,
    /// `linux.cgroupsPath`.
    pub cgroups_path: Option<&'a Path>,
    /// `annotations`: `org.systemd.property.*` are the unit's.
    pub annotations: Option<&'a HashMap<String, String>>,
    /// The container's id, which names the cgroup if no path does.
    pub id: &'a str,
    /// Who makes it.
    pub driver: Driver,
    /// Whom it is given to ([`owner()`]).
    pub owner: Option<u32>,
    /// Whether a cgroup that we may not make is no failure as long as nothing was asked of it (`--rootless`).
    pub rootless: Rootless,
}

/// Whether what we may not do to cgroups is forgiven (`--rootless`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rootless {
    /// Never.
    #[default]
    No,
    /// Always.
    Yes,
    /// `auto`, and we are root: if it is root of a user namespace only. Looked up when something was refused.
    InUserNamespace,
}

/// What to do when the kernel does not offer a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Absent {
    /// Fail: the limit would not hold.
    Fail,
    /// Nothing: without the file the wish is met anyway.
    Skip,
    /// Write this value into that file in its place.
    Fallback {
        /// The other file.
        file: Cow<'static, str>,
        /// What to write there.
        value: String,
    },
}

/// One write into one file of the container's cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Which hierarchy: a key of [`CgroupPlan::paths`]; `""` is the cgroup2 tree.
    pub hierarchy: Cow<'static, str>,
    /// The file.
    pub file: Cow<'static, str>,
    /// What is written, with one write(2).
    pub value: String,
    /// The value in `config.json` that asks for it.
    pub field: Cow<'static, str>,
    /// What if the file is absent.
    pub absent: Absent,
    /// If the kernel answers `EINVAL`, try again after the writes that follow: two limits of which one bounds the other
    /// can be raised in one order and lowered in the other only.
    pub retry_on_einval: bool,
}

impl fmt::Display for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.file, self.value)
    }
}

/// How bad it is if the caller may not make the cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Permission {
    /// The start fails.
    #[default]
    Needed,
    /// The start fails, because a rootless caller who named no cgroup asked for limits.
    NeededForLimits,
    /// The container stays in the caller's cgroup.
    Optional,
}

/// What `memory.checkBeforeUpdate` asks to compare on v2, where the kernel would rather kill than refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryCheck {
    /// Memory limit in bytes, if it is positive.
    pub limit: Option<u64>,
    /// Memory + swap limit in bytes, if it is positive.
    pub swap: Option<u64>,
}

/// What will be done to the cgroups.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CgroupPlan {
    /// Who makes the cgroup.
    pub driver: Driver,
    /// The container's cgroup in every hierarchy; keys as runc's `cgroup_paths`: controller, `name=…`, `""` for cgroup2.
    pub paths: BTreeMap<String, PathBuf>,
    /// Where the cgroup2 tree is mounted, if `paths` has `""`.
    pub root: PathBuf,
    /// Writes without which no process can enter (cpuset on v1).
    pub early: Vec<Write>,
    /// The limits, in their order.
    pub writes: Vec<Write>,
    /// What is done about device nodes.
    pub devices: Devices,
    /// Asked for by `memory.checkBeforeUpdate`.
    pub memory_check: Option<MemoryCheck>,
    /// The unit to start, if systemd makes the cgroup.
    pub unit: Option<Unit>,
    /// What systemd is told of changed limits, if it made the cgroup.
    pub properties: Vec<Property>,
    /// The user who gets the cgroup; on cgroup2 alone.
    pub owner: Option<u32>,
    /// How bad it is if we may not make the cgroup.
    pub permission: Permission,
    /// Whether EPERM and EACCES on cgroup writes are ignored (subject to `permission`). A refused device filter is always
    /// ignored: a caller who can't install one can't mknod either.
    pub rootless: Rootless,
    /// The limits need a controller that threaded cgroups lack (memory, io, cpu's, hugetlb).
    pub domain: bool,
}

/// Plans the container's cgroup.
///
/// # Errors
/// Values that mean nothing, or that the machine's hierarchies can't hold.
pub fn plan(wanted: &CgroupRequest<'_>, facts: &CgroupFacts, notes: &mut Vec<String>) -> Result<CgroupPlan> {
    let empty = LinuxResources::default();
    let resources = wanted.resources.unwrap_or(&empty);
    if wanted.driver == Driver::Disabled {
        if wanted.resources.is_some_and(asks_for_limits) {
            notes.push("linux.resources is ignored: cgroups are disabled".to_owned());
        }
        return Ok(CgroupPlan { driver: Driver::Disabled, ..CgroupPlan::default() });
    }
    let devices = resources.devices().as_deref().unwrap_or_default();
    let mut limits = translate(resources, facts, wanted.driver, notes)?;
    limits.early = std::mem::take(&mut limits.writes)
        .into_iter()
        .filter_map(|write| {
            if write.hierarchy == "cpuset" {
                Some(write)
            } else {
                limits.writes.push(write);
                None
            }
        })
        .collect();
    let unit = match wanted.driver {
        Driver::Systemd => Some(unit::plan(wanted, facts, &devices::for_systemd(devices)?, resources)?),
        Driver::Cgroupfs | Driver::Disabled => None,
    };
    let paths = match &unit {
        Some(unit) => path::below(&unit.below, facts),
        None => path::paths(wanted.cgroups_path, wanted.id, facts)?,
    };
    Ok(CgroupPlan {
        driver: wanted.driver,
        paths,
        root: facts.tree().map(|tree| tree.root.clone()).unwrap_or_default(),
        devices: devices::plan(devices, facts)?,
        unit,
        // what root makes is root's anyway
        owner: wanted.owner.filter(|uid| *uid != 0 && matches!(facts, CgroupFacts::Unified(_))),
        permission: match (wanted.rootless != Rootless::No && wanted.cgroups_path.is_none(), asks_for_limits(resources))
        {
            (true, false) => Permission::Optional,
            (true, true) => Permission::NeededForLimits,
            (false, _) => Permission::Needed,
        },
        rootless: wanted.rootless,
        ..limits
    })
}

/// Plans the limits alone, for `update`: no place, no devices (which an update never touches). `driver` is the one that
/// made the cgroup.
///
/// # Errors
/// As [`plan`].
pub fn limits(
    resources: &LinuxResources,
    facts: &CgroupFacts,
    driver: Driver,
    notes: &mut Vec<String>,
) -> Result<CgroupPlan> {
    let mut plan = translate(resources, facts, driver, notes)?;
    if driver == Driver::Systemd {
        plan.properties = unit::limits(resources, facts)?;
    }
    Ok(plan)
}

/// The writes that the resources ask for.
fn translate(r: &LinuxResources, facts: &CgroupFacts, driver: Driver, notes: &mut Vec<String>) -> Result<CgroupPlan> {
    let rounded = (driver == Driver::Systemd).then(|| unit::rounded(r));
    let r = rounded.as_ref().unwrap_or(r);
    let mut limits = Limits { facts, plan: CgroupPlan { driver, ..CgroupPlan::default() }, notes };
    v1::writes(r, &mut limits)?;
    v2::writes(r, &mut limits)?;
    Ok(limits.plan)
}

/// Whether anything but devices is asked for.
fn asks_for_limits(r: &LinuxResources) -> bool {
    let block_io = r.block_io().as_ref().is_some_and(|io| *io != Default::default());
    let memory = r.memory().is_some_and(|m| {
        m.limit().is_some_and(|v| v != 0) || m.swap().is_some_and(|v| v != 0) || m.reservation().is_some_and(|v| v != 0)
    });
    let cpu = r.cpu().as_ref().is_some_and(|cpu| *cpu != Default::default());
    let rest = r.pids().is_some() || r.network().is_some();
    let lists = r.hugepage_limits().as_ref().is_some_and(|l| !l.is_empty())
        || r.rdma().as_ref().is_some_and(|l| !l.is_empty())
        || r.unified().as_ref().is_some_and(|l| !l.is_empty());
    memory || cpu || block_io || rest || lists
}

/// Which world holds a controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    V1,
    V2,
    /// No hierarchy that we could know of has it.
    Nowhere,
}

impl CgroupFacts {
    /// The cgroup2 tree, if there is one.
    #[must_use]
    pub fn tree(&self) -> Option<&Tree> {
        match self {
            Self::Unified(tree) => Some(tree),
            Self::Legacy { unified, .. } => unified.as_ref(),
        }
    }

    /// Where a controller lives; `v1` and `v2` are its names in the two worlds.
    fn version(&self, v1: &str, v2: &str) -> Version {
        match self {
            // which controllers are there is found out by writing
            Self::Unified(_) => Version::V2,
            Self::Legacy { hierarchies, .. } if hierarchies.iter().any(|h| h.controllers.iter().any(|c| c == v1)) => {
                Version::V1
            }
            Self::Legacy { unified: Some(tree), .. } if tree.controllers.iter().any(|c| c == v2) => Version::V2,
            Self::Legacy { .. } => Version::Nowhere,
        }
    }
}

/// The plan while its limits are being added.
struct Limits<'a> {
    facts: &'a CgroupFacts,
    plan: CgroupPlan,
    notes: &'a mut Vec<String>,
}

impl Limits<'_> {
    /// Adds a write; `hierarchy` is a v1 controller or `""`.
    fn write(
        &mut self,
        hierarchy: &'static str,
        file: impl Into<Cow<'static, str>>,
        value: impl ToString,
        field: impl Into<Cow<'static, str>>,
    ) -> &mut Write {
        let write = Write {
            hierarchy: hierarchy.into(),
            file: file.into(),
            value: value.to_string(),
            field: field.into(),
            absent: Absent::Fail,
            retry_on_einval: false,
        };
        let at = self.plan.writes.len();
        self.plan.writes.push(write);
        &mut self.plan.writes[at]
    }

    /// Says that a value has no effect here.
    fn ignored(&mut self, field: &str, why: &str) {
        self.notes.push(format!("linux.resources.{field} is ignored: {why}"));
    }
}

/// The error for a limit whose controller no hierarchy has.
fn nowhere(controller: &str) -> Error {
    Error::msg(format!("cannot set {controller} limit: container could not join or create cgroup"))
        .with_hint(format!("no cgroup hierarchy with the {controller} controller is mounted"))
}

#[cfg(test)]
mod tests;
