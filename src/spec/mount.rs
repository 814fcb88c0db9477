//! `mounts` and `linux.rootfsPropagation`: each entry with its destination cleaned and its options parsed. The option
//! strings are in `abi::mount`.

use super::namespaces::{Maps, mappings};
use crate::abi::mount::{
    ATTR_ATIME, ATTR_NODEV, ATTR_NODIRATIME, ATTR_NOEXEC, ATTR_NOSUID, ATTR_NOSYMFOLLOW, ATTR_RDONLY, Link, MS_BIND,
    MS_REMOUNT, Meaning, MountAttr, option,
};
use crate::error::{Error, Kind, Result};
use oci_spec::runtime::Mount;
use std::path::{Component, Path, PathBuf};

/// The options of a mount, sorted by what they mean.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct MountOptions {
    /// `MS_*` flags to set.
    pub set: u64,
    /// `MS_*` flags that an option clears by name.
    pub cleared: u64,
    /// Everything else, for the file system itself to parse.
    pub data: String,
    /// How the mount propagates.
    pub propagation: Option<u64>,
    /// Attributes of the whole tree (`rro` and the like).
    pub recursive: MountAttr,
    /// `tmpcopyup`: a new tmpfs gets a copy of the covered directory.
    pub copy_up: bool,
    /// `idmap` or `ridmap` (`true`), and the mapping behind the option's `=`.
    pub idmap: Option<(bool, Option<String>)>,
    /// What is done about symbolic links.
    pub links: Links,
}

/// What a bind mount does about symbolic links at its two ends; without any of these they are followed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Links {
    /// `copy-symlink`: a source that is a link is made again in the container.
    pub copy: bool,
    /// `src-nofollow`: the source's last name is not followed.
    pub source: bool,
    /// `dest-nofollow`: the destination's last name is not followed.
    pub target: bool,
}

/// An entry of `mounts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountEntry {
    /// Its JSON path, for messages.
    pub at: String,
    /// The destination as seen from the container's `/`, without `.`, `..` and doubled slashes.
    pub target: String,
    /// The file system's type; empty if none is given.
    pub typ: String,
    /// The source; empty if none is given.
    pub source: PathBuf,
    /// The options.
    pub options: MountOptions,
    /// `uidMappings` and `gidMappings`, if either is given.
    pub maps: Option<Maps>,
}

/// What a mount entry asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MountKind {
    /// A bind mount.
    Bind,
    /// The attributes of a bind mount are changed.
    RemountBind,
    /// The container's cgroups.
    Cgroup,
    /// A new file system.
    New,
    /// The flags and options of a mount are changed.
    Remount,
}

impl MountEntry {
    /// What it asks for.
    #[must_use]
    pub fn kind(&self) -> MountKind {
        let remount = self.options.set & MS_REMOUNT != 0;
        match self.typ.as_str() {
            _ if self.is_bind() && remount => MountKind::RemountBind,
            _ if self.is_bind() => MountKind::Bind,
            "cgroup" | "cgroup2" => MountKind::Cgroup,
            _ if remount => MountKind::Remount,
            _ => MountKind::New,
        }
    }

    /// Whether it is a bind mount, not a new file system.
    #[must_use]
    pub fn is_bind(&self) -> bool {
        self.options.set & MS_BIND != 0
    }

    /// Whether its target is `/proc` or a place in it where mounts are allowed.
    #[must_use]
    pub fn is_in_proc(&self) -> bool {
        in_proc(&self.target, if self.is_bind() { "bind" } else { &self.typ })
    }
}

/// Files below `/proc` that may be covered by a mount: lxcfs and the like provide them.
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

fn in_proc(target: &str, typ: &str) -> bool {
    let pseudo = matches!(typ, "proc" | "sysfs");
    target == "/proc" || PROC_COVERS.contains(&target) || (pseudo && target.starts_with("/proc/"))
}

/// A path without `.`, `..` and doubled slashes. Purely textual; `..` does not go above the top.
#[must_use]
pub fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(clean.pop()),
            Component::CurDir => {}
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => clean.push(part),
        }
    }
    clean
}

/// The same, as an absolute path in the container.
#[must_use]
pub fn clean_in_root(path: &Path) -> String {
    Path::new("/").join(clean(path)).to_string_lossy().into_owned()
}

