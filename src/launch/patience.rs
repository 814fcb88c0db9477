//! Waits that may take as long as they like: for init in a file system that does not answer, for a hook without a timeout, for
//! a container in a frozen cgroup. Such a wait says what it waits for: to `state` after a second, in the log after ten. SIGTERM
//! and SIGINT end it, so that the caller undoes what it has done; before it they have their usual effect.
//!
//! A wait that is over soon costs one poll(2).

use super::Record;
use crate::error::{Context, Error, Result};
use crate::log::Log;
use crate::state::{Awaited, Dir};
use crate::sys::{proc, signal, wait};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// After this time a wait is a long one.
const SOON: Duration = Duration::from_millis(500);
/// How often a long wait looks at what it waits for; `state` knows it after the first time.
const LOOK: Duration = Duration::from_secs(1);
/// After this time the log says what is waited for.
const LONG: Duration = Duration::from_secs(10);

/// Who is told what is waited for.
#[derive(Debug, Clone, Copy)]
pub struct Told<'a> {
    /// The log.
    pub log: &'a Log,
    /// The directory of a container that is being created, for `state`.
    pub dir: Option<&'a Dir>,
    /// The container, whose cgroup may be frozen.
    pub record: &'a Record,
}

/// What happened to each descriptor, or zeros if `limit` was over first. `awaited` says what is waited for, and by which
/// process; it is asked during a long wait only.
///
/// # Errors
/// The kernel's answer; SIGTERM or SIGINT came during a long wait.
pub fn until(
    fds: [(Option<BorrowedFd<'_>>, i16); 2],
    limit: Option<Duration>,
    told: Told<'_>,
    awaited: &dyn Fn() -> (Awaited, i32),
) -> Result<[i16; 2]> {
    let begin = Instant::now();
    let left = |most: Duration| limit.map_or(most, |limit| limit.saturating_sub(begin.elapsed()).min(most));
    let what = || "poll";
    let ready = wait::events(fds, wait::milliseconds(left(SOON))).context(what)?;
    if ready != [0, 0] || left(SOON).is_zero() {
        return Ok(ready);
    }
    let ending = signal::Ending::watch().context(|| "signalfd")?;
    let mut shown = Shown { dir: told.dir, awaited: None };
    let mut logged = None;
    loop {
        let set = [fds[0], fds[1], (Some(ending.as_fd()), libc::POLLIN)];
        let [first, second, ended] = wait::events(set, wait::milliseconds(left(LOOK))).context(what)?;
        if first != 0 || second != 0 || left(LOOK).is_zero() {
            return Ok([first, second]);
        }
        let (awaited, pid) = awaited();
        if ended != 0
            && let Some(name) = ending.caught().context(|| "read a signalfd")?
        {
            let error = Error::msg(format!("{name} while waiting for {}", sentence(&awaited, pid, told.record)));
            return Err(error.fact("phase", awaited.phase).fact("step", awaited.step));
        }
        if begin.elapsed() >= LONG && logged.as_ref() != Some(&awaited) {
            let seconds = begin.elapsed().as_secs();
            told.log.warn(&format!("{seconds} s of waiting for {}", sentence(&awaited, pid, told.record)));
            logged = Some(awaited.clone());
        }
        shown.update(awaited);
    }
}

/// What is waited for, what the process is doing that is waited for, and whether it is frozen.
fn sentence(awaited: &Awaited, pid: i32, record: &Record) -> String {
    let doing = proc::doing(pid);
    let frozen = match record.cgroup.frozen() {
        Ok(true) => "its cgroup is frozen",
        Ok(false) => "its cgroup is not frozen",
        Err(_) => "nobody knows whether its cgroup is frozen",
    };
    format!("{}: {}: process {pid} {doing}, {frozen}", awaited.phase, awaited.step)
}

/// What `state` shows of a wait, for as long as the wait lasts.
struct Shown<'a> {
    dir: Option<&'a Dir>,
    awaited: Option<Awaited>,
}

impl Shown<'_> {
    fn update(&mut self, awaited: Awaited) {
        if let Some(dir) = self.dir
            && self.awaited.as_ref() != Some(&awaited)
        {
            // for whoever is curious: a full disk must not fail a start that only waits
            let _not_shown = dir.show_awaited(&awaited);
            self.awaited = Some(awaited);
        }
    }
}

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if let (Some(dir), Some(_)) = (self.dir, &self.awaited) {
            dir.hide_awaited();
        }
    }
}
