//! `linux.namespaces`, and what only makes sense with a certain namespace: id mappings and clock offsets.

use super::runc_error;
use crate::abi::ns::{Namespace, Namespaces};
use crate::error::{Error, Result};
use oci_spec::runtime::{Linux, LinuxIdMapping, LinuxNamespaceType};
use std::path::PathBuf;

/// The namespaces of a container. Those that it does not list it shares with the runtime.
#[derive(Debug, Clone, Default)]
pub struct NamespaceSet {
    /// All that are listed.
    pub all: Namespaces,
    /// Those that are created for the container.
    pub new: Namespaces,
    /// Those that exist already, in the order of the list.
    pub joined: Vec<JoinedNamespace>,
}

/// A namespace that exists already.
#[derive(Debug, Clone)]
pub struct JoinedNamespace {
    /// Its kind.
    pub kind: Namespace,
    /// Its file; absolute.
    pub path: PathBuf,
    /// The JSON path of the file's path, for messages.
    pub at: String,
}

/// One range of ids (`user_namespaces(7)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct IdRange {
    /// First id inside.
    pub inside: u32,
    /// First id outside.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

impl IdRange {
    /// The id outside for `inside`; `None` unless it and the `count - 1` ids after it are in this range.
    #[must_use]
    pub fn translate(&self, inside: u32, count: u32) -> Option<u32> {
        let offset = inside.checked_sub(self.inside)?;
        if offset.checked_add(count)? > self.count {
            return None;
        }
        self.outside.checked_add(offset)
    }
}

/// Mappings of user and group ids.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Maps {
    /// User ids.
    pub uids: Vec<IdRange>,
    /// Group ids.
    pub gids: Vec<IdRange>,
}

/// The offset of a clock in a new time namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeOffset {
    /// `monotonic` or `boottime`.
    pub clock: &'static str,
    /// Whole seconds.
    pub seconds: i64,
    /// The rest.
    pub nanoseconds: u32,
}

/// The kind of a namespace type of the spec.
#[must_use]
pub fn namespace_kind(typ: LinuxNamespaceType) -> Namespace {
    match typ {
        LinuxNamespaceType::Mount => Namespace::Mount,
        LinuxNamespaceType::Cgroup => Namespace::Cgroup,
        LinuxNamespaceType::Uts => Namespace::Uts,
        LinuxNamespaceType::Ipc => Namespace::Ipc,
        LinuxNamespaceType::User => Namespace::User,
        LinuxNamespaceType::Pid => Namespace::Pid,
        LinuxNamespaceType::Network => Namespace::Network,
        LinuxNamespaceType::Time => Namespace::Time,
    }
}

/// Checks `linux.namespaces`.
///
/// # Errors
/// A type that is listed twice, or a path that is not absolute.
pub fn namespaces(linux: Option<&Linux>) -> Result<NamespaceSet> {
    let mut set = NamespaceSet::default();
    let list = linux.and_then(|linux| linux.namespaces().as_deref()).unwrap_or_default();
    for (i, namespace) in list.iter().enumerate() {
        let kind = namespace_kind(namespace.typ());
        let path = namespace.path().as_ref().filter(|path| !path.as_os_str().is_empty());
        if set.all.has(kind) {
            let path = path.map(|path| path.to_string_lossy()).unwrap_or_default();
            let text = format!("malformed spec file: duplicated ns {{{:?} {path:?}}}", kind.name());
            return Err(runc_error(format!("linux.namespaces[{i}]"), text));
        }
        set.all.insert(kind);
        match path {
            None => set.new.insert(kind),
            Some(path) => {
                let at = format!("linux.namespaces[{i}].path");
                if !path.is_absolute() {
                    return Err(Error::spec(at, "must be an absolute path"));
                }
                set.joined.push(JoinedNamespace { kind, path: path.clone(), at });
            }
        }
    }
    Ok(set)
}

/// The maximum number of ranges in a map (`user_namespaces(7)`: 340 since Linux 4.15).
pub const MOST_RANGES: usize = 340;

