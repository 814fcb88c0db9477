//! `linux.resources` and `linux.cgroupsPath` → a plan of what is done to the cgroup file systems, as data.
//!
//! Pure: the input is a [`CgroupRequest`] and [`CgroupFacts`] about the machine, the output a [`CgroupPlan`], which
//! `crate::cgroup` carries out. May use spec types and error only. Formulas and file names: runtime-spec `config-linux.md`, the
//! kernel's `admin-guide/cgroup-v1/` and `admin-guide/cgroup-v2.rst`.

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
use crate::spec::Extensions;
use crate::spec::annotation::{DELEGATE, SUBGROUP};
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

/// Who creates the container's cgroup.
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

/// The cgroup file systems of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CgroupFacts {
    /// Only cgroup2, mounted on `/sys/fs/cgroup`.
    Unified(Tree),
    /// v1 hierarchies, possibly with cgroup2 beside them ("hybrid").
    Legacy {
        /// The mounted v1 hierarchies.
        hierarchies: Vec<Hierarchy>,
        /// cgroup2, if it is mounted.
        unified: Option<Tree>,
    },
}

/// The cgroup2 hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tree {
    /// Where it is mounted.
    pub root: PathBuf,
    /// Our own cgroup, relative to `root`; read only if the plan depends on it ([`wants_own`]).
    pub own: Option<PathBuf>,
    /// The controllers at its root. Read only on a hybrid machine, where v1 hierarchies have the others.
    pub controllers: Vec<String>,
}

/// A v1 hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hierarchy {
    /// Its controllers; several if they are mounted together.
    pub controllers: Vec<String>,
    /// The name of a hierarchy without controllers (`systemd`).
    pub name: Option<String>,
    /// Where it is mounted.
    pub mountpoint: PathBuf,
    /// Our own cgroup, relative to `mountpoint`.
    pub own: PathBuf,
}

impl Hierarchy {
    /// The keys for its path in the record (runc's `cgroup_paths`).
    pub fn keys(&self) -> impl Iterator<Item = String> + '_ {
        self.controllers.iter().cloned().chain(self.name.iter().map(|name| format!("name={name}")))
    }
}

/// What a cgroup plan is made from, besides the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct CgroupRequest<'a> {
    /// `linux.resources`.
    pub resources: Option<&'a LinuxResources>,
    /// `linux.cgroupsPath`.
    pub cgroups_path: Option<&'a Path>,
    /// `annotations`: `org.systemd.property.*` are properties of the unit.
    pub annotations: Option<&'a HashMap<String, String>>,
    /// The container's id, which names the cgroup if there is no path.
    pub id: &'a str,
    /// Who creates it.
    pub driver: Driver,
    /// The user to whom it is delegated ([`owner()`]).
    pub owner: Option<u32>,
    /// Cgroups below the container's that annotations ask for.
    pub extensions: Option<&'a Extensions>,
    /// Whether a lack of permission to create it is ignored if no limits are set (`--rootless`).
    pub rootless: Rootless,
}

/// Whether a lack of permission for cgroups is ignored (`--rootless`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rootless {
    /// Never.
    #[default]
    No,
    /// Always.
    Yes,
    /// `auto` for root: only if we are in a user namespace, which is looked up when something was refused.
    InUserNamespace,
}

/// What to do if a file does not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Absent {
    /// Fail: the limit would not hold.
    Fail,
    /// Nothing: without the file the limit is met anyway.
    Skip,
    /// Write another value into another file.
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
    /// The hierarchy: a key of [`CgroupPlan::paths`]; `""` is cgroup2.
    pub hierarchy: Cow<'static, str>,
    /// The file.
    pub file: Cow<'static, str>,
    /// The value, written by one write(2).
    pub value: String,
    /// The JSON path of the value in `config.json` that asks for it.
    pub field: Cow<'static, str>,
    /// What to do if the file does not exist.
    pub absent: Absent,
    /// If the kernel answers `EINVAL`, try again after the other writes: if one limit bounds another, raising both works in one
    /// order only, and lowering both in the other.
    pub retry_on_einval: bool,
}

impl fmt::Display for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.file, self.value)
    }
}

/// What happens if the caller lacks the permission to create the cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Permission {
    /// The start fails.
    #[default]
    Needed,
    /// The start fails with a message of its own: a rootless caller set limits without a `cgroupsPath`.
    NeededForLimits,
    /// The container stays in the caller's cgroup.
    Optional,
}

/// The limits that `memory.checkBeforeUpdate` compares with the usage on v2, where the kernel kills instead of refusing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryCheck {
    /// Memory limit in bytes, if it is positive.
    pub limit: Option<u64>,
    /// Memory + swap limit in bytes, if it is positive.
    pub swap: Option<u64>,
}

/// A cgroup below the container's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inner {
    /// Where; relative to the container's.
    pub path: PathBuf,
    /// The user who gets it.
    pub owner: Option<u32>,
}