/// Checks and parses the mounts of a configuration; `notes` are warnings.
pub(super) fn entries(mounts: &[Mount], rootfs: &Path, notes: &mut Vec<String>) -> Result<Vec<MountEntry>> {
    mounts.iter().enumerate().map(|(i, mount)| entry(format!("mounts[{i}]"), mount, rootfs, notes)).collect()
}

/// Parses and checks the document of `mounts add` and `mounts remove`: a list of mounts, or an object with one, as in
/// `config.json`. For a removal a mount needs no more than its destination.
///
/// # Errors
/// It is not such a list, or a mount in it is refused.
pub fn added(bytes: &[u8], rootfs: &Path, notes: &mut Vec<String>) -> Result<Vec<MountEntry>> {
    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    enum Document {
        List(Vec<Mount>),
        Object { mounts: Vec<Mount> },
    }
    let document = serde_json::from_slice(bytes).map_err(|error| Error::new(Kind::Spec, error.to_string()))?;
    let (Document::List(mounts) | Document::Object { mounts }) = document;
    entries(&mounts, rootfs, notes)
}

fn entry(at: String, mount: &Mount, rootfs: &Path, notes: &mut Vec<String>) -> Result<MountEntry> {
    let typ = mount.typ().clone().unwrap_or_default();
    let target = target(&format!("{at}.destination"), mount.destination(), &typ, rootfs, notes)?;
    let mut options = options(mount.options().as_deref().unwrap_or_default());
    if typ == "bind" {
        options.set |= MS_BIND;
    }
    let (uids, gids) = (mount.uid_mappings().as_deref(), mount.gid_mappings().as_deref());
    let maps = (uids.is_some() || gids.is_some()).then(|| mappings(&at, uids, gids)).transpose()?;
    check_links(&format!("{at}.options"), &options)?;
    Ok(MountEntry { target, typ, source: mount.source().clone().unwrap_or_default(), options, maps, at })
}

fn check_links(at: &str, options: &MountOptions) -> Result<()> {
    let Links { copy, source, target } = options.links;
    if copy && (source || target) {
        return Err(Error::spec(at, "copy-symlink is mutually exclusive with src-nofollow and dest-nofollow"));
    }
    if (copy || source || target) && options.set & MS_BIND == 0 {
        return Err(Error::spec(at, "copy-symlink, src-nofollow and dest-nofollow are for bind mounts"));
    }
    Ok(())
}

fn target(at: &str, destination: &Path, typ: &str, rootfs: &Path, notes: &mut Vec<String>) -> Result<String> {
    if destination.as_os_str().is_empty() {
        return Err(Error::spec(at, "must not be empty"));
    }
    if !destination.is_absolute() {
        notes.push(format!("mount destination {} is not absolute", destination.display()));
    }
    // like runc: a destination may be given with the root's own path in front
    let target = clean_in_root(destination.strip_prefix(rootfs).unwrap_or(destination));
    if target == "/" {
        return Err(Error::spec(at, "mounting over / is not possible: the root is what root.path says"));
    }
    if target.starts_with("/proc/") && !in_proc(&target, typ) {
        return Err(Error::spec(at, format!("{target:?} cannot be mounted because it is inside /proc")));
    }
    Ok(target)
}

/// Parses `linux.rootfsPropagation`; `None` if there is none.
pub(super) fn propagation(name: Option<&str>) -> Result<Option<u64>> {
    let Some(name) = name.filter(|name| !name.is_empty()) else { return Ok(None) };
    match option(name) {
        Some(Meaning::Propagation(flags)) => Ok(Some(flags)),
        Some(_) | None => {
            let text = format!("rootfsPropagation={name:?} is not supported");
            Err(Error::spec("linux.rootfsPropagation", text))
        }
    }
}

