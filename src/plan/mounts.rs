//! Mounts: one entry of the spec becomes a few primitive steps. The option strings are in `abi::mount`.

use super::cgroup::{CgroupFacts, CgroupPlan, Hierarchy, Permission};
pub use super::idmap::Ids;
use super::image::c_string;
use super::options::{Options, attributes, options};
use super::step::{Slot, Step, Str};
use super::{Mapped, Open, Plan, idmap};
use crate::abi::mount::{
    ATTR_RDONLY, MS_BIND, MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_RDONLY, MS_REC, MS_REMOUNT, MS_SLAVE, MountAttr,
};
use crate::error::{Error, Result};
use oci_spec::runtime::Mount;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where the container's cgroups lie, for mounts of type `cgroup`.
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
                        .then(|| hierarchy.mountpoint.join(hierarchy.own.trim_start_matches('/')));
                    Branch { names, directory: directory.unwrap_or_else(|| hierarchy.mountpoint.clone()), callers }
                };
                Self::Legacy(hierarchies.iter().map(place).collect())
            }
        }
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

/// What the mounts are planned against.
#[derive(Debug)]
pub struct Place<'a> {
    /// The bundle: relative sources start here.
    pub bundle: &'a Path,
    /// The root file system.
    pub root: &'a Path,
    /// Sources are cloned by the host: from the container's user namespace they may be out of reach.
    pub by_host: bool,
    /// In the mount namespace of the host: a clone would share with its source what is mounted in either.
    pub beside_host: bool,
    /// What mappings of ids in mounts can refer to.
    pub ids: &'a Ids,
    /// The container has a cgroup namespace of its own.
    pub cgroup_namespace: bool,
    /// The cgroup trees.
    pub cgroups: &'a CgroupTree,
    /// SELinux label of new file systems.
    pub label: Option<&'a str>,
}

/// What below `/proc` may be covered by a mount: files that lxcfs and the like provide.
const PROC_COVERS: [&str; 10] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
];

/// Removes `.`, `..` and doubled slashes, as seen from `/`; no file is looked at.
fn clean(path: &Path) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let text = path.to_string_lossy();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

fn target(at: &str, mount: &Mount, root: &Path, notes: &mut Vec<String>) -> Result<String> {
    let at = format!("{at}.destination");
    if !mount.destination().is_absolute() {
        notes.push(format!("mount destination {} is not absolute", mount.destination().display()));
    }
    // as runc: the root's own path in front of a destination says the same as none
    let target = clean(mount.destination().strip_prefix(root).unwrap_or(mount.destination()));
    if target == "/" {
        return Err(Error::spec(at, "mounting over / is not possible: the root is what root.path says"));
    }
    let pseudo = matches!(mount.typ().as_deref(), Some("proc" | "sysfs"));
    if target.starts_with("/proc/") && !pseudo && !PROC_COVERS.contains(&target.as_str()) {
        return Err(Error::spec(at, format!("{target:?} cannot be mounted because it is inside /proc")));
    }
    Ok(target)
}

/// The steps of all mounts, in the order of the spec.
///
/// # Errors
/// An option or a destination that can't be.
pub fn steps(
    mounts: &[Mount],
    place: &Place<'_>,
    opens: &mut Vec<(Slot, Open)>,
    slots: &mut u16,
    notes: &mut Vec<String>,
) -> Result<Vec<Step>> {
    let mut steps = Vec::with_capacity(mounts.len() * 2);
    let mut known = BTreeMap::new();
    for (i, mount) in mounts.iter().enumerate() {
        let at = format!("mounts[{i}]");
        let target = target(&at, mount, place.root, notes)?;
        let mut options = options(mount.options().as_deref().unwrap_or_default());
        let typ = mount.typ().as_deref().unwrap_or_default();
        if typ == "bind" {
            options.set |= MS_BIND;
        }
        let mapped = idmap::mapped(&at, mount, &options, place.ids, &mut known, opens, slots)?;
        let one = One { mapped, at: &at, target: &target, options: &options, mount, place };
        if options.set & MS_BIND != 0 {
            one.bind(&mut steps, opens, slots)?;
        } else if typ == "cgroup" || typ == "cgroup2" {
            one.cgroup(&mut steps)?;
        } else {
            one.filesystem(&mut steps, typ)?;
        }
    }
    Ok(steps)
}

fn turns_readonly(typ: &str) -> bool {
    typ == "tmpfs"
}

/// The steps that make read-only what was mounted writable, so that it could be filled.
///
/// # Errors
/// As [`steps`].
pub(super) fn readonly(mounts: &[Mount]) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    for (i, mount) in mounts.iter().enumerate() {
        let at = format!("mounts[{i}]");
        let options = options(mount.options().as_deref().unwrap_or_default());
        let late = turns_readonly(mount.typ().as_deref().unwrap_or_default());
        if late && options.set & MS_RDONLY != 0 && options.set & (MS_BIND | MS_REMOUNT) == 0 {
            let target = c_string(&format!("{at}.destination"), clean(mount.destination()))?;
            let attr = MountAttr { set: ATTR_RDONLY, ..MountAttr::default() };
            steps.push(Step::AttrAt { target, attr, recursive: false, explicit: attr.clear });
        }
    }
    Ok(steps)
}