/// What is done to the cgroups.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CgroupPlan {
    /// Who creates the cgroup.
    pub driver: Driver,
    /// The container's cgroup in every hierarchy; keys as in runc's `cgroup_paths`: controller, `name=…`, `""` for cgroup2.
    pub paths: BTreeMap<String, PathBuf>,
    /// Where cgroup2 is mounted, if `paths` has `""`.
    pub root: PathBuf,
    /// Writes without which no process can be moved in (cpuset on v1).
    pub early: Vec<Write>,
    /// The other limits, in order.
    pub writes: Vec<Write>,
    /// How access to devices is restricted.
    pub devices: Devices,
    /// Asked for by `memory.checkBeforeUpdate`.
    pub memory_check: Option<MemoryCheck>,
    /// The unit to start, with the systemd driver.
    pub unit: Option<Unit>,
    /// For `update` with the systemd driver: the properties to set.
    pub properties: Vec<Property>,
    /// The user to whom the cgroup is delegated; only on cgroup2.
    pub owner: Option<u32>,
    /// The cgroup below a scope that the process begins in, so that the scope itself stays systemd's.
    pub subgroup: Option<Inner>,
    /// The cgroup that the process is moved to when its cgroup namespace is made.
    pub delegate: Option<Inner>,
    /// What happens if the caller lacks the permission to create it.
    pub permission: Permission,
    /// Whether EPERM and EACCES on cgroup writes are ignored (subject to `permission`). A refused device filter is always
    /// ignored: a caller who can't install one can't mknod either.
    pub rootless: Rootless,
    /// A limit needs a domain controller, which threaded cgroups do not have.
    pub domain: bool,
}

/// Plans the container's cgroup.
///
/// # Errors
/// Invalid values, or limits whose controller no hierarchy has.
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
    // what root makes is root's anyway
    let owner = wanted.owner.filter(|uid| *uid != 0 && matches!(facts, CgroupFacts::Unified(_)));
    let (subgroup, delegate) = inner(wanted, facts, owner, notes)?;
    Ok(CgroupPlan {
        driver: wanted.driver,
        subgroup,
        delegate,
        paths,
        root: facts.tree().map(|tree| tree.root.clone()).unwrap_or_default(),
        devices: devices::plan(devices, facts)?,
        unit,
        owner,
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

/// The cgroups below the container's: the one that the process begins in, and the one that it is moved to.
fn inner(
    wanted: &CgroupRequest<'_>,
    facts: &CgroupFacts,
    owner: Option<u32>,
    notes: &mut Vec<String>,
) -> Result<(Option<Inner>, Option<Inner>)> {
    let Some(asked) = wanted.extensions else { return Ok((None, None)) };
    let is_v2 = matches!(facts, CgroupFacts::Unified(_));
    let subgroup = asked.subgroup.clone().filter(|_| wanted.driver == Driver::Systemd);
    if subgroup.is_some() && !is_v2 {
        notes.push(format!("annotation {SUBGROUP} is ignored: it needs cgroup v2"));
    }
    let subgroup = subgroup.filter(|_| is_v2);
    if asked.delegate.is_some() && !is_v2 {
        // a v1 hierarchy can't be given away safely (cgroups(7))
        return Err(Error::spec(format!("annotations[{DELEGATE:?}]"), "needs cgroup v2"));
    }
    let below = |path: &PathBuf| subgroup.clone().unwrap_or_default().join(path);
    let delegate = asked.delegate.as_ref().map(|path| Inner { path: below(path), owner });
    Ok((subgroup.map(|path| Inner { path, owner }), delegate))
}

/// Plans only the limits, for `update`, which changes neither paths nor devices. `driver` is the one that created the cgroup.
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

/// Whether any limit is set, besides devices.
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

/// The cgroup version whose hierarchy has a controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    V1,
    V2,
    /// No mounted hierarchy has it.
    Nowhere,
}

impl CgroupFacts {
    /// The cgroup2 hierarchy, if it is mounted.
    #[must_use]
    pub fn tree(&self) -> Option<&Tree> {
        match self {
            Self::Unified(tree) => Some(tree),
            Self::Legacy { unified, .. } => unified.as_ref(),
        }
    }

    /// Which version has a controller; `v1` and `v2` are its names there.
    fn version(&self, v1: &str, v2: &str) -> Version {
        match self {
            // a missing controller is noticed when a limit is written
            Self::Unified(_) => Version::V2,
            Self::Legacy { hierarchies, .. } if hierarchies.iter().any(|h| h.controllers.iter().any(|c| c == v1)) => {
                Version::V1
            }
            Self::Legacy { unified: Some(tree), .. } if tree.controllers.iter().any(|c| c == v2) => Version::V2,
            Self::Legacy { .. } => Version::Nowhere,
        }
    }
}

/// A plan to which limits are being added.
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

    /// Notes that a value has no effect on this machine.
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
