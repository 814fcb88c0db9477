//! Freezing and thawing, on v1 and v2. May use sys and error.

use super::Cgroup;
use super::walk::{Visit, walk};
use crate::error::{Context, Error, Result};
use crate::sys::cgroupfs::{AT_FDCWD, Watched, open_dir, read_file, read_line_at, write_at, write_file};
use crate::sys::wait::Backoff;
use crate::sys::{Answer, Errno};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a cgroup may take until its last process is frozen.
const MOST: Duration = Duration::from_secs(10);

impl Cgroup {
    /// The container's cgroup in the v1 freezer hierarchy.
    fn freezer(&self) -> Option<&Path> {
        self.cgroup_paths.get("freezer").map(std::path::PathBuf::as_path)
    }

    /// The cgroup that [`Cgroup::freeze`] freezes, and whether it is a cgroup2.
    #[must_use]
    pub fn freezes(&self) -> Option<(&Path, bool)> {
        self.freezer().map(|path| (path, false)).or_else(|| self.unified().map(|path| (path, true)))
    }

    /// Freezes all processes and waits until the kernel has stopped the last one. On failure thaws them again.
    ///
    /// # Errors
    /// The kernel refuses, or a process can't be stopped within ten seconds.
    pub fn freeze(&self) -> Result<()> {
        self.freeze_within(MOST)
    }

    /// [`Cgroup::freeze`] with another time limit.
    pub(super) fn freeze_within(&self, most: Duration) -> Result<()> {
        let done = match (self.freezer(), self.unified()) {
            (Some(path), _) => freeze_v1(path, most),
            (None, Some(path)) => freeze_v2(path, most),
            (None, None) => {
                return Err(Error::msg("cannot toggle freezer: cgroups not configured for container"));
            }
        };
        if done.is_err() {
            // partly frozen is worse than running; the error stays that of the freeze
            let _ = self.thaw();
        }
        done.context(|| "unable to freeze")
    }

    /// Thaws all processes.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn thaw(&self) -> Result<()> {
        let (file, value) = match (self.freezer(), self.unified()) {
            (Some(path), _) => (path.join("freezer.state"), "THAWED"),
            (None, Some(path)) => (path.join("cgroup.freeze"), "0"),
            (None, None) => {
                return Err(Error::msg("cannot toggle freezer: cgroups not configured for container"));
            }
        };
        write_file(&file, value).context(|| format!("thaw cgroup: write {}", file.display()))
    }

    /// Thaws this v1 cgroup and all below it, so that killed processes can die: a process in a frozen v1 cgroup does not die,
    /// and a payload or an administrator may have frozen one below the container's. On cgroup2 SIGKILL works when frozen.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn let_die(&self) -> Result<()> {
        let Some(path) = self.freezer() else { return Ok(()) };
        match open_dir(path).and_then(|top| walk(top.as_fd(), Instant::now() + MOST, &mut Thaw)) {
            Ok(()) | Err(Errno::ENOENT | Errno::ENODEV) => Ok(()),
            Err(errno) => Err(errno).context(|| format!("thaw cgroup {} and those below it", path.display())),
        }
    }

    /// Whether this cgroup itself was frozen, not only one above it. `false` if it no longer exists.
    ///
    /// # Errors
    /// The state can't be read.
    pub fn frozen(&self) -> Result<bool> {
        let (file, yes) = match (self.freezer(), self.unified()) {
            (Some(path), _) => (path.join("freezer.self_freezing"), "1"),
            (None, Some(path)) => (path.join("cgroup.freeze"), "1"),
            (None, None) => return Ok(false),
        };
        match read_line_at(AT_FDCWD, &file) {
            Ok(text) => Ok(text.trim_end() == yes),
            Err(Errno::ENOENT | Errno::ENODEV) => Ok(false),
            Err(errno) => Err(errno).context(|| format!("read {}", file.display())),
        }
    }
}

/// Thaws each cgroup that was itself frozen, not only one above it.
struct Thaw;

impl Visit for Thaw {
    fn enters(&mut self, dir: BorrowedFd<'_>, _name: &CStr) -> Answer<()> {
        let done = match read_line_at(dir, Path::new("freezer.self_freezing")) {
            Ok(text) if text.trim_end() == "1" => write_at(dir, Path::new("freezer.state"), "THAWED"),
            other => other.map(drop),
        };
        match done {
            Err(Errno::ENOENT | Errno::ENODEV) => Ok(()),
            done => done,
        }
    }
}

fn freeze_v2(path: &Path, most: Duration) -> Result<()> {
    let what = || format!("freeze cgroup {}", path.display());
    let events = Watched::open(&path.join("cgroup.events")).context(what)?;
    write_file(&path.join("cgroup.freeze"), "1").context(what)?;
    let end = Instant::now() + most;
    loop {
        if events.read().context(what)?.lines().any(|line| line == "frozen 1") {
            return Ok(());
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::from(Errno::ETIMEDOUT).context(what()));
        }
        events.wait(left).context(what)?;
    }
}

/// v1 has no notification, so the state is polled. Processes that fork meanwhile can keep it at `FREEZING`: another write of
/// `FROZEN`, and every 16 rounds a short thaw, get past that.
fn freeze_v1(path: &Path, most: Duration) -> Result<()> {
    let what = || format!("freeze cgroup {}", path.display());
    let state = path.join("freezer.state");
    let mut backoff = Backoff::new(most, Duration::from_micros(50), Duration::from_millis(10));
    for round in 1_u32.. {
        write_file(&state, "FROZEN").context(what)?;
        if read_file(&state).context(what)?.trim_end() == "FROZEN" {
            return Ok(());
        }
        if !backoff.sleep() {
            break;
        }
        if read_file(&state).context(what)?.trim_end() == "FROZEN" {
            return Ok(());
        }
        if round % 16 == 0 {
            write_file(&state, "THAWED").context(what)?;
        }
    }
    Err(Error::from(Errno::ETIMEDOUT).context(what()))
}
