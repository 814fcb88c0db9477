//! What was typed, as far as a container's plan depends on it, and what of the plan follows from that and the configuration alone.

use super::cgroup_mounts::CgroupTree;
use super::image;
use super::step::Str;
use crate::abi::mount::{MS_BIND, MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_RDONLY};
use crate::error::Result;
use crate::spec::{MountEntry, MountOptions};
use oci_spec::runtime::Process;
use std::path::Path;

/// What was typed, as far as the plan depends on it.
#[derive(Debug)]
pub struct Request<'a> {
    /// The container's id.
    pub id: &'a str,
    /// `create`: init waits for `start`.
    pub gate: bool,
    /// `--console-socket`.
    pub console_socket: Option<&'a Path>,
    /// `--no-pivot`.
    pub no_pivot: bool,
    /// `--no-new-keyring`.
    pub no_new_keyring: bool,
    /// Descriptors from 3 on that the payload keeps: `--preserve-fds` and the caller's `LISTEN_FDS`.
    pub preserve_fds: u32,
    /// `LISTEN_FDS` of the caller, for the payload's environment.
    pub listen_fds: u32,
    /// The directory of the notify socket, to be seen in the container.
    pub notify: Option<&'a Path>,
    /// The container's cgroups.
    pub cgroups: &'a CgroupTree,
    /// The cgroup namespace must be made late, because the process is placed in its cgroup after the clone.
    pub placed_late: bool,
}

/// The name of a container's session keyring, as runc's.
pub(super) fn keyring(id: &str) -> Result<Str> {
    image::c_string("id", format!("_ses.{id}"))
}

/// The placeholder of `create` for a bundle without `process`: root without capabilities.
pub(super) fn placeholder() -> Process {
    serde_json::from_str(r#"{"cwd": "/", "args": ["none"], "user": {"uid": 0, "gid": 0}}"#).unwrap_or_default()
}

/// Where the payload finds its notify socket.
pub(super) fn notify_mount(directory: &Path) -> MountEntry {
    let flags = MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC;
    MountEntry {
        at: "notify socket".to_owned(),
        target: "/run/notify".to_owned(),
        typ: "bind".to_owned(),
        source: directory.to_owned(),
        options: MountOptions { set: flags, ..MountOptions::default() },
        maps: None,
    }
}

/// Whether `HOME` is to be looked up: it is missing, or empty.
pub(super) fn home_wanted(process: &Process) -> bool {
    let mut homes = process.env().iter().flatten().filter_map(|variable| variable.strip_prefix("HOME="));
    homes.next_back().is_none_or(str::is_empty)
}

/// The payload's environment: the spec's, and what the runtime adds to it.
pub(super) fn environment(process: &Process, request: &Request<'_>) -> Vec<String> {
    let mut env: Vec<String> = process.env().clone().unwrap_or_default();
    if home_wanted(process) {
        env.retain(|variable| !variable.starts_with("HOME="));
    }
    if request.notify.is_some() {
        env.push("NOTIFY_SOCKET=/run/notify/notify.sock".to_owned());
    }
    if request.listen_fds > 0 {
        env.push(format!("LISTEN_FDS={}", request.listen_fds));
        env.push("LISTEN_PID=1".to_owned());
    }
    env
}
