//! The command line as types: runc's, and what crun adds to it.
//!
//! Pure: no environment, no files. The parser is our own, over the tables in `table.rs`. In the first and only call of a
//! process clap takes 115 to 165 µs for the arguments of a `run`, this parser 9 to 16; and clap would need another pass for
//! Go's long flags with one dash. Help, completions and manual pages are clap's, from the same tables (`help.rs`).

use crate::error::Error;
use crate::log::Form;
use crate::plan::cgroup::Driver;
use crate::plan::request::StartOptions;
use std::path::PathBuf;
use std::time::Duration;

mod help;
mod parse;
mod table;
mod time;
mod words;

pub use help::command as clap_command;
pub(crate) use help::{completions, text as help_text};
pub use parse::{MOST_DESCRIPTORS, parse};
pub use table::Verb;

/// One call of the runtime.
#[derive(Debug)]
pub struct Call {
    /// `argv[0]`: the name that the program was called by.
    pub name: String,
    /// The flags before the verb.
    pub global: Global,
    /// The verb with its flags and words.
    pub command: Command,
}

/// A command line that is wrong.
#[derive(Debug)]
pub struct Misuse {
    /// `argv[0]`.
    pub name: String,
    /// The flags before the verb, which say where the error is logged; defaults if these are what is wrong.
    pub global: Global,
    /// The mistake; its hint says where the help is.
    pub error: Error,
}

/// The flags before the verb.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Global {
    /// `--root`: the directory of the container states.
    pub root: Option<PathBuf>,
    /// `--log`: the log file; standard error without it.
    pub log: Option<PathBuf>,
    /// `--log-format`.
    pub log_format: Form,
    /// `--trace`: the file for the times of phases and steps.
    pub trace: Option<PathBuf>,
    /// `--debug`.
    pub debug: bool,
    /// `--systemd-cgroup` or `--cgroup-manager`.
    pub cgroup: Driver,
    /// `--rootless`: whether cgroup permission errors are ignored; `None` decides by the caller's rights.
    pub rootless: Option<bool>,
}

/// Arguments of `create`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Create {
    /// The container's id, unchecked.
    pub id: String,
    /// `--bundle`: the current directory without it.
    pub bundle: Option<PathBuf>,
    /// `--config`: the bundle's `config.json` without it.
    pub config: Option<PathBuf>,
    /// How the process is started.
    pub start: StartOptions,
}

/// Arguments of `run`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Run {
    /// As for `create`.
    pub create: Create,
    /// `--keep`.
    pub keep: bool,
    /// `--no-subreaper`.
    pub no_subreaper: bool,
}

/// Arguments of `exec`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Exec {
    /// The container's id, unchecked.
    pub id: String,
    /// The command and its arguments.
    pub args: Vec<String>,
    /// How the process is started.
    pub start: StartOptions,
    /// `--cwd`.
    pub cwd: Option<PathBuf>,
    /// `--env`, in order.
    pub env: Vec<String>,
    /// `--tty`.
    pub tty: bool,
    /// `--user`: the user id and, where given, the group id.
    pub user: Option<(u32, Option<u32>)>,
    /// `--additional-gids`.
    pub additional_gids: Vec<u32>,
    /// `--process`: a file with the whole process.
    pub process: Option<PathBuf>,
    /// `--process-label`.
    pub process_label: Option<String>,
    /// `--apparmor`.
    pub apparmor: Option<String>,
    /// `--no-new-privs`; `None` leaves it as the container has it.
    pub no_new_privs: Option<bool>,
    /// `--cap`, in order.
    pub caps: Vec<String>,
    /// `--cgroup`, in order.
    pub cgroups: Vec<String>,
    /// `--ignore-paused`.
    pub ignore_paused: bool,
}

/// What `mounts` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// `mounts add`.
    Add,
    /// `mounts remove`.
    Remove,
}

/// How a list is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Columns for people.
    #[default]
    Table,
    /// JSON for programs.
    Json,
}

/// Arguments of `update`. Numbers are in the spec's units; `-1` is no limit where the spec has it so.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Update {
    /// The container's id, unchecked.
    pub id: String,
    /// `--resources`: a JSON file, `-` for standard input; replaces every other flag.
    pub resources: Option<PathBuf>,
    /// `--blkio-weight`.
    pub blkio_weight: Option<u16>,
    /// `--cpu-period`, in µs.
    pub cpu_period: Option<u64>,
    /// `--cpu-quota`, in µs.
    pub cpu_quota: Option<i64>,
    /// `--cpu-burst`, in µs.
    pub cpu_burst: Option<u64>,
    /// `--cpu-share`.
    pub cpu_shares: Option<u64>,
    /// `--cpu-rt-period`, in µs.
    pub cpu_rt_period: Option<u64>,
    /// `--cpu-rt-runtime`, in µs.
    pub cpu_rt_runtime: Option<i64>,
    /// `--cpu-idle`.
    pub cpu_idle: Option<i64>,
    /// `--cpuset-cpus`.
    pub cpuset_cpus: Option<String>,
    /// `--cpuset-mems`.
    pub cpuset_mems: Option<String>,
    /// `--memory`, in bytes.
    pub memory: Option<i64>,
    /// `--memory-reservation`, in bytes.
    pub memory_reservation: Option<i64>,
    /// `--memory-swap`, in bytes.
    pub memory_swap: Option<i64>,
    /// Whether `--kernel-memory` or `--kernel-memory-tcp` was given: ignored with a warning.
    pub kernel_memory: bool,
    /// `--pids-limit`.
    pub pids_limit: Option<i64>,
    /// `--l3-cache-schema`.
    pub l3_cache_schema: Option<String>,
    /// `--mem-bw-schema`.
    pub mem_bw_schema: Option<String>,
}

