//! `run`: create and start in one call; in the foreground until the payload ends, or detached.

use super::prepare::{self, Purpose};
use crate::cli::{self, Global};
use crate::error::{Context, Result};
use crate::launch::patience::Told;
use crate::launch::{self, Launched, console, hooks};
use crate::log::Log;
use crate::sys::{cred, signal};
use std::os::fd::AsFd;

/// Runs a container; answers the payload's exit status, or 0 when detached.
///
/// # Errors
/// See `launch::launch`; a `poststart` hook that failed.
pub(super) fn run(global: &Global, run: &cli::Run, log: &Log) -> Result<u8> {
    let (prepared, protection) = prepare::container(global, &run.create, Purpose::Run, log)?;
    let foreground = run.create.start.foreground();
    if foreground && !run.no_subreaper {
        cred::become_subreaper().context(|| "become a subreaper")?;
    }
    let mut launched = launch::launch(&prepared.job(&run.create.id, global), protection, log)?;
    let relay = launched.relay.take();
    let pid = launched.child.pid;
    let ready = poststart(&launched, log).and_then(|()| match &relay {
        Some(relay) if !foreground => {
            let told = Told { log, dir: None, record: &launched.container.record };
            relay.wait(pid, launched.child.pidfd.as_fd(), Some(told))
        }
        Some(_) | None => Ok(()),
    });
    if let Err(error) = ready {
        // callers take the pid file as a sign of success
        prepared.remove_pid_file();
        end(&launched, log);
        return Err(error);
    }
    if !foreground {
        return Ok(0);
    }
    if let Some(relay) = relay {
        let pidfd = launched.child.pidfd.try_clone()?;
        // in the background until the payload ends; errors are ignored, the caller may not listen
        std::thread::spawn(move || relay.wait(pid, pidfd.as_fd(), None));
    }
    attend(&launched, run.keep, log)
}

/// The foreground: waits for the end of the payload, removes the container and returns the exit status.
pub(super) fn attend(launched: &Launched, keep: bool, log: &Log) -> Result<u8> {
    let waiting = log.span("payload runs");
    let lost = launch::lost(&launched.container.record.cgroup);
    let ended = match &launched.terminal {
        Some(master) => console::relay(&launched.child, master, lost),
        None => console::wait(&launched.child, lost),
    };
    drop(waiting);
    if !keep || ended.is_err() {
        remove(launched, log);
    }
    Ok(u8::try_from(ended?.status()).unwrap_or(u8::MAX))
}

fn poststart(launched: &Launched, log: &Log) -> Result<()> {
    let record = &launched.container.record;
    let document = launch::document(record, "running", record.init_process_pid);
    hooks::poststart(&record.poststart, &document, Told { log, dir: None, record })
}

/// Ends a container whose `poststart` hook failed, or whose caller cannot be told that it is ready.
fn end(launched: &Launched, log: &Log) {
    let _ = signal::send(launched.child.pidfd.as_fd(), libc::SIGKILL);
    let _ = launch::reap(&launched.child);
    remove(launched, log);
}

/// Removes a container that has ended. A failure is logged, not returned: the exit status is the payload's.
fn remove(launched: &Launched, log: &Log) {
    let _span = log.span("remove");
    if let Err(error) = super::delete::destroy(&launched.container, log) {
        log.warn(&error.to_string());
    }
}
