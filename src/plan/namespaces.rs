//! Namespaces: which are made, which are joined, and by whom; id maps and clock offsets.

use super::image::c_string;
use super::step::{Slot, Step};
use super::{Birth, IdRange, Maps, Open, Plan, TimeOffset};
use crate::abi::ns::{Namespace, Namespaces};
use crate::error::{Error, Result};
use oci_spec::runtime::{Linux, LinuxIdMapping, LinuxNamespaceType, Mount, Spec};

/// The kind of a namespace of the spec.
#[must_use]
pub fn kind(typ: LinuxNamespaceType) -> Namespace {
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

/// What the namespaces mean for the rest of the plan.
#[derive(Debug, Default)]
pub struct Chosen {
    /// How the child comes to be.
    pub birth: Birth,
    /// Namespaces that init joins itself.
    pub enter: Vec<(Slot, Namespace)>,
    /// Namespaces that are not the runtime's own, made or joined.
    pub own: Namespaces,
    /// Made ones among them.
    pub made: Namespaces,
    /// Whether there is a user namespace, made or joined.
    pub user: bool,
    /// Whether there is a mount namespace, made or joined: in a joined one the root is set up like in a new one.
    pub mount: bool,
}

/// Sorts the namespaces of the spec.
///
/// # Errors
/// A namespace that stands twice, a path that is not absolute, mappings or offsets without their namespace.
pub fn choose(spec: &Spec, unprivileged: bool, opens: &mut Vec<(Slot, Open)>, slots: &mut u16) -> Result<Chosen> {
    let mut chosen = Chosen::default();
    let mut joined = Vec::new();
    chosen.birth.undumpable = true;
    let Some(linux) = spec.linux() else { return Ok(chosen) };
    for (i, namespace) in linux.namespaces().iter().flatten().enumerate() {
        let kind = kind(namespace.typ());
        let at = format!("linux.namespaces[{i}]");
        if chosen.own.has(kind) {
            let path = namespace.path().as_deref().unwrap_or_else(|| "".as_ref()).display().to_string();
            let name = kind.name();
            return Err(Error::spec(at, format!("malformed spec file: duplicated ns {{{name:?} {path:?}}}")));
        }
        chosen.own.insert(kind);
        match namespace.path().as_ref().filter(|path| !path.as_os_str().is_empty()) {
            None => chosen.made.insert(kind),
            Some(path) if path.is_absolute() => {
                let open = Open::Namespace { path: path.clone(), kind, at: format!("{at}.path") };
                joined.push((Plan::open(opens, slots, open), kind));
            }
            Some(path) => {
                let text = format!("namespace path {:?} must be absolute", path.display().to_string());
                return Err(Error::spec(format!("{at}.path"), text));
            }
        }
    }
    chosen.user = chosen.own.has(Namespace::User);
    chosen.mount = chosen.own.has(Namespace::Mount);
    chosen.birth.new = chosen.made;
    chosen.birth.maps = maps(linux, chosen.made.has(Namespace::User))?;
    chosen.birth.undumpable = !(unprivileged && chosen.birth.maps.is_some());
    chosen.birth.offsets = offsets(linux, chosen.made.has(Namespace::Time))?;
    if !chosen.birth.offsets.is_empty() {
        // the go-between makes it, since offsets can't be written any more once a process is in it
        chosen.birth.new.remove(Namespace::Time);
    }
    joined.sort_by_key(|(_, kind)| Namespace::ALL.iter().position(|known| known == kind));
    let between = chosen.user || joined.iter().any(|(_, kind)| *kind == Namespace::Pid);
    chosen.birth.network_ahead = network_ahead(spec);
    (chosen.enter, chosen.birth.through) = joined.into_iter().partition(|_| !between);
    chosen.birth.shares_memory =
        !chosen.birth.needs_between() && !has_inner_hooks(spec) && shares_memory(linux, &chosen);
    Ok(chosen)
}

/// Whether the network namespace of the bundle can be made ahead of everything else: it is a new one, it belongs to no
/// user namespace of the bundle, no go-between has to be born first, and the host half moves no devices into the child's.
#[must_use]
pub fn network_ahead(spec: &Spec) -> bool {
    let linux = spec.linux().as_ref();
    let own = own(linux);
    let offsets = linux.and_then(|linux| linux.time_offsets().as_ref()).is_some_and(|offsets| !offsets.is_empty());
    let joins_pid = own.all.has(Namespace::Pid) && !own.made.has(Namespace::Pid);
    let moves = linux.and_then(|linux| linux.net_devices().as_ref()).is_some_and(|devices| !devices.is_empty());
    own.made.has(Namespace::Network) && !own.all.has(Namespace::User) && !(joins_pid || offsets || moves)
}

/// Whether programs run in the container before its payload does. They see init (`/proc/1`), and one that lies in the image and has
/// `CAP_SYS_PTRACE` may write its memory: that must not be the host half's.
fn has_inner_hooks(spec: &Spec) -> bool {
    let some = |list: &Option<Vec<oci_spec::runtime::Hook>>| list.as_ref().is_some_and(|list| !list.is_empty());
    spec.hooks().as_ref().is_some_and(|hooks| some(hooks.create_container()) || some(hooks.start_container()))
}

/// Whether the child may use the host half's memory until its execve. Only if it is out of sight of other containers: in
/// a pid namespace of its own, and under the host's user namespace (it holds the host half's secrets, and whoever may
/// trace it could write its code). Not with a memory limit that its start may reach: the kernel kills all processes that
/// share the memory, and nobody would be left to say so. Nor with a time namespace to join, which takes a process that
/// shares its memory with nobody (`setns(2)`).
fn shares_memory(linux: &Linux, own: &Chosen) -> bool {
    const ROOM: i64 = 16 << 20;
    let memory = linux.resources().as_ref().and_then(|resources| resources.memory().as_ref());
    let tight = memory.and_then(oci_spec::runtime::LinuxMemory::limit).is_some_and(|limit| (1..ROOM).contains(&limit));
    let apart = own.made.has(Namespace::Pid) && !own.own.has(Namespace::User);
    !tight && apart && (!own.own.has(Namespace::Time) || own.made.has(Namespace::Time))
}

/// The namespaces of a container that is there already.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Own {
    /// All that are not the runtime's.
    pub all: Namespaces,
    /// Those among them that were made for it.
    pub made: Namespaces,
}

