//! The options of a start, and parts of the plan that depend on nothing but these and the configuration.

use super::cgroup::Inner;
use super::cgroup_mounts::CgroupTree;
use super::image;
use super::step::Str;
use crate::abi::mount::{MS_BIND, MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_RDONLY};
use crate::error::Result;
use crate::spec::{MountEntry, MountOptions};
use oci_spec::runtime::Process;
use std::path::{Path, PathBuf};

/// When the container's program starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// At once (`run`, `exec`, `restore`).
    #[default]
    Run,
    /// When `start` is called: init waits at the exec fifo (`create`).
    Create,
}

/// How a process is to be started: the options of the command line and what the caller's environment adds to them.
///
/// Read once from the command line (`cli`) and completed by `cmd`; the plan and the launch borrow it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StartOptions {
    /// When the program starts.
    pub mode: Mode,
    /// `--detach`.
    pub detach: bool,
    /// `--console-socket`.
    pub console_socket: Option<PathBuf>,
    /// `--pidfd-socket`.
    pub pidfd_socket: Option<PathBuf>,
    /// `--pid-file`.
    pub pid_file: Option<PathBuf>,
    /// `--no-pivot`.
    pub no_pivot: bool,
    /// `--no-new-keyring`.
    pub no_new_keyring: bool,
    /// How many descriptors from 3 on the payload keeps: those of `LISTEN_FDS` and of `--preserve-fds` together.
    pub preserve_fds: u32,
    /// How many of these are the caller's `LISTEN_FDS`, for the payload's environment.
    pub listen_fds: u32,
    /// The caller's `NOTIFY_SOCKET`.
    pub notify_socket: Option<PathBuf>,
}

impl StartOptions {
    /// Whether init waits for `start`.
    #[must_use]
    pub fn waits(&self) -> bool {
        self.mode == Mode::Create
    }

    /// Whether the caller waits for the end of the process, and learns then how it ended.
    #[must_use]
    pub fn foreground(&self) -> bool {
        self.mode == Mode::Run && !self.detach
    }
}

/// What a container's plan depends on, besides its configuration and the machine.
#[derive(Debug)]
pub struct Request<'a> {
    /// The container's id.
    pub id: &'a str,
    /// How the process is started.
    pub options: &'a StartOptions,
    /// The host's directory of the notify socket, to be mounted in the container.
    pub notify: Option<&'a Path>,
    /// The container's cgroups.
    pub cgroups: &'a CgroupTree,
    /// The cgroup below the container's that init is moved to when its cgroup namespace is made.
    pub delegate: Option<&'a Inner>,
    /// The process is moved into its cgroups after the clone, so the cgroup namespace must be created later.
    pub placed_late: bool,
}

/// The name of a container's session keyring; the same as runc's.
pub(super) fn keyring(id: &str) -> Result<Str> {
    image::c_string("id", format!("_ses.{id}"))
}

/// The placeholder of `create` for a bundle without `process`: root without capabilities.
pub(super) fn placeholder() -> Process {
    serde_json::from_str(r#"{"cwd": "/", "args": ["none"], "user": {"uid": 0, "gid": 0}}"#).unwrap_or_default()
}

/// The mount of the notify socket's directory.
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

/// Whether init must look `HOME` up, because it is missing or empty.
pub(super) fn home_wanted(process: &Process) -> bool {
    let mut homes = process.env().iter().flatten().filter_map(|variable| variable.strip_prefix("HOME="));
    homes.next_back().is_none_or(str::is_empty)
}

/// The payload's environment: the configuration's, and what the runtime adds.
pub(super) fn environment(process: &Process, request: &Request<'_>) -> Vec<String> {
    let mut env: Vec<String> = process.env().clone().unwrap_or_default();
    if home_wanted(process) {
        env.retain(|variable| !variable.starts_with("HOME="));
    }
    if request.notify.is_some() {
        env.push("NOTIFY_SOCKET=/run/notify/notify.sock".to_owned());
    }
    let listen_fds = request.options.listen_fds;
    if listen_fds > 0 {
        env.push(format!("LISTEN_FDS={listen_fds}"));
        env.push("LISTEN_PID=1".to_owned());
    }
    env
}
