//! Mounts: each entry of the configuration becomes a few primitive steps.

use super::attributes::attributes;
pub use super::cgroup_mounts::{Branch, CgroupTree};
use super::image::c_string;
use super::planner::{Bound, HostTree, Planner};
use super::step::{Detached, Slot, Step, Str};
use super::{Mapped, idmap};
use crate::abi::mount::{
    ATTR_RDONLY, MS_BIND, MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_PRIVATE, MS_RDONLY, MS_REC, MS_REMOUNT, MS_SHARED,
    MS_SLAVE, MS_UNBINDABLE, MountAttr,
};
use crate::error::{Error, Result};
use crate::spec::{MountEntry, MountKind, MountOptions};
use std::path::Path;

/// Plans the mount with this index in `Planner::mounts`.
///
/// # Errors
/// Options that exclude each other, or something that is missing.
pub(super) fn steps(planner: &mut Planner<'_>, number: usize, steps: &mut Vec<Step>) -> Result<()> {
    let mounts = planner.mounts;
    let mount = &mounts[number];
    let mapped = idmap::mapped(mount, planner)?;
    let mut one = One { number, mount, at: &mount.at, options: &mount.options, mapped, planner, steps };
    match mount.kind() {
        MountKind::Bind => one.bind(),
        MountKind::RemountBind => one.remount_bind(),
        MountKind::Cgroup => one.cgroup(),
        MountKind::New => one.filesystem(),
        MountKind::Remount => one.remount(),
    }
}

struct One<'a, 'p> {
    number: usize,
    mount: &'a MountEntry,
    at: &'a str,
    options: &'a MountOptions,
    mapped: Option<Mapped>,
    planner: &'a mut Planner<'p>,
    steps: &'a mut Vec<Step>,
}