/// Parses the options of a mount. An unknown one is left to the file system, which accepts or refuses it.
fn options(list: &[String]) -> MountOptions {
    let mut sorted = MountOptions::default();
    for name in list {
        match option(name) {
            Some(Meaning::Set(flags)) => {
                sorted.set |= flags;
                sorted.cleared &= !flags;
            }
            Some(Meaning::Clear(flags)) => {
                sorted.set &= !flags;
                sorted.cleared |= flags;
            }
            Some(Meaning::Nothing) => {}
            Some(Meaning::Propagation(flags)) => sorted.propagation = Some(flags),
            Some(Meaning::Recursive(set, clear)) => recursive(&mut sorted.recursive, set, clear),
            Some(Meaning::CopyUp) => sorted.copy_up = true,
            Some(Meaning::IdMap(recursive)) => sorted.idmap = Some((recursive, None)),
            Some(Meaning::Link(Link::Copy)) => sorted.links.copy = true,
            Some(Meaning::Link(Link::Source)) => sorted.links.source = true,
            Some(Meaning::Link(Link::Target)) => sorted.links.target = true,
            None if name.is_empty() => {}
            None => {
                if let Some((name, mapping)) = name.split_once('=')
                    && let Some(Meaning::IdMap(recursive)) = option(name)
                {
                    sorted.idmap = Some((recursive, Some(mapping.to_owned())));
                    continue;
                }
                if !sorted.data.is_empty() {
                    sorted.data.push(',');
                }
                sorted.data.push_str(name);
            }
        }
    }
    sorted
}

/// Adds a recursive attribute. The access time modes are one field and not a bit each: setting or clearing one mode
/// replaces the field.
fn recursive(attr: &mut MountAttr, set: u64, clear: u64) {
    let field =
        (set | clear) & !(ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC | ATTR_NODIRATIME | ATTR_NOSYMFOLLOW);
    let atime = field != 0 || (set == 0 && clear == 0);
    if atime {
        attr.set = (attr.set & !ATTR_ATIME) | set;
        attr.clear |= ATTR_ATIME;
    } else {
        attr.set = (attr.set | set) & !clear;
        attr.clear = (attr.clear | clear) & !set;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::mount::{
        ATTR_NOATIME, ATTR_RELATIME, ATTR_STRICTATIME, MS_NOSUID, MS_PRIVATE, MS_RDONLY, MS_REC, MS_SLAVE,
    };

    fn parse(list: &[&str]) -> MountOptions {
        options(&list.iter().map(|o| (*o).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn destinations_stay_inside() {
        assert_eq!(clean_in_root(Path::new("/a/../../b/./c//")), "/b/c");
        assert_eq!(clean_in_root(Path::new("rel")), "/rel");
        assert_eq!(clean_in_root(Path::new("../..")), "/");
        assert_eq!(clean(Path::new("a/../../b/.")), Path::new("b"));
    }

    #[test]
    fn sorts_options() {
        let sorted = parse(&["rbind", "ro", "nosuid", "suid", "rslave", "size=1k", "mode=755"]);
        assert_eq!(sorted.set, MS_BIND | MS_REC | MS_RDONLY);
        assert_eq!(sorted.cleared, MS_NOSUID);
        assert_eq!(sorted.propagation, Some(MS_SLAVE | MS_REC));
        assert_eq!(sorted.data, "size=1k,mode=755");
        assert_eq!(parse(&["rslave", "private"]).propagation, Some(MS_PRIVATE));
        assert_eq!(parse(&["ridmap", "idmap"]).idmap, Some((false, None)));
        let mapped = parse(&["ridmap=uids=0-1-2;gids=0-1-2", "mode=755"]);
        assert_eq!(mapped.idmap, Some((true, Some("uids=0-1-2;gids=0-1-2".to_owned()))));
        assert_eq!(mapped.data, "mode=755");
    }

    #[test]
    fn recursive_access_times_replace_the_field() {
        let attr = |list: &[&str]| parse(list).recursive;
        let field = |set| MountAttr { set, clear: ATTR_ATIME, ..MountAttr::default() };
        assert_eq!(attr(&["rnoatime"]), field(ATTR_NOATIME));
        assert_eq!(attr(&["rnoatime", "rrelatime"]), field(ATTR_RELATIME));
        assert_eq!(attr(&["rstrictatime"]), field(ATTR_STRICTATIME));
        assert_eq!(attr(&["ratime"]), field(0));
        assert_eq!(attr(&["rro", "rrw"]), MountAttr { clear: ATTR_RDONLY, ..MountAttr::default() });
        let both = MountAttr { set: ATTR_RDONLY, clear: ATTR_NODEV, ..MountAttr::default() };
        assert_eq!(attr(&["rro", "rdev"]), both);
    }
}
