//! `create`, and what it shares with `run` and `plan`: finding the bundle, judging the call, making the job.

use crate::cgroup;
use crate::cli::{self, CgroupDriver, Global};
use crate::error::{Context, Error, Kind, Result};
use crate::launch::{self, Job, notify};
use crate::log::Log;
use crate::plan::cgroup::{Driver, Rootless};
use crate::spec::{self, Checked, Config};
use crate::state::{Root, check_id};
use crate::sys::exe::{Seal, View};
use crate::sys::netns::Ahead;
use crate::sys::{Errno, cred, ns};
use std::path::{Path, PathBuf};

/// A bundle that was found, read and judged.
#[derive(Debug)]
pub(super) struct Bundle {
    pub(super) path: PathBuf,
    pub(super) loaded: Checked<Config>,
    /// Begun on the strength of a look at the configuration.
    pub(super) network: Option<&'static Ahead>,
}

/// What a bundle is read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To be looked at.
    Look,
    /// A container, which may be one without a process.
    Create,
    /// A container with a process.
    Run,
}

/// A bundle that was found and read.
#[derive(Debug)]
pub(super) struct Found {
    path: PathBuf,
    config: PathBuf,
    bytes: Vec<u8>,
}

/// Finds, reads and judges the bundle.
pub(super) fn bundle(directory: Option<&Path>, config: Option<&Path>, purpose: Purpose, log: &Log) -> Result<Bundle> {
    find(directory, config, log)?.judge(purpose, log)
}

/// Finds and reads the bundle. Its directory becomes ours: relative paths in it start there, and hooks expect it.
pub(super) fn find(directory: Option<&Path>, config: Option<&Path>, log: &Log) -> Result<Found> {
    let _span = log.span("read config.json");
    // a configuration elsewhere is named relative to where the caller stands
    let config = config.map(std::path::absolute).transpose()?;
    if let Some(directory) = directory {
        std::env::set_current_dir(directory).context(|| format!("chdir to bundle {}", directory.display()))?;
    }
    let path = std::env::current_dir().context(|| "find the current directory")?;
    let config = config.unwrap_or_else(|| PathBuf::from("config.json"));
    let bytes = spec::read(&config)?;
    Ok(Found { path, config, bytes })
}

impl Found {
    /// Parses and judges it. A network namespace is begun with first: the longest part of a start goes on meanwhile, and a wrong
    /// guess costs no more than its time. The thread that makes it blocks the signals that we block now.
    pub(super) fn judge(self, purpose: Purpose, log: &Log) -> Result<Bundle> {
        let _span = log.span("parse config.json");
        let Self { path, config, bytes } = self;
        let network = (purpose != Purpose::Look && spec::looks_for_network(&bytes))
            .then(|| launch::begin_network(log.trace().is_some()))
            .transpose()?;
        let loaded = spec::config(bytes, &config)?;
        loaded.notes.iter().for_each(|note| log.warn(note));
        let loaded = spec::check(loaded, &path, purpose == Purpose::Run)?;
        Ok(Bundle { path, loaded, network })
    }
}

pub(super) fn driver(global: &Global) -> Driver {
    match global.cgroup {
        CgroupDriver::Cgroupfs => Driver::Cgroupfs,
        CgroupDriver::Systemd => Driver::Systemd,
        CgroupDriver::Disabled => Driver::Disabled,
    }
}

/// `--rootless`. The cgroupfs driver leaves the question what kind of root we are until something is refused; which
/// systemd makes a unit must be known before.
pub(super) fn rootless(global: &Global) -> Rootless {
    match (global.rootless, global.cgroup) {
        (Some(true), _) => Rootless::Yes,
        (Some(false), _) => Rootless::No,
        (None, _) if !cred::is_privileged() => Rootless::Yes,
        (None, CgroupDriver::Systemd) => {
            if ns::in_user_namespace() && cgroup::user_manager_is_a_users() {
                Rootless::Yes
            } else {
                Rootless::No
            }
        }
        (None, CgroupDriver::Cgroupfs | CgroupDriver::Disabled) => Rootless::InUserNamespace,
    }
}

