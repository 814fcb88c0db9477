//! `run`: create and start in one, without a gate; in the foreground until the payload ends, or detached.

use super::create::{Purpose, absolute, check_terminal, find, job, preserved, protect};
use crate::cli::{self, Global};
use crate::error::{Context, Result};
use crate::launch::{self, Launched, console, hooks};
use crate::log::Log;
use crate::state::{Root, check_id};
use crate::sys::{cred, signal};
use std::os::fd::AsFd;

/// Runs a container; answers the payload's exit status, or 0 when detached.
///
/// # Errors
/// See `launch::launch`; a `poststart` hook that failed.
pub(super) fn run(global: &Global, run: &cli::Run, log: &Log) -> Result<u8> {
    check_id(&run.create.id)?;
    let listen_fds = preserved(&run.create)?;
    let view = protect(log)?;
    let create = absolute(&run.create)?;
    // which may take long (a pipe), and is to be interruptible
    let found = find(create.bundle.as_deref(), create.config.as_deref(), log)?;
    // before there is a second thread, which inherits it, and before the clone: a payload that ends at once must not end
    // unheard
    if !run.detach {
        signal::block_all().context(|| "block signals")?;
    }
    let bundle = found.judge(Purpose::Run, log)?;
    let terminal = bundle.loaded.spec.process().as_ref().and_then(|p| p.terminal()).unwrap_or_default();
    check_terminal(terminal, run.detach, create.console_socket.is_some())?;
    let root = Root::find(global.root.as_deref())?;
    let mut job = job(global, &create, &root, &bundle, false, listen_fds);
    job.foreground = !run.detach;
    if !(run.detach || run.no_subreaper) {
        cred::become_subreaper().context(|| "become a subreaper")?;
    }
    let mut launched = launch::launch(&job, view, log)?;
    let relay = launched.relay.take();
    let pid = launched.child.pid;
    let ready = poststart(&launched, log).and_then(|()| match &relay {
        Some(relay) if run.detach => relay.wait(pid, launched.child.pidfd.as_fd()),
        Some(_) | None => Ok(()),
    });
    if let Err(error) = ready {
        // a caller takes a pid file for success
        if let Some(path) = &create.pid_file {
            let _ = std::fs::remove_file(path);
        }
        end(&launched, log);
        return Err(error);
    }
    if run.detach {
        return Ok(0);
    }
    if let Some(relay) = relay {
        let pidfd = launched.child.pidfd.try_clone()?;
        // beside the foreground; it ends with the payload, and a caller that does not listen is no failure of ours
        std::thread::spawn(move || relay.wait(pid, pidfd.as_fd()));
    }
    let status = attend(&launched, run.keep, log);
    // our end closes all at once
    std::mem::forget(launched);
    status
}

/// The foreground: answers the payload's exit status, and takes away what is left of it.
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
    hooks::poststart(&record.poststart, &document, log)
}

/// Ends a container whose `poststart` hook failed, or whose caller cannot be told that it is ready.
fn end(launched: &Launched, log: &Log) {
    let _ = signal::send(launched.child.pidfd.as_fd(), libc::SIGKILL);
    let _ = launch::reap(&launched.child);
    remove(launched, log);
}

/// Takes away what is left of an ended container. The payload has ended: what goes wrong here is told, not returned.
fn remove(launched: &Launched, log: &Log) {
    let _span = log.span("remove");
    if let Err(error) = super::delete::destroy(&launched.container, log) {
        log.warn(&error.to_string());
    }
}
