//! `delete ID`: removes what a container holds: its processes, its cgroup, its directory; then its poststop hooks run.
//!
//! Who deletes holds the lock of the record, so of many that delete one container each knows that nobody else does, and
//! that no newer container of the same id has taken its place. A call that still makes the container is told by a mark
//! on the record, and takes back what it makes.

use super::{Container, kill};
use crate::cli::Global;
use crate::error::{Context, Error, Kind, Result};
use crate::launch::patience::Told;
use crate::launch::{self, hooks};
use crate::log::Log;
use crate::state::{Dir, Grip, Root, Status, Taken};
use crate::sys::proc;
use crate::sys::wait::Backoff;
use nix::unistd::Pid;
use std::time::Duration;

mod broken;

/// How long the first process may take to die of SIGKILL.
const MOST: Duration = Duration::from_secs(5);
/// How long a call that creates the container may still take before it is told to give up. It is usually done in some
/// milliseconds; then it has succeeded for its caller, and the container is deleted like any other.
const COMPLETION: Duration = Duration::from_secs(1);
/// How long a call that makes the container may take to give it up. It may stand still for ever: in a hook, or stopped.
/// It takes back what it makes also after that, as soon as it goes on.
const PATIENCE: Duration = Duration::from_secs(3);

/// Deletes a container that has stopped or was never started; with `force` any, and none at all is no failure.
pub(super) fn run(global: &Global, id: &str, force: bool, log: &Log) -> Result<u8> {
    let root = Root::find(global.root.as_deref())?;
    let (dir, grip) = match root.take(id) {
        Ok(Taken::Recorded(dir, grip)) => (dir, grip),
        Ok(Taken::Bare(dir)) => {
            dir.remove_rest()?;
            return if force { Ok(0) } else { Err(root.absent(id)) };
        }
        Err(error) if force && error.kind() == Kind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let container = match read(&dir, &grip) {
        Ok(container) => container,
        Err(error) if force && error.kind() == Kind::Broken => {
            return broken::delete(global, id, &dir, &error, log).map(|()| 0);
        }
        Err(error) => return Err(error),
    };
    match &container {
        Some(container) => check(id, super::status(container)?, force)?,
        // whoever makes it has not written a word yet
        None if !force => return Err(root.absent(id)),
        None => {}
    }
    match ended(container, &dir, &grip, log)? {
        Some(container) => demolish(&container, Some(&root).filter(|_| force), log)?,
        None => broken::delete(global, id, &dir, &Error::msg("the container's record is empty"), log)?,
    }
    Ok(0)
}

/// What is recorded. A call that has made the record a moment ago has not locked it yet: one that is neither locked nor written
/// is looked at again before it is taken for broken.
fn read(dir: &Dir, grip: &Grip) -> Result<Option<Container>> {
    const MOMENT: Duration = Duration::from_millis(200);
    const PAUSE: Duration = Duration::from_millis(2);
    let mut backoff = Backoff::new(MOMENT, PAUSE, PAUSE);
    loop {
        match Container::read(dir, grip)? {
            None if !grip.claimed()? && backoff.sleep() => {}
            found => return Ok(found),
        }
    }
}

/// Whether a container in this status may be deleted.
fn check(id: &str, status: Status, force: bool) -> Result<()> {
    match status {
        Status::Stopped | Status::Created => Ok(()),
        Status::Creating | Status::Running | Status::Paused if force => Ok(()),
        Status::Creating | Status::Running | Status::Paused => {
            Err(Error::msg(format!("cannot delete container {id} that is not stopped: {status}"))
                .with_hint("kill it first, or use --force"))
        }
    }
}

/// Ends the container and the call that makes it, if there is one. Answers what is recorded by then.
fn ended(mut container: Option<Container>, dir: &Dir, grip: &Grip, log: &Log) -> Result<Option<Container>> {
    let was_made = grip.claimed()?;
    let making = was_made && !completed(grip)?;
    if making {
        grip.mark()?;
    }
    let mut backoff = Backoff::new(PATIENCE, Duration::from_micros(200), Duration::from_millis(20));
    loop {
        // asked first: what was recorded before the call ended is read behind it
        let goes_on = making && grip.claimed()? && !backoff.is_over();
        if was_made {
            container = Container::read(dir, grip)?.or(container);
        }
        if let Some(container) = &container {
            finish(container, log)?;
        }
        if !goes_on {
            return Ok(container);
        }
        backoff.sleep();
    }
}

/// Whether the call that creates the container comes to its end by itself.
fn completed(grip: &Grip) -> Result<bool> {
    let mut backoff = Backoff::new(COMPLETION, Duration::from_micros(200), Duration::from_millis(5));
    while grip.claimed()? {
        if !backoff.sleep() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Kills the container and waits for the end of its first process.
fn finish(container: &Container, log: &Log) -> Result<()> {
    // held before the signal: afterwards its number may be somebody else's
    let init = container.hold()?;
    match kill::send(container, libc::SIGKILL, log) {
        Err(error) if error.kind() == Kind::NotRunning => {}
        other => other?,
    }
    let Some(init) = init else { return Ok(()) };
    let ended = || init.wait(MOST).context(|| "wait for the end of init");
    if ended()? {
        return Ok(());
    }
    // somebody from outside its pid namespace holds a process in it: a restore that was killed leaves its CRIU
    container.record.cgroup.kill_all()?;
    if ended()? { Ok(()) } else { Err(Error::msg("container init still running")) }
}

/// Removes a container whose processes have ended, unless somebody else does so.
///
/// # Errors
/// As [`demolish`].
pub(crate) fn destroy(container: &Container, log: &Log) -> Result<()> {
    match &container.grip {
        Some(grip) if !grip.lock()? => Ok(()),
        Some(_) | None => demolish(container, None, log),
    }
}

/// Removes a container that was saved, unless another one has taken its place.
///
/// # Errors
/// As [`demolish`].
pub(super) fn saved(root: &Root, container: &Container, log: &Log) -> Result<()> {
    let (dir, grip) = match root.take(&container.record.id) {
        Ok(Taken::Recorded(dir, grip)) => (dir, grip),
        Ok(Taken::Bare(_)) => return Ok(()),
        Err(error) if error.kind() == Kind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    match Container::read(&dir, &grip)? {
        Some(found) if found.record == container.record => demolish(&found, None, log),
        Some(_) | None => Ok(()),
    }
}

/// Removes everything. The directory goes after the cgroup and the mount: if this call is killed in between, or one of them
/// cannot be removed, the record is still there for the next one. `force` names the root whose other containers keep
/// their processes.
fn demolish(container: &Container, force: Option<&Root>, log: &Log) -> Result<()> {
    let record = &container.record;
    if !record.private_pid {
        // nobody else ends what the first process left behind
        if let Err(error) = record.cgroup.kill_all() {
            log.warn(&format!("kill what is left of the container: {error}"));
        }
    } else if force.is_some() || record.init_process_pid == 0 {
        kill_rest(container, force)?;
    }
    record.cgroup.remove().context(|| "unable to remove container's cgroup")?;
    if let Some(id) = record.root_mount {
        launch::root::detach(&record.rootfs, id).context(|| "unable to remove container's mounts")?;
    }
    container.dir.remove().context(|| "unable to remove container state dir")?;
    let told = Told { log, dir: None, record };
    hooks::poststop(&record.poststop, &launch::document(record, "stopped", 0), told);
    Ok(())
}

/// Kills what is in the cgroup of a container whose first process has ended, or was not recorded: processes that were
/// put there from outside of its pid namespace; an init whose maker was killed. Not those of another container in the
/// same cgroup.
fn kill_rest(container: &Container, root: Option<&Root>) -> Result<()> {
    let record = &container.record;
    let pids = record.cgroup.pids().context(|| "unable to kill the container's processes")?;
    if pids.is_empty() {
        return Ok(());
    }
    // what is recorded before there is a process may be a cgroup that others are in, for which the call was refused. An
    // init that is not recorded has not executed a program
    if record.init_process_pid == 0 {
        for pid in pids {
            let stat = proc::stat(Pid::from_raw(pid)).context(|| format!("read /proc/{pid}/stat"))?;
            if stat.is_some_and(|stat| stat.executed) {
                return Ok(());
            }
        }
    }
    if let Some(other) = root.map(|root| neighbour(root, container)).transpose()?.flatten() {
        return Err(Error::msg(format!("the container's cgroup is also that of container {other}, which runs"))
            .with_hint(format!("delete {other} first")));
    }
    record.cgroup.kill_all().context(|| "unable to kill the container's processes")
}

/// Another container of this root that runs in the same cgroup.
fn neighbour(root: &Root, container: &Container) -> Result<Option<String>> {
    for id in root.ids()?.into_iter().filter(|id| *id != container.record.id) {
        let other: Container = match root.open(&id) {
            Ok(other) => other,
            Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Broken | Kind::Foreign) => continue,
            Err(error) => return Err(error),
        };
        let paths = &container.record.cgroup.cgroup_paths;
        let shares = other.record.cgroup.cgroup_paths.values().any(|path| paths.values().any(|own| own == path));
        if shares && other.init()?.is_some() {
            return Ok(Some(id));
        }
    }
    Ok(None)
}
