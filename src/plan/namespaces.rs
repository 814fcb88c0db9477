//! Namespaces: which are made, which are joined, and by whom; id maps and clock offsets.

use super::image::c_string;
use super::opens::Opens;
use super::step::{Slot, Step};
use super::{CloneSpec, Open};
use crate::abi::ns::{Namespace, Namespaces};
use crate::error::{Error, Result};
use crate::spec::{Config, JoinedNamespace, MountEntry, NamespaceSet};
use oci_spec::runtime::Spec;

/// What the namespaces mean for the rest of the plan.
#[derive(Debug, Default)]
pub struct Chosen {
    /// How the child comes to be.
    pub clone_spec: CloneSpec,
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

impl Chosen {
    /// The slot of a namespace of this kind that is joined.
    #[must_use]
    pub(super) fn joined(&self, kind: Namespace) -> Option<Slot> {
        let mut joined = self.clone_spec.join_before_clone.iter().chain(&self.enter);
        joined.find(|(_, known)| *known == kind).map(|(slot, _)| *slot)
    }
}

/// Decides who makes or joins which namespace.
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
        // the go-between makes it, since offsets can't be written any more once a process is in it
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

/// Whether the network namespace of the bundle can be made ahead of everything else: it is a new one, it belongs to no
/// user namespace of the bundle, no intermediate process is needed, and the host half moves no devices into the child's.
#[must_use]
pub fn network_ahead(config: &Config) -> bool {
    let NamespaceSet { all, new, .. } = config.namespaces;
    let joins_pid = all.has(Namespace::Pid) && !new.has(Namespace::Pid);
    let linux = config.spec.linux().as_ref();
    let moves = linux.and_then(|linux| linux.net_devices().as_ref()).is_some_and(|devices| !devices.is_empty());
    let offsets = !config.time_offsets.is_empty();
    new.has(Namespace::Network) && !all.has(Namespace::User) && !(joins_pid || offsets || moves)
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
fn shares_memory(spec: &Spec, own: &Chosen) -> bool {
    const ROOM: i64 = 16 << 20;
    let resources = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
    let memory = resources.and_then(|resources| resources.memory().as_ref());
    let tight = memory.and_then(oci_spec::runtime::LinuxMemory::limit).is_some_and(|limit| (1..ROOM).contains(&limit));
    let apart = own.made.has(Namespace::Pid) && !own.own.has(Namespace::User);
    !tight && apart && (!own.own.has(Namespace::Time) || own.made.has(Namespace::Time))
}

/// What a caller without rights can't have.
///
/// # Errors
/// No user namespace; file systems that are to belong to an id which is not mapped in it.
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

/// The steps that join what init joins itself. The mount namespace comes last: it changes every path.
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
