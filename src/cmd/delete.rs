//! `delete ID`: removes what a container holds: its cgroup, its directory; then its poststop hooks run.

use super::{Container, kill};
use crate::cli::Global;
use crate::error::{Context, Error, Kind, Result};
use crate::launch::{self, hooks};
use crate::log::Log;
use crate::state::{Root, Status};
use std::time::Duration;

/// How long the first process may take to die of SIGKILL.
const MOST: Duration = Duration::from_secs(5);

/// Deletes a container that has stopped or was never started; with `force` any, and none at all is no failure.
pub(super) fn run(global: &Global, id: &str, force: bool, log: &Log) -> Result<u8> {
    let root = Root::find(global.root.as_deref())?;
    let container: Container = match root.open(id) {
        Ok(container) => container,
        Err(error) if error.kind() == Kind::NotFound => return leftover(&root, id, force, error),
        Err(error) if force => return broken(&root, id, &error, log),
        Err(error) => return Err(error),
    };
    let status = super::status(&container)?;
    match status {
        Status::Stopped => {}
        Status::Created => end(&container, log)?,
        Status::Creating | Status::Running | Status::Paused if force => end(&container, log)?,
        Status::Creating | Status::Running | Status::Paused => {
            return Err(Error::msg(format!("cannot delete container {id} that is not stopped: {status}"))
                .with_hint("kill it first, or use --force"));
        }
    }
    destroy(&container, log)?;
    Ok(0)
}

/// A directory without a record is what a killed `create` leaves before it has made anything else. One whose `create`
/// still runs is only taken away by force.
fn leftover(root: &Root, id: &str, force: bool, absent: Error) -> Result<u8> {
    match root.dir(id) {
        Ok(dir) if force || !dir.claimed() => dir.remove()?,
        Ok(_) | Err(_) => {}
    }
    if force { Ok(0) } else { Err(absent) }
}

/// A record that cannot be read must not make a container undeletable.
fn broken(root: &Root, id: &str, error: &Error, log: &Log) -> Result<u8> {
    let dir = root.dir(id)?;
    log.warn(&format!("{error}; its cgroup and processes, if any, are left as they are"));
    dir.remove()?;
    Ok(0)
}

/// Kills the container and waits for the end of its first process.
fn end(container: &Container, log: &Log) -> Result<()> {
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

/// Removes everything. The directory goes after the cgroup: if this call is killed in between, the record is still
/// there for the next one.
pub(crate) fn destroy(container: &Container, log: &Log) -> Result<()> {
    let record = &container.record;
    if !record.private_pid {
        // nobody else ends what the first process left behind
        if let Err(error) = record.cgroup.kill_all() {
            log.warn(&format!("kill what is left of the container: {error}"));
        }
    }
    record.cgroup.remove().context(|| "unable to remove container's cgroup")?;
    if let Some(id) = record.root_mount {
        launch::root::detach(&record.rootfs, id).context(|| "unable to remove container's mounts")?;
    }
    container.dir.remove().context(|| "unable to remove container state dir")?;
    hooks::poststop(&record.poststop, &launch::document(record, "stopped", 0), log);
    Ok(())
}
