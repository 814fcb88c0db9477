//! OOM kills in a cgroup: their number, and notification. May use sys and error.

use super::Cgroup;
use crate::error::{Context, Result};
use crate::sys::Errno;
use crate::sys::cgroupfs::{Counter, Watched, read_file, wait};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What [`OomWatch::wait`] saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Oom {
    /// The OOM killer has killed a process.
    Killed,
    /// Nothing happened within the time.
    Nothing,
    /// No process is left, or the cgroup no longer exists.
    Gone,
}

/// Waits for OOM kills.
#[derive(Debug)]
pub struct OomWatch {
    dir: PathBuf,
    source: Source,
    /// `cgroup.events`, on cgroup2.
    populated: Option<Watched>,
}

#[derive(Debug)]
enum Source {
    V1(Counter),
    V2 { events: Watched, seen: u64 },
}

impl Cgroup {
    /// How many processes in it the OOM killer has killed so far. Zero without the memory controller.
    ///
    /// # Errors
    /// The counter can't be read.
    pub fn oom_kills(&self) -> Result<u64> {
        let (path, file) = match (self.cgroup_paths.get("memory"), self.unified()) {
            (Some(path), _) => (path.as_path(), "memory.oom_control"),
            (None, Some(path)) => (path, "memory.events"),
            (None, None) => return Ok(0),
        };
        match read_file(&path.join(file)) {
            Ok(text) => Ok(kills(&text)),
            Err(Errno::ENOENT | Errno::ENODEV) => Ok(0),
            Err(errno) => Err(errno).context(|| format!("read {}", path.join(file).display())),
        }
    }

    /// Begins to watch. Earlier kills are reported at once on v2, as by runc, and not at all on v1.
    ///
    /// # Errors
    /// The cgroup has no memory controller.
    pub fn watch_oom(&self) -> Result<OomWatch> {
        let what = || "watch for memory shortage".to_owned();
        let populated =
            self.unified().map(|path| Watched::open(&path.join("cgroup.events"))).transpose().context(what)?;
        let (dir, source) = match (self.cgroup_paths.get("memory"), self.unified()) {
            (Some(path), _) => {
                let counter = Counter::new().context(what)?;
                counter.count(path, "memory.oom_control").context(what)?;
                (path.as_path(), Source::V1(counter))
            }
            (None, Some(path)) => {
                let events = Watched::open(&path.join("memory.events")).context(what)?;
                (path, Source::V2 { events, seen: 0 })
            }
            (None, None) => return Err(Errno::ENOENT).context(what),
        };
        Ok(OomWatch { dir: dir.to_owned(), source, populated })
    }
}

fn kills(text: &str) -> u64 {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok()).unwrap_or_default()
}

impl OomWatch {
    /// Waits for the next event, at most for `most`.
    ///
    /// # Errors
    /// A file can't be read or polled. (A cgroup that is removed is [`Oom::Gone`].)
    pub fn wait(&mut self, most: Duration) -> Result<Oom> {
        let end = Instant::now() + most;
        loop {
            if let Some(seen) = self.look().context(|| "watch for memory shortage")? {
                return Ok(seen);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Oom::Nothing);
            }
            let populated = self.populated.as_slice().iter();
            let waited = match &self.source {
                Source::V1(counter) => wait(&populated.collect::<Vec<_>>(), &[counter], left),
                Source::V2 { events, .. } => wait(&populated.chain([events]).collect::<Vec<_>>(), &[], left),
            };
            waited.context(|| "watch for memory shortage")?;
        }
    }

    /// What has happened since the last call.
    fn look(&mut self) -> std::result::Result<Option<Oom>, Errno> {
        match &mut self.source {
            // the kernel also signals an event when the cgroup is removed
            Source::V1(counter) if counter.take()? > 0 => {
                return Ok(Some(if exists(&self.dir) { Oom::Killed } else { Oom::Gone }));
            }
            Source::V1(_) => {}
            Source::V2 { events, seen } => match events.read() {
                Ok(text) => {
                    let count = kills(&text);
                    if count > std::mem::replace(seen, count) {
                        return Ok(Some(Oom::Killed));
                    }
                }
                Err(Errno::ENODEV) => return Ok(Some(Oom::Gone)),
                Err(errno) => return Err(errno),
            },
        }
        match self.populated.as_ref().map(Watched::read) {
            Some(Ok(text)) if text.lines().any(|line| line == "populated 0") => Ok(Some(Oom::Gone)),
            Some(Err(Errno::ENODEV)) => Ok(Some(Oom::Gone)),
            Some(Err(errno)) => Err(errno),
            Some(Ok(_)) | None => Ok(None),
        }
    }
}

fn exists(dir: &Path) -> bool {
    dir.join("memory.oom_control").exists()
}
