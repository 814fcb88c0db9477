//! `start`: opens the gate of a created container.

use crate::cli::Global;
use crate::error::{Error, Kind, Result};
use crate::launch::notify::{self, Relay};
use crate::launch::patience::Told;
use crate::launch::{self, exec_fifo, hooks};
use crate::log::Log;
use crate::state::{Root, Status};
use std::time::{Duration, Instant};

/// The container and its status, once the call that creates it is done: callers who poll `state` until it knows the container, and
/// then start it, do not look at the status. Ends when that call ends, even if it fails, or after ten seconds: a hook of the
/// container that calls `start` would wait for itself.
fn wait_until_created(root: &Root, id: &str, log: &Log) -> Result<(super::Container, Status)> {
    const PAUSE: Duration = Duration::from_millis(5);
    const LIMIT: Duration = Duration::from_secs(10);
    let end = Instant::now() + LIMIT;
    let (mut logged, mut read_again) = (false, false);
    loop {
        let container: super::Container = root.open(id)?;
        let status = super::status(&container)?;
        if status != Status::Creating {
            // a record without a process was read before the creator completed it, or the creator has failed
            if container.record.init_process_pid != 0 || std::mem::replace(&mut read_again, true) {
                return Ok((container, status));
            }
            continue;
        }
        if Instant::now() >= end {
            return Ok((container, status));
        }
        if !std::mem::replace(&mut logged, true) {
            log.debug(|| format!("wait until {id} is created"));
        }
        std::thread::sleep(PAUSE);
    }
}

/// Starts a created container and waits until its payload runs.
///
/// # Errors
/// It is not in the state created; a `startContainer` hook or the execution failed; a `poststart` hook failed, which
/// ends the container.
pub(super) fn run(global: &Global, id: &str, log: &Log) -> Result<u8> {
    let root = Root::find(global.root.as_deref())?;
    let (container, status) = wait_until_created(&root, id, log)?;
    match status {
        Status::Created => {}
        Status::Stopped => return Err(stopped()),
        Status::Paused => return Err(Error::msg("container paused")),
        Status::Running => return Err(Error::msg("cannot start an already running container")),
        Status::Creating => return Err(Error::msg("cannot start a container that is being created")),
    }
    let loaded = super::configuration(&container)?;
    if loaded.spec.process().is_none() {
        return Err(Error::new(Kind::Spec, "process property must not be empty"));
    }
    let state = container.dir.path();
    let relay = notify::from_environment()
        .filter(|_| notify::directory(state).exists())
        .map(|to| Relay::bind(state, to))
        .transpose()?;
    let record = &container.record;
    let init = container.hold()?.ok_or_else(stopped)?;
    let told = Told { log, dir: None, record };
    exec_fifo::open(&container.dir, &loaded.spec, told)?;
    exec_fifo::executed(record, &init)?;
    let document = launch::document(record, "running", record.init_process_pid);
    if let Err(error) = hooks::poststart(&record.poststart, &document, told) {
        // runtime-spec 1.3: the container must be stopped
        if let Some(held) = container.hold()? {
            let _ = held.signal(libc::SIGKILL);
        }
        return Err(error);
    }
    if let Some(relay) = relay {
        relay.wait(init.pid.as_raw(), init.fd(), Some(told))?;
    }
    Ok(0)
}

fn stopped() -> Error {
    Error::new(Kind::NotRunning, "cannot start a container that has stopped")
}
