//! What `create`, `run`, `restore` and `plan` do before anything is made: find the bundle, check the call, complete the options.

use crate::cgroup;
use crate::cli::{self, Global};
use crate::error::{Context, Error, Result};
use crate::launch::{self, Job, PlanInput, console, notify};
use crate::log::Log;
use crate::plan::cgroup::{Driver, Rootless};
use crate::plan::request::StartOptions;
use crate::spec::{self, Checked, Config};
use crate::state::{Root, check_id};
use crate::sys::exe::{ExeProtection, Movable};
use crate::sys::netns::NetnsThread;
use crate::sys::{Errno, cred, ns, signal};
use oci_spec::runtime::Process;
use std::path::{Path, PathBuf};

/// What a bundle is read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// For `plan` or `restore`: no network namespace is started in advance.
    Look,
    /// For a container, possibly without a process.
    Create,
    /// For a container with a process.
    Run,
}

/// A bundle that was found, read and validated.
#[derive(Debug)]
pub(super) struct Bundle {
    pub(super) config: Checked<Config>,
    /// The thread that creates the network namespace, if the unparsed configuration showed that one is needed.
    netns_thread: Option<&'static NetnsThread>,
}

/// A bundle that was found and read.
#[derive(Debug)]
pub(super) struct Found {
    directory: PathBuf,
    config: PathBuf,
    bytes: Vec<u8>,
}

/// Finds and reads the bundle. Its directory becomes the current one: relative paths in it start there, and hooks expect it.
pub(super) fn find(bundle: Option<&Path>, config: Option<&Path>, log: &Log) -> Result<Found> {
    let _span = log.span("read config.json");
    // --config is relative to the caller's directory
    let config = config.map(std::path::absolute).transpose()?;
    if let Some(bundle) = bundle {
        std::env::set_current_dir(bundle).context(|| format!("chdir to bundle {}", bundle.display()))?;
    }
    let directory = std::env::current_dir().context(|| "find the current directory")?;
    let config = config.unwrap_or_else(|| PathBuf::from("config.json"));
    let bytes = spec::read(&config)?;
    Ok(Found { directory, config, bytes })
}

impl Found {
    /// Parses and validates it. Creating a network namespace takes longest, so a thread starts with it first, if the text seems to
    /// ask for one; a wrong guess only costs time. The thread inherits the current signal mask.
    pub(super) fn validate(self, purpose: Purpose, log: &Log) -> Result<Bundle> {
        let _span = log.span("parse config.json");
        let Self { directory, config, bytes } = self;
        let netns_thread = (purpose != Purpose::Look && spec::looks_for_network(&bytes))
            .then(|| launch::start_netns_thread(log.trace().is_some()))
            .transpose()?;
        let loaded = spec::config(bytes, &config)?;
        loaded.notes.iter().for_each(|note| log.warn(note));
        let config = spec::check(loaded, &directory, purpose == Purpose::Run)?;
        Ok(Bundle { config, netns_thread })
    }
}

impl Bundle {
    /// What its container is planned from.
    pub(super) fn input<'a>(
        &'a self,
        id: &'a str,
        global: &Global,
        root: &Root,
        options: &'a StartOptions,
    ) -> PlanInput<'a> {
        PlanInput {
            id,
            config: &self.config,
            driver: global.cgroup,
            rootless: rootless(global),
            options,
            notify: options.notify_socket.as_ref().map(|_| notify::directory(&root.path().join(id))),
        }
    }
}

/// Everything that a launch needs.
#[derive(Debug)]
pub(super) struct Prepared {
    root: Root,
    bundle: Bundle,
    options: StartOptions,
}

impl Prepared {
    /// Removes the pid file, which callers take as a sign of success.
    pub(super) fn remove_pid_file(&self) {
        if let Some(path) = &self.options.pid_file {
            let _may_be_gone = std::fs::remove_file(path);
        }
    }

    /// The job for the launch.
    pub(super) fn job<'a>(&'a self, id: &'a str, global: &Global) -> Job<'a> {
        let input = self.bundle.input(id, global, &self.root, &self.options);
        Job { input, root: &self.root, netns_thread: self.bundle.netns_thread }
    }
}

