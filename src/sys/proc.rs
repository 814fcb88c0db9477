//! `/proc/PID/stat` and pidfds, which identify a process even if its pid is reused.

use super::file::open_path;
use super::wait::Until;
use super::{Errno, call, owned};
use nix::unistd::Pid;
use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

/// `include/linux/sched.h`: forked, and has not executed a program.
const PF_FORKNOEXEC: u64 = 0x40;
/// Of `include/linux/sched.h`: is being, or was, killed by a signal.
const PF_SIGNALED: u64 = 0x400;
/// The bit of SIGKILL in a set of signals.
const KILL: u64 = 1 << (libc::SIGKILL - 1);

/// Fields of `/proc/PID/stat` (proc_pid_stat(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// Field 3: a letter; `Z` and `X` mean that it has ended.
    pub state: char,
    /// Whether it has executed a program since the clone: field 9 without `PF_FORKNOEXEC`. The kernel clears the flag before execve
    /// closes descriptors.
    pub executed: bool,
    /// Field 22: its start time, in clock ticks since boot. Pid and start time identify a process uniquely.
    pub start: u64,
    /// Whether a signal has killed it, or SIGKILL is about to: `PF_SIGNALED` in field 9, and the set of pending signals, field 31.
    pub killed: bool,
    /// Field 52, of a process that has ended: its status as of wait(2). 0 for readers who may not trace it.
    pub status: Option<i32>,
}

impl Stat {
    /// Whether it still runs, and is not a zombie.
    #[must_use]
    pub fn alive(self) -> bool {
        !matches!(self.state, 'Z' | 'X' | 'x')
    }
}

/// Reads `/proc/PID/stat`; `None` when there is no such process.
///
/// # Errors
/// open(2)'s or read(2)'s, except ENOENT and ESRCH.
pub fn stat(pid: Pid) -> Result<Option<Stat>, Errno> {
    let mut name = [0_u8; 32];
    let mut text = [0_u8; 1024];
    let path = stat_path(pid, &mut name)?;
    let length = match open_path(path, libc::O_RDONLY, 0).and_then(|mut file| file.read(&mut text)) {
        Ok(length) => length,
        Err(error) => {
            return match error.raw_os_error().map(Errno::from_raw) {
                // ENOENT: gone before open; ESRCH: gone between open and read
                Some(Errno::ENOENT | Errno::ESRCH) => Ok(None),
                Some(errno) => Err(errno),
                None => Err(Errno::EIO),
            };
        }
    };
    Ok(parse_stat(text.get(..length).unwrap_or_default()))
}

/// What a process is doing, for people: its state (proc_pid_stat(5)), and where in the kernel it waits if that may be known
/// (`/proc/PID/wchan`).
#[must_use]
pub fn doing(pid: i32) -> String {
    let state = match stat(Pid::from_raw(pid)) {
        Ok(Some(stat)) => stat.state,
        Ok(None) => return "is gone".to_owned(),
        Err(errno) => return format!("cannot be looked at ({errno})"),
    };
    let channel = std::fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default();
    let meaning = match state {
        'R' => "runs",
        'S' => "sleeps",
        'D' => "waits and cannot be interrupted",
        'T' | 't' => "is stopped by a signal or a tracer",
        'Z' | 'X' => "has ended",
        _ => "is in an unknown state",
    };
    match channel.trim() {
        "" | "0" => format!("{meaning} ({state})"),
        channel => format!("{meaning} ({state}, in {channel})"),
    }
}

/// `/proc/PID/stat`, without an allocation.
fn stat_path(pid: Pid, name: &mut [u8]) -> Result<&Path, Errno> {
    let room = name.len();
    let mut rest = &mut *name;
    write!(rest, "/proc/{pid}/stat").map_err(|_| Errno::ENAMETOOLONG)?;
    let used = room - rest.len();
    Ok(Path::new(OsStr::from_bytes(name.get(..used).unwrap_or_default())))
}

/// Field 2 is the program's name in parentheses, which may contain `)` and spaces: fields are counted from the last `)`.
fn parse_stat(text: &[u8]) -> Option<Stat> {
    let behind = text.iter().rposition(|byte| *byte == b')')?;
    // the last field is followed by a newline
    let mut fields = text.get(behind + 2..)?.trim_ascii_end().split(|byte| *byte == b' ');
    let state = char::from(*fields.next()?.first()?);
    let number = |field: Option<&[u8]>| std::str::from_utf8(field?).ok()?.parse::<u64>().ok();
    // after field 3, the state: skip five to the flags (9), twelve to the start time (22), eight to the pending signals (31)
    let flags = number(fields.nth(5))?;
    let start = number(fields.nth(12))?;
    let pending = number(fields.nth(8))?;
    let killed = flags & PF_SIGNALED != 0 || pending & KILL != 0;
    let status = matches!(state, 'Z' | 'X').then(|| number(fields.nth(20))).flatten();
    let status = status.and_then(|status| i32::try_from(status).ok());
    Some(Stat { state, executed: flags & PF_FORKNOEXEC == 0, start, killed, status })
}

