//! Mounts: one entry of the spec becomes a few primitive steps. The option strings are in `abi::mount`.

use super::attributes::attributes;
use super::cgroup::{CgroupFacts, CgroupPlan, Hierarchy, Permission};
pub use super::idmap::Ids;
use super::image::c_string;
use super::step::{Detached, Slot, Step, Str};
use super::{Mapped, Open, Plan, idmap};
use crate::abi::mount::{
    ATTR_RDONLY, MS_BIND, MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_RDONLY, MS_REC, MS_REMOUNT, MS_SHARED, MS_SLAVE, MountAttr,
};
use crate::error::{Error, Result};
use crate::spec::{MountEntry, MountOptions};
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
                        .then(|| hierarchy.mountpoint.join(hierarchy.own.strip_prefix("/").unwrap_or(&hierarchy.own)));
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
    /// The host's paths mean nothing where init is: what it binds the host clones.
    pub hidden: bool,
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

/// The steps of all mounts, in the order of the spec; and the slots of those that are to become read-only when they are filled.
///
/// # Errors
/// An option that can't be.
pub(super) fn steps(
    mounts: &[MountEntry],
    place: &Place<'_>,
    opens: &mut Vec<(Slot, Open)>,
    slots: &mut u16,
) -> Result<(Vec<Step>, Vec<Slot>)> {
    let mut steps = Vec::with_capacity(mounts.len() * 2);
    let (mut late, mut known) = (Vec::new(), BTreeMap::new());
    // the last file system that is mounted on /dev is the one that is filled
    let dev = mounts.iter().rposition(|mount| mount.target == "/dev");
    for (i, mount) in mounts.iter().enumerate() {
        let mapped = idmap::mapped(mount, place.ids, &mut known, opens, slots)?;
        let one = One { mapped, at: &mount.at, options: &mount.options, mount, place, is_dev: dev == Some(i) };
        match mount.typ.as_str() {
            _ if mount.is_bind() => one.bind(&mut steps, opens, slots)?,
            "cgroup" | "cgroup2" => one.cgroup(&mut steps, opens, slots)?,
            typ => one.filesystem(&mut steps, &mut late, slots, typ)?,
        }
    }
    Ok((steps, late))
}

fn take_slot(slots: &mut u16) -> Slot {
    let slot = Slot(*slots);
    *slots = slots.saturating_add(1);
    slot
}

struct One<'a> {
    at: &'a str,
    options: &'a MountOptions,
    mount: &'a MountEntry,
    place: &'a Place<'a>,
    mapped: Option<Mapped>,
    /// It is the container's `/dev`.
    is_dev: bool,
}

