//! `events ID`: statistics at an interval and out-of-memory events, one JSON object a line, until the container ends or the
//! reader closes the pipe.

use crate::cgroup::{Oom, Stats};
use crate::cli::Global;
use crate::error::{Context, Error, Kind, Result};
use crate::log::Log;
use crate::state::{Held, Status};
use crate::sys::wait::{Until, first};
use serde::Serialize;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// One line.
#[derive(Serialize)]
struct Event<'a> {
    r#type: &'static str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Stats>,
}

/// Prints them; with `once` only the current statistics.
pub(super) fn run(global: &Global, id: &str, interval: Duration, once: bool, log: &Log) -> Result<u8> {
    let container = super::open(global, id)?;
    if interval.is_zero() {
        return Err(Error::msg("duration interval must be greater than 0"));
    }
    let stopped = || Error::new(Kind::NotRunning, format!("container with id {id} is not running"));
    if super::status(&container)? == Status::Stopped {
        return Err(stopped());
    }
    if once {
        show("stats", id, Some(container.record.cgroup.stats()?))?;
        return Ok(0);
    }
    let init = container.hold()?.ok_or_else(stopped)?;
    let mut watch = container.record.cgroup.watch_oom();
    if let Err(error) = &watch {
        log.warn(&format!("out-of-memory events are not available: {error}"));
    }
    let mut next = Instant::now() + interval;
    loop {
        let seen = match &mut watch {
            Ok(watch) => watch.wait(next.saturating_duration_since(Instant::now()))?,
            Err(_) => wait(&init, next)?,
        };
        match seen {
            Oom::Killed => show("oom", id, None)?,
            Oom::Gone => return Ok(0),
            Oom::Nothing => {
                match container.record.cgroup.stats() {
                    Ok(stats) => show("stats", id, Some(stats))?,
                    // it ended while its counters were read
                    Err(_) if !container.record.cgroup.exists() => return Ok(0),
                    Err(error) => return Err(error),
                }
                // a shared cgroup outlives the container, and cgroup v1 does not report its end
                if init.wait(Duration::ZERO).context(|| "look for the end of init")? {
                    return Ok(0);
                }
                next += interval;
            }
        }
    }
}

/// Without a memory controller to watch: waits for the end of the container or of the reader.
fn wait(init: &Held, until: Instant) -> Result<Oom> {
    let out = std::io::stdout();
    let what = [(init.as_fd(), Until::Readable), (out.as_fd(), Until::Unread)];
    let woke = first(what, until.saturating_duration_since(Instant::now())).context(|| "wait for events")?;
    Ok(if woke.is_some() { Oom::Gone } else { Oom::Nothing })
}

fn show(r#type: &'static str, id: &str, data: Option<Stats>) -> Result<()> {
    super::print(&(super::json(&Event { r#type, id, data })? + "\n"))
}
