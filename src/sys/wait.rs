//! Waiting until something happens to a descriptor: `poll(2)`.

use super::{Answer, Errno, check};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

/// `poll(2)`: waits `timeout` milliseconds, or without an end (-1), and says to how many descriptors something happened. An entry
/// with the number -1 is passed over.
///
/// # Errors
/// `EINTR`: a signal came; nothing of the set has changed.
pub(super) fn poll(set: &mut [libc::pollfd], timeout: i32) -> Answer<usize> {
    // SAFETY: the set lives through the call and the length is its own.
    let answer = unsafe { libc::poll(set.as_mut_ptr(), set.len() as libc::nfds_t, timeout) };
    check(answer).map(|count| usize::try_from(count).unwrap_or_default())
}

/// A time in milliseconds for poll(2), rounded up: a wait of half a millisecond must not spin.
pub fn milliseconds(time: Duration) -> i32 {
    i32::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX)
}

/// What happened to each descriptor (`POLLIN`, …) within `timeout` milliseconds, or without an end (-1).
///
/// # Errors
/// The kernel's answer; an interruption is waited through, and is never taken for the end of the time.
pub fn events<const N: usize>(fds: [(Option<BorrowedFd<'_>>, i16); N], timeout: i32) -> Answer<[i16; N]> {
    let mut set = fds.map(|(fd, events)| entry(fd.map_or(-1, |fd| fd.as_raw_fd()), events));
    let limit = u64::try_from(timeout).ok().map(Duration::from_millis);
    let begin = Instant::now();
    let mut left = timeout;
    loop {
        match poll(&mut set, left) {
            Ok(_) => return Ok(set.map(|entry| entry.revents)),
            Err(Errno::EINTR) => {
                left = limit.map_or(-1, |limit| milliseconds(limit.saturating_sub(begin.elapsed())));
            }
            Err(errno) => return Err(errno),
        }
    }
}

pub(super) fn entry(fd: i32, events: i16) -> libc::pollfd {
    libc::pollfd { fd, events, revents: 0 }
}

/// Growing pauses between looks at something that cannot be polled.
#[derive(Debug)]
pub struct Backoff {
    end: Instant,
    pause: Duration,
    longest: Duration,
}

impl Backoff {
    /// Pauses from `first` on, each twice as long as the one before, up to `longest`; for `limit` in all.
    #[must_use]
    pub fn new(limit: Duration, first: Duration, longest: Duration) -> Self {
        Self { end: Instant::now() + limit, pause: first, longest }
    }

    /// Whether the time is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        Instant::now() >= self.end
    }

    /// Sleeps for the next pause; not if the time is over, which it says by `false`.
    pub fn sleep(&mut self) -> bool {
        if self.is_over() {
            return false;
        }
        std::thread::sleep(self.pause);
        self.pause = (self.pause * 2).min(self.longest);
        true
    }
}

/// What is waited for on a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Something can be read; of a pidfd: the process has ended.
    Readable,
    /// Nobody reads at the other end any more.
    Unread,
}

/// Waits for the first of several things. Says which one it was, or `None` when the time was over first.
///
/// # Errors
/// What poll(2) says, but for EINTR.
pub fn first<const N: usize>(of: [(BorrowedFd<'_>, Until); N], within: Duration) -> Result<Option<usize>, Errno> {
    let end = Instant::now().checked_add(within);
    let mut set = of.map(|(fd, until)| entry(fd.as_raw_fd(), until.flags()));
    loop {
        let left = end.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()));
        match poll(&mut set, milliseconds(left)) {
            Ok(0) if left.is_zero() => return Ok(None),
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(set.iter().position(|entry| entry.revents != 0)),
            Err(errno) => return Err(errno),
        }
    }
}

impl Until {
    fn flags(self) -> i16 {
        match self {
            Self::Readable => libc::POLLIN,
            // POLLERR comes unasked
            Self::Unread => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsFd;

    #[test]
    fn the_first_one_is_named() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let (other, unread) = std::io::pipe().unwrap();
        let both = || [(unread.as_fd(), Until::Unread), (reader.as_fd(), Until::Readable)];
        assert_eq!(first(both(), Duration::from_millis(10)), Ok(None));
        writer.write_all(b"x").unwrap();
        assert_eq!(first(both(), Duration::from_secs(10)), Ok(Some(1)));
        drop(other);
        assert_eq!(first(both(), Duration::MAX), Ok(Some(0)));
    }
}
