//! Waiting for the first of several things: poll(2).

use super::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

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
    let mut fds = of.map(|(fd, until)| PollFd::new(fd, until.flags()));
    loop {
        let left = end.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()));
        // rounded up: a wait of half a millisecond must not spin
        let millis = i32::try_from(left.as_millis()).unwrap_or(i32::MAX - 1) + i32::from(!left.is_zero());
        match poll(&mut fds, PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)) {
            Ok(0) if left.is_zero() => return Ok(None),
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(fds.iter().position(|fd| fd.any().unwrap_or(true))),
            Err(errno) => return Err(errno),
        }
    }
}

impl Until {
    fn flags(self) -> PollFlags {
        match self {
            Self::Readable => PollFlags::POLLIN,
            // POLLERR comes unasked
            Self::Unread => PollFlags::empty(),
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