/// Tells the namespaces of a container by its configuration.
pub(super) fn own(linux: Option<&Linux>) -> Own {
    let mut own = Own::default();
    for namespace in linux.into_iter().filter_map(|linux| linux.namespaces().as_ref()).flatten() {
        own.all.insert(kind(namespace.typ()));
        if namespace.path().as_ref().is_none_or(|path| path.as_os_str().is_empty()) {
            own.made.insert(kind(namespace.typ()));
        }
    }
    own
}

/// The most ranges that the kernel takes for a map (`user_namespaces(7)`: 340 since Linux 4.15).
pub(super) const MOST_RANGES: usize = 340;

/// The error for a map of more ranges.
pub(super) fn too_many(at: &str) -> Error {
    Error::spec(at, format!("the kernel takes at most {MOST_RANGES} ranges of ids for a map"))
}

/// Mappings of the spec.
///
/// # Errors
/// A range of no ids, or more ranges than the kernel takes.
pub(super) fn ranges(at: &str, uids: Option<&[LinuxIdMapping]>, gids: Option<&[LinuxIdMapping]>) -> Result<Maps> {
    let ranges = |list: Option<&[LinuxIdMapping]>, key: &str| -> Result<Vec<IdRange>> {
        let list = list.unwrap_or_default();
        if let Some(i) = list.iter().position(|range| range.size() == 0) {
            return Err(Error::spec(format!("{at}.{key}[{i}].size"), "a mapping of no ids"));
        }
        if list.len() > MOST_RANGES {
            return Err(too_many(&format!("{at}.{key}")));
        }
        Ok(list.iter().map(|r| IdRange { inside: r.container_id(), outside: r.host_id(), count: r.size() }).collect())
    };
    Ok(Maps { uids: ranges(uids, "uidMappings")?, gids: ranges(gids, "gidMappings")? })
}