impl One<'_, '_> {
    fn target(&self) -> Result<Str> {
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

    /// Makes a clone a slave of its source: it receives what the host mounts there, and sends nothing back. In a mount namespace of
    /// the container's own it is one anyway; in the host's namespace it would be in the source's peer group.
    fn slave(&mut self) {
        if !self.planner.chosen.mount {
            let attr = MountAttr { propagation: MS_SLAVE, ..MountAttr::default() };
            self.steps.push(Step::Attr { slot: Slot::TREE, attr, recursive: true });
        }
    }

    fn no_data(&self) -> Result<()> {
        if self.options.data.is_empty() {
            return Ok(());
        }
        let text = format!("bind mounts cannot have any filesystem-specific options applied: {:?}", self.options.data);
        Err(Error::spec(format!("{}.options", self.at), text))
    }

    fn bind(&mut self) -> Result<()> {
        self.no_data()?;
        let at = format!("{}.source", self.at);
        if self.mount.source.as_os_str().is_empty() {
            return Err(Error::spec(at, "a bind mount needs a source"));
        }
        if let Some(text) = self.planner.copied_link(self.mount) {
            let target = c_string(&at, text)?;
            self.steps.push(Step::CopyLink { path: self.target()?, target });
            return Ok(());
        }
        let (recursive, nofollow) = (self.options.set & MS_REC != 0, self.options.links.source);
        let after = self.after();
        let (source, by_host) = match self.planner.bound(self.mount) {
            Bound::InRoot(path) => {
                let source = c_string(&at, path.as_os_str().as_encoded_bytes())?;
                self.steps.push(Step::CloneInside { source: source.clone(), recursive, nofollow });
                (source, false)
            }
            Bound::OfHost(path) => {
                let source = c_string(&at, path.as_os_str().as_encoded_bytes())?;
                // a mount in a mount namespace of another user namespace cannot share mounts with the host
                let shared = self.options.propagation.unwrap_or_default() & MS_SHARED != 0;
                let shares = shared && !self.planner.chosen.user;
                let cut = |(attr, deep): (MountAttr, bool)| {
                    attr.propagation & (MS_PRIVATE | MS_UNBINDABLE) != 0 && (deep || !recursive)
                };
                let (by_host, propagation_follows) = (self.planner.by_host, after.is_some_and(cut));
                let mapped = self.mapped;
                let tree = HostTree {
                    source: source.clone(),
                    recursive,
                    nofollow,
                    fallback: None,
                    mapped,
                    shares,
                    propagation_follows,
                    by_host,
                };
                let step = self.planner.clone_of(tree);
                self.steps.push(step);
                self.slave();
                (source, by_host)
            }
        };
        if let Some(mapped) = self.mapped.filter(|_| !by_host) {
            self.steps.push(Step::IdMap { mapped, source, by_host: self.planner.chosen.user });
        }
        let flags = self.options.set & !(MS_BIND | MS_REC);
        if flags != 0 || self.options.cleared != 0 {
            let (attr, must_clear) = attributes(flags, self.options.cleared);
            self.steps.push(Step::AttrKeepLocked { attr, must_clear, host: by_host });
        }
        if let Some((attr, recursive)) = after {
            self.steps.push(Step::Attr { slot: Slot::TREE, attr, recursive });
        }
        self.attach()
    }

    fn attach(&mut self) -> Result<()> {
        self.steps.push(Step::Attach {
            target: self.target()?,
            in_proc: self.mount.is_in_proc(),
            nofollow: self.options.links.target,
            keep: self.planner.added(),
        });
        Ok(())
    }

    fn remount_bind(&mut self) -> Result<()> {
        self.no_data()?;
        let (attr, must_clear) = attributes(self.options.set & !(MS_BIND | MS_REC | MS_REMOUNT), self.options.cleared);
        self.steps.push(Step::AttrAt { target: self.target()?, attr, must_clear, then: self.after() });
        Ok(())
    }

    /// The file system's own options (`data` of mount(2)).
    fn data(&self, labelled: bool) -> Result<Str> {
        let mut data = self.options.data.clone();
        if labelled {
            self.planner.label(&mut data);
        }
        c_string(&format!("{}.options", self.at), data)
    }

    fn takes_label(&self) -> bool {
        !matches!(self.mount.typ.as_str(), "proc" | "sysfs" | "mqueue" | "cgroup" | "cgroup2")
    }

    fn remount(&mut self) -> Result<()> {
        let data = self.data(self.takes_label())?;
        self.steps.push(Step::Remount { target: self.target()?, flags: self.options.set, data });
        let then = self.after();
        if then.is_some() {
            let (attr, must_clear) = (MountAttr::default(), 0);
            self.steps.push(Step::AttrAt { target: self.target()?, attr, must_clear, then });
        }
        Ok(())
    }

    fn filesystem(&mut self) -> Result<()> {
        let at = |field: &str| format!("{}.{field}", self.at);
        let (typ, source) = (self.mount.typ.as_str(), self.mount.source.as_os_str().as_encoded_bytes());
        if typ.is_empty() {
            return Err(Error::spec(at("type"), "a mount that is not a bind mount needs a type"));
        }
        let mut flags = self.options.set & !MS_REC;
        let mut keep = (self.planner.dev.mount == Some(self.number)).then_some(Slot::DEV);
        if typ == "tmpfs" && flags & MS_RDONLY != 0 {
            // mount points in it, and the nodes of /dev, must be created first: it becomes read-only at the end
            flags &= !MS_RDONLY;
            let slot = keep.unwrap_or_else(|| self.planner.opens.slot());
            keep = Some(slot);
            self.planner.readonly.push(slot);
        }
        keep = keep.or_else(|| self.planner.added());
        let copy_up = self.options.copy_up && typ == "tmpfs";
        let detached = self.detached(flags, copy_up, keep);
        let step = Step::Mount {
            source: c_string(&at("source"), if source.is_empty() { typ.as_bytes() } else { source })?,
            fstype: c_string(&at("type"), typ)?,
            target: self.target()?,
            flags,
            data: self.data(self.takes_label())?,
            new_dir: detached.is_none() && self.planner.dev.new_dirs.contains(&self.number),
            in_proc: self.mount.is_in_proc(),
            detached,
        };
        self.steps.push(step);
        Ok(())
    }

    /// What `mount(2)` can't do with a new file system, if there is anything.
    fn detached(&self, flags: u64, copy_up: bool, keep: Option<Slot>) -> Option<Box<Detached>> {
        let attrs: Box<[_]> = self.after().into_iter().collect();
        let attr = attributes(flags, 0).0.set;
        let needed = copy_up || keep.is_some() || !attrs.is_empty();
        needed.then(|| Box::new(Detached { attr, copy_up, attrs, keep }))
    }

    fn cgroup(&mut self) -> Result<()> {
        let request = self.planner.request;
        match request.cgroups {
            CgroupTree::Unified(own) => {
                let flags = self.options.set & !MS_REC;
                // the container's own cgroup, which is what a cgroup namespace would show
                let own_part = self.planner.has_cgroup_namespace();
                let bind = if own_part { own.as_deref() } else { Some(Path::new("/sys/fs/cgroup")) };
                let at = format!("{}.destination", self.at);
                let bind = bind.map(|path| c_string(&at, path.as_os_str().as_encoded_bytes())).transpose()?;
                let attrs = self.after().into_iter().collect();
                let (target, data) = (self.target()?, self.data(false)?);
                self.steps.push(Step::MountCgroup { target, flags, data, own: own_part, bind, attrs });
                Ok(())
            }
            CgroupTree::Legacy(hierarchies) => self.legacy(hierarchies),
        }
    }

    /// A tmpfs with a directory for each hierarchy: a mount of the hierarchy if a cgroup namespace limits it to the container,
    /// otherwise a bind of the container's own cgroup. Controllers that share a hierarchy get symbolic links.
    fn legacy(&mut self, hierarchies: &[Branch]) -> Result<()> {
        let at = format!("{}.destination", self.at);
        let mut data = "mode=755".to_owned();
        self.planner.label(&mut data);
        let flags = MS_NOEXEC | MS_NOSUID | MS_NODEV;
        let readonly = self.options.set & MS_RDONLY != 0;
        // its contents are mounted first
        let readonly = readonly.then_some((MountAttr { set: ATTR_RDONLY, ..MountAttr::default() }, false));
        let after: Vec<_> = readonly.into_iter().chain(self.after()).collect();
        let keep = (!after.is_empty()).then(|| self.planner.opens.slot());
        let detached = Detached { attr: attributes(flags, 0).0.set, copy_up: false, attrs: Box::default(), keep };
        let target = self.target()?;
        self.steps.push(Step::Mount {
            source: c"tmpfs".to_owned(),
            fstype: c"tmpfs".to_owned(),
            target,
            flags,
            data: c_string(&at, data)?,
            new_dir: false,
            in_proc: false,
            detached: keep.map(|_| Box::new(detached)),
        });
        for hierarchy in hierarchies {
            self.hierarchy(&at, hierarchy)?;
        }
        if let Some(slot) = keep {
            self.steps.extend(after.into_iter().map(|(attr, recursive)| Step::Attr { slot, attr, recursive }));
        }
        Ok(())
    }

    fn hierarchy(&mut self, at: &str, hierarchy: &Branch) -> Result<()> {
        let (folder, names) = (hierarchy.folder(), &hierarchy.names);
        let target = c_string(at, format!("{}/{folder}", self.mount.target))?;
        if self.planner.has_cgroup_namespace() {
            let joined = names.join(",");
            self.steps.push(Step::Mount {
                source: c"cgroup".to_owned(),
                fstype: c"cgroup".to_owned(),
                target,
                flags: self.options.set & !MS_REC,
                data: c_string(at, if folder == joined { joined } else { format!("none,{joined}") })?,
                new_dir: false,
                in_proc: false,
                detached: None,
            });
        } else {
            self.own_cgroup(at, hierarchy)?;
            self.steps.push(Step::Attach { target, in_proc: false, nofollow: false, keep: None });
        }
        for name in names.iter().filter(|_| names.len() > 1) {
            let path = c_string(at, format!("{}/{name}", self.mount.target))?;
            self.steps.push(Step::Link { at: Slot::ROOT, path, target: c_string(at, folder.as_str())? });
        }
        Ok(())
    }

    /// A clone of the container's own cgroup in a hierarchy, or of the caller's if the container's does not exist.
    fn own_cgroup(&mut self, at: &str, hierarchy: &Branch) -> Result<()> {
        let path = |path: &Path| c_string(at, path.as_os_str().as_encoded_bytes());
        let (source, fallback) = (path(&hierarchy.directory)?, hierarchy.callers.as_deref().map(path).transpose()?);
        let by_host = self.planner.hidden;
        let tree = HostTree { source, recursive: true, fallback, by_host, ..HostTree::default() };
        let step = self.planner.clone_of(tree);
        self.steps.push(step);
        self.slave();
        let (attr, must_clear) = attributes(self.options.set & !MS_REC, self.options.cleared);
        self.steps.push(Step::AttrKeepLocked { attr, must_clear, host: false });
        Ok(())
    }
}

impl Planner<'_> {
    /// Adds the SELinux context for a new file system to its options.
    pub(super) fn label(&self, data: &mut String) {
        let label = self.linux.mount_label().as_deref().filter(|label| !label.is_empty());
        label.into_iter().for_each(|label| append_label(data, self.context_type(), label));
    }

    /// The option of a new file system that takes its SELinux label.
    pub(super) fn context_type(&self) -> &str {
        self.config.extensions.context_type.as_deref().unwrap_or("context")
    }
}

/// Adds an SELinux label to the options of a file system.
pub(super) fn append_label(data: &mut String, option: &str, label: &str) {
    if !data.is_empty() {
        data.push(',');
    }
    data.push_str(&format!("{option}=\"{label}\""));
}