/// What `checkpoint` and `restore` share.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Criu {
    /// The container's id, unchecked.
    pub id: String,
    /// `--image-path`: `./checkpoint` without it.
    pub image_path: Option<PathBuf>,
    /// `--work-path`.
    pub work_path: Option<PathBuf>,
    /// `--tcp-established`.
    pub tcp_established: bool,
    /// `--ext-unix-sk`.
    pub ext_unix_sk: bool,
    /// `--shell-job`.
    pub shell_job: bool,
    /// `--lazy-pages`.
    pub lazy_pages: bool,
    /// `--file-locks`.
    pub file_locks: bool,
    /// `--manage-cgroups-mode`, unchecked.
    pub manage_cgroups_mode: Option<String>,
    /// `--empty-ns`, in order, unchecked.
    pub empty_ns: Vec<String>,
    /// `--auto-dedup`.
    pub auto_dedup: bool,
}

/// Arguments of `checkpoint`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Checkpoint {
    /// As for `restore`.
    pub criu: Criu,
    /// `--parent-path`.
    pub parent_path: Option<PathBuf>,
    /// `--leave-running`.
    pub leave_running: bool,
    /// `--tcp-skip-in-flight`.
    pub tcp_skip_in_flight: bool,
    /// `--link-remap`.
    pub link_remap: bool,
    /// `--status-fd`.
    pub status_fd: Option<u32>,
    /// `--page-server`, unchecked.
    pub page_server: Option<String>,
    /// `--pre-dump`.
    pub pre_dump: bool,
}

/// Arguments of `restore`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Restore {
    /// As for `checkpoint`.
    pub criu: Criu,
    /// `--bundle`: the current directory without it.
    pub bundle: Option<PathBuf>,
    /// How the container is started.
    pub start: StartOptions,
    /// `--no-subreaper`.
    pub no_subreaper: bool,
    /// `--lsm-profile`.
    pub lsm_profile: Option<String>,
    /// `--lsm-mount-context`.
    pub lsm_mount_context: Option<String>,
}

/// A verb with its arguments. Every `id` is as typed, unchecked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Create a container.
    Create(Create),
    /// Start its program.
    Start {
        /// The container.
        id: String,
    },
    /// Create and start a container.
    Run(Run),
    /// Run one more process in it.
    Exec(Exec),
    /// Show its state.
    State {
        /// The container.
        id: String,
    },
    /// Send a signal to its first process.
    Kill {
        /// The container.
        id: String,
        /// The signal as typed: a name or a number.
        signal: Option<String>,
        /// `--all`.
        all: bool,
        /// `--regex`.
        regex: bool,
    },
    /// Add or remove mounts.
    Mounts {
        /// Which of the two.
        change: Change,
        /// The container.
        id: String,
        /// The document.
        file: PathBuf,
    },
    /// Remove it.
    Delete {
        /// The container.
        id: String,
        /// `--force`.
        force: bool,
        /// `--regex`.
        regex: bool,
    },
    /// List containers.
    List {
        /// `--format`; `Err` holds a format that does not exist, which only the verb itself complains about.
        format: Result<Format, String>,
        /// `--quiet`.
        quiet: bool,
    },
    /// Show its processes.
    Ps {
        /// The container.
        id: String,
        /// `--format`.
        format: Result<Format, String>,
        /// Options of the host's `ps`.
        args: Vec<String>,
    },
    /// Freeze it.
    Pause {
        /// The container.
        id: String,
    },
    /// Thaw it.
    Resume {
        /// The container.
        id: String,
    },
    /// Show statistics and out-of-memory events.
    Events {
        /// The container.
        id: String,
        /// `--interval`.
        interval: Duration,
        /// `--stats`: once.
        stats: bool,
    },
    /// Change its limits.
    Update(Box<Update>),
    /// Write a `config.json` to start from.
    Spec {
        /// `--bundle`.
        bundle: Option<PathBuf>,
        /// `--rootless`.
        rootless: bool,
    },
    /// Show what this runtime supports.
    Features,
    /// Save it with CRIU.
    Checkpoint(Box<Checkpoint>),
    /// Restore it with CRIU.
    Restore(Box<Restore>),
    /// Show what `create` would do.
    Plan {
        /// The bundle.
        bundle: PathBuf,
        /// `--id`.
        id: Option<String>,
    },
    /// The completions for a shell, as typed.
    Completion {
        /// The shell.
        shell: String,
    },
    /// Help about a verb, or about the whole.
    Help(Option<&'static Verb>),
    /// The version.
    Version,
}

impl Command {
    /// Whether it only prints something about the program.
    #[must_use]
    pub fn only_tells(&self) -> bool {
        matches!(self, Self::Help(_) | Self::Version | Self::Completion { .. })
    }
}

/// The name that is most similar to a mistyped word, if one is similar enough.
fn nearest<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    const LIKE: f64 = 0.8;
    let scored = names.map(|name| (strsim::jaro_winkler(word, name), name)).filter(|(score, _)| *score > LIKE);
    scored.max_by(|(one, _), (other, _)| one.total_cmp(other)).map(|(_, name)| name)
}
