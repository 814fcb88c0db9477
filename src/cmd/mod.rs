//! One module for each verb. This file dispatches a call to its verb and holds what several verbs share.

mod create;
mod criu;
mod delete;
mod events;
mod exec;
mod features;
mod kill;
mod list;
mod mounts;
mod pause;
mod plan;
mod prepare;
mod ps;
mod run;
mod spec;
mod start;
mod state;
mod tell;
mod update;

use crate::cgroup::Cgroup;
use crate::cli::{Call, Command, Global};
use crate::error::{Context, Error, Kind, Result};
use crate::log::Log;
use crate::spec::Loaded;
use crate::state::{Root, Status};
use crate::sys::regex::Regex;
use crate::sys::{Errno, signal};
use oci_spec::runtime::Spec;

/// A container and its record, as the verbs see it.
pub(crate) type Container = crate::state::Container<Cgroup>;

/// Runs the verb. Returns the exit status: 0, or the payload's own.
///
/// # Errors
/// The verb failed. The caller reports it, once.
pub fn run(call: Call, log: &Log) -> Result<u8> {
    let Call { name, global, command } = call;
    undisturbed(&command)?;
    match command {
        Command::Help(topic) => tell::help(&name, topic),
        Command::Version => tell::version(&name),
        Command::Completion { shell } => tell::completion(&name, &shell),
        Command::Create(create) => {
            create::run(&global, &create, log).map_err(|error| failed("create", &name, false, error))
        }
        Command::Start { id } => start::run(&global, &id, log).map_err(not_launched),
        Command::Run(run) => {
            run::run(&global, &run, log).map_err(|error| failed("run", &name, run.create.start.foreground(), error))
        }
        Command::Exec(exec) => {
            exec::run(&global, &exec, log).map_err(|error| error.context("exec failed").with_kind(Kind::Launch))
        }
        Command::State { id } => state::run(&global, &id),
        Command::Kill { id, signal, all, regex } => {
            each(&global, &id, regex, log, |id| kill::run(&global, id, signal.as_deref(), all || regex, log))
        }
        Command::Delete { id, force, regex } => {
            each(&global, &id, regex, log, |id| delete::run(&global, id, force, log))
        }
        Command::List { format, quiet } => list::run(&global, format, quiet, log),
        Command::Mounts { change, id, file } => mounts::run(&global, change, &id, &file, log),
        Command::Ps { id, format, args } => ps::run(&global, &id, format, &args),
        Command::Pause { id } => pause::pause(&global, &id),
        Command::Resume { id } => pause::resume(&global, &id),
        Command::Events { id, interval, stats } => events::run(&global, &id, interval, stats, log),
        Command::Update(update) => update::run(&global, &update, log),
        Command::Spec { bundle, rootless } => spec::run(bundle.as_deref(), rootless),
        Command::Features => features::run(),
        Command::Checkpoint(checkpoint) => criu::checkpoint(&global, &checkpoint, log),
        Command::Restore(restore) => criu::restore(&global, &restore, log).map_err(not_launched),
        Command::Plan { bundle, id } => plan::run(&global, &bundle, id.as_deref().unwrap_or("ID"), log),
    }
}

/// Acts on a container, or with `regex` on each whose id matches the expression. Of several, one that fails does not keep the
/// others from being acted on.
fn each(global: &Global, id: &str, regex: bool, log: &Log, act: impl Fn(&str) -> Result<u8>) -> Result<u8> {
    if !regex {
        return act(id);
    }
    let pattern = Regex::new(id).map_err(|why| Error::msg(format!("invalid regular expression {id:?}: {why}")))?;
    let mut failed = Vec::new();
    for id in Root::find(global.root.as_deref())?.ids()?.into_iter().filter(|id| pattern.matches(id)) {
        match act(&id) {
            Ok(_) => {}
            // it was deleted meanwhile
            Err(error) if error.kind() == Kind::NotFound => {}
            Err(error) => {
                log.warn(&format!("{id}: {error}"));
                failed.push(id);
            }
        }
    }
    if failed.is_empty() { Ok(0) } else { Err(Error::msg(format!("failed for: {}", failed.join(", ")))) }
}

/// Blocks SIGXFSZ in verbs with effects, so that a limit on file sizes is an error, after which nothing is left, and does not kill
/// us half way; in `start` also SIGPIPE, for the exec fifo. `run` in the foreground blocks all signals anyway.
fn undisturbed(command: &Command) -> Result<()> {
    let block = |number| signal::block(number).context(|| "block a signal");
    match command {
        Command::Run(run) if !run.create.start.detach => Ok(()),
        Command::Create(_) | Command::Run(_) | Command::Exec(_) | Command::Update(_) => block(libc::SIGXFSZ),
        Command::Delete { .. } | Command::Checkpoint(_) | Command::Restore(_) => block(libc::SIGXFSZ),
        Command::Start { .. } => block(libc::SIGXFSZ).and_then(|()| block(libc::SIGPIPE)),
        Command::Help(_)
        | Command::Version
        | Command::Completion { .. }
        | Command::State { .. }
        | Command::Kill { .. }
        | Command::List { .. }
        | Command::Ps { .. }
        | Command::Mounts { .. }
        | Command::Pause { .. }
        | Command::Resume { .. }
        | Command::Events { .. }
        | Command::Spec { .. }
        | Command::Features
        | Command::Plan { .. } => Ok(()),
    }
}

/// Adds the verb and the runtime's name to the error, as runc does. In the foreground the exit status is 255.
fn failed(verb: &str, name: &str, foreground: bool, error: Error) -> Error {
    let error = if foreground { error } else { not_launched(error) };
    error.context(format!("{} {verb} failed", tell::shown_name(name)))
}

/// Removes the exit status 255 from an error.
fn not_launched(error: Error) -> Error {
    if error.kind() == Kind::Launch { error.with_kind(Kind::Other) } else { error }
}

/// Opens the container of an id.
fn open(global: &Global, id: &str) -> Result<Container> {
    Root::find(global.root.as_deref())?.open(id)
}

/// Its configuration, as it was when the container was created.
fn configuration(container: &Container) -> Result<Loaded<Spec>> {
    crate::spec::config(container.config.clone(), &container.dir.record())
}

/// The container's current status.
pub(crate) fn status(container: &Container) -> Result<Status> {
    container.status(|| container.record.cgroup.frozen())
}

/// The error for a container without a process to act on.
fn not_running() -> Error {
    Error::new(Kind::NotRunning, "container not running")
}

/// Writes to standard output, in one write if the reader takes it all. The standard library's handle would split after the last
/// newline.
fn print(text: &(impl AsRef<[u8]> + ?Sized)) -> Result<()> {
    let out = std::io::stdout();
    let mut rest = text.as_ref();
    while !rest.is_empty() {
        match nix::unistd::write(&out, rest) {
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(Error::from(errno).context("write to standard output")),
        }
    }
    Ok(())
}

/// A value as JSON. Only a path that is not UTF-8 can fail.
fn json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::msg(error.to_string()))
}