fn maps(linux: &Linux, made: bool) -> Result<Option<Maps>> {
    let maps = ranges("linux", linux.uid_mappings().as_deref(), linux.gid_mappings().as_deref())?;
    if !made {
        let wanted = linux.namespaces().iter().flatten().any(|n| n.typ() == LinuxNamespaceType::User);
        let mapped = !maps.uids.is_empty() || !maps.gids.is_empty();
        if !wanted && mapped {
            let text = "User namespace mappings specified, but USER namespace isn't enabled in the config";
            return Err(Error::spec("linux.uidMappings", text));
        }
        return Ok(None);
    }
    if maps.uids.is_empty() || maps.gids.is_empty() {
        let at = if maps.uids.is_empty() { "linux.uidMappings" } else { "linux.gidMappings" };
        return Err(Error::spec(at, "rootless containers requires at least one UID and GID mapping")
            .with_hint("a new user namespace needs uidMappings and gidMappings"));
    }
    for (kind, ranges) in [("uid", &maps.uids), ("gid", &maps.gids)] {
        if !mapped(ranges, 0) {
            let text = format!("user namespaces enabled, but no mapping found for {kind} 0");
            return Err(
                Error::spec(format!("linux.{kind}Mappings"), text).with_hint("the container is set up by its id 0")
            );
        }
    }
    Ok(Some(maps))
}

fn mapped(ranges: &[IdRange], id: u32) -> bool {
    ranges.iter().any(|range| id.checked_sub(range.inside).is_some_and(|above| above < range.count))
}

/// What a caller without rights can't have.
///
/// # Errors
/// No user namespace; file systems that are to belong to an id which is not mapped in it.
pub fn rootless(chosen: &Chosen, mounts: &[Mount]) -> Result<()> {
    if !chosen.user {
        let text = "rootless container requires user namespaces";
        return Err(Error::spec("linux.namespaces", text).with_hint("`spec --rootless` writes such a bundle"));
    }
    let Some(maps) = &chosen.birth.maps else { return Ok(()) };
    for (i, mount) in mounts.iter().enumerate() {
        for option in mount.options().iter().flatten() {
            for (kind, ranges) in [("uid", &maps.uids), ("gid", &maps.gids)] {
                let id = option.strip_prefix(kind).and_then(|rest| rest.strip_prefix('=')?.parse::<u32>().ok());
                if id.is_some_and(|id| !mapped(ranges, id)) {
                    let text = format!(
                        "cannot specify {option} mount option for rootless container: \
                         user namespaces enabled, but no mapping found for {}",
                        option.replace('=', " ")
                    );
                    return Err(Error::spec(format!("mounts[{i}].options"), text));
                }
            }
        }
    }
    Ok(())
}

fn offsets(linux: &Linux, made: bool) -> Result<Vec<TimeOffset>> {
    let mut list = Vec::new();
    for (clock, offset) in linux.time_offsets().iter().flatten() {
        let at = format!("linux.timeOffsets.{clock}");
        if !made {
            return Err(Error::spec(
                at,
                "time namespace offsets specified, but time namespace isn't enabled in the config",
            ));
        }
        let clock = match clock.as_str() {
            "monotonic" => "monotonic",
            "boottime" => "boottime",
            other => return Err(Error::spec(at, format!("unknown clock {other:?}"))),
        };
        let nanoseconds = offset.nanosecs().unwrap_or_default();
        if nanoseconds >= 1_000_000_000 {
            return Err(Error::spec(format!("{at}.nanosecs"), "more than a second"));
        }
        list.push(TimeOffset { clock, seconds: offset.secs().unwrap_or_default(), nanoseconds });
    }
    list.sort_by_key(|offset| offset.clock);
    Ok(list)
}

/// The steps that join what init joins itself. The mount namespace comes last: it changes every path.
#[must_use]
pub fn join(chosen: &Chosen) -> Vec<Step> {
    chosen.enter.iter().map(|(slot, kind)| Step::Enter(*slot, *kind)).collect()
}

/// The steps that give names.
///
/// # Errors
/// A name without a namespace to give it in.
pub fn names(spec: &Spec, chosen: &Chosen) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    let private = chosen.own.has(Namespace::Uts);
    if let Some(name) = spec.hostname().as_deref().filter(|name| !name.is_empty()) {
        if !private {
            return Err(Error::spec("hostname", "unable to set hostname without a private UTS namespace"));
        }
        steps.push(Step::Hostname(c_string("hostname", name)?));
    }
    if let Some(name) = spec.domainname().as_deref().filter(|name| !name.is_empty()) {
        if !private {
            return Err(Error::spec("domainname", "unable to set domainname without a private UTS namespace"));
        }
        steps.push(Step::Domainname(c_string("domainname", name)?));
    }
    if chosen.made.has(Namespace::Network) && !chosen.birth.network_ahead {
        steps.push(Step::Loopback);
    }
    Ok(steps)
}