/// The caller's `LISTEN_FDS`, if they are for us: `LISTEN_PID` says for which process they are (`sd_listen_fds(3)`), and those
/// of a caller who has kept them to itself are not there any more.
fn listen_fds() -> Result<u32> {
    let variable = |name| std::env::var(name).ok();
    let number = |text: String| text.parse::<u32>().ok();
    if variable("LISTEN_PID").and_then(number) != Some(std::process::id()) {
        return Ok(0);
    }
    let Some(text) = variable("LISTEN_FDS") else { return Ok(0) };
    match text.parse::<u64>() {
        Ok(count) if count > u64::from(cli::MOST_DESCRIPTORS) => {
            Err(Error::msg(format!("LISTEN_FDS={text}: more than {} descriptors", cli::MOST_DESCRIPTORS)))
        }
        Ok(count) => Ok(u32::try_from(count).unwrap_or_default()),
        Err(_) => Ok(0),
    }
}

/// Gives the descriptors that the payload is to have a look, before anything of ours takes one of their numbers: those of
/// `LISTEN_FDS` and those of `--preserve-fds` behind them. Answers how many the first are.
pub(super) fn preserved(create: &cli::Create) -> Result<u32> {
    let listen_fds = listen_fds()?;
    launch::check_preserved("LISTEN_FDS", 0..listen_fds)?;
    launch::check_preserved("--preserve-fds", listen_fds..listen_fds + create.preserve_fds)?;
    Ok(listen_fds)
}

/// Terminals and sockets must fit each other, in runc's words.
pub(super) fn check_terminal(terminal: bool, detach: bool, socket: bool) -> Result<()> {
    let text = if terminal && detach && !socket {
        "cannot allocate tty if runc will detach without setting console socket"
    } else if socket && !(terminal && detach) {
        "cannot use console socket if runc will not detach or allocate tty"
    } else {
        return Ok(());
    };
    Err(Error::new(Kind::Other, text))
}

/// The job of a call.
pub(super) fn job<'a>(
    global: &Global,
    create: &'a cli::Create,
    root: &'a Root,
    bundle: &'a Bundle,
    gate: bool,
    listen_fds: u32,
) -> Job<'a> {
    Job {
        id: &create.id,
        root,
        bundle: &bundle.path,
        loaded: &bundle.loaded,
        gate,
        foreground: false,
        driver: driver(global),
        rootless: rootless(global),
        console_socket: create.console_socket.as_deref(),
        pidfd_socket: create.pidfd_socket.as_deref(),
        pid_file: create.pid_file.as_deref(),
        no_pivot: create.no_pivot,
        no_new_keyring: create.no_new_keyring,
        preserve_fds: create.preserve_fds + listen_fds,
        listen_fds,
        notify: notify::asked(),
        network: bundle.network,
    }
}

/// `create`: everything but the payload's own start.
///
/// # Errors
/// See `launch::launch`.
pub(super) fn run(global: &Global, create: &cli::Create, log: &Log) -> Result<u8> {
    check_id(&create.id)?;
    let listen_fds = preserved(create)?;
    let view = protect(log)?;
    let create = absolute(create)?;
    let bundle = bundle(create.bundle.as_deref(), create.config.as_deref(), Purpose::Create, log)?;
    let terminal = bundle.loaded.spec.process().as_ref().and_then(|p| p.terminal()).unwrap_or_default();
    check_terminal(terminal, true, create.console_socket.is_some())?;
    let root = Root::find(global.root.as_deref())?;
    let job = job(global, &create, &root, &bundle, true, listen_fds);
    launch::launch(&job, view, log)?;
    Ok(0)
}

/// Begins to keep the container from our own binary, while there is one thread, and before anything that a second start,
/// of a sealed copy, would find changed: the working directory, blocked signals.
pub(super) fn protect(log: &Log) -> Result<View> {
    let _span = log.span("prepare the seal");
    let told = |errno| match Error::from(errno) {
        error if errno == Errno::ENOEXEC => {
            error.hint("call the program by its own path, not through a dynamic loader")
        }
        error => error,
    };
    Seal::prepare().view().map_err(told).context(|| launch::SEAL)
}

/// Paths of the call, before the bundle becomes the current directory.
pub(super) fn absolute(create: &cli::Create) -> Result<cli::Create> {
    let mut create = create.clone();
    for path in [&mut create.console_socket, &mut create.pidfd_socket, &mut create.pid_file].into_iter().flatten() {
        *path = std::path::absolute(&*path).context(|| "find the current directory")?;
    }
    Ok(create)
}
