//! Namespaces: which ones are created, which ones are joined, and by which process; id maps and clock offsets.

use super::image::c_string;
use super::opens::Opens;
use super::step::{Slot, Step};
use super::{CloneSpec, Open};
use crate::abi::ns::{Namespace, Namespaces};
use crate::error::{Error, Result};
use crate::spec::{Config, JoinedNamespace, MountEntry, NamespaceSet};
use oci_spec::runtime::Spec;

/// Decisions about namespaces that the rest of the plan depends on.
#[derive(Debug, Default)]
pub struct Chosen {
    /// How the child is created.
    pub clone_spec: CloneSpec,
    /// Namespaces that init joins itself.
    pub enter: Vec<(Slot, Namespace)>,
    /// Namespaces in which the container differs from the runtime: created or joined ones.
    pub own: Namespaces,
    /// The created ones among them.
    pub made: Namespaces,
    /// The container has a user namespace, created or joined.
    pub user: bool,
    /// The container has a mount namespace, created or joined. (In a joined one the root is set up as in a new one.)
    pub mount: bool,
}

impl Chosen {
    /// The slot of a namespace of this kind that is joined.
    #[must_use]
    pub(super) fn joined(&self, kind: Namespace) -> Option<Slot> {
        let mut joined = self.clone_spec.join_before_clone.iter().chain(&self.enter);
        joined.find(|(_, known)| *known == kind).map(|(slot, _)| *slot)
    }
}

/// Decides which process creates or joins each namespace.
pub(super) fn choose(config: &Config, unprivileged: bool, opens: &mut Opens) -> Chosen {
    let namespaces = &config.namespaces;
    let mut chosen = Chosen { own: namespaces.all, made: namespaces.new, ..Chosen::default() };
    let mut joined = Vec::with_capacity(namespaces.joined.len());
    for JoinedNamespace { kind, path, at } in &namespaces.joined {
        let open = Open::Namespace { path: path.clone(), kind: *kind, at: at.clone() };
        joined.push((opens.open(open), *kind));
    }
    chosen.user = chosen.own.has(Namespace::User);
    chosen.mount = chosen.own.has(Namespace::Mount);
    chosen.clone_spec.new = chosen.made;
    chosen.clone_spec.maps = chosen.made.has(Namespace::User).then(|| config.maps.clone());
    chosen.clone_spec.undumpable = !(unprivileged && chosen.clone_spec.maps.is_some());
    chosen.clone_spec.offsets.clone_from(&config.time_offsets);
    if !chosen.clone_spec.offsets.is_empty() {
        // the intermediate process creates it: offsets can be written only while no process is in it
        chosen.clone_spec.new.remove(Namespace::Time);
    }
    joined.sort_by_key(|(_, kind)| Namespace::ALL.iter().position(|known| known == kind));
    let between = chosen.user || joined.iter().any(|(_, kind)| *kind == Namespace::Pid);
    chosen.clone_spec.network_ahead = network_ahead(config);
    (chosen.enter, chosen.clone_spec.join_before_clone) = joined.into_iter().partition(|_| !between);
    chosen.clone_spec.shares_memory = !chosen.clone_spec.needs_intermediate()
        && !has_inner_hooks(&config.spec)
        && shares_memory(&config.spec, &chosen);
    chosen
}

/// Whether a thread can create the network namespace in advance: it is a new one, it does not belong to a new user namespace, no
/// intermediate process is needed, and the host half moves no devices into it.
#[must_use]
pub fn network_ahead(config: &Config) -> bool {
    let NamespaceSet { all, new, .. } = config.namespaces;
    let joins_pid = all.has(Namespace::Pid) && !new.has(Namespace::Pid);
    let linux = config.spec.linux().as_ref();
    let moves = linux.and_then(|linux| linux.net_devices().as_ref()).is_some_and(|devices| !devices.is_empty());
    let offsets = !config.time_offsets.is_empty();
    new.has(Namespace::Network) && !all.has(Namespace::User) && !(joins_pid || offsets || moves)
}

/// Whether hooks run in the container before the payload. They see init as `/proc/1`, and a program of the image with
/// `CAP_SYS_PTRACE` could write its memory, which therefore must not be the host half's.
fn has_inner_hooks(spec: &Spec) -> bool {
    let some = |list: &Option<Vec<oci_spec::runtime::Hook>>| list.as_ref().is_some_and(|list| !list.is_empty());
    spec.hooks().as_ref().is_some_and(|hooks| some(hooks.create_container()) || some(hooks.start_container()))
}

/// Whether the child may share the host half's memory until its execve.
///
/// Only if no process of another container can see or trace it, because it holds the host half's secrets and code: in a pid
/// namespace of its own, and in the host's user namespace. Not with a memory limit that the start itself may reach: the OOM
/// killer kills all processes that share the memory, and none would be left to report it. Not with a time namespace to join:
/// the kernel refuses that to a process that shares its memory (`setns(2)`).
fn shares_memory(spec: &Spec, own: &Chosen) -> bool {
    const ROOM: i64 = 16 << 20;
    let resources = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
    let memory = resources.and_then(|resources| resources.memory().as_ref());
    let tight = memory.and_then(oci_spec::runtime::LinuxMemory::limit).is_some_and(|limit| (1..ROOM).contains(&limit));
    let apart = own.made.has(Namespace::Pid) && !own.own.has(Namespace::User);
    !tight && apart && (!own.own.has(Namespace::Time) || own.made.has(Namespace::Time))
}

/// Refuses what an unprivileged caller can't have.
///
/// # Errors
/// No user namespace; a file system option with an id that is not mapped in it.
pub(super) fn rootless(chosen: &Chosen, mounts: &[MountEntry]) -> Result<()> {
    if !chosen.user {
        let text = "rootless container requires user namespaces";
        return Err(Error::spec("linux.namespaces", text).with_hint("`spec --rootless` writes such a bundle"));
    }
    let Some(maps) = &chosen.clone_spec.maps else { return Ok(()) };
    for mount in mounts {
        for option in mount.options.data.split(',') {
            for (kind, ranges) in [("uid", &maps.uids), ("gid", &maps.gids)] {
                let id = option.strip_prefix(kind).and_then(|rest| rest.strip_prefix('=')?.parse::<u32>().ok());
                if id.is_some_and(|id| !ranges.iter().any(|range| range.translate(id, 1).is_some())) {
                    let text = format!(
                        "cannot specify {option} mount option for rootless container: \
                         user namespaces enabled, but no mapping found for {}",
                        option.replace('=', " ")
                    );
                    return Err(Error::spec(format!("{}.options", mount.at), text));
                }
            }
        }
    }
    Ok(())
}

/// The steps by which init joins namespaces. The mount namespace comes last, because it changes what every path means.
pub(super) fn join(chosen: &Chosen) -> impl Iterator<Item = Step> {
    chosen.enter.iter().map(|(slot, kind)| Step::Setns(*slot, *kind))
}

/// The steps that set the host name and the domain name, and bring the loopback device up.
///
/// # Errors
/// A zero byte in a name.
pub(super) fn names(spec: &Spec, chosen: &Chosen) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    if let Some(name) = spec.hostname().as_deref().filter(|name| !name.is_empty()) {
        steps.push(Step::Hostname(c_string("hostname", name)?));
    }
    if let Some(name) = spec.domainname().as_deref().filter(|name| !name.is_empty()) {
        steps.push(Step::Domainname(c_string("domainname", name)?));
    }
    if chosen.made.has(Namespace::Network) && !chosen.clone_spec.network_ahead {
        steps.push(Step::Loopback);
    }
    Ok(steps)
}
