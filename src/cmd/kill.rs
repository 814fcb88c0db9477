//! `kill ID [SIGNAL]`: sends a signal to the first process, through a pidfd.

use super::Container;
use crate::cli::Global;
use crate::error::{Error, Result};
use crate::log::Log;
use crate::sys::Errno;
use nix::sys::signal::Signal;
use std::str::FromStr;

/// Sends it. `--all` is obsolete: it only makes a container without a process no failure.
pub(super) fn run(global: &Global, id: &str, signal: Option<&str>, all: bool, log: &Log) -> Result<u8> {
    let container = super::open(global, id)?;
    let name = signal.unwrap_or("SIGTERM");
    let signal = parse(name).ok_or_else(|| Error::msg(format!("unknown signal {name:?}")))?;
    match send(&container, signal, log) {
        Err(error) if all && error.kind() == crate::error::Kind::NotRunning => Ok(0),
        other => other.map(|()| 0),
    }
}

/// Signals the container. SIGKILL kills all its processes: in a pid namespace of its own the kernel does that when the first
/// process dies; without one the whole cgroup is killed, even if the first process has ended already.
pub(super) fn send(container: &Container, signal: i32, log: &Log) -> Result<()> {
    let cgroup = &container.record.cgroup;
    if signal == libc::SIGKILL && !container.record.private_pid {
        match cgroup.kill_all() {
            Ok(()) if cgroup.cgroup_paths.is_empty() => {}
            Ok(()) => return Ok(()),
            // without permission for the cgroup the first process can still be killed
            Err(error) if container.record.rootless => log.warn(&format!("kill all processes: {error}")),
            Err(error) => return Err(error),
        }
    }
    let init = container.hold()?.ok_or_else(super::not_running)?;
    match init.signal(signal) {
        Ok(()) => {}
        // it has ended since
        Err(Errno::ESRCH) => return Err(super::not_running()),
        Err(errno) => return Err(Error::from(errno).context("unable to signal init")),
    }
    if signal == libc::SIGKILL
        && let Err(error) = cgroup.let_die()
    {
        log.warn(&error.to_string());
    }
    Ok(())
}

/// A signal by name (with or without `SIG`, in any case) or number. Numbers are checked by the kernel only.
fn parse(name: &str) -> Option<i32> {
    if let Ok(number) = name.parse() {
        return Some(number);
    }
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
    match bare {
        "IOT" => Some(libc::SIGABRT),
        "CLD" => Some(libc::SIGCHLD),
        "POLL" => Some(libc::SIGIO),
        _ => realtime(bare).or_else(|| Signal::from_str(&format!("SIG{bare}")).ok().map(|signal| signal as i32)),
    }
}

/// `RTMIN+3`, `RTMAX-2`, as in the stop signals of images with systemd. Numbers are glibc's (`RTMIN` is 34), as in payloads and
/// runc, whatever C library we are built with.
fn realtime(name: &str) -> Option<i32> {
    const MIN: i32 = 34;
    const MAX: i32 = 64;
    let (base, offset) = match name.split_at_checked(5)? {
        ("RTMIN", offset) => (MIN, offset),
        ("RTMAX", offset) => (MAX, offset),
        _ => return None,
    };
    let offset = if offset.is_empty() { 0 } else { offset.parse::<i32>().ok()? };
    Some(base + offset).filter(|signal| (MIN..=MAX).contains(signal))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn names_and_numbers() {
        let rows = [
            ("9", Some(9)),
            ("0", Some(0)),
            ("99", Some(99)),
            ("-9", Some(-9)),
            ("KILL", Some(9)),
            ("SIGKILL", Some(9)),
            ("sigkill", Some(9)),
            ("Term", Some(15)),
            ("usr1", Some(10)),
            ("CLD", Some(17)),
            ("IOT", Some(6)),
            ("POLL", Some(29)),
            ("WINCH", Some(28)),
            ("SIGSTKFLT", Some(16)),
            ("RTMIN", Some(34)),
            ("SIGRTMIN+3", Some(37)),
            ("rtmax-1", Some(63)),
            ("RTMAX+1", None),
            ("RTMIN+x", None),
            ("BOGUS", None),
            ("SIGSIGKILL", None),
            ("", None),
            ("SIG", None),
        ];
        for (name, expected) in rows {
            assert_eq!(parse(name), expected, "{name}");
        }
    }
}