/// The error for a map of more ranges.
pub fn too_many_ranges(at: &str) -> Error {
    Error::spec(at, format!("the kernel takes at most {MOST_RANGES} ranges of ids for a map"))
}

/// Checks id mappings: of the container or of a mount.
pub(super) fn mappings(at: &str, uids: Option<&[LinuxIdMapping]>, gids: Option<&[LinuxIdMapping]>) -> Result<Maps> {
    let ranges = |list: Option<&[LinuxIdMapping]>, key: &str| -> Result<Vec<IdRange>> {
        let list = list.unwrap_or_default();
        if let Some(i) = list.iter().position(|range| range.size() == 0) {
            return Err(Error::spec(format!("{at}.{key}[{i}].size"), "a mapping must have at least one id"));
        }
        if list.len() > MOST_RANGES {
            return Err(too_many_ranges(&format!("{at}.{key}")));
        }
        Ok(list.iter().map(|r| IdRange { inside: r.container_id(), outside: r.host_id(), count: r.size() }).collect())
    };
    Ok(Maps { uids: ranges(uids, "uidMappings")?, gids: ranges(gids, "gidMappings")? })
}

/// Checks the container's id mappings. They belong to a user namespace, and a new one needs them, id 0 among them.
/// Engines give them for a joined one too, where they say what mounts refer to.
pub(super) fn container_mappings(linux: &Linux, set: &NamespaceSet) -> Result<Maps> {
    let maps = mappings("linux", linux.uid_mappings().as_deref(), linux.gid_mappings().as_deref())?;
    for (kind, ranges) in [("uid", &maps.uids), ("gid", &maps.gids)] {
        let at = format!("linux.{kind}Mappings");
        if !(set.all.has(Namespace::User) || ranges.is_empty()) {
            let text = "User namespace mappings specified, but USER namespace isn't enabled in the config";
            return Err(runc_error(at, text));
        }
        if !set.new.has(Namespace::User) {
            continue;
        }
        if ranges.is_empty() {
            let text = format!("User namespaces enabled, but no {kind} mappings found");
            return Err(runc_error(at, text).with_hint("a new user namespace needs uidMappings and gidMappings"));
        }
        if !ranges.iter().any(|range| range.translate(0, 1).is_some()) {
            let text = format!("user namespaces enabled, but no mapping found for {kind} 0");
            return Err(Error::spec(at, text).with_hint("the container is set up by its id 0"));
        }
    }
    Ok(maps)
}

/// Checks `linux.timeOffsets`. Clocks can be set only before a time namespace has its first process: never in a joined one.
pub(super) fn time_offsets(linux: &Linux, set: &NamespaceSet) -> Result<Vec<TimeOffset>> {
    let Some(offsets) = linux.time_offsets().as_ref().filter(|offsets| !offsets.is_empty()) else {
        return Ok(Vec::new());
    };
    if !set.all.has(Namespace::Time) {
        return Err(Error::spec("linux.timeOffsets", "needs a time namespace"));
    }
    if !set.new.has(Namespace::Time) {
        return Err(Error::spec("linux.timeOffsets", "not possible in a time namespace that is joined"));
    }
    let mut list = Vec::with_capacity(offsets.len());
    for (clock, offset) in offsets {
        let at = format!("linux.timeOffsets.{clock}");
        let clock = match clock.as_str() {
            "monotonic" => "monotonic",
            "boottime" => "boottime",
            _ => return Err(Error::spec(at, "is not monotonic or boottime")),
        };
        let nanoseconds = offset.nanosecs().unwrap_or_default();
        if nanoseconds >= 1_000_000_000 {
            return Err(Error::spec(format!("{at}.nanosecs"), "must be less than a second"));
        }
        list.push(TimeOffset { clock, seconds: offset.secs().unwrap_or_default(), nanoseconds });
    }
    list.sort_by_key(|offset| offset.clock);
    Ok(list)
}
