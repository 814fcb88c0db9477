//! What is remembered of a container, what is shown of it, and its status. Pure.

use oci_spec::runtime::Hook;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// The record: `state.json`. The keys are runc's where runc has them. `C` is the cgroup side's part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record<C> {
    /// The version of the spec that the configuration names.
    #[serde(rename = "ociVersion")]
    pub oci_version: String,
    /// The id.
    pub id: String,
    /// The first process as the host counts; 0 until there is one.
    pub init_process_pid: i32,
    /// When it was started, in clock ticks since boot; without it the number means nothing.
    pub init_process_start: u64,
    /// When the container was made: RFC 3339 with nanoseconds.
    pub created: String,
    /// The bundle, absolute.
    pub bundle: PathBuf,
    /// The root file system, absolute.
    pub rootfs: PathBuf,
    /// The annotations of the configuration.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Whether it was made without privileges.
    #[serde(default)]
    pub rootless: bool,
    /// The namespaces by clone flag without `CLONE_`: `NEWNS` → `/proc/PID/ns/mnt`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub namespace_paths: BTreeMap<String, PathBuf>,
    /// What descriptors 0 to 2 of the first process were: a checkpoint needs them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub external_descriptors: Vec<String>,
    /// Whether it has a pid namespace of its own: the kernel then kills everything in it with the first process.
    #[serde(default)]
    pub private_pid: bool,
    /// The number of the mount that its root is, where that was mounted in the mount namespace of the caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_mount: Option<u64>,
    /// Whether its processes keep the session keyring of their caller.
    #[serde(default)]
    pub no_new_keyring: bool,
    /// What the cgroup side needs to act on the container again; its keys stand among ours, as runc has them.
    #[serde(flatten)]
    pub cgroup: C,
    /// Hooks that `start` runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub poststart: Vec<Hook>,
    /// Hooks that `delete` runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub poststop: Vec<Hook>,
}

/// What a container is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It is being made.
    Creating,
    /// It is made and waits for `start`.
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

/// The state document as `state` and `list` show it: runc's keys in runc's order.
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
    /// When it was made.
    pub created: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
    /// Who made it; only lists say so.
    pub owner: String,
}

impl<C> Record<C> {
    /// The document that is shown.
    #[must_use]
    pub fn document(&self, status: Status, owner: String) -> Document<'_> {
        Document {
            oci_version: &self.oci_version,
            id: &self.id,
            pid: if status == Status::Stopped { 0 } else { self.init_process_pid },
            status,
            // a path that is no text cannot be in a record: JSON has no form for it
            bundle: self.bundle.to_str().unwrap_or_default(),
            rootfs: self.rootfs.to_str().unwrap_or_default(),
            created: &self.created,
            annotations: &self.annotations,
            owner,
        }
    }
}
