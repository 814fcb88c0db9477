//! Plans: everything that a start or an `exec` will do, as data, decided before anything is done.
//!
//! Planning is pure: its input is the command line, the bundle and the features of the machine, and it has no effects. May use
//! `abi`, `spec`, `facts` and the plain types of `sys`.

pub mod added;
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
pub use crate::spec::{Checked, Config, IdRange, Maps, TimeOffset, annotation, check, config as parse};
pub use devices::listed_devices;
use hooks::Hooks;
use image::Image;
use std::path::PathBuf;
use step::{Slot, Step, Str};

/// Something that the host opens before the clone, for init to find in a slot.
#[derive(Debug)]
pub enum Open {
    /// A namespace file; its kind is checked.
    Namespace {
        /// Its path.
        path: PathBuf,
        /// The kind that it must be.
        kind: Namespace,
        /// Its JSON path, for errors.
        at: String,
    },
    /// A detached clone of a directory or file of the host, which init may not be able to reach.
    Tree {
        /// Its path.
        source: Str,
        /// With everything mounted below it.
        recursive: bool,
        /// A link is cloned itself.
        nofollow: bool,
        /// How its ids are mapped.
        mapped: Option<Mapped>,
        /// Another path to clone if that one does not exist.
        fallback: Option<Str>,
        /// The clone stays in the host's peer group (`rshared`); otherwise it becomes a slave of it.
        shares: bool,
    },
    /// A detached mount of a device node, for a user namespace, in which init can't make one.
    Node {
        /// Where the host may have it.
        source: Str,
        /// Type and permissions.
        mode: u32,
        /// Device number.
        device: u64,
        /// Owner and group, as host ids, if the bundle asks for the node and its owner is mapped: then a node is made.
        /// Otherwise the host's is bound.
        owner: Option<(u32, u32)>,
    },
    /// A user namespace with these id mappings and no process in it, for id-mapped mounts.
    Mapping(Maps),
    /// Standard input, output and error for hooks in the container; files of the host that the output and the errors are
    /// appended to, if annotations name them.
    HookFiles([Option<PathBuf>; 2]),
    /// The connection to `--console-socket`.
    Console(PathBuf),
}

/// How the ids of a mount are mapped (`MOUNT_ATTR_IDMAP`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mapped {
    /// The slot of the user namespace that has the mapping.
    pub namespace: Slot,
    /// Applies to everything mounted below, too.
    pub recursive: bool,
}

/// How the child is created.
#[derive(Debug, Default)]
pub struct CloneSpec {
    /// Namespaces that the clone creates.
    pub new: Namespaces,
    /// Namespaces of the process in slot `INIT` that the intermediate process joins in one call, after those of
    /// `join_before_clone`: so a child that becomes visible in a container's pid namespace is in the container's other namespaces
    /// already, and shows nothing of the host.
    pub join_in_intermediate: Namespaces,
    /// CPU affinity that the host half sets before the clone; empty means all CPUs.
    pub affinity: Box<[u64]>,
    /// Namespaces that an intermediate process joins before it clones: they decide where the child is created (`pid`), or
    /// must be joined with the host's rights before a user namespace takes them away.
    pub join_before_clone: Vec<(Slot, Namespace)>,
    /// Clock offsets that the intermediate process writes for the new time namespace.
    pub offsets: Vec<TimeOffset>,
    /// The intermediate process creates the mount namespace, with nothing in it but an empty directory: the child will be in a
    /// pid namespace where others can read its `/proc/PID/mountinfo`, and must not show the host's mounts. What it mounts it gets
    /// from the host half.
    pub empty_mounts: bool,
    /// Mappings of a new user namespace.
    pub maps: Option<Maps>,
    /// A helper thread creates the network namespace, the most expensive one, in parallel and brings its loopback device up;
    /// init joins it later ([`step::Step::JoinNetwork`]).
    pub network_ahead: bool,
    /// The child shares the memory of the host half until its execve, instead of getting a copy.
    pub shares_memory: bool,
    /// The child is undumpable from the clone on (`PR_SET_DUMPABLE`, proc(5)): only a process with `CAP_SYS_PTRACE` over it can
    /// open its `/proc/PID/{fd,root,cwd,exe,mem,environ,map_files}`. The child of an unprivileged caller must be dumpable until
    /// the id maps are written, because `/proc/PID/uid_map` would belong to root otherwise; it becomes undumpable after
    /// `Await(Mapped)`, and until then no other process is in its user namespace.
    pub undumpable: bool,
}

impl CloneSpec {
    /// Whether an intermediate process is needed.
    #[must_use]
    pub fn needs_intermediate(&self) -> bool {
        !(self.join_before_clone.is_empty() && self.join_in_intermediate.is_empty() && self.offsets.is_empty())
    }

    /// Whether the intermediate process joins a namespace of this kind.
    #[must_use]
    pub fn joins(&self, kind: Namespace) -> bool {
        self.join_in_intermediate.has(kind) || self.join_before_clone.iter().any(|(_, known)| *known == kind)
    }
}

/// A resource limit (`setrlimit(2)`).
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

/// All actions of one start or `exec`.
#[derive(Debug)]
pub struct Plan {
    /// For a container without a mount namespace of its own: the root, which the host bind mounts on itself; in slot `ROOT`.
    pub root: Option<Str>,
    /// Network devices that the host moves into the container.
    pub network: network::Network,
    /// What the host opens before the clone.
    pub opens: Vec<(Slot, Open)>,
    /// Number of slots.
    pub slots: u16,
    /// How the child is created.
    pub clone_spec: CloneSpec,
    /// Limits that the host sets on init, because init may not in its user namespace.
    pub limits: Vec<Limit>,
    /// The host writes it to `/proc/PID/oom_score_adj`, because init may lack the privilege to lower it.
    pub oom_score_adj: Option<i32>,
    /// The session keyring that the host half joins before the clone, for the child to inherit: a key counts against the quota of
    /// its creator (`maxkeys`, keyrings(7)), and one host user of many containers with mapped ids would soon exhaust it. `None`:
    /// init joins one, or there is none.
    pub keyring: Option<Str>,
    /// Hooks that the host runs.
    pub hooks: Hooks,
    /// What init does.
    pub steps: Vec<Step>,
    /// The program that init executes at the end.
    pub image: Image,
    /// Path of the seccomp agent's socket, and the metadata that is sent with the listener.
    pub listener: Option<(PathBuf, String)>,
    /// The cgroup that the host moves init to when its cgroup namespace is made.
    pub delegate: Option<cgroup::Inner>,
    /// Mounts that are taken off again, the last one first, if a step fails.
    pub added: Vec<Slot>,
    /// Warnings.
    pub notes: Vec<String>,
    /// Harmless omissions, for the debug log.
    pub details: Vec<String>,
}
