//! What a container's plan is made of, and what its parts share while it is made.

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
    /// Its process, or the placeholder for one.
    pub(super) process: &'a Process,
    /// Its `linux`, which may be empty.
    pub(super) linux: &'a Linux,
    /// The mounts: the configuration's, and the notify socket's.
    pub(super) mounts: &'a [MountEntry],
    pub(super) request: &'a Request<'a>,
    pub(super) facts: &'a Facts,
    /// Who makes or joins which namespace.
    pub(super) chosen: Chosen,
    /// Namespaces that init makes itself, because the clone can't.
    pub(super) late: Namespaces,
    /// The container's `/dev`.
    pub(super) dev: Dev,
    /// The root that the host mounts on itself, for a container without a mount namespace.
    pub(super) host_root: Option<Str>,
    /// The host clones what the container gets to see of the host: in a user namespace init may not be able to reach it.
    pub(super) by_host: bool,
    /// The host's paths mean nothing where init is: its mount namespace begins empty, or belongs to a container that may have
    /// put anything there.
    pub(super) hidden: bool,
    /// The mount namespace is made of the root alone (`tree_namespace.rs`): how mounts from the host propagate in it.
    pub(super) root_alone: Option<u64>,
    /// Network devices that the host moves.
    pub(super) network: Network,
    /// The session keyring, if the host joins it for init to inherit.
    pub(super) keyring: Option<Str>,
    /// With `root_alone`: clones of the host's trees that init makes before it enters the namespace.
    pub(super) clones: Vec<Step>,
    /// Slots of mounts that become read-only when everything in them is made.
    pub(super) readonly: Vec<Slot>,
    pub(super) opens: Opens,
    /// Warnings.
    pub(super) notes: Vec<String>,
    /// What was left out without harm, for the debug log.
    pub(super) details: Vec<String>,
}

/// What a bind mount shows.
#[derive(Debug)]
pub(super) enum Bound {
    /// Something in the root, by its path from there: it may exist only since an earlier mount.
    InRoot(PathBuf),
    /// Something of the host, by its path there.
    OfHost(PathBuf),
}

impl Planner<'_> {
    /// What a bind mount shows.
    pub(super) fn bound(&self, mount: &MountEntry) -> Bound {
        let source = self.config.bundle.join(&mount.source);
        match source.strip_prefix(&self.config.rootfs) {
            Ok(inside) => Bound::InRoot(inside.to_owned()),
            Err(_) => Bound::OfHost(source),
        }
    }

    /// The container has a cgroup namespace.
    pub(super) fn has_cgroup_namespace(&self) -> bool {
        self.chosen.own.has(Namespace::Cgroup)
    }

    /// The step that gets a clone of a tree of the host. It is made by the host, if init could not reach the tree; or by init,
    /// now or before the host's trees get out of its reach.
    pub(super) fn clone_of(&mut self, tree: HostTree) -> Step {
        let HostTree { source, recursive, fallback, mapped, shares, propagation_follows, by_host } = tree;
        if by_host {
            let open = Open::Tree { source: source.clone(), recursive, mapped, fallback, shares };
            return Step::Take { slot: self.opens.open(open), source };
        }
        if self.root_alone.is_none() {
            return Step::Clone { source, recursive, fallback };
        }
        let slot = self.opens.slot();
        self.clones.push(Step::CloneAhead { slot, source: source.clone(), recursive, fallback, propagation_follows });
        Step::Take { slot, source }
    }
}

/// A tree of the host that the container gets to see.
#[derive(Debug, Default)]
pub(super) struct HostTree {
    pub(super) source: Str,
    /// With everything mounted below it.
    pub(super) recursive: bool,
    /// What is cloned if the source is not there.
    pub(super) fallback: Option<Str>,
    /// How its ids are mapped, if the host clones it.
    pub(super) mapped: Option<Mapped>,
    /// It goes on sharing mounts with the host.
    pub(super) shares: bool,
    /// The steps behind the clone set the propagation of all of it, whatever it was.
    pub(super) propagation_follows: bool,
    /// The host clones it.
    pub(super) by_host: bool,
}
