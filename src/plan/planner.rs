//! The state that the parts of a container's plan share while it is being made.

use super::dev::Dev;
use super::namespaces::Chosen;
use super::network::Network;
use super::opens::Opens;
use super::request::Request;
use super::step::{Slot, Step, Str};
use super::{Mapped, Open};
use crate::abi::ns::{Namespace, Namespaces};
use crate::facts::Facts;
use crate::spec::{Config, MountEntry};
use oci_spec::runtime::{Linux, Process};
use std::path::PathBuf;

/// A plan in the making. Everything up to `keyring` is decided at the beginning and does not change; the rest is filled by
/// the parts of the plan in the order in which `container.rs` calls them.
#[derive(Debug)]
pub(super) struct Planner<'a> {
    /// The checked configuration.
    pub(super) config: &'a Config,
    /// Its process, or the placeholder of `create` without one.
    pub(super) process: &'a Process,
    /// Its `linux`; empty if it has none.
    pub(super) linux: &'a Linux,
    /// The mounts: the configuration's, then the notify socket's.
    pub(super) mounts: &'a [MountEntry],
    pub(super) request: &'a Request<'a>,
    pub(super) facts: &'a Facts,
    /// Which process creates or joins each namespace.
    pub(super) chosen: Chosen,
    /// Namespaces that init creates itself, after the clone.
    pub(super) late: Namespaces,
    /// The container's `/dev`.
    pub(super) dev: Dev,
    /// For a container without a mount namespace: the root, which the host bind mounts on itself.
    pub(super) host_root: Option<Str>,
    /// The host clones the sources of bind mounts, because init may not be able to reach them from its user namespace.
    pub(super) by_host: bool,
    /// Init cannot use paths of the host: its mount namespace starts empty, or belongs to another container that may have replaced
    /// anything in it.
    pub(super) hidden: bool,
    /// If the mount namespace is created from the root alone (`tree_namespace.rs`): how mounts from the host propagate in it.
    pub(super) root_alone: Option<u64>,
    /// Network devices that the host moves.
    pub(super) network: Network,
    /// The session keyring, if the host joins it for init to inherit.
    pub(super) keyring: Option<Str>,
    /// With `root_alone`: steps that clone sources on the host, before init enters the namespace.
    pub(super) clones: Vec<Step>,
    /// Slots of mounts that become read-only at the end, when everything in them is created.
    pub(super) readonly: Vec<Slot>,
    pub(super) opens: Opens,
    /// With mounts for a container that runs: the slots that they are kept in, in their order, to be taken off again if a later
    /// one fails.
    pub(super) kept: Option<Vec<Slot>>,
    /// Warnings.
    pub(super) notes: Vec<String>,
    /// Harmless omissions, for the debug log.
    pub(super) details: Vec<String>,
}

/// The source of a bind mount.
#[derive(Debug)]
pub(super) enum Bound {
    /// A path relative to the root: it lies in the root, and possibly on an earlier mount.
    InRoot(PathBuf),
    /// A path of the host.
    OfHost(PathBuf),
}

impl Planner<'_> {
    /// The source of a bind mount.
    pub(super) fn bound(&self, mount: &MountEntry) -> Bound {
        let source = self.config.bundle.join(&mount.source);
        match source.strip_prefix(&self.config.rootfs) {
            Ok(inside) => Bound::InRoot(inside.to_owned()),
            Err(_) => Bound::OfHost(source),
        }
    }

    /// A slot for a mount that may have to be taken off again.
    pub(super) fn added(&mut self) -> Option<Slot> {
        let kept = self.kept.as_mut()?;
        let slot = self.opens.slot();
        kept.push(slot);
        Some(slot)
    }

    /// What the source says, if it is a symbolic link that is to be made again in the container (`copy-symlink`).
    pub(super) fn copied_link(&self, mount: &MountEntry) -> Option<&[u8]> {
        let says = mount.options.links.copy.then(|| self.facts.links.get(&self.config.bundle.join(&mount.source)))?;
        says.map(Vec::as_slice)
    }

    /// The container has a cgroup namespace.
    pub(super) fn has_cgroup_namespace(&self) -> bool {
        self.chosen.own.has(Namespace::Cgroup)
    }

    /// The step that gets a clone of a source on the host. The clone is made by the host half if init can't reach the source, by
    /// init before it enters a namespace created from the root alone, or by init in this step.
    pub(super) fn clone_of(&mut self, tree: HostTree) -> Step {
        let HostTree { source, recursive, nofollow, fallback, mapped, shares, propagation_follows, by_host } = tree;
        if by_host {
            let open = Open::Tree { source: source.clone(), recursive, nofollow, mapped, fallback, shares };
            return Step::Take { slot: self.opens.open(open), source };
        }
        if self.root_alone.is_none() {
            return Step::Clone { source, recursive, nofollow, fallback };
        }
        let slot = self.opens.slot();
        let cloned = source.clone();
        self.clones.push(Step::CloneAhead { slot, source: cloned, recursive, nofollow, fallback, propagation_follows });
        Step::Take { slot, source }
    }
}

/// A source on the host that is mounted in the container.
#[derive(Debug, Default)]
pub(super) struct HostTree {
    pub(super) source: Str,
    /// With everything mounted below it.
    pub(super) recursive: bool,
    /// A link is cloned itself.
    pub(super) nofollow: bool,
    /// What is cloned if the source does not exist.
    pub(super) fallback: Option<Str>,
    /// How its ids are mapped, if the host clones it.
    pub(super) mapped: Option<Mapped>,
    /// The clone stays in the host's peer group.
    pub(super) shares: bool,
    /// Later steps set the propagation of the whole clone.
    pub(super) propagation_follows: bool,
    /// The host clones it.
    pub(super) by_host: bool,
}