/// `pidfd_open(2)` (Linux 5.3): a descriptor for this process, not for a later one with the same pid.
///
/// # Errors
/// ESRCH when there is no such process; a zombie can still be opened.
pub fn pidfd_open(pid: Pid) -> Result<OwnedFd, Errno> {
    // SAFETY: the call takes two integers and no pointers
    unsafe { call(libc::SYS_pidfd_open, [pid.as_raw().cast_unsigned() as usize, 0, 0, 0, 0]) }.map(owned)
}

/// `PIDFD_GET_INFO` with `PIDFD_INFO_EXIT` (Linux 6.15): the status, as of wait(2), of a process that has been reaped. `None` if it
/// has not, and on older kernels.
#[must_use]
pub fn pidfd_status(pidfd: BorrowedFd<'_>) -> Option<i32> {
    /// `_IOWR(0xFF, 11, struct pidfd_info)` with the first version of the structure: 64 bytes.
    const PIDFD_GET_INFO: libc::c_ulong = 0xC040_FF0B;
    const PIDFD_INFO_EXIT: u64 = 1 << 3;
    /// `struct pidfd_info`: a mask, a cgroup id, eleven ids, and the status.
    #[repr(C)]
    #[derive(Default)]
    struct Info {
        mask: u64,
        cgroup: u64,
        ids: [u32; 11],
        status: i32,
    }
    let mut info = Info { mask: PIDFD_INFO_EXIT, ..Info::default() };
    // SAFETY: the structure lives through the call and has the size that the request names
    let answer = unsafe { libc::ioctl(pidfd.as_raw_fd(), PIDFD_GET_INFO as _, &raw mut info) };
    (answer == 0 && info.mask & PIDFD_INFO_EXIT != 0).then_some(info.status)
}

/// Waits until the process has ended, reaped or not. Returns whether it did within the time.
///
/// # Errors
/// poll(2)'s, except EINTR.
pub fn pidfd_wait(pidfd: BorrowedFd<'_>, within: Duration) -> Result<bool, Errno> {
    super::wait::first([(pidfd, Until::Readable)], within).map(|ended| ended.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::signal;
    use std::os::fd::AsFd;
    use std::process::{Command, Stdio};

    #[test]
    fn a_name_may_hold_anything() {
        let tail = " S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 201845 2 3 4 5 6 7 8 9 0 1\n";
        for name in ["sleep", "a b", ") S 1", "((", "x) Z 9 9"] {
            let text = format!("7 ({name}){tail}");
            assert_eq!(
                parse_stat(text.as_bytes()),
                Some(Stat { state: 'S', executed: true, start: 201_845, killed: false, status: None }),
                "{name}"
            );
        }
        for (flags, pending) in [(0x40, 256), (0x440, 0), (0x444, 257)] {
            let text = format!("7 (x) R 1 7 7 0 -1 {flags} 1 0 0 0 0 0 0 0 20 0 1 0 5 2 3 4 5 6 7 8 9 {pending} 1\n");
            assert_eq!(parse_stat(text.as_bytes()).map(|stat| stat.killed), Some(true), "{flags:#x} {pending}");
        }
        for broken in ["", "7 (x", "7 (x)", "7 (x) S 1 2"] {
            assert_eq!(parse_stat(broken.as_bytes()), None, "{broken}");
        }
    }

    #[test]
    fn a_process_lives_is_a_zombie_and_is_gone() {
        let mut child =
            Command::new("/bin/sleep").arg("100").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
        let pidfd = pidfd_open(pid).unwrap();
        let born = stat(pid).unwrap().unwrap();
        assert!(born.alive());
        assert!(!pidfd_wait(pidfd.as_fd(), Duration::from_millis(20)).unwrap());
        signal::send(pidfd.as_fd(), 0).unwrap();
        assert_eq!(signal::send(pidfd.as_fd(), 99), Err(Errno::EINVAL));

        signal::send(pidfd.as_fd(), libc::SIGKILL).unwrap();
        assert!(pidfd_wait(pidfd.as_fd(), Duration::from_secs(10)).unwrap());
        let dead = stat(pid).unwrap().unwrap();
        assert_eq!((dead.alive(), dead.state, dead.start), (false, 'Z', born.start));
        assert_eq!((born.killed, dead.killed), (false, true));
        assert_eq!(dead.status, Some(libc::SIGKILL));

        child.wait().unwrap();
        assert_eq!(stat(pid).unwrap(), None);
        assert_eq!(signal::send(pidfd.as_fd(), 0), Err(Errno::ESRCH));
    }
}
