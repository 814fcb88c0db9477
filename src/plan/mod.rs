//! What will be done, as data: decided before anything is touched.
//!
//! A plan is pure: it is made of what was typed, what the bundle says and what the machine can do, and making it has no
//! effect. It may use `abi`, `spec`, `facts` and the plain types of `sys`.

mod attributes;
mod capabilities;
pub mod cgroup;
mod cgroup_mounts;
pub mod container;
mod dev;
mod devices;
pub mod exec;
mod fmt;
#[cfg(test)]
mod goldens;
#[cfg(test)]
mod held;
pub mod hooks;
mod identity;
mod idmap;
pub mod image;
mod masked_paths;
pub mod mounts;
pub mod namespaces;
pub mod network;
mod opens;
mod planner;
pub mod request;
mod rootfs;
#[cfg(test)]
mod scaling;
pub mod seccomp;
pub mod show;
mod slot;
pub mod step;
mod terminal;
mod tree_namespace;

use crate::abi::ns::{Namespace, Namespaces};
pub use crate::spec::{Checked, Config, IdRange, Maps, TimeOffset, check, config as parse};
use hooks::Hooks;
use image::Image;
use std::path::PathBuf;
use step::{Slot, Step, Str};

/// Something that the host opens before the clone, so that init finds it in its slot.
#[derive(Debug)]
pub enum Open {
    /// A namespace file; its kind is checked.
    Namespace {
        /// Where.
        path: PathBuf,
        /// What it must be.
        kind: Namespace,
        /// JSON path, for the message.
        at: String,
    },
    /// A detached clone of a tree of the host, which init could not reach from its user namespace.
    Tree {
        /// Where.
        source: Str,
        /// With everything mounted below it.
        recursive: bool,
        /// How its ids are mapped.
        mapped: Option<Mapped>,
        /// What is cloned where the path is not there.
        fallback: Option<Str>,
        /// The clone goes on sharing mounts with the host (`rshared`); else it receives them and sends nothing back.
        shares: bool,
    },
    /// A user namespace that stands for a mapping of ids, with nobody in it.
    Mapping(Maps),
    /// Standard input, output and error for hooks in the container.
    HookFiles,
    /// The connection to `--console-socket`.
    Console(PathBuf),
}

/// How the ids of a mount are mapped (`MOUNT_ATTR_IDMAP`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mapped {
    /// Where the user namespace is that stands for the mapping.
    pub namespace: Slot,
    /// Everything mounted below it too.
    pub recursive: bool,
}

/// How the child comes to be.
#[derive(Debug, Default)]
pub struct CloneSpec {
    /// Namespaces that the clone makes.
    pub new: Namespaces,
    /// Namespaces of the process in slot `INIT` that the go-between joins in one call, after those of `join_before_clone`: a child that
    /// appears in a container's pid namespace stands in its other namespaces, too, and shows nothing of the host's.
    pub join_in_intermediate: Namespaces,
    /// Processors that the host half moves to before the clone; none means all.
    pub affinity: Box<[u64]>,
    /// Namespaces that an intermediate process joins before it clones: they decide where the child is created (`pid`), or
    /// must be joined with the host's rights before a user namespace takes them away.
    pub join_before_clone: Vec<(Slot, Namespace)>,
    /// Offsets that the go-between writes for the new time namespace.
    pub offsets: Vec<TimeOffset>,
    /// The go-between makes the mount namespace, with nothing in it but an empty directory: the child appears in a pid
    /// namespace where others can read its `/proc/PID/mountinfo`, and has no mounts of the host's to show there. It gets what it
    /// mounts from the host half.
    pub empty_mounts: bool,
    /// Mappings of a new user namespace.
    pub maps: Option<Maps>,
    /// A helper thread creates the network namespace, the most expensive one, in parallel and brings its loopback device up;
    /// init joins it later ([`step::Step::JoinNetwork`]).
    pub network_ahead: bool,
    /// The child shares the memory of the host half until its execve, instead of getting a copy.
    pub shares_memory: bool,
    /// The child is undumpable from its clone on (`PR_SET_DUMPABLE`, proc(5)): nobody but who has `CAP_SYS_PTRACE` over it may open its
    /// `/proc/PID/{fd,root,cwd,exe,mem,environ,map_files}`. Only a caller without privileges must let its child be dumpable until
    /// the id maps are written, since `/proc/PID/uid_map` belongs to root otherwise: that child undoes it behind
    /// `Await(Mapped)`, in a user namespace that nobody else is in.
    pub undumpable: bool,
}

impl CloneSpec {
    /// Whether a go-between is needed.
    #[must_use]
    pub fn needs_intermediate(&self) -> bool {
        !(self.join_before_clone.is_empty() && self.join_in_intermediate.is_empty() && self.offsets.is_empty())
    }

    /// Whether the go-between joins a namespace of this kind.
    #[must_use]
    pub fn joins(&self, kind: Namespace) -> bool {
        self.join_in_intermediate.has(kind) || self.join_before_clone.iter().any(|(_, known)| *known == kind)
    }
}

/// A limit that the host sets on init, because init in its user namespace may not.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    /// `RLIMIT_*`.
    pub resource: u32,
    /// Its name.
    pub name: &'static str,
    /// Soft limit.
    pub soft: u64,
    /// Hard limit.
    pub hard: u64,
}

/// Everything that will be done.
#[derive(Debug)]
pub struct Plan {
    /// The root that the host mounts on itself for a container without a mount namespace of its own; it lies in `ROOT`.
    pub root: Option<Str>,
    /// Network devices that the host moves.
    pub network: network::Network,
    /// What the host opens before the clone.
    pub opens: Vec<(Slot, Open)>,
    /// How many slots there are.
    pub slots: u16,
    /// How the child comes to be.
    pub clone_spec: CloneSpec,
    /// Limits that the host sets.
    pub limits: Vec<Limit>,
    /// Written to `/proc/PID/oom_score_adj` by the host; it may be lowered only from outside.
    pub oom_score_adj: Option<i32>,
    /// The session keyring that the host half joins before the clone, for the child to inherit: a key counts against the quota of
    /// whoever makes it (`maxkeys`, keyrings(7)), which the one user of many containers with mapped ids soon uses up. None: init
    /// joins it.
    pub keyring: Option<Str>,
    /// Hooks that the host runs.
    pub hooks: Hooks,
    /// What init does.
    pub steps: Vec<Step>,
    /// What init becomes.
    pub image: Image,
    /// Where the seccomp listener goes, and what is said with it.
    pub listener: Option<(PathBuf, String)>,
    /// Warnings.
    pub notes: Vec<String>,
    /// What was passed over without harm, for the debug log.
    pub details: Vec<String>,
}