struct One<'a> {
    at: &'a str,
    target: &'a str,
    options: &'a Options,
    mount: &'a Mount,
    place: &'a Place<'a>,
    mapped: Option<Mapped>,
}

impl One<'_> {
    fn c_target(&self) -> Result<Str> {
        c_string(&format!("{}.destination", self.at), self.target)
    }

    /// Propagation and recursive attributes as one call.
    fn after(&self) -> Option<(MountAttr, bool)> {
        let mut attr = self.options.recursive;
        attr.propagation = self.options.propagation.unwrap_or_default() & !MS_REC;
        let recursive = self.options.recursive != MountAttr::default()
            || self.options.propagation.unwrap_or_default() & MS_REC != 0;
        (!attr.is_empty()).then_some((attr, recursive))
    }

    /// What makes a clone receive what the host mounts in the source, and send nothing back. In a mount namespace of the
    /// container's own it does that anyway.
    fn apart(&self) -> Option<Step> {
        let attr = MountAttr { propagation: MS_SLAVE, ..MountAttr::default() };
        self.place.beside_host.then_some(Step::Attr { attr, recursive: true })
    }

    fn bind(&self, steps: &mut Vec<Step>, opens: &mut Vec<(Slot, Open)>, slots: &mut u16) -> Result<()> {
        if !self.options.data.is_empty() {
            let text =
                format!("bind mounts cannot have any filesystem-specific options applied: {:?}", self.options.data);
            return Err(Error::spec(format!("{}.options", self.at), text));
        }
        if self.options.set & MS_REMOUNT != 0 {
            return self.remount_bind(steps);
        }
        let at = format!("{}.source", self.at);
        let source = self.mount.source().as_deref().unwrap_or_else(|| Path::new(""));
        if source.as_os_str().is_empty() {
            return Err(Error::spec(at, "a bind mount needs a source"));
        }
        let source = self.place.bundle.join(source);
        let recursive = self.options.set & MS_REC != 0;
        // what lies in the root may be there only since an earlier mount
        let inside = source.strip_prefix(self.place.root).ok();
        let host = inside.is_none() && self.place.by_host;
        let source = c_string(&at, inside.unwrap_or(&source).as_os_str().as_encoded_bytes())?;
        if let Some(_path) = inside {
            steps.push(Step::CloneInside { source: source.clone(), recursive });
        } else if host {
            let open = Open::Tree { source: source.clone(), recursive, mapped: self.mapped };
            let slot = Plan::open(opens, slots, open);
            steps.push(Step::Take { slot, source: source.clone() });
        } else {
            steps.push(Step::Clone { source: source.clone(), recursive, instead: None });
            steps.extend(self.apart());
        }
        if let Some(mapped) = self.mapped.filter(|_| !host) {
            steps.push(Step::IdMap { mapped, source, by_host: self.place.ids.user });
        }
        let flags = self.options.set & !(MS_BIND | MS_REC);
        if flags != 0 || self.options.cleared != 0 {
            let (attr, explicit) = attributes(flags, self.options.cleared);
            steps.push(Step::AttrKeepLocked { attr, explicit, host });
        }
        if let Some((attr, recursive)) = self.after() {
            steps.push(Step::Attr { attr, recursive });
        }
        steps.push(Step::Attach { target: self.c_target()? });
        Ok(())
    }

    fn remount_bind(&self, steps: &mut Vec<Step>) -> Result<()> {
        let (attr, explicit) = attributes(self.options.set & !(MS_BIND | MS_REC | MS_REMOUNT), self.options.cleared);
        steps.push(Step::AttrAt { target: self.c_target()?, attr, recursive: false, explicit });
        if let Some((attr, recursive)) = self.after() {
            steps.push(Step::AttrAt { target: self.c_target()?, attr, recursive, explicit: attr.clear });
        }
        Ok(())
    }

    fn filesystem(&self, steps: &mut Vec<Step>, typ: &str) -> Result<()> {
        let at = |field: &str| format!("{}.{field}", self.at);
        let mut data = self.options.data.clone();
        if !matches!(typ, "proc" | "sysfs" | "mqueue" | "cgroup" | "cgroup2") {
            label(&mut data, self.place.label);
        }
        let source = self.mount.source().as_deref().unwrap_or_else(|| Path::new("")).as_os_str().as_encoded_bytes();
        let data = c_string(&at("options"), data)?;
        if self.options.set & MS_REMOUNT != 0 {
            steps.push(Step::Remount { target: self.c_target()?, flags: self.options.set, data });
        } else {
            if typ.is_empty() {
                return Err(Error::spec(at("type"), "a mount that is no bind mount needs a type"));
            }
            // what is mounted below, and the nodes of /dev, need room to be made in: see `readonly`
            let late = if turns_readonly(typ) { MS_RDONLY } else { 0 };
            steps.push(Step::Mount {
                source: c_string(&at("source"), if source.is_empty() { typ.as_bytes() } else { source })?,
                fstype: c_string(&at("type"), typ)?,
                target: self.c_target()?,
                flags: self.options.set & !(MS_REC | late),
                data,
                copy_up: self.options.copy_up && typ == "tmpfs",
                fresh: false,
            });
        }
        if let Some((attr, recursive)) = self.after() {
            steps.push(Step::AttrAt { target: self.c_target()?, attr, recursive, explicit: attr.clear });
        }
        Ok(())
    }

    fn cgroup(&self, steps: &mut Vec<Step>) -> Result<()> {
        match self.place.cgroups {
            CgroupTree::Unified(own) => {
                let flags = self.options.set & !MS_REC;
                // what a cgroup namespace would show is the container's part of the tree
                let bind = if self.place.cgroup_namespace { own.as_deref() } else { Some(Path::new("/sys/fs/cgroup")) };
                let at = format!("{}.destination", self.at);
                let bind = bind.map(|path| c_string(&at, path.as_os_str().as_encoded_bytes())).transpose()?;
                steps.push(Step::MountCgroup { target: self.c_target()?, flags, data: self.data()?, bind });
            }
            CgroupTree::Legacy(hierarchies) => self.legacy(steps, hierarchies)?,
        }
        if let Some((attr, recursive)) = self.after() {
            steps.push(Step::AttrAt { target: self.c_target()?, attr, recursive, explicit: attr.clear });
        }
        Ok(())
    }

    fn data(&self) -> Result<Str> {
        c_string(&format!("{}.options", self.at), self.options.data.as_str())
    }

    /// A tmpfs with a directory for each hierarchy: the hierarchy itself where a cgroup namespace narrows it to the
    /// container, else a bind of the container's own cgroup; links for controllers that share one.
    fn legacy(&self, steps: &mut Vec<Step>, hierarchies: &[Branch]) -> Result<()> {
        let at = format!("{}.destination", self.at);
        let mut data = "mode=755".to_owned();
        label(&mut data, self.place.label);
        steps.push(Step::Mount {
            source: c"tmpfs".to_owned(),
            fstype: c"tmpfs".to_owned(),
            target: self.c_target()?,
            flags: MS_NOEXEC | MS_NOSUID | MS_NODEV,
            data: c_string(&at, data)?,
            copy_up: false,
            fresh: false,
        });
        for Branch { names, directory, callers } in hierarchies {
            let joined = names.join(",");
            let folder = joined.strip_prefix("name=").unwrap_or(&joined);
            let target = c_string(&at, format!("{}/{folder}", self.target))?;
            if self.place.cgroup_namespace {
                steps.push(Step::Mount {
                    source: c"cgroup".to_owned(),
                    fstype: c"cgroup".to_owned(),
                    target,
                    flags: self.options.set & !MS_REC,
                    data: c_string(&at, if folder == joined { joined.clone() } else { format!("none,{joined}") })?,
                    copy_up: false,
                    fresh: false,
                });
            } else {
                let source = c_string(&at, directory.as_os_str().as_encoded_bytes())?;
                let callers = callers.as_ref().map(|path| c_string(&at, path.as_os_str().as_encoded_bytes()));
                steps.push(Step::Clone { source, recursive: true, instead: callers.transpose()? });
                steps.extend(self.apart());
                let (attr, explicit) = attributes(self.options.set & !MS_REC, self.options.cleared);
                steps.push(Step::AttrKeepLocked { attr, explicit, host: false });
                steps.push(Step::Attach { target });
            }
            for name in names.iter().filter(|_| names.len() > 1) {
                let path = c_string(&at, format!("{}/{name}", self.target))?;
                steps.push(Step::Link { at: Slot::ROOT, path, target: c_string(&at, joined.as_str())? });
            }
        }
        if self.options.set & MS_RDONLY != 0 {
            let attr = MountAttr { set: ATTR_RDONLY, ..MountAttr::default() };
            steps.push(Step::AttrAt { target: self.c_target()?, attr, recursive: false, explicit: 0 });
        }
        Ok(())
    }
}

/// Adds the SELinux context for a new file system to its options.
pub(super) fn label(data: &mut String, label: Option<&str>) {
    if let Some(label) = label.filter(|label| !label.is_empty()) {
        if !data.is_empty() {
            data.push(',');
        }
        data.push_str(&format!("context=\"{label}\""));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_stay_inside() {
        assert_eq!(clean(Path::new("/a/../../b/./c//")), "/b/c");
        assert_eq!(clean(Path::new("rel")), "/rel");
    }
}