/// Prepares `create` or `run`. The order matters: the caller's descriptors are checked before we open anything that could get
/// one of their numbers, and the protection of our executable comes before the bundle (see [`protect`]).
pub(super) fn container(
    global: &Global,
    create: &cli::Create,
    purpose: Purpose,
    log: &Log,
) -> Result<(Prepared, ExeProtection)> {
    check_id(&create.id)?;
    let mut options = create.start.clone();
    options.listen_fds = listen_fds()?;
    launch::check_preserved("LISTEN_FDS", 0..options.listen_fds)?;
    options.preserve_fds = options.listen_fds + launch::preserve(options.preserve_fds, options.listen_fds)?;
    let protection = protect(log)?;
    options.notify_socket = notify::from_environment();
    let prepared = bundle(global, create.bundle.as_deref(), create.config.as_deref(), options, purpose, log)?;
    Ok((prepared, protection))
}

/// Reads the bundle and checks what the options ask for against it.
pub(super) fn bundle(
    global: &Global,
    directory: Option<&Path>,
    config: Option<&Path>,
    mut options: StartOptions,
    purpose: Purpose,
    log: &Log,
) -> Result<Prepared> {
    // before the bundle becomes the current directory
    let StartOptions { console_socket, pidfd_socket, pid_file, .. } = &mut options;
    for path in [console_socket, pidfd_socket, pid_file].into_iter().flatten() {
        *path = std::path::absolute(&*path).context(|| "find the current directory")?;
    }
    // may take long (a pipe), so it must stay interruptible
    let found = find(directory, config, log)?;
    if options.foreground() {
        // before a second thread inherits the mask, and before the clone: the end of a short payload must not be missed
        signal::block_all().context(|| "block signals")?;
    }
    let bundle = found.validate(purpose, log)?;
    let process = bundle.config.spec.process().as_ref();
    check_terminal(process, &options)?;
    if purpose == Purpose::Run && options.foreground() && process.and_then(Process::terminal).unwrap_or_default() {
        drop(console::callers_terminal()?);
    }
    Ok(Prepared { root: Root::find(global.root.as_deref())?, bundle, options })
}

/// Checks that terminal and console socket fit each other. The messages are runc's, with our name.
pub(super) fn check_terminal(process: Option<&Process>, options: &StartOptions) -> Result<()> {
    let terminal = process.and_then(Process::terminal).unwrap_or_default();
    let (detached, socket) = (!options.foreground(), options.console_socket.is_some());
    let name = super::tell::own_name();
    let text = if terminal && detached && !socket {
        format!("cannot allocate tty if {name} will detach without setting console socket")
    } else if socket && !(terminal && detached) {
        format!("cannot use console socket if {name} will not detach or allocate tty")
    } else {
        return Ok(());
    };
    Err(Error::msg(text))
}

/// Prepares the protection of our own executable (CVE-2019-5736). Must run while there is one thread, and before the current
/// directory or the signal mask changes: the fallback executes a sealed copy of us, which must find both as they were.
pub(super) fn protect(log: &Log) -> Result<ExeProtection> {
    let _span = log.span("prepare the protection of our executable");
    let told = |errno| match Error::from(errno) {
        error if errno == Errno::ENOEXEC => {
            error.with_hint("call the program by its own path, not through a dynamic loader")
        }
        error => error,
    };
    Movable::prepare().open_protection().map_err(told).context(|| launch::PROTECTION)
}

/// `--rootless`. With the cgroupfs driver we ask whether we are in a user namespace only when a cgroup write is refused; the
/// systemd driver must know up front which manager to talk to.
pub(super) fn rootless(global: &Global) -> Rootless {
    match (global.rootless, global.cgroup) {
        (Some(true), _) => Rootless::Yes,
        (Some(false), _) => Rootless::No,
        (None, _) if !cred::is_privileged() => Rootless::Yes,
        (None, Driver::Systemd) => {
            if ns::in_user_namespace() && cgroup::user_manager_is_a_users() {
                Rootless::Yes
            } else {
                Rootless::No
            }
        }
        (None, Driver::Cgroupfs | Driver::Disabled) => Rootless::InUserNamespace,
    }
}

/// The caller's `LISTEN_FDS`, if they are for us: `LISTEN_PID` names the process they are for (`sd_listen_fds(3)`); what was
/// meant for our caller is closed by now.
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