impl One<'_> {
    fn c_target(&self) -> Result<Str> {
        c_string(&format!("{}.destination", self.at), self.mount.target.as_str())
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
        self.place.beside_host.then_some(Step::Attr { slot: Slot::TREE, attr, recursive: true })
    }

    fn bind(&self, steps: &mut Vec<Step>, opens: &mut Vec<(Slot, Open)>, slots: &mut u16) -> Result<()> {
        if !self.options.data.is_empty() {
            let text =
                format!("bind mounts cannot have any filesystem-specific options applied: {:?}", self.options.data);
            return Err(Error::spec(format!("{}.options", self.at), text));
        }
        if self.mount.is_remount() {
            return self.remount_bind(steps);
        }
        let at = format!("{}.source", self.at);
        let source = &self.mount.source;
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
            // one of a user namespace can share nothing with the host
            let shares = !self.place.ids.user && self.options.propagation.unwrap_or_default() & MS_SHARED != 0;
            let open = Open::Tree { source: source.clone(), recursive, mapped: self.mapped, instead: None, shares };
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
            steps.push(Step::Attr { slot: Slot::TREE, attr, recursive });
        }
        steps.push(Step::Attach { target: self.c_target()?, in_proc: self.mount.is_in_proc() });
        Ok(())
    }

    fn remount_bind(&self, steps: &mut Vec<Step>) -> Result<()> {
        let (attr, explicit) = attributes(self.options.set & !(MS_BIND | MS_REC | MS_REMOUNT), self.options.cleared);
        steps.push(Step::AttrAt { target: self.c_target()?, attr, explicit, then: self.after() });
        Ok(())
    }

    fn filesystem(&self, steps: &mut Vec<Step>, late: &mut Vec<Slot>, slots: &mut u16, typ: &str) -> Result<()> {
        let at = |field: &str| format!("{}.{field}", self.at);
        let mut data = self.options.data.clone();
        if !matches!(typ, "proc" | "sysfs" | "mqueue" | "cgroup" | "cgroup2") {
            label(&mut data, self.place.label);
        }
        let source = self.mount.source.as_os_str().as_encoded_bytes();
        let data = c_string(&at("options"), data)?;
        if self.mount.is_remount() {
            steps.push(Step::Remount { target: self.c_target()?, flags: self.options.set, data });
            if let Some((attr, recursive)) = self.after() {
                let then = Some((attr, recursive));
                let (attr, explicit) = (MountAttr::default(), 0);
                steps.push(Step::AttrAt { target: self.c_target()?, attr, explicit, then });
            }
            return Ok(());
        }
        if typ.is_empty() {
            return Err(Error::spec(at("type"), "a mount that is no bind mount needs a type"));
        }
        let mut flags = self.options.set & !MS_REC;
        let mut keep = self.is_dev.then_some(Slot::DEV);
        if typ == "tmpfs" && flags & MS_RDONLY != 0 {
            // what is mounted below, and the nodes of /dev, need room to be made in: it becomes read-only last
            flags &= !MS_RDONLY;
            late.push(*keep.get_or_insert_with(|| take_slot(slots)));
        }
        let copy_up = self.options.copy_up && typ == "tmpfs";
        steps.push(Step::Mount {
            source: c_string(&at("source"), if source.is_empty() { typ.as_bytes() } else { source })?,
            fstype: c_string(&at("type"), typ)?,
            target: self.c_target()?,
            flags,
            data,
            fresh: false,
            in_proc: self.mount.is_in_proc(),
            detached: self.detached(flags, copy_up, keep),
        });
        Ok(())
    }

    /// What is to be done with a new file system that `mount(2)` can't do, if there is something.
    fn detached(&self, flags: u64, copy_up: bool, keep: Option<Slot>) -> Option<Box<Detached>> {
        let attrs: Box<[_]> = self.after().into_iter().collect();
        let attr = attributes(flags, 0).0.set;
        let needed = copy_up || keep.is_some() || !attrs.is_empty();
        needed.then(|| Box::new(Detached { attr, copy_up, attrs, keep }))
    }

    fn cgroup(&self, steps: &mut Vec<Step>, opens: &mut Vec<(Slot, Open)>, slots: &mut u16) -> Result<()> {
        match self.place.cgroups {
            CgroupTree::Unified(own) => {
                let flags = self.options.set & !MS_REC;
                // what a cgroup namespace would show is the container's part of the tree
                let bind = if self.place.cgroup_namespace { own.as_deref() } else { Some(Path::new("/sys/fs/cgroup")) };
                let at = format!("{}.destination", self.at);
                let bind = bind.map(|path| c_string(&at, path.as_os_str().as_encoded_bytes())).transpose()?;
                let attrs = self.after().into_iter().collect();
                steps.push(Step::MountCgroup { target: self.c_target()?, flags, data: self.data()?, bind, attrs });
                Ok(())
            }
            CgroupTree::Legacy(hierarchies) => self.legacy(steps, hierarchies, opens, slots),
        }
    }

    fn data(&self) -> Result<Str> {
        c_string(&format!("{}.options", self.at), self.options.data.as_str())
    }

    /// A tmpfs with a directory for each hierarchy: the hierarchy itself where a cgroup namespace narrows it to the
    /// container, else a bind of the container's own cgroup; links for controllers that share one.
    fn legacy(
        &self,
        steps: &mut Vec<Step>,
        hierarchies: &[Branch],
        opens: &mut Vec<(Slot, Open)>,
        slots: &mut u16,
    ) -> Result<()> {
        let at = format!("{}.destination", self.at);
        let mut data = "mode=755".to_owned();
        label(&mut data, self.place.label);
        let flags = MS_NOEXEC | MS_NOSUID | MS_NODEV;
        let readonly = self.options.set & MS_RDONLY != 0;
        // what it holds is mounted first
        let after: Vec<_> =
            [readonly.then_some((MountAttr { set: ATTR_RDONLY, ..MountAttr::default() }, false)), self.after()]
                .into_iter()
                .flatten()
                .collect();
        let keep = (!after.is_empty()).then(|| take_slot(slots));
        let detached = Detached { attr: attributes(flags, 0).0.set, copy_up: false, attrs: Box::default(), keep };
        steps.push(Step::Mount {
            source: c"tmpfs".to_owned(),
            fstype: c"tmpfs".to_owned(),
            target: self.c_target()?,
            flags,
            data: c_string(&at, data)?,
            fresh: false,
            in_proc: false,
            detached: keep.map(|_| Box::new(detached)),
        });
        for Branch { names, directory, callers } in hierarchies {
            let joined = names.join(",");
            let folder = joined.strip_prefix("name=").unwrap_or(&joined);
            let target = c_string(&at, format!("{}/{folder}", self.mount.target))?;
            if self.place.cgroup_namespace {
                steps.push(Step::Mount {
                    source: c"cgroup".to_owned(),
                    fstype: c"cgroup".to_owned(),
                    target,
                    flags: self.options.set & !MS_REC,
                    data: c_string(&at, if folder == joined { joined.clone() } else { format!("none,{joined}") })?,
                    fresh: false,
                    in_proc: false,
                    detached: None,
                });
            } else {
                self.own_cgroup(steps, (directory, callers.as_deref()), opens, slots)?;
                steps.push(Step::Attach { target, in_proc: false });
            }
            for name in names.iter().filter(|_| names.len() > 1) {
                let path = c_string(&at, format!("{}/{name}", self.mount.target))?;
                steps.push(Step::Link { at: Slot::ROOT, path, target: c_string(&at, joined.as_str())? });
            }
        }
        if let Some(slot) = keep {
            steps.extend(after.into_iter().map(|(attr, recursive)| Step::Attr { slot, attr, recursive }));
        }
        Ok(())
    }

    /// A clone of the container's own cgroup in a hierarchy, or of its caller's where that is not there.
    fn own_cgroup(
        &self,
        steps: &mut Vec<Step>,
        (directory, callers): (&Path, Option<&Path>),
        opens: &mut Vec<(Slot, Open)>,
        slots: &mut u16,
    ) -> Result<()> {
        let path = |path: &Path| c_string(&format!("{}.destination", self.at), path.as_os_str().as_encoded_bytes());
        let (source, instead) = (path(directory)?, callers.map(path).transpose()?);
        if self.place.hidden {
            let open = Open::Tree { source: source.clone(), recursive: true, mapped: None, instead, shares: false };
            steps.push(Step::Take { slot: Plan::open(opens, slots, open), source });
        } else {
            steps.push(Step::Clone { source, recursive: true, instead });
        }
        steps.extend(self.apart());
        let (attr, explicit) = attributes(self.options.set & !MS_REC, self.options.cleared);
        steps.push(Step::AttrKeepLocked { attr, explicit, host: false });
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
