//! The record of a container, the document that is printed, and the status. Pure.

use oci_spec::runtime::Hook;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// The record: `state.json`. Keys are runc's where runc has them. `C` is the part of `cgroup`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record<C> {
    /// Whose record it is.
    #[serde(rename = "config")]
    pub maker: Maker,
    /// The version of the spec that the configuration names.
    #[serde(rename = "ociVersion")]
    pub oci_version: String,
    /// The id.
    pub id: String,
    /// Pid of the first process on the host; 0 until there is one.
    pub init_process_pid: i32,
    /// Its start time, in clock ticks since boot. Both together identify the process.
    pub init_process_start: u64,
    /// When the container was created: RFC 3339 with nanoseconds.
    pub created: String,
    /// The bundle, absolute.
    pub bundle: PathBuf,
    /// The root file system, absolute.
    pub rootfs: PathBuf,
    /// The annotations of the configuration.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Whether it was created without privileges.
    #[serde(default)]
    pub rootless: bool,
    /// The namespaces by clone flag without `CLONE_`: `NEWNS` → `/proc/PID/ns/mnt`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub namespace_paths: BTreeMap<String, PathBuf>,
    /// What descriptors 0 to 2 of the first process were, for checkpoints.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub external_descriptors: Vec<String>,
    /// Whether it has a pid namespace of its own: then the kernel kills all its processes when the first one ends.
    #[serde(default)]
    pub private_pid: bool,
    /// The mount id of its root, if that is mounted in the caller's mount namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_mount: Option<u64>,
    /// Whether its processes keep the session keyring of their caller.
    #[serde(default)]
    pub no_new_keyring: bool,
    /// What `cgroup` needs to act on the container later; its keys are at the same level, as in runc.
    #[serde(flatten)]
    pub cgroup: C,
    /// Hooks that `start` runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub poststart: Vec<Hook>,
    /// Hooks that `delete` runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub poststop: Vec<Hook>,
}

/// What a call waits for that creates a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Awaited {
    /// The part of the creation: `init`, `hook`.
    pub phase: String,
    /// What is done in it: a step of the plan, a hook and its program.
    pub step: String,
}

/// The key `config` of a record, which comes first: a string here, an object in runc's. So every verb of runc fails to read our
/// record, and keeps it. Without the key runc would take it for its own; without the file it would remove the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Maker {
    /// Onggi.
    #[serde(rename = "this is a container of onggi")]
    Onggi,
}

/// The status of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It is being created.
    Creating,
    /// It is created and waits for `start`.
    Created,
    /// The payload runs.
    Running,
    /// Its cgroup is frozen.
    Paused,
    /// Its first process has ended.
    Stopped,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        })
    }
}

/// The state document that `state` and `list` print: runc's keys in runc's order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Document<'a> {
    oci_version: &'a str,
    /// The id.
    pub id: &'a str,
    /// The first process; 0 when stopped.
    pub pid: i32,
    /// The status.
    pub status: Status,
    /// The bundle.
    pub bundle: &'a str,
    rootfs: &'a str,
    /// When it was created.
    pub created: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
    /// Who created it; printed by `list` only.
    pub owner: String,
    /// What its creation waits for; only `state` says so.
    #[serde(flatten)]
    pub awaited: Option<Awaited>,
}

impl<C> Record<C> {
    /// The document to print.
    #[must_use]
    pub fn document(&self, status: Status, owner: String) -> Document<'_> {
        Document {
            oci_version: &self.oci_version,
            id: &self.id,
            pid: if status == Status::Stopped { 0 } else { self.init_process_pid },
            status,
            // a path in the record is always UTF-8, because it came from JSON
            bundle: self.bundle.to_str().unwrap_or_default(),
            rootfs: self.rootfs.to_str().unwrap_or_default(),
            created: &self.created,
            annotations: &self.annotations,
            owner,
            awaited: None,
        }
    }
}
